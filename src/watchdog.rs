//! The service manager's watchdog: it is fed while all parts of the node get on, and only then. A process
//! that is there and does nothing is worse than one that is gone: the group takes over from the second
//! at once. What "getting on" is for each part is decided here; what happens to a process that is not
//! fed is the service manager's matter (`WatchdogSec=`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use recorder::clock::Clock;
use storage_core::MonoTime;

use crate::node::Node;

/// Parts of the manager's patience: it is fed so many times within it, and a part may stand still for
/// half of it.
const MEALS: u32 = 4;

/// What each part has done so far: its name, and a number that grows while it gets on.
type Turns = [(&'static str, u64)];

/// Sees which parts stand still.
#[derive(Debug)]
struct Progress {
    patience: Duration,
    parts: BTreeMap<&'static str, (u64, MonoTime)>,
}

impl Progress {
    const fn new(patience: Duration) -> Self {
        Self { patience, parts: BTreeMap::new() }
    }

    /// The parts that have done nothing for longer than they may.
    fn stalled(&mut self, now: MonoTime, turns: &Turns) -> Vec<&'static str> {
        let mut stalled = Vec::new();
        for &(part, count) in turns {
            let seen = self.parts.entry(part).or_insert((count, now));
            if seen.0 != count {
                *seen = (count, now);
            } else if now.since(seen.1) > self.patience {
                stalled.push(part);
            }
        }
        stalled
    }
}

/// Feeds the watchdog for as long as the node runs; nothing where the service manager wants none.
pub async fn feed(node: Arc<Node>) {
    let Some(within) = sd_notify::watchdog_enabled() else { return };
    let clock = Clock::start();
    let mut progress = Progress::new(within / 2);
    let mut beat = tokio::time::interval(within / MEALS);
    let mut answers = 0;
    loop {
        beat.tick().await;
        let mut turns: Vec<_> =
            node.group.turns().map(|turns| ("group", turns)).into_iter().collect();
        if let Some(works) = &node.works {
            answers += u64::from(works.control.answers(within / MEALS).await);
            turns.push(("control task", answers));
            turns.push(("media thread", works.media.stats().turns.value()));
        }
        let stalled = progress.stalled(clock.mono(), &turns);
        if stalled.is_empty() {
            // Without systemd there is nobody to tell.
            drop(sd_notify::notify(&[sd_notify::NotifyState::Watchdog]));
        } else {
            tracing::error!(?stalled, "does not get on: the watchdog is not fed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_part_that_stands_still_for_too_long_is_told() {
        let at = MonoTime::from_millis;
        let mut progress = Progress::new(Duration::from_secs(5));
        assert!(progress.stalled(at(0), &[("a", 1), ("b", 7)]).is_empty());
        assert!(progress.stalled(at(4_000), &[("a", 2), ("b", 7)]).is_empty());
        assert!(progress.stalled(at(5_000), &[("a", 2), ("b", 7)]).is_empty());
        assert_eq!(progress.stalled(at(5_001), &[("a", 2), ("b", 7)]), ["b"]);
        assert_eq!(progress.stalled(at(9_500), &[("a", 2), ("b", 7)]), ["a", "b"]);
        // It was slow, not dead.
        assert_eq!(progress.stalled(at(9_600), &[("a", 2), ("b", 8)]), ["a"]);
    }
}
