//! The thread that keeps what another node captures: it takes what that node sends, in a journal of its
//! own below `mirror/NODE`, makes it durable on the beat of this node's captures, and stops before the disk
//! is so full that these would suffer. How the bytes come here is somebody else's matter, and so is for how
//! long a recording is kept.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use storage::disk::Disk;
use storage::{JournalError, JournalReader, Keys, MirrorError, MirrorJournal};
use storage_core::journal::Place;
use storage_core::mirror_wire::{FromOwner, Messages, MirrorWireError, Taken};
use storage_core::{NodeId, RecordingId, WallTime};
use tokio::sync::oneshot;

use crate::journal_sync::JournalSync;
use crate::media_stats::MediaStats;

/// Orders that wait for the thread; each sender waits for the answer to its last one.
const ORDERS_MAX: usize = 16;
/// Housekeeping is done no more often.
const MAINTAIN_EVERY: Duration = Duration::from_secs(1);
/// Nothing is taken while there is less room: three times the reserve of this node's own journal.
pub const ROOM_BYTES: u64 = 24 << 20;

/// What the keeper works with.
#[derive(Debug)]
pub struct KeeperConfig {
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// The folder of this mirror.
    pub folder: PathBuf,
    /// Whose captures they are.
    pub node: NodeId,
    /// This node's keys: what is kept is encrypted if what it captures itself is.
    pub keys: Keys,
    /// What was taken is durable within so many milliseconds (`al_syncms`).
    pub sync_ms: u64,
}

/// Why nothing is kept any more.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// What the owner says cannot be understood.
    #[error("what node {node} sends cannot be understood: {source}")]
    Wire {
        /// The owner.
        node: NodeId,
        /// What is wrong.
        source: MirrorWireError,
    },
    /// It cannot be kept.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    /// The room that is left is for what this node captures itself.
    #[error("only {free} bytes are left on the device of {}, which this node's own captures need", folder.display())]
    NoRoom {
        /// Bytes free.
        free: u64,
        /// Where.
        folder: PathBuf,
    },
    /// The thread has ended, or has more to do than it can.
    #[error("the mirror's thread does not answer")]
    Gone,
}

impl KeepError {
    /// Whether it is for want of room.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        matches!(
            self,
            Self::NoRoom { .. } | Self::Mirror(MirrorError::Journal(JournalError::Full { .. }))
        )
    }
}

/// What came of a piece that the owner sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// To be told to the owner.
    pub taken: Taken,
    /// Everything that the owner had captured before this time, by its clock, is kept.
    pub at: WallTime,
}

type Answer<T> = oneshot::Sender<Result<T, KeepError>>;

enum Order {
    Position(Answer<Option<(u64, Place)>>),
    Begin(u64, Answer<()>),
    Take { piece: Vec<u8>, clock_offset_us: i64, answer: Answer<Option<Mark>> },
    Forget(Vec<RecordingId>),
    Stop,
}

/// The running thread.
#[derive(Debug)]
pub struct MirrorKeeper {
    orders: SyncSender<Order>,
    node: NodeId,
    reader: JournalReader,
    clock: Arc<AtomicI64>,
    thread: JoinHandle<()>,
    sync: JournalSync,
}

impl MirrorKeeper {
    /// Opens the mirror and starts to keep.
    ///
    /// # Errors
    /// [`JournalError`] if it cannot be opened; it names the folder.
    pub fn spawn(config: KeeperConfig) -> Result<Self, JournalError> {
        let KeeperConfig { disk, folder, node, keys, sync_ms } = config;
        let mirror = MirrorJournal::open(Arc::clone(&disk), &folder, node, keys)?;
        let no_thread = |source: io::Error| JournalError::Io {
            action: "cannot start a thread for",
            path: folder.clone(),
            kept: 0,
            source,
        };
        let sync = JournalSync::spawn(
            mirror.sync_handle(),
            Duration::from_millis(sync_ms),
            Duration::ZERO,
            Arc::new(MediaStats::default()),
        )
        .map_err(no_thread)?;
        let (orders, received) = sync_channel(ORDERS_MAX);
        let reader = mirror.reader();
        let clock = Arc::new(mirror.clock_offset_us().into());
        let worker = Worker {
            disk,
            folder: folder.clone(),
            node,
            mirror,
            messages: Messages::default(),
            clock: Arc::clone(&clock),
            maintained: Instant::now(),
        };
        let builder = std::thread::Builder::new().name("mirror".to_owned());
        let thread = builder.spawn(move || worker.run(&received)).map_err(no_thread)?;
        Ok(Self { orders, node, reader, clock, thread, sync })
    }

