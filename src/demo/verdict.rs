//! The judgement: from the voice files on disk and what the switch says it sent, whether every
//! 20 ms of every call is in a file or in a declared gap, and whether each call has its recording.
//! It trusts nothing that the recorder says of itself but the gaps it declares.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use simulator::tone::{self, Code, Law};
use storage_core::Recording;

/// Samples in one time-coded frame: 20 ms at 8 kHz.
const FRAME: u64 = 160;
const FRAME_MS: u64 = 20;
/// How far a frame may lie from where its number says within one recording. Segments are placed by
/// the times at which the kernel received them, so a loaded machine moves them by some milliseconds.
const PLACE_TOLERANCE_MS: u64 = 60;

/// A call as the switch knows it.
#[derive(Clone, Debug)]
pub struct DueCall {
    /// The number in its time code.
    pub serial: u32,
    /// Its own UCID, then those of calls that were merged into it.
    pub ucids: Vec<String>,
    /// First and last frame that the switch sent to a recorder while somebody was talking; absent
    /// if it sent none.
    pub sent: Option<(u32, u32)>,
    /// Whether it should have been recorded at all.
    pub due: bool,
}

/// What was found, as `demo --json` prints it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verdict {
    /// Calls that should be recorded.
    pub calls: u64,
    /// Those of them of which there is a recording.
    pub calls_recorded: u64,
    /// Records on disk.
    pub recordings_published: u64,
    /// Voice files on disk.
    pub voice_files: u64,
    /// Calls without any recording.
    pub calls_missed: u64,
    /// Recordings beyond one for each call and copy.
    pub duplicate_recordings: u64,
    /// Frames that the switch sent for these calls.
    pub packets_sent: u64,
    /// Frames found in files.
    pub packets_in_files: u64,
    /// Frames not in a file, where the record says that there is a gap.
    pub packets_in_declared_gaps: u64,
    /// Frames that are nowhere.
    pub packets_unaccounted: u64,
    /// What else is wrong, in words.
    #[serde(skip)]
    pub faults: Vec<String>,
}

/// A voice file and the record beside it.
pub type Published = (PathBuf, Recording);

/// Judges.
///
/// # Errors
/// If a voice file cannot be read at all; a file that reads and is wrong is a fault instead.
pub fn judge(calls: &[DueCall], published: &[Published]) -> Result<Verdict> {
    let mut verdict = Verdict {
        recordings_published: published.len() as u64,
        voice_files: published.iter().filter(|(path, _)| path.is_file()).count() as u64,
        ..Verdict::default()
    };
    // A consultation that was merged has a recording of its own, under its own UCID.
    let mut by_ucid: BTreeMap<&str, u32> = BTreeMap::new();
    for position in 0..calls.iter().map(|call| call.ucids.len()).max().unwrap_or(0) {
        for call in calls {
            if let Some(ucid) = call.ucids.get(position) {
                by_ucid.entry(ucid).or_insert(call.serial);
            }
        }
    }
    let mut files = Vec::new();
    for (path, recording) in published {
        let frames = codes_in(path)?;
        let serial = match &recording.ucid {
            Some(ucid) => by_ucid.get(ucid.as_str()).copied(),
            // A switch that sends no UCIDs: the call is the one that is heard.
            None => frames.first().map(|(_, code)| code.serial),
        };
        let Some(serial) = serial else {
            verdict.faults.push(format!("{}: no such call: {:?}", path.display(), recording.ucid));
            continue;
        };
        // The time code follows the UCID that survives a merge, so a recording that goes on may
        // hold the frames of the other call, whose UCID it names then.
        let former = recording.formerucids.iter().filter_map(|ucid| by_ucid.get(ucid.as_str()));
        let mut serials: BTreeSet<u32> = former.copied().chain([serial]).collect();
        if recording.ucid.is_none() {
            serials.extend(frames.iter().map(|(_, code)| code.serial));
        }
        let placed = Placed { recording, frames, serial, serials };
        verdict.faults.extend(placed.faults(path));
        files.push(placed);
    }
    for call in calls.iter().filter(|call| call.due) {
        let with = files.iter().filter(|file| file.serials.contains(&call.serial));
        verdict.add_call(call, &with.collect::<Vec<_>>());
    }
    Ok(verdict)
}

impl Verdict {
    /// Judges a call by all files that name it.
    fn add_call(&mut self, call: &DueCall, files: &[&Placed<'_>]) {
        self.calls += 1;
        let own: Vec<_> = files.iter().filter(|file| file.serial == call.serial).collect();
        if own.is_empty() {
            self.calls_missed += 1;
            self.faults.push(format!("call {} ({:?}) has no recording", call.serial, call.ucids));
        } else {
            self.calls_recorded += 1;
        }
        // One recording per UCID and copy: a call that came out of a merge has one for each of the
        // calls that went into it. Without UCIDs they are told apart by whom they begin with.
        let name = |recording: &Recording| match &recording.ucid {
            Some(ucid) => ucid.to_string(),
            None => format!("{} {}", recording.calling, recording.called),
        };
        let distinct: BTreeSet<_> =
            own.iter().map(|file| (name(file.recording), file.recording.copy)).collect();
        self.duplicate_recordings += (own.len() - distinct.len()) as u64;
        let Some((first, last)) = call.sent else { return };
        let found: BTreeSet<u32> =
            files.iter().flat_map(|file| file.numbers(call.serial)).collect();
        for number in first..=last {
            self.packets_sent += 1;
            if found.contains(&number) {
                self.packets_in_files += 1;
            } else if files.iter().any(|file| file.declares_missing(call.serial, number)) {
                self.packets_in_declared_gaps += 1;
            } else {
                self.packets_unaccounted += 1;
            }
        }
        if let Some(missing) = (first..=last).find(|number| {
            !found.contains(number)
                && !files.iter().any(|file| file.declares_missing(call.serial, *number))
        }) {
            self.faults.push(format!(
                "call {}: frame {missing} of {first} to {last} is nowhere",
                call.serial
            ));
        }
    }

    /// Whether everything is as it should be on a single node.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.faults.is_empty()
            && self.calls_missed == 0
            && self.duplicate_recordings == 0
            && self.packets_unaccounted == 0
            && self.voice_files == self.recordings_published
    }
}

