//! A voice file as the judge reads it: which time-coded frames are where, and what the record beside
//! it declares to be missing. A reader of its own, so that the recorder's writer cannot agree with
//! itself; whether what it finds is right is `verdict`'s.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use simulator::tone::{self, Code, Law, Part};
use storage_core::record::{Gap, GapCause, Side};
use storage_core::{Recording, WallTime};

/// Samples in one time-coded frame: 20 ms at 8 kHz.
const FRAME: u64 = 160;
pub(super) const FRAME_MS: u64 = 20;
/// How far a frame may lie from where its number says within one recording. Segments are placed by
/// the times at which the kernel received them, so a loaded machine moves them by some milliseconds.
pub(super) const PLACE_TOLERANCE_MS: u64 = 60;

/// A voice file and the record beside it.
pub type Published = (PathBuf, Recording);

/// A stretch that a record declares to be without audio, beside what the time codes say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The cause that is declared.
    pub cause: GapCause,
    /// When it began.
    pub at: WallTime,
    /// How long the record says it is.
    pub declared_ms: u64,
    /// The longest stretch of frames that are missing there; absent where no frame is near.
    pub missing_ms: Option<u64>,
}

/// All holes of a recording, in its order.
///
/// # Errors
/// If the voice file cannot be read.
pub fn holes((path, recording): &Published) -> Result<Vec<Hole>> {
    let channels = Placed::read(path, recording)?;
    let placed_of = |gap: &Gap| channels.iter().find(|placed| placed.lacks(gap));
    let holes = recording.gaps.iter().filter_map(|gap| Some(placed_of(gap)?.hole(gap)));
    Ok(holes.collect())
}

/// One channel of a recording with the frames that are really in it, in the file's order.
pub(super) struct Placed<'a> {
    pub(super) recording: &'a Recording,
    /// Whose voices are to be in it.
    pub(super) part: Part,
    /// Samples before each frame, and what it says.
    pub(super) frames: Vec<(usize, Code)>,
}

impl<'a> Placed<'a> {
    /// All channels, the left one first.
    pub(super) fn read(path: &Path, recording: &'a Recording) -> Result<Vec<Self>> {
        let channels = codes_in(path)?;
        let parts = match channels.len() {
            1 => &[Part::Whole][..],
            _ => &[Part::Station, Part::Others],
        };
        let placed = |(frames, part): (_, &Part)| Self { recording, part: *part, frames };
        Ok(channels.into_iter().zip(parts).map(placed).collect())
    }

    /// Whether this gap is one of this channel, too.
    fn lacks(&self, gap: &Gap) -> bool {
        match gap.side {
            None => true,
            Some(Side::Agent) => self.part == Part::Station,
            Some(Side::Others) => self.part == Part::Others,
        }
    }

    pub(super) fn numbers(&self, serial: u32) -> impl Iterator<Item = u32> + '_ {
        self.frames
            .iter()
            .filter(move |(_, code)| code.serial == serial)
            .map(|(_, code)| code.frame)
    }

    /// Position of frame 0 of this call on the file's timeline, milliseconds (it may lie before
    /// the file's begin), by the first frame found.
    fn origin_ms(&self, serial: u32) -> Option<i64> {
        let (offset, code) = self.frames.iter().find(|(_, code)| code.serial == serial)?;
        Some(position_ms(*offset) - i64::from(code.frame) * FRAME_MS as i64)
    }

    /// Whether the record declares a gap at the place where this frame belongs, or says that its
    /// end is missing and the frame belongs there.
    pub(super) fn declares_missing(&self, serial: u32, number: u32) -> bool {
        let Some(origin) = self.origin_ms(serial) else { return false };
        if !self.recording.complete && self.numbers(serial).last().is_some_and(|last| last < number)
        {
            return true;
        }
        let place = origin + i64::from(number) * FRAME_MS as i64;
        let tolerance = PLACE_TOLERANCE_MS as i64;
        self.recording.gaps.iter().filter(|gap| self.lacks(gap)).any(|gap| {
            gap.startms as i64 - tolerance <= place && place < gap.endms as i64 + tolerance
        })
    }

    /// Disorder, repetition and misplacement within the frames of these calls.
    pub(super) fn faults(&self, serials: &BTreeSet<u32>) -> Vec<String> {
        let mut faults: Vec<_> =
            serials.iter().filter_map(|serial| self.fault_of(*serial)).collect();
        if let Some((_, code)) = self.frames.iter().find(|(_, code)| code.part != self.part) {
            let (found, due) = (code.part, self.part);
            faults.push(format!("frame {} is of {found:?} instead of {due:?}", code.frame));
        }
        let gaps = self.recording.gaps.iter().filter(|gap| self.lacks(gap));
        let missing: u64 = gaps.map(|gap| gap.endms - gap.startms).sum();
        if self.frames.is_empty() && missing + PLACE_TOLERANCE_MS < self.recording.durationms {
            faults.push("no time code in it".to_owned());
        }
        faults
    }

    /// The first that is wrong with the frames of one call.
    fn fault_of(&self, serial: u32) -> Option<String> {
        let mut before: Option<u32> = None;
        let origin = self.origin_ms(serial)?;
        for (offset, code) in self.frames.iter().filter(|(_, code)| code.serial == serial) {
            let position = position_ms(*offset);
            let due = origin + i64::from(code.frame) * FRAME_MS as i64;
            if before.is_some_and(|before| before >= code.frame) {
                return Some(format!("frame {} is out of order", code.frame));
            }
            if position.abs_diff(due) > PLACE_TOLERANCE_MS {
                let frame = code.frame;
                return Some(format!("frame {frame} lies at {position} ms instead of {due} ms"));
            }
            before = Some(code.frame);
        }
        None
    }

    /// The call that is heard before a gap, or else behind it, and the numbers of the frames that
    /// belong there.
    pub(super) fn frames_due_in(&self, gap: &Gap) -> Option<(u32, std::ops::RangeInclusive<u32>)> {
        let before = |(offset, _): &&(usize, Code)| position_ms(*offset) < gap.startms as i64;
        let near = self.frames.iter().rev().find(before).or_else(|| self.frames.first())?;
        let serial = near.1.serial;
        let origin = self.origin_ms(serial)?;
        let number = |ms: i64| u32::try_from((ms - origin) / FRAME_MS as i64).ok();
        let tolerance = PLACE_TOLERANCE_MS as i64;
        let first = number(gap.startms as i64 - tolerance).unwrap_or(0);
        Some((serial, first..=number(gap.endms as i64 + tolerance)?))
    }

    pub(super) fn hole(&self, gap: &Gap) -> Hole {
        let missing = self.frames_due_in(gap).map(|(serial, due)| {
            let found: BTreeSet<_> = self.numbers(serial).collect();
            longest_run(due, |number| !found.contains(&number))
        });
        Hole {
            cause: gap.cause,
            at: self.recording.started + Duration::from_millis(gap.startms),
            declared_ms: gap.endms.saturating_sub(gap.startms),
            missing_ms: missing.map(|frames| frames * FRAME_MS),
        }
    }
}

