//! After a loss of the link: which calls are still up, which are new, which are over. Snapshots are
//! right about who is in a call; a call that neither a snapshot nor an event names any more is over.

use storage_core::{Extension, Now};

use super::event::{CallSnapshot, PartyState};
use super::party::{Identity, Parties, Party, PartyKind};
use super::tracked::{CallKey, TrackedCall};
use super::tracker::{CallEnd, Start, Tracker};

impl Tracker {
    /// The link is in doubt: from now on a call counts as up only when it is heard of again.
    pub fn begin_resync(&mut self) {
        for call in self.calls.values_mut() {
            call.confirmed = false;
        }
    }

    /// Takes a snapshot of one call, during a resync or because of a doubt.
    pub fn handle_snapshot(&mut self, now: Now, snapshot: &CallSnapshot) {
        if snapshot.parties.is_empty() {
            return self.handle_unknown(now, &snapshot.call);
        }
        // A call that is up is not over, whatever was concluded from events.
        self.buried.remove(&snapshot.call);
        self.replace_if_reused(now, snapshot);
        self.follow_identity(now, snapshot);
        let (id, facts) = (&snapshot.call, &snapshot.facts);
        let Some(key) = self.locate(now, id, facts, Start::Begin) else { return };
        self.with_phantoms_noted(key, |tracker| tracker.copy(now, key, snapshot));
        self.conclude(now, key);
    }

    /// Ends every call that has not been heard of since [`Self::begin_resync`], but for those with
    /// a party that could not be asked: when in doubt, a call goes on.
    pub fn end_resync(&mut self, now: Now, unseen: &[Extension]) {
        for call in self.calls.values_mut() {
            call.confirmed |=
                call.parties.iter().any(|party| unseen.iter().any(|number| party.is(number)));
        }
        let lost: Vec<CallKey> =
            self.calls.values().filter(|call| !call.confirmed).map(|call| call.key).collect();
        for key in lost {
            self.end(now, key, CallEnd::Unknown);
        }
    }

    /// Without a UCID only the parties can tell that a number was reused while nobody looked.
    fn replace_if_reused(&mut self, now: Now, snapshot: &CallSnapshot) {
        let Some(call) = self.by_id(&snapshot.call) else { return };
        let known = call.ucid.is_some() && snapshot.facts.ucid.is_some();
        if !known && !call.confirmed && !overlaps(call, snapshot) {
            let key = call.key;
            self.end(now, key, CallEnd::Replaced);
        }
    }

    /// A call that has got another number while nobody looked (a transfer may do that) is known by
    /// its identity. Whatever had that number before has become part of it, or is over.
    fn follow_identity(&mut self, now: Now, snapshot: &CallSnapshot) {
        let (id, Some(ucid)) = (&snapshot.call, &snapshot.facts.ucid) else { return };
        let there = self.by_id(id).map(|call| (call.key, call.is(ucid)));
        let mut others = self.calls.values().filter(|call| !call.confirmed && call.id() != id);
        let known = others.find(|call| call.ucid.as_ref() == Some(ucid)).map(|call| call.key);
        let (Some(key), None | Some((_, false))) = (known, there) else { return };
        if let Some((before, _)) = there {
            self.end(now, before, CallEnd::Replaced);
        }
        if let Some(call) = self.calls.get_mut(&key) {
            self.by_id.remove(call.id());
            call.rename(id);
            self.by_id.insert(id.clone(), key);
        }
    }

    fn copy(&mut self, now: Now, key: CallKey, snapshot: &CallSnapshot) {
        let roster = &self.roster;
        let Some(call) = self.calls.get_mut(&key) else { return };
        call.confirmed = true;
        call.viewers.insert(snapshot.monitor.clone());
        call.learn(&snapshot.facts);
        call.caller_known = true;
        let mut before = std::mem::take(&mut call.parties);
        let mut after = Parties::default();
        let told = std::mem::replace(&mut call.told, now.wall);
        for (device, state) in &snapshot.parties {
            let kind = roster.kind(device);
            if kind == PartyKind::Queue || *state == PartyState::Queued {
                call.waiting = true;
                continue;
            }
            let name = Identity::of(&[device]);
            let party = before.take(&name, kind);
            after.put(party.map_or_else(
                || Party::new(now.wall, name.clone(), kind, *state),
                |party| party.seen_as(now.wall, told, &name, *state),
            ));
        }
        before.end_holds(told);
        before.leave_all(now.wall, |_| true);
        after.inherit(before);
        call.parties = after;
        call.forget_absent_viewers();
        if call.talking().count() >= 2 {
            call.found |= call.established.is_none();
            call.establish(now, roster);
        }
    }
}

fn overlaps(call: &TrackedCall, snapshot: &CallSnapshot) -> bool {
    let named = |device| Identity::of(&[device]);
    call.parties
        .iter()
        .any(|party| snapshot.parties.iter().any(|(device, _)| party.name.shares(&named(device))))
}
