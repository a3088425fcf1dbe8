//! The replicated state: members, duties, the ledger. It is a pure function of the log: every
//! member that has applied the same entries holds the same state. It decides nothing about time,
//! votes or who is alive: that comes in as entries.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use storage_core::countersign::{CheckpointText, CountersignatureText};
use storage_core::{Duty, NodeId, RecordingId, Role};

use crate::command::{
    Announce, Cause, Command, Grant, Health, Outcome, Proposal, ProposalId, Refusal, Standing,
    StretchRef,
};
use crate::ledger::{Claimant, Ledger, Present};
use crate::level;
use crate::node::{Applied, Entry};
use crate::phantoms;

/// A member as the log knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Where it listens for its peers.
    pub address: String,
    /// What it is configured for; unknown until it has announced itself.
    pub role: Option<Role>,
    /// Its phantoms.
    pub phantoms: Vec<String>,
    /// Its program's version.
    pub program: String,
    /// Which start of it is known.
    pub boot: u64,
    /// Which of its proposals told its health: repetition may bring an older one later.
    health_told: u64,
    /// How it said it is; unknown since its last start until it says so.
    pub health: Option<Health>,
    /// Whether it answered when duties were last given.
    pub up: bool,
    /// What it is to do.
    pub duty: Duty,
    /// Out of service; whether its calls in progress move.
    pub drained: Option<bool>,
    /// Whether it votes.
    pub voter: bool,
}

impl Member {
    const fn new(address: String, voter: bool) -> Self {
        Self {
            address,
            role: None,
            phantoms: Vec::new(),
            program: String::new(),
            boot: 0,
            health_told: 0,
            health: None,
            up: false,
            duty: Duty::None,
            drained: None,
            voter,
        }
    }

    /// What an earlier process said of its health is void, and a process that was started anew is
    /// meant to be in service.
    fn restarted(&mut self, boot: u64) {
        if self.boot < boot {
            (self.boot, self.health, self.health_told) = (boot, None, 0);
            self.drained = None;
        }
    }

    /// Whether the calls that it holds are in good hands. One that has not said yet how it is has the
    /// benefit of the doubt.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.drained != Some(true) && self.health.is_none_or(|health| health.fit())
    }

    /// Whether it records at all.
    #[must_use]
    pub fn records(&self) -> bool {
        self.role.is_some_and(|role| role != Role::Witness)
    }
}

/// Which proposals of a member are done: all below `floor`, and those in `above`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    boot: u64,
    floor: u64,
    above: BTreeSet<u64>,
}

impl Seen {
    /// More proposals under way than a member may have: beyond it the oldest count as done.
    const WINDOW: usize = 8192;

    /// Notes a proposal; false if it is done already, or was given up.
    fn note(&mut self, proposal: &Proposal) -> bool {
        let id = &proposal.id;
        if id.boot < self.boot {
            return false;
        }
        if id.boot > self.boot {
            *self = Self { boot: id.boot, ..Self::default() };
        }
        let fresh = id.seq >= self.floor && self.above.insert(id.seq);
        if proposal.settled > self.floor {
            self.floor = proposal.settled;
            self.above = self.above.split_off(&self.floor);
        }
        while self.above.len() > Self::WINDOW {
            self.floor = self.above.pop_first().map_or(self.floor, |seq| seq + 1);
        }
        fresh
    }

    fn done(&self, id: &ProposalId) -> bool {
        let older = id.boot < self.boot;
        older || (id.boot == self.boot && (id.seq < self.floor || self.above.contains(&id.seq)))
    }
}

/// A change of the recording lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Takeover {
    /// Who led before.
    pub from: Option<NodeId>,
    /// Who leads since.
    pub to: Option<NodeId>,
    /// Since which epoch.
    pub epoch: u64,
    /// Why.
    pub cause: Cause,
    /// Whether calls in progress moved.
    pub moves: bool,
}

