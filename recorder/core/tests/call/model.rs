//! A tiny switch with people who telephone at random. It is right about calls, so what the machine
//! makes of its events can be held against it: who must be recorded is, once, and nobody else; no
//! phantom stays where nobody is; no conference of people fails because of a phantom.

mod rings;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::{collection, option, sample};
use recorder_core::call::event::{
    CallChange, CallEvent, CallFacts, CallSnapshot, Connection, Device, Merge, MergedParty,
    Monitor, PartyState,
};
use recorder_core::call::{JoinRefusal, Order, PauseRequest, Target};
use storage_core::{CallId, Extension, Ucid};

use crate::invariants::{Watch, pass_time, take_orders};
use crate::site::{Setup, Site, at};
use crate::transcript::ucid;

/// Parties that the switch puts into one call.
const PARTIES_MAX: usize = 6;

#[derive(Clone, Debug)]
enum Deed {
    CallIn(usize),
    CallInside(usize, usize),
    Answer(usize),
    HangUp(usize),
    Hold(usize),
    Retrieve(usize),
    Consult(usize, usize),
    Join { who: usize, transfer: bool, second_survives: bool, lists_phantoms: bool },
    StepOver(usize, usize),
    Outage { first: usize, lasts: u64 },
    Pause { which: usize, seconds: Option<u64> },
    Wait(u64),
    Look,
}

#[derive(Clone, Debug)]
struct Leg {
    device: Device,
    state: PartyState,
}

#[derive(Clone, Debug)]
struct ModelCall {
    ucid: u32,
    legs: Vec<Leg>,
    facts: CallFacts,
}

impl ModelCall {
    fn real(&self) -> impl Iterator<Item = &Leg> {
        self.legs.iter().filter(|leg| !is_phantom(&leg.device))
    }

    fn talking(&self) -> usize {
        self.real().filter(|leg| leg.state != PartyState::Alerting).count()
    }

    /// Those of the machine.
    fn phantoms(&self) -> usize {
        self.legs.iter().filter(|leg| is_own(&leg.device)).count()
    }

    fn has_station(&self) -> bool {
        self.real().any(|leg| is_station(&leg.device) && leg.state != PartyState::Alerting)
    }
}

fn text(device: &Device) -> &str {
    device.number().map_or("", Extension::as_str)
}

/// One of the machine's.
fn is_own(device: &Device) -> bool {
    text(device).starts_with("78")
}

/// One of anybody's.
fn is_phantom(device: &Device) -> bool {
    is_own(device) || text(device).starts_with("79")
}

fn is_station(device: &Device) -> bool {
    text(device).starts_with("310")
}

/// How the switch is set up.
#[derive(Clone, Copy, Debug)]
struct Manner {
    /// It gives calls a UCID.
    identities: bool,
    /// Every call is seen by a VDN's monitor, too.
    via: bool,
}

/// The switch, the machine, and what goes between them.
struct World {
    manner: Manner,
    site: Site,
    watch: Watch,
    calls: BTreeMap<u32, ModelCall>,
    made: u32,
    told: Vec<Order>,
    /// Another recorder leads, and the machine stands by.
    leads: bool,
}

impl World {
    fn new(manner: Manner) -> Self {
        Self::with(manner, Setup::default())
    }

    fn with(manner: Manner, mut setup: Setup) -> Self {
        setup.roster.phantoms =
            (78001..78041).map(|n: u32| n.to_string().as_str().into()).collect();
        let mut site = Site::new(&setup);
        site.start(&setup);
        let mut world = Self {
            manner,
            site,
            watch: Watch::new(&setup),
            calls: BTreeMap::new(),
            made: 0,
            told: Vec::new(),
            leads: !setup.ring.is_zero(),
        };
        world.obey();
        world
    }

    /// Stations are listed up to 31009; 32001 to 32003 are not.
    fn station(which: usize) -> Device {
        let numbers =
            ["31001", "31002", "31003", "31004", "31005", "31006", "31007", "32001", "32002"];
        Device::parse(numbers[which % numbers.len()])
    }

    fn is_idle(&self, device: &Device) -> bool {
        !self.calls.values().any(|call| call.legs.iter().any(|leg| leg.device == *device))
    }

