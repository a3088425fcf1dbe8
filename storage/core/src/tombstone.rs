//! What stays of a deleted recording: that it was there, and who deleted it when and why. It decides what is
//! kept of it, which is nothing of what was said and of who talked; and what it tells the day's
//! completeness. When a recording may be deleted is decided elsewhere.

use serde::{Deserialize, Serialize};

use crate::completeness::SeenCall;
use crate::ids::{NodeId, RecordingId, Ucid};
use crate::record::Recording;
use crate::time::WallTime;

/// A deleted recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// Version of this form, so that a later program knows what it reads.
    #[serde(default = "first_version")]
    pub version: u32,
    /// Which recording it was.
    pub recordingid: RecordingId,
    /// The revision that was known.
    pub revision: u32,
    /// Its first audio.
    pub started: WallTime,
    /// The end of its audio.
    pub ended: WallTime,
    /// The node that owned it.
    pub owner: NodeId,
    /// The identities of its call, as far as they were known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ucids: Vec<Ucid>,
    /// The switch's numbers of the call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub callids: Vec<String>,
    /// When it was deleted.
    pub at: WallTime,
    /// The node that was asked.
    pub node: NodeId,
    /// Who deleted it.
    pub by: String,
    /// Why.
    pub reason: String,
}

const fn first_version() -> u32 {
    Tombstone::VERSION
}

/// Who deletes a recording, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// When.
    pub at: WallTime,
    /// The node that is asked.
    pub node: NodeId,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

impl Tombstone {
    /// The version that this program writes.
    pub const VERSION: u32 = 1;

    /// That of a recording.
    #[must_use]
    pub fn of(record: &Recording, deletion: Deletion) -> Self {
        let Deletion { at, node, by, reason } = deletion;
        Self {
            version: Self::VERSION,
            recordingid: record.recordingid,
            revision: record.revision,
            started: record.started,
            ended: record.ended,
            owner: record.node,
            ucids: record.ucid.iter().chain(&record.formerucids).cloned().collect(),
            callids: record.callids.clone(),
            // As it is written, so that it is the same on each node.
            at: WallTime::from_millis(at.as_millis()),
            node,
            by,
            reason,
        }
    }

    /// What it tells of its call: that it was recorded.
    #[must_use]
    pub fn seen(&self) -> SeenCall {
        SeenCall {
            node: self.owner,
            ucids: self.ucids.clone(),
            callids: self.callids.clone(),
            stations: Vec::new(),
            began: self.started,
            ended: self.ended,
            due: Vec::new(),
            paused: Vec::new(),
            rule: String::new(),
            captured: false,
            block: None,
            deleted: true,
        }
    }
}
