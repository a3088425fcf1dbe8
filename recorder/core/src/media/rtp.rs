//! What one datagram on a media port is: an RTP packet (RFC 3550, 5.1), an RTCP packet, or
//! garbage with a reason; and how its short counters become long ones. The `rtp-rs` crate is
//! seen here and nowhere else. It judges single packets; what a row of them means is the
//! timeline's matter.

use rtp_rs::{RtpReader, RtpReaderError};

/// Synchronisation source: the sender's random name for one stream (RFC 3550, 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ssrc(pub u32);

impl std::fmt::Display for Ssrc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// Sequence number as it is on the wire. It wraps, so it has no order: see [`ExtSeq`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeqNo(pub u16);

impl SeqNo {
    /// Steps from `earlier` to this by the shorter way round, negative for backwards.
    #[must_use]
    pub const fn steps_from(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0).cast_signed() as i32
    }
}

/// Timestamp as it is on the wire, in units of the sender's sampling clock. It wraps: see
/// [`MediaTime`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RtpTime(pub u32);

impl RtpTime {
    /// Clock ticks from `earlier` to this by the shorter way round, negative for backwards.
    #[must_use]
    pub const fn ticks_from(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0).cast_signed()
    }
}

/// Sequence number that does not wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExtSeq(pub u64);

impl ExtSeq {
    /// A first number: high enough that a packet which was sent earlier still has one.
    #[must_use]
    pub const fn start(seq: SeqNo) -> Self {
        Self((1 << 16) | seq.0 as u64)
    }
}

/// Position in samples of 8 kHz that does not wrap: in a run of packets, or in a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct MediaTime(pub u64);

impl MediaTime {
    /// Samples in a millisecond.
    pub const SAMPLES_PER_MS: u64 = 8;

    /// Milliseconds, rounded down.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0 / Self::SAMPLES_PER_MS
    }

    /// Microseconds.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        (self.0 as i64).saturating_mul(125)
    }
}

/// The one place where a counter is extended over its wrap: `steps` is the signed distance by the
/// shorter way round from the counter's last value, whose extended form is `last`. `None` if that
/// would be before the counter's start.
#[must_use]
pub const fn extend(last: u64, steps: i64) -> Option<u64> {
    last.checked_add_signed(steps)
}

/// An RTP packet's header fields and payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpPacket<'a> {
    /// Stream it belongs to.
    pub ssrc: Ssrc,
    /// Its number.
    pub seq: SeqNo,
    /// When its first sample was taken, by the sender's clock.
    pub timestamp: RtpTime,
    /// Payload type (RFC 3551, 6).
    pub payload_type: u8,
    /// For audio: first packet after a silence (RFC 3551, 4.1).
    pub marker: bool,
    /// The audio, without padding.
    pub payload: &'a [u8],
}

/// Why a datagram on a media port is not an RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum NotRtp {
    /// Fewer bytes than a header has.
    #[error("shorter than an RTP header")]
    Short,
    /// Not version 2.
    #[error("not RTP version 2")]
    Version,
    /// The header says that it is longer than the datagram.
    #[error("RTP header cut off")]
    Header,
    /// The padding is longer than the payload, or none.
    #[error("RTP padding length wrong")]
    Padding,
    /// It is an RTCP packet.
    #[error("an RTCP packet")]
    Rtcp,
}

impl NotRtp {
    /// All reasons, in the order of [`NotRtp::index`].
    pub const ALL: [Self; 5] =
        [Self::Short, Self::Version, Self::Header, Self::Padding, Self::Rtcp];

    /// Number of this reason, for counters kept in an array.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Word for the label of a metric.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Version => "version",
            Self::Header => "header",
            Self::Padding => "padding",
            Self::Rtcp => "rtcp",
        }
    }
}

