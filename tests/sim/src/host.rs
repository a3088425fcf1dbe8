//! One host: its disk, its clock, and the process on it, if one runs. Here the pure cores are held
//! together as the daemon's shells hold them (`src/bridge/mod.rs`, `src/bridge/carry.rs`,
//! `recorder/src/control_task.rs`, `recorder/src/media_worker.rs`, `cluster/src/driver.rs`): the same
//! inputs in the same order, the same things carried out. What reaches beyond the host goes out as an
//! [`Out`].

mod capture;
mod member;
mod pause;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use astlogger::bridge::core::{About, Bridge, Output, SealOrder, SealOutcome};
use astlogger::bridge::health::{Signs, Teller};
use astlogger::bridge::words;
use cluster_core::node::{Applied, Write};
use cluster_core::wire::{Kind, Message};
use cluster_core::{
    Announce, Command, GroupView, Node, NodeConfig, Patience, PeerEvent, ProposalId, Ticks,
};
use recorder_core::call::event::{CallEvent, CallSnapshot};
use recorder_core::call::order::Ticket;
use recorder_core::call::pool::PhantomState;
use recorder_core::call::roster::Roster;
use recorder_core::call::rule::Rules;
use recorder_core::call::{
    Calls, JoinRefusal, Mandate, Order, PauseRequest, PauseWord, Peer, Request, TriggerConfig,
};
use recorder_core::controller::GroupWord;
use recorder_core::media::{MediaNotice, Writing};
use storage_core::journal::Fact;
use storage_core::{
    CallId, Extension, MonoTime, NodeId, Now, RecordingId, Role, SegmentId, Ucid, WallTime,
};

use crate::disk::{Disk, Heard1, Voice};
use crate::frames::Frames;
use crate::{EPOCH, MS, SECOND, Time};

/// How long a proposal of the bridge may be under way.
const PROPOSAL: Time = 2 * SECOND;
/// How long the group may take to confirm a health.
const HEALTH_PATIENCE: Time = 5 * SECOND;
/// What changes by itself is published so often.
const PUBLISH_EVERY: Time = 200 * MS;
const HAND_OVER_PATIENCE: Time = 4 * SECOND;
const SEAL_PATIENCE: Time = 4 * SECOND;
const BURST: usize = 256;
/// A segment that hears nothing for so long is silent.
const SILENT_AFTER: Time = 3 * SECOND;

/// What reaches a process.
#[derive(Clone, Debug)]
pub enum Input {
    Beat,
    Look,
    Timer,
    Deliver { from: NodeId, message: Option<Box<Message>> },
    Peer { about: NodeId, event: PeerEvent },
    SnapshotSent { to: NodeId, sent: bool },
    Written,
    LinkUp { recovered: bool },
    LinkDown,
    Events(Vec<CallEvent>),
    Snapshots(Vec<CallSnapshot>),
    ResyncDone,
    UnknownCall(CallId),
    Linkage(CallId, Option<Ucid>),
    Joined(Ticket),
    Refused(Ticket, JoinRefusal),
    Left(Extension),
    PhantomReady(Extension),
    MediaStarted(Extension),
    Heard { segment: SegmentId, received: WallTime },
    Audible(SegmentId),
    Writing(bool),
    Silence { phantom: Extension, segment: SegmentId },
    Stray(Extension),
    Outline(RecordingId),
    Sealed(RecordingId, SealOutcome, Option<Box<Voice>>),
    Publish(RecordingId, u32),
    ListOwn(RecordingId, u32, [u8; 32]),
    Listed(RecordingId, u32, bool, [u8; 32]),
    Ask(Box<Request>),
    Pause(Box<PauseRequest>),
    Words(Vec<PauseWord>),
    Spread,
    Command(Box<Command>),
    Stop,
    StopStep,
}

