//! A pure model of one Communication Manager: stations, agents, trunks, VDNs, skills and the calls
//! between them. Commands go in with the time, events come out of `poll_event`. It knows nothing
//! of CTI links, XML, sockets or audio.

mod agents;
mod call;
mod event;
mod features;
mod ids;
mod join;
mod merge;
mod observe;
mod refusal;
mod registration;
mod routing;
mod setup;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub use agents::{Agent, AgentChange, AgentEvent, AgentState};
pub use call::{Call, ConnectionState, Direction, Participation, Party};
pub use event::{
    Audience, Body, CallFacts, Cause, Event, Merge, MergedConnection, Number, Original,
    OriginalCall,
};
pub use ids::{CallId, Device, Extension, Serial, Trunk, Ucid};
pub use refusal::Refusal;
pub use registration::{
    Content, Dependency, LocalMedia, MediaMode, Owner, RegisterRefusal, Registration,
    RegistrationChange, RegistrationKey, Unregistered,
};

use crate::config::{ConfigError, SiteConfig, Switches, TrunkConfig};
use crate::secret::Secret;
use crate::time::Time;

/// Calls that are over and still remembered.
const HISTORY_MAX: usize = 200_000;

/// What kind of station it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StationKind {
    /// A telephone with a person.
    Telephone,
    /// A softphone station without hardware; in service only while registered.
    Phantom,
}

/// One station.
#[derive(Clone, Debug)]
struct Station {
    kind: StationKind,
    password: Secret,
    /// Since when it has no call.
    idle_since: Time,
    busied_out: bool,
    wrong_passwords: u32,
    wrong_in_a_row: u32,
}

/// A call that is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finished {
    /// The call as it was at its end, its last parties removed.
    pub call: Call,
    /// When it ended.
    pub ended: Time,
    /// The interaction it was merged into, if that is why.
    pub merged_into: Option<Serial>,
    /// Its outside party's number and trunk, if it had one.
    pub outside: Option<(Trunk, Number)>,
}

/// The switch.
#[derive(Debug)]
pub struct Switch {
    switches: Switches,
    max_parties: usize,
    max_registrations: usize,
    ucid_node: u32,
    unix_ms_at_zero: u64,
    call_ids: (u32, u32),
    now: Time,
    stations: BTreeMap<Extension, Station>,
    agents: BTreeMap<String, Agent>,
    vdns: BTreeMap<Extension, Extension>,
    skills: BTreeSet<Extension>,
    trunks: BTreeMap<u16, TrunkConfig>,
    trunks_busy: BTreeSet<Trunk>,
    calls: BTreeMap<CallId, Call>,
    by_serial: BTreeMap<Serial, CallId>,
    calls_at: BTreeMap<Extension, Vec<CallId>>,
    registrations: BTreeMap<RegistrationKey, Registration>,
    keypads: BTreeMap<Extension, observe::Keypad>,
    next_call_id: u32,
    next_serial: u32,
    next_ucid: u32,
    sequence: u64,
    events: VecDeque<Event>,
    agent_events: VecDeque<AgentEvent>,
    registration_changes: VecDeque<RegistrationChange>,
    touched: BTreeSet<Extension>,
    finished: Vec<Finished>,
    outside_of: BTreeMap<Serial, (Trunk, Number)>,
    party_limit_refusals: u64,
}

impl Switch {
    /// Builds the switch; all agents are logged in and ready.
    ///
    /// # Errors
    /// A configuration that `SiteConfig::check` refuses.
    pub fn new(config: &SiteConfig, unix_ms_at_zero: u64) -> Result<Self, ConfigError> {
        config.check()?;
        let mut switch = Self {
            switches: config.switches.clone(),
            max_parties: config.max_parties,
            max_registrations: config.max_registrations,
            ucid_node: config.ucid_node,
            unix_ms_at_zero,
            call_ids: (config.call_id_first, config.call_id_last),
            now: Time::default(),
            stations: BTreeMap::new(),
            agents: BTreeMap::new(),
            vdns: BTreeMap::new(),
            skills: config.skills.iter().map(|skill| Extension::from(skill.as_str())).collect(),
            trunks: config.trunks.iter().map(|group| (group.group, group.clone())).collect(),
            trunks_busy: BTreeSet::new(),
            calls: BTreeMap::new(),
            by_serial: BTreeMap::new(),
            calls_at: BTreeMap::new(),
            registrations: BTreeMap::new(),
            keypads: BTreeMap::new(),
            next_call_id: config.call_id_first,
            next_serial: 1,
            next_ucid: 1,
            sequence: 0,
            events: VecDeque::new(),
            agent_events: VecDeque::new(),
            registration_changes: VecDeque::new(),
            touched: BTreeSet::new(),
            finished: Vec::new(),
            outside_of: BTreeMap::new(),
            party_limit_refusals: 0,
        };
        for extension in config.station_list()? {
            let password = match config.station_password.expose() {
                "" => Secret::from(extension.as_str()),
                _ => config.station_password.clone(),
            };
            switch.add_station(extension, StationKind::Telephone, password);
        }
        for (extension, password) in config.phantom_list()? {
            switch.add_station(extension, StationKind::Phantom, password);
        }
        for vdn in &config.vdns {
            let to = Extension::from(vdn.destination.as_str());
            switch.vdns.insert(Extension::from(vdn.extension.as_str()), to);
        }
        for agent in &config.agents {
            switch.agents.insert(agent.id.clone(), Agent::new(agent));
        }
        Ok(switch)
    }

