//! From milliseconds to Raft's ticks, and which election timeout a member waits for. It decides
//! nothing about who leads; it only makes some members wait a little longer than others.

use std::time::Duration;

use storage_core::NodeId;

/// The two periods of `al_heartbeatms` and `al_electionms` in Raft's own unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticks {
    /// Length of one tick; the group's leader sends a heartbeat in each.
    pub tick: Duration,
    /// Ticks without a leader after which a member may call an election.
    pub election: usize,
}

/// Periods that no group can live with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicksError {
    /// The heartbeat is too short to be kept or too long to be of use.
    #[error("al_heartbeatms is {0}; choose 10 to 1000")]
    Heartbeat(u64),
    /// The election period leaves no room for a lost heartbeat or two.
    #[error("al_electionms is {election}; it must be at least 4 x al_heartbeatms ({heartbeat})")]
    Election {
        /// What was asked for, milliseconds.
        election: u64,
        /// The heartbeat, milliseconds.
        heartbeat: u64,
    },
}

impl Ticks {
    /// From the configured milliseconds.
    pub fn new(heartbeat_ms: u64, election_ms: u64) -> Result<Self, TicksError> {
        if !(10..=1000).contains(&heartbeat_ms) {
            return Err(TicksError::Heartbeat(heartbeat_ms));
        }
        if election_ms < 4 * heartbeat_ms || election_ms > 60_000 {
            return Err(TicksError::Election { election: election_ms, heartbeat: heartbeat_ms });
        }
        // A tick is a heartbeat: fine enough to notice silence in time, and an idle group costs what
        // it is woken.
        let election = election_ms / heartbeat_ms;
        Ok(Self {
            tick: Duration::from_millis(heartbeat_ms),
            // At most 60,000 ms of 10 ms ticks, so it fits; the fallback cannot be reached.
            election: usize::try_from(election).unwrap_or(usize::MAX),
        })
    }

    /// The election period.
    #[must_use]
    pub fn election_period(&self) -> Duration {
        self.tick * u32::try_from(self.election).unwrap_or(u32::MAX)
    }

    /// How long this member waits in this term, in ticks: between one and two election periods.
    ///
    /// It is a pure function of its arguments, so that a run with the same seed is the same run
    /// (raft's own choice comes from the thread's random generator). A member that leads
    /// recording waits in the upper half: with the leadership elsewhere its death costs no
    /// election. Vote priorities would say the same more strongly, but in raft 0.7 they can block
    /// an election for good: a voter refuses a candidate of lower priority whose log is newer in
    /// term but not longer in entries.
    #[must_use]
    pub fn election_timeout(&self, seed: u64, node: NodeId, term: u64, leads: bool) -> usize {
        let half = (self.election / 2).max(1);
        let draw = mix(seed ^ mix(u64::from(node.0)) ^ mix(term.wrapping_add(0x9e37)));
        let offset = usize::try_from(draw % half as u64).unwrap_or(0);
        self.election + offset + if leads { self.election - half } else { 0 }
    }
}

/// A 64-bit finaliser (splitmix64): every input bit moves every output bit.
#[must_use]
pub(crate) const fn mix(value: u64) -> u64 {
    let mut x = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_a_tick_a_heartbeat() {
        let ticks = Ticks::new(50, 300).unwrap();
        assert_eq!(ticks.tick, Duration::from_millis(50));
        assert_eq!(ticks.election, 6);
        assert_eq!(ticks.election_period(), Duration::from_millis(300));
    }

    #[test]
    fn periods_that_cannot_work_are_refused() {
        assert_eq!(Ticks::new(5, 300), Err(TicksError::Heartbeat(5)));
        assert!(Ticks::new(50, 150).is_err());
        assert!(Ticks::new(50, 100_000).is_err());
    }

    #[test]
    fn timeouts_stay_in_range_and_the_lead_waits_longer() {
        let ticks = Ticks::new(50, 300).unwrap();
        for seed in 0..200 {
            let usual = ticks.election_timeout(seed, NodeId(1), seed % 7, false);
            let lead = ticks.election_timeout(seed, NodeId(1), seed % 7, true);
            assert!((6..9).contains(&usual), "{usual}");
            assert!((9..12).contains(&lead), "{lead}");
        }
    }
}
