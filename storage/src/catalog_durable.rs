//! The durable catalog: one thread commits for all callers, any number of them search beside it. What a
//! commit does is in `catalog_batch`, how a search goes in `catalog_search`, when what lies on the disk
//! can be relied on in `catalog_place`.
//!
//! After an error the index is closed and opened again. While it is being made anew searches wait.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use storage_core::query::Query;
use storage_core::{Recording, RecordingId, WallTime};

use crate::catalog::{Catalog, CatalogError, Page};
use crate::catalog_batch::{Change, commit};
use crate::catalog_feed::{self, Changes, OtherReader, Pending};
use crate::catalog_place::{CatalogState, Place, guarded, io_failed};
use crate::catalog_search::search;
use crate::catalog_tables::{Tables, damaged};

/// Callers served by one commit at most.
const GROUP_MAX: usize = 256;
/// How long a commit waits for further changes.
const GROUP_WAIT: Duration = Duration::from_millis(1);
/// Changes that wait for the committing thread at most; further callers wait themselves.
const QUEUE_MAX: usize = 1024;
/// Recordings of one caller in one commit: the more, the less often a stretch's lists are written.
const PUT_MAX: usize = 8192;
/// Connections that are kept for the next search.
const READERS_KEPT: usize = 8;

/// The durable catalog.
#[derive(Debug)]
pub struct DurableCatalog {
    engine: Arc<Engine>,
    requests: Option<SyncSender<Request>>,
    committer: Option<JoinHandle<()>>,
}

/// What callers ask of the committing thread.
struct Request {
    what: What,
    done: SyncSender<Result<bool, CatalogError>>,
}

enum What {
    Change(Change),
    /// Something about the feed, between two commits.
    Feed(Feed),
    /// Forget everything.
    Clear,
}

enum Feed {
    Follow,
    Told(Changes),
    Again(Vec<RecordingId>),
    Anew(Vec<u8>),
}

impl DurableCatalog {
    /// Opens the catalog in a folder, or makes it. What it holds is not read yet: see
    /// [`DurableCatalog::check`].
    ///
    /// # Errors
    /// [`CatalogError::Locked`] if another process has it, `Full` if there is no room to open it,
    /// `Device` if not even a new one can be made.
    pub fn open(folder: &Path) -> Result<(Self, CatalogState), CatalogError> {
        let place = Place::take(folder)?;
        let (tables, state) = place.open()?;
        let engine = Arc::new(Engine {
            place,
            open: RwLock::new(Some(Open::new(tables))),
            follows: AtomicBool::new(false),
        });
        let (requests, received) = sync_channel(QUEUE_MAX);
        let committer = std::thread::Builder::new().name("catalog".to_owned()).spawn({
            let engine = Arc::clone(&engine);
            move || commit_loop(&engine, &received)
        });
        let committer = committer.map_err(|error| io_failed("written", &error))?;
        let catalog = Self { engine, requests: Some(requests), committer: Some(committer) };
        Ok((catalog, state))
    }

    /// Reads all that it holds, while it is searched and written; that takes a minute for a million
    /// recordings.
    ///
    /// # Errors
    /// [`CatalogError::Damaged`] says what is not as it was written.
    pub fn check(&self) -> Result<(), CatalogError> {
        self.engine.read(Tables::check)
    }

