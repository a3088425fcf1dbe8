//! Connections that peers open to this member: who it is, whether it may, and to whom it goes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cluster_core::PeerEvent;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::driver::Input;
use crate::frame::{self, Frame, Kind};
use crate::hello::{HELLO_MAX, Hello, Purpose, encode_answer};
use crate::links::{Shared, Wire, hear, linger, tls_error};
use crate::request::Served;
use crate::tls::names;

/// Connections that have not said who they are.
const STRANGERS_MAX: usize = 64;
const GREETING_MAX: Duration = Duration::from_secs(3);

/// Accepts connections for ever.
pub(crate) async fn accept(listener: TcpListener, shared: Arc<Shared>, served: Arc<Served>) {
    let strangers = Arc::new(Semaphore::new(STRANGERS_MAX));
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, mostly: what is open goes on.
                tracing::warn!(%error, "cannot accept a connection from a peer");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&strangers).try_acquire_owned() else {
            shared.counters.connections_refused.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let (shared, served) = (Arc::clone(&shared), Arc::clone(&served));
        tokio::spawn(async move {
            let greeted = timeout(GREETING_MAX, greet(stream, address, &shared)).await;
            drop(place);
            match greeted {
                Ok(Ok(Some((hello, wire)))) => dispatch(&shared, &served, hello, wire).await,
                Ok(Ok(None)) => {}
                Ok(Err(error)) => turned_away(&shared, &stranger(address, &error)),
                Err(_) => turned_away(&shared, &format!("{address} said nothing")),
            }
        });
    }
}

async fn dispatch(shared: &Arc<Shared>, served: &Arc<Served>, hello: Hello, wire: Wire) {
    if hello.purpose == Purpose::Request {
        served.serve(hello.from, wire);
        return;
    }
    let (node, process) = (hello.from, hello.process);
    let address = Some(hello.address).filter(|address| !address.is_empty());
    shared.tell(Input::Peer { node, event: PeerEvent::Heard });
    shared.tell(Input::Met { node, cluster: hello.cluster, stage: hello.stage, address });
    let error = hear(shared, node, process, wire).await;
    tracing::debug!(peer = %node, %error, "peer's link broke");
    shared.gate.gone(node, process);
    shared.tell(Input::Peer { node, event: PeerEvent::Reset });
}

/// TLS, hello, answer. `None` if the peer was told why not.
async fn greet(
    stream: TcpStream,
    address: SocketAddr,
    shared: &Shared,
) -> io::Result<Option<(Hello, Wire)>> {
    stream.set_nodelay(true)?;
    let (mut wire, certificate): (Wire, _) = match &shared.tls {
        Some(tls) => {
            let stream = tls.now().acceptor.accept(stream).await?;
            let chain = stream.get_ref().1.peer_certificates();
            let certificate = chain.and_then(<[_]>::first).cloned();
            (Box::new(stream), certificate)
        }
        None => (Box::new(stream), None),
    };
    let frame = frame::read(&mut wire, HELLO_MAX).await?;
    let Some(frame) = frame.filter(|frame| frame.kind == Kind::Hello) else {
        return Err(frame::invalid("no hello"));
    };
    let judged = Hello::decode(&frame.payload).and_then(|hello| {
        let named = certificate.map(|certificate| names(&certificate, hello.from));
        // With TLS there is always a certificate; its absence must not open the gate.
        let named = if shared.tls.is_some() { Some(named == Some(true)) } else { None };
        let welcome = shared.gate.admit(&hello, named)?;
        Ok((hello, welcome))
    });
    let (hello, answer) = match judged {
        Ok((hello, welcome)) => (Some(hello), Ok(welcome)),
        Err(error) => {
            turned_away(shared, &format!("{address}: {error}"));
            (None, Err(error))
        }
    };
    let bytes = Frame::new(Kind::Welcome, encode_answer(&answer)).to_bytes();
    wire.write_all(&bytes).await?;
    wire.flush().await?;
    match hello {
        Some(hello) => Ok(Some((hello, wire))),
        None => {
            linger(wire).await;
            Ok(None)
        }
    }
}

fn stranger(address: SocketAddr, error: &io::Error) -> String {
    match tls_error(error) {
        Some(error) => format!(
            "{address} showed no certificate of this group's authority (al_clusterca): {error}"
        ),
        None => format!("{address} does not speak the peer protocol: {error}"),
    }
}

fn turned_away(shared: &Shared, reason: &str) {
    shared.counters.connections_refused.fetch_add(1, Ordering::Relaxed);
    shared.tell(Input::TurnedAway { reason: reason.to_owned() });
}
