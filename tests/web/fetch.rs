//! Fetching audio over WebSocket: nothing missing, nothing twice, and nobody harmed by anybody.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use astlogger::users::UserRole;
use astlogger::web::Limits;
use astlogger::web::backend::Topic;
use futures_util::StreamExt;
use serde_json::{Value, json};
use storage_core::RecordingId;
use tokio_tungstenite::tungstenite::Message;

use super::client::{Client, metric};
use super::node::{FakeNode, Site, eventually, id, noise, sha256};

fn fetch(recording: RecordingId) -> Value {
    json!({ "request": "fetchrecording", "recordingid": recording })
}

/// Reads until so many fetches are complete: the bytes of each by number, and the order of frames.
async fn collect(client: &mut Client, fetches: usize) -> (BTreeMap<u32, Vec<u8>>, Vec<u32>) {
    let mut bytes: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    let mut order = Vec::new();
    let mut complete = 0;
    while complete < fetches {
        match client.next().await {
            Message::Binary(frame) => {
                assert!((4..=65_536).contains(&frame.len()));
                let (number, audio) = frame.split_at(4);
                let number = u32::from_be_bytes(number.try_into().unwrap());
                bytes.entry(number).or_default().extend(audio);
                order.push(number);
            }
            Message::Text(text) => {
                let event: Value = serde_json::from_str(&text).unwrap();
                if event["eventtype"] != "fetchcomplete" {
                    continue;
                }
                let number = u32::try_from(event["fetch"].as_u64().unwrap()).unwrap();
                let all = bytes.entry(number).or_default();
                assert_eq!(event["bytes"], all.len());
                assert_eq!(event["sha256"], sha256(all));
                complete += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    (bytes, order)
}

#[tokio::test]
async fn whole_and_in_part() {
    let site = Site::new().await;
    let audio = noise(300_000, 1);
    let recording = site.node.put(1, "2611", audio.clone());
    let mut client = Client::signed_in(&site, UserRole::Qa).await;
    for (offset, length, expected) in [
        (None, None, 0..300_000),
        (Some(0), Some(1), 0..1),
        (Some(65_531), Some(65_533), 65_531..131_064),
        (Some(299_999), None, 299_999..300_000),
        (Some(300_000), None, 300_000..300_000),
        (Some(100), Some(9_999_999), 100..300_000),
    ] {
        let mut request = fetch(recording);
        request["id"] = json!("x");
        if let Some(offset) = offset {
            request["offset"] = json!(offset);
        }
        if let Some(length) = length {
            request["length"] = json!(length);
        }
        let reply = client.ask(request).await;
        assert_eq!(reply["recordingid"], recording.to_string());
        assert_eq!((&reply["format"], &reply["id"]), (&json!("original"), &json!("x")));
        assert_eq!((&reply["bytes"], &reply["size"]), (&json!(expected.len()), &json!(300_000)));
        assert_eq!(reply["sha256"], sha256(&audio));
        let (got, _) = collect(&mut client, 1).await;
        let number = u32::try_from(reply["fetch"].as_u64().unwrap()).unwrap();
        assert!(got[&number] == audio[expected]);
    }
    for (argument, value, error) in [
        ("offset", json!(300_001), "badvalue"),
        ("offset", json!(-1), "badvalue"),
        ("length", json!(0), "badvalue"),
        ("length", json!(1.5), "badvalue"),
        ("format", json!("mp3"), "badvalue"),
        ("format", json!("opus"), "unavailable"),
    ] {
        let mut request = fetch(recording);
        request[argument] = value.clone();
        assert_eq!(client.ask(request).await["error"], error, "{argument} {value}");
    }
    assert_eq!(client.ask(fetch(id(77))).await["error"], "notfound");
    eventually("all audio is closed", || site.node.audio_open.load(Ordering::SeqCst) == 0).await;
    assert_eq!(metric(&site, "astlogger_fetches_total").await, 6);
}

#[tokio::test]
async fn several_at_once_take_turns() {
    let site = Site::new().await;
    let sizes = [2_000_000, 100_000, 1_500_000, 0];
    let audio: Vec<Vec<u8>> = (0..).zip(sizes).map(|(seed, size)| noise(size, seed)).collect();
    let mut client = Client::signed_in(&site, UserRole::Qa).await;
    for (number, bytes) in (1..).zip(&audio) {
        let recording = site.node.put(number, "2611", bytes.clone());
        client.send(fetch(recording).to_string()).await;
    }
    let (got, order) = collect(&mut client, 4).await;
    // Replies came between; which number is whose they tell, and so do the lengths.
    let mut lengths: Vec<usize> = got.values().map(Vec::len).collect();
    lengths.sort_unstable();
    assert_eq!(lengths, [0, 100_000, 1_500_000, 2_000_000]);
    assert!(got.values().all(|bytes| audio.contains(bytes)));
    let longest = got.iter().max_by_key(|(_, bytes)| bytes.len()).unwrap().0;
    let short = got.iter().find(|(_, bytes)| bytes.len() == 100_000).unwrap().0;
    let frames_of = |number| order.iter().enumerate().filter(move |(_, of)| **of == number);
    let first = frames_of(*short).next().unwrap().0;
    let last = frames_of(*short).next_back().unwrap().0;
    let between = order[first..last].iter().filter(|number| *number == longest).count();
    assert!(between <= 2, "the short one waited for {between} frames of the long one");
}

#[tokio::test]
async fn a_cancelled_fetch_sends_no_more_after_the_reply() {
    let site = Site::new().await;
    let recording = site.node.put(1, "2611", noise(10_000_000, 1));
    let mut client = Client::signed_in(&site, UserRole::Supervisor).await;
    let number = client.ask(fetch(recording)).await["fetch"].clone();
    let reply = client.ask(json!({ "request": "cancelfetch", "fetch": number })).await;
    assert_eq!((&reply["result"], &reply["fetch"]), (&json!("success"), &number));
    client.frames.clear();
    let reply = client.ask(json!({ "request": "cancelfetch", "fetch": number })).await;
    assert_eq!(reply["error"], "notfound");
    let reply = client.ask(json!({ "request": "cancelfetch", "fetch": "x" })).await;
    assert_eq!(reply["error"], "badvalue");
    eventually("the audio is closed", || site.node.audio_open.load(Ordering::SeqCst) == 0).await;
    assert_eq!(client.ask(json!({ "request": "clusterstatus" })).await["result"], "success");
    assert!(client.frames.is_empty() && client.events.is_empty());
}

#[tokio::test]
async fn a_socket_runs_sixteen_fetches_and_no_more() {
    let site = Site::new().await;
    let recording = site.node.put(1, "2611", noise(1_000_000, 1));
    let mut client = Client::signed_in(&site, UserRole::Qa).await;
    for _ in 0..20 {
        client.send(fetch(recording).to_string()).await;
    }
    let mut outcomes = Vec::new();
    for _ in 0..20 {
        outcomes.push(client.reply().await);
    }
    let busy = outcomes.iter().filter(|reply| reply["error"] == "busy").count();
    let served = outcomes.iter().filter(|reply| reply["result"] == "success").count();
    assert_eq!(busy + served, 20);
    assert!(served >= 16, "{served}");
}

#[tokio::test]
async fn a_reader_who_stops_costs_bounded_memory_and_harms_nobody() {
    let site = Site::new().await;
    let big = site.node.put(1, "2611", noise(20_000_000, 1));
    let small = site.node.put(2, "2611", noise(500_000, 2));
    for number in 3..200 {
        let id = site.node.put(number, "2611", Vec::new());
        let mut recordings = site.node.recordings.lock().unwrap();
        recordings.get_mut(&id).unwrap().0.userdata = "u".repeat(1000);
    }
    let mut stalled = Client::signed_in(&site, UserRole::Supervisor).await;
    stalled.send(json!({ "request": "subscribe", "events": ["calls"] }).to_string()).await;
    for _ in 0..10 {
        stalled.send(fetch(big).to_string()).await;
        // Each reply is as long as replies may be.
        stalled.send(r#"{"request":"listrecordings","limit":1000}"#).await;
    }
    // It reads no more, but goes on asking, until the server takes no more of that either.
    let padded = json!({ "request": "listcalls", "id": "x".repeat(30_000) }).to_string();
    let asking = async {
        loop {
            stalled.send(padded.clone()).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(1), asking).await.is_err());
    for _ in 0..3000 {
        site.node.tell(Topic::Calls, "callupdated", &["2611"]);
    }
    let reads = site.node.audio_reads.load(Ordering::SeqCst);

    let mut other = Client::signed_in(&site, UserRole::Qa).await;
    for _ in 0..5 {
        other.ask(fetch(small)).await;
        collect(&mut other, 1).await;
    }
    let unsent = metric(&site, "astlogger_web_unsent_bytes_max").await;
    assert!(unsent > 100_000 && unsent <= 1 << 20, "{unsent}");
    let others = 5 * (500_000 / 65_532 + 1);
    let since = site.node.audio_reads.load(Ordering::SeqCst) - reads;
    assert!(since <= others + 2, "{since} reads: the stalled one is read on for");
    assert!(reads < 200, "{reads} frames went into buffers nobody reads");
    drop(stalled);
    eventually("all audio is closed", || site.node.audio_open.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn a_slow_subscriber_learns_that_events_are_lost() {
    let site = Site::new().await;
    let big = site.node.put(1, "2611", noise(10_000_000, 1));
    let mut client = Client::signed_in(&site, UserRole::Supervisor).await;
    client.ask(json!({ "request": "subscribe", "events": ["calls"] })).await;
    client.ask(fetch(big)).await;
    // Nothing is read while these are told, so neither this queue nor the node's can hold them.
    for _ in 0..20_000 {
        site.node.tell(Topic::Calls, "callupdated", &["2611"]);
        tokio::task::yield_now().await;
    }
    let mut heard = 0;
    let mut lost = 0;
    let mut complete = false;
    while heard + lost < 20_000 || !complete {
        let Message::Text(text) = client.next().await else { continue };
        let event: Value = serde_json::from_str(&text).unwrap();
        match event["eventtype"].as_str().unwrap() {
            "callupdated" => heard += 1,
            "eventslost" => lost += event["lost"].as_u64().unwrap(),
            "fetchcomplete" => complete = true,
            other => panic!("{other}"),
        }
    }
    assert_eq!(heard + lost, 20_000);
    assert!(lost > 0);
}

#[tokio::test]
async fn two_hundred_resets_in_the_middle_of_a_fetch_harm_nobody() {
    let node = FakeNode::new();
    let site = Arc::new(Site::with(Limits::default(), node).await);
    let audio = noise(3_000_000, 1);
    let recording = site.node.put(1, "2611", audio.clone());
    let mut steady = Client::signed_in(&site, UserRole::Qa).await;
    let resets = {
        let site = Arc::clone(&site);
        tokio::spawn(async move {
            for round in 0..200 {
                let mut client = Client::signed_in(&site, UserRole::Qa).await;
                client.send(fetch(recording).to_string()).await;
                // At another point each time: before the reply, after it, after some frames.
                for _ in 0..round % 7 {
                    let _ = client.ws.next().await;
                }
                client.ws.get_ref().set_zero_linger().unwrap();
            }
        })
    };
    let mut rounds = 0;
    while !resets.is_finished() {
        let number = steady.ask(fetch(recording)).await["fetch"].as_u64().unwrap();
        let (got, _) = collect(&mut steady, 1).await;
        assert!(got[&u32::try_from(number).unwrap()] == audio);
        rounds += 1;
    }
    resets.await.unwrap();
    assert!(rounds > 0);
    eventually("all audio is closed", || site.node.audio_open.load(Ordering::SeqCst) == 0).await;
    assert_eq!(steady.ask(json!({ "request": "listrecordings" })).await["total"], 1);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while metric(&site, "astlogger_web_sockets").await != 1 {
        assert!(tokio::time::Instant::now() < deadline, "sockets are left");
    }
}
