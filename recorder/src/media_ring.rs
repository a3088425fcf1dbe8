//! What a phantom has heard lately of a call that another node records: blocks as the journal would get
//! them, in memory, bounded by time and by bytes. If this node goes on with the call, they become the begin
//! of its segment; if not, they are wiped. When which of the two happens is the call machine's decision.
//!
//! A ring of 30 s of G.711 in packets of 20 ms takes 280 KiB: 172 bytes a packet, 6 for when it came, and
//! what frames each block of a sweep.

use std::collections::VecDeque;
use std::time::Duration;

use storage_core::WallTime;
use storage_core::journal::Channel;
use zeroize::{Zeroize as _, Zeroizing};

use crate::media_port::{Block, Gathered};

/// The most that a second of a ring takes: linear samples of 16 bits at 8 kHz, framed, and some to spare. A
/// source that sends more shortens its ring.
pub(crate) const BYTES_A_SECOND: usize = 20_000;

/// One phantom's ring.
#[derive(Debug)]
pub(crate) struct Ring {
    reach: Duration,
    bytes_max: usize,
    bytes: usize,
    blocks: VecDeque<Kept>,
}

/// A block outside the buffer in which it was framed. It is wiped when it goes.
#[derive(Debug)]
struct Kept {
    block: Block,
    bytes: Zeroizing<Vec<u8>>,
}

impl Ring {
    /// A ring of nothing yet, that keeps what is not older than `reach`.
    pub(crate) fn new(reach: Duration) -> Self {
        let millis = usize::try_from(reach.as_millis()).unwrap_or(usize::MAX);
        let bytes_max = millis.saturating_mul(BYTES_A_SECOND) / 1000;
        Self { reach, bytes_max, bytes: 0, blocks: VecDeque::new() }
    }

    /// Takes the blocks that were gathered since `mark`, and forgets what is too old at `now` or too much.
    /// Tells when the first packet of media among them was received.
    pub(crate) fn keep(
        &mut self,
        gathered: &mut Gathered,
        mark: Mark,
        now: WallTime,
    ) -> Option<WallTime> {
        let mut from = mark.bytes;
        let mut first = None;
        for block in gathered.blocks.drain(mark.blocks..) {
            let bytes = Zeroizing::new(gathered.bytes[from..block.end].to_vec());
            from = block.end;
            if block.channel == Channel::Rtp {
                first.get_or_insert(block.from);
            }
            self.bytes += bytes.len();
            self.blocks.push_back(Kept { block, bytes });
        }
        gathered.bytes[mark.bytes..].zeroize();
        gathered.bytes.truncate(mark.bytes);
        let oldest = now - self.reach;
        while let Some(kept) = self.blocks.front()
            && (kept.block.to < oldest || self.bytes > self.bytes_max)
        {
            self.bytes -= kept.bytes.len();
            self.blocks.pop_front();
        }
        first
    }

    /// Forgets what came since then: the recording is paused. A block that began before goes as a whole.
    pub(crate) fn cut(&mut self, since: WallTime) {
        self.blocks.retain(|kept| kept.block.to < since);
        self.bytes = self.blocks.iter().map(|kept| kept.bytes.len()).sum();
    }

    /// Gives what came since then to be written, in its order.
    pub(crate) fn pour(mut self, since: WallTime, gathered: &mut Gathered) {
        for kept in self.blocks.drain(..).filter(|kept| kept.block.from >= since) {
            gathered.bytes.extend_from_slice(&kept.bytes);
            gathered.blocks.push(Block { end: gathered.bytes.len(), ..kept.block });
        }
    }
}

/// Up to where something was gathered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    bytes: usize,
    blocks: usize,
}

