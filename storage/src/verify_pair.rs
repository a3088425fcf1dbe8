//! Looks whether one recording's files are what its record says. Where they lie, and what is done about
//! it, is the caller's matter.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use storage_core::cipher_file::{CipherHeader, HEADER_BYTES};
use storage_core::naming::{self, Named};
use storage_core::{Recording, RecordingId};

use crate::disk::{DiskFile, read_full_at};
use crate::verify::{Fault, FaultKind};
use crate::voice_file::VoiceError;
use crate::voice_out::hash;
use crate::voice_store::VoiceStore;

/// A recording's files in a folder.
pub(crate) struct Pair<'a> {
    pub store: &'a VoiceStore,
    pub folder: &'a Path,
    pub id: RecordingId,
}

/// Something that is not as it should be.
#[derive(Debug)]
pub(crate) enum Finding {
    /// It is this.
    Fault(Fault),
    /// A voice file holds something else than its record says: another recording's audio, perhaps.
    OtherContent {
        /// SHA-256 of what it holds.
        sha256: String,
        /// What to call it if not.
        fault: Fault,
    },
}

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Looked {
    pub has_record: bool,
    /// The voice file lies in the archive only, as its record says.
    pub archived: bool,
    /// Bytes of audio that were compared.
    pub bytes: u64,
    pub findings: Vec<Finding>,
}

impl Pair<'_> {
    /// Looks at files of these names, which are those of the recording in this folder.
    pub fn look<'n>(&self, names: impl Iterator<Item = &'n str>) -> Looked {
        let mut looked = Looked::default();
        let mut names: BTreeSet<String> = names.map(str::to_owned).collect();
        let record_name = naming::record_name(self.id);
        if !names.remove(&record_name) {
            let what = "has no record beside it: restore the record, or remove the file";
            for name in names {
                looked.add(FaultKind::Added, self.folder.join(name), what.to_owned());
            }
            return looked;
        }
        looked.has_record = true;
        let path = self.folder.join(record_name);
        let Some(record) = self.record(&path, &mut looked) else { return looked };
        let voice = voice_name(&record);
        let keys = file_name(&naming::keys_file(record.started, self.id));
        for name in names {
            if name != voice && !(record.encrypted && name == keys) {
                let what = "is not what its record speaks of: remove it".to_owned();
                looked.add(FaultKind::Added, self.folder.join(name), what);
            }
        }
        self.voice(&record, self.folder.join(voice), self.folder.join(keys), &mut looked);
        looked
    }

    /// Looks once more, at whatever is there now.
    pub fn look_again(&self) -> Looked {
        let listed = self.store.disk().list(self.folder).unwrap_or_default();
        let of_it = |name: &&str| match Named::parse(name) {
            Some(Named::Record(id) | Named::Voice(id) | Named::Keys(id)) => id == self.id,
            None => false,
        };
        self.look(listed.iter().map(|entry| entry.name.as_str()).filter(of_it))
    }

    fn record(&self, path: &Path, looked: &mut Looked) -> Option<Recording> {
        let path = path.to_owned();
        let record = match self.store.read_record(&path) {
            Ok(record) => record,
            Err(VoiceError::Record { source, .. }) => {
                let what = format!("is no readable record ({source}): restore it from a copy");
                looked.add(FaultKind::Altered, path, what);
                return None;
            }
            Err(error) => {
                looked.add(FaultKind::Unreadable, path, in_words(&error));
                return None;
            }
        };
        if record.recordingid != self.id {
            let what = format!("is the record of {}: restore both", record.recordingid);
            looked.add(FaultKind::Swapped, path, what);
            return None;
        }
        let day = naming::day_folder(record.started);
        let day = day.strip_prefix(naming::VOICE_FOLDER).unwrap_or(&day);
        // A copy of some files in a folder of another form is checked all the same.
        if is_day(self.folder) && !self.folder.ends_with(day) {
            let what = format!("belongs in the folder {}: put it there", day.display());
            looked.add(FaultKind::Swapped, path, what);
        }
        Some(record)
    }

    fn voice(&self, record: &Recording, path: PathBuf, keys: PathBuf, looked: &mut Looked) {
        let found = match self.store.find(path.clone(), std::slice::from_ref(&keys), record) {
            Ok(found) => found,
            Err(error) => return self.not_found(record, path, keys, &error, looked),
        };
        let file = match self.store.unlock(found) {
            Ok(file) => file,
            Err(VoiceError::Key { why, .. }) => {
                let what = format!("is encrypted, and was not checked: {why}");
                return looked.add(FaultKind::Unchecked, path, what);
            }
            Err(error) => return looked.add(FaultKind::Unreadable, path, in_words(&error)),
        };
        match hash(&*file) {
            Ok((bytes, sha256)) if sha256 == record.sha256 => looked.bytes += bytes,
            Ok((_, sha256)) => looked.other_content(path, sha256),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                looked.add(FaultKind::Altered, path, error.to_string());
            }
            Err(error) => looked.add(FaultKind::Unreadable, path, error.to_string()),
        }
    }

    /// Says why the voice file cannot even be opened.
    fn not_found(
        &self,
        record: &Recording,
        path: PathBuf,
        keys: PathBuf,
        error: &VoiceError,
        looked: &mut Looked,
    ) {
        match error {
            VoiceError::Io { source, .. }
                if source.kind() == io::ErrorKind::NotFound
                    && record.archived.as_ref().is_some_and(|archived| archived.is_of(record)) =>
            {
                looked.archived = true;
            }
            VoiceError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                let what = "is missing: a running node fetches it from another that has it, or \
                            restore it from a copy";
                looked.add(FaultKind::Missing, path, what.to_owned());
            }
            VoiceError::Erased { .. } => {
                let what = "is missing, or holds another key: without it the voice file cannot be \
                            read; restore it, unless the recording was erased on purpose";
                looked.add(FaultKind::Missing, keys, what.to_owned());
            }
            VoiceError::KeysFile { why, .. } => {
                looked.add(FaultKind::Altered, keys, format!("{why}: restore it from a copy"));
            }
            VoiceError::Altered { .. } => match self.opened(&path) {
                // What it is tells who is to blame: its content, or, if it is encrypted, its head.
                Ok(file) if record.encrypted => {
                    let other = owner(&*file).filter(|owner| *owner != self.id);
                    match other {
                        Some(other) => {
                            let what = format!("is the voice file of {other}: restore both");
                            looked.add(FaultKind::Swapped, path, what);
                        }
                        None => looked.add(FaultKind::Altered, path, ALTERED.to_owned()),
                    }
                }
                Ok(file) => match hash(&*file) {
                    Ok((_, sha256)) => looked.other_content(path, sha256),
                    Err(error) => looked.add(FaultKind::Unreadable, path, error.to_string()),
                },
                Err(error) => looked.add(FaultKind::Unreadable, path, error.to_string()),
            },
            error => looked.add(FaultKind::Unreadable, path, in_words(error)),
        }
    }

    fn opened(&self, path: &Path) -> io::Result<std::sync::Arc<dyn DiskFile>> {
        self.store.disk().open(path)
    }
}

