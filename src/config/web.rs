//! The settings of the doors for people and programs: web page, WebSocket, HTTP, console.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::cluster::TlsFiles;
use super::oidc::{self, Oidc};
use super::reader::Reader;
use super::value;

pub(super) const DEFAULT_PORT: u16 = 8080;
pub(super) const CONSOLE_PORT: u16 = 9007;
/// The keys that [`read`] reads.
pub(super) const KEYS: [&str; 6] =
    ["al_listen", "al_tlscert", "al_tlskey", "al_insecure", "al_usersfile", "al_sessionidlemin"];
/// Minutes; a session is over after twelve hours in any case.
const SESSION_IDLE: u64 = 60;
const SESSION_IDLE_MAX: u64 = 12 * 60;

/// Web page, WebSocket, HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Web {
    /// `al_listen`.
    pub listen: SocketAddr,
    /// `al_tlscert` and `al_tlskey`; absent: plain HTTP.
    pub tls: Option<TlsFiles>,
    /// `al_insecure`: plain HTTP may be spoken to other machines.
    pub insecure: bool,
    /// `al_usersfile`.
    pub usersfile: PathBuf,
    /// `al_sessionidlemin`: a session that nobody uses for so long ends; absent: none does.
    pub session_idle: Option<Duration>,
    /// `al_oidcissuer` and what belongs to it; absent: people have passwords here only.
    pub oidc: Option<Oidc>,
}

/// Where the console listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Console {
    /// A loopback address.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Console {
    /// Where it listens unless told otherwise.
    const DEFAULT: Self =
        Self::Tcp(SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), CONSOLE_PORT));
}

pub(super) fn read(reader: &mut Reader) -> Web {
    let listen = reader
        .parsed(
            "al_listen",
            |text| value::listen_address(text, DEFAULT_PORT),
            "write al_listen = \"127.0.0.1:8080\"",
        )
        .unwrap_or_else(|| (Ipv4Addr::LOCALHOST, DEFAULT_PORT).into());
    let tls = read_tls(reader);
    let insecure = reader.flag("al_insecure", false);
    let half_given = reader.has("al_tlscert") || reader.has("al_tlskey");
    if tls.is_none() && !half_given && !listen.ip().is_loopback() && !insecure {
        reader.refuse_value(
            "al_listen",
            "a loopback address while there is no TLS",
            "give al_tlscert and al_tlskey (or, in a closed network, al_insecure = true)",
        );
    }
    let usersfile =
        reader.path("al_usersfile").unwrap_or_else(|| "/etc/astlogger/users.toml".into());
    let idle = reader.number("al_sessionidlemin", 0..=SESSION_IDLE_MAX).unwrap_or(SESSION_IDLE);
    let session_idle = (idle > 0).then(|| Duration::from_secs(idle * 60));
    Web { listen, tls, insecure, usersfile, session_idle, oidc: oidc::read(reader) }
}

fn read_tls(reader: &mut Reader) -> Option<TlsFiles> {
    match (reader.path("al_tlscert"), reader.path("al_tlskey")) {
        (Some(cert), Some(key)) => Some(TlsFiles { cert, key, ca: None }),
        (Some(_), None) => {
            reader.refuse(
                "al_tlskey",
                "is missing beside al_tlscert",
                "name the private key's file",
            );
            None
        }
        (None, Some(_)) => {
            reader.refuse(
                "al_tlscert",
                "is missing beside al_tlskey",
                "name the certificate's file",
            );
            None
        }
        (None, None) => None,
    }
}

/// The console changes parameters without asking who is there, so it stays on this machine.
pub(super) fn read_console(reader: &mut Reader) -> Option<Console> {
    if !reader.has("al_consolelisten") {
        return Some(Console::DEFAULT);
    }
    reader.parsed(
        "al_consolelisten",
        console_place,
        "write al_consolelisten = \"127.0.0.1:9007\", or \"\" for none",
    )
}

/// `HOST:PORT` of this machine, or the path of a Unix socket.
fn console_place(text: &str) -> Result<Console, value::Reason> {
    if text.starts_with('/') {
        return Ok(Console::Unix(text.into()));
    }
    let address = value::listen_address(text, CONSOLE_PORT)?;
    if !address.ip().is_loopback() {
        return Err("a loopback address or the path of a Unix socket".to_owned());
    }
    Ok(Console::Tcp(address))
}

impl std::str::FromStr for Console {
    type Err = value::Reason;

    fn from_str(text: &str) -> Result<Self, value::Reason> {
        console_place(text)
    }
}

impl std::fmt::Display for Console {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}
