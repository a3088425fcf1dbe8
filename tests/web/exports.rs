//! Exports: what is in them, who gets them, and what becomes of them when something changes or breaks.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use astlogger::config::DiskShare;
use astlogger::users::UserRole;
use astlogger::web::Limits;
use astlogger::web::backend::Unreachable;
use serde_json::{Value, json};
use storage::audit_log::{AuditLog, Wanted};
use storage_core::{NodeId, RecordingId, Role};

use super::client::{Answer, Client, bearer, get};
use super::node::{FakeNode, Site, eventually, noise, sha256, users};

#[path = "../common/zip_of.rs"]
mod zip_of;

const HOSTILE: &str = "=HYPERLINK(\"http://evil/\",\"../../etc/passwd\")";

/// Begins an export and waits until it is complete; the reply, and what was told at last.
async fn export(client: &mut Client, request: Value) -> (Value, Value) {
    let reply = client.ask(request).await;
    assert_eq!(reply["result"], "success", "{reply}");
    let told = complete(client).await;
    assert_eq!(told["export"], reply["export"]);
    (reply, told)
}

async fn complete(client: &mut Client) -> Value {
    loop {
        let event = client.event().await;
        assert_ne!(event["state"], "failed", "{event}");
        if event["eventtype"] == "exportcomplete" {
            return event;
        }
        assert_eq!(event["eventtype"], "exportprogress");
    }
}

fn all() -> Value {
    json!({ "request": "exportrecordings" })
}

async fn download(site: &Site, told: &Value, more: &[(&str, &str)]) -> Answer {
    let bearer = bearer(site, UserRole::Qa).await;
    let mut headers = vec![("Authorization", bearer.as_str())];
    headers.extend_from_slice(more);
    get(site, told["address"].as_str().unwrap(), &headers).await
}

fn read(site: &Site, answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    let path = site.folder.path().join("download.zip");
    std::fs::write(&path, &answer.body).unwrap();
    let found = zip_of::read(&path);
    assert_eq!(found["bad"], json!(null));
    found
}

fn folders(site: &Site) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(site.folder.path().join("exports")).into_iter().flatten();
    listed.map(|entry| entry.unwrap().path()).collect()
}

fn change(site: &Site, id: RecordingId, field: &str, value: Value) {
    let mut recordings = site.node.recordings.lock().unwrap();
    let (record, _) = recordings.get_mut(&id).unwrap();
    let mut changed = serde_json::to_value(&*record).unwrap();
    changed[field] = value;
    *record = serde_json::from_value(changed).unwrap();
}

#[tokio::test]
async fn an_export_has_audio_records_and_tables() {
    let site = Site::new().await;
    let audio: Vec<Vec<u8>> = (0..3).map(|at| noise(70_000 + at, at as u64)).collect();
    let ids: Vec<_> = audio
        .iter()
        .enumerate()
        .map(|(at, audio)| site.node.put(at as u64, "2611", audio.clone()))
        .collect();
    change(&site, ids[0], "calling", HOSTILE.into());
    change(&site, ids[1], "calling", "+85212345678".into());
    change(&site, ids[1], "tags", json!(["vip", "a,b"]));
    let mut client = Client::signed_in(&site, UserRole::Qa).await;
    let (reply, told) = export(&mut client, all()).await;
    assert_eq!(reply["total"], 3);
    assert_eq!(
        (&told["done"], &told["missing"], &told["bytes"]),
        (&json!(3), &json!(0), &json!(210_003))
    );

    let answer = download(&site, &told, &[]).await;
    assert_eq!(answer.headers["content-type"], "application/zip");
    let name =
        format!("attachment; filename=\"astlogger-{}.zip\"", reply["export"].as_str().unwrap());
    assert_eq!(answer.headers["content-disposition"], name);
    assert_eq!(told["size"], answer.body.len());
    let found = read(&site, &answer);
    let mut names = vec!["recordings.csv".to_owned(), "missing.csv".to_owned()];
    names.extend(
        ids.iter().flat_map(|id| [format!("audio/{id}.wav"), format!("records/{id}.json")]),
    );
    assert_eq!(found["names"], json!(names));
    for (id, audio) in ids.iter().zip(&audio) {
        assert_eq!(found["sha256"][format!("audio/{id}.wav")], sha256(audio));
    }
    assert_eq!(found["records"][0]["calling"], HOSTILE, "the record has it as it is");
    let rows = found["recordings"].as_array().unwrap();
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[0]["calling"], format!("'{HOSTILE}"), "a spreadsheet must not run it");
    assert_eq!(
        (&rows[1]["calling"], &rows[1]["tags"]),
        (&json!("'+85212345678"), &json!("vip; a,b"))
    );
    assert_eq!(rows[2]["file"], format!("audio/{}.wav", ids[2]));
    assert_eq!(found["missing"], json!([]));

    // Nobody else on this machine can read what lies there.
    let folder = folders(&site).remove(0);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for file in std::fs::read_dir(&folder).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        let bytes = std::fs::read(&path).unwrap();
        let sound = audio[0].windows(64).next().unwrap();
        assert!(!bytes.windows(64).any(|part| part == sound), "audio lies in {}", path.display());
    }
    let listed = client.ask(json!({ "request": "listexports" })).await;
    assert_eq!(listed["exports"][0]["export"], reply["export"]);
    let cancel = json!({ "request": "cancelexport", "export": reply["export"] });
    assert_eq!(client.ask(cancel.clone()).await["result"], "success");
    assert_eq!(client.ask(cancel).await["error"], "notfound");
    assert_eq!(folders(&site), Vec::<PathBuf>::new());
    assert_eq!(download(&site, &told, &[]).await.status, 404);
}

