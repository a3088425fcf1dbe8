//! What the group of nodes tells the call machine: this node's mandate, who the others are, and which
//! recordings are claimed. It keeps and looks up; what follows from it is decided in
//! [`super::cover`] and [`super::trigger`]. The group itself (its log, its votes) is unknown here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use storage_core::draft::Draft;
use storage_core::record::{Scope, TriggerKind};
use storage_core::{CallId, Duty, Extension, NodeId, RecordingId, Ucid, WallTime};

use super::tracked::TrackedCall;

/// Two nodes see the begin of a call without identity through two AES and two clocks.
const BEGAN_TOLERANCE_MICROS: u64 = 2_000_000;

/// What this node is to do, and under which grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mandate {
    /// What to do.
    pub duty: Duty,
    /// Under which grant; claims carry it.
    pub epoch: u64,
    /// Whether a lead takes over the calls in progress, too.
    pub moves: bool,
    /// Which copy this node's recordings are.
    pub copy: u8,
    /// Whether a majority can be reached, so that what the group knows is new.
    pub quorum: bool,
    /// Among those who stand by, from 1: the second waits twice as long.
    pub rank: u8,
}

impl Mandate {
    /// Of a node that has no peers.
    #[must_use]
    pub const fn alone(duty: Duty) -> Self {
        Self { duty, epoch: 0, moves: true, copy: 1, quorum: true, rank: 1 }
    }
}

/// Another node that records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Which copy its recordings are.
    pub copy: u8,
    /// Whether it answers this node, or the group says that it does.
    pub alive: bool,
    /// Whether it can record, and is not to be relieved of its calls.
    pub serves: bool,
    /// Whether it stands by: its phantoms are in calls for its ring, unless it has claimed them.
    pub stands_by: bool,
    /// Its phantoms.
    pub phantoms: BTreeSet<Extension>,
}

/// Who holds a recording now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Which node.
    pub node: NodeId,
    /// Under which grant its capture was begun.
    pub epoch: u64,
}

/// How a recording came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Its call ended, or nobody worth recording was left.
    Ended,
    /// Somebody stopped it: rules do not record this call again.
    Stopped,
}

/// A recording as the group has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// Its name.
    pub recording: RecordingId,
    /// The call's identity when it was first claimed.
    pub ucid: Option<Ucid>,
    /// The call's number then.
    pub callid: CallId,
    /// When the call was established, if known.
    pub began: Option<WallTime>,
    /// Which copy.
    pub copy: u8,
    /// Which recording of the call in this copy, from 1.
    pub take: u16,
    /// What it follows.
    pub scope: Scope,
    /// Who asked for it.
    pub trigger: TriggerKind,
    /// The rule that decided; empty if none did.
    pub rule: String,
    /// The station for which it is made.
    pub extension: Extension,
    /// Who holds it; nobody if its capture ended or was lost.
    pub holder: Option<Holder>,
    /// Whether its last capture broke off rather than ended.
    pub broken: bool,
    /// Whether it is over.
    pub over: Option<Over>,
    /// Whether a capture of this node's is part of it.
    pub ours: bool,
}

/// How long to wait for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// `al_rescuems`.
    pub rescue: Duration,
    /// `al_followms`.
    pub follow: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { rescue: Duration::from_millis(400), follow: Duration::from_millis(200) }
    }
}

/// The group as it was told last.
#[derive(Debug)]
pub(super) struct Book {
    pub mandate: Mandate,
    pub peers: BTreeMap<NodeId, Peer>,
    claimed: BTreeMap<RecordingId, Claimed>,
    /// Of these, the ones that the group has done with.
    closed: BTreeSet<RecordingId>,
    /// Of these, the ones that this node has ended, before the group says so.
    ended: BTreeMap<RecordingId, Over>,
    by_ucid: BTreeMap<Ucid, BTreeSet<RecordingId>>,
    by_callid: BTreeMap<CallId, BTreeSet<RecordingId>>,
}

impl Book {
    pub const fn new() -> Self {
        Self {
            mandate: Mandate::alone(Duty::None),
            peers: BTreeMap::new(),
            claimed: BTreeMap::new(),
            closed: BTreeSet::new(),
            ended: BTreeMap::new(),
            by_ucid: BTreeMap::new(),
            by_callid: BTreeMap::new(),
        }
    }

    pub fn put(&mut self, mut claimed: Claimed) {
        let id = claimed.recording;
        let ended = self.ended.get(&id).copied();
        self.remove(id);
        if let (Some(over), None) = (ended, claimed.over) {
            self.ended.insert(id, over);
            claimed.over = Some(over);
        }
        if let Some(ucid) = &claimed.ucid {
            self.by_ucid.entry(ucid.clone()).or_default().insert(id);
        }
        self.by_callid.entry(claimed.callid.clone()).or_default().insert(id);
        self.claimed.insert(id, claimed);
    }

    /// This node has ended it: for its own calls it is over from now on.
    pub fn end(&mut self, id: RecordingId, over: Over) {
        self.ended.insert(id, over);
        if let Some(claimed) = self.claimed.get_mut(&id) {
            claimed.over.get_or_insert(over);
        }
    }

    /// Whether it is over, and the group has said so.
    pub fn is_over(&self, id: RecordingId) -> bool {
        let over = self.claimed.get(&id).is_some_and(|claimed| claimed.over.is_some());
        over && !self.ended.contains_key(&id)
    }