    /// Forgets everything. Until [`DurableCatalog::end_rebuild`] it counts as incomplete.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn begin_rebuild(&self) -> Result<(), CatalogError> {
        self.engine.place.begin_rebuild()?;
        self.ask(What::Clear).map(drop)
    }

    /// Enters those of which none of the same name is there: what was put in since they were read is newer.
    /// Durable on return.
    ///
    /// # Errors
    /// [`CatalogError`]; some may have been entered.
    pub fn fill(&self, recordings: &[Recording]) -> Result<(), CatalogError> {
        self.in_parts(recordings, Change::Fill)
    }

    /// It holds everything again that was put into it since.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn end_rebuild(&self) -> Result<(), CatalogError> {
        self.engine.place.end_rebuild()
    }

    /// Until when the recordings that other nodes list have been put into it; `None` if that was never
    /// so, or not since it was made anew.
    #[must_use]
    pub fn others_until(&self) -> Option<WallTime> {
        self.engine.place.others_until()
    }

    /// What other nodes list has been put into it, as far as it was published by this time.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn has_others(&self, until: WallTime) -> Result<(), CatalogError> {
        self.engine.place.has_others(until)
    }

    /// Notes from now on what is changed, for a reader who keeps a copy of the catalog: see
    /// [`crate::catalog_feed`].
    ///
    /// # Errors
    /// [`CatalogError`]; so in all methods here.
    pub fn follow(&self) -> Result<(), CatalogError> {
        self.ask(What::Feed(Feed::Follow)).map(drop)
    }

    /// What is to be told next to this reader, some `most` recordings.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn changes(
        &self,
        reader: &[u8],
        most: usize,
    ) -> Result<Result<Changes, OtherReader>, CatalogError> {
        self.engine.read(|tables| catalog_feed::changes(tables, reader, most))
    }

    /// The reader has these. What was changed again since is told again.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn told(&self, changes: Changes) -> Result<(), CatalogError> {
        self.ask(What::Feed(Feed::Told(changes))).map(drop)
    }

    /// These are told, whether they are listed or not, after all others that are pending.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn tell_again(&self, ids: Vec<RecordingId>) -> Result<(), CatalogError> {
        self.ask(What::Feed(Feed::Again(ids))).map(drop)
    }

    /// Tells this reader everything that is listed, beside what is pending already.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn feed_anew(&self, reader: &[u8]) -> Result<(), CatalogError> {
        self.ask(What::Feed(Feed::Anew(reader.to_vec()))).map(drop)
    }

    /// How much the reader has still to be told.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn pending(&self) -> Result<Pending, CatalogError> {
        self.engine.read(catalog_feed::pending)
    }

    fn in_parts(
        &self,
        recordings: &[Recording],
        change: fn(Vec<Recording>) -> Change,
    ) -> Result<(), CatalogError> {
        let mut parts = recordings.chunks(PUT_MAX);
        parts.try_for_each(|part| self.ask(What::Change(change(part.to_vec()))).map(drop))
    }

    fn ask(&self, what: What) -> Result<bool, CatalogError> {
        let (done, outcome) = sync_channel(1);
        let requests = self.requests.as_ref().ok_or(CatalogError::Closed)?;
        requests.send(Request { what, done }).map_err(|_| CatalogError::Closed)?;
        outcome.recv().unwrap_or(Err(CatalogError::Closed))
    }
}

impl Drop for DurableCatalog {
    fn drop(&mut self) {
        // The committing thread ends when there is nobody left to send; the index is closed then.
        self.requests = None;
        if let Some(committer) = self.committer.take() {
            let _ = committer.join();
        }
    }
}

impl Catalog for DurableCatalog {
    fn put(&self, recording: &Recording) -> Result<(), CatalogError> {
        self.ask(What::Change(Change::Put(vec![recording.clone()]))).map(drop)
    }

    fn put_all(&self, recordings: &[Recording]) -> Result<(), CatalogError> {
        self.in_parts(recordings, Change::Put)
    }

    fn remove(&self, id: RecordingId) -> Result<bool, CatalogError> {
        self.ask(What::Change(Change::Remove(id)))
    }

    fn get(&self, id: RecordingId) -> Result<Option<Recording>, CatalogError> {
        self.engine.read(|tables| tables.record(id))
    }

    fn search(&self, query: &Query) -> Result<Page, CatalogError> {
        self.engine.read(|tables| search(tables, query))
    }

    fn len(&self) -> Result<u64, CatalogError> {
        self.engine.read(|tables| Ok(tables.counts()?.recordings))
    }
}

/// The open index, or none while it could not be opened again after an error.
#[derive(Debug)]
struct Engine {
    place: Place,
    open: RwLock<Option<Open>>,
    /// Whether a feed is kept.
    follows: AtomicBool,
}

/// Connections to one index.
#[derive(Debug)]
struct Open {
    writer: Mutex<Tables>,
    readers: Mutex<Vec<Tables>>,
}

impl Open {
    const fn new(writer: Tables) -> Self {
        Self { writer: Mutex::new(writer), readers: Mutex::new(Vec::new()) }
    }
}

