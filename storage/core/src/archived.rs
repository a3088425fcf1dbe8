//! Where a recording lies in the archive, and under which names: what is noted of it in its record, when that
//! note still speaks of the recording as it is, and which of two notes counts. What is archived when, and how
//! it gets there, is not decided here.
//!
//! The names are those of the voice folder (`2026/11/23/RECORDINGID.wav` and so on), so that the archive copied back
//! into `voice/` is a voice folder.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::hex;
use crate::ids::RecordingId;
use crate::marks::Stamp;
use crate::naming::{self, VOICE_FOLDER};
use crate::record::{Recording, VoiceFormat};
use crate::time::WallTime;

/// A later revision may begin before the one that was archived, and lie in another day's folder.
const DAYS_BESIDE: u32 = 2;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// That a recording lies in the archive: it was read back from there and compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archived {
    /// Address of the voice file there, for people.
    pub place: String,
    /// The revision that lies there.
    pub revision: u32,
    /// SHA-256 of its plain voice file, as its record says it.
    pub sha256: String,
    /// Whether it lies there encrypted, with a data key that only the node in `stamp` has.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub encrypted: bool,
    /// Bytes that lie there.
    pub bytes: u64,
    /// SHA-256 of the bytes that lie there.
    pub stored: String,
    /// SHA-256 of the record that lies there.
    pub record: String,
    /// When that was compared, and by which node.
    #[serde(flatten)]
    pub stamp: Stamp,
}

impl Archived {
    /// Whether it speaks of the audio of this record.
    #[must_use]
    pub fn is_of(&self, record: &Recording) -> bool {
        self.revision == record.revision && self.sha256 == record.sha256
    }

    /// Brings it into a record that it speaks of; of two the later one counts. Tells whether that changed it.
    pub fn merge_into(&self, record: &mut Recording) -> bool {
        let known = record.archived.as_ref().filter(|known| known.is_of(record));
        if !self.is_of(record) || known.is_some_and(|known| known.stamp >= self.stamp) {
            return false;
        }
        record.archived = Some(self.clone());
        true
    }
}

/// A record in the form in which it lies in the archive: without the note that it does.
///
/// # Errors
/// None that is known: every record has a form in JSON.
pub fn record_bytes(record: &Recording) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = serde_json::to_vec_pretty(&Recording { archived: None, ..record.clone() })?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// SHA-256 as it is written in the note.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    hex::encode(&Sha256::digest(bytes))
}

/// The name of a record's voice file.
#[must_use]
pub fn voice_name(record: &Recording) -> String {
    let Recording { started, recordingid, format, encrypted, .. } = record;
    let path = naming::voice_file(*started, *recordingid, *format);
    name(&if *encrypted { naming::encrypted(path) } else { path })
}

/// The name of a record.
#[must_use]
pub fn record_name(record: &Recording) -> String {
    name(&naming::record_file(record.started, record.recordingid))
}

/// All names under which something of a recording may lie that began about then.
#[must_use]
pub fn names_near(id: RecordingId, started: WallTime) -> Vec<String> {
    let first = started - DAY * DAYS_BESIDE;
    let days = (0..=2 * DAYS_BESIDE).map(|day| first + DAY * day);
    days.flat_map(|day| {
        let voices = [VoiceFormat::Wav, VoiceFormat::Opus].into_iter().flat_map(move |format| {
            let plain = naming::voice_file(day, id, format);
            [naming::encrypted(plain.clone()), plain]
        });
        voices.chain([naming::record_file(day, id)])
    })
    .map(|path| name(&path))
    .collect()
}

/// A place below the data folder as a name in the archive.
fn name(path: &Path) -> String {
    let below = path.strip_prefix(VOICE_FOLDER).unwrap_or(path);
    let parts: Vec<_> = below.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::NodeId;

    fn record() -> Recording {
        serde_json::from_value(serde_json::json!({
            "recordingid": "018bcfe5-687b-7000-8000-000000000001", "callids": ["1"],
            "extension": "2611", "agentid": "", "calling": "", "called": "", "direction": "inbound",
            "trunkgroup": "", "trunkmember": "", "vdn": "", "split": "", "userdata": "", "parties": [],
            "started": "2026-11-23T23:59:59.999Z", "ended": "2026-11-24T00:01:00.000Z", "durationms": 60_001,
            "scope": "station", "trigger": "rule", "rule": "", "copy": 1, "node": 1, "segments": [],
            "gaps": [], "pauses": [], "complete": true,
            "quality": { "lossratio": 0.0, "jitterms": 0.0, "clockdriftppm": 0.0 },
            "format": "wavg711", "bytes": 10, "sha256": "aa", "tags": [], "notes": [], "hold": false,
        }))
        .unwrap()
    }

    fn note(at: i64) -> Archived {
        Archived {
            place: "s3://b/x".to_owned(),
            revision: 1,
            sha256: "aa".to_owned(),
            encrypted: false,
            bytes: 10,
            stored: "aa".to_owned(),
            record: "bb".to_owned(),
            stamp: Stamp { at: WallTime::from_millis(at), node: NodeId(1) },
        }
    }

    #[test]
    fn the_later_note_counts_and_only_for_the_audio_that_it_speaks_of() {
        let mut record = record();
        assert!(note(5).merge_into(&mut record));
        assert!(!note(5).merge_into(&mut record), "it is known");
        assert!(!note(4).merge_into(&mut record));
        assert!(note(6).merge_into(&mut record));
        assert_eq!(record.archived, Some(note(6)));
        let mut later = Recording { revision: 2, ..record.clone() };
        assert!(!note(9).merge_into(&mut later), "another revision");
        let mut other = Recording { sha256: "cc".to_owned(), ..record };
        assert!(!note(9).merge_into(&mut other), "other audio");
    }

    #[test]
    fn what_lies_in_the_archive_does_not_say_that_it_does() {
        let plain = record();
        let noted = Recording { archived: Some(note(1)), ..plain.clone() };
        assert_eq!(record_bytes(&plain).unwrap(), record_bytes(&noted).unwrap());
        let back: Recording = serde_json::from_slice(&record_bytes(&noted).unwrap()).unwrap();
        assert_eq!(back, plain);
        let marked = Recording { tags: vec!["vip".to_owned()], ..plain.clone() };
        let digest_of = |record| digest(&record_bytes(record).unwrap());
        assert_ne!(digest_of(&plain), digest_of(&marked), "so it is archived again");
    }

    #[test]
    fn names_are_those_of_the_voice_folder() {
        let record = record();
        let id = record.recordingid;
        assert_eq!(voice_name(&record), format!("2026/11/23/{id}.wav"));
        let encrypted = Recording { encrypted: true, ..record.clone() };
        assert_eq!(voice_name(&encrypted), format!("2026/11/23/{id}.wav.enc"));
        assert_eq!(record_name(&record), format!("2026/11/23/{id}.json"));
        let near = names_near(id, record.started);
        for name in [voice_name(&record), voice_name(&encrypted), record_name(&record)] {
            assert!(near.contains(&name), "{name}");
        }
        let earlier = Recording { started: record.started - DAY, ..record };
        assert!(near.contains(&voice_name(&earlier)));
    }
}
