//! People's requests: what is answered at once, and what waits until the first packet is captured.
//! They are served under any duty: who asks this node means this node.

use std::time::Duration;

use storage_core::draft::Ending;
use storage_core::record::Scope;
use storage_core::{Now, RecordingId};

use super::calls::Calls;
use super::group::Claimed;
use super::order::{MissedReason, Order};
use super::request::{Action, Refusal, Request, Requester, Target};
use super::timer::Timer;
use super::tracked::{CallKey, TrackedCall};

/// An answer is given within this: in less than the three seconds that people were promised, so that
/// it gets through another node, too.
const PATIENCE: Duration = Duration::from_millis(2_500);
/// Requests that may wait at one time; more are refused.
const WAITING_MAX: usize = 1000;

/// A request that waits for its recording's first packet.
#[derive(Debug)]
pub(super) struct Waiting {
    call: CallKey,
    recording: Option<RecordingId>,
    /// Whether the recording is made for this request and ends if it fails.
    own: bool,
}

impl Calls {
    pub(super) fn serve(&mut self, now: Now, request: &Request) {
        let outcome = match &request.action {
            Action::Start { target, scope } => self.start(now, request, target, *scope),
            Action::Stop { target } => self.stop(now, target).map(Some),
        };
        match outcome {
            Ok(None) => self.timers.set(Timer::Request(request.id), now.mono + PATIENCE),
            Ok(Some(id)) => self.answer(request.id, Ok(id)),
            Err(refusal) => self.answer(request.id, Err(refusal)),
        }
    }

    /// A packet of this recording is captured: whoever waits for it has his answer.
    pub(super) fn answer_captured(&mut self, id: RecordingId) {
        let name = self.recordings.get(&id).map_or(id, |active| active.draft.groupname());
        for request in self.requests_of(|waiting| waiting.recording == Some(id)) {
            self.answer(request, Ok(name));
        }
    }

    /// The recording in progress of this name.
    fn by_name(&self, name: RecordingId) -> Option<RecordingId> {
        let named = self.recordings.values().find(|active| active.draft.groupname() == name);
        named.map(|active| active.draft.recordingid)
    }

    /// Nothing was captured in time. A recording that was opened for this request alone ends.
    pub(super) fn request_overdue(&mut self, now: Now, request: u64) {
        let Some(waiting) = self.requests.get(&request) else { return };
        let (key, recording, own) = (waiting.call, waiting.recording, waiting.own);
        let block = self.work.get(&key).and_then(|work| work.block);
        let refusal = match block {
            Some(MissedReason::NoPhantom) => Refusal::NoPhantom,
            _ => Refusal::Unavailable,
        };
        self.answer(request, Err(refusal));
        if let Some(work) = self.work.get_mut(&key).filter(|_| own) {
            work.asked = None;
        }
        if let Some(id) = recording.filter(|_| own) {
            self.end_recording(now, id, None, Ending::Over);
        }
    }

    /// The call is over, or this node stops.
    pub(super) fn refuse_waiting(&mut self, key: Option<CallKey>, refusal: Refusal) {
        for request in self.requests_of(|waiting| key.is_none_or(|key| waiting.call == key)) {
            self.answer(request, Err(refusal));
        }
    }

    /// The recording that a request asked for is open.
    pub(super) fn attach_requests(&mut self, key: CallKey, id: Option<RecordingId>) {
        let waiting = self.requests.values_mut().filter(|waiting| waiting.call == key);
        waiting.for_each(|waiting| waiting.recording = waiting.recording.or(id));
    }

    /// A call became part of another, and so did what was asked for it.
    pub(super) fn move_requests(&mut self, from: CallKey, into: CallKey) {
        let kept = self.work.get(&into).and_then(|work| work.recording);
        for waiting in self.requests.values_mut().filter(|waiting| waiting.call == from) {
            waiting.call = into;
            waiting.recording = kept;
            waiting.own &= kept.is_none();
        }
        if let Some(id) = kept.filter(|id| self.is_captured(*id)) {
            self.answer_captured(id);
        }
    }

    /// `None`: the answer is due when the first packet is captured.
    fn start(
        &mut self,
        now: Now,
        request: &Request,
        target: &Target,
        scope: Scope,
    ) -> Result<Option<RecordingId>, Refusal> {
        let call = self.find_call(target).ok_or(Refusal::NoCall)?;
        let key = call.key;
        if scope == Scope::Trunk && !call.has_outside() {
            return Err(Refusal::NoTrunk);
        }
        if self.draining || self.requests.len() >= WAITING_MAX {
            return Err(Refusal::Unavailable);
        }
        match self.work_of(key).recording {
            Some(id) => self.widen(request, key, id, scope),
            None => self.start_anew(now, request, key, scope),
        }
    }

