//! Answers of the server, typed. Which request they belong to is the business of `session`.

use storage_core::{CallId, Ucid};

use super::fields::{self, CrossRef, DeviceId, MessageError};
use super::xml::Element;
use crate::call::event::{CallFacts, Device, PartyState};

/// The server granted a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionGrant {
    /// `sessionID`, opaque.
    pub session: String,
    /// `actualProtocolVersion`.
    pub version: Option<String>,
    /// `actualSessionDuration`, in seconds.
    pub seconds: Option<u64>,
}

/// The server refused something about a session: `definedError` or `applError`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionRefusal {
    /// The schema's word; empty if the server gave its own.
    pub defined: String,
    /// All the server said.
    pub detail: String,
}

/// Answer to a registration, and what `TerminalReregisteredEvent` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrationAnswer {
    /// The device it is about.
    pub device: Option<DeviceId>,
    /// `signalingEncryption` was there; its value is not read.
    pub encrypted_signaling: bool,
    /// `code`.
    pub code: Option<i64>,
    /// `reason`, as it came.
    pub reason: String,
}

/// `registrationState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegistrationState {
    /// Not registered.
    Idle,
    /// Registered.
    Registered,
    /// On the way to one of the two, or a word that is not known.
    Changing,
}

/// Answer to `SingleStepConferenceCall`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinAnswer {
    /// The call that the new party is in.
    pub call: Option<CallId>,
    /// Its UCID.
    pub ucid: Option<Ucid>,
    /// At most six of its parties.
    pub parties: Vec<Device>,
}

/// Answer to `SnapshotCall`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotAnswer {
    /// The parties; where a trunk is at the end, the trunk.
    pub parties: Vec<(Device, PartyState)>,
    /// What else is told.
    pub facts: CallFacts,
}

/// What `SystemStatus` and `RequestSystemStatusResponse` say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemStatus {
    /// State of each switch's link, up or not; empty if the private data was left out.
    pub links: Vec<(String, bool)>,
    /// What `systemStatus` says of the whole: up, down, or nothing of either.
    pub whole: Option<bool>,
}

impl SystemStatus {
    /// Whether the link to this switch is up; `None` if the message does not tell.
    #[must_use]
    pub fn of_switch(&self, switch_name: &str) -> Option<bool> {
        let link = self.links.iter().find(|(name, _)| name.eq_ignore_ascii_case(switch_name));
        match link {
            Some((_, up)) => Some(*up),
            None if self.links.is_empty() => self.whole,
            None => None,
        }
    }
}

/// Answers to requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// `StartApplicationSessionPosResponse`.
    SessionStarted(SessionGrant),
    /// `StartApplicationSessionNegResponse`.
    SessionRefused(SessionRefusal),
    /// `ResetApplicationSessionTimerPosResponse`, with the duration in seconds.
    TimerReset(Option<u64>),
    /// `ResetApplicationSessionTimerNegResponse`.
    TimerRefused(SessionRefusal),
    /// `StopApplicationSessionPosResponse` or `…NegResponse`: either way it is over.
    SessionStopped,
    /// `GetDeviceIdResponse` or `GetThirdPartyDeviceIdResponse`.
    DeviceId(DeviceId),
    /// `MonitorStartResponse`.
    MonitorStarted(CrossRef),
    /// `RegisterTerminalResponse`.
    Registration(RegistrationAnswer),
    /// `GetRegistrationStateResponse`.
    RegistrationState(RegistrationState),
    /// `SingleStepConferenceCallResponse`.
    Joined(JoinAnswer),
    /// `SnapshotDeviceResponse`: the calls that the device is in.
    DeviceCalls(Vec<CallId>),
    /// `SnapshotCallResponse`.
    Call(Box<SnapshotAnswer>),
    /// `GetCallLinkageDataResponse`.
    Linkage(Option<Ucid>),
    /// `GetAgentStateResponse`: who is logged in there.
    Agent(Option<String>),
    /// `RequestSystemStatusResponse`.
    SystemStatus(SystemStatus),
    /// An answer whose coming says all: `ClearConnectionResponse`, `MonitorStopResponse`, …
    Done,
}

