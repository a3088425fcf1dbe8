//! The bytes of a voice file on their way to the disk: front to back, through a buffer, hashed. What
//! the bytes are is decided by whoever writes them.

use std::io;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::disk::{DiskFile, read_full_at, write_all_at};

/// Written and read in pieces of this size.
const PIECE_BYTES: usize = 64 << 10;

/// A file that is being written.
pub(crate) struct VoiceOut {
    file: Arc<dyn DiskFile>,
    sha256: Sha256,
    /// Where the buffer's first byte goes.
    offset: u64,
    buffer: Vec<u8>,
}

/// A file that is written, and not yet durable.
pub(crate) struct Written {
    pub file: Arc<dyn DiskFile>,
    /// Bytes that were given.
    pub bytes: u64,
    /// Their SHA-256, lower-case hex.
    pub sha256: String,
}

impl VoiceOut {
    /// Writes into an empty file.
    pub fn new(file: Arc<dyn DiskFile>) -> Self {
        let buffer = Vec::with_capacity(PIECE_BYTES);
        Self { file, sha256: Sha256::new(), offset: 0, buffer }
    }

    /// Adds bytes.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sha256.update(bytes);
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.buffer.len() == PIECE_BYTES {
                self.flush()?;
            }
            let (now, later) = rest.split_at(rest.len().min(PIECE_BYTES - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            rest = later;
        }
        Ok(())
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
    pub fn finish(mut self) -> io::Result<Written> {
        self.flush()?;
        let Self { file, sha256, offset, .. } = self;
        Ok(Written { file, bytes: offset, sha256: hex(&sha256.finalize()) })
    }

    fn flush(&mut self) -> io::Result<()> {
        write_all_at(&*self.file, &self.buffer, self.offset).map_err(|(_, error)| error)?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
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
            return Ok((offset, hex(&sha256.finalize())));
        }
        sha256.update(&piece[..count]);
        offset += count as u64;
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
