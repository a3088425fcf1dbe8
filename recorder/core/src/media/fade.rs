//! Puts the few milliseconds that lead from one capture over to another in the place of what was
//! captured, while a voice file is written. What they are was found out by listening
//! ([`super::seam`]).

use super::joins::Fade;
use super::timeline::Plan;

/// What is to be done with the next samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'p> {
    /// So many are taken as they are.
    Kept(usize),
    /// So many are left out, and these are taken instead.
    Replaced(&'p [i16]),
}

/// Goes along a voice file while it is written.
#[derive(Debug)]
pub struct Fades<'p> {
    /// Still to come, or begun.
    fades: &'p [Fade],
    position: u64,
}

impl<'p> Fades<'p> {
    /// Begins at the file's first sample.
    #[must_use]
    pub fn new(plan: &'p Plan) -> Self {
        Self { fades: &plan.fades, position: 0 }
    }

    /// Silence is left as it is.
    pub const fn silence(&mut self, samples: u64) {
        self.position += samples;
    }

    /// Of the next samples, of which there are `count`, what is to be done with the first of them; then
    /// it is asked again for the rest. `None` if there are none.
    pub fn next(&mut self, count: usize) -> Option<Part<'p>> {
        if count == 0 {
            return None;
        }
        let ends = |fade: &Fade| fade.from + fade.samples.len() as u64;
        while self.fades.first().is_some_and(|fade| ends(fade) <= self.position) {
            self.fades = &self.fades[1..];
        }
        let part = match self.fades.first() {
            None => Part::Kept(count),
            Some(fade) if fade.from > self.position => {
                let until = usize::try_from(fade.from - self.position).unwrap_or(usize::MAX);
                Part::Kept(count.min(until))
            }
            Some(fade) => {
                let into = usize::try_from(self.position - fade.from).unwrap_or(usize::MAX);
                let rest = fade.samples.get(into..).unwrap_or(&[]);
                Part::Replaced(&rest[..rest.len().min(count)])
            }
        };
        self.position += match part {
            Part::Kept(samples) => samples as u64,
            Part::Replaced(samples) => samples.len() as u64,
        };
        Some(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_replaced_at_their_place_however_they_come() {
        let fades =
            [Fade { from: 5, samples: vec![50, 51, 52] }, Fade { from: 9, samples: vec![90] }];
        for packet in 1..=12 {
            let mut all = Fades { fades: &fades, position: 0 };
            all.silence(1);
            let mut written: Vec<i16> = vec![0];
            let audio: Vec<i16> = (1..12).collect();
            for samples in audio.chunks(packet) {
                let mut rest = samples;
                while let Some(part) = all.next(rest.len()) {
                    let taken = match part {
                        Part::Kept(count) => {
                            written.extend(&rest[..count]);
                            count
                        }
                        Part::Replaced(with) => {
                            written.extend(with);
                            with.len()
                        }
                    };
                    rest = &rest[taken..];
                }
            }
            assert_eq!(written, [0, 1, 2, 3, 4, 50, 51, 52, 8, 90, 10, 11], "{packet}");
        }
    }

    #[test]
    fn what_falls_into_silence_is_left_out() {
        let fades = [Fade { from: 2, samples: vec![7, 7, 7, 7] }];
        let mut all = Fades { fades: &fades, position: 0 };
        all.silence(4);
        assert_eq!(all.next(4), Some(Part::Replaced(&[7, 7])));
        assert_eq!(all.next(2), Some(Part::Kept(2)));
        assert_eq!(all.next(0), None);
    }
}
