//! Alarms to an HTTP server: each notice one POST of JSON, signed if there is a secret. It says what is
//! sent and whether it was taken; when, and when again, is the outbox's matter.

use std::io;

use hmac::{Hmac, Mac};
use serde_json::json;
use sha2::Sha256;
use storage_core::NodeId;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::known;
use super::outbox::Notice;
use super::tell::NotSent;
use crate::config::Webhook;
use crate::tls_client;

/// All that is read of an answer: its status line.
const STATUS_BYTES_MAX: u64 = 1024;

/// What is told of a notice, as programs read it.
pub(super) fn body(node: NodeId, notice: &Notice) -> String {
    let change = &notice.change;
    let alarm = &change.alarm;
    json!({
        "event": if change.raised { "alarm" } else { "alarmcleared" },
        "alarm": alarm.name,
        "severity": known::severity(alarm.name).as_str(),
        "subject": alarm.subject,
        "message": alarm.message,
        "remedy": alarm.remedy,
        "node": node,
        "at": change.at,
        "number": notice.number,
    })
    .to_string()
}

/// The value of `X-AstLogger-Signature`: HMAC-SHA-256 (RFC 2104) of the body's bytes, in hexadecimal.
fn signature(secret: &str, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes any key");
    mac.update(body.as_bytes());
    let digits = mac.finalize().into_bytes();
    digits.iter().fold("sha256=".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// The request as it goes over the wire. Where it goes was checked when the configuration was read.
fn request(webhook: &Webhook, body: &str) -> String {
    let signed = webhook.secret.as_ref().map_or_else(String::new, |secret| {
        format!("X-AstLogger-Signature: {}\r\n", signature(secret.expose(), body))
    });
    format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: astlogger/{}\r\nContent-Type: application/json\r\n\
         {signed}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        webhook.path.expose(),
        webhook.place,
        env!("CARGO_PKG_VERSION"),
        body.len(),
    )
}

/// Posts it; it is taken when the server says so with a status of 2xx.
pub(super) async fn post(webhook: &Webhook, body: &str) -> Result<(), NotSent> {
    let place = &webhook.place;
    let tcp = TcpStream::connect((place.host.as_str(), place.port)).await?;
    let request = request(webhook, body);
    if !webhook.tls {
        return exchange(tcp, &request).await;
    }
    exchange(tls_client::connect(tcp, place, webhook.ca.as_deref()).await?, &request).await
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
) -> Result<(), NotSent> {
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    let mut reader = stream.take(STATUS_BYTES_MAX);
    while !answer.contains(&b'\n') {
        if reader.read_buf(&mut answer).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
    match status(&answer) {
        Some(200..=299) => Ok(()),
        Some(status) => Err(NotSent::Refused(format!("it answers with status {status}"))),
        None => Err(NotSent::Refused("it does not answer in HTTP".to_owned())),
    }
}

/// RFC 9112 section 4.
fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\n').next()?;
    let rest = std::str::from_utf8(line).ok()?.strip_prefix("HTTP/1.")?;
    rest.split(' ').nth(1)?.trim_end().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test case 2.
    #[test]
    fn a_signature_is_that_of_the_standard() {
        assert_eq!(
            signature("Jefe", "what do ya want for nothing?"),
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn a_status_is_read_where_it_stands() {
        for (answer, expected) in [
            ("HTTP/1.1 204 No Content\r\n", Some(204)),
            ("HTTP/1.0 200\r\n", Some(200)),
            ("HTTP/1.1 500 Internal Server Error\r\nX: HTTP/1.1 200\r\n", Some(500)),
            ("HTTP/2 200\r\n", None),
            ("220 mail.example.org ESMTP\r\n", None),
            ("", None),
        ] {
            assert_eq!(status(answer.as_bytes()), expected, "{answer}");
        }
    }
}
