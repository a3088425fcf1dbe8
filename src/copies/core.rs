//! Which voice files this node should have and has not, and from whom each is fetched when. Pure: what
//! is listed, what lies here, who is there and what became of an attempt goes in. Nothing is lost by a
//! restart, because everything is compared again.
//!
//! ```text
//! compared: it should lie here and does not ──▶ wanted ──▶ due, a place free, room on the disk ──▶ fetched
//!                                                 ▲                                                 │
//!                                                 └──────────────── again, later each time ◀────────┘
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cluster_core::mirror_of;
use storage_core::{MonoTime, NodeId, RecordingId};

/// Fetched at once: enough to fill a link, few enough that recording does not notice.
const AT_ONCE: usize = 2;
/// Wanted at once; beyond it the walk through the catalog waits.
const WANTED_MAX: usize = 100_000;
/// The walk goes on when fewer are wanted.
const WANTED_AGAIN: usize = WANTED_MAX / 2;
/// A failed attempt is made again after so long, and after twice as long each time.
const AGAIN_FIRST: Duration = Duration::from_secs(2);
const AGAIN_LAST: Duration = Duration::from_secs(600);

/// A recording as the catalog lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub recording: RecordingId,
    /// Who sealed it.
    pub owner: NodeId,
    /// Which completion.
    pub revision: u32,
    /// Whether this node can read it from the archive: then its record is enough where there is no room.
    pub archived: bool,
}

/// What lies here of a recording that is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Here {
    /// This revision, or a later one.
    Whole,
    /// Nothing, or an earlier one.
    Lacking,
    /// Something that only a person may touch: an altered file, or one whose key was erased.
    Unusable,
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It lies here, or is listed no more as it was: what is listed now is compared anew.
    Settled,
    /// Everybody who could be asked said that it has none.
    Nowhere,
    /// Not now.
    Failed,
    /// The disk has no room that it may take.
    NoRoom,
}

/// A file to be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// Which recording.
    pub recording: RecordingId,
    /// Whom to ask, best first.
    pub from: Vec<NodeId>,
}

#[derive(Clone, Copy, Debug)]
struct Wanted {
    listed: Listed,
    tries: u32,
    due: MonoTime,
    under_way: bool,
    nowhere: bool,
}

/// The machine.
#[derive(Debug)]
pub struct Copies {
    me: NodeId,
    /// `al_mirror`.
    mirror: bool,
    recorders: BTreeSet<NodeId>,
    reachable: BTreeSet<NodeId>,
    wanted: BTreeMap<RecordingId, Wanted>,
    /// What is wanted and not under way, by when it is due.
    due: BTreeSet<(MonoTime, RecordingId)>,
    /// Those of them for which no room is needed.
    due_roomless: BTreeSet<(MonoTime, RecordingId)>,
    under_way: usize,
    room: bool,
    /// Some were not taken: the catalog is to be walked through again.
    missed: bool,
}

impl Copies {
    /// Nothing is wanted yet.
    #[must_use]
    pub const fn new(me: NodeId, mirror: bool) -> Self {
        Self {
            me,
            mirror,
            recorders: BTreeSet::new(),
            reachable: BTreeSet::new(),
            wanted: BTreeMap::new(),
            due: BTreeSet::new(),
            due_roomless: BTreeSet::new(),
            under_way: 0,
            room: true,
            missed: false,
        }
    }

    /// Who records in the group, and who of them answers this node now. Tells whether other files than
    /// before should lie here, so that all that is listed is to be compared.
    pub fn regrouped(
        &mut self,
        now: MonoTime,
        recorders: BTreeSet<NodeId>,
        reachable: BTreeSet<NodeId>,
    ) -> bool {
        let back = reachable.difference(&self.reachable).next().is_some();
        let changed = self.recorders != recorders;
        (self.recorders, self.reachable) = (recorders, reachable);
        if back {
            self.hurry(now);
        }
        if changed {
            let should_have = |wanted: &&Wanted| {
                belongs(self.me, self.mirror, &self.recorders, wanted.listed.owner)
            };
            let others = self.wanted.values().filter(|wanted| !should_have(wanted));
            let others: Vec<_> = others.map(|wanted| wanted.listed.recording).collect();
            for recording in others {
                self.forget(recording);
            }
        }
        changed
    }

    /// Whether the file of a recording should lie here.
    #[must_use]
    pub fn should_have(&self, owner: NodeId) -> bool {
        belongs(self.me, self.mirror, &self.recorders, owner)
    }

    /// A recording was compared with what lies here.
    pub fn compared(&mut self, now: MonoTime, listed: Listed, here: Here) {
        if here != Here::Lacking || !self.should_have(listed.owner) {
            return self.forget(listed.recording);
        }
        let full = self.is_full();
        match self.wanted.get_mut(&listed.recording) {
            Some(wanted) => {
                wanted.listed = listed;
                let due = (wanted.due, listed.recording);
                if listed.archived && self.due.contains(&due) {
                    self.due_roomless.insert(due);
                }
            }
            None if full => self.missed = true,
            None => {
                let wanted =
                    Wanted { listed, tries: 0, due: now, under_way: false, nowhere: false };
                self.wanted.insert(listed.recording, wanted);
                self.falls_due(now, listed);
            }
        }
    }

