//! A node that answers for its whole group. Each recorder's catalog lists all recordings, so a
//! search is answered here, and on a witness by any recorder; audio comes from the node on which it
//! lies; calls are gathered from all recorders; what changes something is done by one of them.
//! Whoever cannot be reached is named, never just missing. Whom to ask is decided in `choose`, what
//! is asked and how long an answer may take here; `peers` carries it.

mod audit;
pub(crate) mod choose;
mod levels;
mod listen;
mod mark;
mod pause;
mod sites;

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use cluster::Group;
use futures_util::future::{BoxFuture, join_all};
use serde_json::{Map, Value};
use storage::FetchFormat;
use storage_core::query::Query;
use storage_core::tombstone::Tombstone;
use storage_core::{Extension, NodeId, Recording, RecordingId, Role, Ucid, WallTime};
use tokio::sync::broadcast;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout, timeout_at};

use crate::audit_pages::{Listing as AuditListing, Question as AuditQuestion};
use crate::completeness::SeenDay;
use crate::peers::protocol::Held;
use crate::peers::{PeerError, PeerService, Peers, RemoteAudio};
use crate::web::backend::{
    Audio, Backend, CallList, Code, DeleteRequest, Event, Failure, Hearing, HoldRequest, Listing,
    MarkRequest, PauseReply, PauseRequest, StartRequest, StopRequest, Target, Unreachable,
};
pub use pause::spread as spread_pauses;
pub use sites::OtherSites;

use choose::{Sight, merge_calls, most_telling, names, recorders_of};
use levels::put_level;

/// A peer's answer to a quick question.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// A peer's answer to a search, which may read much.
const SEARCH_WITHIN: Duration = Duration::from_secs(3);
/// Finding out who records a call, before a start.
const LOOK_WITHIN: Duration = Duration::from_millis(500);
/// A start or a stop, whoever does it (interface, section 7).
const ACT_WITHIN: Duration = Duration::from_secs(3);
/// A peer's start ends so long before, so that there is time to say who did not answer.
const MARGIN: Duration = Duration::from_millis(100);
/// A repair, of hours of audio perhaps.
const REPAIR_WITHIN: Duration = Duration::from_secs(60);
/// One member's stop, which waits for nothing.
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// This node and, through it, the others.
#[derive(Clone)]
pub struct GroupBackend {
    local: Arc<dyn PeerService>,
    peers: Peers,
    role: Role,
    configured: Arc<[NodeId]>,
    sites: Option<sites::Sites>,
}

impl GroupBackend {
    /// Answers for the group of this node. `configured` are the members that the configuration
    /// names; they count until the group itself has been heard. To be called within the runtime in
    /// which it is to work.
    #[must_use]
    pub fn new(
        local: Arc<dyn PeerService>,
        group: Group,
        role: Role,
        configured: impl IntoIterator<Item = NodeId>,
    ) -> Self {
        let configured = configured.into_iter().collect();
        Self { local, peers: Peers::new(group), role, configured, sites: None }
    }

    fn sight(&self) -> Sight {
        Sight::of(&self.peers.group().view(), self.role, &self.configured)
    }

    /// The same with the witness.
    fn sight_of_all(&self) -> Sight {
        Sight::of_all(&self.peers.group().view(), self.role, &self.configured)
    }

    fn node(&self) -> NodeId {
        self.peers.group().node()
    }

    /// Asks several peers at once.
    async fn ask_all<T, F>(
        &self,
        nodes: Vec<NodeId>,
        ask: impl Fn(Peers, NodeId) -> F,
    ) -> Vec<(NodeId, Result<T, PeerError>)>
    where
        F: Future<Output = Result<T, PeerError>>,
    {
        let asked = nodes.into_iter().map(|node| {
            let answer = ask(self.peers.clone(), node);
            async move { (node, answer.await) }
        });
        join_all(asked).await
    }

    /// What the peers know of a recording, and who of them said nothing.
    async fn records(&self, sight: &Sight, id: RecordingId) -> (Vec<(NodeId, Held)>, Vec<NodeId>) {
        let asked = self.ask_all(sight.peers(), |peers, node| async move {
            peers.records(node, vec![id], ANSWER_WITHIN).await
        });
        let mut found = Vec::new();
        let mut silent = Vec::new();
        for (node, answer) in asked.await {
            match answer {
                Ok(records) => found.extend(
                    records
                        .into_iter()
                        .filter(|held| held.record.recordingid == id)
                        .map(|held| (node, held)),
                ),
                Err(_) => silent.push(node),
            }
        }
        (found, silent)
    }

