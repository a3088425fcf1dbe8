//! The one place that reads clocks: simulated time is monotonic time since the start of the site.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::time::Time;

/// A clock that started with the site.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    wall: SystemTime,
}

impl Clock {
    /// Starts now.
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now(), wall: SystemTime::now() }
    }

    /// Time since the start.
    #[must_use]
    pub fn now(&self) -> Time {
        Time::from_nanos(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// The wall time of a simulated moment.
    #[must_use]
    pub fn wall(&self, time: Time) -> SystemTime {
        self.wall + Duration::from_nanos(time.nanos())
    }

    /// Unix time of the start, milliseconds.
    #[must_use]
    pub fn unix_ms_at_zero(&self) -> u64 {
        let since = self.wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}
