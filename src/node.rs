//! A node as its web server sees it: searches the catalog, opens audio, asks the control task,
//! renders metrics. It decides which of the recorder's answers is which failure code.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cluster::Group;
use cluster_core::GroupView;
use cluster_core::state::Takeover;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};
use recorder::clock::Clock;
use recorder::control_task::{Control, ControlView};
use recorder::levels::{Meter, SILENT};
use recorder::listening::{ListenError, Listening};
use recorder::media_stats::{Histogram, MediaStats};
use recorder::media_thread::MediaHandle;
use recorder::mirrored::MirroredCapture;
use recorder::playback::Playback;
use recorder::pulled::send_capture;
use recorder::seal_queue::SealQueue;
use recorder_core::call::pool::PhantomState;
use recorder_core::call::{
    Action, CallView, PauseDone, PauseRequest as CallPause, PauseWord, Refusal, Request, Requester,
    Target as CallTarget,
};
use recorder_core::controller::GroupWord;
use recorder_core::dmcc::Fault;
use recorder_core::media::srtp;
use serde_json::{Map, Value, json};
use storage::{
    CallLog, Catalog, CatalogError, FetchError, FetchFormat, JournalReader, Lies, VoiceError,
    VoiceStore,
};
use storage_core::journal::Place;
use storage_core::marks::Marks;
use storage_core::query::Query;
use storage_core::tombstone::Tombstone;
use storage_core::{
    Duty, Extension, NodeId, Recording, RecordingId, Role, SegmentId, Ucid, WallTime,
};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::spawn_blocking;

use crate::audit::Clerk;
use crate::audit_pages::{
    Filter, Lines, Listing as AuditListing, LogPlace, Question as AuditQuestion,
};
use crate::bridge::people::Takeovers;
use crate::completeness::SeenDay;
use crate::hub::{Hub, call_body};
use crate::marks::Marker;
use crate::metrics::{Metrics, raise};
use crate::mirror::{Feed, MirrorStore, Outlet};
use crate::peers::{CaptureChunks, PeerService};
use crate::repair::Repairs;
use crate::tidings::Tiding;
use crate::users::UserRole;
use crate::web::backend::{
    Audio, Backend, CallList, Code, DeleteRequest, Event, Failure, Heard, Hearing, HoldRequest,
    Listing, MarkRequest, PauseReply, PauseRequest, StartRequest, StopRequest, Target,
};

/// Chunks of a capture that are read before the peer has taken those before them.
const CAPTURE_CHUNKS_AHEAD: usize = 2;

/// The control task's turn comes within this, or something is wrong with it.
const CONTROL_WITHIN: Duration = Duration::from_secs(1);

/// What records: absent on a witness.
pub struct Works {
    /// The control task.
    pub control: Arc<Control>,
    /// The media thread.
    pub media: MediaHandle,
    /// The sealer's queue.
    pub seal: SealQueue,
    /// The captures.
    pub capture: JournalReader,
    /// Gives them to whoever mirrors them.
    pub outlet: Arc<Outlet>,
    /// What it keeps of others' captures.
    pub mirrors: Arc<MirrorStore>,
    /// `al_maxpauses`.
    pub max_pause: Duration,
    /// Measures how loud calls are.
    pub meter: Arc<Meter>,
    /// Lets people listen to what is captured.
    pub listening: Arc<Listening>,
    /// Fills holes of one copy from the other.
    pub repairs: Arc<Repairs>,
    /// Writes down tags and notes.
    pub marker: Arc<Marker>,
}

/// A node.
pub struct Node {
    /// What `al_serverrole` says.
    pub role: Role,
    /// The group it is in.
    pub group: Group,
    /// Where recordings are found.
    pub catalog: Arc<dyn Catalog>,
    /// Where they lie.
    pub voices: VoiceStore,
    /// Metrics, alarms, events.
    pub hub: Arc<Hub>,
    /// What records.
    pub works: Option<Works>,
    /// What it saw of calls.
    pub seen: CallLog,
    /// Writes down what people ask of it.
    pub clerk: Arc<Clerk>,
    /// What changes of the lead cost.
    pub takeovers: Arc<Takeovers>,
    /// Changes when somebody wants all voice files and logs read over.
    pub scrubs: watch::Sender<u64>,
    /// Sync times already told to the metrics, by bucket.
    pub syncs_told: Mutex<[u64; Histogram::BOUNDS_MS.len() + 1]>,
}

