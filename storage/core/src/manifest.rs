//! The manifest's lines: which recording was published when, with the hashes of its voice file and of its record;
//! which was deleted; and checkpoints, in which the node signs all lines before. How lines are bound together is
//! [`crate::chain`]'s matter; who signs, and where lines are kept, `storage::manifest`'s.
//!
//! A record's hash covers what does not change once it is published ([`lasting`]): not tags, notes, scores and
//! legal hold, which people change all day and the audit log has, and not whether this node keeps the voice file
//! encrypted, or the archive has it. So changing them needs no line, and all members that keep a recording state the same hash.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::chain::{self, Chained, Head};
use crate::naming::MANIFEST_FOLDER;
use crate::tombstone::Tombstone;
use crate::{NodeId, Recording, RecordingId, WallTime, hex};

/// Lines after which a checkpoint is due at once.
pub const LINES_MAX: u64 = 500;
/// Seconds after which one is due if there is anything that the one before does not cover.
pub const SECONDS_MAX: u64 = 60;

/// A line of the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When, by the node's clock.
    pub at: WallTime,
    /// The node whose manifest it is.
    pub node: NodeId,
    /// What happened.
    #[serde(flatten)]
    pub deed: Deed,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Deed {
    /// A recording, or a later revision of it, was published here.
    Published(Published),
    /// A recording was deleted here, on purpose.
    Deleted(Deleted),
    /// The node signed all lines before.
    Checkpoint(Checkpoint),
}

/// What was published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The recording.
    pub recordingid: RecordingId,
    /// Its revision.
    pub revision: u32,
    /// Its first audio, which tells its folder.
    pub started: WallTime,
    /// SHA-256 of the plain voice file, lower-case hex.
    pub voice: String,
    /// SHA-256 of the record's lasting part, lower-case hex.
    pub record: String,
}

/// What was deleted. A recording stays deleted, whatever lines come later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// The recording.
    pub recordingid: RecordingId,
    /// Its first audio, which tells its folder.
    pub started: WallTime,
    /// When somebody asked for it.
    pub askedat: WallTime,
    /// The node that was asked.
    pub askednode: NodeId,
    /// Who asked.
    pub by: String,
    /// Why.
    pub reason: String,
}

impl Deleted {
    /// What is to be stated of a deletion.
    #[must_use]
    pub fn of(tombstone: &Tombstone) -> Self {
        Self {
            recordingid: tombstone.recordingid,
            started: tombstone.started,
            askedat: tombstone.at,
            askednode: tombstone.node,
            by: tombstone.by.clone(),
            reason: tombstone.reason.clone(),
        }
    }
}

/// A node's signature of all lines before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Lines that the audit log had.
    pub auditlines: u64,
    /// The hash of its last line, lower-case hex.
    pub audit: String,
    /// The node's public key (Ed25519, RFC 8032), lower-case hex.
    pub key: String,
    /// The signature of [`Signed`]'s text, lower-case hex.
    pub signature: String,
}

/// A line with its number.
pub type Numbered = chain::Numbered<Entry>;

impl Chained for Entry {
    const LOG: &'static str = "a manifest";
    const FOLDER: &'static str = MANIFEST_FOLDER;

    fn at(&self) -> WallTime {
        self.at
    }
}

impl Published {
    /// What is to be stated of a record.
    ///
    /// # Errors
    /// None that is known: every record has a form in JSON.
    pub fn of(record: &Recording) -> Result<Self, serde_json::Error> {
        Ok(Self {
            recordingid: record.recordingid,
            revision: record.revision,
            started: record.started,
            voice: record.sha256.clone(),
            record: hex::encode(&Sha256::digest(lasting(record)?)),
        })
    }
}

/// The part of a record that does not change once it is published, in the form whose hash the manifest states.
///
/// # Errors
/// None that is known: every record has a form in JSON.
pub fn lasting(record: &Recording) -> Result<Vec<u8>, serde_json::Error> {
    let mut record = record.clone();
    record.tags.clear();
    record.tagmarks.clear();
    record.notes.clear();
    record.scores.clear();
    (record.hold, record.encrypted) = (false, false);
    (record.holdmark, record.archived) = (None, None);
    serde_json::to_vec(&record)
}

/// What a checkpoint signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The node.
    pub node: NodeId,
    /// When.
    pub at: WallTime,
    /// The manifest up to the line before the checkpoint.
    pub manifest: Head,
    /// The audit log.
    pub audit: Head,
}

impl Signed {
    /// What the checkpoint in a line signs, given the chain before that line; none if its hash of the audit log
    /// is none.
    #[must_use]
    pub fn by(entry: &Entry, checkpoint: &Checkpoint, before: Head) -> Option<Self> {
        let audit = Head { count: checkpoint.auditlines, hash: hex::decode(&checkpoint.audit)? };
        Some(Self { node: entry.node, at: entry.at, manifest: before, audit })
    }

