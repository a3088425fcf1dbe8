//! The catalog in an embedded index, sled. The only file that names it; what must be known of
//! sled 0.34 is obeyed here and nowhere else:
//!
//! * A commit is one batch on one tree (atomic), `flush`, and then a sync of our own on its file,
//!   because its flush does not reach the device. One thread commits for all callers, up to
//!   `GROUP_MAX` changes or `GROUP_WAIT` at a time.
//! * Damaged files make it panic. Opening and the first scan are guarded twice: by
//!   `catch_unwind`, and, since a release build aborts on panic, by a mark on disk that is there
//!   while they run. A mark found at the start means that the last attempt did not come back.
//!   The first scan reads every value, so it takes seconds where there are many recordings:
//!   capture must not wait for it.
//! * Damage can also make it forget the newest commits, or all, without a word. Commits are
//!   counted, and the number is written beside the index after each one, unsynced: it is never
//!   ahead of an index that has forgotten nothing.
//! * What cannot be opened is moved aside and made anew; the records rebuild it.
//! * After an error it is closed and opened again, because it remembers errors.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use storage_core::query::{Order, Position, Query};
use storage_core::{Recording, RecordingId, WallTime};

use crate::catalog::{Catalog, CatalogError, Page, PageBuilder};
use crate::catalog_keys::{
    COUNTS_KEY, Counts, KeyKind, check_index_entry, content, damaged, index_keys, index_value,
    key_kind, parse_record, position, record_key, value, walk_range,
};
use crate::disk::is_full;
use crate::lock::DataLock;

/// Changes in one commit at most.
const GROUP_MAX: usize = 256;
/// How long a commit waits for further changes.
const GROUP_WAIT: Duration = Duration::from_millis(1);
/// Changes that wait for the committing thread at most; further callers wait themselves.
const QUEUE_MAX: usize = 1024;

/// Whether the catalog can be relied on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CatalogState {
    /// It holds what was put into it.
    Sound,
    /// It was made anew, or its last rebuild was not completed: it must be rebuilt from the
    /// records.
    Empty {
        /// Why.
        because: String,
    },
}

/// The durable catalog.
#[derive(Debug)]
pub struct SledCatalog {
    engine: Arc<Engine>,
    changes: Option<SyncSender<Change>>,
    committer: Option<JoinHandle<()>>,
}

/// What callers ask of the committing thread.
struct Change {
    what: What,
    done: SyncSender<Result<bool, CatalogError>>,
}

enum What {
    Put(Box<Recording>),
    Remove(RecordingId),
    /// Forget everything.
    Clear,
}

impl SledCatalog {
    /// Opens the catalog in a folder, or makes it.
    ///
    /// # Errors
    /// [`CatalogError::Locked`] if another process has it, `Full` if there is no room to open it,
    /// `Device` if not even a new one can be made.
    pub fn open(folder: &Path) -> Result<(Self, CatalogState), CatalogError> {
        let place = Place::take(folder)?;
        let (tree, state) = place.open()?;
        let engine = Arc::new(Engine { place, tree: RwLock::new(Some(tree)) });
        let (changes, received) = sync_channel(QUEUE_MAX);
        let committer = std::thread::Builder::new().name("catalog".to_owned()).spawn({
            let engine = Arc::clone(&engine);
            move || commit_loop(&engine, &received)
        });
        let committer = committer.map_err(|error| io_failed("written", &error))?;
        let catalog = Self { engine, changes: Some(changes), committer: Some(committer) };
        Ok((catalog, state))
    }

