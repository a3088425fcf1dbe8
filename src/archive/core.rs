//! What is to be archived next, what is to be deleted there, what is tried again when, and which voice files may go
//! from this disk. Pure: records, who is in the group, times and what became of an attempt go in. Nothing is lost
//! by a restart: what is archived is noted in the records, what is to be deleted there is owed, and both are
//! gone through again.
//!
//! ```text
//! compared: due here ──▶ waiting ──▶ due, a place free, the archive answers ──▶ under way ──▶ done
//!                          ▲  ▲                                                  │   │
//!                          │  └──── this one later, longer each time ◀── failed ─┘   │
//!                          └─────── all later, one at a time ◀───────── away ────────┘
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use storage_core::archived::Archived;
use storage_core::{MonoTime, NodeId, Recording, RecordingId};

use crate::copies::core::keepers;

/// Under way at once: enough to fill a link, few enough that recording does not notice.
const AT_ONCE: usize = 2;
/// Waiting at once; beyond it the walk through the catalog waits.
const WAITING_MAX: usize = 100_000;
/// The walk goes on when fewer wait.
const WAITING_AGAIN: usize = WAITING_MAX / 2;
/// A failed attempt is made again after so long, and after twice as long each time.
const AGAIN_FIRST: Duration = Duration::from_secs(2);
const AGAIN_LAST: Duration = Duration::from_secs(3600);
/// The same for an archive that does not answer, which is asked more often because all wait for it.
const AWAY_FIRST: Duration = Duration::from_secs(1);
const AWAY_LAST: Duration = Duration::from_secs(60);
/// A fault of a moment is nobody's matter: so many attempts in a row have failed before people hear of it.
const AWAY_TOLD_AT: u32 = 3;

/// What of a recording is to be put into the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing: it lies there, or it is another node's.
    Nothing,
    /// Its record, which has changed.
    Record,
    /// Voice file and record.
    Whole,
}

/// Who is in the group, and where the archive is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// This node.
    pub me: NodeId,
    /// The recorders of the group.
    pub recorders: BTreeSet<NodeId>,
    /// What the addresses of all that lies in the archive begin with.
    pub base: String,
}

impl Sight {
    /// What this node is to put into the archive of a recording, whose record has this SHA-256. One node archives
    /// each recording: its owner, or the heir of an owner that has left the group.
    #[must_use]
    pub fn due(&self, record: &Recording, digest: &str) -> Due {
        if keepers(record.node, &self.recorders)[0] != Some(self.me) {
            return Due::Nothing;
        }
        let noted = record.archived.as_ref();
        match noted.filter(|archived| archived.is_of(record) && self.counts(archived)) {
            None => Due::Whole,
            Some(archived) if archived.record != digest => Due::Record,
            Some(_) => Due::Nothing,
        }
    }

    /// Whether what a note speaks of lies in this archive, and can be read by a member of the group.
    fn counts(&self, archived: &Archived) -> bool {
        let readable = !archived.encrypted || self.recorders.contains(&archived.stamp.node);
        readable && self.is_here(archived)
    }

    fn is_here(&self, archived: &Archived) -> bool {
        archived.place.strip_prefix(&self.base).is_some_and(|rest| rest.starts_with('/'))
    }

    /// Whether a voice file may go from this disk for want of room: only if it lies in the archive, where
    /// this node can read it (`readable`: the note by which it can). What is under legal hold stays.
    #[must_use]
    pub fn may_go(&self, record: &Recording, readable: Option<&Archived>) -> bool {
        !record.hold
            && readable.is_some_and(|archived| archived.is_of(record) && self.is_here(archived))
    }
}

/// What is to be done about a recording; the later ones win.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Task {
    /// Put into the archive what is due.
    Put,
    /// Put all of it there, whatever is noted.
    PutAnew,
    /// Delete what lies there.
    Delete,
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Done,
    /// Not this one, now.
    Failed,
    /// The archive does not answer, or refuses everything.
    Away,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    task: Task,
    tries: u32,
    due: MonoTime,
    under_way: bool,
    /// What came in while it was under way.
    then: Option<Task>,
}

#[derive(Clone, Copy, Debug)]
struct Away {
    tries: u32,
    again: MonoTime,
}

