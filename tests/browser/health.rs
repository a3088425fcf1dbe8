//! The page that says how the group is.

use std::time::Duration;

use astlogger::users::{self, UserRole};
use serde_json::json;
use simulator::SiteConfig;
use storage_core::record::GapCause;

use crate::common::group::{GroupBench, ONE, TWO};
use crate::common::{Bench, PASSWORD};
use crate::devtools::Browser;
use crate::{assert_open_to_all, assert_quiet, group_with, open_as};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_the_last_takeover_and_its_hole_are_shown() {
    let mut bench = GroupBench::hot_standby(2).await;
    let browser = Browser::start().await;
    let web = bench.group.members[&TWO].node.web();
    let page = open_as(&browser, "qa", web, "/health").await;
    page.until("document.querySelectorAll('#members tbody tr').length === 3").await;
    page.until("document.querySelector('#summary').textContent === 'Everything is well.'").await;
    let row = |node: u64| format!("document.querySelector('tr[data-node=\"{node}\"]')");
    for (node, said) in [
        (1, "lead"),
        (1, "active"),
        (2, "stand by"),
        (2, "This node"),
        (3, "witness"),
        (1, "there and back"),
    ] {
        page.until(&format!("{}.innerText.includes('{said}')", row(node))).await;
    }
    let calls = bench.calls(2).await;
    bench.recorded_by(&calls, ONE).await;
    bench.go_on(&calls, 50).await;
    bench.kill(ONE).await;
    bench.recorded_by(&calls, TWO).await;
    page.until(&format!("{}.innerText.includes('Does not answer')", row(1))).await;
    page.until(&format!("{}.innerText.includes('lead')", row(2))).await;
    // What the lost one has said of itself is not shown as if it were so.
    assert_eq!(page.eval(&format!("{}.querySelectorAll('.good').length", row(1))).await, json!(0));
    page.until("document.querySelector('#summary').classList.contains('warn')").await;
    page.until("document.querySelector('#takeover').innerText.includes('the lead did not answer')")
        .await;
    let feed = page.text("#feed").await;
    assert!(feed.contains("Node 2 leads instead of node 1"), "{feed}");
    bench.go_on(&calls, 100).await;
    assert_open_to_all(&page, "health").await;
    bench.hang_up(&calls);
    bench.published(2).await;
    // The hole that the page tells is the longest one in the records.
    let recordings = bench.recordings();
    let gaps = recordings.iter().flat_map(|(_, record)| record.gaps.iter());
    let holes = gaps.filter(|gap| gap.cause == GapCause::Takeover);
    let longest = holes.map(|gap| gap.endms - gap.startms).max().expect("a takeover leaves a hole");
    let words = match longest {
        0..1_000 => format!("{longest} ms"),
        _ => format!("{:.1} s", longest as f64 / 1_000.0),
    };
    page.until(&format!("document.querySelector('#takeover').innerText.includes('{words}')")).await;
    page.until("document.querySelector('#day').innerText.includes('Wholly recorded')").await;
    assert_quiet(&page);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alarms_come_with_what_to_do_and_go_when_it_is_done() {
    let bench = Bench::prepare(SiteConfig::demo(2, 1), "").await;
    for (name, role) in [("agent", UserRole::Agent), ("auditor", UserRole::Auditor)] {
        users::add(&bench.node.users_path(), name, role, None, None, PASSWORD).unwrap();
    }
    let bench = bench.started().await;
    let browser = Browser::start().await;
    let page = open_as(&browser, "auditor", bench.node.web(), "/health").await;
    page.until("document.querySelector('#summary').classList.contains('good')").await;
    page.until("document.querySelector('#day').innerText.includes('Calls')").await;
    let disk = page.text("#node").await;
    assert!(disk.contains("Room on the disk") && disk.contains("GB"), "{disk}");
    bench.site.faults().cut_aes(0, Duration::from_secs(8));
    page.until("document.querySelector('#summary').classList.contains('bad')").await;
    page.until("document.querySelector('#alarms').innerText.includes('aesdown')").await;
    let told = page.text("#alarms").await;
    assert!(told.contains("What to do: look at the AES"), "{told}");
    page.picture("health-alarm").await;
    assert_eq!(page.barriers().await, Vec::<String>::new());
    page.until("document.querySelector('#summary').classList.contains('good')").await;
    page.until("document.querySelector('#alarms').innerText.includes('None on this node')").await;
    assert_quiet(&page);
    // An agent sees how the recorder is, and nothing of the day's calls.
    let page = open_as(&browser, "agent", bench.node.web(), "/health").await;
    page.until("document.querySelector('#summary').classList.contains('good')").await;
    assert_eq!(page.eval("document.querySelectorAll('#day').length").await, json!(0));
    assert_quiet(&page);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_administrator_drills_the_group_and_sees_what_it_cost() {
    let bench = group_with("admin", UserRole::Admin).await;
    let calls = bench.calls(2).await;
    bench.recorded_by(&calls, ONE).await;
    bench.go_on(&calls, 50).await;
    let browser = Browser::start().await;
    // Any member does it.
    let web = bench.group.members[&TWO].node.web();
    let page = open_as(&browser, "admin", web, "/health").await;
    page.until("document.querySelector('#summary').classList.contains('good')").await;
    page.click("#begindrill").await;
    page.until("document.querySelector('#sure')?.open").await;
    assert_eq!(page.barriers().await, Vec::<String>::new());
    page.click("#yes").await;
    page.until("document.querySelector('#drilled').innerText.includes('The drill is over')").await;
    let told = page.text("#drilled").await;
    for way in ["node 1 to node 2: granted after", "node 2 to node 1: granted after"] {
        assert!(told.contains(way), "{told}");
    }
    bench.leads(ONE).await;
    bench.go_on(&calls, 50).await;
    bench.hang_up(&calls);
    bench.published(2).await;
    bench.assert_right(1).await;
    page.picture("health-drill").await;
    assert_quiet(&page);
    // Nobody else is offered it.
    let page = open_as(&browser, "qa", web, "/health").await;
    page.until("document.querySelector('#summary').classList.contains('good')").await;
    assert_eq!(page.eval("document.querySelectorAll('#begindrill').length").await, json!(0));
}
