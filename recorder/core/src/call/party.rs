//! The parties of one call: who is in it, since when, and who was. It knows that one outside party
//! may go by its number in one event and by its trunk in the next; it does not know events.

use storage_core::draft::{Presence, Stretch};
use storage_core::{Extension, WallTime};

use super::event::{Device, PartyState};
use super::roster::Roster;

/// Presences kept of parties that have left; more says nothing to anybody.
const PAST_MAX: usize = 256;
/// Holds kept per party.
const HOLDS_MAX: usize = 256;

/// What a device in a call is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PartyKind {
    /// A station whose calls are recorded.
    Station,
    /// Another station of the switch.
    Inside,
    /// An outside number or a trunk.
    Outside,
    /// One of our phantoms.
    Phantom,
    /// Another node's phantom.
    PeerPhantom,
    /// A VDN or skill: a place where calls wait, not somebody who talks.
    Queue,
}

/// Group and member of a trunk.
pub type Trunk = (String, String);

/// The names under which an event means one device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Its number.
    pub number: Option<Extension>,
    /// Its trunk.
    pub trunk: Option<Trunk>,
}

impl Identity {
    /// The names that these devices of one event give to the same party; earlier ones win.
    #[must_use]
    pub fn of(devices: &[&Device]) -> Self {
        let mut identity = Self::default();
        for device in devices {
            match device {
                Device::Number(number) => {
                    identity.number.get_or_insert_with(|| number.clone());
                }
                Device::Trunk { group, member } => {
                    identity.trunk.get_or_insert_with(|| (group.clone(), member.clone()));
                }
                Device::Unknown => {}
            }
        }
        identity
    }

    /// Whether both have a number or a trunk in common.
    #[must_use]
    pub fn shares(&self, other: &Self) -> bool {
        (self.number.is_some() && self.number == other.number)
            || (self.trunk.is_some() && self.trunk == other.trunk)
    }

    /// The device, by number if it has one.
    #[must_use]
    pub fn device(&self) -> Device {
        match (&self.number, &self.trunk) {
            (Some(number), _) => Device::Number(number.clone()),
            (None, Some((group, member))) => {
                Device::Trunk { group: group.clone(), member: member.clone() }
            }
            (None, None) => Device::Unknown,
        }
    }
}

/// Somebody in a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// What it is called.
    pub name: Identity,
    /// What it is to us.
    pub kind: PartyKind,
    /// What its connection does.
    pub state: PartyState,
    /// When it was first connected; `None` while it only rings.
    pub came: Option<WallTime>,
    /// Since when it was in this call, where it was in another one before.
    pub joined: Option<WallTime>,
    /// When it had this call on hold.
    pub holds: Vec<Stretch>,
}

impl Party {
    /// A party that appears now.
    #[must_use]
    pub fn new(at: WallTime, name: Identity, kind: PartyKind, state: PartyState) -> Self {
        let (came, joined, holds) = (None, None, Vec::new());
        let mut party = Self { name, kind, state: PartyState::Initiated, came, joined, holds };
        party.turn(at, state);
        party
    }

    /// How people and the switch write it: its number, else its trunk, else `unknown`.
    #[must_use]
    pub fn who(&self) -> String {
        match self.name.device() {
            Device::Number(number) => number.to_string(),
            Device::Trunk { group, member } => format!("T{group}#{member}"),
            Device::Unknown => "unknown".to_owned(),
        }
    }

    /// Whether this is a person or a machine that a person talks to; recorders and queues are not.
    #[must_use]
    pub const fn is_real(&self) -> bool {
        matches!(self.kind, PartyKind::Station | PartyKind::Inside | PartyKind::Outside)
            && !matches!(self.state, PartyState::Failed)
    }

    /// Whether this is a recorder, ours or a peer's.
    #[must_use]
    pub const fn is_recorder(&self) -> bool {
        matches!(self.kind, PartyKind::Phantom | PartyKind::PeerPhantom)
    }

    /// Whether it talks, or could after retrieving the call.
    #[must_use]
    pub const fn is_in_call(&self) -> bool {
        matches!(self.state, PartyState::Connected | PartyState::Held)
    }

