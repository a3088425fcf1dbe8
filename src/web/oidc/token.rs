//! Whether an ID token is what it says (OpenID Connect Core 1.0, section 3.1.3.7): signed by a key of the provider, by it, for us,
//! now, and in answer to what we asked. Pure: keys and time come in.

use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Map, Value};
use subtle::ConstantTimeEq;

/// So far clocks may differ, in seconds.
const LEEWAY: i64 = 60;
/// A token that was made longer ago is no answer to somebody who signs in now.
const OLD: i64 = 900;
/// Algorithms with a public key. With a shared key (HS256) everybody who knows the client's secret could make tokens, and
/// whoever takes a public key for one could, too.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// What a token must be an answer to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a str,
    pub(super) client: &'a str,
    pub(super) nonce: &'a str,
    /// Whose it must be, if it is not the first: such a one need not repeat the nonce (section 12.2).
    pub(super) renewed: Option<&'a str>,
    /// Seconds since 1970.
    pub(super) now: i64,
}

/// Why a token is not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Wrong {
    #[error("it is not signed with a key pair (RS256, PS256, ES256, EdDSA or their like)")]
    Algorithm,
    #[error("no key of the provider is the one that it names")]
    UnknownKey,
    #[error("its signature is wrong")]
    Signature,
    #[error("it is no ID token")]
    Malformed,
    #[error("it is by another issuer; compare `al_oidcissuer` with the provider's description")]
    Issuer,
    #[error("it is for another client; compare `al_oidcclientid`")]
    Audience,
    #[error("it has expired; are the clocks of provider and recorder right?")]
    Expired,
    #[error("it is not of now; are the clocks of provider and recorder right?")]
    NotNow,
    #[error("it answers another sign-in")]
    Nonce,
    #[error("it is of somebody else than the one before")]
    Subject,
}

/// Its claims, if all is right.
///
/// # Errors
/// With the first thing that is not.
pub(super) fn claims(
    token: &str,
    keys: &[Jwk],
    expected: Expected<'_>,
) -> Result<Map<String, Value>, Wrong> {
    // What is no known algorithm, `none` among it, cannot be read.
    let header = decode_header(token).map_err(|_| Wrong::Algorithm)?;
    if !ALGORITHMS.contains(&header.alg) {
        return Err(Wrong::Algorithm);
    }
    // Extensions that must be understood; we understand none (RFC 7515, 4.1.11).
    if header.crit.is_some() {
        return Err(Wrong::Malformed);
    }
    let mut candidates = keys
        .iter()
        .filter(|key| header.kid.is_none() || key.common.key_id == header.kid)
        .filter(|key| signs(key, header.alg))
        .peekable();
    if candidates.peek().is_none() {
        return Err(Wrong::UnknownKey);
    }
    let claims = candidates.find_map(|key| verified(token, key, header.alg));
    let claims = claims.ok_or(Wrong::Signature)?;
    check(&claims, expected)?;
    Ok(claims)
}

fn signs(key: &Jwk, algorithm: Algorithm) -> bool {
    let common = &key.common;
    let for_signatures =
        common.public_key_use.as_ref().is_none_or(|of| *of == PublicKeyUse::Signature);
    let named = common.key_algorithm.is_none_or(|of| of == algorithm.into());
    for_signatures && named
}

fn verified(token: &str, key: &Jwk, algorithm: Algorithm) -> Option<Map<String, Value>> {
    let key = DecodingKey::from_jwk(key).ok()?;
    // The signature alone: what the claims must be is checked here, against the time that came in.
    let mut only_signature = Validation::new(algorithm);
    only_signature.required_spec_claims.clear();
    only_signature.validate_exp = false;
    only_signature.validate_nbf = false;
    only_signature.validate_aud = false;
    decode::<Map<String, Value>>(token, &key, &only_signature).ok().map(|read| read.claims)
}

