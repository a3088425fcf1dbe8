//! Names of files and folders below the data folder, both ways. All are relative to it. Nothing
//! here touches a disk.
//!
//! ```text
//! lock                                    held by the process that works here
//! capture/0000000001.alc                  capture journal
//! capture/identity                        which journal it is
//! voice/2026/11/23/RECORDINGID.wav|.opus  voice file, filed by the UTC day of its first audio
//! voice/2026/11/23/RECORDINGID.json       its record
//! voice/2026/11/23/RECORDINGID.wav.enc    an encrypted one (or .opus.enc) …
//! voice/2026/11/23/RECORDINGID.key        … and its data key, wrapped
//! voice/.sealing/RECORDINGID.wav|.opus    voice file while it is written
//! voice/.staged/RECORDINGID.REVISION.…    voice file and record that wait to be published
//! voice/.publishing/RECORDINGID.REVISION.…  records whose publishing has begun
//! voice/.deleting/RECORDINGID.json        recordings whose deletion has begun
//! voice/.copies/…                         the same three for what comes from another member
//! archive/RECORDINGID.json                how far a large voice file has got into the archive
//! pulled/                                 captures of other nodes while they are sealed
//! mirror/NODE/capture/0000000001.alc      what another node captured, for the day that it is lost
//! mirror/NODE/position                    how much of that node's journal is durable here
//! owed/NODE/RECORDINGID                   what people wrote about it and a node has not heard of yet
//! calls/2026-11-23.jsonl                  calls that began on this UTC day, as this node saw them
//! deleted/2026-11-23.jsonl                deleted ones of the recordings that were made on this UTC day
//! manifest/2026-11-23.jsonl, head         what was published here, and checkpoints
//! manifest/signing.key, node.der          the node's signing key, and its public half
//! catalog/                                index; can be rebuilt from `voice`
//! ```

use std::path::{Path, PathBuf};

use crate::ids::RecordingId;
use crate::record::VoiceFormat;
use crate::time::WallTime;

/// Folder of the capture journal.
pub const CAPTURE_FOLDER: &str = "capture";
/// Folder of the audit log.
pub const AUDIT_FOLDER: &str = "audit";
/// Folder of the manifest and of the node's signing key.
pub const MANIFEST_FOLDER: &str = "manifest";
/// Folder of what other nodes have signed of the manifest, and of what was seen of theirs, below [`MANIFEST_FOLDER`].
pub const COUNTERSIGNED_FOLDER: &str = "countersigned";
/// Folder of the voice files and their records.
pub const VOICE_FOLDER: &str = "voice";
/// Folder of what is being written, below [`VOICE_FOLDER`] so that it lies on the same device.
pub const SEALING_FOLDER: &str = ".sealing";
/// Folder of what is written and not published, below [`VOICE_FOLDER`].
pub const STAGED_FOLDER: &str = ".staged";
/// Folder of the records that are being published, below [`VOICE_FOLDER`].
pub const PUBLISHING_FOLDER: &str = ".publishing";
/// Folder of what comes from other members and has no final name yet, below [`VOICE_FOLDER`]: whatever
/// this node seals itself is never mixed up with it.
pub const COPIES_FOLDER: &str = ".copies";
/// Folder of notes on what is on its way into the archive.
pub const ARCHIVE_FOLDER: &str = "archive";
/// Folder of other nodes' captures while they are needed here.
pub const PULLED_FOLDER: &str = "pulled";
/// Folder of what other nodes captured and this one keeps for them.
pub const MIRROR_FOLDER: &str = "mirror";
/// How much of another node's journal is durable here, beside that [`CAPTURE_FOLDER`].
pub const POSITION_FILE: &str = "position";
/// Folder of what is to be told to nodes, one folder for each.
pub const OWED_FOLDER: &str = "owed";
/// Folder of what people have exported, a folder each.
pub const EXPORTS_FOLDER: &str = "exports";
/// Folder of the calls that were seen.
pub const CALLS_FOLDER: &str = "calls";
/// Folder of what stays of deleted recordings.
pub const DELETED_FOLDER: &str = "deleted";
/// Folder of the recordings that are being deleted, below [`VOICE_FOLDER`].
pub const DELETING_FOLDER: &str = ".deleting";
/// Folder of voice files and records that were found damaged and replaced, below [`VOICE_FOLDER`].
pub const DAMAGED_FOLDER: &str = ".damaged";
/// How far the voice files have been read over.
pub const SCRUB_FILE: &str = "scrub.json";
/// Folder of the index.
pub const CATALOG_FOLDER: &str = "catalog";
/// Which journal it is, in [`CAPTURE_FOLDER`].
pub const IDENTITY_FILE: &str = "identity";
/// Room kept for facts when the disk is full, in [`CAPTURE_FOLDER`].
pub const RESERVE_FILE: &str = "reserve";

