//! Answers the questions of peers for this node. It decides how many long answers run at once and
//! how an answer is cut; what the answers are is the node's matter. It never asks on: a question
//! goes from the node that a person asked to the node that knows, and no further.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use cluster::{Group, Reply};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use recorder_core::call::{PauseDone, PauseWord};
use recorder_core::media::playout::to_bytes;
use serde::Serialize;
use storage::FetchFormat;
use storage_core::journal::Place;
use storage_core::marks::Marks;
use storage_core::query::{Order, Position, Query};
use storage_core::tombstone::Tombstone;
use storage_core::{NodeId, Recording, RecordingId, SegmentId, Ucid, WallTime};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::spawn_blocking;

use super::protocol::{
    Ask, AudioHead, AudioKind, FoundPage, Held, KeptHead, MirrorHead, MirrorPlace, OwnedPage,
    PIECE_BYTES_MAX, Part, ProtocolError, SEEN_MAX, SeenPage, decode_ask, encode_answer,
};
use crate::audit_pages::{Filter, Lines, LogPlace};
use crate::mirror::Feed;
use crate::tidings::Tiding;
use crate::web::backend::{Audio, Backend, Code, Failure, Heard, PauseRequest};

/// Audio streamed to peers at once. The group serves 112 requests at once in all: people who fetch and
/// stop reading, and those who listen to calls (32 at most), must not keep a start or a capture from being served.
const AUDIO_MAX: usize = 40;
/// Captures streamed to peers at once.
const CAPTURES_MAX: usize = 8;
/// Read from the disk and sent at a time.
const PIECE_BYTES: usize = 128 * 1024;
const _: () = assert!(PIECE_BYTES <= PIECE_BYTES_MAX);

/// A capture on its way: pieces of [`PIECE_BYTES_MAX`] at most. The next one is asked for when the
/// one before has been sent.
pub type CaptureChunks = BoxStream<'static, Result<Vec<u8>, Failure>>;

/// What a node answers to its peers: what it answers to people, of itself alone, and a little more.
pub trait PeerService: Backend {
    /// Whether the audio of this very record lies here. May block.
    fn holds(&self, record: &Recording) -> bool;

    /// What was captured of a recording, in the order of the segments. May block.
    ///
    /// # Errors
    /// `notfound`, `unavailable`.
    fn capture(
        &self,
        recording: RecordingId,
        segments: &[SegmentId],
    ) -> Result<CaptureChunks, Failure>;

    /// What is kept here of what another node captured, and by how much its clock is ahead of ours,
    /// microseconds; `None` if nothing is. May block.
    ///
    /// # Errors
    /// `internal`.
    fn kept(
        &self,
        owner: NodeId,
        segments: &[SegmentId],
    ) -> Result<Option<(i64, CaptureChunks)>, Failure> {
        let _ = (owner, segments);
        Ok(None)
    }

