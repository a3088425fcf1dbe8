//! One queue of (time, number, event), one seed. Everything between the hosts happens here: the
//! network, the AES links, the switch, pulls and listings, and the passing of time.

mod aes;
mod audit;
mod failing;
mod files;
mod pauses;
mod rings;

use std::collections::{BTreeMap, BTreeSet};

use astlogger::bridge::core::SealOrder;
use cluster_core::node::{Applied, Entry};
use cluster_core::wire::Message;
use cluster_core::{Command, Stored};
use recorder_core::call::JoinRefusal;
use recorder_core::call::event::{CallEvent, Device};
use recorder_core::call::order::Ticket;
use storage_core::{CallId, Extension, NodeId, RecordingId, Role, SegmentId};

use self::aes::monitor;
use crate::checker::{Checker, Kind, Violation};
use crate::disk::{Disk, Voice};
use crate::frames::Frames;
use crate::host::{Host, Input, Out, is_snapshot};
use crate::mirror::Loss;
use crate::net::Net;
use crate::people::{self, STATIONS, Step};
use crate::plan::Plan;
use crate::rng::Rng;
use crate::switch::{Call, Switch, Told};
use crate::{MS, Print, SECOND, Time};

const BEAT: Time = 25 * MS;
const PING: Time = 50 * MS;
const LOOK: Time = 500 * MS;
const AUDIT: Time = 40 * MS;
/// After healing everything must have come to rest within this.
const REST_WITHIN: Time = 60 * SECOND;
/// How long a peer may take to answer a request outside the log.
const ANSWER_WITHIN: Time = 3 * SECOND;

#[derive(Clone, Debug)]
pub enum Event {
    Beat(NodeId, u64),
    Ping(NodeId, u64),
    Look(NodeId, u64),
    /// To the process of this start, or to whichever runs.
    To(NodeId, Option<u64>, Box<Input>),
    /// From the AES, on this socket.
    FromAes(NodeId, u64, Box<Input>),
    Person(u64, Step),
    Spawn,
    Join {
        node: NodeId,
        socket: u64,
        ticket: Ticket,
        call: CallId,
        party: Device,
        phantom: Extension,
    },
    Leave {
        node: NodeId,
        socket: u64,
        phantom: Extension,
        call: CallId,
    },
    AskLinkage {
        node: NodeId,
        socket: u64,
        call: CallId,
    },
    SnapshotCall {
        node: NodeId,
        socket: u64,
        call: CallId,
    },
    Media(Extension),
    AesUp(NodeId, u64),
    Register(NodeId, u64),
    Resync(NodeId, u64),
    Clean(NodeId, u64),
    EndSession(NodeId, u64),
    LinkBack(NodeId),
    Seal {
        node: NodeId,
        boot: u64,
        order: Box<SealOrder>,
        waited: bool,
    },
    List {
        node: NodeId,
        boot: u64,
        at: NodeId,
        recording: RecordingId,
        revision: u32,
        sha256: [u8; 32],
    },
    Restart(NodeId),
    Mirror,
    GiveUp,
    Resume(NodeId),
    DiskBack(NodeId),
    Fault,
    Audit,
    /// Somebody pauses a recording, or resumes it.
    Pause,
}

/// How often what the switch is asked for goes wrong, percent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Odds {
    pub refused: u64,
    pub lost: u64,
    pub deaf: u64,
}

/// A call that is over.
struct Past {
    uid: u64,
    from: Option<Time>,
    to: Time,
    merged: bool,
    handled: bool,
    /// Who could have recorded all of it.
    able: BTreeSet<NodeId>,
}