    /// Forgets everything. Until [`SledCatalog::end_rebuild`] it counts as incomplete.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn begin_rebuild(&self) -> Result<(), CatalogError> {
        self.engine.place.begin_rebuild()?;
        self.change(What::Clear).map(drop)
    }

    /// It holds everything again that was put into it since.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn end_rebuild(&self) -> Result<(), CatalogError> {
        self.engine.place.end_rebuild()
    }

    /// Until when the recordings that other nodes list have been put into it; `None` if that was never
    /// so, or not since it was made anew.
    #[must_use]
    pub fn others_until(&self) -> Option<WallTime> {
        let place = &self.engine.place;
        let text = std::fs::read_to_string(place.others_until()).ok()?;
        text.trim().parse().ok().filter(|_| !place.own_only().exists())
    }

    /// What other nodes list has been put into it, as far as it was published by this time.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn has_others(&self, until: WallTime) -> Result<(), CatalogError> {
        let place = &self.engine.place;
        let failed = |error| io_failed("written", &error);
        let (path, new) = (place.others_until(), place.folder.join("others-until.new"));
        let written = File::create(&new).and_then(|mut file| {
            writeln!(file, "{until}")?;
            file.sync_all()?;
            std::fs::rename(&new, &path)
        });
        written.map_err(failed)?;
        sync_folder(&place.folder).map_err(failed)?;
        place.unmark(&place.own_only())
    }

    fn change(&self, what: What) -> Result<bool, CatalogError> {
        self.send(what)?.recv().unwrap_or(Err(CatalogError::Closed))
    }

    fn send(&self, what: What) -> Result<Receiver<Result<bool, CatalogError>>, CatalogError> {
        let (done, outcome) = sync_channel(1);
        let changes = self.changes.as_ref().ok_or(CatalogError::Closed)?;
        changes.send(Change { what, done }).map_err(|_| CatalogError::Closed)?;
        Ok(outcome)
    }
}

impl Drop for SledCatalog {
    fn drop(&mut self) {
        // The committing thread ends when there is nobody left to send; the index is closed then.
        self.changes = None;
        if let Some(committer) = self.committer.take() {
            let _ = committer.join();
        }
    }
}

impl Catalog for SledCatalog {
    fn put(&self, recording: &Recording) -> Result<(), CatalogError> {
        self.change(What::Put(Box::new(recording.clone()))).map(drop)
    }

    fn put_all(&self, recordings: &[Recording]) -> Result<(), CatalogError> {
        for group in recordings.chunks(GROUP_MAX) {
            let put = |recording: &Recording| self.send(What::Put(Box::new(recording.clone())));
            let waiting: Vec<_> = group.iter().map(put).collect::<Result<_, _>>()?;
            for outcome in waiting {
                outcome.recv().unwrap_or(Err(CatalogError::Closed))?;
            }
        }
        Ok(())
    }

    fn remove(&self, id: RecordingId) -> Result<bool, CatalogError> {
        self.change(What::Remove(id))
    }

    fn get(&self, id: RecordingId) -> Result<Option<Recording>, CatalogError> {
        self.engine.read(|tree| tree.record(id))
    }

    fn search(&self, query: &Query) -> Result<Page, CatalogError> {
        self.engine.read(|tree| search(tree, query))
    }

    fn len(&self) -> Result<u64, CatalogError> {
        self.engine.read(|tree| Ok(tree.counts()?.recordings))
    }
}

/// Where the index lies.
#[derive(Debug)]
struct Place {
    folder: PathBuf,
    /// sled has a lock of its own, but says nothing that tells a lock from damage.
    _lock: DataLock,
}

impl Place {
    fn take(folder: &Path) -> Result<Self, CatalogError> {
        std::fs::create_dir_all(folder).map_err(|error| io_failed("written", &error))?;
        let lock = DataLock::take(folder).map_err(|error| CatalogError::Locked(Arc::new(error)))?;
        Ok(Self { folder: folder.to_owned(), _lock: lock })
    }

    fn index(&self) -> PathBuf {
        self.folder.join("index")
    }

    /// There while the index is being opened and scanned.
    fn mark(&self) -> PathBuf {
        self.folder.join("opening")
    }

    /// There from the begin of a rebuild to its end.
    fn rebuilding(&self) -> PathBuf {
        self.folder.join("rebuilding")
    }

    /// There from the begin of a rebuild until others have been asked for theirs.
    fn own_only(&self) -> PathBuf {
        self.folder.join("own-only")
    }

    /// Until when they have been asked, as text.
    fn others_until(&self) -> PathBuf {
        self.folder.join("others-until")
    }

