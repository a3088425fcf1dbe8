//! What goes wrong, drawn from the seed.

use cluster_core::{Command, Stored};
use recorder_core::call::{Action, Request, Requester, Target};
use storage_core::record::Scope;
use storage_core::{NodeId, Role};

use crate::host::Input;
use crate::people::{STATIONS, station};
use crate::plan::Flavour;
use crate::world::{Event, Odds, World};
use crate::{MS, SECOND, Time};

impl World {
    /// One fault, and when the next one comes.
    pub fn fault(&mut self) {
        if self.healing || self.lost.is_some() {
            return;
        }
        let next = self.now + self.rng.range(150, 1_800) * MS;
        self.schedule(next, Event::Fault);
        if self.plan.loses && self.now > self.plan.faults_ms * MS / 2 {
            return self.lose();
        }
        let ids: Vec<NodeId> = self.hosts.keys().copied().collect();
        let victim = self.rng.pick(&ids);
        let other = self.rng.pick(&ids);
        match self.rng.range(0, 26) {
            0 | 1 => self.kill(victim, false),
            2 | 3 => self.kill(victim, true),
            4 | 5 => self.hang(victim),
            6 => {
                self.trace(format!("fault: {victim} does not reach {other}"));
                self.net.blocked.insert((victim, other));
            }
            7 | 8 => {
                self.trace(format!("fault: {victim} is cut off"));
                self.net.isolate(victim, &ids);
            }
            9 | 10 => {
                self.trace("network: all reach all".to_owned());
                self.net.blocked.clear();
                self.net.loss_percent = 0;
            }
            11 => {
                self.net.loss_percent = self.rng.pick(&[0, 5, 20, 40]);
                self.trace(format!("fault: {} % of messages are lost", self.net.loss_percent));
            }
            12..=14 => {
                let lasts = self.rng.range(100, 8_000) * MS;
                self.cut_link(victim, lasts);
            }
            15 | 16 => {
                let odds = [
                    Odds::default(),
                    Odds { refused: 30, ..Odds::default() },
                    Odds { lost: 10, ..Odds::default() },
                    Odds { deaf: 25, ..Odds::default() },
                ];
                self.odds = self.rng.pick(&odds);
                self.trace(format!("fault: {:?}", self.odds));
            }
            17 => self.deafen(),
            18 => self.turn_clock(victim),
            19 | 20 => self.spoil_disk(victim),
            21 => self.order(victim, other),
            22 => self.stop(victim),
            23 => self.ask(victim),
            _ if self.plan.flavour == Flavour::MixedFive => self.change_members(victim, other),
            _ => {}
        }
    }

    /// A process is killed, or its host loses power.
    pub fn kill(&mut self, victim: NodeId, power: bool) {
        // A process in the middle of a write is the better victim.
        let writing = self.hosts.values().find(|host| host.is_writing()).map(|host| host.id);
        let id = writing.filter(|_| self.rng.chance(70)).unwrap_or(victim);
        let now = self.now;
        let lag = self.rng.range(0, 100 * MS);
        let slow = self.hosts[&id].disk.slow;
        let synced = now - self.rng.range(0, if slow { 1_500 * MS } else { SECOND }).min(now);
        let torn = self.rng.chance(50);
        self.ring_saves_what_died(id, now - lag.min(now));
        let Some(host) = self.hosts.get_mut(&id) else { return };
        if host.process.is_none() {
            return;
        }
        for phantom in host.phantoms.clone() {
            host.flush(now, &phantom, lag);
        }
        // An unsynced write is there as a whole or not at all: frames carry checksums.
        if let Some(write) = host.torn_write()
            && torn
        {
            host.disk.stored.take(write);
        }
        if power {
            host.disk.journal.cut(synced);
        }
        self.trace(format!("fault: {id} {}", if power { "loses power" } else { "is killed" }));
        self.gone(id);
        if !power {
            self.tell_of_death(id);
        }
        let back = self.now + self.rng.range(50, 4_000) * MS;
        self.schedule(back, Event::Restart(id));
    }

    pub fn hang(&mut self, id: NodeId) {
        let Some(host) = self.hosts.get_mut(&id) else { return };
        if host.process.is_none() || host.hung {
            return;
        }
        host.hung = true;
        host.able_since = None;
        self.trace(format!("fault: {id} hangs"));
        self.touch_all();
        let back = self.now + self.rng.range(50, 3_000) * MS;
        self.schedule(back, Event::Resume(id));
    }

    pub fn cut_link(&mut self, id: NodeId, lasts: Time) {
        let cleanup = self.now + self.cleanup;
        let Some(host) = self.hosts.get_mut(&id) else { return };
        if host.role == Role::Witness || host.aes.cut {
            return;
        }
        host.aes.cut = true;
        host.able_since = None;
        let (was_up, boot, session) = (host.aes.up, host.boot, host.aes.session);
        host.aes.up = false;
        self.trace(format!("fault: {id} loses its AES for {} ms", lasts / MS));
        if was_up {
            let at = self.now + self.rng.range(MS, 30 * MS);
            self.schedule(at, Event::To(id, Some(boot), Box::new(Input::LinkDown)));
            self.schedule(cleanup, Event::Clean(id, session));
        }
        self.schedule(self.now + lasts, Event::LinkBack(id));
    }

