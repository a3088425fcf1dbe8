//! Where the database is, read from the address that an operator writes (`al_catalogurl`), and how far its
//! certificate is believed (`sslmode`, with the words of PostgreSQL's own clients). Whatever is shown of an address
//! holds neither user nor password.

use std::fmt;
use std::time::Duration;

use recorder_core::dmcc::Secret;
use tokio_postgres::config::{Host, SslMode as Negotiated};

/// Within this a server answers that a connection is there.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// A connection that says nothing for so long is asked whether it is still there.
const ASKED_AFTER: Duration = Duration::from_secs(15);
/// What was sent is acknowledged within this, or the connection is lost.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(20);

/// How TLS is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// Not at all.
    Disable,
    /// Where the server offers it.
    Prefer,
    /// Always; the certificate is looked at where `al_catalogca` says whose.
    Require,
    /// Always, with a certificate of an authority that is trusted.
    VerifyCa,
    /// The same, and the certificate names the host.
    VerifyFull,
}

impl SslMode {
    const WORDS: [(&'static str, Self); 5] = [
        ("disable", Self::Disable),
        ("prefer", Self::Prefer),
        ("require", Self::Require),
        ("verify-ca", Self::VerifyCa),
        ("verify-full", Self::VerifyFull),
    ];
}

/// Why an address cannot be used. It names no part of the address, which may be one of the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No address of a PostgreSQL.
    #[error("must be an address that begins with postgres://")]
    Scheme,
    /// An unknown `sslmode`.
    #[error("has an sslmode that is none of disable, prefer, require, verify-ca and verify-full")]
    SslMode,
    /// Something in it that cannot be read.
    #[error(
        "cannot be read as an address: a password with any of : / ? # [ ] @ % in it has them as %3A and the like, or \
         stands in al_catalogpasswordfile"
    )]
    Form,
    /// No user, host or database.
    #[error("must name a user, a host and a database")]
    Missing,
}

/// An address.
#[derive(Clone)]
pub struct Address {
    config: tokio_postgres::Config,
    mode: SslMode,
}

impl Address {
    /// Reads `postgres://USER[:PASSWORD]@HOST[:PORT]/DATABASE[?sslmode=…]`.
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn parse(url: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = url.split_once("://").ok_or(AddressError::Scheme)?;
        if !matches!(scheme, "postgres" | "postgresql") || rest.is_empty() {
            return Err(AddressError::Scheme);
        }
        // The library knows three of the modes; what each asks of the certificate is `tls`'s matter.
        let behind_password = url.rfind('@').unwrap_or(0);
        let parameters = url[behind_password..].find('?').map(|at| behind_password + at);
        let (place, parameters) = match parameters {
            Some(at) => (&url[..at], &url[at + 1..]),
            None => (url, ""),
        };
        let (mut mode, mut others) = (SslMode::Prefer, Vec::new());
        for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.strip_prefix("sslmode=") {
                Some(word) => {
                    let known = SslMode::WORDS.into_iter().find(|(known, _)| *known == word);
                    mode = known.ok_or(AddressError::SslMode)?.1;
                }
                None => others.push(parameter),
            }
        }
        let rest = if others.is_empty() { String::new() } else { format!("?{}", others.join("&")) };
        let mut config: tokio_postgres::Config =
            format!("{place}{rest}").parse().map_err(|_| AddressError::Form)?;
        if config.get_hosts().is_empty()
            || config.get_user().is_none_or(str::is_empty)
            || config.get_dbname().is_none_or(str::is_empty)
        {
            return Err(AddressError::Missing);
        }
        config.ssl_mode(match mode {
            SslMode::Disable => Negotiated::Disable,
            SslMode::Prefer => Negotiated::Prefer,
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => Negotiated::Require,
        });
        // There is no TLS over a socket of this machine, nor need of it.
        if config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_))) {
            config.ssl_mode(Negotiated::Disable);
            mode = SslMode::Disable;
        }
        if config.get_application_name().is_none() {
            config.application_name("astlogger");
        }
        config.connect_timeout(CONNECT_WITHIN);
        config.keepalives_idle(ASKED_AFTER);
        config.tcp_user_timeout(ACKNOWLEDGED_WITHIN);
        Ok(Self { config, mode })
    }

    /// With a password that does not stand in the address.
    #[must_use]
    pub fn with_password(mut self, password: &Secret) -> Self {
        self.config.password(password.expose());
        self
    }

    /// Whether there is a password.
    #[must_use]
    pub fn has_password(&self) -> bool {
        self.config.get_password().is_some()
    }

    /// How TLS is used.
    #[must_use]
    pub const fn mode(&self) -> SslMode {
        self.mode
    }

    /// Whether everybody on the way could read what is said, or give himself out for the database.
    #[must_use]
    pub fn is_open_on_the_network(&self) -> bool {
        let far = |host: &Host| match host {
            Host::Tcp(name) => {
                let loopback = name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
                !loopback && name != "localhost"
            }
            Host::Unix(_) => false,
        };
        let trusting = !matches!(self.mode, SslMode::VerifyCa | SslMode::VerifyFull);
        trusting && self.config.get_hosts().iter().any(far)
    }

    /// What the library is given.
    pub(super) const fn config(&self) -> &tokio_postgres::Config {
        &self.config
    }
}

