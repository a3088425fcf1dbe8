//! Exports that are asked for at a member which has nothing of what is exported: at a witness, at a recorder that has
//! lost its voice folder, and while the only owner goes away. The ZIP files are judged by Python. And what people have
//! said of calls at one member: it is found and exported at another.

mod common;

#[path = "browser/made_up.rs"]
#[allow(dead_code, reason = "a part of it is used")]
mod made_up;
#[path = "common/zip_of.rs"]
mod zip_of;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;

use astlogger::demo::{Cti, Shape};
use common::LIMIT;
use common::export::{complete, event, fetch, token};
use common::group::{GroupBench, ONE, TWO, WITNESS, sha256};
use serde_json::{Value, json};
use simulator::SiteConfig;
use storage_core::{NodeId, Role};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// Recordings that only their owner has.
const RECORDINGS: u64 = 300;
/// Of each, at 8 kHz and 16 bits: 60 MB in all.
const SAMPLES: usize = 100_000;

fn audio(number: u64) -> Vec<i16> {
    (0..SAMPLES as u64).map(|at| ((at * (number + 3)) % 4_001) as i16).collect()
}

/// One recorder and two witnesses; the recorder has recordings that nobody else has.
async fn one_owner() -> GroupBench {
    let roles = vec![Role::Active, Role::Witness, Role::Witness];
    let settings = "al_mindiskfree = \"1 MB\"\n".to_owned();
    let shape = Shape { roles, settings, ..Shape::hot_standby(1) };
    let mut bench = GroupBench::prepare(SiteConfig::demo(1, 1), &shape).await;
    let data = bench.group.members[&ONE].node.data_dir();
    for number in 0..RECORDINGS {
        made_up::lay(&data, number, &[audio(number)], &json!({}));
    }
    bench.run().await;
    let mut qa = bench.cti(WITNESS, "qa").await;
    let deadline = Instant::now() + LIMIT;
    loop {
        let reply = qa.ask(json!({ "request": "listrecordings", "limit": 1 })).await.expect("one");
        if reply["total"] == RECORDINGS {
            return bench;
        }
        assert!(Instant::now() < deadline, "not all are listed: {reply}");
        sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// The checksum of each voice file on a member's disk, by its recording.
fn lying(bench: &GroupBench, node: NodeId) -> BTreeMap<String, String> {
    let held = bench.group.members[&node].node.recordings().expect("records can be read");
    let sum = |path| sha256(&std::fs::read(path).expect("a voice file"));
    held.into_iter().map(|(path, record)| (record.recordingid.to_string(), sum(path))).collect()
}

/// Begins an export; how many recordings it is of.
async fn begin(qa: &mut Cti, filter: &Value) -> Value {
    let mut request = json!({ "request": "exportrecordings" });
    request.as_object_mut().expect("one").extend(filter.as_object().expect("one").clone());
    let reply = qa.ask(request).await.expect("a reply");
    assert_eq!(reply["result"], "success", "{reply}");
    reply["total"].clone()
}

/// A complete export at a member, and as much of it as was downloaded.
struct Parcel {
    web: SocketAddr,
    token: String,
    address: String,
    folder: TempDir,
}

impl Parcel {
    async fn of(bench: &GroupBench, node: NodeId, qa: &mut Cti, told: &Value) -> Self {
        let (token, web) = (token(qa).await, bench.group.members[&node].node.web());
        let address = told["address"].as_str().expect("one").to_owned();
        Self { web, token, address, folder: TempDir::new().expect("a folder") }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("export.zip")
    }

    /// Downloads what is not here yet, and tells how much is missing then.
    async fn download(&self) -> u64 {
        let (web, token, address, file) =
            (self.web, self.token.clone(), self.address.clone(), self.file());
        let fetched = move || fetch(web, &token, &address, &file, u64::MAX);
        let whole = tokio::task::spawn_blocking(fetched).await.expect("a download");
        whole - std::fs::metadata(self.file()).expect("it is there").len()
    }

    /// The whole of it, as Python reads it.
    async fn whole(&self) -> Value {
        assert_eq!(self.download().await, 0);
        let found = zip_of::read(&self.file());
        assert_eq!(found["bad"], json!(null));
        found
    }
}

fn ids_in(table: &Value) -> BTreeSet<String> {
    let rows = table.as_array().expect("a table");
    let ids: BTreeSet<_> =
        rows.iter().map(|row| row["recordingid"].as_str().expect("an id").to_owned()).collect();
    assert_eq!(ids.len(), rows.len(), "each once");
    ids
}

/// Each of these recordings is there as it lies on its owner's disk, and nothing else.
#[track_caller]
fn assert_whole(found: &Value, expected: &BTreeMap<String, String>) {
    assert_eq!(found["missing"], json!([]));
    assert_eq!(ids_in(&found["recordings"]), expected.keys().cloned().collect());
    assert_right(found, expected);
}

/// What is there is right.
#[track_caller]
fn assert_right(found: &Value, expected: &BTreeMap<String, String>) {
    let ids = ids_in(&found["recordings"]);
    let names: BTreeSet<_> =
        found["names"].as_array().expect("names").iter().filter_map(Value::as_str).collect();
    assert_eq!(names.len(), 2 * ids.len() + 2, "{names:?}");
    for id in ids {
        assert_eq!(found["sha256"][format!("audio/{id}.wav")], expected[&id], "{id}");
        assert!(names.contains(format!("records/{id}.json").as_str()), "{id}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_goes_away_in_the_midst_is_waited_for_and_named() {
    let mut bench = one_owner().await;
    let expected = lying(&bench, ONE);
    let mut qa = bench.cti(WITNESS, "qa").await;
    // At first it comes back while it is still asked again, then it does not.
    for comes_back in [true, false] {
        assert_eq!(begin(&mut qa, &json!({})).await, RECORDINGS);
        while event(&mut qa).await["done"].as_u64() == Some(0) {}
        bench.kill(ONE).await;
        loop {
            let told = event(&mut qa).await;
            assert_ne!(told["state"], "complete", "it was too quick: {told}");
            if told["missing"].as_u64() > Some(0) {
                break;
            }
        }
        if comes_back {
            bench.run().await;
        }
        let told = complete(&mut qa).await;
        let parcel = Parcel::of(&bench, WITNESS, &mut qa, &told).await;
        if comes_back {
            assert_whole(&parcel.whole().await, &expected);
            continue;
        }
        // Audio is read from where it lies: now there are the tables, and the rest when it is back.
        assert!(parcel.download().await > 0, "its owner is away");
        let tables = std::fs::read(parcel.file()).expect("a part");
        let tables = String::from_utf8_lossy(&tables);
        let named = tables.lines().filter(|line| line.contains("unavailable,")).count();
        assert_eq!(told["missing"], named, "{} bytes", tables.len());
        bench.run().await;
        let found = parcel.whole().await;
        assert_right(&found, &expected);
        let (there, missing) = (ids_in(&found["recordings"]), ids_in(&found["missing"]));
        assert!(!there.is_empty() && there.is_disjoint(&missing), "{there:?} {missing:?}");
        let all: BTreeSet<_> = there.union(&missing).cloned().collect();
        assert_eq!(all, expected.keys().cloned().collect(), "none goes missing unnamed");
        assert_eq!(told["missing"], missing.len(), "{told}");
        for row in found["missing"].as_array().expect("a table") {
            assert!(row.to_string().contains("node 1"), "whose it is, is said: {row}");
        }
    }
    // Asked anew now that it is back, all are there.
    assert_eq!(begin(&mut qa, &json!({})).await, RECORDINGS);
    let told = complete(&mut qa).await;
    assert_whole(&Parcel::of(&bench, WITNESS, &mut qa, &told).await.whole().await, &expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorder_that_has_lost_its_voice_folder_exports_what_the_other_has() {
    let mut bench = GroupBench::hot_standby(3).await;
    bench.record(3).await;
    let expected = lying(&bench, TWO);
    assert_eq!(expected.len(), 3);
    bench.kill(ONE).await;
    let voice = bench.group.members[&ONE].node.data_dir().join("voice");
    std::fs::remove_dir_all(voice).expect("it was there");
    bench.run().await;
    let mut qa = bench.cti(ONE, "qa").await;
    assert_eq!(begin(&mut qa, &json!({})).await, 3);
    let told = complete(&mut qa).await;
    assert_whole(&Parcel::of(&bench, ONE, &mut qa, &told).await.whole().await, &expected);
}

/// Says something of a recording at a member.
async fn says(bench: &GroupBench, node: NodeId, mut request: Value, id: &str) -> Value {
    request["recordingid"] = id.into();
    let reply = bench.cti(node, "qa").await.ask(request).await.expect("a reply");
    assert_eq!(reply["result"], "success", "{reply}");
    reply
}

/// The recordings that a member finds by a filter, once they are those; what is said of calls gets there in a moment.
async fn finds(bench: &GroupBench, node: NodeId, filter: &Value, expected: &[&str]) {
    let mut qa = bench.cti(node, "qa").await;
    let mut request = json!({ "request": "listrecordings" });
    request.as_object_mut().expect("one").extend(filter.as_object().expect("one").clone());
    let deadline = Instant::now() + LIMIT;
    loop {
        let reply = qa.ask(request.clone()).await.expect("a reply");
        let found = reply["recordings"].as_array().unwrap_or_else(|| panic!("{reply}"));
        let found: BTreeSet<_> =
            found.iter().filter_map(|one| one["recordingid"].as_str()).collect();
        if found == expected.iter().copied().collect() {
            return;
        }
        assert!(Instant::now() < deadline, "node {node}, {filter}: {found:?} and not {expected:?}");
        sleep(std::time::Duration::from_millis(50)).await;
    }
}

const SCORECARD: &str = "[[al_scorecard]]\nname = \"Service\"\nquestions = [\n  \
    { id = \"help\", text = \"How well?\", kind = \"points\", max = 10 },\n]\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_of_calls_at_one_member_is_found_and_exported_at_another() {
    let shape = Shape { settings: SCORECARD.to_owned(), ..Shape::hot_standby(3) };
    let mut bench = GroupBench::start(SiteConfig::demo(3, 2), &shape).await;
    let ids = bench.record(3).await;
    let score = |points| {
        json!({ "request": "scorerecording", "scorecard": "Service",
        "answers": { "help": points }, "comment": "heard it" })
    };
    let good = says(&bench, ONE, score(9), &ids[0]).await;
    assert_eq!(good["percent"], 90.0, "{good}");
    says(&bench, TWO, score(2), &ids[1]).await;
    let note = json!({ "request": "tagrecording", "add": ["vip"], "note": "Rückruf" });
    says(&bench, TWO, note, &ids[0]).await;
    // The one at which it was said is not needed to find it.
    bench.kill(ONE).await;
    for node in [TWO, WITNESS] {
        for (filter, expected) in [
            (json!({ "minscore": 80 }), vec![ids[0].as_str()]),
            (json!({ "scorecard": "Service", "maxscore": 50 }), vec![ids[1].as_str()]),
            (json!({ "scorecard": "Service" }), vec![ids[0].as_str(), ids[1].as_str()]),
            (json!({ "tag": "vip", "minscore": 90 }), vec![ids[0].as_str()]),
            (json!({ "text": "rückruf" }), vec![ids[0].as_str()]),
            (json!({ "minscore": 91 }), vec![]),
        ] {
            finds(&bench, node, &filter, &expected).await;
        }
    }
    let expected = lying(&bench, TWO).into_iter().filter(|(id, _)| *id == ids[0]).collect();
    let mut qa = bench.cti(WITNESS, "qa").await;
    assert_eq!(begin(&mut qa, &json!({ "minscore": 80 })).await, 1);
    let told = complete(&mut qa).await;
    let found = Parcel::of(&bench, WITNESS, &mut qa, &told).await.whole().await;
    assert_right(&found, &expected);
    let (row, record) = (&found["recordings"][0], &found["records"][0]);
    assert_eq!(row["recordingid"], json!(ids[0]));
    assert_eq!(row["scores"], "Service: 90 % by qa", "{row}");
    assert_eq!((&row["tags"], &row["notes"]), (&json!("vip"), &json!("qa: Rückruf")), "{row}");
    assert_eq!(record["scores"][0]["percent"], 90.0, "{record}");
    assert_eq!(record["scores"][0]["comment"], "heard it", "{record}");
    assert_eq!(record["notes"][0]["text"], "Rückruf", "{record}");
}
