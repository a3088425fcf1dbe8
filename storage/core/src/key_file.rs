//! The key file of encryption at rest, as text: which keys it holds, and what is wrong with it. It
//! reads no file and encrypts nothing.
//!
//! ```text
//! # the active key first; former keys below it are still needed to read what they encrypted
//! 2026-11 8f1d…64 hexadecimal digits…07
//! 2026-05 03c4…64 hexadecimal digits…9a
//! ```
//!
//! A line is a name and 32 bytes in hexadecimal digits. What follows `#` is a comment. A wrong line is
//! named by its number and never shown: it may hold the better part of a key.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::hex;

/// Length of a key: AES-256.
pub const KEY_BYTES: usize = 32;
/// Longest name of a key; shorter than a key in digits, so that none is taken for a name.
pub const NAME_BYTES_MAX: usize = 32;
/// More keys than anybody rotates through.
const KEYS_MAX: usize = 64;

/// A key's bytes. Overwritten when dropped; they have no text form.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyBytes(Zeroizing<[u8; KEY_BYTES]>);

impl KeyBytes {
    /// Takes them.
    #[must_use]
    pub fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for a cipher only.
    #[must_use]
    pub fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// All bytes alike: zeros above all, which somebody left in a template.
    fn is_weak(&self) -> bool {
        self.0.iter().all(|byte| *byte == self.0[0])
    }
}

impl fmt::Debug for KeyBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyBytes(…)")
    }
}

/// What a key is called: letters, digits, `-`, `_` and `.`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyName(String);

/// A text that is no name of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key's name has 1 to {NAME_BYTES_MAX} letters, digits, `-`, `_` or `.`")]
pub struct InvalidName;

impl FromStr for KeyName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let fits = (1..=NAME_BYTES_MAX).contains(&text.len());
        if fits && text.bytes().all(allowed) { Ok(Self(text.to_owned())) } else { Err(InvalidName) }
    }
}

