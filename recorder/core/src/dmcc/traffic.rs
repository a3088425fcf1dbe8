//! What the monitors report: passes on what is of others' business, and keeps the devices true to
//! what happened to them. An event may come before the answer that names its monitor (register
//! no. 19), and a monitor may be ended by the server (no. 8).

use std::time::Duration;

use super::backoff::doubling;
use super::context::{Context, Purpose};
use super::device::{DeviceKey, Watch, WatchState};
use super::devices::{Devices, PATIENCE, RETRY_MAX, RETRY_MIN};
use super::event::{Event, MediaStart, MonitorEvent};
use super::fields::CrossRef;
use super::notice::{Fault, LostCause, Notice};
use super::register;
use super::request::{MonitorKind, Request};
use crate::call::event::{CallChange, CallEvent};

/// A monitor that stood this long has worked: losing it is no failure of its own.
const WORKED: Duration = Duration::from_secs(30);
/// Unknown monitors that are remembered as told to stop.
const STRAYS_MAX: usize = 256;

impl Devices {
    /// An event arrived.
    pub fn event(&mut self, cx: &mut Context, event: MonitorEvent) {
        match self.monitors.get(&event.crossref) {
            Some((key, kind)) => {
                let (key, kind) = (key.clone(), *kind);
                self.report(cx, &key, kind, event);
            }
            None if self.monitors_open > 0 => {
                if self.early.len() == register::EARLY_EVENTS_MAX {
                    self.early.pop_front();
                    cx.wire.fault(Fault::UnknownMonitor, "too many events of unknown monitors");
                }
                self.early.push_back(event);
            }
            None => self.stray(cx, &event),
        }
    }

    /// A monitor has got its name: what it has reported before is reported now.
    pub(super) fn deliver_early(&mut self, cx: &mut Context, crossref: &CrossRef) {
        let early = std::mem::take(&mut self.early);
        let (ours, others) = early.into_iter().partition(|event| event.crossref == *crossref);
        self.early = others;
        for event in ours {
            self.event(cx, event);
        }
    }

    /// No monitor is being started any more, so what still waits belongs to nobody.
    pub(super) fn sweep_early(&mut self, cx: &mut Context) {
        if self.monitors_open == 0 {
            for event in std::mem::take(&mut self.early) {
                self.stray(cx, &event);
            }
        }
    }

    /// An event of a monitor that we do not have: one whose start was not answered in time, or one
    /// that was being started when the connection broke. It is stopped, once.
    fn stray(&mut self, cx: &mut Context, event: &MonitorEvent) {
        cx.wire.fault(Fault::UnknownMonitor, event.crossref.as_str());
        let ended = event.event == Event::MonitorStopped;
        if ended || self.strays.len() == STRAYS_MAX || !self.strays.insert(event.crossref.clone()) {
            return;
        }
        let request = Request::MonitorStop { crossref: &event.crossref };
        // Not sent for want of an invoke ID: it goes on being ignored.
        let _ = cx.wire.send(cx.now, &request, PATIENCE, Purpose::Nothing);
    }

    fn report(
        &mut self,
        cx: &mut Context,
        key: &DeviceKey,
        kind: MonitorKind,
        event: MonitorEvent,
    ) {
        cx.wire.counters.events += 1;
        match event.event {
            Event::Call(change, facts) => {
                if let CallChange::Failed(connection) = &*change
                    && connection.device.number() == Some(&key.extension)
                {
                    self.observation_refused(cx, key, "the switch refuses it");
                    self.settle(cx.now, key);
                }
                let monitor = key.monitor();
                cx.wire.tell(Notice::Call(CallEvent { monitor, change: *change, facts: *facts }));
                self.look_if_left(cx.now, key);
            }
            Event::Agent(agent) => self.agent_told(cx, agent),
            Event::LoggedIn { stations, last } => self.logged_in(cx, key, &stations, last),
            Event::MonitorStopped => self.monitor_stopped(cx, key, kind, &event.crossref),
            event if key.is_terminal() => self.terminal_event(cx, key, event),
            _ => {}
        }
    }

