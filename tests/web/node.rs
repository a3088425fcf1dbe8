//! A node that records nothing: recordings, calls and answers are what the test puts there.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{io, iter};

use argon2::password_hash::{PasswordHasher, SaltString};
use astlogger::audit::Clerk;
use astlogger::audit_pages::{Listing as AuditListing, Question};
use astlogger::completeness::SeenDay;
use astlogger::config::{DiskShare, Oidc};
use astlogger::users::UserRole;
use astlogger::web::backend::{
    Audio, Backend, CallList, Code, DeleteRequest, Drill, Event, Failure, FetchFormat, Heard,
    Hearing, HoldRequest, Listing, MarkRequest, PauseReply, PauseRequest, StartRequest,
    StopRequest, Target, Topic, Unreachable,
};
use astlogger::web::{Limits, Running, WebConfig, serve};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use storage::Page;
use storage_core::hold::HoldError;
use storage_core::query::{Position, Query};
use storage_core::scorecard::Scorecard;
use storage_core::tombstone::{Deletion, Tombstone};
use storage_core::{Extension, NodeId, Recording, RecordingId, Ucid, WallTime};
use tokio::sync::{Semaphore, broadcast, mpsc};

pub const PASSWORD: &str = "correct horse";
pub const UCID: &str = "00001000011700000001";
/// Nobody is in this call.
pub const OTHER_UCID: &str = "00001000021700000002";

/// A record and its audio.
type Stored = (Recording, Arc<Vec<u8>>);

pub struct FakeNode {
    /// Who writes down what is asked of it, once it serves people.
    clerk: Mutex<Option<Arc<Clerk>>>,
    pub recordings: Mutex<BTreeMap<RecordingId, Stored>>,
    pub started: Mutex<Vec<StartRequest>>,
    pub stopped: Mutex<Vec<StopRequest>>,
    pub paused: Mutex<Vec<PauseRequest>>,
    pub start_answer: Mutex<Result<RecordingId, Failure>>,
    /// `startrecording` takes a permit of these.
    pub may_start: Arc<Semaphore>,
    /// `drill` takes a permit of these.
    pub may_drill: Arc<Semaphore>,
    pub ready: AtomicBool,
    /// Members of its group that it cannot reach.
    pub unreachable: Mutex<Vec<Unreachable>>,
    pub audio_open: Arc<AtomicUsize>,
    pub audio_reads: Arc<AtomicUsize>,
    /// How often audio was opened.
    pub audio_opened: AtomicUsize,
    /// While it is so no audio is opened: whoever asks waits.
    pub hold_audio: AtomicBool,
    /// The same once audio was opened so often.
    pub hold_audio_after: AtomicUsize,
    pub events: broadcast::Sender<Arc<Event>>,
    /// The stations in the call.
    pub stations: Mutex<Vec<&'static str>>,
    /// Calls beside it, of which nobody knows how loud they are.
    pub unmeasured: Mutex<Vec<Value>>,
    /// How often it was asked for its calls.
    pub calls_asked: AtomicUsize,
    /// Those who listen to it.
    pub listeners: Mutex<Vec<mpsc::Sender<Heard>>>,
}

struct Memory {
    bytes: Arc<Vec<u8>>,
    open: Arc<AtomicUsize>,
    reads: Arc<AtomicUsize>,
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Audio for Memory {
    fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn mark(&self) -> String {
        sha256(&self.bytes)
    }

    fn sha256(&self) -> Option<String> {
        Some(sha256(&self.bytes))
    }

    fn media_type(&self) -> &'static str {
        "audio/wav"
    }

