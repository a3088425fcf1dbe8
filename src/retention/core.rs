//! Which recordings are past their time, and when that may be acted upon. Pure: records, the time and what is
//! seen of the group go in.
//!
//! For how long a recording is kept: of the `[[al_retention]]` that match it and the `retentiondays` of the
//! rule that recorded it the longest counts, where 0 days are for ever; where there is none of these,
//! `al_retentiondays`. So a special one may be shorter than the rule for all, and of two that contradict each
//! other the one that keeps wins. A legal hold wins over all of them.
//!
//! A clock that runs ahead would delete what is not due. So the time is held against the other members'
//! clocks, and against the newest recording: what is later than a week after that does not count.

use std::collections::BTreeMap;
use std::time::Duration;

use cluster_core::{GroupView, mirror};
use recorder_core::call::pattern::Pattern;
use storage_core::{Duty, NodeId, Recording, WallTime};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// A site without calls lets recordings go for so long; after that it waits for the next call.
const QUIET_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Members whose clocks differ by more do not agree on what is past its time.
const CLOCKS_APART_MAX_US: i64 = 60_000_000;

/// For how long certain recordings are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Special {
    /// They have this tag; in any case of letters.
    pub tag: Option<String>,
    /// They were made for one of these stations; any if there is none.
    pub extension: Vec<Pattern>,
    /// This rule decided over them.
    pub rule: Option<String>,
    /// For so many days; 0: for ever.
    pub days: u32,
}

/// For how long recordings are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetentionRules {
    /// `al_retentiondays`; absent: for ever.
    pub overall: Option<u32>,
    /// `retentiondays` of recording rules, by their names; 0: for ever.
    pub by_rule: BTreeMap<String, u32>,
    /// `[[al_retention]]`.
    pub special: Vec<Special>,
}

/// What is to become of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its time is not over.
    Keep,
    /// It is over, and somebody holds it.
    Held,
    /// It is past its time, which was so many days.
    Due(u32),
}

impl Special {
    fn matches(&self, record: &Recording) -> bool {
        let lower = |text: &str| text.to_lowercase();
        let tagged = |tag: &String| record.tags.iter().any(|known| lower(known) == lower(tag));
        let at = |pattern: &Pattern| pattern.matches(record.extension.as_str());
        self.tag.as_ref().is_none_or(tagged)
            && (self.extension.is_empty() || self.extension.iter().any(at))
            && self.rule.as_ref().is_none_or(|rule| *rule == record.rule)
    }
}

impl RetentionRules {
    /// For how many days a recording is kept; `None`: for ever.
    #[must_use]
    pub fn days(&self, record: &Recording) -> Option<u32> {
        let special = self.special.iter().filter(|special| special.matches(record));
        let special = special.map(|special| special.days);
        let of_rule = self.by_rule.get(&record.rule).copied();
        let length = |days: &u32| if *days == 0 { u32::MAX } else { *days };
        let longest = special.chain(of_rule).max_by_key(length);
        longest.or(self.overall).filter(|days| *days > 0)
    }

    /// No recording is let go before it is so many days old; `None`: none ever.
    #[must_use]
    pub fn shortest(&self) -> Option<u32> {
        let special = self.special.iter().map(|special| special.days);
        let all = special.chain(self.by_rule.values().copied()).chain(self.overall);
        all.filter(|days| *days > 0).min()
    }

    /// What is to become of a recording at a time.
    #[must_use]
    pub fn verdict(&self, record: &Recording, now: WallTime) -> Verdict {
        match self.days(record) {
            Some(days) if record.ended + DAY * days <= now => {
                if record.hold {
                    Verdict::Held
                } else {
                    Verdict::Due(days)
                }
            }
            _ => Verdict::Keep,
        }
    }

    /// What began after this is not past its time at that time, whatever it is.
    #[must_use]
    pub fn cutoff(&self, now: WallTime) -> Option<WallTime> {
        self.shortest().map(|days| now - DAY * days)
    }
}

/// The time that counts, given the newest recording.
#[must_use]
pub fn counted(now: WallTime, newest: &Recording) -> WallTime {
    now.min(newest.ended + QUIET_MAX)
}

