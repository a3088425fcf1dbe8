//! What the pages say of other sites, whose recordings lie elsewhere. The node's answers are made up in the browser: what a
//! node answers is tried with a database elsewhere.

use astlogger::users::{self, UserRole};
use serde_json::json;
use simulator::SiteConfig;

use crate::common::{Bench, PASSWORD};
use crate::devtools::Browser;
use crate::{address, assert_open_to_all, assert_quiet, sign_in};

/// Has the socket tell of these exports whoever asks for them.
const EXPORTS: &str = "
    const add = WebSocket.prototype.addEventListener;
    const told = { state: 'complete', begun: '2026-11-27T10:00:00.000Z', done: 40, bytes: 5e6, size: 5e6, total: 40,
      address: '/api/exports/1', recordings: 40 };
    const exports = [
      { ...told, export: '1', missing: 12, othersites: { hongkong: 9, london: 3 } },
      { ...told, export: '2', begun: '2026-11-26T10:00:00.000Z', missing: 0,
        allsitesfailure: 'the database of all sites does not answer', unreachable: [{ node: 2, role: 'backup' }] },
      { ...told, export: '3', begun: '2026-11-25T10:00:00.000Z', missing: 0 },
    ];
    WebSocket.prototype.addEventListener = function (kind, listener) {
      add.call(this, kind, kind !== 'message' ? listener : (event) => {
        const reply = typeof event.data === 'string' ? JSON.parse(event.data) : null;
        listener(reply?.exports === undefined ? event
          : new MessageEvent('message', { data: JSON.stringify({ ...reply, exports }) }));
      });
    };";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_export_lacks_because_it_lies_at_other_sites_is_said() {
    let bench = Bench::start_with(SiteConfig::demo(1, 1), "").await;
    let browser = Browser::start().await;
    let page = browser.open("about:blank#").await;
    let script = json!({ "source": EXPORTS });
    page.call("Page.addScriptToEvaluateOnNewDocument", script).await;
    page.go(&address(bench.node.web(), "/")).await;
    sign_in(&page, "qa", PASSWORD).await;
    page.until("document.querySelectorAll('#exports li').length === 3").await;
    let said = |number: u64| {
        format!("document.querySelector('#exports [data-id=\"{number}\"] .state').innerText")
    };
    let lacking = "40 recordings, 5.0 MB\n12 could not be had: missing.csv in it names them.\n\
        9 of them lie at site hongkong: export them there.\n3 of them lie at site london: export them there.";
    assert_eq!(page.eval(&said(1)).await, lacking);
    let uncertain = "40 recordings, 5.0 MB\nNode 2 (backup) could not be reached: what it made last may be missing.\n\
        The database of all sites does not answer: what other sites have may be missing.";
    assert_eq!(page.eval(&said(2)).await, uncertain);
    assert_eq!(page.eval(&said(3)).await, "40 recordings, 5.0 MB");
    let grave = "[...document.querySelectorAll('#exports .grave')].map((state) => state.parentElement.dataset.id)";
    assert_eq!(page.eval(grave).await, json!(["1", "2"]));
    assert_open_to_all(&page, "export-elsewhere").await;
    assert_quiet(&page);
}

/// Has the node tell of a day of which much is missing.
const DAY: &str = "
    const ask = fetch;
    const call = (at, outcome, recordings) => ({ began: `2026-11-28T0${at}:10:00.000Z`, outcome, recordings });
    const day = { calls: 912, recorded: 905, partial: 2, missed: 1, excluded: 4, pending: 0, lackingtotal: 3,
      missingms: { loss: 120, takeover: 4100, nophantom: 61000 }, site: 'hongkong', searchedsites: 'own',
      allsitesfailure: 'no database knows which calls other sites missed', unreachable: [{ node: 2, role: 'backup' }],
      lacking: [call(1, 'partial', ['a1']), call(2, 'missed', []), call(3, 'partial', ['b1', 'b2'])] };
    window.fetch = async (path, options) => (path.startsWith('/api/completeness')
      ? new Response(JSON.stringify(day)) : ask(path, options));";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whose_calls_a_day_is_of_is_said_and_each_role_is_led_where_it_may_go() {
    let bench = Bench::prepare(SiteConfig::demo(1, 1), "").await;
    users::add(&bench.node.users_path(), "otto", UserRole::Auditor, None, None, PASSWORD).unwrap();
    let bench = bench.started().await;
    let browser = Browser::start().await;
    for (user, links) in
        [("qa", ["/#a1", "/#b1", "/#b2"]), ("otto", ["/audit#a1", "/audit#b1", "/audit#b2"])]
    {
        let page = browser.open("about:blank#").await;
        page.call("Page.addScriptToEvaluateOnNewDocument", json!({ "source": DAY })).await;
        page.go(&address(bench.node.web(), "/health")).await;
        sign_in(&page, user, PASSWORD).await;
        page.until("document.querySelectorAll('.lacking li').length === 3").await;
        let said = page.text("#day").await;
        let whose = "These are the calls of site hongkong.";
        assert!(said.contains(whose) && said.contains("4.1 s missing"), "{said}");
        let leads =
            "[...document.querySelectorAll('.lacking a')].map((link) => link.getAttribute('href'))";
        assert_eq!(page.eval(leads).await, json!(links), "{user}");
        page.look(360, 2800, false).await;
        page.picture("health-elsewhere-whole").await;
        assert_open_to_all(&page, "health-elsewhere").await;
        assert_quiet(&page);
    }
}
