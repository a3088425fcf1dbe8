//! What the answers to set-up requests mean for a device: what it has got, what it has lost, and
//! what others must be told. Which request comes next follows from that, in `device`.

use std::time::Duration;

use storage_core::CallId;

use super::backoff::doubling;
use super::context::{Answer, Context};
use super::device::{Device, DeviceKey, Role, Snapshot, WatchState};
use super::devices::{Devices, RETRY_MAX, RETRY_MIN};
use super::error::{CstaError, ErrorCategory};
use super::logins::Reason;
use super::notice::{Fault, LostCause, Notice};
use super::observe::Observation;
use super::register;
use super::request::MonitorKind;
use super::response::{RegistrationAnswer, RegistrationState, Response, SnapshotAnswer};
use crate::call::event::{AgentEvent, CallSnapshot};

/// More calls than a station can have.
const CALLS_MAX: usize = 64;

impl Devices {
    pub(super) fn id_answered(&mut self, cx: &mut Context, key: &DeviceKey, answer: Answer) {
        let Some(device) = self.table.get_mut(key) else { return };
        match answer {
            Ok(Response::DeviceId(id)) => device.id = Some(id),
            other => {
                let error = refusal(cx, other);
                let taken = matches!(key.role, Role::Further(_)) && error.is_busy();
                if taken && self.try_next_place(cx, key) {
                    return;
                }
                self.fail(cx, key, &error);
            }
        }
    }

    pub(super) fn monitor_answered(
        &mut self,
        cx: &mut Context,
        key: &DeviceKey,
        kind: MonitorKind,
        answer: Answer,
    ) {
        let crossref = match answer {
            Ok(Response::MonitorStarted(crossref)) => crossref,
            other => {
                let error = refusal(cx, other);
                self.monitor_refused(cx, key, kind, &error);
                return;
            }
        };
        self.monitors.insert(crossref.clone(), (key.clone(), kind));
        self.strays.remove(&crossref);
        self.set_watch(
            key,
            kind,
            WatchState::Standing { crossref: crossref.clone(), since: cx.now },
        );
        if let Some(device) = self.table.get_mut(key) {
            device.failures = 0;
            device.told = false;
            // Who is followed is known to be there.
            if key.role == Role::Station && device.reason == Reason::Named {
                device.agent_at = Some(cx.now);
            }
            if kind == MonitorKind::Agents {
                device.logins.iter_mut().for_each(|list| list.want(cx.now));
            }
            if let Some(watch) = device.watch_mut(kind) {
                watch.told = false;
            }
        }
        self.deliver_early(cx, &crossref);
    }

    fn monitor_refused(
        &mut self,
        cx: &mut Context,
        key: &DeviceKey,
        kind: MonitorKind,
        error: &CstaError,
    ) {
        let Some(device) = self.table.get_mut(key) else { return };
        let Some(watch) = device.watch_mut(kind) else { return };
        watch.failures = watch.failures.saturating_add(1);
        let delay = cx.spread.lengthened(doubling(RETRY_MIN, RETRY_MAX, watch.failures));
        watch.state = WatchState::Waiting { until: cx.now + delay };
        let (needed, told) = (watch.needed, std::mem::replace(&mut watch.told, true));
        if needed && self.is_lost_to_sight(cx, key) {
            return;
        }
        if !told {
            let (device, error) = (key.monitor(), error.clone());
            cx.wire.tell(Notice::MonitorRefused { device, error });
        }
        if needed && register::says_unknown_device(error) {
            self.forget_device(cx, key);
        }
    }

    pub(super) fn set_watch(&mut self, key: &DeviceKey, kind: MonitorKind, state: WatchState) {
        let device = self.table.get_mut(key);
        if let Some(watch) = device.and_then(|device| device.watch_mut(kind)) {
            watch.state = state;
        }
    }

    pub(super) fn calls_answered(&mut self, cx: &mut Context, key: &DeviceKey, answer: Answer) {
        let answer = match answer {
            Ok(Response::DeviceCalls(calls)) => Ok(calls),
            other => Err(refusal(cx, other)),
        };
        if self.is_let_go(cx, key, answer.as_deref()) {
            return;
        }
        let Some(device) = self.table.get_mut(key) else { return };
        match answer {
            Ok(mut calls) => {
                device.call_missed = calls.len() > CALLS_MAX;
                calls.truncate(CALLS_MAX);
                device.snapshot = Snapshot::Calls(calls);
                finish_snapshot(device);
            }
            // A phantom must not stay unregistered because of it.
            Err(_) if key.role == Role::Phantom => {
                device.snapshot = Snapshot::Done { complete: false };
            }
            Err(error) => self.fail(cx, key, &error),
        }
    }

