//! Listening in to each form in which calls come: on two channels, as G.729, encrypted, from each member of a group.
//! Those who talk do so in plain tones, so that what a listener is sent can be measured: its pitch, its level, how late
//! it comes, and that nothing of it comes in a pause.

mod common;

use std::time::Duration;

use astlogger::demo::{Cti, Heard};
use common::LIMIT;
use common::forms::{Form, Running, TWO_SIDES};
use common::group::{ONE, TWO, WITNESS};
use common::pauses::{ask, resume};
use common::pitch::{
    AFTER, BEFORE, LEVEL, PAUSED, PEAK, Pitches, SILENT, UNHEARD, WINDOW, level_of, loudness, say,
};
use serde_json::json;
use simulator::CallRef;
use storage_core::NodeId;
use tokio::time::Instant;

/// By 40 ms it is told which tone is heard.
const GLANCE: usize = 320;
/// How late what is said may be heard.
const LATE_MAX: Duration = Duration::from_millis(500);
/// How often that is measured.
const TIMES: usize = 5;

/// Somebody who listens, and what he has been sent.
struct Listener {
    cti: Cti,
    number: u32,
    heard: Vec<i16>,
}

impl Listener {
    async fn begin(running: &Running, node: NodeId, call: CallRef) -> Self {
        let ucid = running.bench.group.site.switch().call(call).expect("it is up").ucid;
        let mut cti = running.bench.cti(node, "supervisor").await;
        let reply = cti.ask(json!({ "request": "listen", "ucid": ucid })).await.expect("a reply");
        assert_eq!(
            (&reply["result"], &reply["rate"]),
            (&json!("success"), &json!(8000)),
            "{reply}"
        );
        let number = reply["listen"].as_u64().and_then(|number| number.try_into().ok());
        Self { cti, number: number.expect("a small number"), heard: Vec::new() }
    }

    async fn frame(&mut self) {
        match self.cti.next().await.expect("sound") {
            Heard::Text(event) => panic!("instead of sound: {event}"),
            Heard::Binary(frame) => {
                assert_eq!(frame[..4], self.number.to_be_bytes());
                let pairs = frame[4..].chunks_exact(2);
                self.heard.extend(pairs.map(|pair| i16::from_le_bytes([pair[0], pair[1]])));
            }
        }
    }

    /// Listens on for so long, and gives what was heard in that time.
    async fn hear(&mut self, samples: usize) -> &[i16] {
        let from = self.heard.len();
        while self.heard.len() < from + samples {
            self.frame().await;
        }
        &self.heard[from..]
    }

    /// Listens until these tones, and nothing else, are heard.
    async fn until(&mut self, tones: &[u16]) {
        let deadline = Instant::now() + LIMIT;
        loop {
            self.frame().await;
            let from = self.heard.len().saturating_sub(GLANCE);
            let levels = tones.iter().map(|hertz| level_of(&self.heard[from..], *hertz));
            if levels.fold(0.0, f64::min) > LEVEL - 10.0 {
                return;
            }
            assert!(Instant::now() < deadline, "{tones:?} Hz are not heard");
        }
    }
}

/// The tones of a form's channels, which a listener hears together.
fn tones(form: &Form, pitches: Pitches) -> Vec<u16> {
    form.parts().iter().map(|part| pitches[*part as usize]).collect()
}

/// These tones are heard all the time, each as loud as it is spoken, and all together hardly louder.
#[track_caller]
fn assert_heard(samples: &[i16], tones: &[u16], apart_max: f64) {
    for hertz in tones {
        let levels: Vec<_> = samples.chunks_exact(WINDOW).map(|w| level_of(w, *hertz)).collect();
        let apart = levels.iter().map(|level| (level - LEVEL).abs()).fold(0.0, f64::max);
        assert!(levels.len() >= 8 && apart < apart_max, "{hertz} Hz: {levels:?}, not {LEVEL}");
    }
    let together = LEVEL + 10.0 * (tones.len() as f64).log10();
    let all = loudness(samples);
    assert!((all - together).abs() < apart_max, "{all} in all instead of {together}");
}

