//! Conferences and transfers: two calls become one, or one call changes its parties. Which call ID
//! and which UCID survive is data (dossier 6.4, register no. 13): both are read from the lists, and
//! only where the lists are silent the call whose number survives gives its identity.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use storage_core::{CallId, Now, Ucid};

use super::event::{CallEvent, CallFacts, Device, Merge, MergedParty, Monitor, PartyState};
use super::party::{Identity, Parties, Party, PartyKind};
use super::tracked::{CallKey, MergeSign, TrackedCall};
use super::tracker::{CallEnd, Change, Start, Tracker};

/// The other monitors' reports of a merge come within this.
const SAME_MERGE: Duration = Duration::from_secs(2);

impl Tracker {
    /// Applies a conference or transfer.
    pub(super) fn merge(&mut self, now: Now, event: &CallEvent, merge: &Merge, transfer: bool) {
        let sign = sign_of(merge);
        if self.is_repeated(now, &sign, event, transfer) {
            return;
        }
        let keys = self.calls_in(now, &sign, event, merge);
        let Some(&into) = keys.iter().min_by_key(|key| self.precedence(**key)) else { return };
        self.with_phantoms_noted(into, |tracker| {
            tracker.join_calls(now, &keys, into, merge, transfer);
            tracker.name_merged(now, into, event, merge, &sign);
            tracker.view(into, event);
            tracker.end_view_of_transferring(into, merge, transfer);
        });
        self.conclude(now, into);
    }

    /// Another monitor's report of a merge that is done: no call that was to be merged is left.
    fn is_repeated(
        &mut self,
        now: Now,
        sign: &MergeSign,
        event: &CallEvent,
        transfer: bool,
    ) -> bool {
        if sign.old.iter().any(|id| *id != sign.new && self.by_id.contains_key(id)) {
            return false;
        }
        let Some(key) = self.by_id.get(&sign.new).copied() else { return false };
        let Some(call) = self.calls.get_mut(&key) else { return false };
        let Some((done, at)) = &call.merged else { return false };
        if done != sign || now.mono.since(*at) >= SAME_MERGE {
            return false;
        }
        call.confirmed = true;
        let own = Monitor::Station(sign.by.number().cloned().unwrap_or_else(|| "".into()));
        if !(transfer && event.monitor == own) {
            call.viewers.insert(event.monitor.clone());
        }
        true
    }

    /// The tracked calls that take part; at least one, made if none was known.
    fn calls_in(
        &mut self,
        now: Now,
        sign: &MergeSign,
        event: &CallEvent,
        merge: &Merge,
    ) -> BTreeSet<CallKey> {
        let told: Vec<&Ucid> =
            [&merge.new_ucid, &merge.old_ucid, &event.facts.ucid].into_iter().flatten().collect();
        let keys: BTreeSet<CallKey> = sign
            .old
            .iter()
            .chain([&sign.new])
            .filter_map(|id| self.by_id.get(id).copied())
            .collect();
        let (taken, reused): (BTreeSet<CallKey>, BTreeSet<CallKey>) =
            keys.into_iter().partition(|key| self.may_take_part(*key, &told));
        for key in reused {
            self.end(now, key, CallEnd::Replaced);
        }
        if !taken.is_empty() {
            return taken;
        }
        let ucid = told.first().copied().cloned();
        let facts = CallFacts { ucid, ..CallFacts::default() };
        let made = self.locate(now, &sign.new, &facts, Start::Midway);
        made.into_iter().collect()
    }

    /// A call whose identity is neither of the two that the switch names is another call, whose
    /// number was used again.
    fn may_take_part(&self, key: CallKey, told: &[&Ucid]) -> bool {
        let Some(call) = self.calls.get(&key) else { return false };
        told.len() < 2 || call.ucid.is_none() || told.iter().any(|ucid| call.is(ucid))
    }

    /// The call whose recording was opened first goes on; of calls that are not recorded, the eldest.
    fn precedence(&self, key: CallKey) -> impl Ord + use<> {
        let call = self.calls.get(&key);
        let recorded = call.and_then(|call| call.recorded);
        (recorded.is_none(), recorded, call.map(|call| call.seen.mono), key)
    }

