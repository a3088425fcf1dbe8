//! Clients that know nothing of the server's code: a standard WebSocket, and HTTP by hand, so that
//! a test can send what no library would. Each wait has a deadline.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use astlogger::users::UserRole;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::node::{PASSWORD, Site, user_of};

const DEADLINE: Duration = Duration::from_secs(20);

/// The future's value, or a failed test after twenty seconds.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("nothing happened for twenty seconds")
}

/// A WebSocket client.
pub struct Client<S = TcpStream> {
    pub ws: WebSocketStream<S>,
    /// Events that came while a reply was waited for.
    pub events: Vec<Value>,
    /// Binary frames likewise.
    pub frames: Vec<Vec<u8>>,
}

impl Client {
    pub async fn connect(site: &Site) -> Self {
        Self::with_headers(site, &[]).await.expect("the upgrade is refused")
    }

    /// A client in this role.
    pub async fn signed_in(site: &Site, role: UserRole) -> Self {
        let mut client = Self::connect(site).await;
        let reply = client.authenticate(user_of(role), PASSWORD).await;
        assert_eq!(reply["result"], "success", "{reply}");
        client
    }

    pub async fn with_headers(
        site: &Site,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, Error> {
        let address = site.server.address();
        let tcp = TcpStream::connect(address).await.unwrap();
        let mut request = format!("ws://{address}/ws").into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        Self::over(tcp, request).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub async fn over(stream: S, request: impl IntoClientRequest + Unpin) -> Result<Self, Error> {
        let (ws, _) = within(tokio_tungstenite::client_async(request, stream)).await?;
        Ok(Self { ws, events: Vec::new(), frames: Vec::new() })
    }

    pub async fn authenticate(&mut self, user: &str, password: &str) -> Value {
        let request = json!({ "request": "authenticate", "user": user, "password": password });
        self.ask(request).await
    }

    pub async fn send(&mut self, text: impl Into<String>) {
        within(self.ws.send(Message::text(text.into()))).await.expect("the socket is closed");
    }

    pub async fn ask(&mut self, request: Value) -> Value {
        self.send(request.to_string()).await;
        self.reply().await
    }

    /// The next reply.
    pub async fn reply(&mut self) -> Value {
        loop {
            match self.next().await {
                Message::Text(text) => {
                    let value: Value = serde_json::from_str(&text).unwrap();
                    if value.get("result").is_some() {
                        return value;
                    }
                    self.events.push(value);
                }
                Message::Binary(frame) => self.frames.push(frame.to_vec()),
                other => panic!("instead of a reply: {other:?}"),
            }
        }
    }

    /// The next event.
    pub async fn event(&mut self) -> Value {
        if !self.events.is_empty() {
            return self.events.remove(0);
        }
        loop {
            match self.next().await {
                Message::Text(text) => {
                    let value: Value = serde_json::from_str(&text).unwrap();
                    assert!(value.get("eventtype").is_some(), "instead of an event: {value}");
                    return value;
                }
                Message::Binary(frame) => self.frames.push(frame.to_vec()),
                other => panic!("instead of an event: {other:?}"),
            }
        }
    }

    /// The next text or binary frame, or the close.
    pub async fn next(&mut self) -> Message {
        loop {
            match within(self.ws.next()).await.expect("the socket has ended").unwrap() {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return message,
            }
        }
    }

    /// The code with which the server closes, whatever comes before.
    pub async fn closed(&mut self) -> u16 {
        loop {
            if let Message::Close(frame) = self.next().await {
                return frame.expect("a close without a code").code.into();
            }
        }
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

/// Sends these bytes and reads until the server closes.
pub async fn raw(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut tcp = TcpStream::connect(address).await.unwrap();
    tcp.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    within(tcp.read_to_end(&mut answer)).await.unwrap();
    answer
}

/// The same from this address of the machine.
pub async fn raw_from(from: &str, address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut tcp = connect_from(from, address).await;
    // Whoever is not let in finds that out by reading.
    let _ = tcp.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = within(tcp.read_to_end(&mut answer)).await;
    answer
}

/// A connection from this address of the machine.
pub async fn connect_from(from: &str, address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
    within(socket.connect(address)).await.unwrap()
}

/// Asks once over a connection of its own.
pub async fn http(
    site: &Site,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let address = site.server.address();
    let mut request =
        format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
    answer(&raw(address, request.as_bytes()).await)
}

pub async fn get(site: &Site, path: &str, headers: &[(&str, &str)]) -> Answer {
    http(site, "GET", path, headers, "").await
}

/// Reads an answer that ends with the connection.
pub fn answer(bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("no HTTP answer");
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    Answer { status, headers, body: bytes[end + 4..].to_vec() }
}

/// A token for one in this role.
pub async fn token(site: &Site, role: UserRole) -> String {
    let body = json!({ "user": user_of(role), "password": PASSWORD }).to_string();
    let answer = http(site, "POST", "/api/signin", &[], &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["token"].as_str().unwrap().to_owned()
}

pub async fn bearer(site: &Site, role: UserRole) -> String {
    format!("Bearer {}", token(site, role).await)
}

/// The value of one of the server's metrics.
pub async fn metric(site: &Site, name: &str) -> i64 {
    let page = get(site, "/metrics", &[]).await.text();
    let line = page.lines().find(|line| line.starts_with(&format!("{name} ")));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).expect("no such metric")
}
