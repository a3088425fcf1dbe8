//! Exports: many recordings as one ZIP file (`exportrecordings`). Here it is decided who may have which export,
//! how many there are at once, and how long they stay; `choice` finds the recordings, `work` goes through the recordings, `parcel` is the
//! ZIP file as it is downloaded, `folder` and `job` say what lies on the disk, `zip` and `table` which
//! bytes come out.
//!
//! ```text
//! prepare: which recordings ──▶ audit log ──▶ start ──▶ work, recording by recording ──▶ complete
//!                                               ▲                 │ node ends                │
//!                                               └── next start ◀──┘       something changed ─┤
//!                                               ▲                                            │
//!                                               └────────────────────────────────────────────┘
//! ```
//!
//! An export lives on the node that was asked, and is its asker's alone, as long as he may see what he
//! could see then. It is removed [`LIFETIME`] after it was completed, or when he cancels it. Where a
//! recording has changed or was deleted since, the export is gone through again before it is given out, so
//! it never holds what the site has deleted.

mod choice;
mod folder;
mod job;
mod parcel;
mod table;
mod work;
mod zip;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::ws::Utf8Bytes;
use recorder::clock::Clock;
use serde_json::{Map, Value, json};
use storage::FetchFormat;
use storage_core::Scope;
use storage_core::naming::EXPORTS_FOLDER;
use storage_core::query::Query;
use tokio::sync::{Semaphore, broadcast, watch};
use tokio::task::spawn_blocking;

use self::choice::{Chosen, choose};
use self::folder::{Folder, Found};
pub use self::job::ExportId;
use self::job::{Done, Job, Progress, State};
pub use self::parcel::Parcel;
use self::work::{Bench, Stop};
use crate::audit::Clerk;
use crate::config::DiskShare;
use crate::web::backend::{Backend, By, Code, Failure};

/// How long an export can be downloaded.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// How often it is looked whether one is to be removed.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Exports that go on at once on this node: each reads as fast as it can.
const AT_ONCE: usize = 2;
/// Exports that one user may have running or waiting, and have at all; and the node.
const RUNNING_PER_USER_MAX: usize = 2;
const PER_USER_MAX: usize = 10;
const PER_NODE_MAX: usize = 100;
/// What is free at least for recording, whatever `al_mindiskfree` says.
const RESERVE_BYTES_MIN: u64 = 64 << 20;
/// What a recording of an export takes on the disk, more or less.
const BYTES_PER_RECORDING: u64 = 6_000;
/// Progress is told so often at most.
const TELL_EVERY: Duration = Duration::from_millis(250);
/// Events of exports that wait for a slow socket.
const EVENTS_MAX: usize = 256;

/// Who asks, and what he may see.
#[derive(Clone, Debug)]
pub struct Owner {
    /// He.
    pub by: By,
    /// What he may see.
    pub scope: Scope,
    /// From where he asks.
    pub address: String,
}

/// What he wants.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Which recordings; its scope, limit and cursor do not count.
    pub query: Query,
    /// In which form.
    pub format: FetchFormat,
    /// The filter as he gave it.
    pub filter: Value,
}

/// Something that is told to one user, on all his sockets.
#[derive(Debug)]
pub struct Told {
    /// Whom.
    pub user: String,
    /// The event's frame.
    pub text: Utf8Bytes,
}

/// The exports of this node.
pub struct Exports {
    folder: PathBuf,
    room: DiskShare,
    backend: Arc<dyn Backend>,
    clerk: Arc<Clerk>,
    state: Mutex<Table>,
    turns: Arc<Semaphore>,
    told: broadcast::Sender<Arc<Told>>,
    /// True once the node stops.
    stop: watch::Receiver<bool>,
}

#[derive(Default)]
struct Table {
    jobs: BTreeMap<ExportId, Entry>,
    /// Whose exports are being prepared.
    preparing: Vec<String>,
}

struct Entry {
    job: Job,
    progress: Progress,
    /// Whether it is its turn.
    works: bool,
    cancelled: Arc<AtomicBool>,
}

