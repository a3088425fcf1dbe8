//! The calls of a soak: of all kinds, beside each other, each at stations of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use simulator::{CallRef, Site, SwitchHandle};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::plan::Rng;

const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// A station may be used again when the switch has cleared the call. A phantom keeps it up until
/// its node is back, or until its AES gives the node up.
const CLEAR_LIMIT: Duration = Duration::from_secs(120);

/// How many stations so many calls at once need: each call has a station and a partner.
pub const fn stations_for(concurrent: usize) -> usize {
    concurrent * 2
}

/// One call.
#[derive(Clone, Copy, Debug)]
struct Plan {
    number: usize,
    begin: Duration,
    length: Duration,
}

fn plans(calls: usize, span: Duration, seed: u64) -> Vec<Plan> {
    let mut rng = Rng::new(seed ^ 0xca11);
    let plan = |number: usize| Plan {
        number,
        begin: span.mul_f64(number as f64 / calls.max(1) as f64),
        length: rng.millis(5_000, 60_000),
    };
    (0..calls).map(plan).collect()
}

/// Makes all calls, spread over `span`, and waits until the last is over. `done` counts them.
///
/// # Errors
/// If the switch refuses what the script needs.
pub async fn play(
    site: &Site,
    (calls, concurrent): (usize, usize),
    span: Duration,
    seed: u64,
    done: Arc<AtomicUsize>,
) -> Result<()> {
    let stations = site.config().station_list()?;
    let (back, mut free) = mpsc::unbounded_channel();
    for pair in stations.chunks_exact(2) {
        back.send((pair[0].clone(), pair[1].clone()))?;
    }
    let places = Arc::new(Semaphore::new(concurrent));
    let begin = Instant::now();
    let mut playing = JoinSet::new();
    for plan in plans(calls, span, seed) {
        sleep_until(begin + plan.begin).await;
        let place = Arc::clone(&places).acquire_owned().await?;
        let pair = free.recv().await.context("stations come back")?;
        let (switch, back, done) = (site.switch(), back.clone(), Arc::clone(&done));
        playing.spawn(async move {
            one(&switch, plan, &pair.0, &pair.1)
                .await
                .with_context(|| format!("call {}", plan.number))?;
            drop(place);
            done.fetch_add(1, Ordering::Relaxed);
            // Whoever would take it has all calls begun.
            drop(back.send(pair));
            anyhow::Ok(())
        });
        while let Some(played) = playing.try_join_next() {
            played??;
        }
    }
    while let Some(played) = playing.join_next().await {
        played??;
    }
    Ok(())
}

async fn one(switch: &SwitchHandle, plan: Plan, station: &str, partner: &str) -> Result<()> {
    let outside = format!("55512{:05}", plan.number);
    let ends = Instant::now() + plan.length;
    let call = match plan.number % 6 {
        4 => switch.outbound_call(station, &outside)?,
        _ => {
            let call = switch.inbound_call(&outside, station)?;
            answered(switch, call, station).await?;
            call
        }
    };
    let step = plan.length / 8;
    sleep(step * 2).await;
    match plan.number % 8 {
        0 => {
            consult(switch, station, partner, step).await?;
            switch.transfer(station)?;
        }
        2 => {
            consult(switch, station, partner, step).await?;
            switch.conference(station)?;
        }
        4 => {
            switch.single_step_transfer(station, partner)?;
            sleep(Duration::from_millis(100)).await;
            switch.answer(partner)?;
        }
        1 | 5 => {
            switch.hold(station)?;
            sleep(step).await;
            switch.retrieve(station)?;
        }
        _ => {}
    }
    sleep_until(ends).await;
    switch.hangup_all(call);
    let over = switch.wait(call, CLEAR_LIMIT, |view| view.is_none()).await;
    ensure!(over, "the switch does not clear it");
    Ok(())
}

async fn answered(switch: &SwitchHandle, call: CallRef, station: &str) -> Result<()> {
    let rings = switch.wait_alerting(call, CONNECT_LIMIT).await;
    ensure!(rings.as_deref() == Some(station), "the call does not ring at {station}");
    switch.answer(station)?;
    Ok(())
}

async fn consult(
    switch: &SwitchHandle,
    station: &str,
    partner: &str,
    step: Duration,
) -> Result<()> {
    let call = switch.consult(station, partner)?;
    answered(switch, call, partner).await?;
    sleep(step).await;
    Ok(())
}
