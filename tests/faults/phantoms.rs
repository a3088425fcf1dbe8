//! Phantoms are refused, too few, taken away or in the way.

use std::time::Duration;

use simulator::SiteConfig;

use crate::common::{Bench, LIMIT};
use crate::{ended, settled, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_joins_are_tried_again() {
    let bench = Bench::start(2).await;
    bench.site.faults().refuse_joins(0, 3);
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recorded(call).await;
    bench.frames(call, 100).await;
    bench.site.switch().hangup_all(call);
    settled(&bench).await;
    let verdict = bench.assert_right();
    assert_eq!((verdict.calls_recorded, verdict.recordings_published), (1, 1));
    let metrics = bench.node.metrics().await.expect("an answer");
    let mut missed = metrics.iter().filter(|(name, _)| name.contains("calls_missed"));
    assert!(missed.all(|(_, count)| *count == 0.0), "{metrics:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_too_few_phantoms_the_others_are_recorded_and_the_miss_is_told() {
    let mut config = SiteConfig::demo(4, 1);
    config.phantoms[0].extensions = "78001-78002".to_owned();
    let bench = Bench::start_with(config, "").await;
    let first = bench.answered_call("5551230001", "31001").await;
    let second = bench.answered_call("5551230002", "31002").await;
    for call in [first, second] {
        bench.recorded(call).await;
    }
    let missed = bench.answered_call("5551230003", "31003").await;
    let late = bench.answered_call("5551230004", "31004").await;
    let alarm = "astlogger_alarms{alarm=\"callnotrecorded\"}";
    bench.metric(alarm, |raised| raised == 2.0).await;
    bench.site.switch().hangup_all(missed);
    let counter = "astlogger_calls_missed_total{reason=\"nophantom\"}";
    bench.metric(counter, |count| count == 1.0).await;
    // A phantom that becomes free serves the call that still waits, and its alarm is cleared.
    bench.site.switch().hangup_all(first);
    bench.recorded(late).await;
    until(&bench, "audio", || bench.site.switch().call(late).is_some_and(|c| c.frames > 350)).await;
    for call in [second, late] {
        bench.site.switch().hangup_all(call);
    }
    settled(&bench).await;
    let not_missed = |call: &simulator::FinishedCall| call.calling != "5551230003";
    let verdict = bench.judge_by(not_missed);
    assert!(verdict.is_right(), "{verdict:#?}");
    assert_eq!(verdict.recordings_published, 3);
    let metrics = bench.node.metrics().await.expect("an answer");
    assert_eq!(metrics[alarm], 0.0, "{metrics:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phantom_that_is_unregistered_is_replaced_in_the_same_recording() {
    let bench = Bench::start(2).await;
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recorded(call).await;
    bench.frames(call, 60).await;
    let first = phantom_in(&bench, call);
    bench.site.faults().unregister(&first);
    replaced(&bench, call, &first, 120).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phantom_that_goes_deaf_without_a_word_is_replaced() {
    let bench = Bench::start(2).await;
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recorded(call).await;
    bench.frames(call, 60).await;
    let first = phantom_in(&bench, call);
    bench.site.faults().busy_out(&first);
    replaced(&bench, call, &first, 120).await;
    bench.site.faults().release_busy_out(&first);
}

/// Waits for another phantom in the call, lets it go on and judges it as one recording.
async fn replaced(bench: &Bench, call: simulator::CallRef, first: &str, frames: u32) {
    let switch = bench.site.switch();
    until(bench, "another phantom is in the call", || {
        let view = switch.call(call).expect("it is up");
        view.recorders().iter().any(|phantom| *phantom != first)
    })
    .await;
    let from = switch.call(call).expect("it is up").frames;
    bench.frames(call, from + frames).await;
    switch.hangup_all(call);
    settled(bench).await;
    let verdict = bench.assert_right();
    assert_eq!((verdict.calls_recorded, verdict.recordings_published), (1, 1));
    let record = &bench.node.recordings().expect("readable")[0].1;
    assert!(record.segments.len() >= 2 && !record.gaps.is_empty(), "{record:#?}");
    assert!(record.segments.iter().any(|segment| segment.phantom.as_str() != first));
    // The switch went on sending to the first for nobody: that is the gap, and it is bounded.
    let gap: u64 = record.gaps.iter().map(|gap| gap.endms - gap.startms).sum();
    assert!(gap < 8_000, "{:?}", record.gaps);
}

fn phantom_in(bench: &Bench, call: simulator::CallRef) -> String {
    bench.site.switch().call(call).expect("it is up").recorders()[0].to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conference_of_six_people_is_never_refused_because_of_us() {
    let mut bench = Bench::start(8).await;
    let switch = bench.site.switch();
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recorded(call).await;
    for number in 2..=5 {
        let other = format!("3100{number}");
        let consultation = switch.consult("31001", &other).expect("an active call");
        switch.wait_alerting(consultation, LIMIT).await;
        switch.answer(&other).expect("it rings");
        let talking = switch.call(consultation).expect("it is up").frames;
        bench.frames(consultation, talking + 20).await;
        switch.conference("31001").unwrap_or_else(|refusal| {
            panic!("{other} is refused: {refusal:?}; {}", bench.log_tail());
        });
    }
    let up = bench.site.calls();
    assert_eq!(up.len(), 1, "{up:?}");
    let people = up[0].parties.iter().filter(|party| !party.recorder).count();
    assert_eq!((people, bench.site.party_limit_refusals()), (6, 0));
    tokio::time::sleep(Duration::from_millis(500)).await;
    // One leaves: there is room for a phantom again.
    switch.hangup("31005").expect("it is in the call");
    let joint = simulator::CallRef { serial: up[0].serial };
    bench.recorded(joint).await;
    let from = switch.call(joint).expect("it is up").frames;
    bench.frames(joint, from + 60).await;
    switch.hangup_all(joint);
    ended(&mut bench).await;
    // Consultations that found no room for a phantom were not recorded.
    let verdict = bench.judge_by(|call| call.answered && !call.streams.is_empty());
    assert!(verdict.is_right(), "{verdict:#?}\n{}", bench.log_tail());
    assert_eq!(bench.site.party_limit_refusals(), 0);
}
