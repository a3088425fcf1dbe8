//! Several members, one queue of events, one seed. Everything that can fail between them fails
//! here: messages are lost, late, doubled and out of order, links are cut one way or both,
//! processes die with their unsynced writes or hang, members come and go.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use cluster_core::node::{Done, Entry, Work, Write};
use cluster_core::wire::{Kind, Message};
use cluster_core::{
    Announce, Command, Health, Node, NodeConfig, Patience, PeerEvent, State, Stored, Ticks,
};
use storage_core::{MonoTime, NodeId, Role};

use crate::check::Checker;
use crate::recorder::{Call, Recorder};
use crate::rng::Rng;

/// Microseconds.
type Time = u64;
const MS: Time = 1000;

#[derive(Clone, Debug)]
enum Event {
    Tick,
    Beat,
    Ping,
    Deliver { from: NodeId, message: Option<Box<Message>> },
    Peer { about: NodeId, event: PeerEvent },
    SnapshotSent { to: NodeId, sent: bool },
    Written,
    Restart,
    Resume,
    Settle,
}

struct Host {
    role: Role,
    boot: u64,
    disk: Stored,
    node: Option<Node>,
    /// A copy that follows the member's state, as readers have it.
    copy: State,
    writing: Option<(Write, Vec<Message>)>,
    inbox: VecDeque<Event>,
    hung: bool,
    recorder: Recorder,
    health: Health,
}

/// Which group, and what goes wrong in it.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seed: u64,
    pub roles: &'static [Role],
    pub calls: u64,
    /// Milliseconds during which faults happen.
    pub faults_ms: u64,
    /// Whether members are added and removed.
    pub membership: bool,
}

pub struct World {
    plan: Plan,
    rng: Rng,
    now: Time,
    order: u64,
    /// What happens when, to whom; events of an earlier start of a process are void.
    queue: BTreeMap<(Time, u64), (NodeId, u64, Event)>,
    hosts: BTreeMap<NodeId, Host>,
    blocked: BTreeSet<(NodeId, NodeId)>,
    loss_percent: u64,
    /// Longest sync of a disk; slow ones are more often caught in the middle of it.
    sync_max: Time,
    calls: Vec<Call>,
    check: Checker,
    next_id: u16,
    pub steps: u64,
}

impl World {
    pub fn new(plan: Plan) -> Self {
        let mut rng = Rng::new(plan.seed);
        let calls = (0..plan.calls).map(|number| {
            let begins_ms = rng.range(500, plan.faults_ms);
            Call { number, begins_ms, ends_ms: begins_ms + rng.range(200, 6_000) }
        });
        let calls = calls.collect();
        let sync_max = rng.pick(&[MS, 3 * MS, 3 * MS, 30 * MS]);
        let ids = (1_u16..).take(plan.roles.len()).map(NodeId);
        let addresses: BTreeMap<_, _> = ids.map(|id| (id, format!("n{id}"))).collect();
        let first = Stored::first(&addresses);
        let mut world = Self {
            plan,
            rng,
            now: 0,
            order: 0,
            queue: BTreeMap::new(),
            hosts: BTreeMap::new(),
            blocked: BTreeSet::new(),
            loss_percent: 0,
            sync_max,
            calls,
            check: Checker::default(),
            next_id: u16::try_from(plan.roles.len()).unwrap() + 1,
            steps: 0,
        };
        for (&id, &role) in addresses.keys().zip(plan.roles) {
            world.add_host(id, role, first.clone());
        }
        world
    }

    /// Runs the plan: faults, then healing, then everything must come right.
    pub fn run(mut self) -> u64 {
        while self.now < self.plan.faults_ms * MS {
            let until = self.now + self.rng.range(100, 1_500) * MS;
            self.run_until(until);
            self.fault();
        }
        self.heal();
        self.run_until(self.now + 15_000 * MS);
        for _ in 0..10 {
            if !self.busy() {
                break;
            }
            self.run_until(self.now + 100 * MS);
        }
        self.judge();
        self.steps
    }

