//! What must never happen in a group, each with a name, a reason and a remedy, so that it is seen
//! as what it is and not as a panic somewhere inside Raft.

use storage_core::NodeId;

/// A state that the group cannot be in unless something outside it broke its promises.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Alarm {
    /// The leader counts on entries that this member said it had and does not have.
    #[error(
        "node {node} has lost entries that it had acknowledged (the group is at {expected}, its \
         log ends at {last}): its disk was emptied or replaced. Remove the member, empty its \
         directory, and add it again under a number that was never used"
    )]
    LogLost {
        /// This member.
        node: NodeId,
        /// What the leader knows to be here.
        expected: u64,
        /// Last index in the log.
        last: u64,
    },
    /// A committed entry cannot be read: written by a newer version, or damaged.
    #[error(
        "entry {index} of the group's log is of version {version}, this program knows {known}: \
         install the newer program on this node"
    )]
    EntryFromTheFuture {
        /// Where.
        index: u64,
        /// Its version.
        version: u8,
        /// The newest version known here.
        known: u8,
    },
    /// A committed entry cannot be read although its version is known.
    #[error("entry {index} of the group's log cannot be read: {reason}")]
    EntryUnreadable {
        /// Where.
        index: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A snapshot cannot be read.
    #[error("the group's snapshot at entry {index} cannot be read: {reason}")]
    SnapshotUnreadable {
        /// Last entry that it covers.
        index: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// What was read back from the disk does not fit together.
    #[error("the stored log does not fit together: {0}")]
    StoreInconsistent(&'static str),
    /// Raft itself refused its configuration or its storage.
    #[error("raft refused to start: {0}")]
    Raft(String),
}
