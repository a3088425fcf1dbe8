//! A link and a scripted server with no wire between them but bytes. Time moves only when told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use storage_core::{Extension, MonoTime};

use crate::dmcc::config::{Attachment, LinkConfig, PhantomConfig, Secret};
use crate::dmcc::frame::{Decoder, Invoke};
use crate::dmcc::xml::{self, Element};
use crate::dmcc::{Link, Notice, Output};

pub const SECOND: Duration = Duration::from_secs(1);

/// A request that the link has sent.
#[derive(Clone, Debug)]
pub struct Sent {
    pub at: MonoTime,
    pub invoke: u16,
    pub root: Element,
}

impl Sent {
    pub fn name(&self) -> &str {
        &self.root.name
    }

    /// The extension of the first device in it.
    pub fn extension(&self) -> String {
        let text = self.root.all_text();
        let word = text.split(' ').find(|word| word.contains(':') || word.len() == 5);
        word.unwrap_or_default().split(':').next().unwrap_or_default().to_owned()
    }
}

/// What the server does.
#[derive(Debug, Default)]
pub struct Aes {
    /// Requests of these names are not answered.
    pub mute: BTreeSet<&'static str>,
    /// Answers instead of the usual ones, by the request's name and a text in it.
    pub instead: Vec<(&'static str, String, String)>,
    /// Calls by the extension of a station, with their parties.
    pub calls: BTreeMap<String, Vec<(String, Vec<String>)>>,
    /// The session, until the server forgets it.
    pub session: Option<String>,
    pub sessions: u32,
    /// Monitors by their reference: device and whether it is one of media.
    pub monitors: BTreeMap<String, (String, bool)>,
    pub last_monitor: u32,
    /// Monitors that are told who is logged in, by their reference, with their skill.
    pub skill_monitors: BTreeMap<String, String>,
    /// Stations with the agents who are logged in there, all at each skill.
    pub logins: BTreeMap<String, String>,
    pub registered: BTreeSet<String>,
    /// Seconds that are granted.
    pub duration: u64,
}

impl Aes {
    fn answer(&mut self, sent: &Sent) -> Option<String> {
        if self.mute.contains(sent.name()) {
            return None;
        }
        let text = sent.root.all_text();
        let own = self
            .instead
            .iter()
            .find(|(name, part, _)| *name == sent.name() && text.contains(part.as_str()));
        if let Some((_, _, answer)) = own {
            return Some(answer.clone());
        }
        let device = sent.extension();
        Some(match sent.name() {
            "StartApplicationSession" => self.start(&sent.root),
            "ResetApplicationSessionTimer" => format!(
                "<ResetApplicationSessionTimerPosResponse><actualSessionDuration>{}\
                 </actualSessionDuration></ResetApplicationSessionTimerPosResponse>",
                self.duration
            ),
            "GetDeviceId" | "GetThirdPartyDeviceId" => {
                let name = sent.name();
                let extension = sent.root.text_of("extension").unwrap();
                let instance = sent.root.text_of("deviceInstance").unwrap_or("0");
                let device = format!("{extension}:cm1::{instance}");
                format!("<{name}Response><device>{device}</device></{name}Response>")
            }
            "MonitorStart" => {
                self.last_monitor += 1;
                let media = xml_has(&sent.root, "mediaControl");
                if xml_has(&sent.root, "agentLoginExtension") {
                    self.skill_monitors.insert(self.last_monitor.to_string(), device.clone());
                }
                self.monitors.insert(self.last_monitor.to_string(), (device, media));
                monitor_started(&self.last_monitor.to_string())
            }
            "MonitorStop" => {
                self.monitors.remove(&text);
                self.skill_monitors.remove(&text);
                "<MonitorStopResponse/>".to_owned()
            }
            "RegisterTerminalRequest" => {
                self.registered.insert(device);
                "<RegisterTerminalResponse><signalingEncryption>none</signalingEncryption>\
                 <code>1</code></RegisterTerminalResponse>"
                    .to_owned()
            }
            "GetRegistrationState" => {
                let state = if self.registered.contains(&device) { "REGISTERED" } else { "IDLE" };
                format!(
                    "<GetRegistrationStateResponse><registrationState>{state}</registrationState>\
                     </GetRegistrationStateResponse>"
                )
            }
            "SnapshotDevice" => self.calls_of(&device),
            "SnapshotCall" => self.call(sent.root.path(&["snapshotObject", "callID"]).unwrap()),
            "SingleStepConferenceCall" => {
                let call = sent.root.path(&["activeCall", "callID"]).unwrap();
                format!(
                    "<SingleStepConferenceCallResponse><conferencedCall><callID>{}</callID>\
                     </conferencedCall></SingleStepConferenceCallResponse>",
                    call.text
                )
            }
            "GetAgentState" => agent_state(self.logins.get(&device)),
            "UnregisterTerminalRequest" => "<UnregisterTerminalResponse/>".to_owned(),
            "StopApplicationSession" => "<StopApplicationSessionPosResponse/>".to_owned(),
            name => format!("<{name}Response/>"),
        })
    }

