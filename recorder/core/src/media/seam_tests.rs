//! Captures of one talk by several nodes, whose clocks are wrong by more than anybody knows: at each seam the
//! talk goes on where it was, without a click, or the record says that only the clocks placed it.

use std::collections::BTreeMap;

use proptest::prelude::*;
use storage_core::g711::Law;
use storage_core::journal::{Entry, Found, Scanner};
use storage_core::record::{SeamMethod, VoiceFormat};
use storage_core::{Draft, NodeId, Recording, RecordingId, SegmentId, WallTime};

use super::node_tests::journal_of;
use super::published::{PublishedAudio, entries};
use super::rtp::tests::packet;
use super::talk::{Ear, talk};
use super::{
    CaptureKey, Codec, Coded, Fades, Index, Part, Pass, Plan, PlannedSeam, Render, Source,
    VoiceSink, record, revised,
};

const START_MICROS: i64 = 1_700_000_000_000_000;
const FRAME: usize = 160;
const SECOND: usize = 8_000;
/// What a seam may be wrong by: 5 ms.
const WRONG_MAX: f64 = 40.0;

/// What one node captured.
#[derive(Clone, Debug)]
struct Node {
    number: u16,
    ear: Ear,
    packets: usize,
    /// (first packet, past the last) that did not arrive.
    lost: Vec<(usize, usize)>,
    /// Delays in microseconds, used in turn.
    jitter: Vec<i64>,
    /// By how much its clock is ahead, microseconds: what is known of it, and what is not.
    offset: i64,
    error: i64,
}

impl Node {
    /// It hears from a second of the talk on, to another one.
    fn new(number: u16, from: f64, to: f64) -> Self {
        let law = Law::A;
        let from = from * SECOND as f64;
        let ear = Ear { from, ppm: 0.0, gain: 1.0, noise: 0.0, law, seed: number.into() };
        let packets = (to * SECOND as f64 - from) as usize / FRAME;
        Self { number, ear, packets, lost: Vec::new(), jitter: vec![0], offset: 0, error: 0 }
    }

    fn key(&self) -> CaptureKey {
        CaptureKey { node: NodeId(self.number), segment: SegmentId(1) }
    }

    fn source(&self) -> Source {
        let clock_offset_us = (self.number != 1).then_some(self.offset);
        Source { node: NodeId(self.number), clock_offset_us }
    }

    /// (arrival by its clock, packet, datagram), as it arrives.
    fn arrivals(&self, talk: &[f32]) -> Vec<(i64, usize, Vec<u8>)> {
        let heard = self.ear.hear(talk, self.packets * FRAME);
        let payload_type = if self.ear.law == Law::A { 8 } else { 0 };
        let mut rows = Vec::new();
        for (number, payload) in heard.chunks_exact(FRAME).enumerate() {
            if self.lost.iter().any(|(from, to)| (*from..*to).contains(&number)) {
                continue;
            }
            let delay = if number % 25 == 0 { 0 } else { self.jitter[number % self.jitter.len()] };
            let moment = (self.ear.moment(number * FRAME) * 125.0) as i64;
            let at = START_MICROS + moment + delay + self.offset + self.error;
            let seq = u16::try_from(number).unwrap();
            let ticks = u32::try_from(number * FRAME).unwrap() + 77 * u32::from(self.number);
            let ssrc = u32::from(self.number);
            rows.push((at, number, packet(ssrc, seq, ticks, payload_type, false, payload)));
        }
        rows.sort();
        rows
    }

    fn journal(&self, talk: &[f32]) -> Vec<u8> {
        let arrivals = self.arrivals(talk).into_iter().map(|(at, _, datagram)| (at, datagram));
        journal_of(self.key(), WallTime::from_micros(START_MICROS), arrivals)
    }
}

/// A file that was published.
#[derive(Clone)]
struct Published {
    record: Recording,
    samples: Vec<i16>,
    origin: f64,
}

