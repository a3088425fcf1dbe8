//! What people ask of the catalog: the filters of `listrecordings`, the order, the page. It decides
//! which recordings match; how they are found quickly is the catalog's matter.
//!
//! Settled here: `from` is inclusive and `to` exclusive, both on the begin of the audio.
//! `extension`, `agentid`, `trunkgroup`, `vdn`, `split` and `tag` are compared as they are.
//! `party` is compared with calling and called number by letters and digits alone, so
//! `+852 9123-4567` finds `85291234567`. `text` is looked for in every word of the record, in any
//! case of letters, the names of all parties among them. `minscore` and `maxscore` are inclusive, and with
//! `scorecard` they are of one and the same score.

use serde_json::{Map, Value};

use crate::ids::{RecordingId, Ucid};
use crate::marks::Score;
use crate::record::{Direction, Recording};
use crate::scope::Scope;
use crate::time::WallTime;

/// Recordings on a page if nothing else is asked for.
pub const LIMIT_DEFAULT: usize = 50;
/// Recordings on a page at most.
pub const LIMIT_MAX: usize = 1000;
/// Longest text of a filter, in bytes.
const TEXT_BYTES_MAX: usize = 1024;

/// A place in the catalog's order: by begin (to the millisecond, which is all that a record keeps),
/// then by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    started_ms: i64,
    id: RecordingId,
}

impl Position {
    /// Where a recording stands.
    #[must_use]
    pub const fn of(recording: &Recording) -> Self {
        Self { started_ms: recording.started.as_millis(), id: recording.recordingid }
    }

    /// Before all recordings that began at this time or later, and behind all others.
    #[must_use]
    pub const fn at(started: WallTime) -> Self {
        Self { started_ms: started.as_millis(), id: RecordingId(uuid::Uuid::nil()) }
    }

    /// When what stands there began, milliseconds since 1970. (A cursor may hold any number.)
    #[must_use]
    pub const fn started_ms(&self) -> i64 {
        self.started_ms
    }

    /// The recording that stands there.
    #[must_use]
    pub const fn id(&self) -> RecordingId {
        self.id
    }

    /// Bytes that sort as positions do.
    #[must_use]
    pub fn to_key(&self) -> [u8; 24] {
        let mut key = [0; 24];
        key[..8].copy_from_slice(&time_key(self.started_ms));
        key[8..].copy_from_slice(self.id.0.as_bytes());
        key
    }

    /// Reads such bytes.
    #[must_use]
    pub fn from_key(key: &[u8; 24]) -> Self {
        let (time, id) = key.split_at(8);
        let fold = |sum: u64, byte: &u8| (sum << 8) | u64::from(*byte);
        let started_ms = (time.iter().fold(0, fold) ^ (1 << 63)).cast_signed();
        let id = id.iter().fold(0_u128, |sum, byte| (sum << 8) | u128::from(*byte));
        Self { started_ms, id: RecordingId(uuid::Uuid::from_u128(id)) }
    }

    /// The cursor that goes on behind this place: opaque to clients, who give it back as it is.
    #[must_use]
    pub fn to_cursor(&self) -> String {
        let key = self.to_key();
        let mut text: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        text.push_str(&format!("{:08x}", crc32c::crc32c(&key)));
        text
    }

    /// Reads a cursor; `None` if it is none of ours.
    #[must_use]
    pub fn from_cursor(cursor: &str) -> Option<Self> {
        if cursor.len() != 56 || !cursor.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let mut bytes = [0; 28];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(cursor.get(at * 2..at * 2 + 2)?, 16).ok()?;
        }
        let (key, check) = bytes.split_first_chunk::<24>()?;
        (check == crc32c::crc32c(key).to_be_bytes()).then(|| Self::from_key(key))
    }
}