/// What an entry changed, for those who follow the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The state came as a whole: look at everything again.
    Restored,
    /// Duties were given.
    Duties {
        /// The epoch.
        epoch: u64,
        /// Why.
        cause: Cause,
        /// Who leads now.
        lead: Option<NodeId>,
        /// Who led before.
        before: Option<NodeId>,
    },
    /// Members, roles, health or liveness changed.
    Members,
    /// A capture is in the ledger.
    Claimed {
        /// Which.
        stretch: StretchRef,
        /// How it stands.
        standing: Standing,
    },
    /// Another capture, or none, is the recording now.
    Holder {
        /// Which recording.
        recording: RecordingId,
        /// Who holds it.
        holder: Option<NodeId>,
    },
    /// A capture has ended, or was withdrawn.
    Ended {
        /// Which.
        stretch: StretchRef,
    },
    /// A recording is over.
    Over {
        /// Which.
        recording: RecordingId,
    },
    /// A recording is published.
    Sealed {
        /// Which.
        recording: RecordingId,
        /// Who has it.
        node: NodeId,
        /// 1, or more when it was completed.
        revision: u32,
    },
    /// A recording left the ledger as it should.
    Closed {
        /// Which.
        recording: RecordingId,
    },
    /// A recording left the ledger without being finished.
    Evicted {
        /// Which.
        recording: RecordingId,
    },
    /// A member wants a checkpoint signed. The state keeps nothing of it.
    Checkpoint {
        /// Its place in the log.
        index: u64,
        /// Whose it is.
        node: NodeId,
        /// What it is.
        checkpoint: CheckpointText,
        /// Its member says that its manifest lacks what was signed before.
        lacks: bool,
    },
    /// A member has signed another's checkpoint. The state keeps nothing of it.
    Countersigned {
        /// What it signed.
        countersignature: Box<CountersignatureText>,
        /// What it signed before.
        before: Option<Box<CountersignatureText>>,
    },
}

/// Everything the group has agreed on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    members: BTreeMap<NodeId, Member>,
    removed: BTreeSet<NodeId>,
    lead: Option<NodeId>,
    epoch: u64,
    moves: bool,
    granted_at: u64,
    takeover: Option<Takeover>,
    wish: Option<NodeId>,
    ledger: Ledger,
    seen: BTreeMap<NodeId, Seen>,
}

impl State {
    /// The version of the snapshot's form.
    const VERSION: u8 = 1;

    /// The state of a group at its begin: members known by number and address only.
    #[must_use]
    pub fn new(members: &BTreeMap<NodeId, String>) -> Self {
        let member =
            |(&node, address): (&NodeId, &String)| (node, Member::new(address.clone(), true));
        Self { members: members.iter().map(member).collect(), ..Self::default() }
    }

    /// Applies one entry. `index` is its place in the log.
    pub fn apply(&mut self, index: u64, proposal: &Proposal, changes: &mut Vec<Change>) -> Outcome {
        if !self.seen.entry(proposal.id.node).or_default().note(proposal) {
            return self.repeated(index, &proposal.command);
        }
        if !proposal.command.speaks_for(proposal.id.node) {
            return Outcome::Refused(Refusal::Senseless("a member speaks only for itself"));
        }
        match &proposal.command {
            Command::Announce(announce) => self.announce(proposal.id.boot, announce, changes),
            Command::Health { node, health } => {
                self.told_health(proposal.id, *node, *health, changes)
            }
            Command::Grant(grant) => self.grant(index, grant, changes),
            Command::Claim(claim) => {
                let present = self.present();
                self.ledger.claim(index, claim, Claimant::Owner, &present, changes)
            }
            Command::HandIn { claim, .. } => {
                let present = self.present();
                self.ledger.claim(index, claim, Claimant::Keeper, &present, changes)
            }
            Command::End { stretch, to } => {
                let present = self.present();
                self.ledger.end(stretch, *to, &present, changes)
            }
            Command::Over { recording, node, stopped } => {
                let present = self.present();
                self.ledger.over(*recording, *node, *stopped, &present, changes)
            }
            Command::Release { stretch } => {
                let present = self.present();
                self.ledger.release(stretch, &present, changes)
            }
            Command::Seal(seal) => {
                let present = self.present();
                self.ledger.seal(seal, &present, changes)
            }
            Command::Ack { node, recordings } => {
                let present = self.present();
                for (recording, revision) in recordings {
                    self.ledger.ack(*node, *recording, *revision, &present, changes);
                }
                Outcome::Done
            }
            Command::Resolve { recording } => {
                let present = self.present();
                self.ledger.resolve(*recording, &present, changes)
            }
            Command::SetRole { node, role } => self.on_member(*node, changes, |member| {
                member.role = Some(*role);
            }),
            Command::Drain { node, on, moves } => self.on_member(*node, changes, |member| {
                member.drained = on.then_some(*moves);
            }),
            Command::Handover { to } => self.handover(*to, changes),
            Command::Checkpoint { node, .. } | Command::Countersign { node, .. } => {
                self.attest(index, *node, &proposal.command, changes)
            }
            Command::AddMember { .. }
            | Command::PromoteMember { .. }
            | Command::RemoveMember { .. } => {
                Outcome::Refused(Refusal::Senseless("members change through the group's log only"))
            }
        }
    }