    /// Opens what is there if it is sound; else moves it aside and makes a new one.
    fn open(&self) -> Result<(Tree, CatalogState), CatalogError> {
        let failed = |error| io_failed("written", &error);
        let fresh = !self.index().exists();
        let because = if self.mark().exists() {
            "the last attempt to open it did not come back".to_owned()
        } else if fresh {
            "there was none".to_owned()
        } else {
            match self.marked(|| self.open_sound()) {
                Ok(tree) if self.rebuilding().exists() => {
                    let because = "its rebuild was interrupted".to_owned();
                    return Ok((tree, CatalogState::Empty { because }));
                }
                Ok(tree) => return Ok((tree, CatalogState::Sound)),
                // A full disk is no reason to give up what is on it.
                Err(CatalogError::Full) => return Err(CatalogError::Full),
                Err(error) => error.to_string(),
            }
        };
        if !fresh {
            self.move_aside().map_err(failed)?;
        }
        self.begin_rebuild()?;
        remove_if_there(&self.commits()).map_err(failed)?;
        let tree = self.marked(|| Tree::open(&self.index(), &self.commits()))?;
        sync_folder(&self.index()).and_then(|()| sync_folder(&self.folder)).map_err(failed)?;
        Ok((tree, CatalogState::Empty { because }))
    }

    fn commits(&self) -> PathBuf {
        self.folder.join("commits")
    }

    fn open_sound(&self) -> Result<Tree, CatalogError> {
        let tree = Tree::open(&self.index(), &self.commits())?;
        tree.scan()?;
        let noted = std::fs::read(self.commits()).unwrap_or_default();
        // A note that is not whole was cut by a power cut; it does not say anything.
        let noted = content(&noted).ok().and_then(Counts::from_bytes).unwrap_or_default();
        if noted.commits > tree.counts()?.commits {
            return Err(damaged("it has forgotten changes"));
        }
        Ok(tree)
    }

    fn begin_rebuild(&self) -> Result<(), CatalogError> {
        let mark = |path| File::create(path).and_then(|mark| mark.sync_all());
        let made = mark(self.own_only()).and_then(|()| mark(self.rebuilding()));
        let made = made.and_then(|()| sync_folder(&self.folder));
        made.map_err(|error| io_failed("written", &error))
    }

    fn end_rebuild(&self) -> Result<(), CatalogError> {
        self.unmark(&self.rebuilding())
    }

    fn unmark(&self, mark: &Path) -> Result<(), CatalogError> {
        let gone = remove_if_there(mark).and_then(|()| sync_folder(&self.folder));
        gone.map_err(|error| io_failed("written", &error))
    }

    /// Runs something that may bring the process down, under a mark that tells of it.
    fn marked<T>(&self, run: impl FnOnce() -> Result<T, CatalogError>) -> Result<T, CatalogError> {
        let failed = |error| io_failed("written", &error);
        File::create(self.mark()).and_then(|mark| mark.sync_all()).map_err(failed)?;
        sync_folder(&self.folder).map_err(failed)?;
        let outcome = guarded(run);
        std::fs::remove_file(self.mark()).map_err(failed)?;
        outcome
    }

    /// Keeps one broken index for whoever wants to look at it.
    fn move_aside(&self) -> io::Result<()> {
        let broken = self.folder.join("broken");
        match std::fs::remove_dir_all(&broken) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::fs::rename(self.index(), broken)?;
        remove_if_there(&self.mark())
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn io_failed(action: &'static str, error: &io::Error) -> CatalogError {
    if is_full(error) {
        return CatalogError::Full;
    }
    CatalogError::Device { action, what: error.to_string() }
}

/// Turns a panic of the index into an error, where panics unwind.
fn guarded<T>(run: impl FnOnce() -> Result<T, CatalogError>) -> Result<T, CatalogError> {
    // Nothing of ours is changed inside but the index itself, which is closed after an error.
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(damaged(text.unwrap_or("the index engine gave up")))
    })
}

/// The open index, or none while it could not be opened again after an error.
#[derive(Debug)]
struct Engine {
    place: Place,
    tree: RwLock<Option<Tree>>,
}

impl Engine {
    fn read<T>(
        &self,
        run: impl FnOnce(&Tree) -> Result<T, CatalogError>,
    ) -> Result<T, CatalogError> {
        let tree = self.tree.read().unwrap_or_else(PoisonError::into_inner);
        let tree = tree.as_ref().ok_or_else(|| damaged("it could not be opened again"))?;
        guarded(|| run(tree))
    }

