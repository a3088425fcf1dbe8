//! Whether what lies here of a recording can still be read as it was written, and what becomes of damaged
//! files once a right copy is at hand: they are kept aside, under the names that they had. When files are
//! read over, how fast, and from where a right copy comes, is decided elsewhere.
//!
//! A data key that is not there is no damage: it may have been erased on purpose. What is not there at all is
//! the copies' matter ([`crate::copy`]).

use std::io;
use std::path::PathBuf;

use sha2::{Digest, Sha256};
use storage_core::record::VoiceFormat;
use storage_core::{Recording, RecordingId, hex, naming};

use crate::disk::{DiskFile, read_full_at, read_whole};
use crate::voice_file::VoiceError;
use crate::voice_store::VoiceStore;

/// Read in pieces of this size.
const PIECE_BYTES: usize = 64 << 10;
/// Longest note of how far the files have been read over.
const NOTE_BYTES_MAX: usize = 1 << 20;

/// A file that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it, in words.
    pub what: String,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Examined {
    /// All is as it was written.
    Whole,
    /// This file is damaged.
    Damaged(Damage),
    /// Nothing lies here that could be compared: no file, another revision, one without its key.
    Nothing,
    /// Somebody did not want to go on.
    Stopped,
}

impl VoiceStore {
    /// Reads what lies here of a recording that is listed. `goes_on` hears of each piece that was read, in
    /// bytes, and tells whether to go on; it may take its time.
    pub fn examine(&self, listed: &Recording, goes_on: &mut dyn FnMut(usize) -> bool) -> Examined {
        let found = self.read_over(listed, goes_on);
        if !matches!(found, Examined::Damaged(_)) {
            return found;
        }
        // A later revision may have taken its place meanwhile, or it is gone for good.
        let _alone = self.alone(listed.recordingid);
        let still = match self.record(listed.recordingid, listed.started) {
            Ok(beside) => is_it(&beside, listed),
            Err(error) => !is_missing(&error),
        };
        if still && !self.is_deleted(listed.recordingid) { found } else { Examined::Nothing }
    }

    fn read_over(&self, listed: &Recording, goes_on: &mut dyn FnMut(usize) -> bool) -> Examined {
        let beside = match self.record(listed.recordingid, listed.started) {
            Ok(beside) => beside,
            Err(error) if is_missing(&error) => return Examined::Nothing,
            Err(error) => return damaged(self.record_path(listed), in_words(&error)),
        };
        if !is_it(&beside, listed) {
            return Examined::Nothing;
        }
        let path = self.voice_path(&beside);
        // What lies in an archive only is not read over from there.
        let file = match self.look(&beside).and_then(|found| self.unlock(found)) {
            Ok(file) => file,
            Err(VoiceError::KeysFile { path, why }) => return damaged(path, why.to_string()),
            Err(VoiceError::Altered { path }) => {
                return damaged(path, "it is not what its record says".to_owned());
            }
            Err(VoiceError::Io { source, .. }) if source.kind() != io::ErrorKind::NotFound => {
                return damaged(path, source.to_string());
            }
            Err(_) => return Examined::Nothing,
        };
        match hash(&*file, goes_on) {
            Ok(Some(sha256)) if sha256 == beside.sha256 => Examined::Whole,
            Ok(Some(sha256)) => damaged(
                path,
                format!("its SHA-256 is {sha256}, and its record says {}", beside.sha256),
            ),
            Ok(None) => Examined::Stopped,
            Err(error) => damaged(path, error.to_string()),
        }
    }

    /// Puts what is damaged of a recording aside, so that a right copy can take its place. The record stays
    /// if it can be read.
    pub(crate) fn set_aside(&self, listed: &Recording) -> Result<(), VoiceError> {
        let _alone = self.alone(listed.recordingid);
        let aside = self.path(naming::damaged_folder());
        let made = self.disk().make_folder(&aside);
        made.map_err(|error| VoiceError::io("cannot make folder", &aside, error))?;
        let day = self.path(naming::day_folder(listed.started));
        let mut names = Vec::new();
        for format in [VoiceFormat::Wav, VoiceFormat::Opus] {
            let plain = naming::voice_name(listed.recordingid, format);
            names.extend([naming::encrypted_name(&plain), plain]);
        }
        if let Err(error) = self.record(listed.recordingid, listed.started)
            && !is_missing(&error)
        {
            names.push(naming::record_name(listed.recordingid));
        }
        for name in names {
            let from = day.join(&name);
            match self.disk().rename(&from, &aside.join(&name)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                done => done.map_err(|error| VoiceError::io("cannot rename", &from, error))?,
            }
        }
        self.sync_folder(&aside)?;
        self.sync_folder(&day)
    }