const ALTERED: &str = "is not what its record says: remove it, and a running node fetches it from \
                       another that has it; or restore it from a copy";

impl Looked {
    fn add(&mut self, kind: FaultKind, path: PathBuf, what: String) {
        self.findings.push(Finding::Fault(Fault { kind, path, what }));
    }

    fn other_content(&mut self, path: PathBuf, sha256: String) {
        let fault = Fault { kind: FaultKind::Altered, path, what: ALTERED.to_owned() };
        self.findings.push(Finding::OtherContent { sha256, fault });
    }
}

/// Whose audio an encrypted file holds.
fn owner(file: &dyn DiskFile) -> Option<RecordingId> {
    let mut header = [0; HEADER_BYTES];
    read_full_at(file, &mut header, 0).ok()?;
    CipherHeader::decode(&header).ok().map(|header| header.recordingid)
}

/// The name of a record's voice file.
fn voice_name(record: &Recording) -> String {
    let path = naming::voice_file(record.started, record.recordingid, record.format);
    file_name(&if record.encrypted { naming::encrypted(path) } else { path })
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Whether a folder is that of a day, by its name and those above.
fn is_day(folder: &Path) -> bool {
    let mut parts = folder.iter().rev().take(3);
    let digits = |part: &std::ffi::OsStr, count: usize| {
        part.len() == count && part.as_encoded_bytes().iter().all(u8::is_ascii_digit)
    };
    [2, 2, 4].into_iter().all(|count| parts.next().is_some_and(|part| digits(part, count)))
}

/// An error with what is behind it.
fn in_words(error: &VoiceError) -> String {
    match error {
        VoiceError::Io { action, source, .. } => format!("{action} it: {source}"),
        error => error.to_string(),
    }
}
