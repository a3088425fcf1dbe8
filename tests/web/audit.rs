//! The audit log: what people do is in it, and what cannot be written down is not shown.

use std::time::Duration;

use astlogger::users::UserRole;
use astlogger::web::backend::Unreachable;
use serde_json::{Value, json};
use storage::audit_log::AuditLog;
use storage_core::{NodeId, Role};
use tokio::time::{Instant, sleep};

use super::client::{Client, bearer, get, http};
use super::node::{PASSWORD, Site, noise};

async fn entries(site: &Site, query: &str) -> Value {
    let bearer = bearer(site, UserRole::Auditor).await;
    let answer = get(site, &format!("/api/audit{query}"), &[("Authorization", &bearer)]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// The lines with this action, each as user, address, outcome and arguments.
fn of(entries: &Value, action: &str) -> Vec<Value> {
    let lines = entries["entries"].as_array().unwrap().iter();
    let told =
        |line: &Value| json!([line["user"], line["address"], line["outcome"], line["arguments"]]);
    lines.filter(|line| line["action"] == action).map(told).collect()
}

#[tokio::test]
async fn what_people_do_on_either_way_is_written_down() {
    let site = Site::new().await;
    let recording = site.node.put(1, "2611", noise(1000, 1)).to_string();
    let bearer = bearer(&site, UserRole::Qa).await;
    let headers = [("Authorization", bearer.as_str())];
    for path in [
        "/api/recordings?party=85212345678&token=x".to_owned(),
        format!("/api/recordings/{recording}"),
        format!("/api/recordings/{recording}/audio?format=wav"),
    ] {
        assert_eq!(get(&site, &path, &headers).await.status, 200, "{path}");
    }
    assert_eq!(get(&site, "/api/audit", &headers).await.status, 403);
    assert_eq!(get(&site, "/api/recordings", &[]).await.status, 401);
    assert_eq!(http(&site, "POST", "/api/signout", &headers, "").await.status, 204);

    let mut client = Client::connect(&site).await;
    assert_eq!(client.authenticate("susan", "wrong").await["result"], "fail");
    assert_eq!(client.authenticate("susan", PASSWORD).await["result"], "success");
    let deep = "[".repeat(200) + "1" + &"]".repeat(200);
    client.send(format!(r#"{{"request":"listrecordings","text":"a","x":{deep}}}"#)).await;
    assert_eq!(client.reply().await["result"], "success");
    let fetched = client.ask(json!({"request": "fetchrecording", "recordingid": recording})).await;
    assert_eq!(fetched["result"], "success");
    let tag = json!({"request": "tagrecording", "recordingid": recording, "add": ["vip"]});
    assert_eq!(client.ask(tag).await["result"], "success");
    client.ask(json!({"request": "legalhold", "recordingid": recording, "on": true})).await;
    client.ask(json!({"request": "startrecording", "extension": "2611"})).await;

    let all = entries(&site, "").await;
    let from = "127.0.0.1";
    assert_eq!(
        of(&all, "listrecordings"),
        [
            json!(["quentin", from, "success", {"party": "85212345678"}]),
            json!(["susan", from, "success", {"text": "a", "x": deep}]),
        ]
    );
    let fetches = [
        json!(["quentin", from, "success", {"recordingid": recording, "format": "wav"}]),
        json!(["susan", from, "success", {"recordingid": recording}]),
    ];
    assert_eq!(of(&all, "fetchrecording"), fetches);
    assert_eq!(of(&all, "listaudit"), [json!(["quentin", from, "forbidden", {}])]);
    let tagged = json!({"recordingid": recording, "add": ["vip"]});
    assert_eq!(of(&all, "tagrecording"), [json!(["susan", from, "success", tagged])]);
    assert_eq!(of(&all, "signout").len(), 1);
    assert_eq!(of(&all, "legalhold")[0][2], "forbidden");
    assert_eq!(of(&all, "startrecording")[0][3], json!({"extension": "2611"}));
    let signed_in = of(&all, "authenticate");
    assert_eq!(signed_in[1], json!(["susan", from, "notauthenticated", null]));
    assert_eq!(signed_in[2], json!(["susan", from, "success", null]));

    // To have listed it is in it, too; and filters and pages hold.
    let about = entries(&site, &format!("?recordingid={recording}&user=susan&limit=1")).await;
    assert_eq!(of(&about, "fetchrecording"), fetches[1..]);
    let cursor = about["cursor"].as_str().unwrap();
    let rest = format!("?recordingid={recording}&user=susan&limit=2&cursor={cursor}");
    let rest = entries(&site, &rest).await;
    assert_eq!((of(&rest, "legalhold").len(), rest.get("cursor")), (1, None));
    assert_eq!(of(&entries(&site, "?user=otto").await, "listaudit").len(), 3);
    let heard = entries(&site, "?action=fetchrecording,listen&limit=2").await;
    assert_eq!((heard["entries"].as_array().unwrap().len(), heard.get("cursor")), (2, None));
    assert_eq!(of(&heard, "fetchrecording"), fetches);
    let mut otto = Client::signed_in(&site, UserRole::Auditor).await;
    let listed = otto.ask(json!({"request": "listaudit", "user": "quentin", "limit": 1000})).await;
    assert_eq!(of(&listed, "getrecording").len(), 1);
    assert_sound_and_silent(&site);
}

#[tokio::test]
async fn a_page_goes_on_by_its_cursor_and_by_no_other_word() {
    let site = Site::new().await;
    let away = Unreachable { node: NodeId(2), role: Some(Role::Backup) };
    *site.node.unreachable.lock().unwrap() = vec![away];
    let begun = entries(&site, "?limit=1").await;
    assert_eq!((&begun["node"], &begun["cursor"]), (&json!(1), &Value::Null));
    assert_eq!(begun["unreachable"], json!([{"node": 2, "role": "backup"}]));
    let first = entries(&site, "?limit=1").await;
    assert_eq!(first["entries"], begun["entries"]);
    let cursor = first["cursor"].as_str().expect("there is more");
    let log = cursor.strip_prefix("1:1@").expect("the first line of this log");
    // One from before named no log.
    for cursor in [cursor, "1:1"] {
        let second = entries(&site, &format!("?limit=1&cursor={cursor}")).await;
        assert_eq!(second["entries"][0]["seq"], 2);
        assert_eq!(second["cursor"], format!("1:2@{log}"));
    }
    let bearer = bearer(&site, UserRole::Auditor).await;
    let mut otto = Client::signed_in(&site, UserRole::Auditor).await;
    for wrong in ["1", "1:1,1:2", "1:x", "0:1", "1:1@", "1:1@x"] {
        let path = format!("/api/audit?cursor={wrong}");
        let refused = get(&site, &path, &[("Authorization", &bearer)]).await;
        assert_eq!((refused.status, &refused.json()["error"]), (400, &json!("badvalue")));
        assert!(refused.text().contains("`cursor`"), "{}", refused.text());
        let refused = otto.ask(json!({"request": "listaudit", "cursor": wrong})).await;
        assert_eq!(refused["error"], "badvalue", "{wrong}");
    }
    // The number that it was before is said to be none.
    let refused = otto.ask(json!({"request": "listaudit", "cursor": 1})).await;
    assert_eq!(refused["error"], "badvalue");
}

/// The log is whole, and no secret is in it.
fn assert_sound_and_silent(site: &Site) {
    let (lines, faults) = AuditLog::new(site.folder.path()).verify().unwrap();
    assert!(lines > 15 && faults.is_empty(), "{lines} {faults:?}");
    let text = std::fs::read_dir(site.folder.path().join("audit")).unwrap();
    let text: String =
        text.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    assert!(!text.contains(PASSWORD) && !text.contains("token"));
}

#[tokio::test]
async fn what_cannot_be_written_down_is_not_shown_and_the_rest_goes_on() {
    let site = Site::new().await;
    let recording = site.node.put(1, "2611", noise(1000, 1)).to_string();
    let folder = site.folder.path().join("audit");
    std::fs::write(&folder, "in the way").unwrap();
    let bearer = bearer(&site, UserRole::Supervisor).await;
    let headers = [("Authorization", bearer.as_str())];
    let path = format!("/api/recordings/{recording}/audio");
    let refused = get(&site, &path, &headers).await;
    assert_eq!((refused.status, &refused.json()["error"]), (503, &json!("unavailable")));
    assert!(refused.text().contains("al_datadir"), "{}", refused.text());
    let mut client = Client::signed_in(&site, UserRole::Supervisor).await;
    let fetch = json!({"request": "fetchrecording", "recordingid": recording});
    assert_eq!(client.ask(fetch.clone()).await["error"], "unavailable");
    assert_eq!(client.ask(json!({"request": "listrecordings"})).await["error"], "unavailable");
    for allowed in
        [json!({"request": "listcalls"}), json!({"request": "startrecording", "extension": "2611"})]
    {
        assert_eq!(client.ask(allowed).await["result"], "success");
    }
    assert!(client.frames.is_empty(), "audio was sent");
    std::fs::remove_file(&folder).unwrap();
    assert_eq!(client.ask(fetch).await["result"], "success");
    assert_eq!(get(&site, &path, &headers).await.status, 200);
    assert_eq!(AuditLog::new(site.folder.path()).verify().unwrap(), (2, Vec::new()));
}

#[tokio::test]
async fn a_drill_is_done_and_written_down_though_whoever_asked_has_gone() {
    let site = Site::new().await;
    let drill = json!({"request": "drill"});
    for role in UserRole::ALL.into_iter().filter(|role| *role != UserRole::Admin) {
        let mut client = Client::signed_in(&site, role).await;
        assert_eq!(client.ask(drill.clone()).await["error"], "forbidden", "{role}");
    }
    let mut adam = Client::signed_in(&site, UserRole::Admin).await;
    let reply = adam.ask(drill.clone()).await;
    assert_eq!(reply["lines"], json!(["node 1 to node 2: gap 0 ms"]), "{reply}");
    site.node.may_drill.forget_permits(usize::MAX);
    adam.send(drill.to_string()).await;
    // The next reply comes once the drill has begun.
    assert_eq!(adam.ask(json!({"request": "clusterstatus"})).await["result"], "success");
    drop(adam);
    let deadline = Instant::now() + Duration::from_secs(10);
    while !get(&site, "/metrics", &[]).await.text().contains("astlogger_web_connections 1\n") {
        assert!(Instant::now() < deadline, "his socket is still open");
        sleep(Duration::from_millis(10)).await;
    }
    site.node.may_drill.add_permits(1);
    let done = loop {
        let done = of(&entries(&site, "?user=adam").await, "drill");
        if done.len() > 1 || Instant::now() > deadline {
            break done;
        }
        sleep(Duration::from_millis(20)).await;
    };
    let line = json!(["adam", "127.0.0.1", "success", {}]);
    assert_eq!(done, [line.clone(), line]);
    let refused = of(&entries(&site, "?user=susan").await, "drill");
    assert_eq!(refused, [json!(["susan", "127.0.0.1", "forbidden", {}])]);
}
