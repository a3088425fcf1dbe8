//! The JSON dialect of the WebSocket (interface, section 3): a text frame in, a typed request or
//! the failure to answer with out; a reply's text the other way; and who may ask for what. Pure.
//! What a request does is `requests`' matter; its arguments are read in `arguments`.

use std::collections::BTreeMap;

use serde::Serializer;
use serde::ser::SerializeMap;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::arguments::Arguments;
use super::backend::{Code, Failure};
use crate::users::UserRole;

/// The longest frame, in bytes; a longer one closes 1009.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;

/// What a client calls a request. Whatever it is comes back to the letter: it is never parsed,
/// so that no number loses digits.
pub type Id = Option<Box<RawValue>>;

/// One request as it came, its arguments not yet read.
pub struct Frame {
    /// The client's name for it, absent if it gave none.
    pub id: Id,
    name: Result<String, Failure>,
    members: BTreeMap<String, Box<RawValue>>,
}

/// The requests there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `authenticate`
    Authenticate,
    /// `signout`
    SignOut,
    /// `listrecordings`
    ListRecordings,
    /// `getrecording`
    GetRecording,
    /// `fetchrecording`
    FetchRecording,
    /// `cancelfetch`
    CancelFetch,
    /// `startrecording`
    StartRecording,
    /// `stoprecording`
    StopRecording,
    /// `pauserecording`
    PauseRecording,
    /// `resumerecording`
    ResumeRecording,
    /// `listcalls`
    ListCalls,
    /// `listen`
    Listen,
    /// `stoplisten`
    StopListen,
    /// `subscribe`
    Subscribe,
    /// `unsubscribe`
    Unsubscribe,
    /// `clusterstatus`
    ClusterStatus,
    /// `completeness`
    Completeness,
    /// `repairrecording`
    RepairRecording,
    /// `listaudit`
    ListAudit,
    /// `tagrecording`
    TagRecording,
    /// `exportrecordings`
    ExportRecordings,
    /// `listexports`
    ListExports,
    /// `cancelexport`
    CancelExport,
    /// `legalhold`
    LegalHold,
    /// `listholds`
    ListHolds,
    /// `deleterecording`
    DeleteRecording,
    /// `scorerecording`
    ScoreRecording,
    /// `listscorecards`
    ListScorecards,
    /// `drill`
    Drill,
    /// A request of the contract that this version does not serve.
    Later,
}

/// A row of the contract's table: a request and who may make it.
pub struct Row {
    /// The request's name.
    pub name: &'static str,
    /// What it is.
    pub verb: Verb,
    /// The roles that may; each other is `forbidden`.
    pub roles: &'static [UserRole],
}

const ANY: &[UserRole] = &UserRole::ALL;
const QUALITY: &[UserRole] = &[UserRole::Qa, UserRole::Supervisor];
const CONTROL: &[UserRole] = &[UserRole::Agent, UserRole::Supervisor];
const TAGGING: &[UserRole] = &[UserRole::Qa, UserRole::Supervisor, UserRole::Agent];
const SUPERVISOR: &[UserRole] = &[UserRole::Supervisor];
const ADMIN: &[UserRole] = &[UserRole::Admin];
const COMPLETENESS: &[UserRole] =
    &[UserRole::Qa, UserRole::Supervisor, UserRole::Auditor, UserRole::Admin];
const REPAIR: &[UserRole] = &[UserRole::Qa, UserRole::Admin];
const EXPORT: &[UserRole] = &[UserRole::Qa];
const AUDIT: &[UserRole] = &[UserRole::Auditor, UserRole::Admin];

const fn row(name: &'static str, verb: Verb, roles: &'static [UserRole]) -> Row {
    Row { name, verb, roles }
}

