//! Searching a catalog of made-up recordings: the first page of each combination of filters, how long
//! entering takes, what the index takes on the disk and in memory, and how fast a catalog is rebuilt
//! from files. What the recordings are like is in `records`.

mod records;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use records::{Draw, FILTERS, narrow, recording};
use storage::{Catalog, DurableCatalog, VoiceStore, reindex};
use storage_core::naming::CATALOG_FOLDER;
use storage_core::query::{Order, Query};

use crate::kernel::resident_bytes;
use crate::stats::percentile;
use crate::table::Table;

/// Recordings entered at a time.
const GROUP: u64 = 8192;
/// The last ones are entered one by one, as a node enters them.
const SINGLES: u64 = 200;

/// Options of `search`.
#[derive(Debug, Args)]
pub struct Options {
    /// Recordings in the catalog
    #[arg(long, default_value_t = 100_000)]
    records: u64,
    /// Searches of each number of filters, over random combinations of them
    #[arg(long, default_value_t = 1000)]
    searches: usize,
    /// Pairs of record and voice file to rebuild a catalog from
    #[arg(long, default_value_t = 20_000)]
    files: u64,
    /// Where the catalog is made; on a disk
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Keep it, and search the one that is there if it has as many recordings
    #[arg(long)]
    keep: bool,
}

/// Runs it.
pub fn run(options: &Options) -> Result<()> {
    let parent = options.dir.clone().unwrap_or_else(std::env::temp_dir);
    let folder = tempfile::Builder::new().prefix("search").tempdir_in(&parent)?;
    let place = if options.keep { parent.join("catalog") } else { folder.path().join("catalog") };
    let (catalog, _) = DurableCatalog::open(&place)?;
    if catalog.len()? != options.records {
        fill(&catalog, options.records)?;
    }
    say_size(&place, options.records)?;
    search_all(&catalog, options)?;
    drop(catalog);
    if options.files > 0 {
        rebuild(&folder.path().join("files"), options.files)?;
    }
    Ok(())
}

fn fill(catalog: &DurableCatalog, records: u64) -> Result<()> {
    catalog.begin_rebuild()?;
    let begun = Instant::now();
    let mut making = Duration::ZERO;
    let bulk = records.saturating_sub(SINGLES);
    for first in (0..bulk).step_by(GROUP as usize) {
        let made = Instant::now();
        let group: Vec<_> =
            (first..bulk.min(first + GROUP)).map(|number| recording(number, records)).collect();
        making += made.elapsed();
        catalog.put_all(&group)?;
    }
    let taken = begun.elapsed() - making;
    println!("{bulk} recordings entered at {:.0}/s", bulk as f64 / taken.as_secs_f64());
    let begun = Instant::now();
    for number in bulk..records {
        catalog.put(&recording(number, records))?;
    }
    let singles = (records - bulk) as f64;
    println!("one by one: {:.1} ms each", begun.elapsed().as_secs_f64() * 1000.0 / singles);
    let begun = Instant::now();
    catalog.check()?;
    println!("all of it read and checked in {:.1} s", begun.elapsed().as_secs_f64());
    catalog.end_rebuild()?;
    Ok(())
}

fn say_size(place: &Path, records: u64) -> Result<()> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(place.join("index"))? {
        bytes += entry?.metadata()?.len();
    }
    println!("on the disk: {} bytes a recording", bytes / records);
    Ok(())
}

fn search_all(catalog: &DurableCatalog, options: &Options) -> Result<()> {
    let mut singles = Table::new(["filter", "p50 ms", "p99 ms", "worst ms", "cut short"]);
    for (number, filter) in FILTERS.iter().enumerate() {
        let figures = measure(catalog, options, |_| 1 << number)?;
        singles.row(figures.cells(filter));
    }
    println!("\n{singles}");
    let mut several = Table::new(["filters", "p50 ms", "p99 ms", "worst ms", "cut short"]);
    let mut worst = BTreeMap::new();
    for count in 0..=FILTERS.len() {
        let figures = measure(catalog, options, |draw| combination(count, draw))?;
        several.row(figures.cells(&count.to_string()));
        worst.insert(count, figures.worst);
    }
    println!("{several}");
    for (count, (took, query)) in worst {
        println!("worst of {count}: {:.1} ms {}", took.as_secs_f64() * 1000.0, brief(&query));
    }
    println!("resident memory: {} MiB", resident_bytes()? >> 20);
    Ok(())
}

