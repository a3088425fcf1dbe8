//! Data keys as they are kept: wrapped (encrypted) with a key of the key file, whose name stands beside
//! them. And the small file beside an encrypted voice file that holds its data key. Nothing is encrypted
//! here.
//!
//! A data key of 32 random bytes encrypts one voice file or one captured segment. It is wrapped with
//! AES-256-GCM: a random nonce of 12 bytes, and 48 bytes of ciphertext with its tag behind it. What it
//! is the key of is bound to it as associated data, a text in UTF-8:
//!
//! ```text
//! astlogger voice 1 RECORDINGID FILE        FILE: 14 digits, the nonce prefix in the voice file's header
//! astlogger segment 1 RECORDINGID SEGMENT   SEGMENT: its number, decimal
//! ```
//!
//! Random nonces serve for 2^32 wrappings with one key (NIST SP 800-38D, 8.3), which is a hundred
//! recordings a second for a year.
//!
//! The file beside the voice file, `RECORDINGID.key`:
//!
//! ```json
//! {"version": 1, "recordingid": "0192…", "keys": [
//!   {"file": "0b5e2c77a1903f", "name": "2026-11", "nonce": "24 digits", "wrapped": "96 digits"}]}
//! ```
//!
//! Two keys are in it only while one revision replaces another. Without this file the voice file is
//! erased, wherever copies of it may be.

use serde::{Deserialize, Serialize};

use crate::cipher_file::FilePrefix;
use crate::hex;
use crate::ids::{RecordingId, SegmentId};
use crate::key_file::KeyName;

/// Length of a nonce of AES-GCM.
pub const NONCE_BYTES: usize = 12;
/// Length of a data key with its tag.
pub const WRAPPED_BYTES: usize = 48;
/// Longest file of data keys that is read.
pub const KEYS_FILE_BYTES_MAX: usize = 16 << 10;
/// A reader takes no more than this from one file.
const FILE_KEYS_MAX: usize = 8;
const VERSION: u32 = 1;

/// A data key as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrappedKey {
    /// The key of the key file that it is wrapped with.
    pub name: KeyName,
    /// The wrapping's nonce.
    #[serde(with = "digits")]
    pub nonce: [u8; NONCE_BYTES],
    /// Data key and tag, encrypted.
    #[serde(with = "digits")]
    pub wrapped: [u8; WRAPPED_BYTES],
}

/// What a data key is the key of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyUse {
    /// One voice file of a recording.
    Voice(RecordingId, FilePrefix),
    /// One segment that this node has captured.
    Segment(RecordingId, SegmentId),
}

impl KeyUse {
    /// The text that is bound to the wrapped key.
    #[must_use]
    pub fn associated(&self) -> String {
        match self {
            Self::Voice(id, file) => format!("astlogger voice 1 {id} {}", hex::encode(&file.0)),
            Self::Segment(id, segment) => format!("astlogger segment 1 {id} {segment}"),
        }
    }
}

/// The data key of one voice file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileKey {
    /// Which file: what its header says.
    #[serde(with = "digits_of_prefix")]
    pub file: FilePrefix,
    /// Its key.
    #[serde(flatten)]
    pub key: WrappedKey,
}

/// The file beside a voice file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysFile {
    version: u32,
    /// The recording.
    pub recordingid: RecordingId,
    /// One, or two while a revision replaces another; the newer one first.
    pub keys: Vec<FileKey>,
}

