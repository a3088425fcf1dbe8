//! What the server tells on its own, typed: call control (dossier 6.3), agents (6.8), media (5.2)
//! and registration (4.4). Whose monitor it belongs to is the business of `devices`.

use std::net::SocketAddr;

use storage_core::Extension;

use super::config::Secret;
use super::fields::{self, CrossRef, MessageError};
use super::register;
use super::response::{self, RegistrationAnswer};
use super::xml::Element;
use crate::call::event::{
    AgentEvent, CallChange, CallFacts, Connection, Device, Merge, MergedParty, OriginalCall,
};

/// `MediaStartEvent`: the media of our device is now so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaStart {
    /// The far end's RTP address.
    pub source: Option<SocketAddr>,
    /// The codec as the wire names it; empty if it does not.
    pub codec: String,
    /// Milliseconds in a packet.
    pub packet_ms: Option<u32>,
    /// The encryption as the wire names it, where it does.
    pub encryption: Option<String>,
    /// The key that decrypts what we get, as it is written; empty without one.
    pub receive_key: Secret,
    /// The salt that belongs to it.
    pub receive_salt: Secret,
}

/// What a monitor reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A call changed.
    Call(Box<CallChange>, Box<CallFacts>),
    /// An agent logged in or out, or showed that he is logged in.
    Agent(AgentEvent),
    /// A part of the list of those who are logged in at a skill.
    LoggedIn {
        /// The stations at which they are (register no. 27).
        stations: Vec<Extension>,
        /// No more parts follow.
        last: bool,
    },
    /// Media started, or changed.
    MediaStarted(MediaStart),
    /// Media stopped.
    MediaStopped,
    /// Our registration has ended.
    TerminalUnregistered {
        /// `code`.
        code: Option<i64>,
        /// `reason`, as it came.
        reason: String,
    },
    /// The server has recovered our registration.
    TerminalReregistered(RegistrationAnswer),
    /// Some endpoint of the extension registered, ours or another.
    EndpointRegistered,
    /// Some endpoint of the extension went, ours or another.
    EndpointUnregistered,
    /// The server ends the monitor.
    MonitorStopped,
}

/// An event with its monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MonitorEvent {
    /// The monitor.
    pub crossref: CrossRef,
    /// The event.
    pub event: Event,
}

impl MonitorEvent {
    /// Reads an event of a monitor; `None` if the message is none that is known.
    ///
    /// # Errors
    /// If a field is missing without which it says nothing.
    pub fn parse(message: &Element) -> Result<Option<Self>, MessageError> {
        let Some(event) = parse_event(message)? else { return Ok(None) };
        let crossref = message.text_of("monitorCrossRefID");
        let crossref = crossref.ok_or(MessageError::missing(message, "monitorCrossRefID"))?;
        Ok(Some(Self { crossref: CrossRef::new(crossref), event }))
    }
}

fn parse_event(message: &Element) -> Result<Option<Event>, MessageError> {
    Ok(Some(match message.name.as_str() {
        "MediaStartEvent" => Event::MediaStarted(media_start(message)),
        "MediaStopEvent" => Event::MediaStopped,
        "TerminalUnregisteredEvent" => {
            let answer = response::registration(message);
            Event::TerminalUnregistered { code: answer.code, reason: answer.reason }
        }
        "TerminalReregisteredEvent" => Event::TerminalReregistered(response::registration(message)),
        "EndpointRegisteredEvent" => Event::EndpointRegistered,
        "EndpointUnregisteredEvent" => Event::EndpointUnregistered,
        "MonitorStop" => Event::MonitorStopped,
        "AgentLoggedOnEvent"
        | "AgentLoggedOffEvent"
        | "AgentReadyEvent"
        | "AgentNotReadyEvent"
        | "AgentWorkingAfterCallEvent"
        | "AgentBusyEvent" => match agent_event(message)? {
            Some(agent) => Event::Agent(agent),
            None => return Ok(None),
        },
        "AgentLoginExtensionEvent" => logged_in(message),
        _ => match call_change(message)? {
            Some(change) => Event::Call(Box::new(change), Box::new(call_facts(message))),
            None => return Ok(None),
        },
    }))
}

