//! Requests to the server, typed, and their XML: schema order and the exact namespaces of
//! dossier 0.3. When to send them is not decided here.

use std::net::SocketAddr;

use storage_core::record::Side;
use storage_core::{CallId, Extension};

use super::config::{LinkConfig, Secret};
use super::fields::{CrossRef, DeviceId};
use super::register::{self, Dialect};
use super::xml::Writer;

/// Namespace of the session messages.
pub const APP: &str = "http://www.ecma-international.org/standards/ecma-354/appl_session";
/// Namespace of standard CSTA.
pub const CSTA: &str = "http://www.ecma-international.org/standards/ecma-323/csta/ed3";
/// Namespace of Avaya's messages and private data.
pub const AVAYA: &str = "http://www.avaya.com/csta";

const INSTANCE: &str = "http://www.w3.org/2001/XMLSchema-instance";
/// What working clients write on devices of their own (dossier 3.1).
const DEVICE: [(&str, &str); 2] = [("typeOfNumber", "other"), ("mediaClass", "notKnown")];

const STATION_CALLS: [&str; 14] = [
    "callCleared",
    "conferenced",
    "connectionCleared",
    "delivered",
    "diverted",
    "established",
    "failed",
    "held",
    "networkReached",
    "originated",
    "queued",
    "retrieved",
    "serviceInitiated",
    "transferred",
];
const VIA_CALLS: [&str; 10] = [
    "callCleared",
    "conferenced",
    "connectionCleared",
    "delivered",
    "diverted",
    "established",
    "held",
    "queued",
    "retrieved",
    "transferred",
];
const AGENT_STATES: [&str; 5] =
    ["agentLoggedOn", "agentLoggedOff", "agentNotReady", "agentReady", "agentWorkingAfterCall"];

/// What a monitor is asked to report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MonitorKind {
    /// Media and registration of a phantom.
    Media,
    /// Call control of one device, and its agent.
    Calls,
    /// Call control of all calls that enter by a VDN or skill.
    CallsVia,
    /// Agents of a skill: their events come from a monitor on the hunt group as a device
    /// (dossier 6.8), which the one above is not.
    Agents,
}

/// How a phantom, or one more terminal of a station, is to be registered.
#[derive(Clone, Debug)]
pub struct Registration<'a> {
    /// The phantom, or the station's instance.
    pub device: &'a DeviceId,
    /// INDEPENDENT of the station's telephone, rather than MAIN.
    pub independent: bool,
    /// The side of the station's calls that it is to be sent; absent: all in one.
    pub side: Option<Side>,
    /// Takes the place from whoever has it.
    pub force: bool,
    /// Its security code.
    pub password: &'a Secret,
    /// Where it receives RTP.
    pub rtp: SocketAddr,
    /// Where it receives RTCP.
    pub rtcp: SocketAddr,
    /// `al_codecs` names.
    pub codecs: &'a [String],
    /// Milliseconds in a packet.
    pub packet_ms: u32,
    /// `al_mediaencryption` names.
    pub encryption: &'a [String],
}