    /// Pauses a recording or resumes it, as far as this node hears it: ready once what is heard is discarded.
    fn pause_here(&self, request: PauseRequest) -> BoxFuture<'static, Result<PauseDone, Failure>> {
        drop(request);
        Box::pin(async { Err(Failure::new(Code::Unavailable, "this node captures nothing")) })
    }

    /// Lines of this node's audit log, behind a place in it. May block.
    ///
    /// # Errors
    /// `unavailable` if it cannot be read.
    fn audit_lines(&self, filter: Filter, place: LogPlace, limit: usize) -> Result<Lines, Failure>;

    /// How loud the calls are that this node records, dBFS by recording.
    fn levels(&self) -> BoxFuture<'static, BTreeMap<RecordingId, f64>> {
        Box::pin(async { BTreeMap::new() })
    }

    /// Another node tells of pauses: ready once what is heard of them is discarded.
    fn learn_pauses(&self, words: Vec<PauseWord>) -> BoxFuture<'static, Result<(), Failure>> {
        drop(words);
        Box::pin(async { Ok(()) })
    }

    /// Another node tells what people wrote about a recording. May block.
    ///
    /// # Errors
    /// `notfound` where it is not listed yet; `unavailable`, `internal`.
    fn learn_marks(&self, marks: &Marks) -> Result<(), Failure> {
        let _ = marks;
        Err(Failure::new(Code::Unavailable, "this node lists no recordings"))
    }

    /// Another node tells that a recording was deleted. May block.
    ///
    /// # Errors
    /// `forbidden` where it is held; `unavailable`, `internal`.
    fn learn_deletion(&self, tombstone: &Tombstone) -> Result<(), Failure> {
        let _ = tombstone;
        Err(Failure::new(Code::Unavailable, "this node lists no recordings"))
    }

    /// Whether a recording was deleted here, whatever others still list.
    fn is_deleted(&self, id: RecordingId) -> bool {
        let _ = id;
        false
    }

    /// Another node tells what happened to its recordings.
    fn learn_tidings(&self, tidings: Vec<Tiding>) {
        drop(tidings);
    }

    /// Lists a recording that a peer has published. May block.
    ///
    /// # Errors
    /// `internal` if the catalog does not take it; `unavailable` where nothing is listed.
    fn list(&self, record: &Recording) -> Result<(), Failure> {
        let _ = record;
        Err(Failure::new(Code::Unavailable, "this node lists no recordings"))
    }

    /// What this node captures, for a peer that has everything of a journal before a place.
    ///
    /// # Errors
    /// `unavailable` where nothing is captured.
    fn mirror(&self, peer: NodeId, has: Option<(u64, Place)>) -> Result<(u64, Feed), Failure> {
        let _ = (peer, has);
        Err(Failure::new(Code::Unavailable, "this node captures nothing"))
    }
}

/// Answers the peers of this node from now on, as long as there is the service; false if somebody
/// does already, or there are no peers. The service is not kept alive: it may hold the group, whose
/// member ends when nobody holds it.
pub fn serve(group: &Group, service: &Arc<dyn PeerService>) -> bool {
    let server = Arc::new(Server {
        node: group.node(),
        service: Arc::downgrade(service),
        audio: Semaphore::new(AUDIO_MAX),
        captures: Semaphore::new(CAPTURES_MAX),
    });
    group.set_request_handler(move |from, request, reply| {
        let server = Arc::clone(&server);
        async move {
            // Without one the asker sees the answer break off, as it does when this node ends.
            if let Some(service) = server.service.upgrade() {
                Serving { server: &server, service }.answer(from, &request, reply).await;
            }
        }
    })
}

struct Server {
    node: NodeId,
    service: Weak<dyn PeerService>,
    audio: Semaphore,
    captures: Semaphore,
}

/// One question being answered.
struct Serving<'a> {
    server: &'a Server,
    service: Arc<dyn PeerService>,
}

