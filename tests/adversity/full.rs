//! A disk that fills up under a member of a group, and under what a node alone seals.

use std::time::Duration;

use astlogger::demo::Shape;
use simulator::SiteConfig;
use tokio::time::{Instant, sleep};

use crate::common::group::{GroupBench, ONE, TWO};
use crate::common::{Bench, LIMIT};
use crate::disks::{Small, with_disks};
use crate::sees::{Told, alarms, cleared, logged, node, told};

/// Room for the journal's reserve, the catalog, the group's log and some minutes of audio.
const DISK_BYTES: usize = 48 << 20;
/// How long a call may be without audio: the lead's process ends, or its word that it cannot write is heard.
const HOLE_MAX_MS: u64 = 3_000;

#[test]
fn a_lead_whose_disk_is_full_leaves_its_calls_and_comes_back_once_there_is_room() {
    with_disks("a full disk", async |_| {
        let mut bench = GroupBench::prepare(SiteConfig::demo(5, 2), &Shape::hot_standby(5)).await;
        let disk = Small::attach(&node(&bench, ONE).data_dir(), DISK_BYTES)?;
        bench.run().await;
        bench.leads_steadily(ONE).await;
        let mut calls = bench.calls(3).await;
        bench.recorded_by(&calls, ONE).await;
        bench.go_on(&calls, 60).await;
        disk.fill();
        bench.recorded_by(&calls, TWO).await;
        // It says so as long as it can: a member that cannot keep the group's log ends.
        let deadline = Instant::now() + LIMIT;
        let full = |told: &Told| told.name == "diskfull" && told.message.contains("takes no more");
        while !bench.group.member(ONE)?.node.ended()?
            && !alarms(node(&bench, ONE)).await.iter().any(full)
        {
            assert!(Instant::now() < deadline, "it says nothing; {}", bench.log_tails());
            sleep(Duration::from_millis(20)).await;
        }
        logged(node(&bench, ONE), "no room left on the device").await;
        calls.push(bench.call(3).await);
        bench.recorded_by(&calls, TWO).await;
        bench.go_on(&calls, 60).await;
        disk.free();
        bench.group.member(ONE)?.node.ended()?;
        bench.run().await;
        bench.duty(ONE, "standby").await;
        cleared(node(&bench, ONE), "diskfull", "").await;
        bench.go_on(&calls, 60).await;
        bench.hang_up(&calls);
        let verdict = bench.assert_right(1).await;
        assert_eq!(verdict.calls_recorded, 4, "{verdict:?}");
        let hole = verdict.takeover_gap_ms_max;
        eprintln!("a full disk: {} takeovers, longest hole {hole} ms", verdict.takeovers);
        assert!(hole <= HOLE_MAX_MS, "{verdict:?}\n{}", bench.log_tails());
        Ok(())
    });
}

#[test]
fn what_cannot_be_sealed_for_want_of_room_is_sealed_once_there_is_some() {
    with_disks("a full disk", async |_| {
        let mut bench = Bench::prepare(SiteConfig::demo(3, 1), "").await;
        let disk = Small::attach(&bench.node.data_dir(), DISK_BYTES)?;
        bench = bench.started().await;
        let call = bench.answered_call("5551230001", "31001").await;
        bench.recorded(call).await;
        bench.frames(call, 100).await;
        disk.fill();
        told(&bench.node, "diskfull", "takes no more").await;
        bench.site.switch().hangup_all(call);
        bench.metric("astlogger_seal_retries_total", |retries| retries > 0.0).await;
        bench.metric("astlogger_seal_queue", |waiting| waiting > 0.0).await;
        assert!(bench.node.recordings()?.is_empty(), "half a recording is none");
        disk.free();
        bench.published(1).await;
        let verdict = bench.assert_right();
        assert_eq!(verdict.calls_recorded, 1, "{verdict:?}");
        cleared(&bench.node, "diskfull", "").await;
        Ok(())
    });
}
