//! Makes a plain voice file of an encrypted one, for a person who has the key file. Of the data folder it
//! needs only the voice file, its data key and its record, which may have been copied elsewhere; it
//! writes nothing there.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use storage_core::{Recording, hex, naming};

use crate::disk::{DiskFile, RealDisk, read_full_at};
use crate::keys::Keys;
use crate::voice_file::VoiceError;
use crate::voice_store::VoiceStore;

const PIECE_BYTES: usize = 64 << 10;

/// Why there is no plain file.
#[derive(Debug, thiserror::Error)]
pub enum DecryptError {
    /// The name is none of an encrypted voice file.
    #[error("{} is no encrypted voice file: its name does not end in .enc", .0.display())]
    NotEncrypted(PathBuf),
    /// The record beside it does not belong to it.
    #[error("{} is not the record of {}", record.display(), path.display())]
    Record {
        /// The record.
        record: PathBuf,
        /// The voice file.
        path: PathBuf,
    },
    /// The voice file, its data key or its record.
    #[error(transparent)]
    Voice(#[from] VoiceError),
    /// It is there already.
    #[error("{} is there already: remove it, or choose another folder with --out", .0.display())]
    Exists(PathBuf),
    /// It breaks off, or cannot be written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Writes the plain file of `path` into the folder `out`, and tells its name. It is compared with its
/// record's checksum before it has that name.
///
/// # Errors
/// [`DecryptError`]; nothing is left then.
pub fn decrypt(keys: &Keys, path: &Path, out: &Path) -> Result<PathBuf, DecryptError> {
    let not_encrypted = || DecryptError::NotEncrypted(path.to_owned());
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(not_encrypted)?;
    let (id, _) = name.split_once('.').ok_or_else(not_encrypted)?;
    let plain = naming::decrypted(name).ok_or_else(not_encrypted)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let store = VoiceStore::at(RealDisk::shared(), folder).with_keys(keys.clone());
    let record_path = folder.join(format!("{id}.json"));
    let record = store.read_record(&record_path)?;
    if record.recordingid.to_string() != id || !record.encrypted {
        let path = path.to_owned();
        return Err(DecryptError::Record { record: record_path, path });
    }
    let found = store.find(path.to_owned(), &[folder.join(format!("{id}.key"))], &record)?;
    let file = store.unlock(found)?;
    let target = out.join(plain);
    if target.exists() {
        return Err(DecryptError::Exists(target));
    }
    let part = out.join(format!(".{plain}.part"));
    let written = copy(&file, path, &part, &record).and_then(|()| {
        fs::rename(&part, &target).map_err(|error| DecryptError::Io { path: target.clone(), error })
    });
    if written.is_err() {
        // The error is what counts.
        let _ = fs::remove_file(&part);
    }
    written.map(|()| target)
}

fn copy(
    file: &Arc<dyn DiskFile>,
    from: &Path,
    to: &Path,
    record: &Recording,
) -> Result<(), DecryptError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| DecryptError::Io { path, error }
    };
    let mut out = File::create(to).map_err(failed(to))?;
    let mut sha256 = Sha256::new();
    let mut piece = vec![0; PIECE_BYTES];
    let mut offset = 0;
    loop {
        let count = read_full_at(&**file, &mut piece, offset).map_err(failed(from))?;
        if count == 0 {
            break;
        }
        sha256.update(&piece[..count]);
        out.write_all(&piece[..count]).map_err(failed(to))?;
        offset += count as u64;
    }
    if hex::encode(&sha256.finalize()) != record.sha256 {
        return Err(VoiceError::Altered { path: from.to_owned() }.into());
    }
    out.sync_all().map_err(failed(to))
}
