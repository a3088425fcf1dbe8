//! What members ask each other and answer, as bytes: versioned and bounded. Pure.
//!
//! JSON, not postcard: a record is JSON wherever else it lives and leaves out what it does not
//! have, which only a form that names its members can carry; and members of unlike versions run
//! beside each other during an upgrade, when one ignores the members that only the other knows.
//! Audio and captures, which are the bulk, follow their head as raw bytes.
//!
//! ```text
//! question    {"version":1,"ask":{"audio":{"recording":…}}}
//! answer      {"version":1,"done":…}  or  {"version":1,"failed":{"code":"nocall","message":…}}
//! stream      answer, in a chunk of its own; then chunks of raw bytes to the end
//! ```

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use storage::{FetchFormat, Page};
use storage_core::completeness::SeenCall;
use storage_core::marks::Marks;
use storage_core::query::{Order, Position, Query};
use storage_core::tombstone::Tombstone;
use storage_core::{Extension, NodeId, Recording, RecordingId, SegmentId, Ucid, WallTime};

use recorder_core::call::PauseWord;

use crate::audit_pages::{Filter, LogName};
use crate::tidings::Tiding;
use crate::web::backend::{
    Code, DeleteRequest, Failure, HoldRequest, MarkRequest, PauseRequest, StartRequest,
    StopRequest, Target,
};

/// The form that this program speaks.
pub const VERSION: u32 = 1;
/// Longest question.
pub const ASK_BYTES_MAX: usize = 256 * 1024;
/// Longest answer that is not a stream, and longest head of a stream.
pub const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Longest piece of a stream.
pub const PIECE_BYTES_MAX: usize = 256 * 1024;
/// Records asked for by name at once.
pub const RECORDS_MAX: usize = 256;
/// Calls of a day told at once; one is some hundred bytes.
pub const SEEN_MAX: usize = 5_000;
/// Segments of one capture asked for at once.
pub const SEGMENTS_MAX: usize = 4096;

