//! What one channel is still to tell of the alarms, in which order, and when it is tried again. Pure:
//! time comes in, and what is to be sent comes out; sending is the channel's matter.
//!
//! Told are raises and clears: of what was not told as raised, no clear is told, and what was told is not
//! told again while it stays raised, even if its words change. The queue is bounded; the oldest go first,
//! and are counted.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use storage_core::{MonoTime, WallTime};

use super::Alarm;
use super::whose::Sight;

/// Beyond this many notices the oldest are given up.
const QUEUE_MAX: usize = 1000;
/// Longest wait between two attempts.
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// After so many attempts in a row that failed, people are told by the other channels.
const FAILURES_TOLD: u32 = 3;

/// An alarm was raised or cleared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Raised; else cleared.
    pub raised: bool,
    /// What.
    pub alarm: Alarm,
    /// When.
    pub at: WallTime,
}

/// A change on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Counts this channel's notices since the start, from 1.
    pub number: u64,
    /// What is told.
    pub change: Change,
}

/// How a channel takes notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// At most so many at once.
    pub at_once: usize,
    /// After each delivery it wants to be left alone for so long.
    pub rest: Duration,
}

type Key = (&'static str, String);

/// One channel's notices.
#[derive(Debug)]
pub struct Outbox {
    pace: Pace,
    queue: VecDeque<Notice>,
    /// How many at the queue's head are being delivered.
    under_way: usize,
    /// Of which a raise was queued and no clear yet.
    told: BTreeSet<Key>,
    /// What is raised and another member's to tell, as things stand.
    others: BTreeMap<Key, Change>,
    numbered: u64,
    failures: u32,
    /// Not before.
    due: MonoTime,
    lost: u64,
    lost_since_delivery: bool,
}

impl Outbox {
    /// Nothing to tell yet.
    #[must_use]
    pub fn new(pace: Pace) -> Self {
        Self {
            pace,
            queue: VecDeque::new(),
            under_way: 0,
            told: BTreeSet::new(),
            others: BTreeMap::new(),
            numbered: 0,
            failures: 0,
            due: MonoTime::from_micros(0),
            lost: 0,
            lost_since_delivery: false,
        }
    }

    /// Something was raised or cleared.
    pub fn change(&mut self, change: Change, sight: &Sight) {
        let key = (change.alarm.name, change.alarm.subject.clone());
        if !change.raised {
            self.others.remove(&key);
            if self.told.remove(&key) {
                self.push(change);
            }
        } else if self.told.contains(&key) {
            self.reword(&key, change.alarm);
        } else if sight.sends(key.0, &key.1) {
            self.others.remove(&key);
            self.told.insert(key);
            self.push(change);
        } else {
            self.others.insert(key, change);
        }
    }

    /// The group may look otherwise: what was another's to tell may be this node's now.
    pub fn look(&mut self, sight: &Sight) {
        let sends = |key: &Key, _: &mut Change| sight.sends(key.0, &key.1);
        let mine: Vec<_> = self.others.extract_if(.., sends).collect();
        for (_, change) in mine {
            self.change(change, sight);
        }
    }

    /// Some changes were not heard of: what is raised now decides.
    pub fn compare(&mut self, raised: Vec<Alarm>, at: WallTime, sight: &Sight) {
        let now: BTreeSet<Key> =
            raised.iter().map(|alarm| (alarm.name, alarm.subject.clone())).collect();
        let gone: Vec<Key> = self.told.difference(&now).cloned().collect();
        for (name, subject) in gone {
            let message = "no longer raised".to_owned();
            let alarm = Alarm { name, subject, message, remedy: "" };
            self.change(Change { raised: false, alarm, at }, sight);
        }
        self.others.retain(|key, _| now.contains(key));
        for alarm in raised {
            self.change(Change { raised: true, alarm, at }, sight);
        }
    }

    /// What is to be delivered now; nothing while it is too early. It is under way until
    /// [`Outbox::delivered`] or [`Outbox::failed`].
    pub fn take(&mut self, now: MonoTime) -> Vec<Notice> {
        if now < self.due {
            return Vec::new();
        }
        self.under_way = self.queue.len().min(self.pace.at_once);
        self.queue.iter().take(self.under_way).cloned().collect()
    }

    /// When there will be something to deliver.
    #[must_use]
    pub fn due(&self) -> Option<MonoTime> {
        (!self.queue.is_empty()).then_some(self.due)
    }

    /// What was under way has arrived.
    pub fn delivered(&mut self, now: MonoTime) {
        self.queue.drain(..self.under_way);
        self.under_way = 0;
        self.failures = 0;
        self.lost_since_delivery = false;
        self.due = now + self.pace.rest;
    }

    /// What was under way has not arrived, as far as is known. It is tried again, later and later.
    pub fn failed(&mut self, now: MonoTime) {
        self.under_way = 0;
        self.failures = self.failures.saturating_add(1);
        let doubled = Duration::from_secs(1 << (self.failures - 1).min(6));
        self.due = now + doubled.min(BACKOFF_MAX);
    }

    /// Whether people have to know by another way that this one does not work.
    #[must_use]
    pub fn in_trouble(&self) -> bool {
        self.failures >= FAILURES_TOLD || self.lost_since_delivery
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// How many were given up since the start.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// The newest words, if nobody has seen the former ones yet.
    fn reword(&mut self, key: &Key, alarm: Alarm) {
        let same = |change: &Change| {
            change.raised && (change.alarm.name, &change.alarm.subject) == (key.0, &key.1)
        };
        let waiting = self.queue.iter_mut().skip(self.under_way);
        if let Some(notice) = waiting.rev().find(|notice| same(&notice.change)) {
            notice.change.alarm = alarm;
        }
    }

    fn push(&mut self, change: Change) {
        if self.queue.len() >= QUEUE_MAX {
            self.give_up_oldest();
        }
        self.numbered += 1;
        self.queue.push_back(Notice { number: self.numbered, change });
    }

    /// Nobody has heard of it, so nobody is to hear that it is over.
    fn give_up_oldest(&mut self) {
        let Some(notice) = self.queue.remove(self.under_way) else { return };
        self.lost += 1;
        self.lost_since_delivery = true;
        let alarm = notice.change.alarm;
        let key = (alarm.name, alarm.subject);
        if !notice.change.raised {
            return;
        }
        let clear = self.queue.iter().skip(self.under_way).position(|later| {
            !later.change.raised
                && (later.change.alarm.name, &later.change.alarm.subject) == (key.0, &key.1)
        });
        match clear {
            Some(position) => {
                self.queue.remove(self.under_way + position);
                self.lost += 1;
            }
            None => {
                self.told.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use storage_core::NodeId;

    use super::*;

    const ONE: Pace = Pace { at_once: 1, rest: Duration::ZERO };

    fn at(ms: u64) -> MonoTime {
        MonoTime::from_millis(ms)
    }

    fn alone() -> Sight {
        Sight { own: NodeId(1), leader: Some(NodeId(1)), up: [NodeId(1)].into() }
    }

    fn change(raised: bool, name: &'static str, subject: &str, message: &str) -> Change {
        let alarm = Alarm {
            name,
            subject: subject.to_owned(),
            message: message.to_owned(),
            remedy: "look",
        };
        Change { raised, alarm, at: WallTime::from_millis(0) }
    }

    /// What is delivered until nothing is left, as `+name` and `-name`, or the words of what is raised.
    fn delivered(outbox: &mut Outbox, now: MonoTime) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let notices = outbox.take(now);
            if notices.is_empty() {
                return all;
            }
            all.extend(notices.iter().map(|notice| {
                let sign = if notice.change.raised { '+' } else { '-' };
                format!("{sign}{}", notice.change.alarm.message)
            }));
            outbox.delivered(now);
        }
    }

    #[test]
    fn a_raise_and_a_clear_are_told_once_each() {
        let mut outbox = Outbox::new(ONE);
        outbox.change(change(false, "aesdown", "", "x"), &alone());
        outbox.change(change(true, "aesdown", "", "a"), &alone());
        outbox.change(change(true, "aesdown", "", "b"), &alone());
        assert_eq!(
            delivered(&mut outbox, at(0)),
            ["+b"],
            "the newest words of what nobody has seen"
        );
        outbox.change(change(true, "aesdown", "", "c"), &alone());
        assert_eq!(delivered(&mut outbox, at(0)), [""; 0], "other words are no other alarm");
        outbox.change(change(false, "aesdown", "", "c"), &alone());
        outbox.change(change(false, "aesdown", "", "c"), &alone());
        assert_eq!(delivered(&mut outbox, at(0)), ["-c"]);
    }

    #[test]
    fn what_fails_is_tried_again_later_and_later() {
        let mut outbox = Outbox::new(ONE);
        outbox.change(change(true, "aesdown", "", "a"), &alone());
        let mut now = at(0);
        let mut waits = Vec::new();
        for attempt in 1..=9 {
            assert_eq!(outbox.take(now).len(), 1);
            outbox.failed(now);
            assert!(outbox.take(now).is_empty());
            assert_eq!(outbox.in_trouble(), attempt >= 3);
            let due = outbox.due().expect("it is still to be told");
            waits.push(due.since(now).as_secs());
            now = due;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(delivered(&mut outbox, now), ["+a"]);
        assert!(!outbox.in_trouble() && outbox.due().is_none());
    }

    #[test]
    fn a_channel_that_wants_rest_gets_the_next_ones_together() {
        let mut outbox = Outbox::new(Pace { at_once: 2, rest: Duration::from_secs(30) });
        outbox.change(change(true, "aesdown", "", "a"), &alone());
        assert_eq!(delivered(&mut outbox, at(0)), ["+a"]);
        for words in ["b", "c", "d"] {
            outbox.change(change(true, "nomedia", words, words), &alone());
        }
        assert_eq!(outbox.due(), Some(at(30_000)));
        assert!(outbox.take(at(29_999)).is_empty());
        assert_eq!(delivered(&mut outbox, at(30_000)), ["+b", "+c"]);
        assert_eq!(delivered(&mut outbox, at(60_000)), ["+d"]);
    }

    #[test]
    fn what_another_tells_is_told_once_that_one_cannot() {
        let mut outbox = Outbox::new(ONE);
        let led = |leader: u16| Sight {
            own: NodeId(1),
            leader: Some(NodeId(leader)),
            up: [NodeId(1), NodeId(3)].into(),
        };
        outbox.change(change(true, "memberdown", "2", "a"), &led(3));
        outbox.look(&led(3));
        assert!(outbox.take(at(0)).is_empty());
        outbox.look(&led(1));
        assert_eq!(delivered(&mut outbox, at(0)), ["+a"]);
        outbox.change(change(false, "memberdown", "2", "a"), &led(3));
        assert_eq!(delivered(&mut outbox, at(0)), ["-a"], "who has told it tells that it is over");
    }

    #[test]
    fn a_queue_that_is_full_gives_up_the_oldest_and_what_belongs_to_them() {
        let mut outbox = Outbox::new(ONE);
        outbox.change(change(true, "nomedia", "first", "first"), &alone());
        outbox.change(change(false, "nomedia", "first", "first"), &alone());
        for number in 0..QUEUE_MAX - 1 {
            let subject = number.to_string();
            outbox.change(change(true, "nomedia", &subject, &subject), &alone());
        }
        assert_eq!((outbox.waiting(), outbox.lost()), (QUEUE_MAX - 1, 2));
        assert!(outbox.in_trouble());
        assert_eq!(delivered(&mut outbox, at(0))[0], "+0");
        assert!(!outbox.in_trouble());
    }

    #[test]
    fn after_what_was_not_heard_the_present_decides() {
        let mut outbox = Outbox::new(ONE);
        outbox.change(change(true, "aesdown", "", "a"), &alone());
        outbox.change(change(true, "nomedia", "78001", "m"), &alone());
        assert_eq!(delivered(&mut outbox, at(0)), ["+a", "+m"]);
        let still = change(true, "nomedia", "78001", "m").alarm;
        let new = change(true, "diskfull", "", "d").alarm;
        outbox.compare(vec![still, new], WallTime::from_millis(0), &alone());
        assert_eq!(delivered(&mut outbox, at(0)), ["-no longer raised", "+d"]);
    }

    proptest! {
        /// Whatever happens in whatever order: each subject's notices begin with a raise and alternate,
        /// they come in the order of their numbers, and the queue keeps its bound.
        #[test]
        fn raises_and_clears_alternate(
            steps in prop::collection::vec((0..4_u8, 0..3_usize), 0..400)
        ) {
            let subjects = ["a", "b", "c"];
            let mut outbox = Outbox::new(ONE);
            let mut told = BTreeMap::new();
            let (mut now, mut last) = (at(0), 0);
            for (step, subject) in steps {
                let subject = subjects[subject];
                match step {
                    0 => outbox.change(change(true, "nomedia", subject, subject), &alone()),
                    1 => outbox.change(change(false, "nomedia", subject, subject), &alone()),
                    outcome => {
                        now = outbox.due().unwrap_or(now).max(now);
                        let taken = outbox.take(now);
                        prop_assert!(taken.len() <= 1);
                        if outcome == 2 {
                            outbox.failed(now);
                            continue;
                        }
                        for notice in taken {
                            prop_assert!(notice.number > last);
                            last = notice.number;
                            let Change { raised, alarm, .. } = notice.change;
                            let before = told.insert(alarm.subject, raised).unwrap_or(false);
                            prop_assert_ne!(before, raised);
                        }
                        outbox.delivered(now);
                    }
                }
                prop_assert!(outbox.waiting() <= QUEUE_MAX);
            }
        }
    }
}
