//! Which keys what lies in a data folder needs: what is captured and not sealed, and what is published or
//! staged. It needs no key for that and changes nothing, so a node may be running.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use storage_core::key_file::KeyName;
use storage_core::naming;

use crate::disk::{Disk, RealDisk};
use crate::journal_error::JournalError;
use crate::journal_open::{Tail, Whose, scan};
use crate::voice_file::VoiceError;
use crate::voice_store::VoiceStore;

/// Captured segments that are not sealed, this node's and those that it keeps for others, by the key
/// that each needs.
///
/// # Errors
/// [`JournalError`] if the journal cannot be read. None is no error.
pub fn captures(dir: &Path) -> Result<BTreeMap<KeyName, usize>, JournalError> {
    let mut needed = BTreeMap::new();
    let mut survey = |dir: &Path, whose| -> Result<(), JournalError> {
        let folder = dir.join(naming::CAPTURE_FOLDER);
        if folder.is_dir() {
            for (_, key) in scan(&RealDisk, &folder, Tail::Keep, whose)?.locked {
                *needed.entry(key.name).or_default() += 1;
            }
        }
        Ok(())
    };
    survey(dir, Whose::Own)?;
    let mirrors = dir.join(naming::MIRROR_FOLDER);
    if mirrors.is_dir() {
        let listed = RealDisk.list(&mirrors);
        let listed = listed.map_err(|error| JournalError::io("cannot list", &mirrors, error))?;
        for peer in listed.iter().filter(|entry| entry.folder) {
            survey(&mirrors.join(&peer.name), Whose::Other)?;
        }
    }
    Ok(needed)
}

/// Encrypted voice files, by the key that each needs.
#[derive(Debug, Default)]
pub struct VoiceKeys {
    /// How many.
    pub needed: BTreeMap<KeyName, usize>,
    /// Files of data keys that cannot be read.
    pub broken: Vec<VoiceError>,
}

/// Looks through the voice folder.
///
/// # Errors
/// [`VoiceError`] if a folder cannot be listed. None is no error.
pub fn voices(dir: &Path) -> Result<VoiceKeys, VoiceError> {
    let mut found = VoiceKeys::default();
    if !dir.join(naming::VOICE_FOLDER).is_dir() {
        return Ok(found);
    }
    let store = VoiceStore::at(RealDisk::shared(), dir);
    for path in keys_files(&store)? {
        match store.read_keys(&path) {
            Ok(Some(keys)) => {
                // Two are in it only while a file is replaced, and the newer one comes first.
                let newest = keys.keys.first().map(|key| key.key.name.clone());
                newest.into_iter().for_each(|name| *found.needed.entry(name).or_default() += 1);
            }
            // It was replaced or removed meanwhile.
            Ok(None) => {}
            Err(error) => found.broken.push(error),
        }
    }
    Ok(found)
}

/// All files of data keys, of what is published and what is staged.
pub(crate) fn keys_files(store: &VoiceStore) -> Result<Vec<PathBuf>, VoiceError> {
    let mut files = Vec::new();
    let mut folders = store.day_folders()?;
    let staged = naming::staged_folder();
    folders.extend([naming::of_copies(&staged), staged].map(|folder| store.path(folder)));
    for folder in folders {
        let listed = match store.disk().list(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            listed => listed.map_err(|error| VoiceError::io("cannot list", &folder, error))?,
        };
        let keys = listed.into_iter().filter(|entry| naming::is_keys_file(&entry.name));
        files.extend(keys.map(|entry| folder.join(entry.name)));
    }
    Ok(files)
}
