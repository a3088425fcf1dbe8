//! Real hosts: each node in a network namespace of its own, with a cable to the other members and one
//! to the site, over which its AES and the audio come. Cables are pulled, packets dropped and held up,
//! processes killed and stopped, power is cut. Whatever happens, each call has exactly one recording,
//! and every 20 ms of it is in the file or in a declared gap.
//!
//! It needs root, iproute2, nftables and ethtool; where the kernel allows no namespaces, each test
//! says so and does nothing.

#[path = "../common/mod.rs"]
mod common;

mod lan;
mod power;
mod slow;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use astlogger::demo::{Place, Shape, Verdict};
use common::group::{GroupBench, ONE, TWO, WITNESS};
use common::skipped::skip;
use lan::{Flow, Lan, Leg};
use power::PowerDisk;
use simulator::{CallRef, SiteConfig};
use slow::SlowWays;
use storage_core::NodeId;
use tempfile::TempDir;

/// The longest hole where the lead's host is gone or its process hangs.
const HOLE_MAX_MS: u64 = 900;
/// Where its AES and its audio are gone and nothing says so: silence must be told from a pause first.
const SITE_HOLE_MAX_MS: u64 = 3_000;
/// Where only its process is gone and others run on this machine.
const KILLED_HOLE_MAX_MS: u64 = 500;
/// Where members hear of each other late and with packets lost.
const FAR_HOLE_MAX_MS: u64 = 2_000;
/// Where there is no majority, and the lead's host is gone for as long as this test likes.
const BLIND_HOLE_MAX_MS: u64 = 10_000;
/// What a power cut may cost beside the takeover.
const UNSYNCED_MAX_MS: u64 = 1_000;
/// Frames of a call before and after something happens.
const SOME: u32 = 60;
const MEMBERS: [NodeId; 3] = [ONE, TWO, WITNESS];
const MEMBERS_PORT: u16 = 7400;
const WEB_PORT: u16 = 8080;

/// A group on hosts of its own.
struct Hosts {
    // The disks go before the folder in which they are mounted.
    disks: Vec<(NodeId, PowerDisk)>,
    bench: GroupBench,
    lan: Lan,
    _ways: Option<SlowWays>,
    folder: PathBuf,
}

