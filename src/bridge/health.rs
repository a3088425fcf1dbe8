//! How this node is, as far as recording needs, in the group's words; and when to say so. Bad news is
//! told at once, good news only after it has lasted, and nothing at all while a node that has just
//! started is still setting up.

use std::collections::BTreeMap;
use std::time::Duration;

use cluster_core::{Health, Phantoms};
use recorder_core::call::pool::PhantomState;
use storage_core::MonoTime;

/// Good news must last so long.
const LASTING: Duration = Duration::from_secs(1);
/// A node that has just started has so much time to set up before it counts as sick.
const SETTING_UP: Duration = Duration::from_secs(8);
/// One phantom that hears nothing may be a hold; so many that are more than half are this node's
/// trouble.
const DEAF_MIN: usize = 3;

/// What is looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// The session with the AES is up, and so is its link to the switch.
    pub aes_up: bool,
    /// Phantoms by state.
    pub phantoms: BTreeMap<PhantomState, usize>,
    /// The capture takes what it is given, and there is room.
    pub disk: bool,
    /// Phantoms in calls.
    pub in_calls: usize,
    /// Those of them that should hear something and do not.
    pub deaf: usize,
}

impl Signs {
    /// What they mean.
    #[must_use]
    pub fn health(&self) -> Health {
        let count = |states: &[PhantomState]| {
            states.iter().filter_map(|state| self.phantoms.get(state)).sum::<usize>()
        };
        // What keeps a ring gives way to a recording.
        let free = count(&[PhantomState::Free, PhantomState::Resting, PhantomState::Ring]);
        let used = count(&[PhantomState::Joining, PhantomState::Recording, PhantomState::Leaving]);
        let phantoms = match (free, used) {
            (0, 0) => Phantoms::None,
            (0, _) => Phantoms::Full,
            _ => Phantoms::Free,
        };
        let media = self.deaf < DEAF_MIN || self.deaf * 2 <= self.in_calls;
        Health { aes: self.aes_up, phantoms, disk: self.disk, media }
    }
}

/// Decides when a change is told.
#[derive(Debug)]
pub struct Teller {
    started: MonoTime,
    told: Option<Health>,
    /// What would be told if it lasts.
    pending: Option<(Health, MonoTime)>,
}

impl Teller {
    /// For a node that starts now.
    #[must_use]
    pub const fn new(now: MonoTime) -> Self {
        Self { started: now, told: None, pending: None }
    }

    /// What is to be told now, if anything. To be asked often.
    pub fn look(&mut self, now: MonoTime, health: Health) -> Option<Health> {
        if self.told == Some(health) {
            self.pending = None;
            return None;
        }
        let due = match self.told {
            None => health.fit() || now.since(self.started) >= SETTING_UP,
            // A change that leaves the node fit, or makes it unfit, is told at once.
            Some(told) if !health.fit() || told.fit() => true,
            Some(_) => {
                let since = match self.pending {
                    Some((pending, since)) if pending == health => since,
                    _ => now,
                };
                self.pending = Some((health, since));
                now.since(since) >= LASTING
            }
        };
        if due {
            (self.told, self.pending) = (Some(health), None);
        }
        due.then_some(health)
    }

    /// Whether time alone may make something worth telling.
    #[must_use]
    pub const fn waits(&self) -> bool {
        self.told.is_none() || self.pending.is_some()
    }

    /// It did not get through: it is to be told again.
    pub const fn lost(&mut self) {
        self.told = None;
        self.started = MonoTime::from_micros(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signs(free: usize, used: usize) -> Signs {
        let phantoms = [(PhantomState::Free, free), (PhantomState::Recording, used)].into();
        Signs { aes_up: true, phantoms, disk: true, in_calls: used, deaf: 0 }
    }

    #[test]
    fn what_a_node_needs_makes_it_fit() {
        assert_eq!(signs(3, 1).health(), Health::GOOD);
        let cases = [
            (Signs { aes_up: false, ..signs(3, 1) }, false),
            (Signs { disk: false, ..signs(3, 1) }, false),
            (signs(0, 0), false),
            (signs(0, 4), true),
            (Signs { phantoms: [(PhantomState::Ring, 4)].into(), ..signs(0, 0) }, true),
            (Signs { deaf: 2, ..signs(3, 2) }, true),
            (Signs { deaf: 3, ..signs(3, 5) }, false),
            (Signs { deaf: 3, ..signs(3, 9) }, true),
        ];
        for (signs, fit) in cases {
            assert_eq!(signs.health().fit(), fit, "{signs:?}");
        }
    }

    #[test]
    fn bad_news_travels_fast_and_good_news_must_last() {
        let at = MonoTime::from_millis;
        let mut teller = Teller::new(at(0));
        let sick = Health { aes: false, ..Health::GOOD };
        assert_eq!(teller.look(at(100), sick), None, "it is still setting up");
        assert_eq!(teller.look(at(2_000), Health::GOOD), Some(Health::GOOD));
        assert_eq!(teller.look(at(3_000), sick), Some(sick));
        assert!(!teller.waits());
        assert_eq!(teller.look(at(3_100), Health::GOOD), None);
        assert!(teller.waits());
        assert_eq!(teller.look(at(3_500), sick), None);
        assert_eq!(teller.look(at(3_600), Health::GOOD), None);
        assert_eq!(teller.look(at(4_500), Health::GOOD), None);
        assert_eq!(teller.look(at(4_700), Health::GOOD), Some(Health::GOOD));
        assert!(!teller.waits());
        let mut never = Teller::new(at(0));
        assert_eq!(never.look(at(8_000), sick), Some(sick));
        never.lost();
        assert_eq!(never.look(at(8_100), sick), Some(sick));
    }
}
