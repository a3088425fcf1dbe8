//! The page for quality assurance.

use astlogger::users::{self, UserRole};
use serde_json::{Value, json};
use simulator::SiteConfig;
use simulator::tone::{self, Law};

use crate::common::{Bench, PASSWORD};
use crate::devtools::{Browser, Page};
use crate::look::from_base64;
use crate::made_up::{HOSTILE, HOSTILE_TAG, id, lay, tone, two_channels, wounded};
use crate::{address, assert_open_to_all, assert_quiet, sign_in};

/// More than two pages.
const PLAIN: u64 = 120;
const WOUNDED: u64 = 200;
const TWO_CHANNELS: u64 = 201;

/// A node with made-up recordings, ready.
async fn site() -> Bench {
    let bench = Bench::prepare(SiteConfig::demo(2, 1), "").await;
    let data = bench.node.data_dir();
    for number in 1..=PLAIN {
        let extension = if number % 2 == 0 { "31001" } else { "31002" };
        let mos = [4.3, 3.8, 3.2, 2.4][usize::try_from(number % 4).unwrap()];
        let special = json!({
            "extension": extension,
            "quality": { "lossratio": 0.0, "jitterms": 1.0, "mos": mos, "clockdriftppm": 0.0 },
        });
        lay(&data, number, &[tone(440.0, 1, 0..0)], &special);
    }
    lay(&data, WOUNDED, &[tone(440.0, 60, 48..56)], &wounded());
    let sides = [tone(440.0, 6, 3..6), tone(1_000.0, 6, 0..3)];
    lay(&data, TWO_CHANNELS, &sides, &two_channels());
    for (name, role) in [("admin", UserRole::Admin), ("agent", UserRole::Agent)] {
        let extension = (role == UserRole::Agent).then_some("31001");
        users::add(&bench.node.users_path(), name, role, extension, None, PASSWORD).unwrap();
    }
    bench.started().await
}

