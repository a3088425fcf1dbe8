//! An encrypted file's bytes: its header, where its chunks lie, and the nonce of each. The cipher itself
//! is the shell's.
//!
//! ```text
//! header  magic "ALCIPHER" | version u16 | 0 u16 | chunk bytes u32 | prefix 7 | 0 u8 | recording 16
//! chunk   ciphertext of 65,536 bytes (the last one: of what is left) | tag 16
//! ```
//!
//! Numbers are little-endian but for the nonce's counter. Each chunk is encrypted with AES-256-GCM under
//! the file's data key; the 40 bytes of the header are its associated data. The construction is STREAM
//! (Hoang, Reyhanitabar, Rogaway, Vizár 2015, "Online authenticated-encryption and its nonce-reuse
//! misuse-resistance"):
//!
//! ```text
//! nonce   prefix 7 | number of the chunk, from 0, u32 big-endian | 1 in the last chunk, else 0
//! ```
//!
//! So a chunk that is altered, or put in another place or another file, is found when it is read, and
//! one that was cut off when the new last one is. Any chunk can be read without the others. A data key
//! is made for one file and used for no other, and a writer encrypts each chunk once, so no nonce comes
//! twice. An empty file has one chunk of no bytes.

use std::ops::Range;

use crate::ids::RecordingId;
use crate::journal::Fields;

/// Bytes of a chunk before encryption.
pub const CHUNK_BYTES: usize = 64 << 10;
/// Length of a tag.
pub const TAG_BYTES: usize = 16;
/// Length of the header.
pub const HEADER_BYTES: usize = 40;
/// Length of the nonce's part that is the file's own.
pub const PREFIX_BYTES: usize = 7;

const MAGIC: [u8; 8] = *b"ALCIPHER";
const VERSION: u16 = 1;

/// The random part of a file's nonces, which also names it among the files of its recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilePrefix(pub [u8; PREFIX_BYTES]);

impl FilePrefix {
    /// The nonce of a chunk.
    #[must_use]
    pub fn nonce(self, chunk: u32, last: bool) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[..7].copy_from_slice(&self.0);
        nonce[7..11].copy_from_slice(&chunk.to_be_bytes());
        nonce[11] = last.into();
        nonce
    }
}

/// The head of an encrypted file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CipherHeader {
    /// The nonces' prefix.
    pub file: FilePrefix,
    /// The recording whose audio it holds.
    pub recordingid: RecordingId,
}

/// Why bytes are no header of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CipherHeaderError {
    /// Something else.
    #[error("it is no encrypted file of ours")]
    Form,
    /// Of a later program.
    #[error("its version {0} is newer than this program knows ({VERSION})")]
    Version(u16),
}

impl CipherHeader {
    /// The bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&(CHUNK_BYTES as u32).to_le_bytes());
        bytes[16..23].copy_from_slice(&self.file.0);
        bytes[24..].copy_from_slice(self.recordingid.0.as_bytes());
        bytes
    }

    /// Reads them.
    ///
    /// # Errors
    /// [`CipherHeaderError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, CipherHeaderError> {
        let mut fields = Fields(bytes);
        let magic = fields.array().ok_or(CipherHeaderError::Form)?;
        let version = fields.u16().ok_or(CipherHeaderError::Form)?;
        if magic != MAGIC {
            return Err(CipherHeaderError::Form);
        }
        if version > VERSION {
            return Err(CipherHeaderError::Version(version));
        }
        let (Some(_), Some(_), Some(file), Some(_), Some(id)) =
            (fields.u16(), fields.u32(), fields.array(), fields.array::<1>(), fields.array())
        else {
            return Err(CipherHeaderError::Form);
        };
        let recordingid = RecordingId(uuid::Uuid::from_bytes(id));
        let header = Self { file: FilePrefix(file), recordingid };
        // The fields have one form only.
        if bytes.get(..HEADER_BYTES) == Some(&header.encode()) {
            Ok(header)
        } else {
            Err(CipherHeaderError::Form)
        }
    }
}

/// Where the chunks of a file lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Bytes before encryption.
    plain: u64,
}

/// A chunk of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Its number.
    pub number: u32,
    /// Where it begins in the file.
    pub offset: u64,
    /// Bytes there, its tag included.
    pub bytes: usize,
    /// Whether it is the last one.
    pub last: bool,
}

impl Layout {
    /// Of a file that holds so many bytes.
    #[must_use]
    pub const fn of_plain(plain: u64) -> Self {
        Self { plain }
    }

    /// Of a file that is so long; `None` if none can be.
    #[must_use]
    pub fn of_file(length: u64) -> Option<Self> {
        let chunk = (CHUNK_BYTES + TAG_BYTES) as u64;
        let body = length.checked_sub(HEADER_BYTES as u64)?;
        let chunks = body.div_ceil(chunk).max(1);
        let layout = Self { plain: body.checked_sub(chunks * TAG_BYTES as u64)? };
        (layout.file_bytes() == length && u32::try_from(chunks).is_ok()).then_some(layout)
    }

