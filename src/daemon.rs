//! Runs a node.

use crate::command::{Exit, Failure};
use crate::config::Config;

/// Runs a node until it is told to stop.
///
/// # Errors
/// Always: its parts are not put together yet.
pub async fn run(_config: Config) -> Result<Exit, Failure> {
    Err(Failure::new(Exit::Fault, anyhow::anyhow!("not wired yet")))
}
