//! Per call: whether a phantom is to be put in now, later or not at all, and when it is to come out
//! again. It decides from the rules, from requests, from this node's duty, from who is in the call,
//! and from the time. Which phantom, and how it gets in, is the pool's and the tap's business.

use std::time::Duration;

use storage_core::draft::Ending;
use storage_core::record::{Scope, TriggerKind};
use storage_core::{Duty, Extension, MonoTime, Now, RecordingId};

use super::account::Account;
use super::cover::Leave;

use super::calls::Calls;
use super::draft;
use super::event::PartyState;
use super::order::{Alarm, JoinRefusal, MissedReason, Order};
use super::party::{Party, PartyKind};
use super::recording::Terms;
use super::request::Requester;
use super::rule::{RuleFacts, lot};
use super::timer::Timer;
use super::tracked::{CallKey, TrackedCall};
use super::view::CallView;

/// Who is left alone, or without a recorded station, may be in the middle of a transfer.
pub(super) const GRACE: Duration = Duration::from_millis(500);
/// A recording that is opened so much after it was due says so.
const LATE: Duration = Duration::from_millis(500);
/// The same where another node's phantom was in the call before: it may have heard something, and be
/// gone with it.
const LATE_AFTER_OTHER: Duration = Duration::from_millis(100);
/// A phantom hears so much before the word of it is here.
const WORD: Duration = Duration::from_millis(100);
/// Whoever is left alone that long will not get company: the recording is over.
const ALONE: Duration = Duration::from_secs(3);
/// First wait before another attempt; doubled each time.
const RETRY: Duration = Duration::from_millis(200);
/// Longest wait before another attempt.
const RETRY_MAX: Duration = Duration::from_secs(5);
/// Longest wait where phantoms get in but hear nothing: each attempt bothers the switch.
const RETRY_MEDIA_MAX: Duration = Duration::from_secs(30);
/// A call that is not recorded for so long is an alarm.
const OVERDUE: Duration = Duration::from_secs(5);
/// The switch is asked about a call that only rings after so long, and again after each time.
const RINGS: Duration = Duration::from_secs(10);
/// The media thread's word of a first packet may come so late.
pub(super) const JUDGE_AFTER: Duration = Duration::from_millis(500);

/// What is decided about one call.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// The recording in progress.
    pub recording: Option<RecordingId>,
    /// Somebody asked for a recording that is not open yet.
    pub asked: Option<(Requester, Scope)>,
    /// Somebody stopped the recording: rules do not start another.
    pub stopped: bool,
    /// Since when nobody else surely records it.
    pub uncovered: Option<MonoTime>,
    /// When another node's phantom was first seen in it, while the group knows of no recording.
    pub covered: Option<MonoTime>,
    /// How many recordings of it this node has ended for good.
    pub takes: u16,
    /// Since when this node is to record it.
    pub due: Option<Now>,
    /// Whether any packet of it was captured.
    pub recorded: bool,
    /// What stood in the way last.
    pub block: Option<MissedReason>,
    /// Attempts that failed since one succeeded.
    pub tries: u32,
    /// When the next attempt may be made.
    pub not_before: Option<MonoTime>,
    /// Places taken when the switch said that the call is full.
    pub full_at: Option<usize>,
    /// When a ring of it may be tried again.
    pub ring_not_before: Option<MonoTime>,
    /// Since when nobody is in it who is worth recording.
    pub fading: Option<MonoTime>,
    /// The alarm that is raised for it.
    pub alarm: Option<Alarm>,
    /// When the switch is asked whether it still rings.
    pub doubted_at: Option<MonoTime>,
    /// When it was to be recorded, whoever does it.
    pub account: Account,
    /// Whether its identity was asked for.
    pub linkage_asked: bool,
    /// What people who watch were told last.
    pub shown: Option<CallView>,
}

/// What is left of a call for a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outlook {
    /// It goes on.
    Good,
    /// One person is left and talks to nobody.
    Alone,
    /// No recorded station is in it, and none is coming.
    Unserved,
    /// Nobody whom it follows is left.
    Over,
}

