//! A group for end-to-end tests: the simulated switch in this process, two recorders and a witness as
//! real child processes, and the judgement over the disks of all of them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use astlogger::demo::{self, Cti, GroupSite, Heard, Published, Shape, Sight, Verdict};
use astlogger::users::{self, UserRole};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use simulator::{CallRef, FinishedCall, SiteConfig};
use storage_core::naming::CATALOG_FOLDER;
use storage_core::{NodeId, Recording, Role};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::{LIMIT, PASSWORD, answered_call, log_tail, reach_frames};

/// The active, on AES 0.
pub const ONE: NodeId = NodeId(1);
/// The other recorder, on AES 1.
pub const TWO: NodeId = NodeId(2);
/// The witness.
pub const WITNESS: NodeId = NodeId(3);

/// Frames of a call that is recorded and over.
const SOME: u32 = 60;

/// A running group.
pub struct GroupBench {
    pub group: GroupSite,
    _dir: TempDir,
}

impl GroupBench {
    /// Active, backup and witness; so many stations, all monitored. The active leads.
    pub async fn hot_standby(agents: usize) -> Self {
        Self::start(SiteConfig::demo(agents, 2), &Shape::hot_standby(agents)).await
    }

    /// Active, parallel and witness.
    pub async fn active_active(agents: usize) -> Self {
        Self::start(SiteConfig::demo(agents, 2), &Shape::active_active(agents)).await
    }

    /// Starts all nodes and waits until they are ready and the active leads.
    pub async fn start(config: SiteConfig, shape: &Shape) -> Self {
        let mut bench = Self::prepare(config, shape).await;
        bench.run().await;
        bench.leads_steadily(ONE).await;
        bench
    }

