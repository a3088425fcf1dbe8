//! Encryption at rest with real processes: nothing that is said lies in the clear below `al_datadir`,
//! people fetch it as ever, and a foreign program reads a file by its description alone.

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use astlogger::demo::{self, Cti, Heard, Published, Shape};
use common::clear::in_clear;
use common::group::{GroupBench, ONE, TWO, WITNESS, sha256};
use common::keys::{astlogger, decrypted, key_file, setting, text};
use common::{Bench, LIMIT};
use serde_json::{Value, json};
use simulator::SiteConfig;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// Frames of a call before and after something happens.
const SOME: u32 = 60;

async fn fetch(cti: &mut Cti, record: &storage_core::Recording) -> Result<Vec<u8>, Value> {
    let request = json!({"request": "fetchrecording", "recordingid": record.recordingid});
    let reply = cti.ask(request).await.expect("a reply");
    if reply["result"] != "success" {
        return Err(reply);
    }
    let mut bytes = Vec::new();
    loop {
        match cti.next().await.expect("audio or its end") {
            Heard::Binary(frame) => bytes.extend_from_slice(&frame[4..]),
            Heard::Text(event) if event["eventtype"] == "fetchcomplete" => return Ok(bytes),
            Heard::Text(event) => assert_ne!(event["eventtype"], "fetchfailed", "{event}"),
        }
    }
}

