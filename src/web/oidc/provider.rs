//! What is asked of the provider: its description, its keys, and a token for a code. Each question is bounded in time, so few run
//! at once, and nobody waits for them but whoever signs in by the provider. Whether an answer is good is
//! `token`'s to decide.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{Method, Request, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use form_urlencoded::{Serializer, byte_serialize};
use jsonwebtoken::jwk::Jwk;
use recorder_core::dmcc::Secret;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::pending::Begun;
use crate::config::{HttpUrl, Oidc, http_url};
use crate::http_client::{NoAnswer, ask};

/// Sign-ins that ask the provider at once.
const AT_ONCE: usize = 8;
/// How long one waits for its turn.
const TURN_WITHIN: Duration = Duration::from_secs(5);
/// A description is asked for anew after this; keys whenever one is missing, but not more often than
/// `KEYS_AGAIN`: whoever makes up the name of a key is not to make us ask.
const DESCRIPTION_AGAIN: Duration = Duration::from_secs(3600);
const KEYS_AGAIN: Duration = Duration::from_secs(10);
/// What is shown of a provider's own words.
const WORDS_MAX: usize = 200;

/// Why the provider does not help.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unhelpful {
    #[error("{place} does not answer: {why}")]
    Away { place: String, why: NoAnswer },
    #[error("{place} answers with status {status}: {words}")]
    Status {
        place: String,
        status: u16,
        words: String,
        /// Its name for what is wrong (RFC 6749, 5.2), if it tells one.
        error: Option<String>,
    },
    #[error("{place} answers what cannot be read: {why}")]
    Unreadable { place: String, why: String },
    #[error("its description is that of the issuer {0}; write `al_oidcissuer` to the letter")]
    OtherIssuer(String),
    #[error("its description names `{0}`, which must be an address with https://")]
    BadAddress(&'static str),
    #[error("too many sign in at once; try again")]
    Busy,
}

/// The provider's description (OpenID Connect Discovery 1.0, section 3), as far as it matters here.
#[derive(Clone, Debug)]
pub(super) struct Description {
    /// Where browsers are sent, to the letter.
    pub(super) authorization: String,
    token: HttpUrl,
    keys: HttpUrl,
    /// It wants the client's secret in the form, not in a header.
    secret_in_form: bool,
}

#[derive(Deserialize)]
struct Raw {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct RawKeys {
    keys: Vec<Value>,
}

/// What is given for a code. No `Debug`: these are secrets.
#[derive(Deserialize)]
pub(super) struct Tokens {
    pub(super) id_token: String,
    /// What new ones are given for.
    pub(super) refresh_token: Option<String>,
}

/// What is given for a refresh token. No `Debug`: these are secrets.
#[derive(Deserialize)]
pub(super) struct Renewed {
    pub(super) id_token: Option<String>,
    /// The next time this one is to be shown, if there is one.
    pub(super) refresh_token: Option<String>,
}

#[derive(Deserialize)]
struct RawError {
    error: String,
}

struct Known<T> {
    what: Arc<T>,
    at: Instant,
}

/// The provider.
pub(super) struct Provider {
    pub(super) oidc: Oidc,
    turns: Semaphore,
    description: Mutex<Option<Known<Description>>>,
    keys: Mutex<Option<Known<Vec<Jwk>>>>,
}

impl Provider {
    pub(super) fn new(oidc: Oidc) -> Self {
        let turns = Semaphore::new(AT_ONCE);
        Self { oidc, turns, description: Mutex::default(), keys: Mutex::default() }
    }

    /// What it says of itself: what was last heard, while that is not too old.
    pub(super) async fn description(&self) -> Result<Arc<Description>, Unhelpful> {
        if let Some(known) = fresh(&self.description, DESCRIPTION_AGAIN) {
            return Ok(known);
        }
        let raw: Raw = self.get(&self.oidc.discovery).await?;
        if raw.issuer != self.oidc.issuer {
            return Err(Unhelpful::OtherIssuer(clipped(&raw.issuer)));
        }
        let methods = raw.token_endpoint_auth_methods_supported;
        let takes = |method: &str| {
            let listed = methods.as_ref();
            listed.is_some_and(|methods| methods.iter().any(|known| known == method))
        };
        address("authorization_endpoint", &raw.authorization_endpoint)?;
        let description = Description {
            token: address("token_endpoint", &raw.token_endpoint)?,
            keys: address("jwks_uri", &raw.jwks_uri)?,
            authorization: raw.authorization_endpoint,
            secret_in_form: takes("client_secret_post") && !takes("client_secret_basic"),
        };
        Ok(keep(&self.description, description))
    }

