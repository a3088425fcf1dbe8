//! A request's arguments, from JSON members or from the query of an address: read by name, each
//! with an error that names it. Unknown members are never looked at. Pure.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use serde_json::{Map, Value};
use storage_core::hold::{self, Holding};
use storage_core::marks::Marking;
use storage_core::query::Query;
use storage_core::record::Scope;
use storage_core::{Extension, RecordingId, Ucid, WallTime};

use super::backend::{Code, Failure, FetchFormat, Target, Topic};
use crate::audit_pages::{Filter, Question};
use crate::completeness::{day_named, today};
use crate::exports::ExportId;

/// Names of requests that `action` may have.
const ACTIONS_MAX: usize = 64;

/// Filters of `listrecordings`.
const FILTERS: [&str; 19] = [
    "from",
    "to",
    "extension",
    "agentid",
    "party",
    "ucid",
    "direction",
    "trunkgroup",
    "vdn",
    "split",
    "tag",
    "scorecard",
    "minscore",
    "maxscore",
    "mindurationms",
    "text",
    "limit",
    "cursor",
    "order",
];

/// Those of them that are true or false.
const FLAGS: [&str; 2] = ["incomplete", "hold"];

/// Those of them that `listholds` has, too.
const HOLD_FILTERS: [&str; 6] = ["from", "to", "extension", "limit", "cursor", "order"];

/// Whether `listrecordings` has an argument of this name.
pub fn is_filter(name: &str) -> bool {
    FILTERS.contains(&name) || FLAGS.contains(&name)
}

/// How somebody proves who he is. No `Debug`: it holds secrets.
pub enum Credentials {
    /// `user` and `password`.
    Password {
        /// Name.
        user: String,
        /// Secret.
        password: String,
    },
    /// `token`.
    Token(String),
}

/// The arguments of `fetchrecording`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchArguments {
    /// Which.
    pub recording: RecordingId,
    /// In which form.
    pub format: FetchFormat,
    /// First byte.
    pub offset: u64,
    /// How many bytes; to the end if absent. Never 0.
    pub length: Option<u64>,
}

/// The members of a request.
pub struct Arguments<'a> {
    members: &'a BTreeMap<String, Box<RawValue>>,
}

impl<'a> Arguments<'a> {
    /// These members.
    #[must_use]
    pub fn new(members: &'a BTreeMap<String, Box<RawValue>>) -> Self {
        Self { members }
    }

    /// Of `authenticate`.
    ///
    /// # Errors
    /// `badvalue` if neither `token` nor `user` and `password` are there.
    pub fn credentials(&self) -> Result<Credentials, Failure> {
        if let Some(token) = self.text("token")? {
            return Ok(Credentials::Token(token));
        }
        match (self.text("user")?, self.text("password")?) {
            (Some(user), Some(password)) => Ok(Credentials::Password { user, password }),
            _ => Err(bad("`user` and `password`, or `token`, must be given")),
        }
    }

    /// Of `listrecordings`.
    ///
    /// # Errors
    /// `badvalue`, naming the filter.
    pub fn query(&self) -> Result<Query, Failure> {
        let mut query = self.narrowed(&FILTERS)?;
        // In an address they are words.
        query.incomplete = self.flag("incomplete")?;
        query.hold = self.flag("hold")?;
        Ok(query)
    }

    fn narrowed(&self, names: &[&str]) -> Result<Query, Failure> {
        let mut filters = Map::new();
        for name in names {
            if let Some(value) = self.value(name)? {
                filters.insert((*name).to_owned(), value);
            }
        }
        Query::from_arguments(&filters).map_err(|error| bad(error.to_string()))
    }

    /// Of `listholds`: the recordings under legal hold, narrowed by fewer filters.
    ///
    /// # Errors
    /// `badvalue`, naming the filter.
    pub fn holds(&self) -> Result<Query, Failure> {
        Ok(Query { hold: Some(true), ..self.narrowed(&HOLD_FILTERS)? })
    }

