//! The thread in which Raft runs: it feeds the member with ticks, messages and proposals, makes
//! durable what has to be, sends what may go, and publishes what was applied. It has no policy;
//! the order is the core's.
//!
//! A panic in Raft (it panics where its own invariants are broken) or a disk that refuses the log
//! ends the thread. A member without its log must not go on as if it had one, so the process is
//! expected to end: see `Group::failed`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use cluster_core::node::{Applied, Done, Entry, Finished, StepError};
use cluster_core::wire::{Kind, Message};
use cluster_core::{
    Announce, Change, Command, DutyGrant, GroupView, Node, NodeConfig, Outcome, PeerEvent,
    ProposalId, State, Stored,
};
use storage_core::{MonoTime, NodeId};
use tokio::sync::{broadcast, oneshot, watch};

use crate::alarm::{GroupAlarm, GroupFailure};
use crate::cadence::Cadence;
use crate::clock::Clock;
use crate::hello::{RefusalCode, Stage};
use crate::links::{Links, Shared};
use crate::log_store::LogStore;
use crate::marker::ClusterId;

/// What reaches the thread.
pub(crate) enum Input {
    /// A message of a peer.
    Raft { from: NodeId, message: Box<Message> },
    /// A link saw something.
    Peer { node: NodeId, event: PeerEvent },
    /// A connection with a peer came about.
    Met { node: NodeId, cluster: ClusterId, stage: Stage, address: Option<String> },
    /// A peer refused this member, or this member the peer's answer.
    Refused { node: NodeId, code: RefusalCode, reason: String },
    /// This member refused somebody.
    TurnedAway { reason: String },
    /// Somebody wants something in the log.
    Propose { command: Command, deadline: MonoTime, reply: oneshot::Sender<ProposeResult> },
    /// The group's leadership shall go elsewhere.
    Transfer { to: NodeId },
    /// It is over.
    Stop,
}

/// How a proposal ended.
pub(crate) type ProposeResult = Result<Outcome, crate::ProposeFailure>;

/// What the thread publishes.
pub(crate) struct Published {
    pub(crate) view: watch::Sender<GroupView>,
    pub(crate) duty: watch::Sender<DutyGrant>,
    pub(crate) alarms: watch::Sender<Vec<GroupAlarm>>,
    pub(crate) failed: watch::Sender<Option<Arc<GroupFailure>>>,
    pub(crate) changes: broadcast::Sender<Change>,
    /// A copy of the state, so that nobody who reads waits for a disk.
    pub(crate) state: Arc<RwLock<State>>,
}

/// What the thread is started with.
pub(crate) struct Start {
    pub(crate) config: NodeConfig,
    pub(crate) stored: Option<Stored>,
    /// The first members, for a group that is only beginning.
    pub(crate) peers: BTreeMap<NodeId, String>,
    pub(crate) cluster: ClusterId,
    pub(crate) announce: Announce,
    pub(crate) store: LogStore,
    pub(crate) shared: Arc<Shared>,
    pub(crate) links: Arc<Links>,
    pub(crate) clock: Clock,
}

pub(crate) struct Driver {
    pub(crate) start: Start,
    pub(crate) published: Published,
    pub(crate) node: Option<Node>,
    pub(crate) waiting: BTreeMap<ProposalId, oneshot::Sender<ProposeResult>>,
    /// Proposals from before there was a log.
    pub(crate) early: Vec<(Command, MonoTime, oneshot::Sender<ProposeResult>)>,
    /// What peers say of themselves while this member has no log.
    pub(crate) met: BTreeMap<NodeId, (ClusterId, Stage)>,
    /// Addresses of members that the log does not name here yet.
    pub(crate) guests: BTreeMap<NodeId, String>,
    pub(crate) announced: Option<ProposalId>,
    pub(crate) alarms: BTreeMap<AlarmKey, GroupAlarm>,
    /// Who was turned away of late, without the port.
    pub(crate) turned_away: BTreeMap<String, (Instant, String)>,
    pub(crate) publishing: Cadence,
    /// The peers' clocks as they are shown, and since when.
    pub(crate) clocks: BTreeMap<NodeId, (u64, i64)>,
    pub(crate) clocks_shown: Instant,
}

/// Which alarm: one of a kind at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum AlarmKey {
    Peer(NodeId),
    Clock(NodeId),
    Announce,
    NotMember,
    LogFull,
}

