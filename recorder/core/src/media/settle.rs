//! Between indexing and placing: strangers out, each run in the order of its timestamps, each
//! packet once, and everything counted that was captured.

use std::collections::BTreeMap;

use storage_core::WallTime;
use storage_core::record::Quality;

use super::index::{CaptureKey, Index, SegmentFacts, StreamKey};
use super::joins::{Joins, RunKey};
use super::keys::Pressed;
use super::left_out::{at_an_end, not_kept};
use super::payload::{Codec, Payload};
use super::placer::Extent;
use super::quality::{clock_drift_ppm, loss_ratio, mean_jitter_ms};
use super::rtp::{MediaTime, NotRtp, Ssrc};
use super::run::{Indexed, Run};
use super::timeline::{Ignored, PlannedSegment, Unplaceable};

/// A record names so many synchronisation sources of a segment and no more.
const SSRCS_NAMED_MAX: usize = 64;
/// A record names so many pressed keys and no more.
const KEYS_MAX: usize = 10_000;

/// A segment's packets, counted. Strangers' packets are not among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// That arrived, duplicates included.
    pub packets: u64,
    /// Missing by sequence number, or by what the sender counts.
    pub lost: u64,
    /// That arrived after one that follows them.
    pub late: u64,
    /// That arrived again.
    pub duplicate: u64,
}

/// The runs, ready to be placed.
#[derive(Debug)]
pub(crate) struct Settled {
    pub facts: BTreeMap<CaptureKey, SegmentFacts>,
    /// In order of their streams' first packet.
    pub runs: Vec<(StreamKey, Run)>,
    pub ignored: Ignored,
    /// What is known of the seams.
    pub joins: Joins,
    census: BTreeMap<CaptureKey, Census>,
    ssrcs: BTreeMap<CaptureKey, Vec<Ssrc>>,
    jitter_ms: f64,
    foreign: Option<Foreign>,
}

/// Audio that cannot be decoded.
#[derive(Debug)]
struct Foreign {
    payload_type: u8,
    codec: String,
    packets: u64,
}

/// Sorts and counts.
pub(crate) fn settle(index: Index) -> Settled {
    let malformed: u64 =
        NotRtp::ALL.iter().filter(|r| **r != NotRtp::Rtcp).map(|r| index.not_rtp[r.index()]).sum();
    let mut settled = Settled {
        facts: index.captures,
        runs: Vec::new(),
        joins: index.joins,
        ignored: Ignored { malformed: malformed + index.overflow, ..Ignored::default() },
        census: BTreeMap::new(),
        ssrcs: BTreeMap::new(),
        jitter_ms: 0.0,
        foreign: None,
    };
    let mut jitters = Vec::new();
    for (key, stream) in index.streams {
        if !settled.facts.get(&key.capture).is_some_and(|facts| facts.accepts(key.source)) {
            let packets = stream.runs.iter().map(|run| run.packets.len() as u64);
            settled.ignored.strangers += packets.sum::<u64>();
            continue;
        }
        if key.capture == CaptureKey::PUBLISHED {
            // What the network did to it was counted when it was published.
            let runs = stream.runs.into_iter().map(|run| (key, run));
            settled.runs.extend(runs);
            continue;
        }
        jitters.push(stream.jitter.total());
        let ssrcs = settled.ssrcs.entry(key.capture).or_default();
        if ssrcs.len() < SSRCS_NAMED_MAX && !ssrcs.contains(&key.ssrc) {
            ssrcs.push(key.ssrc);
        }
        let only = stream.runs.len() == 1;
        for mut run in stream.runs {
            let census = settled.census.entry(key.capture).or_default();
            put_in_order(&mut run, census);
            census.lost = census.lost.saturating_sub(not_kept(&run, &index.left_out));
            let told = only && !at_an_end(&run, &index.left_out);
            if let Some(facts) = settled.facts.get(&key.capture).filter(|_| told) {
                census.lost += facts.reports.unseen(key.ssrc, &run);
            }
            settled.count_payloads(key, &run);
            settled.runs.push((key, run));
        }
    }
    settled.jitter_ms = mean_jitter_ms(jitters.into_iter());
    settled
}

/// Sorts a run by media time and drops what arrived again.
fn put_in_order(run: &mut Run, census: &mut Census) {
    let arrived = run.packets.len() as u64;
    run.packets.sort_unstable_by_key(|p| (p.ticks, p.seq, p.ordinal));
    run.packets.dedup_by_key(|p| (p.ticks, p.seq));
    let kept = run.packets.len() as u64;
    let first = run.packets.iter().map(|p| p.seq).min().unwrap_or(0);
    let last = run.packets.iter().map(|p| p.seq).max().unwrap_or(0);
    let expected = u64::from(last - first) + 1;
    census.packets += arrived;
    census.duplicate += arrived - kept;
    census.lost += expected.saturating_sub(kept);
    census.late += run.packets.iter().filter(|p| p.is_behind()).count() as u64;
}

impl Settled {
    /// The codec that the switch named for a segment last; empty if none.
    pub(crate) fn codec(&self, capture: CaptureKey) -> &str {
        self.facts.get(&capture).map_or("", |facts| &facts.codec)
    }

