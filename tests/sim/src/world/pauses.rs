//! Pauses: what people ask for, and what must hold of it. Each node has *windows*: from when it was told of a
//! pause (or found it in its journal at its start) until it was told of the end, the time was over or its process
//! was gone. Nothing of the call that a node's phantoms hear in a window may be written down or kept in a
//! ring, there or in what its call became; and when no window is open any more it hears the call again. Windows are kept here,
//! by what nodes are told, and not by what the call machine makes of it.
//!
//! A node that was well all the time knows within [`MERGE_BOUND`] that a paused call has become another. One that hears
//! nothing from its switch must be told by others what the call was joined with: what it is not told of it
//! may capture, and must not otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use recorder_core::call::{PauseRequest, PauseWord, Target};
use storage_core::draft::{PauseId, Resumed};
use storage_core::{NodeId, Ucid};

use super::{Event, World};
use crate::checker::Kind;
use crate::frames::FRAME;
use crate::host::Input;
use crate::{MS, Time};

/// Within this a node that is well has heard from the switch that two calls are one.
const MERGE_BOUND: Time = 200 * MS;
/// A pause is in the draft of its recording, and is over when it is, within this.
const SETTLED_WITHIN: Time = 400 * MS;

/// A node knows that a call is paused.
#[derive(Clone, Copy, Debug)]
struct Window {
    node: NodeId,
    /// `None`: the process that knew it is gone.
    id: Option<PauseId>,
    uid: u64,
    from: Time,
    /// Nothing is to be kept until then.
    to: Time,
    /// Until then it may discard.
    lasts: Time,
}

/// A paused call has become another; a node that knew of the pause will know it then.
#[derive(Clone, Copy, Debug)]
struct Coming {
    window: Window,
    merged: Time,
}

/// All pauses of a run.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    windows: Vec<Window>,
    coming: Vec<Coming>,
    /// Until when a node pauses what it has heard of: what it is told of that later makes it no longer.
    lasts: BTreeMap<(NodeId, PauseId), Time>,
    calls: BTreeMap<Ucid, u64>,
    /// What calls have become.
    became: BTreeMap<u64, u64>,
    asked: u64,
    /// How long phantoms were seen to discard what they heard.
    hidden: Time,
}

impl Pauses {
    /// For how long calls were paused while a phantom heard them, milliseconds.
    pub fn hidden_ms(&self) -> u64 {
        self.hidden / MS
    }

    /// What a call is part of now.
    fn root(&self, mut uid: u64) -> u64 {
        while let Some(next) = self.became.get(&uid) {
            uid = *next;
        }
        uid
    }

    /// Whether that names all that a call was made of: only then somebody who was told no more than that knows all that
    /// is to be discarded.
    fn names_all(&self, root: u64, named: &BTreeSet<u64>) -> bool {
        let mut parts = self.became.keys().filter(|uid| self.root(**uid) == root).chain([&root]);
        parts.all(|uid| named.contains(uid))
    }

    /// A node knows of a pause of what is named.
    fn open(
        &mut self,
        node: NodeId,
        id: Option<PauseId>,
        named: &BTreeSet<u64>,
        now: Time,
        left: Time,
    ) {
        let mut lasts = now + left;
        if let Some(id) = id {
            lasts = *self.lasts.entry((node, id)).or_insert(lasts);
        }
        let roots: BTreeSet<u64> = named.iter().map(|uid| self.root(*uid)).collect();
        for uid in roots.into_iter().filter(|_| lasts > now) {
            let to = if self.names_all(uid, named) { lasts } else { now };
            let known = |w: &Window| {
                let enough = w.lasts > now && (w.to > now || to == now);
                (w.node, w.id, w.uid) == (node, id, uid) && enough
            };
            if !self.windows.iter().any(known) {
                self.windows.push(Window { node, id, uid, from: now, to, lasts });
            }
        }
    }

