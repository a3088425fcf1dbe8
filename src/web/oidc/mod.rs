//! Signing in by OpenID Connect (authorization code flow with PKCE, RFC 7636) beside the users file: a browser goes to the provider with
//! `GET /api/oidc/start` and comes back to `GET /api/oidc/callback`. It decides in which order things are asked and
//! what whoever signs in is told; sessions are `signin`'s.
//!
//! | file | decides |
//! |---|---|
//! | `pending` | which sign-ins may come back (pure) |
//! | `provider` | what the provider is asked, and when again |
//! | `token` | whether an ID token is what it says (pure) |
//! | `person` | who somebody is here, by what the provider says of him (pure) |
//! | `renewal` | how long somebody stays signed in without the provider's word (pure) |
//! | `watch` | after whom the provider is asked again |
//!
//! What comes back is taken from the browser that began only: `state` must be the one of its cookie. So nobody is
//! signed in as somebody else by a link that he follows.

mod pending;
mod person;
mod provider;
mod renewal;
mod token;
mod watch;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Extension;
use axum::extract::{Query as AddressQuery, State};
use axum::http::header::{ACCEPT, HOST, LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use form_urlencoded::Serializer;
use recorder_core::dmcc::Secret;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use storage_core::MonoTime;
use subtle::ConstantTimeEq;

use self::pending::{Begun, PATIENCE, Pending};
use self::provider::{Provider, Tokens, Unhelpful, clipped};
use self::token::{Expected, Wrong};
use self::watch::Vouched;
use super::Web;
use super::backend::{Code, Failure};
use super::http::{Peer, Refusal, Shared, cookie_named, last, session_cookie};
use super::session::random_word;
use super::signin::{SignedIn, wall_now};
use crate::config::Oidc;

const COOKIE_NAME: &str = "astlogger_oidc";
const CALLBACK: &str = "/api/oidc/callback";
/// The pages to which somebody may come back.
const PAGES: [&str; 5] = ["/", "/supervisor", "/health", "/custody", "/audit"];

/// What the provider has answered of somebody.
struct Answered {
    claims: Map<String, Value>,
    /// What his tokens have in them, whenever they are made.
    nonce: String,
    subject: String,
    /// What the provider gives new tokens for, if it has given that.
    refresh: Option<Secret>,
}

/// The provider, who has been sent there, and who has come back.
pub struct Door {
    provider: Provider,
    pending: Mutex<Pending>,
    vouched: Mutex<Vec<Vouched>>,
    began: Instant,
}

impl Door {
    /// A door to this provider, which is asked for the first time when somebody signs in by it.
    pub(super) fn new(oidc: Oidc) -> Self {
        let provider = Provider::new(oidc);
        let (pending, vouched) = (Mutex::default(), Mutex::default());
        Self { provider, pending, vouched, began: Instant::now() }
    }

    /// What people call it.
    pub(super) fn name(&self) -> &str {
        &self.provider.oidc.name
    }

    fn now(&self) -> MonoTime {
        let elapsed = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        MonoTime::from_micros(elapsed)
    }

    /// Where a browser is sent, and the `state` that it is to bring back.
    async fn begin(
        &self,
        address: IpAddr,
        redirect: String,
        page: &'static str,
    ) -> Result<(String, String), Failure> {
        let description = self.provider.description().await.map_err(|why| self.away(&why))?;
        let (state, nonce, verifier) = (random_word()?, random_word()?, random_word()?);
        let oidc = &self.provider.oidc;
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
        let question = Serializer::new(String::new())
            .append_pair("response_type", "code")
            .append_pair("client_id", &oidc.client_id)
            .append_pair("redirect_uri", &redirect)
            .append_pair("scope", &oidc.scopes.join(" "))
            .append_pair("state", &state)
            .append_pair("nonce", &nonce)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256")
            .finish();
        let begun = Begun { nonce, verifier, redirect, page };
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if !pending.begin(self.now(), address, state.clone(), begun) {
            return Err(Failure::new(Code::Busy, "too many sign in at once; try again later"));
        }
        let mark = if description.authorization.contains('?') { '&' } else { '?' };
        Ok((format!("{}{mark}{question}", description.authorization), state))
    }

    /// What the provider says of whoever brings this code.
    async fn answered(&self, code: &str, begun: &Begun) -> Result<Answered, Failure> {
        let tokens = self.provider.token(code, begun).await.map_err(|why| match why {
            // It does not take the code: used before, made up, or too old.
            Unhelpful::Status { status: 400..=499, .. } => {
                tracing::warn!(error = %why, "sign-in by OpenID Connect");
                let message = format!("the provider does not confirm this sign-in: {why}");
                Failure::new(Code::NotAuthenticated, message)
            }
            why => self.away(&why),
        })?;
        let Tokens { id_token, refresh_token } = tokens;
        let claims = self.checked(&id_token, &begun.nonce, None).await;
        let claims = claims.map_err(|why| self.away(&why))?.map_err(|wrong| {
            tracing::warn!(error = %wrong, "an ID token is not taken");
            let message = format!("the provider's token is not taken: {wrong}");
            Failure::new(Code::NotAuthenticated, message)
        })?;
        let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default().to_owned();
        let refresh = refresh_token.map(Secret::new);
        Ok(Answered { claims, nonce: begun.nonce.clone(), subject, refresh })
    }

    /// The claims of an ID token that answers a sign-in with this nonce; `renewed` names whom a later one must be of.
    async fn checked(
        &self,
        token: &str,
        nonce: &str,
        renewed: Option<&str>,
    ) -> Result<Result<Map<String, Value>, Wrong>, Unhelpful> {
        let oidc = &self.provider.oidc;
        let now = wall_now().as_millis() / 1000;
        let expected =
            Expected { issuer: &oidc.issuer, client: &oidc.client_id, nonce, renewed, now };
        let keys = self.provider.keys(false).await?;
        Ok(match token::claims(token, &keys, expected) {
            // Keys change.
            Err(Wrong::UnknownKey) => {
                let keys = self.provider.keys(true).await?;
                token::claims(token, &keys, expected)
            }
            done => done,
        })
    }

    /// How long a session lasts: its whole time where the provider can be asked again, or never is.
    fn lifetime(&self, answered: &Answered) -> Option<Duration> {
        let every = self.provider.oidc.recheck.filter(|_| answered.refresh.is_none());
        every.map(renewal::unconfirmed)
    }

    fn away(&self, why: &Unhelpful) -> Failure {
        tracing::warn!(issuer = %self.provider.oidc.issuer, error = %why, "no sign-in by OpenID Connect");
        let code = if matches!(why, Unhelpful::Busy) { Code::Busy } else { Code::Unavailable };
        let message = format!(
            "nobody can sign in by {} now: {why}; users of the users file sign in as always",
            self.name(),
        );
        Failure::new(code, message)
    }
}

/// Sends a browser to the provider.
pub async fn start(
    State(web): Shared,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    AddressQuery(pairs): AddressQuery<Vec<(String, String)>>,
) -> Response {
    let wanted = last(&pairs, "page").unwrap_or_default();
    let page = PAGES.into_iter().find(|page| *page == wanted).unwrap_or(PAGES[0]);
    match begin(&web, peer, &headers, page).await {
        Ok((address, state)) => {
            let cookie = cookie(&web, &state, PATIENCE.as_secs());
            away_to(&address, &[cookie])
        }
        Err(failure) => refused(&headers, failure),
    }
}

async fn begin(
    web: &Web,
    peer: IpAddr,
    headers: &HeaderMap,
    page: &'static str,
) -> Result<(String, String), Failure> {
    let door = door(web)?;
    let redirect = match &door.provider.oidc.redirect {
        Some(redirect) => redirect.clone(),
        None => {
            let host = headers.get(HOST).and_then(|host| host.to_str().ok());
            let missing = || Failure::new(Code::BadValue, "`Host` is missing");
            let scheme = if web.tls { "https" } else { "http" };
            format!("{scheme}://{}{CALLBACK}", host.ok_or_else(missing)?)
        }
    };
    door.begin(peer, redirect, page).await
}

/// Takes back a browser that the provider has sent.
pub async fn callback(
    State(web): Shared,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    AddressQuery(pairs): AddressQuery<Vec<(String, String)>>,
) -> Response {
    // Whatever comes of it, this sign-in is over.
    let forget = cookie(&web, "", 0);
    match come_back(&web, peer, &headers, &pairs).await {
        Ok((SignedIn { token, .. }, page)) => {
            away_to(page, &[forget, session_cookie(&web, &token)])
        }
        Err(failure) => {
            let mut response = refused(&headers, failure);
            append_cookie(&mut response, &forget);
            response
        }
    }
}

async fn come_back(
    web: &Web,
    peer: IpAddr,
    headers: &HeaderMap,
    pairs: &[(String, String)],
) -> Result<(SignedIn, &'static str), Failure> {
    let door = door(web)?;
    let state = last(pairs, "state").unwrap_or_default();
    let own = cookie_named(headers, COOKIE_NAME).unwrap_or_default();
    let stranger = || {
        let message = "this browser has not begun this sign-in, or too long ago, or ended it already; begin anew";
        Failure::new(Code::BadValue, message)
    };
    if state.is_empty() || !bool::from(state.as_bytes().ct_eq(own.as_bytes())) {
        return Err(stranger());
    }
    let begun = {
        let mut pending = door.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.take(door.now(), state).ok_or_else(stranger)?
    };
    // Tells whose answer this is, where it is told (RFC 9207).
    if last(pairs, "iss").is_some_and(|issuer| issuer != door.provider.oidc.issuer) {
        return Err(Failure::new(Code::NotAuthenticated, "the answer is by another issuer"));
    }
    if let Some(error) = last(pairs, "error") {
        let words = last(pairs, "error_description").unwrap_or_default();
        let message = format!("the provider refuses: {} {}", clipped(error), clipped(words));
        return Err(Failure::new(Code::NotAuthenticated, message));
    }
    let missing = || Failure::new(Code::BadValue, "`code` is missing");
    let code = last(pairs, "code").ok_or_else(missing)?;
    let answered = door.answered(code, &begun).await?;
    let oidc = &door.provider.oidc;
    match person::identity(&answered.claims, oidc, &web.desk.users()) {
        Ok(who) => {
            let lifetime = door.lifetime(&answered);
            let signed_in = web.desk.by_provider(peer, who, lifetime).await?;
            door.keep(&signed_in.session, peer, answered);
            Ok((signed_in, begun.page))
        }
        Err(nobody) => {
            let failure = Failure::new(Code::Forbidden, nobody.to_string());
            let name = person::name(&answered.claims, oidc).unwrap_or_default();
            web.desk.refused_by_provider(peer, name, failure.code).await;
            Err(failure)
        }
    }
}

fn door(web: &Web) -> Result<&Arc<Door>, Failure> {
    let none =
        "there is no provider of OpenID Connect here (`al_oidcissuer`); sign in with a password";
    web.door.as_ref().ok_or_else(|| Failure::new(Code::NotFound, none))
}

/// A page says it in its own words; whoever is no browser gets what every refusal says.
fn refused(headers: &HeaderMap, failure: Failure) -> Response {
    let accepts = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if !accepts.contains("text/html") {
        return Refusal(failure).into_response();
    }
    tracing::info!(code = failure.code.as_str(), error = %failure.message, "sign-in refused");
    away_to(&format!("/?signin={}", failure.code.as_str()), &[])
}

fn away_to(address: &str, cookies: &[String]) -> Response {
    let mut response = (StatusCode::SEE_OTHER, [(LOCATION, address)]).into_response();
    for cookie in cookies {
        append_cookie(&mut response, cookie);
    }
    response
}

fn append_cookie(response: &mut Response, cookie: &str) {
    // Hexadecimal digits and our own words.
    if let Ok(value) = cookie.parse() {
        response.headers_mut().append(SET_COOKIE, value);
    }
}

/// The browser brings it along when the provider sends it back, so it is not `Strict`.
fn cookie(web: &Web, state: &str, seconds: u64) -> String {
    let secure = if web.tls { "; Secure" } else { "" };
    format!(
        "{COOKIE_NAME}={state}; Path=/api/oidc; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}"
    )
}
