//! The day's completeness against real calls: what was recorded, in part, excluded and missed, told by
//! command, WebSocket and HTTP, over a takeover and with recorders away.

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use astlogger::demo::{self, Cti, DueCall, Shape};
use common::Bench;
use common::group::{GroupBench, TWO};
use serde_json::{Value, json};
use simulator::SiteConfig;

/// Frames of a call before and after something happens.
const SOME: u32 = 60;
/// An answer that holds is waited for so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// `astlogger report --json`.
async fn report(config: &Path) -> Value {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_astlogger"))
        .args(["report", "--json", "--config"])
        .arg(config)
        .output()
        .await
        .expect("the command runs");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    serde_json::from_str(text.lines().last().expect("a line")).expect("JSON")
}

/// The report once it is so: calls are written down, and recordings published, some time after.
async fn report_when(config: &Path, holds: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let told = report(config).await;
        if holds(&told) {
            return told;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {told:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn asked(cti: &mut Cti, request: Value) -> Value {
    cti.ask(request).await.expect("a reply")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_call_of_the_day_is_accounted_for() {
    let mut config = SiteConfig::demo(4, 1);
    config.phantoms[0].extensions = "78001".to_owned();
    let dir = tempfile::tempdir().expect("a temporary folder");
    let console = dir.path().join("console");
    let rules = "[[al_rule]]\nname = \"private\"\nrecord = \"never\"\nextension = [\"31004\"]\n\
                 [[al_rule]]\nname = \"rest\"\nrecord = \"always\"\n";
    let settings = format!("al_consolelisten = {:?}\n{rules}", console.display().to_string());
    let bench = Bench::start_with(config, &settings).await;
    let recorded = bench.answered_call("5551230001", "31001").await;
    bench.recorded(recorded).await;
    // There is no phantom for it; nor is one to be for the third.
    let missed = bench.answered_call("5551230002", "31002").await;
    let private = bench.answered_call("5551230004", "31004").await;
    bench.frames(recorded, 120).await;
    for call in [missed, private, recorded] {
        bench.site.switch().hangup_all(call);
    }
    bench.published(1).await;
    let whole = |told: &Value| told["calls"] == 3 && told["recorded"] == 1;
    let told = report_when(&bench.node.config_path(), whole).await;
    let counts = ["recorded", "partial", "excluded", "missed"].map(|name| told[name].clone());
    assert_eq!(counts, [1, 0, 1, 1].map(Value::from), "{told:#}");
    let lacking = &told["lacking"][0];
    assert_eq!((&lacking["outcome"], &lacking["rule"]), (&json!("missed"), &json!("rest")));
    let ms = lacking["missingms"]["nophantom"].as_u64().expect("the cause is named");
    assert!(ms > 1_000 && told["missingms"]["nophantom"] == ms, "{told:#}");

    let mut qa = bench.cti("qa").await;
    let reply = asked(&mut qa, json!({"request": "completeness"})).await;
    assert_eq!((&reply["result"], &reply["missed"]), (&json!("success"), &json!(1)), "{reply}");
    let yesterday = json!({"request": "completeness", "day": "2020-02-30"});
    assert_eq!(asked(&mut qa, yesterday).await["error"], "badvalue");
    let long_ago = json!({"request": "completeness", "day": "2020-02-29"});
    assert_eq!(asked(&mut qa, long_ago).await["calls"], 0);
    let (status, _) = bench.node.get("/api/completeness").await.expect("HTTP");
    assert_eq!(status, 401);
}

/// Somebody pauses a call while its phantom is let in, and nobody resumes it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_was_paused_from_begin_to_end_is_not_missed() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let console = dir.path().join("console");
    let settings = format!("al_consolelisten = {:?}\n", console.display().to_string());
    let bench = Bench::start_with(SiteConfig::demo(2, 1), &settings).await;
    let mut cti = bench.cti("supervisor").await;
    bench.site.faults().delay_requests(0, 400);
    let call = bench.answered_call("5551230001", "31001").await;
    let deadline = Instant::now() + PATIENCE;
    while common::pauses::ask(&mut cti, "pauserecording", "31001").await["result"] != "success" {
        assert!(Instant::now() < deadline, "{}", bench.log_tail());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bench.recorded(call).await;
    bench.frames(call, 2 * SOME).await;
    bench.site.switch().hangup_all(call);
    let told = report_when(&bench.node.config_path(), |told| told["calls"] == 1).await;
    let counts = ["excluded", "paused", "missed", "pending"].map(|name| told[name].clone());
    assert_eq!(counts, [1, 1, 0, 0].map(Value::from), "{told:#}");
    assert_eq!((&told["duems"], &told["lacking"]), (&json!(0), &json!([])), "{told:#}");
    bench.metric("astlogger_calls_active", |active| active == 0.0).await;
    let metrics = bench.node.metrics().await.expect("metrics");
    let missed: Vec<_> = metrics.iter().filter(|(name, _)| name.contains("calls_missed")).collect();
    assert!(missed.iter().all(|(_, count)| **count == 0.0), "{missed:?}");
    assert_eq!(bench.node.recordings().expect("records can be read").len(), 0);
}

/// What the report says is missing of a call, milliseconds; `None` if it says that nothing is.
fn told_missing(told: &Value, call: &DueCall) -> Option<u64> {
    let lacking = told["lacking"].as_array().expect("a list");
    let ucid = json!(call.ucids[0]);
    let of_it = lacking.iter().find(|lacking| lacking["ucid"] == ucid)?;
    Some(of_it["missingms"].as_object()?.values().filter_map(Value::as_u64).sum())
}

/// One packet in a hundred is lost on its way, one call in fifty hears nothing for a while, and another one
/// finds no phantom: each of these is told, by call and to the frame, and nothing else is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_faults_in_a_hundredth_of_all_the_report_finds_each() {
    const CALLS: usize = 50;
    const FRAMES: u32 = 400;
    let dir = tempfile::tempdir().expect("a temporary folder");
    let console = dir.path().join("console");
    let settings = format!("al_consolelisten = {:?}\n", console.display().to_string());
    let bench = Bench::start_with(SiteConfig::demo(CALLS + 1, 1), &settings).await;
    let (switch, faults) = (bench.site.switch(), bench.site.faults());
    let mut calls = Vec::new();
    for number in 1..=CALLS {
        let caller = format!("55512{number:05}");
        calls.push(bench.answered_call(&caller, &format!("31{number:03}")).await);
    }
    for call in &calls {
        bench.recorded(*call).await;
    }
    faults.drop_rtp(0.01);
    let begun = switch.call(calls[CALLS - 1]).expect("it is up").frames;
    bench.frames(calls[CALLS - 1], begun + FRAMES / 2).await;
    let mute = switch.call(calls[0]).expect("it is up").recorders()[0].to_owned();
    faults.mute_phantom(&mute, 25);
    bench.frames(calls[CALLS - 1], begun + FRAMES).await;
    faults.drop_rtp(0.0);
    // The last packets arrive: what is lost behind them nobody could know of.
    bench.frames(calls[CALLS - 1], begun + FRAMES + 25).await;
    for call in &calls {
        switch.hangup_all(*call);
    }
    bench.published(CALLS).await;
    faults.refuse_joins(0, u32::MAX);
    let refused = bench.answered_call("5551299999", &format!("31{:03}", CALLS + 1)).await;
    bench.frames(refused, 60).await;
    switch.hangup_all(refused);

    let all = |told: &Value| told["calls"] == CALLS + 1 && told["pending"] == 0;
    let told = report_when(&bench.node.config_path(), all).await;
    assert_eq!((&told["missed"], &told["excluded"]), (&json!(1), &json!(0)), "{told:#}");
    let published = bench.node.recordings().expect("records can be read");
    let mut lost = 0;
    for call in demo::due_calls(&bench.site.history(), |call| call.answered) {
        let truth =
            demo::judge(std::slice::from_ref(&call), &published).expect("files can be read");
        let missing = 20 * (truth.packets_sent - truth.packets_in_files);
        let named = told_missing(&told, &call);
        lost += missing;
        match named {
            None => assert_eq!((missing, truth.calls_missed), (0, 0), "{call:?}: {told:#}"),
            Some(ms) if truth.calls_missed == 1 => assert!(ms >= 1_000, "{call:?}: {told:#}"),
            // Each hole is told in whole milliseconds.
            Some(ms) => {
                assert!(ms.abs_diff(missing) <= missing / 20, "{missing} of {call:?}: {told:#}");
            }
        }
    }
    assert!(lost >= CALLS as u64 * 20, "too little was lost to prove anything: {lost} ms");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_takeovers_hole_is_missing_and_nothing_else_is() {
    let shape = Shape { consoles: true, ..Shape::hot_standby(4) };
    let mut bench = GroupBench::start(SiteConfig::demo(4, 2), &shape).await;
    bench.takes_over_slowly(TWO);
    let calls = bench.taken_over(3, SOME).await;
    bench.hang_up(&calls);
    bench.published(3).await;
    let config = bench.group.members[&TWO].node.config_path();
    // Who was killed cannot be asked, and that is said.
    let told = report_when(&config, |told| told["calls"] == 3 && told["missed"] == 0).await;
    assert_eq!(told["unreachable"][0]["node"], 1, "{told:#}");
    bench.run().await;
    let verdict = bench.assert_right(1).await;
    let complete = |told: &Value| told["partial"] == 3 && told["unreachable"].is_null();
    let told = report_when(&config, complete).await;
    let causes: Vec<_> = told["missingms"].as_object().expect("causes").keys().collect();
    assert_eq!(causes, ["takeover"], "{told:#}");
    let holes: u64 = bench
        .recordings()
        .iter()
        .flat_map(|(_, record)| record.gaps.iter().map(|gap| gap.endms - gap.startms))
        .sum();
    let missing = told["missingms"]["takeover"].as_u64().expect("milliseconds");
    assert!(missing.abs_diff(holes) <= 6, "{missing} ms are told, {holes} are in the records");
    assert_eq!(verdict.calls, 3);
}