    /// Whether this party goes by that number.
    #[must_use]
    pub fn is(&self, number: &Extension) -> bool {
        self.name.number.as_ref() == Some(number)
    }

    /// Gives it a state, and keeps the times that go with it.
    pub fn turn(&mut self, at: WallTime, state: PartyState) {
        match (self.state, state) {
            (PartyState::Held, PartyState::Held) => {}
            (_, PartyState::Held) if self.holds.len() < HOLDS_MAX => {
                self.holds.push(Stretch { from: at, to: None });
            }
            (PartyState::Held, _) => self.end_hold(at),
            _ => {}
        }
        self.state = state;
        if self.is_in_call() {
            self.came.get_or_insert(at);
        }
    }

    /// Its presence up to now; `None` if it never was in the call.
    #[must_use]
    pub fn presence(&self) -> Option<Presence> {
        let stretch = Stretch { from: self.joined.max(Some(self.came?))?, to: None };
        Some(Presence { who: self.who(), stretch, holds: self.holds.clone() })
    }

    /// One that was begun by taking the call over, or of which nothing is known, was none.
    fn end_hold(&mut self, at: WallTime) {
        for hold in &mut self.holds {
            hold.to.get_or_insert(at.max(hold.from));
        }
        self.holds.retain(|hold| hold.to != Some(hold.from));
    }

    /// It comes over into another call. When it had the one before on hold says nothing of that.
    fn come_over(&mut self, at: WallTime) {
        self.joined = Some(at);
        self.holds.clear();
        if self.state == PartyState::Held {
            self.holds.push(Stretch { from: at, to: None });
        }
    }

    fn fits(&self, name: &Identity) -> bool {
        let agree = |a: bool, b: bool, same: bool| !(a && b) || same;
        agree(self.name.number.is_some(), name.number.is_some(), self.name.number == name.number)
            && agree(self.name.trunk.is_some(), name.trunk.is_some(), self.name.trunk == name.trunk)
    }

    /// What two calls knew of one party, once they are one call.
    #[must_use]
    pub fn unite(mut self, other: Self) -> Self {
        self.learn(&other.name);
        self.joined = match (self.joined, other.joined) {
            (None, None) => None,
            (Some(one), Some(two)) => Some(one.min(two)),
            // It was here before the other call became part of this one.
            (None, joined) => self.came.or(joined),
            (joined, None) => other.came.or(joined),
        };
        self.came = [self.came, other.came].into_iter().flatten().min();
        self.holds.extend(other.holds);
        self.holds.sort_by_key(|hold| hold.from);
        self.holds.truncate(HOLDS_MAX);
        if other.state == PartyState::Held {
            self.state = PartyState::Held;
        }
        self
    }

    /// The party as a snapshot shows it: unlike an event, a snapshot is right about holds too. When a hold ended
    /// meanwhile it does not tell; the hold is known to have lasted until the call was last `told` of.
    #[must_use]
    pub fn seen_as(
        mut self,
        at: WallTime,
        told: WallTime,
        name: &Identity,
        state: PartyState,
    ) -> Self {
        self.learn(name);
        if state != self.state {
            self.end_hold(told);
            self.turn(at, state);
        }
        self
    }

    /// Takes over names that were not known.
    pub fn learn(&mut self, name: &Identity) {
        if self.name.number.is_none() {
            self.name.number.clone_from(&name.number);
        }
        if self.name.trunk.is_none() {
            self.name.trunk.clone_from(&name.trunk);
        }
    }
}

/// What came of a party's leaving.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// It is out; by all the names it had.
    Left(Identity),
    /// It was not in.
    NotThere,
    /// Several parties could be meant.
    Unclear,
}

/// All parties of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parties {
    present: Vec<Party>,
    past: Vec<Presence>,
}

impl Parties {
    /// Puts a party in, or brings one that is there up to date. A late or repeated report never
    /// sets a party back: who talks does not ring again, and only `Retrieved` ends a hold.
    pub fn arrive(&mut self, at: WallTime, name: &Identity, kind: PartyKind, state: PartyState) {
        let Some(index) = self.find(name, kind) else {
            self.present.push(Party::new(at, name.clone(), kind, state));
            return;
        };
        let party = &mut self.present[index];
        party.learn(name);
        if !(party.is_in_call() && state != PartyState::Held) {
            party.turn(at, state);
        }
    }

