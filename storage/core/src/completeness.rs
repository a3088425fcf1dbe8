//! A day's completeness: every call that a node saw, held against what was published. It decides what of
//! a call is recorded, recorded in part (how much is missing, and why), excluded or missed. Which calls
//! were seen and which recordings there are it is told; it reads no file.
//!
//! Nodes see the same calls through AES servers of their own, so their accounts of one call are joined
//! first: by the call's identity, or by its number where they overlap in time (numbers come back within
//! seconds). A recording of a call whose end nobody saw (all nodes were away) stands for its call. What
//! nobody saw and nobody recorded is not known here.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::ids::{Extension, NodeId, Ucid};
use crate::record::{GapCause, Recording};
use crate::scope::Scope;
use crate::time::WallTime;

/// A stretch of wall time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Due {
    /// Since when the call was to be recorded.
    pub from: WallTime,
    /// Until when.
    pub to: WallTime,
}

/// One node's account of one call that somebody answered, given when the call is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenCall {
    /// Who gives it.
    pub node: NodeId,
    /// The call's identities, the last one first.
    pub ucids: Vec<Ucid>,
    /// The switch's numbers of it, in order.
    pub callids: Vec<String>,
    /// The monitored stations that talked in it; accounts of earlier versions have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stations: Vec<Extension>,
    /// When it was answered, or found.
    pub began: WallTime,
    /// When it was over.
    pub ended: WallTime,
    /// When it was to be recorded, in order; empty if never.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub due: Vec<Due>,
    /// When people had paused what was to be recorded, in order; accounts of earlier versions have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paused: Vec<Due>,
    /// The rule that decided; empty if none did.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rule: String,
    /// Whether this node captured anything of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub captured: bool,
    /// What stood in the way last of recording it, by its word in `calls_missed_total`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<String>,
    /// This is what a recording tells of its call that was deleted since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// All of it is in voice files.
    Recorded,
    /// A part of it is.
    Partial,
    /// No rule and nobody wanted it, or it was paused from begin to end.
    Excluded,
    /// Nothing of it is.
    Missed,
    /// Something of it was captured and will be published soon.
    Pending,
    /// It was recorded, and a recording of it was deleted since: how much it had is not known any more.
    Deleted,
}

/// One call of a day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallAccount {
    /// The call's identity; absent if the switch gave none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ucid: Option<Ucid>,
    /// The switch's last number of it.
    pub callid: String,
    /// When it was answered.
    pub began: WallTime,
    /// When it was over.
    pub ended: WallTime,
    /// What became of it.
    pub outcome: Outcome,
    /// The rule that decided; empty if none did.
    pub rule: String,
    /// How long it was to be recorded, milliseconds.
    pub duems: u64,
    /// What is missing of that, milliseconds, by cause: a gap's cause, what stood in the way of a call
    /// that was missed, or `unexplained`.
    pub missingms: BTreeMap<String, u64>,
    /// Its recordings' names.
    pub recordings: Vec<String>,
}

/// A day, or any other set of calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completeness {
    /// Calls seen.
    pub calls: u64,
    /// Of them wholly recorded.
    pub recorded: u64,
    /// In part.
    pub partial: u64,
    /// Not to be recorded.
    pub excluded: u64,
    /// Of these, paused from begin to end.
    #[serde(default)]
    pub paused: u64,
    /// Missed.
    pub missed: u64,
    /// Captured, and not published yet.
    pub pending: u64,
    /// Recorded, and deleted since; what was to be recorded of these is not in `duems`.
    #[serde(default)]
    pub deleted: u64,
    /// What was to be recorded, milliseconds.
    pub duems: u64,
    /// What is missing of it, by cause.
    pub missingms: BTreeMap<String, u64>,
    /// The calls that are not wholly recorded, in order of time; excluded ones are not among them.
    pub lacking: Vec<CallAccount>,
}

