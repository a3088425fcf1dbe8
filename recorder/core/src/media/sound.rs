//! What is to be heard in a voice file: how loud the talk is, whether it is clipped, and for how long
//! nobody says anything. It judges samples as they are written; what is missing is no silence.

use storage_core::g711::Law;

use super::published::FRAME_SAMPLES;
use super::timeline::PlannedGap;

/// Mean square of a full-scale sine.
const FULL_SCALE: f64 = 32_768.0 * 32_768.0 / 2.0;
/// A frame that is not louder than this is one in which nobody speaks: 50 dB below a full-scale sine,
/// well above the noise of a quiet line and well below soft speech.
const SPEECH: f64 = FULL_SCALE * 1e-5;

/// Who hears nothing for so long a talk of the other is not just listening: 5 s.
const ONE_WAY_MS: u64 = 5_000;

/// What was heard.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Heard {
    /// Level of the frames with speech, dB below a full-scale sine; `None` if there is no speech.
    pub level_db: Option<f64>,
    /// Samples at the largest value that the codec has, to all samples.
    pub clipped_ratio: f64,
    /// The longest stretch without speech, milliseconds.
    pub dead_air_ms: u64,
    /// How long there is speech, milliseconds.
    pub speech_ms: u64,
}

impl Heard {
    /// Whether this side of a call or the other is silent throughout; `None` while neither has said
    /// enough.
    #[must_use]
    pub fn one_way(&self, other: &Self) -> Option<bool> {
        let (less, more) =
            (self.speech_ms.min(other.speech_ms), self.speech_ms.max(other.speech_ms));
        match less {
            0 => (more >= ONE_WAY_MS).then_some(true),
            _ => Some(false),
        }
    }
}

/// Listens to a voice file while it is written.
#[derive(Debug)]
pub struct Sound<'p> {
    /// Stretches that are missing, still to come.
    gaps: &'p [PlannedGap],
    position: u64,
    /// Sum of squares, and samples, of the frame that is being filled.
    frame: (u64, usize),
    /// The same of all frames with speech.
    speech: (u64, u64),
    samples: u64,
    clipped: u64,
    /// Samples without speech up to here, and the most there were.
    dead: u64,
    longest: u64,
}

impl<'p> Sound<'p> {
    /// Begins at the file's first sample. `gaps` are the plan's, in order.
    #[must_use]
    pub const fn new(gaps: &'p [PlannedGap]) -> Self {
        Self {
            gaps,
            position: 0,
            frame: (0, 0),
            speech: (0, 0),
            samples: 0,
            clipped: 0,
            dead: 0,
            longest: 0,
        }
    }

    /// Samples that were written.
    pub fn audio(&mut self, law: Law, samples: &[u8]) {
        // The sign is the highest bit in both laws.
        let full = law.loudest() & 0x7f;
        let square = |byte: &u8| u64::from(law.decode(*byte).unsigned_abs()).pow(2);
        self.take(samples, |byte| *byte & 0x7f == full, square);
    }

    /// Linear samples that were written.
    pub fn linear(&mut self, samples: &[i16]) {
        let square = |sample: &i16| u64::from(sample.unsigned_abs()).pow(2);
        self.take(samples, |sample| sample.unsigned_abs() >= i16::MAX.unsigned_abs(), square);
    }

    fn take<T>(&mut self, samples: &[T], is_full: impl Fn(&T) -> bool, square: impl Fn(&T) -> u64) {
        self.samples += samples.len() as u64;
        self.position += samples.len() as u64;
        self.clipped += samples.iter().filter(|sample| is_full(sample)).count() as u64;
        let mut rest = samples;
        while !rest.is_empty() {
            let room = FRAME_SAMPLES - self.frame.1;
            let (part, after) = rest.split_at(rest.len().min(room));
            self.frame.0 += part.iter().map(&square).sum::<u64>();
            self.frame.1 += part.len();
            if self.frame.1 == FRAME_SAMPLES {
                self.end_frame();
            }
            rest = after;
        }
    }

