//! Reads the voice files of this node over, one after the other and in no hurry, tells of each that is not what
//! was written, and puts the copy of another recorder, or else the archive's, in its place. When and how fast is decided in [`core`];
//! what is damage, and how a right copy takes its place, in [`storage::scrub`]. The capture goes first. The lines
//! of manifest and audit log are checked in `logs`.

pub mod core;
mod logs;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cluster_core::mirror;
use recorder::clock::Clock;
use recorder::media_thread::MediaHandle;
use storage::scrub::{Damage, Examined};
use storage::{Catalog, VoiceStore};
use storage_core::query::{Order, Position, Query};
use storage_core::{NodeId, Recording, RecordingId};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use self::core::{Next, Progress, Rounds, pace, rest};
pub use self::logs::check_logs;
use crate::alarms::Alarm;
use crate::copies;
use crate::hub::Hub;
use crate::peers::Peers;

/// After a start others are found first, and the catalog is brought in line.
const FIRST: Duration = Duration::from_secs(5);
/// A round goes on so long after a start: other things are more urgent then. Whoever asks need not wait.
const ROUND_FIRST: Duration = Duration::from_secs(120);
/// What was put aside, and whether there is something to do, is looked at so often.
const LOOK: Duration = Duration::from_secs(2);
/// What could not be mended is tried again after so long, or when another recorder comes back.
const AGAIN: Duration = Duration::from_secs(60);
/// Recordings that are asked of the catalog together.
const PAGE: usize = 100;
/// While the capture comes late.
const LATE_REST: Duration = Duration::from_millis(500);

/// What it works with.
pub struct Parts {
    /// `al_scrubdays`: each file is read over in this time.
    pub every: Duration,
    /// The way to the other recorders.
    pub peers: Peers,
    /// Where voice files lie.
    pub voices: VoiceStore,
    /// What is listed.
    pub catalog: Arc<dyn Catalog>,
    /// Where people hear of it.
    pub hub: Arc<Hub>,
    /// Tells whether the capture comes late: then this rests.
    pub media: MediaHandle,
    /// `al_datadir`.
    pub datadir: PathBuf,
    /// Changes when somebody wants all files read over now.
    pub asked: watch::Receiver<u64>,
    /// Whom to tell that the archive's file is of no use any more; absent where there is no archive.
    pub anew: Option<mpsc::UnboundedSender<RecordingId>>,
}

/// Works until it is aborted.
pub async fn run(parts: Parts) {
    let mut from = Instant::now() + ROUND_FIRST;
    sleep(FIRST).await;
    let (mut asked, mut told) = (parts.asked.clone(), parts.asked.clone());
    let voices = parts.voices.clone();
    let note = spawn_blocking(move || voices.scrub_note()).await.ok().flatten();
    let kept: Option<Progress> = note.and_then(|note| serde_json::from_slice(&note).ok());
    let before = kept.as_ref().map(|kept| kept.damaged.clone()).unwrap_or_default();
    let mut scrub = Scrub {
        rounds: Rounds::new(parts.every, kept, Clock::wall()),
        parts: Arc::new(parts),
        running: Arc::new(Running(AtomicBool::new(true))),
        damaged: BTreeMap::new(),
        aside: BTreeMap::new(),
        tried: (Instant::now(), BTreeSet::new()),
    };
    for recording in before {
        scrub.look_at(recording).await;
    }
    loop {
        scrub.tell_aside().await;
        scrub.mend_again().await;
        if asked.has_changed().unwrap_or(false) {
            asked.mark_unchanged();
            scrub.rounds.begin(Clock::wall());
            from = Instant::now();
        }
        let wait = match scrub.rounds.next(Clock::wall()) {
            Next::Read(behind) if from <= Instant::now() => {
                scrub.page(behind).await;
                continue;
            }
            Next::Read(_) => LOOK,
            Next::Wait(time) => time.min(LOOK),
        };
        tokio::select! {
            () = sleep(wait) => {}
            Ok(()) = told.changed() => {}
        }
    }
}

/// Whether whoever reads is to go on: a long file must not hold up the end of the node.
struct Running(AtomicBool);

struct Scrub {
    parts: Arc<Parts>,
    rounds: Rounds,
    running: Arc<Running>,
    /// What is damaged and not mended.
    damaged: BTreeMap<RecordingId, (Recording, Damage)>,
    /// What was put aside, as it was told last.
    aside: BTreeMap<RecordingId, PathBuf>,
    /// When mending was tried last, and with whom.
    tried: (Instant, BTreeSet<NodeId>),
}