/// Audio may begin so much after a call was answered (a recorder has to be let in), and end so much before
/// word of its end, without being missing. As the sealer sees it, see `begin_when_due` there.
const BEGIN_TOLERANCE_MS: u64 = 1_000;
const END_TOLERANCE_MS: u64 = 500;
/// What is captured is published within, unless something is wrong: 10 min.
const PUBLISHED_WITHIN_MICROS: i64 = 600_000_000;
/// Rounding of records.
const SLIVER_MS: u64 = 2;
/// What stands for the rule where people had paused all that was to be recorded.
const PAUSED: &str = "paused";
/// What no recording tells the reason of.
const UNEXPLAINED: &str = "unexplained";

/// Joins the accounts of all nodes, holds those calls that began within a time (its end is not in it)
/// against the recordings, and adds up. Of a scope that is not everything: the calls in which one of its stations
/// talked, and those with a recording that it holds; other recordings of them count, and are not named.
#[must_use]
pub fn reconcile(
    within: Range<WallTime>,
    now: WallTime,
    seen: Vec<SeenCall>,
    recordings: &[Recording],
    scope: &Scope,
) -> Completeness {
    let mut day = Completeness::default();
    let by_ucid = index(recordings);
    let with_recordings = |call: SeenCall| {
        let numbers = recordings_of(&call, recordings, &by_ucid);
        (call, numbers)
    };
    let mut accounts: Vec<_> = joined(seen).into_iter().map(with_recordings).collect();
    let mut used = vec![false; recordings.len()];
    accounts.iter().flat_map(|(_, numbers)| numbers).for_each(|number| used[*number] = true);
    let unseen = recordings.iter().zip(used).filter(|(_, used)| !used);
    let unseen = joined(unseen.map(|(recording, _)| seen_by(recording)).collect());
    accounts.extend(unseen.into_iter().map(with_recordings));
    accounts.sort_by_key(|(call, _)| call.began);
    for (call, numbers) in accounts.iter().filter(|(call, _)| within.contains(&call.began)) {
        let found: Vec<_> = numbers.iter().filter_map(|number| recordings.get(*number)).collect();
        if belongs(scope, call, &found) {
            day.add(account(now, call, &found, scope));
        }
    }
    day
}

fn belongs(scope: &Scope, call: &SeenCall, recordings: &[&Recording]) -> bool {
    scope.is_all()
        || call.stations.iter().any(|station| scope.has(station.as_str()))
        || recordings.iter().any(|recording| scope.holds(recording))
}

fn named(scope: &Scope, recordings: &[&Recording]) -> Vec<String> {
    let own = recordings.iter().filter(|recording| scope.holds(recording));
    own.map(|recording| recording.recordingid.to_string()).collect()
}

/// The call of a recording, as far as that tells.
fn seen_by(recording: &Recording) -> SeenCall {
    SeenCall {
        node: recording.node,
        ucids: recording.ucid.iter().chain(&recording.formerucids).cloned().collect(),
        callids: recording.callids.clone(),
        stations: vec![recording.extension.clone()],
        began: recording.started,
        ended: recording.ended,
        due: Vec::new(),
        paused: Vec::new(),
        rule: recording.rule.clone(),
        captured: true,
        block: None,
        deleted: false,
    }
}

impl Completeness {
    fn add(&mut self, call: CallAccount) {
        self.calls += 1;
        if call.outcome == Outcome::Pending {
            self.pending += 1;
            return;
        }
        if call.outcome == Outcome::Deleted {
            self.deleted += 1;
            return;
        }
        self.duems += call.duems;
        for (cause, missing) in &call.missingms {
            *self.missingms.entry(cause.clone()).or_default() += missing;
        }
        let count = match call.outcome {
            Outcome::Recorded => &mut self.recorded,
            Outcome::Partial => &mut self.partial,
            Outcome::Excluded => {
                self.paused += u64::from(call.rule == PAUSED);
                &mut self.excluded
            }
            Outcome::Missed => &mut self.missed,
            // Told above.
            Outcome::Pending | Outcome::Deleted => return,
        };
        *count += 1;
        if matches!(call.outcome, Outcome::Partial | Outcome::Missed) {
            self.lacking.push(call);
        }
    }
}

