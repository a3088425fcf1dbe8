//! Agents who sit anywhere (`al_agents`), over real sockets: their calls are recorded at whichever station they
//! log in, no others are, over log-offs in the midst of a call, outages, crashes and takeovers.

mod common;

use std::time::Duration;

use astlogger::demo::Shape;
use common::group::{GroupBench, ONE, TWO};
use common::{Bench, LIMIT, answered_call};
use simulator::{AgentState, CallRef, FinishedCall, Site, SiteConfig};

/// No station is named, and of the agents one.
const SETTINGS: &str = "al_agents = [\"7003\"]\n";
const PRESENT: &str = "astlogger_agents_present";

/// Everybody but 7001 is logged out.
fn log_all_out(site: &Site) {
    for agent in ["7002", "7003", "7004"] {
        log_out(site, agent);
    }
}

fn log_out(site: &Site, agent: &str) {
    site.switch().set_agent(agent, AgentState::LoggedOff).expect("there is such an agent");
}

fn log_in(site: &Site, agent: &str, station: &str) {
    site.switch().log_on(agent, station).expect("he is logged out, and the station is free");
}

async fn bench() -> Bench {
    let bench = Bench::prepare_monitoring(SiteConfig::demo(4, 1), 0, SETTINGS).await;
    log_all_out(&bench.site);
    bench
}

async fn present(bench: &Bench, count: f64) {
    bench.metric(PRESENT, |value| (value - count).abs() < 0.5).await;
}

/// The call goes on for so many more frames.
async fn go_on(bench: &Bench, call: CallRef, frames: u32) {
    let so_far = bench.site.switch().call(call).expect("it is up").frames;
    bench.frames(call, so_far + frames).await;
}

/// A call of somebody who is not followed goes on for so long, and nobody joins it.
async fn passes_by(bench: &Bench, call: CallRef) {
    bench.frames(call, 75).await;
    let view = bench.site.switch().call(call).expect("it is up");
    assert_eq!(view.recorders(), [""; 0], "{}", bench.log_tail());
    bench.site.switch().hangup_all(call);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_recorded_wherever_he_logs_in_and_no_longer_than_that() {
    let bench = bench().await.started().await;
    present(&bench, 0.0).await;
    passes_by(&bench, bench.answered_call("5551230001", "31002").await).await;

    log_in(&bench.site, "7003", "31002");
    present(&bench, 1.0).await;
    let others = bench.answered_call("5551230002", "31001").await;
    let own = bench.answered_call("5551230003", "31002").await;
    bench.recorded(own).await;
    passes_by(&bench, others).await;
    // He logs out in the midst of it.
    log_out(&bench.site, "7003");
    present(&bench, 0.0).await;
    bench.frames(own, 150).await;
    bench.site.switch().hangup_all(own);
    let published = bench.published(1).await;
    let record = &published[0].1;
    assert_eq!((record.extension.as_str(), record.agentid.as_str()), ("31002", "7003"));

    log_in(&bench.site, "7004", "31002");
    passes_by(&bench, bench.answered_call("5551230004", "31002").await).await;
    log_in(&bench.site, "7003", "31003");
    present(&bench, 1.0).await;
    let next = bench.answered_call("5551230005", "31003").await;
    bench.recorded(next).await;
    bench.frames(next, 50).await;
    bench.site.switch().hangup_all(next);
    bench.published(2).await;
    let due = |call: &FinishedCall| ["5551230003", "5551230005"].contains(&call.calling.as_str());
    let verdict = bench.judge_by(due);
    assert!(verdict.is_right(), "{verdict:#?}\n{}", bench.log_tail());
    assert_eq!((verdict.calls, verdict.voice_files), (2, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_logged_in_while_nobody_looked_is_found_with_his_call() {
    let mut bench = bench().await.started().await;
    bench.site.faults().cut_aes(0, Duration::from_secs(2));
    bench.metric("astlogger_aes_up", |up| up == 0.0).await;
    log_in(&bench.site, "7003", "31002");
    let call = bench.answered_call("5551230001", "31002").await;
    bench.recorded(call).await;
    present(&bench, 1.0).await;
    go_on(&bench, call, 100).await;
    // A recorder that crashes knows nobody; the call goes on as the same recording.
    bench.node.kill().await.expect("it runs");
    go_on(&bench, call, 25).await;
    bench.node.start().expect("the node starts");
    bench.node.ready(LIMIT).await.expect("the node becomes ready");
    bench.recorded(call).await;
    present(&bench, 1.0).await;
    go_on(&bench, call, 75).await;
    bench.site.switch().hangup_all(call);
    let published = bench.published(1).await;
    let verdict = bench.assert_right();
    assert_eq!((verdict.calls, verdict.voice_files), (1, 1));
    let record = &published[0].1;
    assert_eq!((record.extension.as_str(), record.agentid.as_str()), ("31002", "7003"));
    assert!(record.segments.len() >= 2, "{record:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_takes_his_call_over_and_there_is_one_file() {
    let shape = Shape { settings: SETTINGS.to_owned(), ..Shape::hot_standby(0) };
    let mut bench = GroupBench::prepare(SiteConfig::demo(4, 2), &shape).await;
    log_all_out(&bench.group.site);
    bench.run().await;
    bench.leads_steadily(ONE).await;
    log_in(&bench.group.site, "7003", "31002");
    for node in [ONE, TWO] {
        bench.metric(node, PRESENT, |value| value > 0.5).await;
    }
    let call = answered_call(&bench.group.site, "5551230001", "31002").await;
    bench.recorded_by(&[call], ONE).await;
    bench.go_on(&[call], 50).await;
    log_out(&bench.group.site, "7003");
    bench.metric(TWO, PRESENT, |value| value < 0.5).await;
    bench.kill(ONE).await;
    bench.recorded_by(&[call], TWO).await;
    bench.go_on(&[call], 50).await;
    bench.hang_up(&[call]);
    bench.run().await;
    let verdict = bench.assert_right(1).await;
    assert_eq!(verdict.calls, 1);
    let recordings = bench.recordings();
    let record = &recordings[0].1;
    assert_eq!((record.extension.as_str(), record.agentid.as_str()), ("31002", "7003"));
}