impl Drop for Scrub {
    fn drop(&mut self) {
        self.running.0.store(false, Ordering::Relaxed);
    }
}

impl Scrub {
    /// Reads over what a page of the catalog lists.
    async fn page(&mut self, behind: Option<Position>) {
        let catalog = Arc::clone(&self.parts.catalog);
        let query = Query { cursor: behind, limit: PAGE, order: Order::Oldest, ..Query::default() };
        let page = match spawn_blocking(move || catalog.search(&query)).await {
            Ok(Ok(page)) => page,
            Ok(Err(error)) => {
                tracing::warn!(%error, "what is to be read over cannot be told now");
                return sleep(AGAIN).await;
            }
            // A panic there has been reported by the runtime.
            Err(_) => return sleep(AGAIN).await,
        };
        for record in page.recordings {
            let place = Position::of(&record);
            self.examine(record).await;
            self.rounds.passed(Some(place));
        }
        match page.cursor.as_deref().and_then(Position::from_cursor) {
            Some(next) => self.rounds.passed(Some(next)),
            None => self.rounds.passed(None),
        }
        self.keep().await;
    }

    /// Looks once more at something that was damaged before a restart.
    async fn look_at(&mut self, recording: RecordingId) {
        let catalog = Arc::clone(&self.parts.catalog);
        let listed = spawn_blocking(move || catalog.get(recording)).await;
        if let Ok(Ok(Some(record))) = listed {
            self.examine(record).await;
        }
    }

    async fn examine(&mut self, record: Recording) {
        let (id, parts) = (record.recordingid, Arc::clone(&self.parts));
        let (running, wanted) = (Arc::clone(&self.running), record.clone());
        let read = spawn_blocking(move || parts.read_over(&wanted, &running)).await;
        match read {
            Ok(Examined::Damaged(damage)) => self.found(record, damage).await,
            Ok(Examined::Whole | Examined::Nothing) if self.damaged.remove(&id).is_some() => {
                self.parts.hub.alarms.clear("bitrot", &id.to_string());
            }
            // A panic there has been reported by the runtime.
            Ok(_) | Err(_) => {}
        }
    }

    async fn found(&mut self, record: Recording, damage: Damage) {
        let id = record.recordingid;
        if !self.damaged.contains_key(&id) {
            let path = damage.path.display().to_string();
            tracing::error!(recording = %id, path, why = damage.what, "a file is damaged");
            self.parts.hub.metrics.bitrot.with_label_values(&["found"]).inc();
        }
        let sources = self.sources();
        let why = self.mend(&record, &sources).await;
        if let Some(why) = why {
            self.parts.hub.alarms.raise(damaged(id, &damage, &why));
            self.damaged.insert(id, (record, damage));
            self.tried = (Instant::now(), sources);
        } else {
            self.damaged.remove(&id);
            self.tell_aside().await;
        }
        self.keep().await;
    }

    /// Puts a right copy in the place of what is damaged. Why not, if it cannot be.
    async fn mend(&self, record: &Recording, sources: &BTreeSet<NodeId>) -> Option<String> {
        let parts = &self.parts;
        let mut why = "there is no other recorder".to_owned();
        if self.recorders().len() > 1 {
            "no other recorder can be reached".clone_into(&mut why);
        }
        for node in sources {
            let (peers, voices, media) = (&parts.peers, &parts.voices, &parts.media);
            match copies::copy_over_damage(peers, voices, media, *node, record).await {
                Ok(()) => {
                    let recording = record.recordingid;
                    tracing::warn!(%recording, %node, "the copy from there has taken its place");
                    self.is_mended(record);
                    return None;
                }
                Err(error) => why = format!("node {node} has no right copy ({error})"),
            }
        }
        if parts.voices.archived_here(record).is_none() {
            return Some(why);
        }
        match copies::archived_over_damage(&parts.voices, &parts.media, record).await {
            Ok(()) => {
                let recording = record.recordingid;
                tracing::warn!(%recording, "the archive's copy has taken its place");
                self.is_mended(record);
                None
            }
            Err(error) => Some(format!("{why}, and the archive has no right copy ({error})")),
        }
    }

