//! Makes a third voice file of two copies of a call: one, with its holes filled from the other. Reads both
//! files where they lie, listens, and stages the new one with its record. What is filled from where is
//! [`recorder_core::media::repair`]'s decision; whether, when and under which name it is done, and that it is
//! published, is the caller's matter.

use std::io;
use std::ops::Range;

use recorder_core::media::published::PublishedAudio;
use recorder_core::media::{Codec, Leaning, Published, Repair, RepairPiece, VoiceSink, add_sound};
use storage::wav::Channels;
use storage::{Staged, VoiceError, VoiceStore};
use storage_core::g711::Law;
use storage_core::{Recording, RecordingId};

use crate::published_file::{PublishedError, PublishedFile};
use crate::sealing::{SealError, VoiceSettings};
use crate::voice_sink::{MonoVoice, Voice};

/// Samples held in memory at a time: 1 s.
const PART_SAMPLES: u64 = 8000;

/// What is to be repaired, and with what. Both files lie here.
#[derive(Clone, Debug)]
pub struct RepairJob {
    /// The name of what is made.
    pub name: RecordingId,
    /// What lacks something.
    pub repaired: Recording,
    /// The other copy.
    pub other: Recording,
    /// By how much the clock of the other's node was ahead of the repaired one's, as far as is known, microseconds.
    pub ahead_us: i64,
}

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The other copy has nothing that is missing in this one.
    #[error("the other copy has nothing that is missing in this one")]
    NothingToFill,
    /// Which of the two cannot be read back, and why.
    #[error("recording {recording} cannot be read: {reason}")]
    Unread {
        /// Which.
        recording: RecordingId,
        /// Why.
        reason: String,
    },
    /// It cannot be written.
    #[error(transparent)]
    Unwritten(#[from] SealError),
    /// It cannot be written.
    #[error(transparent)]
    Voice(#[from] VoiceError),
}

/// One of the two files.
struct Opened<'a> {
    record: &'a Recording,
    file: PublishedFile,
}

impl<'a> Opened<'a> {
    fn open(store: &VoiceStore, record: &'a Recording) -> Result<Self, RepairError> {
        match PublishedFile::open(store, record) {
            Ok(file) => Ok(Self { record, file }),
            Err(error) => Err(unread(record, &error)),
        }
    }

    fn published(&self) -> Published<'a> {
        Published { record: self.record, samples: self.file.samples() }
    }

    /// A stretch in the form in which it is there.
    fn read(&mut self, at: u64, samples: u64, payload: &mut Vec<u8>) -> Result<Codec, RepairError> {
        payload.clear();
        let count = usize::try_from(samples).unwrap_or(usize::MAX);
        let read = self.file.read(at, count, payload);
        read.map_err(|error: io::Error| unread(self.record, &PublishedError::from(error)))
    }

    /// A stretch as linear samples.
    fn linear(&mut self, range: Range<u64>) -> Result<Vec<i16>, RepairError> {
        let mut payload = Vec::new();
        let mut samples = Vec::new();
        for (at, count) in parts(range) {
            match self.read(at, count, &mut payload)? {
                Codec::G711(law) => samples.extend(payload.iter().map(|byte| law.decode(*byte))),
                _ => samples.extend(linear(&payload)),
            }
        }
        Ok(samples)
    }
}

fn unread(record: &Recording, error: &PublishedError) -> RepairError {
    RepairError::Unread { recording: record.recordingid, reason: error.to_string() }
}

/// Samples of [`Codec::L16`].
fn linear(payload: &[u8]) -> impl Iterator<Item = i16> {
    payload.chunks_exact(2).map(|pair| i16::from_be_bytes([pair[0], pair[1]]))
}

/// Where parts of a stretch begin, and how many samples they have.
fn parts(range: Range<u64>) -> impl Iterator<Item = (u64, u64)> {
    let Range { start, end } = range;
    let begins = (0..).map(move |part| start + part * PART_SAMPLES).take_while(move |at| *at < end);
    begins.map(move |at| (at, PART_SAMPLES.min(end - at)))
}

/// Makes and stages it. It is the same each time, for the same files and settings.
///
/// # Errors
/// [`RepairError`]; nothing is staged then.
pub fn repair(
    job: &RepairJob,
    store: &VoiceStore,
    settings: VoiceSettings,
) -> Result<Staged, RepairError> {
    let mut repaired = Opened::open(store, &job.repaired)?;
    let mut other = Opened::open(store, &job.other)?;
    let mut repair = Repair::new(repaired.published(), other.published(), job.ahead_us);
    while let Some(listen) = repair.listen() {
        let heard = (repaired.linear(listen.repaired)?, other.linear(listen.other)?);
        repair.heard(&heard.0, &heard.1);
    }
    let plan = repair.plan().ok_or(RepairError::NothingToFill)?;
    let mut record = plan.record(job.name, settings.format);
    let law = repaired.file.law().or(other.file.law()).unwrap_or(Law::A);
    let total = plan.plan.total.0;
    let voice = Voice::create(store, settings, &record, (Channels::Mono, total), law)?;
    let mut voice = MonoVoice::new(voice, &plan.plan);
    for piece in &plan.pieces {
        match *piece {
            RepairPiece::Kept { from, samples } => {
                keep(&mut repaired, from..from + samples, &mut voice)?;
            }
            RepairPiece::Missing { samples } => voice.silence(samples)?,
            RepairPiece::Filled { from, samples, beside } => {
                let mut step = |places: Option<(u64, u64)>| match places {
                    Some((at, at_other)) => difference(&mut repaired, at, &mut other, at_other),
                    None => Ok(0),
                };
                let leaning = Leaning::new(samples, [step(beside[0])?, step(beside[1])?]);
                for (at, count) in parts(from..from + samples) {
                    let mut part = other.linear(at..at + count)?;
                    leaning.apply(at - from, &mut part);
                    voice.linear(&part)?;
                }
            }
        }
    }
    let (file, heard) = voice.finish()?;
    add_sound(&mut record.quality, &heard);
    Ok(store.stage(file, record)?)
}

/// Writes a stretch as it is.
fn keep(
    from: &mut Opened<'_>,
    range: Range<u64>,
    voice: &mut MonoVoice<'_>,
) -> Result<(), RepairError> {
    let mut payload = Vec::new();
    for (at, count) in parts(range) {
        match from.read(at, count, &mut payload)? {
            Codec::G711(law) => voice.audio(law, &payload)?,
            _ => voice.linear(&linear(&payload).collect::<Vec<_>>())?,
        }
    }
    Ok(())
}

/// By how much one is above the other, at one sample of each.
fn difference(
    one: &mut Opened<'_>,
    at: u64,
    other: &mut Opened<'_>,
    at_other: u64,
) -> Result<i32, RepairError> {
    let sample = |opened: &mut Opened<'_>, at: u64| {
        Ok::<_, RepairError>(opened.linear(at..at + 1)?.first().copied().map_or(0, i32::from))
    };
    Ok(sample(one, at)? - sample(other, at_other)?)
}
