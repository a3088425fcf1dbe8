//! Legal hold and deletion in real groups: one admin holds and two release, on whatever nodes; what is deleted is
//! gone from every disk and list, also of nodes that were away, and nothing brings it back; the manifest tells
//! what was deleted from what was merely removed.

mod common;

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::SystemTime;

use astlogger::demo::{Cti, Heard, Shape};
use astlogger::users::{self, UserRole};
use common::PASSWORD;
use common::commands::key_file;
use common::group::{GroupBench, ONE, TWO, WITNESS};
use serde_json::{Value, json};
use simulator::SiteConfig;
use storage::wav::Channels;
use storage::{VoiceForm, VoiceStore};
use storage_core::g711::Law;
use storage_core::{NodeId, RecordingId, WallTime};

/// Frames of a call.
const SOME: u32 = 60;

/// Two recorders, a witness, two admins, and so many recordings of which each recorder has the voice file.
async fn with_recordings(count: usize, settings: &str) -> (GroupBench, Vec<String>) {
    let shape = Shape { settings: settings.to_owned(), ..Shape::hot_standby(count) };
    let bench = GroupBench::start(SiteConfig::demo(count, 2), &shape).await;
    let users = bench.group.members[&ONE].node.users_path();
    for (name, role) in
        [("adam", UserRole::Admin), ("berta", UserRole::Admin), ("otto", UserRole::Auditor)]
    {
        users::add(&users, name, role, None, None, PASSWORD).expect("a users file");
    }
    bench.group.share_users().expect("writable");
    let ids = bench.record(count).await;
    (bench, ids)
}

fn is_held(bench: &GroupBench, node: NodeId, id: &str) -> bool {
    bench.lying(node).iter().any(|record| record.recordingid.to_string() == id && record.hold)
}

/// All files below a node's voice folder whose names have this in them.
fn files_of(bench: &GroupBench, node: NodeId, id: &str) -> Vec<PathBuf> {
    let voice = bench.group.members[&node].node.data_dir().join("voice");
    let (mut found, mut folders) = (Vec::new(), vec![voice]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().contains(id) {
                found.push(path);
            }
        }
    }
    found
}

async fn ask(bench: &GroupBench, node: NodeId, user: &str, request: Value) -> Value {
    bench.newcomer(node, user).await.ask(request).await.expect("a reply")
}

async fn hold(bench: &GroupBench, node: NodeId, user: &str, id: &str, on: bool) -> Value {
    let request = json!({"request": "legalhold", "recordingid": id, "on": on, "reason": "case 7"});
    ask(bench, node, user, request).await
}

/// What a node lists as held, for those who hold and for those who search: id, by whom, why.
async fn listed_as_held(bench: &GroupBench, node: NodeId) -> Vec<Value> {
    let told = |reply: &Value, list: &str| -> Vec<Value> {
        let listed = reply[list].as_array().unwrap_or_else(|| panic!("{reply}"));
        let mark = |held: &Value, name: &str| held["holdmark"][name].clone();
        listed
            .iter()
            .map(|held| json!([held["recordingid"], mark(held, "by"), mark(held, "reason")]))
            .collect()
    };
    let held = told(&ask(bench, node, "berta", json!({"request": "listholds"})).await, "holds");
    let search = json!({"request": "listrecordings", "hold": true});
    assert_eq!(told(&ask(bench, node, "qa", search).await, "recordings"), held);
    held
}

async fn delete(bench: &GroupBench, node: NodeId, user: &str, id: &str) -> Value {
    let request = json!({"request": "deleterecording", "recordingid": id, "reason": "told to"});
    ask(bench, node, user, request).await
}

/// Waits until nothing of a recording lies on a node, and it is not listed there.
async fn gone(bench: &GroupBench, node: NodeId, id: &str) {
    bench.comes_true("it is gone", || files_of(bench, node, id).is_empty()).await;
    assert!(!bench.listed(node).await.iter().any(|listed| listed == id), "node {node} lists it");
    let record =
        ask(bench, node, "qa", json!({"request": "getrecording", "recordingid": id})).await;
    assert_eq!(record["error"], "notfound", "{record}");
}

