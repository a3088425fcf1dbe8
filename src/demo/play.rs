//! One scenario from its first process to its verdict: starts the site, lets calls and faults go on
//! beside each other, shows them, waits until all nodes are done, and has the files judged.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use simulator::{CallView, SiteConfig};
use storage_core::Role;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use crate::command::{DemoOptions, Scenario, in_words};

use super::due::{due_calls, due_to_the_end};
use super::sight::{Eyes, Sight};
use super::site::{GroupSite, Shape};
use super::table::{Row, Scene, Table};
use super::verdict::{Verdict, judge_copies};
use super::voice::Published;
use super::{fault, script};

/// More nodes than any scenario has.
pub const NODES_MAX: u16 = 3;
const READY_LIMIT: Duration = Duration::from_secs(30);
/// How long the nodes may take to publish what they have captured, after the last call.
const PUBLISH_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// No takeover may leave a longer hole; a recorder that merely comes back takes longer.
const HOLE_MAX_MS: u64 = 2_000;
const REDRAW: Duration = Duration::from_millis(250);
const DEFAULT_CALLS: u32 = 20;
/// A recorder that comes back gets the lead back only after it has proved healthy.
const DEFAULT_SECONDS: u64 = 30;
const DEFAULT_SECONDS_SINGLE: u64 = 15;

/// Plays a scenario in this folder. What goes wrong with the nodes is part of the verdict.
///
/// # Errors
/// If the site cannot be set up, or the script cannot be played.
pub async fn play(
    options: &DemoOptions,
    scenario: Scenario,
    folder: &Path,
    table: &mut Table,
) -> Result<(Verdict, Vec<Published>)> {
    let calls = options.calls.unwrap_or(DEFAULT_CALLS);
    let seconds = options.seconds.unwrap_or(match scenario {
        Scenario::Single => DEFAULT_SECONDS_SINGLE,
        _ => DEFAULT_SECONDS,
    });
    let mut group = set_up(scenario, calls, folder).await?;
    for (id, member) in &group.members {
        let (role, web) = (member.role.as_str(), member.node.web());
        table.say(&format!("Node {id} ({role}) is ready: http://{web}/"));
    }
    let mut show = Show { eyes: group.eyes(), site: group.site.clone(), table, calls };
    let mut faults = Vec::new();
    watch(&mut group, scenario, Duration::from_secs(seconds), &mut show, &mut faults).await?;
    faults.extend(wait_quiet(&group, &mut show).await.err().map(|error| in_words(&error)));
    let account = own_account(&show.eyes.look().await);
    // A node that stops seals what it has; only then is everything on the disk.
    faults.extend(group.stop(STOP_LIMIT).await.err().map(|error| in_words(&error)));
    let published = group.recordings()?;
    let stuck = group.site.stuck_phantoms();
    if !stuck.is_empty() {
        faults.push(format!("phantoms left in calls: {}", stuck.join(", ")));
    }
    let is_due = |call: &simulator::FinishedCall| script::is_due(scenario, call);
    let history = group.site.history();
    let due = match scenario {
        Scenario::Single => due_calls(&history, is_due),
        _ => due_to_the_end(&history, is_due),
    };
    group.site.stop().await;
    let mut verdict = judge_copies(&due, &published, copies(scenario))?;
    verdict.faults.extend(faults);
    let (hole, declared) = (verdict.takeover_gap_ms_max, verdict.packets_in_declared_gaps);
    if scenario == Scenario::ZeroHole && declared > 0 {
        verdict.faults.push(format!("{declared} packets are missing, and none should be"));
    }
    if hole > longest_hole_ms(scenario) {
        verdict.faults.push(format!("nobody took over in time: {hole} ms of a call are missing"));
    }
    for line in account {
        table.say(&line);
    }
    Ok((verdict, published))
}

/// How many recordings there are of each call.
const fn copies(scenario: Scenario) -> u8 {
    match scenario {
        Scenario::ActiveActive => 2,
        _ => 1,
    }
}

/// How long the hole of a takeover may be in a call; with two copies or a ring there is none.
const fn longest_hole_ms(scenario: Scenario) -> u64 {
    match scenario {
        Scenario::ActiveActive | Scenario::ZeroHole => 0,
        _ => HOLE_MAX_MS,
    }
}

fn shape(scenario: Scenario, agents: usize) -> Shape {
    let stations = script::monitored(scenario, agents);
    let mut shape = match scenario {
        Scenario::Single => Shape { roles: vec![Role::Active], ..Shape::hot_standby(stations) },
        Scenario::ActiveActive => Shape::active_active(stations),
        _ => Shape::hot_standby(stations),
    };
    shape.wires = scenario == Scenario::Partition;
    script::settings(scenario).clone_into(&mut shape.settings);
    shape
}

async fn set_up(scenario: Scenario, calls: u32, folder: &Path) -> Result<GroupSite> {
    let agents = script::agents_for(scenario, calls);
    let shape = shape(scenario, agents);
    let binary = std::env::current_exe().context("cannot find this program's own file")?;
    let mut config = SiteConfig::demo(agents, shape.recorders());
    if scenario == Scenario::ZeroHole {
        config.max_parties = script::PARTIES_WITH_RINGS;
    }
    let mut group = GroupSite::prepare(&binary, folder, config, &shape).await?;
    script::make_users(&group.member(fault::ACTIVE)?.node.users_path())?;
    group.share_users()?;
    group.start(READY_LIMIT).await?;
    group.leads_steadily(fault::ACTIVE, READY_LIMIT).await?;
    Ok(group)
}

