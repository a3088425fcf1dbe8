//! The archive with real processes: recorders, a real S3 server that is killed in the midst, folders. What lies in
//! the archive is judged by the files that the server keeps.

mod check;
#[path = "../common/mod.rs"]
mod common;
mod kept;
mod locked;
mod mended;
mod server;
mod store;
#[path = "../common/zip_of.rs"]
mod zip_of;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use astlogger::demo::Shape;
use astlogger::users::{self, UserRole};
use common::commands::key_file;
use common::group::{GroupBench, ONE, TWO, sha256};
use common::http::{http, token};
use common::{Bench, LIMIT, PASSWORD};
use serde_json::{Value, json};
use server::Server;
use simulator::SiteConfig;
use storage::wav::Channels;
use storage::{VoiceForm, VoiceStore};
use storage_core::g711::Law;
use storage_core::{Recording, RecordingId, WallTime};
use store::{SECRET, Store, files_in};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// Frames of a call.
const SOME: u32 = 100;
/// Room is never short, however full the disk of this machine is.
const ROOMY: &str = "al_mindiskfree = \"1 MB\"\n";
/// More than any disk has: room is always short.
const ALWAYS_LOW: &str = "al_mindiskfree = \"900 TiB\"\n";

async fn comes_true(bench: &Bench, what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: never; {}", bench.log_tail());
        sleep(Duration::from_millis(20)).await;
    }
}

/// Records a call and waits until so many recordings are published.
async fn record_one(bench: &Bench, count: usize) {
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recorded(call).await;
    bench.frames(call, SOME).await;
    bench.site.switch().hangup_all(call);
    bench.published(count).await;
}

/// Lays down a recording of so many seconds that ended an hour ago.
fn lay(bench: &Bench, number: u8, seconds: usize) -> Recording {
    let store = VoiceStore::open(&bench.node.data_dir()).expect("a folder");
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let ended = i64::try_from(since.as_millis()).expect("small") - 3_600_000;
    let ended = WallTime::from_millis(ended + i64::from(number));
    let id = RecordingId::new(ended, [number; 10]);
    let samples = seconds * 8000;
    let mut writer =
        store.write(id, VoiceForm::G711(Law::A), Channels::Mono, samples as u64).expect("writable");
    let second: Vec<u8> = (0..8000_u32).map(|n| (n * 7 / 3).to_le_bytes()[0] ^ number).collect();
    for _ in 0..seconds {
        writer.write_g711(Law::A, &second).expect("writable");
    }
    let record = json!({
        "recordingid": id, "callids": [number.to_string()], "extension": "31001", "agentid": "",
        "calling": "", "called": "", "direction": "inbound", "trunkgroup": "", "trunkmember": "",
        "vdn": "", "split": "", "userdata": "", "parties": [], "started": ended, "ended": ended,
        "durationms": seconds * 1000, "scope": "station", "trigger": "rule", "rule": "", "copy": 1,
        "node": 1, "segments": [], "gaps": [], "pauses": [], "complete": true,
        "quality": { "lossratio": 0.0, "jitterms": 0.0, "clockdriftppm": 0.0 },
        "format": "wavg711", "bytes": 0, "sha256": "", "tags": [], "notes": [], "hold": false,
    });
    let record = serde_json::from_value(record).expect("a record");
    let staged = store.stage(writer.finish().expect("whole"), record).expect("writable");
    store.publish_staged(&staged).expect("writable")
}

fn edit(bench: &Bench, from: &str, to: &str) {
    let path = bench.node.config_path();
    let text = std::fs::read_to_string(&path).expect("the configuration");
    assert!(text.contains(from), "{from} is not in {text}");
    std::fs::write(&path, text.replace(from, to)).expect("writable");
}

async fn restarted(mut bench: Bench) -> Bench {
    bench.node.kill().await.expect("it runs");
    bench.started().await
}

/// Waits until nothing waits for the archive, and each record on the disk says that it lies there.
async fn all_archived(bench: &Bench, count: usize) -> Vec<(PathBuf, Recording)> {
    let all = || {
        let found = bench.node.recordings().expect("records can be read");
        found.len() == count && found.iter().all(|(_, record)| record.archived.is_some())
    };
    comes_true(bench, "all are archived", all).await;
    bench.metric("astlogger_archive_pending", |pending| pending == 0.0).await;
    bench.node.recordings().expect("records can be read")
}

