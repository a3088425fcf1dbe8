//! A password that does not get into logs by accident.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A password. `Debug` hides it; `Display` shows it, for whoever prints it on purpose: people who
/// try a recorder against the simulator have to be told.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The password itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret(…)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl PartialEq<str> for Secret {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl PartialEq<Secret> for &str {
    fn eq(&self, other: &Secret) -> bool {
        other == *self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_shown_on_purpose_only() {
        let secret = Secret::from("Secret1!");
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert_eq!(secret.to_string(), "Secret1!");
        assert!(secret == *"Secret1!");
    }
}
