//! The ring of a node that stands by: it joins the calls that another node records, keeps the last seconds
//! of each in memory, and writes nothing down and claims nothing. When it is to go on with such a call, its
//! ring is the begin of its segment, so what the other heard last is not missing.
//!
//! ```text
//!                 the other's phantom is in the call
//!      (no tap) ─────────────────────────────────────▶ ring ──this node records the call──▶ segment
//!          ▲                                             │
//!          └── call over, not wanted, place or phantom ──┘
//!                        needed by somebody else
//! ```
//!
//! Which calls that are, when a ring becomes a segment and when it gives way is decided here; how a
//! phantom gets in and out is the tap's matter, and what is kept, and for how long, the media thread's. A
//! device that listens (see [`super::method`]) costs no place and no phantom: its ring does not wait for
//! another's. That there is a ring is said in one place, [`Tap::ring`](super::tap::Tap); each of the tap's legs keeps
//! what it hears under the number that its segment would have, so one order empties it.
//!
//! On the switch a ring's phantom looks like one that records. So a phantom of a node that stands by is taken
//! for a ring, unless that node has claimed the call: it may have gone on with it after it handed the lead
//! back.

use std::time::Duration;

use storage_core::record::{Scope, Side};
use storage_core::{Duty, Extension, Now, RecordingId, SegmentId, WallTime};

use super::calls::Calls;
use super::group::Claimed;
use super::leg::Leg;
use super::order::{MissedReason, Order, RingChange, RingOrder};
use super::party::PartyKind;
use super::pool::PhantomState;
use super::tap::{Phase, Tap};
use super::timer::Timer;
use super::tracked::{CallKey, TrackedCall};
use super::trigger::{GRACE, Outlook};
use crate::Receiver;

/// A ring that did not come about is tried again after so long: each attempt bothers the switch, and the
/// call is recorded by another meanwhile.
const RETRY: Duration = Duration::from_secs(5);

/// What is to become of a call's ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// There is to be one.
    Begin,
    /// One that is there stays.
    Keep,
    /// There is to be none.
    End,
}

impl Calls {
    /// Looks after a call's ring. To be called once it is decided whether this node records the call.
    pub(super) fn tend_ring(&mut self, now: Now, key: CallKey) {
        let rings = self.rings_of(key);
        if self.ring.is_zero() && rings.is_empty() {
            return;
        }
        let wish = self.wish_for_ring(now, key);
        // A merge may have brought two together: the elder has heard more.
        let stay = usize::from(wish != Wish::End);
        for phantom in rings.iter().skip(stay) {
            self.take_out(now, phantom);
        }
        if wish == Wish::Begin && rings.is_empty() {
            self.begin_ring(now, key);
        }
    }

    /// Takes all rings out of their calls.
    pub(super) fn drop_rings(&mut self, now: Now) {
        let rings = self.taps.values().filter(|tap| tap.ring.is_some());
        for phantom in rings.map(|tap| tap.phantom.clone()).collect::<Vec<_>>() {
            self.take_out(now, &phantom);
        }
    }

    /// How many rings are kept.
    #[must_use]
    pub fn rings_active(&self) -> usize {
        self.taps.values().filter(|tap| tap.ring.is_some() && tap.phase == Phase::In).count()
    }

    /// Whether this call's ring could become a segment.
    pub(super) fn has_ring(&self, key: CallKey) -> bool {
        self.ring_that_hears(key).is_some()
    }

    /// Makes the call's ring the begin of a recording's segment; false if there is none. Its packets are
    /// the media thread's to put there.
    pub(super) fn record_by_ring(
        &mut self,
        now: Now,
        key: CallKey,
        id: impl FnOnce(&mut Self) -> Option<RecordingId>,
    ) -> bool {
        let Some(phantom) = self.ring_that_hears(key) else { return false };
        let Some(id) = id(self) else { return false };
        let reach = self.ring;
        let Some(tap) = self.taps.get_mut(&phantom) else { return false };
        let Some(since) = tap.ring.take() else { return false };
        tap.recording = Some(id);
        let (phase, legs) = (tap.phase, tap.legs.clone());
        let at = since.max(now.wall - reach).min(now.wall);
        for leg in &legs {
            self.open_segment(id, &phantom, leg, at);
            if let (Some(segment), Some(terms)) = (leg.segment, &leg.terms) {
                self.orders.push_back(Order::Capture(terms.fact(segment, now.wall)));
            }
        }
        if phase == Phase::In {
            self.pool.busy(&phantom, PhantomState::Recording);
        }
        self.work_of(key).block = None;
        self.arm_tap(&phantom);
        true
    }

