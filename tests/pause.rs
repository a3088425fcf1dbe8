//! Pauses over real sockets: what is said in one is in no file of any node and in no memory of a running one,
//! whoever records the call and whoever goes on with it; and the record tells of it.

mod common;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use astlogger::demo::{Cti, Heard, Shape};
use common::group::{GroupBench, ONE, TWO};
use common::pauses::{NEAR, ask, assert_declared, pause, resume};
use common::traces::{assert_absent, codes_below, codes_in, each_memory};
use common::{Bench, LIMIT};
use serde_json::{Value, json};
use simulator::{CallRef, SiteConfig};
use storage_core::record::GapCause;
use tokio::time::{Instant, sleep};

/// Frames of a call before, in and after a pause: 1.2 s.
const SOME: u32 = 60;

/// Numbers of the frames of a call that can be read in everything that a process can write to.
fn codes_in_memory(pid: u32, call: CallRef) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    each_memory(pid, |bytes| found.extend(codes_in(bytes, call)));
    found
}

fn sent(bench: &Bench, call: CallRef) -> u32 {
    bench.site.switch().call(call).expect("it is up").frames
}

/// The next event of this type.
async fn event(cti: &mut Cti, eventtype: &str) -> Value {
    loop {
        if let Heard::Text(told) = cti.next().await.expect("an event")
            && told["eventtype"] == eventtype
        {
            return told;
        }
    }
}