/// What goes beyond the host.
#[derive(Clone, Debug)]
pub enum Out {
    Send(Message),
    Write,
    After(Time, Input),
    Join {
        ticket: Ticket,
        call: CallId,
        party: Extension,
        phantom: Extension,
    },
    Leave {
        phantom: Extension,
        call: CallId,
    },
    AskLinkage {
        call: CallId,
    },
    SnapshotCall {
        call: CallId,
    },
    /// What this phantom hears is to be looked at again.
    Touch(Extension),
    WatchPeers(BTreeSet<Extension>),
    Seal(SealOrder),
    ListAt {
        at: NodeId,
        recording: RecordingId,
        revision: u32,
        sha256: [u8; 32],
    },
    Published(Box<Voice>),
    /// The journal owes these frames of these segments nothing any more; the recording's name as
    /// far as the journal knows it.
    Dropped(RecordingId, Vec<(SegmentId, Frames)>),
    Applied(Vec<Applied>),
    Acknowledged(ProposalId),
    /// What this node has learnt of pauses, or decided.
    Learnt(Vec<PauseWord>),
    /// What all others are told of pauses.
    Words(Vec<PauseWord>),
    EndSession,
    Exit,
    Trace(String),
    Fatal(String),
}

#[derive(Clone, Debug)]
enum RaftInput {
    Tick,
    Step(NodeId, Box<Message>),
    Peer(NodeId, PeerEvent),
    SnapshotSent(NodeId, bool),
    Propose(Asked, Command, Time),
}

#[derive(Clone, Copy, Debug)]
enum Asked {
    Bridge(About),
    Health,
    Drain,
    Other,
}

/// A ring.
#[derive(Clone, Debug, Default)]
pub struct Ring {
    reach: Time,
    heard: Vec<Heard1>,
}

/// A phantom's port.
#[derive(Clone, Debug, Default)]
pub struct Port {
    segment: Option<SegmentId>,
    known: bool,
    told: bool,
    silent: bool,
    quiet_since: Time,
    /// What it keeps in memory, as long as its segment is a ring only.
    ring: Option<Ring>,
    /// Which call it hears, since when.
    pub hearing: Option<(u64, Time, WallTime)>,
    /// Which call it would hear, since when, if that were not paused.
    pub hidden: Option<(u64, Time)>,
}

impl Port {
    /// The segment that is open on it, and what that hears since when.
    pub fn heard(&self) -> Option<(SegmentId, (u64, Time, WallTime))> {
        self.segment.zip(self.hearing)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    No,
    HandOver { until: Time, asked: bool },
    Finish { until: Time },
}

/// The parts of a process that records.
pub struct Recorder {
    pub calls: Calls,
    pub bridge: Bridge,
    mandate: Option<Mandate>,
    peers: BTreeMap<NodeId, Peer>,
    teller: Teller,
    health_asked: bool,
    staged: BTreeMap<(RecordingId, u32), Voice>,
    facts: VecDeque<Fact>,
    pub ports: BTreeMap<Extension, Port>,
    /// The phantoms that discard what they hear.
    muted: BTreeSet<Extension>,
    pub timer: Option<Time>,
    writing: Writing,
    /// When the media thread looks at its disk again.
    look_at: Time,
    pub aes_up: bool,
    pub calls_known: bool,
    had_phantoms: bool,
    stop: Stop,
}

/// A running process.
pub struct Process {
    pub started: Time,
    pub node: Node,
    inbox: VecDeque<RaftInput>,
    writing: Option<(Write, Vec<Message>)>,
    asked: BTreeMap<ProposalId, Asked>,
    pub view: GroupView,
    publish_at: Time,
    pub recorder: Option<Recorder>,
}

/// The AES side of a host's session.
#[derive(Clone, Debug, Default)]
pub struct Aes {
    /// The socket is up.
    pub up: bool,
    /// The link is cut: no socket comes about.
    pub cut: bool,
    pub session: u64,
    /// Which start of the process has it.
    pub session_boot: u64,
    /// Counts sockets: what was on its way on an older one is lost.
    pub socket: u64,
    /// Its phantoms are registered.
    pub registered: bool,
    /// The session still stands.
    pub alive: bool,
    /// What was sent last arrives then.
    pub last: Time,
    pub watched: BTreeSet<Extension>,
}

/// A host.
pub struct Host {
    pub id: NodeId,
    pub role: Role,
    pub phantoms: Vec<Extension>,
    pub disk: Disk,
    pub boot: u64,
    /// Its wall clock's error, microseconds, and its drift in parts per million.
    pub offset: i64,
    pub drift: i64,
    pub process: Option<Process>,
    pub hung: bool,
    pub stalled: VecDeque<Input>,
    pub aes: Aes,
    pub able_since: Option<Time>,
    /// Since when its media thread knows that its disk is full, whatever it thought of that later.
    pub full_since: Option<Time>,
    /// Since when its process sees a majority.
    pub quorum_since: Option<Time>,
    pub out: Vec<Out>,
    pub removed: bool,
    /// All that was ever written down or kept in a ring: which call, from when to when.
    pub captured: Vec<(u64, Time, Time)>,
}

impl Host {
    pub fn new(id: NodeId, role: Role, phantoms: Vec<Extension>, disk: Disk) -> Self {
        Self {
            id,
            role,
            phantoms,
            disk,
            boot: 0,
            offset: 0,
            drift: 0,
            process: None,
            hung: false,
            stalled: VecDeque::new(),
            aes: Aes::default(),
            able_since: None,
            full_since: None,
            quorum_since: None,
            out: Vec::new(),
            removed: false,
            captured: Vec::new(),
        }
    }

