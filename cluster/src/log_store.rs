//! The durable log: entries, term and vote, and the snapshot, in one append-only file that is
//! synced before anything is said. It decides nothing about what is written; it decides what a
//! file that is read back can still be trusted for.
//!
//! A file `log-NNNNNNNNNN` begins with a whole state (a *base*) and goes on with one frame a
//! write. A new base goes into a file of the next number, under a temporary name until it is
//! synced; so there is always one whole file. Behind the last whole frame there may be the rest of
//! a write that never counted, because its sync did not return; it is cut. Damage before a whole
//! frame is no torn tail: the member must not vote with half a memory.
//!
//! **Full disk.** Beside the log lies a reserve (`reserve`), which is given up piece by piece when there is no room: enough
//! for thousands of entries, so a member whose disk is full can say so and goes on as long as a person may need to make
//! room. What does not fit even so is an error: nothing is confirmed that is not written.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cluster_core::node::{Stored, Write};
use serde::{Deserialize, Serialize};
use storage::disk::{self, Disk, DiskFile};
use storage::reserve::Reserve;
use storage_core::naming::RESERVE_FILE;

use crate::frame_file::{PAYLOAD_MAX, frame, scan};

const VERSION: u8 = 1;
const PREFIX: &str = "log-";
const UNFINISHED: &str = ".new";
/// Room kept for the log on a full disk: an entry takes some hundred bytes, a call some ten entries.
const RESERVE_BYTES: u64 = 4 << 20;

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The disk refused.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// What was once written whole is not whole any more.
    #[error(
        "{} is damaged at byte {at}: this member's memory of its votes cannot be trusted. Remove \
         this node from the group on another node's console (remove member), empty {}, and add \
         it again under a number that was never used",
        path.display(), path.parent().unwrap_or(path).display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the last sound frame ends.
        at: usize,
    },
    /// A newer program wrote it.
    #[error("{} was written by a newer program (form {version}): install that", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The form's version.
        version: u8,
    },
}

/// What is tried that does no harm if it fails for want of room.
const WRITE: &str = "write";
const MAKE: &str = "make";

impl LogError {
    /// Whether it could be tried again if there were room.
    fn has_no_room(&self) -> bool {
        matches!(self, Self::Io { doing, source, .. } if [WRITE, MAKE].contains(doing) && disk::is_full(source))
    }
}

#[derive(Serialize, Deserialize)]
enum Record {
    Base(Stored),
    Write(Write),
}

/// The open log.
#[derive(Debug)]
pub(crate) struct LogStore {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    generation: u64,
    file: Option<(PathBuf, Arc<dyn DiskFile>, u64)>,
    reserve: Reserve,
    /// How often it was synced, and how long that took in all.
    pub(crate) syncs: u64,
    pub(crate) sync_time: Duration,
}