    /// Whose captures it keeps.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.node
    }

    /// Reads what is kept.
    #[must_use]
    pub const fn reader(&self) -> &JournalReader {
        &self.reader
    }

    /// By how much the owner's clock was ahead when it was last heard, microseconds.
    #[must_use]
    pub fn clock_offset_us(&self) -> i64 {
        self.clock.load(Ordering::Relaxed)
    }

    /// Which journal it is the mirror of, and from where on that is wanted.
    ///
    /// # Errors
    /// [`KeepError::Gone`].
    pub async fn position(&self) -> Result<Option<(u64, Place)>, KeepError> {
        self.ask(Order::Position).await
    }

    /// The owner begins to send: which journal it is.
    ///
    /// # Errors
    /// [`KeepError`].
    pub async fn begin(&self, identity: u64) -> Result<(), KeepError> {
        self.ask(|answer| Order::Begin(identity, answer)).await
    }

    /// Takes a piece of what the owner sends, of any length; tells of the last mark in it.
    ///
    /// # Errors
    /// [`KeepError`]; the owner is then to begin again where [`MirrorKeeper::position`] says.
    pub async fn take(
        &self,
        piece: Vec<u8>,
        clock_offset_us: i64,
    ) -> Result<Option<Mark>, KeepError> {
        self.ask(|answer| Order::Take { piece, clock_offset_us, answer }).await
    }

    /// These recordings are needed no more. What it has no time for is to be said again.
    pub fn forget(&self, recordings: Vec<RecordingId>) {
        let _ = self.orders.try_send(Order::Forget(recordings));
    }

    /// Makes durable what was taken, and ends. Blocks for as long as the disk takes.
    pub fn stop(self) {
        let _ = self.orders.send(Order::Stop);
        // A panic there has been reported by the runtime; there is nothing else to do about it.
        let _ = self.thread.join();
        self.sync.stop();
    }

    async fn ask<T>(&self, order: impl FnOnce(Answer<T>) -> Order) -> Result<T, KeepError> {
        let (answer, answered) = oneshot::channel();
        self.orders.try_send(order(answer)).map_err(|_| KeepError::Gone)?;
        answered.await.unwrap_or(Err(KeepError::Gone))
    }
}

struct Worker {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    node: NodeId,
    mirror: MirrorJournal,
    messages: Messages,
    clock: Arc<AtomicI64>,
    maintained: Instant,
}

impl Worker {
    fn run(mut self, orders: &Receiver<Order>) {
        while let Ok(order) = orders.recv() {
            // Whoever has gone away needs no answer.
            match order {
                Order::Position(answer) => drop(answer.send(Ok(self.mirror.position()))),
                Order::Begin(identity, answer) => {
                    self.messages = Messages::default();
                    drop(answer.send(self.mirror.begin(identity).map_err(KeepError::from)));
                }
                Order::Take { piece, clock_offset_us, answer } => {
                    drop(answer.send(self.take(&piece, clock_offset_us)));
                }
                Order::Forget(recordings) => {
                    if let Err(error) = self.mirror.forget(recordings) {
                        tracing::debug!(node = %self.node, %error, "a mirror forgets nothing now");
                    }
                }
                Order::Stop => break,
            }
            self.keep_house();
        }
        let synced = self.mirror.sync_handle().sync();
        if let Err(error) = synced.and_then(|()| self.mirror.settle()) {
            tracing::warn!(node = %self.node, %error, "the end of a mirror may be sent again");
        }
    }

    fn take(&mut self, piece: &[u8], clock_offset_us: i64) -> Result<Option<Mark>, KeepError> {
        self.has_room()?;
        self.messages.push(piece);
        let mut mark = None;
        loop {
            let message = self.messages.next_message();
            match message.map_err(|source| KeepError::Wire { node: self.node, source })? {
                None => return Ok(mark),
                Some(FromOwner::Live(open)) => self.mirror.live(&open)?,
                Some(FromOwner::Frames(frames)) => self.mirror.take(frames)?,
                Some(FromOwner::Mark { next, at }) => {
                    self.mirror.marked(next, clock_offset_us);
                    self.clock.store(clock_offset_us, Ordering::Relaxed);
                    let taken = Taken { taken: next, durable: self.mirror.durable() };
                    mark = Some(Mark { taken, at });
                }
            }
        }
    }

    fn has_room(&self) -> Result<(), KeepError> {
        match self.disk.free_bytes(&self.folder) {
            Ok(free) if free < ROOM_BYTES => {
                Err(KeepError::NoRoom { free, folder: self.folder.clone() })
            }
            // What cannot be asked is found out by writing.
            _ => Ok(()),
        }
    }

    fn keep_house(&mut self) {
        if let Err(error) = self.mirror.settle() {
            tracing::debug!(node = %self.node, %error, "more of a mirror is sent again after a restart");
        }
        if self.maintained.elapsed() < MAINTAIN_EVERY {
            return;
        }
        self.maintained = Instant::now();
        if let Err(error) = self.mirror.maintain() {
            tracing::debug!(node = %self.node, %error, "a mirror could not be cleaned");
        }
    }
}

/// The folder of a node's mirror below a data folder.
#[must_use]
pub fn folder(datadir: &Path, node: NodeId) -> PathBuf {
    datadir.join(storage_core::naming::MIRROR_FOLDER).join(node.to_string())
}
