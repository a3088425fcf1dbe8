//! Mutual TLS between members: both sides show a certificate of the group's authority with the
//! member's name in it. It decides who may speak; what is said is `hello`'s and the links' matter.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::verify_server_name;
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use sha2::{Digest, Sha256};
use storage_core::NodeId;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::identity::member_name;
use crate::marker::ClusterId;

/// The three files of `al_clustercert`, `al_clusterkey`, `al_clusterca`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// This member's certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The group's authority.
    pub authority: PathBuf,
}

/// Why the certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds something else.
    #[error("{key} {}: {source}", path.display())]
    File {
        /// The configuration key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: rustls_pki_types::pem::Error,
    },
    /// No authority in the file.
    #[error("al_clusterca {} holds no certificate", .0.display())]
    NoAuthority(PathBuf),
    /// Certificate, key and authority do not fit together.
    #[error("al_clustercert, al_clusterkey and al_clusterca do not fit together: {0}")]
    Unfit(String),
    /// The certificate is another member's.
    #[error(
        "al_clustercert {} is not node {node}'s: it must carry the name {name}; `astlogger cluster \
         init` makes such certificates",
        path.display()
    )]
    OtherName {
        /// The file.
        path: PathBuf,
        /// Who starts.
        node: NodeId,
        /// What it must carry.
        name: String,
    },
}

/// The files and what was read of them. Links that are up keep what they were made with.
pub(crate) struct Identity {
    node: NodeId,
    files: TlsFiles,
    tls: RwLock<Arc<Tls>>,
}

impl Identity {
    /// Reads the files and checks that they are this member's.
    pub(crate) fn load(node: NodeId, files: &TlsFiles) -> Result<Self, TlsError> {
        let tls = Tls::load(node, files)?;
        Ok(Self { node, files: files.clone(), tls: RwLock::new(Arc::new(tls)) })
    }

    /// Reads them anew, for the links that are made from now on.
    pub(crate) fn renew(&self) -> Result<(), TlsError> {
        let tls = Tls::load(self.node, &self.files)?;
        *self.tls.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tls);
        Ok(())
    }

    /// What a link is made with now.
    pub(crate) fn now(&self) -> Arc<Tls> {
        Arc::clone(&self.tls.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What both directions need.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) connector: TlsConnector,
    pub(crate) acceptor: TlsAcceptor,
    /// The group's name, drawn from its authority.
    pub(crate) cluster: ClusterId,
}

impl Tls {
    /// Reads the files and checks that they are this member's.
    pub(crate) fn load(node: NodeId, files: &TlsFiles) -> Result<Self, TlsError> {
        let chain = certificates("al_clustercert", &files.certificate)?;
        let authorities = certificates("al_clusterca", &files.authority)?;
        let key = PrivateKeyDer::from_pem_file(&files.key)
            .map_err(|source| file_error("al_clusterkey", &files.key, source))?;
        let first = authorities.first().ok_or(TlsError::NoAuthority(files.authority.clone()))?;
        let cluster = cluster_of(first);
        let own = chain.first().is_some_and(|certificate| names(certificate, node));
        if !own {
            let (path, name) = (files.certificate.clone(), member_name(node));
            return Err(TlsError::OtherName { path, node, name });
        }
        let unfit = |error: &dyn std::fmt::Display| TlsError::Unfit(error.to_string());
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority).map_err(|error| unfit(&error))?;
        }
        let roots = Arc::new(roots);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let versions = [&rustls::version::TLS13];
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .build()
                .map_err(|error| unfit(&error))?;
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions)
            .map_err(|error| unfit(&error))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(|error| unfit(&error))?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .map_err(|error| unfit(&error))?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(|error| unfit(&error))?;
        Ok(Self { connector: Arc::new(client).into(), acceptor: Arc::new(server).into(), cluster })
    }
}

/// The name under which a member is expected.
pub(crate) fn server_name(node: NodeId) -> ServerName<'static> {
    // Digits between fixed letters: always a host name.
    ServerName::try_from(member_name(node)).expect("a member's name is a host name")
}

/// Whether a certificate (already verified) is this member's.
pub(crate) fn names(certificate: &CertificateDer<'_>, node: NodeId) -> bool {
    ParsedCertificate::try_from(certificate)
        .and_then(|parsed| verify_server_name(&parsed, &server_name(node)))
        .is_ok()
}

fn cluster_of(authority: &CertificateDer<'_>) -> ClusterId {
    let digest = Sha256::digest(authority.as_ref());
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    ClusterId(id)
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|source| file_error(key, path, source))
}

fn file_error(key: &'static str, path: &Path, source: rustls_pki_types::pem::Error) -> TlsError {
    TlsError::File { key, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use storage_core::WallTime;

    use super::*;
    use crate::identity;

    /// What a member shows to another now.
    async fn shown(member: &Identity, other: &Identity) -> CertificateDer<'static> {
        let (here, there) = tokio::io::duplex(1 << 16);
        let (member, other) = (member.now(), other.now());
        let accepting = tokio::spawn(async move { member.acceptor.accept(there).await });
        let stream = other.connector.connect(server_name(NodeId(1)), here).await.unwrap();
        accepting.await.unwrap().unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone()
    }

    #[tokio::test]
    async fn new_certificates_are_shown_and_broken_ones_change_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let now = WallTime::default() + SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let make = |members: &[u16]| {
            let members: Vec<_> =
                members.iter().map(|n| (NodeId(*n), "localhost".to_owned())).collect();
            identity::init(folder.path(), &members, 10, now).unwrap()
        };
        let issued = make(&[1, 2]);
        let files = |node: usize| TlsFiles {
            certificate: issued[node].certificate.clone(),
            key: issued[node].key.clone(),
            authority: issued[node].authority.clone(),
        };
        let one = Identity::load(NodeId(1), &files(0)).unwrap();
        let two = Identity::load(NodeId(2), &files(1)).unwrap();
        let before = shown(&one, &two).await;
        std::fs::remove_file(&issued[0].certificate).unwrap();
        assert!(one.renew().is_err());
        assert_eq!(shown(&one, &two).await, before);
        std::fs::remove_file(&issued[0].key).unwrap();
        make(&[1]);
        assert_eq!(shown(&one, &two).await, before, "not yet");
        one.renew().unwrap();
        let after = shown(&one, &two).await;
        assert_ne!(after, before);
        // Another member's certificate is not this one's.
        std::fs::copy(&issued[1].certificate, &issued[0].certificate).unwrap();
        assert!(matches!(one.renew(), Err(TlsError::OtherName { .. })));
        assert_eq!(shown(&one, &two).await, after);
    }
}
