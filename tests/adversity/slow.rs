//! A disk whose syncs, or writes, take seconds.

use std::path::Path;
use std::time::Duration;

use astlogger::demo::Shape;
use simulator::{CallRef, SiteConfig};

use crate::common::Bench;
use crate::common::group::{GroupBench, ONE, TWO};
use crate::disks::{Sluggish, with_disks};
use crate::sees::{cleared, node, told};

/// Twice `al_syncms` is slow, and this is slower. The file systems of these tests let nobody write into a file that they sync (FUSE holds
/// its lock), so packets wait at the sockets all the while. That a sync alone is in no packet's way is shown with the media
/// thread.
const SLOW: Duration = Duration::from_secs(5);
/// The same for a member of a group, whose word has to be waited for.
const SLOW_MEMBER: Duration = Duration::from_secs(3);
/// Each write may take so long without costing a packet: `docs/operate.md` says so. Packets wait at the sockets meanwhile.
const HELD: Duration = Duration::from_secs(1);
/// And this is longer than they can wait: 256 KiB a call are some 13 s on a loopback, and less on most network cards.
const HANGS: Duration = Duration::from_secs(25);
/// How long a call may be without audio when the lead is taken away from a node whose disk is slow: it goes on
/// capturing, so only what both miss counts.
const HOLE_MAX_MS: u64 = 1_000;

/// All packets of so many calls are in their files.
async fn nothing_is_lost(bench: &Bench, calls: usize) -> anyhow::Result<()> {
    let published = bench.published(calls).await;
    let gaps: Vec<_> = published.iter().flat_map(|(_, record)| &record.gaps).collect();
    let verdict = bench.assert_right();
    assert_eq!(verdict.calls_recorded, calls as u64, "{verdict:?}");
    assert_eq!(verdict.packets_in_declared_gaps, 0, "{verdict:?} {gaps:?}");
    let metrics = bench.node.metrics().await?;
    assert_eq!(metrics["astlogger_rtp_socket_drops_total"], 0.0);
    Ok(())
}

/// A node alone with such a disk.
async fn a_node(folder: &Path) -> anyhow::Result<(Bench, Sluggish)> {
    let bench = Bench::prepare(SiteConfig::demo(4, 1), "").await;
    let disk = Sluggish::attach(folder, &bench.node.data_dir())?;
    Ok((bench.started().await, disk))
}

/// A group whose lead has such a disk, and captures three calls.
async fn a_lead_with_calls(folder: &Path) -> anyhow::Result<(GroupBench, Sluggish, Vec<CallRef>)> {
    let shape = Shape { consoles: true, ..Shape::hot_standby(5) };
    let mut bench = GroupBench::prepare(SiteConfig::demo(5, 2), &shape).await;
    let disk = Sluggish::attach(folder, &node(&bench, ONE).data_dir())?;
    bench.run().await;
    bench.leads_steadily(ONE).await;
    let calls = bench.calls(3).await;
    bench.recorded_by(&calls, ONE).await;
    bench.go_on(&calls, 60).await;
    Ok((bench, disk, calls))
}

/// The disk is quick again: the calls go on, end, and each is recorded without a long hole.
async fn all_are_whole(what: &str, bench: &GroupBench, calls: &[CallRef]) {
    bench.somebody_leads().await;
    bench.go_on(calls, 100).await;
    bench.hang_up(calls);
    let verdict = bench.assert_right(1).await;
    assert_eq!(verdict.calls_recorded, 4, "{verdict:?}");
    let hole = verdict.takeover_gap_ms_max;
    eprintln!("{what}: {} takeovers, longest hole {hole} ms", verdict.takeovers);
    assert!(hole <= HOLE_MAX_MS, "{verdict:?}\n{}", bench.log_tails());
}

