//! `seal`: how much faster than real time recordings become published voice files. The captures
//! are written as the media thread writes them, five packets of a call in a block, the blocks of
//! calls that run at the same time one after the other. They are read from the page cache. The
//! references do the least that the same bytes need: for WAV read, hash, write and sync; for Opus
//! the bare encoder.

use std::fs::File;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Parser;
use recorder::sealing::{SealJob, Sealed, seal};
use sha2::{Digest, Sha256};
use storage::{Journal, JournalOptions, JournalReader, Keys, VoiceStore};
use storage_core::g711::Law;
use storage_core::journal::{BlockWriter, Channel};
use storage_core::record::VoiceFormat;
use storage_core::{NodeId, WallTime, naming};

use crate::facts::{self, FRAME_BYTES, PACKET_BYTES};
use crate::kernel;
use crate::keys::keys;
use crate::stats::median;
use crate::table::Table;

/// When the calls began; any time does.
const BEGAN_MS: i64 = 1_700_000_000_000;
/// Packets of a call in 100 ms.
const BLOCK_PACKETS: usize = 5;

/// What is measured.
#[derive(Debug, Parser)]
pub struct Options {
    /// Minutes of audio in all.
    #[arg(long, default_value_t = 60)]
    minutes: usize,
    /// Calls at the same time that they are divided into.
    #[arg(long, value_delimiter = ',', default_value = "1,20")]
    calls: Vec<usize>,
    /// Rounds; medians are shown.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Also with encryption at rest, of the captures and of the voice files.
    #[arg(long)]
    encryption: bool,
    /// Where captures and voice files are written and removed again; a disk, not memory.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// Processor to work on.
    #[arg(long, default_value_t = 1)]
    processor: usize,
}

/// What is compared.
#[derive(Clone, Copy, Debug)]
enum Subject {
    Seal(VoiceFormat),
    /// From encrypted captures to encrypted voice files.
    SealEncrypted,
    Copy,
    #[cfg(feature = "opus")]
    Encode,
}

impl Subject {
    const ALL: &[Self] = &[
        Self::Seal(VoiceFormat::WavG711),
        Self::SealEncrypted,
        Self::Seal(VoiceFormat::Wav),
        Self::Copy,
        #[cfg(feature = "opus")]
        Self::Seal(VoiceFormat::Opus),
        #[cfg(feature = "opus")]
        Self::Encode,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Seal(VoiceFormat::WavG711) => "seal to wavg711",
            Self::Seal(VoiceFormat::Wav) => "seal to wav",
            Self::Seal(VoiceFormat::Opus) => "seal to opus",
            Self::SealEncrypted => "seal to wavg711, encrypted",
            Self::Copy => "reference: read, hash, write, sync",
            #[cfg(feature = "opus")]
            Self::Encode => "reference: bare Opus encoder",
        }
    }
}

/// Time on the clock and on the processor.
#[derive(Clone, Copy, Debug)]
struct Took {
    wall: Duration,
    cpu: Duration,
}

