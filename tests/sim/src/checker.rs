//! What must hold after every step, and what must hold once everything has healed.
//!
//! The declared bounds, from the timers of the cores with their defaults: a dead or hung host is
//! known after one election period (300 ms), a majority has a leader within two more, the new lead's
//! phantom is in after a request or two of 20 to 40 ms; a call that merely was not picked up is
//! rescued after `al_rescuems` (400 ms), or 600 ms later where one of the two witnesses speaks for
//! the lead. A takeover that itself meets a fault (its request refused or lost) has its own back-off
//! and is excused for that long, for that recorder alone.

use std::collections::{BTreeMap, BTreeSet};

use cluster_core::node::{Applied, Entry};
use cluster_core::{Change, Command, Node, Outcome, ProposalId, Standing};
use storage_core::{Duty, MonoTime, NodeId, RecordingId, SegmentId};

use crate::disk::Voice;
use crate::frames::Frames;
use crate::{MS, SECOND, Time};

/// A call that a healthy recorder could have recorded is not without audio for longer.
pub const AUDIO_BOUND: Time = 1_600 * MS;
/// A node whose disk is full has had the lead taken from it after so long, if another can have it.
pub const FULL_BOUND: Time = 5_000 * MS;
/// Two phantoms of one node are in one call no longer than a merge takes.
pub const TWIN_BOUND: Time = 3_500 * MS;
/// A phantom is out of a call that is deserted, or is asked again.
pub const LEAVE_BOUND: Time = 6 * SECOND;

/// Which kind of promise was broken; the exit code of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A call was without audio for too long.
    Silence = 10,
    /// Published twice, or not at all.
    Published = 11,
    /// Captured audio is in no recording.
    Lost = 12,
    /// Phantoms where they should not be.
    Phantoms = 13,
    /// The group's own safety.
    Raft = 14,
    /// It did not come to rest after healing.
    Unrest = 15,
    /// A core panicked.
    Panic = 16,
    /// A takeover left a hole although a ring had heard it.
    Hole = 17,
    /// Something was kept of a paused call, or a pause did not end.
    Pause = 18,
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which kind.
    pub kind: Kind,
    /// What was seen.
    pub what: String,
}

/// A seal of the log.
#[derive(Clone, Debug)]
pub struct Sealed {
    pub revision: u32,
    pub node: NodeId,
    pub sha256: [u8; 32],
}

#[derive(Default)]
pub struct Checker {
    leaders: BTreeMap<u64, NodeId>,
    applied: BTreeMap<u64, u64>,
    proposals: BTreeSet<ProposalId>,
    leads: BTreeMap<u64, NodeId>,
    pub last_applied: u64,
    /// Contents of all voice files that were ever staged.
    pub voices: BTreeMap<[u8; 32], Voice>,
    pub sealed: BTreeMap<RecordingId, Vec<Sealed>>,
    pub published: BTreeMap<RecordingId, Voice>,
    /// What was in files that went with a lost node's disk.
    pub given_up: Frames,
    /// What each member said its catalog lists, in which revision.
    pub acked: BTreeMap<(NodeId, RecordingId), u32>,
    /// Of which recording each capture is, as the log has it.
    pub names: BTreeMap<(NodeId, SegmentId), RecordingId>,
    pub violations: Vec<Violation>,
}

impl Checker {
    pub fn fail(&mut self, kind: Kind, what: String) {
        self.violations.push(Violation { kind, what });
    }

    /// A recording is given up: what was agreed on it binds nobody any more.
    pub fn forget(&mut self, recording: RecordingId) {
        let sealed = self.sealed.remove(&recording).into_iter().flatten();
        for voice in sealed.filter_map(|sealed| self.voices.get(&sealed.sha256)) {
            self.given_up.unite(&voice.frames);
        }
        self.published.remove(&recording);
        self.names.retain(|_, known| *known != recording);
        self.acked.retain(|(_, known), _| *known != recording);
    }

    pub fn applied(&mut self, node: &Node, applied: &[Applied]) {
        for entry in applied.iter().filter(|applied| applied.entry != Entry::Restored) {
            let print = print_of(entry);
            let index = entry.index;
            match self.applied.get(&index) {
                Some(first) if *first != print => {
                    let what = format!("applied prefixes agree: node {} at {index}", node.id());
                    self.fail(Kind::Raft, what);
                }
                Some(_) => {}
                None => {
                    self.applied.insert(index, print);
                    self.first_applied(entry);
                }
            }
            self.last_applied = self.last_applied.max(index);
        }
        self.ledger(node);
    }

    /// A proposer was told that this was applied.
    pub fn acknowledged(&mut self, id: ProposalId) {
        if !self.proposals.contains(&id) {
            self.fail(Kind::Raft, format!("{id:?} was acknowledged and is in no log"));
        }
    }

    pub fn duties(&mut self, node: &Node, now: MonoTime) {
        if node.is_leader() {
            let first = *self.leaders.entry(node.term()).or_insert(node.id());
            if first != node.id() {
                self.fail(Kind::Raft, format!("two leaders in term {}", node.term()));
            }
        }
        let duty = node.duty(now);
        if duty.duty == Duty::Lead && !duty.provisional {
            let first = *self.leads.entry(duty.epoch).or_insert(node.id());
            if first != node.id() {
                self.fail(Kind::Raft, format!("two leads in epoch {}", duty.epoch));
            }
        }
    }