/// A request, borrowing what it names.
#[derive(Clone, Debug)]
pub enum Request<'a> {
    /// `StartApplicationSession`.
    StartSession {
        /// Login, versions and times.
        config: &'a LinkConfig,
        /// The session to take back.
        session: Option<&'a str>,
    },
    /// `ResetApplicationSessionTimer`.
    KeepAlive {
        /// Our session.
        session: &'a str,
        /// The duration to ask for.
        seconds: u64,
    },
    /// `StopApplicationSession`.
    StopSession {
        /// Our session.
        session: &'a str,
    },
    /// `GetDeviceId`: a phantom of this session, or an instance of a station.
    GetDeviceId {
        /// The switch connection.
        switch_name: &'a str,
        /// The phantom or station.
        extension: &'a Extension,
        /// Which of several registrations of the extension; left out for the first.
        instance: Option<u8>,
    },
    /// `GetThirdPartyDeviceId`: a name for somebody else's device.
    GetThirdPartyDeviceId {
        /// The switch connection.
        switch_name: &'a str,
        /// The station, VDN, skill or outside number.
        extension: &'a Extension,
    },
    /// `MonitorStart`.
    MonitorStart {
        /// The device.
        device: &'a DeviceId,
        /// What for.
        kind: MonitorKind,
    },
    /// `MonitorStop`.
    MonitorStop {
        /// The monitor.
        crossref: &'a CrossRef,
    },
    /// `RegisterTerminalRequest`, CLIENT.
    RegisterTerminal(Registration<'a>),
    /// `UnregisterTerminalRequest`.
    UnregisterTerminal {
        /// The phantom.
        device: &'a DeviceId,
    },
    /// `ReleaseDeviceId`.
    ReleaseDeviceId {
        /// The device.
        device: &'a DeviceId,
    },
    /// `GetRegistrationState`.
    GetRegistrationState {
        /// The phantom.
        device: &'a DeviceId,
    },
    /// `SingleStepConferenceCall`, silent.
    Join {
        /// A party of the call.
        party: &'a DeviceId,
        /// The call.
        call: &'a CallId,
        /// Who joins.
        phantom: &'a DeviceId,
    },
    /// `ClearConnection`.
    Leave {
        /// The call.
        call: &'a CallId,
        /// Who leaves.
        phantom: &'a DeviceId,
    },
    /// `SnapshotDevice`.
    SnapshotDevice {
        /// The device.
        device: &'a DeviceId,
    },
    /// `SnapshotCall`.
    SnapshotCall {
        /// A party of the call.
        party: &'a DeviceId,
        /// The call.
        call: &'a CallId,
    },
    /// `GetCallLinkageData`.
    GetCallLinkage {
        /// A party of the call.
        party: &'a DeviceId,
        /// The call.
        call: &'a CallId,
    },
    /// `GetAgentState`.
    GetAgentState {
        /// The station.
        device: &'a DeviceId,
    },
    /// `GetAgentLogin`: the skill's monitor of agents is told who is logged in.
    GetAgentLogin {
        /// The skill.
        device: &'a DeviceId,
    },
    /// `SetHookswitchStatus`.
    SetHookswitch {
        /// The phantom.
        device: &'a DeviceId,
        /// Lift the receiver, or put it down.
        off: bool,
    },
    /// `ButtonPress`.
    PressButton {
        /// The phantom.
        device: &'a DeviceId,
        /// The button, as [`register::button`] names it.
        button: &'a str,
    },
    /// `SystemRegister` for the link between AES and switch.
    SystemRegister {
        /// The switch connection.
        switch_name: &'a str,
    },
    /// `RequestSystemStatus`.
    RequestSystemStatus,
}

impl Request<'_> {
    /// The request as XML. `version` is the session's negotiated protocol version.
    #[must_use]
    pub fn to_xml(&self, dialect: &Dialect, version: Option<&str>) -> String {
        let csta = version.filter(|_| dialect.version_as_namespace).unwrap_or(CSTA);
        let mut body = Body { xml: Writer::default(), dialect, csta };
        body.request(self);
        body.xml.finish()
    }
}

/// The one place where names and namespaces are put together. A member lives in the namespace of
/// the type that contains it; where that changes within a message, the element says so.
struct Body<'a> {
    xml: Writer,
    dialect: &'a Dialect,
    csta: &'a str,
}

