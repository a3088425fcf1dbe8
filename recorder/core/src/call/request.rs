//! What people ask for while a call goes on, and why it may be refused. Whether a person may ask is
//! checked before; here the words only.

use serde::{Deserialize, Serialize};
use storage_core::record::{Scope, TriggerKind};
use storage_core::{Extension, RecordingId, Ucid};

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Requester {
    /// The agent, for his own call.
    Agent,
    /// A supervisor, or an administrator on the console.
    Supervisor,
}

impl Requester {
    pub(super) const fn trigger(self) -> TriggerKind {
        match self {
            Self::Agent => TriggerKind::Agent,
            Self::Supervisor => TriggerKind::Supervisor,
        }
    }
}

/// Which call or recording is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The call in which this station is.
    Extension(Extension),
    /// The call with this identity.
    Ucid(Ucid),
    /// This recording; for `Stop` only.
    Recording(RecordingId),
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Record a call.
    Start {
        /// The call.
        target: Target,
        /// What the recording follows.
        scope: Scope,
    },
    /// End a recording; the rules do not record this call again.
    Stop {
        /// The call or recording.
        target: Target,
    },
}

/// A request. It is answered by one `Order::Answer` within three seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The caller's number for it, unlike that of any other request still unanswered.
    pub id: u64,
    /// Who asks.
    pub by: Requester,
    /// What for.
    pub action: Action,
}

/// Why a request failed. The words are the outside contract's failure codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such call, or it is not answered yet.
    #[error("nocall")]
    NoCall,
    /// Scope `trunk` on a call without an outside party.
    #[error("notrunk")]
    NoTrunk,
    /// No phantom is free.
    #[error("nophantom")]
    NoPhantom,
    /// The call is being recorded in that scope.
    #[error("alreadyrecording")]
    AlreadyRecording,
    /// This node cannot record it now.
    #[error("unavailable")]
    Unavailable,
    /// There is no such recording in progress.
    #[error("notfound")]
    NotFound,
}