    fn open(&mut self, legs: Vec<Leg>, facts: CallFacts) -> u32 {
        let id = (1..).find(|id| !self.calls.contains_key(id)).expect("few calls are up");
        self.made += 1;
        let facts = CallFacts { ucid: self.identity(self.made), ..facts };
        self.calls.insert(id, ModelCall { ucid: self.made, legs, facts });
        id
    }

    fn identity(&self, number: u32) -> Option<Ucid> {
        self.manner.identities.then(|| ucid(&number.to_string()))
    }

    /// Who sees a call: its monitored stations and the phantoms in it.
    fn monitors(&self, id: u32) -> Vec<Monitor> {
        let legs = self.calls.get(&id).map(|call| call.legs.as_slice()).unwrap_or_default();
        let monitor = |leg: &Leg| {
            let number = leg.device.number()?.clone();
            if is_own(&leg.device) {
                Some(Monitor::Phantom(number))
            } else {
                is_station(&leg.device).then_some(Monitor::Station(number))
            }
        };
        let via = self.manner.via.then(|| Monitor::Via("50100".into()));
        legs.iter().filter_map(monitor).chain(via).collect()
    }

    fn tell(&mut self, monitors: &[Monitor], facts: &CallFacts, change: &CallChange) {
        for monitor in monitors {
            let (monitor, change, facts) = (monitor.clone(), change.clone(), facts.clone());
            let event = CallEvent { monitor, change, facts };
            if self.site.link {
                self.site.calls.handle_call_event(self.site.now, &event);
                let orders = take_orders(&mut self.site, &mut self.watch);
                self.told.extend(orders);
            }
        }
    }

    fn tell_call(&mut self, id: u32, change: &CallChange) {
        let Some(call) = self.calls.get(&id) else { return };
        let facts = call.facts.clone();
        self.tell(&self.monitors(id), &facts, change);
    }

    fn act(&mut self, deed: &Deed) {
        match deed {
            Deed::CallIn(station) => self.call_in(*station),
            Deed::CallInside(from, to) => self.call_inside(&Self::station(*from), *to),
            Deed::Answer(which) => self.answer(*which),
            Deed::HangUp(which) => self.hang_up(*which),
            Deed::Hold(which) => self.hold(*which),
            Deed::Retrieve(which) => self.retrieve(*which),
            Deed::Consult(which, to) => self.consult(*which, *to),
            Deed::Join { who, transfer, second_survives, lists_phantoms } => {
                self.merge(*who, *transfer, *second_survives, *lists_phantoms);
            }
            Deed::StepOver(which, to) => self.step_over(*which, *to),
            Deed::Outage { first, lasts } => self.outage(*first, *lasts),
            Deed::Pause { which, seconds } => self.pause(*which, *seconds),
            Deed::Wait(millis) => self.pass(*millis),
            Deed::Look => self.check(),
        }
        if self.leads {
            self.lead();
        }
        self.obey();
    }

    fn call_in(&mut self, station: usize) {
        let station = Self::station(station);
        if !self.is_idle(&station) {
            return;
        }
        let member = (self.made + 1).to_string();
        let caller = Device::Trunk { group: "12".to_owned(), member: member.clone() };
        let facts = CallFacts {
            calling: Some(Device::parse(&format!("55512{:05}", self.made + 1))),
            called: Some(station.clone()),
            trunkgroup: Some("12".to_owned()),
            trunkmember: Some(member),
            ..CallFacts::default()
        };
        let legs = vec![
            Leg { device: caller, state: PartyState::Connected },
            Leg { device: station.clone(), state: PartyState::Alerting },
        ];
        let id = self.open(legs, facts);
        self.deliver(id, &station);
    }

    fn call_inside(&mut self, from: &Device, to: usize) {
        let to = Self::station(to);
        if !self.is_idle(from) || !self.is_idle(&to) || *from == to {
            return;
        }
        self.dial(from, &to);
    }

