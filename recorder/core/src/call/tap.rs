//! One phantom's way into a call and out again. Every phantom that is asked into a call, is in one
//! or is being taken out has one tap, so it can be in one call only.
//!
//! ```text
//!            ask_in                joined, or seen in the call
//!   (none) ─────────▶ Asked ─────────────────────────────▶ In
//!      ▲                │ refused, seen leaving              │ take_out
//!      ├────────────────┘          │ unwanted meanwhile      ▼
//!      └───────────────────────────┴──────────────────── Leaving
//!             left, seen leaving, not in the call
//! ```

use std::net::SocketAddr;
use std::time::Duration;

use storage_core::journal::Fact;
use storage_core::record::Side;
use storage_core::{CallId, Extension, MonoTime, Now, RecordingId, SegmentId, WallTime};

use super::calls::Calls;
use super::draft;
use super::leg::{Leg, MediaTerms};
use super::order::{JoinRefusal, MissedReason, Order, RingChange, Ticket};
use super::pool::{LONG_REST, PhantomState, REST};
use super::ring::ring_order;
use super::timer::Timer;
use super::tracked::CallKey;
use crate::Receiver;

/// What a tap is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The switch was asked to let it in.
    Asked {
        /// It is to leave as soon as it is in.
        unwanted: bool,
    },
    /// It is in the call.
    In,
    /// The switch was asked to let it out.
    Leaving,
}

/// A phantom in use.
#[derive(Debug)]
pub(super) struct Tap {
    pub phantom: Extension,
    pub call: CallKey,
    /// The call's number when it was last known.
    pub id: CallId,
    /// For which recording; `None` for a phantom that is only to be got out of a call.
    pub recording: Option<RecordingId>,
    /// What its receivers hear; none for a phantom that is only to be got out of a call.
    pub legs: Vec<Leg>,
    /// Since when it keeps a ring of what it hears, if it is in the call for that only.
    pub ring: Option<WallTime>,
    /// Since when what it hears is discarded, because its call is paused.
    pub muted: Option<WallTime>,
    pub ticket: Ticket,
    pub phase: Phase,
    /// When the phase began.
    pub since: MonoTime,
    /// How often it was asked to leave.
    pub leaves: u32,
    /// How long it rests afterwards.
    pub rest: Duration,
}

impl Calls {
    /// Asks a phantom into a call for a recording.
    pub(super) fn ask_in(
        &mut self,
        now: Now,
        key: CallKey,
        recording: RecordingId,
        phantom: &Extension,
    ) {
        let Some((id, party)) = self.way_into(key) else { return };
        let ticket = self.next_ticket();
        let since = self.heard_since(now, phantom, recording);
        let muted = self.mute_new(key, phantom);
        // The segments are opened first: media may come before the switch has answered.
        let sides = self.sides_of(phantom);
        let legs = sides.map(|side| self.open_leg(now, recording, phantom, side, since)).collect();
        let join = Order::Join { ticket, call: id.clone(), party, phantom: phantom.clone() };
        let phase = self.enter(join, phantom);
        self.work_of(key).block = None;
        let tap = Tap {
            recording: Some(recording),
            legs,
            muted,
            ..Tap::new(now, phantom, key, id, ticket, phase)
        };
        self.insert_tap(tap);
        self.tell_of_ear(now, phantom, since);
        self.arm_tap(phantom);
    }

    /// By which number and which party the switch is asked to let a phantom into a call.
    pub(super) fn way_into(&self, key: CallKey) -> Option<(CallId, Extension)> {
        let call = self.tracker.call(key)?;
        Some((call.id().clone(), draft::handle_of(call)?))
    }

    pub(super) fn insert_tap(&mut self, tap: Tap) {
        self.clear_stray_alarm(&tap.phantom);
        self.taps.insert(tap.phantom.clone(), tap);
    }

    /// Opens a segment on one receiver of a phantom.
    fn open_leg(
        &mut self,
        now: Now,
        recording: RecordingId,
        phantom: &Extension,
        side: Option<Side>,
        at: WallTime,
    ) -> Leg {
        let leg = Leg::new(side, self.next_segment(), now.mono);
        self.open_segment(recording, phantom, &leg, at);
        leg
    }

    /// Writes down that what a phantom's leg hears from `at` on belongs to a recording.
    pub(super) fn open_segment(
        &mut self,
        recording: RecordingId,
        phantom: &Extension,
        leg: &Leg,
        at: WallTime,
    ) {
        let Some(segment) = leg.segment else { return };
        if let Some(active) = self.recordings.get_mut(&recording) {
            active.unheard.push(segment);
        }
        self.orders.push_back(Order::Capture(Fact::SegmentOpened {
            segment,
            recordingid: recording,
            phantom: phantom.clone(),
            at,
            key: None,
            side: leg.side,
        }));
    }