impl Engine {
    fn with<T>(
        &self,
        run: impl FnOnce(&Open) -> Result<T, CatalogError>,
    ) -> Result<T, CatalogError> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let open = open.as_ref().ok_or_else(|| damaged("it could not be opened again"))?;
        guarded(|| run(open))
    }

    /// Reads from one state of the tables, with a connection of its own.
    fn read<T>(
        &self,
        run: impl FnOnce(&Tables) -> Result<T, CatalogError>,
    ) -> Result<T, CatalogError> {
        self.with(|open| {
            let kept = guard(&open.readers).pop();
            let tables = kept.map_or_else(|| Tables::open_reader(&self.place.tables()), Ok)?;
            // One that has failed is not kept.
            let found = tables.transaction(false, || run(&tables))?;
            let mut readers = guard(&open.readers);
            if readers.len() < READERS_KEPT {
                readers.push(tables);
            }
            Ok(found)
        })
    }

    fn commit(&self, group: &[&Change]) -> Result<Vec<bool>, CatalogError> {
        let (answers, commits) =
            self.with(|open| commit(&guard(&open.writer), group, self.follows()))?;
        self.place.note_commits(commits);
        Ok(answers)
    }

    /// Closes the index, and has what `anew` makes in its place.
    fn replace(
        &self,
        anew: impl FnOnce(&Place) -> Result<Tables, CatalogError>,
    ) -> Result<(), CatalogError> {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        *open = None;
        let tables = guarded(|| {
            let tables = anew(&self.place)?;
            if self.follows() {
                catalog_feed::follow(&tables)?;
            }
            Ok(tables)
        });
        *open = Some(Open::new(tables?));
        Ok(())
    }

    fn follows(&self) -> bool {
        self.follows.load(Ordering::Relaxed)
    }

    fn feed(&self, feed: &Feed) -> Result<(), CatalogError> {
        self.with(|open| {
            let tables = guard(&open.writer);
            match feed {
                Feed::Follow => {
                    self.follows.store(true, Ordering::Relaxed);
                    catalog_feed::follow(&tables)
                }
                Feed::Told(changes) => catalog_feed::told(&tables, changes),
                Feed::Again(ids) => catalog_feed::again(&tables, ids),
                Feed::Anew(reader) => catalog_feed::anew(&tables, reader),
            }
        })
    }
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Collects changes and commits them together, until nobody can send any more.
fn commit_loop(engine: &Engine, requests: &Receiver<Request>) {
    let mut healthy = true;
    let mut left_over = None;
    while let Some(first) = left_over.take().or_else(|| requests.recv().ok()) {
        if let What::Feed(feed) = &first.what {
            let done = engine.feed(feed);
            // A full disk is none of the index's faults; whatever else it was shows at the next commit.
            let _ = first.done.send(done.map(|()| true));
            continue;
        }
        if first.change().is_none() {
            let made = engine.replace(Place::make);
            healthy = made.is_ok();
            // Whoever does not wait for the answer does not want it.
            let _ = first.done.send(made.map(|()| true));
            continue;
        }
        if !healthy {
            // Where that fails, too, the commit says so.
            let _ = engine.replace(|place| Tables::open(&place.tables()));
        }
        let group;
        (group, left_over) = collect(first, requests);
        healthy = commit_group(engine, &group);
    }
}

/// Tells whether it was committed.
fn commit_group(engine: &Engine, group: &[Request]) -> bool {
    let changes: Vec<&Change> = group.iter().filter_map(Request::change).collect();
    let outcome = engine.commit(&changes);
    let healthy = outcome.is_ok();
    match outcome {
        Ok(answers) => {
            for (request, answer) in group.iter().zip(answers) {
                let _ = request.done.send(Ok(answer));
            }
        }
        Err(error) => {
            for request in group {
                let _ = request.done.send(Err(error.clone()));
            }
        }
    }
    healthy
}

impl Request {
    fn change(&self) -> Option<&Change> {
        match &self.what {
            What::Change(change) => Some(change),
            What::Feed(_) | What::Clear => None,
        }
    }
}

/// Changes for one commit; and, where one came, what is no change behind them.
fn collect(first: Request, requests: &Receiver<Request>) -> (Vec<Request>, Option<Request>) {
    let until = Instant::now() + GROUP_WAIT;
    let mut group = vec![first];
    while group.len() < GROUP_MAX {
        let left = until.saturating_duration_since(Instant::now());
        match requests.recv_timeout(left) {
            Ok(request) if request.change().is_none() => return (group, Some(request)),
            Ok(request) => group.push(request),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    (group, None)
}