    pub fn wall(&self, now: Time) -> WallTime {
        let true_time = now.cast_signed();
        WallTime::from_micros(EPOCH + true_time + self.offset + true_time * self.drift / 1_000_000)
    }

    pub fn now(&self, now: Time) -> Now {
        let started = self.process.as_ref().map_or(0, |process| process.started);
        Now { mono: MonoTime::from_micros(now - started + SECOND), wall: self.wall(now) }
    }

    pub fn recorder(&self) -> Option<&Recorder> {
        self.process.as_ref()?.recorder.as_ref()
    }

    /// Whether one of its phantoms could be put into a call.
    pub fn has_free_phantom(&self, now: Time) -> bool {
        self.recorder().is_some_and(|recorder| {
            let counts = recorder.calls.phantoms(self.now(now));
            counts.get(&PhantomState::Free).is_some_and(|free| *free > 0)
        })
    }

    /// Whether its media thread thinks that it can write.
    pub fn writes(&self) -> bool {
        self.recorder().is_some_and(|recorder| recorder.writing.trouble().is_none())
    }

    pub fn is_stopping(&self) -> bool {
        self.recorder().is_some_and(|recorder| recorder.stop != Stop::No)
    }

    pub fn owns(&self, phantom: &Extension) -> bool {
        self.phantoms.contains(phantom)
    }

    /// Starts a process from what the disk holds.
    pub fn start(&mut self, now: Time, seed: u64, stations: &BTreeSet<Extension>, ring_s: u64) {
        self.boot += 1;
        let config = NodeConfig {
            id: self.id,
            role: self.role,
            ticks: Ticks::new(50, 300).expect("the defaults are sound"),
            patience: Patience {
                settle: Duration::from_millis(600),
                starting: Duration::from_secs(3),
                proving: Duration::from_secs(3),
            },
            seed,
            boot: self.boot,
        };
        let node = match Node::new(config, self.disk.stored.clone()) {
            Ok(node) => node,
            Err(alarm) => return self.out.push(Out::Fatal(format!("cannot start: {alarm}"))),
        };
        let mono = MonoTime::from_micros(SECOND);
        let view = node.view(mono);
        self.process = Some(Process {
            started: now,
            node,
            inbox: VecDeque::new(),
            writing: None,
            asked: BTreeMap::new(),
            view,
            publish_at: 0,
            recorder: None,
        });
        if self.role != Role::Witness {
            self.start_recorder(now, seed, stations, ring_s);
        }
        let phantoms: BTreeSet<Extension> = self.phantoms.iter().cloned().collect();
        let announce = Announce {
            node: self.id,
            role: self.role,
            phantoms: words::ranges(&phantoms),
            program: "1".to_owned(),
        };
        self.propose(Asked::Other, Command::Announce(announce), now + 3_600 * SECOND);
        self.settle(now);
    }