/// Length of the longest stretch of neighbours of which something holds.
pub(super) fn longest_run(numbers: impl Iterator<Item = u32>, holds: impl Fn(u32) -> bool) -> u64 {
    let (mut longest, mut run) = (0, 0);
    for number in numbers {
        run = if holds(number) { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest
}

fn position_ms(samples: usize) -> i64 {
    (samples as u64 * FRAME_MS / FRAME) as i64
}

/// The time codes in each channel of a WAV file and the samples at which they begin.
fn codes_in(path: &Path) -> Result<Vec<Vec<(usize, Code)>>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let wav = parse_wav(&bytes).with_context(|| format!("{} is no WAV file", path.display()))?;
    let channels = usize::from(wav.channels);
    ensure!((1..=2).contains(&channels), "{} has {channels} channels", path.display());
    let of_channel = |channel| match wav.tag {
        6 | 7 => {
            let words: Vec<u8> = wav.data.iter().skip(channel).step_by(channels).copied().collect();
            tone::scan(if wav.tag == 6 { Law::A } else { Law::Mu }, &words)
        }
        _ => {
            let pairs = wav.data.chunks_exact(2).skip(channel).step_by(channels);
            let samples: Vec<i16> = pairs.map(|p| i16::from_le_bytes([p[0], p[1]])).collect();
            let by_a = tone::scan_pcm(Law::A, &samples);
            if by_a.is_empty() { tone::scan_pcm(Law::Mu, &samples) } else { by_a }
        }
    };
    Ok((0..channels).map(of_channel).collect())
}

struct Wav<'a> {
    tag: u16,
    channels: u16,
    data: &'a [u8],
}

fn parse_wav(bytes: &[u8]) -> Result<Wav<'_>> {
    ensure!(bytes.len() > 12 && &bytes[..4] == b"RIFF" && &bytes[8..12] == b"WAVE", "no RIFF/WAVE");
    let (mut tag, mut channels, mut at) = (0, 1, 12);
    while at + 8 <= bytes.len() {
        let size = u32::from_le_bytes([bytes[at + 4], bytes[at + 5], bytes[at + 6], bytes[at + 7]]);
        let body = at + 8;
        let end = body + size as usize;
        ensure!(end <= bytes.len(), "a chunk is longer than the file");
        match &bytes[at..at + 4] {
            b"fmt " => {
                tag = u16::from_le_bytes([bytes[body], bytes[body + 1]]);
                if size >= 4 {
                    channels = u16::from_le_bytes([bytes[body + 2], bytes[body + 3]]);
                }
            }
            b"data" => return Ok(Wav { tag, channels, data: &bytes[body..end] }),
            _ => {}
        }
        at = end + size as usize % 2;
    }
    anyhow::bail!("no data chunk")
}
