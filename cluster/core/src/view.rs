//! The group as one member sees it: what the rest of the program watches.

use std::collections::BTreeMap;

use serde::Serialize;
use storage_core::{Duty, NodeId, Role};

use crate::command::Health;
use crate::state::Takeover;

/// A member as the group sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemberView {
    /// Its number.
    pub node: NodeId,
    /// What it is configured for; unknown until it has joined the group once.
    pub role: Option<Role>,
    /// What it is to do now.
    pub duty: Duty,
    /// Whether it answers, as the group has noted.
    pub up: bool,
    /// Whether it answers this node now.
    pub reachable: bool,
    /// Whether it votes.
    pub voter: bool,
    /// Out of service.
    pub drained: bool,
    /// Whether the calls that it holds are in good hands: it can record, and is not to be relieved.
    pub serves: bool,
    /// How it said it is.
    pub health: Option<Health>,
    /// Where it listens.
    pub address: String,
    /// Its phantoms.
    pub phantoms: Vec<String>,
    /// Its program's version.
    pub program: String,
    /// Which copy its recordings are.
    pub copy: u8,
}

/// What this member is to do, and how sure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DutyGrant {
    /// What to do.
    pub duty: Duty,
    /// Under which grant; claims carry it.
    pub epoch: u64,
    /// Whether a lead takes the calls in progress too, or new calls only.
    pub moves: bool,
    /// Not granted: it acts ahead of the log (the lead's process is gone and this member is the
    /// next), or no grant has been seen since it started.
    pub provisional: bool,
    /// Whether a majority can be reached: without it nothing is published.
    pub quorum: bool,
    /// Which copy this member's recordings are.
    pub copy: u8,
}

/// The group as one member sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupView {
    /// The member that sees it.
    pub node: NodeId,
    /// All members, by number.
    pub members: Vec<MemberView>,
    /// The member whose log the others follow.
    pub leader: Option<NodeId>,
    /// Raft term.
    pub term: u64,
    /// Log index of the entry that granted the present duties.
    pub epoch: u64,
    /// Who leads recording.
    pub lead: Option<NodeId>,
    /// When and why the lead last changed.
    pub takeover: Option<Takeover>,
    /// Whether a majority can be reached.
    pub quorum: bool,
    /// This member was removed from the group.
    pub removed: bool,
    /// What this member is to do.
    pub duty: DutyGrant,
    /// How many calls the ledger holds.
    pub open_calls: usize,
    /// Microseconds by which each peer's wall clock is ahead of this node's; filled in by the
    /// links.
    pub clock_offset_us: BTreeMap<NodeId, i64>,
    /// Round trip to each peer, microseconds.
    pub round_trip_us: BTreeMap<NodeId, u64>,
}

/// The duty of a node that has no peers: it leads, whatever it is configured for, because there
/// is nobody else who could.
#[must_use]
pub const fn duty_alone(role: Role) -> Duty {
    match role {
        Role::Active | Role::Backup | Role::Parallel => Duty::Lead,
        Role::Witness => Duty::None,
    }
}

/// The duty of a member that has never heard a grant: what it is configured for.
#[must_use]
pub const fn duty_unheard(role: Role) -> Duty {
    match role {
        Role::Active => Duty::Lead,
        Role::Backup => Duty::Standby,
        Role::Parallel => Duty::Follow,
        Role::Witness => Duty::None,
    }
}

impl GroupView {
    /// A group of one.
    #[must_use]
    pub fn alone(node: NodeId, role: Role) -> Self {
        let duty = duty_alone(role);
        let grant =
            DutyGrant { duty, epoch: 0, moves: true, provisional: false, quorum: true, copy: 1 };
        let member = MemberView {
            node,
            role: Some(role),
            duty,
            up: true,
            reachable: true,
            voter: true,
            drained: false,
            serves: true,
            health: None,
            address: String::new(),
            phantoms: Vec::new(),
            program: String::new(),
            copy: 1,
        };
        Self {
            node,
            members: vec![member],
            leader: Some(node),
            term: 0,
            epoch: 0,
            lead: (duty == Duty::Lead).then_some(node),
            takeover: None,
            quorum: true,
            removed: false,
            duty: grant,
            open_calls: 0,
            clock_offset_us: BTreeMap::new(),
            round_trip_us: BTreeMap::new(),
        }
    }

    /// A member by its number.
    #[must_use]
    pub fn member(&self, node: NodeId) -> Option<&MemberView> {
        self.members.iter().find(|member| member.node == node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alone_every_recorder_leads_and_a_witness_does_nothing() {
        for role in [Role::Active, Role::Backup, Role::Parallel] {
            assert_eq!(duty_alone(role), Duty::Lead);
        }
        assert_eq!(duty_alone(Role::Witness), Duty::None);
    }
}