    /// A ring did not come about, or broke off: another may be tried after a while.
    pub(super) fn hold_ring_back(&mut self, now: Now, key: CallKey) {
        if self.tracker.call(key).is_some() {
            self.work_of(key).ring_not_before = Some(now.mono + RETRY);
            self.touched.insert(key);
        }
    }

    /// A tap keeps no ring any more: what is in it is forgotten.
    pub(super) fn end_ring(&mut self, phantom: &Extension) {
        let Some(tap) = self.taps.get_mut(phantom) else { return };
        if tap.ring.take().is_none() {
            return;
        }
        for leg in &mut tap.legs {
            let Some(segment) = leg.segment.take() else { continue };
            let receiver = Receiver { device: phantom.clone(), side: leg.side };
            self.orders.push_back(ring_order(&receiver, segment, RingChange::End));
        }
    }

    /// A recording needs a phantom and none is free: rings give theirs, as many as there are recordings
    /// that wait for one and would not get one anyway.
    pub(super) fn give_up_rings(&mut self, now: Now) {
        let blocked = |reason: &Option<MissedReason>| *reason == Some(MissedReason::NoPhantom);
        let waiting = self.work.values().filter(|work| blocked(&work.block)).count();
        let leaving = self.taps.values().filter(|tap| !tap.stays() || tap.phase == Phase::Leaving);
        let resting = self.pool.counts(now.mono).get(&PhantomState::Resting).copied();
        let coming = leaving.count() + resting.unwrap_or_default();
        let rings = self.taps.values().filter(|tap| tap.ring.is_some());
        // The youngest has the least to lose.
        let mut rings: Vec<_> =
            rings.map(|tap| (tap.ring, tap.phantom.clone(), tap.call)).collect();
        rings.sort_unstable();
        for (_, phantom, key) in rings.into_iter().rev().take(waiting.saturating_sub(coming)) {
            self.take_out(now, &phantom);
            self.hold_ring_back(now, key);
        }
    }

    /// Whether another node's phantom is in the call for its ring only.
    pub(super) fn is_peers_ring(&self, call: &TrackedCall, phantom: &Extension) -> bool {
        let Some((node, peer)) = self.group.owner_of(phantom) else { return false };
        let is_its = |claimed: &Claimed| claimed.holder.is_some_and(|h| h.node == node);
        !self.ring.is_zero() && peer.stands_by && !self.group.matches(call).any(is_its)
    }

    /// How many of the call's places are taken by phantoms that give way to people and to recordings. One
    /// whose node does not answer or cannot reach its AES stays where it is.
    pub(super) fn places_of_rings(&self, call: &TrackedCall) -> usize {
        let peers = call.parties.iter().filter(|party| party.kind == PartyKind::PeerPhantom);
        let numbers = peers.filter_map(|party| party.name.number.as_ref());
        let can_leave = |phantom: &Extension| {
            self.group.owner_of(phantom).is_some_and(|(node, _)| self.group.serves(node))
        };
        let leaves = |phantom: &&Extension| self.is_peers_ring(call, phantom) && can_leave(phantom);
        let peers = numbers.filter(leaves).count();
        peers + self.without_recording(call).count()
    }

    /// Whether a phantom of ours is in the call that records nothing.
    pub(super) fn has_ring_or_had(&self, call: &TrackedCall) -> bool {
        self.without_recording(call).next().is_some()
    }

    fn without_recording(&self, call: &TrackedCall) -> impl Iterator<Item = &Tap> {
        let key = call.key;
        self.taps.values().filter(move |tap| tap.call == key && tap.recording.is_none())
    }