    /// The switch has let a phantom in.
    pub(super) fn tap_joined(&mut self, now: Now, ticket: Ticket) {
        let Some(tap) = self.taps.values().find(|tap| tap.ticket == ticket) else { return };
        let (phantom, key) = (tap.phantom.clone(), tap.call);
        if tap.phase == Phase::Leaving {
            return self.ask_out(now, &phantom);
        }
        self.tracker.handle_phantom(now, key, &phantom, true);
        if self.tracker.call(key).is_none() {
            self.tap_is_in(now, &phantom);
        }
    }

    /// The media of a receiver is now so: from where, which codec, how much in a packet.
    pub(super) fn tap_is_sent(
        &mut self,
        now: Now,
        receiver: &Receiver,
        source: Option<SocketAddr>,
        codec: &str,
        packetms: u32,
    ) {
        let phantom = &receiver.device;
        let Some(tap) = self.taps.get_mut(phantom) else { return };
        let is_ring = tap.ring.is_some();
        let Some(leg) = tap.leg_mut(receiver.side) else { return };
        leg.media.get_or_insert(now.mono);
        let terms = MediaTerms { source, codec: codec.to_owned(), packetms };
        if let Some(segment) = leg.segment {
            let order = match is_ring {
                true => ring_order(receiver, segment, RingChange::Source(source)),
                false => Order::Capture(terms.fact(segment, now.wall)),
            };
            self.orders.push_back(order);
        }
        leg.terms = Some(terms);
        self.arm_tap(phantom);
    }

    /// The switch has not let a phantom in.
    pub(super) fn tap_refused(&mut self, now: Now, ticket: Ticket, why: &JoinRefusal) {
        let Some(tap) = self.taps.values().find(|tap| tap.ticket == ticket) else { return };
        let (phantom, key, phase) = (tap.phantom.clone(), tap.call, tap.phase);
        let purpose = tap.purpose();
        // A phantom that was not let in has heard nothing from which it would have to rest.
        let rest = if *why == JoinRefusal::PhantomBusy { LONG_REST } else { Duration::ZERO };
        self.drop_tap(now, &phantom, rest);
        self.evict_stray(now, &phantom);
        if phase != (Phase::Asked { unwanted: true }) {
            self.tap_failed(now, key, purpose, why);
        }
    }

    /// A phantom did not get into its call, or did not stay there, and was meant to.
    pub(super) fn tap_failed(
        &mut self,
        now: Now,
        key: CallKey,
        purpose: Purpose,
        why: &JoinRefusal,
    ) {
        match purpose {
            Purpose::Record => self.join_failed(now, key, why),
            Purpose::Ring => self.hold_ring_back(now, key),
            Purpose::Leave => {}
        }
    }

    /// A phantom was seen coming into a call.
    pub(super) fn phantom_came(&mut self, now: Now, key: CallKey, phantom: &Extension) {
        match self.taps.get(phantom) {
            Some(tap) if tap.call == key && matches!(tap.phase, Phase::Asked { .. }) => {
                self.tap_is_in(now, phantom);
            }
            None if self.moves_devices() => self.evict(now, key, phantom),
            Some(_) | None => {}
        }
    }

    /// A phantom was seen leaving a call.
    pub(super) fn phantom_went(&mut self, now: Now, key: CallKey, phantom: &Extension) {
        let Some(tap) = self.taps.get(phantom).filter(|tap| tap.call == key) else { return };
        let (phase, rest, purpose) = (tap.phase, tap.rest, tap.purpose());
        // One that listens follows its station, not the call.
        if matches!(phase, Phase::Asked { .. }) || !self.moves_devices() {
            return;
        }
        self.drop_tap(now, phantom, rest);
        match purpose {
            Purpose::Record if phase == Phase::In => {
                self.hold_back(now, key, MissedReason::Refused);
            }
            Purpose::Ring => self.hold_ring_back(now, key),
            Purpose::Record | Purpose::Leave => {}
        }
    }

    /// Asks a phantom out of its call; one that is still on its way in leaves when it is in.
    pub(super) fn take_out(&mut self, now: Now, phantom: &Extension) {
        self.end_ring(phantom);
        let Some(tap) = self.taps.get_mut(phantom) else { return };
        match tap.phase {
            Phase::Asked { ref mut unwanted } => *unwanted = true,
            Phase::In => self.ask_out(now, phantom),
            Phase::Leaving => {}
        }
    }

