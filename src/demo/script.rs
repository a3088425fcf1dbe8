//! Which calls the demonstration makes, and when. Where nodes fail, most calls are up at the moment
//! of the fault, some begin in that very moment, and the rest begin later and last until everything
//! is repaired. They are of all kinds; in `trunk` nothing is recorded by itself: an agent asks for
//! trunk recording over WebSocket, and the caller is then transferred to a station that nobody monitors.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use simulator::{CallRef, FinishedCall, Site, SwitchHandle};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::command::Scenario;
use crate::users::{self, UserRole};

use super::cti::Cti;
use super::fault::first_fault;

/// How many calls are up at once at the most; the switch has room for that many stations.
const CONCURRENT_MAX: u32 = 400;
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// A call is established some time before somebody asks for its recording.
const BEFORE_REQUEST: Duration = Duration::from_millis(500);
const SUPERVISOR: &str = "supervisor";
/// The agent at the first station.
const AGENT: &str = "agent";
const AGENT_STATION: &str = "31001";
/// Of a site on loopback that lives for a minute.
const PASSWORD: &str = "only for the demonstration";
/// Of ten calls, so many are up when something breaks, and so many begin in that moment.
const THROUGH: u32 = 6;
const AT_THE_FAULT: u32 = 1;
/// Those that begin in that moment do so within so long.
const MOMENT: Duration = Duration::from_millis(400);

/// How many stations the site needs: calls that consult or are transferred need a second one.
pub fn agents_for(scenario: Scenario, calls: u32) -> usize {
    let concurrent = calls.min(CONCURRENT_MAX) as usize;
    match scenario {
        Scenario::Trunk => concurrent * 2 + 4,
        _ => concurrent * 3 / 2 + 4,
    }
}

/// Of the site's stations, how many are monitored.
pub const fn monitored(scenario: Scenario, agents: usize) -> usize {
    match scenario {
        Scenario::Trunk => agents / 2,
        _ => agents,
    }
}

/// Parties that the switch puts into a call where rings are kept: three people in a conference that is made
/// of two calls, and of each the phantom that records and that of the ring.
pub const PARTIES_WITH_RINGS: usize = 7;

/// Settings and rules of the recorders' configuration.
pub const fn settings(scenario: Scenario) -> &'static str {
    match scenario {
        Scenario::ZeroHole => "al_standbyring = \"30s\"\nal_maxparties = 7\n",
        Scenario::Trunk => "[[al_rule]]\nname = \"on demand\"\nrecord = \"ondemand\"\n",
        _ => "",
    }
}

/// Makes the users that the scenario signs in with.
///
/// # Errors
/// If the file cannot be written.
pub fn make_users(file: &Path) -> Result<()> {
    users::add(file, SUPERVISOR, UserRole::Supervisor, None, None, PASSWORD)?;
    users::add(file, AGENT, UserRole::Agent, Some(AGENT_STATION), None, PASSWORD)?;
    users::add(file, "qa", UserRole::Qa, None, None, PASSWORD)?;
    Ok(())
}

/// Whether a call should be in a file, by what the switch knows of it.
pub fn is_due(scenario: Scenario, call: &FinishedCall) -> bool {
    match scenario {
        // The agent asked for the caller's call, not for the consultation.
        Scenario::Trunk => call.answered && call.trunk_group.is_some(),
        _ => call.answered,
    }
}

/// One call of the script.
#[derive(Clone, Debug)]
struct Plan {
    number: u32,
    /// When it begins and ends, after the first call.
    begin: Duration,
    end: Duration,
    /// It goes on until all that was broken is repaired, however long that takes.
    lasts: bool,
    station: String,
    /// Another station that no other call of the script uses at the same time.
    partner: Option<String>,
}

/// All calls. One that needs a station of an earlier one waits for it.
fn plans(scenario: Scenario, calls: u32, length: Duration, stations: &[String]) -> Vec<Plan> {
    let concurrent = calls.min(CONCURRENT_MAX);
    let plan = |number: u32| {
        let lane = number % concurrent;
        let (begin, end, lasts) = timing(scenario, lane, concurrent, length);
        let round = length * (number / concurrent);
        Plan {
            number,
            begin: round + begin,
            end: round + end,
            lasts,
            station: stations[lane as usize].clone(),
            partner: partner(scenario, stations, lane, concurrent),
        }
    };
    (0..calls).map(plan).collect()
}