impl Body<'_> {
    fn request(&mut self, request: &Request) {
        match *request {
            Request::StartSession { config, session } => self.start_session(config, session),
            Request::KeepAlive { session, seconds } => self.keep_alive(session, seconds),
            Request::StopSession { session } => self.stop_session(session),
            Request::GetDeviceId { switch_name, extension, instance } => {
                self.ask_id("GetDeviceId", switch_name, extension);
                if let Some(instance) = instance {
                    self.xml.leaf("deviceInstance", &instance.to_string());
                }
                if self.dialect.shared_devices {
                    self.xml.leaf("controllableByOtherSessions", "true");
                }
            }
            Request::GetThirdPartyDeviceId { switch_name, extension } => {
                self.ask_id("GetThirdPartyDeviceId", switch_name, extension);
            }
            Request::MonitorStart { device, kind } => self.monitor_start(device, kind),
            Request::MonitorStop { crossref } => {
                self.csta_root("MonitorStop");
                self.xml.leaf("monitorCrossRefID", crossref.as_str());
            }
            Request::RegisterTerminal(ref registration) => self.register_terminal(registration),
            Request::UnregisterTerminal { device } => {
                self.about("UnregisterTerminalRequest", AVAYA, "device", device);
                self.xml.leaf("forceLogout", "true");
            }
            Request::ReleaseDeviceId { device } => {
                self.about("ReleaseDeviceId", AVAYA, "device", device);
            }
            Request::GetRegistrationState { device } => {
                self.about("GetRegistrationState", AVAYA, "device", device);
            }
            Request::Join { party, call, phantom } => {
                self.csta_root("SingleStepConferenceCall");
                self.connection("activeCall", party, call);
                self.device("deviceToJoin", phantom);
                self.xml.leaf("participationType", "silent");
            }
            Request::Leave { call, phantom } => {
                self.csta_root("ClearConnection");
                self.connection("connectionToBeCleared", phantom, call);
            }
            Request::SnapshotDevice { device } => {
                self.about("SnapshotDevice", self.csta, "snapshotObject", device);
            }
            Request::SnapshotCall { party, call } => {
                self.csta_root("SnapshotCall");
                self.connection("snapshotObject", party, call);
            }
            Request::GetCallLinkage { party, call } => self.get_call_linkage(party, call),
            Request::GetAgentState { device } => {
                self.about("GetAgentState", self.csta, "device", device);
            }
            Request::GetAgentLogin { device } => {
                self.about("GetAgentLogin", AVAYA, "device", device);
            }
            Request::SetHookswitch { device, off } => {
                self.about("SetHookswitchStatus", self.csta, "device", device);
                self.xml.leaf("hookswitch", "0");
                self.xml.leaf("hookswitchOnhook", if off { "false" } else { "true" });
            }
            Request::PressButton { device, button } => {
                self.about("ButtonPress", self.csta, "device", device);
                self.xml.leaf("button", button);
            }
            Request::SystemRegister { switch_name } => self.system_register(switch_name),
            Request::RequestSystemStatus => self.csta_root("RequestSystemStatus"),
        }
    }

    fn root(&mut self, name: &'static str, namespace: &str) {
        self.xml.open(name, &[("xmlns", namespace)]);
    }

    fn csta_root(&mut self, name: &'static str) {
        self.xml.open(name, &[("xmlns", self.csta)]);
    }

    /// A request whose first member is a device.
    fn about(
        &mut self,
        name: &'static str,
        namespace: &str,
        member: &'static str,
        device: &DeviceId,
    ) {
        self.root(name, namespace);
        self.device(member, device);
    }

    fn ask_id(&mut self, name: &'static str, switch_name: &str, extension: &Extension) {
        self.root(name, AVAYA);
        self.xml.leaf("switchName", switch_name);
        self.xml.leaf("extension", extension.as_str());
    }

    fn device(&mut self, name: &'static str, device: &DeviceId) {
        self.xml.leaf_with(name, &DEVICE, device.as_str());
    }

    fn connection(&mut self, name: &'static str, device: &DeviceId, call: &CallId) {
        self.xml.open(name, &[]);
        self.device("deviceID", device);
        self.xml.leaf("callID", call.as_str());
        self.xml.close();
    }

    fn flags(&mut self, group: &'static str, flags: &[&'static str]) {
        self.xml.open(group, &[]);
        for flag in flags {
            self.xml.leaf(flag, "true");
        }
        self.xml.close();
    }

    fn start_session(&mut self, config: &LinkConfig, session: Option<&str>) {
        self.root("StartApplicationSession", APP);
        self.xml.open("applicationInfo", &[]);
        self.xml.leaf("applicationID", &config.application_id);
        self.xml.open("applicationSpecificInfo", &[]);
        if self.dialect.type_attributes {
            let names =
                [("xmlns:av", AVAYA), ("xmlns:xsi", INSTANCE), ("xsi:type", "av:SessionLoginInfo")];
            self.xml.open("av:SessionLoginInfo", &names);
        } else {
            self.xml.open("av:SessionLoginInfo", &[("xmlns:av", AVAYA)]);
        }
        self.xml.leaf("av:userName", &config.user);
        self.xml.leaf("av:password", config.password.expose());
        self.xml.leaf("av:sessionCleanupDelay", &config.cleanup_seconds.to_string());
        if let Some(session) = session {
            self.xml.leaf("av:sessionID", session);
        }
        self.xml.close();
        self.xml.close();
        self.xml.close();
        self.xml.open("requestedProtocolVersions", &[]);
        for version in &config.protocol_versions {
            self.xml.leaf("protocolVersion", version);
        }
        self.xml.close();
        self.xml.leaf("requestedSessionDuration", &config.session_seconds.to_string());
    }

    fn keep_alive(&mut self, session: &str, seconds: u64) {
        self.root("ResetApplicationSessionTimer", APP);
        self.xml.leaf("sessionID", session);
        self.xml.leaf("requestedSessionDuration", &seconds.to_string());
    }

    fn stop_session(&mut self, session: &str) {
        self.root("StopApplicationSession", APP);
        self.xml.leaf("sessionID", session);
        self.xml.open("sessionEndReason", &[]);
        self.xml.leaf("definedEndReason", "normal");
    }

    fn monitor_start(&mut self, device: &DeviceId, kind: MonitorKind) {
        self.csta_root("MonitorStart");
        self.xml.open("monitorObject", &[]);
        self.device("deviceObject", device);
        self.xml.close();
        if kind != MonitorKind::Media {
            self.xml.open("requestedMonitorFilter", &[]);
            match kind {
                MonitorKind::Calls => {
                    self.flags("callcontrol", &STATION_CALLS);
                    self.flags("logicalDeviceFeature", &AGENT_STATES);
                }
                MonitorKind::CallsVia => self.flags("callcontrol", &VIA_CALLS),
                MonitorKind::Agents => self.flags("logicalDeviceFeature", &AGENT_STATES),
                MonitorKind::Media => {}
            }
            self.xml.close();
            let monitor_type = if kind == MonitorKind::CallsVia { "call" } else { "device" };
            self.xml.leaf("monitorType", monitor_type);
        }
        self.avaya_events(kind);
    }

    /// The filter is always inverted: true means "send it" (dossier 5.1).
    fn avaya_events(&mut self, kind: MonitorKind) {
        self.xml.open("extensions", &[]);
        self.xml.open("privateData", &[]);
        self.xml.open("private", &[]);
        if self.dialect.type_attributes {
            let names = [
                ("xmlns", AVAYA),
                ("xmlns:av", AVAYA),
                ("xmlns:xsi", INSTANCE),
                ("xsi:type", "av:AvayaEvents"),
            ];
            self.xml.open("AvayaEvents", &names);
        } else {
            self.xml.open("AvayaEvents", &[("xmlns", AVAYA)]);
        }
        self.xml.leaf("invertFilter", "true");
        if kind == MonitorKind::Media {
            self.flags("terminalUnregisteredEvent", &["unregistered", "reregistered"]);
            self.flags("mediaControl", &["mediaStarted", "mediaStopped"]);
            self.flags("endpointRegistrationStateEvents", &["registered", "unregistered"]);
        }
        if kind == MonitorKind::Agents {
            self.flags("logicalDeviceFeaturePrivate", &["agentLoginExtension"]);
        }
    }

    fn register_terminal(&mut self, registration: &Registration) {
        self.about("RegisterTerminalRequest", AVAYA, "device", registration.device);
        self.xml.open("loginInfo", &[]);
        self.xml.leaf("forceLogin", if registration.force { "true" } else { "false" });
        self.xml.leaf("password", registration.password.expose());
        self.xml.leaf("mediaMode", "CLIENT");
        let dependency = if registration.independent { "INDEPENDENT" } else { "MAIN" };
        self.xml.leaf("dependencyMode", dependency);
        if let Some((element, content)) = registration.side.map(register::media_content) {
            self.xml.leaf(element, content);
        }
        self.xml.close();
        self.xml.open("localMediaInfo", &[]);
        self.address("rtpAddress", registration.rtp);
        self.address("rtcpAddress", registration.rtcp);
        for codec in registration.codecs {
            self.xml.leaf("codecs", register::codec_to_wire(codec));
        }
        self.xml.leaf("packetSize", &registration.packet_ms.to_string());
        for name in registration.encryption {
            self.xml.leaf("encryptionList", self.dialect.encryption_to_wire(name));
        }
    }

    fn address(&mut self, name: &'static str, address: SocketAddr) {
        self.xml.open(name, &[]);
        self.xml.leaf("address", &address.ip().to_string());
        self.xml.leaf("port", &address.port().to_string());
        self.xml.close();
    }

    /// The element is Avaya's, its children are CSTA's (dossier 6.7).
    fn get_call_linkage(&mut self, party: &DeviceId, call: &CallId) {
        self.xml.open("GetCallLinkageData", &[("xmlns", AVAYA), ("xmlns:c", self.csta)]);
        self.xml.open("call", &[]);
        self.xml.leaf_with("c:deviceID", &DEVICE, party.as_str());
        self.xml.leaf("c:callID", call.as_str());
    }

    fn system_register(&mut self, switch_name: &str) {
        self.csta_root("SystemRegister");
        self.flags("requestTypes", &["systemStatus"]);
        self.flags("requestedStatusFilter", &["normal", "disabled"]);
        self.xml.open("extensions", &[]);
        self.xml.open("privateData", &[]);
        self.xml.open("private", &[]);
        self.xml.open("av:SystemRegisterPrivateData", &[("xmlns:av", AVAYA)]);
        self.xml.leaf("av:invertFilter", "true");
        self.xml.leaf("av:switchName", switch_name);
    }
}
