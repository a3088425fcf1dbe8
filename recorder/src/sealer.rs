//! The thread that seals recordings, one after the other, off the hot path. It takes jobs from a
//! queue, tries again what may pass (a full disk, above all), and tells what became of each. One
//! recording's failure stops no other. What follows from it (the group's agreement, publishing,
//! the journal) is the matter of whoever is told.
//!
//! It gives way to every other thread that wants the processor.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use storage::{JournalReader, VoiceStore};

use crate::seal_queue::{SealOrder, SealOrders, SealStats};
use crate::sealing::{SealError, SealJob, Sealed, VoiceSettings, seal};

/// First pause before a further attempt; it doubles.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest pause.
const RETRY_LAST: Duration = Duration::from_secs(60);
/// A failure other than a full disk is tried so often.
const ATTEMPTS_MAX: u32 = 5;

/// Ten steps are a tenth of a share (sched(7)).
const NICE: i32 = 10;

/// What happened to a recording.
#[derive(Debug)]
pub struct SealEvent {
    /// What was to be sealed.
    pub job: SealJob,
    /// What became of it. After an error it is set aside: it is not tried again, and its captures
    /// are kept. One whose error says that it [is gone](SealError::is_gone) was sealed already.
    pub outcome: Result<Sealed, SealError>,
}

/// What the sealer works with.
pub struct SealerConfig {
    /// What is to be sealed.
    pub orders: SealOrders,
    /// The captures.
    pub capture: JournalReader,
    /// Where voice files and records go.
    pub store: VoiceStore,
    /// How voice files are written.
    pub voice: VoiceSettings,
    /// Told of each recording, from the sealer's thread.
    pub tell: Box<dyn FnMut(SealEvent) + Send>,
}

/// The running thread.
#[derive(Debug)]
pub struct Sealer {
    stop: SyncSender<Instant>,
    orders: SyncSender<SealOrder>,
    thread: JoinHandle<()>,
    stats: Arc<SealStats>,
}

impl Sealer {
    /// Starts it.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn spawn(config: SealerConfig) -> io::Result<Self> {
        let (stop, stopped) = sync_channel(1);
        let stats = Arc::clone(&config.orders.stats);
        let orders = config.orders.sender.clone();
        let worker = Worker { config, waiting: VecDeque::new() };
        let builder = std::thread::Builder::new().name("sealer".to_owned());
        let thread = builder.spawn(move || {
            yield_to_others();
            worker.run(|| stopped.try_recv().ok());
        })?;
        Ok(Self { stop, orders, thread, stats })
    }

    /// Its counters.
    #[must_use]
    pub fn stats(&self) -> &SealStats {
        &self.stats
    }

    /// Seals what waits, for as long as `patience`, and ends. What is left stays in the journal.
    pub fn stop(self, patience: Duration) {
        let _ = self.stop.try_send(Instant::now() + patience);
        // Where there is no room for it the thread does not sleep.
        let _ = self.orders.try_send(SealOrder::Wake);
        // A panic there has been reported by the runtime; there is nothing else to do about it.
        let _ = self.thread.join();
    }
}

/// Sealing can wait, capturing cannot: where both want a processor, this thread gets a tenth of it.
fn yield_to_others() {
    // Linux takes this for the calling thread alone: setpriority(2), under bugs.
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::warn!(%error, "the sealer's thread cannot be made to yield to others");
    }
}

/// A recording that could not be sealed yet.
struct Waiting {
    job: SealJob,
    due: Instant,
    attempts: u32,
}

struct Worker {
    config: SealerConfig,
    /// In no order: there are few, and all of them are due within a minute.
    waiting: VecDeque<Waiting>,
}

impl Worker {
    fn run(mut self, stop: impl Fn() -> Option<Instant>) {
        let mut until = None;
        loop {
            until = until.or_else(&stop);
            if until.is_some_and(|until| until <= Instant::now()) {
                return;
            }
            let due = self.waiting.iter().position(|waiting| waiting.due <= Instant::now());
            if let Some(waiting) = due.and_then(|index| self.waiting.remove(index)) {
                self.seal(waiting.job, waiting.attempts);
                continue;
            }
            let receiver = &self.config.orders.receiver;
            let next_due = self.waiting.iter().map(|waiting| waiting.due).min();
            let order = match next_due {
                // What still waits has failed just now.
                _ if until.is_some() => {
                    receiver.try_recv().map_err(|_| RecvTimeoutError::Disconnected)
                }
                None => receiver.recv().map_err(RecvTimeoutError::from),
                Some(due) => receiver.recv_timeout(due.saturating_duration_since(Instant::now())),
            };
            match order {
                Ok(SealOrder::Seal(job)) => self.seal(*job, 0),
                Ok(SealOrder::Wake) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn seal(&mut self, job: SealJob, attempts: u32) {
        let SealerConfig { capture, store, voice, orders, tell } = &mut self.config;
        let outcome = seal(&job, capture, store, *voice);
        let recording = job.recording;
        match &outcome {
            Err(error) if error.is_full() || (error.may_pass() && attempts + 1 < ATTEMPTS_MAX) => {
                if attempts == 0 {
                    tracing::warn!(%recording, %error, "cannot be sealed yet");
                }
                orders.stats.retries.add(1);
                let pause = RETRY_FIRST.saturating_mul(1 << attempts.min(6)).min(RETRY_LAST);
                let due = Instant::now() + pause;
                self.waiting.push_back(Waiting { job, due, attempts: attempts + 1 });
                return;
            }
            Err(error) if !error.is_gone() => {
                tracing::error!(%recording, %error, "set aside; its capture is kept");
            }
            _ => {}
        }
        orders.stats.done();
        tell(SealEvent { job, outcome });
    }
}

#[cfg(test)]
pub(crate) mod tests;
