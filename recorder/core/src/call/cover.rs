//! Whether another node records a call, by two witnesses: the group's ledger (somebody claims it)
//! and the switch (a phantom of the other's is in it). Together they are sure; alone each may be
//! mistaken for a while: a phantom that hears nothing makes no claim, and a claim whose phantom was
//! thrown out records nothing. What to do about it is the trigger's decision.
//!
//! | claimed by a node that answers and can record | its phantom seen | |
//! |---|---|---|
//! | yes | yes | sure |
//! | no, and no majority can be reached | yes | sure: the switch is all that can be asked |
//! | no | yes | doubtful |
//! | yes | no | doubtful |
//! | no | no | none |
//!
//! A device that listens is seen by nobody (see [`super::method`]): there the ledger is the only witness,
//! and believed alone.

use std::time::Duration;

use storage_core::draft::Draft;
use storage_core::{Duty, MonoTime, Now};

use super::calls::Calls;
use super::group::{Claimed, Over};
use super::party::PartyKind;
use super::tracked::{CallKey, TrackedCall};

/// What one witness alone says is believed so much longer than nothing.
const DOUBT: Duration = Duration::from_millis(600);

/// How well others look after a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cover {
    Sure,
    Doubtful,
    None,
}

/// What the group lets this node do about a call that is not recorded here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// Join it now.
    Now,
    /// Join it then, unless things have changed.
    At(MonoTime),
    /// Leave it to others.
    No,
}