/// Every request of the contract, and what came later.
pub const ROWS: &[Row] = &[
    row("authenticate", Verb::Authenticate, ANY),
    row("signout", Verb::SignOut, ANY),
    row("listrecordings", Verb::ListRecordings, QUALITY),
    row("getrecording", Verb::GetRecording, QUALITY),
    row("fetchrecording", Verb::FetchRecording, QUALITY),
    row("cancelfetch", Verb::CancelFetch, QUALITY),
    row("startrecording", Verb::StartRecording, CONTROL),
    row("stoprecording", Verb::StopRecording, CONTROL),
    row("pauserecording", Verb::PauseRecording, CONTROL),
    row("resumerecording", Verb::ResumeRecording, CONTROL),
    row("tagrecording", Verb::TagRecording, TAGGING),
    row("scorerecording", Verb::ScoreRecording, QUALITY),
    row("listscorecards", Verb::ListScorecards, QUALITY),
    row("listcalls", Verb::ListCalls, SUPERVISOR),
    row("listen", Verb::Listen, SUPERVISOR),
    row("stoplisten", Verb::StopListen, SUPERVISOR),
    row("subscribe", Verb::Subscribe, ANY),
    row("unsubscribe", Verb::Unsubscribe, ANY),
    row("clusterstatus", Verb::ClusterStatus, ANY),
    row("completeness", Verb::Completeness, COMPLETENESS),
    row("repairrecording", Verb::RepairRecording, REPAIR),
    row("legalhold", Verb::LegalHold, ADMIN),
    row("listholds", Verb::ListHolds, AUDIT),
    row("deleterecording", Verb::DeleteRecording, ADMIN),
    row("exportrecordings", Verb::ExportRecordings, EXPORT),
    row("listexports", Verb::ListExports, EXPORT),
    row("cancelexport", Verb::CancelExport, EXPORT),
    row("listaudit", Verb::ListAudit, AUDIT),
    row("drill", Verb::Drill, ADMIN),
];

impl Frame {
    /// Reads the text of a frame.
    ///
    /// # Errors
    /// `badvalue` if it is not one JSON object. What is wrong inside the object is told later,
    /// with the `id`.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        // `RawValue` keeps members unread: what nobody asks for cannot be wrong.
        let mut members: BTreeMap<String, Box<RawValue>> =
            serde_json::from_str(text).map_err(|error| {
                let message = format!("a frame must be one JSON object: {error}");
                Failure::new(Code::BadValue, message)
            })?;
        let name = match members.remove("request") {
            Some(raw) => serde_json::from_str::<String>(raw.get())
                .map(|name| name.to_ascii_lowercase())
                .map_err(|_| Failure::new(Code::BadValue, "`request` must be a string")),
            None => Err(Failure::new(Code::BadValue, "`request` is missing")),
        };
        Ok(Self { id: members.remove("id"), name, members })
    }

    /// Whether this is an `authenticate`.
    #[must_use]
    pub fn is_authenticate(&self) -> bool {
        self.name.as_deref().is_ok_and(|name| name == "authenticate")
    }

    /// What one of this role asks for.
    ///
    /// # Errors
    /// `badvalue` without a request's name, `unknownrequest`, `forbidden`, and `unavailable` for
    /// what this version does not serve, in this order.
    pub fn verb(&self, role: UserRole) -> Result<Verb, Failure> {
        verb_of(self.name.as_ref().map_err(Clone::clone)?, role)
    }

    /// The request's name; empty if it has none.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// The other members as they came.
    #[must_use]
    pub fn members(&self) -> &BTreeMap<String, Box<RawValue>> {
        &self.members
    }

    /// The other members.
    #[must_use]
    pub fn arguments(&self) -> Arguments<'_> {
        Arguments::new(&self.members)
    }
}

/// What one of this role asks for by a request's name, in lower case.
///
/// # Errors
/// `unknownrequest`, `forbidden`, and `unavailable` for what this version does not serve, in this order.
pub fn verb_of(name: &str, role: UserRole) -> Result<Verb, Failure> {
    let row = ROWS.iter().find(|row| row.name == name).ok_or_else(|| {
        let name: String = name.chars().take(40).collect();
        Failure::new(Code::UnknownRequest, format!("there is no request `{name}`"))
    })?;
    if !row.roles.contains(&role) {
        let message = format!("`{}` is not for the role {role}", row.name);
        return Err(Failure::new(Code::Forbidden, message));
    }
    if row.verb == Verb::Later {
        let message = format!("`{}` is not in this version", row.name);
        return Err(Failure::new(Code::Unavailable, message));
    }
    Ok(row.verb)
}

/// The text of a reply `success` with these members.
#[must_use]
pub fn success(id: &Id, body: &Map<String, Value>) -> String {
    reply(id, "success", body)
}

/// The text of a reply `fail`.
#[must_use]
pub fn failure(id: &Id, failure: &Failure) -> String {
    let mut body = Map::new();
    body.insert("error".to_owned(), failure.code.as_str().into());
    body.insert("message".to_owned(), failure.message.clone().into());
    reply(id, "fail", &body)
}