    fn dial(&mut self, from: &Device, to: &Device) {
        let facts = CallFacts {
            calling: Some(from.clone()),
            called: Some(to.clone()),
            ..CallFacts::default()
        };
        let id = self.open(vec![Leg { device: from.clone(), state: PartyState::Connected }], facts);
        let call = call_id(id);
        let connection = Connection { call, device: from.clone() };
        self.tell_call(id, &CallChange::ServiceInitiated(connection.clone()));
        self.tell_call(id, &CallChange::Originated(connection));
        let leg = Leg { device: to.clone(), state: PartyState::Alerting };
        self.calls.get_mut(&id).expect("it was just made").legs.push(leg);
        self.deliver(id, to);
    }

    fn deliver(&mut self, id: u32, to: &Device) {
        let connection = Connection { call: call_id(id), device: to.clone() };
        self.tell_call(id, &CallChange::Delivered { connection, alerting: to.clone() });
    }

    /// The legs of people that are in that state, over all calls.
    fn legs(&self, state: PartyState) -> Vec<(u32, Device)> {
        let all = self.calls.iter().flat_map(|(id, call)| call.real().map(move |leg| (id, leg)));
        let there = all.filter(|(_, leg)| leg.state == state);
        there.map(|(id, leg)| (*id, leg.device.clone())).collect()
    }

    fn pick(&self, state: PartyState, which: usize) -> Option<(u32, Device)> {
        let legs = self.legs(state);
        (!legs.is_empty()).then(|| legs[which % legs.len()].clone())
    }

    fn turn(&mut self, id: u32, device: &Device, state: PartyState) {
        let call = self.calls.get_mut(&id).expect("the call was just found");
        let leg = call.legs.iter_mut().find(|leg| leg.device == *device);
        leg.expect("the leg was just found").state = state;
    }

    fn answer(&mut self, which: usize) {
        let Some((id, device)) = self.pick(PartyState::Alerting, which) else { return };
        self.turn(id, &device, PartyState::Connected);
        let connection = Connection { call: call_id(id), device: device.clone() };
        self.tell_call(id, &CallChange::Established { connection, answering: device });
    }

    fn hang_up(&mut self, which: usize) {
        let mut legs = self.legs(PartyState::Connected);
        legs.extend(self.legs(PartyState::Alerting));
        if let Some((id, device)) = (!legs.is_empty()).then(|| legs[which % legs.len()].clone()) {
            self.release(id, &device);
        }
    }

    /// Takes a party out; a call with less than two parties is over.
    fn release(&mut self, id: u32, device: &Device) {
        self.drop_leg(id, device);
        while let Some(call) = self.calls.get(&id).filter(|call| call.legs.len() < 2) {
            match call.legs.first().map(|leg| leg.device.clone()) {
                Some(last) => self.drop_leg(id, &last),
                None => self.close(id),
            }
        }
    }

    fn close(&mut self, id: u32) {
        self.tell_call(id, &CallChange::CallCleared(call_id(id)));
        self.calls.remove(&id);
    }

    fn drop_leg(&mut self, id: u32, device: &Device) {
        let connection = Connection { call: call_id(id), device: device.clone() };
        let releasing = device.clone();
        let monitors = self.monitors(id);
        let call = self.calls.get_mut(&id).expect("the call is up");
        call.legs.retain(|leg| leg.device != *device);
        let facts = call.facts.clone();
        self.tell(&monitors, &facts, &CallChange::ConnectionCleared { connection, releasing });
    }

    fn hold(&mut self, which: usize) {
        let legs: Vec<_> = self
            .legs(PartyState::Connected)
            .into_iter()
            .filter(|leg| leg.1.number().is_some())
            .collect();
        if !legs.is_empty() {
            let (id, device) = legs[which % legs.len()].clone();
            self.turn(id, &device, PartyState::Held);
            self.tell_call(id, &CallChange::Held(Connection { call: call_id(id), device }));
        }
    }

    fn retrieve(&mut self, which: usize) {
        let Some((id, device)) = self.pick(PartyState::Held, which) else { return };
        if self.other_call(id, &device).is_none() {
            self.turn(id, &device, PartyState::Connected);
            self.tell_call(id, &CallChange::Retrieved(Connection { call: call_id(id), device }));
        }
    }

