//! The audit logs of all members as one, page by page: which lines come next, and how a page says where the next
//! one begins. Pure: the members' answers go in. Who is asked is `group`'s matter, what a log answers the
//! clerk's.
//!
//! Each log keeps its own order; among several the earlier line comes first, by the clocks of those who wrote
//! them. A member that does not answer keeps its place: its lines come when it answers again, behind what was
//! told meanwhile. A place bears the log's name, because a member whose disk was replaced numbers its lines anew: all
//! lines of the new log come.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use storage_core::audit::Numbered;
use storage_core::{NodeId, RecordingId, WallTime};

use crate::web::REPLY_BYTES_MAX;
use crate::web::backend::Unreachable;

/// Lines told at once, as JSON; what else is in a reply has room beside them. One line alone may be longer.
const LINES_BYTES_MAX: usize = REPLY_BYTES_MAX - 4096;
/// Members that a cursor may name: twice as many as a group has, since some may have left it between two pages.
const PLACES_MAX: usize = 32;

/// Which lines are asked for. All of it must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// At this time or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<WallTime>,
    /// Before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<WallTime>,
    /// By this user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// About this recording.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<RecordingId>,
    /// One of these requests; none: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<String>,
}

impl Filter {
    /// Whether these are of the requests that are asked for. A member of an earlier version does not know that one can ask
    /// for some.
    #[must_use]
    pub fn is_kept_by(&self, lines: &Lines) -> bool {
        let is_wanted = |line: &Numbered| self.actions.contains(&line.entry.action);
        self.actions.is_empty() || lines.entries.iter().all(is_wanted)
    }
}

/// `listaudit`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// Which lines.
    pub filter: Filter,
    /// Behind these.
    pub places: Places,
    /// So many lines at most, 1 or more.
    pub limit: usize,
}

/// What tells a member's log from others that it had: the first digits of its first line's hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LogName(u64);

impl LogName {
    /// Of the log whose first line has this hash.
    #[must_use]
    pub fn of(hash: [u8; 32]) -> Self {
        let [a, b, c, d, e, f, ..] = hash;
        // A number that JSON holds exactly.
        Self(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    }
}

/// How far a member's log was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogPlace {
    /// The number of the last line told.
    pub seq: u64,
    /// The log, if its member said which it is.
    pub log: Option<LogName>,
}

impl LogPlace {
    /// The place in this log: at its begin, if it is another one.
    #[must_use]
    pub fn within(self, log: Option<LogName>) -> u64 {
        match (self.log, log) {
            (Some(told), Some(is)) if told != is => 0,
            _ => self.seq,
        }
    }
}

/// Up to which line each member's log was told; of a member that is not named nothing was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places(BTreeMap<NodeId, LogPlace>);

impl Places {
    /// How far this member's log was told.
    #[must_use]
    pub fn of(&self, node: NodeId) -> LogPlace {
        self.0.get(&node).copied().unwrap_or_default()
    }
}

/// As a cursor: `1:120@00c0ffee1234,2:45`.
impl fmt::Display for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (node, place)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{node}:{}", place.seq)?;
            if let Some(LogName(log)) = place.log {
                write!(f, "@{log:012x}")?;
            }
        }
        Ok(())
    }
}

/// A cursor that is not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not a cursor")]
pub struct NotPlaces;

impl FromStr for Places {
    type Err = NotPlaces;

    fn from_str(text: &str) -> Result<Self, NotPlaces> {
        let place = |text: &str| {
            let (node, place) = text.split_once(':')?;
            let (seq, log) = match place.split_once('@') {
                Some((seq, log)) => (seq, Some(LogName(u64::from_str_radix(log, 16).ok()?))),
                // Of a member that did not say which log it has, or from before any did.
                None => (place, None),
            };
            let place = LogPlace { seq: seq.parse().ok()?, log };
            Some((NodeId(node.parse().ok().filter(|node| *node > 0)?), place))
        };
        let places: Option<BTreeMap<_, _>> =
            text.split(',').take(PLACES_MAX + 1).map(place).collect();
        let places = Self(places.filter(|all| all.len() <= PLACES_MAX).ok_or(NotPlaces)?);
        // One form only: no sign, no zero in front, each member once.
        if places.to_string() == text { Ok(places) } else { Err(NotPlaces) }
    }
}

/// What one member's log answers: lines in its order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lines {
    /// The lines.
    pub entries: Vec<Numbered>,
    /// Whether there are more behind them.
    pub more: bool,
    /// Which log it is. A member of an earlier version does not say, and neither does one whose log is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogName>,
}

impl Lines {
    /// As many of these as may be told at once.
    #[must_use]
    pub fn cut(entries: Vec<Numbered>, log: Option<LogName>, limit: usize) -> Self {
        Self { log, ..Self::cut_within(entries, Room::new(limit, LINES_BYTES_MAX)) }
    }

