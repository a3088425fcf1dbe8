//! The shape of a recording's audio for a player: the loudest sample of each stretch, of whichever channel
//! where there are two. It is worked out
//! from the voice file when it is asked for (an hour takes a fraction of a second), so there is nothing
//! beside the file that could go astray. Who may ask is decided elsewhere.

use std::io;

use serde_json::{Value, json};
use storage::wav::{Channels, PCM_HEADER_BYTES, SAMPLE_RATE, read_pcm_header};
use storage_core::RecordingId;

use super::backend::{Audio, Code, Failure};
use super::fetch::read_exact_at;
use super::requests::Opened;

/// Points unless others are asked for: a wide screen.
pub const POINTS: usize = 2_000;
/// So many at most.
pub const POINTS_MAX: usize = 20_000;
/// Samples of a millisecond.
const MS_SAMPLES: u64 = SAMPLE_RATE as u64 / 1000;
/// Read at a time; whole samples of all channels.
const PIECE_BYTES: usize = 64 * 1024;

/// Works it out: `peakms`, the length of a stretch, and `peaks`, one for each: 0 is silence, 255 as loud
/// as it gets. Blocking.
///
/// # Errors
/// `internal` if the audio cannot be read.
pub fn waveform(id: RecordingId, opened: Opened, points: usize) -> Result<Value, Failure> {
    let Opened { mut audio, bytes, .. } = opened;
    audio.will_read(0, bytes);
    let peaks = read(audio.as_mut(), bytes, points).map_err(|error| {
        tracing::error!(recording = %id, %error, "the waveform cannot be made");
        Failure::new(Code::Internal, "the audio cannot be read")
    })?;
    let durationms = peaks.samples.div_ceil(MS_SAMPLES);
    let peakms = peaks.stretch / MS_SAMPLES;
    Ok(json!({
        "recordingid": id.to_string(),
        "durationms": durationms,
        "peakms": peakms,
        "peaks": peaks.peaks,
    }))
}

fn read(audio: &mut dyn Audio, bytes: u64, points: usize) -> io::Result<Peaks> {
    let mut header = [0; PCM_HEADER_BYTES];
    read_exact_at(audio, 0, &mut header)?;
    let length = |(channels, samples): &(Channels, u32)| {
        header.len() as u64 + u64::from(*samples) * u64::from(channels.count()) * 2
    };
    let found = read_pcm_header(&header).filter(|found| length(found) == bytes);
    let Some((channels, samples)) = found else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a WAV file of ours"));
    };
    let mut peaks = Peaks::new(channels, samples.into(), points);
    let mut at = header.len() as u64;
    let mut piece = vec![0; PIECE_BYTES];
    while at < bytes {
        let count = usize::try_from(bytes - at).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        read_exact_at(audio, at, &mut piece[..count])?;
        peaks.add(&piece[..count]);
        at += count as u64;
    }
    peaks.end();
    Ok(peaks)
}

/// Peaks, as far as they are known.
#[derive(Debug)]
struct Peaks {
    /// Of each channel.
    samples: u64,
    /// Bytes of a sample of all channels.
    step: usize,
    /// Samples of a stretch: whole milliseconds.
    stretch: u64,
    filled: u64,
    loudest: u16,
    peaks: Vec<u8>,
}

impl Peaks {
    fn new(channels: Channels, samples: u64, points: usize) -> Self {
        let stretch = samples.div_ceil(points.max(1) as u64).next_multiple_of(MS_SAMPLES);
        let stretch = stretch.max(MS_SAMPLES);
        let step = usize::from(channels.count()) * 2;
        Self { samples, step, stretch, filled: 0, loudest: 0, peaks: Vec::new() }
    }

    /// Takes 16-bit samples.
    fn add(&mut self, pcm: &[u8]) {
        for samples in pcm.chunks_exact(self.step) {
            for pair in samples.chunks_exact(2) {
                let sample = i16::from_le_bytes([pair[0], pair[1]]).unsigned_abs();
                self.loudest = self.loudest.max(sample);
            }
            self.filled += 1;
            if self.filled == self.stretch {
                self.end();
            }
        }
    }

    /// Ends a stretch, if one has begun.
    fn end(&mut self) {
        if std::mem::take(&mut self.filled) > 0 {
            let loudest = std::mem::take(&mut self.loudest).min(i16::MAX.unsigned_abs());
            self.peaks.push((loudest >> 7) as u8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peaks(samples: &[i16], points: usize) -> (u64, Vec<u8>) {
        let mut peaks = Peaks::new(Channels::Mono, samples.len() as u64, points);
        let pcm: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        for piece in pcm.chunks(6) {
            peaks.add(piece);
        }
        peaks.end();
        (peaks.stretch, peaks.peaks)
    }

    #[test]
    fn each_stretch_is_as_loud_as_its_loudest_sample() {
        let mut samples = vec![0_i16; 100];
        (samples[3], samples[17], samples[99]) = (i16::MIN, 1_280, -128);
        assert_eq!(peaks(&samples, 7), (16, vec![255, 10, 0, 0, 0, 0, 1]));
        assert_eq!(peaks(&samples, 1), (104, vec![255]));
        assert_eq!(peaks(&samples, 1_000).0, 8, "no finer than a millisecond");
        assert_eq!(peaks(&[], 10), (8, vec![]));
    }

    #[test]
    fn of_two_channels_the_louder_one_is_seen() {
        let mut peaks = Peaks::new(Channels::Stereo, 16, 2);
        let mut samples = [[0_i16; 2]; 16];
        (samples[2], samples[9]) = ([128, 2_560], [-1_280, 0]);
        let pcm: Vec<u8> = samples.iter().flatten().flat_map(|one| one.to_le_bytes()).collect();
        peaks.add(&pcm);
        peaks.end();
        assert_eq!((peaks.stretch, peaks.peaks), (8, vec![20, 10]));
    }
}
