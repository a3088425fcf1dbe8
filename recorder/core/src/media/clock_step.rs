//! By how much another node's clock was ahead of ours *when it captured*, where a clock was set since. The offset that
//! is measured between two members holds now; times in a capture are from before. Who was in the call when is known
//! to both nodes from the switch, each by its own clock at that time: if what is measured would put the two an age
//! apart, what they say of these people counts instead. Nothing here looks at audio.

use std::collections::BTreeMap;

use storage_core::{Draft, WallTime};

/// Two nodes hear of one event at different moments, and one that was started in the midst finds it later: less than
/// this is no step of a clock, 30 s.
const STEP_MICROS: i64 = 30_000_000;
/// Two nodes hear of one event within so long of each other, 500 ms.
const APART_MICROS: i64 = 500_000;
/// So near to what was once measured, it is that.
const AGREED_MICROS: i64 = 2_000_000;

/// How far another node's clock was ahead of ours when it captured, microseconds: what is `measured` now, unless the
/// drafts of both say that a clock was set since. Then it is one of those `known` from before, or 0 where both agreed. Where
/// that cannot be told it is what was measured.
///
/// A node that is started in the midst of a call finds all people there at once, and later than they came. So an
/// offset that was never measured is believed only where people came one after the other; one that was needs no such
/// witness, since whoever came late would have to be late by just that.
#[must_use]
pub fn offset_then((measured, known): (i64, &[i64]), ours: &[Draft], theirs: &[Draft]) -> i64 {
    let Some(Seen { apart, one_by_one }) = seen(ours, theirs) else { return measured };
    let from = |offset: i64| apart.saturating_sub(offset).saturating_abs();
    if from(measured) < STEP_MICROS {
        return measured;
    }
    let once = known.iter().copied().chain([0]).min_by_key(|offset| from(*offset));
    match once.filter(|offset| from(*offset) < AGREED_MICROS) {
        Some(once) => once,
        None if one_by_one => apart,
        None => measured,
    }
}

/// What two nodes say of people whom both saw come.
struct Seen {
    /// By how much the other node says that they came later, microseconds.
    apart: i64,
    /// They came at different times, by both.
    one_by_one: bool,
}

/// `None` where nobody is known to both, or they do not say the same of all.
fn seen(ours: &[Draft], theirs: &[Draft]) -> Option<Seen> {
    let (ours, theirs) = (came(ours), came(theirs));
    let both = || ours.iter().filter_map(|(who, at)| Some((*at, *theirs.get(who)?)));
    let differ = |mut times: Vec<WallTime>| {
        times.sort_unstable();
        times.dedup();
        times.len() > 1
    };
    let one_by_one = differ(both().map(|(ours, _)| ours).collect())
        && differ(both().map(|(_, theirs)| theirs).collect());
    let mut apart: Vec<_> = both().map(|(ours, theirs)| theirs.micros_since(ours)).collect();
    apart.sort_unstable();
    let (least, most) = (*apart.first()?, *apart.last()?);
    let agree = most.saturating_sub(least) <= APART_MICROS;
    agree.then(|| Seen { apart: apart[apart.len() / 2], one_by_one })
}

/// When each came first.
fn came(drafts: &[Draft]) -> BTreeMap<&str, WallTime> {
    let mut came = BTreeMap::new();
    for presence in drafts.iter().flat_map(|draft| &draft.parties) {
        let at = came.entry(presence.who.as_str()).or_insert(presence.stretch.from);
        *at = presence.stretch.from.min(*at);
    }
    came
}

#[cfg(test)]
mod tests {
    use storage_core::draft::{Presence, Stretch};
    use storage_core::{NodeId, RecordingId};

    use super::*;

    const HOUR: i64 = 3_600_000_000;

    fn draft(node: u16, parties: &[(&str, i64)]) -> Draft {
        let at = WallTime::from_micros;
        let mut draft = Draft::blank(RecordingId::new(at(0), [1; 10]), NodeId(node), at(0));
        draft.parties = parties
            .iter()
            .map(|(who, from)| Presence {
                who: (*who).to_owned(),
                stretch: Stretch { from: at(*from), to: None },
                holds: Vec::new(),
            })
            .collect();
        draft
    }

    #[test]
    fn what_is_measured_holds_unless_both_saw_the_same_people_an_age_apart() {
        let ours = [draft(1, &[("3101", 5_000_000), ("T1#1", 1_000_000)])];
        let came =
            |shift: i64| [draft(2, &[("3101", 5_040_000 + shift), ("T1#1", 1_010_000 + shift)])];
        for (measured, theirs, expected) in [
            // No clock was set.
            (0, came(0), 0),
            (900, came(0), 900),
            (HOUR, came(HOUR), HOUR),
            // One was set since: they agreed before, or nearly.
            (HOUR, came(0), 0),
            (-HOUR, came(0), 0),
            // It was wrong, and was put right.
            (0, came(HOUR), HOUR + 40_000),
            // A late word is no step.
            (0, came(20_000_000), 0),
        ] {
            assert_eq!(
                offset_then((measured, &[]), &ours, &theirs),
                expected,
                "{measured} {theirs:?}"
            );
        }
    }

    #[test]
    fn one_who_found_the_call_in_the_midst_is_no_witness() {
        let ours = [draft(1, &[("3101", 5_000_000), ("T1#1", 1_000_000)])];
        let found = [draft(2, &[("3101", 300_000_000), ("T1#1", 300_000_000)])];
        assert_eq!(offset_then((7, &[]), &ours, &found), 7);
        assert_eq!(offset_then((7, &[]), &found, &ours), 7);
        let one = [draft(2, &[("3101", 300_000_000)])];
        assert_eq!(offset_then((7, &[]), &ours, &one), 7);
        // That they agreed before needs no more than one.
        let together = |node, at| [draft(node, &[("3101", at), ("T1#1", at)])];
        let (ours_then, theirs_then) = (together(1, 5_000_000), together(2, 5_100_000));
        assert_eq!(offset_then((HOUR, &[]), &ours_then, &theirs_then), 0);
        assert_eq!(offset_then((0, &[]), &ours_then, &together(2, HOUR)), 0);
        let was = (0, &[70, HOUR - 4_900_000, 0][..]);
        assert_eq!(offset_then(was, &ours_then, &together(2, HOUR)), HOUR - 4_900_000);
        // They do not say the same.
        let other = [draft(2, &[("3101", 300_000_000), ("T1#1", 297_000_000)])];
        assert_eq!(offset_then((7, &[]), &ours, &other), 7);
        assert_eq!(offset_then((7, &[]), &[], &[]), 7);
    }

    /// A step in the midst of what one node captured: the earliest counts for both.
    #[test]
    fn of_several_drafts_the_first_coming_counts() {
        let ours = [
            draft(1, &[("3101", 5_000_000), ("T1#1", 1_000_000)]),
            draft(1, &[("3101", 9_000_000), ("T1#1", 9_000_000)]),
        ];
        let theirs = [draft(2, &[("3101", 5_000_000), ("T1#1", 1_000_000)])];
        assert_eq!(offset_then((HOUR, &[]), &ours, &theirs), 0);
    }
}
