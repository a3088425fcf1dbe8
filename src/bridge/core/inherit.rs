//! What is kept here of a node that does not answer, and of which the group never heard: its claim was not in
//! the log when its node was lost. It decides what is handed in, and when it is too late to tell whether
//! it was claimed once.

use cluster_core::{Command, State};
use storage_core::{NodeId, SegmentId};

use super::{About, Bridge, words};

/// Whether the group knows nothing of a capture that is kept here, and its node cannot tell it.
#[must_use]
pub fn is_unclaimed(state: &State, node: NodeId, segment: SegmentId) -> bool {
    let ledger = state.ledger();
    let mut known = ledger.claimed(node).chain(ledger.accounted(node));
    !state.present().up.contains(&node)
        && known.all(|known| known != segment)
        && !ledger.is_closed(node, segment)
}

impl Bridge {
    /// What a mirror here holds of a recording of a node that does not answer: what of it was never claimed is
    /// handed in, one capture at a time, because the answer to the first may give it another name.
    pub fn inherited(&mut self, outline: &words::Outline, state: &State) {
        let ledger = state.ledger();
        let remembered = |claim: &cluster_core::Claim| {
            ledger.remembers_since().is_none_or(|since| claim.from > since)
        };
        let slots = || ledger.calls().flat_map(|call| &call.slots);
        let named = outline.captures.iter().find_map(|(claim, _)| {
            let is_it =
                |s: &cluster_core::Stretch| (s.node, s.segment) == (claim.node, claim.segment);
            let slot = slots().find(|slot| slot.stretches.iter().any(is_it));
            slot.map(|slot| slot.recording)
        });
        let unclaimed = outline
            .captures
            .iter()
            .find(|(claim, _)| remembered(claim) && is_unclaimed(state, claim.node, claim.segment));
        let Some((claim, _)) = unclaimed else { return };
        let mut claim = claim.clone();
        claim.recording = named.unwrap_or(claim.recording);
        let about = About::HandIn(claim.node, claim.segment);
        self.propose(about, Command::HandIn { keeper: self.node, claim });
    }
}
