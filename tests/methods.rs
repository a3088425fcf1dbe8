//! The other ways of hearing calls, with the real recorder against the simulated switch: one more
//! registration on each station, and phantoms that observe one station each. Every 20 ms of every call
//! must be in a file or in a declared gap.

mod common;

use std::time::Duration;

use astlogger::demo::Shape;
use common::group::{GroupBench, ONE, TWO};
use common::{Bench, LIMIT};
use simulator::{CallRef, SiteConfig};
use storage_core::record::{GapCause, Scope};
use storage_core::{NodeId, Recording};

const MR: &str = "al_method = \"mr\"\n";

impl Bench {
    /// Waits until so many recordings are in progress.
    async fn recordings(&self, count: f64) {
        self.metric("astlogger_recordings_active", |active| active == count).await;
    }

    /// Waits until the recorder has heard so much more of all calls.
    async fn hears_on(&self, packets: f64) {
        let so_far = self.metric("astlogger_rtp_packets_total", |_| true).await;
        self.metric("astlogger_rtp_packets_total", |count| count >= so_far + packets).await;
    }

    /// A call with a hold of a second, and one that is handed from 31003 to 31004 by a consultation.
    async fn held_and_transferred(&self) -> [CallRef; 2] {
        let switch = self.site.switch();
        let held = self.answered_call("5551230001", "31001").await;
        let handed = self.answered_call("5551230002", "31003").await;
        self.recordings(2.0).await;
        self.frames(held, 60).await;
        switch.hold("31001").expect("an active call");
        self.frames(held, 120).await;
        switch.retrieve("31001").expect("a held call");
        let consultation = switch.consult("31003", "31004").expect("an active call");
        assert!(switch.wait_alerting(consultation, LIMIT).await.is_some());
        switch.answer("31004").expect("it rings");
        self.recordings(3.0).await;
        self.frames(consultation, 50).await;
        switch.transfer("31003").expect("a held and an active call");
        self.recordings(2.0).await;
        self.hears_on(100.0).await;
        [held, handed]
    }

    /// The record of the call from this number.
    fn of(&self, caller: &str) -> Recording {
        let published = self.node.recordings().expect("records can be read");
        let found = published.into_iter().find(|(_, record)| record.calling == caller);
        found.unwrap_or_else(|| panic!("no record of {caller}; {}", self.log_tail())).1
    }
}

fn causes(record: &Recording) -> Vec<GapCause> {
    record.gaps.iter().map(|gap| gap.cause).collect()
}