impl Node {
    fn works(&self) -> Result<&Works, Failure> {
        let witness = || Failure::new(Code::Unavailable, "a witness records no calls");
        self.works.as_ref().ok_or_else(witness)
    }

    /// The state of the control plane; nothing on a witness.
    #[must_use]
    pub fn view(&self) -> ControlView {
        self.works.as_ref().map(|works| works.control.view()).unwrap_or_default()
    }

    /// Carries over what is counted elsewhere.
    fn gather(&self) {
        let metrics = &self.hub.metrics;
        let group = self.group.view();
        // A role that was changed while the node runs is the group's to tell.
        let role = group.member(group.node).and_then(|member| member.role);
        metrics.set_duty(role.unwrap_or(self.role), group.duty.duty);
        metrics.raft_term.set(i64::try_from(group.term).unwrap_or(i64::MAX));
        metrics.raft_leader.set(i64::from(group.leader == Some(group.node)));
        let Some(works) = &self.works else { return };
        let view = works.control.view();
        gather_control(metrics, &view);
        gather_media(metrics, works.media.stats());
        self.gather_syncs(metrics, works.media.stats());
        raise(&metrics.seal_retries, works.seal.stats().retries.value());
        let waiting = works.seal.stats().waiting();
        metrics.seal_queue.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        metrics.mirror.set(&works.outlet.lags(&group), &works.mirrors.recordings());
    }

    /// The thread counts into buckets of its own; each count is told by its bucket's bound.
    fn gather_syncs(&self, metrics: &Metrics, stats: &MediaStats) {
        let (buckets, _) = stats.sync_time.snapshot();
        let mut told = self.syncs_told.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, (now, before)) in buckets.iter().zip(told.iter_mut()).enumerate() {
            let last = Histogram::BOUNDS_MS[Histogram::BOUNDS_MS.len() - 1] * 2;
            let bound_ms = Histogram::BOUNDS_MS.get(index).copied().unwrap_or(last);
            for _ in *before..*now {
                metrics.media.capture_sync.observe(bound_ms as f64 / 1000.0);
            }
            *before = *now;
        }
    }
}

fn gather_control(metrics: &Metrics, view: &ControlView) {
    let int = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    metrics.calls_active.set(int(view.calls));
    raise(&metrics.calls_refused, view.calls_refused);
    metrics.recordings_active.set(int(view.recordings));
    for state in PhantomState::ALL {
        let count = view.phantoms.get(&state).copied().unwrap_or(0);
        metrics.phantoms.with_label_values(&[state.as_str()]).set(int(count));
    }
    metrics.rings.set(int(view.rings));
    metrics.agents_present.set(int(view.agents));
    let counters = &view.counters;
    let sessions = counters.sessions_started + counters.sessions_recovered;
    raise(&metrics.aes_reconnects, sessions.saturating_sub(1));
    let malformed = [Fault::BrokenFrame, Fault::NotXml, Fault::UnknownMessage, Fault::MissingField];
    let malformed = malformed.iter().filter_map(|fault| counters.faults.get(fault));
    raise(&metrics.dmcc_malformed, malformed.sum());
}

fn gather_media(metrics: &Metrics, stats: &MediaStats) {
    raise(&metrics.media.rtp_packets, stats.packets.value());
    raise(&metrics.media.rtp_socket_drops, stats.kernel_drops.value());
    raise(&metrics.media.rtp_strangers, stats.strangers.value());
    let malformed: u64 = stats.malformed.iter().map(recorder::media_stats::Counter::value).sum();
    raise(&metrics.media.rtp_malformed, malformed + stats.truncated.value());
    for (refusal, counter) in srtp::Refusal::ALL.iter().zip(&stats.undecryptable) {
        raise(&metrics.media.srtp_refused.with_label_values(&[refusal.as_str()]), counter.value());
    }
    for (what, counter) in [
        ("receive", &stats.receive_errors),
        ("packet", &stats.lost_packets),
        ("fact", &stats.facts_lost),
        ("order", &stats.orders_refused),
        ("notice", &stats.notices_lost),
        ("sync", &stats.sync_errors),
    ] {
        raise(&metrics.media.capture_failures.with_label_values(&[what]), counter.value());
    }
}

