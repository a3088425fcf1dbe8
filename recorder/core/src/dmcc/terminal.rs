//! The registration of one phantom: whether it stands, when it may be asked for again, and when it
//! should be checked. It knows no wire; `devices` carries out what it decides.
//!
//! ```text
//! Wanted ──asked──▶ Asked ──registered──▶ Standing ──lost──▶ Wanted (later)
//!                     ├──failed──▶ Wanted (later)
//!                     └──refused──▶ Refused ──forgive──▶ Wanted
//! ```

use std::time::Duration;

use storage_core::MonoTime;

use super::backoff::{Spread, doubling};

/// Never sooner again for one device (dossier 8.4).
const RETRY_MIN: Duration = Duration::from_secs(30);
const RETRY_MAX: Duration = Duration::from_secs(300);
/// A storm of unregistrations comes back over this time, and then through the governor.
const STORM_SPREAD: Duration = Duration::from_secs(5);
/// A registration that stood this long has worked: losing it is no failure of its own.
const WORKED: Duration = Duration::from_secs(60);
/// A phantom that was busied out may be lost without an event (dossier 8.3).
const CHECK_EVERY: Duration = Duration::from_secs(300);
/// The state was on its way from one to the other when asked.
const CHECK_AGAIN: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TerminalState {
    /// Not registered.
    Wanted,
    /// A request is open, or was when the connection broke.
    Asked,
    /// Registered.
    Standing {
        /// Since when.
        since: MonoTime,
    },
    /// Wrong security code: another try could lock the station on the switch.
    Refused,
}

/// What a terminal wants to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TerminalStep {
    Check,
    Register,
}

#[derive(Clone, Debug)]
pub(super) struct Terminal {
    state: TerminalState,
    not_before: MonoTime,
    last_attempt: Option<MonoTime>,
    failures: u32,
    check_at: Option<MonoTime>,
}

impl Terminal {
    pub const fn new() -> Self {
        Self {
            state: TerminalState::Wanted,
            not_before: MonoTime::from_micros(0),
            last_attempt: None,
            failures: 0,
            check_at: None,
        }
    }

    pub const fn is_standing(&self) -> bool {
        matches!(self.state, TerminalState::Standing { .. })
    }

    pub fn step(&self, now: MonoTime) -> Option<TerminalStep> {
        let due = |at: &MonoTime| *at <= now;
        match self.state {
            TerminalState::Refused => None,
            _ if self.check_at.as_ref().is_some_and(due) => Some(TerminalStep::Check),
            TerminalState::Wanted if due(&self.not_before) => Some(TerminalStep::Register),
            _ => None,
        }
    }

    /// When `step` may have something new to say.
    pub fn next_time(&self) -> Option<MonoTime> {
        match self.state {
            TerminalState::Refused => None,
            TerminalState::Wanted => {
                Some(self.check_at.map_or(self.not_before, |check| check.min(self.not_before)))
            }
            TerminalState::Asked | TerminalState::Standing { .. } => self.check_at,
        }
    }

    pub fn asked(&mut self, now: MonoTime) {
        self.state = TerminalState::Asked;
        self.last_attempt = Some(now);
    }

    /// Registered, by an answer or by what a check has found; `true` if that is new.
    pub fn registered(&mut self, now: MonoTime, spread: &mut Spread) -> bool {
        let new = !self.is_standing();
        if new {
            self.state = TerminalState::Standing { since: now };
        }
        self.check_at = Some(now + spread.lengthened(CHECK_EVERY));
        new
    }

    /// The request was refused for a reason that may pass.
    pub fn failed(&mut self, now: MonoTime, spread: &mut Spread) {
        self.failures = self.failures.saturating_add(1);
        self.state = TerminalState::Wanted;
        self.check_at = None;
        self.not_before = now + spread.lengthened(doubling(RETRY_MIN, RETRY_MAX, self.failures));
    }

    /// Somebody else has the place that was asked for, and another is asked for at once.
    pub fn passed_over(&mut self) {
        self.state = TerminalState::Wanted;
        self.check_at = None;
    }

    /// No answer came: it may be registered after all, so that is asked before the next try.
    pub fn unanswered(&mut self, now: MonoTime, spread: &mut Spread) {
        self.failed(now, spread);
        self.check_at = Some(self.not_before);
    }

    pub fn refused(&mut self) {
        self.state = TerminalState::Refused;
        self.check_at = None;
    }

