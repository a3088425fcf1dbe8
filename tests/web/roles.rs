//! Who may ask for what, on every way in: each request on the socket and over HTTP, and each address, by every role and
//! by nobody. The tables are written from the outside contract and not from the program; that they are whole is
//! seen by what the program's source names.

use astlogger::users::UserRole;
use serde_json::{Value, json};

use super::client::{Client, bearer, http, raw};
use super::node::{PASSWORD, Site, noise, user_of};

/// By agent, supervisor, qa, auditor, admin.
const REQUESTS: &[(&str, &str)] = &[
    ("authenticate", "y y y y y"),
    ("signout", "y y y y y"),
    ("listrecordings", "- y y - -"),
    ("getrecording", "- y y - -"),
    ("fetchrecording", "- y y - -"),
    ("cancelfetch", "- y y - -"),
    ("startrecording", "y y - - -"),
    ("stoprecording", "y y - - -"),
    ("pauserecording", "y y - - -"),
    ("resumerecording", "y y - - -"),
    ("tagrecording", "y y y - -"),
    ("scorerecording", "- y y - -"),
    ("listscorecards", "- y y - -"),
    ("listcalls", "- y - - -"),
    ("listen", "- y - - -"),
    ("stoplisten", "- y - - -"),
    ("subscribe", "y y y y y"),
    ("unsubscribe", "y y y y y"),
    ("clusterstatus", "y y y y y"),
    ("completeness", "- y y y y"),
    ("repairrecording", "- - y - y"),
    ("legalhold", "- - - - y"),
    ("listholds", "- - - y y"),
    ("deleterecording", "- - - - y"),
    ("exportrecordings", "- - y - -"),
    ("listexports", "- - y - -"),
    ("cancelexport", "- - y - -"),
    ("listaudit", "- - - y y"),
    ("drill", "- - - - y"),
];

/// By nobody, then as above. The method is the one that the address has.
const ADDRESSES: &[(&str, &str, &str)] = &[
    ("GET", "/", "y y y y y y"),
    ("GET", "/supervisor", "y y y y y y"),
    ("GET", "/health", "y y y y y y"),
    ("GET", "/custody", "y y y y y y"),
    ("GET", "/audit", "y y y y y y"),
    ("GET", "/page/{version}/{name}", "y y y y y y"),
    ("GET", "/ws", "y y y y y y"),
    ("GET", "/api", "y y y y y y"),
    ("GET", "/api/openapi.yaml", "y y y y y y"),
    ("GET", "/api/asyncapi.yaml", "y y y y y y"),
    ("GET", "/api/session", "y y y y y y"),
    ("POST", "/api/signin", "y y y y y y"),
    ("POST", "/api/signout", "- y y y y y"),
    // There is no provider here, which is told to everybody.
    ("GET", "/api/oidc/start", "y y y y y y"),
    ("GET", "/api/oidc/callback", "y y y y y y"),
    ("POST", "/api/requests/{name}", "- y y y y y"),
    ("GET", "/api/recordings", "- - y y - -"),
    ("GET", "/api/recordings/{id}", "- - y y - -"),
    ("GET", "/api/recordings/{id}/audio", "- - y y - -"),
    ("GET", "/api/recordings/{id}/waveform", "- - y y - -"),
    ("GET", "/api/exports/{id}", "- - - y - -"),
    ("GET", "/api/calls/own", "- y y - - -"),
    ("GET", "/api/completeness", "- - y y y y"),
    ("GET", "/api/audit", "- - - - y y"),
    // Whoever is on this machine, as `astlogger status`.
    ("GET", "/api/status", "y y y y y y"),
    ("GET", "/metrics", "y y y y y y"),
    ("GET", "/healthz", "y y y y y y"),
    ("GET", "/readyz", "y y y y y y"),
];

const PROTOCOL: &str = include_str!("../../src/web/protocol.rs");
const HTTP: &str = include_str!("../../src/web/http.rs");
const PAGES: &str = include_str!("../../src/web/pages.rs");

/// What stands between quotation marks behind each of these words in the source.
fn named(source: &str, before: &str) -> Vec<String> {
    let code = source.split("#[cfg(test)]").next().unwrap();
    let behind = code.split(before).skip(1);
    let mut names: Vec<_> =
        behind.filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect();
    names.sort_unstable();
    names
}

fn sorted<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut names: Vec<_> = names.map(str::to_owned).collect();
    names.sort_unstable();
    names
}