    /// `day`, a UTC day; today where it is left out.
    ///
    /// # Errors
    /// `badvalue`.
    pub fn day(&self) -> Result<WallTime, Failure> {
        let Some(text) = self.word("day")? else { return Ok(today()) };
        day_named(&text).ok_or_else(|| bad("`day` must be a day, written as 2026-11-27"))
    }

    /// Of `listaudit`.
    ///
    /// # Errors
    /// `badvalue`, naming the argument.
    pub fn audit(&self) -> Result<Question, Failure> {
        let limit = self.number("limit")?.unwrap_or(50);
        let limit = usize::try_from(limit).ok().filter(|limit| (1..=1000).contains(limit));
        let limit = limit.ok_or_else(|| bad("`limit` must be a number from 1 to 1000"))?;
        let filter = Filter {
            from: self.time("from")?,
            to: self.time("to")?,
            user: self.word("user")?,
            recording: self.optional_recording()?,
            actions: self.actions()?,
        };
        let places = self.word("cursor")?.map(|cursor| cursor.parse()).transpose();
        let wrong =
            |_| bad("`cursor` must be one that `listaudit` answered; leave it out to begin");
        Ok(Question { filter, places: places.map_err(wrong)?.unwrap_or_default(), limit })
    }

    /// `action`: names of requests, several in one text with commas between them, as an address has them.
    fn actions(&self) -> Result<Vec<String>, Failure> {
        let words = self.words("action")?;
        let names = words.iter().flat_map(|word| word.split(',')).map(str::trim);
        let names: Vec<_> = names.filter(|name| !name.is_empty()).map(str::to_owned).collect();
        if names.len() > ACTIONS_MAX {
            return Err(bad(format!("`action` must be {ACTIONS_MAX} names of requests at most")));
        }
        Ok(names)
    }

    fn time(&self, name: &str) -> Result<Option<WallTime>, Failure> {
        let Some(text) = self.word(name)? else { return Ok(None) };
        let told = || bad(format!("`{name}` must be a time, written as 2026-11-27T14:00:00Z"));
        text.parse().map(Some).map_err(|_| told())
    }

    /// `recordingid`, which must be there.
    ///
    /// # Errors
    /// `badvalue`.
    pub fn recording(&self) -> Result<RecordingId, Failure> {
        self.optional_recording()?.ok_or_else(|| bad("`recordingid` is missing"))
    }

