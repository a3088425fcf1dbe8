//! Copies against a model: whatever happens in whatever order, each file that should lie here comes here.

use proptest::prelude::*;
use storage_core::WallTime;

use super::*;

const ME: NodeId = NodeId(2);

fn id(number: u16) -> RecordingId {
    RecordingId::new(WallTime::from_millis(1_700_000_000_000 + i64::from(number)), [7; 10])
}

fn at(seconds: u64) -> MonoTime {
    MonoTime::from_micros(seconds * 1_000_000)
}

fn nodes(numbers: &[u16]) -> BTreeSet<NodeId> {
    numbers.iter().copied().map(NodeId).collect()
}

fn listed(number: u16, owner: u16) -> Listed {
    let archived = number.is_multiple_of(2);
    Listed { recording: id(number), owner: NodeId(owner), revision: 1, archived }
}

/// Node 2 of the recorders 1 and 2, which are both there.
fn of_two() -> Copies {
    let mut copies = Copies::new(ME, true);
    assert!(copies.regrouped(at(0), nodes(&[1, 2]), nodes(&[1, 2])));
    copies
}

#[test]
fn two_recorders_have_each_file() {
    // Recorders, owner, who is to have it.
    for (recorders, owner, kept_by) in [
        (&[1, 2][..], 1, &[1, 2][..]),
        (&[1, 2], 2, &[1, 2]),
        (&[1, 2, 5], 2, &[2, 5]),
        (&[1, 2, 5], 5, &[1, 5]),
        // 1 was replaced by 4: what it owned lies on two again.
        (&[2, 4], 1, &[2, 4]),
        (&[2, 4], 3, &[2, 4]),
        (&[2, 4, 5], 1, &[2, 4]),
        (&[2, 4, 5], 9, &[2, 4]),
        (&[1], 1, &[1]),
        (&[], 1, &[]),
    ] {
        let recorders = nodes(recorders);
        for me in 1..10 {
            let has = belongs(NodeId(me), true, &recorders, NodeId(owner));
            assert_eq!(has, kept_by.contains(&me), "{me} of {recorders:?}, owned by {owner}");
            let own = belongs(NodeId(me), false, &recorders, NodeId(owner));
            assert_eq!(own, me == owner && has, "without al_mirror: {me}, {owner}");
        }
    }
}

#[test]
fn what_is_lacking_is_fetched_from_its_owner_first() {
    let mut copies = Copies::new(ME, true);
    copies.regrouped(at(0), nodes(&[1, 2, 3, 4]), nodes(&[1, 3, 4]));
    copies.compared(at(1), listed(1, 1), Here::Lacking);
    assert_eq!(copies.pending(), 1);
    let from = vec![NodeId(1), NodeId(3), NodeId(4)];
    assert_eq!(copies.next(at(1)), Some(Fetch { recording: id(1), from }));
    assert_eq!(copies.next(at(1)), None, "it is under way");
    copies.ended(at(2), id(1), Outcome::Settled);
    let mut first = Copies::new(NodeId(1), true);
    first.regrouped(at(0), nodes(&[1, 2, 3, 4]), nodes(&[1, 2, 3, 4]));
    first.compared(at(0), listed(9, 4), Here::Lacking);
    let from = vec![NodeId(4), NodeId(2), NodeId(3)];
    assert_eq!(first.next(at(0)), Some(Fetch { recording: id(9), from }));
    // Its own was lost: the mirror has it, most likely.
    copies.compared(at(3), listed(2, 2), Here::Lacking);
    let from = vec![NodeId(3), NodeId(1), NodeId(4)];
    assert_eq!(copies.next(at(3)), Some(Fetch { recording: id(2), from }));
    // Whatever belongs to others only.
    copies.compared(at(3), listed(3, 3), Here::Lacking);
    assert_eq!((copies.pending(), copies.next(at(3))), (1, None));
}

#[test]
fn what_is_here_or_a_persons_matter_is_left_alone() {
    let mut copies = of_two();
    for here in [Here::Whole, Here::Unusable] {
        copies.compared(at(1), listed(1, 1), here);
        assert_eq!((copies.pending(), copies.next(at(1))), (0, None));
        // It came by itself meanwhile.
        copies.compared(at(1), listed(1, 1), Here::Lacking);
        copies.compared(at(1), listed(1, 1), here);
        assert_eq!((copies.pending(), copies.next(at(1))), (0, None));
    }
}