    /// For how much of that time a node had no pause of a call.
    pub(super) fn unpaused(&self, node: NodeId, uid: u64, from: Time, to: Time) -> Time {
        let root = self.root(uid);
        let its = self.windows.iter().filter(|w| w.node == node && self.root(w.uid) == root);
        let mut its: Vec<_> = its.map(|w| (w.from.max(from), w.lasts.min(to))).collect();
        its.sort_unstable();
        let (mut free, mut at) = (0, from);
        for (begin, end) in its.into_iter().filter(|(begin, end)| begin < end) {
            free += begin.saturating_sub(at);
            at = at.max(end);
        }
        free + to.saturating_sub(at)
    }

    /// The calls that are meant by identities.
    fn named<'a>(&self, ucids: impl Iterator<Item = &'a Ucid>) -> BTreeSet<u64> {
        ucids.filter_map(|ucid| self.calls.get(ucid)).copied().collect()
    }

    fn close(&mut self, node: NodeId, id: Option<PauseId>, now: Time) {
        match id {
            Some(id) => {
                self.lasts
                    .entry((node, id))
                    .and_modify(|lasts| *lasts = now.min(*lasts))
                    .or_insert(now);
            }
            None => self.lasts.retain(|(of, _), _| *of != node),
        }
        let its = |window: &&mut Window| window.node == node && (id.is_none() || window.id == id);
        for window in self.windows.iter_mut().filter(its) {
            window.to = window.to.min(now);
            window.lasts = window.lasts.min(now);
        }
        self.coming.retain(|c| c.window.node != node || (id.is_some() && c.window.id != id));
    }
}

impl World {
    /// Somebody asks some node to pause some call, or to resume it.
    pub(super) fn ask_for_pause(&mut self) {
        if self.healing {
            return;
        }
        let next = self.now + self.rng.range(100, 900) * MS;
        self.schedule(next, Event::Pause);
        let named = self.switch.calls.values();
        let named = named.filter_map(|call| Some((call.ucid.clone()?, call.uid)));
        self.pauses.calls.extend(named);
        let calls = self.switch.calls.values().filter(|call| call.established.is_some());
        let calls: Vec<_> = calls.filter_map(|call| Some((call.uid, call.ucid.clone()?))).collect();
        let nodes: Vec<NodeId> =
            self.hosts.values().filter(|host| host.recorder().is_some()).map(|h| h.id).collect();
        if calls.is_empty() || nodes.is_empty() {
            return;
        }
        let (node, (uid, ucid)) = (self.rng.pick(&nodes), self.rng.pick(&calls));
        let most = Duration::from_millis(self.rng.range(200, 6_000));
        let most = (!self.rng.chance(35)).then_some(most);
        self.pauses.asked += 1;
        let by = format!("person {}", self.pauses.asked);
        self.trace(format!("{by} at {node}: pause of call {uid} for {most:?}"));
        let request = PauseRequest { target: Target::Ucid(ucid), most, by };
        self.give(node, Input::Pause(Box::new(request)));
    }

    /// All others are told.
    pub(super) fn tell_of_pauses(&mut self, from: NodeId, words: &[PauseWord]) {
        let hosts = self.hosts.values().filter(|host| host.id != from && host.recorder().is_some());
        for to in hosts.map(|host| host.id).collect::<Vec<_>>() {
            for at in self.net.transmit(&mut self.rng, self.now, from, to) {
                let input = Box::new(Input::Words(words.to_vec()));
                self.schedule(at, Event::To(to, None, input));
            }
        }
    }

    /// A node was told of pauses.
    pub(super) fn learnt(&mut self, node: NodeId, words: &[PauseWord]) {
        for word in words {
            let id = Some(word.id);
            if word.leftms == 0 {
                self.pauses.close(node, id, self.now);
                continue;
            }
            let named = self.pauses.named(word.ucid.iter().chain(&word.joined));
            let before = self.pauses.windows.len();
            self.pauses.open(node, id, &named, self.now, word.leftms * MS);
            if self.pauses.windows.len() > before {
                self.trace(format!("{node}: knows of {:?} of calls {named:?}", word.id));
            }
        }
    }

