//! How far the clocks of other members were off until one was set: what was captured before bears the times of then.
//! Pure: what is measured goes in. Which of it a capture goes by is decided in
//! [`recorder_core::media::clock_step`].

use std::collections::BTreeMap;

use storage_core::NodeId;

/// Less than this is drift, and a better measurement: 10 s.
const STEP_MICROS: u64 = 10_000_000;
/// Steps that are remembered of each member. Nobody sets a clock more often during a call.
const STEPS_MAX: usize = 8;

/// By member, how far it was ahead, microseconds; the last is what is measured now.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    known: BTreeMap<NodeId, Vec<i64>>,
}

impl Clocks {
    /// This is measured now.
    pub(super) fn note(&mut self, offsets: &BTreeMap<NodeId, i64>) {
        for (node, offset) in offsets {
            let known = self.known.entry(*node).or_default();
            match known.last_mut() {
                Some(last) if last.abs_diff(*offset) < STEP_MICROS => *last = *offset,
                _ => known.push(*offset),
            }
            if known.len() > STEPS_MAX {
                known.remove(0);
            }
        }
    }

    /// Everything that held once, what holds now included.
    pub(super) fn known(&self) -> BTreeMap<NodeId, Vec<i64>> {
        self.known.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;

    #[test]
    fn what_held_before_a_step_is_kept_and_drift_is_none() {
        let mut clocks = Clocks::default();
        let node = NodeId(2);
        for offset in [100, 300, HOUR, HOUR + 5_000, 20] {
            clocks.note(&[(node, offset)].into());
        }
        assert_eq!(clocks.known()[&node], [300, HOUR + 5_000, 20]);
        for step in 0..20 {
            clocks.note(&[(node, step * HOUR)].into());
        }
        assert_eq!(clocks.known()[&node].len(), STEPS_MAX);
    }
}
