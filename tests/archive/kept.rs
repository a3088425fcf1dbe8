//! What becomes of archived recordings as time goes by: they are exported, held, past their time, left behind by a
//! recorder that has gone, and kept on a recorder that has no room.

use std::path::PathBuf;
use std::process::Command;

use astlogger::demo::{Heard, Shape};
use astlogger::users::{self, UserRole};
use serde_json::{Value, json};
use simulator::SiteConfig;
use storage_core::Recording;
use tempfile::TempDir;
use tokio::time::timeout;

use crate::common::group::{GroupBench, ONE, TWO, sha256};
use crate::common::{Bench, LIMIT, PASSWORD};
use crate::store::{Store, files_in};
use crate::{
    ALWAYS_LOW, ROOMY, SOME, all_archived, assert_lies, comes_true, edit, http, lay, record_one,
    restarted, token, zip_of,
};

/// A node alone with a folder as its archive, not started yet.
async fn prepared(share: &TempDir, more: &str) -> (Bench, PathBuf) {
    let folder = share.path().join("recordings");
    std::fs::create_dir(&folder).expect("writable");
    let settings = format!("al_archive = \"file://{}\"\n{more}", folder.display());
    (Bench::prepare(SiteConfig::demo(2, 1), &settings).await, folder)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lies_in_the_archive_only_is_exported_as_it_was() {
    let share = TempDir::new().expect("a folder");
    let (bench, _) = prepared(&share, ALWAYS_LOW).await;
    // 16 MB, more than is read from there at once.
    lay(&bench, 1, 2_000);
    let bench = bench.started().await;
    record_one(&bench, 2).await;
    let archived = all_archived(&bench, 2).await;
    comes_true(&bench, "it makes room", || archived.iter().all(|(voice, _)| !voice.exists())).await;
    // An export needs room of its own.
    edit(&bench, ALWAYS_LOW, ROOMY);
    let bench = restarted(bench).await;

    let mut qa = bench.cti("qa").await;
    let begun = qa.ask(json!({"request": "exportrecordings"})).await.expect("a reply");
    assert_eq!(begun["total"], 2, "{begun}");
    let complete = async {
        loop {
            if let Heard::Text(told) = qa.next().await.expect("an event")
                && told["state"] == "complete"
            {
                return told;
            }
        }
    };
    let told = timeout(LIMIT, complete).await.expect("it completes");
    assert_eq!((&told["done"], &told["missing"]), (&json!(2), &json!(0)), "{told}");
    let (address, token) = (told["address"].as_str().expect("an address"), token(&bench).await);
    let line = format!("GET {address} HTTP/1.1\r\nAuthorization: Bearer {token}");
    let (head, zip) = http(&bench, &line, "").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let file = share.path().join("export.zip");
    std::fs::write(&file, zip).expect("writable");
    let found = zip_of::read(&file);
    assert_eq!((&found["bad"], &found["missing"]), (&Value::Null, &json!([])));
    assert_eq!(found["recordings"].as_array().map(Vec::len), Some(2));
    for (_, record) in &archived {
        let name = format!("audio/{}.wav", record.recordingid);
        assert_eq!(found["sha256"][&name], record.sha256, "{name}");
    }
    assert!(archived.iter().all(|(voice, _)| !voice.exists()), "nothing is brought back for it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_legal_hold_keeps_what_lies_in_the_archive_from_retention_and_from_people() {
    let share = TempDir::new().expect("a folder");
    let (bench, folder) = prepared(&share, ROOMY).await;
    let (held, due) = (lay(&bench, 1, 30), lay(&bench, 2, 30));
    for (name, role) in [("adam", UserRole::Admin), ("berta", UserRole::Admin)] {
        users::add(&bench.node.users_path(), name, role, None, None, PASSWORD).expect("writable");
    }
    for record in [&held, &due] {
        aged(&bench, record, 3);
    }
    let bench = bench.started().await;
    all_archived(&bench, 2).await;
    let there = |record: &Recording| {
        let id = record.recordingid.to_string();
        files_in(&folder).iter().filter(|(name, _)| name.contains(&id)).count()
    };
    assert_eq!((there(&held), there(&due)), (2, 2));
    let id = held.recordingid;
    let mut adam = bench.cti("adam").await;
    let hold = json!({"request": "legalhold", "recordingid": id, "on": true, "reason": "case 7"});
    assert_eq!(adam.ask(hold).await.expect("a reply")["hold"], true);
    let delete = json!({"request": "deleterecording", "recordingid": id, "reason": "told to"});
    let refused = adam.ask(delete.clone()).await.expect("a reply");
    assert_eq!(refused["result"], "fail", "{refused}");
    all_archived(&bench, 2).await;

    edit(&bench, ROOMY, &format!("al_retentiondays = 1\n{ROOMY}"));
    let bench = restarted(bench).await;
    // What is new says that the clock is right.
    record_one(&bench, 3).await;
    comes_true(&bench, "what is not held goes there, too", || there(&due) == 0).await;
    bench.metric("astlogger_archive_pending", |pending| pending == 0.0).await;
    assert_eq!(there(&held), 2, "what is held stays there");
    for admin in ["adam", "berta"] {
        let release =
            json!({"request": "legalhold", "recordingid": id, "on": false, "reason": "over"});
        bench.cti(admin).await.ask(release).await.expect("a reply");
    }
    // A start looks at once, instead of an hour later.
    let bench = restarted(bench).await;
    comes_true(&bench, "once released it goes", || there(&held) == 0).await;
}

/// Makes a recording that was laid down begin and end so many days before.
fn aged(bench: &Bench, record: &Recording, days: u64) {
    let before = std::time::Duration::from_secs(days * 86_400);
    let data = bench.node.data_dir().join("voice");
    let id = record.recordingid.to_string();
    let older = Recording {
        started: record.started - before,
        ended: record.ended - before,
        ..record.clone()
    };
    for (name, path) in files_in(&data) {
        if !name.contains(&id) {
            continue;
        }
        let (day, file) = name.rsplit_once('/').expect("a day's folder");
        assert_eq!(day, storage_core::archived::record_name(record).rsplit_once('/').unwrap().0);
        let moved = storage_core::archived::record_name(&older);
        let moved = data.join(moved.rsplit_once('/').expect("a day's folder").0).join(file);
        std::fs::create_dir_all(moved.parent().expect("a folder")).expect("writable");
        std::fs::rename(&path, &moved).expect("writable");
        if file.ends_with(".json") {
            std::fs::write(&moved, serde_json::to_vec(&older).expect("a record"))
                .expect("writable");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_recorder_has_left_behind_its_heir_archives() {
    let Some(mut store) = Store::start().await else { return };
    store.kill();
    let settings = store.settings() + ROOMY;
    let shape = Shape { settings, consoles: true, ..Shape::hot_standby(2) };
    let mut bench = GroupBench::start(SiteConfig::demo(2, 2), &shape).await;
    let ids = bench.record(2).await;
    assert!(bench.lying(TWO).iter().all(|record| record.node == ONE && record.archived.is_none()));
    bench.kill(ONE).await;
    store.run().await;
    let removed = Command::new(env!("CARGO_BIN_EXE_astlogger"))
        .args(["console", "--config"])
        .arg(bench.group.members[&TWO].node.config_path())
        .args(["remove", "member", "1"])
        .output()
        .expect("it runs");
    assert!(removed.status.success(), "{removed:?}");
    bench
        .comes_true("the heir archives them", || {
            bench.lying(TWO).iter().filter(|record| record.archived.is_some()).count() == ids.len()
        })
        .await;
    for record in bench.lying(TWO) {
        assert_lies(&store.objects(), &record);
        assert_eq!(record.archived.as_ref().map(|noted| noted.stamp.node), Some(TWO));
    }
    bench.metric(TWO, "astlogger_archive_pending", |pending| pending == 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorder_without_room_keeps_the_record_and_plays_from_the_archive_alone() {
    let Some(mut store) = Store::start().await else { return };
    let shape = Shape { settings: store.settings() + ROOMY, ..Shape::hot_standby(2) };
    let mut bench = GroupBench::prepare(SiteConfig::demo(2, 2), &shape).await;
    bench.edit(TWO, ROOMY, ALWAYS_LOW);
    bench.run().await;
    bench.leads(ONE).await;
    // While the archive is away there is nothing that could be kept.
    store.kill();
    let calls = bench.calls(2).await;
    bench.recorded_by(&calls, ONE).await;
    bench.go_on(&calls, SOME).await;
    bench.hang_up(&calls);
    bench.comes_true("both are published", || bench.lying(ONE).len() == 2).await;
    bench.metric(TWO, "astlogger_copies_pending", |pending| pending == 2.0).await;
    assert_eq!(bench.lying(TWO), []);
    store.run().await;
    bench.comes_true("their records come", || bench.lying(TWO).len() == 2).await;
    let ids: Vec<_> = bench.lying(ONE).iter().map(|r| r.recordingid.to_string()).collect();
    let voices = |bench: &GroupBench, node| {
        let found = bench.group.members[&node].node.recordings().expect("records can be read");
        found.iter().filter(|(voice, _)| voice.exists()).count()
    };
    let both = (voices(&bench, ONE), voices(&bench, TWO));
    assert_eq!(both, (2, 0), "the records came without voice files");
    bench.metric(TWO, "astlogger_copies_pending", |pending| pending == 0.0).await;
    let lying = bench.lying(TWO);
    assert!(lying.iter().all(|record| record.archived.is_some()));
    bench.kill(ONE).await;
    for id in &ids {
        let whole = bench.fetched(TWO, id).await;
        let record = lying.iter().find(|record| record.recordingid.to_string() == *id);
        assert_eq!(sha256(&whole), record.expect("its record").sha256);
    }
    assert_eq!(voices(&bench, TWO), 0);
}
