//! The links between members: each dials every other and sends over that connection; it hears
//! over those that the others dialled. A link decides nothing: it reports what it sees (a message,
//! a sign of life, a reset, a refusal) and drops what does not fit into its queue, counted.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cluster_core::PeerEvent;
use cluster_core::wire::Message;
use storage_core::{MonoTime, NodeId};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout, timeout_at};

use crate::clock::{Clock, Exchange, Offset, wall};
use crate::driver::Input;
use crate::frame::{self, FRAME_MAX, Frame, Kind, PIECE_MAX};
use crate::gate::Gate;
use crate::hello::{HELLO_MAX, HelloError, Purpose, RefusalCode, Stage, Welcome, decode_answer};
use crate::tls::{Tls, server_name};

/// A connection, with or without TLS.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}
/// Whichever it is.
pub(crate) type Wire = Box<dyn Duplex>;

/// What is counted, since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Messages that found no room or no link.
    pub messages_dropped: AtomicU64,
    /// Messages that made no sense.
    pub messages_refused: AtomicU64,
    /// Connections that were refused.
    pub connections_refused: AtomicU64,
    /// Bytes sent to peers.
    pub bytes_sent: AtomicU64,
    /// Syncs of the log.
    pub log_syncs: AtomicU64,
    /// Microseconds that they took in all.
    pub log_sync_us: AtomicU64,
}

/// What every connection needs.
pub(crate) struct Shared {
    pub(crate) node: NodeId,
    pub(crate) gate: Gate,
    pub(crate) tls: Option<Tls>,
    pub(crate) heartbeat: Duration,
    pub(crate) election: Duration,
    pub(crate) inputs: SyncSender<Input>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) pulse: Pulse,
}

/// When the member's thread last came round. A member whose disk hangs must not look alive only
/// because its network still answers.
#[derive(Debug)]
pub(crate) struct Pulse {
    clock: Clock,
    last_us: AtomicU64,
}

impl Pulse {
    pub(crate) const fn new(clock: Clock) -> Self {
        Self { clock, last_us: AtomicU64::new(0) }
    }

    /// The thread came round.
    pub(crate) fn beat(&self) {
        self.last_us.store(self.clock.mono().as_micros(), Ordering::Relaxed);
    }

    fn within(&self, span: Duration) -> bool {
        let last = MonoTime::from_micros(self.last_us.load(Ordering::Relaxed));
        self.clock.mono().since(last) < span
    }
}

impl Shared {
    /// Whether this member may say that it lives. A slow sync is no reason not to.
    fn lives(&self) -> bool {
        self.pulse.within((self.election * 3).max(Duration::from_secs(1)))
    }

    /// How long nothing may come before a connection counts as broken. Whether the peer counts
    /// as gone is decided elsewhere, and sooner.
    pub(crate) fn silence(&self) -> Duration {
        (self.election * 5).max(Duration::from_secs(2))
    }

    /// Tells the driver, if it has room: everything reported here repeats itself.
    pub(crate) fn tell(&self, input: Input) -> bool {
        let told = self.inputs.try_send(input).is_ok();
        if !told {
            self.counters.messages_dropped.fetch_add(1, Ordering::Relaxed);
        }
        told
    }
}

/// What is known of one peer.
#[derive(Debug, Default)]
struct Peer {
    connected: AtomicBool,
    offset: Mutex<Offset>,
}

struct Out {
    address: String,
    queue: mpsc::Sender<Vec<u8>>,
    peer: Arc<Peer>,
    task: JoinHandle<()>,
}

/// All links of this member.
pub(crate) struct Links {
    shared: Arc<Shared>,
    net: Handle,
    outs: Mutex<BTreeMap<NodeId, Out>>,
}

impl Links {
    /// Messages waiting for one peer.
    const QUEUE: usize = 1024;

    pub(crate) const fn new(shared: Arc<Shared>, net: Handle) -> Self {
        Self { shared, net, outs: Mutex::new(BTreeMap::new()) }
    }

    /// Links to exactly these peers from now on.
    pub(crate) fn set(&self, peers: &BTreeMap<NodeId, String>) {
        let mut outs = self.outs();
        outs.retain(|node, out| {
            let stays = peers.get(node) == Some(&out.address);
            if !stays {
                out.task.abort();
            }
            stays
        });
        for (&node, address) in peers {
            if node != self.shared.node && !outs.contains_key(&node) {
                outs.insert(node, self.dial(node, address.clone()));
            }
        }
    }

