//! Exports on the page for quality assurance: begun, watched, downloaded by the browser, removed.

use serde_json::{Value, json};
use simulator::SiteConfig;

use crate::common::{Bench, PASSWORD};
use crate::devtools::{Browser, Page};
use crate::made_up::{HOSTILE, lay, tone};
use crate::{address, assert_open_to_all, assert_quiet, open_as, sign_in};

const RECORDINGS: u64 = 40;

async fn site() -> Bench {
    // Whatever else lies on the disk of the machine that runs this.
    let bench = Bench::prepare(SiteConfig::demo(2, 1), "al_mindiskfree = \"1 MB\"\n").await;
    let data = bench.node.data_dir();
    for number in 1..=RECORDINGS {
        let extension = if number % 2 == 0 { "31001" } else { "31002" };
        let special = json!({ "extension": extension, "calling": HOSTILE });
        lay(&data, number, &[tone(440.0, 1, 0..0)], &special);
    }
    bench.started().await
}

/// Begins one, and waits for it.
async fn export(page: &Page, count: u64) -> Value {
    page.click("#export").await;
    let complete = "document.querySelector('#exports li[data-state=complete]')";
    page.until(&format!("{complete}?.textContent.includes('{count} recordings')")).await;
    page.eval(&format!("{complete}.querySelector('a').href")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_searched_for_is_exported_watched_and_downloaded() {
    let bench = site().await;
    let browser = Browser::start().await;
    let page = open_as(&browser, "qa", bench.node.web(), "/").await;
    page.until("document.querySelector('#export')").await;
    page.fill("#f-extension", "31001").await;
    page.click("#search").await;
    page.until("document.querySelector('#count').textContent.includes('20')").await;
    let href = export(&page, RECORDINGS / 2).await;
    assert!(page.text("#exporttold").await.contains("complete"));
    // The browser gets the whole of it, with its own cookie, and in parts, too.
    let fetched = page
        .eval(&format!(
            "(async () => {{
               const answer = await fetch({href});
               const bytes = new Uint8Array(await answer.arrayBuffer());
               const part = await fetch({href}, {{ headers: {{ Range: 'bytes=10-19' }} }});
               const piece = new Uint8Array(await part.arrayBuffer());
               const text = new TextDecoder('latin1').decode(bytes);
               return [answer.headers.get('content-type'), String.fromCharCode(...bytes.slice(0, 2)), part.status,
                 piece.every((byte, at) => byte === bytes[10 + at]) && piece.length === 10,
                 text.split('.wav').length > 40, bytes.length > 20 * 16000];
             }})()"
        ))
        .await;
    assert_eq!(fetched, json!(["application/zip", "PK", 206, true, true, true]));
    assert_open_to_all(&page, "export").await;

    // Whoever comes back finds it, and everything else of the page is as it was.
    page.look(1400, 1000, false).await;
    page.go(&address(bench.node.web(), "/")).await;
    page.until("document.querySelector('#count')?.textContent.includes('40')").await;
    page.until("document.querySelector('#exports li[data-state=complete] a')").await;
    page.choose("#exportformat", "opus").await;
    page.click("#export").await;
    page.until("document.querySelectorAll('#exports li[data-state=complete]').length === 2").await;
    let newest = "document.querySelector('#exports li').textContent";
    page.until(&format!("{newest}.includes('{RECORDINGS} recordings')")).await;
    assert_eq!(page.eval(&format!("{newest}.includes('could not be had')")).await, false);
    page.click("#exports li button").await;
    page.until("document.querySelectorAll('#exports li').length === 1").await;
    page.click("#exports li button").await;
    page.until("document.querySelectorAll('#exports li').length === 0").await;
    let gone = page.eval(&format!("fetch({href}).then((answer) => answer.status)")).await;
    assert_eq!(gone, 404);
    // The browser itself tells of the answer 404, and of nothing else.
    let told = page.complaints();
    assert!(told.iter().all(|told| told.contains("/api/exports/")), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn supervisors_have_no_exports() {
    let bench = site().await;
    let browser = Browser::start().await;
    let page = browser.open(&address(bench.node.web(), "/")).await;
    sign_in(&page, "supervisor", PASSWORD).await;
    page.until("document.querySelector('tbody tr')").await;
    assert_eq!(page.eval("document.querySelectorAll('#export').length").await, 0);
    assert_quiet(&page);
}
