//! The switch, pure: calls, who is in them, and what every monitor would be told. Who watches what,
//! and when it arrives there, is the world's matter. It shares no code with the recorder but the
//! words of events.

use std::collections::{BTreeMap, BTreeSet};

use recorder_core::call::JoinRefusal;
use recorder_core::call::event::{
    CallChange, CallFacts, CallSnapshot, Connection, Device, Merge, MergedParty, Monitor,
    PartyState,
};
use storage_core::{CallId, Extension, NodeId, Ucid};

use crate::Time;

/// Parties that the switch puts into one call.
pub const PARTIES_MAX: usize = 6;
/// A number of a call is used again after so long: later than a process hangs here. Whoever still acts on
/// a number after its call is over joins another call, and nothing but that call's identity tells it.
const REUSED_AFTER: Time = 3_000_000;

/// What a party is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// A monitored station.
    Station,
    /// A station that nobody monitors.
    Inside,
    /// A trunk.
    Outside,
    /// A phantom of this node.
    Phantom(NodeId),
}

/// A party.
#[derive(Clone, Debug)]
pub struct Leg {
    pub device: Device,
    pub who: Who,
    pub state: PartyState,
    /// A phantom that was let in and hears nothing.
    pub deaf: bool,
    /// Whether media reaches it.
    pub media: bool,
}

/// A call.
#[derive(Clone, Debug)]
pub struct Call {
    /// Never used again, unlike its number.
    pub uid: u64,
    pub id: CallId,
    pub ucid: Option<Ucid>,
    pub facts: CallFacts,
    pub legs: Vec<Leg>,
    pub established: Option<Time>,
    /// It became one with another call.
    pub merged: bool,
    /// A person asked for it to be stopped or started.
    pub handled: bool,
    /// Until when a consultation, a refusal or a deaf phantom explains that nobody hears it.
    pub excused: Time,
    /// Since when no person is in it.
    pub deserted: Option<Time>,
}

/// Something that whoever monitors one of `devices` is told.
#[derive(Clone, Debug)]
pub struct Told {
    pub devices: Vec<(Extension, Who)>,
    pub change: CallChange,
    pub facts: CallFacts,
}

impl Told {
    /// For the trace.
    pub fn in_words(&self) -> String {
        let name = |device: &Device| match device {
            Device::Number(number) => number.to_string(),
            Device::Trunk { group, member } => format!("T{group}#{member}"),
            Device::Unknown => "?".to_owned(),
        };
        let of = |c: &Connection| format!("{} in {}", name(&c.device), c.call.as_str());
        match &self.change {
            CallChange::Established { connection, .. } => {
                format!("established: {}", of(connection))
            }
            CallChange::ConnectionCleared { connection, .. } => {
                format!("cleared: {}", of(connection))
            }
            CallChange::Delivered { connection, .. } => format!("delivered: {}", of(connection)),
            CallChange::Held(connection) => format!("held: {}", of(connection)),
            CallChange::Retrieved(connection) => format!("retrieved: {}", of(connection)),
            CallChange::Originated(connection) => format!("originated: {}", of(connection)),
            CallChange::ServiceInitiated(connection) => format!("initiated: {}", of(connection)),
            CallChange::Conferenced(merge) | CallChange::Transferred(merge) => {
                let parties: Vec<String> =
                    merge.parties.iter().map(|party| of(&party.new)).collect();
                let second = merge.secondary.as_ref().map(of).unwrap_or_default();
                let primary = of(&merge.primary);
                format!("merge of {primary} and {second}: {}", parties.join(", "))
            }
            other => format!("{other:?}"),
        }
    }
}

/// The switch.
#[derive(Debug, Default)]
pub struct Switch {
    pub calls: BTreeMap<u64, Call>,
    pub told: Vec<Told>,
    /// Calls that are over, as they were last.
    pub over: Vec<Call>,
    freed: BTreeMap<u64, Time>,
    last_uid: u64,
    /// Whether calls have identities.
    pub ucids: bool,
    /// Conferences that failed although the people alone would have had room.
    pub crowded: u64,
    pub most_parties: usize,
}

impl Call {
    pub fn people(&self) -> impl Iterator<Item = &Leg> {
        self.legs.iter().filter(|leg| !matches!(leg.who, Who::Phantom(_)))
    }

    pub fn phantoms(&self) -> impl Iterator<Item = (&Extension, NodeId, &Leg)> {
        self.legs.iter().filter_map(|leg| match leg.who {
            Who::Phantom(node) => Some((leg.device.number()?, node, leg)),
            _ => None,
        })
    }

