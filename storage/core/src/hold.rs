//! Legal hold: who keeps a recording from being deleted, and how that ends. It decides that one admin
//! sets a hold and two release it, and what becomes of words that were given on several nodes at once:
//! whatever order they meet in, the outcome is the same. Who is an admin, and how one node's words get to
//! the others, it does not decide.
//!
//! The last hold counts, where "last" is told by its [`Stamp`]. A wish to release it belongs to that hold
//! alone, so a hold that is set again withdraws it. Wishes are only ever added: two by different people
//! within [`RELEASE_WITHIN`] release the recording.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::NodeId;
use crate::marks::{Stamp, next_stamp};
use crate::record::Recording;
use crate::time::WallTime;

/// Longest reason, bytes of UTF-8.
pub const REASON_BYTES_MAX: usize = 500;
/// The second person agrees within so long, or the first one's wish is void.
pub const RELEASE_WITHIN: Duration = Duration::from_secs(7 * 24 * 3600);
/// Wishes to release one hold.
pub const RELEASES_MAX: usize = 64;

/// Somebody's wish to release a hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When and where.
    #[serde(flatten)]
    pub stamp: Stamp,
}

/// The last hold of a recording, released or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldMark {
    /// Who set it; empty if that is not known.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When and where.
    #[serde(flatten)]
    pub stamp: Stamp,
    /// Who wished to release it, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub releases: Vec<Release>,
}

impl HoldMark {
    /// Whether the recording is held.
    #[must_use]
    pub fn is_held(&self) -> bool {
        let agree = |one: &Release, other: &Release| {
            one.by != other.by && within(one.stamp.at, other.stamp.at)
        };
        !self.releases.iter().any(|one| self.releases.iter().any(|other| agree(one, other)))
    }

    /// The wish that waits for a second person, if there is one.
    #[must_use]
    pub fn pending(&self, now: WallTime) -> Option<&Release> {
        let last = self.releases.last().filter(|last| within(last.stamp.at, now));
        last.filter(|_| self.is_held())
    }

    /// The latest word in it.
    #[must_use]
    pub fn last_stamp(&self) -> Stamp {
        self.releases.iter().map(|release| release.stamp).fold(self.stamp, Stamp::max)
    }
}

/// What one admin wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// Hold it, or release it.
    pub on: bool,
    /// Why.
    pub reason: String,
}

/// Why a hold cannot be set or released.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HoldError {
    /// No reason, or none that can be kept.
    #[error("`reason` must be given: 1 to {REASON_BYTES_MAX} bytes, without control characters")]
    Reason,
    /// The person who asked for the release before.
    #[error(
        "{by} has asked for the release already, at {at}: a second, different admin must ask for it too, \
         within 7 days of that"
    )]
    SamePerson {
        /// Who.
        by: String,
        /// When.
        at: WallTime,
    },
    /// More wishes than are kept.
    #[error("this hold has {RELEASES_MAX} wishes to release it: set it again to begin anew")]
    Releases,
}

