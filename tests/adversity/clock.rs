//! The clock of one member is set an hour forwards, or back, during calls. Only that process sees it: a small
//! library (`clock.c`) stands between it and the machine's clock.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use astlogger::demo::Shape;
use serde_json::json;
use simulator::SiteConfig;
use storage_core::NodeId;
use tempfile::TempDir;

use crate::common::group::{GroupBench, ONE, TWO};
use crate::sees::{cleared, node, told};

const HOUR_S: i64 = 3600;
/// How much longer or shorter than its audio a recording may be by its times.
const DURATION_OFF_MS: u64 = 1_000;

/// The library, compiled into a folder that goes with the test.
fn library(folder: &Path) -> PathBuf {
    let library = folder.join("clock.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/adversity/clock.c");
    let made = Command::new("cc")
        .args(["-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .output()
        .expect("a C compiler");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    library
}

/// The clock of a process.
struct Stepped {
    steps: File,
    now_s: std::cell::Cell<i64>,
}

impl Stepped {
    /// Has a member of a group that does not run yet go by a clock of its own, which is right at first.
    fn give(bench: &mut GroupBench, id: NodeId, folder: &Path) -> Self {
        let file = folder.join("steps");
        fs::write(&file, [0; 24]).expect("writable");
        let program = folder.join("astlogger");
        let text = format!(
            "#!/bin/sh\nexport LD_PRELOAD='{}' STEPPED_CLOCK='{}'\nexec '{}' \"$@\"\n",
            library(folder).display(),
            file.display(),
            env!("CARGO_BIN_EXE_astlogger"),
        );
        fs::write(&program, text).expect("writable");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it is ours");
        bench.group.member(id).expect("a member").node.starts_as(&program);
        let steps = File::options().write(true).open(file).expect("it is there");
        Self { steps, now_s: std::cell::Cell::new(0) }
    }

    /// From now on it is so many seconds ahead.
    fn set_ahead(&self, seconds: i64) {
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos();
        let at = i64::try_from(nanos).expect("before 2262");
        let before = self.now_s.replace(seconds);
        let words = [before, seconds, at].map(i64::to_ne_bytes).concat();
        self.steps.write_all_at(&words, 0).expect("writable");
    }
}

/// A step of the lead's clock in the midst of calls, from so many seconds ahead to so many, and a takeover after it.
async fn stepped(from: i64, to: i64) {
    let folder = TempDir::new().expect("a temporary folder");
    let settings = "al_retentiondays = 1\n".to_owned();
    let shape = Shape { consoles: true, settings, ..Shape::hot_standby(6) };
    let mut bench = GroupBench::prepare(SiteConfig::demo(6, 2), &shape).await;
    let clock = Stepped::give(&mut bench, ONE, folder.path());
    clock.set_ahead(from);
    bench.run().await;
    bench.leads_steadily(ONE).await;
    let kept = bench.record(1).await;
    let mut through = bench.calls(2).await;
    bench.recorded_by(&through, ONE).await;
    bench.go_on(&through, 100).await;
    let mut qa = bench.cti(ONE, "qa").await;
    let term =
        bench.group.members[&TWO].node.metrics().await.expect("an answer")["astlogger_raft_term"];

    clock.set_ahead(to);
    says_how_far_off(&bench, to).await;
    // The lead stays the lead, nobody is elected, and who was signed in still is.
    let begun = bench.call(2).await;
    through.push(begun);
    bench.recorded_by(&through, ONE).await;
    bench.go_on(&through, 100).await;
    let metrics = bench.group.members[&TWO].node.metrics().await.expect("an answer");
    assert_eq!(metrics["astlogger_raft_term"], term, "somebody was elected");
    let calls = qa.ask(json!({"request": "listrecordings"})).await.expect("a reply");
    assert_eq!(calls["result"], "success", "{calls}");
    // A call that ends now is as long as it was.
    bench.hang_up(&through[..1]);
    bench.published(2).await;
    bench.leads_steadily(ONE).await;
    for (_, record) in bench.recordings() {
        let by_times = record.ended.micros_since(record.started) / 1000;
        let audio = i64::try_from(record.durationms).expect("short");
        assert!((by_times - audio).unsigned_abs() <= DURATION_OFF_MS, "{record:?}");
        assert!(record.durationms < 60_000, "{record:?}");
    }

    bench.kill(ONE).await;
    bench.recorded_by(&through[1..], TWO).await;
    bench.go_on(&through[1..], 100).await;
    bench.run().await;
    bench.duty(ONE, "standby").await;
    let next = bench.call(3).await;
    bench.go_on(&[next], 60).await;
    through.push(next);
    bench.hang_up(&through[1..]);
    let verdict = bench.assert_right(1).await;
    assert_eq!((verdict.calls_recorded, verdict.duplicate_recordings), (5, 0), "{verdict:?}");
    eprintln!(
        "a clock set from {from} s to {to} s: {} takeovers, longest hole {} ms",
        verdict.takeovers, verdict.takeover_gap_ms_max
    );
    // Nothing was let go for it.
    for id in kept {
        assert!(bench.listed(TWO).await.contains(&id), "{id} is gone");
    }
    clock.set_ahead(0);
    cleared(node(&bench, TWO), "clockoff", "1").await;
}

/// Both say it, and which way; or nobody does any more.
async fn says_how_far_off(bench: &GroupBench, seconds: i64) {
    let near = move |value: f64| (value - seconds as f64).abs() < 5.0;
    bench.metric(TWO, "astlogger_clock_offset_seconds", near).await;
    if seconds == 0 {
        return cleared(node(bench, TWO), "clockoff", "1").await;
    }
    let (one, two) = if seconds > 0 {
        ("3600 s ahead of", "3600 s behind")
    } else {
        ("3600 s behind", "3600 s ahead of")
    };
    told(node(bench, TWO), "clockoff", &format!("node 1 is {one}")).await;
    told(node(bench, ONE), "clockoff", &format!("node 2 is {two}")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_an_hour_forwards_changes_no_recording() {
    stepped(0, HOUR_S).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_an_hour_back_changes_no_recording() {
    stepped(0, -HOUR_S).await;
}

/// What it captured until then bears the wrong time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_was_an_hour_ahead_and_is_put_right_changes_no_recording() {
    stepped(HOUR_S, 0).await;
}
