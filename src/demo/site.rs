//! Who runs: one simulated switch with an AES for each recorder, and the nodes as child processes,
//! each with a configuration and a folder of its own. It starts, breaks and repairs them when told
//! to, and judges nothing.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use simulator::{Site, SiteConfig};
use storage_core::{NodeId, Role};
use tokio::time::{Instant, sleep};

use super::node::{Node, free_tcp_port, free_udp_ports, recordings_in};
use super::sight::{Eyes, Sight};
use super::voice::Published;
use super::wires::{Relay, Way, Wires};

const POLL: Duration = Duration::from_millis(20);
/// A recording on its way from one queue to the next is counted nowhere for a moment, so it must
/// be quiet for so long.
const QUIET_FOR: Duration = Duration::from_millis(500);
/// The first decisions of a group fall within less.
const STEADY_FOR: Duration = Duration::from_millis(1_500);
/// Where members find each other, plus the member's number; behind doors they listen elsewhere.
const DOOR_PORT: u16 = 7400;
const REAL_PORT: u16 = 7500;
/// Where the first recorder receives, and how many ports each may have.
const RTP_PORT: u16 = 20_000;
const RTP_PORTS_EACH: u16 = 1_000;

/// What a group consists of.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Roles of the nodes 1, 2, 3, …
    pub roles: Vec<Role>,
    /// How many of the switch's stations are monitored.
    pub stations: usize,
    /// More lines of the recorders' configuration.
    pub settings: String,
    /// Whether there are ways between the members that can be cut.
    pub wires: bool,
    /// Whether there are ways to the AES that can be stalled.
    pub relays: bool,
    /// Where the nodes 1, 2, 3, … run; empty: all on loopback.
    pub places: Vec<Place>,
    /// Whether the nodes have consoles: `console` in each one's folder.
    pub consoles: bool,
}

/// Where a node runs that has a host of its own.
#[derive(Clone, Debug)]
pub struct Place {
    /// What is started as the node's process, and becomes it.
    pub binary: PathBuf,
    /// Where its web page is reached.
    pub web: SocketAddr,
    /// Where its peers reach it.
    pub peers: SocketAddr,
    /// Where it receives audio.
    pub rtp: IpAddr,
    /// More lines of its configuration.
    pub settings: String,
}

impl Shape {
    /// Active, backup and witness, connected directly.
    #[must_use]
    pub fn hot_standby(stations: usize) -> Self {
        let roles = vec![Role::Active, Role::Backup, Role::Witness];
        Self {
            roles,
            stations,
            settings: String::new(),
            wires: false,
            relays: false,
            places: Vec::new(),
            consoles: false,
        }
    }

    /// Active, parallel and witness.
    #[must_use]
    pub fn active_active(stations: usize) -> Self {
        let roles = vec![Role::Active, Role::Parallel, Role::Witness];
        Self { roles, ..Self::hot_standby(stations) }
    }

    /// How many AES there must be.
    #[must_use]
    pub fn recorders(&self) -> usize {
        self.roles.iter().filter(|role| **role != Role::Witness).count()
    }
}

/// A node of the group.
#[derive(Debug)]
pub struct Member {
    /// What it is configured for.
    pub role: Role,
    /// The AES that it is attached to.
    pub aes: Option<usize>,
    /// Its process.
    pub node: Node,
}

/// A site with a group of nodes.
pub struct GroupSite {
    /// The switch.
    pub site: Site,
    /// The nodes.
    pub members: BTreeMap<NodeId, Member>,
    wires: Option<Wires>,
    relays: Vec<Relay>,
}

