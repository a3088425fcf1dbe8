//! The network between members: delay, loss, duplicates, cuts one way or both. Within a connection
//! TCP keeps the order; a connection that is made anew may have dropped or repeated something, so
//! that is what single messages suffer here.

use std::collections::{BTreeMap, BTreeSet};

use storage_core::NodeId;

use crate::rng::Rng;
use crate::{MS, Time};

/// The links.
#[derive(Debug, Default)]
pub struct Net {
    /// Nothing gets from the one to the other.
    pub blocked: BTreeSet<(NodeId, NodeId)>,
    pub loss_percent: u64,
    delay_max: Time,
    last: BTreeMap<(NodeId, NodeId), Time>,
}

impl Net {
    pub fn new(delay_max: Time) -> Self {
        Self { delay_max, ..Self::default() }
    }

    /// When a message that is sent now arrives: never, once, or twice.
    pub fn transmit(&mut self, rng: &mut Rng, now: Time, from: NodeId, to: NodeId) -> Vec<Time> {
        if self.blocked.contains(&(from, to)) || rng.chance(self.loss_percent) {
            return Vec::new();
        }
        let mut delay = rng.range(100, self.delay_max.max(MS));
        if rng.chance(1) {
            delay += rng.range(0, 150 * MS);
        }
        let last = self.last.entry((from, to)).or_default();
        let at = (now + delay).max(*last + 1);
        *last = at;
        if rng.chance(1) { vec![at, at + rng.range(1, 100 * MS)] } else { vec![at] }
    }

    /// Whether both reach each other.
    pub fn connected(&self, a: NodeId, b: NodeId) -> bool {
        !self.blocked.contains(&(a, b)) && !self.blocked.contains(&(b, a))
    }

    pub fn isolate(&mut self, node: NodeId, others: &[NodeId]) {
        for other in others.iter().filter(|other| **other != node) {
            self.blocked.insert((node, *other));
            self.blocked.insert((*other, node));
        }
    }
}
