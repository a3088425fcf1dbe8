//! `ledger`: how long it takes to hand a claim over (nothing waits for more), and until the group has
//! agreed upon it, on three members over loopback with their logs on a disk. Each call goes its
//! whole way through the ledger: claimed, ended, sealed, listed by both recorders.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use cluster::{Group, GroupConfig};
use cluster_core::{CallRef, Claim, Health, Outcome, Patience, Seal, Standing, StretchRef, Terms};
use storage_core::{CallId, NodeId, RecordingId, Role, SegmentId, WallTime};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::stats::{median, percentile};
use crate::table::Table;

const READY_LIMIT: Duration = Duration::from_secs(20);
/// A claim that is not confirmed within it is one that does not hold.
const CONFIRMED: Duration = Duration::from_secs(10);
/// The highest rate that holds is the one at which 99 of 100 claims are confirmed within it.
const HOLDS_MS: f64 = 250.0;
/// How long a call is in the ledger before it ends.
const CALL: Duration = Duration::from_millis(500);
const BEAT: Duration = Duration::from_millis(5);
const LISTED_EVERY: Duration = Duration::from_millis(100);
/// Between two rates.
const REST: Duration = Duration::from_secs(1);

/// Which rates.
#[derive(Debug, Parser)]
pub struct Options {
    /// Call starts a second. After the first that does not hold no more are tried.
    #[arg(long, value_delimiter = ',', default_values_t = [200, 500, 1000, 2000, 4000, 8000])]
    rates: Vec<u32>,
    /// How long each.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Where the logs are; a disk, not memory.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
}

/// What one rate gave.
#[derive(Debug, Default)]
struct Measured {
    submit_us: Vec<f64>,
    confirm_ms: Vec<f64>,
    failed: usize,
    elapsed: Duration,
}

/// Measures and prints.
pub fn run(options: &Options) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("ledger-bench").tempdir_in(&options.dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut table = Table::new([
        "starts a second",
        "confirmed a second",
        "submit µs median",
        "p99",
        "max",
        "confirm ms median",
        "p99",
        "max",
        "not confirmed",
    ]);
    runtime.block_on(async {
        let (active, backup, _witness) = members(folder.path()).await?;
        let mut first = 0;
        for rate in &options.rates {
            let count = u64::from(*rate) * options.seconds;
            let measured = measure(&active, &backup, first..first + count, *rate).await;
            first += count;
            table.row(row(*rate, &measured));
            if !holds(&measured) {
                break;
            }
            sleep(REST).await;
        }
        anyhow::Ok(())
    })?;
    println!("\nLedger: three members, {} s for each rate\n\n{table}", options.seconds);
    Ok(())
}

fn holds(measured: &Measured) -> bool {
    let p99 = percentile(measured.confirm_ms.iter().copied(), 0.99);
    measured.failed == 0 && p99.is_some_and(|p99| p99 <= HOLDS_MS)
}

fn row(rate: u32, measured: &Measured) -> Vec<String> {
    let mut cells = vec![
        rate.to_string(),
        format!("{:.0}", measured.confirm_ms.len() as f64 / measured.elapsed.as_secs_f64()),
    ];
    for values in [&measured.submit_us, &measured.confirm_ms] {
        let values = || values.iter().copied();
        for value in [median(values()), percentile(values(), 0.99), percentile(values(), 1.0)] {
            cells.push(value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}")));
        }
    }
    cells.push(measured.failed.to_string());
    cells
}

/// Active, backup, witness; the active leads.
async fn members(folder: &Path) -> Result<(Group, Group, Group)> {
    let [.., a, b] = std::process::id().to_be_bytes();
    let peers: BTreeMap<_, _> =
        (1..=3).map(|n| (NodeId(n), format!("127.{}.{b}.1:{}", a | 0x80, 17_400 + n))).collect();
    let start = |node: u16, role| {
        let node = NodeId(node);
        Group::join(GroupConfig {
            node,
            role,
            listen: peers[&node].clone(),
            peers: peers.clone(),
            tls: None,
            heartbeat: Duration::from_millis(50),
            election: Duration::from_millis(300),
            dir: folder.join(node.to_string()),
            phantoms: vec![format!("78{node}01-78{node}50")],
            program: "bench".to_owned(),
            patience: Patience::default(),
        })
    };
    let active = start(1, Role::Active).await?;
    let backup = start(2, Role::Backup).await?;
    let witness = start(3, Role::Witness).await?;
    for group in [&active, &backup, &witness] {
        drop(group.report_health(Health::GOOD, READY_LIMIT));
    }
    let begun = Instant::now();
    loop {
        let view = active.view();
        // The group's leadership is kept off the node that leads recording.
        if view.lead == Some(NodeId(1))
            && view.quorum
            && view.leader.is_some_and(|l| l != NodeId(1))
        {
            return Ok((active, backup, witness));
        }
        ensure!(begun.elapsed() < READY_LIMIT, "the active does not lead: {view:?}");
        sleep(BEAT).await;
    }
}