    /// The next file to be fetched now, if there is one.
    pub fn next(&mut self, now: MonoTime) -> Option<Fetch> {
        let (due, recording) = *self.to_be_fetched().first()?;
        if due > now || self.under_way >= AT_ONCE {
            return None;
        }
        self.is_due_no_more(due, recording);
        let wanted = self.wanted.get_mut(&recording)?;
        wanted.under_way = true;
        let owner = wanted.listed.owner;
        self.under_way += 1;
        Some(Fetch { recording, from: self.sources(owner) })
    }

    /// An attempt has ended.
    pub fn ended(&mut self, now: MonoTime, recording: RecordingId, outcome: Outcome) {
        let Some(wanted) = self.wanted.get_mut(&recording).filter(|wanted| wanted.under_way) else {
            return;
        };
        wanted.under_way = false;
        self.under_way -= 1;
        wanted.nowhere = outcome == Outcome::Nowhere;
        match outcome {
            Outcome::Settled => {
                self.wanted.remove(&recording);
                return;
            }
            Outcome::NoRoom => {
                self.room = false;
                // Whatever is known of the archive, it needs room.
                wanted.listed.archived = false;
                wanted.due = now;
            }
            Outcome::Nowhere | Outcome::Failed => {
                let pause = AGAIN_FIRST.saturating_mul(1 << wanted.tries.min(16)).min(AGAIN_LAST);
                wanted.tries += 1;
                wanted.due = now + pause;
            }
        }
        let (due, listed) = (wanted.due, wanted.listed);
        self.falls_due(due, listed);
    }

    /// Whether the disk has room that copies may take.
    pub const fn set_room(&mut self, room: bool) {
        self.room = room;
    }

    /// Whether copies wait for room.
    #[must_use]
    pub fn waits_for_room(&self) -> bool {
        !self.room && !self.wanted.is_empty()
    }

    /// When there may be something to fetch, if nothing happens before.
    #[must_use]
    pub fn wakes(&self) -> Option<MonoTime> {
        let ready = self.under_way < AT_ONCE;
        self.to_be_fetched().first().map(|(due, _)| *due).filter(|_| ready)
    }

    /// How many files should lie here and do not, as far as is known.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.wanted.len()
    }

    /// How many of these nobody has, of all recorders there are.
    #[must_use]
    pub fn nowhere(&self) -> usize {
        let others = self.recorders.iter().filter(|node| **node != self.me);
        if !others.clone().all(|node| self.reachable.contains(node)) {
            // Whoever is away may have them.
            return 0;
        }
        self.wanted.values().filter(|wanted| wanted.nowhere).count()
    }

    /// Whether the walk through the catalog is to wait.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.wanted.len() >= WANTED_MAX
    }

    /// Whether there has been no room for some that were compared, and is now.
    pub fn take_missed(&mut self) -> bool {
        self.missed && self.wanted.len() < WANTED_AGAIN && std::mem::take(&mut self.missed)
    }

    /// Whoever else should have it first (its owner, if this is not it), then all others.
    fn sources(&self, owner: NodeId) -> Vec<NodeId> {
        let kept_by = keepers(owner, &self.recorders);
        let rank = |node: &NodeId| (!kept_by.contains(&Some(*node)), *node);
        let mut sources: Vec<_> =
            self.reachable.iter().copied().filter(|node| *node != self.me).collect();
        sources.sort_by_key(rank);
        sources
    }

    fn hurry(&mut self, now: MonoTime) {
        for (recording, wanted) in &mut self.wanted {
            if !wanted.under_way && self.due.remove(&(wanted.due, *recording)) {
                let roomless = self.due_roomless.remove(&(wanted.due, *recording));
                wanted.due = wanted.due.min(now);
                wanted.tries = 0;
                self.due.insert((wanted.due, *recording));
                if roomless {
                    self.due_roomless.insert((wanted.due, *recording));
                }
            }
        }
    }

    fn forget(&mut self, recording: RecordingId) {
        // One under way settles itself.
        if let Some(wanted) = self.wanted.get(&recording).filter(|wanted| !wanted.under_way) {
            self.is_due_no_more(wanted.due, recording);
            self.wanted.remove(&recording);
        }
    }

    /// Of what is due, that for which there is room.
    const fn to_be_fetched(&self) -> &BTreeSet<(MonoTime, RecordingId)> {
        if self.room { &self.due } else { &self.due_roomless }
    }

    fn falls_due(&mut self, due: MonoTime, listed: Listed) {
        self.due.insert((due, listed.recording));
        if listed.archived {
            self.due_roomless.insert((due, listed.recording));
        }
    }

    fn is_due_no_more(&mut self, due: MonoTime, recording: RecordingId) {
        self.due.remove(&(due, recording));
        self.due_roomless.remove(&(due, recording));
    }
}

/// The two recorders that are to have a file: its owner and that one's mirror. In the place of an owner
/// that is no recorder of this group any more stands its mirror, so that there are two again.
pub fn keepers(owner: NodeId, recorders: &BTreeSet<NodeId>) -> [Option<NodeId>; 2] {
    let first = if recorders.contains(&owner) { Some(owner) } else { mirror_of(owner, recorders) };
    [first, first.and_then(|first| mirror_of(first, recorders))]
}

/// Whether an owner's files are to lie on this node. Its own are, whatever `al_mirror` says.
fn belongs(me: NodeId, mirror: bool, recorders: &BTreeSet<NodeId>, owner: NodeId) -> bool {
    owner == me && recorders.contains(&me)
        || mirror && keepers(owner, recorders).contains(&Some(me))
}

#[cfg(test)]
mod tests;
