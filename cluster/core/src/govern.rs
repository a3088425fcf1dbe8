//! What the leader of the group does on its own: give duties, keep the leadership off the member
//! that leads recording, give votes to members that have caught up. And what every member works
//! out for itself: its duty when the log has not caught up with what it sees.

use std::collections::BTreeSet;

use raft::StateRole;
use storage_core::{Duty, MonoTime, NodeId, Role};

use crate::command::{Command, Proposal, ProposalId};
use crate::level;
use crate::node::Node;
use crate::role::{Decider, successor};
use crate::view::{DutyGrant, GroupView, MemberView, duty_unheard};

/// The leader's own proposals carry this start number, so that they never meet those of a
/// member's table; they are decided anew rather than repeated.
const GOVERNOR_BOOT: u64 = u64::MAX;

/// What the leader has under way.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Governed {
    /// The grant that is on its way: from which one it was decided, and since when.
    granting: Option<(u64, MonoTime)>,
    last_transfer: Option<MonoTime>,
    last_promotion: Option<MonoTime>,
    last_campaign: Option<MonoTime>,
    leader_died: bool,
    sequence: u64,
}

impl Node {
    /// Runs the leader's business, if this member leads and has caught up with its own term.
    pub(crate) fn govern(&mut self, now: MonoTime) {
        self.campaign_for_the_dead(now);
        if !self.is_leader() || !self.raw.raft.apply_to_current_term() {
            self.decider = None;
            self.governed.granting = None;
            return;
        }
        let patience = self.config.patience;
        let mut decider = self.decider.take().unwrap_or_else(|| Decider::new(patience, now));
        let (up, unknown) = self.liveness(now);
        if let Some(grant) = decider.decide(now, &self.state, &up, &unknown)
            && !self.grant_under_way(now, grant.expect)
            && self.govern_propose(now, Command::Grant(grant.clone()))
        {
            self.governed.granting = Some((grant.expect, now));
        }
        self.decider = Some(decider);
        if self.state.lead() == Some(self.config.id) {
            self.transfer_away(now);
        }
        self.promote(now);
    }

    /// Steps aside for another voter that answers and has all entries; a witness before others,
    /// never the member that leads recording.
    pub(crate) fn transfer_away(&mut self, now: MonoTime) {
        let spacing = self.config.ticks.election_period() * 3;
        if self.governed.last_transfer.is_some_and(|last| now.since(last) < spacing) {
            return;
        }
        let last = self.raw.raft.raft_log.last_index();
        let progress = self.raw.raft.prs();
        let caught_up = |node: NodeId| {
            progress.get(u64::from(node.0)).is_some_and(|progress| progress.matched + 8 >= last)
        };
        let role = |node: NodeId| self.state.members().get(&node).and_then(|m| m.role);
        let candidate = self
            .voters()
            .into_iter()
            .filter(|node| *node != self.config.id && Some(*node) != self.state.lead())
            .filter(|node| self.peers.alive(now, *node) && caught_up(*node))
            .min_by_key(|node| (role(*node) != Some(Role::Witness), *node));
        if let Some(node) = candidate {
            self.governed.last_transfer = Some(now);
            self.transfer_leader(node);
        }
    }

    /// The process of the group's leader is gone: nobody owes it the patience of a lease, and the
    /// first of the others calls an election at once.
    pub(crate) fn leader_died(&mut self, now: MonoTime) {
        let dead = self.leader().is_some_and(|leader| self.peers.dead(leader));
        if dead && !self.is_leader() {
            self.raw.raft.leader_id = raft::INVALID_ID;
            self.governed.leader_died = true;
            self.governed.last_campaign = None;
            self.campaign_for_the_dead(now);
        }
    }

    /// What this member is to do now.
    #[must_use]
    pub fn duty(&self, now: MonoTime) -> DutyGrant {
        let id = self.config.id;
        let acting = self.acts_ahead(now);
        let (duty, provisional) = match self.state.members().get(&id) {
            _ if self.state.epoch() == 0 => (duty_unheard(self.config.role), true),
            // What this log says may be long past: whoever has just started asks first.
            Some(member) if member.duty == Duty::Lead && self.just_started(now) => {
                (Duty::Standby, true)
            }
            Some(_) if acting => (Duty::Lead, true),
            Some(member) => (member.duty, false),
            // Removed, or not yet added.
            None => (Duty::None, false),
        };
        DutyGrant {
            duty,
            epoch: self.state.epoch(),
            moves: acting || self.state.moves(),
            provisional,
            quorum: self.has_quorum(now),
            copy: self.state.copy(id),
        }
    }