/// A question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ask {
    /// These records, as far as they are known: a list of [`Held`].
    Records {
        /// Which; [`RECORDS_MAX`] at most.
        ids: Vec<RecordingId>,
    },
    /// The records of recordings that this node lists, oldest first: an [`OwnedPage`]. For a
    /// walk through all of them; what is sealed during the walk is not in it for certain.
    RecordsSince {
        /// Go on behind this place.
        #[serde(default, with = "cursor", skip_serializing_if = "Option::is_none")]
        cursor: Option<Position>,
        /// Records to look at, 1 to 1000; a page may have fewer, and still go on.
        limit: usize,
        /// All, or only those that it owns: a node that has lost its disk asks for its own, too.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        all: bool,
    },
    /// A page of recordings: a [`FoundPage`].
    Search {
        /// Which.
        #[serde(with = "query")]
        query: Box<Query>,
    },
    /// A recording's audio: an [`AudioHead`]. With a part, that part follows as a stream.
    Audio {
        /// Which.
        recording: RecordingId,
        /// In which form.
        #[serde(with = "format")]
        format: FetchFormat,
        /// Which part of it; the head alone if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        part: Option<Part>,
        /// The head need not have the checksum.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        unhashed: bool,
    },
    /// The calls in progress: a list of objects.
    Calls,
    /// How loud the calls are that the asked node records: dBFS by recording.
    Levels,
    /// Listen to a call that the asked node records: true, then a stream of frames
    /// ([`recorder_core::media::playout`]), a piece each, until it records the call no more.
    Listen {
        /// Which call.
        ucid: Ucid,
    },
    /// What was seen of the calls that began on a day: a [`SeenPage`].
    Seen {
        /// Any time of it.
        day: WallTime,
        /// Calls to leave out at the begin.
        from: usize,
    },
    /// What people asked of the asked member, behind the line of a number: [`crate::audit_pages::Lines`] of its audit log.
    Audit {
        /// Which lines.
        filter: Filter,
        /// Behind the line of this number.
        after: u64,
        /// That was a line of this log: of another one from its begin.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        log: Option<LogName>,
        /// Lines at most, 1 to 1000.
        limit: usize,
    },
    /// Whether the station is in the call: true or false.
    Concerns {
        /// Which call.
        target: Target,
        /// Which station.
        extension: Extension,
    },
    /// Start a recording: its id.
    Start(StartRequest),
    /// Stop a recording: its id.
    Stop(StopRequest),
    /// Pause a recording, or resume it: what was done.
    Pause(PauseRequest),
    /// These recordings are paused, or go on: true once what is heard of them is discarded.
    Pauses(Vec<PauseWord>),
    /// Repair a recording that the asked node owns: the id of what is made.
    Repair {
        /// Which.
        recording: RecordingId,
    },
    /// Write down what a person says of a recording: its record then.
    Mark(MarkRequest),
    /// This is what people wrote about a recording: true once it is written down there, too.
    Marks(Box<Marks>),
    /// The same with its legal hold, which a member of an earlier version is not to take for the whole.
    Holds(Box<Marks>),
    /// Hold a recording, or release it: its record then.
    Hold(HoldRequest),
    /// Delete a recording everywhere: its tombstone.
    Delete(DeleteRequest),
    /// This recording was deleted: true once it is gone there, too.
    Deleted(Box<Tombstone>),
    /// This happened to recordings of the asker: true.
    Tidings(Vec<Tiding>),
    /// List a recording that the asker has published, beside those that the ledger knows of: true.
    List {
        /// Its record.
        record: Box<Recording>,
    },
    /// What was captured of a recording: true, then a stream.
    Capture {
        /// Which recording, by the name under which the capture is kept.
        recording: RecordingId,
        /// Which stretches; [`SEGMENTS_MAX`] at most.
        segments: Vec<SegmentId>,
    },
    /// What is kept of what another node captured: a [`KeptHead`], then a stream as of a capture, if there
    /// is any.
    Kept {
        /// Who captured it.
        owner: NodeId,
        /// Which stretches; [`SEGMENTS_MAX`] at most.
        segments: Vec<SegmentId>,
    },
    /// What this node captures, from now on and for ever: a [`MirrorHead`], then a stream of messages
    /// ([`storage_core::mirror_wire`]), to which the asker says how far he has taken them.
    Mirror {
        /// How much of which capture journal the asker has; nothing if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        has: Option<MirrorPlace>,
    },
    /// The node as it sees itself: an object.
    Status,
}

/// A part of a recording's audio.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// First byte.
    pub offset: u64,
    /// How many; all of them lie within the audio.
    pub length: u64,
    /// The audio's mark, as its head gave it: nothing is sent of any other.
    pub mark: String,
}

/// Everything before a place of a capture journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorPlace {
    /// Which journal.
    pub journal: u64,
    /// Number of the file.
    pub file: u32,
    /// Offset in it.
    pub offset: u32,
}

/// What is known of a capture journal before any of it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorHead {
    /// Which journal it is.
    pub journal: u64,
}

/// What is known of a mirror before any of it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptHead {
    /// By how much its owner's clock is ahead of the keeper's, microseconds; absent if nothing is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_offset_us: Option<i64>,
}

/// A record, and whether its audio lies on the node that tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// The record.
    pub record: Recording,
    /// Whether the audio can be read there.
    pub held: bool,
}

/// Some of the records that a node tells.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OwnedPage {
    /// The records.
    pub records: Vec<Recording>,
    /// Goes on behind them; absent at the end.
    #[serde(default, with = "cursor", skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Position>,
}

/// Some of the calls of a day.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenPage {
    /// The calls, in the order in which they ended.
    pub calls: Vec<SeenCall>,
    /// Whether there are more.
    pub more: bool,
}

/// A page of a search.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FoundPage {
    /// The records, in the order asked for.
    pub recordings: Vec<Recording>,
    /// Goes on behind them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// How many there are, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}

impl From<Page> for FoundPage {
    fn from(Page { recordings, cursor, total }: Page) -> Self {
        Self { recordings, cursor, total }
    }
}

impl From<FoundPage> for Page {
    fn from(FoundPage { recordings, cursor, total }: FoundPage) -> Self {
        Self { recordings, cursor, total }
    }
}

