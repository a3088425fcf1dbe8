//! What the switch tells of a media stream's protection: a suite, a key, a salt. Which suite bears
//! which name, and how keys are written, is the business of `dmcc::register`.
//!
//! Keys are never printed, and wiped when they are dropped.

use std::fmt;

use zeroize::Zeroize;

/// Length of a master key, or of the key of AES-128.
pub const KEY_BYTES: usize = 16;
/// Length of a master salt (RFC 3711, 8.2).
pub const SALT_BYTES: usize = 14;

/// Where the keys that encrypt come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionKeys {
    /// Derived from master key and master salt (RFC 3711, 4.3), at a derivation rate of 0.
    Derived,
    /// The key and the salt themselves.
    AsGiven,
}

/// How media is protected. The cipher is AES-128 in counter mode with the counter of RFC 3711,
/// 4.1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suite {
    /// Its `al_mediaencryption` name.
    pub name: &'static str,
    /// Where the keys come from.
    pub session_keys: SessionKeys,
    /// Bytes of HMAC-SHA1 at the end of an RTP packet; 0: nothing proves who sent it.
    pub rtp_tag_bytes: usize,
    /// The same of an RTCP packet, in the order in which they are tried; none: RTCP is plain.
    pub rtcp_tag_bytes: &'static [usize],
}

/// Master key and salt of one direction of one stream.
#[derive(Clone, PartialEq, Eq)]
pub struct MediaKeys {
    /// How they are used.
    pub suite: Suite,
    key: [u8; KEY_BYTES],
    salt: [u8; SALT_BYTES],
}

impl MediaKeys {
    /// Puts them together.
    #[must_use]
    pub const fn new(suite: Suite, key: [u8; KEY_BYTES], salt: [u8; SALT_BYTES]) -> Self {
        Self { suite, key, salt }
    }

    pub(super) const fn key(&self) -> &[u8; KEY_BYTES] {
        &self.key
    }

    pub(super) const fn salt(&self) -> &[u8; SALT_BYTES] {
        &self.salt
    }
}

impl fmt::Debug for MediaKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MediaKeys({}, …)", self.suite.name)
    }
}

impl Drop for MediaKeys {
    fn drop(&mut self) {
        self.key.zeroize();
        self.salt.zeroize();
    }
}

/// How the media of a phantom is protected from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protection {
    /// Not at all.
    Clear,
    /// With these keys.
    Keys(MediaKeys),
    /// In a way that cannot be undone here.
    Unusable(KeyFault),
}

/// Why media cannot be decrypted, whatever comes. No part of a key is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// The switch names an encryption that is not known.
    #[error("the switch names an unknown encryption, \"{name}\"")]
    UnknownSuite {
        /// What it names, shortened.
        name: String,
    },
    /// The key is not there or is none.
    #[error("the receive key for {suite} is neither 16 bytes in hexadecimal nor in Base64")]
    Key {
        /// The encryption.
        suite: &'static str,
    },
    /// The salt is not there or is none.
    #[error("the receive salt for {suite} is neither 14 bytes in hexadecimal nor in Base64")]
    Salt {
        /// The encryption.
        suite: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::super::tests::HMAC_80;
    use super::*;

    #[test]
    fn keys_are_not_printed() {
        let keys = MediaKeys::new(HMAC_80, [0xab; KEY_BYTES], [0xcd; SALT_BYTES]);
        let text = format!("{:?}", Protection::Keys(keys));
        let (key, salt) = (format!("{:?}", [0xab; 4]), format!("{:?}", [0xcd; 4]));
        let inner = |list: &str| list.trim_matches(['[', ']']).to_owned();
        for secret in ["abab".to_owned(), "cdcd".to_owned(), inner(&key), inner(&salt)] {
            assert!(!text.to_lowercase().contains(&secret), "{text}");
        }
        assert!(text.contains(HMAC_80.name));
    }
}