    /// Whether an entry is on its way to somebody.
    fn busy(&self) -> bool {
        let leader = self.hosts.values().filter_map(|host| host.node.as_ref());
        let leader = leader.filter(|node| node.is_leader()).max_by_key(|node| node.term());
        let Some(leader) = leader else { return true };
        let members = leader.state().members();
        let member = |node: &&Node| members.contains_key(&node.id());
        let nodes = self.hosts.values().filter_map(|host| host.node.as_ref());
        nodes.filter(member).any(|node| node.applied() != leader.applied())
    }

    fn judge(&self) {
        let leader = self.hosts.values().filter_map(|host| host.node.as_ref());
        let leader = leader.filter(|node| node.is_leader()).max_by_key(|node| node.term());
        let leader = leader.expect("after healing there is a leader");
        for host in self.hosts.values() {
            let Some(node) = &host.node else { continue };
            assert_eq!(*node.state(), host.copy, "a reader's copy agrees");
            if leader.state().members().contains_key(&node.id()) {
                assert!(
                    node.applied() >= self.check.last_applied,
                    "{} is at {} of {}: {:#?}",
                    node.id(),
                    node.applied(),
                    self.check.last_applied,
                    leader.view(MonoTime::from_micros(self.now))
                );
                assert_eq!(node.state(), leader.state(), "states agree after healing");
            }
        }
        let members = leader.state().members();
        let best = members.iter().filter(|(_, m)| m.records()).min_by_key(|(n, m)| (m.role, **n));
        let best_role = best.and_then(|(_, member)| member.role);
        let lead = leader.state().lead().expect("after healing somebody leads");
        assert_eq!(
            members[&lead].role,
            best_role,
            "the preferred role leads again, {:?} {members:#?}",
            leader.state().wish()
        );
        assert_ne!(Some(leader.id()), leader.state().lead().filter(|_| members.len() > 1));
        self.check.healed(leader);
    }

    fn add_host(&mut self, id: NodeId, role: Role, disk: Stored) {
        let host = Host {
            role,
            boot: 0,
            disk,
            node: None,
            copy: State::default(),
            writing: None,
            inbox: VecDeque::new(),
            hung: false,
            recorder: Recorder::new(id),
            health: Health::GOOD,
        };
        self.hosts.insert(id, host);
        self.start(id);
    }

    fn start(&mut self, id: NodeId) {
        let now = MonoTime::from_micros(self.now);
        let host = self.hosts.get_mut(&id).unwrap();
        host.boot += 1;
        host.hung = false;
        let patience = Patience {
            settle: Duration::from_millis(600),
            starting: Duration::from_secs(2),
            proving: Duration::from_secs(2),
        };
        let config = NodeConfig {
            id,
            role: host.role,
            ticks: Ticks::new(50, 300).unwrap(),
            patience,
            seed: self.plan.seed,
            boot: host.boot,
        };
        let mut node = Node::new(config, host.disk.clone()).expect("what was stored is sound");
        let role = host.role;
        let announce = Announce { node: id, role, phantoms: Vec::new(), program: "1".into() };
        let deadline = now + Duration::from_secs(3600);
        node.propose(now, Command::Announce(announce), deadline).unwrap();
        let health = Command::Health { node: id, health: host.health };
        node.propose(now, health, deadline).unwrap();
        host.copy = node.state().clone();
        host.node = Some(node);
        let boot = host.boot;
        for event in [Event::Tick, Event::Beat, Event::Ping] {
            let at = self.now + self.rng.range(0, 25 * MS);
            self.schedule(at, id, boot, event);
        }
    }

    fn schedule(&mut self, at: Time, to: NodeId, boot: u64, event: Event) {
        self.order += 1;
        self.queue.insert((at, self.order), (to, boot, event));
    }

    fn run_until(&mut self, until: Time) {
        while let Some((&(at, order), _)) = self.queue.first_key_value()
            && at <= until
        {
            let Some((to, boot, event)) = self.queue.remove(&(at, order)) else { break };
            self.now = at;
            self.steps += 1;
            self.happen(to, boot, event);
        }
        self.now = until;
    }

