//! How processes, disks and links of hosts end and come back, and what the others notice of it. What fails
//! when is drawn elsewhere (`faults`).

use cluster_core::{Command, PeerEvent};
use storage_core::NodeId;

use super::{Event, Odds, World};
use crate::host::Input;
use crate::{MS, SECOND};

impl World {
    pub(crate) fn exit(&mut self, id: NodeId) {
        self.trace(format!("{id}: has stopped in order"));
        let phantoms = self.hosts[&id].phantoms.clone();
        let now = self.now;
        if let Some(host) = self.hosts.get_mut(&id) {
            for phantom in &phantoms {
                host.flush(now, phantom, 0);
            }
            if let Some(write) = host.torn_write() {
                host.disk.stored.take(write);
            }
        }
        self.gone(id);
        self.tell_of_death(id);
        if self.healing {
            self.later(50 * MS, 500 * MS, Event::Restart(id));
        } else {
            self.later(100 * MS, 3_000 * MS, Event::Restart(id));
        }
    }

    /// The process is no more.
    pub(crate) fn gone(&mut self, id: NodeId) {
        let cleanup = self.now + self.cleanup;
        self.forget_pauses(id);
        let Some(host) = self.hosts.get_mut(&id) else { return };
        host.process = None;
        host.hung = false;
        host.stalled.clear();
        host.out.clear();
        host.able_since = None;
        host.aes.up = false;
        host.aes.watched.clear();
        let session = host.aes.session;
        if host.aes.alive {
            self.schedule(cleanup, Event::Clean(id, session));
        }
    }

    pub(crate) fn tell_of_death(&mut self, id: NodeId) {
        let peers: Vec<NodeId> = self.hosts.keys().copied().filter(|peer| *peer != id).collect();
        for peer in
            peers.into_iter().filter(|peer| self.net.connected(id, *peer)).collect::<Vec<_>>()
        {
            for event in [PeerEvent::Reset, PeerEvent::Refused] {
                let at = self.now + self.rng.range(100, 3 * MS);
                let input = Box::new(Input::Peer { about: id, event });
                self.schedule(at, Event::To(peer, None, input));
            }
        }
    }

    pub(crate) fn resume(&mut self, id: NodeId) {
        let Some(host) = self.hosts.get_mut(&id) else { return };
        if !std::mem::replace(&mut host.hung, false) {
            return;
        }
        let stalled = std::mem::take(&mut host.stalled);
        self.trace(format!("{id}: goes on"));
        self.touch_all();
        for input in stalled {
            self.give(id, input);
        }
    }

    pub(crate) fn disk_back(&mut self, id: NodeId) {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(&id) else { return };
        (host.disk.full, host.disk.slow) = (false, false);
        host.write_facts(now);
        self.trace(format!("{id}: its disk is well"));
        self.carry_out(id);
        self.touch_all();
    }

    pub(crate) fn heal(&mut self) {
        self.healing = true;
        self.trace("everything heals".to_owned());
        self.net.blocked.clear();
        self.net.loss_percent = 0;
        self.odds = Odds::default();
        for id in self.hosts.keys().copied().collect::<Vec<_>>() {
            self.disk_back(id);
            self.resume(id);
            if let Some(host) = self.hosts.get_mut(&id) {
                host.aes.cut = false;
            }
            self.start(id);
            self.connect(id);
        }
        self.schedule(self.now + 3 * SECOND, Event::GiveUp);
        let ids: Vec<NodeId> = self.hosts.keys().copied().collect();
        for id in &ids {
            for command in [
                Command::Handover { to: None },
                Command::Drain { node: *id, on: false, moves: false },
            ] {
                let input = Box::new(Input::Command(Box::new(command)));
                self.schedule(self.now + 2_500 * MS, Event::To(*id, None, input));
            }
        }
    }
}
