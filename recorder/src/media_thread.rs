//! The thread that receives all media: how it is started, given facts, and stopped. What it does
//! is in [`crate::media_worker`].

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use recorder_core::Receiver;
use recorder_core::call::{PauseOrder, RingOrder};
use recorder_core::media::MediaNotice;
use recorder_core::media::srtp::Protection;
use storage::Journal;
use storage_core::journal::Fact;
use storage_core::{RecordingId, WallTime};
use tokio::sync::mpsc::Sender;
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::journal_sync::JournalSync;
use crate::media_port::Port;
use crate::media_stats::MediaStats;
use crate::media_tap::{Tap, TapEnd, tap};
use crate::media_worker::{BEAT, Wiring, Worker};
use crate::rtp_socket::{Batch, BindError};

/// Orders that wait for the thread.
const ORDERS_MAX: usize = 8192;

/// What the media thread works with.
#[derive(Debug)]
pub struct MediaConfig {
    /// The process's clock.
    pub clock: Clock,
    /// Each receiver with its RTP address; RTCP has the next port.
    pub phantoms: Vec<(Receiver, SocketAddr)>,
    /// The capture journal, which nobody else writes to.
    pub journal: Journal,
    /// What was received is durable within so many milliseconds (`al_syncms`).
    pub sync_ms: u64,
    /// The phantoms offer the switch encryption.
    pub encrypted: bool,
    /// Takes what changed.
    pub notices: Sender<MediaNotice>,
    /// Takes recordings that are complete in the journal. What it has no room for is offered again.
    pub complete: Sender<RecordingId>,
}

/// Why the media thread cannot start.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// A phantom's ports cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Two phantoms have one extension.
    #[error("phantom {0} is listed twice: look at al_phantoms")]
    Twice(Receiver),
    /// The system gives no thread.
    #[error("cannot start a thread")]
    Thread(#[from] io::Error),
}

/// A fact that the media thread did not take, because too many wait or it has stopped.
#[derive(Debug, thiserror::Error)]
#[error("the media thread takes no more orders")]
pub struct NotTaken(pub Box<Fact>);

/// How the media of a phantom is protected from a moment on.
#[derive(Debug)]
pub struct Protected {
    /// Which phantom.
    pub phantom: Receiver,
    /// When the switch said so.
    pub at: WallTime,
    /// How; `None`: it is sent nothing any more. Keys may be in it.
    pub protection: Option<Protection>,
    /// It holds for each segment that begins until it is said otherwise, and not for the open one only.
    pub stands: bool,
}

/// What the thread is sent.
#[derive(Debug)]
pub(crate) enum Order {
    /// To write down and to act upon.
    Fact(Box<Fact>),
    /// To decrypt by; never written down.
    Protect(Box<Protected>),
    /// To keep in memory; never written down.
    Ring(Box<RingOrder>),
    /// To discard what comes, or to keep it again; never written down.
    Pause(Box<PauseOrder>),
    /// To hand on what it captures.
    Tap(TapEnd),
    /// To say that all orders before this one are carried out.
    Barrier(oneshot::Sender<()>),
    /// To end.
    Stop,
}

/// The way to the media thread, for any number of tasks.
#[derive(Clone, Debug)]
pub struct MediaHandle {
    orders: SyncSender<Order>,
    stats: Arc<MediaStats>,
}

impl MediaHandle {
    /// Gives it a fact to write down and to act upon. Never waits.
    ///
    /// # Errors
    /// If it takes no more; the fact comes back.
    pub fn send(&self, fact: Fact) -> Result<(), NotTaken> {
        match self.orders.try_send(Order::Fact(Box::new(fact))) {
            Err(
                TrySendError::Full(Order::Fact(fact))
                | TrySendError::Disconnected(Order::Fact(fact)),
            ) => {
                self.stats.orders_refused.add(1);
                Err(NotTaken(fact))
            }
            _ => Ok(()),
        }
    }

