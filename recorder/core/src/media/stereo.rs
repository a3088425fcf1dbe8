//! Two sides of a call on one timeline: each is planned by itself, from what was captured of it, and
//! both are laid so that they begin and end together. What was captured of both in one is heard on
//! both. It neither reads audio nor places packets: that is [`super::timeline`]'s business.

use storage_core::WallTime;
use storage_core::record::{GapCause, Quality, Side};

use super::index::Index;
use super::joins::PlannedSeam;
use super::keys::distinct;
use super::quality::weighted;
use super::record::is_ours;
use super::rtp::MediaTime;
use super::timeline::{Ignored, Mark, Plan, PlannedGap, Unplaceable};

/// Moments of two sides that are no farther apart are the same one, 5 ms: they are known by when the kernel
/// received packets.
const APART_SAMPLES: u64 = 40;

/// A gap, and the side that it is of; `None`: of both.
type OfSide = (PlannedGap, Option<Side>);

/// What a voice file is made of.
#[derive(Clone, Debug)]
pub enum Layout {
    /// One channel.
    Mono(Box<Plan>),
    /// Two.
    Stereo(Box<Stereo>),
}

/// Two sides, from the same begin to the same end.
#[derive(Clone, Debug)]
pub struct Stereo {
    sides: [Plan; 2],
    whole: Plan,
    gaps: Vec<OfSide>,
}

impl Index {
    /// Places what was indexed: on one channel, or on two where a side of the call was captured by
    /// itself.
    ///
    /// # Errors
    /// As [`Index::plan`]; where one side has no audio at all, that is silent.
    pub fn layout(self) -> Result<Layout, Unplaceable> {
        if !self.has_sides() {
            return Ok(Layout::Mono(Box::new(self.plan()?)));
        }
        let [agent, others] = Side::ALL.map(|side| self.of_side(side).plan());
        let sides = match (agent, others) {
            (Ok(agent), Ok(others)) => [agent, others],
            (Ok(agent), Err(Unplaceable::NoAudio { disk_full, .. })) => {
                let others = silent_beside(&agent, disk_full);
                [agent, others]
            }
            (Err(Unplaceable::NoAudio { disk_full, .. }), Ok(others)) => {
                [silent_beside(&others, disk_full), others]
            }
            (
                Err(Unplaceable::NoAudio { packets, strangers, disk_full }),
                Err(Unplaceable::NoAudio { strangers: more, disk_full: also, .. }),
            ) => {
                // Both have counted all packets.
                let (strangers, disk_full) = (strangers + more, disk_full || also);
                return Err(Unplaceable::NoAudio { packets, strangers, disk_full });
            }
            (Err(Unplaceable::NoAudio { .. }) | Ok(_), Err(error)) | (Err(error), _) => {
                return Err(error);
            }
        };
        Ok(Layout::Stereo(Box::new(Stereo::of(sides)?)))
    }
}

impl Layout {
    /// What is true of the file as a whole; in a file of two channels nothing is placed by it.
    #[must_use]
    pub fn whole(&self) -> &Plan {
        match self {
            Self::Mono(plan) => plan,
            Self::Stereo(stereo) => &stereo.whole,
        }
    }

    /// Changes each channel's plan in the same way.
    ///
    /// # Errors
    /// As `change`.
    pub fn change(
        &mut self,
        mut change: impl FnMut(&mut Plan) -> Result<(), Unplaceable>,
    ) -> Result<(), Unplaceable> {
        match self {
            Self::Mono(plan) => change(plan),
            Self::Stereo(stereo) => {
                let mut sides = stereo.sides.clone();
                sides.iter_mut().try_for_each(change)?;
                **stereo = Stereo::of(sides)?;
                Ok(())
            }
        }
    }
}

impl Layout {
    /// Takes the tones of keys out of the audio, of both channels if either tells of the key.
    ///
    /// # Errors
    /// None that planning has not had.
    pub fn mask_keys(&mut self) -> Result<(), Unplaceable> {
        let keys = self.whole().keys.clone();
        self.change(|plan| {
            plan.keys.clone_from(&keys);
            plan.mask_keys();
            Ok(())
        })
    }
}

