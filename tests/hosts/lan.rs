//! Hosts of a test's own: network namespaces with two cables each, one to the switch of the members
//! and one to the site's. The cables can be pulled, and packets can be dropped in either direction.
//!
//! Nothing of it has a name outside the test. The switches and the simulated site live in a namespace
//! that only the test's threads are in; the hosts' namespaces are held open by files of this process.
//! So the kernel takes everything back when the test ends, however it ends.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use storage_core::NodeId;

/// A cable of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    /// To the other members.
    Members,
    /// To the AES, the switch and whoever looks at the node.
    Site,
}

/// Which packets are dropped, as the host sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// What it sends.
    Out,
    /// What it should receive.
    In,
}

impl Leg {
    const BOTH: [Self; 2] = [Self::Members, Self::Site];

    /// Name of the cable's end inside the host, and of the switch outside.
    const fn name(self) -> &'static str {
        match self {
            Self::Members => "members",
            Self::Site => "site",
        }
    }

    const fn network(self) -> u8 {
        match self {
            Self::Members => 1,
            Self::Site => 2,
        }
    }

    /// Name of the cable's end at the switch.
    pub fn port(self, node: NodeId) -> String {
        format!("{}{node}", self.name())
    }

    /// Where the host is reached by it.
    pub fn address(self, node: NodeId) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.network(), u8::try_from(node.0).expect("a small number"))
    }
}

/// Where an AES listens and sends audio from.
pub fn aes_address(aes: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, Leg::Site.network(), 101 + aes)
}

/// The hosts and what lies between them.
pub struct Lan {
    hosts: BTreeMap<NodeId, PathBuf>,
    _held: Vec<File>,
}

impl Lan {
    /// Moves this thread, and whatever it starts from now on, into a network and a mount namespace of
    /// its own, and connects so many hosts there.
    ///
    /// # Errors
    /// If this system does not allow it.
    pub fn connect(hosts: u16) -> Result<Self> {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).context("no namespaces")?;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&Path>, "/", None::<&Path>, private, None::<&Path>)
            .context("no own mounts")?;
        run("ip link set lo up")?;
        for leg in Leg::BOTH {
            run(&format!("ip link add {} type bridge", leg.name()))?;
            run(&format!("ip link set {} up", leg.name()))?;
        }
        for aes in 0..2 {
            run(&format!("ip address add {}/24 dev site", aes_address(aes)))?;
        }
        run("nft add table netdev cuts")?;
        let mut lan = Self { hosts: BTreeMap::new(), _held: Vec::new() };
        for node in (1..=hosts).map(NodeId) {
            let held = empty_namespace()?;
            let path = format!("/proc/{}/fd/{}", std::process::id(), held.as_raw_fd());
            lan.hosts.insert(node, path.into());
            lan._held.push(held);
            lan.inside(node, "ip link set lo up")?;
            lan.inside(node, "nft add table netdev cuts")?;
            for leg in Leg::BOTH {
                lan.lay(node, leg)?;
            }
        }
        Ok(lan)
    }

    /// Lays a cable between a host and a switch.
    fn lay(&self, node: NodeId, leg: Leg) -> Result<()> {
        let (name, port, host) = (leg.name(), leg.port(node), self.hosts[&node].display());
        run(&format!("ip link add {port} type veth peer name far"))?;
        run(&format!("ip link set far netns {host}"))?;
        run(&format!("ip link set {port} master {name} up"))?;
        run(&chain(&port))?;
        self.inside(node, &format!("ip link set far name {name} up"))?;
        // Frames as they would go over a real cable: of its size and with their checksums.
        self.inside(node, &format!("ethtool -K {name} tx off"))?;
        self.inside(node, &format!("ip address add {}/24 dev {name}", leg.address(node)))?;
        self.inside(node, &chain(name))
    }

    /// A file by which the network of a host is entered.
    #[allow(dead_code, reason = "machines that are booted are given one")]
    pub fn network(&self, node: NodeId) -> &Path {
        &self.hosts[&node]
    }

    /// Pulls a cable.
    pub fn unplug(&self, node: NodeId, leg: Leg) {
        run(&format!("ip link set {} down", leg.port(node))).expect("a cable");
    }

    /// Puts it back.
    pub fn plug(&self, node: NodeId, leg: Leg) {
        run(&format!("ip link set {} up", leg.port(node))).expect("a cable");
    }

    /// Drops all packets of a cable that go this way, without a word to either end.
    pub fn lose(&self, node: NodeId, leg: Leg, flow: Flow) {
        match flow {
            Flow::Out => run(&format!("nft add rule netdev cuts {} drop", leg.port(node))),
            Flow::In => self.inside(node, &format!("nft add rule netdev cuts {} drop", leg.name())),
        }
        .expect("a rule");
    }

    /// Drops nothing any more.
    pub fn heal(&self, node: NodeId) {
        run("nft flush table netdev cuts").expect("a table");
        self.inside(node, "nft flush table netdev cuts").expect("a table");
    }

    /// Writes a program that enters a host and becomes `binary` there, with the same number.
    pub fn entrance(&self, node: NodeId, folder: &Path, binary: &Path) -> Result<PathBuf> {
        use std::os::unix::fs::PermissionsExt;
        let path = folder.join(format!("host{node}"));
        let (host, binary) = (self.hosts[&node].display(), binary.display());
        std::fs::write(&path, format!("#!/bin/sh\nexec nsenter --net={host} '{binary}' \"$@\"\n"))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        Ok(path)
    }

    fn inside(&self, node: NodeId, command: &str) -> Result<()> {
        run(&format!("nsenter --net={} {command}", self.hosts[&node].display()))
    }
}

/// The command for a chain that sees whatever comes in at a device.
fn chain(device: &str) -> String {
    format!(
        "nft add chain netdev cuts {device} {{ type filter hook ingress device {device} priority 0 ; }}"
    )
}

/// A network namespace that nobody is in; it lasts as long as the file.
fn empty_namespace() -> Result<File> {
    let made = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        Ok(File::open("/proc/thread-self/ns/net")?)
    });
    made.join().expect("it does not panic")
}

/// Runs a command of words with spaces between them.
pub fn run(command: &str) -> Result<()> {
    let mut words = command.split(' ');
    let output = Command::new(words.next().unwrap_or_default())
        .args(words)
        .output()
        .with_context(|| format!("cannot run `{command}`"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{command}`: {}", said.trim());
    Ok(())
}