/// An export of which nobody knows yet. Dropped, it leaves nothing.
pub struct Prepared {
    exports: Arc<Exports>,
    job: Option<Job>,
    user: String,
    folder: Folder,
}

impl Drop for Prepared {
    fn drop(&mut self) {
        self.exports.table().preparing_over(&self.user);
        if self.job.is_some()
            && let Err(error) = self.folder.remove()
        {
            tracing::warn!(%error, "what is left of an export is removed at the next start");
        }
    }
}

impl Exports {
    /// The exports below a data folder. Those that were going on go on. To be called within the runtime
    /// in which they are to work.
    pub fn open(
        datadir: &Path,
        room: DiskShare,
        backend: Arc<dyn Backend>,
        clerk: Arc<Clerk>,
        stop: watch::Receiver<bool>,
    ) -> Arc<Self> {
        let exports = Arc::new(Self {
            folder: datadir.join(EXPORTS_FOLDER),
            room,
            backend,
            clerk,
            state: Mutex::default(),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            told: broadcast::Sender::new(EVENTS_MAX),
            stop,
        });
        let unfinished = exports.find();
        for export in unfinished {
            tracing::info!(%export, "an export goes on");
            exports.go(export);
        }
        tokio::spawn(remove_expired(Arc::downgrade(&exports), exports.stop.clone()));
        exports
    }

    /// Reads what is there, removes what is left of broken begins, and tells what is to go on.
    fn find(&self) -> Vec<ExportId> {
        let found = folder::all(&self.folder).unwrap_or_else(|error| {
            tracing::error!(%error, "the exports below al_datadir cannot be read");
            Vec::new()
        });
        let mut unfinished = Vec::new();
        for Found { export, folder, job } in found {
            match job {
                Ok(Some(job)) => {
                    let items = folder.items(job.total);
                    let progress = items.map(|items| items.progress()).unwrap_or_default();
                    if job.state == State::Running {
                        unfinished.push(export.clone());
                    }
                    self.table().jobs.insert(export, Entry::new(job, progress));
                }
                Ok(None) => {
                    if let Err(error) = folder.remove() {
                        tracing::warn!(%export, %error, "what is left of an export stays");
                    }
                }
                Err(error) => tracing::error!(%export, %error, "an export cannot be read"),
            }
        }
        unfinished
    }