    /// Sends a message, if the link is up and has room. False if it was dropped.
    pub(crate) fn send(&self, message: &Message) -> bool {
        let outs = self.outs();
        let up = outs.get(&message.to).filter(|out| out.peer.connected.load(Ordering::Relaxed));
        let sent = up.is_some_and(|out| out.queue.try_send(cut(&message.encode())).is_ok());
        if !sent {
            self.shared.counters.messages_dropped.fetch_add(1, Ordering::Relaxed);
        }
        sent
    }

    /// Each peer's round trip and clock offset, microseconds.
    pub(crate) fn clocks(&self) -> BTreeMap<NodeId, (u64, i64)> {
        let outs = self.outs();
        let best = |(node, out): (&NodeId, &Out)| Some((*node, lock(&out.peer.offset).best()?));
        outs.iter().filter_map(best).collect()
    }

    /// Where a peer listens.
    pub(crate) fn address(&self, node: NodeId) -> Option<String> {
        self.outs().get(&node).map(|out| out.address.clone())
    }

    fn dial(&self, node: NodeId, address: String) -> Out {
        let (queue, waiting) = mpsc::channel(Self::QUEUE);
        let peer = Arc::new(Peer::default());
        let dialer = Dialer {
            shared: Arc::clone(&self.shared),
            node,
            address: address.clone(),
            peer: Arc::clone(&peer),
        };
        let task = self.net.spawn(dialer.run(waiting));
        Out { address, queue, peer, task }
    }

    fn outs(&self) -> MutexGuard<'_, BTreeMap<NodeId, Out>> {
        lock(&self.outs)
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        for out in self.outs().values() {
            out.task.abort();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half-done where these are held, so a poisoned lock is as good.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A message as frames, cut into pieces where it is long.
fn cut(message: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(message.len() + 16);
    let mut pieces = message.chunks(PIECE_MAX).peekable();
    while let Some(piece) = pieces.next() {
        let kind = if pieces.peek().is_some() { Kind::RaftPiece } else { Kind::Raft };
        Frame::new(kind, piece.to_vec()).write_to(&mut bytes);
    }
    bytes
}

/// Why a connection to a peer did not come about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("nobody listens there")]
    Refused,
    #[error(
        "TLS: {0}. Both nodes need certificates of the same authority (al_clusterca), valid now \
         and made for their numbers; `astlogger cluster init` makes such certificates"
    )]
    Tls(rustls::Error),
    #[error(transparent)]
    Io(io::Error),
    #[error("no answer in time")]
    Slow,
    #[error(transparent)]
    Hello(#[from] HelloError),
}

impl From<io::Error> for DialError {
    fn from(error: io::Error) -> Self {
        match tls_error(&error) {
            Some(error) => Self::Tls(error),
            None => Self::Io(error),
        }
    }
}

/// What TLS had against the other side, or the other side against this one.
pub(crate) fn tls_error(error: &io::Error) -> Option<rustls::Error> {
    error.get_ref()?.downcast_ref::<rustls::Error>().cloned()
}

/// Connects, proves who this is, and hears who that is.
pub(crate) async fn dial(
    shared: &Shared,
    node: NodeId,
    address: &str,
    purpose: Purpose,
) -> Result<(Wire, Welcome), DialError> {
    // A host that comes back is to be found soon, so a connection that nobody answers is given up
    // soon; a process that is there has more time.
    let connected = timeout(Duration::from_secs(1), TcpStream::connect(address)).await;
    let stream = match connected.map_err(|_| DialError::Slow)? {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            return Err(DialError::Refused);
        }
        stream => stream?,
    };
    stream.set_nodelay(true)?;
    let greet = async {
        let mut wire: Wire = match &shared.tls {
            Some(tls) => Box::new(tls.connector.connect(server_name(node), stream).await?),
            None => Box::new(stream),
        };
        let hello = shared.gate.hello(node, purpose).encode();
        wire.write_all(&Frame::new(Kind::Hello, hello).to_bytes()).await?;
        wire.flush().await?;
        let answer = frame::read(&mut wire, HELLO_MAX).await?;
        let answer = answer.filter(|frame| frame.kind == Kind::Welcome);
        let welcome = decode_answer(&answer.ok_or(HelloError::Malformed)?.payload)?;
        shared.gate.accept(node, &welcome)?;
        Ok((wire, welcome))
    };
    timeout(Duration::from_secs(3), greet).await.map_err(|_| DialError::Slow)?
}

