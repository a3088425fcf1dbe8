//! The standby's ring over real sockets: with it a takeover leaves no hole in any call that was going on,
//! and where it could not be kept, the hole is declared as ever.

mod common;

use std::process::Command;
use std::time::Duration;

use astlogger::demo::{Shape, Verdict};
use common::LIMIT;
use common::group::{GroupBench, ONE, TWO};
use simulator::{CallRef, SiteConfig};
use storage_core::NodeId;

const RING: &str = "al_standbyring = \"30s\"\n";
/// Frames of a call before and after something happens.
const SOME: u32 = 60;

/// A group whose standby keeps rings, on a switch that lets seven parties into a call.
async fn group(agents: usize) -> GroupBench {
    let settings = format!("{RING}al_maxparties = 7\n");
    let shape = Shape { settings, ..Shape::hot_standby(agents) };
    let config = SiteConfig { max_parties: 7, ..SiteConfig::demo(agents, 2) };
    GroupBench::start(config, &shape).await
}

/// Waits until a node keeps so many rings, and has heard something by each.
async fn keeps_rings(bench: &GroupBench, node: NodeId, calls: &[CallRef]) {
    let count = calls.len() as f64;
    bench.metric(node, "astlogger_rings", |rings| rings == count).await;
    bench.go_on(calls, SOME).await;
}

