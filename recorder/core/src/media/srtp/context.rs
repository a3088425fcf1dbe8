//! One cryptographic context (RFC 3711, 3.2): the packets that one key opens, stream by stream. It
//! tells whether a packet is authentic and new, and decrypts it in place. Which context a packet
//! should be tried with is decided elsewhere.
//!
//! Where a stream is joined in its midst, the rollover counter is not known: it is guessed, and the
//! tag tells when the guess is right. Where there is no tag, a stream is taken to begin with the
//! first packet heard.

use super::keys::MediaKeys;
use super::transform::{Labels, Transform};
use super::window::Window;

/// The highest rollover counter that is guessed for a stream that is joined in its midst: one that
/// has been up for 5.8 hours at 50 packets a second.
pub const ROC_GUESS_MAX: u64 = 15;
/// Streams remembered for each kind of packet; the one heard least lately gives way.
const STREAMS_MAX: usize = 16;
/// Fixed part of an RTP header (RFC 3550, 5.1).
const RTP_HEAD_BYTES: usize = 12;
/// What is never encrypted of an RTCP packet (RFC 3711, 3.4).
const RTCP_HEAD_BYTES: usize = 8;
/// E flag and SRTCP index.
const RTCP_INDEX_BYTES: usize = 4;

/// Why a packet was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Refusal {
    /// The switch has told no keys that can be used.
    #[error("no keys are known")]
    NoKeys,
    /// Too short, or no packet at all.
    #[error("no protected packet")]
    Malformed,
    /// The tag belongs to another packet or to another key.
    #[error("not authentic")]
    Authentication,
    /// It was here before.
    #[error("a replay")]
    Replay,
    /// So far behind that it cannot be told from a replay.
    #[error("too old")]
    Old,
}

impl Refusal {
    /// All reasons, in the order of [`Refusal::index`].
    pub const ALL: [Self; 5] =
        [Self::NoKeys, Self::Malformed, Self::Authentication, Self::Replay, Self::Old];

    /// Number of this reason, for counters kept in an array.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Word for the label of a metric.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoKeys => "nokeys",
            Self::Malformed => "malformed",
            Self::Authentication => "authentication",
            Self::Replay => "replay",
            Self::Old => "old",
        }
    }
}

/// What one key opens.
#[derive(Debug)]
pub(super) struct Context {
    keys: MediaKeys,
    rtp: Transform,
    rtcp: Transform,
    rtp_streams: Streams,
    rtcp_streams: Streams,
}

impl Context {
    pub fn new(keys: MediaKeys) -> Self {
        Self {
            rtp: Transform::new(&keys, Labels::RTP),
            rtcp: Transform::new(&keys, Labels::RTCP),
            rtp_streams: Streams::default(),
            rtcp_streams: Streams::default(),
            keys,
        }
    }

    pub const fn keys(&self) -> &MediaKeys {
        &self.keys
    }

    /// Whether a packet proves that it was made with this key.
    pub const fn authenticates(&self) -> bool {
        self.keys.suite.rtp_tag_bytes > 0
    }

    /// Opens an RTP packet in place and tells how long it is now. `before` is the context that this
    /// one has replaced: a stream that goes on under another key keeps its rollover counter (RFC
    /// 3711, 3.3.1).
    pub fn open_rtp(&mut self, packet: &mut [u8], before: Option<&Self>) -> Result<usize, Refusal> {
        let Head { ssrc, seq, payload } = head(packet).ok_or(Refusal::Malformed)?;
        let end = packet.len().checked_sub(self.keys.suite.rtp_tag_bytes);
        let end = end.filter(|end| *end >= payload).ok_or(Refusal::Malformed)?;
        let authenticates = self.authenticates();
        let known = self.rtp_streams.find(ssrc);
        let inherited = before.and_then(|before| before.rtp_streams.peek(ssrc));
        let goes_on = known.as_deref().or(inherited).and_then(|window| window.estimate(seq));
        if !authenticates {
            let index = goes_on.unwrap_or(seq.into());
            match known {
                Some(window) => window.follow(index),
                None => self.rtp_streams.begin(ssrc, index),
            }
            self.rtp.apply(ssrc, index, &mut packet[payload..end]);
            return Ok(end);
        }
        let covered = self.rtp.cover(&packet[..end]);
        let is_it = |index: &u64| covered.is_tagged(&roc(*index), &packet[end..]);
        let index = match known {
            Some(window) => {
                let index = goes_on.filter(is_it).ok_or(Refusal::Authentication)?;
                window.note(index)?;
                index
            }
            None => {
                let guessed = (0..=ROC_GUESS_MAX).map(|roc| roc << 16 | u64::from(seq));
                let index = goes_on.into_iter().chain(guessed).find(is_it);
                let index = index.ok_or(Refusal::Authentication)?;
                self.rtp_streams.begin(ssrc, index);
                index
            }
        };
        self.rtp.apply(ssrc, index, &mut packet[payload..end]);
        Ok(end)
    }

