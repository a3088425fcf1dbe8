//! Addresses, status codes, cookies, and whose page may call us. Bodies of recordings are
//! `audio`'s matter, WebSockets `ws`'s, what requests do `requests`'.
//!
//! A browser sends our cookie along with whatever page asks it to. So where the cookie is what
//! proves who asks, a request that changes something, and any WebSocket, must come from our own
//! page: its `Origin` must name the host it was sent to. A token in `Authorization` no foreign
//! page can send.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Path, Query as AddressQuery, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, HOST, ORIGIN,
    REFERRER_POLICY, RETRY_AFTER, SET_COOKIE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Extension, Json, Router};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use storage_core::RecordingId;
use tokio::time::timeout;

use super::arguments::{Arguments, Credentials, members_of_query};
use super::backend::{Code, Failure, FetchFormat};
use super::protocol::{FRAME_BYTES_MAX, ROWS};
use super::session::Session;
use super::signin::SignedIn;
use super::{
    Web, audio, audit, describe, exports, oidc, own, pages, perform, posted, waveform, ws,
};
use crate::completeness::{day_named, today};

const COOKIE_NAME: &str = "astlogger";
/// As long as a session lasts, in seconds.
const COOKIE_SECONDS: u32 = 12 * 3600;
/// Each WebSocket has one such buffer.
const WS_READ_BUFFER_BYTES: usize = 16 * 1024;

/// Where a request comes from.
#[derive(Clone, Copy)]
pub struct Peer(pub IpAddr);

pub(super) type Shared = State<Arc<Web>>;

/// All addresses.
pub fn router(web: Arc<Web>) -> Router {
    Router::new()
        .merge(pages::router())
        .route("/ws", any(upgrade))
        .route("/api", get(addresses))
        .route("/api/openapi.yaml", get(describe::openapi))
        .route("/api/asyncapi.yaml", get(describe::asyncapi))
        .route("/api/session", get(own::session))
        .route("/api/signin", post(sign_in))
        .route("/api/signout", post(sign_out))
        .route("/api/oidc/start", get(oidc::start))
        .route("/api/oidc/callback", get(oidc::callback))
        .route("/api/requests/{name}", post(posted::request))
        .route("/api/recordings", get(list))
        .route("/api/recordings/{id}", get(recording))
        .route("/api/recordings/{id}/audio", get(recording_audio))
        .route("/api/recordings/{id}/waveform", get(recording_waveform))
        .route("/api/exports/{id}", get(exports::download))
        .route("/api/calls/own", get(own::calls))
        .route("/api/completeness", get(completeness))
        .route("/api/audit", get(audit::list))
        .route("/api/status", get(status))
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
        .route("/readyz", get(ready))
        .route_layer(axum::middleware::from_fn_with_state(Arc::clone(&web), audit::audited))
        .fallback(nowhere)
        .layer(axum::middleware::map_response(secured))
        .with_state(web)
}

/// A failure as an HTTP answer, its body the same object as on the WebSocket.
pub struct Refusal(pub Failure);

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match self.0.code {
            Code::NotAuthenticated => StatusCode::UNAUTHORIZED,
            Code::Forbidden => StatusCode::FORBIDDEN,
            Code::BadValue => StatusCode::BAD_REQUEST,
            Code::NotFound | Code::UnknownRequest => StatusCode::NOT_FOUND,
            Code::Busy => StatusCode::TOO_MANY_REQUESTS,
            Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Code::NoCall | Code::NoTrunk | Code::NoPhantom | Code::AlreadyRecording => {
                StatusCode::CONFLICT
            }
        };
        let body = json!({
            "result": "fail",
            "error": self.0.code.as_str(),
            "message": self.0.message,
        });
        let mut response = (status, Json(body)).into_response();
        response.extensions_mut().insert(self.0.code);
        let headers = response.headers_mut();
        match status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("30"));
            }
            _ => {}
        }
        response
    }
}

const SECURITY_HEADERS: [(HeaderName, &str); 5] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
];

