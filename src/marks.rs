//! Writes down what people say of recordings (tags, notes, scores, legal hold), on this node and on all others that record:
//! in the catalog, in the record beside the voice file where that lies here, and in the debt to the other
//! nodes, which is paid as soon as each can be reached. How changes of several nodes become one is decided
//! in [`storage_core::marks`] and [`storage_core::hold`], who may write in the web server.
//!
//! ```text
//! a change ──▶ owed to all, this node too ──▶ catalog ──▶ record on the disk ──▶ this node's debt is paid
//!                      │
//!                      └──▶ each other node, when it can be reached ──▶ its debt is paid when it says so
//! ```
//!
//! So whatever breaks off after the first step is gone through again at the next start. The catalog comes
//! before the record on the disk: a copy that is being fetched meanwhile is compared with the catalog once it
//! lies here, and takes from it what it lacks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cluster_core::GroupView;
use recorder::clock::Clock;
use serde_json::{Map, Value, json};
use storage::owed::ARCHIVE;
use storage::{Catalog, Owed, VoiceError, VoiceStore};
use storage_core::archived::Archived;
use storage_core::hold::HoldError;
use storage_core::marks::Marks;
use storage_core::tombstone::Tombstone;
use storage_core::{NodeId, Recording, RecordingId, Role};
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::hub::Hub;
use crate::peers::{PeerError, Peers};
use crate::web::backend::{Code, Failure, HoldRequest, MarkRequest, Topic};

/// Whoever could not be told is told again after so long.
const AGAIN: Duration = Duration::from_secs(2);
/// A peer's answer.
const TOLD_WITHIN: Duration = Duration::from_secs(3);
/// Recordings that one peer is told of before another gets its turn.
const TURN: usize = 64;

/// What it works with.
pub struct Marker {
    /// The way to the other members.
    pub peers: Peers,
    /// The members that the configuration names: they count until the group has been heard.
    pub configured: Vec<NodeId>,
    /// Where records lie.
    pub voices: VoiceStore,
    /// What is listed.
    pub catalog: Arc<dyn Catalog>,
    /// Who hears of it.
    pub hub: Arc<Hub>,
    /// Who is still to hear of what.
    pub owed: Owed,
    /// Whether there is an archive, which is to hear of deletions.
    pub archive: bool,
    /// One change at a time.
    pub turn: Mutex<()>,
    /// Something is owed anew.
    pub news: Notify,
}

/// What another node is to hear of a recording.
enum Word {
    Marks(Marks),
    Deleted(Tombstone),
}

impl Marker {
    /// Does what a person asks. The answer is the record as it is then; durable here by that time. Blocks.
    ///
    /// # Errors
    /// `notfound`; `badvalue` where a limit is reached; `internal`.
    pub fn mark(&self, request: &MarkRequest) -> Result<Recording, Failure> {
        let MarkRequest { recording, marking, by } = request;
        let change = |record: &mut Recording| {
            let done = marking.apply(record, &by.user, Clock::wall(), self.node());
            done.map_err(|error| Failure::new(Code::BadValue, error.to_string()))
        };
        let others = self.others(&self.peers.group().view());
        self.change(*recording, others, change)
    }

    /// Holds a recording or releases it, as `mark` does.
    ///
    /// # Errors
    /// `notfound`; `forbidden` to who has asked for the release already; `badvalue`; `internal`.
    pub fn hold(&self, request: &HoldRequest) -> Result<Recording, Failure> {
        let HoldRequest { recording, holding, by } = request;
        let change = |record: &mut Recording| {
            let done = holding.apply(record, &by.user, Clock::wall(), self.node());
            done.map_err(|error| {
                let same = matches!(error, HoldError::SamePerson { .. });
                let code = if same { Code::Forbidden } else { Code::BadValue };
                Failure::new(code, error.to_string())
            })
        };
        let others = self.others(&self.peers.group().view());
        self.change(*recording, others, change)
    }

    /// Takes over what another node tells. Blocks.
    ///
    /// # Errors
    /// `notfound` where the recording is not listed here yet; `internal`.
    pub fn learn(&self, marks: &Marks) -> Result<(), Failure> {
        let change = |record: &mut Recording| Ok(marks.merge_into(record));
        // Whoever wrote it tells the others itself.
        self.change(marks.recordingid, Vec::new(), change).map(drop)
    }