/// Each call has one recording, and none of its frames is missing.
async fn assert_whole(bench: &GroupBench) -> Verdict {
    let verdict = bench.assert_right(1).await;
    let missing = (verdict.takeover_gap_ms_max, verdict.packets_in_declared_gaps);
    let gaps: Vec<_> = bench.recordings().into_iter().map(|(_, record)| record.gaps).collect();
    assert_eq!(missing, (0, 0), "{verdict:?}: {gaps:#?}");
    verdict
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_in_any_state_go_on_without_a_hole_when_the_lead_is_killed() {
    let mut bench = group(12).await;
    let mut calls = bench.calls(4).await;
    bench.recorded_by(&calls, ONE).await;
    keeps_rings(&bench, TWO, &calls).await;
    let switch = bench.group.site.switch();
    // One is held, one is being transferred, one is a conference; one is in the midst of a consultation.
    let mut consultations = Vec::new();
    for (station, partner) in [("31002", "31010"), ("31003", "31011"), ("31004", "31012")] {
        let consultation = switch.consult(station, partner).expect("an active call");
        assert!(switch.wait_alerting(consultation, LIMIT).await.is_some());
        switch.answer(partner).expect("it rings");
        bench.recorded_by(&[consultation], ONE).await;
        bench.recorded_by(&[consultation], TWO).await;
        consultations.push(consultation);
    }
    bench.go_on(&consultations, SOME).await;
    switch.conference("31003").expect("a held and an active call");
    switch.transfer("31002").expect("a held and an active call");
    switch.hold("31001").expect("an active call");
    calls.push(consultations[2]);
    keeps_rings(&bench, TWO, &calls).await;
    bench.kill(ONE).await;
    bench.metric(TWO, "astlogger_recordings_active", |count| count == 5.0).await;
    bench.go_on(&calls, SOME).await;
    bench.run().await;
    switch.retrieve("31001").expect("a held call");
    switch.conference("31004").expect("a held and an active call");
    bench.go_on(&calls[..4], SOME).await;
    bench.hang_up(&calls[..4]);
    let verdict = assert_whole(&bench).await;
    assert_eq!(verdict.calls_recorded, 7, "{verdict:?}");
    for (_, record) in bench.recordings() {
        assert!(record.gaps.is_empty(), "{record:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_begin_when_the_lead_is_killed_are_whole_too() {
    let mut bench = group(10).await;
    let mut calls = bench.calls(3).await;
    keeps_rings(&bench, TWO, &calls).await;
    for number in 3..7 {
        calls.push(bench.call(number).await);
    }
    // A ring is there as soon as the lead's phantom was seen, one request later.
    bench.recorded_by(&calls, TWO).await;
    bench.go_on(&calls, 8).await;
    bench.kill(ONE).await;
    for number in 7..9 {
        calls.push(bench.call(number).await);
    }
    bench.recorded_by(&calls, TWO).await;
    bench.go_on(&calls, SOME).await;
    bench.hang_up(&calls);
    bench.run().await;
    let verdict = assert_whole(&bench).await;
    assert_eq!(verdict.calls_recorded, 9, "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lead_that_hangs_leaves_no_hole_and_does_no_harm_when_it_goes_on() {
    let bench = group(4).await;
    let calls = bench.calls(3).await;
    keeps_rings(&bench, TWO, &calls).await;
    bench.pause(ONE);
    bench.metric(TWO, "astlogger_recordings_active", |count| count == 3.0).await;
    bench.go_on(&calls, SOME).await;
    bench.resume(ONE);
    bench.leads(TWO).await;
    bench.go_on(&calls, SOME).await;
    bench.hang_up(&calls);
    assert_whole(&bench).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lead_that_loses_its_aes_leaves_no_hole() {
    let bench = group(4).await;
    let calls = bench.calls(3).await;
    keeps_rings(&bench, TWO, &calls).await;
    bench.group.site.faults().cut_aes(0, Duration::from_secs(3));
    bench.metric(TWO, "astlogger_recordings_active", |count| count == 3.0).await;
    bench.go_on(&calls, SOME).await;
    bench.hang_up(&calls);
    assert_whole(&bench).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_hand_back_the_lead_keeps_rings_of_what_the_other_goes_on_with() {
    let mut bench = group(6).await;
    let mut calls = bench.calls(2).await;
    keeps_rings(&bench, TWO, &calls).await;
    bench.kill(ONE).await;
    bench.metric(TWO, "astlogger_recordings_active", |count| count == 2.0).await;
    bench.run().await;
    bench.leads_steadily(ONE).await;
    keeps_rings(&bench, ONE, &calls).await;
    // A new call is the lead's, and the other's ring.
    let new = bench.call(2).await;
    bench.metric(TWO, "astlogger_rings", |rings| rings == 1.0).await;
    calls.push(new);
    bench.go_on(&calls, SOME).await;
    bench.kill(TWO).await;
    bench.metric(ONE, "astlogger_recordings_active", |count| count == 3.0).await;
    bench.go_on(&calls, SOME).await;
    bench.hang_up(&calls);
    bench.run().await;
    let verdict = assert_whole(&bench).await;
    assert_eq!(verdict.calls_recorded, 3, "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_was_away_begins_its_rings_anew_and_what_nobody_heard_is_declared() {
    let mut bench = group(4).await;
    let calls = bench.calls(2).await;
    keeps_rings(&bench, TWO, &calls).await;
    bench.kill(TWO).await;
    bench.go_on(&calls, SOME).await;
    bench.run().await;
    bench.leads_steadily(ONE).await;
    keeps_rings(&bench, TWO, &calls).await;
    // Both are away for a moment, and with them the rings.
    bench.kill(TWO).await;
    bench.kill(ONE).await;
    bench.go_on(&calls, SOME).await;
    bench.run().await;
    bench.recorded_by_any(&calls, &[ONE, TWO]).await;
    bench.somebody_leads().await;
    bench.go_on(&calls, SOME).await;
    bench.hang_up(&calls);
    let verdict = bench.assert_right(1).await;
    assert!(verdict.packets_in_declared_gaps > 0, "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_phantoms_are_short_the_calls_without_a_ring_have_their_hole_declared() {
    let mut config = SiteConfig::demo(5, 2);
    config.phantoms[1].extensions = "78501-78502".to_owned();
    let shape = Shape { settings: RING.to_owned(), ..Shape::hot_standby(5) };
    let mut bench = GroupBench::start(config, &shape).await;
    let calls = bench.calls(4).await;
    bench.recorded_by(&calls, ONE).await;
    keeps_rings(&bench, TWO, &calls[..2]).await;
    // The lead may not join the next one: a ring gives its phantom for it.
    bench.group.site.faults().refuse_joins(0, 1000);
    let refused = bench.call(4).await;
    bench.metric(TWO, "astlogger_recordings_active", |count| count == 1.0).await;
    bench.metric(TWO, "astlogger_rings", |rings| rings == 1.0).await;
    bench.group.site.faults().refuse_joins(0, 0);
    bench.kill(ONE).await;
    bench.metric(TWO, "astlogger_recordings_active", |count| count >= 2.0).await;
    bench.go_on(&calls, SOME).await;
    bench.run().await;
    bench.recorded_by_any(&calls, &[ONE, TWO]).await;
    bench.go_on(&calls, SOME).await;
    bench.hang_up(&calls);
    bench.hang_up(&[refused]);
    let verdict = bench.assert_right(1).await;
    assert_eq!(verdict.calls_recorded, 5, "{verdict:?}");
    let whole = bench.recordings().iter().filter(|(_, record)| record.gaps.is_empty()).count();
    assert!(whole >= 1, "the call of which a ring was kept has no hole: {verdict:?}");
    assert!(verdict.packets_in_declared_gaps > 0, "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ring_leaves_when_people_need_its_place_and_comes_back() {
    let settings = format!("{RING}al_maxparties = 5\n");
    let shape = Shape { settings, ..Shape::hot_standby(3) };
    let config = SiteConfig { max_parties: 5, ..SiteConfig::demo(3, 2) };
    let mut bench = GroupBench::start(config, &shape).await;
    let calls = bench.calls(1).await;
    keeps_rings(&bench, TWO, &calls).await;
    let switch = bench.group.site.switch();
    let consultation = switch.consult("31001", "31002").expect("an active call");
    assert!(switch.wait_alerting(consultation, LIMIT).await.is_some());
    switch.answer("31002").expect("it rings");
    bench.recorded_by(&[consultation], ONE).await;
    bench.metric(TWO, "astlogger_rings", |rings| rings == 0.0).await;
    bench.go_on(&[consultation], SOME).await;
    switch.conference("31001").expect("no recorder is in the way");
    keeps_rings(&bench, TWO, &calls).await;
    bench.kill(ONE).await;
    bench.metric(TWO, "astlogger_recordings_active", |count| count == 1.0).await;
    bench.go_on(&calls, SOME).await;
    bench.hang_up(&calls);
    bench.run().await;
    assert_whole(&bench).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registrations_at_stations_keep_rings_without_a_place_in_the_call() {
    let settings = format!("al_method = \"mr\"\n{RING}");
    let shape = Shape { settings, ..Shape::hot_standby(3) };
    let mut bench = GroupBench::start(SiteConfig::demo(3, 2), &shape).await;
    let calls = bench.calls(2).await;
    bench.metric(ONE, "astlogger_recordings_active", |count| count == 2.0).await;
    keeps_rings(&bench, TWO, &calls).await;
    // Longer than a device's last second, which is kept anyway.
    bench.go_on(&calls, 2 * SOME).await;
    bench.pause(ONE);
    bench.metric(TWO, "astlogger_recordings_active", |count| count == 2.0).await;
    bench.go_on(&calls, SOME).await;
    bench.kill(ONE).await;
    bench.hang_up(&calls);
    bench.run().await;
    assert_whole(&bench).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_encrypted_is_whole_too() {
    let settings = format!("al_mediaencryption = [\"srtp-aescm128-hmac80\"]\n{RING}");
    let shape = Shape { settings, ..Shape::hot_standby(3) };
    let mut config = SiteConfig::demo(3, 2);
    config.switches.encryption = vec!["1-srtp-aescm128-hmac80".to_owned()];
    let mut bench = GroupBench::start(config, &shape).await;
    let calls = bench.calls(2).await;
    keeps_rings(&bench, TWO, &calls).await;
    bench.kill(ONE).await;
    bench.metric(TWO, "astlogger_recordings_active", |count| count == 2.0).await;
    bench.go_on(&calls, SOME).await;
    bench.hang_up(&calls);
    bench.run().await;
    assert_whole(&bench).await;
}

/// What `check` says of a node's configuration; a witness's or a lone recorder's, too.
fn check(bench: &GroupBench, node: NodeId, from: &str, to: &str) -> String {
    if !from.is_empty() {
        bench.edit(node, from, to);
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_astlogger"));
    command.arg("check").arg("--config").arg(bench.group.members[&node].node.config_path());
    let output = command.output().expect("it runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_says_what_a_ring_costs_and_where_it_does_nothing() {
    let shape = Shape { settings: RING.to_owned(), ..Shape::hot_standby(3) };
    let bench = GroupBench::prepare(SiteConfig::demo(3, 2), &shape).await;
    let costs = check(&bench, TWO, "", "");
    assert!(costs.contains("each call takes a phantom here, too (14 are there)"), "{costs}");
    assert!(
        costs.contains("al_maxparties = 6, 4 people and two phantoms; 275 KiB a call"),
        "{costs}"
    );
    let full = check(&bench, TWO, RING, &format!("{RING}al_maxparties = 3\n"));
    assert!(full.contains("al_standbyring: has no effect with al_maxparties = 3"), "{full}");
    let witness = check(&bench, NodeId(3), "al_nodeid", &format!("{RING}al_nodeid"));
    assert!(witness.contains("records nothing and does not use al_standbyring"), "{witness}");
    let wrong = check(&bench, ONE, RING, "al_standbyring = \"5 min\"\n");
    assert!(
        wrong.contains("al_standbyring = \"5 min\": must be from 0 ms to 120000 ms"),
        "{wrong}"
    );
}
