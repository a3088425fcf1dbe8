//! The socket to an AES: connects over TCP or TLS, reads, writes, closes. It knows nothing of
//! DMCC; when to connect, what to send and when to give up is the link core's decision.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long a connection attempt may take, name look-up and TLS handshake included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What was sent may stay without the kernel's acknowledgement for so long.
const SILENCE_MS: u32 = 2_000;
/// Where nothing is sent, the other end is asked this often whether it is there.
const PROBE_SECONDS: u32 = 1;
/// Frames waiting to be written. The link core bounds what is outstanding, so a queue this full
/// means that the AES has stopped reading.
const WRITE_QUEUE: usize = 4096;
/// Chunks read and not yet taken by the control task.
const READ_QUEUE: usize = 256;
const READ_CHUNK: usize = 64 * 1024;
/// Where Debian keeps the certificates that the machine trusts.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Where the AES is and how to speak to it.
#[derive(Clone, Debug)]
pub struct AesEndpoint {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// TLS, or plain TCP if absent.
    pub tls: Option<AesTls>,
}

/// How the AES proves who it is.
#[derive(Clone)]
pub struct AesTls {
    server_name: ServerName<'static>,
    authorities: PathBuf,
    connector: Arc<RwLock<TlsConnector>>,
    shown: Arc<Mutex<Option<CertificateDer<'static>>>>,
}

impl std::fmt::Debug for AesTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AesTls({:?})", self.server_name)
    }
}

/// Why the TLS settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file holds no usable certificate.
    #[error("{path} holds no certificate in PEM form")]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// The name cannot stand in a certificate.
    #[error("\"{name}\" is neither a host name nor an address")]
    BadName {
        /// The name.
        name: String,
    },
}

impl AesTls {
    /// Trusts the certificates of `ca`, or of the machine if absent, for a server of this name.
    ///
    /// # Errors
    /// If the file cannot be used or the name is none.
    pub fn new(ca: Option<&Path>, server_name: &str) -> Result<Self, TlsError> {
        let authorities = ca.unwrap_or(Path::new(SYSTEM_ROOTS)).to_owned();
        let server_name = ServerName::try_from(server_name.to_owned())
            .map_err(|_| TlsError::BadName { name: server_name.to_owned() })?;
        let connector = Arc::new(RwLock::new(connector(&authorities)?));
        Ok(Self { server_name, authorities, connector, shown: Arc::default() })
    }

    /// Reads the authorities anew, for the connections that are made from now on. Blocking.
    ///
    /// # Errors
    /// If the file cannot be used; what was in use stays in use.
    pub fn renew(&self) -> Result<(), TlsError> {
        let new = connector(&self.authorities)?;
        *self.connector.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// What the AES showed when it was last connected to.
    #[must_use]
    pub fn shown(&self) -> Option<CertificateDer<'static>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn connect(&self, tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let connector = self.connector.read().unwrap_or_else(PoisonError::into_inner).clone();
        let stream = connector.connect(self.server_name.clone(), tcp).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).cloned();
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = shown;
        Ok(stream)
    }
}

fn connector(authorities: &Path) -> Result<TlsConnector, TlsError> {
    let path = authorities.to_owned();
    let pem = fs::read(authorities)
        .map_err(|source| TlsError::Unreadable { path: path.clone(), source })?;
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok);
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() {
        return Err(TlsError::NoCertificate { path });
    }
    // TLS 1.2 stays allowed: AES 7 and 8 speak nothing newer (dossier 1.1).
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider supports the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// What the socket says.
#[derive(Debug)]
pub enum SocketEvent {
    /// It is up.
    Connected,
    /// It could not be opened.
    ConnectFailed(io::Error),
    /// Something arrived.
    Bytes(Vec<u8>),
    /// It is gone.
    Closed(io::Error),
}

/// One socket at a time. Dropping it, or opening the next, ends the one before.
#[derive(Debug)]
pub struct AesLink {
    endpoint: AesEndpoint,
    open: Option<OpenSocket>,
}

#[derive(Debug)]
struct OpenSocket {
    events: mpsc::Receiver<SocketEvent>,
    writes: mpsc::Sender<Vec<u8>>,
    task: JoinHandle<()>,
}

impl Drop for OpenSocket {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl AesLink {
    /// Not connected yet.
    #[must_use]
    pub const fn new(endpoint: AesEndpoint) -> Self {
        Self { endpoint, open: None }
    }