fn media_start(message: &Element) -> MediaStart {
    let encryption = message.child("encryption");
    let of_it = |name| encryption.and_then(|encryption| encryption.text_of(name));
    MediaStart {
        source: message.child("rtpAddress").and_then(fields::socket_address),
        codec: message.text_of("codec").unwrap_or_default().to_owned(),
        packet_ms: message.text_of("packetSize").and_then(|number| number.parse().ok()),
        encryption: of_it("protocol").filter(|protocol| !protocol.is_empty()).map(str::to_owned),
        receive_key: Secret::new(of_it("receiveKey").unwrap_or_default()),
        receive_salt: Secret::new(of_it("receiveSalt").unwrap_or_default()),
    }
}

/// `None` for a state event that does not name the agent: it says nothing of the login.
fn agent_event(message: &Element) -> Result<Option<AgentEvent>, MessageError> {
    let device = message.child("agentDevice").map(fields::device);
    let station = device.as_ref().and_then(Device::number).cloned();
    let station = station.ok_or(MessageError::missing(message, "agentDevice"))?;
    let split = fields::known_device(message, "acdGroup");
    let split = split.as_ref().and_then(Device::number).cloned();
    let agentid = message.text_of("agentID").map(str::to_owned);
    Ok(match (message.name.as_str(), agentid) {
        ("AgentLoggedOffEvent", _) => Some(AgentEvent { station, agentid: None, split }),
        (_, Some(agentid)) => Some(AgentEvent { station, agentid: Some(agentid), split }),
        (_, None) => None,
    })
}

/// A list that does not say whether more follows is taken for the whole.
fn logged_in(message: &Element) -> Event {
    let list = message.child("agentLoginExtensionList").into_iter();
    let entries = list.flat_map(|list| list.children_named("agentExtension"));
    let stations =
        entries.map(fields::device).filter_map(|entry| register::station_of_login(&entry));
    let stations = stations.collect();
    let last = message.text_of("isFinalResponse").is_none_or(fields::is_true);
    Event::LoggedIn { stations, last }
}

fn call_change(message: &Element) -> Result<Option<CallChange>, MessageError> {
    let connection = |field: &'static str| {
        let found = message.child(field).and_then(fields::connection);
        found.ok_or(MessageError::missing(message, field))
    };
    let device = |field| message.child(field).map_or(Device::Unknown, fields::device);
    Ok(Some(match message.name.as_str() {
        "ServiceInitiatedEvent" => CallChange::ServiceInitiated(connection("initiatedConnection")?),
        "OriginatedEvent" => CallChange::Originated(connection("originatedConnection")?),
        "NetworkReachedEvent" => CallChange::NetworkReached(connection("outboundConnection")?),
        "DeliveredEvent" => CallChange::Delivered {
            connection: connection("connection")?,
            alerting: device("alertingDevice"),
        },
        "EstablishedEvent" => CallChange::Established {
            connection: connection("establishedConnection")?,
            answering: device("answeringDevice"),
        },
        "HeldEvent" => CallChange::Held(connection("heldConnection")?),
        "RetrievedEvent" => CallChange::Retrieved(connection("retrievedConnection")?),
        "ConferencedEvent" => CallChange::Conferenced(merge(message, &CONFERENCE)?),
        // The schema has one r; two are taken, too.
        "TransferedEvent" | "TransferredEvent" => {
            CallChange::Transferred(merge(message, &TRANSFER)?)
        }
        "DivertedEvent" => CallChange::Diverted {
            connection: connection("connection")?,
            to: device("newDestination"),
        },
        "QueuedEvent" => CallChange::Queued {
            connection: connection("queuedConnection")?,
            queue: device("queue"),
        },
        "FailedEvent" => CallChange::Failed(connection("failedConnection")?),
        "ConnectionClearedEvent" => CallChange::ConnectionCleared {
            connection: connection("droppedConnection")?,
            releasing: device("releasingDevice"),
        },
        "CallClearedEvent" => CallChange::CallCleared(connection("clearedCall")?.call),
        _ => return Ok(None),
    }))
}