    fn add_station(&mut self, extension: String, kind: StationKind, password: Secret) {
        let station = Station {
            kind,
            password,
            idle_since: Time::default(),
            busied_out: false,
            wrong_passwords: 0,
            wrong_in_a_row: 0,
        };
        self.stations.insert(Extension::from(extension), station);
    }

    /// The next call event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next agent event.
    pub fn poll_agent_event(&mut self) -> Option<AgentEvent> {
        self.agent_events.pop_front()
    }

    /// The next change of a registration.
    pub fn poll_registration(&mut self) -> Option<RegistrationChange> {
        self.registration_changes.pop_front()
    }

    /// Extensions whose media may have changed since the last call.
    pub fn take_touched(&mut self) -> BTreeSet<Extension> {
        std::mem::take(&mut self.touched)
    }

    /// Running number of the last event.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// All calls, by call ID.
    #[must_use]
    pub const fn calls(&self) -> &BTreeMap<CallId, Call> {
        &self.calls
    }

    /// The call with that ID.
    ///
    /// # Errors
    /// No such call now.
    pub fn call(&self, id: CallId) -> Result<&Call, Refusal> {
        self.calls.get(&id).ok_or(Refusal::NoSuchCall(id))
    }

    /// The call of an interaction; after a merge only the surviving one has any.
    ///
    /// # Errors
    /// It is over.
    pub fn call_of(&self, serial: Serial) -> Result<&Call, Refusal> {
        let id = self.by_serial.get(&serial).ok_or(Refusal::NotInProgress(serial.0))?;
        self.call(*id)
    }

    /// Calls that are over, oldest first.
    #[must_use]
    pub fn finished(&self) -> &[Finished] {
        &self.finished
    }

    /// What kind of station has that extension.
    #[must_use]
    pub fn station_kind(&self, extension: &Extension) -> Option<StationKind> {
        self.stations.get(extension).map(|station| station.kind)
    }

    /// Whether that is a VDN or a skill.
    #[must_use]
    pub fn is_group(&self, extension: &Extension) -> bool {
        self.vdns.contains_key(extension) || self.skills.contains(extension)
    }

    /// Whether that is a skill.
    #[must_use]
    pub fn is_skill(&self, extension: &Extension) -> bool {
        self.skills.contains(extension)
    }

    /// Telephones without any call, in order.
    pub fn free_telephones(&self) -> impl Iterator<Item = &Extension> {
        self.stations
            .iter()
            .filter(|(extension, station)| {
                station.kind == StationKind::Telephone
                    && !station.busied_out
                    && !self.calls_at.contains_key(*extension)
            })
            .map(|(extension, _)| extension)
    }

    /// IDs of the calls in which an extension is, oldest first.
    #[must_use]
    pub fn calls_at(&self, extension: &Extension) -> &[CallId] {
        self.calls_at.get(extension).map_or(&[], Vec::as_slice)
    }

    /// What an extension hears: the call in which it has a speech path.
    #[must_use]
    pub fn heard_at(&self, extension: &Extension) -> Option<&Call> {
        self.calls_at(extension).iter().filter_map(|id| self.calls.get(id)).find(|call| {
            call.at(extension).is_some_and(|party| party.state == ConnectionState::Connected)
        })
    }

    /// Times that a person's conference or transfer failed only because a recorder was in the call.
    #[must_use]
    pub const fn party_limit_refusals(&self) -> u64 {
        self.party_limit_refusals
    }

    /// Phantoms that are in calls without any person.
    #[must_use]
    pub fn stuck_phantoms(&self) -> Vec<Extension> {
        let lonely = self.calls.values().filter(|call| call.people() == 0);
        lonely
            .flat_map(|call| call.parties.iter())
            .filter_map(|party| party.device.extension().cloned())
            .collect()
    }

