//! Repairing one copy of a call from the other, from the page.

use astlogger::demo::Shape;
use simulator::SiteConfig;

use crate::common::group::{GroupBench, ONE, TWO};
use crate::devtools::Browser;
use crate::{assert_quiet, open_as};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_with_holes_is_repaired_by_a_click() {
    let bench = GroupBench::start(SiteConfig::demo(1, 2), &Shape::active_active(1)).await;
    let calls = bench.calls(1).await;
    bench.recorded_by(&calls, ONE).await;
    bench.recorded_by(&calls, TWO).await;
    bench.group.site.faults().drop_rtp(0.1);
    bench.go_on(&calls, 150).await;
    bench.group.site.faults().drop_rtp(0.0);
    bench.go_on(&calls, 30).await;
    bench.hang_up(&calls);
    bench.published(2).await;
    bench.quiet().await;
    let recordings = bench.recordings();
    let damaged =
        recordings.iter().map(|(_, record)| record).find(|record| !record.gaps.is_empty());
    let damaged = damaged.expect("a copy with holes");
    let browser = Browser::start().await;
    let web = bench.group.members[&ONE].node.web();
    let path = format!("/#{}", damaged.recordingid);
    let page = open_as(&browser, "qa", web, &path).await;
    page.until("document.querySelector('#player')?.dataset.drawn").await;
    let lost = "document.querySelectorAll('.mark.gap').length";
    page.until(&format!("{lost} === {}", damaged.gaps.len())).await;
    page.until("!document.querySelector('#repair').hidden").await;
    page.click("#repair").await;
    page.until("document.querySelector('#player .badges').innerText.includes('Repaired')").await;
    page.until("document.querySelector('#player')?.dataset.drawn").await;
    page.until(&format!("{lost} < {}", damaged.gaps.len())).await;
    // A repair is not repaired again.
    assert_eq!(page.eval("document.querySelector('#repair').hidden").await, true);
    assert_quiet(&page);
    // A supervisor may listen, and repair nothing.
    let page = open_as(&browser, "supervisor", web, &path).await;
    page.until("document.querySelector('#player')?.dataset.drawn").await;
    assert_eq!(page.eval("document.querySelector('#repair').hidden").await, true);
}