/// Eight bytes that sort as the times do, negative ones first.
#[must_use]
pub fn time_key(started_ms: i64) -> [u8; 8] {
    (started_ms.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

/// Which end of time comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The newest.
    #[default]
    Newest,
    /// The oldest.
    Oldest,
}

/// A question to the catalog. What is absent does not narrow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Audio began at this time or later.
    pub from: Option<WallTime>,
    /// Audio began before this time.
    pub to: Option<WallTime>,
    /// The station it was made for.
    pub extension: Option<String>,
    /// The agent.
    pub agentid: Option<String>,
    /// Calling or called number.
    pub party: Option<String>,
    /// The call's identity, now or before a merge.
    pub ucid: Option<Ucid>,
    /// Which way the call went.
    pub direction: Option<Direction>,
    /// Trunk group.
    pub trunkgroup: Option<String>,
    /// VDN.
    pub vdn: Option<String>,
    /// Split or skill.
    pub split: Option<String>,
    /// One of its tags.
    pub tag: Option<String>,
    /// Judged by this scorecard.
    pub scorecard: Option<String>,
    /// Judged with at least so many percent.
    pub minscore: Option<u8>,
    /// Judged with at most so many percent.
    pub maxscore: Option<u8>,
    /// At least so long.
    pub mindurationms: Option<u64>,
    /// `true`: only those that lack something; `false`: only those that do not.
    pub incomplete: Option<bool>,
    /// `true`: only those under legal hold; `false`: only those that are not.
    pub hold: Option<bool>,
    /// Somewhere in its words.
    pub text: Option<String>,
    /// What the asker may see. No argument of a request: who asks does not choose it.
    pub scope: Scope,
    /// Recordings on a page, 1 to [`LIMIT_MAX`].
    pub limit: usize,
    /// What comes first.
    pub order: Order,
    /// Go on behind this place.
    pub cursor: Option<Position>,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            from: None,
            to: None,
            extension: None,
            agentid: None,
            party: None,
            ucid: None,
            direction: None,
            trunkgroup: None,
            vdn: None,
            split: None,
            tag: None,
            scorecard: None,
            minscore: None,
            maxscore: None,
            mindurationms: None,
            incomplete: None,
            hold: None,
            text: None,
            scope: Scope::ALL,
            limit: LIMIT_DEFAULT,
            order: Order::Newest,
            cursor: None,
        }
    }
}

/// An argument with a value that it cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{argument}` must be {expected}")]
pub struct QueryError {
    /// Its name.
    pub argument: &'static str,
    /// What it must be.
    pub expected: &'static str,
}

impl Query {
    /// Reads the arguments of a request. Members that are no argument are ignored (a request has
    /// `request` and `id` beside them); an empty text is as good as none; where digits are meant
    /// a JSON integer is taken, too.
    ///
    /// # Errors
    /// [`QueryError`] names the first argument that is wrong.
    pub fn from_arguments(arguments: &Map<String, Value>) -> Result<Self, QueryError> {
        let read = Arguments(arguments);
        let query = Self {
            from: read.time("from")?,
            to: read.time("to")?,
            extension: read.text("extension")?,
            agentid: read.text("agentid")?,
            party: read.text("party")?,
            ucid: read.ucid("ucid")?,
            direction: read.direction("direction")?,
            trunkgroup: read.text("trunkgroup")?,
            vdn: read.text("vdn")?,
            split: read.text("split")?,
            tag: read.text("tag")?,
            scorecard: read.text("scorecard")?,
            minscore: read.percent("minscore")?,
            maxscore: read.percent("maxscore")?,
            mindurationms: read.number("mindurationms")?,
            incomplete: read.flag("incomplete")?,
            hold: read.flag("hold")?,
            text: read.text("text")?,
            scope: Scope::ALL,
            limit: read.limit("limit")?,
            order: read.order("order")?,
            cursor: read.cursor("cursor")?,
        };
        if query.minscore.zip(query.maxscore).is_some_and(|(least, most)| most < least) {
            return Err(QueryError { argument: "maxscore", expected: "no less than `minscore`" });
        }
        match (query.from, query.to) {
            (Some(from), Some(to)) if to < from => {
                Err(QueryError { argument: "to", expected: "no earlier than `from`" })
            }
            _ => Ok(query),
        }
    }

    /// Whether a recording is asked for. Order, limit and cursor do not count here.
    #[must_use]
    pub fn matches(&self, recording: &Recording) -> bool {
        self.scope.holds(recording)
            && self.matches_time(recording)
            && self.matches_numbers(recording)
            && self.tag.as_ref().is_none_or(|tag| recording.tags.contains(tag))
            && self.matches_scores(recording)
            && self.mindurationms.is_none_or(|least| recording.durationms >= least)
            && self.incomplete.is_none_or(|incomplete| recording.lacks_audio() == incomplete)
            && self.hold.is_none_or(|held| recording.hold == held)
            && self.text.as_ref().is_none_or(|text| has_text(recording, text))
    }

    /// Whether nothing narrows the question.
    #[must_use]
    pub fn is_unfiltered(&self) -> bool {
        let plain =
            Self { limit: self.limit, order: self.order, cursor: self.cursor, ..Self::default() };
        *self == plain
    }