    fn start_recorder(
        &mut self,
        now: Time,
        seed: u64,
        stations: &BTreeSet<Extension>,
        ring_s: u64,
    ) {
        let mut bridge = Bridge::new(self.id);
        let locals: Vec<RecordingId> = self.disk.journal.open.keys().copied().collect();
        for local in locals {
            if let Some(outline) = self.disk.journal.outline(self.id, local) {
                bridge.outlined(local, &outline);
            }
        }
        // What the catalog lacks of this node's files is entered in the background.
        for (id, voice) in &self.disk.published {
            self.disk.catalog.entry(*id).or_insert(voice.sha256);
        }
        let phantoms: BTreeSet<Extension> = self.phantoms.iter().cloned().collect();
        let mut calls = Calls::new(TriggerConfig {
            node: self.id,
            roster: Roster { phantoms, stations: stations.clone(), ..Roster::default() },
            method: recorder_core::call::Method::Join,
            rules: Rules::read(&[]).expect("no rule is a rule"),
            max_parties: crate::switch::PARTIES_MAX,
            patience: recorder_core::call::Patience::default(),
            ring: Duration::from_secs(ring_s),
            id_seed: u128::from(seed) << 64 | u128::from(self.boot) << 16 | u128::from(self.id.0),
            first_segment: self.disk.journal.begin(),
        });
        let Some(process) = &mut self.process else { return };
        let at = Now { mono: MonoTime::from_micros(SECOND), wall: WallTime::default() };
        let at = Now { wall: WallTime::from_micros(EPOCH + now.cast_signed() + self.offset), ..at };
        let peers = words::peers(&process.view);
        calls.set_peers(at, peers.clone());
        calls.set_mandate(at, words::mandate(&process.view));
        let open = self.disk.journal.open.values().filter_map(|held| held.draft.clone());
        calls.adopt(at, open.filter(|draft| draft.ended.is_none()).collect());
        let watched = peers.values().flat_map(|peer| peer.phantoms.iter().cloned()).collect();
        self.out.push(Out::WatchPeers(watched));
        process.recorder = Some(Recorder {
            calls,
            bridge,
            mandate: None,
            peers: BTreeMap::new(),
            teller: Teller::new(at.mono),
            health_asked: false,
            staged: self.disk.staged.clone(),
            facts: VecDeque::new(),
            ports: self.phantoms.iter().map(|p| (p.clone(), Port::default())).collect(),
            muted: BTreeSet::new(),
            timer: None,
            writing: Writing::starting(self.phantoms.len(), self.disk.free()),
            look_at: now + SECOND,
            aes_up: false,
            calls_known: false,
            had_phantoms: false,
            stop: Stop::No,
        });
        if self.disk.full {
            self.out.push(Out::After(5 * MS, Input::Writing(false)));
        }
    }

    /// One input, and all that follows from it on this host.
    pub fn input(&mut self, now: Time, input: Input) {
        if self.process.is_none() {
            return;
        }
        self.take(now, input);
        self.settle(now);
    }

    fn take(&mut self, now: Time, input: Input) {
        match input {
            Input::Beat => self.beat(now),
            Input::Deliver { from, message: None } => {
                self.raft(now, RaftInput::Peer(from, PeerEvent::Heard));
            }
            Input::Deliver { from, message: Some(message) } => {
                self.raft(now, RaftInput::Step(from, message));
            }
            Input::Peer { about, event } => self.raft(now, RaftInput::Peer(about, event)),
            Input::SnapshotSent { to, sent } => self.raft(now, RaftInput::SnapshotSent(to, sent)),
            Input::Written => self.written(now),
            Input::Command(command) => self.propose(Asked::Other, *command, now + 10 * SECOND),
            Input::Stop => self.begin_stop(now),
            Input::StopStep => self.stop_step(now),
            other => self.take_recorder(now, other),
        }
    }

