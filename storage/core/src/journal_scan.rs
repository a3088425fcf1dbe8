//! Finds the frames in a capture file's bytes, whatever happened to them: a torn tail, a rotten
//! byte, a page that never reached the disk. It says which bytes are whole frames and which are
//! not; what to do about either is the caller's matter.
//!
//! Where a frame is damaged, the scan goes on at the next whole one. From a place known to be a
//! frame's begin, a right head check is trusted and its length is stepped over, so that bytes
//! inside a damaged block (which a stranger may have sent) are not searched for frames. Only
//! where the head is damaged, too, is the next marker looked for.

use crate::journal::{
    Fields, Frame, HEAD_BYTES, MARKER, MAX_PAYLOAD_BYTES, frame_crc, head_check, put_crc,
};

/// What is at the front of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A whole frame of `len` bytes.
    Frame {
        /// Its bytes, head included.
        len: usize,
        /// Its content.
        frame: Frame<'a>,
    },
    /// `len` bytes that are no frame; at least one.
    Damage {
        /// How many.
        len: usize,
        /// Whether a frame must begin behind them.
        synced: bool,
    },
    /// It cannot be told from so few bytes: more are needed, at most this many in all.
    More {
        /// Bytes needed at the front.
        bytes: usize,
    },
}

/// Looks at the front of `bytes`. `synced` tells whether a frame must begin there; `last` whether
/// no bytes follow these. Never asks for more when `last`. Empty bytes are the caller's end.
#[must_use]
pub fn step(bytes: &[u8], synced: bool, last: bool) -> Step<'_> {
    let Some(head) = Head::read(bytes) else {
        if bytes.len() < HEAD_BYTES && !last {
            return Step::More { bytes: HEAD_BYTES };
        }
        return Step::Damage { len: to_next_marker(bytes, last), synced: false };
    };
    let len = HEAD_BYTES + head.length;
    let Some(payload) = bytes.get(HEAD_BYTES..len) else {
        return match (last, synced) {
            (false, _) => Step::More { bytes: len },
            // The torn tail: what lies in it is the begin of this frame and nothing else.
            (true, true) => Step::Damage { len: bytes.len(), synced: false },
            (true, false) => Step::Damage { len: to_next_marker(bytes, last), synced: false },
        };
    };
    if frame_crc(&bytes[4..12], payload) == head.crc {
        return Step::Frame { len, frame: Frame::from_parts(head.kind, head.version, payload) };
    }
    if synced {
        return Step::Damage { len, synced: true };
    }
    Step::Damage { len: to_next_marker(bytes, last), synced: false }
}

/// The frame at the front of `bytes` and its length, without a look at its checksum: for bytes
/// that this process has just made itself. `None` where no whole frame begins.
#[must_use]
pub fn trusted_frame(bytes: &[u8]) -> Option<(usize, Frame<'_>)> {
    let head = Head::read(bytes)?;
    let len = HEAD_BYTES + head.length;
    let payload = bytes.get(HEAD_BYTES..len)?;
    Some((len, Frame::from_parts(head.kind, head.version, payload)))
}

/// Puts in the checksums of frames that [`BlockWriter::begin_unchecked`] has made; on others it leaves
/// what is there.
///
/// # Errors
/// Where no whole frame begins; those before it have theirs.
///
/// [`BlockWriter::begin_unchecked`]: crate::journal::BlockWriter::begin_unchecked
pub fn check_frames(frames: &mut [u8]) -> Result<(), usize> {
    let mut at = 0;
    while at < frames.len() {
        let (len, _) = trusted_frame(&frames[at..]).ok_or(at)?;
        put_crc(&mut frames[at..at + len]);
        at += len;
    }
    Ok(())
}

/// A head whose check is right.
struct Head {
    length: usize,
    kind: u8,
    version: u8,
    crc: u32,
}

impl Head {
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let marker: [u8; 4] = fields.array()?;
        let length = usize::try_from(fields.u32()?).ok()?;
        let [kind, version] = fields.array()?;
        let check = fields.u16()?;
        let crc = fields.u32()?;
        let whole =
            marker == MARKER && check == head_check(&bytes[4..10]) && length <= MAX_PAYLOAD_BYTES;
        whole.then_some(Self { length, kind, version, crc })
    }
}