impl LogStore {
    /// Opens the log of a folder; the second part is absent if there is none yet.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        folder: &Path,
    ) -> Result<(Self, Option<Stored>), LogError> {
        let failed = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| LogError::Io { doing, path, source }
        };
        disk.make_folder(folder).map_err(failed("make", folder))?;
        let names = disk.list(folder).map_err(failed("list", folder))?;
        let mut generations = Vec::new();
        for name in names.iter().filter(|listed| !listed.folder).map(|listed| &listed.name) {
            if name.starts_with(PREFIX) && name.ends_with(UNFINISHED) {
                let path = folder.join(name);
                disk.remove(&path).map_err(failed("remove", &path))?;
            } else if let Some(number) = name.strip_prefix(PREFIX).and_then(|n| n.parse().ok()) {
                generations.push(number);
            }
        }
        generations.sort_unstable();
        let newest: Option<u64> = generations.pop();
        let mut reserve = Reserve::new(folder.join(RESERVE_FILE), RESERVE_BYTES);
        reserve.take(&*disk);
        let mut store = Self {
            disk,
            folder: folder.to_owned(),
            generation: newest.unwrap_or(0),
            file: None,
            reserve,
            syncs: 0,
            sync_time: Duration::ZERO,
        };
        let stored = newest.map(|_| store.read()).transpose()?;
        for older in generations {
            store.remove(older)?;
        }
        Ok((store, stored))
    }

    /// Makes a write durable; when this returns, it is.
    pub(crate) fn write(&mut self, mut write: Write) -> Result<(), LogError> {
        let began = Instant::now();
        if let Some(mut base) = write.base.take() {
            base.take(write);
            let bytes = frame(&encode(&Record::Base(base)));
            self.with_reserve(|store| store.rebase(&bytes))?;
        } else {
            let bytes = frame(&encode(&Record::Write(write)));
            self.with_reserve(|store| store.append(&bytes))?;
        }
        self.syncs += 1;
        self.sync_time += began.elapsed();
        Ok(())
    }

    /// Where the log lies, if it lives on its reserve because there is no other room.
    pub(crate) fn lives_on_reserve(&self) -> Option<&Path> {
        self.reserve.is_given_up().then_some(&*self.folder)
    }

    /// Takes the reserve anew if there is room. To be called now and then.
    pub(crate) fn restore_reserve(&mut self) {
        if self.reserve.is_given_up() {
            self.reserve.restore(&*self.disk);
        }
    }

    /// Writes, and as long as there is no room gives a piece of the reserve for it. A sync that found none is no such
    /// case: after that nothing is known of what was written.
    fn with_reserve(
        &mut self,
        mut write: impl FnMut(&mut Self) -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        let mut outcome = write(self);
        while outcome.as_ref().is_err_and(LogError::has_no_room) && self.reserve.give(&*self.disk) {
            outcome = write(self);
        }
        outcome
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), LogError> {
        // The first write of a member is a base, so there is a file.
        let Some((path, file, length)) = &mut self.file else { return Ok(()) };
        let failed = |doing| {
            let path = path.clone();
            move |source| LogError::Io { doing, path, source }
        };
        disk::write_all_at(&**file, bytes, *length).map_err(|(_, source)| failed(WRITE)(source))?;
        file.sync().map_err(failed("sync"))?;
        *length += bytes.len() as u64;
        Ok(())
    }

    fn rebase(&mut self, bytes: &[u8]) -> Result<(), LogError> {
        let next = self.generation + 1;
        let path = self.path(next);
        let unfinished = path.with_extension(&UNFINISHED[1..]);
        let failed = |doing| {
            let path = path.clone();
            move |source| LogError::Io { doing, path, source }
        };
        let file = self.disk.create(&unfinished).map_err(failed(MAKE))?;
        disk::write_all_at(&*file, bytes, 0).map_err(|(_, source)| failed(WRITE)(source))?;
        file.sync().map_err(failed("sync"))?;
        self.disk.rename(&unfinished, &path).map_err(failed("name"))?;
        self.disk.sync_folder(&self.folder).map_err(failed("sync the folder of"))?;
        let older = std::mem::replace(&mut self.generation, next);
        if self.file.replace((path, file, bytes.len() as u64)).is_some() {
            self.remove(older)?;
        }
        Ok(())
    }

    fn read(&mut self) -> Result<Stored, LogError> {
        let path = self.path(self.generation);
        let failed = |doing| {
            let path = path.clone();
            move |source| LogError::Io { doing, path, source }
        };
        let file = self.disk.open(&path).map_err(failed("open"))?;
        let bytes =
            disk::read_whole(&*self.disk, &path, 2 * PAYLOAD_MAX).map_err(failed("read"))?;
        let scanned = scan(&bytes);
        if scanned.damaged {
            return Err(LogError::Damaged { path, at: scanned.end });
        }
        let mut stored: Option<Stored> = None;
        for payload in &scanned.payloads {
            match (decode(&path, payload, scanned.end)?, &mut stored) {
                (Record::Base(base), None) => stored = Some(base),
                (Record::Write(write), Some(stored)) => stored.take(write),
                _ => return Err(LogError::Damaged { path, at: scanned.end }),
            }
        }
        // A file gets its name only with its base synced.
        let stored = stored.ok_or_else(|| LogError::Damaged { path: path.clone(), at: 0 })?;
        if scanned.end < bytes.len() {
            tracing::info!(
                file = %path.display(),
                bytes = bytes.len() - scanned.end,
                "cut the rest of a write that was never confirmed"
            );
            file.truncate(scanned.end as u64).map_err(failed("cut"))?;
            file.sync().map_err(failed("sync"))?;
        }
        self.file = Some((path, file, scanned.end as u64));
        Ok(stored)
    }

    fn remove(&self, generation: u64) -> Result<(), LogError> {
        let path = self.path(generation);
        let removed = self.disk.remove(&path);
        removed.map_err(|source| LogError::Io { doing: "remove", path, source })
    }

    fn path(&self, generation: u64) -> PathBuf {
        self.folder.join(format!("{PREFIX}{generation:010}"))
    }
}

fn encode(record: &Record) -> Vec<u8> {
    // Numbers, bytes and vectors only: there is nothing in it that postcard cannot write.
    postcard::to_extend(record, vec![VERSION]).expect("a record has a plain form")
}

