//! This machine's clocks, and how far those of the peers are off. The offset is found as NTP
//! finds it (RFC 5905, 8): four times of one question and answer; the answer that came back
//! fastest is the best one.

use std::collections::VecDeque;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use storage_core::{MonoTime, WallTime};

/// The process's two clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now() }
    }

    pub(crate) fn mono(&self) -> MonoTime {
        MonoTime::from_micros(u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX))
    }
}

/// The wall clock now.
pub(crate) fn wall() -> WallTime {
    let micros = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX),
    };
    WallTime::from_micros(micros)
}

/// One question and its answer: sent, received there, sent there, received here; microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exchange {
    pub(crate) t1: i64,
    pub(crate) t2: i64,
    pub(crate) t3: i64,
    pub(crate) t4: i64,
}

/// What the last exchanges say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Offset {
    /// Round trip and offset, microseconds.
    samples: VecDeque<(u64, i64)>,
}

impl Offset {
    /// Some six seconds of answers at the usual heartbeat.
    const SAMPLES: usize = 16;

    pub(crate) fn note(&mut self, exchange: Exchange) {
        let Exchange { t1, t2, t3, t4 } = exchange;
        let round_trip = t4.saturating_sub(t1).saturating_sub(t3.saturating_sub(t2));
        // A clock that was set in between makes nonsense of one sample.
        let Ok(round_trip) = u64::try_from(round_trip) else { return };
        let offset = t2.saturating_sub(t1) / 2 + t3.saturating_sub(t4) / 2;
        if self.samples.len() >= Self::SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back((round_trip, offset));
    }

    /// Round trip and offset of the best exchange: how far the peer's clock is ahead of ours.
    pub(crate) fn best(&self) -> Option<(u64, i64)> {
        self.samples.iter().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fastest_answer_tells_the_offset() {
        let mut offset = Offset::default();
        // The peer is 40 ms ahead; 1 ms there and 1 ms back, then a slow way back.
        offset.note(Exchange { t1: 0, t2: 41_000, t3: 41_000, t4: 2_000 });
        offset.note(Exchange { t1: 10_000, t2: 51_000, t3: 51_000, t4: 100_000 });
        assert_eq!(offset.best(), Some((2_000, 40_000)));
        // The clock was set back in the middle: not counted.
        offset.note(Exchange { t1: 500_000, t2: 1, t3: 2, t4: 100 });
        assert_eq!(offset.best(), Some((2_000, 40_000)));
    }
}
