//! Asks the node that runs on this machine, over its own HTTP. It trusts exactly the certificate
//! that the node's configuration names, because the name in it need not be this machine's.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::CertificateError;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::config::Web;
use crate::tls_client::{Judge, judged};

/// What a person waits for an answer.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);
/// No page that is asked for here is longer.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// What the node said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// HTTP status code.
    pub(crate) status: u16,
    /// The body.
    pub(crate) body: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    /// Nobody listens there, or the connection broke.
    #[error("no node answers at {address}: {source}")]
    Unreachable {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The certificate of the configuration cannot be read.
    #[error("cannot read the node's certificate {}: {reason}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Something else listens there.
    #[error("what answers at {address} is no AstLogger")]
    NotHttp {
        /// Where.
        address: SocketAddr,
    },
}

/// Asks for one page, within a limit for the whole exchange.
///
/// # Errors
/// If there is no node, or something else in its place.
pub(crate) async fn get(web: &Web, path: &str, limit: Duration) -> Result<Answer, NoAnswer> {
    let address = reachable(web.listen);
    let connector = web.tls.as_ref().map(|tls| pinned(&tls.cert)).transpose()?;
    let exchange = async {
        let stream = TcpStream::connect(address).await?;
        match connector {
            None => ask(stream, path).await,
            Some(connector) => {
                let name = ServerName::IpAddress(address.ip().into());
                ask(connector.connect(name, stream).await?, path).await
            }
        }
    };
    let bytes = timeout(limit, exchange)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(|source| NoAnswer::Unreachable { address, source })?;
    read_answer(&bytes).ok_or(NoAnswer::NotHttp { address })
}

/// Where to reach what listens at `listen`: nobody can connect to "all addresses".
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// HTTP/1.0, so that the answer ends with the connection and comes in one piece.
async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> io::Result<Vec<u8>> {
    let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::new();
    match stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes).await {
        // A peer that closes without TLS's good-bye has said what it had to say.
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
        _ => Ok(bytes),
    }
}

fn read_answer(bytes: &[u8]) -> Option<Answer> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut words = head.lines().next()?.split(' ');
    if !words.next()?.starts_with("HTTP/1.") {
        return None;
    }
    Some(Answer { status: words.next()?.parse().ok()?, body: body.to_owned() })
}

fn pinned(file: &Path) -> Result<TlsConnector, NoAnswer> {
    let certificate = CertificateDer::from_pem_file(file).map_err(|error| {
        NoAnswer::Certificate { path: file.to_owned(), reason: error.to_string() }
    })?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = judged(OneCertificate(certificate), provider);
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Takes one certificate and no other, whatever name and dates are in it.
#[derive(Debug)]
struct OneCertificate(CertificateDer<'static>);

impl Judge for OneCertificate {
    fn judge(
        &self,
        certificate: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _now: UnixTime,
    ) -> Result<(), rustls::Error> {
        if *certificate == self.0 {
            Ok(())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::config::TlsFiles;

    const PAGE: &[u8] = b"HTTP/1.0 503 Service Unavailable\r\nX: y\r\n\r\nnot yet\r\n\r\n";

    fn web(listen: SocketAddr, tls: Option<TlsFiles>) -> Web {
        Web {
            listen,
            tls,
            insecure: false,
            usersfile: PathBuf::new(),
            session_idle: None,
            oidc: None,
        }
    }

    #[test]
    fn answers_are_status_and_body() {
        let answer = read_answer(PAGE).unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (503, "not yet\r\n\r\n"));
        for wrong in ["", "SSH-2.0-x\r\n\r\n", "HTTP/1.1 200 OK", "HTTP/1.1 x y\r\n\r\n"] {
            assert_eq!(read_answer(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(read_answer(&[0xff; 9]), None);
    }

    #[test]
    fn all_addresses_are_reached_over_loopback() {
        for (listen, reached) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("10.0.0.1:80", "10.0.0.1:80"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()), reached.parse().unwrap());
        }
    }

    #[tokio::test]
    async fn where_nobody_listens_the_address_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = get(&web(address, None), "/", TIMEOUT).await.unwrap_err();
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }

    #[tokio::test]
    async fn over_tls_only_the_configured_certificate_is_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let own = rcgen::generate_simple_self_signed(["elsewhere.example".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(["elsewhere.example".to_owned()]).unwrap();
        let files = |name: &str, pem: &str| {
            let cert = dir.path().join(name);
            std::fs::write(&cert, pem).unwrap();
            TlsFiles { cert, key: PathBuf::new(), ca: None }
        };
        let key = rustls_pki_types::PrivateKeyDer::try_from(own.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key.unwrap())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut request = [0; 16];
                stream.read_exact(&mut request).await.unwrap();
                stream.write_all(PAGE).await.unwrap();
                stream.shutdown().await.unwrap();
            }
        });
        let trusted = web(address, Some(files("own.pem", &own.cert.pem())));
        assert_eq!(get(&trusted, "/readyz", TIMEOUT).await.unwrap().status, 503);
        let stranger = web(address, Some(files("other.pem", &other.cert.pem())));
        assert!(matches!(get(&stranger, "/", TIMEOUT).await, Err(NoAnswer::Unreachable { .. })));
        let broken = web(address, Some(files("broken.pem", "nothing")));
        assert!(matches!(get(&broken, "/", TIMEOUT).await, Err(NoAnswer::Certificate { .. })));
        server.abort();
    }
}
