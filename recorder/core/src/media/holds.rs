//! When a call is on hold as a whole, so that nobody talks to anybody in it and there is only music: at least one
//! party holds it, and fewer than two are left who do not. In a conference of which one holds, the others talk.
//! Recorders are no parties. What follows from that is decided in [`super::left_out`].
//!
//! The switch tells of a hold after it began, so nothing that was said before is in it. It tells of its end after
//! the talk goes on, so the last moment before that word does not count. Of a call of which nobody saw the end it counts
//! up to the last packet only.

use std::time::Duration;

use storage_core::draft::{Presence, Stretch};
use storage_core::record::GapCause;
use storage_core::{Draft, WallTime};

use super::left_out::LeftOut;

/// The word that talk goes on comes at most so much later than the talk.
const WORD: Duration = Duration::from_millis(250);

/// Who is there, and who of them holds the call.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    there: i64,
    holding: i64,
}

impl State {
    const fn talk(self) -> bool {
        self.there - self.holding >= 2
    }

    const fn is_held(self) -> bool {
        self.holding > 0 && !self.talk()
    }
}

/// The stretches in which the call was on hold, in order. `last`: when the last packet was received.
pub(crate) fn held(draft: &Draft, last: WallTime) -> Vec<LeftOut> {
    let end = draft.ended.filter(|_| !draft.cutshort).unwrap_or(last);
    let mut changes: Vec<(WallTime, State)> =
        draft.parties.iter().flat_map(|one| changes(one, end)).collect();
    changes.sort_by_key(|(at, _)| *at);
    let mut state = State::default();
    let mut held: Vec<LeftOut> = Vec::new();
    let mut open: Option<WallTime> = None;
    for (number, (at, change)) in changes.iter().enumerate() {
        state.there += change.there;
        state.holding += change.holding;
        if changes.get(number + 1).is_some_and(|(next, _)| next == at) {
            continue;
        }
        match (open, state.is_held()) {
            (None, true) => open = Some(*at),
            (Some(from), false) => {
                let to = if state.talk() { *at - WORD } else { *at };
                let lasts = number + 1 == changes.len();
                held.push(LeftOut { from, to, cause: GapCause::Hold, begins: None, lasts });
                open = None;
            }
            _ => {}
        }
    }
    held.retain(|one| one.from < one.to);
    held
}

/// When somebody comes, holds, takes the call back, and goes. All is over at `end`.
fn changes(presence: &Presence, end: WallTime) -> Vec<(WallTime, State)> {
    let gone = presence.stretch.to.unwrap_or(end).min(end);
    let came = presence.stretch.from;
    if came >= gone {
        return Vec::new();
    }
    let mut changes = vec![(came, (1, 0)), (gone, (-1, 0))];
    let mut behind = came;
    let mut holds: Vec<&Stretch> = presence.holds.iter().collect();
    holds.sort_by_key(|hold| hold.from);
    for hold in holds {
        let (from, to) = (hold.from.max(behind), hold.to.unwrap_or(gone).min(gone));
        if from < to {
            changes.extend([(from, (0, 1)), (to, (0, -1))]);
            behind = to;
        }
    }
    changes.into_iter().map(|(at, (there, holding))| (at, State { there, holding })).collect()
}

#[cfg(test)]
mod tests {
    use storage_core::{NodeId, RecordingId};

    use super::*;

    fn at(seconds: i64) -> WallTime {
        WallTime::from_millis(1_700_000_000_000 + seconds * 1000)
    }

    type Times = (i64, Option<i64>);
    type Row<'a> = (Times, &'a [Times]);
    /// From, to, and whether it lasts to the end.
    type Told = (i64, i64, bool);
    type Case<'a> = (&'a str, &'a [Row<'a>], &'a [Told]);

    fn draft(parties: &[Row<'_>], ended: Option<i64>) -> Draft {
        let stretch = |(from, to): &Times| Stretch { from: at(*from), to: to.map(at) };
        let party = |(there, holds): &Row<'_>| Presence {
            who: "somebody".to_owned(),
            stretch: stretch(there),
            holds: holds.iter().map(stretch).collect(),
        };
        let id = RecordingId::new(at(0), [7; 10]);
        Draft {
            parties: parties.iter().map(party).collect(),
            ended: ended.map(at),
            ..Draft::blank(id, NodeId(1), at(0))
        }
    }

    /// In milliseconds. The last packet came after 60 s.
    fn told(draft: &Draft) -> Vec<Told> {
        let ms = |wall: WallTime| wall.micros_since(at(0)) / 1000;
        held(draft, at(60)).iter().map(|one| (ms(one.from), ms(one.to), one.lasts)).collect()
    }

    #[test]
    fn a_call_is_on_hold_where_somebody_holds_it_and_nobody_talks_to_anybody() {
        let all = (0, Some(90));
        let cases: [Case<'_>; 11] = [
            ("no hold", &[(all, &[]), (all, &[])], &[]),
            ("one of two", &[(all, &[(10, Some(20))]), (all, &[])], &[(10_000, 19_750, false)]),
            ("one of three", &[(all, &[(10, Some(20))]), (all, &[]), (all, &[])], &[]),
            (
                "two of three",
                &[(all, &[(10, Some(20))]), (all, &[(15, Some(30))]), (all, &[])],
                &[(15_000, 19_750, false)],
            ),
            (
                "both, one after the other",
                &[(all, &[(10, Some(20))]), (all, &[(15, Some(30))])],
                &[(10_000, 29_750, false)],
            ),
            (
                "somebody comes into a held call",
                &[(all, &[(10, Some(30))]), (all, &[]), ((20, Some(90)), &[])],
                &[(10_000, 19_750, false)],
            ),
            (
                "the holder leaves",
                &[((0, Some(20)), &[(10, None)]), (all, &[])],
                &[(10_000, 20_000, false)],
            ),
            ("held to the end", &[(all, &[(80, None)]), (all, &[])], &[(80_000, 90_000, true)]),
            (
                "the caller gives up",
                &[(all, &[(70, Some(90))]), ((0, Some(85)), &[])],
                &[(70_000, 90_000, true)],
            ),
            ("a short one", &[(all, &[(10, Some(11))]), (all, &[])], &[(10_000, 10_750, false)]),
            (
                "one told twice",
                &[(all, &[(10, Some(20)), (12, Some(15))]), (all, &[])],
                &[(10_000, 19_750, false)],
            ),
        ];
        for (what, parties, expected) in cases {
            assert_eq!(told(&draft(parties, Some(90))), expected, "{what}");
        }
    }

    #[test]
    fn of_a_call_whose_end_nobody_saw_a_hold_lasts_to_the_last_packet() {
        let parties: [Row<'_>; 2] = [((0, None), &[(10, None)]), ((0, None), &[])];
        let expected = [(10_000, 60_000, true)];
        assert_eq!(told(&draft(&parties, None)), expected);
        let returned = Draft { cutshort: true, ..draft(&parties, Some(3600)) };
        assert_eq!(told(&returned), expected);
        assert_eq!(told(&draft(&parties, Some(90))), [(10_000, 90_000, true)]);
    }

    #[test]
    fn a_hold_shorter_than_the_word_of_its_end_takes_is_none() {
        let mut short = draft(&[((0, None), &[(10, Some(10))]), ((0, None), &[])], Some(90));
        short.parties[0].holds[0].to = Some(at(10) + Duration::from_millis(250));
        assert_eq!(told(&short), []);
    }
}