#[test]
fn the_tables_are_whole() {
    assert_eq!(named(PROTOCOL, "row(\""), sorted(REQUESTS.iter().map(|(name, _)| *name)));
    let pages = named(PAGES, "(\"/").into_iter().map(|page| format!("/{page}"));
    let mut routes: Vec<_> = named(HTTP, ".route(\"").into_iter().chain(pages).collect();
    routes.sort_unstable();
    assert_eq!(routes, sorted(ADDRESSES.iter().map(|(_, path, _)| *path)));
}

fn marks(text: &str) -> impl Iterator<Item = bool> {
    text.split(' ').map(|mark| mark == "y")
}

#[tokio::test]
async fn every_request_by_every_role_on_the_socket() {
    let site = Site::new().await;
    for (place, role) in UserRole::ALL.into_iter().enumerate() {
        let mut client = Client::signed_in(&site, role).await;
        for (name, allowed) in REQUESTS {
            let allowed = marks(allowed).nth(place).unwrap();
            let reply = client.ask(json!({ "request": name, "id": name })).await;
            assert_eq!(reply["id"], *name);
            let refused = reply["error"] == "forbidden";
            assert_eq!(refused, !allowed, "{name} by {role}: {reply}");
            assert_ne!(reply["error"], "notauthenticated", "{name} by {role}");
            if *name == "signout" {
                assert_eq!(client.closed().await, 1008);
                client = Client::signed_in(&site, role).await;
            }
        }
        let reply = client.ask(json!({ "request": "makecoffee" })).await;
        assert_eq!(reply["error"], "unknownrequest");
    }
}

#[tokio::test]
async fn every_request_by_every_role_over_http() {
    let site = Site::new().await;
    for (place, role) in UserRole::ALL.into_iter().enumerate() {
        for (name, allowed) in REQUESTS {
            let allowed = marks(allowed).nth(place).unwrap();
            let bearer = bearer(&site, role).await;
            let headers = [("Authorization", bearer.as_str())];
            // Names are not told apart by case.
            for name in [(*name).to_owned(), name.to_uppercase()] {
                let path = format!("/api/requests/{name}");
                let answer = http(&site, "POST", &path, &headers, "").await;
                let refused = answer.status == 403;
                assert_eq!(refused, !allowed, "{name} by {role}: {}", answer.text());
                if allowed && name == "signout" {
                    break;
                }
                assert_ne!(answer.status, 401, "{name} by {role}");
            }
        }
    }
}

#[tokio::test]
async fn every_request_by_nobody() {
    let site = Site::new().await;
    let mut client = Client::connect(&site).await;
    for (name, _) in REQUESTS.iter().filter(|(name, _)| *name != "authenticate") {
        for name in [(*name).to_owned(), name.to_uppercase()] {
            let reply = client.ask(json!({ "request": name, "role": "admin" })).await;
            assert_eq!(reply["error"], "notauthenticated", "{name}");
            let answer = http(&site, "POST", &format!("/api/requests/{name}"), &[], "").await;
            assert_eq!(answer.status, 401, "{name}");
        }
    }
    let reply = client.ask(json!({ "request": "makecoffee" })).await;
    assert_eq!(reply["error"], "notauthenticated", "not even what there is");
    assert_eq!(http(&site, "POST", "/api/requests/makecoffee", &[], "").await.status, 401);
}

/// A path that is there, for one that has parts in braces.
async fn real(site: &Site, path: &str) -> String {
    let id = site.node.put(1, "2611", noise(1_000, 1)).to_string();
    let page = http(site, "GET", "/", &[], "").await.text();
    let script = page.split("\"/page/").nth(1).unwrap().split('"').next().unwrap();
    let (version, file) = script.split_once('/').unwrap();
    path.replace("{id}", &id)
        .replace("{version}", version)
        .replace("requests/{name}", "requests/clusterstatus")
        .replace("{name}", file)
}