#[test]
fn a_disk_that_takes_seconds_for_a_sync_costs_no_packet_and_is_told() {
    with_disks("a slow disk", async |folder| {
        let (bench, disk) = a_node(&folder).await?;
        let switch = bench.site.switch();
        let through = bench.answered_call("5551230001", "31001").await;
        bench.recorded(through).await;
        disk.syncs_take(SLOW);
        let alarm = told(&bench.node, "syncslow", "too slow").await;
        assert!(alarm.message.contains("lasts only after"), "{alarm:?}");
        // It is slow, and not full or broken.
        let (status, body) = bench.node.get("/readyz").await?;
        assert_eq!(status, 200, "{body}");
        let begins = bench.answered_call("5551230002", "31002").await;
        bench.recorded(begins).await;
        bench.frames(begins, 300).await;
        bench.metric("astlogger_capture_sync_seconds_sum", |seconds| seconds > 5.0).await;
        disk.syncs_take(Duration::ZERO);
        for call in [through, begins] {
            switch.hangup_all(call);
        }
        nothing_is_lost(&bench, 2).await
    });
}

#[test]
fn the_lead_of_a_group_whose_disk_becomes_slow_loses_no_call() {
    with_disks("a slow disk", async |folder| {
        let (bench, disk, mut calls) = a_lead_with_calls(&folder).await?;
        disk.syncs_take(SLOW_MEMBER);
        told(node(&bench, ONE), "syncslow", "too slow").await;
        // Whoever leads: its word in the group comes late, and its packets do not.
        calls.push(bench.call(3).await);
        bench.recorded_by_any(&calls, &[ONE, TWO]).await;
        bench.go_on(&calls, 100).await;
        disk.syncs_take(Duration::ZERO);
        all_are_whole("a slow disk", &bench, &calls).await;
        cleared(node(&bench, ONE), "syncslow", "").await;
        Ok(())
    });
}

#[test]
fn a_write_that_takes_seconds_costs_no_packet() {
    with_disks("a disk with slow writes", async |folder| {
        let (bench, disk) = a_node(&folder).await?;
        let switch = bench.site.switch();
        let through = bench.answered_call("5551230001", "31001").await;
        bench.recorded(through).await;
        bench.frames(through, 60).await;
        disk.writes_take(HELD);
        // One begins and one ends meanwhile: each has facts to be written, too.
        let begins = bench.answered_call("5551230002", "31002").await;
        bench.recorded(begins).await;
        let now = switch.call(through).expect("it is up").frames;
        bench.frames(through, now + 600).await;
        switch.hangup_all(begins);
        bench.frames(through, now + 900).await;
        disk.writes_take(Duration::ZERO);
        switch.hangup_all(through);
        nothing_is_lost(&bench, 2).await
    });
}

#[test]
fn what_a_disk_that_hangs_for_longer_costs_is_declared() {
    with_disks("a disk that hangs", async |folder| {
        let (bench, disk) = a_node(&folder).await?;
        let switch = bench.site.switch();
        let call = bench.answered_call("5551230001", "31001").await;
        bench.recorded(call).await;
        bench.frames(call, 60).await;
        disk.writes_take(HANGS);
        let frames = u32::try_from(HANGS.as_millis() / 20)?;
        let now = switch.call(call).expect("it is up").frames;
        bench.frames(call, now + frames).await;
        disk.writes_take(Duration::ZERO);
        bench.frames(call, now + frames + 60).await;
        switch.hangup_all(call);
        bench.published(1).await;
        let verdict = bench.assert_right();
        assert_eq!(verdict.calls_recorded, 1, "{verdict:?}");
        let metrics = bench.node.metrics().await?;
        let dropped = metrics["astlogger_rtp_socket_drops_total"];
        eprintln!("a disk that hangs for {HANGS:?}: {dropped} packets dropped");
        assert!(dropped > 0.0 && verdict.packets_in_declared_gaps as f64 >= dropped, "{verdict:?}");
        Ok(())
    });
}

#[test]
fn the_calls_of_a_lead_whose_writes_hang_are_taken_over() {
    with_disks("a disk that hangs in a group", async |folder| {
        let (bench, disk, mut calls) = a_lead_with_calls(&folder).await?;
        disk.writes_take(HANGS);
        // Nothing that it says gets into the group's log any more, and its silence is heard.
        bench.says_it_leads(TWO).await;
        bench.recorded_by(&calls, TWO).await;
        calls.push(bench.call(3).await);
        bench.recorded_by(&calls, TWO).await;
        bench.go_on(&calls, 100).await;
        disk.writes_take(Duration::ZERO);
        all_are_whole("writes that hang", &bench, &calls).await;
        Ok(())
    });
}
