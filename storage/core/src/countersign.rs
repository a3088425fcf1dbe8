//! Checkpoints that others vouch for: what a member signs of another's checkpoint, and whether a checkpoint continues
//! what was seen of that node before. Who is asked when, how signatures are checked, and where all of it is
//! kept, is decided elsewhere.
//!
//! ```text
//! astlogger countersignature 1
//! by 2
//! key <the key with which the node signed its checkpoint, 64 hex digits>
//! <the text of the checkpoint>
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::chain::Head;
use crate::manifest::Signed;
use crate::{NodeId, WallTime, hex};

/// Lines of a countersignature's text before the checkpoint's own.
pub const LINES_BEFORE: usize = 3;

/// A checkpoint as it is sent and kept: texts, so that it has one form in the group's log and in files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointText {
    /// The text of [`Signed`].
    pub checkpoint: String,
    /// The node's public key (Ed25519), lower-case hex.
    pub key: String,
    /// Its signature of the text, lower-case hex.
    pub signature: String,
}

/// A countersignature in the same way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountersignatureText {
    /// Of what.
    pub of: CheckpointText,
    /// Who signed it.
    pub by: NodeId,
    /// Its public key, lower-case hex.
    pub key: String,
    /// Its signature of [`text`], lower-case hex.
    pub signature: String,
}

/// A checkpoint with the signature of its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vouched {
    /// What is signed.
    pub signed: Signed,
    /// The node's public key.
    pub key: [u8; 32],
    /// Its signature.
    pub signature: [u8; 64],
}

/// Another node's signature of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Countersignature {
    /// Of what.
    pub of: Vouched,
    /// Who signed it.
    pub by: NodeId,
    /// Its public key.
    pub key: [u8; 32],
    /// Its signature of [`text`].
    pub signature: [u8; 64],
}

/// What a member signs of another's checkpoint.
#[must_use]
pub fn text(of: &Vouched, by: NodeId) -> String {
    let key = hex::encode(&of.key);
    format!("astlogger countersignature 1\nby {by}\nkey {key}\n{}", of.signed.text())
}

impl Vouched {
    /// Reads it; none if a part is not in its one form. Whether the signature is right is not looked at.
    #[must_use]
    pub fn read(text: &CheckpointText) -> Option<Self> {
        Some(Self {
            signed: Signed::from_text(&text.checkpoint)?,
            key: digits(&text.key)?,
            signature: digits(&text.signature)?,
        })
    }

    /// The form in which it is sent and kept.
    #[must_use]
    pub fn written(&self) -> CheckpointText {
        CheckpointText {
            checkpoint: self.signed.text(),
            key: hex::encode(&self.key),
            signature: hex::encode(&self.signature),
        }
    }
}

impl Countersignature {
    /// Reads it, as [`Vouched::read`] does.
    #[must_use]
    pub fn read(text: &CountersignatureText) -> Option<Self> {
        Some(Self {
            of: Vouched::read(&text.of)?,
            by: text.by,
            key: digits(&text.key)?,
            signature: digits(&text.signature)?,
        })
    }

    /// The form in which it is sent and kept.
    #[must_use]
    pub fn written(&self) -> CountersignatureText {
        CountersignatureText {
            of: self.of.written(),
            by: self.by,
            key: hex::encode(&self.key),
            signature: hex::encode(&self.signature),
        }
    }

    /// The text that is signed.
    #[must_use]
    pub fn text(&self) -> String {
        text(&self.of, self.by)
    }
}

fn digits<const N: usize>(text: &str) -> Option<[u8; N]> {
    hex::decode(text).filter(|bytes| hex::encode(bytes) == text)
}

/// Why a checkpoint does not continue what was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Breach {
    /// The manifest has fewer lines than were seen.
    Shorter,
    /// As many lines, and others.
    Other,
    /// The audit log has fewer lines than were seen.
    AuditShorter,
    /// The audit log has as many lines, and others.
    AuditOther,
    /// The node says that its manifest lacks what was countersigned.
    Lacks,
    /// It is signed with another key.
    Key,
}

impl Breach {
    /// Whether only the key is another one.
    #[must_use]
    pub const fn is_of_key(self) -> bool {
        matches!(self, Self::Key)
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shorter => "its manifest has fewer lines than it had",
            Self::Other => {
                "its manifest was written anew: the same number of lines has another hash"
            }
            Self::AuditShorter => "its audit log has fewer lines than it had",
            Self::AuditOther => {
                "its audit log was written anew: the same number of lines has another hash"
            }
            Self::Lacks => {
                "it says itself that its manifest lacks a checkpoint that was countersigned"
            }
            Self::Key => "it signs with another key",
        })
    }
}

