//! What the people of one call do, step by step. A step that the switch refuses is noted, and the
//! call goes on without it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Kind, TrafficOutcome, lock};
use crate::handle::{CallRef, SwitchHandle};
use crate::rng::Rng;
use crate::switch::{ConnectionState, Refusal};
use crate::view::CallView;

/// Longest wait for an agent to become free.
const QUEUE_WAIT: Duration = Duration::from_secs(60);
/// Tries to find a free telephone before a call is given up.
const TRIES: u32 = 200;

/// What all scripts share.
#[derive(Clone)]
pub(super) struct People {
    pub switch: SwitchHandle,
    pub outcome: Arc<Mutex<TrafficOutcome>>,
    pub dial: String,
}

/// One call.
pub(super) struct Script {
    pub people: People,
    pub kind: Kind,
    pub caller: String,
    pub talk: Duration,
    pub ring: Duration,
    pub linger: Duration,
    pub rng: Rng,
}

/// A call that was answered, and by whom.
struct Talk {
    call: CallRef,
    /// Who acts next: an agent in the call.
    agent: String,
}

impl Script {
    /// Plays the call from its first ring to the last person's hanging up.
    pub async fn play(mut self) {
        let begun = match self.kind {
            Kind::Outbound => self.call_out().await,
            Kind::Internal => self.call_inside().await,
            _ => self.call_in().await,
        };
        let Some(talk) = begun else { return };
        lock(&self.people.outcome).answered.push(talk.call.serial);
        let end = Instant::now() + self.talk;
        sleep(self.talk / 3).await;
        let talk = match self.kind {
            Kind::Hold => self.hold(talk).await,
            Kind::Transfer | Kind::Conference => self.consult(talk).await,
            Kind::SingleStepTransfer => self.send_on(talk).await,
            _ => talk,
        };
        tokio::time::sleep_until(end).await;
        self.end(&talk).await;
    }

    async fn call_in(&mut self) -> Option<Talk> {
        let placed = self.people.switch.inbound_call(&self.caller, &self.people.dial);
        let Ok(call) = placed else {
            lock(&self.people.outcome).given_up += 1;
            return None;
        };
        self.begun(call);
        let alerting = self.people.switch.wait_alerting(call, QUEUE_WAIT).await;
        let Some(agent) = alerting else {
            // It waited too long; the caller gives up.
            let _ = self.people.switch.hangup_outside(call);
            lock(&self.people.outcome).given_up += 1;
            return None;
        };
        sleep(self.ring).await;
        match self.kind {
            Kind::Abandoned => {
                let _ = self.people.switch.hangup_outside(call);
                None
            }
            Kind::Pickup => {
                let other = self.free(&agent);
                let picked = other.filter(|other| self.people.switch.pickup(other, &agent).is_ok());
                match picked {
                    Some(other) => Some(Talk { call, agent: other }),
                    None => self.answered(call, agent),
                }
            }
            _ => self.answered(call, agent),
        }
    }

    fn answered(&self, call: CallRef, agent: String) -> Option<Talk> {
        match self.people.switch.answer(&agent) {
            Ok(_) => Some(Talk { call, agent }),
            Err(refusal) => {
                // Somebody answers by himself (`auto_answer_ms`): that is as good.
                if self.talks(call, &agent) {
                    return Some(Talk { call, agent });
                }
                self.refused(call, refusal);
                None
            }
        }
    }

    async fn call_out(&mut self) -> Option<Talk> {
        let number = format!("9{}", self.caller);
        let (agent, call) = self.dial_from_a_free_telephone(&number).await?;
        let rings = |view: Option<&CallView>| view.is_none_or(|view| view.established.is_some());
        if !self.people.switch.wait(call, self.ring * 2 + Duration::from_millis(200), rings).await {
            // The far end answers by script if it does not do so by itself.
            let _ = self.people.switch.answer_outside(call);
        }
        self.talks(call, &agent).then_some(Talk { call, agent })
    }

    async fn call_inside(&mut self) -> Option<Talk> {
        for _ in 0..TRIES {
            let other = self.free("");
            let Some(other) = other else {
                sleep(Duration::from_millis(50)).await;
                continue;
            };
            let Some(agent) = self.free(&other) else {
                sleep(Duration::from_millis(50)).await;
                continue;
            };
            let Ok(call) = self.people.switch.internal_call(&agent, &other) else { continue };
            self.begun(call);
            sleep(self.ring).await;
            if self.people.switch.answer(&other).is_ok() || self.talks(call, &other) {
                return Some(Talk { call, agent });
            }
            // He was called by somebody else in the same moment.
            let _ = self.people.switch.hangup(&agent);
            return None;
        }
        lock(&self.people.outcome).given_up += 1;
        None
    }

