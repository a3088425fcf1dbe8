//! The link to one AES: bytes and times go in, outputs come out. It ties together the session, the
//! devices and the wishes of the trigger; each of them decides for itself.

use std::collections::BTreeSet;
use std::time::Duration;

use storage_core::{CallId, Extension, MonoTime};

use super::backoff::Spread;
use super::config::LinkConfig;
use super::context::{Answer, Context, Purpose};
use super::devices::{Devices, PATIENCE};
use super::error::{CstaError, ErrorCategory};
use super::fields::MessageError;
use super::frame::{Decoder, Frame, Invoke};
use super::message::{self, Message};
use super::notice::{Counters, Fault, Notice, Output};
use super::request::Request;
use super::response::{Response, SystemStatus};
use super::session::{Change, Session};
use super::setup::refusal;
use super::taps::{Taps, Wish};
use super::wire::Wire;
use super::xml;
use crate::Receiver;

/// A frame that has begun must be complete within this. One whose length field says too much would
/// swallow all that follows, and nothing else would show it for minutes.
const FRAME_PATIENCE: Duration = Duration::from_secs(5);

/// The link to one AES.
///
/// Call one `start`, `handle_…`, `join`, … at a time, then drain `poll_output` and ask
/// `poll_timeout` when to call `handle_timeout` next. `jitter` is a fresh random number each time:
/// the link has no random source of its own.
///
/// After `Output::Connect` the shell calls exactly one of `handle_connected` and
/// `handle_connect_failed`, unless `Output::Close` comes first. After `Output::Close` it tells
/// nothing more of that socket.
#[derive(Debug)]
pub struct Link {
    config: LinkConfig,
    wire: Wire<Purpose>,
    spread: Spread,
    decoder: Decoder,
    /// When the frame that is not complete yet must be.
    frame_due: Option<MonoTime>,
    session: Session,
    devices: Devices,
    taps: Taps,
    /// The link between AES and switch, as told last.
    switch_up: Option<bool>,
}

impl Link {
    /// A link that does nothing until `start`.
    #[must_use]
    pub fn new(config: LinkConfig) -> Self {
        Self {
            wire: Wire::new(config.dialect.clone()),
            spread: Spread::default(),
            decoder: Decoder::default(),
            frame_due: None,
            session: Session::new(),
            devices: Devices::new(&config),
            taps: Taps::default(),
            switch_up: None,
            config,
        }
    }

    /// Begins: the first output is `Connect`.
    pub fn start(&mut self, now: MonoTime) {
        let (session, _, _, mut cx) = self.parts(now);
        session.start(&mut cx);
    }

    /// The socket is open.
    pub fn handle_connected(&mut self, now: MonoTime, jitter: u32) {
        self.spread.stir(jitter);
        self.decoder = Decoder::default();
        self.frame_due = None;
        let (session, _, _, mut cx) = self.parts(now);
        let change = session.connected(&mut cx);
        self.changed(now, change);
    }

    /// The socket could not be opened.
    pub fn handle_connect_failed(&mut self, now: MonoTime, jitter: u32) {
        self.spread.stir(jitter);
        let (session, _, _, mut cx) = self.parts(now);
        session.connect_failed(&mut cx);
    }

    /// The socket was closed by the other side, or broke.
    pub fn handle_closed(&mut self, now: MonoTime, jitter: u32) {
        self.spread.stir(jitter);
        let (session, _, _, mut cx) = self.parts(now);
        let change = session.closed(&mut cx);
        self.changed(now, change);
    }

    /// Bytes arrived.
    pub fn handle_bytes(&mut self, now: MonoTime, bytes: &[u8]) {
        if !self.session.has_socket() {
            return;
        }
        self.decoder.push(bytes);
        while self.session.has_socket() {
            match self.decoder.next_frame() {
                Ok(Some(frame)) => {
                    self.frame_due = None;
                    self.frame(now, &frame);
                }
                Ok(None) => break,
                Err(error) => self.stream_broken(now, &error.to_string()),
            }
        }
        if self.decoder.is_within_frame() {
            self.frame_due.get_or_insert(now + FRAME_PATIENCE);
        }
        self.pump(now);
    }