    fn first_applied(&mut self, applied: &Applied) {
        let (Entry::Command(proposal) | Entry::Membership(proposal)) = &applied.entry else {
            return;
        };
        self.proposals.insert(proposal.id);
        for change in &applied.changes {
            if let Change::Claimed { stretch, .. } = change {
                let key = (stretch.node, stretch.segment);
                let before = self.names.insert(key, stretch.recording);
                if before.is_some_and(|before| before != stretch.recording) {
                    let what = format!("capture {}/{} is claimed twice", key.0, key.1);
                    self.violations.push(Violation { kind: Kind::Lost, what });
                }
            }
        }
        // A capture without audio may be claimed again by a node that forgot that it withdrew it.
        if let Command::Release { stretch } = &proposal.command {
            self.names.remove(&(stretch.node, stretch.segment));
        }
        if let Command::Ack { node, recordings } = &proposal.command {
            for (recording, revision) in recordings {
                let known = self.acked.entry((*node, *recording)).or_default();
                *known = (*known).max(*revision);
            }
        }
        if let Command::Seal(seal) = &proposal.command
            && applied.outcome == Outcome::Done
        {
            let (revision, node, sha256) = (seal.revision, seal.node, seal.sha256);
            let before = self.sealed.entry(seal.recording).or_default();
            let last = before.last().map(|last| (last.node, last.revision, last.sha256));
            before.push(Sealed { revision, node, sha256 });
            self.grows(seal.recording, last, (revision, sha256));
        }
    }

    /// Revisions only grow and never lose frames.
    fn grows(
        &mut self,
        recording: RecordingId,
        last: Option<(NodeId, u32, [u8; 32])>,
        (revision, sha256): (u32, [u8; 32]),
    ) {
        let Some((_, before, old)) = last else { return };
        if revision < before {
            self.fail(Kind::Published, format!("{recording}: revision {revision} after {before}"));
        }
        let (Some(old), Some(new)) = (self.voices.get(&old), self.voices.get(&sha256)) else {
            let what = format!("{recording}: revision {revision} seals a file that never was");
            return self.fail(Kind::Published, what);
        };
        if let Some((call, frame, count)) = new.frames.missing(&old.frames) {
            let what = format!(
                "{recording}: revision {revision} lacks {count} frames of revision {before}, call \
                 {call} frame {frame}"
            );
            self.fail(Kind::Published, what);
        }
    }

    /// A file got its final name.
    pub fn published(&mut self, node: NodeId, voice: &Voice) {
        let (id, revision) = (voice.recording, voice.revision);
        let sealed = self.sealed.get(&id).into_iter().flatten();
        let agreed = sealed.clone().any(|sealed| {
            (sealed.node, sealed.revision, sealed.sha256) == (node, revision, voice.sha256)
        });
        if !agreed {
            let what =
                format!("{id} revision {revision} is published and the group has not agreed");
            self.fail(Kind::Published, what);
        }
        if let Some(old) = self.published.get(&id)
            && let Some((call, frame, count)) = voice.frames.missing(&old.frames)
        {
            let what = format!("{id}: {count} published frames of call {call} are gone ({frame})");
            self.fail(Kind::Published, what);
        }
        self.published.insert(id, voice.clone());
    }

    /// A journal owes these frames nothing any more: they must be in the sealed recording.
    pub fn dropped(
        &mut self,
        node: NodeId,
        name: RecordingId,
        segment: SegmentId,
        frames: &Frames,
    ) {
        let name = self.names.get(&(node, segment)).copied().unwrap_or(name);
        let sealed = self.sealed.get(&name).and_then(|seals| seals.last());
        let sealed = sealed.and_then(|sealed| self.voices.get(&sealed.sha256));
        let missing = match sealed {
            Some(voice) => voice.frames.missing(frames),
            None => Frames::default().missing(frames),
        };
        if let Some((call, frame, count)) = missing {
            let what = format!(
                "node {node} drops its capture {segment} of {name}: {count} frames of call {call} \
                 from {frame} are in no recording"
            );
            self.fail(Kind::Lost, what);
        }
    }

    fn ledger(&mut self, node: &Node) {
        let mut wrong = Vec::new();
        for call in node.state().ledger().calls() {
            for slot in &call.slots {
                let holds = slot.stretches.iter().filter(|s| s.standing == Standing::Holds);
                if holds.count() > 1 {
                    wrong.push(format!("{}: one holds", slot.recording));
                }
                if slot.holder().is_some_and(|holder| !holder.open()) {
                    wrong.push(format!("{}: who holds may be capturing", slot.recording));
                }
                if slot.over.is_none() && slot.open() && slot.holder().is_none() {
                    wrong.push(format!("{}: somebody captures and nobody holds", slot.recording));
                }
            }
        }
        for what in wrong {
            self.fail(Kind::Raft, what);
        }
    }
}

fn print_of(applied: &Applied) -> u64 {
    let mut print = crate::Print::default();
    match &applied.entry {
        Entry::Command(proposal) | Entry::Membership(proposal) => {
            print.add(&proposal.encode().unwrap_or_default());
        }
        Entry::Empty | Entry::Restored => print.add(b"none"),
    }
    print.add(format!("{:?}", applied.outcome).as_bytes());
    print.value()
}
