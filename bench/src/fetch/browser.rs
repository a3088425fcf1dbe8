//! How long people wait for an hour's audio in a real Chromium: from the click on Play until it sounds, and from the
//! click into the middle of the waveform until it sounds there. Beside it, how long that browser takes for a second of
//! audio that it has already. Headless, and without a sound card, but by the page and the player that people use.

#[allow(dead_code, reason = "the tests of the pages use the rest, too")]
#[path = "../../../tests/browser/devtools.rs"]
mod devtools;

use std::net::SocketAddr;

use anyhow::{Context, Result};
use devtools::{Browser, Page};

/// How often each is timed.
const ROUNDS: usize = 20;

/// Puts into `took` how long after the page was touched audio sounded: behind where it stood, or, once there is some,
/// behind where it was sought.
const WATCH: &str = "(() => {
    const play = HTMLMediaElement.prototype.play;
    HTMLMediaElement.prototype.play = function () { window.heard = this; return play.call(this); };
    addEventListener('pointerdown', () => {
        const touched = performance.now();
        window.took = null;
        let from = window.heard ? Infinity : 0;
        window.heard?.addEventListener('seeking', () => { from = window.heard.currentTime; }, { once: true });
        const look = setInterval(() => {
            const audio = window.heard;
            if (audio && !audio.paused && !audio.seeking && audio.currentTime > from) {
                window.took = performance.now() - touched;
                clearInterval(look);
            }
        }, 1);
    }, true);
})()";

/// A second of silence that plays at once; milliseconds until it sounds.
const AT_HAND: &str = "(async () => {
    const bytes = new Uint8Array(44 + 16000);
    const view = new DataView(bytes.buffer);
    const text = (at, word) => [...word].forEach((letter, i) => { bytes[at + i] = letter.charCodeAt(0); });
    text(0, 'RIFF'); view.setUint32(4, 36 + 16000, true); text(8, 'WAVEfmt '); view.setUint32(16, 16, true);
    view.setUint16(20, 1, true); view.setUint16(22, 1, true); view.setUint32(24, 8000, true);
    view.setUint32(28, 16000, true); view.setUint16(32, 2, true); view.setUint16(34, 16, true);
    text(36, 'data'); view.setUint32(40, 16000, true);
    const audio = new Audio(URL.createObjectURL(new Blob([bytes], { type: 'audio/wav' })));
    await new Promise((done) => audio.addEventListener('canplaythrough', done, { once: true }));
    const begun = performance.now();
    audio.play();
    return new Promise((done) => {
        const look = setInterval(() => {
            if (audio.currentTime > 0) { clearInterval(look); done(performance.now() - begun); }
        }, 1);
    });
})()";

/// Milliseconds.
#[derive(Debug, Default)]
pub struct Waits {
    /// From the click on Play.
    pub begin: Vec<f64>,
    /// From the click into the middle.
    pub middle: Vec<f64>,
    /// For what the browser has.
    pub at_hand: Vec<f64>,
}

/// Opens the recording again and again, each time in a window that has seen nothing of it.
pub async fn waits(
    node: SocketAddr,
    recording: &str,
    (user, password): (&str, &str),
) -> Result<Waits> {
    let browser = Browser::start().await;
    let mut waits = Waits::default();
    let bare = browser.open("about:blank#at-hand").await;
    for _ in 0..ROUNDS {
        waits.at_hand.push(bare.eval(AT_HAND).await.as_f64().context("no time")?);
        let page = browser.open(&format!("http://{node}/#{recording}")).await;
        page.fill("#user", user).await;
        page.fill("#password", password).await;
        page.click("#signin").await;
        page.until("document.querySelector('#player')?.dataset.drawn").await;
        page.eval(WATCH).await;
        page.click("#play").await;
        waits.begin.push(took(&page).await?);
        page.click_at("#wave", 0.5).await;
        waits.middle.push(took(&page).await?);
        page.call("Page.close", serde_json::json!({})).await;
    }
    Ok(waits)
}

async fn took(page: &Page) -> Result<f64> {
    page.until("Number.isFinite(window.took)").await;
    page.eval("window.took").await.as_f64().context("no time")
}