pub struct World {
    pub plan: Plan,
    pub rng: Rng,
    pub now: Time,
    order: u64,
    queue: BTreeMap<(Time, u64), Event>,
    pub hosts: BTreeMap<NodeId, Host>,
    pub net: Net,
    pub switch: Switch,
    pub check: Checker,
    pub odds: Odds,
    pub sync_max: Time,
    pub cleanup: Time,
    /// Registering a phantom anew takes it out of the call in which an older session left it.
    drops: bool,
    pub healing: bool,
    pub next_id: u16,
    /// The recorder that is lost, if one is.
    pub lost: Option<Loss>,
    stations: BTreeSet<Extension>,
    gaps: BTreeMap<u64, Time>,
    excused: BTreeMap<(u64, NodeId), Time>,
    twins: BTreeMap<(u64, NodeId), Time>,
    /// How often in a row the removal of a phantom was lost.
    removals_lost: BTreeMap<Extension, u8>,
    past: Vec<Past>,
    rings: rings::Rings,
    pauses: pauses::Pauses,
    doubled: u64,
    verbose: bool,
    lines: Vec<String>,
    print: Print,
    steps: u64,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was run.
    pub plan: Plan,
    /// The first promise that was broken.
    pub violation: Option<Violation>,
    /// What happened, in words.
    pub trace: Vec<String>,
    /// Checksum of everything that happened.
    pub print: u64,
    /// Events.
    pub steps: u64,
    /// Calls that were established.
    pub calls: usize,
    /// Recordings that were published.
    pub published: usize,
    /// Conferences that failed because of phantoms.
    pub crowded: u64,
    /// Pairs of recordings of merged calls that both have more than a few seconds.
    pub doubled: u64,
    /// Stretches that only a ring heard, and that had to be published.
    pub ringed: usize,
    /// For how long phantoms discarded what they heard of paused calls, milliseconds.
    pub paused_ms: u64,
    /// Simulated microseconds.
    pub lasted: u64,
}

/// Runs a plan to its end, or to the first promise that is broken.
#[must_use]
pub fn run(plan: Plan, verbose: bool) -> Report {
    let mut world = World::new(plan, verbose);
    world.begin();
    world.go_on();
    Report {
        plan,
        violation: world.check.violations.first().cloned(),
        trace: std::mem::take(&mut world.lines),
        print: world.print.value(),
        steps: world.steps,
        calls: world.past.iter().filter(|past| past.from.is_some()).count(),
        published: world.check.published.len(),
        crowded: world.switch.crowded,
        doubled: world.doubled,
        ringed: world.rings.owed(),
        paused_ms: world.pauses.hidden_ms(),
        lasted: world.now,
    }
}

impl World {
    fn new(plan: Plan, verbose: bool) -> Self {
        let mut rng = Rng::new(plan.seed);
        let stations = (0..STATIONS).filter_map(|n| people::station(n).number().cloned());
        Self {
            plan,
            now: 0,
            order: 0,
            queue: BTreeMap::new(),
            hosts: BTreeMap::new(),
            net: Net::new(rng.pick(&[MS, 3 * MS, 3 * MS, 10 * MS])),
            switch: Switch::new(plan.identities),
            check: Checker::default(),
            odds: Odds::default(),
            sync_max: rng.pick(&[MS, 3 * MS, 3 * MS, 20 * MS]),
            cleanup: rng.range(2, 7) * SECOND,
            drops: rng.chance(50),
            healing: false,
            next_id: u16::try_from(plan.flavour.roles().len()).unwrap_or(0) + 1,
            lost: None,
            stations: stations.collect(),
            gaps: BTreeMap::new(),
            excused: BTreeMap::new(),
            twins: BTreeMap::new(),
            removals_lost: BTreeMap::new(),
            past: Vec::new(),
            rings: rings::Rings::default(),
            pauses: pauses::Pauses::default(),
            doubled: 0,
            verbose,
            lines: Vec::new(),
            print: Print::default(),
            steps: 0,
            rng,
        }
    }

    fn begin(&mut self) {
        let ids: Vec<NodeId> =
            (1_u16..).take(self.plan.flavour.roles().len()).map(NodeId).collect();
        let addresses: BTreeMap<_, _> = ids.iter().map(|id| (*id, format!("n{id}"))).collect();
        let first = Stored::first(&addresses);
        let phantoms = self.rng.pick(&[4, 8, 12, 12, 16]);
        let jitter: i64 = self.rng.pick(&[1_000, 20_000, 200_000, 200_000]);
        for (id, role) in ids.into_iter().zip(self.plan.flavour.roles()) {
            self.add_host(id, *role, first.clone(), phantoms);
            let offset = self.rng.range(0, (2 * jitter).unsigned_abs()).cast_signed() - jitter;
            let drift = self.rng.range(0, 100).cast_signed() - 50;
            if let Some(host) = self.hosts.get_mut(&id) {
                (host.offset, host.drift) = (offset, drift);
            }
            self.start(id);
        }
        let end = self.plan.faults_ms * MS;
        for _ in 0..self.plan.calls {
            let at = self.rng.range(SECOND, end);
            self.schedule(at, Event::Spawn);
        }
        self.schedule(2 * SECOND, Event::Fault);
        self.schedule(AUDIT, Event::Audit);
        self.schedule(AUDIT, Event::Mirror);
        if self.plan.pauses {
            self.schedule(2 * SECOND, Event::Pause);
        }
    }

