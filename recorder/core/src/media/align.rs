//! Finds by how many samples two recordings of the same talk are apart, by what is to be heard in
//! them, and how sure that is. It knows nothing of captures, clocks or timelines, and moves nothing.
//!
//! The measure is the normalised cross-correlation of what both have in common at a lag. It is looked
//! for coarsely at 2 kHz first, over all lags, then finely around the highest peaks. Talk is found
//! again without doubt: its pitch and its sounds change all the time. What repeats itself (a tone, steady
//! music) has many peaks of one height, silence has none, and another talk has none that is high: then there
//! is no answer, because a wrong one is worse. Nor is there one where by the clocks the two have nothing in
//! common: then the right lag cannot compete, and what is said twice would do. A clock that runs 50 ppm fast
//! moves the peak by a sample in two and a half seconds, which does no harm.

/// Lags are searched so far to either side of what the clocks say: 500 ms.
pub const SEARCH_SAMPLES: u64 = 4000;
/// What is compared at most, of either: 6 s. The rest is not looked at.
pub const COMPARED_SAMPLES_MAX: usize = 48_000;
/// What must be common at least: 250 ms.
pub const COMMON_SAMPLES_MIN: usize = 2000;
/// Lags with less in common are still looked at, as what the best one has to compete with: 125 ms. The right
/// one may be among them, and a vowel sounds much like itself a few periods on.
const COMPETING_SAMPLES_MIN: usize = 1000;

/// Common audio that is enough for the lower bound of likeness: 1 s.
const COMMON_SAMPLES_ENOUGH: usize = 8000;
/// Likeness at a lag without which it is not taken: where much is common, and how much more where little is.
/// Two mixes of one talk have 0.99 in G.711 and 0.9 through a codec as coarse as G.729.
const LIKENESS_MIN: f32 = 0.7;
const LIKENESS_MORE: f32 = 0.2;
/// The next best lag must be so much less alike: what is unlike there is this many times what is unlike at
/// the best one, and this much more.
const UNLIKE_TIMES: f32 = 1.5;
const UNLIKE_MORE: f32 = 0.05;
/// A lag within 1.5 ms of the best one is the same peak.
const LOBE_SAMPLES: u64 = 12;
/// Frames of 20 ms with sound in both that are needed: 200 ms.
const SOUNDING_FRAMES_MIN: usize = 10;
const FRAME_SAMPLES: usize = 160;
/// Mean square of a frame with sound: 50 dB below a full-scale sine.
const SOUNDING: f32 = 0.5e-5;

/// Samples of which the coarse search makes one.
const STEP: usize = 4;
/// Peaks of the coarse search that are looked at finely.
const PEAKS_MAX: usize = 16;
/// Takes most of the slope out of a voice's spectrum, so that peaks are sharp.
const EMPHASIS: f32 = 0.7;

/// Where two recordings lie beside each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Aligned {
    /// Sample `n` of the second is sample `n + lag` of the first.
    pub lag: i64,
    /// 0 to 1: how alike they are there, less so if they are hardly less alike elsewhere.
    pub confidence: f32,
}

/// Compares two recordings at 8 kHz. By the clocks, sample `n` of `b` is sample `n + expected` of `a`.
/// `None` if what they hear does not tell how they lie, or tells of another lag than is searched.
#[must_use]
pub fn align(a: &[i16], b: &[i16], expected: i64) -> Option<Aligned> {
    let a = &a[..a.len().min(COMPARED_SAMPLES_MAX)];
    let b = &b[..b.len().min(COMPARED_SAMPLES_MAX)];
    if Common::at(expected, a.len(), b.len()).len() < COMPETING_SAMPLES_MIN {
        return None;
    }
    let [linear_a, linear_b] = [a, b].map(shaped);
    let [coarse_a, coarse_b] = [&linear_a, &linear_b].map(|fine| Signal::new(decimated(fine)));
    let [fine_a, fine_b] = [linear_a, linear_b].map(Signal::new);

    let mut peaks: Vec<Peak> = coarse_peaks(&coarse_a, &coarse_b, expected)
        .into_iter()
        .filter_map(|lag| finest(&fine_a, &fine_b, lag))
        .collect();
    peaks.sort_by(|one, other| other.likeness.total_cmp(&one.likeness));
    let best = *peaks.first()?;
    if best.lag.abs_diff(expected) >= SEARCH_SAMPLES {
        // It may go on rising beyond.
        return None;
    }
    let other = peaks.iter().find(|peak| peak.lag.abs_diff(best.lag) > LOBE_SAMPLES);
    let (unlike, unlike_other) =
        (1.0 - best.likeness, 1.0 - other.map_or(0.0, |peak| peak.likeness.max(0.0)));
    let common = Common::at(best.lag, a.len(), b.len());
    let short = 1.0 - (common.len() as f32 / COMMON_SAMPLES_ENOUGH as f32).min(1.0);
    let sure = common.len() >= COMMON_SAMPLES_MIN - STEP
        && best.likeness >= LIKENESS_MIN + LIKENESS_MORE * short
        && unlike_other >= UNLIKE_TIMES * unlike + UNLIKE_MORE
        && sounding_frames(common.of_a(a), common.of_b(b)) >= SOUNDING_FRAMES_MIN;
    let confidence = best.likeness * (1.0 - unlike.max(0.0) / unlike_other.max(f32::EPSILON));
    sure.then_some(Aligned { lag: best.lag, confidence: confidence.clamp(0.0, 1.0) })
}