async fn secured(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in SECURITY_HEADERS {
        // Pages say for themselves what they may load.
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    // What answers here is private or changes; audio and pages say for themselves how they may be kept.
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// For people without a browser.
async fn addresses() -> &'static str {
    "AstLogger\n\n\
     /, /supervisor, /health             pages for browsers\n\
     /ws                                 WebSocket: JSON requests, replies, events\n\
     /api/openapi.yaml, /api/asyncapi.yaml  all of this, for programs\n\
     /api/signin, /api/signout           POST\n\
     /api/oidc/start                     sign-in by a provider of OpenID Connect, where there is one\n\
     /api/requests/NAME                  POST: any request of the WebSocket, its arguments as a JSON object\n\
     /api/recordings                     search; filters as in listrecordings\n\
     /api/recordings/RECORDINGID         one record\n\
     /api/recordings/RECORDINGID/audio   its voice file\n\
     /api/recordings/RECORDINGID/waveform  how loud it is where\n\
     /api/exports/EXPORT                 an export's ZIP file, in parts if need be\n\
     /api/calls/own                      calls in progress at your own station\n\
     /api/completeness?day=2026-11-27    what became of that day's calls\n\
     /api/audit                          who did what, when, from where\n\
     /metrics                            Prometheus\n\
     /healthz, /readyz                   probes\n"
}

async fn nowhere() -> Refusal {
    Refusal(Failure::new(Code::NotFound, "nothing is served at this address"))
}

async fn health() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

async fn ready(State(web): Shared) -> (StatusCode, Json<Value>) {
    match web.node.backend.readiness() {
        Ok(()) => (StatusCode::OK, Json(json!({ "ready": true }))),
        Err(reasons) => {
            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "ready": false, "reasons": reasons })))
        }
    }
}

/// `clusterstatus` for whoever is on this machine, as `astlogger status` is, and for anybody who is
/// signed in.
async fn status(
    State(web): Shared,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
) -> Result<Json<Map<String, Value>>, Refusal> {
    if !peer.to_canonical().is_loopback() && peer != web.listen {
        permitted(&web, &headers, "clusterstatus")?;
    }
    Ok(Json(web.node.backend.cluster_status()))
}

async fn metrics(State(web): Shared) -> impl IntoResponse {
    let mut text = web.node.backend.metrics();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(&web.stats.text());
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

async fn sign_in(
    State(web): Shared,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    // Nobody is to be signed in from a foreign page as somebody else than he thinks.
    if origin(&headers) == Origin::Foreign {
        return Err(foreign());
    }
    let members = members_of_body(&read(&web, body).await?)?;
    let SignedIn { token, session } = match Arguments::new(&members).credentials()? {
        Credentials::Token(token) => {
            let session = web.desk.by_token(&token)?;
            SignedIn { token, session }
        }
        Credentials::Password { user, password } => {
            web.desk.by_password(peer, user, password).await?
        }
    };
    let cookie = session_cookie(&web, &token);
    Ok(([(SET_COOKIE, cookie)], Json(perform::signed_in(&token, &session))).into_response())
}

async fn sign_out(State(web): Shared, headers: HeaderMap) -> Result<Response, Refusal> {
    let session = signed_in_to_change(&web, &headers)?;
    web.desk.sign_out(&session);
    Ok((StatusCode::NO_CONTENT, [(SET_COOKIE, cookie(&web, "", 0))]).into_response())
}

/// The members of a body; of an empty one none.
///
/// # Errors
/// `badvalue`.
pub(super) fn members_of_body(bytes: &[u8]) -> Result<BTreeMap<String, Box<RawValue>>, Failure> {
    if bytes.is_empty() {
        return Ok(BTreeMap::new());
    }
    serde_json::from_slice(bytes).map_err(|error| {
        Failure::new(Code::BadValue, format!("the body must be one JSON object: {error}"))
    })
}

async fn list(
    State(web): Shared,
    headers: HeaderMap,
    AddressQuery(pairs): AddressQuery<Vec<(String, String)>>,
) -> Result<Json<Map<String, Value>>, Refusal> {
    let session = permitted(&web, &headers, "listrecordings")?;
    let members = members_of_query(pairs);
    let query = Arguments::new(&members).query()?;
    Ok(Json(web.node.list(session.scope(), query).await?))
}

async fn recording(
    State(web): Shared,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let session = permitted(&web, &headers, "getrecording")?;
    let found = web.node.record(session.scope(), identity(&id)?).await?;
    Ok(Json(found).into_response())
}

async fn recording_audio(
    State(web): Shared,
    headers: HeaderMap,
    Path(id): Path<String>,
    AddressQuery(pairs): AddressQuery<Vec<(String, String)>>,
) -> Result<Response, Refusal> {
    let session = permitted(&web, &headers, "fetchrecording")?;
    let id = identity(&id)?;
    let format = match last(&pairs, "format") {
        None => FetchFormat::default(),
        Some(word) => FetchFormat::parse(word).ok_or_else(|| {
            Failure::new(Code::BadValue, "`format` must be `original`, `wav` or `opus`")
        })?,
    };
    let opened = web.node.audio(session.scope(), id, format).await?;
    web.stats.fetches.inc();
    Ok(audio::response(id, opened, &headers))
}

async fn recording_waveform(
    State(web): Shared,
    headers: HeaderMap,
    Path(id): Path<String>,
    AddressQuery(pairs): AddressQuery<Vec<(String, String)>>,
) -> Result<Response, Refusal> {
    let session = permitted(&web, &headers, "fetchrecording")?;
    let id = identity(&id)?;
    let points = match last(&pairs, "points") {
        None => waveform::POINTS,
        Some(word) => {
            let points = word.parse().ok().filter(|n| (1..=waveform::POINTS_MAX).contains(n));
            let told = format!("`points` must be a number from 1 to {}", waveform::POINTS_MAX);
            points.ok_or_else(|| Failure::new(Code::BadValue, told))?
        }
    };
    Ok(Json(web.node.waveform(session.scope(), id, points).await?).into_response())
}

async fn completeness(
    State(web): Shared,
    headers: HeaderMap,
    AddressQuery(pairs): AddressQuery<Vec<(String, String)>>,
) -> Result<Response, Refusal> {
    let session = permitted(&web, &headers, "completeness")?;
    let day = match last(&pairs, "day") {
        None => today(),
        Some(word) => day_named(word).ok_or_else(|| {
            Failure::new(Code::BadValue, "`day` must be a day, written as 2026-11-27")
        })?,
    };
    Ok(Json(web.node.completeness(session.scope(), day).await?).into_response())
}

/// What was given under a name; of several the last.
pub(super) fn last<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().rfind(|(given, _)| given == name).map(|(_, word)| word.as_str())
}