impl Response {
    /// Reads an answer; `None` if the message is none that is known.
    ///
    /// # Errors
    /// If a field is missing without which it says nothing.
    pub fn parse(message: &Element) -> Result<Option<Self>, MessageError> {
        let missing = |field| MessageError::missing(message, field);
        Ok(Some(match message.name.as_str() {
            "StartApplicationSessionPosResponse" => Self::SessionStarted(session_grant(message)?),
            "StartApplicationSessionNegResponse" => Self::SessionRefused(refusal(message)),
            "ResetApplicationSessionTimerPosResponse" => Self::TimerReset(seconds(message)),
            "ResetApplicationSessionTimerNegResponse" => Self::TimerRefused(refusal(message)),
            "StopApplicationSessionPosResponse" | "StopApplicationSessionNegResponse" => {
                Self::SessionStopped
            }
            "GetDeviceIdResponse" | "GetThirdPartyDeviceIdResponse" => {
                Self::DeviceId(device_id(message).ok_or(missing("device"))?)
            }
            "MonitorStartResponse" => {
                let crossref = message.text_of("monitorCrossRefID");
                Self::MonitorStarted(CrossRef::new(crossref.ok_or(missing("monitorCrossRefID"))?))
            }
            "RegisterTerminalResponse" => Self::Registration(registration(message)),
            "GetRegistrationStateResponse" => {
                let state = message.text_of("registrationState");
                Self::RegistrationState(registration_state(
                    state.ok_or(missing("registrationState"))?,
                ))
            }
            "SingleStepConferenceCallResponse" => Self::Joined(join_answer(message)),
            "SnapshotDeviceResponse" => Self::DeviceCalls(device_calls(message)),
            "SnapshotCallResponse" => Self::Call(Box::new(snapshot(message))),
            "GetCallLinkageDataResponse" => {
                Self::Linkage(message.child("callLinkageData").and_then(fields::ucid))
            }
            "GetAgentStateResponse" => Self::Agent(agent(message)),
            "RequestSystemStatusResponse" => Self::SystemStatus(system_status(message)),
            "ClearConnectionResponse"
            | "MonitorStopResponse"
            | "UnregisterTerminalResponse"
            | "ReleaseDeviceIdResponse"
            | "GetAgentLoginResponse"
            | "SetHookswitchStatusResponse"
            | "ButtonPressResponse"
            | "SystemRegisterResponse" => Self::Done,
            _ => return Ok(None),
        }))
    }
}

/// `RegisterTerminalResponse` and `TerminalReregisteredEvent` share their fields.
#[must_use]
pub fn registration(message: &Element) -> RegistrationAnswer {
    RegistrationAnswer {
        device: device_id(message),
        encrypted_signaling: message.child("signalingEncryption").is_some(),
        // The schema's default of -1 says nothing and stands for none.
        code: message.text_of("code").and_then(|code| code.parse().ok()).filter(|code| *code != -1),
        reason: message.text_of("reason").unwrap_or_default().to_owned(),
    }
}

fn session_grant(message: &Element) -> Result<SessionGrant, MessageError> {
    let session = message.text_of("sessionID");
    Ok(SessionGrant {
        session: session.ok_or(MessageError::missing(message, "sessionID"))?.to_owned(),
        version: message.text_of("actualProtocolVersion").map(str::to_owned),
        seconds: seconds(message),
    })
}

fn seconds(message: &Element) -> Option<u64> {
    message.text_of("actualSessionDuration")?.parse().ok()
}

fn refusal(message: &Element) -> SessionRefusal {
    let defined = message.path(&["errorCode", "definedError"]);
    SessionRefusal {
        defined: defined.map(|error| error.text.clone()).unwrap_or_default(),
        detail: message.all_text(),
    }
}

fn device_id(message: &Element) -> Option<DeviceId> {
    let device = message.child("device")?;
    let text = device.text_of("deviceIdentifier").unwrap_or(&device.text);
    (!text.is_empty()).then(|| DeviceId::new(text))
}

