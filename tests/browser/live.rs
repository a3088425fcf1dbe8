//! The page of calls in progress.

use astlogger::users::{self, UserRole};
use serde_json::json;
use simulator::SiteConfig;

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
