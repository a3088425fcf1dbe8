//! Who keeps the captures of whom, for the day that their node is lost: each recorder those of the one
//! before it in the order of numbers, and the first those of the last. Every member works it out from the
//! members' roles alone. Whether it really has them is known to it only.

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

/// Who keeps what `node` captures; nobody if there is no other recorder.
#[must_use]
pub fn keeper_of(recorders: &BTreeSet<NodeId>, node: NodeId) -> Option<NodeId> {
    let mut after = recorders.range(node..).filter(|other| **other != node);
    after.next().or_else(|| recorders.first()).copied().filter(|other| *other != node)
}

/// Whose captures `node` keeps; nobody's if there is no other recorder, or it is none itself.
#[must_use]
pub fn kept_by(recorders: &BTreeSet<NodeId>, node: NodeId) -> Option<NodeId> {
    recorders
        .iter()
        .copied()
        .find(|other| keeper_of(recorders, *other) == Some(node))
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
    fn the_next_recorder_keeps_what_this_one_captures() {
        let keeper = |all: &[u16], node| keeper_of(&nodes(all), NodeId(node)).map(|node| node.0);
        assert_eq!([keeper(&[1, 2], 1), keeper(&[1, 2], 2)], [Some(2), Some(1)]);
        assert_eq!([keeper(&[1, 4, 9], 4), keeper(&[1, 4, 9], 9)], [Some(9), Some(1)]);
        assert_eq!([keeper(&[1], 1), keeper(&[], 1)], [None, None]);
        // One that has left the group is kept by whoever is next by now.
        assert_eq!(keeper(&[1, 3], 2), Some(3));
        assert_eq!(kept_by(&nodes(&[1, 2]), NodeId(3)), None, "a witness keeps nothing");
    }

    proptest! {
        #[test]
        fn each_recorder_keeps_for_one_and_is_kept_by_one(
            numbers in proptest::collection::btree_set(1_u16..50, 2..9)
        ) {
            let recorders: BTreeSet<NodeId> = numbers.into_iter().map(NodeId).collect();
            let keepers: BTreeSet<_> =
                recorders.iter().map(|node| keeper_of(&recorders, *node).unwrap()).collect();
            prop_assert_eq!(&keepers, &recorders);
            for node in &recorders {
                let kept = kept_by(&recorders, *node).unwrap();
                prop_assert!(kept != *node);
                prop_assert_eq!(keeper_of(&recorders, kept), Some(*node));
            }
        }
    }
}
