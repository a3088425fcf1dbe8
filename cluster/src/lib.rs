//! The group as this node sees it, behind a handle that the rest of the program watches. It holds
//! no telephony and no media.

use cluster_core::GroupView;
use storage_core::{Duty, NodeId, Role};

/// This node's place in the group.
#[derive(Clone, Debug)]
pub struct Group {
    node: NodeId,
    view: GroupView,
}

impl Group {
    /// A node without peers.
    #[must_use]
    pub fn alone(node: NodeId, role: Role) -> Self {
        Self { node, view: GroupView::alone(node, role) }
    }

    /// What this node is to do now.
    #[must_use]
    pub fn duty(&self) -> Duty {
        let own = self.view.members.iter().find(|member| member.node == self.node);
        own.map_or(Duty::None, |member| member.duty)
    }

    /// The whole group.
    #[must_use]
    pub const fn view(&self) -> &GroupView {
        &self.view
    }
}
