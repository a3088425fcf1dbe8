//! What a node and the mirror of its captures say to each other, as bytes: versioned by the question that
//! begins it, and bounded. Pure; who says what when is decided elsewhere.
//!
//! ```text
//! owner   length u32, then of that length:
//!           1 | recording 16 × n                     these are open at the owner, and no others
//!           2 | moved frames as in a capture journal
//!           3 | file u32 | offset u32 | at i64       all before that place, and before that time, was given
//! mirror  file u32 | offset u32 | file u32 | offset u32      what it has taken, and what is durable there
//! ```
//!
//! All numbers are little-endian; a time is in microseconds by the owner's clock.

use crate::ids::RecordingId;
use crate::journal::{Fields, Place};
use crate::time::WallTime;

/// Longest message, without its length.
pub const MESSAGE_BYTES_MAX: usize = 2 << 20;
/// Recordings that one message names; an owner that has more open does not tell which.
pub const LIVE_MAX: usize = 65_536;

const LIVE: u8 = 1;
const FRAMES: u8 = 2;
const MARK: u8 = 3;
const LENGTH_BYTES: usize = 4;

/// What the owner says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromOwner<'a> {
    /// These recordings are open, and no others that it has told of.
    Live(Vec<RecordingId>),
    /// Frames of its journal, each with the place where it was first.
    Frames(&'a [u8]),
    /// Everything was given.
    Mark {
        /// Before this place of its journal.
        next: Place,
        /// That was appended before this time, by its clock.
        at: WallTime,
    },
}

/// What the mirror says after a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Everything before this place is kept, and survives the end of any process.
    pub taken: Place,
    /// Everything before this place survives a power cut.
    pub durable: Place,
}

/// Bytes that say nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MirrorWireError {
    /// Longer than anything that is said.
    #[error("a message of {0} bytes is longer than allowed")]
    TooLong(usize),
    /// No message, or of another length than it has.
    #[error("a message cannot be understood")]
    Malformed,
}

impl FromOwner<'_> {
    /// Appends the message's bytes. One that is too long is left out; [`LIVE_MAX`] and the length of a
    /// window of frames see to it that none is.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; LENGTH_BYTES]);
        match self {
            Self::Live(recordings) => {
                out.push(LIVE);
                recordings.iter().for_each(|id| out.extend_from_slice(id.0.as_bytes()));
            }
            Self::Frames(frames) => {
                out.push(FRAMES);
                out.extend_from_slice(frames);
            }
            Self::Mark { next, at } => {
                out.push(MARK);
                put_place(out, *next);
                out.extend_from_slice(&at.as_micros().to_le_bytes());
            }
        }
        let length = out.len() - start - LENGTH_BYTES;
        match u32::try_from(length) {
            Ok(bytes) if length <= MESSAGE_BYTES_MAX => {
                out[start..start + LENGTH_BYTES].copy_from_slice(&bytes.to_le_bytes());
            }
            _ => out.truncate(start),
        }
    }
}

impl Taken {
    /// Bytes of one.
    pub const BYTES: usize = 16;

    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::BYTES);
        put_place(&mut out, self.taken);
        put_place(&mut out, self.durable);
        out
    }

    /// From bytes.
    ///
    /// # Errors
    /// [`MirrorWireError::Malformed`] unless they are exactly that.
    pub fn decode(bytes: &[u8]) -> Result<Self, MirrorWireError> {
        let mut fields = Fields(bytes);
        let both = (place(&mut fields), place(&mut fields));
        match (both, fields.0) {
            ((Some(taken), Some(durable)), []) => Ok(Self { taken, durable }),
            _ => Err(MirrorWireError::Malformed),
        }
    }
}

/// Takes what an owner sends apart, however it is cut on its way.
#[derive(Debug, Default)]
pub struct Messages {
    bytes: Vec<u8>,
    /// What lies before this has been given.
    at: usize,
}

impl Messages {
    /// Takes more bytes. What was given before is given no more.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.at);
        self.at = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message, if it is there.
    ///
    /// # Errors
    /// [`MirrorWireError`]; nothing behind it can be understood either.
    pub fn next_message(&mut self) -> Result<Option<FromOwner<'_>>, MirrorWireError> {
        let Some(length) = Fields(&self.bytes[self.at..]).u32() else { return Ok(None) };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > MESSAGE_BYTES_MAX {
            return Err(MirrorWireError::TooLong(length));
        }
        let start = self.at + LENGTH_BYTES;
        let Some(message) = self.bytes.get(start..start + length) else { return Ok(None) };
        self.at = start + length;
        decode(message).map(Some)
    }
}

