//! Identities, a type each, so that one cannot be taken for another. What a number means is said
//! at its type; how it is obtained is the business of whoever first meets it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::time::WallTime;

/// A member of the group, `al_nodeid`: 1 or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u16);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One stretch of media on one phantom in one call. Unique on the node that captured it, for ever:
/// a restarted node goes on counting above everything its capture journal holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SegmentId(pub u64);

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A recording's name for ever and everywhere: a version 7 UUID (RFC 9562, 5.7), so that names
/// sort by the time at which the recording was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RecordingId(pub Uuid);

impl RecordingId {
    /// Makes a name from the time of opening and ten random bytes that the caller brings.
    #[must_use]
    pub fn new(opened: WallTime, entropy: [u8; 10]) -> Self {
        let millis = u64::try_from(opened.as_millis()).unwrap_or(0);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &entropy).into_uuid())
    }

    /// The time of opening that the name tells, to a millisecond; the epoch if it tells none.
    #[must_use]
    pub fn made(&self) -> WallTime {
        let (seconds, nanos) = self.0.get_timestamp().map_or((0, 0), |time| time.to_unix());
        let millis = seconds.saturating_mul(1000).saturating_add(u64::from(nanos / 1_000_000));
        WallTime::from_millis(i64::try_from(millis).unwrap_or(0))
    }
}

impl fmt::Display for RecordingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for RecordingId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        // Only the form we print is a name: `Uuid` alone would take braces and URNs as well.
        match Uuid::try_parse(text) {
            Ok(id) if text.len() == 36 => Ok(Self(id)),
            _ => Err(InvalidId { what: "recording id" }),
        }
    }
}

/// A text that is not the identity it was taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a {what}")]
pub struct InvalidId {
    what: &'static str,
}

/// Universal call ID: 20 decimal digits (5 node, 5 sequence, 10 Unix seconds) that stay with a
/// call across switches. Zeros alone mean that the switch has given none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ucid(String);

impl Ucid {
    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Ucid {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let digits = text.len() == 20 && text.bytes().all(|b| b.is_ascii_digit());
        if digits && text.bytes().any(|b| b != b'0') {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidId { what: "UCID" })
        }
    }
}

impl TryFrom<String> for Ucid {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<Ucid> for String {
    fn from(ucid: Ucid) -> Self {
        ucid.0
    }
}

impl fmt::Display for Ucid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The switch's number of a call. Unique on the switch at one time and *reused* within seconds:
/// never an identity on its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CallId(String);

impl CallId {
    /// Takes the text of the wire; letters, should a release send them, do not count by case.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_ascii_lowercase())
    }

    /// The text as it is compared.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A number that can be dialled on the switch: a station, a phantom, a VDN, a skill's hunt group,
/// an agent's login; also an outside party's number. Text, because leading zeros count.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Extension(String);

impl Extension {
    /// Takes the text as it is.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Extension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<&str> for Extension {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ucid_is_twenty_digits_that_are_not_all_zero() {
        assert!("00001012071700000000".parse::<Ucid>().is_ok());
        for wrong in ["", "0000101207170000000", "000010120717000000000", "00000000000000000000"] {
            assert!(wrong.parse::<Ucid>().is_err(), "{wrong}");
        }
        assert!("0000101207170000000x".parse::<Ucid>().is_err());
    }

    #[test]
    fn a_recording_id_survives_its_text_and_sorts_by_time() {
        let early = RecordingId::new(WallTime::from_millis(1_000), [0xff; 10]);
        let late = RecordingId::new(WallTime::from_millis(2_000), [0; 10]);
        assert!(early < late);
        assert_eq!(early.to_string().parse(), Ok(early));
        assert!("../../etc/passwd".parse::<RecordingId>().is_err());
        assert!(format!("{{{early}}}").parse::<RecordingId>().is_err());
    }
}
