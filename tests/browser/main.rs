//! The pages in a real browser, before a real node: people sign in, search, listen; what they see is right,
//! what the browser plays is what was said, and nothing that a caller sends becomes part of a page.

#[path = "../common/mod.rs"]
mod common;

mod audit;
mod custody;
mod devtools;
mod elsewhere;
mod exports;
mod health;
mod live;
mod look;
mod made_up;
mod modules;
mod qa;
mod repair;
mod scores;
mod signin;

use std::net::SocketAddr;

use astlogger::demo::Shape;
use astlogger::users::{self, UserRole};
use common::PASSWORD;
use common::group::{GroupBench, ONE};
use devtools::{Browser, Page};
use simulator::SiteConfig;

/// The address of a page.
fn address(web: SocketAddr, path: &str) -> String {
    format!("http://{web}{path}")
}

/// Signs in on a page that asks for it.
async fn sign_in(page: &Page, user: &str, password: &str) {
    page.fill("#user", user).await;
    page.fill("#password", password).await;
    page.click("#signin").await;
}

/// A page on which somebody is signed in.
async fn open_as(browser: &Browser, user: &str, web: SocketAddr, path: &str) -> Page {
    let page = browser.open(&address(web, path)).await;
    sign_in(&page, user, PASSWORD).await;
    page.until("document.querySelector('#signout')").await;
    page
}

/// Two stations, an active node, a backup and a witness, and somebody of this role; the active leads.
async fn group_with(name: &str, role: UserRole) -> GroupBench {
    let mut bench = GroupBench::prepare(SiteConfig::demo(2, 2), &Shape::hot_standby(2)).await;
    let file = bench.group.members[&ONE].node.users_path();
    users::add(&file, name, role, None, None, PASSWORD).expect("a users file");
    bench.group.share_users().expect("writable");
    bench.run().await;
    bench.leads_steadily(ONE).await;
    bench
}

/// The browser has had nothing to complain of.
#[track_caller]
fn assert_quiet(page: &Page) {
    assert_eq!(page.complaints(), Vec::<String>::new());
}

/// Looks at a page as it is in each form, takes pictures, and has axe-core look, too.
async fn assert_open_to_all(page: &Page, name: &str) {
    for (width, height, dark, form) in [
        (1400, 1000, false, "light"),
        (1400, 1000, true, "dark"),
        (360, 800, false, "phone"),
        (360, 800, true, "phone-dark"),
    ] {
        page.look(width, height, dark).await;
        // Drawn, and drawn again where something was measured first.
        page.eval(
            "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))",
        )
        .await;
        page.eval("window.scrollTo(0, 0)").await;
        page.picture(&format!("{name}-{form}")).await;
        let fits = "document.documentElement.scrollWidth <= innerWidth";
        assert_eq!(page.eval(fits).await, true, "{name} {form} is too wide");
        assert_eq!(page.barriers().await, Vec::<String>::new(), "{name} {form}");
    }
}