    /// A process is gone, and what it knew.
    pub(super) fn forget_pauses(&mut self, node: NodeId) {
        self.pauses.close(node, None, self.now);
        self.pauses.windows.iter_mut().filter(|w| w.node == node).for_each(|w| w.id = None);
    }

    /// A process has started: what its journal says of pauses that go on it knows.
    pub(super) fn find_pauses(&mut self, node: NodeId) {
        let host = &self.hosts[&node];
        let (now, wall) = (self.now, host.wall(self.now));
        if host.recorder().is_none() {
            return;
        }
        let drafts = host.disk.journal.open.values().filter_map(|held| held.draft.as_ref());
        for draft in drafts.filter(|draft| draft.ended.is_none()) {
            let named = self.pauses.named(draft.ucid.iter().chain(&draft.formerucids));
            for pause in &draft.pauses {
                let (id, left) = (pause.id, Time::try_from(pause.until.micros_since(wall)));
                match (pause.resumed, left) {
                    (None, Ok(left)) => self.pauses.open(node, id, &named, now, left / MS * MS),
                    (None, Err(_)) | (Some(Resumed::Person | Resumed::Timeout), _) => {
                        self.pauses.close(node, id, now);
                    }
                    _ => {}
                }
            }
        }
    }

    /// Two calls are one.
    pub(super) fn pauses_merged(&mut self, ended: u64, survivor: u64) {
        self.pauses.became.insert(ended, survivor);
        let (merged, from) = (self.now, self.now + MERGE_BOUND);
        let Pauses { windows, coming, .. } = &mut self.pauses;
        let its = |w: &&mut Window| (w.uid == ended || w.uid == survivor) && w.to > merged;
        for window in windows.iter_mut().filter(its) {
            if window.to > from {
                coming.push(Coming { window: Window { uid: survivor, from, ..*window }, merged });
            }
            window.to = merged;
        }
    }

    /// Looks at what is hidden now, and at what was captured.
    pub(super) fn audit_pauses(&mut self, period: Time) {
        for coming in std::mem::take(&mut self.pauses.coming) {
            let able = self.hosts[&coming.window.node].able_since;
            if able.is_none_or(|since| since > coming.merged) {
                continue;
            }
            match coming.window.from <= self.now {
                true => self.pauses.windows.push(coming.window),
                false => self.pauses.coming.push(coming),
            }
        }
        let mut wrong = Vec::new();
        for host in self.hosts.values().filter(|host| !host.hung) {
            let ports = host.recorder().into_iter().flat_map(|recorder| recorder.ports.values());
            for port in ports {
                let Some((uid, since)) = port.hidden else { continue };
                self.pauses.hidden += period;
                let root = self.pauses.root(uid);
                let known = self.pauses.windows.iter().any(|window| {
                    window.node == host.id
                        && self.pauses.root(window.uid) == root
                        && window.lasts + SETTLED_WITHIN > self.now
                });
                if !known && since + SETTLED_WITHIN < self.now {
                    wrong.push(format!(
                        "node {} still discards call {uid}: its pause is over",
                        host.id
                    ));
                }
                if since + SETTLED_WITHIN < self.now && host.notes_no_pause(port) {
                    wrong.push(format!(
                        "node {}: the pause of call {uid} is not in its draft",
                        host.id
                    ));
                }
            }
        }
        for what in wrong {
            self.check.fail(Kind::Pause, what);
        }
    }

    /// Nothing was captured of a call of whose pause the node knew.
    pub(super) fn judge_pauses(&mut self) {
        let mut wrong = Vec::new();
        for window in &self.pauses.windows {
            for (uid, from, to) in &self.hosts[&window.node].captured {
                let (from, to) = (window.from.max(*from), window.to.min(*to));
                if *uid == window.uid && from + FRAME <= to {
                    wrong.push(format!(
                        "node {} kept call {uid} from {from} to {to} us, and knew of its pause: {window:?}",
                        window.node
                    ));
                }
            }
        }
        for what in wrong {
            self.check.fail(Kind::Pause, what);
        }
    }
}
