//! When the member's thread is to publish: at a steady pace, and in the same turn where something
//! noticed must not wait. What is published, and what must not wait, is the driver's matter.

use std::time::{Duration, Instant};

/// A steady pace that can be hurried.
#[derive(Debug)]
pub(crate) struct Cadence {
    every: Duration,
    next: Instant,
    hurried: bool,
}

impl Cadence {
    /// Due at once, and then again after each such span.
    pub(crate) const fn new(every: Duration, now: Instant) -> Self {
        Self { every, next: now, hurried: false }
    }

    /// Due when it is asked next, whatever time its asker goes by.
    pub(crate) const fn hurry(&mut self) {
        self.hurried = true;
    }

    /// Whether it is due; if so, the span begins anew.
    pub(crate) fn due(&mut self, now: Instant) -> bool {
        let due = self.hurried || now >= self.next;
        if due {
            (self.next, self.hurried) = (now + self.every, false);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It was once put off from tick to tick: each set the next time to its own, which was just after the
    /// one that it was compared with. So a leader that nothing but ticks woke never said that it led.
    #[test]
    fn what_is_hurried_in_every_turn_is_due_in_every_turn() {
        let mut turn = Instant::now();
        let mut cadence = Cadence::new(Duration::from_millis(200), turn);
        assert!(cadence.due(turn));
        for _ in 0..10 {
            turn += Duration::from_millis(50);
            cadence.hurry();
            assert!(cadence.due(turn));
            assert!(!cadence.due(turn), "once for each");
        }
        assert!(!cadence.due(turn + Duration::from_millis(199)));
        assert!(cadence.due(turn + Duration::from_millis(200)));
    }
}
