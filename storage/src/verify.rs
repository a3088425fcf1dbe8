//! Checks voice folders against the records in them (`astlogger verify`): whether each recording has its
//! record, its voice file with the length and the checksum that the record names, and, if that is
//! encrypted, its data key; and whether there is anything that no record speaks of. It changes nothing,
//! so a node may be running on the folder. What was removed whole, the record with the voice file, cannot
//! be noticed here: only the manifest speaks of it ([`crate::manifest_check`]).
//!
//! As many recordings of a folder are looked at together as there are cores; what is told of them keeps its order. In
//! memory are the names of one folder at a time, what was found in it, a piece of a file for each core, and what was found altered:
//! whether that is another recording's audio is looked up in the end, by going through the records once
//! more.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use storage_core::naming::{self, Named};
use storage_core::{Recording, RecordingId};

use crate::disk::RealDisk;
use crate::keys::Keys;
use crate::lock;
use crate::verify_pair::{Finding, Looked, Pair};
use crate::voice_file::VoiceError;
use crate::voice_store::VoiceStore;

/// Altered files that are looked up among the other records; further ones are only called altered.
const ALTERED_MAX: usize = 100_000;
/// A recording that is being published now is whole within less.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(20);

/// What is wrong with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// A record speaks of it, and it is not there.
    Missing,
    /// It is not what it was.
    Altered,
    /// It belongs to another recording.
    Swapped,
    /// No record speaks of it.
    Added,
    /// It was never published, and no node is running that could publish it.
    Leftover,
    /// The disk does not give it.
    Unreadable,
    /// It is encrypted, and its key was not given.
    Unchecked,
}

impl FaultKind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Missing,
        Self::Altered,
        Self::Swapped,
        Self::Added,
        Self::Leftover,
        Self::Unreadable,
        Self::Unchecked,
    ];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Altered => "altered",
            Self::Swapped => "swapped",
            Self::Added => "added",
            Self::Leftover => "leftover",
            Self::Unreadable => "unreadable",
            Self::Unchecked => "unchecked",
        }
    }
}

/// A file that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong.
    pub kind: FaultKind,
    /// The file.
    pub path: PathBuf,
    /// The same in words, with what to do.
    pub what: String,
}

/// What was gone through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Recordings of which there is a record.
    pub recordings: u64,
    /// Those whose voice file lies in the archive only; it is not looked at there.
    pub archived: u64,
    /// Bytes of audio that were compared with their checksum.
    pub bytes: u64,
    /// Files that are not as they should be, by kind.
    pub faults: BTreeMap<FaultKind, u64>,
}

impl Verified {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.faults.is_empty()
    }
}

/// What is told on the way.
#[derive(Debug)]
pub enum Told<'a> {
    /// Another file that is not as it should be.
    Fault(&'a Fault),
    /// One more recording has been looked at.
    Looked(&'a Verified),
}

/// Why nothing, or not everything, was gone through.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// There is no such folder.
    #[error("{} is no folder: name a data folder, a voice folder, or one inside", .0.display())]
    NoFolder(PathBuf),
    /// It cannot be listed.
    #[error(transparent)]
    Folder(VoiceError),
}