#[test]
fn a_refusal_is_tried_again_ever_later_and_at_once_when_somebody_is_back() {
    let mut copies = of_two();
    copies.compared(at(0), listed(1, 1), Here::Lacking);
    let mut now = at(0);
    let mut pauses = Vec::new();
    for _ in 0..12 {
        assert!(copies.next(now).is_some());
        copies.ended(now, id(1), Outcome::Failed);
        let wakes = copies.wakes().unwrap();
        assert_eq!(copies.next(now), None);
        pauses.push(wakes.since(now).as_secs());
        now = wakes;
    }
    assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600, 600]);
    assert!(copies.next(now).is_some());
    copies.ended(now, id(1), Outcome::Failed);
    assert!(!copies.regrouped(now, nodes(&[1, 2]), nodes(&[2])));
    assert_eq!(copies.next(now), None);
    assert!(!copies.regrouped(now, nodes(&[1, 2]), nodes(&[1, 2])));
    assert!(copies.next(now).is_some());
}

#[test]
fn without_room_nothing_is_fetched() {
    let mut copies = of_two();
    copies.compared(at(0), listed(1, 1), Here::Lacking);
    assert!(copies.next(at(0)).is_some() && !copies.waits_for_room());
    copies.ended(at(1), id(1), Outcome::NoRoom);
    assert_eq!((copies.next(at(9)), copies.wakes(), copies.pending()), (None, None, 1));
    assert!(copies.waits_for_room());
    copies.set_room(true);
    assert!(copies.next(at(9)).is_some());
}

#[test]
fn without_room_the_record_of_what_the_archive_has_is_kept() {
    let mut copies = of_two();
    copies.set_room(false);
    let not_yet = Listed { archived: false, ..listed(2, 1) };
    copies.compared(at(0), not_yet, Here::Lacking);
    assert_eq!((copies.next(at(9)), copies.wakes()), (None, None));
    copies.compared(at(1), listed(2, 1), Here::Lacking);
    assert_eq!(copies.wakes(), Some(at(0)));
    assert_eq!(copies.next(at(9)).unwrap().recording, id(2));
    // It needs room after all: nobody asks for ever.
    copies.ended(at(9), id(2), Outcome::NoRoom);
    assert_eq!((copies.next(at(9)), copies.wakes(), copies.pending()), (None, None, 1));
    copies.compared(at(10), listed(2, 1), Here::Lacking);
    assert_eq!(copies.next(at(10)).unwrap().recording, id(2));
    copies.ended(at(11), id(2), Outcome::Settled);
    assert_eq!((copies.pending(), copies.due.len(), copies.due_roomless.len()), (0, 0, 0));
}

#[test]
fn what_nobody_has_is_counted_while_all_can_be_asked() {
    let mut copies = of_two();
    copies.compared(at(0), listed(1, 1), Here::Lacking);
    copies.next(at(0)).unwrap();
    copies.ended(at(0), id(1), Outcome::Nowhere);
    assert_eq!(copies.nowhere(), 1);
    copies.regrouped(at(1), nodes(&[1, 2]), nodes(&[2]));
    assert_eq!(copies.nowhere(), 0);
    copies.regrouped(at(1), nodes(&[1, 2]), nodes(&[1, 2]));
    copies.next(at(1)).unwrap();
    copies.ended(at(1), id(1), Outcome::Failed);
    assert_eq!(copies.nowhere(), 0);
}

#[test]
fn another_group_keeps_other_files() {
    let mut copies = of_two();
    copies.compared(at(0), listed(1, 1), Here::Lacking);
    assert!(copies.regrouped(at(1), nodes(&[1, 2, 9]), nodes(&[1, 2])));
    assert_eq!(copies.pending(), 1);
    // Node 4 stands between the two now.
    let mut copies = Copies::new(NodeId(5), true);
    copies.regrouped(at(0), nodes(&[1, 5]), nodes(&[1, 5]));
    copies.compared(at(0), listed(1, 1), Here::Lacking);
    assert!(copies.regrouped(at(1), nodes(&[1, 4, 5]), nodes(&[1, 4, 5])));
    assert_eq!((copies.pending(), copies.next(at(1))), (0, None));
}

