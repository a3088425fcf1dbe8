//! A row of the database, made of a recording: the columns by which it is found, and the recording as a whole. What
//! a column holds is decided here, and in `question` what a search asks of it.

use serde_json::{Value, json};
use storage_core::query::{party_key, searched_words};
use storage_core::{Recording, Ucid, WallTime};

use super::merge::{Deleted, Entry, State, Teller};
use super::stored::{stored, stored_value, unstored_value};

/// Columns by name and type, in the order in which they are written.
pub(super) const COLUMNS: &[(&str, &str)] = &[
    ("recordingid", "uuid"),
    ("change", "bigint"),
    ("site", "text"),
    ("toldby", "integer"),
    ("deletedat", "timestamptz"),
    ("deletedby", "text"),
    ("deletionreason", "text"),
    ("revision", "bigint"),
    ("node", "integer"),
    ("copy", "integer"),
    ("started", "timestamptz"),
    ("ended", "timestamptz"),
    ("durationms", "bigint"),
    ("extension", "text"),
    ("agentid", "text"),
    ("calling", "text"),
    ("called", "text"),
    ("callingkey", "text"),
    ("calledkey", "text"),
    ("direction", "text"),
    ("trunkgroup", "text"),
    ("vdn", "text"),
    ("split", "text"),
    ("ucids", "text[]"),
    ("tags", "text[]"),
    ("hold", "boolean"),
    ("complete", "boolean"),
    ("lacksaudio", "boolean"),
    ("words", "text"),
    ("record", "jsonb"),
    ("scorecards", "text[]"),
    ("bestscore", "double precision"),
    ("worstscore", "double precision"),
];

/// A row as JSON: a member a column; a column that is not named is NULL.
///
/// # Errors
/// If a recording has no form in JSON.
pub(super) fn row(entry: &Entry, teller: &Teller) -> Result<Value, serde_json::Error> {
    let mut row = match &entry.state {
        State::Listed(recording) => columns(recording)?,
        State::Deleted(Deleted { at, by, reason }) => json!({
            "deletedat": at,
            "deletedby": stored(by),
            "deletionreason": stored(reason),
        }),
    };
    row["recordingid"] = json!(entry.id);
    row["change"] = json!(entry.change);
    row["site"] = json!(stored(&teller.site));
    row["toldby"] = json!(teller.node);
    Ok(row)
}

fn columns(recording: &Recording) -> Result<Value, serde_json::Error> {
    let texts = |texts: &[String]| -> Vec<String> {
        texts.iter().map(|text| stored(text).into_owned()).collect()
    };
    let ucids = recording.ucid.iter().chain(&recording.formerucids).map(Ucid::as_str);
    let percents = || recording.scores.iter().map(|score| score.percent);
    let mut scorecards: Vec<_> =
        recording.scores.iter().map(|score| stored(&score.scorecard)).collect();
    scorecards.sort();
    scorecards.dedup();
    Ok(json!({
        "revision": recording.revision,
        "node": recording.node,
        "copy": recording.copy,
        "started": time(recording.started),
        "ended": time(recording.ended),
        "durationms": i64::try_from(recording.durationms).unwrap_or(i64::MAX),
        "extension": stored(recording.extension.as_str()),
        "agentid": stored(&recording.agentid),
        "calling": stored(&recording.calling),
        "called": stored(&recording.called),
        "callingkey": stored(&party_key(&recording.calling)),
        "calledkey": stored(&party_key(&recording.called)),
        "direction": recording.direction,
        "trunkgroup": stored(&recording.trunkgroup),
        "vdn": stored(&recording.vdn),
        "split": stored(&recording.split),
        "ucids": ucids.collect::<Vec<_>>(),
        "tags": texts(&recording.tags),
        "hold": recording.hold,
        "complete": recording.complete,
        "lacksaudio": recording.lacks_audio(),
        "words": stored(&words(recording)),
        "scorecards": scorecards,
        "bestscore": percents().reduce(f64::max),
        "worstscore": percents().reduce(f64::min),
        "record": stored_value(serde_json::to_value(recording)?),
    }))
}

/// To the millisecond, as the record has it.
fn time(time: WallTime) -> WallTime {
    WallTime::from_millis(time.as_millis())
}

/// All words, in small letters, one a line.
fn words(recording: &Recording) -> String {
    let words: Vec<_> = searched_words(recording).map(str::to_lowercase).collect();
    words.join("\n")
}

/// A recording, read from what `record` holds.
///
/// # Errors
/// If it is none that this program knows.
pub(super) fn recording(record: &str) -> Result<Recording, serde_json::Error> {
    serde_json::from_value(unstored_value(serde_json::from_str(record)?))
}

#[cfg(test)]
pub(super) mod tests {
    use storage_core::{NodeId, RecordingId};

    use super::*;

    /// A recording of this number, of a second's length.
    pub(in crate::catalog_database) fn recording(number: u8) -> Recording {
        let started = WallTime::from_millis(1_700_000_000_000 + i64::from(number) * 1000);
        let id = RecordingId::new(started, [number; 10]);
        let json = json!({
            "recordingid": id, "callids": [number.to_string()], "extension": "2611", "agentid": "", "calling": "",
            "called": "", "direction": "inbound", "trunkgroup": "", "trunkmember": "", "vdn": "", "split": "",
            "userdata": "", "parties": [], "started": started, "ended": started, "durationms": 1000,
            "scope": "station", "trigger": "rule", "rule": "", "copy": 1, "node": 1, "segments": [], "gaps": [],
            "pauses": [], "complete": true,
            "quality": {"lossratio": 0.0, "jitterms": 0.0, "clockdriftppm": 0.0}, "format": "wavg711",
            "bytes": 0, "sha256": "", "tags": [], "notes": [], "hold": false,
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_recording_comes_back_from_its_row_to_the_last_bit() {
        let mut odd = recording(1);
        odd.calling = "\0\u{1a}\"'\\u0000".to_owned();
        odd.quality.jitterms = 0.1 + 0.2;
        odd.durationms = u64::MAX;
        let teller = Teller { site: "a\0b".to_owned(), node: NodeId(7) };
        let state = State::Listed(Box::new(odd.clone()));
        let row = row(&Entry { id: odd.recordingid, change: 3, state }, &teller).unwrap();
        assert_eq!(super::recording(&row["record"].to_string()).unwrap(), odd);
        // A backslash that was there before is no escape.
        let escapes = row.to_string().replace("\\\\", "");
        assert!(!escapes.contains("\\u0000"), "{row}");
        assert_eq!((&row["change"], &row["durationms"]), (&json!(3), &json!(i64::MAX)));
        // Each member is a column that there is.
        for name in row.as_object().unwrap().keys() {
            assert!(COLUMNS.iter().any(|(column, _)| column == name), "{name}");
        }
    }

    #[test]
    fn of_a_deleted_one_nothing_is_left_but_that() {
        let deleted =
            Deleted { at: WallTime::from_millis(0), by: "ada".into(), reason: "r".into() };
        let id = recording(1).recordingid;
        let entry = Entry { id, change: 2, state: State::Deleted(deleted) };
        let row = row(&entry, &Teller { site: "n".into(), node: NodeId(1) }).unwrap();
        let names: Vec<_> = row.as_object().unwrap().keys().cloned().collect();
        let left =
            ["change", "deletedat", "deletedby", "deletionreason", "recordingid", "site", "toldby"];
        assert_eq!(names, left);
    }
}
