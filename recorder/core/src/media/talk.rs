//! Something like talk, for tests: two voices in turn, with gliding pitch and formants, hissing sounds and
//! pauses, the same each time for a seed; and what devices make of it that each have their own gain,
//! clock, noise and codec.

use storage_core::g711::Law;

const RATE: f32 = 8000.0;

/// Numbers that look random (SplitMix64).
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Evenly between two numbers.
    pub fn between(&mut self, from: f32, to: f32) -> f32 {
        from + (to - from) * ((self.next() >> 40) as f32 / 16_777_216.0)
    }
}

/// A formant: a resonance of the second order.
#[derive(Clone, Copy, Default)]
struct Formant {
    y1: f32,
    y2: f32,
}

impl Formant {
    fn filter(&mut self, x: f32, hertz: f32, width: f32) -> f32 {
        let r = (-std::f32::consts::PI * width / RATE).exp();
        let c = 2.0 * r * (std::f32::consts::TAU * hertz / RATE).cos();
        let y = (1.0 - r) * x + c * self.y1 - r * r * self.y2;
        (self.y2, self.y1) = (self.y1, y);
        y
    }
}

/// So many samples of talk at 8 kHz, at most about 0.5 in magnitude.
pub fn talk(seed: u64, samples: usize) -> Vec<f32> {
    let mut dice = Dice(seed);
    let mut talk = Vec::with_capacity(samples);
    let mut formants = [Formant::default(); 3];
    let mut hertz = [500.0, 1500.0, 2500.0];
    let mut phase = 0.0_f32;
    let mut pitch = 120.0;
    let mut voice = 110.0;
    while talk.len() < samples {
        let kind = dice.next() % 20;
        if dice.next().is_multiple_of(12) {
            // The other one's turn.
            voice = if voice < 150.0 { 210.0 } else { 110.0 };
        }
        let (voiced, loud, least, most) = match kind {
            0..=11 => (1.0, dice.between(0.3, 1.0), 70.0, 250.0),
            12..=15 => (0.0, dice.between(0.1, 0.5), 40.0, 140.0),
            16..=18 => (0.0, 0.0, 20.0, 120.0),
            _ => (0.0, 0.0, 150.0, 500.0),
        };
        let length = (dice.between(least, most) * 8.0) as usize;
        let pitch_to = voice * dice.between(0.8, 1.25);
        let hertz_to =
            [dice.between(280.0, 800.0), dice.between(900.0, 2200.0), dice.between(2300.0, 3300.0)];
        for n in 0..length {
            let into = n as f32 / length as f32;
            let envelope = loud * (std::f32::consts::PI * into).sin().powf(0.4);
            let glide = 1.0 / 400.0;
            pitch += (pitch_to - pitch) * glide;
            hertz.iter_mut().zip(hertz_to).for_each(|(now, to)| *now += (to - *now) * glide);
            phase += pitch / RATE;
            let pulse = if phase >= 1.0 { 1.0 } else { 0.0 };
            phase = phase.fract();
            let hiss = dice.between(-1.0, 1.0);
            let sound = if voiced > 0.0 {
                let x = pulse * 30.0 + hiss * 0.1;
                let strong = [1.0, 0.5, 0.3];
                let widths = [80.0, 110.0, 160.0];
                (0..3).map(|i| strong[i] * formants[i].filter(x, hertz[i], widths[i])).sum::<f32>()
            } else {
                formants[2].filter(hiss * 3.0, 3000.0, 900.0)
            };
            talk.push((sound * envelope * 0.12).clamp(-0.5, 0.5));
        }
    }
    talk.truncate(samples);
    talk
}

/// A device that hears a talk.
#[derive(Clone, Copy, Debug)]
pub struct Ear {
    /// Which sample of the talk it hears first; between two of them, too.
    pub from: f64,
    /// How fast its clock runs, parts per million.
    pub ppm: f64,
    pub gain: f32,
    /// Noise of its own, as a magnitude.
    pub noise: f32,
    pub law: Law,
    pub seed: u64,
}

impl Ear {
    /// Which moment of the talk its sample `n` is.
    pub fn moment(&self, n: usize) -> f64 {
        self.from + n as f64 * (1.0 - self.ppm * 1e-6)
    }

    /// What it hears, coded; silence where there is no talk.
    pub fn hear(&self, talk: &[f32], samples: usize) -> Vec<u8> {
        let mut dice = Dice(self.seed);
        let sample = |n: usize| {
            let noise = dice.between(-self.noise, self.noise);
            let sound = interpolated(talk, self.moment(n)) * self.gain + noise;
            self.law.encode((sound * 32_000.0).clamp(-32_000.0, 32_000.0) as i16)
        };
        (0..samples).map(sample).collect()
    }
}

/// A sound between its samples, by a windowed sinc of 16 taps.
fn interpolated(sound: &[f32], at: f64) -> f32 {
    let whole = at.floor();
    let part = (at - whole) as f32;
    let tap = |n: i32| {
        let index = whole as i64 + i64::from(n);
        let sample = usize::try_from(index).ok().and_then(|index| sound.get(index));
        let x = (n as f32 - part) * std::f32::consts::PI;
        let sinc = if x.abs() < 1e-6 { 1.0 } else { x.sin() / x };
        let window = (x / 16.0).cos().max(0.0).powi(2);
        sample.map_or(0.0, |sample| sample * sinc * window)
    };
    (-7..=8).map(tap).sum()
}