impl Driver {
    /// Inputs taken in one go, so that ticks are kept under load.
    const BURST: usize = 256;
    /// Proposals that wait for the group to come about.
    const EARLY_MAX: usize = 4096;
    /// How often what changes by itself (who is heard, clocks) is published.
    const PUBLISH_EVERY: Duration = Duration::from_millis(200);
    /// How often clocks are shown anew.
    const CLOCKS_EVERY: Duration = Duration::from_secs(1);
    const STRANGERS_MAX: usize = 16;
    const STRANGER_KEPT: Duration = Duration::from_secs(10);
    /// A peer's clock further off than this is an alarm.
    const OFFSET_MAX_US: u64 = 50_000;

    pub(crate) fn new(start: Start, published: Published) -> Self {
        Self {
            start,
            published,
            node: None,
            waiting: BTreeMap::new(),
            early: Vec::new(),
            met: BTreeMap::new(),
            guests: BTreeMap::new(),
            announced: None,
            alarms: BTreeMap::new(),
            turned_away: BTreeMap::new(),
            publishing: Cadence::new(Self::PUBLISH_EVERY, Instant::now()),
            clocks: BTreeMap::new(),
            clocks_shown: Instant::now(),
        }
    }

    /// Runs until it is stopped or cannot go on.
    pub(crate) fn run(mut self, inputs: &Receiver<Input>) {
        let _guard = PanicEnds;
        if let Err(failure) = self.work(inputs) {
            tracing::error!(failure = %failure.in_words(), "this member cannot go on");
            self.published.failed.send_replace(Some(Arc::new(failure)));
        }
        for (_, reply) in std::mem::take(&mut self.waiting) {
            // Whoever asked may have gone.
            let _ = reply.send(Err(crate::ProposeFailure::Stopped));
        }
    }

