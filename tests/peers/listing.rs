//! Search, calls and what members ask of each other: all that is known, and who is missing.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use astlogger::peers::protocol::{
    ASK_BYTES_MAX, Ask, RECORDS_MAX, SEEN_MAX, decode_answer, encode_ask,
};
use astlogger::peers::{PeerError, Peers};
use astlogger::web::backend::{Backend, Code, Failure, Target, Unreachable};
use serde_json::{Value, json};
use storage_core::completeness::SeenCall;
use storage_core::query::{Order, Query};
use storage_core::{Extension, NodeId, Role, SegmentId, WallTime};

use super::node::id;
use super::site::{Member, Site, is_well, loses, within};

const SOON: Duration = Duration::from_secs(5);

fn missed(node: u16, role: Role) -> Unreachable {
    Unreachable { node: NodeId(node), role: Some(role) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_witness_searches_through_any_recorder() {
    let (_site, [active, backup, witness]) = Site::of_three(Role::Backup).await;
    for number in 0..5 {
        active.node.list(number, 1, 10);
        backup.node.list(number, 1, 10);
    }
    let query = Query { limit: 3, order: Order::Oldest, ..Query::default() };
    let first = query.clone();
    let listing = witness.ask(move |backend| backend.search(&first)).await.unwrap();
    assert_eq!((listing.page.total, listing.unreachable.len()), (Some(5), 0));
    assert_eq!(listing.page.recordings.len(), 3);
    drop(active);
    loses(&witness, &[1]).await;
    // The next page comes from the other.
    let cursor = storage_core::query::Position::from_cursor(&listing.page.cursor.unwrap());
    let next = Query { cursor, ..query };
    let listing = witness.ask(move |backend| backend.search(&next)).await.unwrap();
    let ids: Vec<_> = listing.page.recordings.iter().map(|found| found.recordingid).collect();
    assert_eq!(ids, [id(3), id(4)]);
    assert_eq!(listing.unreachable, [missed(1, Role::Active)]);
    let found = witness.ask(|backend| backend.recording(id(2))).await.unwrap().unwrap();
    assert_eq!(found.recordingid, id(2));
    drop(backup);
    loses(&witness, &[2]).await;
    for failure in [
        witness.ask(|backend| backend.search(&Query::default())).await.unwrap_err(),
        witness.ask(|backend| backend.recording(id(2))).await.unwrap_err(),
    ] {
        assert_eq!(failure.code, Code::Unavailable);
        assert!(failure.message.contains("node 1 (active), node 2 (backup)"), "{failure}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorder_lists_what_it_has_and_names_who_is_away() {
    let (_site, [active, backup, witness]) = Site::of_three(Role::Backup).await;
    active.node.list(1, 1, 10);
    backup.node.list(2, 2, 10);
    is_well(&active).await;
    // Not yet listed here, but known to the peer.
    let found = active.ask(|backend| backend.recording(id(2))).await.unwrap().unwrap();
    assert_eq!(found.node, NodeId(2));
    assert_eq!(active.ask(|backend| backend.recording(id(9))).await, Ok(None));
    drop(witness);
    loses(&active, &[3]).await;
    // A witness is not missed.
    is_well(&active).await;
    drop(backup);
    loses(&active, &[2]).await;
    let listing = active.ask(|backend| backend.search(&Query::default())).await.unwrap();
    assert_eq!(listing.page.recordings.len(), 1);
    assert_eq!(listing.unreachable, [missed(2, Role::Backup)]);
    let failure = active.ask(|backend| backend.recording(id(9))).await.unwrap_err();
    assert_eq!(failure.code, Code::NotFound);
    assert!(failure.message.contains("node 2 (backup)"), "{failure}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_all_saw_of_a_days_calls_is_gathered_page_by_page() {
    let (_site, [active, backup, witness]) = Site::of_three(Role::Backup).await;
    let seen = |node: u16, number: i64| SeenCall {
        node: NodeId(node),
        ucids: Vec::new(),
        callids: vec![number.to_string()],
        stations: Vec::new(),
        began: WallTime::from_millis(number),
        ended: WallTime::from_millis(number),
        due: Vec::new(),
        rule: String::new(),
        captured: false,
        block: None,
        deleted: false,
        paused: Vec::new(),
    };
    let many = i64::try_from(SEEN_MAX).unwrap() + 1;
    *active.node.seen.lock().unwrap() = (0..many).map(|number| seen(1, number)).collect();
    *backup.node.seen.lock().unwrap() = vec![seen(2, 7)];
    is_well(&active).await;
    let day = WallTime::default();
    let told = witness.ask(move |backend| backend.seen(day)).await.unwrap();
    let counted = |node: u16| told.calls.iter().filter(|call| call.node == NodeId(node)).count();
    assert_eq!((counted(1), counted(2), told.unreachable.len()), (SEEN_MAX + 1, 1, 0));
    drop(active);
    loses(&backup, &[1]).await;
    let told = backup.ask(move |backend| backend.seen(day)).await.unwrap();
    assert_eq!((told.calls.len(), told.unreachable), (1, vec![missed(1, Role::Active)]));
}

fn call(ucid: &str, recorded: Option<u16>) -> Value {
    let mut call = json!({ "ucid": ucid, "callid": ucid, "extensions": ["2611"] });
    if let Some(node) = recorded {
        call["recorded"] = json!({ "node": node, "recordingid": id(u64::from(node)) });
    }
    call
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_all_members_are_one_list() {
    let (_site, [active, backup, witness]) = Site::of_three(Role::Parallel).await;
    *active.node.calls.lock().unwrap() = vec![call("A", Some(1)), call("B", None)];
    *backup.node.calls.lock().unwrap() = vec![call("B", Some(2)), call("A", Some(2))];
    active.node.levels.lock().unwrap().insert(id(1), -20.5);
    backup.node.levels.lock().unwrap().insert(id(2), -96.0);
    for member in [&active, &backup, &witness] {
        let list = within(member.backend.calls()).await;
        assert_eq!((list.calls.len(), list.unreachable.len()), (2, 0));
        let find = |ucid| list.calls.iter().find(|call| call["ucid"] == ucid).unwrap();
        assert_eq!(
            (&find("B")["recorded"]["node"], &find("B")["level"]),
            (&json!(2), &json!(-96.0))
        );
        assert_eq!(
            (&find("A")["recorded"]["node"], &find("A")["level"]),
            (&json!(1), &json!(-20.5))
        );
        assert_eq!(find("A")["recordedby"].as_array().map(Vec::len), Some(2));
    }
    backup.node.concerned.lock().unwrap().push("2612".to_owned());
    for (extension, own) in [("2612", true), ("2613", false)] {
        let asked =
            witness.backend.concerns(&Target::Recording(id(2)), &Extension::from(extension));
        assert_eq!(within(asked).await, own);
    }
    drop(active);
    loses(&witness, &[1]).await;
    let began = Instant::now();
    let list = within(witness.backend.calls()).await;
    assert_eq!((list.calls.len(), list.unreachable), (2, vec![missed(1, Role::Active)]));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_catalog_is_filled_from_its_peers() {
    let (_site, [active, backup, _witness]) = Site::of_three(Role::Backup).await;
    for number in 0..25 {
        active.node.list(number, 1 + (number % 2) as u16, 10);
    }
    let peers = Peers::new(backup.group.clone());
    let mut told = Vec::new();
    let mut cursor = None;
    loop {
        let page = peers.records_since(NodeId(1), cursor, 7, SOON).await.unwrap();
        assert!(page.records.len() <= 7);
        told.extend(page.records.iter().map(|record| record.recordingid));
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    // Its own, too: whoever asks may have lost them with its disk.
    let expected: Vec<_> = (0..25).map(id).collect();
    assert_eq!(told, expected);
    let known = peers.records(NodeId(1), vec![id(3), id(4), id(99)], SOON).await.unwrap();
    let known: BTreeSet<_> = known.iter().map(|one| (one.record.recordingid, one.held)).collect();
    assert_eq!(known, BTreeSet::from([(id(3), false), (id(4), true)]));
    assert_eq!(peers.status(NodeId(1), SOON).await.unwrap()["node"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_capture_comes_in_pieces_or_says_why_not() {
    let (_site, [active, backup, _witness]) = Site::of_three(Role::Backup).await;
    active.node.list(1, 1, 10);
    let peers = Peers::new(backup.group.clone());
    let segments = |numbers: &[u64]| numbers.iter().map(|number| SegmentId(*number)).collect();
    let mut stream = peers.capture(NodeId(1), id(1), segments(&[5, 6]), SOON).await.unwrap();
    let mut all = Vec::new();
    while let Some(piece) = stream.piece().await.unwrap() {
        all.extend(piece);
    }
    assert_eq!(all, [vec![5; 900_000], vec![6; 900_000]].concat());
    let mut stream = peers.capture(NodeId(1), id(1), segments(&[5, 13]), SOON).await.unwrap();
    let mut bytes = 0;
    let error = loop {
        match stream.piece().await {
            Ok(piece) => bytes += piece.expect("it ended as if it were whole").len(),
            Err(error) => break error,
        }
    };
    assert_eq!(bytes, 900_000);
    let PeerError::Refused(failure) = error else { panic!("{error:?}") };
    assert!(failure.message.contains("node 1"), "{failure}");
    let refused = peers.capture(NodeId(1), id(2), segments(&[5]), SOON).await.err();
    assert!(matches!(refused, Some(PeerError::Refused(Failure { code: Code::NotFound, .. }))));
}

/// What a peer's bytes are answered with.
async fn answered(from: &Member, bytes: Vec<u8>) -> Failure {
    let response = within(from.group.request(NodeId(1), bytes)).await.unwrap();
    let answer = within(response.whole(10_000)).await.unwrap();
    decode_answer::<Value>(&answer).unwrap().unwrap_err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_from_a_peer_is_refused_and_harms_nothing() {
    let (_site, [active, backup, _witness]) = Site::of_three(Role::Backup).await;
    let whole = encode_ask(&Ask::Records { ids: vec![id(1)] });
    let many = encode_ask(&Ask::Records { ids: vec![id(1); RECORDS_MAX + 1] });
    for bytes in [
        Vec::new(),
        vec![0xff; 1000],
        b"{}".to_vec(),
        br#"{"version":1,"ask":"selfdestruct"}"#.to_vec(),
        whole[..whole.len() - 1].to_vec(),
        vec![b'['; ASK_BYTES_MAX],
        vec![b' '; ASK_BYTES_MAX + 1],
        many,
    ] {
        let failure = answered(&backup, bytes).await;
        assert_eq!(failure.code, Code::BadValue, "{failure}");
        assert!(failure.message.contains("node 1"), "{failure}");
    }
    let newer = answered(&backup, br#"{"version":7,"ask":{"dream":{}}}"#.to_vec()).await;
    assert_eq!(newer.code, Code::Unavailable);
    assert!(newer.message.contains("version 7"), "{newer}");
    active.node.list(1, 1, 10);
    let peers = Peers::new(backup.group.clone());
    assert_eq!(peers.records(NodeId(1), vec![id(1)], SOON).await.unwrap().len(), 1);
    is_well(&active).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_answers_garbage_is_named() {
    let (site, [active, _backup, witness]) = Site::of_three(Role::Backup).await;
    drop(active);
    loses(&witness, &[1]).await;
    let group = site.join(1, Role::Active).await;
    let peers = Peers::new(witness.group.clone());
    // Nobody looks at questions there yet.
    let early = within(peers.calls(NodeId(1), SOON)).await.unwrap_err();
    assert!(matches!(&early, PeerError::NotAsked(failure) if failure.message.contains("node 1")));
    group.set_request_handler(|_, _, mut reply| async move {
        reply.send(&[0xff; 100]).await.unwrap();
        reply.end().await.unwrap();
    });
    let garbled = within(peers.calls(NodeId(1), SOON)).await.unwrap_err();
    assert!(matches!(&garbled, PeerError::Unanswered(told) if told.message.contains("node 1")));
    let stranger = within(peers.calls(NodeId(9), SOON)).await.unwrap_err();
    assert!(matches!(&stranger, PeerError::NotAsked(told) if told.message.contains("node 9")));
}
