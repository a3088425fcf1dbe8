//! The thread that seals recordings, one after the other, off the hot path. It takes them from a
//! queue, tries again what may pass (a full disk, above all), sets aside what cannot be sealed,
//! and tells the journal what it owes no more. One recording's failure stops no other.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use recorder_core::media::Unplaceable;
use storage::{JournalError, JournalReader, VoiceStore};
use storage_core::journal::Fact;
use storage_core::{Draft, Recording, RecordingId};

use crate::media_thread::{MediaHandle, NotTaken};
use crate::seal_queue::{SealOrders, SealStats};
use crate::sealing::{SealError, Sealed, VoiceSettings, seal};

/// First pause before a further attempt; it doubles.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest pause.
const RETRY_LAST: Duration = Duration::from_secs(60);
/// A failure other than a full disk is tried so often.
const ATTEMPTS_MAX: u32 = 5;
/// How often the thread looks whether it is to stop, and whether something is due.
const LOOK: Duration = Duration::from_millis(100);

/// What happened to a recording.
#[derive(Debug)]
pub enum SealEvent {
    /// It is published: voice file and record are durable.
    Published(Box<Recording>),
    /// Nothing was heard; there is no voice file.
    Missed {
        /// What is known of the call.
        draft: Box<Draft>,
        /// Why.
        reason: Unplaceable,
    },
    /// It cannot be sealed. Its capture stays in the journal, and the next start tries again.
    SetAside {
        /// The recording.
        recordingid: RecordingId,
        /// Why.
        error: SealError,
    },
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
    /// Writes down what is sealed.
    pub media: MediaHandle,
    /// Told of each recording, from the sealer's thread, before the journal is.
    pub tell: Box<dyn FnMut(SealEvent) + Send>,
}

/// The running thread.
#[derive(Debug)]
pub struct Sealer {
    stop: SyncSender<Instant>,
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
        let worker = Worker { config, waiting: VecDeque::new(), unsaid: VecDeque::new() };
        let builder = std::thread::Builder::new().name("sealer".to_owned());
        let thread = builder.spawn(move || worker.run(|| stopped.try_recv().ok()))?;
        Ok(Self { stop, thread, stats })
    }

    /// Its counters.
    #[must_use]
    pub fn stats(&self) -> &SealStats {
        &self.stats
    }

    /// Seals what waits, for as long as `patience`, and ends. What is left stays in the journal.
    pub fn stop(self, patience: Duration) {
        let _ = self.stop.try_send(Instant::now() + patience);
        // A panic there has been reported by the runtime; there is nothing else to do about it.
        let _ = self.thread.join();
    }
}

/// A recording that could not be sealed yet.
struct Waiting {
    id: RecordingId,
    due: Instant,
    attempts: u32,
}

struct Worker {
    config: SealerConfig,
    /// In no order: there are few, and all of them are due within a minute.
    waiting: VecDeque<Waiting>,
    /// Sealed, and the media thread had no room for being told.
    unsaid: VecDeque<RecordingId>,
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
                self.seal(waiting.id, waiting.attempts);
                continue;
            }
            match self.config.orders.receiver.recv_timeout(LOOK) {
                Ok(id) => self.seal(id, 0),
                Err(RecvTimeoutError::Timeout) if until.is_none() => {}
                // Asked to stop, and nothing waits but what has just failed; or nobody is left
                // who could send anything.
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    if until.is_some() || self.waiting.is_empty() {
                        return;
                    }
                    std::thread::sleep(LOOK);
                }
            }
            self.say();
        }
    }

    fn seal(&mut self, id: RecordingId, attempts: u32) {
        let SealerConfig { capture, store, voice, orders, tell, .. } = &mut self.config;
        let outcome = seal(capture, store, *voice, id);
        let event = match outcome {
            Ok(Sealed::Published(record)) => SealEvent::Published(record),
            Ok(Sealed::Missed { draft, reason }) => SealEvent::Missed { draft, reason },
            // It was in the queue twice, and is sealed.
            Err(SealError::Journal(JournalError::NoRecording(_))) => {
                orders.stats.done();
                return;
            }
            Err(error) if error.is_full() || (error.may_pass() && attempts + 1 < ATTEMPTS_MAX) => {
                if attempts == 0 {
                    tracing::warn!(recording = %id, %error, "cannot be sealed yet");
                }
                orders.stats.retries.add(1);
                let pause = RETRY_FIRST.saturating_mul(1 << attempts.min(6)).min(RETRY_LAST);
                let due = Instant::now() + pause;
                self.waiting.push_back(Waiting { id, due, attempts: attempts + 1 });
                return;
            }
            Err(error) => {
                tracing::error!(recording = %id, %error, "set aside; its capture is kept");
                orders.stats.done();
                tell(SealEvent::SetAside { recordingid: id, error });
                return;
            }
        };
        orders.stats.done();
        tell(event);
        self.unsaid.push_back(id);
        self.say();
    }

    /// Tells the journal what is sealed, as far as it takes it. What it does not take before the
    /// end is sealed again at the next start.
    fn say(&mut self) {
        while let Some(recordingid) = self.unsaid.pop_front() {
            if let Err(NotTaken(_)) = self.config.media.send(Fact::Sealed { recordingid }) {
                self.unsaid.push_front(recordingid);
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests;
