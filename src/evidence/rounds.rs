//! When a node puts its newest checkpoint before the group to have it countersigned: once for each checkpoint, at once when
//! somebody comes back who has not signed it, and else more and more seldom. So a quiet group says nothing, and a busy one
//! a few hundred bytes a minute and member. Pure; time comes in.

use std::collections::BTreeSet;
use std::time::Duration;

use storage_core::{MonoTime, NodeId};

/// Between two proposals, whatever happens.
const LEAST: Duration = Duration::from_secs(5);
/// After which one that was not answered is made again; doubled each time.
const REPEAT: Duration = Duration::from_secs(60);
/// How often it is doubled: up to about an hour.
const DOUBLED_MAX: u32 = 6;

/// What is put before the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Lines of the manifest that the checkpoint covers.
    pub lines: u64,
    /// Whether the node has found that its manifest lacks what was countersigned.
    pub lacks: bool,
}

/// What was proposed last.
#[derive(Clone, Debug, Default)]
pub struct Rounds {
    asked: Option<Asked>,
}

#[derive(Clone, Debug)]
struct Asked {
    subject: Subject,
    when: MonoTime,
    missing: BTreeSet<NodeId>,
    repeated: u32,
}

impl Rounds {
    /// Whether to propose it now. `missing`: who can be reached and has not signed it.
    #[must_use]
    pub fn is_due(&self, now: MonoTime, subject: Subject, missing: &BTreeSet<NodeId>) -> bool {
        let Some(asked) = &self.asked else { return !missing.is_empty() || subject.lacks };
        let since = now.since(asked.when);
        if since < LEAST {
            return false;
        }
        if asked.subject != subject {
            // That it lacks something is told whether or not anybody is to sign.
            return !missing.is_empty() || (subject.lacks && !asked.subject.lacks);
        }
        let wait = REPEAT * 2_u32.pow(asked.repeated.min(DOUBLED_MAX));
        !missing.is_subset(&asked.missing) || (!missing.is_empty() && since >= wait)
    }

    /// It was proposed.
    pub fn asked(&mut self, now: MonoTime, subject: Subject, missing: BTreeSet<NodeId>) {
        let before = self.asked.take().filter(|asked| asked.subject == subject);
        let again = before.filter(|before| missing.is_subset(&before.missing));
        let repeated = again.map_or(0, |before| before.repeated + 1);
        self.asked = Some(Asked { subject, when: now, missing, repeated });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(numbers: &[u16]) -> BTreeSet<NodeId> {
        numbers.iter().copied().map(NodeId).collect()
    }

    fn at(seconds: u64) -> MonoTime {
        MonoTime::from_millis(1000 * seconds)
    }

    const FIRST: Subject = Subject { lines: 5, lacks: false };

    #[test]
    fn what_nobody_lacks_is_not_proposed() {
        let rounds = Rounds::default();
        assert!(!rounds.is_due(at(0), FIRST, &nodes(&[])));
        assert!(rounds.is_due(at(0), FIRST, &nodes(&[2])));
    }

    #[test]
    fn a_new_checkpoint_and_a_member_that_is_back_are_due_at_once() {
        let mut rounds = Rounds::default();
        rounds.asked(at(0), FIRST, nodes(&[2]));
        let second = Subject { lines: 6, ..FIRST };
        assert!(!rounds.is_due(at(4), second, &nodes(&[2])), "not so soon");
        assert!(rounds.is_due(at(5), second, &nodes(&[2])));
        assert!(!rounds.is_due(at(5), FIRST, &nodes(&[2])));
        assert!(rounds.is_due(at(5), FIRST, &nodes(&[3])), "node 3 is back");
        assert!(!rounds.is_due(at(500), FIRST, &nodes(&[])), "all have signed");
    }

    #[test]
    fn who_does_not_answer_is_asked_more_and_more_seldom() {
        let mut rounds = Rounds::default();
        let missing = nodes(&[2]);
        let (mut times, mut second) = (Vec::new(), 0);
        while times.len() < 10 {
            if rounds.is_due(at(second), FIRST, &missing) {
                rounds.asked(at(second), FIRST, missing.clone());
                times.push(second);
            }
            second += 1;
        }
        let waits: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(waits, [60, 120, 240, 480, 960, 1920, 3840, 3840, 3840]);
    }

    #[test]
    fn that_something_lacks_is_told_once_though_all_have_signed() {
        let mut rounds = Rounds::default();
        rounds.asked(at(0), FIRST, nodes(&[2]));
        let lacks = Subject { lacks: true, ..FIRST };
        assert!(rounds.is_due(at(5), lacks, &nodes(&[])));
        rounds.asked(at(5), lacks, nodes(&[]));
        assert!(!rounds.is_due(at(500), lacks, &nodes(&[])));
        assert!(!rounds.is_due(at(500), Subject { lines: 9, lacks: true }, &nodes(&[])));
    }
}