async fn upgrade(
    State(web): Shared,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let origin = origin(&headers);
    if origin == Origin::Foreign {
        return Err(foreign());
    }
    let session = match proof(&headers)? {
        Some(Proof::Bearer(token)) => Some(web.desk.by_token(token)?),
        // A page whose cookie is old signs in on the socket.
        Some(Proof::Cookie(token)) if origin == Origin::Own => web.desk.by_token(token).ok(),
        _ => None,
    };
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => return Ok(rejection.into_response()),
    };
    Ok(upgrade
        .max_frame_size(FRAME_BYTES_MAX)
        .max_message_size(FRAME_BYTES_MAX)
        .read_buffer_size(WS_READ_BUFFER_BYTES)
        .on_upgrade(move |socket| ws::serve(socket, web, peer, session)))
}

/// How somebody shows who he is.
enum Proof<'a> {
    Bearer(&'a str),
    Cookie(&'a str),
}

fn proof(headers: &HeaderMap) -> Result<Option<Proof<'_>>, Failure> {
    if let Some(value) = headers.get(AUTHORIZATION) {
        let bearer = value.to_str().ok().and_then(|text| text.split_once(' '));
        return match bearer {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                Ok(Some(Proof::Bearer(token.trim())))
            }
            _ => {
                Err(Failure::new(Code::NotAuthenticated, "`Authorization` must be `Bearer TOKEN`"))
            }
        };
    }
    Ok(cookie_named(headers, COOKIE_NAME).map(Proof::Cookie))
}

/// The value of a cookie.
pub(super) fn cookie_named<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let cookies = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    cookies
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(given, _)| *given == name)
        .map(|(_, value)| value)
}

/// Who sends a request.
///
/// # Errors
/// `notauthenticated`.
pub(super) fn signed_in(web: &Web, headers: &HeaderMap) -> Result<Arc<Session>, Failure> {
    match proof(headers)? {
        Some(Proof::Bearer(token) | Proof::Cookie(token)) => web.desk.by_token(token),
        None => Err(unproved()),
    }
}

/// The session of somebody who may be about to change something: not if a foreign page asks.
///
/// # Errors
/// `notauthenticated`, `forbidden`.
pub(super) fn signed_in_to_change(web: &Web, headers: &HeaderMap) -> Result<Arc<Session>, Refusal> {
    let token = match proof(headers)? {
        Some(Proof::Bearer(token)) => token,
        Some(Proof::Cookie(token)) if origin(headers) == Origin::Own => token,
        Some(Proof::Cookie(_)) => return Err(foreign()),
        None => return Err(unproved().into()),
    };
    Ok(web.desk.by_token(token)?)
}

/// The address may what the WebSocket's request of this name may: who sends it.
///
/// # Errors
/// `notauthenticated`, `forbidden`.
pub(super) fn permitted(
    web: &Web,
    headers: &HeaderMap,
    request: &str,
) -> Result<Arc<Session>, Failure> {
    let session = signed_in(web, headers)?;
    let role = session.role();
    let allowed = ROWS.iter().any(|row| row.name == request && row.roles.contains(&role));
    if allowed {
        return Ok(session);
    }
    Err(Failure::new(Code::Forbidden, format!("recordings are not for the role {role}")))
}

