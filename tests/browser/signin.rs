//! Signing in and out on the pages: the way by a provider, what is said when it came to nothing, and whoever leaves.

use serde_json::json;
use simulator::SiteConfig;

use tokio::time::Instant;

use crate::common::{Bench, LIMIT};
use crate::devtools::Browser;
use crate::{address, assert_open_to_all, assert_quiet, open_as, sign_in};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_can_sign_in_by_a_provider_finds_the_button_and_hears_of_a_refusal_in_own_words() {
    // Nobody answers there: what the provider says is tried elsewhere.
    let settings = "al_oidcissuer = \"https://localhost:9\"\nal_oidcname = \"Example <b>Login</b>\"\n\
                    al_oidcclientid = \"recorder\"\nal_oidcroles = [\"qa=qa\"]\n";
    let bench = Bench::start_with(SiteConfig::demo(1, 1), settings).await;
    let browser = Browser::start().await;
    let web = bench.node.web();
    let page = browser.open(&address(web, "/health")).await;
    page.until("document.querySelector('#signinby')").await;
    assert_eq!(page.text("#signinby").await, "Sign in with Example <b>Login</b>");
    assert_open_to_all(&page, "signin").await;
    page.click("#signinby").await;
    page.until("document.querySelector('.signin p').textContent.includes('does not answer now')")
        .await;
    assert_eq!(page.eval("location.pathname + location.search").await, json!("/"));
    // It is said once, and whoever has a password gets in all the same.
    let page = browser.open(&address(web, "/?signin=%3Cimg%20src=x%3E")).await;
    page.until("document.querySelector('.signin p').textContent.includes('was not confirmed')")
        .await;
    sign_in(&page, "qa", crate::PASSWORD).await;
    page.until("document.querySelector('#signout')").await;
    assert_quiet(&page);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_leaves_the_page_is_signed_out_and_nothing_stays_on_it() {
    let bench = Bench::start_with(SiteConfig::demo(1, 1), "al_sessionidlemin = 1\n").await;
    let browser = Browser::start().await;
    let page = open_as(&browser, "supervisor", bench.node.web(), "/supervisor").await;
    // Time passes for the page; somebody moves the pointer now and then.
    page.eval("window.later = 0; window.real = Date.now; Date.now = () => window.real() + window.later; undefined").await;
    page.eval("window.later = 50000; document.dispatchEvent(new Event('pointermove'))").await;
    page.eval("window.later = 100000; undefined").await;
    // It looks every five seconds; this one must find somebody there.
    page.eval("new Promise((done) => setTimeout(done, 6000))").await;
    assert_eq!(page.eval("document.querySelector('#signout') !== null").await, json!(true));
    page.eval("window.later = 120000; undefined").await;
    page.until(
        "document.querySelector('.signin p')?.textContent.includes('nobody has used this page')",
    )
    .await;
    // At the node, too.
    let deadline = Instant::now() + LIMIT;
    while page.eval("fetch('/api/session').then((answer) => answer.json())").await["user"]
        != json!(null)
    {
        assert!(Instant::now() < deadline, "still signed in at the node");
    }
    assert_quiet(&page);
}