/// Whether a checkpoint can be of the same manifest as an earlier one. That it continues it line by line is seen by
/// whoever has the lines: the node itself, and `astlogger verify`.
///
/// # Errors
/// [`Breach`].
pub fn continues(seen: &Vouched, new: &Vouched) -> Result<(), Breach> {
    if seen.key != new.key {
        return Err(Breach::Key);
    }
    let (before, after) = (&seen.signed, &new.signed);
    grown(before.manifest, after.manifest, Breach::Shorter, Breach::Other)?;
    grown(before.audit, after.audit, Breach::AuditShorter, Breach::AuditOther)
}

fn grown(before: Head, after: Head, shorter: Breach, other: Breach) -> Result<(), Breach> {
    match after.count.cmp(&before.count) {
        std::cmp::Ordering::Less => Err(shorter),
        std::cmp::Ordering::Equal if after.hash != before.hash => Err(other),
        _ => Ok(()),
    }
}

/// What is kept of what was seen of a node, as it is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenText {
    last: CheckpointText,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<CheckpointText>,
    index: u64,
    latest: WallTime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    breach: Option<Breach>,
    /// The checkpoint that did not continue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    broken: Option<CheckpointText>,
    /// The signature of `last` by who has seen it; none while its key cannot be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    countersignature: Option<CountersignatureText>,
}

/// What a member has seen of another node's manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The last checkpoint that continued the ones before.
    pub last: Vouched,
    /// The one that this member signed before it. The node is reminded of it, because a manifest that was cut and has
    /// grown again looks from outside as if it went on.
    pub before: Option<Vouched>,
    /// The place of the last one in the group's log.
    pub index: u64,
    /// The latest time in any.
    pub latest: WallTime,
    /// The first that did not continue, and why. Nothing newer is countersigned from then on until a person has looked.
    pub breach: Option<(Breach, Vouched)>,
}

impl Seen {
    /// Reads what was written down, with the signature of who has seen it; none if a part is not in its form.
    #[must_use]
    pub fn read(text: &SeenText) -> Option<(Self, Option<Countersignature>)> {
        let breach = match text.breach {
            Some(breach) => Some((breach, Vouched::read(text.broken.as_ref()?)?)),
            None => None,
        };
        let before = match &text.before {
            Some(before) => Some(Vouched::read(before)?),
            None => None,
        };
        let last = Vouched::read(&text.last)?;
        let by = text.countersignature.as_ref().and_then(Countersignature::read);
        Some((Self { last, before, index: text.index, latest: text.latest, breach }, by))
    }

    /// The form in which it is written down.
    #[must_use]
    pub fn written(&self, by: Option<&Countersignature>) -> SeenText {
        SeenText {
            last: self.last.written(),
            before: self.before.map(|before| before.written()),
            index: self.index,
            latest: self.latest,
            breach: self.breach.map(|(breach, _)| breach),
            broken: self.breach.map(|(_, broken)| broken.written()),
            countersignature: by.map(Countersignature::written),
        }
    }

    /// The first checkpoint of a node.
    #[must_use]
    pub fn first(index: u64, new: Vouched, lacks: bool) -> Self {
        let breach = lacks.then_some((Breach::Lacks, new));
        Self { last: new, before: None, index, latest: new.signed.at, breach }
    }

