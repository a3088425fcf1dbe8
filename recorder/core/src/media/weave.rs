//! Two lanes of samples into one stream, a sample of each in turn. The lanes are filled by turns of any
//! length; what comes out is what both have come to. Silence is counted, not held.

use std::collections::VecDeque;

/// Samples of each lane that are given out at once.
const PIECE_SAMPLES: u64 = 4096;

/// Two lanes. `T` is a sample.
#[derive(Debug)]
pub struct Weave<T> {
    lanes: [Lane<T>; 2],
    silence: T,
    woven: Vec<T>,
}

/// What both lanes have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a, T> {
    /// Samples of both in turn.
    Samples(&'a [T]),
    /// Both are silent for so many samples of each.
    Silence(u64),
}

#[derive(Debug)]
struct Lane<T> {
    runs: VecDeque<Run>,
    samples: VecDeque<T>,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    silent: bool,
    length: u64,
}

impl<T: Copy> Weave<T> {
    /// Empty lanes; `silence` is a silent sample.
    #[must_use]
    pub const fn new(silence: T) -> Self {
        Self { lanes: [Lane::new(), Lane::new()], silence, woven: Vec::new() }
    }

    /// Adds samples to a lane, 0 or 1.
    pub fn samples(&mut self, lane: usize, samples: impl ExactSizeIterator<Item = T>) {
        let lane = &mut self.lanes[lane & 1];
        lane.add(false, samples.len() as u64);
        lane.samples.extend(samples);
    }

    /// Adds silence to a lane, 0 or 1.
    pub fn silence(&mut self, lane: usize, samples: u64) {
        self.lanes[lane & 1].add(true, samples);
    }

    /// What both lanes have next, if anything.
    pub fn take(&mut self) -> Option<Piece<'_, T>> {
        let [left, right] = &mut self.lanes;
        let (one, other) = (*left.runs.front()?, *right.runs.front()?);
        let count = one.length.min(other.length);
        if one.silent && other.silent {
            left.cut(count);
            right.cut(count);
            return Some(Piece::Silence(count));
        }
        let count = count.min(PIECE_SAMPLES);
        left.cut(count);
        right.cut(count);
        self.woven.clear();
        for _ in 0..count {
            for (lane, run) in [(&mut *left, one), (&mut *right, other)] {
                let sample = if run.silent { None } else { lane.samples.pop_front() };
                self.woven.push(sample.unwrap_or(self.silence));
            }
        }
        Some(Piece::Samples(&self.woven))
    }
}

impl<T> Lane<T> {
    const fn new() -> Self {
        Self { runs: VecDeque::new(), samples: VecDeque::new() }
    }

    fn add(&mut self, silent: bool, length: u64) {
        if length == 0 {
            return;
        }
        match self.runs.back_mut() {
            Some(last) if last.silent == silent => last.length += length,
            _ => self.runs.push_back(Run { silent, length }),
        }
    }

    fn cut(&mut self, count: u64) {
        if let Some(first) = self.runs.front_mut() {
            first.length -= count;
            if first.length == 0 {
                self.runs.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_lane_comes_out_as_it_went_in(
            turns in proptest::collection::vec((0..2_usize, any::<bool>(), 0..9_000_u64), 0..40),
        ) {
            let mut weave = Weave::new(0_u32);
            let mut given = [Vec::new(), Vec::new()];
            let mut taken = [Vec::new(), Vec::new()];
            for (number, (lane, silent, length)) in (1..).zip(turns) {
                if silent {
                    weave.silence(lane, length);
                    given[lane].extend((0..length).map(|_| 0));
                } else {
                    let length = usize::try_from(length).unwrap();
                    let sample = |n: usize| number * 10_000 + u32::try_from(n).unwrap();
                    weave.samples(lane, (0..length).map(sample));
                    given[lane].extend((0..length).map(sample));
                }
                while let Some(piece) = weave.take() {
                    match piece {
                        Piece::Samples(woven) => {
                            for (place, sample) in woven.iter().enumerate() {
                                taken[place % 2].push(*sample);
                            }
                        }
                        Piece::Silence(count) => {
                            taken.iter_mut().for_each(|lane| lane.extend((0..count).map(|_| 0)));
                        }
                    }
                }
            }
            let common = given[0].len().min(given[1].len());
            for (given, taken) in given.iter().zip(&taken) {
                prop_assert_eq!(&given[..common], &taken[..]);
            }
        }
    }
}
