//! One call captured by several nodes, each with its own clock, its own stream and its own packet
//! phase: every sample of the call is in the file once and in its place, or in a declared gap.

use proptest::prelude::*;
use storage_core::g711::Law;
use storage_core::journal::{BlockWriter, Channel, Entry, Fact, Found, Scanner, encode_fact};
use storage_core::record::{GapCause, VoiceFormat};
use storage_core::{Draft, NodeId, Recording, RecordingId, SegmentId, WallTime};

use super::published::{PublishedAudio, entries};
use super::rtp::tests::packet;
use super::timeline::Placed;
use super::{
    CaptureKey, Codec, Coded, Index, Pass, Plan, Render, Source, VoiceSink, record, revised,
};

const START_MICROS: i64 = 1_700_000_000_000_000;
const FRAME: i64 = 160;
/// What is taken for an error of measurement: 5 ms.
const SLACK: i64 = 40;
/// A hole that another capture fills is longer than this: 200 ms.
const FILLED: i64 = 1600;

/// A sample of the call at a moment, in samples since it began.
fn sample(at: i64) -> u8 {
    let mixed = at.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64.cast_signed());
    let byte = (mixed >> 40).to_le_bytes()[0];
    // Silence is told apart from audio.
    if byte == Law::A.silence() { 0 } else { byte }
}

/// What one node heard.
#[derive(Clone, Debug)]
struct Heard {
    node: u16,
    /// First sample of the first packet.
    from: i64,
    packets: i64,
    /// (first packet, how many) that the network lost.
    lost: Vec<(i64, i64)>,
    /// Delays in microseconds, used in turn.
    jitter: Vec<i64>,
    /// Its clock, ahead of ours.
    offset: i64,
    seq: u16,
    timestamp: u32,
}

impl Heard {
    fn new(node: u16, from: i64, packets: i64) -> Self {
        let (seq, timestamp) = (65_500 + node, 0xffff_f000 + u32::from(node));
        let (lost, jitter) = (Vec::new(), vec![0]);
        Self { node, from, packets, lost, jitter, offset: 0, seq, timestamp }
    }

    fn key(&self) -> CaptureKey {
        CaptureKey { node: NodeId(self.node), segment: SegmentId(1) }
    }

    fn source(&self) -> Source {
        let clock_offset_us = (self.node != 1).then_some(self.offset);
        Source { node: NodeId(self.node), clock_offset_us }
    }

    fn kept(&self) -> impl Iterator<Item = i64> {
        let lost =
            |n: i64| self.lost.iter().any(|(first, count)| (*first..first + count).contains(&n));
        (0..self.packets).filter(move |n| !lost(*n))
    }

    /// (arrival by its clock, first sample of the call, datagram), as it arrives.
    fn arrivals(&self) -> Vec<(i64, i64, Vec<u8>)> {
        let mut rows = Vec::new();
        for (index, number) in self.kept().enumerate() {
            // Of 25 packets one comes the shortest way.
            let delay = if index % 25 == 0 { 0 } else { self.jitter[index % self.jitter.len()] };
            let begin = self.from + number * FRAME;
            let seq = self.seq.wrapping_add(u16::try_from(number).unwrap());
            let ticks = u32::try_from(number * FRAME).unwrap();
            let payload: Vec<u8> = (begin..begin + FRAME).map(sample).collect();
            let timestamp = self.timestamp.wrapping_add(ticks);
            let datagram = packet(u32::from(self.node), seq, timestamp, 8, false, &payload);
            rows.push((START_MICROS + begin * 125 + delay + self.offset, begin, datagram));
        }
        rows.sort();
        rows
    }

    /// Its journal.
    fn journal(&self) -> Vec<u8> {
        let at = WallTime::from_micros(START_MICROS + self.from * 125 + self.offset);
        let arrivals = self.arrivals().into_iter().map(|(at, _, datagram)| (at, datagram));
        journal_of(self.key(), at, arrivals)
    }
}

/// What the journal of a capture's node would hold of it: datagrams by when they came, microseconds.
pub(super) fn journal_of(
    CaptureKey { node, segment }: CaptureKey,
    at: WallTime,
    arrivals: impl Iterator<Item = (i64, Vec<u8>)>,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let recordingid = RecordingId::new(at, [7; 10]);
    let phantom = format!("7800{node}").as_str().into();
    let opened = Fact::SegmentOpened { segment, recordingid, phantom, at, key: None, side: None };
    encode_fact(&mut bytes, &opened).unwrap();
    for (arrival, datagram) in arrivals {
        let at = WallTime::from_micros(arrival);
        let source = "192.0.2.5:2050".parse().unwrap();
        let mut block = BlockWriter::begin(&mut bytes, segment, Channel::Rtp, source, at);
        assert!(block.push(at, &datagram));
        block.finish();
    }
    bytes
}