    /// Writes down that a recording lies in the archive, and tells the others. Nothing is written of one that is
    /// another by now. Blocks.
    ///
    /// # Errors
    /// `notfound`; `unavailable`, `internal`.
    pub fn archived(&self, id: RecordingId, archived: &Archived) -> Result<(), Failure> {
        let change = |record: &mut Recording| Ok(archived.merge_into(record));
        let others = self.others(&self.peers.group().view());
        self.change(id, others, change).map(drop)
    }

    fn change(
        &self,
        id: RecordingId,
        others: Vec<NodeId>,
        change: impl FnOnce(&mut Recording) -> Result<bool, Failure>,
    ) -> Result<Recording, Failure> {
        let _turn = self.turn();
        let known = self.catalog.get(id).map_err(internal)?;
        let unknown = || Failure::new(Code::NotFound, format!("no recording {id}"));
        let mut record = known.ok_or_else(unknown)?;
        let before = record.clone();
        if !change(&mut record)? {
            // The catalog may have it from elsewhere, and the record on the disk not yet.
            self.voices.mark(&record).map_err(not_written)?;
            return Ok(record);
        }
        self.owed.owe(id, others.into_iter().chain([self.node()])).map_err(not_written)?;
        // Also if it breaks off: then it is gone through again.
        self.news.notify_one();
        self.write(&record)?;
        self.settled(id);
        self.tell(&before, &record);
        Ok(record)
    }

    fn write(&self, record: &Recording) -> Result<(), Failure> {
        if !self.hub.enter(record, &*self.catalog) {
            return Err(Failure::new(Code::Internal, "the catalog does not take it: see the log"));
        }
        self.voices.mark(record).map(drop).map_err(not_written)
    }

    /// One change at a time.
    pub(crate) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this node owed itself is done.
    pub(crate) fn settled(&self, id: RecordingId) {
        for (recording, mark) in self.owed.to(self.node()) {
            if recording == id {
                self.told(self.node(), id, mark);
            }
        }
    }

    fn told(&self, node: NodeId, id: RecordingId, mark: storage::owed::Mark) {
        if let Err(error) = self.owed.told(node, id, mark) {
            tracing::warn!(%error, "what was written about a recording is told once more");
        }
    }

    fn tell(&self, before: &Recording, record: &Recording) {
        let about = |members: [(&str, Value); 2]| {
            let members = members.map(|(name, value)| (name.to_owned(), value));
            let mut body = Map::from_iter(members);
            body.insert("recordingid".to_owned(), json!(record.recordingid));
            body
        };
        let event = |eventtype, body| {
            let extensions = vec![record.extension.clone()];
            self.hub.spread(Topic::Recordings, eventtype, extensions, body);
        };
        if (&before.tagmarks, &before.notes) != (&record.tagmarks, &record.notes) {
            let body = about([("tags", json!(record.tags)), ("notes", json!(record.notes))]);
            event("recordingtagged", body);
        }
        if before.scores != record.scores {
            let scores = ("scores".to_owned(), json!(record.scores));
            let recording = ("recordingid".to_owned(), json!(record.recordingid));
            event("recordingscored", Map::from_iter([recording, scores]));
        }
        if before.holdmark != record.holdmark {
            let body = about([("hold", json!(record.hold)), ("holdmark", json!(record.holdmark))]);
            event("legalholdchanged", body);
        }
    }

    /// What broke off, be it by the node's end: catalog and record on the disk get what either of them has.
    /// Tells whether nothing is left to be done.
    fn finish(&self) -> bool {
        let _turn = self.turn();
        let mut whole = true;
        for (id, mark) in self.owed.to(self.node()) {
            if let Ok(Some(tombstone)) = self.voices.tombstone(id) {
                let done = self.finish_deletion(&tombstone);
                if done {
                    self.told(self.node(), id, mark);
                }
                whole &= done;
                continue;
            }
            let listed = self.catalog.get(id).ok().flatten();
            let lying = self.voices.published(id).ok().flatten();
            let done = match (listed, lying) {
                (Some(mut listed), lying) => {
                    if let Some(lying) = lying {
                        Marks::of(&lying).merge_into(&mut listed);
                    }
                    self.write(&listed).is_ok()
                }
                (None, Some(lying)) => self.write(&lying).is_ok(),
                // The catalog is being rebuilt, perhaps.
                (None, None) => false,
            };
            if done {
                self.told(self.node(), id, mark);
            }
            whole &= done;
        }
        whole
    }

    pub(crate) fn node(&self) -> NodeId {
        self.peers.group().node()
    }

