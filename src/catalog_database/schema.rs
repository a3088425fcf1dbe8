//! What the tables look like, as numbered steps from nothing to now: which steps a database still needs, and
//! whether this program may write into it. That a step is applied once, by one node, is `connection`'s matter.

/// The steps, in order. One that was released is never changed: another is added.
pub(super) const STEPS: &[&str] = &[
    include_str!("schema/0001_recordings.sql"),
    include_str!("schema/0002_scores.sql"),
    include_str!("schema/0003_holds.sql"),
];

/// The version that this program reads and writes.
pub(super) const CURRENT: i32 = STEPS.len() as i32;

/// What is to be done with a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is as it should be.
    Current,
    /// The steps from this one on are missing (0: there is nothing yet).
    Older(usize),
    /// A later program has changed it: hands off.
    Newer,
}

/// How a database stands whose version is this; `None` where there are no tables of ours.
pub(super) fn standing(version: Option<i32>) -> Standing {
    match version.unwrap_or(0) {
        CURRENT => Standing::Current,
        later if later > CURRENT => Standing::Newer,
        earlier => Standing::Older(usize::try_from(earlier).unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_database_gets_what_it_lacks_and_a_newer_one_is_left_alone() {
        assert_eq!(standing(None), Standing::Older(0));
        assert_eq!(standing(Some(1)), Standing::Older(1));
        assert_eq!(standing(Some(CURRENT)), Standing::Current);
        assert_eq!(standing(Some(CURRENT + 1)), Standing::Newer);
        // Nobody writes such a number; it is not taken for a later one.
        assert_eq!(standing(Some(-1)), Standing::Older(0));
    }
}