    pub fn talking(&self) -> impl Iterator<Item = &Leg> {
        let in_call = |state| matches!(state, PartyState::Connected | PartyState::Held);
        self.people().filter(move |leg| in_call(leg.state))
    }

    /// Whether the rules want it recorded.
    pub fn is_wanted(&self) -> bool {
        self.talking().count() >= 2 && self.talking().any(|leg| leg.who == Who::Station)
    }

    pub fn leg(&self, device: &Device) -> Option<&Leg> {
        self.legs.iter().find(|leg| leg.device == *device)
    }

    fn devices(&self) -> Vec<(Extension, Who)> {
        let named = |leg: &Leg| Some((leg.device.number()?.clone(), leg.who));
        self.legs.iter().filter_map(named).collect()
    }

    fn connection(&self, device: &Device) -> Connection {
        Connection { call: self.id.clone(), device: device.clone() }
    }
}

impl Switch {
    pub fn new(ucids: bool) -> Self {
        Self { ucids, ..Self::default() }
    }

    pub fn by_id(&self, id: &CallId) -> Option<&Call> {
        self.calls.values().find(|call| call.id == *id)
    }

    pub fn call_of(&self, phantom: &Extension) -> Option<&Call> {
        let device = Device::Number(phantom.clone());
        self.calls.values().find(|call| call.leg(&device).is_some())
    }

    pub fn is_idle(&self, device: &Device) -> bool {
        !self.calls.values().any(|call| call.leg(device).is_some())
    }

    /// A call from outside rings at a station.
    pub fn ring(&mut self, now: Time, station: &Device) -> u64 {
        let member = (self.last_uid + 1).to_string();
        let caller = Device::Trunk { group: "12".to_owned(), member: member.clone() };
        let facts = CallFacts {
            calling: Some(Device::parse(&format!("555{:07}", self.last_uid + 1))),
            called: Some(station.clone()),
            trunkgroup: Some("12".to_owned()),
            trunkmember: Some(member),
            ..CallFacts::default()
        };
        let uid = self.open(now, facts);
        self.seat(uid, &caller, Who::Outside, PartyState::Connected);
        self.alert(uid, station, Who::Station);
        uid
    }

    /// A station dials another one.
    pub fn dial(&mut self, now: Time, from: &Device, to: &Device, who: Who) -> u64 {
        let facts = CallFacts {
            calling: Some(from.clone()),
            called: Some(to.clone()),
            ..CallFacts::default()
        };
        let uid = self.open(now, facts);
        self.seat(uid, from, Who::Station, PartyState::Connected);
        let connection = self.calls[&uid].connection(from);
        self.tell(uid, CallChange::ServiceInitiated(connection.clone()));
        self.tell(uid, CallChange::Originated(connection));
        self.alert(uid, to, who);
        uid
    }

    pub fn answer(&mut self, now: Time, uid: u64, device: &Device) {
        if self.turn(uid, device, PartyState::Connected) {
            let connection = self.calls[&uid].connection(device);
            self.tell(uid, CallChange::Established { connection, answering: device.clone() });
            if let Some(call) = self.calls.get_mut(&uid) {
                call.established.get_or_insert(now);
            }
        }
    }

    pub fn hold(&mut self, uid: u64, device: &Device) {
        if self.turn(uid, device, PartyState::Held) {
            let connection = self.calls[&uid].connection(device);
            self.tell(uid, CallChange::Held(connection));
        }
    }

    pub fn retrieve(&mut self, uid: u64, device: &Device) {
        if self.turn(uid, device, PartyState::Connected) {
            let connection = self.calls[&uid].connection(device);
            self.tell(uid, CallChange::Retrieved(connection));
        }
    }

    /// A party leaves. With one person left the switch ends the call for him, too.
    pub fn release(&mut self, now: Time, uid: u64, device: &Device) {
        self.drop_leg(uid, device);
        let Some(call) = self.calls.get_mut(&uid) else { return };
        let last = call.people().next().map(|leg| leg.device.clone());
        if call.people().count() == 1
            && let Some(last) = last
        {
            self.drop_leg(uid, &last);
        }
        self.tidy(now, uid);
    }

