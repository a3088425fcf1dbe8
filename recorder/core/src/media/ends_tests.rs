//! What is missing at a recording's begin and end, where no packet before or behind it tells.

use storage_core::draft::{Pause, Presence, Stretch};
use storage_core::journal::Fact;
use storage_core::record::{GapCause, VoiceFormat};
use storage_core::{Draft, NodeId, RecordingId, SegmentId};

use super::report::tests::report;
use super::tests::{Sender, at, capture};
use super::{begin_when_due, record};

#[test]
fn an_end_that_nobody_heard_is_missing_unless_the_call_was_held_or_paused_then() {
    let mut capture = capture();
    Sender::new(1, 1, 0).say(&mut capture, "abcde");
    let plan = capture.plan().unwrap();
    let stretch = |from: i64, to: i64| Stretch { from: at(from * 1000), to: Some(at(to * 1000)) };
    let presence = |who: &str, to, holds: &[Stretch]| Presence {
        who: who.to_owned(),
        stretch: stretch(0, to),
        holds: holds.to_vec(),
    };
    let paused = |stretch: Stretch| Pause {
        id: None,
        stretch,
        until: stretch.from,
        by: String::new(),
        resumed: None,
    };
    let id = RecordingId::new(at(0), [1; 10]);
    let complete = |ends: [i64; 3], holds: &[Stretch], pauses: &[Stretch]| {
        let [one, two, ended] = ends;
        let draft = Draft {
            parties: vec![presence("31002", one, holds), presence("5551230001", two, &[])],
            pauses: pauses.iter().map(|stretch| paused(*stretch)).collect(),
            ended: Some(at(ended * 1000)),
            ..Draft::blank(id, NodeId(1), at(0))
        };
        record(draft, &plan, VoiceFormat::WavG711).complete
    };
    assert!(complete([400, 420, 420], &[], &[]), "a little late");
    assert!(!complete([900, 900, 900], &[], &[]), "a second of talk is missing");
    assert!(complete([110, 3_000, 3_000], &[], &[]), "one person alone says nothing");
    assert!(complete([900, 900, 900], &[stretch(100, 900)], &[]), "held");
    assert!(complete([900, 900, 900], &[], &[stretch(100, 900)]), "paused");
    assert!(!complete([900, 900, 900], &[stretch(20, 60)], &[]), "held before");
}

#[test]
fn a_begin_that_is_known_to_be_late_is_declared_from_a_tenth_of_a_second_on() {
    let mut capture = capture();
    Sender::new(1, 1, 1_000).say(&mut capture, "abc");
    let asked = Draft::blank(RecordingId::new(at(0), [0; 10]), NodeId(1), at(600_000));
    for (due, missing) in [(Some(600), Some(400)), (Some(920), None), (None, None)] {
        let mut plan = capture.plan().unwrap();
        let opened = at(due.unwrap_or(600) * 1000);
        let draft = Draft { due: due.map(|_| opened), opened, ..asked.clone() };
        begin_when_due(&mut plan, &draft, None).unwrap();
        let gaps: Vec<_> = plan.gaps.iter().map(|gap| gap.to.as_millis()).collect();
        assert_eq!(gaps, Vec::from_iter(missing), "{due:?}");
    }
}

#[test]
fn a_begin_that_the_disk_did_not_take_is_declared_as_that() {
    let mut capture = capture();
    Sender::new(1, 1, 3_000).say(&mut capture, "abc");
    let draft = Draft::blank(RecordingId::new(at(0), [0; 10]), NodeId(1), at(0));
    let lost = |from: i64, cause| Fact::Lost {
        segment: SegmentId(1),
        from: at(from * 1000),
        to: at(from * 1000 + 500_000),
        packets: 25,
        cause,
    };
    let mut gap = |fact: Option<Fact>| {
        if let Some(fact) = fact {
            capture.fact(&fact);
        }
        let mut plan = capture.plan().unwrap();
        begin_when_due(&mut plan, &draft, None).unwrap();
        (plan.gaps[0].to.as_millis(), plan.gaps[0].cause)
    };
    assert_eq!(gap(None), (3_000, GapCause::NoMedia));
    // What was lost later is not why it began late.
    assert_eq!(gap(Some(lost(3_100, GapCause::DiskFull))), (3_000, GapCause::NoMedia));
    assert_eq!(gap(Some(lost(100, GapCause::DiskFull))), (3_000, GapCause::DiskFull));
}

#[test]
fn what_is_missing_at_the_ends_is_told_by_the_senders_reports() {
    // (letters, packets that the sender counts in its first and its last report, lost)
    for (letters, counted, lost) in [
        ("abcdefghijklmnopqrst", (1, 20), 0),
        ("abcdefghij----------", (1, 20), 10),
        // The first one was sent before the first report.
        ("----------klmnopqrst", (1, 20), 9),
        ("abcde-----klmnopqrst", (1, 20), 5),
        ("-bcde--hijklmno-----", (1, 20), 2 + 5),
        // Its report and its packets need not be of exactly one moment.
        ("abcdefghijklmnopqrst", (1, 22), 0),
        // It began to count anew, or counts otherwise.
        ("abcdefghijklmnopqrst", (500, 20), 0),
        ("abcdefghijklmnopqrst", (1, 9_000), 0),
    ] {
        let mut capture = capture();
        let mut sender = Sender::new(1, 1, 0);
        capture.report(0, &report(1, sender.timestamp, counted.0));
        sender.say(&mut capture, letters);
        let last = sender.timestamp.wrapping_sub(160);
        capture.report(sender.micros, &report(1, last, counted.1));
        capture.report(sender.micros, &report(2, last, 7_000));
        let plan = capture.plan().unwrap();
        assert_eq!(plan.segments[0].census.lost, lost, "{letters} {counted:?}");
        let ratio = lost as f64 / (plan.segments[0].census.packets + lost) as f64;
        assert!((plan.quality.lossratio - ratio).abs() < 1e-9);
    }
}