    /// A phantom in a call is busied out, and nobody is told.
    fn deafen(&mut self) {
        let all = self.switch.calls.values();
        let all =
            all.flat_map(|call| call.phantoms().map(|(p, node, _)| (call.uid, p.clone(), node)));
        let phantoms: Vec<_> = all.collect();
        if phantoms.is_empty() {
            return;
        }
        let (uid, phantom, node) = self.rng.pick(&phantoms);
        self.trace(format!("fault: {phantom:?} in call {uid} is busied out"));
        self.switch.deafen(&phantom);
        // It is taken for a hold or a pause until it has been silent for three seconds.
        if let Some(call) = self.switch.calls.get_mut(&uid) {
            call.excused = call.excused.max(self.now + 5 * SECOND);
        }
        self.excuse(Some(uid), node, 10 * SECOND);
        self.touch_all();
    }

    fn turn_clock(&mut self, id: NodeId) {
        // Where calls have no identity their begin tells them apart, and clocks minutes apart (of
        // which an operator is warned) make two of one.
        let far = if self.switch.ucids { 90_000_i64 } else { 500 };
        let by = self.rng.pick(&[50_i64, -50, 1_000, -1_000, far, -far]);
        if let Some(host) = self.hosts.get_mut(&id) {
            host.offset += by * 1_000;
        }
        self.trace(format!("fault: {id}'s clock is turned by {by} ms"));
    }

    fn spoil_disk(&mut self, id: NodeId) {
        let full = self.rng.chance(60);
        let Some(host) = self.hosts.get_mut(&id) else { return };
        if host.role == Role::Witness {
            return;
        }
        (host.disk.full, host.disk.slow) = (full, !full);
        let lasts = self.rng.range(300, 5_000);
        // Some are full for longer than it takes to prove healthy, and some have used up what is kept for facts.
        let long = full && lasts.is_multiple_of(4);
        host.disk.reserve = !lasts.is_multiple_of(3);
        // One that was full before takes what waited.
        host.write_facts(self.now);
        self.trace(format!("fault: {id}'s disk is {}", if full { "full" } else { "slow" }));
        self.touch_all();
        let back = self.now + if long { lasts * 5 } else { lasts } * MS;
        self.schedule(back, Event::DiskBack(id));
    }

    /// An operator's command.
    fn order(&mut self, at: NodeId, node: NodeId) {
        let role = self.hosts[&node].role;
        let roles = [Role::Active, Role::Backup, Role::Parallel];
        let command = match self.rng.range(0, 6) {
            0 | 1 => Command::Handover { to: Some(node) },
            2 => Command::Handover { to: None },
            3 => Command::Drain { node, on: true, moves: self.rng.chance(70) },
            4 => Command::Drain { node, on: false, moves: false },
            _ if role != Role::Witness && self.plan.flavour != Flavour::ActiveActive => {
                Command::SetRole { node, role: self.rng.pick(&roles[..2]) }
            }
            _ => return,
        };
        self.trace(format!("operator at {at}: {command:?}"));
        self.give(at, Input::Command(Box::new(command)));
    }

    /// The service is stopped in order, and started again.
    fn stop(&mut self, id: NodeId) {
        if self.hosts[&id].process.is_some() && !self.hosts[&id].hung {
            self.trace(format!("operator: {id} is stopped"));
            self.give(id, Input::Stop);
        }
    }

    /// Somebody stops a recording, or asks for one.
    fn ask(&mut self, id: NodeId) {
        let device = station(self.rng.range(0, STATIONS));
        let calls = self.switch.calls.values();
        let busy: Vec<u64> =
            calls.filter(|call| call.leg(&device).is_some()).map(|call| call.uid).collect();
        let Some(number) = device.number().cloned() else { return };
        if busy.is_empty() || self.hosts[&id].recorder().is_none() {
            return;
        }
        for uid in busy {
            if let Some(call) = self.switch.calls.get_mut(&uid) {
                call.handled = true;
            }
        }
        let target = Target::Extension(number);
        let action = match self.rng.range(0, 3) {
            0 => Action::Stop { target },
            1 => Action::Start { target, scope: Scope::Trunk },
            _ => Action::Start { target, scope: Scope::Station },
        };
        self.trace(format!("person at {id}: {action:?}"));
        let request = Request { id: self.now, by: Requester::Supervisor, action };
        self.give(id, Input::Ask(Box::new(request)));
    }

    fn change_members(&mut self, at: NodeId, victim: NodeId) {
        if self.rng.chance(50) && self.hosts.len() < 7 {
            let id = NodeId(self.next_id);
            self.next_id += 1;
            let command = Command::AddMember { node: id, address: format!("n{id}") };
            self.trace(format!("operator at {at}: {command:?}"));
            self.give(at, Input::Command(Box::new(command)));
            self.add_host(id, Role::Witness, Stored::joining(), 0);
            self.start(id);
        } else if self.hosts[&victim].role == Role::Witness {
            let command = Command::RemoveMember { node: victim };
            self.trace(format!("operator at {at}: {command:?}"));
            self.give(at, Input::Command(Box::new(command)));
        }
    }
}
