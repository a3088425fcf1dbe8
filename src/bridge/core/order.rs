//! What the bridge asks its shell for, and what it is told of it. Plain values; it decides nothing.

use std::collections::{BTreeMap, BTreeSet};

use cluster_core::Command;
use recorder_core::controller::GroupWord;
use storage_core::{NodeId, RecordingId, SegmentId, WallTime};

/// What a proposal is about. While one is under way no other of the same kind is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    /// A capture's claim.
    Claim(SegmentId),
    /// A capture's end.
    End(SegmentId),
    /// A capture that holds nothing.
    Release(SegmentId),
    /// Another node's capture of which the group never heard.
    HandIn(NodeId, SegmentId),
    /// A recording's end.
    Over(RecordingId),
    /// A written file.
    Seal(RecordingId),
    /// What the catalog lists.
    Ack,
}

/// What the shell shall do.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Propose this, and report with [`Bridge::answered`].
    Propose(About, Box<Command>),
    /// Tell the recorder.
    Word(GroupWord),
    /// Write the voice file, and report with [`Bridge::sealed`].
    Seal(SealOrder),
    /// Give the staged file its final name, enter it into the catalog, and report with
    /// [`Bridge::listed`].
    Publish {
        /// Which recording.
        recording: RecordingId,
        /// In which revision.
        revision: u32,
    },
    /// A staged file that is not to be published.
    Discard {
        /// Which recording.
        recording: RecordingId,
        /// In which revision.
        revision: u32,
    },
    /// See to it that the catalog lists this revision, whose file lies on node `at`, and report
    /// with [`Bridge::listed`].
    List {
        /// Which recording.
        recording: RecordingId,
        /// In which revision.
        revision: u32,
        /// SHA-256 of its voice file.
        sha256: [u8; 32],
        /// Where it lies.
        at: NodeId,
    },
    /// The journal owes this capture nothing any more.
    Drop {
        /// The name under which the journal holds it.
        local: RecordingId,
    },
}

/// What this node keeps of what other nodes captured.
pub trait Mirrors {
    /// Whether something of this capture is kept here.
    fn holds(&self, node: NodeId, segment: SegmentId) -> bool;
}

/// A voice file to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealOrder {
    /// The group's name of the recording.
    pub recording: RecordingId,
    /// 1, or one more than the revision that is published.
    pub revision: u32,
    /// Which copy of the call it is.
    pub copy: u8,
    /// Under which names this node's journal holds parts of it.
    pub local: BTreeSet<RecordingId>,
    /// Captures of this node that are to be looked at.
    pub own: BTreeSet<SegmentId>,
    /// Captures on other nodes that can be had.
    pub remote: BTreeMap<NodeId, Vec<SegmentId>>,
    /// Captures of nodes that do not answer, by who captured them and who keeps a mirror of that: this node
    /// or another.
    pub mirrored: BTreeMap<(NodeId, NodeId), MirroredPart>,
    /// Whether captures are missing, in whole or in part, because their node does not answer.
    pub partial: bool,
}

impl SealOrder {
    /// Whether something is to be pulled to this node.
    #[must_use]
    pub fn pulls(&self, node: NodeId) -> bool {
        !self.remote.is_empty() || self.mirrored.keys().any(|(_, keeper)| *keeper != node)
    }
}

/// Captures of one node that does not answer, to be had from a mirror.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MirroredPart {
    /// Which captures.
    pub segments: Vec<SegmentId>,
    /// Their node has left the group. Of one that has not, the mirror may lack what was captured last, so
    /// that nothing of it is accounted for; of one that has, nothing more can come, and what the mirror does
    /// not have is accounted for as well.
    pub left: bool,
}

/// What became of a [`SealOrder`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SealOutcome {
    /// The file is written and durable under a staging name.
    Staged {
        /// First audio.
        from: WallTime,
        /// Last audio.
        to: WallTime,
        /// SHA-256 of the voice file.
        sha256: [u8; 32],
        /// Captures that were looked at.
        captures: Vec<(NodeId, SegmentId)>,
    },
    /// The published file has all of it already.
    Same {
        /// Captures that were looked at.
        captures: Vec<(NodeId, SegmentId)>,
    },
    /// There is nothing to be heard in any of it.
    Nothing,
    /// It failed for now; the order will come again.
    Failed,
    /// It cannot be done; a person has been told.
    Impossible,
}
