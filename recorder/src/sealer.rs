//! The threads that seal recordings, off the hot path. They take jobs from a queue, try again what
//! may pass (a full disk, above all), and tell what became of each. One recording's failure stops no
//! other. What follows from it (the group's agreement, publishing, the journal) is the matter of
//! whoever is told.
//!
//! They give way to every other thread that wants the processor; and while the capture comes late
//! all but the first rest, which works half of the time.

use std::io;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use storage::{JournalReader, VoiceStore};

use crate::media_thread::MediaHandle;
use crate::seal_queue::{SealQueue, SealStats};
use crate::sealing::{SealError, SealJob, Sealed, VoiceSettings, seal};

/// First pause before a further attempt; it doubles.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest pause.
const RETRY_LAST: Duration = Duration::from_secs(60);
/// A failure other than a full disk is tried so often.
const ATTEMPTS_MAX: u32 = 5;

/// G.711 is sealed thousands of times faster than it is spoken, so this is for what has to be encoded.
const THREADS_MAX: usize = 4;
/// How long a thread rests at most before it looks again whether the capture comes late.
const REST_MAX: Duration = Duration::from_secs(1);
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

/// Whom a sealer tells.
pub type Tell = Box<dyn FnMut(SealEvent) + Send>;

/// What the sealer works with.
pub struct SealerConfig {
    /// What is to be sealed.
    pub queue: SealQueue,
    /// How many are sealed at a time.
    pub threads: NonZeroUsize,
    /// The captures.
    pub capture: JournalReader,
    /// Where voice files and records go.
    pub store: VoiceStore,
    /// How voice files are written.
    pub voice: VoiceSettings,
    /// Whose beat goes before.
    pub media: MediaHandle,
    /// Told of each recording, from any of the threads, one at a time.
    pub tell: Tell,
}

/// The running threads.
#[derive(Debug)]
pub struct Sealer {
    queue: SealQueue,
    threads: Vec<JoinHandle<()>>,
}

/// As many threads as leave a processor to the capture, and no more than its disk is good for.
#[must_use]
pub fn usual_threads() -> NonZeroUsize {
    let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    NonZeroUsize::new(processors.saturating_sub(1).min(THREADS_MAX)).unwrap_or(NonZeroUsize::MIN)
}

impl Sealer {
    /// Starts them.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn spawn(config: SealerConfig) -> io::Result<Self> {
        let SealerConfig { queue, threads, capture, store, voice, media, tell } = config;
        let tell = Arc::new(Mutex::new(tell));
        let mut sealer = Self { queue: queue.clone(), threads: Vec::new() };
        for number in 0..threads.get() {
            let worker = Worker {
                first: number == 0,
                queue: queue.clone(),
                capture: capture.clone(),
                store: store.clone(),
                voice,
                load: Load { late: media.stats().sweeps_late.value(), media: media.clone() },
                tell: Arc::clone(&tell),
            };
            let builder = std::thread::Builder::new().name("sealer".to_owned());
            sealer.threads.push(builder.spawn(move || {
                yield_to_others();
                worker.run();
            })?);
        }
        Ok(sealer)
    }

    /// Their counters.
    #[must_use]
    pub fn stats(&self) -> &SealStats {
        self.queue.stats()
    }

    /// Seals what waits, for as long as `patience`, and ends. What is left stays in the journal.
    pub fn stop(self, patience: Duration) {
        self.queue.end(patience);
        for thread in self.threads {
            // A panic there has been reported by the runtime; there is nothing else to do about it.
            let _ = thread.join();
        }
    }
}

/// Sealing can wait, capturing cannot: where both want a processor, this thread gets a tenth of it.
pub fn yield_to_others() {
    // Linux takes this for the calling thread alone: setpriority(2), under bugs.
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::warn!(%error, "the sealer's thread cannot be made to yield to others");
    }
}

/// Whether the capture comes late, as far as this thread has looked.
struct Load {
    media: MediaHandle,
    /// How often it was late then.
    late: u64,
}

impl Load {
    /// Whether it was late since this was last asked.
    fn was_late(&mut self) -> bool {
        let late = self.media.stats().sweeps_late.value();
        std::mem::replace(&mut self.late, late) != late
    }
}

struct Worker {
    first: bool,
    queue: SealQueue,
    capture: JournalReader,
    store: VoiceStore,
    voice: VoiceSettings,
    load: Load,
    tell: Arc<Mutex<Tell>>,
}

impl Worker {
    fn run(mut self) {
        let mut worked = Duration::ZERO;
        loop {
            if self.load.was_late() {
                let rest = if self.first { worked.min(REST_MAX) } else { REST_MAX };
                self.queue.rest(rest);
            }
            let Some((job, attempts)) = self.queue.take() else { return };
            let begun = Instant::now();
            self.seal(job, attempts);
            worked = begun.elapsed();
        }
    }

    fn seal(&self, job: SealJob, attempts: u32) {
        let outcome = seal(&job, &self.capture, &self.store, self.voice);
        let recording = job.recording;
        match &outcome {
            Err(error) if error.is_full() || (error.may_pass() && attempts + 1 < ATTEMPTS_MAX) => {
                if attempts == 0 {
                    tracing::warn!(%recording, %error, "cannot be sealed yet");
                }
                let pause = RETRY_FIRST.saturating_mul(1 << attempts.min(6)).min(RETRY_LAST);
                self.queue.retry(job, attempts + 1, pause);
                return;
            }
            Err(error) if !error.is_gone() => {
                tracing::error!(%recording, %error, "set aside; its capture is kept");
            }
            _ => {}
        }
        let mut tell = self.tell.lock().unwrap_or_else(PoisonError::into_inner);
        tell(SealEvent { job, outcome });
        drop(tell);
        self.queue.done(recording);
    }
}

#[cfg(test)]
mod stereo_tests;
#[cfg(test)]
pub(crate) mod tests;
