//! The sockets of one AES: accepts clients over TCP or TLS, cuts frames, writes messages, and does
//! to them what a fault asks for. Knows nothing of DMCC's content.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use crate::aes::ConnId;
use crate::tls::Acceptor;
use crate::wire::{Frame, Framer, Node, Style, frame};

/// Messages that may wait for a slow client before it is cut off.
const QUEUE_MAX: usize = 20_000;

/// Messages are written together up to about so many bytes.
const WRITE_LEN: usize = 16 * 1024;
/// Longest TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What the site does with what the sockets bring.
pub trait Handler: Send + Sync + 'static {
    /// A client has connected.
    fn opened(&self, aes: usize, conn: ConnId);
    /// A client's message.
    fn message(&self, aes: usize, conn: ConnId, frame: &Frame);
    /// A client is gone.
    fn closed(&self, aes: usize, conn: ConnId);
}

/// What is done to the bytes on request.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WireFaults {
    /// Write in pieces of so many bytes; 0: whole.
    pub piece_len: usize,
    /// Odd namespace prefixes, other ones in each message.
    pub odd_prefixes: bool,
    /// Latin-1 instead of UTF-8.
    pub latin1: bool,
    /// Each request is handled so much later.
    pub request_delay_ms: u64,
    /// The XML of the next so many messages breaks off in the middle; the frames are right.
    pub break_next: u32,
    /// Raw bytes to put before the next message, once.
    pub inject: Option<Vec<u8>>,
}

/// The sockets of one AES.
#[derive(Debug)]
pub struct Link {
    aes: usize,
    address: SocketAddr,
    conns: Mutex<BTreeMap<ConnId, Conn>>,
    next_conn: AtomicU64,
    refuse_until: Mutex<Option<Instant>>,
    hung_until: watch::Sender<Option<Instant>>,
    faults: Mutex<WireFaults>,
    messages: AtomicU64,
}

#[derive(Debug)]
struct Conn {
    queue: mpsc::Sender<([u8; 4], Node)>,
    cut: watch::Sender<bool>,
}

impl Link {
    /// A link that listens on `address`.
    #[must_use]
    pub fn new(aes: usize, address: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            aes,
            address,
            conns: Mutex::default(),
            next_conn: AtomicU64::new(1),
            refuse_until: Mutex::new(None),
            hung_until: watch::channel(None).0,
            faults: Mutex::default(),
            messages: AtomicU64::new(0),
        })
    }

    /// Where clients connect.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Clients connected now.
    #[must_use]
    pub fn clients(&self) -> usize {
        lock(&self.conns).len()
    }

    /// Changes what is done to the bytes.
    pub fn change_faults(&self, change: impl FnOnce(&mut WireFaults)) {
        change(&mut lock(&self.faults));
    }

    /// Cuts all sockets and refuses new ones for a while.
    pub fn cut(&self, refuse_for: Duration) {
        *lock(&self.refuse_until) = Some(after(refuse_for));
        for conn in lock(&self.conns).values() {
            // Nobody listening means that the socket is gone already.
            let _ = conn.cut.send(true);
        }
    }

    /// Cuts all sockets and refuses new ones for ever.
    pub fn shut(&self) {
        self.cut(Duration::MAX);
    }

    /// Neither reads nor writes for a while.
    pub fn hang(&self, length: Duration) {
        self.hung_until.send_replace(Some(after(length)));
    }

    /// Closes one socket after what is queued.
    pub fn close(&self, conn: ConnId) {
        if let Some(conn) = lock(&self.conns).get(&conn) {
            let _ = conn.cut.send(true);
        }
    }

    /// Queues a message. A client that does not read is cut off.
    pub fn send(&self, conn: ConnId, invoke: [u8; 4], message: Node) {
        let conns = lock(&self.conns);
        let Some(conn) = conns.get(&conn) else { return };
        if conn.queue.try_send((invoke, message)).is_err() {
            // Nobody listening means that the socket is gone already.
            let _ = conn.cut.send(true);
        }
    }

    /// The bytes of a message, with what faults add to them; nothing if it does not fit a frame.
    fn bytes(&self, invoke: [u8; 4], message: &Node) -> Vec<u8> {
        let (style, broken, inject) = {
            let mut faults = lock(&self.faults);
            let number = self.messages.fetch_add(1, Ordering::Relaxed) as u32;
            let prefix_seed = faults.odd_prefixes.then_some(number);
            let broken = faults.break_next > 0;
            faults.break_next = faults.break_next.saturating_sub(1);
            (Style { prefix_seed, latin1: faults.latin1 }, broken, faults.inject.take())
        };
        let mut body = message.to_bytes(style);
        if broken {
            body.truncate(body.len() / 2);
        }
        let mut bytes = inject.unwrap_or_default();
        match frame::encode(invoke, &body) {
            Ok(frame) => bytes.extend(frame),
            Err(error) => {
                tracing::warn!(aes = self.aes, message = message.name(), %error, "not sent");
            }
        }
        bytes
    }

    fn refuses(&self) -> bool {
        lock(&self.refuse_until).is_some_and(|until| Instant::now() < until)
    }

    async fn wait_while_hung(&self) {
        let mut hung = self.hung_until.subscribe();
        loop {
            let until = *hung.borrow_and_update();
            let Some(until) = until.filter(|until| *until > Instant::now()) else { return };
            tokio::select! {
                () = tokio::time::sleep_until(until.into()) => {}
                _ = hung.changed() => {}
            }
        }
    }
}

