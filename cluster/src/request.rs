//! Questions between members outside the log: list recordings, pull a segment. Each has a
//! connection of its own, so that a long answer never stands in the way of a heartbeat, and TCP
//! itself holds the sender back. While an answer goes on, the asker may say something back: how much
//! of it he has. What is asked and answered is the rest of the program's matter.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use storage_core::NodeId;
use tokio::io::{AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::dial::{DialError, dial};
use crate::frame::{self, FRAME_MAX, Frame, Kind};
use crate::hello::Purpose;
use crate::links::{Shared, Wire, linger};

/// Longest request, bytes.
pub const REQUEST_MAX: usize = 1024 * 1024;
/// Longest piece of an answer, bytes.
pub const CHUNK_MAX: usize = 1024 * 1024;
/// Longest word that an asker says back.
const WORD_MAX: usize = 4096;
/// Requests that one member answers at once; more are told to come back.
const SERVED_MAX: usize = 112;
/// Neither side waits longer than this for the other to go on.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// Why a request was not answered, or not to the end.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// No such member, or this one itself.
    #[error("node {0} is not a peer of this node")]
    NoPeer(NodeId),
    /// There are no peers.
    #[error("this node is alone")]
    Alone,
    /// More than may be asked.
    #[error("a request of {0} bytes is longer than allowed")]
    TooLong(usize),
    /// It cannot be reached.
    #[error("node {node} cannot be reached: {reason}")]
    Unreachable {
        /// Who.
        node: NodeId,
        /// Why.
        reason: String,
    },
    /// The connection broke.
    #[error("the answer of node {node} broke off: {source}")]
    Broken {
        /// Whose.
        node: NodeId,
        /// Why.
        source: io::Error,
    },
    /// It does not want to.
    #[error("node {node} says: {reason}")]
    Failed {
        /// Who.
        node: NodeId,
        /// Its words.
        reason: String,
    },
    /// The answer is longer than the asker takes.
    #[error("the answer of node {0} is longer than expected")]
    AnswerTooLong(NodeId),
}

/// An answer as it arrives. Not reading it holds the sender back.
pub struct Response {
    node: NodeId,
    wire: Wire,
}