/// Why an answer did not get through.
#[derive(Debug, thiserror::Error)]
enum Unsent {
    #[error("the peer has gone, or reads no more: {0}")]
    Peer(#[from] std::io::Error),
    #[error("the answer cannot be sent: {0}")]
    Form(#[from] ProtocolError),
}

impl Serving<'_> {
    async fn answer(&self, from: NodeId, request: &[u8], reply: Reply) {
        let sent = match decode_ask(request) {
            Ok(ask) => self.serve(from, ask, reply).await,
            Err(error) => {
                tracing::warn!(peer = %from, %error, "a question of a peer is refused");
                let code = match error {
                    ProtocolError::Version { .. } => Code::Unavailable,
                    _ => Code::BadValue,
                };
                let message = format!("node {} refuses the question: {error}", self.server.node);
                whole::<bool>(reply, Err(Failure::new(code, message))).await
            }
        };
        if let Err(error) = sent {
            tracing::debug!(peer = %from, %error, "an answer to a peer");
        }
    }

    async fn serve(&self, from: NodeId, ask: Ask, reply: Reply) -> Result<(), Unsent> {
        match ask {
            Ask::Records { ids } => {
                whole(reply, self.blocking(move |service| records(service, &ids)).await).await
            }
            Ask::RecordsSince { cursor, limit, all } => {
                let owner = (!all).then_some(self.server.node);
                let page = self.blocking(move |service| since(service, owner, cursor, limit));
                whole(reply, page.await).await
            }
            Ask::Search { query } => {
                whole(reply, self.blocking(move |service| search(service, *query)).await).await
            }
            Ask::Audio { recording, format, part, unhashed } => {
                self.audio((recording, format, unhashed), part, reply).await
            }
            Ask::Calls => whole(reply, Ok(self.service.calls().await.calls)).await,
            Ask::Listen { ucid } => self.listen(&ucid, reply).await,
            Ask::Levels => whole(reply, Ok(self.service.levels().await)).await,
            Ask::Seen { day, from } => {
                whole(reply, self.blocking(move |service| seen(service, day, from)).await).await
            }
            Ask::Audit { filter, after, log, limit } => {
                let place = LogPlace { seq: after, log };
                let lines = self.blocking(move |service| service.audit_lines(filter, place, limit));
                whole(reply, lines.await).await
            }
            Ask::Concerns { target, extension } => {
                whole(reply, Ok(self.service.concerns(&target, &extension).await)).await
            }
            Ask::Start(request) => whole(reply, self.service.start_recording(request).await).await,
            Ask::Stop(request) => whole(reply, self.service.stop_recording(request).await).await,
            Ask::Pause(request) => whole(reply, self.service.pause_here(request).await).await,
            Ask::Pauses(words) => {
                let learned = self.service.learn_pauses(words).await;
                whole(reply, learned.map(|()| true)).await
            }
            Ask::Repair { recording } => whole(reply, self.service.repair(recording).await).await,
            Ask::Mark(request) => whole(reply, self.service.mark(request).await).await,
            Ask::Hold(request) => whole(reply, self.service.hold(request).await).await,
            Ask::Delete(request) => whole(reply, self.service.delete(request).await).await,
            Ask::Deleted(tombstone) => {
                let learned = self.blocking(move |service| service.learn_deletion(&tombstone));
                whole(reply, learned.await.map(|()| true)).await
            }
            Ask::Marks(marks) | Ask::Holds(marks) => {
                let learned = self.blocking(move |service| service.learn_marks(&marks));
                whole(reply, learned.await.map(|()| true)).await
            }
            Ask::Tidings(tidings) => {
                self.service.learn_tidings(tidings);
                whole(reply, Ok(true)).await
            }
            Ask::List { record } => {
                let listed = self.blocking(move |service| service.list(&record).map(|()| true));
                whole(reply, listed.await).await
            }
            Ask::Capture { recording, segments } => self.capture(recording, segments, reply).await,
            Ask::Kept { owner, segments } => self.kept(owner, segments, reply).await,
            Ask::Mirror { has } => self.mirror(from, has, reply).await,
            Ask::Status => whole(reply, Ok(self.service.cluster_status())).await,
        }
    }

    async fn audio(
        &self,
        (recording, format, unhashed): (RecordingId, FetchFormat, bool),
        part: Option<Part>,
        mut reply: Reply,
    ) -> Result<(), Unsent> {
        // The head alone is over soon.
        let place = part.as_ref().map(|_| place(&self.server.audio, self.server.node)).transpose();
        let _place = match place {
            Ok(place) => place,
            Err(failure) => return whole::<bool>(reply, Err(failure)).await,
        };
        let wanted = part.clone();
        let opened = self.blocking(move |service| {
            let (mut head, audio) = open(service, recording, format, wanted.as_ref())?;
            head.sha256 = (wanted.is_none() && !unhashed).then(|| audio.sha256()).flatten();
            Ok((head, audio))
        });
        let (head, audio) = match opened.await {
            Ok(opened) => opened,
            Err(failure) => return whole::<bool>(reply, Err(failure)).await,
        };
        reply.send(&encode_answer(Ok(head))?).await?;
        match part {
            Some(Part { offset, length, .. }) => {
                stream_audio(audio, offset, offset + length, reply).await
            }
            None => Ok(reply.end().await?),
        }
    }

    /// How many listen at once is bounded by whoever records.
    async fn listen(&self, ucid: &Ucid, mut reply: Reply) -> Result<(), Unsent> {
        let mut hearing = match self.service.listen(ucid).await {
            Ok(hearing) => hearing,
            Err(failure) => return whole::<bool>(reply, Err(failure)).await,
        };
        reply.send(&encode_answer(Ok(true))?).await?;
        while let Some(heard) = hearing.sound.next().await {
            if let Heard::Frame(frame) = heard {
                reply.send(&to_bytes(&frame)).await?;
            }
        }
        Ok(reply.end().await?)
    }

    async fn capture(
        &self,
        recording: RecordingId,
        segments: Vec<SegmentId>,
        reply: Reply,
    ) -> Result<(), Unsent> {
        let captured = move |service: &dyn PeerService| {
            Ok((true, Some(service.capture(recording, &segments)?)))
        };
        self.chunks(captured, reply).await
    }

    async fn kept(
        &self,
        owner: NodeId,
        segments: Vec<SegmentId>,
        reply: Reply,
    ) -> Result<(), Unsent> {
        let kept = move |service: &dyn PeerService| {
            let (clock_offset_us, chunks) = service.kept(owner, &segments)?.unzip();
            Ok((KeptHead { clock_offset_us }, chunks))
        };
        self.chunks(kept, reply).await
    }

    /// A head, and what was captured as a stream, if there is any.
    async fn chunks<H: Serialize + Send + 'static>(
        &self,
        question: impl FnOnce(&dyn PeerService) -> Result<(H, Option<CaptureChunks>), Failure>
        + Send
        + 'static,
        mut reply: Reply,
    ) -> Result<(), Unsent> {
        let _place = match place(&self.server.captures, self.server.node) {
            Ok(place) => place,
            Err(failure) => return whole::<bool>(reply, Err(failure)).await,
        };
        let (head, chunks) = match self.blocking(question).await {
            Ok(found) => found,
            Err(failure) => return whole::<bool>(reply, Err(failure)).await,
        };
        reply.send(&encode_answer(Ok(head))?).await?;
        match chunks {
            Some(chunks) => stream_chunks(chunks, reply).await,
            None => Ok(reply.end().await?),
        }
    }