    fn file_extension(&self) -> &'static str {
        "wav"
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let rest = &self.bytes[usize::try_from(offset).unwrap().min(self.bytes.len())..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

impl FakeNode {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            clerk: Mutex::default(),
            recordings: Mutex::default(),
            started: Mutex::default(),
            stopped: Mutex::default(),
            paused: Mutex::default(),
            start_answer: Mutex::new(Ok(id(999))),
            may_start: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            may_drill: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            ready: AtomicBool::new(true),
            unreachable: Mutex::default(),
            audio_open: Arc::default(),
            audio_reads: Arc::default(),
            audio_opened: AtomicUsize::new(0),
            hold_audio: AtomicBool::new(false),
            hold_audio_after: AtomicUsize::new(usize::MAX),
            events: broadcast::Sender::new(64),
            stations: Mutex::new(vec!["2611"]),
            unmeasured: Mutex::default(),
            calls_asked: AtomicUsize::new(0),
            listeners: Mutex::default(),
        })
    }

    pub fn put(&self, number: u64, extension: &str, bytes: Vec<u8>) -> RecordingId {
        let recording = recording(number, extension, &bytes);
        let id = recording.recordingid;
        self.recordings.lock().unwrap().insert(id, (recording, Arc::new(bytes)));
        id
    }

    /// A recording is of this call, and no longer of the one that all are of.
    pub fn of_call(&self, id: RecordingId, ucid: &str) {
        let mut recordings = self.recordings.lock().unwrap();
        recordings.get_mut(&id).unwrap().0.ucid = ucid.parse().ok();
    }

    /// Whoever came as the `at`th to listen hears this, or has gone.
    pub async fn say(&self, at: usize, heard: Heard) -> bool {
        let listener = self.listeners.lock().unwrap()[at].clone();
        listener.send(heard).await.is_ok()
    }

    pub fn tell(&self, topic: Topic, eventtype: &'static str, extensions: &[&str]) {
        let extensions = extensions.iter().map(|text| Extension::from(*text)).collect();
        let mut body = Map::new();
        body.insert("ucid".to_owned(), UCID.into());
        // Without subscribers nobody hears, which is no error.
        let _ = self.events.send(Arc::new(Event::new(topic, eventtype, extensions, body)));
    }
}

impl Drill for FakeNode {
    fn drill(&self) -> BoxFuture<'static, Result<Vec<String>, Failure>> {
        let may = Arc::clone(&self.may_drill);
        async move {
            may.acquire().await.unwrap().forget();
            Ok(vec!["node 1 to node 2: gap 0 ms".to_owned()])
        }
        .boxed()
    }
}

impl Backend for FakeNode {
    fn search(&self, query: &Query) -> Result<Listing, Failure> {
        let all: Vec<Recording> = self
            .recordings
            .lock()
            .unwrap()
            .values()
            .map(|(recording, _)| recording.clone())
            .filter(|found| query.matches(found))
            .collect();
        let behind =
            |found: &&Recording| query.cursor.is_none_or(|cursor| Position::of(found) > cursor);
        let rest: Vec<Recording> = all.iter().filter(behind).cloned().collect();
        let recordings: Vec<Recording> = rest.iter().take(query.limit).cloned().collect();
        let more = recordings.len() < rest.len();
        let cursor = recordings.last().filter(|_| more);
        let cursor = cursor.map(|last| Position::of(last).to_cursor());
        let page = Page { recordings, cursor, total: Some(all.len() as u64) };
        let unreachable = self.unreachable.lock().unwrap().clone();
        Ok(Listing { page, unreachable, ..Listing::default() })
    }

    fn recording(&self, id: RecordingId) -> Result<Option<Recording>, Failure> {
        Ok(self.recordings.lock().unwrap().get(&id).map(|(recording, _)| recording.clone()))
    }

