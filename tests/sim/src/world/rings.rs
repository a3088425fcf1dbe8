//! Rings of nodes that stand by: what one has heard while nobody recorded the call must be published in the
//! end. It is owed only where nothing that a ring cannot help came in between: its node was well, in
//! the majority and had a phantom to spare all the time, the switch did what it was asked for, and the call went on, alone and with
//! room, until the takeover was long over.

use storage_core::NodeId;

use super::World;
use crate::checker::Kind;
use crate::frames::Frames;
use crate::switch::PARTIES_MAX;
use crate::{MS, SECOND, Time};

/// A ring must have been there for so long before.
const THERE_FOR: Time = SECOND;
/// Within this the call is taken over, and what was heard is on the disk.
const SETTLED_AFTER: Time = 4 * SECOND;

/// What a ring has heard and nobody recorded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Saved {
    uid: u64,
    node: NodeId,
    from: Time,
    to: Time,
}

/// What is owed.
#[derive(Default)]
pub(super) struct Rings {
    /// It may still turn out to be excused.
    pending: Vec<Saved>,
    owed: Vec<Saved>,
    looked: Time,
}

impl Rings {
    /// How many stretches are owed.
    pub fn owed(&self) -> usize {
        self.owed.len()
    }
}

impl World {
    /// Looks at what rings hear now.
    pub(super) fn audit_rings(&mut self) {
        let (now, before) = (self.now, std::mem::replace(&mut self.rings.looked, self.now));
        for saved in std::mem::take(&mut self.rings.pending) {
            if !self.is_undisturbed(saved.uid, saved.node) {
                continue;
            }
            let settled = now >= saved.to + SETTLED_AFTER;
            let list = if settled { &mut self.rings.owed } else { &mut self.rings.pending };
            list.push(saved);
        }
        for uid in self.switch.calls.keys().copied().collect::<Vec<_>>() {
            if !self.is_recorded(uid) {
                self.note_ring(uid, None, before, now);
            }
        }
    }

    /// A process is gone with what it heard since then.
    pub fn ring_saves_what_died(&mut self, victim: NodeId, from: Time) {
        for uid in self.switch.calls.keys().copied().collect::<Vec<_>>() {
            let call = &self.switch.calls[&uid];
            let hosts = &self.hosts;
            let heard = call.phantoms().any(|(phantom, node, _)| {
                let recorder = hosts.get(&node).and_then(|host| host.recorder());
                node == victim && recorder.is_some_and(|r| r.records_by(phantom))
            });
            if heard {
                self.note_ring(uid, Some(victim), from, self.now);
            }
        }
    }

    /// Whether somebody's segment hears the call.
    pub(super) fn is_recorded(&self, uid: u64) -> bool {
        let call = &self.switch.calls[&uid];
        call.phantoms().any(|(phantom, node, _)| {
            let recorder = self.hosts.get(&node).and_then(|host| host.recorder());
            recorder.is_some_and(|recorder| recorder.records_by(phantom))
        })
    }

    fn note_ring(&mut self, uid: u64, but: Option<NodeId>, from: Time, to: Time) {
        let call = &self.switch.calls[&uid];
        let keeper = call.phantoms().find(|(phantom, node, _)| {
            let recorder = self.hosts.get(node).and_then(|host| host.recorder());
            let since = recorder.and_then(|recorder| recorder.rings_by(phantom));
            Some(*node) != but && since.is_some_and(|since| since + THERE_FOR <= from)
        });
        if let Some((_, node, _)) = keeper
            && self.is_undisturbed(uid, node)
        {
            self.rings.pending.push(Saved { uid, node, from, to });
        }
    }

    fn is_undisturbed(&self, uid: u64, node: NodeId) -> bool {
        let Some(call) = self.switch.calls.get(&uid) else { return false };
        let Some(host) = self.hosts.get(&node) else { return false };
        let long = |since: Option<Time>| since.is_some_and(|since| since + THERE_FOR <= self.now);
        let (able, quorum) = (long(host.able_since), long(host.quorum_since));
        let kind = self.odds.refused + self.odds.lost + self.odds.deaf == 0;
        let excused = self.excused.get(&(uid, node)).is_some_and(|until| *until > self.now);
        let alone = !call.merged && !call.handled && !self.switch.consulting(uid);
        let room = call.is_wanted() && call.legs.len() < PARTIES_MAX;
        let deaf = call.legs.iter().any(|leg| leg.deaf);
        let spare = host.has_free_phantom(self.now);
        able && quorum && kind && alone && room && spare && !excused && !deaf && !host.disk.slow
    }

    /// What was owed must be in the files, or have been in one that went with its node's disk.
    pub(super) fn judge_rings(&mut self) {
        let mut published = self.check.given_up.clone();
        self.check.published.values().for_each(|voice| published.unite(&voice.frames));
        let mut wrong = Vec::new();
        for saved in &self.rings.owed {
            let mut due = Frames::default();
            due.hear(saved.uid, saved.from, saved.to);
            if let Some((call, frame, count)) = published.missing(&due) {
                wrong.push(format!(
                    "call {call} lacks {count} frames from {frame} on, and node {}'s ring had them from {} to \
                     {} ms",
                    saved.node,
                    saved.from / MS,
                    saved.to / MS
                ));
            }
        }
        for what in wrong {
            self.check.fail(Kind::Hole, what);
        }
    }
}
