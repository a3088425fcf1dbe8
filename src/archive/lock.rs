//! Object lock: until when an archive is to keep a recording against everybody's deletion, and what is said to an
//! S3-compatible store about it and understood of its answers (Amazon S3 API: PutObjectRetention,
//! PutObjectLegalHold, ListObjectVersions). Pure; who asks is [`super::s3_lock`].

use std::time::Duration;

use recorder_core::dmcc::xml::{self, Element};
use storage_core::{Recording, WallTime};

use crate::config::{LockMode, ObjectLock};
use crate::retention::core::RetentionRules;

const DAY: Duration = Duration::from_secs(24 * 3600);
const SECOND_US: i64 = 1_000_000;
const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// How what lies in the archive is to be kept there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Who may end it before.
    pub mode: LockMode,
    /// Until when, in whole seconds; absent: that is over.
    pub until: Option<WallTime>,
    /// Whether it is held beyond that; absent: nothing is to be changed.
    pub hold: Option<bool>,
}

/// The rule by which recordings are locked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockRule {
    /// `al_archivelock`, `al_archivelockdays`.
    pub lock: ObjectLock,
    /// For how long recordings are kept, where there are no days for locks.
    pub retention: RetentionRules,
}

impl LockRule {
    /// The lock of a recording; it was archived before if a note says so.
    #[must_use]
    pub fn lock(&self, record: &Recording, now: WallTime) -> Lock {
        let days =
            self.lock.days.or_else(|| self.retention.days(record)).or(self.retention.overall);
        let until = days.map(|days| whole_second(record.ended + DAY * days));
        let changes = record.hold || record.archived.is_some();
        Lock {
            mode: self.lock.mode,
            until: until.filter(|until| *until > now),
            hold: changes.then_some(record.hold),
        }
    }
}

/// Stores know whole seconds; it does not end before its time.
fn whole_second(time: WallTime) -> WallTime {
    let seconds = time.as_micros().saturating_add(SECOND_US - 1).div_euclid(SECOND_US);
    WallTime::from_micros(seconds.saturating_mul(SECOND_US))
}

/// What is put at `?retention`.
#[must_use]
pub fn retention_body(mode: LockMode, until: WallTime) -> String {
    let mode = match mode {
        LockMode::Governance => "GOVERNANCE",
        LockMode::Compliance => "COMPLIANCE",
    };
    format!(
        "<Retention xmlns=\"{NAMESPACE}\"><Mode>{mode}</Mode><RetainUntilDate>{until}</RetainUntilDate></Retention>"
    )
}

/// What is put at `?legal-hold`.
#[must_use]
pub fn hold_body(hold: bool) -> String {
    let status = if hold { "ON" } else { "OFF" };
    format!("<LegalHold xmlns=\"{NAMESPACE}\"><Status>{status}</Status></LegalHold>")
}

/// One version of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The object's name.
    pub key: String,
    /// Of this version.
    pub id: String,
    /// It is no bytes, but that the object is deleted.
    pub marker: bool,
    /// Whoever asks for the object gets this one.
    pub latest: bool,
}

/// A page of versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    /// In the store's order.
    pub listed: Vec<Version>,
    /// Object and version behind which it goes on; absent at the end.
    pub next: Option<(String, String)>,
}

/// Reads a page of versions; `None` if it is none.
#[must_use]
pub fn read_versions(text: &[u8]) -> Option<Versions> {
    let page = xml::parse(text).ok().filter(|page| page.name == "ListVersionsResult")?;
    let listed = page.children.iter().filter_map(version).collect();
    let goes_on = said(&page, "IsTruncated").is_some_and(|text| text == "true");
    let next = goes_on.then(|| {
        let of = |name| said(&page, name).unwrap_or_default().to_owned();
        (of("NextKeyMarker"), of("NextVersionIdMarker"))
    });
    Some(Versions { listed, next })
}

fn version(element: &Element) -> Option<Version> {
    let marker = match &*element.name {
        "Version" => false,
        "DeleteMarker" => true,
        _ => return None,
    };
    Some(Version {
        key: said(element, "Key")?.to_owned(),
        id: said(element, "VersionId")?.to_owned(),
        marker,
        latest: said(element, "IsLatest") == Some("true"),
    })
}

fn said<'a>(element: &'a Element, name: &str) -> Option<&'a str> {
    element.child(name).map(|child| &*child.text)
}

