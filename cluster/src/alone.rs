//! A node without peers: the same ledger, applied at once, with nobody to ask. It is kept in
//! memory only; what must last lies in the capture journal.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use cluster_core::command::{Grant, Proposal};
use cluster_core::{
    Announce, Cause, Change, Command, GroupView, Outcome, ProposalId, State, duty_alone,
};
use storage_core::{NodeId, Role};
use tokio::sync::{broadcast, watch};

/// The group of one.
pub(crate) struct Alone {
    node: NodeId,
    index: Mutex<u64>,
    state: Arc<RwLock<State>>,
    changes: broadcast::Sender<Change>,
    view: watch::Sender<GroupView>,
}

impl Alone {
    pub(crate) fn new(
        node: NodeId,
        role: Role,
        state: Arc<RwLock<State>>,
        changes: broadcast::Sender<Change>,
        view: watch::Sender<GroupView>,
    ) -> Self {
        let first = State::new(&BTreeMap::from([(node, String::new())]));
        *state.write().unwrap_or_else(PoisonError::into_inner) = first;
        let alone = Self { node, index: Mutex::new(0), state, changes, view };
        let program = String::new();
        alone.apply(Command::Announce(Announce { node, role, phantoms: Vec::new(), program }));
        alone.apply(Command::Grant(Grant {
            expect: 0,
            duties: vec![(node, duty_alone(role))],
            up: vec![(node, true)],
            moves: true,
            cause: Cause::First,
        }));
        alone
    }

    pub(crate) fn apply(&self, command: Command) -> Outcome {
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        *index += 1;
        let id = ProposalId { node: self.node, boot: 1, seq: *index };
        let proposal = Proposal { id, settled: *index, command };
        let mut changes = Vec::new();
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let outcome = state.apply(*index, &proposal, &mut changes);
        self.view.send_if_modified(|view| {
            let mut changed = view.open_calls != state.ledger().len();
            view.open_calls = state.ledger().len();
            for member in &mut view.members {
                let role = state.members().get(&member.node).and_then(|known| known.role);
                changed |= member.role != role;
                member.role = role;
            }
            changed
        });
        drop(state);
        for change in changes {
            // Nobody may be listening.
            let _ = self.changes.send(change);
        }
        outcome
    }
}
