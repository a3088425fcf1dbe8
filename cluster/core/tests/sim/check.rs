//! What must hold after every step, and what must hold once everything has healed.

use std::collections::BTreeMap;

use cluster_core::node::{Applied, Entry};
use cluster_core::{Node, Standing};
use storage_core::{Duty, MonoTime, NodeId, RecordingId};

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
    /// Each recording's one name.
    names: BTreeMap<(String, u8, u16), RecordingId>,
    pub last_applied: u64,
}

impl Checker {
    pub fn applied(&mut self, node: &Node, applied: &[Applied]) {
        for entry in applied.iter().filter(|applied| applied.entry != Entry::Restored) {
            let text = format!("{:?} {:?} {:?}", entry.entry, entry.outcome, entry.changes);
            let first = self.applied.entry(entry.index).or_insert_with(|| text.clone());
            assert_eq!(*first, text, "applied prefixes agree, index {}", entry.index);
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

    fn ledger(&mut self, node: &Node) {
        for call in node.state().ledger().calls() {
            let ucid = call.call.ucid.as_ref().map(ToString::to_string).unwrap_or_default();
            for slot in &call.slots {
                let holders = slot.stretches.iter().filter(|s| s.standing == Standing::Holds);
                assert!(holders.count() <= 1, "one owner a stretch, call {ucid}");
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
