//! Makes room below `al_mindiskfree`: voice files that the archive has go from this disk, the oldest first, until
//! enough is free again. Before each goes, all of it is read back from the archive and compared. Its record
//! stays, and says where it lies. Which may go is decided in [`super::core`]; what the archive does not have stays,
//! whatever is free, and the alarm `disklow` says that room is short.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use storage::VoiceError;
use storage_core::archived::Archived;
use storage_core::query::{Order, Position, Query};
use storage_core::{Recording, RecordingId};
use tokio::sync::{broadcast, mpsc};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use super::Parts;
use super::alarms;
use super::put::stored;
use crate::hub::Entered;
use crate::retention::core::is_low;

/// How often the disk is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Recordings looked at together.
const PAGE: usize = 100;
/// After all were gone through, and where the archive does not answer, it is tried again after so long.
const AGAIN: Duration = Duration::from_secs(10);
/// So often all of them are gone through.
const ANEW: Duration = Duration::from_secs(3600);

/// Works until it is aborted. What is found to be something else in the archive is told, so that it is put there
/// anew.
pub(super) async fn run(
    parts: Arc<Parts>,
    mut entered: broadcast::Receiver<Entered>,
    anew: mpsc::UnboundedSender<RecordingId>,
) {
    let mut walk = Walk::default();
    let (mut low, mut late) = (false, parts.media.stats().sweeps_late.value());
    loop {
        sleep(LOOK).await;
        walk.go_back(&parts, &mut entered).await;
        low = parts.is_low(low);
        while low && walk.rests_until.is_none_or(|until| until <= Instant::now()) {
            let Some((record, archived)) = walk.next(&parts).await else { break };
            match parts.let_go(&record, &archived).await {
                Gone::Yes => {}
                Gone::Differs => {
                    parts.hub.alarms.raise(alarms::differs(&record, &archived));
                    // Whoever has ended needs no answer.
                    let _ = anew.send(record.recordingid);
                }
                Gone::Unreadable => {
                    let _ = anew.send(record.recordingid);
                }
                Gone::NotNow => {
                    walk.found.push_front((record, archived));
                    walk.rest();
                }
            }
            parts.rest_while_late(&mut late).await;
            low = parts.is_low(low);
        }
    }
}

/// The way through the catalog, the oldest first. It goes on where it was, because before that place most are gone
/// already; and back to what was passed by there and is archived now.
struct Walk {
    behind: Option<Position>,
    found: VecDeque<(Recording, Archived)>,
    rests_until: Option<Instant>,
    anew_at: Instant,
}

impl Default for Walk {
    fn default() -> Self {
        let (found, anew_at) = (VecDeque::new(), Instant::now());
        Self { behind: None, found, rests_until: None, anew_at }
    }
}

impl Walk {
    /// Goes back to what is new in the catalog, if it was passed by.
    async fn go_back(&mut self, parts: &Arc<Parts>, entered: &mut broadcast::Receiver<Entered>) {
        loop {
            let id = match entered.try_recv() {
                Ok(Entered::One(id)) => id,
                Ok(Entered::Many) | Err(broadcast::error::TryRecvError::Lagged(_)) => {
                    self.anew_at = Instant::now();
                    continue;
                }
                Err(_) => return,
            };
            let catalog = Arc::clone(&parts.catalog);
            let listed = spawn_blocking(move || catalog.get(id).ok().flatten()).await;
            let Ok(Some(listed)) = listed else { continue };
            let passed = |behind: Position| behind.started_ms() >= listed.started.as_millis();
            if listed.archived.is_some() && self.behind.is_some_and(passed) {
                self.behind = Some(Position::at(listed.started));
                self.rests_until = None;
            }
        }
    }

    fn rest(&mut self) {
        self.rests_until = Some(Instant::now() + AGAIN);
    }

