//! Recordings in progress: opened, written down whenever what is known of them changes, ended once
//! their last phantom is out. When one begins and ends is the trigger's decision.

use storage_core::draft::{Draft, Ending, Presence};
use storage_core::journal::Fact;
use storage_core::record::{Scope, TriggerKind};
use storage_core::{Extension, Now, RecordingId, SegmentId, WallTime};

use super::calls::Calls;
use super::draft;
use super::group::{Claimed, Over};
use super::listen::Deaf;
use super::order::{Alarm, Claim, MissedReason, Order};
use super::timer::Timer;
use super::tracked::{CallKey, TrackedCall};
use super::trigger::{JUDGE_AFTER, Work};

/// A recording in progress.
#[derive(Debug)]
pub(super) struct Active {
    /// What is known of it.
    pub draft: Draft,
    /// What was last written down.
    pub written: Option<Draft>,
    /// The call it follows, or followed.
    pub call: CallKey,
    /// It takes no further part in its call, and ends once its phantom is out.
    pub end: Option<Ending>,
    /// Whether a packet is in the capture.
    pub captured: bool,
    /// For a recording that a crash left open: who was in the call before.
    pub inherited: Option<Vec<Presence>>,
    /// Once its call is over: what is to be said if no packet was ever captured.
    pub missed: Option<Order>,
    /// Its segments on which nothing was heard yet.
    pub unheard: Vec<SegmentId>,
    /// Since when and why no device can hear its call, where that is the stations' doing.
    pub deaf: Option<Deaf>,
}

/// What a recording is opened with.
#[derive(Debug)]
pub(super) struct Terms {
    pub scope: Scope,
    pub trigger: TriggerKind,
    pub rule: String,
    /// The group's recording that it goes on with, or that it is a copy of.
    pub carried: Option<Claimed>,
    /// Since when the call should have been recorded, if not just now.
    pub due: Option<WallTime>,
}

/// A call that will count as missed unless a late packet says otherwise.
#[derive(Debug)]
pub(super) struct Missed {
    /// What to say.
    pub order: Order,
    /// The segments of which a packet would clear it.
    pub segments: Vec<SegmentId>,
}

impl Calls {
    /// Opens a recording of a call, or resumes the one that a crash left open.
    pub(super) fn open_recording(
        &mut self,
        now: Now,
        key: CallKey,
        terms: Terms,
    ) -> Option<RecordingId> {
        if let Some(draft) = self.take_adoptable(key) {
            return Some(self.resume(now, key, draft));
        }
        let call = self.tracker.call(key)?;
        let id = self.seeds.recording(now.wall);
        let Terms { scope, trigger, rule, carried, due } = terms;
        let copy = self.group.mandate.copy;
        let own = carried.as_ref().filter(|claimed| claimed.copy == copy);
        let draft = Draft {
            name: own.map(|claimed| claimed.recording),
            copy,
            take: own.map_or_else(|| self.next_take(call), |claimed| claimed.take),
            scope,
            trigger,
            rule,
            due,
            extension: carried.map_or_else(|| draft::extension_of(call), |c| c.extension),
            ..Draft::blank(id, self.node, now.wall)
        };
        self.follow(Active::new(key, draft, None));
        Some(id)
    }

    /// Goes on with a recording that a crash left open.
    pub(super) fn resume(&mut self, now: Now, key: CallKey, draft: Draft) -> RecordingId {
        let (id, before) = (draft.recordingid, draft.parties.clone());
        self.tracker.teach(now, key, &draft::known_of(&draft));
        // Until it is heard again nobody knows what came after the crash.
        let mut draft = Draft { cutshort: true, resumed: true, ..draft };
        let paused = self.pause_left(now, &mut draft);
        let mut active = Active::new(key, draft, Some(draft::close(before, now.wall)));
        active.captured = true;
        self.work_of(key).recorded = true;
        self.follow(active);
        if let Some(pause) = paused {
            self.attach_pause(now, pause, key);
        }
        id
    }

    /// A recording that is about to end in a merge leaves its wider scope to the one that goes on,
    /// and keeps its identity: the other is found under that, too, but does not bear it.
    pub(super) fn leave_to_heir(&mut self, from: RecordingId, into: CallKey) {
        let Some(ended) = self.recordings.get(&from) else { return };
        let (scope, ucid) = (ended.draft.scope, ended.draft.ucid.clone());
        let heir = self.work.get(&into).and_then(|work| work.recording);
        let Some(heir) = heir.and_then(|heir| self.recordings.get_mut(&heir)) else { return };
        if scope == Scope::Trunk {
            heir.draft.scope = Scope::Trunk;
        }
        let formers = &mut heir.draft.formerucids;
        formers.extend(ucid.filter(|ucid| !formers.contains(ucid)));
    }

    fn follow(&mut self, active: Active) {
        let (key, id) = (active.call, active.draft.recordingid);
        let name = active.draft.groupname();
        self.recordings.insert(id, active);
        self.work_of(key).recording = Some(id);
        self.tracker.mark_recorded(key, Some(name));
        self.write_down(key);
    }