fn decode(message: &[u8]) -> Result<FromOwner<'_>, MirrorWireError> {
    let (kind, rest) = message.split_first().ok_or(MirrorWireError::Malformed)?;
    match *kind {
        LIVE if rest.len().is_multiple_of(16) && rest.len() / 16 <= LIVE_MAX => {
            let ids = rest.as_chunks::<16>().0.iter();
            Ok(FromOwner::Live(ids.map(|id| RecordingId(uuid::Uuid::from_bytes(*id))).collect()))
        }
        FRAMES => Ok(FromOwner::Frames(rest)),
        MARK => {
            let mut fields = Fields(rest);
            match (place(&mut fields), fields.i64(), fields.0) {
                (Some(next), Some(at), []) => {
                    Ok(FromOwner::Mark { next, at: WallTime::from_micros(at) })
                }
                _ => Err(MirrorWireError::Malformed),
            }
        }
        _ => Err(MirrorWireError::Malformed),
    }
}

fn put_place(out: &mut Vec<u8>, place: Place) {
    out.extend_from_slice(&place.file.to_le_bytes());
    out.extend_from_slice(&place.offset.to_le_bytes());
}

fn place(fields: &mut Fields<'_>) -> Option<Place> {
    Some(Place { file: fields.u32()?, offset: fields.u32()? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_place() -> impl Strategy<Value = Place> {
        any::<(u32, u32)>().prop_map(|(file, offset)| Place { file, offset })
    }

    /// A message, with what its frames are.
    #[derive(Clone, Debug)]
    enum Said {
        Live(Vec<[u8; 16]>),
        Frames(Vec<u8>),
        Mark(Place, i64),
    }

    impl Said {
        fn message(&self) -> FromOwner<'_> {
            match self {
                Self::Live(ids) => {
                    let id = |id: &[u8; 16]| RecordingId(uuid::Uuid::from_bytes(*id));
                    FromOwner::Live(ids.iter().map(id).collect())
                }
                Self::Frames(frames) => FromOwner::Frames(frames),
                Self::Mark(next, at) => {
                    FromOwner::Mark { next: *next, at: WallTime::from_micros(*at) }
                }
            }
        }
    }

    fn said() -> impl Strategy<Value = Said> {
        prop_oneof![
            proptest::collection::vec(any::<[u8; 16]>(), 0..5).prop_map(Said::Live),
            proptest::collection::vec(any::<u8>(), 0..200).prop_map(Said::Frames),
            (any_place(), any::<i64>()).prop_map(|(next, at)| Said::Mark(next, at)),
        ]
    }

    proptest! {
        #[test]
        fn what_is_said_is_heard_however_it_is_cut(
            all in proptest::collection::vec(said(), 0..8),
            piece in 1_usize..60,
        ) {
            let mut bytes = Vec::new();
            all.iter().for_each(|said| said.message().encode(&mut bytes));
            let (mut messages, mut heard) = (Messages::default(), 0);
            for piece in bytes.chunks(piece) {
                messages.push(piece);
                while let Some(message) = messages.next_message().unwrap() {
                    prop_assert_eq!(message, all[heard].message());
                    heard += 1;
                }
            }
            prop_assert_eq!(heard, all.len());
        }

        #[test]
        fn any_bytes_are_heard_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut messages = Messages::default();
            messages.push(&bytes);
            while let Ok(Some(_)) = messages.next_message() {}
            let _ = Taken::decode(&bytes);
        }

        #[test]
        fn what_was_taken_comes_back(taken in any_place(), durable in any_place()) {
            let taken = Taken { taken, durable };
            prop_assert_eq!(Taken::decode(&taken.encode()), Ok(taken));
            prop_assert!(Taken::decode(&taken.encode()[1..]).is_err());
        }
    }

    #[test]
    fn what_is_too_long_is_neither_said_nor_heard() {
        let mut bytes = Vec::new();
        FromOwner::Frames(&vec![0; MESSAGE_BYTES_MAX]).encode(&mut bytes);
        assert!(bytes.is_empty());
        let mut messages = Messages::default();
        messages.push(&u32::MAX.to_le_bytes());
        assert_eq!(messages.next_message(), Err(MirrorWireError::TooLong(u32::MAX as usize)));
    }
}
