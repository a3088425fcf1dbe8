//! A password's argon2id hash in PHC string form: made, checked, never shown.

use std::fmt;

use argon2::password_hash::{self, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2};
use serde::{Deserialize, Serialize};

use super::{PASSWORD_BYTES_MAX, UsersError};

/// A PHC string that is known to be readable and argon2id (RFC 9106).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PasswordHash(String);

impl PasswordHash {
    /// Hashes a password with a new salt and argon2's recommended costs (19 MiB, 2 passes).
    /// Blocking and slow.
    ///
    /// # Errors
    /// `BadPassword` if it is empty, too long or more than a line; `Hash` if the machine gives no
    /// random bytes.
    pub fn new(password: &str) -> Result<Self, UsersError> {
        let fits = (1..=PASSWORD_BYTES_MAX).contains(&password.len());
        if !fits || password.contains(['\n', '\r', '\0']) {
            return Err(UsersError::BadPassword);
        }
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(|error| UsersError::Hash(error.to_string()))?;
        SaltString::encode_b64(&salt)
            .and_then(|salt| {
                Ok(Argon2::default().hash_password(password.as_bytes(), &salt)?.to_string())
            })
            .map(Self)
            .map_err(|error| UsersError::Hash(error.to_string()))
    }

    /// Whether this is the hash of `password`. Blocking and slow, with the costs that the hash
    /// itself names.
    #[must_use]
    pub fn verify(&self, password: &str) -> bool {
        password_hash::PasswordHash::new(&self.0)
            .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
    }
}

impl TryFrom<String> for PasswordHash {
    type Error = NotAHash;

    fn try_from(text: String) -> Result<Self, NotAHash> {
        let hash = password_hash::PasswordHash::new(&text).map_err(|_| NotAHash)?;
        let params = argon2::Params::try_from(&hash).map_err(|_| NotAHash)?;
        let argon2id = hash.algorithm == Algorithm::Argon2id.ident();
        // Above a gigabyte a sign-in would be an attack on this machine.
        if argon2id && hash.hash.is_some() && hash.salt.is_some() && params.m_cost() <= 1 << 20 {
            Ok(Self(text))
        } else {
            Err(NotAHash)
        }
    }
}

impl From<PasswordHash> for String {
    fn from(hash: PasswordHash) -> Self {
        hash.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(***)")
    }
}

/// A text that is not an argon2id PHC string. It does not repeat the text, which may be a password
/// that somebody wrote there in the clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`password` is not an argon2id PHC string; use `user add`, which makes one")]
pub struct NotAHash;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_knows_its_password_and_does_not_show_itself() {
        let hash = PasswordHash::new("correct horse").unwrap();
        assert!(hash.verify("correct horse"));
        assert!(!hash.verify("correct horsf"));
        assert!(hash.0.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert_eq!(format!("{hash:?}"), "PasswordHash(***)");
        assert_eq!(PasswordHash::try_from(hash.0.clone()), Ok(hash));
    }

    #[test]
    fn what_is_no_password_and_no_hash() {
        for wrong in ["", "a\nb", &"x".repeat(PASSWORD_BYTES_MAX + 1)] {
            assert!(matches!(PasswordHash::new(wrong), Err(UsersError::BadPassword)));
        }
        let salted = "c29tZXNhbHQ$Q0Y2xSzTT5BrzQQZR0ZgiMTJxVoBXDwHfIFd6q8i0/0";
        for wrong in [
            String::new(),
            "secret".to_owned(),
            format!("$argon2i$v=19$m=8,t=1,p=1${salted}"),
            format!("$argon2id$v=19$m=2097152,t=1,p=1${salted}"),
            "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ".to_owned(),
        ] {
            assert_eq!(PasswordHash::try_from(wrong.clone()), Err(NotAHash), "{wrong}");
        }
    }
}