    fn told_health(
        &mut self,
        told: ProposalId,
        node: NodeId,
        health: Health,
        changes: &mut Vec<Change>,
    ) -> Outcome {
        self.on_member(node, changes, |member| {
            member.restarted(told.boot);
            if told.seq > member.health_told {
                (member.health, member.health_told) = (Some(health), told.seq);
            }
        })
    }

    /// What members say of each other's manifests. Nothing of it is kept in the state.
    fn attest(
        &self,
        index: u64,
        node: NodeId,
        command: &Command,
        changes: &mut Vec<Change>,
    ) -> Outcome {
        if !self.members.contains_key(&node) {
            return Outcome::Refused(Refusal::NotMember(node));
        }
        match command {
            Command::Checkpoint { checkpoint, lacks, .. } => {
                let (checkpoint, lacks) = (checkpoint.clone(), *lacks);
                changes.push(Change::Checkpoint { index, node, checkpoint, lacks });
                Outcome::Done
            }
            Command::Countersign { countersignature, before, .. }
                if countersignature.by == node =>
            {
                let (countersignature, before) = (countersignature.clone(), before.clone());
                changes.push(Change::Countersigned { countersignature, before });
                Outcome::Done
            }
            _ => Outcome::Refused(Refusal::Senseless("a member signs only for itself")),
        }
    }

    /// Does to a copy of the state what an applied entry did to the member's own. After
    /// [`Entry::Restored`] the copy has to be taken anew.
    pub fn follow(&mut self, applied: &Applied) {
        let mut changes = Vec::new();
        match &applied.entry {
            Entry::Command(proposal) => {
                self.apply(applied.index, proposal, &mut changes);
            }
            Entry::Membership(proposal) => {
                self.apply_membership(proposal, &mut changes);
            }
            Entry::Empty | Entry::Restored => {}
        }
    }

    /// Whether a membership change may be done; asked before Raft applies it.
    pub fn check_membership(&self, command: &Command) -> Result<(), Refusal> {
        match command {
            Command::AddMember { node, .. }
                if self.members.contains_key(node) || self.removed.contains(node) =>
            {
                Err(Refusal::NumberUsed(*node))
            }
            Command::AddMember { node: NodeId(0), .. } => {
                Err(Refusal::Senseless("members are numbered from 1"))
            }
            Command::AddMember { .. } => Ok(()),
            Command::PromoteMember { node } | Command::RemoveMember { node }
                if !self.members.contains_key(node) =>
            {
                Err(Refusal::NotMember(*node))
            }
            Command::RemoveMember { node } => {
                let others = self.members.iter().any(|(id, member)| id != node && member.voter);
                if others { Ok(()) } else { Err(Refusal::LastMember) }
            }
            Command::PromoteMember { .. } => Ok(()),
            _ => Err(Refusal::Senseless("not a membership change")),
        }
    }

    /// Whether a proposal was applied before, or given up by its proposer.
    pub(crate) fn is_done(&self, id: &ProposalId) -> bool {
        self.seen.get(&id.node).is_some_and(|seen| seen.done(id))
    }

    /// Notes a membership change that Raft has applied.
    pub(crate) fn apply_membership(
        &mut self,
        proposal: &Proposal,
        changes: &mut Vec<Change>,
    ) -> Outcome {
        self.seen.entry(proposal.id.node).or_default().note(proposal);
        match &proposal.command {
            Command::AddMember { node, address } => {
                self.members.insert(*node, Member::new(address.clone(), false));
            }
            Command::PromoteMember { node } => {
                if let Some(member) = self.members.get_mut(node) {
                    member.voter = true;
                }
            }
            Command::RemoveMember { node } => self.remove(*node, changes),
            _ => return Outcome::Refused(Refusal::Senseless("not a membership change")),
        }
        changes.push(Change::Members);
        Outcome::Done
    }

