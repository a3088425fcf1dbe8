//! Which call of the ledger a reference means. UCIDs decide where both sides have one; otherwise
//! the switch's number within a few seconds, because numbers are reused.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use storage_core::{CallId, NodeId, RecordingId, SegmentId, Ucid, WallTime};

use crate::command::CallRef;

/// Two nodes see a call's begin through two AES and two clocks.
const BEGAN_TOLERANCE: Duration = Duration::from_secs(2);
/// Audio of a call may be reported a little later than the call's end.
const ENDED_TOLERANCE: Duration = Duration::from_secs(1);

/// Indices over calls, by the log index that opened them. Rebuilt after a restore.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lookup {
    ucids: BTreeMap<Ucid, BTreeSet<u64>>,
    numbers: BTreeMap<CallId, BTreeSet<u64>>,
    recordings: BTreeMap<RecordingId, u64>,
    captures: BTreeMap<(NodeId, SegmentId), u64>,
}

impl Lookup {
    pub(crate) fn add_call(&mut self, number: u64, call: &CallRef) {
        if let Some(ucid) = &call.ucid {
            self.ucids.entry(ucid.clone()).or_default().insert(number);
        }
        self.numbers.entry(call.callid.clone()).or_default().insert(number);
    }

    pub(crate) fn remove_call(&mut self, number: u64, call: &CallRef) {
        if let Some(ucid) = &call.ucid {
            prune(&mut self.ucids, ucid, number);
        }
        prune(&mut self.numbers, &call.callid, number);
    }

    pub(crate) fn add_recording(&mut self, recording: RecordingId, number: u64) {
        self.recordings.insert(recording, number);
    }

    pub(crate) fn remove_recording(&mut self, recording: RecordingId) {
        self.recordings.remove(&recording);
    }

    pub(crate) fn add_captures<'a>(
        &mut self,
        captures: impl IntoIterator<Item = &'a (NodeId, SegmentId)>,
        number: u64,
    ) {
        self.captures.extend(captures.into_iter().map(|capture| (*capture, number)));
    }

    pub(crate) fn remove_captures<'a>(
        &mut self,
        captures: impl IntoIterator<Item = &'a (NodeId, SegmentId)>,
    ) {
        for capture in captures {
            self.captures.remove(capture);
        }
    }

    pub(crate) fn capture(&self, capture: (NodeId, SegmentId)) -> Option<u64> {
        self.captures.get(&capture).copied()
    }

    pub(crate) fn recording(&self, recording: RecordingId) -> Option<u64> {
        self.recordings.get(&recording).copied()
    }

    /// All calls that may be meant, newest first.
    pub(crate) fn candidates(&self, call: &CallRef) -> Vec<u64> {
        let by_ucid = call.ucid.as_ref().and_then(|ucid| self.ucids.get(ucid));
        let found = match by_ucid {
            Some(found) => Some(found),
            None => self.numbers.get(&call.callid),
        };
        found.into_iter().flatten().rev().copied().collect()
    }
}

fn prune<K: Ord>(map: &mut BTreeMap<K, BTreeSet<u64>>, key: &K, number: u64) {
    if let Some(set) = map.get_mut(key) {
        set.remove(&number);
        if set.is_empty() {
            map.remove(key);
        }
    }
}

/// Whether both mean one call. `over` is when the known one ended, if it has; `from` when media
/// of the other began.
pub(crate) fn same_call(
    known: &CallRef,
    over: Option<WallTime>,
    other: &CallRef,
    from: Option<WallTime>,
) -> bool {
    if let (Some(a), Some(b)) = (&known.ucid, &other.ucid) {
        return a == b;
    }
    let began_together = match (known.began, other.began) {
        (Some(a), Some(b)) => {
            a.micros_since(b).unsigned_abs() <= BEGAN_TOLERANCE.as_micros() as u64
        }
        _ => true,
    };
    let still_on = match (over, from) {
        (Some(over), Some(from)) => from <= over + ENDED_TOLERANCE,
        (Some(_), None) => false,
        _ => true,
    };
    known.callid == other.callid && began_together && still_on
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(ucid: Option<&str>, callid: &str, began: Option<i64>) -> CallRef {
        CallRef {
            ucid: ucid.and_then(|u| u.parse().ok()),
            callid: CallId::new(callid),
            began: began.map(WallTime::from_millis),
        }
    }

    #[test]
    fn one_call_is_one_call_however_it_is_seen() {
        let a = Some("00001000010000000001");
        let b = Some("00001000020000000002");
        // (known, over at, other, media from, the same?)
        let cases = [
            (call(a, "5", Some(0)), None, call(a, "9", Some(90_000)), None, true),
            (call(a, "5", Some(0)), None, call(b, "5", Some(0)), None, false),
            (call(a, "5", Some(0)), None, call(None, "5", Some(1_900)), None, true),
            (call(a, "5", Some(0)), None, call(None, "5", Some(2_100)), None, false),
            (call(a, "5", Some(0)), None, call(None, "5", None), None, true),
            (call(None, "5", Some(0)), Some(500), call(None, "5", Some(1_900)), Some(1_900), false),
            (call(None, "5", Some(0)), Some(2_000), call(None, "5", Some(100)), Some(150), true),
            (call(None, "5", Some(0)), None, call(None, "6", Some(0)), None, false),
        ];
        for (known, over, other, from, same) in cases {
            let over = over.map(WallTime::from_millis);
            let from = from.map(WallTime::from_millis);
            assert_eq!(same_call(&known, over, &other, from), same, "{known:?} {other:?}");
        }
    }
}