/// Holds a recording's object against its record.
fn assert_lies(objects: &Path, record: &Recording) {
    let files = files_in(objects);
    let id = record.recordingid.to_string();
    let of_it: Vec<_> = files.iter().filter(|(name, _)| name.contains(&id)).collect();
    let [(_, json), (voice_name, voice)] = &of_it[..] else { panic!("{of_it:?}") };
    let bytes = std::fs::read(voice).expect("an object");
    let noted = record.archived.as_ref().expect("it is archived");
    assert_eq!((sha256(&bytes), bytes.len() as u64), (noted.stored.clone(), noted.bytes));
    assert!(noted.place.ends_with(&format!("/{voice_name}")), "{noted:?}");
    if !record.encrypted {
        assert_eq!(sha256(&bytes), record.sha256);
    }
    let lying = std::fs::read(json).expect("an object");
    assert_eq!(sha256(&lying), noted.record);
    let lying: Recording = serde_json::from_slice(&lying).expect("a record");
    assert_eq!(lying, Recording { archived: None, ..record.clone() });
}

/// What is asked of a recording by HTTP.
async fn get(bench: &Bench, record: &Recording, what: &str, header: &str) -> (String, Vec<u8>) {
    let (id, token) = (record.recordingid, token(bench).await);
    let line = format!("GET /api/recordings/{id}/{what} HTTP/1.1");
    http(bench, &format!("{line}\r\nAuthorization: Bearer {token}{header}"), "").await
}