/// Accepts clients until the task is dropped.
pub async fn accept(
    link: Arc<Link>,
    listener: TcpListener,
    tls: Option<Acceptor>,
    handler: Arc<dyn Handler>,
) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: wait for some to become free.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        if link.refuses() {
            drop(stream);
            continue;
        }
        let (link, handler, tls) = (Arc::clone(&link), Arc::clone(&handler), tls.clone());
        tokio::spawn(async move {
            // A client that breaks off is its own affair.
            let _ = welcome(link, stream, tls, handler).await;
        });
    }
}

async fn welcome(
    link: Arc<Link>,
    stream: TcpStream,
    tls: Option<Acceptor>,
    handler: Arc<dyn Handler>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match tls {
        None => {
            let (reader, writer) = stream.into_split();
            serve(link, reader, writer, handler).await;
        }
        Some(tls) => {
            let stream = tokio::time::timeout(HANDSHAKE, tls.now().accept(stream)).await??;
            let (reader, writer) = tokio::io::split(stream);
            serve(link, reader, writer, handler).await;
        }
    }
    Ok(())
}

async fn serve(
    link: Arc<Link>,
    reader: impl AsyncRead + Unpin + Send + 'static,
    writer: impl AsyncWrite + Unpin + Send + 'static,
    handler: Arc<dyn Handler>,
) {
    let conn = ConnId(link.next_conn.fetch_add(1, Ordering::Relaxed));
    let (queue, queued) = mpsc::channel(QUEUE_MAX);
    let (cut, mut cut_seen) = watch::channel(false);
    // The handler knows the connection before the first byte is read.
    lock(&link.conns).insert(conn, Conn { queue, cut });
    handler.opened(link.aes, conn);
    tokio::select! {
        _ = write(&link, writer, queued) => {}
        _ = read(&link, reader, conn, &handler) => {}
        _ = cut_seen.wait_for(|cut| *cut) => {}
    }
    lock(&link.conns).remove(&conn);
    handler.closed(link.aes, conn);
}

async fn write(
    link: &Link,
    mut writer: impl AsyncWrite + Unpin,
    mut queued: mpsc::Receiver<([u8; 4], Node)>,
) -> io::Result<()> {
    while let Some((invoke, message)) = queued.recv().await {
        link.wait_while_hung().await;
        let mut bytes = link.bytes(invoke, &message);
        // What has gathered meanwhile goes out with it.
        while bytes.len() < WRITE_LEN
            && let Ok((invoke, message)) = queued.try_recv()
        {
            bytes.extend(link.bytes(invoke, &message));
        }
        let piece_len = lock(&link.faults).piece_len;
        if piece_len == 0 {
            writer.write_all(&bytes).await?;
        } else {
            for piece in bytes.chunks(piece_len) {
                writer.write_all(piece).await?;
                writer.flush().await?;
                tokio::task::yield_now().await;
            }
        }
        writer.flush().await?;
    }
    Ok(())
}

async fn read(
    link: &Link,
    mut reader: impl AsyncRead + Unpin,
    conn: ConnId,
    handler: &Arc<dyn Handler>,
) -> io::Result<()> {
    let mut framer = Framer::default();
    let mut buffer = vec![0; 16 * 1024];
    let mut waiting: VecDeque<(Instant, Frame)> = VecDeque::new();
    loop {
        let due = waiting.front().map(|(due, _)| *due);
        tokio::select! {
            biased;
            () = sleep_until(due) => {
                if let Some((_, frame)) = waiting.pop_front() {
                    link.wait_while_hung().await;
                    handler.message(link.aes, conn, &frame);
                }
            }
            read = reader.read(&mut buffer) => {
                let read = read?;
                if read == 0 {
                    return Ok(());
                }
                framer.push(&buffer[..read]);
                let delay = Duration::from_millis(lock(&link.faults).request_delay_ms);
                let due = after(delay);
                while let Some(frame) = framer.next_frame().map_err(io::Error::other)? {
                    if delay.is_zero() && waiting.is_empty() {
                        link.wait_while_hung().await;
                        handler.message(link.aes, conn, &frame);
                    } else {
                        waiting.push_back((due, frame));
                    }
                }
            }
        }
    }
}

/// A moment so much later, at most a year.
fn after(length: Duration) -> Instant {
    Instant::now() + length.min(Duration::from_secs(365 * 24 * 3600))
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
