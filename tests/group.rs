//! A group of two recorders and a witness over real sockets: whatever fails, each call is recorded
//! exactly once (or once for each copy), and every 20 ms is in a file or in a declared gap.

mod common;

use std::time::Duration;

use astlogger::demo::{Shape, Way};
use common::group::{GroupBench, ONE, TWO, WITNESS, exchange_roles};
use serde_json::json;
use simulator::SiteConfig;
use storage_core::record::{GapCause, Scope};
use storage_core::{NodeId, Role};
use tokio::time::sleep;

/// The longest hole that a takeover may leave on this machine while other tests run on it.
const HOLE_MAX_MS: u64 = 3_000;
/// Frames of a call before and after something happens.
const SOME: u32 = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lead_killed_in_mid_call_leaves_one_recording_with_its_hole_declared() {
    let mut bench = GroupBench::hot_standby(6).await;
    bench.takes_over_slowly(TWO);
    let calls = bench.taken_over(4, SOME).await;
    bench.hang_up(&calls);
    bench.run().await;
    let verdict = bench.assert_right(1).await;
    assert_eq!((verdict.calls, verdict.takeovers), (4, 1));
    assert!((1..HOLE_MAX_MS).contains(&verdict.takeover_gap_ms_max), "{verdict:?}");
    for (_, record) in bench.recordings() {
        assert!(record.gaps.iter().any(|gap| gap.cause == GapCause::Takeover), "{record:#?}");
        let nodes: Vec<_> = record.segments.iter().map(|segment| segment.node).collect();
        assert_eq!(nodes, [ONE, TWO], "{record:#?}");
        assert!(record.complete, "{record:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lead_that_hangs_is_replaced_and_does_no_harm_when_it_goes_on() {
    let bench = GroupBench::hot_standby(4).await;
    let calls = bench.calls(3).await;
    bench.recorded_by(&calls, ONE).await;
    bench.go_on(&calls, SOME).await;
    bench.pause(ONE);
    bench.recorded_by(&calls, TWO).await;
    bench.go_on(&calls, SOME).await;
    bench.resume(ONE);
    bench.leads(TWO).await;
    bench.go_on(&calls, SOME).await;
    bench.hang_up(&calls);
    let verdict = bench.assert_right(1).await;
    assert!(verdict.takeover_gap_ms_max < HOLE_MAX_MS, "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lead_without_its_aes_hands_over_and_gets_the_lead_back_for_new_calls() {
    let bench = GroupBench::hot_standby(5).await;
    let mut calls = bench.calls(3).await;
    bench.recorded_by(&calls, ONE).await;
    bench.go_on(&calls, SOME).await;
    bench.group.site.faults().cut_aes(0, Duration::from_secs(3));
    bench.leads(TWO).await;
    bench.recorded_by(&calls, TWO).await;
    let during = bench.call(3).await;
    bench.recorded_by(&[during], TWO).await;
    calls.push(during);
    bench.leads(ONE).await;
    let after = bench.call(4).await;
    bench.recorded_by(&[after], ONE).await;
    calls.push(after);
    bench.go_on(&calls, SOME).await;
    // What was up when the lead came back stays where it is.
    assert!(bench.phantoms_in(during).iter().all(|phantom| phantom.starts_with("785")));
    bench.hang_up(&calls);
    bench.assert_right(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_for_which_the_lead_has_no_phantom_are_rescued() {
    let mut config = SiteConfig::demo(6, 2);
    config.phantoms[0].extensions = "78001-78002".to_owned();
    let bench = GroupBench::start(config, &Shape::hot_standby(6)).await;
    let calls = bench.calls(5).await;
    bench.recorded_by(&calls[2..], TWO).await;
    bench.go_on(&calls, SOME).await;
    bench.hang_up(&calls);
    let verdict = bench.assert_right(1).await;
    assert_eq!(verdict.calls_recorded, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_the_lead_may_not_join_is_rescued() {
    let bench = GroupBench::hot_standby(3).await;
    bench.group.site.faults().refuse_joins(0, 1000);
    let calls = bench.calls(1).await;
    bench.recorded_by(&calls, TWO).await;
    bench.metric(TWO, "astlogger_rescues_total", |count| count >= 1.0).await;
    bench.group.site.faults().refuse_joins(0, 0);
    bench.go_on(&calls, SOME).await;
    bench.hang_up(&calls);
    bench.assert_right(1).await;
    let (_, record) = &bench.recordings()[0];
    assert_eq!(record.segments[0].node, TWO, "{record:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phantom_that_goes_deaf_is_replaced_in_the_same_recording() {
    let bench = GroupBench::hot_standby(3).await;
    let calls = bench.calls(2).await;
    bench.recorded_by(&calls, ONE).await;
    bench.go_on(&calls, SOME).await;
    let deaf = bench.phantoms_in(calls[0]).remove(0);
    bench.group.site.faults().busy_out(&deaf);
    let switch = bench.group.site.switch();
    let replaced = |phantoms: &[&str]| phantoms.iter().any(|phantom| *phantom != deaf);
    let seen = switch
        .wait(calls[0], common::LIMIT, |view| view.is_some_and(|view| replaced(&view.recorders())))
        .await;
    assert!(seen, "nobody else joins; {}", bench.log_tails());
    bench.go_on(&calls, SOME).await;
    bench.group.site.faults().release_busy_out(&deaf);
    bench.hang_up(&calls);
    let verdict = bench.assert_right(1).await;
    assert!(verdict.packets_in_declared_gaps > 0, "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lead_cut_off_from_the_group_goes_on_and_is_reconciled_when_it_is_back() {
    let shape = Shape { wires: true, ..Shape::hot_standby(5) };
    let bench = GroupBench::start(SiteConfig::demo(5, 2), &shape).await;
    let calls = bench.calls(3).await;
    bench.recorded_by(&calls, ONE).await;
    bench.go_on(&calls, SOME).await;
    bench.group.isolate(ONE, Way::Stalled);
    bench.says_it_leads(TWO).await;
    // One ends while they cannot agree, and one begins.
    bench.hang_up(&calls[..1]);
    let during = bench.call(3).await;
    bench.recorded_by(&[during], TWO).await;
    bench.go_on(&calls[1..], SOME).await;
    bench.group.isolate(ONE, Way::Open);
    bench.leads(TWO).await;
    bench.go_on(&calls[1..], SOME).await;
    bench.hang_up(&calls);
    bench.hang_up(&[during]);
    let verdict = bench.assert_right(1).await;
    assert_eq!(verdict.calls_recorded, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_cut_off_from_the_group_takes_nothing_over() {
    let shape = Shape { wires: true, ..Shape::hot_standby(3) };
    let bench = GroupBench::start(SiteConfig::demo(3, 2), &shape).await;
    let calls = bench.calls(2).await;
    bench.recorded_by(&calls, ONE).await;
    bench.group.isolate(TWO, Way::Stalled);
    bench.go_on(&calls, 150).await;
    bench.group.isolate(TWO, Way::Open);
    bench.leads(ONE).await;
    bench.duty(TWO, "standby").await;
    bench.go_on(&calls, SOME).await;
    bench.hang_up(&calls);
    let verdict = bench.assert_right(1).await;
    assert_eq!(verdict.packets_in_declared_gaps, 0, "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_recorders_killed_one_after_the_other_leave_one_recording() {
    let mut bench = GroupBench::hot_standby(4).await;
    bench.takes_over_slowly(TWO);
    let calls = bench.taken_over(3, SOME).await;
    bench.run().await;
    bench.duty(ONE, "standby").await;
    bench.takes_over_slowly(ONE);
    // It must have said that it is healthy, or it is no better than none.
    sleep(Duration::from_secs(1)).await;
    bench.kill(TWO).await;
    // The phantoms of its former process may be in the calls still: its own word it is.
    bench.metric(ONE, "astlogger_recordings_active", |count| count == 3.0).await;
    bench.leads(ONE).await;
    bench.go_on(&calls, SOME).await;
    bench.hang_up(&calls);
    bench.run().await;
    let verdict = bench.assert_right(1).await;
    assert_eq!((verdict.calls_recorded, verdict.takeovers), (3, 2), "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_or_a_witness_that_is_killed_changes_nothing() {
    let mut bench = GroupBench::hot_standby(3).await;
    let calls = bench.calls(2).await;
    bench.recorded_by(&calls, ONE).await;
    for node in [TWO, WITNESS] {
        bench.kill(node).await;
        bench.go_on(&calls, SOME).await;
        bench.run().await;
        bench.leads(ONE).await;
    }
    bench.hang_up(&calls);
    let verdict = bench.assert_right(1).await;
    let gaps = (verdict.takeovers, verdict.packets_in_declared_gaps);
    assert_eq!(gaps, (0, 0), "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_witness_the_backup_still_takes_over_and_publishes_when_there_is_a_majority() {
    let mut bench = GroupBench::hot_standby(4).await;
    let mut calls = bench.calls(2).await;
    bench.recorded_by(&calls, ONE).await;
    bench.go_on(&calls, SOME).await;
    bench.kill(WITNESS).await;
    bench.go_on(&calls, SOME).await;
    bench.kill(ONE).await;
    bench.recorded_by(&calls, TWO).await;
    let begun = bench.call(2).await;
    bench.recorded_by(&[begun], TWO).await;
    calls.push(begun);
    bench.go_on(&calls, SOME).await;
    bench.hang_up(&calls);
    bench.run().await;
    let verdict = bench.assert_right(1).await;
    assert_eq!(verdict.calls_recorded, 3, "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_begin_or_end_during_a_takeover_are_recorded() {
    let mut bench = GroupBench::hot_standby(8).await;
    let before = bench.calls(2).await;
    bench.recorded_by(&before, ONE).await;
    bench.go_on(&before, SOME).await;
    bench.kill(ONE).await;
    bench.hang_up(&before[..1]);
    let mut calls = vec![before[1]];
    for number in 2..7 {
        calls.push(bench.call(number).await);
        sleep(Duration::from_millis(60)).await;
    }
    bench.recorded_by(&calls, TWO).await;
    bench.go_on(&calls, SOME).await;
    bench.hang_up(&calls);
    bench.run().await;
    let verdict = bench.assert_right(1).await;
    assert_eq!(verdict.calls_recorded, 7, "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_in_the_middle_of_a_takeover_loses_nothing() {
    let mut bench = GroupBench::hot_standby(4).await;
    let calls = bench.calls(1).await;
    bench.recorded_by(&calls, ONE).await;
    let switch = bench.group.site.switch();
    let consultation = switch.consult("31001", "31002").expect("an active call");
    switch.wait_alerting(consultation, common::LIMIT).await;
    switch.answer("31002").expect("it rings");
    bench.recorded_by(&[consultation], ONE).await;
    bench.go_on(&[consultation], SOME).await;
    bench.kill(ONE).await;
    switch.transfer("31001").expect("a held and an active call");
    bench.recorded_by(&calls, TWO).await;
    bench.go_on(&calls, SOME).await;
    bench.hang_up(&calls);
    bench.run().await;
    let verdict = bench.assert_right(1).await;
    assert_eq!(verdict.calls_recorded, 2, "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trunk_recording_survives_a_transfer_and_a_takeover() {
    let shape = Shape {
        stations: 1,
        settings: "[[al_rule]]\nname = \"asked\"\nrecord = \"ondemand\"\n".to_owned(),
        ..Shape::hot_standby(1)
    };
    let mut bench = GroupBench::start(SiteConfig::demo(4, 2), &shape).await;
    let calls = bench.calls(1).await;
    let mut cti = bench.cti(ONE, "supervisor").await;
    let reply = cti.start_recording("31001", "trunk").await.expect("a reply");
    assert_eq!(reply["result"], "success", "{reply}");
    bench.go_on(&calls, SOME).await;
    let switch = bench.group.site.switch();
    for (from, to) in [("31001", "31003"), ("31003", "31004")] {
        switch.single_step_transfer(from, to).expect("an active call");
        switch.wait_alerting(calls[0], common::LIMIT).await;
        switch.answer(to).expect("it rings");
        bench.go_on(&calls, SOME).await;
        if to == "31003" {
            bench.kill(ONE).await;
            bench.recorded_by(&calls, TWO).await;
            bench.go_on(&calls, SOME).await;
        }
    }
    bench.hang_up(&calls);
    bench.run().await;
    bench.assert_right_by(1, |call| call.trunk_group.is_some()).await;
    let (_, record) = &bench.recordings()[0];
    assert_eq!(record.scope, Scope::Trunk);
    assert_eq!(reply["recordingid"], json!(record.recordingid));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn active_active_makes_two_copies_and_one_goes_on_without_a_hole() {
    let mut bench = GroupBench::active_active(4).await;
    let calls = bench.calls(2).await;
    bench.recorded_by(&calls, ONE).await;
    bench.recorded_by(&calls, TWO).await;
    bench.go_on(&calls, SOME).await;
    bench.kill(ONE).await;
    bench.says_it_leads(TWO).await;
    bench.go_on(&calls, SOME).await;
    bench.run().await;
    bench.metric(ONE, "astlogger_recordings_active", |count| count == 2.0).await;
    bench.go_on(&calls, 2 * SOME).await;
    bench.hang_up(&calls);
    let verdict = bench.assert_right(2).await;
    assert_eq!((verdict.voice_files, verdict.takeover_gap_ms_max), (4, 0), "{verdict:?}");
    for (_, record) in bench.recordings().iter().filter(|(_, record)| record.copy == 2) {
        assert!(record.gaps.is_empty() && record.complete, "{record:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_active_active_the_follower_killed_leaves_the_first_copy_whole() {
    let mut bench = GroupBench::active_active(3).await;
    let calls = bench.calls(1).await;
    bench.recorded_by(&calls, ONE).await;
    bench.recorded_by(&calls, TWO).await;
    bench.go_on(&calls, SOME).await;
    bench.kill(TWO).await;
    bench.go_on(&calls, SOME).await;
    bench.run().await;
    bench.duty(TWO, "follow").await;
    bench.go_on(&calls, 3 * SOME).await;
    bench.hang_up(&calls);
    bench.assert_right(2).await;
    let recordings = bench.recordings();
    let (_, first) = recordings.iter().find(|(_, r)| r.copy == 1).expect("the first copy");
    assert!(first.gaps.is_empty() && first.node == ONE, "{first:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lead_that_is_told_to_end_hands_over_without_a_hole() {
    let mut bench = GroupBench::hot_standby(4).await;
    let calls = bench.calls(3).await;
    bench.recorded_by(&calls, ONE).await;
    bench.go_on(&calls, SOME).await;
    bench.terminate(ONE).await;
    bench.leads(TWO).await;
    bench.go_on(&calls, SOME).await;
    bench.run().await;
    bench.hang_up(&calls);
    let verdict = bench.assert_right(1).await;
    let gaps = (verdict.takeover_gap_ms_max, verdict.packets_in_declared_gaps);
    assert_eq!(gaps, (0, 0), "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_is_ended_and_started_again_keeps_what_it_has() {
    let mut bench = GroupBench::hot_standby(3).await;
    record_one(&bench, 0, ONE).await;
    bench.quiet().await;
    for node in [ONE, TWO, WITNESS] {
        bench.terminate(node).await;
    }
    bench.run().await;
    bench.leads(ONE).await;
    record_one(&bench, 1, ONE).await;
    let verdict = bench.assert_right(1).await;
    assert_eq!(verdict.recordings_published, 2);
    assert_eq!(bench.listed(TWO).await.len(), 2, "{}", bench.log_tails());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_site_without_power_for_a_moment_goes_on_with_its_calls() {
    let mut bench = GroupBench::hot_standby(3).await;
    let calls = bench.calls(2).await;
    bench.recorded_by(&calls, ONE).await;
    bench.go_on(&calls, SOME).await;
    for node in [ONE, TWO, WITNESS] {
        bench.kill(node).await;
    }
    bench.run().await;
    bench.go_on(&calls, 3 * SOME).await;
    bench.hang_up(&calls);
    let verdict = bench.assert_right(1).await;
    assert_eq!(verdict.calls_recorded, 2, "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_are_changed_by_configuration() {
    let mut bench = GroupBench::hot_standby(3).await;
    record_one(&bench, 0, ONE).await;
    bench.quiet().await;
    for node in [ONE, TWO] {
        bench.terminate(node).await;
    }
    exchange_roles(&bench, (ONE, Role::Active), (TWO, Role::Backup));
    bench.run().await;
    bench.leads(TWO).await;
    record_one(&bench, 1, TWO).await;
    bench.assert_right(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_recorder_lists_and_gives_out_what_lies_on_the_other() {
    let bench = GroupBench::hot_standby(3).await;
    record_one(&bench, 0, ONE).await;
    bench.assert_right(1).await;
    let (path, record) = bench.recordings().remove(0);
    assert_eq!(record.node, ONE);
    for node in [ONE, TWO] {
        let found = bench.listed(node).await;
        assert_eq!(found, [record.recordingid.to_string()], "node {node}");
        let bytes = bench.fetched(node, &record.recordingid.to_string()).await;
        assert!(bytes == std::fs::read(&path).expect("the voice file"), "node {node}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_catalog_made_anew_lists_what_lies_on_a_recorder_that_is_away() {
    let mut bench = GroupBench::hot_standby(3).await;
    record_one(&bench, 0, ONE).await;
    bench.assert_right(1).await;
    let (_, record) = bench.recordings().remove(0);
    bench.terminate(TWO).await;
    bench.lose_catalog(TWO);
    bench.run().await;
    bench.duty(TWO, "standby").await;
    bench.has_caught_up(TWO).await;
    bench.kill(ONE).await;
    assert_eq!(bench.listed(TWO).await, [record.recordingid.to_string()]);
}

/// A call at the station of this number, recorded by this node, from its begin to its end.
async fn record_one(bench: &GroupBench, number: usize, node: NodeId) {
    let call = bench.call(number).await;
    bench.recorded_by(&[call], node).await;
    bench.go_on(&[call], SOME).await;
    bench.hang_up(&[call]);
}