impl Calls {
    /// The call's recording in this node's copy.
    pub(super) fn claimed_of<'a>(&'a self, call: &TrackedCall) -> Option<&'a Claimed> {
        self.group.of_call(call, self.group.mandate.copy)
    }

    /// Which recording of the call somebody stopped, in whichever copy, if it is the newest.
    pub(super) fn stopped_by_group(&self, call: &TrackedCall) -> Option<u16> {
        let newest = self.group.matches(call).map(|claimed| claimed.take).max()?;
        let mut newest = self.group.matches(call).filter(|claimed| claimed.take == newest);
        newest.find(|claimed| claimed.over == Some(Over::Stopped)).map(|claimed| claimed.take)
    }

    /// Whether the group has begun a recording of this call that goes on: of this node's copy, or
    /// the one that a parallel recorder copies.
    pub(super) fn carried_on<'a>(&'a self, call: &TrackedCall) -> Option<&'a Claimed> {
        let own = self.claimed_of(call).filter(|claimed| claimed.over.is_none());
        let follows = self.group.mandate.duty == Duty::Follow;
        own.or_else(|| {
            let others = self.group.matches(call).filter(|_| follows);
            others.filter(|claimed| claimed.over.is_none()).max_by_key(|claimed| claimed.take)
        })
    }

    /// How well others look after this call, in this node's copy.
    pub(super) fn cover(&self, call: &TrackedCall) -> Cover {
        let seen = self.is_recorded_by_peer(call);
        let holder = self.claimed_of(call).and_then(|claimed| claimed.holder);
        let claimed =
            holder.is_some_and(|holder| holder.node != self.node && self.group.serves(holder.node));
        match (claimed, seen) {
            (true, _) if !self.is_seen_in_calls() => Cover::Sure,
            (true, true) => Cover::Sure,
            (false, true) if !self.group.mandate.quorum => Cover::Sure,
            (false, false) => Cover::None,
            _ => Cover::Doubtful,
        }
    }

    /// Whether this is one of two recordings that a merge brought together, and another node goes on
    /// with the elder: then this one ends, as the younger of two of one node does.
    pub(super) fn leaves_to_elder(&self, call: &TrackedCall, own: &Draft) -> bool {
        let name = own.groupname();
        let is_elder = |claimed: &Claimed| {
            let held = claimed
                .holder
                .is_some_and(|holder| holder.node != self.node && self.group.is_alive(holder.node));
            held && claimed.recording < name && claimed.copy == own.copy && claimed.over.is_none()
        };
        // One that the group does not know yet may turn out to be a part of the other.
        self.group.get(name).is_some()
            && self.group.matches(call).any(is_elder)
            && (!self.is_seen_in_calls() || self.peer_is_in(call, |copy| copy == own.copy))
    }

    /// Whether and when this node may join the call, as far as the others matter.
    pub(super) fn leave_to_join(&mut self, now: Now, key: CallKey) -> Leave {
        let Some(call) = self.tracker.call(key) else { return Leave::No };
        let cover = self.cover(call);
        let (is_mine, lead_is_in) = (self.takes_over(call), self.lead_is_in(call));
        let mandate = self.group.mandate;
        let has_device = self.has_device(now, key) || self.has_ring(key);
        if !self.is_seen_in_calls() && mandate.duty != Duty::Lead && !has_device {
            // While its stations hold a call nobody hears it, and nobody claims it.
            self.work_of(key).uncovered = None;
            return Leave::No;
        }
        let patience = self.patience;
        let seen = self.is_recorded_by_peer(call);
        let known = self.group.matches(call).any(|claimed| claimed.copy == mandate.copy);
        let work = self.work_of(key);
        if known {
            work.covered = None;
        } else if seen {
            work.covered.get_or_insert(now.mono);
        }
        // Without a majority for a moment nothing has become any surer.
        if cover == Cover::Sure && mandate.quorum {
            work.uncovered = None;
        }
        let since = match cover {
            Cover::Sure => None,
            _ => Some(*work.uncovered.get_or_insert(now.mono)),
        };
        let rescue = patience.rescue * u32::from(mandate.rank.max(1));
        let at = match (mandate.duty, cover, since) {
            (Duty::None, _, _) => return Leave::No,
            (Duty::Lead, _, _) if is_mine => return Leave::Now,
            (Duty::Lead, Cover::None, _) => return Leave::Now,
            (Duty::Follow, Cover::None, Some(since)) => {
                if lead_is_in {
                    now.mono
                } else {
                    since + patience.follow
                }
            }
            (_, Cover::Sure, _) | (_, _, None) => return Leave::No,
            (_, Cover::Doubtful, Some(since)) => since + rescue + DOUBT,
            (_, Cover::None, Some(since)) => since + rescue,
        };
        if at <= now.mono { Leave::Now } else { Leave::At(at) }
    }

    /// Whether a lead takes this call from whoever has it: because it came with the calls in progress,
    /// and this is one that was so under an earlier lead; or because its holder cannot go on.
    fn takes_over(&self, call: &TrackedCall) -> bool {
        let mandate = &self.group.mandate;
        let holder = self.claimed_of(call).and_then(|claimed| claimed.holder);
        if holder.is_some_and(|h| h.node != self.node && self.group.is_to_be_relieved(h.node)) {
            return true;
        }
        if !mandate.moves {
            return false;
        }
        match holder {
            Some(holder) => {
                let gone = !self.group.is_alive(holder.node);
                holder.node != self.node && (gone || holder.epoch < mandate.epoch)
            }
            None => call.established.is_none_or(|established| established.mono < self.mandated_at),
        }
    }

    /// Whether a recorder of another copy is in the call, as the switch or the ledger tells.
    fn lead_is_in(&self, call: &TrackedCall) -> bool {
        let own = self.group.mandate.copy;
        self.peer_is_in(call, |copy| copy != own)
            || self.group.matches(call).any(|claimed| {
                claimed.copy != own && claimed.over.is_none() && claimed.holder.is_some()
            })
    }

    /// Whether another node's phantom records this node's copy of the call, as the switch tells.
    pub(super) fn is_recorded_by_peer(&self, call: &TrackedCall) -> bool {
        self.peer_is_in(call, |copy| copy == self.group.mandate.copy)
    }

    /// Whether a phantom of another node is in the call that records a copy of this kind. One whose
    /// node is known to be gone counts no more: it sits there until the switch notices. Nor does one that
    /// is there for its ring only (see [`super::ring`]). One that is nobody's counts only where the group
    /// cannot be asked whose it is.
    fn peer_is_in(&self, call: &TrackedCall, copy: impl Fn(u8) -> bool) -> bool {
        let there = call.parties.iter().filter(|party| party.kind == PartyKind::PeerPhantom);
        let numbers = there.filter_map(|party| party.name.number.as_ref());
        numbers.into_iter().any(|number| match self.group.owner_of(number) {
            Some((_, peer)) => {
                let there = peer.alive || !self.group.mandate.quorum;
                copy(peer.copy) && there && !self.is_peers_ring(call, number)
            }
            None => copy(1) && !self.group.mandate.quorum,
        })
    }
}
