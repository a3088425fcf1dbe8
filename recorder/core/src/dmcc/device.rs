//! One device on its way to being watched: what it has, what it lacks, and so which step comes
//! next. Losing something is clearing a field; the way back is the same as the way there. Sending
//! the step's request is the business of `devices`.
//!
//! ```text
//! phantom: device ID, media monitor, call monitor, snapshot, registration, observation
//! further registration on a station: device ID of an instance, media monitor, registration
//! station: device ID, call monitor, snapshot, agent
//! VDN:     device ID, monitor of calls via it
//! skill:   device ID, monitor of calls via it, monitor of its agents, list of who is logged in
//! ```
//!
//! Why a station that no list of the configuration names is watched, is the business of `logins`.

use std::collections::BTreeSet;

use storage_core::record::Side;
use storage_core::{CallId, Extension, MonoTime};

use super::config::{Attachment, LinkConfig};
use super::fields::{CrossRef, DeviceId};
use super::logins::{LoginList, Reason};
use super::observe::{Act, Observation};
use super::request::MonitorKind;
use super::terminal::{Terminal, TerminalStep};
use crate::Receiver;
use crate::call::event::Monitor;

/// What a device is to us. The order is the order in which set-up goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    Station,
    Phantom,
    /// One more registration on a station, for one side of its calls or for all; the station's calls
    /// are watched as that station's.
    Further(Option<Side>),
    Vdn,
    Skill,
}

/// A device that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct DeviceKey {
    pub role: Role,
    pub extension: Extension,
}

impl DeviceKey {
    pub fn monitor(&self) -> Monitor {
        let extension = self.extension.clone();
        match self.role {
            Role::Station => Monitor::Station(extension),
            Role::Phantom | Role::Further(_) => Monitor::Phantom(extension),
            Role::Vdn | Role::Skill => Monitor::Via(extension),
        }
    }

    /// Whether calls are looked for at this device after an outage.
    pub fn is_asked_for_calls(&self) -> bool {
        matches!(self.role, Role::Station | Role::Phantom)
    }

    /// Whether it is registered, so that media can be sent to it.
    pub const fn is_terminal(&self) -> bool {
        matches!(self.role, Role::Phantom | Role::Further(_))
    }

    /// As what receives media it is known to others.
    pub fn receiver(&self) -> Receiver {
        let side = match self.role {
            Role::Further(side) => side,
            Role::Station | Role::Phantom | Role::Vdn | Role::Skill => None,
        };
        Receiver { device: self.extension.clone(), side }
    }

    /// Its monitors, and whether the device is of use without it.
    const fn monitors(&self) -> &'static [(MonitorKind, bool)] {
        match self.role {
            Role::Station => &[(MonitorKind::Calls, true)],
            // A phantom without the second can still record; only its call is seen less well.
            Role::Phantom => &[(MonitorKind::Media, true), (MonitorKind::Calls, false)],
            Role::Further(_) => &[(MonitorKind::Media, true)],
            Role::Vdn => &[(MonitorKind::CallsVia, true)],
            Role::Skill => &[(MonitorKind::CallsVia, true), (MonitorKind::Agents, false)],
        }
    }
}

/// One request of a device's set-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    AskId,
    StartMonitor(MonitorKind),
    StopMonitor(MonitorKind, CrossRef),
    SnapshotDevice,
    SnapshotCall(CallId),
    CheckRegistration,
    Register,
    AskAgent,
    AskLogins,
    Observe(Act),
}

/// One monitor of a device.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    pub kind: MonitorKind,
    pub needed: bool,
    pub state: WatchState,
    pub failures: u32,
    /// Its refusal has been told.
    pub told: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WatchState {
    Wanted,
    Standing {
        crossref: CrossRef,
        since: MonoTime,
    },
    /// May stand or not: to be stopped and started again.
    Doubtful(CrossRef),
    /// Refused or stopped; to be tried again.
    Waiting {
        until: MonoTime,
    },
}

