//! A call machine under test with its clock, and what is needed to answer its orders.

use std::collections::BTreeMap;
use std::time::Duration;

use recorder_core::Receiver;
use recorder_core::call::event::{CallChange, CallEvent, CallFacts, Connection, Device, Monitor};
use recorder_core::call::order::Ticket;
use recorder_core::call::roster::Roster;
use recorder_core::call::rule::{RuleConfig, Rules};
use recorder_core::call::{
    Calls, Mandate, Method, Order, Patience, RingChange, RingOrder, TriggerConfig,
};
use recorder_core::media::MediaNotice;
use storage_core::journal::Fact;
use storage_core::{CallId, Duty, Extension, MonoTime, NodeId, Now, SegmentId, WallTime};

/// Wall time of a scenario's zero, in milliseconds.
pub const EPOCH: i64 = 1_700_000_000_000;

/// What a site is like.
#[derive(Clone, Debug)]
pub struct Setup {
    pub roster: Roster,
    pub method: Method,
    pub rules: Vec<RuleConfig>,
    pub max_parties: usize,
    /// `al_standbyring`.
    pub ring: Duration,
}

impl Default for Setup {
    fn default() -> Self {
        let range = |from: u32, to: u32| (from..=to).map(|n| Extension::new(n.to_string()));
        let roster = Roster {
            phantoms: range(78001, 78003).collect(),
            peer_phantoms: range(79001, 79003).collect(),
            stations: range(31001, 31009).collect(),
            vdns: range(50100, 50100).collect(),
            skills: range(60001, 60001).collect(),
            ..Roster::default()
        };
        Self {
            roster,
            method: Method::Join,
            rules: Vec::new(),
            max_parties: 6,
            ring: Duration::ZERO,
        }
    }
}

/// The machine, and what its orders have left open.
pub struct Site {
    pub calls: Calls,
    pub now: Now,
    pub joins: BTreeMap<Extension, (Ticket, CallId)>,
    pub leaves: BTreeMap<Extension, CallId>,
    pub segments: BTreeMap<Receiver, SegmentId>,
    /// Whether the switch can be heard.
    pub link: bool,
}

impl Site {
    pub fn new(setup: &Setup) -> Self {
        let calls = Calls::new(TriggerConfig {
            node: NodeId(1),
            roster: setup.roster.clone(),
            method: setup.method.clone(),
            rules: Rules::read(&setup.rules).expect("the scenario's rules are right"),
            max_parties: setup.max_parties,
            patience: Patience::default(),
            ring: setup.ring,
            id_seed: 42,
            first_segment: SegmentId(1),
        });
        let (joins, leaves, segments) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { calls, now: at(0), joins, leaves, segments, link: true }
    }

    /// The usual start: link up, nothing going on, all phantoms registered, this node leads.
    pub fn start(&mut self, setup: &Setup) {
        self.calls.handle_link(self.now, true);
        self.calls.begin_resync(self.now);
        self.calls.end_resync(self.now, &[]);
        for device in setup.method.devices(&setup.roster) {
            for side in setup.method.sides() {
                let receiver = Receiver { device: device.clone(), side: *side };
                self.calls.handle_phantom_ready(self.now, receiver);
            }
        }
        self.calls.set_mandate(self.now, Mandate::alone(Duty::Lead));
    }

    /// Notes what an order leaves to be answered.
    pub fn note(&mut self, order: &Order) {
        match order {
            Order::Join { ticket, call, phantom, .. } => {
                self.joins.insert(phantom.clone(), (*ticket, call.clone()));
            }
            Order::Leave { phantom, call } => {
                self.leaves.insert(phantom.clone(), call.clone());
            }
            Order::Capture(Fact::SegmentOpened { segment, phantom, side, .. }) => {
                let receiver = Receiver { device: phantom.clone(), side: *side };
                self.segments.insert(receiver, *segment);
            }
            Order::Ring(RingOrder { receiver, segment, change: RingChange::Begin { .. } }) => {
                self.segments.insert(receiver.clone(), *segment);
            }
            _ => {}
        }
    }

    /// The switch lets a phantom in, media and all.
    pub fn join(&mut self, phantom: &Extension) {
        let Some((ticket, call)) = self.joins.remove(phantom) else { return };
        let now = self.now;
        let device = Device::Number(phantom.clone());
        let connection = Connection { call, device: device.clone() };
        self.calls.handle_joined(now, ticket);
        self.own_event(phantom, CallChange::Established { connection, answering: device });
        self.calls.handle_media_started(now, phantom, None, "g711a", 20);
        self.packet(phantom);
    }

    /// The switch lets a phantom out.
    pub fn leave(&mut self, phantom: &Extension) {
        let Some(call) = self.leaves.remove(phantom) else { return };
        let device = Device::Number(phantom.clone());
        let connection = Connection { call, device: device.clone() };
        self.own_event(phantom, CallChange::ConnectionCleared { connection, releasing: device });
        self.calls.handle_left(self.now, phantom);
    }

    /// A receiver that listens is sent media; its first packet is captured if a segment is open.
    pub fn hear(&mut self, receiver: &Receiver) {
        self.calls.handle_media_started(self.now, receiver, None, "g711a", 20);
        self.packet(receiver);
    }

    /// The first packet of a phantom's segment is captured.
    pub fn packet(&mut self, phantom: impl Into<Receiver>) {
        if let Some(segment) = self.segments.get(&phantom.into()).copied() {
            let (received, captured) = (self.now.wall, self.now);
            let notice = MediaNotice::FirstPacket { segment, received, captured };
            self.calls.handle_media_notice(self.now, &notice);
        }
    }

    fn own_event(&mut self, phantom: &Extension, change: CallChange) {
        let monitor = Monitor::Phantom(phantom.clone());
        let event = CallEvent { monitor, change, facts: CallFacts::default() };
        self.calls.handle_call_event(self.now, &event);
    }
}

/// A reading of both clocks.
pub fn at(millis: u64) -> Now {
    let wall = i64::try_from(millis).expect("scenarios are short");
    Now { mono: MonoTime::from_millis(millis), wall: WallTime::from_millis(EPOCH + wall) }
}
