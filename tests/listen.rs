//! Listening in over real sockets: what is said is heard, in order and less than half a second later, from any node,
//! and across a takeover; what is said in a pause is not.

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use astlogger::demo::{Cti, Heard};
use common::group::{GroupBench, ONE, TWO, WITNESS};
use common::{Bench, LIMIT};
use futures_util::future::join_all;
use serde_json::{Value, json};
use simulator::tone::{self, Law};
use simulator::{CallRef, Site, SiteConfig};
use tokio::time::Instant;

/// Frames of a call that are listened to: 2 s.
const SOME: usize = 100;
/// A frame on its way when somebody asks.
const NEAR: u32 = 2;
/// Half a second, in frames of the call.
const BEHIND_MAX: u32 = 25;

/// Somebody who listens to a call.
struct Listener {
    cti: Cti,
    number: u64,
    serial: u32,
    call: CallRef,
    /// What has been heard and not been read yet.
    samples: Vec<i16>,
    /// Frames of the call that were heard.
    codes: Vec<u32>,
    /// By how many frames the call was ahead when each was heard.
    behind: Vec<u32>,
}

/// What comes next for a listener.
enum Next {
    Sound,
    Event(Value),
}

impl Listener {
    async fn begin(mut cti: Cti, site: &Site, call: CallRef) -> Self {
        let ucid = site.switch().call(call).expect("it is up").ucid;
        let reply = cti.ask(json!({ "request": "listen", "ucid": ucid })).await.expect("a reply");
        assert_eq!(
            (&reply["result"], &reply["rate"]),
            (&json!("success"), &json!(8000)),
            "{reply}"
        );
        let number = reply["listen"].as_u64().expect("a number");
        let (samples, codes, behind) = Default::default();
        Self { cti, number, serial: call.serial, call, samples, codes, behind }
    }

    async fn next(&mut self, site: &Site) -> Next {
        let frame = match self.cti.next().await.expect("sound or an event") {
            Heard::Text(event) => return Next::Event(event),
            Heard::Binary(frame) => frame,
        };
        assert_eq!(frame[..4], u32::try_from(self.number).expect("small").to_be_bytes());
        assert_eq!(frame.len(), 4 + 320, "20 ms");
        let samples = frame[4..].chunks_exact(2);
        self.samples.extend(samples.map(|pair| i16::from_le_bytes([pair[0], pair[1]])));
        let sent = site.switch().call(self.call).map(|view| view.frames);
        for (at, code) in tone::scan_pcm(Law::A, &self.samples) {
            assert_eq!(code.serial, self.serial, "another call's audio");
            self.codes.push(code.frame);
            self.behind.extend(sent.map(|sent| sent.saturating_sub(code.frame)));
            // The rest is the begin of the next one, as far as it is there.
            self.samples[..at + 104].fill(0);
        }
        let old = self.samples.len().saturating_sub(320);
        self.samples.drain(..old);
        Next::Sound
    }

    /// Listens until so many more frames of the call were heard.
    async fn hears(&mut self, site: &Site, frames: usize) {
        let (until, deadline) = (self.codes.len() + frames, Instant::now() + LIMIT);
        while self.codes.len() < until {
            assert!(Instant::now() < deadline, "{} of {until} frames", self.codes.len());
            if let Next::Event(event) = self.next(site).await {
                panic!("instead of sound: {event}");
            }
        }
    }

    /// Listens until this event comes.
    async fn event(&mut self, site: &Site, eventtype: &str) -> Value {
        let deadline = Instant::now() + LIMIT;
        loop {
            assert!(Instant::now() < deadline, "no {eventtype}");
            if let Next::Event(event) = self.next(site).await {
                assert_eq!(
                    (&event["eventtype"], &event["listen"]),
                    (&json!(eventtype), &json!(self.number))
                );
                return event;
            }
        }
    }