/// What is known of audio before any of it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioHead {
    /// Bytes of the whole.
    pub bytes: u64,
    /// SHA-256 of the whole, if it costs little; never in the head of a part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// What it is played as.
    pub kind: AudioKind,
    /// Names this very file: a recording that is sealed anew has another.
    pub mark: String,
}

/// What audio is played as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AudioKind {
    /// WAV.
    Wav,
    /// Ogg Opus.
    Opus,
}

impl AudioKind {
    /// From the ending of a file's name.
    #[must_use]
    pub fn of_extension(extension: &str) -> Self {
        if extension == "opus" { Self::Opus } else { Self::Wav }
    }

    /// The MIME type.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Wav => "audio/wav",
            Self::Opus => "audio/ogg",
        }
    }

    /// Ending of a file's name.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Wav => "wav",
            Self::Opus => "opus",
        }
    }
}

/// Bytes from a peer that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// More than may be sent.
    #[error("{0} bytes are more than allowed")]
    TooLong(usize),
    /// Of a program that speaks another form.
    #[error("it speaks version {theirs} of the peer protocol, this node {VERSION}")]
    Version {
        /// Which.
        theirs: u32,
    },
    /// Not what it should be. What was wrong is not repeated: it may hold telephone numbers.
    #[error("it cannot be understood (line {line}, column {column})")]
    Malformed {
        /// Where.
        line: usize,
        /// Where in the line.
        column: usize,
    },
    /// More items than may be asked for at once, or none.
    #[error("it asks for {0} things at once")]
    Count(usize),
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
fn malformed(error: serde_json::Error) -> ProtocolError {
    ProtocolError::Malformed { line: error.line(), column: error.column() }
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct Question<A> {
    version: u32,
    ask: A,
}

/// One of the two is there.
#[derive(Serialize, Deserialize)]
struct Answer<T> {
    version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    done: Option<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<WireFailure>,
}

#[derive(Serialize, Deserialize)]
struct WireFailure {
    code: String,
    message: String,
}

/// A question as bytes.
#[must_use]
pub fn encode_ask(ask: &Ask) -> Vec<u8> {
    // Texts, numbers and lists with names for keys always have a form.
    serde_json::to_vec(&Question { version: VERSION, ask }).unwrap_or_default()
}

/// Reads a question.
///
/// # Errors
/// [`ProtocolError`]; whatever the bytes are.
pub fn decode_ask(bytes: &[u8]) -> Result<Ask, ProtocolError> {
    check_form(bytes, ASK_BYTES_MAX)?;
    let question: Question<Ask> = serde_json::from_slice(bytes).map_err(malformed)?;
    let (count, most) = match &question.ask {
        Ask::Records { ids } => (ids.len(), RECORDS_MAX),
        Ask::Capture { segments, .. } | Ask::Kept { segments, .. } => {
            (segments.len(), SEGMENTS_MAX)
        }
        Ask::RecordsSince { limit, .. } | Ask::Audit { limit, .. } => {
            (*limit, storage_core::query::LIMIT_MAX)
        }
        _ => return Ok(question.ask),
    };
    if (1..=most).contains(&count) { Ok(question.ask) } else { Err(ProtocolError::Count(count)) }
}

/// An answer as bytes.
///
/// # Errors
/// [`ProtocolError::TooLong`].
pub fn encode_answer<T: Serialize>(outcome: Result<T, Failure>) -> Result<Vec<u8>, ProtocolError> {
    let (done, failed) = match outcome {
        Ok(done) => (Some(done), None),
        Err(Failure { code, message }) => {
            (None, Some(WireFailure { code: code.as_str().to_owned(), message }))
        }
    };
    let answer = Answer { version: VERSION, done, failed };
    let bytes = serde_json::to_vec(&answer).map_err(malformed)?;
    if bytes.len() > ANSWER_BYTES_MAX {
        return Err(ProtocolError::TooLong(bytes.len()));
    }
    Ok(bytes)
}

/// Reads an answer: what was done, or why it was not. A code that only a later version knows
/// counts as `internal`.
///
/// # Errors
/// [`ProtocolError`]; whatever the bytes are.
pub fn decode_answer<T: DeserializeOwned>(
    bytes: &[u8],
) -> Result<Result<T, Failure>, ProtocolError> {
    check_form(bytes, ANSWER_BYTES_MAX)?;
    let answer: Answer<T> = serde_json::from_slice(bytes).map_err(malformed)?;
    match (answer.done, answer.failed) {
        (Some(done), None) => Ok(Ok(done)),
        (None, Some(WireFailure { code, message })) => {
            Ok(Err(Failure::new(Code::from_word(&code).unwrap_or(Code::Internal), message)))
        }
        _ => Err(ProtocolError::Malformed { line: 0, column: 0 }),
    }
}

/// Length and version come first, so that an old program can say what it is about a new one.
fn check_form(bytes: &[u8], most: usize) -> Result<(), ProtocolError> {
    if bytes.len() > most {
        return Err(ProtocolError::TooLong(bytes.len()));
    }
    let Versioned { version } = serde_json::from_slice(bytes).map_err(malformed)?;
    if version == VERSION { Ok(()) } else { Err(ProtocolError::Version { theirs: version }) }
}

/// A query travels as the arguments that it was read from.
mod query {
    use serde_json::json;
    use storage_core::Scope;

    use super::{Deserialize, Deserializer, Map, Order, Query, Serialize, Serializer, Value};

    /// Beside the arguments: whose recordings the asker may see.
    const STATIONS: &str = "stations";

    pub fn serialize<S: Serializer>(query: &Query, serializer: S) -> Result<S::Ok, S::Error> {
        arguments(query).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<Query>, D::Error> {
        let mut arguments = Map::deserialize(deserializer)?;
        let scope = match arguments.remove(STATIONS) {
            None => Scope::ALL,
            Some(stations) => {
                Scope::of(serde_json::from_value(stations).map_err(serde::de::Error::custom)?)
            }
        };
        let query = Query::from_arguments(&arguments).map_err(serde::de::Error::custom)?;
        Ok(Box::new(Query { scope, ..query }))
    }

    fn arguments(query: &Query) -> Map<String, Value> {
        let text = |text: &Option<String>| text.clone().map(Value::from);
        let order = match query.order {
            Order::Newest => "newest",
            Order::Oldest => "oldest",
        };
        let all = [
            ("from", query.from.map(|time| time.to_string().into())),
            ("to", query.to.map(|time| time.to_string().into())),
            ("extension", text(&query.extension)),
            ("agentid", text(&query.agentid)),
            ("party", text(&query.party)),
            ("ucid", query.ucid.as_ref().map(|ucid| ucid.as_str().into())),
            ("direction", query.direction.map(|direction| direction.as_str().into())),
            ("trunkgroup", text(&query.trunkgroup)),
            ("vdn", text(&query.vdn)),
            ("split", text(&query.split)),
            ("tag", text(&query.tag)),
            ("scorecard", text(&query.scorecard)),
            ("minscore", query.minscore.map(Value::from)),
            ("maxscore", query.maxscore.map(Value::from)),
            ("mindurationms", query.mindurationms.map(Value::from)),
            ("incomplete", query.incomplete.map(Value::from)),
            ("hold", query.hold.map(Value::from)),
            ("text", text(&query.text)),
            ("limit", Some(query.limit.into())),
            ("order", Some(order.into())),
            ("cursor", query.cursor.map(|cursor| cursor.to_cursor().into())),
            (STATIONS, query.scope.stations().map(|stations| json!(stations))),
        ];
        let given = |(name, value): (&str, Option<Value>)| Some((name.to_owned(), value?));
        all.into_iter().filter_map(given).collect()
    }
}

mod cursor {
    use super::{Deserialize, Deserializer, Position, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "as serde calls it")]
    pub fn serialize<S: Serializer>(
        cursor: &Option<Position>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        cursor.map(|position| position.to_cursor()).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Position>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        let position = Position::from_cursor(&text);
        position.map(Some).ok_or_else(|| serde::de::Error::custom("not a cursor"))
    }
}

mod format {
    use super::{Deserialize, Deserializer, FetchFormat, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
    pub fn serialize<S: Serializer>(
        format: &FetchFormat,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(format.as_str())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<FetchFormat, D::Error> {
        let word = String::deserialize(deserializer)?;
        FetchFormat::parse(&word).ok_or_else(|| serde::de::Error::custom("not a format"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;
    use storage_core::archived::Archived;
    use storage_core::hold::{HoldMark, Holding, REASON_BYTES_MAX, RELEASES_MAX, Release};
    use storage_core::marks::{
        Marking, NOTE_BYTES_MAX, NOTES_MAX, Note, SCORES_MAX, Score, Scoring, Stamp, TAG_CHARS_MAX,
        TAGS_EVER_MAX, TagMark,
    };
    use storage_core::record::{Direction, Scope};
    use storage_core::scorecard::Rated;
    use storage_core::{NodeId, Ucid, WallTime};

    use super::*;
    use crate::users::UserRole;
    use crate::web::backend::By;

    fn id(number: i64) -> RecordingId {
        RecordingId::new(WallTime::from_millis(1_700_000_000_000 + number), [7; 10])
    }

    fn cursor() -> Position {
        let mut key = [0; 24];
        key[8..].copy_from_slice(id(5).0.as_bytes());
        Position::from_key(&key)
    }

    fn query() -> Query {
        let text = |text: &str| Some(text.to_owned());
        Query {
            from: Some(WallTime::from_millis(1_700_000_000_001)),
            to: Some(WallTime::from_millis(1_700_000_999_999)),
            extension: text("2611"),
            agentid: text("4001"),
            party: text("+852 9123"),
            ucid: Some("00001012071700000000".parse::<Ucid>().unwrap()),
            direction: Some(Direction::Outbound),
            trunkgroup: text("7"),
            vdn: text("3000"),
            split: text("500"),
            tag: text("Complaint"),
            scorecard: text("Service"),
            minscore: Some(0),
            maxscore: Some(99),
            mindurationms: Some(u64::MAX),
            incomplete: Some(false),
            hold: Some(true),
            text: text("„order“ 77"),
            scope: storage_core::Scope::of(["2611", "2612"].map(Extension::from).into()),
            limit: 1000,
            order: Order::Oldest,
            cursor: Some(cursor()),
        }
    }

    fn filter() -> Filter {
        let Query { from, to, .. } = query();
        let actions = vec!["listen".to_owned()];
        Filter { from, to, user: Some("anna".to_owned()), recording: Some(id(1)), actions }
    }

    fn marking() -> Marking {
        let made =
            Marking::new(vec!["vip".to_owned()], Vec::new(), Some("call back".to_owned())).unwrap();
        Marking { score: Marking::scored(scoring()).score, ..made }
    }

    /// As long as a score may be, or nearly.
    fn scoring() -> Scoring {
        let answers = (0..7).map(|n| (format!("q{n}"), "\u{1f600}".repeat(250).into())).collect();
        let rated = Rated { answers, percent: 62.5 };
        Scoring::new("Service".to_owned(), rated, &"\u{1f600}".repeat(200)).unwrap()
    }

    fn tombstone() -> Tombstone {
        Tombstone {
            version: Tombstone::VERSION,
            recordingid: id(1),
            revision: 2,
            started: WallTime::from_millis(1),
            ended: WallTime::from_millis(2),
            owner: NodeId(1),
            ucids: vec!["00001012071700000000".parse().unwrap()],
            callids: vec!["7".to_owned()],
            at: WallTime::from_millis(3),
            node: NodeId(2),
            by: "adam".to_owned(),
            reason: "told to".to_owned(),
        }
    }

    fn holding() -> Holding {
        Holding::new(true, Some("case 7".to_owned())).unwrap()
    }

    /// As much as may be written about one recording, in letters of four bytes.
    fn most_marks() -> Marks {
        let stamp = |n: usize| Stamp {
            at: WallTime::from_millis(i64::try_from(n).unwrap()),
            node: NodeId(1),
        };
        let wide = |count: usize| "\u{1f600}".repeat(count);
        let tag = |n: usize| TagMark {
            tag: format!("{n:03}{}", wide(TAG_CHARS_MAX - 3)),
            on: n.is_multiple_of(2),
            by: wide(32),
            stamp: stamp(n),
        };
        let note =
            |n: usize| Note { text: wide(NOTE_BYTES_MAX / 4), by: wide(32), stamp: stamp(n) };
        let release = |n: usize| Release {
            by: wide(32),
            reason: wide(REASON_BYTES_MAX / 4),
            stamp: stamp(n),
        };
        let score = |n: usize| {
            let Scoring { scorecard, percent, answers, comment } = scoring();
            Score { scorecard, percent, answers, comment, by: format!("{n}"), stamp: stamp(n) }
        };
        Marks {
            recordingid: id(1),
            tagmarks: (0..TAGS_EVER_MAX).map(tag).collect(),
            notes: (0..NOTES_MAX).map(note).collect(),
            holdmark: Some(HoldMark {
                by: wide(32),
                reason: wide(REASON_BYTES_MAX / 4),
                stamp: stamp(0),
                releases: (1..=RELEASES_MAX).map(release).collect(),
            }),
            scores: (0..SCORES_MAX).map(score).collect(),
            archived: Some(Archived {
                place: wide(1000),
                revision: 1,
                sha256: "a".repeat(64),
                encrypted: true,
                bytes: u64::MAX,
                stored: "a".repeat(64),
                record: "a".repeat(64),
                stamp: stamp(0),
            }),
        }
    }

    fn asks() -> Vec<Ask> {
        let by = By {
            user: "anna".to_owned(),
            role: UserRole::Agent,
            extension: Some(Extension::from("2611")),
        };
        let ucid = Target::Ucid("00001012071700000000".parse().unwrap());
        let part = Part { offset: 1 << 40, length: 7, mark: "ab".to_owned() };
        let format = FetchFormat::Wav;
        let name = Some(LogName::of([0xff; 32]));
        vec![
            Ask::Records { ids: (0..RECORDS_MAX as i64).map(id).collect() },
            Ask::RecordsSince { cursor: None, limit: 1, all: false },
            Ask::RecordsSince { cursor: Some(cursor()), limit: 1000, all: true },
            Ask::Search { query: Box::default() },
            Ask::Search { query: Box::new(query()) },
            Ask::Audio { recording: id(1), format, part: None, unhashed: true },
            Ask::Audio { recording: id(1), format, part: Some(part), unhashed: false },
            Ask::Calls,
            Ask::Listen { ucid: "00001012071700000000".parse().unwrap() },
            Ask::Audit { filter: Filter::default(), after: 0, log: None, limit: 1 },
            Ask::Audit { filter: filter(), after: u64::MAX, log: name, limit: 1000 },
            Ask::Concerns { target: Target::Recording(id(1)), extension: Extension::from("2611") },
            Ask::Start(StartRequest { target: ucid, scope: Scope::Trunk, by: by.clone() }),
            Ask::Stop(StopRequest {
                target: Target::Extension(Extension::from("2611")),
                by: by.clone(),
            }),
            Ask::Mark(MarkRequest { recording: id(1), marking: marking(), by: by.clone() }),
            Ask::Hold(HoldRequest { recording: id(1), holding: holding(), by }),
            Ask::Delete(DeleteRequest {
                recording: id(1),
                reason: "told to".to_owned(),
                by: "adam".to_owned(),
            }),
            Ask::Deleted(Box::new(tombstone())),
            Ask::Marks(Box::new(most_marks())),
            Ask::Holds(Box::new(most_marks())),
            Ask::Capture {
                recording: id(1),
                segments: (0..SEGMENTS_MAX as u64).map(|n| SegmentId(u64::MAX - n)).collect(),
            },
            Ask::Status,
        ]
    }

    #[test]
    fn questions_come_back_as_they_went() {
        for ask in asks() {
            let bytes = encode_ask(&ask);
            assert!(bytes.len() <= ASK_BYTES_MAX, "{} bytes", bytes.len());
            assert_eq!(decode_ask(&bytes), Ok(ask));
        }
    }

    #[test]
    fn answers_come_back_as_they_went() {
        let head = AudioHead {
            bytes: u64::MAX,
            sha256: Some("ab".to_owned()),
            kind: AudioKind::Opus,
            mark: "cd".to_owned(),
        };
        let bytes = encode_answer(Ok(&head)).unwrap();
        assert_eq!(decode_answer(&bytes), Ok(Ok(head)));
        let page = OwnedPage { records: Vec::new(), cursor: Some(cursor()) };
        let bytes = encode_answer(Ok(&page)).unwrap();
        assert_eq!(decode_answer(&bytes), Ok(Ok(page)));
        for code in Code::ALL {
            let failure = Failure::new(code, "why");
            let bytes = encode_answer::<bool>(Err(failure.clone())).unwrap();
            assert_eq!(decode_answer::<bool>(&bytes), Ok(Err(failure)));
        }
        assert_eq!(decode_answer(&encode_answer(Ok(true)).unwrap()), Ok(Ok(true)));
        for neither in [r#"{"version":1}"#, r#"{"version":1,"done":true,"failed":{}}"#] {
            assert!(decode_answer::<bool>(neither.as_bytes()).is_err());
        }
    }

    #[test]
    fn a_later_program_is_understood_as_far_as_it_can_be() {
        let more = json!({"version": 1, "ask": {"recordssince": {"limit": 9, "new": [1]}}, "x": 1});
        let expected = Ask::RecordsSince { cursor: None, limit: 9, all: false };
        assert_eq!(decode_ask(more.to_string().as_bytes()), Ok(expected));
        let other = json!({"version": 2, "ask": "somethingelse"}).to_string();
        let error = decode_ask(other.as_bytes()).unwrap_err();
        assert_eq!(error, ProtocolError::Version { theirs: 2 });
        let failed = json!({"version": 1, "failed": {"code": "toohot", "message": "m"}});
        let failure = Failure::new(Code::Internal, "m");
        assert_eq!(decode_answer::<bool>(failed.to_string().as_bytes()), Ok(Err(failure)));
    }

    #[test]
    fn too_much_and_too_little_is_refused() {
        let ids = vec![id(1); RECORDS_MAX + 1];
        assert_eq!(decode_ask(&encode_ask(&Ask::Records { ids })), Err(ProtocolError::Count(257)));
        let none = Ask::Records { ids: Vec::new() };
        assert_eq!(decode_ask(&encode_ask(&none)), Err(ProtocolError::Count(0)));
        for limit in [0, 1001, usize::MAX] {
            let since = Ask::RecordsSince { cursor: None, limit, all: false };
            let audit = Ask::Audit { filter: Filter::default(), after: 0, log: None, limit };
            for ask in [since, audit] {
                assert_eq!(decode_ask(&encode_ask(&ask)), Err(ProtocolError::Count(limit)));
            }
        }
        let long = vec![b' '; ASK_BYTES_MAX + 1];
        assert_eq!(decode_ask(&long), Err(ProtocolError::TooLong(ASK_BYTES_MAX + 1)));
        let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
        assert!(matches!(decode_ask(&deep), Err(ProtocolError::Malformed { .. })));
        let long = "x".repeat(ANSWER_BYTES_MAX);
        assert!(matches!(encode_answer(Ok(long)), Err(ProtocolError::TooLong(_))));
    }

    #[test]
    fn what_was_wrong_is_not_repeated() {
        let ask = json!({"version": 1, "ask": {"search": {"query": {"party": ["85291234567"]}}}});
        let error = decode_ask(ask.to_string().as_bytes()).unwrap_err().to_string();
        assert!(error.contains("line") && !error.contains("8529"), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode_ask(&bytes);
            let _ = decode_answer::<Vec<Held>>(&bytes);
        }

        #[test]
        fn a_question_with_a_byte_changed_is_read_or_refused(
            which in any::<proptest::sample::Index>(),
            at in any::<proptest::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut bytes = encode_ask(which.get(&asks()));
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(ask) = decode_ask(&bytes) {
                prop_assert_eq!(decode_ask(&encode_ask(&ask)), Ok(ask));
            }
        }
    }
}