impl Listener {
    /// These tones are said from now on, and heard. G.729 tells of a tone whose begin was missed only softly.
    async fn hears(&mut self, running: &Running, form: &Form, pitches: Pitches) {
        say(&running.bench.group.site, pitches);
        self.until(&tones(form, pitches)).await;
        self.hear(WINDOW).await;
        let heard = self.hear(8 * 1_000).await;
        assert_heard(heard, &tones(form, pitches), form.apart_max());
    }

    /// How late it is heard that others are said, half of the times or less.
    async fn lateness(&mut self, running: &Running, form: &Form) -> Duration {
        let mut late = Vec::new();
        for pitches in [AFTER, BEFORE].into_iter().cycle().take(TIMES) {
            say(&running.bench.group.site, pitches);
            let said = Instant::now();
            self.until(&tones(form, pitches)).await;
            late.push(said.elapsed());
        }
        late.sort_unstable();
        println!("heard after {late:?}");
        late[TIMES / 2]
    }

    /// Listens to a call that is paused and goes on.
    async fn hears_no_pause(&mut self, running: &Running, form: &Form) {
        let site = &running.bench.group.site;
        let mut boss = running.bench.cti(ONE, "supervisor").await;
        let reply = ask(&mut boss, "pauserecording", "31001").await;
        assert_eq!(reply["result"], "success", "{reply}");
        say(site, PAUSED);
        let from = self.heard.len();
        // What was said before is on its way to the listener for a moment.
        self.hear(8 * 600).await;
        let silence = self.hear(8 * 1_000).await;
        assert!(loudness(silence) < SILENT, "{}", loudness(silence));
        say(site, BEFORE);
        self.hear(8 * 200).await;
        resume(&mut boss, "31001").await;
        self.hears(running, form, AFTER).await;
        for (start, window) in self.heard[from..].windows(WINDOW).enumerate().step_by(WINDOW / 4) {
            for hertz in PAUSED {
                let found = level_of(window, hertz);
                assert!(found < UNHEARD, "{hertz} Hz {} ms behind: {found}", start / 8);
            }
        }
    }
}

/// A call is listened to at each of these members.
async fn is_heard(form: Form, members: &[NodeId]) {
    assert!(i32::from(PEAK) * 2 < i32::from(i16::MAX), "two tones at once are not cut");
    let running = form.start().await;
    let (bench, site) = (&running.bench, &running.bench.group.site);
    say(site, AFTER);
    let call = bench.call(0).await;
    for node in form.recorders() {
        bench.metric(*node, "astlogger_recordings_active", |count| count == 1.0).await;
    }
    bench.go_on(&[call], 20).await;
    for node in members {
        let mut listener = Listener::begin(&running, *node, call).await;
        listener.hear(WINDOW).await;
        listener.hears(&running, &form, BEFORE).await;
        let late = listener.lateness(&running, &form).await;
        assert!(late < LATE_MAX, "at node {node}: {late:?}");
        listener.hears_no_pause(&running, &form).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_are_heard_together() {
    is_heard(Form { settings: TWO_SIDES, ..Form::default() }, &[ONE]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_are_heard_that_come_encrypted() {
    is_heard(Form { settings: TWO_SIDES, srtp: true, ..Form::default() }, &[ONE]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g729_is_heard() {
    is_heard(Form { codec: Some("g729a"), ..Form::default() }, &[ONE]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn encrypted_g729_is_heard_at_each_member() {
    let form = Form { codec: Some("g729a"), srtp: true, twice: true, ..Form::default() };
    is_heard(form, &[ONE, TWO, WITNESS]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn encrypted_media_is_heard_at_each_member() {
    let form = Form { srtp: true, keys: true, twice: true, ..Form::default() };
    is_heard(form, &[ONE, TWO, WITNESS]).await;
}
