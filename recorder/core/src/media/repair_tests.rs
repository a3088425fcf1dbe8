//! Repairs of recordings of one talk, of which each lacks something, against the talk itself.

use proptest::collection::vec;
use proptest::prelude::*;
use storage_core::record::{GapCause, Pause, SeamMethod, VoiceFormat};
use storage_core::{Draft, NodeId, Recording, RecordingId, WallTime};

use super::record::record;
use super::repair::{Leaning, Piece, Published, Repair};
use super::rtp::MediaTime;
use super::talk::talk;
use super::timeline::{Plan, PlannedGap};

/// When the talk begins.
const BEGIN_MS: i64 = 1_700_000_000_000;
const RATE: usize = 8000;

/// A copy: what is in its file, and its record.
struct Made {
    samples: Vec<i16>,
    record: Recording,
}

impl Made {
    /// Of `talk` from sample `from` to `to`; its gaps in milliseconds of its own. Its node's clock is ahead by
    /// `ahead_ms`.
    fn of(
        talk: &[i16],
        copy: u8,
        (from, to): (usize, usize),
        gaps: &[(u64, u64, GapCause)],
        ahead_ms: i64,
    ) -> Self {
        let mut samples = talk[from..to].to_vec();
        let mut planned: Vec<PlannedGap> = Vec::new();
        for (startms, endms, cause) in gaps.iter().copied() {
            let (from, to) = (startms * 8, (endms * 8).min(samples.len() as u64));
            let from = from.max(planned.last().map_or(0, |gap| gap.to.0 + 8));
            if from < to {
                samples[from as usize..to as usize].fill(0);
                let (from, to) = (MediaTime(from), MediaTime(to));
                planned.push(PlannedGap { from, to, cause });
            }
        }
        let at = |sample: usize| BEGIN_MS * 1000 + sample as i64 * 125 + ahead_ms * 1000;
        let [started, ended] = [from, to].map(|at_sample| WallTime::from_micros(at(at_sample)));
        let total = MediaTime(samples.len() as u64);
        let plan = Plan { started, ended, gaps: planned, ..Plan::excerpts(Vec::new(), total) };
        let id = RecordingId::new(started, [copy; 10]);
        let node = NodeId(copy.into());
        let draft = Draft { copy, ended: Some(ended), ..Draft::blank(id, node, started) };
        Self { record: record(draft, &plan, VoiceFormat::WavG711), samples }
    }

    fn published(&self) -> Published<'_> {
        Published { record: &self.record, samples: self.samples.len() as u64 }
    }
}

fn said(seed: u64, seconds: usize) -> Vec<i16> {
    talk(seed, seconds * RATE).into_iter().map(|sample| (sample * 30_000.0) as i16).collect()
}

/// The repaired file and its record; `None` if there is nothing to repair.
fn repair(one: &Made, other: &Made, ahead_us: i64) -> Option<Made> {
    let mut repair = Repair::new(one.published(), other.published(), ahead_us);
    while let Some(listen) = repair.listen() {
        let part = |made: &Made, range: std::ops::Range<u64>| {
            made.samples[range.start as usize..range.end as usize].to_vec()
        };
        repair.heard(&part(one, listen.repaired), &part(other, listen.other));
    }
    let repaired = repair.plan()?;
    let mut samples = Vec::new();
    for piece in &repaired.pieces {
        match *piece {
            Piece::Kept { from, samples: count } => {
                samples.extend(&one.samples[from as usize..(from + count) as usize]);
            }
            Piece::Missing { samples: count } => samples.extend(vec![0; count as usize]),
            Piece::Filled { from, samples: count, beside } => {
                let step = |places: Option<(u64, u64)>| {
                    places.map_or(0, |(at, at_other)| {
                        i32::from(one.samples[at as usize])
                            - i32::from(other.samples[at_other as usize])
                    })
                };
                let mut filling = other.samples[from as usize..(from + count) as usize].to_vec();
                Leaning::new(count, beside.map(step)).apply(0, &mut filling);
                samples.extend(filling);
            }
        }
    }
    assert_eq!(samples.len() as u64, repaired.plan.total.0);
    let name = RecordingId::new(one.record.started, [9; 10]);
    let record = repaired.record(name, VoiceFormat::WavG711);
    assert_eq!(
        (record.repairof, record.repairedfrom),
        (Some(one.record.recordingid), Some(other.record.recordingid),)
    );
    Some(Made { samples, record })
}

