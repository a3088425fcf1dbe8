//! What a recording's draft says of its call. The tracker knows the call; here it is put into the
//! form that is written down.

use storage_core::draft::{Draft, Presence, Resumed};
use storage_core::record::Direction;
use storage_core::{Extension, WallTime};

use super::event::{Device, PartyState};
use super::group::Book;
use super::party::{Party, PartyKind};
use super::recording::Active;
use super::tracked::TrackedCall;
use super::tracker::Tracker;

/// The station for which a call is recorded: the monitored one that has been in it longest; if
/// there is none (a trunk recording asked for by UCID), the station that serves the call.
pub(super) fn extension_of(call: &TrackedCall) -> Extension {
    let inside = call.talking().filter(|party| party.kind == PartyKind::Inside);
    let party = call.stations().min_by_key(|party| party.came).or_else(|| inside.last());
    party.and_then(|party| party.name.number.clone()).unwrap_or_else(|| Extension::new(""))
}

/// What a draft knows that a call found by a snapshot does not: numbers on both ends, and which of
/// them is outside.
pub(super) struct Known {
    pub calling: Device,
    pub called: Device,
    pub outside: Option<Extension>,
}

/// See [`Known`].
pub(super) fn known_of(draft: &Draft) -> Known {
    let far: &str = match draft.direction {
        Direction::Inbound => &draft.calling,
        Direction::Outbound => &draft.called,
        Direction::Internal => "",
    };
    let there = draft.parties.iter().any(|party| party.who == *far && party.stretch.to.is_none());
    let [calling, called] = [&draft.calling, &draft.called].map(|text| Device::parse(text));
    Known { calling, called, outside: there.then(|| Extension::new(far)) }
}

/// Brings a draft up to date with its call. What the call does not know (after a restart it knows
/// little) stays as it was.
pub(super) fn refresh(active: &mut Active, tracker: &Tracker, group: &Book, call: &TrackedCall) {
    let resumed = active.inherited.is_some();
    let draft = &mut active.draft;
    if group.is_of_another(call, draft) {
        draft.formerucids.extend(call.ucid.clone());
    }
    refresh_identity(draft, call);
    if draft.extension.as_str().is_empty() {
        draft.extension = extension_of(call);
    }
    if draft.agentid.is_empty() {
        tracker.agent(&draft.extension).clone_into(&mut draft.agentid);
    }
    let numbers = [
        (&mut draft.calling, call.calling_text()),
        (&mut draft.called, call.called_text()),
        (&mut draft.trunkgroup, call.trunkgroup.clone().unwrap_or_default()),
        (&mut draft.trunkmember, call.trunkmember.clone().unwrap_or_default()),
    ];
    for (mine, told) in numbers {
        if !told.is_empty() && (mine.is_empty() || !resumed) {
            *mine = told;
        }
    }
    if !resumed {
        draft.direction = call.direction(tracker.roster());
    }
    let places = [
        (&mut draft.vdn, call.vdn.as_ref().map(Extension::to_string)),
        (&mut draft.split, call.split.as_ref().map(Extension::to_string)),
        (&mut draft.userdata, call.userdata.clone()),
    ];
    for (mine, told) in places {
        if let Some(told) = told {
            *mine = told;
        }
    }
    let inherited = active.inherited.as_deref().unwrap_or_default();
    draft.parties = with_history(inherited, call.parties.presences());
}

/// The recording bears the call's identity, unless that has been another recording's: where the
/// consultation's survives a merge, the consultation's own recording bears it; and where another
/// node records what this call was merged with, that node's does. Both find it.
fn refresh_identity(draft: &mut Draft, call: &TrackedCall) {
    if let Some(ucid) = &call.ucid
        && draft.ucid.as_ref() != Some(ucid)
        && !draft.formerucids.contains(ucid)
    {
        let before = draft.ucid.replace(ucid.clone());
        draft.formerucids.extend(before.filter(|before| !draft.formerucids.contains(before)));
    }
    for ucid in &call.former {
        if !draft.formerucids.contains(ucid) {
            draft.formerucids.push(ucid.clone());
        }
    }
    let Draft { formerucids, ucid, .. } = draft;
    formerucids.retain(|former| Some(former) != ucid.as_ref());
    for id in &call.ids {
        if !draft.callids.iter().any(|known| known == id.as_str()) {
            draft.callids.push(id.to_string());
        }
    }
}

/// Everybody who is still there gets an end.
pub(super) fn close(mut parties: Vec<Presence>, at: WallTime) -> Vec<Presence> {
    for presence in &mut parties {
        presence.stretch.to.get_or_insert(at);
        for hold in &mut presence.holds {
            hold.to.get_or_insert(at);
        }
    }
    parties
}

/// A pause that goes on ends with its recording, or at its own time if that came before.
pub(super) fn end_pause(draft: &mut Draft, at: WallTime) {
    for pause in &mut draft.pauses {
        let timeout = pause.until < at;
        let why = if timeout { Resumed::Timeout } else { Resumed::End };
        pause.end(at.min(pause.until), why);
    }
}

/// After a restart a party that is found in the call was there all the time.
fn with_history(before: &[Presence], mut now: Vec<Presence>) -> Vec<Presence> {
    let mut history = Vec::new();
    let last_known = before.iter().map(|presence| presence.stretch.to).max().flatten();
    for old in before {
        let was_there = old.stretch.to == last_known;
        match now.iter_mut().find(|presence| was_there && presence.who == old.who) {
            Some(presence) => {
                presence.stretch.from = presence.stretch.from.min(old.stretch.from);
                presence.holds.splice(0..0, old.holds.iter().cloned());
            }
            None => history.push(old.clone()),
        }
    }
    history.extend(now);
    history
}

/// A party by which the switch can be asked about the call: talking rather than holding, of ours
/// rather than from outside.
pub(super) fn handle_of(call: &TrackedCall) -> Option<Extension> {
    let rank = |party: &&Party| (party.state != PartyState::Connected, party.kind, party.came);
    let party = call.talking().min_by_key(rank).or_else(|| call.parties.iter().next())?;
    // A trunk's connection is named by the trunk, not by the number at its far end.
    let who = match (&party.name.trunk, party.kind) {
        (Some((group, member)), PartyKind::Outside) => format!("T{group}#{member}"),
        _ => party.who(),
    };
    Some(Extension::new(who))
}