impl TryFrom<String> for KeyName {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<KeyName> for String {
    fn from(name: KeyName) -> Self {
        name.0
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A key with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedKey {
    /// The name, which is written beside what it encrypts.
    pub name: KeyName,
    /// The bytes.
    pub bytes: KeyBytes,
}

/// What is wrong with a key file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileFault {
    /// No key in it.
    #[error("it holds no key: make one with `astlogger key new`")]
    Empty,
    /// Too many of them.
    #[error("it holds more than {KEYS_MAX} keys: remove those that nothing needs any more")]
    TooMany,
    /// Neither a key nor a comment.
    #[error("line {line} is not NAME and 64 hexadecimal digits")]
    Form {
        /// The line, from 1.
        line: usize,
    },
    /// A name that cannot be.
    #[error("the name in line {line} is none: {InvalidName}")]
    Name {
        /// The line.
        line: usize,
    },
    /// A key that anybody can guess.
    #[error("the key in line {line} is one byte over and over: make one with `astlogger key new`")]
    Weak {
        /// The line.
        line: usize,
    },
    /// Two keys of one name.
    #[error("lines {before} and {line} have the same name: a name stands for one key for ever")]
    NameTwice {
        /// The line.
        line: usize,
        /// The one before.
        before: usize,
    },
    /// Two names of one key.
    #[error("lines {before} and {line} have the same key: a new key must be a new one")]
    KeyTwice {
        /// The line.
        line: usize,
        /// The one before.
        before: usize,
    },
}

/// Reads a key file's text: the active key, then the former ones.
///
/// # Errors
/// With everything that is wrong.
pub fn parse(text: &str) -> Result<Vec<NamedKey>, Vec<KeyFileFault>> {
    let mut keys: Vec<(usize, NamedKey)> = Vec::new();
    let mut faults = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let text = text.split('#').next().unwrap_or_default().trim();
        if text.is_empty() {
            continue;
        }
        match parse_line(line, text, &keys) {
            Ok(key) => keys.push((line, key)),
            Err(fault) => faults.push(fault),
        }
        if keys.len() > KEYS_MAX {
            faults.push(KeyFileFault::TooMany);
            break;
        }
    }
    if keys.is_empty() && faults.is_empty() {
        faults.push(KeyFileFault::Empty);
    }
    if faults.is_empty() { Ok(keys.into_iter().map(|(_, key)| key).collect()) } else { Err(faults) }
}

fn parse_line(
    line: usize,
    text: &str,
    before: &[(usize, NamedKey)],
) -> Result<NamedKey, KeyFileFault> {
    let mut words = text.split_ascii_whitespace();
    let (Some(name), Some(digits), None) = (words.next(), words.next(), words.next()) else {
        return Err(KeyFileFault::Form { line });
    };
    let bytes = hex::decode(digits).ok_or(KeyFileFault::Form { line })?;
    let bytes = KeyBytes::new(bytes);
    let name: KeyName = name.parse().map_err(|_| KeyFileFault::Name { line })?;
    if bytes.is_weak() {
        return Err(KeyFileFault::Weak { line });
    }
    for (before, known) in before {
        let before = *before;
        if known.name == name {
            return Err(KeyFileFault::NameTwice { line, before });
        }
        if known.bytes == bytes {
            return Err(KeyFileFault::KeyTwice { line, before });
        }
    }
    Ok(NamedKey { name, bytes })
}

/// The line of a key.
#[must_use]
pub fn line(key: &NamedKey) -> Zeroizing<String> {
    let digits = Zeroizing::new(hex::encode(key.bytes.expose()));
    Zeroizing::new(format!("{} {}\n", key.name, *digits))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const B: &str = "FF0102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F";

    #[test]
    fn the_first_key_is_the_active_one() {
        let text = format!("# comment\n\n  new {A}   # made today\r\nold\t{B}\n");
        let keys = parse(&text).unwrap();
        let names: Vec<_> = keys.iter().map(|key| key.name.to_string()).collect();
        assert_eq!(names, ["new", "old"]);
        assert_eq!((keys[0].bytes.expose()[31], keys[1].bytes.expose()[0]), (0x1f, 0xff));
        assert_eq!(line(&keys[0]).as_str(), format!("new {A}\n"));
    }

    #[test]
    fn what_is_wrong_is_named_by_its_line_and_never_shown() {
        use KeyFileFault as Fault;
        let zeros = "0".repeat(64);
        let cases: &[(&str, &[Fault])] = &[
            ("", &[Fault::Empty]),
            ("# only this", &[Fault::Empty]),
            ("k", &[Fault::Form { line: 1 }]),
            (&format!("k {A} {A}"), &[Fault::Form { line: 1 }]),
            (&format!("\nk {}", &A[1..]), &[Fault::Form { line: 2 }]),
            (&format!("k {}g", &A[1..]), &[Fault::Form { line: 1 }]),
            (&format!("{A} k"), &[Fault::Form { line: 1 }]),
            (&format!("{A} {B}"), &[Fault::Name { line: 1 }]),
            (&format!("k/1 {A}"), &[Fault::Name { line: 1 }]),
            (&format!("k {zeros}"), &[Fault::Weak { line: 1 }]),
            (&format!("k {A}\nk {B}"), &[Fault::NameTwice { line: 2, before: 1 }]),
            (&format!("k {A}\n#\nl {A}"), &[Fault::KeyTwice { line: 3, before: 1 }]),
            (&format!("k\n{A}\nl {A}"), &[Fault::Form { line: 1 }, Fault::Form { line: 2 }]),
        ];
        for (text, faults) in cases {
            let found = parse(text).unwrap_err();
            assert_eq!(&found, faults, "{text}");
            for fault in found {
                assert!(!fault.to_string().contains(&A[..8]), "{fault}");
            }
        }
    }

    #[test]
    fn a_key_has_no_text_form() {
        let keys = parse(&format!("k {A}")).unwrap();
        assert_eq!(format!("{:?}", keys[0].bytes), "KeyBytes(…)");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "([k#0-9a-f \t\n]|[a-f0-9]{64}|\\PC){0,80}") {
            if let Ok(keys) = parse(&text) {
                prop_assert!(!keys.is_empty());
            }
        }

        #[test]
        fn what_is_written_is_read(
            keys in proptest::collection::btree_map("[a-z0-9._-]{1,32}", any::<[u8; 31]>(), 1..8)
        ) {
            // The first byte tells them apart and keeps them from being weak.
            let keys: Vec<_> = keys.into_iter().zip(1_u8..).map(|((name, rest), number)| {
                let mut bytes = [number; KEY_BYTES];
                bytes[1..].copy_from_slice(&rest);
                bytes[1] = !number;
                NamedKey { name: name.parse().unwrap(), bytes: KeyBytes::new(bytes) }
            }).collect();
            let text: String = keys.iter().map(|key| line(key).to_string()).collect();
            prop_assert_eq!(parse(&text).unwrap(), keys);
        }
    }
}