/// How far the search for the device's calls has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Snapshot {
    Wanted,
    Calls(Vec<CallId>),
    Done {
        /// All calls could be asked for.
        complete: bool,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Device {
    pub id: Option<DeviceId>,
    pub watches: Vec<Watch>,
    pub snapshot: Snapshot,
    /// Some call could not be asked for.
    pub call_missed: bool,
    /// Of what is registered.
    pub terminal: Option<Terminal>,
    /// Of phantoms that observe a station.
    pub observation: Option<Observation>,
    /// Which of the places on its extension is tried, by its number among them.
    pub place: usize,
    /// When to ask for the agent; stations only.
    pub agent_at: Option<MonoTime>,
    pub agent: Option<String>,
    /// The skills in which he is, as far as they told so.
    pub skills: BTreeSet<Extension>,
    /// Why it is here.
    pub reason: Reason,
    /// Who is logged in; of skills whose agents are followed.
    pub logins: Option<LoginList>,
    /// A request of this device is open.
    pub open: bool,
    pub failures: u32,
    pub retry_at: Option<MonoTime>,
    /// Its failure has been told.
    pub told: bool,
    /// When it stands in the table of timers.
    pub wake: Option<MonoTime>,
}

impl Device {
    pub fn new(key: &DeviceKey, config: &LinkConfig) -> Self {
        let attachment = config.phantom(&key.receiver()).map(|phantom| &phantom.attachment);
        let observation = match attachment {
            Some(Attachment::Observer { station, code }) if key.is_terminal() => {
                Some(Observation::new(code, station))
            }
            _ => None,
        };
        let watch = |(kind, needed): &(MonitorKind, bool)| Watch {
            kind: *kind,
            needed: *needed,
            state: WatchState::Wanted,
            failures: 0,
            told: false,
        };
        let mut device = Self {
            id: None,
            watches: key.monitors().iter().map(watch).collect(),
            snapshot: Snapshot::Done { complete: true },
            call_missed: false,
            terminal: key.is_terminal().then(Terminal::new),
            observation,
            place: 0,
            agent_at: None,
            agent: None,
            skills: BTreeSet::new(),
            reason: Reason::Named,
            logins: None,
            open: false,
            failures: 0,
            retry_at: None,
            told: false,
            wake: None,
        };
        device.want_snapshot(key);
        device.follow_agents(key, config);
        device
    }

    /// The next step, if one can be taken now.
    pub fn next_step(&self, now: MonoTime) -> Option<Step> {
        if self.open || self.retry_at.is_some_and(|at| at > now) {
            return None;
        }
        if self.id.is_none() {
            return Some(Step::AskId);
        }
        if self.reason == Reason::Asked {
            return Some(Step::AskAgent);
        }
        for watch in &self.watches {
            match &watch.state {
                WatchState::Wanted => return Some(Step::StartMonitor(watch.kind)),
                WatchState::Waiting { until } if *until <= now => {
                    return Some(Step::StartMonitor(watch.kind));
                }
                WatchState::Waiting { .. } if watch.needed => return None,
                WatchState::Doubtful(crossref) => {
                    return Some(Step::StopMonitor(watch.kind, crossref.clone()));
                }
                WatchState::Standing { .. } | WatchState::Waiting { .. } => {}
            }
        }
        match &self.snapshot {
            Snapshot::Wanted => return Some(Step::SnapshotDevice),
            Snapshot::Calls(calls) => {
                if let Some(call) = calls.last() {
                    return Some(Step::SnapshotCall(call.clone()));
                }
            }
            Snapshot::Done { .. } if self.reason.is_looked_at(now) => {
                return Some(Step::SnapshotDevice);
            }
            Snapshot::Done { .. } => {}
        }
        if self.logins.as_ref().is_some_and(|list| list.is_due(now)) && self.hears_of_agents() {
            return Some(Step::AskLogins);
        }
        match self.terminal.as_ref().and_then(|terminal| terminal.step(now)) {
            Some(TerminalStep::Check) => return Some(Step::CheckRegistration),
            Some(TerminalStep::Register) => return Some(Step::Register),
            None => {}
        }
        if let Some(act) = self.observation.as_ref().and_then(|o| o.step(now)) {
            return Some(Step::Observe(act));
        }
        self.agent_at.filter(|at| *at <= now).map(|_| Step::AskAgent)
    }

    /// When `next_step` may have something new to say without anything having happened.
    pub fn next_time(&self, now: MonoTime) -> Option<MonoTime> {
        let waiting = self.watches.iter().filter_map(|watch| match watch.state {
            WatchState::Waiting { until } => Some(until),
            _ => None,
        });
        let terminal = self.terminal.as_ref().and_then(Terminal::next_time);
        let observation = self.observation.as_ref().and_then(Observation::next_time);
        let times = waiting.chain(self.retry_at).chain(terminal).chain(observation);
        let times = times.chain(self.agent_at).chain(self.reason.next_time());
        let times = times.chain(self.logins.as_ref().and_then(LoginList::next_time));
        times.filter(|at| *at > now).min()
    }

    /// Whether its calls have been found, and all of them; `None` while they are looked for. Of a skill,
    /// whether those who are logged in have.
    pub fn found(&self) -> Option<bool> {
        match (&self.logins, &self.snapshot) {
            (Some(list), _) => list.is_known().then_some(true),
            (None, Snapshot::Done { complete }) if self.reason != Reason::Asked => Some(*complete),
            (None, _) => None,
        }
    }

    /// Whether something is looked for at it after an outage: its calls, or who is logged in.
    pub fn is_searched(&self, key: &DeviceKey) -> bool {
        self.logins.is_some() || (key.is_asked_for_calls() && self.reason != Reason::Asked)
    }

    /// Whether one of these agents is logged in there.
    pub fn is_for_one_of(&self, agents: &BTreeSet<Extension>) -> bool {
        let agent = self.agent.as_deref().map(Extension::new);
        agent.is_some_and(|agent| agents.contains(&agent))
    }

    /// Of a skill: who is logged in matters if any agents are followed.
    pub fn follow_agents(&mut self, key: &DeviceKey, config: &LinkConfig) {
        let follows = key.role == Role::Skill && !config.agents.is_empty();
        self.logins = follows.then(|| self.logins.take().unwrap_or_default());
    }

    /// The monitor that tells of the skill's agents stands.
    fn hears_of_agents(&self) -> bool {
        self.watches.iter().any(|watch| {
            watch.kind == MonitorKind::Agents && matches!(watch.state, WatchState::Standing { .. })
        })
    }

    /// Some monitor of its calls may stand.
    pub fn is_watched(&self) -> bool {
        self.watches.iter().any(|watch| {
            matches!(watch.state, WatchState::Standing { .. } | WatchState::Doubtful(_))
        })
    }

    pub fn watch_mut(&mut self, kind: MonitorKind) -> Option<&mut Watch> {
        self.watches.iter_mut().find(|watch| watch.kind == kind)
    }

    pub fn want_snapshot(&mut self, key: &DeviceKey) {
        if key.is_asked_for_calls() {
            self.snapshot = Snapshot::Wanted;
            self.call_missed = false;
        }
    }

    /// Monitors of these kinds may stand or not, and nothing tells which.
    pub fn doubt(&mut self, kinds: &[MonitorKind]) {
        for watch in &mut self.watches {
            if let WatchState::Standing { crossref, .. } = &watch.state
                && kinds.contains(&watch.kind)
            {
                watch.state = WatchState::Doubtful(crossref.clone());
            }
        }
    }

    /// The server knows nothing of this device (any more).
    pub fn forget_id(&mut self, key: &DeviceKey) {
        self.id = None;
        for watch in &mut self.watches {
            watch.state = WatchState::Wanted;
        }
        self.want_snapshot(key);
    }

    /// A new session: nothing is left but what a refusal has taught. `true` if a registration is
    /// lost by it.
    pub fn begin_anew(&mut self, key: &DeviceKey) -> bool {
        self.forget_id(key);
        self.open = false;
        self.failures = 0;
        self.retry_at = None;
        self.agent_at = None;
        for watch in &mut self.watches {
            watch.failures = 0;
        }
        if let Some(observation) = &mut self.observation {
            observation.reset();
        }
        self.terminal.as_mut().is_some_and(Terminal::forget)
    }
}
