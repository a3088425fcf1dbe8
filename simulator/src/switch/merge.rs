//! Two calls become one: transfer and conference; and the single-step transfer of one call.

use std::collections::BTreeMap;

use super::{
    Audience, Body, Call, CallId, ConnectionState, Device, Extension, Merge, MergedConnection,
    Number, Original, Party, Refusal, Serial, Switch,
};
use crate::config::Survivor;
use crate::time::Time;

/// Whether the one who merges stays.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Transfer,
    Conference,
}

impl Switch {
    /// Connects the held call with the active (or ringing) one and leaves.
    ///
    /// # Errors
    /// The station has not one of each, or there would be too many parties.
    pub fn transfer(
        &mut self,
        now: Time,
        station: &Extension,
        calls: Option<(CallId, CallId)>,
    ) -> Result<CallId, Refusal> {
        self.now = now;
        self.merge(station, calls, Kind::Transfer)
    }

    /// Makes one call out of the held and the active one, and stays.
    ///
    /// # Errors
    /// As `transfer`.
    pub fn conference(
        &mut self,
        now: Time,
        station: &Extension,
        calls: Option<(CallId, CallId)>,
    ) -> Result<CallId, Refusal> {
        self.now = now;
        self.merge(station, calls, Kind::Conference)
    }

    /// Sends the active call to another station and leaves at once.
    ///
    /// # Errors
    /// No active call, or the other station cannot ring.
    pub fn single_step_transfer(
        &mut self,
        now: Time,
        station: &Extension,
        call: Option<CallId>,
        to: &Extension,
    ) -> Result<CallId, Refusal> {
        self.now = now;
        let id = self.active_at(station, call)?;
        self.check_can_ring(to)?;
        let leaving = Device::Extension(station.clone());
        let call = self.call(id)?;
        let mut connections: Vec<_> = call
            .parties
            .iter()
            .filter(|party| party.device != leaving)
            .map(|party| connection(party, None))
            .collect();
        connections.push(MergedConnection {
            device: Device::Extension(to.clone()),
            number: Number(to.as_str().to_owned()),
            old: None,
            state: ConnectionState::Alerting,
        });
        let merge = Merge {
            by: station.clone(),
            primary: id,
            secondary: None,
            other: Number(to.as_str().to_owned()),
            connections,
            old_ucid: None,
            cause: "singleStepTransfer",
        };
        self.emit_leaving(id, Body::Transferred(merge), Some(&leaving));
        self.remove_party(id, &leaving);
        if let Some(call) = self.calls.get_mut(&id) {
            call.last_redirection = Some(station.clone());
        }
        self.ring(id, to, "singleStepTransfer");
        self.serve_queues();
        Ok(id)
    }

    fn merge(
        &mut self,
        station: &Extension,
        calls: Option<(CallId, CallId)>,
        kind: Kind,
    ) -> Result<CallId, Refusal> {
        let (held, active) = self.pair(station, calls)?;
        self.check_merge(station, held, active, kind)?;
        let (held_call, active_call) = (self.call(held)?.clone(), self.call(active)?.clone());
        let gone = (kind == Kind::Transfer).then(|| Device::Extension(station.clone()));
        let id = pick(self.switches.merge_call_id, held, active);
        let (stays, goes) = match self.switches.merge_ucid {
            Survivor::Held => (&held_call, &active_call),
            Survivor::Active => (&active_call, &held_call),
        };

        let mut merged = unite(&held_call, &active_call, (stays, goes), self.now);
        merged.id = id;
        merged.parties = parties_of(&held_call.parties, &active_call.parties, station, &gone);
        let original = match kind {
            Kind::Transfer => Original::Transfer,
            Kind::Conference => Original::Conference,
        };
        merged.original = self.original_of(held, original);

        let details = Merge {
            by: station.clone(),
            primary: held,
            secondary: Some(active),
            other: other_party(&active_call.parties, station),
            connections: connections_of(&merged.parties, &held_call.parties, held, active, id),
            old_ucid: Some(goes.ucid.clone()),
            cause: if kind == Kind::Transfer { "transfer" } else { "conference" },
        };
        self.replace_calls(&held_call.parties, &active_call.parties, (held, active), goes.serial);
        let audience = audience_of(&merged, &gone, (held_call.serial, active_call.serial));
        let facts = merged.facts();
        self.put_merged(merged);
        let body = match kind {
            Kind::Transfer => Body::Transferred(details),
            Kind::Conference => Body::Conferenced(details),
        };
        self.push_event(facts, body, audience);
        self.serve_queues();
        Ok(id)
    }

    /// The held and the other call of a station.
    fn pair(
        &self,
        station: &Extension,
        calls: Option<(CallId, CallId)>,
    ) -> Result<(CallId, CallId), Refusal> {
        let held = self.held_at(station, calls.map(|(held, _)| held))?;
        let active = self.active_at(station, calls.map(|(_, active)| active))?;
        Ok((held, active))
    }

