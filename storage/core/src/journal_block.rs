//! A block of packets of one segment, as one frame of the capture journal. This is the hot form:
//! it is built packet by packet in a buffer that the caller reuses, without allocation, and read
//! back without copying. What a packet means is not known here.
//!
//! ```text
//! segment u64 | base i64 | count u16 | port u16 | channel u8 | family u8 | 0 u16 | address 16
//! then per packet: microseconds after base u32 | length u16 | the packet as it was received
//! ```
//!
//! An IPv4 address fills the first 4 of the 16 bytes; the rest is zero.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::ids::SegmentId;
use crate::journal::{
    Channel, Fields, HEAD_BYTES, Kind, begin_frame, finish_frame, finish_head, put_crc,
};
use crate::time::WallTime;

/// A block takes no further packet that would make it longer than this. The first packet is always
/// taken, so no block is longer than this plus one packet.
pub const BLOCK_BYTES_MAX: usize = 64 << 10;

const BLOCK_HEAD_BYTES: usize = 40;
const PACKET_HEAD_BYTES: usize = 6;
const BASE_AT: usize = HEAD_BYTES + 8;
const COUNT_AT: usize = HEAD_BYTES + 16;

/// Builds one block at the end of a buffer. The frame is completed by [`BlockWriter::finish`], or
/// when the writer is dropped; one without packets is taken back.
#[derive(Debug)]
pub struct BlockWriter<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    base: WallTime,
    count: u16,
    checked: bool,
}

impl<'a> BlockWriter<'a> {
    /// Opens a block. `base` is best the time of its first packet.
    #[must_use]
    pub fn begin(
        out: &'a mut Vec<u8>,
        segment: SegmentId,
        channel: Channel,
        source: SocketAddr,
        base: WallTime,
    ) -> Self {
        let start = begin_frame(out, Kind::Packets);
        out.extend_from_slice(&block_head(segment, channel, source, base, 0));
        Self { out, start, base, count: 0, checked: true }
    }

    /// Opens a block without a checksum, for a journal to append: it puts one in, or encrypts the block,
    /// which then needs another one.
    #[must_use]
    pub fn begin_unchecked(
        out: &'a mut Vec<u8>,
        segment: SegmentId,
        channel: Channel,
        source: SocketAddr,
        base: WallTime,
    ) -> Self {
        let mut writer = Self::begin(out, segment, channel, source, base);
        writer.checked = false;
        writer
    }

    /// Adds a packet that was received at `at`. `false`: it was not added, because the block is
    /// full or `at` cannot be told from its base; a new block takes it. An empty block takes any
    /// packet. Bytes beyond 65,535 are cut; no datagram has them.
    #[must_use = "a packet that was not added must go into a new block"]
    pub fn push(&mut self, at: WallTime, packet: &[u8]) -> bool {
        if self.count == 0 {
            self.rebase(at);
        }
        let Ok(delta) = u32::try_from(at.micros_since(self.base)) else { return false };
        let length = u16::try_from(packet.len()).unwrap_or(u16::MAX);
        let grown = self.out.len() - self.start + PACKET_HEAD_BYTES + usize::from(length);
        if self.count > 0 && (grown > BLOCK_BYTES_MAX || self.count == u16::MAX) {
            return false;
        }
        self.out.extend_from_slice(&delta.to_le_bytes());
        self.out.extend_from_slice(&length.to_le_bytes());
        self.out.extend_from_slice(&packet[..usize::from(length)]);
        self.count += 1;
        true
    }

    /// Completes the block.
    pub fn finish(self) {
        drop(self);
    }

    /// An empty block whose base does not suit its first packet takes that packet's time.
    fn rebase(&mut self, at: WallTime) {
        if u32::try_from(at.micros_since(self.base)).is_err() {
            self.base = at;
            let place = self.start + BASE_AT;
            self.out[place..place + 8].copy_from_slice(&at.as_micros().to_le_bytes());
        }
    }
}