/// A file that was published.
#[derive(Clone)]
struct Published {
    record: Recording,
    samples: Vec<u8>,
}

impl PublishedAudio for &[u8] {
    type Error = std::convert::Infallible;

    fn samples(&self) -> u64 {
        self.len() as u64
    }

    fn keeps_silence(&self) -> bool {
        true
    }

    fn read(&mut self, at: u64, count: usize, payload: &mut Vec<u8>) -> Result<Codec, Self::Error> {
        let at = usize::try_from(at).unwrap();
        payload.extend_from_slice(&self[at..at + count]);
        Ok(Codec::G711(Law::A))
    }
}

/// All sources of a recording.
struct Sources<'a> {
    published: Option<&'a Published>,
    heard: &'a [Heard],
}

impl Sources<'_> {
    fn each(&self, mut each: impl FnMut(Option<Source>, Option<&Entry<'_>>)) {
        if let Some(Published { record, samples }) = self.published {
            each(Some(Source::PUBLISHED), None);
            let mut samples = samples.as_slice();
            entries(record, &mut samples, |entry| each(None, Some(&entry))).unwrap();
        }
        for heard in self.heard {
            each(Some(heard.source()), None);
            for found in Scanner::new(&heard.journal()) {
                let Found::Frame { frame, .. } = found else { panic!("damage") };
                each(None, Some(&frame.entry().unwrap()));
            }
        }
    }

    fn plan(&self) -> Plan {
        let mut index = Index::new();
        self.each(|source, entry| {
            source.into_iter().for_each(|source| index.source(source));
            entry.into_iter().for_each(|entry| index.entry(entry));
        });
        index.plan().unwrap()
    }

    fn file(&self, plan: &Plan) -> Vec<u8> {
        let mut file = File::default();
        let mut render = Render::new(plan);
        loop {
            self.each(|_, entry| {
                entry.into_iter().for_each(|entry| render.entry(entry, &mut file).unwrap());
            });
            if render.end_pass(&mut file).unwrap() == Pass::Done {
                return file.0;
            }
        }
    }

    /// First sample of the call in each packet in the order of reading; of published ones by
    /// what they are in the file.
    fn begins(&self) -> Vec<(CaptureKey, i64)> {
        let mut begins = Vec::new();
        if let Some(Published { record, samples }) = self.published {
            let mut samples = samples.as_slice();
            entries(record, &mut samples, |entry| {
                let Entry::Packets(block) = entry else { return };
                begins.extend(block.iter().map(|(_, datagram)| {
                    let timestamp = u32::from_be_bytes(datagram[4..8].try_into().unwrap());
                    (CaptureKey::PUBLISHED, i64::from(timestamp))
                }));
            })
            .unwrap();
        }
        for heard in self.heard {
            begins.extend(heard.arrivals().into_iter().map(|row| (heard.key(), row.1)));
        }
        begins
    }
}

#[derive(Default)]
struct File(Vec<u8>);

impl VoiceSink for File {
    type Error = std::convert::Infallible;

    fn coded(&mut self, packet: Coded<'_>) -> Result<(), Self::Error> {
        panic!("all is G.711 here: {packet:?}")
    }

    fn audio(&mut self, _: Law, samples: &[u8]) -> Result<(), Self::Error> {
        self.0.extend(samples);
        Ok(())
    }

    fn silence(&mut self, samples: u64) -> Result<(), Self::Error> {
        self.0.extend(vec![Law::A.silence(); usize::try_from(samples).unwrap()]);
        Ok(())
    }
}

/// A stretch of a file that comes from one packet.
#[derive(Clone, Copy, Debug)]
struct Laid {
    /// Where it lies.
    position: i64,
    /// Which sample of the call comes first.
    begin: i64,
    take: i64,
}

fn laid(sources: &Sources<'_>, plan: &Plan) -> Vec<Laid> {
    let begins = sources.begins();
    let row = |placed: &Placed| {
        let begin = begins[placed.ordinal as usize].1 + i64::from(placed.skip);
        let (position, take) = (i64::from(placed.position), i64::from(placed.take));
        Laid { position, begin, take }
    };
    plan.placed.iter().map(row).collect()
}

