//! The whole recorder over real sockets: calls of all kinds on a simulated switch, and every 20 ms
//! of them looked for in the files on disk.

mod common;

use std::process::Command;
use std::time::Duration;

use astlogger::demo::{Cti, Heard, Published};
use common::group::sha256;
use common::{Bench, LIMIT};
use serde_json::json;
use simulator::SiteConfig;
use storage_core::record::{Direction, GapCause, Scope};
use tokio::time::sleep;

/// What becomes of a call of so many frames.
async fn one_call(bench: &Bench, frames: u32) -> Published {
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recorded(call).await;
    bench.frames(call, frames).await;
    bench.site.switch().hangup_all(call);
    bench.published(1).await.remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inbound_call_is_one_file_with_every_frame() {
    let bench = Bench::start(2).await;
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recorded(call).await;
    bench.frames(call, 100).await;
    bench.site.switch().hangup_all(call);
    let published = bench.published(1).await;
    let verdict = bench.assert_right();
    assert_eq!((verdict.calls, verdict.packets_in_declared_gaps), (1, 0));
    let (path, record) = &published[0];
    assert_eq!(record.extension.as_str(), "31001");
    assert_eq!((record.calling.as_str(), record.direction), ("5551230001", Direction::Inbound));
    assert_eq!((record.trunkgroup.as_str(), record.agentid.as_str()), ("12", "7001"));
    assert!(record.complete && record.gaps.is_empty(), "{record:#?}");
    let bytes = std::fs::read(path).expect("the voice file");
    assert_eq!(record.bytes, bytes.len() as u64);
    judged_by_sox(path, record.durationms);
    judged_by_ffprobe(path);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_in_g729_is_heard_whole() {
    let mut config = SiteConfig::demo(2, 1);
    config.switches.codecs = vec!["g729A".to_owned()];
    let bench = Bench::start_with(config, "al_voiceformat = \"wav\"\n").await;
    let (path, record) = &one_call(&bench, 200).await;
    let segment = &record.segments[0];
    assert_eq!((segment.codec.as_str(), segment.lost, record.gaps.len()), ("g729", 0, 0));
    assert!(segment.packets >= 190, "{segment:?}");
    assert_eq!(record.durationms, segment.packets * 20);
    let (level, mos) = (record.quality.leveldb.expect("a voice"), record.quality.mos.expect("one"));
    // The tune itself, and what G.729 costs by the E-model.
    assert!((-25.0..-5.0).contains(&level) && (4.0..4.2).contains(&mos), "{:?}", record.quality);
    judged_by_sox(path, record.durationms);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_all_kinds_are_recorded() {
    let bench = Bench::start(8).await;
    let switch = bench.site.switch();
    let transferred = bench.answered_call("5551230001", "31001").await;
    let held = bench.answered_call("5551230002", "31003").await;
    let outbound = switch.outbound_call("31004", "5559870000").expect("a free station");
    let internal = switch.internal_call("31005", "31006").expect("free stations");
    switch.wait_alerting(internal, LIMIT).await;
    switch.answer("31006").expect("it rings");
    for call in [transferred, held, outbound, internal] {
        bench.recorded(call).await;
    }
    switch.hold("31003").expect("an active call");
    let consultation = switch.consult("31001", "31002").expect("an active call");
    switch.wait_alerting(consultation, LIMIT).await;
    switch.answer("31002").expect("it rings");
    bench.recorded(consultation).await;
    bench.frames(consultation, 40).await;
    switch.transfer("31001").expect("a held and an active call");
    switch.retrieve("31003").expect("a held call");
    bench.frames(internal, 120).await;
    for call in [transferred, held, outbound, internal] {
        switch.hangup_all(call);
    }
    let published = bench.published(5).await;
    bench.assert_right();
    let of = |extension: &str| {
        let found = published.iter().find(|(_, record)| record.extension.as_str() == extension);
        &found.expect("a record of this station").1
    };
    assert_eq!(of("31004").direction, Direction::Outbound);
    assert_eq!(of("31005").direction, Direction::Internal);
    assert!(of("31003").parties.iter().any(|party| !party.holds.is_empty()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trunk_recording_follows_the_caller_to_an_unmonitored_station() {
    let config = SiteConfig::demo(4, 1);
    let settings = "[[al_rule]]\nname = \"asked\"\nrecord = \"ondemand\"\n";
    let bench = Bench::prepare_monitoring(config, 1, settings).await.started().await;
    let switch = bench.site.switch();
    let call = bench.answered_call("5551230001", "31001").await;
    let mut cti = bench.cti("supervisor").await;
    let reply = cti.start_recording("31001", "trunk").await.expect("a reply");
    assert_eq!(reply["result"], "success", "{reply}");
    bench.frames(call, 100).await;
    switch.single_step_transfer("31001", "31003").expect("an active call");
    switch.wait_alerting(call, LIMIT).await;
    switch.answer("31003").expect("it rings");
    bench.frames(call, 200).await;
    switch.hangup_all(call);
    let published = bench.published(1).await;
    bench.assert_right();
    let record = &published[0].1;
    assert_eq!((record.scope, record.rule.as_str()), (Scope::Trunk, ""));
    assert_eq!(reply["recordingid"], json!(record.recordingid));
    assert!(record.parties.iter().any(|party| party.who == "31003"), "{:?}", record.parties);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_cut_for_five_seconds_loses_no_call() {
    let bench = Bench::start(24).await;
    let mut calls = Vec::new();
    for number in 0..20 {
        let caller = format!("55512{number:05}");
        calls.push(bench.answered_call(&caller, &format!("{}", 31001 + number)).await);
    }
    for call in &calls {
        bench.recorded(*call).await;
    }
    bench.site.faults().cut_aes(0, Duration::from_secs(5));
    let switch = bench.site.switch();
    // Some end while nobody tells the recorder, and some begin.
    bench.frames(calls[0], 150).await;
    for call in &calls[..5] {
        switch.hangup_all(*call);
    }
    let late = bench.answered_call("5551239999", "31022").await;
    bench.metric("astlogger_aes_up", |up| up == 0.0).await;
    bench.metric("astlogger_aes_up", |up| up == 1.0).await;
    bench.recorded(late).await;
    bench.frames(late, 400).await;
    for call in calls[5..].iter().chain([&late]) {
        switch.hangup_all(*call);
    }
    bench.published(21).await;
    let verdict = bench.assert_right();
    assert_eq!((verdict.calls, verdict.calls_recorded), (21, 21));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_and_garbage_on_a_phantoms_port_do_no_harm() {
    let bench = Bench::start(2).await;
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recorded(call).await;
    bench.frames(call, 100).await;
    let view = bench.site.switch().call(call).expect("it is up");
    let phantom = view.recorders()[0].to_owned();
    bench.site.faults().stranger_rtp(&phantom, 50);
    bench.site.faults().garbage_rtp(&phantom, 50);
    bench.frames(call, 200).await;
    bench.site.switch().hangup_all(call);
    bench.published(1).await;
    bench.assert_right();
    bench.metric("astlogger_rtp_strangers_total", |count| count >= 50.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_packets_are_declared_and_counted() {
    let bench = Bench::start(2).await;
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recorded(call).await;
    bench.frames(call, 20).await;
    bench.site.faults().drop_rtp(0.05);
    bench.frames(call, 400).await;
    bench.site.faults().drop_rtp(0.0);
    bench.frames(call, 420).await;
    bench.site.switch().hangup_all(call);
    let published = bench.published(1).await;
    let verdict = bench.assert_right();
    let record = &published[0].1;
    assert!(verdict.packets_in_declared_gaps > 0, "{verdict:?}");
    assert_eq!(record.segments[0].lost, verdict.packets_in_declared_gaps);
    assert!(record.gaps.iter().all(|gap| gap.cause == GapCause::Loss), "{:?}", record.gaps);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_security_code_is_tried_once() {
    let config = SiteConfig::demo(1, 1);
    let mut bench = Bench::prepare(config, "").await;
    let text = std::fs::read_to_string(bench.node.config_path()).expect("the configuration");
    let wrong = text.replace("al_phantompassword = \"123456\"", "al_phantompassword = \"999999\"");
    assert_ne!(text, wrong);
    std::fs::write(bench.node.config_path(), wrong).expect("writable");
    bench.node.start().expect("the node starts");
    bench.metric("astlogger_phantoms{state=\"refused\"}", |count| count >= 1.0).await;
    sleep(Duration::from_secs(3)).await;
    let phantoms = bench.site.config().phantom_list().expect("valid");
    for (phantom, _) in &phantoms {
        assert_eq!(bench.site.wrong_passwords(phantom), 1, "{phantom}");
    }
    let (status, body) = bench.node.get("/readyz").await.expect("an answer");
    assert_eq!(status, 503, "{body}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminated_node_ends_its_recordings_and_leaves_the_calls() {
    let mut bench = Bench::start(2).await;
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recorded(call).await;
    bench.frames(call, 60).await;
    bench.node.stop(Duration::from_secs(10)).await.expect("an orderly end");
    assert_eq!(bench.node.recordings().expect("readable").len(), 1);
    let view = bench.site.switch().call(call).expect("the call goes on");
    assert!(view.recorders().is_empty(), "{view:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_logs_in_at_the_aes_and_names_a_wrong_password() {
    let bench = Bench::prepare(SiteConfig::demo(1, 1), "").await;
    let (status, report) = check(&bench).await;
    assert!(report.contains("takes the login"), "{status:?}\n{report}");
    let text = std::fs::read_to_string(bench.node.config_path()).expect("the configuration");
    let right = format!("al_aespassword = \"{}\"", bench.site.config().aes[0].password.expose());
    let wrong = text.replace(&right, "al_aespassword = \"not this one\"");
    assert_ne!(text, wrong);
    std::fs::write(bench.node.config_path(), wrong).expect("writable");
    let (status, report) = check(&bench).await;
    assert_eq!(status, Some(69), "{report}");
    assert!(report.contains("al_aespassword") && !report.contains("not this one"), "{report}");
}

/// `astlogger check`: exit code, and all that it says.
async fn check(bench: &Bench) -> (Option<i32>, String) {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_astlogger"))
        .args(["check", "--config"])
        .arg(bench.node.config_path())
        .output()
        .await
        .expect("the command runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_shows_the_node_that_runs_here() {
    let bench = Bench::start(1).await;
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_astlogger"))
        .args(["status", "--json", "--config"])
        .arg(bench.node.config_path())
        .output()
        .await
        .expect("the command runs");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let status: serde_json::Value =
        serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    assert_eq!(status["members"][0]["duty"], "lead", "{status}");
    assert_eq!(status["health"]["ready"], true, "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qa_finds_and_fetches_what_was_recorded() {
    let bench = Bench::start(3).await;
    let mut qa = bench.cti("qa").await;
    let reply = qa.ask(json!({"request": "subscribe", "events": ["recordings"]})).await.unwrap();
    assert_eq!(reply["result"], "success", "{reply}");
    for (number, station) in ["31001", "31002"].iter().enumerate() {
        let call = bench.answered_call(&format!("555123000{number}"), station).await;
        bench.recorded(call).await;
        bench.frames(call, 60).await;
        bench.site.switch().hangup_all(call);
    }
    let published = bench.published(2).await;
    let mut told = 0;
    while told < 2 {
        if let Heard::Text(event) = qa.next().await.expect("an event") {
            told += usize::from(event["eventtype"] == "recordingpublished");
        }
    }
    let request = json!({"request": "listrecordings", "party": "5551230001"});
    let reply = qa.ask(request).await.expect("a reply");
    let found = reply["recordings"].as_array().expect("a list");
    assert_eq!(found.len(), 1, "{reply}");
    assert_eq!(found[0]["extension"], "31002");
    let id = found[0]["recordingid"].as_str().expect("a name").to_owned();
    let (path, record) =
        published.iter().find(|(_, r)| r.recordingid.to_string() == id).expect("it is on disk");
    let file = std::fs::read(path).expect("the voice file");
    let (reply, fetched) = fetch(&mut qa, &id, "original").await;
    assert_eq!((reply["sha256"].as_str(), fetched), (Some(record.sha256.as_str()), file));
    let (reply, pcm) = fetch(&mut qa, &id, "wav").await;
    assert_eq!(reply["sha256"], sha256(&pcm), "known before anything is sent");
    let wav = hound::WavReader::new(pcm.as_slice()).expect("hound reads it");
    assert_eq!(u64::from(wav.duration()), record.durationms * 8);
    let reply = qa.ask(json!({"request": "listcalls"})).await.expect("a reply");
    assert_eq!(reply["error"], "forbidden", "{reply}");
    let (status, _) = bench.node.get(&format!("/api/recordings/{id}/audio")).await.expect("HTTP");
    assert_eq!(status, 401);
}

/// `fetchrecording`: the reply, and all bytes in their order; the end says what they are.
async fn fetch(cti: &mut Cti, id: &str, format: &str) -> (serde_json::Value, Vec<u8>) {
    fetched(cti, json!({"request": "fetchrecording", "recordingid": id, "format": format})).await
}

async fn fetched(cti: &mut Cti, request: serde_json::Value) -> (serde_json::Value, Vec<u8>) {
    let reply = cti.ask(request).await.expect("a reply");
    assert_eq!(reply["result"], "success", "{reply}");
    let number = u32::try_from(reply["fetch"].as_u64().expect("a number")).expect("32 bits");
    let mut bytes = Vec::new();
    loop {
        match cti.next().await.expect("audio or its end") {
            Heard::Binary(frame) => {
                assert!(frame.len() <= 65_536 && frame[..4] == number.to_be_bytes());
                bytes.extend_from_slice(&frame[4..]);
            }
            Heard::Text(event) if event["eventtype"] == "fetchcomplete" => {
                assert_eq!(event["bytes"], bytes.len(), "{event}");
                assert_eq!(event["sha256"], sha256(&bytes), "{event}");
                return (reply, bytes);
            }
            Heard::Text(_) => {}
        }
    }
}

#[cfg(feature = "opus")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn voice_files_can_be_opus() {
    let settings = "al_voiceformat = \"opus\"\nal_opusbitrate = 16000\n";
    let bench = Bench::start_with(SiteConfig::demo(1, 1), settings).await;
    let (path, record) = &one_call(&bench, 150).await;
    assert!(record.durationms >= 2_900, "{record:?}");
    let mut qa = bench.cti("qa").await;
    let (_, pcm) = fetch(&mut qa, &record.recordingid.to_string(), "wav").await;
    let wav = hound::WavReader::new(pcm.as_slice()).expect("hound reads it");
    assert_eq!(u64::from(wav.duration()), record.durationms * 8);
    let loudest = wav.into_samples::<i16>().map(|s| s.expect("a sample").unsigned_abs()).max();
    assert!(loudest > Some(1_000), "{loudest:?}: it plays silence");
    assert_is_opus(path, record.durationms);
}

/// A call that is kept as it was received can be had as Opus, too, whole and in part.
#[cfg(feature = "opus")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_voice_file_can_be_fetched_as_opus() {
    let bench = Bench::start_with(SiteConfig::demo(1, 1), "").await;
    let (path, record) = &one_call(&bench, 150).await;
    assert_eq!(path.extension().and_then(|ending| ending.to_str()), Some("wav"));
    let id = record.recordingid.to_string();
    let mut qa = bench.cti("qa").await;
    let (reply, opus) = fetch(&mut qa, &id, "opus").await;
    assert_eq!((&reply["format"], &reply["size"]), (&json!("opus"), &json!(opus.len())));
    assert!(reply.get("sha256").is_none(), "it would have to be encoded first: {reply}");
    assert!(opus.len() as u64 * 2 < record.bytes, "{} of {}", opus.len(), record.bytes);
    let folder = tempfile::tempdir().expect("a folder");
    let asked = folder.path().join("asked.opus");
    std::fs::write(&asked, &opus).expect("writable");
    assert_is_opus(&asked, record.durationms);
    let part = json!({
        "request": "fetchrecording", "recordingid": id, "format": "opus", "offset": 5_000, "length": 1_000,
    });
    let (_, middle) = fetched(&mut qa, part).await;
    assert!(middle == opus[5_000..6_000]);
}

/// Another program finds that it is Opus of this length.
#[cfg(feature = "opus")]
fn assert_is_opus(path: &std::path::Path, durationms: u64) {
    let arguments = ["-v", "error", "-show_entries", "stream=codec_name:format=duration"];
    let probe = Command::new("ffprobe").args(arguments).args(["-of", "csv=p=0"]).arg(path).output();
    let Ok(output) = probe else {
        eprintln!("ffprobe is not installed: the file is not judged by it");
        return;
    };
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (codec, seconds) = text.trim().split_once('\n').expect("two lines");
    assert_eq!(codec, "opus");
    let seconds: f64 = seconds.parse().expect("a number");
    assert!(
        (seconds * 1000.0 - durationms as f64).abs() < 30.0,
        "{seconds} s, not {durationms} ms"
    );
}

/// sox reads the whole file without a warning and finds the length that the record says.
fn judged_by_sox(path: &std::path::Path, durationms: u64) {
    let Ok(output) = Command::new("soxi").arg("-D").arg(path).output() else {
        eprintln!("soxi is not installed: the file is not judged by it");
        return;
    };
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let seconds: f64 = String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number");
    assert!((seconds * 1000.0 - durationms as f64).abs() < 1.5, "{seconds} s, {durationms} ms");
}

/// ffprobe takes it for one channel of telephone audio.
fn judged_by_ffprobe(path: &std::path::Path) {
    let arguments = ["-v", "error", "-show_entries", "stream=codec_name,sample_rate,channels"];
    let probe = Command::new("ffprobe").args(arguments).args(["-of", "csv=p=0"]).arg(path).output();
    let Ok(output) = probe else {
        eprintln!("ffprobe is not installed: the file is not judged by it");
        return;
    };
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "pcm_alaw,8000,1");
}
