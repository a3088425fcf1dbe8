//! The recordings that were deleted: a line of JSON for each, in a file for each UTC day on which recordings
//! were made. They are kept for ever, so that nothing brings a recording back: of each its name and the place
//! of its line are in memory, some 50 bytes. What a line says is [`storage_core::tombstone`]'s matter.
//!
//! A line lasts once [`Tombstones::add`] has returned. A torn last line is left out when the file is read, and
//! ended before anything is appended to it.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use storage_core::naming::{DELETED_FOLDER, calls_file, is_calls_file};
use storage_core::tombstone::Tombstone;
use storage_core::{RecordingId, WallTime};

use crate::disk::{Disk, read_full_at, read_whole, write_all_at};
use crate::voice_file::VoiceError;

/// A day of a million deleted recordings has some 500 MB.
const FILE_BYTES_MAX: usize = 1 << 30;

/// The deleted recordings of a data folder.
#[derive(Debug)]
pub(crate) struct Tombstones {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    known: Mutex<HashMap<RecordingId, Place>>,
}

/// Where a line lies in the file of its recording's day.
#[derive(Clone, Copy, Debug)]
struct Place {
    offset: u64,
    length: usize,
}

impl Tombstones {
    /// Reads all that are there.
    ///
    /// # Errors
    /// [`VoiceError::Io`]; so in all methods here.
    pub fn open_on(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, VoiceError> {
        let tombstones = Self::none(disk, dir);
        let folder = &tombstones.folder;
        let listed = match tombstones.disk.list(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            listed => listed.map_err(|error| VoiceError::io("cannot list", folder, error))?,
        };
        let mut known = HashMap::new();
        for name in listed.iter().map(|entry| &entry.name).filter(|name| is_calls_file(name)) {
            for (tombstone, place) in tombstones.read(&folder.join(name))? {
                known.insert(tombstone.recordingid, place);
            }
        }
        *tombstones.known() = known;
        Ok(tombstones)
    }

    /// As if there were none, for who only looks at files.
    pub fn none(disk: Arc<dyn Disk>, dir: &Path) -> Self {
        Self { disk, folder: dir.join(DELETED_FOLDER), known: Mutex::default() }
    }

    /// Whether a recording was deleted.
    pub fn has(&self, id: RecordingId) -> bool {
        self.known().contains_key(&id)
    }

    /// The names of all of them.
    pub fn all(&self) -> Vec<RecordingId> {
        self.known().keys().copied().collect()
    }

    /// The tombstone of a recording.
    ///
    /// # Errors
    /// [`VoiceError`].
    pub fn find(&self, id: RecordingId) -> Result<Option<Tombstone>, VoiceError> {
        let Some(Place { offset, length }) = self.known().get(&id).copied() else {
            return Ok(None);
        };
        let path = self.path(id.made());
        let failed = |error| VoiceError::io("cannot read", &path, error);
        let file = self.disk.open(&path).map_err(failed)?;
        let mut line = vec![0; length];
        read_full_at(&*file, &mut line, offset).map_err(failed)?;
        serde_json::from_slice(&line).map(Some).map_err(|error| failed(error.into()))
    }

    /// Those of the recordings that were made on a UTC day.
    ///
    /// # Errors
    /// [`VoiceError`].
    pub fn of_day(&self, day: WallTime) -> Result<Vec<Tombstone>, VoiceError> {
        let path = self.path(day);
        if self.known().is_empty() {
            return Ok(Vec::new());
        }
        Ok(self.read(&path)?.into_iter().map(|(tombstone, _)| tombstone).collect())
    }

    /// Writes one down; when this returns it lasts. A second one of the same recording is left out.
    ///
    /// # Errors
    /// [`VoiceError`]; it may be tried again.
    pub fn add(&self, tombstone: &Tombstone) -> Result<(), VoiceError> {
        let mut known = self.known();
        if known.contains_key(&tombstone.recordingid) {
            return Ok(());
        }
        let path = self.path(tombstone.recordingid.made());
        let written = self.append(&path, tombstone);
        let place = written.map_err(|error| VoiceError::io("cannot write", &path, error))?;
        known.insert(tombstone.recordingid, place);
        Ok(())
    }

    fn append(&self, path: &Path, tombstone: &Tombstone) -> io::Result<Place> {
        let line = serde_json::to_vec(tombstone)?;
        let file = match self.disk.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.disk.make_folder(&self.folder)?;
                let file = self.disk.create(path)?;
                self.disk.sync_folder(&self.folder)?;
                file
            }
            file => file?,
        };
        let end = file.length()?;
        let mut last = [b'\n'];
        if end > 0 {
            file.read_at(&mut last, end - 1)?;
        }
        // What a power cut has torn is ended first.
        let torn = last != *b"\n";
        let bytes = [if torn { b"\n".as_slice() } else { b"" }, &line, b"\n"].concat();
        write_all_at(&*file, &bytes, end).map_err(|(_, error)| error)?;
        file.sync()?;
        Ok(Place { offset: end + u64::from(torn), length: line.len() })
    }

    fn read(&self, path: &Path) -> Result<Vec<(Tombstone, Place)>, VoiceError> {
        let bytes = match read_whole(&*self.disk, path, FILE_BYTES_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            bytes => bytes.map_err(|error| VoiceError::io("cannot read", path, error))?,
        };
        let (mut found, mut offset) = (Vec::new(), 0);
        for line in bytes.split(|byte| *byte == b'\n') {
            if let Ok(tombstone) = serde_json::from_slice::<Tombstone>(line) {
                found.push((tombstone, Place { offset, length: line.len() }));
            }
            offset += line.len() as u64 + 1;
        }
        Ok(found)
    }

    fn path(&self, made: WallTime) -> PathBuf {
        self.folder.join(calls_file(made))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<RecordingId, Place>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
