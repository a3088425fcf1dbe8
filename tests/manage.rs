//! What people write about recordings is on all nodes of a real group: in each catalog, and in the record
//! beside each voice file; also if a node was away, or was killed in the midst of it. And whoever watches at a witness
//! hears what recorders hear.

mod common;

use std::time::Duration;

use astlogger::demo::{Cti, Heard};
use astlogger::users::{self, UserRole};
use common::group::{GroupBench, ONE, TWO, WITNESS};
use common::{LIMIT, PASSWORD};
use serde_json::{Value, json};
use storage_core::{NodeId, Recording};
use tokio::time::{Instant, sleep};

/// Two recorders, a witness, and so many recordings of which each recorder has the voice file.
async fn with_recordings(count: usize) -> (GroupBench, Vec<String>) {
    let bench = GroupBench::hot_standby(count).await;
    let ids = bench.record(count).await;
    (bench, ids)
}

async fn tag(cti: &mut Cti, id: &str, arguments: Value) -> Value {
    let mut request = json!({"request": "tagrecording", "recordingid": id});
    request.as_object_mut().unwrap().extend(arguments.as_object().unwrap().clone());
    cti.ask(request).await.expect("a reply")
}

/// Waits until a recording has exactly these tags and so many notes, in the catalog and on the disk of both
/// recorders, and as the witness tells it.
async fn all_have(bench: &GroupBench, id: &str, tags: &[String], notes: usize) {
    let as_wished = |record: &Recording| record.tags == tags && record.notes.len() == notes;
    bench
        .comes_true("records on the disks", || {
            [ONE, TWO].into_iter().all(|node| {
                let records = bench.lying(node);
                records
                    .iter()
                    .any(|record| record.recordingid.to_string() == id && as_wished(record))
            })
        })
        .await;
    let deadline = Instant::now() + LIMIT;
    for node in [ONE, TWO, WITNESS] {
        let mut qa = bench.cti(node, "qa").await;
        loop {
            let request = json!({"request": "getrecording", "recordingid": id});
            let reply = qa.ask(request).await.expect("a reply");
            let record = serde_json::from_value::<Recording>(reply["recording"].clone());
            if record.as_ref().is_ok_and(as_wished) {
                break;
            }
            assert!(Instant::now() < deadline, "node {node}: {reply}; {}", bench.log_tails());
            sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn found(bench: &GroupBench, node: NodeId, filter: Value) -> Vec<String> {
    let mut request = json!({"request": "listrecordings"});
    request.as_object_mut().unwrap().extend(filter.as_object().unwrap().clone());
    let reply = bench.cti(node, "qa").await.ask(request).await.expect("a reply");
    let recordings = reply["recordings"].as_array().unwrap_or_else(|| panic!("{reply}"));
    recordings.iter().map(|one| one["recordingid"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_at_any_node_is_on_all_and_is_found() {
    let (bench, ids) = with_recordings(2).await;
    let id = ids[0].as_str();
    let mut at_two = bench.cti(TWO, "supervisor").await;
    let subscribed = at_two.ask(json!({"request": "subscribe", "events": ["recordings"]})).await;
    assert_eq!(subscribed.expect("a reply")["result"], "success");
    let mut at_one = bench.cti(ONE, "qa").await;
    let done =
        tag(&mut at_one, id, json!({"add": ["vip", "sale"], "note": "Rückruf am Montag"})).await;
    assert_eq!((&done["result"], &done["tags"]), (&json!("success"), &json!(["sale", "vip"])));
    // The other node's watchers hear of it.
    let told = loop {
        match at_two.next().await.expect("an event") {
            common_event if is_tagged(&common_event) => break common_event,
            _ => {}
        }
    };
    assert_eq!(member(&told, "recordingid"), json!(id));
    assert_eq!(member(&told, "tags"), json!(["sale", "vip"]));
    let mut at_witness = bench.cti(WITNESS, "qa").await;
    let done = tag(&mut at_witness, id, json!({"remove": ["sale"], "note": "done"})).await;
    assert_eq!(done["result"], "success", "{done}");
    all_have(&bench, id, &["vip".to_owned()], 2).await;
    for node in [ONE, TWO, WITNESS] {
        assert_eq!(found(&bench, node, json!({"tag": "vip"})).await, [id], "node {node}");
        assert_eq!(found(&bench, node, json!({"text": "rückruf"})).await, [id], "node {node}");
        assert_eq!(found(&bench, node, json!({"tag": "sale"})).await, [""; 0], "node {node}");
    }
    // An agent writes about his own calls, wherever he asks.
    let users = bench.group.members[&ONE].node.users_path();
    let own = bench
        .lying(ONE)
        .iter()
        .find(|r| r.recordingid.to_string() == id)
        .unwrap()
        .extension
        .clone();
    users::add(&users, "anton", UserRole::Agent, Some(own.to_string().as_str()), None, PASSWORD)
        .expect("a users file");
    bench.group.share_users().expect("writable");
    let mut agent = bench.newcomer(TWO, "anton").await;
    let own = tag(&mut agent, id, json!({"add": ["mine"]})).await;
    assert_eq!(own["result"], "success", "{own}");
    let other = tag(&mut agent, &ids[1], json!({"add": ["mine"]})).await;
    assert_eq!(other["error"], "forbidden", "{other}");
    all_have(&bench, id, &["mine".to_owned(), "vip".to_owned()], 2).await;
}

fn is_tagged(heard: &Heard) -> bool {
    member(heard, "eventtype") == "recordingtagged"
}

fn member(heard: &Heard, name: &str) -> Value {
    match heard {
        Heard::Text(value) => value[name].clone(),
        Heard::Binary(_) => Value::Null,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_away_hears_of_it_even_if_who_wrote_it_died_meanwhile() {
    let (mut bench, ids) = with_recordings(1).await;
    let id = ids[0].as_str();
    bench.kill(TWO).await;
    let mut at_one = bench.cti(ONE, "qa").await;
    let done = tag(&mut at_one, id, json!({"add": ["while-away"], "note": "first"})).await;
    assert_eq!(done["result"], "success", "{done}");
    bench.kill(ONE).await;
    bench.run().await;
    all_have(&bench, id, &["while-away".to_owned()], 1).await;
    // What both wrote while neither heard of the other is there, and the later word on a tag counts.
    bench.kill(TWO).await;
    let mut at_one = bench.cti(ONE, "qa").await;
    tag(&mut at_one, id, json!({"add": ["one"], "remove": ["while-away"], "note": "of one"})).await;
    bench.kill(ONE).await;
    bench.group.member(TWO).expect("a member").node.start().expect("it starts");
    let mut at_two = bench.newcomer(TWO, "qa").await;
    let done = tag(&mut at_two, id, json!({"add": ["two"], "note": "of two"})).await;
    assert_eq!(done["tags"], json!(["two", "while-away"]), "{done}");
    bench.run().await;
    all_have(&bench, id, &["one".to_owned(), "two".to_owned()], 3).await;
    // The pair of files alone makes the catalog.
    bench.kill(TWO).await;
    bench.lose_catalog(TWO);
    bench.run().await;
    all_have(&bench, id, &["one".to_owned(), "two".to_owned()], 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_outlasts_a_kill_in_the_midst_of_it() {
    let (mut bench, ids) = with_recordings(1).await;
    let id = ids[0].clone();
    for round in 0..4_usize {
        let mut at_one = bench.cti(ONE, "qa").await;
        let (asking, killed_after) = (id.clone(), 2 + 3 * round);
        let (acknowledged, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let writing = tokio::spawn(async move {
            for number in 0..30 {
                let request = json!({"request": "tagrecording", "recordingid": asking,
                    "add": [format!("last-{}", number % 2)], "remove": [format!("last-{}", (number + 1) % 2)],
                    "note": if number < 12 { format!("{round}-{number}") } else { String::new() }});
                match at_one.ask(request).await {
                    Ok(reply) => {
                        assert_eq!(reply["result"], "success", "{reply}");
                        let _ = acknowledged.send(number);
                    }
                    Err(_) => return,
                }
            }
        });
        for _ in 0..killed_after {
            heard.recv().await.expect("an answer");
        }
        bench.kill(ONE).await;
        writing.await.expect("it ends when the socket does");
        let mut sure = killed_after - 1;
        while let Some(number) = heard.recv().await {
            sure = number;
        }
        bench.run().await;
        bench
            .comes_true("both records alike, with all that was answered", || {
                let [one, two] = [ONE, TWO].map(|node| bench.lying(node).remove(0));
                let has = |number: usize| {
                    let text = format!("{round}-{number}");
                    one.notes.iter().filter(|note| note.text == text).count() == 1
                };
                (one.tags, one.notes.clone(), one.tagmarks.clone())
                    == (two.tags, two.notes, two.tagmarks)
                    && (0..=sure.min(11)).all(has)
            })
            .await;
        let record = bench.lying(TWO).remove(0);
        assert_eq!(record.tags.len(), 1, "{:?}", record.tags);
        let numbers = |word: &str| record.tags[0] == format!("last-{word}");
        assert!(numbers("0") || numbers("1"));
    }
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_astlogger"))
        .arg("verify")
        .arg(bench.group.members[&ONE].node.data_dir())
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_witness_tells_its_watchers_of_calls_recordings_and_what_is_written() {
    let bench = GroupBench::hot_standby(1).await;
    bench.leads_steadily(ONE).await;
    let mut supervisor = bench.cti(WITNESS, "supervisor").await;
    let subscribe = json!({"request": "subscribe", "events": ["calls", "recordings"]});
    assert_eq!(supervisor.ask(subscribe).await.expect("a reply")["result"], "success");
    let call = bench.call(0).await;
    bench.recorded_by(&[call], ONE).await;
    bench.go_on(&[call], 50).await;
    bench.hang_up(&[call]);
    bench.published(1).await;
    let id = bench.listed(WITNESS).await.pop().expect("a recording");
    let mut at_two = bench.cti(TWO, "qa").await;
    let done = tag(&mut at_two, &id, json!({"add": "vip"})).await;
    assert_eq!(done["result"], "success", "{done}");
    let mut heard: Vec<String> = Vec::new();
    while heard.last().is_none_or(|last| last != "recordingtagged") {
        if let Heard::Text(event) = supervisor.next().await.expect("an event") {
            heard.push(event["eventtype"].as_str().expect("a name").to_owned());
        }
    }
    heard.retain(|name| name != "callupdated");
    let wanted =
        ["callstarted", "recordingstarted", "callended", "recordingpublished", "recordingtagged"];
    let times = |name: &&str| heard.iter().filter(|heard| heard == name).count();
    assert!(wanted.iter().all(|name| times(name) == 1), "each once: {heard:?}");
    assert_eq!(heard.len(), wanted.len(), "{heard:?}");
}