    /// Its call has ended here, and the number may be another call's in the next moment.
    pub fn forget_number(&mut self, id: RecordingId) {
        if let Some(claimed) = self.claimed.get(&id) {
            prune(&mut self.by_callid, &claimed.callid, id);
        }
    }

    /// Nobody holds it any more, whatever was told of it before.
    pub fn close(&mut self, id: RecordingId, over: Over) {
        if let Some(claimed) = self.claimed.get_mut(&id) {
            (claimed.holder, claimed.over) = (None, Some(over));
            self.closed.insert(id);
        }
    }

    /// Forgets what is closed, but for these.
    pub fn forget_closed(&mut self, but: &BTreeSet<RecordingId>) {
        for id in self.closed.difference(but).copied().collect::<Vec<_>>() {
            self.remove(id);
        }
    }

    pub fn is_closed(&self, id: RecordingId) -> bool {
        self.closed.contains(&id)
    }

    pub fn remove(&mut self, id: RecordingId) {
        self.closed.remove(&id);
        self.ended.remove(&id);
        let Some(claimed) = self.claimed.remove(&id) else { return };
        if let Some(ucid) = &claimed.ucid {
            prune(&mut self.by_ucid, ucid, id);
        }
        prune(&mut self.by_callid, &claimed.callid, id);
    }

    pub fn get(&self, id: RecordingId) -> Option<&Claimed> {
        self.claimed.get(&id)
    }

    pub fn all(&self) -> impl Iterator<Item = &Claimed> {
        self.claimed.values()
    }

    /// The call's recording in this copy: the one that goes on; of several (a merge brought them
    /// together) the one that broke off rather than ended, then that under the call's own
    /// identity, then the newest.
    pub fn of_call<'a>(&'a self, call: &TrackedCall, copy: u8) -> Option<&'a Claimed> {
        let own = |claimed: &Claimed| claimed.ucid.is_some() && claimed.ucid == call.ucid;
        self.matches(call).filter(|claimed| claimed.copy == copy).max_by_key(|claimed| {
            let goes_on = claimed.over.is_none();
            (goes_on, claimed.holder.is_some(), claimed.broken, own(claimed), claimed.take)
        })
    }

    /// All recordings of this call, in any copy.
    pub fn matches<'a>(
        &'a self,
        call: &TrackedCall,
    ) -> impl Iterator<Item = &'a Claimed> + use<'a> {
        let ucids = call.ucid.iter().chain(&call.former);
        let by_ucid = ucids.filter_map(|ucid| self.by_ucid.get(ucid)).flatten();
        let by_number = call.ids.iter().filter_map(|id| self.by_callid.get(id)).flatten();
        let by_number = by_number
            .filter(|id| self.claimed.get(id).is_some_and(|claimed| same_by_number(claimed, call)));
        let ids: BTreeSet<RecordingId> = by_ucid.chain(by_number).copied().collect();
        ids.into_iter().filter_map(|id| self.claimed.get(&id))
    }

    /// Whether the call's identity of now is that of another recording in the same copy: a merge
    /// brought the two together.
    pub fn is_of_another(&self, call: &TrackedCall, draft: &Draft) -> bool {
        let of_now = call.ucid.as_ref().filter(|ucid| draft.ucid.as_ref() != Some(ucid));
        let others = of_now.and_then(|ucid| self.by_ucid.get(ucid)).into_iter().flatten();
        let mut others = others.filter(|id| **id != draft.groupname());
        draft.ucid.is_some()
            && others.any(|id| self.get(*id).is_some_and(|other| other.copy == draft.copy))
    }

    /// Which copy a phantom of another node records for; `None` if nobody knows whose it is.
    pub fn owner_of(&self, phantom: &Extension) -> Option<(NodeId, &Peer)> {
        let mut peers = self.peers.iter();
        peers.find(|(_, peer)| peer.phantoms.contains(phantom)).map(|(node, peer)| (*node, peer))
    }

    pub fn is_alive(&self, node: NodeId) -> bool {
        self.peers.get(&node).is_some_and(|peer| peer.alive)
    }

    /// Whether a node answers and can record.
    pub fn serves(&self, node: NodeId) -> bool {
        self.peers.get(&node).is_some_and(|peer| peer.alive && peer.serves)
    }

    /// Whether a node that answers is to be relieved of its calls.
    pub fn is_to_be_relieved(&self, node: NodeId) -> bool {
        self.peers.get(&node).is_some_and(|peer| peer.alive && !peer.serves)
    }
}

/// Numbers are used again, so they count only where an identity is missing, and near the begin.
fn same_by_number(claimed: &Claimed, call: &TrackedCall) -> bool {
    if claimed.ucid.is_some() && call.ucid.is_some() {
        return false;
    }
    match (claimed.began, call.began()) {
        (Some(began), Some(seen)) => {
            began.micros_since(seen.wall).unsigned_abs() <= BEGAN_TOLERANCE_MICROS
        }
        _ => true,
    }
}

fn prune<K: Ord>(map: &mut BTreeMap<K, BTreeSet<RecordingId>>, key: &K, id: RecordingId) {
    if let Some(ids) = map.get_mut(key) {
        ids.remove(&id);
        if ids.is_empty() {
            map.remove(key);
        }
    }
}