    fn happen(&mut self, id: NodeId, boot: u64, event: Event) {
        let Some(host) = self.hosts.get_mut(&id) else { return };
        match event {
            Event::Restart => {
                if host.node.is_none() {
                    self.start(id);
                }
                return;
            }
            Event::Resume => {
                host.hung = false;
                self.drain(id);
                return;
            }
            _ => {}
        }
        // Deliveries carry no start number: they reach whatever process listens now.
        if host.node.is_none() || (boot != 0 && boot != host.boot) {
            return;
        }
        let again = match &event {
            Event::Tick => Some(25 * MS),
            Event::Beat => Some(50 * MS),
            Event::Ping => Some(50 * MS),
            _ => None,
        };
        if let Some(period) = again {
            self.schedule(self.now + period, id, boot, event.clone());
        }
        let Some(host) = self.hosts.get_mut(&id) else { return };
        if matches!(event, Event::Written) && !host.hung {
            self.written(id);
            self.drain(id);
        } else if host.hung || host.writing.is_some() {
            // What waits is bounded, as the links' queues are; ticks that were missed are not made
            // up for, but for one.
            let same = |waiting: &Event| match event {
                Event::Tick => matches!(waiting, Event::Tick),
                Event::Beat => matches!(waiting, Event::Beat),
                Event::Ping => matches!(waiting, Event::Ping),
                _ => false,
            };
            let room = matches!(event, Event::Written) || host.inbox.len() < 2_000;
            if room && !host.inbox.iter().any(same) {
                host.inbox.push_back(event);
            }
        } else {
            self.input(id, event);
        }
    }

    /// Takes what has waited as the driver does: in bursts, and then one write for all.
    fn drain(&mut self, id: NodeId) {
        loop {
            let Some(host) = self.hosts.get_mut(&id) else { return };
            if host.hung || host.node.is_none() {
                return;
            }
            if host.writing.is_some() {
                let written = host.inbox.iter().position(|e| matches!(e, Event::Written));
                let Some(at) = written else { return };
                host.inbox.remove(at);
                self.written(id);
                continue;
            }
            let burst = host.inbox.len().min(256);
            if burst == 0 {
                return;
            }
            for event in host.inbox.drain(..burst).collect::<Vec<_>>() {
                self.feed(id, event);
            }
            self.pump(id);
        }
    }

    fn input(&mut self, id: NodeId, event: Event) {
        self.feed(id, event);
        self.pump(id);
    }

    fn feed(&mut self, id: NodeId, event: Event) {
        let now = MonoTime::from_micros(self.now);
        let reachable = self.reachable(id);
        let host = self.hosts.get_mut(&id).unwrap();
        let node = host.node.as_mut().unwrap();
        match event {
            Event::Tick => node.tick(now),
            Event::Beat => {
                let reach = |other: NodeId| reachable.contains(&other);
                host.recorder.beat(node, self.now / MS, &self.calls, reach);
                for stretch in host.recorder.dropped.drain(..) {
                    self.check.dropped(stretch.recording, stretch.node, stretch.segment);
                }
            }
            Event::Ping => {
                let peers: Vec<_> = self.hosts.keys().copied().filter(|peer| *peer != id).collect();
                for peer in peers {
                    self.transmit(id, peer, None);
                }
            }
            Event::Deliver { from, message: None } => node.peer(now, from, PeerEvent::Heard),
            Event::Deliver { from, message: Some(message) } => {
                if let Err(cluster_core::node::StepError::Alarm(alarm)) =
                    node.step(now, from, *message)
                {
                    panic!("{alarm}");
                }
            }
            Event::Peer { about, event } => node.peer(now, about, event),
            Event::SnapshotSent { to, sent } => node.snapshot_sent(to, sent),
            Event::Settle => {
                let deadline = now + Duration::from_secs(60);
                for command in [
                    Command::Handover { to: None },
                    Command::Drain { node: NodeId(1), on: false, moves: false },
                    Command::Drain { node: NodeId(2), on: false, moves: false },
                    Command::Drain { node: NodeId(3), on: false, moves: false },
                    Command::Health { node: id, health: Health::GOOD },
                ] {
                    node.propose(now, command, deadline).expect("there is room");
                }
            }
            Event::Written | Event::Restart | Event::Resume => {}
        }
    }

