//! The index by which recordings are found. It is a cache of the records beside the voice files
//! and can be rebuilt from them ([`crate::reindex`]); what it says is never the only copy.
//!
//! [`MemoryCatalog`] is the plain form: tests hold the durable one against it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use storage_core::query::{Order, Position, Query};
use storage_core::{Recording, RecordingId};

use crate::lock::LockError;

/// How many recordings one search reads that it may not want. A page may come out short for it, with
/// a cursor that goes on: no search may take long. (Reading one takes some 15 µs.)
pub const EXAMINED_MAX: usize = 4_000;

/// One page of a search.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// Recordings, in the order that was asked for.
    pub recordings: Vec<Recording>,
    /// Goes on behind the last one; absent at the end. New recordings do not shift it.
    pub cursor: Option<String>,
    /// How many there are on all pages, where that costs nothing.
    pub total: Option<u64>,
}

/// Why the catalog did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CatalogError {
    /// What it holds is damaged. It must be rebuilt: `astlogger reindex`.
    #[error("the catalog is damaged ({what}): rebuild it with `astlogger reindex`")]
    Damaged {
        /// What was found.
        what: String,
    },
    /// No room; what was to be entered is not. To be tried again when there is.
    #[error("no room left for the catalog: free some, or move al_datadir")]
    Full,
    /// Another process has it.
    #[error(transparent)]
    Locked(Arc<LockError>),
    /// The device failed. The catalog is opened anew for the next change.
    #[error("the catalog cannot be {action}: {what}")]
    Device {
        /// "read" or "written".
        action: &'static str,
        /// What the index engine said.
        what: String,
    },
    /// It is being closed.
    #[error("the catalog is closed")]
    Closed,
}

/// An index of recordings. Calls block: async callers use a thread for them.
pub trait Catalog: Send + Sync {
    /// Enters a recording, or replaces the one of the same name. Durable on return.
    ///
    /// # Errors
    /// [`CatalogError`]; in all methods here.
    fn put(&self, recording: &Recording) -> Result<(), CatalogError>;

    /// Enters many, faster than one by one. Durable on return.
    ///
    /// # Errors
    /// [`CatalogError`]; some may have been entered.
    fn put_all(&self, recordings: &[Recording]) -> Result<(), CatalogError> {
        recordings.iter().try_for_each(|recording| self.put(recording))
    }

    /// Removes a recording; tells whether it was there. Durable on return.
    ///
    /// # Errors
    /// [`CatalogError`].
    fn remove(&self, id: RecordingId) -> Result<bool, CatalogError>;

    /// A recording by its name.
    ///
    /// # Errors
    /// [`CatalogError`].
    fn get(&self, id: RecordingId) -> Result<Option<Recording>, CatalogError>;

    /// A page of those that match.
    ///
    /// # Errors
    /// [`CatalogError`].
    fn search(&self, query: &Query) -> Result<Page, CatalogError>;

    /// How many recordings it holds.
    ///
    /// # Errors
    /// [`CatalogError`].
    fn len(&self) -> Result<u64, CatalogError>;

    /// Whether it holds none.
    ///
    /// # Errors
    /// [`CatalogError`].
    fn is_empty(&self) -> Result<bool, CatalogError> {
        Ok(self.len()? == 0)
    }
}

/// Gathers a page from candidates that come in the order that was asked for.
#[derive(Debug)]
pub(crate) struct PageBuilder<'q> {
    query: &'q Query,
    page: Page,
    examined: usize,
    last: Option<Position>,
    more: bool,
}

impl<'q> PageBuilder<'q> {
    pub fn new(query: &'q Query) -> Self {
        Self { query, page: Page::default(), examined: 0, last: None, more: false }
    }

    /// Takes a candidate; `false` when the page is complete and no more are wanted.
    pub fn offer(&mut self, position: Position, recording: Recording) -> bool {
        let matches = self.query.matches(&recording);
        if self.examined == EXAMINED_MAX || (matches && self.is_full()) {
            self.more = true;
            return false;
        }
        self.examined += 1;
        if matches {
            self.page.recordings.push(recording);
        }
        if matches || !self.is_full() {
            self.last = Some(position);
        }
        true
    }

    /// Ends the page at this place, though there may be more behind it.
    pub fn stop_at(&mut self, position: Position) {
        self.last = Some(position);
        self.more = true;
    }

    fn is_full(&self) -> bool {
        self.page.recordings.len() >= self.query.limit
    }

    /// The page; `all` is how many recordings there are.
    pub fn finish(mut self, all: u64) -> Page {
        let whole = !self.more && self.query.cursor.is_none();
        self.page.total = if self.query.is_unfiltered() {
            Some(all)
        } else {
            whole.then_some(self.page.recordings.len() as u64)
        };
        if self.more {
            self.page.cursor = self.last.map(|position| position.to_cursor());
        }
        self.page
    }
}

/// The plain form, in memory.
#[derive(Debug, Default)]
pub struct MemoryCatalog(Mutex<Tables>);

#[derive(Debug, Default)]
struct Tables {
    by_time: BTreeMap<Position, Recording>,
    by_id: BTreeMap<RecordingId, Position>,
}

impl MemoryCatalog {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Catalog for MemoryCatalog {
    fn put(&self, recording: &Recording) -> Result<(), CatalogError> {
        let position = Position::of(recording);
        let mut tables = self.tables();
        if let Some(before) = tables.by_id.insert(recording.recordingid, position) {
            tables.by_time.remove(&before);
        }
        tables.by_time.insert(position, recording.clone());
        Ok(())
    }

    fn remove(&self, id: RecordingId) -> Result<bool, CatalogError> {
        let mut tables = self.tables();
        let Some(position) = tables.by_id.remove(&id) else { return Ok(false) };
        Ok(tables.by_time.remove(&position).is_some())
    }

    fn get(&self, id: RecordingId) -> Result<Option<Recording>, CatalogError> {
        let tables = self.tables();
        Ok(tables.by_id.get(&id).and_then(|position| tables.by_time.get(position)).cloned())
    }

    fn search(&self, query: &Query) -> Result<Page, CatalogError> {
        let tables = self.tables();
        let mut page = PageBuilder::new(query);
        let mut offer = |(position, recording): (&Position, &Recording)| {
            page.offer(*position, recording.clone())
        };
        let (behind, all) = (query.cursor.map(Bound::Excluded), Bound::Unbounded);
        let behind = behind.unwrap_or(all);
        let _exhausted = match query.order {
            Order::Newest => tables.by_time.range((all, behind)).rev().all(&mut offer),
            Order::Oldest => tables.by_time.range((behind, all)).all(&mut offer),
        };
        Ok(page.finish(tables.by_id.len() as u64))
    }

    fn len(&self) -> Result<u64, CatalogError> {
        Ok(self.tables().by_id.len() as u64)
    }
}
