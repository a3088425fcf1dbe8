//! Indices of packets: what the short number in a packet stands for once it has rolled over, and
//! which have been seen (RFC 3711, 3.3.1 and 3.3.2). Nothing here is noted before a packet is
//! authentic.

use super::context::Refusal;

/// How far behind the newest packet one may be, in packets: 2.5 s at 20 ms. What is older cannot be
/// told from a replay.
const WINDOW: u64 = 128;

/// The indices of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    highest: u64,
    /// Bit n: the index n below the highest was seen.
    seen: u128,
}

impl Window {
    /// Begins with a first packet.
    pub const fn starting(index: u64) -> Self {
        Self { highest: index, seen: 1 }
    }

    /// The index that a sequence number stands for: the nearest to the highest seen. `None`: it
    /// would be before the stream's begin.
    pub const fn estimate(&self, seq: u16) -> Option<u64> {
        #[expect(clippy::cast_possible_truncation, reason = "the lower 16 bits are meant")]
        let steps = seq.wrapping_sub(self.highest as u16).cast_signed();
        self.highest.checked_add_signed(steps as i64)
    }

    /// Notes an authentic packet, unless it was seen or is too old to tell.
    pub fn note(&mut self, index: u64) -> Result<(), Refusal> {
        if index > self.highest {
            let ahead = u32::try_from(index - self.highest).unwrap_or(u32::MAX);
            self.seen = self.seen.checked_shl(ahead).unwrap_or(0) | 1;
            self.highest = index;
            return Ok(());
        }
        let behind = self.highest - index;
        if behind >= WINDOW {
            return Err(Refusal::Old);
        }
        let bit = 1 << behind;
        if self.seen & bit != 0 {
            return Err(Refusal::Replay);
        }
        self.seen |= bit;
        Ok(())
    }

    /// Goes on where the newest packet is, and forgets what was seen: where nothing is
    /// authenticated, a copy of a packet is as good as the packet.
    pub fn follow(&mut self, index: u64) {
        self.highest = self.highest.max(index);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_roll_over_both_ways() {
        let window = Window::starting(0x1_fffe);
        for (seq, index) in
            [(0xffff, 0x1_ffff), (3, 0x2_0003), (0xfff0, 0x1_fff0), (0x8001, 0x1_8001)]
        {
            assert_eq!(window.estimate(seq), Some(index), "{seq:x}");
        }
        assert_eq!(Window::starting(5).estimate(0xffff), None);
    }

    #[test]
    fn what_was_seen_or_is_too_old_is_refused() {
        let mut window = Window::starting(1000);
        assert_eq!(window.note(1000), Err(Refusal::Replay));
        assert_eq!(window.note(1003), Ok(()));
        assert_eq!(window.note(1001), Ok(()));
        assert_eq!(window.note(1001), Err(Refusal::Replay));
        assert_eq!(window.note(1003 - 127), Ok(()));
        assert_eq!(window.note(1003 - 128), Err(Refusal::Old));
        assert_eq!(window.note(9000), Ok(()));
        assert_eq!(window.note(8999), Ok(()));
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set(indices in prop::collection::vec(5_000_u64..5_400, 1..300)) {
            let (first, rest) = indices.split_first().unwrap();
            let mut window = Window::starting(*first);
            let mut set = std::collections::BTreeSet::from([*first]);
            for index in rest {
                let highest = *set.last().unwrap();
                let expected = if set.contains(index) && highest - index < WINDOW {
                    Err(Refusal::Replay)
                } else if index + WINDOW <= highest {
                    Err(Refusal::Old)
                } else {
                    Ok(())
                };
                prop_assert_eq!(window.note(*index), expected);
                if expected.is_ok() {
                    set.insert(*index);
                }
            }
        }
    }
}
