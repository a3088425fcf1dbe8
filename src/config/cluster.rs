//! The group's settings: who the members are, where they listen, how they know each other.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use storage_core::NodeId;

use super::reader::Reader;
use super::value::{self, HostPort};

/// Port for peers unless told otherwise.
pub(crate) const DEFAULT_PORT: u16 = 7400;
pub(super) const DEFAULT_HEARTBEAT: Duration = Duration::from_millis(50);
pub(super) const DEFAULT_ELECTION: Duration = Duration::from_millis(300);
/// A larger group would only be slower; more recorders of more sites are groups of their own.
const MEMBERS_MAX: usize = 16;

/// A certificate and its key, as files in PEM form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate chain, the own one first.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
    /// Certificates of those who may sign the other side's; only between peers.
    pub ca: Option<PathBuf>,
}

/// The group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// `al_nodeid`.
    pub nodeid: NodeId,
    /// `al_clusterlisten`; unused while there are no peers.
    pub listen: SocketAddr,
    /// `al_peers`: all members with this one; empty for a node alone.
    pub peers: BTreeMap<NodeId, HostPort>,
    /// `al_clustercert`, `al_clusterkey`, `al_clusterca`; absent only on loopback.
    pub tls: Option<TlsFiles>,
    /// `al_heartbeatms`.
    pub heartbeat: Duration,
    /// `al_electionms`.
    pub election: Duration,
}

pub(super) fn read(reader: &mut Reader) -> Cluster {
    let peers = read_peers(reader);
    let nodeid = read_nodeid(reader, &peers);
    let listen = read_listen(reader, peers.get(&nodeid));
    let tls = read_tls(reader, &peers);
    let heartbeat = reader.span("al_heartbeatms", 1, DEFAULT_HEARTBEAT, 10..=10_000);
    let election = reader.span("al_electionms", 1, DEFAULT_ELECTION, 50..=60_000);
    if election < heartbeat * 3 {
        let remedy = format!("al_electionms = {} or more", heartbeat.as_millis() * 3);
        reader.refuse_value("al_electionms", "at least three times al_heartbeatms", &remedy);
    }
    Cluster { nodeid, listen, peers, tls, heartbeat, election }
}

fn read_nodeid(reader: &mut Reader, peers: &BTreeMap<NodeId, HostPort>) -> NodeId {
    let given = reader.has("al_nodeid");
    let nodeid = NodeId(reader.number("al_nodeid", 1..=u16::MAX).unwrap_or(1));
    if !peers.is_empty() && !given {
        reader.refuse("al_nodeid", "is missing", "say which member of al_peers this one is");
    } else if !peers.is_empty() && !peers.contains_key(&nodeid) {
        reader.refuse_value("al_nodeid", "one of the members in al_peers", "add this member there");
    }
    nodeid
}

fn read_peers(reader: &mut Reader) -> BTreeMap<NodeId, HostPort> {
    const EXAMPLE: &str = "write al_peers = [\"1=10.0.0.1:7400\", \"2=10.0.0.2:7400\"]";
    let mut peers: BTreeMap<NodeId, HostPort> = BTreeMap::new();
    for entry in reader.list("al_peers").unwrap_or_default() {
        let Some((id, place)) = read_peer(&entry) else {
            let must_be = format!("a list of NUMBER=HOST:PORT; \"{entry}\" is not");
            reader.refuse_value("al_peers", &must_be, EXAMPLE);
            continue;
        };
        if peers.values().any(|known| *known == place) {
            let must_be = format!("a list of different places; {place} is named twice");
            reader.refuse_value("al_peers", &must_be, EXAMPLE);
        }
        if peers.insert(id, place).is_some() {
            let must_be = format!("a list of different members; {id} is named twice");
            reader.refuse_value("al_peers", &must_be, EXAMPLE);
        }
    }
    if peers.len() > MEMBERS_MAX {
        let must_be = format!("a list of {MEMBERS_MAX} members at most");
        reader.refuse_value("al_peers", &must_be, "make two groups");
    } else if peers.len() == 2 {
        reader.warn(
            "al_peers",
            "two members have no majority when one of them fails",
            "add a witness (al_serverrole = \"witness\") as the third",
        );
    }
    peers
}

/// One member: `NUMBER=HOST:PORT`, or without the port.
pub(crate) fn read_peer(entry: &str) -> Option<(NodeId, HostPort)> {
    let (id, place) = entry.split_once('=')?;
    let id = id.trim().parse().ok().filter(|id| *id > 0)?;
    Some((NodeId(id), value::host_port(place, DEFAULT_PORT).ok()?))
}

/// Where nothing is said, at this member's own address of `al_peers`, or, if that is a name, at
/// all addresses.
fn read_listen(reader: &mut Reader, own: Option<&HostPort>) -> SocketAddr {
    let anywhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let fallback = own.map_or(SocketAddr::new(anywhere, DEFAULT_PORT), |own| {
        SocketAddr::new(own.host.parse().unwrap_or(anywhere), own.port)
    });
    reader
        .parsed(
            "al_clusterlisten",
            |text| value::listen_address(text, DEFAULT_PORT),
            "write al_clusterlisten = \"0.0.0.0:7400\"",
        )
        .unwrap_or(fallback)
}

fn read_tls(reader: &mut Reader, peers: &BTreeMap<NodeId, HostPort>) -> Option<TlsFiles> {
    const KEYS: [&str; 3] = ["al_clustercert", "al_clusterkey", "al_clusterca"];
    let files = KEYS.map(|key| reader.path(key));
    if let [Some(cert), Some(key), Some(ca)] = &files {
        return Some(TlsFiles { cert: cert.clone(), key: key.clone(), ca: Some(ca.clone()) });
    }
    if files.iter().any(Option::is_some) {
        for (key, _) in KEYS.iter().zip(&files).filter(|(_, file)| file.is_none()) {
            reader.refuse(key, "is missing beside the others", "give all three or none");
        }
    } else if peers.values().any(|place| !place.is_loopback()) {
        let wrong = "is missing, and there are peers on other machines";
        let remedy =
            "peers speak mutual TLS only: give al_clustercert, al_clusterkey, al_clusterca";
        reader.refuse(KEYS[0], wrong, remedy);
    }
    None
}
