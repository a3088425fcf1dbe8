//! Names of things on the switch, as types that cannot be mixed up.

use std::borrow::Borrow;
use std::fmt;

/// A number that belongs to the switch: station, phantom, VDN or skill.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Extension(String);

impl Extension {
    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Extension {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<String> for Extension {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl Borrow<str> for Extension {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Extension {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Call ID as CTI sees it. Reused soon after the call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct CallId(pub u32);

impl fmt::Display for CallId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// Number of an interaction inside the simulator. Never used twice; the time code carries it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Serial(pub u32);

impl fmt::Display for Serial {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// Universal call ID: 20 digits, of them 5 node, 5 sequence, 10 Unix seconds.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Ucid(String);

impl Ucid {
    /// Builds the 20 digits; parts too large are cut to their width.
    #[must_use]
    pub fn new(node: u32, sequence: u32, unix_seconds: u64) -> Self {
        Self(format!(
            "{:05}{:05}{:010}",
            node % 100_000,
            sequence % 100_000,
            unix_seconds % 10_000_000_000
        ))
    }

    /// The 20 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Ucid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// One member of a trunk group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Trunk {
    /// Trunk group.
    pub group: u16,
    /// Member in it.
    pub member: u16,
}

/// The device of a connection.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Device {
    /// Something with an extension.
    Extension(Extension),
    /// A trunk, that is an outside party.
    Trunk(Trunk),
}

impl Device {
    /// The extension, if it has one.
    #[must_use]
    pub const fn extension(&self) -> Option<&Extension> {
        match self {
            Self::Extension(extension) => Some(extension),
            Self::Trunk(_) => None,
        }
    }

    /// Whether it is the device with that extension.
    #[must_use]
    pub fn is(&self, extension: &Extension) -> bool {
        self.extension() == Some(extension)
    }
}
