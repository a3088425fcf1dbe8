//! The page of calls in progress.

use astlogger::users::{self, UserRole};
use serde_json::json;
use simulator::tone::{self, Law};
use simulator::{CallRef, SiteConfig};

use crate::common::{Bench, LIMIT, PASSWORD};
use crate::devtools::{Browser, Page};
use crate::{assert_open_to_all, assert_quiet, open_as};

/// Calls at the first two stations are recorded when somebody asks; all others always.
const RULES: &str =
    "[[al_rule]]\nname = \"asked\"\nrecord = \"ondemand\"\nextension = [\"31001-31002\"]\n";

async fn site() -> Bench {
    let bench = Bench::prepare(SiteConfig::demo(4, 1), RULES).await;
    let users = bench.node.users_path();
    users::add(&users, "agent", UserRole::Agent, Some("31002"), None, PASSWORD).unwrap();
    users::add(&users, "nobody", UserRole::Agent, None, None, PASSWORD).unwrap();
    bench.started().await
}

/// The row of the call from this number.
fn row(caller: &str) -> String {
    format!(
        "[...document.querySelectorAll('tbody tr')].find((r) => r.innerText.includes('{caller}'))"
    )
}

async fn press(page: &Page, caller: &str, action: &str) {
    let found = format!("{}?.querySelector('[data-action={action}]:not(:disabled)')", row(caller));
    page.until(&found).await;
    page.eval(&format!("Object.assign({found}, {{ id: 'pressed' }}), true")).await;
    page.click("#pressed").await;
    page.eval("document.querySelector('#pressed')?.removeAttribute('id')").await;
}

async fn says(page: &Page, caller: &str, text: &str) {
    page.until(&format!("{}?.innerText.includes('{text}')", row(caller))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_supervisor_sees_all_calls_and_records_them_with_one_click() {
    let bench = site().await;
    let browser = Browser::start().await;
    let page = open_as(&browser, "supervisor", bench.node.web(), "/supervisor").await;
    page.until("document.querySelector('#count').textContent === 'No calls.'").await;
    let asked = bench.answered_call("5551230001", "31001").await;
    let always = bench.answered_call("5551230003", "31003").await;
    bench.recorded(always).await;
    says(&page, "5551230001", "Nobody").await;
    says(&page, "5551230003", "Node 1, phantom").await;
    // It sounds, and the other is heard by nobody.
    let meter = |caller: &str| format!("{}.querySelector('meter')", row(caller));
    let loud = meter("5551230003");
    page.until(&format!("!{loud}.hidden && {loud}.value > -40 && {loud}.value < 0")).await;
    page.until(&format!("{}.hidden", meter("5551230001"))).await;
    press(&page, "5551230001", "starttrunk").await;
    bench.recorded(asked).await;
    says(&page, "5551230001", "Trunk").await;
    press(&page, "5551230001", "pause").await;
    says(&page, "5551230001", "Paused").await;
    page.until("document.querySelector('#count').textContent.includes('Paused: 1')").await;
    assert_open_to_all(&page, "live").await;
    page.look(1400, 1000, false).await;
    press(&page, "5551230001", "resume").await;
    says(&page, "5551230001", "Trunk").await;
    press(&page, "5551230001", "stop").await;
    says(&page, "5551230001", "Nobody").await;
    let switch = bench.site.switch();
    let out =
        switch.wait(asked, LIMIT, |view| view.is_some_and(|v| v.recorders().is_empty())).await;
    assert!(out, "the phantom is still in the call");
    // Only what is looked for.
    page.click("#unrecorded").await;
    page.until("document.querySelectorAll('tbody tr').length === 1").await;
    page.click("#unrecorded").await;
    page.fill("#filter", "31003").await;
    page.until(&format!(
        "document.querySelectorAll('tbody tr').length === 1 && {}",
        row("5551230003")
    ))
    .await;
    page.eval("(() => { const f = document.querySelector('#filter'); f.value = ''; f.dispatchEvent(new Event('input')); })()").await;
    // What cannot be done is said, in the node's words.
    press(&page, "5551230001", "start").await;
    says(&page, "5551230001", "Station").await;
    switch.hangup_all(asked);
    switch.hangup_all(always);
    page.until("document.querySelector('#count').textContent === 'No calls.'").await;
    let feed = page.text("#feed").await;
    for said in [
        "5551230001 calls 31001",
        "Node 1 records 5551230001",
        "of 5551230001 to 31001 is paused",
        "of 5551230001 to 31001 goes on",
        "5551230003 to 31003 is over",
    ] {
        assert!(feed.contains(said), "{said}: {feed}");
    }
    page.until("document.querySelector('#feed').innerText.includes('is published')").await;
    assert_quiet(&page);
}

/// Keeps what the page plays, as 16-bit samples.
const KEEP: &str = "(() => {
    window.played = [];
    const start = AudioBufferSourceNode.prototype.start;
    AudioBufferSourceNode.prototype.start = function (at) {
        window.played.push({ at, samples: Array.from(this.buffer.getChannelData(0), (s) => Math.round(s * 32768)) });
        return start.call(this, at);
    };
    return true;
})()";