    /// Begins to connect; the outcome is the next event.
    pub fn connect(&mut self) {
        let (event_sender, events) = mpsc::channel(READ_QUEUE);
        let (writes, write_receiver) = mpsc::channel(WRITE_QUEUE);
        let endpoint = self.endpoint.clone();
        let task = tokio::spawn(async move {
            carry(endpoint, event_sender, write_receiver).await;
        });
        self.open = Some(OpenSocket { events, writes, task });
    }

    /// Closes the socket; no event of it comes any more.
    pub fn close(&mut self) {
        self.open = None;
    }

    /// Queues a frame. False if there is no socket or it takes nothing any more: the caller then
    /// treats it as gone.
    pub fn send(&mut self, frame: Vec<u8>) -> bool {
        self.open.as_ref().is_some_and(|open| open.writes.try_send(frame).is_ok())
    }

    /// The next event; never returns while there is no socket.
    pub async fn event(&mut self) -> SocketEvent {
        let Some(open) = &mut self.open else { return std::future::pending().await };
        match open.events.recv().await {
            Some(event) => {
                if matches!(event, SocketEvent::ConnectFailed(_) | SocketEvent::Closed(_)) {
                    self.open = None;
                }
                event
            }
            None => {
                self.open = None;
                SocketEvent::Closed(io::ErrorKind::ConnectionAborted.into())
            }
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// An AES whose host or network is gone closes nothing: the kernel is to notice that nobody there
/// acknowledges any more, long before a keep-alive of the session would.
fn notice_silence(tcp: &TcpStream) -> io::Result<()> {
    setsockopt(tcp, sockopt::TcpUserTimeout, &SILENCE_MS)?;
    setsockopt(tcp, sockopt::TcpKeepIdle, &PROBE_SECONDS)?;
    setsockopt(tcp, sockopt::TcpKeepInterval, &PROBE_SECONDS)?;
    setsockopt(tcp, sockopt::KeepAlive, &true)?;
    Ok(())
}

async fn open_stream(endpoint: &AesEndpoint) -> io::Result<Box<dyn Stream>> {
    let opening = async {
        let tcp = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
        tcp.set_nodelay(true)?;
        notice_silence(&tcp)?;
        match &endpoint.tls {
            None => Ok(Box::new(tcp) as Box<dyn Stream>),
            Some(tls) => Ok(Box::new(tls.connect(tcp).await?) as Box<dyn Stream>),
        }
    };
    timeout(CONNECT_TIMEOUT, opening).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn carry(
    endpoint: AesEndpoint,
    events: mpsc::Sender<SocketEvent>,
    writes: mpsc::Receiver<Vec<u8>>,
) {
    let stream = match open_stream(&endpoint).await {
        Ok(stream) => stream,
        Err(error) => return drop(events.send(SocketEvent::ConnectFailed(error)).await),
    };
    if events.send(SocketEvent::Connected).await.is_err() {
        return;
    }
    let (reader, writer) = tokio::io::split(stream);
    let error = tokio::select! {
        error = read_all(reader, &events) => error,
        error = write_all(writer, writes) => error,
    };
    drop(events.send(SocketEvent::Closed(error)).await);
}

async fn read_all(
    mut reader: impl AsyncRead + Unpin,
    events: &mpsc::Sender<SocketEvent>,
) -> io::Error {
    let mut chunk = vec![0; READ_CHUNK];
    loop {
        match reader.read(&mut chunk).await {
            Ok(0) => return io::ErrorKind::UnexpectedEof.into(),
            Ok(count) => {
                let bytes = chunk[..count].to_vec();
                if events.send(SocketEvent::Bytes(bytes)).await.is_err() {
                    return io::ErrorKind::ConnectionAborted.into();
                }
            }
            Err(error) => return error,
        }
    }
}

async fn write_all(
    mut writer: impl AsyncWrite + Unpin,
    mut writes: mpsc::Receiver<Vec<u8>>,
) -> io::Error {
    while let Some(frame) = writes.recv().await {
        if let Err(error) = writer.write_all(&frame).await {
            return error;
        }
        if writes.is_empty()
            && let Err(error) = writer.flush().await
        {
            return error;
        }
    }
    io::ErrorKind::ConnectionAborted.into()
}
