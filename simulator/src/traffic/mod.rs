//! People who telephone by themselves: a seeded plan of calls of many kinds. Which kinds, who and
//! how long comes from the seed; when exactly, from the clock.

mod script;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use self::script::{People, Script};
use crate::rng::Rng;
use crate::server::Site;
use crate::switch::Refusal;

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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
