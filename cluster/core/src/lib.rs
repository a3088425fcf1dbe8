//! Roles and duties: what a member is configured for and what it is to do now. Pure.
//!
//! A node without peers is a group of one: it leads, whatever it is configured for, because there
//! is nobody else who could.

use serde::Serialize;
use storage_core::{Duty, NodeId, Role};

/// The duty of a node that has no peers.
#[must_use]
pub const fn duty_alone(role: Role) -> Duty {
    match role {
        Role::Active | Role::Backup | Role::Parallel => Duty::Lead,
        Role::Witness => Duty::None,
    }
}

/// A member as the group sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Its number.
    pub node: NodeId,
    /// What it is configured for.
    pub role: Role,
    /// What it is to do now.
    pub duty: Duty,
    /// Whether it answers.
    pub up: bool,
}

/// The group as one node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupView {
    /// All members.
    pub members: Vec<Member>,
    /// The member whose log the others follow.
    pub leader: Option<NodeId>,
    /// Raft term.
    pub term: u64,
    /// Log index of the entry that granted the present duties.
    pub epoch: u64,
}

impl GroupView {
    /// A group of one.
    #[must_use]
    pub fn alone(node: NodeId, role: Role) -> Self {
        Self {
            members: vec![Member { node, role, duty: duty_alone(role), up: true }],
            leader: Some(node),
            term: 0,
            epoch: 0,
        }
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