    /// Silence that was written: what is no gap is a silence that the sender chose.
    pub fn silence(&mut self, samples: u64) {
        self.end_frame();
        let end = self.position + samples;
        while self.position < end {
            while self.gaps.first().is_some_and(|gap| gap.to.0 <= self.position) {
                self.gaps = &self.gaps[1..];
            }
            let next = self.gaps.first().map_or(end, |gap| gap.from.0.clamp(self.position, end));
            self.quiet(next - self.position);
            self.position = next;
            if let Some(gap) = self.gaps.first().filter(|gap| gap.from.0 <= self.position)
                && self.position < end
            {
                // Nobody knows what was said there.
                self.dead = 0;
                self.position = gap.to.0.min(end);
            }
        }
    }

    /// What it comes to.
    #[must_use]
    pub fn heard(mut self) -> Heard {
        self.end_frame();
        let (squares, samples) = self.speech;
        let level = |squares: u64| 10.0 * (squares as f64 / samples as f64 / FULL_SCALE).log10();
        Heard {
            level_db: (samples > 0).then(|| level(squares)),
            clipped_ratio: self.clipped as f64 / self.samples.max(1) as f64,
            dead_air_ms: self.longest / 8,
            speech_ms: samples / 8,
        }
    }

    fn end_frame(&mut self) {
        let (squares, samples) = std::mem::take(&mut self.frame);
        if samples == 0 {
            return;
        }
        let samples = samples as u64;
        if squares as f64 > SPEECH * samples as f64 {
            self.speech.0 += squares;
            self.speech.1 += samples;
            self.dead = 0;
        } else {
            self.quiet(samples);
        }
    }

    fn quiet(&mut self, samples: u64) {
        self.dead += samples;
        self.longest = self.longest.max(self.dead);
    }
}

#[cfg(test)]
mod tests {
    use storage_core::record::GapCause;

    use super::super::rtp::MediaTime;
    use super::*;

    fn sine(amplitude: f64, ms: usize) -> Vec<u8> {
        let value = |n: usize| amplitude * (n as f64 * std::f64::consts::TAU / 8.0).sin();
        (0..ms * 8).map(|n| Law::A.encode(value(n) as i16)).collect()
    }

    #[test]
    fn level_is_that_of_the_talk_and_not_of_the_pauses() {
        let mut sound = Sound::new(&[]);
        sound.audio(Law::A, &sine(32_768.0 / 10.0, 1_000));
        sound.silence(3_000 * 8);
        sound.audio(Law::A, &sine(20.0, 500));
        sound.audio(Law::A, &sine(32_768.0 / 10.0, 1_000));
        let heard = sound.heard();
        assert!((heard.level_db.unwrap() + 20.0).abs() < 0.3, "{heard:?}");
        assert_eq!((heard.dead_air_ms, heard.clipped_ratio), (3_500, 0.0));
    }

    #[test]
    fn what_is_missing_is_no_dead_air() {
        let gap = |from: u64, to: u64| PlannedGap {
            from: MediaTime(from * 8),
            to: MediaTime(to * 8),
            cause: GapCause::Takeover,
        };
        let gaps = [gap(0, 400), gap(1_000, 9_000)];
        let mut sound = Sound::new(&gaps);
        sound.silence(400 * 8);
        sound.audio(Law::Mu, &[0xff; 160 * 25]);
        // 100 ms that the sender chose, eight seconds that nobody heard, and 200 ms again.
        sound.silence(8_300 * 8);
        let heard = sound.heard();
        assert_eq!((heard.dead_air_ms, heard.level_db), (600, None));
    }

    #[test]
    fn clipped_samples_are_counted() {
        for law in [Law::A, Law::Mu] {
            let mut sound = Sound::new(&[]);
            sound
                .audio(law, &[law.encode(i16::MAX), law.encode(i16::MIN), law.encode(9_000), 0xd5]);
            assert!((sound.heard().clipped_ratio - 0.5).abs() < 1e-9, "{law:?}");
        }
    }
}
