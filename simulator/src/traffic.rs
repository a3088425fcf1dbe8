//! People who telephone by themselves: a seeded plan of calls of many kinds. Which kinds, who and
//! how long comes from the seed; when exactly, from the clock.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep};

use crate::handle::{CallRef, SwitchHandle};
use crate::rng::Rng;
use crate::server::Site;
use crate::switch::{ConnectionState, Refusal};

/// Longest wait for an agent to become free.
const QUEUE_WAIT: Duration = Duration::from_secs(60);
/// Tries to find a free telephone before a call is given up.
const TRIES: u32 = 200;

/// What a call does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// From outside through the VDN to an agent.
    Inbound,
    /// From an agent to outside.
    Outbound,
    /// Between two agents.
    Internal,
    /// Inbound, held and retrieved.
    Hold,
    /// Inbound, consulted and transferred.
    Transfer,
    /// Inbound, consulted and made a conference, which the first agent leaves.
    Conference,
    /// Inbound, sent on in a single step.
    SingleStepTransfer,
    /// Inbound, picked up by another agent.
    Pickup,
    /// Inbound, given up while it rings.
    Abandoned,
}

impl Kind {
    /// All kinds, in the order of `Mix`.
    pub const ALL: [Self; 9] = [
        Self::Inbound,
        Self::Outbound,
        Self::Internal,
        Self::Hold,
        Self::Transfer,
        Self::Conference,
        Self::SingleStepTransfer,
        Self::Pickup,
        Self::Abandoned,
    ];
}

/// Weights of the kinds of call, in the order of `Kind::ALL`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mix(pub [u32; 9]);

impl Mix {
    /// Only plain inbound calls.
    pub const INBOUND: Self = Self([1, 0, 0, 0, 0, 0, 0, 0, 0]);
    /// A bit of everything that is answered.
    pub const EVERYTHING: Self = Self([8, 4, 3, 3, 3, 2, 2, 2, 0]);

    /// Only calls of one kind.
    #[must_use]
    pub fn only(kind: Kind) -> Self {
        Self(Kind::ALL.map(|other| u32::from(other == kind)))
    }

    fn pick(self, rng: &mut Rng) -> Kind {
        let total = self.0.iter().map(|weight| u64::from(*weight)).sum();
        let mut at = rng.below(total);
        for (kind, weight) in Kind::ALL.into_iter().zip(self.0) {
            if at < u64::from(weight) {
                return kind;
            }
            at -= u64::from(weight);
        }
        Kind::Inbound
    }
}

/// A plan of calls.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrafficPlan {
    /// How many calls in all.
    pub calls: u32,
    /// How many at once at most.
    pub concurrent: usize,
    /// Seed of everything random.
    pub seed: u64,
    /// Kinds of call.
    pub mix: Mix,
    /// Shortest and longest talk, milliseconds.
    pub talk_ms: (u64, u64),
    /// How long it rings.
    pub ring_ms: u64,
    /// Pause between the starts of two calls.
    pub pace_ms: u64,
    /// After one has hung up, the others do so at most this much later by themselves.
    pub linger_ms: (u64, u64),
    /// The number dialled by inbound calls; empty: the first VDN.
    pub dial: String,
}

impl Default for TrafficPlan {
    fn default() -> Self {
        Self {
            calls: 20,
            concurrent: 5,
            seed: 1,
            mix: Mix::EVERYTHING,
            talk_ms: (2000, 6000),
            ring_ms: 100,
            pace_ms: 20,
            linger_ms: (300, 1500),
            dial: String::new(),
        }
    }
}

/// What came of a plan.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TrafficOutcome {
    /// Calls that were begun, by their serial, with what they were meant to be.
    pub begun: BTreeMap<u32, Kind>,
    /// Serials that were answered.
    pub answered: Vec<u32>,
    /// Calls that found no free telephone, trunk or agent.
    pub given_up: u32,
    /// Steps (transfer and so on) that the switch refused; the call went on without them.
    pub refused_steps: Vec<(u32, Refusal)>,
}

/// Traffic that runs.
#[derive(Debug)]
pub struct TrafficHandle {
    stop: Arc<AtomicBool>,
    outcome: Arc<Mutex<TrafficOutcome>>,
    task: JoinHandle<()>,
}

impl TrafficHandle {
    /// Begins no more calls; those in progress go on to their end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// What has come of it so far.
    #[must_use]
    pub fn so_far(&self) -> TrafficOutcome {
        lock(&self.outcome).clone()
    }

    /// Whether all calls are over (as far as people are concerned).
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// Waits until all calls are over and tells what came of them.
    pub async fn wait(self) -> TrafficOutcome {
        // A script that panics has printed why; the outcome shows what is missing.
        let _ = self.task.await;
        lock(&self.outcome).clone()
    }
}

impl Site {
    /// Lets people telephone by a plan.
    #[must_use]
    pub fn run_traffic(&self, plan: TrafficPlan) -> TrafficHandle {
        let stop = Arc::new(AtomicBool::new(false));
        let outcome = Arc::new(Mutex::new(TrafficOutcome::default()));
        let dial = match plan.dial.as_str() {
            "" => self.config().vdns.first().map(|vdn| vdn.extension.clone()).unwrap_or_default(),
            given => given.to_owned(),
        };
        let people = People { switch: self.switch(), outcome: Arc::clone(&outcome), dial };
        let task = tokio::spawn(run(people, plan, Arc::clone(&stop)));
        TrafficHandle { stop, outcome, task }
    }
}

async fn run(people: People, plan: TrafficPlan, stop: Arc<AtomicBool>) {
    let mut rng = Rng::new(plan.seed);
    let mut scripts = JoinSet::new();
    for number in 0..plan.calls {
        while scripts.len() >= plan.concurrent.max(1) {
            scripts.join_next().await;
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let script = Script {
            people: people.clone(),
            kind: plan.mix.pick(&mut rng),
            caller: format!("555{:07}", number % 10_000_000),
            talk: length(rng.between(plan.talk_ms.0, plan.talk_ms.1)),
            ring: length(plan.ring_ms),
            linger: length(rng.between(plan.linger_ms.0, plan.linger_ms.1)),
            rng: Rng::new(rng.next()),
        };
        scripts.spawn(script.play());
        sleep(length(plan.pace_ms)).await;
    }
    while scripts.join_next().await.is_some() {}
}

/// So many milliseconds, at most a day.
fn length(millis: u64) -> Duration {
    Duration::from_millis(millis.min(24 * 3600 * 1000))
}

/// What all scripts share.
#[derive(Clone)]
struct People {
    switch: SwitchHandle,
    outcome: Arc<Mutex<TrafficOutcome>>,
    dial: String,
}

/// One call.
struct Script {
    people: People,
    kind: Kind,
    caller: String,
    talk: Duration,
    ring: Duration,
    linger: Duration,
    rng: Rng,
}

/// A call that was answered, and by whom.
struct Talk {
    call: CallRef,
    /// Who acts next: an agent in the call.
    agent: String,
}

impl Script {
    async fn play(mut self) {
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
        let rings =
            |view: Option<&crate::CallView>| view.is_none_or(|view| view.established.is_some());
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
        let over = |view: Option<&crate::CallView>| {
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