    fn go_on(&mut self) {
        let end = self.plan.faults_ms * MS;
        self.run_until(end);
        self.heal();
        let rest = end + REST_WITHIN;
        let mut unrest = None;
        while self.now < rest && self.check.violations.is_empty() {
            let next = self.now + 250 * MS;
            self.run_until(next);
            unrest = self.unrest();
            if unrest.is_none() {
                break;
            }
        }
        if let Some(what) = unrest {
            self.check.fail(Kind::Unrest, what);
        }
        if self.check.violations.is_empty() {
            self.judge();
            self.judge_loss();
        }
        if let Some(violation) = self.check.violations.first().cloned() {
            self.trace(format!("VIOLATION {:?}: {}", violation.kind, violation.what));
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "lines are made on the spot")]
    pub fn trace(&mut self, line: String) {
        self.print.add(&self.now.to_le_bytes());
        self.print.add(line.as_bytes());
        if self.verbose {
            let (seconds, rest) = (self.now / SECOND, self.now % SECOND);
            self.lines.push(format!("{seconds:3}.{rest:06} {line}"));
        }
    }

    pub fn add_host(&mut self, id: NodeId, role: Role, stored: Stored, phantoms: u64) {
        let count = if role == Role::Witness { 0 } else { phantoms };
        let phantoms = (1..=count).map(|n| Extension::new(format!("78{}{n:02}", id.0)));
        let disk = Disk { stored, ..Disk::default() };
        self.hosts.insert(id, Host::new(id, role, phantoms.collect(), disk));
    }

    pub fn start(&mut self, id: NodeId) {
        let (now, seed, stations) = (self.now, self.plan.seed, self.stations.clone());
        let Some(host) = self.hosts.get_mut(&id) else { return };
        if host.process.is_some() || host.removed {
            return;
        }
        host.hung = false;
        host.start(now, seed, &stations, self.plan.ring_s);
        let (boot, role) = (host.boot, host.role);
        self.trace(format!("{id}: starts as {} ({boot})", role.as_str()));
        self.find_pauses(id);
        for (event, period) in [
            (Event::Beat(id, boot), BEAT),
            (Event::Ping(id, boot), PING),
            (Event::Look(id, boot), LOOK),
        ] {
            let at = self.now + self.rng.range(0, period);
            self.schedule(at, event);
        }
        self.carry_out(id);
        self.connect(id);
    }

    pub fn connect(&mut self, id: NodeId) {
        let Some(host) = self.hosts.get(&id) else { return };
        let boot = host.boot;
        if host.recorder().is_some() && !host.aes.cut && !host.aes.up {
            let at = self.now + self.rng.range(60, 250) * MS;
            self.schedule(at, Event::AesUp(id, boot));
        }
    }

    pub fn schedule(&mut self, at: Time, event: Event) {
        self.order += 1;
        self.queue.insert((at, self.order), event);
    }

    fn later(&mut self, low: Time, high: Time, event: Event) {
        let at = self.now + self.rng.range(low, high);
        self.schedule(at, event);
    }