/// Why bytes are no file of data keys.
#[derive(Debug, thiserror::Error)]
pub enum KeysFileError {
    /// Not JSON of ours.
    #[error("it is no file of data keys")]
    Form(#[from] serde_json::Error),
    /// Of a later program.
    #[error("its version {0} is newer than this program knows ({VERSION})")]
    Version(u32),
    /// None in it, or more than there can be.
    #[error("it holds {0} keys")]
    Count(usize),
}

impl KeysFile {
    /// With one key.
    #[must_use]
    pub fn new(recordingid: RecordingId, key: FileKey) -> Self {
        Self { version: VERSION, recordingid, keys: vec![key] }
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`KeysFileError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, KeysFileError> {
        let file: Self = serde_json::from_slice(bytes)?;
        if file.version != VERSION {
            return Err(KeysFileError::Version(file.version));
        }
        if file.keys.is_empty() || file.keys.len() > FILE_KEYS_MAX {
            return Err(KeysFileError::Count(file.keys.len()));
        }
        Ok(file)
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self)
            .expect("texts and numbers have a JSON form, and memory takes it");
        bytes.push(b'\n');
        bytes
    }

    /// The key of a file.
    #[must_use]
    pub fn key(&self, file: FilePrefix) -> Option<&WrappedKey> {
        self.keys.iter().find(|known| known.file == file).map(|known| &known.key)
    }

    /// With the keys of another one behind its own: for the moment in which both files are there.
    /// `None` if that one holds no other key.
    #[must_use]
    pub fn beside(&self, before: &Self) -> Option<Self> {
        // Only the newest of those is the key of a file that is still there.
        let other = before.keys.first().filter(|key| self.key(key.file).is_none())?;
        let keys = self.keys.iter().chain([other]).cloned().collect();
        Some(Self { keys, ..*self })
    }
}

mod digits {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::hex;

    pub fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(bytes))
    }

    pub fn deserialize<'de, const N: usize, D: Deserializer<'de>>(
        from: D,
    ) -> Result<[u8; N], D::Error> {
        let text = String::deserialize(from)?;
        let wrong = || serde::de::Error::custom(format!("not {} hexadecimal digits", 2 * N));
        hex::decode(&text).ok_or_else(wrong)
    }
}

mod digits_of_prefix {
    use serde::{Deserializer, Serializer};

    use crate::cipher_file::FilePrefix;

    pub fn serialize<S: Serializer>(file: &FilePrefix, to: S) -> Result<S::Ok, S::Error> {
        super::digits::serialize(&file.0, to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<FilePrefix, D::Error> {
        super::digits::deserialize(from).map(FilePrefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::WallTime;

    fn id() -> RecordingId {
        RecordingId::new(WallTime::from_millis(1), [7; 10])
    }

    fn key(file: u8) -> FileKey {
        let name = "k1".parse().unwrap();
        let key = WrappedKey { name, nonce: [1; NONCE_BYTES], wrapped: [2; WRAPPED_BYTES] };
        FileKey { file: FilePrefix([file; 7]), key }
    }

    #[test]
    fn a_file_of_data_keys_goes_both_ways() {
        let file = KeysFile::new(id(), key(3));
        assert_eq!(KeysFile::decode(&file.encode()).unwrap(), file);
        let text = String::from_utf8(file.encode()).unwrap();
        for wrong in [
            text.replace("\"version\": 1", "\"version\": 2"),
            text.replace("0303", "03"),
            text.replace("0202", "0 02"),
            text.replace("k1", "k 1"),
            text.replace("recordingid", "id"),
            "{}".to_owned(),
        ] {
            assert!(KeysFile::decode(wrong.as_bytes()).is_err(), "{wrong}");
        }
        let none = KeysFile { keys: vec![], ..file };
        assert!(matches!(KeysFile::decode(&none.encode()), Err(KeysFileError::Count(0))));
    }

    #[test]
    fn two_keys_stand_side_by_side_for_a_moment() {
        let (old, new) = (KeysFile::new(id(), key(3)), KeysFile::new(id(), key(4)));
        let both = new.beside(&old).unwrap();
        assert_eq!(both.keys, [key(4), key(3)]);
        assert_eq!(both.key(FilePrefix([3; 7])), Some(&key(3).key));
        assert_eq!(both.key(FilePrefix([5; 7])), None);
        // A third one: the oldest has no file any more.
        let third = KeysFile::new(id(), key(5));
        assert_eq!(third.beside(&both).unwrap().keys, [key(5), key(4)]);
        assert_eq!(new.beside(&both), None, "nothing is beside it but itself");
    }

    #[test]
    fn what_a_key_is_for_is_bound_to_it() {
        let (voice, segment) =
            (KeyUse::Voice(id(), FilePrefix([0xab; 7])), KeyUse::Segment(id(), SegmentId(12)));
        assert_eq!(voice.associated(), format!("astlogger voice 1 {} {}", id(), "ab".repeat(7)));
        assert_eq!(segment.associated(), format!("astlogger segment 1 {} 12", id()));
    }
}
