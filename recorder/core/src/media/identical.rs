//! Finds by how many samples two recordings of the same talk are apart where they are the same samples: two
//! devices of one switch are sent one mix, and G.711 leaves it as it is. Then a tenth of a second tells, and
//! even a tune that repeats itself, because no two of its bars are the same to the last bit. It knows no
//! likeness: what was coded anew on the way is [`super::align`]'s matter.
//!
//! Where other lags would do nearly as well (silence, a pure tone), there is no answer.

use super::align::{Aligned, COMPARED_SAMPLES_MAX, SEARCH_SAMPLES};

/// What must be common at least: 100 ms.
const COMMON_SAMPLES_MIN: usize = 800;
/// Lags with less in common still count as others: 50 ms.
const OTHER_SAMPLES_MIN: usize = 400;
/// Of so many samples one may differ where the two are the same.
const SAME: usize = 200;
/// Of so many at least one must differ at any other lag.
const OTHER: usize = 50;

/// Compares two recordings at 8 kHz. By the clocks, sample `n` of `b` is sample `n + expected` of `a`.
/// `None` if they are not the same at any lag that is searched, or at more than one.
#[must_use]
pub fn identical(a: &[i16], b: &[i16], expected: i64) -> Option<Aligned> {
    let a = &a[..a.len().min(COMPARED_SAMPLES_MAX)];
    let b = &b[..b.len().min(COMPARED_SAMPLES_MAX)];
    let search = SEARCH_SAMPLES.cast_signed();
    let lags = expected.saturating_sub(search)..=expected.saturating_add(search);
    let near = |lag| Some((lag, differing(a, b, lag)?));
    let mut alike = lags.filter_map(near).filter(|(_, found)| found.differ * OTHER <= found.of);
    let (lag, found) = alike.next()?;
    let is_sure = found.of >= COMMON_SAMPLES_MIN && found.differ * SAME <= found.of;
    if !is_sure || alike.next().is_some() {
        return None;
    }
    let confidence = 1.0 - found.differ as f32 / found.of as f32;
    Some(Aligned { lag, confidence })
}

/// How many samples differ, and of how many.
#[derive(Clone, Copy)]
struct Differing {
    differ: usize,
    of: usize,
}

/// What differs at a lag, counted until it is too much to be alike; `None` where too little is common.
fn differing(a: &[i16], b: &[i16], lag: i64) -> Option<Differing> {
    let offset = usize::try_from(lag.unsigned_abs()).ok()?;
    let (a, b) = if lag >= 0 { (a.get(offset..)?, b) } else { (a, b.get(offset..)?) };
    let of = a.len().min(b.len());
    if of < OTHER_SAMPLES_MIN {
        return None;
    }
    let unlike = a.iter().zip(b).take(of).filter(|(a, b)| a != b);
    Some(Differing { differ: unlike.take(of / OTHER + 1).count(), of })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use storage_core::g711::Law;

    use super::super::talk::{Dice, Ear, talk};
    use super::*;

    fn heard(seed: u64) -> Vec<i16> {
        let ear = Ear { from: 0.0, ppm: 0.0, gain: 1.0, noise: 0.0, law: Law::A, seed };
        let bytes = ear.hear(&talk(seed, 24_000), 20_000);
        bytes.iter().map(|byte| ear.law.decode(*byte)).collect()
    }

    /// A tune of 400 Hz, whose lowest bits say which frame it is.
    fn coded_tune(frames: usize) -> Vec<i16> {
        let mut dice = Dice(9);
        let sample = |n: usize| {
            let sound = (n as f32 / 20.0 * std::f32::consts::TAU).sin();
            (sound * 8000.0) as i16 / 2 * 2
        };
        let mut samples: Vec<i16> = (0..frames * 160).map(sample).collect();
        for frame in samples.chunks_exact_mut(160) {
            let number = dice.between(0.0, 65_536.0) as usize;
            for (bit, sample) in frame.iter_mut().take(16).enumerate() {
                *sample += (number >> bit & 1) as i16;
            }
        }
        samples
    }

    #[test]
    fn a_tenth_of_a_second_of_the_same_samples_tells() {
        let talk = heard(7);
        let tune = coded_tune(100);
        for (what, samples) in [("talk", &talk), ("a tune", &tune)] {
            for late in [0_usize, 77, 160, 1_600] {
                // The end of one and the begin of the other.
                let (a, b) = (&samples[..8_000], &samples[7_000 - late..12_000]);
                let found = identical(a, b, 7_000);
                let lag = found.map(|found| found.lag);
                assert_eq!(lag, Some(7_000 - late as i64), "{what}, {late} earlier");
            }
        }
    }

    #[test]
    fn what_is_the_same_at_several_lags_or_at_none_does_not_tell() {
        let [one, other] = [3, 4].map(heard);
        let tone: Vec<i16> = (0..9_000).map(|n| [0_i16, 900, 0, -900][n % 4]).collect();
        let mut click = vec![8_i16; 9_000];
        click[4_000] = 30_000;
        let louder: Vec<i16> = one.iter().map(|sample| sample / 3 * 2).collect();
        for (what, a, b) in [
            ("silence", vec![8; 9_000], vec![8; 9_000]),
            ("a tone", tone.clone(), tone[100..].to_vec()),
            ("silence with a click", click.clone(), click[100..].to_vec()),
            ("two talks", one.clone(), other),
            ("a talk and the same, less loud", one.clone(), louder),
            ("too little", one[..8_000].to_vec(), one[7_300..12_000].to_vec()),
            ("nothing", Vec::new(), one),
        ] {
            assert_eq!(identical(&a, &b, 0), None, "{what}");
        }
    }

    proptest! {
        /// Whatever is found, both are the same there.
        #[test]
        fn what_is_found_is_the_same(
            seed: u64,
            from in 0_usize..6_000,
            expected in -3_000_i64..9_000,
            spoilt in 0_usize..400,
        ) {
            let a = heard(seed);
            let mut b = a[from..].to_vec();
            let mut dice = Dice(seed);
            for _ in 0..spoilt {
                let at = dice.between(0.0, b.len() as f32) as usize;
                b[at] = b[at].wrapping_add(16);
            }
            if let Some(found) = identical(&a, &b, expected) {
                prop_assert_eq!(found.lag, from as i64);
            }
        }

        #[test]
        fn any_samples_do(
            a in proptest::collection::vec(any::<i16>(), 0..3_000),
            b in proptest::collection::vec(any::<i16>(), 0..3_000),
            expected: i64,
        ) {
            let _ = identical(&a, &b, expected);
        }
    }
}
