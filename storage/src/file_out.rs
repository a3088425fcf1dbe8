//! A file that is written from front to back through a buffer, plain or encrypted chunk by chunk. How
//! the encrypted form looks is in [`storage_core::cipher_file`]; what is written is the caller's matter.

use std::io;
use std::sync::Arc;

use storage_core::RecordingId;
use storage_core::cipher_file::{CHUNK_BYTES, CipherHeader, FilePrefix, TAG_BYTES};
use storage_core::journal_cipher::CipherRefused;

use crate::cipher_read::CipherFile;
use crate::disk::{DiskFile, write_all_at};
use crate::keys::Cipher;

/// A file that is being written. After an error it is of no further use.
#[derive(Debug)]
pub(crate) struct FileOut {
    file: Arc<dyn DiskFile>,
    /// Bytes that were given and are not in the buffer.
    given: u64,
    /// Where the buffer's first byte goes.
    offset: u64,
    buffer: Vec<u8>,
    chunks: Option<Chunks>,
}

/// What encrypts.
#[derive(Debug)]
struct Chunks {
    cipher: Cipher,
    header: CipherHeader,
    next: u32,
}

impl FileOut {
    /// Writes into an empty file as it is given.
    pub fn plain(file: Arc<dyn DiskFile>) -> Self {
        Self::new(file, None)
    }

    /// Writes encrypted, with a key that is used for nothing else.
    pub fn encrypted(
        file: Arc<dyn DiskFile>,
        cipher: Cipher,
        prefix: FilePrefix,
        recordingid: RecordingId,
    ) -> io::Result<Self> {
        let header = CipherHeader { file: prefix, recordingid };
        let bytes = header.encode();
        write_all_at(&*file, &bytes, 0).map_err(|(_, error)| error)?;
        let mut out = Self::new(file, Some(Chunks { cipher, header, next: 0 }));
        out.offset = bytes.len() as u64;
        Ok(out)
    }

    fn new(file: Arc<dyn DiskFile>, chunks: Option<Chunks>) -> Self {
        let buffer = Vec::with_capacity(CHUNK_BYTES + TAG_BYTES);
        Self { file, given: 0, offset: 0, buffer, chunks }
    }

    /// Adds bytes.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            // Only when more comes it is sure that a chunk is not the last one.
            if self.buffer.len() == CHUNK_BYTES {
                self.flush(false)?;
            }
            let (now, later) = rest.split_at(rest.len().min(CHUNK_BYTES - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            rest = later;
        }
        Ok(())
    }

    /// Writes what is left, and tells how many bytes were given in all.
    pub fn finish(mut self) -> io::Result<Finished> {
        self.flush(true)?;
        let Self { file, given, chunks, .. } = self;
        Ok(Finished { file, given, chunks })
    }

    fn flush(&mut self, last: bool) -> io::Result<()> {
        self.given += self.buffer.len() as u64;
        if let Some(chunks) = &mut self.chunks {
            chunks.encrypt(&mut self.buffer, last)?;
        }
        write_all_at(&*self.file, &self.buffer, self.offset).map_err(|(_, error)| error)?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl Chunks {
    fn encrypt(&mut self, chunk: &mut Vec<u8>, last: bool) -> io::Result<()> {
        let nonce = self.header.file.nonce(self.next, last);
        let tag = self.cipher.seal(nonce, &self.header.encode(), chunk);
        chunk.extend_from_slice(&tag.map_err(|CipherRefused| io::Error::other(CipherRefused))?);
        // Counted whether or not the chunk reaches the disk.
        let too_long = || io::Error::from(io::ErrorKind::FileTooLarge);
        self.next = self.next.checked_add(1).ok_or_else(too_long)?;
        Ok(())
    }
}

/// A file that is written, and not durable.
pub(crate) struct Finished {
    /// As it lies on the disk.
    pub file: Arc<dyn DiskFile>,
    /// Bytes that were given.
    pub given: u64,
    chunks: Option<Chunks>,
}

impl Finished {
    /// What was given, to be read again.
    pub fn reading(self, path: &std::path::Path) -> io::Result<Arc<dyn DiskFile>> {
        match self.chunks {
            None => Ok(self.file),
            Some(Chunks { cipher, header, .. }) => {
                Ok(Arc::new(CipherFile::new(self.file, path, cipher, header)?))
            }
        }
    }
}
