//! One round between a member and its shell: what is to be sent and made durable, what came of
//! it, and why a message was not taken. Plain values; the order is told at [`Work`].

use storage_core::NodeId;

use crate::alarm::Alarm;
use crate::command::{Outcome, Proposal, ProposalId};
use crate::state::Change;
use crate::stored::Write;
use crate::wire::Message;

/// One round of work for the shell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// May go before the write.
    pub at_once: Vec<Message>,
    /// To be made durable; nothing if absent.
    pub write: Option<Write>,
    /// May go only once the write is durable.
    pub after: Vec<Message>,
}

/// What an applied entry was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A new leader's first entry, or one that was refused before it reached the state.
    Empty,
    /// A command.
    Command(Proposal),
    /// A membership change that was done.
    Membership(Proposal),
    /// Not an entry: the leader's snapshot replaced the whole state.
    Restored,
}

/// An entry that was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Its place in the log.
    pub index: u64,
    /// What it was; see [`State::follow`].
    pub entry: Entry,
    /// What came of it.
    pub outcome: Outcome,
    /// What it changed.
    pub changes: Vec<Change>,
}

/// How a proposal of this member ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finished {
    /// It was applied.
    Applied(ProposalId, Outcome),
    /// Its deadline passed; it may still be applied by others' repetition, not by ours.
    Late(ProposalId),
}

/// What one round came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// May go now.
    pub messages: Vec<Message>,
    /// What was applied, in order.
    pub applied: Vec<Applied>,
    /// Proposals of this member that have ended.
    pub finished: Vec<Finished>,
}

/// Why a message was not taken. All of these are counted and otherwise harmless, but for an alarm.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// From a node that is not, or no longer, a member.
    #[error("raft message from node {0}, which is not a member")]
    NotMember(NodeId),
    /// For somebody else, or in another's name.
    #[error("raft message for node {to} in the name of node {from}, from node {link}")]
    Astray {
        /// To whom.
        to: NodeId,
        /// In whose name.
        from: NodeId,
        /// From whom.
        link: NodeId,
    },
    /// It claims what cannot be.
    #[error("raft message from node {0} that no honest member sends")]
    Senseless(NodeId),
    /// Raft took it and nothing came of it.
    #[error("raft ignored the message")]
    Ignored,
    /// This member cannot go on.
    #[error(transparent)]
    Alarm(Alarm),
}
