//! Archives recordings: in an S3-compatible store, a folder or behind SFTP (`al_archive`). What is due when, and what may
//! go from this disk, is decided in [`core`]; here the catalog is gone through (each new entry, and all of it now
//! and then), what is due is put there (`put`) or deleted there, room is made (`room`), and people hear of it
//! (`alarms`). Recording waits for none of it.
//!
//! ```text
//! entered, walked ──▶ core ──▶ put: parts ─▶ read back ─▶ record ─▶ read back ──▶ noted in the record, told to
//!   owed (deleted) ──▶  │                                                         all nodes like tags (marks)
//!                       └────▶ delete there, once every other node has heard of the deletion
//! ```
//!
//! That a recording lies there is noted in its record (`archived`), so a restart forgets nothing; and where the note
//! was lost, what lies there is found, read back, and noted again.

mod alarms;
pub mod core;
mod folder;
pub mod lock;
mod put;
mod reader;
mod resume;
mod room;
mod s3;
mod s3_lock;
mod sftp;
mod sftp_wire;
pub mod target;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cluster_core::mirror;
use recorder::clock::Clock;
use recorder::media_thread::MediaHandle;
use storage::owed::ARCHIVE;
use storage::{ArchiveReader, Catalog, VoiceStore};
use storage_core::archived::{digest, names_near, record_bytes};
use storage_core::query::{Order, Position, Query};
use storage_core::{Recording, RecordingId};
use tokio::runtime::Handle;
use tokio::sync::{broadcast, mpsc};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};

use self::core::{Archiving, Due, Outcome, Sight, Task};
use self::folder::Folder;
use self::lock::LockRule;
use self::put::{Failed, put};
use self::reader::Reader;
pub use self::resume::Notes;
use self::s3::S3Store;
use self::sftp::SftpServer;
use self::target::{Kind, Target, TargetError};
use crate::catalog_walk::{CatalogWalk, Look, WALK_EVERY};
use crate::config::{Archive, ArchiveKind, DiskShare};
use crate::hub::{Entered, Hub};
use crate::marks::Marker;
use crate::peers::Peers;

/// The first time after a start.
const WALK_FIRST: Duration = Duration::from_secs(5);
const PAGE: usize = 500;
/// How often it is looked what is owed.
const OWED_EVERY: Duration = Duration::from_secs(2);

/// The archive of a configuration. Nothing is asked of it yet.
///
/// # Errors
/// If it cannot be one.
pub fn open(config: &Archive) -> Result<Arc<dyn Target>, TargetError> {
    let place = config.place.clone();
    Ok(match &config.kind {
        ArchiveKind::S3(s3) => Arc::new(S3Store::new(place, s3)?),
        ArchiveKind::Sftp(sftp) => Arc::new(SftpServer::new(place, sftp.clone())),
        ArchiveKind::Folder(folder) => Arc::new(Folder::new(folder.clone())),
    })
}

/// Reads what lies there, for the voice folder; to be called within the runtime.
#[must_use]
pub fn reader(target: &Arc<dyn Target>) -> Arc<dyn ArchiveReader> {
    Arc::new(Reader::new(Arc::clone(target), Handle::current()))
}

/// Tells of recordings that are to be put there anew, because what lies there is of no use any more.
pub struct Anew {
    /// For whoever finds them.
    pub tell: mpsc::UnboundedSender<RecordingId>,
    told: mpsc::UnboundedReceiver<RecordingId>,
}

impl Default for Anew {
    fn default() -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        Self { tell, told }
    }
}

/// What it works with.
pub struct Parts {
    /// Where to.
    pub target: Arc<dyn Target>,
    /// What is seen of the group.
    pub peers: Peers,
    /// Where voice files lie.
    pub voices: VoiceStore,
    /// What is listed.
    pub catalog: Arc<dyn Catalog>,
    /// Writes down what is archived, and knows what is deleted.
    pub marker: Arc<Marker>,
    /// Where entries are told of, and where people hear of it.
    pub hub: Arc<Hub>,
    /// Tells whether the capture comes late: then this rests.
    pub media: MediaHandle,
    /// `al_datadir`.
    pub datadir: PathBuf,
    /// What is to stay free there.
    pub reserve: DiskShare,
    /// Times.
    pub clock: Clock,
    /// What is on its way.
    pub notes: Notes,
    /// Where the archive is to lock recordings.
    pub lock: Option<LockRule>,
}

