//! Silent losses (dossier 8.3): a phantom that was let in but gets no media, media that brings no
//! packets, a phantom that does not get out, media where no call is. What can be mended is mended
//! by another phantom; what a person must look at becomes an alarm.

use std::time::Duration;

use storage_core::{Extension, MonoTime, Now, SegmentId};

use super::calls::Calls;
use super::leg::{Leg, MEDIA, Silence};
use super::order::{Alarm, JoinRefusal, MissedReason, Order};
use super::pool::{LONG_REST, PhantomState};
use super::tap::{Phase, Purpose, Tap};
use super::timer::Timer;
use crate::Receiver;

/// A join that is not answered by now never will be.
const ANSWER: Duration = Duration::from_secs(5);
/// A phantom must be out within this; it is asked again after twice as long each time.
const LEAVE: Duration = Duration::from_secs(1);
/// So many vain attempts to get a phantom out raise an alarm.
const LEAVES_ALARMED: u32 = 3;
/// The longest wait before a phantom is asked out again is `LEAVE` doubled so many times.
const LEAVES_DOUBLED: u32 = 5;
/// A segment of a recording that is over waits so long for its phantom to be let in or out.
const CLOSE: Duration = Duration::from_secs(1);

impl Calls {
    /// Sets the tap's timer for what it waits for now.
    pub(super) fn arm_tap(&mut self, phantom: &Extension) {
        let Some(tap) = self.taps.get(phantom) else { return };
        let timer = Timer::Tap(phantom.clone());
        match deadline(tap) {
            Some(at) => self.timers.set(timer, at),
            None => self.timers.stop(&timer),
        }
    }

    /// What a tap waits for has not come in time.
    pub(super) fn tap_overdue(&mut self, now: Now, phantom: &Extension) {
        let Some(tap) = self.taps.get(phantom) else { return };
        match tap.phase {
            _ if !self.link_up => self.close_if_leaving(now, phantom),
            Phase::Asked { unwanted } => self.answer_overdue(now, phantom, unwanted),
            Phase::In => self.legs_overdue(now, phantom),
            Phase::Leaving => self.leave_overdue(now, phantom),
        }
    }

    fn legs_overdue(&mut self, now: Now, phantom: &Extension) {
        // Who is held up, or cannot write, has not told of what came: a phantom that hears is not to be exchanged for that.
        let held_up = self.not_writing.map_or(self.stalled, |_| Some(now.mono));
        if let Some(at) = held_up.map(|at| at + MEDIA).filter(|at| now.mono < *at) {
            return self.timers.set(Timer::Tap(phantom.clone()), at);
        }
        let Some(tap) = self.taps.get(phantom) else { return };
        let due = |leg: &&Leg| leg.deadline(tap.since).is_some_and(|at| at <= now.mono);
        let due = tap.legs.iter().filter(due).map(|leg| (leg.side, leg.heard));
        for (side, heard) in due.collect::<Vec<_>>() {
            let receiver = Receiver { device: phantom.clone(), side };
            match heard {
                true => self.judge_silence(now, &receiver),
                false => self.media_overdue(now, &receiver),
            }
        }
        self.arm_tap(phantom);
    }

    /// A segment receives nothing. Before the first packet that is a failed attempt.
    pub(super) fn segment_silent(&mut self, now: Now, segment: SegmentId) {
        let Some((receiver, tap)) = self.tap_with(segment) else { return };
        let waited = tap.phase == Phase::In && now.mono.since(tap.since) >= MEDIA;
        let heard = self.leg_of(&receiver).is_some_and(|leg| leg.heard);
        if heard {
            self.judge_silence(now, &receiver);
        } else if waited {
            self.media_overdue(now, &receiver);
        }
    }

    /// What was heard has gone silent. While somebody holds the call that may be a hold
    /// without music; else the receiver is deaf (a busyout tells nobody), and another takes its part.
    /// After a hold the media gets as long as at the beginning to come back.
    fn judge_silence(&mut self, now: Now, receiver: &Receiver) {
        let tap = self.taps.get(&receiver.device).filter(|tap| tap.phase == Phase::In);
        let Some(tap) = tap else { return };
        let held = self.tracker.call(tap.call).is_none_or(|call| {
            call.real().any(|party| party.state == super::event::PartyState::Held)
        });
        let Some(leg) = self.leg_of(receiver) else { return };
        if !held && leg.silence.is_none_or(|silence| !silence.held) {
            return self.media_overdue(now, receiver);
        }
        leg.silence = Some(Silence { seen: now.mono, held });
        self.arm_tap(&receiver.device);
    }

    /// A silent segment receives again.
    pub(super) fn segment_audible(&mut self, segment: SegmentId) {
        let Some((receiver, _)) = self.tap_with(segment) else { return };
        if let Some(leg) = self.leg_of(&receiver) {
            leg.silence = None;
        }
        self.arm_tap(&receiver.device);
        self.clear(Alarm::NoMedia { phantom: receiver });
    }