impl Calls {
    /// Looks at a call after anything about it may have changed.
    pub(super) fn decide(&mut self, now: Now, key: CallKey) {
        self.timers.stop(&Timer::Call(key));
        // After a loss of the link nothing is decided about a call before it is heard of again.
        if self.tracker.call(key).is_none_or(|call| !call.is_confirmed()) {
            return;
        }
        self.find_pauses(now, key);
        self.ask_identity(key);
        match self.work_of(key).recording {
            Some(id) => self.go_on(now, key, id),
            None => self.begin_if_wanted(now, key),
        }
        self.tend_ring(now, key);
        self.note_due(now, key);
        self.watch_overdue(now, key);
        self.write_down(key);
        self.show(key);
    }

    fn go_on(&mut self, now: Now, key: CallKey, id: RecordingId) {
        self.leave_unheard(now, key, id);
        let Some(call) = self.tracker.call(key) else { return };
        let Some(active) = self.recordings.get(&id) else { return };
        if self.stopped_by_group(call).is_some_and(|take| take >= active.draft.take) {
            return self.end_recording(now, id, None, Ending::Stopped);
        }
        if self.leaves_to_elder(call, &active.draft) {
            return self.end_recording(now, id, None, Ending::Over);
        }
        let outlook = Outlook::of(call, active.draft.scope, &active.draft.extension);
        let give_way = self.gives_way(call);
        match outlook {
            Outlook::Over => return self.end_recording(now, id, None, Ending::Over),
            Outlook::Alone | Outlook::Unserved => return self.fade(now, key, id, outlook),
            Outlook::Good => self.work_of(key).fading = None,
        }
        if self.leaves_to_others(now, key) {
            self.end_recording(now, id, None, Ending::Yielded);
            self.hold_back(now, key, MissedReason::DiskFull);
        } else if give_way {
            self.block(key, MissedReason::PartyLimit);
            if self.tap_of(id).is_some() {
                self.work_of(key).not_before =
                    self.patience_for_room(key).map(|wait| now.mono + wait);
            }
            for phantom in self.taps_of(id) {
                self.take_out(now, &phantom);
            }
        } else if self.tap_of(id).is_none() {
            self.try_join(now, key, Some(id));
        }
    }

    /// Whether this node leaves its calls because it cannot write what it hears: a phantom in a call
    /// tells the other nodes that the call is recorded, and whether they can be told otherwise is not
    /// to be relied upon.
    fn leaves_to_others(&mut self, now: Now, key: CallKey) -> bool {
        let others = !self.group.peers.is_empty();
        let Some(since) = self.not_writing.filter(|_| others) else { return false };
        if now.mono < since + GRACE {
            self.timers.set_earlier(Timer::Call(key), since + GRACE);
        }
        now.mono >= since + GRACE
    }

    fn fade(&mut self, now: Now, key: CallKey, id: RecordingId, outlook: Outlook) {
        let since = *self.work_of(key).fading.get_or_insert(now.mono);
        let end = if outlook == Outlook::Alone { ALONE } else { GRACE };
        if now.mono >= since + end {
            return self.end_recording(now, id, None, Ending::Over);
        }
        if now.mono >= since + GRACE {
            for phantom in self.taps_of(id) {
                self.take_out(now, &phantom);
            }
        }
        let next = if now.mono < since + GRACE { since + GRACE } else { since + end };
        self.timers.set_earlier(Timer::Call(key), next);
    }

    fn begin_if_wanted(&mut self, now: Now, key: CallKey) {
        let Some(call) = self.tracker.call(key) else { return };
        if self.draining {
            return;
        }
        if call.talking().count() < 2 {
            return self.doubt_ringing(now, key);
        }
        if self.work_of(key).asked.is_some() {
            return self.try_join(now, key, None);
        }
        let leave = if self.is_wanted(key) {
            self.leave_to_join(now, key)
        } else {
            self.work_of(key).uncovered = None;
            Leave::No
        };
        match leave {
            Leave::Now => {
                self.work_of(key).due.get_or_insert(now);
                self.try_join(now, key, None);
            }
            Leave::At(at) => self.timers.set_earlier(Timer::Call(key), at),
            Leave::No => {
                // Others look after it, or nobody is to.
                let work = self.work_of(key);
                (work.due, work.block) = (None, None);
            }
        }
    }

    /// Whether a call that is not recorded here is to be: by the rules, or because the group has
    /// begun to.
    pub(super) fn is_wanted(&self, key: CallKey) -> bool {
        let Some(call) = self.tracker.call(key) else { return false };
        let stopped = self.work.get(&key).is_some_and(|work| work.stopped);
        if stopped || self.stopped_by_group(call).is_some() {
            return false;
        }
        let by_rules = || call.stations().next().is_some() && self.rules_want(key);
        self.carried_on(call).is_some() || by_rules()
    }

