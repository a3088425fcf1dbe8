//! What the switch tells: one event with all facts, and who could see it. Each CTI link decides
//! which of its monitors really get it, and how it is written.

use std::collections::BTreeMap;

use super::call::{ConnectionState, Participation};
use super::ids::{CallId, Device, Extension, Serial, Trunk, Ucid};

/// One event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// The call it is about, as it is after the event.
    pub call: CallFacts,
    /// What happened.
    pub body: Body,
    /// Who could see it.
    pub audience: Audience,
}

/// What every event of a call may carry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CallFacts {
    /// Call ID of the moment.
    pub id: CallId,
    /// The interaction.
    pub serial: Serial,
    /// Its UCID.
    pub ucid: Ucid,
    /// Who called; extension or outside number.
    pub calling: Number,
    /// What was dialled.
    pub called: Number,
    /// Where the call was sent from last.
    pub last_redirection: Option<Extension>,
    /// VDN that sent it last.
    pub vdn: Option<Extension>,
    /// Skill that sent it last.
    pub skill: Option<Extension>,
    /// The outside party's trunk.
    pub trunk: Option<Trunk>,
    /// User-to-user bytes.
    pub user_data: Vec<u8>,
    /// The call a consultation was made from.
    pub original: Option<Box<OriginalCall>>,
}

/// Facts of the call that a consultation or a transfer came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OriginalCall {
    /// Why it is told.
    pub reason: Original,
    /// Who called.
    pub calling: Number,
    /// What was dialled.
    pub called: Number,
    /// Its trunk.
    pub trunk: Option<Trunk>,
    /// Its UCID.
    pub ucid: Ucid,
    /// Its user-to-user bytes.
    pub user_data: Vec<u8>,
}

/// Why an original call is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Original {
    /// A consultation.
    Consultation,
    /// A transfer.
    Transfer,
    /// A conference.
    Conference,
}

/// A telephone number, inside or outside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Number(pub String);

/// Who could see an event.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Audience {
    /// Stations in the call, with the state of their connection afterwards (`None`: left).
    pub stations: BTreeMap<Extension, Option<ConnectionState>>,
    /// VDNs and skills the call went through, with the event number of its entry.
    pub via: BTreeMap<Extension, u64>,
    /// Calls concerned: one, or two at a merge (the first is the held one).
    pub serials: Vec<Serial>,
}

/// Why something happened, as CSTA names it.
pub type Cause = &'static str;

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// A station went off-hook.
    ServiceInitiated {
        /// The station.
        device: Extension,
        /// Why.
        cause: Cause,
    },
    /// A station has dialled.
    Originated {
        /// The station.
        device: Extension,
        /// The agent logged in there.
        agent: Option<String>,
        /// Why.
        cause: Cause,
    },
    /// The call left over a trunk; no more may be known.
    NetworkReached {
        /// The trunk.
        trunk: Trunk,
    },
    /// It rings at a device (or at a VDN, which does not ring).
    Delivered {
        /// The connection's device.
        device: Device,
        /// Number of that device.
        alerting: Number,
        /// Why.
        cause: Cause,
    },
    /// The call waits for an agent.
    Queued {
        /// The skill.
        skill: Extension,
        /// How many wait there, this one included.
        waiting: usize,
    },
    /// A device is in the call with speech path.
    Established {
        /// The connection's device.
        device: Device,
        /// Number of that device.
        answering: Number,
        /// Why.
        cause: Cause,
        /// Set for a party joined by single-step conference.
        recorder: Option<Participation>,
    },
    /// A station put the call on hold.
    Held {
        /// The station.
        device: Extension,
    },
    /// It took the call back.
    Retrieved {
        /// The station.
        device: Extension,
    },
    /// The call left a device that it was ringing at (or went through).
    Diverted {
        /// The connection's device.
        device: Extension,
        /// Where it goes.
        to: Number,
        /// Why.
        cause: Cause,
    },
    /// The call cannot be set up.
    Failed {
        /// The connection's device.
        device: Extension,
        /// The number that failed.
        failing: Number,
        /// Why.
        cause: Cause,
    },
    /// Two calls became one, all staying.
    Conferenced(Merge),
    /// A station connected others and left.
    Transferred(Merge),
    /// A device left the call.
    ConnectionCleared {
        /// The connection's device.
        device: Device,
        /// Number of that device.
        releasing: Number,
        /// Why.
        cause: Cause,
    },
    /// The call is over.
    CallCleared {
        /// Why.
        cause: Cause,
    },
}

/// The details of a transfer or a conference.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Merge {
    /// Who did it.
    pub by: Extension,
    /// Call ID of the held call (or the only one).
    pub primary: CallId,
    /// Call ID of the active call.
    pub secondary: Option<CallId>,
    /// Who was added or transferred to.
    pub other: Number,
    /// All connections of the resulting call.
    pub connections: Vec<MergedConnection>,
    /// UCID of the call that is no more, if there were two.
    pub old_ucid: Option<Ucid>,
    /// Why.
    pub cause: Cause,
}

/// One connection of a merged call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MergedConnection {
    /// Its device.
    pub device: Device,
    /// Its number, if it has one that is told.
    pub number: Number,
    /// The call ID it had, if that changed.
    pub old: Option<CallId>,
    /// Its state in the new call.
    pub state: ConnectionState,
}
