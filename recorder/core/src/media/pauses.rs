//! Pauses on a recording's timeline: nothing that was received in one is laid down, whoever captured it;
//! the stretch is silence and is declared with cause `paused`; and what was not kept there counts neither as
//! lost nor as missing. That nothing is captured in a pause is the media thread's matter: here it is made sure of for what a node
//! captured that had not heard of the pause yet. When a recording is paused is the call machine's.

use storage_core::draft::Pause;
use storage_core::record::GapCause;
use storage_core::{Draft, WallTime};

use super::index::{CaptureKey, Index};
use super::rtp::MediaTime;
use super::run::Run;
use super::timeline::{Mark, Plan, PlannedGap, Unplaceable};

/// What is left of a hole beside a pause is part of the pause up to here, 100 ms: the moment at which somebody
/// asked lies anywhere between two packets.
const SLIVER_SAMPLES: u64 = 800;
/// A pause that ends so much after the last audio is one whose clock somebody set: 24 h and a little.
const TAIL_MICROS_MAX: i64 = 25 * 3600 * 1_000_000;

/// A pause from its begin to its end.
pub(crate) type Paused = (WallTime, WallTime);

/// The pauses of a recording; one that goes on ends with it.
fn stretches(draft: &Draft) -> Vec<Paused> {
    let end = |pause: &Pause| pause.stretch.to.or(draft.ended).unwrap_or(pause.until);
    draft.pauses.iter().map(|pause| (pause.stretch.from, end(pause))).collect()
}

/// So many packets of a run, which is in order, were sent in a pause and not kept.
pub(crate) fn not_kept(run: &Run, pauses: &[Paused]) -> u64 {
    let missing = |pair: &[super::run::Indexed]| {
        let steps = u64::from(pair[1].seq.saturating_sub(pair[0].seq)).saturating_sub(1);
        let (left, on) = (run.wall(pair[0].time()), run.wall(pair[1].time()));
        let paused = pauses.iter().any(|(from, to)| *from < on && left < *to);
        if steps > 0 && paused { steps } else { 0 }
    };
    if pauses.is_empty() { 0 } else { run.packets.windows(2).map(missing).sum() }
}

impl Index {
    /// Leaves out what was received in a pause of the recording, by its own clock. To be called when everything is
    /// indexed. What was published before had its pauses left out then.
    pub fn leave_out_pauses(&mut self, draft: &Draft) {
        let pauses = stretches(draft);
        if pauses.is_empty() {
            return;
        }
        for (key, stream) in &mut self.streams {
            if key.capture == CaptureKey::PUBLISHED {
                continue;
            }
            for run in &mut stream.runs {
                let heard = |ticks: u32| run.wall(MediaTime(u64::from(ticks)));
                let paused =
                    |at: WallTime| pauses.iter().any(|(from, to)| (*from..*to).contains(&at));
                let keep: Vec<bool> = run.packets.iter().map(|p| !paused(heard(p.ticks))).collect();
                let mut keep = keep.into_iter();
                run.packets.retain(|_| keep.next().unwrap_or(true));
            }
            stream.runs.retain(|run| !run.packets.is_empty());
        }
        self.pauses = pauses;
    }
}

impl Plan {
    /// Declares the pauses of its recording: each is a gap of its own length, one with which the call ended, too.
    ///
    /// # Errors
    /// [`Unplaceable::TooLong`].
    pub fn declare_pauses(&mut self, draft: &Draft) -> Result<(), Unplaceable> {
        for (from, to) in stretches(draft) {
            self.last_until(from, to)?;
            self.declare_pause(from, to);
        }
        Ok(())
    }

    /// A pause with which the call ended prolongs the recording.
    fn last_until(&mut self, from: WallTime, to: WallTime) -> Result<(), Unplaceable> {
        let missing = to.micros_since(self.ended);
        if !(1..=TAIL_MICROS_MAX).contains(&missing) {
            return Ok(());
        }
        let (end, unheard) =
            (self.total, from.micros_since(self.ended).max(0).unsigned_abs() / 125);
        self.total.0 += missing.unsigned_abs() / 125;
        u32::try_from(self.total.0).map_err(|_| Unplaceable::TooLong)?;
        if unheard >= SLIVER_SAMPLES {
            let to = MediaTime(end.0 + unheard);
            self.gaps.push(PlannedGap { from: end, to, cause: GapCause::NoMedia });
        }
        self.marks.push(Mark { wall: to, position: self.total.0 });
        self.ended = to;
        Ok(())
    }

    fn declare_pause(&mut self, from: WallTime, to: WallTime) {
        let (mut from, mut to) = (self.position(from), self.position(to));
        let next = self.placed.partition_point(|placed| u64::from(placed.position) < from.0);
        let end =
            |before: &super::timeline::Placed| u64::from(before.position) + u64::from(before.take);
        let left = next.checked_sub(1).map_or(0, |before| end(&self.placed[before]));
        let goes_on = self.placed.get(next).map_or(self.total.0, |next| u64::from(next.position));
        // Where audio lies its own times count.
        from.0 = if from.0 < left + SLIVER_SAMPLES { left } else { from.0 };
        to.0 = if to.0 + SLIVER_SAMPLES > goes_on { goes_on } else { to.0 };
        if from >= to {
            return;
        }
        let mut gaps = Vec::with_capacity(self.gaps.len() + 2);
        for gap in self.gaps.drain(..) {
            let before = PlannedGap { to: gap.to.min(from), ..gap };
            let behind = PlannedGap { from: gap.from.max(to), ..gap };
            gaps.extend([before, behind].into_iter().filter(|part| part.from < part.to));
        }
        gaps.push(PlannedGap { from, to, cause: GapCause::Paused });
        gaps.sort_unstable_by_key(|gap| gap.from);
        self.gaps = gaps;
    }
}
