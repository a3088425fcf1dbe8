//! A disk that fills up: under what is to be sealed, and under the lead of a group. (What becomes of the capture of a
//! node alone is tried in `tests/disk.rs`.)

use std::time::Duration;

use astlogger::demo::{Shape, Sight, Verdict};
use simulator::{CallRef, CallView, SiteConfig};
use storage_core::NodeId;
use storage_core::record::GapCause;
use tokio::time::Instant;

use crate::common::group::{GroupBench, ONE, TWO};
use crate::common::{Bench, LIMIT};
use crate::disks::{Small, with_disks};
use crate::sees::{alarms, cleared, node, told};

/// Room for the journal's reserve, the catalog and some minutes of audio.
const DISK_BYTES: usize = 48 << 20;
/// The same with the reserve of the group's log, and half a minute of all phantoms.
const MEMBER_DISK_BYTES: usize = 96 << 20;
/// How long a call may be without audio: the packets of a sweep, the node's word that it cannot write, and a join.
const HOLE_MAX_MS: u64 = 2_000;
/// A node that calls itself well is given the lead after some 11 s. The full one is watched for so long.
const FULL_FOR: Duration = Duration::from_secs(25);
/// And for so many calls, each of which writes to the group's log.
const CALLS_MEANWHILE: usize = 8;

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
        Ok(())
    });
}

/// Nobody but the second recorder leads, and none of these calls has a phantom of the first.
async fn left_to_the_second(bench: &GroupBench, calls: &[CallRef]) {
    assert_ne!(seen_of(bench, ONE).await.duty(), Some("lead"), "{}", bench.log_tails());
    let own = bench.group.phantoms_of(ONE).expect("a range");
    for call in calls {
        let inside = bench.phantoms_in(*call);
        assert!(!inside.iter().any(|phantom| own.contains(phantom)), "{}", bench.log_tails());
    }
}

/// What a node says of itself, once it answers.
async fn seen_of(bench: &GroupBench, node: NodeId) -> Sight {
    let deadline = Instant::now() + LIMIT;
    loop {
        let seen = bench.group.eyes().look().await.into_iter();
        if let Some(seen) =
            seen.filter(|seen| seen.metrics.is_some()).find(|seen| seen.node == node)
        {
            return seen;
        }
        assert!(Instant::now() < deadline, "node {node} is silent: {}", bench.log_tails());
    }
}

/// How often each recorder was given the other's lead.
async fn takeovers(bench: &GroupBench) -> [f64; 2] {
    let of = |seen: Sight| seen.value("astlogger_takeovers_total");
    [of(seen_of(bench, ONE).await), of(seen_of(bench, TWO).await)]
}

/// Waits until no phantom of the first recorder is in these calls.
async fn out_of(bench: &GroupBench, calls: &[CallRef]) {
    let own = bench.group.phantoms_of(ONE).expect("a range");
    for call in calls {
        let is_out = |view: Option<&CallView>| {
            view.is_some_and(|view| !view.recorders().iter().any(|p| own.iter().any(|o| o == p)))
        };
        assert!(
            bench.group.site.switch().wait(*call, LIMIT, is_out).await,
            "{}",
            bench.log_tails()
        );
    }
}

/// None of all calls was without audio for long, and it says why.
fn its_gaps_are_short(bench: &GroupBench, all: usize, verdict: &Verdict) {
    // What the first lost before it left is a gap of its own; both together are what nobody recorded.
    let recordings = bench.recordings();
    let without = recordings
        .iter()
        .map(|(_, record)| record.gaps.iter().map(|gap| gap.endms - gap.startms).sum::<u64>());
    let longest = without.max().unwrap_or(0);
    eprintln!("a full disk: {all} calls, none without audio for more than {longest} ms");
    assert!(longest <= HOLE_MAX_MS, "{verdict:?}\n{}", bench.log_tails());
    let causes = recordings.iter().flat_map(|(_, record)| &record.gaps).map(|gap| gap.cause);
    assert!(causes.into_iter().any(|cause| cause == GapCause::DiskFull), "{verdict:?}");
}

#[test]
fn a_lead_whose_disk_is_full_leaves_its_calls_until_there_is_room_and_comes_back_by_itself() {
    with_disks("a full disk in a group", async |_| {
        let shape = Shape { consoles: true, ..Shape::hot_standby(5) };
        let mut bench = GroupBench::prepare(SiteConfig::demo(5, 2), &shape).await;
        let disk = Small::attach(&node(&bench, ONE).data_dir(), MEMBER_DISK_BYTES)?;
        bench.run().await;
        bench.leads_steadily(ONE).await;
        let mut calls = bench.calls(3).await;
        bench.recorded_by(&calls, ONE).await;
        bench.go_on(&calls, 60).await;

        let before = takeovers(&bench).await;
        disk.fill();
        let alarm = told(node(&bench, ONE), "diskfull", "takes no more").await;
        assert!(alarm.message.contains("MB are free"), "{alarm:?}");
        bench.leads(TWO).await;
        bench.recorded_by(&calls, TWO).await;
        out_of(&bench, &calls).await;
        let full_since = Instant::now();
        for number in 0.. {
            left_to_the_second(&bench, &calls).await;
            let (status, body) = node(&bench, ONE).get("/readyz").await?;
            assert!(status == 503 && body.contains("the disk takes no audio"), "{status} {body}");
            if number >= CALLS_MEANWHILE && full_since.elapsed() > FULL_FOR {
                break;
            }
            let call = bench.call(3).await;
            bench.recorded_by(&[call], TWO).await;
            bench.go_on(&[call], 100).await;
            left_to_the_second(&bench, &[call]).await;
            bench.hang_up(&[call]);
        }
        // Its part of the log of the group is on its disk all the same.
        told(node(&bench, ONE), "grouplogfull", "lives on what was kept for it").await;

        // Nor was it given the lead between two looks.
        let given = takeovers(&bench).await;
        assert_eq!(given[0], before[0], "{}", bench.log_tails());
        assert!(given[1] > before[1], "{}", bench.log_tails());

        // There is room: nothing has to come for it to be noticed, and nothing comes.
        disk.free();
        cleared(node(&bench, ONE), "diskfull", "").await;
        cleared(node(&bench, ONE), "grouplogfull", "").await;
        let deadline = Instant::now() + LIMIT;
        while node(&bench, ONE).get("/readyz").await?.0 != 200 {
            assert!(Instant::now() < deadline, "{}", bench.log_tails());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bench.leads_steadily(ONE).await;
        calls.push(bench.call(4).await);
        bench.recorded_by(&calls[3..], ONE).await;
        bench.go_on(&calls, 60).await;
        bench.hang_up(&calls);
        let verdict = bench.assert_right(1).await;
        let (through, all) = (calls.len(), bench.group.site.history().len());
        assert_eq!(usize::try_from(verdict.calls_recorded)?, all, "{verdict:?}");
        assert!(all >= through + CALLS_MEANWHILE, "{verdict:?}");
        its_gaps_are_short(&bench, all, &verdict);
        assert_eq!(alarms(node(&bench, ONE)).await.len(), 0, "{}", bench.log_tails());
        Ok(())
    });
}