    fn optional_recording(&self) -> Result<Option<RecordingId>, Failure> {
        let Some(text) = self.word("recordingid")? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| bad("`recordingid` must be a recording's id"))
    }

    /// Of `fetchrecording`.
    ///
    /// # Errors
    /// `badvalue`.
    pub fn fetch(&self) -> Result<FetchArguments, Failure> {
        let format = self.format()?;
        let length = self.number("length")?;
        if length == Some(0) {
            return Err(bad("`length` must be 1 or more"));
        }
        Ok(FetchArguments {
            recording: self.recording()?,
            format,
            offset: self.number("offset")?.unwrap_or(0),
            length,
        })
    }

    /// `format`, `original` where it is left out.
    ///
    /// # Errors
    /// `badvalue`.
    pub fn format(&self) -> Result<FetchFormat, Failure> {
        let Some(word) = self.word("format")? else { return Ok(FetchFormat::default()) };
        let told = || bad("`format` must be `original`, `wav` or `opus`");
        FetchFormat::parse(&word).ok_or_else(told)
    }

    /// Of `cancelexport`: the name that the reply to `exportrecordings` told.
    ///
    /// # Errors
    /// `badvalue`.
    pub fn export(&self) -> Result<ExportId, Failure> {
        let text = self.word("export")?.ok_or_else(|| bad("`export` is missing"))?;
        text.parse().map_err(|_| bad("`export` must be the name of an export"))
    }

    /// Of `cancelfetch`: the number that the reply to `fetchrecording` named.
    ///
    /// # Errors
    /// `badvalue`.
    pub fn fetch_number(&self) -> Result<u32, Failure> {
        let number = self.number("fetch")?.ok_or_else(|| bad("`fetch` is missing"))?;
        u32::try_from(number).map_err(|_| bad("`fetch` must be the number of a fetch"))
    }

    /// Of `listen`: the call.
    ///
    /// # Errors
    /// `badvalue`.
    pub fn listen(&self) -> Result<Ucid, Failure> {
        match self.ucid()? {
            Some(Target::Ucid(ucid)) => Ok(ucid),
            _ => Err(bad("`ucid` is missing")),
        }
    }

    /// Of `stoplisten`.
    ///
    /// # Errors
    /// `badvalue`.
    pub fn listen_number(&self) -> Result<u32, Failure> {
        let number = self.number("listen")?.ok_or_else(|| bad("`listen` is missing"))?;
        u32::try_from(number).map_err(|_| bad("`listen` must be the number of a listen"))
    }

    /// Of `startrecording`: `extension` or `ucid`, and `scope`.
    ///
    /// # Errors
    /// `badvalue`.
    pub fn start(&self) -> Result<(Target, Scope), Failure> {
        let scope = match self.word("scope")?.as_deref() {
            None | Some("station") => Scope::Station,
            Some("trunk") => Scope::Trunk,
            Some(_) => return Err(bad("`scope` must be `station` or `trunk`")),
        };
        let target = one_of(vec![self.extension()?, self.ucid()?], "`extension` or `ucid`")?;
        Ok((target, scope))
    }

    /// Of `stoprecording`: `recordingid`, `extension` or `ucid`.
    ///
    /// # Errors
    /// `badvalue`.
    pub fn stop(&self) -> Result<Target, Failure> {
        let recording = self.optional_recording()?.map(Target::Recording);
        let names = "`recordingid`, `extension` or `ucid`";
        one_of(vec![recording, self.extension()?, self.ucid()?], names)
    }

    /// Of `tagrecording`: `add` and `remove`, each a list or one tag, and `note`.
    ///
    /// # Errors
    /// `badvalue`.
    pub fn marking(&self) -> Result<Marking, Failure> {
        let made = Marking::new(self.words("add")?, self.words("remove")?, self.text("note")?);
        made.map_err(|error| bad(error.to_string()))
    }

    /// Of `legalhold`: `on` and `reason`.
    ///
    /// # Errors
    /// `badvalue`.
    pub fn holding(&self) -> Result<Holding, Failure> {
        let on = self.flag("on")?.ok_or_else(|| bad("`on` must be given, true or false"))?;
        Holding::new(on, self.text("reason")?).map_err(|error| bad(error.to_string()))
    }

    /// Of `deleterecording`: `reason`.
    ///
    /// # Errors
    /// `badvalue`.
    pub fn reason(&self) -> Result<String, Failure> {
        hold::reason(self.text("reason")?).map_err(|error| bad(error.to_string()))
    }

    /// Of `scorerecording`: the scorecard's name, `answers`, and `comment`.
    ///
    /// # Errors
    /// `badvalue`.
    pub fn scoring(&self) -> Result<(String, Map<String, Value>, String), Failure> {
        let name = self.word("scorecard")?.ok_or_else(|| bad("`scorecard` is missing"))?;
        let Some(Value::Object(answers)) = self.value("answers")? else {
            return Err(bad("`answers` must be an object: an answer for each question's id"));
        };
        Ok((name, answers, self.text("comment")?.unwrap_or_default()))
    }

    /// Of `subscribe` and `unsubscribe`.
    ///
    /// # Errors
    /// `badvalue`.
    pub fn topics(&self) -> Result<Vec<Topic>, Failure> {
        let words = match self.value("events")? {
            Some(Value::Array(words)) if words.len() <= 64 => words,
            Some(word @ Value::String(_)) => vec![word],
            _ => return Err(bad("`events` must be a list of topics")),
        };
        words
            .iter()
            .map(|word| word.as_str().and_then(Topic::from_word))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| {
                bad("`events` knows the topics `calls`, `recordings`, `cluster`, `alarms`, `exports` and `levels`")
            })
    }

    fn extension(&self) -> Result<Option<Target>, Failure> {
        let Some(text) = self.word("extension")? else { return Ok(None) };
        let dialled = text.len() <= 24 && text.bytes().all(|b| b"0123456789*#".contains(&b));
        if !dialled {
            return Err(bad("`extension` must be 1 to 24 of the characters 0-9, * and #"));
        }
        Ok(Some(Target::Extension(Extension::new(text))))
    }

    fn ucid(&self) -> Result<Option<Target>, Failure> {
        let text = match self.digits("ucid") {
            // As a number it has lost its leading zeros.
            Some(digits) => Some(format!("{digits:0>20}")),
            None => self.word("ucid")?,
        };
        let Some(text) = text else { return Ok(None) };
        let ucid = text.parse::<Ucid>().map_err(|_| bad("`ucid` must be 20 digits, not all 0"))?;
        Ok(Some(Target::Ucid(ucid)))
    }

    /// A list of texts; one text is a list of one.
    fn words(&self, name: &str) -> Result<Vec<String>, Failure> {
        let wrong = || bad(format!("`{name}` must be a list of strings"));
        match self.value(name)? {
            None => Ok(Vec::new()),
            Some(Value::String(word)) => Ok(vec![word]),
            Some(Value::Array(words)) => {
                let words = words.into_iter().map(|word| match word {
                    Value::String(word) => Ok(word),
                    _ => Err(wrong()),
                });
                words.collect()
            }
            Some(_) => Err(wrong()),
        }
    }

    /// A text that is worth something: an empty one is as good as none.
    fn word(&self, name: &str) -> Result<Option<String>, Failure> {
        Ok(self.text(name)?.filter(|text| !text.is_empty()))
    }

    fn text(&self, name: &str) -> Result<Option<String>, Failure> {
        // The digits as they were written: no number type can spoil a long one.
        if let Some(digits) = self.digits(name) {
            return Ok(Some(digits.to_owned()));
        }
        match self.value(name)? {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(bad(format!("`{name}` must be a string"))),
        }
    }

    fn number(&self, name: &str) -> Result<Option<u64>, Failure> {
        let wrong = || bad(format!("`{name}` must be a whole number, 0 or more"));
        let text = self.word(name).map_err(|_| wrong())?;
        let Some(text) = text else { return Ok(None) };
        let plain = text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|_| plain).map(Some).ok_or_else(wrong)
    }

    fn flag(&self, name: &str) -> Result<Option<bool>, Failure> {
        match self.value(name)? {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(Value::String(text)) => match text.as_str() {
                "" => Ok(None),
                "true" => Ok(Some(true)),
                "false" => Ok(Some(false)),
                _ => Err(bad(format!("`{name}` must be true or false"))),
            },
            Some(_) => Err(bad(format!("`{name}` must be true or false"))),
        }
    }

    /// The member, if it is a whole number.
    fn digits(&self, name: &str) -> Option<&str> {
        let digits = self.members.get(name)?.get();
        digits.bytes().all(|b| b.is_ascii_digit()).then_some(digits)
    }

    /// The member, none if it is absent or null.
    fn value(&self, name: &str) -> Result<Option<Value>, Failure> {
        let Some(raw) = self.members.get(name) else { return Ok(None) };
        match serde_json::from_str(raw.get()) {
            Ok(Value::Null) => Ok(None),
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(bad(format!("`{name}` cannot be read: {error}"))),
        }
    }
}

