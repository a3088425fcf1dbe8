//! The application session and the socket under it: start, keep-alive, loss, taking back, refusal,
//! stop (dossier 1.4, 2). What the session carries is not known here.
//!
//! ```text
//!          ┌───────────── Waiting ◀──── lost, refused ────┐
//!          ▼                                              │
//! Off ─▶ Connecting ─▶ Starting ─▶ Up ─▶ Stopping ─▶ Off  │
//!          │              │ taken back? else new  │       │
//!          └──────────────┴────────────┴──────────┴───────┘
//! ```

use std::time::Duration;

use storage_core::MonoTime;

use super::backoff::doubling;
use super::context::{Answer, Context, Purpose};
use super::error::{CstaError, ErrorCategory};
use super::notice::{DownCause, Fault, Notice};
use super::register;
use super::request::Request;
use super::response::{Response, SessionGrant, SessionRefusal};

/// How long a session start, or a keep-alive, may stay unanswered.
const PATIENCE: Duration = Duration::from_secs(10);
/// The shell bounds an attempt itself; this is for a shell that does not.
const CONNECT_PATIENCE: Duration = Duration::from_secs(15);
/// How long an orderly end may take.
const STOP_PATIENCE: Duration = Duration::from_secs(3);
const RECONNECT_MIN: Duration = Duration::from_millis(500);
const RECONNECT_MAX: Duration = Duration::from_secs(5);
/// A session that was up this long has worked: the first try after it is made at once.
const WORKED: Duration = Duration::from_secs(5);
/// A wrong password is not hammered at: the account could be locked.
const REFUSED_MIN: Duration = Duration::from_secs(5);
const LOGIN_REFUSED_MAX: Duration = Duration::from_secs(300);
/// A server that has too many sessions loses them within their clean-up delay.
const BUSY_MAX: Duration = Duration::from_secs(30);

/// What a session request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionStep {
    Start { taking_back: bool },
    KeepAlive,
    Stop,
}

/// What an input did to the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Change {
    None,
    Up { recovered: bool },
    Down,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Off,
    Waiting { until: MonoTime },
    Connecting { until: MonoTime },
    Starting,
    Up { since: MonoTime, keep_alive_at: Option<MonoTime> },
    Stopping,
}

/// Why a session does not come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Login,
    Server,
    Silence,
}

#[derive(Debug)]
pub(super) struct Session {
    phase: Phase,
    /// The session that stands, or that may be taken back.
    id: Option<String>,
    /// A third of what the server grants.
    keep_alive_every: Duration,
    /// Attempts in a row that led to no session that worked.
    failures: u32,
    refusals: u32,
    /// What was told last of a session that does not come about.
    told: Option<Told>,
}

impl Session {
    pub fn new() -> Self {
        Self {
            phase: Phase::Off,
            id: None,
            keep_alive_every: Duration::from_secs(register::SESSION_SECONDS / 3),
            failures: 0,
            refusals: 0,
            told: None,
        }
    }

