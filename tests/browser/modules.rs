//! Modules of the pages that only compute, fed with cases. They run where they belong: in the browser.

use serde_json::{Value, json};

use crate::address;
use crate::common::Bench;
use crate::devtools::{Browser, Page};

/// What an expression comes to that uses what a module exports, as `m`.
async fn with(page: &Page, module: &str, expression: &str) -> Value {
    let folder = "document.querySelector('script').src.replace(/[^/]*$/, '')";
    page.eval(&format!("import({folder} + '{module}').then((m) => ({expression}))")).await
}

fn call(callid: &str, ucid: Option<&str>, node: Option<u64>) -> Value {
    let mut call = json!({
        "callid": callid, "calling": "5551", "called": "3000", "extensions": ["31001"], "parties": [],
        "started": format!("2026-11-27T10:00:0{callid}.000Z"),
    });
    if let Some(ucid) = ucid {
        call["ucid"] = ucid.into();
    }
    if let Some(node) = node {
        call["recorded"] = json!({ "node": node, "recordingid": format!("r{node}") });
    }
    call
}

fn event(kind: &str, mut call: Value) -> Value {
    call["eventtype"] = kind.into();
    call
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_computes_is_right() {
    let bench = Bench::start(1).await;
    let browser = Browser::start().await;
    let page = browser.open(&address(bench.node.web(), "/")).await;
    calls(&page).await;
    words(&page).await;
    let stretches =
        "m.silences([...Array(20).fill(0), ...Array(10).fill(90), ...Array(5).fill(1), 90], 100)";
    assert_eq!(
        with(&page, "silence.js", stretches).await,
        json!([{ "startms": 250, "endms": 1750 }])
    );
    let skips = format!("[0, 250, 1000, 1740, 1800].map((ms) => m.skipFrom({stretches}, ms))");
    assert_eq!(with(&page, "silence.js", &skips).await, json!([null, 1750, 1750, null, null]));
    let times = "[m.clock(41_999), m.clock(3_723_000), m.length(40), m.length(1_200), m.percent(0.023), m.percent(0.0004), m.size(1_440_000)]";
    let told = json!(["0:41", "1:02:03", "40 ms", "1.2 s", "2.3 %", "< 0.1 %", "1.4 MB"]);
    assert_eq!(with(&page, "format.js", times).await, told);
    let metrics = "(() => { const v = m.parse('# HELP a b\\na_b 3\\na_c{state=\"free\"} 2\\na_c{state=\"ring\"} 1\\n');
        return [v.get('a_b'), m.byLabel(v, 'a_c'), m.byLabel(v, 'a')]; })()";
    let read = json!([3, [["free", 2], ["ring", 1]], []]);
    assert_eq!(with(&page, "metrics.js", metrics).await, read);
    // A number, and samples; what is no frame is none.
    let frames = "[[0, 0, 1, 2, 0, 64, 0, 192], [0, 0, 0, 1], [0, 0, 0, 1, 7]].map((bytes) => {
        const f = m.frameOf(new Uint8Array(bytes).buffer); return f && [f.number, ...f.samples]; })";
    assert_eq!(with(&page, "listen.js", frames).await, json!([[258, 0.5, -0.5], null, null]));
    // The first is given a moment, the next follow, what would wait for long is left out.
    let due =
        "[[0, 5], [5.01, 5], [5.25, 5], [5.26, 5], [4.99, 5]].map(([n, now]) => m.playAt(n, now))";
    let at = json!([5.06, 5.01, 5.25, null, 5.06]);
    assert_eq!(with(&page, "listen.js", due).await, at);
    // What a spreadsheet would run is text, and what ends a cell or a line is quoted.
    let table =
        "m.csv([['a', 1, undefined], ['=1+1', '-2', '@x'], ['a,b', 'say \"no\"', 'two\\nlines']])";
    let file = "a,1,\r\n'=1+1,'-2,'@x\r\n\"a,b\",\"say \"\"no\"\"\",\"two\nlines\"\r\n";
    assert_eq!(with(&page, "csv.js", table).await, json!(file));
    // Periods are days of the reader, and end before they begin again.
    let period = "(() => { const p = m.parameters({ period: 'yesterday' }, new Date(2026, 10, 27, 15));
        return [new Date(p.from).getDate(), new Date(p.to).getDate(), new Date(p.to) - new Date(p.from), p.text]; })()";
    assert_eq!(with(&page, "search.js", period).await, json!([26, 27, 86_400_000, ""]));
}