    /// The next one that may go, if there is one.
    async fn next(&mut self, parts: &Arc<Parts>) -> Option<(Recording, Archived)> {
        if self.anew_at <= Instant::now() {
            (self.behind, self.anew_at) = (None, Instant::now() + ANEW);
            self.found.clear();
        }
        while self.found.is_empty() {
            let (asked, behind) = (Arc::clone(parts), self.behind);
            // A panic there has been reported by the runtime.
            let page = spawn_blocking(move || asked.page(behind)).await.unwrap_or_default();
            if page.last.is_none() {
                self.rest();
                return None;
            }
            self.behind = page.last;
            self.found.extend(page.found);
        }
        self.found.pop_front()
    }
}

/// A page of what is listed.
#[derive(Default)]
struct Looked {
    /// Those that may go and lie here.
    found: Vec<(Recording, Archived)>,
    /// The last one of the page; none if there is none.
    last: Option<Position>,
}

enum Gone {
    Yes,
    /// What the archive has is something else.
    Differs,
    /// What the archive has is encrypted with a data key that is gone.
    Unreadable,
    /// The archive does not answer, or the disk does not do it.
    NotNow,
}

impl Parts {
    fn is_low(&self, was: bool) -> bool {
        // Where it cannot be told nothing is removed for it.
        let Ok(stat) = nix::sys::statvfs::statvfs(&self.datadir) else { return false };
        let unit = stat.fragment_size();
        let (free, total) = (stat.blocks_available() * unit, stat.blocks() * unit);
        is_low(free, self.reserve.bytes_of(total), was)
    }

    /// Looks at a page of all that is listed, the oldest first. Blocks.
    fn page(&self, behind: Option<Position>) -> Looked {
        let query = Query { cursor: behind, limit: PAGE, order: Order::Oldest, ..Query::default() };
        let page = match self.catalog.search(&query) {
            Ok(page) => page,
            Err(error) => {
                tracing::warn!(%error, "what may go from this disk cannot be told now");
                return Looked::default();
            }
        };
        let sight = self.sight();
        let may_go = |listed: &Recording| {
            // Most are left out by this; what counts in the end is the record on the disk.
            let passed_by = listed.hold || !self.voices.has_voice_file(listed);
            listed.archived.as_ref().filter(|_| !passed_by)?;
            let lying = self.voices.record(listed.recordingid, listed.started).ok()?;
            let archived = self.voices.archived_here(&lying).cloned();
            let may_go = sight.may_go(&lying, archived.as_ref());
            archived.filter(|_| may_go).map(|archived| (lying, archived))
        };
        let found = page.recordings.iter().filter_map(may_go).collect();
        let goes_on = || page.cursor.as_deref().and_then(Position::from_cursor);
        Looked { found, last: page.recordings.last().map(Position::of).or_else(goes_on) }
    }

    /// Removes a voice file here once it was read back from the archive.
    async fn let_go(self: &Arc<Self>, record: &Recording, archived: &Archived) -> Gone {
        let name = archived.place.strip_prefix(self.target.place()).unwrap_or_default();
        let name = name.trim_start_matches('/');
        let there = match self.target.head(name).await {
            Ok(Some(there)) if there.bytes == archived.bytes => there,
            Ok(_) => return Gone::Differs,
            Err(error) => return not_now(record, &error),
        };
        match stored(self, name, &there).await {
            Ok(sha256) if sha256 == archived.stored => {}
            Ok(_) => return Gone::Differs,
            Err(error) => return not_now(record, &error),
        }
        let (parts, known, note) = (Arc::clone(self), record.clone(), archived.clone());
        let removed = spawn_blocking(move || {
            // The file here may have another data key than what lies there, if it was mended.
            parts.voices.in_archive(&known)?;
            parts.voices.remove_archived(&note, &known)
        })
        .await;
        match removed {
            Ok(Ok(removed)) => {
                if removed {
                    self.hub.metrics.archive.removed.inc();
                    tracing::info!(recording = %record.recordingid, "it lies in the archive only, to make room");
                }
                Gone::Yes
            }
            Ok(Err(VoiceError::Erased { .. })) => Gone::Unreadable,
            Ok(Err(error)) => not_now(record, &error),
            Err(error) => not_now(record, &error),
        }
    }
}

fn not_now(record: &Recording, error: &dyn std::fmt::Display) -> Gone {
    tracing::debug!(recording = %record.recordingid, %error, "it stays on this disk for now");
    Gone::NotNow
}