    async fn dial_from_a_free_telephone(&mut self, number: &str) -> Option<(String, CallRef)> {
        for _ in 0..TRIES {
            if let Some(agent) = self.free("")
                && let Ok(call) = self.people.switch.outbound_call(&agent, number)
            {
                self.begun(call);
                return Some((agent, call));
            }
            sleep(Duration::from_millis(50)).await;
        }
        lock(&self.people.outcome).given_up += 1;
        None
    }

    async fn hold(&self, talk: Talk) -> Talk {
        if let Err(refusal) = self.people.switch.hold(&talk.agent) {
            self.refused(talk.call, refusal);
            return talk;
        }
        sleep(self.talk / 4).await;
        if let Err(refusal) = self.people.switch.retrieve(&talk.agent) {
            self.refused(talk.call, refusal);
        }
        talk
    }

    async fn send_on(&mut self, talk: Talk) -> Talk {
        let Some(other) = self.free(&talk.agent) else { return talk };
        if let Err(refusal) = self.people.switch.single_step_transfer(&talk.agent, &other) {
            self.refused(talk.call, refusal);
            return talk;
        }
        sleep(self.ring).await;
        if let Err(refusal) = self.people.switch.answer(&other)
            && !self.talks(talk.call, &other)
        {
            self.refused(talk.call, refusal);
        }
        Talk { call: talk.call, agent: other }
    }

    /// Consults another agent, then transfers or makes a conference.
    async fn consult(&mut self, talk: Talk) -> Talk {
        let switch = self.people.switch.clone();
        let Some(other) = self.free(&talk.agent) else { return talk };
        let second = match switch.consult(&talk.agent, &other) {
            Ok(second) => second,
            Err(refusal) => {
                self.refused(talk.call, refusal);
                return talk;
            }
        };
        sleep(self.ring).await;
        let talks = switch.answer(&other).is_ok() || self.talks(second, &other);
        if talks {
            sleep(self.talk / 4).await;
        }
        let merged = match self.kind {
            _ if !talks => Err(Refusal::WrongState(other.clone())),
            Kind::Conference => switch.conference(&talk.agent),
            _ => switch.transfer(&talk.agent),
        };
        if let Err(refusal) = merged {
            self.refused(talk.call, refusal);
            self.back_to_the_caller(&talk, second, &other);
            return talk;
        }
        if self.kind == Kind::Conference {
            sleep(self.talk / 6).await;
            // The first agent leaves the other two.
            let _ = switch.hangup(&talk.agent);
        }
        // Which of the two interactions goes on is the switch's choice.
        let call = if switch.call(talk.call).is_some() { talk.call } else { second };
        Talk { call, agent: other }
    }

    fn back_to_the_caller(&self, talk: &Talk, second: CallRef, other: &str) {
        let switch = &self.people.switch;
        let _ = switch.hangup(&talk.agent);
        if self.talks(second, other) {
            // A recorder keeps the other one's line open; he notices.
            let _ = switch.hangup(other);
        }
        if let Err(refusal) = switch.retrieve(&talk.agent) {
            self.refused(talk.call, refusal);
        }
    }

    /// One hangs up; the others notice after a while, if the line is still open.
    async fn end(&mut self, talk: &Talk) {
        let switch = self.people.switch.clone();
        let outside_first = self.rng.chance(0.5);
        if !(outside_first && switch.hangup_outside(talk.call).is_ok()) {
            let _ = switch.hangup(&talk.agent);
        }
        let over = |view: Option<&CallView>| {
            view.is_none_or(|view| view.parties.iter().all(|party| party.recorder))
        };
        if !switch.wait(talk.call, self.linger, over).await {
            switch.hangup_all(talk.call);
        }
    }

    fn begun(&self, call: CallRef) {
        lock(&self.people.outcome).begun.insert(call.serial, self.kind);
    }

    fn refused(&self, call: CallRef, refusal: Refusal) {
        lock(&self.people.outcome).refused_steps.push((call.serial, refusal));
    }

    fn talks(&self, call: CallRef, station: &str) -> bool {
        let view = self.people.switch.call(call);
        view.is_some_and(|view| view.state_of(station) == Some(ConnectionState::Connected))
    }

    /// A telephone without any call, other than `not`.
    fn free(&mut self, not: &str) -> Option<String> {
        let mut free = self.people.switch.free_telephones();
        free.retain(|station| station != not);
        let at = self.rng.below(free.len() as u64);
        (!free.is_empty()).then(|| free.swap_remove(at as usize))
    }
}
