//! The capture journal's entries and their bytes: what is appended while calls go on, how it is
//! framed, and where a torn tail is cut. It decides nothing about files, durability or codecs.
//!
//! Small entries (facts) are JSON, because they are few and must stay readable for ever; media is
//! binary, because there is much of it. All numbers are little-endian.
//!
//! ```text
//! file   magic "ALCAPTUR" | version u16 | node u16 | file number u32 | next segment u64 | crc u32
//! frame  marker 4 | length u32 | kind u8 | version u8 | head check u16 | crc u32 | payload
//! ```
//!
//! The head check (low half of a CRC-32C) covers length, kind and version. It lets a reader step
//! over a frame whose payload has rotted without trusting a rotten length. The frame's CRC-32C
//! covers everything between the marker and itself, and the payload. The marker makes it cheap
//! to find the next frame where the head itself has rotted.
//!
//! | kind | payload |
//! |---|---|
//! | 1 fact | JSON of [`Fact`] |
//! | 2 packets | a [`PacketBlock`], see [`crate::journal_block`] |
//! | 3 moved | file u32, offset u32 (where it was first), kind u8, version u8, 0 u16, payload |
//! | 4 encrypted | a block, encrypted: see [`crate::journal_cipher`] |
//!
//! A file whose packets are encrypted says version 2, so that a program which knows no such entry
//! does not take the file for one without packets.
//!
//! A moved entry keeps the place where it was first appended, so that order survives when old
//! files are cleaned, and a copy that a crash left beside its original is known as one.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::draft::Draft;
use crate::ids::{Extension, NodeId, RecordingId, SegmentId};
use crate::record::{GapCause, Side};
use crate::time::WallTime;
use crate::wrapped_key::WrappedKey;

pub use crate::journal_block::{BlockWriter, PacketBlock, Packets};
pub use crate::journal_cipher::EncryptedBlock;
pub use crate::journal_scan::{Found, Scanner, Step, check_frames, step, trusted_frame};

/// Which of a phantom's two ports a packet came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// The even port: media.
    Rtp,
    /// The odd port: reports (RFC 3550, 6).
    Rtcp,
}

/// A fact in the journal. `Packets` is apart (see [`PacketBlock`]) because it is the hot one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "lowercase")]
#[expect(clippy::large_enum_variant, reason = "facts are few and are not kept in memory")]
pub enum Fact {
    /// A recording was opened, or what is known of it changed; the last one counts. One whose
    /// draft has `ended` will not grow any more and is to be sealed.
    Recording {
        /// What is known now.
        draft: Draft,
    },
    /// A phantom was asked into a call, or a device that listens is to hear it; what its port receives
    /// from `at` on is this segment.
    SegmentOpened {
        /// The new segment.
        segment: SegmentId,
        /// The recording it belongs to.
        recordingid: RecordingId,
        /// The phantom.
        phantom: Extension,
        /// When.
        at: WallTime,
        /// Its data key, where its packets are encrypted. The journal puts it there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<WrappedKey>,
        /// Which side of the call it hears; absent where it hears all in one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        side: Option<Side>,
    },
    /// The switch named the media's terms; each later one replaces the one before.
    MediaTerms {
        /// The segment.
        segment: SegmentId,
        /// When.
        at: WallTime,
        /// Where the media comes from.
        source: Option<SocketAddr>,
        /// Codec, by its name in `al_codecs` (`g711a`, …); empty if the switch named none.
        codec: String,
        /// Audio in one packet, milliseconds.
        packetms: u32,
    },
    /// The phantom has left the call; nothing is added to this segment any more.
    SegmentClosed {
        /// The segment.
        segment: SegmentId,
        /// When.
        at: WallTime,
    },
    /// Media arrived and could not be kept; or, of no packets, it is known why none came.
    Lost {
        /// The segment.
        segment: SegmentId,
        /// First packet not kept.
        from: WallTime,
        /// Last packet not kept.
        to: WallTime,
        /// How many.
        packets: u64,
        /// Why.
        cause: GapCause,
    },
    /// The recording's voice file and record are durable: the journal owes it nothing any more.
    Sealed {
        /// The recording.
        recordingid: RecordingId,
    },
}

