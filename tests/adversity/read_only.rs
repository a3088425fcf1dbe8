//! A disk that becomes read-only under a running node, as ext4 does after an error.

use std::fs;
use std::process::Command;
use std::time::Duration;

use astlogger::demo::Shape;
use simulator::SiteConfig;
use storage_core::record::GapCause;
use tokio::time::{Instant, sleep};

use crate::common::group::{GroupBench, ONE, TWO};
use crate::common::{Bench, LIMIT};
use crate::disks::{Ext4, with_disks};
use crate::sees::{console, logged, node, told, verified};

/// How long a call may be without audio: the lead's process ends, or its word that it cannot write is heard.
const HOLE_MAX_MS: u64 = 3_000;

#[test]
fn a_lead_whose_disk_becomes_read_only_says_so_leaves_its_calls_and_comes_back_once_it_is_repaired()
{
    with_disks("a disk that becomes read-only", async |folder| {
        let shape = Shape { consoles: true, ..Shape::hot_standby(5) };
        let mut bench = GroupBench::prepare(SiteConfig::demo(5, 2), &shape).await;
        let disk = Ext4::attach(&folder.join("disk"), &node(&bench, ONE).data_dir())?;
        bench.run().await;
        bench.leads_steadily(ONE).await;
        let mut calls = bench.calls(3).await;
        bench.recorded_by(&calls, ONE).await;
        bench.go_on(&calls, 60).await;

        disk.fails();
        bench.recorded_by(&calls, TWO).await;
        logged(node(&bench, ONE), "Read-only file system").await;
        // A member that cannot keep the group's log ends; its service manager starts it in vain.
        let deadline = Instant::now() + LIMIT;
        let one = &mut bench.group.member(ONE)?.node;
        while !one.ended()? {
            assert!(Instant::now() < deadline, "it goes on");
            sleep(Duration::from_millis(20)).await;
        }
        one.start()?;
        while !one.ended()? {
            assert!(Instant::now() < deadline, "it goes on");
            sleep(Duration::from_millis(20)).await;
        }
        let said = fs::read_to_string(node(&bench, ONE).log_path())?;
        let last = said.lines().last().unwrap_or_default();
        assert!(last.contains("Read-only file system"), "{last}");
        let alarm = told(node(&bench, TWO), "memberdown", "node 1").await;
        assert_eq!(alarm.subject, "1");
        assert!(console(node(&bench, TWO), &["show", "alarms"]).contains("memberdown"));
        calls.push(bench.call(3).await);
        bench.recorded_by(&calls, TWO).await;
        bench.go_on(&calls, 60).await;

        disk.is_repaired();
        bench.run().await;
        bench.duty(ONE, "standby").await;
        bench.go_on(&calls, 60).await;
        bench.hang_up(&calls);
        let verdict = bench.assert_right(1).await;
        assert_eq!(verdict.calls_recorded, 4, "{verdict:?}");
        let hole = verdict.takeover_gap_ms_max;
        eprintln!("a read-only disk: {} takeovers, longest hole {hole} ms", verdict.takeovers);
        assert!(hole <= HOLE_MAX_MS, "{verdict:?}\n{}", bench.log_tails());
        Ok(())
    });
}

#[test]
fn a_node_alone_whose_disk_becomes_read_only_goes_on_and_declares_what_it_lost() {
    with_disks("a disk that becomes read-only", async |folder| {
        let mut bench = Bench::prepare(SiteConfig::demo(3, 1), "").await;
        let disk = Ext4::attach(&folder.join("disk"), &bench.node.data_dir())?;
        bench = bench.started().await;
        let switch = bench.site.switch();
        let call = bench.answered_call("5551230001", "31001").await;
        bench.recorded(call).await;
        bench.frames(call, 60).await;
        disk.fails();
        let alarm = told(&bench.node, "diskfailed", "Read-only file system").await;
        assert!(alarm.remedy.contains("fsck"), "{alarm:?}");
        bench.metric("astlogger_alarms{alarm=\"diskfull\"}", |raised| raised == 0.0).await;
        let (status, body) = bench.node.get("/readyz").await?;
        assert!(status == 503 && body.contains("Read-only file system"), "{status} {body}");
        assert_eq!(bench.node.get("/healthz").await?.0, 200);
        let now = switch.call(call).expect("it is up").frames;
        bench.frames(call, now + 60).await;

        // What was captured before is published when the disk is well.
        bench.node.kill().await?;
        disk.is_repaired();
        bench = bench.started().await;
        bench.recorded(call).await;
        let now = switch.call(call).expect("it is up").frames;
        bench.frames(call, now + 60).await;
        switch.hangup_all(call);
        let published = bench.published(1).await;
        let verdict = bench.assert_right();
        assert_eq!(verdict.calls_recorded, 1, "{verdict:?}");
        assert!(verdict.packets_in_declared_gaps > 50, "{verdict:?}");
        let gaps = &published[0].1.gaps;
        assert!(gaps.iter().any(|gap| gap.cause != GapCause::Loss), "{gaps:?}");
        Ok(())
    });
}

/// A backup on a read-only medium, or a disk that has failed, can be looked at all the same.
#[test]
fn what_lies_on_a_read_only_disk_can_be_verified() {
    with_disks("a disk that becomes read-only", async |folder| {
        let mut bench = Bench::prepare(SiteConfig::demo(3, 1), "").await;
        let disk = Ext4::attach(&folder.join("disk"), &bench.node.data_dir())?;
        bench = bench.started().await;
        let call = bench.answered_call("5551230001", "31001").await;
        bench.recorded(call).await;
        bench.frames(call, 60).await;
        bench.site.switch().hangup_all(call);
        bench.published(1).await;
        bench.node.stop(LIMIT).await?;
        disk.is_repaired();
        let remounted =
            Command::new("mount").args(["-o", "remount,ro"]).arg(bench.node.data_dir()).status()?;
        assert!(remounted.success());
        let (code, said) = verified(&bench.node);
        assert!(code == Some(0) && said.contains("1 recordings"), "{said}");
        Ok(())
    });
}
