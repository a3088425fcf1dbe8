//! Which stations are watched because of who is logged in there: one where an agent that is to be followed
//! logs in is watched from that moment on, until he has logged out and the last of its calls has left it. It knows
//! no calls: whether a station is in one, the switch is asked.
//!
//! ```text
//! list of a skill ──▶ Asked ──somebody else is there──▶ (gone)
//!                       │ he is there
//!                       ▼
//! he logs in ──────▶ Followed ──he logs out──▶ Left ──in no call──▶ (gone)
//!                       ▲                        │
//!                       └───────he logs in───────┘
//! ```
//!
//! A station that the configuration names is watched whoever is there, and stays as it is.
//!
//! Log-ons are told by the monitors of the skills (dossier 6.8), and an event may be lost. So each skill is asked
//! now and then who is logged in, after each loss of the link at once; and each followed station, who is there.

use std::time::Duration;

use storage_core::{CallId, Extension, MonoTime};

use super::backoff::{Spread, doubling};
use super::context::Context;
use super::device::{Device, DeviceKey, Role, Snapshot};
use super::devices::{Devices, PATIENCE, RETRY_MAX, RETRY_MIN};
use super::error::{CstaError, ErrorCategory};
use super::notice::Notice;
use super::register;
use crate::call::event::AgentEvent;

/// A station that he has left in a call is looked at again after each of its events, and this often without one.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// More devices than an AES serves: a list that goes on and on is not followed any further.
const DEVICES_MAX: usize = 40_000;

/// Why a device is in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The configuration names it.
    Named,
    /// A skill's list names it: who is there is asked for, and nothing is watched.
    Asked,
    /// An agent that is to be followed is logged in there.
    Followed,
    /// He has logged out.
    Left {
        /// When to see whether it is in a call still.
        look_at: MonoTime,
    },
}

impl Reason {
    pub fn is_looked_at(self, now: MonoTime) -> bool {
        self.next_time().is_some_and(|at| at <= now)
    }

    pub const fn next_time(self) -> Option<MonoTime> {
        match self {
            Self::Left { look_at } => Some(look_at),
            Self::Named | Self::Asked | Self::Followed => None,
        }
    }

    const fn is_left(self) -> bool {
        matches!(self, Self::Left { .. })
    }
}

/// The list of those who are logged in at a skill: it comes as events, after the answer or before it.
#[derive(Clone, Debug, Default)]
pub(super) struct LoginList {
    ask_at: Option<MonoTime>,
    /// It was asked for, and its last part has not come.
    open: bool,
    /// It was told since all was asked for last.
    known: bool,
    failures: u32,
    /// That it cannot be had has been told.
    told: bool,
}

impl LoginList {
    pub fn is_due(&self, now: MonoTime) -> bool {
        self.ask_at.is_some_and(|at| at <= now)
    }

    pub const fn next_time(&self) -> Option<MonoTime> {
        self.ask_at
    }

    pub const fn is_open(&self) -> bool {
        self.open
    }

    pub const fn is_known(&self) -> bool {
        self.known
    }

    /// What was told before is in doubt.
    pub fn want(&mut self, now: MonoTime) {
        (self.ask_at, self.open, self.known) = (Some(now), false, false);
    }

    /// It is asked for now; `true` if it was before and has not come.
    fn asked(&mut self, now: MonoTime, spread: &mut Spread) -> bool {
        let overdue = std::mem::replace(&mut self.open, true);
        self.failures = if overdue { self.failures.saturating_add(1) } else { self.failures };
        let patience = spread.lengthened(doubling(PATIENCE, RETRY_MAX, self.failures + 1));
        self.ask_at = Some(now + patience);
        overdue
    }

    fn refused(&mut self, now: MonoTime, spread: &mut Spread) {
        self.open = false;
        self.failures = self.failures.saturating_add(1);
        let delay = spread.lengthened(doubling(RETRY_MIN, RETRY_MAX, self.failures));
        self.ask_at = Some(now + delay);
    }

    fn complete(&mut self, next: Option<MonoTime>) {
        *self = Self { ask_at: next, known: true, ..Self::default() };
    }
}

