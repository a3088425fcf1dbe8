//! What of the capture journal is durable: the state that its writer shares with readers, and the
//! handle with which another thread makes it durable. One sync covers all calls.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use storage_core::journal::{FILE_HEADER_BYTES, Place};

use crate::disk::{Disk, DiskFile};
use crate::journal_error::JournalError;
use crate::journal_index::Index;

/// What the writer, the syncing thread and the readers share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub index: Index,
    /// Files with content that is not durable yet.
    unsynced: Vec<(u32, PathBuf, Arc<dyn DiskFile>)>,
    /// Whether names in the folder were changed and that is not durable yet.
    folder_unsynced: bool,
    /// Bytes ever appended by this process, and how many of them are durable.
    pub appended: u64,
    pub durable: u64,
    /// A sync has failed: nobody can tell what is durable, so nothing may be removed any more.
    pub distrust: bool,
    /// Which journal this is; see [`crate::journal_identity`].
    pub identity: u64,
    /// How long the files are that this process has begun and not removed: whole frames only.
    lengths: BTreeMap<u32, u64>,
    /// Told whenever something was appended.
    pub grown: Arc<Condvar>,
}

pub(crate) fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    // The index is changed in whole steps; one that panicked half way would be a bug, and going
    // on with capture is better than stopping all calls for it.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(index: Index, identity: u64) -> Self {
        Self { index, identity, ..Self::default() }
    }

    /// A file was begun: it, its name and its header are to be made durable.
    pub(crate) fn begin_file(&mut self, number: u32, path: &Path, file: &Arc<dyn DiskFile>) {
        self.index.add_file(number);
        self.folder_unsynced = true;
        self.appended(number, path, file, FILE_HEADER_BYTES as u64);
    }

    /// An earlier process has left a file that may not be durable.
    pub(crate) fn left(&mut self, number: u32, path: &Path, file: &Arc<dyn DiskFile>) {
        self.unsynced.push((number, path.to_owned(), Arc::clone(file)));
    }

    /// So many bytes were appended to a file.
    pub(crate) fn appended(
        &mut self,
        number: u32,
        path: &Path,
        file: &Arc<dyn DiskFile>,
        bytes: u64,
    ) {
        self.appended += bytes;
        *self.lengths.entry(number).or_default() += bytes;
        self.grown.notify_all();
        if self.unsynced.last().is_none_or(|(last, ..)| *last != number) {
            self.unsynced.push((number, path.to_owned(), Arc::clone(file)));
        }
    }

    /// Where the next byte goes.
    pub(crate) fn head(&self) -> Place {
        let head = self.lengths.last_key_value();
        let (file, length) = head.map_or((0, 0), |(file, length)| (*file, *length));
        Place { file, offset: u32::try_from(length).unwrap_or(u32::MAX) }
    }

    /// Where a file that this process has begun ends; `None` if it is gone.
    pub(crate) fn end_of(&self, file: u32) -> Option<Place> {
        let length = self.lengths.get(&file)?;
        Some(Place { file, offset: u32::try_from(*length).unwrap_or(u32::MAX) })
    }

    /// A file was removed.
    pub(crate) fn removed(&mut self, file: u32) {
        self.lengths.remove(&file);
        self.index.remove_file(file);
        self.folder_unsynced = true;
    }
}

/// Makes the journal durable from a thread of its own, so that a slow disk does not hold up the
/// one that appends.
#[derive(Clone, Debug)]
pub struct SyncHandle {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    shared: Arc<Mutex<Shared>>,
    /// One sync at a time.
    turn: Arc<Mutex<()>>,
}

impl SyncHandle {
    pub(crate) fn new(disk: Arc<dyn Disk>, folder: PathBuf, shared: Arc<Mutex<Shared>>) -> Self {
        Self { disk, folder, shared, turn: Arc::default() }
    }

    /// Makes everything last that was appended before the call.
    ///
    /// # Errors
    /// [`JournalError::Io`]: what was appended since the last success may not survive a power
    /// cut, and trying again does not change that (Linux drops what it could not write). What is
    /// appended later can be made durable as ever. No journal file is removed any more before the
    /// journal is opened again.
    pub fn sync(&self) -> Result<(), JournalError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let (files, folder, leaving, appended) = {
            let mut shared = lock(&self.shared);
            let files = std::mem::take(&mut shared.unsynced);
            let folder = std::mem::take(&mut shared.folder_unsynced);
            (files, folder, shared.index.leaving(), shared.appended)
        };
        let mut outcome = Ok(());
        for (_, path, file) in &files {
            let synced = file.sync();
            outcome = outcome.and(synced.map_err(|e| JournalError::io("cannot sync", path, e)));
        }
        if folder {
            let synced = self.disk.sync_folder(&self.folder);
            let synced = synced.map_err(|e| JournalError::io("cannot sync", &self.folder, e));
            outcome = outcome.and(synced);
        }
        let mut shared = lock(&self.shared);
        match &outcome {
            Ok(()) => {
                shared.durable = appended;
                shared.index.settle(&leaving, appended);
            }
            Err(_) => shared.distrust = true,
        }
        outcome
    }

    /// Whether something was appended that is not durable yet.
    #[must_use]
    pub fn needs_sync(&self) -> bool {
        let shared = lock(&self.shared);
        !shared.unsynced.is_empty() || shared.folder_unsynced
    }
}
