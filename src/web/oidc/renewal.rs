//! How long somebody whom a provider has vouched for stays signed in without its word, and what it may say. Pure.
//!
//! The provider is asked again and again whether it still vouches for him. A refusal ends the session at once; while it
//! says nothing (it is away, or has given nothing to ask with), the session lasts [`PATIENCE`] times as long as
//! there is between two questions, counted from its last word.

use std::time::Duration;

use storage_core::MonoTime;

/// Questions without an answer before the session ends.
const PATIENCE: u32 = 12;
/// Why a provider gives no new token (RFC 6749, 5.2, and OpenID Connect Core 1.0, 3.1.2.6): the grant is over, or the
/// person is to come himself. Anything else is said of us, or of the provider, and not of him.
const REFUSALS: [&str; 5] = [
    "invalid_grant",
    "interaction_required",
    "login_required",
    "consent_required",
    "account_selection_required",
];

/// What a provider said of somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It still vouches for him.
    Yes,
    /// It does not, or not for the same.
    No,
    /// Nothing that can be used.
    Nothing,
}

/// Whether a provider's error is about the person.
pub(super) fn is_refusal(error: &str) -> bool {
    REFUSALS.contains(&error)
}

/// So long a session lasts without a word of the provider that is asked this often.
pub(super) fn unconfirmed(every: Duration) -> Duration {
    every * PATIENCE
}

/// When a session was asked about, and when it was last confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Renewal {
    asked: MonoTime,
    confirmed: MonoTime,
}

impl Renewal {
    /// Of somebody who signs in now.
    pub(super) const fn new(now: MonoTime) -> Self {
        Self { asked: now, confirmed: now }
    }

    /// Whether the provider is to be asked.
    pub(super) fn is_due(&self, now: MonoTime, every: Duration) -> bool {
        now.since(self.asked) >= every
    }

    /// It was asked now and has said this: whether the session goes on.
    pub(super) fn goes_on(&mut self, now: MonoTime, every: Duration, said: Said) -> bool {
        self.asked = now;
        if said == Said::Yes {
            self.confirmed = now;
        }
        said != Said::No && now.since(self.confirmed) < unconfirmed(every)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(300);

    fn at(minutes: u64) -> MonoTime {
        MonoTime::from_millis(minutes * 60_000)
    }

    #[test]
    fn it_is_asked_at_intervals_and_a_refusal_ends_it() {
        let mut renewal = Renewal::new(at(0));
        assert!(!renewal.is_due(at(4), EVERY) && renewal.is_due(at(5), EVERY));
        assert!(renewal.goes_on(at(5), EVERY, Said::Yes));
        assert!(!renewal.is_due(at(9), EVERY) && renewal.is_due(at(10), EVERY));
        assert!(!renewal.goes_on(at(10), EVERY, Said::No));
    }

    #[test]
    fn a_provider_that_is_away_is_waited_for_so_long_and_no_longer() {
        let mut renewal = Renewal::new(at(0));
        for minutes in (5..60).step_by(5) {
            assert!(renewal.goes_on(at(minutes), EVERY, Said::Nothing), "{minutes}");
        }
        let mut back = renewal;
        assert!(!renewal.goes_on(at(60), EVERY, Said::Nothing));
        assert!(back.goes_on(at(59), EVERY, Said::Yes));
        assert!(back.goes_on(at(118), EVERY, Said::Nothing), "counted from its last word");
        assert!(!back.goes_on(at(119), EVERY, Said::Nothing));
        assert_eq!(unconfirmed(EVERY), Duration::from_secs(3600));
    }

    #[test]
    fn only_what_is_said_of_the_person_is_a_refusal() {
        assert!(is_refusal("invalid_grant") && is_refusal("interaction_required"));
        for ours in ["invalid_client", "invalid_request", "temporarily_unavailable", "", "x"] {
            assert!(!is_refusal(ours), "{ours}");
        }
    }
}