impl Mark {
    pub(crate) fn of(gathered: &Gathered) -> Self {
        Self { bytes: gathered.bytes.len(), blocks: gathered.blocks.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    fn at(micros: i64) -> WallTime {
        WallTime::from_micros(1_700_000_000 * SECOND + micros)
    }

    /// A sweep's block of five packets that came in the 100 ms before `until`.
    fn gather(gathered: &mut Gathered, until: i64, bytes: usize) {
        gathered.bytes.extend(std::iter::repeat_n(7, bytes));
        let (from, to) = (at(until - 80_000), at(until));
        let end = gathered.bytes.len();
        gathered.blocks.push(Block { end, port: 3, channel: Channel::Rtp, packets: 5, from, to });
    }

    #[test]
    fn a_ring_is_bounded_by_time_and_gives_what_it_holds_in_order() {
        let mut ring = Ring::new(Duration::from_secs(30));
        let mut gathered = Gathered::default();
        // What others gathered before stays where it is.
        gather(&mut gathered, 0, 11);
        for sweep in 1..=6_000 {
            let mark = Mark::of(&gathered);
            let until = sweep * SECOND / 10;
            gather(&mut gathered, until, 942);
            let first = ring.keep(&mut gathered, mark, at(until));
            assert_eq!(first, Some(at(until - 80_000)));
            assert_eq!((gathered.bytes.len(), gathered.blocks.len()), (11, 1));
            assert!(ring.blocks.len() <= 301 && ring.bytes <= 301 * 942, "{} bytes", ring.bytes);
        }
        assert_eq!(ring.blocks.len(), 301);
        ring.pour(at(590 * SECOND), &mut gathered);
        let kept = &gathered.blocks[1..];
        assert_eq!(kept.len(), 100, "those that began in the last ten seconds");
        assert!(kept.is_sorted_by_key(|block| block.from));
        let ends: Vec<usize> = (1..=100).map(|number| 11 + number * 942).collect();
        assert_eq!(kept.iter().map(|block| block.end).collect::<Vec<_>>(), ends);
        assert_eq!(gathered.bytes.len(), 11 + 100 * 942);
    }

    #[test]
    fn a_flood_shortens_a_ring_and_never_makes_it_larger() {
        let mut ring = Ring::new(Duration::from_secs(2));
        let mut gathered = Gathered::default();
        for sweep in 1..=100 {
            let mark = Mark::of(&gathered);
            gather(&mut gathered, sweep, 9_000);
            ring.keep(&mut gathered, mark, at(sweep));
            assert!(ring.bytes <= 2 * BYTES_A_SECOND, "{} bytes", ring.bytes);
        }
        assert_eq!(ring.blocks.back().unwrap().block.to, at(100), "the newest are kept");
        assert_eq!(ring.blocks.len(), 4);
    }

    #[test]
    fn nothing_that_came_since_a_pause_began_is_left() {
        let mut ring = Ring::new(Duration::from_secs(2));
        let mut gathered = Gathered::default();
        for sweep in 1..=5 {
            let mark = Mark::of(&gathered);
            gather(&mut gathered, sweep * SECOND / 10, 100);
            ring.keep(&mut gathered, mark, at(sweep * SECOND / 10));
        }
        // In the midst of the fourth: each came in the 80 ms before its tenth of a second.
        ring.cut(at(350_000));
        assert_eq!((ring.blocks.len(), ring.bytes), (3, 300));
        assert_eq!(ring.blocks.back().unwrap().block.to, at(300_000));
    }

    #[test]
    fn a_source_that_has_stopped_leaves_nothing_behind() {
        let mut ring = Ring::new(Duration::from_secs(2));
        let mut gathered = Gathered::default();
        gather(&mut gathered, 0, 100);
        ring.keep(&mut gathered, Mark { bytes: 0, blocks: 0 }, at(0));
        let mark = Mark::of(&gathered);
        assert_eq!(ring.keep(&mut gathered, mark, at(2 * SECOND)), None);
        assert_eq!(ring.blocks.len(), 1);
        ring.keep(&mut gathered, mark, at(2 * SECOND + 1));
        assert_eq!((ring.blocks.len(), ring.bytes), (0, 0));
    }
}
