//! The page on which administrators hold, release and delete, and what the player shows of it.

use astlogger::users::{self, UserRole};
use serde_json::json;
use simulator::SiteConfig;

use crate::common::{Bench, PASSWORD};
use crate::devtools::{Browser, Page};
use crate::made_up::{id, lay, tone};
use crate::{address, assert_open_to_all, assert_quiet, open_as, sign_in};

/// What the page tells of the last request.
async fn told(page: &Page, words: &str) {
    page.until(&format!("document.querySelector('#outcome').innerText.includes('{words}')")).await;
}

/// Asks for something that wants to be confirmed, and confirms it.
async fn surely(page: &Page, button: &str) {
    page.click(button).await;
    page.until("document.querySelector('#sure')?.open").await;
    page.click("#yes").await;
}

/// A node with two recordings, and two administrators.
async fn site() -> Bench {
    let bench = Bench::prepare(SiteConfig::demo(2, 1), "").await;
    for number in [1, 2] {
        lay(&bench.node.data_dir(), number, &[tone(440.0, 2, 0..0)], &json!({}));
    }
    for name in ["adam", "berta"] {
        users::add(&bench.node.users_path(), name, UserRole::Admin, None, None, PASSWORD).unwrap();
    }
    bench.started().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_administrators_release_what_one_holds_and_delete_it() {
    let bench = site().await;
    let (web, browser) = (bench.node.web(), Browser::start().await);
    let player = browser.open(&address(web, &format!("/#{}", id(1)))).await;
    sign_in(&player, "qa", PASSWORD).await;
    player.until("document.querySelector('#player')").await;
    assert_eq!(player.eval("document.querySelectorAll('#held').length").await, json!(0));

    let page = open_as(&browser, "adam", web, &format!("/custody#{}", id(1))).await;
    let list = "document.querySelector('#holds').parentElement.innerText";
    page.until(&format!("{list}.includes('No recording is under legal hold')")).await;
    let named = format!("document.querySelector('#custodyid').value === '{}'", id(1));
    page.until(&named).await;
    // Nothing is done without a reason.
    page.click("#hold").await;
    assert_eq!(page.eval("document.querySelector('#reason').matches(':invalid')").await, true);
    assert_eq!(page.text("#outcome").await, "");
    page.fill("#reason", "case 7 <b>of 9</b>").await;
    page.click("#hold").await;
    told(&page, "stays under legal hold").await;
    told(&page, "case 7 <b>of 9</b>").await;
    // It is listed now, with who and why; whoever chooses it there has its id in the form.
    page.until(&format!("{list}.includes('case 7 <b>of 9</b>') && {list}.includes('adam')")).await;
    page.eval("document.querySelector('#custodyid').value = ''").await;
    page.click("#holds button").await;
    page.until(&named).await;
    assert_eq!(page.eval("document.activeElement.id").await, "reason");
    page.click("#delete").await;
    page.until("document.querySelector('#sure')?.open").await;
    assert_eq!(page.barriers().await, Vec::<String>::new());
    page.click("#yes").await;
    told(&page, "is under legal hold by").await;
    surely(&page, "#release").await;
    told(&page, "adam wishes to release it").await;
    assert_open_to_all(&page, "custody").await;
    // What who listens sees of it.
    player.go(&address(web, &format!("/?again#{}", id(1)))).await;
    player.until("document.querySelector('#held')?.innerText.includes('case 7 <b>of 9</b>')").await;
    player.until("document.querySelector('#held').innerText.includes('adam')").await;
    assert_eq!(player.barriers().await, Vec::<String>::new());

    let other = open_as(&browser, "berta", web, &format!("/custody#{}", id(1))).await;
    other.fill("#reason", "case closed").await;
    surely(&other, "#release").await;
    told(&other, "not under legal hold").await;
    other.until(&format!("{list}.includes('No recording is under legal hold')")).await;
    surely(&other, "#delete").await;
    told(&other, "It was deleted").await;
    surely(&other, "#delete").await;
    told(&other, "was deleted by").await;
    player.go(&address(web, "/?anew")).await;
    player.until("document.querySelector('#count')?.textContent.includes('1')").await;
    let listed = format!("document.querySelectorAll('[data-id=\"{}\"]').length", id(1));
    assert_eq!(player.eval(&listed).await, json!(0));
    assert_eq!(
        page.complaints().len() + other.complaints().len(),
        2,
        "the two refusals, and no more"
    );
    assert_quiet(&player);
    // Nobody else is offered it.
    let qa = open_as(&browser, "qa", web, "/custody").await;
    qa.until("document.querySelector('#notforyou')").await;
}