/// Every sample is in its place, none is there twice, what is missing is declared. `exact` is by
/// how much a seam may be wrong where it was not taken for an error of measurement, `sliver` how
/// much audio is too little to be added.
fn check(
    heard: &[Heard],
    plan: &Plan,
    laid: &[Laid],
    (exact, sliver): (i64, i64),
) -> Result<(), TestCaseError> {
    let slack = SLACK + exact;
    let mut missing = Vec::new();
    for pair in laid.windows(2) {
        let (a, b) = (pair[0], pair[1]);
        let (file, call) = (b.position - a.position - a.take, b.begin - a.begin - a.take);
        prop_assert!(file >= 0);
        let wrong = (file - call).abs();
        prop_assert!(wrong <= exact || (file == 0 && wrong <= slack), "{file} {call} {b:?}");
        if file > 0 {
            missing.push((a.position + a.take, b.position));
        }
    }
    // Where nothing lies, and only there, a gap is declared.
    let mut gaps: Vec<(i64, i64)> = Vec::new();
    for gap in &plan.gaps {
        let (from, to) = (gap.from.0.cast_signed(), gap.to.0.cast_signed());
        match gaps.last_mut() {
            Some(last) if last.1 == from => last.1 = to,
            _ => gaps.push((from, to)),
        }
    }
    prop_assert_eq!(gaps, missing);
    let slack = sliver + exact;
    // What was captured is there, or lies in one of the gaps; in none that it could have filled.
    for heard in heard {
        for number in heard.kept() {
            let (from, to) = (heard.from + number * FRAME, heard.from + (number + 1) * FRAME);
            let next = laid.partition_point(|laid| laid.begin + laid.take < to - slack);
            let near = &laid[next.saturating_sub(2)..laid.len().min(next + 3)];
            let covered = |l: &Laid| (to.min(l.begin + l.take) - from.max(l.begin)).max(0);
            if FRAME - near.iter().map(covered).sum::<i64>() <= slack {
                continue;
            }
            let Some((before, after)) =
                next.checked_sub(1).and_then(|b| laid.get(b)).zip(laid.get(next))
            else {
                // A sliver at either end.
                let end = laid.last().map_or(0, |laid| laid.begin + laid.take);
                let begin = laid.first().map_or(0, |laid| laid.begin);
                prop_assert!(to <= end + slack && from >= begin - slack, "{from} is nowhere");
                continue;
            };
            let hole = after.begin - before.begin - before.take;
            prop_assert!(hole <= FILLED + 2 * slack, "{from} could fill a hole of {hole}");
        }
    }
    Ok(())
}

fn join(heard: &[Heard]) -> (Plan, Vec<Laid>) {
    let sources = Sources { published: None, heard };
    let plan = sources.plan();
    let laid = laid(&sources, &plan);
    check(heard, &plan, &laid, (1, SLACK)).unwrap();
    let file = sources.file(&plan);
    for Laid { position, begin, take } in &laid {
        for n in 0..*take {
            assert_eq!(file[usize::try_from(position + n).unwrap()], sample(begin + n));
        }
    }
    (plan, laid)
}

fn gaps(plan: &Plan) -> Vec<(u64, u64, GapCause)> {
    plan.gaps.iter().map(|gap| (gap.from.0, gap.to.0, gap.cause)).collect()
}

#[test]
fn two_nodes_that_overlap_are_joined_to_the_sample() {
    // (first sample of the second node, its clock's offset in microseconds)
    for (from, offset) in [
        (60 * FRAME + 60, 0),
        (60 * FRAME + 60, 3_600_000_000),
        (95 * FRAME - 60, -45_000_000),
        (FRAME + 100, 12_345),
        // To within the error of measurement packets stay whole.
        (50 * FRAME + 30, 777),
    ] {
        let second = Heard { offset, ..Heard::new(2, from, 100) };
        let (plan, laid) = join(&[Heard::new(1, 0, 100), second]);
        assert_eq!(gaps(&plan), []);
        let last = laid.last().unwrap();
        let error = plan.total.0.cast_signed() - (from + 100 * FRAME);
        let phase = from.rem_euclid(FRAME);
        let whole = phase <= SLACK || phase >= FRAME - SLACK;
        assert_eq!(error == 0, !whole || phase == 0, "{from}: {error}");
        assert_eq!(last.begin + last.take, from + 100 * FRAME);
        let nodes: Vec<_> = plan.segments.iter().map(|s| s.capture.node.0).collect();
        assert_eq!(nodes, [1, 2]);
        let offsets: Vec<_> = plan.segments.iter().map(|s| s.clock_offset_us).collect();
        assert_eq!(offsets, [None, Some(offset)]);
    }
}

#[test]
fn a_hole_between_two_nodes_is_as_long_as_it_was() {
    for hole in [41, 100, 160, 8_000, 80_000, 8_000 * 3600] {
        let second = Heard { offset: -5_000_000, ..Heard::new(2, 100 * FRAME + hole, 50) };
        let (plan, _) = join(&[Heard::new(1, 0, 100), second]);
        let from = 100 * FRAME.cast_unsigned();
        let to = from + hole.cast_unsigned();
        assert_eq!(gaps(&plan), [(from, to, GapCause::Takeover)]);
    }
}

