//! How long to wait before trying again, and how to spread what would else happen all at once.

use std::time::Duration;

/// Spreads delays by the random numbers that the shell brings. The same numbers in the same order
/// give the same delays.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spread(u64);

impl Spread {
    /// Mixes in a random number.
    pub fn stir(&mut self, jitter: u32) {
        self.0 ^= u64::from(jitter);
        self.below(1);
    }

    /// A number from 0 to `bound - 1`; SplitMix64 (Steele, Lea, Flood 2014).
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % bound.max(1)
    }

    /// From nothing up to `span`.
    pub fn within(&mut self, span: Duration) -> Duration {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX - 1);
        Duration::from_micros(self.below(micros + 1))
    }

    /// `span` plus up to a quarter of it: never sooner than asked.
    pub fn lengthened(&mut self, span: Duration) -> Duration {
        span + self.within(span / 4)
    }
}

/// `first`, doubled with each failure after the first, and no more than `last`.
pub(super) fn doubling(first: Duration, last: Duration, failures: u32) -> Duration {
    let factor = 1_u32 << failures.saturating_sub(1).min(16);
    first.saturating_mul(factor).min(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_delay_doubles_up_to_its_bound() {
        let delays = [1, 2, 3, 4, 100].map(|failures| doubling(SECOND, 5 * SECOND, failures));
        assert_eq!(delays, [1, 2, 4, 5, 5].map(|seconds| seconds * SECOND));
    }

    #[test]
    fn spread_delays_stay_in_bounds_and_differ() {
        let mut spread = Spread::default();
        spread.stir(7);
        let delays: Vec<_> = (0..100).map(|_| spread.lengthened(4 * SECOND)).collect();
        assert!(delays.iter().all(|delay| (4 * SECOND..=5 * SECOND).contains(delay)));
        assert!(delays.iter().collect::<std::collections::BTreeSet<_>>().len() > 90);
    }
}
