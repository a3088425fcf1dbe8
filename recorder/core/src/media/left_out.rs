//! What is left out of a voice file on purpose: pauses, and where it is to be so, holds. Nothing that was received in
//! such a stretch is laid down, whoever captured it; it is silence of its own length and is declared with its
//! cause; and what was not kept there counts neither as lost nor as missing. What was published before stays.
//!
//! That nothing is captured in a pause is the media thread's matter: here it is made sure of for what a node
//! captured that had not heard of the pause yet. Audio during hold is captured, and left out only here. When a
//! recording is paused or held is the call machine's matter, and which part of a hold counts that of
//! [`super::holds`].

use storage_core::draft::Pause;
use storage_core::record::GapCause;
use storage_core::{Draft, WallTime};

use super::holds::held;
use super::index::{CaptureKey, Index};
use super::rtp::MediaTime;
use super::run::{Indexed, Run};
use super::timeline::{Mark, Placed, Plan, PlannedGap, Unplaceable};

/// What is left of a hole beside what is left out is part of it up to here, 100 ms: the moment at which somebody
/// asked lies anywhere between two packets.
const SLIVER_SAMPLES: u64 = 800;
/// A stretch that ends so much after the last audio is one whose clock somebody set: 24 h and a little.
const TAIL_MICROS_MAX: i64 = 25 * 3600 * 1_000_000;

/// A stretch of which nothing is to be heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Its begin.
    pub from: WallTime,
    /// Its end.
    pub to: WallTime,
    /// Why.
    pub cause: GapCause,
    /// When the first packet was received, if that is in it: the recording begins with it all the same.
    pub(crate) begins: Option<WallTime>,
    /// The recording lasts as long.
    pub(crate) lasts: bool,
}

impl LeftOut {
    fn has(&self, at: WallTime) -> bool {
        (self.from..self.to).contains(&at)
    }
}

/// The pauses of a recording; one that goes on ends with it.
fn pauses(draft: &Draft) -> impl Iterator<Item = LeftOut> {
    let end = |pause: &Pause| pause.stretch.to.or(draft.ended).unwrap_or(pause.until);
    draft.pauses.iter().map(move |pause| {
        let (from, to) = (pause.stretch.from, end(pause));
        LeftOut { from, to, cause: GapCause::Paused, begins: None, lasts: true }
    })
}

/// So many packets of a run, which is in order, were sent in such a stretch and not kept.
pub(crate) fn not_kept(run: &Run, left_out: &[LeftOut]) -> u64 {
    let missing = |pair: &[Indexed]| {
        let steps = u64::from(pair[1].seq.saturating_sub(pair[0].seq)).saturating_sub(1);
        let (left, on) = (run.wall(pair[0].time()), run.wall(pair[1].time()));
        let here = left_out.iter().any(|one| one.from < on && left < one.to);
        if steps > 0 && here { steps } else { 0 }
    };
    if left_out.is_empty() { 0 } else { run.packets.windows(2).map(missing).sum() }
}

/// Whether such a stretch is at the begin or the end of a run, which is in order: how much its sender sent there
/// tells nothing of the network.
pub(crate) fn at_an_end(run: &Run, left_out: &[LeftOut]) -> bool {
    let (Some(first), Some(last)) = (run.packets.first(), run.packets.last()) else { return false };
    let (first, last) = (run.wall(first.time()), run.wall(last.time()));
    left_out.iter().any(|one| one.from < first || last < one.to)
}

impl Index {
    /// What of the recording is to be left out: its pauses and, with `skip_hold`, its holds. To be asked when
    /// everything is indexed.
    #[must_use]
    pub fn left_out(&self, draft: &Draft, skip_hold: bool) -> Vec<LeftOut> {
        let heard = self.heard().filter(|_| skip_hold);
        let held = heard.map_or_else(Vec::new, |(first, last)| {
            let mut held = held(draft, last);
            held.iter_mut().for_each(|one| one.begins = Some(first).filter(|at| one.has(*at)));
            held
        });
        // What was paused is not told to have been held.
        held.into_iter().chain(pauses(draft)).collect()
    }

