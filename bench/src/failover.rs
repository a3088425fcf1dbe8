//! `failover`: how much audio of calls in progress is missing when the lead fails. Real processes on
//! loopback, a simulated switch whose AES take some time for each request, and the holes as the
//! published files declare them, held against the time codes that are really missing. The recorders
//! take turns: whoever leads is struck, the other takes all calls over, the first is repaired.

mod holes;
mod stage;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};

use crate::stats::{median, percentile};
use crate::table::Table;
use holes::Holes;
use stage::Stage;

/// What is measured.
#[derive(Debug, Parser)]
pub struct Options {
    /// Takeovers per fault.
    #[arg(long, default_value_t = 50)]
    takeovers: usize,
    /// Calls in progress.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=300))]
    calls: u16,
    /// Takeovers that the same calls go through before they end and others begin.
    #[arg(long, default_value_t = 5)]
    each: usize,
    /// Milliseconds that an AES takes for each request.
    #[arg(long, default_value_t = 20)]
    delay: u64,
    /// Whoever stands by keeps a ring (`al_standbyring`).
    #[arg(long)]
    ring: bool,
    /// What happens to the lead.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Fault::ALL)]
    faults: Vec<Fault>,
    /// Where the nodes' folders are made and removed again; a disk, not memory.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// The `astlogger` to run; the one beside this program unless given.
    #[arg(long)]
    binary: Option<PathBuf>,
}

/// What happens to the lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Fault {
    /// `kill -9`: its sockets are reset.
    Killed,
    /// SIGSTOP: its sockets stay open and nobody answers; it never goes on.
    Hangs,
    /// The connection to its AES is reset and refused.
    AesCut,
    /// SIGTERM: it hands over and ends.
    Planned,
    /// The host is gone: nothing comes from it any more, nothing is closed.
    HostGone,
}

impl Fault {
    const ALL: [Self; 5] = [Self::Killed, Self::Hangs, Self::AesCut, Self::Planned, Self::HostGone];

    const fn name(self) -> &'static str {
        match self {
            Self::Killed => "process killed",
            Self::Hangs => "process hangs",
            Self::AesCut => "AES link cut",
            Self::Planned => "planned hand-over",
            Self::HostGone => "host gone",
        }
    }
}

/// Measures and prints.
pub fn run(options: &Options) -> Result<()> {
    let binary = crate::binary(options.binary.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut table = Table::new([
        "fault",
        "takeovers",
        "calls hit",
        "no hole",
        "median ms",
        "p99 ms",
        "max ms",
        "declared wrong",
    ]);
    let mut wrong = Vec::new();
    for fault in &options.faults {
        let folder = tempfile::Builder::new().prefix("failover-bench").tempdir_in(&options.dir)?;
        let measured = runtime.block_on(async {
            let mut stage = Stage::set_up(&binary, folder.path(), *fault, options).await?;
            let measured = stage.measure(options).await;
            // What the nodes say of it is worth more than where they said it.
            measured.with_context(|| stage.log_tails())
        });
        let holes = measured.with_context(|| fault.name())?;
        table.row(row(*fault, &holes));
        wrong.extend(holes.faults.iter().map(|text| format!("{}: {text}", fault.name())));
    }
    println!(
        "\nFailover: {} calls in progress, each AES request answered {} ms later{}\n\n{table}",
        options.calls,
        options.delay,
        if options.ring { ", with a standby ring" } else { "" },
    );
    // A short hole in a wrong file is no result.
    if !wrong.is_empty() {
        bail!("the files are not as they should be:\n{}", wrong.join("\n"));
    }
    Ok(())
}

fn row(fault: Fault, holes: &Holes) -> Vec<String> {
    let declared = || holes.declared_ms.iter().map(|ms| *ms as f64);
    let ms = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.0}"));
    vec![
        fault.name().to_owned(),
        holes.takeovers.to_string(),
        holes.declared_ms.len().to_string(),
        holes.declared_ms.iter().filter(|ms| **ms == 0).count().to_string(),
        ms(median(declared())),
        ms(percentile(declared(), 0.99)),
        ms(percentile(declared(), 1.0)),
        holes.mismatches.to_string(),
    ]
}