impl Response {
    /// The next piece; `None` when the answer is whole.
    pub async fn chunk(&mut self) -> Result<Option<Vec<u8>>, RequestError> {
        let node = self.node;
        let broken = |source| RequestError::Broken { node, source };
        let read = timeout(IDLE_MAX, frame::read(&mut self.wire, FRAME_MAX)).await;
        let frame = read.map_err(|_| broken(io::ErrorKind::TimedOut.into()))?.map_err(broken)?;
        match frame {
            Some(Frame { kind: Kind::Chunk, payload }) => Ok(Some(payload)),
            Some(Frame { kind: Kind::End, .. }) => Ok(None),
            Some(Frame { kind: Kind::Fail, payload }) => {
                let reason = String::from_utf8_lossy(&payload).into_owned();
                Err(RequestError::Failed { node, reason })
            }
            Some(_) => Err(broken(frame::invalid("an unexpected frame"))),
            None => Err(broken(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    /// Says something back to whoever answers, which hears it if it listens ([`Reply::listen`]).
    pub async fn tell(&mut self, word: &[u8]) -> Result<(), RequestError> {
        let written = write(&mut self.wire, Kind::Chunk, word.to_vec()).await;
        written.map_err(|source| RequestError::Broken { node: self.node, source })
    }

    /// The whole answer, if it is no longer than `limit` bytes.
    pub async fn whole(mut self, limit: usize) -> Result<Vec<u8>, RequestError> {
        let mut whole = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if whole.len() + chunk.len() > limit {
                return Err(RequestError::AnswerTooLong(self.node));
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole)
    }
}

/// Asks a peer.
pub(crate) async fn ask(
    shared: &Shared,
    node: NodeId,
    address: &str,
    request: Vec<u8>,
) -> Result<Response, RequestError> {
    if request.len() > REQUEST_MAX {
        return Err(RequestError::TooLong(request.len()));
    }
    let unreachable =
        |error: DialError| RequestError::Unreachable { node, reason: error.to_string() };
    let (mut wire, _) = dial(shared, node, address, Purpose::Request).await.map_err(unreachable)?;
    let bytes = Frame::new(Kind::Request, request).to_bytes();
    let write = async {
        wire.write_all(&bytes).await?;
        wire.flush().await
    };
    let written = timeout(IDLE_MAX, write).await;
    let broken = |source| RequestError::Broken { node, source };
    written.map_err(|_| broken(io::ErrorKind::TimedOut.into()))?.map_err(broken)?;
    Ok(Response { node, wire })
}

/// Where an answer goes. Dropping it without an end tells the asker that it is not whole.
pub struct Reply {
    wire: Wire,
    _place: OwnedSemaphorePermit,
}

impl Reply {
    /// Sends a piece; waits while the asker does not read.
    pub async fn send(&mut self, piece: &[u8]) -> io::Result<()> {
        for chunk in piece.chunks(CHUNK_MAX) {
            self.frame(Kind::Chunk, chunk.to_vec()).await?;
        }
        Ok(())
    }

    /// The answer is whole.
    pub async fn end(mut self) -> io::Result<()> {
        self.frame(Kind::End, Vec::new()).await?;
        linger(self.wire).await;
        Ok(())
    }

    /// There is no answer, or no more of it.
    pub async fn fail(mut self, reason: &str) -> io::Result<()> {
        let reason = reason.chars().take(1000).collect::<String>().into_bytes();
        self.frame(Kind::Fail, reason).await?;
        linger(self.wire).await;
        Ok(())
    }

    /// Goes on answering, and hears what the asker says back. Such an answer has no end but that of
    /// its connection.
    #[must_use]
    pub fn listen(self) -> (Talk, Ears) {
        let (heard, said) = tokio::io::split(self.wire);
        (Talk { wire: said, _place: self._place }, Ears(heard))
    }

    async fn frame(&mut self, kind: Kind, payload: Vec<u8>) -> io::Result<()> {
        write(&mut self.wire, kind, payload).await
    }
}

/// An answer that goes on for as long as both sides want.
pub struct Talk {
    wire: WriteHalf<Wire>,
    _place: OwnedSemaphorePermit,
}

impl Talk {
    /// Sends a piece; waits while the asker does not read.
    pub async fn send(&mut self, piece: &[u8]) -> io::Result<()> {
        for chunk in piece.chunks(CHUNK_MAX) {
            write(&mut self.wire, Kind::Chunk, chunk.to_vec()).await?;
        }
        Ok(())
    }
}

/// What the asker says back.
pub struct Ears(ReadHalf<Wire>);

impl Ears {
    /// The next word.
    ///
    /// # Errors
    /// If none comes for long, the connection has broken, or it is no word.
    pub async fn word(&mut self) -> io::Result<Vec<u8>> {
        let read = timeout(IDLE_MAX, frame::read(&mut self.0, WORD_MAX + 1)).await;
        match read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? {
            Some(Frame { kind: Kind::Chunk, payload }) => Ok(payload),
            Some(_) => Err(frame::invalid("an unexpected frame")),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

async fn write(
    wire: &mut (impl AsyncWrite + Unpin),
    kind: Kind,
    payload: Vec<u8>,
) -> io::Result<()> {
    let bytes = Frame::new(kind, payload).to_bytes();
    let write = async {
        wire.write_all(&bytes).await?;
        wire.flush().await
    };
    timeout(IDLE_MAX, write).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

type Answer = Pin<Box<dyn Future<Output = ()> + Send>>;
type Handler = Box<dyn Fn(NodeId, Vec<u8>, Reply) -> Answer + Send + Sync>;

/// Answers the requests of peers, on the runtime of the rest of the program.
pub(crate) struct Served {
    handler: OnceLock<Handler>,
    program: Handle,
    places: Arc<Semaphore>,
}

impl Served {
    pub(crate) fn new(program: Handle) -> Self {
        let places = Arc::new(Semaphore::new(SERVED_MAX));
        Self { handler: OnceLock::new(), program, places }
    }

    /// Sets who answers, once. False if that was done before.
    pub(crate) fn set<F, A>(&self, answer: F) -> bool
    where
        F: Fn(NodeId, Vec<u8>, Reply) -> A + Send + Sync + 'static,
        A: Future<Output = ()> + Send + 'static,
    {
        let boxed: Handler =
            Box::new(move |node, request, reply| Box::pin(answer(node, request, reply)));
        self.handler.set(boxed).is_ok()
    }

    /// Serves one connection.
    pub(crate) fn serve(self: &Arc<Self>, from: NodeId, mut wire: Wire) {
        let served = Arc::clone(self);
        self.program.spawn(async move {
            let read = timeout(IDLE_MAX, frame::read(&mut wire, REQUEST_MAX + 1)).await;
            let Ok(Ok(Some(Frame { kind: Kind::Request, payload }))) = read else { return };
            let place = Arc::clone(&served.places).try_acquire_owned();
            match (served.handler.get(), place) {
                (Some(handler), Ok(place)) => {
                    handler(from, payload, Reply { wire, _place: place }).await;
                }
                (None, _) => refuse(wire, "not ready yet").await,
                (_, Err(_)) => refuse(wire, "too many requests at once").await,
            }
        });
    }
}

async fn refuse(mut wire: Wire, reason: &str) {
    let bytes = Frame::new(Kind::Fail, reason.as_bytes().to_vec()).to_bytes();
    // The asker has gone or will hear it; there is nobody else to tell.
    if wire.write_all(&bytes).await.is_ok() && wire.flush().await.is_ok() {
        linger(wire).await;
    }
}