    /// The lists of numbers have changed: who turns out to be a recorder is none of the people.
    pub fn reclassify(&mut self, roster: &Roster) {
        for party in &mut self.present {
            let kind = roster.kind(&party.name.device());
            if kind == PartyKind::PeerPhantom {
                party.kind = kind;
            }
        }
    }

    /// The calls of this station are recorded from now on: whoever it is to us in a call that is up.
    pub fn make_station(&mut self, number: &Extension) -> bool {
        let of = |party: &&mut Party| {
            party.is(number) && matches!(party.kind, PartyKind::Inside | PartyKind::Outside)
        };
        let Some(party) = self.present.iter_mut().find(of) else { return false };
        party.kind = PartyKind::Station;
        true
    }

    /// Ends a party's hold.
    pub fn retrieve(&mut self, at: WallTime, name: &Identity, kind: PartyKind) {
        self.arrive(at, name, kind, PartyState::Connected);
        if let Some(index) = self.find(name, kind) {
            self.present[index].turn(at, PartyState::Connected);
        }
    }

    /// Marks a party whose connection could not be made.
    pub fn fail(&mut self, at: WallTime, name: &Identity, kind: PartyKind) {
        if let Some(index) = self.find(name, kind)
            && !self.present[index].is_in_call()
        {
            self.present[index].turn(at, PartyState::Failed);
        }
    }

    /// Takes a party out, and says who it was.
    pub fn leave(&mut self, at: WallTime, name: &Identity, kind: PartyKind) -> Leaving {
        match self.find(name, kind) {
            Some(index) => Leaving::Left(self.remove(at, index)),
            None if kind == PartyKind::Outside && self.outside().any(|p| p.fits(name)) => {
                Leaving::Unclear
            }
            None => Leaving::NotThere,
        }
    }

    /// Everybody comes over into another call.
    pub fn come_over(&mut self, at: WallTime) {
        self.present.iter_mut().for_each(|party| party.come_over(at));
        self.past.iter_mut().for_each(|presence| presence.holds.clear());
    }

    /// Nobody told how holds ended: they are known to have lasted until then.
    pub fn end_holds(&mut self, told: WallTime) {
        self.present.iter_mut().for_each(|party| party.end_hold(told));
    }

    /// Takes all parties out for which `gone` says so.
    pub fn leave_all(&mut self, at: WallTime, gone: impl Fn(&Party) -> bool) {
        while let Some(index) = self.present.iter().position(&gone) {
            self.remove(at, index);
        }
    }

    /// Puts a party in as it is, with its history.
    pub fn put(&mut self, party: Party) {
        self.present.push(party);
    }

    /// Takes a party out of here to put it elsewhere: its history goes with it.
    pub fn take(&mut self, name: &Identity, kind: PartyKind) -> Option<Party> {
        self.find(name, kind).map(|index| self.present.remove(index))
    }

    /// Takes anybody out to put them elsewhere.
    pub fn pop(&mut self) -> Option<Party> {
        self.present.pop()
    }

    /// Adds what another call's parties did before it became part of this one.
    pub fn inherit(&mut self, other: Self) {
        self.past.extend(other.past);
        self.past.sort_by_key(|presence| presence.stretch.from);
        self.bound_past();
    }

    /// The party with these names.
    #[must_use]
    pub fn get(&self, name: &Identity, kind: PartyKind) -> Option<&Party> {
        self.find(name, kind).map(|index| &self.present[index])
    }

    /// Who is there.
    pub fn iter(&self) -> impl Iterator<Item = &Party> {
        self.present.iter()
    }

    /// Everybody who is or was in the call, without recorders and queues, in order of coming.
    #[must_use]
    pub fn presences(&self) -> Vec<Presence> {
        let present = self.present.iter().filter(|party| party.is_real());
        let mut all: Vec<_> =
            self.past.iter().cloned().chain(present.filter_map(Party::presence)).collect();
        all.sort_by(|a, b| (a.stretch.from, &a.who).cmp(&(b.stretch.from, &b.who)));
        all
    }