    /// What the files and the group bring the recorder: also while it finishes.
    fn take_recorder(&mut self, now: Time, input: Input) {
        let Some(recorder) = self.process.as_mut().and_then(|p| p.recorder.as_mut()) else {
            return;
        };
        match input {
            Input::Look => {
                let Some(process) = &mut self.process else { return };
                if let Some(recorder) = &mut process.recorder {
                    recorder.bridge.all_changed(process.node.state());
                    self.disk.inherit(&mut recorder.bridge, process.node.state());
                }
            }
            Input::Outline(local) => {
                if let Some(outline) = self.disk.journal.outline(self.id, local) {
                    recorder.bridge.outlined(local, &outline);
                }
            }
            Input::Sealed(recording, outcome, voice) => {
                if let Some(voice) = voice {
                    let key = (voice.recording, voice.revision);
                    self.disk.staged.insert(key, (*voice).clone());
                    recorder.staged.insert(key, *voice);
                }
                recorder.bridge.sealed(recording, outcome);
            }
            Input::Publish(recording, revision) => {
                match recorder.staged.get(&(recording, revision)).cloned() {
                    Some(voice) => self.publish(&voice),
                    None => recorder.bridge.listed(recording, revision, true),
                }
            }
            Input::ListOwn(recording, revision, sha256) => {
                self.list_own(recording, revision, sha256);
            }
            Input::Listed(recording, revision, done, sha256) => {
                if done {
                    self.disk.catalog.insert(recording, sha256);
                    recorder.staged.remove(&(recording, revision));
                }
                recorder.bridge.listed(recording, revision, done);
            }
            _ if matches!(recorder.stop, Stop::Finish { .. }) => {}
            other => self.take_switch(now, other),
        }
    }

    /// What time and the switch bring the calls.
    fn take_switch(&mut self, now: Time, input: Input) {
        let at = self.now(now);
        let Some(recorder) = self.process.as_mut().and_then(|p| p.recorder.as_mut()) else {
            return;
        };
        let calls = &mut recorder.calls;
        match input {
            Input::Timer => {
                recorder.timer = None;
                calls.handle_timeout(at);
            }
            Input::LinkUp { recovered } => {
                recorder.aes_up = true;
                calls.handle_link(at, true);
                if !recovered && recorder.had_phantoms {
                    for phantom in self.phantoms.clone() {
                        calls.handle_phantom_lost(at, &phantom);
                    }
                }
                calls.begin_resync(at);
            }
            Input::LinkDown => {
                (recorder.aes_up, recorder.calls_known) = (false, false);
                calls.handle_link(at, false);
            }
            Input::Events(events) => {
                for event in events {
                    calls.handle_call_event(at, &event);
                }
            }
            Input::Snapshots(snapshots) => {
                for snapshot in snapshots {
                    calls.handle_snapshot(at, &snapshot);
                }
            }
            Input::ResyncDone => {
                recorder.calls_known = true;
                calls.end_resync(at, &[]);
            }
            Input::UnknownCall(call) => calls.handle_unknown_call(at, &call),
            Input::Linkage(call, Some(ucid)) => calls.handle_ucid(at, &call, ucid),
            Input::Joined(ticket) => calls.handle_joined(at, ticket),
            Input::Refused(ticket, why) => calls.handle_join_refused(at, ticket, &why),
            Input::Left(phantom) => calls.handle_left(at, &phantom),
            Input::PhantomReady(phantom) => {
                recorder.had_phantoms = true;
                calls.handle_phantom_ready(at, &phantom);
            }
            Input::MediaStarted(phantom) => {
                calls.handle_media_started(at, &phantom, None, "g711a", 20);
            }
            Input::Ask(request) => calls.handle_request(at, &request),
            Input::Pause(request) => self.pause(now, &request),
            Input::Words(words) => self.learn_pauses(now, words),
            Input::Spread => self.spread_pauses(now),
            other => self.take_media(now, other),
        }
    }