    /// A call that is recorded already may be recorded further, never twice.
    fn widen(
        &mut self,
        request: &Request,
        key: CallKey,
        id: RecordingId,
        scope: Scope,
    ) -> Result<Option<RecordingId>, Refusal> {
        let active = self.recordings.get_mut(&id).ok_or(Refusal::NotFound)?;
        if scope == Scope::Station || active.draft.scope == Scope::Trunk {
            return Err(Refusal::AlreadyRecording);
        }
        active.draft.scope = Scope::Trunk;
        let (captured, name) = (active.captured, active.draft.groupname());
        self.touched.insert(key);
        // Whoever goes on with it must follow the trunk, too.
        for phantom in self.taps_of(id) {
            self.claim_all(&phantom, id);
        }
        if captured {
            return Ok(Some(name));
        }
        let waiting = Waiting { call: key, recording: Some(id), own: false };
        self.requests.insert(request.id, waiting);
        Ok(None)
    }

    fn start_anew(
        &mut self,
        now: Now,
        request: &Request,
        key: CallKey,
        scope: Scope,
    ) -> Result<Option<RecordingId>, Refusal> {
        if !self.link_up {
            return Err(Refusal::Unavailable);
        }
        if !self.has_device(now, key) {
            return Err(Refusal::NoPhantom);
        }
        let by: Requester = request.by;
        let work = self.work_of(key);
        if work.asked.is_some() {
            return Err(Refusal::AlreadyRecording);
        }
        work.asked = Some((by, scope));
        work.not_before = None;
        // What the rules want as well goes on even if the answer comes too late.
        let own = self.work_of(key).due.is_none();
        self.requests.insert(request.id, Waiting { call: key, recording: None, own });
        self.touched.insert(key);
        Ok(None)
    }

    fn stop(&mut self, now: Now, target: &Target) -> Result<RecordingId, Refusal> {
        let id = match target {
            Target::Recording(name) => match self.by_name(*name) {
                Some(id) => id,
                None => {
                    let name = still_open(self.group.get(*name))?;
                    return Ok(self.stop_elsewhere(name));
                }
            },
            Target::Extension(_) | Target::Ucid(_) => {
                let call = self.find_call(target).ok_or(Refusal::NoCall)?;
                let key = call.key;
                match self.work.get(&key).and_then(|work| work.recording) {
                    Some(id) => id,
                    None => {
                        let name = still_open(self.claimed_of(call))?;
                        return Ok(self.stop_elsewhere(name));
                    }
                }
            }
        };
        let active = self.recordings.get(&id).filter(|active| active.end.is_none());
        let active = active.ok_or(Refusal::NotFound)?;
        let (key, active_name) = (active.call, active.draft.groupname());
        self.work_of(key).stopped = true;
        for request in self.requests_of(|waiting| waiting.recording == Some(id)) {
            self.answer(request, Err(Refusal::Unavailable));
        }
        let name = active_name;
        self.end_recording(now, id, None, Ending::Stopped);
        Ok(name)
    }

    /// Another node records it: the group is told, and that node leaves the call.
    fn stop_elsewhere(&mut self, name: RecordingId) -> RecordingId {
        self.orders.push_back(Order::RecordingOver { name, stopped: true });
        name
    }

    /// An answered call; of several in which a station is, the one in which it talks.
    pub(super) fn find_call(&self, target: &Target) -> Option<&TrackedCall> {
        match target {
            Target::Extension(station) => {
                let calls = self.tracker.calls_of(station);
                let answered = calls.filter(|call| call.talking().count() >= 2);
                let there = answered.filter_map(|call| Some((call, call.party(station)?)));
                let there = there.filter(|(_, party)| party.is_in_call());
                there
                    .max_by_key(|(_, party)| (-i8::from(is_held(party)), party.came))
                    .map(|it| it.0)
            }
            Target::Ucid(ucid) => {
                let mut calls = self.tracker.calls().filter(|call| call.talking().count() >= 2);
                calls.find(|call| call.is(ucid))
            }
            Target::Recording(_) => None,
        }
    }

    fn requests_of(&self, which: impl Fn(&Waiting) -> bool) -> Vec<u64> {
        self.requests.iter().filter(|(_, waiting)| which(waiting)).map(|(id, _)| *id).collect()
    }

    fn answer(&mut self, request: u64, result: Result<RecordingId, Refusal>) {
        self.requests.remove(&request);
        self.timers.stop(&Timer::Request(request));
        self.orders.push_back(Order::Answer { request, result });
    }

    fn is_captured(&self, id: RecordingId) -> bool {
        self.recordings.get(&id).is_some_and(|active| active.captured)
    }
}

/// The name of a recording that is not over.
fn still_open(claimed: Option<&Claimed>) -> Result<RecordingId, Refusal> {
    let open = claimed.filter(|claimed| claimed.over.is_none());
    open.map(|claimed| claimed.recording).ok_or(Refusal::NotFound)
}

fn is_held(party: &super::Party) -> bool {
    party.state == super::event::PartyState::Held
}