    fn open_audio(&self, id: RecordingId, format: FetchFormat) -> Result<Box<dyn Audio>, Failure> {
        if format == FetchFormat::Opus {
            return Err(Failure::new(Code::Unavailable, "Opus is not built in"));
        }
        let opened = self.audio_opened.fetch_add(1, Ordering::SeqCst);
        let held = || {
            self.hold_audio.load(Ordering::SeqCst)
                || opened >= self.hold_audio_after.load(Ordering::SeqCst)
        };
        while held() {
            std::thread::sleep(Duration::from_millis(2));
        }
        let recordings = self.recordings.lock().unwrap();
        let Some((_, bytes)) = recordings.get(&id) else {
            return Err(Failure::new(Code::NotFound, "no such recording"));
        };
        self.audio_open.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(Memory {
            bytes: Arc::clone(bytes),
            open: Arc::clone(&self.audio_open),
            reads: Arc::clone(&self.audio_reads),
        }))
    }

    fn seen(&self, _: WallTime) -> Result<SeenDay, Failure> {
        Ok(SeenDay::default())
    }

    fn audit(&self, question: &Question) -> Result<AuditListing, Failure> {
        let clerk = self.clerk.lock().unwrap().clone().expect("it serves people");
        let unreachable = self.unreachable.lock().unwrap().clone();
        Ok(AuditListing { unreachable, ..clerk.list(question)? })
    }

    fn calls(&self) -> BoxFuture<'static, CallList> {
        let unreachable = self.unreachable.lock().unwrap().clone();
        let parties = ["2611", "85212345678"];
        let stations = self.stations.lock().unwrap().clone();
        let call = json!({
            "ucid": UCID, "callid": "7", "extensions": stations, "parties": parties, "level": -20.5
        });
        self.calls_asked.fetch_add(1, Ordering::SeqCst);
        let unmeasured = self.unmeasured.lock().unwrap().clone();
        let calls: Vec<Value> = iter::once(call).chain(unmeasured).collect();
        async { CallList { calls, unreachable } }.boxed()
    }

    fn listen(&self, ucid: &Ucid) -> BoxFuture<'static, Result<Hearing, Failure>> {
        if ucid.as_str() != UCID {
            return async { Err(Failure::new(Code::NoCall, "there is no such call")) }.boxed();
        }
        let (sender, heard) = mpsc::channel(1);
        self.listeners.lock().unwrap().push(sender);
        let sound = stream::unfold(heard, |mut heard| async { Some((heard.recv().await?, heard)) });
        async { Ok(Hearing { node: NodeId(1), sound: sound.boxed() }) }.boxed()
    }

    fn concerns(&self, target: &Target, extension: &Extension) -> BoxFuture<'static, bool> {
        let own = match target {
            Target::Extension(of) => of == extension,
            Target::Ucid(ucid) => ucid.as_str() == UCID && extension.as_str() == "2611",
            Target::Recording(recording) => {
                let recordings = self.recordings.lock().unwrap();
                recordings.get(recording).is_some_and(|(found, _)| found.extension == *extension)
            }
        };
        async move { own }.boxed()
    }

    fn start_recording(
        &self,
        request: StartRequest,
    ) -> BoxFuture<'static, Result<RecordingId, Failure>> {
        self.started.lock().unwrap().push(request);
        let answer = self.start_answer.lock().unwrap().clone();
        let may = Arc::clone(&self.may_start);
        async move {
            may.acquire().await.unwrap().forget();
            answer
        }
        .boxed()
    }

    fn mark(&self, request: MarkRequest) -> BoxFuture<'static, Result<Recording, Failure>> {
        let unknown = || Failure::new(Code::NotFound, "no such recording");
        let mut recordings = self.recordings.lock().unwrap();
        let marked = recordings.get_mut(&request.recording).ok_or_else(unknown);
        let marked = marked.map(|(record, _)| {
            let now = record.ended;
            request.marking.apply(record, &request.by.user, now, NodeId(1)).unwrap();
            record.clone()
        });
        Box::pin(async move { marked })
    }

    fn hold(&self, request: HoldRequest) -> BoxFuture<'static, Result<Recording, Failure>> {
        let unknown = || Failure::new(Code::NotFound, "no such recording");
        let mut recordings = self.recordings.lock().unwrap();
        let held = recordings.get_mut(&request.recording).ok_or_else(unknown);
        let held = held.and_then(|(record, _)| {
            let now = record.ended;
            let done = request.holding.apply(record, &request.by.user, now, NodeId(1));
            let refused = |error: HoldError| Failure::new(Code::Forbidden, error.to_string());
            done.map(|_| record.clone()).map_err(refused)
        });
        Box::pin(async move { held })
    }

    fn delete(&self, request: DeleteRequest) -> BoxFuture<'static, Result<Tombstone, Failure>> {
        let mut recordings = self.recordings.lock().unwrap();
        let deleted = match recordings.get(&request.recording).map(|(record, _)| record.clone()) {
            None => Err(Failure::new(Code::NotFound, "no such recording")),
            Some(record) if record.hold => Err(Failure::new(Code::Forbidden, "under legal hold")),
            Some(record) => {
                recordings.remove(&request.recording);
                let DeleteRequest { by, reason, .. } = request;
                let (at, node) = (record.ended, NodeId(1));
                Ok(Tombstone::of(&record, Deletion { at, node, by, reason }))
            }
        };
        Box::pin(async move { deleted })
    }

    fn repair(&self, id: RecordingId) -> BoxFuture<'static, Result<RecordingId, Failure>> {
        Box::pin(async move { Ok(id) })
    }

    fn stop_recording(
        &self,
        request: StopRequest,
    ) -> BoxFuture<'static, Result<RecordingId, Failure>> {
        self.stopped.lock().unwrap().push(request);
        async { Ok(id(999)) }.boxed()
    }

    fn pause_recording(
        &self,
        request: PauseRequest,
    ) -> BoxFuture<'static, Result<PauseReply, Failure>> {
        let pausedms = if request.pause { 0 } else { 2_500 };
        self.paused.lock().unwrap().push(request);
        async move { Ok(PauseReply { recordingid: id(999), pausedms }) }.boxed()
    }

    fn cluster_status(&self) -> Map<String, Value> {
        let mut status = Map::new();
        status.insert("leader".to_owned(), 1.into());
        status
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }

    fn readiness(&self) -> Result<(), Vec<String>> {
        if self.ready.load(Ordering::SeqCst) {
            return Ok(());
        }
        Err(vec!["no phantom is registered".to_owned()])
    }

    fn metrics(&self) -> String {
        "astlogger_aes_up 1".to_owned()
    }
}

