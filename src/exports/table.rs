//! The tables of an export (RFC 4180, UTF-8, each line ended by CR LF): a line for each recording, and one for
//! each that is missing. Callers choose their names and numbers themselves, and a spreadsheet runs what
//! begins like a formula. So a cell that does gets an apostrophe before it, which spreadsheets take for
//! "this is text"; telephone numbers that begin with `+` are among them. The records in the same export
//! have everything as it is. Pure.

use storage_core::{Recording, RecordingId};

/// What opens a formula in one spreadsheet or another, the wide forms of Chinese and Japanese among it.
const FORMULA: [char; 11] = ['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠'];

/// The columns of `recordings.csv`.
const COLUMNS: [&str; 32] = [
    "recordingid",
    "ucid",
    "started",
    "ended",
    "durationms",
    "extension",
    "agentid",
    "calling",
    "called",
    "direction",
    "trunkgroup",
    "trunkmember",
    "vdn",
    "split",
    "userdata",
    "parties",
    "scope",
    "trigger",
    "rule",
    "copy",
    "node",
    "complete",
    "missingms",
    "lossratio",
    "jitterms",
    "mos",
    "tags",
    "notes",
    "hold",
    "file",
    "bytes",
    "sha256",
];

/// The file in the export.
#[derive(Clone, Copy, Debug)]
pub struct File<'a> {
    /// Its name there.
    pub name: &'a str,
    /// Its length there.
    pub bytes: u64,
}

/// The first line of `recordings.csv`.
#[must_use]
pub fn head() -> String {
    line(COLUMNS)
}

/// A recording's line.
#[must_use]
pub fn recording(record: &Recording, file: File<'_>) -> String {
    let notes = record.notes.iter().map(|note| format!("{}: {}", note.by, note.text));
    let notes: Vec<_> = notes.collect();
    let parties: Vec<_> = record.parties.iter().map(|party| party.who.as_str()).collect();
    let quality = &record.quality;
    // What two gaps have in common, one on each side, is counted twice: it is missing twice.
    let missing: u64 = record.gaps.iter().map(|gap| gap.endms.saturating_sub(gap.startms)).sum();
    let cells: [String; COLUMNS.len()] = [
        record.recordingid.to_string(),
        record.ucid.as_ref().map(ToString::to_string).unwrap_or_default(),
        record.started.to_string(),
        record.ended.to_string(),
        record.durationms.to_string(),
        record.extension.to_string(),
        record.agentid.clone(),
        record.calling.clone(),
        record.called.clone(),
        record.direction.as_str().to_owned(),
        record.trunkgroup.clone(),
        record.trunkmember.clone(),
        record.vdn.clone(),
        record.split.clone(),
        record.userdata.clone(),
        parties.join("; "),
        record.scope.as_str().to_owned(),
        record.trigger.as_str().to_owned(),
        record.rule.clone(),
        record.copy.to_string(),
        record.node.to_string(),
        yes_no(record.complete).to_owned(),
        missing.to_string(),
        quality.lossratio.to_string(),
        quality.jitterms.to_string(),
        quality.mos.map(|mos| mos.to_string()).unwrap_or_default(),
        record.tags.join("; "),
        notes.join("\n"),
        yes_no(record.hold).to_owned(),
        file.name.to_owned(),
        file.bytes.to_string(),
        record.sha256.clone(),
    ];
    line(cells)
}

/// The first line of `missing.csv`.
#[must_use]
pub fn missing_head() -> String {
    line(["recordingid", "error", "message"])
}

/// The line of a recording that is not in the export; without a name, of recordings that nobody could name.
#[must_use]
pub fn missing(recording: Option<RecordingId>, code: &str, why: &str) -> String {
    line([&recording.map(|id| id.to_string()).unwrap_or_default(), code, why])
}

const fn yes_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

fn line(cells: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let cells: Vec<_> = cells.into_iter().map(|text| cell(text.as_ref())).collect();
    cells.join(",") + "\r\n"
}

/// A cell as it is written. What is a plain number is one, a negative one too.
fn cell(text: &str) -> String {
    let is_number = text.len() < 30 && text.strip_prefix('-').is_some_and(is_digits);
    let defused = text.trim_start_matches(' ').starts_with(FORMULA) && !is_number;
    let text = if defused { format!("'{text}") } else { text.to_owned() };
    if text.contains(['"', ',', '\r', '\n']) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text
}

fn is_digits(text: &str) -> bool {
    let of_number = |byte: u8| byte.is_ascii_digit() || byte == b'.';
    text.starts_with(|first: char| first.is_ascii_digit()) && text.bytes().all(of_number)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cells_are_quoted_and_defused() {
        for (text, written) in [
            ("", ""),
            ("plain", "plain"),
            ("a,b", "\"a,b\""),
            ("say \"x\"", "\"say \"\"x\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            ("=1+1", "'=1+1"),
            ("=HYPERLINK(\"http://x\",\"y\")", "\"'=HYPERLINK(\"\"http://x\"\",\"\"y\"\")\""),
            ("+85212345678", "'+85212345678"),
            ("-cmd|' /C calc'!A0", "'-cmd|' /C calc'!A0"),
            ("@SUM(1)", "'@SUM(1)"),
            ("  =1", "'  =1"),
            ("\t=1", "'\t=1"),
            ("＝1", "'＝1"),
            ("-1.5", "-1.5"),
            ("-1-1", "'-1-1"),
            ("1=2", "1=2"),
        ] {
            assert_eq!(cell(text), written, "{text:?}");
        }
    }

    /// What Python's `csv` makes of a text.
    fn python(text: &str) -> Vec<Vec<String>> {
        let script = "import sys, csv, io, json\n\
             text = sys.stdin.buffer.read().decode('utf-8')\n\
             json.dump(list(csv.reader(io.StringIO(text, newline=''), strict=True)), sys.stdout)";
        let mut child = Command::new("python3")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        serde_json::from_slice(&child.wait_with_output().unwrap().stdout).unwrap()
    }

    #[test]
    fn another_program_reads_the_same_cells() {
        let nasty = ["a\"b,c\r\nd", "", "\"", ",", "ü 漢字 \u{1F600}", "x\ny", "'", "a;b"];
        let text = line(nasty) + &line(["1", "2"]);
        let read = python(&text);
        assert_eq!(read[0], nasty);
        assert_eq!(read[1], ["1", "2"]);
    }

    proptest! {
        #[test]
        fn no_cell_begins_like_a_formula(text in "[ =+\\-@\t\r\na1\"',.]{0,8}|.{0,20}") {
            let written = cell(&text);
            let inner = written.strip_prefix('"').unwrap_or(&written).trim_start_matches(' ');
            let number = inner.strip_prefix('-').is_some_and(is_digits);
            prop_assert!(number || !inner.starts_with(FORMULA), "{text:?} is {written:?}");
        }
    }
}