    async fn mirror(
        &self,
        from: NodeId,
        has: Option<MirrorPlace>,
        mut reply: Reply,
    ) -> Result<(), Unsent> {
        let has =
            has.map(|MirrorPlace { journal, file, offset }| (journal, Place { file, offset }));
        match self.service.mirror(from, has) {
            Ok((journal, feed)) => {
                reply.send(&encode_answer(Ok(MirrorHead { journal }))?).await?;
                Ok(feed.run(reply).await?)
            }
            Err(failure) => whole::<bool>(reply, Err(failure)).await,
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn PeerService) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let service = Arc::clone(&self.service);
        let asked = spawn_blocking(move || question(service.as_ref())).await;
        asked.unwrap_or_else(|_| {
            Err(Failure::new(Code::Internal, format!("node {} failed at it", self.server.node)))
        })
    }
}

async fn stream_chunks(mut chunks: CaptureChunks, mut reply: Reply) -> Result<(), Unsent> {
    while let Some(chunk) = chunks.next().await {
        match chunk {
            Ok(chunk) => {
                for piece in chunk.chunks(PIECE_BYTES_MAX) {
                    reply.send(piece).await?;
                }
            }
            Err(failure) => return Ok(reply.fail(&failure.message).await?),
        }
    }
    Ok(reply.end().await?)
}

fn place(places: &Semaphore, node: NodeId) -> Result<SemaphorePermit<'_>, Failure> {
    places.try_acquire().map_err(|_| {
        let message = format!("node {node} streams to too many at once; try again");
        Failure::new(Code::Busy, message)
    })
}

async fn whole<T: Serialize>(mut reply: Reply, outcome: Result<T, Failure>) -> Result<(), Unsent> {
    let bytes = match encode_answer(outcome) {
        Err(error @ ProtocolError::TooLong(_)) => {
            let message = format!("the answer is too long: {error}");
            encode_answer::<bool>(Err(Failure::new(Code::Unavailable, message)))?
        }
        bytes => bytes?,
    };
    reply.send(&bytes).await?;
    Ok(reply.end().await?)
}

