//! What must hold whatever happens: checked at each order, and once more at the end.

use std::collections::{BTreeMap, BTreeSet};

use recorder_core::Receiver;
use recorder_core::call::event::PartyState;
use recorder_core::call::{Method, Order, PauseChange, PauseOrder, RingChange, RingOrder};
use storage_core::journal::Fact;
use storage_core::{Extension, MonoTime, RecordingId, SegmentId};

use crate::site::{Setup, Site};

/// Keeps account of a machine's orders.
pub struct Watch {
    phantoms: BTreeSet<Extension>,
    /// The station of each device that listens.
    stations: BTreeMap<Extension, Extension>,
    max_parties: usize,
    /// How many segments are open on a device at a time.
    sides: usize,
    open: BTreeMap<SegmentId, (Receiver, RecordingId)>,
    segments: BTreeSet<SegmentId>,
    rings: BTreeMap<SegmentId, Receiver>,
    recordings: BTreeMap<RecordingId, bool>,
    asked: BTreeMap<u64, MonoTime>,
    /// Devices whose media is discarded.
    muted: BTreeSet<Extension>,
    /// Recordings that say that they are paused.
    paused: BTreeSet<RecordingId>,
    /// Every recording's captured segments.
    pub segments_opened: usize,
}

impl Watch {
    pub fn new(setup: &Setup) -> Self {
        Self {
            phantoms: setup.roster.phantoms.clone(),
            stations: match &setup.method {
                Method::Join => BTreeMap::new(),
                Method::Listen { devices, .. } => devices
                    .iter()
                    .map(|(station, device)| (device.clone(), station.clone()))
                    .collect(),
            },
            max_parties: setup.max_parties,
            sides: setup.method.sides().len(),
            open: BTreeMap::new(),
            segments: BTreeSet::new(),
            rings: BTreeMap::new(),
            recordings: BTreeMap::new(),
            asked: BTreeMap::new(),
            muted: BTreeSet::new(),
            paused: BTreeSet::new(),
            segments_opened: 0,
        }
    }

    /// The phantoms that segments are open on.
    pub fn recording(&self) -> BTreeSet<Extension> {
        self.open.values().map(|(receiver, _)| receiver.device.clone()).collect()
    }

    /// A request was made, which must be answered once and in time.
    pub fn asked(&mut self, request: u64, at: MonoTime) {
        self.asked.insert(request, at);
    }

    pub fn check(&mut self, site: &Site, order: &Order) {
        let moves = matches!(order, Order::Join { .. } | Order::Leave { .. });
        assert!(!moves || self.stations.is_empty(), "a device that listens is moved: {order:?}");
        match order {
            Order::Join { phantom, call, .. } => {
                assert!(self.phantoms.contains(phantom), "joins with a strange phantom {phantom}");
                // Places at this moment include this very join, which is still to come.
                let places = site.calls.tracker().by_id(call).map_or(0, |call| call.places());
                assert!(places < self.max_parties, "fills call {call} beyond the limit");
            }
            Order::Leave { phantom, .. } => {
                assert!(self.phantoms.contains(phantom), "would drop {phantom}, who is no phantom");
            }
            Order::Capture(fact) => self.check_fact(fact),
            Order::Ring(order) => self.check_ring(order),
            Order::Pause(PauseOrder { device, change: PauseChange::From(_) }) => {
                assert!(self.muted.insert(device.clone()), "{device} is paused twice");
            }
            Order::Pause(PauseOrder { device, change: PauseChange::Until(_) }) => {
                assert!(self.muted.remove(device), "{device} was not paused");
            }
            Order::Answer { request, .. } => {
                let at = self.asked.remove(request).expect("an answer that nobody asked for");
                let took = site.now.mono.since(at).as_millis();
                assert!(took <= 3_000, "request {request} took {took} ms");
            }
            Order::CallOver(account) => {
                assert!(account.began <= account.ended, "{account:?}");
                assert!(!account.callids.is_empty(), "{account:?}");
                let due = &account.due;
                assert!(due.iter().all(|due| due.from < due.to), "{account:?}");
                assert!(due.windows(2).all(|pair| pair[0].to <= pair[1].from), "{account:?}");
            }
            _ => {}
        }
    }

    fn check_ring(&mut self, RingOrder { receiver, segment, change }: &RingOrder) {
        match change {
            RingChange::Begin { .. } => {
                let busy = self.open.values().any(|(other, _)| other == receiver)
                    || self.rings.values().any(|other| other == receiver);
                assert!(!busy, "{receiver} has a ring and something else");
                assert!(!self.segments.contains(segment), "ring {segment} is not new");
                self.rings.insert(*segment, receiver.clone());
            }
            RingChange::Source(_) => {
                assert_eq!(self.rings.get(segment), Some(receiver), "media of no ring");
            }
            RingChange::End => {
                assert_eq!(self.rings.remove(segment).as_ref(), Some(receiver), "no such ring");
            }
        }
    }

