//! First pass over a captured recording: which segments, senders and runs there are. It reads
//! headers, keeps 16 bytes per packet and no audio. Where things lie on the timeline is decided
//! by [`super::timeline`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use storage_core::journal::{Channel, Entry, Fact, PacketBlock};
use storage_core::record::{GapCause, Side};
use storage_core::{Extension, NodeId, SegmentId, WallTime};

use super::joins::Joins;
use super::left_out::LeftOut;
use super::report::Reports;
use super::rtp::{NotRtp, RtpPacket, Ssrc};
use super::run::Stream;

/// A segment in which a sender names itself anew more often than this is not listened to any
/// further: no call does that, and each name costs memory.
const STREAMS_PER_SEGMENT_MAX: u32 = 1024;

/// The packets of one port are received in order of time. One that is this much earlier than the
/// one before it tells that somebody set the clock back: 200 ms.
const SET_BACK_MICROS: i64 = 200_000;
/// Between two ports the order of capture is that of time only up to what a port's buffer holds: 20 s.
const SET_BACK_BETWEEN_MICROS: i64 = 20_000_000;

/// One capture: a segment's number is unique on the node that captured it only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CaptureKey {
    /// The node that captured it.
    pub node: NodeId,
    /// Its number there.
    pub segment: SegmentId,
}

impl CaptureKey {
    /// What was published before counts as a capture of its own. No node has the number 0.
    pub(crate) const PUBLISHED: Self = Self { node: NodeId(0), segment: SegmentId(u64::MAX) };
}

/// Where the entries that follow come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The node that captured them.
    pub node: NodeId,
    /// By how much that node's clock is ahead of ours, microseconds; `None` if it is ours.
    pub clock_offset_us: Option<i64>,
}

impl Source {
    /// The file that was published before, as [`super::published`] turns it into entries. It is
    /// to be read before all others: what is published is not replaced by what comes later.
    pub const PUBLISHED: Self = Self { node: CaptureKey::PUBLISHED.node, clock_offset_us: None };

    /// What the source's clock showed, by ours.
    fn corrected(self, at: WallTime) -> WallTime {
        let offset = self.clock_offset_us.unwrap_or(0);
        WallTime::from_micros(at.as_micros().saturating_sub(offset))
    }
}

/// Packets that could not be kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lost {
    pub from: WallTime,
    pub to: WallTime,
    pub packets: u64,
    pub cause: GapCause,
}

/// What the facts say of a segment.
#[derive(Clone, Debug, Default)]
pub(crate) struct SegmentFacts {
    pub phantom: Option<Extension>,
    pub side: Option<Side>,
    /// Every address that the switch named, whenever it did: packets may come before their event.
    pub named: BTreeSet<SocketAddr>,
    /// The last codec that the switch named.
    pub codec: String,
    pub lost: Vec<Lost>,
    /// Packets from each address.
    pub heard: BTreeMap<SocketAddr, u64>,
    /// Subtracted from its times; `None` if our own clock showed them.
    pub clock_offset_us: Option<i64>,
    /// What the senders count.
    pub reports: Reports,
    streams: u32,
    clock: Option<Clock>,
}

/// Wall time that never runs back, whatever was done to the clock while the segment was captured.
#[derive(Clone, Copy, Debug)]
struct Clock {
    latest: WallTime,
    /// Added to the clock's times, microseconds.
    correction: i64,
}

impl Clock {
    fn told(self, at: WallTime) -> WallTime {
        WallTime::from_micros(at.as_micros().saturating_add(self.correction))
    }

    /// The time of the next packet; a step back of more than `tolerated` is undone.
    fn next(&mut self, at: WallTime, tolerated: i64) -> WallTime {
        let back = self.latest.micros_since(self.told(at));
        if back > tolerated {
            self.correction = self.correction.saturating_add(back);
        }
        let at = self.told(at);
        self.latest = self.latest.max(at);
        at
    }
}

impl SegmentFacts {
    /// Whether the segment's audio comes from `source`: the switch named it; or it named none
    /// that was ever heard, and this one sent most. (The event names where the far end
    /// *receives*; that it sends from there is usual, dossier 5.2, but no audio is thrown
    /// away for it.)
    pub(crate) fn accepts(&self, source: SocketAddr) -> bool {
        if self.named.iter().any(|named| self.heard.contains_key(named)) {
            return self.named.contains(&source);
        }
        let most = self.heard.iter().max_by_key(|(address, packets)| (**packets, **address));
        most.is_some_and(|(address, _)| *address == source)
    }
}

/// Who sent a stream, and into which segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StreamKey {
    pub capture: CaptureKey,
    pub source: SocketAddr,
    pub ssrc: Ssrc,
}

/// The index of one recording's packets. Feed it every entry of the recording, source by source,
/// each in its journal's order, then turn it into a plan with [`Index::plan`].
#[derive(Clone, Debug)]
pub struct Index {
    source: Source,
    pub(crate) captures: BTreeMap<CaptureKey, SegmentFacts>,
    /// In order of their first packet.
    pub(crate) streams: Vec<(StreamKey, Stream)>,
    by_key: BTreeMap<StreamKey, usize>,
    latest: usize,
    packets: u32,
    /// Of the segment that was captured last.
    clock: Option<Clock>,
    pub(crate) not_rtp: [u64; NotRtp::ALL.len()],
    pub(crate) overflow: u64,
    pub(crate) joins: Joins,
    /// What was left out on purpose.
    pub(crate) left_out: Vec<LeftOut>,
}

impl Default for Index {
    fn default() -> Self {
        Self::new()
    }
}

