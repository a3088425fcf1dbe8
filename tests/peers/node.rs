//! A node that records nothing: recordings, calls and answers are what the test puts there. Its
//! audio is computed, so that long recordings cost no memory.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use astlogger::audit_pages::{Filter, Lines, Listing as AuditListing, LogPlace, Question, page};
use astlogger::completeness::SeenDay;
use astlogger::peers::{CaptureChunks, PeerService};
use astlogger::web::backend::{
    Audio, Backend, CallList, Code, Event, Failure, FetchFormat, Heard, Hearing, Listing,
    MarkRequest, PauseReply, PauseRequest, StartRequest, StopRequest, Target,
};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use recorder_core::call::{PauseDone, PauseWord};
use serde_json::{Map, Value, json};
use storage::{Catalog, MemoryCatalog};
use storage_core::audit::Numbered;
use storage_core::completeness::SeenCall;
use storage_core::query::Query;
use storage_core::{Extension, NodeId, Recording, RecordingId, SegmentId, Ucid, WallTime};
use tokio::sync::{Semaphore, broadcast, mpsc};

pub struct FakeNode {
    node: NodeId,
    pub catalog: MemoryCatalog,
    /// Copies of recordings that another node owns.
    pub copies: Mutex<Vec<RecordingId>>,
    /// Its own recordings whose files it has lost.
    pub lost: Mutex<Vec<RecordingId>>,
    pub calls: Mutex<Vec<Value>>,
    pub levels: Mutex<BTreeMap<RecordingId, f64>>,
    pub seen: Mutex<Vec<SeenCall>>,
    /// Its audit log; none if it cannot be read.
    pub audit: Mutex<Option<Vec<Numbered>>>,
    /// It does not know that some requests only may be asked for.
    pub is_earlier: AtomicBool,
    pub concerned: Mutex<Vec<String>>,
    pub start_answer: Mutex<Result<RecordingId, Failure>>,
    /// A start takes a permit of these.
    pub may_start: Arc<Semaphore>,
    pub started: Mutex<Vec<StartRequest>>,
    pub stop_answer: Mutex<Result<RecordingId, Failure>>,
    /// So does a stop of these.
    pub may_stop: Arc<Semaphore>,
    pub stopped: Mutex<Vec<StopRequest>>,
    pub pause_answer: Mutex<Result<PauseDone, Failure>>,
    pub learned: Mutex<Vec<PauseWord>>,
    /// It takes a permit of these to learn of a pause.
    pub may_learn: Arc<Semaphore>,
    pub ready: Mutex<Result<(), Vec<String>>>,
    pub audio_opened: AtomicUsize,
    pub audio_open: Arc<AtomicUsize>,
    pub audio_bytes: Arc<AtomicU64>,
    /// Those who listen to its call.
    pub listeners: Mutex<Vec<mpsc::Sender<Heard>>>,
    pub may_listen: Mutex<Result<(), Failure>>,
}

impl FakeNode {
    pub fn new(node: NodeId) -> Arc<Self> {
        Arc::new(Self {
            node,
            catalog: MemoryCatalog::new(),
            copies: Mutex::default(),
            lost: Mutex::default(),
            seen: Mutex::default(),
            audit: Mutex::new(Some(Vec::new())),
            is_earlier: AtomicBool::new(false),
            calls: Mutex::default(),
            levels: Mutex::default(),
            concerned: Mutex::default(),
            start_answer: Mutex::new(Ok(id(u64::from(node.0)))),
            may_start: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            started: Mutex::default(),
            stop_answer: Mutex::new(no(Code::NotFound)),
            may_stop: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            stopped: Mutex::default(),
            pause_answer: Mutex::new(no(Code::NoCall)),
            learned: Mutex::default(),
            may_learn: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            ready: Mutex::new(Ok(())),
            audio_opened: AtomicUsize::new(0),
            audio_open: Arc::default(),
            audio_bytes: Arc::default(),
            listeners: Mutex::default(),
            may_listen: Mutex::new(Ok(())),
        })
    }

    /// Enters a recording that `owner` owns.
    pub fn list(&self, number: u64, owner: u16, bytes: u64) -> RecordingId {
        let recording = recording(number, owner, bytes);
        self.catalog.put(&recording).unwrap();
        recording.recordingid
    }

    /// The call in progress, and the node that records it; no call without.
    pub fn sees(&self, ucid: &str, recorded_by: Option<u16>) {
        let recorded = recorded_by.map(|node| json!({ "node": node, "recordingid": id(1) }));
        let mut call = json!({ "ucid": ucid, "callid": "1", "extensions": ["2611"] });
        if let Some(recorded) = recorded {
            call["recorded"] = recorded;
        }
        *self.calls.lock().unwrap() = vec![call];
    }

