//! The queue of recordings that are to be sealed, and the sealer's counters.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::media_stats::Counter;
use crate::sealing::SealJob;

/// Recordings that wait to be sealed. More stay in the journal until somebody offers them again.
const WAITING_MAX: usize = 65_536;

/// Counters of the sealer.
#[derive(Debug, Default)]
pub struct SealStats {
    waiting: AtomicU64,
    /// Attempts that failed and are made again.
    pub retries: Counter,
}

impl SealStats {
    /// Recordings that wait or are being sealed.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(crate) fn done(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The queue's entrance, for any number of threads.
#[derive(Clone, Debug)]
pub struct SealQueue {
    sender: SyncSender<SealOrder>,
    stats: Arc<SealStats>,
}

/// What reaches the sealer.
#[derive(Debug)]
pub(crate) enum SealOrder {
    /// A recording.
    Seal(Box<SealJob>),
    /// It is to look whether it shall stop.
    Wake,
}

/// The queue's end: one sealer takes it.
#[derive(Debug)]
pub struct SealOrders {
    pub(crate) receiver: Receiver<SealOrder>,
    pub(crate) sender: SyncSender<SealOrder>,
    pub(crate) stats: Arc<SealStats>,
}

/// Makes a queue.
#[must_use]
pub fn seal_queue() -> (SealQueue, SealOrders) {
    let (sender, receiver) = sync_channel(WAITING_MAX);
    let stats = Arc::new(SealStats::default());
    let queue = SealQueue { sender: sender.clone(), stats: Arc::clone(&stats) };
    (queue, SealOrders { receiver, sender, stats })
}

impl SealQueue {
    /// Has a recording sealed. Never waits; `false` if the queue is full or the sealer has
    /// stopped.
    #[must_use]
    pub fn push(&self, job: SealJob) -> bool {
        self.stats.waiting.fetch_add(1, Ordering::Relaxed);
        let taken = self.sender.try_send(SealOrder::Seal(Box::new(job))).is_ok();
        if !taken {
            self.stats.done();
        }
        taken
    }

    /// The sealer's counters.
    #[must_use]
    pub fn stats(&self) -> &SealStats {
        &self.stats
    }
}
