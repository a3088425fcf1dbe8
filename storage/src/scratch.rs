//! Files that only this process reads, and only while it runs: written once, then read any number of
//! times. Encrypted ones have a key that exists in memory alone, so that what a crash leaves of them is
//! nothing to anybody.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use storage_core::RecordingId;
use storage_core::cipher_file::FilePrefix;

use crate::disk::{Disk, DiskFile};
use crate::file_out::FileOut;
use crate::keys::{Cipher, random};

/// Writes one.
#[derive(Debug)]
pub struct ScratchWriter {
    path: PathBuf,
    out: FileOut,
}

impl ScratchWriter {
    /// Begins a file.
    ///
    /// # Errors
    /// As the disk gives them, or if the machine has no random bytes; in all methods here.
    pub fn create(disk: &dyn Disk, path: &Path, encrypted: bool) -> io::Result<Self> {
        let file = disk.create(path)?;
        let out = if encrypted {
            let cipher = Cipher::at_random().map_err(io::Error::other)?;
            let prefix = FilePrefix(random().map_err(io::Error::other)?);
            // It is nobody's voice file.
            FileOut::encrypted(file, cipher, prefix, RecordingId(uuid::Uuid::nil()))?
        } else {
            FileOut::plain(file)
        };
        Ok(Self { path: path.to_owned(), out })
    }

    /// Adds bytes. After an error the file is of no further use.
    ///
    /// # Errors
    /// As the disk gives them.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write(bytes)
    }

    /// Writes what is left, and gives the file to be read.
    ///
    /// # Errors
    /// As the disk gives them.
    pub fn finish(self) -> io::Result<Arc<dyn DiskFile>> {
        self.out.finish()?.reading(&self.path)
    }
}