/// First bytes of a journal file.
const FILE_MAGIC: [u8; 8] = *b"ALCAPTUR";
/// Version of the file header and of the framing: of a file with plain packets, and of one with
/// encrypted ones, which is the latest.
const FILE_VERSION_PLAIN: u16 = 1;
const FILE_VERSION: u16 = 2;
/// Length of a file header.
pub const FILE_HEADER_BYTES: usize = 28;

/// First bytes of a frame; the first one is no valid UTF-8, so no fact contains it.
pub const MARKER: [u8; 4] = [0xf5, b'A', b'L', 0xfa];
/// Length of a frame's head.
pub const HEAD_BYTES: usize = 16;
/// Longest payload. A draft is some kilobytes and a block of packets at most 128 KiB; what claims
/// to be longer than this is not a frame.
pub const MAX_PAYLOAD_BYTES: usize = 1 << 20;
/// What a moved entry's payload has in front of the original one.
pub const MOVED_BYTES: usize = 12;

/// Version of a frame's payload that this program writes, for each kind.
pub(crate) const ENTRY_VERSION: u8 = 1;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// JSON of a [`Fact`].
    Fact = 1,
    /// A [`PacketBlock`].
    Packets = 2,
    /// Another entry, re-appended from an older file.
    Moved = 3,
    /// An [`EncryptedBlock`].
    Encrypted = 4,
}

impl Kind {
    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Fact),
            2 => Some(Self::Packets),
            3 => Some(Self::Moved),
            4 => Some(Self::Encrypted),
            _ => None,
        }
    }
}

/// Where an entry was first appended. Orders entries by the time of appending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Number of the file.
    pub file: u32,
    /// Offset of the frame in it.
    pub offset: u32,
}

/// The head of a journal file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// The node that captures.
    pub node: NodeId,
    /// The file's number, as in its name.
    pub file: u32,
    /// No segment numbered this or higher had been given out when the file was begun. It keeps
    /// numbers unique after the files that held the earlier segments are gone.
    pub next_segment: SegmentId,
    /// Whether its packets are encrypted.
    pub encrypted: bool,
}

/// Why a file's first bytes are no header of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Shorter than a header, or another kind of file, or damaged.
    #[error("not a capture file, or its header is damaged")]
    Damaged,
    /// Written by a later program.
    #[error("capture file version {found} is newer than this program knows ({FILE_VERSION})")]
    Version {
        /// The version it claims.
        found: u16,
    },
}

impl FileHeader {
    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; FILE_HEADER_BYTES] {
        let mut bytes = [0; FILE_HEADER_BYTES];
        bytes[..8].copy_from_slice(&FILE_MAGIC);
        let version = if self.encrypted { FILE_VERSION } else { FILE_VERSION_PLAIN };
        bytes[8..10].copy_from_slice(&version.to_le_bytes());
        bytes[10..12].copy_from_slice(&self.node.0.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.file.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.next_segment.0.to_le_bytes());
        let check = crc32c::crc32c(&bytes[..24]);
        bytes[24..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// Reads a header from the first bytes of a file.
    ///
    /// # Errors
    /// [`HeaderError`] if it is not one, or one of a later program.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let mut fields = Fields(bytes);
        let magic: [u8; 8] = fields.array().ok_or(HeaderError::Damaged)?;
        let version = fields.u16().ok_or(HeaderError::Damaged)?;
        let (Some(node), Some(file), Some(next), Some(check)) =
            (fields.u16(), fields.u32(), fields.u64(), fields.u32())
        else {
            return Err(HeaderError::Damaged);
        };
        if magic != FILE_MAGIC || check != crc32c::crc32c(&bytes[..24]) {
            return Err(HeaderError::Damaged);
        }
        if version > FILE_VERSION {
            return Err(HeaderError::Version { found: version });
        }
        let encrypted = version > FILE_VERSION_PLAIN;
        Ok(Self { node: NodeId(node), file, next_segment: SegmentId(next), encrypted })
    }
}