fn records(service: &dyn PeerService, ids: &[RecordingId]) -> Result<Vec<Held>, Failure> {
    let mut found = Vec::new();
    for id in ids {
        if let Some(record) = service.recording(*id)? {
            found.push(Held { held: service.holds(&record), record });
        }
    }
    Ok(found)
}

fn since(
    service: &dyn PeerService,
    owner: Option<NodeId>,
    cursor: Option<Position>,
    limit: usize,
) -> Result<OwnedPage, Failure> {
    let found = search(service, Query { cursor, limit, order: Order::Oldest, ..Query::default() })?;
    let told = |record: &Recording| owner.is_none_or(|owner| record.node == owner);
    let records = found.recordings.into_iter().filter(told).collect();
    let cursor = found.cursor.as_deref().and_then(Position::from_cursor);
    Ok(OwnedPage { records, cursor })
}

fn seen(service: &dyn PeerService, day: WallTime, from: usize) -> Result<SeenPage, Failure> {
    let calls = service.seen(day)?.calls;
    let more = calls.len() > from.saturating_add(SEEN_MAX);
    let calls = calls.into_iter().skip(from).take(SEEN_MAX).collect();
    Ok(SeenPage { calls, more })
}

/// A page, shorter than asked for where it would be too long to send.
fn search(service: &dyn PeerService, mut query: Query) -> Result<FoundPage, Failure> {
    // Halving from 1000 ends after ten turns.
    loop {
        let page = FoundPage::from(service.search(&query)?.page);
        let found = page.recordings.len();
        if found <= 1 || encode_answer(Ok(&page)).is_ok() {
            return Ok(page);
        }
        query.limit = found / 2;
    }
}

fn open(
    service: &dyn PeerService,
    id: RecordingId,
    format: FetchFormat,
    part: Option<&Part>,
) -> Result<(AudioHead, Box<dyn Audio>), Failure> {
    let gone = || Failure::new(Code::NotFound, format!("no recording {id}"));
    let mark = |service: &dyn PeerService| -> Result<String, Failure> {
        Ok(service.recording(id)?.ok_or_else(gone)?.sha256)
    };
    let before = mark(service)?;
    let audio = service.open_audio(id, format)?;
    // Sealed anew while it was opened: which of the two this is cannot be told.
    if mark(service)? != before || part.is_some_and(|part| part.mark != before) {
        let message = format!("recording {id} was replaced by a later revision; fetch it again");
        return Err(Failure::new(Code::Unavailable, message));
    }
    let bytes = audio.bytes();
    let end = part.map(|part| part.offset.checked_add(part.length));
    if end.is_some_and(|end| end.is_none_or(|end| end > bytes)) {
        let message = format!("recording {id} has {bytes} bytes; more are asked for");
        return Err(Failure::new(Code::BadValue, message));
    }
    let kind = AudioKind::of_extension(audio.file_extension());
    Ok((AudioHead { bytes, sha256: None, kind, mark: before }, audio))
}

/// One piece is in memory at a time; the next is read when this one has been taken.
async fn stream_audio(
    mut audio: Box<dyn Audio>,
    mut next: u64,
    end: u64,
    mut reply: Reply,
) -> Result<(), Unsent> {
    audio.will_read(next, end);
    while next < end {
        let wanted = usize::try_from(end - next).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
        let read = spawn_blocking(move || {
            let mut piece = vec![0; wanted];
            let read = audio.read_at(next, &mut piece);
            (audio, piece, read)
        });
        let Ok((back, piece, read)) = read.await else {
            return Ok(reply.fail("reading the audio failed").await?);
        };
        audio = back;
        match read {
            Ok(0) => return Ok(reply.fail("the audio is shorter than it was").await?),
            Ok(count) => {
                reply.send(&piece[..count]).await?;
                next += count as u64;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => {
                tracing::error!(%error, "a recording's audio cannot be read on for a peer");
                return Ok(reply.fail("the audio cannot be read on").await?);
            }
        }
    }
    Ok(reply.end().await?)
}