    /// A record as this group lists it.
    fn own_recording(&self, id: RecordingId) -> Result<Option<Recording>, Failure> {
        let own = self.local.recording(id);
        if !matches!(own, Ok(None)) || self.local.is_deleted(id) || !self.sight().has_peers() {
            return own;
        }
        let group = self.clone();
        self.peers.wait(async move { group.recording_of_peers(id).await })
    }

    /// A record that is not listed here, from whoever lists it.
    async fn recording_of_peers(&self, id: RecordingId) -> Result<Option<Recording>, Failure> {
        let sight = self.sight();
        let (found, silent) = self.records(&sight, id).await;
        if let Some((_, held)) = found.into_iter().next() {
            return Ok(Some(held.record));
        }
        let nobody = !sight.i_record() && silent.len() == sight.peers().len();
        let missing = sight.silent(silent);
        if missing.is_empty() {
            return Ok(None);
        }
        let names = names(&missing);
        Err(if nobody {
            Failure::new(Code::Unavailable, format!("no recorder can be reached: {names}"))
        } else {
            let message = format!("no recording {id}; what cannot be reached may have it: {names}");
            Failure::new(Code::NotFound, message)
        })
    }

    /// On a witness: a page from the first recorder that answers.
    async fn search_peers(&self, query: Query) -> Result<Listing, Failure> {
        let sight = self.sight();
        let mut silent = Vec::new();
        let mut refusal = None;
        for node in sight.peers() {
            match self.peers.search(node, query.clone(), SEARCH_WITHIN).await {
                Ok(page) => {
                    let unreachable = sight.silent(silent);
                    return Ok(Listing { page: page.into(), unreachable, ..Listing::default() });
                }
                Err(PeerError::Refused(failure)) => refusal = Some(failure),
                Err(error) => {
                    tracing::debug!(%node, ?error, "a peer does not search");
                    silent.push(node);
                }
            }
        }
        let nobody = || {
            let names = names(&sight.silent(silent));
            Failure::new(Code::Unavailable, format!("no recorder can be reached: {names}"))
        };
        Err(refusal.unwrap_or_else(nobody))
    }

    /// Audio that does not lie here: from the node that owns it, or from one that holds a copy.
    async fn open_remote(
        &self,
        record: Recording,
        format: FetchFormat,
    ) -> Result<Box<dyn Audio>, Failure> {
        let (id, owner, sight) = (record.recordingid, record.node, self.sight());
        let open = |node| RemoteAudio::open(self.peers.clone(), node, id, format);
        let why = if sight.reaches(owner) {
            match open(owner).await {
                Ok(audio) => return Ok(Box::new(audio)),
                Err(PeerError::Refused(failure)) if failure.code != Code::NotFound => {
                    return Err(failure);
                }
                Err(error) => error.into_failure(),
            }
        } else if owner == self.node() {
            Failure::new(Code::NotFound, format!("the voice file of {id} is not here"))
        } else {
            let message = format!("{} cannot be reached", sight.name(owner));
            Failure::new(Code::Unavailable, message)
        };
        let (found, _) = self.records(&sight, id).await;
        let holders = found.into_iter().filter(|(node, held)| held.held && *node != owner);
        for (node, _) in holders {
            match open(node).await {
                Ok(audio) => return Ok(Box::new(audio)),
                Err(error) => tracing::debug!(%node, ?error, "a copy cannot be opened"),
            }
        }
        if why.code == Code::NotFound {
            return Err(Failure::new(why.code, format!("node {owner}: {}", why.message)));
        }
        let Failure { code, message } = why;
        let message =
            format!("recording {id} lies on node {owner}, which does not answer: {message}");
        Err(Failure::new(code, message))
    }

    /// The calls that each recorder sees, and who did not say.
    async fn calls_of_all(
        &self,
        sight: &Sight,
        within: Duration,
    ) -> (Vec<(NodeId, Vec<Value>)>, Vec<NodeId>) {
        let asked = self
            .ask_all(sight.peers(), |peers, node| async move { peers.calls(node, within).await });
        let own = timeout(within, self.local.calls());
        let (own, asked) = tokio::join!(own, asked);
        let mut lists = Vec::new();
        let mut silent = Vec::new();
        if sight.i_record() {
            match own {
                Ok(own) => lists.push((self.node(), own.calls)),
                Err(_) => silent.push(self.node()),
            }
        }
        for (node, answer) in asked {
            match answer {
                Ok(calls) => lists.push((node, calls)),
                Err(error) => {
                    tracing::debug!(%node, ?error, "a peer does not tell its calls");
                    silent.push(node);
                }
            }
        }
        (lists, silent)
    }

