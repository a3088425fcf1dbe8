//! One AES server, as a pure machine: messages and switch events in, messages out.
//!
//! `request` answers one message, `on_event` and its fellows tell what happened on the switch,
//! `on_time` does what is due. What is to be sent is taken out with `take_output`. Sockets, frames
//! and delays are the shell's.

mod call_events;
mod call_requests;
mod device;
mod error;
mod filter;
mod monitor;
mod naming;
mod physical;
mod session;
mod snapshot;
mod terminal;
mod terminal_events;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;

pub use error::CstaError;
pub use naming::Naming;
use session::Session;
use terminal::Pending;
pub use terminal_events::Media;

use crate::config::{AesConfig, SiteConfig};
use crate::media::KeyText;
use crate::switch::Switch;
use crate::time::Time;
use crate::wire::frame::EVENT_INVOKE;
use crate::wire::{Element, Node};

/// One socket of a client, numbered by the shell.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ConnId(pub u64);

/// What the shell has to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Send a message.
    Send {
        /// Where.
        conn: ConnId,
        /// Invoke ID.
        invoke: [u8; 4],
        /// What.
        message: Node,
    },
    /// Close a socket.
    Close {
        /// Which.
        conn: ConnId,
    },
}

/// Answer to one request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// Send this.
    Now(Node),
    /// The answer will come out of `on_time`.
    Later,
}

/// Counters and faults of one AES, for tests.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AesCounters {
    /// Sessions started, not counting those taken back.
    pub sessions_started: u64,
    /// Sessions taken back by a new socket.
    pub sessions_taken_back: u64,
    /// Logins refused.
    pub logins_refused: u64,
    /// Most registration requests that were open at once.
    pub registrations_open_high: usize,
    /// Registration requests refused because too many were open or too fast.
    pub registrations_throttled: u64,
    /// Messages that could not be read.
    pub messages_malformed: u64,
    /// Persons whom a client has cleared out of a call.
    pub people_cleared: u64,
    /// Events that were lost on request.
    pub events_lost: u64,
}

/// Faults of one AES on request.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AesFaults {
    /// So many of the next registrations are refused by the switch.
    pub refuse_registrations: u32,
    /// Events not to be sent: root name to how many.
    pub lose_events: BTreeMap<String, u32>,
    /// Refuse the next so many requests of a name.
    pub refuse_requests: BTreeMap<String, u32>,
    /// Put a name that is not ASCII into the private data of call events.
    pub odd_names: bool,
    /// Send an element that nobody knows in every event.
    pub unknown_elements: bool,
}

/// One AES server.
#[derive(Debug)]
pub struct Aes {
    index: usize,
    config: AesConfig,
    naming: Naming,
    new_socket_wins: bool,
    agent_events: bool,
    media_address: SocketAddr,
    media_event_delay_ms: u64,
    key_text: KeyText,
    conns: BTreeMap<ConnId, Option<u32>>,
    sessions: BTreeMap<u32, Session>,
    next_session: u32,
    next_cross_ref: u32,
    link_up: bool,
    pending: Vec<Pending>,
    registrations_this_second: (u64, u32),
    output: Vec<Output>,
    /// Counters.
    pub counters: AesCounters,
    /// Faults.
    pub faults: AesFaults,
}

impl Aes {
    /// An AES whose media processor sends from `media_address`.
    #[must_use]
    pub fn new(index: usize, site: &SiteConfig, media_address: SocketAddr) -> Self {
        Self {
            index,
            config: site.aes[index].clone(),
            naming: Naming {
                switch_name: site.switch_name.clone(),
                bare: site.switches.bare_device_ids,
                ucid: site.switches.send_ucid,
            },
            new_socket_wins: site.switches.new_socket_wins,
            agent_events: site.switches.agent_events,
            media_address,
            media_event_delay_ms: site.switches.media_event_delay_ms,
            key_text: site.switches.key_text,
            conns: BTreeMap::new(),
            sessions: BTreeMap::new(),
            next_session: 1,
            next_cross_ref: 1,
            link_up: true,
            pending: Vec::new(),
            registrations_this_second: (0, 0),
            output: Vec::new(),
            counters: AesCounters::default(),
            faults: AesFaults::default(),
        }
    }

    /// A client has connected.
    pub fn connected(&mut self, conn: ConnId) {
        self.conns.insert(conn, None);
    }

    /// A socket is gone; its session waits for the clean-up delay.
    pub fn disconnected(&mut self, now: Time, conn: ConnId) {
        let session = self.conns.remove(&conn).flatten();
        if let Some(session) = session.and_then(|id| self.sessions.get_mut(&id))
            && session.conn == Some(conn)
        {
            session.conn = None;
            session.lost_at = Some(now);
        }
    }

