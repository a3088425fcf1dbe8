//! Signing in and out: tokens, cookies, brute force, changes of the users file.

use std::time::Duration;

use astlogger::users::UserRole;
use astlogger::web::Limits;
use serde_json::json;
use tokio_tungstenite::tungstenite::Error;

use super::client::{Client, bearer, get, http, token};
use super::node::{FakeNode, PASSWORD, Site, users};

fn status(refused: Result<Client, Error>) -> u16 {
    match refused {
        Err(Error::Http(answer)) => answer.status().as_u16(),
        Err(error) => panic!("{error}"),
        Ok(_) => 101,
    }
}

#[tokio::test]
async fn a_token_is_good_on_every_way_in() {
    let site = Site::new().await;
    let token = token(&site, UserRole::Qa).await;
    let authorization = format!("Bearer {token}");
    let listed = get(&site, "/api/recordings", &[("Authorization", &authorization)]).await;
    assert_eq!(listed.status, 200);

    let headers = [("authorization", authorization.as_str())];
    let mut client = Client::with_headers(&site, &headers).await.unwrap();
    assert_eq!(client.ask(json!({ "request": "listrecordings" })).await["result"], "success");

    let mut client = Client::connect(&site).await;
    let reply = client.ask(json!({ "request": "authenticate", "token": token })).await;
    assert_eq!((&reply["role"], &reply["token"]), (&json!("qa"), &json!(token)));
    assert_eq!(client.ask(json!({ "request": "listrecordings" })).await["result"], "success");

    let body = json!({ "token": token }).to_string();
    let answer = http(&site, "POST", "/api/signin", &[], &body).await;
    assert_eq!(answer.json()["token"], token);
}

#[tokio::test]
async fn what_is_no_token_is_refused_everywhere() {
    let site = Site::new().await;
    for wrong in ["", "x", &"0".repeat(64)] {
        let authorization = format!("Bearer {wrong}");
        let answer = get(&site, "/api/recordings", &[("Authorization", &authorization)]).await;
        assert_eq!(
            (answer.status, answer.json()["error"].as_str()),
            (401, Some("notauthenticated"))
        );
        let headers = [("authorization", authorization.as_str())];
        assert_eq!(status(Client::with_headers(&site, &headers).await), 401);
        let mut client = Client::connect(&site).await;
        let reply = client.ask(json!({ "request": "authenticate", "token": wrong })).await;
        assert_eq!(reply["error"], "notauthenticated");
    }
    assert_eq!(get(&site, "/api/recordings", &[]).await.status, 401);
}

#[tokio::test]
async fn signing_out_ends_the_token_and_the_sockets_on_it() {
    let site = Site::new().await;
    let authorization = bearer(&site, UserRole::Qa).await;
    let headers = [("authorization", authorization.as_str())];
    let mut client = Client::with_headers(&site, &headers).await.unwrap();
    let answer = http(&site, "POST", "/api/signout", &headers, "").await;
    assert_eq!(answer.status, 204);
    assert!(answer.headers["set-cookie"].starts_with("astlogger=; "));
    assert_eq!(client.closed().await, 1008);
    assert_eq!(get(&site, "/api/recordings", &headers).await.status, 401);
    assert_eq!(http(&site, "POST", "/api/signout", &headers, "").await.status, 401);
    let mut client = Client::connect(&site).await;
    let token = authorization.strip_prefix("Bearer ").unwrap();
    let reply = client.ask(json!({ "request": "authenticate", "token": token })).await;
    assert_eq!(reply["error"], "notauthenticated");
}

/// What was signed out is refused on every way in, and every socket of that session is closed; others go on.
async fn assert_signed_out(site: &Site, authorization: &str, other: &mut Client) {
    let headers = [("authorization", authorization)];
    for path in ["/api/recordings", "/api/audit", "/api/calls/own"] {
        assert_eq!(get(site, path, &headers).await.status, 401, "{path}");
    }
    for path in ["/api/signout", "/api/requests/signout", "/api/requests/clusterstatus"] {
        assert_eq!(http(site, "POST", path, &headers, "").await.status, 401, "{path}");
    }
    let token = authorization.strip_prefix("Bearer ").unwrap();
    let cookie = format!("astlogger={token}");
    assert_eq!(get(site, "/api/recordings", &[("cookie", &cookie)]).await.status, 401);
    let body = json!({ "token": token }).to_string();
    assert_eq!(http(site, "POST", "/api/signin", &[], &body).await.status, 401);
    assert_eq!(status(Client::with_headers(site, &headers).await), 401);
    let mut client = Client::connect(site).await;
    let reply = client.ask(json!({ "request": "authenticate", "token": token })).await;
    assert_eq!(reply["error"], "notauthenticated");
    assert_eq!(other.ask(json!({ "request": "clusterstatus" })).await["result"], "success");
}