#[tokio::test]
async fn every_address_by_every_role_and_by_nobody() {
    let site = Site::new().await;
    for (method, path, allowed) in ADDRESSES {
        let path = real(&site, path).await;
        let who = [None].into_iter().chain(UserRole::ALL.map(Some));
        for (role, allowed) in who.zip(marks(allowed)) {
            let bearer = match role {
                Some(role) => bearer(&site, role).await,
                None => String::new(),
            };
            let headers: Vec<_> =
                role.map(|_| ("Authorization", bearer.as_str())).into_iter().collect();
            let answer = http(&site, method, &path, &headers, "").await;
            let refused = if role.is_some() { 403 } else { 401 };
            let told = format!("{method} {path} by {role:?}");
            assert_eq!(answer.status == refused, !allowed, "{told}: {}", answer.status);
            if !allowed {
                let answer: Value = answer.json();
                assert_eq!(answer["result"], "fail", "{told}: nothing else is told");
                assert!(answer.get("recordings").is_none() && answer.get("entries").is_none());
            }
        }
        // What is not the address's method is nobody's.
        let bearer = bearer(&site, UserRole::Admin).await;
        let headers = [("Authorization", bearer.as_str())];
        for other in ["PUT", "DELETE", "PATCH", "TRACE", "PROPFIND"] {
            let status = http(&site, other, &path, &headers, "").await.status;
            // The socket's address looks at whose page asks first, and refuses all the same.
            assert!([400, 405].contains(&status), "{other} {path}: {status}");
        }
    }
}

#[tokio::test]
async fn no_foreign_page_can_post_anything() {
    let site = Site::new().await;
    let body = json!({ "user": user_of(UserRole::Admin), "password": PASSWORD }).to_string();
    for (_, path, _) in ADDRESSES.iter().filter(|(method, ..)| *method == "POST") {
        let bearer = bearer(&site, UserRole::Admin).await;
        let cookie = format!("astlogger={}", bearer.trim_start_matches("Bearer "));
        let path = real(&site, path).await;
        let own = format!("http://{}", site.server.address());
        let near = format!("{own}.evil.example");
        for origin in ["https://evil.example", "null", "", &near, "http://127.0.0.1:1"] {
            let headers = [("Cookie", cookie.as_str()), ("Origin", origin)];
            let answer = http(&site, "POST", &path, &headers, &body).await;
            assert_eq!(answer.status, 403, "{path} from {origin:?}: {}", answer.text());
            assert!(!answer.headers.contains_key("set-cookie"), "{path} from {origin:?}");
        }
        let headers = [("Cookie", cookie.as_str()), ("Origin", own.as_str())];
        let answer = http(&site, "POST", &path, &headers, &body).await;
        assert!(answer.status < 300, "{path} from our own page: {}", answer.text());
    }
}

#[tokio::test]
async fn tricks_with_paths_lead_nowhere() {
    let site = Site::new().await;
    let secret = std::fs::read_to_string(&site.users_file).unwrap();
    let secret = secret.lines().find(|line| line.starts_with("password")).unwrap();
    for (method, path, _) in ADDRESSES {
        let path = real(&site, path).await;
        let bearer = bearer(&site, UserRole::Qa).await;
        let slash = path.trim_end_matches('/');
        let tricks = [
            format!("/..{path}x"),
            format!("{slash}/../users.toml"),
            format!("{slash}/../../../../../../etc/passwd"),
            format!("{slash}/%2e%2e/%2e%2e/users.toml"),
            format!("{slash}/%2E%2E%2F%2E%2E%2Fetc%2Fpasswd"),
            format!("{slash}/..%5c..%5cusers.toml"),
            format!("{slash}/..\\..\\users.toml"),
            format!("{slash}/%c0%ae%c0%ae/users.toml"),
            format!("{slash}/%252e%252e/users.toml"),
            format!("{slash}%00"),
            format!("{slash}/%00.toml"),
            format!("/{path}x"),
            format!("{slash}//users.toml"),
            format!("{slash}/./users.toml"),
            format!("{slash};users.toml"),
        ];
        for trick in tricks {
            let answer = http(&site, method, &trick, &[("Authorization", &bearer)], "").await;
            assert!(
                [400, 404, 405].contains(&answer.status),
                "{method} {trick}: {}",
                answer.status
            );
            let body = String::from_utf8_lossy(&answer.body).into_owned();
            assert!(!body.contains(secret) && !body.contains("root:"), "{method} {trick}");
        }
    }
}

#[tokio::test]
async fn nothing_is_fetched_from_anybody_else() {
    let site = Site::new().await;
    let other = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let there = other.local_addr().unwrap();
    for (line, expected) in [
        (format!("GET http://{there}/x HTTP/1.1"), "404"),
        (format!("GET http://{there}/api/recordings HTTP/1.1"), "401"),
        (format!("CONNECT {there} HTTP/1.1"), "40"),
        ("OPTIONS * HTTP/1.1".to_owned(), "40"),
    ] {
        let request = format!("{line}\r\nHost: {there}\r\nConnection: close\r\n\r\n");
        let got = raw(site.server.address(), request.as_bytes()).await;
        let got = String::from_utf8_lossy(&got);
        assert!(got.starts_with(&format!("HTTP/1.1 {expected}")), "{line}: {got}");
    }
    let come = tokio::time::timeout(std::time::Duration::from_millis(100), other.accept()).await;
    assert!(come.is_err(), "somebody was asked");
}