    /// Where it rings for long, the event that told the answer may have been lost.
    fn doubt_ringing(&mut self, now: Now, key: CallKey) {
        let Some(call) = self.tracker.call(key) else { return };
        let rings = call.real().any(|party| party.state == PartyState::Alerting);
        let station = call.real().find(|party| party.kind == PartyKind::Station);
        let (id, station) =
            (call.id().clone(), station.and_then(|party| party.name.number.clone()));
        let (Some(party), true, true) = (station, rings, self.link_up) else {
            self.work_of(key).doubted_at = None;
            return;
        };
        let due = *self.work_of(key).doubted_at.get_or_insert(now.mono + RINGS);
        let next = if due <= now.mono { now.mono + RINGS } else { due };
        if due <= now.mono {
            self.work_of(key).doubted_at = Some(next);
            self.orders.push_back(Order::SnapshotCall { call: id, party });
        }
        self.timers.set_earlier(Timer::Call(key), next);
    }

    /// Puts a phantom in if one may and can be. The recording is opened with its first attempt.
    fn try_join(&mut self, now: Now, key: CallKey, id: Option<RecordingId>) {
        let Some(call) = self.tracker.call(key) else { return };
        let (places, room) = (self.places(call), self.admits(call));
        let link_up = self.link_up;
        // Whoever hears the call already need not be let in.
        if self.has_ring(key) && !self.leaves_to_others(now, key) {
            let opened = |calls: &mut Self| id.or_else(|| calls.open_wanted(now, key));
            if self.record_by_ring(now, key, opened) {
                return;
            }
        }
        let work = self.work_of(key);
        if work.full_at.is_some_and(|full| places < full) {
            (work.full_at, work.not_before) = (None, None);
        }
        if let Some(at) = work.not_before.filter(|at| *at > now.mono) {
            return self.timers.set_earlier(Timer::Call(key), at);
        }
        if !link_up {
            return self.block(key, MissedReason::LinkDown);
        }
        if !room {
            return self.block(key, MissedReason::PartyLimit);
        }
        if self.leaves_to_others(now, key) {
            return self.block(key, MissedReason::DiskFull);
        }
        let Some(phantom) = self.take_device(now, key) else {
            self.block(key, MissedReason::NoPhantom);
            self.give_up_rings(now);
            return self.wait_for_device(now);
        };
        let id = id.or_else(|| self.open_wanted(now, key));
        match id {
            Some(id) => self.ask_in(now, key, id, &phantom),
            None => self.pool.give_back(now.mono, &phantom, Duration::ZERO),
        }
    }

    fn open_wanted(&mut self, now: Now, key: CallKey) -> Option<RecordingId> {
        let asked = self.work_of(key).asked.take();
        let call = self.tracker.call(key)?;
        let mandate = self.group.mandate;
        let carried = self.carried_on(call).cloned();
        let own = carried.as_ref().is_some_and(|claimed| claimed.copy == mandate.copy);
        let begun = carried.as_ref().map_or(Scope::Station, |claimed| claimed.scope);
        // A request overrules the rules, so none of them decided.
        let (scope, trigger, rule) = match (asked, &carried) {
            (Some((by, scope)), _) => (wider(scope, begun), by.trigger(), String::new()),
            (None, Some(claimed)) => (begun, claimed.trigger, claimed.rule.clone()),
            (None, None) => {
                let rule = self.rules.decide(&self.rule_facts(call)).rule.as_str().to_owned();
                (Scope::Station, TriggerKind::Rule, rule)
            }
        };
        let trigger = match mandate.duty {
            _ if asked.is_some() => trigger,
            Duty::Standby => TriggerKind::Rescue,
            _ if own => TriggerKind::Takeover,
            _ => trigger,
        };
        // One that goes on was begun by whoever has its begin.
        let late = self.lateness(now, key).filter(|_| asked.is_none() && !own);
        let due = late.map(|late| now.wall - late);
        let id = self.open_recording(now, key, Terms { scope, trigger, rule, carried, due });
        self.attach_requests(key, id);
        id
    }