/// A page with the list of all recordings in it.
async fn listed(bench: &Bench, browser: &Browser, path: &str) -> Page {
    let page = browser.open(&address(bench.node.web(), path)).await;
    sign_in(&page, "qa", PASSWORD).await;
    let all = PLAIN + 2;
    page.until(&format!("document.querySelector('#count').textContent.includes('{all}')")).await;
    page
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_sign_in_and_out_and_others_do_not() {
    let bench = site().await;
    let browser = Browser::start().await;
    let page = browser.open(&address(bench.node.web(), "/")).await;
    page.until("document.activeElement.id === 'user'").await;
    assert_eq!(page.barriers().await, Vec::<String>::new());
    page.picture("signin").await;
    sign_in(&page, "qa", "not the password").await;
    page.until("document.querySelector('#signinerror').textContent.includes('wrong password')")
        .await;
    assert_eq!(page.eval("document.querySelectorAll('table').length").await, 0);
    // The browser itself tells of the answer 401, and of nothing else.
    let told = page.complaints();
    assert!(told.len() == 1 && told[0].contains("/api/signin"), "{told:?}");
    // By keys alone.
    page.fill("#password", PASSWORD).await;
    page.key("Enter", "\r").await;
    page.until("document.querySelector('tbody tr')").await;
    page.go(&address(bench.node.web(), "/")).await;
    page.until("document.querySelector('tbody tr')").await;
    page.click("#signout").await;
    page.until("document.querySelector('#user')").await;
    page.go(&address(bench.node.web(), "/")).await;
    page.until("document.querySelector('#user')").await;
    assert_eq!(page.eval("document.querySelectorAll('tbody tr').length").await, 0);
    // Who has no use of this page is taken to his own, unless he came for a recording.
    for (user, own) in [("admin", "/health"), ("agent", "/supervisor")] {
        let page = browser.open(&address(bench.node.web(), "/")).await;
        sign_in(&page, user, PASSWORD).await;
        page.until(&format!("location.pathname === '{own}'")).await;
        page.until(&format!("document.querySelector('nav [aria-current]')?.pathname === '{own}'"))
            .await;
        page.go(&address(bench.node.web(), &format!("/#{}", id(1)))).await;
        page.until("document.querySelector('#notforyou')").await;
        assert_eq!(page.eval("document.querySelectorAll('form').length").await, 0);
        assert_quiet(&page);
    }
}

/// In one and the same frame, so that the end of the list is in sight before and after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_at_the_end_again_as_soon_as_a_page_comes_gets_the_next_one() {
    let bench = site().await;
    let browser = Browser::start().await;
    let page = listed(&bench, &browser, "/").await;
    page.eval(
        "(() => {
            const end = () => window.scrollTo(0, 1e6);
            const body = document.querySelector('.results tbody');
            new MutationObserver(end).observe(body, { childList: true });
            end();
            return true;
        })()",
    )
    .await;
    page.until(&format!("document.querySelectorAll('tbody tr').length === {}", PLAIN + 2)).await;
    assert_quiet(&page);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recordings_are_found_page_after_page() {
    let bench = site().await;
    let browser = Browser::start().await;
    let page = listed(&bench, &browser, "/").await;
    // The first page or two, and not all at once.
    let rows = "document.querySelectorAll('tbody tr').length";
    let first = page.eval(rows).await.as_u64().unwrap();
    assert!((50..PLAIN).contains(&first), "{first}");
    page.until(&format!("(window.scrollTo(0, 1e6), {rows} === {})", PLAIN + 2)).await;
    page.until("document.querySelector('#more').hidden").await;
    let distinct =
        "new Set([...document.querySelectorAll('tbody tr')].map((r) => r.dataset.id)).size";
    assert_eq!(page.eval(distinct).await, PLAIN + 2);
    // Each filter is the node's; the form has only to pass it on.
    let found = async |selector: &str, text: &str| {
        page.click("#clear").await;
        page.until(&format!(
            "document.querySelector('#count').textContent.includes('{}')",
            PLAIN + 2
        ))
        .await;
        page.eval("document.querySelectorAll('details').forEach((d) => { d.open = true; })").await;
        if page.eval(&format!("document.querySelector({selector:?}).tagName")).await == "SELECT" {
            page.choose(selector, text).await;
        } else {
            page.fill(selector, text).await;
        }
        page.click("#search").await;
        page.until("!/Searching/.test(document.querySelector('#count').textContent)").await;
        page.text("#count").await
    };
    for (selector, text, count) in [
        ("#f-party", "555 000 0007", "1 "),
        ("#f-extension", "31002", "50 found, and more"),
        ("#f-text", "5552222", "1 "),
        ("#f-tag", HOSTILE_TAG, "1 "),
        ("#f-minseconds", "50", "1 "),
        ("#f-incomplete", "true", "1 "),
        ("#f-hold", "true", "No recording"),
        ("#f-direction", "outbound", "No recording"),
        ("#f-agentid", "7002", "No recording"),
        ("#f-trunkgroup", "13", "No recording"),
        ("#f-vdn", "3001", "No recording"),
        ("#f-split", "501", "No recording"),
        ("#f-ucid", "00000000000000010007", "1 "),
        ("#f-period", "yesterday", "No recording"),
    ] {
        let told = found(selector, text).await;
        let right = told.starts_with(count) || told.contains(&format!("of {count}"));
        assert!(right, "{selector} {text}: {told}");
    }
    found("#f-order", "oldest").await;
    page.until(&format!("document.querySelector('tbody tr').dataset.id === '{}'", id(1))).await;
    // A search that is kept comes back, in another window, too.
    found("#f-party", "5550000007").await;
    page.fill("#savedname", "Number seven").await;
    page.click("#save").await;
    page.go(&address(bench.node.web(), "/")).await;
    page.until(&format!("document.querySelector('#count')?.textContent.includes('{}')", PLAIN + 2))
        .await;
    page.choose("#savedsearch", "Number seven").await;
    page.until(&format!("document.querySelectorAll('tbody tr').length === 1 && document.querySelector('tbody tr').dataset.id === '{}'", id(7))).await;
    assert_quiet(&page);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happened_is_marked_where_it_happened_and_said_in_words() {
    let bench = site().await;
    let browser = Browser::start().await;
    let page = listed(&bench, &browser, &format!("/#{}", id(WOUNDED))).await;
    page.until("document.querySelector('#player')?.dataset.drawn").await;
    // Where each mark lies on the screen, in thousandths of the waveform, beside what the record says.
    let marks = page
        .eval(
            "(() => { const w = document.querySelector('#wave').getBoundingClientRect();
             return [...document.querySelectorAll('.mark')].map((m) => { const r = m.getBoundingClientRect();
             return [m.classList[1], Number(m.dataset.startms), Number(m.dataset.endms),
             (r.left - w.left) / w.width * 60000, (r.right - w.left) / w.width * 60000]; }); })()",
        )
        .await;
    let marks: Vec<(String, f64, f64, f64, f64)> = serde_json::from_value(marks).unwrap();
    for (kind, from, to, left, right) in &marks {
        // A pixel or two, of some 600.
        assert!((left - from).abs() < 250.0, "{kind} at {from} is drawn at {left}");
        assert!(
            *to == *from || (right - to).abs() < 400.0,
            "{kind} until {to} is drawn until {right}"
        );
    }
    let at = |kind: &str| marks.iter().find(|mark| mark.0 == kind).map(|mark| (mark.1, mark.2));
    assert_eq!(at("gap"), Some((10_000.0, 11_200.0)));
    assert_eq!(at("pause"), Some((20_000.0, 25_000.0)));
    assert_eq!(at("hold"), Some((30_000.0, 33_000.0)));
    assert_eq!(at("seam"), Some((11_200.0, 11_200.0)));
    let words = page.text("#quality").await;
    for said in [
        "of packets lost between 0:41 and 0:47",
        "1.2 s missing at 0:10: a recorder failed and another went on",
        "Incomplete",
        "jitter 44 ms",
        "poor (MOS 3.3)",
    ] {
        assert!(words.contains(said), "{said}: {words}");
    }
    let happened = page.text("#happened").await;
    for said in ["31002 came", "31002 left", "Paused by susan", "joined by what both heard"] {
        assert!(happened.contains(said), "{said}: {happened}");
    }
    // A caller's name is a text, whatever it says.
    assert!(page.text("#playerhead").await.contains(HOSTILE));
    let row = format!("tr[data-id='{}']", id(WOUNDED));
    let listed = page.text(&row).await;
    assert!(
        listed.contains(HOSTILE) && listed.contains(HOSTILE_TAG) && listed.contains("Incomplete"),
        "{listed}"
    );
    assert_eq!(page.eval("document.querySelectorAll('img, script:not([src])').length").await, 0);
    assert_ne!(page.eval("document.title").await, "run");
    assert_open_to_all(&page, "qa").await;
    page.eval("document.querySelector('#player').scrollIntoView({ behavior: 'instant' })").await;
    page.picture("qa-phone-player").await;
    assert_quiet(&page);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_plays_and_is_steered_by_mouse_and_keys() {
    let bench = site().await;
    let browser = Browser::start().await;
    let page = listed(&bench, &browser, &format!("/#{}", id(WOUNDED))).await;
    page.until("document.querySelector('#player')?.dataset.drawn").await;
    let now = "Number(document.querySelector('#wave').getAttribute('aria-valuenow'))";
    page.click("#play").await;
    page.until("document.querySelector('#play').textContent === 'Pause'").await;
    page.until(&format!("{now} >= 2")).await;
    // By mouse: three quarters of a minute.
    page.click_at("#wave", 0.5).await;
    page.until(&format!("{now} >= 30 && {now} <= 33")).await;
    page.click("#play").await;
    page.until("document.querySelector('#play').textContent === 'Play'").await;
    // By keys, wherever the focus is but in a field.
    page.eval("document.activeElement.blur()").await;
    let before = page.eval(now).await.as_i64().unwrap();
    page.key("ArrowRight", "").await;
    page.until(&format!("Math.abs({now} - {}) <= 1", before + 5)).await;
    page.key("ArrowLeft", "").await;
    page.key("ArrowLeft", "").await;
    page.until(&format!("Math.abs({now} - {}) <= 1", before - 5)).await;
    page.key("Home", "").await;
    page.until(&format!("{now} === 0")).await;
    for expected in [10, 11] {
        page.key("n", "n").await;
        page.until(&format!("{now} === {expected}")).await;
    }
    page.key(".", ".").await;
    page.until("document.querySelector('#speed').value === '1.25'").await;
    page.choose("#speed", "3").await;
    // A loop of a second is heard again and again: nothing else comes.
    page.key("a", "a").await;
    page.key("ArrowRight", "").await;
    page.until(&format!("{now} === 16")).await;
    page.key("b", "b").await;
    page.until("document.querySelector('#looped').textContent.includes('0:11 to 0:16')").await;
    page.key(" ", " ").await;
    page.until(&format!("{now} >= 11 && {now} <= 13")).await;
    page.until(&format!("{now} >= 15")).await;
    page.until(&format!("{now} <= 13")).await;
    page.key("c", "c").await;
    // Eight seconds of silence, from 48 on, are passed over at once.
    page.choose("#speed", "1").await;
    page.click_at("#wave", 46.9 / 60.0).await;
    let watch = "window.seen = new Set(); setInterval(() => seen.add(NOW), 50); true";
    page.eval(&watch.replace("NOW", now)).await;
    page.click("#skip").await;
    page.until(&format!("{now} >= 55")).await;
    assert_eq!(page.eval("[50, 51, 52, 53, 54].filter((s) => seen.has(s))").await, json!([]));
    let skipped = page.eval(now).await.as_i64().unwrap();
    assert!(skipped < 58, "{skipped}");
    assert_quiet(&page);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_keys_are_told_and_can_be_switched_off() {
    let bench = site().await;
    let browser = Browser::start().await;
    let page = listed(&bench, &browser, &format!("/#{}", id(WOUNDED))).await;
    page.until("document.querySelector('#player')?.dataset.drawn").await;
    page.click("#skip").await;
    page.key("?", "?").await;
    page.eval("document.activeElement.blur()").await;
    page.key("?", "?").await;
    page.until("document.querySelector('#help')?.open").await;
    page.picture("help").await;
    assert_eq!(page.barriers().await, Vec::<String>::new());
    page.click("#help button").await;
    page.until("!document.querySelector('#help')").await;
    // Switched off, keys work while the waveform has the focus, and only then.
    page.click("#showhelp").await;
    page.click("#singlekeys").await;
    page.click("#help button").await;
    page.eval("document.activeElement.blur()").await;
    let speed = "document.querySelector('#speed').value";
    page.key(".", ".").await;
    page.eval("document.querySelector('#wave').focus()").await;
    page.key(",", ",").await;
    page.until(&format!("{speed} === '0.75'")).await;
    assert_quiet(&page);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_channels_one_can_be_heard_alone() {
    let bench = site().await;
    let browser = Browser::start().await;
    let page = listed(&bench, &browser, &format!("/#{}", id(TWO_CHANNELS))).await;
    page.until("document.querySelector('#player')?.dataset.drawn").await;
    let now = "Number(document.querySelector('#wave').getAttribute('aria-valuenow'))";
    page.click("#play").await;
    page.until(&format!("{now} >= 1")).await;
    for (key, channel) in [("1", "left"), ("2", "right"), ("0", "both")] {
        page.eval("document.activeElement.blur()").await;
        page.key(key, key).await;
        page.until(&format!("document.querySelector('#channel').value === '{channel}'")).await;
    }
    page.until(&format!("{now} >= 4")).await;
    assert_quiet(&page);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_browser_decodes_is_what_was_said() {
    let bench = Bench::start(2).await;
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recorded(call).await;
    bench.frames(call, 150).await;
    bench.site.switch().hangup_all(call);
    let published = bench.published(1).await;
    let record = &published[0].1;
    let browser = Browser::start().await;
    let page = browser.open(&address(bench.node.web(), &format!("/#{}", record.recordingid))).await;
    sign_in(&page, "qa", PASSWORD).await;
    page.until("document.querySelector('#player')?.dataset.drawn").await;
    page.click("#play").await;
    page.until("document.querySelector('#wave').getAttribute('aria-valuenow') === '3'").await;
    // The same bytes as the player's, through the browser's own decoder.
    let samples = page
        .eval(&format!(
            "(async () => {{
               const answer = await fetch('/api/recordings/{}/audio?format=wav');
               const context = new OfflineAudioContext(1, 8000, 8000);
               const sound = await context.decodeAudioData(await answer.arrayBuffer());
               const samples = Int16Array.from(sound.getChannelData(0), (s) => Math.round(s * 32768));
               let text = '';
               for (const byte of new Uint8Array(samples.buffer)) {{ text += String.fromCharCode(byte); }}
               return btoa(text);
             }})()",
            record.recordingid
        ))
        .await;
    let bytes = from_base64(samples.as_str().unwrap());
    let samples: Vec<i16> =
        bytes.chunks_exact(2).map(|p| i16::from_le_bytes([p[0], p[1]])).collect();
    assert_eq!(samples.len() as u64, record.durationms * 8);
    let by_a = tone::scan_pcm(Law::A, &samples);
    let codes = if by_a.is_empty() { tone::scan_pcm(Law::Mu, &samples) } else { by_a };
    let ours = codes.iter().filter(|(_, code)| code.serial == call.serial).count();
    // All frames of the recording, in order, and no other call's.
    assert!(
        ours as u64 >= record.durationms / 20 - 1 && ours == codes.len(),
        "{ours} of {}",
        codes.len()
    );
    let in_order = codes.windows(2).all(|two| two[1].1.frame == two[0].1.frame + 1);
    assert!(in_order, "frames are missing or out of order");
    let kind: Value = page.eval("document.querySelector('#downloadwav') !== null").await;
    assert_eq!(kind, true, "a file in G.711 is offered as plain WAV, too");
    assert_quiet(&page);
}