/// The members of a query that are set.
fn brief(query: &Query) -> String {
    let text = format!("{query:?}");
    text.split(", ").filter(|member| !member.ends_with("None")).collect::<Vec<_>>().join(", ")
}

/// That many of the filters, one bit each.
fn combination(count: usize, draw: &mut Draw) -> u32 {
    let mut bits = 0_u32;
    while (bits.count_ones() as usize) < count {
        bits |= 1 << draw.below(FILTERS.len() as u64);
    }
    bits
}

struct Figures {
    times: Vec<f64>,
    cut_short: usize,
    worst: (Duration, Query),
}

impl Figures {
    fn cells(&self, name: &str) -> Vec<String> {
        let ms = |share| percentile(self.times.iter().copied(), share).unwrap_or(0.0);
        let ms = |share| format!("{:.2}", ms(share));
        let cut = format!("{:.2} %", self.cut_short as f64 * 100.0 / self.times.len() as f64);
        vec![name.to_owned(), ms(0.5), ms(0.99), ms(1.0), cut]
    }
}

fn measure(
    catalog: &DurableCatalog,
    options: &Options,
    bits: impl Fn(&mut Draw) -> u32,
) -> Result<Figures> {
    let mut figures =
        Figures { times: Vec::new(), cut_short: 0, worst: (Duration::ZERO, Query::default()) };
    let mut draw = Draw::new(1);
    for _ in 0..options.searches {
        let chosen = bits(&mut draw);
        let like = recording(draw.below(options.records), options.records);
        // Half of them mix what two recordings have: little or nothing matches.
        let unlike = recording(draw.below(options.records), options.records);
        let mixed = draw.once_in(2);
        let order = if draw.once_in(4) { Order::Oldest } else { Order::Newest };
        let mut query = Query { order, ..Query::default() };
        for (number, filter) in FILTERS.iter().enumerate() {
            if chosen & (1 << number) != 0 {
                let other = mixed && draw.once_in(2);
                narrow(&mut query, filter, if other { &unlike } else { &like }, &mut draw);
            }
        }
        if query.from > query.to {
            std::mem::swap(&mut query.from, &mut query.to);
        }
        if query.minscore > query.maxscore && query.maxscore.is_some() {
            std::mem::swap(&mut query.minscore, &mut query.maxscore);
        }
        let begun = Instant::now();
        let page = catalog.search(&query)?;
        let took = begun.elapsed();
        figures.times.push(took.as_secs_f64() * 1000.0);
        figures.cut_short +=
            usize::from(page.cursor.is_some() && page.recordings.len() < query.limit);
        if took > figures.worst.0 {
            figures.worst = (took, query);
        }
    }
    Ok(figures)
}

fn rebuild(folder: &Path, files: u64) -> Result<()> {
    std::fs::create_dir(folder)?;
    let store = VoiceStore::open(folder)?;
    for number in 0..files {
        let record = storage_core::Recording { bytes: 1, ..recording(number, files) };
        let path = store.record_path(&record);
        std::fs::create_dir_all(path.parent().context("a record lies in a folder")?)?;
        std::fs::write(store.voice_path(&record), "x")?;
        std::fs::write(path, serde_json::to_vec(&record)?)?;
    }
    let (catalog, _) = DurableCatalog::open(&folder.join(CATALOG_FOLDER))?;
    let begun = Instant::now();
    let rebuilt = reindex::rebuild(&store, &catalog)?;
    ensure!(rebuilt.entered == files, "only {} of {files} were entered", rebuilt.entered);
    let rate = files as f64 / begun.elapsed().as_secs_f64();
    println!(
        "rebuilt from {files} pairs of files: {rate:.0}/s (10 million: {:.1} h)",
        1e7 / rate / 3600.0
    );
    Ok(())
}