    fn terminal_event(&mut self, cx: &mut Context, key: &DeviceKey, event: Event) {
        match event {
            Event::MediaStarted(media) => tell_media(cx, key, media),
            Event::MediaStopped => {
                cx.wire.tell(Notice::MediaStopped { phantom: key.receiver() });
            }
            Event::TerminalUnregistered { code, reason } => {
                self.terminal_unregistered(cx, key, code, reason);
            }
            Event::TerminalReregistered(answer) => {
                if register::registration_succeeded(&answer) {
                    self.registered(cx, key);
                }
            }
            Event::EndpointUnregistered => {
                let device = self.table.get_mut(key);
                if let Some(terminal) = device.and_then(|device| device.terminal.as_mut()) {
                    terminal.check(cx.now);
                }
            }
            Event::EndpointRegistered
            | Event::Call(..)
            | Event::Agent(_)
            | Event::LoggedIn { .. }
            | Event::MonitorStopped => {}
        }
        self.settle(cx.now, key);
    }

    fn terminal_unregistered(
        &mut self,
        cx: &mut Context,
        key: &DeviceKey,
        code: Option<i64>,
        reason: String,
    ) {
        let wrong_code = register::wrong_security_code(code, &reason);
        let cause = LostCause::Unregistered { code, reason: reason.clone() };
        self.unregistered(cx, key, cause);
        let device = self.table.get_mut(key);
        if let Some(terminal) = device.and_then(|device| device.terminal.as_mut())
            && wrong_code
        {
            terminal.refused();
            let phantom = key.receiver();
            cx.wire.tell(Notice::PhantomRefused { phantom, code, reason, retried: false });
        }
    }

    /// The server ended a monitor. It is started again, and what may have happened unseen is asked
    /// for: whether the phantom is still registered, or all calls.
    fn monitor_stopped(
        &mut self,
        cx: &mut Context,
        key: &DeviceKey,
        kind: MonitorKind,
        crossref: &CrossRef,
    ) {
        self.monitors.remove(crossref);
        let Some(device) = self.table.get_mut(key) else { return };
        if let Some(watch) = device.watch_mut(kind) {
            start_again(cx, watch);
        }
        if let Some(terminal) = &mut device.terminal
            && kind == MonitorKind::Media
        {
            terminal.check(cx.now);
        }
        if matches!(kind, MonitorKind::Calls | MonitorKind::CallsVia) {
            self.begin_resync(cx);
        } else {
            self.settle(cx.now, key);
        }
    }
}

/// At once, unless it has ended again soon after it was started.
fn start_again(cx: &mut Context, watch: &mut Watch) {
    match &watch.state {
        // Its stop is already under way, and is followed by a start.
        WatchState::Doubtful(_) => return,
        WatchState::Standing { since, .. } if cx.now.since(*since) < WORKED => {}
        _ => watch.failures = 0,
    }
    watch.state = match watch.failures {
        0 => WatchState::Wanted,
        failures => {
            let delay = cx.spread.lengthened(doubling(RETRY_MIN, RETRY_MAX, failures));
            WatchState::Waiting { until: cx.now + delay }
        }
    };
    watch.failures = watch.failures.saturating_add(1);
}

fn tell_media(cx: &mut Context, key: &DeviceKey, media: MediaStart) {
    let MediaStart { source, codec, packet_ms, encryption, receive_key, receive_salt } = media;
    let dialect = &cx.config.dialect;
    let protection = dialect.protection(encryption.as_deref(), &receive_key, &receive_salt);
    cx.wire.tell(Notice::MediaStarted {
        phantom: key.receiver(),
        source,
        codec: register::codec_from_wire(&codec),
        packet_ms: packet_ms.unwrap_or(cx.config.packet_ms),
        protection,
    });
}