    /// The snapshot's form: a version byte, then postcard.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // Maps, numbers and text only: there is nothing in it that postcard cannot write.
        postcard::to_extend(self, vec![Self::VERSION]).expect("the state has a plain form")
    }

    /// Reads a snapshot.
    pub fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        match bytes.split_first() {
            Some((&Self::VERSION, rest)) => postcard::from_bytes(rest).map_err(|_| "it is damaged"),
            Some(_) => Err("it was written by a newer program"),
            None => Err("it is empty"),
        }
    }

    /// All members.
    #[must_use]
    pub const fn members(&self) -> &BTreeMap<NodeId, Member> {
        &self.members
    }

    /// Which kinds of commands all members know; of one that has not announced itself only the first.
    #[must_use]
    pub fn level(&self) -> u16 {
        let levels = self.members.values().map(|member| level::told(&member.program));
        levels.min().unwrap_or(level::KNOWN)
    }

    /// Numbers of members that are gone for good.
    #[must_use]
    pub const fn removed(&self) -> &BTreeSet<NodeId> {
        &self.removed
    }

    /// Who leads recording.
    #[must_use]
    pub const fn lead(&self) -> Option<NodeId> {
        self.lead
    }

    /// Log index of the grant that gave the present duties.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether the present lead takes calls in progress too.
    #[must_use]
    pub const fn moves(&self) -> bool {
        self.moves
    }

    /// The last change of the lead.
    #[must_use]
    pub const fn takeover(&self) -> Option<Takeover> {
        self.takeover
    }

    /// Log index of the last grant of any kind; what the next one has to expect.
    #[must_use]
    pub const fn granted_at(&self) -> u64 {
        self.granted_at
    }

    /// Who was asked to lead.
    #[must_use]
    pub const fn wish(&self) -> Option<NodeId> {
        self.wish
    }

    /// The open calls.
    #[must_use]
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// A member's duty.
    #[must_use]
    pub fn duty(&self, node: NodeId) -> Duty {
        self.members.get(&node).map_or(Duty::None, |member| member.duty)
    }

    /// Which copy a node's recordings are: actives and backups share one, each parallel has its
    /// own. Where only parallels are configured they count from 1.
    #[must_use]
    pub fn copy(&self, node: NodeId) -> u8 {
        let role = |node: &NodeId| self.members.get(node).and_then(|member| member.role);
        if role(&node) != Some(Role::Parallel) {
            return 1;
        }
        let shared = [Some(Role::Active), Some(Role::Backup)];
        let first = if self.members.keys().any(|n| shared.contains(&role(n))) { 2 } else { 1 };
        let before = self.members.keys().filter(|n| **n < node);
        let before = before.filter(|n| role(n) == Some(Role::Parallel)).count();
        u8::try_from(first + before).unwrap_or(u8::MAX)
    }

    /// The group as the ledger has to know it.
    #[must_use]
    pub fn present(&self) -> Present {
        let these = |wanted: fn(&Member) -> bool| {
            let chosen = self.members.iter().filter(move |(_, member)| wanted(member));
            chosen.map(|(&node, _)| node).collect()
        };
        Present {
            lead: self.lead,
            epoch: self.epoch,
            moves: self.moves,
            up: these(|member| member.up),
            members: these(|_| true),
            relieved: these(|member| !member.serves()),
            catalogs: these(Member::records),
        }
    }

    /// What a command that was done before has come to since.
    fn repeated(&mut self, index: u64, command: &Command) -> Outcome {
        match command {
            // A claim names its capture: asking again is harmless and tells how it stands.
            Command::Claim(claim) if self.ledger_knows(claim) => {
                let present = self.present();
                self.ledger.claim(index, claim, Claimant::Owner, &present, &mut Vec::new())
            }
            Command::Grant(_) => Outcome::Granted { epoch: self.epoch },
            _ => Outcome::Already,
        }
    }

    fn ledger_knows(&self, claim: &crate::command::Claim) -> bool {
        let slots = self.ledger.call(&claim.call).map(|call| &call.slots);
        let mut stretches = slots.into_iter().flatten().flat_map(|slot| &slot.stretches);
        stretches.any(|s| (s.node, s.segment) == (claim.node, claim.segment))
    }

    fn announce(&mut self, boot: u64, announce: &Announce, changes: &mut Vec<Change>) -> Outcome {
        let node = announce.node;
        for (&with, other) in self.members.iter().filter(|(with, _)| **with != node) {
            if let Some((ours, theirs)) = phantoms::overlap(&announce.phantoms, &other.phantoms) {
                let (ours, theirs) = (ours.to_owned(), theirs.to_owned());
                return Outcome::Refused(Refusal::PhantomsOverlap { node, ours, with, theirs });
            }
        }
        self.on_member(node, changes, |member| {
            member.role = Some(announce.role);
            member.phantoms.clone_from(&announce.phantoms);
            member.program.clone_from(&announce.program);
            member.restarted(boot);
        })
    }

    fn grant(&mut self, index: u64, grant: &Grant, changes: &mut Vec<Change>) -> Outcome {
        if grant.expect != self.granted_at {
            return Outcome::Refused(Refusal::Stale);
        }
        let mut leads = grant.duties.iter().filter(|(_, duty)| *duty == Duty::Lead);
        let lead = leads.next().map(|(node, _)| *node);
        if leads.next().is_some() {
            return Outcome::Refused(Refusal::Senseless("two members cannot lead"));
        }
        if let Some((node, _)) = grant.duties.iter().find(|(n, _)| !self.members.contains_key(n)) {
            return Outcome::Refused(Refusal::NotMember(*node));
        }
        let down = self.note_liveness(&grant.up);
        self.granted_at = index;
        let before = self.lead;
        let mut changed = before != lead;
        for (node, duty) in &grant.duties {
            let Some(member) = self.members.get_mut(node) else { continue };
            changed |= member.duty != *duty;
            member.duty = *duty;
        }
        changes.push(Change::Members);
        if changed {
            (self.lead, self.epoch, self.moves) = (lead, index, grant.moves);
            let (from, to, cause, moves) = (before, lead, grant.cause, grant.moves);
            if from != to {
                self.takeover = Some(Takeover { from, to, epoch: index, cause, moves });
            }
            // A wish ends when the wished-for could not go on: it must not come back by itself.
            let failed = before.is_some() && before == self.wish && lead != before;
            self.wish = self.wish.filter(|_| !failed);
            changes.push(Change::Duties { epoch: index, cause: grant.cause, lead, before });
        }
        let present = self.present();
        self.ledger.regroup(&down, &present, changes);
        Outcome::Granted { epoch: self.epoch }
    }

    /// Notes who answers; returns who no longer does.
    fn note_liveness(&mut self, up: &[(NodeId, bool)]) -> BTreeSet<NodeId> {
        let mut down = BTreeSet::new();
        for (node, up) in up {
            let Some(member) = self.members.get_mut(node) else { continue };
            if member.up && !up {
                down.insert(*node);
            }
            member.up = *up;
        }
        down
    }

    fn handover(&mut self, to: Option<NodeId>, changes: &mut Vec<Change>) -> Outcome {
        match to.and_then(|node| self.members.get(&node).map(Member::records)) {
            None if to.is_some() => Outcome::Refused(Refusal::NotMember(to.unwrap_or(NodeId(0)))),
            Some(false) => Outcome::Refused(Refusal::Senseless("a witness cannot lead")),
            _ => {
                self.wish = to;
                changes.push(Change::Members);
                Outcome::Done
            }
        }
    }

    fn remove(&mut self, node: NodeId, changes: &mut Vec<Change>) {
        self.members.remove(&node);
        self.removed.insert(node);
        self.seen.remove(&node);
        self.wish = self.wish.filter(|wish| *wish != node);
        self.lead = self.lead.filter(|lead| *lead != node);
        let present = self.present();
        self.ledger.regroup(&BTreeSet::from([node]), &present, changes);
    }

    fn on_member(
        &mut self,
        node: NodeId,
        changes: &mut Vec<Change>,
        act: impl FnOnce(&mut Member),
    ) -> Outcome {
        match self.members.get_mut(&node) {
            Some(member) => {
                act(member);
                changes.push(Change::Members);
                Outcome::Done
            }
            None => Outcome::Refused(Refusal::NotMember(node)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State::new(&(1..=3).map(|n| (NodeId(n), format!("n{n}"))).collect())
    }

    fn proposal(node: u16, boot: u64, seq: u64, command: Command) -> Proposal {
        let id = ProposalId { node: NodeId(node), boot, seq };
        Proposal { id, settled: 0, command }
    }

    fn health(aes: bool) -> Command {
        Command::Health { node: NodeId(1), health: Health { aes, ..Health::GOOD } }
    }

    fn announce(phantoms: &str) -> Announce {
        Announce {
            node: NodeId(1),
            role: Role::Active,
            phantoms: vec![phantoms.to_owned()],
            program: String::new(),
        }
    }

    #[test]
    fn a_repeated_proposal_is_done_once_however_late() {
        let mut state = state();
        let mut apply = |index, node, seq, settled, role| {
            let command = Command::SetRole { node: NodeId(3), role };
            let proposal = Proposal { settled, ..proposal(node, 1, seq, command) };
            let outcome = state.apply(index, &proposal, &mut Vec::new());
            (outcome, state.members()[&NodeId(3)].role)
        };
        let (witness, backup) = (Some(Role::Witness), Some(Role::Backup));
        assert_eq!(apply(1, 1, 1, 1, Role::Witness), (Outcome::Done, witness));
        assert_eq!(apply(2, 1, 2, 1, Role::Backup), (Outcome::Done, backup));
        assert_eq!(apply(3, 1, 1, 1, Role::Witness), (Outcome::Already, backup));
        // Another member's first proposal is another proposal.
        assert_eq!(apply(4, 2, 1, 1, Role::Witness), (Outcome::Done, witness));
        // What its proposer has given up is not done later.
        assert_eq!(apply(5, 1, 9, 9, Role::Backup), (Outcome::Done, backup));
        assert_eq!(apply(6, 1, 5, 1, Role::Witness), (Outcome::Already, backup));
    }

    #[test]
    fn what_was_said_of_health_last_counts_and_a_restart_voids_it() {
        let mut state = state();
        let mut say = |index, boot, seq, command| {
            state.apply(index, &proposal(1, boot, seq, command), &mut Vec::new());
            state.members()[&NodeId(1)].health.map(|health| health.aes)
        };
        assert_eq!(say(1, 1, 1, Command::Announce(announce("7800"))), None);
        assert_eq!(say(2, 1, 3, health(true)), Some(true));
        assert_eq!(say(3, 1, 2, health(false)), Some(true), "an older word that came later");
        assert_eq!(say(4, 2, 2, health(false)), Some(false), "a new process");
        // Its announcement comes after its health: both are of the same process.
        assert_eq!(say(5, 2, 1, Command::Announce(announce("7800"))), Some(false));
        assert_eq!(say(6, 3, 1, Command::Announce(announce("7800"))), None);
    }

    #[test]
    fn a_member_speaks_for_itself_and_its_phantoms_are_its_own() {
        let mut state = state();
        let changes = &mut Vec::new();
        let forged = proposal(2, 1, 1, health(false));
        assert!(matches!(state.apply(1, &forged, changes), Outcome::Refused(_)));
        let first = proposal(1, 1, 1, Command::Announce(announce("7800-7850")));
        assert_eq!(state.apply(2, &first, changes), Outcome::Done);
        let second = Announce { node: NodeId(2), ..announce("7850-7899") };
        let second = proposal(2, 1, 2, Command::Announce(second));
        let refused = state.apply(3, &second, changes);
        let Outcome::Refused(Refusal::PhantomsOverlap { with, .. }) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(with, NodeId(1));
    }

    #[test]
    fn a_snapshot_is_the_state_and_a_foreign_one_is_named() {
        let state = state();
        assert_eq!(State::decode(&state.encode()), Ok(state.clone()));
        let mut newer = state.encode();
        newer[0] = 2;
        assert_eq!(State::decode(&newer), Err("it was written by a newer program"));
        assert!(State::decode(&state.encode()[..9]).is_err());
    }
}