/// A server before a made-up node, with a user of each role; `anna` is the agent at 2611.
pub struct Site {
    pub node: Arc<FakeNode>,
    pub server: Running,
    pub users_file: PathBuf,
    /// The data folder.
    pub folder: tempfile::TempDir,
}

impl Site {
    pub async fn new() -> Self {
        Self::with(Limits::default(), FakeNode::new()).await
    }

    pub async fn with(limits: Limits, node: Arc<FakeNode>) -> Self {
        Self::with_disk(limits, node, DiskShare::Bytes(0)).await
    }

    /// A site on whose disk so much is to stay free.
    pub async fn with_disk(limits: Limits, node: Arc<FakeNode>, free: DiskShare) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("users.toml"), users()).unwrap();
        Self::in_folder(folder, limits, node, free).await
    }

    /// The same site after its server was stopped and started anew, with something done between.
    pub async fn restarted(self, between: impl AsyncFnOnce()) -> Self {
        let Self { node, server, folder, .. } = self;
        server.stop().await;
        between().await;
        Self::in_folder(folder, Limits::default(), node, DiskShare::Bytes(0)).await
    }

    pub async fn without_users() -> Self {
        let (folder, node) = (tempfile::tempdir().unwrap(), FakeNode::new());
        Self::in_folder(folder, Limits::default(), node, DiskShare::Bytes(0)).await
    }

    /// One that knows a provider of OpenID Connect.
    pub async fn with_provider(oidc: Oidc) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("users.toml"), users()).unwrap();
        let (node, free) = (FakeNode::new(), DiskShare::Bytes(0));
        Self::in_folder_with(folder, Some(oidc), Limits::default(), node, free).await
    }

    async fn in_folder(
        folder: tempfile::TempDir,
        limits: Limits,
        node: Arc<FakeNode>,
        mindiskfree: DiskShare,
    ) -> Self {
        Self::in_folder_with(folder, None, limits, node, mindiskfree).await
    }

    async fn in_folder_with(
        folder: tempfile::TempDir,
        oidc: Option<Oidc>,
        limits: Limits,
        node: Arc<FakeNode>,
        mindiskfree: DiskShare,
    ) -> Self {
        let users_file = folder.path().join("users.toml");
        let clerk = Clerk::new(NodeId(1), folder.path());
        *node.clerk.lock().unwrap() = Some(Arc::clone(&clerk));
        let config = WebConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            tls: None,
            insecure: false,
            users_file: users_file.clone(),
            oidc,
            clerk,
            drills: node.clone(),
            datadir: folder.path().to_owned(),
            mindiskfree,
            scorecards: vec![scorecard()],
            limits,
        };
        let server = serve(config, node.clone()).await.unwrap();
        Self { node, server, users_file, folder }
    }
}

