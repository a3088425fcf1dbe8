//! What the machine lets a recorder do: its clock, the kernel's limits, open files.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::process::Command;
use tokio::time::timeout;

use super::Finding;
use crate::config::{Config, Recorder};

/// The kernel's own default; with it a socket holds several seconds of G.711, and the receiver
/// looks at each many times a second.
const RECEIVE_BUFFER_MIN: u64 = 212_992;
const RECEIVE_BUFFER_FILE: &str = "/proc/sys/net/core/rmem_max";
const EPHEMERAL_PORTS_FILE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// Made by systemd-timesyncd once the clock is right.
const TIMESYNC_FLAG: &str = "/run/systemd/timesync/synchronized";
const TIMEDATECTL_TIMEOUT: Duration = Duration::from_secs(2);
/// Open files beside the phantoms' sockets: web clients, journals, catalog, peers.
const OTHER_FILES: u64 = 1024;

/// Limits of the kernel and of this process.
pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = vec![open_files(config)];
    if let Some(recorder) = &config.recorder {
        findings.push(receive_buffer());
        findings.extend(ephemeral_ports(recorder));
    }
    findings
}

/// Whether something keeps the clock right. The kernel's own word (`adjtimex`) cannot be had
/// without unsafe code, so timedated is asked, which passes it on.
pub(super) async fn clock() -> Finding {
    const CHECK: &str = "clock";
    if Path::new(TIMESYNC_FLAG).exists() {
        return Finding::ok(CHECK, "synchronised by systemd-timesyncd");
    }
    let mut timedatectl = Command::new("timedatectl");
    let asked = timedatectl.args(["show", "--property=NTPSynchronized", "--value"]);
    let answer = timeout(TIMEDATECTL_TIMEOUT, asked.kill_on_drop(true).output()).await;
    let answer = answer.ok().and_then(Result::ok).filter(|output| output.status.success());
    match answer.as_ref().map(|output| output.stdout.trim_ascii()) {
        Some(b"yes") => Finding::ok(CHECK, "synchronised"),
        Some(b"no") => {
            let remedy = "enable systemd-timesyncd or chrony: recordings bear this clock's time";
            Finding::warn(CHECK, "not synchronised", remedy)
        }
        _ => {
            let remedy = "make sure that systemd-timesyncd or chrony runs on this host";
            Finding::warn(CHECK, "unknown: timedated does not answer", remedy)
        }
    }
}

fn receive_buffer() -> Finding {
    const CHECK: &str = "socket buffers";
    let text = fs::read_to_string(RECEIVE_BUFFER_FILE).unwrap_or_default();
    let value: Option<u64> = text.trim().parse().ok();
    match value {
        Some(value) if value >= RECEIVE_BUFFER_MIN => {
            Finding::ok(CHECK, format!("net.core.rmem_max is {value}"))
        }
        Some(value) => {
            let found = format!("net.core.rmem_max is only {value}");
            Finding::warn(CHECK, found, format!("sysctl -w net.core.rmem_max={RECEIVE_BUFFER_MIN}"))
        }
        None => Finding::warn(CHECK, "net.core.rmem_max cannot be read", "look with `sysctl`"),
    }
}

/// The kernel may give away a port of a range that it also uses for outgoing connections.
fn ephemeral_ports(recorder: &Recorder) -> Option<Finding> {
    let text = fs::read_to_string(EPHEMERAL_PORTS_FILE).ok()?;
    let mut numbers = text.split_whitespace().filter_map(|word| word.parse::<u16>().ok());
    let (first, last) = (numbers.next()?, numbers.next()?);
    let ports = recorder.rtp_ports;
    if ports.last < first || ports.first > last {
        return None;
    }
    let found = format!(
        "{}-{} lies in the kernel's own range {first}-{last}; any program may be given one of them",
        ports.first, ports.last
    );
    let finding = Finding::warn("RTP port range", found, "choose a range outside of it");
    Some(finding.of("al_rtpports"))
}

/// Open files that a node with this configuration may need.
fn files_needed(config: &Config) -> u64 {
    let phantoms = config.recorder.as_ref().map_or(0, |recorder| recorder.devices().len());
    OTHER_FILES + 2 * phantoms as u64
}

fn open_files(config: &Config) -> Finding {
    const CHECK: &str = "open files";
    let needed = files_needed(config);
    match raise_file_limit(config) {
        Ok(limit) if limit >= needed => Finding::ok(CHECK, format!("{limit} allowed")),
        Ok(limit) => {
            let found = format!("{limit} allowed, up to {needed} needed");
            Finding::fail(CHECK, found, format!("LimitNOFILE={needed} in the unit, or `ulimit -n`"))
        }
        Err(error) => {
            let found = format!("the limit cannot be told: {error}");
            Finding::warn(CHECK, found, "look with `ulimit -n`")
        }
    }
}

/// No file of this process's memory is written should it crash: keys of encrypted media may be in
/// it.
///
/// # Errors
/// If the limit cannot be read or set.
pub fn leave_no_core_file() -> nix::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_CORE)?;
    setrlimit(Resource::RLIMIT_CORE, 0, hard)
}

/// Raises this process's limit of open files to what the configuration needs, as far as the hard
/// limit lets it; a node calls it at start. Returns the limit that then holds.
///
/// # Errors
/// If the limits cannot be read or set.
pub fn raise_file_limit(config: &Config) -> nix::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = files_needed(config).min(hard);
    if soft >= wanted {
        return Ok(soft);
    }
    setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)?;
    Ok(wanted)
}
