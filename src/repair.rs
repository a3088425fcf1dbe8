//! Repairs a recording of an active-active group on the node that owns it: finds the other copy of the
//! call, has its voice file brought here, has a third file made of the two, publishes it, and tells
//! the other recorders. What is filled from where is the recorder's matter; who may ask, the web server's.
//!
//! A repair is named after what it is made of, so whoever asks again gets the same one, and two who ask at once
//! do too. It is made only while all recorders can be reached: then each of them lists it at once, and none has to
//! find out later.

use std::sync::Arc;
use std::time::Duration;

use cluster_core::mirror;
use recorder::media_thread::MediaHandle;
use recorder::repairing::{RepairError, RepairJob, repair};
use recorder::sealer::yield_to_others;
use recorder::sealing::VoiceSettings;
use sha2::{Digest, Sha256};
use storage::{Catalog, Lies, Staged, VoiceStore};
use storage_core::query::{LIMIT_MAX, Query};
use storage_core::{NodeId, Recording, RecordingId};
use tokio::sync::{Mutex, oneshot};
use tokio::task::spawn_blocking;

use crate::copies;
use crate::hub::Hub;
use crate::peers::Peers;
use crate::web::backend::{Code, Failure};

/// A peer's answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// The copies of a call begin within so long of each other.
const BEGIN_WITHIN: Duration = Duration::from_secs(600);

/// What a repair needs of its node.
pub struct Repairs {
    /// The way to the other members.
    pub peers: Peers,
    /// Where voice files lie.
    pub voices: VoiceStore,
    /// What is listed.
    pub catalog: Arc<dyn Catalog>,
    /// Who hears of what is published.
    pub hub: Arc<Hub>,
    /// Tells whether the capture comes late: then copying rests.
    pub media: MediaHandle,
    /// How voice files are written.
    pub settings: VoiceSettings,
    /// One at a time.
    pub turn: Mutex<()>,
}

impl Repairs {
    /// Repairs a recording that this node owns, and gives the name of what was made, or made before.
    ///
    /// # Errors
    /// `notfound`, `badvalue` where nothing can be repaired, `unavailable`, `internal`.
    pub async fn repair(self: Arc<Self>, id: RecordingId) -> Result<RecordingId, Failure> {
        let _turn = self.turn.lock().await;
        let asked = Arc::clone(&self);
        let (record, other) = blocking(move || asked.copies_of(id)).await?;
        let name = name_of(&record, &other);
        let others = self.all_recorders()?;
        let asked = Arc::clone(&self);
        let made = match blocking(move || asked.known(name)).await? {
            Some(known) => known,
            None => {
                self.make(RepairJob {
                    name,
                    ahead_us: self.ahead_us(&other),
                    repaired: record,
                    other,
                })
                .await?
            }
        };
        for node in others {
            let listed = self.peers.list(node, made.clone(), ANSWER_WITHIN).await;
            listed.map_err(|error| {
                let Failure { code, message } = error.into_failure();
                let message = format!(
                    "{name} is made, and node {node} does not list it yet ({message}); ask again"
                );
                Failure::new(code, message)
            })?;
        }
        Ok(name)
    }

    /// What is to be repaired, and the other copy of its call.
    fn copies_of(&self, id: RecordingId) -> Result<(Recording, Recording), Failure> {
        let record = self.known(id)?;
        let record =
            record.ok_or_else(|| Failure::new(Code::NotFound, format!("no recording {id}")))?;
        let refused = |message: &str| Err(Failure::new(Code::BadValue, format!("{id} {message}")));
        if let Some(repaired) = record.repairof {
            return refused(&format!("is itself a repair, of {repaired}; name that one"));
        }
        let query = Query {
            from: Some(record.started - BEGIN_WITHIN),
            to: Some(record.ended),
            extension: Some(record.extension.as_str().to_owned()),
            limit: LIMIT_MAX,
            ..Query::default()
        };
        let page = self.catalog.search(&query).map_err(internal)?;
        let mut others: Vec<Recording> =
            page.recordings.into_iter().filter(|other| is_copy(&record, other)).collect();
        others.sort_by_key(|other| other.started.micros_since(record.started).abs());
        match others.into_iter().next() {
            Some(other) => Ok((record, other)),
            None => refused("has no other copy: only active-active groups make two of each call"),
        }
    }

    fn known(&self, id: RecordingId) -> Result<Option<Recording>, Failure> {
        self.catalog.get(id).map_err(internal)
    }

