//! What goes to standard output. With `--json` its last line is one JSON object.

use std::io::Write;

use serde::Serialize;

use super::Failure;

/// Prints one JSON object as a line of its own.
///
/// # Errors
/// If it cannot be written.
pub fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    let line = serde_json::to_string(value)?;
    writeln!(std::io::stdout().lock(), "{line}")?;
    Ok(())
}

/// What a program reads of a command that failed.
#[derive(Serialize)]
struct Failed {
    ok: bool,
    exit: u8,
    error: String,
}

/// Says in JSON that the command failed.
pub(super) fn print_failure(failure: &Failure) {
    let failed = Failed { ok: false, exit: failure.exit.code(), error: failure.to_string() };
    // The reason is on standard error already; where standard output is closed, that must do.
    drop(print_json(&failed));
}
