//! From the switch's events to calls. One call keeps one [`CallKey`] from its first ring to the
//! last party's release, through holds, transfers and conferences, although its call ID and UCID
//! may change and every event arrives once per monitor that sees it.
//!
//! It draws conclusions about calls only: whether to record is not its business, and it asks the
//! switch nothing by itself; where it is in doubt it says so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use storage_core::{CallId, Extension, MonoTime, Now, RecordingId, Ucid};

use super::draft::Known;
use super::event::{AgentEvent, CallChange, CallEvent, CallFacts, Device, Monitor, PartyState};
use super::party::{Identity, PartyKind};
use super::roster::Roster;
use super::scene::{Clarity, Scene};
pub use super::tracked::{CallKey, TrackedCall};

/// A call that nobody can see any more is taken for ended after this long. A diversion or a
/// transfer leaves a moment between two monitors.
const UNSEEN: Duration = Duration::from_secs(2);
/// A trunk that tells nothing more after `NetworkReached` for this long is taken for answered: a
/// non-ISDN trunk never says so (dossier 6.4). Others say `Delivered` well before.
const NETWORK_SILENT: Duration = Duration::from_secs(2);
/// A report of a call with the same number and identity as one that ended this recently is late.
const BURIED: Duration = Duration::from_secs(2);
/// More calls than an AES can carry (dossier 8.1) are garbage, and are not tracked.
const CALLS_MAX: usize = 50_000;

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallEnd {
    /// The switch said so.
    Cleared,
    /// Nobody is left in it.
    Empty,
    /// No monitor sees it any more; it may go on elsewhere.
    Unseen,
    /// After a loss of the link the switch did not name it any more, or denies knowing it.
    Unknown,
    /// The switch uses its number for another call.
    Replaced,
}

/// What changed, in order.
#[derive(Clone, Debug)]
pub enum Change {
    /// A call was found or changed.
    Updated(CallKey),
    /// One of our phantoms is in a call.
    PhantomIn {
        /// The call.
        call: CallKey,
        /// The phantom.
        phantom: Extension,
    },
    /// One of our phantoms has left a call.
    PhantomOut {
        /// The call.
        call: CallKey,
        /// The phantom.
        phantom: Extension,
    },
    /// A call became part of another.
    Merged {
        /// The call that is no more, as it was before.
        from: Box<TrackedCall>,
        /// The one that goes on: of the two the one that is being recorded longer.
        into: CallKey,
    },
    /// A call is over; as it was last.
    Ended(Box<TrackedCall>, CallEnd),
    /// The parties are not known for certain: a snapshot of the call would help.
    Doubt(CallKey),
}

/// All calls that are up.
#[derive(Debug)]
pub struct Tracker {
    pub(super) roster: Roster,
    pub(super) calls: BTreeMap<CallKey, TrackedCall>,
    pub(super) by_id: BTreeMap<CallId, CallKey>,
    by_station: BTreeMap<Extension, BTreeSet<CallKey>>,
    agents: BTreeMap<Extension, String>,
    pub(super) buried: BTreeMap<CallId, (Option<Ucid>, MonoTime)>,
    pub(super) changes: VecDeque<Change>,
    last_key: u64,
    refused: u64,
}

impl Tracker {
    /// A tracker that knows no call yet.
    #[must_use]
    pub fn new(roster: Roster) -> Self {
        Self {
            roster,
            calls: BTreeMap::new(),
            by_id: BTreeMap::new(),
            by_station: BTreeMap::new(),
            agents: BTreeMap::new(),
            buried: BTreeMap::new(),
            changes: VecDeque::new(),
            last_key: 0,
            refused: 0,
        }
    }

    /// Takes an event of one monitor.
    pub fn handle_event(&mut self, now: Now, event: &CallEvent) {
        let (merge, transfer) = match &event.change {
            CallChange::Conferenced(merge) => (merge, false),
            CallChange::Transferred(merge) => (merge, true),
            CallChange::CallCleared(id) => return self.clear_call(now, id, event),
            change => return self.handle_party_event(now, event, change),
        };
        self.merge(now, event, merge, transfer);
    }

