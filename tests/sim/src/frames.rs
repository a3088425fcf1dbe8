//! Audio as the simulation has it: which 20 ms frames of which call were heard. No samples.

use std::collections::BTreeMap;

use crate::Time;
use crate::rng::mix;

/// One frame, microseconds.
pub const FRAME: Time = 20_000;

/// Ranges of frame numbers for each call of the switch, half open, ordered and apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frames(BTreeMap<u64, Vec<(u64, u64)>>);

impl Frames {
    /// Adds the frames that lie wholly within a stretch of true time.
    pub fn hear(&mut self, call: u64, from: Time, to: Time) {
        self.add(call, from.div_ceil(FRAME), to / FRAME);
    }

    pub fn unite(&mut self, other: &Self) {
        for (call, ranges) in &other.0 {
            for (from, to) in ranges {
                self.add(*call, *from, *to);
            }
        }
    }

    /// The first frame of the other that is missing here, and how many are.
    pub fn missing(&self, other: &Self) -> Option<(u64, u64, u64)> {
        let mut first = None;
        let mut count = 0;
        for (&call, ranges) in &other.0 {
            let mine = self.0.get(&call).map(Vec::as_slice).unwrap_or_default();
            for &(from, to) in ranges {
                let mut at = from;
                while at < to {
                    match mine.iter().find(|(_, end)| *end > at) {
                        Some((begin, end)) if *begin <= at => at = *end,
                        found => {
                            let end = found.map_or(to, |(begin, _)| *begin).min(to);
                            first.get_or_insert((call, at));
                            count += end - at;
                            at = end;
                        }
                    }
                }
            }
        }
        first.map(|(call, frame)| (call, frame, count))
    }

    /// How many frames both have.
    pub fn common(&self, other: &Self) -> u64 {
        let missing = self.missing(other).map_or(0, |(_, _, count)| count);
        other.len() - missing
    }

    pub fn len(&self) -> u64 {
        self.0.values().flatten().map(|(from, to)| to - from).sum()
    }

    /// First frame, and the one after the last.
    pub fn span(&self) -> (u64, u64) {
        let ranges = || self.0.values().flatten();
        let first = ranges().map(|(from, _)| *from).min().unwrap_or(0);
        (first, ranges().map(|(_, to)| *to).max().unwrap_or(first))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn calls(&self) -> impl Iterator<Item = u64> {
        self.0.keys().copied()
    }

    /// Stands for the SHA-256 of a voice file: equal files have equal ones.
    pub fn digest(&self, salt: u64) -> [u8; 32] {
        let mut words = [salt, 1, 2, 3];
        for (call, ranges) in &self.0 {
            for (from, to) in ranges {
                for (at, word) in words.iter_mut().enumerate() {
                    let part = mix(*call) ^ mix(from.wrapping_add(77)) ^ mix(to.wrapping_mul(31));
                    *word = mix(word.wrapping_add(part).wrapping_add(at as u64));
                }
            }
        }
        let mut digest = [0; 32];
        for (chunk, word) in digest.chunks_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        digest
    }

    fn add(&mut self, call: u64, from: u64, to: u64) {
        if from >= to {
            return;
        }
        let ranges = self.0.entry(call).or_default();
        let (mut from, mut to) = (from, to);
        ranges.retain(|(begin, end)| {
            let touches = *begin <= to && from <= *end;
            if touches {
                (from, to) = (from.min(*begin), to.max(*end));
            }
            !touches
        });
        let at = ranges.partition_point(|(begin, _)| *begin < from);
        ranges.insert(at, (from, to));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_joined_and_missed() {
        let mut a = Frames::default();
        a.hear(1, 0, 100_000);
        a.hear(1, 200_000, 300_000);
        let mut b = Frames::default();
        b.hear(1, 50_000, 250_000);
        assert_eq!((a.len(), b.len()), (10, 9));
        assert_eq!(a.missing(&b), Some((1, 5, 5)));
        assert_eq!(a.common(&b), 4);
        a.unite(&b);
        assert_eq!((a.len(), a.missing(&b)), (15, None));
        assert_ne!(a.digest(1), b.digest(1));
    }
}
