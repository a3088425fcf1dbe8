//! What an operator sees of a node: its alarms, and what its commands say.

use std::process::Command;

use astlogger::demo::Node;
use serde_json::Value;
use storage_core::NodeId;
use tokio::time::{Duration, Instant, sleep};

use crate::common::group::GroupBench;
use crate::common::{LIMIT, log_tail};

/// An alarm that is raised.
#[derive(Clone, Debug)]
pub struct Told {
    pub name: String,
    pub subject: String,
    pub message: String,
    pub remedy: String,
}

/// All alarms of a node; none if it does not answer.
pub async fn alarms(node: &Node) -> Vec<Told> {
    let Ok((200, body)) = node.get("/api/status").await else { return Vec::new() };
    let status: Value = serde_json::from_str(&body).expect("JSON");
    let told = |alarm: &Value, key: &str| alarm[key].as_str().unwrap_or_default().to_owned();
    let told = |alarm: &Value| Told {
        name: told(alarm, "alarm"),
        subject: told(alarm, "subject"),
        message: told(alarm, "message"),
        remedy: told(alarm, "remedy"),
    };
    status["alarms"].as_array().expect("a list").iter().map(told).collect()
}

/// Waits until a node tells of something, in words among which these are.
pub async fn told(node: &Node, name: &str, words: &str) -> Told {
    let deadline = Instant::now() + LIMIT;
    loop {
        let all = alarms(node).await;
        if let Some(told) =
            all.iter().find(|told| told.name == name && told.message.contains(words))
        {
            assert!(!told.remedy.is_empty(), "{told:?}");
            return told.clone();
        }
        assert!(Instant::now() < deadline, "no {name} ({words}): {all:?}; {}", log_tail(node));
        sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until a node does not tell of something any more.
pub async fn cleared(node: &Node, name: &str, subject: &str) {
    let deadline = Instant::now() + LIMIT;
    loop {
        let all = alarms(node).await;
        if !all.iter().any(|told| told.name == name && told.subject == subject) {
            return;
        }
        assert!(Instant::now() < deadline, "still {all:?}; {}", log_tail(node));
        sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until a node's log says something.
pub async fn logged(node: &Node, words: &str) {
    let deadline = Instant::now() + LIMIT;
    let said = || std::fs::read_to_string(node.log_path()).unwrap_or_default();
    while !said().contains(words) {
        assert!(Instant::now() < deadline, "never logged: {words}; {}", log_tail(node));
        sleep(Duration::from_millis(50)).await;
    }
}

/// What the console of a node says to a command.
pub fn console(node: &Node, command: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_astlogger"))
        .args(["console", "--config"])
        .arg(node.config_path())
        .args(command)
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}{complaint}");
    said
}

/// Has a node read its files over.
pub fn scrubs(node: &Node) {
    let said = console(node, &["scrub"]);
    assert!(said.contains("are read over"), "{said}");
}

/// What `astlogger verify` says of a node's data folder, and its code.
pub fn verified(node: &Node) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_astlogger"))
        .arg("verify")
        .arg(node.data_dir())
        .output()
        .expect("it runs");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The process of a member.
pub fn node(bench: &GroupBench, id: NodeId) -> &Node {
    &bench.group.members[&id].node
}
