//! `capture`: what receiving and keeping media costs and loses. The generator runs here, on one
//! processor; each receiver runs in a process of its own on another. In every round the recorder
//! with durability, the recorder without and the two references take turns, so that what else
//! happens on the machine meets all of them.

mod batch;
mod generator;
mod mirrored;
pub mod receiver;
mod recorder;
mod srtp;
mod sweep;
mod woken;

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, ValueEnum};

use self::generator::{Generator, Media};
use self::receiver::Kind;
use crate::kernel;
use crate::stats::{Run, median};
use crate::table::Table;

/// Where the receivers listen. Not the usual loopback address, so that nobody else's ports are in
/// the way and drops are those of our own sockets.
const RECEIVER_IP: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 1);
/// Where all media comes from.
const SOURCE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 77, 0, 2), 9_000);
/// Sent before anything is measured: files are made, buffers have grown.
const WARM_UP: Duration = Duration::from_secs(1);
/// More than two beats: what was sent last has been taken.
const SETTLE: Duration = Duration::from_millis(400);
/// `al_syncms` as it is shipped.
const SYNC_MS: u64 = 1000;
/// Longer than any run.
const NEVER_MS: u64 = 86_400_000;

/// Streams that are named when they lack packets.
const STREAMS_SHOWN: usize = 8;

/// What is measured.
#[derive(Debug, Parser)]
pub struct Options {
    /// Numbers of streams.
    #[arg(long, value_delimiter = ',', default_value = "500,2000")]
    streams: Vec<usize>,
    /// Seconds of each run.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Rounds; medians are shown.
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Also receivers that are woken by what comes.
    #[arg(long)]
    alternatives: bool,
    /// Also the recorder with encryption at rest, beside the one without.
    #[arg(long)]
    encryption: bool,
    /// Also the recorder while its media is encrypted (SRTP, authenticated with 80 bits).
    #[arg(long)]
    srtp: bool,
    /// Also the recorder in a group with another process, over a link with TLS: without a mirror, and
    /// while that process mirrors what it captures.
    #[arg(long)]
    mirror: bool,
    /// Where the captures are written and removed again; a disk, not memory.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// Processor of the generator.
    #[arg(long, default_value_t = 0)]
    generator: usize,
    /// Processor of the receiver.
    #[arg(long, default_value_t = 1)]
    receiver: usize,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Recorder,
    Encrypting,
    Srtp,
    Grouped,
    Mirrored,
    NotDurable,
    Reference,
    Together,
    Readiness,
    OnePort,
}

impl Subject {
    fn chosen(options: &Options) -> Vec<Self> {
        let mut all = vec![Self::Recorder];
        all.extend(options.encryption.then_some(Self::Encrypting));
        all.extend(options.srtp.then_some(Self::Srtp));
        if options.mirror {
            all.extend([Self::Grouped, Self::Mirrored]);
        }
        all.extend([Self::NotDurable, Self::Reference, Self::Together]);
        if options.alternatives {
            all.extend([Self::Readiness, Self::OnePort]);
        }
        all
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Recorder => "recorder",
            Self::Encrypting => "recorder, encrypting",
            Self::Srtp => "recorder, encrypted media",
            Self::Grouped => "recorder, in a group",
            Self::Mirrored => "recorder, mirrored",
            Self::NotDurable => "recorder, never synced",
            Self::Reference => "100 ms sweep",
            Self::Together => "100 ms sweep, one file",
            Self::Readiness => "woken by each socket, one file",
            Self::OnePort => "woken by one port, one file",
        }
    }

    const fn kind(self) -> Kind {
        match self {
            Self::Recorder | Self::NotDurable => Kind::Recorder,
            Self::Encrypting => Kind::Encrypting,
            Self::Srtp => Kind::Srtp,
            Self::Grouped | Self::Mirrored => Kind::Grouped,
            Self::Reference => Kind::Sweep,
            Self::Together => Kind::Together,
            Self::Readiness => Kind::Readiness,
            Self::OnePort => Kind::OnePort,
        }
    }
}