    async fn concerned(&self, target: Target, extension: Extension) -> bool {
        let own = timeout(ANSWER_WITHIN, self.local.concerns(&target, &extension)).await;
        if own.unwrap_or(false) {
            return true;
        }
        let asked = self.ask_all(self.sight().peers(), |peers, node| {
            let (target, extension) = (target.clone(), extension.clone());
            async move { peers.concerns(node, target, extension, ANSWER_WITHIN).await }
        });
        asked.await.into_iter().any(|(_, answer)| answer == Ok(true))
    }

    /// One member starts it. Another is tried only when it is certain that none has.
    async fn start(
        &self,
        request: StartRequest,
        deadline: Instant,
    ) -> Result<RecordingId, Failure> {
        let sight = self.sight();
        let (lists, _) = self.calls_of_all(&sight, LOOK_WITHIN).await;
        let recording = recorders_of(&lists, &request.target);
        let ready = self.local.readiness().is_ok();
        let mut failures = Vec::new();
        let mut silent = Vec::new();
        for node in sight.start_order(ready, &recording) {
            let outcome = if node == self.node() {
                self.local.start_recording(request.clone()).await.map_err(PeerError::Refused)
            } else {
                let left = (deadline - MARGIN).saturating_duration_since(Instant::now());
                self.peers.start(node, request.clone(), left).await
            };
            match outcome {
                Ok(id) => return Ok(id),
                Err(PeerError::Refused(failure)) if !may_be_tried_elsewhere(failure.code) => {
                    return Err(failure);
                }
                Err(PeerError::Refused(failure)) => failures.push(failure),
                Err(PeerError::NotAsked(failure)) => {
                    silent.push(node);
                    failures.push(failure);
                }
                Err(PeerError::Unanswered(failure)) => {
                    let message = format!("{}; it may record all the same", failure.message);
                    return Err(Failure::new(failure.code, message));
                }
            }
        }
        Err(with_names(most_telling(failures), &sight.silent(silent)))
    }

    /// Who owns the recording repairs it.
    async fn repair_at_owner(&self, record: Recording) -> Result<RecordingId, Failure> {
        let (id, owner, sight) = (record.recordingid, record.node, self.sight());
        if owner == self.node() {
            return self.local.repair(id).await;
        }
        if !sight.reaches(owner) {
            let message = format!("{} owns {id} and cannot be reached", sight.name(owner));
            return Err(Failure::new(Code::Unavailable, message));
        }
        let repaired = self.peers.repair(owner, id, REPAIR_WITHIN).await;
        repaired.map_err(PeerError::into_failure)
    }

    /// All that record the call stop.
    async fn stop(&self, request: StopRequest) -> Result<RecordingId, Failure> {
        let sight = self.sight();
        let own = async {
            if !sight.i_record() {
                return None;
            }
            let own = timeout(STOP_WITHIN, self.local.stop_recording(request.clone())).await;
            let late = || Failure::new(Code::Unavailable, "this node's recorder does not answer");
            let own = own.map_err(|_| PeerError::Unanswered(late()));
            Some((self.node(), own.and_then(|own| own.map_err(PeerError::Refused))))
        };
        let peers = self.ask_all(sight.peers(), |peers, node| {
            let request = request.clone();
            async move { peers.stop(node, request, STOP_WITHIN).await }
        });
        let (own, peers) = tokio::join!(own, peers);
        let mut stopped = BTreeSet::new();
        let mut failures = Vec::new();
        let mut silent = Vec::new();
        for (node, outcome) in own.into_iter().chain(peers) {
            match outcome {
                Ok(id) => {
                    stopped.insert(id);
                }
                Err(error) if error.is_silence() => silent.push(node),
                Err(error) => failures.push(error.into_failure()),
            }
        }
        let missing = sight.silent(silent);
        match stopped.into_iter().next() {
            Some(id) => Ok(id),
            // It may be recorded by one that cannot be asked.
            None if !missing.is_empty() => {
                let told = most_telling(failures).map_or_else(String::new, |f| f.message + "; ");
                let message =
                    format!("{told}what cannot be reached may record it: {}", names(&missing));
                Err(Failure::new(Code::Unavailable, message))
            }
            None => Err(with_names(most_telling(failures), &[])),
        }
    }
}