    fn other_call(&self, id: u32, device: &Device) -> Option<u32> {
        let mut others = self.calls.iter().filter(|(other, _)| **other != id);
        let there = |call: &ModelCall| call.legs.iter().any(|leg| leg.device == *device);
        others.find(|(_, call)| there(call)).map(|(id, _)| *id)
    }

    fn consult(&mut self, which: usize, to: usize) {
        let to = Self::station(to);
        let Some((id, device)) = self.pick(PartyState::Held, which) else { return };
        if self.is_idle(&to) && self.other_call(id, &device).is_none() {
            self.dial(&device, &to);
        }
    }

    fn merge(&mut self, who: usize, transfer: bool, second_survives: bool, lists_phantoms: bool) {
        let Some((held, by)) = self.pick(PartyState::Held, who) else { return };
        let Some(second) = self.other_call(held, &by) else { return };
        let talks = |leg: &Leg| leg.device == by && leg.state == PartyState::Connected;
        if !self.calls[&second].legs.iter().any(talks) {
            return;
        }
        // What was ordered is done by now: people take longer than phantoms.
        self.obey();
        let mut legs = self.calls[&held].legs.clone();
        legs.extend(self.calls[&second].legs.iter().filter(|leg| leg.device != by).cloned());
        if transfer {
            legs.retain(|leg| leg.device != by);
        }
        for leg in legs.iter_mut().filter(|leg| leg.device == by) {
            leg.state = PartyState::Connected;
        }
        Self::lead_makes_room(&mut legs);
        let people = legs.iter().filter(|leg| !is_phantom(&leg.device)).count();
        if legs.len() > PARTIES_MAX {
            assert!(people > PARTIES_MAX, "a phantom made a conference of {people} fail");
            return;
        }
        self.join_calls(held, second, &by, legs, transfer, (second_survives, lists_phantoms));
    }

    fn join_calls(
        &mut self,
        held: u32,
        second: u32,
        by: &Device,
        legs: Vec<Leg>,
        transfer: bool,
        (second_survives, lists_phantoms): (bool, bool),
    ) {
        let mut monitors = self.monitors(held);
        monitors.extend(self.monitors(second));
        let monitors: Vec<_> = monitors.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
        let (survivor, other) = if second_survives { (second, held) } else { (held, second) };
        let listed = legs.iter().filter(|leg| lists_phantoms || !is_phantom(&leg.device));
        let parties = listed
            .map(|leg| MergedParty {
                new: Connection { call: call_id(survivor), device: leg.device.clone() },
                old: None,
                endpoint: leg.device.number().map_or(Device::Unknown, |_| leg.device.clone()),
                trunk: None,
            })
            .collect();
        let ended = self.calls.remove(&other).expect("both calls are up");
        let call = self.calls.get_mut(&survivor).expect("both calls are up");
        call.legs = legs;
        let (told, survivor_ucid) = (self.manner.identities, call.ucid);
        let merge = Merge {
            primary: Connection { call: call_id(held), device: by.clone() },
            secondary: Some(Connection { call: call_id(second), device: by.clone() }),
            by: by.clone(),
            added: Device::Unknown,
            parties,
            new_ucid: told.then(|| ucid(&survivor_ucid.to_string())),
            old_ucid: told.then(|| ucid(&ended.ucid.to_string())),
        };
        let change =
            if transfer { CallChange::Transferred(merge) } else { CallChange::Conferenced(merge) };
        self.tell(&monitors, &CallFacts::default(), &change);
        self.tidy(survivor);
    }

    fn step_over(&mut self, which: usize, to: usize) {
        let to = Self::station(to);
        let Some((id, by)) = self.pick(PartyState::Connected, which) else { return };
        if by.number().is_none() || !self.is_idle(&to) || self.calls[&id].talking() < 2 {
            return;
        }
        let mut monitors = self.monitors(id);
        let call = self.calls.get_mut(&id).expect("the call is up");
        call.legs.retain(|leg| leg.device != by);
        call.legs.push(Leg { device: to.clone(), state: PartyState::Alerting });
        let party = |leg: &Leg| MergedParty {
            new: Connection { call: call_id(id), device: leg.device.clone() },
            old: None,
            endpoint: leg.device.clone(),
            trunk: None,
        };
        let merge = Merge {
            primary: Connection { call: call_id(id), device: by.clone() },
            secondary: None,
            by: by.clone(),
            added: to.clone(),
            parties: call.legs.iter().map(party).collect(),
            new_ucid: None,
            old_ucid: None,
        };
        let facts = call.facts.clone();
        if let (true, Some(number)) = (is_station(&to), to.number()) {
            monitors.push(Monitor::Station(number.clone()));
        }
        self.tell(&monitors, &facts, &CallChange::Transferred(merge));
        self.deliver(id, &to);
    }

