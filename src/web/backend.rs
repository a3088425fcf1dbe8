//! What the web server asks of the node behind it, as one object-safe trait, and the words of the
//! answers. It decides nothing: who may ask is `protocol`'s matter, what is recorded the daemon's.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use axum::extract::ws::Utf8Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use recorder_core::media::playout::Frame;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
pub use storage::FetchFormat;
use storage::Page;
use storage_core::hold::Holding;
use storage_core::marks::Marking;
use storage_core::query::Query;
use storage_core::record::Scope;
use storage_core::tombstone::Tombstone;
use storage_core::{Extension, NodeId, Recording, RecordingId, Role, Ucid, WallTime};
use tokio::sync::broadcast;

use std::sync::Arc;

use crate::audit_pages::{Listing as AuditListing, Question as AuditQuestion};
use crate::completeness::SeenDay;
use crate::users::UserRole;

/// A stable failure code of the outside contract (interface, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Nobody is signed in here.
    NotAuthenticated,
    /// Signed in, but not allowed.
    Forbidden,
    /// No request of this name exists.
    UnknownRequest,
    /// An argument is absent, of the wrong type, or of a value that cannot be.
    BadValue,
    /// No such recording, fetch or address.
    NotFound,
    /// No call in progress there.
    NoCall,
    /// Scope `trunk` on a call without an outside party.
    NoTrunk,
    /// No phantom is free.
    NoPhantom,
    /// The call is being recorded already.
    AlreadyRecording,
    /// It cannot be done here or now, or not in this version.
    Unavailable,
    /// Too much at once; try again later.
    Busy,
    /// Our own fault.
    Internal,
}

impl Code {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::NotAuthenticated,
        Self::Forbidden,
        Self::UnknownRequest,
        Self::BadValue,
        Self::NotFound,
        Self::NoCall,
        Self::NoTrunk,
        Self::NoPhantom,
        Self::AlreadyRecording,
        Self::Unavailable,
        Self::Busy,
        Self::Internal,
    ];

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotAuthenticated => "notauthenticated",
            Self::Forbidden => "forbidden",
            Self::UnknownRequest => "unknownrequest",
            Self::BadValue => "badvalue",
            Self::NotFound => "notfound",
            Self::NoCall => "nocall",
            Self::NoTrunk => "notrunk",
            Self::NoPhantom => "nophantom",
            Self::AlreadyRecording => "alreadyrecording",
            Self::Unavailable => "unavailable",
            Self::Busy => "busy",
            Self::Internal => "internal",
        }
    }

    /// Reads the word of the wire.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == word)
    }
}

/// Why a request was not done: the code for programs, the message for people. The message goes to
/// the client as it is, so it names the thing and the remedy and holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.as_str())]
pub struct Failure {
    /// For programs; never changes.
    pub code: Code,
    /// For people; may change.
    pub message: String,
}

impl Failure {
    /// A failure with this code and this message.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// Who asks: stored with what he causes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct By {
    /// The user's name.
    pub user: String,
    /// What he is.
    pub role: UserRole,
    /// The station he works at, if he is tied to one.
    pub extension: Option<Extension>,
}

/// What a start, stop or ownership question is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// The call in progress at this station.
    Extension(Extension),
    /// The call of this identity.
    Ucid(Ucid),
    /// The call in progress of which this is the recording.
    Recording(RecordingId),
}

/// `startrecording`. The target is never a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartRequest {
    /// Which call.
    pub target: Target,
    /// What the recording follows.
    pub scope: Scope,
    /// Who asks.
    pub by: By,
}

/// `stoprecording`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopRequest {
    /// Which recording.
    pub target: Target,
    /// Who asks.
    pub by: By,
}

/// `pauserecording` and `resumerecording`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseRequest {
    /// Which recording.
    pub target: Target,
    /// Pause it, or go on.
    pub pause: bool,
    /// Who asks.
    pub by: By,
}

/// `tagrecording` and `scorerecording`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MarkRequest {
    /// Which recording.
    pub recording: RecordingId,
    /// What is to be written about it.
    pub marking: Marking,
    /// Who asks.
    pub by: By,
}

/// `legalhold`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldRequest {
    /// Which recording.
    pub recording: RecordingId,
    /// What is wanted.
    pub holding: Holding,
    /// Who asks.
    pub by: By,
}

/// `deleterecording`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteRequest {
    /// Which recording.
    pub recording: RecordingId,
    /// Why.
    pub reason: String,
    /// Who asks: a person, or retention.
    pub by: String,
}

/// What is answered to `pauserecording` and `resumerecording`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PauseReply {
    /// The recording.
    pub recordingid: RecordingId,
    /// How long it was paused so far, milliseconds.
    pub pausedms: u64,
}

