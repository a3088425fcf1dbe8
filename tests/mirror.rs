//! Mirrored capture with real processes: a recorder is lost with its disk, and what it captured is
//! published by the one that mirrored it, frame by frame.

mod common;

use std::path::Path;
use std::time::Duration;

use astlogger::demo::{self, Node, Published, Shape, Verdict};
use common::LIMIT;
use common::clear::in_clear;
use common::group::{GroupBench, ONE, TWO, WITNESS};
use common::keys;
use common::small_disk::{SmallDisk, skipped};
use simulator::tone::{self, Law};
use simulator::{CallRef, SiteConfig};
use storage_core::naming::MIRROR_FOLDER;
use storage_core::{NodeId, RecordingId, Role};
use tokio::time::{Instant, sleep};

/// Frames of a call before and after something happens.
const SOME: u32 = 60;
/// What may be missing before the loss: `al_mirrorlagms`, a beat of the media thread, and as much again for
/// a machine that is busy with other tests. In frames of 20 ms.
const LAG_FRAMES: u32 = (300 + 100 + 300) / 20;
const LAG: &str = "astlogger_mirror_lag_seconds";
const KEPT: &str = "astlogger_mirror_recordings";

/// A group whose AES soon gives up what a dead recorder has.
async fn hot_standby(agents: usize) -> GroupBench {
    let mut config = SiteConfig::demo(agents, 2);
    for aes in &mut config.aes {
        aes.session_seconds_max = 5;
    }
    GroupBench::start(config, &Shape::hot_standby(agents)).await
}

/// How far each call is.
fn frames(bench: &GroupBench, calls: &[CallRef]) -> Vec<u32> {
    let switch = bench.group.site.switch();
    calls.iter().map(|call| switch.call(*call).expect("it is up").frames).collect()
}

/// Waits until a node keeps so many recordings of the other recorder.
async fn mirrored(bench: &GroupBench, at: NodeId, recordings: usize) {
    bench.metric(at, KEPT, |kept| kept == recordings as f64).await;
}

/// So many calls that the first recorder captures and the second mirrors.
async fn mirrored_calls(bench: &GroupBench, count: usize) -> Vec<CallRef> {
    let calls = bench.calls(count).await;
    bench.recorded_by(&calls, ONE).await;
    mirrored(bench, TWO, count).await;
    calls
}

/// `kill -9`, and its disk is gone.
async fn lose(bench: &mut GroupBench, node: NodeId) {
    bench.kill(node).await;
    let data = bench.group.members[&node].node.data_dir();
    std::fs::remove_dir_all(data).expect("it was there");
}

/// Judges what is published, whoever is down, once the switch has taken a dead node's phantoms out of the
/// calls.
async fn judge(bench: &GroupBench) -> Verdict {
    let deadline = Instant::now() + LIMIT;
    while !bench.group.site.calls().is_empty() {
        assert!(Instant::now() < deadline, "calls are up: {:?}", bench.group.site.calls());
        sleep(Duration::from_millis(20)).await;
    }
    let due = demo::due_to_the_end(&bench.group.site.history(), |call| call.answered);
    demo::judge_copies(&due, &bench.recordings(), 1).expect("voice files can be read")
}

/// The frames of its call that a voice file holds, each once and in order.
fn heard((path, record): &Published) -> Vec<u32> {
    let bytes = std::fs::read(path).expect("a voice file");
    let frames: Vec<u32> = tone::scan(Law::A, &bytes).iter().map(|(_, code)| code.frame).collect();
    assert!(frames.is_sorted_by(|a, b| a < b), "{record:#?}");
    frames
}