    fn start(&mut self, root: &Element) -> String {
        let login = root.path(&["applicationInfo", "applicationSpecificInfo", "SessionLoginInfo"]);
        let asked = login.and_then(|login| login.text_of("sessionID"));
        if asked.is_some() && asked != self.session.as_deref() {
            return refused_start("invalidApplicationInfo");
        }
        if asked.is_none() {
            self.sessions += 1;
            self.session = Some(format!("S{}", self.sessions));
            self.monitors.clear();
            self.skill_monitors.clear();
            self.registered.clear();
        }
        format!(
            "<StartApplicationSessionPosResponse><sessionID>{}</sessionID><actualSessionDuration>{}\
             </actualSessionDuration></StartApplicationSessionPosResponse>",
            self.session.as_deref().unwrap(),
            self.duration
        )
    }

    /// Who is logged in, as it follows the answer to `GetAgentLogin`: each station in an event of its own.
    fn login_lists(&self, sent: &Sent) -> Vec<String> {
        let mut stations: Vec<_> = self.logins.keys().map(String::as_str).collect();
        if stations.is_empty() {
            stations.push("");
        }
        let skill = sent.extension();
        let monitors = self.skill_monitors.iter().filter(|(_, of)| **of == skill);
        let parts = monitors.flat_map(|(monitor, _)| {
            stations
                .iter()
                .enumerate()
                .map(|(number, station)| login_list(monitor, station, number + 1 == stations.len()))
        });
        parts.collect()
    }

    fn calls_of(&self, device: &str) -> String {
        let entries = self.calls.get(device).into_iter().flatten().map(|(call, _)| {
            format!(
                "<snapshotDeviceResponseInfo><connectionIdentifier><callID>{call}</callID>\
                 <deviceID>{device}</deviceID></connectionIdentifier></snapshotDeviceResponseInfo>"
            )
        });
        format!(
            "<SnapshotDeviceResponse><crossRefIDorSnapshotData><snapshotData>{}</snapshotData>\
             </crossRefIDorSnapshotData></SnapshotDeviceResponse>",
            entries.collect::<String>()
        )
    }

    fn call(&self, wanted: &Element) -> String {
        let mut calls = self.calls.values().flatten();
        let Some((_, parties)) = calls.find(|(call, _)| *call == wanted.text) else {
            return error("operation", "invalidCallID");
        };
        let entries = parties.iter().map(|party| {
            format!(
                "<snapshotCallResponseInfo><deviceOnCall><deviceIdentifier>{party}\
                 </deviceIdentifier></deviceOnCall><localConnectionInfo>connected\
                 </localConnectionInfo></snapshotCallResponseInfo>"
            )
        });
        format!(
            "<SnapshotCallResponse><crossRefIDorSnapshotData><snapshotData>{}</snapshotData>\
             </crossRefIDorSnapshotData></SnapshotCallResponse>",
            entries.collect::<String>()
        )
    }