#[tokio::test]
async fn a_download_that_broke_off_goes_on() {
    let site = Site::new().await;
    for at in 0..5 {
        site.node.put(at, "2611", noise(30_000, at));
    }
    let mut client = Client::signed_in(&site, UserRole::Qa).await;
    let (_, told) = export(&mut client, all()).await;
    let whole = download(&site, &told, &[]).await;
    let etag = whole.headers["etag"].clone();
    let mut parts = Vec::new();
    while parts.len() < whole.body.len() {
        let range = format!("bytes={}-{}", parts.len(), parts.len() + 19_999);
        let part = download(&site, &told, &[("Range", &range), ("If-Range", &etag)]).await;
        assert_eq!((part.status, &part.headers["etag"]), (206, &etag));
        parts.extend(part.body);
    }
    assert!(parts == whole.body, "parts are not the whole");
    let stale = [("Range", "bytes=5-9"), ("If-Range", "\"another\"")];
    assert_eq!(download(&site, &told, &stale).await.body.len(), whole.body.len());
    let beyond = format!("bytes={}-", whole.body.len());
    assert_eq!(download(&site, &told, &[("Range", &beyond)]).await.status, 416);
    assert_eq!(download(&site, &told, &[("If-None-Match", &etag)]).await.status, 304);
    assert_eq!(site.node.audio_open.load(Ordering::SeqCst), 0, "audio is left open");
}