    /// Closes the index and opens it again.
    fn reopen(&self) {
        let mut tree = self.tree.write().unwrap_or_else(PoisonError::into_inner);
        // Dropped first: it is locked while it is open.
        *tree = None;
        *tree = guarded(|| Tree::open(&self.place.index(), &self.place.commits())).ok();
    }
}

/// Collects changes and commits them together, until nobody can send any more.
fn commit_loop(engine: &Engine, changes: &Receiver<Change>) {
    let mut healthy = true;
    while let Ok(first) = changes.recv() {
        let group = collect(first, changes);
        if !healthy {
            engine.reopen();
        }
        let outcome = engine.read(|tree| commit(tree, &group));
        healthy = outcome.is_ok();
        match outcome {
            Ok(answers) => {
                for (change, answer) in group.iter().zip(answers) {
                    // Whoever does not wait for the answer does not want it.
                    let _ = change.done.send(Ok(answer));
                }
            }
            Err(error) => {
                for change in &group {
                    let _ = change.done.send(Err(error.clone()));
                }
            }
        }
    }
}

fn collect(first: Change, changes: &Receiver<Change>) -> Vec<Change> {
    let until = Instant::now() + GROUP_WAIT;
    let mut group = vec![first];
    while group.len() < GROUP_MAX {
        let left = until.saturating_duration_since(Instant::now());
        match changes.recv_timeout(left) {
            Ok(change) => group.push(change),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    group
}

/// Makes one durable batch of a group of changes; answers whether each changed something.
fn commit(tree: &Tree, group: &[Change]) -> Result<Vec<bool>, CatalogError> {
    let mut batch =
        Batch { tree, counts: tree.counts()?, records: BTreeMap::new(), keys: BTreeMap::new() };
    let answers = group.iter().map(|change| match &change.what {
        What::Put(recording) => batch.put(recording).map(|()| true),
        What::Remove(id) => batch.remove(*id),
        What::Clear => batch.clear().map(|()| true),
    });
    let answers = answers.collect::<Result<_, _>>()?;
    batch.apply()?;
    Ok(answers)
}

/// A group of changes, before it is applied.
struct Batch<'t> {
    tree: &'t Tree,
    counts: Counts,
    /// Records as they will be; they hide what the tree still says.
    records: BTreeMap<RecordingId, Option<Recording>>,
    keys: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Batch<'_> {
    fn put(&mut self, recording: &Recording) -> Result<(), CatalogError> {
        self.remove(recording.recordingid)?;
        let json = serde_json::to_vec(recording);
        let json = json.map_err(|error| io_failed("written", &io::Error::other(error)))?;
        self.keys.insert(record_key(recording.recordingid), Some(value(&json)));
        for key in index_keys(recording) {
            let value = index_value(&key);
            self.keys.insert(key, Some(value));
        }
        self.records.insert(recording.recordingid, Some(recording.clone()));
        self.counts.recordings += 1;
        Ok(())
    }

    fn remove(&mut self, id: RecordingId) -> Result<bool, CatalogError> {
        let before = match self.records.get(&id) {
            Some(known) => known.clone(),
            None => self.tree.record(id)?,
        };
        let Some(before) = before else { return Ok(false) };
        self.keys.insert(record_key(id), None);
        for key in index_keys(&before) {
            self.keys.insert(key, None);
        }
        self.records.insert(id, None);
        self.counts.recordings = self.counts.recordings.saturating_sub(1);
        Ok(true)
    }

    /// Not atomic with the rest, and need not be: the mark of a rebuild is durable by now.
    fn clear(&mut self) -> Result<(), CatalogError> {
        self.tree.clear()?;
        self.keys.clear();
        self.records.clear();
        self.counts.recordings = 0;
        Ok(())
    }

    fn apply(mut self) -> Result<(), CatalogError> {
        self.counts.commits += 1;
        let counts = value(&self.counts.to_bytes());
        self.keys.insert(COUNTS_KEY.to_vec(), Some(counts.clone()));
        self.tree.commit(self.keys)?;
        // Only a help against silent damage: without it the commit is as good.
        let _ = self.tree.note.write_all_at(&counts, 0);
        Ok(())
    }
}

fn search(tree: &Tree, query: &Query) -> Result<Page, CatalogError> {
    let (from, to) = walk_range(query);
    let mut page = PageBuilder::new(query);
    if from < to {
        tree.walk(&from, &to, query.order, |key, value| {
            check_index_entry(key, value)?;
            let position = position(key)?;
            let record = tree.record(position.id())?;
            // A record that was replaced since the walk began has other keys now.
            Ok(record.is_none_or(|record| {
                Position::of(&record) != position || page.offer(position, record)
            }))
        })?;
    }
    Ok(page.finish(tree.counts()?.recordings))
}

/// The open index.
#[derive(Debug)]
struct Tree {
    tree: sled::Db,
    /// For the sync that sled does not do.
    file: File,
    /// Where the number of commits is noted.
    note: File,
}

impl Tree {
    fn open(path: &Path, note: &Path) -> Result<Self, CatalogError> {
        let tree = sled::Config::new()
            .path(path)
            .mode(sled::Mode::HighThroughput)
            .cache_capacity(64 << 20)
            .flush_every_ms(Some(500))
            .use_compression(false)
            .open()
            .map_err(|error| Self::failed("read", &error))?;
        let file = File::open(path.join("db")).map_err(|error| io_failed("read", &error))?;
        let note = OpenOptions::new().write(true).create(true).truncate(false).open(note);
        let note = note.map_err(|error| io_failed("written", &error))?;
        Ok(Self { tree, file, note })
    }

    fn failed(action: &'static str, error: &sled::Error) -> CatalogError {
        match error {
            sled::Error::Corruption { .. } => damaged(error.to_string()),
            sled::Error::Io(error) => io_failed(action, error),
            error => CatalogError::Device { action, what: error.to_string() },
        }
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, CatalogError> {
        let value = self.tree.get(key).map_err(|error| Self::failed("read", &error))?;
        value.map(|value| content(&value).map(<[u8]>::to_vec)).transpose()
    }

    fn counts(&self) -> Result<Counts, CatalogError> {
        let Some(value) = self.get(COUNTS_KEY)? else { return Ok(Counts::default()) };
        Counts::from_bytes(&value).ok_or_else(|| damaged("the counts are no numbers"))
    }

    fn record(&self, id: RecordingId) -> Result<Option<Recording>, CatalogError> {
        self.get(&record_key(id))?.map(|json| parse_record(&json)).transpose()
    }

    /// Reads everything, so that damage is found at the start and not by a user.
    fn scan(&self) -> Result<(), CatalogError> {
        let mut count = 0;
        for entry in self.tree.iter() {
            let (key, value) = entry.map_err(|error| Self::failed("read", &error))?;
            match key_kind(&key) {
                Some(KeyKind::Index) => check_index_entry(&key, &value)?,
                Some(KeyKind::Record) => {
                    content(&value)?;
                    count += 1;
                }
                Some(KeyKind::Counts) => {}
                None => return Err(damaged("a key is none of ours")),
            }
        }
        if count == self.counts()?.recordings {
            Ok(())
        } else {
            Err(damaged("records are missing"))
        }
    }

    /// Gives each key from `from` to before `to` to `visit`, until that says `false`.
    fn walk(
        &self,
        from: &[u8],
        to: &[u8],
        order: Order,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<bool, CatalogError>,
    ) -> Result<(), CatalogError> {
        let mut range = self.tree.range(from..to);
        loop {
            let entry = match order {
                Order::Oldest => range.next(),
                Order::Newest => range.next_back(),
            };
            let Some(entry) = entry else { return Ok(()) };
            let (key, value) = entry.map_err(|error| Self::failed("read", &error))?;
            if !visit(&key, &value)? {
                return Ok(());
            }
        }
    }

    fn clear(&self) -> Result<(), CatalogError> {
        self.tree.clear().map_err(|error| Self::failed("written", &error))
    }

    fn commit(&self, keys: BTreeMap<Vec<u8>, Option<Vec<u8>>>) -> Result<(), CatalogError> {
        let mut batch = sled::Batch::default();
        for (key, value) in keys {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        let failed = |error: sled::Error| Self::failed("written", &error);
        self.tree.apply_batch(batch).map_err(failed)?;
        self.tree.flush().map_err(failed)?;
        self.file.sync_data().map_err(|error| io_failed("written", &error))
    }
}
