//! Scorecards: calls are judged by forms; who may, what is refused, and how judgements are found and exported.

use astlogger::users::UserRole;
use serde_json::{Value, json};

use super::client::{Client, bearer, get};
use super::node::{Site, id, noise, users};

fn score(recording: impl serde::Serialize, answers: &Value) -> Value {
    json!({ "request": "scorerecording", "recordingid": recording, "scorecard": "Service", "answers": answers,
        "comment": "=1+1" })
}

#[tokio::test]
async fn a_judgement_is_worked_out_kept_and_replaced() {
    let site = Site::new().await;
    let recording = site.node.put(1, "2611", noise(100, 1));
    let mut qa = Client::signed_in(&site, UserRole::Qa).await;
    let cards = qa.ask(json!({ "request": "listscorecards" })).await;
    assert_eq!(cards["scorecards"][0]["questions"][1]["max"], 10, "{cards}");
    let first = qa.ask(score(recording, &json!({ "greeting": true, "help": 5 }))).await;
    assert_eq!((&first["result"], &first["percent"]), (&json!("success"), &json!(62.5)), "{first}");
    let mut supervisor = Client::signed_in(&site, UserRole::Supervisor).await;
    let others = supervisor.ask(score(recording, &json!({ "greeting": null, "help": 10 }))).await;
    assert_eq!(
        (&others["percent"], others["scores"].as_array().unwrap().len()),
        (&json!(100.0), 2)
    );
    let again = qa.ask(score(recording, &json!({ "greeting": false, "help": 0 }))).await;
    assert_eq!((&again["percent"], again["scores"].as_array().unwrap().len()), (&json!(0.0), 2));
    let record = qa.ask(json!({ "request": "getrecording", "recordingid": recording })).await;
    let kept: Vec<_> = record["recording"]["scores"]
        .as_array()
        .unwrap()
        .iter()
        .map(|kept| (kept["by"].clone(), kept["percent"].clone(), kept["answers"]["help"].clone()))
        .collect();
    assert_eq!(
        kept,
        [(json!("susan"), json!(100.0), json!(10)), (json!("quentin"), json!(0.0), json!(0)),]
    );
    for (filter, found) in [
        (json!({ "minscore": 100 }), 1),
        (json!({ "scorecard": "Service", "minscore": 1, "maxscore": 99 }), 0),
        (json!({ "maxscore": 0 }), 1),
        (json!({ "scorecard": "Sales" }), 0),
    ] {
        let mut request = filter.clone();
        request["request"] = "listrecordings".into();
        let listed = qa.ask(request).await;
        assert_eq!(listed["recordings"].as_array().unwrap().len(), found, "{filter}: {listed}");
    }
    let bearer = bearer(&site, UserRole::Qa).await;
    let headers = [("Authorization", bearer.as_str())];
    let listed = get(&site, "/api/recordings?minscore=100", &headers).await.json();
    assert_eq!(listed["recordings"].as_array().unwrap().len(), 1);
    for (filter, named) in [
        ("minscore=101", "minscore"),
        ("minscore=x", "minscore"),
        ("minscore=9&maxscore=8", "maxscore"),
    ] {
        let refused = get(&site, &format!("/api/recordings?{filter}"), &headers).await;
        assert_eq!(refused.status, 400, "{filter}");
        assert!(refused.text().contains(named), "{}", refused.text());
    }
    let auditor = super::client::bearer(&site, UserRole::Auditor).await;
    let audit = get(&site, "/api/audit", &[("Authorization", &auditor)]).await.json();
    let lines = audit["entries"].as_array().unwrap().iter();
    let scored: Vec<_> = lines.filter(|line| line["action"] == "scorerecording").collect();
    assert_eq!(scored.len(), 3);
    assert_eq!(
        (&scored[0]["user"], &scored[0]["arguments"]["answers"]["help"]),
        (&json!("quentin"), &json!(5))
    );
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_changes_nothing() {
    let site = Site::new().await;
    let recording = site.node.put(1, "2611", noise(100, 1));
    let mut qa = Client::signed_in(&site, UserRole::Qa).await;
    let sound = json!({ "greeting": true, "help": 5 });
    let with = |name: &str, value: Value| {
        let mut request = score(recording, &sound);
        request[name] = value;
        request
    };
    for (request, code, named) in [
        (with("scorecard", json!("Sales")), "badvalue", "listscorecards"),
        (with("scorecard", json!(null)), "badvalue", "scorecard"),
        (with("answers", json!([1])), "badvalue", "answers"),
        (with("answers", json!({ "greeting": true })), "badvalue", "help"),
        (with("answers", json!({ "greeting": true, "help": 11 })), "badvalue", "0 to 10"),
        (with("answers", json!({ "greeting": true, "help": 5, "x": 1 })), "badvalue", "`x`"),
        (with("answers", json!({ "greeting": null, "help": null })), "badvalue", "no score"),
        (with("comment", json!("x".repeat(2000))), "badvalue", "comment"),
        (with("recordingid", json!("x")), "badvalue", "recordingid"),
        (with("recordingid", json!(id(9))), "notfound", ""),
    ] {
        let reply = qa.ask(request.clone()).await;
        assert_eq!(reply["error"], code, "{request}: {reply}");
        assert!(reply["message"].as_str().unwrap().contains(named), "{request}: {reply}");
    }
    for role in [UserRole::Agent, UserRole::Auditor, UserRole::Admin] {
        let mut client = Client::signed_in(&site, role).await;
        assert_eq!(client.ask(with("comment", json!(""))).await["error"], "forbidden", "{role}");
    }
    let record = qa.ask(json!({ "request": "getrecording", "recordingid": recording })).await;
    assert_eq!(record["recording"].get("scores"), None);
    // An agent who writes about his own call is not shown what others think of it.
    assert_eq!(qa.ask(with("comment", json!("not for agents"))).await["result"], "success");
    let mut anna = Client::signed_in(&site, UserRole::Agent).await;
    let tag = json!({ "request": "tagrecording", "recordingid": recording, "add": "mine" });
    let reply = anna.ask(tag).await;
    assert_eq!(reply["result"], "success");
    assert!(!reply.to_string().contains("not for agents"), "{reply}");
}

#[tokio::test]
async fn other_teams_recordings_are_not_judged() {
    let site = Site::new().await;
    let other = site.node.put(2, "2612", noise(100, 2));
    let team = "[[team]]\nname = \"billing\"\nextensions = [\"2611\"]\n";
    let text = users().replace("role = \"qa\"\n", "role = \"qa\"\nteam = \"billing\"\n");
    std::fs::write(&site.users_file, text + team).unwrap();
    let mut qa = Client::signed_in(&site, UserRole::Qa).await;
    let sound = json!({ "greeting": true, "help": 5 });
    assert_eq!(qa.ask(score(other, &sound)).await["error"], "notfound");
    // Nor are they found by what others think of them.
    let mut supervisor = Client::signed_in(&site, UserRole::Supervisor).await;
    assert_eq!(supervisor.ask(score(other, &sound)).await["result"], "success");
    for filter in
        [json!({ "scorecard": "Service" }), json!({ "minscore": 0 }), json!({ "maxscore": 100 })]
    {
        for request in ["listrecordings", "exportrecordings"] {
            let mut asked = filter.clone();
            asked["request"] = request.into();
            let reply = qa.ask(asked.clone()).await;
            let none = reply["recordings"] == json!([]) || reply["error"] == "notfound";
            assert!(none, "{asked}: {reply}");
        }
        let mut asked = filter.clone();
        asked["request"] = "listrecordings".into();
        assert_eq!(supervisor.ask(asked).await["recordings"][0]["recordingid"], json!(other));
    }
    site.node.recordings.lock().unwrap().get_mut(&other).unwrap().0.scores.clear();
    assert_eq!(qa.ask(score(other, &sound)).await["error"], "notfound");
    let recordings = site.node.recordings.lock().unwrap();
    assert!(recordings.values().all(|(record, _)| record.scores.is_empty()));
}