/// Where a conference and a transfer name the same things differently.
struct MergeFields {
    by: &'static str,
    added: &'static str,
    list: &'static str,
}

const CONFERENCE: MergeFields =
    MergeFields { by: "conferencingDevice", added: "addedParty", list: "conferenceConnections" };
const TRANSFER: MergeFields = MergeFields {
    by: "transferringDevice",
    added: "transferredToDevice",
    list: "transferredConnections",
};

fn merge(message: &Element, names: &MergeFields) -> Result<Merge, MessageError> {
    let primary = message.child("primaryOldCall").and_then(fields::connection);
    let device = |field| message.child(field).map_or(Device::Unknown, fields::device);
    let linkage = |name| message.path(&["callLinkageDataList", name]).and_then(fields::ucid);
    let trunks = trunks(message);
    let items = message.child(names.list).into_iter();
    let parties = items
        .flat_map(|list| list.children_named("connectionListItem"))
        .filter_map(|item| merged_party(item, &trunks))
        .collect();
    Ok(Merge {
        primary: primary.ok_or(MessageError::missing(message, "primaryOldCall"))?,
        secondary: message.child("secondaryOldCall").and_then(fields::connection),
        by: device(names.by),
        added: device(names.added),
        parties,
        new_ucid: linkage("newCallLinkageData"),
        old_ucid: linkage("oldCallLinkageData"),
    })
}

type Trunk = (Connection, (String, String));

fn trunks(message: &Element) -> Vec<Trunk> {
    let list = fields::private_field(message, "trunkList").into_iter();
    list.flat_map(|list| list.children_named("trunkInterfaceInfoItem"))
        .filter_map(|item| {
            let connection = item.child("connection_asn").and_then(fields::connection)?;
            let group = item.text_of("trunkGroup")?.to_owned();
            let member = item.text_of("trunkMember").unwrap_or_default().to_owned();
            Some((connection, (group, member)))
        })
        .collect()
}

/// A party without a new connection is in the item itself where only one call remains.
fn merged_party(item: &Element, trunks: &[Trunk]) -> Option<MergedParty> {
    let new = item.child("newConnection").and_then(fields::connection);
    let new = new.or_else(|| fields::connection(item))?;
    let trunk = trunks.iter().find(|(connection, _)| *connection == new);
    Some(MergedParty {
        old: item.child("oldConnection").and_then(fields::connection),
        endpoint: item.child("endpoint").map_or(Device::Unknown, fields::device),
        trunk: trunk.map(|(_, trunk)| trunk.clone()),
        new,
    })
}

fn call_facts(message: &Element) -> CallFacts {
    let private = |name| fields::private_field(message, name);
    let private_text =
        |name| private(name).map(|field| field.text.clone()).filter(|text| !text.is_empty());
    let private_number =
        |name| private(name).map(fields::device).as_ref().and_then(Device::number).cloned();
    CallFacts {
        ucid: message.child("callLinkageData").and_then(fields::ucid),
        calling: fields::known_device(message, "callingDevice"),
        called: fields::known_device(message, "calledDevice"),
        trunkgroup: private_text("trunkGroup"),
        trunkmember: private_text("trunkMember"),
        split: private_number("acdGroup"),
        vdn: private_number("distributingVDN"),
        agentid: private_text("logicalAgent"),
        userdata: message.child("userData").and_then(fields::user_data),
        cause: message.text_of("cause").map(str::to_owned),
        original: private("originalCallInfo").map(original_call),
    }
}

fn original_call(field: &Element) -> OriginalCall {
    OriginalCall {
        ucid: field.child("callLinkageData").and_then(fields::ucid),
        calling: fields::known_device(field, "networkCallingDevice"),
        called: fields::known_device(field, "networkCalledDevice"),
        trunkgroup: field.text_of("trunkGroup").map(str::to_owned),
        trunkmember: field.text_of("trunkMember").map(str::to_owned),
        userdata: field.child("userData").and_then(fields::user_data),
    }
}
