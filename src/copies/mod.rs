//! Keeps the voice files here that should lie here: another recorder's (`al_mirror`), and this node's own
//! where they were lost. Which, from whom and when is decided in [`core`]; here the catalog is gone
//! through (each new entry, and all of it now and then), what lies on the disk is looked at (`look`), and
//! what is lacking is fetched from a member that has it, or from the archive (`fetch`). Nothing here is ever removed.

pub mod core;
mod fetch;
mod look;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cluster_core::{GroupView, mirror};
use recorder::clock::Clock;
use recorder::media_thread::MediaHandle;
use storage::{Catalog, VoiceStore};
use storage_core::RecordingId;
use storage_core::query::Position;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};

use self::core::{Copies, Outcome};
use self::fetch::{Fetched, fetch};
pub use self::fetch::{archived_over_damage, copy, copy_over_damage};
use self::look::{Looked, look_at, look_on};
use crate::alarms::Alarm;
use crate::catalog_walk::{CatalogWalk, Look, WALK_EVERY};
use crate::config::DiskShare;
use crate::hub::{Entered, Hub};
use crate::peers::Peers;
use crate::room;

/// Room on the disk is looked at so often while copies wait for it.
const ROOM_EVERY: Duration = Duration::from_secs(5);

/// What it works with.
pub struct Parts {
    /// The way to the other members.
    pub peers: Peers,
    /// `al_mirror`.
    pub mirror: bool,
    /// Where voice files lie.
    pub voices: VoiceStore,
    /// What is listed.
    pub catalog: Arc<dyn Catalog>,
    /// Where entries are told of, and where people hear of it.
    pub hub: Arc<Hub>,
    /// Tells whether the capture comes late: then copies rest.
    pub media: MediaHandle,
    /// `al_datadir`.
    pub datadir: PathBuf,
    /// What is to stay free there.
    pub reserve: DiskShare,
    /// Times.
    pub clock: Clock,
}

/// Works until it is aborted.
pub async fn run(parts: Parts) {
    let entered = parts.hub.entered();
    let views = parts.peers.group().view_watch();
    let me = parts.peers.group().node();
    let (results, taken) = mpsc::unbounded_channel();
    let copies = Copies::new(me, parts.mirror);
    let shell = Shell {
        copies,
        parts: Arc::new(parts),
        results,
        walk: CatalogWalk::new(Instant::now() + WALK_EVERY),
        room_at: None,
        alarmed: (false, false),
    };
    shell.run(entered, views, taken).await;
}

/// What was begun and is done.
enum Done {
    Looked(Looked),
    Page(Looked, Option<Position>),
    Fetched(RecordingId, Fetched),
}

struct Shell {
    copies: Copies,
    parts: Arc<Parts>,
    results: mpsc::UnboundedSender<Done>,
    walk: CatalogWalk,
    /// When room is looked for again.
    room_at: Option<Instant>,
    /// Whether room is short, and whether nobody has something, as it was told last.
    alarmed: (bool, bool),
}

impl Shell {
    async fn run(
        mut self,
        mut entered: broadcast::Receiver<Entered>,
        mut views: watch::Receiver<GroupView>,
        mut results: mpsc::UnboundedReceiver<Done>,
    ) {
        self.regroup(&views.borrow_and_update().clone());
        loop {
            self.act();
            let wakes = self.wakes();
            tokio::select! {
                changed = views.changed() => match changed {
                    Ok(()) => self.regroup(&views.borrow_and_update().clone()),
                    Err(_) => return,
                },
                told = entered.recv() => if !self.walk.told(Instant::now(), &told) {
                    return;
                },
                Some(done) = results.recv() => self.take(done),
                () = sleep_until(wakes) => {}
            }
        }
    }

    fn regroup(&mut self, view: &GroupView) {
        let recorders = mirror::recorders(view);
        let reachable = mirror::reachable(&recorders, view);
        if self.copies.regrouped(self.parts.clock.mono(), recorders, reachable) {
            self.walk.anew(Instant::now());
        }
    }

