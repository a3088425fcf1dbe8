//! Where the blocks of one segment lie in the capture journal, in the order in which they were
//! first appended. Four thousand segments add ten blocks a second each, so the list is kept as
//! variable-length differences: about six bytes a block.
//!
//! ```text
//! entry   varint(length * 4 + other file * 2 + moved)
//!         other file: varint(file - last file), varint(offset)     else: varint(offset - last end)
//!         moved: varint(file), varint(offset) of where it lies now
//! ```

use storage_core::journal::Place;

/// Neighbours are merged up to this length, which bounds what a reader holds at once.
const RUN_BYTES_MAX: u32 = 256 << 10;

/// One stretch of a journal file that holds frames of one segment and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Where it was first appended.
    pub origin: Place,
    /// Where it lies now. Differs from `origin` only for a single moved frame.
    pub at: Place,
    /// Bytes there.
    pub len: u32,
}

impl Run {
    /// A frame that lies where it was first appended.
    pub const fn new(at: Place, len: u32) -> Self {
        Self { origin: at, at, len }
    }

    fn is_moved(&self) -> bool {
        self.origin != self.at
    }
}

/// A frame that was copied to another place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Relocation {
    /// Offset in the file that is being cleaned.
    pub offset: u32,
    /// Bytes there.
    pub len: u32,
    /// Where it lies now.
    pub at: Place,
    /// Bytes there.
    pub new_len: u32,
}

/// The list, in the order of origin.
#[derive(Clone, Debug, Default)]
pub(crate) struct BlockList {
    bytes: Vec<u8>,
    /// The last run, apart because the next one may prolong it.
    tail: Option<Run>,
    /// File and end of what is in `bytes`.
    last: Mark,
}

/// File and offset that the next difference counts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mark {
    file: u32,
    end: u32,
}

impl BlockList {
    /// Adds a run behind all others.
    pub fn push(&mut self, run: Run) {
        if let Some(tail) = &mut self.tail {
            let prolongs = !tail.is_moved()
                && !run.is_moved()
                && tail.at.file == run.at.file
                && tail.at.offset + tail.len == run.at.offset
                && tail.len + run.len <= RUN_BYTES_MAX;
            if prolongs {
                tail.len += run.len;
                return;
            }
            let tail = *tail;
            self.encode(tail);
        }
        self.tail = Some(run);
    }

    /// Adds a run wherever its origin belongs. Where that is not behind all others, the list is made
    /// anew.
    pub fn insert(&mut self, run: Run) {
        if self.tail.is_none_or(|tail| tail.origin < run.origin) {
            return self.push(run);
        }
        let mut changed = Self::default();
        let mut waiting = Some(run);
        for known in self.iter() {
            if let Some(run) = waiting.take_if(|run| run.origin < known.origin) {
                changed.push(run);
            }
            changed.push(known);
        }
        waiting.into_iter().for_each(|run| changed.push(run));
        *self = changed;
    }

    /// Whether a run begins with this origin.
    pub fn begins_at(&self, origin: Place) -> bool {
        // Mostly it is asked about what is newer than everything.
        self.tail.is_some_and(|tail| origin <= tail.origin)
            && self.iter().any(|run| run.origin == origin)
    }

    /// Whether nothing is in it.
    pub const fn is_empty(&self) -> bool {
        self.tail.is_none()
    }

    fn encode(&mut self, run: Run) {
        // An origin that does not follow in its file is written as if in another file.
        let other_file = run.origin.file != self.last.file || run.origin.offset < self.last.end;
        let flags = u64::from(other_file) << 1 | u64::from(run.is_moved());
        put_varint(&mut self.bytes, u64::from(run.len) << 2 | flags);
        if other_file {
            put_varint(&mut self.bytes, u64::from(run.origin.file.wrapping_sub(self.last.file)));
            put_varint(&mut self.bytes, u64::from(run.origin.offset));
        } else {
            put_varint(&mut self.bytes, u64::from(run.origin.offset - self.last.end));
        }
        if run.is_moved() {
            put_varint(&mut self.bytes, u64::from(run.at.file));
            put_varint(&mut self.bytes, u64::from(run.at.offset));
        }
        self.last = Self::after(run);
    }

