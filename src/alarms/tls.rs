//! TLS to whoever receives alarms. It decides whose certificates are taken: those of `al_alarmca`, else the
//! system's.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::tell::NotSent;
use crate::config::HostPort;

/// Where the system keeps the authorities that it trusts.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Goes on in TLS over this connection, with the server of this name.
pub(super) async fn connect(
    tcp: TcpStream,
    place: &HostPort,
    ca: Option<&Path>,
) -> Result<TlsStream<TcpStream>, NotSent> {
    let path = ca.unwrap_or(Path::new(SYSTEM_ROOTS));
    let pem = fs::read(path)
        .map_err(|error| NotSent::Tls(format!("{} cannot be read: {error}", path.display())))?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok));
    if roots.is_empty() {
        return Err(NotSent::Tls(format!("{} holds no certificate", path.display())));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider supports the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(place.host.clone())
        .map_err(|_| NotSent::Tls(format!("{} is no name of a server", place.host)))?;
    let connected = TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
    connected.map_err(|error| NotSent::Tls(error.to_string()))
}
