//! Devices that hear one station each, in whatever call it talks (see [`super::method`]). A device's
//! audio belongs to the call in which its station is *connected*: where it has a call on hold, it
//! hears nothing of it, or another one. So a segment is open on a device only while its station talks
//! in the segment's call, and a recording goes on by the device of another station of the call where
//! there is one. What is recorded at all is decided elsewhere.
//!
//! A device may be two receivers, one for each side of the call. For the calls it is one all the same: it
//! can be used as long as one of the two is registered, and what the other would have heard is missing on
//! that side.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use storage_core::journal::Fact;
use storage_core::record::{GapCause, Side, TriggerKind};
use storage_core::{Extension, Now, RecordingId, WallTime};

use super::calls::Calls;
use super::event::PartyState;
use super::leg::{MediaTerms, Silence};
use super::method::Method;
use super::order::{MissedReason, Order, RingChange};
use super::pool::PhantomState;
use super::ring::ring_order;
use super::tap::Phase;
use super::tracked::{CallKey, TrackedCall};
use crate::Receiver;

/// The switch's word of a call comes so much later than the call's first audio at most; what the
/// device has received since then belongs to it.
const WORD: Duration = Duration::from_millis(250);

/// What a device has received and nobody claimed is kept for so long by the media thread, in packets of
/// 20 ms. A node that goes on with another's recording has heard the call all the time, so the hole
/// that the other leaves is filled from this. Where a recording goes on by another device of this node,
/// both heard the call for a while, and by what they have in common the two are joined.
const KEPT: Duration = Duration::from_millis(1_200);

/// No device can hear a recording's call, and that is the stations' doing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deaf {
    from: WallTime,
    cause: GapCause,
    /// When the first packet of what was heard until then was received; `None` if nothing was heard.
    heard: Option<WallTime>,
}

/// One receiver of a device.
#[derive(Debug)]
struct Reception {
    side: Option<Side>,
    registered: bool,
    /// The media that it is being sent.
    terms: Option<MediaTerms>,
}

/// One device.
#[derive(Debug)]
struct Ear {
    station: Extension,
    /// By side, where it hears each by itself.
    receptions: Vec<Reception>,
    /// The call in which its station talks.
    hears: Option<CallKey>,
    /// When the word came that it talks there.
    talks: WallTime,
    /// When its station last stopped talking in a call.
    quiet: WallTime,
}

/// All devices that listen; empty where phantoms are put into calls instead.
#[derive(Debug, Default)]
pub(super) struct Ears {
    by_station: BTreeMap<Extension, Extension>,
    ears: BTreeMap<Extension, Ear>,
}

impl Ears {
    pub fn new(method: &Method) -> Self {
        let Method::Listen { devices: by_station, .. } = method else { return Self::default() };
        let silent =
            |side: &Option<Side>| Reception { side: *side, registered: false, terms: None };
        let ear = |(station, device): (&Extension, &Extension)| {
            let ear = Ear {
                station: station.clone(),
                receptions: method.sides().iter().map(silent).collect(),
                hears: None,
                talks: WallTime::default(),
                quiet: WallTime::default(),
            };
            (device.clone(), ear)
        };
        Self { by_station: by_station.clone(), ears: by_station.iter().map(ear).collect() }
    }

    pub fn is_empty(&self) -> bool {
        self.by_station.is_empty()
    }

    fn reception(&mut self, receiver: &Receiver) -> Option<&mut Reception> {
        let ear = self.ears.get_mut(&receiver.device)?;
        ear.receptions.iter_mut().find(|reception| reception.side == receiver.side)
    }
}

impl Ear {
    /// How many of its receivers are sent nothing.
    fn deaf(&self) -> usize {
        self.receptions.iter().filter(|reception| reception.terms.is_none()).count()
    }

    fn is_sent_something(&self) -> bool {
        self.deaf() < self.receptions.len()
    }

    /// The media of its receiver for this side.
    fn terms(&self, side: Option<Side>) -> Option<&MediaTerms> {
        self.receptions.iter().find(|reception| reception.side == side)?.terms.as_ref()
    }

    /// Since when what it received belongs to a call: `before` now at most, and not from before its station
    /// was last in another call. What came before somebody answered is ringing.
    fn heard_since(&self, now: Now, call: Option<&TrackedCall>, before: Duration) -> WallTime {
        let answered = call.and_then(TrackedCall::began).map(|began| began.wall - WORD);
        let since = (now.wall - before).max(self.quiet);
        since.max(answered.unwrap_or(self.quiet)).min(now.wall)
    }
}

impl Calls {
    /// The device by which this call can be heard now: that of a station which talks in it, rather
    /// one that is being sent media, rather one that came earlier.
    pub(super) fn ear_for(&self, now: Now, key: CallKey) -> Option<Extension> {
        let call = self.tracker.call(key)?;
        let talking = call.real().filter(|party| party.state == PartyState::Connected);
        let mut devices: Vec<_> = talking
            .filter_map(|party| {
                let device = self.ears.by_station.get(party.name.number.as_ref()?)?;
                let ear = self.ears.ears.get(device)?;
                let free = self.pool.state(now.mono, device) == Some(PhantomState::Free);
                let here = self.hears(&ear.station) == Some(key);
                (free && here).then_some((ear.deaf(), party.came, device))
            })
            .collect();
        devices.sort_unstable_by_key(|(deaf, came, _)| (*deaf, *came));
        devices.first().map(|(.., device)| (*device).clone())
    }

