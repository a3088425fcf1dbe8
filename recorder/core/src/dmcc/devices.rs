//! Sets up all devices and keeps them so: takes the steps that `device` names, many devices at a
//! time but one step of each. A device that cannot be set up is told of and tried again slowly;
//! the others go on. What an answer means is the business of `setup`, events are that of `traffic`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use storage_core::{Extension, MonoTime};

use super::backoff::doubling;
use super::config::{Attachment, LinkConfig};
use super::context::{Answer, Context, Purpose};
use super::device::{Device, DeviceKey, Role, Step, Watch, WatchState};
use super::error::CstaError;
use super::event::MonitorEvent;
use super::fields::{CrossRef, DeviceId};
use super::governor::Governor;
use super::logins::{LoginList, Reason};
use super::notice::{LostCause, Notice};
use super::register;
use super::request::{MonitorKind, Request};
use super::response::Response;
use super::resync::Resync;
use super::step::{clean_up, send_step};
use super::terminal::Terminal;
use crate::Receiver;

/// Open set-up requests at once, registrations not counted: enough for hundreds of devices to be
/// set up in a second, and far from what a server would call a flood.
const WINDOW: usize = 64;
/// How long to wait for an answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// A server that sends much that cannot be read makes us look around no more often than this.
const LOOK_AROUND_EVERY: Duration = Duration::from_secs(10);
pub(super) const RETRY_MIN: Duration = Duration::from_secs(5);
pub(super) const RETRY_MAX: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub(super) struct Devices {
    pub(super) table: BTreeMap<DeviceKey, Device>,
    pub(super) monitors: BTreeMap<CrossRef, (DeviceKey, MonitorKind)>,
    /// Events that came before the answer that names their monitor.
    pub(super) early: VecDeque<MonitorEvent>,
    /// Monitors that are not ours and that the server was asked to stop.
    pub(super) strays: BTreeSet<CrossRef>,
    /// `MonitorStart` requests that are open.
    pub(super) monitors_open: usize,
    pub(super) resync: Resync,
    /// Stations at which agents that are followed are logged in.
    pub(super) present: BTreeSet<Extension>,
    todo: BTreeSet<DeviceKey>,
    timers: BTreeSet<(MonoTime, DeviceKey)>,
    governor: Governor,
    /// Set-up requests that are open, registrations not counted.
    steps_open: usize,
    /// When all calls were asked for last.
    last_resync: MonoTime,
    /// Something was told that could not be read: when to look around for what it was.
    look_around_at: Option<MonoTime>,
    /// A session is up.
    live: bool,
}

impl Devices {
    pub fn new(config: &LinkConfig) -> Self {
        let device = |key: DeviceKey| {
            let device = Device::new(&key, config);
            (key, device)
        };
        let table = keys(config).map(device).collect();
        Self {
            table,
            monitors: BTreeMap::new(),
            early: VecDeque::new(),
            strays: BTreeSet::new(),
            monitors_open: 0,
            resync: Resync::default(),
            present: BTreeSet::new(),
            todo: BTreeSet::new(),
            timers: BTreeSet::new(),
            governor: Governor::new(config.registration_window, config.registration_rate),
            steps_open: 0,
            last_resync: MonoTime::default(),
            look_around_at: None,
            live: false,
        }
    }

    /// The session cannot be used. What stands is kept: the session may be taken back.
    pub fn pause(&mut self) {
        self.live = false;
        self.todo.clear();
        self.timers.clear();
        self.governor.clear();
        self.early.clear();
        self.resync.abandon();
        self.look_around_at = None;
        self.steps_open = 0;
        self.monitors_open = 0;
        for device in self.table.values_mut() {
            device.open = false;
            device.wake = None;
        }
    }

    /// A session is up. A new one owns nothing; an old one still has its devices, of which some
    /// may be in doubt (`register::RESTART_CALL_MONITORS`).
    pub fn resume(&mut self, cx: &mut Context, recovered: bool) {
        self.live = true;
        self.strays.clear();
        if !recovered {
            self.monitors.clear();
        }
        for (key, device) in &mut self.table {
            if recovered {
                if let Some(terminal) = &mut device.terminal {
                    terminal.check(cx.now);
                }
                if register::RESTART_CALL_MONITORS {
                    device.doubt(&[MonitorKind::Calls]);
                }
            } else if device.begin_anew(key) {
                let (phantom, cause) = (key.receiver(), LostCause::SessionLost);
                cx.wire.tell(Notice::PhantomLost { phantom, cause });
            }
        }
        self.begin_resync(cx);
    }

    /// The link between AES and switch is up again: no call monitor can be relied on.
    pub fn switch_is_back(&mut self, cx: &mut Context) {
        for device in self.table.values_mut() {
            device.doubt(&[MonitorKind::Calls, MonitorKind::CallsVia, MonitorKind::Agents]);
        }
        self.begin_resync(cx);
    }