fn decode(path: &Path, payload: &[u8], at: usize) -> Result<Record, LogError> {
    let path = || path.to_owned();
    match payload.split_first() {
        Some((&VERSION, rest)) => {
            postcard::from_bytes(rest).map_err(|_| LogError::Damaged { path: path(), at })
        }
        Some((&version, _)) => Err(LogError::Newer { path: path(), version }),
        None => Err(LogError::Damaged { path: path(), at }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use cluster_core::wire::{Body, LogEntry, Vote};
    use storage::testing::{FaultDisk, Survivors};
    use storage_core::NodeId;

    use super::*;

    fn first() -> Stored {
        Stored::first(&BTreeMap::from([(NodeId(1), "a".into()), (NodeId(2), "b".into())]))
    }

    fn entries(indices: std::ops::Range<u64>, term: u64) -> Write {
        let entry = |index| LogEntry { term, index, body: Body::Command(vec![7; 20]) };
        let vote = Some(Vote { term, vote: 1, commit: 1 });
        Write { base: None, entries: indices.map(entry).collect(), vote }
    }

    fn base(stored: Stored) -> Write {
        Write { base: Some(stored), ..Write::default() }
    }

    #[test]
    fn what_was_written_is_read_back_with_its_conflicts_cut() {
        let disk = FaultDisk::new();
        let folder = Path::new("/group");
        let (mut store, none) = LogStore::open(disk.shared(), folder).unwrap();
        assert_eq!(none, None);
        store.write(base(first())).unwrap();
        store.write(entries(2..6, 1)).unwrap();
        store.write(entries(4..5, 2)).unwrap();
        let (_, stored) = LogStore::open(disk.shared(), folder).unwrap();
        let stored = stored.unwrap();
        assert_eq!(
            stored.entries.iter().map(|e| (e.index, e.term)).collect::<Vec<_>>(),
            [(2, 1), (3, 1), (4, 2)]
        );
        assert_eq!(stored.vote.term, 2);
    }

    #[test]
    fn a_power_cut_at_any_sync_loses_nothing_that_was_confirmed() {
        for seed in 0..40_u64 {
            for off_at in 1..14 {
                let disk = FaultDisk::new();
                disk.off_at_sync(off_at);
                let folder = Path::new("/group");
                let mut confirmed = 0;
                if let Ok((mut store, _)) = LogStore::open(disk.shared(), folder) {
                    let writes = std::iter::once(base(first()))
                        .chain((2..9).map(|i| entries(i..i + 1, 1)))
                        .chain([base(Stored { entries: entries(2..9, 1).entries, ..first() })])
                        .chain((9..14).map(|i| entries(i..i + 1, 1)));
                    for write in writes {
                        let last = write.entries.last().map_or(confirmed, |e| e.index);
                        if store.write(write).is_err() {
                            break;
                        }
                        confirmed = last.max(1);
                    }
                }
                let after = disk.power_cut(Survivors::Seed(seed));
                let (_, stored) = LogStore::open(after.shared(), folder).unwrap();
                let last = stored.map_or(0, |s| s.entries.last().map_or(1, |e| e.index));
                assert!(last >= confirmed, "seed {seed}, sync {off_at}: {last} < {confirmed}");
            }
        }
    }

    #[test]
    fn damage_is_named_with_its_file_and_remedy() {
        let disk = FaultDisk::new();
        let folder = Path::new("/group");
        let (mut store, _) = LogStore::open(disk.shared(), folder).unwrap();
        store.write(base(first())).unwrap();
        store.write(entries(2..3, 1)).unwrap();
        store.write(entries(3..4, 1)).unwrap();
        disk.rot(Path::new("/group/log-0000000001"), 40, 0x10);
        let error = LogStore::open(disk.shared(), folder).unwrap_err().to_string();
        assert!(error.contains("/group/log-0000000001") && error.contains("never used"), "{error}");
    }

    /// What is confirmed on a full disk is there; what does not fit is refused; with room the reserve is taken anew.
    #[test]
    fn on_a_full_disk_the_log_lives_on_its_reserve_and_confirms_nothing_that_is_not_written() {
        let disk = FaultDisk::new();
        let folder = Path::new("/group");
        let (mut store, _) = LogStore::open(disk.shared(), folder).unwrap();
        store.write(base(first())).unwrap();
        disk.set_capacity(Some(disk.used() + 10));
        let long = |indices: std::ops::Range<u64>| {
            let entry = |index| LogEntry { term: 1, index, body: Body::Command(vec![7; 10_000]) };
            Write { base: None, entries: indices.map(entry).collect(), vote: None }
        };
        let (mut confirmed, mut bases) = (1, 0);
        let refused = loop {
            let next = confirmed + 1;
            let write = if next % 50 == 0 {
                bases += 1;
                base(Stored { entries: long(2..next + 1).entries, ..first() })
            } else {
                long(next..next + 1)
            };
            match store.write(write) {
                Ok(()) => confirmed = next,
                Err(error) => break error,
            }
            assert_eq!(store.lives_on_reserve(), Some(folder));
            assert!(confirmed < 1_000, "a reserve has an end");
        };
        assert!(confirmed > 100 && bases > 1, "{confirmed} entries, {bases} bases");
        assert!(
            matches!(&refused, LogError::Io { source, .. } if disk::is_full(source)),
            "{refused}"
        );
        let last = |disk: &FaultDisk| {
            let (_, stored) = LogStore::open(disk.shared(), folder).unwrap();
            stored.unwrap().entries.last().unwrap().index
        };
        assert!(last(&disk.power_cut(Survivors::None)) >= confirmed);
        store.restore_reserve();
        assert!(store.lives_on_reserve().is_some(), "there is no room for it");
        disk.set_capacity(None);
        store.restore_reserve();
        assert_eq!(store.lives_on_reserve(), None);
        store.write(entries(confirmed + 1..confirmed + 2, 2)).unwrap();
        assert_eq!(last(&disk), confirmed + 1);
    }
}