/// A lag and how alike the two are there, at most 1.
#[derive(Clone, Copy, Debug)]
struct Peak {
    lag: i64,
    likeness: f32,
}

/// What two recordings have in common at a lag: a stretch of each.
#[derive(Clone, Copy, Debug)]
struct Common {
    from_a: usize,
    to_a: usize,
    from_b: usize,
}

impl Common {
    fn at(lag: i64, len_a: usize, len_b: usize) -> Self {
        let offset = usize::try_from(lag.unsigned_abs()).unwrap_or(usize::MAX);
        let (from_a, from_b) = if lag >= 0 { (offset, 0) } else { (0, offset) };
        let len = len_a.saturating_sub(from_a).min(len_b.saturating_sub(from_b));
        Self { from_a, to_a: from_a.saturating_add(len), from_b }
    }

    const fn len(self) -> usize {
        self.to_a - self.from_a
    }

    fn of_a<T>(self, a: &[T]) -> &[T] {
        a.get(self.from_a..self.to_a).unwrap_or(&[])
    }

    fn of_b<T>(self, b: &[T]) -> &[T] {
        b.get(self.from_b..self.from_b.saturating_add(self.len())).unwrap_or(&[])
    }
}

/// Samples, and what their squares come to up to each.
struct Signal {
    samples: Vec<f32>,
    squares: Vec<f64>,
}

impl Signal {
    fn new(samples: Vec<f32>) -> Self {
        let mut squares = Vec::with_capacity(samples.len() + 1);
        let mut sum = 0.0;
        squares.push(sum);
        squares.extend(samples.iter().map(|sample| {
            sum += f64::from(*sample) * f64::from(*sample);
            sum
        }));
        Self { samples, squares }
    }

    fn energy(&self, from: usize, len: usize) -> f64 {
        self.squares[from + len] - self.squares[from]
    }
}

/// How alike two signals are at a lag; `None` if they have less than `least` in common, or only silence.
fn likeness(a: &Signal, b: &Signal, lag: i64, least: usize) -> Option<f32> {
    let common = Common::at(lag, a.samples.len(), b.samples.len());
    if common.len() < least {
        return None;
    }
    let energy = a.energy(common.from_a, common.len()) * b.energy(common.from_b, common.len());
    // Of sums as small as these the precision is not worth anything.
    let silent = 1e-9 * common.len() as f64;
    if energy <= silent * silent {
        return None;
    }
    let product = dot(common.of_a(&a.samples), common.of_b(&b.samples));
    Some((f64::from(product) / energy.sqrt()).clamp(-1.0, 1.0) as f32)
}

