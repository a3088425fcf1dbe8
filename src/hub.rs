//! Where what the recorder tells becomes visible: metrics, events for watchers, alarms, log lines.
//! It decides what is said of each thing, and changes nothing in the recorder.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use recorder::control_task::{Outlet, Told};
use recorder::media_thread::{MediaHandle, Protected};
use recorder_core::call::{Alarm as CallAlarm, CallView, LiveEvent, Order, PauseOrder, RingOrder};
use recorder_core::dmcc::{DownCause, Notice};
use serde_json::{Map, Value, json};
use storage::{Catalog, CatalogError, VoiceStore};
use storage_core::journal::Fact;
use storage_core::marks::Marks;
use storage_core::record::TriggerKind;
use storage_core::{Extension, Recording, RecordingId, Redacted};
use tokio::sync::{broadcast, mpsc};

use crate::alarms::{Alarm, Alarms};
use crate::metrics::Metrics;
use crate::preflight::connect_remedy;
use crate::seen::SeenCalls;
use crate::tidings::Tiding;
use crate::web::backend::{Event, Topic};

/// A media thread that was held up is given so long to tell what it heard.
const STALL_REMEMBERED: Duration = Duration::from_secs(3);
/// Events that a slow watcher may be behind before it loses some.
const EVENTS_BEHIND_MAX: usize = 4096;
/// Entries into the catalog that whoever follows them may be behind before he has to look at all.
const ENTRIES_BEHIND_MAX: usize = 4096;

/// Events that the group may be behind before it hears not of all.
const TIDINGS_BEHIND_MAX: usize = 4096;

const LOOK_AT_AES: &str =
    "look at the AES and the network to it; calls in progress go on being captured";

/// Something that the catalog lists from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// This recording, or another revision of it.
    One(RecordingId),
    /// More than is told one by one.
    Many,
}

/// What is told goes through here.
pub struct Hub {
    /// All metrics.
    pub metrics: Arc<Metrics>,
    /// What is wrong now.
    pub alarms: Alarms,
    events: broadcast::Sender<Arc<Event>>,
    entries: broadcast::Sender<Entered>,
    tidings: broadcast::Sender<Arc<Tiding>>,
    /// What is entered is compared with what is there, one at a time.
    entering: Mutex<()>,
    /// Knows what is never entered again.
    deleted: OnceLock<VoiceStore>,
}