/// Somebody who may make a request, or go to an address.
fn who_may(allowed: &str) -> UserRole {
    let may = UserRole::ALL.into_iter().zip(marks(allowed)).find(|(_, may)| *may);
    may.expect("somebody may").0
}

#[tokio::test]
async fn a_token_that_was_signed_out_is_nobodys_everywhere() {
    let site = Site::new().await;
    for role in UserRole::ALL {
        let bearer = bearer(&site, role).await;
        let cookie = format!("astlogger={}", bearer.trim_start_matches("Bearer "));
        let own = format!("http://{}", site.server.address());
        let ways = [
            vec![("Authorization", bearer.as_str())],
            vec![("Cookie", cookie.as_str()), ("Origin", own.as_str())],
        ];
        assert_eq!(http(&site, "POST", "/api/signout", &ways[0], "").await.status, 204);
        for headers in &ways {
            for (name, _) in REQUESTS {
                let path = format!("/api/requests/{name}");
                let answer = http(&site, "POST", &path, headers, "").await;
                assert_eq!(answer.status, 401, "{name} by {role}: {}", answer.text());
            }
            // Those that are nobody's.
            for (method, path, _) in ADDRESSES.iter().filter(|(.., who)| who.starts_with('-')) {
                let path = real(&site, path).await;
                let answer = http(&site, method, &path, headers, "").await;
                assert_eq!(answer.status, 401, "{path} by {role}: {}", answer.text());
            }
        }
    }
}

#[tokio::test]
async fn nothing_that_is_sent_as_an_argument_is_more_than_refused() {
    const NAMES: [&str; 20] = [
        "recordingid",
        "extension",
        "ucid",
        "from",
        "to",
        "hold",
        "limit",
        "cursor",
        "day",
        "events",
        "answers",
        "scorecard",
        "comment",
        "reason",
        "on",
        "add",
        "export",
        "format",
        "listen",
        "minscore",
    ];
    let site = Site::new().await;
    site.node.put(1, "2611", noise(1_000, 1));
    let long = "x".repeat(60_000);
    let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    let script = "<script>alert(1)</script>";
    let values = [
        "null".to_owned(),
        "-1".to_owned(),
        "1e999".to_owned(),
        "99999999999999999999999999".to_owned(),
        "\"\\u0000'; DROP TABLE record; --\"".to_owned(),
        "\"../../../../etc/passwd\"".to_owned(),
        json!(long).to_string(),
        json!(script).to_string(),
        "{\"a\":{\"b\":[]}}".to_owned(),
        deep,
    ];
    for (turn, (name, allowed)) in REQUESTS.iter().enumerate().filter(|(_, row)| row.0 != "signout")
    {
        let role = who_may(allowed);
        let mut client = Client::signed_in(&site, role).await;
        // A fifth of all that can be put together, another one for each request: each frame is written down.
        let pairs = NAMES.iter().enumerate().flat_map(|(at, argument)| {
            values.iter().enumerate().map(move |(place, value)| (at + place, argument, value))
        });
        for (_, argument, value) in pairs.filter(|(place, ..)| place % 5 == turn % 5) {
            let frame = format!("{{\"request\":\"{name}\",\"id\":7,\"{argument}\":{value}}}");
            client.send(frame.clone()).await;
            let reply = client.reply().await;
            let told = format!("{}: {reply:.200}", frame.chars().take(100).collect::<String>());
            assert_eq!(reply["id"], 7, "{told}");
            assert_ne!(reply["error"], "internal", "{told}");
            // The audit log has what was asked.
            let repeats = *name != "listaudit" && reply.to_string().contains(&long[..2_000]);
            assert!(!repeats, "{told}: all of it comes back");
        }
        let bearer = bearer(&site, role).await;
        let (path, huge) = (format!("/api/requests/{name}"), "x".repeat(1 << 20));
        let body = json!({ "reason": huge }).to_string();
        let headers = [("Authorization", bearer.as_str())];
        assert_eq!(http(&site, "POST", &path, &headers, &body).await.status, 400, "{name}");
    }
    // It is as it was.
    let bearer = bearer(&site, UserRole::Qa).await;
    let listed = http(&site, "GET", "/api/recordings", &[("Authorization", &bearer)], "").await;
    assert_eq!(listed.json()["recordings"].as_array().map(Vec::len), Some(1));
}
