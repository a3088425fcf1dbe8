//! Searches the recordings of all sites. It decides when the database is asked and when it counts as away, so that
//! nobody waits for one that is; what is asked is `question`'s matter, and what is done without is the caller's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use storage::Page;
use storage_core::query::{Position, Query};
use storage_core::{Recording, RecordingId};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::connection::{Connection, Place, get};
use super::question::{Statement, Value, rows};
use super::row::recording;
use super::stored::unstored;
use super::trouble::{Kind, Trouble};

/// Somebody waits.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// After it was away nobody tries for so long.
const LEFT_ALONE: Duration = Duration::from_secs(5);
/// Searches at once.
const AT_ONCE: usize = 4;
/// More recordings than this are not counted: it would take too long.
const COUNTED_MAX: u64 = 100_000;
/// Rows that may turn out not to be asked for, times the length of a page.
const ROUNDS_MAX: usize = 8;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// Recordings, as a local catalog gives them.
    pub page: Page,
    /// Whose each of them is.
    pub sites: BTreeMap<RecordingId, String>,
}

/// Why the database was not asked, for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the catalog's database {place}: {why}")]
pub struct Away {
    /// Which.
    pub place: String,
    /// Why.
    pub why: String,
}

/// The recordings of all sites.
pub struct AllSites {
    place: Place,
    slots: Semaphore,
    idle: Mutex<Vec<Connection>>,
    away: Mutex<Option<(Instant, Trouble)>>,
}

impl AllSites {
    /// Asked nothing yet.
    #[must_use]
    pub fn new(place: Place) -> Arc<Self> {
        let (idle, away) = (Mutex::default(), Mutex::default());
        Arc::new(Self { place, slots: Semaphore::new(AT_ONCE), idle, away })
    }

    /// A page of those that match and that `counts` lets pass.
    ///
    /// # Errors
    /// [`Away`].
    pub async fn search(
        &self,
        query: &Query,
        counts: impl Fn(&Recording) -> bool,
    ) -> Result<Found, Away> {
        let connection = self.connection().await?;
        let found = find(&connection, query, counts).await;
        self.done(connection, found)
    }

    /// A recording and whose it is.
    ///
    /// # Errors
    /// [`Away`].
    pub async fn recording(&self, id: RecordingId) -> Result<Option<(Recording, String)>, Away> {
        const ASK: &str =
            "SELECT record::text, site FROM astlogger.recording WHERE recordingid = $1::text::uuid";
        let asked = Statement { sql: ASK.to_owned(), values: vec![Value::Text(id.to_string())] };
        let connection = self.connection().await?;
        let found = connection.0.rows(&asked).await;
        let found = self.done(connection, found)?;
        Ok(found.first().and_then(|row| read(row).ok().flatten()))
    }

    async fn connection(&self) -> Result<(Connection, tokio::sync::SemaphorePermit<'_>), Away> {
        let away = self.away.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, trouble)) = away.filter(|(until, _)| *until > Instant::now()) {
            return Err(self.told(&trouble));
        }
        let slot = tokio::time::timeout(ANSWER_WITHIN, self.slots.acquire()).await;
        let Ok(Ok(slot)) = slot else {
            return Err(self.told(&Trouble::away("too many searches wait for it")));
        };
        loop {
            let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            match kept {
                Some(kept) if kept.is_closed() => {}
                Some(kept) => return Ok((kept, slot)),
                None => break,
            }
        }
        let opened = async {
            let connection = Connection::open(&self.place, ANSWER_WITHIN).await?;
            connection.current().await?;
            Ok(connection)
        };
        match opened.await {
            Ok(connection) => Ok((connection, slot)),
            Err(trouble) => Err(self.failed(trouble)),
        }
    }

    /// Keeps a connection for the next search, unless it has failed.
    fn done<T>(
        &self,
        (connection, slot): (Connection, tokio::sync::SemaphorePermit<'_>),
        outcome: Result<T, Trouble>,
    ) -> Result<T, Away> {
        drop(slot);
        match outcome {
            Ok(done) => {
                self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
                Ok(done)
            }
            // A search that asks for too much says nothing of the next one.
            Err(trouble) if trouble.kind == Kind::Slow => Err(self.told(&trouble)),
            Err(trouble) => Err(self.failed(trouble)),
        }
    }

    fn failed(&self, trouble: Trouble) -> Away {
        let told = self.told(&trouble);
        let until = Instant::now() + LEFT_ALONE;
        *self.away.lock().unwrap_or_else(PoisonError::into_inner) = Some((until, trouble));
        told
    }

    fn told(&self, trouble: &Trouble) -> Away {
        Away { place: self.place.address.to_string(), why: trouble.to_string() }
    }
}

async fn find(
    (connection, _): &(Connection, tokio::sync::SemaphorePermit<'_>),
    query: &Query,
    counts: impl Fn(&Recording) -> bool,
) -> Result<Found, Trouble> {
    let wanted = query.limit + 1;
    let (mut found, mut behind, mut ended) = (Found::default(), query.cursor, false);
    for _ in 0..ROUNDS_MAX {
        let read_rows = connection.rows(&rows(query, behind, wanted)).await?;
        ended = read_rows.len() < wanted;
        for row in &read_rows {
            let Some((recording, site)) = read(row)? else { continue };
            behind = Some(Position::of(&recording));
            if query.matches(&recording) && counts(&recording) {
                found.sites.insert(recording.recordingid, site);
                found.page.recordings.push(recording);
            }
        }
        if ended || found.page.recordings.len() > query.limit {
            break;
        }
    }
    let Found { page, sites } = &mut found;
    let more = page.recordings.len() > query.limit || !ended;
    for beyond in page.recordings.drain(query.limit.min(page.recordings.len())..) {
        sites.remove(&beyond.recordingid);
    }
    if more {
        let full = page.recordings.len() == query.limit;
        let last = page.recordings.last().filter(|_| full).map(Position::of).or(behind);
        page.cursor = last.map(|last| last.to_cursor());
    }
    page.total = if query.is_unfiltered() {
        count(connection).await?
    } else {
        (!more && query.cursor.is_none()).then_some(page.recordings.len() as u64)
    };
    Ok(found)
}

async fn count(connection: &Connection) -> Result<Option<u64>, Trouble> {
    let sql = format!(
        "SELECT count(*) FROM (SELECT FROM astlogger.recording LIMIT {}) AS counted",
        COUNTED_MAX + 1
    );
    let counted = connection.rows(&Statement { sql, values: Vec::new() }).await?;
    let counted = counted.first().map(|row| get::<i64>(row, 0)).transpose()?.unwrap_or_default();
    Ok(u64::try_from(counted).ok().filter(|counted| *counted <= COUNTED_MAX))
}

/// A recording of a row, and whose it is; `None` for one that this program cannot read.
fn read(row: &tokio_postgres::Row) -> Result<Option<(Recording, String)>, Trouble> {
    let (record, site): (&str, &str) = (get(row, 0)?, get(row, 1)?);
    match recording(record) {
        Ok(recording) => Ok(Some((recording, unstored(site)))),
        Err(error) => {
            tracing::warn!(%error, "a record in the catalog's database cannot be read");
            Ok(None)
        }
    }
}
