//! Who did what in a whole group, read at any of its members: real processes, the witness among them; one is killed
//! while somebody reads, and comes back.

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use astlogger::demo::Cti;
use astlogger::users::{self, UserRole};
use common::group::{GroupBench, ONE, TWO, WITNESS};
use common::{LIMIT, PASSWORD};
use serde_json::{Value, json};
use storage::audit_log::{AuditLog, Wanted};
use storage_core::{NodeId, naming};
use tokio::time::{Instant, sleep};

/// More lines than these nobody has written.
const LINES_MAX: usize = 200;

/// A line, by the member that wrote it and its number there.
type Line = (u64, u64);

/// A group with an auditor, whose people have signed in at each member.
async fn with_people() -> GroupBench {
    let bench = GroupBench::hot_standby(1).await;
    let users = bench.group.members[&ONE].node.users_path();
    users::add(&users, "otto", UserRole::Auditor, None, None, PASSWORD).expect("a users file");
    bench.group.share_users().expect("writable");
    for user in ["qa", "supervisor"] {
        for node in [WITNESS, ONE, TWO] {
            bench.cti(node, user).await;
        }
    }
    bench
}

/// The lines in a member's log on its disk.
fn lying(bench: &GroupBench, node: NodeId) -> Vec<Line> {
    let log = AuditLog::new(&bench.group.members[&node].node.data_dir());
    let wanted = Wanted { limit: usize::MAX, ..Wanted::default() };
    let lines = log.read(&wanted).expect("it can be read");
    lines.into_iter().map(|line| (u64::from(line.entry.node.0), line.seq)).collect()
}

async fn page(otto: &mut Cti, cursor: &Value) -> Value {
    let mut request = json!({"request": "listaudit", "limit": 3});
    if !cursor.is_null() {
        request["cursor"] = cursor.clone();
    }
    let reply = otto.ask(request).await.expect("a reply");
    assert_eq!(reply["result"], "success", "{reply}");
    reply
}

/// The same, once nobody is missed.
async fn whole_page(otto: &mut Cti, cursor: &Value) -> Value {
    let deadline = Instant::now() + LIMIT;
    loop {
        let reply = page(otto, cursor).await;
        if reply.get("unreachable").is_none() {
            return reply;
        }
        assert!(Instant::now() < deadline, "{reply}");
        sleep(Duration::from_millis(100)).await;
    }
}

fn lines(reply: &Value) -> Vec<Line> {
    let entries = reply["entries"].as_array().expect("a list").iter();
    let number = |line: &Value, name: &str| line[name].as_u64().expect("a number");
    entries.map(|line| (number(line, "node"), number(line, "seq"))).collect()
}

/// When each line was written, and who signed in where, of all lines.
fn told(replies: &[Value]) -> (Vec<&str>, BTreeSet<(u64, &str)>) {
    let all = || replies.iter().flat_map(|reply| reply["entries"].as_array().expect("a list"));
    let signed_in = all().filter(|line| line["action"] == "authenticate");
    let who = signed_in.map(|line| {
        (line["node"].as_u64().expect("a number"), line["user"].as_str().expect("a name"))
    });
    (all().map(|line| line["at"].as_str().expect("a time")).collect(), who.collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_member_tells_what_was_asked_of_all() {
    let bench = with_people().await;
    for node in [WITNESS, TWO, ONE] {
        let mut otto = bench.newcomer(node, "otto").await;
        let there: Vec<Line> =
            [ONE, TWO, WITNESS].into_iter().flat_map(|node| lying(&bench, node)).collect();
        let mut replies = vec![page(&mut otto, &Value::Null).await];
        while let Some(cursor) = replies.last().and_then(|reply| reply.get("cursor")) {
            replies.push(page(&mut otto, &cursor.clone()).await);
            assert!(replies.len() < LINES_MAX, "it never ends");
        }
        let lines: Vec<Line> = replies.iter().flat_map(lines).collect();
        let once: BTreeSet<Line> = lines.iter().copied().collect();
        assert_eq!(once.len(), lines.len(), "one is told twice: {lines:?}");
        assert!(there.iter().all(|line| once.contains(line)), "{there:?}, told: {lines:?}");
        let (times, signed_in) = told(&replies);
        assert!(times.is_sorted(), "{times:?}");
        for at in 1..=3 {
            for user in ["qa", "supervisor"] {
                assert!(signed_in.contains(&(at, user)), "{user} at {at}: {signed_in:?}");
            }
        }
        for reply in &replies {
            assert_eq!(reply["node"], node.0);
            assert_eq!(reply.get("unreachable"), None, "{reply}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_away_is_named_and_told_when_it_is_back() {
    let mut bench = with_people().await;
    let mut otto = bench.newcomer(WITNESS, "otto").await;
    let first = page(&mut otto, &Value::Null).await;
    assert_eq!(first.get("unreachable"), None, "{first}");
    bench.kill(TWO).await;
    let (mut told, mut cursor) = (lines(&first), first["cursor"].clone());
    // All pages but the last: that one is asked for again when the member is back.
    loop {
        let reply = page(&mut otto, &cursor).await;
        assert_eq!(reply["unreachable"], json!([{"node": 2, "role": "backup"}]), "{reply}");
        assert!(lines(&reply).iter().all(|(node, _)| *node != 2), "{reply}");
        let Some(next) = reply.get("cursor") else { break };
        told.extend(lines(&reply));
        assert!(told.len() < LINES_MAX, "it never ends: {told:?}");
        cursor = next.clone();
    }
    assert!(told.len() > 3, "{told:?}");
    bench.run().await;
    let seen = lying(&bench, TWO);
    loop {
        let reply = whole_page(&mut otto, &cursor).await;
        told.extend(lines(&reply));
        assert!(told.len() < LINES_MAX, "it never ends: {told:?}");
        let Some(next) = reply.get("cursor") else { break };
        cursor = next.clone();
    }
    let of = |told: &[Line], node: u64| -> Vec<Line> {
        told.iter().copied().filter(|line| line.0 == node).collect()
    };
    assert_eq!(of(&told, 2), seen);
    let count = |node| of(&told, node).len() as u64;
    for node in [1, 3] {
        let all: Vec<Line> = (1..=count(node)).map(|seq| (node, seq)).collect();
        assert_eq!(of(&told, node), all);
    }
    assert!(count(1) >= 2 && count(3) > 3, "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_was_begun_anew_is_told_whatever_the_cursor_is() {
    let mut bench = with_people().await;
    let mut otto = bench.newcomer(ONE, "otto").await;
    let mut cursor = Value::Null;
    // To the last page but one: of a page that is the last there is no cursor.
    while let Some(next) = page(&mut otto, &cursor).await.get("cursor").cloned() {
        cursor = next;
    }
    let before = lying(&bench, WITNESS);
    bench.kill(WITNESS).await;
    let audit = bench.group.members[&WITNESS].node.data_dir().join(naming::AUDIT_FOLDER);
    std::fs::remove_dir_all(audit).expect("it is there");
    bench.run().await;
    bench.cti(WITNESS, "qa").await;
    let anew = lying(&bench, WITNESS);
    assert!(!anew.is_empty() && anew.len() < before.len(), "{anew:?}, before {before:?}");
    let mut told = Vec::new();
    loop {
        let reply = whole_page(&mut otto, &cursor).await;
        told.extend(lines(&reply));
        let Some(next) = reply.get("cursor") else { break };
        cursor = next.clone();
        assert!(told.len() < LINES_MAX, "it never ends");
    }
    assert!(anew.iter().all(|line| told.contains(line)), "{anew:?}, told {told:?}");
}