impl GroupSite {
    /// Starts the switch and writes the nodes' configurations into `dir`; no node is started.
    ///
    /// # Errors
    /// If there are not enough ports, or the folder cannot be written.
    pub async fn prepare(
        binary: &Path,
        dir: &Path,
        config: SiteConfig,
        shape: &Shape,
    ) -> Result<Self> {
        let site = Site::start(config).await?;
        let mut relays = Vec::new();
        if shape.relays {
            for aes in 0..shape.recorders() {
                relays.push(Relay::open(site.aes_address(aes)).await?);
            }
        }
        let ids = || (1..).map(NodeId).take(shape.roles.len());
        let mut places = shape.places.clone();
        if places.is_empty() {
            places = loopback_places(binary, shape.roles.len())?;
        }
        let doors: BTreeMap<_, _> = ids()
            .zip(&places)
            .map(|(id, place)| (id, (place.peers, (place.peers.ip(), REAL_PORT + id.0).into())))
            .collect();
        let wires = if shape.wires { Some(Wires::open(&doors).await?) } else { None };
        let peers: Vec<_> =
            doors.iter().map(|(id, (door, _))| format!("\"{id}={door}\"")).collect();
        let mut members = BTreeMap::new();
        let mut free_aes = 0..;
        for ((id, &role), place) in ids().zip(&shape.roles).zip(&places) {
            let aes = if role == Role::Witness { None } else { free_aes.next() };
            let listen = if shape.wires { doors[&id].1 } else { doors[&id].0 };
            let mut settings = format!("al_nodeid = {id}\nal_serverrole = \"{}\"\n", role.as_str());
            if peers.len() > 1 {
                settings += &format!(
                    "al_peers = [{}]\nal_clusterlisten = \"{listen}\"\n",
                    peers.join(", ")
                );
            }
            let folder = dir.join(format!("node{id}"));
            if shape.consoles {
                let socket = folder.join("console").display().to_string();
                settings += &format!("al_consolelisten = {}\n", toml::Value::from(socket));
            }
            if let Some(aes) = aes {
                let address = relays.get(aes).map_or(site.aes_address(aes), Relay::address);
                // On an address of our own nobody else is after the same ports.
                let rtp = (place.rtp, RTP_PORT + RTP_PORTS_EACH * u16::try_from(aes)?);
                settings += &recorder_lines(&site, aes, address, shape.stations, rtp)?;
                settings += &shape.settings;
            }
            settings += &place.settings;
            let node = Node::prepare_at(&place.binary, &folder, place.web, &settings)?;
            members.insert(id, Member { role, aes, node });
        }
        Ok(Self { site, members, wires, relays })
    }