/// How loud the only call is, once it is as loud as that.
async fn level(cti: &mut Cti, is_wanted: impl Fn(f64) -> bool) -> f64 {
    let deadline = Instant::now() + LIMIT;
    loop {
        let calls = cti.ask(json!({ "request": "listcalls" })).await.expect("a reply");
        let level = calls["calls"][0]["level"].as_f64();
        if let Some(level) = level.filter(|level| is_wanted(*level)) {
            return level;
        }
        assert!(Instant::now() < deadline, "{calls}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_in_a_pause_is_in_no_file_and_no_memory() {
    let bench = Bench::start(4).await;
    let mut cti = bench.cti("supervisor").await;
    let mut watcher = bench.cti("supervisor").await;
    let subscribed = json!({ "request": "subscribe", "events": ["recordings"] });
    watcher.ask(subscribed).await.expect("a reply");
    let nobody = ask(&mut cti, "pauserecording", "31001").await;
    assert_eq!(nobody["error"], "nocall", "{nobody}");
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recorded(call).await;
    bench.frames(call, SOME).await;
    assert!(level(&mut cti, |level| level > -45.0).await < 0.0);
    pause(&mut cti, "31001").await;
    let from = sent(&bench, call) + NEAR;
    let told = event(&mut watcher, "recordingpaused").await;
    assert_eq!(told["recorded"]["paused"], true, "{told}");
    bench.frames(call, from + SOME).await;
    assert_eq!(level(&mut cti, |_| true).await, -96.0, "a pause is silent");
    let again = ask(&mut cti, "pauserecording", "31001").await;
    assert_eq!(again["result"], "success", "{again}");
    assert!(again["pausedms"].as_u64().is_some_and(|ms| (1_000..3_000).contains(&ms)), "{again}");
    let calls = cti.ask(json!({ "request": "listcalls" })).await.expect("a reply");
    assert_eq!(calls["calls"][0]["recorded"]["paused"], true, "{calls}");
    bench.frames(call, from + 2 * SOME).await;
    let to = sent(&bench, call);
    let lasted = resume(&mut cti, "31001").await;
    event(&mut watcher, "recordingresumed").await;
    level(&mut cti, |level| level > -45.0).await;
    bench.frames(call, to + SOME).await;
    let pid = bench.node.pid().expect("it runs");
    let memory = codes_in_memory(pid, call);
    assert_absent(&memory, &(from..to), "memory");
    bench.site.switch().hangup_all(call);
    let published = bench.published(1).await;
    let files = codes_below(&bench.node.data_dir(), call);
    assert_absent(&files, &(from..to), "files");
    for heard in [&(10..SOME), &(to + 10..to + SOME)] {
        assert!(heard.clone().all(|frame| files.contains(&frame)), "{heard:?} of {files:?}");
    }
    let record = &published[0].1;
    assert_declared(record, "supervisor", lasted.saturating_sub(50)..lasted + 50);
    assert_eq!(record.quality.lossratio, 0.0, "{record:#?}");
    assert_eq!(record.segments.iter().map(|segment| segment.lost).sum::<u64>(), 0, "{record:#?}");
    assert!(record.durationms >= u64::from(to + SOME - 10) * 20, "{record:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_ends_by_itself_and_with_its_call() {
    let bench = Bench::start_with(SiteConfig::demo(4, 1), "al_maxpauses = 2\n").await;
    let mut cti = bench.cti("supervisor").await;
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recorded(call).await;
    bench.frames(call, SOME).await;
    pause(&mut cti, "31001").await;
    bench.frames(call, 4 * SOME).await;
    // The second one lasts to the end of the call.
    let reply = ask(&mut cti, "pauserecording", "31001").await;
    let paused = reply["pausedms"].as_u64().expect("a time");
    assert!((2_000..2_100).contains(&paused), "{reply}");
    bench.frames(call, 5 * SOME).await;
    bench.site.switch().hangup_all(call);
    let published = bench.published(1).await;
    let record = &published[0].1;
    let gaps: Vec<_> = record.gaps.iter().map(|gap| gap.cause).collect();
    assert_eq!(gaps, [GapCause::Paused, GapCause::Paused], "{record:#?}");
    assert_eq!(record.gaps[1].endms, record.durationms, "{record:#?}");
    assert!(record.complete && record.durationms >= 20 * u64::from(5 * SOME - 10), "{record:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_ends_no_pause() {
    let mut bench = Bench::start(4).await;
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recorded(call).await;
    bench.frames(call, SOME).await;
    let mut cti = bench.cti("supervisor").await;
    pause(&mut cti, "31001").await;
    let from = sent(&bench, call) + NEAR;
    bench.frames(call, from + SOME).await;
    bench.node.kill().await.expect("it runs");
    bench.node.start().expect("it starts");
    bench.node.ready(LIMIT).await.expect("it becomes ready");
    bench.recorded(call).await;
    let mut cti = bench.cti("supervisor").await;
    let on = sent(&bench, call);
    bench.frames(call, on + SOME).await;
    let to = sent(&bench, call);
    let lasted = resume(&mut cti, "31001").await;
    assert!(lasted >= u64::from(to - from) * 20, "{lasted} ms from {from} to {to}");
    let end = sent(&bench, call) + SOME;
    bench.frames(call, end).await;
    bench.site.switch().hangup_all(call);
    let published = bench.published(1).await;
    let files = codes_below(&bench.node.data_dir(), call);
    assert_absent(&files, &(from..to), "files");
    assert!((to + 10..end - 5).all(|frame| files.contains(&frame)), "{files:?}");
    let pauses = &published[0].1.pauses;
    assert_eq!(pauses.len(), 1, "{:#?}", published[0].1);
}

fn folders(bench: &GroupBench) -> Vec<PathBuf> {
    bench.group.members.values().map(|member| member.node.data_dir()).collect()
}

fn sent_in(bench: &GroupBench, call: CallRef) -> u32 {
    bench.group.site.switch().call(call).expect("it is up").frames
}

/// A call is paused at one node and resumed at another, when the lead was killed in between if `kill`; all
/// frames that were captured in either half are looked for everywhere.
async fn paused_in_a_group(mut bench: GroupBench, kill: bool, copies: usize) {
    let call = bench.call(0).await;
    bench.recorded_by(&[call], ONE).await;
    bench.recorded_by(&[call], TWO).await;
    bench.go_on(&[call], SOME).await;
    let mut cti = bench.cti(TWO, "supervisor").await;
    pause(&mut cti, "31001").await;
    let from = sent_in(&bench, call) + NEAR;
    bench.go_on(&[call], SOME).await;
    if kill {
        bench.kill(ONE).await;
        bench.metric(TWO, "astlogger_recordings_active", |count| count == 1.0).await;
        bench.go_on(&[call], SOME).await;
    }
    for member in bench.group.members.values() {
        if let Some(pid) = member.node.pid() {
            assert_absent(&codes_in_memory(pid, call), &(from..u32::MAX), "memory");
        }
    }
    let to = sent_in(&bench, call);
    let lasted = resume(&mut cti, "31001").await;
    assert!(lasted >= u64::from(to - from) * 20, "{lasted} ms from {from} to {to}");
    // On a busy machine the answer takes a while.
    let on = sent_in(&bench, call) + 10;
    bench.go_on(&[call], SOME).await;
    if kill {
        // It has heard of no end of the pause, and must not bring it back.
        bench.run().await;
        bench.go_on(&[call], 2 * SOME).await;
    }
    let end = sent_in(&bench, call);
    bench.hang_up(&[call]);
    bench.published(copies).await;
    bench.quiet().await;
    for dir in folders(&bench) {
        assert_absent(&codes_below(&dir, call), &(from..to), &dir.display().to_string());
    }
    for (path, record) in bench.recordings() {
        let heard = codes_in(&std::fs::read(path).expect("a voice file"), call);
        let lacks: Vec<_> = (on..end - 5).filter(|frame| !heard.contains(frame)).collect();
        assert!(lacks.is_empty(), "{from}-{to}, {on}-{end}: {lacks:?}");
        assert_declared(&record, "supervisor", lasted.saturating_sub(100)..lasted + 100);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_takeover_in_a_pause_stays_paused() {
    let settings = "al_standbyring = \"30s\"\nal_maxparties = 7\n".to_owned();
    let shape = Shape { settings, ..Shape::hot_standby(4) };
    let config = SiteConfig { max_parties: 7, ..SiteConfig::demo(4, 2) };
    paused_in_a_group(GroupBench::start(config, &shape).await, true, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_copies_are_paused() {
    paused_in_a_group(GroupBench::active_active(4).await, false, 2).await;
}

/// Waits until so many record the only call, and each says that it is paused.
async fn all_paused(cti: &mut Cti, count: usize) {
    let deadline = Instant::now() + LIMIT;
    loop {
        let calls = cti.ask(json!({ "request": "listcalls" })).await.expect("a reply");
        let by = calls["calls"][0]["recordedby"].as_array().cloned().unwrap_or_default();
        if by.len() == count && by.iter().all(|one| one["paused"] == true) {
            return;
        }
        assert!(Instant::now() < deadline, "{calls}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_cannot_be_told_is_named_and_told_later() {
    let bench = GroupBench::active_active(4).await;
    let call = bench.call(0).await;
    bench.recorded_by(&[call], ONE).await;
    bench.recorded_by(&[call], TWO).await;
    bench.go_on(&[call], SOME).await;
    let mut cti = bench.cti(ONE, "supervisor").await;
    // It hears the call and answers nobody.
    bench.pause(TWO);
    let reply = ask(&mut cti, "pauserecording", "31001").await;
    assert_eq!(
        (&reply["result"], &reply["error"]),
        (&json!("fail"), &json!("unavailable")),
        "{reply}"
    );
    assert!(reply["message"].as_str().is_some_and(|text| text.contains("node 2")), "{reply}");
    let since = sent_in(&bench, call) + NEAR;
    bench.resume(TWO);
    // Nobody has to ask again for that.
    all_paused(&mut cti, 2).await;
    let reply = ask(&mut cti, "pauserecording", "31001").await;
    assert_eq!(reply["result"], "success", "{reply}");
    let from = sent_in(&bench, call) + NEAR;
    bench.go_on(&[call], SOME).await;
    bench.hang_up(&[call]);
    bench.published(2).await;
    bench.quiet().await;
    for dir in folders(&bench) {
        assert_absent(&codes_below(&dir, call), &(from..u32::MAX), &dir.display().to_string());
    }
    // Who was told at once has nothing of it from then on; the other one from when it heard of it.
    for (path, record) in bench.recordings() {
        let from = if record.node == ONE { since } else { from };
        let heard = codes_in(&std::fs::read(&path).expect("a voice file"), call);
        assert_absent(&heard, &(from..u32::MAX), &path.display().to_string());
        let pauses: Vec<_> = record.gaps.iter().map(|gap| gap.cause).collect();
        assert_eq!(pauses, [GapCause::Paused], "{record:#?}");
    }
}