const RECORD_ENDING: &str = "json";
const KEYS_ENDING: &str = "key";
const CIPHER_ENDING: &str = ".enc";
const CAPTURE_ENDING: &str = "alc";

/// Name of a capture file in [`CAPTURE_FOLDER`].
#[must_use]
pub fn capture_file(number: u32) -> String {
    format!("{number:010}.{CAPTURE_ENDING}")
}

/// The number of a capture file, if the name is one.
#[must_use]
pub fn capture_number(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(CAPTURE_ENDING)?.strip_suffix('.')?;
    let number = digits.parse().ok()?;
    (capture_file(number) == name).then_some(number)
}

/// Folder of the recordings whose first audio was on the UTC day of `started`.
#[must_use]
pub fn day_folder(started: WallTime) -> PathBuf {
    // The first ten characters of RFC 3339 are the date; times outside the years 0 to 9999 have
    // no such form and are filed under the epoch rather than lost.
    let text = started.to_string();
    let mut parts = text.get(..10).unwrap_or("1970-01-01").split('-');
    let mut folder = PathBuf::from(VOICE_FOLDER);
    let digits = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let date: Vec<_> = parts.by_ref().filter(digits).collect();
    match date[..] {
        [year, month, day] => folder.extend([year, month, day]),
        _ => folder.extend(["1970", "01", "01"]),
    }
    folder
}

/// Name of the file in [`CALLS_FOLDER`] for calls that began on the UTC day of a time.
#[must_use]
pub fn calls_file(began: WallTime) -> String {
    let text = began.to_string();
    format!("{}.jsonl", text.get(..10).unwrap_or("1970-01-01"))
}

/// Whether a name is one that [`calls_file`] gives.
#[must_use]
pub fn is_calls_file(name: &str) -> bool {
    let Some(day) = name.strip_suffix(".jsonl") else { return false };
    let form = |(at, byte): (usize, u8)| {
        if matches!(at, 4 | 7) { byte == b'-' } else { byte.is_ascii_digit() }
    };
    day.len() == 10 && day.bytes().enumerate().all(form)
}

/// Where a recording's voice file lies.
#[must_use]
pub fn voice_file(started: WallTime, id: RecordingId, format: VoiceFormat) -> PathBuf {
    day_folder(started).join(voice_name(id, format))
}

/// Where a recording's record lies.
#[must_use]
pub fn record_file(started: WallTime, id: RecordingId) -> PathBuf {
    day_folder(started).join(record_name(id))
}

/// Where a recording's data key lies, if its voice file is encrypted.
#[must_use]
pub fn keys_file(started: WallTime, id: RecordingId) -> PathBuf {
    day_folder(started).join(keys_name(id))
}

/// Name of a recording's data key in its day's folder.
#[must_use]
pub fn keys_name(id: RecordingId) -> String {
    format!("{id}.{KEYS_ENDING}")
}

/// The name that an encrypted file has instead of this one.
#[must_use]
pub fn encrypted_name(plain: &str) -> String {
    format!("{plain}{CIPHER_ENDING}")
}

/// The name that a file has instead of this one if it is encrypted: it is no WAV file to anybody who
/// goes by names.
#[must_use]
pub fn encrypted(path: PathBuf) -> PathBuf {
    let mut name = path.into_os_string();
    name.push(CIPHER_ENDING);
    name.into()
}

/// The name of the plain file, if this is the name of an encrypted one.
#[must_use]
pub fn decrypted(name: &str) -> Option<&str> {
    name.strip_suffix(CIPHER_ENDING)
}

/// Whether a file has this name that holds data keys, of something published or staged.
#[must_use]
pub fn is_keys_file(name: &str) -> bool {
    let ours = |id: &str| id.parse::<RecordingId>().is_ok();
    let id = name.split('.').next().is_some_and(ours);
    id && Path::new(name).extension().is_some_and(|ending| ending == KEYS_ENDING)
}