#[tokio::test]
async fn an_export_is_its_askers_alone_and_of_his_team() {
    let site = Site::new().await;
    let own = site.node.put(1, "2611", noise(1_000, 1));
    let other = site.node.put(2, "2612", noise(1_000, 2));
    let team = |stations: &str| {
        let text = users().replace("role = \"qa\"\n", "role = \"qa\"\nteam = \"billing\"\n");
        let text = text + &format!("[[team]]\nname = \"billing\"\nextensions = [\"{stations}\"]\n");
        // A second one with the same password, without a team.
        let hash = users().split("password = ").nth(1).unwrap().lines().next().unwrap().to_owned();
        text + &format!("[[user]]\nname = \"quincy\"\nrole = \"qa\"\npassword = {hash}\n")
    };
    std::fs::write(&site.users_file, team("2611")).unwrap();
    let mut client = Client::signed_in(&site, UserRole::Qa).await;
    let (reply, told) = export(&mut client, all()).await;
    assert_eq!(reply["total"], 1);
    let names = read(&site, &download(&site, &told, &[]).await)["names"].to_string();
    assert!(names.contains(&own.to_string()) && !names.contains(&other.to_string()));
    let hidden = json!({ "request": "exportrecordings", "extension": "2612" });
    assert_eq!(client.ask(hidden).await["error"], "notfound");

    let mut quincy = Client::connect(&site).await;
    let signed_in = quincy.authenticate("quincy", super::node::PASSWORD).await;
    let bearer_of_quincy = format!("Bearer {}", signed_in["token"].as_str().unwrap());
    let address = told["address"].as_str().unwrap();
    let refused = get(&site, address, &[("Authorization", &bearer_of_quincy)]).await;
    assert_eq!(refused.status, 404, "another's export");
    let absent = format!("/api/exports/{}", "0".repeat(32));
    let absent = get(&site, &absent, &[("Authorization", &bearer_of_quincy)]).await;
    assert_eq!((absent.status, absent.text()), (404, refused.text()), "tells that there is one");
    assert_eq!(quincy.ask(json!({ "request": "listexports" })).await["exports"], json!([]));
    let cancel = json!({ "request": "cancelexport", "export": reply["export"] });
    assert_eq!(quincy.ask(cancel).await["error"], "notfound");
    for role in [UserRole::Agent, UserRole::Supervisor, UserRole::Auditor, UserRole::Admin] {
        let bearer = bearer(&site, role).await;
        assert_eq!(get(&site, address, &[("Authorization", &bearer)]).await.status, 403, "{role}");
    }
    assert_eq!(get(&site, address, &[]).await.status, 401);
    for trick in ["..%2f..%2fusers.toml", "%2e%2e", "..%00", &"A".repeat(32), &"a".repeat(5000)] {
        let bearer = bearer(&site, UserRole::Qa).await;
        let answer =
            get(&site, &format!("/api/exports/{trick}"), &[("Authorization", &bearer)]).await;
        assert_eq!(answer.status, 404, "{trick}");
    }

    // Once he may see something else, what he got before is his no more.
    std::fs::write(&site.users_file, team("2612")).unwrap();
    let mut client = Client::signed_in(&site, UserRole::Qa).await;
    assert_eq!(download(&site, &told, &[]).await.status, 403);
    let heard = client.ask(json!({ "request": "listexports" })).await;
    assert_eq!(heard["exports"][0]["state"], "complete", "he may still remove it");
}

#[tokio::test]
async fn only_he_hears_of_it_and_on_all_his_sockets() {
    let site = Site::new().await;
    site.node.put(1, "2611", noise(1_000, 1));
    let mut other = Client::signed_in(&site, UserRole::Supervisor).await;
    let refused =
        other.ask(json!({ "request": "subscribe", "events": ["exports", "alarms"] })).await;
    assert_eq!(refused["refused"], json!(["exports"]));
    let mut second = Client::signed_in(&site, UserRole::Qa).await;
    let granted = second.ask(json!({ "request": "subscribe", "events": ["exports"] })).await;
    assert_eq!(granted["events"], json!(["exports"]));
    let mut client = Client::signed_in(&site, UserRole::Qa).await;
    let (_, told) = export(&mut client, all()).await;
    assert_eq!(complete(&mut second).await["export"], told["export"]);
    assert!(told.get("filter").is_none(), "numbers of callers are in no event");
    site.node.tell(astlogger::web::backend::Topic::Alarms, "alarm", &[]);
    assert_eq!(other.event().await["eventtype"], "alarm");
    assert_eq!(other.events, Vec::<Value>::new());
}

