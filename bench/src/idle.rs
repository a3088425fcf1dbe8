//! `idle`: what a group of three costs that has nothing to do: real processes, phantoms registered,
//! stations monitored, no calls. Processor time is the kernel's, of each whole process.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use astlogger::demo::{GroupSite, Shape};
use clap::Parser;
use simulator::SiteConfig;
use storage_core::NodeId;
use tokio::time::{Instant, sleep};

use crate::kernel::{self, Run};
use crate::table::Table;

const READY_LIMIT: Duration = Duration::from_secs(60);
/// What a start leaves to do is done by then.
const SETTLE: Duration = Duration::from_secs(5);
/// Threads that cost less than this share of a core are not shown.
const SHOWN: f64 = 0.0002;

/// How long, and how much there is to keep registered.
#[derive(Debug, Parser)]
pub struct Options {
    /// How long.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Stations; each recorder has half as many phantoms more.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=250))]
    stations: u16,
    /// Where the nodes' folders are made and removed again.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// The `astlogger` to run; the one beside this program unless given.
    #[arg(long)]
    binary: Option<PathBuf>,
}

/// Measures and prints.
pub fn run(options: &Options) -> Result<()> {
    let binary = crate::binary(options.binary.as_deref())?;
    let folder = tempfile::Builder::new().prefix("idle-bench").tempdir_in(&options.dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let stations = usize::from(options.stations);
    runtime.block_on(async {
        let shape = Shape::hot_standby(stations);
        let config = SiteConfig::demo(stations, shape.recorders());
        let mut group = GroupSite::prepare(&binary, folder.path(), config, &shape).await?;
        group.start(READY_LIMIT).await?;
        group.leads_steadily(NodeId(1), READY_LIMIT).await?;
        sleep(SETTLE).await;
        let mut pids = BTreeMap::new();
        for (id, member) in &group.members {
            pids.insert(*id, member.node.pid().context("it runs")?);
        }
        let (before, begun) = (times(&pids)?, Instant::now());
        sleep(Duration::from_secs(options.seconds)).await;
        let (after, elapsed) = (times(&pids)?, begun.elapsed().as_secs_f64());
        show(&group, &before, &after, elapsed);
        group.stop(READY_LIMIT).await
    })
}

/// Of each process: all of it, and each thread by name.
type Times = BTreeMap<NodeId, (Duration, BTreeMap<String, Run>)>;

fn times(pids: &BTreeMap<NodeId, u32>) -> Result<Times> {
    let mut all = Times::new();
    for (node, pid) in pids {
        let mut threads = BTreeMap::<_, Run>::new();
        for (name, run) in kernel::threads_of(&pid.to_string())? {
            let all = threads.entry(name).or_default();
            (all.time, all.turns) = (all.time + run.time, all.turns + run.turns);
        }
        all.insert(*node, (kernel::process_time_of(*pid)?, threads));
    }
    Ok(all)
}

fn show(group: &GroupSite, before: &Times, after: &Times, elapsed: f64) {
    let share = |time: Duration| time.as_secs_f64() / elapsed;
    let percent = |share: f64| format!("{:.2}", share * 100.0);
    let mut table = Table::new(["node", "% of a core"]);
    let mut threads = Table::new(["thread", "% of a core", "turns a second"]);
    let mut sum = 0.0;
    for (node, (time, of_threads)) in after {
        let (time_before, threads_before) = &before[node];
        let used = share(time.saturating_sub(*time_before));
        sum += used;
        let role = group.members[node].role.as_str();
        table.row(vec![format!("{node}, {role}"), percent(used)]);
        for (name, run) in of_threads {
            let before = threads_before.get(name).copied().unwrap_or_default();
            let used = share(run.time.saturating_sub(before.time));
            let turns = run.turns.saturating_sub(before.turns) as f64 / elapsed;
            if used >= SHOWN {
                let thread = format!("{node}, {name}");
                threads.row(vec![thread, percent(used), format!("{turns:.0}")]);
            }
        }
    }
    table.row(vec!["all".to_owned(), percent(sum)]);
    println!("\nIdle: a group of three, {elapsed:.0} s without calls\n\n{table}\n{threads}");
}
