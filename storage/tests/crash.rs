//! Processes that are killed (SIGKILL) while they write, over and over on the same files: nothing
//! that they were told is written may be missing afterwards.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{begin, block, contents, recording, recording_id};
use storage::{Catalog, CatalogState, DurableCatalog, Journal, JournalOptions};
use storage_core::NodeId;
use storage_core::journal::Fact;

const ROUNDS: u64 = 50;
/// How the child learns where to write, and that it is one.
const CHILD_DIR: &str = "CRASH_TEST_DIR";

fn options() -> JournalOptions {
    JournalOptions { rotate_bytes: 64 << 10, reserve_bytes: 64 << 10, files_kept: 2 }
}

/// Runs this program again as one of the two children below.
fn spawn(test: &str, dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture", "--quiet"])
        .env(CHILD_DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Lets a child work until it has acknowledged so many numbers, kills it at once, and returns the
/// last number it acknowledged.
fn run_and_kill(test: &str, dir: &Path, acknowledgements: u64) -> Option<u64> {
    let mut child = spawn(test, dir);
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (mut last, mut count) = (None, 0);
    for line in lines {
        let Some(number) = line.unwrap().strip_prefix("done ").map(|text| text.parse().unwrap())
        else {
            continue;
        };
        last = Some(number);
        count += 1;
        // What it wrote to the pipe before it died is read to the end.
        if count == acknowledgements {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(count >= acknowledgements, "the child ended by itself after {count}");
    last
}

fn child_dir() -> Option<PathBuf> {
    std::env::var_os(CHILD_DIR).map(PathBuf::from)
}

fn done(number: u64) {
    let mut out = std::io::stdout().lock();
    // The parent is gone only when the test is over.
    let _ = writeln!(out, "done {number}").and_then(|()| out.flush());
}

/// How many packets of the long call there are so far.
fn packets(journal: &Journal) -> u64 {
    let found = contents(&journal.reader(), 1);
    found.map_or(0, |found| found.packets.values().map(|numbers| numbers.len() as u64).sum())
}

#[test]
#[ignore = "a child of the test below"]
fn child_that_appends() {
    let Some(dir) = child_dir() else { return };
    let (mut journal, recovered) = Journal::open(&dir, NodeId(1), options()).unwrap();
    let left = recovered.open.iter().map(|draft| draft.recordingid);
    let left: Vec<_> = left.chain(recovered.without_draft).collect();
    if !left.contains(&recording_id(1)) {
        begin(&mut journal, 1).unwrap();
    }
    // Short calls that the kill has cut off.
    for recordingid in left.into_iter().filter(|id| *id != recording_id(1)) {
        journal.append_fact(&Fact::Sealed { recordingid }).unwrap();
    }
    let mut short = recovered.next_segment.0.max(100);
    for number in packets(&journal).. {
        let mut frames = Vec::new();
        block(&mut frames, 1, number..number + 1, 900);
        journal.append(&mut frames).unwrap();
        done(number);
        // Short calls come and go beside it, and files are cleaned.
        if number % 7 == 0 {
            begin(&mut journal, short).unwrap();
            frames.clear();
            block(&mut frames, short, 0..20, 900);
            journal.append(&mut frames).unwrap();
            journal.append_fact(&Fact::Sealed { recordingid: recording_id(short) }).unwrap();
            short += 1;
            journal.sync().unwrap();
            journal.maintain().unwrap();
        }
    }
}

#[test]
fn a_killed_recorder_loses_nothing_that_it_appended() {
    let dir = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    for round in 0..ROUNDS {
        let last = run_and_kill("child_that_appends", dir.path(), 1 + round * 37 % 23);
        let (journal, recovered) = Journal::open(dir.path(), NodeId(1), options()).unwrap();
        assert!(recovered.open.len() <= 2, "round {round}: sealed calls came back");
        assert_eq!(recovered.skipped_bytes, 0);
        let found = contents(&journal.reader(), 1).unwrap();
        let numbers = &found.packets[&1];
        assert!(numbers.iter().copied().eq(0..numbers.len() as u64), "out of order or doubled");
        assert!(numbers.last() >= last.as_ref(), "round {round}: {last:?} was acknowledged");
        assert!(begun.elapsed() < Duration::from_secs(120), "too slow in round {round}");
    }
}

#[test]
#[ignore = "a child of the test below"]
fn child_that_enters() {
    let Some(dir) = child_dir() else { return };
    let (catalog, _) = DurableCatalog::open(&dir).unwrap();
    for number in catalog.len().unwrap().. {
        catalog.put(&recording(number, i64::try_from(number).unwrap())).unwrap();
        done(number);
    }
}

#[test]
fn a_killed_catalog_loses_nothing_that_was_entered() {
    let dir = tempfile::tempdir().unwrap();
    let (catalog, _) = DurableCatalog::open(dir.path()).unwrap();
    catalog.end_rebuild().unwrap();
    drop(catalog);
    for round in 0..ROUNDS {
        let last = run_and_kill("child_that_enters", dir.path(), 1 + round * 37 % 5).unwrap();
        let (catalog, state) = DurableCatalog::open(dir.path()).unwrap();
        assert_eq!(state, CatalogState::Sound, "round {round}");
        assert!(catalog.len().unwrap() > last, "round {round}");
        for number in last.saturating_sub(20)..=last {
            let found = catalog.get(recording_id(number)).unwrap();
            assert!(found.is_some(), "round {round}: {number} was acknowledged");
        }
    }
}