fn reply(id: &Id, result: &str, body: &Map<String, Value>) -> String {
    let mut text = Vec::with_capacity(256);
    let written = (|| {
        let mut serializer = serde_json::Serializer::new(&mut text);
        let mut map = serializer.serialize_map(None)?;
        if let Some(id) = id {
            map.serialize_entry("id", id)?;
        }
        map.serialize_entry("result", result)?;
        for (name, value) in body {
            map.serialize_entry(name, value)?;
        }
        SerializeMap::end(map)
    })();
    written.expect("values of JSON with string keys can be written into memory");
    String::from_utf8(text).expect("serde_json writes UTF-8")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn verb(text: &str, role: UserRole) -> Result<Verb, Code> {
        Frame::parse(text).and_then(|frame| frame.verb(role)).map_err(|failure| failure.code)
    }

    #[test]
    fn frames_become_verbs_or_failures() {
        let cases = [
            (r#"{"request":"listcalls","id":7}"#, Ok(Verb::ListCalls)),
            (r#"{"REQUEST":"listcalls"}"#, Err(Code::BadValue)),
            (r#"{"request":"ListCalls"}"#, Ok(Verb::ListCalls)),
            (r#"{"request":"listcalls","x":{"y":[1e999]},"id":null}"#, Ok(Verb::ListCalls)),
            (r#"{"request":"listcalls","request":"getrecording"}"#, Ok(Verb::GetRecording)),
            (r#"{"request":"makecoffee"}"#, Err(Code::UnknownRequest)),
            (r#"{"request":""}"#, Err(Code::UnknownRequest)),
            (r#"{"request":7}"#, Err(Code::BadValue)),
            (r#"{"request":null}"#, Err(Code::BadValue)),
            ("{}", Err(Code::BadValue)),
            ("", Err(Code::BadValue)),
            (" ", Err(Code::BadValue)),
            ("7", Err(Code::BadValue)),
            ("null", Err(Code::BadValue)),
            ("[]", Err(Code::BadValue)),
            (r#"[{"request":"listcalls"}]"#, Err(Code::BadValue)),
            (r#"{"request":"listcalls"}{}"#, Err(Code::BadValue)),
            (r#"{"request":"listcalls""#, Err(Code::BadValue)),
            ("hello", Err(Code::BadValue)),
            (r#"{"request":"legalhold"}"#, Err(Code::Forbidden)),
            (r#"{"request":"pauserecording"}"#, Ok(Verb::PauseRecording)),
            (r#"{"request":"listen"}"#, Ok(Verb::Listen)),
        ];
        for (text, expected) in cases {
            assert_eq!(verb(text, UserRole::Supervisor), expected, "{text}");
        }
        let deep = format!(
            "{{\"request\":\"listcalls\",\"x\":{}1{}}}",
            "[".repeat(20_000),
            "]".repeat(20_000)
        );
        assert_eq!(verb(&deep, UserRole::Supervisor), Ok(Verb::ListCalls));
    }

    #[test]
    fn ids_come_back_to_the_letter() {
        for id in [
            "7",
            "7.0",
            "\"a\\u0041\\/\"",
            "null",
            "12345678901234567890123",
            "1e999",
            "{\"b\": 1, \"a\":[ true ]}",
            "-0",
        ] {
            let frame = Frame::parse(&format!("{{\"request\":\"x\", \"id\": {id} }}")).unwrap();
            let text = success(&frame.id, &Map::new());
            assert_eq!(text, format!("{{\"id\":{id},\"result\":\"success\"}}"));
        }
        let frame = Frame::parse("{\"request\":\"x\"}").unwrap();
        assert_eq!(success(&frame.id, &Map::new()), "{\"result\":\"success\"}");
        let fail = failure(&frame.id, &Failure::new(Code::Busy, "say \"please\""));
        let value: Value = serde_json::from_str(&fail).unwrap();
        assert_eq!(value["error"], "busy");
        assert_eq!(value["message"], "say \"please\"");
    }

    proptest! {
        #[test]
        fn nothing_panics(text in ".{0,200}") {
            if let Ok(frame) = Frame::parse(&text) {
                let _ = frame.verb(UserRole::Admin);
            }
        }
    }
}