    /// The recordings of which something damaged was put aside, each with the file.
    ///
    /// # Errors
    /// [`VoiceError`]; so in all methods here.
    pub fn aside(&self) -> Result<Vec<(RecordingId, PathBuf)>, VoiceError> {
        let folder = self.path(naming::damaged_folder());
        let listed = match self.disk().list(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            listed => listed.map_err(|error| VoiceError::io("cannot list", &folder, error))?,
        };
        let names = listed.into_iter().map(|entry| entry.name);
        let of = |name: &str| name.split('.').next().and_then(|id| id.parse().ok());
        Ok(names.filter_map(|name| Some((of(&name)?, folder.join(&name)))).collect())
    }

    /// The note of how far the files have been read over; none if there is none that can be read.
    #[must_use]
    pub fn scrub_note(&self) -> Option<Vec<u8>> {
        read_whole(self.disk(), &self.path(naming::SCRUB_FILE.into()), NOTE_BYTES_MAX).ok()
    }

    /// Replaces that note.
    ///
    /// # Errors
    /// [`VoiceError`].
    pub fn note_scrub(&self, note: &[u8]) -> Result<(), VoiceError> {
        let path = self.path(naming::SCRUB_FILE.into());
        let new = path.with_extension("new");
        self.write_small(&new, note)?;
        self.rename(&new, &path)
    }
}

/// Whether a record that lies here is of the file that is listed.
fn is_it(beside: &Recording, listed: &Recording) -> bool {
    beside.recordingid == listed.recordingid
        && beside.revision == listed.revision
        && beside.sha256 == listed.sha256
}

fn damaged(path: PathBuf, what: String) -> Examined {
    Examined::Damaged(Damage { path, what })
}