    fn check_fact(&mut self, fact: &Fact) {
        match fact {
            Fact::Recording { draft } => {
                let id = draft.recordingid;
                let ended = self.recordings.entry(id).or_insert(false);
                assert!(!*ended, "recording {id} changes after its end");
                *ended = draft.ended.is_some();
                let open = self.open.values().any(|(_, recording)| *recording == id);
                assert!(!(*ended && open), "recording {id} ends with a segment open");
                let paused = draft.pauses.iter().any(|pause| pause.stretch.to.is_none());
                match paused {
                    true => self.paused.insert(id),
                    false => self.paused.remove(&id),
                };
                self.check_paused();
            }
            Fact::SegmentOpened { segment, recordingid, phantom, side, .. } => {
                let receiver = Receiver { device: phantom.clone(), side: *side };
                let ring = self.rings.remove(segment);
                assert!(ring.is_none_or(|ring| ring == receiver), "another's ring {segment}");
                assert!(self.segments.insert(*segment), "segment {segment} is not new");
                self.segments_opened += 1;
                let known = self.recordings.get(recordingid);
                assert_eq!(known, Some(&false), "segment {segment} of no open recording");
                let busy = self.open.values().any(|(other, _)| *other == receiver);
                assert!(!busy, "{receiver} is in two segments");
                self.open.insert(*segment, (receiver, *recordingid));
                self.check_paused();
            }
            Fact::SegmentClosed { segment, .. } => {
                assert!(self.open.remove(segment).is_some(), "segment {segment} is not open");
            }
            Fact::MediaTerms { segment, .. } => {
                assert!(self.open.contains_key(segment), "terms of a segment that is not open");
            }
            Fact::Lost { .. } | Fact::Sealed { .. } => {}
        }
    }

    /// Nothing of a recording that is paused is captured.
    fn check_paused(&self) {
        for (receiver, recording) in self.open.values() {
            let paused = self.paused.contains(recording);
            assert!(
                !paused || self.muted.contains(&receiver.device),
                "{receiver} is heard in a pause"
            );
        }
    }

    /// A device that listens has a segment open only while its station talks, and then one for each
    /// side that it hears.
    fn check_ears(&self, site: &Site) {
        for (receiver, _) in self.open.values() {
            let of_device = self.open.values().filter(|(other, _)| other.device == receiver.device);
            assert_eq!(of_device.count(), self.sides, "segments open on {receiver}");
        }
        for (segment, (device, _)) in &self.open {
            let Some(station) = self.stations.get(&device.device) else { continue };
            let mut calls = site.calls.tracker().calls_of(station);
            let plausible = calls.any(|call| {
                let party = call.party(station);
                !call.is_confirmed() || party.is_some_and(|p| p.state == PartyState::Connected)
            });
            // After a loss of the link nothing is decided before the call is heard of again.
            let doubtful = site.calls.tracker().calls().any(|call| !call.is_confirmed());
            assert!(
                plausible || doubtful,
                "{segment} is open on {device}, and {station} is silent"
            );
        }
    }

    /// Nothing is left over.
    pub fn check_end(&self, site: &Site) {
        assert!(self.open.is_empty(), "left open: {:?}", self.open);
        assert!(self.rings.is_empty(), "rings left: {:?}", self.rings);
        let unfinished: Vec<_> = self.recordings.iter().filter(|(_, ended)| !**ended).collect();
        assert!(unfinished.is_empty(), "never ended: {unfinished:?}");
        assert!(self.muted.is_empty(), "still discarded: {:?}", self.muted);
        assert!(self.asked.is_empty(), "never answered: {:?}", self.asked);
        assert!(site.calls.is_idle(), "phantoms left: {:?}", site.calls.phantoms(site.now));
        assert_eq!(site.calls.recordings_active(), 0);
    }
}

/// Takes all orders, checked.
pub fn take_orders(site: &mut Site, watch: &mut Watch) -> Vec<Order> {
    let mut orders = Vec::new();
    while let Some(order) = site.calls.poll_order() {
        watch.check(site, &order);
        site.note(&order);
        orders.push(order);
    }
    watch.check_ears(site);
    orders
}

/// Lets time pass up to a moment, with everything the machine does by itself.
pub fn pass_time(
    site: &mut Site,
    watch: &mut Watch,
    until: MonoTime,
    mut on_orders: impl FnMut(&mut Site, &mut Watch, Vec<Order>),
) {
    for _ in 0..20_000 {
        let Some(due) = site.calls.poll_timeout().filter(|due| *due <= until) else {
            let millis = until.as_micros() / 1000;
            site.now = crate::site::at(millis);
            return;
        };
        site.now = crate::site::at(due.as_micros().div_ceil(1000));
        site.calls.handle_timeout(site.now);
        let orders = take_orders(site, watch);
        on_orders(site, watch, orders);
    }
    panic!("the machine never rests");
}