impl Backend for Node {
    fn search(&self, query: &Query) -> Result<Listing, Failure> {
        let page = self.catalog.search(query).map_err(catalog_failure)?;
        Ok(Listing { page, ..Listing::default() })
    }

    fn recording(&self, id: RecordingId) -> Result<Option<Recording>, Failure> {
        self.catalog.get(id).map_err(catalog_failure)
    }

    fn open_audio(&self, id: RecordingId, format: FetchFormat) -> Result<Box<dyn Audio>, Failure> {
        let unknown = || Failure::new(Code::NotFound, format!("no recording {id}"));
        let known = self.recording(id)?.ok_or_else(unknown)?;
        // As it lies here; and if it has just been sealed anew, what is there now.
        let record = match self.voices.lies(&known) {
            Ok(Lies::This(record) | Lies::Later(record) | Lies::Archived(record)) => *record,
            Ok(Lies::Nothing | Lies::Earlier) => {
                let message = format!("the voice file of {id} is not here");
                return Err(Failure::new(Code::NotFound, message));
            }
            Err(error) => return Err(audio_failure(&error.into())),
        };
        let playback = Playback::open(&self.voices, &record, format);
        let playback = playback.map_err(|error| audio_failure(&error))?;
        let opus = match format {
            FetchFormat::Original => record.format.extension() == "opus",
            FetchFormat::Wav => false,
            FetchFormat::Opus => true,
        };
        Ok(Box::new(OpenAudio { playback, opus, mark: record.sha256 }))
    }

    fn seen(&self, day: WallTime) -> Result<SeenDay, Failure> {
        let read = self.seen.read(day).map_err(|error| {
            tracing::error!(%error, "what was seen of calls");
            Failure::new(Code::Internal, error.to_string())
        })?;
        if read.broken > 0 {
            tracing::warn!(lines = read.broken, "what was seen of calls cannot be read in part");
        }
        let deleted = self.voices.deleted_of(day).map_err(|error| {
            tracing::error!(%error, "what was deleted");
            Failure::new(Code::Internal, error.to_string())
        })?;
        let calls = read.calls.into_iter().chain(deleted.iter().map(Tombstone::seen)).collect();
        Ok(SeenDay { calls, unreachable: Vec::new() })
    }

    fn audit(&self, question: &AuditQuestion) -> Result<AuditListing, Failure> {
        self.clerk.list(question)
    }