#[test]
fn what_one_node_missed_comes_from_the_other() {
    let first = Heard { lost: vec![(100, 50)], ..Heard::new(1, 0, 300) };
    let second = Heard { offset: 250_000, ..Heard::new(2, 50 * FRAME + 70, 70) };
    let (plan, _) = join(&[first.clone(), second.clone()]);
    // The second one ends in the midst of the hole.
    let (from, to) = (120 * FRAME as u64 + 70, 150 * FRAME as u64);
    assert_eq!(gaps(&plan), [(from, to, GapCause::Takeover)]);
    let second = Heard { packets: 200, ..second };
    let (plan, _) = join(&[first, second]);
    assert_eq!(gaps(&plan), []);
    assert_eq!(plan.total.0, 300 * FRAME as u64);
}

fn heard(node: u16) -> impl Strategy<Value = Heard> {
    let when = (0_i64..60_000, 1_i64..400);
    let lost = proptest::collection::vec((0_i64..400, 1_i64..60), 0..4);
    let jitter = proptest::collection::vec(0_i64..30_000, 1..60);
    let counters = (any::<u16>(), any::<u32>(), -100_000_000_i64..100_000_000);
    (when, lost, jitter, counters).prop_filter_map("nothing arrived", move |drawn| {
        let ((from, packets), lost, jitter, (seq, timestamp, offset)) = drawn;
        let offset = if node == 1 { 0 } else { offset };
        let heard = Heard { node, from, packets, lost, jitter, offset, seq, timestamp };
        heard.kept().next().map(|_| heard.clone())
    })
}

fn publish(sources: &Sources<'_>, before: Option<&Recording>) -> (Plan, Published) {
    let plan = sources.plan();
    let at = WallTime::from_micros(START_MICROS);
    let draft = Draft {
        ended: Some(plan.ended),
        ..Draft::blank(RecordingId::new(at, [1; 10]), NodeId(1), at)
    };
    let record = match before {
        Some(before) => revised(before, draft, &plan, VoiceFormat::WavG711),
        None => record(draft, &plan, VoiceFormat::WavG711),
    };
    let samples = sources.file(&plan);
    (plan, Published { record, samples })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn two_captures_of_one_call_make_one_timeline(a in heard(1), b in heard(2), turned: bool) {
        let mut heard = vec![a, b];
        if turned {
            heard.reverse();
        }
        let sources = Sources { published: None, heard: &heard };
        let plan = sources.plan();
        check(&heard, &plan, &laid(&sources, &plan), (1, SLACK))?;
    }

    #[test]
    fn three_nodes_are_no_worse(a in heard(1), b in heard(2), c in heard(3)) {
        let heard = vec![c, a, b];
        let sources = Sources { published: None, heard: &heard };
        let plan = sources.plan();
        check(&heard, &plan, &laid(&sources, &plan), (1, SLACK))?;
    }

    /// A capture found after the file was published fills its holes and prolongs its ends, and not
    /// a sample of what was published is lost.
    #[test]
    fn a_late_capture_is_laid_around_what_is_published(a in heard(1), b in heard(2)) {
        let heard = [a, b];
        let alone = Sources { published: None, heard: &heard[..1] };
        let (first, published) = publish(&alone, None);
        let origin = laid(&alone, &first)[0].begin;

        // The same capture once more adds nothing.
        let again = Sources { published: Some(&published), heard: &heard[..1] };
        let same = again.plan();
        prop_assert_eq!((same.captured, same.published.unwrap().0), (0, 0));
        prop_assert!(again.file(&same) == published.samples);
        prop_assert_eq!(gaps(&same).len(), gaps(&first).len());

        let sources = Sources { published: Some(&published), heard: &heard[1..] };
        let (plan, second) = publish(&sources, Some(&published.record));
        let mut lie = laid(&sources, &plan);
        let begins = sources.begins();
        let mut kept = 0;
        for (lie, placed) in lie.iter_mut().zip(&plan.placed) {
            if begins[placed.ordinal as usize].0 == CaptureKey::PUBLISHED {
                prop_assert_eq!(placed.skip, 0);
                kept += i64::from(placed.take);
                // Published samples are numbered by the file.
                lie.begin += origin;
            }
        }
        let audio: u64 = first.placed.iter().map(|placed| u64::from(placed.take)).sum();
        prop_assert_eq!(kept, audio.cast_signed());
        // A record says when it began to the millisecond.
        check(&heard, &plan, &lie, (10, 2 * SLACK))?;
        prop_assert_eq!(second.samples.len() as u64, plan.total.0);
        let nodes: std::collections::BTreeSet<_> =
            second.record.segments.iter().map(|segment| segment.node.0).collect();
        prop_assert!(nodes.contains(&1));
        // And a further revision loses nothing either.
        let third = Sources { published: Some(&second), heard: &heard[1..] };
        let plan = third.plan();
        prop_assert!(!plan.adds(), "{} samples", plan.captured);
        prop_assert!(plan.captured > 0 || third.file(&plan) == second.samples);
    }
}