    /// Notes who is logged in where. If he is one whose calls are recorded, those that are up at his station are
    /// from now on; when he has logged out, those that have begun stay what they are.
    pub fn handle_agent(&mut self, now: Now, event: &AgentEvent) {
        match &event.agentid {
            Some(agentid) => self.log_in(now, &event.station, agentid),
            None => {
                self.roster.note_agent(&event.station, None);
                self.agents.remove(&event.station);
            }
        }
        self.touch_calls_of(&event.station);
    }

    /// Takes a call's identity, told on demand (dossier 6.7).
    pub fn handle_ucid(&mut self, id: &CallId, ucid: Ucid) {
        if let Some(call) = self.by_id.get(id).and_then(|key| self.calls.get_mut(key)) {
            call.adopt_ucid(Some(ucid));
            let key = call.key;
            self.changes.push_back(Change::Updated(key));
        }
    }

    /// The switch denies knowing this call.
    pub fn handle_unknown(&mut self, now: Now, id: &CallId) {
        if let Some(&key) = self.by_id.get(id) {
            self.end(now, key, CallEnd::Unknown);
        }
    }

    /// Concludes what only time tells.
    pub fn handle_timeout(&mut self, now: Now) {
        let due: Vec<_> = self
            .calls
            .values()
            .filter(|call| call_deadline(call).is_some_and(|at| at <= now.mono))
            .map(|call| call.key)
            .collect();
        for key in due {
            let unseen = self.calls.get(&key).and_then(|call| call.unseen);
            if unseen.is_some_and(|since| since + UNSEEN <= now.mono) {
                self.end(now, key, CallEnd::Unseen);
            } else {
                self.answer_silent_network(now, key);
            }
        }
    }

