//! What no honest client sends, and what broken networks leave behind.

use std::time::Duration;

use astlogger::users::UserRole;
use astlogger::web::Limits;
use futures_util::SinkExt;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use super::client::{Client, answer, connect_from, get, metric, raw, raw_from, within};
use super::node::{FakeNode, PASSWORD, Site};

#[tokio::test]
async fn long_frames_close_1009() {
    let site = Site::new().await;
    // The longest is served.
    let mut client = Client::signed_in(&site, UserRole::Qa).await;
    let empty = json!({ "request": "clusterstatus", "x": "" }).to_string().len();
    let longest = json!({ "request": "clusterstatus", "x": "x".repeat(65_536 - empty) });
    assert_eq!(longest.to_string().len(), 65_536);
    assert_eq!(client.ask(longest).await["result"], "success");

    for bytes in [65_537, 100_000, 1_000_000, 12_000_000] {
        let mut client = Client::signed_in(&site, UserRole::Qa).await;
        // Taken, though not wanted: a reset could overtake the close.
        within(client.ws.send(Message::text("x".repeat(bytes)))).await.expect("reset");
        assert_eq!(client.closed().await, 1009, "{bytes}");
    }
    // In pieces.
    let mut client = Client::signed_in(&site, UserRole::Qa).await;
    for piece in 0..40 {
        let opcode = if piece == 0 { Data::Text } else { Data::Continue };
        let frame = Frame::message("x".repeat(2000), OpCode::Data(opcode), false);
        if within(client.ws.send(Message::Frame(frame))).await.is_err() {
            break;
        }
    }
    assert_eq!(client.closed().await, 1009);
    assert_eq!(metric(&site, "astlogger_web_bad_frames_total").await, 5);
}

#[tokio::test]
async fn binary_frames_close_1003() {
    let site = Site::new().await;
    for bytes in [0, 5] {
        let mut client = Client::connect(&site).await;
        client.ws.send(Message::binary(vec![1; bytes])).await.unwrap();
        assert_eq!(client.closed().await, 1003);
    }
}

#[tokio::test]
async fn what_is_no_object_is_told_and_the_third_in_a_row_closes_1007() {
    let site = Site::new().await;
    let mut client = Client::signed_in(&site, UserRole::Qa).await;
    for round in 0..3 {
        for text in ["", "[1]"] {
            client.send(text).await;
            let reply = client.reply().await;
            assert_eq!(reply["error"], "badvalue", "round {round}");
            assert_eq!(reply.get("id"), None);
        }
        // An object with nothing in it is one.
        assert_eq!(client.ask(json!({})).await["error"], "badvalue");
    }
    for text in ["{", "7", "hello"] {
        client.send(text).await;
        assert_eq!(client.reply().await["error"], "badvalue");
    }
    assert_eq!(client.closed().await, 1007);
}

/// The bytes of an upgrade, with what follows it at once.
fn upgrade_and(frames: &[u8]) -> Vec<u8> {
    let head = "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    [head.as_bytes(), frames].concat()
}

#[tokio::test]
async fn frames_that_break_the_rules() {
    let site = Site::new().await;
    let cases: [(&[u8], u16); 6] = [
        // A text that is not UTF-8.
        (&[0x81, 0x82, 0, 0, 0, 0, 0xff, 0xfe], 1007),
        // Not masked.
        (&[0x81, 0x02, b'{', b'}'], 1002),
        // Reserved bits, a reserved opcode, a long ping, a continuation of nothing.
        (&[0xf1, 0x80, 0, 0, 0, 0], 1002),
        (&[0x83, 0x80, 0, 0, 0, 0], 1002),
        (&[0x89, 0xfe, 0x00, 0x7e, 0, 0, 0, 0], 1002),
        (&[0x80, 0x80, 0, 0, 0, 0], 1002),
    ];
    for (frames, code) in cases {
        let mut bytes = upgrade_and(frames);
        bytes.extend(vec![0; 126]);
        let got = raw(site.server.address(), &bytes).await;
        let answer = answer(&got);
        assert_eq!(answer.status, 101);
        // An unmasked close: opcode, length, code.
        assert_eq!(answer.body[0], 0x88, "{frames:?}: {:?}", answer.body);
        assert_eq!(answer.body[2..4], code.to_be_bytes(), "{frames:?}");
    }
}