/// Asserts that nothing is missing of each call up to a little before the frame at which its recorder was
/// lost. Recordings are in the order in which their calls began.
fn assert_whole_until(published: &[Published], lost_at: &[u32]) {
    assert_eq!(published.len(), lost_at.len());
    for (one, lost_at) in published.iter().zip(lost_at) {
        let frames = heard(one);
        let first = frames[0];
        let unbroken = frames.iter().zip(first..).take_while(|(frame, due)| *frame == due);
        let reached = first + u32::try_from(unbroken.count()).expect("few");
        assert!(first < 30, "it begins with frame {first}: {:#?}", one.1);
        assert!(
            reached + LAG_FRAMES >= *lost_at,
            "unbroken up to {reached}, lost at {lost_at}: {:#?}",
            one.1
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lead_that_is_lost_with_its_disk_takes_the_mirror_s_lag_with_it_and_no_more() {
    let mut bench = hot_standby(6).await;
    let calls = mirrored_calls(&bench, 4).await;
    bench.go_on(&calls, 2 * SOME).await;
    let lost_at = frames(&bench, &calls);
    lose(&mut bench, ONE).await;
    bench.recorded_by(&calls, TWO).await;
    bench.go_on(&calls, SOME).await;
    bench.hang_up(&calls);
    bench.published(4).await;
    let verdict = judge(&bench).await;
    assert!(verdict.is_exactly_right(), "{verdict:#?}\n{}", bench.log_tails());
    assert_eq!((verdict.calls, verdict.takeovers), (4, 1), "{verdict:?}");
    let published = bench.recordings();
    assert_whole_until(&published, &lost_at);
    for (_, record) in &published {
        let nodes: Vec<_> = record.segments.iter().map(|segment| segment.node).collect();
        assert_eq!((nodes, record.node), (vec![ONE, TWO], TWO), "{record:#?}");
        assert!(!record.complete, "the lost node may have had more: {record:#?}");
    }
}

/// Of three recorders the one that takes over is not the one that has the mirror.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_takes_over_gets_the_part_before_from_the_mirror_on_another_node() {
    let mut config = SiteConfig::demo(5, 3);
    for aes in &mut config.aes {
        aes.session_seconds_max = 5;
    }
    let roles = vec![Role::Backup, Role::Active, Role::Backup, Role::Witness];
    let shape = Shape { roles, ..Shape::hot_standby(5) };
    let mut bench = GroupBench::prepare(config, &shape).await;
    bench.run().await;
    bench.leads_steadily(TWO).await;
    let calls = bench.calls(3).await;
    bench.recorded_by(&calls, TWO).await;
    mirrored(&bench, NodeId(3), 3).await;
    bench.go_on(&calls, 2 * SOME).await;
    let lost_at = frames(&bench, &calls);
    lose(&mut bench, TWO).await;
    bench.recorded_by(&calls, ONE).await;
    bench.go_on(&calls, SOME).await;
    bench.hang_up(&calls);
    bench.published(3).await;
    let verdict = judge(&bench).await;
    assert!(verdict.is_exactly_right(), "{verdict:#?}\n{}", bench.log_tails());
    let published = bench.recordings();
    assert_whole_until(&published, &lost_at);
    for (_, record) in &published {
        let nodes: Vec<_> = record.segments.iter().map(|segment| segment.node).collect();
        assert_eq!((nodes, record.node), (vec![TWO, ONE], ONE), "{record:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_ended_and_were_not_published_when_their_recorder_was_lost_are_published() {
    let mut bench = hot_standby(4).await;
    let calls = mirrored_calls(&bench, 3).await;
    bench.go_on(&calls, SOME).await;
    let lost_at = frames(&bench, &calls);
    // It hears nothing of their end, and nobody else is in them.
    bench.pause(ONE);
    bench.hang_up(&calls);
    lose(&mut bench, ONE).await;
    bench.published(3).await;
    let published = bench.recordings();
    assert_whole_until(&published, &lost_at);
    for (_, record) in &published {
        let nodes: Vec<_> = record.segments.iter().map(|segment| segment.node).collect();
        assert_eq!((nodes, record.node), (vec![ONE], TWO), "{record:#?}");
    }
    let verdict = judge(&bench).await;
    assert!(verdict.is_right(), "{verdict:#?}\n{}", bench.log_tails());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_was_away_catches_up_from_the_disk() {
    let mut bench = GroupBench::hot_standby(6).await;
    let mut calls = bench.calls(2).await;
    bench.recorded_by(&calls, ONE).await;
    bench.kill(TWO).await;
    bench.metric(ONE, LAG, |lag| lag > 1.0).await;
    let ended = bench.call(2).await;
    bench.recorded_by(&[ended], ONE).await;
    calls.push(bench.call(3).await);
    bench.recorded_by(&calls, ONE).await;
    bench.go_on(&calls, 2 * SOME).await;
    // One is over and published before the mirror is back: it is owed nothing of it.
    bench.hang_up(&[ended]);
    bench.published(1).await;
    bench.run().await;
    mirrored(&bench, TWO, 3).await;
    bench.metric(ONE, LAG, |lag| lag < 0.5).await;
    bench.duty(TWO, "standby").await;
    let on_disk = bench.recordings();
    bench.go_on(&calls, SOME).await;
    let lost_at = frames(&bench, &calls);
    lose(&mut bench, ONE).await;
    bench.recorded_by(&calls, TWO).await;
    bench.go_on(&calls, SOME).await;
    bench.hang_up(&calls);
    bench.published(4).await;
    let (over, published): (Vec<_>, Vec<_>) = bench
        .recordings()
        .into_iter()
        .partition(|(_, one)| one.recordingid == on_disk[0].1.recordingid);
    assert_eq!(over.len(), 1, "what was published before lies here as a copy");
    assert_whole_until(&published, &lost_at);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_comes_back_completes_what_its_mirror_published() {
    let mut bench = GroupBench::hot_standby(4).await;
    let calls = mirrored_calls(&bench, 3).await;
    bench.go_on(&calls, SOME).await;
    bench.kill(ONE).await;
    // One call ends before anybody goes on with it, perhaps.
    bench.hang_up(&calls[..1]);
    bench.recorded_by(&calls[1..], TWO).await;
    bench.go_on(&calls[1..], SOME).await;
    bench.hang_up(&calls[1..]);
    bench.published(3).await;
    let ids = |published: &[Published]| -> Vec<RecordingId> {
        published.iter().map(|(_, record)| record.recordingid).collect()
    };
    let before = bench.recordings();
    assert!(before.iter().all(|(_, record)| !record.complete && record.node == TWO));
    let frames_before: Vec<_> = before.iter().map(heard).collect();
    bench.run().await;
    let verdict = bench.assert_right(1).await;
    assert_eq!((verdict.calls_recorded, verdict.recordings_published), (3, 3), "{verdict:?}");
    let after = bench.recordings();
    assert_eq!(ids(&before), ids(&after));
    for ((one, frames), old) in after.iter().zip(&frames_before).zip(&before) {
        let now = heard(one);
        assert!(frames.iter().all(|frame| now.contains(frame)), "{:#?}", one.1);
        // Of the call that ended while nobody was there, nobody knows that this is all.
        let taken_over = one.1.segments.iter().any(|segment| segment.node == TWO);
        let completed = one.1.complete && one.1.revision > old.1.revision;
        assert!(completed || !taken_over, "{:#?}\n{}", one.1, bench.log_tails());
    }
    // Nobody keeps anything for anybody any more.
    mirrored(&bench, TWO, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_mirrored_is_encrypted_with_the_keys_of_whoever_keeps_it() {
    let said_in_mirror = |bench: &GroupBench| -> usize {
        let mirror = bench.group.members[&TWO].node.data_dir().join(MIRROR_FOLDER);
        in_clear(&mirror).iter().map(|(_, codes)| codes).sum()
    };
    // The look finds what is not encrypted, so it can find what should be.
    let bench = GroupBench::hot_standby(2).await;
    let calls = mirrored_calls(&bench, 1).await;
    bench.go_on(&calls, 2 * SOME).await;
    assert!(said_in_mirror(&bench) > 50);
    bench.hang_up(&calls);
    bench.quiet().await;
    drop(bench);

    let keys_folder = tempfile::tempdir().expect("a folder");
    let mut bench = GroupBench::prepare(SiteConfig::demo(2, 2), &Shape::hot_standby(2)).await;
    for node in [ONE, TWO] {
        let file = keys::key_file(keys_folder.path(), &format!("k{node}"));
        let id = format!("al_nodeid = {node}\n");
        bench.edit(node, &id, &format!("{id}{}", keys::setting(&file)));
    }
    bench.run().await;
    bench.leads_steadily(ONE).await;
    let calls = mirrored_calls(&bench, 1).await;
    bench.go_on(&calls, 2 * SOME).await;
    assert_eq!(said_in_mirror(&bench), 0);
    // It can be read all the same, after a restart as well.
    bench.kill(TWO).await;
    bench.run().await;
    bench.duty(TWO, "standby").await;
    bench.metric(ONE, LAG, |lag| lag < 0.5).await;
    assert_eq!(said_in_mirror(&bench), 0);
    lose(&mut bench, ONE).await;
    bench.recorded_by(&calls, TWO).await;
    bench.go_on(&calls, SOME).await;
    bench.hang_up(&calls);
    bench.published(1).await;
    let (_, record) = &bench.recordings()[0];
    let nodes: Vec<_> = record.segments.iter().map(|segment| segment.node).collect();
    assert!(nodes == [ONE, TWO] && record.encrypted, "{record:#?}");
    let own = bench.group.members[&TWO].node.data_dir();
    assert_eq!(in_clear(&own), []);
}

/// The node, in another folder.
fn moved(node: &Node, binary: &Path, dir: &Path) -> Node {
    let text = std::fs::read_to_string(node.config_path()).expect("its configuration");
    let written = ["al_datadir", "al_usersfile", "al_listen ", "al_consolelisten"];
    let lines = text.lines().filter(|line| !written.iter().any(|name| line.starts_with(name)));
    let settings: String = lines.map(|line| format!("{line}\n")).collect();
    Node::prepare_at(binary, dir, node.web(), &settings).expect("writable")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_gives_way_to_its_own_node_s_captures_when_the_disk_fills() {
    // Both capture all calls here, each in a copy of its own, and each mirrors the other.
    let Some(disk) = SmallDisk::mount(72 << 20).await else { return skipped() };
    let mut bench = GroupBench::prepare(SiteConfig::demo(4, 2), &Shape::active_active(4)).await;
    let binary = Path::new(env!("CARGO_BIN_EXE_astlogger"));
    let two = bench.group.member(TWO).expect("a member");
    two.node = moved(&two.node, binary, &disk.node);
    bench.run().await;
    bench.leads_steadily(ONE).await;
    let calls = bench.calls(2).await;
    bench.recorded_by(&calls, ONE).await;
    bench.recorded_by(&calls, TWO).await;
    mirrored(&bench, TWO, 2).await;
    bench.go_on(&calls, SOME).await;
    // Less room than the mirror leaves to others, and more than they need for a while.
    disk.fill_but(16 << 20);
    let alarm = "astlogger_alarms{alarm=\"notmirrored\"}";
    bench.metric(TWO, alarm, |raised| raised == 1.0).await;
    bench.metric(ONE, LAG, |lag| lag > 1.0).await;
    bench.metric(ONE, "astlogger_alarms{alarm=\"mirrorlag\"}", |raised| raised == 1.0).await;
    bench.go_on(&calls, 2 * SOME).await;
    disk.free();
    bench.metric(ONE, LAG, |lag| lag < 0.5).await;
    bench.metric(TWO, alarm, |raised| raised == 0.0).await;
    bench.metric(ONE, "astlogger_alarms{alarm=\"mirrorlag\"}", |raised| raised == 0.0).await;
    bench.go_on(&calls, SOME).await;
    bench.hang_up(&calls);
    let verdict = bench.assert_right(2).await;
    assert_eq!((verdict.voice_files, verdict.packets_in_declared_gaps), (4, 0), "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_leaves_its_mirror_when_it_is_published() {
    let bench = GroupBench::hot_standby(3).await;
    let calls = mirrored_calls(&bench, 2).await;
    // One that ends before its first packet has no recording.
    bench.go_on(&calls, SOME).await;
    bench.hang_up(&calls[..1]);
    mirrored(&bench, TWO, 1).await;
    bench.hang_up(&calls[1..]);
    mirrored(&bench, TWO, 0).await;
    bench.assert_right(1).await;
    // A witness keeps nothing.
    let witness = bench.group.members[&WITNESS].node.data_dir();
    assert!(!witness.join(MIRROR_FOLDER).exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_al_mirror_nothing_is_kept_for_others() {
    let shape = Shape { settings: "al_mirror = false\n".to_owned(), ..Shape::hot_standby(2) };
    let bench = GroupBench::start(SiteConfig::demo(2, 2), &shape).await;
    let calls = bench.calls(1).await;
    bench.recorded_by(&calls, ONE).await;
    bench.go_on(&calls, SOME).await;
    let two = bench.group.members[&TWO].node.data_dir();
    assert!(!two.join(MIRROR_FOLDER).exists());
    bench.hang_up(&calls);
    bench.assert_right(1).await;
}
