//! Wraps the data keys of voice files with the active key, after another one became that. The audio is
//! not touched: of each recording a file of some hundred bytes is written again. Captures keep the key
//! that they have: they are sealed soon, or wait for the node to seal them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use storage_core::key_file::KeyName;
use storage_core::naming;
use storage_core::wrapped_key::{KeyUse, KeysFile};

use crate::disk::RealDisk;
use crate::journal_error::JournalError;
use crate::key_survey::{captures, keys_files};
use crate::keys::Keys;
use crate::lock::{DataLock, LockError};
use crate::voice_file::VoiceError;
use crate::voice_store::VoiceStore;

/// What was done.
#[derive(Debug, Default)]
pub struct Rewrapped {
    /// Files of data keys that were written anew.
    pub rewrapped: usize,
    /// Those that had the active key already.
    pub already: usize,
    /// Those that could not be.
    pub failed: Vec<VoiceError>,
    /// Captured segments that still need a former key.
    pub captured: BTreeMap<KeyName, usize>,
}

/// Why nothing, or not everything, was done.
#[derive(Debug, thiserror::Error)]
pub enum RewrapError {
    /// A node is running on the folder.
    #[error(transparent)]
    Locked(#[from] LockError),
    /// The voice folder cannot be read or written.
    #[error(transparent)]
    Voice(#[from] VoiceError),
    /// The capture journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Goes through a data folder, which no node may be running on. It may be done again after a failure:
/// each file is whole before and after.
///
/// # Errors
/// [`RewrapError`]; what fails for single recordings is in the answer.
pub fn rewrap(dir: &Path, keys: &Keys) -> Result<Rewrapped, RewrapError> {
    let _lock = DataLock::take(dir)?;
    let store = VoiceStore::open_on(RealDisk::shared(), dir)?.with_keys(keys.clone());
    let mut done = Rewrapped::default();
    let mut changed: Option<PathBuf> = None;
    for path in keys_files(&store)? {
        // One sync for all files of a folder.
        if let (Some(before), Some(folder)) = (&changed, path.parent())
            && before != folder
        {
            store.sync_folder(before)?;
            changed = None;
        }
        match rewrap_one(&store, &path) {
            Ok(true) => {
                done.rewrapped += 1;
                changed = path.parent().map(Path::to_owned);
            }
            Ok(false) => done.already += 1,
            Err(error @ (VoiceError::Full { .. } | VoiceError::Io { .. })) => {
                return Err(error.into());
            }
            Err(error) => done.failed.push(error),
        }
    }
    if let Some(folder) = changed {
        store.sync_folder(&folder)?;
    }
    done.captured = captures(dir)?;
    let active = keys.names().next();
    done.captured.retain(|name, _| Some(name) != active);
    Ok(done)
}

/// Tells whether there was something to do.
fn rewrap_one(store: &VoiceStore, path: &Path) -> Result<bool, VoiceError> {
    let Some(mut file) = store.read_keys(path)? else { return Ok(false) };
    let mut changed = false;
    for key in &mut file.keys {
        let made_for = KeyUse::Voice(file.recordingid, key.file);
        let anew = store.keys().rewrap(&key.key, &made_for);
        let anew = anew.map_err(|why| VoiceError::Key { path: path.to_owned(), why })?;
        if let Some(anew) = anew {
            key.key = anew;
            changed = true;
        }
    }
    if changed {
        replace(store, path, &file)?;
    }
    Ok(changed)
}

fn replace(store: &VoiceStore, path: &Path, file: &KeysFile) -> Result<(), VoiceError> {
    // What a crash leaves there is removed by the next start.
    let written = store.path(naming::sealing_folder()).join("rewrapped");
    store.write_keys(&written, file)?;
    store.rename(&written, path)
}
