//! One member of the group: Raft, the state, the proposals under way and what the links have seen,
//! behind inputs that return at once and one output to be drained. It owns no clock, no disk and
//! no socket; what is durable and what is sent is the shell's business, in the order that
//! [`Work`] gives.
//!
//! ```text
//! tick, step, propose, peer ──▶ Node ──poll──▶ Work: send `at_once`, make `write` durable,
//!                                 ▲                  send `after`
//!                                 └──written──▶ Done: send, publish what was applied; poll again
//! ```
//!
//! Between `poll` and `written` no other input may be given.

use std::collections::BTreeSet;

use raft::eraftpb::{self, ConfState};
use raft::{Config, Error as RaftError, RawNode, Ready, SnapshotStatus, StateRole};
use storage_core::{MonoTime, NodeId, Role};

use crate::alarm::Alarm;
use crate::command::{Command, CommandError, Outcome, Proposal, ProposalId, Refusal};
use crate::level;
use crate::peers::{PeerEvent, Peers};
use crate::proposals::{Proposals, ProposeError};
use crate::raft_log::RaftLog;
use crate::role::{Decider, Patience};
pub use crate::round::{Applied, Done, Entry, Finished, StepError, Work};
use crate::state::{Change, State};
use crate::stored::check;
pub use crate::stored::{Stored, Write};
use crate::ticks::Ticks;
use crate::wire::{Body, Kind, LogEntry, MemberChange, Message, StoredState, Vote, WireError};

/// What a member is started with.
#[derive(Clone, Copy, Debug)]
pub struct NodeConfig {
    /// Its number.
    pub id: NodeId,
    /// What it is configured for.
    pub role: Role,
    /// Heartbeat and election.
    pub ticks: Ticks,
    /// How patient duty decisions are.
    pub patience: Patience,
    /// Draws election timeouts.
    pub seed: u64,
    /// Which start of this member it is; counts up.
    pub boot: u64,
}

/// A member of the group.
pub struct Node {
    pub(crate) config: NodeConfig,
    pub(crate) raw: RawNode<RaftLog>,
    pub(crate) state: State,
    pub(crate) peers: Peers,
    pub(crate) proposals: Proposals,
    pub(crate) decider: Option<Decider>,
    pub(crate) governed: crate::govern::Governed,
    conf: ConfState,
    applied: u64,
    applied_term: u64,
    ready: Option<(Ready, Vec<eraftpb::Entry>)>,
    restored: bool,
    snapshot_due: bool,
    rebase: Option<Stored>,
    snapshots_out: BTreeSet<NodeId>,
    finished: Vec<Finished>,
    leader_known: u64,
    pub(crate) leader_heard: bool,
    pub(crate) first_tick: Option<MonoTime>,
    pub(crate) last_tick: Option<MonoTime>,
}

impl Node {
    /// How many applied entries make a new snapshot worth its while.
    pub const COMPACT_EVERY: u64 = 4096;
    /// How many entries are kept behind a snapshot for followers that are a little slow.
    pub const COMPACT_KEEP: u64 = 1024;
    const MESSAGE_BYTES_MAX: u64 = 1024 * 1024;
    const UNCOMMITTED_BYTES_MAX: u64 = 16 * 1024 * 1024;
    const COMMITTED_BYTES_MAX: u64 = 16 * 1024 * 1024;
    const INFLIGHT_MAX: usize = 256;

    /// Starts a member from what is stored.
    pub fn new(config: NodeConfig, stored: Stored) -> Result<Self, Alarm> {
        let state = match stored.snapshot.index {
            0 => State::default(),
            index => State::decode(&stored.snapshot.state)
                .map_err(|reason| Alarm::SnapshotUnreadable { index, reason })?,
        };
        let applied = stored.snapshot.index;
        let applied_term = stored.snapshot.term;
        check(&stored)?;
        let snapshot = stored.snapshot.into_raft();
        let conf = snapshot.get_metadata().get_conf_state().clone();
        let entries = stored.entries.into_iter().map(LogEntry::into_raft).collect();
        let log = RaftLog::new(stored.vote.into_raft(), snapshot, stored.before, entries);
        let raft_config = Config {
            id: u64::from(config.id.0),
            election_tick: config.ticks.election,
            heartbeat_tick: 1,
            applied,
            max_size_per_msg: Self::MESSAGE_BYTES_MAX,
            max_inflight_msgs: Self::INFLIGHT_MAX,
            check_quorum: true,
            pre_vote: true,
            max_uncommitted_size: Self::UNCOMMITTED_BYTES_MAX,
            max_committed_size_per_ready: Self::COMMITTED_BYTES_MAX,
            ..Config::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&raft_config, log, &logger)
            .map_err(|error| Alarm::Raft(error.to_string()))?;
        let patience = config.ticks.election_period();
        let mut node = Self {
            config,
            raw,
            state,
            peers: Peers::new(patience),
            proposals: Proposals::new(config.id, config.boot, patience),
            decider: None,
            governed: crate::govern::Governed::default(),
            conf,
            applied,
            applied_term,
            ready: None,
            restored: false,
            snapshot_due: false,
            rebase: None,
            snapshots_out: BTreeSet::new(),
            finished: Vec::new(),
            leader_known: 0,
            leader_heard: false,
            first_tick: None,
            last_tick: None,
        };
        node.draw_timeout();
        Ok(node)
    }