/// Frames of a call in what the page has played, and when each piece was due.
async fn played(page: &Page, call: CallRef) -> (Vec<u32>, Vec<f64>) {
    let pieces = page.eval("window.played").await;
    let pieces: Vec<_> = pieces.as_array().unwrap().iter().collect();
    let samples = pieces.iter().flat_map(|piece| piece["samples"].as_array().unwrap());
    let samples: Vec<i16> = samples.map(|s| s.as_i64().unwrap() as i16).collect();
    let codes = tone::scan_pcm(Law::A, &samples).into_iter();
    let codes = codes.filter(|(_, code)| code.serial == call.serial).map(|(_, code)| code.frame);
    (codes.collect(), pieces.iter().map(|piece| piece["at"].as_f64().unwrap()).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_supervisor_listens_to_a_call_and_hears_it() {
    let bench = site().await;
    let browser = Browser::start().await;
    let page = open_as(&browser, "supervisor", bench.node.web(), "/supervisor").await;
    let (one, two) = (("5551230003", "31003"), ("5551230004", "31004"));
    let mut calls = Vec::new();
    for (caller, station) in [one, two] {
        let call = bench.answered_call(caller, station).await;
        bench.recorded(call).await;
        says(&page, caller, "Node 1").await;
        calls.push(call);
    }
    page.eval(KEEP).await;
    press(&page, one.0, "listen").await;
    page.until("document.querySelector('#listening').textContent === 'You are listening to the call of 5551230003 to 31003.'").await;
    page.until("window.played.length > 100").await;
    let (codes, due) = played(&page, calls[0]).await;
    assert!(codes.len() > 50, "{codes:?}");
    assert!(codes.is_sorted_by(|one, two| one < two), "{codes:?}");
    assert!(due.is_sorted_by(|one, two| one < two), "{due:?}");
    let focused = "document.activeElement.dataset.action === 'stoplisten'";
    page.until(&format!("{}?.querySelector('[data-action=stoplisten]')", row(one.0))).await;
    let label = format!(
        "{}.querySelector('[data-action=stoplisten]').getAttribute('aria-label')",
        row(one.0)
    );
    assert_eq!(page.eval(&label).await, "Stop listening: 5551230003 to 31003");
    page.eval(&format!("{}.querySelector('[data-action=stoplisten]').focus()", row(one.0))).await;
    assert_eq!(page.eval(focused).await, true);
    assert_open_to_all(&page, "listening").await;
    page.look(1400, 1000, false).await;
    // To another: the first is heard no more.
    press(&page, two.0, "listen").await;
    page.until("document.querySelector('#listening').textContent.includes('5551230004')").await;
    page.eval("window.played.length = 0, true").await;
    page.until("window.played.length > 50").await;
    assert!(played(&page, calls[0]).await.0.is_empty());
    assert!(played(&page, calls[1]).await.0.len() > 20);
    bench.metric("astlogger_web_listeners", |count| count == 1.0).await;
    // By the keyboard.
    page.eval(&format!("{}.querySelector('[data-action=stoplisten]').focus()", row(two.0))).await;
    page.key("Enter", "\r").await;
    page.until("document.querySelector('#listening').textContent === ''").await;
    bench.metric("astlogger_web_listeners", |count| count == 0.0).await;
    // It ends with the call.
    press(&page, one.0, "listen").await;
    page.until("document.querySelector('#listening').textContent !== ''").await;
    bench.site.switch().hangup_all(calls[0]);
    page.until("document.querySelector('.notices').innerText.includes('call that you listened to is over')").await;
    assert_eq!(page.text("#listening").await, "");
    bench.site.switch().hangup_all(calls[1]);
    assert_quiet(&page);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_sees_his_own_calls_only() {
    let bench = site().await;
    let browser = Browser::start().await;
    let other = bench.answered_call("5551230001", "31001").await;
    let own = bench.answered_call("5551230002", "31002").await;
    let page = open_as(&browser, "agent", bench.node.web(), "/supervisor").await;
    // The call began before he came.
    says(&page, "5551230002", "Nobody").await;
    press(&page, "5551230002", "start").await;
    bench.recorded(own).await;
    press(&page, "5551230002", "pause").await;
    says(&page, "5551230002", "Paused").await;
    press(&page, "5551230002", "resume").await;
    says(&page, "5551230002", "Station").await;
    let another = bench.answered_call("5551230004", "31004").await;
    bench.recorded(another).await;
    assert_eq!(page.eval("document.querySelectorAll('tbody tr').length").await, 1);
    assert!(!page.text("main").await.contains("5551230001"));
    assert_eq!(page.eval("document.querySelector('[data-action=listen]')").await, json!(null));
    press(&page, "5551230002", "stop").await;
    says(&page, "5551230002", "Nobody").await;
    for call in [own, other, another] {
        bench.site.switch().hangup_all(call);
    }
    page.until("document.querySelector('#count').textContent === 'No calls.'").await;
    assert!(!page.text("#feed").await.contains("5551230004"));
    assert_quiet(&page);
    let page = open_as(&browser, "nobody", bench.node.web(), "/supervisor").await;
    page.until("document.querySelector('#nostation')").await;
    let page = open_as(&browser, "qa", bench.node.web(), "/supervisor").await;
    page.until("document.querySelector('#notforyou')").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorder_that_goes_away_is_missed_and_found_again() {
    let mut bench = site().await;
    let browser = Browser::start().await;
    let page = open_as(&browser, "supervisor", bench.node.web(), "/supervisor").await;
    page.until("document.querySelector('#count').textContent === 'No calls.'").await;
    bench.node.kill().await.unwrap();
    page.until("document.querySelector('.notices').innerText.includes('No connection')").await;
    let bench = bench.started().await;
    // Sessions end with the process that held them.
    page.until("document.querySelector('.signin')?.innerText.includes('session is over')").await;
    crate::sign_in(&page, "supervisor", PASSWORD).await;
    let call = bench.answered_call("5551230003", "31003").await;
    says(&page, "5551230003", "Node 1").await;
    bench.site.switch().hangup_all(call);
    assert_eq!(page.eval("document.querySelectorAll('.notices .bad').length").await, json!(0));
}