    fn is_mended(&self, record: &Recording) {
        let parts = &self.parts;
        parts.hub.metrics.bitrot.with_label_values(&["mended"]).inc();
        // Encrypted it has another data key now, and the one of what lies in the archive is gone.
        let encrypted = parts.voices.archived_here(record).is_some_and(|noted| noted.encrypted);
        if let Some(anew) = parts.anew.as_ref().filter(|_| encrypted) {
            // Whoever has ended needs no answer.
            let _ = anew.send(record.recordingid);
        }
    }

    /// Tries once more what could not be mended, if there is a reason to.
    async fn mend_again(&mut self) {
        let came_back = self.sources().difference(&self.tried.1).next().is_some();
        if self.damaged.is_empty() || !came_back && self.tried.0.elapsed() < AGAIN {
            return;
        }
        self.tried = (Instant::now(), self.sources());
        let waiting: Vec<_> = self.damaged.values().map(|(record, _)| record.clone()).collect();
        for record in waiting {
            // Somebody may have restored it, or deleted the recording.
            self.examine(record).await;
        }
    }

    fn recorders(&self) -> BTreeSet<NodeId> {
        mirror::recorders(&self.parts.peers.group().view())
    }

    /// The other recorders that answer.
    fn sources(&self) -> BTreeSet<NodeId> {
        let view = self.parts.peers.group().view();
        let mut others = mirror::recorders(&view);
        others.remove(&view.node);
        mirror::reachable(&others, &view)
    }

    /// Tells of each file that was put aside as long as it is there.
    async fn tell_aside(&mut self) {
        let voices = self.parts.voices.clone();
        let Ok(Ok(aside)) = spawn_blocking(move || voices.aside()).await else { return };
        let aside: BTreeMap<_, _> = aside.into_iter().collect();
        if aside == self.aside {
            return;
        }
        let alarms = &self.parts.hub.alarms;
        for id in self.aside.keys().filter(|id| !aside.contains_key(id)) {
            alarms.clear("bitrot", &id.to_string());
        }
        for (id, path) in aside.iter().filter(|(id, _)| !self.damaged.contains_key(id)) {
            alarms.raise(mended(*id, path));
        }
        self.aside = aside;
    }

    async fn keep(&mut self) {
        let progress = self.rounds.progress(self.damaged.keys().copied());
        let Ok(note) = serde_json::to_vec(progress) else { return };
        let voices = self.parts.voices.clone();
        if let Ok(Err(error)) = spawn_blocking(move || voices.note_scrub(&note)).await {
            // Then some files are read over twice.
            tracing::debug!(%error, "how far the files were read over cannot be noted");
        }
    }
}

impl Parts {
    /// Reads over what lies here of a recording, slowly. Blocks.
    fn read_over(&self, record: &Recording, running: &Running) -> Examined {
        let pace = pace(used_bytes(&self.datadir), self.every);
        let late = || self.media.stats().sweeps_late.value();
        let mut late_before = late();
        self.voices.examine(record, &mut |count| {
            self.hub.metrics.scrubbed_bytes.inc_by(count as u64);
            let late_now = late();
            let is_late = std::mem::replace(&mut late_before, late_now) != late_now;
            std::thread::sleep(if is_late { LATE_REST } else { rest(count, pace) });
            running.0.load(Ordering::Relaxed)
        })
    }
}

/// What lies on the file system of a folder: not less than the voice files there.
fn used_bytes(folder: &Path) -> u64 {
    let stat = nix::sys::statvfs::statvfs(folder);
    stat.map_or(0, |stat| stat.blocks().saturating_sub(stat.blocks_free()) * stat.fragment_size())
}

fn damaged(recording: RecordingId, damage: &Damage, why: &str) -> Alarm {
    let Damage { path, what } = damage;
    Alarm {
        name: "bitrot",
        subject: recording.to_string(),
        message: format!(
            "{} of recording {recording} is damaged: {what}; it is not mended: {why}",
            path.display()
        ),
        remedy: "look at the disk, and restore the file from a backup; it is mended by itself once another \
                 recorder, or the archive, has a right copy",
    }
}

fn mended(recording: RecordingId, path: &Path) -> Alarm {
    Alarm {
        name: "bitrot",
        subject: recording.to_string(),
        message: format!(
            "a file of recording {recording} was damaged, and a right copy, of another recorder or out of the archive, has \
             taken its place; the damaged one is {}",
            path.display()
        ),
        remedy: "look at the disk (its own counters, the kernel's log); remove the damaged file when nobody needs it",
    }
}