fn unproved() -> Failure {
    Failure::new(Code::NotAuthenticated, "sign in first, at /api/signin")
}

fn foreign() -> Refusal {
    Refusal(Failure::new(Code::Forbidden, "`Origin` must name the host that the request is for"))
}

fn identity(text: &str) -> Result<RecordingId, Failure> {
    text.parse().map_err(|_| Failure::new(Code::NotFound, "no recording of this id"))
}

/// Whose page sends a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// No page, or a browser that does not tell.
    Untold,
    Own,
    Foreign,
}

fn origin(headers: &HeaderMap) -> Origin {
    let Some(origin) = headers.get(ORIGIN) else { return Origin::Untold };
    let parted = origin.to_str().ok().and_then(|text| text.split_once("://"));
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    match (parted, host) {
        (Some((scheme, authority)), Some(host)) => {
            // The scheme may differ from ours: a proxy before us may do the TLS.
            let default_port = match scheme {
                "https" => ":443",
                "http" => ":80",
                _ => return Origin::Foreign,
            };
            let bare = |text: &str| {
                let text = text.to_ascii_lowercase();
                text.strip_suffix(default_port).map_or(text.clone(), str::to_owned)
            };
            if bare(authority) == bare(host) { Origin::Own } else { Origin::Foreign }
        }
        _ => Origin::Foreign,
    }
}

/// The cookie of somebody who has signed in.
pub(super) fn session_cookie(web: &Web, token: &str) -> String {
    cookie(web, token, COOKIE_SECONDS)
}

fn cookie(web: &Web, token: &str, seconds: u32) -> String {
    let secure = if web.tls { "; Secure" } else { "" };
    format!("{COOKIE_NAME}={token}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
}

/// Reads a whole body.
///
/// # Errors
/// `badvalue` if it is too long or too slow.
pub(super) async fn read(web: &Web, body: Body) -> Result<axum::body::Bytes, Failure> {
    let bad = |message: &str| Failure::new(Code::BadValue, message);
    match timeout(web.limits.head_within, axum::body::to_bytes(body, FRAME_BYTES_MAX)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(bad("the body must be whole and at most 64 KiB")),
        Err(_) => Err(bad("the body did not arrive in time")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_page_it_is() {
        let cases = [
            (None, "host:8080", Origin::Untold),
            (Some("http://host:8080"), "host:8080", Origin::Own),
            (Some("https://host:8080"), "host:8080", Origin::Own),
            (Some("http://HOST:8080"), "host:8080", Origin::Own),
            (Some("https://host"), "host", Origin::Own),
            (Some("https://host"), "host:443", Origin::Own),
            (Some("http://host"), "host:80", Origin::Own),
            (Some("http://[::1]:8080"), "[::1]:8080", Origin::Own),
            (Some("http://host:8081"), "host:8080", Origin::Foreign),
            (Some("http://host"), "host:8080", Origin::Foreign),
            (Some("http://evil"), "host", Origin::Foreign),
            (Some("http://host.evil"), "host", Origin::Foreign),
            (Some("http://host@evil"), "host", Origin::Foreign),
            (Some("chrome-extension://host"), "host", Origin::Foreign),
            (Some("null"), "host", Origin::Foreign),
            (Some(""), "host", Origin::Foreign),
        ];
        for (from, to, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, to.parse().unwrap());
            if let Some(from) = from {
                headers.insert(ORIGIN, from.parse().unwrap());
            }
            assert_eq!(origin(&headers), expected, "{from:?} to {to}");
        }
    }

    #[test]
    fn proofs() {
        let with = |name: HeaderName, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            match proof(&headers) {
                Ok(Some(Proof::Bearer(token))) => format!("bearer {token}"),
                Ok(Some(Proof::Cookie(token))) => format!("cookie {token}"),
                Ok(None) => "none".to_owned(),
                Err(_) => "wrong".to_owned(),
            }
        };
        assert_eq!(with(AUTHORIZATION, "Bearer abc"), "bearer abc");
        assert_eq!(with(AUTHORIZATION, "bearer  abc "), "bearer abc");
        assert_eq!(with(AUTHORIZATION, "Basic abc"), "wrong");
        assert_eq!(with(AUTHORIZATION, "abc"), "wrong");
        assert_eq!(with(COOKIE, "a=b; astlogger=abc; c=d"), "cookie abc");
        assert_eq!(with(COOKIE, "astloggerx=abc"), "none");
        assert_eq!(with(COOKIE, "astlogger"), "none");
    }
}
