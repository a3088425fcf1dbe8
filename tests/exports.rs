//! 5,000 recordings exported by a real node in one job, which is killed in its midst and goes on; the download
//! breaks off and goes on as well. What comes out is judged by Python, and what it cost by the kernel.

mod common;

#[path = "browser/made_up.rs"]
#[allow(dead_code, reason = "a part of it is used")]
mod made_up;
#[path = "common/zip_of.rs"]
mod zip_of;

use std::collections::BTreeSet;
use std::path::Path;

use astlogger::demo::Cti;
use common::export::{self, event, fetch};
use common::{Bench, LIMIT};
use serde_json::json;
use sha2::{Digest, Sha256};
use simulator::SiteConfig;
use tokio::time::{Instant, timeout};

const RECORDINGS: u64 = 5_000;
/// Of each, at 8 kHz and 16 bits: 200 MB in all.
const SAMPLES: usize = 20_000;
/// How much more memory the node may ever have had, after it has gone through all that and sent it.
const GROWTH_KIB_MAX: u64 = 64 * 1024;

fn audio(number: u64) -> Vec<i16> {
    (0..SAMPLES as u64).map(|at| ((at * (number + 3)) % 4_001) as i16).collect()
}

/// The most memory that a process has ever had.
fn peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("Linux");
    line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
}

/// Waits until the catalog has all that was laid down.
async fn listed(cti: &mut Cti) {
    let deadline = Instant::now() + LIMIT * 4;
    loop {
        let reply = cti.ask(json!({ "request": "listrecordings", "limit": 1 })).await.expect("one");
        if reply["total"] == RECORDINGS {
            return;
        }
        assert!(Instant::now() < deadline, "not all are listed: {reply}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_recordings_are_exported_over_a_kill_and_a_broken_download() {
    let mut bench = Bench::prepare(SiteConfig::demo(1, 1), "al_mindiskfree = \"1 MB\"\n").await;
    let data = bench.node.data_dir();
    let mut expected = BTreeSet::new();
    for number in 0..RECORDINGS {
        let hostile =
            json!({ "calling": made_up::HOSTILE, "called": "=1+1", "agentid": "../../x" });
        let special = if number % 1000 == 0 { hostile } else { json!({}) };
        made_up::lay(&data, number, &[audio(number)], &special);
        expected.insert(made_up::id(number));
    }
    bench.node.start().expect("the node starts");
    bench.node.ready(LIMIT * 4).await.expect("ready");
    let mut cti = bench.cti("qa").await;
    listed(&mut cti).await;
    let reply = cti.ask(json!({ "request": "exportrecordings" })).await.expect("a reply");
    assert_eq!(reply["total"], RECORDINGS, "{reply}");
    let before = loop {
        let told = event(&mut cti).await;
        assert_ne!(told["state"], "complete", "it was too quick to be killed");
        if told["done"].as_u64().expect("a number") > 0 {
            break told["done"].as_u64();
        }
    };
    bench.node.kill().await.expect("it runs");

    bench.node.start().expect("the node starts");
    bench.node.ready(LIMIT * 4).await.expect("ready");
    let web = bench.node.web();
    let peak = peak_kib(bench.node.pid().expect("it runs"));
    let mut cti = bench.cti("qa").await;
    let listed = cti.ask(json!({ "request": "listexports" })).await.expect("a reply");
    let listed = &listed["exports"][0];
    assert_eq!(listed["export"], reply["export"]);
    assert!(listed["done"].as_u64() >= before, "it began anew: {listed}, and was at {before:?}");
    let begun = Instant::now();
    let complete = async {
        let mut told = listed.clone();
        while told["state"] != "complete" {
            told = event(&mut cti).await;
        }
        told
    };
    let told = timeout(LIMIT * 4, complete).await.expect("it completes");
    println!("{} recordings after the kill in {:?}", told["done"], begun.elapsed());
    assert_eq!((&told["done"], &told["missing"]), (&json!(RECORDINGS), &json!(0)));

    let token = export::token(&mut cti).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("export.zip");
    let (path, address) = (file.clone(), told["address"].as_str().expect("one").to_owned());
    let downloaded = tokio::task::spawn_blocking(move || {
        let whole = fetch(web, &token, &address, &path, 60_000_001);
        assert_eq!(fetch(web, &token, &address, &path, u64::MAX), whole);
        whole
    });
    let whole = downloaded.await.expect("a download");
    assert_eq!(std::fs::metadata(&file).expect("there").len(), whole);
    let grown = peak_kib(bench.node.pid().expect("it runs")).saturating_sub(peak);
    println!("{whole} bytes, peak of memory grown by {grown} KiB");
    assert!(grown < GROWTH_KIB_MAX, "memory has grown by {grown} KiB for {whole} bytes");
    judge(&file, &expected, &data);
}

fn judge(file: &Path, expected: &BTreeSet<String>, data: &Path) {
    let found = zip_of::read(file);
    assert_eq!(found["bad"], json!(null));
    let rows = found["recordings"].as_array().expect("a table");
    let ids: BTreeSet<String> =
        rows.iter().map(|row| row["recordingid"].as_str().expect("an id").to_owned()).collect();
    assert_eq!((rows.len(), &ids), (expected.len(), expected));
    assert_eq!(found["missing"], json!([]));
    let names = found["names"].as_array().expect("names");
    assert_eq!(names.len(), 2 * expected.len() + 2);
    let plain = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-./".contains(&b));
    assert!(names.iter().all(|name| plain(name.as_str().expect("text"))), "a caller is in a path");
    let hostile: Vec<_> = rows.iter().filter(|row| row["called"] == "'=1+1").collect();
    assert_eq!((hostile.len(), &hostile[0]["calling"]), (5, &json!(made_up::HOSTILE)));
    for number in [0, 1, 2_500, 4_999] {
        let id = made_up::id(number);
        let lies = walk(&data.join("voice"), &format!("{id}.wav"));
        let sha256: String =
            Sha256::digest(lies).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found["sha256"][format!("audio/{id}.wav")], sha256, "{id}");
    }
}

/// The bytes of the file of this name somewhere below a folder.
fn walk(folder: &Path, name: &str) -> Vec<u8> {
    let found = std::process::Command::new("find").arg(folder).args(["-name", name]).output();
    let path = String::from_utf8(found.expect("find").stdout).expect("text");
    std::fs::read(path.trim()).expect("one file")
}