    /// What the media thread brings them.
    fn take_media(&mut self, now: Time, input: Input) {
        let at = self.now(now);
        let Some(recorder) = self.process.as_mut().and_then(|p| p.recorder.as_mut()) else {
            return;
        };
        let calls = &mut recorder.calls;
        match input {
            Input::Heard { segment, received } => {
                let notice = MediaNotice::FirstPacket { segment, received, captured: at };
                calls.handle_media_notice(at, &notice);
            }
            Input::Audible(segment) => {
                calls.handle_media_notice(at, &MediaNotice::Audible { segment });
            }
            Input::Writing(writing) => {
                calls.handle_media_notice(at, &MediaNotice::Writing(writing));
            }
            Input::Silence { phantom, segment } => {
                let Some(port) = recorder.ports.get_mut(&phantom) else { return };
                let heard = port.hearing.is_some() || port.hidden.is_some();
                let quiet = !heard && now >= port.quiet_since + SILENT_AFTER;
                if port.segment == Some(segment) && quiet && !port.silent {
                    port.silent = true;
                    calls.handle_media_notice(at, &MediaNotice::Silent { segment });
                }
            }
            Input::Stray(phantom) => {
                let idle = recorder.ports.get(&phantom).is_some_and(|port| port.segment.is_none());
                if idle {
                    calls.handle_media_notice(at, &MediaNotice::Stray { phantom });
                }
            }
            _ => {}
        }
    }

    /// Works until nothing follows from anything any more.
    fn settle(&mut self, now: Time) {
        loop {
            let mut more = self.take_orders(now);
            more |= self.act(now);
            more |= self.pump(now);
            if !more {
                break;
            }
        }
        self.arm(now);
    }

    fn arm(&mut self, now: Time) {
        let Some(process) = &mut self.process else { return };
        let Some(recorder) = &mut process.recorder else { return };
        if matches!(recorder.stop, Stop::Finish { .. }) {
            return;
        }
        let Some(due) = recorder.calls.poll_timeout() else { return };
        let due = (due.as_micros() + process.started).saturating_sub(SECOND).max(now + 1);
        if recorder.timer.is_none_or(|timer| due < timer) {
            recorder.timer = Some(due);
            self.out.push(Out::After(due - now, Input::Timer));
        }
    }

    fn take_orders(&mut self, now: Time) -> bool {
        let mut any = false;
        while let Some(order) = self.next_order() {
            any = true;
            let Some(recorder) = self.process.as_mut().and_then(|p| p.recorder.as_mut()) else {
                return any;
            };
            match order {
                Order::Join { ticket, call, party, phantom } => {
                    self.out.push(Out::Join { ticket, call, party, phantom });
                }
                Order::Leave { phantom, call } => self.out.push(Out::Leave { phantom, call }),
                Order::AskLinkage { call, .. } => self.out.push(Out::AskLinkage { call }),
                Order::SnapshotCall { call, .. } => self.out.push(Out::SnapshotCall { call }),
                Order::Capture(fact) => self.capture(now, fact),
                Order::Ring(order) => self.ring(now, &order),
                Order::Pause(order) => self.mute(now, &order),
                Order::Claim(claim) => recorder.bridge.captured(&claim),
                Order::SegmentEnded { segment, at } => recorder.bridge.ended(segment, at),
                Order::RecordingOver { name, stopped } => recorder.bridge.over(name, stopped),
                Order::Missed { call, reason, .. } => {
                    let text = format!("{}: missed call {} ({reason:?})", self.id, call.as_str());
                    self.out.push(Out::Trace(text));
                }
                Order::Alarm(alarm) => {
                    self.out.push(Out::Trace(format!("{}: alarm {alarm:?}", self.id)));
                }
                _ => {}
            }
        }
        any
    }