    /// An event came that could not be read. What it told is found by asking.
    pub fn event_missed(&mut self, now: MonoTime) {
        self.look_around_at.get_or_insert((self.last_resync + LOOK_AROUND_EVERY).max(now));
    }

    fn look_around(&mut self, cx: &mut Context) {
        self.look_around_at = None;
        for device in self.table.values_mut() {
            if let Some(terminal) = &mut device.terminal {
                terminal.check(cx.now);
            }
        }
        self.begin_resync(cx);
    }

    /// Asks all stations and phantoms for their calls, and all skills for who is logged in.
    pub fn begin_resync(&mut self, cx: &mut Context) {
        self.last_resync = cx.now;
        self.doubt_logins(cx.now);
        let asked = self.table.iter().filter(|(key, device)| device.is_searched(key));
        if self.resync.begin(asked.map(|(key, _)| key.clone())) {
            cx.wire.tell(Notice::ResyncBegan);
        }
        let keys: Vec<DeviceKey> = self.table.keys().cloned().collect();
        for key in keys {
            if let Some(device) = self.table.get_mut(&key) {
                device.want_snapshot(&key);
            }
            self.settle(cx.now, &key);
        }
    }

    /// Takes all steps that can be taken now.
    pub fn pump(&mut self, cx: &mut Context) {
        if !self.live {
            return;
        }
        if self.look_around_at.is_some_and(|at| at <= cx.now) {
            self.look_around(cx);
        }
        while let Some((at, key)) = self.timers.first().cloned()
            && at <= cx.now
        {
            self.settle(cx.now, &key);
        }
        while self.steps_open < WINDOW
            && let Some(key) = self.todo.pop_first()
        {
            let step = self.table.get(&key).and_then(|device| device.next_step(cx.now));
            if let Some(step) = step {
                self.take(cx, &key, &step);
            }
        }
        while let Some(key) = self.governor.admit(cx.now) {
            let step = self.table.get(&key).and_then(|device| device.next_step(cx.now));
            if step == Some(Step::Register) {
                self.take(cx, &key, &Step::Register);
            } else {
                self.governor.done(&key);
            }
        }
        self.sweep_early(cx);
        if let Some(unseen) = self.resync.finish() {
            cx.wire.tell(Notice::ResyncDone { unseen });
        }
    }

    pub fn next_time(&self) -> Option<MonoTime> {
        let timer = self.timers.first().map(|(at, _)| *at);
        [timer, self.governor.next_time(), self.look_around_at].into_iter().flatten().min()
    }

    /// The ID of a device that is set up, whatever it is.
    pub fn id_of(&self, extension: &Extension) -> Option<&DeviceId> {
        [Role::Station, Role::Phantom, Role::Vdn, Role::Skill].into_iter().find_map(|role| {
            let key = DeviceKey { role, extension: extension.clone() };
            self.table.get(&key)?.id.as_ref()
        })
    }

    /// What the device is to us: the key under which it is watched.
    pub fn key_of(&self, extension: &Extension) -> Option<DeviceKey> {
        let roles = [Role::Station, Role::Phantom, Role::Vdn, Role::Skill].into_iter();
        roles
            .map(|role| DeviceKey { role, extension: extension.clone() })
            .find(|key| self.table.contains_key(key))
    }

    /// What is registered under this name.
    fn terminal_key(&self, receiver: &Receiver) -> Option<DeviceKey> {
        let roles = [Role::Phantom, Role::Further(receiver.side)].into_iter();
        roles
            .map(|role| DeviceKey { role, extension: receiver.device.clone() })
            .find(|key| self.table.contains_key(key))
    }

    /// A receiver should be sent media and is not: its registration is looked at, or its observation
    /// dialled again.
    pub fn attach(&mut self, cx: &mut Context, receiver: &Receiver) {
        let Some(key) = self.terminal_key(receiver).filter(|_| self.live) else { return };
        let Some(device) = self.table.get_mut(&key) else { return };
        match &mut device.observation {
            Some(observation) if observation.is_standing() => self.observation_ended(cx, &key),
            Some(_) => {}
            None => device.terminal.iter_mut().for_each(|terminal| terminal.check(cx.now)),
        }
        self.settle(cx.now, &key);
    }

    /// The ID of one of our phantoms, registered or not.
    pub fn phantom_id(&self, extension: &Extension) -> Option<&DeviceId> {
        let key = DeviceKey { role: Role::Phantom, extension: extension.clone() };
        self.table.get(&key)?.id.as_ref()
    }

