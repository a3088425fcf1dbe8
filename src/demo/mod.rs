//! The demonstration: a whole site on loopback (one simulated switch with its AES in this process,
//! recorders and witness as real child processes, real RTP), calls, a fault, a live table, and a
//! judgement made from the files on disk. Which nodes there are is in `site`, which calls are made in
//! `script`, what breaks in `fault`, what is judged in `verdict`.

mod cti;
mod due;
mod fault;
mod node;
mod play;
mod script;
mod sight;
mod site;
mod table;
mod verdict;
mod voice;
mod wires;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use crate::command::{DemoOptions, Exit, Failure, Scenario, print_json};

pub use cti::{Cti, Heard};
pub use due::{DueCall, due_calls, due_to_the_end};
pub use node::{Metrics, Node, free_tcp_port, free_udp_ports, http_get};
pub use sight::{Eyes, Gaps, Sight};
pub use site::{
    GroupSite, Member, Place, Shape, in_words, is_quiet, leads_alone, recorder_settings,
    recordings_of, until,
};
pub use verdict::{Verdict, judge, judge_copies};
pub use voice::{Hole, Published, holes};
pub use wires::{Relay, Way, Wires};

use table::Table;

/// Voice files that are left to listen to, whatever else is removed.
const EXAMPLES: usize = 3;

/// What `demo --json` prints.
#[derive(Debug, Serialize)]
struct Outcome {
    scenario: &'static str,
    #[serde(flatten)]
    verdict: Verdict,
    ok: bool,
    /// Of `all`: each scenario's own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scenarios: Vec<Outcome>,
}

/// Plays a scenario, or each in turn, and judges it.
///
/// # Errors
/// If the site cannot be set up; a wrong outcome is no error but `Exit::NotSo`.
pub async fn run(options: DemoOptions) -> Result<Exit, Failure> {
    let outcome = tokio::select! {
        outcome = play_all(&options) => outcome,
        ended = told_to_end() => ended.and_then(|()| bail!("told to end before it was over")),
    };
    let outcome = outcome.map_err(|error| Failure::new(Exit::Unavailable, error))?;
    if options.json {
        print_json(&outcome)?;
    }
    Ok(if outcome.ok { Exit::Done } else { Exit::NotSo })
}

/// SIGTERM or SIGINT: the nodes must not live on without whoever started them.
async fn told_to_end() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

async fn play_all(options: &DemoOptions) -> Result<Outcome> {
    let mut table = Table::new();
    let base = options.dir.clone().unwrap_or_else(|| {
        std::env::temp_dir().join(format!("astlogger-demo-{}", std::process::id()))
    });
    if options.scenario != Scenario::All {
        let folder = Folder::make(&base, options.keep)?;
        return one(options, options.scenario, &folder, &mut table).await;
    }
    let mut scenarios = Vec::new();
    for scenario in Scenario::EACH {
        table.say(&format!("\n{}", scenario.name()));
        let folder = Folder::make(&base.join(scenario.name()), options.keep)?;
        scenarios.push(one(options, scenario, &folder, &mut table).await?);
    }
    table.say("");
    for outcome in &scenarios {
        let judged = if outcome.ok { "as it should be" } else { "NOT as it should be" };
        table.say(&format!("{:<14} {judged}", outcome.scenario));
    }
    let mut verdict = Verdict::default();
    for outcome in &scenarios {
        verdict.add(&outcome.verdict);
    }
    let ok = scenarios.iter().all(|outcome| outcome.ok);
    Ok(Outcome { scenario: Scenario::All.name(), verdict, ok, scenarios })
}

async fn one(
    options: &DemoOptions,
    scenario: Scenario,
    folder: &Folder,
    table: &mut Table,
) -> Result<Outcome> {
    table.say(&format!("The site is in {}", folder.path.display()));
    let (verdict, published) = play::play(options, scenario, &folder.path, table).await?;
    let ok = verdict.is_exactly_right();
    show(table, &verdict, &published, folder, ok);
    Ok(Outcome { scenario: scenario.name(), verdict, ok, scenarios: Vec::new() })
}

fn show(table: &mut Table, verdict: &Verdict, published: &[Published], folder: &Folder, ok: bool) {
    table.say(&format!(
        "{} of {} calls recorded, {} recordings in {} voice files, {} duplicates",
        verdict.calls_recorded,
        verdict.calls,
        verdict.recordings_published,
        verdict.voice_files,
        verdict.duplicate_recordings,
    ));
    table.say(&format!(
        "{} packets sent: {} in files, {} in declared gaps, {} unaccounted",
        verdict.packets_sent,
        verdict.packets_in_files,
        verdict.packets_in_declared_gaps,
        verdict.packets_unaccounted,
    ));
    if verdict.takeovers > 0 {
        table.say(&format!(
            "{} takeovers by the files, the longest hole in a call {} ms",
            verdict.takeovers, verdict.takeover_gap_ms_max,
        ));
    }
    for fault in verdict.faults.iter().take(20) {
        table.say(&format!("  wrong: {fault}"));
    }
    for (path, _) in published.iter().take(EXAMPLES) {
        match folder.keep_example(path) {
            Ok(example) => table.say(&format!("  listen: {}", example.display())),
            Err(error) => table.say(&format!("  {} cannot be kept: {error}", path.display())),
        }
    }
    table.say(if ok { "Everything is as it should be." } else { "This is NOT as it should be." });
}

/// Where the site's files are. At the end only the examples stay, unless everything is to.
struct Folder {
    path: PathBuf,
    stays: bool,
}

impl Folder {
    fn make(path: &Path, keep: bool) -> Result<Self> {
        std::fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path: path.canonicalize()?, stays: keep })
    }

    /// Copies a voice file and its record to where they stay.
    fn keep_example(&self, voice: &Path) -> Result<PathBuf> {
        let examples = self.path.join("examples");
        std::fs::create_dir_all(&examples)?;
        let example = examples.join(voice.file_name().context("a file has a name")?);
        std::fs::copy(voice, &example)?;
        std::fs::copy(voice.with_extension("json"), example.with_extension("json"))?;
        Ok(example)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.stays {
            for node in 1..=play::NODES_MAX {
                // What cannot be removed stays, which is no harm.
                drop(std::fs::remove_dir_all(self.path.join(format!("node{node}"))));
            }
        }
    }
}