impl Devices {
    /// An event tells who is logged in at a station, or that he is not any more: at this skill, while he may
    /// be at others.
    pub(super) fn agent_told(&mut self, cx: &mut Context, event: AgentEvent) {
        let key = station(&event.station);
        let split = event.split.clone().filter(|_| event.agentid.is_some());
        if event.agentid.is_none()
            && let Some(device) = self.table.get_mut(&key)
            && device.may_be_at_another_skill(event.split.as_ref())
        {
            device.agent_at = Some(cx.now);
            return self.settle(cx.now, &key);
        }
        self.agent_is(cx, event);
        if let Some(device) = self.table.get_mut(&key) {
            device.skills.extend(split);
        }
    }

    /// Who is logged in at a station: tells it if that is new, and follows him.
    pub(super) fn agent_is(&mut self, cx: &mut Context, event: AgentEvent) {
        let key = station(&event.station);
        let agent = event.agentid.as_deref().map(Extension::new);
        let followed = agent.is_some_and(|agent| cx.config.agents.contains(&agent));
        let AgentEvent { station, agentid, .. } = event.clone();
        let device = self.table.get_mut(&key);
        if device.as_ref().is_none_or(|device| device.agent != agentid) {
            if let Some(device) = device {
                if device.agent.is_some() {
                    device.skills.clear();
                }
                device.agent.clone_from(&agentid);
            }
            cx.wire.tell(Notice::Agent(event));
            if followed {
                self.look_where_he_was(cx, &key, agentid.as_deref());
            }
        }
        if followed {
            self.present.insert(station);
            self.follow(cx, &key, agentid);
        } else {
            self.present.remove(&station);
            self.follow_no_more(cx, &key);
        }
        self.settle(cx.now, &key);
    }