/// Works until it is aborted.
///
/// What `anew` tells is put there anew, whatever is noted.
pub async fn run(parts: Parts, anew: Anew) {
    let (entered, also_entered) = (parts.hub.entered(), parts.hub.entered());
    let parts = Arc::new(parts);
    let (results, taken) = mpsc::unbounded_channel();
    let Anew { tell: anew, told: found } = anew;
    let shell = Shell {
        archiving: Archiving::default(),
        parts: Arc::clone(&parts),
        results,
        walk: CatalogWalk::new(Instant::now() + WALK_FIRST),
        owed_at: Instant::now(),
        away: String::new(),
        locked: BTreeSet::new(),
    };
    // Whoever aborts this ends both.
    tokio::select! {
        () = shell.run(entered, taken, found) => {}
        () = room::run(parts, also_entered, anew) => {}
    }
}

impl Parts {
    /// Who is in the group. Nobody is before it has been heard.
    fn sight(&self) -> Sight {
        let group = self.peers.group();
        let view = group.view();
        let heard = group.listens().is_none() || view.members.len() > 1;
        let recorders = if heard { mirror::recorders(&view) } else { BTreeSet::new() };
        Sight { me: group.node(), recorders, base: self.target.place().to_owned() }
    }

    /// What is due of these recordings, as far as the list tells.
    fn look_at(&self, records: &[Recording]) -> Vec<(RecordingId, Due)> {
        let sight = self.sight();
        let due = |record: &Recording| {
            let digest = record_bytes(record).map(|bytes| digest(&bytes)).unwrap_or_default();
            (record.recordingid, sight.due(record, &digest))
        };
        records.iter().map(due).collect()
    }

    fn look_at_entered(&self, entered: BTreeSet<RecordingId>) -> Vec<(RecordingId, Due)> {
        let records = entered.into_iter().filter_map(|id| self.catalog.get(id).ok().flatten());
        self.look_at(&records.collect::<Vec<_>>())
    }

    fn look_on(&self, behind: Option<Position>) -> (Vec<(RecordingId, Due)>, Option<Position>) {
        let query = Query { cursor: behind, limit: PAGE, order: Order::Oldest, ..Query::default() };
        match self.catalog.search(&query) {
            Ok(page) => {
                let next = page.cursor.as_deref().and_then(Position::from_cursor);
                (self.look_at(&page.recordings), next)
            }
            Err(error) => {
                // The next walk looks again.
                tracing::warn!(%error, "what is to be archived cannot be told now");
                (Vec::new(), None)
            }
        }
    }

    /// The deleted recordings of which nobody else has still to hear: whoever holds one refuses to, and what is
    /// held is to stay in the archive, too.
    fn deletions(&self) -> Vec<RecordingId> {
        let owed = &self.marker.owed;
        let ready = |(id, _): &(RecordingId, _)| owed.nodes_of(*id) == [ARCHIVE];
        owed.to(ARCHIVE).into_iter().filter(ready).map(|(id, _)| id).collect()
    }

    /// Deletes what lies there of a deleted recording.
    async fn delete(self: &Arc<Self>, id: RecordingId) -> Result<(), Failed> {
        let here = |error: &dyn std::fmt::Display| Failed::Here(error.to_string());
        let Some((_, mark)) = self.marker.owed.to(ARCHIVE).into_iter().find(|(of, _)| *of == id)
        else {
            return Ok(());
        };
        let tombstone = self.voices.tombstone(id).map_err(|error| here(&error))?;
        let tombstone = tombstone.ok_or_else(|| here(&"it is not deleted yet"))?;
        if let Some(note) = self.notes.read(id) {
            // What cannot be aborted costs room there, no more.
            let _ = self.target.abort(&note.upload()).await;
            self.notes.forget(id);
        }
        self.target.delete(&names_near(id, tombstone.started)).await?;
        self.marker.owed.told(ARCHIVE, id, mark).map_err(|error| here(&error))
    }
}

/// What was begun and is done.
enum Done {
    Looked(Vec<(RecordingId, Due)>),
    Page(Vec<(RecordingId, Due)>, Option<Position>),
    Task(RecordingId, Task, Result<bool, Failed>),
}

struct Shell {
    archiving: Archiving,
    parts: Arc<Parts>,
    results: mpsc::UnboundedSender<Done>,
    walk: CatalogWalk,
    /// When it is looked what is owed.
    owed_at: Instant,
    /// Why the archive could not be used last.
    away: String,
    /// Deleted recordings that the archive does not let go yet.
    locked: BTreeSet<RecordingId>,
}

impl Shell {
    async fn run(
        mut self,
        mut entered: broadcast::Receiver<Entered>,
        mut results: mpsc::UnboundedReceiver<Done>,
        mut anew: mpsc::UnboundedReceiver<RecordingId>,
    ) {
        loop {
            self.act();
            let wakes = self.wakes();
            tokio::select! {
                told = entered.recv() => if !self.walk.told(Instant::now(), &told) {
                    return;
                },
                Some(done) = results.recv() => self.take(done),
                Some(recording) = anew.recv() => {
                    self.archiving.wants(self.parts.clock.mono(), recording, Task::PutAnew);
                }
                () = sleep_until(wakes) => {}
            }
        }
    }