    /// Drains the member until it has nothing to do or waits for its disk.
    fn pump(&mut self, id: NodeId) {
        let now = MonoTime::from_micros(self.now);
        loop {
            let host = self.hosts.get_mut(&id).unwrap();
            let node = host.node.as_mut().unwrap();
            self.check.duties(node, now);
            let Some(work) = node.poll().expect("no alarm") else { return };
            let Work { at_once, write, after } = work;
            for message in at_once {
                self.send(id, &message);
            }
            match write {
                Some(write) => {
                    let host = self.hosts.get_mut(&id).unwrap();
                    host.writing = Some((write, after));
                    let boot = host.boot;
                    let takes = self.rng.range(100, self.sync_max);
                    self.schedule(self.now + takes, id, boot, Event::Written);
                    return;
                }
                None => {
                    for message in after {
                        self.send(id, &message);
                    }
                    self.finish(id);
                }
            }
        }
    }

    fn written(&mut self, id: NodeId) {
        let host = self.hosts.get_mut(&id).unwrap();
        let Some((write, after)) = host.writing.take() else { return };
        host.disk.take(write);
        for message in after {
            self.send(id, &message);
        }
        self.finish(id);
        self.pump(id);
    }

    fn finish(&mut self, id: NodeId) {
        let host = self.hosts.get_mut(&id).unwrap();
        let node = host.node.as_mut().unwrap();
        let done: Done = node.written().expect("no alarm");
        host.recorder.finished(&done);
        self.check.applied(node, &done.applied);
        if done.applied.iter().any(|applied| applied.entry == Entry::Restored) {
            host.copy = node.state().clone();
        } else {
            done.applied.iter().for_each(|applied| host.copy.follow(applied));
        }
        for message in done.messages {
            self.send(id, &message);
        }
    }

    fn send(&mut self, from: NodeId, message: &Message) {
        let to = message.to;
        let snapshot = message.kind == Kind::Snapshot;
        // The wire's form is part of what is tested.
        let message = Message::decode(&message.encode()).expect("our own message is sound");
        let sent = self.transmit(from, to, Some(&message));
        if snapshot {
            let boot = self.hosts[&from].boot;
            self.schedule(self.now + 5 * MS, from, boot, Event::SnapshotSent { to, sent });
        }
    }

    fn transmit(&mut self, from: NodeId, to: NodeId, message: Option<&Message>) -> bool {
        if self.blocked.contains(&(from, to)) || self.rng.chance(self.loss_percent) {
            return false;
        }
        let copies = if self.rng.chance(2) { 2 } else { 1 };
        for _ in 0..copies {
            let mut delay = self.rng.range(100, 3 * MS);
            if self.rng.chance(2) {
                delay += self.rng.range(0, 200 * MS);
            }
            let event = Event::Deliver { from, message: message.cloned().map(Box::new) };
            self.schedule(self.now + delay, to, 0, event);
        }
        true
    }

    fn reachable(&self, id: NodeId) -> BTreeSet<NodeId> {
        let other = |other: &NodeId| {
            let there = self.hosts[other].node.is_some() && !self.hosts[other].hung;
            let blocked = self.blocked.contains(&(id, *other));
            there && !blocked && !self.blocked.contains(&(*other, id))
        };
        self.hosts.keys().copied().filter(|o| *o != id && other(o)).collect()
    }

