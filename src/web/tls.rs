//! The certificate that the server shows. It is read from its files, and read anew while the server runs:
//! connections that are there go on with what they began with. When to read anew is not decided here.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::TlsFiles;
use super::server::WebError;

/// What the server shows to new connections.
pub struct Certificate {
    files: TlsFiles,
    acceptor: RwLock<TlsAcceptor>,
}

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// `WebError::Tls`, naming the file and why.
    pub(super) fn open(files: TlsFiles) -> Result<Arc<Self>, WebError> {
        let acceptor = RwLock::new(acceptor(&files)?);
        Ok(Arc::new(Self { files, acceptor }))
    }

    /// Reads the files anew, for the connections that come from now on. Blocking.
    ///
    /// # Errors
    /// `WebError::Tls`; what was in use stays in use.
    pub fn renew(&self) -> Result<(), WebError> {
        let new = acceptor(&self.files)?;
        *self.acceptor.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// For one connection.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, WebError> {
    let error = |path: &Path, reason: String| WebError::Tls { path: path.to_owned(), reason };
    let chain = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|cause| error(&files.cert, cause.to_string()))?;
    if chain.is_empty() {
        return Err(error(&files.cert, "it holds no certificate in PEM form".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|cause| error(&files.key, cause.to_string()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|cause| error(&files.cert, cause.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|cause| error(&files.cert, format!("{cause}; does the key belong to it?")))?;
    // Ours is the better order wherever both sides know several.
    config.ignore_client_order = true;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