    /// Gives all nodes the users of the first.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn share_users(&self) -> Result<()> {
        let mut paths = self.members.values().map(|member| member.node.users_path());
        let first = paths.next().context("a group has members")?;
        for path in paths {
            std::fs::copy(&first, path)?;
        }
        Ok(())
    }

    /// Starts all nodes that do not run, and waits until each is ready.
    ///
    /// # Errors
    /// If one ends, or is not ready in time.
    pub async fn start(&mut self, limit: Duration) -> Result<()> {
        for member in self.members.values_mut().filter(|member| !member.node.runs()) {
            member.node.start()?;
        }
        for (id, member) in &mut self.members {
            member.node.ready(limit).await.with_context(|| format!("node {id}"))?;
        }
        Ok(())
    }

    /// A node.
    ///
    /// # Errors
    /// If there is none of that number.
    pub fn member(&mut self, node: NodeId) -> Result<&mut Member> {
        self.members.get_mut(&node).with_context(|| format!("there is no node {node}"))
    }

    /// The phantoms of a node; none of a witness.
    ///
    /// # Errors
    /// If the switch's configuration cannot be read, which was read when it started.
    pub fn phantoms_of(&self, node: NodeId) -> Result<Vec<String>> {
        let aes = self.members.get(&node).and_then(|member| member.aes);
        aes.map_or_else(|| Ok(Vec::new()), |aes| phantoms_of(&self.site, aes))
    }

    /// Whoever looks at the nodes.
    #[must_use]
    pub fn eyes(&self) -> Eyes {
        let nodes = self.members.iter().map(|(id, member)| (*id, member.role, member.node.web()));
        Eyes { nodes: nodes.collect() }
    }

    /// Changes the ways between a member and the others. Nothing happens without wires.
    pub fn isolate(&self, node: NodeId, way: Way) {
        if let Some(wires) = &self.wires {
            wires.isolate(node, way);
        }
    }

    /// Changes both ways between two members. Nothing happens without wires.
    pub fn part(&self, one: NodeId, two: NodeId, way: Way) {
        if let Some(wires) = &self.wires {
            wires.set(|from, to| (from, to) == (one, two) || (from, to) == (two, one), way);
        }
    }

    /// Changes the way to an AES. Nothing happens without relays.
    pub fn set_aes_way(&self, aes: usize, way: Way) {
        if let Some(relay) = self.relays.get(aes) {
            relay.set(way);
        }
    }

    /// Waits until what is seen of the nodes is as wished.
    ///
    /// # Errors
    /// If it is not in time; with what was seen last.
    pub async fn until(
        &self,
        what: &str,
        limit: Duration,
        holds: impl Fn(&[Sight]) -> bool,
    ) -> Result<()> {
        until(&self.eyes(), what, limit, holds).await
    }

    /// Waits until this node leads recording and no other says that it does.
    ///
    /// # Errors
    /// If it does not in time.
    pub async fn leads(&self, node: NodeId, limit: Duration) -> Result<()> {
        self.until(&format!("node {node} alone leads"), limit, |seen| leads_alone(seen, node)).await
    }

    /// The same, and that it stays so: a group that has just been started may think again.
    ///
    /// # Errors
    /// If it does not in time.
    pub async fn leads_steadily(&self, node: NodeId, limit: Duration) -> Result<()> {
        let since = Cell::new(None);
        let steady = |seen: &[Sight]| {
            if !leads_alone(seen, node) {
                since.set(None);
                return false;
            }
            let begun = since.get().unwrap_or_else(Instant::now);
            since.set(Some(begun));
            begun.elapsed() >= STEADY_FOR
        };
        self.until(&format!("node {node} alone leads steadily"), limit, steady).await
    }

    /// Waits until no call is up, nothing is recorded and nothing waits to be sealed or listed.
    ///
    /// # Errors
    /// If it is not so in time.
    pub async fn quiet(&self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        let mut quiet_since = None;
        loop {
            let seen = self.eyes().look().await;
            if is_quiet(&seen) && self.site.calls().is_empty() {
                let since = *quiet_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= QUIET_FOR {
                    return Ok(());
                }
            } else {
                quiet_since = None;
            }
            if Instant::now() > deadline {
                bail!("not quiet: {}", in_words(&seen));
            }
            sleep(POLL).await;
        }
    }

    /// Ends all nodes in order, witnesses last, so that each can still ask the group.
    ///
    /// # Errors
    /// If one does not end as it should; the others are ended all the same.
    pub async fn stop(&mut self, limit: Duration) -> Result<()> {
        let mut failed = Ok(());
        for witness in [false, true] {
            for (id, member) in &mut self.members {
                if (member.role == Role::Witness) == witness {
                    let stopped = member.node.stop(limit).await;
                    failed = failed.and(stopped.with_context(|| format!("node {id}")));
                }
            }
        }
        failed
    }

    /// What is published on the disks of all nodes. Of a recording that lies on several of them (each
    /// recorder keeps another's files, too) the one on its owner's disk is given, if it is there.
    ///
    /// # Errors
    /// If a record cannot be read.
    pub fn recordings(&self) -> Result<Vec<Published>> {
        recordings_of(self.members.iter().map(|(id, member)| (*id, member.node.data_dir())))
    }
}

/// The same of the data folders of any nodes.
///
/// # Errors
/// If a record cannot be read.
pub fn recordings_of(
    datadirs: impl IntoIterator<Item = (NodeId, PathBuf)>,
) -> Result<Vec<Published>> {
    let mut all = Vec::new();
    for (id, datadir) in datadirs {
        all.extend(recordings_in(&datadir)?.into_iter().map(|published| (id, published)));
    }
    Ok(without_copies(all))
}

/// Each recording once. Two of one name that differ, and are no revisions of each other, are two.
fn without_copies(mut all: Vec<(NodeId, Published)>) -> Vec<Published> {
    all.sort_by_key(|(at, (_, record))| {
        (record.recordingid, std::cmp::Reverse(record.revision), *at != record.node)
    });
    let mut kept: Vec<Published> = Vec::new();
    for (_, published) in all {
        let is_copy = kept.last().is_some_and(|(_, before)| {
            let (_, record) = &published;
            before.recordingid == record.recordingid
                && (before.sha256 == record.sha256 || before.revision > record.revision)
        });
        if !is_copy {
            kept.push(published);
        }
    }
    kept
}

