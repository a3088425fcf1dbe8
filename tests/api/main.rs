//! What programs are told about us (`docs/api.md`): the descriptions are held against a recording group by a Python
//! client that knows nothing else, and the examples are run as they are. What the requests do is tested elsewhere.

#[path = "../common/mod.rs"]
mod common;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use astlogger::users::{self, UserRole};
use common::group::{GroupBench, ONE, TWO, sha256};
use common::{LIMIT, PASSWORD};
use serde_json::Value;
use simulator::CallRef;
use storage_core::NodeId;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// Frames of a call.
const SOME: u32 = 60;
/// All that the checking client asks takes so long at most, on a busy machine.
const CHECKED_WITHIN: Duration = Duration::from_secs(150);

/// A program that is spoken with by lines.
struct Spoken {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Spoken {
    fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("it is installed: see ./setup tests");
        let input = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { child, input, output }
    }

    async fn say(&mut self, line: &str) {
        self.input.write_all(format!("{line}\n").as_bytes()).await.expect("it listens");
    }

    /// The next line that begins so.
    async fn until(&mut self, beginning: &str, limit: Duration) -> String {
        let found = async {
            while let Some(line) = self.output.next_line().await.expect("text") {
                if line.starts_with(beginning) {
                    return line;
                }
            }
            panic!("it ended without saying `{beginning}`; what it said is above");
        };
        timeout(limit, found).await.unwrap_or_else(|_| panic!("`{beginning}` is not said"))
    }

