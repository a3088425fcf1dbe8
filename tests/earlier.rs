//! What earlier builds left on their disks (`tests/data`): the present one goes on with it. All members start on
//! the old group's log and captures, list and give out the old recordings, take new calls, and `verify` finds all
//! in order.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::group::{GroupBench, ONE, TWO, WITNESS};
use simulator::SiteConfig;
use storage_core::record::GapCause;

/// Calls in each folder of data; one of them was taken over.
const OLD_CALLS: usize = 2;

fn earlier() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let files = std::fs::read_dir(folder).expect("data").map(|file| file.expect("a file").path());
    files.filter(|file| file.extension().is_some_and(|ending| ending == "gz")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_goes_on_with_what_an_earlier_build_left() {
    let all = earlier();
    assert!(!all.is_empty(), "there is no data of an earlier build");
    for data in all {
        eprintln!("{}", data.display());
        goes_on_with(&data).await;
    }
}

async fn goes_on_with(data: &Path) {
    let shape = astlogger::demo::Shape::hot_standby(4);
    let mut bench = GroupBench::prepare(SiteConfig::demo(4, 2), &shape).await;
    let folder = bench.group.members[&ONE].node.data_dir();
    let folder = folder.parent().and_then(Path::parent).expect("the nodes' folders lie there");
    let unpacked = Command::new("tar")
        .args(["--no-same-owner", "-xzf"])
        .arg(data)
        .arg("-C")
        .arg(folder)
        .status()
        .expect("tar");
    assert!(unpacked.success());
    let old = bench.recordings();
    assert_eq!(old.len(), OLD_CALLS, "{old:?}");
    let taken_over =
        |gaps: &[storage_core::record::Gap]| gaps.iter().any(|gap| gap.cause == GapCause::Takeover);
    assert!(old.iter().any(|(_, record)| taken_over(&record.gaps)), "{old:?}");

    bench.run().await;
    bench.somebody_leads().await;
    let call = bench.call(0).await;
    bench.recorded_by_any(&[call], &[ONE, TWO]).await;
    bench.go_on(&[call], 60).await;
    bench.hang_up(&[call]);
    bench.published(OLD_CALLS + 1).await;
    bench.quiet().await;
    // Nothing is lost, altered or made twice of what was there.
    let now = bench.recordings();
    assert_eq!(now.len(), OLD_CALLS + 1, "{now:?}");
    for (_, record) in &old {
        let is_it = |(_, now): &&astlogger::demo::Published| now.recordingid == record.recordingid;
        let (_, same) = now.iter().find(is_it).expect("it is still there");
        assert_eq!(same, record);
    }
    for node in [ONE, TWO] {
        let listed = bench.listed(node).await;
        assert_eq!(listed.len(), OLD_CALLS + 1, "node {node}: {listed:?}");
        for id in &listed {
            assert!(!bench.fetched(node, id).await.is_empty(), "{id}");
        }
    }
    for node in [ONE, TWO, WITNESS] {
        bench.terminate(node).await;
        let verified = Command::new(env!("CARGO_BIN_EXE_astlogger"))
            .arg("verify")
            .arg(bench.group.members[&node].node.data_dir())
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&verified.stdout);
        let complaint = String::from_utf8_lossy(&verified.stderr);
        assert!(verified.status.success(), "node {node}: {said}{complaint}");
    }
}
