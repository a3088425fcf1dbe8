//! What people do on the telephone: each call has a life of its own, drawn from the seed.

use recorder_core::call::event::{Device, PartyState};

use crate::rng::Rng;
use crate::switch::{Switch, Who};
use crate::{MS, Time};

/// Monitored stations: 31001 to 31016.
pub const STATIONS: u64 = 16;

/// What happens to a call next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Answer,
    /// What its life is from here on.
    Live,
    HangUp,
    Hold,
    Retrieve,
    Consult,
    /// The consultation is answered.
    AnswerConsult(u64),
    Join(u64),
}

pub fn station(number: u64) -> Device {
    Device::parse(&format!("31{:03}", number + 1))
}

/// A new call, and when it is answered.
pub fn spawn(switch: &mut Switch, rng: &mut Rng, now: Time) -> Option<(u64, Step, Time)> {
    let device = station(rng.range(0, STATIONS));
    if !switch.is_idle(&device) {
        return None;
    }
    let uid = switch.ring(now, &device);
    Some((uid, Step::Answer, rng.range(200, 1_200) * MS))
}

/// Takes a step; tells which call goes on with what, and after how long.
pub fn step(
    switch: &mut Switch,
    rng: &mut Rng,
    now: Time,
    uid: u64,
    step: Step,
) -> Option<(u64, Step, Time)> {
    let call = switch.calls.get(&uid)?;
    let monitored =
        |state: PartyState| call.people().find(|leg| leg.who == Who::Station && leg.state == state);
    match step {
        Step::Answer => {
            let device = monitored(PartyState::Alerting)?.device.clone();
            switch.answer(now, uid, &device);
            Some((uid, Step::Live, rng.range(300, 2_500) * MS))
        }
        Step::Live => match rng.range(0, 20) {
            0..=11 => Some((uid, Step::HangUp, rng.range(100, 6_000) * MS)),
            12..=14 => Some((uid, Step::Hold, rng.range(100, 1_500) * MS)),
            _ => Some((uid, Step::Consult, rng.range(100, 1_500) * MS)),
        },
        Step::HangUp => {
            let legs: Vec<Device> = call.people().map(|leg| leg.device.clone()).collect();
            let device = rng.pick(&legs);
            switch.release(now, uid, &device);
            // Where others are left they go on a little.
            switch.calls.get(&uid)?.people().next()?;
            Some((uid, Step::HangUp, rng.range(300, 2_000) * MS))
        }
        Step::Hold => {
            let device = monitored(PartyState::Connected)?.device.clone();
            switch.hold(uid, &device);
            Some((uid, Step::Retrieve, rng.range(300, 4_000) * MS))
        }
        Step::Retrieve => {
            let Some(leg) = monitored(PartyState::Held) else {
                return Some((uid, Step::HangUp, rng.range(500, 2_000) * MS));
            };
            let device = leg.device.clone();
            switch.retrieve(uid, &device);
            Some((uid, Step::HangUp, rng.range(300, 3_000) * MS))
        }
        Step::Consult => consult(switch, rng, now, uid),
        Step::AnswerConsult(second) => {
            let alerting = |call: &crate::switch::Call| {
                call.people()
                    .find(|leg| leg.state == PartyState::Alerting)
                    .map(|l| l.device.clone())
            };
            if let Some(device) = switch.calls.get(&second).and_then(alerting) {
                switch.answer(now, second, &device);
            }
            Some((uid, Step::Join(second), rng.range(300, 2_000) * MS))
        }
        Step::Join(second) => join(switch, rng, now, uid, second),
    }
}

fn consult(switch: &mut Switch, rng: &mut Rng, now: Time, uid: u64) -> Option<(u64, Step, Time)> {
    let call = switch.calls.get(&uid)?;
    let connected =
        call.people().find(|leg| leg.who == Who::Station && leg.state == PartyState::Connected);
    let (to, who) = if rng.chance(60) {
        (station(rng.range(0, STATIONS)), Who::Station)
    } else {
        (Device::parse(&format!("32{:03}", rng.range(1, 6))), Who::Inside)
    };
    let Some(by) = connected.map(|leg| leg.device.clone()).filter(|_| switch.is_idle(&to)) else {
        return Some((uid, Step::HangUp, rng.range(500, 2_000) * MS));
    };
    switch.hold(uid, &by);
    let second = switch.dial(now, &by, &to, who);
    Some((uid, Step::AnswerConsult(second), rng.range(300, 900) * MS))
}

fn join(
    switch: &mut Switch,
    rng: &mut Rng,
    now: Time,
    uid: u64,
    second: u64,
) -> Option<(u64, Step, Time)> {
    let held = switch.calls.get(&uid)?.people().find(|leg| leg.state == PartyState::Held);
    let by = held.map(|leg| leg.device.clone());
    let there = by.as_ref().filter(|by| {
        let call = switch.calls.get(&second);
        call.is_some_and(|call| call.leg(by).is_some() && call.established.is_some())
    });
    let transfer = rng.chance(40);
    let manner = (rng.chance(50), rng.chance(70));
    let joined = there.and_then(|by| switch.merge(now, (uid, second), by, transfer, manner));
    match joined {
        Some(uid) if switch.calls.contains_key(&uid) => {
            let next = if rng.chance(50) { Step::Consult } else { Step::HangUp };
            Some((uid, next, rng.range(500, 3_000) * MS))
        }
        Some(_) => None,
        None => {
            // The consultation ends, and the call goes on.
            if let Some(by) = by {
                switch.release(now, second, &by);
            }
            Some((uid, Step::Retrieve, rng.range(100, 500) * MS))
        }
    }
}
