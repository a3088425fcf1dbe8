//! `archive`: how fast a node archives recordings, and how fast it hands out what only the archive has, in ranges of a
//! MiB, beside the bare way of moving the same bytes there and back: `cp` and `sync` for a folder, `sftp` behind
//! SFTP, the same S3 client's plain PUT and GET. Everything is on this machine, so what is measured is what programs cost, and
//! no network. What a place is, and the bare way, is `place`'s matter, how a node does it `node`'s.

mod node;
mod place;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use storage::{VoiceStore, wav::SAMPLE_RATE};

use crate::stats::median;
use crate::table::Table;
use crate::verify::publish;
use node::Archiver;
use place::{Kind, Place};

/// What is measured.
#[derive(Debug, Parser)]
pub struct Options {
    /// Recordings, of G.711.
    #[arg(long, default_value_t = 100)]
    recordings: u16,
    /// Seconds of each, at 8,000 bytes a second.
    #[arg(long, default_value_t = 300)]
    seconds: u32,
    /// Rounds; least, median and most are shown.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Where everything is written and removed again; a disk, not memory.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// The `astlogger` to run; the one beside this program unless given.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// The S3 server to run; the one that `./setup tests` has built unless given.
    #[arg(long)]
    s3s: Option<PathBuf>,
}

/// A voice file: its name, and what is in it.
pub struct Laid {
    /// Where it lies.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// How long the node and the bare way took in one round.
#[derive(Clone, Copy, Debug)]
struct Pair {
    node: Duration,
    bare: Duration,
}

/// The rounds of one place.
#[derive(Debug, Default)]
struct Rounds {
    there: Vec<Pair>,
    back: Vec<Pair>,
}

/// Measures and prints.
pub fn run(options: &Options) -> Result<()> {
    let binary = crate::binary(options.binary.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut all: Vec<_> = Kind::ALL.iter().map(|kind| (*kind, Rounds::default())).collect();
    for round in 0..options.rounds.max(1) {
        for (kind, rounds) in &mut all {
            eprintln!("round {} of {}: {}", round + 1, options.rounds.max(1), kind.name());
            let folder =
                tempfile::Builder::new().prefix("archive-bench").tempdir_in(&options.dir)?;
            let (there, back) =
                runtime.block_on(one_round(&binary, folder.path(), *kind, round, options))?;
            rounds.there.push(there);
            rounds.back.push(back);
        }
    }
    let bytes = u64::from(options.recordings) * u64::from(options.seconds * SAMPLE_RATE);
    println!(
        "\nArchiving {} recordings of {} s, {} MB (rounds: {}; median, least to most)\n\n{}",
        options.recordings,
        options.seconds,
        bytes / 1_000_000,
        options.rounds.max(1),
        table(&all, bytes)
    );
    Ok(())
}

async fn one_round(
    binary: &Path,
    folder: &Path,
    kind: Kind,
    round: usize,
    options: &Options,
) -> Result<(Pair, Pair)> {
    let place = Place::start(kind, folder, options.s3s.as_deref()).await?;
    let mut archiver = Archiver::prepare(binary, &folder.join("node"), &place.settings()).await?;
    let store = VoiceStore::open(&archiver.data_dir())?;
    let mut laid = Vec::new();
    for number in 0..options.recordings {
        let record = publish(&store, number, (options.seconds * SAMPLE_RATE) as usize)?;
        let path = store.voice_path(&record);
        laid.push(Laid { bytes: std::fs::read(&path)?, path });
    }
    // Whoever comes second may find more in the page cache: they take turns.
    let node_first = round.is_multiple_of(2);
    let early = if node_first { None } else { Some(timed(place.put(&laid)).await?) };
    let node = archiver.archives(laid.len()).await?;
    let there = Pair { node, bare: late(early, place.put(&laid)).await? };
    archiver.lets_go(&laid).await?;
    let early = if node_first { None } else { Some(timed(place.get(&laid)).await?) };
    let node = archiver.hands_out(&laid).await?;
    let back = Pair { node, bare: late(early, place.get(&laid)).await? };
    archiver.end().await?;
    Ok((there, back))
}

/// What was measured before, or now.
async fn late(early: Option<Duration>, way: impl Future<Output = Result<()>>) -> Result<Duration> {
    match early {
        Some(took) => Ok(took),
        None => timed(way).await,
    }
}

async fn timed(way: impl Future<Output = Result<()>>) -> Result<Duration> {
    let begun = Instant::now();
    way.await?;
    Ok(begun.elapsed())
}

fn table(all: &[(Kind, Rounds)], bytes: u64) -> Table {
    let mut table = Table::new(["what", "node MB/s", "bare MB/s", "ratio", "least", "most"]);
    for (kind, rounds) in all {
        for (what, pairs) in [("to", &rounds.there), ("from", &rounds.back)] {
            let rate = |of: fn(&Pair) -> Duration| {
                let rates = pairs.iter().map(|pair| bytes as f64 / of(pair).as_secs_f64() / 1e6);
                median(rates).unwrap_or(f64::NAN)
            };
            let ratios: Vec<f64> = pairs.iter().map(ratio).collect();
            table.row(vec![
                format!("{what} {}", kind.name()),
                format!("{:.0}", rate(|pair| pair.node)),
                format!("{:.0}", rate(|pair| pair.bare)),
                format!("{:.2}", median(ratios.iter().copied()).unwrap_or(f64::NAN)),
                format!("{:.2}", ratios.iter().copied().fold(f64::INFINITY, f64::min)),
                format!("{:.2}", ratios.iter().copied().fold(0.0, f64::max)),
            ]);
        }
    }
    table
}

/// The node's rate against the bare way's.
fn ratio(pair: &Pair) -> f64 {
    pair.bare.as_secs_f64() / pair.node.as_secs_f64()
}

/// Fast and wrong is not fast.
pub fn same(laid: &Laid, bytes: &[u8]) -> Result<()> {
    ensure!(laid.bytes == bytes, "{} came back as something else", laid.path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_takes_twice_as_long_has_half_the_rate() {
        let (node, bare) = (Duration::from_secs(2), Duration::from_secs(1));
        let rounds =
            Rounds { there: vec![Pair { node, bare }], back: vec![Pair { node: bare, bare }] };
        let text = table(&[(Kind::Folder, rounds)], 4_000_000).to_string();
        assert!(
            text.contains("2 |") && text.contains("0.50 |") && text.contains("1.00 |"),
            "{text}"
        );
    }
}
