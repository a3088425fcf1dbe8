//! What is under legal hold is found: by those who search as a filter, by those who hold as a list that tells no more
//! than they need.

use astlogger::users::UserRole;
use serde_json::{Value, json};
use storage_core::RecordingId;

use super::client::{Client, bearer, get};
use super::node::{Site, noise, users};

const SCRIPT: &str = "case 7 <script>alert(1)</script>";

async fn ask(site: &Site, role: UserRole, request: Value) -> Value {
    Client::signed_in(site, role).await.ask(request).await
}

/// Three recordings of two stations, of which the first two are held.
async fn site() -> (Site, [RecordingId; 3]) {
    let site = Site::new().await;
    let ids = [(1, "2611"), (2, "2612"), (3, "2611")]
        .map(|(number, station)| site.node.put(number, station, noise(1_000, number)));
    for id in &ids[..2] {
        let hold = json!({"request": "legalhold", "recordingid": id, "on": true, "reason": SCRIPT});
        assert_eq!(ask(&site, UserRole::Admin, hold).await["hold"], true);
    }
    (site, ids)
}

fn ids_of(reply: &Value, list: &str) -> Vec<String> {
    let listed = reply[list].as_array().unwrap_or_else(|| panic!("{reply}"));
    let mut ids: Vec<_> =
        listed.iter().map(|one| one["recordingid"].as_str().unwrap().to_owned()).collect();
    ids.sort_unstable();
    ids
}