    /// The name of a run.
    pub(crate) fn run_key(&self, number: usize) -> RunKey {
        let stream = self.runs[number].0;
        let before = self.runs[..number].iter().rev().take_while(|(key, _)| *key == stream);
        RunKey { stream, number: before.count() }
    }

    /// When a packet of a run with this media time would have arrived by the shortest way, by the
    /// recording's own time as far as it is known.
    pub(crate) fn wall(&self, run: usize, media: MediaTime) -> WallTime {
        let (key, run) = &self.runs[run];
        self.corrected(key.capture, run.wall(media))
    }

    fn corrected(&self, capture: CaptureKey, at: WallTime) -> WallTime {
        WallTime::from_micros(at.as_micros().saturating_add(self.joins.shift(capture, at)))
    }

    fn count_payloads(&mut self, key: StreamKey, run: &Run) {
        let codec = self.facts.get(&key.capture).map_or("", |facts| &facts.codec);
        for packet in &run.packets {
            match packet.payload(codec) {
                Payload::Foreign => {
                    self.ignored.foreign += 1;
                    let payload_type = packet.payload_type();
                    let foreign = self.foreign.get_or_insert_with(|| Foreign {
                        payload_type,
                        codec: codec.to_owned(),
                        packets: 0,
                    });
                    foreign.packets += 1;
                }
                Payload::Unknown => self.ignored.unknown += 1,
                Payload::Audio(_) | Payload::ComfortNoise | Payload::Event => {}
            }
        }
    }

    /// Fails if at least `packets` packets have audio that cannot be decoded.
    pub(crate) fn reject_foreign(&self, packets: u64) -> Result<(), Unplaceable> {
        match &self.foreign {
            Some(foreign) if foreign.packets >= packets => Err(Unplaceable::Foreign {
                payload_type: foreign.payload_type,
                codec: foreign.codec.clone(),
                packets: foreign.packets,
            }),
            _ => Ok(()),
        }
    }

    /// When keys were pressed.
    pub(crate) fn keys(&self) -> Vec<Pressed> {
        let mut keys = Vec::new();
        for (key, run) in &self.runs {
            let codec = self.codec(key.capture);
            let is_key = |packet: &&Indexed| packet.payload(codec) == Payload::Event;
            let mut pressed: Vec<_> = run.packets.iter().filter(is_key).map(|p| p.ticks).collect();
            // Packets are in the order of their times.
            pressed.dedup();
            let room = KEYS_MAX.saturating_sub(keys.len());
            keys.extend(pressed.into_iter().take(room).map(|ticks| {
                let Pressed { at, samples } = run.pressed(ticks);
                Pressed { at: self.corrected(key.capture, at), samples }
            }));
        }
        keys
    }

    /// The segments with the place that each was given. One that was heard and yet is nowhere in
    /// the file (another had the same audio) is named at the end, without length.
    pub(crate) fn segments(&self, extents: Vec<Extent>) -> Vec<PlannedSegment> {
        let end = extents.iter().map(|extent| extent.to).max().unwrap_or(0);
        let unused = self.census.keys().filter(|key| !extents.iter().any(|e| e.capture == **key));
        let unused = unused.map(|capture| Extent {
            capture: *capture,
            from: end,
            to: end,
            codecs: Vec::new(),
        });
        let unused: Vec<Extent> = unused.collect();
        let captured = extents.into_iter().filter(|e| e.capture != CaptureKey::PUBLISHED);
        let planned = captured.chain(unused).map(|extent| {
            let facts = self.facts.get(&extent.capture);
            PlannedSegment {
                capture: extent.capture,
                clock_offset_us: facts.and_then(|facts| facts.clock_offset_us),
                phantom: facts.and_then(|facts| facts.phantom.clone()),
                side: facts.and_then(|facts| facts.side),
                from: MediaTime(extent.from),
                to: MediaTime(extent.to),
                codecs: extent.codecs.iter().copied().map(Codec::name).collect(),
                census: self.census.get(&extent.capture).copied().unwrap_or_default(),
                ssrcs: self.ssrcs.get(&extent.capture).cloned().unwrap_or_default(),
            }
        });
        planned.collect()
    }

    /// The runs that were captured, not published before.
    fn captured(&self) -> impl Iterator<Item = &Run> {
        let captured = self.runs.iter().filter(|(key, _)| key.capture != CaptureKey::PUBLISHED);
        captured.map(|(_, run)| run)
    }

    /// What the network did: packets that our own disk could not take are not its fault.
    pub(crate) fn quality(&self) -> Quality {
        let ours: u64 = self.facts.values().flat_map(|f| &f.lost).map(|lost| lost.packets).sum();
        let missing: u64 = self.census.values().map(|census| census.lost).sum();
        let kept: u64 = self.census.values().map(|c| c.packets - c.duplicate).sum();
        let lost = missing.saturating_sub(ours);
        Quality {
            lossratio: loss_ratio(lost, kept + lost),
            jitterms: self.jitter_ms,
            clockdriftppm: clock_drift_ppm(self.captured().map(|run| run.delays().collect())),
            ..Quality::default()
        }
    }
}