/// A call is captured, sealed and published; what lies on the disk is looked at before and after.
async fn recorded_call(settings: &str) -> (Bench, usize, usize) {
    let bench = Bench::start_with(SiteConfig::demo(2, 1), settings).await;
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recorded(call).await;
    bench.frames(call, 150).await;
    let captured: usize = in_clear(&bench.node.data_dir()).iter().map(|(_, codes)| codes).sum();
    bench.site.switch().hangup_all(call);
    bench.published(1).await;
    let sealed: usize = in_clear(&bench.node.data_dir()).iter().map(|(_, codes)| codes).sum();
    (bench, captured, sealed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_is_said_lies_in_the_clear() {
    // The look finds what is not encrypted, so it can find what should be.
    let (_bench, captured, sealed) = recorded_call("").await;
    assert!(captured > 50, "{captured} frames seen in the plain capture");
    assert!(sealed > captured, "{sealed} frames seen after sealing");

    let keys = TempDir::new().expect("a folder");
    let file = key_file(keys.path(), "k1");
    let (bench, captured, sealed) = recorded_call(&setting(&file)).await;
    let found = in_clear(&bench.node.data_dir());
    assert_eq!((captured, sealed), (0, 0), "{found:?}");

    // It is all there for whoever may have it.
    let published = bench.published(1).await;
    let (path, record) = &published[0];
    assert!(path.to_str().is_some_and(|path| path.ends_with(".wav.enc")));
    let mut qa = bench.cti("qa").await;
    let fetched = fetch(&mut qa, record).await.expect("audio");
    assert_eq!((sha256(&fetched), fetched.len() as u64), (record.sha256.clone(), record.bytes));
    let out = TempDir::new().expect("a folder");
    let plain = decrypted(&published, &[&file], out.path());
    assert_eq!(std::fs::read(&plain[0].0).expect("the plain file"), fetched);
    let due = demo::due_calls(&bench.site.history(), |call| call.answered);
    let verdict = demo::judge(&due, &plain).expect("voice files can be read");
    assert!(verdict.is_right(), "{verdict:#?}");
    judged_by_python(&file, path, record);
    let log = std::fs::read_to_string(bench.node.log_path()).expect("the log");
    let digits = std::fs::read_to_string(&file).expect("the key file");
    let digits = digits.split_whitespace().last().expect("digits").to_owned();
    assert!(digits.len() == 64 && !log.contains(&digits), "the key is not logged");
}

/// A program that knows nothing but what `storage/core/src/{key_file,wrapped_key,cipher_file}.rs` say.
const READER: &str = r"
import hashlib, json, struct, sys
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
keyfile, path = sys.argv[1:]
keys = {}
for line in open(keyfile):
    words = line.split('#')[0].split()
    if words:
        keys[words[0]] = bytes.fromhex(words[1])
data = open(path, 'rb').read()
header = data[:40]
magic, version, _, chunk = struct.unpack('<8sHHI', header[:16])
assert (magic, version, chunk) == (b'ALCIPHER', 1, 65536)
prefix, stem = header[16:23], path.rsplit('/', 1)[0] + '/' + path.rsplit('/', 1)[1].split('.')[0]
sidecar = json.load(open(stem + '.key'))
key = next(k for k in sidecar['keys'] if k['file'] == prefix.hex())
about = 'astlogger voice 1 %s %s' % (sidecar['recordingid'], prefix.hex())
data_key = AESGCM(keys[key['name']]).decrypt(
    bytes.fromhex(key['nonce']), bytes.fromhex(key['wrapped']), about.encode())
body, plain = data[40:], b''
count = max(1, -(-len(body) // (chunk + 16)))
for n in range(count):
    nonce = prefix + struct.pack('>I', n) + bytes([n + 1 == count])
    plain += AESGCM(data_key).decrypt(nonce, body[n * (chunk + 16):(n + 1) * (chunk + 16)], header)
print(len(plain), hashlib.sha256(plain).hexdigest())
";

fn judged_by_python(key_file: &Path, path: &Path, record: &storage_core::Recording) {
    let there = Command::new("python3").args(["-c", "import cryptography"]).output();
    if !there.is_ok_and(|output| output.status.success()) {
        eprintln!("python3 has no cryptography: the file is not judged by it");
        return;
    }
    let mut python = Command::new("python3");
    let output = python.args(["-c", READER]).arg(key_file).arg(path).output().expect("it runs");
    let expected = format!("{} {}", record.bytes, record.sha256);
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), expected, "{}", text(&output));
}

#[cfg(feature = "opus")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opus_files_are_encrypted_too() {
    let keys = TempDir::new().expect("a folder");
    let file = key_file(keys.path(), "k1");
    let settings = format!("{}al_voiceformat = \"opus\"\n", setting(&file));
    let (bench, captured, _) = recorded_call(&settings).await;
    assert_eq!(captured, 0);
    let published = bench.published(1).await;
    let bytes = std::fs::read(&published[0].0).expect("the file");
    assert!(published[0].0.to_str().is_some_and(|path| path.ends_with(".opus.enc")));
    assert!(!bytes.windows(4).any(|word| word == b"OggS" || word == b"Opus"));
    let out = TempDir::new().expect("a folder");
    let plain = decrypted(&published, &[&file], out.path());
    assert!(std::fs::read(&plain[0].0).expect("the plain file").starts_with(b"OggS"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_at_any_moment_leave_only_files_that_can_be_read() {
    let keys = TempDir::new().expect("a folder");
    let file = key_file(keys.path(), "k1");
    let mut bench = Bench::start_with(SiteConfig::demo(6, 1), &setting(&file)).await;
    for round in 0..4_u64 {
        let mut calls = Vec::new();
        for lane in 0..3 {
            let caller = format!("5551230{round}{lane}0");
            calls.push(bench.answered_call(&caller, &format!("{}", 31001 + lane)).await);
        }
        for call in &calls {
            bench.recorded(*call).await;
            bench.frames(*call, 30).await;
        }
        // A different moment each time: sealing, staging, publishing.
        bench.site.switch().hangup_all(calls[0]);
        bench.site.switch().hangup_all(calls[1]);
        sleep(Duration::from_millis(round * 23)).await;
        bench.node.kill().await.expect("it runs");
        assert_eq!(in_clear(&bench.node.data_dir()), []);
        bench.node.start().expect("the node starts");
        bench.node.ready(LIMIT).await.expect("the node becomes ready");
        bench.recorded(calls[2]).await;
        bench.frames(calls[2], 100).await;
        bench.site.switch().hangup_all(calls[2]);
        bench.published(usize::try_from(round).expect("small") * 3 + 3).await;
    }
    let out = TempDir::new().expect("a folder");
    let plain = decrypted(&bench.published(12).await, &[&file], out.path());
    let due = demo::due_calls(&bench.site.history(), |call| call.answered);
    let verdict = demo::judge(&due, &plain).expect("voice files can be read");
    assert!(verdict.is_right(), "{verdict:#?}\n{}", bench.log_tail());
    assert_eq!((verdict.calls, verdict.recordings_published), (12, 12));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_come_and_go() {
    let keys = TempDir::new().expect("a folder");
    let file = key_file(keys.path(), "k1");
    let place = file.to_str().expect("UTF-8");
    let mut bench = Bench::start_with(SiteConfig::demo(4, 1), "").await;
    record(&bench, "31001").await;
    bench.published(1).await;

    // Switched on: what was plain stays as it is and can be fetched.
    restart_with(&mut bench, &setting(&file), "").await;
    record(&bench, "31002").await;
    let published = bench.published(2).await;
    let encrypted: Vec<_> = published.iter().map(|(_, record)| record.encrypted).collect();
    assert_eq!(encrypted, [false, true]);
    fetched(&bench, &published).await;

    // A new key in front; the one before is still needed.
    let output = astlogger(&["key", "add", "--file", place, "--name", "k2"]);
    assert!(output.status.success(), "{}", text(&output));
    restart_with(&mut bench, "", "").await;
    record(&bench, "31003").await;
    let published = bench.published(3).await;
    fetched(&bench, &published).await;
    let report = check(&bench);
    assert!(report.contains("with key k2; 2 encrypted voice files"), "{report}");

    // Wrapped anew, while the node is down, the former key is needed no more.
    let data = bench.node.data_dir();
    let rewrap = ["key", "rewrap", "--json", "--key-file", place, "--dir"];
    let rewrap = [&rewrap[..], &[data.to_str().expect("UTF-8")]].concat();
    let output = astlogger(&rewrap);
    assert_eq!(output.status.code(), Some(69), "a node is running: {}", text(&output));
    bench.node.stop(LIMIT).await.expect("an orderly end");
    let output = astlogger(&rewrap);
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let said = [&report["ok"], &report["rewrapped"], &report["already"]];
    assert_eq!(said, [&json!(true), &json!(1), &json!(1)], "{report}");
    let text = std::fs::read_to_string(&file).expect("the key file");
    let without: String = text.lines().filter(|line| !line.starts_with("k1")).map(line).collect();
    std::fs::write(&file, without).expect("writable");
    restart_with(&mut bench, "", "").await;
    fetched(&bench, &published).await;

    // Switched off: the node runs, and says what it cannot give.
    restart_with(&mut bench, "", &setting(&file)).await;
    let mut qa = bench.cti("qa").await;
    fetch(&mut qa, &published[0].1).await.expect("it was never encrypted");
    let reply = fetch(&mut qa, &published[1].1).await.expect_err("it cannot be read");
    assert_eq!(reply["error"], "unavailable", "{reply}");
    assert!(reply["message"].as_str().is_some_and(|said| said.contains("\"k2\"")), "{reply}");
    let report = check(&bench);
    assert!(report.contains("2 of 2 encrypted voice files need key k2"), "{report}");
}

fn line(line: &str) -> String {
    format!("{line}\n")
}

async fn record(bench: &Bench, station: &str) {
    let call = bench.answered_call("5551230001", station).await;
    bench.recorded(call).await;
    bench.frames(call, SOME).await;
    bench.site.switch().hangup_all(call);
}

async fn fetched(bench: &Bench, published: &[Published]) {
    let mut qa = bench.cti("qa").await;
    for (_, record) in published {
        let bytes = fetch(&mut qa, record).await.expect("audio");
        assert_eq!(sha256(&bytes), record.sha256, "{record:?}");
    }
}

/// Stops the node, adds and removes a line of its configuration, and starts it again.
async fn restart_with(bench: &mut Bench, add: &str, remove: &str) {
    bench.node.stop(LIMIT).await.expect("an orderly end");
    let path = bench.node.config_path();
    let text = std::fs::read_to_string(&path).expect("the configuration");
    assert!(text.contains(remove));
    // Before everything else: what follows may be a table.
    std::fs::write(&path, add.to_owned() + &text.replace(remove, "")).expect("writable");
    bench.node.start().expect("the node starts");
    bench.node.ready(LIMIT).await.expect("the node becomes ready");
}

fn check(bench: &Bench) -> String {
    let path = bench.node.config_path();
    text(&astlogger(&["check", "--config", path.to_str().expect("UTF-8")]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_captures_need_another_key_does_not_start() {
    let keys = TempDir::new().expect("a folder");
    let (file, other) = (key_file(keys.path(), "k1"), key_file(keys.path(), "k2"));
    let mut bench = Bench::start_with(SiteConfig::demo(2, 1), &setting(&file)).await;
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recorded(call).await;
    bench.frames(call, SOME).await;
    bench.node.kill().await.expect("it runs");
    let path = bench.node.config_path();
    let with_key = std::fs::read_to_string(&path).expect("the configuration");
    for (wrong, said) in [
        (with_key.replace(&setting(&file), ""), "al_encryptionkeyfile"),
        (with_key.replace("k1.keys", "k2.keys"), "put its line back"),
    ] {
        std::fs::write(&path, wrong).expect("writable");
        let output = astlogger(&["run", "--config", path.to_str().expect("UTF-8")]);
        assert_eq!(output.status.code(), Some(78), "{}", text(&output));
        assert!(text(&output).contains("key \"k1\" is needed"), "{}", text(&output));
        assert!(text(&output).contains(said), "{}", text(&output));
        let report = check(&bench);
        assert!(report.contains("1 captured segments need key k1"), "{report}");
    }
    assert!(other.exists());
    std::fs::write(&path, with_key).expect("writable");
    bench.node.start().expect("the node starts");
    bench.node.ready(LIMIT).await.expect("the node becomes ready");
    bench.recorded(call).await;
    bench.site.switch().hangup_all(call);
    let published = bench.published(1).await;
    let out = TempDir::new().expect("a folder");
    let plain = decrypted(&published, &[&file], out.path());
    let due = demo::due_calls(&bench.site.history(), |call| call.answered);
    let verdict = demo::judge(&due, &plain).expect("voice files can be read");
    assert!(verdict.is_right(), "{verdict:#?}");
}

/// Each member has keys of its own. The lead dies in mid-call; what it captured is in a later revision.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_with_keys_of_their_own_make_one_recording() {
    let keys = TempDir::new().expect("a folder");
    let files = [key_file(keys.path(), "one"), key_file(keys.path(), "two")];
    let placeholder = "al_encryptionkeyfile = \"here\"\n";
    let shape = Shape { settings: placeholder.to_owned(), ..Shape::hot_standby(4) };
    let mut bench = GroupBench::prepare(SiteConfig::demo(4, 2), &shape).await;
    for (node, file) in [ONE, TWO].into_iter().zip(&files) {
        bench.edit(node, placeholder, &setting(file));
    }
    bench.run().await;
    bench.leads_steadily(ONE).await;
    let calls = bench.taken_over(3, SOME).await;
    bench.hang_up(&calls);
    // Published without what lies on the dead node, then with it.
    bench.published(3).await;
    assert!(bench.recordings().iter().all(|(_, record)| !record.complete));
    bench.run().await;
    bench.quiet().await;
    let deadline = Instant::now() + LIMIT;
    while !bench.recordings().iter().all(|(_, record)| record.revision > 1) {
        assert!(Instant::now() < deadline, "{:?}; {}", bench.recordings(), bench.log_tails());
        sleep(Duration::from_millis(50)).await;
    }
    bench.quiet().await;
    for node in [ONE, TWO, WITNESS] {
        let data = bench.group.members[&node].node.data_dir();
        assert_eq!(in_clear(&data), [], "node {node}");
    }
    let published = bench.recordings();
    let out = TempDir::new().expect("a folder");
    let plain = decrypted(&published, &[&files[0], &files[1]], out.path());
    let due = demo::due_to_the_end(&bench.group.site.history(), |call| call.answered);
    let verdict = demo::judge_copies(&due, &plain, 1).expect("voice files can be read");
    assert!(verdict.is_exactly_right(), "{verdict:#?}\n{}", bench.log_tails());
    for (_, record) in &published {
        assert_eq!(record.segments.len(), 2, "{record:#?}");
    }
    // Whoever is asked gives it out, also who has neither the file nor its key.
    for node in [ONE, TWO, WITNESS] {
        let mut qa = bench.cti(node, "qa").await;
        for (_, record) in &published {
            let bytes = fetch(&mut qa, record).await.expect("audio");
            assert_eq!(sha256(&bytes), record.sha256, "node {node}");
        }
    }
}

#[test]
fn the_command_makes_keys_and_shows_none() {
    let dir = TempDir::new().expect("a folder");
    let file = key_file(dir.path(), "k1");
    let place = file.to_str().expect("UTF-8");
    let mode = std::fs::metadata(&file).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = std::fs::read_to_string(&file).expect("the file");
    let again = astlogger(&["key", "new", "--file", place]);
    assert_eq!(again.status.code(), Some(1), "{}", text(&again));
    assert!(text(&again).contains("is not overwritten"), "{}", text(&again));
    assert_eq!(std::fs::read_to_string(&file).expect("the file"), before);
    let twice = astlogger(&["key", "add", "--file", place, "--name", "k1"]);
    assert_eq!(twice.status.code(), Some(1), "{}", text(&twice));
    let added = astlogger(&["key", "add", "--file", place]);
    assert!(added.status.success(), "{}", text(&added));
    let after = std::fs::read_to_string(&file).expect("the file");
    let lines: Vec<_> = after.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(lines.len(), 2, "{}", lines.len());
    assert!(before.contains(lines[1]) && !before.contains(lines[0]), "the new one is the first");
    let mode = std::fs::metadata(&file).expect("the file").permissions().mode();
    assert_eq!(
        (mode & 0o777, std::fs::read_dir(dir.path()).expect("a folder").count()),
        (0o600, 1)
    );
    let shown = [&again, &twice, &added].map(text).concat();
    assert!(
        after.split_whitespace().filter(|word| word.len() == 64).all(|key| !shown.contains(key))
    );
    for wrong in [&["key", "new", "--file", "/none/k"][..], &["key", "add", "--file", "/none/k"]] {
        assert!(!astlogger(wrong).status.success());
    }
    let name = astlogger(&["key", "add", "--file", place, "--name", "a b"]);
    assert_eq!(name.status.code(), Some(64), "{}", text(&name));
}
