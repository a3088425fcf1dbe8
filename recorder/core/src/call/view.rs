//! Calls as people see them while they go on: for `listcalls` and the live events.

use serde::Serialize;
use storage_core::record::{Direction, Scope, TriggerKind};
use storage_core::{Extension, NodeId, RecordingId, Ucid, WallTime};

use super::event::PartyState;
use super::tracked::{CallKey, TrackedCall};
use super::tracker::Tracker;

/// A call in progress. The duration is the reader's to compute from `started`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CallView {
    /// Our name of the call: stays while call ID and UCID change.
    #[serde(skip)]
    pub key: CallKey,
    /// The call's identity, if the switch has given one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ucid: Option<Ucid>,
    /// The switch's number of it now.
    pub callid: String,
    /// The monitored station in it that came first; empty while there is none.
    pub extension: String,
    /// All monitored stations in it.
    pub extensions: Vec<String>,
    /// Agent at `extension`; empty if none is known.
    pub agentid: String,
    /// Calling number.
    pub calling: String,
    /// Called number.
    pub called: String,
    /// Which way it goes.
    pub direction: Direction,
    /// Trunk group; empty if none.
    pub trunkgroup: String,
    /// VDN; empty if none.
    pub vdn: String,
    /// Split or skill; empty if none.
    pub split: String,
    /// Who is in it.
    pub parties: Vec<PartyView>,
    /// When it was first seen.
    pub started: WallTime,
    /// When it was answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub established: Option<WallTime>,
    /// By whom it is recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recorded: Option<RecordedView>,
}

/// A party as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartyView {
    /// Number or trunk.
    pub who: String,
    /// `alerting`, `connected`, `held`, …
    pub state: &'static str,
}

/// A recording in progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecordedView {
    /// Its name.
    pub recordingid: RecordingId,
    /// The phantom that hears the call now; absent while none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phantom: Option<Extension>,
    /// The node that records.
    pub node: NodeId,
    /// What it follows.
    pub scope: Scope,
    /// Who asked for it.
    pub trigger: TriggerKind,
    /// Nothing of it is captured now, because somebody asked for that.
    pub paused: bool,
    /// The name under which this node captures it; none if it does not.
    #[serde(skip)]
    pub capture: Option<RecordingId>,
}

/// What people who watch are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LiveEvent {
    /// `callstarted`.
    CallStarted(CallView),
    /// `callupdated`.
    CallUpdated(CallView),
    /// `callended`.
    CallEnded(CallView),
    /// `recordingstarted`: its first packet is captured.
    RecordingStarted(CallView),
    /// `recordingpaused`.
    RecordingPaused(CallView),
    /// `recordingresumed`.
    RecordingResumed {
        /// The call.
        call: CallView,
        /// How long the recording was paused in all, milliseconds.
        pausedms: u64,
    },
}

/// Makes the view of a call.
pub(super) fn view_of(
    tracker: &Tracker,
    call: &TrackedCall,
    recorded: Option<RecordedView>,
) -> CallView {
    let extensions: Vec<String> = call.stations().map(super::Party::who).collect();
    let extension = extensions.first().cloned().unwrap_or_default();
    let party = |party: &super::Party| PartyView { who: party.who(), state: word(party.state) };
    CallView {
        key: call.key,
        ucid: call.ucid.clone(),
        callid: call.id().to_string(),
        agentid: tracker.agent(&Extension::new(extension.clone())).to_owned(),
        extension,
        extensions,
        calling: call.calling_text(),
        called: call.called_text(),
        direction: call.direction(tracker.roster()),
        trunkgroup: call.trunkgroup.clone().unwrap_or_default(),
        vdn: text(call.vdn.as_ref()),
        split: text(call.split.as_ref()),
        parties: call.real().map(party).collect(),
        started: call.seen.wall,
        established: call.established.map(|now| now.wall),
        recorded,
    }
}

fn text(number: Option<&Extension>) -> String {
    number.map(Extension::to_string).unwrap_or_default()
}

const fn word(state: PartyState) -> &'static str {
    match state {
        PartyState::Initiated => "initiated",
        PartyState::Alerting => "alerting",
        PartyState::Connected => "connected",
        PartyState::Held => "held",
        PartyState::Queued => "queued",
        PartyState::Failed => "failed",
    }
}