/// Nothing was begun, and another may see the call, have a phantom, or have a link to its AES.
fn may_be_tried_elsewhere(code: Code) -> bool {
    matches!(code, Code::NoCall | Code::NoPhantom | Code::Unavailable)
}

fn with_names(told: Option<Failure>, missing: &[Unreachable]) -> Failure {
    let nobody = || Failure::new(Code::Unavailable, "no recorder can be reached");
    let Failure { code, message } = told.unwrap_or_else(nobody);
    if missing.is_empty() {
        return Failure { code, message };
    }
    Failure::new(code, format!("{message}; cannot be reached: {}", names(missing)))
}

impl Backend for GroupBackend {
    fn search(&self, query: &Query) -> Result<Listing, Failure> {
        let sight = self.sight();
        if sight.i_record() || !sight.has_peers() {
            let listing = self.local.search(query)?;
            return Ok(Listing { unreachable: sight.unreachable(), ..listing });
        }
        let (group, query) = (self.clone(), query.clone());
        self.peers.wait(async move { group.search_peers(query).await })
    }

    fn find(&self, query: &Query) -> Result<Listing, Failure> {
        self.find_in_all_sites(query)
    }

    fn own_site(&self) -> Option<String> {
        self.own_site_name()
    }

    fn other_site(&self, id: RecordingId) -> Result<Option<String>, Failure> {
        if !is_unknown(&self.own_recording(id)) {
            return Ok(None);
        }
        Ok(self.of_other_site(id)?.map(|(_, site)| site))
    }

    fn recording(&self, id: RecordingId) -> Result<Option<Recording>, Failure> {
        let own = self.own_recording(id);
        if !is_unknown(&own) || self.local.is_deleted(id) {
            return own;
        }
        match self.in_all_sites(id)? {
            Some((found, _)) => Ok(Some(found)),
            None => own,
        }
    }

    fn open_audio(&self, id: RecordingId, format: FetchFormat) -> Result<Box<dyn Audio>, Failure> {
        let unknown = || Failure::new(Code::NotFound, format!("no recording {id}"));
        let own = self.own_recording(id);
        if is_unknown(&own)
            && let Some((record, site)) = self.of_other_site(id)?
        {
            return Err(sites::lies_elsewhere(&record, &site));
        }
        let record = own?.ok_or_else(unknown)?;
        if record.node == self.node() {
            match self.local.open_audio(id, format) {
                // Its disk was lost, perhaps: another has a copy.
                Err(failure) if failure.code == Code::NotFound && self.sight().has_peers() => {}
                opened => return opened,
            }
        } else if self.local.holds(&record)
            // A whole copy here is as good as the owner's.
            && let Ok(audio) = self.local.open_audio(id, format)
        {
            return Ok(audio);
        }
        let group = self.clone();
        self.peers.wait(async move { group.open_remote(record, format).await })
    }

    fn seen(&self, day: WallTime) -> Result<SeenDay, Failure> {
        let mut seen = self.local.seen(day)?;
        let sight = self.sight();
        if !sight.has_peers() {
            return Ok(seen);
        }
        let (group, nodes) = (self.clone(), sight.peers());
        let answers = self.peers.wait(async move {
            let asked = group.ask_all(nodes, |peers, node| async move {
                peers.seen(node, day, SEARCH_WITHIN).await
            });
            Ok(asked.await)
        })?;
        let mut silent = Vec::new();
        for (node, answer) in answers {
            match answer {
                Ok(calls) => seen.calls.extend(calls),
                Err(error) => {
                    tracing::debug!(%node, ?error, "a peer does not tell what it saw");
                    silent.push(node);
                }
            }
        }
        seen.unreachable = sight.silent(silent);
        Ok(seen)
    }

    fn audit(&self, question: &AuditQuestion) -> Result<AuditListing, Failure> {
        let (group, question) = (self.clone(), question.clone());
        self.peers.wait(async move { group.audit_of_all(question).await })
    }