    fn next_order(&mut self) -> Option<Order> {
        self.process.as_mut()?.recorder.as_mut()?.calls.poll_order()
    }

    /// The bridge looks, and what it wants is carried out.
    fn act(&mut self, now: Time) -> bool {
        let mut any = false;
        let at = self.now(now);
        loop {
            let Some(process) = &mut self.process else { return any };
            let Some(recorder) = &mut process.recorder else { return any };
            recorder.bridge.look(process.node.state(), &process.view, &self.disk);
            let mut outputs = Vec::new();
            while let Some(output) = recorder.bridge.poll() {
                outputs.push(output);
            }
            if outputs.is_empty() {
                return any;
            }
            any = true;
            for output in outputs {
                self.carry_out(now, at, output);
            }
        }
    }

    fn carry_out(&mut self, now: Time, at: Now, output: Output) {
        let id = self.id;
        match output {
            Output::Propose(about, command) => {
                self.propose(Asked::Bridge(about), *command, now + PROPOSAL);
            }
            Output::Word(word) => self.word(at, word),
            Output::Seal(order) => self.out.push(Out::Seal(order)),
            Output::Publish { recording, revision } => {
                self.out.push(Out::After(4 * MS, Input::Publish(recording, revision)));
            }
            Output::Discard { recording, revision } => {
                let key = (recording, revision);
                if let Some(recorder) = self.process.as_mut().and_then(|p| p.recorder.as_mut())
                    && recorder.staged.remove(&key).is_some()
                {
                    self.disk.staged.remove(&key);
                }
            }
            Output::List { recording, revision, sha256, at } if at == id => {
                self.out.push(Out::After(3 * MS, Input::ListOwn(recording, revision, sha256)));
            }
            Output::List { recording, revision, sha256, at } => {
                self.out.push(Out::ListAt { at, recording, revision, sha256 });
            }
            Output::Drop { local } => self.capture(now, Fact::Sealed { recordingid: local }),
        }
    }

    fn word(&mut self, at: Now, word: GroupWord) {
        let id = self.id;
        let Some(recorder) = self.process.as_mut().and_then(|p| p.recorder.as_mut()) else {
            return;
        };
        if matches!(recorder.stop, Stop::Finish { .. }) {
            return;
        }
        let calls = &mut recorder.calls;
        match word {
            GroupWord::Mandate(mandate) => {
                self.out.push(Out::Trace(format!("{id}: mandate {mandate:?}")));
                calls.set_mandate(at, mandate);
            }
            GroupWord::Peers(peers) => {
                let watched = peers.values().flat_map(|peer| peer.phantoms.iter().cloned());
                self.out.push(Out::WatchPeers(watched.collect()));
                calls.set_peers(at, peers);
            }
            GroupWord::Limits { patience, max_parties } => {
                calls.set_limits(at, patience, max_parties);
            }
            GroupWord::Claimed(claimed) => calls.handle_claimed(at, *claimed),
            GroupWord::Closed(name, over) => calls.handle_closed(at, name, over),
            GroupWord::Withdrawn(name) => calls.handle_withdrawn(at, name),
            GroupWord::Named { recording, name } => calls.handle_named(at, recording, name),
            GroupWord::Pause(word) => calls.handle_pause(at, &word),
            GroupWord::Yield(segment) => {
                self.out.push(Out::Trace(format!("{id}: yields segment {segment}")));
                calls.handle_yield(at, segment);
            }
        }
    }

    fn publish(&mut self, voice: &Voice) {
        let Some(recorder) = self.process.as_mut().and_then(|p| p.recorder.as_mut()) else {
            return;
        };
        let (recording, revision) = (voice.recording, voice.revision);
        if self.disk.full {
            return recorder.bridge.listed(recording, revision, false);
        }
        let there =
            self.disk.published.get(&recording).is_some_and(|old| old.sha256 == voice.sha256);
        let staged = self.disk.staged.remove(&(recording, revision));
        if staged.as_ref() != Some(voice) && !there {
            // It is neither staged nor published any more: it cannot be published.
            return recorder.bridge.listed(recording, revision, false);
        }
        if !there {
            self.disk.published.insert(recording, voice.clone());
            self.out.push(Out::Published(Box::new(voice.clone())));
        }
        self.disk.catalog.insert(recording, voice.sha256);
        recorder.staged.remove(&(recording, revision));
        recorder.bridge.listed(recording, revision, true);
    }