    /// All others that record, whether they can be reached or not.
    pub(crate) fn others(&self, view: &GroupView) -> Vec<NodeId> {
        let known = view.members.iter().filter(|member| member.role != Some(Role::Witness));
        let mut others: Vec<NodeId> = known.map(|member| member.node).collect();
        if !is_heard(view) {
            others.extend(&self.configured);
        }
        others.sort_unstable();
        others.dedup();
        others.retain(|node| *node != view.node);
        others
    }

    /// What is to be told of a recording now.
    fn word(&self, id: RecordingId) -> Option<Word> {
        if let Some(tombstone) = self.voices.tombstone(id).ok()? {
            return Some(Word::Deleted(tombstone));
        }
        Some(Word::Marks(Marks::of(&self.catalog.get(id).ok()??)))
    }

    /// Tells one node what it is to hear. False if there is more to be told, later.
    async fn pay(self: &Arc<Self>, node: NodeId) -> bool {
        let owed = self.owed.to(node);
        let mut all = owed.len() <= TURN;
        for (id, mark) in owed.into_iter().take(TURN) {
            let asked = Arc::clone(self);
            let word = spawn_blocking(move || {
                // A change that is owed is in the catalog when its turn is over, not before.
                let _turn = asked.turn();
                asked.word(id)
            });
            let Ok(Some(word)) = word.await else { return false };
            let told = match word {
                Word::Marks(marks) => self.peers.learn_marks(node, marks, TOLD_WITHIN).await,
                Word::Deleted(tombstone) => {
                    let told = self.peers.learn_deletion(node, tombstone, TOLD_WITHIN).await;
                    if let Err(PeerError::Refused(failure)) = &told {
                        // It holds the recording, or is of an earlier version: others come first. Who holds it
                        // and why is nothing for the log.
                        let code = failure.code.as_str();
                        tracing::debug!(%node, code, "a recording is not deleted there now");
                        all = false;
                        continue;
                    }
                    told
                }
            };
            if let Err(error) = told {
                tracing::debug!(%node, ?error, "it hears later what was written about a recording");
                return false;
            }
            let paid = Arc::clone(self);
            let _ = spawn_blocking(move || paid.told(node, id, mark)).await;
        }
        all
    }
}

/// Tells the others, as long as the node runs.
pub async fn spread(marker: Arc<Marker>) {
    loop {
        let finishing = Arc::clone(&marker);
        let mut paid = spawn_blocking(move || finishing.finish()).await.unwrap_or(false);
        let view = marker.peers.group().view();
        let others = marker.others(&view);
        for node in marker.owed.nodes() {
            let reachable = view.member(node).is_some_and(|member| member.reachable);
            if node == view.node || node == ARCHIVE {
                // The archive is told by whoever works on it.
                continue;
            } else if reachable && others.contains(&node) {
                paid &= marker.pay(node).await;
            } else if is_heard(&view) && !others.contains(&node) {
                // It has left the group, or never records. A node that joins asks for everything.
                forget(&marker, node).await;
            } else {
                paid = false;
            }
        }
        if paid {
            marker.news.notified().await;
        } else {
            // That there is news does not make whoever was away come back.
            let _ = timeout(AGAIN, marker.news.notified()).await;
        }
    }
}

/// A record that has just come to lie here gets what people wrote while it was on its way, which only the
/// catalog has. Blocks.
pub fn complete(id: RecordingId, catalog: &dyn Catalog, voices: &VoiceStore) {
    let Ok(Some(listed)) = catalog.get(id) else { return };
    if Marks::of(&listed).is_empty() {
        return;
    }
    if let Err(error) = voices.mark(&listed) {
        tracing::error!(recording = %id, %error, "tags, notes, scores and legal hold are not in the record on the disk");
    }
}

async fn forget(marker: &Arc<Marker>, node: NodeId) {
    let marker = Arc::clone(marker);
    let forgotten = spawn_blocking(move || {
        for (id, mark) in marker.owed.to(node) {
            marker.told(node, id, mark);
        }
    });
    // A panic there has been reported by the runtime.
    let _ = forgotten.await;
}

/// Whether the group has told who is in it.
fn is_heard(view: &GroupView) -> bool {
    view.members.len() > 1
}

pub(crate) fn internal(error: impl std::fmt::Display) -> Failure {
    Failure::new(Code::Internal, error.to_string())
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
pub(crate) fn not_written(error: VoiceError) -> Failure {
    let message = format!("it cannot be written down: {error}; make room below al_datadir");
    Failure::new(Code::Unavailable, message)
}
