//! Requests over HTTP: each has the arguments, the answer, the refusals and the line in the audit log that it
//! has on the WebSocket.

use astlogger::users::UserRole;
use serde_json::{Value, json};

use super::client::{Answer, Client, bearer, get, http};
use super::node::{PASSWORD, Site, noise};

async fn post(site: &Site, role: UserRole, name: &str, body: &str) -> Answer {
    let bearer = bearer(site, role).await;
    http(site, "POST", &format!("/api/requests/{name}"), &[("Authorization", &bearer)], body).await
}

#[tokio::test]
async fn tags_and_notes_are_written_by_either_way() {
    let site = Site::new().await;
    let id = site.node.put(1, "2611", noise(1000, 1)).to_string();
    let body = json!({"recordingid": id, "add": ["vip", "sale"], "note": "call back"}).to_string();
    let done = post(&site, UserRole::Qa, "tagrecording", &body).await;
    assert_eq!(done.status, 200, "{}", done.text());
    let done = done.json();
    assert_eq!(done["result"], "success");
    assert_eq!(done["tags"], json!(["sale", "vip"]));
    assert_eq!(
        (&done["notes"][0]["text"], &done["notes"][0]["by"]),
        (&json!("call back"), &json!("quentin"))
    );
    assert!(done["notes"][0]["at"].is_string() && done["notes"][0]["node"] == 1, "{done}");
    let mut client = Client::signed_in(&site, UserRole::Supervisor).await;
    let more = json!({"request": "tagrecording", "recordingid": id, "remove": "vip", "id": 7});
    let reply = client.ask(more).await;
    assert_eq!((&reply["id"], &reply["tags"]), (&json!(7), &json!(["sale"])), "{reply}");
    for (name, wrong, told) in [
        ("tagrecording", json!({"recordingid": id}), "`add`"),
        ("tagrecording", json!({"recordingid": id, "add": ["x".repeat(65)]}), "64 characters"),
        ("tagrecording", json!({"recordingid": id, "note": "x".repeat(1001)}), "1000 bytes"),
        ("tagrecording", json!({"add": ["vip"]}), "`recordingid`"),
    ] {
        let refused = post(&site, UserRole::Qa, name, &wrong.to_string()).await;
        assert_eq!(
            (refused.status, &refused.json()["error"]),
            (400, &json!("badvalue")),
            "{wrong}"
        );
        assert!(refused.text().contains(told), "{}", refused.text());
    }
}

#[tokio::test]
async fn agents_write_about_their_own_calls_only() {
    let site = Site::new().await;
    let own = site.node.put(1, "2611", noise(1000, 1)).to_string();
    let other = site.node.put(2, "2612", noise(1000, 1)).to_string();
    let tag = |id: &str| json!({"recordingid": id, "add": ["vip"]}).to_string();
    let mine = post(&site, UserRole::Agent, "tagrecording", &tag(&own)).await;
    let theirs = post(&site, UserRole::Agent, "tagrecording", &tag(&other)).await;
    assert_eq!((mine.status, theirs.status), (200, 403), "{} {}", mine.text(), theirs.text());
    for role in [UserRole::Auditor, UserRole::Admin] {
        assert_eq!(post(&site, role, "tagrecording", &tag(&own)).await.status, 403, "{role}");
    }
    let unknown = tag("018bcfe5-687b-7000-8000-00000000ffff");
    assert_eq!(post(&site, UserRole::Qa, "tagrecording", &unknown).await.status, 404);
}

#[tokio::test]
async fn admins_hold_release_and_delete_with_a_reason() {
    let site = Site::new().await;
    let id = site.node.put(1, "2611", noise(1000, 1)).to_string();
    let (on, off) = (json!({"recordingid": id, "on": true, "reason": "case 7"}), "legalhold");
    let held = post(&site, UserRole::Admin, off, &on.to_string()).await.json();
    assert_eq!((&held["hold"], &held["holdmark"]["by"]), (&json!(true), &json!("adam")), "{held}");
    assert!(held.get("releaserequestedby").is_none(), "{held}");
    let delete = json!({"recordingid": id, "reason": "old"}).to_string();
    let refused = post(&site, UserRole::Admin, "deleterecording", &delete).await;
    assert_eq!((refused.status, &refused.json()["error"]), (403, &json!("forbidden")));
    let release = json!({"recordingid": id, "on": false, "reason": "over"}).to_string();
    let wish = post(&site, UserRole::Admin, "legalhold", &release).await.json();
    assert_eq!((&wish["hold"], &wish["releaserequestedby"]), (&json!(true), &json!("adam")));
    assert_eq!(wish["releasebefore"], "2023-11-21T22:13:21.001Z", "a week after the wish");
    assert!(wish["message"].as_str().unwrap().contains("another admin than adam"), "{wish}");
    let again = post(&site, UserRole::Admin, "legalhold", &release).await;
    assert_eq!(again.status, 403, "{}", again.text());
    for (name, wrong, told) in [
        ("legalhold", json!({"recordingid": id, "reason": "x"}), "`on`"),
        ("legalhold", json!({"recordingid": id, "on": "maybe", "reason": "x"}), "`on`"),
        ("legalhold", json!({"recordingid": id, "on": true}), "`reason`"),
        ("legalhold", json!({"on": true, "reason": "x"}), "`recordingid`"),
        ("deleterecording", json!({"recordingid": id}), "`reason`"),
        ("deleterecording", json!({"recordingid": id, "reason": "x".repeat(501)}), "500 bytes"),
        ("deleterecording", json!({"reason": "x"}), "`recordingid`"),
    ] {
        let refused = post(&site, UserRole::Admin, name, &wrong.to_string()).await;
        assert_eq!(
            (refused.status, &refused.json()["error"]),
            (400, &json!("badvalue")),
            "{wrong}"
        );
        assert!(refused.text().contains(told), "{}", refused.text());
    }
    let unknown = json!({"recordingid": "018bcfe5-687b-7000-8000-00000000ffff", "reason": "x"});
    let refused = post(&site, UserRole::Admin, "deleterecording", &unknown.to_string()).await;
    assert_eq!(refused.status, 404);
}

