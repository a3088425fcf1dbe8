//! One event at work on one call: who comes, who goes, who holds. Which call it is, and what becomes
//! of a call that nobody is left in, is the tracker's matter.

use std::time::Duration;

use storage_core::Now;

use super::event::{CallChange, CallEvent, Device, Monitor, PartyState};
use super::party::{Identity, Leaving, PartyKind};
use super::roster::Roster;
use super::tracked::TrackedCall;

/// An `Established` of a party that another monitor saw leave this recently is that monitor's
/// late report, not a return.
const LATE: Duration = Duration::from_millis(300);

/// One event at work on one call.
pub(super) struct Scene<'a> {
    pub now: Now,
    pub call: &'a mut TrackedCall,
    pub roster: &'a Roster,
    pub event: &'a CallEvent,
}

/// Whether the parties are known for certain afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clarity {
    Clear,
    /// Somebody left, and several parties could be meant.
    Doubtful,
}

impl Scene<'_> {
    /// Applies what happened.
    pub fn play(&mut self, change: &CallChange) -> Clarity {
        match change {
            CallChange::ServiceInitiated(connection) => self.dial(&connection.device, false),
            CallChange::Originated(connection) => self.dial(&connection.device, true),
            CallChange::NetworkReached(connection) => self.reach_network(&connection.device),
            CallChange::Delivered { connection, alerting } => {
                self.deliver(&connection.device, alerting);
            }
            CallChange::Established { connection, answering } => {
                self.answer(&connection.device, answering);
            }
            CallChange::Held(connection) => self.arrive(&[&connection.device], PartyState::Held),
            CallChange::Retrieved(connection) => self.retrieve(&connection.device),
            CallChange::Queued { queue, .. } => self.queue(queue),
            CallChange::Failed(connection) => self.fail(&connection.device),
            CallChange::Diverted { connection, to } => self.divert(&connection.device, to),
            CallChange::ConnectionCleared { connection, releasing } => {
                return self.clear(&connection.device, releasing);
            }
            // These speak of whole calls; the tracker has handled them.
            CallChange::Conferenced(_)
            | CallChange::Transferred(_)
            | CallChange::CallCleared(_) => {}
        }
        Clarity::Clear
    }

    fn dial(&mut self, device: &Device, dialled: bool) {
        self.call.originated = true;
        self.call.caller_known = true;
        let state = if dialled { PartyState::Connected } else { PartyState::Initiated };
        self.arrive(&[device], state);
    }

    fn reach_network(&mut self, device: &Device) {
        let called = self.event.facts.called.clone();
        let outside = called.filter(|called| self.roster.kind(called) == PartyKind::Outside);
        let name = Identity::of(&[device, outside.as_ref().unwrap_or(&Device::Unknown)]);
        let wall = self.now.wall;
        self.call.parties.arrive(wall, &name, PartyKind::Outside, PartyState::Alerting);
        if self.call.established.is_none() {
            self.call.network = Some(self.now.mono);
        }
    }

    fn deliver(&mut self, device: &Device, alerting: &Device) {
        self.call.network = None;
        if self.kind(alerting) == PartyKind::Queue {
            self.call.waiting = true;
        } else {
            self.arrive(&[alerting, device], PartyState::Alerting);
        }
        self.add_caller();
    }

    fn answer(&mut self, device: &Device, answering: &Device) {
        let name = Identity::of(&[answering, device]);
        let kind = self.kind(&name.device());
        let recorder = matches!(kind, PartyKind::Phantom | PartyKind::PeerPhantom);
        if kind == PartyKind::Queue || (!recorder && self.is_late(&name)) {
            return;
        }
        self.arrive(&[answering, device], PartyState::Connected);
        if recorder {
            if let (PartyKind::Phantom, Some(number)) = (kind, &name.number) {
                // Its own monitor tells of the call from now on (dossier 7.6).
                self.call.viewers.insert(Monitor::Phantom(number.clone()));
            }
            return;
        }
        self.add_caller();
        self.call.network = None;
        self.call.silence_others(self.now, &name);
        self.call.establish(self.now, self.roster);
    }

    fn retrieve(&mut self, device: &Device) {
        let name = Identity::of(&[device]);
        let kind = self.kind(device);
        self.call.parties.retrieve(self.now.wall, &name, kind);
    }

    /// A queue that no list names still is one: a number that seemed to ring is taken out again.
    fn queue(&mut self, queue: &Device) {
        self.call.waiting = true;
        if self.call.split.is_none() {
            self.call.split = queue.number().cloned();
        }
        let places = [self.call.called.clone(), Some(queue.clone())];
        self.call.parties.leave_all(self.now.wall, |party| {
            party.kind == PartyKind::Inside
                && party.state == PartyState::Alerting
                && places.contains(&Some(party.name.device()))
        });
        self.add_caller();
    }

    fn fail(&mut self, device: &Device) {
        let kind = self.kind(device);
        self.call.parties.fail(self.now.wall, &Identity::of(&[device]), kind);
        self.end_view_of(device);
    }

    fn divert(&mut self, device: &Device, to: &Device) {
        self.call.waiting |= self.roster.kind(to) == PartyKind::Queue;
        self.leave(device);
    }

    fn clear(&mut self, dropped: &Device, releasing: &Device) -> Clarity {
        let device = if *dropped == Device::Unknown { releasing } else { dropped };
        match self.leave(device) {
            Leaving::Left(name) => self.call.remember_gone(self.now, name, &self.event.monitor),
            Leaving::NotThere => {}
            Leaving::Unclear => return Clarity::Doubtful,
        }
        Clarity::Clear
    }

    fn leave(&mut self, device: &Device) -> Leaving {
        self.end_view_of(device);
        let name = Identity::of(&[device]);
        let kind = self.kind(device);
        let there = self.call.parties.iter().any(|party| party.name.shares(&name));
        if !there && self.call.has_left(&name) {
            // The second monitor's report; the other outside party must not go for it.
            return Leaving::NotThere;
        }
        self.call.parties.leave(self.now.wall, &name, kind)
    }

    fn arrive(&mut self, devices: &[&Device], state: PartyState) {
        let name = Identity::of(devices);
        let kind = self.kind(&name.device());
        if kind != PartyKind::Queue {
            self.call.parties.arrive(self.now.wall, &name, kind, state);
        }
    }

    /// Puts the caller in, once: later events go on naming a caller who may have left.
    fn add_caller(&mut self) {
        let trunk = self.call.trunk();
        let calling = self.call.calling.clone().unwrap_or(Device::Unknown);
        let mut kind = self.kind(&calling);
        let comes_in = trunk.is_some() && !self.call.originated;
        if kind == PartyKind::Inside && comes_in {
            // An extension of another switch, which a trunk connects with ours.
            kind = PartyKind::Outside;
        }
        let mut name = Identity::of(&[&calling]);
        if kind == PartyKind::Outside && comes_in {
            name.trunk = name.trunk.or(trunk);
        }
        let known = std::mem::replace(&mut self.call.caller_known, true);
        let real = matches!(kind, PartyKind::Station | PartyKind::Inside | PartyKind::Outside);
        if real && !known {
            self.call.parties.arrive(self.now.wall, &name, kind, PartyState::Connected);
        }
    }

    /// A VDN that only this call's own data names is a queue as well.
    fn kind(&self, device: &Device) -> PartyKind {
        let kind = self.roster.kind(device);
        let number = device.number();
        let place = number.is_some() && (number == self.call.vdn.as_ref());
        if kind == PartyKind::Inside && place { PartyKind::Queue } else { kind }
    }

    fn is_late(&self, name: &Identity) -> bool {
        self.call.gone.iter().any(|gone| {
            gone.name.shares(name)
                && gone.told_by != self.event.monitor
                && self.now.mono.since(gone.at) < LATE
        })
    }

    /// What a device's own monitor sees of the call ends when the device leaves it.
    fn end_view_of(&mut self, device: &Device) {
        if let Some(number) = device.number() {
            self.call.viewers.remove(&Monitor::Station(number.clone()));
            self.call.viewers.remove(&Monitor::Phantom(number.clone()));
        }
    }
}
