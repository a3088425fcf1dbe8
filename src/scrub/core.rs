//! When the voice files of this node are read over, and how fast. Pure: the time, and how far a round has come,
//! goes in.
//!
//! ```text
//! begun ──▶ each recording that is listed, oldest first, at a pace ──▶ over ──▶ al_scrubdays after it was begun: the next
//! ```
//!
//! A round goes on where it was after a restart: its place is a place in the catalog's order, which new
//! recordings do not shift.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use storage_core::query::Position;
use storage_core::{RecordingId, WallTime};

/// However little there is: a few files are read over within minutes.
const PACE_MIN: u64 = 512 << 10;
/// However much there is: a disk has other things to do.
const PACE_MAX: u64 = 16 << 20;
/// A round that goes at the pace that fits exactly would be late for every rest that it takes.
const SPARE: u64 = 2;

/// How far the files have been read over, as it is kept on the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// When the round was begun.
    pub begun: WallTime,
    /// The cursor behind which it goes on; absent at its begin.
    pub behind: Option<String>,
    /// Whether it is over.
    pub over: bool,
    /// What was found damaged and is not mended.
    #[serde(default)]
    pub damaged: Vec<RecordingId>,
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Read what is listed behind this place; from the begin if there is none.
    Read(Option<Position>),
    /// The next round begins in so long.
    Wait(Duration),
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Rounds {
    every: Duration,
    progress: Progress,
}

impl Rounds {
    /// Goes on with what was kept; begins a round if nothing was.
    #[must_use]
    pub fn new(every: Duration, kept: Option<Progress>, now: WallTime) -> Self {
        let begun = Progress { begun: now, ..Progress::default() };
        Self { every, progress: kept.unwrap_or(begun) }
    }

    /// What is to be done.
    pub fn next(&mut self, now: WallTime) -> Next {
        // Then the clock was set back: nobody shall wait for a time that is years ahead.
        self.progress.begun = self.progress.begun.min(now);
        if self.progress.over {
            let micros = now.micros_since(self.progress.begun);
            let age = Duration::from_micros(u64::try_from(micros).unwrap_or(0));
            if age < self.every {
                return Next::Wait(self.every - age);
            }
            self.begin(now);
        }
        Next::Read(self.progress.behind.as_deref().and_then(Position::from_cursor))
    }

    /// Everything up to this place was read; none: the round is over.
    pub fn passed(&mut self, place: Option<Position>) {
        self.progress.over = place.is_none();
        self.progress.behind = place.map(|place| place.to_cursor());
    }

    /// Begins a round now.
    pub fn begin(&mut self, now: WallTime) {
        let damaged = std::mem::take(&mut self.progress.damaged);
        self.progress = Progress { begun: now, damaged, ..Progress::default() };
    }

    /// How far it is, to be kept; with what is damaged and not mended.
    pub fn progress(&mut self, damaged: impl Iterator<Item = RecordingId>) -> &Progress {
        self.progress.damaged = damaged.collect();
        &self.progress
    }
}

/// Bytes a second with which files of so many bytes are read over in this time, with something to spare.
#[must_use]
pub fn pace(bytes: u64, every: Duration) -> u64 {
    (bytes.saturating_mul(SPARE) / every.as_secs().max(1)).clamp(PACE_MIN, PACE_MAX)
}

/// How long to rest after so many bytes, at this pace.
#[must_use]
pub fn rest(bytes: usize, pace: u64) -> Duration {
    let micros = (bytes as u64).saturating_mul(1_000_000) / pace.max(1);
    Duration::from_micros(micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn at(day: i64) -> WallTime {
        WallTime::from_millis(day * 86_400_000)
    }

    #[test]
    fn a_round_goes_on_where_it_was_and_the_next_begins_in_time() {
        let mut rounds = Rounds::new(30 * DAY, None, at(100));
        assert_eq!(rounds.next(at(100)), Next::Read(None));
        let place = Position::at(at(50));
        rounds.passed(Some(place));
        let damaged = RecordingId::new(at(1), [3; 10]);
        let kept = rounds.progress([damaged].into_iter()).clone();
        let text = serde_json::to_vec(&kept).unwrap();
        let kept = serde_json::from_slice(&text).unwrap();
        let mut rounds = Rounds::new(30 * DAY, Some(kept), at(110));
        assert_eq!(rounds.next(at(110)), Next::Read(Some(place)));
        rounds.passed(None);
        assert_eq!(rounds.next(at(112)), Next::Wait(18 * DAY));
        assert_eq!(rounds.next(at(130)), Next::Read(None));
        assert_eq!(rounds.progress([damaged].into_iter()).begun, at(130));
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_put_it_off_for_years() {
        let mut rounds = Rounds::new(DAY, None, at(9_000));
        rounds.passed(None);
        assert_eq!(rounds.next(at(100)), Next::Wait(DAY));
        assert_eq!(rounds.next(at(101)), Next::Read(None));
    }

    #[test]
    fn it_is_begun_at_once_when_somebody_asks() {
        let mut rounds = Rounds::new(DAY, None, at(10));
        rounds.passed(None);
        rounds.begin(at(10));
        assert_eq!(rounds.next(at(10)), Next::Read(None));
    }

    #[test]
    fn the_pace_fits_what_there_is_within_bounds() {
        assert_eq!(pace(0, 30 * DAY), PACE_MIN);
        assert_eq!(pace(u64::MAX, DAY), PACE_MAX);
        let terabyte = 1 << 40;
        let in_time = pace(terabyte, 10 * DAY) * (10 * DAY).as_secs();
        assert!(in_time > terabyte && in_time < 3 * terabyte, "{in_time}");
        assert_eq!(rest(1 << 20, 1 << 20), Duration::from_secs(1));
        assert_eq!(rest(0, 0), Duration::ZERO);
    }
}