    fn calls(&self) -> BoxFuture<'static, CallList> {
        let Ok(works) = self.works() else { return Box::pin(async { CallList::default() }) };
        let control = Arc::clone(&works.control);
        Box::pin(async move {
            let now = Clock::wall();
            let calls = control.calls().await;
            let body = |call: &CallView| {
                let mut body = call_body(call);
                body.insert("durationms".to_owned(), json!(now.millis_after(call.started)));
                Value::Object(body)
            };
            CallList { calls: calls.iter().map(body).collect(), unreachable: Vec::new() }
        })
    }

    fn listen(&self, ucid: &Ucid) -> BoxFuture<'static, Result<Hearing, Failure>> {
        let works = match self.works() {
            Ok(works) => works,
            Err(failure) => return Box::pin(async { Err(failure) }),
        };
        let (control, listening) = (Arc::clone(&works.control), Arc::clone(&works.listening));
        let (node, ucid) = (self.group.node(), ucid.clone());
        Box::pin(async move {
            let calls = control.calls().await;
            let call = calls.iter().find(|call| call.ucid.as_ref() == Some(&ucid));
            let call = call.ok_or_else(|| Failure::new(Code::NoCall, "there is no such call"))?;
            let capture = call.recorded.as_ref().and_then(|recorded| recorded.capture);
            let unrecorded = || {
                Failure::new(Code::Unavailable, format!("node {node} does not record this call"))
            };
            let frames = listening.listen(capture.ok_or_else(unrecorded)?);
            let frames = frames.map_err(|error| {
                let code = match error {
                    ListenError::Busy => Code::Busy,
                    ListenError::Unavailable => Code::Unavailable,
                };
                Failure::new(code, error.to_string())
            })?;
            let sound = stream::unfold(frames, |mut frames| async move {
                frames.next().await.map(|frame| (Heard::Frame(frame), frames))
            });
            Ok(Hearing { node, sound: sound.boxed() })
        })
    }

    fn concerns(&self, target: &Target, extension: &Extension) -> BoxFuture<'static, bool> {
        let Ok(works) = self.works() else { return Box::pin(async { false }) };
        let (control, target) = (Arc::clone(&works.control), target.clone());
        let extension = extension.to_string();
        Box::pin(async move {
            let calls = control.calls().await;
            calls.iter().any(|call| is_meant(call, &target) && call.extensions.contains(&extension))
        })
    }

    fn start_recording(
        &self,
        request: StartRequest,
    ) -> BoxFuture<'static, Result<RecordingId, Failure>> {
        let action = Action::Start { target: call_target(request.target), scope: request.scope };
        self.ask(request.by.role, action)
    }

    fn stop_recording(
        &self,
        request: StopRequest,
    ) -> BoxFuture<'static, Result<RecordingId, Failure>> {
        self.ask(request.by.role, Action::Stop { target: call_target(request.target) })
    }

    fn pause_recording(
        &self,
        request: PauseRequest,
    ) -> BoxFuture<'static, Result<PauseReply, Failure>> {
        let done = self.pause_here(request);
        Box::pin(async {
            let done = done.await?;
            Ok(PauseReply { recordingid: done.recording, pausedms: done.pausedms })
        })
    }

    fn mark(&self, request: MarkRequest) -> BoxFuture<'static, Result<Recording, Failure>> {
        let marker = self.works().map(|works| Arc::clone(&works.marker));
        Box::pin(async move {
            let marker = marker?;
            let marked = spawn_blocking(move || marker.mark(&request)).await;
            let broken = || Failure::new(Code::Internal, "writing it down broke off");
            marked.unwrap_or_else(|_| Err(broken()))
        })
    }

    fn hold(&self, request: HoldRequest) -> BoxFuture<'static, Result<Recording, Failure>> {
        let marker = self.works().map(|works| Arc::clone(&works.marker));
        Box::pin(async move {
            let marker = marker?;
            let held = spawn_blocking(move || marker.hold(&request)).await;
            let broken = || Failure::new(Code::Internal, "writing it down broke off");
            held.unwrap_or_else(|_| Err(broken()))
        })
    }

    fn delete(&self, request: DeleteRequest) -> BoxFuture<'static, Result<Tombstone, Failure>> {
        let marker = self.works().map(|works| Arc::clone(&works.marker));
        Box::pin(async move {
            let marker = marker?;
            let deleted = spawn_blocking(move || marker.delete(&request)).await;
            let broken = || Failure::new(Code::Internal, "deleting it broke off");
            deleted.unwrap_or_else(|_| Err(broken()))
        })
    }

    fn repair(&self, id: RecordingId) -> BoxFuture<'static, Result<RecordingId, Failure>> {
        let repairs = self.works().map(|works| Arc::clone(&works.repairs));
        Box::pin(async move {
            // It goes on when whoever asked has gone: nobody else is to write the same file meanwhile.
            let repaired = tokio::spawn(repairs?.repair(id)).await;
            let broken = || Failure::new(Code::Internal, "the repair broke off");
            repaired.unwrap_or_else(|_| Err(broken()))
        })
    }

    fn cluster_status(&self) -> Map<String, Value> {
        let view = self.view();
        let mut status = match json!(self.group.view()) {
            Value::Object(status) => status,
            _ => Map::new(),
        };
        let reasons = self.readiness().err().unwrap_or_default();
        status
            .insert("health".to_owned(), json!({"ready": reasons.is_empty(), "reasons": reasons}));
        status.insert("calls".to_owned(), json!(view.calls));
        status.insert("recordings".to_owned(), json!(view.recordings));
        status.insert("agents".to_owned(), json!(view.agents));
        status.insert("alarms".to_owned(), json!(self.hub.alarms.all()));
        let last = self.takeovers.last().map(|last| {
            let Takeover { from, to, epoch, cause, moves } = last.takeover;
            json!({
                "from": from, "to": to, "epoch": epoch, "cause": cause, "moves": moves,
                "at": last.seen, "gapms": last.gap_ms,
            })
        });
        status.insert("lasttakeover".to_owned(), json!(last));
        status
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<Event>> {
        self.hub.subscribe()
    }

    fn readiness(&self) -> Result<(), Vec<String>> {
        let Some(works) = &self.works else {
            return witness_readiness(&self.group.view());
        };
        let mut reasons = Vec::new();
        let view = works.control.view();
        if !works.control.is_running() {
            reasons.push("the control task has ended".to_owned());
        }
        if !view.aes_up {
            let told = ["aesdown", "aescredentials"].map(|name| self.hub.alarms.reasons(name));
            reasons.extend(told.into_iter().flatten());
            if reasons.is_empty() {
                reasons.push("no session with the AES yet".to_owned());
            }
        }
        let registered = |(state, count): (&PhantomState, &usize)| {
            (!matches!(state, PhantomState::Lost | PhantomState::Refused)).then_some(*count)
        };
        if view.phantoms.iter().filter_map(registered).sum::<usize>() == 0 {
            reasons.push("no phantom is registered".to_owned());
        }
        if let Some(not_writing) = works.media.stats().why_not_writing() {
            reasons.push(format!("the disk takes no audio: {}", not_writing.why));
        }
        if self.group.duty() == Duty::None {
            reasons.push("this node has no duty".to_owned());
        }
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    }

    fn metrics(&self) -> String {
        self.gather();
        self.hub.metrics.render()
    }
}