    /// Changes how merges and the rest behave.
    pub const fn switches_mut(&mut self) -> &mut Switches {
        &mut self.switches
    }

    fn is_phantom(&self, extension: &Extension) -> bool {
        self.station_kind(extension) == Some(StationKind::Phantom)
    }

    /// A new call without parties.
    fn new_call(&mut self, direction: Direction, calling: Number, called: Number) -> CallId {
        let id = self.free_call_id();
        let serial = Serial(self.next_serial);
        self.next_serial += 1;
        let unix_seconds = (self.unix_ms_at_zero + self.now.nanos() / 1_000_000) / 1000;
        let ucid = Ucid::new(self.ucid_node, self.next_ucid, unix_seconds);
        self.next_ucid = self.next_ucid % 99_999 + 1;
        let call = Call {
            id,
            serial,
            ucid,
            former_ucids: Vec::new(),
            direction,
            calling,
            called,
            parties: Vec::new(),
            last_redirection: None,
            vdn: None,
            skill: None,
            queued_at: None,
            via: BTreeMap::new(),
            user_data: Vec::new(),
            original: None,
            started: self.now,
            established: None,
            answered_by: Vec::new(),
            lonely_since: None,
        };
        self.calls.insert(id, call);
        self.by_serial.insert(serial, id);
        id
    }

    /// Goes round in the range; if every ID of it is taken, the range grows.
    fn free_call_id(&mut self) -> CallId {
        let (first, last) = self.call_ids;
        for _ in first..=last {
            let id = CallId(self.next_call_id);
            self.next_call_id = if id.0 >= last { first } else { id.0 + 1 };
            if !self.calls.contains_key(&id) {
                return id;
            }
        }
        self.call_ids.1 += 1;
        CallId(self.call_ids.1)
    }

    fn add_party(&mut self, id: CallId, party: Party) {
        if let Some(extension) = party.device.extension() {
            self.calls_at.entry(extension.clone()).or_default().push(id);
            self.touched.insert(extension.clone());
        }
        if let (Device::Trunk(trunk), Some(call)) = (&party.device, self.calls.get(&id)) {
            self.outside_of.insert(call.serial, (*trunk, party.number.clone()));
        }
        if let Some(call) = self.calls.get_mut(&id) {
            call.parties.push(party);
            if call.people() >= 2 {
                call.lonely_since = None;
            }
        }
    }

    fn remove_party(&mut self, id: CallId, device: &Device) {
        if let Some(call) = self.calls.get_mut(&id) {
            call.parties.retain(|party| party.device != *device);
            if call.people() < 2 {
                call.lonely_since.get_or_insert(self.now);
            }
        }
        match device {
            Device::Extension(extension) => self.forget_at(extension, id),
            Device::Trunk(trunk) => {
                self.trunks_busy.remove(trunk);
            }
        }
    }

    fn forget_at(&mut self, extension: &Extension, id: CallId) {
        self.touched.insert(extension.clone());
        if let Some(calls) = self.calls_at.get_mut(extension) {
            calls.retain(|other| *other != id);
            if calls.is_empty() {
                self.calls_at.remove(extension);
                if let Some(station) = self.stations.get_mut(extension) {
                    station.idle_since = self.now;
                }
            }
        }
    }

    /// Tells an event to the parties of the call.
    fn emit(&mut self, id: CallId, body: Body) {
        self.emit_leaving(id, body, None);
    }

    /// The same, where one party is about to leave and still hears of it.
    fn emit_leaving(&mut self, id: CallId, body: Body, leaving: Option<&Device>) {
        let Some(call) = self.calls.get(&id) else { return };
        let stations = call
            .parties
            .iter()
            .filter_map(|party| {
                let stays = leaving != Some(&party.device);
                Some((party.device.extension()?.clone(), stays.then_some(party.state)))
            })
            .collect();
        let audience = Audience { stations, via: call.via.clone(), serials: vec![call.serial] };
        let facts = call.facts();
        self.push_event(facts, body, audience);
    }

    fn push_event(&mut self, call: CallFacts, body: Body, audience: Audience) {
        self.sequence += 1;
        self.touched.extend(audience.stations.keys().cloned());
        self.events.push_back(Event { call, body, audience });
    }

    /// Takes a call off the list and remembers it.
    fn finish(&mut self, id: CallId, merged_into: Option<Serial>) {
        let Some(call) = self.calls.remove(&id) else { return };
        self.by_serial.remove(&call.serial);
        let outside = self.outside_of.remove(&call.serial);
        if self.finished.len() >= HISTORY_MAX {
            self.finished.drain(..HISTORY_MAX / 10);
        }
        self.finished.push(Finished { call, ended: self.now, merged_into, outside });
    }
}
