//! Application sessions: start, take back, keep alive, stop, expire.

use std::collections::{BTreeMap, BTreeSet};

use super::device::OwnedDevice;
use super::monitor::Monitor;
use super::{Aes, ConnId, Output, Reply};
use crate::switch::{Owner, Switch};
use crate::time::Time;
use crate::wire::{Element, Node, app, av};

/// Prefix of every protocol version string from release 4 on.
const VERSION_PREFIX: &str = "http://www.ecma-international.org/standards/ecma-323/csta/ed3/";
/// Bounds of what a client may ask for, seconds.
const DURATION_MIN: u32 = 1;
/// Default clean-up delay, seconds.
const CLEANUP_DEFAULT: u32 = 60;

/// One session.
#[derive(Debug)]
pub(super) struct Session {
    pub id: String,
    pub user: String,
    pub conn: Option<ConnId>,
    pub lost_at: Option<Time>,
    pub expires: Time,
    pub cleanup_seconds: u32,
    pub devices: BTreeMap<String, OwnedDevice>,
    pub monitors: BTreeMap<u32, Monitor>,
    pub status_registrations: BTreeSet<u32>,
}

impl Session {
    /// When it dies unless something happens.
    pub fn deadline(&self) -> Option<Time> {
        match self.lost_at {
            None => Some(self.expires),
            Some(lost) => Some(lost.after_millis(u64::from(self.cleanup_seconds) * 1000)),
        }
    }
}

impl Aes {
    pub(super) fn start_session(
        &mut self,
        now: Time,
        switch: &mut Switch,
        conn: ConnId,
        request: &Element,
    ) -> Reply {
        let login = request.find("SessionLoginInfo");
        let field = |name: &str| login.map_or("", |login| login.text_at(&[name]));
        let (user, password) = (field("userName"), field("password"));
        if user != self.config.user || password != self.config.password.expose() {
            self.counters.logins_refused += 1;
            return refuse("invalidApplicationInfo");
        }
        let Some(version) = self.agree_on_version(request) else {
            return refuse("requestedProtocolVersionNotSupported");
        };
        // A socket carries one session: what it had before waits for its clean-up.
        if self.conns.get(&conn).is_some_and(Option::is_some) {
            self.disconnected(now, conn);
            self.conns.insert(conn, None);
        }
        let wanted = seconds(request.text_at(&["requestedSessionDuration"]), 180);
        let duration = wanted.clamp(DURATION_MIN, self.config.session_seconds_max);
        let expires = now.after_millis(u64::from(duration) * 1000);
        let old = field("sessionID");
        let number = if old.is_empty() {
            if self.sessions.len() >= self.config.sessions_max {
                return refuse("maxNumberSessions");
            }
            self.new_session(now, conn, user, field("sessionCleanupDelay"))
        } else {
            match self.take_back(now, switch, conn, old, user) {
                Some(number) => number,
                None => {
                    self.counters.logins_refused += 1;
                    return refuse("invalidApplicationInfo");
                }
            }
        };
        self.conns.insert(conn, Some(number));
        let Some(session) = self.sessions.get_mut(&number) else {
            return refuse("serverResourcesBusy");
        };
        session.expires = expires;
        Reply::Now(
            app("StartApplicationSessionPosResponse")
                .leaf(app("sessionID"), &session.id)
                .leaf(app("actualProtocolVersion"), version)
                .leaf(app("actualSessionDuration"), duration),
        )
    }

    fn new_session(&mut self, now: Time, conn: ConnId, user: &str, cleanup: &str) -> u32 {
        let number = self.next_session;
        self.next_session += 1;
        self.counters.sessions_started += 1;
        let cleanup_seconds =
            seconds(cleanup, CLEANUP_DEFAULT).min(self.config.session_seconds_max);
        // Looks like the real thing and is unique: time, AES and number are in it.
        let id = format!("{:016X}{:08X}{number:08X}-0", now.nanos(), self.index);
        self.sessions.insert(
            number,
            Session {
                id,
                user: user.to_owned(),
                conn: Some(conn),
                lost_at: None,
                expires: now,
                cleanup_seconds,
                devices: BTreeMap::new(),
                monitors: BTreeMap::new(),
                status_registrations: BTreeSet::new(),
            },
        );
        number
    }

    /// Gives an old session to a new socket, if it still stands.
    fn take_back(
        &mut self,
        now: Time,
        switch: &mut Switch,
        conn: ConnId,
        id: &str,
        user: &str,
    ) -> Option<u32> {
        self.expire_sessions(now, switch);
        let (number, session) = self
            .sessions
            .iter_mut()
            .find(|(_, session)| session.id == id && session.user == user)?;
        if let Some(old) = session.conn {
            if !self.new_socket_wins {
                return None;
            }
            self.conns.remove(&old);
            self.output.push(Output::Close { conn: old });
        }
        session.conn = Some(conn);
        session.lost_at = None;
        self.counters.sessions_taken_back += 1;
        Some(*number)
    }