/// A recording with the frames that are really in its file, in the file's order.
struct Placed<'a> {
    recording: &'a Recording,
    frames: Vec<(usize, Code)>,
    /// The call that it is the recording of.
    serial: u32,
    /// All calls that it names.
    serials: BTreeSet<u32>,
}

impl Placed<'_> {
    fn numbers(&self, serial: u32) -> impl Iterator<Item = u32> + '_ {
        self.frames
            .iter()
            .filter(move |(_, code)| code.serial == serial)
            .map(|(_, code)| code.frame)
    }

    /// Position of frame 0 of this call on the file's timeline, milliseconds (it may lie before
    /// the file's begin), by the first frame found.
    fn origin_ms(&self, serial: u32) -> Option<i64> {
        let (offset, code) = self.frames.iter().find(|(_, code)| code.serial == serial)?;
        let position = i64::try_from(*offset as u64 * FRAME_MS / FRAME).ok()?;
        Some(position - i64::from(code.frame) * FRAME_MS as i64)
    }

    /// Whether the record declares a gap at the place where this frame belongs, or says that its
    /// end is missing and the frame belongs there.
    fn declares_missing(&self, serial: u32, number: u32) -> bool {
        let Some(origin) = self.origin_ms(serial) else { return false };
        if !self.recording.complete && self.numbers(serial).last().is_some_and(|last| last < number)
        {
            return true;
        }
        let place = origin + i64::from(number) * FRAME_MS as i64;
        let tolerance = PLACE_TOLERANCE_MS as i64;
        self.recording.gaps.iter().any(|gap| {
            gap.startms as i64 - tolerance <= place && place < gap.endms as i64 + tolerance
        })
    }

    /// Disorder, repetition and misplacement within the file.
    fn faults(&self, path: &Path) -> Vec<String> {
        let mut faults: Vec<_> =
            self.serials.iter().filter_map(|serial| self.fault_of(*serial)).collect();
        if self.frames.is_empty() {
            faults.push("no time code in it".to_owned());
        }
        faults.into_iter().map(|fault| format!("{}: {fault}", path.display())).collect()
    }

    /// The first that is wrong with the frames of one call.
    fn fault_of(&self, serial: u32) -> Option<String> {
        let mut before: Option<u32> = None;
        let origin = self.origin_ms(serial)?;
        for (offset, code) in self.frames.iter().filter(|(_, code)| code.serial == serial) {
            let position = *offset as i64 * FRAME_MS as i64 / FRAME as i64;
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
}

/// The time codes in a WAV file and the samples at which they begin. A reader of its own, so that
/// the recorder's writer cannot agree with itself.
fn codes_in(path: &Path) -> Result<Vec<(usize, Code)>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let wav = parse_wav(&bytes).with_context(|| format!("{} is no WAV file", path.display()))?;
    Ok(match wav.tag {
        6 => tone::scan(Law::A, wav.data),
        7 => tone::scan(Law::Mu, wav.data),
        _ => {
            let pairs = wav.data.chunks_exact(2);
            let samples: Vec<i16> = pairs.map(|p| i16::from_le_bytes([p[0], p[1]])).collect();
            let by_a = tone::scan_pcm(Law::A, &samples);
            if by_a.is_empty() { tone::scan_pcm(Law::Mu, &samples) } else { by_a }
        }
    })
}

struct Wav<'a> {
    tag: u16,
    data: &'a [u8],
}

fn parse_wav(bytes: &[u8]) -> Result<Wav<'_>> {
    ensure!(bytes.len() > 12 && &bytes[..4] == b"RIFF" && &bytes[8..12] == b"WAVE", "no RIFF/WAVE");
    let (mut tag, mut at) = (0, 12);
    while at + 8 <= bytes.len() {
        let size = u32::from_le_bytes([bytes[at + 4], bytes[at + 5], bytes[at + 6], bytes[at + 7]]);
        let body = at + 8;
        let end = body + size as usize;
        ensure!(end <= bytes.len(), "a chunk is longer than the file");
        match &bytes[at..at + 4] {
            b"fmt " => tag = u16::from_le_bytes([bytes[body], bytes[body + 1]]),
            b"data" => return Ok(Wav { tag, data: &bytes[body..end] }),
            _ => {}
        }
        at = end + size as usize % 2;
    }
    anyhow::bail!("no data chunk")
}
