//! Bad input between members, end to end: strangers, doubles, contradictions and damaged disks are
//! refused or repaired, somebody is told what it is and what to do, and the healthy members go on
//! as one group: each call has exactly one recording.
//!
//! What the group itself does with each of them is tried in `cluster/tests`; here it is the whole
//! program, its log and its alarms.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use astlogger::demo::{Node, Shape};
use common::LIMIT;
use common::group::{GroupBench, ONE, TWO, WITNESS};
use simulator::SiteConfig;
use storage_core::NodeId;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Duration, Instant, sleep, timeout};

/// Frames of a call before and after something happens.
const SOME: u32 = 60;

/// A group that runs, and a process that should not be in it.
struct Refusals {
    bench: GroupBench,
    folder: TempDir,
}

impl Refusals {
    async fn start() -> Self {
        Self { bench: GroupBench::hot_standby(3).await, folder: folder() }
    }

    /// With certificates of one authority.
    async fn start_with_certificates() -> Self {
        let folder = folder();
        let config = SiteConfig::demo(3, 2);
        let mut bench = GroupBench::prepare(config, &Shape::hot_standby(3)).await;
        for node in [ONE, TWO, WITNESS] {
            let lines = certificate_lines(&folder.path().join("pki"), node);
            append(&bench.group.members[&node].node.config_path(), &lines);
        }
        bench.run().await;
        bench.leads_steadily(ONE).await;
        Self { bench, folder }
    }

    /// Another process with a member's configuration and a data folder of its own; `change` is made
    /// to the configuration.
    fn double(&self, of: NodeId, change: impl FnOnce(String) -> String) -> Node {
        let node = &self.bench.group.members[&of].node;
        let own = |line: &&str| {
            !["al_datadir", "al_usersfile", "al_listen", "al_consolelisten"]
                .iter()
                .any(|key| line.starts_with(&format!("{key} =")))
        };
        let text = std::fs::read_to_string(node.config_path()).expect("the configuration");
        let text: String = text.lines().filter(own).map(|line| format!("{line}\n")).collect();
        let binary = Path::new(env!("CARGO_BIN_EXE_astlogger"));
        Node::prepare(binary, &self.folder.path().join("double"), &change(text)).expect("writable")
    }

    /// Where a member listens for the others.
    fn listens(&self, node: NodeId) -> String {
        let path = self.bench.group.members[&node].node.config_path();
        let text = std::fs::read_to_string(path).expect("the configuration");
        let line = text.lines().find(|line| line.starts_with("al_clusterlisten")).expect("a line");
        line.split('"').nth(1).expect("a quoted address").to_owned()
    }

    fn log(&self, node: NodeId) -> PathBuf {
        self.bench.group.members[&node].node.log_path()
    }

    fn group_folder(&self, node: NodeId) -> PathBuf {
        let data = self.bench.group.members[&node].node.data_dir();
        let named = |entry: &PathBuf| entry.join("member").is_file();
        let mut folders = std::fs::read_dir(data).expect("readable").flatten().map(|e| e.path());
        folders.find(named).expect("the group's folder")
    }

    /// One call, recorded by the lead while something is wrong elsewhere.
    async fn record_one(&self, number: usize) {
        let call = self.bench.call(number).await;
        self.bench.recorded_by(&[call], ONE).await;
        self.bench.go_on(&[call], SOME).await;
        self.bench.hang_up(&[call]);
    }
}

fn folder() -> TempDir {
    TempDir::new().expect("a temporary folder")
}

fn append(path: &Path, lines: &str) {
    let text = std::fs::read_to_string(path).expect("the configuration");
    std::fs::write(path, text + lines).expect("writable");
}

