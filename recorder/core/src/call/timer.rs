//! Timers: what is to be looked at again, and when. Each has a name, so that setting one again
//! moves it and nothing is looked at for a reason that is gone.

use std::collections::{BTreeMap, BTreeSet};

use storage_core::{Extension, MonoTime, RecordingId};

use super::tracked::CallKey;

/// Why a wake-up was asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A call is to be decided upon again: a grace, a back-off or a delay is over.
    Call(CallKey),
    /// A phantom's join, media or leave is due.
    Tap(Extension),
    /// A person's request must be answered.
    Request(u64),
    /// A recording that ended without a packet is to be judged.
    Judge(RecordingId),
    /// Calls that wait for a phantom get one.
    Phantoms,
    /// Recordings left open by a crash have waited long enough.
    Adoption,
    /// Recordings that nobody goes on with are to be ended.
    Orphans,
    /// A pause has lasted as long as it may, or long enough to be forgotten.
    Pauses,
}

/// All timers that are set.
#[derive(Debug, Default)]
pub(super) struct Timers {
    due: BTreeMap<Timer, MonoTime>,
    order: BTreeSet<(MonoTime, Timer)>,
}

impl Timers {
    /// Sets a timer, or moves it.
    pub fn set(&mut self, timer: Timer, at: MonoTime) {
        self.stop(&timer);
        self.order.insert((at, timer.clone()));
        self.due.insert(timer, at);
    }

    /// Sets a timer if it is not to go off sooner.
    pub fn set_earlier(&mut self, timer: Timer, at: MonoTime) {
        if self.due.get(&timer).is_none_or(|due| at < *due) {
            self.set(timer, at);
        }
    }

    /// Stops a timer.
    pub fn stop(&mut self, timer: &Timer) {
        if let Some(at) = self.due.remove(timer) {
            self.order.remove(&(at, timer.clone()));
        }
    }

    /// When the next timer goes off.
    pub fn next(&self) -> Option<MonoTime> {
        self.order.first().map(|(at, _)| *at)
    }

    /// The next timer that has gone off.
    pub fn expire(&mut self, now: MonoTime) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        let (_, timer) = self.order.pop_first()?;
        self.due.remove(&timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_goes_off_once_at_its_last_time() {
        let at = MonoTime::from_millis;
        let call = Timer::Call(CallKey(1));
        let mut timers = Timers::default();
        timers.set(call.clone(), at(5));
        timers.set(call.clone(), at(9));
        timers.set_earlier(call.clone(), at(12));
        timers.set(Timer::Phantoms, at(7));
        assert_eq!(timers.expire(at(6)), None);
        assert_eq!(timers.expire(at(9)), Some(Timer::Phantoms));
        assert_eq!(timers.expire(at(9)), Some(call));
        assert_eq!(timers.next(), None);
    }
}