/// Why recordings are not let go by this node now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Waits {
    /// Another one does.
    #[error("another node leads")]
    NotLead,
    /// It is not certain who does.
    #[error("the group has no majority")]
    NoMajority,
    /// It may know of a hold that nobody else has heard of.
    #[error("node {0} cannot be reached, and may hold some of them")]
    Away(NodeId),
    /// One of the two is wrong.
    #[error("the clock of node {0} differs by more than a minute")]
    ClockOff(NodeId),
}

/// Whether this node lets recordings go now. One member does it for all: each knows all recordings, and two that
/// did the same at once would only tell each other so. It is the lead, because there is one at most.
///
/// # Errors
/// Why not.
pub fn may_run(view: &GroupView) -> Result<(), Waits> {
    if view.duty.duty != Duty::Lead {
        return Err(Waits::NotLead);
    }
    if view.duty.provisional && view.members.len() > 1 || !view.quorum {
        return Err(Waits::NoMajority);
    }
    let mut others = mirror::recorders(view);
    others.remove(&view.node);
    let reachable = mirror::reachable(&others, view);
    if let Some(away) = others.difference(&reachable).next() {
        return Err(Waits::Away(*away));
    }
    let off = |(_, offset): &(&NodeId, &i64)| offset.abs() > CLOCKS_APART_MAX_US;
    match view.clock_offset_us.iter().find(off) {
        Some((node, _)) => Err(Waits::ClockOff(*node)),
        None => Ok(()),
    }
}

/// Whether less is free than is to stay free; said to be over only when there is clearly more, so that nobody
/// is told of each recording that comes and goes.
#[must_use]
pub const fn is_low(free: u64, reserve: u64, was: bool) -> bool {
    if was { free < reserve + reserve / 20 } else { free < reserve }
}

/// What people are told of room that is short: once, and again when a quarter of what they were told of is gone as well.
#[derive(Debug, Default)]
pub struct Told {
    free: Option<u64>,
}

impl Told {
    /// What is to be said to be free, if that is too little.
    pub fn look(&mut self, free: u64, reserve: u64) -> Option<u64> {
        if !is_low(free, reserve, self.free.is_some()) {
            self.free = None;
        } else if self.free.is_none_or(|told| free < told - told / 4) {
            self.free = Some(free);
        }
        self.free
    }
}

#[cfg(test)]
mod tests {
    use storage_core::Role;

    use super::*;

    fn at(day: i64) -> WallTime {
        WallTime::from_millis(day * 86_400_000)
    }

    fn record(ended: i64, rule: &str, extension: &str, tags: &[&str]) -> Recording {
        serde_json::from_value(serde_json::json!({
            "recordingid": "018bcfe5-687b-7000-8000-000000000001", "callids": ["1"],
            "extension": extension, "agentid": "", "calling": "", "called": "", "direction": "inbound",
            "trunkgroup": "", "trunkmember": "", "vdn": "", "split": "", "userdata": "", "parties": [],
            "started": at(ended - 1), "ended": at(ended), "durationms": 1000, "scope": "station",
            "trigger": "rule", "rule": rule, "copy": 1, "node": 1, "segments": [], "gaps": [],
            "pauses": [], "complete": true,
            "quality": { "lossratio": 0.0, "jitterms": 0.0, "clockdriftppm": 0.0 },
            "format": "wavg711", "bytes": 10, "sha256": "aa", "tags": tags, "notes": [], "hold": false,
        }))
        .unwrap()
    }

    fn rules() -> RetentionRules {
        let tag =
            |tag: &str, days| Special { tag: Some(tag.to_owned()), days, ..Special::default() };
        let station = |pattern: &str, days| {
            let extension = vec![pattern.parse().unwrap()];
            Special { extension, days, ..Special::default() }
        };
        let both = Special { rule: Some("sales".to_owned()), ..tag("trial", 3) };
        RetentionRules {
            overall: Some(100),
            by_rule: [("sales".to_owned(), 30), ("board".to_owned(), 0)].into(),
            special: vec![tag("Complaint", 400), station("31*", 10), both],
        }
    }