#[tokio::test]
async fn garbage_before_and_instead_of_an_upgrade() {
    let site = Site::new().await;
    let address = site.server.address();
    for (request, expected) in [
        ("GET /ws HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 400),
        ("POST /ws HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", 405),
        (
            "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 12\r\nSec-WebSocket-Key: x\r\n\r\n",
            400,
        ),
        ("GET / HTTP/3.7\r\n\r\n", 400),
        ("\r\n\r\nhello\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: x\r\nA\x01: b\r\n\r\n", 400),
    ] {
        assert_eq!(answer(&raw(address, request.as_bytes()).await).status, expected, "{request}");
    }
    let long = format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "a".repeat(100_000));
    assert_eq!(answer(&raw(address, long.as_bytes()).await).status, 431);
    let binary: Vec<u8> = (0..=255).cycle().take(5000).collect();
    raw(address, &binary).await;
    assert_eq!(get(&site, "/healthz", &[]).await.status, 200);
}

fn hurried() -> Limits {
    Limits {
        head_within: Duration::from_millis(300),
        idle: Duration::from_millis(1500),
        ping_every: Duration::from_millis(200),
        signin_within: Duration::from_millis(500),
        ..Limits::default()
    }
}

#[tokio::test]
async fn slow_heads_and_bodies_are_cut_off() {
    let site = Site::with(hurried(), FakeNode::new()).await;
    let address = site.server.address();
    for begun in ["", "GET / HTTP/1.1\r\nHost: x\r\n"] {
        let got = raw(address, begun.as_bytes()).await;
        assert!(got.is_empty() || answer(&got).status == 408, "{got:?}");
    }
    let begun = "POST /api/signin HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                 Content-Length: 100\r\n\r\n{\"user\":";
    assert_eq!(answer(&raw(address, begun.as_bytes()).await).status, 400);
}

