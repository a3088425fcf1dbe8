//! The listener: which connections are let in, with or without TLS, and how all of them end when
//! the server stops. What is said on them is `http`'s and `ws`'s matter.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tower::ServiceExt;

use super::backend::Backend;
use super::conn::{Conn, Seat};
use super::http;
use super::levels::Levels;
use super::oidc::Door;
use super::requests::Node;
use super::seats::Seats;
use super::signin::Desk;
use super::stats::{Counted, Stats};
use super::tls::Certificate;
use super::{Web, WebConfig};
use crate::exports::Exports;

/// What the kernel holds for one connection counts for the client who does not read, too; twice
/// this is what Linux makes of it. Enough for 10 MB/s over 25 ms.
const SEND_BUFFER_BYTES: u32 = 128 * 1024;
/// Buffer for a request's head: a longer one is refused.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// After a failed accept (no file handles left) others need a moment to give theirs back.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {address}: {source}; is `al_listen` an address of this host, and free?"
    )]
    Listen {
        /// `al_listen`.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Passwords would travel in the clear.
    #[error(
        "`al_listen` {0} is not loopback: give `al_tlscert` and `al_tlskey`, \
         or set `al_insecure = true`"
    )]
    TlsNeeded(SocketAddr),
    /// A certificate or key cannot be used.
    #[error("cannot use {} for TLS: {reason}", path.display())]
    Tls {
        /// `al_tlscert` or `al_tlskey`.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// A server that runs. Dropping it stops it, too, without waiting for the end.
pub struct Running {
    address: SocketAddr,
    certificate: Option<Arc<Certificate>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Running {
    /// Where it listens; the port is the real one if 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it shows, if it speaks TLS.
    #[must_use]
    pub fn certificate(&self) -> Option<Arc<Certificate>> {
        self.certificate.clone()
    }

    /// Stops it: no new connections, WebSockets are closed 1001, answers under way are finished
    /// within `Limits::stop_within`.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        // A panic in there has been reported; stopped it is.
        let _ = self.task.await;
    }
}

/// Starts the server. The users file need not be there yet.
///
/// # Errors
/// `WebError`, naming the parameter to change.
pub async fn serve(config: WebConfig, backend: Arc<dyn Backend>) -> Result<Running, WebError> {
    if config.tls.is_none() && !config.insecure && !config.listen.ip().is_loopback() {
        return Err(WebError::TlsNeeded(config.listen));
    }
    let tls = config.tls.map(Certificate::open).transpose()?;
    let listen_error = |source| WebError::Listen { address: config.listen, source };
    let listener = listen(config.listen).map_err(listen_error)?;
    let address = listener.local_addr().map_err(listen_error)?;

    let stats = Arc::new(Stats::new());
    let (stop, stopped) = watch::channel(false);
    let (open, all_closed) = mpsc::channel(1);
    let exports = Exports::open(
        &config.datadir,
        config.mindiskfree,
        Arc::clone(&backend),
        Arc::clone(&config.clerk),
        stopped.clone(),
    );
    let web = Arc::new(Web {
        node: Node::new(backend),
        desk: Desk::open(
            config.users_file,
            config.limits.session_idle,
            Arc::clone(&stats),
            Arc::clone(&config.clerk),
        ),
        door: config.oidc.map(|oidc| Arc::new(Door::new(oidc))),
        clerk: config.clerk,
        drills: config.drills,
        exports,
        levels: Levels::default(),
        scorecards: config.scorecards,
        stats,
        limits: config.limits,
        listen: address.ip(),
        tls: tls.is_some(),
        stop: stopped,
        _open: open,
    });
    tracing::info!(%address, tls = web.tls, "web server listens");
    let task = tokio::spawn(run(listener, tls.clone(), web, all_closed));
    Ok(Running { address, certificate: tls, stop, task })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    // Accepted sockets inherit it.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(1024)
}

async fn run(
    listener: TcpListener,
    tls: Option<Arc<Certificate>>,
    web: Arc<Web>,
    mut all_closed: mpsc::Receiver<Infallible>,
) {
    let stop_within = web.limits.stop_within;
    let users = tokio::spawn(Arc::clone(&web.desk).watch());
    let door = web.door.clone();
    let vouched = door.map(|door| tokio::spawn(door.watch(Arc::clone(&web.desk))));
    let mut connections = accept(listener, tls, web).await;
    let ended = timeout(stop_within, async {
        while connections.join_next().await.is_some() {}
        // WebSockets have left their connections and go on by themselves.
        while all_closed.recv().await.is_some() {}
    });
    if ended.await.is_err() {
        tracing::warn!("connections are cut off, the time to end is over");
        connections.shutdown().await;
    }
    users.abort();
    if let Some(vouched) = vouched {
        vouched.abort();
    }
}

async fn accept(
    listener: TcpListener,
    tls: Option<Arc<Certificate>>,
    web: Arc<Web>,
) -> JoinSet<()> {
    let seats = Seats::new(web.limits.connections, web.limits.connections_of_one);
    let router = http::router(Arc::clone(&web));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = web.stopping() => return connections,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let (tcp, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let Some(place) = seats.take(peer.ip()) else {
            web.stats.refused.inc();
            continue;
        };
        let seat = Seat::new(place, Counted::new(&web.stats.connections));
        connections.spawn(connection(
            tcp,
            peer,
            seat,
            tls.clone(),
            Arc::clone(&web),
            router.clone(),
        ));
    }
}

async fn connection(
    tcp: TcpStream,
    peer: SocketAddr,
    seat: Seat,
    tls: Option<Arc<Certificate>>,
    web: Arc<Web>,
    router: Router,
) {
    // Replies are small and must not wait for each other. Where it fails they are only later.
    let _ = tcp.set_nodelay(true);
    let conn = Conn::new(tcp, seat, web.limits.idle);
    let Some(tls) = tls else { return http1_connection(conn, peer, &web, router).await };
    match timeout(web.limits.head_within, tls.acceptor().accept(conn)).await {
        Ok(Ok(stream)) => http1_connection(stream, peer, &web, router).await,
        Ok(Err(_)) | Err(_) => web.stats.handshake_failures.inc(),
    }
}

async fn http1_connection<S>(stream: S, peer: SocketAddr, web: &Web, router: Router)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(http::Peer(peer.ip()));
        router.clone().oneshot(request)
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(web.limits.head_within)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
    );
    // How a connection ends, by whose fault whatever, is nobody's concern but its own.
    let _ = tokio::select! {
        ended = connection.as_mut() => ended,
        () = web.stopping() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
}