    /// Whether scores are asked for.
    #[must_use]
    pub const fn asks_for_scores(&self) -> bool {
        self.scorecard.is_some() || self.minscore.is_some() || self.maxscore.is_some()
    }

    /// One score must have all that is asked for.
    fn matches_scores(&self, recording: &Recording) -> bool {
        let is_it = |score: &Score| {
            self.scorecard.as_ref().is_none_or(|card| *card == score.scorecard)
                && self.minscore.is_none_or(|least| score.percent >= f64::from(least))
                && self.maxscore.is_none_or(|most| score.percent <= f64::from(most))
        };
        !self.asks_for_scores() || recording.scores.iter().any(is_it)
    }

    fn matches_time(&self, recording: &Recording) -> bool {
        // To the millisecond, as records are kept: the same before and after a rebuild.
        let started = recording.started.as_millis();
        self.from.is_none_or(|from| started >= from.as_millis())
            && self.to.is_none_or(|to| started < to.as_millis())
    }

    fn matches_numbers(&self, recording: &Recording) -> bool {
        let is = |asked: &Option<String>, value: &str| asked.as_deref().is_none_or(|a| a == value);
        is(&self.extension, recording.extension.as_str())
            && is(&self.agentid, &recording.agentid)
            && is(&self.trunkgroup, &recording.trunkgroup)
            && is(&self.vdn, &recording.vdn)
            && is(&self.split, &recording.split)
            && self.direction.is_none_or(|direction| direction == recording.direction)
            && self.party.as_deref().is_none_or(|party| {
                let party = party_key(party);
                party == party_key(&recording.calling) || party == party_key(&recording.called)
            })
            && self.ucid.as_ref().is_none_or(|ucid| {
                recording.ucid.as_ref() == Some(ucid) || recording.formerucids.contains(ucid)
            })
    }
}

/// A number without what people write between its digits; small letters.
#[must_use]
pub fn party_key(number: &str) -> String {
    let kept = number.chars().filter(|c| c.is_alphanumeric() || matches!(c, '*' | '#'));
    kept.flat_map(char::to_lowercase).collect()
}

fn has_text(recording: &Recording, text: &str) -> bool {
    let text = text.to_lowercase();
    searched_words(recording).any(|word| word.to_lowercase().contains(&text))
}

/// The words of a recording in which `text` is looked for, in any case of letters.
pub fn searched_words(recording: &Recording) -> impl Iterator<Item = &str> {
    let words = [
        recording.extension.as_str(),
        &recording.agentid,
        &recording.calling,
        &recording.called,
        &recording.vdn,
        &recording.split,
        &recording.userdata,
        &recording.rule,
    ];
    let parties = recording.parties.iter().map(|party| party.who.as_str());
    let tags = recording.tags.iter().map(String::as_str);
    let notes = recording.notes.iter().map(|note| note.text.as_str());
    words.into_iter().chain(parties).chain(tags).chain(notes)
}

/// Reads arguments by name and kind.
struct Arguments<'a>(&'a Map<String, Value>);

