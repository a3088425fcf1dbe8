//! Recordings whose voice file lies in the archive: how it is read from there as if it lay here, what an
//! archiver reads and writes on this disk, and how a voice file goes that need not lie here any more. Its record
//! stays, and so does its data key, without which the archive has nothing that could be read. What is archived,
//! and what may go when, is not decided here.

use std::fmt::Debug;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use storage_core::archived::{Archived, digest, record_bytes};
use storage_core::{NodeId, Recording, naming};

use crate::disk::DiskFile;
use crate::voice_file::VoiceError;
use crate::voice_out::hash;
use crate::voice_store::{VoiceStore, is_missing};

/// Reads what lies in the archive.
pub trait ArchiveReader: Debug + Send + Sync {
    /// Opens what a note speaks of, if it is there and has the length that the note says. Blocks; it
    /// may wait for a network.
    ///
    /// # Errors
    /// As the archive gives them.
    fn open(&self, archived: &Archived) -> io::Result<Arc<dyn DiskFile>>;
}

/// A voice file that is to be archived.
#[derive(Debug)]
pub struct ToArchive {
    /// What lies on the disk, encrypted or not.
    pub file: Arc<dyn DiskFile>,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256, lower-case hex.
    pub stored: String,
}

impl VoiceStore {
    /// The same with an archive, read as this node.
    #[must_use]
    pub fn with_archive(mut self, reader: Arc<dyn ArchiveReader>, node: NodeId) -> Self {
        self.archive = Some((reader, node));
        self
    }

    /// The note of a record by which this node can read its voice file from the archive: what lies there
    /// encrypted only the node can read that put it there.
    #[must_use]
    pub fn archived_here<'a>(&self, record: &'a Recording) -> Option<&'a Archived> {
        let (_, node) = self.archive.as_ref()?;
        let archived = record.archived.as_ref()?;
        let can_read = !archived.encrypted || archived.stamp.node == *node;
        Some(archived).filter(|archived| can_read && archived.is_of(record))
    }

    /// Opens a voice file in the archive as the plain file that it was.
    pub(crate) fn open_archived(
        &self,
        record: &Recording,
        archived: &Archived,
    ) -> Result<Arc<dyn DiskFile>, VoiceError> {
        let failed = |source| VoiceError::Archive { place: archived.place.clone(), source };
        let Some((reader, _)) = &self.archive else {
            return Err(failed(io::Error::other(
                "it is read by a running node that has al_archive",
            )));
        };
        if self.archived_here(record).is_none() {
            let why = format!("it is encrypted with a key of node {}", archived.stamp.node);
            return Err(failed(io::Error::other(why)));
        }
        let file = reader.open(archived).map_err(failed)?;
        let lies = Recording { encrypted: archived.encrypted, ..record.clone() };
        let place = PathBuf::from(&archived.place);
        self.unlock(self.found_in(file, place, &[self.keys_path(record)], &lies)?)
    }

    /// The voice file of a record as the plain file that it was, read from the archive. Blocks as it is
    /// opened and read; what it is, whoever reads it is to compare.
    ///
    /// # Errors
    /// [`VoiceError`] if it is not there, or this node cannot decrypt it; so in all methods here.
    pub fn in_archive(&self, record: &Recording) -> Result<Arc<dyn DiskFile>, VoiceError> {
        match &record.archived {
            Some(archived) => self.open_archived(record, archived),
            None => {
                let source = io::Error::other("it is not archived");
                Err(VoiceError::Archive { place: record.recordingid.to_string(), source })
            }
        }
    }

    /// Opens the voice file of a record as it lies here, after its content was compared with what the record
    /// says: what is wrong already is not archived. Reads all of it.
    ///
    /// # Errors
    /// [`VoiceError`].
    pub fn to_archive(&self, record: &Recording) -> Result<ToArchive, VoiceError> {
        let path = self.voice_path(record);
        let unread = |error| VoiceError::io("cannot read", &path, error);
        let plain = self.unlock(self.look(record)?)?;
        let (_, sha256) = hash(&*plain).map_err(unread)?;
        if sha256 != record.sha256 {
            return Err(VoiceError::Altered { path });
        }
        let file = self.disk().open(&path).map_err(unread)?;
        let (bytes, stored) = match record.encrypted {
            true => hash(&*file).map_err(unread)?,
            false => (record.bytes, sha256),
        };
        Ok(ToArchive { file, bytes, stored })
    }

    /// Whether the voice file of a record lies on this disk, whatever it is.
    #[must_use]
    pub fn lies_on_disk(&self, record: &Recording) -> bool {
        self.exists(&self.voice_path(record))
    }

    /// Whether a voice file of this recording lies on this disk, encrypted or not.
    #[must_use]
    pub fn has_voice_file(&self, listed: &Recording) -> bool {
        let other = Recording { encrypted: !listed.encrypted, ..listed.clone() };
        self.lies_on_disk(listed) || self.lies_on_disk(&other)
    }

    /// Removes the voice file of a record from this disk: the archive has it. Nothing is removed of
    /// another revision, or while the record beside it does not say so. Tells whether it was there.
    ///
    /// # Errors
    /// [`VoiceError`].
    pub fn remove_archived(
        &self,
        archived: &Archived,
        known: &Recording,
    ) -> Result<bool, VoiceError> {
        let _alone = self.alone(known.recordingid);
        let beside = match self.record(known.recordingid, known.started) {
            Err(error) if is_missing(&error) => return Ok(false),
            beside => beside?,
        };
        if self.archived_here(&beside) != Some(archived) {
            return Ok(false);
        }
        let removed = self.remove_if_there(&self.voice_path(&beside))?;
        if removed {
            self.sync_folder(&self.path(naming::day_folder(beside.started)))?;
        }
        Ok(removed)
    }

    /// Lays down the record of a recording whose voice file is left in the archive. Nothing is done where
    /// something of it lies here already.
    ///
    /// # Errors
    /// [`VoiceError`].
    pub fn adopt_archived(&self, known: &Recording) -> Result<(), VoiceError> {
        let id = known.recordingid;
        let _alone = self.alone(id);
        if self.is_deleted(id) {
            return Err(VoiceError::Deleted { id });
        }
        if self.archived_here(known).is_none() || self.exists(&self.record_path(known)) {
            return Ok(());
        }
        let folder = self.path(naming::day_folder(known.started));
        let made = self.disk().make_folder(&folder);
        made.map_err(|error| VoiceError::io("cannot make folder", &folder, error))?;
        let written = self.path(naming::sealing_marks_file(id));
        self.write_record(&written, &Recording { encrypted: false, ..known.clone() })?;
        self.rename(&written, &self.record_path(known))?;
        self.sync_folder(&folder)
    }
}

/// A record as it is archived, and its SHA-256.
///
/// # Errors
/// None that is known: every record has a form in JSON.
pub fn record_to_archive(record: &Recording) -> io::Result<(Vec<u8>, String)> {
    let bytes = record_bytes(record)?;
    let sha256 = digest(&bytes);
    Ok((bytes, sha256))
}