    /// Orders a phantom out, for the first time or again. One that listens is in no call by itself.
    pub(super) fn ask_out(&mut self, now: Now, phantom: &Extension) {
        if !self.moves_devices() {
            return self.drop_tap(now, phantom, Duration::ZERO);
        }
        self.end_ring(phantom);
        let Some(tap) = self.taps.get_mut(phantom) else { return };
        if tap.phase != Phase::Leaving {
            tap.leaves = 0;
        }
        (tap.phase, tap.since) = (Phase::Leaving, now.mono);
        tap.leaves += 1;
        if let Some(call) = self.tracker.call(tap.call) {
            tap.id = call.id().clone();
        }
        self.orders.push_back(Order::Leave { phantom: phantom.clone(), call: tap.id.clone() });
        self.pool.busy(phantom, PhantomState::Leaving);
        self.arm_tap(phantom);
    }

    /// A phantom has left its call, or was not in it.
    pub(super) fn tap_left(&mut self, now: Now, phantom: &Extension) {
        let Some(tap) = self.taps.get(phantom) else { return };
        if tap.phase != Phase::Leaving {
            return;
        }
        let (key, rest) = (tap.call, tap.rest);
        if self.tracker.call(key).is_some_and(|call| *call.id() != tap.id) {
            // A merge has given the call another number meanwhile: under the old one nobody is in it.
            return self.ask_out(now, phantom);
        }
        self.drop_tap(now, phantom, rest);
        self.tracker.handle_phantom(now, key, phantom, false);
        // An unanswered request may have put it into another call as well.
        self.evict_stray(now, phantom);
    }

    /// A phantom is not registered any more. What it hears ends, and its place in the call is given
    /// up; another takes its part.
    pub(super) fn end_tap_of_lost(&mut self, now: Now, phantom: &Extension) {
        let Some(tap) = self.taps.get(phantom) else { return };
        let (key, phase) = (tap.call, tap.phase);
        self.close_over(now, phantom);
        if phase != Phase::Leaving {
            self.ask_out(now, phantom);
        }
        self.touched.insert(key);
    }

    /// After a loss of the link: what the switch was asked before it was back will not be answered
    /// any more, but where each phantom is can be seen from the calls.
    pub(super) fn check_taps(&mut self, now: Now) {
        let Some(back) = self.link_back.take() else { return };
        let old = self.taps.values().filter(|tap| tap.since < back);
        for phantom in old.map(|tap| tap.phantom.clone()).collect::<Vec<_>>() {
            self.check_tap(now, &phantom);
        }
    }

    fn check_tap(&mut self, now: Now, phantom: &Extension) {
        let Some(tap) = self.taps.get_mut(phantom) else { return };
        let (key, phase, rest, purpose) = (tap.call, tap.phase, tap.rest, tap.purpose());
        let call = self.tracker.call(key);
        let there = call.is_some_and(|call| call.phantoms().any(|other| other == phantom));
        match phase {
            Phase::Asked { .. } if there => self.tap_is_in(now, phantom),
            Phase::Asked { unwanted } => {
                self.drop_tap(now, phantom, rest);
                self.evict_stray(now, phantom);
                if !unwanted {
                    self.tap_failed(now, key, purpose, &JoinRefusal::LinkDown);
                }
            }
            Phase::In => {
                tap.since = now.mono;
                self.arm_tap(phantom);
            }
            Phase::Leaving if there => self.ask_out(now, phantom),
            Phase::Leaving => {
                self.drop_tap(now, phantom, rest);
                self.evict_stray(now, phantom);
            }
        }
    }

    /// The phantoms that are in a call or on their way.
    pub(super) fn phantoms_at(&self, key: CallKey) -> Vec<Extension> {
        let taps = self.taps.values().filter(|tap| tap.call == key);
        taps.map(|tap| tap.phantom.clone()).collect()
    }

    /// Ends a tap: its segment is closed and its phantom rests.
    pub(super) fn drop_tap(&mut self, now: Now, phantom: &Extension, rest: Duration) {
        self.close_segments(now, phantom);
        self.unmute(now, phantom);
        self.clear_media_alarms(phantom);
        self.clear_stuck_alarm(phantom);
        self.timers.stop(&Timer::Tap(phantom.clone()));
        let Some(tap) = self.taps.remove(phantom) else { return };
        self.pool.give_back(now.mono, phantom, self.rest_after(rest));
        self.touched.insert(tap.call);
        self.device_freed(now);
        if let Some(id) = tap.recording {
            self.finish_if_quiet(now, id);
        }
    }

    /// Nothing that the phantom receives from now on is part of the recording.
    pub(super) fn close_segments(&mut self, now: Now, phantom: &Extension) {
        self.end_ring(phantom);
        let Some(tap) = self.taps.get_mut(phantom) else { return };
        for leg in &mut tap.legs {
            let Some(segment) = leg.segment.take() else { continue };
            let heard = leg.first.is_some();
            let fact = Fact::SegmentClosed { segment, at: now.wall };
            self.orders.push_back(Order::Capture(fact));
            if heard {
                self.orders.push_back(Order::SegmentEnded { segment, at: now.wall });
            }
        }
    }