/// One call for all accounts of it, in order of time.
fn joined(mut seen: Vec<SeenCall>) -> Vec<SeenCall> {
    seen.sort_by_key(|call| (call.began, call.node));
    let mut calls: Vec<SeenCall> = Vec::new();
    let mut by_ucid: BTreeMap<Ucid, usize> = BTreeMap::new();
    let mut by_callid: BTreeMap<String, usize> = BTreeMap::new();
    for call in seen {
        let known = call.ucids.iter().find_map(|ucid| by_ucid.get(ucid)).copied();
        let same_number = || {
            let numbered = call.callids.iter().find_map(|id| by_callid.get(id)).copied()?;
            let other: &SeenCall = &calls[numbered];
            // Two identities are two calls.
            let unnamed = other.ucids.is_empty() || call.ucids.is_empty();
            (unnamed && call.began <= other.ended).then_some(numbered)
        };
        let index = known.or_else(same_number);
        let index = if let Some(index) = index {
            join(&mut calls[index], call);
            index
        } else {
            calls.push(call);
            calls.len() - 1
        };
        let call = &calls[index];
        by_ucid.extend(call.ucids.iter().map(|ucid| (ucid.clone(), index)));
        by_callid.extend(call.callids.iter().map(|id| (id.clone(), index)));
    }
    calls
}

fn join(call: &mut SeenCall, other: SeenCall) {
    call.began = call.began.min(other.began);
    call.ended = call.ended.max(other.ended);
    extend(&mut call.ucids, other.ucids);
    extend(&mut call.callids, other.callids);
    extend(&mut call.stations, other.stations);
    if call.rule.is_empty() {
        call.rule = other.rule;
    }
    call.captured |= other.captured;
    call.deleted |= other.deleted;
    call.block = call.block.take().or(other.block);
    call.due.extend(other.due);
    call.due = union(std::mem::take(&mut call.due));
    call.paused.extend(other.paused);
    call.paused = union(std::mem::take(&mut call.paused));
}

fn extend<T: PartialEq>(known: &mut Vec<T>, others: Vec<T>) {
    for other in others {
        if !known.contains(&other) {
            known.push(other);
        }
    }
}

/// Stretches in order, those that touch joined.
fn union(mut stretches: Vec<Due>) -> Vec<Due> {
    stretches.retain(|due| due.from < due.to);
    stretches.sort_unstable();
    let mut joined: Vec<Due> = Vec::new();
    for due in stretches {
        match joined.last_mut() {
            Some(last) if due.from <= last.to => last.to = last.to.max(due.to),
            _ => joined.push(due),
        }
    }
    joined
}

/// Numbers of the recordings by all identities of their calls.
fn index(recordings: &[Recording]) -> BTreeMap<&Ucid, Vec<usize>> {
    let mut by_ucid: BTreeMap<&Ucid, Vec<usize>> = BTreeMap::new();
    for (number, recording) in recordings.iter().enumerate() {
        for ucid in recording.ucid.iter().chain(&recording.formerucids) {
            by_ucid.entry(ucid).or_default().push(number);
        }
    }
    by_ucid
}

fn recordings_of(
    call: &SeenCall,
    recordings: &[Recording],
    by_ucid: &BTreeMap<&Ucid, Vec<usize>>,
) -> Vec<usize> {
    let named = call.ucids.iter().filter_map(|ucid| by_ucid.get(ucid)).flatten().copied();
    let mut numbers: Vec<usize> = named.collect();
    if call.ucids.is_empty() {
        let same = |recording: &Recording| {
            recording.callids.iter().any(|id| call.callids.contains(id))
                && recording.started <= call.ended
                && recording.ended >= call.began
        };
        let numbered = recordings.iter().enumerate().filter(|(_, recording)| same(recording));
        numbers.extend(numbered.map(|(number, _)| number));
    }
    numbers.sort_unstable();
    numbers.dedup();
    // An identity is used again after years, and two calls that merged share theirs.
    let near =
        |recording: &Recording| recording.started <= call.ended && recording.ended >= call.began;
    numbers.retain(|number| recordings.get(*number).is_some_and(near));
    numbers
}