impl Index {
    /// An empty one. Until another source is named, what it is given was captured by node 1, which
    /// is this one.
    #[must_use]
    pub fn new() -> Self {
        Self {
            source: Source { node: NodeId(1), clock_offset_us: None },
            captures: BTreeMap::new(),
            streams: Vec::new(),
            by_key: BTreeMap::new(),
            latest: 0,
            packets: 0,
            clock: None,
            not_rtp: [0; NotRtp::ALL.len()],
            overflow: 0,
            joins: Joins::default(),
            left_out: Vec::new(),
        }
    }

    /// What follows comes from this source.
    pub fn source(&mut self, source: Source) {
        self.source = source;
        // Times of two sources do not follow one another: each may begin before the other ended.
        self.clock = None;
    }

    /// The captures seen.
    pub fn captures(&self) -> impl Iterator<Item = CaptureKey> {
        self.captures.keys().copied().filter(|key| *key != CaptureKey::PUBLISHED)
    }

    /// Takes the next entry.
    pub fn entry(&mut self, entry: &Entry<'_>) {
        match entry {
            Entry::Fact(fact) => self.fact(fact),
            Entry::Packets(block) => self.block(block),
        }
    }

    fn facts(&mut self, segment: SegmentId) -> &mut SegmentFacts {
        let Source { node, clock_offset_us } = self.source;
        let facts = self.captures.entry(CaptureKey { node, segment }).or_default();
        facts.clock_offset_us = clock_offset_us;
        facts
    }

    fn fact(&mut self, fact: &Fact) {
        let source_clock = self.source;
        match fact {
            Fact::SegmentOpened { segment, phantom, side, .. } => {
                let facts = self.facts(*segment);
                (facts.phantom, facts.side) = (Some(phantom.clone()), *side);
            }
            Fact::MediaTerms { segment, source, codec, .. } => {
                let facts = self.facts(*segment);
                facts.named.extend(source);
                facts.codec.clone_from(codec);
            }
            Fact::Lost { segment, from, to, packets, cause } => {
                let facts = self.facts(*segment);
                let told = |at| {
                    let at = source_clock.corrected(at);
                    facts.clock.map_or(at, |clock| clock.told(at))
                };
                let (from, to) = (told(*from), told(*to));
                facts.lost.push(Lost { from, to, packets: *packets, cause: *cause });
            }
            Fact::Recording { .. } | Fact::SegmentClosed { .. } | Fact::Sealed { .. } => {}
        }
    }

    fn block(&mut self, block: &PacketBlock<'_>) {
        if block.channel != Channel::Rtp {
            let facts = self.facts(block.segment);
            block.into_iter().for_each(|(_, datagram)| facts.reports.datagram(datagram));
            return;
        }
        let source = self.source;
        let capture = CaptureKey { node: source.node, segment: block.segment };
        let facts = self.captures.entry(capture).or_default();
        facts.clock_offset_us = source.clock_offset_us;
        let mut heard = 0;
        for (at, datagram) in block {
            let at = source.corrected(at);
            let at = match (&mut facts.clock, self.clock) {
                (Some(clock), _) => clock.next(at, SET_BACK_MICROS),
                (first @ None, before) => {
                    let mut clock = before.unwrap_or(Clock { latest: at, correction: 0 });
                    let at = clock.next(at, SET_BACK_BETWEEN_MICROS);
                    *first = Some(Clock { latest: at, ..clock });
                    at
                }
            };
            let ordinal = self.packets;
            // 2^32 packets are two years and a half of one call.
            self.packets = self.packets.saturating_add(1);
            let packet = match RtpPacket::parse(datagram) {
                Ok(packet) => packet,
                Err(reason) => {
                    self.not_rtp[reason.index()] += 1;
                    continue;
                }
            };
            heard += 1;
            let key = StreamKey { capture, source: block.source, ssrc: packet.ssrc };
            let known = self.streams.get(self.latest).is_some_and(|(latest, _)| *latest == key);
            if !known {
                match self.by_key.get(&key) {
                    Some(index) => self.latest = *index,
                    None if facts.streams >= STREAMS_PER_SEGMENT_MAX => {
                        self.overflow += 1;
                        continue;
                    }
                    None => {
                        facts.streams += 1;
                        self.latest = self.streams.len();
                        self.by_key.insert(key, self.latest);
                        self.streams.push((key, Stream::default()));
                    }
                }
            }
            self.streams[self.latest].1.push(&packet, at, ordinal, &facts.codec);
        }
        self.clock = facts.clock.or(self.clock);
        if heard > 0 {
            *facts.heard.entry(block.source).or_default() += heard;
        }
    }

    /// Whether anything of what was captured is one side of the call only.
    pub(crate) fn has_sides(&self) -> bool {
        self.captures.values().any(|facts| facts.side.is_some())
    }

    /// What one side hears: its own captures, and those that heard all in one.
    pub(crate) fn of_side(&self, side: Side) -> Self {
        let hears = |facts: &SegmentFacts| facts.side.is_none_or(|of| of == side);
        let captures = self.captures.iter().filter(|(_, facts)| hears(facts));
        let captures: BTreeMap<_, _> = captures.map(|(key, facts)| (*key, facts.clone())).collect();
        let streams = self.streams.iter().filter(|(key, _)| captures.contains_key(&key.capture));
        Self {
            streams: streams.cloned().collect(),
            captures,
            by_key: BTreeMap::new(),
            latest: 0,
            joins: self.joins.clone(),
            left_out: self.left_out.clone(),
            ..*self
        }
    }

    /// What was found out about the seams, by listening ([`super::seam`]).
    pub fn join(&mut self, joins: Joins) {
        self.joins = joins;
    }

    /// Packets seen, RTP or not.
    #[must_use]
    pub const fn packets(&self) -> u32 {
        self.packets
    }
}
