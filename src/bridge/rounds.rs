//! When which peer is asked for what it lists, so that nothing is missing from this node's catalog. Pure.
//!
//! The ledger has every recorder that answers list what is sealed. What was sealed while this node did
//! not answer is asked for once it does: of each recorder as soon as it is reached, again after a while
//! (the group may take notice of this node later than this node of the group), and now and then.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use storage_core::{MonoTime, NodeId, WallTime};

/// When a peer that was just reached is asked again.
const SETTLED: Duration = Duration::from_secs(20);
/// How often a peer that stays reachable is asked.
const NOW_AND_THEN: Duration = Duration::from_secs(3600);
/// A peer that did not answer is asked again after so long.
const AGAIN: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug)]
struct Peer {
    /// When it was last asked with success, since it is reachable.
    heard: Option<WallTime>,
    due: MonoTime,
}

/// Whom to ask when.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    others: BTreeSet<NodeId>,
    reachable: BTreeMap<NodeId, Peer>,
}

impl Rounds {
    /// The other recorders, and who of them can be reached.
    pub(super) fn regrouped(
        &mut self,
        now: MonoTime,
        others: BTreeSet<NodeId>,
        reachable: &BTreeSet<NodeId>,
    ) {
        self.others = others;
        self.reachable.retain(|node, _| reachable.contains(node));
        for node in reachable {
            self.reachable.entry(*node).or_insert(Peer { heard: None, due: now });
        }
    }

    /// Whom to ask now.
    pub(super) fn due(&self, now: MonoTime) -> Option<NodeId> {
        let (node, peer) = self.reachable.iter().min_by_key(|(_, peer)| peer.due)?;
        (peer.due <= now).then_some(*node)
    }

    /// When somebody is to be asked, if nothing happens before.
    pub(super) fn wakes(&self) -> Option<MonoTime> {
        self.reachable.values().map(|peer| peer.due).min()
    }

    /// A peer was asked, from this time on; whether it told everything.
    pub(super) fn asked(&mut self, now: MonoTime, node: NodeId, from: WallTime, told: bool) {
        let Some(peer) = self.reachable.get_mut(&node) else { return };
        peer.due = match (told, peer.heard) {
            (false, _) => now + AGAIN,
            (true, None) => now + SETTLED,
            (true, Some(_)) => now + NOW_AND_THEN,
        };
        if told {
            peer.heard = Some(from);
        }
    }

    /// Until when nothing is missing that anybody lists: since then all recorders have told what they
    /// list. `None` while one of them has not, or there is no other.
    pub(super) fn complete_until(&self) -> Option<WallTime> {
        let heard = |node| self.reachable.get(node).and_then(|peer: &Peer| peer.heard);
        let heard: Option<Vec<_>> = self.others.iter().map(heard).collect();
        heard?.into_iter().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> MonoTime {
        MonoTime::from_micros(seconds * 1_000_000)
    }

    fn wall(seconds: i64) -> WallTime {
        WallTime::from_millis(seconds * 1000)
    }

    fn nodes(numbers: &[u16]) -> BTreeSet<NodeId> {
        numbers.iter().copied().map(NodeId).collect()
    }

    #[test]
    fn each_peer_is_asked_when_it_is_reached_once_more_and_now_and_then() {
        let mut rounds = Rounds::default();
        assert_eq!((rounds.due(at(9)), rounds.wakes()), (None, None));
        rounds.regrouped(at(1), nodes(&[1, 2]), &nodes(&[1, 2]));
        for node in [1, 2] {
            assert_eq!(rounds.due(at(1)), Some(NodeId(node)));
            rounds.asked(at(1), NodeId(node), wall(node.into()), true);
        }
        assert_eq!((rounds.due(at(20)), rounds.wakes()), (None, Some(at(21))));
        rounds.asked(at(21), NodeId(1), wall(21), true);
        rounds.asked(at(21), NodeId(2), wall(22), true);
        assert_eq!((rounds.due(at(3620)), rounds.due(at(3621))), (None, Some(NodeId(1))));
        // Gone and back.
        rounds.regrouped(at(30), nodes(&[1, 2]), &nodes(&[1]));
        rounds.regrouped(at(31), nodes(&[1, 2]), &nodes(&[1, 2]));
        assert_eq!(rounds.due(at(31)), Some(NodeId(2)));
        rounds.asked(at(31), NodeId(2), wall(31), false);
        assert_eq!((rounds.due(at(35)), rounds.due(at(36))), (None, Some(NodeId(2))));
    }

    #[test]
    fn nothing_is_missing_once_all_have_told() {
        let mut rounds = Rounds::default();
        assert_eq!(rounds.complete_until(), None, "nobody is there");
        rounds.regrouped(at(0), nodes(&[1, 2]), &nodes(&[1, 2]));
        rounds.asked(at(0), NodeId(1), wall(5), true);
        assert_eq!(rounds.complete_until(), None);
        rounds.asked(at(0), NodeId(2), wall(7), false);
        assert_eq!(rounds.complete_until(), None);
        rounds.asked(at(0), NodeId(2), wall(8), true);
        assert_eq!(rounds.complete_until(), Some(wall(5)));
        // One that goes may seal what is told by nobody.
        rounds.regrouped(at(1), nodes(&[1, 2]), &nodes(&[2]));
        assert_eq!(rounds.complete_until(), None);
        rounds.regrouped(at(2), nodes(&[2]), &nodes(&[2]));
        assert_eq!(rounds.complete_until(), Some(wall(8)), "it was removed");
    }
}