/// A member that cannot be reached now: what only it has is missing from an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Unreachable {
    /// Its number.
    pub node: NodeId,
    /// What it is configured for; absent while that was never heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}", self.node)?;
        self.role.map_or(Ok(()), |role| write!(f, " ({})", role.as_str()))
    }
}

/// What a search gives.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listing {
    /// The recordings.
    pub page: Page,
    /// Whose may be missing.
    pub unreachable: Vec<Unreachable>,
    /// What a database of all sites had to do with it; `None`: there is none, or it is not searched.
    pub all_sites: Option<SearchedSites>,
}

/// Whether a search went to all sites.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SearchedSites {
    /// It did; whose each recording is.
    All(BTreeMap<RecordingId, String>),
    /// The database did not answer, so these are this group's.
    OwnOnly {
        /// Why, for people.
        because: String,
    },
}

/// The calls in progress.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CallList {
    /// An object each.
    pub calls: Vec<Value>,
    /// Who could not be asked.
    pub unreachable: Vec<Unreachable>,
}

/// Audio that was opened for reading. It keeps its length while it is open. What lies on this node
/// stays readable whatever happens to the recording (retention, deletion); what is streamed from a
/// peer may break off, with an error that says so.
pub trait Audio: Send + 'static {
    /// Bytes in all.
    fn bytes(&self) -> u64;

    /// Names this very recording as it lies now; sealed anew it has another. Costs nothing.
    fn mark(&self) -> String;

    /// SHA-256 of all of it, lower-case hex; none if that takes more work than the sending. May
    /// read all of it, and block.
    fn sha256(&self) -> Option<String>;

    /// `audio/wav` or `audio/ogg`.
    fn media_type(&self) -> &'static str;

    /// Ending of a file name for it: `wav` or `opus`.
    fn file_extension(&self) -> &'static str;

    /// What is going to be read, in order: lets a peer send just that. A hint; other bytes can be
    /// read all the same.
    fn will_read(&mut self, first: u64, end: u64) {
        let _ = (first, end);
    }

    /// Reads some bytes at `offset`; 0 only at the end. Blocking.
    ///
    /// # Errors
    /// Whatever the disk or the peer says.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
}

/// What somebody who listens to a call is handed.
#[expect(clippy::large_enum_variant, reason = "nearly all of them are frames")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// 20 ms of it.
    Frame(Frame),
    /// From now on this node records it, and is listened to.
    Moved(NodeId),
}

/// A call that is listened to. Dropping it ends that.
pub struct Hearing {
    /// The node that records the call.
    pub node: NodeId,
    /// What is heard; it ends with the call.
    pub sound: BoxStream<'static, Heard>,
}

/// What a client subscribes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// `callstarted`, `callupdated`, `callended`.
    Calls,
    /// `recordingstarted`, `recordingpublished` and their like.
    Recordings,
    /// `rolechanged`, `takeover`.
    Cluster,
    /// `alarm`, `alarmcleared`.
    Alarms,
    /// `exportprogress`, `exportcomplete`: of one's own exports.
    Exports,
    /// `levels`: how loud the calls are, once a second.
    Levels,
}

impl Topic {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Calls, Self::Recordings, Self::Cluster, Self::Alarms, Self::Exports, Self::Levels];

    /// Reads the word of the wire.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.as_str() == word)
    }

    /// The word of the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::Recordings => "recordings",
            Self::Cluster => "cluster",
            Self::Alarms => "alarms",
            Self::Exports => "exports",
            Self::Levels => "levels",
        }
    }
}

/// Something that happened, written once for all who hear of it.
pub struct Event {
    /// Who hears of it.
    pub topic: Topic,
    /// The stations it is about; an agent hears of calls at his own only.
    pub extensions: Vec<Extension>,
    text: Utf8Bytes,
}

impl Event {
    /// An event of this `eventtype` whose other members are `body`.
    #[must_use]
    pub fn new(
        topic: Topic,
        eventtype: &'static str,
        extensions: Vec<Extension>,
        mut body: Map<String, Value>,
    ) -> Self {
        body.insert("eventtype".to_owned(), eventtype.into());
        Self { topic, extensions, text: Value::Object(body).to_string().into() }
    }

    /// The JSON text of the frame.
    #[must_use]
    pub fn text(&self) -> &Utf8Bytes {
        &self.text
    }
}

impl fmt::Debug for Event {
    /// Without the body: it holds telephone numbers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// Who can hand a running site over to its next recorder and back.
pub trait Drill: Send + Sync + 'static {
    /// Does it, and gives what it came to, a line each way and the gaps that were measured. It must not be
    /// dropped before it is done: the lead would stay where it is then.
    ///
    /// # Errors
    /// `busy` while somebody else changes the group; `unavailable`, with the reason, where nobody else can
    /// record or the lead did not move in time.
    fn drill(&self) -> BoxFuture<'static, Result<Vec<String>, Failure>>;
}

