//! `fetch`: many people fetch voice files from a node that records calls at the same time, beside a program that
//! does nothing but hand out the same files (`sendfile`). What is measured: bytes a second, the memory of the node
//! for each fetch, whether its calls lost a packet, and how long an hour's audio takes to begin. How the site is
//! laid is `site`'s matter, how a client reads `client`'s, how people wait in a browser `browser`'s.

mod browser;
mod client;
mod reference;
mod site;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;

use crate::stats::{median, percentile};
use crate::table::Table;
use browser::Waits;
use client::Loaded;
pub use client::{Target, range};
pub use reference::ServeOptions;
pub use reference::run as serve;
use site::Stage;
pub use site::{PASSWORD, token};

/// How often the beginning of audio is timed, at each place.
const STARTS: usize = 30;

/// What is measured.
#[derive(Debug, Parser)]
pub struct Options {
    /// Fetches at the same time.
    #[arg(long, default_value_t = 200)]
    fetches: usize,
    /// Calls that are recorded meanwhile.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=250))]
    calls: u16,
    /// How long each of the two is fetched from, each round.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Rounds; medians are shown.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Recordings that are fetched, ten minutes each.
    #[arg(long, default_value_t = 40)]
    recordings: usize,
    /// Where the node's folder is made and removed again.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// The `astlogger` to run; the one beside this program unless given.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// How long people wait for audio in a Chromium, too; `./setup tests` installs it.
    #[arg(long)]
    browser: bool,
}

/// Measures and prints.
pub fn run(options: &Options) -> Result<()> {
    crate::kernel::raise_file_limit()?;
    let binary = crate::binary(options.binary.as_deref())?;
    let folder = tempfile::Builder::new().prefix("fetch-bench").tempdir_in(&options.dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut stage = Stage::set_up(&binary, folder.path(), options).await?;
        let quiet = starts(&stage).await?;
        let (mut node, mut plain) = (Vec::new(), Vec::new());
        let mut busy = Vec::new();
        for round in 0..options.rounds {
            // Whoever comes second may find more in the page cache: they take turns.
            for turn in 0..2 {
                if (round + turn) % 2 == 0 {
                    let (loaded, begun) = tokio::join!(
                        stage.load(stage.node_target(), options),
                        starts_under_load(&stage, options)
                    );
                    node.push(loaded?);
                    busy.push(begun?);
                } else {
                    plain.push(stage.load(stage.plain_target(), options).await?);
                }
            }
        }
        show(options, &node, &plain);
        show_starts(&quiet, &busy);
        if options.browser {
            show_waits(&stage.waits().await?);
        }
        stage.tear_down().await
    })
}

/// How long audio of an hour takes to begin, milliseconds: from its begin, and from its middle.
struct Starts {
    begin: Vec<f64>,
    middle: Vec<f64>,
}

async fn starts(stage: &Stage) -> Result<Starts> {
    let target = stage.node_target();
    let mut starts = Starts { begin: Vec::new(), middle: Vec::new() };
    for _ in 0..STARTS {
        starts.begin.push(client::first_byte(target, stage.hour(), 0).await?);
        starts.middle.push(client::first_byte(target, stage.hour(), site::HOUR_MIDDLE).await?);
    }
    Ok(starts)
}

/// The same while others fetch; it ends before they do.
async fn starts_under_load(stage: &Stage, options: &Options) -> Result<Starts> {
    tokio::time::sleep(Duration::from_secs(options.seconds) / 4).await;
    let half = Duration::from_secs(options.seconds) / 2;
    tokio::time::timeout(half, starts(stage))
        .await
        .unwrap_or_else(|_| anyhow::bail!("audio of an hour does not begin while others fetch"))
}

fn show(options: &Options, node: &[Loaded], plain: &[Loaded]) {
    let middle =
        |loads: &[Loaded], of: fn(&Loaded) -> f64| median(loads.iter().map(of)).unwrap_or(0.0);
    let rate: fn(&Loaded) -> f64 =
        |loaded| loaded.bytes as f64 / loaded.elapsed.as_secs_f64() / 1e6;
    let cpu: fn(&Loaded) -> f64 = |loaded| loaded.cpu.as_secs_f64() / (loaded.bytes as f64 / 1e9);
    let memory: fn(&Loaded) -> f64 = |loaded| loaded.grown as f64 / 1024.0;
    let mut table = Table::new(["from", "MB/s", "ratio", "CPU s/GB", "KiB a fetch"]);
    let of_plain = middle(plain, rate);
    for (name, loads) in [("node, recording", node), ("bare sendfile", plain)] {
        table.row(vec![
            name.to_owned(),
            format!("{:.0}", middle(loads, rate)),
            format!("{:.2}", middle(loads, rate) / of_plain),
            format!("{:.2}", middle(loads, cpu)),
            format!("{:.0}", middle(loads, memory) / options.fetches as f64),
        ]);
    }
    println!(
        "\nFetching: {} at once, {} calls recorded meanwhile\n\n{table}",
        options.fetches, options.calls
    );
}

fn show_waits(waits: &Waits) {
    let mut table = Table::new(["in a browser, of an hour", "median ms", "worst ms"]);
    let mut row = |name: &str, times: &[f64]| {
        let worst = times.iter().copied().fold(0.0, f64::max);
        let median = median(times.iter().copied()).unwrap_or(0.0);
        table.row(vec![name.to_owned(), format!("{median:.0}"), format!("{worst:.0}")]);
    };
    row("from the click on Play until it sounds", &waits.begin);
    row("from the click into its middle until it sounds there", &waits.middle);
    row("for a second that the browser has already", &waits.at_hand);
    println!("{table}");
}

fn show_starts(quiet: &Starts, busy: &[Starts]) {
    let mut table = Table::new(["audio of an hour begins", "median ms", "p99 ms"]);
    let mut row = |name: &str, times: Vec<f64>| {
        let p99 = percentile(times.iter().copied(), 0.99).unwrap_or(0.0);
        let median = median(times).unwrap_or(0.0);
        table.row(vec![name.to_owned(), format!("{median:.1}"), format!("{p99:.1}")]);
    };
    row("at its begin", quiet.begin.clone());
    row("at its middle", quiet.middle.clone());
    row(
        "at its begin, while all fetch",
        busy.iter().flat_map(|starts| starts.begin.clone()).collect(),
    );
    row(
        "at its middle, while all fetch",
        busy.iter().flat_map(|starts| starts.middle.clone()).collect(),
    );
    println!("{table}");
}
