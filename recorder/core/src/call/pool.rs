//! Our phantoms: which one may be put into a call now. A phantom that leaves a call rests, so that
//! stray packets of the old call do not land in a new one. It does not know calls.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use storage_core::{Extension, MonoTime};

/// How long a phantom rests after each call.
pub const REST: Duration = Duration::from_secs(1);
/// How long a phantom rests that was busy elsewhere or got no media: it is tried last.
pub const LONG_REST: Duration = Duration::from_secs(30);

/// What a phantom is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PhantomState {
    /// Registered and idle.
    Free,
    /// Asked into a call.
    Joining,
    /// In a call.
    Recording,
    /// In a call that another node records, for the ring only.
    Ring,
    /// Asked out of a call.
    Leaving,
    /// Idle, and not to be used yet.
    Resting,
    /// Not registered.
    Lost,
    /// The switch refuses to register it.
    Refused,
}

impl PhantomState {
    /// All states, for metrics.
    pub const ALL: [Self; 8] = [
        Self::Free,
        Self::Joining,
        Self::Recording,
        Self::Ring,
        Self::Leaving,
        Self::Resting,
        Self::Lost,
        Self::Refused,
    ];

    /// Value of the metric's label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Joining => "joining",
            Self::Recording => "recording",
            Self::Ring => "ring",
            Self::Leaving => "leaving",
            Self::Resting => "resting",
            Self::Lost => "lost",
            Self::Refused => "refused",
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Slot {
    Idle { from: MonoTime },
    Busy(PhantomState),
    Lost,
    Refused,
}

/// The phantoms.
#[derive(Debug)]
pub struct Pool {
    slots: BTreeMap<Extension, Slot>,
}

impl Pool {
    /// Phantoms of which none is registered yet.
    #[must_use]
    pub fn new(phantoms: &BTreeSet<Extension>) -> Self {
        Self { slots: phantoms.iter().map(|phantom| (phantom.clone(), Slot::Lost)).collect() }
    }

    /// A phantom is registered. One that is in a call stays in it.
    pub fn ready(&mut self, now: MonoTime, phantom: &Extension) {
        if let Some(slot @ (Slot::Lost | Slot::Refused)) = self.slots.get_mut(phantom) {
            *slot = Slot::Idle { from: now };
        }
    }

    /// A phantom is not registered any more.
    pub fn lost(&mut self, phantom: &Extension) {
        self.set(phantom, Slot::Lost);
    }

    /// The switch refuses to register a phantom.
    pub fn refused(&mut self, phantom: &Extension) {
        self.set(phantom, Slot::Refused);
    }

    /// Takes the phantom that has been idle longest.
    pub fn take(&mut self, now: MonoTime) -> Option<Extension> {
        let free = self.slots.iter().filter_map(|(phantom, slot)| match slot {
            Slot::Idle { from } if *from <= now => Some((*from, phantom)),
            _ => None,
        });
        let phantom = free.min()?.1.clone();
        self.set(&phantom, Slot::Busy(PhantomState::Joining));
        Some(phantom)
    }

    /// Says what a phantom in use is doing. A phantom that is not registered stays so.
    pub fn busy(&mut self, phantom: &Extension, state: PhantomState) {
        if let Some(slot @ (Slot::Idle { .. } | Slot::Busy(_))) = self.slots.get_mut(phantom) {
            *slot = Slot::Busy(state);
        }
    }

    /// Gives a phantom back; it is free again after `rest`.
    pub fn give_back(&mut self, now: MonoTime, phantom: &Extension, rest: Duration) {
        if let Some(slot @ (Slot::Idle { .. } | Slot::Busy(_))) = self.slots.get_mut(phantom) {
            *slot = Slot::Idle { from: now + rest };
        }
    }

    /// When the next resting phantom is free.
    #[must_use]
    pub fn next_free(&self, now: MonoTime) -> Option<MonoTime> {
        let idle = self.slots.values().filter_map(|slot| match slot {
            Slot::Idle { from } => Some((*from).max(now)),
            _ => None,
        });
        idle.min()
    }

    /// What a phantom is doing.
    #[must_use]
    pub fn state(&self, now: MonoTime, phantom: &Extension) -> Option<PhantomState> {
        self.slots.get(phantom).map(|slot| slot.state(now))
    }

    /// How many phantoms are in each state.
    #[must_use]
    pub fn counts(&self, now: MonoTime) -> BTreeMap<PhantomState, usize> {
        let mut counts: BTreeMap<_, _> = PhantomState::ALL.map(|state| (state, 0)).into();
        for slot in self.slots.values() {
            *counts.entry(slot.state(now)).or_default() += 1;
        }
        counts
    }

    fn set(&mut self, phantom: &Extension, state: Slot) {
        if let Some(slot) = self.slots.get_mut(phantom) {
            *slot = state;
        }
    }
}

impl Slot {
    fn state(self, now: MonoTime) -> PhantomState {
        match self {
            Self::Idle { from } if from <= now => PhantomState::Free,
            Self::Idle { .. } => PhantomState::Resting,
            Self::Busy(state) => state,
            Self::Lost => PhantomState::Lost,
            Self::Refused => PhantomState::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> MonoTime {
        MonoTime::from_millis(millis)
    }

    fn pool() -> Pool {
        let phantoms = ["78001", "78002"].map(Extension::from).into();
        let mut pool = Pool::new(&phantoms);
        phantoms.iter().for_each(|phantom| pool.ready(at(0), phantom));
        pool
    }

    #[test]
    fn the_longest_rested_phantom_goes_first_and_each_rests() {
        let mut pool = pool();
        let first = pool.take(at(0)).unwrap();
        assert_eq!(first.as_str(), "78001");
        pool.give_back(at(100), &first, REST);
        assert_eq!(pool.take(at(100)).unwrap().as_str(), "78002");
        assert_eq!(pool.take(at(1099)), None);
        assert_eq!(pool.next_free(at(200)), Some(at(1100)));
        assert_eq!(pool.take(at(1100)), Some(first));
    }

    #[test]
    fn only_registered_phantoms_are_used() {
        let mut pool = pool();
        pool.lost(&"78001".into());
        pool.refused(&"78002".into());
        pool.give_back(at(0), &"78001".into(), REST);
        assert_eq!(pool.take(at(9_000)), None);
        let counts = pool.counts(at(9_000));
        assert_eq!((counts[&PhantomState::Lost], counts[&PhantomState::Refused]), (1, 1));
        pool.ready(at(9_000), &"99999".into());
        assert_eq!(pool.state(at(9_000), &"99999".into()), None);
    }
}
