//! The bytes of a voice file on their way to the disk, hashed as they are before any encryption. What
//! the bytes are is decided by whoever writes them.

use std::io;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use storage_core::hex;

use crate::disk::{DiskFile, read_full_at};
use crate::file_out::FileOut;

/// Read in pieces of this size.
const PIECE_BYTES: usize = 64 << 10;

/// A voice file that is being written.
pub(crate) struct VoiceOut {
    out: FileOut,
    sha256: Sha256,
}

/// A voice file that is written, and not yet durable.
pub(crate) struct Written {
    /// As it lies on the disk.
    pub file: Arc<dyn DiskFile>,
    /// Bytes that were given.
    pub bytes: u64,
    /// Their SHA-256, lower-case hex.
    pub sha256: String,
}

impl VoiceOut {
    pub fn new(out: FileOut) -> Self {
        Self { out, sha256: Sha256::new() }
    }

    /// Adds bytes.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sha256.update(bytes);
        self.out.write(bytes)
    }

    /// Adds bytes that are made one by one.
    pub fn write_each<const N: usize>(
        &mut self,
        bytes: impl Iterator<Item = [u8; N]>,
    ) -> io::Result<()> {
        let mut piece = [0; 512];
        let mut count = 0;
        for some in bytes {
            piece[count..count + N].copy_from_slice(&some);
            count += N;
            if count + N > piece.len() {
                self.write(&piece[..count])?;
                count = 0;
            }
        }
        self.write(&piece[..count])
    }

    /// Writes what is left.
    pub fn finish(self) -> io::Result<Written> {
        let finished = self.out.finish()?;
        let sha256 = hex::encode(&self.sha256.finalize());
        Ok(Written { file: finished.file, bytes: finished.given, sha256 })
    }
}

/// Length and SHA-256 of a file.
///
/// # Errors
/// If it cannot be read.
pub fn hash(file: &dyn DiskFile) -> io::Result<(u64, String)> {
    let mut sha256 = Sha256::new();
    let mut piece = vec![0; PIECE_BYTES];
    let mut offset = 0;
    loop {
        let count = read_full_at(file, &mut piece, offset)?;
        if count == 0 {
            return Ok((offset, hex::encode(&sha256.finalize())));
        }
        sha256.update(&piece[..count]);
        offset += count as u64;
    }
}
