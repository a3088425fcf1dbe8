//! How far somebody who compares all that is listed with something else has come: each new entry is looked at, and all of the
//! catalog now and then, page by page and in no hurry, one look at a time. It reads no catalog, and what a look is for is its owner's
//! matter.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use storage_core::RecordingId;
use storage_core::query::Position;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use crate::hub::Entered;

/// All that is listed is compared so often, whatever was told.
pub(crate) const WALK_EVERY: Duration = Duration::from_secs(3600);
/// Between two pages of that walk: it is in no hurry.
const PAGE_REST: Duration = Duration::from_millis(100);
/// New entries looked at together.
const LOOK_AT_ONCE: usize = 256;
/// New entries that wait to be looked at; beyond it all that is listed is compared.
const ENTERED_MAX: usize = 10_000;

/// What is to be looked at now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// These, which were entered.
    Entered(BTreeSet<RecordingId>),
    /// The page behind this place; the first one behind none.
    Page(Option<Position>),
}

/// The walk through the catalog.
#[derive(Clone, Copy, Debug)]
enum Walk {
    /// To go on behind this place, at this time.
    Behind(Option<Position>, Instant),
    /// To be begun at this time.
    At(Instant),
}

/// How far it is.
#[derive(Debug)]
pub(crate) struct CatalogWalk {
    /// Entries to be looked at.
    entered: VecDeque<RecordingId>,
    /// A look is under way.
    looking: bool,
    walk: Walk,
    /// What is listed changed as a whole while the walk went on.
    again: bool,
}

impl CatalogWalk {
    /// The first walk begins then.
    pub(crate) const fn new(first: Instant) -> Self {
        Self { entered: VecDeque::new(), looking: false, walk: Walk::At(first), again: false }
    }

    /// What the hub tells of entries; false once it tells no more.
    pub(crate) fn told(&mut self, now: Instant, told: &Result<Entered, RecvError>) -> bool {
        match told {
            Ok(Entered::One(recording)) if self.entered.len() < ENTERED_MAX => {
                self.entered(*recording);
            }
            // So many that some were not heard of.
            Ok(_) | Err(RecvError::Lagged(_)) => self.anew(now),
            Err(RecvError::Closed) => return false,
        }
        true
    }

    /// This one is to be looked at.
    pub(crate) fn entered(&mut self, recording: RecordingId) {
        self.entered.push_back(recording);
    }

    /// All that is listed is to be compared once more, from its begin.
    pub(crate) const fn anew(&mut self, now: Instant) {
        match self.walk {
            Walk::Behind(..) => self.again = true,
            Walk::At(_) => self.walk = Walk::At(now),
        }
    }

    /// What is to be looked at now, if anything is; pages wait while `full`. The next comes after
    /// [`Self::looked`] or [`Self::paged`].
    pub(crate) fn next(&mut self, now: Instant, full: bool) -> Option<Look> {
        if self.looking {
            return None;
        }
        if !self.entered.is_empty() {
            let count = self.entered.len().min(LOOK_AT_ONCE);
            self.looking = true;
            return Some(Look::Entered(self.entered.drain(..count).collect()));
        }
        let behind = match self.walk {
            Walk::Behind(behind, at) if at <= now => behind,
            Walk::At(at) if at <= now => None,
            Walk::Behind(..) | Walk::At(_) => return None,
        };
        if full {
            return None;
        }
        self.looking = true;
        self.walk = Walk::Behind(behind, now);
        Some(Look::Page(behind))
    }

    /// Entries were looked at.
    pub(crate) const fn looked(&mut self) {
        self.looking = false;
    }

    /// A page was; behind `next` there is more.
    pub(crate) fn paged(&mut self, now: Instant, next: Option<Position>) {
        self.looking = false;
        self.walk = match next {
            Some(next) => Walk::Behind(Some(next), now + PAGE_REST),
            None if std::mem::take(&mut self.again) => Walk::At(now),
            None => Walk::At(now + WALK_EVERY),
        };
    }

    /// When a page is due, if nothing happens before.
    pub(crate) const fn wakes(&self, full: bool) -> Option<Instant> {
        let (Walk::Behind(_, at) | Walk::At(at)) = self.walk;
        if self.looking || full { None } else { Some(at) }
    }
}

#[cfg(test)]
mod tests {
    use storage_core::WallTime;

    use super::*;

    fn id(number: u8) -> RecordingId {
        RecordingId::new(WallTime::from_millis(0), [number; 10])
    }

    #[test]
    fn entries_come_before_pages_and_one_look_at_a_time() {
        let now = Instant::now();
        let mut walk = CatalogWalk::new(now);
        assert!(walk.told(now, &Ok(Entered::One(id(1)))));
        assert_eq!(walk.next(now, true), Some(Look::Entered([id(1)].into())));
        assert_eq!((walk.next(now, false), walk.wakes(false)), (None, None));
        walk.looked();
        assert_eq!((walk.next(now, true), walk.wakes(true)), (None, None), "pages wait");
        assert_eq!(walk.next(now, false), Some(Look::Page(None)));
        let place = Position::at(WallTime::from_millis(5));
        walk.paged(now, Some(place));
        assert_eq!((walk.next(now, false), walk.wakes(false)), (None, Some(now + PAGE_REST)));
        assert_eq!(walk.next(now + PAGE_REST, false), Some(Look::Page(Some(place))));
        walk.paged(now, None);
        assert_eq!(walk.wakes(false), Some(now + WALK_EVERY));
        assert!(!walk.told(now, &Err(RecvError::Closed)));
    }

    #[test]
    fn what_changes_as_a_whole_is_gone_through_from_its_begin_after_the_walk_that_goes_on() {
        let now = Instant::now();
        let mut walk = CatalogWalk::new(now + WALK_EVERY);
        assert!(walk.told(now, &Ok(Entered::Many)));
        assert_eq!(walk.next(now, false), Some(Look::Page(None)));
        assert!(walk.told(now, &Err(RecvError::Lagged(7))));
        walk.paged(now, Some(Position::at(WallTime::from_millis(5))));
        assert!(matches!(walk.next(now + PAGE_REST, false), Some(Look::Page(Some(_)))));
        walk.paged(now, None);
        assert_eq!(walk.next(now, false), Some(Look::Page(None)));
    }

    #[test]
    fn more_entries_than_can_wait_have_all_compared() {
        let now = Instant::now();
        let mut walk = CatalogWalk::new(now + WALK_EVERY);
        for _ in 0..=ENTERED_MAX {
            assert!(walk.told(now, &Ok(Entered::One(id(1)))));
        }
        assert_eq!(walk.wakes(false), Some(now));
    }
}