fn check(claims: &Map<String, Value>, expected: Expected<'_>) -> Result<(), Wrong> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let seconds = |name: &str| claims.get(name).and_then(Value::as_f64).map(|at| at as i64);
    if text("iss") != Some(expected.issuer) {
        return Err(Wrong::Issuer);
    }
    let mine = match claims.get("aud") {
        Some(Value::String(one)) => one == expected.client,
        Some(Value::Array(all)) => {
            let named = all.iter().any(|one| one.as_str() == Some(expected.client));
            // Among several it must say who asked for it.
            named && (all.len() == 1 || text("azp").is_some())
        }
        _ => false,
    };
    if !mine || text("azp").is_some_and(|party| party != expected.client) {
        return Err(Wrong::Audience);
    }
    let expires = seconds("exp").ok_or(Wrong::Malformed)?;
    let issued = seconds("iat").ok_or(Wrong::Malformed)?;
    if expires.saturating_add(LEEWAY) <= expected.now {
        return Err(Wrong::Expired);
    }
    let begins = seconds("nbf").unwrap_or(issued).max(issued);
    if begins > expected.now + LEEWAY || issued < expected.now - OLD {
        return Err(Wrong::NotNow);
    }
    let nonce = text("nonce").unwrap_or_default();
    let repeats = expected.renewed.is_none() || claims.contains_key("nonce");
    if repeats && !bool::from(nonce.as_bytes().ct_eq(expected.nonce.as_bytes())) {
        return Err(Wrong::Nonce);
    }
    if text("sub").is_none_or(str::is_empty) {
        return Err(Wrong::Malformed);
    }
    if expected.renewed.is_some_and(|subject| text("sub") != Some(subject)) {
        return Err(Wrong::Subject);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header, encode};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_780_272_000;
    const EXPECTED: Expected<'_> = Expected {
        issuer: "https://login",
        client: "recorder",
        nonce: "n0nce",
        renewed: None,
        now: NOW,
    };

    /// A key pair of the provider, and what it publishes of it.
    fn key(id: &str) -> (EncodingKey, Jwk) {
        let pair = rcgen::KeyPair::generate().unwrap();
        let key = EncodingKey::from_ec_der(&pair.serialize_der());
        let mut jwk = Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap();
        jwk.common.key_id = Some(id.to_owned());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        (key, jwk)
    }

    fn good() -> Value {
        json!({
            "iss": "https://login", "aud": "recorder", "sub": "7", "nonce": "n0nce", "iat": NOW - 1,
            "exp": NOW + 300, "groups": ["qa"],
        })
    }

    fn signed(claims: &Value, key: &EncodingKey, id: &str) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(id.to_owned());
        encode(&header, claims, key).unwrap()
    }

    #[test]
    fn a_token_is_taken_only_as_it_must_be() {
        let (key, jwk) = key("k1");
        let keys = [jwk];
        let read = |claims: &Value| super::claims(&signed(claims, &key, "k1"), &keys, EXPECTED);
        assert_eq!(read(&good()).unwrap()["groups"], json!(["qa"]));
        let cases = [
            ("iss", json!("https://login/"), Wrong::Issuer),
            ("iss", json!(7), Wrong::Issuer),
            ("aud", json!("other"), Wrong::Audience),
            ("aud", json!(["other"]), Wrong::Audience),
            ("aud", json!(["recorder", "other"]), Wrong::Audience),
            ("aud", Value::Null, Wrong::Audience),
            ("azp", json!("other"), Wrong::Audience),
            ("exp", json!(NOW - 60), Wrong::Expired),
            ("exp", json!("soon"), Wrong::Malformed),
            ("iat", Value::Null, Wrong::Malformed),
            ("iat", json!(NOW + 61), Wrong::NotNow),
            ("iat", json!(NOW - 901), Wrong::NotNow),
            ("nbf", json!(NOW + 61), Wrong::NotNow),
            ("nonce", json!("n0nc"), Wrong::Nonce),
            ("nonce", Value::Null, Wrong::Nonce),
            ("sub", json!(""), Wrong::Malformed),
        ];
        for (name, value, wrong) in cases {
            let mut claims = good();
            claims[name] = value.clone();
            assert_eq!(read(&claims), Err(wrong), "{name}: {value}");
        }
        for (name, value) in
            [("aud", json!(["recorder"])), ("exp", json!(NOW - 59)), ("iat", json!(NOW + 60))]
        {
            let mut claims = good();
            claims[name] = value;
            assert!(read(&claims).is_ok(), "{claims}");
        }
        let mut several = good();
        (several["aud"], several["azp"]) = (json!(["recorder", "other"]), json!("recorder"));
        assert!(read(&several).is_ok());
    }

    #[test]
    fn a_later_token_is_of_the_same_person_and_need_not_repeat_the_nonce() {
        let (key, jwk) = key("k1");
        let keys = [jwk];
        let later = Expected { renewed: Some("7"), ..EXPECTED };
        let read = |name: &str, value: Value| {
            let mut claims = good();
            let members = claims.as_object_mut().unwrap();
            members.remove(name);
            if !value.is_null() {
                members.insert(name.to_owned(), value);
            }
            super::claims(&signed(&claims, &key, "k1"), &keys, later).map(|_| ())
        };
        assert_eq!(read("nonce", Value::Null), Ok(()));
        assert_eq!(read("nonce", json!("n0nce")), Ok(()));
        assert_eq!(read("nonce", json!("other")), Err(Wrong::Nonce));
        assert_eq!(read("nonce", json!(7)), Err(Wrong::Nonce));
        assert_eq!(read("sub", json!("8")), Err(Wrong::Subject));
        assert_eq!(read("exp", json!(NOW - 60)), Err(Wrong::Expired));
    }

    #[test]
    fn only_keys_of_the_provider_count_and_none_that_is_shared() {
        let (one, jwk_one) = key("k1");
        let (two, jwk_two) = key("k2");
        let keys = [jwk_one.clone(), jwk_two];
        let read = |token: &str| claims(token, &keys, EXPECTED).map(|_| ());
        assert_eq!(read(&signed(&good(), &one, "k1")), Ok(()));
        assert_eq!(read(&signed(&good(), &two, "k2")), Ok(()));
        assert_eq!(read(&signed(&good(), &two, "k1")), Err(Wrong::Signature));
        assert_eq!(read(&signed(&good(), &one, "k3")), Err(Wrong::UnknownKey));
        let unnamed = encode(&Header::new(Algorithm::ES256), &good(), &two).unwrap();
        assert_eq!(read(&unnamed), Ok(()), "each key is tried");
        let mut for_encryption = jwk_one.clone();
        for_encryption.common.public_key_use = Some(PublicKeyUse::Encryption);
        let token = signed(&good(), &one, "k1");
        assert_eq!(claims(&token, &[for_encryption], EXPECTED), Err(Wrong::UnknownKey));

        // Signed with what everybody can read, or not at all.
        let public = serde_json::to_vec(&jwk_one).unwrap();
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some("k1".to_owned());
        let shared = encode(&header, &good(), &EncodingKey::from_secret(&public)).unwrap();
        assert_eq!(read(&shared), Err(Wrong::Algorithm));
        let (_, rest) = token.split_once('.').unwrap();
        let (payload, _) = rest.split_once('.').unwrap();
        // {"alg":"none"}, {"alg":"None","kid":"k1"}
        for header in ["eyJhbGciOiJub25lIn0", "eyJhbGciOiJOb25lIiwia2lkIjoiazEifQ"] {
            assert_eq!(read(&format!("{header}.{payload}.")), Err(Wrong::Algorithm));
        }
        let mut altered = token.into_bytes();
        let middle = altered.len() / 2;
        altered[middle] = if altered[middle] == b'A' { b'B' } else { b'A' };
        assert_eq!(read(&String::from_utf8(altered).unwrap()), Err(Wrong::Signature));
    }

    proptest! {
        #[test]
        fn nothing_else_is_taken_and_nothing_panics(text in "[a-zA-Z0-9_.=-]{0,200}") {
            let keys = [key("k1").1];
            prop_assert!(claims(&text, &keys, EXPECTED).is_err());
        }
    }
}
