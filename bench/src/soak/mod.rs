//! `soak`: many calls and random faults every few seconds on an active, a backup and a witness, real
//! processes on loopback; then everything is repaired, and the files are judged as in the
//! demonstration. What breaks when is drawn from a seed (`plan`).

mod calls;
mod excuse;
mod hand;
mod plan;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use astlogger::demo::{self, GroupSite, Published, Shape, Sight, Verdict};
use clap::Parser;
use simulator::{FinishedCall, SiteConfig};

use crate::table::Table;
use excuse::{Outage, nobody_could};
use hand::Hand;
use plan::RECORDERS;

const READY_LIMIT: Duration = Duration::from_secs(60);
/// After the last call all is published within so long.
const SEALED_LIMIT: Duration = Duration::from_secs(180);
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// The last calls begin so long before the last fault.
const LAST_CALL: Duration = Duration::from_secs(10);
/// An AES takes so long for each request, milliseconds.
const AES_DELAY_MS: u64 = 20;
const TELL: Duration = Duration::from_secs(15);

/// How much and how long.
#[derive(Debug, Parser)]
pub struct Options {
    /// Calls in all; consultations come on top.
    #[arg(long, default_value_t = 1000)]
    calls: usize,
    /// How long things break.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// What breaks when, and how long calls are, is drawn from it; the time of day unless given.
    #[arg(long)]
    seed: Option<u64>,
    /// Calls at once at the most.
    #[arg(long, default_value_t = 80, value_parser = clap::value_parser!(u16).range(1..=200))]
    concurrent: u16,
    /// Where the nodes' folders are made; they are removed again if all is right.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// Leave them there in any case.
    #[arg(long)]
    keep: bool,
    /// The `astlogger` to run; the one beside this program unless given.
    #[arg(long)]
    binary: Option<PathBuf>,
}

/// What came out beside the verdict.
struct Outcome {
    verdict: Verdict,
    excused: Vec<u32>,
    incomplete: usize,
    struck: Vec<(&'static str, usize)>,
    settled: Duration,
}

/// Plays, judges and prints.
pub fn run(options: &Options) -> Result<()> {
    let binary = crate::binary(options.binary.as_deref())?;
    let seed = options.seed.unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since.unwrap_or_default().as_secs()
    });
    println!("seed {seed}");
    let folder = tempfile::Builder::new().prefix("soak").tempdir_in(&options.dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(soak(&binary, folder.path(), options, seed));
    let right = matches!(&outcome, Ok(outcome) if outcome.verdict.is_exactly_right());
    if options.keep || !right {
        println!("what the nodes left is in {}", folder.keep().display());
    }
    let outcome = outcome?;
    show(options, seed, &outcome);
    if !right {
        bail!("the files are not as they should be:\n{}", outcome.verdict.faults.join("\n"));
    }
    Ok(())
}

async fn soak(binary: &Path, folder: &Path, options: &Options, seed: u64) -> Result<Outcome> {
    let mut group = set_up(binary, folder, options).await?;
    let length = Duration::from_secs_f64(options.minutes * 60.0);
    let done = Arc::new(AtomicUsize::new(0));
    let site = group.site.clone();
    let telling = tell(Arc::clone(&done), options.calls);
    let mut hand = Hand::new(&mut group, binary, folder, seed)?;
    let many = (options.calls, usize::from(options.concurrent));
    let span = length.saturating_sub(LAST_CALL);
    let both = async {
        tokio::try_join!(calls::play(&site, many, span, seed, Arc::clone(&done)), hand.work(length))
    };
    let played = tokio::select! {
        played = both => played,
        () = telling => unreachable!("it tells for ever"),
    };
    let (outages, struck) = (hand.outages, hand.struck.into_iter().collect());
    played?;
    let begun = Instant::now();
    let settled = settle(&group).await;
    let took = begun.elapsed();
    let mut faults: Vec<_> = settled.err().map(|error| format!("{error:#}")).into_iter().collect();
    faults.extend(group.stop(STOP_LIMIT).await.err().map(|error| format!("{error:#}")));
    let stuck = group.site.stuck_phantoms();
    if !stuck.is_empty() {
        faults.push(format!("phantoms left in calls: {}", stuck.join(", ")));
    }
    let published = group.recordings()?;
    let history = group.site.history();
    group.site.stop().await;
    let excused = excused(&history, &published, &outages);
    let is_due = |call: &FinishedCall| call.answered && !excused.contains(&call.serial);
    let due = demo::due_to_the_end(&history, is_due);
    let mut verdict = demo::judge_copies(&due, &published, 1)?;
    verdict.faults.extend(faults);
    let incomplete = published.iter().filter(|(_, recording)| !recording.complete).count();
    Ok(Outcome { verdict, excused, incomplete, struck, settled: took })
}