    /// The two calls of a station become one. Returns the one that goes on.
    pub fn merge(
        &mut self,
        now: Time,
        (held, second): (u64, u64),
        by: &Device,
        transfer: bool,
        (second_survives, lists_phantoms): (bool, bool),
    ) -> Option<u64> {
        let mut legs = self.calls.get(&held)?.legs.clone();
        let others = self.calls.get(&second)?.legs.clone();
        legs.extend(others.into_iter().filter(|leg| leg.device != *by));
        legs.retain(|leg| !transfer || leg.device != *by);
        for leg in legs.iter_mut().filter(|leg| leg.device == *by) {
            leg.state = PartyState::Connected;
        }
        let phantom = |leg: &Leg| matches!(leg.who, Who::Phantom(_));
        if legs.len() > PARTIES_MAX {
            let people = legs.iter().filter(|leg| !phantom(leg)).count();
            self.crowded += u64::from(people <= PARTIES_MAX);
            return None;
        }
        let mut devices = self.calls[&held].devices();
        devices.extend(self.calls[&second].devices());
        devices.sort_by(|a, b| a.0.cmp(&b.0));
        devices.dedup_by(|a, b| a.0 == b.0);
        let (survivor, other) = if second_survives { (second, held) } else { (held, second) };
        let primary = self.calls[&held].connection(by);
        let secondary = Some(self.calls[&second].connection(by));
        let ended = self.calls.remove(&other)?;
        self.freed.insert(ended.id.as_str().parse().unwrap_or(0), now);
        let call = self.calls.get_mut(&survivor)?;
        call.legs = legs;
        call.merged = true;
        call.handled |= ended.handled;
        // Of two phantoms of one node the one may stay that was not yet found to be deaf.
        let deaf = call.legs.iter().any(|leg| leg.deaf);
        let patience = if deaf { 8_000_000 } else { 3_000_000 };
        call.excused = call.excused.max(ended.excused).max(now + patience);
        call.established = call.established.or(ended.established);
        let listed = call.legs.iter().filter(|leg| lists_phantoms || !phantom(leg));
        let parties = listed.map(|leg| MergedParty {
            new: call.connection(&leg.device),
            old: None,
            endpoint: leg.device.number().map_or(Device::Unknown, |_| leg.device.clone()),
            trunk: None,
        });
        let merge = Merge {
            primary,
            secondary,
            by: by.clone(),
            added: Device::Unknown,
            parties: parties.collect(),
            new_ucid: call.ucid.clone(),
            old_ucid: ended.ucid.clone(),
        };
        let change =
            if transfer { CallChange::Transferred(merge) } else { CallChange::Conferenced(merge) };
        self.most_parties = self.most_parties.max(call.legs.len());
        self.told.push(Told { devices, change, facts: CallFacts::default() });
        self.over.push(Call { merged: true, ..ended });
        self.tidy(now, survivor);
        Some(survivor)
    }

    /// Single-step conference of a phantom.
    pub fn join(
        &mut self,
        id: &CallId,
        party: &Device,
        phantom: &Extension,
        node: NodeId,
        deaf: bool,
    ) -> Result<u64, JoinRefusal> {
        let device = Device::Number(phantom.clone());
        let Some(call) = self.by_id(id) else { return Err(JoinRefusal::CallGone) };
        if call.leg(party).is_none() {
            return Err(JoinRefusal::CallGone);
        }
        let (uid, parties) = (call.uid, call.legs.len());
        if !self.is_idle(&device) {
            return Err(JoinRefusal::PhantomBusy);
        }
        if parties >= PARTIES_MAX {
            return Err(JoinRefusal::PartyLimit);
        }
        self.seat(uid, &device, Who::Phantom(node), PartyState::Connected);
        if let Some(call) = self.calls.get_mut(&uid)
            && let Some(leg) = call.legs.last_mut()
        {
            leg.deaf = deaf;
        }
        let connection = self.calls[&uid].connection(&device);
        self.tell(uid, CallChange::Established { connection, answering: device });
        Ok(uid)
    }

    /// Takes a phantom out of whatever call it is in; false if it is in none.
    pub fn leave(&mut self, now: Time, phantom: &Extension, id: Option<&CallId>) -> bool {
        let Some(call) = self.call_of(phantom) else { return false };
        if id.is_some_and(|id| call.id != *id) {
            return false;
        }
        let uid = call.uid;
        self.drop_leg(uid, &Device::Number(phantom.clone()));
        self.tidy(now, uid);
        true
    }

    pub fn media(&mut self, phantom: &Extension, on: bool) {
        let device = Device::Number(phantom.clone());
        for leg in self.calls.values_mut().flat_map(|call| &mut call.legs) {
            if leg.device == device {
                leg.media = on;
            }
        }
    }

