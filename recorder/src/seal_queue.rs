//! The queue of recordings that are to be sealed: whose turn it is, which are tried again and when,
//! and when there is no further turn. How one is sealed, and by how many threads, is decided by who
//! takes them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use storage_core::RecordingId;

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
}

/// The queue, for any number of threads at both of its ends. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct SealQueue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    stats: SealStats,
}

#[derive(Debug, Default)]
struct State {
    /// Not tried yet, in order.
    fresh: VecDeque<SealJob>,
    /// Tried, in no order: there are few, and all of them are due within a minute.
    again: Vec<Again>,
    /// Being sealed.
    taken: Vec<RecordingId>,
    /// Nothing is taken after this.
    until: Option<Instant>,
}

#[derive(Debug)]
struct Again {
    job: SealJob,
    due: Instant,
    attempts: u32,
}

/// What there is to do for a thread.
enum Turn {
    /// Seal this, which was tried so often.
    Seal(Box<SealJob>, u32),
    /// Look again then, or when something has changed.
    Wait(Option<Duration>),
    End,
}

impl State {
    fn turn(&mut self, now: Instant) -> Turn {
        if self.until.is_some_and(|until| until <= now) {
            return Turn::End;
        }
        let free = |job: &SealJob| !self.taken.contains(&job.recording);
        let due = self.again.iter().position(|again| again.due <= now && free(&again.job));
        let fresh = self.fresh.iter().position(free);
        let (job, attempts) = match (due, fresh) {
            (Some(due), _) => {
                let Again { job, attempts, .. } = self.again.swap_remove(due);
                (job, attempts)
            }
            (None, Some(fresh)) => match self.fresh.remove(fresh) {
                Some(job) => (job, 0),
                None => return Turn::Wait(None),
            },
            // What is tried again has failed just now.
            (None, None) if self.until.is_some() && self.fresh.is_empty() => return Turn::End,
            (None, None) => {
                let next = self.again.iter().map(|again| again.due).chain(self.until).min();
                return Turn::Wait(next.map(|next| next.saturating_duration_since(now)));
            }
        };
        self.taken.push(job.recording);
        Turn::Seal(Box::new(job), attempts)
    }
}

impl SealQueue {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Has a recording sealed. Never waits for it; `false` if the queue is full or has ended.
    #[must_use]
    pub fn push(&self, job: SealJob) -> bool {
        let mut state = self.state();
        if state.until.is_some() || state.fresh.len() >= WAITING_MAX {
            return false;
        }
        state.fresh.push_back(job);
        self.0.stats.waiting.fetch_add(1, Ordering::Relaxed);
        self.0.changed.notify_one();
        true
    }

    /// The sealer's counters.
    #[must_use]
    pub fn stats(&self) -> &SealStats {
        &self.0.stats
    }

    /// Waits for a recording whose turn it is, and tells how often it was tried; `None` when there is
    /// no further turn. No two threads have the same recording at a time. It is to be given back by
    /// [`Self::done`] or [`Self::retry`].
    pub(crate) fn take(&self) -> Option<(SealJob, u32)> {
        let mut state = self.state();
        loop {
            match state.turn(Instant::now()) {
                Turn::Seal(job, attempts) => return Some((*job, attempts)),
                Turn::End => return None,
                Turn::Wait(None) => {
                    state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                Turn::Wait(Some(time)) => {
                    let waited = self.0.changed.wait_timeout(state, time);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }

    /// A recording is sealed, or set aside.
    pub(crate) fn done(&self, recording: RecordingId) {
        self.give_back(recording, |_| ());
        self.0.stats.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// A recording is to be tried once more, after a pause.
    pub(crate) fn retry(&self, job: SealJob, attempts: u32, pause: Duration) {
        self.0.stats.retries.add(1);
        let due = Instant::now() + pause;
        self.give_back(job.recording, |state| state.again.push(Again { job, due, attempts }));
    }

    /// Waits, but not beyond the queue's end.
    pub(crate) fn rest(&self, time: Duration) {
        let state = self.state();
        let ended = |state: &mut State| state.until.is_none();
        drop(self.0.changed.wait_timeout_while(state, time, ended));
    }

    /// Nothing more is put in; what waits is taken for as long as `patience`.
    pub(crate) fn end(&self, patience: Duration) {
        self.state().until = Some(Instant::now() + patience);
        self.0.changed.notify_all();
    }

    fn give_back(&self, recording: RecordingId, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        state.taken.retain(|taken| *taken != recording);
        change(&mut state);
        drop(state);
        self.0.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What is done under the lock leaves no half-way state behind.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use storage_core::{NodeId, WallTime};

    use super::*;

    fn id(number: u8) -> RecordingId {
        RecordingId::new(WallTime::default(), [number; 10])
    }

    fn job(number: u8, revision: u32) -> SealJob {
        SealJob { revision, ..SealJob::alone(id(number), NodeId(1), 1) }
    }

    fn taken(turn: Turn) -> Option<(RecordingId, u32, u32)> {
        match turn {
            Turn::Seal(job, attempts) => Some((job.recording, job.revision, attempts)),
            Turn::Wait(_) | Turn::End => None,
        }
    }

    #[test]
    fn two_revisions_of_a_recording_are_not_sealed_at_once() {
        let (queue, now) = (SealQueue::new(), Instant::now());
        for (number, revision) in [(1, 1), (1, 2), (2, 1)] {
            assert!(queue.push(job(number, revision)));
        }
        let turn = || taken(queue.state().turn(now));
        assert_eq!(turn(), Some((id(1), 1, 0)));
        assert_eq!(turn(), Some((id(2), 1, 0)));
        assert_eq!(turn(), None, "the second revision waits for the first");
        queue.done(id(1));
        assert_eq!(turn(), Some((id(1), 2, 0)));
        assert_eq!(queue.stats().waiting(), 2);
    }

    #[test]
    fn what_failed_is_tried_again_when_it_is_due_and_before_others() {
        let (queue, now) = (SealQueue::new(), Instant::now());
        assert!(queue.push(job(1, 1)));
        let Turn::Seal(failed, 0) = queue.state().turn(now) else { panic!("nothing to do") };
        queue.retry(*failed, 1, Duration::from_secs(60));
        let Turn::Wait(Some(time)) = queue.state().turn(now) else { panic!("not waiting") };
        assert!(time > Duration::from_secs(59), "{time:?}");
        assert!(queue.push(job(2, 1)));
        let later = now + Duration::from_secs(61);
        assert_eq!(taken(queue.state().turn(later)), Some((id(1), 1, 1)));
        assert_eq!(taken(queue.state().turn(later)), Some((id(2), 1, 0)));
    }

    #[test]
    fn after_its_end_what_is_fresh_is_taken_and_nothing_more() {
        let (queue, now) = (SealQueue::new(), Instant::now());
        for number in 1..=3 {
            assert!(queue.push(job(number, 1)));
        }
        let Turn::Seal(failed, 0) = queue.state().turn(now) else { panic!("nothing to do") };
        queue.retry(*failed, 1, Duration::from_secs(1));
        queue.end(Duration::from_secs(60));
        assert!(!queue.push(job(4, 1)));
        assert_eq!(taken(queue.state().turn(now)), Some((id(2), 1, 0)));
        let late = Instant::now() + Duration::from_secs(60);
        assert!(matches!(queue.state().turn(late), Turn::End), "patience is over");
        assert_eq!(taken(queue.state().turn(now)), Some((id(3), 1, 0)));
        assert!(matches!(queue.state().turn(now), Turn::End), "what failed is left");
    }
}