impl Hub {
    /// Nothing told yet.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        let (events, _) = broadcast::channel(EVENTS_BEHIND_MAX);
        let alarms = Alarms::new(events.clone(), Arc::clone(&metrics));
        let (entries, _) = broadcast::channel(ENTRIES_BEHIND_MAX);
        let (tidings, _) = broadcast::channel(TIDINGS_BEHIND_MAX);
        Self {
            metrics,
            alarms,
            events,
            entries,
            tidings,
            entering: Mutex::default(),
            deleted: OnceLock::new(),
        }
    }

    /// From now on what was deleted there is never entered.
    pub fn leaves_out_deleted_of(&self, voices: &VoiceStore) {
        // There is one for each node.
        let _ = self.deleted.set(voices.clone());
    }

    /// Takes a deleted recording out of the catalog; false if that failed.
    pub fn forget(&self, id: RecordingId, catalog: &dyn Catalog) -> bool {
        let _turn = self.entering.lock().unwrap_or_else(PoisonError::into_inner);
        let removed = catalog.remove(id);
        if let Err(error) = &removed {
            tracing::error!(recording = %id, %error, "a deleted recording is still listed");
        }
        removed.is_ok()
    }

    /// Everything that happens from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }

    /// What is entered into the catalog from now on.
    #[must_use]
    pub fn entered(&self) -> broadcast::Receiver<Entered> {
        self.entries.subscribe()
    }

    /// The catalog was brought in line as a whole.
    pub fn entered_many(&self) {
        // Where copies are not kept nobody follows it.
        drop(self.entries.send(Entered::Many));
    }

    /// What happens here, from now on, for those who watch at other nodes.
    #[must_use]
    pub fn tidings(&self) -> broadcast::Receiver<Arc<Tiding>> {
        self.tidings.subscribe()
    }

    /// A peer tells what happens there. A recorder sees for itself when a call is paused, and lists what is published:
    /// both are told from there.
    pub fn heard(&self, tidings: Vec<Tiding>, is_recorder: bool) {
        for tiding in tidings {
            let Some((name, topic)) = tiding.known() else { continue };
            if is_recorder && name != "recordingstarted" {
                continue;
            }
            self.event(topic, name, tiding.extensions, tiding.body);
        }
    }

    /// Tells those who watch here, and at those other nodes that are to hear of it (see [`crate::tidings`]).
    pub fn spread(
        &self,
        topic: Topic,
        eventtype: &'static str,
        extensions: Vec<Extension>,
        body: Map<String, Value>,
    ) {
        let tiding = Tiding {
            eventtype: eventtype.to_owned(),
            extensions: extensions.clone(),
            body: body.clone(),
        };
        // A node alone has nobody to tell.
        drop(self.tidings.send(Arc::new(tiding)));
        self.event(topic, eventtype, extensions, body);
    }

    /// Tells those who watch here.
    pub fn event(
        &self,
        topic: Topic,
        eventtype: &'static str,
        extensions: Vec<Extension>,
        body: Map<String, Value>,
    ) {
        // Without watchers nobody needs to hear of it.
        drop(self.events.send(Arc::new(Event::new(topic, eventtype, extensions, body))));
    }

    /// A recording cannot be sealed.
    pub fn not_sealed(&self, recordingid: RecordingId, error: &dyn std::fmt::Display) {
        self.alarms.raise(Alarm {
            name: "sealfailed",
            subject: recordingid.to_string(),
            message: format!("recording {recordingid} cannot be sealed: {error}"),
            remedy: "its capture is kept; restart the node to try again",
        });
    }

    /// Enters a record into the catalog, with what people wrote about it there; false if that failed,
    /// which is told.
    pub fn enter(&self, recording: &Recording, catalog: &dyn Catalog) -> bool {
        let entered = self.put(recording, catalog);
        self.alarms.set(
            entered.is_err(),
            Alarm {
                name: "catalog",
                subject: String::new(),
                message: match &entered {
                    Ok(()) => String::new(),
                    Err(error) => format!("a recording could not be entered: {error}"),
                },
                remedy: "its files are safe; it is entered at the next start or by astlogger reindex",
            },
        );
        if entered.is_ok() {
            drop(self.entries.send(Entered::One(recording.recordingid)));
        }
        entered.is_ok()
    }

    fn put(&self, recording: &Recording, catalog: &dyn Catalog) -> Result<(), CatalogError> {
        let _turn = self.entering.lock().unwrap_or_else(PoisonError::into_inner);
        let id = recording.recordingid;
        if self.deleted.get().is_some_and(|voices| voices.is_deleted(id)) {
            return Ok(());
        }
        let mut recording = recording.clone();
        if let Some(known) = catalog.get(recording.recordingid)? {
            Marks::of(&known).merge_into(&mut recording);
        }
        catalog.put(&recording)
    }

    /// A recording was published by this node.
    pub fn published(&self, recording: &Recording) {
        let metrics = &self.metrics;
        metrics.recordings_published.with_label_values(&[recording.trigger.as_str()]).inc();
        for segment in &recording.segments {
            metrics.media.rtp_lost.inc_by(segment.lost);
            metrics.media.rtp_late.inc_by(segment.late);
        }
        tracing::info!(
            call = recording.ucid.as_ref().map(tracing::field::display),
            recording = %recording.recordingid,
            extension = %Redacted(recording.extension.as_str()),
            calling = %Redacted(&recording.calling),
            durationms = recording.durationms,
            gaps = recording.gaps.len(),
            "published"
        );
    }

    /// Tells of a recording that was published by this node, once it can be found.
    pub fn tell_published(&self, recording: &Recording) {
        let extensions = vec![recording.extension.clone()];
        self.spread(Topic::Recordings, "recordingpublished", extensions, naming(recording));
    }

    /// Enters what another node has published, and tells of it if that is news; false if that failed.
    pub fn enter_published(&self, recording: &Recording, catalog: &dyn Catalog) -> bool {
        let known = catalog.get(recording.recordingid).ok().flatten();
        let is_news = known.is_none_or(|known| known.revision < recording.revision);
        let entered = self.enter(recording, catalog);
        if entered && is_news {
            let extensions = vec![recording.extension.clone()];
            self.event(Topic::Recordings, "recordingpublished", extensions, naming(recording));
        }
        entered
    }

    /// Something of calls.
    fn tell_calls(&self, order: Order) {
        match order {
            Order::Live(event) => self.live(&event),
            Order::Alarm(alarm) => self.alarms.raise(in_words(&alarm)),
            Order::AlarmCleared(alarm) => {
                let alarm = in_words(&alarm);
                self.alarms.clear(alarm.name, &alarm.subject);
            }
            Order::Missed { ucid, call, reason } => {
                let ucid = ucid.map(|ucid| ucid.to_string()).unwrap_or_default();
                tracing::warn!(call = ucid, callid = %call, reason = reason.as_str(), "call missed");
                self.metrics.calls_missed.with_label_values(&[reason.as_str()]).inc();
            }
            Order::CaptureDelay(delay) => {
                self.metrics.media.capture_start.observe(delay.as_secs_f64());
            }
            // The controller and the control task have carried out all others.
            _ => {}
        }
    }

    fn live(&self, event: &LiveEvent) {
        if let LiveEvent::RecordingStarted(call) = event
            && let Some(recorded) = &call.recorded
        {
            if recorded.trigger == TriggerKind::Rescue {
                self.metrics.rescues.inc();
            }
            tracing::info!(
                call = call.ucid.as_ref().map(tracing::field::display),
                recording = %recorded.recordingid,
                trigger = recorded.trigger.as_str(),
                "being recorded"
            );
        }
        let (topic, eventtype, call) = match event {
            LiveEvent::CallStarted(call) => (Topic::Calls, "callstarted", call),
            LiveEvent::CallUpdated(call) => (Topic::Calls, "callupdated", call),
            LiveEvent::CallEnded(call) => (Topic::Calls, "callended", call),
            LiveEvent::RecordingStarted(call) => (Topic::Recordings, "recordingstarted", call),
            LiveEvent::RecordingPaused(call) => (Topic::Recordings, "recordingpaused", call),
            LiveEvent::RecordingResumed { call, .. } => {
                (Topic::Recordings, "recordingresumed", call)
            }
        };
        let mut body = call_body(call);
        if let Some(recorded) = &call.recorded {
            body.insert("recordingid".to_owned(), json!(recorded.recordingid));
        }
        if let LiveEvent::RecordingResumed { pausedms, .. } = event {
            body.insert("pausedms".to_owned(), json!(pausedms));
        }
        let extensions = call.extensions.iter().map(Extension::new).collect();
        self.spread(topic, eventtype, extensions, body);
    }

    /// Something of the link to the AES.
    fn tell_link(&self, notice: &Notice) {
        match notice {
            Notice::SessionUp { recovered } => {
                tracing::info!(recovered, "the session with the AES is up");
                self.metrics.aes_up.set(1);
                self.alarms.clear("aesdown", "");
                self.alarms.clear("aescredentials", "");
            }
            Notice::SessionDown { cause } => {
                self.metrics.aes_up.set(0);
                if *cause != DownCause::Stopped {
                    self.alarms.raise(no_session(&cause.to_string(), LOOK_AT_AES));
                }
            }
            Notice::CredentialsRefused { detail } => self.alarms.raise(Alarm {
                name: "aescredentials",
                subject: String::new(),
                message: format!("the AES refuses the login: {detail}"),
                remedy: "check al_aesuser and al_aespassword against the CTI user on the AES",
            }),
            Notice::SessionRefused { detail } => {
                self.alarms.raise(no_session(&format!("it refuses one: {detail}"), LOOK_AT_AES));
            }
            Notice::CtiLink { up } => self.alarms.set(!up, cti_link_down()),
            Notice::ProtocolError { what, counted, detail } => {
                tracing::warn!(%what, counted, detail, "the AES sent something unusable");
            }
            _ => self.tell_device(notice),
        }
    }

    /// Something of a phantom or a monitored device.
    fn tell_device(&self, notice: &Notice) {
        match notice {
            Notice::PhantomReady { phantom } => {
                let phantom = phantom.to_string();
                self.alarms.clear("phantomrefused", &phantom);
                self.alarms.clear("phantomlost", &phantom);
            }
            Notice::PhantomLost { phantom, cause } => self.alarms.raise(Alarm {
                name: "phantomlost",
                subject: phantom.to_string(),
                message: format!("phantom {phantom} is not registered any more: {cause}"),
                remedy: "it is registered again; if it stays, look at the station on the switch",
            }),
            Notice::PhantomRefused { phantom, code, reason, retried } => self.alarms.raise(Alarm {
                name: "phantomrefused",
                subject: phantom.to_string(),
                message: format!("phantom {phantom} is refused, code {code:?}: {reason}"),
                remedy: if *retried {
                    "look at the station on the switch"
                } else {
                    "correct al_phantompassword and restart: it is not tried again, \
                     so that the switch does not lock the station"
                },
            }),
            Notice::MonitorRefused { device, error } => {
                tracing::warn!(?device, %error, "a device cannot be monitored");
            }
            Notice::LeaveRefused { phantom, error, .. } => {
                tracing::warn!(%phantom, %error, "a phantom could not leave a call");
            }
            _ => {}
        }
    }
}