impl PeerService for Node {
    fn holds(&self, record: &Recording) -> bool {
        match self.voices.lies(record) {
            Ok(Lies::This(record) | Lies::Archived(record)) => self.voices.voice(&record).is_ok(),
            _ => false,
        }
    }

    fn capture(
        &self,
        recording: RecordingId,
        segments: &[SegmentId],
    ) -> Result<CaptureChunks, Failure> {
        let capture = self.works()?.capture.clone();
        let internal =
            |error: &dyn std::fmt::Display| Failure::new(Code::Internal, error.to_string());
        let locals = capture.recordings_of(segments);
        if locals.is_empty() {
            let message = format!("nothing of recording {recording} is captured here");
            return Err(Failure::new(Code::NotFound, message));
        }
        for local in &locals {
            let outline = capture.outline(*local).map_err(|error| internal(&error))?;
            if outline.draft.is_some_and(|draft| draft.ended.is_none()) {
                let message = format!("recording {recording} is still being captured here");
                return Err(Failure::new(Code::Busy, message));
            }
        }
        let wanted = segments.iter().copied().collect();
        Ok(capture_chunks(capture, self.group.node(), locals, wanted))
    }

    fn kept(
        &self,
        owner: NodeId,
        segments: &[SegmentId],
    ) -> Result<Option<(i64, CaptureChunks)>, Failure> {
        let kept = self.works()?.mirrors.capture(owner, segments);
        Ok(kept.map(|MirroredCapture { clock_offset_us, mirror, recordings, segments, .. }| {
            (clock_offset_us, capture_chunks(mirror, owner, recordings, segments))
        }))
    }