    /// Writes down what has changed.
    pub(super) fn write_down(&mut self, key: CallKey) {
        self.note_pause(key);
        let Some(call) = self.tracker.call(key) else { return };
        let Some(id) = self.work.get(&key).and_then(|work| work.recording) else { return };
        let Some(active) = self.recordings.get_mut(&id) else { return };
        draft::refresh(active, &self.tracker, &self.group, call);
        write_changed(active, &mut self.orders);
    }

    /// Takes a recording off its call. `last` is the call if the tracker has it no longer. The
    /// recording ends when its phantom is out, so that every packet heard until then is in it.
    pub(super) fn end_recording(
        &mut self,
        now: Now,
        id: RecordingId,
        last: Option<&TrackedCall>,
        end: Ending,
    ) {
        let Some(active) = self.recordings.get_mut(&id) else { return };
        if active.end.is_some() {
            return;
        }
        active.end = Some(end);
        let (key, take) = (active.call, active.draft.take);
        let name = active.draft.groupname();
        match end {
            Ending::Over if active.captured => self.group.end(name, Over::Ended),
            Ending::Stopped => {
                self.group.end(name, Over::Stopped);
                self.orders.push_back(Order::RecordingOver { name, stopped: true });
            }
            Ending::Over | Ending::Yielded => {}
        }
        if let Some(call) = last.or_else(|| self.tracker.call(key)) {
            draft::refresh(active, &self.tracker, &self.group, call);
            active.draft.parties =
                draft::close(std::mem::take(&mut active.draft.parties), now.wall);
            draft::end_pause(&mut active.draft, now.wall);
        }
        let work = self.work.entry(key).or_default();
        (work.recording, work.fading, work.uncovered, work.covered) = (None, None, None, None);
        if end != Ending::Yielded {
            work.takes = work.takes.max(take);
        }
        if let Some(call) = last
            && let Some(work) = self.work.get(&key)
        {
            let missed = self.missed_order(now, call, work);
            if let Some(active) = self.recordings.get_mut(&id) {
                active.missed = missed;
            }
        }
        self.tracker.mark_recorded(key, None);
        self.touched.insert(key);
        for phantom in self.taps_of(id) {
            self.take_out(now, &phantom);
        }
        self.finish_if_quiet(now, id);
    }

    /// Ends a recording for good once none of its segments is open.
    pub(super) fn finish_if_quiet(&mut self, now: Now, id: RecordingId) {
        let open = self.taps.values().any(|tap| tap.recording == Some(id) && tap.is_open());
        let ending = self.recordings.get(&id).is_some_and(|active| active.end.is_some());
        if open || !ending {
            return;
        }
        let Some(mut active) = self.recordings.remove(&id) else { return };
        (active.draft.ended, active.draft.ending) = (Some(now.wall), active.end);
        write_changed(&mut active, &mut self.orders);
        if active.end == Some(Ending::Over) {
            let name = active.draft.groupname();
            self.orders.push_back(Order::RecordingOver { name, stopped: false });
        } else {
            // Its call may have ended before this, and whoever was to go on with it is not there.
            self.look_for_orphans_soon(now);
        }
        for tap in self.taps.values_mut().filter(|tap| tap.recording == Some(id)) {
            tap.recording = None;
        }
        if let (false, Some(order)) = (active.captured, active.missed) {
            self.judged.insert(id, Missed { order, segments: active.unheard });
            self.timers.set(Timer::Judge(id), now.mono + JUDGE_AFTER);
        }
    }

    /// The first packet of a segment is in the capture.
    pub(super) fn segment_heard(&mut self, segment: SegmentId, received: WallTime, captured: Now) {
        self.judged.retain(|_, missed| !missed.segments.contains(&segment));
        let Some((receiver, tap)) = self.tap_with(segment) else { return };
        let (recording, is_ring) = (tap.recording, tap.ring.is_some());
        if let Some(leg) = self.leg_of(&receiver) {
            leg.heard = true;
            if !is_ring {
                leg.first.get_or_insert(received);
            }
        }
        self.arm_tap(&receiver.device);
        self.clear(Alarm::NoMedia { phantom: receiver });
        if let Some(id) = recording {
            self.claim(segment, id);
            self.recording_heard(id, segment, captured);
        }
    }

    /// Tells the group of all that a phantom captures, because the terms have changed.
    pub(super) fn claim_all(&mut self, phantom: &Extension, id: RecordingId) {
        let Some(tap) = self.taps.get(phantom) else { return };
        let open: Vec<SegmentId> = tap.legs.iter().filter_map(|leg| leg.segment).collect();
        for segment in open {
            self.claim(segment, id);
        }
    }