/// Where a voice file lies while it is written.
#[must_use]
pub fn sealing_voice_file(id: RecordingId, format: VoiceFormat) -> PathBuf {
    sealing_folder().join(voice_name(id, format))
}

/// Where a record lies while what people wrote is entered into it.
#[must_use]
pub fn sealing_marks_file(id: RecordingId) -> PathBuf {
    sealing_folder().join(format!("{id}.marks.{RECORD_ENDING}"))
}

/// Where the note that a recording is being deleted lies while it is written.
#[must_use]
pub fn sealing_deletion_file(id: RecordingId) -> PathBuf {
    sealing_folder().join(format!("{id}.deleted.{RECORD_ENDING}"))
}

/// Where the note lies that a recording is being deleted.
#[must_use]
pub fn deleting_file(id: RecordingId) -> PathBuf {
    deleting_folder().join(record_name(id))
}

/// Folder of the recordings that are being deleted.
#[must_use]
pub fn deleting_folder() -> PathBuf {
    Path::new(VOICE_FOLDER).join(DELETING_FOLDER)
}

/// Folder of what was found damaged and replaced, under the names that it had.
#[must_use]
pub fn damaged_folder() -> PathBuf {
    Path::new(VOICE_FOLDER).join(DAMAGED_FOLDER)
}

/// Where a record lies while it is written.
#[must_use]
pub fn sealing_record_file(id: RecordingId, revision: u32) -> PathBuf {
    sealing_folder().join(revision_name(id, revision))
}

/// Where a voice file lies until it is published.
#[must_use]
pub fn staged_voice_file(id: RecordingId, revision: u32, format: VoiceFormat) -> PathBuf {
    staged_folder().join(format!("{id}.{revision}.{}", format.extension()))
}

/// Where a data key lies until its voice file is published.
#[must_use]
pub fn staged_keys_file(id: RecordingId, revision: u32) -> PathBuf {
    staged_folder().join(format!("{id}.{revision}.{KEYS_ENDING}"))
}

/// Where a data key lies while it is written.
#[must_use]
pub fn sealing_keys_file(id: RecordingId, revision: u32) -> PathBuf {
    sealing_folder().join(format!("{id}.{revision}.{KEYS_ENDING}"))
}

/// Where the data keys of two revisions lie while the one replaces the other.
#[must_use]
pub fn publishing_keys_file(id: RecordingId, revision: u32) -> PathBuf {
    publishing_folder().join(format!("{id}.{revision}.{KEYS_ENDING}"))
}

/// Where a record lies until it is published.
#[must_use]
pub fn staged_record_file(id: RecordingId, revision: u32) -> PathBuf {
    staged_folder().join(revision_name(id, revision))
}

/// Where a record lies while it is published.
#[must_use]
pub fn publishing_record_file(id: RecordingId, revision: u32) -> PathBuf {
    publishing_folder().join(revision_name(id, revision))
}

/// Folder of what is written and not published.
#[must_use]
pub fn staged_folder() -> PathBuf {
    Path::new(VOICE_FOLDER).join(STAGED_FOLDER)
}

/// Folder of the records that are being published.
#[must_use]
pub fn publishing_folder() -> PathBuf {
    Path::new(VOICE_FOLDER).join(PUBLISHING_FOLDER)
}

/// The recording and the revision whose record has this name in the folder of what is staged or
/// being published; `None` if it is none.
#[must_use]
pub fn revision_of(name: &str) -> Option<(RecordingId, u32)> {
    let (id, rest) = name.split_once('.')?;
    let (revision, ending) = rest.split_once('.')?;
    let known = (id.parse().ok()?, revision.parse().ok()?);
    (ending == RECORD_ENDING && revision_name(known.0, known.1) == name).then_some(known)
}

/// The name of the record that a file belongs to in the folder of what is staged.
#[must_use]
pub fn staged_record_of(name: &str) -> Option<String> {
    let mut parts = name.split('.');
    let record = format!("{}.{}.{RECORD_ENDING}", parts.next()?, parts.next()?);
    revision_of(&record).map(|_| record)
}

/// Folder of what is being written.
#[must_use]
pub fn sealing_folder() -> PathBuf {
    Path::new(VOICE_FOLDER).join(SEALING_FOLDER)
}

/// Where something that lies below [`VOICE_FOLDER`] on its way lies if it comes from another member.
#[must_use]
pub fn of_copies(path: &Path) -> PathBuf {
    let below = path.strip_prefix(VOICE_FOLDER).unwrap_or(path);
    Path::new(VOICE_FOLDER).join(COPIES_FOLDER).join(below)
}