/// Whether all of a file is the talk from `from` on, but for its gaps, which are silent. A gap names each millisecond
/// that is missing in part.
fn check(talk: &[i16], from: usize, made: &Made) {
    for (at, sample) in made.samples.iter().enumerate() {
        let ms = at as u64 / 8;
        let gap = made.record.gaps.iter().find(|gap| (gap.startms..gap.endms).contains(&ms));
        let at_edge = gap.is_some_and(|gap| ms == gap.startms || ms + 1 == gap.endms);
        let is_right = match gap {
            None => *sample == talk[from + at],
            Some(_) => *sample == 0 || (at_edge && *sample == talk[from + at]),
        };
        assert!(is_right, "sample {at} ({ms} ms) is {sample}, missing: {gap:?}");
    }
}

#[test]
fn a_hole_is_filled_to_the_sample_though_the_clocks_are_apart() {
    let talk = said(1, 30);
    let hole = (9_000, 12_500, GapCause::Takeover);
    let one = Made::of(&talk, 1, (0, 240_000), &[hole, (20_000, 20_020, GapCause::Loss)], 0);
    let other = Made::of(&talk, 2, (1_603, 240_000), &[], 180);
    let made = repair(&one, &other, 0).unwrap();
    check(&talk, 0, &made);
    assert_eq!(made.record.gaps, []);
    assert_eq!(made.record.durationms, one.record.durationms);
    assert_eq!((made.record.started, made.record.copy), (one.record.started, 1));
    let seams: Vec<_> = made.record.seams.iter().map(|s| (s.atms, s.from.0, s.to.0)).collect();
    assert_eq!(seams, [(9_000, 1, 2), (12_500, 2, 1), (20_000, 1, 2), (20_020, 2, 1)]);
    for seam in &made.record.seams {
        assert_eq!(seam.method, SeamMethod::Content);
        assert!((seam.shiftms.abs() - 180.0).abs() < 0.6, "{seam:?}");
    }
}

#[test]
fn what_the_other_one_heard_before_and_after_is_put_in_front_and_behind() {
    let talk = said(2, 30);
    let one = Made::of(&talk, 1, (8_005, 160_000), &[], 0);
    let other = Made::of(&talk, 2, (0, 240_000), &[(29_000, 29_500, GapCause::NoMedia)], -120);
    let made = repair(&one, &other, 0).unwrap();
    // It begins at a whole millisecond before what was there.
    check(&talk, 5, &made);
    assert_eq!(made.samples.len(), 240_000 - 5);
    assert_eq!(made.record.started.micros_since(one.record.started), -1_000_000);
    let gaps: Vec<_> = made.record.gaps.iter().map(|gap| (gap.startms, gap.endms)).collect();
    assert_eq!(gaps, [(28_999, 29_500)]);
}

#[test]
fn a_pause_is_not_filled_and_nothing_is_taken_from_one() {
    let talk = said(3, 30);
    let gaps = [(4_000, 6_000, GapCause::Paused), (10_000, 12_000, GapCause::Takeover)];
    let mut one = Made::of(&talk, 1, (0, 240_000), &gaps, 0);
    let mut other = Made::of(&talk, 2, (0, 240_000), &[], 0);
    let pause = |startms, endms| Pause { startms, endms, by: "susan".to_owned() };
    one.record.pauses = vec![pause(3_990, 6_010)];
    other.record.pauses = vec![pause(10_500, 11_000)];
    let made = repair(&one, &other, 0).unwrap();
    check(&talk, 0, &made);
    let gaps: Vec<_> = made.record.gaps.iter().map(|gap| (gap.startms, gap.endms)).collect();
    assert_eq!(gaps, [(4_000, 6_000), (10_500, 11_000)]);
    assert_eq!(made.record.pauses.len(), 2);
}

