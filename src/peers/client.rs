//! Asks a peer, with a deadline, and says what became of it: whether it never got the question,
//! got it and did not answer, or refused. Each failure names the node. Whom to ask is decided in
//! `group`.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use cluster::{Group, RequestError, Response};
use recorder_core::call::{PauseDone, PauseWord};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use storage::FetchFormat;
use storage_core::completeness::SeenCall;
use storage_core::journal::Place;
use storage_core::marks::Marks;
use storage_core::query::{Position, Query};
use storage_core::tombstone::Tombstone;
use storage_core::{Extension, NodeId, Recording, RecordingId, SegmentId, Ucid, WallTime};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

use super::protocol::{
    ANSWER_BYTES_MAX, Ask, AudioHead, FoundPage, Held, KeptHead, MirrorHead, MirrorPlace,
    OwnedPage, PIECE_BYTES_MAX, Part, SeenPage, decode_answer, encode_ask,
};
use crate::audit_pages::{Filter, Lines, LogPlace};
use crate::tidings::Tiding;
use crate::web::backend::{
    Code, DeleteRequest, Failure, HoldRequest, MarkRequest, PauseRequest, StartRequest,
    StopRequest, Target,
};

/// A peer that is there greets at once; whoever does not leaves time to ask another.
const GREETED_WITHIN: Duration = Duration::from_secs(1);
/// A stream on which nothing comes for so long is given up.
const STALLED: Duration = Duration::from_secs(10);

/// Why a peer did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerError {
    /// It never got the question, so nothing was done.
    NotAsked(Failure),
    /// It may have got it, and may have done it; there is no whole answer.
    Unanswered(Failure),
    /// It says no.
    Refused(Failure),
}

impl PeerError {
    /// For people.
    #[must_use]
    pub fn into_failure(self) -> Failure {
        match self {
            Self::NotAsked(failure) | Self::Unanswered(failure) | Self::Refused(failure) => failure,
        }
    }

    /// Whether nothing is known of the node's answer, because it is down, most likely.
    #[must_use]
    pub const fn is_silence(&self) -> bool {
        matches!(self, Self::NotAsked(_) | Self::Unanswered(_))
    }
}

/// The way to the peers of this node. Clones are the same way.
#[derive(Clone, Debug)]
pub struct Peers {
    group: Group,
    runtime: Handle,
}

impl Peers {
    /// The peers in this group. To be called within the runtime in which it is to work.
    #[must_use]
    pub fn new(group: Group) -> Self {
        Self { group, runtime: Handle::current() }
    }

    /// The group they are in.
    #[must_use]
    pub const fn group(&self) -> &Group {
        &self.group
    }

    /// These records, as far as the peer knows them.
    ///
    /// # Errors
    /// [`PeerError`], in all methods here.
    pub async fn records(
        &self,
        node: NodeId,
        ids: Vec<RecordingId>,
        within: Duration,
    ) -> Result<Vec<Held>, PeerError> {
        self.ask(node, &Ask::Records { ids }, within).await
    }

    /// A page of the records of all recordings that the peer lists, oldest first. (One of an earlier
    /// version tells those that it owns.)
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn records_since(
        &self,
        node: NodeId,
        cursor: Option<Position>,
        limit: usize,
        within: Duration,
    ) -> Result<OwnedPage, PeerError> {
        self.ask(node, &Ask::RecordsSince { cursor, limit, all: true }, within).await
    }