    /// Tells the group of a capture, once it is one.
    fn claim(&mut self, segment: SegmentId, id: RecordingId) {
        let Some(active) = self.recordings.get(&id) else { return };
        let Some((receiver, tap)) = self.tap_with(segment) else { return };
        let leg = tap.legs.iter().find(|leg| leg.side == receiver.side);
        let Some(from) = leg.and_then(|leg| leg.first) else { return };
        let draft = &active.draft;
        let name = draft.groupname();
        // A recording that goes on is claimed for the call as it was when it began.
        let begun = self.group.get(name);
        let call = self.tracker.call(active.call);
        let (ucid, callid, began) = match begun {
            Some(claimed) => (claimed.ucid.clone(), claimed.callid.clone(), claimed.began),
            None => {
                let callid = call.map_or_else(|| tap.id.clone(), |call| call.id().clone());
                let began = call.and_then(TrackedCall::began);
                (draft.ucid.clone(), callid, began.map(|began| began.wall))
            }
        };
        let claim = Claim {
            recording: id,
            name,
            segment,
            from,
            ucid,
            callid,
            began,
            copy: draft.copy,
            take: draft.take,
            epoch: self.group.mandate.epoch,
            scope: draft.scope,
            trigger: draft.trigger,
            rule: draft.rule.clone(),
            extension: draft.extension.clone(),
        };
        self.orders.push_back(Order::Claim(Box::new(claim)));
    }

    /// The number of a recording that is opened now, in this node's copy.
    fn next_take(&self, call: &TrackedCall) -> u16 {
        let copy = self.group.mandate.copy;
        let known = self.group.matches(call).filter(|claimed| claimed.copy == copy);
        let over = known.filter(|claimed| claimed.over.is_some()).map(|claimed| claimed.take).max();
        let own = self.work.get(&call.key).map_or(0, |work| work.takes);
        over.unwrap_or(0).max(own).saturating_add(1)
    }

    /// What is to be told of a call that is over: one that was due and of which nothing was
    /// captured by anybody, not even in part, was missed, unless people had paused it from begin to end.
    pub(super) fn missed_order(&self, now: Now, call: &TrackedCall, work: &Work) -> Option<Order> {
        let elsewhere = self.group.matches(call).next().is_some();
        let captured = work.recorded || elsewhere || work.account.is_paused(now);
        let missed = work.due.is_some() && !captured && !work.stopped;
        let reason = work.block.unwrap_or(MissedReason::NoMedia);
        missed.then(|| Order::Missed { ucid: call.ucid.clone(), call: call.id().clone(), reason })
    }

    fn recording_heard(&mut self, id: RecordingId, segment: SegmentId, captured: Now) {
        let Some(active) = self.recordings.get_mut(&id) else { return };
        active.unheard.retain(|other| *other != segment);
        active.draft.cutshort = false;
        let first = !std::mem::replace(&mut active.captured, true);
        let trigger = active.draft.trigger;
        let key = active.call;
        let due = self.work.get_mut(&key).and_then(|work| {
            work.tries = 0;
            let first_of_call = !std::mem::replace(&mut work.recorded, true);
            work.due.filter(|_| first && first_of_call)
        });
        if let (Some(due), TriggerKind::Rule) = (due, trigger) {
            self.orders.push_back(Order::CaptureDelay(captured.mono.since(due.mono)));
        }
        self.answer_captured(id);
        if first {
            self.tell_recording_started(key);
        }
        self.touched.insert(key);
    }
}

impl Active {
    fn new(call: CallKey, draft: Draft, inherited: Option<Vec<Presence>>) -> Self {
        Self {
            draft,
            written: None,
            call,
            end: None,
            captured: false,
            inherited,
            missed: None,
            unheard: Vec::new(),
            deaf: None,
        }
    }
}

fn write_changed(active: &mut Active, orders: &mut std::collections::VecDeque<Order>) {
    if active.written.as_ref() != Some(&active.draft) {
        active.written = Some(active.draft.clone());
        orders.push_back(Order::Capture(Fact::Recording { draft: active.draft.clone() }));
    }
}

/// Makes names for recordings out of the entropy that the shell brought.
#[derive(Debug)]
pub(super) struct Seeds {
    seed: u128,
    made: u64,
}

impl Seeds {
    pub const fn new(seed: u128) -> Self {
        Self { seed, made: 0 }
    }

    fn recording(&mut self, opened: WallTime) -> RecordingId {
        self.made += 1;
        let [a, b] = [self.seed, self.seed >> 64].map(|half| half.to_le_bytes());
        let word = |half: [u8; 16], salt: u64| {
            let low = u64::from_le_bytes(half[..8].try_into().expect("eight of sixteen bytes"));
            mix(low.wrapping_add((2 * self.made + salt).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
        };
        let mut entropy = [0; 10];
        entropy[..8].copy_from_slice(&word(a, 0).to_le_bytes());
        entropy[8..].copy_from_slice(&word(b, 1).to_le_bytes()[..2]);
        RecordingId::new(opened, entropy)
    }
}

/// The finalizer of `SplitMix64`: neighbouring inputs give unlike outputs, and no two the same.
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