    /// Answers one request.
    pub fn request(
        &mut self,
        now: Time,
        switch: &mut Switch,
        conn: ConnId,
        invoke: [u8; 4],
        request: &Element,
    ) -> Reply {
        match request.name.as_str() {
            "StartApplicationSession" => return self.start_session(now, switch, conn, request),
            "StopApplicationSession" => return self.stop_session(now, switch, conn, request),
            "ResetApplicationSessionTimer" => return self.reset_timer(now, conn, request),
            _ => {}
        }
        let Some(session) = self.conns.get(&conn).copied().flatten() else {
            return Reply::Now(CstaError::Operation("securityViolation").node());
        };
        if take_one(&mut self.faults.refuse_requests, &request.name) {
            return Reply::Now(CstaError::Resource("resourceBusy").node());
        }
        if request.name == "RegisterTerminalRequest" {
            return self.begin_registration(now, switch, (conn, invoke, session), request);
        }
        let answer = self.dispatch(now, switch, session, request);
        Reply::Now(answer.unwrap_or_else(CstaError::node))
    }

    fn dispatch(
        &mut self,
        now: Time,
        switch: &mut Switch,
        session: u32,
        request: &Element,
    ) -> Result<Node, CstaError> {
        match request.name.as_str() {
            "GetDeviceId" => self.device_id(session, request),
            "GetThirdPartyDeviceId" => self.third_party_device_id(session, request),
            "ReleaseDeviceId" => self.release_device(now, switch, session, request),
            "UnregisterTerminalRequest" => self.unregister(now, switch, session, request),
            "RedirectMediaRequest" => self.redirect_media(now, switch, session, request),
            "GetRegistrationState" => self.registration_state(switch, session, request),
            "EndpointRegistrationInfoRequest" => self.endpoint_info(switch, session, request),
            "MonitorStart" => self.start_monitor(switch, session, request),
            "MonitorStop" => self.stop_monitor(session, request),
            "ChangeMonitorFilter" => self.change_filter(session, request),
            "CleanupSession" => Ok(self.cleanup_session(now, switch, session)),
            "GetSessionIdList" => Ok(self.session_id_list()),
            "SnapshotDevice" => self.snapshot_device(switch, session, request),
            "SnapshotCall" => self.snapshot_call(switch, request),
            "GetCallLinkageData" => self.call_linkage(switch, request),
            "GetAgentLogin" => self.agent_logins(switch, session, request),
            "GetAgentState" => self.agent_state(switch, session, request),
            "SystemRegister" => Ok(self.system_register(session)),
            "RequestSystemStatus" => Ok(self.system_status_now()),
            "SetHookswitchStatus" => self.set_hookswitch(now, switch, session, request),
            "ButtonPress" => self.press_button(now, switch, session, request),
            "SetSessionCharacteristics" => Ok(crate::wire::av("SetSessionCharacteristicsResponse")),
            _ => self.call_request(now, switch, session, request),
        }
    }

    /// Counts a message that could not be read and answers it.
    pub fn malformed(&mut self) -> Node {
        self.counters.messages_malformed += 1;
        CstaError::Operation("generic").node()
    }

    /// Takes what is to be sent.
    pub fn take_output(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.output)
    }

    /// The next moment at which `on_time` has something to do.
    #[must_use]
    pub fn next_time(&self) -> Option<Time> {
        let sessions = self.sessions.values().filter_map(Session::deadline);
        sessions.chain(self.pending.iter().map(Pending::due)).min()
    }

    /// Does what is due: session timers, registrations, delayed media events.
    pub fn on_time(&mut self, now: Time, switch: &mut Switch) {
        self.expire_sessions(now, switch);
        self.finish_pending(now, switch);
    }

    /// IDs of the sessions in being.
    #[must_use]
    pub fn session_ids(&self) -> Vec<String> {
        self.sessions.values().map(|session| session.id.clone()).collect()
    }

    /// Sends an event to the client of a session; it is lost while there is no socket.
    fn send_event(&mut self, session: u32, event: Node) {
        if take_one(&mut self.faults.lose_events, event.name()) {
            self.counters.events_lost += 1;
            return;
        }
        let event = if self.faults.unknown_elements {
            event.with(crate::wire::av("somethingNew").leaf(crate::wire::csta("value"), 42))
        } else {
            event
        };
        let conn = self.sessions.get(&session).and_then(|session| session.conn);
        if let Some(conn) = conn {
            self.output.push(Output::Send { conn, invoke: EVENT_INVOKE, message: event });
        }
    }
}

/// Counts one down; true if there was one.
fn take_one(counts: &mut BTreeMap<String, u32>, name: &str) -> bool {
    let Some(count) = counts.get_mut(name) else { return false };
    *count = count.saturating_sub(1);
    if *count == 0 {
        counts.remove(name);
    }
    true
}
