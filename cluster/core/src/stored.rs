//! What a member keeps on its disk: the form in which it goes there and comes back. Where and how
//! it is written is the shell's matter.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use storage_core::NodeId;

use crate::alarm::Alarm;
use crate::state::State;
use crate::wire::{LogEntry, StoredState, Vote};

/// What was read back from the disk, or what a group begins with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Term, vote, commit index.
    pub vote: Vote,
    /// The newest snapshot.
    pub snapshot: StoredState,
    /// Index and term of the entry before the first of `entries`.
    pub before: (u64, u64),
    /// The log.
    pub entries: Vec<LogEntry>,
}

impl Stored {
    /// The common begin of a new group: every first member starts from this same snapshot.
    #[must_use]
    pub fn first(members: &BTreeMap<NodeId, String>) -> Self {
        Self {
            vote: Vote { term: 1, vote: 0, commit: 1 },
            snapshot: StoredState {
                index: 1,
                term: 1,
                voters: members.keys().copied().collect(),
                learners: Vec::new(),
                state: State::new(members).encode(),
            },
            before: (1, 1),
            entries: Vec::new(),
        }
    }

    /// Takes over a write, as a disk does once it is durable.
    pub fn take(&mut self, write: Write) {
        if let Some(base) = write.base {
            *self = base;
        }
        if let Some(first) = write.entries.first() {
            let keep = first.index.saturating_sub(self.before.0 + 1);
            self.entries.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
            self.entries.extend(write.entries);
        }
        if let Some(vote) = write.vote {
            self.vote = vote;
        }
    }

    /// A member that joins an existing group: it knows nothing until the leader sends it a
    /// snapshot, and votes for nobody.
    #[must_use]
    pub fn joining() -> Self {
        Self::default()
    }
}

/// What has to be made durable, in this order and before anything of [`Work::after`] is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// Replaces everything stored so far.
    pub base: Option<Stored>,
    /// To be appended, cutting off what they replace.
    pub entries: Vec<LogEntry>,
    /// Term, vote, commit index.
    pub vote: Option<Vote>,
}

/// What raft would panic over when it starts.
pub(crate) fn check(stored: &Stored) -> Result<(), Alarm> {
    let mut expected = stored.before.0 + 1;
    for entry in &stored.entries {
        if entry.index != expected {
            return Err(Alarm::StoreInconsistent("entries do not follow one another"));
        }
        expected += 1;
    }
    let last = expected - 1;
    if stored.snapshot.index < stored.before.0 || stored.snapshot.index > last {
        return Err(Alarm::StoreInconsistent("the snapshot does not meet the entries"));
    }
    if stored.vote.commit < stored.snapshot.index || stored.vote.commit > last {
        return Err(Alarm::StoreInconsistent("the commit index is outside the log"));
    }
    Ok(())
}