#[tokio::test]
async fn what_is_exported_is_in_the_audit_log_or_is_not_exported() {
    let site = Site::new().await;
    let ids = [1, 2].map(|at| site.node.put(at, "2611", noise(1_000, at)));
    let folder = site.folder.path().join("audit");
    std::fs::write(&folder, "in the way").unwrap();
    let mut client = Client::signed_in(&site, UserRole::Qa).await;
    let refused = client.ask(all()).await;
    assert_eq!(refused["error"], "unavailable", "{refused}");
    assert!(refused["message"].as_str().unwrap().contains("audit log"), "{refused}");
    assert_eq!(folders(&site), Vec::<PathBuf>::new(), "something of it is left");
    assert_eq!(client.ask(json!({ "request": "listexports" })).await["exports"], json!([]));
    std::fs::remove_file(&folder).unwrap();

    let filtered = json!({ "request": "exportrecordings", "extension": "2611", "format": "wav" });
    let (reply, told) = export(&mut client, filtered).await;
    assert_eq!(download(&site, &told, &[]).await.status, 200);
    let log = AuditLog::new(site.folder.path());
    let lines = log.read(&Wanted { limit: 100, ..Wanted::default() }).unwrap();
    let of = |action: &str| {
        let lines = lines.iter().map(|line| &line.entry).filter(|entry| entry.action == action);
        lines.map(|entry| (entry.arguments.clone(), entry.outcome.clone())).collect::<Vec<_>>()
    };
    let done = "success".to_owned();
    let mut expected = vec![(json!({ "extension": "2611", "format": "wav" }), done.clone())];
    let each = |id| (json!({ "export": reply["export"], "recordingid": id }), done.clone());
    expected.extend(ids.map(each));
    assert_eq!(of("exportrecordings"), expected);
    assert_eq!(of("fetchexport"), [(json!({ "export": reply["export"] }), done.clone())]);
    let about = Wanted { recording: Some(ids[1]), limit: 9, ..Wanted::default() };
    let about = log.read(&about).unwrap();
    assert_eq!((about.len(), about[0].entry.user.as_str()), (1, "quentin"));

    // One that is going on breaks off when the log cannot be written any more.
    site.node.hold_audio.store(true, Ordering::SeqCst);
    let broken = client.ask(all()).await;
    assert_eq!(broken["result"], "success");
    let node = site.node.clone();
    let between = async || {
        std::fs::remove_dir_all(&folder).unwrap();
        std::fs::write(&folder, "in the way").unwrap();
        node.hold_audio.store(false, Ordering::SeqCst);
    };
    let site = site.restarted(between).await;
    let mut client = Client::signed_in(&site, UserRole::Qa).await;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        let listed = client.ask(json!({ "request": "listexports" })).await;
        let told = &listed["exports"][0];
        assert_eq!(told["export"], broken["export"]);
        assert_ne!(told["state"], "complete");
        if told["state"] == "failed" {
            assert!(told["message"].as_str().unwrap().contains("audit log"), "{told}");
            return;
        }
        assert!(std::time::Instant::now() < deadline, "it goes on: {told}");
    }
}

#[tokio::test]
async fn what_cannot_be_had_is_named() {
    let site = Site::new().await;
    let ids = [1, 2].map(|at| site.node.put(at, "2611", noise(1_000, at)));
    *site.node.unreachable.lock().unwrap() =
        vec![Unreachable { node: NodeId(2), role: Some(Role::Backup) }];
    let mut client = Client::signed_in(&site, UserRole::Qa).await;
    // The made-up node has no Opus, and might have it later: it is asked again for a while.
    let (reply, told) =
        export(&mut client, json!({ "request": "exportrecordings", "format": "opus" })).await;
    assert_eq!(reply["unreachable"], json!([{ "node": 2, "role": "backup" }]));
    assert_eq!((&told["missing"], &told["done"]), (&json!(2), &json!(2)));
    let found = read(&site, &download(&site, &told, &[]).await);
    assert_eq!(found["names"], json!(["recordings.csv", "missing.csv"]));
    let missing = found["missing"].as_array().unwrap();
    assert_eq!((missing.len(), &missing[0]["recordingid"]), (3, &json!(ids[0])));
    assert_eq!(missing[0]["error"], "unavailable");
    assert!(missing[2]["message"].as_str().unwrap().contains("node 2 (backup)"), "{missing:?}");

    let nothing = client.ask(json!({ "request": "exportrecordings", "extension": "99" })).await;
    assert_eq!(nothing["error"], "notfound");
    for (name, wrong) in [("format", "mp3"), ("from", "yesterday"), ("direction", "up")] {
        let reply = client.ask(json!({ "request": "exportrecordings", name: wrong })).await;
        assert_eq!(reply["error"], "badvalue", "{name}");
        assert!(reply["message"].as_str().unwrap().contains(name), "{reply}");
    }
}

