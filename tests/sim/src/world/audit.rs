//! Looks at the whole site: what must hold at any time, whether it has come to rest after healing, and
//! what must be published then. What is a violation within one log or file is [`crate::checker`]'s.

use std::collections::{BTreeMap, BTreeSet};

use recorder_core::call::event::PartyState;
use storage_core::{Duty, NodeId, RecordingId, Role};

use super::{AUDIT, Event, World};
use crate::checker::{AUDIO_BOUND, FULL_BOUND, Kind, LEAVE_BOUND, TWIN_BOUND};
use crate::disk::Voice;
use crate::frames::FRAME;
use crate::host::Host;
use crate::plan::Flavour;
use crate::switch::PARTIES_MAX;
use crate::{MS, SECOND, Time};

impl World {
    /// Looks at what must hold at any time.
    pub(super) fn audit(&mut self) {
        self.schedule(self.now + AUDIT, Event::Audit);
        let ids: Vec<NodeId> = self.hosts.keys().copied().collect();
        for id in ids {
            let able = self.is_able(id);
            let now = self.now;
            let Some(host) = self.hosts.get_mut(&id) else { continue };
            host.able_since = able.then(|| host.able_since.unwrap_or(now));
            let quorum = host.process.as_ref().is_some_and(|process| process.view.quorum);
            host.quorum_since = quorum.then(|| host.quorum_since.unwrap_or(now));
            let full = host.disk.full && (host.full_since.is_some() || !host.writes());
            host.full_since = full.then(|| host.full_since.unwrap_or(now));
        }
        self.audit_lead();
        let calls: Vec<u64> = self.switch.calls.keys().copied().collect();
        for uid in calls {
            self.audit_audio(uid);
            self.audit_phantoms(uid);
        }
        self.audit_rings();
        self.audit_pauses(AUDIT);
        if self.switch.most_parties > PARTIES_MAX {
            self.check.fail(Kind::Phantoms, "a seventh party is in a call".to_owned());
        }
    }

    /// Whether a node could record: a process that runs, a link that is up and in step, room on the
    /// disk, a part in the group.
    pub(super) fn is_able(&self, id: NodeId) -> bool {
        let host = &self.hosts[&id];
        let Some(recorder) = host.recorder() else { return false };
        let Some(process) = &host.process else { return false };
        let duty = process.view.duty.duty;
        !host.hung
            && !host.is_stopping()
            && host.aes.up
            && host.aes.registered
            && recorder.calls_known
            && !host.disk.full
            && host.writes()
            && duty != Duty::None
    }

    /// Whoever knows that its disk is full does not lead while another could.
    fn audit_lead(&mut self) {
        let nodes = self.hosts.values().filter_map(|host| host.process.as_ref());
        let leader = nodes.map(|process| &process.node).filter(|node| node.is_leader());
        let Some(leader) = leader.max_by_key(|node| node.term()) else { return };
        let Some(lead) = leader.state().lead() else { return };
        let now = self.now;
        let long = |since: Option<Time>| since.is_some_and(|since| now > since + FULL_BOUND);
        let heard = |id: &NodeId| long(self.hosts[id].quorum_since);
        let full = long(self.hosts[&lead].full_since) && heard(&lead);
        let could = |host: &&Host| long(host.able_since) && heard(&host.id);
        if full && let Some(other) = self.hosts.values().find(could) {
            let what = format!("{lead} leads with a full disk, and {} could", other.id);
            self.check.fail(Kind::Silence, what);
        }
    }

    pub(super) fn audit_audio(&mut self, uid: u64) {
        let consulting = self.switch.consulting(uid);
        let now = self.now;
        let Some(call) = self.switch.calls.get_mut(&uid) else { return };
        if consulting {
            call.excused = call.excused.max(now + SECOND);
        }
        // A deaf phantom is not found while somebody holds the call, and for two looks after that.
        let deaf = call.legs.iter().any(|leg| leg.deaf);
        if deaf && call.people().any(|leg| leg.state == PartyState::Held) {
            call.excused = call.excused.max(now + 8 * SECOND);
        }
        self.excuse_exhausted(uid);
        let call = &self.switch.calls[&uid];
        if self.is_recorded(uid)
            || !call.is_wanted()
            || call.handled
            || call.legs.len() >= PARTIES_MAX
        {
            self.gaps.remove(&uid);
            return;
        }
        let since = *self.gaps.entry(uid).or_insert(now);
        let since = since.max(call.excused).max(call.established.unwrap_or(now));
        let stale = call.phantoms().next().is_some();
        let mut failed = None;
        let mut excused = Vec::new();
        for host in self.hosts.values() {
            let Some(able) = host.able_since else { continue };
            let free = host.has_free_phantom(now);
            let quorum = host.process.as_ref().is_some_and(|process| process.view.quorum);
            // Without a majority a phantom that is in the call speaks for its node, be it dead.
            if !free || (stale && !quorum) {
                excused.push(host.id);
                continue;
            }
            let excuse = self.excused.get(&(uid, host.id)).copied().unwrap_or(0);
            if now > since.max(able).max(excuse) + AUDIO_BOUND {
                failed = Some(host.id);
            }
        }
        for id in excused {
            self.excuse(Some(uid), id, 0);
        }
        if let Some(id) = failed {
            let ms = (now - since) / MS;
            let what = format!("call {uid} is not heard for {ms} ms, and node {id} could");
            self.check.fail(Kind::Silence, what);
        }
    }

