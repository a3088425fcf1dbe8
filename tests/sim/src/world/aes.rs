//! What an AES does for a node: sessions, registrations, and requests to the switch, with what may go
//! wrong with each. The switch itself is [`crate::switch`].

use recorder_core::call::JoinRefusal;
use recorder_core::call::event::{Device, Monitor};
use recorder_core::call::order::Ticket;
use storage_core::{CallId, Extension, NodeId};

use super::{Event, World};
use crate::host::{Host, Input};
use crate::switch::{Switch, Who};
use crate::{MS, SECOND};

impl World {
    pub(super) fn join(
        &mut self,
        node: NodeId,
        ticket: Ticket,
        id: &CallId,
        party: &Device,
        phantom: &Extension,
    ) {
        let uid = self.switch.by_id(id).map(|call| call.uid);
        let odds = self.odds;
        if self.rng.chance(odds.lost) {
            self.trace(format!("switch: loses the request of {phantom}"));
            return self.excuse(uid, node, 12 * SECOND);
        }
        if self.rng.chance(odds.refused) || !self.hosts[&node].aes.registered {
            self.trace(format!("switch: refuses {phantom}"));
            self.excuse(uid, node, 8 * SECOND);
            let why = JoinRefusal::Other("no".to_owned());
            return self.answer(node, Input::Refused(ticket, why));
        }
        let deaf = self.rng.chance(odds.deaf);
        match self.switch.join(id, party, phantom, node, deaf) {
            Ok(uid) => {
                self.trace(format!(
                    "switch: {phantom} is in call {uid}{}",
                    if deaf { ", deaf" } else { "" }
                ));
                self.tell_all();
                if self.rng.chance(odds.lost) {
                    self.trace(format!("switch: loses the answer to {phantom}"));
                } else {
                    self.answer(node, Input::Joined(ticket));
                }
                if deaf {
                    self.excuse(Some(uid), node, 12 * SECOND);
                } else {
                    self.later(8 * MS, 45 * MS, Event::Media(phantom.clone()));
                }
            }
            Err(why) => {
                self.trace(format!("switch: refuses {phantom}: {why:?}"));
                self.excuse(uid, node, 8 * SECOND);
                self.answer(node, Input::Refused(ticket, why));
            }
        }
    }

    /// Whether the request to take a phantom out of its call comes to nothing: never three times in a
    /// row, because the bound within which a call must be left knows of two repetitions.
    pub(super) fn loses_removal(&mut self, phantom: &Extension) -> bool {
        let lost = self.removals_lost.entry(phantom.clone()).or_default();
        *lost = if *lost < 2 && self.rng.chance(self.odds.lost) { *lost + 1 } else { 0 };
        *lost > 0
    }

    pub(super) fn media_began(&mut self, phantom: &Extension) {
        if self.switch.hears(phantom).is_none() {
            return;
        }
        let owner = self.hosts.values().find(|host| host.owns(phantom)).map(|host| host.id);
        let Some(id) = owner else { return };
        self.answer(id, Input::MediaStarted(phantom.clone()));
        let boot = self.hosts[&id].boot;
        let stray = Box::new(Input::Stray(phantom.clone()));
        self.schedule(self.now + 100 * MS, Event::To(id, Some(boot), stray));
    }

    pub(super) fn snapshot_call(&mut self, node: NodeId, id: CallId) {
        let host = &self.hosts[&node];
        let input = match self.switch.by_id(&id) {
            None => Input::UnknownCall(id),
            Some(call) => {
                let mut seen =
                    call.legs.iter().filter_map(|leg| monitor(host, leg.device.number()?, leg.who));
                let Some(monitor) = seen.next() else { return };
                Input::Snapshots(vec![Switch::snapshot(call, monitor)])
            }
        };
        self.answer(node, input);
    }

    pub(super) fn aes_up(&mut self, id: NodeId, boot: u64) {
        if !self.runs(id, boot) {
            return;
        }
        let now = self.now;
        let Some(host) = self.hosts.get_mut(&id) else { return };
        if host.aes.up || host.aes.cut || host.is_stopping() {
            return;
        }
        let same = host.aes.alive && host.aes.session_boot == boot;
        let recovered = same && host.aes.registered;
        host.aes.up = true;
        host.aes.socket += 1;
        host.aes.last = now;
        let socket = host.aes.socket;
        if !recovered {
            host.aes.session += 1;
            (host.aes.alive, host.aes.registered) = (true, false);
            host.aes.session_boot = boot;
        }
        self.trace(format!("{id}: AES link up{}", if recovered { ", same session" } else { "" }));
        self.answer(id, Input::LinkUp { recovered });
        if recovered {
            self.later(20 * MS, 90 * MS, Event::Resync(id, socket));
        } else {
            self.later(40 * MS, 120 * MS, Event::Register(id, socket));
        }
    }

    pub(super) fn register(&mut self, id: NodeId, socket: u64) {
        if !self.on_socket(id, socket) {
            return;
        }
        // The link asks for a phantom's calls before it registers it.
        let host = &self.hosts[&id];
        let calls = self.switch.calls.values();
        let seen = calls.flat_map(|call| call.phantoms().map(move |phantom| (call, phantom)));
        let own = seen.filter(|(_, (_, node, _))| *node == id);
        let snapshots = own
            .map(|(call, (phantom, ..))| Switch::snapshot(call, Monitor::Phantom(phantom.clone())));
        let (snapshots, phantoms) = (snapshots.collect(), host.phantoms.clone());
        self.answer(id, Input::Snapshots(snapshots));
        for phantom in &phantoms {
            if self.drops {
                self.switch.leave(self.now, phantom, None);
            }
        }
        self.tell_all();
        for phantom in phantoms {
            self.answer(id, Input::PhantomReady(phantom));
        }
        self.later(20 * MS, 90 * MS, Event::Resync(id, socket));
    }

    pub(super) fn resync(&mut self, id: NodeId, socket: u64) {
        if !self.on_socket(id, socket) {
            return;
        }
        // By now the answers to the registrations have arrived.
        if let Some(host) = self.hosts.get_mut(&id) {
            host.aes.registered = true;
        }
        let host = &self.hosts[&id];
        let mut snapshots = Vec::new();
        for call in self.switch.calls.values() {
            let seen =
                call.legs.iter().filter_map(|leg| monitor(host, leg.device.number()?, leg.who));
            snapshots.extend(seen.map(|monitor| Switch::snapshot(call, monitor)));
        }
        self.answer(id, Input::Snapshots(snapshots));
        self.answer(id, Input::ResyncDone);
    }

    /// The AES gives up what a session had.
    pub(super) fn end_session(&mut self, id: NodeId) {
        self.trace(format!("{id}: its AES session is cleaned up"));
        let Some(host) = self.hosts.get_mut(&id) else { return };
        (host.aes.alive, host.aes.registered, host.aes.up) = (false, false, false);
        for phantom in host.phantoms.clone() {
            self.switch.leave(self.now, &phantom, None);
        }
        self.tell_all();
    }
}

/// The monitor through which a node sees a device, if it has one.
pub(super) fn monitor(host: &Host, device: &Extension, who: Who) -> Option<Monitor> {
    match who {
        Who::Station => Some(Monitor::Station(device.clone())),
        Who::Phantom(owner) if owner == host.id => Some(Monitor::Phantom(device.clone())),
        Who::Phantom(_) if host.aes.watched.contains(device) => {
            Some(Monitor::Station(device.clone()))
        }
        Who::Phantom(_) | Who::Inside | Who::Outside => None,
    }
}