    pub(super) fn call_answered(
        &mut self,
        cx: &mut Context,
        key: &DeviceKey,
        call: &CallId,
        answer: Answer,
    ) {
        let seen = match answer {
            Ok(Response::Call(snapshot)) => {
                cx.wire.tell(Notice::Snapshot(call_snapshot(key, call, *snapshot)));
                true
            }
            other => {
                let error = refusal(cx, other);
                if error.is_gone() {
                    let (call, party) = (call.clone(), key.extension.clone());
                    cx.wire.tell(Notice::SnapshotCallGone { call, party });
                }
                error.is_gone()
            }
        };
        let Some(device) = self.table.get_mut(key) else { return };
        device.call_missed |= !seen;
        if let Snapshot::Calls(calls) = &mut device.snapshot {
            calls.retain(|waiting| waiting != call);
            finish_snapshot(device);
        }
    }

    pub(super) fn check_answered(&mut self, cx: &mut Context, key: &DeviceKey, answer: Answer) {
        let answer = match answer {
            Ok(Response::RegistrationState(state)) => Ok(state),
            other => Err(refusal(cx, other)),
        };
        let device = self.table.get_mut(key);
        let Some(terminal) = device.and_then(|device| device.terminal.as_mut()) else { return };
        match answer {
            Ok(RegistrationState::Registered) => self.registered(cx, key),
            Ok(RegistrationState::Idle) => self.unregistered(cx, key, LostCause::FoundUnregistered),
            Err(error) if register::says_unknown_device(&error) => self.forget_device(cx, key),
            Ok(RegistrationState::Changing) => terminal.check_later(cx.now, cx.spread),
            Err(_) => terminal.check_failed(cx.now, cx.spread),
        }
    }

    pub(super) fn registration_answered(
        &mut self,
        cx: &mut Context,
        key: &DeviceKey,
        answer: Answer,
    ) {
        let answer = match answer {
            Ok(Response::Registration(answer)) => Ok(answer),
            other => Err(refusal(cx, other)),
        };
        match answer {
            Ok(answer) if register::registration_succeeded(&answer) => self.registered(cx, key),
            Ok(RegistrationAnswer { code, reason, .. }) => {
                self.registration_refused(cx, key, code, reason);
            }
            Err(error) if error.category == ErrorCategory::Unanswered => {
                let device = self.table.get_mut(key);
                if let Some(terminal) = device.and_then(|device| device.terminal.as_mut()) {
                    terminal.unanswered(cx.now, cx.spread);
                }
                self.tell_refused(cx, key, None, error.to_string(), true);
            }
            Err(error) => {
                self.registration_refused(cx, key, None, error.to_string());
                if register::says_unknown_device(&error) {
                    self.forget_device(cx, key);
                }
            }
        }
    }

    fn registration_refused(
        &mut self,
        cx: &mut Context,
        key: &DeviceKey,
        code: Option<i64>,
        reason: String,
    ) {
        let wrong_code = register::wrong_security_code(code, &reason);
        let further = matches!(key.role, Role::Further(_));
        let taken = further && register::says_no_place(&reason);
        let next = taken && self.try_next_place(cx, key);
        let device = self.table.get_mut(key);
        let Some(terminal) = device.and_then(|device| device.terminal.as_mut()) else { return };
        if next {
            return terminal.passed_over();
        }
        if wrong_code {
            terminal.refused();
        } else {
            terminal.failed(cx.now, cx.spread);
        }
        self.tell_refused(cx, key, code, reason, !wrong_code);
    }

    fn tell_refused(
        &mut self,
        cx: &mut Context,
        key: &DeviceKey,
        code: Option<i64>,
        reason: String,
        retried: bool,
    ) {
        let phantom = key.receiver();
        cx.wire.tell(Notice::PhantomRefused { phantom, code, reason, retried });
    }

    /// A registration stands, by whatever way it became known.
    pub(super) fn registered(&mut self, cx: &mut Context, key: &DeviceKey) {
        let mut device = self.table.get_mut(key);
        let terminal = device.as_mut().and_then(|device| device.terminal.as_mut());
        let Some(terminal) = terminal else { return };
        if !terminal.registered(cx.now, cx.spread) {
            return;
        }
        match device.and_then(|device| device.observation.as_mut()) {
            Some(observation) => observation.begin(cx.now),
            None => cx.wire.tell(Notice::PhantomReady { phantom: key.receiver() }),
        }
    }

