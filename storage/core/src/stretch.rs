//! How the catalog's index divides time: into stretches of 2^26 ms (18.6 hours), in which a recording
//! stands at an offset, and into periods of eight stretches, which a search takes at a time. It decides how a
//! list of offsets, and one with a length beside each, is written down and read. What such a list is of is
//! decided in [`crate::terms`].
//!
//! ```text
//! list      for each offset, ascending: distance to the one before (LEB128)
//! lengths   for each offset, ascending: distance (LEB128), length class (1 byte)
//! ```

/// Bits of an offset.
const OFFSET_BITS: u32 = 26;

/// Bits of a stretch's place in its period. An offset in a period needs as many more than one in a stretch.
const PLACE_BITS: u32 = 3;

/// A stretch of time; they sort as time does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stretch(pub i64);

/// Eight stretches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub i64);

/// Some stretches of one period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretches {
    /// Which period.
    pub period: Period,
    /// One bit a stretch, the lowest for the first.
    places: u8,
}

impl Stretch {
    /// In which one a time lies (milliseconds since 1970), and at which offset, milliseconds.
    #[must_use]
    pub const fn of_millis(ms: i64) -> (Self, u32) {
        let offset = ms & ((1 << OFFSET_BITS) - 1);
        // 26 bits.
        (Self(ms >> OFFSET_BITS), offset as u32)
    }

    /// The time at an offset, milliseconds since 1970.
    #[must_use]
    pub const fn millis_at(self, offset: u32) -> i64 {
        (self.0 << OFFSET_BITS) + offset as i64
    }

    /// The period that it is of.
    #[must_use]
    pub const fn period(self) -> Period {
        Period(self.0 >> PLACE_BITS)
    }

    /// What in its period an offset of its own is.
    #[must_use]
    pub const fn in_period(self, offset: u32) -> u32 {
        self.place() << OFFSET_BITS | offset
    }

    const fn place(self) -> u32 {
        // Three bits.
        (self.0 & ((1 << PLACE_BITS) - 1)) as u32
    }
}

impl Period {
    /// The time at an offset, milliseconds since 1970.
    #[must_use]
    pub const fn millis_at(self, offset: u32) -> i64 {
        (self.0 << (OFFSET_BITS + PLACE_BITS)) + offset as i64
    }

    /// Its first and its last stretch.
    #[must_use]
    pub const fn ends(self) -> (Stretch, Stretch) {
        (self.stretch(0), self.stretch((1 << PLACE_BITS) - 1))
    }

    const fn stretch(self, place: u32) -> Stretch {
        Stretch(self.0 << PLACE_BITS | place as i64)
    }
}

impl Stretches {
    /// All of a period.
    #[must_use]
    pub const fn of(period: Period) -> Self {
        Self { period, places: u8::MAX }
    }

    /// Those in which one of these offsets of the period lies.
    #[must_use]
    pub fn with(period: Period, offsets: &[u32]) -> Self {
        let places = offsets.iter().fold(0, |places, offset| places | 1 << (offset >> OFFSET_BITS));
        Self { period, places }
    }

    /// Those of them from `first` to `last`, both included.
    #[must_use]
    pub fn between(self, first: Stretch, last: Stretch) -> Self {
        let within = |place: &u32| (first..=last).contains(&self.period.stretch(*place));
        let places = self.in_order().filter(within).fold(0, |places, place| places | 1 << place);
        Self { places, ..self }
    }

    /// The first and the last one; `None` if there is none.
    #[must_use]
    pub fn ends(self) -> Option<(Stretch, Stretch)> {
        let stretch = |place| self.period.stretch(place);
        self.in_order().next().map(stretch).zip(self.in_order().last().map(stretch))
    }

    /// Whether it is one of them.
    #[must_use]
    pub fn has(self, stretch: Stretch) -> bool {
        stretch.period() == self.period && self.places & 1 << stretch.place() != 0
    }

    /// How many they are.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.places.count_ones()
    }

    fn in_order(self) -> impl Iterator<Item = u32> {
        (0..u8::BITS).filter(move |place| self.places & 1 << place != 0)
    }
}

/// A length in classes, eight to the doubling: whoever is in a lower class is shorter, whoever is in a
/// higher one is longer.
#[must_use]
pub fn length_class(duration_ms: u64) -> u8 {
    let scaled = duration_ms.saturating_add(1).max(1);
    let octave = scaled.ilog2();
    // The three bits below the highest one.
    let below = (if octave >= 3 { scaled >> (octave - 3) } else { scaled << (3 - octave) }) & 7;
    u8::try_from(u64::from(octave) * 8 + below).unwrap_or(u8::MAX)
}