    /// Registered, so it can join calls.
    pub fn phantom_is_ready(&self, extension: &Extension) -> bool {
        let key = DeviceKey { role: Role::Phantom, extension: extension.clone() };
        let terminal = self.table.get(&key).and_then(|device| device.terminal.as_ref());
        terminal.is_some_and(Terminal::is_standing)
    }

    /// The configuration was read again: devices may come and go, and what was refused is tried.
    pub fn reload(&mut self, cx: &mut Context) {
        self.governor.set_limits(cx.config.registration_window, cx.config.registration_rate);
        let wanted: BTreeSet<DeviceKey> = keys(cx.config).collect();
        let mut gone = Vec::new();
        for (key, device) in self.table.iter_mut().filter(|(key, _)| !wanted.contains(*key)) {
            match device.is_for_one_of(&cx.config.agents) {
                true => device.reason = Reason::Followed,
                false => gone.push(key.clone()),
            }
        }
        for key in gone {
            self.remove(cx, &key);
        }
        for key in wanted {
            let device = self.table.entry(key.clone());
            let device = device.or_insert_with(|| Device::new(&key, cx.config));
            device.reason = Reason::Named;
            device.follow_agents(&key, cx.config);
            device.retry_at = None;
            device.told = false;
            if let Some(terminal) = &mut device.terminal {
                terminal.forgive();
            }
            if self.live {
                self.settle(cx.now, &key);
            }
        }
    }

    /// Watches these stations from now on.
    pub fn watch_also(&mut self, cx: &Context, stations: Vec<Extension>) {
        for extension in stations {
            let key = DeviceKey { role: Role::Station, extension };
            let device = self.table.entry(key.clone());
            let device = device.or_insert_with(|| Device::new(&key, cx.config));
            device.reason = Reason::Named;
            if self.live {
                self.settle(cx.now, &key);
            }
        }
    }

    pub(super) fn remove(&mut self, cx: &mut Context, key: &DeviceKey) {
        let Some(device) = self.table.remove(key) else { return };
        self.todo.remove(key);
        if let Some(at) = device.wake {
            self.timers.remove(&(at, key.clone()));
        }
        self.resync.settled(key, true);
        let standing = device.terminal.as_ref().is_some_and(Terminal::is_standing);
        if standing {
            let (phantom, cause) = (key.receiver(), LostCause::Removed);
            cx.wire.tell(Notice::PhantomLost { phantom, cause });
        }
        let crossrefs: Vec<CrossRef> = device.watches.iter().filter_map(crossref_of).collect();
        for crossref in &crossrefs {
            self.monitors.remove(crossref);
        }
        if self.live {
            clean_up(cx, &device, &crossrefs, standing);
        }
    }

    /// Looks at a device after anything has changed: is there a step to take, now or later?
    pub(super) fn settle(&mut self, now: MonoTime, key: &DeviceKey) {
        let Some(device) = self.table.get_mut(key) else { return };
        if let Some(at) = device.wake.take() {
            self.timers.remove(&(at, key.clone()));
        }
        let step = device.next_step(now);
        match &step {
            Some(Step::Register) => self.governor.request(key),
            Some(_) => {
                self.todo.insert(key.clone());
            }
            None if device.open => {}
            None => {
                device.wake = device.next_time(now);
                self.timers.extend(device.wake.map(|at| (at, key.clone())));
            }
        }
        if self.resync.waits_for(key) {
            let told = device.logins.as_ref().is_some_and(LoginList::is_open);
            let blocked = !device.open && !told && matches!(step, None | Some(Step::Register));
            match device.found() {
                Some(complete) => self.resync.settled(key, complete),
                None if blocked => self.resync.settled(key, false),
                None => {}
            }
        }
    }

    fn take(&mut self, cx: &mut Context, key: &DeviceKey, step: &Step) {
        let Some(device) = self.table.get_mut(key) else { return };
        let purpose = Purpose::Device(key.clone(), step.clone());
        let sent = send_step(cx, key, device, step, purpose);
        device.open = true;
        match step {
            Step::Register => {
                if let Some(terminal) = &mut device.terminal {
                    terminal.asked(cx.now);
                }
            }
            Step::StartMonitor(_) => {
                self.steps_open += 1;
                self.monitors_open += 1;
            }
            Step::AskLogins => {
                self.steps_open += 1;
                self.list_asked(cx, key);
            }
            _ => self.steps_open += 1,
        }
        if let Err(error) = sent {
            self.answer(cx, key, step, Err(error));
        }
    }