/// When a call begins and ends, and whether it waits for repairs.
fn timing(
    scenario: Scenario,
    number: u32,
    calls: u32,
    length: Duration,
) -> (Duration, Duration, bool) {
    let share = |of: Duration, number: u32, calls: u32| of * number / calls.max(1);
    let through = (calls * THROUGH).div_ceil(10);
    let later = through + (calls * AT_THE_FAULT).div_ceil(10);
    let fault = first_fault(length);
    match scenario {
        // They come up in the first third and then overlap.
        Scenario::Single | Scenario::All => {
            let begin = share(length / 3, number, calls);
            (begin, begin + length * 2 / 3, false)
        }
        Scenario::Trunk => {
            let begin = share(length / 10, number, calls);
            (begin, length * 3 / 5 + begin, number % 2 == 1)
        }
        _ if number < through => {
            let begin = share(fault * 4 / 5, number, through);
            (begin, length / 2 + share(length / 5, number, through), false)
        }
        _ if number < later => {
            let begin = fault + share(MOMENT, number - through, later - through);
            (begin, length * 7 / 10, false)
        }
        _ => {
            let begin = length * 9 / 20 + share(length * 2 / 5, number - later, calls - later);
            (begin, begin + length * 3 / 20, true)
        }
    }
}

/// In `trunk` each call has a partner, from the upper half, else every second one.
fn partner(scenario: Scenario, stations: &[String], lane: u32, concurrent: u32) -> Option<String> {
    let lane = lane as usize;
    let index = match scenario {
        Scenario::Trunk => stations.len() / 2 + lane,
        _ if lane.is_multiple_of(2) => concurrent as usize + lane / 2,
        _ => return None,
    };
    stations.get(index).cloned()
}