/// Calls as a member's events and the group's list tell of them.
async fn calls(page: &Page) {
    let told = async |list: Value, events: Value| {
        let steps = format!(
            "(() => {{ const c = new m.Calls(); c.list({list}); const asks = {events}.map((e) => c.take(e, 1));
             return [c.all().map((o) => [o.call.callid, o.recorded.map((r) => r.node)]), asks]; }})()"
        );
        with(page, "calls.js", &steps).await
    };
    let (one, two) = (Some("00001"), Some("00002"));
    for (list, events, expected) in [
        // A call comes, is recorded here, and goes.
        (
            json!([]),
            json!([event("callstarted", call("1", one, None))]),
            json!([[["1", []]], [true]]),
        ),
        (
            json!([call("1", one, None)]),
            json!([event("recordingstarted", call("1", one, Some(1)))]),
            json!([[["1", [1]]], [false]]),
        ),
        (
            json!([call("1", one, Some(1))]),
            json!([event("callended", call("1", one, None))]),
            json!([[], [false]]),
        ),
        // No longer recorded here: this member's word is enough.
        (
            json!([call("1", one, Some(1))]),
            json!([event("callupdated", call("1", one, None))]),
            json!([[["1", []]], [true]]),
        ),
        // Of another's recording this member says nothing, which is no word against it.
        (
            json!([call("1", one, Some(2))]),
            json!([event("callupdated", call("1", one, None))]),
            json!([[["1", [2]]], [true]]),
        ),
        // The switch gives the UCID late: still one call.
        (
            json!([call("1", None, None)]),
            json!([event("callupdated", call("1", one, Some(1)))]),
            json!([[["1", [1]]], [false]]),
        ),
        // Two calls, the older one first; what is no call changes nothing.
        (
            json!([call("2", two, None)]),
            json!([event("callstarted", call("1", one, None)), { "eventtype": "takeover", "from": 1, "to": 2 }]),
            json!([[["1", []], ["2", []]], [true, false]]),
        ),
    ] {
        assert_eq!(told(list.clone(), events.clone()).await, expected, "{list} {events}");
    }
}

/// Quality in words.
async fn words(page: &Page) {
    let gap =
        |from: u64, to: u64, cause: &str| json!({ "startms": from, "endms": to, "cause": cause });
    let plain = json!({ "lossratio": 0.0, "jitterms": 1.0, "clockdriftppm": 0.0 });
    for (gaps, special, expected) in [
        (json!([]), json!({}), json!([])),
        (
            json!([
                gap(41_000, 41_100, "loss"),
                gap(46_980, 47_000, "loss"),
                gap(60_000, 60_100, "loss")
            ]),
            json!({}),
            // More than five seconds lie between the first two.
            json!(["100 ms lost by the network at 0:41.", "100 ms lost by the network at 1:00."]),
        ),
        (
            json!([
                gap(41_000, 41_060, "loss"),
                gap(44_000, 44_060, "loss"),
                gap(46_940, 47_000, "loss")
            ]),
            json!({}),
            json!(["3 % of packets lost between 0:41 and 0:47."]),
        ),
        (
            json!([]),
            json!({ "lossratio": 0.004 }),
            json!(["0.4 % of packets lost, spread over the call."]),
        ),
        (
            json!([gap(1_000, 2_000, "diskfull")]),
            json!({ "oneway": true }),
            json!([
                "1.0 s missing at 0:01: the recorder's disk was full.",
                "One side was never heard."
            ]),
        ),
        (
            json!([gap(8_000, 20_000, "hold")]),
            json!({}),
            json!(["12.0 s left out at 0:08: on hold."]),
        ),
        (
            json!([gap(0, 9_000, "paused")]),
            json!({ "mos": 2.0, "leveldb": -40.2, "clippedratio": 0.02 }),
            json!([
                "Sound quality is bad (MOS 2.0).",
                "Too loud: 2 % of the samples are clipped.",
                "Very quiet: 40 dB below full scale."
            ]),
        ),
    ] {
        let mut quality = plain.clone();
        for (name, value) in special.as_object().expect("an object") {
            quality[name] = value.clone();
        }
        let record = json!({ "complete": true, "gaps": gaps, "quality": quality });
        let told =
            with(page, "record.js", &format!("m.quality({record}).map((s) => s.text)")).await;
        assert_eq!(told, expected, "{record}");
    }
}
