//! What is written down of an export, and in which words: the job itself (`job.json`), and a line for each of
//! its recordings once that has been looked at (`items.jsonl`, where a later line of the same number
//! counts). Pure; where the files lie is `folder`'s matter.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use storage_core::{Extension, RecordingId, Scope, WallTime};

use super::choice::Elsewhere;
use crate::web::backend::Unreachable;

/// The form that this program writes; another one is left alone.
pub const VERSION: u32 = 1;
/// Hex digits of a name.
const ID_DIGITS: usize = 32;

/// An export's name: 32 hex digits that nobody can guess.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ExportId(String);

/// A text that is no export's name.
#[derive(Debug, thiserror::Error)]
#[error("no export has such a name")]
pub struct NoExportId;

impl ExportId {
    /// A name of random bytes that the caller brings.
    #[must_use]
    pub fn new(entropy: [u8; ID_DIGITS / 2]) -> Self {
        Self(storage_core::hex::encode(&entropy))
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ExportId {
    type Err = NoExportId;

    fn from_str(text: &str) -> Result<Self, NoExportId> {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        // It becomes a folder's name, so nothing else gets through.
        let sound = text.len() == ID_DIGITS && text.bytes().all(hex);
        sound.then(|| Self(text.to_owned())).ok_or(NoExportId)
    }
}

impl TryFrom<String> for ExportId {
    type Error = NoExportId;

    fn try_from(text: String) -> Result<Self, NoExportId> {
        text.parse()
    }
}

impl From<ExportId> for String {
    fn from(id: ExportId) -> Self {
        id.0
    }
}

impl fmt::Display for ExportId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How far an export is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its recordings are being gone through, or will be when it is their turn.
    Running,
    /// It can be downloaded.
    Complete,
    /// It broke off, and does not go on.
    Failed,
}

/// Length and checksum of something in the export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measure {
    /// Length.
    pub bytes: u64,
    /// CRC-32.
    pub crc32: u32,
}

/// What is known once it is complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// `recordings.csv`.
    pub recordings: Measure,
    /// `missing.csv`.
    pub missing: Measure,
    /// Length of the ZIP file.
    pub bytes: u64,
    /// Changes with whatever changes in the ZIP file.
    pub etag: String,
    /// When.
    pub at: WallTime,
}

/// An export.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// [`VERSION`].
    pub version: u32,
    /// Its name.
    pub export: ExportId,
    /// Who asked, and whose alone it is.
    pub user: String,
    /// What he was.
    pub role: String,
    /// From where he asked.
    pub address: String,
    /// What he might see then: these stations, or everything.
    pub stations: Option<BTreeSet<Extension>>,
    /// `original`, `wav` or `opus`.
    pub format: String,
    /// The filter as it was given.
    pub filter: Value,
    /// When he asked.
    pub begun: WallTime,
    /// When it is removed.
    pub expires: WallTime,
    /// How many recordings it is of.
    pub total: usize,
    /// Members that could not be asked which recordings they have.
    #[serde(default)]
    pub unreachable: Vec<Unreachable>,
    /// What lies at other sites.
    #[serde(flatten)]
    pub elsewhere: Elsewhere,
    /// How far it is.
    pub state: State,
    /// Once it is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<Done>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Job {
    /// What he might see who asked.
    #[must_use]
    pub fn scope(&self) -> Scope {
        self.stations.clone().map_or(Scope::ALL, Scope::of)
    }

    /// What people are told of it that is not, or may not be, in it; nothing where there is none.
    #[must_use]
    pub fn lacks(&self) -> Map<String, Value> {
        let mut told = match serde_json::to_value(&self.elsewhere) {
            Ok(Value::Object(told)) => told,
            _ => Map::new(),
        };
        if !self.unreachable.is_empty() {
            told.insert("unreachable".to_owned(), json!(self.unreachable));
        }
        told
    }
}

/// What became of one recording of an export.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// Which, from 0 on, in the order of the list.
    pub n: usize,
    /// What.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is in the export.
    Held(Held),
    /// It is not.
    Missing(Missing),
}

/// A recording that is in the export.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// Of the voice file, as the record said when this was written: another one is another file.
    pub sha256: Box<str>,
    /// The audio in the form that was asked for.
    pub audio: Measure,
    /// How that form's files end.
    pub ending: Box<str>,
    /// Begin of its audio, the time of the files in the ZIP.
    pub started: WallTime,
    /// Where its record lies in the file of records.
    pub at: u64,
    /// The record's JSON there.
    pub record: Measure,
}

/// A recording that is not in the export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// For programs.
    pub code: String,
    /// For people.
    pub message: String,
}

/// How far a job is, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Recordings that were looked at.
    pub done: usize,
    /// Of these, so many are missing.
    pub missing: usize,
    /// Audio of the others.
    pub bytes: u64,
}