fn named(ids: &[RecordingId]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn who_searches_finds_what_is_held_and_what_is_not() {
    let (site, ids) = site().await;
    let mut qa = Client::signed_in(&site, UserRole::Qa).await;
    let bearer = bearer(&site, UserRole::Qa).await;
    let headers = [("Authorization", bearer.as_str())];
    for (hold, found) in [(true, &ids[..2]), (false, &ids[2..])] {
        let listed = qa.ask(json!({"request": "listrecordings", "hold": hold})).await;
        assert_eq!(ids_of(&listed, "recordings"), named(found), "{hold}");
        let listed = get(&site, &format!("/api/recordings?hold={hold}"), &headers).await.json();
        assert_eq!(ids_of(&listed, "recordings"), named(found), "{hold}");
        let export = qa.ask(json!({"request": "exportrecordings", "hold": hold})).await;
        assert_eq!(export["total"], found.len(), "{export}");
    }
    let listed = qa.ask(json!({"request": "listrecordings"})).await;
    assert_eq!(ids_of(&listed, "recordings"), named(&ids));
    for wrong in [json!("maybe"), json!(1), json!([true])] {
        let refused = qa.ask(json!({"request": "listrecordings", "hold": wrong})).await;
        assert_eq!(refused["error"], "badvalue", "{wrong}");
        assert!(refused["message"].as_str().unwrap().contains("`hold`"), "{refused}");
    }
}

#[tokio::test]
async fn who_holds_is_told_what_is_held_by_whom_and_why_and_nothing_more() {
    let (site, ids) = site().await;
    let wish =
        json!({"request": "legalhold", "recordingid": ids[1], "on": false, "reason": "over"});
    assert_eq!(ask(&site, UserRole::Admin, wish).await["hold"], true);
    for role in [UserRole::Admin, UserRole::Auditor] {
        let told = ask(&site, role, json!({"request": "listholds"})).await;
        assert_eq!(ids_of(&told, "holds"), named(&ids[..2]), "{role}");
        let [first, second] = [&ids[0], &ids[1]].map(|id| {
            let holds = told["holds"].as_array().unwrap();
            holds.iter().find(|held| held["recordingid"] == json!(id)).unwrap()
        });
        assert_eq!(
            (&first["holdmark"]["by"], &first["holdmark"]["reason"]),
            (&json!("adam"), &json!(SCRIPT))
        );
        assert_eq!(second["holdmark"]["releases"][0]["reason"], "over");
        let members: Vec<_> = first.as_object().unwrap().keys().collect();
        assert_eq!(members, ["durationms", "extension", "holdmark", "recordingid", "started"]);
    }
    // Fewer filters than a search has: nobody tries numbers of callers here, and none widens it.
    let mut adam = Client::signed_in(&site, UserRole::Admin).await;
    for (more, found) in [
        (json!({"extension": "2612"}), &ids[1..2]),
        (json!({"party": "1"}), &ids[..2]),
        (json!({"text": "nobody says this"}), &ids[..2]),
        (json!({"hold": false}), &ids[..2]),
        (json!({"to": "2001-01-01T00:00:00.000Z"}), &ids[..0]),
    ] {
        let mut request = more.clone();
        request["request"] = "listholds".into();
        assert_eq!(ids_of(&adam.ask(request).await, "holds"), named(found), "{more}");
    }
    let first = adam.ask(json!({"request": "listholds", "limit": 1})).await;
    let rest = json!({"request": "listholds", "limit": 1, "cursor": first["cursor"]});
    let rest = adam.ask(rest).await;
    assert_eq!([ids_of(&first, "holds"), ids_of(&rest, "holds")].concat(), named(&ids[..2]));
    assert_eq!(rest["cursor"], Value::Null);
    for (more, named) in [("limit", json!(0)), ("cursor", json!("../..")), ("from", json!("now"))] {
        let mut request = json!({"request": "listholds"});
        request[more] = named;
        let refused = adam.ask(request).await;
        assert_eq!(refused["error"], "badvalue", "{refused}");
        assert!(refused["message"].as_str().unwrap().contains(more), "{refused}");
    }
}

#[tokio::test]
async fn what_is_held_of_other_teams_is_not_there() {
    let (site, ids) = site().await;
    let mut text = users();
    for role in ["supervisor", "qa"] {
        let line = format!("role = \"{role}\"\n");
        text = text.replace(&line, &format!("{line}team = \"billing\"\n"));
    }
    let team = "[[team]]\nname = \"billing\"\nextensions = [\"2611\"]\n";
    std::fs::write(&site.users_file, text + team).unwrap();
    for role in [UserRole::Supervisor, UserRole::Qa] {
        let listed = ask(&site, role, json!({"request": "listrecordings", "hold": true})).await;
        assert_eq!(ids_of(&listed, "recordings"), named(&ids[..1]), "{role}");
        let others = json!({"request": "listrecordings", "hold": true, "extension": "2612"});
        assert_eq!(ask(&site, role, others).await["recordings"], json!([]), "{role}");
        let refused = ask(&site, role, json!({"request": "listholds"})).await;
        assert_eq!(refused["error"], "forbidden", "{role}");
    }
    let export = json!({"request": "exportrecordings", "hold": true});
    assert_eq!(ask(&site, UserRole::Qa, export).await["total"], 1);
    let export = json!({"request": "exportrecordings", "hold": true, "extension": "2612"});
    assert_eq!(ask(&site, UserRole::Qa, export).await["error"], "notfound");
}

#[tokio::test]
async fn the_list_is_not_shown_where_it_cannot_be_written_down() {
    let site = Site::new().await;
    let id = site.node.put(1, "2611", noise(1_000, 1));
    site.node.recordings.lock().unwrap().get_mut(&id).unwrap().0.hold = true;
    // Before anything is written there.
    let folder = site.folder.path().join("audit");
    std::fs::write(&folder, "in the way").unwrap();
    let mut adam = Client::signed_in(&site, UserRole::Admin).await;
    let refused = adam.ask(json!({"request": "listholds"})).await;
    assert_eq!(refused["error"], "unavailable", "{refused}");
    assert!(!refused.to_string().contains(&id.to_string()), "{refused}");
    std::fs::remove_file(&folder).unwrap();
    let told = adam.ask(json!({"request": "listholds"})).await;
    assert_eq!(ids_of(&told, "holds"), named(&[id]));
}