/// Goes through data folders, voice folders, or folders inside one, each once, however it is named. Without `keys` encrypted files
/// are checked as far as that goes, and named as not checked. `tell` hears of each fault.
///
/// # Errors
/// [`VerifyError`].
pub fn verify(
    paths: &[PathBuf],
    keys: &Keys,
    tell: &mut dyn FnMut(Told<'_>),
) -> Result<Verified, VerifyError> {
    let mut places: Vec<Place> = Vec::new();
    for path in paths {
        let place = Place::of(path)?;
        // What is named twice, or lies inside another, is gone through once.
        if !places.iter().any(|other| place.folder.starts_with(&other.folder)) {
            places.retain(|other| !other.folder.starts_with(&place.folder));
            places.push(place);
        }
    }
    let mut verifier =
        Verifier { keys: keys.clone(), done: Verified::default(), altered: BTreeMap::new(), tell };
    for place in &places {
        verifier.walk(place)?;
    }
    verifier.name_altered(&places)?;
    Ok(verifier.done)
}

/// A folder that is gone through.
struct Place {
    folder: PathBuf,
    /// The data folder that it belongs to, as far as that can be told.
    store: VoiceStore,
    /// A node is running on it.
    running: bool,
}

impl Place {
    fn of(path: &Path) -> Result<Self, VerifyError> {
        let whole = path.canonicalize().ok().filter(|whole| whole.is_dir());
        let whole = whole.ok_or_else(|| VerifyError::NoFolder(path.to_owned()))?;
        let voice = whole.join(naming::VOICE_FOLDER);
        let folder = if voice.is_dir() { voice } else { whole };
        let is_voice = |above: &&Path| above.ends_with(naming::VOICE_FOLDER);
        let data = folder.ancestors().find(is_voice).and_then(Path::parent);
        let running = data.is_some_and(lock::is_held);
        let store = VoiceStore::at(RealDisk::shared(), data.unwrap_or(&folder));
        Ok(Self { folder, store, running })
    }

    /// Looks at a recording.
    fn look(&self, pair: &Pair<'_>, names: &BTreeSet<&str>) -> Looked {
        let looked = pair.look(names.iter().copied());
        if !self.running || looked.findings.is_empty() {
            return looked;
        }
        // It is being replaced by a later revision, perhaps: then it is looked at once more.
        let deadline = Instant::now() + PUBLISHED_WITHIN;
        while self.publishes(pair.id) && Instant::now() < deadline {
            std::thread::sleep(LOOK);
        }
        pair.look_again()
    }

    /// Whether a recording is being published or deleted now.
    fn publishes(&self, id: RecordingId) -> bool {
        let notes = naming::publishing_folder();
        [naming::of_copies(&notes), notes, naming::deleting_folder()].into_iter().any(|notes| {
            let listed = self.store.disk().list(&self.store.path(notes)).unwrap_or_default();
            let of_it = |name: &str| name.split('.').next().is_some_and(|of| of.parse() == Ok(id));
            listed.iter().any(|entry| of_it(&entry.name))
        })
    }
}

struct Verifier<'a> {
    keys: Keys,
    done: Verified,
    /// Files of another content than their record says, by that content.
    altered: BTreeMap<String, Vec<Fault>>,
    tell: &'a mut dyn FnMut(Told<'_>),
}

impl Verifier<'_> {
    fn fault(&mut self, fault: &Fault) {
        *self.done.faults.entry(fault.kind).or_default() += 1;
        (self.tell)(Told::Fault(fault));
    }

    fn walk(&mut self, place: &Place) -> Result<(), VerifyError> {
        each_folder(place, |folder, files| {
            self.folder(place, folder, files);
            Ok(())
        })
    }

    fn folder(&mut self, place: &Place, folder: &Path, files: &[String]) {
        if folder.ends_with(naming::DAMAGED_FOLDER) {
            // It is known to be damaged, and was replaced.
            return;
        }
        if is_hidden(folder) {
            // A running node is at work there.
            for name in files.iter().filter(|_| !place.running) {
                let what = "was never published: start the node, which goes on with it".to_owned();
                self.fault(&Fault { kind: FaultKind::Leftover, path: folder.join(name), what });
            }
            return;
        }
        let mut recordings: BTreeMap<RecordingId, BTreeSet<&str>> = BTreeMap::new();
        for name in files {
            match Named::parse(name) {
                Some(Named::Record(id) | Named::Voice(id) | Named::Keys(id)) => {
                    recordings.entry(id).or_default().insert(name);
                }
                None => {
                    let what = "is no file of a recording: remove it".to_owned();
                    self.fault(&Fault { kind: FaultKind::Added, path: folder.join(name), what });
                }
            }
        }
        let store = place.store.clone().with_keys(self.keys.clone());
        let recordings: Vec<_> = recordings.into_iter().collect();
        let look = |number: usize| {
            let (id, names) = recordings.get(number)?;
            Some(place.look(&Pair { store: &store, folder, id: *id }, names))
        };
        in_order(recordings.len(), look, |looked| self.take(looked));
    }

    fn take(&mut self, looked: Looked) {
        self.done.recordings += u64::from(looked.has_record);
        self.done.archived += u64::from(looked.archived);
        self.done.bytes += looked.bytes;
        for finding in looked.findings {
            match finding {
                Finding::Fault(fault) => self.fault(&fault),
                Finding::OtherContent { fault, .. } if self.altered.len() >= ALTERED_MAX => {
                    self.fault(&fault);
                }
                Finding::OtherContent { sha256, fault } => {
                    self.altered.entry(sha256).or_default().push(fault);
                }
            }
        }
        (self.tell)(Told::Looked(&self.done));
    }

    /// Says of each altered file whether its content is that of another recording.
    fn name_altered(&mut self, places: &[Place]) -> Result<(), VerifyError> {
        let mut altered = std::mem::take(&mut self.altered);
        for place in places {
            if altered.is_empty() {
                break;
            }
            each_folder(place, |folder, files| {
                let records = files.iter().filter(|name| {
                    !is_hidden(folder) && matches!(Named::parse(name), Some(Named::Record(_)))
                });
                for name in records {
                    let Ok(record) = place.store.read_record(&folder.join(name)) else { continue };
                    for fault in altered.remove(&record.sha256).into_iter().flatten() {
                        self.fault(&swapped(&fault, &record));
                    }
                }
                Ok(())
            })?;
        }
        for fault in altered.into_values().flatten() {
            self.fault(&fault);
        }
        Ok(())
    }
}