#[tokio::test]
async fn every_request_that_needs_no_socket_can_be_posted() {
    let site = Site::new().await;
    let id = site.node.put(1, "2611", noise(1000, 1)).to_string();
    for (role, name, body, member) in [
        (UserRole::Qa, "listrecordings", json!({"extension": "2611"}), "recordings"),
        (UserRole::Qa, "getrecording", json!({"recordingid": id}), "recording"),
        (UserRole::Supervisor, "listcalls", json!({}), "calls"),
        (UserRole::Supervisor, "startrecording", json!({"extension": "2611"}), "recordingid"),
        (UserRole::Supervisor, "stoprecording", json!({"extension": "2611"}), "recordingid"),
        (UserRole::Supervisor, "pauserecording", json!({"extension": "2611"}), "pausedms"),
        (UserRole::Supervisor, "resumerecording", json!({"extension": "2611"}), "pausedms"),
        (UserRole::Qa, "repairrecording", json!({"recordingid": id}), "recordingid"),
        (UserRole::Auditor, "completeness", json!({}), "calls"),
        (UserRole::Auditor, "ListAudit", json!({}), "entries"),
        (UserRole::Auditor, "listholds", json!({"limit": 1}), "holds"),
        (
            UserRole::Admin,
            "legalhold",
            json!({"recordingid": id, "on": false, "reason": "x"}),
            "hold",
        ),
        (UserRole::Admin, "deleterecording", json!({"recordingid": id, "reason": "x"}), "at"),
    ] {
        let done = post(&site, role, name, &body.to_string()).await;
        assert_eq!(done.status, 200, "{name}: {}", done.text());
        assert_eq!(done.json()["result"], "success", "{name}");
        assert!(done.json().get(member).is_some(), "{name}: {}", done.text());
    }
    // Without a body there are no arguments.
    assert_eq!(post(&site, UserRole::Agent, "clusterstatus", "").await.status, 200);
    for (name, body, status) in [
        ("fetchrecording", json!({"recordingid": id}).to_string(), 503),
        ("subscribe", json!({"events": ["calls"]}).to_string(), 503),
        ("makecoffee", String::new(), 404),
        ("listcalls", "[]".to_owned(), 400),
        ("listaudit", String::new(), 403),
    ] {
        assert_eq!(post(&site, UserRole::Supervisor, name, &body).await.status, status, "{name}");
    }
}

#[tokio::test]
async fn what_is_posted_is_written_down_and_no_foreign_page_can_post() {
    let site = Site::new().await;
    let id = site.node.put(1, "2611", noise(1000, 1)).to_string();
    let tag = json!({"recordingid": id, "add": ["vip"], "password": PASSWORD});
    let bearer_of_qa = bearer(&site, UserRole::Qa).await;
    let cookie = format!("astlogger={}", bearer_of_qa.trim_start_matches("Bearer "));
    for (origin, status) in [("http://evil", 403), ("null", 403), ("", 403)] {
        let mut headers = vec![("Cookie", cookie.as_str())];
        headers.extend((!origin.is_empty()).then_some(("Origin", origin)));
        let path = "/api/requests/tagrecording";
        let refused = http(&site, "POST", path, &headers, &tag.to_string()).await;
        assert_eq!(refused.status, status, "{origin}");
    }
    assert!(
        site.node.recordings.lock().unwrap().values().all(|(record, _)| record.tags.is_empty())
    );
    let own = format!("http://{}", site.server.address());
    let headers = [("Cookie", cookie.as_str()), ("Origin", own.as_str())];
    let path = "/api/requests/tagrecording";
    assert_eq!(http(&site, "POST", path, &headers, &tag.to_string()).await.status, 200);
    assert_eq!(http(&site, "POST", path, &[], &tag.to_string()).await.status, 401);
    assert_eq!(http(&site, "GET", path, &headers, "").await.status, 405);
    assert_eq!(post(&site, UserRole::Supervisor, "legalhold", "{}").await.status, 403);

    let auditor = bearer(&site, UserRole::Auditor).await;
    let audit = get(&site, "/api/audit", &[("Authorization", &auditor)]).await.json();
    let lines = audit["entries"].as_array().unwrap().iter();
    let told =
        |line: &Value| json!([line["action"], line["user"], line["outcome"], line["arguments"]]);
    let lines: Vec<_> = lines.filter(|line| line["action"] != "authenticate").map(told).collect();
    let written = json!({"recordingid": id, "add": ["vip"]});
    assert_eq!(
        lines,
        [
            json!(["tagrecording", "quentin", "success", written]),
            json!(["legalhold", "susan", "forbidden", {}]),
        ]
    );
}
