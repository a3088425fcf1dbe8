//! Whoever has a team sees its recordings and calls, and of others' not even that there are any.

use astlogger::users::UserRole;
use astlogger::web::backend::Topic;
use serde_json::json;

use super::client::{Client, bearer, get, within};
use super::node::{Site, UCID, id, noise, users};

const BILLING: &str = "[[team]]\nname = \"billing\"\nextensions = [\"2600-2611\"]\n";

/// A site whose supervisor and qa are in a team; the file's tables of teams are `teams`.
async fn site(teams: &str) -> Site {
    let site = Site::new().await;
    join_team(&site, teams);
    site
}

fn join_team(site: &Site, teams: &str) {
    let mut text = users();
    for role in ["supervisor", "qa"] {
        let line = format!("role = \"{role}\"\n");
        text = text.replace(&line, &format!("{line}team = \"billing\"\n"));
    }
    std::fs::write(&site.users_file, text + teams).unwrap();
}

#[tokio::test]
async fn other_teams_recordings_are_not_there() {
    let site = site(BILLING).await;
    let own = site.node.put(1, "2611", noise(1_000, 1));
    let other = site.node.put(2, "2612", noise(1_000, 2));
    site.node.of_call(other, "00001000021763000099");
    for role in [UserRole::Supervisor, UserRole::Qa] {
        let mut client = Client::signed_in(&site, role).await;
        let bearer = bearer(&site, role).await;
        let headers = [("Authorization", bearer.as_str())];
        let listed = client.ask(json!({ "request": "listrecordings" })).await;
        let ids: Vec<_> = listed["recordings"].as_array().unwrap().iter().collect();
        assert_eq!((ids.len(), &ids[0]["recordingid"]), (1, &json!(own)), "{role}");
        let by_number = json!({ "request": "listrecordings", "extension": "2612" });
        assert_eq!(client.ask(by_number).await["recordings"], json!([]));
        let page = get(&site, "/api/recordings", &headers).await;
        assert!(!String::from_utf8(page.body).unwrap().contains(&other.to_string()));
        for request in ["getrecording", "fetchrecording"] {
            let mut ask =
                async |id| client.ask(json!({ "request": request, "recordingid": id })).await;
            assert_eq!(ask(own).await["result"], "success", "{role} {request}");
            let (hidden, absent) = (ask(other).await, ask(id(77)).await);
            assert_eq!(hidden["error"], "notfound", "{role} {request}");
            let text = hidden["message"].as_str().unwrap().replace(&other.to_string(), "");
            assert_eq!(text, absent["message"].as_str().unwrap().replace(&id(77).to_string(), ""));
        }
        for form in ["", "/audio", "/audio?format=wav", "/waveform"] {
            let own = get(&site, &format!("/api/recordings/{own}{form}"), &headers).await;
            let other = get(&site, &format!("/api/recordings/{other}{form}"), &headers).await;
            // The made-up audio has no waveform.
            let found = if form == "/waveform" { 500 } else { 200 };
            assert_eq!((own.status, other.status), (found, 404), "{role} {form}");
        }
        let completeness =
            client.ask(json!({ "request": "completeness", "day": "2023-11-14" })).await;
        // The made-up node saw no calls: of each recording there was one.
        assert_eq!(completeness["calls"], 1, "{role}");
    }
    let mut qa = Client::signed_in(&site, UserRole::Qa).await;
    let repair = qa.ask(json!({ "request": "repairrecording", "recordingid": other })).await;
    assert_eq!(repair["error"], "notfound");
    // An admin has no team, and sees what he may.
    let mut admin = Client::signed_in(&site, UserRole::Admin).await;
    assert_eq!(
        admin.ask(json!({ "request": "completeness", "day": "2023-11-14" })).await["calls"],
        2
    );
}

#[tokio::test]
async fn other_teams_calls_are_not_there() {
    // The made-up node has one call, at 2611.
    for (teams, sees) in [(BILLING, true), ("", false)] {
        let site = site(teams).await;
        let mut client = Client::signed_in(&site, UserRole::Supervisor).await;
        let calls = client.ask(json!({ "request": "listcalls" })).await;
        let count = usize::from(sees);
        assert_eq!(
            (&calls["total"], calls["calls"].as_array().unwrap().len()),
            (&json!(count), count)
        );
        for request in ["startrecording", "stoprecording", "pauserecording"] {
            for target in [json!({ "ucid": UCID }), json!({ "extension": "2611" })] {
                let mut frame = target;
                frame["request"] = request.into();
                let reply = client.ask(frame).await;
                let expected = if sees { json!(null) } else { json!("nocall") };
                assert_eq!(reply["error"], expected, "{request}: {reply}");
            }
        }
        client.ask(json!({ "request": "subscribe", "events": ["levels"] })).await;
        let levels = client.event().await["levels"].as_array().unwrap().len();
        assert_eq!(levels, count, "how loud another team's call is");
        client.ask(json!({ "request": "unsubscribe", "events": ["levels"] })).await;
        client.events.clear();
        let asked = json!({ "request": "subscribe", "events": ["calls", "recordings", "alarms"] });
        client.ask(asked).await;
        site.node.tell(Topic::Calls, "callended", &["2612"]);
        site.node.tell(Topic::Recordings, "recordingpublished", &["2612"]);
        site.node.tell(Topic::Calls, "callstarted", &["2612", "2611"]);
        site.node.tell(Topic::Alarms, "alarm", &[]);
        if sees {
            assert_eq!(client.event().await["eventtype"], "callstarted");
        }
        assert_eq!(client.event().await["eventtype"], "alarm");
        assert_eq!(client.events, Vec::<serde_json::Value>::new());
    }
}

#[tokio::test]
async fn who_sees_something_else_by_now_signs_in_again() {
    let site = site(BILLING).await;
    let recording = site.node.put(1, "2611", noise(1_000, 1));
    let mut before = Client::signed_in(&site, UserRole::Qa).await;
    join_team(&site, &BILLING.replace("2611", "2610"));
    let mut after = Client::signed_in(&site, UserRole::Qa).await;
    let asked = json!({ "request": "getrecording", "recordingid": recording });
    assert_eq!(after.ask(asked).await["error"], "notfound");
    within(before.closed()).await;
}
