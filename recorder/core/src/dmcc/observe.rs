//! Service observing: how a phantom that is registered comes to observe its station (dossier 7.3,
//! 6.11), as a dialogue of hookswitch and buttons with the paces that the switch needs, and when it
//! is dialled again. It knows no wire; `devices` carries out what it decides.
//!
//! ```text
//! Off ──registered──▶ Dialling ──last button answered──▶ Standing
//!  ▲                    │ refused                           │ ended, or deaf
//!  └──unregistered──────┴─────────▶ Dialling (later) ◀──────┘
//! ```
//!
//! The switch answers each button and says nothing of the whole: whether the station is observed is
//! known from media only. Who notices that none comes asks for the dialogue again.

use std::time::Duration;

use storage_core::{Extension, MonoTime};

use super::backoff::{Spread, doubling};
use super::register;

/// Between two requests to one device: faster ones are answered, and digits are lost all the same
/// (dossier 8.1).
const PACE: Duration = Duration::from_millis(200);
/// Between a feature and the first digit behind it.
const FEATURE_PACE: Duration = Duration::from_millis(500);
const RETRY_MIN: Duration = Duration::from_secs(5);
const RETRY_MAX: Duration = Duration::from_secs(300);
/// An observation that stood this long has worked: losing it is no failure of its own.
const WORKED: Duration = Duration::from_secs(60);

/// One request of the dialogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Lift the receiver, or put it down.
    Hook {
        /// Lifted.
        off: bool,
    },
    /// Press this button.
    Press(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The phantom is not registered.
    Off,
    /// So many of the dialogue's requests are answered; the next is due then.
    Dialling { done: usize, next: MonoTime },
    /// All are.
    Standing { since: MonoTime },
}

/// One phantom's observation of one station.
#[derive(Clone, Debug)]
pub(super) struct Observation {
    /// Each request, and how long to wait behind its answer.
    acts: Vec<(Act, Duration)>,
    state: State,
    failures: u32,
}

impl Observation {
    /// Of a phantom that is not registered yet. `code` is the feature's access code.
    pub fn new(code: &str, station: &Extension) -> Self {
        let digit = |digit: char| (Act::Press(register::button(digit)), PACE);
        // It may be off the hook from an earlier try.
        let hook = [false, true].map(|off| (Act::Hook { off }, PACE));
        let mut acts: Vec<_> = hook.into_iter().chain(code.chars().map(digit)).collect();
        if let Some((_, pause)) = acts.last_mut() {
            *pause = FEATURE_PACE;
        }
        acts.extend(station.as_str().chars().map(digit));
        Self { acts, state: State::Off, failures: 0 }
    }

    pub const fn is_standing(&self) -> bool {
        matches!(self.state, State::Standing { .. })
    }

    /// What is to be sent now.
    pub fn step(&self, now: MonoTime) -> Option<Act> {
        match self.state {
            State::Dialling { done, next } if next <= now => {
                self.acts.get(done).map(|(act, _)| act.clone())
            }
            _ => None,
        }
    }

    /// When `step` may have something new to say.
    pub const fn next_time(&self) -> Option<MonoTime> {
        match self.state {
            State::Dialling { next, .. } => Some(next),
            State::Off | State::Standing { .. } => None,
        }
    }

    /// The phantom is registered.
    pub fn begin(&mut self, now: MonoTime) {
        if self.state == State::Off {
            self.state = State::Dialling { done: 0, next: now };
        }
    }

    /// The phantom is not registered any more.
    pub fn reset(&mut self) {
        self.state = State::Off;
    }

    /// The request in hand was answered; `true` if it was the last.
    pub fn answered(&mut self, now: MonoTime) -> bool {
        let State::Dialling { done, .. } = self.state else { return false };
        let pause = self.acts.get(done).map_or(PACE, |(_, pause)| *pause);
        self.state = match done + 1 < self.acts.len() {
            true => State::Dialling { done: done + 1, next: now + pause },
            false => State::Standing { since: now },
        };
        self.is_standing()
    }

    /// It was refused, has ended, or nothing is heard by it: it is dialled again, later each time.
    /// `false` if that is to be done already.
    pub fn again(&mut self, now: MonoTime, spread: &mut Spread) -> bool {
        match self.state {
            State::Off => return false,
            State::Dialling { done: 0, next } if next > now => return false,
            State::Standing { since } if now.since(since) >= WORKED => self.failures = 0,
            State::Standing { .. } | State::Dialling { .. } => {}
        }
        let wait = match self.failures {
            0 => Duration::ZERO,
            failures => spread.lengthened(doubling(RETRY_MIN, RETRY_MAX, failures)),
        };
        self.failures = self.failures.saturating_add(1);
        self.state = State::Dialling { done: 0, next: now + wait };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> MonoTime {
        MonoTime::from_millis(millis)
    }

    /// Answers all that is due, 5 ms late each time, and notes what was asked for when.
    fn dial(observation: &mut Observation, mut now: MonoTime) -> Vec<(u64, Act)> {
        let mut acts = Vec::new();
        while let Some(next) = observation.next_time() {
            now = now.max(next);
            let act = observation.step(now).expect("its time has come");
            acts.push((now.as_micros() / 1000, act));
            now = now + Duration::from_millis(5);
            observation.answered(now);
        }
        acts
    }

    #[test]
    fn the_code_and_the_station_are_dialled_at_the_switchs_pace() {
        let mut observation = Observation::new("*55", &"31".into());
        assert_eq!((observation.step(at(0)), observation.next_time()), (None, None));
        observation.begin(at(0));
        let hook = |off| Act::Hook { off };
        let press = |button: &str| Act::Press(button.to_owned());
        let star = Act::Press(register::button('*'));
        let expected = [
            (0, hook(false)),
            (205, hook(true)),
            (410, star),
            (615, press("5")),
            (820, press("5")),
            (1_325, press("3")),
            (1_530, press("1")),
        ];
        assert_eq!(dial(&mut observation, at(0)), expected);
        assert!(observation.is_standing());
    }

    #[test]
    fn what_fails_is_dialled_again_at_once_and_then_ever_later() {
        let (mut observation, mut spread) =
            (Observation::new("*55", &"31".into()), Spread::default());
        observation.begin(at(0));
        dial(&mut observation, at(0));
        let mut now = at(10_000);
        for least in [0, 5, 10, 20] {
            assert!(observation.again(now, &mut spread));
            let wait = observation.next_time().unwrap().since(now).as_secs();
            assert!((least..=least + least / 4).contains(&wait), "{wait} for {least}");
            assert!(least == 0 || !observation.again(now, &mut spread), "it is to be done");
            now = observation.next_time().unwrap();
            dial(&mut observation, now);
            now = now + Duration::from_secs(2);
        }
        // One that has worked for long is dialled at once.
        now = now + Duration::from_secs(100);
        assert!(observation.again(now, &mut spread));
        assert_eq!(observation.next_time(), Some(now));
        observation.reset();
        assert_eq!(observation.step(now), None);
    }
}