    /// The same for RTCP, which says its own index and whether it is encrypted (RFC 3711, 3.4).
    pub fn open_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, Refusal> {
        if self.keys.suite.rtcp_tag_bytes.is_empty() {
            return Ok(packet.len());
        }
        let ssrc = packet.get(4..RTCP_HEAD_BYTES).and_then(word).ok_or(Refusal::Malformed)?;
        let mut refusal = Refusal::Malformed;
        for tag_bytes in self.keys.suite.rtcp_tag_bytes {
            let Some(tagged) = packet.len().checked_sub(*tag_bytes) else { continue };
            let Some(end) = tagged.checked_sub(RTCP_INDEX_BYTES) else { continue };
            if end < RTCP_HEAD_BYTES {
                continue;
            }
            refusal = Refusal::Authentication;
            if !self.rtcp.cover(&packet[..tagged]).is_tagged(&[], &packet[tagged..]) {
                continue;
            }
            let trailer = word(&packet[end..tagged]).ok_or(Refusal::Malformed)?;
            let (encrypted, index) = (trailer >> 31 == 1, u64::from(trailer & 0x7fff_ffff));
            match self.rtcp_streams.find(ssrc) {
                Some(window) => window.note(index)?,
                None => self.rtcp_streams.begin(ssrc, index),
            }
            if encrypted {
                self.rtcp.apply(ssrc, index, &mut packet[RTCP_HEAD_BYTES..end]);
            }
            return Ok(end);
        }
        Err(refusal)
    }
}

/// The streams heard, the latest first.
#[derive(Debug, Default)]
struct Streams(Vec<(u32, Window)>);

impl Streams {
    fn find(&mut self, ssrc: u32) -> Option<&mut Window> {
        let place = self.0.iter().position(|(known, _)| *known == ssrc)?;
        self.0[..=place].rotate_right(1);
        self.0.first_mut().map(|(_, window)| window)
    }

    fn peek(&self, ssrc: u32) -> Option<&Window> {
        self.0.iter().find(|(known, _)| *known == ssrc).map(|(_, window)| window)
    }

    fn begin(&mut self, ssrc: u32, index: u64) {
        self.0.truncate(STREAMS_MAX - 1);
        self.0.insert(0, (ssrc, Window::starting(index)));
    }
}

/// What is readable of a protected RTP packet.
struct Head {
    ssrc: u32,
    seq: u16,
    /// Where the payload begins.
    payload: usize,
}

/// `None` for what is no RTP: of another version, RTCP, or cut off in its header.
fn head(packet: &[u8]) -> Option<Head> {
    let fixed: &[u8; RTP_HEAD_BYTES] = packet.first_chunk()?;
    if fixed[0] >> 6 != 2 || (192..=223).contains(&fixed[1]) {
        return None;
    }
    let mut payload = RTP_HEAD_BYTES + usize::from(fixed[0] & 0x0f) * 4;
    if fixed[0] & 0x10 != 0 {
        let extension = packet.get(payload..payload + 4)?;
        payload += 4 + usize::from(u16::from_be_bytes([extension[2], extension[3]])) * 4;
    }
    let seq = u16::from_be_bytes([fixed[2], fixed[3]]);
    (payload <= packet.len()).then_some(Head { ssrc: word(&fixed[8..])?, seq, payload })
}

fn word(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// The rollover counter, as a tag covers it.
fn roc(index: u64) -> [u8; 4] {
    let [_, _, roc @ .., _, _] = index.to_be_bytes();
    roc
}
