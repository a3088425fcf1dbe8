//! A receiver in a process of its own, so that its memory and its processor time are its own. It
//! says `ready` when it listens; the generator's process answers `begin` and `end`, and gets the
//! measurements as a line of JSON.

use std::io::{BufRead, stdin};
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use recorder_core::media::srtp::Protection;

use super::mirrored;
use super::recorder::Recorder;
use super::srtp;
use super::sweep::Sweep;
use super::woken::Woken;
use super::{RECEIVER_IP, SOURCE};
use crate::kernel;
use crate::keys::keys;
use crate::stats::{Fate, Run};

/// Which receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// The recorder's media thread.
    Recorder,
    /// The same with encryption at rest.
    Encrypting,
    /// The recorder while its media is encrypted.
    Srtp,
    /// The recorder in a group, which gives what it captures to whoever asks.
    Grouped,
    /// The reference, a file a stream.
    Sweep,
    /// The reference, one file.
    Together,
    /// Woken by each socket.
    Readiness,
    /// Woken by one socket of all streams.
    OnePort,
}

/// What the receiver's process is told.
#[derive(Debug, Args)]
pub struct Options {
    #[arg(long)]
    pub kind: Kind,
    #[arg(long)]
    pub streams: usize,
    /// An empty folder.
    #[arg(long)]
    pub folder: PathBuf,
    #[arg(long)]
    pub processor: usize,
    /// Milliseconds within which media is durable; only the recorder heeds it.
    #[arg(long)]
    pub sync_ms: u64,
}

/// What a receiver says at its end.
pub struct Kept {
    /// Packets that it counted as kept.
    pub packets: u64,
    /// Packets that it counted as anything else, by what it calls them.
    pub refused: Vec<(String, u64)>,
    /// Sweeps that began more than a beat too late.
    pub late_sweeps: u64,
    /// Packets of each stream on the disk.
    pub per_stream: Vec<u64>,
}

/// What both receivers do.
pub trait Receiver {
    /// Syncs so far.
    fn syncs(&self) -> u64;
    /// Takes what has come, ends, and reads back what is on the disk.
    fn stop(self: Box<Self>) -> Result<Kept>;
}

/// RTP addresses of so many streams: even ports below those that the kernel gives to others.
pub fn addresses(streams: usize) -> Result<Vec<SocketAddrV4>> {
    let ports: Vec<u16> = (10_000..32_000).step_by(2).take(streams).collect();
    if ports.len() < streams {
        bail!("at most {} streams", ports.len());
    }
    Ok(ports.into_iter().map(|port| SocketAddrV4::new(RECEIVER_IP, port)).collect())
}

/// Runs a receiver until standard input says `end`.
pub fn run(options: &Options) -> Result<()> {
    kernel::pin(options.processor)?;
    kernel::raise_file_limit()?;
    let addresses = addresses(options.streams)?;
    let base_bytes = kernel::resident_bytes()?;
    let mut given = None;
    let receiver: Box<dyn Receiver> = match options.kind {
        kind @ (Kind::Recorder | Kind::Encrypting | Kind::Srtp | Kind::Grouped) => {
            let Options { folder, sync_ms, .. } = options;
            let keys = keys(kind == Kind::Encrypting)?;
            let media = if kind == Kind::Srtp { srtp::protection()? } else { Protection::Clear };
            let recorder = Recorder::start(folder, &addresses, SOURCE, *sync_ms, keys, &media)?;
            if kind == Kind::Grouped {
                given = Some(mirrored::give(folder, recorder.reader())?);
            }
            Box::new(recorder)
        }
        Kind::Sweep => Box::new(Sweep::start(&options.folder, &addresses, false)?),
        Kind::Together => Box::new(Sweep::start(&options.folder, &addresses, true)?),
        Kind::Readiness => Box::new(Woken::by_readiness(&options.folder, &addresses)?),
        Kind::OnePort => Box::new(Woken::at_one_port(&options.folder, &addresses)?),
    };
    println!("ready");
    expect("begin")?;
    let begin = Mark::now(&*receiver)?;
    expect("end")?;
    let end = Mark::now(&*receiver)?;
    let end_bytes = kernel::resident_bytes()?;
    let socket_drops = kernel::socket_drops(RECEIVER_IP)?;
    let kept = receiver.stop()?;
    drop(given);
    let run = Run {
        streams: options.streams,
        elapsed: end.at - begin.at,
        measured: Duration::ZERO,
        cpu: end.process.saturating_sub(begin.process),
        threads: since(&begin.threads, end.threads),
        base_bytes,
        end_bytes,
        syncs: end.syncs - begin.syncs,
        late_sweeps: kept.late_sweeps,
        fate: Fate {
            on_disk: kept.per_stream.iter().sum(),
            kept: kept.packets,
            refused: kept.refused.iter().map(|(_, count)| count).sum(),
            socket_drops,
            // The generator's process knows what was sent, and looks at the machine.
            sent: 0,
            softnet_drops: 0,
        },
        refused: kept.refused,
        streams_hurt: hurt(&kept.per_stream),
        generator_late: Duration::ZERO,
    };
    println!("{}", serde_json::to_string(&run)?);
    Ok(())
}

/// Numbers of the streams that have fewer packets than another: all were sent the same.
fn hurt(per_stream: &[u64]) -> Vec<usize> {
    let most = per_stream.iter().max().copied().unwrap_or(0);
    let fewer = per_stream.iter().enumerate().filter(|(_, packets)| **packets < most);
    fewer.map(|(number, _)| number).collect()
}

fn expect(word: &str) -> Result<()> {
    let mut line = String::new();
    stdin().lock().read_line(&mut line)?;
    match line.trim() {
        said if said == word => Ok(()),
        said => bail!("{word} was expected, not {said:?}"),
    }
}

/// Counters at one moment.
struct Mark {
    at: Instant,
    process: Duration,
    threads: Vec<(String, Duration)>,
    syncs: u64,
}

impl Mark {
    fn now(receiver: &dyn Receiver) -> Result<Self> {
        Ok(Self {
            at: Instant::now(),
            process: kernel::process_time()?,
            threads: kernel::thread_times()?,
            syncs: receiver.syncs(),
        })
    }
}

/// What each thread has used since.
fn since(before: &[(String, Duration)], now: Vec<(String, Duration)>) -> Vec<(String, Duration)> {
    let at_begin = |name: &str| {
        let found = before.iter().find(|(thread, _)| thread == name);
        found.map_or(Duration::ZERO, |(_, time)| *time)
    };
    now.into_iter()
        .map(|(name, time)| {
            let used = time.saturating_sub(at_begin(&name));
            (name, used)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_even_and_enough_for_four_thousand_streams() {
        let addresses = addresses(4_000).unwrap();
        assert!(addresses.len() == 4_000 && addresses.iter().all(|a| a.port() % 2 == 0));
        assert!(super::addresses(11_001).is_err());
    }

    #[test]
    fn a_stream_is_hurt_if_it_has_less_than_another() {
        assert_eq!(hurt(&[5, 4, 5, 0]), [1, 3]);
        assert!(hurt(&[]).is_empty());
    }

    #[test]
    fn threads_are_told_by_what_they_used_since() {
        let named = |name: &str, ms| (name.to_owned(), Duration::from_millis(ms));
        let before = [named("media", 10), named("main", 4)];
        let now = vec![named("main", 4), named("media", 35), named("new", 3)];
        let expected = [named("main", 0), named("media", 25), named("new", 3)];
        assert_eq!(since(&before, now), expected);
    }
}
