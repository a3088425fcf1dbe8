//! How much of what this node has captured its mirror does not have yet. Pure: time comes in.
//!
//! The lag is the age of the oldest captured audio that the mirror has not said to have taken: what would be
//! lost if this node were lost now. It is none while the mirror has everything that was appended, and
//! grows from the moment on at which something was appended that it has not. What is still in the
//! sockets, up to a beat of the media thread, is in no mirror and no journal.

use std::collections::VecDeque;
use std::time::Duration;

use storage_core::MonoTime;
use storage_core::journal::Place;
use storage_core::mirror_wire::Taken;

/// Marks that are not answered; more are not needed to tell the lag of a mirror that is far behind.
const MARKS_MAX: usize = 1024;

/// What is known of one mirror.
#[derive(Debug)]
pub struct Lag {
    /// Places that the head of the journal was at, and when it was last seen there.
    marks: VecDeque<(Place, MonoTime)>,
    taken: Point,
    durable: Point,
}

/// How far a mirror has got.
#[derive(Clone, Copy, Debug)]
struct Point {
    place: Place,
    /// When it had everything.
    at: MonoTime,
}

impl Lag {
    /// A mirror of which nothing is known yet.
    #[must_use]
    pub const fn new(now: MonoTime) -> Self {
        let nothing = Point { place: Place { file: 0, offset: 0 }, at: now };
        Self { marks: VecDeque::new(), taken: nothing, durable: nothing }
    }

    /// Everything before `next` was on its way to the mirror when it was `seen` that there is no more.
    pub fn marked(&mut self, next: Place, seen: MonoTime) {
        let room = self.marks.len() < MARKS_MAX;
        match self.marks.back_mut() {
            Some(last) if last.0 == next => last.1 = seen,
            _ if room => self.marks.push_back((next, seen)),
            _ => {}
        }
    }

    /// The mirror has said how far it is.
    pub fn heard(&mut self, Taken { taken, durable }: Taken) {
        for (place, at) in &self.marks {
            for (point, reached) in [(&mut self.taken, taken), (&mut self.durable, durable)] {
                if *place <= reached {
                    *point = Point { place: *place, at: *at };
                }
            }
        }
        // The last one that is durable says since when the next one may be missing.
        let durable = self.durable.place;
        self.marks.retain(|(place, _)| *place > durable);
    }

    /// How old the oldest audio is that the mirror has not taken, where the journal's head is now at
    /// `head`.
    #[must_use]
    pub fn lag(&self, head: Place, now: MonoTime) -> Duration {
        Self::since(self.taken, head, now)
    }

    /// How old the oldest audio is that is not durable in the mirror.
    #[must_use]
    pub fn durable_lag(&self, head: Place, now: MonoTime) -> Duration {
        Self::since(self.durable, head, now)
    }

    fn since(point: Point, head: Place, now: MonoTime) -> Duration {
        if point.place >= head { Duration::ZERO } else { now.since(point.at) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u32) -> Place {
        Place { file: 1, offset }
    }

    const fn ms(ms: u64) -> MonoTime {
        MonoTime::from_millis(ms)
    }

    #[test]
    fn the_lag_is_the_age_of_what_the_mirror_lacks() {
        let mut lag = Lag::new(ms(0));
        let of = |lag: &Lag, head, now| {
            let lags = (lag.lag(at(head), ms(now)), lag.durable_lag(at(head), ms(now)));
            (lags.0.as_millis(), lags.1.as_millis())
        };
        assert_eq!(of(&lag, 100, 50), (50, 50), "nothing is known of it");
        lag.marked(at(100), ms(60));
        lag.marked(at(100), ms(1_060));
        assert_eq!(of(&lag, 100, 1_100), (1_100, 1_100), "it is on its way");
        lag.heard(Taken { taken: at(100), durable: at(0) });
        assert_eq!(of(&lag, 100, 1_500), (0, 1_500), "taken, and not durable");
        lag.marked(at(200), ms(1_600));
        assert_eq!(of(&lag, 200, 1_700), (640, 1_700));
        lag.heard(Taken { taken: at(200), durable: at(100) });
        assert_eq!(of(&lag, 200, 1_800), (0, 740));
        lag.heard(Taken { taken: at(200), durable: at(200) });
        assert_eq!(of(&lag, 200, 9_000), (0, 0), "an idle journal has no lag");
        assert_eq!(of(&lag, 201, 9_000), (7_400, 7_400), "nobody takes what is new");
        assert!(lag.marks.is_empty());
    }
}
