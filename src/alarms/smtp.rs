//! Hands one message to a mail server (RFC 5321), in TLS from the start or after STARTTLS (RFC 3207), with a
//! login by AUTH PLAIN (RFC 4954) where one is configured. What the message says is `mail`'s matter.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::tell::NotSent;
use crate::config::{Mail, MailSecurity};
use crate::tls_client::{self, TlsFailure};

/// An answer that is longer than this is none.
const ANSWER_BYTES_MAX: u64 = 16 << 10;

/// Sends it; it is taken when the server says so after its end.
pub(super) async fn send(mail: &Mail, message: &str) -> Result<(), NotSent> {
    let server = &mail.server;
    let tcp = TcpStream::connect((server.host.as_str(), server.port)).await?;
    let ca = mail.ca.as_deref();
    match mail.security {
        MailSecurity::Tls => {
            let mut smtp = Smtp::over(tls_client::connect(tcp, server, ca).await?);
            smtp.greeted().await?;
            smtp.deliver(mail, message).await
        }
        MailSecurity::StartTls => {
            let mut smtp = Smtp::over(tcp);
            smtp.greeted().await?;
            smtp.command("EHLO astlogger", "EHLO", 2).await?;
            smtp.command("STARTTLS", "STARTTLS", 2).await?;
            let tcp = smtp.into_plain()?;
            Smtp::over(tls_client::connect(tcp, server, ca).await?).deliver(mail, message).await
        }
        MailSecurity::Plain => {
            let mut smtp = Smtp::over(tcp);
            smtp.greeted().await?;
            smtp.deliver(mail, message).await
        }
    }
}

/// A connection on which the server and this node speak in turn.
struct Smtp<S> {
    stream: BufReader<S>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Smtp<S> {
    fn over(stream: S) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    async fn greeted(&mut self) -> Result<(), NotSent> {
        self.answer("a connection", 2).await
    }

    /// The bare connection. What the server has sent unasked before TLS may be of somebody in between.
    fn into_plain(self) -> Result<S, NotSent> {
        if self.stream.buffer().is_empty() {
            Ok(self.stream.into_inner())
        } else {
            Err(NotSent::Tls(TlsFailure("the server speaks in plain after STARTTLS".to_owned())))
        }
    }

    async fn deliver(&mut self, mail: &Mail, message: &str) -> Result<(), NotSent> {
        self.command("EHLO astlogger", "EHLO", 2).await?;
        if let Some((user, password)) = &mail.login {
            let login = STANDARD.encode(format!("\0{user}\0{}", password.expose()));
            self.command(&format!("AUTH PLAIN {login}"), "the login", 2).await?;
        }
        self.command(&format!("MAIL FROM:<{}>", mail.from), "al_alarmmailfrom", 2).await?;
        for to in &mail.to {
            self.command(&format!("RCPT TO:<{to}>"), to, 2).await?;
        }
        self.command("DATA", "DATA", 3).await?;
        let end = if message.ends_with("\r\n") { "." } else { "\r\n." };
        self.command(&(stuffed(message) + end), "the message", 2).await?;
        // It has the message; that it says goodbye, too, is not waited for.
        drop(self.stream.write_all(b"QUIT\r\n").await);
        drop(self.stream.flush().await);
        Ok(())
    }

    /// Says a line. `about` stands for it in errors, because the line itself may hold a password.
    async fn command(&mut self, line: &str, about: &str, class: u16) -> Result<(), NotSent> {
        self.stream.write_all(format!("{line}\r\n").as_bytes()).await?;
        self.stream.flush().await?;
        self.answer(about, class).await
    }

    /// Waits for an answer of this class of codes, of one or more lines.
    async fn answer(&mut self, about: &str, class: u16) -> Result<(), NotSent> {
        let mut limited = (&mut self.stream).take(ANSWER_BYTES_MAX);
        loop {
            let mut line = Vec::new();
            if limited.read_until(b'\n', &mut line).await? == 0 || !line.ends_with(b"\n") {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            match answer_line(&line) {
                Some((_, false)) => {}
                Some((code, true)) if code / 100 == class => return Ok(()),
                Some((code, true)) => {
                    return Err(NotSent::Refused(format!("the server answers {code} to {about}")));
                }
                None => {
                    return Err(NotSent::Refused(format!("no SMTP in the answer to {about}")));
                }
            }
        }
    }
}

/// Code, and whether it is the answer's last line (RFC 5321 section 4.2.1).
fn answer_line(line: &[u8]) -> Option<(u16, bool)> {
    let code = std::str::from_utf8(line.get(..3)?).ok()?;
    let code = code.bytes().all(|byte| byte.is_ascii_digit()).then(|| code.parse().ok())??;
    match line.get(3)? {
        b'-' => Some((code, false)),
        b' ' | b'\r' | b'\n' => Some((code, true)),
        _ => None,
    }
}

/// A line of a single dot would end the message (RFC 5321 section 4.5.2).
fn stuffed(message: &str) -> String {
    let inside = message.replace("\r\n.", "\r\n..");
    if inside.starts_with('.') { format!(".{inside}") } else { inside }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_goes_on_until_its_last_line() {
        for (line, read) in [
            ("250-mail.example.org\r\n", Some((250, false))),
            ("250 OK\r\n", Some((250, true))),
            ("220\r\n", Some((220, true))),
            ("+50 OK\r\n", None),
            ("HTTP/1.1 200\r\n", None),
            ("25", None),
        ] {
            assert_eq!(answer_line(line.as_bytes()), read, "{line}");
        }
    }

    #[test]
    fn no_line_of_a_message_ends_it() {
        assert_eq!(stuffed(".\r\n.x\r\na.\r\n"), "..\r\n..x\r\na.\r\n");
    }
}
