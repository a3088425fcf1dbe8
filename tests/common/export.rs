//! Exports as a person has them made and downloads them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use astlogger::demo::{Cti, Heard};
use serde_json::{Value, json};

use super::PASSWORD;

/// The next event of any export.
pub async fn event(cti: &mut Cti) -> Value {
    loop {
        if let Heard::Text(value) = cti.next().await.expect("an event")
            && value["eventtype"].as_str().is_some_and(|name| name.starts_with("export"))
        {
            return value;
        }
    }
}

/// What is told of an export at last, which must not break off.
pub async fn complete(cti: &mut Cti) -> Value {
    loop {
        let told = event(cti).await;
        assert_ne!(told["state"], "failed", "{told}");
        if told["eventtype"] == "exportcomplete" {
            return told;
        }
    }
}

/// What downloads are asked with.
pub async fn token(cti: &mut Cti) -> String {
    let request = json!({ "request": "authenticate", "user": "qa", "password": PASSWORD });
    cti.ask(request).await.expect("a reply")["token"].as_str().expect("one").to_owned()
}

/// Fetches from `from` on, `most` bytes at most, and appends them to a file. The whole length.
pub fn fetch(web: SocketAddr, token: &str, address: &str, file: &Path, most: u64) -> u64 {
    let from = std::fs::metadata(file).map_or(0, |meta| meta.len());
    let mut tcp = TcpStream::connect(web).expect("it listens");
    write!(
        tcp,
        "GET {address} HTTP/1.1\r\nHost: {web}\r\nAuthorization: Bearer {token}\r\nRange: bytes={from}-\r\n\
         Connection: close\r\n\r\n"
    )
    .expect("it reads");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        tcp.read_exact(&mut byte).expect("a head");
        head.extend(byte);
    }
    let head = String::from_utf8(head).expect("text").to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 206"), "{head}");
    let range = head.lines().find(|line| line.starts_with("content-range: ")).expect("a range");
    let whole = range.rsplit('/').next().expect("a length").trim().parse().expect("a number");
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(file).expect("there");
    std::io::copy(&mut tcp.take(most), &mut file).expect("it goes on");
    whole
}