    /// Since when what a device has received belongs to the recording for which it is to hear its call
    /// from now on.
    pub(super) fn heard_since(&self, now: Now, device: &Extension, id: RecordingId) -> WallTime {
        let Some(ear) = self.ears.ears.get(device) else { return now.wall };
        let active = self.recordings.get(&id);
        let call = active.and_then(|active| self.tracker.call(active.call));
        let Some(active) = active else { return ear.heard_since(now, call, WORD) };
        match (active.draft.trigger, active.deaf) {
            (TriggerKind::Takeover | TriggerKind::Rescue, _) => ear.heard_since(now, call, KEPT),
            // It goes on by another device: of the same call, of what was to be recorded, and so
            // that something is left of what was heard before.
            (_, Some(deaf)) => {
                let least = ear.talks.max(active.draft.opened) - WORD;
                let behind = deaf.heard.map_or(least, |heard| heard + WORD);
                let least = least.max(behind.min(now.wall - WORD));
                ear.heard_since(now, call, KEPT).max(least)
            }
            _ => ear.heard_since(now, call, WORD),
        }
    }

    /// Since when what a device has received belongs to the ring that it is to keep of a call.
    pub(super) fn ring_since(&self, now: Now, device: &Extension, key: CallKey) -> WallTime {
        let ear = self.ears.ears.get(device);
        ear.map_or(now.wall, |ear| ear.heard_since(now, self.tracker.call(key), WORD))
    }

    /// Whether a device's station talks in this call.
    pub(super) fn ear_hears(&self, device: &Extension, key: CallKey) -> bool {
        self.ears.ears.get(device).is_some_and(|ear| self.hears(&ear.station) == Some(key))
    }

    /// A ring was begun on a device that listens: what that is being sent is known already.
    pub(super) fn tell_ring_of_ear(&mut self, now: Now, device: &Extension) {
        let Some(ear) = self.ears.ears.get(device) else { return };
        let Some(tap) = self.taps.get_mut(device) else { return };
        for leg in &mut tap.legs {
            let Some(segment) = leg.segment else { continue };
            let Some(terms) = ear.terms(leg.side) else { continue };
            let receiver = Receiver { device: device.clone(), side: leg.side };
            let order = ring_order(&receiver, segment, RingChange::Source(terms.source));
            self.orders.push_back(order);
            (leg.media, leg.terms) = (Some(now.mono), Some(terms.clone()));
        }
    }

    /// The sides of a call that a device hears, one segment for each.
    pub(super) fn sides_of(
        &self,
        device: &Extension,
    ) -> impl Iterator<Item = Option<Side>> + use<> {
        let ear = self.ears.ears.get(device);
        let sides: Vec<_> = ear.iter().flat_map(|ear| &ear.receptions).map(|r| r.side).collect();
        let whole = sides.is_empty().then_some(None);
        sides.into_iter().chain(whole)
    }

    /// A tap was opened on a device that listens: what is known already is written down. That is
    /// what the device is being sent, and why nothing was heard before.
    pub(super) fn tell_of_ear(&mut self, now: Now, device: &Extension, since: WallTime) {
        let Some(ear) = self.ears.ears.get(device) else { return };
        let Some(tap) = self.taps.get_mut(device) else { return };
        let active = tap.recording.and_then(|id| self.recordings.get_mut(&id));
        let deaf = active.and_then(|active| active.deaf.take());
        for leg in &mut tap.legs {
            let Some(segment) = leg.segment else { continue };
            if let Some(terms) = ear.terms(leg.side) {
                self.orders.push_back(Order::Capture(terms.fact(segment, now.wall)));
                (leg.media, leg.terms) = (Some(now.mono), Some(terms.clone()));
            }
            if let Some(Deaf { from, cause, .. }) = deaf {
                let to = since.max(from);
                let fact = Fact::Lost { segment, from, to, packets: 0, cause };
                self.orders.push_back(Order::Capture(fact));
            }
        }
    }

    /// The media of a receiver is now so. Where its call is to be heard by another that is sent nothing
    /// (a call may take one observer only), this one takes its part.
    pub(super) fn ear_is_sent(
        &mut self,
        now: Now,
        receiver: &Receiver,
        source: Option<SocketAddr>,
        codec: &str,
        packetms: u32,
    ) {
        let device = &receiver.device;
        let Some(reception) = self.ears.reception(receiver) else { return };
        reception.terms = Some(MediaTerms { source, codec: codec.to_owned(), packetms });
        let hears = self.ears.ears.get(device).and_then(|ear| ear.hears);
        let Some(key) = hears.filter(|_| !self.taps.contains_key(device)) else { return };
        let deaf = self
            .taps
            .values()
            .find(|tap| tap.call == key && tap.recording.is_some() && tap.is_sent_nothing());
        if let Some(deaf) = deaf.map(|tap| tap.phantom.clone()) {
            self.drop_tap(now, &deaf, Duration::ZERO);
        }
    }