    /// The time of `poll_timeout` has come. Earlier does no harm.
    pub fn handle_timeout(&mut self, now: MonoTime) {
        while let Some((invoke, purpose)) = self.wire.overdue(now) {
            self.wire.counters.timeouts += 1;
            let error = CstaError::new(ErrorCategory::Unanswered, "no answer in time");
            self.answer(now, invoke, purpose, Err(error));
        }
        if self.frame_time().is_some_and(|due| due <= now) {
            self.stream_broken(now, "a frame was begun and not completed");
        }
        let (session, _, _, mut cx) = self.parts(now);
        let change = session.timeout(&mut cx);
        self.changed(now, change);
        self.pump(now);
    }

    /// Adds a phantom to a call as a silent party. `party` is in the call, best a watched station.
    /// The outcome is `Joined`, `JoinRefused` or `JoinTimedOut` with this ticket.
    pub fn join(
        &mut self,
        now: MonoTime,
        ticket: u64,
        call: &CallId,
        party: Extension,
        phantom: &Extension,
    ) {
        self.wish(now, Wish::Join { ticket, call: call.clone(), party, phantom: phantom.clone() });
    }

    /// Takes a phantom out of a call. The outcome is `Left` or `LeaveRefused`; a device that is
    /// none of our phantoms is refused without being sent.
    pub fn leave(&mut self, now: MonoTime, phantom: &Extension, call: &CallId) {
        let (_, devices, taps, mut cx) = self.parts(now);
        taps.leave(&mut cx, devices, phantom, call);
    }

    /// A device that should be sent media is not: its registration is looked at, or its observation
    /// dialled again. `PhantomLost` and `PhantomReady` follow where that changes anything.
    pub fn attach(&mut self, now: MonoTime, receiver: &Receiver) {
        let (_, devices, _, mut cx) = self.parts(now);
        devices.attach(&mut cx, receiver);
        self.pump(now);
    }

    /// Asks for the parties of a call. The outcome is `Snapshot`, `SnapshotCallGone` or
    /// `SnapshotRefused`.
    pub fn snapshot_call(&mut self, now: MonoTime, call: &CallId, party: Extension) {
        self.wish(now, Wish::Snapshot { call: call.clone(), party });
    }

    /// Asks for the UCID of a call whose events told none. The outcome is `Linkage`.
    pub fn call_linkage(&mut self, now: MonoTime, call: &CallId, party: Extension) {
        self.wish(now, Wish::Linkage { call: call.clone(), party });
    }

    /// Asks what the AES calls a number at the configuration's switch, as before each monitor: it changes nothing there, and
    /// needs no licence (dossier 3.3). The outcome is `Named` or `NameRefused`.
    pub fn name(&mut self, now: MonoTime, extension: &Extension) {
        let switch_name = self.config.switch_name.as_str();
        let request = Request::GetThirdPartyDeviceId { switch_name, extension };
        if let Err(error) = self.wire.send(now, &request, PATIENCE, Purpose::Name) {
            self.wire.tell(Notice::NameRefused { error });
        }
    }

    /// Takes a new configuration. Devices come and go, refused phantoms and a refused login are
    /// tried again. User, switch name and session times take effect with the next session; a
    /// phantom's addresses, codecs and encryption with its next registration.
    pub fn reload(&mut self, now: MonoTime, config: LinkConfig) {
        self.wire.dialect = config.dialect.clone();
        self.config = config;
        let (session, devices, _, mut cx) = self.parts(now);
        devices.reload(&mut cx);
        session.reload(&mut cx);
        self.pump(now);
    }

    /// Watches these stations as well, and leaves everything else as it is.
    pub fn watch_also(&mut self, now: MonoTime, stations: BTreeSet<Extension>) {
        let known: BTreeSet<&Extension> = self.config.stations.iter().collect();
        let new: Vec<_> = stations.into_iter().filter(|s| !known.contains(s)).collect();
        if new.is_empty() {
            return;
        }
        self.config.stations.extend(new.iter().cloned());
        let (_, devices, _, cx) = self.parts(now);
        devices.watch_also(&cx, new);
        self.pump(now);
    }