#[test]
fn nothing_is_made_where_the_other_one_has_nothing() {
    let talk = said(4, 20);
    let hole = [(5_000, 7_000, GapCause::Takeover)];
    let one = Made::of(&talk, 1, (0, 160_000), &hole, 0);
    let other = Made::of(&talk, 2, (0, 160_000), &hole, 0);
    assert!(repair(&one, &other, 0).is_none());
    let whole = Made::of(&talk, 1, (0, 160_000), &[], 0);
    assert!(repair(&whole, &other, 0).is_none());
}

#[test]
fn what_cannot_be_recognised_is_laid_by_the_clocks_and_says_so() {
    let (talk, another) = (said(5, 20), said(6, 20));
    let one = Made::of(&talk, 1, (0, 160_000), &[(5_000, 7_000, GapCause::Takeover)], 0);
    let other = Made::of(&another, 2, (0, 160_000), &[], 30);
    let made = repair(&one, &other, 30_000).unwrap();
    assert!(made.record.seams.iter().all(|seam| seam.method == SeamMethod::Time));
    assert_eq!(made.record.segments.len(), other.record.segments.len());
    assert_eq!(made.samples[48_000..48_100], another[48_000..48_100]);
}

#[test]
fn a_filling_begins_and_ends_at_the_level_of_what_is_beside_it() {
    let talk = said(7, 20);
    let one = Made::of(&talk, 1, (0, 160_000), &[(5_000, 5_200, GapCause::Loss)], 0);
    // The other phantom hears everything with a little more gain, and something constant.
    let louder: Vec<i16> = talk
        .iter()
        .map(|s| (i32::from(*s) * 11 / 10 + 200).clamp(-32_768, 32_767) as i16)
        .collect();
    let other = Made::of(&louder, 2, (0, 160_000), &[], 0);
    let made = repair(&one, &other, 0).unwrap();
    let steps = |samples: &[i16]| {
        samples.windows(2).map(|pair| (i32::from(pair[1]) - i32::from(pair[0])).abs()).max()
    };
    // What is added fades by a thirty-third of the difference with each sample.
    let usual = steps(&louder[38_000..43_600]).unwrap() * 11 / 10;
    assert!(steps(&made.samples[39_990..41_610]).unwrap() <= usual);
    assert_eq!(made.samples[40_100..41_500], louder[40_100..41_500]);
    assert_eq!(made.samples[..40_000], talk[..40_000]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever is missing in either, each sample of the result is that of the talk, and what is missing in
    /// the result is what is missing in both.
    #[test]
    fn each_sample_is_the_talks(
        seed in 0_u64..1000,
        holes in vec((300_u64..18_000, 1_u64..900), 0..6),
        others in vec((300_u64..18_000, 1_u64..900), 0..6),
        from in 0_usize..4_000,
        from_other in 0_usize..4_000,
        ahead in -200_i64..200,
    ) {
        let talk = said(seed, 20);
        let gaps = |holes: &[(u64, u64)]| {
            let mut gaps: Vec<_> =
                holes.iter().map(|(at, long)| (*at, at + long, GapCause::Loss)).collect();
            gaps.sort_unstable_by_key(|gap| gap.0);
            gaps
        };
        let one = Made::of(&talk, 1, (from, 160_000), &gaps(&holes), 0);
        let other = Made::of(&talk, 2, (from_other, 160_000), &gaps(&others), ahead);
        let Some(made) = repair(&one, &other, 0) else { return Ok(()) };
        let lead = one.record.started.micros_since(made.record.started) / 125;
        check(&talk, from - lead as usize, &made);
        let missing = |record: &Recording| -> u64 {
            record.gaps.iter().map(|gap| gap.endms - gap.startms).sum()
        };
        prop_assert!(missing(&made.record) < missing(&one.record) + u64::from(lead > 0));
        prop_assert!(made.record.complete);
    }
}
