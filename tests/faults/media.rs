//! Media that is late, early, doubled, shuffled, restarted or of another source than before.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use simulator::SiteConfig;
use tokio::time::sleep;

use crate::common::Bench;
use crate::settled;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duplicates_disorder_and_jitter_change_no_frame() {
    let bench = Bench::start(2).await;
    bench.site.faults().rtp(|rtp| {
        (rtp.duplicate, rtp.reorder, rtp.delay_ms, rtp.jitter_ms) = (0.1, 0.1, 30, 90);
    });
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recorded(call).await;
    bench.frames(call, 300).await;
    // What is on its way when the last one leaves is lost; people do not leave at once.
    bench.site.switch().hangup("31001").expect("it is in the call");
    sleep(Duration::from_millis(300)).await;
    bench.site.switch().hangup_all(call);
    settled(&bench).await;
    bench.assert_right();
    let record = &bench.node.recordings().expect("readable")[0].1;
    assert!(record.segments[0].duplicate > 0, "{record:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_media_and_media_before_its_event_are_recorded() {
    tokio::join!(delayed(700, 0), delayed(0, 700));
}

async fn delayed(rtp_delay_ms: u64, media_event_delay_ms: u64) {
    let mut config = SiteConfig::demo(2, 1);
    config.switches.rtp_delay_ms = rtp_delay_ms;
    config.switches.media_event_delay_ms = media_event_delay_ms;
    let bench = Bench::start_with(config, "").await;
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recorded(call).await;
    bench.frames(call, 120).await;
    bench.site.switch().hangup_all(call);
    settled(&bench).await;
    let verdict = bench.assert_right();
    assert_eq!(verdict.packets_in_declared_gaps, 0, "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_media_start_that_is_never_told_loses_nothing() {
    let bench = Bench::start(2).await;
    bench.site.faults().lose_events(0, "MediaStartEvent", 1);
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recorded(call).await;
    // Longer than anybody waits for it.
    bench.frames(call, 250).await;
    bench.site.switch().hangup_all(call);
    settled(&bench).await;
    let verdict = bench.assert_right();
    assert_eq!((verdict.recordings_published, verdict.packets_in_declared_gaps), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_never_told_is_found_out() {
    let bench = Bench::start(2).await;
    bench.site.faults().lose_events(0, "EstablishedEvent", 1);
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recorded(call).await;
    let from = bench.site.switch().call(call).expect("it is up").frames;
    bench.frames(call, from + 60).await;
    bench.site.switch().hangup_all(call);
    settled(&bench).await;
    assert_eq!(bench.assert_right().recordings_published, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn media_that_restarts_or_pauses_with_a_hold_stays_one_recording() {
    tokio::join!(held(false), held(true));
}

async fn held(pause: bool) {
    let mut config = SiteConfig::demo(2, 1);
    config.switches.media_restart_on_hold = !pause;
    config.switches.media_pause_on_hold = pause;
    let bench = Bench::start_with(config, "").await;
    let switch = bench.site.switch();
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recorded(call).await;
    bench.frames(call, 50).await;
    switch.hold("31001").expect("an active call");
    // Longer than a silent phantom is put up with in a call where nobody holds.
    bench.frames(call, 300).await;
    switch.retrieve("31001").expect("a held call");
    bench.frames(call, 400).await;
    switch.hangup_all(call);
    settled(&bench).await;
    let verdict = bench.assert_right();
    assert_eq!(verdict.recordings_published, 1);
    let record = &bench.node.recordings().expect("readable")[0].1;
    assert_eq!(record.segments.len(), 1, "{record:#?}");
    let missing: u64 = record.gaps.iter().map(|gap| gap.endms - gap.startms).sum();
    assert_eq!(missing > 4_000, pause, "{record:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_stream_on_the_same_phantom_is_joined_to_the_first() {
    let bench = Bench::start(2).await;
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recorded(call).await;
    let phantom = bench.site.switch().call(call).expect("up").recorders()[0].to_owned();
    for round in 1..=3 {
        bench.frames(call, round * 40).await;
        bench.site.faults().change_ssrc(&phantom);
    }
    bench.frames(call, 170).await;
    bench.site.switch().hangup_all(call);
    settled(&bench).await;
    let verdict = bench.assert_right();
    assert_eq!(verdict.packets_in_declared_gaps, 0, "{verdict:?}");
    let record = &bench.node.recordings().expect("readable")[0].1;
    assert_eq!(record.segments[0].ssrcs.len(), 4, "{record:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stands_still_for_two_seconds_loses_nothing() {
    let bench = Bench::start(6).await;
    let mut calls = Vec::new();
    for number in 1..=4 {
        let station = format!("3100{number}");
        calls.push(bench.answered_call(&format!("555123000{number}"), &station).await);
    }
    for call in &calls {
        bench.recorded(*call).await;
    }
    bench.frames(calls[3], 50).await;
    let pid = Pid::from_raw(bench.node.pid().expect("it runs").cast_signed());
    kill(pid, Signal::SIGSTOP).expect("it runs");
    bench.site.switch().hangup_all(calls[0]);
    let new = bench.answered_call("5551230005", "31005").await;
    sleep(Duration::from_secs(2)).await;
    kill(pid, Signal::SIGCONT).expect("it runs");
    calls.push(new);
    bench.recorded(new).await;
    bench.frames(new, 200).await;
    for call in &calls[1..] {
        bench.site.switch().hangup_all(*call);
    }
    settled(&bench).await;
    let verdict = bench.assert_right();
    assert_eq!((verdict.calls_recorded, verdict.packets_in_declared_gaps), (5, 0), "{verdict:?}");
}
