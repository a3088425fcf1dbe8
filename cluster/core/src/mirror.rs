//! Who keeps what another recorder has as well (its captures while it makes them, its voice files), so that
//! the loss of one of them loses nothing: the same answer on every member that knows the same recorders.
//! Whether it really has them is known to whoever keeps them only.

use std::collections::BTreeSet;

use storage_core::{NodeId, Role};

use crate::view::GroupView;

/// The recorders of a group: members that a witness is not one of.
#[must_use]
pub fn recorders(view: &GroupView) -> BTreeSet<NodeId> {
    let records = |role: Role| role != Role::Witness;
    let members = view.members.iter().filter(|member| member.role.is_some_and(records));
    members.map(|member| member.node).collect()
}

/// Those of some members that answer the node whose view it is.
#[must_use]
pub fn reachable(nodes: &BTreeSet<NodeId>, view: &GroupView) -> BTreeSet<NodeId> {
    let answers = |node: &&NodeId| view.member(**node).is_some_and(|member| member.reachable);
    nodes.iter().filter(answers).copied().collect()
}

/// The recorder that keeps what `owner` has too: the next one in the order of their numbers, and after
/// the last the first. So with two recorders each keeps the other's. `None` if there is no other.
/// A witness is no recorder. The owner need not be one any more: a successor is found all the same.
#[must_use]
pub fn mirror_of(owner: NodeId, recorders: &BTreeSet<NodeId>) -> Option<NodeId> {
    let next = recorders.iter().find(|recorder| **recorder > owner);
    next.or(recorders.first()).copied().filter(|mirror| *mirror != owner)
}

/// Whose things `node` keeps; nobody's if there is no other recorder, or it is none itself.
#[must_use]
pub fn kept_by(recorders: &BTreeSet<NodeId>, node: NodeId) -> Option<NodeId> {
    recorders
        .iter()
        .copied()
        .find(|other| mirror_of(*other, recorders) == Some(node))
        .filter(|_| recorders.contains(&node))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nodes(numbers: &[u16]) -> BTreeSet<NodeId> {
        numbers.iter().copied().map(NodeId).collect()
    }

    #[test]
    fn each_recorder_is_mirrored_by_the_next() {
        // Owner, recorders, mirror.
        for (owner, recorders, mirror) in [
            (1, &[1, 2][..], Some(2)),
            (2, &[1, 2], Some(1)),
            (1, &[1, 2, 4], Some(2)),
            (2, &[1, 2, 4], Some(4)),
            (4, &[1, 2, 4], Some(1)),
            (3, &[1, 2, 4], Some(4)),
            (9, &[1, 2, 4], Some(1)),
            (1, &[1], None),
            (2, &[1], Some(1)),
            (1, &[], None),
        ] {
            assert_eq!(mirror_of(NodeId(owner), &nodes(recorders)), mirror.map(NodeId), "{owner}");
        }
        assert_eq!(kept_by(&nodes(&[1, 2]), NodeId(3)), None, "a witness keeps nothing");
    }

    proptest! {
        /// Each keeps for exactly one other, so nobody has more to keep than the rest.
        #[test]
        fn the_burden_is_shared(numbers in proptest::collection::btree_set(1..200_u16, 2..20)) {
            let recorders: BTreeSet<_> = numbers.into_iter().map(NodeId).collect();
            let mirrors = recorders.iter().filter_map(|owner| mirror_of(*owner, &recorders));
            let kept: BTreeSet<_> = mirrors.collect();
            prop_assert_eq!(&kept, &recorders);
            for owner in &recorders {
                prop_assert_ne!(mirror_of(*owner, &recorders), Some(*owner));
                let kept = kept_by(&recorders, *owner).unwrap();
                prop_assert_eq!(mirror_of(kept, &recorders), Some(*owner));
            }
        }
    }
}