/// Sends these bytes, and then one more of `dripped` at a time for as long as the server takes them.
async fn dripped(address: std::net::SocketAddr, begun: &str, dripped: &str) -> Vec<u8> {
    let tcp = TcpStream::connect(address).await.unwrap();
    let (mut read, mut write) = tcp.into_split();
    write.write_all(begun.as_bytes()).await.unwrap();
    let bytes: Vec<u8> = dripped.bytes().collect();
    let dripping = tokio::spawn(async move {
        for byte in bytes.iter().cycle() {
            if write.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let mut got = Vec::new();
    // Closed or reset: it is over.
    let _ = within(read.read_to_end(&mut got)).await;
    dripping.abort();
    got
}

#[tokio::test]
async fn what_comes_byte_by_byte_is_cut_off_all_the_same() {
    let site = Site::with(hurried(), FakeNode::new()).await;
    let address = site.server.address();
    let handshake = String::from_utf8(upgrade_and(b"")).unwrap();
    let handshake = handshake.trim_end().to_owned() + "\r\n";
    for begun in ["GET / HTTP/1.1\r\nHost: x\r\n", &handshake] {
        let got = dripped(address, begun, "X-A: b\r\n").await;
        assert!(got.is_empty() || answer(&got).status == 408, "{got:?}");
    }
    let begun = "POST /api/signin HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                 Content-Length: 60000\r\n\r\n{\"user\":\"";
    assert_eq!(answer(&dripped(address, begun, "a").await).status, 400);
    let begun = "POST /api/signin HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                 Transfer-Encoding: chunked\r\n\r\n";
    assert_eq!(answer(&dripped(address, begun, "1\r\na\r\n").await).status, 400);
}

#[tokio::test]
async fn half_a_frame_is_no_sign_of_somebody() {
    let site = Site::with(hurried(), FakeNode::new()).await;
    // A text of 100 bytes is begun.
    let got = raw(site.server.address(), &upgrade_and(&[0x81, 0xe4, 0, 0, 0, 0, b'{'])).await;
    let body = answer(&got).body;
    let close = body.windows(4).find(|four| four[0] == 0x88).expect("a close");
    assert_eq!(close[2..4], 1008_u16.to_be_bytes());
}

#[tokio::test]
async fn one_address_keeps_nobody_else_out() {
    let limits = Limits {
        connections: 6,
        connections_of_one: 3,
        head_within: Duration::from_secs(2),
        ..Limits::default()
    };
    let site = Site::with(limits, FakeNode::new()).await;
    let address = site.server.address();
    let request = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut tcp = connect_from("127.0.0.2", address).await;
        tcp.write_all(b"GET / HTTP/1.1\r\nHo").await.unwrap();
        held.push(tcp);
    }
    for _ in 0..10 {
        assert!(raw_from("127.0.0.2", address, request).await.is_empty(), "its fourth");
        let got = raw_from("127.0.0.3", address, request).await;
        assert_eq!(answer(&got).status, 200, "others are served");
    }
    assert!(metric(&site, "astlogger_web_connections_refused_total").await >= 10);
    // They are cut off, and its seats are its own again.
    for tcp in &mut held {
        let _ = within(tcp.read_to_end(&mut Vec::new())).await;
    }
    let served = within(async {
        loop {
            let got = raw_from("127.0.0.2", address, request).await;
            if !got.is_empty() {
                return answer(&got).status;
            }
        }
    });
    assert_eq!(served.await, 200);
}

#[tokio::test]
async fn who_tries_a_password_on_everybody_is_slowed_down_and_others_are_not() {
    let site = Site::new().await;
    let address = site.server.address();
    let sign_in = async |from: &str, user: &str, password: &str| {
        let body = json!({ "user": user, "password": password }).to_string();
        let head = "POST /api/signin HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
        let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        answer(&raw_from(from, address, request.as_bytes()).await)
    };
    for n in 0..50 {
        let refused = sign_in("127.0.0.2", &format!("user{n}"), "Summer2026").await;
        assert_eq!(refused.status, 401, "{n}");
    }
    let refused = sign_in("127.0.0.2", "quentin", PASSWORD).await;
    assert_eq!((refused.status, &refused.json()["error"]), (429, &json!("busy")));
    assert_eq!(sign_in("127.0.0.3", "quentin", PASSWORD).await.status, 200);
}

#[tokio::test]
async fn a_refusal_arrives_though_what_was_sent_is_not_read() {
    let site = Site::new().await;
    for _ in 0..20 {
        let tcp = TcpStream::connect(site.server.address()).await.unwrap();
        let (mut read, mut write) = tcp.into_split();
        let sending = tokio::spawn(async move {
            let head = "POST /api/signin HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n\r\n";
            write.write_all(&[head.as_bytes(), &[b'x'; 8_000_000]].concat()).await
        });
        let mut got = Vec::new();
        within(read.read_to_end(&mut got)).await.expect("reset");
        assert_eq!(answer(&got).status, 400);
        within(sending).await.unwrap().expect("reset");
    }
}

#[tokio::test]
async fn a_socket_that_does_not_sign_in_is_closed() {
    let site = Site::with(hurried(), FakeNode::new()).await;
    assert_eq!(Client::connect(&site).await.closed().await, 1008);
}

#[tokio::test]
async fn a_half_open_socket_is_dropped_and_one_that_answers_pings_is_not() {
    let site = Site::with(hurried(), FakeNode::new()).await;
    let mut alive = Client::signed_in(&site, UserRole::Qa).await;
    let mut tcp = TcpStream::connect(site.server.address()).await.unwrap();
    let token = super::client::token(&site, UserRole::Qa).await;
    let upgrade = String::from_utf8(upgrade_and(b"")).unwrap();
    let upgrade =
        upgrade.replace("\r\n\r\n", &format!("\r\nAuthorization: Bearer {token}\r\n\r\n"));
    tcp.write_all(upgrade.as_bytes()).await.unwrap();
    let mut got = Vec::new();
    // Answers pings while the other is waited for.
    tokio::select! {
        read = within(tcp.read_to_end(&mut got)) => { read.unwrap(); }
        message = alive.next() => panic!("{message:?}"),
    }
    let body = answer(&got).body;
    assert_eq!(body, [0x89, 0, 0x89, 0, 0x88, 0], "two pings, then the end");
    assert_eq!(alive.ask(json!({ "request": "clusterstatus" })).await["result"], "success");
}

#[tokio::test]
async fn a_connection_on_which_nothing_moves_is_closed() {
    let limits = Limits { head_within: Duration::from_secs(60), ..hurried() };
    let site = Site::with(limits, FakeNode::new()).await;
    assert!(raw(site.server.address(), b"GET / HT").await.is_empty());
}

#[tokio::test]
async fn connections_beyond_the_bound_are_closed_at_once() {
    let limits = Limits { connections: 3, ..Limits::default() };
    let site = Site::with(limits, FakeNode::new()).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(Client::connect(&site).await);
    }
    let mut tcp = TcpStream::connect(site.server.address()).await.unwrap();
    let mut got = Vec::new();
    // Closed or reset: nothing is served.
    let _ = within(tcp.read_to_end(&mut got)).await;
    assert!(got.is_empty());
    held.pop();
    let served = within(async {
        loop {
            let mut tcp = TcpStream::connect(site.server.address()).await.unwrap();
            let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
            let _ = tcp.write_all(request).await;
            let mut got = Vec::new();
            if tcp.read_to_end(&mut got).await.is_ok() && !got.is_empty() {
                return answer(&got).text();
            }
        }
    });
    let page = served.await;
    assert!(page.contains("astlogger_web_connections 3\n"), "{page}");
    assert!(!page.contains("astlogger_web_connections_refused_total 0\n"));
}
