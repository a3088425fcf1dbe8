//! Voice files are kept by two recorders: byte for byte the same, given out while their owner is away,
//! and back after a disk was lost. Real processes; `astlogger verify` judges the folders.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use astlogger::demo::Shape;
use common::group::{GroupBench, ONE, TWO, WITNESS, sha256};
use common::{LIMIT, PASSWORD};
use serde_json::{Value, json};
use simulator::SiteConfig;
use storage_core::{NodeId, Recording};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

/// Frames of a call before and after something happens.
const SOME: u32 = 60;

fn astlogger(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_astlogger")).args(arguments).output().expect("it runs")
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// What `astlogger verify --json` says of a node's data folder.
fn verified(bench: &GroupBench, node: NodeId, arguments: &[&str]) -> Value {
    let dir = bench.group.members[&node].node.data_dir();
    let output = astlogger(&[&["verify", "--json", path(&dir)], arguments].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said: Value = serde_json::from_str(text.lines().last().unwrap_or_default())
        .unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert_eq!(output.status.success(), said["ok"] == true, "{output:?}");
    said
}

fn assert_clean(bench: &GroupBench, recordings: usize) {
    for node in [ONE, TWO] {
        let said = verified(bench, node, &[]);
        assert_eq!(
            (&said["ok"], &said["recordings"]),
            (&json!(true), &json!(recordings)),
            "{said}"
        );
    }
}

/// The published recordings on a node's disk, by name: record and voice file.
fn held(bench: &GroupBench, node: NodeId) -> BTreeMap<String, (Recording, PathBuf)> {
    let held = bench.group.members[&node].node.recordings().expect("records can be read");
    held.into_iter()
        .map(|(path, record)| (record.recordingid.to_string(), (record, path)))
        .collect()
}

/// Waits until both recorders have so many recordings, and nothing is owed.
async fn both_have(bench: &GroupBench, count: usize) {
    let deadline = Instant::now() + LIMIT;
    let has = |node| held(bench, node).len() == count;
    while !(has(ONE) && has(TWO)) {
        let counts = [ONE, TWO].map(|node| held(bench, node).len());
        assert!(Instant::now() < deadline, "{counts:?} of {count}; {}", bench.log_tails());
        sleep(Duration::from_millis(20)).await;
    }
    for node in [ONE, TWO] {
        bench.metric(node, "astlogger_copies_pending", |pending| pending == 0.0).await;
    }
}

/// The voice files of both recorders, which are the same byte for byte and what their records say.
fn same_files(bench: &GroupBench) -> BTreeMap<String, Vec<u8>> {
    let (ones, twos) = (held(bench, ONE), held(bench, TWO));
    assert_eq!(ones.keys().collect::<Vec<_>>(), twos.keys().collect::<Vec<_>>());
    let mut files = BTreeMap::new();
    for (id, (record, path)) in &ones {
        let (other, copy) = &twos[id];
        assert_eq!((record.node, record.revision), (other.node, other.revision), "{id}");
        let bytes = std::fs::read(path).expect("a voice file");
        assert!(bytes == std::fs::read(copy).expect("a copy"), "{id}: they differ");
        assert_eq!((sha256(&bytes), bytes.len() as u64), (record.sha256.clone(), record.bytes));
        files.insert(id.clone(), bytes);
    }
    files
}

/// Calls at the stations of these numbers, recorded by this node from begin to end.
async fn record(bench: &GroupBench, numbers: std::ops::Range<usize>, node: NodeId) {
    let mut calls = Vec::new();
    for number in numbers {
        calls.push(bench.call(number).await);
    }
    bench.recorded_by(&calls, node).await;
    bench.go_on(&calls, SOME).await;
    bench.hang_up(&calls);
}

/// One HTTP request: the head and the body of the answer.
async fn http(bench: &GroupBench, node: NodeId, head: &str, body: &str) -> (String, Vec<u8>) {
    let web = bench.group.members[&node].node.web();
    let mut stream = TcpStream::connect(web).await.expect("it listens");
    let request = format!(
        "{head}\r\nHost: {web}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    (String::from_utf8_lossy(&answer[..end]).into_owned(), answer[end + 4..].to_vec())
}

async fn by_http(bench: &GroupBench, node: NodeId, id: &str) -> Vec<u8> {
    let body = json!({"user": "qa", "password": PASSWORD}).to_string();
    let signin = "POST /api/signin HTTP/1.1\r\nContent-Type: application/json";
    let (head, body) = http(bench, node, signin, &body).await;
    let said: Value = serde_json::from_slice(&body).unwrap_or_else(|_| panic!("{head}"));
    let token = said["token"].as_str().expect("a token");
    let get = format!("GET /api/recordings/{id}/audio HTTP/1.1\r\nAuthorization: Bearer {token}");
    let (head, body) = http(bench, node, &get, "").await;
    assert!(head.starts_with("HTTP/1.1 200"), "node {node}: {head}");
    body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_recorders_have_each_file_and_either_gives_it_out_while_the_other_is_away() {
    let mut bench = GroupBench::hot_standby(4).await;
    record(&bench, 0..3, ONE).await;
    bench.assert_right(1).await;
    both_have(&bench, 3).await;
    let files = same_files(&bench);
    assert_clean(&bench, 3);
    let ids: Vec<_> = files.keys().cloned().collect();
    for node in [ONE, TWO, WITNESS] {
        assert_eq!(bench.listed(node).await, ids, "each is listed once by node {node}");
    }
    bench.kill(ONE).await;
    bench.leads(TWO).await;
    for node in [TWO, WITNESS] {
        assert_eq!(bench.listed(node).await, ids, "node {node}");
        for (id, bytes) in &files {
            assert!(bench.fetched(node, id).await == *bytes, "node {node}, {id}");
            assert!(by_http(&bench, node, id).await == *bytes, "node {node}, {id}");
        }
    }
    // Whatever is recorded meanwhile is copied once there is somebody to copy it to.
    record(&bench, 3..4, TWO).await;
    bench.published(4).await;
    bench.run().await;
    both_have(&bench, 4).await;
    same_files(&bench);
    assert_clean(&bench, 4);
    bench.assert_right(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_active_active_both_copies_of_a_call_lie_on_both() {
    let bench = GroupBench::active_active(2).await;
    let calls = bench.calls(2).await;
    bench.recorded_by(&calls, ONE).await;
    bench.recorded_by(&calls, TWO).await;
    bench.go_on(&calls, SOME).await;
    bench.hang_up(&calls);
    bench.assert_right(2).await;
    both_have(&bench, 4).await;
    same_files(&bench);
    assert_clean(&bench, 4);
    let copies: Vec<_> = held(&bench, ONE).values().map(|(record, _)| record.copy).collect();
    assert_eq!(copies.iter().filter(|copy| **copy == 2).count(), 2, "{copies:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_revision_takes_the_copys_place() {
    let mut bench = GroupBench::hot_standby(2).await;
    let calls = bench.taken_over(1, SOME).await;
    bench.hang_up(&calls);
    bench.published(1).await;
    bench.run().await;
    bench.assert_right(1).await;
    both_have(&bench, 1).await;
    let deadline = Instant::now() + LIMIT;
    let revisions =
        || [ONE, TWO].map(|node| held(&bench, node).values().map(|(r, _)| r.revision).max());
    while revisions()[0] != revisions()[1] {
        assert!(Instant::now() < deadline, "{:?}; {}", revisions(), bench.log_tails());
        sleep(Duration::from_millis(20)).await;
    }
    same_files(&bench);
    assert_clean(&bench, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_encryption_each_copy_has_its_own_nodes_keys() {
    let folder = TempDir::new().expect("a folder");
    let keys = |node: NodeId| folder.path().join(format!("{node}.keys"));
    let mut bench = GroupBench::prepare(SiteConfig::demo(2, 2), &Shape::hot_standby(2)).await;
    for node in [ONE, TWO] {
        let file = keys(node);
        let made = astlogger(&["key", "new", "--file", path(&file), "--name", &format!("k{node}")]);
        assert!(made.status.success(), "{made:?}");
        let line = format!("al_encryptionkeyfile = \"{}\"\nal_nodeid = {node}\n", file.display());
        bench.edit(node, &format!("al_nodeid = {node}\n"), &line);
    }
    bench.run().await;
    bench.leads_steadily(ONE).await;
    record(&bench, 0..2, ONE).await;
    bench.quiet().await;
    both_have(&bench, 2).await;
    for node in [ONE, TWO] {
        let own = keys(node);
        for (id, (record, file)) in held(&bench, node) {
            assert!(record.encrypted && file.ends_with(format!("{id}.wav.enc")), "{record:?}");
            let out = folder.path().join(format!("of{node}"));
            std::fs::create_dir_all(&out).expect("writable");
            let arguments = ["--key-file", path(&own), "--out", path(&out), path(&file)];
            let done = astlogger(&[&["decrypt"], &arguments[..]].concat());
            assert!(done.status.success(), "{done:?}");
            let plain = std::fs::read(out.join(format!("{id}.wav"))).expect("a plain file");
            assert_eq!(sha256(&plain), record.sha256);
        }
        let config = bench.group.members[&node].node.config_path();
        for given in [["--key-file", path(&own)], ["--config", path(&config)]] {
            assert_eq!(verified(&bench, node, &given)["ok"], true);
        }
        // Without keys, and with the other node's, it says what it could not check.
        let other = keys(if node == ONE { TWO } else { ONE });
        for given in [&[][..], &["--key-file", path(&other)]] {
            let said = verified(&bench, node, given);
            assert_eq!((&said["ok"], &said["unchecked"]), (&json!(false), &json!(2)), "{said}");
        }
    }
    let ids: Vec<_> = held(&bench, ONE).into_keys().collect();
    bench.kill(ONE).await;
    for id in ids {
        let bytes = bench.fetched(TWO, &id).await;
        assert_eq!(sha256(&bytes), held(&bench, TWO)[&id].0.sha256);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_corrupted_copy_is_named_and_comes_back_once_it_is_removed() {
    let mut bench = GroupBench::hot_standby(2).await;
    record(&bench, 0..2, ONE).await;
    bench.quiet().await;
    both_have(&bench, 2).await;
    let (_, copy) = held(&bench, TWO).into_values().next().expect("a copy");
    let mut bytes = std::fs::read(&copy).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    std::fs::write(&copy, bytes).expect("writable");
    let said = verified(&bench, TWO, &[]);
    assert_eq!((&said["altered"], &said["faults"][0]["kind"]), (&json!(1), &json!("altered")));
    assert_eq!(said["faults"][0]["path"], path(&copy.canonicalize().expect("it is there")));
    assert_eq!(verified(&bench, ONE, &[])["ok"], true);
    // As the remedy says; the next start looks at everything.
    std::fs::remove_file(&copy).expect("it is there");
    bench.terminate(TWO).await;
    bench.run().await;
    let deadline = Instant::now() + LIMIT;
    while !copy.is_file() {
        assert!(Instant::now() < deadline, "it does not come back; {}", bench.log_tails());
        sleep(Duration::from_millis(20)).await;
    }
    both_have(&bench, 2).await;
    same_files(&bench);
    assert_clean(&bench, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voice_folder_that_was_lost_comes_back_with_a_start() {
    let mut bench = GroupBench::hot_standby(2).await;
    record(&bench, 0..2, ONE).await;
    bench.quiet().await;
    both_have(&bench, 2).await;
    let before = same_files(&bench);
    let data = bench.group.members[&ONE].node.data_dir();
    for lost in [&["voice"][..], &["voice", "catalog"]] {
        bench.terminate(ONE).await;
        for folder in lost {
            std::fs::remove_dir_all(data.join(folder)).expect("it is there");
        }
        bench.run().await;
        both_have(&bench, 2).await;
        assert!(same_files(&bench) == before, "{lost:?}");
        assert_clean(&bench, 2);
        assert_eq!(bench.listed(ONE).await, before.keys().cloned().collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_al_mirror_nothing_is_kept_of_others() {
    let settings = "al_mirror = false\n".to_owned();
    let shape = Shape { settings, ..Shape::hot_standby(2) };
    let mut bench = GroupBench::start(SiteConfig::demo(2, 2), &shape).await;
    record(&bench, 0..1, ONE).await;
    bench.quiet().await;
    bench.metric(TWO, "astlogger_copies_pending", |pending| pending == 0.0).await;
    assert_eq!((held(&bench, ONE).len(), held(&bench, TWO).len()), (1, 0));
    // With it, after a restart, the walk finds what is lacking.
    bench.terminate(TWO).await;
    bench.edit(TWO, "al_mirror = false", "al_mirror = true");
    bench.run().await;
    both_have(&bench, 1).await;
    same_files(&bench);
}

/// As ARCHITECTURE.md describes it: the node comes back under a number that was never used.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_has_lost_its_disk_gets_everything_back() {
    let shape = Shape { consoles: true, ..Shape::hot_standby(4) };
    let mut bench = GroupBench::start(SiteConfig::demo(4, 2), &shape).await;
    record(&bench, 0..2, ONE).await;
    bench.quiet().await;
    both_have(&bench, 2).await;
    // One that the other recorder owns.
    bench.kill(ONE).await;
    bench.leads(TWO).await;
    record(&bench, 2..3, TWO).await;
    bench.published(3).await;
    let before = held(&bench, TWO);

    let config = bench.group.members[&ONE].node.config_path();
    let text = std::fs::read_to_string(&config).expect("the configuration");
    let place = text.lines().find(|line| line.starts_with("al_clusterlisten")).expect("a line");
    let place = place.split('"').nth(1).expect("a quoted address").to_owned();
    let other = bench.group.members[&TWO].node.config_path();
    let replaced = tokio::task::block_in_place(|| {
        astlogger(&["cluster", "replace", "--config", path(&other), "1", "4", &place])
    });
    assert!(replaced.status.success(), "{replaced:?}");
    for node in [ONE, TWO, WITNESS] {
        bench.edit(node, &format!("\"1={place}\""), &format!("\"4={place}\""));
    }
    bench.edit(ONE, "al_nodeid = 1", "al_nodeid = 4");
    let data = bench.group.members[&ONE].node.data_dir();
    std::fs::remove_dir_all(&data).expect("it is there");
    std::fs::create_dir(&data).expect("writable");
    bench.run().await;
    bench.has_caught_up(ONE).await;
    both_have(&bench, 3).await;
    assert_eq!(held(&bench, ONE).keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    same_files(&bench);
    assert_clean(&bench, 3);
    let ids: Vec<_> = before.keys().cloned().collect();
    for node in [ONE, TWO, WITNESS] {
        assert_eq!(bench.listed(node).await, ids, "node {node}");
    }
    // It does its part again.
    bench.leads_steadily(ONE).await;
    record(&bench, 3..4, ONE).await;
    let verdict = bench.assert_right(1).await;
    assert_eq!(verdict.calls_recorded, 4, "{verdict:?}");
    both_have(&bench, 4).await;
    same_files(&bench);
    assert_clean(&bench, 4);
}