    fn pause_here(&self, request: PauseRequest) -> BoxFuture<'static, Result<PauseDone, Failure>> {
        let works = match self.works() {
            Ok(works) => works,
            Err(failure) => return Box::pin(async { Err(failure) }),
        };
        let (control, media) = (Arc::clone(&works.control), works.media.clone());
        let most = request.pause.then_some(works.max_pause);
        let target = call_target(request.target);
        let request = CallPause { target, most, by: request.by.user };
        Box::pin(async move {
            let done = control.pause(request).await.map_err(refusal_failure)?;
            reached(&media).await?;
            Ok(done)
        })
    }

    fn audit_lines(&self, filter: Filter, place: LogPlace, limit: usize) -> Result<Lines, Failure> {
        self.clerk.lines(filter, place, limit)
    }

    fn levels(&self) -> BoxFuture<'static, BTreeMap<RecordingId, f64>> {
        let Ok(works) = self.works() else { return Box::pin(async { BTreeMap::new() }) };
        let (control, meter) = (Arc::clone(&works.control), Arc::clone(&works.meter));
        let node = self.group.node();
        Box::pin(async move {
            let levels = meter.levels().await;
            let calls = control.calls().await;
            let recorded = calls.iter().filter_map(|call| call.recorded.as_ref());
            let here = recorded.filter(|recorded| recorded.node == node);
            let told = here.map(|recorded| {
                // What was heard before a pause began is not its level.
                let device = recorded.phantom.as_ref().filter(|_| !recorded.paused);
                let level = device.and_then(|device| levels.get(device)).copied();
                (recorded.recordingid, level.unwrap_or(SILENT))
            });
            told.collect()
        })
    }

    fn learn_pauses(&self, words: Vec<PauseWord>) -> BoxFuture<'static, Result<(), Failure>> {
        let Ok(works) = self.works() else { return Box::pin(async { Ok(()) }) };
        let (control, media) = (Arc::clone(&works.control), works.media.clone());
        Box::pin(async move {
            for word in words {
                control.tell_group(GroupWord::Pause(Box::new(word))).await;
            }
            // What it was told before this it has acted upon.
            if !control.answers(CONTROL_WITHIN).await {
                return Err(Failure::new(Code::Unavailable, "the recorder does not answer"));
            }
            reached(&media).await
        })
    }

    fn learn_marks(&self, marks: &Marks) -> Result<(), Failure> {
        self.works()?.marker.learn(marks)
    }

    fn learn_deletion(&self, tombstone: &Tombstone) -> Result<(), Failure> {
        self.works()?.marker.learn_deletion(tombstone)
    }

    fn is_deleted(&self, id: RecordingId) -> bool {
        self.voices.is_deleted(id)
    }

    fn learn_tidings(&self, tidings: Vec<Tiding>) {
        self.hub.heard(tidings, self.works.is_some());
    }

    fn list(&self, record: &Recording) -> Result<(), Failure> {
        self.works()?.repairs.list(record)
    }

    fn mirror(&self, peer: NodeId, has: Option<(u64, Place)>) -> Result<(u64, Feed), Failure> {
        let outlet = &self.works()?.outlet;
        Ok((outlet.journal(), outlet.feed(peer, has)))
    }
}

/// What a journal holds of recordings, as far as it is of the wanted segments of `node`.
fn capture_chunks(
    journal: JournalReader,
    node: NodeId,
    recordings: Vec<RecordingId>,
    wanted: BTreeSet<SegmentId>,
) -> CaptureChunks {
    let (sender, receiver) = mpsc::channel(CAPTURE_CHUNKS_AHEAD);
    spawn_blocking(move || {
        let sent = send_capture(&journal, node, &recordings, &wanted, |chunk| {
            sender.blocking_send(Ok(chunk.to_vec()))
        });
        if let Err(error) = sent {
            // An asker that has gone away needs no answer.
            let _ = sender.blocking_send(Err(Failure::new(Code::Internal, error.to_string())));
        }
    });
    Box::pin(stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|chunk| (chunk, receiver))
    }))
}

fn audio_failure(error: &FetchError) -> Failure {
    let code = match error {
        // It is there, and is not to be had by anything that this program could do.
        FetchError::Format { .. }
        | FetchError::Voice(
            VoiceError::Key { .. } | VoiceError::Erased { .. } | VoiceError::Archive { .. },
        ) => Code::Unavailable,
        _ => Code::Internal,
    };
    Failure::new(code, error.to_string())
}

/// A witness is of use while it is in contact with a majority.
fn witness_readiness(group: &GroupView) -> Result<(), Vec<String>> {
    let reason = if group.quorum && group.members.len() < 2 {
        "a witness without a group: al_peers names no other member"
    } else if !group.quorum {
        "this witness reaches no majority of the group"
    } else {
        return Ok(());
    };
    Err(vec![reason.to_owned()])
}

