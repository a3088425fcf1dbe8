//! Nodes that sign each other's checkpoints, end to end: each has the others' signatures, also from members that
//! were away; a node that was put back to an earlier state is named by all; a signing key that cannot be used keeps nobody
//! from recording.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::group::{GroupBench, ONE, TWO, WITNESS};
use common::{Bench, LIMIT};
use simulator::SiteConfig;
use storage::countersigned::{days, read_day};
use storage::disk::RealDisk;
use storage_core::NodeId;
use storage_core::naming::MANIFEST_FOLDER;

const ROLLED_BACK: &str = "astlogger_alarms{alarm=\"rolledback\"}";

fn data_dir(bench: &GroupBench, node: NodeId) -> PathBuf {
    bench.group.members[&node].node.data_dir()
}

/// Up to which line each other member has signed a node's manifest: the one after the lines that it has seen.
fn signed(bench: &GroupBench, node: NodeId) -> BTreeMap<NodeId, u64> {
    let disk = RealDisk::shared();
    let mut lines = BTreeMap::new();
    for path in days(&*disk, &data_dir(bench, node)).expect("readable") {
        for signed in read_day(&*disk, &path).expect("readable") {
            assert_eq!(signed.of.signed.node, node);
            let known = lines.entry(signed.by).or_default();
            *known = (signed.of.signed.manifest.count + 1).max(*known);
        }
    }
    lines
}

/// Waits until these members have signed a node's manifest beyond so many lines; how many at least.
async fn signed_by(bench: &GroupBench, node: NodeId, by: &[NodeId], beyond: u64) -> u64 {
    let has = || {
        let signed = signed(bench, node);
        by.iter().all(|by| signed.get(by).is_some_and(|lines| *lines > beyond))
    };
    bench.comes_true(&format!("{by:?} have signed what node {node} published"), has).await;
    let signed = signed(bench, node);
    by.iter().map(|by| signed[by]).min().expect("somebody")
}

async fn start(bench: &mut GroupBench, node: NodeId) {
    let node = &mut bench.group.member(node).expect("a member").node;
    node.start().expect("it starts");
    node.ready(LIMIT).await.expect("it is ready");
}

fn verify(bench: &GroupBench, node: NodeId, more: &[&Path]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_astlogger"));
    command.arg("verify").arg(data_dir(bench, node));
    for folder in more {
        command.arg("--against").arg(folder);
    }
    let output = command.output().expect("it runs");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("writable");
    for entry in fs::read_dir(from).expect("readable").map(|entry| entry.expect("readable")) {
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).expect("writable");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_was_put_back_while_it_did_not_run_is_named_by_all() {
    let mut bench = GroupBench::hot_standby(2).await;
    let begun = signed_by(&bench, TWO, &[ONE, WITNESS], 0).await;
    bench.terminate(TWO).await;
    let manifest = data_dir(&bench, TWO).join(MANIFEST_FOLDER);
    let backup = tempfile::tempdir().expect("a temporary folder");
    copy_folder(&manifest, backup.path());
    bench.run().await;
    bench.record(1).await;
    // The checkpoint of its end is signed when it is back.
    bench.terminate(TWO).await;
    bench.run().await;
    signed_by(&bench, TWO, &[ONE, WITNESS], begun + 2).await;
    for node in [ONE, TWO, WITNESS] {
        bench.metric(node, ROLLED_BACK, |raised| raised == 0.0).await;
    }

    bench.terminate(TWO).await;
    fs::remove_dir_all(&manifest).expect("it lies there");
    copy_folder(backup.path(), &manifest);
    bench.run().await;
    for node in [ONE, TWO, WITNESS] {
        bench.metric(node, ROLLED_BACK, |raised| raised == 1.0).await;
    }
    let before = signed(&bench, TWO);
    assert!(before.values().all(|line| *line > begun + 2), "{before:?}");
    // It goes on all the same.
    bench.leads(ONE).await;
    let call = bench.call(0).await;
    bench.recorded_by(&[call], ONE).await;
    bench.go_on(&[call], 60).await;
    bench.hang_up(&[call]);
    bench.published(2).await;
    let (code, said) = verify(&bench, TWO, &[]);
    assert!(code == Some(1) && said.contains("it was rolled back or written anew"), "{said}");
    let (code, said) = verify(&bench, TWO, &[&data_dir(&bench, ONE)]);
    assert!(
        code == Some(1) && said.contains("says of node 2 that its manifest has fewer lines"),
        "{said}"
    );
    let (code, said) = verify(&bench, ONE, &[&data_dir(&bench, WITNESS)]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("of node 2 this node has seen that its manifest has fewer lines"),
        "{said}"
    );

    // A restart of the others does not make them forget, and nobody signs what is newer.
    bench.terminate(WITNESS).await;
    bench.run().await;
    bench.metric(WITNESS, ROLLED_BACK, |raised| raised == 1.0).await;
    assert_eq!(signed(&bench, TWO), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_was_away_gives_and_gets_its_signatures_later() {
    let mut bench = GroupBench::hot_standby(2).await;
    for node in [ONE, TWO, WITNESS] {
        let others: Vec<_> =
            [ONE, TWO, WITNESS].into_iter().filter(|other| *other != node).collect();
        signed_by(&bench, node, &others, 0).await;
    }
    bench.terminate(WITNESS).await;
    bench.terminate(TWO).await;
    let before = signed(&bench, TWO)[&WITNESS];
    start(&mut bench, TWO).await;
    let without = signed_by(&bench, TWO, &[ONE], before).await;
    assert_eq!(signed(&bench, TWO)[&WITNESS], before, "it is away");
    let own = signed(&bench, WITNESS)[&ONE];
    bench.run().await;
    assert!(signed_by(&bench, TWO, &[WITNESS], before).await >= without);
    signed_by(&bench, WITNESS, &[ONE, TWO], own).await;
    for node in [ONE, TWO, WITNESS] {
        let (code, said) = verify(&bench, node, &[]);
        assert!(code == Some(0) && said.contains("are countersigned"), "{said}");
        bench.metric(node, ROLLED_BACK, |raised| raised == 0.0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signing_key_that_cannot_be_used_keeps_nobody_from_recording() {
    let bench = Bench::prepare(SiteConfig::demo(2, 1), "").await;
    let folder = bench.node.data_dir().join(MANIFEST_FOLDER);
    fs::create_dir_all(&folder).expect("writable");
    let key = folder.join("signing.key");
    fs::write(&key, "no key").expect("writable");
    let bench = bench.started().await;
    let alarm = "astlogger_alarms{alarm=\"notsigned\"}";
    bench.metric(alarm, |raised| raised == 1.0).await;
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recorded(call).await;
    bench.frames(call, 60).await;
    bench.site.switch().hangup_all(call);
    bench.published(1).await;
    // Once it can be used, what was published is signed, without a restart.
    fs::remove_file(&key).expect("it lies there");
    bench.metric(alarm, |raised| raised == 0.0).await;
    let verified = Command::new(env!("CARGO_BIN_EXE_astlogger"))
        .arg("verify")
        .arg(bench.node.data_dir())
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&verified.stdout);
    assert!(
        verified.status.success() && said.contains("with 1 signed checkpoints (0 lines"),
        "{said}"
    );
}