/// What `astlogger verify --json` says of the node's folder.
fn verified(bench: &Bench, arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_astlogger"))
        .args(["verify", "--json"])
        .args(arguments)
        .arg(bench.node.data_dir())
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    serde_json::from_str(text.lines().last().unwrap_or_default())
        .unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

async fn raised(bench: &Bench, alarm: &str, is_so: bool) {
    let name = format!("astlogger_alarms{{alarm=\"{alarm}\"}}");
    let deadline = Instant::now() + LIMIT;
    loop {
        let all = bench.node.metrics().await.unwrap_or_default();
        if (all.get(&name).copied().unwrap_or(0.0) > 0.0) == is_so {
            return;
        }
        assert!(Instant::now() < deadline, "{alarm}: not {is_so}; {}", bench.log_tail());
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_archived_goes_from_a_full_disk_and_is_played_as_ever() {
    let Some(store) = Store::start().await else { return };
    let bench = Bench::start_with(SiteConfig::demo(2, 1), &(store.settings() + ROOMY)).await;
    record_one(&bench, 1).await;
    let archived = all_archived(&bench, 1).await;
    let (voice, record) = &archived[0];
    assert_lies(&store.objects(), record);
    let here = std::fs::read(voice).expect("it stays while there is room");

    // What people write is archived, too.
    let id = record.recordingid;
    let mut qa = bench.cti("qa").await;
    let request = json!({"request": "tagrecording", "recordingid": id, "add": ["vip"]});
    assert_eq!(qa.ask(request).await.expect("a reply")["result"], "success");
    let objects = store.objects();
    comes_true(&bench, "the tag is archived, and noted", || {
        let files = files_in(&objects);
        let json = files.iter().find(|(name, _)| name.ends_with(".json"));
        let json = json.and_then(|(_, path)| std::fs::read(path).ok()).unwrap_or_default();
        let (_, record) = bench.node.recordings().expect("records can be read").remove(0);
        let is_noted = record.archived.is_some_and(|noted| noted.record == sha256(&json));
        is_noted && String::from_utf8_lossy(&json).contains("vip")
    })
    .await;

    edit(&bench, ROOMY, ALWAYS_LOW);
    let bench = restarted(bench).await;
    comes_true(&bench, "it makes room", || !voice.exists()).await;
    bench.metric("astlogger_archive_removed_total", |removed| removed == 1.0).await;
    raised(&bench, "disklow", true).await;
    let verdict = verified(&bench, &[]);
    assert_eq!((&verdict["ok"], &verdict["archived"]), (&json!(true), &json!(1)), "{verdict}");
    let (_, listed) = bench.node.recordings().expect("records can be read").remove(0);
    assert_lies(&store.objects(), &listed);

    let (head, body) = get(&bench, record, "audio", "").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(body == here, "the whole of it");
    for (from, to) in [(0, 0), (100, 9_999), (here.len() - 7, here.len() - 1)] {
        let range = format!("\r\nRange: bytes={from}-{to}");
        let (head, body) = get(&bench, record, "audio", &range).await;
        assert!(head.starts_with("HTTP/1.1 206"), "{head}");
        assert!(body == here[from..=to], "{from}-{to}");
    }
    let (head, body) = get(&bench, record, "waveform", "").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(String::from_utf8_lossy(&body).contains("peaks"), "{body:?}");
    assert!(!voice.exists(), "playing it does not bring it back");
    restored(bench, &store, voice, &here).await;
}

/// The voice folder is lost, and copied back from the archive, as `docs/archive.md` says.
async fn restored(mut bench: Bench, store: &Store, voice: &Path, bytes: &[u8]) {
    bench.node.kill().await.expect("it runs");
    edit(&bench, ALWAYS_LOW, ROOMY);
    let data = bench.node.data_dir();
    std::fs::remove_dir_all(data.join("voice")).expect("it is there");
    std::fs::remove_dir_all(data.join("catalog")).expect("it is there");
    for (name, object) in files_in(&store.objects()) {
        let place = data.join("voice").join(name);
        std::fs::create_dir_all(place.parent().expect("a folder")).expect("writable");
        std::fs::copy(object, place).expect("writable");
    }
    let reindexed = Command::new(env!("CARGO_BIN_EXE_astlogger"))
        .args(["reindex", "--dir"])
        .arg(&data)
        .output()
        .expect("it runs");
    assert!(reindexed.status.success(), "{reindexed:?}");
    let verdict = verified(&bench, &[]);
    assert_eq!((&verdict["ok"], &verdict["recordings"]), (&json!(true), &json!(1)), "{verdict}");
    assert!(std::fs::read(voice).expect("it is back") == bytes);
    let bench = bench.started().await;
    all_archived(&bench, 1).await;
    bench.metric("astlogger_archive_stored_total", |stored| stored == 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_away_or_refuses_is_told_and_nothing_is_lost_or_removed() {
    let Some(mut store) = Store::start().await else { return };
    let wrong = store.settings().replace(SECRET, "wrongwrongwrong") + ALWAYS_LOW;
    let bench = Bench::start_with(SiteConfig::demo(2, 1), &wrong).await;
    record_one(&bench, 1).await;
    raised(&bench, "archiveaway", true).await;
    bench.metric("astlogger_archive_pending", |pending| pending == 1.0).await;
    let log = std::fs::read_to_string(bench.node.log_path()).expect("the log");
    assert!(log.contains("cannot be used: the store refuses the access key"), "{log}");
    assert!(log.contains("al_archive and the settings beside it"), "the remedy; {log}");
    assert!(!log.contains("wrongwrong"), "the secret is in the log");
    assert!(files_in(&store.objects()).is_empty());

    // With the right one, and nobody there.
    store.kill();
    edit(&bench, "wrongwrongwrong", SECRET);
    let bench = restarted(bench).await;
    record_one(&bench, 2).await;
    raised(&bench, "archiveaway", true).await;
    bench.metric("astlogger_archive_pending", |pending| pending == 2.0).await;
    raised(&bench, "disklow", true).await;
    let found = bench.node.recordings().expect("records can be read");
    assert!(found.iter().all(|(voice, _)| voice.exists()), "room is short, and nothing is removed");
    let (head, _) = get(&bench, &found[0].1, "audio", "").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    bench.assert_right();

    store.run().await;
    raised(&bench, "archiveaway", false).await;
    for (_, record) in all_archived(&bench, 2).await {
        assert_lies(&store.objects(), &record);
    }
    comes_true(&bench, "now they may go", || found.iter().all(|(voice, _)| !voice.exists())).await;

    // What lies there only is said to be out of reach, not lost.
    store.kill();
    let (head, body) = get(&bench, &found[0].1, "audio", "").await;
    assert!(head.starts_with("HTTP/1.1 503"), "{head}");
    assert!(String::from_utf8_lossy(&body).contains("in the archive cannot be read"), "{body:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_file_goes_on_where_it_was_when_server_and_node_are_killed() {
    let Some(mut store) = Store::start().await else { return };
    let bench = Bench::prepare(SiteConfig::demo(2, 1), &(store.settings() + ROOMY)).await;
    // 160 MB, 20 parts.
    let large = lay(&bench, 1, 20_000);
    let mut bench = bench.started().await;
    let note = bench.node.data_dir().join(format!("archive/{}.json", large.recordingid));
    let parts = || -> usize {
        let note = std::fs::read(&note).ok();
        let note: Option<Value> = note.and_then(|note| serde_json::from_slice(&note).ok());
        note.and_then(|note| Some(note["parts"].as_array()?.len())).unwrap_or(0)
    };
    comes_true(&bench, "some parts are there", || parts() >= 2).await;
    store.kill();
    bench.node.kill().await.expect("it runs");
    let were_there = parts();
    assert!((2..20).contains(&were_there), "{were_there}: it was not in the midst");
    assert!(files_in(&store.objects()).is_empty(), "nothing is seen of it yet");

    store.run().await;
    let bench = bench.started().await;
    let (_, record) = all_archived(&bench, 1).await.remove(0);
    assert_lies(&store.objects(), &record);
    let log = std::fs::read_to_string(bench.node.log_path()).expect("the log");
    let went_on = log.lines().find(|line| line.contains("goes on into the archive"));
    let went_on = went_on.unwrap_or_else(|| panic!("it began anew: {log}"));
    assert!(went_on.contains(&were_there.to_string()), "{were_there}: {went_on}");
    assert!(!note.exists(), "the note is gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_altered_in_the_archive_is_put_there_anew_before_the_file_here_goes() {
    let Some(store) = Store::start().await else { return };
    let bench = Bench::prepare(SiteConfig::demo(2, 1), &(store.settings() + ROOMY)).await;
    let laid = [lay(&bench, 1, 30), lay(&bench, 2, 30)];
    let bench = bench.started().await;
    let archived = all_archived(&bench, 2).await;
    let (voice, record) = &archived[0];
    assert_eq!(record.recordingid, laid[0].recordingid);
    let files = files_in(&store.objects());
    let of_it = |(name, _): &&(String, PathBuf)| {
        name.contains(&record.recordingid.to_string()) && name.ends_with(".wav")
    };
    let (_, object) = files.iter().find(of_it).expect("its object");
    let mut bytes = std::fs::read(object).expect("an object");
    bytes[1000] ^= 1;
    std::fs::write(object, &bytes).expect("writable");

    edit(&bench, ROOMY, ALWAYS_LOW);
    let bench = restarted(bench).await;
    comes_true(&bench, "the altered one is noticed", || {
        let log = std::fs::read_to_string(bench.node.log_path()).unwrap_or_default();
        log.contains("is not what was put there")
    })
    .await;
    let (other, _) = &archived[1];
    comes_true(&bench, "both go in the end", || !voice.exists() && !other.exists()).await;
    assert_eq!(sha256(&std::fs::read(object).expect("an object")), record.sha256, "put anew");
    raised(&bench, "archivediffers", false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn encrypted_recordings_lie_encrypted_in_a_folder_and_their_keys_stay() {
    let share = TempDir::new().expect("a folder");
    let keys = key_file(share.path());
    let folder = share.path().join("recordings");
    std::fs::create_dir(&folder).expect("writable");
    let settings = format!(
        "al_archive = \"file://{}\"\nal_encryptionkeyfile = \"{}\"\n{ALWAYS_LOW}",
        folder.display(),
        keys.display()
    );
    let bench = Bench::start_with(SiteConfig::demo(2, 1), &settings).await;
    record_one(&bench, 1).await;
    let (voice, record) = all_archived(&bench, 1).await.remove(0);
    comes_true(&bench, "it makes room", || !voice.exists()).await;
    assert_lies(&folder, &record);
    assert!(common::clear::in_clear(&folder).is_empty(), "it is in clear in the archive");
    let files = files_in(&folder);
    assert!(!files.iter().any(|(name, _)| name.ends_with(".key")), "{files:?}");
    let (head, body) = get(&bench, &record, "audio", "").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(sha256(&body), record.sha256);
    let (_, part) = get(&bench, &record, "audio", "\r\nRange: bytes=500-900").await;
    assert!(part == body[500..=900]);
    let verdict = verified(&bench, &["--key-file", keys.to_str().expect("UTF-8")]);
    assert_eq!((&verdict["ok"], &verdict["archived"]), (&json!(true), &json!(1)), "{verdict}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_behind_sftp_is_an_archive_like_another_and_a_strange_one_is_refused() {
    let Some(mut server) = Server::start().await else { return };
    let bench = Bench::prepare(SiteConfig::demo(2, 1), &(server.settings() + ALWAYS_LOW)).await;
    // 16 MB: three parts.
    let large = lay(&bench, 1, 2_000);
    let bench = bench.started().await;
    let (voice, record) = all_archived(&bench, 1).await.remove(0);
    assert_lies(&server.folder(), &record);
    comes_true(&bench, "it makes room", || !voice.exists()).await;
    let (head, part) = get(&bench, &record, "audio", "\r\nRange: bytes=9000000-9100000").await;
    assert!(head.starts_with("HTTP/1.1 206"), "{head}");
    let (_, whole) = get(&bench, &record, "audio", "").await;
    assert_eq!(sha256(&whole), large.sha256);
    assert!(part == whole[9_000_000..=9_100_000]);

    // Away, and back as somebody else: nothing is given to that one.
    server.kill();
    record_one(&bench, 2).await;
    raised(&bench, "archiveaway", true).await;
    server.change_host_key();
    server.run().await;
    comes_true(&bench, "the stranger is refused", || {
        let log = std::fs::read_to_string(bench.node.log_path()).unwrap_or_default();
        log.contains("Host key verification failed")
    })
    .await;
    assert_eq!(files_in(&server.folder()).len(), 2, "what was there before");
    server.know_host_key();
    for (_, record) in all_archived(&bench, 2).await {
        assert_lies(&server.folder(), &record);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_a_group_archives_both_make_room_and_deletion_reaches_a_store_that_was_away() {
    let Some(mut store) = Store::start().await else { return };
    let shape = Shape { settings: store.settings() + ROOMY, ..Shape::hot_standby(2) };
    let mut bench = GroupBench::start(SiteConfig::demo(2, 2), &shape).await;
    let users = bench.group.members[&ONE].node.users_path();
    users::add(&users, "adam", UserRole::Admin, None, None, PASSWORD).expect("a users file");
    bench.group.share_users().expect("writable");
    let ids = bench.record(2).await;
    let knows =
        |node| bench.lying(node).iter().filter(|record| record.archived.is_some()).count() == 2;
    bench.comes_true("both know that both are archived", || knows(ONE) && knows(TWO)).await;
    for record in bench.lying(TWO) {
        assert_lies(&store.objects(), &record);
        assert_eq!(record.archived.expect("it is").stamp.node, record.node, "its owner did it");
    }
    let voices = |node| {
        let found = bench.group.members[&node].node.recordings().expect("records can be read");
        found.iter().filter(|(voice, _)| voice.exists()).count()
    };
    assert_eq!((voices(ONE), voices(TWO)), (2, 2));
    for node in [ONE, TWO] {
        bench.kill(node).await;
        bench.edit(node, ROOMY, ALWAYS_LOW);
    }
    bench.run().await;
    let voices = |node| {
        let found = bench.group.members[&node].node.recordings().expect("records can be read");
        found.iter().filter(|(voice, _)| voice.exists()).count()
    };
    bench.comes_true("both make room", || voices(ONE) == 0 && voices(TWO) == 0).await;
    for node in [ONE, TWO] {
        for id in &ids {
            let whole = bench.fetched(node, id).await;
            let record = bench.lying(node).into_iter().find(|r| r.recordingid.to_string() == *id);
            assert_eq!(sha256(&whole), record.expect("its record").sha256, "node {node}");
        }
    }
    assert_eq!((voices(ONE), voices(TWO)), (0, 0), "nothing is fetched back");

    store.kill();
    let request = json!({"request": "deleterecording", "recordingid": ids[0], "reason": "told to"});
    let deleted = bench.newcomer(ONE, "adam").await.ask(request).await.expect("a reply");
    assert_eq!(deleted["result"], "success", "{deleted}");
    let objects = store.objects();
    let there =
        |id: &String| files_in(&objects).iter().filter(|(name, _)| name.contains(id)).count();
    assert_eq!(there(&ids[0]), 2, "nobody can have deleted it yet");
    store.run().await;
    bench.comes_true("it goes from the archive", || there(&ids[0]) == 0).await;
    assert_eq!(there(&ids[1]), 2, "the other stays");
    for node in [ONE, TWO] {
        bench.metric(node, "astlogger_archive_pending", |pending| pending == 0.0).await;
    }
}