    /// Tells it how a phantom's media is protected. Never waits. `false`: it takes no more, and
    /// what comes encrypted to that phantom is kept out.
    #[must_use]
    pub fn protect(&self, protected: Protected) -> bool {
        let taken = self.orders.try_send(Order::Protect(Box::new(protected))).is_ok();
        self.stats.orders_refused.add((!taken).into());
        taken
    }

    /// Tells it what is to become of a phantom's ring. Never waits. `false`: it takes no more.
    #[must_use]
    pub fn ring(&self, order: RingOrder) -> bool {
        let taken = self.orders.try_send(Order::Ring(Box::new(order))).is_ok();
        self.stats.orders_refused.add((!taken).into());
        taken
    }

    /// Tells it that a recording is paused or goes on. Never waits. `false`: it takes no more.
    #[must_use]
    pub fn pause(&self, order: PauseOrder) -> bool {
        let taken = self.orders.try_send(Order::Pause(Box::new(order))).is_ok();
        self.stats.orders_refused.add((!taken).into());
        taken
    }

    /// Has what it captures handed on from now on, of one recording or of all. Never waits. `None`: it takes no more
    /// orders.
    pub(crate) fn tap(&self, only: Option<RecordingId>) -> Option<Tap> {
        let (end, tap) = tap(only);
        let taken = self.orders.try_send(Order::Tap(end)).is_ok();
        self.stats.orders_refused.add((!taken).into());
        taken.then_some(tap)
    }

    /// Waits until all orders given before are carried out. `false`: that cannot be said, because it has stopped
    /// or takes no more.
    pub async fn reached(&self) -> bool {
        let (reached, wait) = oneshot::channel();
        self.orders.try_send(Order::Barrier(reached)).is_ok() && wait.await.is_ok()
    }

    /// Its counters.
    #[must_use]
    pub fn stats(&self) -> &MediaStats {
        &self.stats
    }
}

/// The running thread.
#[derive(Debug)]
pub struct MediaThread {
    handle: MediaHandle,
    thread: JoinHandle<()>,
    sync: JournalSync,
}

impl MediaThread {
    /// Binds all sockets and starts to receive.
    ///
    /// # Errors
    /// [`SpawnError`], naming the port and the parameter.
    pub fn spawn(config: MediaConfig) -> Result<Self, SpawnError> {
        let MediaConfig { clock, phantoms, journal, sync_ms, encrypted, notices, complete } =
            config;
        let mut by_phantom = BTreeMap::new();
        let mut ports = Vec::with_capacity(phantoms.len());
        for (phantom, address) in phantoms {
            if by_phantom.insert(phantom.clone(), ports.len()).is_some() {
                return Err(SpawnError::Twice(phantom));
            }
            ports.push(Port::bind(phantom, address, encrypted)?);
        }
        let stats = Arc::new(MediaStats::default());
        let (orders, received) = sync_channel(ORDERS_MAX);
        let sync = JournalSync::spawn(
            journal.sync_handle(),
            Duration::from_millis(sync_ms),
            BEAT,
            Arc::clone(&stats),
        )?;
        let worker = Worker::new(Wiring {
            clock,
            orders: received,
            ports,
            by_phantom,
            journal,
            stats: Arc::clone(&stats),
            notices,
            complete,
        });
        let builder = std::thread::Builder::new().name("media".to_owned());
        let thread = builder.spawn(move || worker.run(&mut Batch::new()))?;
        Ok(Self { handle: MediaHandle { orders, stats }, thread, sync })
    }

    /// The way to it.
    #[must_use]
    pub fn handle(&self) -> MediaHandle {
        self.handle.clone()
    }

    /// Takes what has arrived, writes it, makes it durable, and ends. Facts sent before are
    /// written; stop the sealer first, so that what it sealed is said here. Blocks for as long as
    /// the disk takes.
    pub fn stop(self) {
        // The thread takes orders for ever, so this waits for a beat at most.
        let _ = self.handle.orders.send(Order::Stop);
        // A panic there has been reported by the runtime; there is nothing else to do about it.
        let _ = self.thread.join();
        self.sync.stop();
    }
}

#[cfg(test)]
pub(crate) mod tests;