    /// One tick has passed.
    pub fn tick(&mut self, now: MonoTime) {
        let slept = self
            .last_tick
            .is_some_and(|last| now.since(last) > self.config.ticks.election_period() / 2);
        if slept {
            self.peers.slept(now);
        }
        self.last_tick = Some(now);
        self.first_tick.get_or_insert(now);
        self.raw.tick();
        self.draw_timeout();
        self.finished.extend(self.proposals.expired(now).into_iter().map(Finished::Late));
        self.follow_leader(now);
        self.govern(now);
        self.propose_due(now);
    }

    /// A message came over the link from `link`.
    pub fn step(&mut self, now: MonoTime, link: NodeId, message: Message) -> Result<(), StepError> {
        self.peers.note(now, link, PeerEvent::Heard);
        self.admit(link, &message)?;
        if message.kind == Kind::Propose && self.removes_self(&message) {
            // A leader cannot be removed under itself: it steps aside, and the proposer repeats.
            self.transfer_away(now);
            return Ok(());
        }
        let result = self.raw.step(message.into_raft());
        self.draw_timeout();
        self.follow_leader(now);
        match result {
            Ok(()) => Ok(()),
            Err(RaftError::StepPeerNotFound) => Err(StepError::NotMember(link)),
            Err(_) => Err(StepError::Ignored),
        }
    }

    /// A link saw something of a peer. A process that is gone is acted upon at once.
    pub fn peer(&mut self, now: MonoTime, peer: NodeId, event: PeerEvent) {
        let dead_before = self.peers.dead(peer);
        self.peers.note(now, peer, event);
        if self.peers.dead(peer) && !dead_before {
            self.raw.report_unreachable(u64::from(peer.0));
            self.leader_died(now);
            self.govern(now);
            self.propose_due(now);
        }
    }

    /// Wants something in the log. It is repeated until applied or `deadline`.
    pub fn propose(
        &mut self,
        now: MonoTime,
        command: Command,
        deadline: MonoTime,
    ) -> Result<ProposalId, ProposeError> {
        let (level, known) = (level::of(&command), self.state.level());
        if level > known {
            return Err(ProposeError::Level { level, known });
        }
        let command = match command {
            Command::Announce(announce) => Command::Announce(level::announced(announce)),
            command => command,
        };
        let id = self.proposals.add(now, command, deadline)?;
        self.propose_due(now);
        Ok(id)
    }

    /// Asks the leader to hand the group's leadership to `to`.
    pub fn transfer_leader(&mut self, to: NodeId) {
        self.raw.transfer_leader(u64::from(to.0));
        self.draw_timeout();
    }

    /// Calls an election now.
    pub fn campaign(&mut self) {
        // Refused only while a membership change is being applied; the timer comes back to it.
        let _ = self.raw.campaign();
        self.draw_timeout();
    }

