//! Counters of the media thread, read by the metrics page at any time. Plain numbers: what is
//! good or bad is decided by who reads them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use recorder_core::media::NotRtp;
use recorder_core::media::srtp::Refusal;

/// A number that only its owner changes and anybody reads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The number.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, count: u64) {
        if count > 0 {
            self.0.fetch_add(count, Ordering::Relaxed);
        }
    }
}

/// Something that is so or not.
#[derive(Debug, Default)]
pub struct Flag(AtomicBool);

impl Flag {
    /// Whether it is so.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets it and tells whether that was a change.
    pub(crate) fn set(&self, on: bool) -> bool {
        self.0.swap(on, Ordering::Relaxed) != on
    }
}

/// Times in buckets, for a histogram. Bounds in milliseconds, see [`Histogram::BOUNDS_MS`].
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; Self::BOUNDS_MS.len() + 1],
    sum_micros: AtomicU64,
}

impl Histogram {
    /// Upper bounds of the buckets, milliseconds; one more bucket takes the rest.
    pub const BOUNDS_MS: [u64; 12] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000];

    pub(crate) fn observe(&self, time: Duration) {
        let within = |bound: &u64| time <= Duration::from_millis(*bound);
        let bucket = Self::BOUNDS_MS.iter().position(within).unwrap_or(Self::BOUNDS_MS.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// How many times were seen per bucket, not added up, and the sum of all times.
    #[must_use]
    pub fn snapshot(&self) -> ([u64; Self::BOUNDS_MS.len() + 1], Duration) {
        let buckets = std::array::from_fn(|i| self.buckets[i].load(Ordering::Relaxed));
        (buckets, Duration::from_micros(self.sum_micros.load(Ordering::Relaxed)))
    }
}

/// Why the capture cannot be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotWriting {
    /// There is no room; otherwise the disk fails, or is read-only.
    pub full: bool,
    /// Bytes that are to be free before media counts as written again.
    pub room_wanted: u64,
    /// In the words of the operating system.
    pub why: String,
}

/// How long something takes that may hang (a sync, a turn of the media thread), for whoever looks now and then.
#[derive(Debug, Default)]
pub struct Stopwatch {
    begun: Mutex<Option<Instant>>,
    longest_micros: AtomicU64,
    /// When the last one ended that took long.
    long_ended: Mutex<Option<Instant>>,
}

impl Stopwatch {
    /// What takes longer is long.
    const LONG: Duration = Duration::from_secs(1);

    /// Whether a long one is under way, or has ended within so much time.
    #[must_use]
    pub fn was_long_within(&self, span: Duration) -> bool {
        let ended = *self.long_ended.lock().unwrap_or_else(PoisonError::into_inner);
        self.under_way() > Self::LONG || ended.is_some_and(|ended| ended.elapsed() <= span)
    }

    /// How long the one under way takes already.
    #[must_use]
    pub fn under_way(&self) -> Duration {
        let begun = *self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.map(|begun| begun.elapsed()).unwrap_or_default()
    }

    /// How long the one under way takes already, and the longest that ended since this was last asked.
    #[must_use]
    pub fn look(&self) -> (Duration, Duration) {
        let under_way = self.under_way();
        let longest = self.longest_micros.swap(0, Ordering::Relaxed);
        (under_way, Duration::from_micros(longest))
    }

    pub(crate) fn begin(&self) {
        *self.begun.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    pub(crate) fn end(&self) {
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner).take();
        let took = begun.map(|begun| begun.elapsed()).unwrap_or_default();
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.longest_micros.fetch_max(micros, Ordering::Relaxed);
        if took > Self::LONG {
            *self.long_ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
    }
}

/// All counters of the media thread.
#[derive(Debug, Default)]
pub struct MediaStats {
    /// Media packets kept.
    pub packets: Counter,
    /// Datagrams that the kernel dropped because a socket's buffer was full.
    pub kernel_drops: Counter,
    /// Datagrams from others than the source that the switch named.
    pub strangers: Counter,
    /// Datagrams to phantoms in no call of ours, and what was in a port's buffer from before.
    pub strays: Counter,
    /// Datagrams that were too long and were cut.
    pub truncated: Counter,
    /// Datagrams that are not what belongs on their port, by [`NotRtp::index`].
    pub malformed: [Counter; NotRtp::ALL.len()],
    /// Datagrams that were not decrypted and are kept out, by [`Refusal::index`].
    pub undecryptable: [Counter; Refusal::ALL.len()],
    /// Errors of sockets.
    pub receive_errors: Counter,
    /// Packets that came and could not be kept.
    pub lost_packets: Counter,
    /// Facts given up because too many waited.
    pub facts_lost: Counter,
    /// Orders refused because too many waited.
    pub orders_refused: Counter,
    /// Notices given up because the control plane did not take them.
    pub notices_lost: Counter,
    /// Turns of the thread: at least two a second while it gets on.
    pub turns: Counter,
    /// Times that a sweep began later than its beat by more than a beat.
    pub sweeps_late: Counter,
    /// How long it takes to make the journal durable.
    pub sync_time: Histogram,
    /// Syncs that failed.
    pub sync_errors: Counter,
    /// The same as it goes on.
    pub sync_watch: Stopwatch,
    /// How long a turn of the thread takes without what it waits for work: mostly the disk's doing.
    pub turn_watch: Stopwatch,
    /// The disk is full, or the journal fails: media is being lost.
    pub not_writing: Flag,
    /// Why, since when it last was so.
    pub(crate) not_writing_why: Mutex<Option<NotWriting>>,
    /// The last sync failed: what was captured may not survive a power cut.
    pub not_durable: Flag,
}

impl MediaStats {
    /// Why media is being lost, if it is.
    #[must_use]
    pub fn why_not_writing(&self) -> Option<NotWriting> {
        let why = self.not_writing_why.lock().unwrap_or_else(PoisonError::into_inner);
        why.clone().filter(|_| self.not_writing.is_set())
    }

    pub(crate) fn cannot_write(&self, why: NotWriting) {
        *self.not_writing_why.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fall_into_their_buckets() {
        let histogram = Histogram::default();
        for ms in [0, 1, 2, 7, 5_000, 60_000] {
            histogram.observe(Duration::from_millis(ms));
        }
        let (buckets, sum) = histogram.snapshot();
        assert_eq!(buckets, [2, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(sum, Duration::from_millis(65_010));
    }
}
