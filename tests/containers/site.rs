//! Three machines and the simulated switch beside them: who leads, which calls go on, what was published. It does
//! what it is told to and judges in the end.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;
use astlogger::demo::{self, Published, Verdict};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::Value;
use simulator::{CallRef, Site, SiteConfig, TlsConfig};
pub use storage_core::NodeId;
use tempfile::TempDir;
use tokio::time::sleep;

use super::common::{answered_call, page, reach_frames};
use super::lan::{self, Lan, Leg};
use super::machine::Machine;

/// The active.
pub const ONE: NodeId = NodeId(1);
/// The backup.
pub const TWO: NodeId = NodeId(2);
/// The witness.
pub const WITNESS: NodeId = NodeId(3);
/// The same machine, where a server for an archive is needed.
pub const NAS: NodeId = WITNESS;
const ALL: [NodeId; 3] = [ONE, TWO, WITNESS];

/// Within this everything that is waited for must have happened.
const LIMIT: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(100);
/// A lead that has just come back may be handed another duty yet.
const STEADY: Duration = Duration::from_secs(2);
/// Stations, and calls at once.
const AGENTS: usize = 20;
/// So much of a disk need be free.
const ROOM: &str = "1 MB";
/// The longest that a call may be without audio, whatever befell the machine that recorded it.
const HOLE_MAX_MS: u64 = 3_000;
/// How the page calls its machines, and how this network does.
const PAGE_NETWORK: &str = "10.0.0.";
const TEST_NETWORK: &str = "10.77.2.";
/// Where pages make what other machines are to be given.
const MADE: [&str; 2] = ["/root/pki", "/root/sftp"];

/// Machines, and, once it runs, the switch.
pub struct Machines {
    machines: BTreeMap<NodeId, Machine>,
    lan: Lan,
    site: Option<Site>,
    next: usize,
    answered: usize,
    begun: Instant,
    folder: TempDir,
}

impl Machines {
    /// Three machines on one network.
    ///
    /// # Errors
    /// If one does not boot.
    pub fn switch_on(lan: Lan, folder: TempDir, base: &Path) -> Result<Self> {
        let mut machines = BTreeMap::new();
        for (node, name) in ALL.into_iter().zip(["recorder1", "recorder2", "witness"]) {
            let mut machine = Machine::build(name, base, folder.path(), lan.network(node))?;
            machine.switch_on()?;
            // What a site has: names for its AES.
            let mut hosts = "127.0.0.1 localhost\n".to_owned();
            for aes in 0..2 {
                hosts += &format!("{} aes{}.example.com\n", lan::aes_address(aes), aes + 1);
            }
            hosts += &format!("{} nas\n", Leg::Site.address(NAS));
            std::fs::write(machine.file("/etc/hosts"), hosts)?;
            machines.insert(node, machine);
        }
        let begun = Instant::now();
        let all = Self { machines, lan, site: None, next: 0, answered: 0, begun, folder };
        // Their disk is the tester's, who may have little room on a large one.
        for node in ALL {
            all.keep_free(node, ROOM);
        }
        Ok(all)
    }

    /// From its next start on, the service is to leave so much of its disk free.
    pub fn keep_free(&self, node: NodeId, room: &str) {
        let unit = self.at(node).file("/etc/systemd/system/astlogger.service.d");
        std::fs::create_dir_all(&unit).expect("a disk");
        let room = format!("[Service]\nEnvironment=\"AL_MINDISKFREE={room}\"\n");
        std::fs::write(unit.join("room.conf"), room).expect("a disk");
    }

    /// The same with the switch, and its AES behind TLS.
    pub async fn with_site(mut self) -> Self {
        let mut config = SiteConfig::demo(AGENTS, 2);
        let pki = self.folder.path().join("aes");
        config.tls = Some(aes_certificates(&pki).expect("certificates"));
        for (number, aes) in (0..).zip(&mut config.aes) {
            (aes.address, aes.port, aes.tls) = (lan::aes_address(number).into(), 4722, true);
        }
        for machine in self.machines.values() {
            std::fs::copy(pki.join("ca.pem"), machine.file("/root/aes-ca.crt")).expect("a disk");
        }
        self.site = Some(Site::start(config).await.expect("the switch starts"));
        self
    }