    fn check_merge(
        &mut self,
        station: &Extension,
        held: CallId,
        active: CallId,
        kind: Kind,
    ) -> Result<(), Refusal> {
        let (first, second) = (self.call(held)?, self.call(active)?);
        let observes = |party: &Party| {
            party.device.extension().is_some_and(|own| self.observed_by(own).is_some())
        };
        let other = |party: &&Party| !party.device.is(station);
        // An observer of the station may be in both, and is one party afterwards.
        let again = |party: &&Party| !observes(party) || first.party(&party.device).is_none();
        let parties =
            || first.parties.iter().chain(second.parties.iter().filter(again)).filter(other);
        let staying = usize::from(kind == Kind::Conference);
        let all = parties().count() + staying;
        let people = parties().filter(|party| !party.recorder).count() + staying;
        // With an observer in it, a call of six is denied already.
        let observed = usize::from(parties().any(observes));
        let limit = self.max_parties - observed;
        if second.parties.iter().filter(|party| !party.recorder).count() < 2
            && second.queued_at.is_none()
        {
            return Err(Refusal::WrongState(format!("{station} (nobody to connect to)")));
        }
        let mut twice = first.parties.iter().filter(other).filter(|party| !observes(party));
        let twice = twice.find(|party| second.party(&party.device).is_some());
        if let Some(party) = twice {
            return Err(Refusal::WrongState(party.number.0.clone()));
        }
        if all > limit {
            if people <= limit {
                self.party_limit_refusals += 1;
            }
            return Err(Refusal::PartyLimit(limit));
        }
        Ok(())
    }

    /// Takes both old calls off the books; the interaction that goes is history.
    fn replace_calls(
        &mut self,
        held: &[Party],
        active: &[Party],
        ids: (CallId, CallId),
        goes: Serial,
    ) {
        for (parties, id) in [(held, ids.0), (active, ids.1)] {
            for extension in parties.iter().filter_map(|party| party.device.extension()) {
                self.forget_at(extension, id);
            }
        }
        let (id, other) = if self.calls.get(&ids.0).is_some_and(|call| call.serial == goes) {
            ids
        } else {
            (ids.1, ids.0)
        };
        let survivor = self.calls.remove(&other).map(|call| call.serial);
        let outside = self.outside_of.get(&goes).cloned();
        self.finish(id, survivor);
        if let (Some(outside), Some(survivor)) = (outside, survivor) {
            self.outside_of.entry(survivor).or_insert(outside);
        }
    }

    fn put_merged(&mut self, merged: Call) {
        for extension in merged.parties.iter().filter_map(|party| party.device.extension()) {
            self.calls_at.entry(extension.clone()).or_default().push(merged.id);
        }
        self.by_serial.insert(merged.serial, merged.id);
        self.calls.insert(merged.id, merged);
    }
}

/// The facts of the resulting call: the interaction that stays gives name and clock, the held call
/// says who called whom, the active one where the call was sent last. Parties are set elsewhere.
fn unite(held: &Call, active: &Call, (stays, goes): (&Call, &Call), now: Time) -> Call {
    let mut merged = stays.clone();
    merged.former_ucids.push(goes.ucid.clone());
    merged.former_ucids.extend(goes.former_ucids.iter().cloned());
    merged.via.extend(goes.via.iter().map(|(group, entry)| (group.clone(), *entry)));
    merged.answered_by.extend(goes.answered_by.iter().cloned());
    merged.calling = held.calling.clone();
    merged.called = held.called.clone();
    merged.direction = held.direction;
    merged.user_data = held.user_data.clone();
    merged.vdn = active.vdn.clone().or_else(|| held.vdn.clone());
    merged.skill = active.skill.clone().or_else(|| held.skill.clone());
    merged.queued_at = active.queued_at.clone();
    if merged.established.is_none() && goes.established.is_some() {
        // The one that stays only rang so far; the talk begins for it now.
        merged.established = Some(now);
    }
    merged
}

fn pick(survivor: Survivor, held: CallId, active: CallId) -> CallId {
    match survivor {
        Survivor::Held => held,
        Survivor::Active => active,
    }
}

/// Everybody of both calls once; the one who merges is connected, or gone.
fn parties_of(
    held: &[Party],
    active: &[Party],
    station: &Extension,
    gone: &Option<Device>,
) -> Vec<Party> {
    let mut parties: Vec<Party> = held.to_vec();
    let known = |party: &&Party| !held.iter().any(|other| other.device == party.device);
    parties.extend(active.iter().filter(known).cloned());
    parties.retain(|party| Some(&party.device) != gone.as_ref());
    if let Some(party) = parties.iter_mut().find(|party| party.device.is(station)) {
        party.state = ConnectionState::Connected;
    }
    parties
}

/// The consulted party: the first person in the active call who is not the one who merges.
fn other_party(active: &[Party], station: &Extension) -> Number {
    active
        .iter()
        .find(|party| !party.recorder && !party.device.is(station))
        .map_or_else(|| Number(String::new()), |party| party.number.clone())
}

fn connections_of(
    merged: &[Party],
    held_parties: &[Party],
    held: CallId,
    active: CallId,
    id: CallId,
) -> Vec<MergedConnection> {
    merged
        .iter()
        .map(|party| {
            let was_held = held_parties.iter().any(|other| other.device == party.device);
            let old = if was_held { held } else { active };
            connection(party, (old != id).then_some(old))
        })
        .collect()
}

fn connection(party: &Party, old: Option<CallId>) -> MergedConnection {
    MergedConnection {
        device: party.device.clone(),
        number: party.number.clone(),
        old,
        state: party.state,
    }
}

/// All who were in either call.
fn audience_of(merged: &Call, gone: &Option<Device>, serials: (Serial, Serial)) -> Audience {
    let mut stations: BTreeMap<_, _> = merged
        .parties
        .iter()
        .filter_map(|party| Some((party.device.extension()?.clone(), Some(party.state))))
        .collect();
    if let Some(extension) = gone.as_ref().and_then(Device::extension) {
        stations.insert(extension.clone(), None);
    }
    Audience { stations, via: merged.via.clone(), serials: vec![serials.0, serials.1] }
}