    fn fault(&mut self) {
        let ids: Vec<_> = self.hosts.keys().copied().collect();
        let victim = self.rng.pick(&ids);
        let other = self.rng.pick(&ids);
        match self.rng.range(0, 13) {
            0..=2 => self.crash(victim),
            3 => self.hang(victim),
            4 => {
                self.blocked.insert((victim, other));
            }
            5 | 6 => {
                for peer in ids.into_iter().filter(|peer| *peer != victim) {
                    self.blocked.insert((victim, peer));
                    self.blocked.insert((peer, victim));
                }
            }
            7 | 8 => self.blocked.clear(),
            9 => self.loss_percent = self.rng.pick(&[0, 0, 5, 20, 50]),
            10 => self.sicken(victim),
            11 => {
                let commands = [
                    Command::Handover { to: Some(other) },
                    Command::Handover { to: None },
                    Command::Drain { node: other, on: true, moves: true },
                    Command::Drain { node: other, on: false, moves: false },
                ];
                let at = usize::try_from(self.rng.range(0, 4)).unwrap();
                self.command(victim, commands[at].clone());
            }
            _ if self.plan.membership => self.change_members(victim, other),
            _ => {}
        }
    }

    fn crash(&mut self, victim: NodeId) {
        // A process in the middle of a write is the better victim.
        let writing = self.hosts.iter().find(|(_, host)| host.writing.is_some());
        let id = writing.map_or(victim, |(id, _)| *id);
        let host = self.hosts.get_mut(&id).unwrap();
        if host.node.take().is_none() {
            return;
        }
        // An unsynced write is there as a whole or not at all: frames carry checksums.
        if let Some((write, _)) = host.writing.take()
            && self.rng.chance(50)
        {
            host.disk.take(write);
        }
        host.inbox.clear();
        host.recorder.crashed(self.now / MS);
        let back = self.now + self.rng.range(50, 4_000) * MS;
        self.schedule(back, id, 0, Event::Restart);
        let sees = |peer: &NodeId| *peer != id && !self.blocked.contains(&(id, *peer));
        let peers: Vec<_> = self.hosts.keys().copied().filter(sees).collect();
        for peer in peers {
            for event in [PeerEvent::Reset, PeerEvent::Refused] {
                let at = self.now + self.rng.range(100, 2 * MS);
                self.schedule(at, peer, 0, Event::Peer { about: id, event });
            }
        }
    }

    fn hang(&mut self, id: NodeId) {
        let host = self.hosts.get_mut(&id).unwrap();
        host.hung = host.node.is_some();
        let back = self.now + self.rng.range(50, 3_000) * MS;
        self.schedule(back, id, 0, Event::Resume);
    }

    /// Recording becomes impossible on a member, or possible again.
    fn sicken(&mut self, id: NodeId) {
        let host = self.hosts.get_mut(&id).unwrap();
        host.health.aes = !host.health.aes;
        let health = host.health;
        self.command(id, Command::Health { node: id, health });
    }

    fn command(&mut self, at: NodeId, command: Command) {
        let now_ms = self.now / MS;
        let host = self.hosts.get_mut(&at).unwrap();
        let ready = !host.hung && host.writing.is_none();
        if let Some(node) = host.node.as_mut().filter(|_| ready) {
            host.recorder.propose(node, now_ms, command);
            self.pump(at);
        }
    }

    fn change_members(&mut self, at: NodeId, victim: NodeId) {
        if self.rng.chance(50) && self.hosts.len() < 6 {
            let id = NodeId(self.next_id);
            self.next_id += 1;
            let command = Command::AddMember { node: id, address: format!("n{id}") };
            self.command(at, command);
            self.add_host(id, Role::Witness, Stored::joining());
        } else if victim.0 > 3 {
            self.command(at, Command::RemoveMember { node: victim });
        }
    }

    fn heal(&mut self) {
        self.blocked.clear();
        self.loss_percent = 0;
        let ids: Vec<_> = self.hosts.keys().copied().collect();
        for id in ids {
            if self.hosts[&id].node.is_none() {
                self.start(id);
            }
            self.hosts.get_mut(&id).unwrap().hung = false;
            self.hosts.get_mut(&id).unwrap().health = Health::GOOD;
            self.drain(id);
            // The operator puts everything back, and every member says how it is.
            let boot = self.hosts[&id].boot;
            self.schedule(self.now + 2_500 * MS, id, boot, Event::Settle);
        }
    }
}
