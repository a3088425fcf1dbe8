//! Notes on large voice files that are on their way into the archive in parts, so that after a restart those parts are
//! not put there again. A note is a hint: where it is missing, or wrong, the file is put there from the begin, and
//! what lies there in the end is read back and compared in any case. So nothing here is synced.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use storage_core::RecordingId;
use storage_core::naming::ARCHIVE_FOLDER;

use super::target::Upload;

/// How far a voice file has got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Where to.
    pub place: String,
    /// Under which name.
    pub name: String,
    /// The archive's name for what is on its way.
    pub upload: String,
    /// Length of the whole.
    pub bytes: u64,
    /// SHA-256 of the whole.
    pub stored: String,
    /// The archive's words for the parts that are there, in order.
    pub parts: Vec<String>,
}

impl Note {
    /// The upload that it speaks of.
    #[must_use]
    pub fn upload(&self) -> Upload {
        Upload { name: self.name.clone(), id: self.upload.clone() }
    }

    /// Whether the same bytes are to go to the same place.
    #[must_use]
    pub fn is_for(&self, place: &str, name: &str, bytes: u64, stored: &str) -> bool {
        (&*self.place, &*self.name, self.bytes, &*self.stored) == (place, name, bytes, stored)
    }
}

/// The folder of the notes. All of it blocks.
#[derive(Clone, Debug)]
pub struct Notes {
    folder: PathBuf,
}

impl Notes {
    /// Those of a data folder.
    #[must_use]
    pub fn new(datadir: &Path) -> Self {
        Self { folder: datadir.join(ARCHIVE_FOLDER) }
    }

    fn path(&self, recording: RecordingId) -> PathBuf {
        self.folder.join(format!("{recording}.json"))
    }

    /// That of a recording, if there is one that can be read.
    #[must_use]
    pub fn read(&self, recording: RecordingId) -> Option<Note> {
        serde_json::from_slice(&fs::read(self.path(recording)).ok()?).ok()
    }

    /// Writes it.
    ///
    /// # Errors
    /// As the disk gives them; the voice file goes on without.
    pub fn write(&self, recording: RecordingId, note: &Note) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let written = self.folder.join(format!("{recording}.new"));
        fs::write(&written, serde_json::to_vec(note)?)?;
        fs::rename(written, self.path(recording))
    }

    /// Forgets it.
    pub fn forget(&self, recording: RecordingId) {
        // One that stays is held against the bytes before it is believed.
        let _ = fs::remove_file(self.path(recording));
    }
}

#[cfg(test)]
mod tests {
    use storage_core::WallTime;

    use super::*;

    #[test]
    fn a_note_is_for_these_bytes_at_this_place_and_a_broken_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let notes = Notes::new(dir.path());
        let id = RecordingId::new(WallTime::from_millis(5), [1; 10]);
        assert_eq!(notes.read(id), None);
        let note = Note {
            place: "s3://b".to_owned(),
            name: "x.wav".to_owned(),
            upload: "7".to_owned(),
            bytes: 9,
            stored: "aa".to_owned(),
            parts: vec!["tag".to_owned()],
        };
        notes.write(id, &note).unwrap();
        assert_eq!(notes.read(id), Some(note.clone()));
        assert!(note.is_for("s3://b", "x.wav", 9, "aa"));
        assert!(!note.is_for("s3://c", "x.wav", 9, "aa"));
        assert!(!note.is_for("s3://b", "x.wav", 9, "bb"));
        fs::write(notes.path(id), "{").unwrap();
        assert_eq!(notes.read(id), None);
        notes.forget(id);
        notes.forget(id);
    }
}
