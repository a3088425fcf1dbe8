//! Keeps the database as the catalog is, as long as the node runs: reads from the catalog's feed what was not told
//! yet, tells it, and has the feed forget it. Recording and publishing never wait for it: what is pending lies in the
//! catalog, and takes neither memory nor a connection. What is told is decided in `merge`, when in `trouble`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use storage::catalog_feed::{Changed, Changes};
use storage::{CatalogError, DurableCatalog, VoiceStore};
use storage_core::{NodeId, RecordingId};
use tokio::sync::broadcast;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

use super::CatalogDatabase;
use super::connection::Connection;
use super::merge::{Deleted, State, Teller, Told};
use super::trouble::{Kind, Pace, Trouble, is_worth_an_alarm};
use super::write::tell;
use crate::alarms::Alarm;
use crate::hub::{Entered, Hub};

/// The alarm, also with a recording as its subject.
pub const ALARM: &str = "catalogdatabase";
/// A batch of rows is written within this.
const WRITTEN_WITHIN: Duration = Duration::from_secs(30);
/// Nothing was entered: deletions and what the feed has from elsewhere are looked for so often.
const LOOK: Duration = Duration::from_secs(1);
/// An idle database is asked so often whether it is still there, and the same.
const ASK: Duration = Duration::from_secs(10);
/// What the database refused is tried again after so long.
const REFUSED_AGAIN: Duration = Duration::from_secs(600);
/// So many recordings that it refused are told by name; of more it is told that there are.
const REFUSED_NAMED_MAX: usize = 20;
/// The subject of the alarm of those.
const OTHERS: &str = "others";
/// Deleted recordings that are noted in one commit.
const DELETED_AT_ONCE: usize = 4096;
/// How often it is counted what is pending.
const COUNT: Duration = Duration::from_secs(2);

/// What the writer works with.
pub struct Parts {
    /// The database.
    pub database: CatalogDatabase,
    /// Who tells.
    pub node: NodeId,
    /// What is told; it keeps a feed.
    pub catalog: Arc<DurableCatalog>,
    /// Knows what was deleted.
    pub voices: VoiceStore,
    /// Where it is told that something is wrong.
    pub hub: Arc<Hub>,
}

/// Writes until the node stops.
pub async fn run(parts: Parts) {
    let teller = Teller { site: parts.database.site.clone(), node: parts.node };
    let writer =
        Writer { parts: Arc::new(parts), teller, refused: BTreeMap::new(), named: BTreeSet::new() };
    let counting = Arc::clone(&writer.parts);
    tokio::join!(writer.run(), count_pending(counting));
}

struct Writer {
    parts: Arc<Parts>,
    teller: Teller,
    /// What the database has refused, and when.
    refused: BTreeMap<RecordingId, Instant>,
    /// Of which of them an alarm was raised.
    named: BTreeSet<RecordingId>,
}

impl Writer {
    async fn run(mut self) {
        let mut entered = self.parts.hub.entered();
        let mut pace = Pace::default();
        let (mut raised, mut failures) = (None, 0_u32);
        loop {
            let Err(trouble) = self.connected(&mut entered, &mut pace, &mut raised).await;
            failures = if self.parts.hub.metrics.database.up.get() == 1 { 1 } else { failures + 1 };
            self.parts.hub.metrics.database.up.set(0);
            // The reason that was told first stays while it is of the same kind: it says most.
            if is_worth_an_alarm(trouble.kind, failures) && raised != Some(trouble.kind) {
                raised = Some(trouble.kind);
                self.parts.hub.alarms.raise(self.alarm(&trouble));
            }
            tracing::debug!(%trouble, "the catalog's database");
            let wait = pace.failed(trouble.kind, share());
            sleep(wait).await;
        }
    }

    /// One connection, as long as it lasts.
    async fn connected(
        &mut self,
        entered: &mut broadcast::Receiver<Entered>,
        pace: &mut Pace,
        raised: &mut Option<Kind>,
    ) -> Result<std::convert::Infallible, Trouble> {
        let connection = Connection::open(&self.parts.database.place, WRITTEN_WITHIN).await?;
        let mut identity = connection.prepare().await?;
        let mut asked = Instant::now();
        loop {
            let more = self.tell_some(&connection, &identity, pace.rows()).await?;
            pace.done();
            self.parts.hub.metrics.database.up.set(1);
            if raised.take().is_some() {
                self.parts.hub.alarms.clear(ALARM, "");
            }
            if more {
                continue;
            }
            // Whether something was entered, and what, the feed tells.
            let _ = timeout(LOOK, entered.recv()).await;
            if connection.is_closed() {
                return Err(Trouble::away("it has closed the connection"));
            }
            if asked.elapsed() >= ASK {
                identity = connection.current().await?;
                asked = Instant::now();
            }
        }
    }