/// The node behind the web server.
///
/// The methods that return at once may block (disk, peer): they are called on blocking threads,
/// but for `cluster_status`, `subscribe`, `readiness` and `metrics`, which must be quick.
/// A future may be dropped at any await, when its client goes away: what was begun then either
/// goes on or is undone, and nothing else suffers.
pub trait Backend: Send + Sync + 'static {
    /// `listrecordings`.
    ///
    /// # Errors
    /// `badvalue` for a cursor that is not ours, `unavailable`, `internal`.
    fn search(&self, query: &Query) -> Result<Listing, Failure>;

    /// The same for people, who look for the recordings of all sites where there is a database of them. Deciding
    /// what is kept or missing here is `search`'s matter.
    ///
    /// # Errors
    /// As `search`.
    fn find(&self, query: &Query) -> Result<Listing, Failure> {
        self.search(query)
    }

    /// What this group's site is called in the database of all sites; `None` where people's searches do not go there.
    fn own_site(&self) -> Option<String> {
        None
    }

    /// Whose a recording is that this group does not list; `None` if it does, or nobody knows it.
    ///
    /// # Errors
    /// `unavailable`.
    fn other_site(&self, id: RecordingId) -> Result<Option<String>, Failure> {
        let _ = id;
        Ok(None)
    }

    /// One record, or none.
    ///
    /// # Errors
    /// `unavailable`, `internal`.
    fn recording(&self, id: RecordingId) -> Result<Option<Recording>, Failure>;

    /// Opens a recording's audio.
    ///
    /// # Errors
    /// `notfound`; `unavailable` for a form that cannot be had; `internal`.
    fn open_audio(&self, id: RecordingId, format: FetchFormat) -> Result<Box<dyn Audio>, Failure>;

    /// What was seen of the calls that began on a UTC day.
    ///
    /// # Errors
    /// `internal` if it cannot be read.
    fn seen(&self, day: WallTime) -> Result<SeenDay, Failure>;

    /// `listaudit`: what people asked of whom, and what came of it.
    ///
    /// # Errors
    /// `unavailable` if the node's own log cannot be read.
    fn audit(&self, question: &AuditQuestion) -> Result<AuditListing, Failure>;

    /// The calls in progress.
    fn calls(&self) -> BoxFuture<'static, CallList>;

    /// Listens to a call that is being recorded.
    fn listen(&self, ucid: &Ucid) -> BoxFuture<'static, Result<Hearing, Failure>> {
        let _ = ucid;
        Box::pin(async { Err(Failure::new(Code::Unavailable, "this node records no calls")) })
    }

    /// Whether `extension` is in the call that `target` names, so that its agent may start or stop
    /// the recording. False when there is no such call.
    fn concerns(&self, target: &Target, extension: &Extension) -> BoxFuture<'static, bool>;

    /// Starts a recording; ready once media flows.
    fn start_recording(
        &self,
        request: StartRequest,
    ) -> BoxFuture<'static, Result<RecordingId, Failure>>;

    /// Stops a recording.
    fn stop_recording(
        &self,
        request: StopRequest,
    ) -> BoxFuture<'static, Result<RecordingId, Failure>>;

    /// Pauses a recording or resumes it; ready once nobody captures it any more.
    fn pause_recording(
        &self,
        request: PauseRequest,
    ) -> BoxFuture<'static, Result<PauseReply, Failure>>;

    /// Writes down tags and notes; the answer is the record as it is then.
    fn mark(&self, request: MarkRequest) -> BoxFuture<'static, Result<Recording, Failure>>;

    /// Holds a recording or releases it, as far as one person can; the answer is the record as it is then.
    fn hold(&self, request: HoldRequest) -> BoxFuture<'static, Result<Recording, Failure>> {
        drop(request);
        Box::pin(async { Err(Failure::new(Code::Unavailable, "this node lists no recordings")) })
    }

    /// Deletes a recording on all nodes, unless it is held; the answer is what stays of it.
    fn delete(&self, request: DeleteRequest) -> BoxFuture<'static, Result<Tombstone, Failure>> {
        drop(request);
        Box::pin(async { Err(Failure::new(Code::Unavailable, "this node lists no recordings")) })
    }

    /// Makes a third recording of the two copies of a call: this one, with its holes filled from the other.
    fn repair(&self, id: RecordingId) -> BoxFuture<'static, Result<RecordingId, Failure>>;

    /// The members of the reply to `clusterstatus`.
    fn cluster_status(&self) -> Map<String, Value>;

    /// Everything that happens from now on.
    fn subscribe(&self) -> broadcast::Receiver<Arc<Event>>;

    /// Whether a call could be recorded now.
    ///
    /// # Errors
    /// Every reason why not, for people.
    fn readiness(&self) -> Result<(), Vec<String>>;

    /// The node's metrics in Prometheus text form; the web server adds its own.
    fn metrics(&self) -> String;
}
