//! Real kills of a real process: what was captured is in a file afterwards, a call that is still up
//! goes on as the same recording, and a full disk stops nothing but the writing.

mod common;

use std::time::Duration;

use common::{Bench, LIMIT};
use simulator::SiteConfig;
use storage_core::record::GapCause;
use tokio::time::sleep;

/// What `astlogger verify` says of the node's data folder; everything is in order.
async fn verified(bench: &Bench) -> String {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_astlogger"))
        .arg("verify")
        .arg(bench.node.data_dir())
        .output()
        .await
        .expect("the command runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_kill_and_restart_a_call_that_is_still_up_is_one_recording() {
    let mut bench = Bench::start(4).await;
    let stays = bench.answered_call("5551230001", "31001").await;
    let ends = bench.answered_call("5551230002", "31002").await;
    for call in [stays, ends] {
        bench.recorded(call).await;
    }
    bench.frames(stays, 100).await;
    bench.node.kill().await.expect("it runs");
    // One call ends and one begins while there is no recorder.
    bench.site.switch().hangup_all(ends);
    let begins = bench.answered_call("5551230003", "31003").await;
    bench.frames(stays, 150).await;
    bench.node.start().expect("the node starts");
    bench.node.ready(LIMIT).await.expect("the node becomes ready");
    for call in [stays, begins] {
        bench.recorded(call).await;
    }
    bench.frames(begins, 200).await;
    for call in [stays, begins] {
        bench.site.switch().hangup_all(call);
    }
    let published = bench.published(3).await;
    let verdict = bench.assert_right();
    assert_eq!((verdict.calls, verdict.calls_recorded), (3, 3));
    let (_, record) = published
        .iter()
        .find(|(_, record)| record.calling == "5551230001")
        .expect("the call that stayed");
    assert!(record.segments.len() >= 2, "{record:#?}");
    assert!(record.gaps.iter().any(|gap| gap.cause == GapCause::Takeover), "{:?}", record.gaps);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_at_any_moment_leave_only_files_that_play() {
    let mut bench = Bench::start(6).await;
    for round in 0..4_u64 {
        let mut calls = Vec::new();
        for lane in 0..3 {
            let caller = format!("5551230{round}{lane}0");
            calls.push(bench.answered_call(&caller, &format!("{}", 31001 + lane)).await);
        }
        for call in &calls {
            bench.recorded(*call).await;
            bench.frames(*call, 30).await;
        }
        // A different moment each time: sealing, capturing, joining.
        bench.site.switch().hangup_all(calls[0]);
        sleep(Duration::from_millis(round * 37)).await;
        bench.node.kill().await.expect("it runs");
        bench.node.start().expect("the node starts");
        bench.node.ready(LIMIT).await.expect("the node becomes ready");
        for call in &calls[1..] {
            bench.recorded(*call).await;
            bench.frames(*call, 100).await;
        }
        for call in &calls[1..] {
            bench.site.switch().hangup_all(*call);
        }
        bench.published(usize::try_from(round).expect("small") * 3 + 3).await;
    }
    let verdict = bench.assert_right();
    assert_eq!((verdict.calls, verdict.recordings_published), (12, 12));
    bench.node.stop(LIMIT).await.expect("it stops");
    let said = verified(&bench).await;
    // All of them have a line, and the last checkpoint covers it.
    assert!(said.contains("(0 lines after the last), 0 faults"), "{said}");
    assert!(!said.contains("older than the manifest"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recover_seals_what_a_crash_left_without_a_node() {
    let mut bench = Bench::start(2).await;
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recorded(call).await;
    bench.frames(call, 100).await;
    bench.node.kill().await.expect("it runs");
    assert_eq!(bench.node.recordings().expect("readable").len(), 0);
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_astlogger"))
        .args(["recover", "--dir"])
        .arg(bench.node.data_dir())
        .output()
        .await
        .expect("the command runs");
    assert!(output.status.success(), "{output:?}");
    let published = bench.node.recordings().expect("readable");
    assert_eq!(published.len(), 1, "{output:?}");
    assert!(published[0].1.durationms > 1500, "{:?}", published[0].1);
    let said = verified(&bench).await;
    assert!(said.contains("(0 lines after the last), 0 faults"), "{said}");
    bench.site.switch().hangup_all(call);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_aes_hanging_for_a_while_loses_no_audio() {
    let bench = Bench::start_with(SiteConfig::demo(3, 1), "").await;
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recorded(call).await;
    bench.site.faults().hang_aes(0, Duration::from_secs(3));
    bench.frames(call, 250).await;
    bench.site.switch().hangup_all(call);
    bench.published(1).await;
    bench.assert_right();
}