/// Certificates for three members, made where there are none yet; the lines for one of them.
fn certificate_lines(pki: &Path, node: NodeId) -> String {
    if !pki.exists() {
        let made = Command::new(env!("CARGO_BIN_EXE_astlogger"))
            .args(["cluster", "init", "--nodes", "1=localhost,2=localhost,3=localhost", "--dir"])
            .arg(pki)
            .output()
            .expect("it runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
    let pki = pki.display();
    format!(
        "al_clusterca = \"{pki}/ca.pem\"\nal_clustercert = \"{pki}/node-{node}.pem\"\n\
         al_clusterkey = \"{pki}/node-{node}.key\"\n"
    )
}

/// Waits until a log has a line with all of these words; returns it.
async fn told(log: &Path, words: &[&str]) -> String {
    let deadline = Instant::now() + LIMIT;
    loop {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let mut lines = text.lines();
        if let Some(line) = lines.find(|line| words.iter().all(|word| line.contains(word))) {
            return line.to_owned();
        }
        assert!(Instant::now() < deadline, "no line with {words:?} in:\n{text}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until a process has ended by itself, with a failure.
async fn ends(node: &mut Node) {
    let pid = node.pid().expect("it was started");
    let deadline = Instant::now() + LIMIT;
    let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Nobody has waited for it yet.
    while !state().is_empty() && !state().contains(") Z ") {
        assert!(Instant::now() < deadline, "it goes on; see {}", node.log_path().display());
        sleep(Duration::from_millis(20)).await;
    }
    assert!(node.stop(LIMIT).await.is_err(), "it ended as if all were well");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_another_groups_certificate_stays_outside_and_both_sides_say_why() {
    let mut site = Refusals::start_with_certificates().await;
    site.bench.kill(WITNESS).await;
    let foreign = site.folder.path().join("foreign");
    let own = site.folder.path().join("pki").display().to_string();
    let _ = certificate_lines(&foreign, WITNESS);
    let foreign = foreign.display().to_string();
    let mut intruder = site.double(WITNESS, |text| text.replace(&own, &foreign));
    intruder.start().expect("it starts");
    told(&site.log(ONE), &["turned", "certificate", "al_clusterca"]).await;
    told(&intruder.log_path(), &["no link", "al_clusterca"]).await;
    site.record_one(0).await;
    let log = std::fs::read_to_string(site.log(ONE)).expect("readable");
    assert!(
        !log.contains("cleared: turned away"),
        "it is told once, however often it comes: {log}"
    );
    intruder.kill().await.expect("it runs");
    site.bench.run().await;
    site.record_one(1).await;
    let verdict = site.bench.assert_right(1).await;
    assert_eq!(verdict.calls_recorded, 2, "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_of_another_version_is_told_so_and_so_are_the_people_here() {
    let site = Refusals::start().await;
    let mut peer = TcpStream::connect(site.listens(ONE)).await.expect("it listens");
    // Length, kind "hello", magic, version 9, and what nobody here can read.
    peer.write_all(b"\x0b\0\0\0\x01ALGP\x09\0rest").await.expect("it reads");
    let mut answer = Vec::new();
    let read = timeout(LIMIT, peer.read_to_end(&mut answer)).await;
    read.expect("an answer in time").expect("an answer");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.contains("install the same version on both"), "{answer}");
    told(&site.log(ONE), &["turned", "version 9", "install the same version on both"]).await;
    let alarm = "astlogger_alarms{alarm=\"turnedaway\"}";
    site.bench.metric(ONE, alarm, |raised| raised >= 1.0).await;
    site.record_one(0).await;
    site.bench.assert_right(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_node_with_a_number_in_use_ends_with_a_message_new_or_copied() {
    let site = Refusals::start().await;
    let listens = site.listens(TWO);
    let elsewhere = listens.replace(":7402", ":7409");
    let moved = |text: String| {
        let line = |address: &str| format!("al_clusterlisten = \"{address}\"");
        text.replace(&line(&listens), &line(&elsewhere))
    };
    for copied in [false, true] {
        let mut double = site.double(TWO, moved);
        if copied {
            let own = site.bench.group.members[&TWO].node.data_dir();
            std::fs::remove_dir_all(double.data_dir()).expect("it is there");
            let copy = Command::new("cp").arg("-a").args([own, double.data_dir()]).status();
            assert!(copy.expect("it runs").success());
        }
        double.start().expect("it starts");
        ends(&mut double).await;
        told(&double.log_path(), &["number 2", "give one of them another"]).await;
        site.record_one(usize::from(copied)).await;
    }
    site.bench.duty(TWO, "standby").await;
    let verdict = site.bench.assert_right(1).await;
    assert_eq!(verdict.calls_recorded, 2, "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn phantoms_of_two_nodes_that_overlap_are_named_and_the_lead_records_on() {
    let mut site = Refusals::start().await;
    let range = |node: usize| site.bench.group.site.config().phantoms[node].extensions.clone();
    let (ones, twos) = (range(0), range(1));
    site.bench.terminate(TWO).await;
    site.bench.edit(TWO, &twos, &ones);
    let two = &mut site.bench.group.member(TWO).expect("a member").node;
    two.start().expect("it starts");
    ends(two).await;
    told(&site.log(TWO), &["overlap", &ones, "node 1", "Correct al_phantoms"]).await;
    site.record_one(0).await;
    site.bench.edit(TWO, &ones, &twos);
    site.bench.run().await;
    site.bench.duty(TWO, "standby").await;
    site.record_one(1).await;
    let verdict = site.bench.assert_right(1).await;
    assert_eq!(verdict.calls_recorded, 2, "{verdict:?}");
}

/// What a damaged or empty disk of the witness makes of it, and that the others go on.
async fn spoil(words: &[&str], damage: impl Fn(&Path)) {
    let mut site = Refusals::start().await;
    site.record_one(0).await;
    site.bench.quiet().await;
    site.bench.terminate(WITNESS).await;
    let group = site.group_folder(WITNESS);
    let kept = site.folder.path().join("kept");
    let copy = Command::new("cp").arg("-a").args([&group, &kept]).status();
    assert!(copy.expect("it runs").success());
    damage(&group);
    let witness = &mut site.bench.group.member(WITNESS).expect("a member").node;
    witness.start().expect("it starts");
    ends(witness).await;
    told(&site.log(WITNESS), words).await;
    site.record_one(1).await;
    // The disk as it was is as good as ever.
    std::fs::remove_dir_all(&group).expect("it is there");
    std::fs::rename(&kept, &group).expect("on one disk");
    site.bench.run().await;
    let verdict = site.bench.assert_right(1).await;
    assert_eq!(verdict.calls_recorded, 2, "{verdict:?}");
}

/// The newest file of the group's log.
fn log_file(group: &Path) -> PathBuf {
    let files = std::fs::read_dir(group).expect("readable").flatten().map(|entry| entry.path());
    let is_log = |path: &PathBuf| {
        path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"log-"))
    };
    files.filter(is_log).max().expect("a log")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_log_with_flipped_bytes_is_not_voted_with() {
    let words = ["log-", "damaged at byte", "remove member", "never used"];
    spoil(&words, |group| {
        let path = log_file(group);
        let mut bytes = std::fs::read(&path).expect("readable");
        for byte in &mut bytes[40..48] {
            *byte ^= 0x5a;
        }
        std::fs::write(&path, bytes).expect("writable");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_log_that_is_cut_to_nothing_is_not_voted_with() {
    let words = ["log-", "damaged at byte 0", "remove member", "never used"];
    spoil(&words, |group| std::fs::write(log_file(group), b"").expect("writable")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_group_folder_under_a_known_number_is_refused() {
    spoil(&["node 3", "another disk", "never used"], |group| {
        std::fs::remove_dir_all(group).expect("it is there");
        std::fs::create_dir(group).expect("writable");
    })
    .await;
}

/// What was being written when the power went is repaired without a person.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_log_with_half_a_write_at_its_end_is_repaired() {
    let mut site = Refusals::start().await;
    site.record_one(0).await;
    site.bench.quiet().await;
    site.bench.terminate(TWO).await;
    let path = log_file(&site.group_folder(TWO));
    let mut bytes = std::fs::read(&path).expect("readable");
    bytes.extend_from_slice(&[0x40, 0, 0, 0, 1, 2, 3, 4, 5]);
    std::fs::write(&path, bytes).expect("writable");
    site.bench.run().await;
    told(&site.log(TWO), &["never confirmed", "log-"]).await;
    site.bench.duty(TWO, "standby").await;
    site.record_one(1).await;
    site.bench.assert_right(1).await;
}