/// The form by which calls are judged there.
fn scorecard() -> Scorecard {
    let questions = json!([
        { "id": "greeting", "text": "Greeted?", "kind": "yesno" },
        { "id": "help", "text": "Helped?", "kind": "points", "max": 10, "weight": 3 },
        { "id": "remarks", "text": "What else?", "kind": "text" },
    ]);
    serde_json::from_value(json!({ "name": "Service", "questions": questions })).unwrap()
}

pub fn user_of(role: UserRole) -> &'static str {
    match role {
        UserRole::Agent => "anna",
        UserRole::Supervisor => "susan",
        UserRole::Qa => "quentin",
        UserRole::Auditor => "otto",
        UserRole::Admin => "adam",
    }
}

pub fn users() -> String {
    // As cheap as argon2 allows: what it costs is not what is tested.
    let params = argon2::Params::new(8, 1, 1, None).unwrap();
    let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let salt = SaltString::encode_b64(b"saltsaltsaltsalt").unwrap();
    let hash = argon2.hash_password(PASSWORD.as_bytes(), &salt).unwrap().to_string();
    UserRole::ALL
        .into_iter()
        .map(|role| {
            let extension = if role == UserRole::Agent { "extension = \"2611\"\n" } else { "" };
            let name = user_of(role);
            format!(
                "[[user]]\nname = \"{name}\"\nrole = \"{role}\"\npassword = \"{hash}\"\n{extension}"
            )
        })
        .collect()
}

pub fn id(number: u64) -> RecordingId {
    RecordingId::new(WallTime::from_millis(1_700_000_000_000 + number.cast_signed()), [7; 10])
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..bytes)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        })
        .collect()
}

fn recording(number: u64, extension: &str, bytes: &[u8]) -> Recording {
    let value = json!({
        "recordingid": id(number), "ucid": UCID, "callids": ["1"], "extension": extension,
        "agentid": "", "calling": "85212345678", "called": "3000", "direction": "inbound",
        "trunkgroup": "1", "trunkmember": "1", "vdn": "", "split": "", "userdata": "",
        "parties": [], "started": "2023-11-14T22:13:20.000Z", "ended": "2023-11-14T22:13:21.000Z",
        "durationms": 1000, "scope": "station", "trigger": "rule", "rule": "", "copy": 1, "node": 1,
        "segments": [], "gaps": [], "pauses": [], "complete": true,
        "quality": { "lossratio": 0.0, "jitterms": 0.0, "clockdriftppm": 0.0 },
        "format": "wav", "bytes": bytes.len(), "sha256": sha256(bytes), "tags": [], "notes": [],
        "hold": false,
    });
    serde_json::from_value(value).unwrap()
}

/// Waits until `holds`, and fails with `what` after ten seconds.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(10), async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("never: {what}"));
}
