//! A WebSocket client of the recorder, as a program of the call centre would be: signs in and asks.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

const REPLY_LIMIT: Duration = Duration::from_secs(10);

/// What comes from the server.
#[derive(Debug)]
pub enum Heard {
    /// A reply or an event.
    Text(Value),
    /// Audio, behind the number of its fetch.
    Binary(Vec<u8>),
}

/// A signed-in socket.
#[derive(Debug)]
pub struct Cti {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    requests: u64,
}

impl Cti {
    /// Connects and signs in.
    ///
    /// # Errors
    /// If there is no server, or it does not accept the user.
    pub async fn sign_in(web: SocketAddr, user: &str, password: &str) -> Result<Self> {
        let (socket, _) = connect_async(format!("ws://{web}/ws")).await?;
        let mut cti = Self { socket, requests: 0 };
        let request = json!({"request": "authenticate", "user": user, "password": password});
        let reply = cti.ask(request).await?;
        ensure!(reply["result"] == "success", "authenticate: {reply}");
        Ok(cti)
    }

    /// `startrecording`; the reply, whatever it is.
    ///
    /// # Errors
    /// If none comes.
    pub async fn start_recording(&mut self, extension: &str, scope: &str) -> Result<Value> {
        let request = json!({"request": "startrecording", "extension": extension, "scope": scope});
        self.ask(request).await
    }

    /// The next binary frame or event, whichever comes first.
    ///
    /// # Errors
    /// If the socket closes or nothing comes in time.
    pub async fn next(&mut self) -> Result<Heard> {
        let heard = async {
            loop {
                match self.socket.next().await.context("the socket is closed")?? {
                    Message::Text(text) => return Ok(Heard::Text(serde_json::from_str(&text)?)),
                    Message::Binary(bytes) => return Ok(Heard::Binary(bytes.to_vec())),
                    Message::Close(frame) => bail!("the socket was closed: {frame:?}"),
                    _ => {}
                }
            }
        };
        timeout(REPLY_LIMIT, heard).await.context("nothing in time")?
    }

    /// Sends a request and waits for its reply; events in between are passed over.
    ///
    /// # Errors
    /// If the socket closes or no reply comes in time.
    pub async fn ask(&mut self, mut request: Value) -> Result<Value> {
        self.requests += 1;
        request["id"] = self.requests.into();
        self.socket.send(Message::text(request.to_string())).await?;
        let id = Value::from(self.requests);
        let reply = async {
            loop {
                match self.socket.next().await.context("the socket is closed")?? {
                    Message::Text(text) => {
                        let value: Value = serde_json::from_str(&text)?;
                        if value["id"] == id {
                            return Ok(value);
                        }
                    }
                    Message::Close(frame) => bail!("the socket was closed: {frame:?}"),
                    _ => {}
                }
            }
        };
        timeout(REPLY_LIMIT, reply).await.context("no reply in time")?
    }
}