fn is_missing(error: &VoiceError) -> bool {
    matches!(error, VoiceError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

fn in_words(error: &VoiceError) -> String {
    match error {
        VoiceError::Io { source, .. } => source.to_string(),
        VoiceError::Record { source, .. } => format!("it is no readable record ({source})"),
        error => error.to_string(),
    }
}

/// SHA-256 of a file; `None` if somebody did not want to go on.
fn hash(file: &dyn DiskFile, goes_on: &mut dyn FnMut(usize) -> bool) -> io::Result<Option<String>> {
    let mut sha256 = Sha256::new();
    let mut piece = vec![0; PIECE_BYTES];
    let mut offset = 0;
    loop {
        let count = read_full_at(file, &mut piece, offset)?;
        if count == 0 {
            return Ok(Some(hex::encode(&sha256.finalize())));
        }
        sha256.update(&piece[..count]);
        offset += count as u64;
        if !goes_on(count) {
            return Ok(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use storage_core::WallTime;
    use storage_core::tombstone::{Deletion, Tombstone};
    use tempfile::TempDir;

    use super::*;
    use crate::disk::RealDisk;

    const AUDIO: &[u8] = b"RIFF and so on";

    fn record(day: i64) -> Recording {
        let id = RecordingId::new(WallTime::from_millis(day * 86_400_000), [7; 10]);
        serde_json::from_value(serde_json::json!({
            "recordingid": id, "callids": ["1"], "extension": "31001", "agentid": "", "calling": "", "called": "",
            "direction": "inbound", "trunkgroup": "", "trunkmember": "", "vdn": "", "split": "", "userdata": "",
            "parties": [], "started": WallTime::from_millis(day * 86_400_000), "ended": WallTime::from_millis(day * 86_400_000 + 1),
            "durationms": 1, "scope": "station", "trigger": "rule", "rule": "", "copy": 1, "node": 1, "segments": [],
            "gaps": [], "pauses": [], "complete": true,
            "quality": { "lossratio": 0.0, "jitterms": 0.0, "clockdriftppm": 0.0 },
            "format": "wavg711", "bytes": AUDIO.len(), "sha256": hex::encode(&Sha256::digest(AUDIO)), "tags": [],
            "notes": [], "hold": false,
        }))
        .expect("a record")
    }

    /// A store with one copy of a recording.
    fn store(dir: &Path) -> (VoiceStore, Recording) {
        let store = VoiceStore::open_on(RealDisk::shared(), dir).expect("folders");
        let known = record(20_000);
        let mut copy = store.copy(&known).expect("begun");
        copy.write(AUDIO).expect("written");
        let lies = copy.finish().expect("published");
        (store, lies)
    }

    fn examined(store: &VoiceStore, record: &Recording) -> Examined {
        store.examine(record, &mut |_| true)
    }

    #[test]
    fn each_kind_of_damage_is_named_and_what_is_not_there_is_none() {
        let dir = TempDir::new().unwrap();
        let (store, record) = store(dir.path());
        assert_eq!(examined(&store, &record), Examined::Whole);
        assert_eq!(store.examine(&record, &mut |_| false), Examined::Stopped);
        let voice = store.voice_path(&record);
        let names = |found: Examined, path: &Path, word: &str| {
            let Examined::Damaged(damage) = found else { panic!("{found:?}") };
            assert!(damage.path == path && damage.what.contains(word), "{damage:?}");
        };
        let flipped: Vec<_> = AUDIO.iter().map(|byte| byte ^ u8::from(*byte == b's')).collect();
        fs::write(&voice, flipped).unwrap();
        names(examined(&store, &record), &voice, "SHA-256");
        fs::write(&voice, &AUDIO[1..]).unwrap();
        names(examined(&store, &record), &voice, "not what its record says");
        fs::write(store.record_path(&record), "{").unwrap();
        names(examined(&store, &record), &store.record_path(&record), "no readable record");
        // A later revision than is listed, or none: there is nothing to compare.
        let later = Recording { revision: 2, ..record.clone() };
        fs::write(store.record_path(&record), serde_json::to_vec(&later).unwrap()).unwrap();
        assert_eq!(examined(&store, &record), Examined::Nothing);
        fs::remove_file(&voice).unwrap();
        assert_eq!(examined(&store, &later), Examined::Nothing);
    }

    #[test]
    fn what_is_damaged_goes_aside_when_a_right_copy_comes_and_not_before() {
        let dir = TempDir::new().unwrap();
        let (store, record) = store(dir.path());
        let voice = store.voice_path(&record);
        let rotten = b"RIFF and so oh";
        fs::write(&voice, rotten).unwrap();
        let mut wrong = store.copy(&record).unwrap();
        wrong.write(b"RIFF and so no").unwrap();
        assert!(wrong.finish_over_damage().is_err(), "another one");
        assert_eq!(fs::read(&voice).unwrap(), rotten, "it is all that there is");
        let mut right = store.copy(&record).unwrap();
        right.write(AUDIO).unwrap();
        right.finish_over_damage().unwrap();
        assert_eq!(fs::read(&voice).unwrap(), AUDIO);
        assert_eq!(examined(&store, &record), Examined::Whole);
        let aside = store.aside().unwrap();
        assert_eq!(aside.len(), 1);
        assert_eq!(aside[0].0, record.recordingid);
        assert_eq!(fs::read(&aside[0].1).unwrap(), rotten);
        // What is deleted is deleted there, too.
        let (by, reason) = ("anna".to_owned(), "asked for".to_owned());
        let deletion = Deletion { at: record.ended, node: record.node, by, reason };
        store.delete(&Tombstone::of(&record, deletion)).unwrap();
        assert_eq!(store.aside().unwrap(), []);
    }

    #[test]
    fn the_note_is_read_as_it_was_written() {
        let dir = TempDir::new().unwrap();
        let (store, _) = store(dir.path());
        assert_eq!(store.scrub_note(), None);
        store.note_scrub(b"so far").unwrap();
        store.note_scrub(b"farther").unwrap();
        assert_eq!(store.scrub_note().unwrap(), b"farther");
    }
}