    /// He can be at one station only: where he seemed to be before is asked who is there.
    fn look_where_he_was(&mut self, cx: &Context, here: &DeviceKey, agentid: Option<&str>) {
        let he = |device: &Device| agentid.is_some() && device.agent.as_deref() == agentid;
        let before = self.table.iter().filter(|(key, device)| *key != here && he(device));
        for key in before.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            if let Some(device) = self.table.get_mut(&key) {
                device.agent_at = Some(cx.now);
            }
            self.settle(cx.now, &key);
        }
    }

    fn follow(&mut self, cx: &Context, key: &DeviceKey, agentid: Option<String>) {
        let poll = Duration::from_secs(cx.config.dialect.agent_poll_seconds);
        let agent_at = (!poll.is_zero()).then(|| cx.now + poll);
        let room = self.has_room_for(&key.extension);
        match self.table.get_mut(key) {
            Some(device) if device.reason == Reason::Named => {}
            // It is watched at once, whatever was refused before.
            Some(device) if device.reason != Reason::Followed => {
                (device.reason, device.retry_at, device.told) = (Reason::Followed, None, false);
                device.agent_at = agent_at;
            }
            Some(_) => {}
            None if !room => {}
            None => {
                let device = Device::new(key, cx.config);
                let reason = Reason::Followed;
                let device = Device { reason, agent: agentid, agent_at, ..device };
                self.table.insert(key.clone(), device);
            }
        }
    }

    fn follow_no_more(&mut self, cx: &mut Context, key: &DeviceKey) {
        let Some(device) = self.table.get_mut(key) else { return };
        match device.reason {
            Reason::Named | Reason::Left { .. } => {}
            Reason::Followed if device.is_watched() => {
                device.reason = Reason::Left { look_at: cx.now };
            }
            Reason::Followed | Reason::Asked => self.remove(cx, key),
        }
    }

    /// A number that is something else to us is no station, whoever says so.
    fn has_room_for(&self, extension: &Extension) -> bool {
        self.key_of(extension).is_none() && self.table.len() < DEVICES_MAX
    }

    /// A skill's list is asked for now.
    pub(super) fn list_asked(&mut self, cx: &mut Context, key: &DeviceKey) {
        let list = self.table.get_mut(key).and_then(|device| device.logins.as_mut());
        if list.is_some_and(|list| list.asked(cx.now, cx.spread)) {
            let error = CstaError::new(ErrorCategory::Unanswered, "who is logged in is not told");
            self.list_is_missing(cx, key, &error);
        }
    }

    /// The answer to that says nothing but that events follow.
    pub(super) fn list_refused(&mut self, cx: &mut Context, key: &DeviceKey, error: &CstaError) {
        let list = self.table.get_mut(key).and_then(|device| device.logins.as_mut());
        list.into_iter().for_each(|list| list.refused(cx.now, cx.spread));
        self.list_is_missing(cx, key, error);
    }

    fn list_is_missing(&mut self, cx: &mut Context, key: &DeviceKey, error: &CstaError) {
        self.resync.settled(key, false);
        let list = self.table.get_mut(key).and_then(|device| device.logins.as_mut());
        if list.is_some_and(|list| !std::mem::replace(&mut list.told, true)) {
            let (device, error) = (key.monitor(), error.clone());
            cx.wire.tell(Notice::MonitorRefused { device, error });
        }
    }

    /// A part of a skill's list.
    pub(super) fn logged_in(
        &mut self,
        cx: &mut Context,
        skill: &DeviceKey,
        stations: &[Extension],
        last: bool,
    ) {
        if self.table.get(skill).is_none_or(|device| device.logins.is_none()) {
            return;
        }
        for extension in stations {
            self.ask_who_is_at(cx, skill, extension);
        }
        let list = self.table.get_mut(skill).and_then(|device| device.logins.as_mut());
        if let (Some(list), true) = (list, last) {
            let poll = Duration::from_secs(cx.config.dialect.login_poll_seconds);
            list.complete((!poll.is_zero()).then(|| cx.now + cx.spread.lengthened(poll)));
            self.settle(cx.now, skill);
        }
    }

    fn ask_who_is_at(&mut self, cx: &mut Context, skill: &DeviceKey, extension: &Extension) {
        let (key, room) = (station(extension), self.has_room_for(extension));
        match self.table.get_mut(&key).map(|device| (device.reason, device)) {
            // Its own turn comes.
            Some((Reason::Named | Reason::Followed, _)) => return,
            Some((Reason::Left { .. }, device)) => device.agent_at = Some(cx.now),
            Some((Reason::Asked, device)) => {
                device.skills.insert(skill.extension.clone());
                self.resync.also(skill, &key);
            }
            None if !room => return,
            None => {
                let (reason, skills) = (Reason::Asked, [skill.extension.clone()].into());
                let device = Device { reason, skills, ..Device::new(&key, cx.config) };
                self.table.insert(key.clone(), device);
                self.resync.also(skill, &key);
            }
        }
        self.settle(cx.now, &key);
    }

    /// All is asked for anew: what is known of log-ins may be of yesterday.
    pub(super) fn doubt_logins(&mut self, now: MonoTime) {
        for device in self.table.values_mut() {
            if matches!(device.reason, Reason::Followed | Reason::Left { .. }) {
                device.agent_at = Some(now);
            }
            device.logins.iter_mut().for_each(|list| list.want(now));
        }
    }

    /// Something happened at this station: if he has left it, it may be in no call any more.
    pub(super) fn look_if_left(&mut self, now: MonoTime, key: &DeviceKey) {
        if let Some(device) = self.table.get_mut(key)
            && device.reason.is_left()
        {
            device.reason = Reason::Left { look_at: now };
            self.settle(now, key);
        }
    }

    /// The calls of a station that he has left, if they could be asked for. `true` if it is let go.
    pub(super) fn is_let_go(
        &mut self,
        cx: &mut Context,
        key: &DeviceKey,
        calls: Result<&[CallId], &CstaError>,
    ) -> bool {
        let Some(device) = self.table.get_mut(key) else { return false };
        if !device.reason.is_left() {
            return false;
        }
        device.reason = Reason::Left { look_at: cx.now + LOOK_AGAIN };
        match calls {
            Ok([]) => self.remove(cx, key),
            Ok(_) => return false,
            Err(error) if register::says_unknown_device(error) => self.remove(cx, key),
            Err(_) => device.snapshot = Snapshot::Done { complete: false },
        }
        true
    }

    /// A station that he has left cannot be watched: nothing of it is seen any more.
    pub(super) fn is_lost_to_sight(&mut self, cx: &mut Context, key: &DeviceKey) -> bool {
        let left = self.table.get(key).is_some_and(|device| device.reason.is_left());
        if left {
            self.remove(cx, key);
        }
        left
    }
}

impl Device {
    /// He has logged out at this skill. Where it is not known at which he was, or others are left, he may be
    /// logged in still: skills are taken from agents, too.
    fn may_be_at_another_skill(&mut self, skill: Option<&Extension>) -> bool {
        let Some(skill) = skill else { return false };
        let known = self.skills.remove(skill);
        !self.skills.is_empty() || (!known && self.reason == Reason::Followed)
    }
}

fn station(extension: &Extension) -> DeviceKey {
    DeviceKey { role: Role::Station, extension: extension.clone() }
}
