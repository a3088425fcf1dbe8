//! Which of several members sends an alarm. Each sends its own; one that several see is sent by one of
//! them. Pure; what is sent, and how, is decided elsewhere.

use std::collections::BTreeSet;

use cluster_core::GroupView;
use storage_core::NodeId;

use super::known::{self, Scope};

/// The group, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// This node.
    pub own: NodeId,
    /// Who leads the Raft group, as far as this node knows, while there is a majority.
    pub leader: Option<NodeId>,
    /// The members that the group takes for alive.
    pub up: BTreeSet<NodeId>,
}

impl Sight {
    /// What the group says now.
    #[must_use]
    pub fn of(view: &GroupView) -> Self {
        let up = view.members.iter().filter(|member| member.up).map(|member| member.node);
        Self { own: view.node, leader: view.leader.filter(|_| view.quorum), up: up.collect() }
    }

    /// Whether this node is to send this alarm. When in doubt it does: twice is better than not at all.
    /// What changes with the group's view is to be asked again.
    #[must_use]
    pub fn sends(&self, name: &str, subject: &str) -> bool {
        let Some((scope, peer)) = known::peer_of(name, subject) else { return true };
        match scope {
            Scope::Node => true,
            // Only the two see it, and the one with the lower number tells.
            Scope::Pair => self.own < peer || !self.up.contains(&peer),
            // All who are left see it, and the leader tells.
            Scope::Gone => self.leader.is_none_or(|leader| leader == self.own || leader == peer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(own: u16, leader: Option<u16>, up: &[u16]) -> Sight {
        let up = up.iter().copied().map(NodeId).collect();
        Sight { own: NodeId(own), leader: leader.map(NodeId), up }
    }

    /// Of three members, who sends?
    fn senders(leader: Option<u16>, up: &[u16], name: &str, subject: &str) -> Vec<u16> {
        let nodes = [1, 2, 3].into_iter();
        nodes.filter(|own| sight(*own, leader, up).sends(name, subject)).collect()
    }

    #[test]
    fn each_sends_its_own_and_one_sends_what_several_see() {
        for (leader, up, name, subject, expected) in [
            // Its own: the disk, the mirror on node 2, being refused by node 2.
            (Some(3), &[1, 2, 3][..], "diskfull", "", &[1, 2, 3][..]),
            (Some(3), &[1, 2, 3], "mirrorlag", "2", &[1, 2, 3]),
            (Some(3), &[1, 2, 3], "peerrefuses", "2", &[1, 2, 3]),
            // Node 2 is gone: 1 and 3 see it, the leader tells; until there is one, both.
            (Some(3), &[1, 3], "memberdown", "2", &[3]),
            (Some(1), &[1, 3], "memberdown", "2", &[1]),
            (Some(2), &[1, 3], "memberdown", "2", &[1, 2, 3]),
            (None, &[1, 3], "memberdown", "2", &[1, 2, 3]),
            // The clocks of two differ: the one with the lower number tells, if the other is there.
            (Some(3), &[1, 2, 3], "clockoff", "2", &[1]),
            (Some(3), &[1, 2, 3], "clockoff", "1", &[]),
            (Some(3), &[2, 3], "clockoff", "1", &[1, 2, 3]),
            // What names no member is everybody's own.
            (Some(1), &[1, 2, 3], "clockoff", "two", &[1, 2, 3]),
        ] {
            assert_eq!(senders(leader, up, name, subject), expected, "{name} {subject} {leader:?}");
        }
    }

    /// Whatever the view: of the two between whom something is wrong, or of all who see that one is gone,
    /// somebody tells.
    #[test]
    fn nothing_is_told_by_nobody() {
        for leader in [None, Some(1), Some(2), Some(3)] {
            for gone in [1, 2, 3] {
                let left: Vec<_> = [1, 2, 3].into_iter().filter(|node| *node != gone).collect();
                let told = left
                    .iter()
                    .any(|own| sight(*own, leader, &left).sends("memberdown", &gone.to_string()));
                assert!(told, "{gone} is gone, {leader:?} leads");
            }
            for (a, b) in [(1, 2), (1, 3), (2, 3)] {
                let all = [1, 2, 3];
                let told = sight(a, leader, &all).sends("clockoff", &b.to_string())
                    || sight(b, leader, &all).sends("clockoff", &a.to_string());
                assert!(told, "{a} and {b}, {leader:?} leads");
            }
        }
    }
}
