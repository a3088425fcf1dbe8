//! A site for end-to-end tests: the simulated switch in this process, the recorder as a real child
//! process with a folder of its own, and the judgement from the files on disk.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod clear;
pub mod commands;
pub mod export;
pub mod forms;
pub mod group;
pub mod http;
pub mod keys;
pub mod page;
pub mod pauses;
pub mod pitch;
pub mod postgres;
pub mod skipped;
pub mod small_disk;
pub mod traces;

use std::path::Path;
use std::time::Duration;

use astlogger::demo::{self, Cti, Node, Published, Verdict};
use astlogger::users::{self, UserRole};
use simulator::{CallRef, FinishedCall, Site, SiteConfig};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// Password of all users of a test site.
pub const PASSWORD: &str = "only for this test";
/// Within this everything that a test waits for must have happened.
pub const LIMIT: Duration = Duration::from_secs(30);

/// A running site.
pub struct Bench {
    pub site: Site,
    pub node: Node,
    dir: TempDir,
}

impl Bench {
    /// A site with so many agents, all monitored, and a recorder that is ready.
    pub async fn start(agents: usize) -> Self {
        Self::start_with(SiteConfig::demo(agents, 1), "").await
    }

    /// The same with more lines of configuration.
    pub async fn start_with(config: SiteConfig, settings: &str) -> Self {
        Self::prepare(config, settings).await.started().await
    }

    /// Starts the recorder and waits until it is ready.
    pub async fn started(mut self) -> Self {
        self.node.start().expect("the node starts");
        if let Err(error) = self.node.ready(LIMIT).await {
            panic!("{error}; {}", self.log_tail());
        }
        self
    }

    /// A site whose recorder is not started yet.
    pub async fn prepare(config: SiteConfig, settings: &str) -> Self {
        let stations = config.station_list().expect("valid").len();
        Self::prepare_monitoring(config, stations, settings).await
    }

    /// The same, monitoring the first so many stations only.
    pub async fn prepare_monitoring(config: SiteConfig, stations: usize, settings: &str) -> Self {
        let site = Site::start(config).await.expect("the site starts");
        let settings = demo::recorder_settings(&site, stations).expect("ports are free") + settings;
        let dir = tempfile::tempdir().expect("a temporary folder");
        let binary = Path::new(env!("CARGO_BIN_EXE_astlogger"));
        let node = Node::prepare(binary, &dir.path().join("node1"), &settings).expect("writable");
        for (name, role) in [("supervisor", UserRole::Supervisor), ("qa", UserRole::Qa)] {
            users::add(&node.users_path(), name, role, None, None, PASSWORD).expect("a users file");
        }
        Self { site, node, dir }
    }

    /// A call from outside to this station, answered there.
    pub async fn answered_call(&self, caller: &str, station: &str) -> CallRef {
        answered_call(&self.site, caller, station).await
    }

    /// Waits until a phantom is in the call.
    pub async fn recorded(&self, call: CallRef) {
        let switch = self.site.switch();
        let recorded = switch
            .wait(call, LIMIT, |view| view.is_some_and(|view| !view.recorders().is_empty()))
            .await;
        assert!(recorded, "no phantom in the call {call:?}; {}", self.log_tail());
    }

    /// Waits until the call has gone on for so many 20 ms frames.
    pub async fn frames(&self, call: CallRef, frames: u32) {
        reach_frames(&self.site, call, frames).await;
    }

    /// Waits until so many recordings are on disk.
    pub async fn published(&self, count: usize) -> Vec<Published> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let published = self.node.recordings().expect("records can be read");
            if published.len() >= count {
                return published;
            }
            assert!(
                Instant::now() < deadline,
                "{} of {count} recordings are published; {}",
                published.len(),
                self.log_tail()
            );
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until a metric fulfils a condition.
    pub async fn metric(&self, name: &str, holds: impl Fn(f64) -> bool) -> f64 {
        let deadline = Instant::now() + LIMIT;
        loop {
            let value = self.node.metrics().await.ok().and_then(|all| all.get(name).copied());
            if let Some(value) = value
                && holds(value)
            {
                return value;
            }
            assert!(Instant::now() < deadline, "{name} is {value:?}; {}", self.log_tail());
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Signs in over WebSocket.
    pub async fn cti(&self, user: &str) -> Cti {
        Cti::sign_in(self.node.web(), user, PASSWORD).await.expect("the user can sign in")
    }

    /// Judges what is on disk against what the switch has sent; every answered call is due.
    pub fn judge(&self) -> Verdict {
        self.judge_by(|call| call.answered)
    }

    /// Judges; `is_due` tells which calls should be recorded.
    pub fn judge_by(&self, is_due: impl Fn(&FinishedCall) -> bool) -> Verdict {
        let due = demo::due_calls(&self.site.history(), is_due);
        let published = self.node.recordings().expect("records can be read");
        let mut verdict = demo::judge(&due, &published).expect("voice files can be read");
        let stuck = self.site.stuck_phantoms();
        if !stuck.is_empty() {
            verdict.faults.push(format!("phantoms left in calls: {stuck:?}"));
        }
        verdict
    }

    /// Judges and fails the test if anything is not as it should be.
    pub fn assert_right(&self) -> Verdict {
        let verdict = self.judge();
        assert!(verdict.is_right(), "{verdict:#?}\n{}", self.log_tail());
        verdict
    }

    /// The last lines of the node's log, for a failed test's message.
    pub fn log_tail(&self) -> String {
        log_tail(&self.node)
    }
}

/// A call from outside to this station, answered there.
pub async fn answered_call(site: &Site, caller: &str, station: &str) -> CallRef {
    let switch = site.switch();
    let call = switch.inbound_call(caller, station).expect("a trunk and a free station");
    let rings = switch.wait_alerting(call, LIMIT).await;
    assert_eq!(rings.as_deref(), Some(station));
    switch.answer(station).expect("it rings");
    call
}

/// Waits until the call has gone on for so many 20 ms frames.
pub async fn reach_frames(site: &Site, call: CallRef, frames: u32) {
    let switch = site.switch();
    let reached =
        switch.wait(call, LIMIT, |view| view.is_none_or(|view| view.frames >= frames)).await;
    assert!(reached, "the call does not go on");
}

/// The last lines of a node's log.
pub fn log_tail(node: &Node) -> String {
    let log = std::fs::read_to_string(node.log_path()).unwrap_or_default();
    let lines: Vec<_> = log.lines().rev().take(40).collect();
    lines.into_iter().rev().fold("node's log:\n".to_owned(), |all, line| all + line + "\n")
}
