//! TLS to the database by rustls, as the PostgreSQL library wants it handed in. It decides which certificates are
//! taken under which `sslmode`; whether it is used at all is `address`'s matter.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::CryptoProvider;
use rustls::{CertificateError, ClientConfig};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;

use super::address::SslMode;
use crate::tls_client::{Judge, SYSTEM_ROOTS, authorities, judged};

/// What makes TLS of a connection.
#[derive(Clone)]
pub(super) struct MakeTls(Arc<ClientConfig>);

impl MakeTls {
    /// For this mode, with the authorities of this file; absent: the system's, where any are needed.
    ///
    /// # Errors
    /// What is wrong with the file, for people.
    pub fn new(mode: SslMode, ca: Option<&Path>) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let chain = match (mode, ca) {
            (SslMode::VerifyCa | SslMode::VerifyFull, None) => {
                Some(chains(Path::new(SYSTEM_ROOTS), &provider)?)
            }
            (_, Some(ca)) => Some(chains(ca, &provider)?),
            (_, None) => None,
        };
        let names = mode == SslMode::VerifyFull;
        Ok(Self(Arc::new(judged(AsAsked { chain, names }, provider))))
    }
}

fn chains(
    file: &Path,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, String> {
    let roots = authorities(file).map_err(|failure| failure.0)?;
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| format!("{}: {error}", file.display()))
}

/// Looks at a certificate as far as the mode asks for it.
#[derive(Debug)]
struct AsAsked {
    /// Whose certificates are taken; `None`: anybody's.
    chain: Option<Arc<WebPkiServerVerifier>>,
    /// Whether it must name the host.
    names: bool,
}

impl Judge for AsAsked {
    fn judge(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let Some(chain) = &self.chain else { return Ok(()) };
        match chain.verify_server_cert(certificate, others, name, &[], now) {
            // The chain is judged before the name is.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.names => Ok(()),
            judged => judged.map(|_| ()),
        }
    }
}

impl<S> MakeTlsConnect<S> for MakeTls
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Tls<S>;
    type TlsConnect = OneTls;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> Result<OneTls, io::Error> {
        Ok(OneTls { config: Arc::clone(&self.0), host: host.to_owned() })
    }
}

/// TLS to one host.
pub(super) struct OneTls {
    config: Arc<ClientConfig>,
    host: String,
}

impl<S> TlsConnect<S> for OneTls
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Tls<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Tls<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move {
            let name = ServerName::try_from(self.host).map_err(io::Error::other)?;
            TlsConnector::from(self.config).connect(name, stream).await.map(Tls)
        })
    }
}

/// A connection in TLS.
pub(super) struct Tls<S>(tokio_rustls::client::TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Tls<S> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Tls<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Tls<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