    fn join_calls(
        &mut self,
        now: Now,
        keys: &BTreeSet<CallKey>,
        into: CallKey,
        merge: &Merge,
        transfer: bool,
    ) {
        let mut sources = BTreeMap::new();
        let mut others = Vec::new();
        for key in keys {
            if let Some(call) = self.calls.get_mut(key) {
                let id = call.id().clone();
                let before = (*key != into).then(|| call.clone());
                let mut parties = std::mem::take(&mut call.parties);
                if before.is_some() {
                    parties.come_over(now.wall);
                }
                call.told = now.wall;
                sources.insert(id, parties);
                others.extend(before);
            }
        }
        let parties = seat(self, now, merge, transfer, sources);
        for other in &others {
            self.calls.remove(&other.key);
            for station in &other.stations_named {
                self.unlist(station, other.key);
            }
        }
        if let Some(call) = self.calls.get_mut(&into) {
            call.parties = parties;
            for other in &others {
                take_over(call, other);
            }
            if !merge.parties.is_empty() {
                call.forget_absent_viewers();
            }
        }
        for other in others {
            self.changes.push_back(Change::Merged { from: Box::new(other), into });
        }
        self.by_id.retain(|_, key| !keys.contains(key));
    }

    /// Gives the call its number and identity after the merge.
    fn name_merged(
        &mut self,
        now: Now,
        into: CallKey,
        event: &CallEvent,
        merge: &Merge,
        sign: &MergeSign,
    ) {
        let Some(call) = self.calls.get_mut(&into) else { return };
        let unknown_before = !call.ids.contains(&merge.primary.call);
        if unknown_before && merge.secondary.is_some() {
            inherit_original(call, event);
        }
        call.adopt_ucid(merge.new_ucid.clone().or_else(|| event.facts.ucid.clone()));
        call.add_former(merge.old_ucid.clone());
        call.rename(&sign.new);
        call.caller_known = true;
        call.merged = Some((sign.clone(), now.mono));
        if call.talking().count() >= 2 {
            call.establish(now, &self.roster);
        }
        self.by_id.insert(sign.new.clone(), into);
    }

    /// A station that has transferred a call sees no more of it; no clearing tells so.
    fn end_view_of_transferring(&mut self, into: CallKey, merge: &Merge, transfer: bool) {
        if let (true, Some(number)) = (transfer, merge.by.number())
            && let Some(call) = self.calls.get_mut(&into)
            && call.party(number).is_none()
        {
            call.viewers.remove(&Monitor::Station(number.clone()));
        }
    }
}

/// What tells this merge from others: what the monitors' reports of it have in common.
fn sign_of(merge: &Merge) -> MergeSign {
    let named = merge.parties.iter().filter_map(|party| party.old.as_ref());
    let old = [Some(&merge.primary), merge.secondary.as_ref()].into_iter().flatten().chain(named);
    let old: BTreeSet<CallId> = old.map(|connection| connection.call.clone()).collect();
    let new = merge.parties.first().map_or(&merge.primary.call, |party| &party.new.call);
    MergeSign { old, new: new.clone(), by: merge.by.clone() }
}

/// The parties after the merge. The switch's list is right about people; recorders stay until
/// they are seen leaving, because a silent party may be missing from it (dossier 7.2).
fn seat(
    tracker: &Tracker,
    now: Now,
    merge: &Merge,
    transfer: bool,
    mut sources: BTreeMap<CallId, Parties>,
) -> Parties {
    let mut seated = Parties::default();
    for entry in &merge.parties {
        let name = name_of(entry);
        let mut kind = tracker.roster.kind(&name.device());
        if kind == PartyKind::Inside && name.trunk.is_some() {
            kind = PartyKind::Outside;
        }
        let found = take_party(&mut sources, entry, &name, kind);
        if kind != PartyKind::Queue {
            seated.put(found.map_or_else(
                || Party::new(now.wall, name.clone(), kind, state_of_new(merge, &name)),
                |party| settle(now, party, &name, &merge.by),
            ));
        }
    }
    let list_is_empty = merge.parties.is_empty();
    let gone = |party: &Party| {
        let transferring = transfer && party.name.device() == merge.by;
        !party.is_recorder() && (!list_is_empty || transferring)
    };
    let mut rest = Parties::default();
    for mut source in sources.into_values() {
        while let Some(party) = source.pop() {
            let same = party.name.device() != Device::Unknown;
            let twin = if same { rest.take(&party.name, party.kind) } else { None };
            rest.put(twin.map_or(party.clone(), |twin| twin.unite(party)));
        }
        seated.inherit(source);
    }
    rest.leave_all(now.wall, gone);
    while let Some(party) = rest.pop() {
        seated.put(party);
    }
    seated.inherit(rest);
    seated
}

