//! The same switch with another recorder that leads: the machine stands by and keeps rings. The other
//! puts its phantom into each call that is to be recorded, makes room for people, and dies in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::collection;
use proptest::prelude::{any, proptest};
use recorder_core::call::event::{CallChange, Connection, Device, PartyState};
use recorder_core::call::{Mandate, Order, Peer};
use storage_core::journal::Fact;
use storage_core::{Duty, Extension, NodeId};

use super::{Leg, Manner, PARTIES_MAX, World, call_id, deed, is_own, text};
use crate::invariants::take_orders;
use crate::site::Setup;

const LEAD: NodeId = NodeId(2);

fn is_leads(device: &Device) -> bool {
    text(device).starts_with("79")
}

impl World {
    /// The machine stands by, and node 2 leads.
    fn standing_by(manner: Manner) -> Self {
        let setup = Setup { ring: Duration::from_secs(30), ..Setup::default() };
        let mut world = Self::with(manner, setup);
        world.peer(true);
        let mandate = Mandate { epoch: 1, ..Mandate::alone(Duty::Standby) };
        world.site.calls.set_mandate(world.site.now, mandate);
        world.obey();
        world
    }

    fn peer(&mut self, alive: bool) {
        let phantoms = (79001..79041).map(|n: u32| Extension::new(n.to_string())).collect();
        let peer = Peer { copy: 1, alive, serves: alive, stands_by: false, phantoms };
        self.site.calls.set_peers(self.site.now, BTreeMap::from([(LEAD, peer)]));
    }

    /// The lead does what is to be done.
    pub(super) fn lead(&mut self) {
        for id in self.calls.keys().copied().collect::<Vec<_>>() {
            let call = &self.calls[&id];
            let leads = call.legs.iter().filter(|leg| is_leads(&leg.device));
            let leads: Vec<_> = leads.map(|leg| leg.device.clone()).collect();
            let due = call.talking() >= 2 && call.has_station();
            for device in leads.iter().skip(usize::from(due)) {
                self.lead_leaves(id, device);
            }
            let room = self.calls.get(&id).is_some_and(|call| call.legs.len() < PARTIES_MAX);
            if due && room && leads.is_empty() {
                self.lead_joins(id);
            }
        }
    }

    /// Takes its phantom out, unless the call has ended with another.
    fn lead_leaves(&mut self, id: u32, device: &Device) {
        let there = |call: &super::ModelCall| call.legs.iter().any(|leg| leg.device == *device);
        if self.calls.get(&id).is_some_and(there) {
            self.release(id, device);
        }
    }

    fn lead_joins(&mut self, id: u32) {
        let used: BTreeSet<_> =
            self.calls.values().flat_map(|call| &call.legs).map(|leg| text(&leg.device)).collect();
        let free = (79001..79041).map(|n: u32| n.to_string()).find(|n| !used.contains(n.as_str()));
        let device = Device::parse(&free.expect("there are more than calls"));
        let leg = Leg { device: device.clone(), state: PartyState::Connected };
        self.calls.get_mut(&id).expect("it is up").legs.push(leg);
        let connection = Connection { call: call_id(id), device: device.clone() };
        self.tell_call(id, &CallChange::Established { connection, answering: device });
    }

    /// Its phantoms give way to people in a conference, and not to rings: those are to be gone.
    pub(super) fn lead_makes_room(legs: &mut Vec<Leg>) {
        while legs.iter().filter(|leg| !is_own(&leg.device)).count() > PARTIES_MAX
            && let Some(at) = legs.iter().position(|leg| is_leads(&leg.device))
        {
            legs.remove(at);
        }
    }

    /// The lead dies: wherever a ring was in a call, that goes on in the same moment.
    fn lead_dies(&mut self) {
        self.obey();
        let ringed: BTreeSet<Extension> = self
            .calls
            .values()
            .filter(|call| call.talking() >= 2 && call.has_station())
            .filter_map(|call| {
                let own = call.legs.iter().find(|leg| is_own(&leg.device));
                own.and_then(|leg| leg.device.number().cloned())
            })
            .collect();
        let recording = self.watch.recording();
        self.peer(false);
        let mandate = Mandate { epoch: 2, ..Mandate::alone(Duty::Lead) };
        self.site.calls.set_mandate(self.site.now, mandate);
        let orders = take_orders(&mut self.site, &mut self.watch);
        let opened = orders.iter().filter_map(|order| match order {
            Order::Capture(Fact::SegmentOpened { phantom, .. }) => Some(phantom.clone()),
            _ => None,
        });
        let heard: BTreeSet<Extension> = opened.chain(recording).collect();
        for phantom in ringed {
            assert!(
                heard.contains(&phantom),
                "{phantom} was in a call, and does not go on with it"
            );
        }
        self.told.extend(orders);
        for id in self.calls.keys().copied().collect::<Vec<_>>() {
            let legs = self.calls.get(&id).into_iter().flat_map(|call| &call.legs);
            let dead = legs.filter(|leg| is_leads(&leg.device)).map(|leg| leg.device.clone());
            for device in dead.collect::<Vec<_>>() {
                self.lead_leaves(id, &device);
            }
        }
        self.leads = false;
        self.obey();
    }
}

proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn wherever_a_ring_was_a_call_goes_on_at_once(
        deeds in collection::vec(deed(), 1..60),
        after in collection::vec(deed(), 0..20),
        identities in any::<bool>(),
        via in any::<bool>(),
    ) {
        let mut world = World::standing_by(Manner { identities, via });
        for deed in &deeds {
            world.act(deed);
        }
        world.lead_dies();
        for deed in &after {
            world.act(deed);
        }
        world.finish();
    }
}