    /// A page of the recordings in the peer's catalog.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn search(
        &self,
        node: NodeId,
        query: Query,
        within: Duration,
    ) -> Result<FoundPage, PeerError> {
        self.ask(node, &Ask::Search { query: Box::new(query) }, within).await
    }

    /// The peer's calls in progress.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn calls(&self, node: NodeId, within: Duration) -> Result<Vec<Value>, PeerError> {
        self.ask(node, &Ask::Calls, within).await
    }

    /// How loud the calls are that the peer records.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn levels(
        &self,
        node: NodeId,
        within: Duration,
    ) -> Result<BTreeMap<RecordingId, f64>, PeerError> {
        self.ask(node, &Ask::Levels, within).await
    }

    /// Listens to a call that the peer records.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn listen(
        &self,
        node: NodeId,
        ucid: &Ucid,
        within: Duration,
    ) -> Result<Stream, PeerError> {
        let ask = Ask::Listen { ucid: ucid.clone() };
        let (_, stream) = self.open::<bool>(node, &ask, within).await?;
        Ok(stream)
    }

    /// What the peer saw of the calls that began on a day.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn seen(
        &self,
        node: NodeId,
        day: WallTime,
        within: Duration,
    ) -> Result<Vec<SeenCall>, PeerError> {
        let mut calls = Vec::new();
        loop {
            let ask = Ask::Seen { day, from: calls.len() };
            let page: SeenPage = self.ask(node, &ask, within).await?;
            calls.extend(page.calls);
            if !page.more {
                return Ok(calls);
            }
        }
    }

    /// Lines of the peer's audit log.
    ///
    /// # Errors
    /// [`PeerError`]; refused by one of an earlier version.
    pub async fn audit_lines(
        &self,
        node: NodeId,
        filter: Filter,
        place: LogPlace,
        limit: usize,
        within: Duration,
    ) -> Result<Lines, PeerError> {
        let LogPlace { seq: after, log } = place;
        self.ask(node, &Ask::Audit { filter, after, log, limit }, within).await
    }

    /// Whether the station is in the call, as the peer sees it.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn concerns(
        &self,
        node: NodeId,
        target: Target,
        extension: Extension,
        within: Duration,
    ) -> Result<bool, PeerError> {
        self.ask(node, &Ask::Concerns { target, extension }, within).await
    }

    /// Has the peer start a recording.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn start(
        &self,
        node: NodeId,
        request: StartRequest,
        within: Duration,
    ) -> Result<RecordingId, PeerError> {
        self.ask(node, &Ask::Start(request), within).await
    }

    /// Has the peer repair a recording that it owns.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn repair(
        &self,
        node: NodeId,
        recording: RecordingId,
        within: Duration,
    ) -> Result<RecordingId, PeerError> {
        self.ask(node, &Ask::Repair { recording }, within).await
    }

    /// Has the peer write down what a person says of a recording.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn mark(
        &self,
        node: NodeId,
        request: MarkRequest,
        within: Duration,
    ) -> Result<Recording, PeerError> {
        self.ask(node, &Ask::Mark(request), within).await
    }

    /// Tells the peer what people wrote about a recording; it has written it down when it answers.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn learn_marks(
        &self,
        node: NodeId,
        marks: Marks,
        within: Duration,
    ) -> Result<bool, PeerError> {
        let marks = Box::new(marks);
        let ask = if marks.holdmark.is_some() { Ask::Holds(marks) } else { Ask::Marks(marks) };
        self.ask(node, &ask, within).await
    }

    /// Has the peer hold a recording, or release it.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn hold(
        &self,
        node: NodeId,
        request: HoldRequest,
        within: Duration,
    ) -> Result<Recording, PeerError> {
        self.ask(node, &Ask::Hold(request), within).await
    }

    /// Has the peer delete a recording everywhere.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn delete(
        &self,
        node: NodeId,
        request: DeleteRequest,
        within: Duration,
    ) -> Result<Tombstone, PeerError> {
        self.ask(node, &Ask::Delete(request), within).await
    }

    /// Tells the peer that a recording was deleted; it is gone there when it answers.
    ///
    /// # Errors
    /// [`PeerError`]; it refuses while it holds the recording.
    pub async fn learn_deletion(
        &self,
        node: NodeId,
        tombstone: Tombstone,
        within: Duration,
    ) -> Result<bool, PeerError> {
        self.ask(node, &Ask::Deleted(Box::new(tombstone)), within).await
    }

    /// Tells the peer what happened to recordings of this node.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn tell(
        &self,
        node: NodeId,
        tidings: Vec<Tiding>,
        within: Duration,
    ) -> Result<bool, PeerError> {
        self.ask(node, &Ask::Tidings(tidings), within).await
    }

    /// Has the peer list a recording that was published here.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn list(
        &self,
        node: NodeId,
        record: Recording,
        within: Duration,
    ) -> Result<bool, PeerError> {
        self.ask(node, &Ask::List { record: Box::new(record) }, within).await
    }

    /// Has the peer stop a recording.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn stop(
        &self,
        node: NodeId,
        request: StopRequest,
        within: Duration,
    ) -> Result<RecordingId, PeerError> {
        self.ask(node, &Ask::Stop(request), within).await
    }

    /// Has the peer pause a recording, or resume it.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn pause(
        &self,
        node: NodeId,
        request: PauseRequest,
        within: Duration,
    ) -> Result<PauseDone, PeerError> {
        self.ask(node, &Ask::Pause(request), within).await
    }

    /// Tells the peer what is known of pauses; it has acted upon it when it answers.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn learn_pauses(
        &self,
        node: NodeId,
        words: Vec<PauseWord>,
        within: Duration,
    ) -> Result<bool, PeerError> {
        self.ask(node, &Ask::Pauses(words), within).await
    }

    /// What the peer captured of a recording.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn capture(
        &self,
        node: NodeId,
        recording: RecordingId,
        segments: Vec<SegmentId>,
        within: Duration,
    ) -> Result<Stream, PeerError> {
        let ask = Ask::Capture { recording, segments };
        let (_, stream) = self.open::<bool>(node, &ask, within).await?;
        Ok(stream)
    }

    /// What the peer keeps of what another node captured, and by how much that node's clock is ahead of the
    /// peer's, microseconds; `None` if it keeps nothing of it.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn kept(
        &self,
        node: NodeId,
        owner: NodeId,
        segments: Vec<SegmentId>,
        within: Duration,
    ) -> Result<Option<(i64, Stream)>, PeerError> {
        let ask = Ask::Kept { owner, segments };
        let (head, stream) = self.open::<KeptHead>(node, &ask, within).await?;
        Ok(head.clock_offset_us.map(|offset| (offset, stream)))
    }

    /// What the peer captures, as it captures it, from the place on before which everything of a journal
    /// is there already. Tells which journal it is.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn mirror(
        &self,
        node: NodeId,
        has: Option<(u64, Place)>,
        within: Duration,
    ) -> Result<(u64, Stream), PeerError> {
        let has =
            has.map(|(journal, Place { file, offset })| MirrorPlace { journal, file, offset });
        let (head, stream) = self.open::<MirrorHead>(node, &Ask::Mirror { has }, within).await?;
        Ok((head.journal, stream))
    }

    /// The voice file that a record speaks of, as it was published.
    ///
    /// # Errors
    /// [`PeerError`]; refused if the peer has it not, or another revision of it.
    pub async fn voice_file(
        &self,
        node: NodeId,
        record: &Recording,
        within: Duration,
    ) -> Result<Stream, PeerError> {
        let part = Part { offset: 0, length: record.bytes, mark: record.sha256.clone() };
        let (recording, format) = (record.recordingid, FetchFormat::Original);
        let ask = Ask::Audio { recording, format, part: Some(part), unhashed: true };
        let (_, stream) = self.open::<AudioHead>(node, &ask, within).await?;
        Ok(stream)
    }

    /// The peer as it sees itself.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn status(
        &self,
        node: NodeId,
        within: Duration,
    ) -> Result<Map<String, Value>, PeerError> {
        self.ask(node, &Ask::Status, within).await
    }

    /// Asks a question whose answer comes whole.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        node: NodeId,
        ask: &Ask,
        within: Duration,
    ) -> Result<T, PeerError> {
        let deadline = Instant::now() + within;
        let response = self.send(node, ask, deadline).await?;
        let answer = timeout_at(deadline, response.whole(ANSWER_BYTES_MAX)).await;
        let bytes =
            answer.map_err(|_| late(node, within))?.map_err(|error| broken(node, &error))?;
        read(node, &bytes)
    }

    /// Asks a question whose answer is a stream; its head comes before the deadline.
    pub(super) async fn open<T: DeserializeOwned>(
        &self,
        node: NodeId,
        ask: &Ask,
        within: Duration,
    ) -> Result<(T, Stream), PeerError> {
        let deadline = Instant::now() + within;
        let mut response = self.send(node, ask, deadline).await?;
        let head = timeout_at(deadline, response.chunk()).await;
        let head = head.map_err(|_| late(node, within))?.map_err(|error| broken(node, &error))?;
        let head = read(node, &head.unwrap_or_default())?;
        Ok((head, Stream { node, response }))
    }

    /// When this fails the question was not sent: it is written in one go once the peer has
    /// greeted, and is shorter than a socket's buffer, but for a capture's, which may be asked for
    /// twice.
    async fn send(
        &self,
        node: NodeId,
        ask: &Ask,
        deadline: Instant,
    ) -> Result<Response, PeerError> {
        let not_asked = |reason: &str| {
            let message = format!("node {node} does not answer: {reason}");
            PeerError::NotAsked(Failure::new(Code::Unavailable, message))
        };
        let greeted = deadline.min(Instant::now() + GREETED_WITHIN);
        match timeout_at(greeted, self.group.request(node, encode_ask(ask))).await {
            Err(_) => Err(not_asked("it did not greet in time")),
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error @ RequestError::Broken { .. })) => Err(broken(node, &error)),
            Ok(Err(RequestError::Unreachable { reason, .. })) => Err(not_asked(&reason)),
            Ok(Err(error)) => Err(not_asked(&error.to_string())),
        }
    }

    /// The future's value, for a caller on a blocking thread. It goes on by itself, so the wait
    /// ends in good order when the runtime stops.
    pub(crate) fn wait<T: Send + 'static>(
        &self,
        future: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, Failure> {
        let (sender, receiver) = oneshot::channel();
        self.spawn(async move {
            // A caller that has gone away needs no answer.
            let _ = sender.send(future.await);
        });
        let stopping = || Failure::new(Code::Unavailable, "this node is stopping");
        receiver.blocking_recv().unwrap_or_else(|_| Err(stopping()))
    }

    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(future);
    }
}

