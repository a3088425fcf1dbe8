//! `verify`: how fast `astlogger verify` goes through voice files, plain and encrypted, beside what only reads and hashes the
//! same files; and what the manifest's line adds to publishing. Files are read from the page cache, so that the
//! processor is what is measured: a disk that is slower than that is the limit instead.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use aws_lc_rs::digest;
use clap::Parser;
use serde_json::json;
use sha2::{Digest, Sha256};
use storage::verify::verify;
use storage::wav::Channels;
use storage::{Keys, Manifest, VoiceForm, VoiceStore};
use storage_core::g711::Law;
use storage_core::{NodeId, Recording, RecordingId, WallTime};

use crate::kernel;
use crate::keys::keys;
use crate::stats::median;
use crate::table::Table;

/// When the recordings were made; any time does.
const MADE_MS: i64 = 1_700_000_000_000;
const PIECE_BYTES: usize = 64 << 10;

/// What is measured.
#[derive(Debug, Parser)]
pub struct Options {
    /// Recordings of each kind.
    #[arg(long, default_value_t = 200)]
    recordings: u16,
    /// Seconds of each, at 8,000 bytes a second.
    #[arg(long, default_value_t = 180)]
    seconds: usize,
    /// Recordings published with and without a manifest in each round.
    #[arg(long, default_value_t = 50)]
    published: u16,
    /// Rounds; medians are shown.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Where the files are written and removed again; a disk, not memory.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// Processor for what is measured on one core.
    #[arg(long, default_value_t = 1)]
    processor: usize,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Verify,
    VerifyEncrypted,
    Sha2,
    AwsLc,
    Sha256sum,
}

impl Subject {
    const ALL: [Self; 5] =
        [Self::Verify, Self::VerifyEncrypted, Self::Sha2, Self::AwsLc, Self::Sha256sum];

    const fn name(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::VerifyEncrypted => "verify, encrypted",
            Self::Sha2 => "reference: read, sha2",
            Self::AwsLc => "reference: read, aws-lc",
            Self::Sha256sum => "reference: sha256sum",
        }
    }
}

/// Measures and prints.
pub fn run(options: &Options) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("verify-bench").tempdir_in(&options.dir)?;
    eprintln!("writing {} recordings of {} s, twice", options.recordings, options.seconds);
    let site = Site::write(folder.path(), options.recordings, options.seconds * 8000)?;
    let all_cores = [Subject::Verify, Subject::VerifyEncrypted];
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut table = Table::new(["what", "cores", "MB/s", "× sha2 on one core"]);
    let on_all = site.rates(&all_cores, options.rounds)?;
    kernel::pin(options.processor)?;
    let on_one = site.rates(&Subject::ALL, options.rounds)?;
    let reference = on_one.iter().find(|(subject, _)| *subject == Subject::Sha2);
    let reference = reference.map_or(f64::NAN, |(_, rate)| *rate);
    let measured = on_one.iter().map(|one| (1, one)).chain(on_all.iter().map(|all| (cores, all)));
    for (cores, (subject, rate)) in measured {
        table.row(vec![
            subject.name().to_owned(),
            cores.to_string(),
            format!("{:.0}", rate / 1e6),
            format!("{:.2}", rate / reference),
        ]);
    }
    println!("\nVerifying (medians of {} rounds)\n\n{table}", options.rounds.max(1));
    let (with, without) = publishing(folder.path(), options)?;
    println!(
        "Publishing a recording of one second: {:.2} ms with a manifest, {:.2} ms without: × {:.2}",
        1e3 * with,
        1e3 * without,
        with / without
    );
    Ok(())
}

/// The same recordings plain and encrypted.
struct Site {
    plain: PathBuf,
    encrypted: PathBuf,
    keys: Keys,
    /// The plain voice files.
    files: Vec<PathBuf>,
    bytes: u64,
}

impl Site {
    fn write(folder: &Path, recordings: u16, samples: usize) -> Result<Self> {
        let (plain, encrypted) = (folder.join("plain"), folder.join("encrypted"));
        let keys = keys(true)?;
        let (mut files, mut bytes) = (Vec::new(), 0);
        for (dir, keys) in [(&plain, Keys::default()), (&encrypted, keys.clone())] {
            let store = VoiceStore::open(dir)?.with_keys(keys);
            for number in 0..recordings {
                let record = publish(&store, number, samples)?;
                if dir == &plain {
                    files.push(store.voice_path(&record));
                    bytes += record.bytes;
                }
            }
        }
        Ok(Self { plain, encrypted, keys, files, bytes })
    }

