//! What is due to the archive, tried again and removed, as time goes by.

use storage_core::WallTime;
use storage_core::marks::Stamp;

use super::*;

fn at(ms: u64) -> MonoTime {
    MonoTime::from_micros(ms * 1000)
}

fn id(number: u8) -> RecordingId {
    RecordingId::new(WallTime::from_millis(i64::from(number)), [number; 10])
}

fn record(node: u16) -> Recording {
    serde_json::from_value(serde_json::json!({
        "recordingid": id(1), "callids": ["1"], "extension": "2611", "agentid": "", "calling": "",
        "called": "", "direction": "inbound", "trunkgroup": "", "trunkmember": "", "vdn": "", "split": "",
        "userdata": "", "parties": [], "started": WallTime::from_millis(0), "ended": WallTime::from_millis(9),
        "durationms": 9, "scope": "station", "trigger": "rule", "rule": "", "copy": 1, "node": node,
        "segments": [], "gaps": [], "pauses": [], "complete": true,
        "quality": { "lossratio": 0.0, "jitterms": 0.0, "clockdriftppm": 0.0 },
        "format": "wavg711", "bytes": 10, "sha256": "aa", "tags": [], "notes": [], "hold": false,
    }))
    .unwrap()
}

fn note(base: &str, node: u16, encrypted: bool) -> Archived {
    Archived {
        place: format!("{base}/2026/x.wav"),
        revision: 1,
        sha256: "aa".to_owned(),
        encrypted,
        bytes: 10,
        stored: "aa".to_owned(),
        record: "digest".to_owned(),
        stamp: Stamp { at: WallTime::from_millis(1), node: NodeId(node) },
    }
}

fn sight(me: u16, recorders: &[u16]) -> Sight {
    let recorders = recorders.iter().copied().map(NodeId).collect();
    Sight { me: NodeId(me), recorders, base: "s3://b".to_owned() }
}

#[test]
fn each_recording_is_archived_by_one_node_and_again_when_it_changes() {
    // This node, the recorders, the owner, the note, the record's SHA-256, what is due.
    for (me, recorders, owner, noted, digest, due) in [
        (1, &[1, 2][..], 1, None, "digest", Due::Whole),
        (2, &[1, 2], 1, None, "digest", Due::Nothing),
        // The owner has left.
        (2, &[2, 4], 1, None, "digest", Due::Whole),
        (4, &[2, 4], 1, None, "digest", Due::Nothing),
        (2, &[2], 1, None, "digest", Due::Whole),
        (1, &[1, 2], 1, Some(note("s3://b", 1, false)), "digest", Due::Nothing),
        (1, &[1, 2], 1, Some(note("s3://b", 1, false)), "other", Due::Record),
        (2, &[2, 4], 1, Some(note("s3://b", 1, false)), "digest", Due::Nothing),
        // Nobody has the key any more.
        (2, &[2, 4], 1, Some(note("s3://b", 1, true)), "digest", Due::Whole),
        (1, &[1, 2], 1, Some(note("s3://b", 1, true)), "digest", Due::Nothing),
        // Another archive.
        (1, &[1, 2], 1, Some(note("s3://bb", 1, false)), "digest", Due::Whole),
    ] {
        let record = Recording { archived: noted.clone(), ..record(owner) };
        let found = sight(me, recorders).due(&record, digest);
        assert_eq!(found, due, "node {me} of {recorders:?}, owner {owner}, {noted:?}");
    }
    let revised = Recording { revision: 2, archived: Some(note("s3://b", 1, false)), ..record(1) };
    assert_eq!(sight(1, &[1]).due(&revised, "digest"), Due::Whole, "a later revision");
}

#[test]
fn only_what_the_archive_has_may_go_and_nothing_under_hold() {
    let sight = sight(1, &[1, 2]);
    let noted = note("s3://b", 1, false);
    let record = record(1);
    assert!(!sight.may_go(&record, None), "it lies nowhere else");
    assert!(sight.may_go(&record, Some(&noted)));
    assert!(!sight.may_go(&record, Some(&note("s3://c", 1, false))), "that archive is not read");
    assert!(!sight.may_go(&Recording { revision: 2, ..record.clone() }, Some(&noted)));
    assert!(!sight.may_go(&Recording { hold: true, ..record }, Some(&noted)));
}

#[test]
fn two_at_once_the_earliest_first() {
    let mut archiving = Archiving::default();
    for number in [3, 1, 2] {
        archiving.wants(at(0), id(number), Task::Put);
    }
    assert_eq!(archiving.next(at(0)), Some((id(1), Task::Put)));
    assert_eq!(archiving.next(at(0)), Some((id(2), Task::Put)));
    assert_eq!((archiving.next(at(0)), archiving.wakes()), (None, None));
    archiving.ended(at(5), id(2), Outcome::Done);
    assert_eq!((archiving.pending(), archiving.next(at(5))), (2, Some((id(3), Task::Put))));
}

