//! Recordings of the group that nobody goes on with although they are not over: the node that held
//! one died, and the call ended before another joined. Whoever captured a part of it says that it
//! is over, once its own link shows that the call is not up any more.

use std::collections::BTreeSet;
use std::time::Duration;

use storage_core::record::Scope;
use storage_core::{Now, RecordingId};

use super::calls::Calls;
use super::group::{Claimed, Over};
use super::order::Order;
use super::timer::Timer;
use super::tracked::TrackedCall;

/// A call may be found, or joined by somebody, a little later than its recording is told of.
const PATIENCE: Duration = Duration::from_secs(2);

impl Calls {
    /// Something changed that may leave a recording alone.
    pub(super) fn look_for_orphans_soon(&mut self, now: Now) {
        self.timers.set_earlier(Timer::Orphans, now.mono + PATIENCE);
    }

    /// Ends the recordings that nobody goes on with.
    pub(super) fn look_for_orphans(&mut self) {
        if !self.calls_known {
            // The end of the resync looks again.
            return;
        }
        let orphans = self.group.all().filter(|claimed| self.is_orphan(claimed));
        let over: Vec<Order> = orphans
            .map(|claimed| Order::RecordingOver { name: claimed.recording, stopped: false })
            .collect();
        self.orders.extend(over);
    }

    /// Whether a node that answers holds the recording, or its call is up here.
    pub(super) fn goes_on(&self, claimed: &Claimed) -> bool {
        claimed.holder.is_some_and(|h| h.node != self.node && self.group.is_alive(h.node))
            || self.tracker.calls().any(|call| {
                self.group.matches(call).any(|other| other.recording == claimed.recording)
            })
    }

    /// A recording in progress learns what the group has made of it.
    pub(super) fn follow_claimed(&mut self, name: RecordingId) {
        let Some(claimed) = self.group.get(name) else { return };
        let scope = claimed.scope;
        for active in self.recordings.values_mut().filter(|a| a.draft.groupname() == name) {
            if scope == Scope::Trunk {
                active.draft.scope = scope;
            }
        }
        let calls = self.tracker.calls();
        let touched = calls.filter(|call| self.group.matches(call).any(|c| c.recording == name));
        self.touched.extend(touched.map(|call| call.key));
    }

    /// The group has done with a recording. While its call is up, or may be, it must be known that there
    /// was one.
    pub(super) fn close_claimed(&mut self, name: RecordingId, over: Over) {
        let up = |call: &TrackedCall| self.group.matches(call).any(|c| c.recording == name);
        if !self.calls_known || self.tracker.calls().any(up) {
            self.group.close(name, over);
        } else {
            self.group.remove(name);
        }
    }

    /// The switch has named all calls that are up: what is closed and of none of them is forgotten.
    pub(super) fn forget_closed(&mut self) {
        let of_calls = self.tracker.calls().flat_map(|call| self.group.matches(call));
        let up: BTreeSet<RecordingId> = of_calls.map(|claimed| claimed.recording).collect();
        self.group.forget_closed(&up);
    }

    /// A call is no more: so is what was kept of its recordings.
    pub(super) fn bury_claimed(&mut self, now: Now, call: &TrackedCall) {
        let all = self.group.matches(call).map(|claimed| claimed.recording);
        for name in all.collect::<Vec<_>>() {
            if self.group.is_closed(name) {
                self.group.remove(name);
            } else {
                self.group.forget_number(name);
            }
        }
        self.look_for_orphans_soon(now);
    }

    fn is_orphan(&self, claimed: &Claimed) -> bool {
        let in_progress =
            self.recordings.values().any(|active| active.draft.groupname() == claimed.recording);
        // What was ended here may have been refused, because another node went on with it then.
        let over = self.group.is_over(claimed.recording);
        !over && claimed.ours && !in_progress && !self.goes_on(claimed)
    }
}