#[test]
fn more_than_can_be_remembered_is_walked_through_again() {
    let mut copies = of_two();
    for number in 0..WANTED_MAX + 5 {
        let recording = RecordingId::new(WallTime::from_millis(number as i64), [1; 10]);
        let listed = Listed { recording, owner: NodeId(1), revision: 1, archived: false };
        copies.compared(at(0), listed, Here::Lacking);
    }
    assert_eq!((copies.pending(), copies.is_full()), (WANTED_MAX, true));
    assert!(!copies.take_missed());
    for _ in 0..=WANTED_MAX - WANTED_AGAIN {
        let fetch = copies.next(at(0)).unwrap();
        copies.ended(at(0), fetch.recording, Outcome::Settled);
    }
    assert!(copies.take_missed() && !copies.take_missed());
}

#[derive(Clone, Debug)]
enum Step {
    Compared(u16, u16, Here),
    Next,
    Ended(usize, Outcome),
    Reachable(bool, bool),
    Room(bool),
    Later(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let here = prop_oneof![
        4 => Just(Here::Lacking), 1 => Just(Here::Whole), 1 => Just(Here::Unusable)
    ];
    let outcome = prop_oneof![
        Just(Outcome::Settled),
        Just(Outcome::Nowhere),
        Just(Outcome::Failed),
        Just(Outcome::NoRoom),
    ];
    let step = prop_oneof![
        4 => (0..12_u16, 1..4_u16, here).prop_map(|(n, owner, here)| Step::Compared(n, owner, here)),
        4 => Just(Step::Next),
        3 => (0..4_usize, outcome).prop_map(|(at, outcome)| Step::Ended(at, outcome)),
        1 => any::<(bool, bool)>().prop_map(|(one, three)| Step::Reachable(one, three)),
        1 => any::<bool>().prop_map(Step::Room),
        2 => (0..700_u64).prop_map(Step::Later),
    ];
    proptest::collection::vec(step, 0..200)
}

proptest! {
    /// Whatever happens: few at a time and each once, nobody is asked that does not answer, and in
    /// the end everything that is lacking was fetched.
    #[test]
    fn nothing_is_forgotten(steps in steps()) {
        let recorders = nodes(&[1, 2, 3]);
        let mut copies = Copies::new(ME, true);
        let mut reachable = recorders.clone();
        copies.regrouped(at(0), recorders.clone(), reachable.clone());
        // By what was said last.
        let mut lacking: BTreeSet<u16> = BTreeSet::new();
        let mut under_way: Vec<RecordingId> = Vec::new();
        let mut now = 0;
        for step in steps {
            match step {
                Step::Compared(number, owner, here) => {
                    let owner = if lacking.contains(&number) { 1 } else { owner };
                    copies.compared(at(now), listed(number, owner), here);
                    // One under way ends by itself.
                    let running = under_way.contains(&id(number));
                    if here == Here::Lacking && owner != 3 {
                        lacking.insert(number);
                    } else if !running {
                        lacking.remove(&number);
                    }
                }
                Step::Next => {
                    if let Some(fetch) = copies.next(at(now)) {
                        prop_assert!(!under_way.contains(&fetch.recording));
                        prop_assert!(fetch.from.iter().all(|node| reachable.contains(node)));
                        prop_assert!(!fetch.from.contains(&ME));
                        under_way.push(fetch.recording);
                        prop_assert!(under_way.len() <= AT_ONCE);
                    }
                }
                Step::Ended(which, outcome) => {
                    if under_way.is_empty() {
                        continue;
                    }
                    let recording = under_way.remove(which % under_way.len());
                    copies.ended(at(now), recording, outcome);
                    if outcome == Outcome::Settled {
                        lacking.retain(|number| id(*number) != recording);
                    }
                }
                Step::Reachable(one, three) => {
                    reachable = nodes(&[2]);
                    reachable.extend(one.then_some(NodeId(1)));
                    reachable.extend(three.then_some(NodeId(3)));
                    copies.regrouped(at(now), recorders.clone(), reachable.clone());
                }
                Step::Room(room) => copies.set_room(room),
                Step::Later(seconds) => now += seconds,
            }
            prop_assert_eq!(copies.pending(), lacking.len());
        }
        for recording in under_way {
            copies.ended(at(now), recording, Outcome::Failed);
        }
        copies.set_room(true);
        while let Some(wakes) = copies.wakes() {
            now = now.max(wakes.as_micros() / 1_000_000 + 1);
            let fetch = copies.next(at(now)).unwrap();
            copies.ended(at(now), fetch.recording, Outcome::Settled);
            lacking.retain(|number| id(*number) != fetch.recording);
        }
        prop_assert!(lacking.is_empty(), "{:?}", lacking);
    }
}