impl Arguments<'_> {
    /// The value, unless it is absent in one of the ways that clients have.
    fn value(&self, name: &str) -> Option<&Value> {
        let value = self.0.get(name)?;
        let absent = value.is_null() || value.as_str().is_some_and(|text| text.trim().is_empty());
        (!absent).then_some(value)
    }

    fn text(&self, argument: &'static str) -> Result<Option<String>, QueryError> {
        let wrong = QueryError { argument, expected: "a text of at most 1024 bytes" };
        match self.value(argument) {
            None => Ok(None),
            Some(Value::String(text)) if text.len() <= TEXT_BYTES_MAX => {
                Ok(Some(text.trim().to_owned()))
            }
            Some(Value::Number(number)) if number.is_u64() => Ok(Some(number.to_string())),
            Some(_) => Err(wrong),
        }
    }

    fn time(&self, argument: &'static str) -> Result<Option<WallTime>, QueryError> {
        let expected = "an RFC 3339 time, as 2026-11-23T09:00:00.000Z";
        let Some(value) = self.value(argument) else { return Ok(None) };
        let time = value.as_str().and_then(|text| text.trim().parse().ok());
        time.map(Some).ok_or(QueryError { argument, expected })
    }

    fn ucid(&self, argument: &'static str) -> Result<Option<Ucid>, QueryError> {
        let expected = "a UCID: 20 digits, not all zero, as a text";
        let Some(value) = self.value(argument) else { return Ok(None) };
        let ucid = match value {
            Value::String(text) => text.trim().parse().ok(),
            // As a number it has lost its leading zeros.
            Value::Number(number) => {
                number.as_u64().and_then(|number| format!("{number:020}").parse().ok())
            }
            _ => None,
        };
        ucid.map(Some).ok_or(QueryError { argument, expected })
    }

    fn direction(&self, argument: &'static str) -> Result<Option<Direction>, QueryError> {
        let Some(value) = self.value(argument) else { return Ok(None) };
        let all = [Direction::Inbound, Direction::Outbound, Direction::Internal];
        let found = all.into_iter().find(|direction| value.as_str() == Some(direction.as_str()));
        let expected = "`inbound`, `outbound` or `internal`";
        found.map(Some).ok_or(QueryError { argument, expected })
    }

    fn number(&self, argument: &'static str) -> Result<Option<u64>, QueryError> {
        let Some(value) = self.value(argument) else { return Ok(None) };
        let number = match value {
            Value::String(text) => text.trim().parse().ok(),
            value => value.as_u64(),
        };
        number.map(Some).ok_or(QueryError { argument, expected: "a whole number, 0 or more" })
    }

    fn percent(&self, argument: &'static str) -> Result<Option<u8>, QueryError> {
        let expected = "a whole number from 0 to 100";
        let number = self.number(argument).map_err(|_| QueryError { argument, expected })?;
        let Some(number) = number else { return Ok(None) };
        let percent = u8::try_from(number).ok().filter(|percent| *percent <= 100);
        percent.map(Some).ok_or(QueryError { argument, expected })
    }

    fn flag(&self, argument: &'static str) -> Result<Option<bool>, QueryError> {
        let Some(value) = self.value(argument) else { return Ok(None) };
        value.as_bool().map(Some).ok_or(QueryError { argument, expected: "true or false" })
    }

    fn limit(&self, argument: &'static str) -> Result<usize, QueryError> {
        let expected = "a whole number from 1 to 1000";
        let limit = self.number(argument).map_err(|_| QueryError { argument, expected })?;
        let Some(limit) = limit else { return Ok(LIMIT_DEFAULT) };
        let limit = usize::try_from(limit).ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
        limit.ok_or(QueryError { argument, expected })
    }

    fn order(&self, argument: &'static str) -> Result<Order, QueryError> {
        match self.value(argument).map(Value::as_str) {
            None | Some(Some("newest")) => Ok(Order::Newest),
            Some(Some("oldest")) => Ok(Order::Oldest),
            Some(_) => Err(QueryError { argument, expected: "`newest` or `oldest`" }),
        }
    }

    fn cursor(&self, argument: &'static str) -> Result<Option<Position>, QueryError> {
        let Some(value) = self.value(argument) else { return Ok(None) };
        let cursor = value.as_str().and_then(Position::from_cursor);
        let expected = "a cursor as an earlier reply gave it";
        cursor.map(Some).ok_or(QueryError { argument, expected })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn parse(arguments: &Value) -> Result<Query, QueryError> {
        Query::from_arguments(arguments.as_object().unwrap())
    }

    fn recording() -> Recording {
        serde_json::from_value(json!({
            "recordingid": "018bcfe5-6800-7000-8000-000000000001",
            "ucid": "00001012071700000000", "formerucids": ["00001012081700000000"],
            "callids": ["1482"], "extension": "2611", "agentid": "4001",
            "calling": "85291234567", "called": "3000", "direction": "inbound",
            "trunkgroup": "7", "trunkmember": "3", "vdn": "3000", "split": "500",
            "userdata": "Order 77", "parties": [{"who": "2612", "fromms": 0, "toms": 1}],
            "started": "2026-11-23T09:00:00.000Z", "ended": "2026-11-23T09:01:00.000Z",
            "durationms": 60000, "scope": "station", "trigger": "rule", "rule": "all",
            "copy": 1, "node": 1, "segments": [], "gaps": [], "pauses": [], "complete": true,
            "quality": {"lossratio": 0.0, "jitterms": 0.0, "clockdriftppm": 0.0},
            "format": "wavg711", "bytes": 0, "sha256": "", "tags": ["Complaint"],
            "notes": [], "hold": false
        }))
        .unwrap()
    }

    #[test]
    fn filters_match_by_the_book() {
        let recording = recording();
        let cases = [
            (json!({}), true),
            (json!({"request": "listrecordings", "id": 7, "extension": ""}), true),
            (json!({"from": "2026-11-23T09:00:00Z"}), true),
            (json!({"from": "2026-11-23T09:00:00.001Z"}), false),
            (json!({"to": "2026-11-23T09:00:00Z"}), false),
            (json!({"to": "2026-11-23T10:00:00.001+01:00"}), true),
            (json!({"extension": "2611"}), true),
            (json!({"extension": 2611}), true),
            (json!({"extension": "261"}), false),
            (json!({"agentid": 4001, "split": 500, "vdn": "3000", "trunkgroup": 7}), true),
            (json!({"agentid": "4002"}), false),
            (json!({"party": "+852 9123-4567"}), true),
            (json!({"party": 3000}), true),
            (json!({"party": "9123"}), false),
            (json!({"ucid": "00001012071700000000"}), true),
            (json!({"ucid": 1012071700000000_u64}), true),
            (json!({"ucid": "00001012081700000000"}), true),
            (json!({"ucid": "00001012091700000000"}), false),
            (json!({"direction": "inbound"}), true),
            (json!({"direction": "internal"}), false),
            (json!({"tag": "Complaint"}), true),
            (json!({"tag": "complain"}), false),
            (json!({"mindurationms": 60000}), true),
            (json!({"mindurationms": 60001}), false),
            (json!({"incomplete": false}), true),
            (json!({"incomplete": true}), false),
            (json!({"text": "ORDER"}), true),
            (json!({"text": "2612"}), true),
            (json!({"text": "nothing"}), false),
        ];
        for (arguments, expected) in cases {
            let query = parse(&arguments).unwrap();
            assert_eq!(query.matches(&recording), expected, "{arguments}");
        }
    }

    #[test]
    fn a_wrong_argument_is_named() {
        let cases = [
            (json!({"from": "yesterday"}), "from"),
            (json!({"to": 5}), "to"),
            (json!({"from": "2026-11-23T09:00:00Z", "to": "2026-11-23T08:00:00Z"}), "to"),
            (json!({"extension": ["2611"]}), "extension"),
            (json!({"extension": 1.5}), "extension"),
            (json!({"agentid": -1}), "agentid"),
            (json!({"ucid": "123"}), "ucid"),
            (json!({"direction": "Inbound"}), "direction"),
            (json!({"mindurationms": -5}), "mindurationms"),
            (json!({"incomplete": "yes"}), "incomplete"),
            (json!({"text": "x".repeat(1025)}), "text"),
            (json!({"limit": 0}), "limit"),
            (json!({"limit": 1001}), "limit"),
            (json!({"limit": "many"}), "limit"),
            (json!({"order": "random"}), "order"),
            (json!({"cursor": "00"}), "cursor"),
        ];
        for (arguments, argument) in cases {
            let error = parse(&arguments).unwrap_err();
            assert_eq!(error.argument, argument, "{arguments}");
            assert!(error.to_string().contains(argument));
        }
    }

    #[test]
    fn limit_and_order_have_defaults() {
        let query = parse(&json!({})).unwrap();
        assert_eq!((query.limit, query.order, query.cursor), (50, Order::Newest, None));
        assert!(query.is_unfiltered());
        let query = parse(&json!({"limit": "7", "order": "oldest"})).unwrap();
        assert_eq!((query.limit, query.order), (7, Order::Oldest));
        assert!(query.is_unfiltered());
        assert!(!parse(&json!({"text": "x"})).unwrap().is_unfiltered());
    }

    proptest! {
        #[test]
        fn positions_survive_and_keys_sort_alike(
            a in any::<(i64, u128)>(), b in any::<(i64, u128)>(), flip in 0..56_usize,
        ) {
            let position = |(started_ms, id): (i64, u128)| Position {
                started_ms,
                id: RecordingId(uuid::Uuid::from_u128(id)),
            };
            let (a, b) = (position(a), position(b));
            prop_assert_eq!(a.to_key().cmp(&b.to_key()), a.cmp(&b));
            prop_assert_eq!(Position::from_key(&a.to_key()), a);
            let cursor = a.to_cursor();
            prop_assert_eq!(Position::from_cursor(&cursor), Some(a));
            let mut altered = cursor.into_bytes();
            altered[flip] = if altered[flip] == b'0' { b'1' } else { b'0' };
            prop_assert_eq!(Position::from_cursor(&String::from_utf8(altered).unwrap()), None);
        }

        #[test]
        fn any_cursor_and_any_argument_is_read_without_panic(text in ".*", number in any::<f64>()) {
            let _ = Position::from_cursor(&text);
            for argument in ["from", "ucid", "limit", "cursor", "order", "mindurationms", "party"] {
                let _ = parse(&json!({ argument: text }));
                let _ = parse(&json!({ argument: number }));
            }
        }
    }
}