    /// Whoever has no phantom for a call need not have recorded it, although another did.
    pub(super) fn excuse_exhausted(&mut self, uid: u64) {
        let (call, now) = (&self.switch.calls[&uid], self.now);
        if !call.is_wanted() {
            return;
        }
        let without = |host: &&Host| call.phantoms().all(|(_, node, _)| node != host.id);
        let hosts = self.hosts.values().filter(without);
        let exhausted =
            hosts.filter(|host| host.recorder().is_some() && !host.has_free_phantom(now));
        for id in exhausted.map(|host| host.id).collect::<Vec<_>>() {
            self.excuse(Some(uid), id, 0);
        }
    }

    pub(super) fn audit_phantoms(&mut self, uid: u64) {
        let now = self.now;
        let call = &self.switch.calls[&uid];
        let mut counts: BTreeMap<NodeId, usize> = BTreeMap::new();
        for (_, node, _) in call.phantoms() {
            *counts.entry(node).or_default() += 1;
        }
        let deserted = call.deserted;
        for id in self.hosts.keys().copied().collect::<Vec<_>>() {
            let able = self.hosts[&id].able_since;
            let count = counts.get(&id).copied().unwrap_or(0);
            let (Some(able), true) = (able, count > 1) else {
                self.twins.remove(&(uid, id));
                if let (Some(deserted), Some(able), true) = (deserted, able, count > 0)
                    && now > deserted.max(able) + LEAVE_BOUND
                {
                    let left = call.phantoms().filter(|(_, node, _)| *node == id);
                    let left: Vec<&str> = left.map(|(phantom, ..)| phantom.as_str()).collect();
                    let number = call.id.as_str();
                    let what = format!("{left:?} of node {id} are left in call {uid} ({number})");
                    self.check.fail(Kind::Phantoms, what);
                }
                continue;
            };
            let since = *self.twins.entry((uid, id)).or_insert(now);
            if now > since.max(able) + TWIN_BOUND {
                let what = format!("{count} phantoms of node {id} are in call {uid}");
                self.check.fail(Kind::Phantoms, what);
            }
        }
    }

    /// What is not yet as it must be in the end.
    pub(super) fn unrest(&self) -> Option<String> {
        if let Some(call) = self.switch.calls.values().next() {
            return Some(format!("call {} is up: {:?}", call.uid, call.legs));
        }
        let nodes = self.hosts.values().filter_map(|host| host.process.as_ref());
        let leader = nodes.map(|process| &process.node).filter(|node| node.is_leader());
        let Some(leader) = leader.max_by_key(|node| node.term()) else {
            return Some("the group has no leader".to_owned());
        };
        let state = leader.state();
        if let Some(call) = state.ledger().calls().next() {
            return Some(format!("the ledger is not empty: {}", in_words(call)));
        }
        for host in self.hosts.values().filter(|host| state.members().contains_key(&host.id)) {
            let Some(process) = &host.process else {
                return Some(format!("node {} is down", host.id));
            };
            if process.node.applied() < self.check.last_applied {
                return Some(format!("node {} lags behind", host.id));
            }
            if host.role == Role::Witness {
                continue;
            }
            if let Some((local, held)) = host.disk.journal.open.iter().next() {
                return Some(format!("node {}'s journal owes {local}: {held:?}", host.id));
            }
            if host.recorder().is_none_or(|recorder| !recorder.bridge.is_idle()) {
                let bridge = host.recorder().map(|recorder| &recorder.bridge);
                return Some(format!("node {}'s bridge is not idle: {bridge:#?}", host.id));
            }
            for ((node, id), revision) in &self.check.acked {
                let mut sealed = self.check.sealed.get(id).into_iter().flatten();
                let listed = host.disk.catalog.get(id);
                // It may have listed a later one and not been asked about it any more.
                let there = sealed.any(|s| s.revision >= *revision && listed == Some(&s.sha256));
                if *node == host.id && !there {
                    return Some(format!("node {}'s catalog does not list {id}", host.id));
                }
            }
        }
        let lead = state.lead().and_then(|lead| state.members().get(&lead));
        let best = state.members().values().filter(|member| member.records());
        let best = best.map(|member| member.role).min();
        if lead.map(|member| member.role) != best {
            return Some(format!("the preferred role does not lead: {:?}", state.lead()));
        }
        None
    }