    /// A phantom that no segment is open for receives media. One that has just left a call gets
    /// what was still on its way.
    pub(super) fn phantom_strays(&mut self, now: Now, phantom: &Extension) {
        let idle = self.pool.state(now.mono, phantom) == Some(PhantomState::Free);
        // One that listens hears calls that are not recorded, too.
        if !idle || self.taps.contains_key(phantom) || !self.moves_devices() {
            return;
        }
        self.raise(Alarm::StrayMedia { phantom: phantom.clone() });
        self.evict_stray(now, phantom);
    }

    /// How many phantoms are in calls for a recording, and how many of them should hear something
    /// and do not.
    #[must_use]
    pub fn hearing(&self, now: Now) -> (usize, usize) {
        let in_calls =
            self.taps.values().filter(|tap| tap.phase == Phase::In && tap.recording.is_some());
        let deaf = |tap: &&Tap| tap.legs.iter().all(|leg| leg.is_deaf(now.mono, tap.since));
        (in_calls.clone().count(), in_calls.filter(deaf).count())
    }

    pub(super) fn raise(&mut self, alarm: Alarm) {
        if self.alarms.insert(alarm.clone()) {
            self.orders.push_back(Order::Alarm(alarm));
        }
    }

    pub(super) fn clear(&mut self, alarm: Alarm) {
        if self.alarms.remove(&alarm) {
            self.orders.push_back(Order::AlarmCleared(alarm));
        }
    }

    /// Of all receivers of a device.
    pub(super) fn clear_media_alarms(&mut self, phantom: &Extension) {
        let of_it = |alarm: &&Alarm| match alarm {
            Alarm::NoMedia { phantom: receiver } => receiver.device == *phantom,
            _ => false,
        };
        for alarm in self.alarms.iter().filter(of_it).cloned().collect::<Vec<_>>() {
            self.clear(alarm);
        }
    }

    pub(super) fn clear_stray_alarm(&mut self, phantom: &Extension) {
        self.clear(Alarm::StrayMedia { phantom: phantom.clone() });
    }

    pub(super) fn clear_stuck_alarm(&mut self, phantom: &Extension) {
        self.clear(Alarm::PhantomStuck { phantom: phantom.clone() });
    }

    /// While the AES cannot be reached nobody can be asked out; but a recording that is over is
    /// finished all the same.
    fn close_if_leaving(&mut self, now: Now, phantom: &Extension) {
        let Some(tap) = self.taps.get(phantom) else { return };
        if !tap.stays() {
            self.close_over(now, phantom);
        }
    }

    pub(super) fn close_over(&mut self, now: Now, phantom: &Extension) {
        self.close_segments(now, phantom);
        if let Some(id) = self.taps.get(phantom).and_then(|tap| tap.recording) {
            self.finish_if_quiet(now, id);
        }
    }

    /// Nobody knows whether an unanswered phantom is in, so it is asked out.
    fn answer_overdue(&mut self, now: Now, phantom: &Extension, unwanted: bool) {
        if unwanted {
            self.close_over(now, phantom);
        }
        let Some(tap) = self.taps.get_mut(phantom) else { return };
        let (key, since, purpose) = (tap.call, tap.since, tap.purpose());
        if now.mono.since(since) < ANSWER {
            return self.timers.set(Timer::Tap(phantom.clone()), since + ANSWER);
        }
        tap.rest = LONG_REST;
        self.close_over(now, phantom);
        self.ask_out(now, phantom);
        if !unwanted {
            self.tap_failed(now, key, purpose, &JoinRefusal::Other("no answer".to_owned()));
        }
    }

    fn media_overdue(&mut self, now: Now, receiver: &Receiver) {
        let phantom = &receiver.device;
        let Some(tap) = self.taps.get_mut(phantom) else { return };
        let (key, purpose) = (tap.call, tap.purpose());
        tap.rest = LONG_REST;
        let is_vain = purpose == Purpose::Ring && !tap.hears_beside(receiver.side);
        self.raise(Alarm::NoMedia { phantom: receiver.clone() });
        if is_vain {
            self.take_out(now, phantom);
            return self.hold_ring_back(now, key);
        }
        if !self.moves_devices() {
            return self.ear_is_deaf(now, receiver);
        }
        self.ask_out(now, phantom);
        self.hold_back(now, key, MissedReason::NoMedia);
    }

    fn leave_overdue(&mut self, now: Now, phantom: &Extension) {
        self.close_over(now, phantom);
        self.ask_out(now, phantom);
        if self.taps.get(phantom).is_some_and(|tap| tap.leaves > LEAVES_ALARMED) {
            self.raise(Alarm::PhantomStuck { phantom: phantom.clone() });
        }
    }
}

fn deadline(tap: &Tap) -> Option<MonoTime> {
    match tap.phase {
        Phase::Asked { unwanted: true } => Some(tap.since + CLOSE),
        Phase::Asked { unwanted: false } => Some(tap.since + ANSWER),
        Phase::In if tap.purpose() == Purpose::Leave => None,
        Phase::In => tap.legs.iter().filter_map(|leg| leg.deadline(tap.since)).min(),
        Phase::Leaving => {
            let doubled = tap.leaves.saturating_sub(1).min(LEAVES_DOUBLED);
            Some(tap.since + LEAVE * 2_u32.pow(doubled))
        }
    }
}
