//! The other end of the console: sends a line, reads the answer up to its end. What is done with
//! the answer is the command's matter.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::output::one_line;
use crate::config::Console;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// A node that works says something at least so often: it reports while it waits.
const SILENCE: Duration = Duration::from_secs(30);
/// No line of an answer is longer.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// Nobody listens there.
    #[error("no node answers at {place}: {source}")]
    Unreachable {
        /// Where.
        place: Console,
        /// Why.
        source: io::Error,
    },
    /// The connection ended too early.
    #[error("the connection to {0} ended before the answer did")]
    Broken(Console),
    /// Somebody else listens there.
    #[error("what answers at {0} is no AstLogger console, or does not answer any more")]
    Silent(Console),
}

/// How an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It was done.
    Ok,
    /// It was not: code and message.
    Error(String, String),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection to a console.
pub struct Client {
    place: Console,
    stream: BufReader<Box<dyn Stream>>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// If nobody listens there.
    pub async fn connect(place: Console) -> Result<Self, NoAnswer> {
        let connect = async {
            Ok::<Box<dyn Stream>, io::Error>(match &place {
                Console::Tcp(address) => Box::new(TcpStream::connect(address).await?),
                Console::Unix(path) => Box::new(UnixStream::connect(path).await?),
            })
        };
        let timed = timeout(CONNECT, connect).await;
        match timed.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => Ok(Self { place, stream: BufReader::new(stream) }),
            Err(source) => Err(NoAnswer::Unreachable { place, source }),
        }
    }

    /// Sends a line, and the one that belongs to it, and reads the answer; `told` hears each line
    /// as soon as it is there.
    ///
    /// # Errors
    /// If the answer does not come to its end.
    pub async fn ask(
        &mut self,
        line: &str,
        second: Option<&str>,
        mut told: impl FnMut(&str),
    ) -> Result<End, NoAnswer> {
        let mut sent = one_line(line) + "\n";
        if let Some(second) = second {
            sent += &one_line(second);
            sent.push('\n');
        }
        // A node that refuses the connection says why before it closes it.
        let refused = self.stream.get_mut().write_all(sent.as_bytes()).await.is_err();
        loop {
            let line = match timeout(SILENCE, read_line(&mut self.stream)).await {
                Err(_) => return Err(NoAnswer::Silent(self.place.clone())),
                Ok(Ok(Some(line))) => line,
                Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                    return Err(NoAnswer::Silent(self.place.clone()));
                }
                Ok(_) => return Err(NoAnswer::Broken(self.place.clone())),
            };
            if line == "ok" && !refused {
                return Ok(End::Ok);
            }
            if let Some(failure) = line.strip_prefix("error ") {
                let (code, message) = failure.split_once(' ').unwrap_or((failure, ""));
                return Ok(End::Error(code.to_owned(), message.to_owned()));
            }
            told(&line);
        }
    }
}

/// One line without its end; nothing at the end of the stream.
async fn read_line<R: AsyncBufRead + Unpin>(reader: &mut R) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    loop {
        let bytes = reader.fill_buf().await?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let newline = bytes.iter().position(|byte| *byte == b'\n');
        let taken = newline.unwrap_or(bytes.len());
        if line.len() + taken > LINE_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        line.extend_from_slice(&bytes[..taken]);
        reader.consume(newline.map_or(taken, |at| at + 1));
        if newline.is_some() {
            let text = String::from_utf8(line).map_err(|_| io::ErrorKind::InvalidData)?;
            return Ok(Some(one_line(text.trim_end_matches('\r'))));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Asks somebody who answers this.
    async fn answered(answer: &'static [u8]) -> (Result<End, String>, Vec<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = Console::Tcp(listener.local_addr().unwrap());
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(answer).await.unwrap();
            stream.shutdown().await.unwrap();
            stream
        };
        let ask = async {
            let mut client = Client::connect(place).await.unwrap();
            let mut lines = Vec::new();
            let end = client.ask("help", None, |line| lines.push(line.to_owned())).await;
            (end.map_err(|error| error.to_string()), lines)
        };
        tokio::join!(ask, serve).0
    }

    #[tokio::test]
    async fn an_answer_ends_with_ok_or_error() {
        for (answer, end, lines) in [
            (&b"ok\n"[..], End::Ok, 0),
            (b"one\r\n ok\ntwo\nok\n", End::Ok, 3),
            (b"error nocall no call\n", End::Error("nocall".into(), "no call".into()), 0),
            (b"a\nerror busy\n", End::Error("busy".into(), String::new()), 1),
        ] {
            let told = answered(answer).await;
            assert_eq!((told.0, told.1.len()), (Ok(end), lines));
        }
    }

    #[tokio::test]
    async fn half_an_answer_is_none() {
        for (answer, told) in [
            (&b""[..], "ended before the answer did"),
            (b"220 mail ready\r\n", "ended before the answer did"),
            (b"o", "ended before the answer did"),
            (b"\xff\xff\n", "no AstLogger console"),
        ] {
            let (end, _) = answered(answer).await;
            assert!(end.clone().is_err_and(|error| error.contains(told)), "{end:?}");
        }
        let nobody = Client::connect(Console::Unix("/nowhere/console".into())).await;
        assert!(matches!(nobody, Err(NoAnswer::Unreachable { .. })));
    }
}
