//! A full disk: the data folder lies on a small file system of its own, mounted where nobody else
//! sees it. Calls and everything else go on; what is not written is declared.

mod common;

use std::path::Path;
use std::time::Duration;

use astlogger::demo::{self, Node};
use astlogger::users::{self, UserRole};
use common::small_disk::{SmallDisk, skipped};
use common::{Bench, LIMIT, PASSWORD};
use serde_json::json;
use simulator::SiteConfig;
use storage_core::record::GapCause;

/// Room for the journal's reserve, the catalog and some minutes of audio.
const DISK_BYTES: usize = 40 << 20;

/// A site whose recorder writes to a small disk.
async fn bench_on(disk: &SmallDisk) -> Bench {
    let mut bench = Bench::prepare(SiteConfig::demo(8, 1), "").await;
    let stations = bench.site.config().station_list().expect("valid").len();
    let settings = demo::recorder_settings(&bench.site, stations).expect("ports are free");
    let binary = Path::new(env!("CARGO_BIN_EXE_astlogger"));
    bench.node = Node::prepare(binary, &disk.node, &settings).expect("writable");
    let file = bench.node.users_path();
    users::add(&file, "supervisor", UserRole::Supervisor, None, None, PASSWORD).expect("a user");
    bench.started().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_told_declared_and_recovered_from() {
    let Some(disk) = SmallDisk::mount(DISK_BYTES).await else { return skipped() };
    let bench = bench_on(&disk).await;
    let switch = bench.site.switch();
    let through = bench.answered_call("5551230001", "31001").await;
    let ends = bench.answered_call("5551230002", "31002").await;
    for call in [through, ends] {
        bench.recorded(call).await;
    }
    bench.frames(ends, 60).await;
    disk.fill();
    let alarm = "astlogger_alarms{alarm=\"diskfull\"}";
    bench.metric(alarm, |raised| raised == 1.0).await;
    let (status, body) = bench.node.get("/readyz").await.expect("an answer");
    assert!(status == 503 && body.contains("disk"), "{status} {body}");
    // While it is full one call ends, one begins, people sign in and look.
    switch.hangup_all(ends);
    let begins = bench.answered_call("5551230003", "31003").await;
    bench.recorded(begins).await;
    let mut cti = bench.cti("supervisor").await;
    let calls = cti.ask(json!({"request": "listcalls"})).await.expect("a reply");
    assert_eq!(calls["result"], "success", "{calls}");
    assert_eq!(bench.node.get("/healthz").await.expect("an answer").0, 200);
    let now = switch.call(through).expect("it is up").frames;
    bench.frames(through, now + 100).await;
    disk.free();
    let deadline = tokio::time::Instant::now() + LIMIT;
    while bench.node.get("/readyz").await.expect("an answer").0 != 200 {
        assert!(tokio::time::Instant::now() < deadline, "{}", bench.log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let after = bench.answered_call("5551230004", "31004").await;
    bench.recorded(after).await;
    bench.frames(after, 60).await;
    for call in [through, begins, after] {
        switch.hangup_all(call);
    }
    let published = bench.published(4).await;
    let verdict = bench.assert_right();
    assert_eq!((verdict.calls_recorded, verdict.recordings_published), (4, 4), "{verdict:?}");
    assert!(verdict.packets_in_declared_gaps > 100, "{verdict:?}");
    for caller in ["5551230001", "5551230003"] {
        let found = published.iter().find(|(_, record)| record.calling == caller);
        let gaps = &found.expect("its recording").1.gaps;
        assert!(gaps.iter().any(|gap| gap.cause == GapCause::DiskFull), "{caller}: {gaps:?}");
    }
    let metrics = bench.node.metrics().await.expect("an answer");
    assert_eq!(metrics[alarm], 0.0, "still raised");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_killed_on_a_full_disk_starts_and_loses_nothing_written() {
    let Some(disk) = SmallDisk::mount(DISK_BYTES).await else { return skipped() };
    let mut bench = bench_on(&disk).await;
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recorded(call).await;
    bench.frames(call, 100).await;
    disk.fill();
    bench.metric("astlogger_alarms{alarm=\"diskfull\"}", |raised| raised == 1.0).await;
    bench.node.kill().await.expect("it runs");
    bench.site.switch().hangup_all(call);
    // Where not even the catalog can be opened the node says so and records without.
    bench.node.start().expect("the node starts");
    bench.metric("astlogger_alarms{alarm=\"catalog\"}", |raised| raised == 1.0).await;
    assert!(bench.log_tail().contains("no room left for the catalog"), "{}", bench.log_tail());
    disk.free();
    bench.node.ready(LIMIT).await.expect("the node becomes ready");
    let next = bench.answered_call("5551230002", "31002").await;
    bench.recorded(next).await;
    bench.frames(next, 60).await;
    bench.site.switch().hangup_all(next);
    bench.published(2).await;
    let verdict = bench.assert_right();
    assert_eq!((verdict.calls_recorded, verdict.recordings_published), (2, 2), "{verdict:?}");
}
