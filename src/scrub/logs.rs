//! Looks whether the lines of manifest and audit log are the ones that were written, once after each start and
//! once a day, and whenever somebody wants all read over. What is wrong with a line is [`storage::manifest_check`]'s
//! matter, and what lies in the voice folder the scrubber's.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use storage::manifest_check::{CheckError, check_lines};
use storage::verify::Fault;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::alarms::Alarm;
use crate::hub::Hub;

const EVERY: Duration = Duration::from_secs(24 * 3600);
/// A rest after so many lines: some thousand hashes take a millisecond.
const LINES_AT_ONCE: u64 = 1_000;
const REST: Duration = Duration::from_millis(5);
/// What is wrong is looked at once more after so long.
const AGAIN: Duration = Duration::from_secs(2);

/// Works until it is aborted.
pub async fn check_logs(datadir: PathBuf, hub: Arc<Hub>, mut asked: watch::Receiver<u64>) {
    loop {
        asked.mark_unchanged();
        let folder = datadir.clone();
        match spawn_blocking(move || check(&folder)).await {
            Ok(Ok(faults)) => hub.alarms.set(!faults.is_empty(), altered(&faults)),
            Ok(Err(error)) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "manifest and audit log cannot be checked now");
            }
            // A panic there has been reported by the runtime.
            Err(_) => return,
        }
        if let Ok(Err(_)) = timeout(EVERY, asked.changed()).await {
            return;
        }
    }
}

/// What is wrong, and still is after a moment: what is just being written is no fault.
fn check(folder: &Path) -> Result<Vec<Fault>, CheckError> {
    let faults = check_once(folder)?;
    if faults.is_empty() {
        return Ok(faults);
    }
    std::thread::sleep(AGAIN);
    check_once(folder)
}

fn check_once(folder: &Path) -> Result<Vec<Fault>, CheckError> {
    let mut lines = 0_u64;
    check_lines(folder, &mut || {
        lines += 1;
        if lines.is_multiple_of(LINES_AT_ONCE) {
            std::thread::sleep(REST);
        }
    })
}

fn altered(faults: &[Fault]) -> Alarm {
    let first = faults.first().map(|fault| format!("{} {}", fault.path.display(), fault.what));
    let more = match faults.len() {
        0 | 1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    Alarm {
        name: "logaltered",
        subject: String::new(),
        message: format!(
            "manifest or audit log is not as it was written: {}{more}",
            first.unwrap_or_default()
        ),
        remedy: "run astlogger verify, find out who did it, and put the folder back from a backup while the node is \
                 stopped",
    }
}
