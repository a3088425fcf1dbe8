//! What must hold after every step, and what must hold once everything has healed.

use std::collections::{BTreeMap, BTreeSet};

use cluster_core::ledger::Stretch;
use cluster_core::node::{Applied, Entry};
use cluster_core::{Change, Command, Node, Outcome, Standing};
use storage_core::{Duty, MonoTime, NodeId, RecordingId, SegmentId};

#[derive(Default)]
pub struct Checker {
    /// Who led the log in which term.
    leaders: BTreeMap<u64, NodeId>,
    /// What was applied where: the same everywhere.
    applied: BTreeMap<u64, String>,
    /// Who led recording in which epoch.
    leads: BTreeMap<u64, NodeId>,
    /// Highest revision of each sealed recording, and its call and copy.
    pub sealed: BTreeMap<RecordingId, (u32, String, u8)>,
    /// Each recording's captures, and those that its seal accounts for.
    captures: BTreeMap<RecordingId, BTreeSet<(NodeId, SegmentId)>>,
    accounted: BTreeMap<RecordingId, BTreeSet<(NodeId, SegmentId)>>,
    /// Who has the file.
    sealers: BTreeMap<RecordingId, NodeId>,
    /// Each recording's one name.
    names: BTreeMap<(String, u8, u16), RecordingId>,
    pub last_applied: u64,
}

impl Checker {
    pub fn applied(&mut self, node: &Node, applied: &[Applied]) {
        for entry in applied.iter().filter(|applied| applied.entry != Entry::Restored) {
            let text = format!("{:?} {:?} {:?}", entry.entry, entry.outcome, entry.changes);
            match self.applied.get(&entry.index) {
                Some(first) => {
                    assert_eq!(*first, text, "applied prefixes agree, index {}", entry.index);
                }
                None => {
                    self.first_applied(entry);
                    self.applied.insert(entry.index, text);
                }
            }
            self.last_applied = self.last_applied.max(entry.index);
        }
        if !applied.is_empty() {
            self.ledger(node);
        }
    }

    pub fn duties(&mut self, node: &Node, now: MonoTime) {
        if node.is_leader() {
            let first = *self.leaders.entry(node.term()).or_insert(node.id());
            assert_eq!(first, node.id(), "one leader a term, term {}", node.term());
        }
        let state = node.state();
        let leads = state.members().values().filter(|m| m.duty == Duty::Lead).count();
        assert!(leads <= 1, "two leads in one state");
        let duty = node.duty(now);
        if duty.duty == Duty::Lead && !duty.provisional {
            let first = *self.leads.entry(duty.epoch).or_insert(node.id());
            assert_eq!(first, node.id(), "two leads in epoch {}", duty.epoch);
        }
    }

    /// What an entry did, wherever it was applied first.
    fn first_applied(&mut self, applied: &Applied) {
        if let Entry::Command(proposal) = &applied.entry
            && let Command::Seal(seal) = &proposal.command
            && applied.outcome == Outcome::Done
        {
            let first = *self.sealers.entry(seal.recording).or_insert(seal.node);
            assert_eq!(first, seal.node, "one node has the file of {}", seal.recording);
            let accounted = self.accounted.entry(seal.recording).or_default();
            accounted.extend(seal.used.iter().chain(&seal.covered));
        }
        for change in &applied.changes {
            match change {
                Change::Claimed { stretch, .. } => {
                    let captures = self.captures.entry(stretch.recording).or_default();
                    captures.insert((stretch.node, stretch.segment));
                }
                Change::Closed { recording } => {
                    let captures = &self.captures[recording];
                    let accounted = self.accounted.get(recording);
                    let all = accounted.is_some_and(|accounted| captures.is_subset(accounted));
                    assert!(all, "nothing leaves the ledger unaccounted: {recording}");
                }
                _ => {}
            }
        }
    }

    /// A capture is dropped: some seal must have made it superfluous.
    pub fn dropped(&self, recording: RecordingId, node: NodeId, segment: SegmentId) {
        let accounted = self.accounted.get(&recording);
        let accounted = accounted.is_some_and(|captures| captures.contains(&(node, segment)));
        assert!(accounted, "a capture of {recording} is dropped that no seal accounts for");
    }

    fn ledger(&mut self, node: &Node) {
        for call in node.state().ledger().calls() {
            let ucid = call.call.ucid.as_ref().map(ToString::to_string).unwrap_or_default();
            for slot in &call.slots {
                let holders = slot.stretches.iter().filter(|s| s.standing == Standing::Holds);
                assert!(holders.count() <= 1, "one owner a stretch, call {ucid}");
                let holder = slot.holder();
                assert!(holder.is_none_or(Stretch::open), "who holds may be capturing");
                assert!(
                    slot.over.is_some() || !slot.open() || holder.is_some(),
                    "where somebody captures somebody holds, call {ucid}"
                );
                let key = (ucid.clone(), slot.copy, slot.take);
                let name = *self.names.entry(key).or_insert(slot.recording);
                assert_eq!(name, slot.recording, "one recording a call and copy, call {ucid}");
                if let Some(sealed) = &slot.sealed {
                    let entry = (sealed.revision, ucid.clone(), slot.copy);
                    let known = self.sealed.entry(slot.recording).or_insert(entry);
                    known.0 = known.0.max(sealed.revision);
                }
            }
        }
    }

    /// After healing: nothing open, one recording per call and copy.
    pub fn healed(&self, node: &Node) {
        let ledger = node.state().ledger();
        assert!(
            ledger.is_empty(),
            "calls left in the ledger: {:#?}",
            ledger.calls().collect::<Vec<_>>()
        );
        let mut published: BTreeMap<(&str, u8), Vec<RecordingId>> = BTreeMap::new();
        for (recording, (_, ucid, copy)) in &self.sealed {
            published.entry((ucid, *copy)).or_default().push(*recording);
            assert!(ledger.closed_slot(*recording).is_some(), "sealed and then forgotten");
        }
        for (call, recordings) in published {
            assert_eq!(recordings.len(), 1, "one recording of {call:?}");
        }
    }
}