    /// A merged call with nobody but one party in it is over.
    fn tidy(&mut self, id: u32) {
        if let Some(call) = self.calls.get(&id).filter(|call| call.legs.len() < 2)
            && let Some(last) = call.legs.first().map(|leg| leg.device.clone())
        {
            self.release(id, &last);
        }
    }

    /// Somebody pauses what is recorded at a station, or resumes it; where nothing is, that is refused.
    fn pause(&mut self, which: usize, seconds: Option<u64>) {
        let Device::Number(number) = Self::station(which) else { return };
        let request = PauseRequest {
            target: Target::Extension(number),
            most: seconds.map(Duration::from_secs),
            by: "somebody".to_owned(),
        };
        let _ = self.site.calls.pause(self.site.now, &request);
        let orders = take_orders(&mut self.site, &mut self.watch);
        self.told.extend(orders);
    }

    /// The link is away while one thing happens that nobody hears of.
    fn outage(&mut self, first: usize, lasts: u64) {
        self.site.link = false;
        self.site.calls.handle_link(self.site.now, false);
        self.hang_up(first);
        self.pass(lasts);
        self.site.link = true;
        self.site.calls.handle_link(self.site.now, true);
        self.site.calls.begin_resync(self.site.now);
        for (id, call) in self.calls.clone() {
            let Some(monitor) = self.monitors(id).into_iter().next() else { continue };
            let legs = call.legs.iter();
            let snapshot = CallSnapshot {
                call: call_id(id),
                monitor,
                parties: legs.map(|leg| (leg.device.clone(), leg.state)).collect(),
                facts: CallFacts { ucid: call.facts.ucid.clone(), ..CallFacts::default() },
            };
            self.site.calls.handle_snapshot(self.site.now, &snapshot);
            let orders = take_orders(&mut self.site, &mut self.watch);
            self.told.extend(orders);
        }
        self.site.calls.end_resync(self.site.now, &[]);
        let orders = take_orders(&mut self.site, &mut self.watch);
        self.told.extend(orders);
    }

    /// Does what the machine has ordered, as a switch would.
    fn obey(&mut self) {
        let orders = take_orders(&mut self.site, &mut self.watch);
        self.told.extend(orders);
        while !self.told.is_empty() {
            for order in std::mem::take(&mut self.told) {
                match order {
                    Order::Join { ticket, call, phantom, .. } => {
                        self.let_in(ticket, &call, &phantom);
                    }
                    Order::Leave { phantom, .. } => self.let_out(&phantom),
                    _ => {}
                }
                let orders = take_orders(&mut self.site, &mut self.watch);
                self.told.extend(orders);
            }
        }
    }

    fn let_in(
        &mut self,
        ticket: recorder_core::call::order::Ticket,
        call: &CallId,
        phantom: &Extension,
    ) {
        let now = self.site.now;
        let device = Device::Number(phantom.clone());
        let id: u32 = call.as_str().parse().expect("our call IDs are numbers");
        if !self.site.link {
            let why = JoinRefusal::LinkDown;
            return self.site.calls.handle_join_refused(now, ticket, &why);
        }
        let Some(model) = self.calls.get_mut(&id) else {
            return self.site.calls.handle_join_refused(now, ticket, &JoinRefusal::CallGone);
        };
        assert!(model.legs.len() < PARTIES_MAX, "asked into a full call");
        model.legs.push(Leg { device: device.clone(), state: PartyState::Connected });
        let connection = Connection { call: call.clone(), device: device.clone() };
        self.tell_call(id, &CallChange::Established { connection, answering: device });
        self.site.calls.handle_joined(now, ticket);
        self.site.calls.handle_media_started(now, phantom, None, "g711a", 20);
        self.site.packet(phantom);
    }