impl Stereo {
    /// Lays two sides so that they begin and end together.
    fn of(mut sides: [Plan; 2]) -> Result<Self, Unplaceable> {
        let [agent, others] = &sides;
        let started = agent.started.min(others.started);
        let ended = agent.ended.max(others.ended);
        for side in &mut sides {
            let lead = side.started.micros_since(started) / 125;
            let lead = u64::try_from(lead).unwrap_or(0);
            if lead > 0 {
                side.begin_earlier(started, lead, GapCause::NoMedia)?;
            }
            side.started = started;
        }
        let total = MediaTime(sides[0].total.0.max(sides[1].total.0));
        sides.iter_mut().for_each(|side| end_later(side, total, ended));
        let gaps = without_slivers(gaps_of(&sides), total);
        let whole = whole(&sides, &gaps);
        Ok(Self { sides, whole, gaps })
    }

    /// The plan of each channel, the agent's first.
    #[must_use]
    pub const fn sides(&self) -> &[Plan; 2] {
        &self.sides
    }

    /// What is true of both together. Its gaps are those of both at once; nothing is placed by it.
    #[must_use]
    pub const fn whole(&self) -> &Plan {
        &self.whole
    }

    /// Where no audio is on one side, or on neither (`None`); in order and not overlapping.
    pub fn gaps(&self) -> impl Iterator<Item = (&PlannedGap, Option<Side>)> {
        self.gaps.iter().map(|(gap, side)| (gap, *side))
    }
}

/// A side of which nothing was heard, as long as the other.
fn silent_beside(other: &Plan, disk_full: bool) -> Plan {
    let cause = if disk_full { GapCause::DiskFull } else { GapCause::NoMedia };
    Plan {
        impairment: 0.0,
        segments: Vec::new(),
        seams: Vec::new(),
        gaps: vec![PlannedGap { from: MediaTime(0), to: other.total, cause }],
        keys: Vec::new(),
        masked: Vec::new(),
        quality: Quality::default(),
        ignored: Ignored::default(),
        captured: 0,
        published: None,
        placed: Vec::new(),
        fades: Vec::new(),
        marks: other.marks.clone(),
        ..*other
    }
}

fn end_later(side: &mut Plan, total: MediaTime, ended: WallTime) {
    if total > side.total {
        match side.gaps.last_mut() {
            Some(last) if last.to == side.total && last.cause == GapCause::NoMedia => {
                last.to = total;
            }
            _ => {
                let (from, cause) = (side.total, GapCause::NoMedia);
                side.gaps.push(PlannedGap { from, to: total, cause });
            }
        }
        side.total = total;
    }
    if side.marks.last().is_none_or(|last| last.wall < ended) {
        side.marks.push(Mark { wall: ended, position: total.0 });
    }
    side.ended = ended;
}

/// Where either side has no audio. Where neither has, it is the recorder's fault if it is on one of them.
fn gaps_of([agent, others]: &[Plan; 2]) -> Vec<OfSide> {
    let ends = |gap: &PlannedGap| [gap.from, gap.to];
    let mut cuts: Vec<MediaTime> = agent.gaps.iter().chain(&others.gaps).flat_map(ends).collect();
    cuts.sort_unstable();
    cuts.dedup();
    let cause_at = |gaps: &[PlannedGap], at: MediaTime| {
        let next = gaps.partition_point(|gap| gap.to <= at);
        gaps.get(next).filter(|gap| gap.from <= at).map(|gap| gap.cause)
    };
    let mut gaps: Vec<OfSide> = Vec::new();
    for pair in cuts.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        let (cause, side) = match (cause_at(&agent.gaps, from), cause_at(&others.gaps, from)) {
            (Some(cause), Some(other)) => (if is_ours(other) { other } else { cause }, None),
            (Some(cause), None) => (cause, Some(Side::Agent)),
            (None, Some(cause)) => (cause, Some(Side::Others)),
            (None, None) => continue,
        };
        add(&mut gaps, (PlannedGap { from, to, cause }, side));
    }
    gaps
}