    /// What is told of exports from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Told>> {
        self.told.subscribe()
    }

    /// Finds out which recordings it is of, and writes that down. Blocking.
    ///
    /// # Errors
    /// `busy`; `unavailable` without room on the disk, and as [`choose`].
    pub fn prepare(self: &Arc<Self>, owner: &Owner, wanted: Wanted) -> Result<Prepared, Failure> {
        let export = ExportId::new(random()?);
        self.table().admit(&owner.by.user)?;
        // From here on its drop gives the place back.
        let folder = Folder::of(&self.folder, &export);
        let user = owner.by.user.clone();
        let mut prepared = Prepared { exports: Arc::clone(self), job: None, user, folder };
        let query = Query { scope: owner.scope.clone(), ..wanted.query };
        let Chosen { ids, unreachable, elsewhere } = choose(&*self.backend, query)?;
        let bytes = BYTES_PER_RECORDING * ids.len() as u64;
        if !work::leaves_room(&self.folder, self.room, bytes) {
            let message = "there is no room for an export: less would be free below al_datadir than \
                           recording is to have (al_mindiskfree); make room, or remove exports";
            return Err(Failure::new(Code::Unavailable, message));
        }
        let begun = Clock::wall();
        let job = Job {
            version: job::VERSION,
            export,
            user: owner.by.user.clone(),
            role: owner.by.role.as_str().to_owned(),
            address: owner.address.clone(),
            stations: owner.scope.stations().cloned(),
            format: wanted.format.as_str().to_owned(),
            filter: wanted.filter,
            begun,
            expires: begun + LIFETIME,
            total: ids.len(),
            unreachable,
            elsewhere,
            state: State::Running,
            done: None,
            error: None,
        };
        prepared.job = Some(job);
        prepared.folder.make(&ids).map_err(|error| not_written(&error))?;
        Ok(prepared)
    }

    /// Begins what was prepared; the members of the reply. Blocking.
    ///
    /// # Errors
    /// `unavailable` if it cannot be written down.
    pub fn start(self: &Arc<Self>, mut prepared: Prepared) -> Result<Map<String, Value>, Failure> {
        let Some(job) = prepared.job.clone() else { return Ok(Map::new()) };
        prepared.folder.save(&job).map_err(|error| not_written(&error))?;
        // It stays from now on.
        prepared.job = None;
        let mut body = Map::new();
        body.insert("export".to_owned(), job.export.to_string().into());
        body.insert("total".to_owned(), job.total.into());
        body.insert("expires".to_owned(), job.expires.to_string().into());
        body.extend(job.lacks());
        let export = job.export.clone();
        self.table().jobs.insert(export.clone(), Entry::new(job, Progress::default()));
        self.go(export);
        Ok(body)
    }

    /// His exports, the newest first.
    pub fn list(&self, owner: &Owner) -> Map<String, Value> {
        let table = self.table();
        let mut his: Vec<&Entry> =
            table.jobs.values().filter(|entry| entry.job.user == owner.by.user).collect();
        his.sort_by_key(|entry| std::cmp::Reverse(entry.job.begun));
        let told = his.into_iter().map(|entry| Value::Object(entry.told()));
        Map::from_iter([("exports".to_owned(), told.collect())])
    }

    /// Ends an export, if it goes on, and removes it. Blocking.
    ///
    /// # Errors
    /// `notfound`; `unavailable` if it cannot be removed.
    pub fn cancel(&self, owner: &Owner, export: &ExportId) -> Result<Map<String, Value>, Failure> {
        let entry = {
            let mut table = self.table();
            table.his(owner, export)?;
            table.jobs.remove(export)
        };
        let Some(entry) = entry else { return Err(unknown()) };
        self.remove(&entry).map_err(|error| {
            Failure::new(Code::Unavailable, format!("its files cannot be removed: {error}"))
        })?;
        Ok(Map::from_iter([("export".to_owned(), export.to_string().into())]))
    }

    /// Opens the ZIP file of one, to be downloaded. Blocking.
    ///
    /// # Errors
    /// `notfound` for all but him who asked for it; `forbidden` if he may see something else by now;
    /// `unavailable` while it is not complete.
    pub fn parcel(self: &Arc<Self>, owner: &Owner, export: &ExportId) -> Result<Parcel, Failure> {
        let job = self.table().his(owner, export)?.job.clone();
        if job.stations.as_ref() != owner.scope.stations() {
            let message =
                "what you may see has changed since you asked for this export: ask for a new one";
            return Err(Failure::new(Code::Forbidden, message));
        }
        let unavailable = |message: String| Failure::new(Code::Unavailable, message);
        match job.state {
            State::Complete => {}
            State::Failed => {
                let why = job.error.unwrap_or_default();
                return Err(unavailable(format!("this export broke off: {why}")));
            }
            State::Running => {
                return Err(unavailable("this export is not complete yet".to_owned()));
            }
        }
        let folder = Folder::of(&self.folder, export);
        let opened = Parcel::open(&folder, &job, Arc::clone(&self.backend));
        let parcel =
            opened.map_err(|error| unavailable(format!("this export cannot be read: {error}")))?;
        let changed = parcel.changed();
        if changed > 0 {
            self.renew(export, &folder)?;
            return Err(unavailable(format!(
                "{changed} of its recordings have changed or were deleted: it is made anew, and told when \
                 it is complete"
            )));
        }
        Ok(parcel)
    }

    /// Goes through a complete export once more.
    fn renew(self: &Arc<Self>, export: &ExportId, folder: &Folder) -> Result<(), Failure> {
        {
            let mut table = self.table();
            let entry = table.jobs.get_mut(export).ok_or_else(unknown)?;
            if entry.job.state != State::Complete {
                return Ok(());
            }
            entry.job.state = State::Running;
            entry.job.done = None;
            folder.save(&entry.job).map_err(|error| not_written(&error))?;
        }
        self.go(export.clone());
        Ok(())
    }

    /// Works on an export when it is its turn.
    fn go(self: &Arc<Self>, export: ExportId) {
        let exports = Arc::clone(self);
        tokio::spawn(async move {
            let turns = Arc::clone(&exports.turns);
            let mut stop = exports.stop.clone();
            let turn = tokio::select! {
                turn = turns.acquire_owned() => turn,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            let worked = spawn_blocking(move || {
                exports.work(&export);
                drop(turn);
            });
            // A panic there has been reported by the runtime.
            let _ = worked.await;
        });
    }

    fn work(&self, export: &ExportId) {
        let (job, cancelled) = {
            let mut table = self.table();
            let Some(entry) = table.jobs.get_mut(export) else { return };
            entry.works = true;
            (entry.job.clone(), Arc::clone(&entry.cancelled))
        };
        let folder = Folder::of(&self.folder, export);
        let last_told = Mutex::new(None::<Instant>);
        let bench = Bench {
            backend: &*self.backend,
            clerk: &self.clerk,
            folder: &folder,
            job: &job,
            stops: &|| cancelled.load(Ordering::Relaxed) || *self.stop.borrow(),
            has_room: &|bytes| work::leaves_room(&self.folder, self.room, bytes),
            tell: &|progress| {
                let mut last = last_told.lock().unwrap_or_else(PoisonError::into_inner);
                let due = last.is_none_or(|last| last.elapsed() >= TELL_EVERY);
                self.progressed(export, progress, due);
                if due {
                    *last = Some(Instant::now());
                }
            },
        };
        match bench.work() {
            Ok(done) => self.ended(export, &folder, Ok(done)),
            Err(Stop::Failed(error)) => self.ended(export, &folder, Err(error)),
            // It goes on at the next start, or there is none of it any more.
            Err(Stop::Told) => {}
        }
        if cancelled.load(Ordering::Relaxed)
            && let Err(error) = folder.remove()
        {
            tracing::warn!(%export, %error, "what is left of an export is removed at the next start");
        }
    }

    fn progressed(&self, export: &ExportId, progress: Progress, due: bool) {
        let mut table = self.table();
        let Some(entry) = table.jobs.get_mut(export) else { return };
        entry.progress = progress;
        if due {
            self.tell(&entry.job.user, "exportprogress", entry.told());
        }
    }

    /// Writes down how it ended, and tells him.
    fn ended(&self, export: &ExportId, folder: &Folder, ended: Result<Done, String>) {
        let mut table = self.table();
        let Some(entry) = table.jobs.get_mut(export) else { return };
        entry.works = false;
        let job = &mut entry.job;
        let eventtype = match ended {
            Ok(done) => {
                job.expires = done.at + LIFETIME;
                (job.state, job.done, job.error) = (State::Complete, Some(done), None);
                "exportcomplete"
            }
            Err(error) => {
                tracing::warn!(%export, %error, "an export broke off");
                (job.state, job.error) = (State::Failed, Some(error));
                "exportprogress"
            }
        };
        if let Err(error) = folder.save(job) {
            // The files say that it still goes on: so it does at the next start.
            tracing::warn!(%export, %error, "how an export ended is not written down");
        }
        // The numbers of the end, whenever the last were told.
        self.tell(&entry.job.user, "exportprogress", entry.told());
        if eventtype == "exportcomplete" {
            self.tell(&entry.job.user, eventtype, entry.told());
        }
    }

    fn tell(&self, user: &str, eventtype: &str, mut body: Map<String, Value>) {
        body.remove("filter");
        body.insert("eventtype".to_owned(), eventtype.into());
        let text = Value::Object(body).to_string().into();
        // Without a socket nobody hears, which is no error.
        let _ = self.told.send(Arc::new(Told { user: user.to_owned(), text }));
    }

    /// Removes an export that is in the table no more.
    fn remove(&self, entry: &Entry) -> std::io::Result<()> {
        entry.cancelled.store(true, Ordering::Relaxed);
        Folder::of(&self.folder, &entry.job.export).remove()
    }

    /// Removes what nobody is to have any more.
    fn expire(&self) {
        let now = Clock::wall();
        let old: Vec<Entry> = {
            let mut table = self.table();
            let old = |(_, entry): (&ExportId, &mut Entry)| entry.job.expires <= now;
            table
                .jobs
                .extract_if(.., |id, entry| old((id, entry)))
                .map(|(_, entry)| entry)
                .collect()
        };
        for entry in old {
            if let Err(error) = self.remove(&entry) {
                tracing::warn!(export = %entry.job.export, %error, "an old export stays until the next start");
            }
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Each change is one call on the map: a panic elsewhere leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn new(job: Job, progress: Progress) -> Self {
        Self { job, progress, works: false, cancelled: Arc::default() }
    }

    /// What he is told of it.
    fn told(&self) -> Map<String, Value> {
        let Self { job, progress, works, .. } = self;
        let state = match job.state {
            State::Running if *works => "running",
            State::Running => "waiting",
            State::Complete => "complete",
            State::Failed => "failed",
        };
        let mut told = Map::from_iter([
            ("export".to_owned(), json!(job.export)),
            ("state".to_owned(), state.into()),
            ("done".to_owned(), progress.done.into()),
            ("total".to_owned(), job.total.into()),
            ("missing".to_owned(), progress.missing.into()),
            ("bytes".to_owned(), progress.bytes.into()),
            ("format".to_owned(), job.format.clone().into()),
            ("filter".to_owned(), job.filter.clone()),
            ("begun".to_owned(), json!(job.begun)),
            ("expires".to_owned(), json!(job.expires)),
        ]);
        told.extend(job.lacks());
        if let Some(done) = &job.done {
            told.insert("size".to_owned(), done.bytes.into());
            told.insert("address".to_owned(), format!("/api/exports/{}", job.export).into());
        }
        if let Some(error) = &job.error {
            told.insert("message".to_owned(), error.clone().into());
        }
        told
    }
}

impl Table {
    /// A place for one more export.
    fn admit(&mut self, user: &str) -> Result<(), Failure> {
        let his = |entry: &&Entry| entry.job.user == user;
        let preparing = self.preparing.iter().filter(|whose| *whose == user).count();
        let goes_on = |entry: &&Entry| entry.job.state == State::Running;
        let running = self.jobs.values().filter(his).filter(goes_on).count() + preparing;
        let busy = |message: String| Err(Failure::new(Code::Busy, message));
        if running >= RUNNING_PER_USER_MAX {
            return busy(format!(
                "{RUNNING_PER_USER_MAX} of your exports go on: wait for one, or cancel it"
            ));
        }
        if self.jobs.values().filter(his).count() + preparing >= PER_USER_MAX {
            return busy(format!(
                "you have {PER_USER_MAX} exports: cancel one that you need no more"
            ));
        }
        if self.jobs.len() + self.preparing.len() >= PER_NODE_MAX {
            return busy(format!("this node has {PER_NODE_MAX} exports: ask again later"));
        }
        self.preparing.push(user.to_owned());
        Ok(())
    }

    fn preparing_over(&mut self, user: &str) {
        if let Some(at) = self.preparing.iter().position(|whose| whose == user) {
            self.preparing.swap_remove(at);
        }
    }

    /// His export of this name; another's is answered like one that is not there.
    fn his(&self, owner: &Owner, export: &ExportId) -> Result<&Entry, Failure> {
        let found = self.jobs.get(export);
        found.filter(|entry| entry.job.user == owner.by.user).ok_or_else(unknown)
    }
}

fn unknown() -> Failure {
    Failure::new(Code::NotFound, "you have no such export; it may have been removed after its time")
}

fn not_written(error: &std::io::Error) -> Failure {
    let message =
        format!("the export cannot be written down: {error}; look at the disk of al_datadir");
    Failure::new(Code::Unavailable, message)
}

fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::new(Code::Internal, format!("no random bytes: {error}")))?;
    Ok(bytes)
}

async fn remove_expired(exports: std::sync::Weak<Exports>, mut stop: watch::Receiver<bool>) {
    let mut beat = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            _ = beat.tick() => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let Some(exports) = exports.upgrade() else { return };
        // A panic there has been reported by the runtime.
        let _ = spawn_blocking(move || exports.expire()).await;
    }
}
