//! Makes the capture journal durable on a beat, in a thread of its own, so that a slow disk holds
//! up no packet. One sync covers all calls.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use storage::SyncHandle;

use crate::media_stats::MediaStats;

/// However slow the disk is, it is given this much time between two syncs.
const PAUSE_MIN: Duration = Duration::from_millis(20);

/// The syncing thread.
#[derive(Debug)]
pub(crate) struct JournalSync {
    stop: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl JournalSync {
    /// Starts it. What is appended is durable within `bound`, if the disk is fast enough;
    /// `sweep` of that are spent before it is appended at all.
    pub(crate) fn spawn(
        journal: SyncHandle,
        bound: Duration,
        sweep: Duration,
        stats: Arc<MediaStats>,
    ) -> io::Result<Self> {
        let (stop, stopped) = sync_channel(1);
        let run = move || run(&journal, bound.saturating_sub(sweep), &stats, &stopped);
        let thread = std::thread::Builder::new().name("journal-sync".to_owned()).spawn(run)?;
        Ok(Self { stop, thread })
    }

    /// Ends it after the sync that is running.
    pub(crate) fn stop(self) {
        let _ = self.stop.try_send(());
        // A panic there has been reported by the runtime; there is nothing else to do about it.
        let _ = self.thread.join();
    }
}

fn run(journal: &SyncHandle, bound: Duration, stats: &MediaStats, stopped: &Receiver<()>) {
    let mut last = Duration::ZERO;
    loop {
        // The sync's own time is part of the bound.
        let pause = bound.saturating_sub(last.saturating_mul(2)).max(PAUSE_MIN);
        if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        if !journal.needs_sync() {
            continue;
        }
        let begun = Instant::now();
        stats.sync_watch.begin();
        let outcome = journal.sync();
        last = begun.elapsed();
        stats.sync_time.observe(last);
        stats.sync_watch.end();
        let failed = outcome.is_err();
        if failed {
            stats.sync_errors.add(1);
        }
        if stats.not_durable.set(failed) {
            match outcome {
                Err(error) => tracing::error!(%error, "captured media may not survive a power cut"),
                Ok(()) => tracing::info!("the capture journal can be made durable again"),
            }
        }
    }
}