/// Turns the query of an address into members, each a string. A name given twice counts last.
///
/// # Errors
/// None but for a text that JSON cannot hold, which there is not.
pub fn members_of_query(pairs: Vec<(String, String)>) -> BTreeMap<String, Box<RawValue>> {
    pairs
        .into_iter()
        .map(|(name, value)| {
            let raw = serde_json::value::to_raw_value(&value).expect("a string is JSON");
            (name, raw)
        })
        .collect()
}

fn one_of(targets: Vec<Option<Target>>, names: &str) -> Result<Target, Failure> {
    let mut given = targets.into_iter().flatten();
    match (given.next(), given.next()) {
        (Some(target), None) => Ok(target),
        (None, _) => Err(bad(format!("{names} must be given"))),
        (Some(_), Some(_)) => Err(bad(format!("only one of {names} may be given"))),
    }
}

fn bad(message: impl Into<String>) -> Failure {
    Failure::new(Code::BadValue, message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn members(text: &str) -> BTreeMap<String, Box<RawValue>> {
        serde_json::from_str(text).unwrap()
    }

    const ID: &str = "018bcfe5-687b-7000-8000-000000000001";

    #[test]
    fn numbers_are_taken_for_digits_and_digits_for_numbers() {
        let members = members(
            r#"{"extension": 2611, "ucid": 1012071700000000, "offset": "12", "length": 3,
                "long": 123456789012345678901234567890, "recordingid":
                "018bcfe5-687b-7000-8000-000000000001"}"#,
        );
        let arguments = Arguments::new(&members);
        let extension = arguments.extension().unwrap();
        assert_eq!(extension, Some(Target::Extension(Extension::from("2611"))));
        assert_eq!(
            arguments.ucid().unwrap(),
            Some(Target::Ucid("00001012071700000000".parse().unwrap()))
        );
        assert_eq!(
            arguments.text("long").unwrap().as_deref(),
            Some("123456789012345678901234567890")
        );
        let fetch = arguments.fetch().unwrap();
        assert_eq!((fetch.offset, fetch.length), (12, Some(3)));
        assert_eq!(fetch.recording, ID.parse().unwrap());
    }

    #[test]
    fn wrong_arguments_are_named() {
        type Read = fn(&Arguments<'_>) -> Option<Failure>;
        let start: Read = |a| a.start().err();
        let stop: Read = |a| a.stop().err();
        let fetch: Read = |a| a.fetch().err();
        let cancel: Read = |a| a.fetch_number().err();
        let topics: Read = |a| a.topics().err();
        let tag: Read = |a| a.marking().err();
        let query: Read = |a| a.query().err();
        let sign_in: Read = |a| a.credentials().err();
        let cases = [
            (start, r"{}".to_owned(), "`extension` or `ucid`"),
            (start, r#"{"extension":""}"#.to_owned(), "`extension` or `ucid`"),
            (start, r#"{"extension":"12a"}"#.to_owned(), "`extension`"),
            (start, r#"{"extension":["1"]}"#.to_owned(), "`extension`"),
            (start, r#"{"extension":1.5}"#.to_owned(), "`extension`"),
            (start, r#"{"extension":-5}"#.to_owned(), "`extension`"),
            (start, r#"{"ucid":"00000000000000000000"}"#.to_owned(), "`ucid`"),
            (start, r#"{"extension":"1","scope":"room"}"#.to_owned(), "`scope`"),
            (stop, format!(r#"{{"extension":"1","recordingid":"{ID}"}}"#), "only one of"),
            (stop, r#"{"recordingid":"../../etc/passwd"}"#.to_owned(), "`recordingid`"),
            (fetch, r"{}".to_owned(), "`recordingid`"),
            (fetch, r#"{"recordingid":7}"#.to_owned(), "`recordingid`"),
            (fetch, format!(r#"{{"recordingid":"{ID}","format":"mp3"}}"#), "`format`"),
            (fetch, format!(r#"{{"recordingid":"{ID}","offset":-1}}"#), "`offset`"),
            (fetch, format!(r#"{{"recordingid":"{ID}","offset":1.5}}"#), "`offset`"),
            (fetch, format!(r#"{{"recordingid":"{ID}","offset":"+1"}}"#), "`offset`"),
            (fetch, format!(r#"{{"recordingid":"{ID}","offset":1e999}}"#), "`offset`"),
            (fetch, format!(r#"{{"recordingid":"{ID}","offset":[]}}"#), "`offset`"),
            (fetch, format!(r#"{{"recordingid":"{ID}","length":0}}"#), "`length`"),
            (fetch, format!(r#"{{"recordingid":"{ID}","length":true}}"#), "`length`"),
            (fetch, format!(r#"{{"recordingid":"{ID}","length":{}}}"#, "9".repeat(30)), "`length`"),
            (cancel, r"{}".to_owned(), "`fetch`"),
            (cancel, r#"{"fetch":4294967296}"#.to_owned(), "`fetch`"),
            (tag, r"{}".to_owned(), "`note`"),
            (tag, r#"{"add":[7]}"#.to_owned(), "`add`"),
            (tag, r#"{"remove":{"a":1}}"#.to_owned(), "`remove`"),
            (tag, r#"{"add":"a","note":["x"]}"#.to_owned(), "`note`"),
            (topics, r"{}".to_owned(), "`events`"),
            (topics, r#"{"events":["calls","moon"]}"#.to_owned(), "`calls`"),
            (topics, r#"{"events":{"a":1}}"#.to_owned(), "`events`"),
            (query, r#"{"limit":"many"}"#.to_owned(), "`limit`"),
            (query, r#"{"incomplete":3}"#.to_owned(), "`incomplete`"),
            (query, r#"{"hold":"maybe"}"#.to_owned(), "`hold`"),
            (query, r#"{"party":{"a":1}}"#.to_owned(), "`party`"),
            (sign_in, r#"{"user":"anna"}"#.to_owned(), "`password`"),
            (sign_in, r#"{"token":[]}"#.to_owned(), "`token`"),
        ];
        for (read, text, name) in cases {
            let members = members(&text);
            let failure = read(&Arguments::new(&members)).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(failure.code, Code::BadValue, "{text}");
            assert!(failure.message.contains(name), "{text}: {}", failure.message);
        }
    }

    #[test]
    fn right_arguments_are_taken() {
        let taken = members(r#"{"extension":"2611","scope":"trunk","events":"calls","id":1}"#);
        let arguments = Arguments::new(&taken);
        let (target, scope) = arguments.start().unwrap();
        assert_eq!((target, scope), (Target::Extension(Extension::from("2611")), Scope::Trunk));
        assert_eq!(arguments.topics().unwrap(), [Topic::Calls]);
        for action in [r#"["listen","drill"]"#, r#"" listen,,drill ""#] {
            let taken = members(&format!(r#"{{"action":{action}}}"#));
            let filter = Arguments::new(&taken).audit().unwrap().filter;
            assert_eq!(filter.actions, ["listen", "drill"]);
        }
        let none = members(r#"{"extension":null,"ucid":"","limit":"","events":[]}"#);
        let arguments = Arguments::new(&none);
        assert!(arguments.query().is_ok());
        assert!(arguments.topics().unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn nothing_panics(
            name in proptest::sample::select([&FILTERS[..], &[
                "recordingid", "fetch", "offset", "length", "format", "scope", "events", "user",
                "password", "token", "incomplete", "hold", "add", "remove", "note", "action",
            ]].concat()),
            value in "[0-9]{0,400}|-?[0-9]{0,3}(\\.[0-9]+)?(e[0-9]{1,4})?|\"[^\"\\\\]{0,40}\"|\\[.{0,20}\\]",
        ) {
            let Ok(value) = RawValue::from_string(value) else { return Ok(()) };
            let members = BTreeMap::from([(name.to_owned(), value)]);
            let arguments = Arguments::new(&members);
            let _ = (arguments.credentials().is_ok(), arguments.query(), arguments.fetch());
            let _ = (arguments.fetch_number(), arguments.start(), arguments.stop());
            let _ = (arguments.recording(), arguments.topics(), arguments.marking());
            let _ = arguments.audit();
        }
    }
}
