//! The folder of voice files and their records: how a finished one becomes visible, and what is
//! left to do after a crash in the middle of that.
//!
//! A recording exists once its record (JSON) has its final name. Order of publishing, each step
//! durable before the next: voice and record under temporary names; the voice takes its final
//! name; the record takes its final name. So there is no record without its voice file.
//!
//! A recording may be published again (sealed once more after a crash, or joined with a peer's
//! capture). Then, between the last two steps, the older record stands beside the newer voice
//! file. The newer record lies ready under its temporary name, and [`VoiceStore::finish`] gives it
//! its final one at the next start.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use storage_core::naming::{self, Named};
use storage_core::record::VoiceFormat;
use storage_core::{Recording, RecordingId, WallTime};

use crate::disk::{Disk, DiskFile, RealDisk, read_whole, write_all_at};
use crate::voice_file::{EncodedWriter, FinishedVoice, VoiceError, VoiceForm, VoiceWriter, hash};

/// Longest record that is read. One of a day-long call with thousands of gaps is far below.
const RECORD_BYTES_MAX: usize = 16 << 20;

/// The folder. Cheap to clone.
#[derive(Clone, Debug)]
pub struct VoiceStore {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

/// What [`VoiceStore::finish`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unfinished {
    /// Records that got their final name.
    pub published: Vec<RecordingId>,
    /// Temporary files removed; their recordings are still in the capture journal.
    pub removed: usize,
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
        let folder = dir.join(naming::sealing_folder());
        let made = disk.make_folder(&folder);
        made.map_err(|error| VoiceError::io("cannot make folder", &folder, error))?;
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

    /// Publishes a voice file with its record, and returns the record with what only the file can
    /// tell (`format`, `bytes`, `sha256`). When this returns both are durable. A recording that
    /// is there already is replaced.
    ///
    /// # Errors
    /// [`VoiceError`]. What was there before is still there; publishing may be tried again from
    /// the begin.
    pub fn publish(
        &self,
        voice: FinishedVoice,
        mut record: Recording,
    ) -> Result<Recording, VoiceError> {
        let FinishedVoice { id, format, bytes, sha256, path: sealing_voice, file } = voice;
        if record.recordingid != id {
            return Err(VoiceError::Mismatch { record: record.recordingid, voice: id });
        }
        (record.format, record.bytes, record.sha256) = (format, bytes, sha256);
        file.sync().map_err(|error| VoiceError::io("cannot sync", &sealing_voice, error))?;
        let sealing_record = self.write_record(&record)?;

        let folder = self.dir.join(naming::day_folder(record.started));
        let made = self.disk.make_folder(&folder);
        made.map_err(|error| VoiceError::io("cannot make folder", &folder, error))?;
        let before = self.record(id, record.started).ok();
        if before.is_some() {
            // The newer record must be found after a power cut between the two renames.
            self.sync_folder(&self.dir.join(naming::sealing_folder()))?;
        }
        self.rename(&sealing_voice, &self.voice_path(&record))?;
        self.sync_folder(&folder)?;
        self.rename(&sealing_record, &self.record_path(&record))?;
        self.sync_folder(&folder)?;
        if let Some(before) = before.filter(|b| b.format.extension() != format.extension()) {
            self.remove(&self.voice_path(&before))?;
        }
        Ok(record)
    }

    /// Does what a crash has left undone. To be called at the start, before anything is sealed.
    ///
    /// # Errors
    /// [`VoiceError`].
    pub fn finish(&self) -> Result<Unfinished, VoiceError> {
        let folder = self.dir.join(naming::sealing_folder());
        let listed = self.disk.list(&folder);
        let listed = listed.map_err(|error| VoiceError::io("cannot list", &folder, error))?;
        let mut unfinished = Unfinished::default();
        for entry in listed.iter().filter(|entry| !entry.folder) {
            let path = folder.join(&entry.name);
            if let Some(Named::Record(id)) = Named::parse(&entry.name)
                && let Ok(record) = self.read_record(&path)
                && self.verify(&record).is_ok()
            {
                self.rename(&path, &self.record_path(&record))?;
                self.sync_folder(&self.dir.join(naming::day_folder(record.started)))?;
                unfinished.published.push(id);
            } else {
                self.remove(&path)?;
                unfinished.removed += 1;
            }
        }
        Ok(unfinished)
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

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
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

    /// Writes a record under its temporary name, durably.
    fn write_record(&self, record: &Recording) -> Result<PathBuf, VoiceError> {
        let path = self.dir.join(naming::sealing_record_file(record.recordingid));
        let failed = |error| VoiceError::io("cannot write", &path, error);
        let mut json =
            serde_json::to_vec_pretty(record).map_err(|e| failed(io::Error::other(e)))?;
        json.push(b'\n');
        let file = self.disk.create(&path).map_err(failed)?;
        write_all_at(&*file, &json, 0).map_err(|(_, error)| failed(error))?;
        file.sync().map_err(failed)?;
        Ok(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), VoiceError> {
        self.disk.rename(from, to).map_err(|error| VoiceError::io("cannot rename", from, error))
    }

    fn remove(&self, path: &Path) -> Result<(), VoiceError> {
        self.disk.remove(path).map_err(|error| VoiceError::io("cannot remove", path, error))
    }

    fn sync_folder(&self, folder: &Path) -> Result<(), VoiceError> {
        let synced = self.disk.sync_folder(folder);
        synced.map_err(|error| VoiceError::io("cannot sync", folder, error))
    }
}