async fn set_up(binary: &Path, folder: &Path, options: &Options) -> Result<GroupSite> {
    let concurrent = usize::from(options.concurrent);
    let stations = calls::stations_for(concurrent);
    let shape = Shape { wires: true, consoles: true, ..Shape::hot_standby(stations) };
    let mut config = SiteConfig::demo(stations, shape.recorders());
    // Each call needs one, each consultation another.
    for (index, range) in config.phantoms.iter_mut().enumerate() {
        let first = 78_001 + 500 * index;
        range.extensions = format!("{first}-{}", first + concurrent * 3 / 2 + 10);
    }
    let mut group = GroupSite::prepare(binary, folder, config, &shape).await?;
    for aes in 0..shape.recorders() {
        group.site.faults().delay_requests(aes, AES_DELAY_MS);
    }
    group.start(READY_LIMIT).await?;
    group.leads_steadily(RECORDERS[0], READY_LIMIT).await?;
    Ok(group)
}

/// Waits until nothing is recorded, sealed, owed or open any more.
async fn settle(group: &GroupSite) -> Result<()> {
    let owes = |sight: &Sight| sight.value("astlogger_captures_owed") > 0.0;
    group
        .until("no node owes a capture", SEALED_LIMIT, |seen| {
            demo::is_quiet(seen) && !seen.iter().any(owes)
        })
        .await?;
    group.quiet(SEALED_LIMIT).await.context("after the last capture")
}

/// Calls that nobody could record, and nobody did.
fn excused(history: &[FinishedCall], published: &[Published], outages: &[Outage]) -> Vec<u32> {
    let recorded = |call: &FinishedCall| {
        let own = |ucid: &String| {
            published.iter().any(|(_, one)| one.ucid.as_ref().is_some_and(|of| of.as_str() == ucid))
        };
        std::iter::once(&call.ucid).chain(&call.former_ucids).any(own)
    };
    let nobody = |call: &&FinishedCall| {
        call.established.is_some_and(|from| nobody_could(outages, &RECORDERS, from, call.ended))
    };
    let missed = history.iter().filter(|call| call.answered && !recorded(call));
    missed.filter(nobody).map(|call| call.serial).collect()
}

async fn tell(done: Arc<AtomicUsize>, calls: usize) {
    let begun = Instant::now();
    loop {
        tokio::time::sleep(TELL).await;
        let done = done.load(Ordering::Relaxed);
        eprintln!("  {:>4} s: {done} of {calls} calls are over", begun.elapsed().as_secs());
    }
}

fn show(options: &Options, seed: u64, outcome: &Outcome) {
    let verdict = &outcome.verdict;
    let mut faults = Table::new(["fault", "times"]);
    for (name, times) in &outcome.struck {
        faults.row(vec![(*name).to_owned(), times.to_string()]);
    }
    let mut table = Table::new(["soak", "measured"]);
    let mut row = |name: &str, value: String| table.row(vec![name.to_owned(), value]);
    let all: usize = outcome.struck.iter().map(|(_, times)| times).sum();
    row("faults", all.to_string());
    row("calls, consultations included", verdict.calls.to_string());
    row("recordings published", verdict.recordings_published.to_string());
    row("duplicates", verdict.duplicate_recordings.to_string());
    row("calls missed", verdict.calls_missed.to_string());
    row("calls that nobody could record", outcome.excused.len().to_string());
    row("packets sent", verdict.packets_sent.to_string());
    row("packets in files", verdict.packets_in_files.to_string());
    row("packets in declared gaps", verdict.packets_in_declared_gaps.to_string());
    row("packets unaccounted", verdict.packets_unaccounted.to_string());
    row("recordings called incomplete", outcome.incomplete.to_string());
    row("nothing owed after, s", format!("{:.1}", outcome.settled.as_secs_f32()));
    println!(
        "\nSoak: {} calls, {} minutes, seed {seed}\n\n{faults}\n{table}",
        options.calls, options.minutes
    );
}