/// The recorder's way into the hub, to the media thread and to the group.
pub struct HubOutlet {
    /// Where it goes.
    pub hub: Arc<Hub>,
    /// The journal's writer.
    pub media: MediaHandle,
    /// What the group has to know.
    pub bridge: mpsc::Sender<Order>,
    /// What the day's completeness has to know.
    pub seen: SeenCalls,
}

impl HubOutlet {
    fn overflowed(&self, message: String) {
        self.hub.alarms.raise(Alarm {
            name: "captureoverflow",
            subject: String::new(),
            message,
            remedy: "the disk is full or far too slow, or the machine is overloaded",
        });
    }
}

impl Outlet for HubOutlet {
    fn capture(&self, fact: Fact) {
        if let Err(refused) = self.media.send(fact) {
            self.overflowed(refused.to_string());
        }
    }

    fn protect(&self, protected: Protected) {
        if !self.media.protect(protected) {
            self.overflowed("the media thread takes no keys: a call is not decrypted".to_owned());
        }
    }

    fn ring(&self, order: RingOrder) {
        if !self.media.ring(order) {
            let message = "the media thread takes no orders: a ring is not kept as it should be";
            self.overflowed(message.to_owned());
        }
    }

    fn pause(&self, order: PauseOrder) {
        if !self.media.pause(order) {
            let message =
                "the media thread takes no orders: a recording is not paused as it should be";
            self.overflowed(message.to_owned());
        }
    }