    /// A group of which no node is started yet.
    pub async fn prepare(config: SiteConfig, shape: &Shape) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let binary = Path::new(env!("CARGO_BIN_EXE_astlogger"));
        let group = GroupSite::prepare(binary, dir.path(), config, shape).await;
        let group = group.expect("the site starts");
        let users = group.members[&ONE].node.users_path();
        for (name, role) in [("supervisor", UserRole::Supervisor), ("qa", UserRole::Qa)] {
            users::add(&users, name, role, None, None, PASSWORD).expect("a users file");
        }
        group.share_users().expect("writable");
        Self { group, _dir: dir }
    }

    /// Starts whatever does not run, and waits until all are ready.
    pub async fn run(&mut self) {
        if let Err(error) = self.group.start(LIMIT).await {
            panic!("{error:#}; {}", self.log_tails());
        }
    }

    /// `kill -9`.
    pub async fn kill(&mut self, node: NodeId) {
        self.group.member(node).expect("a member").node.kill().await.expect("it runs");
    }

    /// SIGTERM, and its orderly end.
    pub async fn terminate(&mut self, node: NodeId) {
        let stopped = self.group.member(node).expect("a member").node.stop(LIMIT).await;
        assert!(stopped.is_ok(), "{stopped:?}; {}", self.log_tails());
    }

    /// SIGSTOP.
    pub fn pause(&self, node: NodeId) {
        self.group.members[&node].node.pause().expect("it runs");
    }

    /// SIGCONT.
    pub fn resume(&self, node: NodeId) {
        self.group.members[&node].node.resume().expect("it runs");
    }

    /// Replaces a text in a node's configuration.
    pub fn edit(&self, node: NodeId, from: &str, to: &str) {
        let path = self.group.members[&node].node.config_path();
        let text = std::fs::read_to_string(&path).expect("the configuration");
        assert!(text.contains(from), "{from} is not in {text}");
        std::fs::write(&path, text.replace(from, to)).expect("writable");
    }

    /// Removes a node's catalog, while it does not run.
    pub fn lose_catalog(&self, node: NodeId) {
        std::fs::remove_dir_all(self.catalog(node)).expect("there is one");
    }

    /// Waits until a node's new catalog has what the others own.
    pub async fn has_caught_up(&self, node: NodeId) {
        let mark = self.catalog(node).join("own-only");
        let deadline = Instant::now() + LIMIT;
        while mark.exists() {
            assert!(Instant::now() < deadline, "{}", self.log_tails());
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn catalog(&self, node: NodeId) -> PathBuf {
        self.group.members[&node].node.data_dir().join(CATALOG_FOLDER)
    }

    /// Waits until this node leads, and no other.
    pub async fn leads(&self, node: NodeId) {
        let what = format!("node {node} alone leads");
        self.until(&what, |seen| demo::leads_alone(seen, node)).await;
    }

    /// The same, and that it stays so.
    pub async fn leads_steadily(&self, node: NodeId) {
        if let Err(error) = self.group.leads_steadily(node, LIMIT).await {
            panic!("{error:#}; {}", self.log_tails());
        }
    }

    /// Waits until all answer and one of them leads.
    pub async fn somebody_leads(&self) {
        let one = |seen: &[Sight]| seen.iter().filter(|sight| sight.leads()).count() == 1;
        let all = |seen: &[Sight]| seen.iter().all(|sight| sight.metrics.is_some());
        self.until("one node leads", |seen| one(seen) && all(seen)).await;
    }

    /// Waits until this node says that it leads, whatever others say.
    pub async fn says_it_leads(&self, node: NodeId) {
        let what = format!("node {node} leads");
        self.until(&what, |seen| seen.iter().any(|sight| sight.node == node && sight.leads()))
            .await;
    }

    /// Waits until this node has this duty.
    pub async fn duty(&self, node: NodeId, duty: &str) {
        let what = format!("node {node} has the duty {duty}");
        let has = |sight: &Sight| sight.node == node && sight.duty() == Some(duty);
        self.until(&what, |seen| seen.iter().any(has)).await;
    }

    /// Waits until a metric of a node fulfils a condition.
    pub async fn metric(&self, node: NodeId, name: &str, holds: impl Fn(f64) -> bool) {
        let what = format!("{name} of node {node}");
        let fulfils = |sight: &Sight| sight.node == node && holds(sight.sum(name));
        self.until(&what, |seen| seen.iter().any(fulfils)).await;
    }

    /// Waits until what is seen of the nodes is as wished.
    pub async fn until(&self, what: &str, holds: impl Fn(&[Sight]) -> bool) {
        if let Err(error) = self.group.until(what, LIMIT, holds).await {
            panic!("{error:#}; {}", self.log_tails());
        }
    }

    /// So many calls from outside, at the stations from 31001 on, answered there.
    pub async fn calls(&self, count: usize) -> Vec<CallRef> {
        let mut calls = Vec::new();
        for number in 0..count {
            calls.push(self.call(number).await);
        }
        calls
    }

    /// One call, at the station of this number, counted from 0.
    pub async fn call(&self, number: usize) -> CallRef {
        let (caller, station) = (format!("55512{number:05}"), format!("{}", 31001 + number));
        answered_call(&self.group.site, &caller, &station).await
    }

    /// Has a recorder's AES answer late. The switch sends every 20 ms: whoever sees that the other has died and joins
    /// between two packets leaves no hole.
    pub fn takes_over_slowly(&self, recorder: NodeId) {
        self.group.site.faults().delay_requests(usize::from(recorder == TWO), 100);
    }

    /// So many calls that the first recorder captured for so many frames, and the second for as many after
    /// the first was killed; they go on.
    pub async fn taken_over(&mut self, calls: usize, frames: u32) -> Vec<CallRef> {
        let calls = self.calls(calls).await;
        self.recorded_by(&calls, ONE).await;
        self.go_on(&calls, frames).await;
        self.kill(ONE).await;
        self.recorded_by(&calls, TWO).await;
        self.go_on(&calls, frames).await;
        calls
    }

    /// So many calls that were recorded and are over: their recordings' names, in order. Both recorders have each
    /// voice file.
    pub async fn record(&self, count: usize) -> Vec<String> {
        let calls = self.calls(count).await;
        self.recorded_by(&calls, ONE).await;
        self.go_on(&calls, SOME).await;
        self.hang_up(&calls);
        self.quiet().await;
        self.comes_true("both have all files", || {
            [ONE, TWO].into_iter().all(|node| self.lying(node).len() == count)
        })
        .await;
        let mut ids: Vec<_> = self.lying(ONE).iter().map(|r| r.recordingid.to_string()).collect();
        ids.sort();
        ids
    }

    /// The records on a node's disk.
    pub fn lying(&self, node: NodeId) -> Vec<Recording> {
        let found = self.group.members[&node].node.recordings().expect("every record can be read");
        found.into_iter().map(|(_, record)| record).collect()
    }

    /// Waits until something is so.
    pub async fn comes_true(&self, what: &str, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !holds() {
            assert!(Instant::now() < deadline, "{what}: never; {}", self.log_tails());
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until a phantom of this node is in each call.
    pub async fn recorded_by(&self, calls: &[CallRef], node: NodeId) {
        self.recorded_by_any(calls, &[node]).await;
    }

    /// Waits until a phantom of one of these nodes is in each call.
    pub async fn recorded_by_any(&self, calls: &[CallRef], nodes: &[NodeId]) {
        let phantoms = |node: &NodeId| self.group.phantoms_of(*node).expect("ranges");
        let phantoms: Vec<_> = nodes.iter().flat_map(phantoms).collect();
        let own = |phantom: &&str| phantoms.iter().any(|own| own == phantom);
        let switch = self.group.site.switch();
        for call in calls {
            let joined = switch
                .wait(*call, LIMIT, |view| {
                    view.is_some_and(|view| view.recorders().iter().any(own))
                })
                .await;
            assert!(joined, "{nodes:?}: none records {call:?}; {}", self.log_tails());
        }
    }

    /// The phantoms that are in a call now.
    pub fn phantoms_in(&self, call: CallRef) -> Vec<String> {
        let view = self.group.site.switch().call(call).expect("it is up");
        view.recorders().into_iter().map(str::to_owned).collect()
    }

    /// Waits until each call has gone on for so many more frames.
    pub async fn go_on(&self, calls: &[CallRef], frames: u32) {
        let switch = self.group.site.switch();
        let now: Vec<_> =
            calls.iter().map(|call| switch.call(*call).map_or(0, |v| v.frames)).collect();
        for (call, now) in calls.iter().zip(now) {
            reach_frames(&self.group.site, *call, now + frames).await;
        }
    }

    /// All persons of these calls hang up.
    pub fn hang_up(&self, calls: &[CallRef]) {
        for call in calls {
            self.group.site.switch().hangup_all(*call);
        }
    }

    /// Waits until no node has anything left to do. All must run.
    pub async fn quiet(&self) {
        if let Err(error) = self.group.quiet(LIMIT).await {
            panic!("{error:#}; {}", self.log_tails());
        }
    }

    /// Waits until so many recordings are on the disks.
    pub async fn published(&self, count: usize) {
        let deadline = Instant::now() + LIMIT;
        while self.recordings().len() < count {
            assert!(Instant::now() < deadline, "{:?}; {}", self.recordings(), self.log_tails());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// What is on the disks of all nodes.
    pub fn recordings(&self) -> Vec<Published> {
        self.group.recordings().expect("records can be read")
    }

    /// Signs in at a node over WebSocket.
    pub async fn cti(&self, node: NodeId, user: &str) -> Cti {
        let web = self.group.members[&node].node.web();
        Cti::sign_in(web, user, PASSWORD).await.expect("the user can sign in")
    }

    /// Signs in somebody who may have been added just now.
    pub async fn newcomer(&self, node: NodeId, user: &str) -> Cti {
        let web = self.group.members[&node].node.web();
        let deadline = Instant::now() + LIMIT;
        loop {
            match Cti::sign_in(web, user, PASSWORD).await {
                Ok(cti) => return cti,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// The names of all recordings that a node lists.
    pub async fn listed(&self, node: NodeId) -> Vec<String> {
        let mut qa = self.cti(node, "qa").await;
        let reply = qa.ask(json!({"request": "listrecordings"})).await.expect("a reply");
        let recordings = reply["recordings"].as_array().expect("a list");
        let id = |one: &Value| Some(one["recordingid"].as_str()?.to_owned());
        let mut ids: Vec<_> = recordings.iter().filter_map(id).collect();
        ids.sort();
        ids
    }

    /// A voice file, fetched from a node over WebSocket.
    pub async fn fetched(&self, node: NodeId, id: &str) -> Vec<u8> {
        let mut qa = self.cti(node, "qa").await;
        let request = json!({"request": "fetchrecording", "recordingid": id});
        let reply = qa.ask(request).await.expect("a reply");
        assert_eq!(reply["result"], "success", "node {node}: {reply}");
        let mut bytes = Vec::new();
        loop {
            match qa.next().await.expect("audio or its end") {
                Heard::Binary(frame) => bytes.extend_from_slice(&frame[4..]),
                Heard::Text(event) if event["eventtype"] == "fetchcomplete" => {
                    assert_eq!(event["sha256"], sha256(&bytes));
                    return bytes;
                }
                Heard::Text(event) => assert_ne!(event["eventtype"], "fetchfailed", "{event}"),
            }
        }
    }

    /// Waits until all is done, judges, and fails the test unless each call has exactly so many
    /// recordings, with each frame in a file or in a declared gap. All nodes must run.
    pub async fn assert_right(&self, copies: u8) -> Verdict {
        self.assert_right_by(copies, |call| call.answered).await
    }

    /// The same; `is_due` tells which calls should be recorded.
    pub async fn assert_right_by(
        &self,
        copies: u8,
        is_due: impl Fn(&FinishedCall) -> bool,
    ) -> Verdict {
        self.quiet().await;
        let due = demo::due_to_the_end(&self.group.site.history(), is_due);
        let judged = demo::judge_copies(&due, &self.recordings(), copies);
        let mut verdict = judged.expect("voice files can be read");
        let stuck = self.group.site.stuck_phantoms();
        if !stuck.is_empty() {
            verdict.faults.push(format!("phantoms left in calls: {stuck:?}"));
        }
        assert!(verdict.is_exactly_right(), "{verdict:#?}\n{}", self.log_tails());
        verdict
    }

    /// The last lines of all nodes' logs, for a failed test's message.
    pub fn log_tails(&self) -> String {
        let tails = self.group.members.iter().map(|(id, member)| {
            format!("\n==== node {id} ({}): {}", member.role.as_str(), log_tail(&member.node))
        });
        tails.collect()
    }
}

/// Exchanges two roles in the configurations of two nodes.
pub fn exchange_roles(
    bench: &GroupBench,
    (one, its): (NodeId, Role),
    (two, theirs): (NodeId, Role),
) {
    let line = |role: Role| format!("al_serverrole = \"{}\"", role.as_str());
    bench.edit(one, &line(its), &line(theirs));
    bench.edit(two, &line(theirs), &line(its));
}

/// SHA-256 as records name it.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