/// Sum of products, eight sums at a time, which is what processors have instructions for.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 8];
    let (chunks_a, chunks_b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = chunks_a.remainder().iter().zip(chunks_b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in chunks_a.zip(chunks_b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// Less of what is low, and of what is so high that it says nothing about a fraction of a sample.
fn shaped(samples: &[i16]) -> Vec<f32> {
    let mut before = [0.0_f32; 3];
    let shape = |sample: &i16| {
        let sample = f32::from(*sample) / 32_768.0;
        let [one, two, three] = before;
        before = [sample, one, two];
        let emphasised = [sample - EMPHASIS * one, one - EMPHASIS * two, two - EMPHASIS * three];
        (emphasised[0] + 2.0 * emphasised[1] + emphasised[2]) / 4.0
    };
    samples.iter().map(shape).collect()
}

/// One of four samples, after a low pass (a triangle) that keeps most of what would fold back out.
fn decimated(samples: &[f32]) -> Vec<f32> {
    const TRIANGLE: [f32; 7] = [1.0, 2.0, 3.0, 4.0, 3.0, 2.0, 1.0];
    let weighted = |window: &[f32]| -> f32 {
        window.iter().zip(TRIANGLE).map(|(sample, weight)| sample * weight / 16.0).sum()
    };
    samples.windows(TRIANGLE.len()).step_by(STEP).map(weighted).collect()
}

/// The lags of the highest peaks, in full samples, to within [`STEP`].
fn coarse_peaks(a: &Signal, b: &Signal, expected: i64) -> Vec<i64> {
    let step = STEP as i64;
    let reach = SEARCH_SAMPLES as i64 / step;
    let centre = expected.div_euclid(step);
    let at = |lag: i64| likeness(a, b, lag, COMPETING_SAMPLES_MIN / STEP).unwrap_or(-1.0);
    let heights: Vec<(i64, f32)> =
        (-reach..=reach).map(|lag| centre.saturating_add(lag)).map(|lag| (lag, at(lag))).collect();
    let height = |index: Option<usize>| {
        index.and_then(|index| heights.get(index)).map_or(-1.0, |(_, height)| *height)
    };
    let is_peak = |index: usize| {
        let here = heights[index].1;
        here > 0.0 && here >= height(index.checked_sub(1)) && here > height(Some(index + 1))
    };
    let mut peaks: Vec<(i64, f32)> =
        (0..heights.len()).filter(|index| is_peak(*index)).map(|index| heights[index]).collect();
    peaks.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    peaks.truncate(PEAKS_MAX);
    peaks.into_iter().map(|(lag, _)| lag.saturating_mul(step)).collect()
}

/// The best lag within a step of a coarse one.
fn finest(a: &Signal, b: &Signal, lag: i64) -> Option<Peak> {
    let step = STEP as i64;
    let near = (-step..=step).filter_map(|by| {
        let lag = lag.saturating_add(by);
        Some(Peak { lag, likeness: likeness(a, b, lag, COMPETING_SAMPLES_MIN - STEP)? })
    });
    near.max_by(|one, other| one.likeness.total_cmp(&other.likeness))
}

/// Frames in which something is to be heard in both.
fn sounding_frames(a: &[i16], b: &[i16]) -> usize {
    let sounds = |frame: &[i16]| {
        let square = |sample: &i16| (f32::from(*sample) / 32_768.0).powi(2);
        frame.iter().map(square).sum::<f32>() >= SOUNDING * frame.len() as f32
    };
    let frames = a.chunks_exact(FRAME_SAMPLES).zip(b.chunks_exact(FRAME_SAMPLES));
    frames.filter(|(a, b)| sounds(a) && sounds(b)).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use storage_core::g711::Law;

    use super::super::talk::{Dice, Ear, talk};
    use super::*;

    /// What may be wrong: 5 ms.
    const WRONG_MAX: f64 = 40.0;

    fn ear(from: f64, seed: u64) -> Ear {
        Ear { from, ppm: 0.0, gain: 1.0, noise: 0.0, law: Law::A, seed }
    }

    fn heard(ear: &Ear, talk: &[f32], samples: usize) -> Vec<i16> {
        ear.hear(talk, samples).iter().map(|byte| ear.law.decode(*byte)).collect()
    }

    fn linear(samples: usize, sound: impl Fn(f32) -> f32) -> Vec<i16> {
        (0..samples).map(|n| (sound(n as f32 / 8000.0) * 8000.0) as i16).collect()
    }

    fn noise(seed: u64, samples: usize) -> Vec<i16> {
        let mut dice = Dice(seed);
        (0..samples).map(|_| dice.between(-8000.0, 8000.0) as i16).collect()
    }

    #[test]
    fn talk_is_found_again_to_the_sample() {
        let mut found = 0;
        for seed in 0..40 {
            let talk = talk(seed, 60_000);
            let a = heard(&ear(20_000.0, 1), &talk, 24_000);
            let late = Dice(seed).between(-1600.0, 1600.0).round();
            let second = Ear { gain: 0.4, law: Law::Mu, ..ear(f64::from(18_000.0 + late), 2) };
            let b = heard(&second, &talk, 28_000);
            // Sample 0 of b is sample 18,000 + late of the talk, which is 2,000 - late before a's.
            if let Some(aligned) = align(&a, &b, -2_000) {
                assert_eq!(aligned.lag as f32, -2_000.0 + late, "seed {seed}: {aligned:?}");
                assert!(aligned.confidence > 0.9, "seed {seed}: {aligned:?}");
                found += 1;
            }
        }
        assert!(found >= 39, "{found} of 40");
    }

    #[test]
    fn what_is_said_twice_does_not_tell_where_the_clocks_leave_a_hole() {
        // A word of 480 ms, again and again, each time through another noise.
        let word = heard(&ear(0.0, 3), &talk(3, 4_000), 3_840);
        let noises = noise(4, 16_000);
        let again = |n: usize| word[n % word.len()] + noises[n] / 400;
        let said: Vec<i16> = (0..16_000).map(again).collect();
        for begin in [8_640, 8_000] {
            assert_eq!(align(&said[..8_000], &said[begin..], begin as i64), None, "from {begin}");
        }
    }

    #[test]
    fn what_does_not_tell_is_not_moved() {
        let talks = [1, 2].map(|seed| heard(&ear(0.0, seed), &talk(seed, 40_000), 32_000));
        let tone = |hertz: f32| linear(36_000, move |t| (t * hertz * std::f32::consts::TAU).sin());
        // A bar of four notes, again and again, as music on hold does.
        let music = linear(36_000, |t| {
            let note = [262.0, 330.0, 392.0, 330.0][(t * 16.0) as usize % 4];
            (t.rem_euclid(0.0625) * note * std::f32::consts::TAU).sin()
        });
        let quiet: Vec<i16> = noise(5, 32_000).iter().map(|sample| sample / 400).collect();
        for (what, a, b) in [
            ("silence", vec![0; 32_000], vec![0; 32_000]),
            ("two noises", noise(1, 32_000), noise(2, 32_000)),
            ("the noise of a line", quiet.clone(), quiet),
            ("a tone", tone(440.0)[..32_000].to_vec(), tone(440.0)[700..32_700].to_vec()),
            ("a low tone", tone(50.0)[..32_000].to_vec(), tone(50.0)[700..32_700].to_vec()),
            ("steady music", music[..32_000].to_vec(), music[300..32_300].to_vec()),
            ("two talks", talks[0].clone(), talks[1].clone()),
            ("one side only", talks[0].clone(), vec![8; 32_000]),
            ("too little", talks[0][..1500].to_vec(), talks[0][..1500].to_vec()),
            ("nothing", Vec::new(), talks[0].clone()),
        ] {
            assert_eq!(align(&a, &b, 0), None, "{what}");
        }
    }

    #[test]
    fn noise_that_is_the_same_is_found_and_beyond_the_search_nothing_is() {
        let one = noise(3, 40_000);
        let found = |from: usize| align(&one[8_000..24_000], &one[from..from + 16_000], 0);
        assert_eq!(found(8_777).map(|aligned| aligned.lag), Some(777));
        assert_eq!(found(4_100).map(|aligned| aligned.lag), Some(-3_900));
        assert_eq!(found(12_500), None);
    }

    /// At the right lag a little too little is common for an answer; 9 ms beside it enough, and both are
    /// alike there.
    #[test]
    fn a_vowel_is_not_taken_for_itself_a_period_on() {
        let talk = talk(1232, 20_000);
        let common = 2_038;
        let a = heard(&ear(10_000.0 - f64::from(common) - 4_000.0, 1232), &talk, 6_038);
        let late = 91.981_628_417_968_75;
        let b = heard(&ear(10_000.0 - f64::from(common) + late, 1233), &talk, 6_038);
        assert_eq!(align(&a, &b, 4_000), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Two mixes of one talk, however they were heard: what is found is right.
        #[test]
        fn what_is_found_is_right(
            seed: u64,
            late in -1_600.0_f64..1_600.0,
            common in 0_usize..32_000,
            (gain, noise) in (0.1_f32..1.0, 0.0_f32..0.02),
            ppm in -50.0_f64..50.0,
            (law, law_b) in (any::<bool>(), any::<bool>()),
        ) {
            let talk = talk(seed, 80_000);
            let of = |mu: bool| if mu { Law::Mu } else { Law::A };
            let end = 40_000.0;
            let first = Ear { noise, law: of(law), ..ear(end - common as f64 - 4_000.0, seed) };
            let a = heard(&first, &talk, common + 4_000);
            let begin = end - common as f64 + late;
            let second = Ear { gain, noise, ppm, law: of(law_b), ..ear(begin, seed ^ 1) };
            let b = heard(&second, &talk, common + 4_000);
            if let Some(aligned) = align(&a, &b, 4_000) {
                // Where the end of the first is in the second.
                let at = (common as i64 + 4_000 - aligned.lag).max(0) as usize;
                let wrong = second.moment(at) - end;
                prop_assert!(wrong.abs() <= WRONG_MAX, "{wrong} samples, {aligned:?}");
            }
        }

        #[test]
        fn another_talk_is_never_taken_for_the_same(seed: u64, common in 2_000_usize..36_000) {
            let (one, other) = (talk(seed, 50_000), talk(!seed, 50_000));
            let a = heard(&ear(0.0, 1), &one, common);
            let b = heard(&ear(0.0, 2), &other, common + 4_000);
            prop_assert_eq!(align(&a, &b, -2_000), None);
        }

        #[test]
        fn any_samples_do(
            a in proptest::collection::vec(any::<i16>(), 0..9_000),
            b in proptest::collection::vec(any::<i16>(), 0..9_000),
            expected: i64,
        ) {
            let _ = align(&a, &b, expected);
        }
    }
}
