//! A day's completeness, for one node or for its whole group: gathers what was seen of calls and what was
//! published, and has it reconciled (`storage_core::completeness`). Days are those of UTC.

use std::ops::Range;
use std::time::Duration;

use recorder::clock::Clock;
use serde::Serialize;
use serde_json::{Map, Value};
use storage_core::completeness::{Completeness, SeenCall, reconcile};
use storage_core::query::{Order, Query};
use storage_core::{Scope, WallTime};

use crate::web::backend::{Backend, Failure, Unreachable};

const DAY: Duration = Duration::from_secs(86_400);
/// Nodes may date the begin of one call so differently that it is on another day.
const EDGE: Duration = Duration::from_secs(60);
/// Records looked at with one search.
const PAGE: usize = 1_000;

/// What nodes saw of a day's calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenDay {
    /// A call for each node that saw it.
    pub calls: Vec<SeenCall>,
    /// Who could not be asked.
    pub unreachable: Vec<Unreachable>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Which day, `YYYY-MM-DD`.
    pub day: String,
    /// How complete it is.
    #[serde(flatten)]
    pub completeness: Completeness,
    /// Whose calls and recordings may be missing from this.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unreachable: Vec<Unreachable>,
    /// Whose calls these are, where people look for recordings of all sites.
    #[serde(flatten)]
    pub only: Option<OwnSite>,
}

/// That a report is of one site among others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OwnSite {
    /// Which.
    pub site: String,
    searchedsites: &'static str,
    allsitesfailure: &'static str,
}

impl OwnSite {
    /// This one. The database of all sites has recordings; a call that was missed has none, so what other sites
    /// lack is not in it.
    #[must_use]
    pub const fn of(site: String) -> Self {
        let allsitesfailure = "the database of all sites does not know the calls that were seen, so neither what was \
                               missed: ask a node of each other site";
        Self { site, searchedsites: "own", allsitesfailure }
    }
}

impl Report {
    /// The members of a reply: as many of the calls that lack something as there is room for, and how many
    /// there are.
    #[must_use]
    pub fn body(&self, room: usize) -> Map<String, Value> {
        let Ok(Value::Object(mut body)) = serde_json::to_value(self) else { return Map::new() };
        body.insert("lackingtotal".to_owned(), self.completeness.lacking.len().into());
        if let Some(Value::Array(lacking)) = body.get_mut("lacking") {
            truncate(lacking, room);
        }
        body
    }
}

/// Keeps as many as there is room for, in bytes of JSON.
pub(crate) fn truncate(values: &mut Vec<Value>, mut room: usize) {
    let fitting = values.iter().take_while(|value| {
        let bytes = value.to_string().len() + 1;
        let fits = bytes <= room;
        room = room.saturating_sub(bytes);
        fits
    });
    let fitting = fitting.count();
    values.truncate(fitting);
}

/// Reads a day.
#[must_use]
pub fn day_named(text: &str) -> Option<WallTime> {
    let digits = text.len() == 10 && text.is_ascii();
    format!("{text}T00:00:00.000Z").parse().ok().filter(|_| digits)
}

/// The day of a moment.
#[must_use]
pub fn day_of(time: WallTime) -> WallTime {
    let day = i64::try_from(DAY.as_micros()).unwrap_or(i64::MAX);
    WallTime::from_micros(time.as_micros().div_euclid(day) * day)
}

/// The day that it is now.
#[must_use]
pub fn today() -> WallTime {
    day_of(Clock::wall())
}

/// The completeness of the day that begins at `day`, of what is in a scope, as far as the backend knows. May
/// block.
///
/// # Errors
/// As the backend's searches.
pub fn of_day(backend: &dyn Backend, day: WallTime, scope: &Scope) -> Result<Report, Failure> {
    let within = day..day + DAY;
    let mut unreachable = Vec::new();
    let mut seen = Vec::new();
    for beside in [before(day), day, within.end] {
        let SeenDay { calls, unreachable: missing } = backend.seen(beside)?;
        unreachable.extend(missing);
        let near = before_edge(day)..within.end + EDGE;
        seen.extend(calls.into_iter().filter(|call| near.contains(&call.began)));
    }
    // A recording may begin long after its call has.
    let recordings = recordings(backend, day..within.end + DAY, &mut unreachable)?;
    unreachable.sort_unstable();
    unreachable.dedup();
    let completeness = reconcile(within, Clock::wall(), seen, &recordings, scope);
    let day = day.to_string().chars().take(10).collect();
    Ok(Report { day, completeness, unreachable, only: backend.own_site().map(OwnSite::of) })
}

fn before(day: WallTime) -> WallTime {
    day_of(WallTime::from_micros(day.as_micros().saturating_sub(1)))
}

fn before_edge(day: WallTime) -> WallTime {
    let edge = i64::try_from(EDGE.as_micros()).unwrap_or(0);
    WallTime::from_micros(day.as_micros().saturating_sub(edge))
}

fn recordings(
    backend: &dyn Backend,
    started: Range<WallTime>,
    unreachable: &mut Vec<Unreachable>,
) -> Result<Vec<storage_core::Recording>, Failure> {
    let mut query = Query {
        from: Some(started.start),
        to: Some(started.end),
        order: Order::Oldest,
        limit: PAGE,
        ..Query::default()
    };
    let mut found = Vec::new();
    loop {
        let listing = backend.search(&query)?;
        unreachable.extend(listing.unreachable);
        found.extend(listing.page.recordings);
        let next = listing.page.cursor.as_deref();
        match next.and_then(storage_core::query::Position::from_cursor) {
            Some(cursor) => query.cursor = Some(cursor),
            None => return Ok(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_utc() {
        let day = day_named("2026-11-27").unwrap();
        assert_eq!(day.to_string(), "2026-11-27T00:00:00.000Z");
        assert_eq!(day_of(day + DAY - Duration::from_micros(1)), day);
        assert_eq!(before(day).to_string(), "2026-11-26T00:00:00.000Z");
        for wrong in ["", "2026-11-27T", "2026-13-01", "27.11.2026", "2026-1-100", "2026-11-2ä"] {
            assert_eq!(day_named(wrong), None, "{wrong}");
        }
    }
}