/// What is needed to draw.
struct Show<'a> {
    eyes: Eyes,
    site: simulator::Site,
    table: &'a mut Table,
    calls: u32,
}

/// Lets calls and faults go on beside each other, and shows what happens until both are over.
async fn watch(
    group: &mut GroupSite,
    scenario: Scenario,
    length: Duration,
    show: &mut Show<'_>,
    faults: &mut Vec<String>,
) -> Result<()> {
    let (repaired, until_repaired) = watch::channel(false);
    let (says, mut said) = mpsc::unbounded_channel();
    let web = group.member(fault::ACTIVE)?.node.web();
    let site = show.site.clone();
    let begin = Instant::now();
    show.table.begin();
    let calls = (show.calls, length);
    let playing = script::play(scenario, &site, web, calls, begin, until_repaired);
    let steps = fault::steps(scenario);
    let breaking = async {
        let at = begin + fault::first_fault(length);
        let broken = fault::carry_out(&steps, at, group, &says).await;
        repaired.send_replace(true);
        broken
    };
    let both = async { tokio::join!(playing, breaking) };
    tokio::pin!(both);
    loop {
        tokio::select! {
            (played, broken) = &mut both => {
                faults.extend(broken.err().map(|error| in_words(&error)));
                return played;
            }
            Some(line) = said.recv() => show.say(begin, &line),
            () = sleep(REDRAW) => show.draw("calls").await,
        }
    }
}

/// Waits until no node has anything left to do.
async fn wait_quiet(group: &GroupSite, show: &mut Show<'_>) -> Result<()> {
    let quiet = group.quiet(PUBLISH_LIMIT);
    tokio::pin!(quiet);
    loop {
        tokio::select! {
            quiet = &mut quiet => return quiet,
            () = sleep(REDRAW) => show.draw("sealing").await,
        }
    }
}

/// What the nodes say of themselves, to be read beside the verdict.
fn own_account(seen: &[Sight]) -> Vec<String> {
    let mut lines = Vec::new();
    for sight in seen {
        if let Some(takeovers) = sight.takeovers() {
            lines.push(format!("Node {} says: {takeovers}", sight.node));
        }
        let rescues = sight.value("astlogger_rescues_total");
        if rescues > 0.0 {
            lines.push(format!("Node {} says: {rescues} rescues", sight.node));
        }
    }
    let start = "astlogger_capture_start_seconds";
    let count = |name: &str| seen.iter().map(|sight| sight.value(&format!("{start}_{name}"))).sum();
    let (soon, all): (f64, f64) = (count("bucket{le=\"0.05\"}"), count("count"));
    if all > 0.0 {
        lines.push(format!("{soon} of {all} calls were captured within 50 ms of being answered"));
    }
    lines
}

impl Show<'_> {
    fn say(&mut self, begin: Instant, line: &str) {
        self.table.say(&format!("{:>5.1} s  {line}", begin.elapsed().as_secs_f32()));
    }

    async fn draw(&mut self, caption: &str) {
        let seen = self.eyes.look().await;
        let sum = |name: &str| seen.iter().map(|sight| sight.sum(name) as u64).sum::<u64>();
        let lost = ["astlogger_rtp_lost_total", "astlogger_rtp_socket_drops_total"];
        let history = self.site.history();
        self.table.show(&Scene {
            caption: caption.to_owned(),
            nodes: seen.iter().map(node_line).collect(),
            calls: self.site.calls().iter().map(row).collect(),
            // A consultation that became part of another call is none of the calls planned.
            finished: history.iter().filter(|call| call.merged_into.is_none()).count() as u64,
            planned: u64::from(self.calls),
            packets: sum("astlogger_rtp_packets_total"),
            lost: lost.iter().map(|name| sum(name)).sum(),
            published: sum("astlogger_recordings_published_total"),
        });
    }
}

fn node_line(sight: &Sight) -> String {
    let name = format!("node {} ({})", sight.node, sight.role.as_str());
    let Some(duty) = sight.duty() else { return format!("{name}: DOWN") };
    if sight.role == Role::Witness {
        return format!("{name}: {duty}");
    }
    let takeovers = sight.takeovers().map_or_else(String::new, |words| format!("; {words}"));
    format!(
        "{name}: {duty}; {} calls recorded now, {} published{takeovers}",
        sight.value("astlogger_recordings_active"),
        sight.sum("astlogger_recordings_published_total"),
    )
}

fn row(call: &CallView) -> Row {
    let established = call.established.unwrap_or(call.started);
    let people: Vec<_> =
        call.parties.iter().filter(|party| !party.recorder).map(|p| p.number.as_str()).collect();
    Row {
        serial: call.serial,
        parties: people.join(" - "),
        duration: SystemTime::now().duration_since(established).unwrap_or_default(),
        recorded_by: call.recorders().join(", "),
    }
}
