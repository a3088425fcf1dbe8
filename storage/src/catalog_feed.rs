//! What of the catalog somebody else has not been told yet: a database that keeps a copy of it. It decides what
//! is pending; who is told, and how, is the caller's matter.
//!
//! ```text
//! change  id        the number of its last change; one row a recording, in the order of `number`
//! feed    (one row) whom it is for, the last number given, the commits it has seen, and how far a refill is
//! ```
//!
//! A change is noted in the commit that makes it, so a crash loses none, and what is pending takes room on the
//! disk and none in memory. When the feed cannot know what was told (it is new, it is for somebody else, or
//! the catalog was changed while nobody kept it, which the number of commits tells) it goes through all
//! recordings once, the newest first: a *refill*.

use rusqlite::{Row, params};
use storage_core::query::{Order, Position};
use storage_core::{Recording, RecordingId, WallTime};

use crate::catalog::CatalogError;
use crate::catalog_tables::{Tables, damaged};

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS change (id BLOB PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
    CREATE UNIQUE INDEX IF NOT EXISTS change_number ON change (number);
    CREATE TABLE IF NOT EXISTS feed (one INTEGER PRIMARY KEY, reader BLOB NOT NULL, commits INTEGER NOT NULL,
        last INTEGER NOT NULL, refilling INTEGER NOT NULL, remaining INTEGER NOT NULL,
        started INTEGER NOT NULL, id BLOB NOT NULL);
    INSERT OR IGNORE INTO feed VALUES (1, x'', -1, 0, 1, 0, 0, x'');
";

/// A recording that is to be told of.
#[derive(Clone, Debug, PartialEq)]
pub struct Changed {
    /// Which.
    pub id: RecordingId,
    /// As it is listed now; `None` if it is not listed any more.
    pub recording: Option<Recording>,
    /// Which change; `None` where a refill comes past it.
    number: Option<i64>,
}

/// What is to be told next.
#[derive(Clone, Debug, PartialEq)]
pub struct Changes {
    /// What was changed, the oldest change first, then what a refill comes past; empty where nothing is pending.
    pub changed: Vec<Changed>,
    /// Where the refill stands once this was told; `None` where this is no part of one.
    refilled: Option<Refilled>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Refilled {
    to: Option<Position>,
    ended: bool,
}

/// Somebody else than the feed was kept for asks: [`crate::DurableCatalog::feed_anew`] is to be called first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherReader;

/// How much is pending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// Recordings that were changed.
    pub changed: u64,
    /// Recordings that a refill has still to go past.
    pub refill: u64,
}

struct State {
    reader: Vec<u8>,
    commits: i64,
    last: i64,
    refilling: bool,
    remaining: i64,
    started: i64,
    id: Vec<u8>,
}

/// Keeps a feed from now on: to be called whenever the tables are opened or made.
pub(crate) fn follow(tables: &Tables) -> Result<(), CatalogError> {
    tables.transaction(true, || {
        tables.batch(SCHEMA)?;
        let commits = tables.counts()?.commits.cast_signed();
        if state(tables)?.commits != commits {
            refill(tables)?;
            tables.write("UPDATE feed SET commits = ?1", params![commits])?;
        }
        Ok(())
    })
}

/// Notes in a commit what it changes. `commits` is its own number.
pub(crate) fn note<'c>(
    tables: &Tables,
    changed: impl Iterator<Item = &'c RecordingId>,
    commits: u64,
) -> Result<(), CatalogError> {
    let mut last = state(tables)?.last;
    for id in changed {
        last += 1;
        tables.write("REPLACE INTO change VALUES (?1, ?2)", params![&id.0.as_bytes()[..], last])?;
    }
    tables.write("UPDATE feed SET last = ?1, commits = ?2", params![last, commits.cast_signed()])
}

