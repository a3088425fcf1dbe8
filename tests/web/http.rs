//! HTTP: audio with ranges and tags, records, probes, headers.

use std::sync::atomic::Ordering;

use astlogger::users::UserRole;

use super::client::{answer, bearer, get, http, raw};
use super::node::{Site, eventually, id, noise, sha256};

#[tokio::test]
async fn audio_by_range() {
    let site = Site::new().await;
    let audio = noise(200_000, 1);
    let recording = site.node.put(1, "2611", audio.clone());
    let path = format!("/api/recordings/{recording}/audio");
    let bearer = bearer(&site, UserRole::Qa).await;
    let etag = format!("\"{}\"", sha256(&audio));
    let stale = ("If-Range", "\"0\"");
    let fresh = ("If-Range", etag.as_str());
    type Headers<'a> = Vec<(&'a str, &'a str)>;
    let cases: Vec<(Headers<'_>, u16, &[u8], Option<&str>)> = vec![
        (vec![], 200, &audio, None),
        (vec![("Range", "bytes=0-0")], 206, &audio[..1], Some("bytes 0-0/200000")),
        (vec![("Range", "bytes=100-")], 206, &audio[100..], Some("bytes 100-199999/200000")),
        (vec![("Range", "bytes=-5")], 206, &audio[199_995..], Some("bytes 199995-199999/200000")),
        (
            vec![("Range", "bytes=70000-140000")],
            206,
            &audio[70_000..=140_000],
            Some("bytes 70000-140000/200000"),
        ),
        (vec![("Range", "bytes=0-1,5-6")], 200, &audio, None),
        (vec![("Range", "lines=0-1")], 200, &audio, None),
        (vec![("Range", "bytes=200000-")], 416, &[], Some("bytes */200000")),
        (vec![("Range", "bytes=0-0"), fresh], 206, &audio[..1], Some("bytes 0-0/200000")),
        (vec![("Range", "bytes=0-0"), stale], 200, &audio, None),
        (vec![("If-None-Match", &etag)], 304, &[], None),
        (vec![("If-None-Match", "\"0\"")], 200, &audio, None),
        (vec![("If-None-Match", "*"), ("Range", "bytes=0-0")], 304, &[], None),
    ];
    for (mut headers, status, body, range) in cases {
        headers.push(("Authorization", &bearer));
        let answer = get(&site, &path, &headers).await;
        assert_eq!(answer.status, status, "{headers:?}");
        assert!(answer.body == body, "{headers:?}");
        assert_eq!(answer.headers.get("content-range").map(String::as_str), range, "{headers:?}");
        if status < 300 {
            assert_eq!(answer.headers["etag"], etag);
            assert_eq!(answer.headers["accept-ranges"], "bytes");
            assert_eq!(answer.headers["content-type"], "audio/wav");
            assert_eq!(answer.headers["content-length"], body.len().to_string());
            let disposition = format!("attachment; filename=\"{recording}.wav\"");
            assert_eq!(answer.headers["content-disposition"], disposition);
        }
        let head = http(&site, "HEAD", &path, &headers, "").await;
        assert_eq!((head.status, head.body.len()), (status, 0), "{headers:?}");
        if status < 300 {
            assert_eq!(head.headers["content-length"], answer.headers["content-length"]);
        }
    }
    let query = |format: &str| format!("{path}?format={format}");
    let headers = [("Authorization", bearer.as_str())];
    assert_eq!(get(&site, &query("wav"), &headers).await.status, 200);
    assert_eq!(get(&site, &query("opus"), &headers).await.status, 503);
    assert_eq!(get(&site, &query("mp3"), &headers).await.status, 400);
    eventually("all audio is closed", || site.node.audio_open.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn the_waveform_is_that_of_the_audio() {
    let site = Site::new().await;
    let mut samples = vec![0_i16; 8_000];
    (samples[100], samples[7_999]) = (-16_384, 32_767);
    let mut wav = storage::wav::pcm_header(storage::wav::Channels::Mono, 8_000).to_vec();
    wav.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    let recording = site.node.put(1, "2611", wav);
    let broken = site.node.put(2, "2611", noise(1_000, 1));
    let bearer = bearer(&site, UserRole::Qa).await;
    let headers = [("Authorization", bearer.as_str())];
    let path = |id| format!("/api/recordings/{id}/waveform");
    let answer = get(&site, &format!("{}?points=4", path(recording)), &headers).await;
    assert_eq!(answer.status, 200);
    let told: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(told["peaks"], serde_json::json!([128, 0, 0, 255]));
    assert_eq!((&told["peakms"], &told["durationms"]), (&250.into(), &1_000.into()));
    assert_eq!(get(&site, &path(recording), &headers).await.status, 200);
    for (path, status) in [
        (format!("{}?points=0", path(recording)), 400),
        (format!("{}?points=many", path(recording)), 400),
        (path(broken), 500),
        (path(id(9)), 404),
    ] {
        assert_eq!(get(&site, &path, &headers).await.status, status, "{path}");
    }
    assert_eq!(get(&site, &path(recording), &[]).await.status, 401);
    eventually("all audio is closed", || site.node.audio_open.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn empty_audio() {
    let site = Site::new().await;
    let recording = site.node.put(1, "2611", Vec::new());
    let path = format!("/api/recordings/{recording}/audio");
    let bearer = bearer(&site, UserRole::Qa).await;
    let answer = get(&site, &path, &[("Authorization", &bearer)]).await;
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    let headers = [("Authorization", bearer.as_str()), ("Range", "bytes=0-")];
    assert_eq!(get(&site, &path, &headers).await.status, 416);
}

#[tokio::test]
async fn recordings_are_for_quality_and_supervisors() {
    let site = Site::new().await;
    let recording = site.node.put(1, "2611", vec![1]);
    site.node.put(2, "2612", vec![1]);
    for role in UserRole::ALL {
        let bearer = bearer(&site, role).await;
        let may = matches!(role, UserRole::Qa | UserRole::Supervisor);
        for path in [
            "/api/recordings".to_owned(),
            format!("/api/recordings/{recording}"),
            format!("/api/recordings/{recording}/audio"),
        ] {
            let answer = get(&site, &path, &[("Authorization", &bearer)]).await;
            assert_eq!(answer.status, if may { 200 } else { 403 }, "{role} {path}");
            assert_eq!(get(&site, &path, &[]).await.status, 401);
        }
    }
    let bearer = bearer(&site, UserRole::Qa).await;
    let headers = [("Authorization", bearer.as_str())];
    let list = get(&site, "/api/recordings?extension=2612&limit=10", &headers).await.json();
    assert_eq!(list["total"], 1);
    assert_eq!(list["recordings"][0]["extension"], "2612");
    assert_eq!(get(&site, "/api/recordings?limit=x", &headers).await.status, 400);
    let one = get(&site, &format!("/api/recordings/{recording}"), &headers).await.json();
    assert_eq!(one["recordingid"], recording.to_string());
}

#[tokio::test]
async fn paths_lead_nowhere_else() {
    let site = Site::new().await;
    let bearer = bearer(&site, UserRole::Qa).await;
    let headers = [("Authorization", bearer.as_str())];
    for name in [
        id(77).to_string(),
        "..%2f..%2fetc%2fpasswd".to_owned(),
        "%2e%2e".to_owned(),
        "%00".to_owned(),
        "x".repeat(5000),
        format!("%7B{}%7D", id(1)),
    ] {
        for end in ["", "/audio"] {
            let path = format!("/api/recordings/{name}{end}");
            assert_eq!(get(&site, &path, &headers).await.status, 404, "{path}");
        }
    }
    // Not UTF-8.
    assert_eq!(get(&site, "/api/recordings/%ff", &headers).await.status, 400);
    for path in ["/etc/passwd", "/../etc/passwd", "/api/", "/api/recordings/", "/ws/x"] {
        let answer = get(&site, path, &headers).await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.json()["error"], "notfound");
    }
    assert_eq!(http(&site, "DELETE", "/api/recordings", &headers, "").await.status, 405);
}

#[tokio::test]
async fn probes_and_metrics() {
    let site = Site::new().await;
    assert_eq!(get(&site, "/healthz", &[]).await.json()["status"], "ok");
    let ready = get(&site, "/readyz", &[]).await;
    assert_eq!((ready.status, &ready.json()["ready"]), (200, &true.into()));
    site.node.ready.store(false, Ordering::SeqCst);
    let ready = get(&site, "/readyz", &[]).await;
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json()["reasons"][0], "no phantom is registered");
    let metrics = get(&site, "/metrics", &[]).await;
    assert!(metrics.headers["content-type"].starts_with("text/plain; version=0.0.4"));
    let page = metrics.text();
    assert!(page.starts_with("astlogger_aes_up 1\n"), "{page}");
    assert!(page.contains("astlogger_web_connections 1\n"), "{page}");
}

#[tokio::test]
async fn every_answer_is_safe_for_a_browser() {
    let site = Site::new().await;
    for path in ["/api", "/healthz", "/nowhere", "/api/recordings", "/api/session", "/ws"] {
        let answer = get(&site, path, &[]).await;
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(answer.headers.get(name).map(String::as_str), Some(value), "{path}");
        }
        assert!(answer.headers["content-security-policy"].contains("default-src 'none'"));
    }
    let page = get(&site, "/api", &[]).await;
    assert!(page.headers["content-type"].starts_with("text/plain"));
    assert!(page.text().contains("/api/recordings"));
}

#[tokio::test]
async fn pages_load_what_is_ours_and_are_kept_by_version() {
    let site = Site::new().await;
    let page = get(&site, "/", &[]).await;
    assert_eq!(
        (page.status, page.headers["content-type"].as_str()),
        (200, "text/html; charset=utf-8")
    );
    assert_eq!(page.headers["cache-control"], "no-cache");
    let policy = page.headers["content-security-policy"].clone();
    for rule in
        ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"]
    {
        assert!(policy.contains(rule), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    for (name, value) in [("x-content-type-options", "nosniff"), ("referrer-policy", "no-referrer")]
    {
        assert_eq!(page.headers[name], value);
    }
    let known = [("If-None-Match", page.headers["etag"].as_str())];
    let again = get(&site, "/", &known).await;
    assert_eq!((again.status, again.body.len()), (304, 0));
    let text = page.text();
    let files: Vec<&str> = text.split(['"']).filter(|word| word.starts_with("/page/")).collect();
    assert_eq!(files.len(), 3, "{text}");
    for path in &files {
        let file = get(&site, path, &[]).await;
        assert_eq!(file.status, 200, "{path}");
        assert_eq!(file.headers["cache-control"], "public, max-age=31536000, immutable");
        assert_eq!(file.headers["x-content-type-options"], "nosniff");
        assert!(!file.body.is_empty());
    }
    let version = files[0].split('/').nth(2).unwrap();
    assert_eq!(version.len(), 16, "{text}");
    for path in [
        "/page/0000000000000000/qa.js".to_owned(),
        format!("/page/{version}/../qa.js"),
        format!("/page/{version}/qa.rs"),
    ] {
        assert_eq!(get(&site, &path, &[]).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_page_can_ask_who_is_signed_in() {
    let site = Site::new().await;
    let nobody = get(&site, "/api/session", &[]).await;
    assert_eq!((nobody.status, nobody.json()), (200, serde_json::json!({ "user": null })));
    let wrong = get(&site, "/api/session", &[("Cookie", "astlogger=0123")]).await;
    assert_eq!(wrong.json(), serde_json::json!({ "user": null }));
    let bearer = bearer(&site, UserRole::Agent).await;
    let token = bearer.trim_start_matches("Bearer ");
    let agent =
        get(&site, "/api/session", &[("Cookie", &format!("astlogger={token}"))]).await.json();
    assert_eq!(
        (&agent["user"], &agent["role"], &agent["extension"]),
        (&"anna".into(), &"agent".into(), &"2611".into())
    );
    assert!(agent.get("token").is_none());
}

#[tokio::test]
async fn an_agent_asks_for_the_calls_at_his_own_station() {
    let site = Site::new().await;
    for (role, status, calls) in [
        (UserRole::Agent, 200, 1),
        // Tied to no station.
        (UserRole::Supervisor, 200, 0),
        (UserRole::Qa, 403, 0),
        (UserRole::Auditor, 403, 0),
        (UserRole::Admin, 403, 0),
    ] {
        let bearer = bearer(&site, role).await;
        let answer = get(&site, "/api/calls/own", &[("Authorization", &bearer)]).await;
        assert_eq!(answer.status, status, "{role}");
        if status == 200 {
            assert_eq!(answer.json()["calls"].as_array().unwrap().len(), calls, "{role}");
        }
    }
    assert_eq!(get(&site, "/api/calls/own", &[]).await.status, 401);
}

#[tokio::test]
async fn several_requests_on_one_connection() {
    let site = Site::new().await;
    let one = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    let last = "GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let got = raw(site.server.address(), format!("{one}{one}{last}").as_bytes()).await;
    let text = String::from_utf8(got.clone()).unwrap();
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 3, "{text}");
    assert_eq!(answer(&got).status, 200);
}