    /// The answer to a part of the dialogue by which a phantom comes to observe its station.
    pub(super) fn observing_answered(&mut self, cx: &mut Context, key: &DeviceKey, answer: Answer) {
        match answer {
            Ok(Response::Done) => {
                let device = self.table.get_mut(key);
                let observation = device.and_then(|device| device.observation.as_mut());
                if observation.is_some_and(|observation| observation.answered(cx.now)) {
                    cx.wire.tell(Notice::PhantomReady { phantom: key.receiver() });
                }
            }
            other => {
                let error = refusal(cx, other);
                self.observation_refused(cx, key, &error.to_string());
            }
        }
    }

    /// The switch does not let a phantom observe its station; it is dialled again later.
    pub(super) fn observation_refused(&mut self, cx: &mut Context, key: &DeviceKey, why: &str) {
        let device = self.table.get_mut(key);
        let observation = device.and_then(|device| device.observation.as_mut());
        if observation.is_some_and(|observation| observation.again(cx.now, cx.spread)) {
            self.tell_refused(cx, key, None, format!("observing: {why}"), true);
        }
    }

    /// A phantom does not hear its station any more; it is dialled again.
    pub(super) fn observation_ended(&mut self, cx: &mut Context, key: &DeviceKey) {
        let device = self.table.get_mut(key);
        let observation = device.and_then(|device| device.observation.as_mut());
        if observation.is_some_and(|observation| observation.again(cx.now, cx.spread)) {
            let (phantom, cause) = (key.receiver(), LostCause::NotObserving);
            cx.wire.tell(Notice::PhantomLost { phantom, cause });
        }
    }

    /// A registration is gone; it comes back by its own step.
    pub(super) fn unregistered(&mut self, cx: &mut Context, key: &DeviceKey, cause: LostCause) {
        let Some(device) = self.table.get_mut(key) else { return };
        let Some(terminal) = device.terminal.as_mut() else { return };
        device.observation.iter_mut().for_each(Observation::reset);
        if terminal.lost(cx.now, cx.spread) {
            let phantom = key.receiver();
            cx.wire.tell(Notice::PhantomLost { phantom, cause });
        }
    }

    pub(super) fn agent_answered(&mut self, cx: &mut Context, key: &DeviceKey, answer: Answer) {
        let answer = match answer {
            Ok(Response::Agent(agent)) => Ok(agent),
            other => Err(refusal(cx, other)),
        };
        let Some(device) = self.table.get_mut(key) else { return };
        let poll = Duration::from_secs(cx.config.dialect.agent_poll_seconds);
        // A station that cannot be asked is not asked again in this session, but where that decides
        // whether it is watched.
        let again = answer.is_ok() || device.reason != Reason::Named;
        device.agent_at = (again && !poll.is_zero()).then(|| cx.now + cx.spread.lengthened(poll));
        match answer {
            Ok(agentid) => {
                let (station, split) = (key.extension.clone(), None);
                self.agent_is(cx, AgentEvent { station, agentid, split });
            }
            Err(error) if device.reason == Reason::Asked => self.fail(cx, key, &error),
            Err(_) => {}
        }
    }

    /// Who is logged in at a skill is told by events; the answer says that they come.
    pub(super) fn logins_answered(&mut self, cx: &mut Context, key: &DeviceKey, answer: Answer) {
        if !matches!(answer, Ok(Response::Done)) {
            let error = refusal(cx, answer);
            self.list_refused(cx, key, &error);
        }
    }
}

fn finish_snapshot(device: &mut Device) {
    if matches!(&device.snapshot, Snapshot::Calls(calls) if calls.is_empty()) {
        device.snapshot = Snapshot::Done { complete: !device.call_missed };
    }
}

pub(super) fn call_snapshot(
    key: &DeviceKey,
    call: &CallId,
    answer: SnapshotAnswer,
) -> CallSnapshot {
    CallSnapshot {
        call: call.clone(),
        monitor: key.monitor(),
        parties: answer.parties,
        facts: answer.facts,
    }
}

/// Makes an error of an answer that is not the one wanted.
pub(super) fn refusal(cx: &mut Context, answer: Answer) -> CstaError {
    match answer {
        Err(error) => error,
        Ok(_) => {
            cx.wire.fault(Fault::WrongAnswer, "");
            CstaError::new(ErrorCategory::BadAnswer, "the answer is one to another request")
        }
    }
}
