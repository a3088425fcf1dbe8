//! The page on which auditors read who did what.

use std::path::Path;
use std::time::Duration;

use astlogger::users::{self, UserRole};
use serde_json::{Value, json};
use simulator::SiteConfig;
use tokio::time::{Instant, sleep};

use crate::common::group::{GroupBench, ONE, TWO};
use crate::common::{Bench, LIMIT, PASSWORD};
use crate::devtools::{Browser, Page};
use crate::made_up::{HOSTILE, id, lay, tone};
use crate::{address, assert_open_to_all, assert_quiet, group_with, open_as, sign_in};

/// Searches of one person: more than two pages of the list.
const SEARCHES: usize = 230;
const ROWS: &str = "document.querySelectorAll('.audit tbody tr').length";

/// A node with a recording, an auditor and an administrator.
async fn site() -> Bench {
    let bench = Bench::prepare(SiteConfig::demo(2, 1), "").await;
    lay(&bench.node.data_dir(), 1, &[tone(440.0, 2, 0..0)], &json!({}));
    for (name, role) in [("otto", UserRole::Auditor), ("adam", UserRole::Admin)] {
        users::add(&bench.node.users_path(), name, role, None, None, PASSWORD).unwrap();
    }
    bench.started().await
}

/// Somebody searches so many times, and fetches a recording.
async fn work(page: &Page, searches: usize) {
    let asked = format!(
        "(async () => {{
           for (let at = 0; at < {searches}; at += 1) {{
             await fetch('/api/recordings?' + new URLSearchParams({{ text: {HOSTILE:?}, limit: 1 }}));
           }}
           return (await fetch('/api/recordings/{}/audio')).status;
         }})()",
        id(1)
    );
    assert_eq!(page.eval(&asked).await, 200);
}

/// Waits until the page says that it shows all, and so many of these.
async fn all_of(page: &Page, action: &str, count: usize) {
    let end = "(window.scrollTo(0, 1e6), !document.querySelector('#again').hidden)";
    page.until(end).await;
    let found = format!("document.querySelectorAll('[data-action={action}]').length === {count}");
    page.until(&found).await;
}