    fn cut_within(mut entries: Vec<Numbered>, mut room: Room) -> Self {
        let told = entries.iter().take_while(|line| room.takes(line)).count();
        let more = told < entries.len();
        entries.truncate(told);
        Self { entries, more, log: None }
    }
}

/// A page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The lines, oldest first.
    pub entries: Vec<Numbered>,
    /// Where the next page begins.
    pub places: Places,
    /// Whether those who answered have more.
    pub more: bool,
}

/// What `listaudit` is answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Listing {
    /// Who answers.
    pub node: NodeId,
    /// The lines.
    pub page: Page,
    /// Whose lines are not in it.
    pub unreachable: Vec<Unreachable>,
}

/// The page behind these places, of what each member's log answered.
#[must_use]
pub fn page(places: &Places, told: Vec<(NodeId, Lines)>, limit: usize) -> Page {
    page_within(places, told, Room::new(limit, LINES_BYTES_MAX))
}

fn page_within(places: &Places, told: Vec<(NodeId, Lines)>, mut room: Room) -> Page {
    let log = |(node, lines)| Log::new(node, lines, places.of(node));
    let mut logs: Vec<Log> = told.into_iter().map(log).collect();
    let mut page = Page { places: places.clone(), ..Page::default() };
    while let Some(log) = next(&mut logs)
        && let Some(line) = log.take(&mut room)
    {
        page.places.0.insert(log.node, LogPlace { seq: line.seq, log: log.name });
        page.entries.push(line);
    }
    page.more = logs.iter().any(|log| log.more || !log.lines.is_empty());
    page
}

/// The log with the earliest line. None where one has more lines than it told: any of them may be earlier.
fn next(logs: &mut [Log]) -> Option<&mut Log> {
    if logs.iter().any(|log| log.lines.is_empty() && log.more) {
        return None;
    }
    let begun = logs.iter_mut().filter(|log| !log.lines.is_empty());
    begun.min_by_key(|log| (log.lines.front().map(|line| line.entry.at), log.node))
}

struct Log {
    node: NodeId,
    name: Option<LogName>,
    lines: VecDeque<Numbered>,
    more: bool,
}

impl Log {
    /// Lines that were told before, or twice, are none: a page that ended with one would be told again and again.
    fn new(node: NodeId, lines: Lines, place: LogPlace) -> Self {
        let Lines { mut entries, more, log: name } = lines;
        let mut place = place.within(name);
        entries.retain(|line| {
            let is_new = line.seq > place;
            place = place.max(line.seq);
            is_new
        });
        let more = more && !entries.is_empty();
        Self { node, name, lines: entries.into(), more }
    }

    fn take(&mut self, room: &mut Room) -> Option<Numbered> {
        if room.takes(self.lines.front()?) { self.lines.pop_front() } else { None }
    }
}

/// How much more may be told at once.
struct Room {
    lines: usize,
    bytes: usize,
    is_begun: bool,
}

impl Room {
    const fn new(lines: usize, bytes: usize) -> Self {
        Self { lines, bytes, is_begun: false }
    }