    /// What must be true in the end, once everything has come to rest.
    pub(super) fn judge(&mut self) {
        let mut wrong = Vec::new();
        let lost = self.lost.as_ref().map(|loss| loss.node);
        for (id, seals) in &self.check.sealed {
            // A voice file that was agreed upon and lay on a lost disk only is not the mirror's matter.
            if seals.last().is_some_and(|sealed| Some(sealed.node) == lost) {
                continue;
            }
            let sealed = seals.last().map(|sealed| sealed.sha256);
            let published = self.check.published.get(id).map(|voice| voice.sha256);
            if sealed != published {
                wrong.push(format!("{id} is sealed and not published"));
            }
        }
        let voices: Vec<&Voice> = self.check.published.values().collect();
        for (at, one) in voices.iter().enumerate() {
            for other in voices.iter().skip(at + 1).filter(|other| other.copy == one.copy) {
                // Where calls merge both are heard for as long as it takes until one of the two is
                // ended, which may need a majority first, so those are counted and not judged.
                let merged = self.past.iter().filter(|past| past.merged).map(|past| past.uid);
                let merged: BTreeSet<u64> = merged.collect();
                let of_merge = one.frames.calls().any(|call| merged.contains(&call));
                let common = one.frames.common(&other.frames);
                self.doubled += u64::from(of_merge && common > TWIN_BOUND / FRAME);
                if common > 0 && !of_merge {
                    let (a, b) = (one.recording, other.recording);
                    wrong.push(format!("{a} and {b} both have the same {common} frames"));
                }
            }
        }
        for past in self.past.iter().filter(|past| !past.merged && !past.handled) {
            let of_it = voices.iter().filter(|voice| voice.frames.calls().any(|c| c == past.uid));
            for copy in 1..=2 {
                let of_copy: Vec<RecordingId> = of_it
                    .clone()
                    .filter(|voice| voice.copy == copy)
                    .map(|voice| voice.recording)
                    .collect();
                if of_copy.len() > 1 {
                    wrong.push(format!("call {} has {of_copy:?} in copy {copy}", past.uid));
                }
                let Some(from) = past.from else { continue };
                let recorder = NodeId(u16::from(copy));
                let owed = self.plan.flavour == Flavour::ActiveActive
                    && self.pauses.unpaused(recorder, past.uid, from, past.to) > 2 * SECOND
                    && past.able.contains(&recorder)
                    && lost != Some(recorder)
                    && !self.excused.contains_key(&(past.uid, recorder));
                if owed && of_copy.is_empty() {
                    wrong.push(format!("call {} has no copy {copy}", past.uid));
                }
            }
        }
        for what in wrong {
            self.check.fail(Kind::Published, what);
        }
        self.judge_rings();
        self.judge_pauses();
    }
}

/// An open call, for the trace.
fn in_words(call: &cluster_core::ledger::OpenCall) -> String {
    let slots = call.slots.iter().map(|slot| {
        let stretches = slot.stretches.iter().map(|s| {
            let end = if s.to.is_some() { "ended" } else if s.lost { "lost" } else { "open" };
            format!("{}/{} {:?} {end}", s.node, s.segment, s.standing)
        });
        let stretches: Vec<String> = stretches.collect();
        let sealed = slot.sealed.as_ref().map(|sealed| {
            let accounted: Vec<String> =
                sealed.accounted.iter().map(|(node, segment)| format!("{node}/{segment}")).collect();
            format!("by {} revision {} of {accounted:?}", sealed.node, sealed.revision)
        });
        let (copy, take, over, acks) = (slot.copy, slot.take, slot.over, &slot.acks);
        format!(
            "{} copy {copy} take {take} over {over:?}: {stretches:?}, sealed {sealed:?}, acks {acks:?}",
            slot.recording
        )
    });
    slots.collect::<Vec<_>>().join("; ")
}