/// A long answer as it comes. Not reading it holds the peer back.
pub struct Stream {
    node: NodeId,
    response: Response,
}

impl Stream {
    /// Says something back to the peer.
    ///
    /// # Errors
    /// [`PeerError::Unanswered`] when the connection has broken.
    pub async fn tell(&mut self, word: &[u8]) -> Result<(), PeerError> {
        let told = self.response.tell(word).await;
        told.map_err(|error| broken(self.node, &error))
    }

    /// The next piece; `None` when the answer is whole.
    ///
    /// # Errors
    /// [`PeerError::Unanswered`] when it breaks off, [`PeerError::Refused`] when the peer gives up.
    pub async fn piece(&mut self) -> Result<Option<Vec<u8>>, PeerError> {
        let chunk = timeout(STALLED, self.response.chunk()).await;
        match chunk.map_err(|_| late(self.node, STALLED))? {
            Ok(Some(piece)) if piece.len() > PIECE_BYTES_MAX => Err(garbled(self.node)),
            Ok(piece) => Ok(piece),
            Err(RequestError::Failed { node, reason }) => {
                let message = format!("node {node} says: {reason}");
                Err(PeerError::Refused(Failure::new(Code::Unavailable, message)))
            }
            Err(error) => Err(broken(self.node, &error)),
        }
    }
}

