//! The folder of voice files and their records: opening, writing and reading them, encrypted ones as if
//! they were plain. How a finished one becomes visible is in [`crate::staging`].

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use storage_core::cipher_file::{CipherHeader, HEADER_BYTES, Layout};
use storage_core::record::VoiceFormat;
use storage_core::tombstone::Tombstone;
use storage_core::wrapped_key::{KEYS_FILE_BYTES_MAX, KeyUse, KeysFile, WrappedKey};
use storage_core::{NodeId, Recording, RecordingId, WallTime, naming};

use crate::archived::ArchiveReader;
use crate::cipher_read::CipherFile;
use crate::disk::{Disk, DiskFile, RealDisk, read_full_at, read_whole, write_all_at};
use crate::keys::Keys;
use crate::manifest::Manifest;
use crate::tombstones::Tombstones;
use crate::voice_file::{EncodedWriter, VoiceError, VoiceForm, VoiceWriter};
use crate::voice_out::hash;
use crate::wav::Channels;

/// Longest record that is read. One of a day-long call with thousands of gaps is far below.
const RECORD_BYTES_MAX: usize = 16 << 20;
/// Recordings that may be published at once, if they fall into different ones of so many parts.
const PUBLISHING_AT_ONCE: usize = 16;

/// The folder. Cheap to clone.
#[derive(Clone, Debug)]
pub struct VoiceStore {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    keys: Keys,
    /// What is on its way lies with what comes from other members.
    copies: bool,
    /// Of one recording one revision is published at a time: what this node has sealed, or what comes
    /// from another member.
    publishing: Arc<[Mutex<()>; PUBLISHING_AT_ONCE]>,
    /// Where what is published is written down.
    manifest: Option<Arc<Manifest>>,
    /// What never comes back.
    deleted: Arc<Tombstones>,
    /// Where voice files are read from that do not lie here any more, and as which node.
    pub(crate) archive: Option<(Arc<dyn ArchiveReader>, NodeId)>,
}