/// An entry as it is read back.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "lives for one turn of a reader's loop")]
pub enum Entry<'a> {
    /// A small one.
    Fact(Fact),
    /// Packets of one segment.
    Packets(PacketBlock<'a>),
}

/// A whole, undamaged frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    kind: u8,
    version: u8,
    payload: &'a [u8],
    moved_from: Option<Place>,
}

/// Why an undamaged frame gives no entry.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// Written by a later program.
    #[error("entry of kind {kind} version {version} is not known to this program")]
    Unknown {
        /// The kind.
        kind: u8,
        /// The version.
        version: u8,
    },
    /// A fact that is no JSON of ours: a bug of the writer, because the checksum is right.
    #[error("fact is not readable")]
    Fact(#[source] serde_json::Error),
    /// A block whose lengths contradict each other: a bug of the writer.
    #[error("packet block is not readable")]
    Block,
    /// A block that must be decrypted first.
    #[error("packet block is encrypted")]
    Encrypted,
}

impl<'a> Frame<'a> {
    /// A frame's content after its checksums have been found right. A moved entry is unpacked.
    pub(crate) fn from_parts(kind: u8, version: u8, payload: &'a [u8]) -> Self {
        let plain = Self { kind, version, payload, moved_from: None };
        if Kind::from_byte(kind) != Some(Kind::Moved) || version != ENTRY_VERSION {
            return plain;
        }
        let mut fields = Fields(payload);
        match (fields.u32(), fields.u32(), fields.array::<4>()) {
            (Some(file), Some(offset), Some([kind, version, _, _])) => {
                Self { kind, version, payload: fields.0, moved_from: Some(Place { file, offset }) }
            }
            _ => plain,
        }
    }

    /// Where the entry was first appended, if it is a moved one.
    #[must_use]
    pub const fn moved_from(&self) -> Option<Place> {
        self.moved_from
    }

    /// The segment, if this is a block of packets, plain or encrypted; reads no more than its first
    /// bytes.
    #[must_use]
    pub fn segment(&self) -> Option<SegmentId> {
        let kind = self.known_kind()?;
        let is_block = matches!(kind, Kind::Packets | Kind::Encrypted);
        is_block.then(|| Fields(self.payload).u64().map(SegmentId))?
    }

    /// The encrypted block, if this is one.
    #[must_use]
    pub fn encrypted(&self) -> Option<EncryptedBlock<'a>> {
        let is_one = self.known_kind() == Some(Kind::Encrypted);
        is_one.then(|| EncryptedBlock::parse(self.payload))?
    }

    /// The payload, if this is a plain block.
    pub(crate) fn packets(&self) -> Option<&'a [u8]> {
        (self.known_kind() == Some(Kind::Packets)).then_some(self.payload)
    }

    fn known_kind(&self) -> Option<Kind> {
        Kind::from_byte(self.kind).filter(|_| self.version == ENTRY_VERSION)
    }

    /// The entry.
    ///
    /// # Errors
    /// [`EntryError`] if this program cannot read it.
    pub fn entry(&self) -> Result<Entry<'a>, EntryError> {
        let unknown = EntryError::Unknown { kind: self.kind, version: self.version };
        if self.version != ENTRY_VERSION {
            return Err(unknown);
        }
        match Kind::from_byte(self.kind) {
            Some(Kind::Fact) => {
                serde_json::from_slice(self.payload).map(Entry::Fact).map_err(EntryError::Fact)
            }
            Some(Kind::Packets) => {
                PacketBlock::parse(self.payload).map(Entry::Packets).ok_or(EntryError::Block)
            }
            Some(Kind::Encrypted) => Err(EntryError::Encrypted),
            // A moved entry within a moved entry is never written.
            Some(Kind::Moved) | None => Err(unknown),
        }
    }

    /// Appends this entry again, as one that was first appended at `place`; one that was moved
    /// before keeps its first place.
    pub fn encode_moved(&self, place: Place, out: &mut Vec<u8>) {
        let place = self.moved_from.unwrap_or(place);
        let start = begin_frame(out, Kind::Moved);
        out.extend_from_slice(&place.file.to_le_bytes());
        out.extend_from_slice(&place.offset.to_le_bytes());
        out.extend_from_slice(&[self.kind, self.version, 0, 0]);
        out.extend_from_slice(self.payload);
        finish_frame(out, start);
    }
}