/// How many bytes lie before the next marker, at least one. Bytes at the end that may be the
/// begin of a marker are not counted unless they are the last ones.
fn to_next_marker(bytes: &[u8], last: bool) -> usize {
    let mut at = 1;
    while let Some(found) =
        bytes.get(at..).and_then(|rest| rest.iter().position(|b| *b == MARKER[0]))
    {
        at += found;
        let rest = &bytes[at..];
        let compared = rest.len().min(MARKER.len());
        if rest[..compared] == MARKER[..compared] && (compared == MARKER.len() || !last) {
            return at;
        }
        at += 1;
    }
    bytes.len().max(1)
}

/// A stretch of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// A whole frame.
    Frame {
        /// Where it begins.
        offset: usize,
        /// Its bytes, head included.
        len: usize,
        /// Its content.
        frame: Frame<'a>,
    },
    /// Bytes that are no frame. As the last of a file's stretches they are its torn tail.
    Damage {
        /// Where they begin.
        offset: usize,
        /// How many.
        len: usize,
    },
}

/// Walks bytes that lie in memory as a whole, beginning at a frame.
#[derive(Clone, Debug)]
pub struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    synced: bool,
}

impl<'a> Scanner<'a> {
    /// Begins at the front of `bytes`, where a frame is expected (behind the file header).
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, synced: true }
    }
}

impl<'a> Iterator for Scanner<'a> {
    type Item = Found<'a>;

    fn next(&mut self) -> Option<Found<'a>> {
        let offset = self.at;
        while self.at < self.bytes.len() {
            match step(&self.bytes[self.at..], self.synced, true) {
                Step::Frame { len, frame } if offset == self.at => {
                    self.at += len;
                    self.synced = true;
                    return Some(Found::Frame { offset, len, frame });
                }
                // Neighbouring damage is told as one; the frame behind it is the next item.
                Step::Frame { .. } | Step::More { .. } => break,
                Step::Damage { len, synced } => {
                    self.at += len;
                    self.synced = synced;
                }
            }
        }
        (self.at > offset).then_some(Found::Damage { offset, len: self.at - offset })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::SegmentId;
    use crate::journal::{BlockWriter, Channel, Entry, Fact, encode_fact};
    use crate::time::WallTime;

    /// What one frame is made from.
    #[derive(Clone, Debug)]
    enum Made {
        Closed(u64),
        Block(u64, Vec<Vec<u8>>),
    }

    fn made() -> impl Strategy<Value = Made> {
        let packet = proptest::collection::vec(any::<u8>(), 0..60);
        prop_oneof![
            any::<u64>().prop_map(Made::Closed),
            (any::<u64>(), proptest::collection::vec(packet, 1..6))
                .prop_map(|(segment, packets)| Made::Block(segment, packets)),
        ]
    }

    fn encode(all: &[Made]) -> (Vec<u8>, Vec<std::ops::Range<usize>>) {
        let mut out = Vec::new();
        let mut places = Vec::new();
        for one in all {
            let start = out.len();
            match one {
                Made::Closed(segment) => {
                    let at = WallTime::from_millis(7);
                    encode_fact(
                        &mut out,
                        &Fact::SegmentClosed { segment: SegmentId(*segment), at },
                    )
                    .unwrap();
                }
                Made::Block(segment, packets) => {
                    let source = "192.0.2.1:5004".parse().unwrap();
                    let at = WallTime::from_micros(1_000);
                    let segment = SegmentId(*segment);
                    let mut block = BlockWriter::begin(&mut out, segment, Channel::Rtp, source, at);
                    for packet in packets {
                        assert!(block.push(at, packet));
                    }
                }
            }
            places.push(start..out.len());
        }
        (out, places)
    }

    fn decode(frame: &Frame<'_>) -> String {
        match frame.entry().unwrap() {
            Entry::Fact(fact) => format!("{fact:?}"),
            Entry::Packets(block) => {
                format!("{} {:?}", block.segment, block.iter().collect::<Vec<_>>())
            }
        }
    }

    fn texts(bytes: &[u8]) -> Vec<String> {
        let frames = Scanner::new(bytes).filter_map(|found| match found {
            Found::Frame { frame, .. } => Some(decode(&frame)),
            Found::Damage { .. } => None,
        });
        frames.collect()
    }