    /// When [`Self::handle_timeout`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<MonoTime> {
        self.calls.values().filter_map(call_deadline).min()
    }

    /// Notes the name of the recording that is made of a call; of two merging calls the one whose
    /// recording was opened first goes on, whoever captures it since when: all nodes decide alike.
    pub fn mark_recorded(&mut self, key: CallKey, name: Option<RecordingId>) {
        if let Some(call) = self.calls.get_mut(&key) {
            call.recorded = name;
        }
    }

    /// The next change; all are taken before the next input.
    pub fn poll_change(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    /// A call.
    #[must_use]
    pub fn call(&self, key: CallKey) -> Option<&TrackedCall> {
        self.calls.get(&key)
    }

    /// All calls.
    pub fn calls(&self) -> impl Iterator<Item = &TrackedCall> {
        self.calls.values()
    }

    /// The call that has this number now.
    #[must_use]
    pub fn by_id(&self, id: &CallId) -> Option<&TrackedCall> {
        self.calls.get(self.by_id.get(id)?)
    }

    /// The call in which one of our phantoms is.
    #[must_use]
    pub fn call_of_phantom(&self, phantom: &Extension) -> Option<CallKey> {
        let mut calls = self.calls.values();
        calls.find(|call| call.phantoms().any(|other| other == phantom)).map(|call| call.key)
    }

    /// The calls in which this station is.
    pub fn calls_of(&self, station: &Extension) -> impl Iterator<Item = &TrackedCall> {
        let keys = self.by_station.get(station).into_iter().flatten();
        keys.filter_map(|key| self.calls.get(key))
    }

    /// The other calls in which stations of this call are: consultations, and what was held for
    /// them.
    #[must_use]
    pub fn linked(&self, call: &TrackedCall) -> BTreeSet<CallKey> {
        let stations = call.stations_named.iter();
        let keys = stations.filter_map(|station| self.by_station.get(station)).flatten().copied();
        keys.filter(|key| *key != call.key).collect()
    }

    /// Notes that one of our phantoms is in a call, or is not, because the switch has answered so;
    /// its event may come later or has come before.
    pub fn handle_phantom(&mut self, now: Now, key: CallKey, phantom: &Extension, there: bool) {
        let name = Identity { number: Some(phantom.clone()), trunk: None };
        self.with_phantoms_noted(key, |tracker| {
            let Some(call) = tracker.calls.get_mut(&key) else { return };
            if there {
                let (kind, state) = (PartyKind::Phantom, PartyState::Connected);
                call.parties.arrive(now.wall, &name, kind, state);
                call.viewers.insert(Monitor::Phantom(phantom.clone()));
            } else {
                call.parties.leave(now.wall, &name, PartyKind::Phantom);
                call.viewers.remove(&Monitor::Phantom(phantom.clone()));
            }
        });
        self.conclude(now, key);
    }

    /// Tells a call what was known of it before a restart.
    pub(super) fn teach(&mut self, now: Now, key: CallKey, known: &Known) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        call.learn(&CallFacts {
            calling: Some(known.calling.clone()),
            called: Some(known.called.clone()),
            ..CallFacts::default()
        });
        let outside: Vec<_> =
            call.real().filter(|party| party.kind == PartyKind::Outside).cloned().collect();
        if let (Some(number), [party]) = (&known.outside, outside.as_slice())
            && party.name.number.is_none()
        {
            let name = Identity { number: Some(number.clone()), ..party.name.clone() };
            call.parties.arrive(now.wall, &name, PartyKind::Outside, party.state);
        }
        self.changes.push_back(Change::Updated(key));
    }

    /// Takes the phantoms of the other nodes. Those that are in calls already are seen as what they
    /// are from now on; what the configuration lists stays listed.
    pub fn learn_peer_phantoms(&mut self, phantoms: BTreeSet<Extension>) {
        self.roster.peer_phantoms.extend(phantoms);
        for call in self.calls.values_mut() {
            call.parties.reclassify(&self.roster);
            self.changes.push_back(Change::Updated(call.key));
        }
    }

    /// The login of the agent at a station; empty if none is known.
    #[must_use]
    pub fn agent(&self, station: &Extension) -> &str {
        self.agents.get(station).map_or("", String::as_str)
    }

    /// The configured numbers.
    #[must_use]
    pub const fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Events of calls that were not tracked because there were impossibly many.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    fn handle_party_event(&mut self, now: Now, event: &CallEvent, change: &CallChange) {
        let Some(connection) = connection_of(change) else { return };
        let start = Start::of(change);
        let Some(key) = self.locate(now, &connection.call, &event.facts, start) else { return };
        if let Some(call) = self.calls.get_mut(&key) {
            call.told = now.wall;
        }
        self.with_phantoms_noted(key, |tracker| {
            tracker.view(key, event);
            tracker.note_agent(now, event, change);
            tracker.apply(now, key, event, change);
        });
        self.conclude(now, key);
    }

    /// Runs a change of one call and tells which of our phantoms came or left by it.
    pub(super) fn with_phantoms_noted(&mut self, key: CallKey, change: impl FnOnce(&mut Self)) {
        let before = self.phantoms_in(key);
        change(self);
        let after = self.phantoms_in(key);
        for phantom in after.difference(&before).cloned() {
            self.changes.push_back(Change::PhantomIn { call: key, phantom });
        }
        for phantom in before.difference(&after).cloned() {
            self.changes.push_back(Change::PhantomOut { call: key, phantom });
        }
    }

    /// The call that an event speaks of. A number with another identity than before is another
    /// call; a clearing that comes too late must not touch that one.
    pub(super) fn locate(
        &mut self,
        now: Now,
        id: &CallId,
        facts: &CallFacts,
        start: Start,
    ) -> Option<CallKey> {
        let ucid = facts.ucid.as_ref();
        if let Some(call) = self.by_id(id) {
            let key = call.key;
            if !call.is_other(facts, start) {
                return Some(key);
            }
            if start == Start::No {
                return None;
            }
            self.end(now, key, CallEnd::Replaced);
        }
        if start == Start::No || self.is_buried(now, id, ucid) {
            return None;
        }
        let key = self.create(now, id)?;
        if start == Start::Midway {
            self.changes.push_back(Change::Doubt(key));
        }
        Some(key)
    }

    pub(super) fn create(&mut self, now: Now, id: &CallId) -> Option<CallKey> {
        if self.calls.len() >= CALLS_MAX {
            self.refused += 1;
            return None;
        }
        self.last_key += 1;
        let key = CallKey(self.last_key);
        self.calls.insert(key, TrackedCall::new(now, key, id.clone()));
        self.by_id.insert(id.clone(), key);
        Some(key)
    }

    /// Notes that this monitor sees the call, and what its event says of it. While the link is in doubt, a
    /// recorder that comes or goes does not tell that anybody talks there: that is asked for.
    pub(super) fn view(&mut self, key: CallKey, event: &CallEvent) {
        let kind = connection_of(&event.change).map(|it| self.roster.kind(&it.device));
        let Some(call) = self.calls.get_mut(&key) else { return };
        if call.confirmed || !matches!(kind, Some(PartyKind::Phantom | PartyKind::PeerPhantom)) {
            call.confirmed = true;
        } else {
            self.changes.push_back(Change::Doubt(key));
        }
        call.viewers.insert(event.monitor.clone());
        call.learn(&event.facts);
    }

    /// Ends the call if nobody is in it any more, and starts the clock if nobody sees it any more.
    pub(super) fn conclude(&mut self, now: Now, key: CallKey) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        // Where only another node's phantom was heard of, the people are still to be asked for.
        let unknown = call.is_known_by_recorders_only();
        if call.real().next().is_none() && call.phantoms().next().is_none() && !unknown {
            return self.end(now, key, CallEnd::Empty);
        }
        call.learn_trunk();
        call.unseen = call.viewers.is_empty().then(|| call.unseen.unwrap_or(now.mono));
        let stations: BTreeSet<Extension> = call
            .real()
            .filter(|party| party.kind != PartyKind::Outside)
            .filter_map(|party| party.name.number.clone())
            .collect();
        let before = std::mem::replace(&mut call.stations_named, stations.clone());
        for gone in before.difference(&stations) {
            self.unlist(gone, key);
        }
        for new in stations.difference(&before) {
            self.by_station.entry(new.clone()).or_default().insert(key);
        }
        self.changes.push_back(Change::Updated(key));
    }

    pub(super) fn end(&mut self, now: Now, key: CallKey, end: CallEnd) {
        let Some(mut call) = self.calls.remove(&key) else { return };
        self.by_id.remove(call.id());
        for station in &call.stations_named {
            self.unlist(station, key);
        }
        if matches!(end, CallEnd::Cleared | CallEnd::Empty) {
            self.buried.retain(|_, (_, at)| now.mono.since(*at) < BURIED);
            self.buried.insert(call.id().clone(), (call.ucid.clone(), now.mono));
        }
        if end == CallEnd::Cleared {
            for phantom in call.phantoms().cloned().collect::<Vec<_>>() {
                self.changes.push_back(Change::PhantomOut { call: key, phantom });
            }
        }
        if !matches!(end, CallEnd::Cleared | CallEnd::Empty) {
            call.parties.end_holds(call.told);
        }
        call.parties.leave_all(now.wall, |party| !party.is_recorder());
        self.changes.push_back(Change::Ended(Box::new(call), end));
    }

    pub(super) fn unlist(&mut self, station: &Extension, key: CallKey) {
        if let Some(keys) = self.by_station.get_mut(station) {
            keys.remove(&key);
            if keys.is_empty() {
                self.by_station.remove(station);
            }
        }
    }

    fn clear_call(&mut self, now: Now, id: &CallId, event: &CallEvent) {
        if let Some(key) = self.locate(now, id, &event.facts, Start::No) {
            self.end(now, key, CallEnd::Cleared);
        }
    }

    fn is_buried(&self, now: Now, id: &CallId, ucid: Option<&Ucid>) -> bool {
        let Some((buried, at)) = self.buried.get(id) else { return false };
        ucid.is_some() && buried.as_ref() == ucid && now.mono.since(*at) < BURIED
    }

    fn phantoms_in(&self, key: CallKey) -> BTreeSet<Extension> {
        self.calls.get(&key).map(|call| call.phantoms().cloned().collect()).unwrap_or_default()
    }

    fn log_in(&mut self, now: Now, station: &Extension, agentid: &str) {
        if self.roster.note_agent(station, Some(agentid)) {
            self.record_from_now(now, station);
        }
        let device = Device::Number(station.clone());
        if self.roster.kind(&device) != PartyKind::Outside {
            self.agents.insert(station.clone(), agentid.to_owned());
        }
    }

    fn record_from_now(&mut self, now: Now, station: &Extension) {
        let found = self.calls.values_mut().filter_map(|call| {
            let made = call.parties.make_station(station);
            made.then_some(call.key)
        });
        for key in found.collect::<Vec<_>>() {
            self.conclude(now, key);
        }
    }

    /// A station that dials names the agent who is logged in there (dossier 6.3).
    fn note_agent(&mut self, now: Now, event: &CallEvent, change: &CallChange) {
        if let (CallChange::Originated(connection), Some(agentid)) = (change, &event.facts.agentid)
            && let Some(station) = connection.device.number()
        {
            self.log_in(now, &station.clone(), agentid);
        }
    }

    fn touch_calls_of(&mut self, station: &Extension) {
        let keys: Vec<CallKey> = self.calls_of(station).map(|call| call.key).collect();
        self.changes.extend(keys.into_iter().map(Change::Updated));
    }

    fn answer_silent_network(&mut self, now: Now, key: CallKey) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        call.network = None;
        let ringing: Vec<_> = call
            .real()
            .filter(|party| party.kind == PartyKind::Outside && !party.is_in_call())
            .map(|party| party.name.clone())
            .collect();
        for name in ringing {
            call.parties.arrive(now.wall, &name, PartyKind::Outside, PartyState::Connected);
        }
        // The direction of a call that went out through a trunk is known whatever else is not.
        call.originated = true;
        call.establish(now, &self.roster);
        self.changes.push_back(Change::Updated(key));
    }

    fn apply(&mut self, now: Now, key: CallKey, event: &CallEvent, change: &CallChange) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        let mut scene = Scene { now, call, roster: &self.roster, event };
        if scene.play(change) == Clarity::Doubtful {
            self.changes.push_back(Change::Doubt(key));
        }
    }
}

