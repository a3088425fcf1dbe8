//! Brings the catalog in line with the records beside the voice files: as a whole when it must be
//! rebuilt, or for the newest days only at a start, because a record is durable before its catalog
//! entry is. What it cannot enter it names.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use storage_core::naming::Named;
use storage_core::{Recording, RecordingId};

use crate::catalog::{Catalog, CatalogError};
use crate::catalog_durable::DurableCatalog;
use crate::catalog_place::CatalogState;
use crate::disk::Listed;
use crate::voice_file::VoiceError;
use crate::voice_store::{VoiceStore, is_missing};

/// Recordings entered at a time: a commit costs as much as thousands of them.
const GROUP: usize = 4096;
/// Days that are compared at a start: whatever was published in the minutes before a crash lies
/// in the last one or, around midnight and for calls of many hours, in the one before.
const DAYS_COMPARED: usize = 2;

/// A pair of record and voice file that is no whole one.
#[derive(Debug, thiserror::Error)]
pub enum BrokenPair {
    /// A record that cannot be read, or whose voice file is missing or has another length.
    #[error(transparent)]
    File(VoiceError),
    /// A voice file without a record.
    #[error(
        "{} has no record beside it: restore the record from a copy, or remove the file",
        .0.display()
    )]
    NoRecord(PathBuf),
    /// A file of a recording that was deleted.
    #[error(
        "{} is of recording {id}, which was deleted, and is not listed again: remove it", path.display()
    )]
    Deleted {
        /// The file.
        path: PathBuf,
        /// The recording.
        id: RecordingId,
    },
    /// A record in the wrong place.
    #[error("{} is the record of {id}: put it where that belongs", path.display())]
    Misplaced {
        /// The file.
        path: PathBuf,
        /// The recording that it describes.
        id: RecordingId,
    },
}

/// What was done.
#[derive(Debug, Default)]
pub struct Reindexed {
    /// Recordings entered.
    pub entered: u64,
    /// Why a catalog that seemed sound was rebuilt all the same.
    pub damage: Option<CatalogError>,
    /// What could not be entered.
    pub broken: Vec<BrokenPair>,
}

/// Why it was not completed.
#[derive(Debug, thiserror::Error)]
pub enum ReindexError {
    /// The catalog.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A folder that cannot be listed.
    #[error(transparent)]
    Folder(VoiceError),
}

/// Rebuilds the catalog from all records.
///
/// # Errors
/// [`ReindexError`]; the catalog counts as incomplete then, and the next start tries again.
pub fn rebuild(store: &VoiceStore, catalog: &DurableCatalog) -> Result<Reindexed, ReindexError> {
    catalog.begin_rebuild()?;
    let mut reindexed = Reindexed::default();
    for folder in day_folders(store)? {
        enter(store, catalog, &folder, |_| Ok(true), &mut reindexed)?;
    }
    catalog.end_rebuild()?;
    Ok(reindexed)
}

/// Does what a start needs: rebuilds a catalog that cannot be relied on. Of a sound one it compares the newest
/// days' records, and enters those that it lacks; then it reads all of it, and rebuilds it if it is damaged.
///
/// # Errors
/// [`ReindexError`].
pub fn at_start(
    store: &VoiceStore,
    catalog: &DurableCatalog,
    state: &CatalogState,
) -> Result<Reindexed, ReindexError> {
    if *state != CatalogState::Sound {
        return rebuild(store, catalog);
    }
    let compared = compare_newest(store, catalog);
    match compared.and_then(|done| catalog.check().map(|()| done).map_err(ReindexError::from)) {
        Err(ReindexError::Catalog(damage @ CatalogError::Damaged { .. })) => {
            let reindexed = rebuild(store, catalog)?;
            Ok(Reindexed { damage: Some(damage), ..reindexed })
        }
        done => done,
    }
}

fn compare_newest(store: &VoiceStore, catalog: &DurableCatalog) -> Result<Reindexed, ReindexError> {
    let mut reindexed = Reindexed::default();
    for folder in day_folders(store)?.iter().rev().take(DAYS_COMPARED) {
        let lacks = |id| catalog.get(id).map(|known| known.is_none());
        enter(store, catalog, folder, lacks, &mut reindexed)?;
    }
    Ok(reindexed)
}

/// Enters the records of one folder that are wanted.
fn enter(
    store: &VoiceStore,
    catalog: &DurableCatalog,
    folder: &Path,
    wanted: impl Fn(RecordingId) -> Result<bool, CatalogError>,
    reindexed: &mut Reindexed,
) -> Result<(), ReindexError> {
    let names = list(store, folder)?;
    let named = |entry: &Listed| Named::parse(&entry.name).filter(|_| !entry.folder);
    let named_all: BTreeSet<_> = names.iter().filter_map(named).collect();
    let mut group = Vec::new();
    for entry in &names {
        let path = folder.join(&entry.name);
        match named(entry) {
            // Somebody has put its files back.
            Some(Named::Record(id) | Named::Voice(id)) if store.is_deleted(id) => {
                reindexed.broken.push(BrokenPair::Deleted { path, id });
            }
            Some(Named::Record(id)) if wanted(id)? => match whole_pair(store, &path, id) {
                Ok(record) => group.push(record),
                Err(broken) => reindexed.broken.push(broken),
            },
            Some(Named::Voice(id)) if !named_all.contains(&Named::Record(id)) => {
                reindexed.broken.push(BrokenPair::NoRecord(path));
            }
            _ => {}
        }
        if group.len() == GROUP {
            reindexed.entered += fill(store, catalog, &group)?;
            group.clear();
        }
    }
    reindexed.entered += fill(store, catalog, &group)?;
    Ok(())
}

/// Enters records, and takes out again what was deleted since they were read.
fn fill(
    store: &VoiceStore,
    catalog: &DurableCatalog,
    group: &[Recording],
) -> Result<u64, ReindexError> {
    catalog.fill(group)?;
    let mut entered = group.len() as u64;
    for record in group.iter().filter(|record| store.is_deleted(record.recordingid)) {
        catalog.remove(record.recordingid)?;
        entered -= 1;
    }
    Ok(entered)
}

/// A record whose voice file is there and has the right length, or lies in the archive. (Its content is the matter of
/// `astlogger verify`: reading all audio would take hours.)
fn whole_pair(store: &VoiceStore, path: &Path, id: RecordingId) -> Result<Recording, BrokenPair> {
    let record = store.read_record(path).map_err(BrokenPair::File)?;
    if record.recordingid != id || store.record_path(&record) != path {
        let id = record.recordingid;
        return Err(BrokenPair::Misplaced { path: path.to_owned(), id });
    }
    match store.look(&record) {
        // Its voice file was removed on purpose.
        Err(error)
            if is_missing(&error)
                && record.archived.as_ref().is_some_and(|archived| archived.is_of(&record)) => {}
        looked => drop(looked.map_err(BrokenPair::File)?),
    }
    Ok(record)
}

fn day_folders(store: &VoiceStore) -> Result<Vec<PathBuf>, ReindexError> {
    store.day_folders().map_err(ReindexError::Folder)
}

fn list(store: &VoiceStore, folder: &Path) -> Result<Vec<Listed>, ReindexError> {
    let listed = store.disk().list(folder);
    listed.map_err(|error| ReindexError::Folder(VoiceError::io("cannot list", folder, error)))
}
