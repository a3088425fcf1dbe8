//! Tags, notes and scores: what may be written, and that all nodes come to the same.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn blank() -> Recording {
    serde_json::from_value(json!({
        "recordingid": "018bcfe5-687b-7000-8000-000000000001", "callids": [], "extension": "2611",
        "agentid": "", "calling": "", "called": "", "direction": "inbound", "trunkgroup": "",
        "trunkmember": "", "vdn": "", "split": "", "userdata": "", "parties": [],
        "started": "2026-11-23T09:00:00.000Z", "ended": "2026-11-23T09:01:00.000Z",
        "durationms": 60_000, "scope": "station", "trigger": "rule", "rule": "", "copy": 1,
        "node": 1, "segments": [], "gaps": [], "pauses": [], "complete": true,
        "quality": {"lossratio": 0.0, "jitterms": 0.0, "clockdriftppm": 0.0},
        "format": "wavg711", "bytes": 0, "sha256": "", "tags": [], "notes": [], "hold": false
    }))
    .unwrap()
}

fn marking(add: &[&str], remove: &[&str], note: Option<&str>) -> Result<Marking, MarkError> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    Marking::new(words(add), words(remove), note.map(str::to_owned))
}

fn at(millis: i64) -> WallTime {
    WallTime::from_millis(millis)
}

#[test]
fn tags_come_and_go_and_notes_stay() {
    let mut record = blank();
    let first = marking(&[" vip ", "vip", "complaint"], &[], Some("call back\ntomorrow ")).unwrap();
    assert_eq!(first.apply(&mut record, "anna", at(1000), NodeId(1)), Ok(true));
    assert_eq!(record.tags, ["complaint", "vip"]);
    assert_eq!(
        (record.notes[0].text.as_str(), record.notes[0].by.as_str()),
        ("call back\ntomorrow", "anna")
    );
    // What is so already changes nothing, whenever it is said.
    let again = marking(&["vip"], &["never"], None).unwrap();
    assert_eq!(again.apply(&mut record, "ben", at(2000), NodeId(1)), Ok(false));
    // A clock that was set back makes no earlier change win.
    let second = marking(&[], &["vip"], Some("done")).unwrap();
    assert_eq!(second.apply(&mut record, "ben", at(5), NodeId(2)), Ok(true));
    assert_eq!(record.tags, ["complaint"]);
    assert_eq!(
        record.notes.iter().map(|note| note.text.as_str()).collect::<Vec<_>>(),
        ["call back\ntomorrow", "done"]
    );
    assert!(record.notes[0].stamp < record.notes[1].stamp);
    let text = serde_json::to_string(&record).unwrap();
    assert_eq!(serde_json::from_str::<Recording>(&text).unwrap(), record);
}

