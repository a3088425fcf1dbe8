//! Whole nodes, the switch, the network, disks and clocks in one thread, driven by one seed.
//!
//! * [`run`] takes a [`Plan`] and tells what came of it; the same plan is the same run, event by
//!   event. `cargo run -p sim -- SEED --trace` tells the story of one, `cargo run -p sim -- --campaign
//!   FROM COUNT --jobs N` runs many.
//! * `host` holds the real cores (`cluster_core::Node`, `recorder_core::call::Calls`,
//!   `astlogger::bridge`) together as the daemon's shells do; `world` is everything between hosts;
//!   `switch`, `people`, `disk` and `net` are models; `faults` draws what goes wrong; `checker` has
//!   the promises and their bounds.
//!
//! * `mirror` keeps what each recorder captures at another one; [`Plan::losing`] takes a recorder away with
//!   its disk, and what was mirrored of it must be published all the same.
//!
//! Modelled: monitors of stations, own and peers' phantoms; single-step conferences with delay,
//! refusal, lost requests and answers; deaf phantoms; the party limit; holds, consultations,
//! transfers, conferences; numbers used again; sessions that are recovered, lost, cleaned up late;
//! snapshots; the capture journal with its unsynced tail and a full disk; log writes; staging,
//! publishing, pulling, listing; crash, power cut, hang, cuts one way and both, loss, delay,
//! duplicates, turned and drifting clocks; drains, planned take-overs, roles and members that change;
//! orderly stops; people who stop and start recordings; rings of whoever stands by (`--rings`).
//! Not modelled: bytes on any wire, samples and codecs, DMCC's own machine, agents, VDNs and skills,
//! the placing of captures by clock, catalogs that were away when a recording was closed.
//!
//! # That it bites
//!
//! Tried with deliberate bugs, one at a time, 80 to 200 seeds each, and undone:
//!
//! | bug | caught by |
//! |---|---|
//! | published before the seal is applied | "is published and the group has not agreed", every seed |
//! | a capture dropped before the seal | "frames … are in no recording", every seed |
//! | captures not claimed again after a restart | "journal owes", "is not heard", one seed in four |
//! | a message sent before its log write is durable | "lost entries that it had acknowledged", 1 of 200 |
//! | claims of every third capture never proposed | "journal owes", every seed |
//!
//! # What it does not judge
//!
//! Overlaps that a merge leaves in two recordings are counted and reported, not failed; a catalog is held
//! only to what its node acknowledged; all runs have call identities. A declared gap is whatever lies
//! between two captures of a recording, so it shows that frames are nowhere twice and nowhere lost, not
//! that a gap's length is told rightly: the tests with real processes judge that.
//!
//! Not caught here: a void grant applied (unit tests of the group catch it); a take-over that does not
//! move calls, and a claim that the recorder forgets but the journal makes good (the other witness
//! covers for both within the bound); a yield to a holder that does not answer (the call is joined
//! again within the bound).

mod checker;
mod disk;
mod faults;
mod frames;
mod host;
mod mirror;
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