    /// The reference of a device's monitor.
    pub fn monitor_of(&self, device: &str, media: bool) -> String {
        let wanted = (device.to_owned(), media);
        let found = self.monitors.iter().find(|(_, monitor)| **monitor == wanted);
        found.unwrap_or_else(|| panic!("no monitor of {device}")).0.clone()
    }
}

fn xml_has(element: &Element, name: &str) -> bool {
    element.name == name || element.children.iter().any(|child| xml_has(child, name))
}

pub fn login_list(monitor: &str, station: &str, last: bool) -> String {
    let entry = match station {
        "" => String::new(),
        _ => format!("<agentExtension>{station}:cm1::0</agentExtension>"),
    };
    format!(
        "<AgentLoginExtensionEvent><monitorCrossRefID>{monitor}</monitorCrossRefID>\
         <agentLoginExtensionList>{entry}</agentLoginExtensionList><isFinalResponse>{last}\
         </isFinalResponse></AgentLoginExtensionEvent>"
    )
}

fn agent_state(agent: Option<&String>) -> String {
    let entry = match agent {
        None => "<loggedOnState>false</loggedOnState>".to_owned(),
        Some(agent) => {
            format!("<agentID>{agent}</agentID><loggedOnState>true</loggedOnState>")
        }
    };
    format!(
        "<GetAgentStateResponse><agentStateList><agentStateEntry>{entry}</agentStateEntry>\
         </agentStateList></GetAgentStateResponse>"
    )
}

pub fn monitor_started(crossref: &str) -> String {
    format!(
        "<MonitorStartResponse><monitorCrossRefID>{crossref}</monitorCrossRefID>\
         </MonitorStartResponse>"
    )
}

pub fn refused_start(word: &str) -> String {
    format!(
        "<StartApplicationSessionNegResponse><errorCode><definedError>{word}</definedError>\
         </errorCode></StartApplicationSessionNegResponse>"
    )
}

pub fn error(category: &str, word: &str) -> String {
    format!("<CSTAErrorCode><{category}>{word}</{category}></CSTAErrorCode>")
}

pub fn wrong_code() -> String {
    "<RegisterTerminalResponse><code>63773</code><reason>securityDenial</reason>\
     </RegisterTerminalResponse>"
        .to_owned()
}

pub fn unregistered(crossref: &str) -> String {
    format!(
        "<TerminalUnregisteredEvent><monitorCrossRefID>{crossref}</monitorCrossRefID>\
         <reason>rebooting</reason><code>2018</code></TerminalUnregisteredEvent>"
    )
}

pub fn established(crossref: &str, call: &str, device: &str) -> String {
    format!(
        "<EstablishedEvent><monitorCrossRefID>{crossref}</monitorCrossRefID><establishedConnection>\
         <callID>{call}</callID><deviceID>{device}:cm1::0</deviceID></establishedConnection>\
         <answeringDevice><deviceIdentifier>{device}:cm1::0</deviceIdentifier></answeringDevice>\
         </EstablishedEvent>"
    )
}

pub fn config(phantoms: u16, stations: u16) -> LinkConfig {
    let mut config = LinkConfig::new("cm1", "recuser", Secret::new("Secret1!"));
    config.phantoms = (0..phantoms)
        .map(|number| PhantomConfig {
            extension: Extension::new((41_001 + number).to_string()),
            attachment: Attachment::Conference,
            password: Secret::new("123456"),
            rtp: ([192, 0, 2, 20], 20_000 + 2 * number).into(),
            rtcp: ([192, 0, 2, 20], 20_001 + 2 * number).into(),
        })
        .collect();
    config.stations =
        (0..stations).map(|number| Extension::new((31_001 + number).to_string())).collect();
    config
}

/// The link, the server and the time.
#[derive(Debug)]
pub struct Rig {
    pub link: Link,
    pub aes: Aes,
    pub now: MonoTime,
    pub notices: Vec<Notice>,
    /// All requests ever sent.
    pub sent: Vec<Sent>,
    /// Times of `Connect`.
    pub connects: Vec<MonoTime>,
    /// Times of `Close`.
    pub closes: Vec<MonoTime>,
    /// Connection attempts succeed.
    pub reachable: bool,
    pub jitter: u32,
    waiting: VecDeque<Sent>,
    wants_socket: bool,
    socket: bool,
}

impl Rig {
    pub fn new(config: LinkConfig) -> Self {
        Self {
            link: Link::new(config),
            aes: Aes { duration: 180, ..Aes::default() },
            now: MonoTime::from_millis(1_000),
            notices: Vec::new(),
            sent: Vec::new(),
            connects: Vec::new(),
            closes: Vec::new(),
            reachable: true,
            jitter: 1,
            waiting: VecDeque::new(),
            wants_socket: false,
            socket: false,
        }
    }