/// Waits until what is seen of the nodes is as wished.
///
/// # Errors
/// If it is not in time; with what was seen last.
pub async fn until(
    eyes: &Eyes,
    what: &str,
    limit: Duration,
    holds: impl Fn(&[Sight]) -> bool,
) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let seen = eyes.look().await;
        if holds(&seen) {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("not within {} s: {what}; {}", limit.as_secs(), in_words(&seen));
        }
        sleep(POLL).await;
    }
}

/// Whether this node leads recording and no other says that it does.
#[must_use]
pub fn leads_alone(seen: &[Sight], node: NodeId) -> bool {
    let mut leads = seen.iter().filter(|sight| sight.leads()).map(|sight| sight.node);
    leads.next() == Some(node) && leads.next().is_none()
}

/// Whether all nodes answer and none has anything left to do.
#[must_use]
pub fn is_quiet(seen: &[Sight]) -> bool {
    seen.iter().all(|sight| sight.metrics.is_some() && sight.busy() == 0.0)
}

/// Each node in a few words.
#[must_use]
pub fn in_words(seen: &[Sight]) -> String {
    let words = |sight: &Sight| match sight.duty() {
        Some(duty) => {
            format!("node {} ({}): {duty}, {} busy", sight.node, sight.role.as_str(), sight.busy())
        }
        None => format!("node {} ({}): no answer", sight.node, sight.role.as_str()),
    };
    seen.iter().map(words).collect::<Vec<_>>().join("; ")
}

/// The configuration of a recorder alone that goes with a site, and monitors the first `stations`
/// of its stations.
///
/// # Errors
/// If there are not enough free ports.
pub fn recorder_settings(site: &Site, stations: usize) -> Result<String> {
    let ports = u16::try_from(phantoms_of(site, 0)?.len() * 2).context("too many phantoms")?;
    let rtp = (IpAddr::from(Ipv4Addr::LOCALHOST), free_udp_ports(ports)?);
    let lines = recorder_lines(site, 0, site.aes_address(0), stations, rtp)?;
    Ok(format!("al_nodeid = 1\nal_serverrole = \"active\"\n{lines}"))
}

/// The lines of a recorder: its AES, the phantoms that are its own, what it monitors, where it
/// receives (the address and the first port).
fn recorder_lines(
    site: &Site,
    aes: usize,
    address: SocketAddr,
    stations: usize,
    (rtp_address, first): (IpAddr, u16),
) -> Result<String> {
    let config = site.config();
    let range = config.phantoms.get(aes).context("each AES needs a range of phantoms")?;
    let ports = phantoms_of(site, aes)?.len() * 2;
    let last = usize::from(first) + ports - 1;
    Ok(format!(
        "al_aeshost = \"{}\"\nal_aesport = {}\nal_aestls = false\n\
         al_aesuser = \"{}\"\nal_aespassword = \"{}\"\nal_switchname = \"{}\"\n\
         al_phantoms = [\"{}\"]\nal_phantompassword = \"{}\"\n\
         al_stations = {:?}\nal_vdns = [\"50100\"]\nal_skills = [\"60001\"]\n\
         al_rtpaddress = \"{rtp_address}\"\nal_rtpports = \"{first}-{last}\"\n",
        address.ip(),
        address.port(),
        config.aes[aes].user,
        config.aes[aes].password.expose(),
        config.switch_name,
        range.extensions,
        range.password.expose(),
        &config.station_list()?[..stations],
    ))
}

/// The phantoms that are registered through an AES.
fn phantoms_of(site: &Site, aes: usize) -> Result<Vec<String>> {
    let mut own = site.config().clone();
    own.phantoms = own.phantoms.get(aes).cloned().into_iter().collect();
    Ok(own.phantom_list()?.into_iter().map(|(extension, _)| extension).collect())
}

/// Places for so many nodes on loopback.
fn loopback_places(binary: &Path, count: usize) -> Result<Vec<Place>> {
    let host = own_loopback();
    let place = |node: u16| {
        Ok(Place {
            binary: binary.to_owned(),
            web: (Ipv4Addr::LOCALHOST, free_tcp_port()?).into(),
            peers: (host, DOOR_PORT + node).into(),
            rtp: host.into(),
            settings: String::new(),
        })
    };
    (1..).take(count).map(place).collect()
}