/// Whether an event may be the first that is heard of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// It is how calls begin.
    Begin,
    /// The call must have begun unseen.
    Midway,
    /// It only ends things.
    No,
}

impl Start {
    fn of(change: &CallChange) -> Self {
        match change {
            CallChange::ServiceInitiated(_)
            | CallChange::Originated(_)
            | CallChange::NetworkReached(_)
            | CallChange::Delivered { .. }
            | CallChange::Queued { .. } => Self::Begin,
            CallChange::Established { .. }
            | CallChange::Held(_)
            | CallChange::Retrieved(_)
            | CallChange::Conferenced(_)
            | CallChange::Transferred(_) => Self::Midway,
            CallChange::Diverted { .. }
            | CallChange::Failed(_)
            | CallChange::ConnectionCleared { .. }
            | CallChange::CallCleared(_) => Self::No,
        }
    }
}

fn call_deadline(call: &TrackedCall) -> Option<MonoTime> {
    let unseen = call.unseen.map(|since| since + UNSEEN);
    let network = call.network.map(|since| since + NETWORK_SILENT);
    unseen.into_iter().chain(network).min()
}

const fn connection_of(change: &CallChange) -> Option<&super::event::Connection> {
    match change {
        CallChange::ServiceInitiated(connection)
        | CallChange::Originated(connection)
        | CallChange::NetworkReached(connection)
        | CallChange::Held(connection)
        | CallChange::Retrieved(connection)
        | CallChange::Failed(connection)
        | CallChange::Delivered { connection, .. }
        | CallChange::Established { connection, .. }
        | CallChange::Diverted { connection, .. }
        | CallChange::Queued { connection, .. }
        | CallChange::ConnectionCleared { connection, .. } => Some(connection),
        CallChange::Conferenced(_) | CallChange::Transferred(_) | CallChange::CallCleared(_) => {
            None
        }
    }
}