/// Hosts and database.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports = self.config.get_ports();
        for (at, host) in self.config.get_hosts().iter().enumerate() {
            let port = ports.get(at).or(ports.first()).copied().unwrap_or(5432);
            let comma = if at == 0 { "" } else { "," };
            match host {
                Host::Tcp(name) => write!(f, "{comma}{name}:{port}")?,
                Host::Unix(path) => write!(f, "{comma}{}:{port}", path.display())?,
            }
        }
        write!(f, "/{}", self.config.get_dbname().unwrap_or_default())
    }
}

/// As it is shown to people.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self}, {:?})", self.mode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_shown_without_who_signs_in() {
        for (url, shown, mode) in [
            ("postgres://u:hunter2@db.example/calls", "db.example:5432/calls", SslMode::Prefer),
            (
                "postgresql://u@h1:6000,h2:6001/c?sslmode=verify-full",
                "h1:6000,h2:6001/c",
                SslMode::VerifyFull,
            ),
            (
                "postgres://u:hunter2@h/c?connect_timeout=3&sslmode=require",
                "h:5432/c",
                SslMode::Require,
            ),
            (
                "postgres://u@%2Frun%2Fpostgresql/c?sslmode=require",
                "/run/postgresql:5432/c",
                SslMode::Disable,
            ),
        ] {
            let address = Address::parse(url).unwrap();
            assert_eq!((address.to_string().as_str(), address.mode()), (shown, mode), "{url}");
            assert!(!format!("{address:?}").contains("hunter2"));
        }
        let address = Address::parse("postgres://u@h/c").unwrap();
        assert!(!address.has_password());
        assert!(address.with_password(&Secret::new("hunter2".to_owned())).has_password());
    }

    #[test]
    fn what_cannot_be_read_is_refused_without_showing_it() {
        for (url, error) in [
            ("mysql://u:hunter2@h/d", AddressError::Scheme),
            ("postgres://", AddressError::Scheme),
            ("hunter2", AddressError::Scheme),
            ("postgres://u:hunter2@h/d?hunter2=x", AddressError::Form),
            ("postgres://u:hunter2@h:port/d", AddressError::Form),
            ("postgres://u:hunter2@h/d?sslmode=maybe", AddressError::SslMode),
            ("postgres://h/d", AddressError::Missing),
            ("postgres://u@h", AddressError::Missing),
        ] {
            let told = Address::parse(url).unwrap_err();
            assert_eq!(told, error, "{url}");
            assert!(!told.to_string().contains("hun") && !told.to_string().contains("ter2"));
        }
    }

    #[test]
    fn where_others_could_listen_is_known() {
        for (url, open) in [
            ("postgres://u@db.example/c", true),
            ("postgres://u@db.example/c?sslmode=require", true),
            ("postgres://u@db.example/c?sslmode=verify-full", false),
            ("postgres://u@127.0.0.1/c", false),
            ("postgres://u@localhost/c", false),
        ] {
            assert_eq!(Address::parse(url).unwrap().is_open_on_the_network(), open, "{url}");
        }
    }
}