struct Linear<'a>(&'a [i16]);

impl PublishedAudio for Linear<'_> {
    type Error = std::convert::Infallible;

    fn samples(&self) -> u64 {
        self.0.len() as u64
    }

    fn keeps_silence(&self) -> bool {
        true
    }

    fn read(&mut self, at: u64, count: usize, payload: &mut Vec<u8>) -> Result<Codec, Self::Error> {
        let at = usize::try_from(at).unwrap();
        payload.extend(self.0[at..at + count].iter().flat_map(|sample| sample.to_be_bytes()));
        Ok(Codec::L16)
    }
}

/// All that a recording is made of.
struct Site<'a> {
    talk: &'a [f32],
    published: Option<&'a Published>,
    nodes: &'a [Node],
    journals: Vec<Vec<u8>>,
}

/// What it was made into.
struct Made {
    plan: Plan,
    samples: Vec<i16>,
}

impl<'a> Site<'a> {
    fn new(talk: &'a [f32], published: Option<&'a Published>, nodes: &'a [Node]) -> Self {
        let journals = nodes.iter().map(|node| node.journal(talk)).collect();
        Self { talk, published, nodes, journals }
    }

    fn each(&self, mut each: impl FnMut(Option<Source>, Option<&Entry<'_>>)) {
        if let Some(Published { record, samples, .. }) = self.published {
            each(Some(Source::PUBLISHED), None);
            let Ok(()) = entries(record, &mut Linear(samples), |entry| each(None, Some(&entry)));
        }
        for (node, journal) in self.nodes.iter().zip(&self.journals) {
            each(Some(node.source()), None);
            for found in Scanner::new(journal) {
                let Found::Frame { frame, .. } = found else { panic!("damage") };
                each(None, Some(&frame.entry().unwrap()));
            }
        }
    }

    fn rendered(&self, plan: &Plan) -> Vec<i16> {
        let mut file = File { samples: Vec::new(), fades: Fades::new(plan) };
        let mut render = Render::new(plan);
        loop {
            self.each(|_, entry| {
                entry.into_iter().for_each(|entry| render.entry(entry, &mut file).unwrap());
            });
            if render.end_pass(&mut file).unwrap() == Pass::Done {
                return file.samples;
            }
        }
    }

    fn made(&self) -> Made {
        let mut index = Index::new();
        self.each(|source, entry| {
            source.into_iter().for_each(|source| index.source(source));
            entry.into_iter().for_each(|entry| index.entry(entry));
        });
        if let Some(listening) = index.listening() {
            let samples = self.rendered(listening.plan());
            index.join(listening.joins(&samples));
        }
        let plan = index.plan().unwrap();
        let samples = self.rendered(&plan);
        assert_eq!(samples.len() as u64, plan.total.0);
        Made { plan, samples }
    }

    /// For each packet in the order of reading, whose it is and which moment of the talk it begins with.
    fn begins(&self) -> Vec<(CaptureKey, f64, f64)> {
        let mut begins = Vec::new();
        if let Some(Published { record, samples, origin }) = self.published {
            let Ok(()) = entries(record, &mut Linear(samples), |entry| {
                let Entry::Packets(block) = entry else { return };
                begins.extend(block.iter().map(|(_, datagram)| {
                    let timestamp = u32::from_be_bytes(datagram[4..8].try_into().unwrap());
                    (CaptureKey::PUBLISHED, origin + f64::from(timestamp), 1.0)
                }));
            });
        }
        for node in self.nodes {
            let begin = |number: usize| node.ear.moment(number * FRAME);
            let pace = 1.0 - node.ear.ppm * 1e-6;
            let rows = node.arrivals(self.talk);
            begins.extend(rows.into_iter().map(|row| (node.key(), begin(row.1), pace)));
        }
        begins
    }

    /// By how many samples of the talk each seam is wrong, and what is said of it.
    fn wrong(&self, plan: &Plan) -> Vec<(f64, PlannedSeam)> {
        let begins = self.begins();
        let used: Vec<_> = plan.placed.iter().filter(|placed| placed.take > 0).collect();
        let mut wrong = Vec::new();
        for pair in used.windows(2) {
            let [(a, at_a, pace_a), (b, at_b, pace_b)] =
                [pair[0], pair[1]].map(|placed| begins[placed.ordinal as usize]);
            if a == b {
                continue;
            }
            let end = at_a + f64::from(pair[0].skip + pair[0].take) * pace_a;
            let begin = at_b + f64::from(pair[1].skip) * pace_b;
            let hole = f64::from(pair[1].position - pair[0].position - u32::from(pair[0].take));
            let seam = plan.seams[wrong.len()];
            assert_eq!((seam.from, seam.to, seam.at.0), (a, b, u64::from(pair[1].position)));
            wrong.push((begin - end - hole, seam));
        }
        assert_eq!(wrong.len(), plan.seams.len());
        wrong
    }
}

struct File<'p> {
    samples: Vec<i16>,
    fades: Fades<'p>,
}