    /// The registration has ended, or a check found none; `true` if it stood until now.
    pub fn lost(&mut self, now: MonoTime, spread: &mut Spread) -> bool {
        self.check_at = None;
        match self.state {
            TerminalState::Refused | TerminalState::Wanted => return false,
            TerminalState::Standing { since } if now.since(since) >= WORKED => self.failures = 0,
            TerminalState::Standing { .. } | TerminalState::Asked => {
                self.failures = self.failures.saturating_add(1);
            }
        }
        let stood = self.is_standing();
        self.state = TerminalState::Wanted;
        let gap = doubling(RETRY_MIN, RETRY_MAX, self.failures);
        let soonest = self.last_attempt.map_or(now, |attempt| attempt + gap);
        self.not_before = soonest.max(now) + spread.within(STORM_SPREAD);
        stood
    }

    /// Whether it stands is in doubt.
    pub fn check(&mut self, now: MonoTime) {
        if matches!(self.state, TerminalState::Standing { .. } | TerminalState::Asked) {
            self.check_at = Some(now);
        }
    }

    /// The check gave no clear answer.
    pub fn check_later(&mut self, now: MonoTime, spread: &mut Spread) {
        self.check_at = Some(now + spread.lengthened(CHECK_AGAIN));
    }

    /// The check was refused or not answered: what is believed stays, what is in doubt is done
    /// over.
    pub fn check_failed(&mut self, now: MonoTime, spread: &mut Spread) {
        match self.state {
            TerminalState::Standing { .. } => {
                self.check_at = Some(now + spread.lengthened(CHECK_EVERY));
            }
            TerminalState::Asked => self.failed(now, spread),
            TerminalState::Wanted | TerminalState::Refused => self.check_at = None,
        }
    }

    /// A new session owns no registrations; `true` if there was one. A phantom whose last try did
    /// not fail may be registered again at once.
    pub fn forget(&mut self) -> bool {
        let stood = self.is_standing();
        if self.state != TerminalState::Refused {
            self.state = TerminalState::Wanted;
        }
        self.check_at = None;
        stood
    }

    /// The configuration was read again: what was refused may be tried, and at once.
    pub fn forgive(&mut self) {
        if self.state == TerminalState::Refused {
            *self = Self::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> MonoTime {
        MonoTime::from_millis(seconds * 1000)
    }

    fn seconds_until_retry(terminal: &Terminal, now: MonoTime) -> u64 {
        terminal.next_time().unwrap().since(now).as_secs()
    }

    #[test]
    fn failures_are_retried_no_faster_than_30_s_and_no_slower_than_some_5_min() {
        let (mut terminal, mut spread) = (Terminal::new(), Spread::default());
        let mut now = at(1);
        for least in [30, 60, 120, 240, 300, 300] {
            assert_eq!(terminal.step(now), Some(TerminalStep::Register));
            terminal.asked(now);
            terminal.failed(now, &mut spread);
            let delay = seconds_until_retry(&terminal, now);
            assert!((least..=least + least / 4).contains(&delay), "{delay} for {least}");
            assert_eq!(terminal.step(now), None);
            now = terminal.next_time().unwrap();
        }
    }

    #[test]
    fn a_registration_that_has_worked_comes_back_within_seconds() {
        let (mut terminal, mut spread) = (Terminal::new(), Spread::default());
        terminal.asked(at(0));
        assert!(terminal.registered(at(1), &mut spread));
        assert!(terminal.lost(at(100), &mut spread));
        assert!(seconds_until_retry(&terminal, at(100)) <= 5);
        assert!(!terminal.lost(at(100), &mut spread));
    }

    #[test]
    fn a_registration_that_flaps_is_slowed_down() {
        let (mut terminal, mut spread) = (Terminal::new(), Spread::default());
        let mut now = at(0);
        for least in [30, 60, 120, 240, 300] {
            terminal.asked(now);
            terminal.registered(now, &mut spread);
            terminal.lost(now + Duration::from_secs(1), &mut spread);
            let next = terminal.next_time().unwrap();
            assert!(next.since(now).as_secs() >= least);
            now = next;
        }
    }

    #[test]
    fn an_unanswered_registration_is_looked_at_before_the_next_try() {
        let (mut terminal, mut spread) = (Terminal::new(), Spread::default());
        terminal.asked(at(0));
        terminal.unanswered(at(60), &mut spread);
        let next = terminal.next_time().unwrap();
        assert_eq!(terminal.step(next), Some(TerminalStep::Check));
        assert!(terminal.registered(next, &mut spread));
    }

    #[test]
    fn a_refused_terminal_does_nothing_until_it_is_forgiven() {
        let (mut terminal, mut spread) = (Terminal::new(), Spread::default());
        terminal.asked(at(0));
        terminal.refused();
        terminal.forget();
        terminal.check(at(1));
        assert!(!terminal.lost(at(1), &mut spread));
        assert_eq!((terminal.step(at(9999)), terminal.next_time()), (None, None));
        terminal.forgive();
        assert_eq!(terminal.step(at(9999)), Some(TerminalStep::Register));
    }
}
