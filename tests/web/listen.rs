//! Listening to a call through a WebSocket: who may, what comes, when it ends, and that whoever does not read
//! disturbs nobody.

use std::time::Duration;

use astlogger::users::UserRole;
use astlogger::web::backend::Heard;
use serde_json::{Value, json};
use storage_core::NodeId;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::client::{Client, metric, within};
use super::node::{OTHER_UCID, PASSWORD, Site, UCID, noise, users};

async fn listen(client: &mut Client, ucid: &str) -> Value {
    client.ask(json!({ "request": "listen", "ucid": ucid })).await
}

/// The next binary frame: its number and its first sample.
async fn frame(client: &mut Client) -> (u32, i16) {
    let next = client.next().await;
    let Message::Binary(bytes) = next else { panic!("instead of sound: {next:?}") };
    assert_eq!(bytes.len(), 4 + 320);
    let number = u32::from_be_bytes(bytes[..4].try_into().unwrap());
    (number, i16::from_le_bytes([bytes[4], bytes[5]]))
}

/// Waits until whoever came as the `at`th to listen has gone.
async fn gone(site: &Site, at: usize) {
    let listener = site.node.listeners.lock().unwrap()[at].clone();
    within(listener.closed()).await;
}

#[tokio::test]
async fn frames_follow_the_reply_under_its_number_until_the_call_is_over() {
    let site = Site::new().await;
    let recording = site.node.put(1, "2611", noise(10, 1));
    let mut client = Client::signed_in(&site, UserRole::Supervisor).await;
    client.ask(json!({ "request": "fetchrecording", "recordingid": recording })).await;
    assert_eq!(client.event().await["eventtype"], "fetchcomplete");
    client.frames.clear();
    let reply = listen(&mut client, UCID).await;
    assert_eq!(reply, json!({ "result": "success", "listen": 2, "node": 1, "rate": 8000 }));
    for sample in [5, -6] {
        assert!(site.node.say(0, Heard::Frame([sample; 160])).await);
        assert_eq!(frame(&mut client).await, (2, sample));
    }
    // A second one of the same call has a number of its own.
    assert_eq!(listen(&mut client, UCID).await["listen"], 3);
    assert!(site.node.say(1, Heard::Frame([9; 160])).await);
    assert_eq!(frame(&mut client).await, (3, 9));
    assert!(site.node.say(0, Heard::Moved(NodeId(2))).await);
    let moved = json!({ "eventtype": "listenmoved", "listen": 2, "node": 2 });
    assert_eq!(client.event().await, moved);
    assert_eq!(metric(&site, "astlogger_web_listeners").await, 2);
    site.node.listeners.lock().unwrap().remove(0);
    let over = json!({ "eventtype": "listencomplete", "listen": 2, "frames": 2, "dropped": 0 });
    assert_eq!(client.event().await, over);
    let stop = json!({ "request": "stoplisten", "listen": 2 });
    assert_eq!(client.ask(stop).await["error"], "notfound");
    // What runs as a fetch does not end as a listen, nor the other way round.
    let cancel = json!({ "request": "cancelfetch", "fetch": 3 });
    assert_eq!(client.ask(cancel).await["error"], "notfound");
    let stop = json!({ "request": "stoplisten", "listen": 3 });
    assert_eq!(client.ask(stop).await, json!({ "result": "success", "listen": 3 }));
    gone(&site, 0).await;
    assert!(!site.node.say(0, Heard::Frame([1; 160])).await);
    for asked in [json!({}), json!({ "listen": "x" }), json!({ "listen": -1 })] {
        let mut request = asked;
        request["request"] = "stoplisten".into();
        assert_eq!(client.ask(request).await["error"], "badvalue");
    }
    for (ucid, error) in [("7x", "badvalue"), ("", "badvalue"), (OTHER_UCID, "nocall")] {
        assert_eq!(listen(&mut client, ucid).await["error"], error, "{ucid}");
    }
}

#[tokio::test]
async fn a_socket_listens_to_a_few_and_stops_with_its_session() {
    let site = Site::new().await;
    let mut client = Client::signed_in(&site, UserRole::Supervisor).await;
    for number in 1..=4 {
        assert_eq!(listen(&mut client, UCID).await["listen"], number);
    }
    assert_eq!(listen(&mut client, UCID).await["error"], "busy");
    // Whoever signs in anew on the socket has not asked.
    client.authenticate("susan", PASSWORD).await;
    for at in 0..4 {
        gone(&site, at).await;
    }
    assert_eq!(listen(&mut client, UCID).await["result"], "success");
    drop(client);
    gone(&site, 4).await;
    let mut client = Client::signed_in(&site, UserRole::Supervisor).await;
    assert_eq!(listen(&mut client, UCID).await["result"], "success");
    // He is no supervisor any more.
    let demoted = users().replace("role = \"supervisor\"", "role = \"qa\"");
    std::fs::write(&site.users_file, demoted).unwrap();
    Client::signed_in(&site, UserRole::Qa).await;
    gone(&site, 5).await;
    assert_eq!(within(client.closed()).await, 1008);
}