    /// Listens on at node 2, and tells after how long.
    async fn follows(&mut self, site: &Site) -> Duration {
        let began = Instant::now();
        let moved = self.event(site, "listenmoved").await;
        assert_eq!(moved["node"], 2, "{moved}");
        let after = began.elapsed();
        self.codes.clear();
        self.behind.clear();
        self.hears(site, SOME).await;
        // What it began with may be of either side of the hole.
        self.codes.drain(..SOME / 4);
        self.behind.drain(..SOME / 4);
        self.assert_all_in_time();
        after
    }

    /// Every frame once and in order from the first to the last, less than half a second behind.
    #[track_caller]
    fn assert_all_in_time(&self) {
        let (first, last) = (self.codes[0], self.codes[self.codes.len() - 1]);
        assert_eq!(self.codes, (first..=last).collect::<Vec<_>>());
        let mut behind = self.behind.clone();
        behind.sort_unstable();
        let median = behind[behind.len() / 2];
        println!("heard {} frames, {} ms behind (half of them)", self.codes.len(), median * 20);
        assert!(median < BEHIND_MAX, "{behind:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_heard_as_it_goes_on() {
    let bench = Bench::start(2).await;
    let call = bench.answered_call("5551230001", "31001").await;
    let other = bench.answered_call("5551230002", "31002").await;
    bench.recorded(call).await;
    bench.recorded(other).await;
    bench.frames(call, 20).await;
    let mut listener = Listener::begin(bench.cti("supervisor").await, &bench.site, call).await;
    bench.metric("astlogger_web_listeners", |count| count == 1.0).await;
    listener.hears(&bench.site, SOME).await;
    listener.assert_all_in_time();
    // Whoever asked stops it: nothing comes after the reply.
    let stop = json!({ "request": "stoplisten", "listen": listener.number });
    let reply = listener.cti.ask(stop.clone()).await.expect("a reply");
    assert_eq!(reply["result"], "success", "{reply}");
    let again = listener.cti.ask(stop).await.expect("a reply");
    assert_eq!(again["error"], "notfound", "{again}");
    bench.metric("astlogger_web_listeners", |count| count == 0.0).await;
    // A call that is over is not listened to any more, and none that nobody records.
    let mut listener = Listener::begin(listener.cti, &bench.site, other).await;
    assert_eq!(listener.number, 2);
    listener.hears(&bench.site, 10).await;
    bench.site.switch().hangup_all(other);
    let event = listener.event(&bench.site, "listencomplete").await;
    assert_eq!(event["dropped"], 0, "{event}");
    assert!(event["frames"].as_u64() > Some(10), "{event}");
    let mut cti = listener.cti;
    let stopped = json!({ "request": "stoprecording", "extension": "31001" });
    assert_eq!(cti.ask(stopped).await.expect("a reply")["result"], "success");
    let ucid = bench.site.switch().call(call).expect("it is up").ucid;
    for (ucid, error) in [(ucid.as_str(), "unavailable"), ("00001000011799999999", "nocall")] {
        let reply = cti.ask(json!({ "request": "listen", "ucid": ucid })).await.expect("a reply");
        assert_eq!(reply["error"], error, "{reply}");
    }
    bench.site.switch().hangup_all(call);
    let published = bench.published(2).await;
    assert_eq!(published.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_in_a_pause_is_not_heard() {
    let bench = Bench::start(1).await;
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recorded(call).await;
    bench.frames(call, 20).await;
    let site = &bench.site;
    let mut listener = Listener::begin(bench.cti("supervisor").await, site, call).await;
    listener.hears(site, 30).await;
    let mut boss = bench.cti("supervisor").await;
    let sent = || site.switch().call(call).expect("it is up").frames;
    let pause = json!({ "request": "pauserecording", "extension": "31001" });
    assert_eq!(boss.ask(pause).await.expect("a reply")["result"], "success");
    let from = sent() + NEAR;
    bench.frames(call, from + 60).await;
    let resume = json!({ "request": "resumerecording", "extension": "31001" });
    let to = sent();
    assert_eq!(boss.ask(resume).await.expect("a reply")["result"], "success");
    bench.frames(call, to + 30).await;
    site.switch().hangup_all(call);
    listener.event(site, "listencomplete").await;
    let heard: BTreeSet<u32> = listener.codes.iter().copied().collect();
    let paused: Vec<_> = heard.range(from..to).collect();
    assert!(paused.is_empty(), "{paused:?} of {from}..{to}");
    assert!(heard.range(to..).count() > 10, "it goes on after it: {heard:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn encrypted_media_is_heard_in_clear() {
    let mut config = SiteConfig::demo(1, 1);
    config.switches.encryption = vec!["1-srtp-aescm128-hmac80".to_owned()];
    let settings = "al_mediaencryption = [\"srtp-aescm128-hmac80\"]\n";
    let bench = Bench::start_with(config, settings).await;
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recorded(call).await;
    bench.frames(call, 20).await;
    let mut listener = Listener::begin(bench.cti("supervisor").await, &bench.site, call).await;
    listener.hears(&bench.site, SOME / 2).await;
    listener.assert_all_in_time();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_node_lets_listen_and_a_takeover_is_followed() {
    let mut bench = GroupBench::hot_standby(2).await;
    let calls = bench.calls(1).await;
    bench.recorded_by(&calls, ONE).await;
    bench.go_on(&calls, 20).await;
    let mut listeners = Vec::new();
    for node in [ONE, TWO, WITNESS] {
        let cti = bench.cti(node, "supervisor").await;
        let mut listener = Listener::begin(cti, &bench.group.site, calls[0]).await;
        listener.hears(&bench.group.site, SOME / 2).await;
        listener.assert_all_in_time();
        if node != ONE {
            listeners.push(listener);
        }
    }
    bench.kill(ONE).await;
    let site = &bench.group.site;
    let followed = join_all(listeners.iter_mut().map(|listener| listener.follows(site))).await;
    println!("moved after {followed:?}");
    bench.hang_up(&calls);
    for over in join_all(listeners.iter_mut().map(|one| one.event(site, "listencomplete"))).await {
        assert!(over["frames"].as_u64() > Some(SOME as u64), "{over}");
    }
    bench.run().await;
    bench.assert_right(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listening_disturbs_no_recording_and_a_socket_that_closes_ends_it() {
    let bench = Bench::start(4).await;
    let mut calls = Vec::new();
    for number in 1..=4 {
        let (caller, station) = (format!("555123000{number}"), format!("3100{number}"));
        calls.push(bench.answered_call(&caller, &station).await);
    }
    for call in &calls {
        bench.recorded(*call).await;
        bench.frames(*call, 10).await;
    }
    // One listens to all, reads nothing, and goes away.
    let mut deaf = bench.cti("supervisor").await;
    for call in &calls {
        let ucid = bench.site.switch().call(*call).expect("it is up").ucid;
        let reply = deaf.ask(json!({ "request": "listen", "ucid": ucid })).await.expect("a reply");
        assert_eq!(reply["result"], "success", "{reply}");
    }
    let mut listener = Listener::begin(bench.cti("supervisor").await, &bench.site, calls[0]).await;
    bench.metric("astlogger_web_listeners", |count| count == 5.0).await;
    listener.hears(&bench.site, SOME).await;
    listener.assert_all_in_time();
    drop(deaf);
    bench.metric("astlogger_web_listeners", |count| count == 1.0).await;
    drop(listener);
    bench.metric("astlogger_web_listeners", |count| count == 0.0).await;
    for call in &calls {
        bench.site.switch().hangup_all(*call);
    }
    bench.published(4).await;
    let verdict = bench.judge();
    assert!(verdict.is_exactly_right(), "{verdict:#?}");
}
