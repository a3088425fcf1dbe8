//! Scorecards on the page for quality assurance: a call is judged, the score is seen, found again and corrected.

use astlogger::demo::Shape;
use serde_json::json;
use simulator::SiteConfig;

use crate::common::group::{GroupBench, ONE, TWO, WITNESS};
use crate::common::{Bench, PASSWORD};
use crate::devtools::{Browser, Page};
use crate::made_up::{HOSTILE, id, lay, tone};
use crate::{address, assert_open_to_all, assert_quiet, sign_in};

const CARD: &str = "[[al_scorecard]]\nname = \"Service\"\nquestions = [\n\
    { id = \"greeting\", text = \"Greeted?\", kind = \"yesno\" },\n\
    { id = \"help\", text = \"Helped?\", kind = \"points\", max = 10, weight = 3 },\n\
    { id = \"remarks\", text = \"What else?\", kind = \"text\" } ]\n";

/// The call with 62.5 % is found from 62 % on, and not from 63 %.
async fn is_found_by_its_score(page: &Page) {
    for (least, found) in [("62", "1 "), ("63", "No recording")] {
        page.eval("document.querySelectorAll('details').forEach((d) => { d.open = true; })").await;
        page.fill("#f-minscore", least).await;
        page.click("#search").await;
        page.until(&format!("document.querySelector('#count').textContent.startsWith('{found}')"))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_judged_and_found_by_its_score() {
    let bench = Bench::prepare(SiteConfig::demo(2, 1), CARD).await;
    for number in 1..=5 {
        lay(&bench.node.data_dir(), number, &[tone(440.0, 1, 0..0)], &json!({}));
    }
    let bench = bench.started().await;
    let browser = Browser::start().await;
    let page = browser.open(&address(bench.node.web(), &format!("/#{}", id(3)))).await;
    sign_in(&page, "qa", PASSWORD).await;
    page.until("document.querySelector('#scorecard option[value=Service]')").await;
    page.choose("#scorecard", "Service").await;
    page.choose("#q-0", "yes").await;
    page.fill("#q-1", "5").await;
    page.fill("#q-2", HOSTILE).await;
    page.fill("#scorecomment", "well done").await;
    page.click("#score").await;
    page.until("document.querySelector('#scores')?.textContent.includes('62.5 % by qa')").await;
    assert!(page.text(".player .badges").await.contains("62.5 %"));
    page.eval("document.querySelector('#scores details').open = true").await;
    assert!(page.text("#scores").await.contains(HOSTILE), "what was written is a text");
    assert_open_to_all(&page, "score").await;
    page.look(1400, 1000, false).await;
    // What cannot be is refused in words, and what was given before stays.
    page.choose("#scorecard", "Service").await;
    page.click("#score").await;
    page.until("document.querySelector('.notices')?.textContent.includes('no score')").await;
    is_found_by_its_score(&page).await;
    let row = "document.querySelector('tbody')?.textContent";
    assert_ne!(page.eval(row).await, json!(null));
    assert_quiet(&page);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_judged_at_the_witness_which_has_nothing_of_it() {
    let shape = Shape { settings: CARD.to_owned(), ..Shape::hot_standby(2) };
    let mut bench = GroupBench::prepare(SiteConfig::demo(2, 2), &shape).await;
    // A form is known where somebody judges.
    let config = bench.group.members[&WITNESS].node.config_path();
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text + CARD).unwrap();
    bench.run().await;
    bench.leads_steadily(ONE).await;
    let id = bench.record(1).await.pop().expect("a recording");
    let web = bench.group.members[&WITNESS].node.web();
    let browser = Browser::start().await;
    let page = browser.open(&address(web, &format!("/#{id}"))).await;
    sign_in(&page, "qa", PASSWORD).await;
    page.until("document.querySelector('#scorecard option[value=Service]')").await;
    page.choose("#scorecard", "Service").await;
    page.choose("#q-0", "yes").await;
    page.fill("#q-1", "5").await;
    page.click("#score").await;
    page.until("document.querySelector('#scores')?.textContent.includes('62.5 % by qa')").await;
    // It is in the records on both disks, and found at the witness.
    for node in [ONE, TWO] {
        let is_judged = || {
            let lying = bench.lying(node);
            let record = lying.iter().find(|record| record.recordingid.to_string() == id);
            record.is_some_and(|record| record.scores.iter().any(|score| score.by == "qa"))
        };
        bench.comes_true("a score on the disk", is_judged).await;
    }
    is_found_by_its_score(&page).await;
    assert_quiet(&page);
}
