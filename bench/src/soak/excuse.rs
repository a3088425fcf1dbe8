//! Which calls nobody could record: those that lie wholly within a time in which, by the log of
//! faults, no recorder was able to. Pure.

use std::time::{Duration, SystemTime};

use storage_core::NodeId;

/// A recorder that says that it is well needs so long to find the calls that are up.
const FINDS_CALLS: Duration = Duration::from_secs(1);

/// When a recorder could record nothing.
#[derive(Clone, Copy, Debug)]
pub struct Outage {
    /// Which.
    pub node: NodeId,
    /// When it was broken.
    pub since: SystemTime,
    /// When it said that it was well again.
    pub until: SystemTime,
}

/// Whether none of these recorders was able to record at any moment between the two.
pub fn nobody_could(
    outages: &[Outage],
    recorders: &[NodeId],
    from: SystemTime,
    to: SystemTime,
) -> bool {
    recorders.iter().all(|node| {
        let mut of_node: Vec<_> = outages.iter().filter(|outage| outage.node == *node).collect();
        of_node.sort_by_key(|outage| outage.since);
        let mut reached = from;
        for outage in of_node {
            if outage.since <= reached {
                reached = reached.max(outage.until + FINDS_CALLS);
            }
        }
        reached >= to
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_excused_only_if_no_recorder_was_there_at_any_moment() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let (one, two) = (NodeId(1), NodeId(2));
        let outage = |node, since, until| Outage { node, since: at(since), until: at(until) };
        let outages = [outage(one, 10, 20), outage(one, 20, 30), outage(two, 12, 18)];
        let excused = |from, to| nobody_could(&outages, &[one, two], at(from), at(to));
        assert!(excused(13, 17) && excused(12, 19));
        assert!(!excused(11, 15), "the second had not been broken yet");
        assert!(!excused(13, 20) && !excused(40, 41) && !excused(1, 2));
        assert!(nobody_could(&outages, &[one], at(10), at(31)));
        assert!(!nobody_could(&outages, &[one], at(10), at(32)));
    }
}
