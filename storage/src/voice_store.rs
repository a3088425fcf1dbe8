//! The folder of voice files and their records: opening, writing and reading them. How a finished
//! one becomes visible is in [`crate::staging`].

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use storage_core::record::VoiceFormat;
use storage_core::{Recording, RecordingId, WallTime, naming};

use crate::disk::{Disk, DiskFile, RealDisk, read_whole, write_all_at};
use crate::voice_file::{EncodedWriter, VoiceError, VoiceForm, VoiceWriter};
use crate::voice_out::hash;

/// Longest record that is read. One of a day-long call with thousands of gaps is far below.
const RECORD_BYTES_MAX: usize = 16 << 20;

/// The folder. Cheap to clone.
#[derive(Clone, Debug)]
pub struct VoiceStore {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

impl VoiceStore {
    /// The store below a data folder of this machine.
    ///
    /// # Errors
    /// [`VoiceError::Io`] if the folders cannot be made; in all methods here.
    pub fn open(dir: &Path) -> Result<Self, VoiceError> {
        Self::open_on(RealDisk::shared(), dir)
    }

    /// The same on any disk.
    ///
    /// # Errors
    /// [`VoiceError::Io`].
    pub fn open_on(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, VoiceError> {
        let folders =
            [naming::sealing_folder(), naming::staged_folder(), naming::publishing_folder()];
        for folder in folders {
            let folder = dir.join(folder);
            let made = disk.make_folder(&folder);
            made.map_err(|error| VoiceError::io("cannot make folder", &folder, error))?;
        }
        Ok(Self { disk, dir: dir.to_owned() })
    }

    /// Begins a voice file of so many samples under its temporary name. One that an earlier
    /// attempt left is overwritten.
    ///
    /// # Errors
    /// [`VoiceError`].
    pub fn write(
        &self,
        id: RecordingId,
        form: VoiceForm,
        samples: u64,
    ) -> Result<VoiceWriter, VoiceError> {
        VoiceWriter::create(&*self.disk, &self.dir, id, form, samples)
    }

    /// Begins a voice file whose bytes the caller makes, under its temporary name.
    ///
    /// # Errors
    /// [`VoiceError`].
    pub fn write_encoded(
        &self,
        id: RecordingId,
        format: VoiceFormat,
    ) -> Result<EncodedWriter, VoiceError> {
        EncodedWriter::create(&*self.disk, &self.dir, id, format)
    }

    /// The record of a recording whose audio began at `started`.
    ///
    /// # Errors
    /// [`VoiceError::Io`] with `NotFound` if there is none.
    pub fn record(&self, id: RecordingId, started: WallTime) -> Result<Recording, VoiceError> {
        self.read_record(&self.dir.join(naming::record_file(started, id)))
    }

    /// Opens the voice file of a record, and checks that it has the right length.
    ///
    /// # Errors
    /// [`VoiceError::Altered`] if it has not.
    pub fn voice(&self, record: &Recording) -> Result<Arc<dyn DiskFile>, VoiceError> {
        let path = self.voice_path(record);
        let failed = |error| VoiceError::io("cannot open", &path, error);
        let file = self.disk.open(&path).map_err(failed)?;
        if file.length().map_err(failed)? != record.bytes {
            return Err(VoiceError::Altered { path });
        }
        Ok(file)
    }

    /// Reads a voice file as a whole and compares it with its record's checksum.
    ///
    /// # Errors
    /// [`VoiceError::Altered`] if it is another one.
    pub fn verify(&self, record: &Recording) -> Result<(), VoiceError> {
        let file = self.voice(record)?;
        let path = self.voice_path(record);
        let (_, sha256) =
            hash(&*file).map_err(|error| VoiceError::io("cannot read", &path, error))?;
        if sha256 == record.sha256 { Ok(()) } else { Err(VoiceError::Altered { path }) }
    }

    /// Where a record's voice file lies.
    #[must_use]
    pub fn voice_path(&self, record: &Recording) -> PathBuf {
        let Recording { started, recordingid, format, .. } = record;
        self.dir.join(naming::voice_file(*started, *recordingid, *format))
    }

    /// Where a record lies.
    #[must_use]
    pub fn record_path(&self, record: &Recording) -> PathBuf {
        self.dir.join(naming::record_file(record.started, record.recordingid))
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    pub(crate) fn read_record(&self, path: &Path) -> Result<Recording, VoiceError> {
        let bytes = read_whole(&*self.disk, path, RECORD_BYTES_MAX);
        let bytes = bytes.map_err(|error| VoiceError::io("cannot read", path, error))?;
        serde_json::from_slice(&bytes)
            .map_err(|source| VoiceError::Record { path: path.to_owned(), source })
    }

    /// The folders of all days, oldest first.
    pub(crate) fn day_folders(&self) -> Result<Vec<PathBuf>, VoiceError> {
        let mut folders = vec![self.dir.join(naming::VOICE_FOLDER)];
        // Years, months, days.
        for _ in 0..3 {
            let mut inside = Vec::new();
            for folder in folders {
                let digits = |name: &str| name.bytes().all(|b| b.is_ascii_digit());
                let listed = self.disk.list(&folder);
                let listed = listed.map_err(|e| VoiceError::io("cannot list", &folder, e))?;
                let dated = listed.into_iter().filter(|entry| entry.folder && digits(&entry.name));
                inside.extend(dated.map(|entry| folder.join(entry.name)));
            }
            folders = inside;
        }
        Ok(folders)
    }

    /// Writes a record, durably but for its name.
    pub(crate) fn write_record(&self, path: &Path, record: &Recording) -> Result<(), VoiceError> {
        let failed = |error| VoiceError::io("cannot write", path, error);
        let mut json =
            serde_json::to_vec_pretty(record).map_err(|e| failed(io::Error::other(e)))?;
        json.push(b'\n');
        let file = self.disk.create(path).map_err(failed)?;
        write_all_at(&*file, &json, 0).map_err(|(_, error)| failed(error))?;
        file.sync().map_err(failed)
    }

    /// Where a file of this store lies.
    pub(crate) fn path(&self, relative: PathBuf) -> PathBuf {
        self.dir.join(relative)
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> Result<(), VoiceError> {
        self.disk.rename(from, to).map_err(|error| VoiceError::io("cannot rename", from, error))
    }

    pub(crate) fn remove(&self, path: &Path) -> Result<(), VoiceError> {
        self.disk.remove(path).map_err(|error| VoiceError::io("cannot remove", path, error))
    }

    pub(crate) fn sync_folder(&self, folder: &Path) -> Result<(), VoiceError> {
        let synced = self.disk.sync_folder(folder);
        synced.map_err(|error| VoiceError::io("cannot sync", folder, error))
    }
}