    /// Whether this line may be told, too; the first may always, however long it is.
    fn takes(&mut self, line: &Numbered) -> bool {
        // What cannot be written as JSON is not told either.
        let bytes = serde_json::to_string(line).map_or(0, |text| text.len() + 1);
        if self.lines == 0 || (self.is_begun && bytes > self.bytes) {
            return false;
        }
        self.lines -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
        self.is_begun = true;
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use storage_core::audit::Entry;

    use super::*;

    /// When each line of each member's log was written, in the log's order.
    type Logs = Vec<Vec<i64>>;

    fn line(node: NodeId, seq: u64, at: i64) -> Numbered {
        let entry = Entry {
            at: WallTime::from_millis(at),
            node,
            user: "anna".to_owned(),
            role: None,
            address: "10.0.0.9".to_owned(),
            action: "listrecordings".to_owned(),
            recordingid: None,
            arguments: serde_json::Value::Null,
            outcome: "success".to_owned(),
        };
        Numbered { seq, entry }
    }

    fn members(logs: &Logs) -> impl Iterator<Item = (NodeId, &Vec<i64>)> {
        (1..).map(NodeId).zip(logs)
    }

    fn lines_of((node, log): (NodeId, &Vec<i64>)) -> Vec<Numbered> {
        (1..).zip(log).map(|(seq, at)| line(node, seq, *at)).collect()
    }

    /// A page of what those who are there answer; the places go through their cursor.
    fn asked(logs: &Logs, away: &[bool], places: &Places, limit: usize, bytes: usize) -> Page {
        let answers = |(member, _): &(usize, _)| !away.get(*member).copied().unwrap_or(false);
        let told = members(logs).enumerate().filter(answers).map(|(_, (node, log))| {
            let mut lines = lines_of((node, log));
            lines.retain(|line| line.seq > places.of(node).seq);
            lines.truncate(limit + 1);
            let log = Some(LogName::of([node.0 as u8; 32])).filter(|_| node.0 != 2);
            (node, Lines { log, ..Lines::cut_within(lines, Room::new(limit, bytes)) })
        });
        let page = page_within(places, told.collect(), Room::new(limit, bytes));
        assert!(page.entries.len() <= limit);
        assert!(!page.more || !page.entries.is_empty(), "the next page would be this one");
        let cursor = page.places.to_string();
        let kept = if cursor.is_empty() { Ok(Places::default()) } else { cursor.parse() };
        assert_eq!(kept.as_ref(), Ok(&page.places));
        page
    }

    fn is_sorted(entries: &[Numbered]) -> bool {
        entries.is_sorted_by_key(|line| (line.entry.at, line.entry.node, line.seq))
    }

    /// Logs whose clocks never go back.
    fn steady() -> impl Strategy<Value = Logs> {
        let log = proptest::collection::vec(0..4_i64, 0..12).prop_map(|steps| {
            let mut at = 0;
            steps.into_iter().map(|step| (at += step, at).1).collect()
        });
        proptest::collection::vec(log, 1..5)
    }

    /// Between two pages: lines that are written, by whom and when; and who is away.
    type Between = (Vec<(usize, i64)>, Vec<bool>, usize);

    fn between() -> impl Strategy<Value = Between> {
        let written = proptest::collection::vec((0..4_usize, 0..60_i64), 0..6);
        (written, proptest::collection::vec(any::<bool>(), 4), 1..6_usize)
    }

    proptest! {
        #[test]
        fn pages_of_any_length_give_all_lines_in_order(
            logs in steady(),
            limits in proptest::collection::vec(1..7_usize, 1..5),
            bytes in 0..900_usize,
        ) {
            let mut all: Vec<_> = members(&logs).flat_map(lines_of).collect();
            all.sort_by_key(|line| (line.entry.at, line.entry.node, line.seq));
            let (mut told, mut places) = (Vec::new(), Places::default());
            for limit in limits.into_iter().cycle() {
                let page = asked(&logs, &[], &places, limit, bytes);
                told.extend(page.entries);
                places = page.places;
                if !page.more {
                    break;
                }
            }
            prop_assert_eq!(told, all);
        }

        /// Whatever is written between the pages, whoever is away for some, whatever the clocks say.
        #[test]
        fn each_line_is_told_once(
            mut logs in proptest::collection::vec(proptest::collection::vec(0..60_i64, 0..12), 4),
            pages in proptest::collection::vec(between(), 0..8),
        ) {
            let (mut told, mut places) = (Vec::new(), Places::default());
            for (written, away, limit) in pages {
                let page = asked(&logs, &away, &places, limit, usize::MAX);
                let is_away = |line: &Numbered| away[usize::from(line.entry.node.0) - 1];
                prop_assert!(!page.entries.iter().any(is_away));
                told.extend(page.entries);
                places = page.places;
                written.into_iter().for_each(|(member, at)| logs[member].push(at));
            }
            loop {
                let page = asked(&logs, &[], &places, 3, usize::MAX);
                told.extend(page.entries);
                places = page.places;
                if !page.more {
                    break;
                }
            }
            for member in members(&logs) {
                let of = told.iter().filter(|line| line.entry.node == member.0).cloned();
                prop_assert_eq!(of.collect::<Vec<_>>(), lines_of(member));
            }
        }

        #[test]
        fn a_page_is_in_order_whoever_is_away(
            logs in steady(),
            away in proptest::collection::vec(any::<bool>(), 4),
            limit in 1..30_usize,
        ) {
            prop_assert!(is_sorted(&asked(&logs, &away, &Places::default(), limit, 900).entries));
        }

        #[test]
        fn any_text_is_a_cursor_or_none(
            text in "([+0]?[0-9]{1,2}:[+0]?[0-9]{1,3}(@[0-9a-fA-F+]{11,13})?,?){0,3}|.{0,24}",
        ) {
            if let Ok(places) = text.parse::<Places>() {
                prop_assert_eq!(places.to_string(), text);
            }
        }
    }

    #[test]
    fn a_cursor_has_one_form() {
        let places: Places = "1:120,2:45".parse().unwrap();
        assert_eq!([1, 2, 3].map(|node| places.of(NodeId(node)).seq), [120, 45, 0]);
        let named: Places = "1:120@00c0ffee1234,2:45".parse().unwrap();
        assert_eq!(named.of(NodeId(1)), LogPlace { seq: 120, log: Some(LogName(0xc0_ffee_1234)) });
        assert_eq!(named.to_string(), "1:120@00c0ffee1234,2:45");
        let most: Vec<_> = (1..=33).map(|node| format!("{node}:1")).collect();
        assert!(most[..32].join(",").parse::<Places>().is_ok());
        let too_many = most.join(",");
        for wrong in [
            "",
            "120",
            "1:",
            ":1",
            "1:120,",
            ",1:120",
            "0:1",
            "65536:1",
            "1:18446744073709551616",
            "2:45,1:120",
            "1:1,1:2",
            "1:+1",
            "+1:1",
            "01:1",
            "1:01",
            "1:1 ",
            "1:-1",
            "1:1:1",
            "1;1",
            "1:1@",
            "1:1@c0ffee1234",
            "1:1@00C0FFEE1234",
            "1:1@+0c0ffee1234",
            "1:1@000c0ffee1234",
            &too_many,
        ] {
            assert_eq!(wrong.parse::<Places>(), Err(NotPlaces), "{wrong}");
        }
    }

    #[test]
    fn nothing_is_told_before_what_a_member_has_not_told_yet() {
        let (one, two) = (NodeId(1), NodeId(2));
        let short = Lines { entries: vec![line(one, 1, 10)], more: true, log: None };
        let long = vec![line(two, 1, 5), line(two, 2, 90)];
        let long = Lines { entries: long, more: false, log: None };
        let page = page(&Places::default(), vec![(one, short), (two, long)], 50);
        let told: Vec<_> = page.entries.iter().map(|line| (line.entry.node, line.seq)).collect();
        assert_eq!((told, page.more), (vec![(two, 1), (one, 1)], true));
        assert_eq!(page.places.to_string(), "1:1,2:1");
    }

    #[test]
    fn a_member_that_repeats_itself_ends_no_paging() {
        let node = NodeId(1);
        let places: Places = "1:2".parse().unwrap();
        let again = vec![line(node, 2, 1), line(node, 4, 1), line(node, 4, 1), line(node, 3, 1)];
        let again = Lines { entries: again, more: false, log: None };
        let told = page(&places, vec![(node, again)], 50);
        assert_eq!((told.entries, told.more), (vec![line(node, 4, 1)], false));
        let nothing_new = Lines { entries: vec![line(node, 1, 1)], more: true, log: None };
        let told = page(&places, vec![(node, nothing_new)], 50);
        assert_eq!((told.entries, told.places, told.more), (Vec::new(), places, false));
    }

    #[test]
    fn a_long_line_is_told_alone() {
        let (node, mut long) = (NodeId(1), line(NodeId(1), 1, 1));
        long.entry.user = "x".repeat(LINES_BYTES_MAX);
        let lines = Lines::cut(vec![long.clone(), line(node, 2, 2)], None, 50);
        assert_eq!((lines.entries.len(), lines.more), (1, true));
        let page = page(&Places::default(), vec![(node, lines)], 50);
        assert_eq!((page.entries, page.more), (vec![long], true));
        let short = vec![line(node, 1, 1); 3];
        assert_eq!(Lines::cut(short, None, 2).entries.len(), 2);
    }

    #[test]
    fn a_log_that_was_begun_anew_is_told_from_its_begin() {
        let (node, other) = (NodeId(1), NodeId(2));
        let name = |byte: u8| Some(LogName::of([byte; 32]));
        let told = |places: &Places, log: Option<LogName>, seqs: &[u64]| {
            let entries = seqs.iter().map(|seq| line(node, *seq, 1)).collect();
            let page = page(places, vec![(node, Lines { entries, more: false, log })], 50);
            (page.entries.iter().map(|line| line.seq).collect::<Vec<_>>(), page.places)
        };
        let (_, before) = told(&Places::default(), name(1), &[1, 2, 3]);
        assert_eq!(before.to_string(), "1:3@010101010101");
        // The same log; another; one that does not say, as a member of an earlier version.
        assert_eq!(told(&before, name(1), &[3, 4]).0, [4]);
        assert_eq!(told(&before, None, &[3, 4]).0, [4]);
        let (seqs, after) = told(&before, name(2), &[1, 2]);
        assert_eq!((seqs, after.to_string()), (vec![1, 2], "1:2@020202020202".to_owned()));
        assert_eq!(told(&after, name(2), &[1, 2, 3]).0, [3]);
        // A cursor from before logs had names.
        let old: Places = "1:3".parse().unwrap();
        assert_eq!(told(&old, name(2), &[3, 4]).0, [4]);
        // What tells nothing keeps its place.
        assert_eq!(told(&before, name(2), &[]).1, before);
        assert_eq!(before.of(other), LogPlace::default());
        let place = before.of(node);
        assert_eq!([name(1), name(2), None].map(|log| place.within(log)), [3, 0, 3]);
    }
}
