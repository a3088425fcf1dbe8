//! TLS to servers of others: whoever receives alarms, whoever vouches for people. It decides whose certificates are
//! taken: those of the file that is named for it, else the system's.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::HostPort;

/// Where the system keeps the authorities that it trusts.
pub(crate) const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Why there is no TLS with a server.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct TlsFailure(pub(crate) String);

/// Goes on in TLS over this connection, with the server of this name.
pub(crate) async fn connect(
    tcp: TcpStream,
    place: &HostPort,
    ca: Option<&Path>,
) -> Result<TlsStream<TcpStream>, TlsFailure> {
    let path = ca.unwrap_or(Path::new(SYSTEM_ROOTS));
    let pem = fs::read(path)
        .map_err(|error| TlsFailure(format!("{} cannot be read: {error}", path.display())))?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok));
    if roots.is_empty() {
        return Err(TlsFailure(format!("{} holds no certificate", path.display())));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider supports the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(place.host.clone())
        .map_err(|_| TlsFailure(format!("{} is no name of a server", place.host)))?;
    let connected = TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
    connected.map_err(|error| TlsFailure(error.to_string()))
}