impl File<'_> {
    fn take(&mut self, mut samples: &[i16]) {
        while let Some(part) = self.fades.next(samples.len()) {
            let taken = match part {
                Part::Kept(count) => &samples[..count],
                Part::Replaced(with) => with,
            };
            self.samples.extend(taken);
            samples = &samples[taken.len()..];
        }
    }
}

impl VoiceSink for File<'_> {
    type Error = std::convert::Infallible;

    fn coded(&mut self, packet: Coded<'_>) -> Result<(), Self::Error> {
        assert_eq!(packet.codec, Codec::L16);
        let linear = packet.payload.chunks_exact(2);
        let linear: Vec<i16> = linear.map(|pair| i16::from_be_bytes([pair[0], pair[1]])).collect();
        let from = usize::from(packet.skip);
        self.take(&linear[from..from + usize::from(packet.take)]);
        Ok(())
    }

    fn audio(&mut self, law: Law, samples: &[u8]) -> Result<(), Self::Error> {
        let linear: Vec<i16> = samples.iter().map(|byte| law.decode(*byte)).collect();
        self.take(&linear);
        Ok(())
    }

    fn silence(&mut self, samples: u64) -> Result<(), Self::Error> {
        self.fades.silence(samples);
        self.samples.resize(self.samples.len() + usize::try_from(samples).unwrap(), 0);
        Ok(())
    }
}

fn by_content(plan: &Plan) -> Vec<bool> {
    plan.seams.iter().map(|seam| seam.confidence.is_some()).collect()
}

fn nodes(plan: &Plan) -> Vec<(u16, u16)> {
    plan.seams.iter().map(|seam| (seam.from.node.0, seam.to.node.0)).collect()
}

fn draft(plan: &Plan) -> Draft {
    let at = WallTime::from_micros(START_MICROS);
    let id = RecordingId::new(at, [1; 10]);
    Draft { ended: Some(plan.ended), ..Draft::blank(id, NodeId(1), at) }
}

/// The largest step from sample to sample, and the largest energy of 5 ms, in a stretch.
fn roughness(samples: &[i16]) -> (i32, i64) {
    let step = samples.windows(2).map(|pair| (i32::from(pair[1]) - i32::from(pair[0])).abs());
    let energy = samples.windows(40).map(|window| {
        window.iter().map(|sample| i64::from(*sample) * i64::from(*sample)).sum::<i64>()
    });
    (step.max().unwrap_or(0), energy.max().unwrap_or(0))
}

