//! The WebSocket dialect: who may ask for what, what comes back, who hears of what.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use astlogger::users::UserRole;
use astlogger::web::Limits;
use astlogger::web::backend::{Code, Failure, Target, Topic, Unreachable};
use serde_json::{Value, json};
use storage_core::record::Scope;
use storage_core::{Extension, NodeId, Role};
use tokio::sync::Semaphore;

use super::client::Client;
use super::node::{FakeNode, OTHER_UCID, Site, UCID, eventually, id};

/// `y` success, `-` forbidden, `u` unavailable; by agent, supervisor, qa, auditor, admin.
fn table() -> Vec<(Value, &'static str)> {
    let recording = id(1).to_string();
    vec![
        (json!({ "request": "listrecordings" }), "- y y - -"),
        (json!({ "request": "getrecording", "recordingid": recording }), "- y y - -"),
        (json!({ "request": "fetchrecording", "recordingid": recording }), "- y y - -"),
        (json!({ "request": "startrecording", "extension": "2611" }), "y y - - -"),
        (json!({ "request": "stoprecording", "extension": "2611" }), "y y - - -"),
        (json!({ "request": "listcalls" }), "- y - - -"),
        (json!({ "request": "subscribe", "events": ["alarms"] }), "y y y y y"),
        (json!({ "request": "unsubscribe", "events": ["alarms"] }), "y y y y y"),
        (json!({ "request": "clusterstatus" }), "y y y y y"),
        (json!({ "request": "pauserecording", "extension": "2611" }), "y y - - -"),
        (json!({ "request": "resumerecording", "extension": "2611" }), "y y - - -"),
        (json!({ "request": "tagrecording", "recordingid": recording, "add": "vip" }), "y y y - -"),
        (json!({ "request": "listen", "ucid": UCID }), "- y - - -"),
        (json!({ "request": "stoplisten", "listen": 2 }), "- y - - -"),
        (json!({ "request": "exportrecordings" }), "- - y - -"),
        (
            json!({ "request": "scorerecording", "recordingid": recording, "scorecard": "Service",
            "answers": { "greeting": true, "help": 5 } }),
            "- y y - -",
        ),
        (json!({ "request": "listscorecards" }), "- y y - -"),
        (json!({ "request": "listexports" }), "- - y - -"),
        (json!({ "request": "cancelexport", "export": "0".repeat(32) }), "- - notfound - -"),
        (
            json!({ "request": "legalhold", "recordingid": recording, "on": false, "reason": "over" }),
            "- - - - y",
        ),
        (
            json!({ "request": "deleterecording", "recordingid": recording, "reason": "old" }),
            "- - - - y",
        ),
        (json!({ "request": "listholds" }), "- - - y y"),
        (json!({ "request": "listaudit" }), "- - - y y"),
    ]
}

fn outcome(reply: &Value) -> &str {
    match reply["result"].as_str() {
        Some("success") => "y",
        Some("fail") => match reply["error"].as_str() {
            Some("forbidden") => "-",
            Some("unavailable") => "u",
            other => other.unwrap_or("?"),
        },
        _ => "?",
    }
}

#[tokio::test]
async fn every_request_under_every_role() {
    let site = Site::new().await;
    site.node.put(1, "2611", vec![1, 2, 3]);
    for (at, role) in UserRole::ALL.into_iter().enumerate() {
        let mut client = Client::signed_in(&site, role).await;
        for (request, marks) in table() {
            let expected = marks.split(' ').nth(at).unwrap();
            let reply = client.ask(request.clone()).await;
            assert_eq!(outcome(&reply), expected, "{role}: {request}: {reply}");
            assert!(reply["result"] == "success" || reply["message"].is_string(), "{reply}");
        }
        let reply = client.ask(json!({ "request": "makecoffee" })).await;
        assert_eq!(reply["error"], "unknownrequest");
    }
}

#[tokio::test]
async fn nothing_before_signing_in() {
    let site = Site::new().await;
    let mut client = Client::connect(&site).await;
    for (request, _) in table() {
        assert_eq!(client.ask(request).await["error"], "notauthenticated");
    }
    let reply = client.ask(json!({ "request": "makecoffee", "id": 3 })).await;
    assert_eq!((&reply["error"], &reply["id"]), (&json!("notauthenticated"), &json!(3)));
    let reply = client.ask(json!({ "request": "authenticate", "user": "anna" })).await;
    assert_eq!(reply["error"], "badvalue");
}