    /// How much later than it should have been the recording is opened now, if that is worth a word.
    fn lateness(&mut self, now: Now, key: CallKey) -> Option<Duration> {
        let established = self.tracker.call(key).and_then(|call| call.established);
        let most = established.map_or(Duration::MAX, |at| now.mono.since(at.mono));
        let Work { uncovered, covered, .. } = *self.work_of(key);
        // What keeps a ring was let in as soon as the other was seen.
        let word = if self.has_ring(key) { Duration::ZERO } else { WORD };
        let after_other = covered.map(|at| (now.mono.since(at) + word).min(most));
        let after_nobody = uncovered.map(|at| now.mono.since(at)).filter(|late| *late >= LATE);
        after_other.max(after_nobody).filter(|late| *late >= LATE_AFTER_OTHER)
    }

    fn rules_want(&self, key: CallKey) -> bool {
        let call = self.tracker.call(key);
        call.is_some_and(|call| self.rules.decide(&self.rule_facts(call)).record)
    }

    pub(super) fn rule_facts(&self, call: &TrackedCall) -> RuleFacts {
        let stations = || call.stations().filter_map(|party| party.name.number.as_ref());
        let text = |number: Option<&Extension>| number.map(ToString::to_string).unwrap_or_default();
        let mut parties = vec![call.calling_text(), call.called_text()];
        parties.extend(call.real().map(Party::who));
        RuleFacts {
            extensions: stations().map(ToString::to_string).collect(),
            agentids: stations().map(|station| self.tracker.agent(station).to_owned()).collect(),
            vdn: text(call.vdn.as_ref()),
            skill: text(call.split.as_ref()),
            trunkgroup: call.trunkgroup.clone().unwrap_or_default(),
            direction: call.direction(self.tracker.roster()),
            parties,
            // Former identities count, so that a merge does not draw the lot again.
            lot: lot(call.former.first().or(call.ucid.as_ref()), call.id()),
        }
    }

    /// The switch did not let a phantom in.
    pub(super) fn join_failed(&mut self, now: Now, key: CallKey, why: &JoinRefusal) {
        let places = self.tracker.call(key).map(|call| self.places(call));
        match why {
            JoinRefusal::PartyLimit => {
                self.hold_back(now, key, MissedReason::PartyLimit);
                self.work_of(key).full_at = places;
            }
            JoinRefusal::LinkDown => self.block(key, MissedReason::LinkDown),
            JoinRefusal::CallGone => {
                self.hold_back(now, key, MissedReason::Refused);
                self.ask_snapshot(key);
            }
            JoinRefusal::PhantomBusy | JoinRefusal::Other(_) => {
                self.hold_back(now, key, MissedReason::Refused);
            }
        }
        self.touched.insert(key);
    }

    /// Waits before the next attempt, longer each time.
    pub(super) fn hold_back(&mut self, now: Now, key: CallKey, reason: MissedReason) {
        if self.tracker.call(key).is_none() {
            return;
        }
        let max = if reason == MissedReason::NoMedia { RETRY_MEDIA_MAX } else { RETRY_MAX };
        let work = self.work_of(key);
        work.not_before = Some(now.mono + (RETRY * 2_u32.pow(work.tries.min(16))).min(max));
        work.tries += 1;
        self.block(key, reason);
        self.touched.insert(key);
    }

    /// Notes what stands in the way.
    pub(super) fn block(&mut self, key: CallKey, reason: MissedReason) {
        self.work_of(key).block = Some(reason);
    }

    /// The link is down: that is what stands in the way of every call that is not recorded yet.
    pub(super) fn block_unrecorded(&mut self) {
        for work in self.work.values_mut().filter(|work| work.due.is_some() && !work.recorded) {
            work.block = Some(MissedReason::LinkDown);
        }
    }

    /// Asks for the switch's list of who is in the call.
    pub(super) fn ask_snapshot(&mut self, key: CallKey) {
        if let Some(call) = self.tracker.call(key)
            && let Some(party) = draft::handle_of(call)
        {
            let call = call.id().clone();
            self.orders.push_back(Order::SnapshotCall { call, party });
        }
    }

    /// Wakes the calls that wait for a phantom when the next one is free.
    pub(super) fn wake_waiting(&mut self, now: Now) {
        let mut waiting =
            self.work.iter().filter(|(_, work)| work.block == Some(MissedReason::NoPhantom));
        if waiting.next().is_some()
            && let Some(at) = self.pool.next_free(now.mono)
        {
            self.timers.set(Timer::Phantoms, at);
        }
    }

    /// Calls that wait for a phantom are looked at again, the eldest first.
    pub(super) fn touch_waiting(&mut self) {
        let waiting =
            self.work.iter().filter(|(_, work)| work.block == Some(MissedReason::NoPhantom));
        self.touched.extend(waiting.map(|(key, _)| *key));
    }