/// Writes a list of ascending offsets.
#[must_use]
pub fn list_bytes(offsets: &[u32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(offsets.len() * 3);
    let mut before = 0;
    for offset in offsets {
        push_number(&mut bytes, offset - before);
        before = *offset;
    }
    bytes
}

/// Reads a list; `None` if it is none.
#[must_use]
pub fn read_list(mut bytes: &[u8]) -> Option<Vec<u32>> {
    let mut offsets = Vec::with_capacity(bytes.len() / 2);
    let mut before = 0_u32;
    while !bytes.is_empty() {
        before = before.checked_add(take_number(&mut bytes)?)?;
        offsets.push(before);
    }
    Some(offsets)
}

/// Writes ascending offsets with the class of the longest recording at each.
#[must_use]
pub fn lengths_bytes(lengths: impl IntoIterator<Item = (u32, u8)>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut before = 0;
    for (offset, class) in lengths {
        push_number(&mut bytes, offset - before);
        bytes.push(class);
        before = offset;
    }
    bytes
}

/// Reads such a list; `None` if it is none.
#[must_use]
pub fn read_lengths(mut bytes: &[u8]) -> Option<Vec<(u32, u8)>> {
    let mut lengths = Vec::with_capacity(bytes.len() / 3);
    let mut before = 0_u32;
    while !bytes.is_empty() {
        before = before.checked_add(take_number(&mut bytes)?)?;
        let (class, rest) = bytes.split_first()?;
        bytes = rest;
        lengths.push((before, *class));
    }
    Some(lengths)
}

/// Keeps of `kept` what is in `other`, too; both ascend.
pub fn keep_common(kept: &mut Vec<u32>, other: &[u32]) {
    let mut other = other.iter().peekable();
    kept.retain(|offset| {
        while other.next_if(|next| *next < offset).is_some() {}
        other.peek() == Some(&offset)
    });
}

fn push_number(bytes: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

fn take_number(bytes: &mut &[u8]) -> Option<u32> {
    let mut number = 0_u32;
    for place in 0..5 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u32::from(byte & 0x7f);
        number |= bits.checked_shl(place * 7).filter(|shifted| shifted >> (place * 7) == bits)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn classes_are_an_eighth_of_a_doubling_wide() {
        let class = |ms| length_class(ms);
        assert_eq!((class(0), class(1), class(2), class(3)), (0, 8, 12, 16));
        assert_eq!(class(127), 56);
        assert_eq!((class(142), class(143)), (56, 57));
        assert_eq!(class(u64::MAX), u8::MAX);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(lengths in proptest::collection::btree_map(0_u32..1 << 26, any::<u8>(), 0..40)) {
            let lengths: BTreeMap<u32, u8> = lengths;
            let offsets: Vec<u32> = lengths.keys().copied().collect();
            prop_assert_eq!(read_list(&list_bytes(&offsets)), Some(offsets));
            let pairs: Vec<_> = lengths.into_iter().collect();
            prop_assert_eq!(read_lengths(&lengths_bytes(pairs.clone())), Some(pairs));
        }

        #[test]
        fn anything_is_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Some(offsets) = read_list(&bytes) {
                prop_assert!(offsets.is_sorted());
            }
            let _ = read_lengths(&bytes);
        }

        #[test]
        fn common_is_what_both_have(
            a in proptest::collection::btree_set(0_u32..60, 0..40),
            b in proptest::collection::btree_set(0_u32..60, 0..40),
        ) {
            let mut kept: Vec<u32> = a.iter().copied().collect();
            keep_common(&mut kept, &b.iter().copied().collect::<Vec<_>>());
            let both: BTreeSet<u32> = &a & &b;
            prop_assert_eq!(kept, both.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn a_time_is_where_its_stretch_says(ms in any::<i32>(), far in -100_i64..100) {
            let ms = i64::from(ms) + (far << 40);
            let (stretch, offset) = Stretch::of_millis(ms);
            prop_assert_eq!(stretch.millis_at(offset), ms);
            prop_assert!(offset < 1 << OFFSET_BITS);
        }

        #[test]
        fn stretches_of_a_period_are_those_that_its_offsets_lie_in(
            ms in any::<i32>(), offsets in proptest::collection::btree_set(0_u32..1 << 29, 0..6),
            first in 0_i64..10, more in 0_i64..10,
        ) {
            let period = Stretch::of_millis(i64::from(ms)).0.period();
            let offsets: Vec<u32> = offsets.into_iter().collect();
            let at: BTreeSet<Stretch> =
                offsets.iter().map(|offset| Stretch::of_millis(period.millis_at(*offset)).0).collect();
            let found = Stretches::with(period, &offsets);
            prop_assert_eq!(found.ends(), at.first().copied().zip(at.last().copied()));
            prop_assert_eq!(found.count() as usize, at.len());
            for stretch in (-1..9).map(|place| Stretch((period.0 << PLACE_BITS) + place)) {
                prop_assert_eq!(found.has(stretch), at.contains(&stretch));
                let (from, to) = (Stretch(period.0 * 8 + first), Stretch(period.0 * 8 + first + more));
                let among = (from..=to).contains(&stretch);
                prop_assert_eq!(found.between(from, to).has(stretch), at.contains(&stretch) && among);
                prop_assert_eq!(Stretches::of(period).has(stretch), stretch.period() == period);
            }
            for offset in offsets {
                let (stretch, own) = Stretch::of_millis(period.millis_at(offset));
                prop_assert_eq!(stretch.in_period(own), offset);
            }
        }

        #[test]
        fn longer_is_never_in_a_lower_class(a in any::<u64>(), b in any::<u64>()) {
            prop_assert!((a <= b) == (length_class(a) <= length_class(b)) || length_class(a) == length_class(b));
        }
    }
}