/// The machine.
#[derive(Debug, Default)]
pub struct Archiving {
    waiting: BTreeMap<RecordingId, Waiting>,
    /// What waits and is not under way, by when it is due.
    due: BTreeSet<(MonoTime, RecordingId)>,
    under_way: usize,
    away: Option<Away>,
    /// Some were not taken: the catalog is to be walked through again.
    missed: bool,
}

impl Archiving {
    /// Something is to be done about a recording. Deleting it wins over everything else.
    pub fn wants(&mut self, now: MonoTime, recording: RecordingId, task: Task) {
        let full = self.is_full();
        match self.waiting.get_mut(&recording) {
            Some(known) if known.task == Task::Delete => {}
            // What changes while it is under way may be no part of what is put there.
            Some(known) if known.under_way => known.then = known.then.max(Some(task)),
            Some(known) => known.task = known.task.max(task),
            None if full && task != Task::Delete => self.missed = true,
            None => {
                let new = Waiting { task, tries: 0, due: now, under_way: false, then: None };
                self.waiting.insert(recording, new);
                self.due.insert((now, recording));
            }
        }
    }

    /// Nothing is due of a recording any more.
    pub fn settled(&mut self, recording: RecordingId) {
        let waits = |known: &&Waiting| known.task == Task::Put && !known.under_way;
        if let Some(known) = self.waiting.get(&recording).filter(waits) {
            self.due.remove(&(known.due, recording));
            self.waiting.remove(&recording);
        }
    }

    /// What is to be begun now, if anything is.
    pub fn next(&mut self, now: MonoTime) -> Option<(RecordingId, Task)> {
        let at_once = if self.away.is_some() { 1 } else { AT_ONCE };
        if self.under_way >= at_once || self.away.is_some_and(|away| away.again > now) {
            return None;
        }
        let (due, recording) = *self.due.first().filter(|(due, _)| *due <= now)?;
        self.due.remove(&(due, recording));
        let waiting = self.waiting.get_mut(&recording)?;
        waiting.under_way = true;
        self.under_way += 1;
        Some((recording, waiting.task))
    }

    /// An attempt has ended.
    pub fn ended(&mut self, now: MonoTime, recording: RecordingId, outcome: Outcome) {
        let Some(waiting) = self.waiting.get_mut(&recording).filter(|waiting| waiting.under_way)
        else {
            return;
        };
        waiting.under_way = false;
        self.under_way -= 1;
        if let Some(task) = waiting.then.take() {
            (waiting.task, waiting.tries) = (task, 0);
        } else if outcome == Outcome::Done {
            self.waiting.remove(&recording);
            self.away = None;
            return;
        }
        match outcome {
            Outcome::Away => {
                let tries = self.away.map_or(0, |away| away.tries);
                let again = now + pause(AWAY_FIRST, AWAY_LAST, tries);
                self.away = Some(Away { tries: tries + 1, again });
                waiting.due = now;
            }
            Outcome::Failed => {
                // It answered.
                self.away = None;
                waiting.due = now + pause(AGAIN_FIRST, AGAIN_LAST, waiting.tries);
                waiting.tries += 1;
            }
            Outcome::Done => {
                self.away = None;
                waiting.due = now;
            }
        }
        self.due.insert((waiting.due, recording));
    }

    /// Whether people are to hear that the archive does not answer.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.away.is_some_and(|away| away.tries >= AWAY_TOLD_AT)
    }

    /// When there may be something to begin, if nothing happens before.
    #[must_use]
    pub fn wakes(&self) -> Option<MonoTime> {
        let (due, _) = *self.due.first()?;
        match self.away {
            Some(_) if self.under_way > 0 => None,
            Some(away) => Some(due.max(away.again)),
            None => Some(due).filter(|_| self.under_way < AT_ONCE),
        }
    }

    /// How many recordings wait to be archived or deleted there, as far as is known.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.waiting.len()
    }

    /// Whether the walk through the catalog is to wait.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.waiting.len() >= WAITING_MAX
    }

    /// Whether there has been no room for some, and is now.
    pub fn take_missed(&mut self) -> bool {
        self.missed && self.waiting.len() < WAITING_AGAIN && std::mem::take(&mut self.missed)
    }
}

fn pause(first: Duration, last: Duration, tries: u32) -> Duration {
    first.saturating_mul(1 << tries.min(16)).min(last)
}

#[cfg(test)]
mod tests;