/// Where both sides begin or end a gap, or the recording, they do so at moments that are measured apart. What
/// is less than the error of that is no gap of one side: it belongs to the gap of both, and at either
/// end of the recording it is not worth a word.
fn without_slivers(mut gaps: Vec<OfSide>, total: MediaTime) -> Vec<OfSide> {
    let is_sliver = |(gap, side): &OfSide| side.is_some() && gap.to.0 - gap.from.0 < APART_SAMPLES;
    for at in 0..gaps.len() {
        let (gap, _) = gaps[at];
        let before = at.checked_sub(1).and_then(|before| gaps.get(before));
        let before = before.filter(|(other, side)| side.is_none() && other.to == gap.from);
        let after = gaps.get(at + 1);
        let after = after.filter(|(other, side)| side.is_none() && other.from == gap.to);
        if is_sliver(&gaps[at])
            && let Some((both, _)) = before.or(after).copied()
        {
            gaps[at] = (PlannedGap { cause: both.cause, ..gap }, None);
        }
    }
    let mut kept = Vec::with_capacity(gaps.len());
    gaps.into_iter().for_each(|gap| add(&mut kept, gap));
    let at_an_end = |gap: &PlannedGap| gap.from.0 == 0 || gap.to == total;
    kept.retain(|of_side| !(is_sliver(of_side) && at_an_end(&of_side.0)));
    kept
}

/// Adds a gap behind the others, or to the last of them.
fn add(gaps: &mut Vec<OfSide>, (gap, side): OfSide) {
    match gaps.last_mut() {
        Some((last, of)) if last.to == gap.from && last.cause == gap.cause && *of == side => {
            last.to = gap.to;
        }
        _ => gaps.push((gap, side)),
    }
}

fn whole(sides: &[Plan; 2], gaps: &[OfSide]) -> Plan {
    let [agent, others] = sides;
    let mut segments: Vec<_> = agent.segments.iter().chain(&others.segments).cloned().collect();
    segments.sort_by_key(|segment| (segment.capture, segment.from));
    // What heard both sides in one is on both.
    segments.dedup_by_key(|segment| segment.capture);
    segments.sort_by_key(|segment| segment.from);
    let mut masked: Vec<_> = agent.masked.iter().chain(&others.masked).copied().collect();
    masked.sort_unstable();
    masked.dedup_by(|later, earlier| {
        let touch = later.0 <= earlier.1;
        if touch {
            earlier.1 = earlier.1.max(later.1);
        }
        touch
    });
    let audio = |side: &Plan| side.placed.iter().map(|placed| f64::from(placed.take)).sum::<f64>();
    let (left, right) = (audio(agent), audio(others));
    let impairment = agent.impairment * left + others.impairment * right;
    let packets = |side: &Plan| {
        let counted = side.segments.iter().map(|segment| segment.census);
        counted.map(|census| (census.packets - census.duplicate + census.lost) as f64).sum::<f64>()
    };
    let both = |gap: &&(PlannedGap, Option<Side>)| gap.1.is_none();
    // A side without audio has no law of its own.
    let spoken = if agent.placed.is_empty() { others } else { agent };
    Plan {
        started: agent.started,
        ended: agent.ended,
        total: agent.total,
        lost_first: agent.lost_first.or(others.lost_first),
        law: spoken.law,
        impairment: impairment / (left + right).max(1.0),
        segments,
        seams: seams_of([agent, others]),
        gaps: gaps.iter().filter(both).map(|(gap, _)| *gap).collect(),
        keys: distinct(agent.keys.iter().chain(&others.keys).copied().collect()),
        masked,
        quality: weighted([(&agent.quality, packets(agent)), (&others.quality, packets(others))]),
        ignored: agent.ignored.and(others.ignored),
        captured: agent.captured + others.captured,
        published: None,
        placed: Vec::new(),
        fades: Vec::new(),
        marks: spoken.marks.clone(),
    }
}