    fn wish_for_ring(&mut self, now: Now, key: CallKey) -> Wish {
        let may = matches!(self.group.mandate.duty, Duty::Standby | Duty::Lead);
        let Some(call) = self.tracker.call(key) else { return Wish::End };
        let own = self.work.get(&key).is_some_and(|w| w.recording.is_some() || w.asked.is_some());
        if self.ring.is_zero() || self.draining || !may || own || !self.is_wanted(key) {
            return Wish::End;
        }
        if self.gives_way_with_ring(call) || !self.hears_for_ring(key) {
            return Wish::End;
        }
        // It lasts as long as the recording that it may become.
        let claimed = self.claimed_of(call);
        let scope = claimed.map_or(Scope::Station, |claimed| claimed.scope);
        let extension = claimed.map(|claimed| claimed.extension.clone()).unwrap_or_default();
        let outlook = Outlook::of(call, scope, &extension);
        let recorded = !self.is_seen_in_calls() || self.is_recorded_by_peer(call);
        match outlook {
            Outlook::Good => {
                let answered = call.talking().count() >= 2;
                self.work_of(key).fading = None;
                if recorded && answered { Wish::Begin } else { Wish::Keep }
            }
            Outlook::Over => Wish::End,
            Outlook::Alone | Outlook::Unserved => {
                let since = *self.work_of(key).fading.get_or_insert(now.mono);
                if now.mono >= since + GRACE {
                    return Wish::End;
                }
                self.timers.set_earlier(Timer::Call(key), since + GRACE);
                Wish::Keep
            }
        }
    }

    /// Puts a phantom in for a ring, if one may and can be.
    fn begin_ring(&mut self, now: Now, key: CallKey) {
        if let Some(at) = self.work_of(key).ring_not_before.filter(|at| *at > now.mono) {
            return self.timers.set_earlier(Timer::Call(key), at);
        }
        let Some(call) = self.tracker.call(key) else { return };
        if !self.link_up || !self.admits_ring(call) {
            return;
        }
        let Some(phantom) = self.take_device(now, key) else {
            // What a station does is told of the call itself.
            if self.moves_devices() {
                self.hold_ring_back(now, key);
            }
            return;
        };
        let Some((id, party)) = self.way_into(key) else {
            return self.pool.give_back(now.mono, &phantom, Duration::ZERO);
        };
        let ticket = self.next_ticket();
        let since = self.ring_since(now, &phantom, key);
        let muted = self.mute_new(key, &phantom);
        let sides = self.sides_of(&phantom);
        let legs = sides.map(|side| self.begin_leg(now, &phantom, side, since)).collect();
        let join = Order::Join { ticket, call: id.clone(), party, phantom: phantom.clone() };
        let phase = self.enter(join, &phantom);
        if phase == Phase::In {
            self.pool.busy(&phantom, PhantomState::Ring);
        }
        let tap = Tap {
            legs,
            ring: Some(since),
            muted,
            ..Tap::new(now, &phantom, key, id, ticket, phase)
        };
        self.insert_tap(tap);
        self.tell_ring_of_ear(now, &phantom);
        self.arm_tap(&phantom);
    }

    /// Begins a ring on one receiver of a phantom.
    fn begin_leg(
        &mut self,
        now: Now,
        phantom: &Extension,
        side: Option<Side>,
        since: WallTime,
    ) -> Leg {
        let segment = self.next_segment();
        let receiver = Receiver { device: phantom.clone(), side };
        let begin = RingChange::Begin { since, reach: self.ring };
        self.orders.push_back(ring_order(&receiver, segment, begin));
        Leg::new(side, segment, now.mono)
    }

    /// The phantoms that keep a ring of the call and are to stay; the elder first.
    fn rings_of(&self, key: CallKey) -> Vec<Extension> {
        let rings = self.taps.values().filter(|tap| tap.call == key && tap.stays());
        let mut rings: Vec<_> = rings.filter_map(|tap| Some((tap.ring?, &tap.phantom))).collect();
        rings.sort_unstable();
        rings.into_iter().map(|(_, phantom)| phantom.clone()).collect()
    }

    /// Whether the device that keeps the call's ring, if one does, is in a place to hear it.
    fn hears_for_ring(&self, key: CallKey) -> bool {
        self.rings_of(key).iter().all(|device| self.is_heard_by_ring(device, key))
    }

    /// The phantom with the ring that is of this call: after a merge one may be left of a station that is in
    /// another call, or in none.
    fn ring_that_hears(&self, key: CallKey) -> Option<Extension> {
        self.rings_of(key).into_iter().find(|device| self.is_heard_by_ring(device, key))
    }

    fn is_heard_by_ring(&self, device: &Extension, key: CallKey) -> bool {
        !self.listens() || self.ear_hears(device, key)
    }
}

/// An order to a receiver's ring.
pub(super) fn ring_order(receiver: &Receiver, segment: SegmentId, change: RingChange) -> Order {
    Order::Ring(RingOrder { receiver: receiver.clone(), segment, change })
}