    /// Takes a checkpoint that stands in the group's log at `index`; whether there is anything new in it. `lacks`: its node
    /// says that its manifest lacks what was countersigned. A member that starts goes through the end of the log again,
    /// so what was taken before must not be taken for a step back; the time tells it from the log of a
    /// group that was begun anew.
    pub fn take(&mut self, index: u64, new: Vouched, lacks: bool) -> bool {
        if index <= self.index && new.signed.at <= self.latest {
            return false;
        }
        self.index = index;
        self.latest = self.latest.max(new.signed.at);
        let breach = continues(&self.last, &new).err().or(lacks.then_some(Breach::Lacks));
        match (self.breach, breach) {
            (None, None) => self.last = new,
            (None, Some(breach)) => self.breach = Some((breach, new)),
            // It stays so until a person has looked.
            (Some(_), _) => {}
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(count: u64, hash: u8) -> Head {
        Head { count, hash: [hash; 32] }
    }

    fn vouched(lines: (u64, u8), audit: (u64, u8), key: u8, second: i64) -> Vouched {
        let signed = Signed {
            node: NodeId(1),
            at: WallTime::from_millis(1_795_000_000_000 + second * 1000),
            manifest: head(lines.0, lines.1),
            audit: head(audit.0, audit.1),
        };
        Vouched { signed, key: [key; 32], signature: [9; 64] }
    }

    #[test]
    fn what_is_written_is_read_again_in_one_form_only() {
        let of = vouched((5, 1), (2, 1), 7, 0);
        let signed = Countersignature { of, by: NodeId(2), key: [0xab; 32], signature: [0xcd; 64] };
        let written = signed.written();
        assert_eq!(Countersignature::read(&written), Some(signed));
        let capital = CountersignatureText { key: written.key.to_uppercase(), ..written.clone() };
        assert_eq!(Countersignature::read(&capital), None);
        let text = signed.text();
        assert_eq!(text.lines().count(), LINES_BEFORE + of.signed.text().lines().count());
        assert!(text.ends_with(&of.signed.text()) && text.contains("\nby 2\nkey 0707"), "{text}");
    }

    #[test]
    fn each_way_in_which_a_checkpoint_does_not_continue_is_named() {
        let seen = vouched((5, 1), (3, 1), 7, 0);
        let cases = [
            (vouched((5, 1), (3, 1), 7, 9), None),
            (vouched((6, 2), (3, 1), 7, 9), None),
            (vouched((6, 2), (4, 2), 7, 9), None),
            (vouched((4, 2), (3, 1), 7, 9), Some(Breach::Shorter)),
            (vouched((5, 2), (3, 1), 7, 9), Some(Breach::Other)),
            (vouched((6, 2), (2, 2), 7, 9), Some(Breach::AuditShorter)),
            (vouched((6, 2), (3, 2), 7, 9), Some(Breach::AuditOther)),
            (vouched((9, 2), (9, 2), 8, 9), Some(Breach::Key)),
        ];
        for (new, breach) in cases {
            assert_eq!(continues(&seen, &new).err(), breach, "{new:?}");
        }
    }

    #[test]
    fn a_breach_stays_whatever_comes_after_it() {
        let mut seen = Seen::first(10, vouched((5, 1), (0, 0), 7, 0), false);
        assert!(seen.take(11, vouched((6, 1), (0, 0), 7, 60), false));
        assert_eq!((seen.last.signed.manifest.count, seen.breach), (6, None));
        let back = vouched((3, 1), (0, 0), 7, 120);
        assert!(seen.take(12, back, false));
        assert!(seen.take(13, vouched((90, 2), (0, 0), 7, 180), false));
        assert_eq!(seen.breach, Some((Breach::Shorter, back)));
        assert_eq!(seen.last.signed.manifest.count, 6, "that is the proof");
        assert_eq!(Seen::read(&seen.written(None)), Some((seen, None)));
    }

    #[test]
    fn a_log_that_is_gone_through_again_is_no_step_back() {
        let mut seen = Seen::first(10, vouched((5, 1), (0, 0), 7, 0), false);
        // The clock was set back between the two.
        assert!(seen.take(11, vouched((6, 1), (0, 0), 7, -60), false));
        for (index, lines, second) in [(10, 5, 0), (11, 6, -60)] {
            assert!(!seen.take(index, vouched((lines, 1), (0, 0), 7, second), false));
        }
        assert_eq!(seen.breach, None);
        // A step back that says to be old is none of those.
        assert!(seen.take(12, vouched((5, 1), (0, 0), 7, 0), false));
        assert_eq!(seen.breach.map(|(breach, _)| breach), Some(Breach::Shorter));
        // In the log of a group that was begun anew.
        let mut seen = Seen::first(100, vouched((5, 1), (0, 0), 7, 0), false);
        assert!(seen.take(3, vouched((7, 1), (0, 0), 7, 60), false));
        assert_eq!((seen.last.signed.manifest.count, seen.breach), (7, None));
    }

    #[test]
    fn a_node_that_lacks_what_was_countersigned_says_so() {
        let mut seen = Seen::first(10, vouched((5, 1), (0, 0), 7, 0), false);
        assert!(seen.take(11, vouched((9, 1), (0, 0), 7, 60), true));
        assert_eq!(seen.breach.map(|(breach, _)| breach), Some(Breach::Lacks));
        assert!(Seen::first(1, vouched((5, 1), (0, 0), 7, 0), true).breach.is_some());
    }
}
