//! One call: its parties and what is known about it. Decides nothing; the switch does.

use std::collections::BTreeMap;

use super::event::{CallFacts, Number, OriginalCall};
use super::ids::{CallId, Device, Extension, Serial, Trunk, Ucid};
use crate::time::Time;

/// State of one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnectionState {
    /// Off-hook, not yet dialled.
    Initiated,
    /// Ringing.
    Alerting,
    /// Speech path.
    Connected,
    /// On hold by this device.
    Held,
    /// Waiting in a queue or in a vector.
    Queued,
    /// Busy or reorder tone.
    Failed,
}

impl ConnectionState {
    /// CSTA's word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Initiated => "initiated",
            Self::Alerting => "alerting",
            Self::Connected => "connected",
            Self::Held => "hold",
            Self::Queued => "queued",
            Self::Failed => "fail",
        }
    }
}

/// How a single-step conference joined a party.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Participation {
    /// Listens and talks.
    Active,
    /// Only listens.
    Silent,
}

/// Where a call comes from and goes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From a trunk.
    Inbound,
    /// To a trunk.
    Outbound,
    /// Inside.
    Internal,
}

/// One party.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Party {
    /// The connection's device.
    pub device: Device,
    /// Number of the party: the extension, or the outside number of a trunk.
    pub number: Number,
    /// Connection state.
    pub state: ConnectionState,
    /// Set if a single-step conference joined it.
    pub joined_as: Option<Participation>,
    /// Set if it is a phantom, that is a recorder.
    pub recorder: bool,
}

impl Party {
    /// A person at a device.
    #[must_use]
    pub const fn person(device: Device, number: Number, state: ConnectionState) -> Self {
        Self { device, number, state, joined_as: None, recorder: false }
    }

    /// A person at a station.
    #[must_use]
    pub fn at_station(station: &Extension, state: ConnectionState) -> Self {
        let number = Number(station.as_str().to_owned());
        Self::person(Device::Extension(station.clone()), number, state)
    }
}

/// One call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call {
    /// Call ID of the moment.
    pub id: CallId,
    /// The interaction.
    pub serial: Serial,
    /// UCID of the moment.
    pub ucid: Ucid,
    /// UCIDs of calls merged into this one.
    pub former_ucids: Vec<Ucid>,
    /// Where it came from.
    pub direction: Direction,
    /// Who called.
    pub calling: Number,
    /// What was dialled.
    pub called: Number,
    /// Parties in the order they came.
    pub parties: Vec<Party>,
    /// Where it was sent from last.
    pub last_redirection: Option<Extension>,
    /// VDN that sent it.
    pub vdn: Option<Extension>,
    /// Skill that sent it.
    pub skill: Option<Extension>,
    /// The skill it waits at.
    pub queued_at: Option<Extension>,
    /// VDNs and skills it went through, with the event number of the entry.
    pub via: BTreeMap<Extension, u64>,
    /// User-to-user bytes.
    pub user_data: Vec<u8>,
    /// The call a consultation was made from.
    pub original: Option<Box<OriginalCall>>,
    /// When it began.
    pub started: Time,
    /// When two parties first had a speech path; frames count from here.
    pub established: Option<Time>,
    /// Stations that ever were connected.
    pub answered_by: Vec<Extension>,
    /// Since when fewer than two people are in it.
    pub lonely_since: Option<Time>,
}

impl Call {
    /// The party with that device.
    #[must_use]
    pub fn party(&self, device: &Device) -> Option<&Party> {
        self.parties.iter().find(|party| party.device == *device)
    }

    /// The party at that extension.
    #[must_use]
    pub fn at(&self, extension: &Extension) -> Option<&Party> {
        self.parties.iter().find(|party| party.device.is(extension))
    }

    /// The party at that extension, to change it.
    pub fn at_mut(&mut self, extension: &Extension) -> Option<&mut Party> {
        self.parties.iter_mut().find(|party| party.device.is(extension))
    }

    /// The first outside party.
    #[must_use]
    pub fn outside(&self) -> Option<&Party> {
        self.parties.iter().find(|party| party.device.extension().is_none())
    }

    /// The outside party's trunk.
    #[must_use]
    pub fn trunk(&self) -> Option<Trunk> {
        self.parties.iter().find_map(|party| match party.device {
            Device::Trunk(trunk) => Some(trunk),
            Device::Extension(_) => None,
        })
    }

    /// How many parties are no recorders.
    #[must_use]
    pub fn people(&self) -> usize {
        self.parties.iter().filter(|party| !party.recorder).count()
    }

    /// The facts an event carries.
    #[must_use]
    pub fn facts(&self) -> CallFacts {
        CallFacts {
            id: self.id,
            serial: self.serial,
            ucid: self.ucid.clone(),
            calling: self.calling.clone(),
            called: self.called.clone(),
            last_redirection: self.last_redirection.clone(),
            vdn: self.vdn.clone(),
            skill: self.skill.clone(),
            trunk: self.trunk(),
            user_data: self.user_data.clone(),
            original: self.original.clone(),
        }
    }
}