/// Measures and prints.
pub fn run(options: &Options) -> Result<()> {
    kernel::pin(options.processor)?;
    let mut table = Table::new(["what", "calls", "minutes", "× real time", "× per CPU second"]);
    for calls in &options.calls {
        let calls = (*calls).max(1);
        let folder = tempfile::Builder::new().prefix("seal-bench").tempdir_in(&options.dir)?;
        let packets = options.minutes * 60 * 50 / calls;
        eprintln!("{calls} calls of {} s: writing their capture", packets / 50);
        let plain = Capture::write(&folder.path().join("plain"), calls, packets, Keys::default())?;
        let encrypted = if options.encryption {
            let keys = keys(true)?;
            Some(Capture::write(&folder.path().join("encrypted"), calls, packets, keys)?)
        } else {
            None
        };
        let mut times = vec![Vec::new(); Subject::ALL.len()];
        for round in 0..options.rounds.max(1) {
            for (subject, times) in Subject::ALL.iter().zip(&mut times) {
                let capture = match subject {
                    Subject::SealEncrypted => encrypted.as_ref(),
                    _ => Some(&plain),
                };
                let Some(capture) = capture else { continue };
                let work = folder.path().join(format!("{round} {}", subject.name()));
                times.push(capture.measure(*subject, &work)?);
                std::fs::remove_dir_all(&work)?;
            }
        }
        let seconds = (calls * packets / 50) as f64;
        let measured = Subject::ALL.iter().zip(&times).filter(|(_, times)| !times.is_empty());
        for (subject, times) in measured {
            let factor = |time: fn(&Took) -> Duration| {
                let middle = median(times.iter().map(|took| time(took).as_secs_f64()));
                format!("{:.0}", seconds / middle.unwrap_or(f64::NAN))
            };
            table.row(vec![
                subject.name().to_owned(),
                calls.to_string(),
                format!("{:.0}", seconds / 60.0),
                factor(|took| took.wall),
                factor(|took| took.cpu),
            ]);
        }
    }
    println!("\nSealing (medians of {} rounds)\n\n{table}", options.rounds.max(1));
    Ok(())
}

/// Calls that are complete in a journal.
struct Capture {
    /// Kept, as it has the folder.
    _journal: Journal,
    reader: JournalReader,
    folder: PathBuf,
    keys: Keys,
    calls: usize,
    /// What is said in each call.
    frames: Vec<[u8; FRAME_BYTES]>,
}

impl Capture {
    /// Writes calls of so many packets each.
    fn write(folder: &Path, calls: usize, packets: usize, keys: Keys) -> Result<Self> {
        let options = JournalOptions::default();
        let (mut journal, _) = Journal::open_with_keys(folder, NodeId(1), options, keys.clone())?;
        let source = SocketAddr::from(([192, 0, 2, 5], 2050));
        for call in 0..calls {
            for fact in facts::begin(call, at(0), source) {
                journal.append_fact(&fact)?;
            }
        }
        let mut streams: Vec<_> = (0..calls).map(facts::packet).collect();
        let frames: Vec<_> = (0..packets).map(speech).collect();
        let mut bytes = Vec::new();
        for (beat, spoken) in frames.chunks(BLOCK_PACKETS).enumerate() {
            let first = beat * BLOCK_PACKETS;
            bytes.clear();
            for (call, packet) in streams.iter_mut().enumerate() {
                let segment = facts::segment(call);
                let base = at(first);
                let mut block = BlockWriter::begin(&mut bytes, segment, Channel::Rtp, source, base);
                for (number, frame) in (first..).zip(spoken) {
                    packet[PACKET_BYTES - FRAME_BYTES..].copy_from_slice(frame);
                    if !block.push(at(number), packet) {
                        bail!("a block does not take {BLOCK_PACKETS} packets");
                    }
                    facts::advance(packet);
                }
                block.finish();
            }
            journal.append(&mut bytes)?;
        }
        for call in 0..calls {
            for fact in facts::end(call, at(0), at(packets)) {
                journal.append_fact(&fact)?;
            }
        }
        journal.sync()?;
        let (reader, folder) = (journal.reader(), folder.to_owned());
        Ok(Self { _journal: journal, reader, folder, keys, calls, frames })
    }

    fn measure(&self, subject: Subject, work: &Path) -> Result<Took> {
        std::fs::create_dir_all(work)?;
        let store = VoiceStore::open(work)?.with_keys(self.keys.clone());
        let (begun, cpu) = (Instant::now(), kernel::process_time()?);
        match subject {
            Subject::Seal(format) => self.seal(&store, format)?,
            Subject::SealEncrypted => self.seal(&store, VoiceFormat::WavG711)?,
            Subject::Copy => self.copy(work)?,
            #[cfg(feature = "opus")]
            Subject::Encode => self.encode()?,
        }
        let cpu = kernel::process_time()?.saturating_sub(cpu);
        Ok(Took { wall: begun.elapsed(), cpu })
    }

