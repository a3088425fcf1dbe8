//! TLS of the AES ports: the certificate given, or a self-made authority and one for loopback. The files of one
//! that is given are read at each connection: whoever replaces them has renewed it.

use std::io;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use tokio_rustls::TlsAcceptor;

use crate::config::TlsConfig;

/// Names that the self-made certificate is good for.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Why TLS cannot be set up.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Not PEM.
    #[error("not a certificate or key in PEM: {0}")]
    Pem(#[from] rustls_pki_types::pem::Error),
    /// Certificate and key do not fit each other, or the library refuses them.
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
    /// No certificate could be made.
    #[error(transparent)]
    Make(#[from] rcgen::Error),
}

/// For incoming connections.
#[derive(Clone)]
pub struct Acceptor {
    files: Option<TlsConfig>,
    made: TlsAcceptor,
}

impl Acceptor {
    /// With what is to be shown now. What the files of a certificate cannot give is as it was at the start.
    #[must_use]
    pub fn now(&self) -> TlsAcceptor {
        let read = |files: &TlsConfig| acceptor(&read(&files.certificate)?, &read(&files.key)?);
        self.files.as_ref().and_then(|files| read(files).ok()).unwrap_or_else(|| self.made.clone())
    }
}

/// What the ports need, and what a client should trust.
#[derive(Clone)]
pub struct Tls {
    /// For incoming connections.
    pub acceptor: Acceptor,
    /// Certificates to trust, PEM.
    pub ca_pem: String,
}

/// Reads or makes a certificate.
///
/// # Errors
/// See `TlsError`.
pub fn prepare(config: Option<&TlsConfig>) -> Result<Tls, TlsError> {
    let (chain_pem, key_pem, ca_pem) = match config {
        Some(config) => {
            let chain = read(&config.certificate)?;
            (chain.clone(), read(&config.key)?, chain)
        }
        None => make()?,
    };
    let acceptor = Acceptor { files: config.cloned(), made: acceptor(&chain_pem, &key_pem)? };
    Ok(Tls { acceptor, ca_pem })
}

fn acceptor(chain_pem: &str, key_pem: &str) -> Result<TlsAcceptor, TlsError> {
    let chain = CertificateDer::pem_slice_iter(chain_pem.as_bytes()).collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(TlsAcceptor::from(Arc::new(server)))
}

fn read(path: &str) -> Result<String, TlsError> {
    std::fs::read_to_string(path).map_err(|source| TlsError::File { path: path.to_owned(), source })
}

/// Chain, key and authority, PEM.
fn make() -> Result<(String, String, String), TlsError> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(Vec::<String>::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(DnType::CommonName, "Simulated AES authority");
    let ca_certificate = ca.self_signed(&ca_key)?;
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate()?;
    let mut leaf = CertificateParams::new(NAMES.map(str::to_owned).to_vec())?;
    leaf.distinguished_name.push(DnType::CommonName, "simulated-aes");
    let leaf = leaf.signed_by(&key, &issuer)?;
    Ok((leaf.pem(), key.serialize_pem(), ca_certificate.pem()))
}