#[tokio::test]
async fn what_was_changed_or_deleted_since_is_not_given_out() {
    let site = Site::new().await;
    let ids = [1, 2, 3].map(|at| site.node.put(at, "2611", noise(1_000, at)));
    let mut client = Client::signed_in(&site, UserRole::Qa).await;
    let (_, told) = export(&mut client, all()).await;
    let before = download(&site, &told, &[]).await;
    site.node.recordings.lock().unwrap().remove(&ids[0]);
    site.node.put(2, "2611", noise(2_000, 9));
    let refused = download(&site, &told, &[("Range", "bytes=0-9")]).await;
    assert_eq!(refused.status, 503);
    assert!(refused.text().contains("2 of its recordings"), "{}", refused.text());
    let told = complete(&mut client).await;
    let after = download(&site, &told, &[]).await;
    assert_ne!(before.headers["etag"], after.headers["etag"]);
    let found = read(&site, &after);
    assert_eq!(found["missing"][0]["recordingid"], json!(ids[0]));
    assert_eq!(found["sha256"][format!("audio/{}.wav", ids[1])], sha256(&noise(2_000, 9)));
    assert_eq!(found["recordings"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn one_that_goes_on_when_the_node_stops_goes_on_after() {
    let site = Site::new().await;
    for at in 0..200 {
        site.node.put(at, "2611", noise(500, at));
    }
    site.node.hold_audio_after.store(150, Ordering::SeqCst);
    let mut client = Client::signed_in(&site, UserRole::Qa).await;
    let reply = client.ask(all()).await;
    let items = folders(&site).remove(0).join("items.jsonl");
    let text = || std::fs::read_to_string(&items).unwrap_or_default();
    eventually("two batches last", || text().lines().count() == 128).await;
    let early = json!({ "address": format!("/api/exports/{}", reply["export"].as_str().unwrap()) });
    assert_eq!(download(&site, &early, &[]).await.status, 503);
    let node = site.node.clone();
    let between = async || {
        node.hold_audio_after.store(usize::MAX, Ordering::SeqCst);
        eventually("what was done lasts", || text().lines().count() == 150).await;
        // What a power cut may leave: a line that is not whole.
        std::fs::write(&items, &text()[..text().len() - 30]).unwrap();
    };
    let site = site.restarted(between).await;
    let mut client = Client::signed_in(&site, UserRole::Qa).await;
    let listed = client.ask(json!({ "request": "listexports" })).await;
    let listed = &listed["exports"][0];
    assert!(listed["done"].as_u64().unwrap() >= 149, "{listed}");
    let told =
        if listed["state"] == "complete" { listed.clone() } else { complete(&mut client).await };
    assert_eq!((&told["export"], &told["done"]), (&reply["export"], &json!(200)));
    let opened = node.audio_opened.load(Ordering::SeqCst);
    assert_eq!(opened, 151 + 51, "what was done is not done again");
    let found = read(&site, &download(&site, &told, &[]).await);
    assert_eq!(found["recordings"].as_array().unwrap().len(), 200);
}

#[tokio::test]
async fn too_many_are_refused_and_one_that_is_cancelled_ends() {
    let site = Site::new().await;
    site.node.put(1, "2611", noise(1_000, 1));
    site.node.hold_audio.store(true, Ordering::SeqCst);
    let mut client = Client::signed_in(&site, UserRole::Qa).await;
    let first = client.ask(all()).await;
    assert_eq!(client.ask(all()).await["result"], "success");
    let busy = client.ask(all()).await;
    assert_eq!(busy["error"], "busy", "{busy}");
    let cancel = json!({ "request": "cancelexport", "export": first["export"] });
    assert_eq!(client.ask(cancel).await["result"], "success");
    assert_eq!(client.ask(all()).await["result"], "success");
    site.node.hold_audio.store(false, Ordering::SeqCst);
    complete(&mut client).await;
    complete(&mut client).await;
    let listed = client.ask(json!({ "request": "listexports" })).await;
    assert_eq!(listed["exports"].as_array().unwrap().len(), 2);
    eventually("the cancelled one is gone", || folders(&site).len() == 2).await;
}

#[tokio::test]
async fn exports_leave_the_disk_to_recording() {
    let full = DiskShare::Bytes(u64::MAX / 2);
    let site = Site::with_disk(Limits::default(), FakeNode::new(), full).await;
    site.node.put(1, "2611", noise(1_000, 1));
    let mut client = Client::signed_in(&site, UserRole::Qa).await;
    let refused = client.ask(all()).await;
    assert_eq!(refused["error"], "unavailable");
    assert!(refused["message"].as_str().unwrap().contains("al_mindiskfree"), "{refused}");
    assert_eq!(folders(&site), Vec::<PathBuf>::new());
}