/// What 999 of 1,000 steps, and energies of 5 ms, in a talk do not exceed.
fn usual_roughness(samples: &[i16]) -> (i32, i64) {
    let mut steps: Vec<i32> =
        samples.windows(2).map(|pair| (i32::from(pair[1]) - i32::from(pair[0])).abs()).collect();
    steps.sort_unstable();
    let mut energies: Vec<i64> = samples
        .windows(40)
        .map(|window| window.iter().map(|one| i64::from(*one) * i64::from(*one)).sum())
        .collect();
    energies.sort_unstable();
    (steps[steps.len() * 999 / 1000], energies[energies.len() * 999 / 1000])
}

fn assert_smooth(made: &Made) {
    let usual = usual_roughness(&made.samples);
    for seam in &made.plan.seams {
        let at = usize::try_from(seam.at.0).unwrap();
        let around = &made.samples[at.saturating_sub(120)..(at + 120).min(made.samples.len())];
        let here = roughness(around);
        assert!(here.0 <= usual.0 && here.1 <= usual.1, "{seam:?}: {here:?} of {usual:?}");
    }
}

#[test]
fn a_clock_that_is_wrong_moves_nothing_where_both_were_heard() {
    let talk = talk(1, 30 * SECOND);
    for (error, jitter) in [(150_000, 0), (-200_000, 9_000), (3_000, 0), (499_000, 0)] {
        let second = Node {
            error,
            offset: -7_000_000,
            jitter: vec![jitter, 0, jitter / 2],
            ear: Ear { gain: 0.7, law: Law::Mu, ..Node::new(2, 17.0037, 29.0).ear },
            ..Node::new(2, 17.0037, 29.0)
        };
        let nodes = [Node::new(1, 0.0, 20.0), second];
        let site = Site::new(&talk, None, &nodes);
        let made = site.made();
        let [(wrong, seam)] = site.wrong(&made.plan)[..] else { panic!("{:?}", made.plan.seams) };
        assert!(wrong.abs() <= 1.0, "{error}: {wrong} samples, {seam:?}");
        assert!(seam.confidence.is_some_and(|sure| sure > 0.8), "{seam:?}");
        assert!((seam.shift_us + error).abs() < 2_000, "{error}: {seam:?}");
        assert_eq!(made.plan.gaps, []);
        assert!(made.plan.total.0.abs_diff(29 * SECOND as u64) <= FRAME as u64);
        let at = seam.at.0 as usize;
        assert!((19 * SECOND..20 * SECOND).contains(&at), "left in the last second: {at}");
        assert_smooth(&made);

        let record = record(draft(&made.plan), &made.plan, VoiceFormat::WavG711);
        let [told] = record.seams[..] else { panic!("{:?}", record.seams) };
        assert_eq!((told.from, told.to, told.method), (NodeId(1), NodeId(2), SeamMethod::Content));
        assert!((told.shiftms + error as f64 / 1000.0).abs() < 2.0, "{told:?}");
        assert_eq!(told.atms, seam.at.0 / 8);
    }
}

/// So much is common where a recording goes on by another device of the same node, whose packets came late.
#[test]
fn a_second_of_both_tells_how_they_lie() {
    let mut found = 0;
    for (seed, late) in (20..40).zip([-15_000, 11_000].into_iter().cycle()) {
        let talk = talk(seed, 12 * SECOND);
        let second = Node { error: late, ..Node::new(2, 4.8031, 11.0) };
        let heard = [Node::new(1, 0.0, 6.0), second];
        let site = Site::new(&talk, None, &heard);
        let made = site.made();
        let [(wrong, seam)] = site.wrong(&made.plan)[..] else { panic!("{:?}", made.plan.seams) };
        if seam.confidence.is_some() {
            assert!(wrong.abs() <= 1.0, "talk {seed}: {wrong} samples, {seam:?}");
            found += 1;
        }
    }
    assert_eq!(found, 20);
}

