//! Whether the ports of the configuration can be had, before anything else is started.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use super::{Finding, Verdict};
use crate::config::{Config, Console, Recorder, Web};
use crate::local;

/// A node that runs here says so at once.
const NODE_ANSWERS_WITHIN: Duration = Duration::from_secs(1);
/// So many ports are named in a finding; the rest is counted.
const NAMED_MAX: usize = 5;

/// All ports that a node opens.
pub(super) async fn examine(config: &Config) -> Vec<Finding> {
    let running = answers(&config.web).await;
    let mut findings = vec![tcp("web port", "al_listen", config.web.listen)];
    if let Some(Console::Tcp(address)) = &config.console {
        findings.push(tcp("console port", "al_consolelisten", *address));
    }
    if config.cluster.peers.len() > 1 {
        findings.push(tcp("cluster port", "al_clusterlisten", config.cluster.listen));
    }
    if let Some(recorder) = &config.recorder {
        findings.push(rtp(recorder));
    }
    if running {
        for finding in findings.iter_mut().filter(|finding| finding.verdict == Verdict::Fail) {
            finding.verdict = Verdict::Warn;
            finding.found.push_str(" (a node runs here already)");
            finding.remedy = Some("stop it before another one is started".to_owned());
        }
    }
    findings
}

fn tcp(check: &'static str, key: &'static str, address: SocketAddr) -> Finding {
    match TcpListener::bind(address) {
        Ok(_) => Finding::ok(check, format!("{address} is free")),
        Err(error) => {
            let found = format!("{address}: {}", reason(&error));
            Finding::fail(check, found, remedy(&error)).of(key)
        }
    }
}

fn rtp(recorder: &Recorder) -> Finding {
    const CHECK: &str = "RTP ports";
    let (address, ports) = (recorder.rtp_address, recorder.rtp_ports);
    let wanted: Vec<_> = (0..recorder.devices().len())
        .filter_map(|number| ports.pair(number))
        .flat_map(|rtp| [rtp, rtp + 1])
        .collect();
    let mut taken = Vec::new();
    for port in &wanted {
        match UdpSocket::bind((address, *port)) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {
                let found = format!("{address}: {}", reason(&error));
                return Finding::fail(CHECK, found, remedy(&error)).of("al_rtpaddress");
            }
            Err(_) => taken.push(*port),
        }
    }
    if taken.is_empty() {
        let last = wanted.last().copied().unwrap_or(ports.last);
        return Finding::ok(CHECK, format!("{address}, {}-{last} are free", ports.first));
    }
    let named: Vec<_> = taken.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    let more = match taken.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let found = format!("{address}: {}{more} cannot be opened", named.join(", "));
    Finding::fail(CHECK, found, "choose a range that nobody else uses").of("al_rtpports")
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => "somebody else has this port".to_owned(),
        ErrorKind::AddrNotAvailable => "no address of this machine".to_owned(),
        ErrorKind::PermissionDenied => "this user may not open this port".to_owned(),
        _ => error.to_string(),
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::AddrInUse => "find it with `ss -lntup`, or choose another port",
        ErrorKind::AddrNotAvailable => "see `ip address` for what this machine has",
        ErrorKind::PermissionDenied => "choose a port from 1024 on",
        _ => "choose another address or port",
    }
}

/// Whether a node of ours answers there.
async fn answers(web: &Web) -> bool {
    local::get(web, "/healthz", NODE_ANSWERS_WITHIN).await.is_ok_and(|answer| answer.status == 200)
}