    pub const fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Up { .. })
    }

    pub const fn is_off(&self) -> bool {
        matches!(self.phase, Phase::Off)
    }

    /// There is a socket that bytes may come from.
    pub const fn has_socket(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Up { .. } | Phase::Stopping)
    }

    pub fn start(&mut self, cx: &mut Context) {
        if self.is_off() {
            self.connect(cx);
        }
    }

    pub fn connected(&mut self, cx: &mut Context) -> Change {
        if !matches!(self.phase, Phase::Connecting { .. }) {
            if !self.has_socket() {
                cx.wire.close();
            }
            return Change::None;
        }
        self.phase = Phase::Starting;
        self.send_start(cx)
    }

    pub fn connect_failed(&mut self, cx: &mut Context) {
        if matches!(self.phase, Phase::Connecting { .. }) {
            self.failures = self.failures.saturating_add(1);
            self.reconnect(cx);
        }
    }

    /// The socket is gone by itself.
    pub fn closed(&mut self, cx: &mut Context) -> Change {
        if self.has_socket() { self.lost(cx, DownCause::SocketLost, false) } else { Change::None }
    }

    /// The stream of frames is broken.
    pub fn broken(&mut self, cx: &mut Context) -> Change {
        self.lost(cx, DownCause::BrokenFrame, true)
    }

    /// `ApplicationSessionTerminated`. `session` must be ours, where it is told.
    pub fn terminated(
        &mut self,
        cx: &mut Context,
        session: Option<&str>,
        reason: String,
    ) -> Change {
        if session.is_some() && session != self.id.as_deref() {
            cx.wire.fault(Fault::UnexpectedAnswer, "the end of a session that is not ours");
            return Change::None;
        }
        self.gone(cx, reason)
    }

    /// Ends the session in order. The caller has given up all other requests.
    pub fn stop(&mut self, cx: &mut Context) {
        match (self.phase, self.id.clone()) {
            (Phase::Up { .. }, Some(session)) => {
                cx.wire.tell(Notice::SessionDown { cause: DownCause::Stopped });
                self.phase = Phase::Stopping;
                let request = Request::StopSession { session: &session };
                let purpose = Purpose::Session(SessionStep::Stop);
                if cx.wire.send(cx.now, &request, STOP_PATIENCE, purpose).is_err() {
                    self.stopped(cx);
                }
            }
            (Phase::Off, _) => {}
            (Phase::Waiting { .. }, _) => self.phase = Phase::Off,
            _ => self.stopped(cx),
        }
    }

    /// The configuration was read again: a refused login is tried at once.
    pub fn reload(&mut self, cx: &mut Context) {
        self.told = None;
        if self.refusals > 0 && matches!(self.phase, Phase::Waiting { .. }) {
            self.refusals = 0;
            self.connect(cx);
        }
    }

    pub fn timeout(&mut self, cx: &mut Context) -> Change {
        match self.phase {
            Phase::Waiting { until } if until <= cx.now => self.connect(cx),
            Phase::Connecting { until } if until <= cx.now => {
                cx.wire.close();
                self.connect_failed(cx);
            }
            Phase::Up { since, keep_alive_at: Some(at) } if at <= cx.now => {
                return self.keep_alive(cx, since);
            }
            _ => {}
        }
        Change::None
    }

    pub const fn next_time(&self) -> Option<MonoTime> {
        match self.phase {
            Phase::Waiting { until } | Phase::Connecting { until } => Some(until),
            Phase::Up { keep_alive_at, .. } => keep_alive_at,
            Phase::Off | Phase::Starting | Phase::Stopping => None,
        }
    }

    /// The answer to a session request, or that none came.
    pub fn answer(&mut self, cx: &mut Context, step: SessionStep, answer: Answer) -> Change {
        match (step, answer) {
            (SessionStep::Start { taking_back }, Ok(Response::SessionStarted(grant))) => {
                self.granted(cx, taking_back, grant)
            }
            (SessionStep::Start { taking_back }, Ok(Response::SessionRefused(refusal))) => {
                self.start_refused(cx, taking_back, &refusal)
            }
            (SessionStep::Start { .. }, Err(error)) if tells_nothing(&error) => {
                self.tell(cx, Told::Silence, "the AES does not answer the start of a session");
                self.lost(cx, DownCause::SocketLost, true)
            }
            (SessionStep::Start { taking_back }, Err(error)) => {
                let refusal = SessionRefusal { defined: String::new(), detail: error.to_string() };
                self.start_refused(cx, taking_back, &refusal)
            }
            (SessionStep::KeepAlive, Ok(Response::TimerReset(seconds))) => {
                self.kept_alive(cx, seconds);
                Change::None
            }
            (SessionStep::KeepAlive, Ok(Response::TimerRefused(refusal))) => {
                if refusal.defined == "invalidSessionID" {
                    return self.gone(cx, refusal.detail);
                }
                self.kept_alive(cx, None);
                Change::None
            }
            (SessionStep::KeepAlive, Err(error)) if is_unanswered(&error) => {
                self.lost(cx, DownCause::KeepAliveUnanswered, true)
            }
            // The server lives and refuses; should it mean it, it will end the session.
            (SessionStep::KeepAlive, Err(_)) => {
                self.kept_alive(cx, None);
                Change::None
            }
            (SessionStep::Stop, _) => {
                self.stopped(cx);
                Change::None
            }
            (SessionStep::Start { .. } | SessionStep::KeepAlive, Ok(_)) => {
                cx.wire.fault(Fault::WrongAnswer, "to a session request");
                self.lost(cx, DownCause::SocketLost, true)
            }
        }
    }

    fn connect(&mut self, cx: &mut Context) {
        self.phase = Phase::Connecting { until: cx.now + CONNECT_PATIENCE };
        cx.wire.connect();
    }

    fn send_start(&mut self, cx: &mut Context) -> Change {
        cx.wire.version = None;
        let request = Request::StartSession { config: cx.config, session: self.id.as_deref() };
        let step = SessionStep::Start { taking_back: self.id.is_some() };
        match cx.wire.send(cx.now, &request, PATIENCE, Purpose::Session(step)) {
            Ok(()) => Change::None,
            Err(error) => {
                let refusal = SessionRefusal { defined: String::new(), detail: error.to_string() };
                self.start_refused(cx, false, &refusal)
            }
        }
    }

    fn granted(&mut self, cx: &mut Context, taking_back: bool, grant: SessionGrant) -> Change {
        let recovered = taking_back && self.id.as_deref() == Some(&*grant.session);
        if recovered {
            cx.wire.counters.sessions_recovered += 1;
        } else {
            cx.wire.counters.sessions_started += 1;
        }
        cx.wire.version = grant.version;
        self.id = Some(grant.session);
        self.refusals = 0;
        self.told = None;
        self.set_duration(grant.seconds.unwrap_or(cx.config.session_seconds));
        let keep_alive_at = Some(cx.now + self.keep_alive_every);
        self.phase = Phase::Up { since: cx.now, keep_alive_at };
        cx.wire.tell(Notice::SessionUp { recovered });
        Change::Up { recovered }
    }

    fn set_duration(&mut self, seconds: u64) {
        let (least, most) = register::SESSION_SECONDS_BOUNDS;
        self.keep_alive_every = Duration::from_secs(seconds.clamp(least, most)) / 3;
    }

    /// A session that cannot be taken back is gone; a new one is asked for on the same socket.
    /// Only what is said to that tells whether the login is wrong.
    fn start_refused(
        &mut self,
        cx: &mut Context,
        taking_back: bool,
        refusal: &SessionRefusal,
    ) -> Change {
        self.id = None;
        if taking_back {
            return self.send_start(cx);
        }
        let login = register::login_refused(refusal);
        self.tell(cx, if login { Told::Login } else { Told::Server }, &refusal.detail);
        cx.wire.close();
        self.refusals = self.refusals.saturating_add(1);
        let longest = if login { LOGIN_REFUSED_MAX } else { BUSY_MAX };
        let delay = cx.spread.lengthened(doubling(REFUSED_MIN, longest, self.refusals));
        self.phase = Phase::Waiting { until: cx.now + delay.min(longest) };
        Change::Down
    }

    /// Says why there is no session, once until that changes.
    fn tell(&mut self, cx: &mut Context, what: Told, detail: &str) {
        if self.told.replace(what) != Some(what) {
            let detail = detail.to_owned();
            cx.wire.tell(match what {
                Told::Login => Notice::CredentialsRefused { detail },
                Told::Server | Told::Silence => Notice::SessionRefused { detail },
            });
        }
    }

    fn keep_alive(&mut self, cx: &mut Context, since: MonoTime) -> Change {
        if cx.config.dialect.requests_reset_timer
            && let Some(at) = cx.wire.last_sent.map(|sent| sent + self.keep_alive_every)
            && at > cx.now
        {
            self.phase = Phase::Up { since, keep_alive_at: Some(at) };
            return Change::None;
        }
        let Some(session) = self.id.clone() else { return Change::None };
        let seconds = cx.config.session_seconds;
        let request = Request::KeepAlive { session: &session, seconds };
        let purpose = Purpose::Session(SessionStep::KeepAlive);
        self.phase = Phase::Up { since, keep_alive_at: None };
        match cx.wire.send(cx.now, &request, PATIENCE, purpose) {
            Ok(()) => Change::None,
            // All invoke IDs open: the server has not answered for long.
            Err(_) => self.lost(cx, DownCause::KeepAliveUnanswered, true),
        }
    }

    fn kept_alive(&mut self, cx: &Context, seconds: Option<u64>) {
        if let Some(seconds) = seconds {
            self.set_duration(seconds);
        }
        if let Phase::Up { keep_alive_at, .. } = &mut self.phase {
            *keep_alive_at = Some(cx.now + self.keep_alive_every);
        }
    }

    /// The server does not have our session any more.
    fn gone(&mut self, cx: &mut Context, reason: String) -> Change {
        self.id = None;
        self.lost(cx, DownCause::Terminated { reason }, true)
    }

    fn lost(&mut self, cx: &mut Context, cause: DownCause, close: bool) -> Change {
        if close {
            cx.wire.close();
        }
        match self.phase {
            Phase::Stopping => {
                self.id = None;
                self.phase = Phase::Off;
                return Change::Down;
            }
            Phase::Up { since, .. } => {
                cx.wire.tell(Notice::SessionDown { cause });
                let worked = cx.now.since(since) >= WORKED;
                self.failures = if worked { 0 } else { self.failures.saturating_add(1) };
            }
            _ => self.failures = self.failures.saturating_add(1),
        }
        self.reconnect(cx);
        Change::Down
    }

    fn reconnect(&mut self, cx: &mut Context) {
        if self.failures == 0 {
            self.connect(cx);
            return;
        }
        let delay = cx.spread.lengthened(doubling(RECONNECT_MIN, RECONNECT_MAX, self.failures));
        self.phase = Phase::Waiting { until: cx.now + delay.min(RECONNECT_MAX) };
    }

    fn stopped(&mut self, cx: &mut Context) {
        cx.wire.close();
        self.id = None;
        self.phase = Phase::Off;
    }
}

fn is_unanswered(error: &CstaError) -> bool {
    error.category == ErrorCategory::Unanswered
}

fn tells_nothing(error: &CstaError) -> bool {
    matches!(error.category, ErrorCategory::Unanswered | ErrorCategory::BadAnswer)
}