/// A page's lines, each the name of a member and its line's number there.
async fn lines(page: &Page) -> Vec<Value> {
    let told = "[...document.querySelectorAll('[data-line]')].map((row) => row.dataset.line)";
    page.eval(told).await.as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_auditor_reads_page_after_page_who_did_what() {
    let bench = site().await;
    let (web, browser) = (bench.node.web(), Browser::start().await);
    let qa = open_as(&browser, "qa", web, "/").await;
    assert_eq!(qa.eval("document.querySelectorAll('a[href=\"/audit\"]').length").await, 0);
    work(&qa, SEARCHES).await;
    // Wherever he comes in, this is where he begins.
    let page = open_as(&browser, "otto", web, "/").await;
    page.until("location.pathname === '/audit'").await;
    page.until(&format!("{ROWS} >= 100")).await;
    page.look(1400, 1000, false).await;
    page.eval("window.scrollTo(0, 0)").await;
    // The page that opened searched once, too.
    all_of(&page, "listrecordings", SEARCHES + 1).await;
    let told = lines(&page).await;
    let whole: Vec<Value> = (1..=told.len()).map(|seq| json!(format!("1:{seq}"))).collect();
    assert_eq!(told, whole, "each line once, in its order");
    let first = page.text(".audit tbody tr").await;
    for said in ["qa", "QA", "127.0.0.1", "Sign in", "Done", "node 1, line 1"] {
        assert!(first.contains(said), "{first}");
    }
    let search = page.text("[data-action=listrecordings] + [data-action=listrecordings]").await;
    assert!(search.contains(&format!("text: {HOSTILE}")), "{search}");
    // What was written since comes when it is asked for, and nothing twice.
    work(&qa, 1).await;
    page.click("#again").await;
    all_of(&page, "listrecordings", SEARCHES + 2).await;
    let (before, told) = (told.len(), lines(&page).await);
    let whole: Vec<Value> = (1..=told.len()).map(|seq| json!(format!("1:{seq}"))).collect();
    assert!(told.len() > before && told == whole, "{told:?}");
    assert_quiet(&page);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_are_narrowed_by_who_when_and_which_recording() {
    let bench = site().await;
    let (web, browser) = (bench.node.web(), Browser::start().await);
    work(&open_as(&browser, "qa", web, "/").await, 3).await;
    let stranger = browser.open(&address(web, "/")).await;
    sign_in(&stranger, "qa", "wrong").await;
    stranger.until("document.querySelector('#signinerror').textContent !== ''").await;
    let page = open_as(&browser, "otto", web, "/audit").await;
    all_of(&page, "fetchrecording", 1).await;
    let refused = "[...document.querySelectorAll('[data-action=authenticate] .badge.bad')].map((one) => one.innerText)";
    assert_eq!(page.eval(refused).await, json!(["Refused: not who he said"]));
    // Who: by a click on his name.
    page.click(".c-who button[aria-label*=otto]").await;
    page.until("document.querySelector('#f-user').value === 'otto'").await;
    page.until("document.querySelectorAll('[data-action=authenticate]').length === 1").await;
    all_of(&page, "fetchrecording", 0).await;
    page.fill("#f-user", "").await;
    // What: who has heard or taken away something.
    page.choose("#f-kind", "heard").await;
    page.click("#show").await;
    all_of(&page, "fetchrecording", 1).await;
    assert_eq!(page.eval(ROWS).await, 1);
    // When: nobody did anything yesterday.
    page.choose("#f-period", "yesterday").await;
    page.click("#show").await;
    page.until("document.querySelector('#count').textContent === 'No line matches.'").await;
    page.click("#clear").await;
    all_of(&page, "fetchrecording", 1).await;
    // Which recording: by a click on its id, or by an address that names it.
    page.click("[data-action=fetchrecording] .c-did button").await;
    page.until(&format!("document.querySelector('#f-recordingid').value === '{}'", id(1))).await;
    page.until(&format!("{ROWS} === 1")).await;
    assert_eq!(page.eval("document.querySelectorAll('main a').length").await, 0, "he may not hear");
    page.fill("#f-recordingid", "no such id").await;
    page.click("#show").await;
    page.until("document.querySelector('.notices').innerText.includes('recordingid')").await;
    assert_eq!(page.complaints().len(), 1, "the answer 400, and no more");

    let admin = open_as(&browser, "adam", web, &format!("/audit#{}", id(1))).await;
    // That somebody has read what was done with it is a line about it, too.
    admin.until(&format!("{ROWS} === 2")).await;
    assert_eq!(admin.eval("document.querySelector('#f-period').value").await, "");
    admin.click("main a").await;
    admin.until(&format!("document.querySelector('#custodyid')?.value === '{}'", id(1))).await;
    assert_quiet(&admin);
}

/// Presses the button, and waits for the file, which the browser puts into this folder: its name and its text.
async fn downloaded(page: &Page, folder: &Path) -> (String, String) {
    let allowed = json!({ "behavior": "allow", "downloadPath": folder });
    page.call("Page.setDownloadBehavior", allowed).await;
    page.click("#csv").await;
    page.until("document.querySelector('#csvtold').textContent.startsWith('The file has')").await;
    let deadline = Instant::now() + LIMIT;
    loop {
        // Until it is whole it has another ending.
        let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        if let Some(path) =
            files.into_iter().find(|path| path.extension().is_some_and(|e| e == "csv"))
        {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            return (name, std::fs::read_to_string(path).unwrap());
        }
        assert!(Instant::now() < deadline, "no file");
        sleep(Duration::from_millis(30)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_shown_is_had_as_a_table_and_the_page_is_open_to_all() {
    let bench = site().await;
    let (web, browser) = (bench.node.web(), Browser::start().await);
    let qa = open_as(&browser, "qa", web, "/").await;
    work(&qa, 3).await;
    qa.eval("fetch('/api/recordings?text=%3D1%2B1&party=%22a%22')").await;
    let page = open_as(&browser, "otto", web, "/audit").await;
    all_of(&page, "fetchrecording", 1).await;
    assert_open_to_all(&page, "audit").await;
    page.look(1400, 1000, false).await;
    page.fill("#f-user", "qa").await;
    page.click("#show").await;
    all_of(&page, "listaudit", 0).await;
    let shown = page.eval(ROWS).await.as_u64().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (name, file) = downloaded(&page, folder.path()).await;
    assert!(name.starts_with("audit-20"), "{name}");
    let table: Vec<&str> = file.trim_end().split("\r\n").collect();
    assert_eq!(
        table[0].trim_start_matches('\u{feff}'),
        "at,node,seq,user,role,address,action,outcome,recordingid,arguments"
    );
    assert_eq!(table.len() as u64, shown + 1);
    let fetched = format!(
        ",qa,qa,127.0.0.1,fetchrecording,success,{0},\"{{\"\"recordingid\"\":\"\"{0}\"\"}}\"",
        id(1)
    );
    assert_eq!(table.iter().filter(|line| line.ends_with(&fetched)).count(), 1, "{file}");
    let said = format!("The file has {shown} lines.");
    page.until(&format!("document.querySelector('#csvtold').textContent === '{said}'")).await;
    // Nobody else is offered it, or let in.
    for (user, role) in [("qa", "QA"), ("supervisor", "supervisor")] {
        let page = open_as(&browser, user, web, "/audit").await;
        page.until(&format!(
            "document.querySelector('#notforyou')?.textContent.includes('{role}')"
        ))
        .await;
        assert_eq!(
            page.eval("document.querySelectorAll('nav a[href=\"/audit\"]').length").await,
            0
        );
        assert_eq!(page.eval("fetch('/api/audit').then((answer) => answer.status)").await, 403);
    }
    assert_quiet(&page);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whose_lines_are_missing_is_said_and_they_come_when_he_is_back() {
    let mut bench = group_with("otto", UserRole::Auditor).await;
    let browser = Browser::start().await;
    let web = |bench: &GroupBench, node| bench.group.members[node].node.web();
    // Something is asked of the one that goes away.
    let there = open_as(&browser, "qa", web(&bench, &ONE), "/").await;
    there.until("document.querySelector('#count').textContent !== ''").await;
    bench.kill(ONE).await;
    let page = open_as(&browser, "otto", web(&bench, &TWO), "/audit").await;
    all_of(&page, "listrecordings", 0).await;
    page.until(
        "document.querySelector('#away').innerText.includes('Node 1 (active) cannot be reached')",
    )
    .await;
    assert_open_to_all(&page, "audit-away").await;
    page.look(1400, 1000, false).await;
    let folder = tempfile::tempdir().unwrap();
    let (name, _) = downloaded(&page, folder.path()).await;
    assert!(name.starts_with("audit-incomplete-"), "{name}");
    assert!(page.text("#csvtold").await.contains("node 1 (active)"));
    bench.run().await;
    let back = "(document.querySelector('#again').click(), document.querySelector('#away').hidden)";
    page.until(back).await;
    all_of(&page, "listrecordings", 1).await;
    let mut told: Vec<String> = lines(&page).await.iter().map(Value::to_string).collect();
    let count = told.len();
    told.sort();
    told.dedup();
    assert_eq!(told.len(), count, "a line twice");
    assert_quiet(&page);
}
