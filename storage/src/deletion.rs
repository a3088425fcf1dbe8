//! How a recording goes, for good: its data key first, then its voice file and its record, with whatever of it
//! is on its way to be published; and what stays of it, a tombstone and a line in the manifest. When a
//! recording may go is not decided here, and its entry in the catalog is the caller's matter.
//!
//! ```text
//! .deleting/ID.json ──▶ deleted/DAY.jsonl ──▶ key, voice file, record ──▶ manifest ──▶ (catalog) ──▶ note gone
//!        │                     │
//!        │                     └─ from here on nothing publishes, copies or lists it any more
//!        └─ from here on the next start ends what has begun
//! ```

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use storage_core::record::VoiceFormat;
use storage_core::tombstone::Tombstone;
use storage_core::{RecordingId, WallTime, naming};

use crate::disk::read_whole;
use crate::voice_file::VoiceError;
use crate::voice_store::VoiceStore;

/// A later revision may begin before the one that is known, and lie in the folder of another day; never so
/// many days away, because no call lasts longer than one.
const DAYS_BESIDE: u32 = 2;
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Longest note that is read.
const NOTE_BYTES_MAX: usize = 1 << 20;

impl VoiceStore {
    /// Whether a recording was deleted here: it is never published, copied or listed again.
    #[must_use]
    pub fn is_deleted(&self, id: RecordingId) -> bool {
        self.deleted().has(id)
    }

    /// All that were deleted, in no order.
    #[must_use]
    pub fn all_deleted(&self) -> Vec<RecordingId> {
        self.deleted().all()
    }

    /// What stays of a deleted recording.
    ///
    /// # Errors
    /// [`VoiceError`]; so in all methods here.
    pub fn tombstone(&self, id: RecordingId) -> Result<Option<Tombstone>, VoiceError> {
        self.deleted().find(id)
    }

    /// The deleted ones among the recordings that were made on a UTC day.
    ///
    /// # Errors
    /// [`VoiceError`].
    pub fn deleted_of(&self, day: WallTime) -> Result<Vec<Tombstone>, VoiceError> {
        self.deleted().of_day(day)
    }

    /// Deletes a recording. When this returns nothing of it lies here any more but its tombstone, which lasts,
    /// and the note that it is being deleted: once it is in no list either, call [`VoiceStore::deletion_done`].
    /// It may be called again, and for a recording of which nothing lies here.
    ///
    /// # Errors
    /// [`VoiceError`]; it is tried again at the next start.
    pub fn delete(&self, tombstone: &Tombstone) -> Result<(), VoiceError> {
        let id = tombstone.recordingid;
        let _alone = self.alone(id);
        let known = self.deleted().find(id)?;
        if known.is_none() {
            let folder = self.path(naming::deleting_folder());
            let made = self.disk().make_folder(&folder);
            made.map_err(|error| VoiceError::io("cannot make folder", &folder, error))?;
            let written = self.path(naming::sealing_deletion_file(id));
            let json = serde_json::to_vec_pretty(tombstone);
            let json =
                json.map_err(|error| VoiceError::io("cannot write", &written, error.into()))?;
            self.write_small(&written, &json)?;
            self.rename(&written, &self.path(naming::deleting_file(id)))?;
            self.sync_folder(&folder)?;
            self.deleted().add(tombstone)?;
        }
        // As long as the note is there, what was done may not be stated yet.
        let begun = self.exists(&self.path(naming::deleting_file(id)));
        self.erase(known.as_ref().unwrap_or(tombstone), begun)
    }

    /// A deleted recording is in no list any more.
    ///
    /// # Errors
    /// [`VoiceError`].
    pub fn deletion_done(&self, id: RecordingId) -> Result<(), VoiceError> {
        if self.remove_if_there(&self.path(naming::deleting_file(id)))? {
            self.sync_folder(&self.path(naming::deleting_folder()))?;
        }
        Ok(())
    }

    /// Deletes what was being deleted when the power failed. The recordings may still be listed.
    pub(crate) fn finish_deletions(&self) -> Result<Vec<Tombstone>, VoiceError> {
        let folder = self.path(naming::deleting_folder());
        let names = match self.disk().list(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            listed => listed.map_err(|error| VoiceError::io("cannot list", &folder, error))?,
        };
        let mut deleted = Vec::new();
        for name in names {
            let path = folder.join(&name.name);
            let read = read_whole(self.disk(), &path, NOTE_BYTES_MAX);
            let read = read.map_err(|error| VoiceError::io("cannot read", &path, error))?;
            let Ok(tombstone) = serde_json::from_slice::<Tombstone>(&read) else {
                // It got its name when it was whole; what it is instead is a person's matter.
                let what = io::Error::new(io::ErrorKind::InvalidData, "no tombstone of ours");
                return Err(VoiceError::io("cannot read", &path, what));
            };
            let _alone = self.alone(tombstone.recordingid);
            self.deleted().add(&tombstone)?;
            self.erase(&tombstone, true)?;
            deleted.push(tombstone);
        }
        Ok(deleted)
    }

    /// Removes the files, the key first. What is removed is stated, `anew` in any case.
    fn erase(&self, tombstone: &Tombstone, anew: bool) -> Result<(), VoiceError> {
        let id = tombstone.recordingid;
        let mut removed = self.erase_unpublished(id)?;
        let folders = self.folders_near(tombstone);
        let all = |names: &[String]| -> Result<bool, VoiceError> {
            let mut any = false;
            for folder in &folders {
                let mut here = false;
                for name in names {
                    here |= self.remove_if_there(&folder.join(name))?;
                }
                if here {
                    self.sync_folder(folder)?;
                }
                any |= here;
            }
            Ok(any)
        };
        removed |= all(&[naming::keys_name(id)])?;
        let voices = [VoiceFormat::Wav, VoiceFormat::Opus].into_iter().flat_map(|format| {
            let plain = naming::voice_name(id, format);
            [naming::encrypted_name(&plain), plain]
        });
        removed |= all(&voices.collect::<Vec<_>>())?;
        // The record goes last: as long as it is there, somebody who looks finds that something was.
        removed |= all(&[naming::record_name(id)])?;
        if anew || removed { self.state_deleted(tombstone) } else { Ok(()) }
    }

    /// What is staged or being published, by this node or as a copy, and what was put aside. What is still being written is not
    /// staged when it is whole.
    fn erase_unpublished(&self, id: RecordingId) -> Result<bool, VoiceError> {
        let folders = [naming::publishing_folder(), naming::staged_folder()];
        let of_copies = folders.each_ref().map(|folder| naming::of_copies(folder));
        let aside = [naming::damaged_folder()];
        let of_it =
            |name: &str| name.split('.').next().is_some_and(|begin| begin.parse() == Ok(id));
        let mut any = false;
        let all = folders.into_iter().chain(of_copies).chain(aside);
        for folder in all.map(|folder| self.path(folder)) {
            let names = match self.names(&folder) {
                // Nothing was ever put aside.
                Err(VoiceError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    continue;
                }
                names => names?,
            };
            let mut here = false;
            for name in names.iter().filter(|name| of_it(name)) {
                here |= self.remove_if_there(&folder.join(name))?;
            }
            if here {
                self.sync_folder(&folder)?;
            }
            any |= here;
        }
        Ok(any)
    }

    /// The folders in which a revision may lie.
    fn folders_near(&self, tombstone: &Tombstone) -> Vec<PathBuf> {
        let first = tombstone.started - DAY * DAYS_BESIDE;
        let days = (0..=2 * DAYS_BESIDE).map(|day| first + DAY * day);
        days.map(|day| self.path(naming::day_folder(day))).collect()
    }
}