    /// Does what a page says, on each machine in turn what is meant for it.
    pub fn follow(&self, name: &str) {
        // Earlier programs have to be told where the secrets are.
        let told =
            earlier_program().map_or("", |_| "export CREDENTIALS_DIRECTORY=/etc/credstore\n");
        let told = format!("export AL_MINDISKFREE='{ROOM}'\n{told}");
        for block in page::commands(name) {
            let text = told.clone() + &block.text.replace(PAGE_NETWORK, TEST_NETWORK);
            for node in ALL {
                let is_nas = node == NAS && block.is_for("nas");
                if is_nas || block.is_for("each") || block.is_for(&format!("node{node}")) {
                    eprintln!("node {node}, {name}:{}", block.line);
                    self.at(node).run(&text);
                }
            }
            // What the page says to copy by hand.
            if block.is_for("made") {
                for folder in MADE.into_iter().filter(|made| self.at(ONE).file(made).is_dir()) {
                    let made = self.at(ONE).file(folder);
                    for node in [TWO, WITNESS] {
                        copy_folder(&made, &self.at(node).file(folder)).expect("a disk");
                    }
                }
            }
        }
    }

    /// Lays the package of a version onto each machine. Version 1 is of an earlier program where one is named.
    pub fn bring(&self, version: &str) {
        let earlier = earlier_program().filter(|_| version.starts_with("1."));
        let program = earlier.unwrap_or_else(|| env!("CARGO_BIN_EXE_astlogger").into());
        let out = self.folder.path().join("packages");
        let packed = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("package"))
            .arg("--binary")
            .arg(program)
            .args(["--version", version, "--quick", "--out"])
            .arg(&out)
            .output()
            .expect("it can be run");
        assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
        let told = String::from_utf8_lossy(&packed.stdout).into_owned();
        let deb = PathBuf::from(told.trim().rsplit(' ').next().expect("its name"));
        for machine in self.machines.values() {
            let place = machine.file("/root").join(deb.file_name().expect("a name"));
            std::fs::copy(&deb, place).expect("a disk");
        }
    }

    /// A machine.
    pub fn at(&self, node: NodeId) -> &Machine {
        &self.machines[&node]
    }

    /// A machine, to switch it.
    pub fn at_mut(&mut self, node: NodeId) -> &mut Machine {
        self.machines.get_mut(&node).expect("a machine")
    }

    /// Pulls a machine's cable.
    pub fn unplug(&self, node: NodeId) {
        self.lan.unplug(node, Leg::Site);
    }

    /// Puts it back.
    pub fn plug(&self, node: NodeId) {
        self.lan.plug(node, Leg::Site);
    }

    /// What systemd says of the service.
    pub fn unit(&self, node: NodeId, property: &str) -> String {
        let asked = format!("systemctl show --property={property} --value astlogger");
        self.at(node).run(&asked).trim().to_owned()
    }

    /// What the service has logged, oldest first.
    pub fn journal(&self, node: NodeId) -> Vec<Value> {
        let lines = self.at(node).run("journalctl --no-pager -o json -u astlogger");
        lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// The group as a node sees it; none while it does not answer.
    fn status(&self, node: NodeId) -> Option<Value> {
        let output = self.at(node).try_run("astlogger status --json");
        let last = String::from_utf8_lossy(&output.stdout).lines().last()?.to_owned();
        output.status.success().then(|| serde_json::from_str(&last).ok())?
    }

    /// The duty of a node as it sees itself.
    fn duty(&self, node: NodeId) -> Option<String> {
        let members = self.status(node)?["members"].as_array()?.clone();
        let own = members.into_iter().find(|member| member["node"] == node.0)?;
        Some(own["duty"].as_str()?.to_owned())
    }

    /// Waits until this node leads.
    pub async fn leads(&self, node: NodeId) {
        let lead = |all: &Self| all.duty(node).as_deref() == Some("lead");
        self.until(&format!("node {node} leads"), lead).await;
    }

    /// Waits until one of the recorders leads steadily and the other could; says which.
    pub async fn lead_and_other(&self) -> (NodeId, NodeId) {
        let mut since: Option<(NodeId, Instant)> = None;
        let deadline = Instant::now() + LIMIT;
        loop {
            let duties = (self.duty(ONE), self.duty(TWO));
            let lead = match (duties.0.as_deref(), duties.1.as_deref()) {
                (Some("lead"), Some("standby")) => Some((ONE, TWO)),
                (Some("standby"), Some("lead")) => Some((TWO, ONE)),
                _ => None,
            };
            match (lead, since) {
                (Some((lead, other)), Some((before, at))) if lead == before => {
                    if at.elapsed() > STEADY {
                        return (lead, other);
                    }
                }
                (lead, _) => since = lead.map(|(lead, _)| (lead, Instant::now())),
            }
            assert!(Instant::now() < deadline, "nobody leads: {duties:?}{}", self.log_tails());
            sleep(LOOK).await;
        }
    }

    /// Waits until a node could do what it is for, and the group agrees.
    pub async fn serves(&self, node: NodeId) {
        let serves = |all: &Self| {
            let duty = all.duty(node);
            if node == WITNESS {
                duty.is_some()
            } else {
                matches!(duty.as_deref(), Some("lead" | "standby"))
            }
        };
        self.until(&format!("node {node} serves"), |all| {
            serves(all) && all.unit(node, "ActiveState") == "active"
        })
        .await;
    }

    /// Waits for what is looked at now and then.
    pub async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !holds(self) {
            assert!(Instant::now() < deadline, "not in time: {what}{}", self.log_tails());
            sleep(LOOK).await;
        }
    }

    fn site(&self) -> &Site {
        self.site.as_ref().expect("it runs")
    }

    /// A call from outside, answered at a station that is free.
    pub async fn call(&mut self) -> CallRef {
        let number = self.next;
        self.next = (self.next + 1) % AGENTS;
        self.answered += 1;
        let (caller, station) = (format!("55512{number:05}"), format!("{}", 31001 + number));
        answered_call(self.site(), &caller, &station).await
    }

    /// So many calls that this node has recorded for a while.
    pub async fn calls_at(&mut self, node: NodeId, count: usize) -> Vec<CallRef> {
        let mut calls = Vec::new();
        for _ in 0..count {
            calls.push(self.call().await);
        }
        self.recorded_by(&calls, node).await;
        self.go_on(&calls, super::SOME).await;
        calls
    }

    /// Waits until a phantom of this node is in each call.
    pub async fn recorded_by(&self, calls: &[CallRef], node: NodeId) {
        self.recorded_by_any(calls, &[node]).await;
    }

    /// Waits until a phantom of one of these nodes is in each call.
    pub async fn recorded_by_any(&self, calls: &[CallRef], nodes: &[NodeId]) {
        let config = self.site().config();
        let mut phantoms = Vec::new();
        for node in nodes {
            let mut own = config.clone();
            own.phantoms = vec![config.phantoms[usize::from(node.0) - 1].clone()];
            phantoms.extend(own.phantom_list().expect("ranges").into_iter().map(|(own, _)| own));
        }
        let own = |phantom: &&str| phantoms.iter().any(|own| own == phantom);
        for call in calls {
            let joined = self
                .site()
                .switch()
                .wait(*call, LIMIT, |view| {
                    view.is_some_and(|view| view.recorders().iter().any(own))
                })
                .await;
            assert!(joined, "{nodes:?}: none records {call:?}{}", self.log_tails());
        }
    }

    /// Waits until each call has gone on for so many more frames.
    pub async fn go_on(&self, calls: &[CallRef], frames: u32) {
        let switch = self.site().switch();
        let now = |call: &CallRef| switch.call(*call).map_or(0, |view| view.frames);
        let now: Vec<_> = calls.iter().map(now).collect();
        for (call, now) in calls.iter().zip(now) {
            reach_frames(self.site(), *call, now + frames).await;
        }
    }

    /// All persons of these calls hang up.
    pub fn hang_up(&self, calls: &[CallRef]) {
        for call in calls {
            self.site().switch().hangup_all(*call);
        }
    }

    /// What is on the disks of all machines.
    pub fn recordings(&self) -> Vec<Published> {
        let folder =
            |(node, machine): (&NodeId, &Machine)| (*node, machine.file("/var/lib/astlogger"));
        demo::recordings_of(self.machines.iter().map(folder)).expect("records can be read")
    }

    /// What is on one machine's.
    pub fn recordings_at(&self, node: NodeId) -> Vec<Published> {
        let folder = self.at(node).file("/var/lib/astlogger");
        demo::recordings_of([(node, folder)]).expect("records can be read")
    }

    /// Waits until so many recordings are published.
    pub async fn published(&self, count: usize) {
        self.until(&format!("{count} recordings"), |all| all.recordings().len() >= count).await;
    }

    /// Waits until all is done, and judges.
    pub async fn assert_right(&self) -> Verdict {
        self.published(self.answered).await;
        let busy = |all: &Self, node| {
            all.status(node).is_none_or(|status| status["recordings"].as_u64() != Some(0))
        };
        self.until("nothing is recorded any more", |all| !busy(all, ONE) && !busy(all, TWO)).await;
        let due = demo::due_to_the_end(&self.site().history(), |call| call.answered);
        let verdict = demo::judge_copies(&due, &self.recordings(), 1).expect("files can be read");
        assert!(verdict.is_exactly_right(), "{verdict:#?}{}", self.log_tails());
        assert_eq!(verdict.calls_recorded as usize, self.answered, "{verdict:#?}");
        let hole = verdict.takeover_gap_ms_max;
        assert!(hole <= HOLE_MAX_MS, "{verdict:#?}{}", self.log_tails());
        self.tell(&format!(
            "{} calls, {} takeovers with a hole, the longest {} ms",
            verdict.calls_recorded, verdict.takeovers, verdict.takeover_gap_ms_max
        ));
        verdict
    }

    /// Says how far the test is.
    pub fn tell(&self, what: &str) {
        eprintln!("after {:3} s: {what}", self.begun.elapsed().as_secs());
    }

    fn log_tails(&self) -> String {
        let tail = |(node, machine): (&NodeId, &Machine)| {
            let log = machine.is_on().then(|| {
                machine.try_run("journalctl --no-pager -n 40 -o short-precise -u astlogger").stdout
            });
            format!("\n==== node {node}:\n{}", String::from_utf8_lossy(&log.unwrap_or_default()))
        };
        self.machines.iter().map(tail).collect()
    }
}

/// The program that is installed first, where it is another than this one.
pub fn earlier_program() -> Option<OsString> {
    std::env::var_os("EARLIER_PROGRAM")
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        std::fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

/// An authority and a certificate for all AES, as a site would have them.
fn aes_certificates(folder: &Path) -> Result<TlsConfig> {
    std::fs::create_dir_all(folder)?;
    let authority_key = KeyPair::generate()?;
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "a site's own authority");
    std::fs::write(folder.join("ca.pem"), authority.self_signed(&authority_key)?.pem())?;
    let issuer = Issuer::new(authority, authority_key);
    let names = ["aes1.example.com", "aes2.example.com"].map(str::to_owned);
    let key = KeyPair::generate()?;
    let files = ["aes.pem", "aes.key"].map(|name| folder.join(name));
    let signed = CertificateParams::new(names)?.signed_by(&key, &issuer)?;
    std::fs::write(&files[0], signed.pem())?;
    std::fs::write(&files[1], key.serialize_pem())?;
    let [certificate, key] = files.map(|file| file.display().to_string());
    Ok(TlsConfig { certificate, key })
}