    fn let_out(&mut self, phantom: &Extension) {
        let device = Device::Number(phantom.clone());
        if !self.site.link {
            return;
        }
        let there = |call: &ModelCall| call.legs.iter().any(|leg| leg.device == device);
        if let Some(id) = self.calls.iter().find(|(_, call)| there(call)).map(|(id, _)| *id) {
            self.release(id, &device);
        }
        self.site.calls.handle_left(self.site.now, phantom);
    }

    fn pass(&mut self, millis: u64) {
        let until = at(self.site.now.mono.as_micros() / 1000 + millis).mono;
        let mut told = Vec::new();
        while self.site.now.mono < until {
            let next = self.site.calls.poll_timeout().map_or(until, |due| due.min(until));
            let next = next.max(self.site.now.mono);
            pass_time(&mut self.site, &mut self.watch, next, |_, _, orders| told.extend(orders));
            self.told.append(&mut told);
            self.obey();
            if next >= until {
                break;
            }
        }
    }

    /// After everything has settled the phantoms are where they must be and nowhere else.
    fn check(&mut self) {
        self.pass(8_000);
        for (id, call) in &self.calls {
            let phantoms = call.phantoms();
            assert!(phantoms <= 1, "call {id} has {phantoms} phantoms: {call:?}");
            let consulting =
                call.real().any(|leg| {
                    leg.state == PartyState::Held && self.other_call(*id, &leg.device).is_some()
                }) || call.real().any(|leg| self.other_call(*id, &leg.device).is_some());
            let full = call.real().count() + usize::from(self.leads) >= PARTIES_MAX;
            let due = call.talking() >= 2 && call.has_station();
            if due && !full && !consulting {
                assert_eq!(phantoms, 1, "call {id} is not recorded: {call:?}");
            }
            let served = call.real().any(|leg| is_station(&leg.device));
            if !served || call.real().count() < 2 {
                assert_eq!(phantoms, 0, "a phantom stays in call {id}: {call:?}");
            }
        }
    }

    fn finish(mut self) {
        self.check();
        while let Some(id) = self.calls.keys().next().copied() {
            let first = self.calls[&id].real().next().map(|leg| leg.device.clone());
            match first {
                Some(device) => self.release(id, &device),
                None => self.pass(1_000),
            }
            self.obey();
        }
        self.pass(10_000);
        assert_eq!(self.site.calls.calls_active(), 0, "calls are up that are not");
        self.watch.check_end(&self.site);
    }
}

fn call_id(id: u32) -> CallId {
    CallId::new(&id.to_string())
}

fn deed() -> impl Strategy<Value = Deed> {
    let one = || any::<usize>();
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    prop_oneof![
        4 => one().prop_map(Deed::CallIn),
        3 => (one(), one()).prop_map(|(from, to)| Deed::CallInside(from, to)),
        8 => one().prop_map(Deed::Answer),
        4 => one().prop_map(Deed::HangUp),
        4 => one().prop_map(Deed::Hold),
        1 => one().prop_map(Deed::Retrieve),
        5 => (one(), one()).prop_map(|(which, to)| Deed::Consult(which, to)),
        5 => (one(), flags).prop_map(|(who, flags)| Deed::Join {
            who,
            transfer: flags.0,
            second_survives: flags.1,
            lists_phantoms: flags.2,
        }),
        1 => (one(), one()).prop_map(|(which, to)| Deed::StepOver(which, to)),
        1 => (one(), 10..8_000_u64).prop_map(|(first, lasts)| Deed::Outage { first, lasts }),
        4 => sample::select(vec![1, 20, 300, 1_000, 4_000]).prop_map(Deed::Wait),
        2 => (one(), option::of(1..9_u64)).prop_map(|(which, seconds)| Deed::Pause { which, seconds }),
        1 => Just(Deed::Look),
    ]
}

proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn whoever_telephones_is_recorded_once(
        deeds in collection::vec(deed(), 1..80),
        identities: bool,
        via: bool,
    ) {
        let mut world = World::new(Manner { identities, via });
        for deed in &deeds {
            world.act(deed);
        }
        world.finish();
    }
}
