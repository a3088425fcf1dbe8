//! Where log lines go: to the journal with fields of their own where systemd has started the process, and as
//! text to standard error everywhere else. What is logged is decided where it is logged, and how much of
//! it by `AL_LOG`.

mod entry;
mod journal;

use std::io::IsTerminal;
use std::sync::OnceLock;

use nix::sys::stat::fstat;
use storage_core::NodeId;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use entry::Stamp;
use journal::{Journal, SOCKET};

/// Environment variable that says what is logged, such as `debug` or `recorder=trace,info`.
const LOG_VARIABLE: &str = "AL_LOG";
/// By it systemd says which file of a process is the journal's.
const JOURNAL_VARIABLE: &str = "JOURNAL_STREAM";

/// Of which node and epoch the lines of this process are.
static STAMP: Stamp = Stamp::new();
/// Whether they go to the journal.
static TO_JOURNAL: OnceLock<bool> = OnceLock::new();

/// Begins to log, as much as `AL_LOG` says, or else as much as `default` says.
pub fn start(default: &str) {
    let wanted = std::env::var(LOG_VARIABLE).unwrap_or_default();
    let (filter, wrong) = match EnvFilter::try_new(&wanted) {
        Ok(filter) if !wanted.trim().is_empty() => (filter, None),
        Ok(_) => (EnvFilter::new(default), None),
        Err(error) => (EnvFilter::new(default), Some(error)),
    };
    // A second subscriber is possible in tests only; the first one stays.
    let journal = is_the_journals().then(|| Journal::open(SOCKET.as_ref(), &STAMP));
    let _ = TO_JOURNAL.set(matches!(journal, Some(Ok(_))));
    match journal {
        Some(Ok(journal)) => {
            drop(tracing_subscriber::registry().with(filter).with(journal).try_init());
        }
        not_there => {
            let to_stderr = tracing_subscriber::fmt()
                .with_env_filter(filter)
                .with_writer(std::io::stderr)
                .with_ansi(std::io::stderr().is_terminal());
            drop(to_stderr.try_init());
            if let Some(Err(error)) = not_there {
                tracing::warn!(%error, "the journal takes no fields; logging as text");
            }
        }
    }
    if let Some(error) = wrong {
        tracing::warn!(%error, "{LOG_VARIABLE} cannot be understood; logging at {default}");
    }
}

/// From now on each line says that it is this node's.
pub fn is_node(node: NodeId) {
    STAMP.is_node(node);
}

/// From now on each line says that the group is in this epoch, as far as this node knows.
pub fn in_epoch(epoch: u64) {
    STAMP.in_epoch(epoch);
}

/// Says on standard error why a command has failed; to the journal as an error.
pub fn complain(failure: &str) {
    let text = format!("astlogger: {failure}");
    if TO_JOURNAL.get() == Some(&true) {
        // What stands before a line is its priority (sd-daemon(3)).
        text.lines().for_each(|line| eprintln!("<3>{line}"));
    } else {
        eprintln!("{text}");
    }
}

/// Whether standard error is the journal's, and not for example a file into which somebody has led it.
fn is_the_journals() -> bool {
    let Ok(told) = std::env::var(JOURNAL_VARIABLE) else { return false };
    let Ok(stderr) = fstat(std::io::stderr()) else { return false };
    is_stream(&told, stderr.st_dev, stderr.st_ino)
}

/// Whether `DEVICE:INODE` names this file.
fn is_stream(told: &str, device: u64, inode: u64) -> bool {
    told.split_once(':').is_some_and(|(told_device, told_inode)| {
        told_device.parse() == Ok(device) && told_inode.parse() == Ok(inode)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_into_which_standard_error_was_led_is_not_the_journal() {
        assert!(is_stream("8:33", 8, 33));
        for other in ["8:34", "9:33", "", "8", ":", "8:33:1", "8:x"] {
            assert!(!is_stream(other, 8, 33), "{other}");
        }
    }
}
