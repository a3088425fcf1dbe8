//! Pauses, asked of any member: a success only when everybody who may hear the call has confirmed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use astlogger::users::UserRole;
use astlogger::web::backend::{Backend, By, Code, Failure, PauseReply, PauseRequest, Target};
use recorder_core::call::{PauseDone, PauseWord};
use storage_core::draft::PauseId;
use storage_core::{Extension, NodeId, Role};
use tokio::sync::Semaphore;

use super::node::{id, no};
use super::site::{Member, Site, loses, within};

fn word() -> PauseWord {
    let id_of_pause = PauseId { node: NodeId(1), at: 7 };
    let (callid, by) = ("1207".to_owned(), "susan".to_owned());
    let joined = BTreeSet::new();
    PauseWord { id: id_of_pause, recording: id(1), ucid: None, joined, callid, by, leftms: 60_000 }
}

fn done(hearers: &[u16]) -> Result<PauseDone, Failure> {
    let hearers = hearers.iter().copied().map(NodeId).collect();
    Ok(PauseDone { recording: id(1), pausedms: 40, words: vec![word()], hearers })
}

async fn ask(member: &Member, pause: bool) -> Result<PauseReply, Failure> {
    let by = By { user: "susan".to_owned(), role: UserRole::Supervisor, extension: None };
    let target = Target::Extension(Extension::from("2611"));
    within(member.backend.pause_recording(PauseRequest { target, pause, by })).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_are_told_wherever_it_is_asked() {
    let (_site, members) = Site::of_three(Role::Parallel).await;
    let [active, parallel, _] = &members;
    for member in &members {
        assert_eq!(ask(member, true).await.unwrap_err().code, Code::NoCall);
    }
    // One knows the call, and that nobody records it.
    *active.node.pause_answer.lock().unwrap() = no(Code::NotFound);
    for member in &members {
        assert_eq!(ask(member, true).await.unwrap_err().code, Code::NotFound);
    }
    *active.node.pause_answer.lock().unwrap() = done(&[2]);
    for (asked, member) in members.iter().enumerate() {
        let reply = PauseReply { recordingid: id(1), pausedms: 40 };
        assert_eq!(ask(member, true).await, Ok(reply));
        assert_eq!(*parallel.node.learned.lock().unwrap(), vec![word(); asked + 1]);
    }
    assert!(active.node.learned.lock().unwrap().is_empty(), "it knows");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_may_hear_the_call_and_does_not_confirm_is_named() {
    let (_site, members) = Site::of_three(Role::Parallel).await;
    let [active, parallel, witness] = &members;
    parallel.node.may_learn.forget_permits(Semaphore::MAX_PERMITS);
    *active.node.pause_answer.lock().unwrap() = done(&[2]);
    for member in [active, witness] {
        let began = Instant::now();
        let failure = ask(member, true).await.unwrap_err();
        assert!(began.elapsed() <= Duration::from_millis(3_500));
        assert_eq!(failure.code, Code::Unavailable);
        assert!(failure.message.contains("node 2 (parallel)"), "{failure}");
        assert!(failure.message.contains("paused on node 1"), "{failure}");
    }
    // To go on harms nobody; and one that does not hear the call need not say anything.
    assert!(ask(active, false).await.is_ok());
    *active.node.pause_answer.lock().unwrap() = done(&[]);
    assert!(ask(active, true).await.is_ok());
    *active.node.pause_answer.lock().unwrap() = done(&[2]);
    let [active, parallel, _witness] = members;
    drop(parallel);
    loses(&active, &[2]).await;
    let failure = ask(&active, true).await.unwrap_err();
    assert!(failure.message.contains("node 2 (parallel)"), "{failure}");
    *active.node.pause_answer.lock().unwrap() = no(Code::NoCall);
    let failure = ask(&active, true).await.unwrap_err();
    assert!(failure.message.contains("node 2 (parallel)"), "{failure}");
}