/// A voice file that is there and has the right length; if it is encrypted, with its data key.
pub(crate) struct Found {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    locked: Option<(CipherHeader, WrappedKey)>,
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
        let of_copies = folders.each_ref().map(|folder| naming::of_copies(folder));
        for folder in folders.into_iter().chain(of_copies) {
            let folder = dir.join(folder);
            let made = disk.make_folder(&folder);
            made.map_err(|error| VoiceError::io("cannot make folder", &folder, error))?;
        }
        let deleted = Arc::new(Tombstones::open_on(Arc::clone(&disk), dir)?);
        Ok(Self { deleted, ..Self::at(disk, dir) })
    }

    /// The store of a folder that nothing is to be made or written in.
    pub(crate) fn at(disk: Arc<dyn Disk>, dir: &Path) -> Self {
        let publishing = Arc::default();
        let deleted = Arc::new(Tombstones::none(Arc::clone(&disk), dir));
        let (dir, keys) = (dir.to_owned(), Keys::default());
        Self { disk, dir, keys, copies: false, publishing, manifest: None, deleted, archive: None }
    }

    /// The same with keys: what is written is encrypted, and what is encrypted can be read.
    #[must_use]
    pub fn with_keys(self, keys: Keys) -> Self {
        Self { keys, ..self }
    }

    /// The same with a manifest: nothing counts as published before it has a line there.
    #[must_use]
    pub fn with_manifest(self, manifest: Arc<Manifest>) -> Self {
        Self { manifest: Some(manifest), ..self }
    }

    /// Writes down that a recording was published.
    pub(crate) fn state(&self, record: &Recording) -> Result<(), VoiceError> {
        match &self.manifest {
            Some(manifest) => manifest.published(record),
            None => Ok(()),
        }
    }

    /// Writes down that a recording was deleted.
    pub(crate) fn state_deleted(&self, tombstone: &Tombstone) -> Result<(), VoiceError> {
        match &self.manifest {
            Some(manifest) => manifest.deleted(tombstone),
            None => Ok(()),
        }
    }

    pub(crate) fn deleted(&self) -> &Tombstones {
        &self.deleted
    }

    /// The same folder for what comes from another member: it is written and staged apart.
    pub(crate) fn copies(&self) -> Self {
        Self { copies: true, ..self.clone() }
    }

    /// Begins a voice file of so many samples in each channel under its temporary name. One that an
    /// earlier attempt left is overwritten.
    ///
    /// # Errors
    /// [`VoiceError`].
    pub fn write(
        &self,
        id: RecordingId,
        form: VoiceForm,
        channels: Channels,
        samples: u64,
    ) -> Result<VoiceWriter, VoiceError> {
        let path = self.work(naming::sealing_voice_file(id, form.format()));
        VoiceWriter::create(&*self.disk, path, &self.keys, id, form, channels, samples)
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
        let path = self.work(naming::sealing_voice_file(id, format));
        EncodedWriter::create(&*self.disk, path, &self.keys, id, format)
    }

    /// The record of a recording whose audio began at `started`.
    ///
    /// # Errors
    /// [`VoiceError::Io`] with `NotFound` if there is none.
    pub fn record(&self, id: RecordingId, started: WallTime) -> Result<Recording, VoiceError> {
        self.read_record(&self.dir.join(naming::record_file(started, id)))
    }

    /// Opens the voice file of a record, and checks that it has the right length. It is read as the
    /// plain file that it is or was; from the archive if it does not lie here any more.
    ///
    /// # Errors
    /// [`VoiceError::Altered`] if it has not; `Key`, `Erased` or `KeysFile` if it cannot be decrypted.
    pub fn voice(&self, record: &Recording) -> Result<Arc<dyn DiskFile>, VoiceError> {
        let found = match self.look(record) {
            // A revision may take its place between a look at the file and one at its key.
            Err(VoiceError::Erased { .. }) => self.look(record),
            found => found,
        };
        let archived = record.archived.as_ref().filter(|archived| archived.is_of(record));
        match (found, archived) {
            (Err(error), Some(archived)) if is_missing(&error) => {
                self.open_archived(record, archived)
            }
            (found, _) => self.unlock(found?),
        }
    }

    /// Looks whether the voice file of a record is there and has the right length, with its data key
    /// if it is encrypted. Needs no keys.
    ///
    /// # Errors
    /// As [`VoiceStore::voice`], but for `Key`.
    pub(crate) fn look(&self, record: &Recording) -> Result<Found, VoiceError> {
        self.find(self.voice_path(record), &[self.keys_path(record)], record)
    }

    /// The same at any place, with the first file of data keys that is there.
    pub(crate) fn find(
        &self,
        path: PathBuf,
        keys: &[PathBuf],
        record: &Recording,
    ) -> Result<Found, VoiceError> {
        let file = self.disk.open(&path);
        let file = file.map_err(|error| VoiceError::io("cannot open", &path, error))?;
        self.found_in(file, path, keys, record)
    }

    /// What a file is that was opened.
    pub(crate) fn found_in(
        &self,
        file: Arc<dyn DiskFile>,
        path: PathBuf,
        keys: &[PathBuf],
        record: &Recording,
    ) -> Result<Found, VoiceError> {
        let failed = |error| VoiceError::io("cannot open", &path, error);
        let length = file.length().map_err(failed)?;
        if length != lying_bytes(record) {
            return Err(VoiceError::Altered { path });
        }
        if !record.encrypted {
            return Ok(Found { path, file, locked: None });
        }
        let mut header = [0; HEADER_BYTES];
        read_full_at(&*file, &mut header, 0).map_err(failed)?;
        let header = CipherHeader::decode(&header).ok();
        let header = header.filter(|header| header.recordingid == record.recordingid);
        let Some(header) = header else { return Err(VoiceError::Altered { path }) };
        let mut held = None;
        for place in keys {
            held = held.or(self.read_keys(place)?);
        }
        match held.as_ref().and_then(|held| held.key(header.file)) {
            Some(key) => Ok(Found { path, file, locked: Some((header, key.clone())) }),
            None => {
                let keys = keys.last().cloned().unwrap_or_default();
                Err(VoiceError::Erased { path, keys })
            }
        }
    }

    /// Makes a file readable that was found.
    pub(crate) fn unlock(&self, found: Found) -> Result<Arc<dyn DiskFile>, VoiceError> {
        let Found { path, file, locked } = found;
        let Some((header, key)) = locked else { return Ok(file) };
        let made_for = KeyUse::Voice(header.recordingid, header.file);
        match self.keys.unwrap(&key, &made_for) {
            Ok(cipher) => {
                let read = CipherFile::new(file, &path, cipher, header);
                Ok(Arc::new(read.map_err(|error| VoiceError::io("cannot open", &path, error))?))
            }
            Err(why) => Err(VoiceError::Key { path, why }),
        }
    }

    /// The data keys in a file; `None` if it is not there.
    pub(crate) fn read_keys(&self, path: &Path) -> Result<Option<KeysFile>, VoiceError> {
        match read_whole(&*self.disk, path, KEYS_FILE_BYTES_MAX) {
            Ok(bytes) => match KeysFile::decode(&bytes) {
                Ok(keys) => Ok(Some(keys)),
                Err(why) => Err(VoiceError::KeysFile { path: path.to_owned(), why }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(VoiceError::io("cannot read", path, error)),
        }
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
        let Recording { started, recordingid, format, encrypted, .. } = record;
        let path = self.dir.join(naming::voice_file(*started, *recordingid, *format));
        if *encrypted { naming::encrypted(path) } else { path }
    }

    /// Where a record's data key lies, if its voice file is encrypted.
    #[must_use]
    pub fn keys_path(&self, record: &Recording) -> PathBuf {
        self.dir.join(naming::keys_file(record.started, record.recordingid))
    }

    /// Where a record lies.
    #[must_use]
    pub fn record_path(&self, record: &Recording) -> PathBuf {
        self.dir.join(naming::record_file(record.started, record.recordingid))
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
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
        let json = serde_json::to_vec_pretty(record);
        let mut json =
            json.map_err(|error| VoiceError::io("cannot write", path, io::Error::other(error)))?;
        json.push(b'\n');
        self.write_small(path, &json)
    }

    /// Writes data keys, durably but for the name.
    pub(crate) fn write_keys(&self, path: &Path, keys: &KeysFile) -> Result<(), VoiceError> {
        self.write_small(path, &keys.encode())
    }

    /// Writes a small file, durably but for its name.
    pub(crate) fn write_small(&self, path: &Path, bytes: &[u8]) -> Result<(), VoiceError> {
        let failed = |error| VoiceError::io("cannot write", path, error);
        let file = self.disk.create(path).map_err(failed)?;
        write_all_at(&*file, bytes, 0).map_err(|(_, error)| failed(error))?;
        file.sync().map_err(failed)
    }

    /// Where something on its way lies.
    pub(crate) fn work(&self, relative: PathBuf) -> PathBuf {
        self.path(if self.copies { naming::of_copies(&relative) } else { relative })
    }

    /// Nobody else publishes this recording as long as this is held.
    pub(crate) fn alone(&self, id: RecordingId) -> MutexGuard<'_, ()> {
        let place = id.0.as_u64_pair().1 % PUBLISHING_AT_ONCE as u64;
        let place = &self.publishing[usize::try_from(place).unwrap_or(0)];
        // What is half done is completed at the next start.
        place.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Whether a file is not there.
pub(crate) fn is_missing(error: &VoiceError) -> bool {
    matches!(error, VoiceError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

/// Length of a record's voice file as it lies on the disk.
fn lying_bytes(record: &Recording) -> u64 {
    if record.encrypted { Layout::of_plain(record.bytes).file_bytes() } else { record.bytes }
}