    fn take(&mut self, done: Done) {
        let now = self.parts.clock.mono();
        match done {
            Done::Looked(looked) => {
                self.walk.looked();
                self.compare(looked);
            }
            Done::Page(looked, next) => {
                self.walk.paged(Instant::now(), next);
                self.compare(looked);
            }
            Done::Fetched(recording, fetched) => {
                self.parts.hub.metrics.copies.inc_by(u64::from(fetched.copied));
                if fetched.outcome == Outcome::NoRoom {
                    self.room_at = Some(Instant::now() + ROOM_EVERY);
                }
                if fetched.outcome == Outcome::Settled {
                    // A later revision may have been listed meanwhile.
                    self.walk.entered(recording);
                }
                self.copies.ended(now, recording, fetched.outcome);
            }
        }
        if self.copies.take_missed() {
            self.walk.anew(Instant::now());
        }
    }

    fn compare(&mut self, looked: Looked) {
        let now = self.parts.clock.mono();
        for (listed, here) in looked {
            self.copies.compared(now, listed, here);
        }
    }

    /// Begins what is to be begun, and says how it stands.
    fn act(&mut self) {
        if self.room_at.is_some_and(|at| at <= Instant::now()) {
            let room = self.parts.has_room(0);
            self.copies.set_room(room);
            self.room_at = (!room).then(|| Instant::now() + ROOM_EVERY);
        }
        self.look();
        while let Some(order) = self.copies.next(self.parts.clock.mono()) {
            let (parts, results) = (Arc::clone(&self.parts), self.results.clone());
            tokio::spawn(async move {
                let recording = order.recording;
                let fetched = fetch(&parts, order).await;
                // Whoever has ended needs no answer; so with all results here.
                let _ = results.send(Done::Fetched(recording, fetched));
            });
        }
        let pending = i64::try_from(self.copies.pending()).unwrap_or(i64::MAX);
        self.parts.hub.metrics.copies_pending.set(pending);
        let alarmed = (self.copies.waits_for_room(), self.copies.nowhere() > 0);
        if alarmed != self.alarmed {
            self.alarmed = alarmed;
            self.parts.hub.alarms.set(alarmed.0, no_room(&self.parts));
            self.parts.hub.alarms.set(alarmed.1, missing());
        }
    }

    /// Looks at the disk, one thing at a time.
    fn look(&mut self) {
        let Some(look) = self.walk.next(Instant::now(), self.copies.is_full()) else { return };
        let (parts, results) = (Arc::clone(&self.parts), self.results.clone());
        spawn_blocking(move || {
            let done = match look {
                Look::Entered(entered) => {
                    Done::Looked(look_at(&parts.voices, &*parts.catalog, entered))
                }
                Look::Page(behind) => {
                    let (looked, next) = look_on(&parts.voices, &*parts.catalog, behind);
                    Done::Page(looked, next)
                }
            };
            // Whoever has ended needs no answer.
            let _ = results.send(done);
        });
    }

    fn wakes(&self) -> Instant {
        let now = Instant::now();
        let walk = self.walk.wakes(self.copies.is_full());
        let due = self.copies.wakes().map(|at| now + at.since(self.parts.clock.mono()));
        [walk, due, self.room_at].into_iter().flatten().min().unwrap_or(now + WALK_EVERY)
    }
}

impl Parts {
    /// Whether so many bytes leave what is to stay free.
    fn has_room(&self, bytes: u64) -> bool {
        room::leaves(&self.datadir, |total| self.reserve.bytes_of(total), bytes)
    }
}

fn no_room(parts: &Parts) -> Alarm {
    Alarm {
        name: "copiesnoroom",
        subject: String::new(),
        message: format!(
            "voice files that should be kept in {} are not: less would be free than al_mindiskfree \
             says",
            parts.datadir.display()
        ),
        remedy: "make room below al_datadir; recording goes on meanwhile",
    }
}

fn missing() -> Alarm {
    Alarm {
        name: "copiesmissing",
        subject: String::new(),
        message:
            "recordings are listed that should lie on this node, and no recorder has their voice \
                  files"
                .to_owned(),
        remedy: "restore them from a backup; if they were removed on purpose, run astlogger \
                 reindex on all recorders while they are stopped",
    }
}