/// What became of all recordings so far, in the order of the list.
#[derive(Debug, Default)]
pub struct Items {
    items: Vec<Option<Outcome>>,
    progress: Progress,
}

impl Items {
    /// Of so many recordings nothing is known.
    #[must_use]
    pub fn new(total: usize) -> Self {
        Self { items: vec![None; total], progress: Progress::default() }
    }

    /// Takes lines in the order in which they were written, up to the first that is none of ours.
    #[must_use]
    pub fn read(total: usize, text: &str) -> Self {
        let mut items = Self::new(total);
        for line in text.lines() {
            let Ok(item) = serde_json::from_str::<Item>(line) else { break };
            items.set(item);
        }
        items
    }

    /// What is known of one.
    #[must_use]
    pub fn get(&self, n: usize) -> Option<&Outcome> {
        self.items.get(n)?.as_ref()
    }

    /// All of which something is known, with their numbers.
    pub fn known(&self) -> impl Iterator<Item = (usize, &Outcome)> {
        self.items.iter().enumerate().filter_map(|(n, item)| Some((n, item.as_ref()?)))
    }

    /// How far it is.
    #[must_use]
    pub const fn progress(&self) -> Progress {
        self.progress
    }

    /// This became of one; whatever was known of it counts no more.
    pub fn set(&mut self, item: Item) {
        let Some(place) = self.items.get_mut(item.n) else { return };
        match place {
            None => self.progress.done += 1,
            Some(Outcome::Missing(_)) => self.progress.missing -= 1,
            Some(Outcome::Held(held)) => self.progress.bytes -= held.audio.bytes,
        }
        match &item.outcome {
            Outcome::Missing(_) => self.progress.missing += 1,
            Outcome::Held(held) => self.progress.bytes += held.audio.bytes,
        }
        *place = Some(item.outcome);
    }
}

/// The names of a recording's files in the ZIP: made of its id alone, so that nothing a caller chose is in
/// a path.
#[must_use]
pub fn names(id: RecordingId, ending: &str) -> (String, String) {
    (format!("audio/{id}.{ending}"), format!("records/{id}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_32_hex_digits_and_nothing_else() {
        let id = ExportId::new([0xab; 16]);
        assert_eq!(id.as_str().parse::<ExportId>().unwrap(), id);
        let long = "a".repeat(33);
        for wrong in ["", "..", "../../etc", "AB", &long, &"A".repeat(32), &"a/".repeat(16)] {
            assert!(wrong.parse::<ExportId>().is_err(), "{wrong}");
        }
    }

    fn held(bytes: u64) -> Outcome {
        Outcome::Held(Held {
            sha256: "00".into(),
            audio: Measure { bytes, crc32: 1 },
            ending: "wav".into(),
            started: WallTime::from_millis(0),
            at: 0,
            record: Measure { bytes: 2, crc32: 3 },
        })
    }

    fn missing() -> Outcome {
        Outcome::Missing(Missing { code: "notfound".to_owned(), message: "gone".to_owned() })
    }

    #[test]
    fn the_last_line_of_a_number_counts() {
        let lines = [(0, held(10)), (1, missing()), (1, held(5)), (0, held(1)), (9, held(7))];
        let lines = lines.map(|(n, outcome)| serde_json::to_string(&Item { n, outcome }).unwrap());
        let text = lines.join("\n") + "\n{\"n\":2,\"torn";
        let items = Items::read(3, &text);
        assert_eq!(items.progress(), Progress { done: 2, missing: 0, bytes: 6 });
        assert_eq!(items.get(0), Some(&held(1)));
        assert_eq!(items.get(2), None);
        assert_eq!(items.known().count(), 2);
    }

    #[test]
    fn a_job_is_read_as_it_was_written_whatever_else_is_in_it() {
        let job = Job {
            version: VERSION,
            export: ExportId::new([1; 16]),
            user: "quentin".to_owned(),
            role: "qa".to_owned(),
            address: "127.0.0.1".to_owned(),
            stations: Some([Extension::from("2611")].into()),
            format: "original".to_owned(),
            filter: serde_json::json!({ "party": "85212345678" }),
            begun: WallTime::from_millis(1),
            expires: WallTime::from_millis(2),
            total: 3,
            unreachable: vec![Unreachable { node: storage_core::NodeId(2), role: None }],
            elsewhere: Elsewhere {
                othersites: [("south".to_owned(), 2)].into(),
                allsitesfailure: Some("away".to_owned()),
            },
            state: State::Running,
            done: None,
            error: None,
        };
        let mut value = serde_json::to_value(&job).unwrap();
        value["later"] = true.into();
        let read: Job = serde_json::from_value(value).unwrap();
        assert_eq!(read, job);
        assert!(read.scope().has("2611") && !read.scope().has("2612"));
    }
}
