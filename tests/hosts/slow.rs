//! A long way between the members: what each host sends to the others is held up, by not always the
//! same, and some of it is lost. It stands in for `tc netem`, which many kernels do not have: frames
//! are carried between each host's cable and the members' switch by this process, so TCP meets real
//! delay and real loss.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, bind, socket};
use storage_core::NodeId;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::lan::{Leg, run};

/// How long a frame is under way: this, and up to twice the jitter more.
const DELAY_MS: u64 = 80;
const JITTER_MS: u64 = 20;
/// One frame in so many is lost.
const LOST_IN: u64 = 50;
const FRAME_MAX: usize = 65_536;

/// The ways of all hosts to the members' switch. They are short at first.
pub struct SlowWays {
    slow: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl SlowWays {
    /// Puts itself between the hosts' cables and the switch.
    ///
    /// # Errors
    /// If the kernel does not let frames be carried.
    pub fn open(hosts: u16) -> Result<Self> {
        let slow = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for node in (1..=hosts).map(NodeId) {
            let (port, near, far) =
                (Leg::Members.port(node), format!("near{node}"), format!("far{node}"));
            run(&format!("ip link set {port} nomaster"))?;
            run(&format!("ip link add {near} type veth peer name {far}"))?;
            run(&format!("ip link set {far} master members up"))?;
            run(&format!("ip link set {near} up"))?;
            let host = Arc::new(tap(&port)?);
            let switch = Arc::new(tap(&near)?);
            let chance = Chance(u64::from(node.0).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let way = Way { slow: Arc::clone(&slow), chance };
            tasks.extend(carry(Arc::clone(&host), Arc::clone(&switch), Some(way)));
            tasks.extend(carry(switch, host, None));
        }
        Ok(Self { slow, tasks })
    }

    /// Makes them long or short.
    pub fn set_slow(&self, slow: bool) {
        self.slow.store(slow, Ordering::Relaxed);
    }
}

impl Drop for SlowWays {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// What becomes of frames.
struct Way {
    slow: Arc<AtomicBool>,
    chance: Chance,
}

impl Way {
    /// How long this frame is under way; `None` if it gets lost.
    fn fate(&mut self) -> Option<Duration> {
        if !self.slow.load(Ordering::Relaxed) {
            return Some(Duration::ZERO);
        }
        let lost = self.chance.below(LOST_IN) == 0;
        let late = DELAY_MS + self.chance.below(2 * JITTER_MS + 1);
        (!lost).then(|| Duration::from_millis(late))
    }
}

/// The same numbers in each run (xorshift64).
struct Chance(u64);

impl Chance {
    const fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Everything that comes by at a device, and a way to send there. A `UdpSocket` only by its type:
/// what it is asked for, to receive and to send, is the same for a socket of whole frames.
fn tap(device: &str) -> Result<UdpSocket> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let tap = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?;
    let mut devices = getifaddrs()?.filter(|found| found.interface_name == device);
    let address = devices.find_map(|found| found.address?.as_link_addr().copied());
    bind(tap.as_raw_fd(), &address.with_context(|| format!("no device {device}"))?)?;
    Ok(UdpSocket::from_std(std::net::UdpSocket::from(tap))?)
}

/// Carries frames one way. Those that are held up keep their order.
fn carry(from: Arc<UdpSocket>, to: Arc<UdpSocket>, mut way: Option<Way>) -> [JoinHandle<()>; 2] {
    let (under_way, mut arriving) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let reader = tokio::spawn(async move {
        let mut buffer = vec![0; FRAME_MAX];
        let mut last = Instant::now();
        loop {
            // A cable that is pulled is an error once; what comes by later is read again.
            let Ok(length) = from.recv(&mut buffer).await else { continue };
            let fate = way.as_mut().map_or(Some(Duration::ZERO), Way::fate);
            let Some(late) = fate else { continue };
            last = last.max(Instant::now() + late);
            if under_way.send((last, buffer[..length].to_vec())).is_err() {
                return;
            }
        }
    });
    let writer = tokio::spawn(async move {
        while let Some((due, frame)) = arriving.recv().await {
            sleep_until(due).await;
            // A switch that cannot take a frame drops it.
            drop(to.send(&frame).await);
        }
    });
    [reader, writer]
}
