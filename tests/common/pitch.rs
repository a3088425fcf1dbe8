//! Plain tones: what those whom the switch lets sing them are heard as, after `ffmpeg` has decoded it, and how loud.

use std::f64::consts::TAU;
use std::path::Path;
use std::process::Command;

use simulator::Site;
use simulator::tone::{Part, Sine};

/// How loud each tone is: its highest sample.
pub const PEAK: u16 = 8000;
/// The same as a level, in dB below a tone that fills all 16 bits.
pub const LEVEL: f64 = -12.25;
/// What is judged at a time: 100 ms.
pub const WINDOW: usize = 800;

/// The tones of all parts at one time, in the order of [`Part`]: each part has one of its own.
pub type Pitches = [u16; 3];

/// What is sung before a pause, in it and behind it.
pub const BEFORE: Pitches = [500, 700, 900];
/// See [`BEFORE`].
pub const PAUSED: Pitches = [1910, 2330, 2630];
/// See [`BEFORE`].
pub const AFTER: Pitches = [600, 800, 1000];
/// A tone that was not taken out is far louder; what a codec makes of others is far less loud.
pub const UNHEARD: f64 = LEVEL - 25.0;
/// Silence, as G.711 has it, or less.
pub const SILENT: f64 = -65.0;

/// Has all sing these tones from now on.
pub fn say(site: &Site, pitches: Pitches) {
    sing(site, pitches, PEAK);
}

/// Has all be silent from now on.
pub fn hush(site: &Site) {
    sing(site, BEFORE, 0);
}

fn sing(site: &Site, pitches: Pitches, peak: u16) {
    for (part, hertz) in [Part::Whole, Part::Station, Part::Others].into_iter().zip(pitches) {
        site.faults().say(part, Some(Sine { hertz, peak }));
    }
}

/// Samples of each channel, 8000 a second, as `ffmpeg` reads the file.
pub fn channels(path: &Path, count: usize) -> Vec<Vec<i16>> {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(path)
        .args(["-f", "s16le", "-ar", "8000", "-"])
        .output()
        .expect("ffmpeg");
    assert!(output.status.success(), "{output:?}");
    let pairs = output.stdout.chunks_exact(2);
    let samples: Vec<_> = pairs.map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect();
    (0..count).map(|at| samples.iter().skip(at).step_by(count).copied().collect()).collect()
}

/// How loud a tone is in these samples, as [`LEVEL`].
pub fn level_of(samples: &[i16], hertz: u16) -> f64 {
    let length = samples.len() as f64;
    let (mut cosine, mut sine) = (0.0, 0.0);
    for (at, sample) in samples.iter().enumerate() {
        // Hann's window, so that other tones are not heard here.
        let weight = 1.0 - (TAU * at as f64 / length).cos();
        let phase = TAU * f64::from(hertz) * at as f64 / 8000.0;
        cosine += f64::from(*sample) * weight * phase.cos();
        sine += f64::from(*sample) * weight * phase.sin();
    }
    let peak = 2.0 * cosine.hypot(sine) / length;
    20.0 * (peak.max(1e-3) / 32_768.0).log10()
}

/// How loud all of it is.
pub fn loudness(samples: &[i16]) -> f64 {
    let power: f64 = samples.iter().map(|sample| f64::from(*sample).powi(2)).sum();
    10.0 * (power.max(1e-3) * 2.0 / samples.len() as f64).log10() - 90.31
}
