//! The web server: HTTP and WebSocket for people and programs (interface, section 3). It knows
//! who may ask for what and how much at once, and nothing of telephony: what it is asked it asks
//! of a [`backend::Backend`].
//!
//! | file | decides |
//! |---|---|
//! | `backend` | nothing: the words between this server and the node behind it |
//! | `server` | which connections are let in, with or without TLS, and how they end |
//! | `address` | what counts as one address |
//! | `seats` | how many connections there may be |
//! | `tls` | which certificate is shown |
//! | `conn` | when a TCP connection is idle, and that its last words arrive |
//! | `http` | addresses, status codes, cookies, whose page may call us |
//! | `own` | what somebody is told about himself |
//! | `posted` | how a request of the WebSocket is asked over HTTP |
//! | `pages` | which pages browsers get, and what those may load |
//! | `describe` | nothing: it hands out the descriptions of all this |
//! | `audit` | what of all this goes into the audit log |
//! | `audio`, `range` | which bytes of a recording answer an HTTP request |
//! | `exports` | when an export begins, and who hears of it |
//! | `waveform` | what a recording's audio looks like |
//! | `ws` | the life of one WebSocket |
//! | `protocol`, `arguments` | what a frame asks for, and whether this role may (pure) |
//! | `perform` | what a request does on its socket |
//! | `requests` | what each request asks of the node |
//! | `outbox`, `fetch`, `listen` | what waits for one socket, and in which order it goes |
//! | `board` | how many fetches and listens one socket may run |
//! | `signin`, `session`, `throttle` | who somebody is, for how long, and how often he may err |
//! | `oidc` | whom a provider of OpenID Connect vouches for |
//! | `stats` | what is counted |

mod address;
mod arguments;
mod audio;
mod audit;
pub mod backend;
mod board;
mod conn;
mod describe;
mod exports;
mod fetch;
mod http;
mod levels;
mod listen;
mod oidc;
mod outbox;
mod own;
mod pages;
mod perform;
mod posted;
mod protocol;
mod range;
mod requests;
mod seats;
mod server;
mod session;
mod signin;
mod stats;
mod throttle;
mod tls;
mod waveform;
mod ws;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use storage_core::scorecard::Scorecard;
use tokio::sync::{mpsc, watch};

use crate::audit::Clerk;
use crate::config::DiskShare;
use crate::config::Oidc;
use crate::exports::Exports;
pub(crate) use outbox::REPLY_BYTES_MAX;
pub use server::{Running, WebError, serve};
pub use tls::Certificate;

/// How the server is to run.
#[derive(Clone)]
pub struct WebConfig {
    /// `al_listen`.
    pub listen: SocketAddr,
    /// `al_tlscert` and `al_tlskey`.
    pub tls: Option<TlsFiles>,
    /// `al_insecure`: no TLS though others than this host can connect.
    pub insecure: bool,
    /// `al_usersfile`.
    pub users_file: PathBuf,
    /// `al_oidcissuer` and what belongs to it.
    pub oidc: Option<Oidc>,
    /// Who writes down what people do.
    pub clerk: Arc<Clerk>,
    /// Who carries out drills.
    pub drills: Arc<dyn backend::Drill>,
    /// `al_datadir`, where exports are kept.
    pub datadir: PathBuf,
    /// `al_mindiskfree`, which exports leave free there.
    pub mindiskfree: DiskShare,
    /// `[[al_scorecard]]`.
    pub scorecards: Vec<Scorecard>,
    /// Bounds; `Limits::default()` outside tests.
    pub limits: Limits,
}

/// Files in PEM form.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// Certificate, then those that sign it.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Bounds in time and number.
#[derive(Clone, Debug)]
pub struct Limits {
    /// TCP connections at once; one more is closed at once.
    pub connections: usize,
    /// Those of one address, or of one IPv6 network of 64 bits.
    pub connections_of_one: usize,
    /// Time for a TLS handshake, a request's head, a request's body; each.
    pub head_within: Duration,
    /// A connection on which no byte moves for so long is closed. More than `ping_every`.
    pub idle: Duration,
    /// Between pings on a WebSocket; with two unanswered it is dropped.
    pub ping_every: Duration,
    /// Time to sign in on a WebSocket.
    pub signin_within: Duration,
    /// `al_sessionidlemin`: a session that nobody uses for so long ends. None: it lasts its whole time.
    pub session_idle: Option<Duration>,
    /// Time for what is going on to end when the server stops.
    pub stop_within: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 512,
            connections_of_one: 128,
            head_within: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            ping_every: Duration::from_secs(30),
            signin_within: Duration::from_secs(30),
            session_idle: Some(Duration::from_secs(60 * 60)),
            stop_within: Duration::from_secs(5),
        }
    }
}

/// What all connections share.
struct Web {
    node: requests::Node,
    desk: Arc<signin::Desk>,
    /// Where people sign in by a provider, if there is one.
    door: Option<Arc<oidc::Door>>,
    clerk: Arc<Clerk>,
    drills: Arc<dyn backend::Drill>,
    exports: Arc<Exports>,
    levels: levels::Levels,
    scorecards: Vec<Scorecard>,
    stats: Arc<stats::Stats>,
    limits: Limits,
    /// Where this server listens: a peer with the same address is this machine.
    listen: IpAddr,
    /// Whether connections are encrypted, so that cookies may say so.
    tls: bool,
    /// True once the server stops.
    stop: watch::Receiver<bool>,
    /// Never used: its receiver learns when nobody holds `Web` any more, no WebSocket either.
    _open: mpsc::Sender<Infallible>,
}

impl Web {
    /// Ready once the server stops, or nobody owns it any more.
    async fn stopping(&self) {
        // Either way it stops; the value itself must not live on.
        let _ = self.stop.clone().wait_for(|stop| *stop).await.map(|_| ());
    }
}
