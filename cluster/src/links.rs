//! The links between members: each dials every other and sends over that connection; it hears
//! over those that the others dialled. A link decides nothing: it reports what it sees (a message,
//! a sign of life, a reset, a refusal) and drops what does not fit into its queue, counted.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cluster_core::wire::{Kind as RaftKind, Message};
use storage_core::{MonoTime, NodeId};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use crate::clock::{Clock, Offset, wall};
use crate::config::GroupConfig;
use crate::dial::Dialer;
use crate::driver::Input;
use crate::frame::{self, FRAME_MAX, Frame, Kind, PIECE_MAX};
use crate::gate::Gate;
use crate::hello::Stage;
use crate::tls::Identity;

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
    pub(crate) tls: Option<Identity>,
    pub(crate) heartbeat: Duration,
    pub(crate) election: Duration,
    pub(crate) inputs: SyncSender<Input>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) pulse: Pulse,
    /// What came since the member's thread last looked and can wait until it does.
    pub(crate) unhurried: Mutex<Unhurried>,
    /// The member's thread does not come round: the links are to give signs of life themselves.
    pub(crate) stalled: Notify,
}

/// Signs of life, and Raft's heartbeats and the answers to them. They come twenty times a second from
/// each peer, and none of them is worth waking a thread for.
#[derive(Debug, Default)]
pub(crate) struct Unhurried {
    pub(crate) heard: BTreeSet<NodeId>,
    pub(crate) messages: Vec<(NodeId, Message)>,
}

impl Unhurried {
    /// A thread that a disk holds up needs none of what is older.
    const MESSAGES_MAX: usize = 64;
}

/// When the member's thread last came round. A member whose disk hangs must not look alive only
/// because its network still answers.
#[derive(Debug)]
pub(crate) struct Pulse {
    clock: Clock,
    last_us: AtomicU64,
    turns: AtomicU64,
    stood_in_us: AtomicU64,
}

impl Pulse {
    const fn new(clock: Clock) -> Self {
        let [last_us, turns, stood_in_us] = [const { AtomicU64::new(0) }; 3];
        Self { clock, last_us, turns, stood_in_us }
    }

    /// The thread came round.
    pub(crate) fn beat(&self) {
        self.last_us.store(self.clock.mono().as_micros(), Ordering::Relaxed);
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it did.
    pub(crate) fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Whether it did so in this span until now.
    fn within(&self, now: MonoTime, span: Duration) -> bool {
        now.since(MonoTime::from_micros(self.last_us.load(Ordering::Relaxed))) < span
    }

    /// Whether somebody is to give a sign of life in its place now: once a heartbeat.
    fn stand_in(&self, now: MonoTime, heartbeat: Duration) -> bool {
        let last = MonoTime::from_micros(self.stood_in_us.load(Ordering::Relaxed));
        let due = now.since(last) >= heartbeat && !self.within(now, heartbeat * 3 / 2);
        if due {
            self.stood_in_us.store(now.as_micros(), Ordering::Relaxed);
        }
        due
    }
}

impl Shared {
    pub(crate) fn new(
        config: &GroupConfig,
        gate: Gate,
        tls: Option<Identity>,
        inputs: SyncSender<Input>,
        clock: Clock,
    ) -> Self {
        Self {
            node: config.node,
            gate,
            tls,
            heartbeat: config.heartbeat,
            election: config.election,
            inputs,
            counters: Arc::default(),
            pulse: Pulse::new(clock),
            unhurried: Mutex::default(),
            stalled: Notify::new(),
        }
    }

    /// Something came from a peer, so the peers are to hear of this member, too: usually from its
    /// thread, once a heartbeat. While that waits for its disk the links do it. What comes is their
    /// clock: a timer would wake an idle group more than all else.
    fn keep_beat(&self) {
        if self.pulse.stand_in(self.pulse.clock.mono(), self.heartbeat) {
            self.stalled.notify_waiters();
        }
    }

    /// Whether this member may say that it lives. A slow sync is no reason not to.
    pub(crate) fn lives(&self) -> bool {
        let span = (self.election * 3).max(Duration::from_secs(1));
        self.pulse.within(self.pulse.clock.mono(), span)
    }