    /// A phantom is busied out: it stays in its call and hears nothing from now on.
    pub fn deafen(&mut self, phantom: &Extension) {
        let device = Device::Number(phantom.clone());
        for leg in self.calls.values_mut().flat_map(|call| &mut call.legs) {
            if leg.device == device {
                leg.deaf = true;
            }
        }
    }

    /// Whether this phantom hears something, and of which call.
    pub fn hears(&self, phantom: &Extension) -> Option<u64> {
        let call = self.call_of(phantom)?;
        let leg = call.leg(&Device::Number(phantom.clone()))?;
        (leg.media && !leg.deaf).then_some(call.uid)
    }

    pub fn snapshot(call: &Call, monitor: Monitor) -> CallSnapshot {
        CallSnapshot {
            call: call.id.clone(),
            monitor,
            parties: call.legs.iter().map(|leg| (leg.device.clone(), leg.state)).collect(),
            facts: CallFacts { ucid: call.ucid.clone(), ..CallFacts::default() },
        }
    }

    /// The stations that have this call on hold and are in another one.
    pub fn consulting(&self, uid: u64) -> bool {
        let Some(call) = self.calls.get(&uid) else { return false };
        let numbers: BTreeSet<_> = call.people().filter_map(|leg| leg.device.number()).collect();
        self.calls.values().filter(|other| other.uid != uid).any(|other| {
            other.people().filter_map(|leg| leg.device.number()).any(|n| numbers.contains(n))
        })
    }

    fn open(&mut self, now: Time, facts: CallFacts) -> u64 {
        self.last_uid += 1;
        let uid = self.last_uid;
        let free = |number: &u64| {
            let fresh = self.freed.get(number).is_none_or(|freed| freed + REUSED_AFTER <= now);
            fresh && self.by_id(&CallId::new(&number.to_string())).is_none()
        };
        let number = (100..).find(free).unwrap_or(1);
        let digits = format!("00001{:05}{:010}", uid % 100_000, 1_700_000_000 + now / 1_000_000);
        let ucid = self.ucids.then(|| digits.parse().ok()).flatten();
        let call = Call {
            uid,
            id: CallId::new(&number.to_string()),
            facts: CallFacts { ucid: ucid.clone(), ..facts },
            ucid,
            legs: Vec::new(),
            established: None,
            merged: false,
            handled: false,
            excused: 0,
            deserted: None,
        };
        self.calls.insert(uid, call);
        uid
    }

    fn seat(&mut self, uid: u64, device: &Device, who: Who, state: PartyState) {
        let Some(call) = self.calls.get_mut(&uid) else { return };
        let device = device.clone();
        call.legs.push(Leg { device, who, state, deaf: false, media: false });
        self.most_parties = self.most_parties.max(call.legs.len());
    }

    fn alert(&mut self, uid: u64, device: &Device, who: Who) {
        self.seat(uid, device, who, PartyState::Alerting);
        let connection = self.calls[&uid].connection(device);
        self.tell(uid, CallChange::Delivered { connection, alerting: device.clone() });
    }

    fn turn(&mut self, uid: u64, device: &Device, state: PartyState) -> bool {
        let Some(call) = self.calls.get_mut(&uid) else { return false };
        let leg = call.legs.iter_mut().find(|leg| leg.device == *device);
        leg.map(|leg| leg.state = state).is_some()
    }

    fn drop_leg(&mut self, uid: u64, device: &Device) {
        let Some(call) = self.calls.get_mut(&uid) else { return };
        let devices = call.devices();
        let connection = call.connection(device);
        let before = call.legs.len();
        call.legs.retain(|leg| leg.device != *device);
        if call.legs.len() == before {
            return;
        }
        let facts = call.facts.clone();
        let releasing = device.clone();
        let change = CallChange::ConnectionCleared { connection, releasing };
        self.told.push(Told { devices, change, facts });
    }

    /// A call without people is deserted; one without anybody is over.
    fn tidy(&mut self, now: Time, uid: u64) {
        let Some(call) = self.calls.get_mut(&uid) else { return };
        if call.people().next().is_none() {
            call.deserted.get_or_insert(now);
        }
        if call.legs.is_empty()
            && let Some(call) = self.calls.remove(&uid)
        {
            self.freed.insert(call.id.as_str().parse().unwrap_or(0), now);
            self.over.push(call);
        }
    }

    fn tell(&mut self, uid: u64, change: CallChange) {
        let Some(call) = self.calls.get(&uid) else { return };
        self.told.push(Told { devices: call.devices(), change, facts: call.facts.clone() });
    }
}