#[tokio::test]
async fn signing_out_on_a_socket_ends_all_sockets_of_the_session() {
    let site = Site::new().await;
    let authorization = bearer(&site, UserRole::Qa).await;
    let headers = [("authorization", authorization.as_str())];
    let mut first = Client::with_headers(&site, &headers).await.unwrap();
    let mut second = Client::with_headers(&site, &headers).await.unwrap();
    let mut other = Client::signed_in(&site, UserRole::Qa).await;
    // What is asked right before it is answered, too.
    first.send(r#"{"request":"clusterstatus","id":1}"#).await;
    assert_eq!(first.reply().await["id"], 1);
    let reply = first.ask(json!({ "request": "signout", "id": 2 })).await;
    assert_eq!((&reply["id"], &reply["result"]), (&json!(2), &json!("success")));
    assert_eq!(first.closed().await, 1008);
    assert_eq!(second.closed().await, 1008);
    assert_signed_out(&site, &authorization, &mut other).await;

    let authorization = bearer(&site, UserRole::Agent).await;
    let headers = [("authorization", authorization.as_str())];
    let mut socket = Client::with_headers(&site, &headers).await.unwrap();
    let answer = http(&site, "POST", "/api/requests/signout", &headers, "").await;
    assert_eq!((answer.status, &answer.json()["result"]), (200, &json!("success")));
    assert_eq!(socket.closed().await, 1008);
    assert_signed_out(&site, &authorization, &mut other).await;
}

#[tokio::test]
async fn a_session_that_nobody_uses_ends_and_one_with_a_socket_does_not() {
    let idle = Duration::from_millis(700);
    let limits = Limits { session_idle: Some(idle), ..Limits::default() };
    let site = Site::with(limits, FakeNode::new()).await;
    let left = bearer(&site, UserRole::Qa).await;
    let held = bearer(&site, UserRole::Qa).await;
    let headers = [("authorization", held.as_str())];
    let mut socket = Client::with_headers(&site, &headers).await.unwrap();
    let told = get(&site, "/api/session", &[("authorization", &left)]).await.json();
    assert_eq!((&told["user"], &told["idleminutes"]), (&json!("quentin"), &json!(1)));
    // Not a wait for something to happen: this long nobody uses it.
    tokio::time::sleep(idle + Duration::from_millis(50)).await;
    let answer = get(&site, "/api/recordings", &[("authorization", &left)]).await;
    assert_eq!((answer.status, &answer.json()["error"]), (401, &json!("notauthenticated")));
    assert_eq!(socket.ask(json!({ "request": "listrecordings" })).await["result"], "success");
    assert_eq!(get(&site, "/api/recordings", &headers).await.status, 200);
}

#[tokio::test]
async fn whoever_is_removed_or_changed_is_signed_out_though_nobody_signs_in() {
    let site = Site::new().await;
    let mut quentin = Client::signed_in(&site, UserRole::Qa).await;
    let mut anna = Client::signed_in(&site, UserRole::Agent).await;
    let mut susan = Client::signed_in(&site, UserRole::Supervisor).await;
    let authorization = bearer(&site, UserRole::Qa).await;
    // He has gone; she has another station.
    let entries: Vec<_> = users().split("[[user]]").map(str::to_owned).collect();
    let left = entries.iter().filter(|entry| !entry.contains("quentin")).cloned();
    let left = left.collect::<Vec<_>>().join("[[user]]").replace("2611", "2612");
    std::fs::write(&site.users_file, left).unwrap();
    assert_eq!(quentin.closed().await, 1008);
    assert_eq!(anna.closed().await, 1008);
    assert_signed_out(&site, &authorization, &mut susan).await;
}

#[tokio::test]
async fn guessing_is_locked_out_and_others_are_not() {
    let site = Site::new().await;
    let mut client = Client::connect(&site).await;
    for _ in 0..5 {
        let reply = client.authenticate("susan", "wrong").await;
        assert_eq!(reply["error"], "notauthenticated");
    }
    let reply = client.authenticate("susan", PASSWORD).await;
    assert_eq!(reply["error"], "busy", "the right password is locked out, too");
    let body = json!({ "user": "susan", "password": PASSWORD }).to_string();
    let answer = http(&site, "POST", "/api/signin", &[], &body).await;
    assert_eq!(answer.status, 429);
    assert!(answer.headers.contains_key("retry-after"));
    for _ in 0..6 {
        let reply = client.authenticate("nobody", "wrong").await;
        assert!(reply["result"] == "fail");
    }
    assert_eq!(client.authenticate("quentin", PASSWORD).await["result"], "success");
}

#[tokio::test]
async fn a_change_of_the_users_file_counts_at_the_next_sign_in() {
    let site = Site::new().await;
    let mut quentin = Client::signed_in(&site, UserRole::Qa).await;
    let mut susan = Client::signed_in(&site, UserRole::Supervisor).await;
    let promoted = users().replace("role = \"qa\"", "role = \"admin\"");
    std::fs::write(&site.users_file, promoted).unwrap();
    let mut client = Client::connect(&site).await;
    assert_eq!(client.authenticate("quentin", PASSWORD).await["role"], "admin");
    assert_eq!(quentin.closed().await, 1008, "what he was is over");
    assert_eq!(susan.ask(json!({ "request": "listcalls" })).await["result"], "success");

    std::fs::write(&site.users_file, "[[user]]\nname = 7").unwrap();
    let mut client = Client::connect(&site).await;
    let reply = client.authenticate("quentin", PASSWORD).await;
    assert_eq!(reply["role"], "admin", "a broken file changes nothing");
}

#[tokio::test]
async fn without_a_users_file_all_is_served_but_nobody_signs_in() {
    let site = Site::without_users().await;
    assert_eq!(get(&site, "/readyz", &[]).await.status, 200);
    let mut client = Client::connect(&site).await;
    assert_eq!(client.authenticate("quentin", PASSWORD).await["error"], "notauthenticated");
    std::fs::write(&site.users_file, users()).unwrap();
    assert_eq!(client.authenticate("quentin", PASSWORD).await["role"], "qa");
}

#[tokio::test]
async fn cookies_are_for_our_own_page_only() {
    let site = Site::new().await;
    let body = json!({ "user": "quentin", "password": PASSWORD }).to_string();
    let own = format!("http://{}", site.server.address());
    let foreign = "http://evil.example";
    let refused = http(&site, "POST", "/api/signin", &[("Origin", foreign)], &body).await;
    assert_eq!(refused.status, 403);
    let answer = http(&site, "POST", "/api/signin", &[("Origin", &own)], &body).await;
    let set = &answer.headers["set-cookie"];
    for part in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"] {
        assert!(set.contains(part), "{set}");
    }
    assert!(!set.contains("Secure"), "without TLS the browser would not send it back");
    let cookie = set.split(';').next().unwrap().to_owned();
    let cookie = ("cookie", cookie.as_str());
    assert_eq!(get(&site, "/api/recordings", &[cookie]).await.status, 200);

    for (origin, expected) in [(Some(own.as_str()), 101), (Some(foreign), 403), (Some("null"), 403)]
    {
        let mut headers = vec![cookie];
        headers.extend(origin.map(|origin| ("origin", origin)));
        assert_eq!(status(Client::with_headers(&site, &headers).await), expected, "{origin:?}");
    }
    let mut page = Client::with_headers(&site, &[cookie, ("origin", &own)]).await.unwrap();
    assert_eq!(page.ask(json!({ "request": "listrecordings" })).await["result"], "success");
    let mut unknown = Client::with_headers(&site, &[cookie]).await.unwrap();
    let reply = unknown.ask(json!({ "request": "listrecordings" })).await;
    assert_eq!(reply["error"], "notauthenticated", "no browser, so no cookie");
    let headers = [("authorization", "Bearer x"), ("origin", foreign)];
    assert_eq!(status(Client::with_headers(&site, &headers).await), 403);

    for headers in [vec![cookie], vec![cookie, ("origin", foreign)]] {
        assert_eq!(http(&site, "POST", "/api/signout", &headers, "").await.status, 403);
    }
    let signed_out =
        http(&site, "POST", "/api/signout", &[cookie, ("origin", own.as_str())], "").await;
    assert_eq!(signed_out.status, 204);
    assert_eq!(get(&site, "/api/recordings", &[cookie]).await.status, 401);
}

