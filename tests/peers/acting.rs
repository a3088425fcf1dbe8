//! Start and stop, asked of any member: done by the right one, and once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use astlogger::users::UserRole;
use astlogger::web::backend::{Backend, By, Code, Failure, StartRequest, StopRequest, Target};
use serde_json::json;
use storage_core::record::Scope;
use storage_core::{Extension, NodeId, RecordingId, Role};
use tokio::sync::Semaphore;

use super::node::{id, no};
use super::site::{Member, Site, loses, until, within};

fn by() -> By {
    By { user: "susan".to_owned(), role: UserRole::Supervisor, extension: None }
}

fn start() -> StartRequest {
    let target = Target::Extension(Extension::from("2611"));
    StartRequest { target, scope: Scope::Trunk, by: by() }
}

async fn start_at(member: &Member) -> Result<RecordingId, Failure> {
    within(member.backend.start_recording(start())).await
}

async fn stop_at(member: &Member) -> Result<RecordingId, Failure> {
    let target = Target::Extension(Extension::from("2611"));
    within(member.backend.stop_recording(StopRequest { target, by: by() })).await
}

fn starts(members: &[Member; 3]) -> [usize; 3] {
    members.each_ref().map(|member| member.node.starts())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lead_starts_wherever_it_is_asked() {
    let (_site, members) = Site::of_three(Role::Backup).await;
    for member in &members {
        assert_eq!(start_at(member).await, Ok(id(1)));
    }
    assert_eq!(starts(&members), [3, 0, 0]);
    assert!(members[0].node.started.lock().unwrap().iter().all(|request| *request == start()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_starts_what_the_lead_does_not_see() {
    let (_site, members) = Site::of_three(Role::Backup).await;
    let [active, backup, witness] = &members;
    for (round, code) in [Code::NoCall, Code::NoPhantom, Code::Unavailable].into_iter().enumerate()
    {
        *active.node.start_answer.lock().unwrap() = no(code);
        assert_eq!(start_at(witness).await, Ok(id(2)), "{code:?}");
        assert_eq!(starts(&members), [round + 1, round + 1, 0]);
    }
    // Here the lead's word is the last.
    for code in [Code::AlreadyRecording, Code::NoTrunk, Code::Internal] {
        *active.node.start_answer.lock().unwrap() = no(code);
        assert_eq!(start_at(backup).await.unwrap_err().code, code);
    }
    assert_eq!(starts(&members), [6, 3, 0]);
    *active.node.start_answer.lock().unwrap() = no(Code::Unavailable);
    *backup.node.start_answer.lock().unwrap() = no(Code::NoCall);
    assert_eq!(start_at(witness).await.unwrap_err().code, Code::NoCall);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_records_the_call_is_asked_first() {
    let (_site, members) = Site::of_three(Role::Backup).await;
    let recorded = json!({ "node": 2, "recordingid": id(2) });
    let call = json!({ "callid": "1", "extensions": ["2611"], "recorded": recorded });
    // The lead has heard of it, too.
    for member in &members[..2] {
        *member.node.calls.lock().unwrap() = vec![call.clone()];
    }
    *members[1].node.start_answer.lock().unwrap() = no(Code::AlreadyRecording);
    assert_eq!(start_at(&members[0]).await.unwrap_err().code, Code::AlreadyRecording);
    assert_eq!(starts(&members), [0, 1, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_without_an_answer_is_not_made_again() {
    let (_site, members) = Site::of_three(Role::Backup).await;
    let [active, _, witness] = &members;
    // As many permits as none.
    active.node.may_start.forget_permits(Semaphore::MAX_PERMITS);
    let began = Instant::now();
    let failure = start_at(witness).await.unwrap_err();
    let took = began.elapsed();
    assert!(took <= Duration::from_millis(3500), "{took:?}");
    assert_eq!(failure.code, Code::Unavailable);
    assert!(failure.message.contains("node 1"), "{failure}");
    assert_eq!(starts(&members), [1, 0, 0]);
    // Nor when the node that was asked ends.
    let started = tokio::spawn(witness.backend.start_recording(start()));
    until("the lead has the question", || active.node.starts() == 2).await;
    let [active, backup, witness] = members;
    drop(active);
    let failure = within(started).await.unwrap().unwrap_err();
    assert!(failure.message.contains("node 1") && failure.message.contains("may"), "{failure}");
    assert_eq!(backup.node.starts(), 0);
    // Once it is missed, the other does it.
    loses(&witness, &[1]).await;
    assert_eq!(start_at(&witness).await, Ok(id(2)));
    drop(backup);
    loses(&witness, &[2]).await;
    let failure = start_at(&witness).await.unwrap_err();
    assert_eq!(failure.code, Code::Unavailable);
    assert!(failure.message.contains("node 1 (active), node 2 (backup)"), "{failure}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_goes_to_all_that_record() {
    let (_site, members) = Site::of_three(Role::Parallel).await;
    let [active, parallel, witness] = &members;
    *active.node.stop_answer.lock().unwrap() = Ok(id(1));
    *parallel.node.stop_answer.lock().unwrap() = Ok(id(2));
    assert_eq!(stop_at(witness).await, Ok(id(1)));
    let stops = |members: &[Member; 3]| members.each_ref().map(|member| member.node.stops());
    assert_eq!(stops(&members), [1, 1, 0]);
    *active.node.stop_answer.lock().unwrap() = no(Code::NoCall);
    assert_eq!(stop_at(parallel).await, Ok(id(2)));
    *parallel.node.stop_answer.lock().unwrap() = no(Code::NotFound);
    assert_eq!(stop_at(active).await.unwrap_err().code, Code::NotFound);
    assert_eq!(stops(&members), [3, 3, 0]);
    // One that hangs keeps nobody from hearing of the other's.
    *parallel.node.stop_answer.lock().unwrap() = Ok(id(2));
    active.node.may_stop.forget_permits(Semaphore::MAX_PERMITS);
    for member in [witness, active] {
        assert_eq!(stop_at(member).await, Ok(id(2)));
    }
    *parallel.node.stop_answer.lock().unwrap() = no(Code::NotFound);
    let [active, parallel, witness] = members;
    drop(active);
    loses(&witness, &[1]).await;
    let failure = stop_at(&witness).await.unwrap_err();
    assert_eq!(failure.code, Code::Unavailable);
    assert!(failure.message.contains("node 1 (active)"), "{failure}");
    assert_eq!(parallel.node.stops(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_alone_does_it_itself() {
    let node = super::node::FakeNode::new(NodeId(5));
    let group = cluster::Group::alone(NodeId(5), Role::Active);
    let service: Arc<dyn astlogger::peers::PeerService> = node.clone();
    assert!(!astlogger::peers::serve(&group, &service));
    let backend = astlogger::group::GroupBackend::new(service, group, Role::Active, []);
    assert_eq!(within(backend.start_recording(start())).await, Ok(id(5)));
    *node.start_answer.lock().unwrap() = no(Code::NoCall);
    assert_eq!(within(backend.start_recording(start())).await, no(Code::NoCall));
    let (listing, none) = tokio::task::spawn_blocking(move || {
        (backend.search(&Default::default()).unwrap(), backend.recording(id(9)))
    })
    .await
    .unwrap();
    assert_eq!((listing.unreachable.len(), none), (0, Ok(None)));
}