    #[test]
    fn the_longest_special_time_counts_and_else_the_one_for_all() {
        for (rule, extension, tags, days) in [
            ("", "2611", &[][..], Some(100)),
            ("unknown", "2611", &["other"], Some(100)),
            ("sales", "2611", &[], Some(30)),
            ("sales", "3101", &[], Some(30)),
            ("", "3101", &[], Some(10)),
            ("sales", "3101", &["complaint"], Some(400)),
            // Both conditions of one must hold.
            ("", "2611", &["trial"], Some(100)),
            ("sales", "2611", &["trial"], Some(30)),
            // For ever is the longest.
            ("board", "3101", &["complaint"], None),
        ] {
            let record = record(0, rule, extension, tags);
            assert_eq!(rules().days(&record), days, "{rule} {extension} {tags:?}");
        }
        assert_eq!(rules().shortest(), Some(3));
        let none = RetentionRules::default();
        assert_eq!((none.days(&record(0, "", "1", &[])), none.shortest()), (None, None));
        let only = RetentionRules { overall: None, ..rules() };
        assert_eq!(only.days(&record(0, "", "2611", &[])), None);
    }

    #[test]
    fn a_recording_is_due_when_its_days_are_over_and_never_while_it_is_held() {
        let mut record = record(5, "", "2611", &[]);
        let short = RetentionRules { overall: Some(2), ..RetentionRules::default() };
        let before = WallTime::from_micros(at(7).as_micros() - 1);
        assert_eq!(short.verdict(&record, before), Verdict::Keep);
        assert_eq!(short.verdict(&record, at(7)), Verdict::Due(2));
        assert_eq!(short.cutoff(at(7)), Some(at(5)), "it began before");
        record.hold = true;
        assert_eq!(short.verdict(&record, at(7)), Verdict::Held);
        assert_eq!(RetentionRules::default().verdict(&record, at(9_999)), Verdict::Keep);
    }

    #[test]
    fn a_clock_that_is_years_ahead_lets_nothing_go_that_is_not_nearly_due() {
        let newest = record(50, "", "2611", &[]);
        assert_eq!(counted(at(51), &newest), at(51));
        assert_eq!(counted(at(5_000), &newest), at(57));
    }

    #[test]
    fn one_member_acts_while_it_hears_all_others() {
        let alone = GroupView::alone(NodeId(1), Role::Active);
        assert_eq!(may_run(&alone), Ok(()));
        let mut view = alone;
        let other = cluster_core::MemberView {
            node: NodeId(2),
            role: Some(Role::Backup),
            duty: Duty::Standby,
            ..view.members[0].clone()
        };
        view.members.push(other);
        assert_eq!(may_run(&view), Ok(()));
        view.clock_offset_us = [(NodeId(2), -61_000_000)].into();
        assert_eq!(may_run(&view), Err(Waits::ClockOff(NodeId(2))));
        view.clock_offset_us.clear();
        view.members[1].reachable = false;
        assert_eq!(may_run(&view), Err(Waits::Away(NodeId(2))));
        view.members[1].reachable = true;
        view.quorum = false;
        assert_eq!(may_run(&view), Err(Waits::NoMajority));
        view.quorum = true;
        view.duty.duty = Duty::Standby;
        assert_eq!(may_run(&view), Err(Waits::NotLead));
    }

    #[test]
    fn room_is_short_below_the_reserve_and_well_again_above_it() {
        assert!(!is_low(100, 100, false) && is_low(99, 100, false));
        assert!(is_low(104, 100, true) && !is_low(105, 100, true));
        assert!(!is_low(0, 0, false) && !is_low(0, 0, true));
    }

    #[test]
    fn what_is_free_is_told_once_and_again_when_much_less_is() {
        let mut told = Told::default();
        let cases = [
            (100, None),
            (99, Some(99)),
            (98, Some(99)),
            (104, Some(99)),
            (75, Some(99)),
            (74, Some(74)),
            (90, Some(74)),
            (0, Some(0)),
            (80, Some(0)),
            (105, None),
            (100, None),
            (80, Some(80)),
        ];
        for (free, says) in cases {
            assert_eq!(told.look(free, 100), says, "{free} free");
        }
    }
}