/// Two registrations at one switch are sent the same samples, which tell sooner than what only sounds alike.
#[test]
fn a_fifth_of_a_second_of_the_same_samples_tells_how_they_lie() {
    let mut found = 0;
    for (seed, late) in (20..40).zip([-15_000, 11_000].into_iter().cycle()) {
        let talk = talk(seed, 12 * SECOND);
        let second = Node { error: late, ..Node::new(2, 5.8, 11.0) };
        let heard = [Node::new(1, 0.0, 6.0), second];
        let site = Site::new(&talk, None, &heard);
        let made = site.made();
        let [(wrong, seam)] = site.wrong(&made.plan)[..] else { panic!("{:?}", made.plan.seams) };
        if seam.confidence.is_some() {
            assert!(wrong.abs() <= 1.0, "talk {seed}: {wrong} samples, {seam:?}");
            found += 1;
        }
    }
    // The others fall into pauses.
    assert!(found > 12, "{found} of 20");
}

#[test]
fn a_chain_comes_back_to_where_it_was() {
    let talk = talk(2, 30 * SECOND);
    let first = Node { lost: vec![(400, 600)], ..Node::new(1, 0.0, 25.0) };
    let second = Node { error: 180_000, ..Node::new(2, 5.0041, 15.0) };
    let nodes_heard = [first, second];
    let site = Site::new(&talk, None, &nodes_heard);
    let made = site.made();
    assert_eq!(nodes(&made.plan), [(1, 2), (2, 1)]);
    assert_eq!(by_content(&made.plan), [true, true]);
    let wrong: Vec<f64> = site.wrong(&made.plan).into_iter().map(|seam| seam.0).collect();
    assert!(wrong.iter().all(|wrong| wrong.abs() <= 1.0), "{wrong:?}");
    assert_eq!((made.plan.gaps.len(), made.plan.total.0), (0, 25 * SECOND as u64));
    assert_smooth(&made);
}

#[test]
fn three_nodes_are_laid_on_the_first_ones_time() {
    let talk = talk(3, 40 * SECOND);
    let second = Node { error: 120_000, ..Node::new(2, 9.002, 22.0) };
    let third = Node { error: -170_000, ..Node::new(3, 20.0, 35.0) };
    let heard = [third, Node::new(1, 0.0, 12.0), second];
    let site = Site::new(&talk, None, &heard);
    let made = site.made();
    assert_eq!((nodes(&made.plan), by_content(&made.plan)), (vec![(1, 2), (2, 3)], vec![true; 2]));
    let wrong = site.wrong(&made.plan);
    assert!(wrong.iter().all(|(wrong, _)| wrong.abs() <= 1.0), "{wrong:?}");
    assert_smooth(&made);
}

#[test]
fn what_does_not_tell_stays_where_the_clocks_put_it() {
    let mut quiet = talk(4, 30 * SECOND);
    quiet[15 * SECOND..21 * SECOND].fill(0.0);
    let talk = talk(4, 30 * SECOND);
    let overlap = [Node::new(1, 0.0, 20.0), Node { error: 20_000, ..Node::new(2, 17.0, 29.0) }];
    let hole = [Node::new(1, 0.0, 20.0), Node { error: 20_000, ..Node::new(2, 21.0, 29.0) }];
    for (talk, nodes, hole) in [(&quiet, overlap, 0), (&talk, hole, 1_020 * 8)] {
        let site = Site::new(talk, None, &nodes);
        let made = site.made();
        let [(_, seam)] = site.wrong(&made.plan)[..] else { panic!("{:?}", made.plan.seams) };
        assert_eq!((seam.confidence, seam.shift_us), (None, 0));
        let gaps: Vec<u64> = made.plan.gaps.iter().map(|gap| gap.to.0 - gap.from.0).collect();
        assert_eq!(gaps.iter().sum::<u64>(), hole);
        let record = record(draft(&made.plan), &made.plan, VoiceFormat::WavG711);
        assert_eq!((record.seams[0].method, record.seams[0].confidence), (SeamMethod::Time, None));
    }
}