    /// A moved frame is longer than its original was; the next difference counts from its begin.
    fn after(run: Run) -> Mark {
        let len = if run.is_moved() { 0 } else { run.len };
        Mark { file: run.origin.file, end: run.origin.offset + len }
    }

    /// The runs in order.
    pub fn iter(&self) -> Runs<'_> {
        Runs { bytes: &self.bytes, last: Mark::default(), tail: self.tail }
    }

    /// The runs in order, for keeps.
    pub fn into_runs(self) -> IntoRuns {
        IntoRuns { bytes: self.bytes, at: 0, last: Mark::default(), tail: self.tail }
    }

    /// Enters that frames of `file` lie elsewhere now. `moved` is sorted by offset. Each one that
    /// is in this list is given to `entered`; others are copies that do not count.
    pub fn relocate(
        &mut self,
        file: u32,
        moved: &[Relocation],
        mut entered: impl FnMut(&Relocation),
    ) {
        let mut changed = Self::default();
        for run in self.iter() {
            if run.at.file == file {
                split(run, moved, &mut entered, |piece| changed.push(piece));
            } else {
                changed.push(run);
            }
        }
        *self = changed;
    }
}

/// Takes a run apart at the frames of it that were moved.
fn split(
    run: Run,
    moved: &[Relocation],
    entered: &mut impl FnMut(&Relocation),
    mut piece: impl FnMut(Run),
) {
    let (mut at, end) = (run.at.offset, run.at.offset + run.len);
    let first = moved.partition_point(|frame| frame.offset < at);
    let part = |from: u32, to: u32| {
        let origin = Place { offset: run.origin.offset + (from - run.at.offset), ..run.origin };
        Run { origin, at: Place { offset: from, ..run.at }, len: to - from }
    };
    for frame in moved[first..].iter().take_while(|frame| frame.offset < end) {
        if frame.offset > at {
            piece(part(at, frame.offset));
        }
        let origin = part(frame.offset, frame.offset).origin;
        piece(Run { origin, at: frame.at, len: frame.new_len });
        entered(frame);
        at = frame.offset + frame.len;
    }
    if at < end {
        piece(part(at, end));
    }
}

/// Walks a list.
pub(crate) struct Runs<'a> {
    bytes: &'a [u8],
    last: Mark,
    tail: Option<Run>,
}

impl Iterator for Runs<'_> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        next_run(&mut self.bytes, &mut self.last).or_else(|| self.tail.take())
    }
}

/// Walks a list that it owns.
#[derive(Debug)]
pub(crate) struct IntoRuns {
    bytes: Vec<u8>,
    at: usize,
    last: Mark,
    tail: Option<Run>,
}

impl Iterator for IntoRuns {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        let mut rest = &self.bytes[self.at..];
        let run = next_run(&mut rest, &mut self.last);
        self.at = self.bytes.len() - rest.len();
        run.or_else(|| self.tail.take())
    }
}

fn next_run(bytes: &mut &[u8], last: &mut Mark) -> Option<Run> {
    let word = varint(bytes)?;
    let len = low32(word >> 2);
    let origin = if word & 2 == 0 {
        Place { file: last.file, offset: last.end + low32(varint(bytes)?) }
    } else {
        let file = last.file.wrapping_add(low32(varint(bytes)?));
        Place { file, offset: low32(varint(bytes)?) }
    };
    let at = if word & 1 == 0 {
        origin
    } else {
        Place { file: low32(varint(bytes)?), offset: low32(varint(bytes)?) }
    };
    let run = Run { origin, at, len };
    *last = BlockList::after(run);
    Some(run)
}

/// What was put in as 32 bits comes out as such.
#[expect(clippy::cast_possible_truncation, reason = "only 32-bit numbers are put into a list")]
const fn low32(number: u64) -> u32 {
    number as u32
}

