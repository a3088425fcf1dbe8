//! The one place in the recorder that reads the machine's clocks. Cores are handed the time.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use storage_core::{MonoTime, Now, WallTime};

/// Both clocks. All shells of a process have copies of one, so that their monotonic times have
/// the same zero.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// Begins to count.
    #[must_use]
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// The time by both clocks.
    #[must_use]
    pub fn now(self) -> Now {
        Now { mono: self.mono(), wall: Self::wall() }
    }

    /// The time since the start.
    #[must_use]
    pub fn mono(self) -> MonoTime {
        let micros = self.started.elapsed().as_micros();
        MonoTime::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    /// The time of day. A clock before 1970 is taken for 1970.
    #[must_use]
    pub fn wall() -> WallTime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallTime::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }
}