    /// A message with a snapshot was handed to the link, or could not be.
    pub fn snapshot_sent(&mut self, to: NodeId, sent: bool) {
        if self.snapshots_out.remove(&to) {
            let status = if sent { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
            self.raw.report_snapshot(u64::from(to.0), status);
        }
    }

    /// What is to be done next; `None` if there is nothing. Must be followed by
    /// [`Self::written`] before any other input.
    pub fn poll(&mut self) -> Result<Option<Work>, Alarm> {
        if self.rebase.is_none() && self.compaction_due() {
            self.compact()?;
        }
        let mut work = Work::default();
        let mut write = Write { base: self.rebase.take(), ..Write::default() };
        if !self.raw.has_ready() {
            if write.base.is_none() && self.finished.is_empty() {
                return Ok(None);
            }
            work.write = write.base.is_some().then_some(write);
            return Ok(Some(work));
        }
        let mut ready = self.raw.ready();
        work.at_once = self.outgoing(ready.take_messages())?;
        if !ready.snapshot().is_empty() {
            write.base = Some(self.restore(&ready)?);
        }
        let committed = ready.take_committed_entries();
        let entries = ready.take_entries();
        write.entries = entries
            .iter()
            .map(LogEntry::from_raft)
            .collect::<Result<_, _>>()
            .map_err(unreadable)?;
        self.raw.mut_store().append(&entries);
        if let Some(hard) = ready.hs() {
            self.raw.mut_store().set_hard(hard.clone());
        }
        // A commit index alone is not worth a sync: it goes with the next write.
        if ready.must_sync() || write.base.is_some() {
            write.vote = Some(Vote::from_raft(self.raw.store().hard()));
            work.write = Some(write);
        }
        work.after = self.outgoing(ready.take_persisted_messages())?;
        self.ready = Some((ready, committed));
        Ok(Some(work))
    }

    /// The work of the last [`Self::poll`] is durable and sent.
    pub fn written(&mut self) -> Result<Done, Alarm> {
        let mut done = Done::default();
        if std::mem::take(&mut self.restored) {
            let (index, entry, changes) = (self.applied, Entry::Restored, vec![Change::Restored]);
            done.applied.push(Applied { index, entry, outcome: Outcome::Done, changes });
        }
        if let Some((ready, committed)) = self.ready.take() {
            self.apply(committed, &mut done)?;
            let mut light = self.raw.advance(ready);
            if let Some(commit) = light.commit_index() {
                self.raw.mut_store().set_commit(commit);
            }
            done.messages = self.outgoing(light.take_messages())?;
            self.apply(light.take_committed_entries(), &mut done)?;
            self.raw.advance_apply();
            self.draw_timeout();
        }
        done.finished.append(&mut self.finished);
        Ok(done)
    }

    /// What the group has agreed on, as far as it is applied here.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Last entry applied.
    #[must_use]
    pub const fn applied(&self) -> u64 {
        self.applied
    }

    /// Index up to which the log is known to be committed.
    #[must_use]
    pub fn commit(&self) -> u64 {
        self.raw.raft.raft_log.committed
    }

    /// This member's number.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.config.id
    }