    /// The group as this member sees it. Clocks are the links' to fill in.
    #[must_use]
    pub fn view(&self, now: MonoTime) -> GroupView {
        let member = |(&node, member): (&NodeId, &crate::state::Member)| MemberView {
            node,
            role: member.role,
            duty: member.duty,
            up: member.up,
            reachable: node == self.config.id || self.peers.alive(now, node),
            voter: member.voter,
            drained: member.drained.is_some(),
            serves: member.serves(),
            health: member.health,
            address: member.address.clone(),
            phantoms: member.phantoms.clone(),
            program: level::version(&member.program).to_owned(),
            copy: self.state.copy(node),
        };
        GroupView {
            node: self.config.id,
            members: self.state.members().iter().map(member).collect(),
            leader: self.leader(),
            term: self.term(),
            epoch: self.state.epoch(),
            lead: self.state.lead(),
            takeover: self.state.takeover(),
            quorum: self.has_quorum(now),
            removed: self.state.removed().contains(&self.config.id),
            duty: self.duty(now),
            open_calls: self.state.ledger().len(),
            clock_offset_us: std::collections::BTreeMap::new(),
            round_trip_us: std::collections::BTreeMap::new(),
        }
    }

    /// Whether this member acts as lead before the log says so: the lead's process is gone, or
    /// its host is silent while a majority still answers here, and this member is the next.
    fn acts_ahead(&self, now: MonoTime) -> bool {
        let id = self.config.id;
        let Some(lead) = self.state.lead().filter(|lead| *lead != id) else { return false };
        if self.peers.alive(now, lead) || self.peers.unknown(lead) {
            return false;
        }
        let here = |node: NodeId| node == id || self.peers.alive(now, node);
        let speaks = self.peers.dead(lead) || self.majority_answers(now);
        speaks && successor(&self.state, here) == Some(id)
    }

    /// Whether a majority can be reached, so that what the log says here is new. Raft's own timers count
    /// ticks, and a member that a slow disk holds up has few of them.
    fn has_quorum(&self, now: MonoTime) -> bool {
        match self.leader() {
            None => false,
            Some(leader) if leader == self.config.id => self.majority_answers(now),
            Some(leader) => self.peers.alive(now, leader),
        }
    }

    fn majority_answers(&self, now: MonoTime) -> bool {
        let here = |node: &&NodeId| **node == self.config.id || self.peers.alive(now, **node);
        let voters = self.voters();
        voters.iter().filter(here).count() * 2 > voters.len()
    }

    /// No leader was heard since this process began, and not for want of time.
    fn just_started(&self, now: MonoTime) -> bool {
        let patience = self.config.ticks.election_period() * 3;
        let started = self.first_tick.is_none_or(|first| now.since(first) < patience);
        started && !self.leader_heard
    }

    fn liveness(&self, now: MonoTime) -> (BTreeSet<NodeId>, BTreeSet<NodeId>) {
        let id = self.config.id;
        let mut up = self.peers.all_alive(now);
        up.insert(id);
        let unknown = self.state.members().keys().copied();
        let unknown = unknown.filter(|node| *node != id && self.peers.unknown(*node)).collect();
        (up, unknown)
    }

    fn grant_under_way(&self, now: MonoTime, expect: u64) -> bool {
        let patience = self.config.ticks.election_period();
        self.governed
            .granting
            .is_some_and(|(from, since)| from == expect && now.since(since) < patience)
    }

    /// A learner that has (nearly) all entries gets its vote.
    fn promote(&mut self, now: MonoTime) {
        let spacing = self.config.ticks.election_period();
        if self.governed.last_promotion.is_some_and(|last| now.since(last) < spacing) {
            return;
        }
        let last = self.raw.raft.raft_log.last_index();
        let progress = self.raw.raft.prs();
        let ready = |node: &NodeId| {
            let progress = progress.get(u64::from(node.0));
            progress.is_some_and(|p| p.recent_active && p.matched > 0 && p.matched + 64 >= last)
        };
        let learners = self.state.members().iter().filter(|(_, member)| !member.voter);
        let Some(node) = learners.map(|(node, _)| *node).find(ready) else { return };
        self.governed.last_promotion = Some(now);
        self.govern_propose(now, Command::PromoteMember { node });
    }

    fn govern_propose(&mut self, now: MonoTime, command: Command) -> bool {
        // Named by term and count: unique, and above whatever this member named in older terms.
        self.governed.sequence += 1;
        let seq = (self.raw.raft.term << 24) | (self.governed.sequence & 0x00ff_ffff);
        let id = ProposalId { node: NodeId(0), boot: GOVERNOR_BOOT, seq };
        let proposal = Proposal { id, settled: seq, command };
        self.propose_now(now, &proposal).is_ok()
    }

    /// Until somebody leads again, the first of the survivors calls an election each tick.
    fn campaign_for_the_dead(&mut self, now: MonoTime) {
        if !self.governed.leader_died {
            return;
        }
        if self.leader().is_some() {
            self.governed.leader_died = false;
            return;
        }
        let spacing = self.config.ticks.tick / 2;
        let waits = matches!(self.raw.raft.state, StateRole::Candidate | StateRole::Leader)
            || self.governed.last_campaign.is_some_and(|last| now.since(last) < spacing);
        let lead = self.state.lead();
        let id = self.config.id;
        let voters = self.voters();
        let alive = voters.iter().filter(|node| **node == id || self.peers.alive(now, **node));
        let first = alive.min_by_key(|node| (Some(**node) == lead, **node)).copied();
        if !waits && first == Some(id) {
            self.governed.last_campaign = Some(now);
            self.campaign();
        }
    }
}