/// A text in an address, as signatures of version 4 want it: all but letters, digits and `-._~` is written as
/// `%XX`; slashes only in a query.
#[must_use]
pub fn encoded(text: &str, keeps_slash: bool) -> String {
    use std::fmt::Write;

    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if plain || keeps_slash && byte == b'/' {
            out.push(char::from(byte));
        } else {
            // Writing into a string does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(hold: bool) -> Recording {
        let (started, ended) = (WallTime::from_millis(0), WallTime::from_millis(1_500));
        serde_json::from_value(serde_json::json!({
            "recordingid": "018bcfe5-687b-7000-8000-000000000001", "callids": ["1"], "extension": "2611",
            "agentid": "", "calling": "", "called": "", "direction": "inbound", "trunkgroup": "",
            "trunkmember": "", "vdn": "", "split": "", "userdata": "", "parties": [], "started": started,
            "ended": ended, "durationms": 9, "scope": "station", "trigger": "rule", "rule": "short", "copy": 1,
            "node": 1, "segments": [], "gaps": [], "pauses": [], "complete": true,
            "quality": { "lossratio": 0.0, "jitterms": 0.0, "clockdriftppm": 0.0 }, "format": "wavg711",
            "bytes": 10, "sha256": "aa", "tags": [], "notes": [], "hold": hold,
        }))
        .unwrap()
    }

    fn rule(days: Option<u32>, overall: Option<u32>, of_rule: Option<u32>) -> LockRule {
        let by_rule = of_rule.map(|days| ("short".to_owned(), days)).into_iter().collect();
        LockRule {
            lock: ObjectLock { mode: LockMode::Governance, days },
            retention: RetentionRules { overall, by_rule, special: Vec::new() },
        }
    }

    #[test]
    fn it_is_locked_for_as_long_as_it_is_kept_or_for_days_of_its_own() {
        let now = WallTime::from_millis(2_000);
        let until =
            |rule: LockRule| rule.lock(&record(false), now).until.map(|time| time.to_string());
        let day = |day: &str| Some(format!("1970-01-{day}T00:00:02.000Z"));
        assert_eq!(until(rule(None, Some(10), None)), day("11"));
        assert_eq!(until(rule(None, Some(10), Some(2))), day("03"), "its rule lets it go before");
        assert_eq!(until(rule(Some(5), Some(10), Some(2))), day("06"));
        assert_eq!(until(rule(None, Some(10), Some(0))), day("11"), "it is kept for ever");
        assert_eq!(until(rule(None, None, None)), None);
        let later = WallTime::from_millis(86_400_000 * 30);
        assert_eq!(rule(None, Some(10), None).lock(&record(false), later).until, None, "over");
        assert_eq!(rule(None, None, None).lock(&record(true), now).hold, Some(true));
        assert_eq!(rule(None, None, None).lock(&record(false), now).hold, None);
    }

    #[test]
    fn requests_are_what_the_store_reads() {
        let until = WallTime::from_millis(1_000);
        assert_eq!(
            retention_body(LockMode::Compliance, until),
            "<Retention xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Mode>COMPLIANCE</Mode>\
             <RetainUntilDate>1970-01-01T00:00:01.000Z</RetainUntilDate></Retention>"
        );
        assert!(hold_body(true).contains("<Status>ON</Status>"));
        assert!(hold_body(false).contains("<Status>OFF</Status>"));
        assert_eq!(encoded("a b/c+ü~", true), "a%20b/c%2B%C3%BC~");
        assert_eq!(encoded("a/b", false), "a%2Fb");
    }

    #[test]
    fn versions_are_read_with_markers_and_where_to_go_on() {
        let text = b"<?xml version=\"1.0\"?><ListVersionsResult xmlns=\"x\"><IsTruncated>true</IsTruncated>\
            <NextKeyMarker>k&amp;1</NextKeyMarker><NextVersionIdMarker>v1</NextVersionIdMarker>\
            <Version><Key>k&amp;1</Key><VersionId>v1</VersionId><IsLatest>false</IsLatest></Version>\
            <DeleteMarker><Key>k&amp;1</Key><VersionId>v2</VersionId><IsLatest>true</IsLatest></DeleteMarker>\
            </ListVersionsResult>";
        let page = read_versions(text).unwrap();
        assert_eq!(page.next, Some(("k&1".to_owned(), "v1".to_owned())));
        let told: Vec<_> =
            page.listed.iter().map(|v| (&*v.key, &*v.id, v.marker, v.latest)).collect();
        assert_eq!(told, [("k&1", "v1", false, false), ("k&1", "v2", true, true)]);
        assert_eq!(read_versions(b"<Error/>"), None);
        assert_eq!(read_versions(b"<html>"), None);
    }
}