    /// The newest term seen.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.raw.raft.term
    }

    /// The member that leads the group's log, as far as known here.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        match self.raw.raft.leader_id {
            0 => None,
            id => u16::try_from(id).ok().map(NodeId),
        }
    }

    /// Whether this member leads the group's log.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    /// Members with a vote, as applied here.
    #[must_use]
    pub fn voters(&self) -> BTreeSet<NodeId> {
        let ids = self.conf.voters.iter().filter_map(|id| u16::try_from(*id).ok());
        ids.map(NodeId).collect()
    }

    /// All stored, as a shell would have made it durable; for tests of the shell.
    pub fn stored(&self) -> Result<Stored, WireError> {
        let log = self.raw.store();
        let entries = log.entries_kept().iter().map(LogEntry::from_raft);
        Ok(Stored {
            vote: Vote::from_raft(log.hard()),
            snapshot: StoredState::from_raft(log.snapshot_ref())?,
            before: log.before(),
            entries: entries.collect::<Result<_, _>>()?,
        })
    }

    /// Raft draws its election timeouts from the thread's random generator. Ours replace them
    /// after every input, because any input may have made it draw again.
    pub(crate) fn draw_timeout(&mut self) {
        let leads = self.state.lead() == Some(self.config.id);
        let (seed, id, term) = (self.config.seed, self.config.id, self.raw.raft.term);
        let timeout = self.config.ticks.election_timeout(seed, id, term, leads);
        self.raw.raft.set_randomized_election_timeout(timeout);
    }

    /// Tries all proposals whose time has come.
    pub(crate) fn propose_due(&mut self, now: MonoTime) {
        for proposal in self.proposals.due(now) {
            if self.propose_now(now, &proposal).is_err() {
                let soon = now + self.config.ticks.tick;
                self.proposals.retry(&proposal.id, soon);
            }
        }
    }

    pub(crate) fn propose_now(
        &mut self,
        now: MonoTime,
        proposal: &Proposal,
    ) -> Result<(), RaftError> {
        // Its size was checked when it was taken on.
        let Ok(bytes) = proposal.encode() else { return Err(RaftError::ProposalDropped) };
        let Some(change) = membership(&proposal.command) else {
            return self.raw.propose(Vec::new(), bytes);
        };
        if self.is_leader() && change == MemberChange::Remove(self.config.id) {
            self.transfer_away(now);
            return Err(RaftError::ProposalDropped);
        }
        // Raft's own call would do, but then protobuf would write what we have to read.
        let body = Body::Change(change, bytes);
        let mut message = eraftpb::Message::default();
        message.set_msg_type(eraftpb::MessageType::MsgPropose);
        message.from = u64::from(self.config.id.0);
        message.entries = vec![LogEntry { term: 0, index: 0, body }.into_raft()].into();
        self.raw.raft.step(message)
    }

    /// What raft panics over, and what only a confused peer sends.
    fn admit(&self, link: NodeId, message: &Message) -> Result<(), StepError> {
        let (to, from) = (message.to, message.from);
        // A transfer and a forwarded proposal carry another member's number.
        let own_name = from == link || matches!(message.kind, Kind::TransferLeader | Kind::Propose);
        if to != self.config.id || !own_name {
            return Err(StepError::Astray { to, from, link });
        }
        let raft = &self.raw.raft;
        let last = raft.raft_log.last_index();
        let current = message.term >= raft.term;
        match message.kind {
            Kind::Heartbeat if current && message.commit > last => {
                let (node, expected) = (self.config.id, message.commit);
                Err(StepError::Alarm(Alarm::LogLost { node, expected, last }))
            }
            Kind::AppendResponse | Kind::HeartbeatResponse
                if self.is_leader()
                    && message.term == raft.term
                    && !message.reject
                    && message.index > last =>
            {
                Err(StepError::Senseless(link))
            }
            _ => Ok(()),
        }
    }

    fn removes_self(&self, message: &Message) -> bool {
        let own = MemberChange::Remove(self.config.id);
        self.is_leader()
            && message
                .entries
                .iter()
                .any(|entry| matches!(&entry.body, Body::Change(change, _) if *change == own))
    }

    /// Whatever was on its way to a former leader may be lost.
    fn follow_leader(&mut self, now: MonoTime) {
        let leader = self.raw.raft.leader_id;
        if leader != self.leader_known {
            self.leader_known = leader;
            if leader != 0 {
                self.leader_heard = true;
                self.proposals.retry_all(now);
            }
        }
    }

    fn outgoing(&mut self, messages: Vec<eraftpb::Message>) -> Result<Vec<Message>, Alarm> {
        let mut outgoing = Vec::with_capacity(messages.len());
        for message in messages {
            let message = Message::from_raft(&message).map_err(unreadable)?;
            if message.kind == Kind::Snapshot {
                self.snapshots_out.insert(message.to);
            }
            outgoing.push(message);
        }
        Ok(outgoing)
    }

    /// Takes over the leader's snapshot.
    fn restore(&mut self, ready: &Ready) -> Result<Stored, Alarm> {
        let snapshot = ready.snapshot().clone();
        let stored = StoredState::from_raft(&snapshot).map_err(unreadable)?;
        let (index, term) = (stored.index, stored.term);
        self.state = State::decode(&stored.state)
            .map_err(|reason| Alarm::SnapshotUnreadable { index, reason })?;
        self.conf = snapshot.get_metadata().get_conf_state().clone();
        (self.applied, self.applied_term, self.restored) = (index, term, true);
        self.raw.mut_store().restore(snapshot);
        Ok(Stored {
            vote: Vote::from_raft(self.raw.store().hard()),
            snapshot: stored,
            before: (index, term),
            entries: Vec::new(),
        })
    }

    fn apply(&mut self, entries: Vec<eraftpb::Entry>, done: &mut Done) -> Result<(), Alarm> {
        for entry in entries {
            let entry = LogEntry::from_raft(&entry).map_err(unreadable)?;
            let mut changes = Vec::new();
            let (what, id, outcome) = match &entry.body {
                Body::Empty => (Entry::Empty, None, Outcome::Done),
                Body::Command(bytes) => {
                    let proposal = read_command(entry.index, bytes)?;
                    let id = proposal.id;
                    let outcome = self.state.apply(entry.index, &proposal, &mut changes);
                    (Entry::Command(proposal), Some(id), outcome)
                }
                Body::Change(change, bytes) => {
                    let proposal = read_command(entry.index, bytes)?;
                    let id = proposal.id;
                    let outcome = self.apply_change(*change, &proposal, &mut changes);
                    let done = outcome == Outcome::Done;
                    let what = if done { Entry::Membership(proposal) } else { Entry::Empty };
                    (what, Some(id), outcome)
                }
            };
            (self.applied, self.applied_term) = (entry.index, entry.term);
            if let Some(id) = id
                && self.proposals.done(&id)
            {
                done.finished.push(Finished::Applied(id, outcome.clone()));
            }
            done.applied.push(Applied { index: entry.index, entry: what, outcome, changes });
        }
        Ok(())
    }

    fn apply_change(
        &mut self,
        change: MemberChange,
        proposal: &Proposal,
        changes: &mut Vec<Change>,
    ) -> Outcome {
        if self.state.is_done(&proposal.id) {
            return Outcome::Already;
        }
        if membership(&proposal.command) != Some(change) {
            return Outcome::Refused(Refusal::Senseless("the change is not what was asked for"));
        }
        if let Err(refusal) = self.state.check_membership(&proposal.command) {
            return Outcome::Refused(refusal);
        }
        let (kind, node) = match change {
            MemberChange::Voter(node) => (eraftpb::ConfChangeType::AddNode, node),
            MemberChange::Learner(node) => (eraftpb::ConfChangeType::AddLearnerNode, node),
            MemberChange::Remove(node) => (eraftpb::ConfChangeType::RemoveNode, node),
        };
        let mut conf_change =
            eraftpb::ConfChange { node_id: u64::from(node.0), ..eraftpb::ConfChange::default() };
        conf_change.set_change_type(kind);
        match self.raw.apply_conf_change(&conf_change) {
            Ok(conf) => self.conf = conf,
            // The same on every member: it depends on the members alone.
            Err(_) => return Outcome::Refused(Refusal::Senseless("raft refuses the change")),
        }
        if change == MemberChange::Remove(self.config.id) && self.is_leader() {
            // The change was begun under another leader. Raft would go on leading without a place
            // of its own, and panic over it; whatever it still wanted to say is not its to say.
            let term = self.raw.raft.term;
            self.raw.raft.become_follower(term, raft::INVALID_ID);
            self.raw.raft.msgs.clear();
        }
        // A newcomer refuses a snapshot that does not name it, so it needs one from now.
        self.snapshot_due |= matches!(change, MemberChange::Learner(_));
        let outcome = self.state.apply_membership(proposal, changes);
        let members = self.state.members();
        self.peers.retain(|node| members.contains_key(&node));
        outcome
    }

    fn compaction_due(&self) -> bool {
        let covered = self.raw.store().snapshot_ref().get_metadata().index;
        let wanted = self.raw.store().snapshot_wanted() && self.applied > covered;
        wanted || self.snapshot_due || self.applied >= covered + Self::COMPACT_EVERY
    }

    /// Makes a snapshot of what is applied and forgets the entries behind it.
    fn compact(&mut self) -> Result<(), Alarm> {
        self.snapshot_due = false;
        let nodes = |ids: &[u64]| -> Vec<NodeId> {
            ids.iter().filter_map(|id| u16::try_from(*id).ok()).map(NodeId).collect()
        };
        let snapshot = StoredState {
            index: self.applied,
            term: self.applied_term,
            voters: nodes(&self.conf.voters),
            learners: nodes(&self.conf.learners),
            state: self.state.encode(),
        };
        let keep_after = self.applied.saturating_sub(Self::COMPACT_KEEP);
        self.raw.mut_store().compact(snapshot.into_raft(), keep_after);
        self.rebase = Some(self.stored().map_err(unreadable)?);
        Ok(())
    }
}

/// The change of members that a command asks Raft for.
fn membership(command: &Command) -> Option<MemberChange> {
    match command {
        Command::AddMember { node, .. } => Some(MemberChange::Learner(*node)),
        Command::PromoteMember { node } => Some(MemberChange::Voter(*node)),
        Command::RemoveMember { node } => Some(MemberChange::Remove(*node)),
        _ => None,
    }
}

fn read_command(index: u64, bytes: &[u8]) -> Result<Proposal, Alarm> {
    Proposal::decode(bytes).map_err(|error| match error {
        CommandError::Version(version) => {
            Alarm::EntryFromTheFuture { index, version, known: Proposal::VERSION }
        }
        CommandError::TooLong(_) => Alarm::EntryUnreadable { index, reason: "it is too long" },
        CommandError::Malformed => Alarm::EntryUnreadable { index, reason: "it is malformed" },
    })
}

fn unreadable(error: WireError) -> Alarm {
    match error {
        WireError::NoForm(what) | WireError::Senseless(what) => Alarm::StoreInconsistent(what),
        WireError::Malformed | WireError::TooLong(_) => Alarm::StoreInconsistent("malformed"),
    }
}