fn devices(record: &Recording) -> Vec<&str> {
    record.segments.iter().map(|segment| segment.phantom.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_hears_its_station_through_hold_and_transfer() {
    let bench = Bench::start_with(SiteConfig::demo(6, 1), MR).await;
    let calls = bench.held_and_transferred().await;
    for call in calls {
        let view = bench.site.switch().call(call).expect("it is up");
        assert!(view.recorders().is_empty(), "a registration is no party: {view:?}");
        bench.site.switch().hangup_all(call);
    }
    bench.published(3).await;
    let verdict = bench.assert_right();
    assert_eq!((verdict.calls_recorded, verdict.packets_unaccounted), (3, 0), "{verdict:?}");
    let held = bench.of("5551230001");
    assert_eq!((devices(&held), causes(&held)), (vec!["31001"; 2], vec![GapCause::Hold]));
    assert!((900..1_500).contains(&(held.gaps[0].endms - held.gaps[0].startms)), "{held:?}");
    let handed = bench.of("5551230002");
    assert_eq!((devices(&handed), causes(&handed)), (vec!["31003", "31004"], vec![GapCause::Hold]));
    assert!(held.complete && handed.complete);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trunk_recording_follows_the_caller_to_a_registered_station_and_waits_elsewhere() {
    let rule = "[[al_rule]]\nname = \"asked\"\nrecord = \"ondemand\"\n";
    let settings = format!("{MR}{rule}");
    let bench = Bench::prepare_monitoring(SiteConfig::demo(4, 1), 2, &settings).await;
    let bench = bench.started().await;
    let switch = bench.site.switch();
    let call = bench.answered_call("5551230001", "31001").await;
    let mut cti = bench.cti("supervisor").await;
    let reply = cti.start_recording("31001", "trunk").await.expect("a reply");
    assert_eq!(reply["result"], "success", "{reply}");
    for station in ["31003", "31002"] {
        let from = if station == "31003" { "31001" } else { "31003" };
        switch.single_step_transfer(from, station).expect("an active call");
        assert!(switch.wait_alerting(call, LIMIT).await.is_some());
        switch.answer(station).expect("it rings");
        let frames = switch.call(call).expect("it is up").frames;
        bench.frames(call, frames + 60).await;
    }
    bench.hears_on(50.0).await;
    switch.hangup_all(call);
    let published = bench.published(1).await;
    let verdict = bench.assert_right();
    assert_eq!(verdict.packets_unaccounted, 0, "{verdict:?}");
    let record = &published[0].1;
    assert_eq!(record.scope, Scope::Trunk);
    assert_eq!(devices(record), ["31001", "31002"], "{record:#?}");
    assert_eq!(causes(record), [GapCause::NoMedia], "31003 is not heard: {record:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_aes_loses_no_call_of_a_registration() {
    restarted_aes_loses_no_call(Bench::start_with(SiteConfig::demo(3, 1), MR).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_socket_makes_no_hole_in_what_a_registration_hears() {
    let bench = Bench::start_with(SiteConfig::demo(2, 1), MR).await;
    let calls = [
        bench.answered_call("5551230001", "31001").await,
        bench.answered_call("5551230002", "31002").await,
    ];
    bench.recordings(2.0).await;
    bench.hears_on(50.0).await;
    bench.site.faults().cut_aes(0, Duration::from_secs(2));
    bench.metric("astlogger_aes_up", |up| up == 0.0).await;
    bench.hears_on(50.0).await;
    bench.metric("astlogger_aes_up", |up| up == 1.0).await;
    bench.hears_on(100.0).await;
    for call in calls {
        bench.site.switch().hangup_all(call);
    }
    let published = bench.published(2).await;
    let verdict = bench.assert_right();
    assert_eq!((verdict.calls_recorded, verdict.packets_in_declared_gaps), (2, 0), "{verdict:?}");
    assert!(published.iter().all(|(_, record)| record.segments.len() == 1), "{published:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conference_is_heard_by_the_registration_of_whoever_is_left_in_it() {
    let bench = Bench::start_with(SiteConfig::demo(4, 1), MR).await;
    let switch = bench.site.switch();
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recordings(1.0).await;
    for other in ["31002", "31003"] {
        bench.hears_on(30.0).await;
        let consultation = switch.consult("31001", other).expect("an active call");
        assert!(switch.wait_alerting(consultation, LIMIT).await.is_some());
        // Nobody answers so fast that the word of the hold is not here yet.
        let so_far = switch.call(call).map_or(0, |call| call.frames);
        bench.frames(call, so_far + 15).await;
        switch.answer(other).expect("it rings");
        bench.recordings(2.0).await;
        bench.frames(consultation, 30).await;
        switch.conference("31001").expect("a held and an active call");
        bench.recordings(1.0).await;
    }
    bench.hears_on(50.0).await;
    switch.hangup("31001").expect("it is in the conference");
    bench.hears_on(100.0).await;
    switch.hangup_all(call);
    bench.published(3).await;
    let verdict = bench.assert_right();
    assert_eq!((verdict.calls_recorded, verdict.packets_unaccounted), (3, 0), "{verdict:?}");
    let record = bench.of("5551230001");
    // While 31001 makes the second one, 31002 is in the first, and stays in it.
    assert_eq!(devices(&record), ["31001", "31001", "31002"], "{record:#?}");
    assert_eq!(causes(&record), [GapCause::Hold], "{record:#?}");
}

async fn restarted_aes_loses_no_call(bench: Bench) {
    let mut calls = Vec::new();
    for number in 1..=3 {
        let caller = format!("555123000{number}");
        calls.push(bench.answered_call(&caller, &format!("3100{number}")).await);
    }
    bench.recordings(3.0).await;
    bench.hears_on(150.0).await;
    bench.site.faults().restart_aes(0, Duration::from_secs(1));
    bench.metric("astlogger_aes_up", |up| up == 0.0).await;
    bench.metric("astlogger_aes_up", |up| up == 1.0).await;
    bench.metric("astlogger_phantoms{state=\"recording\"}", |count| count == 3.0).await;
    bench.hears_on(150.0).await;
    for call in &calls {
        bench.site.switch().hangup_all(*call);
    }
    let published = bench.published(3).await;
    let verdict = bench.assert_right();
    assert_eq!((verdict.calls_recorded, verdict.packets_unaccounted), (3, 0), "{verdict:?}");
    for (_, record) in &published {
        assert_eq!(record.segments.len(), 2, "{record:#?}");
        assert_eq!(record.gaps.len(), 1, "the time without the AES is declared: {record:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stations_wrong_security_code_is_tried_once() {
    let settings = format!("{MR}al_stationpassword = \"999999\"\n");
    let mut bench = Bench::prepare(SiteConfig::demo(2, 1), &settings).await;
    bench.node.start().expect("the node starts");
    bench.metric("astlogger_phantoms{state=\"refused\"}", |count| count == 2.0).await;
    for station in ["31001", "31002"] {
        assert_eq!(bench.site.wrong_passwords(station), 1, "{station}");
    }
}

impl GroupBench {
    /// Waits until a node has so many recordings in progress.
    async fn records(&self, node: NodeId, count: f64) {
        self.metric(node, "astlogger_recordings_active", |active| active == count).await;
    }

    /// Waits until a node hears so many calls that it records.
    async fn hears(&self, node: NodeId, count: f64) {
        self.metric(node, "astlogger_phantoms{state=\"recording\"}", |busy| busy == count).await;
    }
}

fn nodes(record: &Recording) -> Vec<NodeId> {
    record.segments.iter().map(|segment| segment.node).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_recorders_registered_at_each_station_leave_one_recording() {
    let shape = Shape { settings: MR.to_owned(), ..Shape::hot_standby(6) };
    let mut bench = GroupBench::start(SiteConfig::demo(6, 2), &shape).await;
    for node in [ONE, TWO] {
        bench.metric(node, "astlogger_phantoms{state=\"free\"}", |free| free == 6.0).await;
    }
    let calls = bench.calls(3).await;
    bench.hears(ONE, 3.0).await;
    bench.go_on(&calls, 60).await;
    // A hold and its end do not make the standby think that nobody records.
    let switch = bench.group.site.switch();
    switch.hold("31001").expect("an active call");
    bench.go_on(&calls, 60).await;
    switch.retrieve("31001").expect("a held call");
    bench.go_on(&calls, 60).await;
    bench.records(TWO, 0.0).await;
    // One is on hold when the lead dies.
    switch.hold("31002").expect("an active call");
    bench.hears(ONE, 2.0).await;
    bench.kill(ONE).await;
    bench.hears(TWO, 2.0).await;
    bench.go_on(&calls, 60).await;
    switch.retrieve("31002").expect("a held call");
    bench.hears(TWO, 3.0).await;
    bench.go_on(&calls, 60).await;
    bench.hang_up(&calls);
    bench.run().await;
    let verdict = bench.assert_right(1).await;
    assert_eq!((verdict.calls_recorded, verdict.takeovers), (3, 1), "{verdict:?}");
    assert!(verdict.takeover_gap_ms_max < 6_000, "{verdict:?}");
    for (_, record) in bench.recordings() {
        let expected = match record.extension.as_str() {
            "31001" => vec![ONE, ONE, TWO],
            _ => vec![ONE, TWO],
        };
        assert_eq!(nodes(&record), expected, "{record:#?}");
        let missed = record.gaps.iter().filter(|gap| gap.cause == GapCause::Takeover);
        let missed: u64 = missed.map(|gap| gap.endms - gap.startms).sum();
        // The standby has heard the calls all the time; a hold is silent on both.
        let most = if record.extension.as_str() == "31002" { 6_000 } else { 100 };
        assert!(missed <= most, "{missed} ms: {record:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parallel_recorder_registered_at_each_station_leaves_a_second_file() {
    let shape = Shape { settings: MR.to_owned(), ..Shape::active_active(4) };
    let bench = GroupBench::start(SiteConfig::demo(4, 2), &shape).await;
    for node in [ONE, TWO] {
        bench.metric(node, "astlogger_phantoms{state=\"free\"}", |free| free == 4.0).await;
    }
    let calls = bench.calls(2).await;
    bench.hears(ONE, 2.0).await;
    bench.hears(TWO, 2.0).await;
    bench.go_on(&calls, 60).await;
    let switch = bench.group.site.switch();
    let consultation = switch.consult("31001", "31003").expect("an active call");
    assert!(switch.wait_alerting(consultation, LIMIT).await.is_some());
    switch.answer("31003").expect("it rings");
    bench.go_on(&calls, 60).await;
    switch.transfer("31001").expect("a held and an active call");
    bench.go_on(&calls[..1], 60).await;
    bench.hang_up(&calls);
    let verdict = bench.assert_right(2).await;
    assert_eq!((verdict.calls, verdict.voice_files), (3, 6), "{verdict:?}");
}

/// A site whose phantoms observe one station each.
async fn observing(stations: usize, change: impl FnOnce(&mut SiteConfig)) -> Bench {
    let mut config = SiteConfig::demo(stations, 1);
    config.phantoms[0].extensions = format!("78001-{}", 78_000 + stations);
    change(&mut config);
    let settings = "al_method = \"so\"\nal_observecode = \"*55\"\n";
    Bench::start_with(config, settings).await
}

impl Bench {
    /// Waits until so many phantoms observe their stations.
    async fn observers(&self, count: f64) {
        self.metric("astlogger_phantoms{state=\"free\"}", |free| free == count).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observer_hears_its_station_through_hold_and_transfer() {
    let bench = observing(6, |config| config.switches.observers_max = 2).await;
    bench.observers(6.0).await;
    let calls = bench.held_and_transferred().await;
    let view = bench.site.switch().call(calls[1]).expect("it is up");
    assert_eq!(view.recorders(), ["78004"], "31003 has left, and its observer with it: {view:?}");
    for call in calls {
        bench.site.switch().hangup_all(call);
    }
    bench.published(3).await;
    let verdict = bench.assert_right();
    assert_eq!((verdict.calls_recorded, verdict.packets_unaccounted), (3, 0), "{verdict:?}");
    let held = bench.of("5551230001");
    assert_eq!((devices(&held), causes(&held)), (vec!["78001"; 2], vec![GapCause::Hold]));
    let handed = bench.of("5551230002");
    assert_eq!((devices(&handed), causes(&handed)), (vec!["78003", "78004"], vec![GapCause::Hold]));
    bench.observers(6.0).await;
    assert_eq!(bench.metric("astlogger_calls_active", |_| true).await, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_call_takes_one_observer_the_one_that_hears_is_used() {
    let bench = observing(2, |_| {}).await;
    bench.observers(2.0).await;
    let switch = bench.site.switch();
    let call = switch.internal_call("31002", "31001").expect("free stations");
    assert!(switch.wait_alerting(call, LIMIT).await.is_some());
    switch.answer("31001").expect("it rings");
    bench.recordings(1.0).await;
    bench.hears_on(100.0).await;
    switch.hangup_all(call);
    bench.published(1).await;
    let verdict = bench.assert_right();
    assert_eq!((verdict.calls_recorded, verdict.packets_in_declared_gaps), (1, 0), "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_aes_loses_no_call_of_an_observer() {
    let bench = observing(3, |_| {}).await;
    bench.observers(3.0).await;
    restarted_aes_loses_no_call(bench).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observation_that_has_ended_unseen_is_dialled_again_in_mid_call() {
    let bench = observing(1, |_| {}).await;
    bench.observers(1.0).await;
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recorded(call).await;
    bench.hears_on(50.0).await;
    bench.site.faults().end_observing("78001");
    bench.recorded(call).await;
    bench.hears_on(100.0).await;
    bench.site.switch().hangup_all(call);
    let published = bench.published(1).await;
    let verdict = bench.assert_right();
    assert_eq!(verdict.packets_unaccounted, 0, "{verdict:?}");
    let record = &published[0].1;
    assert_eq!((record.segments.len(), record.gaps.len()), (2, 1), "{record:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_station_that_may_not_be_observed_is_named() {
    let barred = |config: &mut SiteConfig| {
        config.switches.not_observable = vec!["31002".to_owned()];
    };
    let bench = observing(2, barred).await;
    bench.metric("astlogger_phantoms{state=\"refused\"}", |count| count == 1.0).await;
    bench.observers(1.0).await;
    assert!(bench.log_tail().contains("observing"), "{}", bench.log_tail());
}