impl<'a> RtpPacket<'a> {
    /// Reads a datagram.
    ///
    /// # Errors
    /// If it is no RTP packet.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, NotRtp> {
        if is_rtcp(datagram) {
            return Err(NotRtp::Rtcp);
        }
        let reader = RtpReader::new(datagram).map_err(|error| match error {
            RtpReaderError::BufferTooShort(_) => NotRtp::Short,
            RtpReaderError::UnsupportedVersion(_) => NotRtp::Version,
            RtpReaderError::HeadersTruncated { .. } => NotRtp::Header,
            RtpReaderError::PaddingLengthInvalid(_) => NotRtp::Padding,
        })?;
        Ok(Self {
            ssrc: Ssrc(reader.ssrc()),
            seq: SeqNo(u16::from(reader.sequence_number())),
            timestamp: RtpTime(reader.timestamp()),
            payload_type: reader.payload_type(),
            marker: reader.mark(),
            payload: reader.payload(),
        })
    }
}

/// Whether a datagram is RTCP rather than RTP: the second byte of RTCP is a packet type from 192
/// to 223, which no RTP payload type in use gives (RFC 5761, 4).
#[must_use]
pub fn is_rtcp(datagram: &[u8]) -> bool {
    datagram.len() >= 4 && datagram[0] >> 6 == 2 && (192..=223).contains(&datagram[1])
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A packet as a sender writes it, independent of the parser.
    pub(crate) fn packet(
        ssrc: u32,
        seq: u16,
        timestamp: u32,
        pt: u8,
        mark: bool,
        payload: &[u8],
    ) -> Vec<u8> {
        let mut bytes = vec![0x80, pt | (u8::from(mark) << 7)];
        bytes.extend_from_slice(&seq.to_be_bytes());
        bytes.extend_from_slice(&timestamp.to_be_bytes());
        bytes.extend_from_slice(&ssrc.to_be_bytes());
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn a_packet_is_read_field_by_field() {
        let bytes = packet(0xdead_beef, 65_535, 0xffff_fff0, 8, true, &[1, 2, 3]);
        let read = RtpPacket::parse(&bytes).unwrap();
        assert_eq!(read.ssrc.to_string(), "deadbeef");
        assert_eq!((read.seq, read.timestamp), (SeqNo(65_535), RtpTime(0xffff_fff0)));
        assert_eq!((read.payload_type, read.marker), (8, true));
        assert_eq!(read.payload, [1, 2, 3]);
    }

    #[test]
    fn each_kind_of_garbage_has_its_reason() {
        let good = packet(1, 2, 3, 0, false, &[0; 20]);
        let with = |index: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[index] = byte;
            bytes
        };
        let cases: [(Vec<u8>, NotRtp); 7] = [
            (vec![], NotRtp::Short),
            (good[..11].to_vec(), NotRtp::Short),
            (with(0, 0x40), NotRtp::Version),
            (with(0, 0x8f), NotRtp::Header), // 15 contributing sources do not fit
            (with(0, 0xa0), NotRtp::Padding), // last byte 0: no padding has no length
            (with(1, 200), NotRtp::Rtcp),
            (with(1, 203), NotRtp::Rtcp),
        ];
        for (bytes, reason) in cases {
            assert_eq!(RtpPacket::parse(&bytes), Err(reason), "{bytes:02x?}");
        }
        assert_eq!(NotRtp::ALL.map(NotRtp::index), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn counters_go_on_over_their_wrap_in_both_directions() {
        let cases = [(65_535_u16, 0_u16, 1), (0, 65_535, -1), (5, 5, 0), (100, 3_100, 3_000)];
        for (from, to, steps) in cases {
            assert_eq!(SeqNo(to).steps_from(SeqNo(from)), steps);
        }
        assert_eq!(RtpTime(80).ticks_from(RtpTime(0xffff_ffb0)), 160);
        assert_eq!(extend(70_000, -1), Some(69_999));
        assert_eq!(extend(0, -1), None);
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(read) = RtpPacket::parse(&bytes) {
                prop_assert!(read.payload.len() + 12 <= bytes.len());
            }
        }

        #[test]
        fn what_a_sender_writes_is_read_back(
            ssrc: u32, seq: u16, timestamp: u32, pt in 0_u8..64, mark: bool,
            payload in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let bytes = packet(ssrc, seq, timestamp, pt, mark, &payload);
            let read = RtpPacket::parse(&bytes).unwrap();
            prop_assert_eq!(read.payload, &payload[..]);
            prop_assert_eq!((read.ssrc.0, read.seq.0, read.timestamp.0), (ssrc, seq, timestamp));
            prop_assert_eq!((read.payload_type, read.marker), (pt, mark));
        }
    }
}