#[tokio::test]
async fn what_is_sent_right_behind_a_sign_in_is_served() {
    let site = Site::new().await;
    let mut client = Client::connect(&site).await;
    client.send(r#"{"request":"authenticate","user":"quentin","password":"correct horse"}"#).await;
    client.send(r#"{"request":"ListRecordings"}"#).await;
    let signed_in = client.reply().await;
    assert_eq!(signed_in["role"], "qa");
    assert_eq!(signed_in["token"].as_str().unwrap().len(), 64);
    assert!(signed_in["expires"].as_str().unwrap().ends_with('Z'));
    let list = client.reply().await;
    assert_eq!((&list["recordings"], &list["total"]), (&json!([]), &json!(0)));
}

#[tokio::test]
async fn ids_come_back_unchanged_and_may_recur() {
    let site = Site::new().await;
    let mut client = Client::signed_in(&site, UserRole::Supervisor).await;
    for id in [json!("a"), json!(7), json!(1.5), json!({"a": [1]}), json!(null), json!(false)] {
        let reply = client.ask(json!({ "request": "clusterstatus", "id": id })).await;
        assert_eq!(reply.get("id"), Some(&id));
        assert_eq!(reply["leader"], 1);
        let reply = client.ask(json!({ "request": "nothing", "id": id })).await;
        assert_eq!(reply.get("id"), Some(&id));
    }
    assert_eq!(client.ask(json!({ "request": "listcalls" })).await.get("id"), None);
    for _ in 0..5 {
        client.send(r#"{"request":"clusterstatus","id":1}"#).await;
    }
    for _ in 0..5 {
        assert_eq!(client.reply().await["id"], 1);
    }
}

#[tokio::test]
async fn members_that_cannot_be_reached_are_named_with_what_is_listed() {
    let site = Site::new().await;
    let mut client = Client::signed_in(&site, UserRole::Supervisor).await;
    let requests = ["listrecordings", "listcalls"];
    for request in requests {
        let reply = client.ask(json!({ "request": request })).await;
        assert_eq!((&reply["result"], reply.get("unreachable")), (&json!("success"), None));
    }
    *site.node.unreachable.lock().unwrap() = vec![
        Unreachable { node: NodeId(2), role: Some(Role::Backup) },
        Unreachable { node: NodeId(4), role: None },
    ];
    for request in requests {
        let reply = client.ask(json!({ "request": request })).await;
        assert_eq!(reply["unreachable"], json!([{ "node": 2, "role": "backup" }, { "node": 4 }]));
    }
}

#[tokio::test]
async fn records_are_listed_in_pages_and_shown() {
    let site = Site::new().await;
    for number in 0..5 {
        site.node.put(number, if number < 3 { "2611" } else { "2612" }, vec![0; 10]);
    }
    let mut client = Client::signed_in(&site, UserRole::Qa).await;
    // A number for digits, digits for a number, and a member that nobody knows.
    let request = json!({ "request": "listrecordings", "extension": 2611, "limit": "2", "x": [] });
    let page = client.ask(request).await;
    assert_eq!(page["recordings"].as_array().unwrap().len(), 2, "{page}");
    assert_eq!(page["total"], 3);
    let cursor = page["cursor"].as_str().unwrap();
    let request = json!({ "request": "listrecordings", "extension": "2611", "cursor": cursor });
    let page = client.ask(request).await;
    assert_eq!(page["recordings"].as_array().unwrap().len(), 1, "{page}");
    assert_eq!(page.get("cursor"), None);

    let one = client.ask(json!({ "request": "getrecording", "recordingid": id(4) })).await;
    assert_eq!(one["recording"]["extension"], "2612");
    assert_eq!(one["recording"]["started"], "2023-11-14T22:13:20.000Z");
    for (recording, error) in [
        (json!(id(77)), "notfound"),
        (json!("../../etc/passwd"), "badvalue"),
        (json!("018bcfe5-687b-7000-8000-000000000001/.."), "badvalue"),
        (json!(""), "badvalue"),
        (json!(7), "badvalue"),
        (json!(null), "badvalue"),
    ] {
        let request = json!({ "request": "getrecording", "recordingid": recording });
        assert_eq!(client.ask(request).await["error"], error, "{recording}");
        let request = json!({ "request": "fetchrecording", "recordingid": recording });
        assert_eq!(client.ask(request).await["error"], error, "{recording}");
    }
    let request = json!({ "request": "listrecordings", "cursor": "x" });
    assert_eq!(client.ask(request).await["error"], "badvalue");
}

#[tokio::test]
async fn a_page_too_long_to_send_is_shortened_and_goes_on_with_its_cursor() {
    let site = Site::new().await;
    for number in 0..600 {
        let id = site.node.put(number, "2611", Vec::new());
        let mut recordings = site.node.recordings.lock().unwrap();
        recordings.get_mut(&id).unwrap().0.userdata = "u".repeat(1500);
    }
    let mut client = Client::signed_in(&site, UserRole::Qa).await;
    let mut cursor = None;
    let mut seen = 0;
    loop {
        let request = json!({ "request": "listrecordings", "limit": 1000, "cursor": cursor });
        let page = client.ask(request).await;
        assert!(page.to_string().len() < 400 * 1024);
        seen += page["recordings"].as_array().unwrap().len();
        cursor = page["cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, 600);
}

#[tokio::test]
async fn starting_and_stopping() {
    let site = Site::new().await;
    let mut susan = Client::signed_in(&site, UserRole::Supervisor).await;
    let request = json!({ "request": "startrecording", "ucid": OTHER_UCID, "scope": "trunk" });
    assert_eq!(susan.ask(request).await["recordingid"], id(999).to_string());
    {
        let started = site.node.started.lock().unwrap();
        assert_eq!(started[0].target, Target::Ucid(OTHER_UCID.parse().unwrap()));
        assert_eq!(started[0].scope, Scope::Trunk);
        assert_eq!(
            (started[0].by.user.as_str(), started[0].by.role),
            ("susan", UserRole::Supervisor)
        );
    }
    let reply = susan.ask(json!({ "request": "stoprecording", "recordingid": id(999) })).await;
    assert_eq!(reply["recordingid"], id(999).to_string());
    assert_eq!(site.node.stopped.lock().unwrap()[0].target, Target::Recording(id(999)));

    let reply = susan.ask(json!({ "request": "pauserecording", "recordingid": id(999) })).await;
    assert_eq!((&reply["recordingid"], &reply["pausedms"]), (&json!(id(999)), &json!(0)));
    let reply = susan.ask(json!({ "request": "resumerecording", "ucid": OTHER_UCID })).await;
    assert_eq!(reply["pausedms"], 2_500, "{reply}");
    let paused: Vec<_> = site.node.paused.lock().unwrap().iter().map(|p| p.pause).collect();
    assert_eq!(paused, [true, false]);

    for code in
        [Code::NoCall, Code::NoTrunk, Code::NoPhantom, Code::AlreadyRecording, Code::Internal]
    {
        *site.node.start_answer.lock().unwrap() = Err(Failure::new(code, "because"));
        let reply = susan.ask(json!({ "request": "startrecording", "extension": "2611" })).await;
        assert_eq!(
            (reply["error"].as_str(), &reply["message"]),
            (Some(code.as_str()), &json!("because"))
        );
    }
}

#[tokio::test]
async fn agents_touch_their_own_calls_only() {
    let site = Site::new().await;
    let own = site.node.put(1, "2611", Vec::new());
    let other = site.node.put(2, "2612", Vec::new());
    let mut anna = Client::signed_in(&site, UserRole::Agent).await;
    for (argument, value, expected) in [
        ("extension", json!("2611"), "y"),
        ("extension", json!(2611), "y"),
        ("extension", json!("2612"), "-"),
        ("ucid", json!(UCID), "y"),
        ("ucid", json!(OTHER_UCID), "-"),
    ] {
        for request in ["startrecording", "stoprecording", "pauserecording", "resumerecording"] {
            let reply = anna.ask(json!({ "request": request, argument: value })).await;
            assert_eq!(outcome(&reply), expected, "{request} {argument} {value}: {reply}");
        }
    }
    for (recording, expected) in [(own, "y"), (other, "-"), (id(77), "-")] {
        let reply = anna.ask(json!({ "request": "stoprecording", "recordingid": recording })).await;
        assert_eq!(outcome(&reply), expected, "{reply}");
    }
    let by = site.node.started.lock().unwrap()[0].by.clone();
    assert_eq!((by.role, by.extension), (UserRole::Agent, Some(Extension::from("2611"))));
}

#[tokio::test]
async fn requests_in_progress_are_bounded_and_those_beyond_are_busy() {
    let node = FakeNode::new();
    let may_start = Arc::clone(&node.may_start);
    may_start.forget_permits(Semaphore::MAX_PERMITS);
    let site = Site::with(Limits::default(), node).await;
    let mut client = Client::signed_in(&site, UserRole::Supervisor).await;
    for number in 0..70 {
        let request = json!({ "request": "startrecording", "extension": "2611", "id": number });
        client.send(request.to_string()).await;
    }
    for number in 64..70 {
        let reply = client.reply().await;
        assert_eq!((&reply["error"], &reply["id"]), (&json!("busy"), &json!(number)));
    }
    may_start.add_permits(70);
    let mut numbers: Vec<u64> = Vec::new();
    for _ in 0..64 {
        numbers.push(client.reply().await["id"].as_u64().unwrap());
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..64).collect::<Vec<_>>());
    assert_eq!(client.ask(json!({ "request": "listcalls" })).await["total"], 1);
}

#[tokio::test]
async fn a_supervisor_hears_how_loud_his_teams_calls_are_second_by_second() {
    let site = Site::new().await;
    let mut client = Client::signed_in(&site, UserRole::Supervisor).await;
    let levels = |verb: &str| json!({ "request": verb, "events": ["levels"] });
    assert_eq!(client.ask(levels("subscribe")).await["events"], json!(["levels"]));
    let loud = json!([{ "ucid": UCID, "callid": "7", "level": -20.5 }]);
    for _ in 0..2 {
        let told = client.event().await;
        assert_eq!(told, json!({ "eventtype": "levels", "levels": loud }));
    }
    let mut other = Client::signed_in(&site, UserRole::Qa).await;
    assert_eq!(other.ask(levels("subscribe")).await["refused"], json!(["levels"]));
    assert_eq!(client.ask(levels("unsubscribe")).await["events"], json!([]));
    client.events.clear();
    // Another event, behind which none may be waiting.
    client.ask(json!({ "request": "subscribe", "events": ["alarms"] })).await;
    site.node.tell(Topic::Alarms, "alarm", &[]);
    assert_eq!(client.event().await["eventtype"], "alarm");
}

#[tokio::test]
async fn many_who_look_how_loud_calls_are_cost_no_more_than_one() {
    let site = Site::new().await;
    let unmeasured = json!({ "callid": "8", "extensions": ["2611"] });
    site.node.unmeasured.lock().unwrap().push(unmeasured);
    let begun = Instant::now();
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = Client::signed_in(&site, UserRole::Supervisor).await;
        client.ask(json!({ "request": "subscribe", "events": ["levels"] })).await;
        clients.push(client);
    }
    for client in &mut clients {
        for _ in 0..3 {
            let told = client.event().await["levels"].as_array().unwrap().clone();
            let calls: Vec<_> = told.iter().map(|call| &call["callid"]).collect();
            assert_eq!(calls, ["7"], "of the other it is not known");
        }
    }
    let (asked, passed) = (site.node.calls_asked.load(Ordering::SeqCst), begun.elapsed());
    assert!(passed >= Duration::from_millis(1_900), "three times within {passed:?}");
    // What was told is told to others for 900 ms.
    let most = 1 + passed.as_millis() / 900;
    assert!(asked >= 3 && asked as u128 <= most, "asked {asked} times within {passed:?}");
}

#[tokio::test]
async fn who_hears_of_what() {
    let site = Site::new().await;
    let everything = json!(["calls", "recordings", "cluster", "alarms"]);
    // Calls at 2611, calls at 2612, recordings, cluster, alarms.
    for (role, granted, heard) in [
        (UserRole::Agent, json!(["calls", "cluster", "alarms"]), "y - - y y"),
        (UserRole::Supervisor, everything.clone(), "y y y y y"),
        (UserRole::Qa, json!(["recordings", "cluster", "alarms"]), "- - y y y"),
        (UserRole::Auditor, json!(["cluster", "alarms"]), "- - - y y"),
        (UserRole::Admin, json!(["cluster", "alarms"]), "- - - y y"),
    ] {
        let mut client = Client::signed_in(&site, role).await;
        let reply = client.ask(json!({ "request": "subscribe", "events": everything })).await;
        assert_eq!(reply["events"], granted, "{role}");
        site.node.tell(Topic::Calls, "callstarted", &["2611"]);
        site.node.tell(Topic::Calls, "callended", &["2612"]);
        site.node.tell(Topic::Recordings, "recordingpublished", &["2611"]);
        site.node.tell(Topic::Cluster, "takeover", &[]);
        site.node.tell(Topic::Alarms, "alarm", &[]);
        let told = ["callstarted", "callended", "recordingpublished", "takeover", "alarm"];
        for (eventtype, mark) in told.into_iter().zip(heard.split(' ')) {
            if mark == "y" {
                let event = client.event().await;
                assert_eq!(
                    (&event["eventtype"], &event["ucid"]),
                    (&json!(eventtype), &json!(UCID))
                );
                assert!(event.get("id").is_none() && event.get("result").is_none());
            }
        }
        let reply = client.ask(json!({ "request": "unsubscribe", "events": everything })).await;
        assert_eq!(reply["events"], json!([]));
        assert!(client.events.is_empty(), "{:?}", client.events);
    }
    eventually("nobody listens any more", || site.node.events.receiver_count() == 0).await;
}

#[tokio::test]
async fn stopping_the_server_closes_1001() {
    let site = Site::new().await;
    let mut signed_in = Client::signed_in(&site, UserRole::Agent).await;
    let mut stranger = Client::connect(&site).await;
    let address = site.server.address();
    let stopping = tokio::spawn(site.server.stop());
    assert_eq!(signed_in.closed().await, 1001);
    assert_eq!(stranger.closed().await, 1001);
    drop((signed_in, stranger));
    super::client::within(stopping).await.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