    /// Tells some of what is pending; false if nothing is.
    async fn tell_some(
        &mut self,
        connection: &Connection,
        identity: &str,
        most: usize,
    ) -> Result<bool, Trouble> {
        let reader = format!("{identity}\n{}", self.teller.site).into_bytes();
        let parts = Arc::clone(&self.parts);
        let gathered = in_background(move || parts.gather(&reader, most)).await?;
        self.refused.retain(|_, at| at.elapsed() < REFUSED_AGAIN);
        let (changes, mut told) = gathered;
        let nothing = changes.changed.is_empty();
        let before = told.len();
        told.retain(|one| !self.refused.contains_key(&one.id));
        let aside = before - told.len();
        if told.is_empty() && aside > 0 && changes.changed.len() < most {
            // All that is pending was refused: it stays as it is until it is tried again.
            return Ok(false);
        }
        let written = tell(connection, &told, &self.teller).await?;
        self.parts.hub.metrics.database.written.inc_by(written.rows);
        self.tell_refused(&told, written.refused);
        let again = changes.changed.iter().map(|changed| changed.id);
        let again: Vec<_> = again.filter(|id| self.refused.contains_key(id)).collect();
        let parts = Arc::clone(&self.parts);
        in_background(move || {
            parts.catalog.told(changes)?;
            if again.is_empty() { Ok(()) } else { parts.catalog.tell_again(again) }
        })
        .await?;
        // Where all that is left was refused there is nothing to be done now.
        Ok(!nothing && (aside == 0 || !told.is_empty()))
    }

    /// Keeps in mind what was refused, and tells of it; and no more of what was taken.
    fn tell_refused(&mut self, told: &[Told], now_refused: Vec<(RecordingId, Trouble)>) {
        let alarms = &self.parts.hub.alarms;
        for (id, trouble) in now_refused {
            self.refused.insert(id, Instant::now());
            if self.named.len() < REFUSED_NAMED_MAX || self.named.contains(&id) {
                self.named.insert(id);
                alarms.raise(refused(id, &trouble));
            }
        }
        for one in told {
            if !self.refused.contains_key(&one.id) && self.named.remove(&one.id) {
                alarms.clear(ALARM, &one.id.to_string());
            }
        }
        alarms.set(self.refused.len() > self.named.len(), others_refused());
    }

    fn alarm(&self, trouble: &Trouble) -> Alarm {
        let place = &self.parts.database.place.address;
        let (what, remedy) = match trouble.kind {
            Kind::Refused => (
                "does not let this node write",
                "see docs/postgresql.md: login, rights and version; recordings go on, and what waits is written then",
            ),
            _ => (
                "is away",
                "bring it back, or the network to it; recordings go on, and what waits in al_datadir is written then",
            ),
        };
        Alarm {
            name: ALARM,
            subject: String::new(),
            message: format!("the catalog's database {place} {what}: {trouble}"),
            remedy,
        }
    }
}

impl Parts {
    /// What is to be told next. Blocks.
    fn gather(&self, reader: &[u8], most: usize) -> Result<(Changes, Vec<Told>), CatalogError> {
        let changes = loop {
            match self.catalog.changes(reader, most)? {
                Ok(changes) => break changes,
                Err(_) => {
                    tracing::info!(
                        "the catalog's database is new to this node: it is told everything"
                    );
                    // Some at a time, because nothing can be entered meanwhile.
                    for deleted in self.voices.all_deleted().chunks(DELETED_AT_ONCE) {
                        self.catalog.tell_again(deleted.to_vec())?;
                    }
                    self.catalog.feed_anew(reader)?;
                }
            }
        };
        let told = changes.changed.iter().filter_map(|changed| self.said_of(changed)).collect();
        Ok((changes, told))
    }

    /// What there is to be said of a recording. That it is not listed is no reason to take it out: its catalog is
    /// being made anew, perhaps.
    fn said_of(&self, changed: &Changed) -> Option<Told> {
        let id = changed.id;
        let state = match self.voices.tombstone(id) {
            Ok(Some(tombstone)) => State::Deleted(Deleted {
                at: tombstone.at,
                by: tombstone.by,
                reason: tombstone.reason,
            }),
            _ => State::Listed(Box::new(changed.recording.clone()?)),
        };
        Some(Told { id, state })
    }
}

/// Keeps the metric of what is pending, also while the database is away.
async fn count_pending(parts: Arc<Parts>) {
    loop {
        let counted = Arc::clone(&parts);
        if let Ok(Ok(pending)) = spawn_blocking(move || counted.catalog.pending()).await {
            let all = pending.changed.saturating_add(pending.refill);
            parts.hub.metrics.database.pending.set(i64::try_from(all).unwrap_or(i64::MAX));
        }
        sleep(COUNT).await;
    }
}

async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CatalogError> + Send + 'static,
) -> Result<T, Trouble> {
    let done = spawn_blocking(work).await;
    let done = done.map_err(|_| Trouble::away("this node is stopping"))?;
    done.map_err(|error| {
        Trouble::away(format!("what is to be written cannot be read here: {error}"))
    })
}

const REFUSED_REMEDY: &str = "it stays in the local catalog, and is tried again every ten minutes; look at constraints \
                              and triggers that were added to the table astlogger.entry (the database's log has the \
                              reason); where there are none, tell who looks after the program";

fn refused(id: RecordingId, trouble: &Trouble) -> Alarm {
    Alarm {
        name: ALARM,
        subject: id.to_string(),
        message: format!("recording {id} is not taken by the catalog's database: {trouble}"),
        remedy: REFUSED_REMEDY,
    }
}

fn others_refused() -> Alarm {
    Alarm {
        name: ALARM,
        subject: OTHERS.to_owned(),
        message: format!(
            "the catalog's database does not take recordings, {REFUSED_NAMED_MAX} of which are told by name; there are more"
        ),
        remedy: REFUSED_REMEDY,
    }
}

/// Something between 0 and 1.
fn share() -> f64 {
    let mut byte = [0];
    // Without entropy all nodes wait equally long.
    let _ = getrandom::fill(&mut byte);
    f64::from(byte[0]) / 255.0
}