    /// Its keys, as last heard; `anew` where one is missing among those.
    pub(super) async fn keys(&self, anew: bool) -> Result<Arc<Vec<Jwk>>, Unhelpful> {
        let span = if anew { KEYS_AGAIN } else { DESCRIPTION_AGAIN };
        if let Some(known) = fresh(&self.keys, span) {
            return Ok(known);
        }
        let description = self.description().await?;
        let raw: RawKeys = self.get(&description.keys).await?;
        // Kinds of keys that we do not know are others' matter.
        let keys = raw.keys.into_iter().filter_map(|key| serde_json::from_value(key).ok());
        Ok(keep(&self.keys, keys.collect()))
    }

    /// The tokens for a code (RFC 6749, 4.1.3, and RFC 7636, 4.5).
    pub(super) async fn token(&self, code: &str, begun: &Begun) -> Result<Tokens, Unhelpful> {
        self.granted(&[
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &begun.redirect),
            ("code_verifier", &begun.verifier),
        ])
        .await
    }

    /// New tokens for a refresh token (RFC 6749, 6).
    pub(super) async fn renew(&self, refresh: &Secret) -> Result<Renewed, Unhelpful> {
        let form = [("grant_type", "refresh_token"), ("refresh_token", refresh.expose())];
        self.granted(&form).await
    }

    async fn granted<T: DeserializeOwned>(&self, form: &[(&str, &str)]) -> Result<T, Unhelpful> {
        let description = self.description().await?;
        let request = self.token_request(&description, form);
        let request = request.map_err(|error| Unhelpful::Unreadable {
            place: description.token.to_string(),
            why: error.to_string(),
        })?;
        self.ask(&description.token, request).await
    }

    fn token_request(
        &self,
        description: &Description,
        pairs: &[(&str, &str)],
    ) -> Result<Request<Body>, axum::http::Error> {
        let mut form = Serializer::new(String::new());
        form.extend_pairs(pairs);
        let mut request = Request::builder()
            .method(Method::POST)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let client = &self.oidc.client_id;
        match &self.oidc.client_secret {
            Some(secret) if !description.secret_in_form => {
                // Each part as in a form (RFC 6749, 2.3.1).
                let part = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
                let login = format!("{}:{}", part(client), part(secret.expose()));
                let login = format!("Basic {}", STANDARD.encode(login));
                request = request.header(AUTHORIZATION, login);
            }
            Some(secret) => {
                form.append_pair("client_id", client).append_pair("client_secret", secret.expose());
            }
            None => {
                form.append_pair("client_id", client);
            }
        }
        request.body(Body::from(form.finish()))
    }

    async fn get<T: DeserializeOwned>(&self, url: &HttpUrl) -> Result<T, Unhelpful> {
        self.ask(url, Request::new(Body::empty())).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        url: &HttpUrl,
        request: Request<Body>,
    ) -> Result<T, Unhelpful> {
        let turn = timeout(TURN_WITHIN, self.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(Unhelpful::Busy) };
        let place = || url.to_string();
        let answered = ask(url, self.oidc.ca.as_deref(), request).await;
        let (status, body) = answered.map_err(|why| Unhelpful::Away { place: place(), why })?;
        if status != StatusCode::OK {
            let words = clipped(&String::from_utf8_lossy(&body));
            let error = serde_json::from_slice(&body).ok().map(|raw: RawError| raw.error);
            return Err(Unhelpful::Status {
                place: place(),
                status: status.as_u16(),
                words,
                error,
            });
        }
        serde_json::from_slice(&body)
            .map_err(|why| Unhelpful::Unreadable { place: place(), why: why.to_string() })
    }
}

fn fresh<T>(known: &Mutex<Option<Known<T>>>, span: Duration) -> Option<Arc<T>> {
    let known = known.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.as_ref().filter(|known| known.at.elapsed() < span);
    known.map(|known| Arc::clone(&known.what))
}

fn keep<T>(known: &Mutex<Option<Known<T>>>, what: T) -> Arc<T> {
    let what = Arc::new(what);
    let new = Known { what: Arc::clone(&what), at: Instant::now() };
    *known.lock().unwrap_or_else(PoisonError::into_inner) = Some(new);
    what
}

/// What the secrets of people go to is to be reached safely.
fn address(name: &'static str, text: &str) -> Result<HttpUrl, Unhelpful> {
    let url = http_url(text).ok().filter(HttpUrl::is_private);
    url.ok_or(Unhelpful::BadAddress(name))
}

/// Foreign words, short and on one line.
pub(super) fn clipped(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(WORDS_MAX).map(plain).collect()
}