fn account(
    now: WallTime,
    call: &SeenCall,
    recordings: &[&Recording],
    scope: &Scope,
) -> CallAccount {
    // What somebody asked for was due as long as it was recorded.
    let asked = recordings.iter().map(|one| Due { from: one.started, to: one.ended });
    let due: Vec<Due> = union(call.due.iter().copied().chain(asked).collect());
    let paused = recordings.is_empty() && is_paused(&due, &call.paused);
    let due: Vec<Due> = match recordings.is_empty() {
        _ if paused => Vec::new(),
        // A recording tells of its pauses itself.
        true => due.iter().flat_map(|due| outside(*due, &call.paused)).collect(),
        false => due,
    };
    let duems = due.iter().map(|due| due.to.millis_after(due.from)).sum();
    let missing = missing(call, &due, recordings);
    let soon = call.captured && now.micros_since(call.ended) < PUBLISHED_WITHIN_MICROS;
    let whole = missing.is_empty() && recordings.iter().any(|recording| recording.complete);
    let outcome = if call.deleted && !whole {
        Outcome::Deleted
    } else if recordings.is_empty() && soon && !paused {
        Outcome::Pending
    } else if due.is_empty() {
        Outcome::Excluded
    } else if recordings.is_empty() {
        Outcome::Missed
    } else if whole {
        Outcome::Recorded
    } else {
        Outcome::Partial
    };
    CallAccount {
        ucid: call.ucids.first().cloned(),
        callid: call.callids.last().cloned().unwrap_or_default(),
        began: call.began,
        ended: call.ended,
        outcome,
        rule: if paused { PAUSED.to_owned() } else { call.rule.clone() },
        duems,
        missingms: missing,
        recordings: named(scope, recordings),
    }
}

/// Whether nothing is left of what was to be recorded beside what people had paused: no more than a recorder takes to
/// be let in.
#[must_use]
pub fn is_paused(due: &[Due], paused: &[Due]) -> bool {
    let left = due.iter().flat_map(|due| outside(*due, paused));
    let left: u64 = left.map(|hole| hole.to.millis_after(hole.from)).sum();
    !due.is_empty() && !paused.is_empty() && left <= BEGIN_TOLERANCE_MS
}

/// What was to be recorded and is in none of the recordings, by cause.
fn missing(call: &SeenCall, due: &[Due], recordings: &[&Recording]) -> BTreeMap<String, u64> {
    let mut by_cause = BTreeMap::new();
    let mut add = |cause: &str, ms: u64| {
        if ms > 0 {
            *by_cause.entry(cause.to_owned()).or_default() += ms;
        }
    };
    let heard = union(recordings.iter().flat_map(|recording| audio(recording)).collect());
    for due in due {
        for hole in outside(*due, &heard) {
            let mut left = hole.to.millis_after(hole.from);
            for (cause, part) in declared(hole, recordings) {
                let ms = part.to.millis_after(part.from).min(left);
                left -= ms;
                if let Some(cause) = cause {
                    add(cause, ms);
                }
            }
            let tolerated = if recordings.is_empty() {
                0
            } else if hole.from == due.from {
                BEGIN_TOLERANCE_MS
            } else if hole.to == due.to {
                END_TOLERANCE_MS
            } else {
                SLIVER_MS
            };
            if left > tolerated {
                add(call.block.as_deref().unwrap_or(UNEXPLAINED), left);
            }
        }
    }
    by_cause
}

/// Where a recording holds audio, in wall time.
fn audio(recording: &Recording) -> Vec<Due> {
    let mut stretches = Vec::with_capacity(recording.gaps.len() + 1);
    let mut from = 0;
    for gap in &recording.gaps {
        stretches.push((from, gap.startms));
        from = gap.endms;
    }
    stretches.push((from, recording.durationms));
    let wall =
        |(from, to): (u64, u64)| Due { from: wall(recording, from), to: wall(recording, to) };
    stretches.into_iter().map(wall).collect()
}

/// The wall time of a position.
fn wall(recording: &Recording, ms: u64) -> WallTime {
    let length = i128::from(recording.durationms).max(1);
    let span = i128::from(recording.ended.micros_since(recording.started));
    let into = i64::try_from(i128::from(ms) * span / length).unwrap_or(0);
    WallTime::from_micros(recording.started.as_micros().saturating_add(into))
}