impl Node {
    fn ask(
        &self,
        role: UserRole,
        action: Action,
    ) -> BoxFuture<'static, Result<RecordingId, Failure>> {
        let control = match self.works() {
            Ok(works) => Arc::clone(&works.control),
            Err(failure) => return Box::pin(async { Err(failure) }),
        };
        let by = match role {
            UserRole::Agent => Requester::Agent,
            _ => Requester::Supervisor,
        };
        Box::pin(async move {
            let request = Request { id: 0, by, action };
            control.ask(request).await.map_err(refusal_failure)
        })
    }
}

/// Waits until the media thread has done all that it was told.
async fn reached(media: &MediaHandle) -> Result<(), Failure> {
    let stuck = || Failure::new(Code::Unavailable, "the media thread does not answer: see the log");
    media.reached().await.then_some(()).ok_or_else(stuck)
}

fn call_target(target: Target) -> CallTarget {
    match target {
        Target::Extension(extension) => CallTarget::Extension(extension),
        Target::Ucid(ucid) => CallTarget::Ucid(ucid),
        Target::Recording(id) => CallTarget::Recording(id),
    }
}

fn is_meant(call: &CallView, target: &Target) -> bool {
    match target {
        Target::Extension(extension) => call.extensions.iter().any(|e| e == extension.as_str()),
        Target::Ucid(ucid) => call.ucid.as_ref() == Some(ucid),
        Target::Recording(id) => {
            call.recorded.as_ref().is_some_and(|recorded| recorded.recordingid == *id)
        }
    }
}

fn refusal_failure(refusal: Refusal) -> Failure {
    let (code, message) = match refusal {
        Refusal::NoCall => (Code::NoCall, "there is no answered call there"),
        Refusal::NoTrunk => (Code::NoTrunk, "the call has no outside party: ask for scope station"),
        Refusal::NoPhantom => (
            Code::NoPhantom,
            "no phantom is free (al_phantoms), or no station of al_stations that is heard talks there",
        ),
        Refusal::AlreadyRecording => (Code::AlreadyRecording, "the call is being recorded already"),
        Refusal::Unavailable => (Code::Unavailable, "this node cannot record it now: see /readyz"),
        Refusal::NotFound => (Code::NotFound, "there is no such recording in progress"),
    };
    Failure::new(code, message)
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
fn catalog_failure(error: CatalogError) -> Failure {
    let code = match error {
        CatalogError::Damaged { .. } | CatalogError::Closed => Code::Unavailable,
        _ => Code::Internal,
    };
    Failure::new(code, error.to_string())
}

struct OpenAudio {
    playback: Playback,
    opus: bool,
    mark: String,
}

impl Audio for OpenAudio {
    fn bytes(&self) -> u64 {
        self.playback.bytes()
    }

    fn mark(&self) -> String {
        self.mark.clone()
    }

    fn sha256(&self) -> Option<String> {
        self.playback.sha256().ok().flatten()
    }

    fn media_type(&self) -> &'static str {
        if self.opus { "audio/ogg" } else { "audio/wav" }
    }

    fn file_extension(&self) -> &'static str {
        if self.opus { "opus" } else { "wav" }
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.playback.read_at(buffer, offset)
    }
}

#[cfg(test)]
mod tests {
    use cluster_core::MemberView;
    use storage_core::NodeId;

    use super::*;

    #[test]
    fn a_witness_is_ready_when_it_reaches_a_majority() {
        let mut view = GroupView::alone(NodeId(3), Role::Witness);
        let alone = witness_readiness(&view).unwrap_err();
        assert!(alone[0].contains("al_peers"), "{alone:?}");
        let member = view.members[0].clone();
        view.members.push(MemberView { node: NodeId(1), role: Some(Role::Active), ..member });
        assert_eq!(witness_readiness(&view), Ok(()));
        view.quorum = false;
        let cut_off = witness_readiness(&view).unwrap_err();
        assert!(cut_off[0].contains("majority"), "{cut_off:?}");
    }
}