/// The seams of both sides. Where both go from the same node to the same other one at about the same
/// moment, that is one.
fn seams_of(sides: [&Plan; 2]) -> Vec<PlannedSeam> {
    let mut seams: Vec<_> = sides.into_iter().flat_map(|side| side.seams.iter().copied()).collect();
    seams.sort_by_key(|seam| seam.at);
    let mut kept: Vec<PlannedSeam> = Vec::with_capacity(seams.len());
    for seam in seams {
        let nodes = |seam: &PlannedSeam| (seam.from.node, seam.to.node);
        let near = kept.iter().rev().take_while(|one| seam.at.0 - one.at.0 < APART_SAMPLES);
        if !near.into_iter().any(|one| nodes(one) == nodes(&seam)) {
            kept.push(seam);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use storage_core::{NodeId, SegmentId};

    use super::*;
    use crate::media::index::CaptureKey;

    #[test]
    fn a_seam_of_both_sides_is_one() {
        let seam = |at: u64, from: u16, to: u16| {
            // Each side has segments of its own, numbered one after the other.
            let key =
                |n: u16| CaptureKey { node: NodeId(n / 10), segment: SegmentId((n % 10).into()) };
            let (at, from, to) = (MediaTime(at), key(from), key(to));
            PlannedSeam { at, from, to, shift_us: 0, confidence: None }
        };
        let of = |seams: &[PlannedSeam]| Plan {
            seams: seams.to_vec(),
            ..Plan::excerpts(Vec::new(), MediaTime(80_000))
        };
        let agent = of(&[seam(800, 11, 21), seam(8_000, 21, 13), seam(16_000, 13, 25)]);
        let others = of(&[seam(839, 12, 22), seam(8_040, 22, 14), seam(16_010, 14, 34)]);
        let kept: Vec<_> = seams_of([&agent, &others]).iter().map(|seam| seam.at.0).collect();
        // The second are too far apart, and the third lead to two nodes.
        assert_eq!(kept, [800, 8_000, 8_040, 16_000, 16_010]);
    }

    #[test]
    fn what_is_less_than_the_error_of_measurement_is_no_gap_of_one_side() {
        use GapCause::{Hold, Loss, NoMedia};
        use Side::{Agent, Others};
        type Row = (u64, u64, GapCause, Option<Side>);
        let cases: [(&str, &[Row], &[Row]); 6] = [
            (
                "at the edges of a hold",
                &[
                    (790, 800, NoMedia, Some(Agent)),
                    (800, 1_600, Hold, None),
                    (1_600, 1_639, Hold, Some(Others)),
                ],
                &[(790, 1_639, Hold, None)],
            ),
            ("at the begin", &[(0, 3, NoMedia, Some(Others))], &[]),
            ("at the end", &[(8_000, 8_039, NoMedia, Some(Agent))], &[]),
            (
                "a frame and more is one",
                &[(0, 40, NoMedia, Some(Others)), (800, 960, Loss, Some(Agent))],
                &[(0, 40, NoMedia, Some(Others)), (800, 960, Loss, Some(Agent))],
            ),
            (
                "in the midst it stays",
                &[(800, 810, Loss, Some(Agent))],
                &[(800, 810, Loss, Some(Agent))],
            ),
            ("of both it stays", &[(0, 8, NoMedia, None)], &[(0, 8, NoMedia, None)]),
        ];
        for (what, found, expected) in cases {
            let gaps = found.iter().map(|(from, to, cause, side)| {
                (PlannedGap { from: MediaTime(*from), to: MediaTime(*to), cause: *cause }, *side)
            });
            let kept = without_slivers(gaps.collect(), MediaTime(8_039));
            let kept: Vec<Row> =
                kept.iter().map(|(gap, side)| (gap.from.0, gap.to.0, gap.cause, *side)).collect();
            assert_eq!(kept, expected, "{what}");
        }
    }
}
