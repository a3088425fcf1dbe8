//! Proposals under way from this member: their names, when to repeat them, when to give up. Raft
//! accepts a proposal without promising anything, and a follower forwards it into the dark; so
//! each is repeated until it is seen applied, and applied once only because of its name.

use std::collections::BTreeMap;
use std::time::Duration;

use storage_core::{MonoTime, NodeId};

use crate::command::{Command, CommandError, Proposal, ProposalId};

/// Why a proposal cannot be taken on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Too many are waiting.
    #[error("{0} proposals are waiting for the group; this one was not taken on")]
    Busy(usize),
    /// A member runs a program that does not know such a command yet.
    #[error(
        "it takes programs of level {level}, and a member's is of level {known}: upgrade all members"
    )]
    Level {
        /// Which level it takes.
        level: u16,
        /// Which one all members have.
        known: u16,
    },
    /// It has no form in the log.
    #[error(transparent)]
    Command(#[from] CommandError),
}

#[derive(Clone, Debug)]
struct Pending {
    command: Command,
    deadline: MonoTime,
    next_try: MonoTime,
}

/// The table of proposals under way.
#[derive(Clone, Debug)]
pub(crate) struct Proposals {
    node: NodeId,
    boot: u64,
    next: u64,
    patience: Duration,
    pending: BTreeMap<u64, Pending>,
}

impl Proposals {
    /// Half of what the state's memory of done proposals holds.
    pub(crate) const PENDING_MAX: usize = 4096;

    pub(crate) const fn new(node: NodeId, boot: u64, patience: Duration) -> Self {
        Self { node, boot, next: 1, patience, pending: BTreeMap::new() }
    }

    pub(crate) fn add(
        &mut self,
        now: MonoTime,
        command: Command,
        deadline: MonoTime,
    ) -> Result<ProposalId, ProposeError> {
        if self.pending.len() >= Self::PENDING_MAX {
            return Err(ProposeError::Busy(self.pending.len()));
        }
        let seq = self.next;
        let id = ProposalId { node: self.node, boot: self.boot, seq };
        // Refused now rather than at every try.
        Proposal { id, settled: 0, command: command.clone() }.encode()?;
        self.next += 1;
        self.pending.insert(seq, Pending { command, deadline, next_try: now });
        Ok(id)
    }

    /// Proposals whose time has come, with the form to propose; each counts as tried.
    pub(crate) fn due(&mut self, now: MonoTime) -> Vec<Proposal> {
        let settled = self.pending.keys().next().copied().unwrap_or(self.next);
        let (node, boot, patience) = (self.node, self.boot, self.patience);
        let due = self.pending.iter_mut().filter(|(_, pending)| pending.next_try <= now);
        due.map(|(&seq, pending)| {
            pending.next_try = now + patience;
            let id = ProposalId { node, boot, seq };
            Proposal { id, settled, command: pending.command.clone() }
        })
        .collect()
    }

    /// Raft took nothing: try this one again soon.
    pub(crate) fn retry(&mut self, id: &ProposalId, at: MonoTime) {
        if let Some(pending) = self.pending.get_mut(&id.seq) {
            pending.next_try = at;
        }
    }

    /// The leader changed: whatever was on its way to the old one may be lost.
    pub(crate) fn retry_all(&mut self, now: MonoTime) {
        for pending in self.pending.values_mut() {
            pending.next_try = now;
        }
    }

    /// A proposal was applied; whether it is ours and was waited for.
    pub(crate) fn done(&mut self, id: &ProposalId) -> bool {
        (id.node, id.boot) == (self.node, self.boot) && self.pending.remove(&id.seq).is_some()
    }

    /// Proposals whose deadline has passed; nobody waits for them any more.
    pub(crate) fn expired(&mut self, now: MonoTime) -> Vec<ProposalId> {
        let late = self.pending.iter().filter(|(_, pending)| pending.deadline <= now);
        let late: Vec<u64> = late.map(|(seq, _)| *seq).collect();
        for seq in &late {
            self.pending.remove(seq);
        }
        let (node, boot) = (self.node, self.boot);
        late.into_iter().map(|seq| ProposalId { node, boot, seq }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proposal_is_repeated_until_done_or_too_late() {
        let at = MonoTime::from_millis;
        let mut table = Proposals::new(NodeId(1), 7, Duration::from_millis(300));
        let command = Command::Handover { to: None };
        let first = table.add(at(0), command.clone(), at(1_000)).unwrap();
        let second = table.add(at(0), command, at(1_000)).unwrap();
        assert_eq!(table.due(at(0)).len(), 2);
        assert!(table.due(at(299)).is_empty());
        assert!(table.done(&first) && !table.done(&first));
        let due = table.due(at(300));
        assert_eq!((due.len(), due[0].id, due[0].settled), (1, second, second.seq));
        assert_eq!(table.expired(at(1_000)), [second]);
        assert!(table.due(at(9_000)).is_empty());
    }
}
