//! Calls whose identity is hard to follow: merges in which either side survives, no UCIDs, bare
//! device names, numbers that are used again at once.

use simulator::config::Survivor;
use simulator::{CallRef, SiteConfig};

use crate::common::{Bench, LIMIT};
use crate::settled;

/// Who consults whom: a caller at 31001, then a second call to 31002, both recorded.
async fn consulted(bench: &Bench) -> (CallRef, CallRef) {
    let switch = bench.site.switch();
    let held = bench.answered_call("5551230001", "31001").await;
    bench.recorded(held).await;
    bench.frames(held, 30).await;
    let second = switch.consult("31001", "31002").expect("an active call");
    switch.wait_alerting(second, LIMIT).await;
    switch.answer("31002").expect("it rings");
    bench.recorded(second).await;
    bench.frames(second, 40).await;
    (held, second)
}

/// After a merge only one phantom stays in what is left of the two calls.
async fn one_phantom_left(bench: &Bench, calls: (CallRef, CallRef)) -> CallRef {
    let switch = bench.site.switch();
    let alive = [calls.0, calls.1].into_iter().find(|call| switch.call(*call).is_some());
    let alive = alive.expect("one of the two goes on");
    let one = switch
        .wait(alive, LIMIT, |view| view.is_some_and(|view| view.recorders().len() == 1))
        .await;
    assert!(one, "{:?}; {}", switch.call(alive), bench.log_tail());
    let from = switch.call(alive).expect("it is up").frames;
    bench.frames(alive, from + 60).await;
    alive
}

async fn merged(config: SiteConfig, conference: bool) {
    let bench = Bench::start_with(config, "").await;
    let switch = bench.site.switch();
    let calls = consulted(&bench).await;
    if conference {
        switch.conference("31001").expect("a held and an active call");
    } else {
        switch.transfer("31001").expect("a held and an active call");
    }
    let alive = one_phantom_left(&bench, calls).await;
    switch.hangup_all(alive);
    settled(&bench).await;
    let verdict = bench.assert_right();
    assert_eq!(verdict.recordings_published, 2, "{verdict:?}");
    assert_eq!(verdict.packets_in_declared_gaps, 0, "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_phantoms_that_meet_in_a_transfer_become_one() {
    merged(SiteConfig::demo(4, 1), false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_phantoms_that_meet_in_a_conference_become_one() {
    merged(SiteConfig::demo(4, 1), true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_consultations_number_and_ucid_may_survive_a_merge() {
    let mut config = SiteConfig::demo(4, 1);
    config.switches.merge_call_id = Survivor::Active;
    config.switches.merge_ucid = Survivor::Active;
    let mut mixed = config.clone();
    mixed.switches.merge_ucid = Survivor::Held;
    tokio::join!(merged(config, false), merged(mixed, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_ucids_in_events_and_with_bare_names_calls_are_told_apart() {
    let mut config = SiteConfig::demo(4, 1);
    (config.switches.send_ucid, config.switches.bare_device_ids) = (false, true);
    merged(config, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn call_numbers_that_are_used_again_at_once_mix_nothing_up() {
    tokio::join!(reused(true), reused(false));
}

async fn reused(send_ucid: bool) {
    let mut config = SiteConfig::demo(6, 1);
    (config.call_id_first, config.call_id_last) = (1, 4);
    config.switches.send_ucid = send_ucid;
    let bench = Bench::start_with(config, "").await;
    let switch = bench.site.switch();
    for round in 0..6 {
        let one = bench.answered_call(&format!("555123{round}001"), "31001").await;
        let two = bench.answered_call(&format!("555123{round}002"), "31002").await;
        for call in [one, two] {
            bench.recorded(call).await;
            bench.frames(call, 20).await;
            switch.hangup_all(call);
        }
    }
    settled(&bench).await;
    let verdict = bench.assert_right();
    assert_eq!((verdict.calls_recorded, verdict.recordings_published), (12, 12));
}
