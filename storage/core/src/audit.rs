//! The audit log's lines: who did what, when, from where, with what outcome. How they are bound together is
//! [`crate::chain`]'s matter, where they are kept `storage::audit_log`'s.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::chain::{self, Chained};
use crate::naming::AUDIT_FOLDER;
use crate::{NodeId, RecordingId, WallTime};

/// Something that somebody did or was refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When.
    pub at: WallTime,
    /// The member that was asked.
    pub node: NodeId,
    /// Who; of a refused sign-in the name that was given.
    pub user: String,
    /// What he was; absent if he was not signed in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The address that the request came from.
    pub address: String,
    /// The request's name.
    pub action: String,
    /// The recording it was about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recordingid: Option<RecordingId>,
    /// What was asked, telephone numbers included: the auditor needs them.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub arguments: Value,
    /// `success`, or the failure's code.
    pub outcome: String,
}

/// An entry with its number, from 1 on.
pub type Numbered = chain::Numbered<Entry>;

impl Chained for Entry {
    const LOG: &'static str = "an audit log";
    const FOLDER: &'static str = AUDIT_FOLDER;

    fn at(&self) -> WallTime {
        self.at
    }
}
