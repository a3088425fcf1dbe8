//! What went wrong at the database, and what is done about it: how long until the next attempt, with how many rows,
//! and what people are told. Pure; that something went wrong is told by `connection`.

use std::fmt;
use std::time::Duration;

/// Longest wait between two attempts.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// First wait.
const WAIT_MIN: Duration = Duration::from_millis(500);
/// Rows told at once.
const ROWS_MAX: usize = 500;

/// What kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It cannot be reached, is starting or stopping, or takes nothing now.
    Away,
    /// It answers, and does not let this node do its work: login, rights, missing database, another version.
    Refused,
    /// It does not take this very data.
    Data,
    /// It took too long.
    Slow,
    /// Two have written at once: the same again.
    Again,
}

/// Something that went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub kind: Kind,
    /// What the database, or the way to it, says.
    pub why: String,
}

impl Trouble {
    pub fn away(why: impl Into<String>) -> Self {
        Self { kind: Kind::Away, why: why.into() }
    }

    pub fn refused(why: impl Into<String>) -> Self {
        Self { kind: Kind::Refused, why: why.into() }
    }

    /// That of an error with this SQLSTATE (PostgreSQL's appendix A); none where the connection failed.
    pub fn of(sqlstate: Option<&str>, why: String) -> Self {
        let Some(state) = sqlstate else { return Self::away(why) };
        let kind = match (&state[..state.len().min(2)], state) {
            (_, "57014") => Kind::Slow,
            ("40", _) | (_, "55P03") => Kind::Again,
            // Constraints, checks of views, triggers and functions that somebody has added count, too.
            ("09" | "21" | "22" | "23" | "27" | "38" | "39" | "44" | "54" | "P0", _) => Kind::Data,
            ("28" | "3D" | "3F" | "42" | "0A", _) => Kind::Refused,
            _ => Kind::Away,
        };
        // What is said of data may hold a part of it.
        let why = if kind == Kind::Data { format!("SQLSTATE {state}") } else { why };
        Self { kind, why }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// Whether people are told, after so many failures in a row: a connection that breaks is made anew, and what takes too
/// long is told in smaller parts.
pub(super) const fn is_worth_an_alarm(kind: Kind, failures: u32) -> bool {
    match kind {
        Kind::Refused => true,
        Kind::Away => failures >= 2,
        Kind::Data | Kind::Slow | Kind::Again => failures >= 4,
    }
}

/// How often, and how much at once.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    wait: Duration,
    rows: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self { wait: WAIT_MIN, rows: ROWS_MAX }
    }
}

impl Pace {
    /// Rows to be told next.
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// It went well.
    pub fn done(&mut self) {
        self.wait = WAIT_MIN;
        self.rows = (self.rows * 2).min(ROWS_MAX);
    }

    /// It did not: how long to wait. `share` (0 to 1) spreads the nodes, which all saw the database go at the same time.
    pub fn failed(&mut self, kind: Kind, share: f64) -> Duration {
        if kind == Kind::Slow {
            self.rows = (self.rows / 4).max(1);
        }
        let wait = self.wait;
        self.wait = (self.wait * 2).min(WAIT_MAX);
        wait.mul_f64(0.75 + 0.5 * share.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_follows_from_the_sqlstate() {
        for (state, kind) in [
            (None, Kind::Away),
            (Some("57P01"), Kind::Away),
            (Some("57P03"), Kind::Away),
            (Some("53300"), Kind::Away),
            (Some("25006"), Kind::Away),
            (Some("57014"), Kind::Slow),
            (Some("40P01"), Kind::Again),
            (Some("28P01"), Kind::Refused),
            (Some("3D000"), Kind::Refused),
            (Some("42501"), Kind::Refused),
            (Some("22P05"), Kind::Data),
            (Some("54000"), Kind::Data),
            (Some("23514"), Kind::Data),
            (Some("44000"), Kind::Data),
            (Some("P0001"), Kind::Data),
        ] {
            assert_eq!(Trouble::of(state, String::new()).kind, kind, "{state:?}");
        }
        let told = Trouble::of(Some("22P02"), "invalid input: \"85291234567\"".to_owned());
        assert_eq!(told.to_string(), "SQLSTATE 22P02", "no number gets into a log");
    }

    #[test]
    fn waits_grow_to_half_a_minute_and_begin_anew() {
        let mut pace = Pace::default();
        let waits: Vec<_> = (0..9).map(|_| pace.failed(Kind::Away, 0.5).as_millis()).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
        assert!(pace.failed(Kind::Away, 7.0) <= Duration::from_millis(37_500));
        pace.done();
        assert_eq!(pace.failed(Kind::Away, 0.5), WAIT_MIN);
    }

    #[test]
    fn what_takes_too_long_is_told_in_smaller_parts_until_it_goes_again() {
        let mut pace = Pace::default();
        for _ in 0..9 {
            pace.failed(Kind::Slow, 0.0);
        }
        assert_eq!(pace.rows(), 1);
        for _ in 0..9 {
            pace.done();
        }
        assert_eq!(pace.rows(), ROWS_MAX);
    }
}