    /// How long nothing may come before a connection counts as broken. Whether the peer counts
    /// as gone is decided elsewhere, and sooner.
    pub(crate) fn silence(&self) -> Duration {
        (self.election * 5).max(Duration::from_secs(2))
    }

    /// Notes a sign of life.
    pub(crate) fn heard(&self, node: NodeId) {
        lock(&self.unhurried).heard.insert(node);
    }

    /// What has come since this was last asked, and did not have to be told at once.
    pub(crate) fn take_unhurried(&self) -> Unhurried {
        std::mem::take(&mut lock(&self.unhurried))
    }

    /// Tells the driver of a message: at once, or when it looks.
    fn tell_raft(&self, from: NodeId, message: Message) {
        if matches!(message.kind, RaftKind::Heartbeat | RaftKind::HeartbeatResponse) {
            let messages = &mut lock(&self.unhurried).messages;
            if messages.len() == Unhurried::MESSAGES_MAX {
                messages.remove(0);
            }
            messages.push((from, message));
        } else {
            self.tell(Input::Raft { from, message: Box::new(message) });
        }
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
pub(crate) struct Peer {
    pub(crate) connected: AtomicBool,
    /// Something was said to it since the last beat.
    spoken: AtomicBool,
    pub(crate) offset: Mutex<Offset>,
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
        let sent = up.is_some_and(|out| {
            out.peer.spoken.store(true, Ordering::Relaxed);
            out.queue.try_send(cut(&message.encode())).is_ok()
        });
        if !sent {
            self.shared.counters.messages_dropped.fetch_add(1, Ordering::Relaxed);
        }
        sent
    }

    /// A heartbeat has passed: whoever was told nothing in it gets a sign of life. It goes together
    /// with what is said to others, so that the network's thread is woken once.
    pub(crate) fn beat(&self) {
        for out in self.outs().values() {
            let connected = out.peer.connected.load(Ordering::Relaxed);
            if !out.peer.spoken.swap(false, Ordering::Relaxed) && connected {
                // A queue that is full is a sign of life in itself.
                let _ = out.queue.try_send(Vec::new());
            }
        }
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

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
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

/// What TLS had against the other side, or the other side against this one.
pub(crate) fn tls_error(error: &io::Error) -> Option<rustls::Error> {
    error.get_ref()?.downcast_ref::<rustls::Error>().cloned()
}

pub(crate) fn slow() -> io::Error {
    io::ErrorKind::TimedOut.into()
}

/// Hears a peer that has dialled this member, until the connection breaks.
pub(crate) async fn hear(shared: &Shared, node: NodeId, process: u64, wire: Wire) -> io::Error {
    let (reader, mut writer) = tokio::io::split(wire);
    let mut reader = BufReader::new(reader);
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
        shared.keep_beat();
        match frame.kind {
            Kind::Ping if frame.payload.is_empty() => shared.heard(node),
            Kind::Ping if frame.payload.len() == 8 => {
                let t2 = wall().as_micros();
                shared.heard(node);
                if !shared.lives() {
                    continue;
                }
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
                shared.heard(node);
            }
            Kind::Raft => {
                let mut bytes = std::mem::take(&mut pieces);
                bytes.extend_from_slice(&frame.payload);
                match Message::decode(&bytes) {
                    Ok(message) => shared.tell_raft(node, message),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn somebody_stands_in_for_a_thread_that_does_not_come_round_once_a_heartbeat() {
        let heartbeat = Duration::from_millis(50);
        let pulse = Pulse::new(Clock::new());
        pulse.last_us.store(1_000_000, Ordering::Relaxed);
        let due: Vec<u64> = (1_000..1_250)
            .filter(|ms| pulse.stand_in(MonoTime::from_millis(*ms), heartbeat))
            .collect();
        assert_eq!(due, [1_075, 1_125, 1_175, 1_225]);
        pulse.last_us.store(1_260_000, Ordering::Relaxed);
        assert!(!pulse.stand_in(MonoTime::from_millis(1_300), heartbeat), "it is back");
    }
}