    /// All other recorders, if they can be reached.
    fn all_recorders(&self) -> Result<Vec<NodeId>, Failure> {
        let view = self.peers.group().view();
        let mut others = mirror::recorders(&view);
        others.remove(&view.node);
        let reachable = mirror::reachable(&others, &view);
        match others.difference(&reachable).next() {
            None => Ok(others.into_iter().collect()),
            Some(away) => {
                let message = format!(
                    "node {away} cannot be reached, and would not list what is made: try again when it is back"
                );
                Err(Failure::new(Code::Unavailable, message))
            }
        }
    }

    fn ahead_us(&self, other: &Recording) -> i64 {
        let view = self.peers.group().view();
        view.clock_offset_us.get(&other.node).copied().unwrap_or(0)
    }

    /// Makes it and publishes it here.
    async fn make(self: &Arc<Self>, job: RepairJob) -> Result<Recording, Failure> {
        self.bring(&job.repaired).await?;
        self.bring(&job.other).await?;
        let (store, settings) = (self.voices.clone(), self.settings);
        let (done, made) = oneshot::channel();
        let worker = move || {
            yield_to_others();
            // Whoever asked has gone, perhaps: what is staged is published or discarded at the next start.
            drop(done.send(repair(&job, &store, settings)));
        };
        std::thread::Builder::new().name("repair".to_owned()).spawn(worker).map_err(internal)?;
        let made = made.await.map_err(|_| internal("the repair broke off"))?;
        let staged = made.map_err(|error| repair_failure(&error))?;
        let publishing = Arc::clone(self);
        blocking(move || publishing.publish(&staged)).await
    }

    /// Sees to it that the voice file of a recording lies here.
    async fn bring(self: &Arc<Self>, record: &Recording) -> Result<(), Failure> {
        let (looking, wanted) = (Arc::clone(self), record.clone());
        let lies = blocking(move || looking.voices.lies(&wanted).map_err(internal)).await?;
        if matches!(lies, Lies::This(_) | Lies::Archived(_)) {
            return Ok(());
        }
        let (id, node) = (record.recordingid, record.node);
        let nowhere = |reason: &dyn std::fmt::Display| {
            let message =
                format!("the voice file of {id} cannot be had from node {node}: {reason}");
            Failure::new(Code::Unavailable, message)
        };
        if node == self.peers.group().node() {
            return Err(nowhere(&"it does not lie here as its record says; run astlogger verify"));
        }
        let copied = copies::copy(&self.peers, &self.voices, &self.media, node, record).await;
        copied.map_err(|error| nowhere(&error))
    }

    fn publish(&self, staged: &Staged) -> Result<Recording, Failure> {
        let record = self.voices.publish_staged(staged).map_err(internal)?;
        self.hub.published(&record);
        if !self.hub.enter(&record, &*self.catalog) {
            return Err(internal("the catalog does not take it"));
        }
        self.hub.tell_published(&record);
        Ok(record)
    }

    /// Lists what was made on another node.
    ///
    /// # Errors
    /// `internal` if the catalog does not take it.
    pub fn list(&self, record: &Recording) -> Result<(), Failure> {
        let known = self.known(record.recordingid)?;
        let is_listed = known.is_some_and(|known| known.revision >= record.revision);
        match is_listed || self.hub.enter_published(record, &*self.catalog) {
            true => Ok(()),
            false => Err(internal("the catalog does not take it")),
        }
    }
}

/// Whether two recordings are the two copies of one.
fn is_copy(one: &Recording, other: &Recording) -> bool {
    let is_same_call = match (&one.ucid, &other.ucid) {
        (Some(one), Some(other)) => one == other,
        _ => one.callids == other.callids,
    };
    is_same_call
        && one.copy != other.copy
        && other.repairof.is_none()
        && (&one.extension, one.scope) == (&other.extension, other.scope)
        && other.started < one.ended
        && one.started < other.ended
}

/// Of the same files it is the same.
fn name_of(record: &Recording, other: &Recording) -> RecordingId {
    let parts = [record, other].map(|part| format!("{} {}\n", part.recordingid, part.sha256));
    let digest = Sha256::digest(parts.concat());
    let mut entropy = [0; 10];
    entropy.copy_from_slice(&digest[..10]);
    RecordingId::new(record.recordingid.made(), entropy)
}

fn repair_failure(error: &RepairError) -> Failure {
    let code = match error {
        RepairError::NothingToFill => Code::BadValue,
        RepairError::Unread { .. } => Code::Unavailable,
        RepairError::Unwritten(_) | RepairError::Voice(_) => Code::Internal,
    };
    Failure::new(code, error.to_string())
}

fn internal(error: impl std::fmt::Display) -> Failure {
    Failure::new(Code::Internal, error.to_string())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    spawn_blocking(work).await.unwrap_or_else(|_| Err(internal("it broke off")))
}