/// The parts of a stretch that are outside of others, which are in order.
fn outside(due: Due, others: &[Due]) -> Vec<Due> {
    let mut holes = Vec::new();
    let mut from = due.from;
    for other in others.iter().filter(|other| other.to > due.from && other.from < due.to) {
        if other.from > from {
            holes.push(Due { from, to: other.from });
        }
        from = from.max(other.to);
    }
    if from < due.to {
        holes.push(Due { from, to: due.to });
    }
    holes
}

/// What recordings declare within a hole. A pause or a hold that was left out on purpose has no cause:
/// it is not missing.
fn declared(hole: Due, recordings: &[&Recording]) -> Vec<(Option<&'static str>, Due)> {
    let mut declared: Vec<(Option<&'static str>, Due)> = Vec::new();
    let gaps = recordings.iter().flat_map(|recording| {
        recording.gaps.iter().map(|gap| {
            let from = wall(recording, gap.startms).max(hole.from);
            (gap.cause, Due { from, to: wall(recording, gap.endms).min(hole.to) })
        })
    });
    let mut gaps: Vec<_> = gaps.filter(|(_, gap)| gap.from < gap.to).collect();
    gaps.sort_by_key(|(_, gap)| *gap);
    let mut past = hole.from;
    for (cause, gap) in gaps {
        // Two copies may declare the same.
        let gap = Due { from: gap.from.max(past), to: gap.to };
        if gap.from < gap.to {
            past = gap.to;
            declared.push((word(cause), gap));
        }
    }
    declared
}

/// The word of a cause, as in records; none for what was left out on purpose.
const fn word(cause: GapCause) -> Option<&'static str> {
    match cause {
        GapCause::Loss => Some("loss"),
        GapCause::Takeover => Some("takeover"),
        GapCause::NoMedia => Some("nomedia"),
        GapCause::DiskFull => Some("diskfull"),
        GapCause::Paused | GapCause::Hold => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::Gap;

    const DAY: i64 = 1_700_000_000_000;

    fn at(ms: i64) -> WallTime {
        WallTime::from_millis(DAY + ms)
    }

    fn due(from: i64, to: i64) -> Due {
        Due { from: at(from), to: at(to) }
    }

    fn ucid(text: &str) -> Ucid {
        format!("{text:0>20}").parse().unwrap()
    }

    fn seen(node: u16, ucid: &str, from: i64, to: i64) -> SeenCall {
        SeenCall {
            node: NodeId(node),
            ucids: if ucid.is_empty() { Vec::new() } else { vec![self::ucid(ucid)] },
            callids: vec!["1207".to_owned()],
            stations: Vec::new(),
            began: at(from),
            ended: at(to),
            due: vec![due(from, to)],
            paused: Vec::new(),
            rule: "all".to_owned(),
            captured: false,
            block: None,
            deleted: false,
        }
    }

    fn recorded(ucid: &str, from: i64, to: i64, gaps: &[(u64, u64, GapCause)]) -> Recording {
        let gap = |(startms, endms, cause): &(u64, u64, GapCause)| Gap {
            startms: *startms,
            endms: *endms,
            cause: *cause,
            side: None,
        };
        let gaps: Vec<Gap> = gaps.iter().map(gap).collect();
        let ucid = (!ucid.is_empty()).then(|| self::ucid(ucid));
        let record = serde_json::json!({
            "recordingid": "018bcfe5-6800-7000-8000-000000000001",
            "ucid": ucid, "formerucids": [], "callids": ["1207"], "extension": "31002",
            "agentid": "", "calling": "", "called": "", "direction": "inbound", "trunkgroup": "",
            "trunkmember": "", "vdn": "", "split": "", "userdata": "", "parties": [],
            "started": at(from), "ended": at(to), "durationms": to - from, "scope": "station",
            "trigger": "rule", "rule": "all", "copy": 1, "node": 1, "segments": [], "gaps": gaps,
            "pauses": [], "complete": true,
            "quality": { "lossratio": 0.0, "jitterms": 0.0, "clockdriftppm": 0.0 },
            "format": "wavg711", "bytes": 0, "sha256": "", "tags": [], "notes": [], "hold": false,
        });
        serde_json::from_value(record).unwrap()
    }

    fn day_of(seen: Vec<SeenCall>, recordings: &[Recording]) -> Completeness {
        reconcile(at(0)..at(86_400_000), at(20_000), seen, recordings, &Scope::ALL)
    }

    fn missing(day: &Completeness) -> Vec<(&str, u64)> {
        day.missingms.iter().map(|(cause, ms)| (cause.as_str(), *ms)).collect()
    }

    #[test]
    fn a_team_is_told_of_the_calls_in_which_it_talked_and_of_its_own_recordings() {
        let station = |numbers: &[&str], call: SeenCall| SeenCall {
            stations: numbers.iter().map(|number| Extension::from(*number)).collect(),
            ..call
        };
        let at_two = vec![
            station(&["31001"], seen(1, "1", 0, 10_000)),
            // The other node saw it passed on.
            station(&["31003"], seen(2, "1", 0, 10_000)),
            station(&["31001"], seen(1, "2", 0, 10_000)),
            // From before accounts named stations; its recording is of 31002.
            seen(1, "3", 0, 10_000),
            seen(1, "4", 0, 10_000),
        ];
        let recordings = [recorded("1", 0, 10_000, &[]), recorded("3", 0, 10_000, &[])];
        let of = |numbers: &[&str]| {
            let team = Scope::of(numbers.iter().map(|number| Extension::from(*number)).collect());
            let within = at(0)..at(86_400_000);
            reconcile(within, at(20_000_000), at_two.clone(), &recordings, &team)
        };
        let counts = |day: &Completeness| (day.calls, day.recorded, day.missed);
        assert_eq!(counts(&of(&["31001"])), (2, 1, 1), "missed calls are its own, too");
        assert_eq!(counts(&of(&["31003"])), (1, 1, 0));
        assert_eq!(counts(&of(&["31002"])), (2, 2, 0), "by its recordings");
        assert_eq!(counts(&of(&["39999"])), (0, 0, 0));
        assert_eq!(counts(&of(&[])), (0, 0, 0));

        let cut = recorded("1", 0, 5_000, &[]);
        let lacking = |number: &str| {
            let team = Scope::of([Extension::from(number)].into());
            let within = at(0)..at(86_400_000);
            let seen = vec![station(&["31001", "31002"], seen(1, "1", 0, 10_000))];
            reconcile(within, at(20_000_000), seen, std::slice::from_ref(&cut), &team).lacking
        };
        assert_eq!(lacking("31002")[0].recordings, [cut.recordingid.to_string()]);
        assert_eq!(lacking("31001")[0].recordings, [""; 0], "another's is not named");
    }

    #[test]
    fn what_people_had_paused_from_begin_to_end_is_neither_missed_nor_in_doubt() {
        // When it was due, when it was paused; what became of it, and how long it was to be recorded.
        type Row<'a> = (&'a [(i64, i64)], &'a [(i64, i64)], Outcome, u64);
        let cases: [Row<'_>; 6] = [
            (&[(0, 60_000)], &[(300, 60_000)], Outcome::Excluded, 0),
            (&[(0, 60_000)], &[(300, 30_000), (30_200, 60_000)], Outcome::Excluded, 0),
            // It was not let in for long before.
            (&[(0, 60_000)], &[(5_000, 60_000)], Outcome::Missed, 5_000),
            // Nothing came after it was resumed.
            (&[(0, 60_000)], &[(300, 40_000)], Outcome::Missed, 20_300),
            (&[(0, 60_000)], &[], Outcome::Missed, 60_000),
            (&[], &[(300, 60_000)], Outcome::Excluded, 0),
        ];
        for (due_then, paused, outcome, duems) in cases {
            let stretches = |all: &[(i64, i64)]| all.iter().map(|(a, b)| due(*a, *b)).collect();
            let due: Vec<Due> = stretches(due_then);
            let call = SeenCall { due, paused: stretches(paused), ..seen(1, "1", 0, 60_000) };
            let captured = SeenCall { captured: true, ..call.clone() };
            for call in [call, captured] {
                let within = at(0)..at(86_400_000);
                let day = reconcile(within, at(20_000_000), vec![call], &[], &Scope::ALL);
                let counts = [day.excluded, day.missed];
                let expected = [
                    u64::from(outcome == Outcome::Excluded),
                    u64::from(outcome == Outcome::Missed),
                ];
                assert_eq!((counts, day.duems), (expected, duems), "{due_then:?} {paused:?}");
                let named = outcome == Outcome::Excluded && !due_then.is_empty();
                assert_eq!(day.paused, u64::from(named), "{due_then:?} {paused:?}");
            }
        }
    }

    #[test]
    fn a_call_is_recorded_in_part_excluded_or_missed() {
        use GapCause::{Hold, Loss, Paused, Takeover};
        let gaps = [(100, 120, Loss), (5_000, 5_400, Takeover), (6_000, 9_000, Paused)];
        for (call, recordings, outcome, expected) in [
            (
                seen(1, "1", 0, 10_000),
                vec![recorded("1", 300, 9_800, &[])],
                Outcome::Recorded,
                vec![],
            ),
            (
                seen(1, "1", 0, 10_000),
                vec![recorded("1", 0, 10_000, &gaps)],
                Outcome::Partial,
                vec![("loss", 20), ("takeover", 400)],
            ),
            (
                seen(1, "1", 0, 10_000),
                vec![recorded("1", 0, 10_000, &[(6_000, 9_000, Hold)])],
                Outcome::Recorded,
                vec![],
            ),
            // It ends long before the call, and says nothing of it.
            (
                seen(1, "1", 0, 10_000),
                vec![recorded("1", 0, 6_000, &[])],
                Outcome::Partial,
                vec![("unexplained", 4_000)],
            ),
            (
                SeenCall { block: Some("nophantom".to_owned()), ..seen(1, "1", 0, 10_000) },
                vec![recorded("2", -20_000, -10_000, &[])],
                Outcome::Missed,
                vec![("nophantom", 10_000)],
            ),
            (
                SeenCall { due: vec![], ..seen(1, "1", 0, 10_000) },
                vec![],
                Outcome::Excluded,
                vec![],
            ),
            // Stopped, and started again.
            (
                SeenCall {
                    due: vec![due(0, 2_000), due(7_000, 10_000)],
                    ..seen(1, "1", 0, 10_000)
                },
                vec![recorded("1", 0, 2_000, &[]), recorded("1", 7_100, 10_000, &[])],
                Outcome::Recorded,
                vec![],
            ),
        ] {
            let day = day_of(vec![call.clone()], &recordings);
            assert_eq!(missing(&day), expected, "{call:?}");
            let counts = [day.recorded, day.partial, day.excluded, day.missed];
            let mut wanted = [0; 4];
            wanted[outcome as usize] = 1;
            assert_eq!((day.calls, counts), (1, wanted), "{call:?}");
            assert_eq!(day.lacking.len(), usize::from(!expected.is_empty()));
        }
    }

    #[test]
    fn what_is_captured_and_not_published_yet_is_not_missed() {
        let call = SeenCall { captured: true, ..seen(1, "1", 0, 10_000) };
        let within = at(0)..at(86_400_000);
        let day = reconcile(within.clone(), at(11_000), vec![call.clone()], &[], &Scope::ALL);
        assert_eq!((day.pending, day.missed, day.duems), (1, 0, 0));
        let published = [recorded("1", 0, 10_000, &[])];
        let day =
            reconcile(within.clone(), at(11_000), vec![call.clone()], &published, &Scope::ALL);
        assert_eq!((day.pending, day.recorded), (0, 1));
        let day = reconcile(within, at(11_000 + 600_000), vec![call], &[], &Scope::ALL);
        assert_eq!((day.pending, day.missed, missing(&day)), (0, 1, vec![("unexplained", 10_000)]));
    }

    #[test]
    fn two_copies_fill_each_others_holes() {
        let one = recorded("1", 0, 10_000, &[(2_000, 3_000, GapCause::Takeover)]);
        let other = recorded("1", 0, 10_000, &[(2_500, 4_000, GapCause::Loss)]);
        let day = day_of(vec![seen(1, "1", 0, 10_000)], &[one, other]);
        assert_eq!((day.partial, missing(&day)), (1, vec![("takeover", 500)]));
    }

    #[test]
    fn accounts_of_one_call_are_joined_and_those_of_two_are_not() {
        let late = SeenCall { due: vec![], rule: String::new(), ..seen(2, "1", 4_000, 10_100) };
        let nameless = seen(3, "", 6_000, 10_000);
        let next = SeenCall { block: Some("linkdown".to_owned()), ..seen(1, "2", 10_200, 12_000) };
        let recordings = [recorded("1", 0, 10_000, &[])];
        let day = day_of(vec![next, late, seen(1, "1", 0, 10_000), nameless], &recordings);
        assert_eq!((day.calls, day.recorded, day.missed), (2, 1, 1));
        assert_eq!(missing(&day), [("linkdown", 1_800)]);
        // The identity that a merge has taken away finds the recording, too.
        let merged = SeenCall { ucids: vec![ucid("9"), ucid("1")], ..seen(1, "", 0, 9_900) };
        assert_eq!(day_of(vec![merged], &recordings).recorded, 1);
        let other_day = at(86_400_000)..at(2 * 86_400_000);
        assert_eq!(
            reconcile(other_day, at(0), vec![seen(1, "1", 0, 10_000)], &recordings, &Scope::ALL)
                .calls,
            0
        );
        // Without an identity a call is found by its number and its time.
        let (same, later) = (seen(1, "", 0, 10_000), seen(1, "", 20_000, 30_000));
        let day = day_of(vec![same, later], &[recorded("", 0, 10_000, &[])]);
        assert_eq!((day.recorded, day.missed), (1, 1));
    }

    #[test]
    fn a_recording_stands_for_its_call_if_nobody_saw_that_end() {
        let cut = Recording { complete: false, ..recorded("1", 0, 10_000, &[]) };
        let copy = Recording { copy: 2, ..recorded("3", 0, 5_000, &[]) };
        let gaps = [(1_000, 2_000, GapCause::DiskFull)];
        let day = day_of(vec![], &[cut, recorded("3", 100, 5_000, &gaps), copy]);
        assert_eq!((day.calls, day.recorded, day.partial), (2, 1, 1));
        assert_eq!((day.duems, missing(&day)), (15_000, vec![]));
    }

    proptest! {
        /// What is due is heard, left out on purpose, or missing for a reason; nothing is counted twice.
        #[test]
        fn every_millisecond_that_is_due_is_accounted_for(
            cuts in proptest::collection::vec(0_u64..20_000, 0..12),
            causes in proptest::collection::vec(0..4_u8, 6),
            ends in (0_i64..3_000, 12_000_i64..25_000),
        ) {
            let (from, to) = ends;
            let length = u64::try_from(to - from).unwrap();
            let mut cuts: Vec<u64> = cuts.into_iter().map(|cut| cut.min(length)).collect();
            cuts.sort_unstable();
            cuts.dedup();
            let cause = |number: usize| {
                [GapCause::Loss, GapCause::Takeover, GapCause::DiskFull, GapCause::Paused]
                    [usize::from(causes[number % causes.len()])]
            };
            let pairs = cuts.chunks_exact(2).enumerate();
            let gaps: Vec<_> =
                pairs.map(|(number, pair)| (pair[0], pair[1], cause(number))).collect();
            let call = seen(1, "1", 0, 20_000);
            let day = day_of(vec![call], &[recorded("1", from, to, &gaps)]);
            let missed = gaps.iter().filter(|gap| gap.2 != GapCause::Paused);
            let declared: u64 = missed.map(|(gap_from, gap_to, _)| gap_to - gap_from).sum();
            let unexplained = missing(&day).iter().find(|one| one.0 == UNEXPLAINED).map_or(0, |one| one.1);
            let before = u64::try_from(from).unwrap();
            let after = u64::try_from((20_000 - to).max(0)).unwrap();
            prop_assert!(unexplained <= before + after);
            prop_assert_eq!(before > BEGIN_TOLERANCE_MS || after > END_TOLERANCE_MS, unexplained > 0);
            let total: u64 = day.missingms.values().sum();
            prop_assert_eq!(total - unexplained, declared);
        }
    }
}
