//! Simulated time: nanoseconds since the site was started. The pure parts get it as an argument;
//! only the shell reads a clock.

use std::time::Duration;

/// Length of one audio frame: 20 ms, in nanoseconds.
pub const FRAME_NS: u64 = 20_000_000;

/// A moment, counted from the start of the site.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Time(u64);

impl Time {
    /// A moment so many nanoseconds after the start.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// A moment so many milliseconds after the start.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the start.
    #[must_use]
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// The moment `millis` later.
    #[must_use]
    pub const fn after_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis.saturating_mul(1_000_000)))
    }

    /// How long ago `earlier` was; zero if it was later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Whole 20 ms frames since `earlier`.
    #[must_use]
    pub fn frames_since(self, earlier: Self) -> u32 {
        u32::try_from(self.0.saturating_sub(earlier.0) / FRAME_NS).unwrap_or(u32::MAX)
    }
}
