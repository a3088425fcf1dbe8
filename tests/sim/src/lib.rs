//! Whole nodes, the switch, the network, disks and clocks in one thread, driven by one seed.

mod checker;
mod disk;
mod faults;
mod frames;
mod host;
mod net;
mod people;
mod plan;
mod rng;
mod switch;
mod world;

pub use checker::{Kind, Violation};
pub use plan::{Flavour, Plan};
pub use world::{Report, run};

/// Microseconds of true time.
pub(crate) type Time = u64;
pub(crate) const MS: Time = 1_000;
pub(crate) const SECOND: Time = 1_000_000;
/// Wall time of the run's begin, microseconds.
pub(crate) const EPOCH: i64 = 1_700_000_000_000_000;

/// A running checksum (FNV-1a), so that two runs can be held against each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Print(u64);

impl Default for Print {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Print {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    pub(crate) const fn value(self) -> u64 {
        self.0
    }
}