/// What a file in a day's folder is by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Named {
    /// A voice file.
    Voice(RecordingId),
    /// A record.
    Record(RecordingId),
    /// The data key of an encrypted voice file.
    Keys(RecordingId),
}

impl Named {
    /// Reads a name; `None` if it is none of ours.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (id, ending) = name.split_once('.')?;
        let id = id.parse().ok()?;
        match ending {
            "wav" | "opus" | "wav.enc" | "opus.enc" => Some(Self::Voice(id)),
            KEYS_ENDING => Some(Self::Keys(id)),
            RECORD_ENDING => Some(Self::Record(id)),
            _ => None,
        }
    }
}

/// Name of a voice file in its day's folder.
#[must_use]
pub fn voice_name(id: RecordingId, format: VoiceFormat) -> String {
    format!("{id}.{}", format.extension())
}

fn revision_name(id: RecordingId, revision: u32) -> String {
    format!("{id}.{revision}.{RECORD_ENDING}")
}

/// Name of a record in its day's folder.
#[must_use]
pub fn record_name(id: RecordingId) -> String {
    format!("{id}.{RECORD_ENDING}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recordings_are_filed_by_the_utc_day() {
        let id = RecordingId::new(WallTime::from_millis(0), [1; 10]);
        let cases = [
            ("2026-11-23T23:59:59.999Z", "voice/2026/11/23"),
            ("2026-11-24T00:30:00+01:00", "voice/2026/11/23"),
            ("0003-02-01T00:00:00Z", "voice/0003/02/01"),
            ("-000003-02-01T00:00:00Z", "voice/1970/01/01"),
        ];
        for (started, folder) in cases {
            let started = started.parse().unwrap();
            assert_eq!(day_folder(started), Path::new(folder));
            let name = voice_file(started, id, VoiceFormat::WavG711);
            assert_eq!(name, Path::new(folder).join(format!("{id}.wav")));
        }
        assert!(day_folder(WallTime::from_micros(i64::MAX)).starts_with("voice/1970"));
    }

    #[test]
    fn names_go_both_ways() {
        for number in [0, 1, 4_294_967_295] {
            assert_eq!(capture_number(&capture_file(number)), Some(number));
        }
        for wrong in ["1.alc", "0000000001", "0000000001.alc2", "+000000001.alc", "9999999999.alc"]
        {
            assert_eq!(capture_number(wrong), None, "{wrong}");
        }
        let id = RecordingId::new(WallTime::from_millis(9), [7; 10]);
        assert_eq!(Named::parse(&record_name(id)), Some(Named::Record(id)));
        assert_eq!(Named::parse(&voice_name(id, VoiceFormat::Opus)), Some(Named::Voice(id)));
        let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        let encrypted = encrypted(voice_file(id.made(), id, VoiceFormat::Wav));
        assert_eq!(Named::parse(&name(encrypted)), Some(Named::Voice(id)));
        assert_eq!(Named::parse(&name(keys_file(id.made(), id))), Some(Named::Keys(id)));
        assert_eq!(revision_of(&revision_name(id, 12)), Some((id, 12)));
        for ending in ["wav", "opus.enc", "key", "json"] {
            let record = staged_record_of(&format!("{id}.3.{ending}"));
            assert_eq!(record, Some(revision_name(id, 3)), "{ending}");
        }
        assert_eq!(staged_record_of(&format!("{id}.x.wav")), None);
        assert_eq!(of_copies(&staged_folder()), Path::new("voice/.copies/.staged"));
        assert_eq!(decrypted(&format!("{id}.wav.enc")), Some(format!("{id}.wav").as_str()));
        for (name, keys) in [("{}.key", true), ("{}.2.key", true), ("{}.json", false)] {
            assert_eq!(is_keys_file(&name.replace("{}", &id.to_string())), keys, "{name}");
        }
        assert!(!is_keys_file("private.key"));
        for wrong in [format!("{id}.json"), format!("{id}.01.json"), format!("{id}.1.wav")] {
            assert_eq!(revision_of(&wrong), None, "{wrong}");
        }
        for wrong in ["x.json", ".json", "notes.txt", &format!("{id}.wav.bak"), &id.to_string()] {
            assert_eq!(Named::parse(wrong), None, "{wrong}");
        }
    }
}