#[tokio::test]
async fn another_teams_call_is_not_there_and_one_that_leaves_the_team_is_heard_no_more() {
    let site = Site::new().await;
    let line = "role = \"supervisor\"\n";
    let text = users().replace(line, &format!("{line}team = \"billing\"\n"));
    let teams = "[[team]]\nname = \"billing\"\nextensions = [\"2600-2611\"]\n";
    std::fs::write(&site.users_file, text + teams).unwrap();
    let mut client = Client::signed_in(&site, UserRole::Supervisor).await;
    let absent = listen(&mut client, OTHER_UCID).await;
    *site.node.stations.lock().unwrap() = vec!["2612"];
    assert_eq!(listen(&mut client, UCID).await, absent);
    assert_eq!(site.node.listeners.lock().unwrap().len(), 0);
    *site.node.stations.lock().unwrap() = vec!["2612", "2611"];
    let reply = listen(&mut client, UCID).await;
    let number = u32::try_from(reply["listen"].as_u64().unwrap()).unwrap();
    assert!(site.node.say(0, Heard::Frame([5; 160])).await);
    assert_eq!(frame(&mut client).await, (number, 5));
    // It is transferred to another team.
    *site.node.stations.lock().unwrap() = vec!["2612"];
    assert_eq!(client.event().await["eventtype"], "listencomplete");
    gone(&site, 0).await;
}

#[tokio::test]
async fn who_listened_is_in_the_audit_log() {
    let site = Site::new().await;
    let mut client = Client::signed_in(&site, UserRole::Supervisor).await;
    assert_eq!(listen(&mut client, UCID).await["result"], "success");
    assert_eq!(listen(&mut client, OTHER_UCID).await["error"], "nocall");
    let mut auditor = Client::signed_in(&site, UserRole::Auditor).await;
    let log = auditor.ask(json!({ "request": "listaudit" })).await;
    let heard: Vec<_> = log["entries"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|line| line["action"] == "listen")
        .map(|line| {
            (line["user"].clone(), line["arguments"]["ucid"].clone(), line["outcome"].clone())
        })
        .collect();
    let line = |ucid: &str, outcome: &str| (json!("susan"), json!(ucid), json!(outcome));
    assert_eq!(heard, [line(UCID, "success"), line(OTHER_UCID, "nocall")], "{log}");
    // Where it cannot be written down, nobody listens.
    let site = Site::new().await;
    std::fs::write(site.folder.path().join("audit"), "in the way").unwrap();
    let mut client = Client::signed_in(&site, UserRole::Supervisor).await;
    assert_eq!(listen(&mut client, UCID).await["error"], "unavailable");
    gone(&site, 0).await;
}

#[tokio::test]
async fn whoever_does_not_read_loses_frames_and_keeps_nobody_waiting() {
    let site = Site::new().await;
    let mut deaf = Client::signed_in(&site, UserRole::Supervisor).await;
    assert_eq!(listen(&mut deaf, UCID).await["result"], "success");
    let mut other = Client::signed_in(&site, UserRole::Supervisor).await;
    assert_eq!(listen(&mut other, UCID).await["result"], "success");
    // So much that no buffer of the system takes it: 10 minutes.
    let talk = async {
        for _ in 0..30_000 {
            assert!(site.node.say(0, Heard::Frame([1; 160])).await);
        }
    };
    within(talk).await;
    assert!(metric(&site, "astlogger_web_listen_frames_dropped_total").await > 10_000);
    assert!(site.node.say(1, Heard::Frame([2; 160])).await);
    assert_eq!(frame(&mut other).await, (2 - 1, 2));
    assert_eq!(other.ask(json!({ "request": "clusterstatus" })).await["result"], "success");
    assert!(metric(&site, "astlogger_web_unsent_bytes_max").await < 1 << 20);
    // Once he reads on he hears what is said then.
    let mut heard = 0;
    let latest = async {
        loop {
            site.node.say(0, Heard::Frame([3; 160])).await;
            while let Ok((_, sample)) = timeout(Duration::from_millis(20), frame(&mut deaf)).await {
                heard += 1;
                if sample == 3 {
                    return;
                }
            }
        }
    };
    within(latest).await;
    assert!(heard < 30_000 - 10_000, "{heard}");
}