async fn measure(
    active: &Group,
    backup: &Group,
    numbers: std::ops::Range<u64>,
    rate: u32,
) -> Measured {
    let (sealed, lists) = mpsc::unbounded_channel();
    let listing = tokio::spawn(list([active.clone(), backup.clone()], lists));
    let measured = Arc::new(Mutex::new(Measured::default()));
    let begun = Instant::now();
    let mut calls = JoinSet::new();
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut submits = Vec::new();
    let mut next = numbers.start;
    while next < numbers.end {
        beat.tick().await;
        // Whoever is late makes up for it: so many call starts come, whatever we do.
        let due = (begun.elapsed().as_secs_f64() * f64::from(rate)) as u64;
        while next < numbers.end.min(numbers.start + due) {
            let claim = claim(next);
            let (recording, asked) = (claim.recording, Instant::now());
            let pending = active.claim(claim, CONFIRMED);
            submits.push(asked.elapsed().as_secs_f64() * 1e6);
            let (group, sealed) = (active.clone(), sealed.clone());
            let (measured, number) = (Arc::clone(&measured), next);
            calls.spawn(async move {
                let answer = pending.outcome().await;
                let took = asked.elapsed().as_secs_f64() * 1e3;
                let held = matches!(answer, Ok(Outcome::Claimed { standing: Standing::Holds, .. }));
                {
                    let mut measured = measured.lock().await;
                    if held {
                        measured.confirm_ms.push(took);
                    } else {
                        measured.failed += 1;
                    }
                }
                sleep(CALL).await;
                if finish(&group, recording, number).await.is_some() {
                    // Listing goes on until all senders are gone, so it is heard.
                    let _ = sealed.send(recording);
                }
            });
            next += 1;
        }
    }
    let elapsed = begun.elapsed();
    drop(sealed);
    while calls.join_next().await.is_some() {}
    // It ends by itself now.
    drop(listing.await);
    let mut measured = std::mem::take(&mut *measured.lock().await);
    measured.submit_us = submits;
    measured.elapsed = elapsed;
    measured
}

/// The call ends and its recording is sealed.
async fn finish(group: &Group, recording: RecordingId, number: u64) -> Option<()> {
    let segment = SegmentId(number);
    let stretch = StretchRef { recording, node: NodeId(1), segment };
    let from = began(number);
    let to = from + CALL;
    group.end(stretch, to, CONFIRMED).outcome().await.ok()?;
    let seal = Seal {
        recording,
        node: NodeId(1),
        revision: 1,
        from,
        to,
        used: vec![(NodeId(1), segment)],
        covered: Vec::new(),
        sha256: [1; 32],
    };
    group.seal(seal, CONFIRMED).outcome().await.ok()?;
    Some(())
}

/// Both recorders list what is sealed, some at once, as they do.
async fn list(groups: [Group; 2], mut lists: mpsc::UnboundedReceiver<RecordingId>) {
    while let Some(first) = lists.recv().await {
        sleep(LISTED_EVERY).await;
        let mut listed = vec![(first, 1)];
        while let Ok(more) = lists.try_recv() {
            listed.push((more, 1));
        }
        for group in &groups {
            // What is not listed in time stays in the ledger, which only makes it slower.
            drop(group.acknowledge(listed.clone(), CONFIRMED));
        }
    }
}

fn began(number: u64) -> WallTime {
    WallTime::from_millis(1_790_000_000_000 + number.cast_signed())
}

fn claim(number: u64) -> Claim {
    let mut entropy = [0; 10];
    entropy[..8].copy_from_slice(&number.to_be_bytes());
    let from = began(number);
    Claim {
        terms: Terms::default(),
        call: CallRef {
            ucid: format!("0000100001{number:010}").parse().ok(),
            callid: CallId::new(&(number % 9_000).to_string()),
            began: Some(from),
        },
        copy: 1,
        take: 1,
        node: NodeId(1),
        segment: SegmentId(number),
        recording: RecordingId::new(from, entropy),
        from,
        epoch: 1,
    }
}