/// Measures and prints.
pub fn run(options: &Options) -> Result<()> {
    kernel::pin(options.generator)?;
    let mut costs = Table::new([
        "receiver",
        "streams",
        "CPU s/stream-hour",
        "× sweep",
        "× one file",
        "× recorder",
        "µs/packet",
        "base MiB",
        "KiB/stream",
        "fsyncs/s",
    ]);
    let mut fates = Table::new([
        "receiver",
        "streams",
        "sent",
        "counted",
        "on disk",
        "lost",
        "of streams",
        "socket",
        "softnet",
        "refused",
        "unexplained",
        "late sweeps",
        "generator late",
    ]);
    let mut threads = Table::new(["receiver", "thread", "streams", "CPU s/stream-hour"]);
    let mut losses = Vec::new();
    for streams in &options.streams {
        let mut runs: Vec<_> =
            Subject::chosen(options).into_iter().map(|subject| (subject, Vec::new())).collect();
        for round in 0..options.rounds.max(1) {
            // Nobody is always first, or always behind the one that leaves the most to write out.
            for turn in 0..runs.len() {
                let number = (round + turn) % runs.len();
                let (subject, runs) = &mut runs[number];
                eprintln!("{streams} streams: {}", subject.name());
                runs.push(measure(options, *subject, *streams)?);
            }
        }
        let cost_of = |wanted| {
            let of_it = runs.iter().find(|(subject, _)| *subject == wanted);
            of_it.map_or(f64::NAN, |(_, runs)| middle(runs, Run::cost))
        };
        let floors = [Subject::Reference, Subject::Together, Subject::Recorder].map(cost_of);
        for (subject, runs) in &runs {
            costs.row(cost_row(*subject, runs, floors));
            thread_rows(&mut threads, *subject, runs);
            for run in runs {
                fates.row(fate_row(*subject, run));
                losses.extend(loss(*subject, run));
            }
        }
    }
    println!("\nCost (medians of {} rounds of {} s)\n", options.rounds.max(1), options.seconds);
    println!("{costs}\nThreads\n\n{threads}\nPackets\n\n{fates}");
    losses.iter().for_each(|loss| println!("{loss}"));
    Ok(())
}

/// One run of one receiver.
fn measure(options: &Options, subject: Subject, streams: usize) -> Result<Run> {
    let folder = tempfile::Builder::new().prefix("capture-bench").tempdir_in(&options.dir)?;
    let softnet = kernel::softnet_drops()?;
    let seconds = Duration::from_secs(options.seconds);
    if matches!(subject, Subject::Grouped | Subject::Mirrored) {
        mirrored::certify(folder.path())?;
    }
    let mut process = Process::start(options, subject, streams, folder.path())?;
    let other = match subject {
        Subject::Grouped => Some(mirrored::stand_by(folder.path())?),
        Subject::Mirrored => Some(mirrored::keep(folder.path(), SYNC_MS)?),
        _ => None,
    };
    let mut addresses = receiver::addresses(streams)?;
    if subject == Subject::OnePort {
        let port = addresses.first().copied();
        addresses.iter_mut().zip(port.iter().cycle()).for_each(|(to, port)| *to = *port);
    }
    let media = match subject {
        Subject::Srtp => Media::encrypted(srtp::packets(WARM_UP + seconds)?, streams),
        _ => Media::plain(streams),
    };
    let mut generator = Generator::bind(SOURCE, &addresses, media)?;
    generator.send_for(WARM_UP)?;
    process.say("begin")?;
    generator.late = Duration::ZERO;
    generator.send_for(seconds)?;
    std::thread::sleep(SETTLE);
    process.say("end")?;
    let mut run: Run = serde_json::from_str(&process.line()?)?;
    process.finish()?;
    if let Some(other) = other {
        let wanted = if subject == Subject::Mirrored { streams } else { 0 };
        let recordings = other.stop()?;
        ensure!(recordings == wanted, "the mirror has {recordings} of {wanted} calls");
    }
    run.measured = seconds;
    run.generator_late = generator.late;
    run.fate.sent = generator.sent;
    run.fate.softnet_drops = kernel::softnet_drops()?.saturating_sub(softnet);
    Ok(run)
}

/// A receiver's process; ended with this value.
struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<std::process::ChildStdout>,
}