fn registration_state(text: &str) -> RegistrationState {
    match text.to_ascii_uppercase().as_str() {
        "IDLE" => RegistrationState::Idle,
        "REGISTERED" => RegistrationState::Registered,
        _ => RegistrationState::Changing,
    }
}

fn join_answer(message: &Element) -> JoinAnswer {
    let ucid = fields::private_field(message, "globallyUniqueCallLinkageID");
    let connections = fields::private_field(message, "resultingConnections");
    let parties = connections
        .iter()
        .flat_map(|list| list.children_named("connection"))
        .filter_map(fields::connection)
        .map(|connection| connection.device)
        .collect();
    JoinAnswer {
        call: message.child("conferencedCall").and_then(fields::connection).map(|c| c.call),
        ucid: ucid.and_then(|ucid| ucid.text.parse().ok()),
        parties,
    }
}

const SNAPSHOT: [&str; 2] = ["crossRefIDorSnapshotData", "snapshotData"];

fn device_calls(message: &Element) -> Vec<CallId> {
    let mut calls = Vec::new();
    let entries = message.path(&SNAPSHOT).into_iter();
    for entry in entries.flat_map(|list| list.children_named("snapshotDeviceResponseInfo")) {
        let state = entry.path(&["localCallState", "simpleCallState"]);
        if state.is_some_and(|state| state.text == "callNull") {
            continue;
        }
        let connection = entry.child("connectionIdentifier").and_then(fields::connection);
        if let Some(connection) = connection
            && !calls.contains(&connection.call)
        {
            calls.push(connection.call);
        }
    }
    calls
}

fn snapshot(message: &Element) -> SnapshotAnswer {
    let entries = message.path(&SNAPSHOT).into_iter();
    let parties = entries
        .flat_map(|list| list.children_named("snapshotCallResponseInfo"))
        .map(snapshot_party)
        .collect();
    let facts = CallFacts {
        ucid: message.child("callLinkageData").and_then(fields::ucid),
        calling: fields::known_device(message, "callingDevice"),
        called: fields::known_device(message, "calledDevice"),
        ..CallFacts::default()
    };
    SnapshotAnswer { parties, facts }
}

fn snapshot_party(entry: &Element) -> (Device, PartyState) {
    let connected = entry.child("callIdentifier").and_then(fields::connection);
    let connected = connected.map_or(Device::Unknown, |connection| connection.device);
    let named = entry.child("deviceOnCall").map_or(Device::Unknown, fields::device);
    // An outside party is named by its number, but what is in the call is the trunk.
    let device = match (&connected, &named) {
        (Device::Trunk { .. }, _) | (_, Device::Unknown) => connected,
        _ => named,
    };
    let state = entry.text_of("localConnectionInfo").and_then(fields::party_state);
    // A party that is listed is in the call; where its state is not told, it is taken to talk.
    (device, state.unwrap_or(PartyState::Connected))
}

fn agent(message: &Element) -> Option<String> {
    let entries = message.child("agentStateList")?.children_named("agentStateEntry");
    let mut logged_on =
        entries.filter(|entry| entry.text_of("loggedOnState").is_some_and(fields::is_true));
    logged_on.find_map(|entry| entry.text_of("agentID")).map(str::to_owned)
}

/// `SystemStatus` and `RequestSystemStatusResponse` share their fields.
#[must_use]
pub fn system_status(message: &Element) -> SystemStatus {
    let links = fields::private_data(message)
        .flat_map(|data| data.children_named("switchTlinkStatus"))
        .filter_map(|link| {
            let up = link.text_of("tlinkStatus")? == "tlinkUp";
            Some((link.text_of("switchName")?.to_owned(), up))
        })
        .collect();
    let whole = match message.text_of("systemStatus") {
        Some("normal" | "enabled") => Some(true),
        Some("disabled") => Some(false),
        _ => None,
    };
    SystemStatus { links, whole }
}
