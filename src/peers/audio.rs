//! A peer's audio, read as if it lay here. A connection carries all that is read in order; a task
//! takes pieces off it only as the reader takes them, so what waits here is a few pieces, and TCP
//! holds the peer back. Where a connection breaks after it has carried something (a listener who
//! paused for long), it is opened once more at that place, on the same file or not at all.
//!
//! Pieces in memory: one in the reader's hands, one in the channel, one in the task's hands, one
//! arriving; a peer's pieces are 256 KiB at most, so 1 MiB.

use std::io;
use std::ops::Range;
use std::time::Duration;

use storage::FetchFormat;
use storage_core::{NodeId, RecordingId};
use tokio::sync::mpsc;

use super::client::{PeerError, Peers};
use super::protocol::{Ask, AudioHead, Part};
use crate::web::backend::{Audio, Code, Failure};

const OPEN_WITHIN: Duration = Duration::from_secs(5);
/// The whole file is read where its checksum has to be computed: a second for five hours.
const HASHED_WITHIN: Duration = Duration::from_secs(5);

/// Audio that lies on a peer.
pub struct RemoteAudio {
    source: Source,
    head: AudioHead,
    planned: Range<u64>,
    flow: Option<Flow>,
}

impl RemoteAudio {
    /// Opens a recording's audio on a peer.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn open(
        peers: Peers,
        node: NodeId,
        recording: RecordingId,
        format: FetchFormat,
    ) -> Result<Self, PeerError> {
        let ask = Ask::Audio { recording, format, part: None, unhashed: true };
        let head: AudioHead = peers.ask(node, &ask, OPEN_WITHIN).await?;
        let source = Source { peers, node, recording, format, mark: head.mark.clone() };
        Ok(Self { source, head, planned: 0..0, flow: None })
    }

    /// A flow that goes on at `offset`: the one there is, or a new one.
    fn flow_at(&mut self, offset: u64) -> &mut Flow {
        let goes_on = |flow: &Flow| flow.next == offset && flow.next < flow.end;
        if !self.flow.as_ref().is_some_and(goes_on) {
            self.flow = None;
        }
        let planned = self.planned.contains(&offset).then_some(self.planned.end);
        let end = planned.unwrap_or(self.head.bytes).min(self.head.bytes);
        self.flow.get_or_insert_with(|| Flow::start(self.source.clone(), offset, end))
    }
}

impl Audio for RemoteAudio {
    fn bytes(&self) -> u64 {
        self.head.bytes
    }

    fn mark(&self) -> String {
        self.source.mark.clone()
    }

    fn sha256(&self) -> Option<String> {
        self.source.sha256()
    }

    fn media_type(&self) -> &'static str {
        self.head.kind.media_type()
    }

    fn file_extension(&self) -> &'static str {
        self.head.kind.extension()
    }

    fn will_read(&mut self, first: u64, end: u64) {
        self.planned = first..end;
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if offset >= self.head.bytes || buffer.is_empty() {
            return Ok(0);
        }
        let read = self.flow_at(offset).read(buffer);
        if read.is_err() {
            self.flow = None;
        }
        read
    }
}

#[derive(Clone)]
struct Source {
    peers: Peers,
    node: NodeId,
    recording: RecordingId,
    format: FetchFormat,
    mark: String,
}

/// Bytes that come in order.
struct Flow {
    next: u64,
    end: u64,
    piece: Vec<u8>,
    taken: usize,
    pieces: mpsc::Receiver<Result<Vec<u8>, Failure>>,
}

impl Flow {
    fn start(source: Source, next: u64, end: u64) -> Self {
        let (sender, pieces) = mpsc::channel(1);
        let peers = source.peers.clone();
        peers.spawn(async move { source.pump(next, end, &sender).await });
        Self { next, end, piece: Vec::new(), taken: 0, pieces }
    }

    /// Blocking.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.piece.len() {
            let stopping = || Err(Failure::new(Code::Unavailable, "this node is stopping"));
            self.piece =
                self.pieces.blocking_recv().unwrap_or_else(stopping).map_err(io::Error::other)?;
            self.taken = 0;
        }
        let count = buffer.len().min(self.piece.len() - self.taken);
        buffer[..count].copy_from_slice(&self.piece[self.taken..self.taken + count]);
        self.taken += count;
        self.next += count as u64;
        Ok(count)
    }
}

type Sender = mpsc::Sender<Result<Vec<u8>, Failure>>;

impl Source {
    /// Of the whole, if the file is still the same. Blocking.
    fn sha256(&self) -> Option<String> {
        let (told, mut answer) = mpsc::channel(1);
        let Self { peers, node, recording, format, .. } = self.clone();
        let asking = peers.clone();
        peers.spawn(async move {
            let ask = Ask::Audio { recording, format, part: None, unhashed: false };
            // Whoever does not wait any more need not hear it.
            drop(told.send(asking.ask::<AudioHead>(node, &ask, HASHED_WITHIN).await).await);
        });
        let head = answer.blocking_recv()?.ok().filter(|head| head.mark == self.mark);
        head.and_then(|head| head.sha256)
    }

    /// Hands on the bytes up to `end`, or what keeps them from coming.
    async fn pump(&self, mut next: u64, end: u64, pieces: &Sender) {
        loop {
            let begun = next;
            // Whoever reads no more ends it, however little comes.
            let carried = tokio::select! {
                carried = self.carry(&mut next, end, pieces) => carried,
                () = pieces.closed() => return,
            };
            match carried {
                Ok(()) => return,
                Err(PeerError::Unanswered(_)) if next > begun => {}
                Err(error) => {
                    let _ = pieces.send(Err(self.worded(error))).await;
                    return;
                }
            }
        }
    }

    async fn carry(&self, next: &mut u64, end: u64, pieces: &Sender) -> Result<(), PeerError> {
        let part = Part { offset: *next, length: end - *next, mark: self.mark.clone() };
        let Self { recording, format, .. } = *self;
        let ask = Ask::Audio { recording, format, part: Some(part), unhashed: true };
        let (_, mut stream) = self.peers.open::<AudioHead>(self.node, &ask, OPEN_WITHIN).await?;
        while *next < end {
            let piece = stream.piece().await?.unwrap_or_default();
            if piece.is_empty() || piece.len() as u64 > end - *next {
                let message = format!("node {} sends another length than it said", self.node);
                return Err(PeerError::Refused(Failure::new(Code::Internal, message)));
            }
            *next += piece.len() as u64;
            if pieces.send(Ok(piece)).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn worded(&self, error: PeerError) -> Failure {
        let Failure { code, message } = error.into_failure();
        let Self { recording, node, .. } = self;
        let message =
            format!("recording {recording} lies on node {node}, and broke off: {message}");
        Failure::new(code, message)
    }
}