struct Dialer {
    shared: Arc<Shared>,
    node: NodeId,
    address: String,
    peer: Arc<Peer>,
}

impl Dialer {
    /// First retries come fast, because a process that is restarted is back soon.
    const BACKOFF: [u64; 5] = [10, 20, 50, 100, 250];
    const PERSON: Duration = Duration::from_secs(1);

    async fn run(self, mut queue: mpsc::Receiver<Vec<u8>>) {
        let mut failures = 0;
        let mut last_complaint = String::new();
        loop {
            let dialled = dial(&self.shared, self.node, &self.address, Purpose::Link).await;
            let pause = match dialled {
                Ok((wire, welcome)) => {
                    failures = 0;
                    last_complaint.clear();
                    self.met(&welcome);
                    self.peer.connected.store(true, Ordering::Relaxed);
                    let error = self.serve(wire, &mut queue).await;
                    self.peer.connected.store(false, Ordering::Relaxed);
                    tracing::debug!(peer = %self.node, %error, "link broke");
                    self.report(PeerEvent::Reset);
                    Duration::ZERO
                }
                Err(error) => {
                    self.complain(&error, &mut last_complaint);
                    let step = failures.min(Self::BACKOFF.len() - 1);
                    failures += 1;
                    // Where a person has to do something, haste is of no use.
                    let person = matches!(error, DialError::Hello(_) | DialError::Tls(_));
                    if person { Self::PERSON } else { Duration::from_millis(Self::BACKOFF[step]) }
                }
            };
            // What waited was meant for the moment.
            while queue.try_recv().is_ok() {}
            sleep(pause).await;
        }
    }

    fn met(&self, welcome: &Welcome) {
        self.report(PeerEvent::Heard);
        let (cluster, stage) = (welcome.cluster, welcome.stage.clone());
        self.shared.tell(Input::Met { node: self.node, cluster, stage, address: None });
    }

    fn report(&self, event: PeerEvent) {
        self.shared.tell(Input::Peer { node: self.node, event });
    }

    fn complain(&self, error: &DialError, last: &mut String) {
        if matches!(error, DialError::Refused) {
            self.report(PeerEvent::Refused);
        }
        let text = error.to_string();
        if *last != text {
            tracing::warn!(peer = %self.node, address = self.address, reason = text, "no link");
            *last = text;
        }
        let code = match error {
            DialError::Hello(HelloError::Refused { code, .. }) => *code,
            DialError::Hello(_) | DialError::Tls(_) => RefusalCode::Other,
            DialError::Refused | DialError::Io(_) | DialError::Slow => return,
        };
        self.shared.counters.connections_refused.fetch_add(1, Ordering::Relaxed);
        self.shared.tell(Input::Refused { node: self.node, code, reason: error.to_string() });
    }

    /// Sends what is queued and a ping every heartbeat, until the connection breaks.
    async fn serve(&self, wire: Wire, queue: &mut mpsc::Receiver<Vec<u8>>) -> io::Error {
        let (reader, mut writer) = tokio::io::split(wire);
        let pongs = self.pongs(reader);
        tokio::pin!(pongs);
        let mut beat = interval(self.shared.heartbeat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let bytes = tokio::select! {
                error = &mut pongs => return error,
                Some(mut bytes) = queue.recv() => {
                    // What has gathered goes in one write.
                    while bytes.len() < PIECE_MAX
                        && let Ok(more) = queue.try_recv()
                    {
                        bytes.extend_from_slice(&more);
                    }
                    bytes
                }
                _ = beat.tick() => {
                    if !self.shared.lives() {
                        continue;
                    }
                    let t1 = wall().as_micros().to_le_bytes();
                    Frame::new(Kind::Ping, t1.to_vec()).to_bytes()
                }
            };
            if let Err(error) = self.write(&mut writer, &bytes).await {
                return error;
            }
        }
    }