    fn calls(&self) -> BoxFuture<'static, CallList> {
        let group = self.clone();
        Box::pin(async move {
            let sight = group.sight();
            let (told, levels) =
                tokio::join!(group.calls_of_all(&sight, ANSWER_WITHIN), group.levels(&sight));
            let (lists, silent) = told;
            let mut calls = merge_calls(lists.into_iter().map(|(_, calls)| calls));
            calls.iter_mut().for_each(|call| put_level(call, &levels));
            CallList { calls, unreachable: sight.silent(silent) }
        })
    }

    fn listen(&self, ucid: &Ucid) -> BoxFuture<'static, Result<Hearing, Failure>> {
        Box::pin(self.clone().hear(ucid.clone()))
    }

    fn concerns(&self, target: &Target, extension: &Extension) -> BoxFuture<'static, bool> {
        let (group, target, extension) = (self.clone(), target.clone(), extension.clone());
        Box::pin(async move { group.concerned(target, extension).await })
    }

    fn start_recording(
        &self,
        request: StartRequest,
    ) -> BoxFuture<'static, Result<RecordingId, Failure>> {
        if !self.sight().has_peers() {
            return self.local.start_recording(request);
        }
        let group = self.clone();
        Box::pin(async move {
            let deadline = Instant::now() + ACT_WITHIN;
            within(deadline, group.start(request, deadline)).await
        })
    }

    fn stop_recording(
        &self,
        request: StopRequest,
    ) -> BoxFuture<'static, Result<RecordingId, Failure>> {
        if !self.sight().has_peers() {
            return self.local.stop_recording(request);
        }
        let group = self.clone();
        Box::pin(async move { within(Instant::now() + ACT_WITHIN, group.stop(request)).await })
    }

    fn pause_recording(
        &self,
        request: PauseRequest,
    ) -> BoxFuture<'static, Result<PauseReply, Failure>> {
        if !self.sight().has_peers() {
            return self.local.pause_recording(request);
        }
        let group = self.clone();
        Box::pin(async move { within(Instant::now() + ACT_WITHIN, group.pause(request)).await })
    }

    fn mark(&self, request: MarkRequest) -> BoxFuture<'static, Result<Recording, Failure>> {
        let group = self.clone();
        Box::pin(async move {
            let id = request.recording;
            group.or_elsewhere(id, group.mark_at_one(request).await).await
        })
    }

    fn hold(&self, request: HoldRequest) -> BoxFuture<'static, Result<Recording, Failure>> {
        let group = self.clone();
        Box::pin(async move {
            let id = request.recording;
            group.or_elsewhere(id, group.hold_at_one(request).await).await
        })
    }

    fn delete(&self, request: DeleteRequest) -> BoxFuture<'static, Result<Tombstone, Failure>> {
        let group = self.clone();
        Box::pin(async move {
            let id = request.recording;
            group.or_elsewhere(id, group.delete_at_one(request).await).await
        })
    }

    fn repair(&self, id: RecordingId) -> BoxFuture<'static, Result<RecordingId, Failure>> {
        let group = self.clone();
        Box::pin(async move {
            let looking = group.clone();
            let found = spawn_blocking(move || {
                let own = looking.own_recording(id);
                if is_unknown(&own)
                    && let Some((record, site)) = looking.of_other_site(id)?
                {
                    return Err(sites::lies_elsewhere(&record, &site));
                }
                own
            });
            let found = found.await;
            let broken = || Failure::new(Code::Internal, "the catalog does not answer");
            let unknown = || Failure::new(Code::NotFound, format!("no recording {id}"));
            let record = found.unwrap_or_else(|_| Err(broken()))?.ok_or_else(unknown)?;
            group.repair_at_owner(record).await
        })
    }

    fn cluster_status(&self) -> Map<String, Value> {
        self.local.cluster_status()
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<Event>> {
        self.local.subscribe()
    }

    fn readiness(&self) -> Result<(), Vec<String>> {
        self.local.readiness()
    }

    fn metrics(&self) -> String {
        self.local.metrics()
    }
}

/// Whether nobody in this group is known to list it.
fn is_unknown(own: &Result<Option<Recording>, Failure>) -> bool {
    match own {
        Ok(found) => found.is_none(),
        Err(failure) => failure.code == Code::NotFound,
    }
}

async fn within<T>(
    deadline: Instant,
    asked: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let late = || Failure::new(Code::Unavailable, "the group did not answer within 3 s");
    timeout_at(deadline, asked).await.unwrap_or_else(|_| Err(late()))
}
