//! `astlogger run`: read the configuration, say what is worth knowing, run the node.

use std::path::PathBuf;

use clap::Args;

use super::{Exit, Failure};
use crate::config::{Config, DEFAULT_FILE};

/// Options of `run`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  astlogger run --config /etc/astlogger/astlogger.toml --role active\n\n\
    Every parameter can also be given as an environment variable: AL_SERVERROLE=backup. \
    AL_LOG=debug logs more."
)]
pub(super) struct Options {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    config: PathBuf,
    /// Role instead of the one in the file: active, backup, parallel or witness
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
}

pub(super) async fn execute(options: Options) -> Result<Exit, Failure> {
    let config = Config::load(&options.config, options.role.as_deref())?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    crate::daemon::run(config).await
}
