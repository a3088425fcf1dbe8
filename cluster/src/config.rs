//! What a member of a group is started with, and what is wrong with it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use cluster_core::{Patience, Ticks, TicksError};
use storage_core::{NodeId, Role};

use crate::tls::TlsFiles;

/// What a member is started with.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// `al_nodeid`.
    pub node: NodeId,
    /// `al_serverrole`.
    pub role: Role,
    /// `al_clusterlisten`, `HOST:PORT`.
    pub listen: String,
    /// `al_peers`: all members, this one too, with `HOST:PORT`.
    pub peers: BTreeMap<NodeId, String>,
    /// `al_clustercert`, `al_clusterkey`, `al_clusterca`; needed unless every peer is on loopback.
    pub tls: Option<TlsFiles>,
    /// `al_heartbeatms`.
    pub heartbeat: Duration,
    /// `al_electionms`.
    pub election: Duration,
    /// Folder for the group's log, below `al_datadir`.
    pub dir: PathBuf,
    /// `al_phantoms`.
    pub phantoms: Vec<String>,
    /// Version of the program, for people.
    pub program: String,
    /// How patient duty decisions are.
    pub patience: Patience,
}

/// What is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The node itself is not in the list.
    #[error("al_peers does not name node {0} (al_nodeid): list all members, this one too")]
    NotInPeers(NodeId),
    /// Nobody but this node is in the list.
    #[error("al_peers names this node alone: leave it empty for a single node")]
    Alone,
    /// An address cannot be used.
    #[error("{key}: {text:?} is not HOST:PORT")]
    Address {
        /// Where it stands.
        key: &'static str,
        /// What stands there.
        text: String,
    },
    /// Two members share an address.
    #[error("al_peers gives nodes {0} and {1} the same address {2}")]
    SameAddress(NodeId, NodeId, String),
    /// Peers on other hosts and no certificates.
    #[error(
        "peers that are not on loopback need al_clustercert, al_clusterkey and al_clusterca; \
         `astlogger cluster init` makes them ({0} is not on loopback)"
    )]
    TlsNeeded(String),
    /// The periods cannot work.
    #[error(transparent)]
    Ticks(#[from] TicksError),
}

impl GroupConfig {
    /// Checks what can be checked without touching anything.
    pub fn check(&self) -> Result<Ticks, ConfigError> {
        if !self.peers.contains_key(&self.node) {
            return Err(ConfigError::NotInPeers(self.node));
        }
        if self.peers.len() == 1 {
            return Err(ConfigError::Alone);
        }
        let mut seen: BTreeMap<&str, NodeId> = BTreeMap::new();
        for (node, address) in &self.peers {
            split_address("al_peers", address)?;
            if let Some(first) = seen.insert(address, *node) {
                return Err(ConfigError::SameAddress(first, *node, address.clone()));
            }
        }
        split_address("al_clusterlisten", &self.listen)?;
        if self.tls.is_none() {
            let outside = self.peers.values().chain([&self.listen]).find(|a| !loopback(a));
            if let Some(address) = outside {
                return Err(ConfigError::TlsNeeded(address.clone()));
            }
        }
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Ok(Ticks::new(millis(self.heartbeat), millis(self.election))?)
    }
}

fn split_address<'a>(key: &'static str, text: &'a str) -> Result<(&'a str, u16), ConfigError> {
    let wrong = || ConfigError::Address { key, text: text.to_owned() };
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().map_err(|_| wrong())?;
    if host.is_empty() { Err(wrong()) } else { Ok((host, port)) }
}

fn loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(peers: &[(u16, &str)]) -> GroupConfig {
        GroupConfig {
            node: NodeId(1),
            role: Role::Active,
            listen: "127.0.0.1:7400".into(),
            peers: peers.iter().map(|(n, a)| (NodeId(*n), (*a).to_owned())).collect(),
            tls: None,
            heartbeat: Duration::from_millis(50),
            election: Duration::from_millis(300),
            dir: PathBuf::from("/nowhere"),
            phantoms: Vec::new(),
            program: String::new(),
            patience: Patience::default(),
        }
    }

    #[test]
    fn mistakes_are_named_with_their_key() {
        let cases: [(&[(u16, &str)], &str); 6] = [
            (&[(2, "127.0.0.1:1"), (3, "127.0.0.1:2")], "does not name node 1"),
            (&[(1, "127.0.0.1:1")], "alone"),
            (&[(1, "127.0.0.1:1"), (2, "127.0.0.1")], "HOST:PORT"),
            (&[(1, "127.0.0.1:1"), (2, "127.0.0.1:1")], "same address"),
            (&[(1, "127.0.0.1:1"), (2, "10.0.0.2:1")], "al_clustercert"),
            (&[(1, "127.0.0.1:1"), (2, "[2001:db8::1]:1")], "al_clustercert"),
        ];
        for (peers, expected) in cases {
            let error = config(peers).check().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert!(config(&[(1, "127.0.0.1:1"), (2, "[::1]:1"), (3, "localhost:1")]).check().is_ok());
    }
}