fn name_of(entry: &MergedParty) -> Identity {
    let mut name = Identity::of(&[&entry.endpoint, &entry.new.device]);
    if let Some(trunk) = &entry.trunk {
        name.trunk.get_or_insert_with(|| trunk.clone());
    }
    name
}

/// Finds a listed party where the list says it was, else where it is found. The party that did
/// the merge was in both calls, and is one from now on.
fn take_party(
    sources: &mut BTreeMap<CallId, Parties>,
    entry: &MergedParty,
    name: &Identity,
    kind: PartyKind,
) -> Option<Party> {
    let before = entry.old.as_ref().map_or(&entry.new.call, |old| &old.call);
    let mut found = sources.get_mut(before).and_then(|parties| parties.take(name, kind));
    for parties in sources.values_mut() {
        let exact = parties.iter().any(|party| party.name.shares(name));
        if found.is_none() || exact {
            found = match (found, parties.take(name, kind)) {
                (Some(one), Some(other)) => Some(one.unite(other)),
                (one, other) => one.or(other),
            };
        }
    }
    found
}

/// A single-step transfer's target rings; whoever else appears was talking all along.
fn state_of_new(merge: &Merge, name: &Identity) -> PartyState {
    let target = merge.secondary.is_none() && Identity::of(&[&merge.added]).shares(name);
    if target { PartyState::Alerting } else { PartyState::Connected }
}

/// Who did the merge has no call on hold any more.
fn settle(now: Now, mut party: Party, name: &Identity, by: &Device) -> Party {
    if party.state == PartyState::Held && party.name.device() == *by {
        party.turn(now.wall, PartyState::Connected);
    }
    party.learn(name);
    party
}

/// What one call knew of itself is known of the merged call, unless that knows better.
fn take_over(call: &mut TrackedCall, other: &TrackedCall) {
    let current = call.id().clone();
    for id in &other.ids {
        call.rename(id);
    }
    call.rename(&current);
    if call.ucid.is_none() {
        call.adopt_ucid(other.ucid.clone());
    }
    for ucid in other.ucid.iter().chain(&other.former) {
        call.add_former(Some(ucid.clone()));
    }
    call.viewers.extend(other.viewers.iter().cloned());
    call.gone.extend(other.gone.iter().cloned());
    call.confirmed |= other.confirmed;
    call.waiting |= other.waiting;
    for (mine, theirs) in [(&mut call.vdn, &other.vdn), (&mut call.split, &other.split)] {
        if mine.is_none() {
            mine.clone_from(theirs);
        }
    }
    if call.userdata.is_none() {
        call.userdata.clone_from(&other.userdata);
    }
    if call.established.is_none() {
        (call.established, call.found) = (other.established, other.found);
        call.direction = other.direction;
    }
}

/// Only the consultation was seen: the call itself is known from what the switch told of it there,
/// or will be from what it tells next.
fn inherit_original(call: &mut TrackedCall, event: &CallEvent) {
    let original = event.facts.original.clone().or_else(|| call.original.clone());
    let original = original.unwrap_or_default();
    call.calling = original.calling;
    call.called = original.called;
    call.trunkgroup = original.trunkgroup.or_else(|| call.trunkgroup.take());
    call.trunkmember = original.trunkmember.or_else(|| call.trunkmember.take());
    call.originated = false;
    call.direction = None;
    call.add_former(original.ucid);
}
