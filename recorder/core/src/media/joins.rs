//! Where captures of one call meet, as it was found by listening ([`super::seam`]): which moment of one
//! run is which moment of another. The placer lays runs by that instead of by their clocks, and
//! [`PlannedSeam`] says afterwards what became of each seam. Nothing is listened to here.

use storage_core::WallTime;

use super::index::{CaptureKey, StreamKey};
use super::rtp::MediaTime;
use super::settle::Settled;

/// What was found at a seam counts for the same two runs so far away: 5 s. Their clocks drift apart by
/// a quarter of a millisecond in that time at the worst.
const NEAR_SAMPLES: u64 = 5 * 8000;

/// Cuts by wall time are in whole samples at either run.
pub(crate) const ROUNDED_JOIN_TICKS: u64 = 2;

/// A run: of whom, and which of his.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunKey {
    pub stream: StreamKey,
    pub number: usize,
}

/// A few milliseconds that lead from one capture over to the other, in place of what both say there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lead {
    /// So many of them lie before the moment, the rest behind it.
    pub before: u16,
    pub samples: Vec<i16>,
}

/// A moment that two runs have in common.
#[derive(Clone, Debug)]
pub(crate) struct Join {
    pub from: RunKey,
    pub to: RunKey,
    /// The moment in the earlier run; where `cut`, this one ends there though it has more.
    pub at: MediaTime,
    /// The same in the later one.
    pub at_to: MediaTime,
    /// How sure it is; `None` if nobody but the clocks says so.
    pub confidence: Option<f32>,
    pub cut: bool,
    pub lead: Option<Lead>,
}

/// What was found out about one recording's seams.
#[derive(Clone, Debug, Default)]
pub struct Joins {
    pub(crate) list: Vec<Join>,
    /// By how much a capture's times are to be corrected around a moment of its own clock.
    shifts: Vec<(CaptureKey, WallTime, i64)>,
}

impl Joins {
    /// Corrects a capture's times, microseconds.
    pub(crate) fn correct(&mut self, capture: CaptureKey, around: WallTime, micros: i64) {
        self.shifts.push((capture, around, micros));
    }

    /// What is to be added to a time of a capture's clock, microseconds.
    pub(crate) fn shift(&self, capture: CaptureKey, at: WallTime) -> i64 {
        let of = self.shifts.iter().filter(|shift| shift.0 == capture);
        let nearest = of.min_by_key(|shift| shift.1.micros_since(at).saturating_abs());
        nearest.map_or(0, |shift| shift.2)
    }

    /// Whether it was found out when a capture lies.
    pub(crate) fn knows(&self, capture: CaptureKey) -> bool {
        self.shifts.iter().any(|shift| shift.0 == capture)
    }

    /// What was found where the earlier run is at `end` and the later one goes on.
    pub(crate) fn between(&self, from: RunKey, to: RunKey, end: MediaTime) -> Option<&Join> {
        let far = |join: &Join| join.at.0.abs_diff(end.0);
        let of = self.list.iter().filter(|join| join.from == from && join.to == to);
        of.min_by_key(|join| far(join)).filter(|join| far(join) <= NEAR_SAMPLES)
    }
}

impl Join {
    /// The moment of the later run that is a moment of the earlier one; it may be before its begin.
    pub(crate) fn in_later(&self, earlier: MediaTime) -> i64 {
        self.at_to.0.cast_signed() + earlier.0.cast_signed() - self.at.0.cast_signed()
    }
}

/// Where the placer went from one capture to another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crossing {
    /// The earlier run, and where what is used of it ends.
    pub from: usize,
    pub end: MediaTime,
    /// The later one, and where what is used of it begins.
    pub to: usize,
    pub begin: MediaTime,
    /// The position at which the earlier one ends.
    pub left: u64,
    /// The position at which the later one begins.
    pub position: u64,
}

/// A seam of the timeline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlannedSeam {
    /// Where the later capture goes on.
    pub at: MediaTime,
    /// What is before it.
    pub from: CaptureKey,
    /// What is behind it.
    pub to: CaptureKey,
    /// By how much the later one was moved from where the clocks put it, microseconds.
    pub shift_us: i64,
    /// How sure that is; `None` if its place is that of the clocks.
    pub confidence: Option<f32>,
}

/// Samples that take the place of what was captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fade {
    pub from: u64,
    pub samples: Vec<i16>,
}

/// The seams of a timeline, and what leads over them.
pub(crate) fn seams(settled: &Settled, crossings: &[Crossing]) -> (Vec<PlannedSeam>, Vec<Fade>) {
    let mut fades = Vec::new();
    let mut seam = |crossing: &Crossing| {
        let Crossing { from, end, to, begin, left, position } = *crossing;
        let join = settled.joins.between(settled.run_key(from), settled.run_key(to), end);
        let (from_key, _) = &settled.runs[from];
        let (to_key, to_run) = &settled.runs[to];
        let met =
            join.filter(|join| left == position && join.in_later(end) == begin.0.cast_signed());
        if let Some((join, lead)) = met.and_then(|join| Some((join, join.lead.as_ref()?))) {
            let moment = left.saturating_add(join.at.0).saturating_sub(end.0);
            if join.at == end && moment >= u64::from(lead.before) {
                let from = moment - u64::from(lead.before);
                fades.push(Fade { from, samples: lead.samples.clone() });
            }
        }
        let by_clock = to_run.wall(begin).micros_since(settled.wall(from, end));
        let hole = MediaTime(position - left).as_micros();
        PlannedSeam {
            at: MediaTime(position),
            from: from_key.capture,
            to: to_key.capture,
            shift_us: hole.saturating_sub(by_clock),
            confidence: join.and_then(|join| join.confidence),
        }
    };
    let seams = crossings.iter().map(&mut seam).collect();
    (seams, fades)
}
