//! Listening to a call, asked of any member: the one that records it is heard, and when another records it, that one.

use std::time::{Duration, Instant};

use astlogger::web::backend::{Backend, Code, Failure, Heard, Hearing};
use futures_util::StreamExt;
use storage_core::{NodeId, Role};

use super::node::{FakeNode, no};
use super::site::{Member, Site, loses, within};

const UCID: &str = "00001000011700000001";

async fn listen(member: &Member) -> Result<Hearing, Failure> {
    within(member.backend.listen(&UCID.parse().unwrap())).await
}

async fn refused(member: &Member) -> Failure {
    listen(member).await.err().expect("it is refused")
}

/// What the node's latest listener is to hear.
async fn say(node: &FakeNode, sample: i16) {
    let listener = node.listeners.lock().unwrap().last().expect("somebody listens").clone();
    within(listener.send(Heard::Frame([sample; 160]))).await.expect("he still does");
}

async fn heard(hearing: &mut Hearing) -> Option<Heard> {
    within(hearing.sound.next()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_that_records_is_heard_wherever_it_is_asked() {
    let (_site, members) = Site::of_three(Role::Backup).await;
    let [active, backup, _] = &members;
    for member in &members {
        assert_eq!(refused(member).await.code, Code::NoCall, "nobody knows the call");
    }
    // All see it, one records it.
    active.node.sees(UCID, None);
    backup.node.sees(UCID, None);
    for member in &members {
        let failure = refused(member).await;
        assert_eq!(failure.code, Code::Unavailable);
        assert!(failure.message.contains("nobody records"), "{failure}");
    }
    active.node.sees(UCID, Some(2));
    backup.node.sees(UCID, Some(2));
    for member in &members {
        let mut hearing = listen(member).await.unwrap();
        assert_eq!(hearing.node, NodeId(2));
        for sample in [3, -3] {
            say(&backup.node, sample).await;
            assert_eq!(heard(&mut hearing).await, Some(Heard::Frame([sample; 160])));
        }
        // Who goes away is missed there, too.
        let listener = backup.node.listeners.lock().unwrap().pop().unwrap();
        drop(hearing);
        let gone = async { while listener.send(Heard::Frame([0; 160])).await.is_ok() {} };
        within(gone).await;
    }
    *backup.node.may_listen.lock().unwrap() = no(Code::Busy);
    assert_eq!(refused(active).await.code, Code::Busy);
    assert!(active.node.listeners.lock().unwrap().is_empty());
}

/// Node 1 records the call no more; it takes a while until node 2 does.
async fn takeover(active: &FakeNode, backup: &FakeNode) {
    active.listeners.lock().unwrap().clear();
    tokio::time::sleep(Duration::from_millis(300)).await;
    active.sees(UCID, Some(2));
    backup.sees(UCID, Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listening_goes_on_where_the_call_is_recorded_then_and_ends_with_it() {
    let (_site, members) = Site::of_three(Role::Backup).await;
    let [active, backup, witness] = &members;
    active.node.sees(UCID, Some(1));
    backup.node.sees(UCID, Some(1));
    let mut hearing = listen(witness).await.unwrap();
    let mut own = listen(active).await.unwrap();
    assert_eq!((hearing.node, own.node), (NodeId(1), NodeId(1)));
    let (moved, ()) = tokio::join!(heard(&mut hearing), takeover(&active.node, &backup.node));
    assert_eq!(moved, Some(Heard::Moved(NodeId(2))));
    say(&backup.node, 4).await;
    assert_eq!(heard(&mut hearing).await, Some(Heard::Frame([4; 160])));
    assert_eq!(heard(&mut own).await, Some(Heard::Moved(NodeId(2))));
    // A node that says nothing any more is given up, and asked again.
    say(&backup.node, 5).await;
    assert_eq!(heard(&mut own).await, Some(Heard::Frame([5; 160])));
    let stalled = std::mem::take(&mut *backup.node.listeners.lock().unwrap());
    let again = async {
        while backup.node.listeners.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        say(&backup.node, 6).await;
    };
    let (next, ()) = tokio::join!(heard(&mut own), again);
    assert_eq!(next, Some(Heard::Frame([6; 160])));
    drop(stalled);
    // Node 2 lost the call, and does not know: nothing comes from it, and another says that he records it.
    active.node.sees(UCID, Some(1));
    backup.node.sees(UCID, Some(1));
    let lost = backup.node.listeners.lock().unwrap().last().unwrap().clone();
    let nothing = async {
        while lost.send(Heard::Frame([0; 160])).await.is_ok() {}
        std::future::pending::<()>().await;
    };
    let told = async {
        loop {
            match heard(&mut own).await {
                Some(Heard::Frame(frame)) => assert_eq!(frame, [0; 160]),
                other => return other,
            }
        }
    };
    tokio::select! {
        other = told => assert_eq!(other, Some(Heard::Moved(NodeId(1)))),
        () = nothing => {}
    }
    active.node.sees(UCID, Some(2));
    backup.node.sees(UCID, Some(2));
    // The recording is stopped, and the call goes on: nobody is heard any more.
    drop(own);
    active.node.sees(UCID, None);
    backup.node.sees(UCID, None);
    backup.node.listeners.lock().unwrap().clear();
    let began = Instant::now();
    assert_eq!(heard(&mut hearing).await, None);
    assert!(began.elapsed() < Duration::from_secs(8));
    // The call is over.
    active.node.sees(UCID, Some(1));
    let mut hearing = listen(backup).await.unwrap();
    active.node.calls.lock().unwrap().clear();
    backup.node.calls.lock().unwrap().clear();
    active.node.listeners.lock().unwrap().clear();
    let began = Instant::now();
    assert_eq!(heard(&mut hearing).await, None);
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_be_reached_is_named() {
    let (_site, members) = Site::of_three(Role::Backup).await;
    let [active, backup, witness] = members;
    backup.node.sees(UCID, Some(1));
    active.node.sees(UCID, Some(1));
    let mut hearing = listen(&witness).await.unwrap();
    say(&active.node, 7).await;
    assert_eq!(heard(&mut hearing).await, Some(Heard::Frame([7; 160])));
    drop(active);
    loses(&witness, &[1]).await;
    let failure = refused(&witness).await;
    assert_eq!(failure.code, Code::Unavailable);
    assert!(failure.message.contains("node 1 (active)"), "{failure}");
    // The other takes it over.
    backup.node.sees(UCID, Some(2));
    assert_eq!(heard(&mut hearing).await, Some(Heard::Moved(NodeId(2))));
    say(&backup.node, 8).await;
    assert_eq!(heard(&mut hearing).await, Some(Heard::Frame([8; 160])));
}
