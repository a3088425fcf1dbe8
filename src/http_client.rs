//! One question to an HTTP server of others: bounded in time and size, over TLS where the address says so, without following
//! anybody elsewhere. It knows nothing of what is asked.

use std::io;
use std::path::Path;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::header::{ACCEPT, CONNECTION, HOST, USER_AGENT};
use axum::http::{HeaderValue, Request, StatusCode, Uri};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::config::HttpUrl;
use crate::tls_client::{self, TlsFailure};

/// For everything: connection, question, answer.
const WITHIN: Duration = Duration::from_secs(10);
/// No answer that is looked for here is longer.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    /// No connection, or it broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The certificates do not do.
    #[error("TLS: {0}")]
    Tls(#[from] TlsFailure),
    /// What came is not HTTP, or breaks off.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// It is too long, or breaks off.
    #[error("an answer that is whole and shorter than 1 MiB is expected: {0}")]
    Body(axum::Error),
    /// Nothing came in time.
    #[error("no answer within {} s", WITHIN.as_secs())]
    Late,
}

/// Sends a request to where the address says; the request's own address is not looked at.
///
/// # Errors
/// Why there is no answer. Any status is one.
pub(crate) async fn ask(
    url: &HttpUrl,
    ca: Option<&Path>,
    mut request: Request<Body>,
) -> Result<(StatusCode, Bytes), NoAnswer> {
    // The path was read as one that can stand in a request line.
    *request.uri_mut() = url.path.parse().unwrap_or_else(|_| Uri::from_static("/"));
    let headers = request.headers_mut();
    if let Ok(host) = HeaderValue::from_str(&url.host()) {
        headers.insert(HOST, host);
    }
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    let agent = concat!("astlogger/", env!("CARGO_PKG_VERSION"));
    headers.insert(USER_AGENT, HeaderValue::from_static(agent));
    let asking = async {
        let tcp = TcpStream::connect((url.place.host.as_str(), url.place.port)).await?;
        if !url.tls {
            return exchange(tcp, request).await;
        }
        exchange(tls_client::connect(tcp, &url.place, ca).await?, request).await
    };
    timeout(WITHIN, asking).await.unwrap_or(Err(NoAnswer::Late))
}

async fn exchange<S>(stream: S, request: Request<Body>) -> Result<(StatusCode, Bytes), NoAnswer>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends with this question, however that ends.
    let mut driving = JoinSet::new();
    driving.spawn(connection);
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = to_bytes(Body::new(answer.into_body()), ANSWER_BYTES_MAX).await;
    Ok((status, body.map_err(NoAnswer::Body)?))
}
