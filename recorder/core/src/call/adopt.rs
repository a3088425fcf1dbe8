//! Recordings that a crash left open. Those whose calls are still up go on under the same name; the
//! others end. Which calls are up is known once the switch has been asked.

use std::time::Duration;

use storage_core::draft::{Draft, Ending};
use storage_core::journal::Fact;
use storage_core::{Now, RecordingId};

use super::calls::Calls;
use super::cover::Cover;
use super::draft;
use super::order::Order;
use super::timer::Timer;
use super::tracked::{CallKey, TrackedCall};

/// If the switch cannot be asked for so long, the recordings end without it.
const PATIENCE: Duration = Duration::from_secs(300);

impl Calls {
    /// Takes over the recordings that the journal holds open. To be called before the first event.
    pub fn adopt(&mut self, now: Now, drafts: Vec<Draft>) {
        let open: Vec<_> = drafts.into_iter().filter(|draft| draft.ended.is_none()).collect();
        self.restore_pauses(now, &open);
        self.adoptable.extend(open.into_iter().map(|draft| (draft.recordingid, draft)));
        if !self.adoptable.is_empty() {
            self.timers.set(Timer::Adoption, now.mono + PATIENCE);
        }
    }

    /// The switch has named all calls that are up: what is not among them is over.
    pub(super) fn resume_adoptable(&mut self, now: Now) {
        let keys: Vec<CallKey> = self.tracker.calls().map(|call| call.key).collect();
        for key in keys {
            let call = self.tracker.call(key);
            let covered = call.is_some_and(|call| self.cover(call) != Cover::None);
            if self.work_of(key).recording.is_some() {
                continue;
            }
            match self.take_adoptable(key) {
                // Another node goes on with it.
                Some(draft) if covered => self.end_adopted(now, draft, Ending::Yielded),
                Some(draft) => {
                    self.resume(now, key, draft);
                    self.touched.insert(key);
                }
                None => {}
            }
        }
        self.end_adoptable(now, Ending::Over);
    }

    /// Ends what was not resumed.
    pub(super) fn end_adoptable(&mut self, now: Now, end: Ending) {
        self.timers.stop(&Timer::Adoption);
        for left in std::mem::take(&mut self.adoptable).into_values() {
            let name = left.groupname();
            let goes_on = self.group.get(name).is_some_and(|claimed| self.goes_on(claimed));
            let end = if goes_on { Ending::Yielded } else { end };
            self.end_adopted(now, left, end);
            if end == Ending::Over {
                self.orders.push_back(Order::RecordingOver { name, stopped: false });
            }
        }
    }

    fn end_adopted(&mut self, now: Now, mut draft: Draft, end: Ending) {
        draft.parties = draft::close(draft.parties, now.wall);
        (draft.ended, draft.ending) = (Some(now.wall), Some(end));
        draft::end_pause(&mut draft, now.wall);
        draft.cutshort = true;
        self.orders.push_back(Order::Capture(Fact::Recording { draft }));
    }

    /// The recording that a crash left open of this call.
    pub(super) fn take_adoptable(&mut self, key: CallKey) -> Option<Draft> {
        let call = self.tracker.call(key)?;
        let id: RecordingId = self.adoptable.values().find(|draft| is_of(draft, call))?.recordingid;
        self.adoptable.remove(&id)
    }
}

/// By identity; where the switch gives none, by number and somebody who was in the call before.
fn is_of(draft: &Draft, call: &TrackedCall) -> bool {
    if let (Some(_), Some(_)) = (&draft.ucid, &call.ucid) {
        return draft.ucid.iter().chain(&draft.formerucids).any(|ucid| call.is(ucid));
    }
    let same_number = draft.callids.last().is_some_and(|id| id == call.id().as_str());
    same_number
        && call.real().any(|party| draft.parties.iter().any(|before| before.who == party.who()))
}