    /// Bytes a second of each, by the clock.
    fn rates(&self, subjects: &[Subject], rounds: usize) -> Result<Vec<(Subject, f64)>> {
        let mut times = vec![Vec::new(); subjects.len()];
        for _ in 0..rounds.max(1) {
            for (subject, times) in subjects.iter().zip(&mut times) {
                times.push(self.measure(*subject)?.as_secs_f64());
            }
        }
        let rate = |times: Vec<f64>| self.bytes as f64 / median(times).unwrap_or(f64::NAN);
        Ok(subjects.iter().copied().zip(times.into_iter().map(rate)).collect())
    }

    fn measure(&self, subject: Subject) -> Result<Duration> {
        let begun = Instant::now();
        match subject {
            Subject::Verify => self.verify(&self.plain, &Keys::default())?,
            Subject::VerifyEncrypted => self.verify(&self.encrypted, &self.keys)?,
            Subject::Sha2 => {
                for file in &self.files {
                    let mut hash = Sha256::new();
                    read(file, |piece| hash.update(piece))?;
                    std::hint::black_box(hash.finalize());
                }
            }
            Subject::AwsLc => {
                for file in &self.files {
                    let mut hash = digest::Context::new(&digest::SHA256);
                    read(file, |piece| hash.update(piece))?;
                    std::hint::black_box(hash.finish());
                }
            }
            Subject::Sha256sum => {
                let ran =
                    Command::new("sha256sum").args(&self.files).stdout(Stdio::null()).status()?;
                ensure!(ran.success(), "sha256sum failed");
            }
        }
        Ok(begun.elapsed())
    }

    fn verify(&self, dir: &Path, keys: &Keys) -> Result<()> {
        let done = verify(&[dir.to_owned()], keys, &mut |_| {})?;
        // Fast and wrong is not fast.
        ensure!(done.is_clean() && done.bytes == self.bytes, "{done:?}");
        Ok(())
    }
}

fn read(path: &Path, mut take: impl FnMut(&[u8])) -> Result<()> {
    let (mut file, mut piece) = (File::open(path)?, vec![0; PIECE_BYTES]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(()),
            count => take(&piece[..count]),
        }
    }
}

/// Publishes a recording of so many samples.
pub fn publish(store: &VoiceStore, number: u16, samples: usize) -> Result<Recording> {
    let id = RecordingId::new(WallTime::from_millis(MADE_MS + i64::from(number)), [7; 10]);
    let form = VoiceForm::G711(Law::A);
    let mut state = u32::from(number) | 1;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    })
    .take(samples)
    .collect();
    let mut writer = store.write(id, form, Channels::Mono, samples as u64)?;
    writer.write_g711(Law::A, &noise)?;
    let started = id.made();
    let record: Recording = serde_json::from_value(json!({
        "recordingid": id, "revision": 1, "callids": ["1"], "extension": "2611", "agentid": "",
        "calling": "", "called": "", "direction": "inbound", "trunkgroup": "", "trunkmember": "",
        "vdn": "", "split": "", "userdata": "", "parties": [], "started": started, "ended": started,
        "durationms": samples / 8, "scope": "station", "trigger": "rule", "rule": "", "copy": 1,
        "node": 1, "segments": [], "gaps": [], "pauses": [], "complete": true,
        "quality": { "lossratio": 0.0, "jitterms": 0.0, "clockdriftppm": 0.0 },
        "format": "wavg711", "bytes": 0, "sha256": "", "tags": [], "notes": [], "hold": false,
    }))?;
    Ok(store.publish_staged(&store.stage(writer.finish()?, record)?)?)
}

/// Seconds that publishing a short recording takes, with a manifest and without.
fn publishing(folder: &Path, options: &Options) -> Result<(f64, f64)> {
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..options.rounds.max(1) {
        for (with, times) in [true, false].into_iter().zip(&mut times) {
            let dir = folder.join(format!("published-{round}-{with}"));
            let mut store = VoiceStore::open(&dir)?;
            if with {
                store = store.with_manifest(Arc::new(Manifest::open(&dir, NodeId(1))?));
            }
            let begun = Instant::now();
            for number in 0..options.published.max(1) {
                publish(&store, number, 8000)?;
            }
            times.push(begun.elapsed().as_secs_f64() / f64::from(options.published.max(1)));
        }
    }
    let [with, without] = times.map(|times| median(times).unwrap_or(f64::NAN));
    Ok((with, without))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_works() {
        let folder = tempfile::tempdir().unwrap();
        let site = Site::write(folder.path(), 3, 100_000).unwrap();
        for (subject, rate) in site.rates(&Subject::ALL, 1).unwrap() {
            assert!(rate > 0.0, "{subject:?}");
        }
        let options = Options::parse_from(["verify", "--published", "2", "--rounds", "1"]);
        let (with, without) = publishing(folder.path(), &options).unwrap();
        assert!(with > 0.0 && without > 0.0);
    }
}