fn late(node: NodeId, within: Duration) -> PeerError {
    let message = format!("node {node} does not answer: nothing came for {within:?}");
    PeerError::Unanswered(Failure::new(Code::Unavailable, message))
}

fn garbled(node: NodeId) -> PeerError {
    let message = format!("the answer of node {node} is not of the peer protocol");
    PeerError::Unanswered(Failure::new(Code::Internal, message))
}

fn broken(node: NodeId, error: &RequestError) -> PeerError {
    match error {
        // Said before anybody looked at the question: it is starting, or has too much to do.
        RequestError::Failed { reason, .. } => {
            let message = format!("node {node} says: {reason}");
            PeerError::NotAsked(Failure::new(Code::Unavailable, message))
        }
        error => {
            let message = format!("node {node} does not answer: {error}");
            PeerError::Unanswered(Failure::new(Code::Unavailable, message))
        }
    }
}

fn read<T: DeserializeOwned>(node: NodeId, bytes: &[u8]) -> Result<T, PeerError> {
    match decode_answer(bytes) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(failure)) => Err(PeerError::Refused(failure)),
        Err(error) => {
            let message = format!("the answer of node {node} cannot be used: {error}");
            Err(PeerError::Unanswered(Failure::new(Code::Internal, message)))
        }
    }
}
