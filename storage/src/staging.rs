//! How a sealed recording becomes visible, in two steps: it is staged when its voice file is
//! written, and published once the group has agreed to it. And what is left to do after a crash in
//! the middle of either.
//!
//! ```text
//! written ──stage──▶ .staged/ID.REV.wav, .json ──publish_staged──▶ .publishing/ID.REV.json
//!                              │                                        │ voice, record take
//!                           discard                                     ▼ their final names
//!                                                                2026/11/23/ID.wav, ID.json
//! ```
//!
//! A recording exists once its record (JSON) has its final name, and a record never stands without
//! its voice file: each step is durable before the next. The record in the folder of what is being
//! published says that publishing has begun; whatever happens, [`VoiceStore::finish`] ends it at
//! the next start, and does not touch what is merely staged.
//!
//! An encrypted voice file has a third part, its wrapped data key. It is durable under its final name
//! before the voice file is, so that no voice file stands without its key. While one revision replaces
//! another, both keys stand in that file, so that whichever of the two files is there can be read.
//!
//! ```text
//! .staged/ID.REV.key ──with the key before──▶ ID.key ──▶ ID.wav.enc, ID.json ──▶ ID.key alone
//! ```
//!
//! What comes from another member takes the same way in folders of its own ([`naming::of_copies`]), so
//! that it never meets what this node seals of the same recording; of the two the later revision stays.
//!
//! A later revision replaces the earlier one, which may lie in another day's folder (audio from
//! before its begin was found) or be of another form. The earlier one goes when the later one is
//! durable. Where both have one name, the older record stands beside the newer voice file for a
//! moment. The newer record is written down by then, so a full disk cannot come in between.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use storage_core::marks::Marks;
use storage_core::record::VoiceFormat;
use storage_core::tombstone::Tombstone;
use storage_core::wrapped_key::KeysFile;
use storage_core::{Recording, RecordingId, naming};

use crate::voice_file::{FinishedVoice, VoiceError};
use crate::voice_out::hash;
use crate::voice_store::VoiceStore;

/// A first revision lies in the folder of its own day or of one beside it, should it have been
/// published before.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A recording that is written durably and not published.
#[derive(Clone, Debug, PartialEq)]
pub struct Staged {
    record: Recording,
}

impl Staged {
    /// Its record, with what only the file can tell (`format`, `bytes`, `sha256`).
    #[must_use]
    pub const fn record(&self) -> &Recording {
        &self.record
    }
}

/// What [`VoiceStore::finish`] did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Unfinished {
    /// Recordings whose deletion had begun; they may still be listed.
    pub deleted: Vec<Tombstone>,
    /// Recordings whose publishing had begun and is complete now.
    pub published: Vec<Recording>,
    /// Files removed that were half written; their recordings are still in the capture journal, or
    /// with another member.
    pub removed: usize,
}

impl VoiceStore {
    /// Lays a voice file and its record down durably, so that [`VoiceStore::publish_staged`] can
    /// make them visible. The same revision staged before is replaced.
    ///
    /// # Errors
    /// [`VoiceError`]. It may be tried again from the begin; what is published is not touched.
    pub fn stage(&self, voice: FinishedVoice, mut record: Recording) -> Result<Staged, VoiceError> {
        let FinishedVoice { id, format, bytes, sha256, path: sealing_voice, file, key } = voice;
        if record.recordingid != id {
            return Err(VoiceError::Mismatch { record: record.recordingid, voice: id });
        }
        if self.is_deleted(id) {
            self.remove_if_there(&sealing_voice)?;
            return Err(VoiceError::Deleted { id });
        }
        (record.format, record.bytes, record.sha256) = (format, bytes, sha256);
        record.encrypted = key.is_some();
        file.sync().map_err(|error| VoiceError::io("cannot sync", &sealing_voice, error))?;
        let staged = Staged { record };
        let sealing_record = self.work(naming::sealing_record_file(id, staged.record.revision));
        self.write_record(&sealing_record, &staged.record)?;
        let sealing_keys = self.work(naming::sealing_keys_file(id, staged.record.revision));
        if let Some(key) = key {
            self.write_keys(&sealing_keys, &KeysFile::new(id, key))?;
        }
        let folder = self.work(naming::staged_folder());
        let record_path = self.staged_record(&staged.record);
        if self.remove_if_there(&record_path)? {
            // From here on the older attempt is no whole pair. It may have been of another form.
            self.sync_folder(&folder)?;
            let Recording { encrypted, .. } = staged.record;
            let other = Recording { encrypted: !encrypted, ..staged.record.clone() };
            self.remove_if_there(&self.staged_voice(&other))?;
            if !encrypted {
                self.remove_if_there(&self.staged_keys(&other))?;
            }
        }
        if staged.record.encrypted {
            self.rename(&sealing_keys, &self.staged_keys(&staged.record))?;
        }
        self.rename(&sealing_voice, &self.staged_voice(&staged.record))?;
        self.sync_folder(&folder)?;
        self.rename(&sealing_record, &record_path)?;
        self.sync_folder(&folder)?;
        Ok(staged)
    }