    pub(super) fn stop_session(
        &mut self,
        now: Time,
        switch: &mut Switch,
        conn: ConnId,
        request: &Element,
    ) -> Reply {
        let own = self.conns.get(&conn).copied().flatten();
        let right = own.filter(|number| self.is_session(*number, request.text_at(&["sessionID"])));
        let Some(number) = right else {
            return Reply::Now(
                app("StopApplicationSessionNegResponse")
                    .with(app("errorCode").leaf(app("definedError"), "invalidSessionID")),
            );
        };
        self.end_session(now, switch, number);
        Reply::Now(app("StopApplicationSessionPosResponse"))
    }

    pub(super) fn reset_timer(&mut self, now: Time, conn: ConnId, request: &Element) -> Reply {
        let own = self.conns.get(&conn).copied().flatten();
        let right = own.filter(|number| self.is_session(*number, request.text_at(&["sessionID"])));
        let Some(session) = right.and_then(|number| self.sessions.get_mut(&number)) else {
            return Reply::Now(
                app("ResetApplicationSessionTimerNegResponse")
                    .with(app("errorCode").leaf(app("definedError"), "invalidSessionID")),
            );
        };
        let wanted = seconds(request.text_at(&["requestedSessionDuration"]), 180);
        let duration = wanted.clamp(DURATION_MIN, self.config.session_seconds_max);
        session.expires = now.after_millis(u64::from(duration) * 1000);
        Reply::Now(
            app("ResetApplicationSessionTimerPosResponse")
                .leaf(app("actualSessionDuration"), duration),
        )
    }

    fn is_session(&self, number: u32, id: &str) -> bool {
        self.sessions.get(&number).is_some_and(|session| session.id == id)
    }

    pub(super) fn session_id_list(&self) -> Node {
        let ids = self.sessions.values().map(|session| av("sessionID").text(&session.id));
        av("GetSessionIdListResponse").with(av("sessionIDList").with_all(ids))
    }

    /// Drops everything of a session without ending it.
    pub(super) fn cleanup_session(&mut self, now: Time, switch: &mut Switch, number: u32) -> Node {
        self.drop_holdings(now, switch, number);
        av("CleanupSessionResponse")
    }

    /// Ends sessions whose timer or clean-up delay has run out.
    pub(super) fn expire_sessions(&mut self, now: Time, switch: &mut Switch) {
        let over: Vec<u32> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.deadline().is_some_and(|deadline| deadline <= now))
            .map(|(number, _)| *number)
            .collect();
        for number in over {
            self.tell_terminated(number, app("definedTermReason").text("sessionTimerExpired"));
            self.end_session(now, switch, number);
        }
    }

    /// An administrator ends all sessions.
    pub fn terminate_sessions(&mut self, now: Time, switch: &mut Switch, reason: &str) {
        let all: Vec<u32> = self.sessions.keys().copied().collect();
        for number in all {
            self.tell_terminated(number, app("serverTermReason").text(reason));
            self.end_session(now, switch, number);
        }
    }

    /// Forgets all sessions at once and without a word, as a restart of the server does.
    pub fn restart(&mut self, now: Time, switch: &mut Switch) {
        let all: Vec<u32> = self.sessions.keys().copied().collect();
        for number in all {
            self.end_session(now, switch, number);
        }
    }

    fn tell_terminated(&mut self, number: u32, reason: Node) {
        let Some(session) = self.sessions.get(&number) else { return };
        let event = app("ApplicationSessionTerminated")
            .leaf(app("sessionID"), &session.id)
            .with(app("sessionTermReason").with(reason));
        self.send_event(number, event);
    }

    fn end_session(&mut self, now: Time, switch: &mut Switch, number: u32) {
        self.drop_holdings(now, switch, number);
        if let Some(conn) = self.sessions.remove(&number).and_then(|session| session.conn) {
            self.conns.insert(conn, None);
        }
    }

    fn drop_holdings(&mut self, now: Time, switch: &mut Switch, number: u32) {
        if let Some(session) = self.sessions.get_mut(&number) {
            session.monitors.clear();
            session.devices.clear();
            session.status_registrations.clear();
        }
        let owner = Owner { aes: self.index, session: number };
        let held: Vec<_> = switch
            .registrations()
            .iter()
            .filter(|(_, registration)| registration.owner == owner)
            .map(|(key, _)| key.clone())
            .collect();
        for key in held {
            switch.unregister(now, &key);
        }
        self.pending.retain(|pending| pending.session() != number);
    }

    /// The first version of the client's list that this server speaks.
    fn agree_on_version(&self, request: &Element) -> Option<String> {
        let asked = request.child("requestedProtocolVersions")?;
        asked
            .all("protocolVersion")
            .map(|version| version.text.as_str())
            .find(|version| {
                let suffix = version.strip_prefix(VERSION_PREFIX).unwrap_or(version);
                self.config.versions.iter().any(|known| known == suffix)
            })
            .map(str::to_owned)
    }
}

fn refuse(error: &'static str) -> Reply {
    Reply::Now(
        app("StartApplicationSessionNegResponse")
            .with(app("errorCode").leaf(app("definedError"), error)),
    )
}

fn seconds(text: &str, default: u32) -> u32 {
    text.parse().unwrap_or(default)
}
