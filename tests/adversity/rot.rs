//! Bit rot: a byte of a voice file flips, a record cannot be read any more, a line of the manifest is gone.

use std::fs;
use std::path::{Path, PathBuf};

use astlogger::demo::{Cti, Heard, Shape};
use serde_json::{Value, json};
use simulator::SiteConfig;
use storage_core::{NodeId, Recording};

use crate::common::group::{GroupBench, ONE, TWO, sha256};
use crate::sees::{cleared, console, logged, node, scrubs, told, verified};

/// A hot standby with consoles, and two recordings that lie on both recorders.
async fn recorded() -> GroupBench {
    let shape = Shape { consoles: true, ..Shape::hot_standby(4) };
    let bench = GroupBench::start(SiteConfig::demo(4, 2), &shape).await;
    assert_eq!(bench.record(2).await.len(), 2);
    bench
}

/// The first recording on a node's disk: its voice file and its record.
fn first(bench: &GroupBench, at: NodeId) -> (PathBuf, Recording) {
    node(bench, at).recordings().expect("records can be read").remove(0)
}

/// Flips a bit in the middle of a file, and gives what the file was.
fn rot(file: &Path) -> Vec<u8> {
    let sound = fs::read(file).expect("a file");
    let mut rotten = sound.clone();
    let middle = rotten.len() / 2;
    rotten[middle] ^= 0x10;
    fs::write(file, rotten).expect("writable");
    sound
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bit_that_flips_is_found_named_and_mended_from_the_other_recorder() {
    let bench = recorded().await;
    let (voice, record) = first(&bench, ONE);
    let id = record.recordingid.to_string();
    let sound = rot(&voice);
    let rotten = fs::read(&voice).expect("it is there");
    let (code, said) = verified(node(&bench, ONE));
    let altered = format!("altered: {}", voice.display());
    assert!(code == Some(1) && said.contains(&altered), "{said}");

    scrubs(node(&bench, ONE));
    let alarm = told(node(&bench, ONE), "bitrot", "has taken its place").await;
    assert_eq!(alarm.subject, id);
    assert_eq!(fs::read(&voice).expect("it is there"), sound);
    let (_, aside) = alarm.message.rsplit_once(" is ").expect("it names the damaged file");
    assert_eq!(fs::read(aside).expect("it is kept"), rotten);
    for what in ["found", "mended"] {
        let metric = format!("astlogger_bitrot_total{{what=\"{what}\"}}");
        bench.metric(ONE, &metric, |count| count == 1.0).await;
        bench.metric(TWO, &metric, |count| count == 0.0).await;
    }
    logged(node(&bench, ONE), &format!("a file is damaged recording={id}")).await;
    assert!(console(node(&bench, ONE), &["show", "alarms"]).contains("bitrot"));
    let (code, said) = verified(node(&bench, ONE));
    assert_eq!(code, Some(0), "{said}");
    // The other one is sound, and read over without a word.
    scrubs(node(&bench, TWO));
    bench.metric(TWO, "astlogger_scrubbed_bytes_total", |bytes| bytes > 0.0).await;

    fs::remove_file(aside).expect("it is kept");
    cleared(node(&bench, ONE), "bitrot", &id).await;
    bench.assert_right(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_has_right_is_told_and_mended_once_somebody_has() {
    let mut bench = recorded().await;
    let (voice, record) = first(&bench, ONE);
    let id = record.recordingid.to_string();
    bench.terminate(TWO).await;
    let sound = rot(&voice);
    // Whoever fetches it is told by another sum than the record's.
    let mut qa = bench.cti(ONE, "qa").await;
    let request = json!({"request": "fetchrecording", "recordingid": id});
    let reply = qa.ask(request).await.expect("a reply");
    assert_eq!(reply["sha256"], json!(record.sha256), "{reply}");
    let (bytes, complete) = fetched(&mut qa).await;
    assert_eq!(complete["sha256"], json!(sha256(&bytes)));
    assert_ne!(complete["sha256"], reply["sha256"]);

    scrubs(node(&bench, ONE));
    let alarm = told(node(&bench, ONE), "bitrot", "no other recorder can be reached").await;
    assert!(alarm.message.contains(&voice.display().to_string()), "{alarm:?}");
    assert_ne!(fs::read(&voice).expect("it is all that there is"), sound);
    // It is remembered over a restart, and a call is recorded meanwhile.
    bench.terminate(ONE).await;
    bench.group.member(ONE).expect("a member").node.start().expect("it starts");
    bench.says_it_leads(ONE).await;
    let call = bench.call(0).await;
    bench.recorded_by(&[call], ONE).await;
    told(node(&bench, ONE), "bitrot", "no other recorder can be reached").await;
    bench.run().await;
    told(node(&bench, ONE), "bitrot", "has taken its place").await;
    assert_eq!(fs::read(&voice).expect("it is there"), sound);
    bench.go_on(&[call], 60).await;
    bench.hang_up(&[call]);
    bench.assert_right(1).await;
}

/// Everything up to the end of a fetch, and what that says.
async fn fetched(qa: &mut Cti) -> (Vec<u8>, Value) {
    let mut bytes = Vec::new();
    loop {
        match qa.next().await.expect("audio or its end") {
            Heard::Binary(frame) => bytes.extend_from_slice(&frame[4..]),
            Heard::Text(event) if event["eventtype"] == "fetchcomplete" => return (bytes, event),
            Heard::Text(event) => assert_ne!(event["eventtype"], "fetchfailed", "{event}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_cannot_be_read_is_mended_too() {
    let bench = recorded().await;
    let (voice, record) = first(&bench, TWO);
    let path = voice.with_extension("json");
    let sound = fs::read(&path).expect("a record");
    fs::write(&path, &sound[..sound.len() / 2]).expect("writable");
    scrubs(node(&bench, TWO));
    let alarm = told(node(&bench, TWO), "bitrot", "has taken its place").await;
    assert_eq!(alarm.subject, record.recordingid.to_string());
    assert_eq!(fs::read(&path).expect("a record"), sound);
    let (code, said) = verified(node(&bench, TWO));
    assert_eq!(code, Some(0), "{said}");
    bench.assert_right(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_is_gone_from_the_manifest_is_named_by_the_node_and_by_verify() {
    let mut bench = recorded().await;
    let folder = node(&bench, ONE).data_dir().join("manifest");
    let days =
        fs::read_dir(&folder).expect("a manifest").map(|entry| entry.expect("a file").path());
    let file = days.filter(|file| file.extension().is_some_and(|end| end == "jsonl")).max();
    let file = file.expect("lines of today");
    let whole = fs::read_to_string(&file).expect("text");
    let cut: String = whole.lines().skip(1).map(|line| line.to_owned() + "\n").collect();
    fs::write(&file, cut).expect("writable");

    let (code, said) = verified(node(&bench, ONE));
    assert!(code == Some(1) && said.contains(&file.display().to_string()), "{said}");
    scrubs(node(&bench, ONE));
    let alarm = told(node(&bench, ONE), "logaltered", "not as it was written").await;
    assert!(alarm.message.contains(&file.display().to_string()), "{alarm:?}");
    // So it is after a restart; and nobody else is alarmed.
    bench.terminate(ONE).await;
    bench.run().await;
    told(node(&bench, ONE), "logaltered", "not as it was written").await;
    scrubs(node(&bench, TWO));
    bench.metric(TWO, "astlogger_alarms{alarm=\"logaltered\"}", |raised| raised == 0.0).await;
    let call = bench.call(0).await;
    bench.go_on(&[call], 60).await;
    bench.hang_up(&[call]);
    bench.assert_right(1).await;
}
