//! Raft's view of what is stored: the entries since the last snapshot, the vote, the members. It
//! is a copy in memory of what the shell has made durable, or is about to; it holds no policy.

use std::cell::Cell;

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};

/// The log in memory. Entry `i` of `entries` has index `before + 1 + i`; some entries from before
/// the snapshot's end are kept, so that a slow follower need not take the snapshot.
pub(crate) struct RaftLog {
    hard: HardState,
    /// The members as of the snapshot that Raft was started or restored from.
    conf: ConfState,
    snapshot: Snapshot,
    /// Index and term of the entry before the first one kept.
    before: (u64, u64),
    entries: Vec<Entry>,
    /// A peer needs a snapshot that is newer than the one at hand.
    wanted: Cell<bool>,
}

impl RaftLog {
    pub(crate) fn new(
        hard: HardState,
        snapshot: Snapshot,
        before: (u64, u64),
        entries: Vec<Entry>,
    ) -> Self {
        let conf = snapshot.get_metadata().get_conf_state().clone();
        Self { hard, conf, snapshot, before, entries, wanted: Cell::new(false) }
    }

    pub(crate) fn set_hard(&mut self, hard: HardState) {
        self.hard = hard;
    }

    pub(crate) const fn hard(&self) -> &HardState {
        &self.hard
    }

    pub(crate) fn set_commit(&mut self, commit: u64) {
        self.hard.commit = commit;
    }

    /// Replaces everything by a snapshot that came from the leader.
    pub(crate) fn restore(&mut self, snapshot: Snapshot) {
        let meta = snapshot.get_metadata();
        self.before = (meta.index, meta.term);
        self.conf = meta.get_conf_state().clone();
        self.hard.commit = self.hard.commit.max(meta.index);
        self.entries.clear();
        self.snapshot = snapshot;
    }

    /// Appends, cutting off what the new entries replace.
    pub(crate) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        let keep = first.index.saturating_sub(self.before.0 + 1);
        self.entries.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
        self.entries.extend_from_slice(entries);
    }

    /// Takes over a snapshot of our own making and forgets entries up to `keep_after`.
    pub(crate) fn compact(&mut self, snapshot: Snapshot, keep_after: u64) {
        let drop = keep_after.min(snapshot.get_metadata().index).saturating_sub(self.before.0);
        let drop = usize::try_from(drop).unwrap_or(usize::MAX).min(self.entries.len());
        if let Some(last) = self.entries.drain(..drop).next_back() {
            self.before = (last.index, last.term);
        }
        self.snapshot = snapshot;
        self.wanted.set(false);
    }

    pub(crate) const fn before(&self) -> (u64, u64) {
        self.before
    }

    pub(crate) const fn snapshot_ref(&self) -> &Snapshot {
        &self.snapshot
    }

    pub(crate) fn entries_kept(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn snapshot_wanted(&self) -> bool {
        self.wanted.get()
    }

    pub(crate) fn last(&self) -> u64 {
        self.before.0 + self.entries.len() as u64
    }

    fn at(&self, index: u64) -> Result<&Entry, Error> {
        if index <= self.before.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        let at = usize::try_from(index - self.before.0 - 1).unwrap_or(usize::MAX);
        self.entries.get(at).ok_or(Error::Store(StorageError::Unavailable))
    }
}

impl Storage for RaftLog {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard.clone(), self.conf.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        self.at(low)?;
        // `low` is stored, so both differences are within the vector; raft promises `high`.
        let from = usize::try_from(low - self.before.0 - 1).unwrap_or(usize::MAX);
        let to = usize::try_from(high - self.before.0 - 1).unwrap_or(usize::MAX);
        let slice = self.entries.get(from..to).ok_or(Error::Store(StorageError::Unavailable))?;
        let mut entries = slice.to_vec();
        raft::util::limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        let meta = self.snapshot.get_metadata();
        if index == meta.index {
            return Ok(meta.term);
        }
        if index == self.before.0 {
            return Ok(self.before.1);
        }
        self.at(index).map(|entry| entry.term)
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.before.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        let meta = self.snapshot.get_metadata();
        // An empty snapshot is a node that has joined and not been restored: it leads nobody.
        if meta.index == 0 || meta.index < request_index {
            self.wanted.set(true);
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        Ok(self.snapshot.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, term: u64) -> Entry {
        Entry { index, term, ..Entry::default() }
    }

    fn snapshot(index: u64, term: u64) -> Snapshot {
        let mut snapshot = Snapshot::default();
        snapshot.mut_metadata().index = index;
        snapshot.mut_metadata().term = term;
        snapshot
    }

    #[test]
    fn a_conflicting_tail_is_cut() {
        let mut log = RaftLog::new(HardState::default(), snapshot(1, 1), (1, 1), Vec::new());
        log.append(&[entry(2, 1), entry(3, 1), entry(4, 1)]);
        log.append(&[entry(3, 2)]);
        assert_eq!(log.last_index(), Ok(3));
        assert_eq!(log.term(3), Ok(2));
        assert_eq!(log.term(1), Ok(1));
    }

    #[test]
    fn compaction_keeps_a_tail_for_slow_followers() {
        let mut log = RaftLog::new(HardState::default(), snapshot(1, 1), (1, 1), Vec::new());
        log.append(&(2..=10).map(|i| entry(i, 1)).collect::<Vec<_>>());
        log.compact(snapshot(8, 1), 5);
        assert_eq!(log.first_index(), Ok(6));
        assert_eq!(log.term(5), Ok(1));
        assert_eq!(log.term(4), Err(Error::Store(StorageError::Compacted)));
        assert_eq!(log.last_index(), Ok(10));
    }

    #[test]
    fn a_log_read_back_with_entries_before_its_snapshot_serves_them() {
        let entries = (4..=9).map(|i| entry(i, 1)).collect();
        let log = RaftLog::new(HardState::default(), snapshot(7, 1), (3, 1), entries);
        assert_eq!(log.first_index(), Ok(4));
        assert_eq!(log.term(3), Ok(1));
        assert_eq!(log.last_index(), Ok(9));
    }

    #[test]
    fn a_newer_snapshot_is_asked_for_not_made_up() {
        let log = RaftLog::new(HardState::default(), snapshot(7, 1), (7, 1), Vec::new());
        assert!(log.snapshot(7, 2).is_ok());
        assert!(!log.snapshot_wanted());
        assert!(log.snapshot(8, 2).is_err());
        assert!(log.snapshot_wanted());
    }
}