/// A loopback address that no other site of this machine uses, most likely: members listen on
/// fixed ports of it, which nobody takes while one of them is down.
fn own_loopback() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    // 127.0.x.y is where others live.
    Ipv4Addr::new(127, high | 0x80, low, NEXT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_recorder_has_its_own_aes_and_phantoms_and_the_configurations_are_valid() {
        let folder = tempfile::tempdir().unwrap();
        let shape = Shape { wires: true, relays: true, ..Shape::hot_standby(3) };
        let config = SiteConfig::demo(4, shape.recorders());
        let mut group = GroupSite::prepare(Path::new("/bin/false"), folder.path(), config, &shape)
            .await
            .unwrap();
        let mut phantoms = Vec::new();
        for (id, member) in &group.members {
            let path = member.node.config_path();
            let config = crate::config::Config::load(&path, None).unwrap();
            assert_eq!((config.cluster.nodeid, config.role), (*id, member.role));
            assert_eq!(config.cluster.peers.len(), 3);
            assert_eq!(config.recorder.is_some(), member.role != Role::Witness);
            if let Some(recorder) = config.recorder {
                assert_eq!(recorder.monitored.stations.len(), 3);
                phantoms.extend(recorder.phantoms);
            }
        }
        let all = phantoms.len();
        phantoms.sort();
        phantoms.dedup();
        assert_eq!((all, phantoms.len()), (32, 32));
        assert_eq!(group.member(NodeId(2)).unwrap().aes, Some(1));
        assert!(group.member(NodeId(4)).is_err());
    }

    #[test]
    fn a_copy_is_no_recording_of_its_own_and_a_double_is() {
        let published = |owner: u16, revision: u32, sha256: &str| {
            let record = serde_json::json!({
                "recordingid": "01890000-0000-7000-8000-000000000000", "revision": revision,
                "callids": ["1"], "extension": "1", "agentid": "", "calling": "", "called": "",
                "direction": "inbound", "trunkgroup": "", "trunkmember": "", "vdn": "", "split": "",
                "userdata": "", "parties": [], "started": "2026-11-27T00:00:00Z",
                "ended": "2026-11-27T00:00:00Z", "durationms": 0, "scope": "station",
                "trigger": "rule", "rule": "", "copy": 1, "node": owner, "segments": [], "gaps": [],
                "pauses": [], "complete": true, "format": "wav", "bytes": 0, "sha256": sha256,
                "quality": { "lossratio": 0.0, "jitterms": 0.0, "clockdriftppm": 0.0 },
                "tags": [], "notes": [], "hold": false,
            });
            (PathBuf::new(), serde_json::from_value(record).unwrap())
        };
        let on = |node: u16, published: Published| (NodeId(node), published);
        let kept = |all| {
            let revision = |(_, record): &Published| (record.node.0, record.revision);
            without_copies(all).iter().map(revision).collect::<Vec<_>>()
        };
        let (first, second) = (published(2, 1, "a"), published(2, 2, "b"));
        assert_eq!(kept(vec![on(1, first.clone()), on(2, first.clone())]), [(2, 1)]);
        assert_eq!(kept(vec![on(1, first.clone()), on(2, second)]), [(2, 2)]);
        let double = published(1, 1, "c");
        assert_eq!(kept(vec![on(1, double), on(2, first)]).len(), 2);
    }

    #[test]
    fn a_lead_is_alone_if_nobody_else_says_so() {
        let sight = |node: u16, duty: &str| {
            let name = format!("astlogger_role{{configured=\"backup\",duty=\"{duty}\"}}");
            let metrics = Some(BTreeMap::from([(name, 1.0)]));
            Sight { node: NodeId(node), role: Role::Backup, metrics }
        };
        let silent = Sight { node: NodeId(1), role: Role::Active, metrics: None };
        let two = [silent.clone(), sight(2, "lead"), sight(3, "none")];
        assert!(leads_alone(&two, NodeId(2)) && !leads_alone(&two, NodeId(1)));
        assert!(!leads_alone(&[sight(1, "lead"), sight(2, "lead")], NodeId(2)));
        assert!(!is_quiet(&[silent]) && is_quiet(&two[1..]));
    }
}