    /// Publishes what was staged, and returns the record as it is published: with the tags, notes
    /// and hold that people gave the revision before. When this returns it is durable, and the
    /// revision before is gone. It may be called again, after an error as well as after success.
    ///
    /// # Errors
    /// [`VoiceError`]. What was there before is still there; or it is the next start that
    /// completes what has begun.
    pub fn publish_staged(&self, staged: &Staged) -> Result<Recording, VoiceError> {
        let record = &staged.record;
        if self.is_deleted(record.recordingid) {
            self.discard(staged)?;
            return Err(VoiceError::Deleted { id: record.recordingid });
        }
        let from = self.staged_record(record);
        let note = self.note(record);
        match self.disk().rename(&from, &note) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let there = self.record(record.recordingid, record.started);
                match there {
                    Ok(there) if there.sha256 == record.sha256 && !self.exists(&note) => {
                        return Ok(there);
                    }
                    _ if self.exists(&note) => {}
                    _ => return Err(VoiceError::io("cannot publish", &from, error)),
                }
            }
            Err(error) => return Err(VoiceError::io("cannot rename", &from, error)),
        }
        self.sync_folder(&self.work(naming::publishing_folder()))?;
        self.complete(record.clone())
    }

    /// What is staged and whole; what is half written is removed. To be called at a start, after
    /// [`VoiceStore::finish`].
    ///
    /// # Errors
    /// [`VoiceError`].
    pub fn staged(&self) -> Result<Vec<Staged>, VoiceError> {
        let folder = self.work(naming::staged_folder());
        let names = self.names(&folder)?;
        let mut whole = Vec::new();
        let mut kept = Vec::new();
        for (id, revision) in names.iter().filter_map(|name| naming::revision_of(name)) {
            let path = self.work(naming::staged_record_file(id, revision));
            let Ok(record) = self.read_record(&path) else { continue };
            let (voice, keys) = (self.staged_voice(&record), self.staged_keys(&record));
            let same = (record.recordingid, record.revision) == (id, revision);
            if same && self.find(voice.clone(), std::slice::from_ref(&keys), &record).is_ok() {
                kept.extend([path, voice]);
                kept.extend(record.encrypted.then_some(keys));
                whole.push(Staged { record });
            }
        }
        for name in names {
            let path = folder.join(&name);
            if !kept.contains(&path) && !self.is_begun(&name) {
                self.remove(&path)?;
            }
        }
        Ok(whole)
    }

    /// Removes what was staged.
    ///
    /// # Errors
    /// [`VoiceError`]; it may be tried again.
    pub fn discard(&self, staged: &Staged) -> Result<(), VoiceError> {
        self.remove_if_there(&self.staged_record(&staged.record))?;
        self.sync_folder(&self.work(naming::staged_folder()))?;
        self.remove_if_there(&self.staged_voice(&staged.record))?;
        self.remove_if_there(&self.staged_keys(&staged.record))?;
        Ok(())
    }

    /// Completes what was being published when the power failed, and removes what was being
    /// written. To be called at the start, before anything is sealed.
    ///
    /// # Errors
    /// [`VoiceError`].
    pub fn finish(&self) -> Result<Unfinished, VoiceError> {
        let deleted = self.finish_deletions()?;
        let mut unfinished = self.finish_work()?;
        unfinished.deleted = deleted;
        let copies = self.copies();
        let of_copies = copies.finish_work()?;
        unfinished.published.extend(of_copies.published);
        unfinished.removed += of_copies.removed;
        // One whose publishing has not begun comes again.
        for staged in copies.staged()? {
            copies.discard(&staged)?;
            unfinished.removed += 1;
        }
        Ok(unfinished)
    }

    fn finish_work(&self) -> Result<Unfinished, VoiceError> {
        let mut unfinished = Unfinished::default();
        let sealing = self.work(naming::sealing_folder());
        for name in self.names(&sealing)? {
            self.remove(&sealing.join(name))?;
            unfinished.removed += 1;
        }
        let publishing = self.work(naming::publishing_folder());
        let mut notes: Vec<_> = self.names(&publishing)?;
        // Of two revisions of one recording the later one counts.
        notes.sort_by_key(|name| naming::revision_of(name));
        for name in notes {
            let path = publishing.join(&name);
            let record = naming::revision_of(&name).and_then(|_| self.read_record(&path).ok());
            match record.filter(|record| self.note(record) == path && self.has_voice(record)) {
                Some(record) if self.is_deleted(record.recordingid) => {
                    self.drop_begun(&record)?;
                    unfinished.removed += 1;
                }
                Some(record) => unfinished.published.push(self.complete(record)?),
                None => {
                    self.remove(&path)?;
                    unfinished.removed += 1;
                }
            }
        }
        Ok(unfinished)
    }

    /// The published record of a recording, wherever its day is. It looks through all days, the
    /// latest first.
    ///
    /// # Errors
    /// [`VoiceError`] if the folders cannot be listed.
    pub fn published(&self, id: RecordingId) -> Result<Option<Recording>, VoiceError> {
        let found = self.records_in(id, self.day_folders()?.into_iter().rev());
        Ok(found.into_iter().max_by_key(|record| record.revision))
    }

    /// Gives voice and record their final names. The note that this has begun is durable.
    fn complete(&self, mut record: Recording) -> Result<Recording, VoiceError> {
        let _alone = self.alone(record.recordingid);
        if self.is_deleted(record.recordingid) {
            self.drop_begun(&record)?;
            return Err(VoiceError::Deleted { id: record.recordingid });
        }
        let before = self.revisions_of(&record)?;
        if let Some(newest) = before.iter().max_by_key(|before| before.revision) {
            if newest.revision > record.revision {
                self.drop_begun(&record)?;
                return Ok(newest.clone());
            }
            Marks::of(newest).merge_into(&mut record);
            if record.holdmark.is_none() {
                record.hold = newest.hold;
            }
        }
        let folder = self.path(naming::day_folder(record.started));
        let made = self.disk().make_folder(&folder);
        made.map_err(|error| VoiceError::io("cannot make folder", &folder, error))?;
        let ready = self.note(&record).with_extension("ready");
        self.write_record(&ready, &record)?;
        self.place_keys(&record, &folder)?;

        let staged_voice = self.staged_voice(&record);
        match self.disk().rename(&staged_voice, &self.voice_path(&record)) {
            Ok(()) => {}
            // It was given its name before the power failed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.voice(&record)?;
            }
            Err(error) => return Err(VoiceError::io("cannot rename", &staged_voice, error)),
        }
        self.sync_folder(&folder)?;
        self.rename(&ready, &self.record_path(&record))?;
        self.sync_folder(&folder)?;
        self.remove_older(&record, &before)?;
        self.settle_keys(&record, &folder)?;
        // As long as the note is there, a crash has it completed, and stated, once more.
        self.state(&record)?;
        self.remove_if_there(&self.note(&record))?;
        self.sync_folder(&self.work(naming::publishing_folder()))?;
        Ok(record)
    }

    /// Removes what was to be published, and is not to be any more.
    fn drop_begun(&self, record: &Recording) -> Result<(), VoiceError> {
        self.remove_if_there(&self.staged_voice(record))?;
        self.remove_if_there(&self.staged_keys(record))?;
        self.remove_if_there(&self.note(record)).map(drop)
    }

    /// Makes the data key of what is being published durable under its final name, beside the one
    /// that is there.
    fn place_keys(&self, record: &Recording, folder: &Path) -> Result<(), VoiceError> {
        let (staged, placed) = (self.staged_keys(record), self.keys_path(record));
        // A plain file has none; of one that was begun before the power failed it is in its place.
        let Some(new) = self.read_keys(&staged)? else { return Ok(()) };
        // One that cannot be read is of no use to the file that is there, either.
        let before = self.read_keys(&placed).unwrap_or_default();
        let both = before.and_then(|before| new.beside(&before));
        if let Some(both) = both {
            let Recording { recordingid, revision, .. } = *record;
            let written = self.work(naming::publishing_keys_file(recordingid, revision));
            self.write_keys(&written, &both)?;
            self.rename(&written, &placed)?;
        } else {
            self.rename(&staged, &placed)?;
        }
        self.sync_folder(folder)
    }

    /// Forgets the data key of what was replaced.
    fn settle_keys(&self, record: &Recording, folder: &Path) -> Result<(), VoiceError> {
        match self.disk().rename(&self.staged_keys(record), &self.keys_path(record)) {
            Ok(()) => self.sync_folder(folder),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(VoiceError::io("cannot rename", &self.staged_keys(record), error)),
        }
    }

    /// Removes what another revision has under other names, now that this one is durable.
    fn remove_older(&self, record: &Recording, before: &[Recording]) -> Result<(), VoiceError> {
        let elsewhere = |other: &&Recording| self.record_path(other) != self.record_path(record);
        for other in before.iter().filter(elsewhere) {
            let folder = self.path(naming::day_folder(other.started));
            // The record goes last: by it the voice file is found should the power fail.
            self.remove_if_there(&self.voice_path(other))?;
            self.remove_if_there(&self.keys_path(other))?;
            self.sync_folder(&folder)?;
            self.remove_if_there(&self.record_path(other))?;
            self.sync_folder(&folder)?;
        }
        let Recording { started, recordingid, .. } = *record;
        for format in [VoiceFormat::Wav, VoiceFormat::Opus] {
            let plain = self.path(naming::voice_file(started, recordingid, format));
            for voice in [naming::encrypted(plain.clone()), plain] {
                if voice != self.voice_path(record) && self.remove_if_there(&voice)? {
                    self.sync_folder(&self.path(naming::day_folder(started)))?;
                }
            }
        }
        if !record.encrypted && self.remove_if_there(&self.keys_path(record))? {
            self.sync_folder(&self.path(naming::day_folder(started)))?;
        }
        Ok(())
    }

    /// What is published of the same recording.
    fn revisions_of(&self, record: &Recording) -> Result<Vec<Recording>, VoiceError> {
        Ok(self.records_in(record.recordingid, self.days_of(record)?.into_iter()))
    }

    /// The folders in which a revision of a recording may lie.
    pub(crate) fn days_of(&self, record: &Recording) -> Result<Vec<PathBuf>, VoiceError> {
        if record.revision > 1 {
            return self.day_folders();
        }
        let days = [record.started - DAY, record.started, record.started + DAY];
        Ok(days.into_iter().map(|day| self.path(naming::day_folder(day))).collect())
    }

    fn records_in(&self, id: RecordingId, days: impl Iterator<Item = PathBuf>) -> Vec<Recording> {
        let name = naming::record_name(id);
        let records = days.filter_map(|day| self.read_record(&day.join(&name)).ok());
        records.filter(|record| record.recordingid == id).collect()
    }

    /// Whether the voice file of a record that is being published is whole, be it under its staged
    /// or under its final name.
    fn has_voice(&self, record: &Recording) -> bool {
        let keys = [self.staged_keys(record), self.keys_path(record)];
        let staged = self.staged_voice(record);
        let path = if self.exists(&staged) { staged } else { self.voice_path(record) };
        let Ok(found) = self.find(path, &keys, record) else { return false };
        match self.unlock(found) {
            Ok(file) => hash(&*file).is_ok_and(|(_, sha256)| sha256 == record.sha256),
            // It was durable before its publishing began. That its key is not at hand today is no
            // reason to throw it away.
            Err(error) => matches!(error, VoiceError::Key { .. }),
        }
    }

    /// Whether a staged file belongs to a record that is being published.
    fn is_begun(&self, name: &str) -> bool {
        let record = naming::staged_record_of(name);
        let note = record.map(|record| self.work(naming::publishing_folder()).join(record));
        note.is_some_and(|note| self.exists(&note))
    }

    fn staged_voice(&self, record: &Recording) -> PathBuf {
        let Recording { recordingid, revision, format, encrypted, .. } = record;
        let path = self.work(naming::staged_voice_file(*recordingid, *revision, *format));
        if *encrypted { naming::encrypted(path) } else { path }
    }

    fn staged_keys(&self, record: &Recording) -> PathBuf {
        self.work(naming::staged_keys_file(record.recordingid, record.revision))
    }

    fn staged_record(&self, record: &Recording) -> PathBuf {
        self.work(naming::staged_record_file(record.recordingid, record.revision))
    }

    fn note(&self, record: &Recording) -> PathBuf {
        self.work(naming::publishing_record_file(record.recordingid, record.revision))
    }

    pub(crate) fn exists(&self, path: &Path) -> bool {
        self.disk().open(path).is_ok()
    }

    /// The files in a folder.
    pub(crate) fn names(&self, folder: &Path) -> Result<Vec<String>, VoiceError> {
        let listed = self.disk().list(folder);
        let listed = listed.map_err(|error| VoiceError::io("cannot list", folder, error))?;
        Ok(listed.into_iter().filter(|entry| !entry.folder).map(|entry| entry.name).collect())
    }

    /// Tells whether it was there.
    pub(crate) fn remove_if_there(&self, path: &Path) -> Result<bool, VoiceError> {
        match self.disk().remove(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(VoiceError::io("cannot remove", path, error)),
        }
    }
}