    fn seal(&self, store: &VoiceStore, format: VoiceFormat) -> Result<()> {
        for call in 0..self.calls {
            let id = facts::recording(call, at(0));
            let job = SealJob::alone(id, NodeId(1), 1);
            let Sealed::Staged { staged, .. } = seal(&job, &self.reader, store, format)? else {
                bail!("nothing was heard in the recording that was made");
            };
            let record = store.publish_staged(&staged)?;
            // Fast and wrong is not fast.
            if record.durationms != self.frames.len() as u64 * 20 || !record.gaps.is_empty() {
                bail!("{} ms were sealed, with {} gaps", record.durationms, record.gaps.len());
            }
        }
        Ok(())
    }

    /// Reads what is in the journal's files, and writes as many bytes as the voice files have,
    /// a file a call, hashed and made durable.
    fn copy(&self, work: &Path) -> Result<()> {
        let mut captured = Vec::new();
        for entry in std::fs::read_dir(self.folder.join(naming::CAPTURE_FOLDER))? {
            let entry = entry?;
            if entry.file_name() != naming::RESERVE_FILE {
                File::open(entry.path())?.read_to_end(&mut captured)?;
            }
        }
        let length = self.frames.len() * FRAME_BYTES;
        for (call, samples) in captured.chunks_exact(length).take(self.calls).enumerate() {
            let mut file = File::create(work.join(call.to_string()))?;
            let mut hash = Sha256::new();
            for chunk in samples.chunks(64 << 10) {
                hash.update(chunk);
                file.write_all(chunk)?;
            }
            file.sync_all()?;
            std::fs::write(work.join(format!("{call}.sha256")), hash.finalize())?;
        }
        Ok(())
    }

    /// The same samples through an encoder with the recorder's settings.
    #[cfg(feature = "opus")]
    fn encode(&self) -> Result<()> {
        use opus::{Application, Bitrate, Channels, Encoder, Signal};
        use recorder::sealing::VoiceSettings;
        let bitrate = VoiceSettings::default().opus_bitrate;
        for _ in 0..self.calls {
            let mut encoder = Encoder::new(8000, Channels::Mono, Application::Voip)?;
            encoder.set_bitrate(Bitrate::Bits(i32::try_from(bitrate)?))?;
            encoder.set_complexity(5)?;
            encoder.set_signal(Signal::Voice)?;
            let mut packet = [0; 1275];
            for frame in &self.frames {
                let frame = frame.map(|byte| Law::A.decode(byte));
                encoder.encode(&frame, &mut packet)?;
            }
        }
        Ok(())
    }
}

/// When a packet was received.
fn at(number: usize) -> WallTime {
    WallTime::from_millis(BEGAN_MS + 20 * i64::try_from(number).unwrap_or(i64::MAX / 20))
}

/// 20 ms of something with the bandwidth and the pauses of speech: noise, louder and softer.
fn speech(number: usize) -> [u8; FRAME_BYTES] {
    let mut state = (number as u32).wrapping_mul(2_654_435_761) | 1;
    let loudness = [0, 900, 4000, 9000, 6000, 2500, 400, 0][number / 4 % 8];
    let mut smooth = 0;
    std::array::from_fn(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let noise = i32::try_from(state >> 16).unwrap_or(0) - 32_768;
        smooth = (3 * smooth + noise) / 4;
        Law::A.encode(i16::try_from(smooth * loudness / 32_768).unwrap_or(0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_works() {
        let folder = tempfile::tempdir().unwrap();
        let capture = Capture::write(folder.path(), 3, 102, keys(true).unwrap()).unwrap();
        for (number, subject) in Subject::ALL.iter().enumerate() {
            let took = capture.measure(*subject, &folder.path().join(number.to_string()));
            assert!(took.unwrap().wall > Duration::ZERO, "{subject:?}");
        }
    }

    #[test]
    fn speech_has_pauses_and_no_two_frames_alike() {
        assert_eq!(speech(0), [Law::A.encode(0); FRAME_BYTES]);
        assert_ne!(speech(8), speech(9));
    }
}
