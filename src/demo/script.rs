//! Which calls the demonstration makes. `single` plays calls of all kinds; in `trunk` nothing is
//! recorded by itself, an agent asks for trunk recording over WebSocket, and the caller is then
//! transferred to a station that nobody monitors.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use simulator::{CallRef, FinishedCall, Site, SwitchHandle};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::command::Scenario;
use crate::users::{self, UserRole};

use super::cti::Cti;

/// How many calls are up at once at the most; the switch has room for that many stations.
const CONCURRENT_MAX: u32 = 400;
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// A call is established some time before somebody asks for its recording.
const BEFORE_REQUEST: Duration = Duration::from_millis(500);
const SUPERVISOR: &str = "supervisor";
/// Of a site on loopback that lives for a minute.
const PASSWORD: &str = "only for the demonstration";

/// Name as on the command line.
pub const fn name(scenario: Scenario) -> &'static str {
    match scenario {
        Scenario::Single => "single",
        Scenario::Trunk => "trunk",
    }
}

/// How many stations the site needs: calls that consult or are transferred need a second one.
pub fn agents_for(scenario: Scenario, calls: u32) -> usize {
    let concurrent = calls.min(CONCURRENT_MAX) as usize;
    match scenario {
        Scenario::Single => concurrent * 3 / 2 + 4,
        Scenario::Trunk => concurrent * 2 + 4,
    }
}

/// Of the site's stations, how many are monitored.
pub const fn monitored(scenario: Scenario, agents: usize) -> usize {
    match scenario {
        Scenario::Single => agents,
        Scenario::Trunk => agents / 2,
    }
}

/// Rules of the recorder's configuration.
pub const fn rules(scenario: Scenario) -> &'static str {
    match scenario {
        Scenario::Single => "",
        Scenario::Trunk => "[[al_rule]]\nname = \"on demand\"\nrecord = \"ondemand\"\n",
    }
}

/// Makes the users that the scenario signs in with.
///
/// # Errors
/// If the file cannot be written.
pub fn make_users(file: &Path) -> Result<()> {
    users::add(file, SUPERVISOR, UserRole::Supervisor, None, None, PASSWORD)?;
    users::add(file, "qa", UserRole::Qa, None, None, PASSWORD)?;
    Ok(())
}

/// Whether a call should be in a file, by what the switch knows of it.
pub fn is_due(scenario: Scenario, call: &FinishedCall) -> bool {
    match scenario {
        Scenario::Single => call.answered,
        // The agent asked for the caller's call, not for the consultation.
        Scenario::Trunk => call.answered && call.trunk_group.is_some(),
    }
}

/// Plays the scenario to its end.
///
/// # Errors
/// If the switch or the recorder refuses what the script needs.
pub async fn play(
    scenario: Scenario,
    site: &Site,
    web: SocketAddr,
    calls: u32,
    length: Duration,
) -> Result<()> {
    let switch = site.switch();
    let concurrent = calls.min(CONCURRENT_MAX);
    // The first third is for coming up; the calls then overlap for the rest of the time.
    let spread = length / 3 / concurrent.max(1);
    let stations = site.config().station_list()?;
    let mut playing = JoinSet::new();
    for number in 0..calls {
        while playing.len() >= concurrent as usize {
            playing.join_next().await.context("there is one")???;
        }
        let plan = Plan {
            number,
            length: length * 2 / 3,
            station: stations[(number % concurrent) as usize].clone(),
            partner: partner(scenario, &stations, number, concurrent),
        };
        let switch = switch.clone();
        playing.spawn(async move {
            match scenario {
                Scenario::Single => single(&switch, &plan).await,
                Scenario::Trunk => trunk(&switch, web, &plan).await,
            }
        });
        sleep(spread).await;
    }
    while let Some(played) = playing.join_next().await {
        played??;
    }
    Ok(())
}

/// One call of the script.
struct Plan {
    number: u32,
    length: Duration,
    station: String,
    /// Another station that no other call of the script uses at the same time.
    partner: Option<String>,
}

/// In `single` every second call may have a partner, in `trunk` each has one, from the upper half.
fn partner(
    scenario: Scenario,
    stations: &[String],
    number: u32,
    concurrent: u32,
) -> Option<String> {
    let lane = (number % concurrent) as usize;
    let index = match scenario {
        Scenario::Single if lane.is_multiple_of(2) => concurrent as usize + lane / 2,
        Scenario::Single => return None,
        Scenario::Trunk => stations.len() / 2 + lane,
    };
    stations.get(index).cloned()
}

/// Calls of all kinds: what happens in a call depends on its number.
async fn single(switch: &SwitchHandle, plan: &Plan) -> Result<()> {
    let station = plan.station.as_str();
    let outside = format!("55512{:05}", plan.number);
    let call = if plan.number % 5 == 4 {
        switch.outbound_call(station, &outside)?
    } else {
        let call = switch.inbound_call(&outside, station)?;
        answered(switch, call, station).await?;
        call
    };
    let step = plan.length / 8;
    sleep(step * 2).await;
    match (plan.number % 8, &plan.partner) {
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
    sleep(step * 4 + Duration::from_millis(u64::from(plan.number % 50) * 20)).await;
    switch.hangup_all(call);
    Ok(())
}

/// The agent asks for trunk recording, then hands the caller on.
async fn trunk(switch: &SwitchHandle, web: SocketAddr, plan: &Plan) -> Result<()> {
    let station = plan.station.as_str();
    let partner = plan.partner.as_deref().context("no station to transfer to")?;
    let call = switch.inbound_call(&format!("55512{:05}", plan.number), station)?;
    answered(switch, call, station).await?;
    sleep(BEFORE_REQUEST).await;
    let mut cti = Cti::sign_in(web, SUPERVISOR, PASSWORD).await?;
    let reply = cti.start_recording(station, "trunk").await?;
    ensure!(reply["result"] == "success", "startrecording: {reply}");
    let step = plan.length / 8;
    sleep(step * 2).await;
    transfer(switch, station, partner, step).await?;
    sleep(step * 4).await;
    switch.hangup_all(call);
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
