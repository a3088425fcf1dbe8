//! `astlogger report`: what became of the calls of a day, as the node on this machine knows it for its
//! whole group.

use anyhow::anyhow;
use clap::Args;

use super::console::Place;
use super::{Exit, Failure};
use crate::completeness::day_named;

/// Options of `report`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  astlogger report --day 2026-11-27\n\n\
    Calls that were seen are held against recordings that were published: recorded, in part (with \
    what is missing and why), excluded by rule, or missed. Ends with 69 if no node runs here.")]
pub(super) struct Options {
    #[command(flatten)]
    place: Place,
    /// The day, in UTC; today if left out
    #[arg(long, value_name = "YYYY-MM-DD")]
    day: Option<String>,
    /// Print one JSON object as the last line
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) async fn execute(options: &Options) -> Result<Exit, Failure> {
    let mut command = "report".to_owned();
    if let Some(day) = &options.day {
        if day_named(day).is_none() {
            let error = anyhow!("--day {day:?} must be a day, written as 2026-11-27");
            return Err(Failure::new(Exit::Usage, error));
        }
        command += " ";
        command += day;
    }
    if options.json {
        command += " json";
    }
    options.place.one_shot(&command, false).await
}
