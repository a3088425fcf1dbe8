//! `astlogger demo`: the options of the demonstration. What is shown is in `crate::demo`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Exit, Failure};

/// What the demonstration plays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// One recorder, calls of all kinds
    #[default]
    Single,
    /// An agent starts trunk recording, and the caller is transferred
    Trunk,
}

/// Options of `demo`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Examples:\n  astlogger demo\n  astlogger demo --scenario trunk --calls 20 --dir /tmp/demo --keep\n\n\
    Ends with 0 only if every call is in the files as it should be."
)]
pub struct Options {
    /// What to play
    #[arg(long, value_enum, default_value_t)]
    pub scenario: Scenario,
    /// How many calls
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=2000))]
    pub calls: Option<u32>,
    /// How long to go on, in seconds
    #[arg(long, value_name = "T", value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub seconds: Option<u64>,
    /// Folder for everything that is written; a temporary one unless given
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Keep the folder when done
    #[arg(long)]
    pub keep: bool,
    /// Print one JSON object as the last line
    #[arg(long)]
    pub json: bool,
}

pub(super) async fn execute(options: Options) -> Result<Exit, Failure> {
    crate::demo::run(options).await
}