#[tokio::test]
async fn a_sign_in_that_cannot_be_read() {
    let site = Site::new().await;
    for (body, expected) in [
        ("", 400),
        ("[]", 400),
        ("{\"user\":\"anna\"}", 400),
        ("{\"user\":\"anna\",\"password\":{}}", 400),
        ("{\"user\":\"anna\",\"password\":\"wrong\"}", 401),
        ("{\"user\":\"\",\"password\":\"\"}", 401),
    ] {
        let answer = http(&site, "POST", "/api/signin", &[], body).await;
        assert_eq!(answer.status, expected, "{body}");
        assert_eq!(answer.json()["result"], "fail");
    }
    let long = format!("{{\"user\":\"anna\",\"password\":\"{}\"}}", "x".repeat(2000));
    assert_eq!(http(&site, "POST", "/api/signin", &[], &long).await.status, 401);
    let long = format!("{{\"user\":\"{}\",\"password\":\"x\"}}", "x".repeat(2000));
    assert_eq!(http(&site, "POST", "/api/signin", &[], &long).await.status, 401);
    let longer = format!("{{\"user\":\"anna\",\"password\":\"{}\"}}", "x".repeat(70_000));
    assert_eq!(http(&site, "POST", "/api/signin", &[], &longer).await.status, 400);
}