fn block_head(
    segment: SegmentId,
    channel: Channel,
    source: SocketAddr,
    base: WallTime,
    count: u16,
) -> [u8; BLOCK_HEAD_BYTES] {
    let mut head = [0; BLOCK_HEAD_BYTES];
    head[..8].copy_from_slice(&segment.0.to_le_bytes());
    head[8..16].copy_from_slice(&base.as_micros().to_le_bytes());
    head[16..18].copy_from_slice(&count.to_le_bytes());
    head[18..20].copy_from_slice(&source.port().to_le_bytes());
    head[20] = match channel {
        Channel::Rtp => 0,
        Channel::Rtcp => 1,
    };
    match source.ip() {
        IpAddr::V4(ip) => {
            head[21] = 4;
            head[24..28].copy_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            head[21] = 6;
            head[24..40].copy_from_slice(&ip.octets());
        }
    }
    head
}

impl Drop for BlockWriter<'_> {
    fn drop(&mut self) {
        if self.count == 0 {
            self.out.truncate(self.start);
            return;
        }
        let place = self.start + COUNT_AT;
        self.out[place..place + 2].copy_from_slice(&self.count.to_le_bytes());
        finish_head(self.out, self.start);
        if self.checked {
            put_crc(&mut self.out[self.start..]);
        }
    }
}

/// A block as it is read back. It has been checked: its packets can be walked without an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketBlock<'a> {
    /// The segment the packets belong to.
    pub segment: SegmentId,
    /// The port they came to.
    pub channel: Channel,
    /// Where they came from.
    pub source: SocketAddr,
    base: WallTime,
    count: u16,
    packets: &'a [u8],
}

impl<'a> PacketBlock<'a> {
    /// Appends the block as one frame: the very bytes that it was read from.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let Self { segment, channel, source, base, count, packets } = *self;
        let start = begin_frame(out, Kind::Packets);
        out.extend_from_slice(&block_head(segment, channel, source, base, count));
        out.extend_from_slice(packets);
        finish_frame(out, start);
    }

    /// Reads a payload; `None` if it contradicts itself.
    pub(crate) fn parse(payload: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(payload);
        let segment = SegmentId(fields.u64()?);
        let base = WallTime::from_micros(fields.i64()?);
        let count = fields.u16()?;
        let port = fields.u16()?;
        let [channel, family, _, _] = fields.array()?;
        let address: [u8; 16] = fields.array()?;
        let channel = match channel {
            0 => Channel::Rtp,
            1 => Channel::Rtcp,
            _ => return None,
        };
        let ip = match family {
            4 => IpAddr::V4(Ipv4Addr::new(address[0], address[1], address[2], address[3])),
            6 => IpAddr::V6(Ipv6Addr::from(address)),
            _ => return None,
        };
        let packets = fields.0;
        for _ in 0..count {
            fields.take(4)?;
            let length = fields.u16()?;
            fields.take(usize::from(length))?;
        }
        let source = SocketAddr::new(ip, port);
        fields.0.is_empty().then_some(Self { segment, channel, source, base, count, packets })
    }

    /// How many packets it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether it holds none; our writer writes no such block.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The packets with their times, in the order in which they were received.
    #[must_use]
    pub fn iter(&self) -> Packets<'a> {
        Packets { fields: self.packets, base: self.base, left: self.count }
    }
}

impl<'a> IntoIterator for &PacketBlock<'a> {
    type Item = (WallTime, &'a [u8]);
    type IntoIter = Packets<'a>;

    fn into_iter(self) -> Packets<'a> {
        self.iter()
    }
}

/// Walks a block's packets.
#[derive(Clone, Debug)]
pub struct Packets<'a> {
    fields: &'a [u8],
    base: WallTime,
    left: u16,
}

