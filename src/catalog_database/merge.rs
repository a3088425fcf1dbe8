//! What becomes of a row when a node tells what it lists: the later revision counts, what people wrote is put
//! together as nodes do among themselves ([`storage_core::marks`]), and what was deleted stays so unless it is held.
//! So rows may be told again, by several nodes and in any order, and the outcome is the same.

use storage_core::marks::Marks;
use storage_core::{NodeId, Recording, RecordingId, WallTime};

/// Which node of which site tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Teller {
    /// `al_site`.
    pub site: String,
    /// `al_nodeid`.
    pub node: NodeId,
}

/// Who deleted a recording, when and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Deleted {
    pub at: WallTime,
    pub by: String,
    pub reason: String,
}

/// What there is to be said of a recording.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum State {
    Listed(Box<Recording>),
    Deleted(Deleted),
}

/// What a node tells.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Told {
    pub id: RecordingId,
    pub state: State,
}

/// A row as it was read.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Known {
    /// Which change of the row this is.
    pub change: i64,
    /// Who wrote it.
    pub teller: Teller,
    /// What it says.
    pub holds: Holds,
}

/// What a row says that is there.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Holds {
    Listed(Box<Recording>),
    Deleted,
    /// Something that is no record.
    Spoilt,
}

/// A row as it is to be written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub id: RecordingId,
    /// One more than that of the row that was read; else somebody else has written meanwhile.
    pub change: i64,
    pub state: State,
}

/// The row that is to be written; `None` if it stays as it is.
pub(super) fn merged(told: &Told, known: Option<&Known>, teller: &Teller) -> Option<Entry> {
    let id = told.id;
    let Some(known) = known else {
        return Some(Entry { id, change: 1, state: told.state.clone() });
    };
    let state = match (&told.state, &known.holds) {
        (State::Listed(mine), Holds::Listed(theirs)) => {
            let recording = later(mine, theirs);
            let same = recording == **theirs && known.teller.site == teller.site;
            (!same).then(|| State::Listed(Box::new(recording)))
        }
        // Whoever holds a recording keeps it, though another node has deleted it.
        (State::Listed(mine), Holds::Deleted) => mine.hold.then(|| told.state.clone()),
        // Who deletes has not heard of the hold, perhaps. Who told of it has, and deletes once it is released.
        (State::Deleted(_), Holds::Listed(theirs)) => {
            let kept = theirs.hold && known.teller != *teller;
            (!kept).then(|| told.state.clone())
        }
        (State::Deleted(_), Holds::Deleted) => None,
        (_, Holds::Spoilt) => Some(told.state.clone()),
    };
    state.map(|state| Entry { id, change: known.change.saturating_add(1), state })
}

/// The later revision, with all marks of both.
fn later(mine: &Recording, theirs: &Recording) -> Recording {
    let (base, other) =
        if mine.revision > theirs.revision { (mine, theirs) } else { (theirs, mine) };
    let mut recording = base.clone();
    Marks::of(other).merge_into(&mut recording);
    recording
}

#[cfg(test)]
mod tests {
    use storage_core::marks::Marking;

    use super::*;
    use crate::catalog_database::row::tests::recording;

    fn teller(node: u16) -> Teller {
        Teller { site: "north".to_owned(), node: NodeId(node) }
    }

    fn listed(recording: &Recording) -> Told {
        let state = State::Listed(Box::new(recording.clone()));
        Told { id: recording.recordingid, state }
    }

    fn deleted(recording: &Recording) -> Told {
        let at = WallTime::from_millis(5);
        let state = State::Deleted(Deleted { at, by: "ada".to_owned(), reason: String::new() });
        Told { id: recording.recordingid, state }
    }

    fn tagged(recording: &Recording, tag: &str, at: i64, node: u16) -> Recording {
        let mut recording = recording.clone();
        let marking = Marking::new(vec![tag.to_owned()], vec![], None).unwrap();
        marking.apply(&mut recording, "qa", WallTime::from_millis(at), NodeId(node)).unwrap();
        recording
    }

    /// Rows as they are after these were told in this order, each by its node.
    fn after(told: &[(Told, u16)]) -> Option<Known> {
        told.iter().fold(None, |known, (told, node)| {
            match merged(told, known.as_ref(), &teller(*node)) {
                None => known,
                Some(Entry { change, state, .. }) => Some(Known {
                    change,
                    teller: teller(*node),
                    holds: match state {
                        State::Listed(recording) => Holds::Listed(recording),
                        State::Deleted(_) => Holds::Deleted,
                    },
                }),
            }
        })
    }

    #[test]
    fn whatever_order_two_nodes_tell_in_the_row_has_all() {
        let first = recording(1);
        let second = Recording { revision: 2, durationms: 9, ..first.clone() };
        let (one, two) = (tagged(&first, "one", 10, 1), tagged(&second, "two", 20, 2));
        let mut rows = Vec::new();
        for order in [[0, 1, 0], [1, 0, 1], [0, 0, 1], [1, 1, 0]] {
            let told = [(listed(&one), 1), (listed(&two), 2)];
            let told: Vec<_> = order.iter().map(|at| told[*at].clone()).collect();
            let Holds::Listed(row) = after(&told).unwrap().holds else { panic!("it is listed") };
            rows.push(row);
        }
        assert!(rows.iter().all(|row| row == &rows[0]), "{rows:?}");
        assert_eq!((rows[0].revision, rows[0].durationms), (2, 9));
        assert_eq!(rows[0].tags, ["one", "two"]);
    }

    #[test]
    fn what_is_told_again_is_not_written_again() {
        let one = tagged(&recording(1), "one", 10, 1);
        let known = after(&[(listed(&one), 1)]);
        assert_eq!(merged(&listed(&one), known.as_ref(), &teller(2)), None);
        // An older state of it neither.
        assert_eq!(merged(&listed(&recording(1)), known.as_ref(), &teller(2)), None);
        let elsewhere = Teller { site: "south".to_owned(), node: NodeId(1) };
        assert!(
            merged(&listed(&one), known.as_ref(), &elsewhere).is_some(),
            "the site was renamed"
        );
    }

    #[test]
    fn what_was_deleted_stays_so_unless_it_is_held() {
        let free = recording(1);
        let held = Recording { hold: true, ..free.clone() };
        let gone = |told: &[(Told, u16)]| after(told).unwrap().holds == Holds::Deleted;
        assert!(gone(&[(deleted(&free), 1)]), "also where nobody told of it before");
        assert!(gone(&[(listed(&free), 1), (deleted(&free), 1), (listed(&free), 2)]));
        assert!(!gone(&[(listed(&held), 2), (deleted(&free), 1)]));
        assert!(!gone(&[(deleted(&free), 1), (listed(&held), 2), (deleted(&free), 1)]));
        assert!(gone(&[(listed(&held), 2), (deleted(&free), 1), (deleted(&free), 2)]), "released");
    }
}