/// A reason, trimmed and checked.
///
/// # Errors
/// [`HoldError::Reason`].
pub fn reason(text: Option<String>) -> Result<String, HoldError> {
    let text = text.unwrap_or_default().trim().to_owned();
    let fits = (1..=REASON_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
    if fits { Ok(text) } else { Err(HoldError::Reason) }
}

impl Holding {
    /// A change with its reason checked.
    ///
    /// # Errors
    /// [`HoldError::Reason`].
    pub fn new(on: bool, text: Option<String>) -> Result<Self, HoldError> {
        Ok(Self { on, reason: reason(text)? })
    }

    /// Writes it down in a record. Tells whether that changed it.
    ///
    /// # Errors
    /// [`HoldError`]; the record is as it was then.
    pub fn apply(
        &self,
        record: &mut Recording,
        by: &str,
        now: WallTime,
        node: NodeId,
    ) -> Result<bool, HoldError> {
        let stamp = next_stamp(record, now, node);
        let (by, reason) = (by.to_owned(), self.reason.clone());
        let known = mark_of(record).filter(HoldMark::is_held);
        let mark = match (self.on, known) {
            (false, None) => return Ok(false),
            (true, Some(known))
                if (&known.by, &known.reason) == (&by, &reason) && known.pending(now).is_none() =>
            {
                return Ok(false);
            }
            (true, _) => HoldMark { by, reason, stamp, releases: Vec::new() },
            (false, Some(mut known)) => {
                let own = known
                    .releases
                    .iter()
                    .find(|release| release.by == by && within(release.stamp.at, stamp.at));
                if let Some(Release { by, stamp, .. }) = own.cloned() {
                    return Err(HoldError::SamePerson { by, at: stamp.at });
                }
                if known.releases.len() >= RELEASES_MAX {
                    return Err(HoldError::Releases);
                }
                known.releases.push(Release { by, reason, stamp });
                known
            }
        };
        put(record, mark);
        Ok(true)
    }
}

/// Brings a hold into a record. Tells whether that changed it.
pub fn merge_into(record: &mut Recording, told: Option<&HoldMark>) -> bool {
    let Some(told) = told else { return false };
    let merged = match mark_of(record) {
        None => told.clone(),
        Some(known) if known.stamp != told.stamp => {
            if known.stamp > told.stamp {
                known
            } else {
                told.clone()
            }
        }
        Some(mut known) => {
            let all = known.releases.iter().chain(&told.releases).cloned();
            let all: BTreeMap<Stamp, Release> = all.map(|wish| (wish.stamp, wish)).collect();
            known.releases = all.into_values().collect();
            known
        }
    };
    let changed = record.holdmark.as_ref() != Some(&merged);
    put(record, merged);
    changed
}

/// The hold of a record; of one that only says that it is held, a hold of which no more is known, the same
/// on each node.
fn mark_of(record: &Recording) -> Option<HoldMark> {
    let unknown = || HoldMark {
        by: String::new(),
        reason: String::new(),
        stamp: Stamp { at: record.started, node: record.node },
        releases: Vec::new(),
    };
    record.holdmark.clone().or_else(|| record.hold.then(unknown))
}

fn put(record: &mut Recording, mark: HoldMark) {
    record.hold = mark.is_held();
    record.holdmark = Some(mark);
}

fn within(one: WallTime, other: WallTime) -> bool {
    u128::from(one.micros_since(other).unsigned_abs()) <= RELEASE_WITHIN.as_micros()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY_MS: i64 = 86_400_000;

    fn record() -> Recording {
        serde_json::from_value(serde_json::json!({
            "recordingid": "018bcfe5-687b-7000-8000-000000000001", "callids": ["1"], "extension": "2611",
            "agentid": "", "calling": "", "called": "", "direction": "inbound", "trunkgroup": "",
            "trunkmember": "", "vdn": "", "split": "", "userdata": "", "parties": [],
            "started": "1970-01-01T00:00:00.000Z", "ended": "1970-01-01T00:00:01.000Z",
            "durationms": 1000, "scope": "station", "trigger": "rule", "rule": "", "copy": 1, "node": 1,
            "segments": [], "gaps": [], "pauses": [], "complete": true,
            "quality": { "lossratio": 0.0, "jitterms": 0.0, "clockdriftppm": 0.0 },
            "format": "wavg711", "bytes": 10, "sha256": "aa", "tags": [], "notes": [], "hold": false,
        }))
        .unwrap()
    }

    fn set(
        record: &mut Recording,
        on: bool,
        by: &str,
        day: i64,
        node: u16,
    ) -> Result<bool, HoldError> {
        let holding = Holding::new(on, Some(format!("why {by} {day}"))).unwrap();
        holding.apply(record, by, WallTime::from_millis(day * DAY_MS), NodeId(node))
    }

    fn told(record: &mut Recording, other: &Recording) -> bool {
        merge_into(record, other.holdmark.clone().as_ref())
    }

    #[test]
    fn one_holds_and_two_release() {
        let mut record = record();
        assert_eq!(set(&mut record, false, "anna", 1, 1), Ok(false), "nothing to release");
        assert_eq!(set(&mut record, true, "anna", 1, 1), Ok(true));
        assert!(record.hold);
        assert_eq!(set(&mut record, true, "anna", 1, 1), Ok(false), "it is so already");
        // Who set it may be one of the two.
        assert_eq!(set(&mut record, false, "anna", 2, 1), Ok(true));
        assert!(record.hold);
        let pending = record.holdmark.as_ref().unwrap();
        let now = WallTime::from_millis(3 * DAY_MS);
        assert_eq!(pending.pending(now).unwrap().by, "anna");
        let again = set(&mut record, false, "anna", 3, 1);
        assert!(matches!(again, Err(HoldError::SamePerson { .. })), "{again:?}");
        assert!(record.hold);
        assert_eq!(set(&mut record, false, "bert", 4, 1), Ok(true));
        assert!(!record.hold);
        assert_eq!(record.holdmark.as_ref().unwrap().pending(now), None);
        // And it can be held anew.
        assert_eq!(set(&mut record, true, "bert", 5, 1), Ok(true));
        assert!(record.hold && record.holdmark.unwrap().releases.is_empty());
    }

    #[test]
    fn a_wish_is_void_after_a_week_and_when_the_hold_is_set_again() {
        let mut late = record();
        set(&mut late, true, "anna", 0, 1).unwrap();
        set(&mut late, false, "anna", 1, 1).unwrap();
        assert_eq!(set(&mut late, false, "bert", 9, 1), Ok(true));
        assert!(late.hold, "eight days lie between them");
        assert_eq!(set(&mut late, false, "anna", 10, 1), Ok(true));
        assert!(!late.hold);
        let mut again = record();
        set(&mut again, true, "anna", 0, 1).unwrap();
        set(&mut again, false, "anna", 1, 1).unwrap();
        set(&mut again, true, "anna", 2, 1).unwrap();
        set(&mut again, false, "bert", 3, 1).unwrap();
        assert!(again.hold);
    }

    #[test]
    fn halves_that_were_given_on_two_nodes_meet() {
        let mut one = record();
        set(&mut one, true, "anna", 0, 1).unwrap();
        let mut two = one.clone();
        set(&mut one, false, "anna", 1, 1).unwrap();
        set(&mut two, false, "bert", 1, 2).unwrap();
        assert!(one.hold && two.hold);
        let before = one.clone();
        assert!(told(&mut one, &two) && told(&mut two, &before));
        assert!(!one.hold && one == two);
        assert!(!told(&mut one, &two), "there is nothing new");
        // A hold that the others had not heard of is not released by them.
        let mut three = before.clone();
        set(&mut three, true, "carl", 1, 3).unwrap();
        told(&mut three, &one);
        told(&mut one, &three);
        assert!(one.hold && three.hold && one == three);
    }

    #[test]
    fn one_person_who_asks_on_two_nodes_is_still_one() {
        let mut one = record();
        set(&mut one, true, "anna", 0, 1).unwrap();
        let mut two = one.clone();
        set(&mut one, false, "bert", 1, 1).unwrap();
        set(&mut two, false, "bert", 1, 2).unwrap();
        assert!(told(&mut one, &two));
        assert!(one.hold && one.holdmark.as_ref().unwrap().releases.len() == 2);
        set(&mut one, false, "anna", 2, 1).unwrap();
        assert!(!one.hold);
    }

    #[test]
    fn a_hold_of_which_no_more_is_known_is_released_by_two_as_well() {
        let mut old = Recording { hold: true, ..record() };
        let mut copy = old.clone();
        set(&mut old, false, "anna", 1, 1).unwrap();
        set(&mut copy, false, "bert", 1, 2).unwrap();
        assert!(old.hold && copy.hold);
        told(&mut old, &copy);
        assert!(!old.hold);
    }

    #[test]
    fn a_reason_must_be_given() {
        for wrong in [None, Some("  "), Some("a\nb"), Some("x".repeat(501).as_str())] {
            assert_eq!(reason(wrong.map(str::to_owned)), Err(HoldError::Reason), "{wrong:?}");
        }
        assert_eq!(reason(Some(" case 7 ".to_owned())), Ok("case 7".to_owned()));
    }

    proptest! {
        #[test]
        fn nodes_that_hear_each_other_in_any_order_agree(
            words in proptest::collection::vec((0..3_usize, any::<bool>(), 0..3_usize, 0..20_i64), 1..12),
            meetings in proptest::collection::vec((0..3_usize, 0..3_usize), 0..12),
        ) {
            let mut nodes = vec![record(), record(), record()];
            let names = ["anna", "bert", "carl"];
            let mut meetings = meetings.into_iter();
            for (at, on, by, day) in words {
                let number = u16::try_from(at).unwrap() + 1;
                let _ = set(&mut nodes[at], on, names[by], day, number);
                if let Some((from, to)) = meetings.next() {
                    let from = nodes[from].clone();
                    told(&mut nodes[to], &from);
                }
            }
            for round in [[0, 1, 2], [2, 1, 0]] {
                for from in round {
                    let from = nodes[from].clone();
                    for node in &mut nodes {
                        told(node, &from);
                    }
                }
            }
            prop_assert_eq!(&nodes[0], &nodes[1]);
            prop_assert_eq!(&nodes[1], &nodes[2]);
            let mark = nodes[0].holdmark.as_ref();
            prop_assert_eq!(nodes[0].hold, mark.is_some_and(HoldMark::is_held));
        }
    }
}