    /// Every byte belongs to exactly one stretch.
    fn assert_covers(bytes: &[u8]) {
        let mut at = 0;
        for found in Scanner::new(bytes) {
            let (Found::Frame { offset, len, .. } | Found::Damage { offset, len }) = found;
            assert_eq!(offset, at);
            assert!(len > 0);
            at += len;
        }
        assert_eq!(at, bytes.len());
    }

    proptest! {
        #[test]
        fn a_truncation_leaves_a_prefix(
            all in proptest::collection::vec(made(), 0..8),
            cut in any::<prop::sample::Index>(),
        ) {
            let (bytes, places) = encode(&all);
            let whole = texts(&bytes);
            prop_assert_eq!(whole.len(), all.len());
            let cut = cut.index(bytes.len() + 1);
            let kept = places.iter().filter(|place| place.end <= cut).count();
            prop_assert_eq!(texts(&bytes[..cut]), &whole[..kept]);
            assert_covers(&bytes[..cut]);
        }

        #[test]
        fn a_bit_flip_loses_the_frame_it_hits_and_no_other(
            all in proptest::collection::vec(made(), 1..8),
            place in any::<prop::sample::Index>(),
            bit in 0..8_u8,
        ) {
            let (mut bytes, places) = encode(&all);
            let mut expected = texts(&bytes);
            let place = place.index(bytes.len());
            bytes[place] ^= 1_u8 << bit;
            expected.remove(places.iter().position(|range| range.contains(&place)).unwrap());
            prop_assert_eq!(texts(&bytes), expected);
            assert_covers(&bytes);
        }

        #[test]
        fn a_lost_page_loses_only_the_frames_it_hits(
            all in proptest::collection::vec(made(), 1..8),
            from in any::<prop::sample::Index>(),
            len in 1_usize..200,
            fill in any::<u8>(),
        ) {
            let (mut bytes, places) = encode(&all);
            let whole = texts(&bytes);
            let from = from.index(bytes.len());
            let until = (from + len).min(bytes.len());
            let unchanged = bytes.clone();
            bytes[from..until].fill(fill);
            let kept = places.iter().zip(&whole).filter(|(range, _)| {
                bytes[(*range).clone()] == unchanged[(*range).clone()]
            });
            let kept: Vec<_> = kept.map(|(_, text)| text.clone()).collect();
            prop_assert_eq!(texts(&bytes), kept);
        }

        #[test]
        fn foreign_bytes_give_no_frame_and_no_panic(
            bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(MARKER[0])], 0..400)
        ) {
            prop_assert!(texts(&bytes).is_empty());
            assert_covers(&bytes);
        }

        #[test]
        fn a_window_that_grows_finds_the_same(
            all in proptest::collection::vec(made(), 1..6),
            junk in proptest::collection::vec(any::<u8>(), 0..40),
            more in 1_usize..50,
        ) {
            let (mut bytes, places) = encode(&all);
            bytes.splice(places[0].end..places[0].end, junk);
            let mut found = Vec::new();
            let (mut at, mut window, mut synced) = (0, more, true);
            while at < bytes.len() {
                let end = (at + window).min(bytes.len());
                match step(&bytes[at..end], synced, end == bytes.len()) {
                    Step::Frame { len, frame } => {
                        found.push(decode(&frame));
                        (at, window, synced) = (at + len, more, true);
                    }
                    Step::Damage { len, synced: next } => {
                        (at, window, synced) = (at + len, more, next);
                    }
                    Step::More { bytes } => {
                        prop_assert!(bytes > end - at, "asked for more than it has");
                        window = bytes;
                    }
                }
            }
            prop_assert_eq!(found, texts(&bytes));
        }
    }

    #[test]
    fn a_frame_inside_a_damaged_block_is_not_taken_for_one() {
        let (inner, _) = encode(&[Made::Closed(666)]);
        let (mut bytes, places) = encode(&[Made::Block(1, vec![inner]), Made::Closed(2)]);
        let rotten = places[0].start + HEAD_BYTES + 20;
        bytes[rotten] ^= 1;
        assert_eq!(texts(&bytes).len(), 1, "only the frame behind the damaged one");
        // The same where the block is torn.
        let torn = places[0].end - 1;
        assert!(texts(&bytes[..torn]).is_empty());
    }
}