    /// Bytes before encryption.
    #[must_use]
    pub const fn plain_bytes(self) -> u64 {
        self.plain
    }

    /// Length of the file.
    #[must_use]
    pub const fn file_bytes(self) -> u64 {
        HEADER_BYTES as u64 + self.plain + self.chunks() * TAG_BYTES as u64
    }

    const fn chunks(self) -> u64 {
        let chunks = self.plain.div_ceil(CHUNK_BYTES as u64);
        if chunks == 0 { 1 } else { chunks }
    }

    /// The chunk that holds the byte at `offset` of what was encrypted, and where in it that lies.
    /// `None` beyond the end; of an empty file the end is in its only chunk.
    #[must_use]
    pub fn chunk_at(self, offset: u64) -> Option<(Chunk, usize)> {
        let number = offset / CHUNK_BYTES as u64;
        if number >= self.chunks() || offset > self.plain {
            return None;
        }
        let begin = number * CHUNK_BYTES as u64;
        let plain = (self.plain - begin).min(CHUNK_BYTES as u64);
        let chunk = Chunk {
            number: u32::try_from(number).ok()?,
            offset: HEADER_BYTES as u64 + number * (CHUNK_BYTES + TAG_BYTES) as u64,
            bytes: usize::try_from(plain).ok()? + TAG_BYTES,
            last: number + 1 == self.chunks(),
        };
        Some((chunk, usize::try_from(offset - begin).ok()?))
    }
}

impl Chunk {
    /// Where it lies in the file.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.bytes as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::WallTime;

    fn header() -> CipherHeader {
        let recordingid = RecordingId::new(WallTime::from_millis(5), [9; 10]);
        CipherHeader { file: FilePrefix([1, 2, 3, 4, 5, 6, 7]), recordingid }
    }

    #[test]
    fn a_header_goes_both_ways_and_has_one_form() {
        let bytes = header().encode();
        assert_eq!(CipherHeader::decode(&bytes), Ok(header()));
        for place in 0..16 {
            let mut wrong = bytes;
            wrong[place] ^= 1;
            assert!(CipherHeader::decode(&wrong).is_err(), "byte {place}");
        }
        let mut later = bytes;
        later[8] = 2;
        assert_eq!(CipherHeader::decode(&later), Err(CipherHeaderError::Version(2)));
        assert_eq!(CipherHeader::decode(&bytes[..39]), Err(CipherHeaderError::Form));
        assert_eq!(CipherHeader::decode(b"RIFF"), Err(CipherHeaderError::Form));
    }

    #[test]
    fn no_two_chunks_have_one_nonce() {
        let file = header().file;
        assert_eq!(file.nonce(0x0102_0304, false), [1, 2, 3, 4, 5, 6, 7, 1, 2, 3, 4, 0]);
        assert_eq!(file.nonce(0, true)[11], 1);
    }

    #[test]
    fn chunks_lie_one_behind_the_other() {
        let chunk = CHUNK_BYTES as u64;
        // Bytes, length of the file, number of the last chunk, its length.
        for (plain, length, last, bytes) in [
            (0, 40 + 16, 0, 16),
            (1, 40 + 17, 0, 17),
            (chunk, 40 + chunk + 16, 0, CHUNK_BYTES + 16),
            (chunk + 1, 40 + chunk + 16 + 17, 1, 17),
            (2 * chunk, 40 + 2 * (chunk + 16), 1, CHUNK_BYTES + 16),
        ] {
            let layout = Layout::of_plain(plain);
            assert_eq!(layout.file_bytes(), length);
            assert_eq!(Layout::of_file(length), Some(layout));
            let (found, _) = layout.chunk_at(plain.saturating_sub(1)).unwrap();
            assert_eq!((found.number, found.bytes, found.last), (last, bytes, true));
            assert_eq!(found.range().end, length);
            assert_eq!(layout.chunk_at(plain + 1), None);
        }
        for wrong in [0, 39, 40, 55, 40 + chunk + 16 + 16, 40 + chunk + 16 + 1] {
            assert_eq!(Layout::of_file(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn every_byte_is_in_one_chunk(plain in 0_u64..1 << 40, at in 0_u64..1 << 40) {
            let layout = Layout::of_plain(plain);
            prop_assert_eq!(Layout::of_file(layout.file_bytes()), Some(layout));
            match layout.chunk_at(at) {
                Some((chunk, within)) => {
                    prop_assert!(at <= plain);
                    let before = u64::from(chunk.number) * CHUNK_BYTES as u64;
                    prop_assert_eq!(before + within as u64, at);
                    prop_assert!(within <= chunk.bytes - TAG_BYTES);
                    prop_assert_eq!(chunk.last, chunk.range().end == layout.file_bytes());
                }
                None => prop_assert!(at >= plain),
            }
        }

        #[test]
        fn any_length_is_a_file_or_none(length in 0_u64..1 << 20) {
            if let Some(layout) = Layout::of_file(length) {
                prop_assert_eq!(layout.file_bytes(), length);
            }
        }
    }
}