    fn list_own(&mut self, recording: RecordingId, revision: u32, sha256: [u8; 32]) {
        let Some(recorder) = self.process.as_mut().and_then(|p| p.recorder.as_mut()) else {
            return;
        };
        if let Some(voice) = recorder.staged.get(&(recording, revision)).cloned()
            && voice.sha256 == sha256
        {
            return self.publish(&voice);
        }
        let there = self.disk.catalog.get(&recording) == Some(&sha256)
            || self.disk.published.get(&recording).is_some_and(|voice| voice.sha256 == sha256);
        if there {
            self.disk.catalog.insert(recording, sha256);
        } else {
            self.out.push(Out::Trace(format!("{}: alarm recordinglost {recording}", self.id)));
        }
        recorder.bridge.listed(recording, revision, there);
    }

    fn beat(&mut self, now: Time) {
        self.look_at_disk(now);
        self.raft(now, RaftInput::Tick);
        let at = self.now(now);
        let Some(process) = &mut self.process else { return };
        let Some(recorder) = &mut process.recorder else { return };
        if recorder.health_asked || matches!(recorder.stop, Stop::Finish { .. }) {
            return;
        }
        let (in_calls, deaf) = recorder.calls.hearing(at);
        let signs = Signs {
            aes_up: recorder.aes_up,
            phantoms: recorder.calls.phantoms(at),
            disk: recorder.writing.trouble().is_none(),
            in_calls,
            deaf,
        };
        if let Some(health) = recorder.teller.look(at.mono, signs.health()) {
            recorder.health_asked = true;
            self.out.push(Out::Trace(format!("{}: {health:?}", self.id)));
            let command = Command::Health { node: self.id, health };
            self.propose(Asked::Health, command, now + HEALTH_PATIENCE);
        }
    }

    fn begin_stop(&mut self, now: Time) {
        let node = self.id;
        let Some(process) = &mut self.process else { return };
        match &mut process.recorder {
            Some(recorder) if recorder.stop == Stop::No => {
                let until = now + HAND_OVER_PATIENCE;
                recorder.stop = Stop::HandOver { until, asked: true };
                let drain = Command::Drain { node, on: true, moves: true };
                self.propose(Asked::Drain, drain, until);
                self.out.push(Out::After(20 * MS, Input::StopStep));
            }
            Some(_) => {}
            None => self.out.push(Out::Exit),
        }
    }

    fn stop_step(&mut self, now: Time) {
        let at = self.now(now);
        let Some(recorder) = self.process.as_mut().and_then(|p| p.recorder.as_mut()) else {
            return;
        };
        match recorder.stop {
            Stop::No => return,
            Stop::HandOver { until, asked } => {
                if now >= until || (!asked && recorder.calls.recordings_active() == 0) {
                    recorder.calls.drain(at);
                    recorder.calls.finish(at);
                    self.take_orders(now);
                    let until = now + SEAL_PATIENCE;
                    if let Some(recorder) = self.process.as_mut().and_then(|p| p.recorder.as_mut())
                    {
                        recorder.stop = Stop::Finish { until };
                    }
                    self.out.push(Out::EndSession);
                }
            }
            Stop::Finish { until } => {
                if now >= until || recorder.bridge.is_idle() {
                    return self.out.push(Out::Exit);
                }
            }
        }
        self.out.push(Out::After(20 * MS, Input::StopStep));
    }
}

/// Whether a message is a snapshot, whose fate the sender must be told.
pub fn is_snapshot(message: &Message) -> bool {
    message.kind == Kind::Snapshot
}
