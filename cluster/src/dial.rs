//! The connection that this member opens to one peer: it is tried again and again, and carries
//! what this member has to say, and a ping every heartbeat. It reports what it sees and judges
//! nothing.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cluster_core::PeerEvent;
use storage_core::NodeId;
use tokio::io::{AsyncWriteExt, BufReader, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::clock::{Exchange, wall};
use crate::driver::Input;
use crate::frame::{self, Frame, Kind, PIECE_MAX};
use crate::hello::{HELLO_MAX, HelloError, Purpose, RefusalCode, Welcome, decode_answer};
use crate::links::{Peer, Shared, Wire, lock, slow, tls_error};
use crate::tls::server_name;

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
            Some(tls) => Box::new(tls.now().connector.connect(server_name(node), stream).await?),
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

/// Keeps a link to one peer up.
pub(crate) struct Dialer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) node: NodeId,
    pub(crate) address: String,
    pub(crate) peer: Arc<Peer>,
}

impl Dialer {
    /// First retries come fast, because a process that is restarted is back soon.
    const BACKOFF: [u64; 5] = [10, 20, 50, 100, 250];
    /// After so many heartbeats a ping asks for an answer: enough for the clocks, and to notice
    /// that nobody reads.
    const ASK_EVERY: u32 = 8;
    const PERSON: Duration = Duration::from_secs(1);

    /// Dials for ever.
    pub(crate) async fn run(self, mut queue: mpsc::Receiver<Vec<u8>>) {
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

    /// Sends what is queued until the connection breaks: frames, or nothing where only a sign of life
    /// is due.
    async fn serve(&self, wire: Wire, queue: &mut mpsc::Receiver<Vec<u8>>) -> io::Error {
        let (reader, mut writer) = tokio::io::split(wire);
        let pongs = self.pongs(reader);
        tokio::pin!(pongs);
        let mut ask_at = Instant::now();
        loop {
            let mut bytes = tokio::select! {
                error = &mut pongs => return error,
                Some(bytes) = queue.recv() => bytes,
                () = self.shared.stalled.notified() => Vec::new(),
            };
            // What has gathered goes in one write.
            while bytes.len() < PIECE_MAX
                && let Ok(more) = queue.try_recv()
            {
                bytes.extend_from_slice(&more);
            }
            let asks = Instant::now() >= ask_at;
            if (asks || bytes.is_empty()) && self.shared.lives() {
                // An empty ping is a sign of life; one with a time asks for the other clock.
                let t1 = if asks { wall().as_micros().to_le_bytes().to_vec() } else { Vec::new() };
                bytes.extend_from_slice(&Frame::new(Kind::Ping, t1).to_bytes());
            }
            if asks {
                ask_at = Instant::now() + self.shared.heartbeat * Self::ASK_EVERY;
            }
            if bytes.is_empty() {
                continue;
            }
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
    async fn pongs(&self, reader: ReadHalf<Wire>) -> io::Error {
        let mut reader = BufReader::new(reader);
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
            self.shared.heard(self.node);
        }
    }
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