    pub fn starts(&self) -> usize {
        self.started.lock().unwrap().len()
    }

    pub fn stops(&self) -> usize {
        self.stopped.lock().unwrap().len()
    }
}

pub fn no<T>(code: Code) -> Result<T, Failure> {
    Err(Failure::new(code, format!("says {}", code.as_str())))
}

/// The audio of the recording of this id, from `offset`.
pub fn fill(id: RecordingId, offset: u64, buffer: &mut [u8]) {
    let seed = id.0.as_u64_pair().0;
    for (at, byte) in (offset..).zip(buffer) {
        let word = (at / 8 + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        *byte = (word ^ (word >> 29)).to_le_bytes()[(at % 8) as usize];
    }
}

struct Computed {
    id: RecordingId,
    bytes: u64,
    open: Arc<AtomicUsize>,
    read: Arc<AtomicU64>,
}

impl Drop for Computed {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Audio for Computed {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn mark(&self) -> String {
        "of what lies here".to_owned()
    }

    fn sha256(&self) -> Option<String> {
        Some("of the whole".to_owned())
    }

    fn media_type(&self) -> &'static str {
        "audio/wav"
    }

    fn file_extension(&self) -> &'static str {
        "wav"
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.bytes.saturating_sub(offset)).unwrap();
        let count = left.min(buffer.len());
        fill(self.id, offset, &mut buffer[..count]);
        self.read.fetch_add(count as u64, Ordering::SeqCst);
        Ok(count)
    }
}

impl Backend for FakeNode {
    fn search(&self, query: &Query) -> Result<Listing, Failure> {
        Ok(Listing { page: self.catalog.search(query).unwrap(), ..Listing::default() })
    }

    fn recording(&self, id: RecordingId) -> Result<Option<Recording>, Failure> {
        Ok(self.catalog.get(id).unwrap())
    }

    fn open_audio(&self, id: RecordingId, format: FetchFormat) -> Result<Box<dyn Audio>, Failure> {
        if format == FetchFormat::Opus {
            return no(Code::Unavailable);
        }
        let record = self.recording(id)?.filter(|record| self.holds(record));
        let record = record.ok_or_else(|| no::<()>(Code::NotFound).unwrap_err())?;
        self.audio_opened.fetch_add(1, Ordering::SeqCst);
        self.audio_open.fetch_add(1, Ordering::SeqCst);
        let (open, read) = (Arc::clone(&self.audio_open), Arc::clone(&self.audio_bytes));
        Ok(Box::new(Computed { id, bytes: record.bytes, open, read }))
    }

    fn seen(&self, _: WallTime) -> Result<SeenDay, Failure> {
        let calls = self.seen.lock().unwrap().clone();
        Ok(SeenDay { calls, unreachable: Vec::new() })
    }

    fn audit(&self, question: &Question) -> Result<AuditListing, Failure> {
        let Question { filter, places, limit } = question;
        let lines = self.audit_lines(filter.clone(), places.of(self.node), *limit)?;
        let page = page(places, vec![(self.node, lines)], *limit);
        Ok(AuditListing { node: self.node, page, unreachable: Vec::new() })
    }

    fn calls(&self) -> BoxFuture<'static, CallList> {
        let calls = self.calls.lock().unwrap().clone();
        async { CallList { calls, unreachable: Vec::new() } }.boxed()
    }

    fn listen(&self, _: &Ucid) -> BoxFuture<'static, Result<Hearing, Failure>> {
        if let Err(failure) = self.may_listen.lock().unwrap().clone() {
            return async { Err(failure) }.boxed();
        }
        let (sender, heard) = mpsc::channel(1);
        self.listeners.lock().unwrap().push(sender);
        let sound = stream::unfold(heard, |mut heard| async { Some((heard.recv().await?, heard)) });
        let node = self.node;
        async move { Ok(Hearing { node, sound: sound.boxed() }) }.boxed()
    }

    fn concerns(&self, _target: &Target, extension: &Extension) -> BoxFuture<'static, bool> {
        let own = self.concerned.lock().unwrap().iter().any(|one| one == extension.as_str());
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
        let known = self.catalog.get(request.recording).unwrap();
        let marked = known.ok_or_else(|| Failure::new(Code::NotFound, "no such recording"));
        let marked = marked.map(|mut record| {
            let now = record.ended;
            request.marking.apply(&mut record, &request.by.user, now, self.node).unwrap();
            self.catalog.put(&record).unwrap();
            record
        });
        Box::pin(async move { marked })
    }

    fn repair(&self, id: RecordingId) -> BoxFuture<'static, Result<RecordingId, Failure>> {
        Box::pin(async move { Ok(id) })
    }

    fn stop_recording(
        &self,
        request: StopRequest,
    ) -> BoxFuture<'static, Result<RecordingId, Failure>> {
        self.stopped.lock().unwrap().push(request);
        let answer = self.stop_answer.lock().unwrap().clone();
        let may = Arc::clone(&self.may_stop);
        async move {
            may.acquire().await.unwrap().forget();
            answer
        }
        .boxed()
    }

    fn pause_recording(
        &self,
        request: PauseRequest,
    ) -> BoxFuture<'static, Result<PauseReply, Failure>> {
        let done = self.pause_here(request);
        async move {
            let PauseDone { recording, pausedms, .. } = done.await?;
            Ok(PauseReply { recordingid: recording, pausedms })
        }
        .boxed()
    }

    fn cluster_status(&self) -> Map<String, Value> {
        Map::from_iter([("node".to_owned(), self.node.0.into())])
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<Event>> {
        broadcast::Sender::new(1).subscribe()
    }

    fn readiness(&self) -> Result<(), Vec<String>> {
        self.ready.lock().unwrap().clone()
    }

    fn metrics(&self) -> String {
        String::new()
    }
}

