//! The site on which takeovers are measured, and the hand that strikes and repairs.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use astlogger::demo::{self, GroupSite, Published, Shape, Sight, Way};
use simulator::{CallRef, SiteConfig};
use storage_core::{NodeId, WallTime};
use tokio::time::{Instant, sleep};

use super::holes::{Holes, Recorded};
use super::{Fault, Options};

const RECORDERS: [NodeId; 2] = [NodeId(1), NodeId(2)];
const LIMIT: Duration = Duration::from_secs(60);
const RING: &str = "al_standbyring = \"30s\"\n";
/// Calls are heard for so long before and after each takeover.
const SETTLE: Duration = Duration::from_millis(1_500);
/// An AES refuses connections for so long.
const AES_AWAY: Duration = Duration::from_secs(2);
/// A link that dropped packets carries again before the recorder is started: what was on its way
/// comes first.
const LINK_SETTLES: Duration = Duration::from_millis(200);

/// The site.
pub struct Stage {
    group: GroupSite,
    fault: Fault,
    ring: bool,
}

impl Stage {
    /// Starts everything; node 1 leads.
    pub async fn set_up(
        binary: &Path,
        folder: &Path,
        fault: Fault,
        options: &Options,
    ) -> Result<Self> {
        let calls = usize::from(options.calls);
        let away = fault == Fault::HostGone;
        let mut shape = Shape { wires: away, relays: away, ..Shape::hot_standby(calls) };
        if options.ring {
            RING.clone_into(&mut shape.settings);
        }
        let config = SiteConfig::demo(calls, shape.recorders());
        let mut group = GroupSite::prepare(binary, folder, config, &shape).await?;
        for aes in 0..shape.recorders() {
            group.site.faults().delay_requests(aes, options.delay);
        }
        group.start(LIMIT).await?;
        Ok(Self { group, fault, ring: options.ring })
    }

    /// Strikes as often as asked for, and reads the files.
    pub async fn measure(&mut self, options: &Options) -> Result<Holes> {
        let mut struck = Vec::new();
        while struck.len() < options.takeovers {
            let times = options.each.clamp(1, options.takeovers - struck.len());
            eprintln!("{}: {} of {}", self.fault.name(), struck.len(), options.takeovers);
            let calls = self.begin_calls(options.calls).await?;
            for _ in 0..times {
                struck.push(self.take_over(calls.len()).await?);
            }
            for call in &calls {
                self.group.site.switch().hangup_all(*call);
            }
            self.group.quiet(LIMIT).await?;
        }
        let published = self.group.recordings()?;
        let mut holes = Holes::default();
        let recorded: Vec<_> = published.iter().map(recorded).collect::<Result<_>>()?;
        holes.add(&struck, &recorded);
        let due = demo::due_to_the_end(&self.group.site.history(), |call| call.answered);
        let verdict = demo::judge_copies(&due, &published, 1)?;
        if !verdict.is_exactly_right() {
            holes.faults = verdict.faults.clone();
            holes.faults.push(format!(
                "{} calls, {} recordings, {} duplicates, {} packets unaccounted",
                verdict.calls,
                verdict.recordings_published,
                verdict.duplicate_recordings,
                verdict.packets_unaccounted
            ));
        }
        self.group.stop(LIMIT).await?;
        Ok(holes)
    }

    /// So many calls, all of which the first recorder records.
    async fn begin_calls(&self, count: u16) -> Result<Vec<CallRef>> {
        self.group.leads_steadily(RECORDERS[0], LIMIT).await?;
        let switch = self.group.site.switch();
        let mut calls = Vec::new();
        for number in 0..count {
            let station = (31_001 + u32::from(number)).to_string();
            let call = switch.inbound_call(&format!("55512{number:05}"), &station)?;
            let rings = switch.wait_alerting(call, LIMIT).await;
            rings.context("the call does not ring")?;
            switch.answer(&station)?;
            calls.push(call);
        }
        self.records(RECORDERS[0], calls.len()).await?;
        self.keeps_rings(calls.len()).await?;
        Ok(calls)
    }