    /// The text that is signed, as it is handed to others, too.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { node, at, manifest, audit } = self;
        format!(
            "astlogger checkpoint 1\nnode {node}\nat {at}\nmanifest {} {}\naudit {} {}\n",
            manifest.count,
            hex::encode(&manifest.hash),
            audit.count,
            hex::encode(&audit.hash)
        )
    }

    /// Reads that text; none if it is not in exactly that form.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let mut after = |word: &str| lines.next()?.strip_prefix(word);
        after("astlogger checkpoint 1")?;
        let node = NodeId(after("node ")?.parse().ok()?);
        let at = serde_json::from_value(after("at ")?.into()).ok()?;
        let mut head = |word: &str| {
            let (count, hash) = after(word)?.split_once(' ')?;
            Some(Head { count: count.parse().ok()?, hash: hex::decode(hash)? })
        };
        let read = Self { node, at, manifest: head("manifest ")?, audit: head("audit ")? };
        (read.text() == text).then_some(read)
    }
}

/// Whether a checkpoint is due: so many lines it would be the first to cover, so many seconds after the one
/// before; and whether the audit log has grown.
#[must_use]
pub const fn is_due(lines: u64, seconds: u64, audited: bool) -> bool {
    lines >= LINES_MAX || (seconds >= SECONDS_MAX && (lines > 0 || audited))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(jitter: f64) -> Recording {
        serde_json::from_value(serde_json::json!({
            "recordingid": RecordingId::new(WallTime::from_millis(1_795_000_000_000), [7; 10]),
            "callids": ["1"], "extension": "2611", "agentid": "", "calling": "", "called": "",
            "direction": "inbound", "trunkgroup": "", "trunkmember": "", "vdn": "", "split": "",
            "userdata": "", "parties": [], "started": "2026-11-18T21:46:40.000Z",
            "ended": "2026-11-18T21:46:41.000Z", "durationms": 1000, "scope": "station",
            "trigger": "rule", "rule": "", "copy": 1, "node": 1, "segments": [], "gaps": [],
            "pauses": [], "complete": true,
            "quality": { "lossratio": 0.0, "jitterms": jitter, "clockdriftppm": 0.0 },
            "format": "wavg711", "bytes": 10, "sha256": "aa", "tags": [], "notes": [], "hold": false,
        }))
        .unwrap()
    }

    #[test]
    fn what_people_change_leaves_the_hash_and_all_else_changes_it() {
        let plain = record(0.5);
        let stated = Published::of(&plain).unwrap();
        let mut noted = plain.clone();
        let at = "2026-11-18T21:47:00.000Z";
        let mark =
            serde_json::json!({ "tag": "fraud", "on": true, "by": "anna", "at": at, "node": 1 });
        let note = serde_json::json!({ "text": "call back", "by": "anna", "at": at, "node": 1 });
        noted.tags = vec!["fraud".to_owned()];
        noted.tagmarks = vec![serde_json::from_value(mark).unwrap()];
        noted.notes = vec![serde_json::from_value(note).unwrap()];
        let hold = serde_json::json!({ "reason": "case 7", "by": "otto", "at": at, "node": 1 });
        noted.holdmark = Some(serde_json::from_value(hold).unwrap());
        let score = serde_json::json!({ "scorecard": "Service", "percent": 62.5, "answers": {},
            "by": "anna", "at": at, "node": 1 });
        noted.scores = vec![serde_json::from_value(score).unwrap()];
        (noted.hold, noted.encrypted) = (true, true);
        assert_eq!(Published::of(&noted).unwrap(), stated);
        let other = Recording { agentid: "7".to_owned(), ..plain };
        assert_ne!(Published::of(&other).unwrap().record, stated.record);
    }

    #[test]
    fn a_checkpoint_is_due_after_a_number_of_lines_or_a_time() {
        let cases = [
            ((0, 0, false), false),
            ((1, SECONDS_MAX - 1, true), false),
            ((1, SECONDS_MAX, false), true),
            ((0, SECONDS_MAX, false), false),
            ((0, SECONDS_MAX, true), true),
            ((LINES_MAX, 0, false), true),
        ];
        for ((lines, seconds, audited), due) in cases {
            assert_eq!(is_due(lines, seconds, audited), due, "{lines} {seconds} {audited}");
        }
    }

    #[test]
    fn the_signed_text_goes_both_ways_in_one_form_only() {
        let signed = Signed {
            node: NodeId(3),
            at: WallTime::from_millis(1_795_000_000_000),
            manifest: Head { count: 5, hash: [0xab; 32] },
            audit: Head { count: 9, hash: [1; 32] },
        };
        let text = signed.text();
        assert_eq!(Signed::from_text(&text), Some(signed));
        for other in [
            text.to_uppercase(),
            text.replace("abab", "ABAB"),
            format!("{text}\n"),
            text.replace("manifest 5", "manifest 05"),
            text.lines().next().unwrap().to_owned(),
        ] {
            assert_eq!(Signed::from_text(&other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn a_record_that_was_written_and_read_has_the_same_hash(jitter in 0.0f64..1e6) {
            let record = record(jitter);
            let mut read = record.clone();
            for _ in 0..2 {
                read = serde_json::from_slice(&serde_json::to_vec_pretty(&read).unwrap()).unwrap();
            }
            prop_assert_eq!(Published::of(&read).unwrap(), Published::of(&record).unwrap());
        }
    }
}