/// Does something for each number below `count` on all cores, and hands the results on in their order. `None` ends a
/// thread's work.
fn in_order<T: Send>(
    count: usize,
    work: impl Fn(usize) -> Option<T> + Sync,
    mut take: impl FnMut(T),
) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = cores.min(count);
    if threads < 2 {
        return (0..count).filter_map(work).for_each(take);
    }
    let next = AtomicUsize::new(0);
    let (done, results) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (done, next, work) = (done.clone(), &next, &work);
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(result) = (number < count).then(|| work(number)).flatten() else {
                        break;
                    };
                    if done.send((number, result)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(done);
        let (mut due, mut early) = (0, BTreeMap::new());
        for (number, result) in results {
            early.insert(number, result);
            while let Some(result) = early.remove(&due) {
                take(result);
                due += 1;
            }
        }
    });
}

fn swapped(fault: &Fault, record: &Recording) -> Fault {
    let id = record.recordingid;
    let what = format!("is the voice file of {id}: put each where it belongs, or restore it");
    Fault { kind: FaultKind::Swapped, path: fault.path.clone(), what }
}

/// Whether something lies in a folder of what is on its way.
fn is_hidden(folder: &Path) -> bool {
    let hidden = [
        naming::SEALING_FOLDER,
        naming::STAGED_FOLDER,
        naming::PUBLISHING_FOLDER,
        naming::COPIES_FOLDER,
        naming::DELETING_FOLDER,
        naming::DAMAGED_FOLDER,
    ];
    folder.iter().any(|part| hidden.iter().any(|name| part == *name))
}

/// Goes through a folder and those inside, each with the names of its files.
fn each_folder(
    place: &Place,
    mut look: impl FnMut(&Path, &[String]) -> Result<(), VerifyError>,
) -> Result<(), VerifyError> {
    let mut folders = vec![place.folder.clone()];
    while let Some(folder) = folders.pop() {
        let listed = match place.store.disk().list(&folder) {
            // A day whose last file was replaced by one in another.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            listed => listed.map_err(|error| {
                VerifyError::Folder(VoiceError::io("cannot list", &folder, error))
            })?,
        };
        let (inside, files): (Vec<_>, Vec<_>) = listed.into_iter().partition(|entry| entry.folder);
        let files: Vec<_> = files.into_iter().map(|entry| entry.name).collect();
        look(&folder, &files)?;
        folders.extend(inside.into_iter().rev().map(|entry| folder.join(entry.name)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_on_all_cores_is_handed_on_in_its_order() {
        for count in [0, 1, 2, 1000] {
            let mut taken = Vec::new();
            let work = |number: usize| {
                // The first take longest.
                std::thread::sleep(Duration::from_micros(if number < 3 { 3000 } else { 1 }));
                Some(number)
            };
            in_order(count, work, |number| taken.push(number));
            assert_eq!(taken, (0..count).collect::<Vec<_>>());
        }
    }
}
