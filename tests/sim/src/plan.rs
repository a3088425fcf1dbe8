//! What a run is: who is in the group, how much telephony there is, for how long things go wrong.

use storage_core::Role;

/// Which group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// Active, backup, witness: one recording a call.
    HotStandby,
    /// Active, parallel, witness: two recordings a call.
    ActiveActive,
    /// Active, backup, parallel and two witnesses; witnesses come and go.
    MixedFive,
}

/// A run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Everything that happens follows from it.
    pub seed: u64,
    /// Which group.
    pub flavour: Flavour,
    /// Whether the switch gives calls an identity (UCID). Without it numbers, which are used again
    /// within a second here, and begins by clocks that are turned must do, and sometimes do not:
    /// those runs are for whoever works on that.
    pub identities: bool,
    /// How many calls.
    pub calls: u64,
    /// For how many milliseconds faults happen.
    pub faults_ms: u64,
    /// Whether a recorder is lost with its disk on the way; then nothing else goes wrong any more.
    pub loses: bool,
    /// Whoever stands by keeps a ring of so many seconds; 0: none.
    pub ring_s: u64,
    /// Whether people pause recordings, and resume them.
    pub pauses: bool,
}

impl Flavour {
    /// The roles, from node 1 on.
    #[must_use]
    pub const fn roles(self) -> &'static [Role] {
        use Role::{Active, Backup, Parallel, Witness};
        match self {
            Self::HotStandby => &[Active, Backup, Witness],
            Self::ActiveActive => &[Active, Parallel, Witness],
            Self::MixedFive => &[Active, Backup, Parallel, Witness, Witness],
        }
    }
}

impl Plan {
    /// What a bare seed means.
    #[must_use]
    pub const fn of(seed: u64) -> Self {
        let (flavour, calls) = match seed % 8 {
            0..=3 => (Flavour::HotStandby, 10),
            4..=6 => (Flavour::ActiveActive, 8),
            _ => (Flavour::MixedFive, 6),
        };
        let (loses, ring_s, pauses) = (false, 0, false);
        Self { seed, flavour, identities: true, calls, faults_ms: 14_000, loses, ring_s, pauses }
    }

    /// The same with a recorder that is lost; mostly of a group of three. In the larger one the recorder that
    /// takes over is mostly not the one that has the mirror.
    #[must_use]
    pub const fn losing(seed: u64) -> Self {
        let flavour = match seed % 6 {
            0 | 3 => Flavour::ActiveActive,
            1 => Flavour::MixedFive,
            _ => Flavour::HotStandby,
        };
        Self { flavour, loses: true, ..Self::of(seed) }
    }

    /// The same with rings on whoever stands by.
    #[must_use]
    pub const fn with_rings(self) -> Self {
        Self { ring_s: 30, ..self }
    }

    /// The same with people who pause recordings.
    #[must_use]
    pub const fn with_pauses(self) -> Self {
        Self { pauses: true, ..self }
    }
}
