//! Whether the disk is too slow to make what is captured last in time, or to take it. Pure: how long syncs (or writes)
//! took, and how long one takes that is under way, goes in.

use std::time::Duration;

use storage_core::MonoTime;

/// So many times `al_syncms` is slow: a sync now and then that takes longer than the bound is no news.
const TIMES: u32 = 2;
/// It is well again when no sync was slow for so long: else people were told of each one.
const WELL_AFTER: Duration = Duration::from_secs(30);

/// The machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slowness {
    limit: Duration,
    slow_at: Option<MonoTime>,
    longest: Duration,
}

impl Slowness {
    /// For what is to last within `bound` (`al_syncms`).
    pub(crate) const fn new(bound: Duration) -> Self {
        Self::beyond(bound.saturating_mul(TIMES))
    }

    /// For what is never to take longer than this.
    pub(crate) const fn beyond(limit: Duration) -> Self {
        Self { limit, slow_at: None, longest: Duration::ZERO }
    }

    /// Looks: how long the sync under way takes already, and the longest since the last look. Tells the longest of
    /// late if the disk is too slow.
    pub(crate) fn look(
        &mut self,
        now: MonoTime,
        under_way: Duration,
        longest: Duration,
    ) -> Option<Duration> {
        let longest = longest.max(under_way);
        if longest > self.limit {
            self.slow_at = Some(now);
            self.longest = self.longest.max(longest);
        }
        if self.slow_at.is_some_and(|at| now.since(at) >= WELL_AFTER) {
            (self.slow_at, self.longest) = (None, Duration::ZERO);
        }
        self.slow_at.map(|_| self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_that_hangs_is_told_before_it_returns_and_forgotten_after_a_while() {
        let mut slowness = Slowness::new(Duration::from_secs(1));
        let at = |seconds| MonoTime::default() + Duration::from_secs(seconds);
        let span = Duration::from_millis;
        assert_eq!(slowness.look(at(1), span(0), span(1_900)), None);
        assert_eq!(slowness.look(at(2), span(2_001), span(0)), Some(span(2_001)));
        assert_eq!(slowness.look(at(3), span(3_001), span(0)), Some(span(3_001)));
        assert_eq!(slowness.look(at(4), span(10), span(3_500)), Some(span(3_500)));
        assert_eq!(slowness.look(at(33), span(10), span(10)), Some(span(3_500)));
        assert_eq!(slowness.look(at(34), span(10), span(10)), None);
        assert_eq!(slowness.look(at(35), span(0), span(2_100)), Some(span(2_100)));
    }
}
