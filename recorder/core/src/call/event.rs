//! What the switch says of calls, as plain types: CSTA call-control events (ECMA-269, 15.2) and
//! snapshots, without the wire around them. It draws no conclusion; the tracker does.

use storage_core::{CallId, Extension, Ucid};

/// A device in an event. The wire's device IDs come with or without switch name and instance
/// (dossier 3.1, register no. 9), so only the part that names the device is kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Device {
    /// A station, phantom, VDN or hunt group of the switch, or an outside number.
    Number(Extension),
    /// A trunk, which the wire names `T<group>#<member>`.
    Trunk {
        /// Trunk group.
        group: String,
        /// Member of the group.
        member: String,
    },
    /// The switch does not say (`notKnown`, `restricted`, …).
    Unknown,
}

impl Device {
    /// Reads a device ID of the wire: what stands before the first colon names the device.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let name = text.split(':').next().unwrap_or_default().trim();
        if name.is_empty() {
            return Self::Unknown;
        }
        match name.strip_prefix('T').and_then(|rest| rest.split_once('#')) {
            Some((group, member)) => {
                Self::Trunk { group: group.to_owned(), member: member.to_owned() }
            }
            None => Self::Number(Extension::new(name)),
        }
    }

    /// The number, if the device has one.
    #[must_use]
    pub fn number(&self) -> Option<&Extension> {
        match self {
            Self::Number(number) => Some(number),
            Self::Trunk { .. } | Self::Unknown => None,
        }
    }
}

/// A device in a call (CSTA ConnectionID).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Connection {
    /// The call.
    pub call: CallId,
    /// The device in it.
    pub device: Device,
}

/// What a connection is doing (CSTA local connection state).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartyState {
    /// Off hook, not dialled yet.
    Initiated,
    /// Ringing.
    Alerting,
    /// Talking.
    Connected,
    /// This party has put the call on hold.
    Held,
    /// Waiting at a skill.
    Queued,
    /// Busy or refused.
    Failed,
}

/// What kind of device a monitor watches; a station's view of a call ends when the station leaves
/// it, a VDN's goes on to the call's end (dossier 6.1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Monitor {
    /// A station.
    Station(Extension),
    /// A VDN or skill, calls via the device.
    Via(Extension),
    /// One of our phantoms.
    Phantom(Extension),
}

/// Call data that may ride on any event; what is absent has not changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallFacts {
    /// `callLinkageData`.
    pub ucid: Option<Ucid>,
    /// `callingDevice`.
    pub calling: Option<Device>,
    /// `calledDevice`.
    pub called: Option<Device>,
    /// `trunkGroup` of the private data.
    pub trunkgroup: Option<String>,
    /// `trunkMember` of the private data.
    pub trunkmember: Option<String>,
    /// `acdGroup`: split or skill.
    pub split: Option<Extension>,
    /// `distributingVDN`.
    pub vdn: Option<Extension>,
    /// `logicalAgent`.
    pub agentid: Option<String>,
    /// `userData`, the raw bytes (register no. 24).
    pub userdata: Option<Vec<u8>>,
    /// `cause`, as the wire spells it.
    pub cause: Option<String>,
    /// `originalCallInfo`: the call before a consultation.
    pub original: Option<OriginalCall>,
}

/// `originalCallInfo`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OriginalCall {
    /// Identity of the original call.
    pub ucid: Option<Ucid>,
    /// Its caller.
    pub calling: Option<Device>,
    /// Its called number.
    pub called: Option<Device>,
    /// Its trunk group.
    pub trunkgroup: Option<String>,
    /// Its trunk member.
    pub trunkmember: Option<String>,
    /// Its user-to-user information.
    pub userdata: Option<Vec<u8>>,
}

/// One entry of a merge's connection list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergedParty {
    /// The connection in the surviving call.
    pub new: Connection,
    /// What it was before; absent where only one call remains in question.
    pub old: Option<Connection>,
    /// The device at its end.
    pub endpoint: Device,
    /// The trunk that `trunkList` names for this connection.
    pub trunk: Option<(String, String)>,
}

/// A conference or transfer: two calls became one, or one call changed its parties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merge {
    /// `primaryOldCall`.
    pub primary: Connection,
    /// `secondaryOldCall`; absent for a single-step transfer.
    pub secondary: Option<Connection>,
    /// Who did it.
    pub by: Device,
    /// Who was added, or transferred to.
    pub added: Device,
    /// The parties after it.
    pub parties: Vec<MergedParty>,
    /// Identity of the surviving call and of the one that ended, where told.
    pub new_ucid: Option<Ucid>,
    /// See `new_ucid`.
    pub old_ucid: Option<Ucid>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallChange {
    /// A device went off hook.
    ServiceInitiated(Connection),
    /// A device has dialled.
    Originated(Connection),
    /// The call left through a trunk; nothing more may be told of the far side.
    NetworkReached(Connection),
    /// `connection` rings at `alerting`.
    Delivered {
        /// The ringing connection.
        connection: Connection,
        /// Where it rings.
        alerting: Device,
    },
    /// `connection` was answered by `answering`; also what the switch says when a phantom has been
    /// added by single-step conference (dossier 6.4).
    Established {
        /// The answered connection.
        connection: Connection,
        /// Who answered.
        answering: Device,
    },
    /// A party put the call on hold.
    Held(Connection),
    /// A party took it back.
    Retrieved(Connection),
    /// Two calls became a conference.
    Conferenced(Merge),
    /// A call was handed on.
    Transferred(Merge),
    /// The call left this device before it was answered.
    Diverted {
        /// The connection that ended.
        connection: Connection,
        /// Where the call went.
        to: Device,
    },
    /// The call waits at a skill.
    Queued {
        /// The queued connection.
        connection: Connection,
        /// The skill.
        queue: Device,
    },
    /// A connection could not be made.
    Failed(Connection),
    /// A party left.
    ConnectionCleared {
        /// Its connection.
        connection: Connection,
        /// Who let go.
        releasing: Device,
    },
    /// The call is over.
    CallCleared(CallId),
}

/// One event of one monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallEvent {
    /// Whose monitor reported it.
    pub monitor: Monitor,
    /// What happened.
    pub change: CallChange,
    /// What else it says of the call.
    pub facts: CallFacts,
}

/// Answer to `SnapshotCall`: a call that is up now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallSnapshot {
    /// The call.
    pub call: CallId,
    /// The monitored device through which it was found.
    pub monitor: Monitor,
    /// Its parties; a trunk party's device is the trunk.
    pub parties: Vec<(Device, PartyState)>,
    /// What else is known of it.
    pub facts: CallFacts,
}

/// An agent logged in or out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentEvent {
    /// The station.
    pub station: Extension,
    /// The agent's login; `None` when logged out.
    pub agentid: Option<String>,
    /// The skill, where told.
    pub split: Option<Extension>,
}
