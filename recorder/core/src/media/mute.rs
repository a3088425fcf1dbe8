//! When what a receiver is sent is discarded, because its recording is paused. It looks at receive times
//! only; which recordings are paused is the call machine's decision.
//!
//! A packet may wait in a socket's buffer while a pause begins or ends, so its own receive time decides. A
//! clock that somebody sets back must not end a pause: once it has been in force for a second, nothing
//! that comes is from before it.

use std::time::Duration;

use storage_core::{MonoTime, WallTime};

/// What was received before a pause is taken from the socket within this.
const TAKEN_WITHIN: Duration = Duration::from_secs(1);
/// What was received in a pause is taken from the socket within so long after its end: more than the socket's buffer
/// holds.
const REMEMBERED: Duration = Duration::from_secs(30);

/// The pauses of one receiver.
#[derive(Clone, Debug, Default)]
pub struct Mute {
    open: Option<(WallTime, MonoTime)>,
    /// From, to, and when it ended.
    over: Vec<(WallTime, WallTime, MonoTime)>,
}

impl Mute {
    /// What was received since then is discarded, and whatever comes.
    pub fn begin(&mut self, now: MonoTime, since: WallTime) {
        self.over.retain(|(_, _, ended)| now.since(*ended) < REMEMBERED);
        let (since, taken) =
            self.open.map_or((since, now), |(from, taken)| (from.min(since), taken));
        self.open = Some((since, taken));
    }

    /// What is received from then on is kept.
    pub fn end(&mut self, now: MonoTime, until: WallTime) {
        if let Some((from, _)) = self.open.take() {
            self.over.push((from, until, now));
        }
    }

    /// Whether what was received at `at` is to be discarded.
    #[must_use]
    pub fn hides(&self, now: MonoTime, at: WallTime) -> bool {
        let hidden =
            |(from, taken): (WallTime, MonoTime)| at >= from || now.since(taken) >= TAKEN_WITHIN;
        self.open.is_some_and(hidden)
            || self.over.iter().any(|(from, to, _)| (*from..*to).contains(&at))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wall(ms: i64) -> WallTime {
        WallTime::from_millis(1_700_000_000_000 + ms)
    }

    fn ms(ms: u64) -> MonoTime {
        MonoTime::from_millis(ms)
    }

    #[test]
    fn a_packets_own_time_decides_whenever_it_is_taken() {
        let mut mute = Mute::default();
        assert!(!mute.hides(ms(0), wall(0)));
        mute.begin(ms(1_010), wall(1_000));
        assert!(!mute.hides(ms(1_100), wall(999)), "it waited in the socket");
        assert!(mute.hides(ms(1_100), wall(1_000)));
        mute.end(ms(5_010), wall(5_000));
        assert!(mute.hides(ms(5_100), wall(4_999)), "it waited, too");
        assert!(!mute.hides(ms(5_100), wall(5_000)));
        mute.begin(ms(5_050), wall(5_040));
        assert!(mute.hides(ms(5_100), wall(4_999)) && mute.hides(ms(5_100), wall(5_041)));
        assert!(!mute.hides(ms(5_100), wall(5_020)), "between two pauses");
    }

    #[test]
    fn a_clock_that_is_set_back_ends_no_pause() {
        let mut mute = Mute::default();
        mute.begin(ms(1_000), wall(1_000));
        assert!(mute.hides(ms(2_000), wall(-3_600_000)));
    }

    proptest! {
        /// Whatever is taken within the times that sockets hold it: what was received in a pause is hidden,
        /// and nothing else is.
        #[test]
        fn exactly_what_was_received_in_a_pause_is_hidden(
            lengths in prop::collection::vec((1..8_000_i64, 1..8_000_i64), 1..6),
            at in 0..60_000_i64,
            waited in 0..1_000_i64,
        ) {
            let mut mute = Mute::default();
            let (mut clock, mut expected, taken) = (0, false, at + waited);
            for (loud, paused) in lengths {
                let (from, to) = (clock + loud, clock + loud + paused);
                clock = to;
                if from <= taken {
                    mute.begin(ms(from.unsigned_abs()), wall(from));
                    expected |= at >= from && at < to;
                }
                if to <= taken {
                    mute.end(ms(to.unsigned_abs()), wall(to));
                }
            }
            prop_assert_eq!(mute.hides(ms(taken.unsigned_abs()), wall(at)), expected);
        }
    }
}
