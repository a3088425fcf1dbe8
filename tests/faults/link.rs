//! The session, its socket and what the AES keeps for it are lost in all ways.

use std::time::Duration;

use simulator::{Site, SiteConfig};
use tokio::time::{Instant, sleep};

use crate::common::{Bench, LIMIT};
use crate::{edit, settled, short_sessions, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_of_the_aes_is_tried_slowly_and_told_once() {
    let mut bench = Bench::prepare(SiteConfig::demo(1, 1), "").await;
    edit(&bench, "al_aespassword = \"Secret1!\"", "al_aespassword = \"wrong\"");
    bench.node.start().expect("the node starts");
    until(&bench, "a login is refused", || bench.site.aes_counters(0).logins_refused > 0).await;
    bench.metric("astlogger_alarms{alarm=\"aescredentials\"}", |raised| raised == 1.0).await;
    let (status, body) = bench.node.get("/readyz").await.expect("an answer");
    assert_eq!(status, 503);
    assert!(body.contains("login") || body.contains("al_aespassword"), "{body}");
    // The second attempt comes after 5 s at the soonest, the third 10 s later.
    sleep(Duration::from_secs(4)).await;
    assert_eq!(bench.site.aes_counters(0).logins_refused, 1);
    until(&bench, "it is tried again", || bench.site.aes_counters(0).logins_refused == 2).await;
    let log = std::fs::read_to_string(bench.node.log_path()).expect("a log");
    assert_eq!(log.matches("aescredentials").count(), 1, "{log}");
    assert!(!log.contains("wrong\""), "the password is in the log");
    bench.node.stop(LIMIT).await.expect("an orderly end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_cuts_in_a_row_and_an_ended_session_lose_no_call() {
    let bench = Bench::start(6).await;
    let first = bench.answered_call("5551230001", "31001").await;
    bench.recorded(first).await;
    let faults = bench.site.faults();
    faults.cut_aes(0, Duration::from_millis(300));
    until(&bench, "it is back", || bench.site.clients(0) == 1).await;
    faults.cut_aes(0, Duration::from_millis(900));
    let second = bench.answered_call("5551230002", "31002").await;
    bench.recorded(second).await;
    faults.end_sessions(0);
    let third = bench.answered_call("5551230003", "31003").await;
    for call in [first, second, third] {
        bench.recorded(call).await;
    }
    bench.frames(third, 150).await;
    for call in [first, second, third] {
        bench.site.switch().hangup_all(call);
    }
    settled(&bench).await;
    let verdict = bench.assert_right();
    assert_eq!((verdict.calls_recorded, verdict.recordings_published), (3, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_longer_than_the_clean_up_delay_is_one_recording_with_a_gap() {
    let bench = Bench::start_with(short_sessions(4, 3), "").await;
    let first = bench.answered_call("5551230001", "31001").await;
    bench.recorded(first).await;
    bench.frames(first, 50).await;
    bench.site.faults().cut_aes(0, Duration::from_secs(5));
    // The AES gives the phantoms up after 3 s.
    let phantom = bench.site.config().phantom_list().expect("valid")[0].0.clone();
    until(&bench, "phantoms are given up", || bench.site.registrations(&phantom) == 0).await;
    let second = bench.answered_call("5551230002", "31002").await;
    for call in [first, second] {
        bench.recorded(call).await;
    }
    let (now, _) = (bench.site.switch().call(first).expect("up").frames, ());
    bench.frames(first, now + 100).await;
    for call in [first, second] {
        bench.site.switch().hangup_all(call);
    }
    settled(&bench).await;
    let verdict = bench.assert_right();
    assert_eq!((verdict.calls_recorded, verdict.recordings_published), (2, 2));
    let published = bench.node.recordings().expect("readable");
    let cut = published.iter().find(|(_, record)| record.calling == "5551230001");
    let record = &cut.expect("a recording").1;
    assert!(record.segments.len() >= 2 && !record.gaps.is_empty(), "{record:#?}");
    assert_eq!(bench.site.aes_counters(0).sessions_started, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_monitors_and_a_restarted_aes_lose_no_call() {
    let bench = Bench::start(6).await;
    let faults = bench.site.faults();
    let first = bench.answered_call("5551230001", "31001").await;
    bench.recorded(first).await;
    faults.drop_monitors(0, 1000);
    let second = bench.answered_call("5551230002", "31002").await;
    bench.recorded(second).await;
    bench.frames(first, 100).await;
    faults.restart_aes(0, Duration::from_millis(500));
    let third = bench.answered_call("5551230003", "31003").await;
    for call in [first, second, third] {
        bench.recorded(call).await;
    }
    bench.frames(third, 200).await;
    for call in [first, second, third] {
        bench.site.switch().hangup_all(call);
    }
    settled(&bench).await;
    let verdict = bench.assert_right();
    assert_eq!((verdict.calls_recorded, verdict.recordings_published), (3, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_began_while_the_switch_link_was_down_are_found() {
    let bench = Bench::start(4).await;
    let first = bench.answered_call("5551230001", "31001").await;
    let over = bench.answered_call("5551230002", "31002").await;
    for call in [first, over] {
        bench.recorded(call).await;
    }
    bench.site.faults().set_tlink(0, false);
    bench.metric("astlogger_alarms{alarm=\"ctilinkdown\"}", |raised| raised == 1.0).await;
    let second = bench.answered_call("5551230003", "31003").await;
    bench.site.switch().hangup_all(over);
    bench.frames(second, 50).await;
    bench.site.faults().set_tlink(0, true);
    bench.recorded(second).await;
    bench.frames(second, 150).await;
    for call in [first, second] {
        bench.site.switch().hangup_all(call);
    }
    settled(&bench).await;
    let verdict = bench.assert_right();
    assert_eq!((verdict.calls_recorded, verdict.recordings_published), (3, 3));
    let metrics = bench.node.metrics().await.expect("an answer");
    assert_eq!(metrics["astlogger_alarms{alarm=\"ctilinkdown\"}"], 0.0, "still raised");
}

/// A site whose AES speaks TLS, and what its recorder needs to trust it.
async fn tls_bench() -> (Bench, tempfile::TempDir) {
    let mut config = SiteConfig::demo(2, 1);
    config.aes[0].tls = true;
    let bench = Bench::prepare(config, "").await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, bench.site.tls_ca_pem(0)).expect("writable");
    let with_ca = format!("al_aestls = true\nal_aesca = \"{}\"", ca.display());
    edit(&bench, "al_aestls = false", &with_ca);
    (bench, folder)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_recorded_through_tls_with_an_own_authority() {
    let (bench, _folder) = tls_bench().await;
    let bench = bench.started().await;
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recorded(call).await;
    bench.frames(call, 50).await;
    bench.site.switch().hangup_all(call);
    settled(&bench).await;
    assert_eq!(bench.assert_right().calls_recorded, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_authority_or_name_is_told_with_its_parameter() {
    let (mut bench, folder) = tls_bench().await;
    let other = Site::start(SiteConfig::demo(1, 1)).await.expect("another site");
    std::fs::write(folder.path().join("ca.pem"), other.tls_ca_pem(0)).expect("writable");
    bench.node.start().expect("the node starts");
    reason_given(&bench, &["al_aesca"]).await;
    bench.node.stop(LIMIT).await.expect("an orderly end");

    std::fs::write(folder.path().join("ca.pem"), bench.site.tls_ca_pem(0)).expect("writable");
    edit(&bench, "al_aestls = true", "al_aestls = true\nal_aesservername = \"aes.example.org\"");
    bench.node.start().expect("the node starts");
    reason_given(&bench, &["al_aesservername", "aes.example.org"]).await;
}

/// Waits until the node says that it is not ready, and names these.
async fn reason_given(bench: &Bench, names: &[&str]) {
    let deadline = Instant::now() + LIMIT;
    loop {
        let answer = bench.node.get("/readyz").await.unwrap_or_default();
        if answer.0 == 503 && names.iter().all(|name| answer.1.contains(name)) {
            return;
        }
        assert!(Instant::now() < deadline, "{answer:?} names not {names:?}; {}", bench.log_tail());
        sleep(Duration::from_millis(50)).await;
    }
}