    /// Ends the session in order, which releases all devices. `is_stopped` says when it is done;
    /// that takes 3 s at most.
    pub fn stop(&mut self, now: MonoTime) {
        self.pause(now);
        let (session, _, _, mut cx) = self.parts(now);
        session.stop(&mut cx);
    }

    /// The next thing to do; `None` when there is nothing more for now.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.wire.poll()
    }

    /// When `handle_timeout` must be called; it changes with each input.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        let of_socket = [self.session.next_time(), self.frame_time()];
        let of_requests = [self.wire.next_deadline(), self.devices_time()];
        of_socket.into_iter().chain(of_requests).flatten().min()
    }

    /// A session is up, so requests can be made.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.session.is_up()
    }

    /// Not started, or stopped and done with it.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.session.is_off()
    }

    /// Of the agents that are followed, those who are logged in: at how many stations.
    #[must_use]
    pub fn agents_present(&self) -> usize {
        self.devices.present.len()
    }

    /// Counts since `new`.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.wire.counters
    }

    /// Nothing behind what was read last can be understood.
    fn stream_broken(&mut self, now: MonoTime, detail: &str) {
        self.wire.fault(Fault::BrokenFrame, detail);
        let (session, _, _, mut cx) = self.parts(now);
        let change = session.broken(&mut cx);
        self.changed(now, change);
    }

    fn frame_time(&self) -> Option<MonoTime> {
        self.frame_due.filter(|_| self.session.has_socket())
    }

    fn devices_time(&self) -> Option<MonoTime> {
        self.session.is_up().then(|| self.devices.next_time()).flatten()
    }

    fn parts(&mut self, now: MonoTime) -> (&mut Session, &mut Devices, &mut Taps, Context<'_>) {
        let Self { config, wire, spread, session, devices, taps, .. } = self;
        (session, devices, taps, Context { now, config, wire, spread })
    }

    fn pump(&mut self, now: MonoTime) {
        let (_, devices, _, mut cx) = self.parts(now);
        devices.pump(&mut cx);
    }

    fn wish(&mut self, now: MonoTime, wish: Wish) {
        let (_, devices, taps, mut cx) = self.parts(now);
        taps.wish(&mut cx, devices, wish);
    }

    fn frame(&mut self, now: MonoTime, frame: &Frame) {
        let message = match xml::parse(&frame.body) {
            Ok(element) => message::parse(&element).map_err(|error| match &error {
                MessageError::Unknown { .. } => (Fault::UnknownMessage, error.to_string()),
                MessageError::Missing { .. } => (Fault::MissingField, error.to_string()),
            }),
            Err(error) => Err((Fault::NotXml, error.to_string())),
        };
        match message {
            Ok(Message::Response(response)) => self.response(now, frame.invoke, Ok(response)),
            Ok(Message::Error(error)) => self.response(now, frame.invoke, Err(error)),
            Ok(Message::Monitor(event)) => {
                let (_, devices, _, mut cx) = self.parts(now);
                devices.event(&mut cx, event);
            }
            Ok(Message::SessionTerminated { session, reason }) => {
                let (sessions, _, _, mut cx) = self.parts(now);
                let change = sessions.terminated(&mut cx, session.as_deref(), reason);
                self.changed(now, change);
            }
            Ok(Message::SystemStatus(status)) => self.system_status(now, &status),
            Err((what, detail)) => {
                self.wire.fault(what, &detail);
                self.unusable(now, frame.invoke, what, &detail);
            }
        }
    }

    /// What can be saved of a message that cannot be used.
    fn unusable(&mut self, now: MonoTime, invoke: Invoke, what: Fault, detail: &str) {
        match invoke {
            // The request it answers has had its answer; waiting longer would be in vain.
            Invoke::Answer(invoke) => {
                if let Some(purpose) = self.wire.answered(invoke) {
                    let error = CstaError::new(ErrorCategory::BadAnswer, detail);
                    self.answer(now, invoke, purpose, Err(error));
                }
            }
            // A message of a kind that we do not know tells nothing that we would miss.
            Invoke::Event | Invoke::Malformed if what == Fault::UnknownMessage => {}
            Invoke::Event | Invoke::Malformed => {
                if self.session.is_up() {
                    self.devices.event_missed(now);
                }
            }
        }
    }

    fn response(&mut self, now: MonoTime, invoke: Invoke, answer: Answer) {
        let Invoke::Answer(invoke) = invoke else {
            self.wire.fault(Fault::UnexpectedAnswer, "with the number of an event");
            return;
        };
        let Some(purpose) = self.wire.answered(invoke) else {
            self.wire.fault(Fault::UnexpectedAnswer, &format!("with the number {invoke:04}"));
            return;
        };
        self.answer(now, invoke, purpose, answer);
    }

    fn answer(&mut self, now: MonoTime, invoke: u16, purpose: Purpose, answer: Answer) {
        if let Err(error) = &answer {
            self.wire.count_error(error);
        }
        let (session, devices, taps, mut cx) = self.parts(now);
        match purpose {
            Purpose::Session(step) => {
                let change = session.answer(&mut cx, step, answer);
                self.changed(now, change);
            }
            Purpose::Device(key, step) => devices.answer(&mut cx, &key, &step, answer),
            Purpose::Tap(tap) => taps.answer(&mut cx, devices, invoke, tap, answer),
            Purpose::WatchSwitch => {
                if let Err(error) = answer {
                    cx.wire.tell(Notice::CtiLinkUnknown { error });
                }
            }
            Purpose::AskSwitch => {
                if let Ok(Response::SystemStatus(status)) = answer {
                    self.system_status(now, &status);
                }
            }
            Purpose::Name => {
                let notice = match answer {
                    Ok(Response::DeviceId(_)) => Notice::Named,
                    other => Notice::NameRefused { error: refusal(&mut cx, other) },
                };
                cx.wire.tell(notice);
            }
            Purpose::Nothing => {}
        }
    }

    fn changed(&mut self, now: MonoTime, change: Change) {
        match change {
            Change::None => {}
            Change::Down => self.pause(now),
            Change::Up { recovered } => {
                let (_, devices, taps, mut cx) = self.parts(now);
                devices.resume(&mut cx, recovered);
                taps.resume(recovered);
                if !recovered {
                    self.watch_switch(now);
                }
                self.ask_switch(now);
                self.pump(now);
            }
        }
    }

    /// No request can be made, and no answer will come.
    fn pause(&mut self, now: MonoTime) {
        let open = self.wire.abandon().into_iter();
        let open = open.filter_map(|purpose| match purpose {
            Purpose::Tap(tap) => Some(tap),
            _ => None,
        });
        let open = open.collect();
        let (_, devices, taps, mut cx) = self.parts(now);
        devices.pause();
        taps.pause(&mut cx, open);
    }

    fn watch_switch(&mut self, now: MonoTime) {
        self.switch_up = None;
        let request = Request::SystemRegister { switch_name: &self.config.switch_name };
        if let Err(error) = self.wire.send(now, &request, PATIENCE, Purpose::WatchSwitch) {
            self.wire.tell(Notice::CtiLinkUnknown { error });
        }
    }

    /// Events tell only changes, and those of an outage were missed. A server that cannot be asked
    /// is believed to be as it was.
    fn ask_switch(&mut self, now: MonoTime) {
        let _ = self.wire.send(now, &Request::RequestSystemStatus, PATIENCE, Purpose::AskSwitch);
    }

    /// After the switch link was down, call control must be set up again (dossier 6.10).
    fn system_status(&mut self, now: MonoTime, status: &SystemStatus) {
        let Some(up) = status.of_switch(&self.config.switch_name) else { return };
        let before = self.switch_up.replace(up);
        if before == Some(up) {
            return;
        }
        self.wire.tell(Notice::CtiLink { up });
        if up && before == Some(false) && self.session.is_up() {
            let (_, devices, _, mut cx) = self.parts(now);
            devices.switch_is_back(&mut cx);
        }
    }
}