fn put_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(file: u32, offset: u32) -> Place {
        Place { file, offset }
    }

    #[test]
    fn neighbours_become_one_run() {
        let mut list = BlockList::default();
        list.push(Run::new(place(1, 28), 100));
        list.push(Run::new(place(1, 128), 50));
        list.push(Run::new(place(1, 200), 50));
        list.push(Run::new(place(2, 28), 50));
        let runs: Vec<_> = list.iter().map(|run| (run.at.file, run.at.offset, run.len)).collect();
        assert_eq!(runs, [(1, 28, 150), (1, 200, 50), (2, 28, 50)]);
        assert_eq!(list.clone().into_runs().collect::<Vec<_>>(), list.iter().collect::<Vec<_>>());
    }

    #[test]
    fn a_moved_frame_keeps_its_turn() {
        let mut list = BlockList::default();
        for offset in [28, 128, 228, 400] {
            list.push(Run::new(place(1, offset), 100));
        }
        list.push(Run::new(place(2, 28), 100));
        let moved = [
            Relocation { offset: 128, len: 100, at: place(7, 28), new_len: 112 },
            Relocation { offset: 400, len: 100, at: place(7, 140), new_len: 112 },
        ];
        let mut entered = 0;
        list.relocate(1, &moved, |_| entered += 1);
        assert_eq!(entered, 2);
        let runs: Vec<_> = list.iter().collect();
        let expected = [
            Run::new(place(1, 28), 100),
            Run { origin: place(1, 128), at: place(7, 28), len: 112 },
            Run::new(place(1, 228), 100),
            Run { origin: place(1, 400), at: place(7, 140), len: 112 },
            Run::new(place(2, 28), 100),
        ];
        assert_eq!(runs, expected);
        // Moved again.
        let again = Relocation { offset: 28, len: 112, at: place(9, 28), new_len: 112 };
        list.relocate(7, &[again], |_| entered += 1);
        assert_eq!(entered, 3);
        list.relocate(6, &[again], |_| panic!("nothing of it lies there"));
        let runs: Vec<_> = list.iter().map(|run| (run.origin, run.at)).collect();
        let expected = [
            (place(1, 28), place(1, 28)),
            (place(1, 128), place(9, 28)),
            (place(1, 228), place(1, 228)),
            (place(1, 400), place(7, 140)),
            (place(2, 28), place(2, 28)),
        ];
        assert_eq!(runs, expected);
    }

    proptest! {
        #[test]
        fn runs_may_come_in_any_order(
            offsets in proptest::collection::btree_set(0_u32..1_000_000, 1..40),
            shuffled in any::<u64>(),
        ) {
            // Each lies elsewhere than it was first, as in the mirror of another journal.
            let run = |offset: u32| {
                Run { origin: place(3, offset), at: place(1, offset / 2), len: 1 + offset % 7 }
            };
            let mut order: Vec<u32> = offsets.iter().copied().collect();
            order.sort_by_key(|offset| u64::from(*offset).wrapping_mul(shuffled | 1));
            let mut list = BlockList::default();
            for (number, offset) in order.iter().enumerate() {
                prop_assert_eq!(list.is_empty(), number == 0);
                prop_assert!(!list.begins_at(place(3, *offset)));
                list.insert(run(*offset));
                prop_assert!(list.begins_at(place(3, *offset)));
            }
            let sorted: Vec<_> = offsets.into_iter().map(run).collect();
            prop_assert_eq!(list.iter().collect::<Vec<_>>(), sorted);
        }

        #[test]
        fn any_ascending_runs_come_back(
            steps in proptest::collection::vec(
                (0_u32..3, 1_u32..5_000_000, 1_u32..200_000, any::<Option<(u32, u32)>>()),
                0..60,
            )
        ) {
            let mut list = BlockList::default();
            let (mut file, mut offset, mut all) = (1, 0, Vec::new());
            for (files, gap, len, moved) in steps {
                offset = if files == 0 { offset + gap } else { gap };
                file += files;
                let origin = place(file, offset);
                let at = moved.map_or(origin, |(file, offset)| place(file, offset));
                all.push(Run { origin, at, len });
                list.push(Run { origin, at, len });
                offset += len;
            }
            // No two of them touch, because each gap is at least 1.
            prop_assert_eq!(list.iter().collect::<Vec<_>>(), all);
        }
    }
}