    fn capture_stalls(&self) -> bool {
        self.media.stats().turn_watch.was_long_within(STALL_REMEMBERED)
    }

    fn tell(&self, told: Told) {
        match told {
            Told::Calls(
                order
                @ (Order::Claim(_) | Order::SegmentEnded { .. } | Order::RecordingOver { .. }),
            ) => {
                // What does not get through is found in the journal when the recording is complete.
                if self.bridge.try_send(order).is_err() {
                    tracing::error!("the way to the group is choked");
                }
            }
            Told::Calls(Order::CallOver(call)) => self.seen.tell(*call),
            Told::Calls(order) => self.hub.tell_calls(order),
            Told::Link(notice) => self.hub.tell_link(&notice),
            Told::Unreachable(error) => {
                let (_, remedy) = connect_remedy(&error);
                self.hub.alarms.raise(no_session(&error.to_string(), remedy));
            }
        }
    }
}

/// A call as clients see it.
#[must_use]
pub fn call_body(call: &CallView) -> Map<String, Value> {
    match json!(call) {
        Value::Object(body) => body,
        _ => Map::new(),
    }
}

fn naming(recording: &Recording) -> Map<String, Value> {
    Map::from_iter([("recording".to_owned(), json!(recording))])
}

fn no_session(why: &str, remedy: &'static str) -> Alarm {
    let message = format!("no session with the AES: {why}");
    Alarm { name: "aesdown", subject: String::new(), message, remedy }
}

fn cti_link_down() -> Alarm {
    Alarm {
        name: "ctilinkdown",
        subject: String::new(),
        message: "the AES has lost its link to the switch".to_owned(),
        remedy: "look at the switch connection on the AES; no new calls are seen meanwhile",
    }
}

fn in_words(alarm: &CallAlarm) -> Alarm {
    let (subject, message, remedy) = match alarm {
        CallAlarm::CallNotRecorded { call, extension, reason } => (
            call.to_string(),
            format!("the call {call} at {extension} is not recorded: {}", reason.as_str()),
            "nophantom: more phantoms, or register or observe more stations; refused: COR and licences; linkdown: the AES; \
             partylimit: al_maxparties; nomedia: codec set and network region of the phantoms; \
             diskfull: room in al_datadir",
        ),
        CallAlarm::NoMedia { phantom } => (
            phantom.to_string(),
            format!("phantom {phantom} is in a call and receives nothing"),
            "look at its network region, codec set and at firewalls towards al_rtpports; if media is \
             encrypted, at al_mediaencryption, at astlogger_srtp_refused_total and at the log",
        ),
        CallAlarm::StrayMedia { phantom } => (
            phantom.to_string(),
            format!("phantom {phantom} is in no call and receives media"),
            "if it stays, look on the switch which call it is in",
        ),
        CallAlarm::PhantomStuck { phantom } => (
            phantom.to_string(),
            format!("phantom {phantom} does not get out of a call"),
            "busy it out and release it on the switch",
        ),
    };
    Alarm { name: alarm.name(), subject, message, remedy }
}