    /// One takeover: when it was struck.
    async fn take_over(&mut self, calls: usize) -> Result<WallTime> {
        sleep(SETTLE).await;
        let seen = self.group.eyes().look().await;
        let busy = |sight: &&Sight| sight.leads() && recordings(sight) >= calls;
        let Some(lead) = seen.iter().find(busy).map(|sight| sight.node) else {
            bail!("no node leads and records all {calls} calls: {}", demo::in_words(&seen));
        };
        let other = RECORDERS.into_iter().find(|node| *node != lead).context("two recorders")?;
        let at = now()?;
        self.strike(lead).await?;
        self.records(other, calls).await?;
        sleep(SETTLE).await;
        self.repair(lead).await?;
        self.group.leads(other, LIMIT).await?;
        self.keeps_rings(calls).await?;
        Ok(at)
    }

    /// Waits until whoever stands by keeps a ring of each call, if it is to.
    async fn keeps_rings(&self, calls: usize) -> Result<()> {
        if !self.ring {
            return Ok(());
        }
        let what = format!("one node keeps {calls} rings");
        let all = |sight: &Sight| sight.value("astlogger_rings") as usize >= calls;
        self.group.until(&what, LIMIT, |seen| seen.iter().any(all)).await
    }

    async fn records(&self, node: NodeId, calls: usize) -> Result<()> {
        let what = format!("node {node} leads and records {calls} calls");
        let all = |sight: &Sight| sight.node == node && sight.leads() && recordings(sight) >= calls;
        self.group.until(&what, LIMIT, |seen| seen.iter().any(all)).await
    }

    async fn strike(&mut self, lead: NodeId) -> Result<()> {
        let aes = self.group.member(lead)?.aes.context("a recorder has an AES")?;
        match self.fault {
            Fault::Killed => self.group.member(lead)?.node.kill().await,
            Fault::Hangs => self.group.member(lead)?.node.pause(),
            Fault::Planned => self.group.member(lead)?.node.stop(LIMIT).await,
            Fault::AesCut => {
                self.group.site.faults().cut_aes(aes, AES_AWAY);
                Ok(())
            }
            Fault::HostGone => {
                self.group.isolate(lead, Way::Stalled);
                self.group.set_aes_way(aes, Way::Stalled);
                self.group.member(lead)?.node.kill().await
            }
        }
    }

    async fn repair(&mut self, lead: NodeId) -> Result<()> {
        let aes = self.group.member(lead)?.aes.context("a recorder has an AES")?;
        if self.fault == Fault::HostGone {
            self.group.isolate(lead, Way::Open);
            self.group.set_aes_way(aes, Way::Open);
            sleep(LINK_SETTLES).await;
        }
        let node = &mut self.group.member(lead)?.node;
        if self.fault == Fault::Hangs {
            // What its sockets hold would fill the hole, had it only been slow.
            node.kill().await?;
        }
        if self.fault != Fault::AesCut {
            node.start()?;
        }
        let begun = Instant::now();
        node.ready(LIMIT).await?;
        eprintln!("  node {lead} is ready again after {:.1} s", begun.elapsed().as_secs_f32());
        Ok(())
    }

    /// The last lines of all nodes' logs.
    pub fn log_tails(&self) -> String {
        let mut tails = String::new();
        for (id, member) in &self.group.members {
            let log = std::fs::read_to_string(member.node.log_path()).unwrap_or_default();
            let lines: Vec<_> = log.lines().rev().take(10).collect();
            let tail: Vec<_> = lines.into_iter().rev().collect();
            tails += &format!("node {id}:\n{}\n", tail.join("\n"));
        }
        tails
    }
}

fn recordings(sight: &Sight) -> usize {
    sight.value("astlogger_recordings_active") as usize
}

fn recorded(published: &Published) -> Result<Recorded> {
    let holes = demo::holes(published)?;
    Ok(Recorded { started: published.1.started, ended: published.1.ended, holes })
}

fn now() -> Result<WallTime> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(WallTime::from_micros(i64::try_from(since.as_micros())?))
}