#[test]
fn what_is_wrong_is_named() {
    let long = "x".repeat(TAG_CHARS_MAX + 1);
    let many: Vec<String> = (0..=TAGS_MAX).map(|n| n.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let note = "x".repeat(NOTE_BYTES_MAX + 1);
    for (made, error) in [
        (marking(&[], &[], None), MarkError::Nothing),
        (marking(&[], &[], Some(" \n")), MarkError::Nothing),
        (marking(&[" "], &[], None), MarkError::Tag("add")),
        (marking(&[], &[&long], None), MarkError::Tag("remove")),
        (marking(&["a\u{7}"], &[], None), MarkError::Tag("add")),
        (marking(&["a"], &["a "], None), MarkError::Both),
        (marking(&many, &[], None), MarkError::Tags),
        (marking(&[], &[], Some(&note)), MarkError::Note),
        (marking(&[], &[], Some("a\u{0}b")), MarkError::Note),
    ] {
        assert_eq!(made, Err(error));
    }
    // As long as they may be, in letters of four bytes, too.
    assert!(marking(&[&"\u{1f600}".repeat(TAG_CHARS_MAX)], &[], None).is_ok());
}

fn scoring(scorecard: &str, percent: f64) -> Marking {
    let answers = [("help".to_owned(), json!(5))].into();
    let rated = Rated { answers, percent };
    Marking::scored(Scoring::new(scorecard.to_owned(), rated, " well done\n").unwrap())
}

#[test]
fn the_last_score_of_each_by_each_scorecard_counts() {
    let mut record = blank();
    for (by, card, percent) in [
        ("anna", "Service", 50.0),
        ("ben", "Service", 70.0),
        ("anna", "Sales", 10.0),
        ("anna", "Service", 80.0),
    ] {
        let scored = scoring(card, percent);
        assert_eq!(scored.apply(&mut record, by, at(1000), NodeId(1)), Ok(true));
    }
    let told: Vec<_> = record
        .scores
        .iter()
        .map(|score| (score.by.as_str(), score.scorecard.as_str(), score.percent))
        .collect();
    assert_eq!(
        told,
        [("ben", "Service", 70.0), ("anna", "Sales", 10.0), ("anna", "Service", 80.0)]
    );
    assert_eq!(record.scores[0].comment, "well done");
    let text = serde_json::to_string(&record).unwrap();
    assert_eq!(serde_json::from_str::<Recording>(&text).unwrap(), record);
    // What was said before is not brought back by a node that has not heard of what came after.
    let mut old = blank();
    scoring("Service", 50.0).apply(&mut old, "anna", at(1000), NodeId(1)).unwrap();
    let before = record.clone();
    assert!(!Marks::of(&old).merge_into(&mut record));
    assert_eq!(record, before);
}

#[test]
fn scores_have_an_end_too() {
    let rated =
        |text: &str| Rated { answers: [("a".to_owned(), json!(text))].into(), percent: 1.0 };
    let long = "x".repeat(SCORE_BYTES_MAX);
    let made = |rated, comment: &str| Scoring::new("Service".to_owned(), rated, comment);
    assert_eq!(made(rated(&long), ""), Err(MarkError::Score));
    assert_eq!(made(rated(""), "a\u{0}b"), Err(MarkError::Comment));
    let mut record = blank();
    for number in 0..SCORES_MAX {
        let by = number.to_string();
        scoring("Service", 1.0).apply(&mut record, &by, at(0), NodeId(1)).unwrap();
    }
    let refused = scoring("Service", 1.0).apply(&mut record, "more", at(0), NodeId(1));
    assert_eq!(refused, Err(MarkError::Scores));
    // Who has judged may change his mind.
    assert_eq!(scoring("Service", 2.0).apply(&mut record, "0", at(0), NodeId(1)), Ok(true));
    assert_eq!(record.scores.len(), SCORES_MAX);
}

#[test]
fn there_is_an_end_to_it_and_nothing_is_half_done() {
    let mut record = blank();
    for number in 0..NOTES_MAX {
        let note = marking(&[], &[], Some(&number.to_string())).unwrap();
        note.apply(&mut record, "anna", at(0), NodeId(1)).unwrap();
    }
    let before = record.clone();
    let more = marking(&["vip"], &[], Some("more")).unwrap();
    assert_eq!(more.apply(&mut record, "anna", at(0), NodeId(1)), Err(MarkError::Notes));
    assert_eq!(record, before);
    for number in 0..TAGS_EVER_MAX {
        let tag = number.to_string();
        for change in [marking(&[&tag], &[], None), marking(&[], &[&tag], None)] {
            let change = change.unwrap();
            change.apply(&mut record, "anna", at(0), NodeId(1)).unwrap();
        }
    }
    let one_more = marking(&["more"], &[], None).unwrap();
    let refused = one_more.apply(&mut record, "anna", at(0), NodeId(1));
    assert_eq!(refused, Err(MarkError::TagsEver));
}

proptest! {
    /// Three nodes write, each with a clock of its own, and hear of each other now and then. When all
    /// have heard of all they agree, and no note is lost.
    #[test]
    fn all_come_to_the_same(
        steps in proptest::collection::vec((0..3_usize, 0..3_usize, 0..6_u8, 0..4_usize, 0..50_i64), 1..60),
    ) {
        let mut records = [blank(), blank(), blank()];
        let mut notes = 0;
        for (one, other, what, tag, now) in steps {
            let tag = ["a", "b", "c", "d"][tag];
            let node = NodeId(u16::try_from(one).unwrap() + 1);
            let made = match what {
                0 | 1 => marking(&[tag], &[], None),
                2 => marking(&[], &[tag], None),
                3 => marking(&[], &[], Some(tag)),
                5 => Ok(scoring(tag, f64::from(node.0))),
                _ => {
                    let told = Marks::of(&records[one]);
                    let before = records[other].clone();
                    let changed = told.merge_into(&mut records[other]);
                    prop_assert_eq!(changed, before != records[other]);
                    prop_assert!(!told.merge_into(&mut records[other]));
                    continue;
                }
            };
            notes += usize::from(what == 3);
            let had = records[one].tags.clone();
            let done = made.unwrap().apply(&mut records[one], "anna", at(now), node);
            prop_assert!(done.is_ok() || records[one].notes.len() >= NOTES_MAX);
            let has = records[one].tags.iter().any(|own| own == tag);
            match what {
                0 | 1 => prop_assert!(has),
                2 => prop_assert!(!has),
                _ => prop_assert_eq!(&had, &records[one].tags),
            }
        }
        let orders = [[0, 1, 2], [2, 0, 1], [1, 2, 0]];
        let merged = orders.map(|order| {
            let mut whole = blank();
            for from in order {
                Marks::of(&records[from]).merge_into(&mut whole);
            }
            whole
        });
        prop_assert_eq!(&merged[0], &merged[1]);
        prop_assert_eq!(&merged[0], &merged[2]);
        prop_assert_eq!(merged[0].notes.len(), notes);
        // The last word on each scorecard is the one that bears the latest stamp of all that were given.
        for record in &records {
            for score in &record.scores {
                let last = merged[0].scores.iter().find(|kept| kept.scorecard == score.scorecard);
                prop_assert!(last.is_some_and(|last| last.stamp >= score.stamp));
            }
        }
    }
}