impl PeerService for FakeNode {
    fn audit_lines(&self, filter: Filter, place: LogPlace, limit: usize) -> Result<Lines, Failure> {
        let log = self.audit.lock().unwrap().clone();
        let mut entries = log.ok_or_else(|| no::<()>(Code::Unavailable).unwrap_err())?;
        entries.retain(|line| line.seq > place.within(None));
        if !self.is_earlier.load(Ordering::SeqCst) && !filter.actions.is_empty() {
            entries.retain(|line| filter.actions.contains(&line.entry.action));
        }
        entries.retain(|line| filter.user.as_ref().is_none_or(|user| *user == line.entry.user));
        Ok(Lines::cut(entries, None, limit))
    }

    fn levels(&self) -> BoxFuture<'static, BTreeMap<RecordingId, f64>> {
        let levels = self.levels.lock().unwrap().clone();
        Box::pin(async { levels })
    }

    fn pause_here(&self, _: PauseRequest) -> BoxFuture<'static, Result<PauseDone, Failure>> {
        let answer = self.pause_answer.lock().unwrap().clone();
        async move { answer }.boxed()
    }

    fn learn_pauses(&self, words: Vec<PauseWord>) -> BoxFuture<'static, Result<(), Failure>> {
        self.learned.lock().unwrap().extend(words);
        let may = Arc::clone(&self.may_learn);
        async move {
            may.acquire().await.unwrap().forget();
            Ok(())
        }
        .boxed()
    }

    fn holds(&self, record: &Recording) -> bool {
        let of =
            |list: &Mutex<Vec<RecordingId>>| list.lock().unwrap().contains(&record.recordingid);
        record.node == self.node && !of(&self.lost) || of(&self.copies)
    }

    /// Each segment is three chunks of its number; segment 13 breaks.
    fn capture(
        &self,
        recording: RecordingId,
        segments: &[SegmentId],
    ) -> Result<CaptureChunks, Failure> {
        if self.catalog.get(recording).unwrap().is_none() {
            return no(Code::NotFound);
        }
        let chunk = |segment: SegmentId| match segment.0 {
            13 => no(Code::Internal),
            number => Ok(vec![number as u8; 300_000]),
        };
        let chunks: Vec<_> = segments.iter().flat_map(|one| [*one; 3]).map(chunk).collect();
        Ok(stream::iter(chunks).boxed())
    }
}

pub fn id(number: u64) -> RecordingId {
    RecordingId::new(WallTime::from_millis(1_700_000_000_000 + number.cast_signed()), [7; 10])
}

pub fn recording(number: u64, owner: u16, bytes: u64) -> Recording {
    let started = WallTime::from_millis(1_700_000_000_000 + number.cast_signed());
    let value = json!({
        "recordingid": id(number), "callids": ["1"], "extension": "2611",
        "agentid": "", "calling": "85212345678", "called": "3000", "direction": "inbound",
        "trunkgroup": "1", "trunkmember": "1", "vdn": "", "split": "", "userdata": "",
        "parties": [], "started": started, "ended": started, "durationms": 1000,
        "scope": "station", "trigger": "rule", "rule": "", "copy": 1, "node": owner,
        "segments": [], "gaps": [], "pauses": [], "complete": true,
        "quality": { "lossratio": 0.0, "jitterms": 0.0, "clockdriftppm": 0.0 },
        "format": "wav", "bytes": bytes, "sha256": format!("{number}-{bytes}"), "tags": [],
        "notes": [], "hold": false,
    });
    serde_json::from_value(value).unwrap()
}