    /// The answer to a step, or that none came.
    pub fn answer(&mut self, cx: &mut Context, key: &DeviceKey, step: &Step, answer: Answer) {
        match step {
            Step::Register => self.governor.done(key),
            Step::StartMonitor(_) => {
                self.steps_open = self.steps_open.saturating_sub(1);
                self.monitors_open = self.monitors_open.saturating_sub(1);
            }
            _ => self.steps_open = self.steps_open.saturating_sub(1),
        }
        match self.table.get_mut(key) {
            Some(device) => device.open = false,
            None => {
                disown(cx, answer);
                return;
            }
        }
        match step {
            Step::AskId => self.id_answered(cx, key, answer),
            Step::StartMonitor(kind) => self.monitor_answered(cx, key, *kind, answer),
            Step::StopMonitor(kind, crossref) => {
                // Refused or not: it is not counted on any more.
                self.monitors.remove(crossref);
                self.set_watch(key, *kind, WatchState::Wanted);
            }
            Step::SnapshotDevice => self.calls_answered(cx, key, answer),
            Step::SnapshotCall(call) => self.call_answered(cx, key, call, answer),
            Step::CheckRegistration => self.check_answered(cx, key, answer),
            Step::Register => self.registration_answered(cx, key, answer),
            Step::AskAgent => self.agent_answered(cx, key, answer),
            Step::AskLogins => self.logins_answered(cx, key, answer),
            Step::Observe(_) => self.observing_answered(cx, key, answer),
        }
        self.settle(cx.now, key);
    }

    /// The server does not know the ID of this device any more: it is asked for anew.
    pub(super) fn forget_device(&mut self, cx: &mut Context, key: &DeviceKey) {
        self.unregistered(cx, key, LostCause::DeviceLost);
        let Some(device) = self.table.get_mut(key) else { return };
        for crossref in device.watches.iter().filter_map(crossref_of) {
            self.monitors.remove(&crossref);
        }
        device.forget_id(key);
        self.back_off(cx, key);
    }

    /// A step went wrong that the device cannot do without.
    pub(super) fn fail(&mut self, cx: &mut Context, key: &DeviceKey, error: &CstaError) {
        self.back_off(cx, key);
        let Some(device) = self.table.get_mut(key) else { return };
        if !std::mem::replace(&mut device.told, true) {
            let (device, error) = (key.monitor(), error.clone());
            cx.wire.tell(Notice::MonitorRefused { device, error });
        }
    }

    /// The place on its extension that was tried is somebody else's: the next one is tried at once.
    /// `false` after the last, when all are to be tried again later.
    pub(super) fn try_next_place(&mut self, cx: &mut Context, key: &DeviceKey) -> bool {
        let Some(device) = self.table.get_mut(key) else { return false };
        let crossrefs: Vec<CrossRef> = device.watches.iter().filter_map(crossref_of).collect();
        for crossref in &crossrefs {
            self.monitors.remove(crossref);
        }
        clean_up(cx, device, &crossrefs, false);
        device.forget_id(key);
        let next = device.place + 1;
        let next = cx.config.place(key.receiver().side, next).map(|_| next);
        device.place = next.unwrap_or(0);
        next.is_some()
    }

    pub(super) fn back_off(&mut self, cx: &mut Context, key: &DeviceKey) {
        let Some(device) = self.table.get_mut(key) else { return };
        device.failures = device.failures.saturating_add(1);
        let delay = cx.spread.lengthened(doubling(RETRY_MIN, RETRY_MAX, device.failures));
        device.retry_at = Some(cx.now + delay);
    }
}

fn keys(config: &LinkConfig) -> impl Iterator<Item = DeviceKey> {
    let phantoms = config.phantoms.iter().map(|phantom| {
        let role = match phantom.attachment {
            Attachment::Station { side } => Role::Further(side),
            Attachment::Conference | Attachment::Observer { .. } => Role::Phantom,
        };
        (role, &phantom.extension)
    });
    let stations = config.stations.iter().map(|extension| (Role::Station, extension));
    let vdns = config.vdns.iter().map(|extension| (Role::Vdn, extension));
    let skills = config.skills.iter().map(|extension| (Role::Skill, extension));
    phantoms
        .chain(stations)
        .chain(vdns)
        .chain(skills)
        .map(|(role, extension)| DeviceKey { role, extension: extension.clone() })
}

fn crossref_of(watch: &Watch) -> Option<CrossRef> {
    match &watch.state {
        WatchState::Standing { crossref, .. } | WatchState::Doubtful(crossref) => {
            Some(crossref.clone())
        }
        WatchState::Wanted | WatchState::Waiting { .. } => None,
    }
}

/// A monitor that was started for a device that is gone meanwhile.
fn disown(cx: &mut Context, answer: Answer) {
    if let Ok(Response::MonitorStarted(crossref)) = answer {
        let request = Request::MonitorStop { crossref: &crossref };
        // Not sent for want of an invoke ID: the session's end will clean up.
        let _ = cx.wire.send(cx.now, &request, PATIENCE, Purpose::Nothing);
    }
}
