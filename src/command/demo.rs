//! `astlogger demo`: the options of the demonstration. What is shown is in `crate::demo`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Exit, Failure};

/// What the demonstration plays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Active and backup: the active is killed mid-call and comes back; one file per call
    #[default]
    HotStandby,
    /// As hot-standby, with a standby ring: one file per call, and nothing is missing
    ZeroHole,
    /// Active and parallel: the active is killed; two files per call
    ActiveActive,
    /// An agent starts trunk recording, the caller is transferred, the recorder killed
    Trunk,
    /// The active is cut off from the other members, but not from its AES
    Partition,
    /// The active loses its AES for some seconds
    AesDown,
    /// One recorder, calls of all kinds
    Single,
    /// Each in turn
    All,
}

impl Scenario {
    /// All that can be played by themselves.
    pub const EACH: [Self; 7] = [
        Self::HotStandby,
        Self::ZeroHole,
        Self::ActiveActive,
        Self::Trunk,
        Self::Partition,
        Self::AesDown,
        Self::Single,
    ];

    /// Name as on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HotStandby => "hot-standby",
            Self::ZeroHole => "zero-hole",
            Self::ActiveActive => "active-active",
            Self::Trunk => "trunk",
            Self::Partition => "partition",
            Self::AesDown => "aes-down",
            Self::Single => "single",
            Self::All => "all",
        }
    }
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
    /// How long to go on, in seconds; longer where a recorder takes longer to come back
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_command_line() {
        for scenario in Scenario::EACH.into_iter().chain([Scenario::All]) {
            let value = scenario.to_possible_value().unwrap();
            assert_eq!(value.get_name(), scenario.name());
        }
    }
}