#[test]
fn one_that_fails_comes_again_later_each_time_and_holds_nobody_up() {
    let mut archiving = Archiving::default();
    archiving.wants(at(0), id(1), Task::Put);
    let mut now = 0;
    for pause in [2_000, 4_000, 8_000] {
        assert!(archiving.next(at(now)).is_some());
        archiving.ended(at(now), id(1), Outcome::Failed);
        assert_eq!(archiving.wakes(), Some(at(now + pause)));
        assert_eq!(archiving.next(at(now + pause - 1)), None);
        now += pause;
    }
    archiving.wants(at(now), id(2), Task::Put);
    assert!(!archiving.is_away());
    archiving.ended(at(now), id(9), Outcome::Away);
    assert!(!archiving.is_away(), "that one was never begun");
}

#[test]
fn an_archive_that_is_away_is_asked_by_one_at_a_time_and_all_go_on_when_it_is_back() {
    let mut archiving = Archiving::default();
    for number in 1..=3 {
        archiving.wants(at(0), id(number), Task::Put);
    }
    let mut now = 0;
    for (tries, pause) in
        [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000].into_iter().enumerate()
    {
        let (one, _) = archiving.next(at(now)).unwrap();
        archiving.ended(at(now), one, Outcome::Away);
        assert_eq!(archiving.is_away(), tries >= 2, "after {tries}");
        assert_eq!(archiving.wakes(), Some(at(now + pause)));
        assert_eq!(archiving.next(at(now + pause - 1)), None);
        now += pause;
    }
    let (one, _) = archiving.next(at(now)).unwrap();
    assert_eq!(archiving.next(at(now)), None, "one asks for all");
    archiving.ended(at(now), one, Outcome::Done);
    assert!(!archiving.is_away());
    assert!(archiving.next(at(now)).is_some() && archiving.next(at(now)).is_some());
    assert_eq!(archiving.pending(), 2);
}

#[test]
fn what_changes_while_it_is_put_there_is_put_there_again() {
    let mut archiving = Archiving::default();
    archiving.wants(at(0), id(1), Task::Put);
    assert_eq!(archiving.next(at(0)), Some((id(1), Task::Put)));
    archiving.wants(at(1), id(1), Task::Put);
    assert_eq!(archiving.next(at(1)), None, "not both at once");
    archiving.ended(at(2), id(1), Outcome::Done);
    assert_eq!(archiving.next(at(2)), Some((id(1), Task::Put)));
    archiving.wants(at(3), id(1), Task::PutAnew);
    archiving.wants(at(3), id(1), Task::Put);
    archiving.ended(at(4), id(1), Outcome::Done);
    assert_eq!(archiving.next(at(4)), Some((id(1), Task::PutAnew)));
    archiving.ended(at(5), id(1), Outcome::Done);
    assert_eq!((archiving.next(at(5)), archiving.pending()), (None, 0));
}

#[test]
fn a_deletion_wins_also_over_what_is_under_way() {
    let mut archiving = Archiving::default();
    archiving.wants(at(0), id(1), Task::Put);
    archiving.wants(at(0), id(1), Task::Delete);
    archiving.wants(at(0), id(1), Task::Put);
    archiving.settled(id(1));
    assert_eq!(archiving.next(at(0)), Some((id(1), Task::Delete)));
    archiving.ended(at(0), id(1), Outcome::Done);
    assert_eq!(archiving.pending(), 0);
    archiving.wants(at(0), id(1), Task::Put);
    archiving.next(at(0)).unwrap();
    archiving.wants(at(1), id(1), Task::Delete);
    archiving.ended(at(2), id(1), Outcome::Done);
    assert_eq!(archiving.next(at(2)), Some((id(1), Task::Delete)));
}

#[test]
fn what_is_settled_elsewhere_waits_no_more() {
    let mut archiving = Archiving::default();
    archiving.wants(at(0), id(1), Task::Put);
    archiving.settled(id(1));
    assert_eq!((archiving.pending(), archiving.next(at(0))), (0, None));
}

#[test]
fn more_than_can_wait_is_walked_for_again() {
    let mut archiving = Archiving::default();
    let many = |number: usize| {
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
        RecordingId::new(WallTime::from_millis(0), bytes)
    };
    for number in 0..WAITING_MAX {
        archiving.wants(at(0), many(number), Task::Put);
    }
    assert!(archiving.is_full() && !archiving.take_missed());
    archiving.wants(at(0), many(WAITING_MAX), Task::Put);
    for number in 0..=WAITING_MAX / 2 {
        archiving.settled(many(number));
    }
    assert!(archiving.take_missed() && !archiving.take_missed());
}