    /// When the first and the last packet were received.
    fn heard(&self) -> Option<(WallTime, WallTime)> {
        let captured = self.streams.iter().filter(|(key, _)| {
            let facts = self.captures.get(&key.capture);
            let accepted = facts.is_some_and(|facts| facts.accepts(key.source));
            key.capture != CaptureKey::PUBLISHED && accepted
        });
        let packets = captured.flat_map(|(_, stream)| &stream.runs).flat_map(|run| {
            let ticks = run.packets.iter().map(|packet| packet.ticks);
            let ends = [ticks.clone().min(), ticks.max()];
            ends.into_iter().flatten().map(|ticks| run.wall(MediaTime(u64::from(ticks))))
        });
        packets.fold(None, |heard, at| {
            Some(heard.map_or((at, at), |(first, last)| (at.min(first), at.max(last))))
        })
    }

    /// Leaves out what was received then, by the recording's own clock. What was published before was
    /// dealt with then.
    pub fn leave_out(&mut self, left_out: &[LeftOut]) {
        if left_out.is_empty() {
            return;
        }
        for (key, stream) in &mut self.streams {
            if key.capture == CaptureKey::PUBLISHED {
                continue;
            }
            for run in &mut stream.runs {
                let heard = |ticks: u32| run.wall(MediaTime(u64::from(ticks)));
                let left = |at: WallTime| left_out.iter().any(|one| one.has(at));
                let keep: Vec<bool> = run.packets.iter().map(|p| !left(heard(p.ticks))).collect();
                let mut keep = keep.into_iter();
                run.packets.retain(|_| keep.next().unwrap_or(true));
            }
            stream.runs.retain(|run| !run.packets.is_empty());
        }
        self.left_out = left_out.to_vec();
    }
}

impl Plan {
    /// Declares what was left out: each stretch is a gap of its own length, one with which the call ended, too.
    ///
    /// # Errors
    /// [`Unplaceable::TooLong`].
    pub fn declare(&mut self, left_out: &[LeftOut]) -> Result<(), Unplaceable> {
        for one in left_out {
            let lead = one.begins.map_or(0, |begin| self.started.micros_since(begin) / 125);
            if let (Some(begin), Ok(lead @ 1..)) = (one.begins, u64::try_from(lead)) {
                self.begin_earlier(begin, lead, one.cause)?;
            }
            if one.lasts {
                self.last_until(one.from, one.to)?;
            }
            let (from, to) = (self.position(one.from), self.position(one.to));
            for (from, to) in self.free(from.0, to.0) {
                self.put_gap(PlannedGap { from, to, cause: one.cause });
            }
        }
        Ok(())
    }

    /// What is left out to the end of the call prolongs the recording.
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

    /// Where no audio lies in a stretch. Where audio lies its own times count.
    fn free(&self, from: u64, to: u64) -> Vec<(MediaTime, MediaTime)> {
        let end = |placed: &Placed| u64::from(placed.position) + u64::from(placed.take);
        let next = self.placed.partition_point(|placed| u64::from(placed.position) < from);
        let mut at = next.checked_sub(1).map_or(0, |before| end(&self.placed[before]));
        let mut holes = Vec::new();
        for placed in &self.placed[next..] {
            holes.push((at, u64::from(placed.position)));
            at = end(placed);
            if u64::from(placed.position) >= to {
                break;
            }
        }
        if at < to {
            holes.push((at, self.total.0));
        }
        let here = holes.into_iter().filter(|(left, on)| *left < to && *on > from && left < on);
        let within = here.map(|(left, on)| {
            let from = if from < left + SLIVER_SAMPLES { left } else { from };
            let to = if to + SLIVER_SAMPLES > on { on } else { to };
            (MediaTime(from), MediaTime(to))
        });
        within.filter(|(from, to)| from < to).collect()
    }

    /// Puts a gap in the place of whatever others are there.
    fn put_gap(&mut self, new: PlannedGap) {
        let mut gaps = Vec::with_capacity(self.gaps.len() + 2);
        for gap in self.gaps.drain(..) {
            let before = PlannedGap { to: gap.to.min(new.from), ..gap };
            let behind = PlannedGap { from: gap.from.max(new.to), ..gap };
            gaps.extend([before, behind].into_iter().filter(|part| part.from < part.to));
        }
        gaps.push(new);
        gaps.sort_unstable_by_key(|gap| gap.from);
        gaps.dedup_by(|later, earlier| {
            let one = later.from == earlier.to && later.cause == earlier.cause;
            if one {
                earlier.to = later.to;
            }
            one
        });
        self.gaps = gaps;
    }
}