    /// A call that should be recorded and is not becomes an alarm.
    fn watch_overdue(&mut self, now: Now, key: CallKey) {
        let Some(call) = self.tracker.call(key) else { return };
        let (id, extension) = (call.id().clone(), draft::extension_of(call));
        let draining = self.draining;
        let work = self.work_of(key);
        let wanted = !work.recorded && !work.stopped && !draining;
        let due = work.due.filter(|_| wanted).and_then(|due| work.account.to_be_captured(due.mono));
        let overdue = due.map(|due| due + OVERDUE);
        let raised = work.alarm.clone();
        match (overdue, raised) {
            (None, Some(alarm)) => {
                self.work_of(key).alarm = None;
                self.clear(alarm);
            }
            (Some(at), None) if at <= now.mono => {
                let reason = self.work_of(key).block.unwrap_or(MissedReason::NoMedia);
                let alarm = Alarm::CallNotRecorded { call: id, extension, reason };
                self.work_of(key).alarm = Some(alarm.clone());
                self.raise(alarm);
            }
            (Some(at), None) => self.timers.set_earlier(Timer::Call(key), at),
            (None, None) | (Some(_), Some(_)) => {}
        }
    }

    fn ask_identity(&mut self, key: CallKey) {
        let Some(call) = self.tracker.call(key) else { return };
        if call.ucid.is_some() || call.established.is_none() || !self.link_up {
            return;
        }
        let order = draft::handle_of(call)
            .map(|party| Order::AskLinkage { call: call.id().clone(), party });
        if !std::mem::replace(&mut self.work_of(key).linkage_asked, true) {
            self.orders.extend(order);
        }
    }

    pub(super) fn work_of(&mut self, key: CallKey) -> &mut Work {
        self.work.entry(key).or_default()
    }
}

const fn wider(one: Scope, other: Scope) -> Scope {
    if matches!(one, Scope::Trunk) { one } else { other }
}

impl Outlook {
    pub fn of(call: &TrackedCall, scope: Scope, extension: &Extension) -> Self {
        let people = call.real().count();
        let outside = call.has_outside();
        // Somebody may have asked for a station that is not monitored: that one counts, too.
        let serves = |party: &Party| party.kind == PartyKind::Station || party.is(extension);
        let served = call.waiting || call.real().any(serves);
        match scope {
            _ if people == 0 => Self::Over,
            Scope::Trunk if !outside => Self::Over,
            Scope::Trunk => Self::Good,
            Scope::Station if people == 1 && !outside => Self::Alone,
            Scope::Station if !served => Self::Unserved,
            Scope::Station => Self::Good,
        }
    }
}

#[cfg(test)]
mod tests {
    use storage_core::CallId;

    use super::*;
    use crate::call::event::Device;
    use crate::call::party::Identity;

    #[test]
    fn a_recording_lasts_as_long_as_those_whom_it_follows() {
        use Outlook::{Alone, Good, Over, Unserved};
        let (station, trunk) = (Scope::Station, Scope::Trunk);
        let cases = [
            (station, &["s31002", "o555"][..], false, Good),
            (station, &["s31002"], false, Alone),
            (station, &["i32000"], false, Alone),
            (station, &["o555"], false, Unserved),
            (station, &["o555"], true, Good),
            (station, &["o555", "i32000"], false, Unserved),
            (station, &["p78001"], false, Over),
            (trunk, &["o555", "i32000"], false, Good),
            (trunk, &["o555"], false, Good),
            (trunk, &["s31002", "s31003"], false, Over),
        ];
        for (scope, parties, waiting, outlook) in cases {
            let mut call = TrackedCall::new(Now::default(), CallKey(1), CallId::new("1207"));
            call.waiting = waiting;
            for party in parties {
                let kind = match party.as_bytes()[0] {
                    b's' => PartyKind::Station,
                    b'i' => PartyKind::Inside,
                    b'p' => PartyKind::Phantom,
                    _ => PartyKind::Outside,
                };
                let name = Identity::of(&[&Device::parse(&party[1..])]);
                let at = storage_core::WallTime::default();
                call.parties.arrive(at, &name, kind, PartyState::Connected);
            }
            assert_eq!(
                Outlook::of(&call, scope, &"31002".into()),
                outlook,
                "{scope:?} {parties:?} {waiting}"
            );
        }
    }
}
