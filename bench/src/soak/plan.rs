//! What is broken when: drawn from a seed, so that a run can be had again. It knows of no process;
//! whether a fault may happen at its time is decided by `hand`. Pure.

use std::time::Duration;

use astlogger::demo::Way;
use storage_core::NodeId;

/// The recorders.
pub const RECORDERS: [NodeId; 2] = [NodeId(1), NodeId(2)];
/// The witness.
pub const WITNESS: NodeId = NodeId(3);

/// A seeded generator (splitmix64).
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Starts from a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in a range, both ends included.
    pub const fn between(&mut self, low: u64, high: u64) -> u64 {
        low + ((self.next() as u128 * (high - low + 1) as u128) >> 64) as u64
    }

    /// Milliseconds in a range, both ends included.
    pub const fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.between(low, high))
    }
}

/// Something that breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9`; it is started again when the fault ends.
    Kill(NodeId),
    /// Both recorders are killed, the second so much later; they are started again one by one.
    KillBoth(Duration),
    /// SIGTERM; it is started again when the fault ends, and not before it has ended.
    Terminate(NodeId),
    /// SIGSTOP, and SIGCONT when the fault ends.
    Hang(NodeId),
    /// The connections to its AES are reset and refused.
    AesCut(NodeId),
    /// Its AES refuses to join phantoms to calls.
    JoinsRefused(NodeId),
    /// A phantom that is in a call hears nothing more and is told nothing.
    BusiedOut,
    /// The ways between a member and the others.
    Isolated(NodeId, Way),
    /// The ways between two members.
    Parted(NodeId, NodeId, Way),
    /// A recorder that does not lead is told to, on its console.
    Takeover,
}

/// A fault with its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strike {
    /// So long after the one before has begun.
    pub after: Duration,
    /// What.
    pub fault: Fault,
    /// How long it is so.
    pub lasts: Duration,
}

impl Fault {
    /// The recorder that cannot be relied upon meanwhile; all must not be so at once.
    pub fn disables(self) -> Option<NodeId> {
        match self {
            Self::Kill(node)
            | Self::Terminate(node)
            | Self::Hang(node)
            | Self::AesCut(node)
            | Self::JoinsRefused(node)
            | Self::Isolated(node, _) => Some(node).filter(|node| *node != WITNESS),
            Self::KillBoth(_) | Self::BusiedOut | Self::Parted(..) | Self::Takeover => None,
        }
    }

    /// Whether that recorder can record nothing meanwhile: a call is excused only by these.
    pub const fn stops_recording(self) -> bool {
        !matches!(self, Self::Isolated(..))
    }
}

/// The next fault.
pub fn draw(rng: &mut Rng) -> Strike {
    let after = rng.millis(2_000, 6_000);
    let recorder = RECORDERS[rng.between(0, 1) as usize];
    let member = NodeId(rng.between(1, 3) as u16);
    let way = if rng.between(0, 1) == 0 { Way::Cut } else { Way::Stalled };
    let (fault, lasts) = match rng.between(0, 99) {
        0..20 => (Fault::Kill(recorder), rng.millis(0, 4_000)),
        20..25 => (Fault::Kill(WITNESS), rng.millis(0, 6_000)),
        25..31 => (Fault::KillBoth(rng.millis(0, 1_000)), rng.millis(0, 1_500)),
        31..41 => (Fault::Terminate(recorder), rng.millis(0, 3_000)),
        41..55 => (Fault::Hang(member), rng.millis(200, 3_000)),
        55..65 => (Fault::AesCut(recorder), rng.millis(500, 5_000)),
        65..72 => (Fault::JoinsRefused(recorder), rng.millis(500, 4_000)),
        72..79 => (Fault::BusiedOut, rng.millis(1_000, 8_000)),
        79..87 => (Fault::Isolated(member, way), rng.millis(200, 4_000)),
        87..92 => {
            let other = NodeId(member.0 % 3 + 1);
            (Fault::Parted(member, other, way), rng.millis(200, 4_000))
        }
        _ => (Fault::Takeover, Duration::ZERO),
    };
    Strike { after, fault, lasts }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_run_and_all_kinds_of_faults_come_every_few_seconds() {
        let run = |seed| {
            let mut rng = Rng::new(seed);
            (0..300).map(|_| draw(&mut rng)).collect::<Vec<_>>()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        let strikes = run(7);
        assert!(strikes.iter().all(|strike| (2..=6).contains(&strike.after.as_secs())));
        let kinds: std::collections::HashSet<_> =
            strikes.iter().map(|strike| std::mem::discriminant(&strike.fault)).collect();
        assert_eq!(kinds.len(), 10);
    }

    #[test]
    fn only_recorders_are_missed() {
        assert_eq!(Fault::Kill(NodeId(2)).disables(), Some(NodeId(2)));
        assert_eq!(Fault::Kill(WITNESS).disables(), None);
        assert!(!Fault::Isolated(NodeId(1), Way::Cut).stops_recording());
    }
}