/// Why a fact cannot be written down.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// It has no JSON form.
    #[error("fact has no JSON form")]
    Json(#[source] serde_json::Error),
    /// It is longer than an entry can be.
    #[error(
        "fact of {bytes} bytes is longer than an entry of the journal can be ({MAX_PAYLOAD_BYTES})"
    )]
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

/// Appends a fact as one frame. Nothing is appended if it fails.
///
/// # Errors
/// [`EncodeError`] if the fact is too long for an entry.
pub fn encode_fact(out: &mut Vec<u8>, fact: &Fact) -> Result<(), EncodeError> {
    let start = begin_frame(out, Kind::Fact);
    let written = serde_json::to_writer(&mut *out, fact);
    let bytes = out.len() - start - HEAD_BYTES;
    // Room is left for the words in front of a moved entry.
    let outcome = match written {
        Err(error) => Err(EncodeError::Json(error)),
        Ok(()) if bytes > MAX_PAYLOAD_BYTES - MOVED_BYTES => Err(EncodeError::TooLong { bytes }),
        Ok(()) => Ok(()),
    };
    match outcome {
        Ok(()) => finish_frame(out, start),
        Err(_) => out.truncate(start),
    }
    outcome
}

/// Opens a frame at the end of `out` and returns where it starts.
pub(crate) fn begin_frame(out: &mut Vec<u8>, kind: Kind) -> usize {
    let start = out.len();
    let mut head = [0; HEAD_BYTES];
    head[..4].copy_from_slice(&MARKER);
    head[8] = kind as u8;
    head[9] = ENTRY_VERSION;
    out.extend_from_slice(&head);
    start
}

/// Closes the frame that starts at `start` and ends where `out` ends.
pub(crate) fn finish_frame(out: &mut [u8], start: usize) {
    finish_head(out, start);
    put_crc(&mut out[start..]);
}

/// Closes it without its checksum: for whoever puts that in later, or never needs it.
pub(crate) fn finish_head(out: &mut [u8], start: usize) {
    let frame = &mut out[start..];
    let length = u32::try_from(frame.len() - HEAD_BYTES)
        .expect("payloads are bounded by MAX_PAYLOAD_BYTES, far below 4 GiB");
    frame[4..8].copy_from_slice(&length.to_le_bytes());
    let check = head_check(&frame[4..10]);
    frame[10..12].copy_from_slice(&check.to_le_bytes());
}

/// Puts in the checksum of a frame that is complete but for that.
pub(crate) fn put_crc(frame: &mut [u8]) {
    let crc = frame_crc(&frame[4..12], &frame[HEAD_BYTES..]);
    frame[12..16].copy_from_slice(&crc.to_le_bytes());
}

/// Check of a frame's length, kind and version.
pub(crate) fn head_check(head: &[u8]) -> u16 {
    (crc32c::crc32c(head) & 0xffff) as u16
}

/// Check of a whole frame.
pub(crate) fn frame_crc(head: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(head), payload)
}

/// Takes numbers from the front of bytes; `None` where they end too early.
pub(crate) struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(front)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (front, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*front)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }
}