    /// A receiver is sent no media.
    pub(super) fn ear_is_silent(&mut self, receiver: &Receiver) {
        if let Some(reception) = self.ears.reception(receiver) {
            reception.terms = None;
        }
    }

    /// Whether a receiver is registered.
    pub(super) fn ear_is_registered(&mut self, receiver: &Receiver, registered: bool) {
        if let Some(reception) = self.ears.reception(receiver) {
            reception.registered = registered;
        }
    }

    /// A receiver is not registered any more; `true` if its device has no other, so that it is lost.
    pub(super) fn loses_ear(&mut self, receiver: &Receiver) -> bool {
        self.ear_is_registered(receiver, false);
        self.ear_is_silent(receiver);
        let ear = self.ears.ears.get(&receiver.device);
        let goes_on = ear.is_some_and(|ear| ear.receptions.iter().any(|r| r.registered));
        if let Some(leg) = self.leg_of(receiver).filter(|_| goes_on) {
            (leg.media, leg.terms) = (None, None);
        }
        !goes_on
    }

    /// Something about a call has changed: notes where its stations talk now.
    pub(super) fn follow_ears(&mut self, now: Now, key: CallKey) {
        if !self.listens() {
            return;
        }
        let call = self.tracker.call(key);
        let numbers = call.into_iter().flat_map(|call| call.real());
        let numbers = numbers.filter_map(|party| party.name.number.as_ref());
        let there = numbers.filter_map(|number| self.ears.by_station.get(number)).cloned();
        let before = self.ears.ears.iter().filter(|(_, ear)| ear.hears == Some(key));
        let devices: Vec<_> = there.chain(before.map(|(device, _)| device.clone())).collect();
        for device in devices {
            let Some(ear) = self.ears.ears.get(&device) else { continue };
            let hears = self.hears(&ear.station);
            if let Some(ear) = self.ears.ears.get_mut(&device)
                && ear.hears != hears
            {
                if ear.hears.is_some() {
                    ear.quiet = now.wall;
                }
                ear.hears = hears;
                ear.talks = now.wall;
                self.touched.extend(hears);
            }
        }
    }

    /// Ends the taps of a recording whose stations do not talk in its call any more.
    pub(super) fn leave_unheard(&mut self, now: Now, key: CallKey, id: RecordingId) {
        if !self.listens() {
            return;
        }
        for device in self.taps_of(id) {
            let Some(ear) = self.ears.ears.get(&device) else { continue };
            if self.hears(&ear.station) == Some(key) {
                continue;
            }
            let party = self.tracker.call(key).and_then(|call| call.party(&ear.station));
            let held = party.is_some_and(|party| party.state == PartyState::Held);
            let cause = if held { GapCause::Hold } else { GapCause::NoMedia };
            let legs = self.taps.get(&device).into_iter().flat_map(|tap| &tap.legs);
            let heard = legs.filter_map(|leg| leg.first).min();
            if let Some(active) = self.recordings.get_mut(&id) {
                active.deaf = Some(Deaf { from: now.wall, cause, heard });
            }
            self.drop_tap(now, &device, Duration::ZERO);
        }
    }

    /// A receiver that should hear its station's call hears nothing. Another station's device takes the
    /// part of its device, if that is being sent media; else it goes on listening, and is attached anew.
    /// As long as the other side is heard, the device stays.
    pub(super) fn ear_is_deaf(&mut self, now: Now, receiver: &Receiver) {
        let device = &receiver.device;
        let Some(tap) = self.taps.get(device) else { return };
        let (key, phase) = (tap.call, tap.phase);
        if !tap.hears_beside(receiver.side) {
            let other = self.ear_for(now, key);
            let other = other.and_then(|other| self.ears.ears.get(&other));
            if phase == Phase::In && other.is_some_and(Ear::is_sent_something) {
                self.hold_back(now, key, MissedReason::NoMedia);
                return self.drop_tap(now, device, Duration::ZERO);
            }
            self.block(key, MissedReason::NoMedia);
        }
        if let Some(leg) = self.leg_of(receiver) {
            leg.seen = now.mono;
            leg.silence = leg.heard.then_some(Silence { seen: now.mono, held: false });
        }
        self.orders.push_back(Order::Attach { receiver: receiver.clone() });
        self.arm_tap(device);
    }

    /// The call in which a station talks. Of several (an event was lost) it is the newest.
    fn hears(&self, station: &Extension) -> Option<CallKey> {
        let calls = self.tracker.calls_of(station).filter(|call| {
            call.party(station).is_some_and(|party| party.state == PartyState::Connected)
        });
        calls.map(|call| call.key).max()
    }
}