/// What is to be told next to this reader, some `most` recordings.
pub(crate) fn changes(
    tables: &Tables,
    reader: &[u8],
    most: usize,
) -> Result<Result<Changes, OtherReader>, CatalogError> {
    let state = state(tables)?;
    if state.reader != reader {
        return Ok(Err(OtherReader));
    }
    let mut changed = Vec::new();
    let limit = i64::try_from(most).unwrap_or(i64::MAX);
    for (id, number) in tables.changed_ids(limit)? {
        let id = uuid::Uuid::from_slice(&id).map_err(|_| damaged("a change has no name"))?;
        let id = RecordingId(id);
        changed.push(Changed { id, recording: tables.record(id)?, number: Some(number) });
    }
    if changed.len() >= most || !state.refilling {
        return Ok(Ok(Changes { changed, refilled: None }));
    }
    let (mut to, mut ended) = (None, true);
    tables.walk((i64::MIN, i64::MAX), Order::Newest, behind(&state)?, |recording| {
        if changed.len() == most {
            ended = false;
            return false;
        }
        to = Some(Position::of(&recording));
        let id = recording.recordingid;
        changed.push(Changed { id, recording: Some(recording), number: None });
        true
    })?;
    Ok(Ok(Changes { changed, refilled: Some(Refilled { to, ended }) }))
}

/// These were told. What was changed again since stays.
pub(crate) fn told(tables: &Tables, changes: &Changes) -> Result<(), CatalogError> {
    tables.transaction(true, || {
        for Changed { id, number, .. } in &changes.changed {
            if let Some(number) = number {
                let sql = "DELETE FROM change WHERE id = ?1 AND number = ?2";
                tables.write(sql, params![&id.0.as_bytes()[..], number])?;
            }
        }
        let Some(Refilled { to, ended }) = changes.refilled else { return Ok(()) };
        let passed = changes.changed.iter().filter(|changed| changed.number.is_none()).count();
        let count = i64::try_from(passed).unwrap_or(i64::MAX);
        let sql = "UPDATE feed SET remaining = max(remaining - ?1, 0), refilling = ?2";
        tables.write(sql, params![count, !ended])?;
        let Some(to) = to else { return Ok(()) };
        let sql = "UPDATE feed SET started = ?1, id = ?2";
        tables.write(sql, params![to.started_ms(), &to.id().0.as_bytes()[..]])
    })
}

/// Tells this reader everything from now on.
pub(crate) fn anew(tables: &Tables, reader: &[u8]) -> Result<(), CatalogError> {
    tables.transaction(true, || {
        refill(tables)?;
        tables.write("UPDATE feed SET reader = ?1", params![reader])
    })
}

/// These are to be told after all others that are pending.
pub(crate) fn again(tables: &Tables, ids: &[RecordingId]) -> Result<(), CatalogError> {
    tables.transaction(true, || note(tables, ids.iter(), tables.counts()?.commits))
}

/// How much is to be told.
pub(crate) fn pending(tables: &Tables) -> Result<Pending, CatalogError> {
    let count = |row: &Row<'_>| row.get::<_, i64>(0);
    let changed = tables.one("SELECT count(*) FROM change", [], count)?.unwrap_or_default();
    let state = state(tables)?;
    let refill = if state.refilling { state.remaining } else { 0 };
    let number = |count: i64| u64::try_from(count).unwrap_or_default();
    Ok(Pending { changed: number(changed), refill: number(refill) })
}

fn refill(tables: &Tables) -> Result<(), CatalogError> {
    let all = tables.counts()?.recordings.cast_signed();
    let sql = "UPDATE feed SET refilling = 1, remaining = ?1, started = 0, id = x''";
    tables.write(sql, params![all])
}

fn behind(state: &State) -> Result<Option<Position>, CatalogError> {
    if state.id.is_empty() {
        return Ok(None);
    }
    let id = uuid::Uuid::from_slice(&state.id).map_err(|_| damaged("the refill has no place"))?;
    let mut key = [0; 24];
    let time = Position::at(WallTime::from_millis(state.started)).to_key();
    key[..8].copy_from_slice(&time[..8]);
    key[8..].copy_from_slice(id.as_bytes());
    Ok(Some(Position::from_key(&key)))
}

fn state(tables: &Tables) -> Result<State, CatalogError> {
    let sql = "SELECT reader, commits, last, refilling, remaining, started, id FROM feed";
    let read = |row: &Row<'_>| {
        Ok(State {
            reader: row.get(0)?,
            commits: row.get(1)?,
            last: row.get(2)?,
            refilling: row.get(3)?,
            remaining: row.get(4)?,
            started: row.get(5)?,
            id: row.get(6)?,
        })
    };
    tables.one(sql, [], read)?.ok_or_else(|| damaged("it keeps no feed"))
}