    /// A link that is up with all devices set up, its notices forgotten.
    pub fn up(config: LinkConfig) -> Self {
        let mut rig = Self::new(config);
        rig.start();
        rig.advance(2 * SECOND);
        rig.notices.clear();
        rig
    }

    pub fn start(&mut self) {
        self.link.start(self.now);
        self.serve();
    }

    /// Takes the link's outputs without answering anything.
    pub fn drain(&mut self) {
        while let Some(output) = self.link.poll_output() {
            match output {
                Output::Connect => {
                    self.connects.push(self.now);
                    self.wants_socket = true;
                }
                Output::Close => {
                    self.closes.push(self.now);
                    self.cut();
                }
                Output::Send(bytes) => {
                    assert!(self.socket, "sent without a socket");
                    let mut decoder = Decoder::default();
                    decoder.push(&bytes);
                    let frame = decoder.next_frame().unwrap().unwrap();
                    let Invoke::Answer(invoke) = frame.invoke else { panic!("{frame:?}") };
                    let root = xml::parse(&frame.body).unwrap();
                    let sent = Sent { at: self.now, invoke, root };
                    self.sent.push(sent.clone());
                    self.waiting.push_back(sent);
                }
                Output::Notice(notice) => self.notices.push(notice),
            }
        }
    }

    /// Answers until there is nothing left to answer.
    pub fn serve(&mut self) {
        for _ in 0..100_000 {
            self.drain();
            if std::mem::take(&mut self.wants_socket) {
                self.jitter = self.jitter.wrapping_mul(48_271);
                if self.reachable {
                    self.socket = true;
                    self.link.handle_connected(self.now, self.jitter);
                } else {
                    self.link.handle_connect_failed(self.now, self.jitter);
                }
            } else if let Some(sent) = self.waiting.pop_front() {
                if let Some(answer) = self.aes.answer(&sent) {
                    self.say(sent.invoke, &answer);
                }
                if sent.name() == "GetAgentLogin" && !self.aes.mute.contains("lists") {
                    for part in self.aes.login_lists(&sent) {
                        self.say(9999, &part);
                    }
                }
            } else {
                return;
            }
        }
        panic!("the link does not come to rest");
    }

    /// Something goes from the server to the link.
    pub fn say(&mut self, invoke: u16, text: &str) {
        self.bytes(&frame(&format!("{invoke:04}"), text.as_bytes()));
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.link.handle_bytes(self.now, bytes);
        self.drain();
    }

    pub fn event(&mut self, text: &str) {
        self.say(9999, text);
        self.serve();
    }

    /// Lets time pass, serving at each time that the link asks for.
    pub fn advance(&mut self, span: Duration) {
        let end = self.now + span;
        for _ in 0..100_000 {
            match self.link.poll_timeout() {
                Some(at) if at <= end => self.now = self.now.max(at),
                _ => {
                    self.now = end;
                    return;
                }
            }
            self.link.handle_timeout(self.now);
            self.serve();
        }
        panic!("the link asks for one time again and again");
    }

    /// The network takes the socket away.
    pub fn lose_socket(&mut self) {
        self.cut();
        self.link.handle_closed(self.now, 7);
        self.drain();
    }

    fn cut(&mut self) {
        self.socket = false;
        self.wants_socket = false;
        self.waiting.clear();
    }

    /// How many requests of a name were sent.
    pub fn count(&self, name: &str) -> usize {
        self.sent.iter().filter(|sent| sent.name() == name).count()
    }

    /// The request of this name that was sent last.
    pub fn last(&self, name: &str) -> &Sent {
        self.sent.iter().rfind(|sent| sent.name() == name).unwrap()
    }

    pub fn position(&self, wanted: impl Fn(&Notice) -> bool) -> usize {
        let found = self.notices.iter().position(wanted);
        found.unwrap_or_else(|| panic!("not told: {:?}", self.notices))
    }

    pub fn told(&self, wanted: impl Fn(&Notice) -> bool) -> usize {
        self.notices.iter().filter(|notice| wanted(notice)).count()
    }
}

/// A frame with any four characters as its number.
pub fn frame(invoke: &str, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len() + 8).unwrap();
    let mut bytes = vec![0, 0];
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(invoke.as_bytes());
    bytes.extend_from_slice(body);
    bytes
}
