//! What this machine and the AES have to offer, looked at before a node runs: each finding says
//! what was found and, where it is not good, which key it concerns and what to do. Nothing is
//! changed but the own limit of open files.

mod aes;
mod archive;
mod database;
mod disk;
mod encryption;
mod host;
mod ports;
mod ring;
mod tls;

use serde::Serialize;

use crate::config::Config;

pub use aes::{aes_login, connect_remedy};
pub use host::{leave_no_core_file, raise_file_limit};

/// Name of the check that asks the AES.
pub const AES: &str = "AES";

/// How good a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Works, and is not as it should be; or cannot be told.
    Warn,
    /// A node cannot run, or cannot record.
    Fail,
}

impl Verdict {
    /// The word that people see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// The outcome of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How good it is.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// The parameter it concerns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<&'static str>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    /// Of which nothing is to be done.
    #[must_use]
    pub fn new(check: &'static str, verdict: Verdict, found: impl Into<String>) -> Self {
        Self { check, verdict, found: found.into(), key: None, remedy: None }
    }

    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, Verdict::Ok, found)
    }

    fn warn(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..Self::new(check, Verdict::Warn, found) }
    }

    fn fail(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..Self::new(check, Verdict::Fail, found) }
    }

    fn of(mut self, key: &'static str) -> Self {
        self.key = Some(key);
        self
    }
}

/// Looks at everything, in the order in which a person would.
pub async fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = vec![disk::data_directory(config), disk::free_room(config)];
    findings.extend(ports::examine(config).await);
    findings.extend(tls::examine(config));
    findings.push(host::clock().await);
    findings.extend(host::examine(config));
    findings.extend(encryption::examine(config));
    findings.push(disk::users_file(config));
    findings.extend(database::examine(config).await);
    findings.extend(archive::examine(config).await);
    if config.recorder.is_some() {
        findings.push(phantoms_disjoint(config));
        findings.extend(ring::examine(config));
        findings.push(aes_login(config).await);
    }
    findings
}

/// The configuration has refused an overlap already; here it is said what was compared.
fn phantoms_disjoint(config: &Config) -> Finding {
    const CHECK: &str = "phantoms of the peers";
    let peers = config.recorder.as_ref().and_then(|recorder| recorder.peerphantoms.as_ref());
    match peers {
        Some(peers) => Finding::ok(CHECK, format!("{} known, none of them ours", peers.len())),
        None if config.cluster.peers.len() > 1 => Finding::warn(
            CHECK,
            "unknown: al_peerphantoms is not given, and no group tells them",
            "name the phantoms of the other nodes",
        )
        .of("al_peerphantoms"),
        None => Finding::ok(CHECK, "there are no peers"),
    }
}