impl<'a> Iterator for Packets<'a> {
    type Item = (WallTime, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let mut fields = Fields(self.fields);
        let delta = fields.u32()?;
        let length = fields.u16()?;
        let packet = fields.take(usize::from(length))?;
        self.fields = fields.0;
        let at = self.base.as_micros().saturating_add(i64::from(delta));
        Some((WallTime::from_micros(at), packet))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::from(self.left), Some(usize::from(self.left)))
    }
}

impl ExactSizeIterator for Packets<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Entry, Found, Scanner, check_frames};

    const SOURCE: &str = "192.0.2.7:2048";

    fn only_block(bytes: &[u8]) -> PacketBlock<'_> {
        let found: Vec<_> = Scanner::new(bytes).collect();
        let [Found::Frame { frame, .. }] = found[..] else { panic!("not one frame: {found:?}") };
        match frame.entry().unwrap() {
            Entry::Packets(block) => block,
            Entry::Fact(fact) => panic!("not a block: {fact:?}"),
        }
    }

    #[test]
    fn a_block_gives_back_what_was_pushed() {
        let base = WallTime::from_micros(1_700_000_000_000_001);
        let mut out = Vec::new();
        let source = "[2001:db8::1]:4000".parse().unwrap();
        let mut block = BlockWriter::begin(&mut out, SegmentId(9), Channel::Rtcp, source, base);
        let later = WallTime::from_micros(base.as_micros() + 20_000);
        assert!(block.push(base, b"one") && block.push(later, b"") && block.push(later, b"three"));
        block.finish();
        let block = only_block(&out);
        assert_eq!(
            (block.segment, block.channel, block.source),
            (SegmentId(9), Channel::Rtcp, source)
        );
        let packets: Vec<_> = block.iter().collect();
        assert_eq!(packets, [(base, &b"one"[..]), (later, b""), (later, b"three")]);
    }

    #[test]
    fn blocks_without_checksums_are_those_with_once_these_are_put_in() {
        let (source, base) = (SOURCE.parse().unwrap(), WallTime::from_micros(0));
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for (id, word) in [(1, &b"one"[..]), (2, b""), (3, b"three")] {
            let id = SegmentId(id);
            let mut block = BlockWriter::begin(&mut with, id, Channel::Rtp, source, base);
            assert!(block.push(base, word));
            block.finish();
            let out = &mut without;
            let mut block = BlockWriter::begin_unchecked(out, id, Channel::Rtp, source, base);
            assert!(block.push(base, word));
        }
        assert_ne!(without, with);
        assert_eq!(check_frames(&mut without), Ok(()));
        assert_eq!(without, with);
        let torn = without.len() - 1;
        assert!(check_frames(&mut without[..torn]).is_err_and(|at| at < torn));
    }

    #[test]
    fn a_block_without_packets_leaves_nothing() {
        let mut out = b"before".to_vec();
        let base = WallTime::from_micros(0);
        BlockWriter::begin(&mut out, SegmentId(1), Channel::Rtp, SOURCE.parse().unwrap(), base)
            .finish();
        assert_eq!(out, b"before");
    }

    #[test]
    fn a_full_block_refuses_and_an_empty_one_takes_anything() {
        let mut out = Vec::new();
        let at = WallTime::from_micros(5);
        let source = SOURCE.parse().unwrap();
        let mut block = BlockWriter::begin(&mut out, SegmentId(1), Channel::Rtp, source, at);
        assert!(block.push(at, &[7; 65_507]), "the longest datagram there is");
        assert!(!block.push(at, &[7; 100]), "beyond the bound");
        block.finish();
        assert_eq!(only_block(&out).len(), 1);

        let mut out = Vec::new();
        let mut block = BlockWriter::begin(&mut out, SegmentId(1), Channel::Rtp, source, at);
        let before = WallTime::from_micros(-7);
        assert!(block.push(before, b"x"), "a clock set back before the first packet");
        assert!(!block.push(WallTime::from_micros(-8), b"y"), "set back in the middle");
        block.finish();
        assert_eq!(only_block(&out).iter().next(), Some((before, &b"x"[..])));
    }
}