#[test]
fn one_capture_has_no_seam_and_nothing_to_listen_to() {
    let talk = talk(5, 10 * SECOND);
    let nodes = [Node { lost: vec![(100, 200)], ..Node::new(1, 0.0, 9.0) }];
    let site = Site::new(&talk, None, &nodes);
    let mut index = Index::new();
    site.each(|_, entry| entry.into_iter().for_each(|entry| index.entry(entry)));
    assert!(index.listening().is_none());
    let made = site.made();
    let record = record(draft(&made.plan), &made.plan, VoiceFormat::WavG711);
    assert_eq!(record.seams, []);
    assert!(!serde_json::to_string(&record).unwrap().contains("seams"));
}

#[test]
fn a_hole_leaves_what_is_around_it_as_it_was_received() {
    let talk = talk(6, 30 * SECOND);
    let nodes = [Node::new(1, 0.0, 12.0), Node::new(2, 14.0, 20.0)];
    let made = Site::new(&talk, None, &nodes).made();
    let heard = |node: &Node| -> Vec<i16> {
        let bytes = node.ear.hear(&talk, node.packets * FRAME);
        bytes.iter().map(|byte| Law::A.decode(*byte)).collect()
    };
    assert!(made.samples.starts_with(&heard(&nodes[0])));
    assert!(made.samples.ends_with(&heard(&nodes[1])));
}

fn publish(site: &Site<'_>, origin: f64) -> Published {
    let made = site.made();
    let record = record(draft(&made.plan), &made.plan, VoiceFormat::Wav);
    Published { record, samples: made.samples, origin }
}

#[test]
fn a_late_capture_fills_a_published_hole_by_what_is_heard_on_both_sides() {
    let talk = talk(7, 40 * SECOND);
    let nodes_before = [Node::new(1, 2.0, 12.0), Node::new(3, 16.0, 30.0)];
    let before = publish(&Site::new(&talk, None, &nodes_before), 2.0 * SECOND as f64);
    assert_eq!(before.record.gaps.len(), 1);
    let late = [Node { error: 160_000, ..Node::new(2, 9.0052, 19.0) }];
    let site = Site::new(&talk, Some(&before), &late);
    let made = site.made();
    assert_eq!((made.plan.gaps.len(), by_content(&made.plan)), (0, vec![true; 2]));
    let wrong = site.wrong(&made.plan);
    assert!(wrong.iter().all(|(wrong, _)| wrong.abs() <= 2.0), "{wrong:?}");
    // Not a sample of what was published is another one.
    let hole = 10 * SECOND..14 * SECOND;
    assert_eq!(made.samples[..hole.start], before.samples[..hole.start]);
    assert_eq!(made.samples[hole.end..], before.samples[hole.end..]);
    assert_smooth(&made);

    let record = revised(&before.record, draft(&made.plan), &made.plan, VoiceFormat::Wav);
    let told: Vec<_> = record.seams.iter().map(|s| (s.from.0, s.to.0, s.method)).collect();
    assert_eq!(told, [(1, 2, SeamMethod::Content), (2, 3, SeamMethod::Content)]);
    assert!(record.seams.iter().all(|seam| seam.confidence.is_some()));
}

#[test]
fn what_the_file_was_made_of_is_no_new_segment_where_its_end_is_no_whole_millisecond() {
    let talk = talk(9, 30 * SECOND);
    let nodes = [Node::new(1, 0.0, 10.0), Node::new(2, 8.0003, 16.0)];
    let before = publish(&Site::new(&talk, None, &nodes), 0.0);
    assert_eq!(before.record.segments.len(), 2);
    assert_ne!(before.samples.len() % 8, 0);
    let made = Site::new(&talk, Some(&before), &nodes).made();
    let record = revised(&before.record, draft(&made.plan), &made.plan, VoiceFormat::Wav);
    assert_eq!(record.segments, before.record.segments);
}