    /// What a receiver hears, if its device is in use.
    pub(super) fn leg_of(&mut self, receiver: &Receiver) -> Option<&mut Leg> {
        self.taps.get_mut(&receiver.device)?.leg_mut(receiver.side)
    }

    /// The receiver on which a segment is open, and its tap.
    pub(super) fn tap_with(&self, segment: SegmentId) -> Option<(Receiver, &Tap)> {
        self.taps.values().find_map(|tap| {
            let leg = tap.legs.iter().find(|leg| leg.segment == Some(segment))?;
            Some((Receiver { device: tap.phantom.clone(), side: leg.side }, tap))
        })
    }

    /// The phantoms that hear a recording's call, or are on their way.
    pub(super) fn taps_of(&self, id: RecordingId) -> Vec<Extension> {
        let taps = self.taps.values().filter(|tap| tap.recording == Some(id));
        taps.map(|tap| tap.phantom.clone()).collect()
    }

    /// The phantom that hears a recording's call or is on its way, and is to stay.
    pub(super) fn tap_of(&self, id: RecordingId) -> Option<&Tap> {
        self.taps.values().find(|tap| tap.recording == Some(id) && tap.stays())
    }

    fn tap_is_in(&mut self, now: Now, phantom: &Extension) {
        let Some(tap) = self.taps.get_mut(phantom) else { return };
        let unwanted = tap.phase == Phase::Asked { unwanted: true };
        (tap.phase, tap.since) = (Phase::In, now.mono);
        self.touched.insert(tap.call);
        let state = if tap.ring.is_some() { PhantomState::Ring } else { PhantomState::Recording };
        self.pool.busy(phantom, state);
        if unwanted {
            self.ask_out(now, phantom);
        } else {
            self.arm_tap(phantom);
        }
    }

    /// A phantom that is in no use is taken out of whatever call it is seen in: it may have been asked
    /// into one before it was known to sit in another.
    pub(super) fn evict_stray(&mut self, now: Now, phantom: &Extension) {
        if !self.moves_devices() {
            return;
        }
        if let Some(key) = self.tracker.call_of_phantom(phantom) {
            self.evict(now, key, phantom);
        }
    }

    /// A phantom of ours is in a call for no recording: a crash or a lost answer left it there.
    fn evict(&mut self, now: Now, key: CallKey, phantom: &Extension) {
        let Some(call) = self.tracker.call(key) else { return };
        let id = call.id().clone();
        let ticket = self.next_ticket();
        let muted = self.mute_new(key, phantom);
        let tap = Tap { muted, ..Tap::new(now, phantom, key, id, ticket, Phase::In) };
        self.taps.insert(phantom.clone(), tap);
        self.ask_out(now, phantom);
    }
}

/// What a phantom is in a call for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To record it.
    Record,
    /// To keep a ring of it.
    Ring,
    /// To be got out of it.
    Leave,
}

impl Tap {
    /// One that is in a call for nothing yet.
    pub fn new(
        now: Now,
        phantom: &Extension,
        call: CallKey,
        id: CallId,
        ticket: Ticket,
        phase: Phase,
    ) -> Self {
        Self {
            phantom: phantom.clone(),
            call,
            id,
            recording: None,
            legs: Vec::new(),
            ring: None,
            muted: None,
            ticket,
            phase,
            since: now.mono,
            leaves: 0,
            rest: REST,
        }
    }

    /// What it is in the call for.
    pub const fn purpose(&self) -> Purpose {
        match (self.recording, self.ring) {
            (_, Some(_)) => Purpose::Ring,
            (Some(_), None) => Purpose::Record,
            (None, None) => Purpose::Leave,
        }
    }

    /// Whether it is, or will be, in the call to record it.
    pub fn stays(&self) -> bool {
        matches!(self.phase, Phase::Asked { unwanted: false } | Phase::In)
    }

    /// Whether what it receives is recorded.
    pub fn is_open(&self) -> bool {
        self.legs.iter().any(|leg| leg.segment.is_some())
    }

    /// Whether another of its receivers hears what is to be heard.
    pub fn hears_beside(&self, side: Option<Side>) -> bool {
        self.legs.iter().any(|leg| leg.is_audible() && leg.side != side)
    }

    pub fn leg_mut(&mut self, side: Option<Side>) -> Option<&mut Leg> {
        self.legs.iter_mut().find(|leg| leg.side == side)
    }

    /// Whether nothing was heard by it, and the switch has not told of any media.
    pub fn is_sent_nothing(&self) -> bool {
        self.legs.iter().all(|leg| leg.media.is_none() && !leg.heard)
    }
}