    fn work(&mut self, inputs: &Receiver<Input>) -> Result<(), GroupFailure> {
        if let Some(stored) = self.start.stored.take() {
            self.begin(stored)?;
        }
        self.relink();
        let tick = self.start.config.ticks.tick;
        let mut next_tick = Instant::now() + tick;
        loop {
            self.start.shared.pulse.beat();
            match inputs.recv_timeout(next_tick.saturating_duration_since(Instant::now())) {
                Ok(input) => {
                    if !self.take_burst(input, inputs)? {
                        return Ok(());
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            let now = Instant::now();
            let ticks = now >= next_tick;
            if ticks {
                // Ticks that were missed are not made up for: the peers had theirs.
                next_tick = (next_tick + tick).max(now);
                self.tick()?;
            }
            self.pump()?;
            if ticks {
                self.start.links.beat();
            }
            if let Some(error) = self.start.shared.gate.take_failure() {
                return Err(error.into());
            }
            if self.publishing.due(now) {
                self.publish();
            }
        }
    }

    /// Takes what has come, within bounds; false when it is over.
    fn take_burst(&mut self, first: Input, more: &Receiver<Input>) -> Result<bool, GroupFailure> {
        let rest = std::iter::from_fn(|| more.try_recv().ok()).take(Self::BURST);
        for input in std::iter::once(first).chain(rest) {
            if matches!(input, Input::Stop) {
                return Ok(false);
            }
            self.take(input)?;
        }
        Ok(true)
    }

    fn take(&mut self, input: Input) -> Result<(), GroupFailure> {
        let now = self.now();
        match input {
            Input::Raft { from, message } => self.step(now, from, *message)?,
            Input::Peer { node: peer, event } => {
                // What was heard before a reset must not be taken for a sign of life after it.
                self.take_unhurried(now)?;
                if let Some(node) = &mut self.node {
                    node.peer(now, peer, event);
                    if event != PeerEvent::Heard {
                        self.publishing.hurry();
                    }
                }
            }
            Input::Met { node, cluster, stage, address } => {
                self.meet(node, cluster, stage, address)?;
            }
            Input::Refused { node, code, reason } => self.refused(node, code, reason)?,
            Input::TurnedAway { reason } => self.turned_away(reason),
            Input::Propose { command, deadline, reply } => self.propose(command, deadline, reply),
            Input::Transfer { to } => {
                if let Some(node) = &mut self.node {
                    node.transfer_leader(to);
                }
            }
            Input::Stop => {}
        }
        Ok(())
    }

    fn step(&mut self, now: MonoTime, from: NodeId, message: Message) -> Result<(), GroupFailure> {
        let Some(node) = &mut self.node else { return Ok(()) };
        match node.step(now, from, message) {
            Ok(()) => Ok(()),
            Err(StepError::Alarm(alarm)) => Err(alarm.into()),
            Err(error) => {
                tracing::debug!(peer = %from, %error, "message not taken");
                self.start.shared.counters.messages_refused.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    fn tick(&mut self) -> Result<(), GroupFailure> {
        let now = self.now();
        self.take_unhurried(now)?;
        if let Some(node) = &mut self.node {
            node.tick(now);
            // Silence is nobody's message: what follows from it is noticed here.
            if node.duty(now) != *self.published.duty.borrow() {
                self.publishing.hurry();
            }
        } else {
            self.consider_beginning()?;
        }
        self.announce(now);
        Ok(())
    }

    fn take_unhurried(&mut self, now: MonoTime) -> Result<(), GroupFailure> {
        let unhurried = self.start.shared.take_unhurried();
        if let Some(node) = &mut self.node {
            for peer in unhurried.heard {
                node.peer(now, peer, PeerEvent::Heard);
            }
        }
        for (from, message) in unhurried.messages {
            self.step(now, from, message)?;
        }
        Ok(())
    }

    /// Drains the member: durable first, then said.
    fn pump(&mut self) -> Result<(), GroupFailure> {
        let mut changed = false;
        while let Some(node) = &mut self.node {
            let Some(work) = node.poll()? else { break };
            for message in &work.at_once {
                send(node, &self.start.links, message);
            }
            if let Some(write) = work.write {
                self.start.store.write(write)?;
            }
            for message in &work.after {
                send(node, &self.start.links, message);
            }
            let done = node.written()?;
            for message in &done.messages {
                send(node, &self.start.links, message);
            }
            changed |= self.applied(done)?;
        }
        if changed {
            self.publish();
        }
        Ok(())
    }

    /// Publishes what was applied; tells whether members or duties changed.
    fn applied(&mut self, done: Done) -> Result<bool, GroupFailure> {
        let mut changed = false;
        if !done.applied.is_empty() {
            self.follow(&done.applied);
        }
        for change in done.applied.into_iter().flat_map(|applied| applied.changes) {
            changed |= matches!(change, Change::Members | Change::Restored | Change::Duties { .. });
            // Nobody may be listening.
            let _ = self.published.changes.send(change);
        }
        for finished in done.finished {
            let (id, result) = match finished {
                Finished::Applied(id, outcome) => (id, Ok(outcome)),
                Finished::Late(id) => (id, Err(crate::ProposeFailure::Late)),
            };
            if self.announced == Some(id) {
                self.announcement(&result)?;
            }
            if let Some(reply) = self.waiting.remove(&id) {
                // Whoever asked may have gone.
                let _ = reply.send(result);
            }
        }
        Ok(changed)
    }

    /// Keeps the readers' copy of the state in step.
    fn follow(&self, applied: &[Applied]) {
        let Some(node) = &self.node else { return };
        let mut copy = self.published.state.write().unwrap_or_else(PoisonError::into_inner);
        for applied in applied {
            if applied.entry == Entry::Restored {
                // What follows it in this round is in the member's state already.
                copy.clone_from(node.state());
                return;
            }
            copy.follow(applied);
        }
    }

    pub(crate) fn propose(
        &mut self,
        command: Command,
        deadline: MonoTime,
        reply: oneshot::Sender<ProposeResult>,
    ) {
        let now = self.now();
        let result = match &mut self.node {
            Some(node) => node.propose(now, command, deadline),
            None if self.early.len() < Self::EARLY_MAX => {
                self.early.push((command, deadline, reply));
                return;
            }
            None => Err(cluster_core::ProposeError::Busy(self.early.len())),
        };
        match result {
            Ok(id) => {
                self.waiting.insert(id, reply);
            }
            Err(error) => {
                // Whoever asked may have gone.
                let _ = reply.send(Err(error.into()));
            }
        }
    }

    fn refused(
        &mut self,
        node: NodeId,
        code: RefusalCode,
        reason: String,
    ) -> Result<(), GroupFailure> {
        match code {
            RefusalCode::OtherDisk => Err(GroupFailure::OtherDisk { by: node, reason }),
            RefusalCode::Removed => Err(GroupFailure::Removed { by: node }),
            RefusalCode::Duplicate | RefusalCode::Other => {
                let alarm = GroupAlarm::PeerRefuses { node, reason };
                self.alarms.insert(AlarmKey::Peer(node), alarm);
                Ok(())
            }
        }
    }

    /// The same stranger comes again and again: one alarm, for as long as it does.
    fn turned_away(&mut self, reason: String) {
        // The port is another one each time.
        let (from, why) = reason.split_once(' ').unwrap_or(("", &reason));
        let key = format!("{} {why}", from.rsplit_once(':').map_or(from, |(host, _)| host));
        let known = self.turned_away.contains_key(&key);
        if known || self.turned_away.len() < Self::STRANGERS_MAX {
            if !known {
                tracing::warn!(reason, "turned somebody away");
            }
            // In the words of the first time, or the alarm would be another one each time.
            self.turned_away.entry(key).or_insert((Instant::now(), reason)).0 = Instant::now();
        }
    }

    pub(crate) fn publish(&mut self) {
        let now = self.now();
        self.relink();
        self.watch_clocks();
        self.watch_room();
        let counters = &self.start.shared.counters;
        let sync_us = u64::try_from(self.start.store.sync_time.as_micros()).unwrap_or(u64::MAX);
        counters.log_syncs.store(self.start.store.syncs, Ordering::Relaxed);
        counters.log_sync_us.store(sync_us, Ordering::Relaxed);
        if let Some(node) = &self.node {
            let mut view = node.view(now);
            // They are never twice the same, and whoever watches is woken by each change.
            if self.clocks.is_empty() || self.clocks_shown.elapsed() >= Self::CLOCKS_EVERY {
                self.clocks_shown = Instant::now();
                self.clocks = self.start.links.clocks();
            }
            for (peer, (round_trip, offset)) in &self.clocks {
                view.round_trip_us.insert(*peer, *round_trip);
                view.clock_offset_us.insert(*peer, *offset);
            }
            // The view first: whoever is woken by a duty finds the group that it belongs to.
            let duty = view.duty;
            replace(&self.published.view, view);
            replace(&self.published.duty, duty);
        }
        self.turned_away.retain(|_, (last, _)| last.elapsed() < Self::STRANGER_KEPT);
        let strangers = self.turned_away.values();
        let strangers =
            strangers.map(|(_, reason)| GroupAlarm::TurnedAway { reason: reason.clone() });
        replace(&self.published.alarms, self.alarms.values().cloned().chain(strangers).collect());
    }

    fn watch_clocks(&mut self) {
        self.alarms.retain(|key, _| !matches!(key, AlarmKey::Clock(_)));
        for (node, (round_trip, offset_us)) in self.start.links.clocks() {
            // Half a round trip is what the measurement itself may be off.
            if offset_us.unsigned_abs() > Self::OFFSET_MAX_US + round_trip / 2 {
                let alarm = GroupAlarm::ClockOff { node, offset_ms: offset_us / 1000 };
                self.alarms.insert(AlarmKey::Clock(node), alarm);
            }
        }
    }

    /// A full disk is told as long as it is one.
    fn watch_room(&mut self) {
        self.start.store.restore_reserve();
        match self.start.store.lives_on_reserve() {
            Some(folder) => {
                let alarm = GroupAlarm::LogFull { folder: folder.to_owned() };
                self.alarms.insert(AlarmKey::LogFull, alarm);
            }
            None => drop(self.alarms.remove(&AlarmKey::LogFull)),
        }
    }

    /// Links to all members, and to those that have made themselves known.
    pub(crate) fn relink(&mut self) {
        let addresses = self.addresses();
        self.guests.retain(|node, _| !addresses.contains_key(node));
        let mut all = addresses;
        all.extend(self.guests.iter().map(|(node, address)| (*node, address.clone())));
        self.start.links.set(&all);
        if let Some(node) = &self.node {
            let removed: BTreeSet<NodeId> = node.state().removed().clone();
            self.guests.retain(|guest, _| !removed.contains(guest));
            let members = self.members().keys().copied().collect();
            self.start.shared.gate.regroup(members, removed);
        }
    }

    /// The members as the log names them; the first ones' while it names none.
    pub(crate) fn members(&self) -> BTreeMap<NodeId, String> {
        let members = self.node.as_ref().map(|node| node.state().members());
        match members.filter(|members| !members.is_empty()) {
            Some(members) => {
                members.iter().map(|(node, member)| (*node, member.address.clone())).collect()
            }
            None => self.start.peers.clone(),
        }
    }

    /// The same, but the configuration knows better where somebody is.
    pub(crate) fn addresses(&self) -> BTreeMap<NodeId, String> {
        let mut members = self.members();
        for (node, address) in &self.start.peers {
            if let Some(known) = members.get_mut(node) {
                known.clone_from(address);
            }
        }
        members
    }

    pub(crate) fn now(&self) -> MonoTime {
        self.start.clock.mono()
    }
}

/// Raft panics where its invariants are broken; a process that has lost them must not go on, also
/// where panics unwind.
struct PanicEnds;

impl Drop for PanicEnds {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

fn send(node: &mut Node, links: &Links, message: &Message) {
    let sent = links.send(message);
    if message.kind == Kind::Snapshot {
        node.snapshot_sent(message.to, sent);
    }
}

/// Publishes a value if it is another one.
fn replace<T: PartialEq>(watch: &watch::Sender<T>, value: T) {
    watch.send_if_modified(|current| {
        let changed = *current != value;
        if changed {
            *current = value;
        }
        changed
    });
}