/// A mirror had less of the first capture than its node has when it is back.
#[test]
fn what_comes_back_of_a_capture_prolongs_its_segment() {
    let talk = talk(10, 30 * SECOND);
    let second = Node::new(2, 11.0, 16.0);
    for until in [9.04, 10.5, 11.5] {
        let part = [Node::new(1, 0.0, 9.0), second.clone()];
        let before = publish(&Site::new(&talk, None, &part), 0.0);
        let whole = [Node::new(1, 0.0, until), second.clone()];
        let made = Site::new(&talk, Some(&before), &whole).made();
        let record = revised(&before.record, draft(&made.plan), &made.plan, VoiceFormat::Wav);
        let rows: Vec<_> = record.segments.iter().map(|s| (s.node.0, s.endms, s.packets)).collect();
        let end = (until.min(11.0) * 1000.0) as u64;
        assert_eq!(rows, [(1, end, (until * 50.0).round() as u64), (2, 16_000, 250)], "{until}");
    }
}

#[test]
fn what_was_published_is_prolonged_at_both_ends() {
    let talk = talk(8, 40 * SECOND);
    let origin = 10.0 * SECOND as f64;
    let before = publish(&Site::new(&talk, None, &[Node::new(1, 10.0, 20.0)]), origin);
    let late = [Node { error: -140_000, ..Node::new(2, 5.0, 30.0) }];
    let site = Site::new(&talk, Some(&before), &late);
    let made = site.made();
    assert_eq!(by_content(&made.plan), [true, true], "{:?}", made.plan.seams);
    let wrong = site.wrong(&made.plan);
    assert!(wrong.iter().all(|(wrong, _)| wrong.abs() <= 2.0), "{wrong:?}");
    let begin = made.plan.published.unwrap().0 as usize;
    assert_eq!(made.samples[begin..begin + before.samples.len()], before.samples);
    assert_smooth(&made);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever two nodes heard of a talk: a seam is wrong by at most 5 ms, or says that the clocks
    /// placed it; and wherever there is enough talk, it is found.
    #[test]
    fn a_seam_is_right_or_says_that_it_is_by_the_clocks(
        seed: u64,
        overlap in 0.0_f64..6.0,
        error in -200_000_i64..200_000,
        jitter in proptest::collection::vec(0_i64..30_000, 1..40),
        (gain, noise, ppm) in (0.1_f32..1.0, 0.0_f32..0.01, -50.0_f64..50.0),
        (law, law_second) in (any::<bool>(), any::<bool>()),
        lost in proptest::collection::vec((0_usize..600, 1_usize..4), 0..8),
    ) {
        let talk = talk(seed, 20 * SECOND);
        let of = |mu: bool| if mu { Law::Mu } else { Law::A };
        let mut first = Node::new(1, 0.0, 10.0);
        first.ear = Ear { noise, law: of(law), ..first.ear };
        let mut second = Node { error, jitter, ..Node::new(2, 10.0 - overlap, 19.0) };
        second.ear = Ear { gain, noise, ppm, law: of(law_second), ..second.ear };
        second.lost = lost.into_iter().map(|(from, count)| (from, from + count)).collect();
        let nodes = [first, second];
        let site = Site::new(&talk, None, &nodes);
        let made = site.made();
        let mut methods = BTreeMap::new();
        for (wrong, seam) in site.wrong(&made.plan) {
            let sure = seam.confidence.is_some();
            prop_assert!(!sure || wrong.abs() <= WRONG_MAX, "{wrong} samples, {seam:?}");
            prop_assert!(sure || seam.shift_us.abs() <= 5_000, "{seam:?}");
            *methods.entry(sure).or_insert(0) += 1;
        }
        if overlap > 2.0 && gain > 0.3 && noise < 0.002 {
            prop_assert!(methods.contains_key(&true), "{:?}", made.plan.seams);
        }
    }
}
