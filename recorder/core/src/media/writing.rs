//! Whether what is heard is written; and once a write has failed, when it counts as written again. It decides what
//! the node says of itself, and knows no disk.
//!
//! ```text
//!      a write fails, or a start on a full disk   a write fails for another reason
//!  written ────────────────▶ in trouble (full, or failing) ───┐
//!     ▲                          │      ▲─────────────────────┘
//!     └──────────────────────────┘
//!       a look finds that the journal takes everything, and room for half a minute of all calls
//! ```
//!
//! A write that goes well ends no trouble. On a full disk the next small one mostly does: a fact has room kept for
//! it, and somebody else's file of a few kilobytes goes at any time. A node that said each time that it can record
//! again would be given the calls, and lose them again, every few seconds. So the disk is looked at, and whether a
//! packet comes meanwhile does not matter.

use std::time::Duration;

/// There is to be room for so much of all receivers' media before a disk that was full counts as well: long enough
/// for a node that takes the calls back not to leave them at once.
const ROOM_FOR: Duration = Duration::from_secs(30);
/// What a receiver's media takes in a second at most: 64 kbit/s in packets of 10 ms, with their headers, or linear
/// samples at 8 kHz in packets of 20 ms.
const BYTES_PER_SECOND: u64 = 20_000;

/// Why a write failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// There is no room.
    Full,
    /// Anything else: the device fails, or is read-only.
    Failing,
}

/// What somebody who looks at the disk finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Nothing waits to be written, and the journal could go on: its file is sound, and what it keeps for facts is
    /// there.
    pub takes: bool,
    /// Bytes that are free; `None` where that cannot be told.
    pub free: Option<u64>,
}

/// Whether what is heard is written.
#[derive(Clone, Debug)]
pub struct Writing {
    trouble: Option<Trouble>,
    needed: u64,
}

impl Writing {
    /// For a node that starts with so many receivers, and so many bytes free (`None`: that cannot be told). All is well
    /// unless there is too little room: who starts on a full disk is not to wait for the first call to find out.
    #[must_use]
    pub fn starting(receivers: usize, free: Option<u64>) -> Self {
        let needed = (receivers as u64).saturating_mul(BYTES_PER_SECOND * ROOM_FOR.as_secs());
        let full = free.is_some_and(|free| free < needed);
        Self { trouble: full.then_some(Trouble::Full), needed }
    }

    /// What is the matter, if something is.
    #[must_use]
    pub const fn trouble(&self) -> Option<Trouble> {
        self.trouble
    }

    /// Bytes that are to be free before a trouble is over.
    #[must_use]
    pub const fn needed(&self) -> u64 {
        self.needed
    }

    /// A write has failed. `true`: that is news.
    pub fn failed(&mut self, trouble: Trouble) -> bool {
        self.trouble.replace(trouble) != Some(trouble)
    }

    /// The disk was looked at. `true`: a trouble is over.
    pub fn looked(&mut self, look: Look) -> bool {
        let room = look.free.is_none_or(|free| free >= self.needed);
        let over = self.trouble.is_some() && look.takes && room;
        if over {
            self.trouble = None;
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Event {
        Failed(Trouble),
        Looked(Look),
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let trouble = prop_oneof![Just(Trouble::Full), Just(Trouble::Failing)];
        let free = prop::option::of(0..2_400_000_u64);
        let look = (any::<bool>(), free).prop_map(|(takes, free)| Look { takes, free });
        let event = prop_oneof![trouble.prop_map(Event::Failed), look.prop_map(Event::Looked)];
        prop::collection::vec(event, 0..60)
    }

    #[test]
    fn a_full_disk_is_well_with_room_and_not_before() {
        let mut writing = Writing::starting(10, Some(6_000_000));
        assert_eq!(writing.trouble(), None);
        assert_eq!(writing.needed(), 6_000_000);
        let look = |free| Look { takes: true, free: Some(free) };
        assert!(!writing.looked(look(0)), "nobody has said that it is full");
        assert!(writing.failed(Trouble::Full));
        assert!(!writing.failed(Trouble::Full), "that is known");
        assert!(writing.failed(Trouble::Failing), "that is another one");
        assert!(!writing.looked(look(5_999_999)));
        assert!(!writing.looked(Look { takes: false, ..look(7_000_000) }));
        assert!(writing.looked(look(6_000_000)));
        assert_eq!(writing.trouble(), None);
        assert!(writing.failed(Trouble::Full), "as often as it comes");
        assert!(writing.looked(Look { takes: true, free: None }));
    }

    proptest! {
        /// From a failure on it is in trouble, until a look finds all that it needs; then it is not.
        #[test]
        fn only_room_ends_a_trouble(free in prop::option::of(0..2_400_000_u64), events in events()) {
            let mut writing = Writing::starting(2, free);
            let mut last = free.filter(|free| *free < 1_200_000).map(|_| Trouble::Full);
            prop_assert_eq!(writing.trouble(), last);
            for event in events {
                match event {
                    Event::Failed(trouble) => {
                        prop_assert_eq!(writing.failed(trouble), last != Some(trouble));
                        last = Some(trouble);
                    }
                    Event::Looked(look) => {
                        let enough = look.takes && look.free.unwrap_or(u64::MAX) >= 1_200_000;
                        prop_assert_eq!(writing.looked(look), enough && last.is_some());
                        last = last.filter(|_| !enough);
                    }
                }
                prop_assert_eq!(writing.trouble(), last);
            }
        }
    }
}