    fn take(&mut self, done: Done) {
        match done {
            Done::Looked(looked) => {
                self.walk.looked();
                self.compare(looked);
            }
            Done::Page(looked, next) => {
                self.walk.paged(Instant::now(), next);
                self.compare(looked);
            }
            Done::Task(recording, task, done) => self.ended(recording, task, &done),
        }
        if self.archiving.take_missed() {
            self.walk.anew(Instant::now());
        }
    }

    fn compare(&mut self, looked: Vec<(RecordingId, Due)>) {
        let now = self.parts.clock.mono();
        for (recording, due) in looked {
            match due {
                Due::Nothing => self.archiving.settled(recording),
                Due::Record | Due::Whole => self.archiving.wants(now, recording, Task::Put),
            }
        }
    }

    fn ended(&mut self, recording: RecordingId, task: Task, done: &Result<bool, Failed>) {
        let hub = &self.parts.hub;
        let place = self.parts.target.place();
        let outcome = match done {
            Ok(stored) => {
                if *stored {
                    hub.metrics.archive.stored.inc();
                    tracing::debug!(%recording, "archived");
                }
                let subject = recording.to_string();
                hub.alarms.clear("notarchived", &subject);
                hub.alarms.clear("archivediffers", &subject);
                self.locked.remove(&recording);
                Outcome::Done
            }
            Err(Failed::Target(error)) if matches!(error.kind, Kind::Away | Kind::Refused) => {
                tracing::debug!(%recording, %error, "the archive");
                self.away.clone_from(&error.words);
                Outcome::Away
            }
            Err(Failed::Target(error)) if matches!(error.kind, Kind::Locked(_)) => {
                if self.locked.insert(recording) {
                    tracing::warn!(%recording, "it is deleted, and still in the archive: {error}");
                }
                Outcome::Failed
            }
            Err(Failed::Differs) => {
                hub.alarms.raise(alarms::differs_at(recording, place));
                Outcome::Failed
            }
            Err(Failed::Here(why)) if task != Task::Delete => {
                hub.alarms.raise(alarms::not_archived(recording, why));
                Outcome::Failed
            }
            Err(error) => {
                tracing::warn!(%recording, %error, "the archive");
                Outcome::Failed
            }
        };
        self.archiving.ended(self.parts.clock.mono(), recording, outcome);
        hub.alarms.set(self.archiving.is_away(), alarms::away(place, &self.away));
    }

    /// Begins what is to be begun, and says how it stands.
    fn act(&mut self) {
        if self.owed_at <= Instant::now() {
            self.owed_at = Instant::now() + OWED_EVERY;
            for recording in self.parts.deletions() {
                self.archiving.wants(self.parts.clock.mono(), recording, Task::Delete);
            }
        }
        self.look();
        while let Some((recording, task)) = self.archiving.next(self.parts.clock.mono()) {
            let (parts, results) = (Arc::clone(&self.parts), self.results.clone());
            tokio::spawn(async move {
                let done = match task {
                    Task::Put => put(&parts, recording, false).await,
                    Task::PutAnew => put(&parts, recording, true).await,
                    Task::Delete => parts.delete(recording).await.map(|()| false),
                };
                // Whoever has ended needs no answer; so with all results here.
                let _ = results.send(Done::Task(recording, task, done));
            });
        }
        let count = |recordings: usize| i64::try_from(recordings).unwrap_or(i64::MAX);
        let pending = self.archiving.pending().saturating_sub(self.locked.len());
        self.parts.hub.metrics.archive.pending.set(count(pending));
        self.parts.hub.metrics.archive.locked.set(count(self.locked.len()));
    }

    /// Looks at the catalog, one thing at a time.
    fn look(&mut self) {
        let Some(look) = self.walk.next(Instant::now(), self.archiving.is_full()) else { return };
        let (parts, results) = (Arc::clone(&self.parts), self.results.clone());
        spawn_blocking(move || {
            let done = match look {
                Look::Entered(entered) => Done::Looked(parts.look_at_entered(entered)),
                Look::Page(behind) => {
                    let (looked, next) = parts.look_on(behind);
                    Done::Page(looked, next)
                }
            };
            // Whoever has ended needs no answer.
            let _ = results.send(done);
        });
    }

    fn wakes(&self) -> Instant {
        let now = Instant::now();
        let walk = self.walk.wakes(self.archiving.is_full());
        let due = self.archiving.wakes().map(|at| now + at.since(self.parts.clock.mono()));
        [walk, due, Some(self.owed_at)].into_iter().flatten().min().unwrap_or(now + WALK_EVERY)
    }
}