    /// An outside party may be named differently from event to event, so where no name fits
    /// exactly, the one outside party that contradicts nothing is meant. Where several could be
    /// meant, none is.
    fn find(&self, name: &Identity, kind: PartyKind) -> Option<usize> {
        let number = name.number.as_ref();
        let exact = |party: &Party| {
            (number.is_some() && party.name.number.as_ref() == number)
                || (number.is_none()
                    && name.trunk.is_some()
                    && party.name.trunk.as_ref() == name.trunk.as_ref())
        };
        if let Some(index) = self.present.iter().position(exact) {
            return Some(index);
        }
        if kind != PartyKind::Outside {
            return None;
        }
        let outside = |party: &Party| party.kind == PartyKind::Outside && party.fits(name);
        let mut fitting = self.present.iter().enumerate().filter(|(_, party)| outside(party));
        match (fitting.next(), fitting.next()) {
            (Some((index, _)), None) => Some(index),
            _ => None,
        }
    }

    fn outside(&self) -> impl Iterator<Item = &Party> {
        self.present.iter().filter(|party| party.kind == PartyKind::Outside)
    }

    fn remove(&mut self, at: WallTime, index: usize) -> Identity {
        let mut party = self.present.remove(index);
        party.end_hold(at);
        if !party.is_recorder()
            && party.kind != PartyKind::Queue
            && let Some(mut presence) = party.presence()
        {
            presence.stretch.to = Some(at);
            self.past.push(presence);
            self.bound_past();
        }
        party.name
    }

    fn bound_past(&mut self) {
        let surplus = self.past.len().saturating_sub(PAST_MAX);
        self.past.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Identity {
        Identity::of(&[&Device::parse(text)])
    }

    fn at(millis: i64) -> WallTime {
        WallTime::from_millis(millis)
    }

    #[test]
    fn one_outside_party_goes_by_number_and_by_trunk() {
        let mut parties = Parties::default();
        let out = PartyKind::Outside;
        parties.arrive(at(0), &name("5551230001"), out, PartyState::Connected);
        parties.arrive(at(1), &name("T12#3"), out, PartyState::Connected);
        assert_eq!(parties.iter().count(), 1);
        let left = parties.leave(at(5), &name("T12#3"), out);
        assert!(matches!(left, Leaving::Left(name) if name.number.is_some()));
        let past = parties.presences();
        assert_eq!(past[0].who, "5551230001");
        assert_eq!(past[0].stretch, Stretch { from: at(0), to: Some(at(5)) });
    }

    #[test]
    fn who_is_meant_must_be_clear() {
        let mut parties = Parties::default();
        let out = PartyKind::Outside;
        parties.put(Party::new(at(0), name("5551230001"), out, PartyState::Connected));
        parties.put(Party::new(at(0), name("5551230002"), out, PartyState::Connected));
        assert_eq!(parties.leave(at(5), &name("T12#3"), out), Leaving::Unclear);
        assert_eq!(parties.leave(at(5), &name("5551230003"), out), Leaving::NotThere);
        assert_eq!(parties.leave(at(5), &name("31002"), PartyKind::Station), Leaving::NotThere);
        assert!(matches!(parties.leave(at(5), &name("5551230002"), out), Leaving::Left(_)));
        assert!(matches!(parties.leave(at(5), &name("T12#3"), out), Leaving::Left(_)));
    }

    #[test]
    fn late_reports_do_not_set_a_party_back() {
        let mut parties = Parties::default();
        let (who, kind) = (name("31002"), PartyKind::Station);
        let steps = [
            (PartyState::Alerting, PartyState::Alerting),
            (PartyState::Connected, PartyState::Connected),
            (PartyState::Alerting, PartyState::Connected),
            (PartyState::Held, PartyState::Held),
            (PartyState::Connected, PartyState::Held),
        ];
        for (number, (told, is)) in steps.into_iter().enumerate() {
            parties.arrive(at(number as i64), &who, kind, told);
            assert_eq!(parties.get(&who, kind).unwrap().state, is, "step {number}");
        }
        parties.retrieve(at(9), &who, kind);
        let party = parties.get(&who, kind).unwrap();
        assert_eq!(party.came, Some(at(1)));
        assert_eq!(party.holds, [Stretch { from: at(3), to: Some(at(9)) }]);
    }
}