    fn run_until(&mut self, until: Time) {
        while self.check.violations.is_empty()
            && let Some((&(at, order), _)) = self.queue.first_key_value()
            && at <= until
        {
            let Some(event) = self.queue.remove(&(at, order)) else { break };
            self.now = at;
            self.steps += 1;
            self.happen(event);
        }
        self.now = self.now.max(until);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Beat(id, boot) => self.beat(id, boot),
            Event::Ping(id, boot) => self.ping(id, boot),
            Event::Look(id, boot) => {
                if self.runs(id, boot) {
                    self.schedule(self.now + LOOK, Event::Look(id, boot));
                    if !self.hosts[&id].hung {
                        self.give(id, Input::Look);
                        self.give(id, Input::Spread);
                    }
                }
            }
            Event::To(id, boot, input) => {
                if boot.is_none_or(|boot| self.runs(id, boot)) {
                    self.give(id, *input);
                }
            }
            Event::FromAes(id, socket, input) => {
                let aes = &self.hosts[&id].aes;
                if aes.up && aes.socket == socket {
                    self.give(id, *input);
                }
            }
            Event::Person(uid, step) => self.person(uid, step),
            Event::Spawn => self.spawn(),
            Event::Fault => self.fault(),
            Event::Audit => self.audit(),
            Event::Pause => self.ask_for_pause(),
            Event::Mirror => self.mirror(),
            Event::GiveUp => self.give_up(),
            Event::Restart(id) => self.start(id),
            Event::Resume(id) => self.resume(id),
            Event::DiskBack(id) => self.disk_back(id),
            Event::Seal { node, boot, order, waited } => self.seal(node, boot, &order, waited),
            Event::List { node, boot, at, recording, revision, sha256 } => {
                self.list(node, boot, at, (recording, revision, sha256));
            }
            other => self.happen_at_switch(other),
        }
    }

    #[expect(clippy::collapsible_match, reason = "the guard is about the link, not the event")]
    fn happen_at_switch(&mut self, event: Event) {
        match event {
            Event::Join { node, socket, ticket, call, party, phantom } => {
                if self.on_socket(node, socket) {
                    self.join(node, ticket, &call, &party, &phantom);
                }
            }
            Event::Leave { node, socket, phantom, call } => {
                if self.on_socket(node, socket) && !self.loses_removal(&phantom) {
                    self.switch.leave(self.now, &phantom, Some(&call));
                    self.tell_all();
                    if !self.rng.chance(self.odds.lost) {
                        self.answer(node, Input::Left(phantom));
                    }
                }
            }
            Event::AskLinkage { node, socket, call } => {
                if self.on_socket(node, socket) {
                    let ucid = self.switch.by_id(&call).and_then(|call| call.ucid.clone());
                    self.answer(node, Input::Linkage(call, ucid));
                }
            }
            Event::SnapshotCall { node, socket, call } => {
                if self.on_socket(node, socket) {
                    self.snapshot_call(node, call);
                }
            }
            Event::Media(phantom) => {
                self.switch.media(&phantom, true);
                self.touch_all();
                self.media_began(&phantom);
            }
            Event::AesUp(id, boot) => self.aes_up(id, boot),
            Event::Register(id, socket) => self.register(id, socket),
            Event::Resync(id, socket) => self.resync(id, socket),
            Event::Clean(id, session) => {
                let aes = &self.hosts[&id].aes;
                if aes.session == session && !aes.up && aes.alive {
                    self.end_session(id);
                }
            }
            Event::EndSession(id, session) => {
                if self.hosts[&id].aes.session == session {
                    self.end_session(id);
                }
            }
            Event::LinkBack(id) => {
                if let Some(host) = self.hosts.get_mut(&id) {
                    host.aes.cut = false;
                }
                self.connect(id);
            }
            _ => {}
        }
    }

    fn runs(&self, id: NodeId, boot: u64) -> bool {
        self.hosts.get(&id).is_some_and(|host| host.process.is_some() && host.boot == boot)
    }

    fn on_socket(&self, id: NodeId, socket: u64) -> bool {
        let aes = &self.hosts[&id].aes;
        aes.up && aes.socket == socket
    }

    /// Gives a process its input, or keeps it while the process is stopped.
    pub fn give(&mut self, id: NodeId, input: Input) {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(&id) else { return };
        if host.process.is_none() {
            return;
        }
        if host.hung {
            if host.stalled.len() < 20_000 {
                host.stalled.push_back(input);
            }
            return;
        }
        host.input(now, input);
        self.carry_out(id);
    }

    fn beat(&mut self, id: NodeId, boot: u64) {
        if !self.runs(id, boot) {
            return;
        }
        self.schedule(self.now + BEAT, Event::Beat(id, boot));
        if self.hosts[&id].hung {
            return;
        }
        self.give(id, Input::Beat);
        let host = &self.hosts[&id];
        if let Some(process) = &host.process {
            self.check.duties(&process.node, host.now(self.now).mono);
        }
    }

    fn ping(&mut self, id: NodeId, boot: u64) {
        if !self.runs(id, boot) {
            return;
        }
        self.schedule(self.now + PING, Event::Ping(id, boot));
        if self.hosts[&id].hung {
            return;
        }
        let peers: Vec<NodeId> = self.hosts.keys().copied().filter(|peer| *peer != id).collect();
        for peer in peers {
            self.transmit(id, peer, None);
        }
    }

    fn transmit(&mut self, from: NodeId, to: NodeId, message: Option<&Message>) -> bool {
        if !self.hosts.contains_key(&to) {
            return false;
        }
        let times = self.net.transmit(&mut self.rng, self.now, from, to);
        for at in &times {
            let message = message.cloned().map(Box::new);
            let input = Input::Deliver { from, message };
            self.schedule(*at, Event::To(to, None, Box::new(input)));
        }
        !times.is_empty()
    }

    /// Carries out what a host wants of the rest of the world.
    fn carry_out(&mut self, id: NodeId) {
        loop {
            let Some(host) = self.hosts.get_mut(&id) else { return };
            if host.out.is_empty() {
                return;
            }
            for out in std::mem::take(&mut host.out) {
                self.carry(id, out);
            }
        }
    }

    fn carry(&mut self, id: NodeId, out: Out) {
        let boot = self.hosts[&id].boot;
        match out {
            Out::Send(message) => {
                let to = message.to;
                let sent = self.transmit(id, to, Some(&message));
                if is_snapshot(&message) {
                    let input = Box::new(Input::SnapshotSent { to, sent });
                    self.schedule(self.now + 2 * MS, Event::To(id, Some(boot), input));
                }
            }
            Out::Write => {
                let slow = self.hosts[&id].disk.slow;
                let takes = if slow {
                    self.rng.range(20 * MS, 400 * MS)
                } else {
                    self.rng.range(100, self.sync_max.max(200))
                };
                let input = Box::new(Input::Written);
                self.schedule(self.now + takes, Event::To(id, Some(boot), input));
            }
            Out::After(delay, input) => {
                self.schedule(self.now + delay, Event::To(id, Some(boot), Box::new(input)));
            }
            Out::Touch(phantom) => self.touch(id, &phantom),
            Out::WatchPeers(phantoms) => {
                if let Some(host) = self.hosts.get_mut(&id) {
                    host.aes.watched.extend(phantoms);
                }
            }
            Out::Seal(order) => {
                let order = Box::new(order);
                let event = Event::Seal { node: id, boot, order, waited: false };
                self.later(5 * MS, 40 * MS, event);
            }
            Out::ListAt { at, recording, revision, sha256 } => {
                let event = Event::List { node: id, boot, at, recording, revision, sha256 };
                self.later(2 * MS, 15 * MS, event);
            }
            Out::Published(voice) => self.published(id, &voice),
            Out::Dropped(name, segments) => {
                self.trace(format!("{id}: drops its captures of {name}"));
                for (segment, frames) in segments {
                    self.check.dropped(id, name, segment, &frames);
                }
            }
            Out::Applied(applied) => self.applied(id, &applied),
            Out::Acknowledged(proposal) => self.check.acknowledged(proposal),
            Out::Learnt(words) => self.learnt(id, &words),
            Out::Words(words) => self.tell_of_pauses(id, &words),
            Out::EndSession => {
                let session = self.hosts[&id].aes.session;
                self.later(15 * MS, 50 * MS, Event::EndSession(id, session));
            }
            Out::Exit => self.exit(id),
            Out::Trace(line) => self.trace(line),
            Out::Fatal(what) => self.check.fail(Kind::Raft, format!("node {id}: {what}")),
            asked => self.ask_switch(id, asked),
        }
    }

    fn published(&mut self, id: NodeId, voice: &Voice) {
        let (recording, revision) = (voice.recording, voice.revision);
        let calls: Vec<u64> = voice.frames.calls().collect();
        self.trace(format!(
            "{id}: PUBLISHED {recording} copy {} revision {revision}: calls {calls:?}, {} frames",
            voice.copy,
            voice.frames.len()
        ));
        self.check.published(id, voice);
    }

    fn applied(&mut self, id: NodeId, applied: &[Applied]) {
        let first = self.check.last_applied;
        if let Some(process) = &self.hosts[&id].process {
            self.check.applied(&process.node, applied);
        }
        for entry in applied.iter().filter(|applied| applied.index > first) {
            self.trace(entry_in_words(entry));
        }
    }

    fn ask_switch(&mut self, node: NodeId, out: Out) {
        let (up, socket) = (self.hosts[&node].aes.up, self.hosts[&node].aes.socket);
        match out {
            Out::Join { ticket, call, party, phantom } => {
                self.trace(format!("{node}: joins call {} with {phantom}", call.as_str()));
                if !up {
                    let why = JoinRefusal::Other("not sent".to_owned());
                    let boot = Some(self.hosts[&node].boot);
                    let input = Box::new(Input::Refused(ticket, why));
                    return self.schedule(self.now + 1, Event::To(node, boot, input));
                }
                let party = Device::parse(party.as_str());
                let event = Event::Join { node, socket, ticket, call, party, phantom };
                self.later(15 * MS, 40 * MS, event);
            }
            Out::Leave { phantom, call } if up => {
                self.trace(format!("{node}: takes {phantom} out of call {}", call.as_str()));
                let event = Event::Leave { node, socket, phantom, call };
                self.later(5 * MS, 30 * MS, event);
            }
            Out::AskLinkage { call } if up => {
                self.later(5 * MS, 30 * MS, Event::AskLinkage { node, socket, call });
            }
            Out::SnapshotCall { call } if up => {
                self.later(5 * MS, 30 * MS, Event::SnapshotCall { node, socket, call });
            }
            _ => {}
        }
    }

    /// Something that the AES says to a node, in order.
    fn answer(&mut self, id: NodeId, input: Input) {
        let delay = self.rng.range(MS, 6 * MS);
        let Some(host) = self.hosts.get_mut(&id) else { return };
        let at = (self.now + delay).max(host.aes.last + 1);
        host.aes.last = at;
        let event = Event::FromAes(id, host.aes.socket, Box::new(input));
        self.schedule(at, event);
    }

    /// Tells every node what its monitors see, and looks at what every phantom hears.
    pub fn tell_all(&mut self) {
        let told = std::mem::take(&mut self.switch.told);
        for told in &told {
            self.trace(format!("switch tells {}", told.in_words()));
        }
        let ids: Vec<NodeId> = self.hosts.keys().copied().collect();
        for told in &told {
            for id in &ids {
                let events = self.events_for(*id, told);
                if !events.is_empty() {
                    self.answer(*id, Input::Events(events));
                }
            }
        }
        for call in std::mem::take(&mut self.switch.over) {
            self.call_over(&call);
        }
        self.touch_all();
    }

    fn events_for(&self, id: NodeId, told: &Told) -> Vec<CallEvent> {
        let host = &self.hosts[&id];
        if !host.aes.up || host.role == Role::Witness {
            return Vec::new();
        }
        let seen = told.devices.iter().filter_map(|(device, who)| monitor(host, device, *who));
        let event =
            |monitor| CallEvent { monitor, change: told.change.clone(), facts: told.facts.clone() };
        seen.map(event).collect()
    }

    fn call_over(&mut self, call: &Call) {
        self.trace(format!("switch: call {} ({}) is over", call.uid, call.id.as_str()));
        self.gaps.remove(&call.uid);
        let from = call.established;
        let able = self.hosts.values().filter(|host| {
            host.able_since.is_some_and(|since| from.is_some_and(|from| since <= from))
        });
        self.past.push(Past {
            uid: call.uid,
            from,
            to: call.deserted.unwrap_or(self.now),
            merged: call.merged,
            handled: call.handled,
            able: able.map(|host| host.id).collect(),
        });
    }

    fn touch(&mut self, id: NodeId, phantom: &Extension) {
        let heard = self.switch.hears(phantom);
        let now = self.now;
        if let Some(host) = self.hosts.get_mut(&id) {
            host.hear(now, phantom, heard);
        }
    }

    pub fn touch_all(&mut self) {
        let now = self.now;
        let mut hears = BTreeMap::new();
        for call in self.switch.calls.values() {
            for (phantom, _, leg) in call.phantoms() {
                if leg.media && !leg.deaf {
                    hears.insert(phantom.clone(), call.uid);
                }
            }
        }
        let ids: Vec<NodeId> = self.hosts.keys().copied().collect();
        for id in ids {
            let Some(host) = self.hosts.get_mut(&id) else { continue };
            if host.recorder().is_none() {
                continue;
            }
            for phantom in host.phantoms.clone() {
                host.hear(now, &phantom, hears.get(&phantom).copied());
            }
            self.carry_out(id);
        }
    }

    pub fn excuse(&mut self, call: Option<u64>, node: NodeId, span: Time) {
        if let Some(uid) = call {
            let until = self.excused.entry((uid, node)).or_default();
            *until = (*until).max(self.now + span);
        }
    }

    fn spawn(&mut self) {
        match people::spawn(&mut self.switch, &mut self.rng, self.now) {
            Some((uid, step, delay)) => {
                let id = self.switch.calls[&uid].id.as_str().to_owned();
                self.trace(format!("switch: call {uid} ({id}) rings"));
                self.tell_all();
                self.schedule(self.now + delay, Event::Person(uid, step));
            }
            None if !self.healing => self.schedule(self.now + 400 * MS, Event::Spawn),
            None => {}
        }
    }

    fn person(&mut self, uid: u64, step: Step) {
        let next = people::step(&mut self.switch, &mut self.rng, self.now, uid, step);
        self.trace(format!("people: call {uid} {step:?}"));
        if let Step::Join(second) = step {
            let is_up = |uid: u64| self.switch.calls.contains_key(&uid);
            let merged = |uid: u64| self.switch.calls.get(&uid).is_some_and(|call| call.merged);
            match (is_up(uid), is_up(second)) {
                (false, true) if merged(second) => self.pauses_merged(uid, second),
                (true, false) if merged(uid) => self.pauses_merged(second, uid),
                _ => {}
            }
        }
        self.tell_all();
        if let Some((uid, step, delay)) = next {
            self.schedule(self.now + delay, Event::Person(uid, step));
        } else if let Some(call) = self.switch.calls.get(&uid)
            && call.people().next().is_some()
        {
            // Nothing more was in its book: it ends.
            self.schedule(self.now + SECOND, Event::Person(uid, Step::HangUp));
        }
    }

    fn reaches(&self, a: NodeId, b: NodeId) -> bool {
        let there = self.hosts.get(&b).is_some_and(|host| host.process.is_some() && !host.hung);
        there && self.net.connected(a, b)
    }
}

/// An entry of the log, for the trace.
fn entry_in_words(applied: &Applied) -> String {
    let what = match &applied.entry {
        Entry::Command(proposal) | Entry::Membership(proposal) => match &proposal.command {
            Command::Claim(claim) => format!(
                "claim {}/{} of {} copy {} take {}",
                claim.node, claim.segment, claim.recording, claim.copy, claim.take
            ),
            Command::End { stretch, .. } => {
                format!("end of {}/{} in {}", stretch.node, stretch.segment, stretch.recording)
            }
            Command::Release { stretch } => {
                format!("release of {}/{} in {}", stretch.node, stretch.segment, stretch.recording)
            }
            Command::Seal(seal) => {
                format!("seal of {} revision {} by {}", seal.recording, seal.revision, seal.node)
            }
            other => format!("{other:?}"),
        },
        other => format!("{other:?}"),
    };
    format!("log {}: {what}: {:?}", applied.index, applied.outcome)
}

/// What a peer says when it is asked for captures.
enum Pulled {
    Busy,
    NotFound,
    Captures(Vec<(SegmentId, Frames)>),
}
