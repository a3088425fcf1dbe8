//! HTTP/1.1 by hand, so that a test sees heads and bodies as they come.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Bench, PASSWORD};

/// The head and the body of the answer to a request with this head.
pub async fn http(bench: &Bench, head: &str, body: &str) -> (String, Vec<u8>) {
    let web = bench.node.web();
    let mut stream = TcpStream::connect(web).await.expect("it listens");
    let length = body.len();
    let request = format!(
        "{head}\r\nHost: {web}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    (String::from_utf8_lossy(&answer[..end]).into_owned(), answer[end + 4..].to_vec())
}

/// A session of the user `qa`, for requests over HTTP.
pub async fn token(bench: &Bench) -> String {
    let body = json!({"user": "qa", "password": PASSWORD}).to_string();
    let (head, body) =
        http(bench, "POST /api/signin HTTP/1.1\r\nContent-Type: application/json", &body).await;
    let said: Value = serde_json::from_slice(&body).unwrap_or_else(|_| panic!("{head}"));
    said["token"].as_str().expect("a token").to_owned()
}