    async fn write(&self, writer: &mut WriteHalf<Wire>, bytes: &[u8]) -> io::Result<()> {
        let write = async {
            writer.write_all(bytes).await?;
            writer.flush().await
        };
        timeout(self.shared.silence(), write).await.map_err(|_| slow())??;
        self.shared.counters.bytes_sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Hears the answers to pings until the connection breaks.
    async fn pongs(&self, mut reader: ReadHalf<Wire>) -> io::Error {
        loop {
            let read = frame::read(&mut reader, HELLO_MAX);
            let frame = match timeout(self.shared.silence(), read).await {
                Ok(Ok(Some(frame))) => frame,
                Ok(Ok(None)) => return io::ErrorKind::UnexpectedEof.into(),
                Ok(Err(error)) => return error,
                Err(_) => return slow(),
            };
            let Some((t1, t2, t3)) = pong(&frame) else {
                return frame::invalid("an unexpected frame");
            };
            lock(&self.peer.offset).note(Exchange { t1, t2, t3, t4: wall().as_micros() });
            self.report(PeerEvent::Heard);
        }
    }
}

fn slow() -> io::Error {
    io::ErrorKind::TimedOut.into()
}

fn pong(frame: &Frame) -> Option<(i64, i64, i64)> {
    if frame.kind != Kind::Pong {
        return None;
    }
    let mut times =
        frame.payload.chunks_exact(8).map(|eight| eight.try_into().map(i64::from_le_bytes));
    let mut next = || times.next()?.ok();
    Some((next()?, next()?, next()?))
}

/// Hears a peer that has dialled this member, until the connection breaks.
pub(crate) async fn hear(shared: &Shared, node: NodeId, process: u64, wire: Wire) -> io::Error {
    let (mut reader, mut writer) = tokio::io::split(wire);
    let mut pieces = Vec::new();
    loop {
        let deadline = Instant::now() + shared.silence();
        let frame = match timeout_at(deadline, frame::read(&mut reader, FRAME_MAX)).await {
            Ok(Ok(Some(frame))) => frame,
            Ok(Ok(None)) => return io::ErrorKind::UnexpectedEof.into(),
            Ok(Err(error)) => return error,
            Err(_) => return slow(),
        };
        if !shared.gate.heard(node, process) {
            return io::ErrorKind::ConnectionAborted.into();
        }
        match frame.kind {
            Kind::Ping if frame.payload.len() == 8 && !shared.lives() => {}
            Kind::Ping if frame.payload.len() == 8 => {
                let t2 = wall().as_micros();
                shared.tell(Input::Peer { node, event: PeerEvent::Heard });
                let mut payload = frame.payload;
                payload.extend_from_slice(&t2.to_le_bytes());
                payload.extend_from_slice(&wall().as_micros().to_le_bytes());
                let bytes = Frame::new(Kind::Pong, payload).to_bytes();
                let write = async {
                    writer.write_all(&bytes).await?;
                    writer.flush().await
                };
                match timeout_at(deadline, write).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return error,
                    Err(_) => return slow(),
                }
            }
            Kind::RaftPiece if pieces.len() + frame.payload.len() <= Message::BYTES_MAX => {
                pieces.extend_from_slice(&frame.payload);
            }
            Kind::Raft => {
                let mut bytes = std::mem::take(&mut pieces);
                bytes.extend_from_slice(&frame.payload);
                match Message::decode(&bytes) {
                    Ok(message) => {
                        shared.tell(Input::Raft { from: node, message: Box::new(message) });
                    }
                    Err(error) => {
                        tracing::debug!(peer = %node, %error, "message refused");
                        shared.counters.messages_refused.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
            _ => return frame::invalid("an unexpected frame"),
        }
    }
}

/// Reads everything that is left, for the side that closes second.
pub(crate) async fn linger(mut wire: Wire) {
    let mut rest = [0; 256];
    let read = async { while matches!(wire.read(&mut rest).await, Ok(count) if count > 0) {} };
    let _ = timeout(Duration::from_millis(200), read).await;
}

/// Whether a peer is in the group, and who else.
pub(crate) fn members(stage: &Stage) -> Option<&[NodeId]> {
    match stage {
        Stage::Fresh => None,
        Stage::Member(members) => Some(members),
    }
}