/// Runs a test where there are hosts, or says that it does not.
fn on_hosts<F: Future<Output = ()>>(test: impl FnOnce(Lan, PathBuf) -> F + Send + 'static) {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().to_owned();
    let ran = std::thread::spawn(move || {
        let lan = Lan::connect(3)?;
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_all().build().context("no threads")?;
        runtime.block_on(test(lan, path));
        anyhow::Ok(())
    });
    match ran.join() {
        Ok(Ok(())) => {}
        Ok(Err(reason)) => skip("real hosts", &reason),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

impl Hosts {
    /// Active, backup and witness with so many stations; no node is started.
    async fn prepare(lan: Lan, folder: PathBuf, agents: usize) -> Self {
        let mut config = SiteConfig::demo(agents, 2);
        for (number, aes) in (0..).zip(&mut config.aes) {
            aes.address = lan::aes_address(number).into();
        }
        let places = places(&lan, &folder).expect("certificates and entrances");
        let shape = Shape { places, ..Shape::hot_standby(agents) };
        let bench = GroupBench::prepare(config, &shape).await;
        Self { disks: Vec::new(), bench, lan, _ways: None, folder }
    }

    /// The same, started; the active leads.
    async fn start(lan: Lan, folder: PathBuf, agents: usize) -> Self {
        let mut hosts = Self::prepare(lan, folder, agents).await;
        hosts.run().await;
        hosts
    }

    /// Starts all nodes and waits until the active leads.
    async fn run(&mut self) {
        self.bench.run().await;
        self.bench.leads_steadily(ONE).await;
    }

    /// Gives a node a disk that can lose power. It must not run yet.
    fn give_disk(&mut self, node: NodeId) {
        let images = self.folder.join(format!("disk{node}"));
        let data = self.bench.group.members[&node].node.data_dir();
        let disk = PowerDisk::attach(&images, &data).expect("a disk of its own");
        self.disks.push((node, disk));
    }

    /// So many calls, recorded by the lead for a while.
    async fn calls(&self, count: usize) -> Vec<CallRef> {
        let calls = self.bench.calls(count).await;
        self.bench.recorded_by(&calls, ONE).await;
        self.bench.go_on(&calls, SOME).await;
        calls
    }

    /// Both cables of a host are pulled.
    fn unplug(&self, node: NodeId) {
        self.lan.unplug(node, Leg::Members);
        self.lan.unplug(node, Leg::Site);
    }

    /// They are put back.
    fn plug(&self, node: NodeId) {
        self.lan.plug(node, Leg::Members);
        self.lan.plug(node, Leg::Site);
    }

    /// All hang up; each call must have its recording, and no takeover a longer hole than this.
    async fn assert_right(&self, calls: &[CallRef], hole_max_ms: u64) -> Verdict {
        self.bench.hang_up(calls);
        let verdict = self.bench.assert_right(1).await;
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        let hole = verdict.takeover_gap_ms_max;
        eprintln!("{name}: {} takeovers, longest hole {hole} ms", verdict.takeovers);
        assert!(hole <= hole_max_ms, "{verdict:?}\n{}", self.bench.log_tails());
        verdict
    }
}

/// Where each member runs: on a host of its own, with a certificate of the group's.
fn places(lan: &Lan, folder: &Path) -> Result<Vec<Place>> {
    let binary = Path::new(env!("CARGO_BIN_EXE_astlogger"));
    let peers = |node| (Leg::Members.address(node), MEMBERS_PORT).into();
    let pki = folder.join("pki");
    let nodes: Vec<_> =
        MEMBERS.iter().map(|&node| format!("{node}={}", Leg::Members.address(node))).collect();
    let made = Command::new(binary)
        .args(["cluster", "init", "--dir"])
        .arg(&pki)
        .args(["--nodes", &nodes.join(",")])
        .output()?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let place = |node: NodeId| {
        Ok(Place {
            binary: lan.entrance(node, folder, binary)?,
            web: (Leg::Site.address(node), WEB_PORT).into(),
            peers: peers(node),
            rtp: Leg::Site.address(node).into(),
            settings: format!(
                "al_clusterca = \"{pki}/ca.pem\"\nal_clustercert = \"{pki}/node-{node}.pem\"\n\
                 al_clusterkey = \"{pki}/node-{node}.key\"\nal_insecure = true\n",
                pki = pki.display(),
            ),
        })
    };
    MEMBERS.into_iter().map(place).collect()
}

#[test]
fn the_host_of_the_lead_gone_leaves_one_recording_and_it_comes_back_in_peace() {
    on_hosts(async |lan, folder| {
        let hosts = Hosts::start(lan, folder, 6).await;
        let mut calls = hosts.calls(4).await;
        hosts.unplug(ONE);
        hosts.bench.recorded_by(&calls, TWO).await;
        let begun = hosts.bench.call(4).await;
        hosts.bench.recorded_by(&[begun], TWO).await;
        hosts.bench.go_on(&calls, SOME).await;
        hosts.bench.hang_up(&calls[..1]);
        calls.push(begun);
        hosts.plug(ONE);
        hosts.bench.leads(TWO).await;
        hosts.bench.duty(ONE, "standby").await;
        hosts.bench.go_on(&calls[1..], SOME).await;
        let verdict = hosts.assert_right(&calls, HOLE_MAX_MS).await;
        assert_eq!(verdict.calls_recorded, 5, "{verdict:?}");
        assert!(verdict.takeovers >= 1, "{verdict:?}");
    });
}

#[test]
fn a_lead_cut_off_from_the_members_only_goes_on_until_it_hears_of_its_successor() {
    on_hosts(async |lan, folder| {
        let hosts = Hosts::start(lan, folder, 5).await;
        let calls = hosts.calls(3).await;
        for flow in [Flow::Out, Flow::In] {
            hosts.lan.lose(ONE, Leg::Members, flow);
        }
        hosts.bench.says_it_leads(TWO).await;
        // One ends while they cannot agree, and one begins.
        hosts.bench.hang_up(&calls[..1]);
        let during = hosts.bench.call(3).await;
        hosts.bench.recorded_by(&[during], TWO).await;
        hosts.bench.go_on(&calls[1..], SOME).await;
        hosts.lan.heal(ONE);
        hosts.bench.leads(TWO).await;
        hosts.bench.go_on(&calls[1..], SOME).await;
        hosts.bench.hang_up(&[during]);
        let verdict = hosts.assert_right(&calls, HOLE_MAX_MS).await;
        assert_eq!(verdict.calls_recorded, 4, "{verdict:?}");
    });
}

/// The lead's packets to or from the other members are lost; either way it is as good as cut off.
async fn cut_one_way(lan: Lan, folder: PathBuf, flow: Flow) {
    let hosts = Hosts::start(lan, folder, 5).await;
    let calls = hosts.calls(3).await;
    hosts.lan.lose(ONE, Leg::Members, flow);
    hosts.bench.says_it_leads(TWO).await;
    let during = hosts.bench.call(3).await;
    hosts.bench.recorded_by(&[during], TWO).await;
    hosts.bench.go_on(&calls, SOME).await;
    hosts.lan.heal(ONE);
    hosts.bench.leads(TWO).await;
    hosts.bench.go_on(&calls, SOME).await;
    hosts.bench.hang_up(&[during]);
    let verdict = hosts.assert_right(&calls, HOLE_MAX_MS).await;
    assert_eq!(verdict.calls_recorded, 4, "{verdict:?}");
}

#[test]
fn a_lead_that_hears_but_is_not_heard_is_replaced() {
    on_hosts(async |lan, folder| cut_one_way(lan, folder, Flow::Out).await);
}

#[test]
fn a_lead_that_is_heard_but_does_not_hear_is_replaced() {
    on_hosts(async |lan, folder| cut_one_way(lan, folder, Flow::In).await);
}

#[test]
fn a_lead_whose_way_to_the_site_is_gone_is_replaced() {
    on_hosts(async |lan, folder| {
        let hosts = Hosts::start(lan, folder, 5).await;
        let calls = hosts.calls(3).await;
        for flow in [Flow::Out, Flow::In] {
            hosts.lan.lose(ONE, Leg::Site, flow);
        }
        hosts.bench.recorded_by(&calls, TWO).await;
        hosts.bench.says_it_leads(TWO).await;
        hosts.bench.go_on(&calls, SOME).await;
        hosts.lan.heal(ONE);
        hosts.bench.leads(TWO).await;
        hosts.bench.go_on(&calls, SOME).await;
        let verdict = hosts.assert_right(&calls, SITE_HOLE_MAX_MS).await;
        assert_eq!(verdict.calls_recorded, 3, "{verdict:?}");
    });
}

#[test]
fn members_far_from_each_other_with_packets_lost_still_take_over() {
    on_hosts(async |lan, folder| {
        let ways = SlowWays::open(3).expect("frames can be carried");
        let mut hosts = Hosts::start(lan, folder, 6).await;
        let before = hosts.calls(2).await;
        ways.set_slow(true);
        // Whoever leads, every call is recorded.
        hosts.bench.go_on(&before, 4 * SOME).await;
        let during = hosts.bench.call(2).await;
        hosts.bench.recorded_by_any(&[during], &[ONE, TWO]).await;
        hosts.bench.go_on(&[during], SOME).await;
        hosts.bench.hang_up(&before[..1]);
        hosts.bench.kill(ONE).await;
        hosts.bench.recorded_by(&[before[1], during], TWO).await;
        hosts.bench.go_on(&before[1..], SOME).await;
        hosts.bench.run().await;
        ways.set_slow(false);
        hosts.bench.somebody_leads().await;
        hosts.bench.go_on(&before[1..], SOME).await;
        hosts.bench.hang_up(&[during]);
        let verdict = hosts.assert_right(&before, FAR_HOLE_MAX_MS).await;
        assert_eq!(verdict.calls_recorded, 3, "{verdict:?}");
    });
}

#[test]
fn the_process_of_the_lead_killed_is_seen_from_the_other_hosts_at_once() {
    on_hosts(async |lan, folder| {
        let mut hosts = Hosts::start(lan, folder, 6).await;
        let calls = hosts.calls(4).await;
        hosts.bench.kill(ONE).await;
        hosts.bench.recorded_by(&calls, TWO).await;
        hosts.bench.go_on(&calls, SOME).await;
        hosts.bench.run().await;
        let verdict = hosts.assert_right(&calls, KILLED_HOLE_MAX_MS).await;
        assert_eq!((verdict.calls_recorded, verdict.takeovers), (4, 1), "{verdict:?}");
    });
}

#[test]
fn a_lead_that_hangs_is_replaced_and_does_no_harm_when_it_goes_on() {
    on_hosts(async |lan, folder| {
        let hosts = Hosts::start(lan, folder, 6).await;
        let calls = hosts.calls(4).await;
        hosts.bench.pause(ONE);
        hosts.bench.recorded_by(&calls, TWO).await;
        hosts.bench.go_on(&calls, SOME).await;
        hosts.bench.resume(ONE);
        hosts.bench.leads(TWO).await;
        hosts.bench.go_on(&calls, SOME).await;
        let verdict = hosts.assert_right(&calls, HOLE_MAX_MS).await;
        assert_eq!(verdict.calls_recorded, 4, "{verdict:?}");
    });
}

#[test]
fn a_lead_that_hangs_for_good_leaves_a_short_hole() {
    on_hosts(async |lan, folder| {
        let mut hosts = Hosts::start(lan, folder, 6).await;
        let calls = hosts.calls(4).await;
        hosts.bench.pause(ONE);
        hosts.bench.recorded_by(&calls, TWO).await;
        // What waits in its sockets is lost with it.
        hosts.bench.kill(ONE).await;
        hosts.bench.go_on(&calls, SOME).await;
        hosts.bench.run().await;
        let verdict = hosts.assert_right(&calls, HOLE_MAX_MS).await;
        assert_eq!((verdict.calls_recorded, verdict.takeovers), (4, 1), "{verdict:?}");
    });
}

#[test]
fn the_witness_gone_changes_nothing_and_the_lead_gone_after_it_loses_no_call_that_begins() {
    on_hosts(async |lan, folder| {
        let hosts = Hosts::start(lan, folder, 5).await;
        let calls = hosts.calls(2).await;
        hosts.unplug(WITNESS);
        hosts.bench.go_on(&calls, 2 * SOME).await;
        // Without a majority the backup goes by what it sees of the lead in the calls: what begins is
        // its own; what the lead was in stays the lead's, whose phantoms the AES has not let go.
        hosts.unplug(ONE);
        let during = hosts.bench.call(2).await;
        hosts.bench.recorded_by(&[during], TWO).await;
        hosts.bench.go_on(&[during], 2 * SOME).await;
        hosts.plug(WITNESS);
        hosts.plug(ONE);
        hosts.bench.somebody_leads().await;
        hosts.bench.go_on(&calls, SOME).await;
        hosts.bench.hang_up(&[during]);
        let verdict = hosts.assert_right(&calls, BLIND_HOLE_MAX_MS).await;
        assert_eq!(verdict.calls_recorded, 3, "{verdict:?}");
    });
}

#[test]
fn a_power_cut_of_the_lead_loses_what_was_not_synced_and_says_so() {
    on_hosts(async |lan, folder| {
        let mut hosts = Hosts::prepare(lan, folder, 6).await;
        hosts.give_disk(ONE);
        hosts.run().await;
        let calls = hosts.calls(4).await;
        hosts.unplug(ONE);
        hosts.bench.kill(ONE).await;
        hosts.disks[0].1.cut().expect("a power cut");
        hosts.bench.recorded_by(&calls, TWO).await;
        hosts.bench.go_on(&calls, SOME).await;
        hosts.plug(ONE);
        hosts.bench.run().await;
        hosts.bench.leads(TWO).await;
        hosts.bench.duty(ONE, "standby").await;
        let verdict = hosts.assert_right(&calls, HOLE_MAX_MS + UNSYNCED_MAX_MS).await;
        assert_eq!((verdict.calls_recorded, verdict.takeovers), (4, 1), "{verdict:?}");
    });
}

#[test]
fn a_power_cut_of_the_whole_site_keeps_the_group_and_all_that_was_synced() {
    on_hosts(async |lan, folder| {
        let mut hosts = Hosts::prepare(lan, folder, 4).await;
        for node in MEMBERS {
            hosts.give_disk(node);
        }
        hosts.run().await;
        let calls = hosts.calls(2).await;
        let over = hosts.bench.call(2).await;
        hosts.bench.recorded_by(&[over], ONE).await;
        hosts.bench.go_on(&[over], SOME).await;
        hosts.bench.hang_up(&[over]);
        hosts.bench.published(1).await;
        for node in MEMBERS {
            hosts.bench.kill(node).await;
        }
        for (_, disk) in &mut hosts.disks {
            disk.cut().expect("a power cut");
        }
        assert_eq!(hosts.bench.recordings().len(), 1, "what is published stays");
        hosts.bench.run().await;
        hosts.bench.go_on(&calls, 3 * SOME).await;
        hosts.bench.hang_up(&calls);
        let verdict = hosts.bench.assert_right(1).await;
        assert_eq!(verdict.calls_recorded, 3, "{verdict:?}");
    });
}