    async fn ends_well(&mut self) {
        let ended = timeout(LIMIT, self.child.wait()).await.expect("it ends").expect("a status");
        assert!(ended.success(), "{ended}");
    }
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The system's Python is the one for which ./setup installs.
fn python(script: &str) -> Command {
    let system = Path::new("/usr/bin/python3");
    let mut command = Command::new(if system.exists() { system } else { Path::new("python3") });
    command.arg(folder(script));
    command
}

/// A group with a user of each role.
async fn with_everybody() -> GroupBench {
    let bench = GroupBench::hot_standby(3).await;
    let file = bench.group.members[&ONE].node.users_path();
    for (role, extension) in
        [(UserRole::Agent, Some("31001")), (UserRole::Auditor, None), (UserRole::Admin, None)]
    {
        users::add(&file, role.as_str(), role, extension, None, PASSWORD).expect("writable");
    }
    bench.group.share_users().expect("writable");
    bench
}

fn web(bench: &GroupBench, node: NodeId) -> String {
    bench.group.members[&node].node.web().to_string()
}

/// Calls of this length, recorded by the active and over.
async fn record(bench: &GroupBench, calls: &[CallRef]) {
    bench.recorded_by(calls, ONE).await;
    bench.go_on(calls, SOME).await;
    bench.hang_up(calls);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_described_is_what_is_served() {
    let mut bench = with_everybody().await;
    let node = web(&bench, TWO);
    let mut checking = python("tests/api/check.py");
    let mut checking =
        Spoken::start(checking.args([&node, &folder("docs/api").display().to_string(), PASSWORD]));
    checking.until("watching", LIMIT).await;
    let calls = bench.calls(2).await;
    bench.recorded_by(&calls[..1], ONE).await;
    let mut supervisor = bench.cti(TWO, "supervisor").await;
    for request in ["pauserecording", "resumerecording"] {
        let asked = serde_json::json!({"request": request, "extension": "31001"});
        let reply = supervisor.ask(asked).await.expect("a reply");
        assert_eq!(reply["result"], "success", "{reply}");
    }
    record(&bench, &calls[..1]).await;
    bench.published(1).await;
    bench.kill(ONE).await;
    bench.recorded_by(&calls[1..], TWO).await;
    bench.go_on(&calls[1..], SOME).await;
    bench.hang_up(&calls[1..]);
    bench.published(2).await;
    bench.run().await;
    bench.quiet().await;
    // One is in progress while requests are made.
    let call = bench.call(0).await;
    bench.recorded_by_any(&[call], &[ONE, TWO]).await;
    checking.say("").await;
    let result = checking.until("{", CHECKED_WITHIN).await;
    checking.ends_well().await;
    let result: Value = serde_json::from_str(&result).expect("JSON");
    for event in [
        "callstarted",
        "callupdated",
        "callended",
        "recordingstarted",
        "recordingpaused",
        "recordingresumed",
        "recordingpublished",
        "takeover",
        "rolechanged",
        "levels",
    ] {
        assert!(result["heard"][event].as_u64() > Some(0), "{event} was not heard: {result}");
    }
    // Each of both nodes hears the call itself, and is told by the other: nothing is told twice.
    for event in ["recordingpaused", "recordingresumed"] {
        assert_eq!(result["heard"][event], 1, "{event}: {result}");
    }
    let asked = result["socket"].as_object().expect("requests");
    assert!(asked.len() >= 18, "{result}");
    // There is no scorecard, there is nothing to cancel, nothing that another copy could fill, what is to be deleted is not there, and
    // the call that is to be listened to is none.
    for (request, outcomes) in asked {
        let answered = outcomes.as_array().expect("outcomes").iter().any(|one| one == "success");
        let excused = [
            "cancelexport",
            "cancelfetch",
            "deleterecording",
            "drill",
            "repairrecording",
            "scorerecording",
            "listen",
            "stoplisten",
        ];
        let excused = excused.contains(&request.as_str());
        assert!(answered || excused, "no role succeeded with {request}: {outcomes}");
    }
    assert!(result["http"].as_u64() > Some(100), "{result}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_in_python_fetches_what_it_finds() {
    let bench = with_everybody().await;
    let calls = bench.calls(2).await;
    record(&bench, &calls).await;
    bench.published(2).await;
    bench.quiet().await;
    let dir = tempfile::tempdir().expect("a folder");
    let mut fetching = python("docs/examples/fetch.py");
    let address = format!("ws://{}/ws", web(&bench, TWO));
    fetching.args([&address, "qa", "extension=31002"]).current_dir(dir.path());
    let mut fetching = Spoken::start(&mut fetching);
    fetching.say(PASSWORD).await;
    fetching.ends_well().await;
    let files: Vec<_> = std::fs::read_dir(dir.path()).expect("a folder").flatten().collect();
    let of_station = |bench: &GroupBench| {
        bench.recordings().into_iter().find(|(_, record)| record.extension.as_str() == "31002")
    };
    let (path, record) = of_station(&bench).expect("it is on a disk");
    assert_eq!(files.len(), 1, "{files:?}");
    assert_eq!(files[0].file_name(), path.file_name().expect("a name"));
    let fetched = std::fs::read(files[0].path()).expect("readable");
    assert_eq!(sha256(&fetched), record.sha256);

    let mut refused = python("docs/examples/fetch.py");
    refused.args([&address, "qa"]).current_dir(dir.path()).stderr(Stdio::piped());
    let mut refused = Spoken::start(&mut refused);
    refused.say("not the password").await;
    let output = timeout(LIMIT, refused.child.wait_with_output()).await.expect("it ends");
    let output = output.expect("output");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains("notauthenticated"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_in_javascript_checks_and_tags_what_is_published() {
    let bench = with_everybody().await;
    let dir = tempfile::tempdir().expect("a folder");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a folder above");
    std::fs::copy(folder("docs/examples/watch.mjs"), dir.path().join("watch.mjs")).expect("copied");
    std::os::unix::fs::symlink(target.join("ws/node_modules"), dir.path().join("node_modules"))
        .expect("a link");
    let mut watching = Command::new("node");
    let site = format!("http://{}", web(&bench, TWO));
    watching.current_dir(dir.path()).args(["watch.mjs", &site, "qa", "2"]);
    let mut watching = Spoken::start(&mut watching);
    watching.say(PASSWORD).await;
    watching.until("watching", LIMIT).await;
    let calls = bench.calls(2).await;
    record(&bench, &calls).await;
    for _ in 0..2 {
        let line = watching.until("0", LIMIT).await;
        assert!(line.ends_with("checked"), "{line}");
    }
    watching.ends_well().await;
    let mut qa = bench.cti(ONE, "qa").await;
    let asked = serde_json::json!({"request": "listrecordings", "tag": "checked"});
    let reply = qa.ask(asked).await.expect("a reply");
    assert_eq!(reply["recordings"].as_array().map(Vec::len), Some(2), "{reply}");
}