/// Plays the scenario to its end. `begin` is when the first call comes; `repaired` becomes true when
/// calls need not go on for the sake of what is broken.
///
/// # Errors
/// If the switch or the recorder refuses what the script needs.
pub async fn play(
    scenario: Scenario,
    site: &Site,
    web: SocketAddr,
    (calls, length): (u32, Duration),
    begin: Instant,
    repaired: watch::Receiver<bool>,
) -> Result<()> {
    let stations = site.config().station_list()?;
    let plans = plans(scenario, calls, length, &stations);
    let lanes = calls.min(CONCURRENT_MAX) as usize;
    let mut playing = JoinSet::new();
    for lane in 0..lanes {
        let plans: Vec<_> = plans.iter().skip(lane).step_by(lanes).cloned().collect();
        let stage =
            Stage { scenario, switch: site.switch(), web, begin, repaired: repaired.clone() };
        playing.spawn(async move {
            for plan in &plans {
                sleep_until(begin + plan.begin).await;
                stage.play(plan).await.with_context(|| format!("call {}", plan.number))?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(played) = playing.join_next().await {
        played??;
    }
    Ok(())
}

/// Where calls are played.
struct Stage {
    scenario: Scenario,
    switch: SwitchHandle,
    web: SocketAddr,
    begin: Instant,
    repaired: watch::Receiver<bool>,
}

impl Stage {
    async fn play(&self, plan: &Plan) -> Result<()> {
        match self.scenario {
            Scenario::Trunk => self.trunk(plan).await,
            _ => self.mixed(plan).await,
        }
    }

    /// Calls of all kinds: what happens in a call depends on its number.
    async fn mixed(&self, plan: &Plan) -> Result<()> {
        let (switch, station) = (&self.switch, plan.station.as_str());
        let outside = format!("55512{:05}", plan.number);
        let call = if plan.number % 5 == 4 {
            switch.outbound_call(station, &outside)?
        } else {
            let call = switch.inbound_call(&outside, station)?;
            answered(switch, call, station).await?;
            call
        };
        let step = (plan.end - plan.begin) / 8;
        sleep(step * 2).await;
        // A consultation that begins and ends while a node is away can have one copy only.
        let kind = match (self.scenario, plan.number % 8) {
            (Scenario::ActiveActive, 0 | 2) => 4,
            (_, kind) => kind,
        };
        match (kind, &plan.partner) {
            (0, Some(partner)) => transfer(switch, station, partner, step).await?,
            (2, Some(partner)) => {
                consult(switch, station, partner, step).await?;
                switch.conference(station)?;
            }
            (4, Some(partner)) => {
                switch.single_step_transfer(station, partner)?;
                sleep(Duration::from_millis(100)).await;
                switch.answer(partner)?;
            }
            (1 | 5, _) => {
                switch.hold(station)?;
                sleep(step).await;
                switch.retrieve(station)?;
            }
            _ => {}
        }
        self.hang_up(plan, call, step).await;
        Ok(())
    }

    /// The agent asks for trunk recording, then hands the caller on: every second one before
    /// something breaks, the others after.
    async fn trunk(&self, plan: &Plan) -> Result<()> {
        let (switch, station) = (&self.switch, plan.station.as_str());
        let partner = plan.partner.as_deref().context("no station to transfer to")?;
        let call = switch.inbound_call(&format!("55512{:05}", plan.number), station)?;
        answered(switch, call, station).await?;
        sleep(BEFORE_REQUEST).await;
        let user = if station == AGENT_STATION { AGENT } else { SUPERVISOR };
        let mut cti = Cti::sign_in(self.web, user, PASSWORD).await?;
        let reply = cti.start_recording(station, "trunk").await?;
        ensure!(reply["result"] == "success", "startrecording: {reply}");
        let step = (plan.end - plan.begin) / 16;
        sleep(if plan.number.is_multiple_of(2) { step } else { step * 9 }).await;
        transfer(switch, station, partner, step).await?;
        self.hang_up(plan, call, step).await;
        Ok(())
    }

    /// Ends the call when its time has come, not with others in the same moment.
    async fn hang_up(&self, plan: &Plan, call: CallRef, step: Duration) {
        let own = Duration::from_millis(u64::from(plan.number % 50) * 20);
        let begun = Instant::now();
        sleep_until((self.begin + plan.end).max(begun + step) + own).await;
        if plan.lasts {
            let mut repaired = self.repaired.clone();
            // Whoever would have said so is gone: there is nothing to wait for.
            let _ = repaired.wait_for(|repaired| *repaired).await;
            sleep(own).await;
        }
        self.switch.hangup_all(call);
    }
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

async fn transfer(
    switch: &SwitchHandle,
    station: &str,
    partner: &str,
    step: Duration,
) -> Result<()> {
    consult(switch, station, partner, step).await?;
    switch.transfer(station)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(30);

    fn stations(scenario: Scenario, calls: u32) -> Vec<String> {
        (0..agents_for(scenario, calls)).map(|number| (31001 + number).to_string()).collect()
    }

    #[test]
    fn most_calls_are_up_when_something_breaks_and_some_begin_just_then() {
        let fault = first_fault(LENGTH);
        for scenario in Scenario::EACH {
            for calls in [1, 2, 10, 20, 100] {
                let plans = plans(scenario, calls, LENGTH, &stations(scenario, calls));
                assert_eq!(plans.len() as u32, calls);
                assert!(plans.iter().all(|plan| plan.begin < plan.end && plan.end <= LENGTH));
                let up = plans.iter().filter(|plan| plan.begin < fault && fault < plan.end).count();
                assert!(up * 2 >= calls as usize, "{scenario:?}: {up} of {calls}");
                let just = |plan: &&Plan| (fault..fault + MOMENT).contains(&plan.begin);
                let begin = plans.iter().filter(just).count();
                let mixed = !matches!(scenario, Scenario::Single | Scenario::Trunk);
                assert!(!mixed || calls < 10 || begin >= 1, "{scenario:?}: {begin}");
                assert!(!mixed || calls < 10 || plans.iter().any(|plan| plan.lasts));
            }
        }
    }

    #[test]
    fn no_station_is_in_two_calls_that_are_up_at_the_same_time() {
        for scenario in Scenario::EACH {
            for calls in [3, 20, 400] {
                let plans = plans(scenario, calls, LENGTH, &stations(scenario, calls));
                let mut used: Vec<_> = plans
                    .iter()
                    .flat_map(|p| [Some(&p.station), p.partner.as_ref()])
                    .flatten()
                    .collect();
                let all = used.len();
                used.sort();
                used.dedup();
                assert_eq!(used.len(), all, "{scenario:?} {calls}");
            }
        }
        let plans = plans(Scenario::HotStandby, 900, LENGTH, &stations(Scenario::HotStandby, 900));
        assert!(plans[400].begin >= LENGTH && plans[400].station == plans[0].station);
    }
}