fn astlogger(bench: &GroupBench, node: NodeId, arguments: &[&str]) -> Output {
    let dir = bench.group.members[&node].node.data_dir();
    let binary = env!("CARGO_BIN_EXE_astlogger");
    Command::new(binary).args(arguments).arg(dir).output().expect("it runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

/// The next event of this name that a watcher hears.
async fn heard(cti: &mut Cti, eventtype: &str) -> Value {
    loop {
        match cti.next().await.expect("an event") {
            Heard::Text(event) if event["eventtype"] == eventtype => return event,
            _ => {}
        }
    }
}

/// Neither a catalog that is made anew nor the other node's list brings a deleted recording back; and what is removed
/// without a word is missed.
async fn stays_gone(bench: &mut GroupBench, id: &str, other: &str) {
    bench.kill(TWO).await;
    let reindexed = astlogger(bench, TWO, &["reindex", "--dir"]);
    assert!(reindexed.status.success(), "{}", said(&reindexed));
    bench.lose_catalog(TWO);
    bench.run().await;
    bench.has_caught_up(TWO).await;
    gone(bench, TWO, id).await;
    assert_eq!(bench.listed(TWO).await, [other]);
    for path in files_of(bench, ONE, other) {
        std::fs::remove_file(path).expect("it is there");
    }
    let verified = astlogger(bench, ONE, &["verify"]);
    assert_eq!(verified.status.code(), Some(1));
    assert!(
        said(&verified).contains("was published here and removed since"),
        "{}",
        said(&verified)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_admin_holds_and_two_release_and_only_then_it_can_be_deleted() {
    let (mut bench, ids) = with_recordings(2, "").await;
    let (id, other) = (ids[0].as_str(), ids[1].as_str());
    let mut watcher = bench.newcomer(TWO, "qa").await;
    let subscribed = watcher.ask(json!({"request": "subscribe", "events": ["recordings"]})).await;
    assert_eq!(subscribed.expect("a reply")["result"], "success");
    let held = hold(&bench, ONE, "adam", id, true).await;
    assert_eq!((&held["result"], &held["hold"]), (&json!("success"), &json!(true)), "{held}");
    let event = heard(&mut watcher, "legalholdchanged").await;
    assert_eq!((&event["recordingid"], &event["holdmark"]["by"]), (&json!(id), &json!("adam")));
    bench
        .comes_true("both records say so", || [ONE, TWO].iter().all(|n| is_held(&bench, *n, id)))
        .await;
    for node in [ONE, TWO, WITNESS] {
        // Whichever is asked, it is the only one that is found.
        let listed = listed_as_held(&bench, node).await;
        assert_eq!(listed, [json!([id, "adam", "case 7"])], "node {node}");
        let refused = delete(&bench, node, "berta", id).await;
        assert_eq!(refused["error"], "forbidden", "node {node}: {refused}");
        let message = refused["message"].as_str().expect("a message");
        assert!(message.contains("legal hold") && message.contains("case 7"), "{message}");
    }
    // The first wish only notes itself, wherever its author repeats it.
    let wish = hold(&bench, WITNESS, "adam", id, false).await;
    let told = [&wish["result"], &wish["hold"], &wish["releaserequestedby"]];
    assert_eq!(told, [&json!("success"), &json!(true), &json!("adam")], "{wish}");
    heard(&mut watcher, "legalholdchanged").await;
    let again = hold(&bench, TWO, "adam", id, false).await;
    assert_eq!(again["error"], "forbidden", "{again}");
    // It outlasts the end of both.
    bench.kill(ONE).await;
    bench.kill(TWO).await;
    bench.run().await;
    let again = hold(&bench, ONE, "adam", id, false).await;
    assert_eq!(again["error"], "forbidden", "{again}");
    assert!(is_held(&bench, ONE, id) && is_held(&bench, TWO, id));
    let released = hold(&bench, TWO, "berta", id, false).await;
    assert_eq!(released["hold"], json!(false), "{released}");
    bench
        .comes_true("both records say so", || ![ONE, TWO].iter().any(|n| is_held(&bench, *n, id)))
        .await;

    for node in [ONE, TWO, WITNESS] {
        assert_eq!(listed_as_held(&bench, node).await, Vec::<Value>::new(), "node {node}");
    }
    for user in ["qa", "supervisor", "otto"] {
        let refused = delete(&bench, ONE, user, id).await;
        assert_eq!(refused["error"], "forbidden", "{user}: {refused}");
    }
    let mut watcher = bench.newcomer(TWO, "qa").await;
    let subscribed = watcher.ask(json!({"request": "subscribe", "events": ["recordings"]})).await;
    assert_eq!(subscribed.expect("a reply")["result"], "success");
    let deleted = delete(&bench, WITNESS, "berta", id).await;
    assert_eq!(deleted["result"], "success", "{deleted}");
    let event = heard(&mut watcher, "recordingdeleted").await;
    assert_eq!((&event["recordingid"], &event["by"]), (&json!(id), &json!("berta")));
    for node in [ONE, TWO] {
        gone(&bench, node, id).await;
        let verified = astlogger(&bench, node, &["verify"]);
        assert!(verified.status.success(), "{}", said(&verified));
        assert!(said(&verified).contains("1 recordings were deleted on purpose"));
    }
    let again = delete(&bench, ONE, "adam", id).await;
    assert_eq!(again["error"], "notfound", "{again}");
    assert!(again["message"].as_str().expect("a message").contains("berta"), "{again}");
    let report = ask(&bench, ONE, "otto", json!({"request": "completeness"})).await;
    let counts = ["calls", "recorded", "missed", "partial", "deleted"].map(|n| report[n].clone());
    assert_eq!(counts, [2, 1, 0, 0, 1].map(Value::from), "{report}");
    stays_gone(&mut bench, id, other).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_away_deletes_when_it_is_back_and_the_keys_go() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let keys = key_file(dir.path());
    let settings = format!("al_encryptionkeyfile = {:?}\n", keys.display().to_string());
    let (mut bench, ids) = with_recordings(2, &settings).await;
    let (id, other) = (ids[0].as_str(), ids[1].as_str());
    for node in [ONE, TWO] {
        let files = files_of(&bench, node, id);
        assert!(files.iter().any(|path| path.extension().is_some_and(|e| e == "key")), "{files:?}");
    }
    bench.kill(TWO).await;
    let deleted = delete(&bench, ONE, "adam", id).await;
    assert_eq!(deleted["result"], "success", "{deleted}");
    gone(&bench, ONE, id).await;
    assert!(!files_of(&bench, TWO, id).is_empty(), "it is away");
    // Who was asked is gone before the other is back.
    bench.kill(ONE).await;
    bench.run().await;
    for node in [ONE, TWO] {
        gone(&bench, node, id).await;
        assert_eq!(bench.listed(node).await, [other]);
        let verified = astlogger(&bench, node, &["verify", "--key-file", &keys.to_string_lossy()]);
        assert!(verified.status.success(), "{}", said(&verified));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_holds_it_keeps_it_whatever_another_has_deleted_meanwhile() {
    let (mut bench, ids) = with_recordings(1, "").await;
    let id = ids[0].as_str();
    bench.kill(ONE).await;
    let held = hold(&bench, TWO, "adam", id, true).await;
    assert_eq!(held["hold"], json!(true), "{held}");
    bench.kill(TWO).await;
    bench.group.member(ONE).expect("a member").node.start().expect("it starts");
    let deleted = delete(&bench, ONE, "berta", id).await;
    assert_eq!(deleted["result"], "success", "it has not heard of the hold: {deleted}");
    bench.run().await;
    bench
        .until("the one that holds it says so", |seen| {
            let raised = "astlogger_alarms{alarm=\"deletionheld\"}";
            let says = |metrics: &std::collections::BTreeMap<String, f64>| {
                metrics.get(raised).is_some_and(|count| *count > 0.0)
            };
            seen.iter().any(|sight| sight.node == TWO && sight.metrics.as_ref().is_some_and(says))
        })
        .await;
    assert!(is_held(&bench, TWO, id), "it was not kept");
    hold(&bench, TWO, "adam", id, false).await;
    let released = hold(&bench, TWO, "berta", id, false).await;
    assert_eq!(released["hold"], json!(false), "{released}");
    for node in [ONE, TWO] {
        gone(&bench, node, id).await;
    }
}

/// Lays down a recording that ended so many days ago.
fn lay_old(bench: &GroupBench, node: NodeId, number: u8, days: i64, special: &Value) -> String {
    let dir = bench.group.members[&node].node.data_dir();
    let store = VoiceStore::open(&dir).expect("a folder");
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let ended = WallTime::from_millis(i64::try_from(since.as_millis()).expect("small"));
    let ended = WallTime::from_millis(ended.as_millis() - days * 86_400_000);
    let id = RecordingId::new(ended, [number; 10]);
    let form = VoiceForm::G711(Law::A);
    let mut writer = store.write(id, form, Channels::Mono, 8000).expect("writable");
    writer.write_g711(Law::A, &[number; 8000]).expect("writable");
    let mut record = json!({
        "recordingid": id, "callids": [number.to_string()], "extension": "31001", "agentid": "",
        "calling": "", "called": "", "direction": "inbound", "trunkgroup": "", "trunkmember": "",
        "vdn": "", "split": "", "userdata": "", "parties": [], "started": ended, "ended": ended,
        "durationms": 1000, "scope": "station", "trigger": "rule", "rule": "", "copy": 1, "node": node,
        "segments": [], "gaps": [], "pauses": [], "complete": true,
        "quality": { "lossratio": 0.0, "jitterms": 0.0, "clockdriftppm": 0.0 },
        "format": "wavg711", "bytes": 0, "sha256": "", "tags": [], "notes": [], "hold": false,
    });
    record.as_object_mut().expect("an object").extend(special.as_object().expect("one").clone());
    let record = serde_json::from_value(record).expect("a record");
    let staged = store.stage(writer.finish().expect("whole"), record).expect("writable");
    store.publish_staged(&staged).expect("writable").recordingid.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_past_its_time_goes_from_all_nodes_but_what_is_held_or_kept_longer() {
    let settings = "al_retentiondays = 30\n[[al_retention]]\ntag = \"complaint\"\ndays = 0\n";
    let shape = Shape { settings: settings.to_owned(), ..Shape::hot_standby(2) };
    let mut bench = GroupBench::prepare(SiteConfig::demo(2, 2), &shape).await;
    let old = lay_old(&bench, ONE, 1, 40, &json!({}));
    let stays = [
        lay_old(&bench, ONE, 2, 40, &json!({"tags": ["Complaint"]})),
        lay_old(&bench, ONE, 3, 40, &json!({"hold": true})),
        lay_old(&bench, ONE, 4, 5, &json!({})),
    ];
    assert!(!files_of(&bench, ONE, &old).is_empty());
    bench.run().await;
    for node in [ONE, TWO] {
        bench.comes_true("it is gone", || files_of(&bench, node, &old).is_empty()).await;
    }
    bench
        .comes_true("the other has copies of those that stay", || {
            stays.iter().all(|id| !files_of(&bench, TWO, id).is_empty())
        })
        .await;
    for node in [ONE, TWO] {
        gone(&bench, node, &old).await;
        assert_eq!(bench.listed(node).await.len(), stays.len(), "node {node}");
    }
    let held = "astlogger_retention_due{why=\"held\"}";
    bench.until("one is held", |seen| seen.iter().any(|sight| sight.value(held) > 0.0)).await;
    let verified = astlogger(&bench, ONE, &["verify"]);
    assert!(
        said(&verified).contains("1 recordings were deleted on purpose"),
        "{}",
        said(&verified)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_lost_node_has_captured_of_it_does_not_bring_it_back() {
    let shape = Shape { settings: "al_mirror = false\n".to_owned(), ..Shape::hot_standby(2) };
    let mut bench = GroupBench::start(SiteConfig::demo(2, 2), &shape).await;
    let users = bench.group.members[&ONE].node.users_path();
    users::add(&users, "adam", UserRole::Admin, None, None, PASSWORD).expect("a users file");
    bench.group.share_users().expect("writable");
    let calls = bench.taken_over(1, SOME).await;
    bench.hang_up(&calls);
    bench.published(1).await;
    let id = bench.lying(TWO)[0].recordingid.to_string();
    assert!(!bench.lying(TWO)[0].complete, "the other's part is missing");
    let deleted = delete(&bench, TWO, "adam", &id).await;
    assert_eq!(deleted["result"], "success", "{deleted}");
    // Its part would make a later revision. All of it is accounted for instead: nothing is owed any more.
    bench.run().await;
    bench.quiet().await;
    for node in [ONE, TWO] {
        gone(&bench, node, &id).await;
        bench.metric(node, "astlogger_captures_owed", |owed| owed == 0.0).await;
    }
}