impl Process {
    fn start(options: &Options, subject: Subject, streams: usize, folder: &Path) -> Result<Self> {
        let kind = subject.kind().to_possible_value().context("no such receiver")?;
        let sync_ms = if subject == Subject::NotDurable { NEVER_MS } else { SYNC_MS };
        let mut child = Command::new(std::env::current_exe()?)
            .arg("receive")
            .args(["--kind", kind.get_name(), "--streams", &streams.to_string()])
            .args(["--processor", &options.receiver.to_string()])
            .args(["--sync-ms", &sync_ms.to_string(), "--folder"])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().context("no way to the receiver")?;
        let output = BufReader::new(child.stdout.take().context("no way from the receiver")?);
        let mut process = Self { child, input, output };
        match process.line()?.trim() {
            "ready" => Ok(process),
            said => bail!("the receiver did not start: {said:?}"),
        }
    }

    fn say(&mut self, word: &str) -> Result<()> {
        Ok(writeln!(self.input, "{word}")?)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line)
    }

    fn finish(&mut self) -> Result<()> {
        let status = self.child.wait()?;
        if !status.success() {
            bail!("the receiver failed: {status}");
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended, or is of no more use.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn middle(runs: &[Run], value: impl Fn(&Run) -> f64) -> f64 {
    median(runs.iter().map(value)).unwrap_or(f64::NAN)
}

fn cost_row(subject: Subject, runs: &[Run], floors: [f64; 3]) -> Vec<String> {
    let streams = runs.first().map_or(0, |run| run.streams);
    let cost = middle(runs, Run::cost);
    // 50 packets a second.
    let micros = cost / 3600.0 / 50.0 * 1e6;
    let mut cells = vec![subject.name().to_owned(), streams.to_string(), format!("{cost:.3}")];
    cells.extend(floors.map(|floor| format!("{:.2}", cost / floor)));
    cells.extend([
        format!("{micros:.2}"),
        format!("{:.1}", middle(runs, |run| run.base_bytes as f64) / f64::from(1 << 20)),
        format!("{:.1}", middle(runs, Run::kib_per_stream)),
        format!("{:.1}", middle(runs, Run::syncs_per_second)),
    ]);
    cells
}

fn fate_row(subject: Subject, run: &Run) -> Vec<String> {
    let fate = run.fate;
    let numbers =
        [fate.lost(), run.streams_hurt.len() as u64, fate.socket_drops, fate.softnet_drops];
    let mut cells = vec![subject.name().to_owned(), run.streams.to_string()];
    cells.extend([fate.sent, fate.kept, fate.on_disk].map(|count| count.to_string()));
    cells.extend(numbers.map(|count| count.to_string()));
    cells.push(fate.refused.to_string());
    cells.push(fate.unexplained().to_string());
    cells.push(run.late_sweeps.to_string());
    cells.push(format!("{} ms", run.generator_late.as_millis()));
    cells
}

/// A sentence on what is missing, if anything is.
fn loss(subject: Subject, run: &Run) -> Option<String> {
    if run.streams_hurt.is_empty() && run.refused.is_empty() {
        return None;
    }
    let shown = &run.streams_hurt[..run.streams_hurt.len().min(STREAMS_SHOWN)];
    let (name, streams, lost) = (subject.name(), run.streams, run.fate.lost());
    let of = run.streams_hurt.len();
    Some(format!(
        "{name}, {streams} streams: {lost} packets of {of} streams are missing (first of them: \
         {shown:?}); refused: {:?}",
        run.refused,
    ))
}

fn thread_rows(table: &mut Table, subject: Subject, runs: &[Run]) {
    let Some(first) = runs.first() else { return };
    for (number, (name, _)) in first.threads.iter().enumerate() {
        let cost = middle(runs, |run| {
            let time = run.threads.get(number).map_or(Duration::ZERO, |(_, time)| *time);
            crate::stats::per_stream_hour(time, run.streams, run.measured)
        });
        let receiver = subject.name().to_owned();
        table.row(vec![receiver, name.clone(), first.streams.to_string(), format!("{cost:.4}")]);
    }
}
