//! Reads an encrypted file as if it were plain: whoever reads a voice file or what was pulled from a peer
//! does so through here. Only the chunks that are touched are decrypted, and the last one is kept, so
//! that going on costs it once. How the file looks is in [`storage_core::cipher_file`].

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use storage_core::cipher_file::{CHUNK_BYTES, Chunk, CipherHeader, Layout, TAG_BYTES};
use storage_core::journal_cipher::CipherRefused;

use crate::disk::{DiskFile, read_full_at};
use crate::keys::Cipher;

/// A part of an encrypted file that was altered, or is damaged.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} is damaged or was altered between its bytes {from} and {to}: restore it from a copy",
    path.display()
)]
pub struct CipherDamage {
    /// The file.
    pub path: PathBuf,
    /// First byte of the chunk, in the encrypted file.
    pub from: u64,
    /// Behind its last byte.
    pub to: u64,
}

/// An encrypted file, read as what was encrypted.
#[derive(Debug)]
pub(crate) struct CipherFile {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    cipher: Cipher,
    header: CipherHeader,
    layout: Layout,
    kept: Mutex<Kept>,
}

/// A chunk in memory.
#[derive(Default)]
struct Kept {
    number: Option<u32>,
    bytes: Vec<u8>,
}

/// Without the audio.
impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("number", &self.number).finish_non_exhaustive()
    }
}

impl CipherFile {
    /// Of a file with this header.
    pub fn new(
        file: Arc<dyn DiskFile>,
        path: &Path,
        cipher: Cipher,
        header: CipherHeader,
    ) -> io::Result<Self> {
        let layout = Layout::of_file(file.length()?).ok_or(io::ErrorKind::UnexpectedEof)?;
        let path = path.to_owned();
        Ok(Self { file, path, cipher, header, layout, kept: Mutex::default() })
    }

    fn decrypt(&self, chunk: Chunk, bytes: &mut Vec<u8>) -> io::Result<()> {
        bytes.resize(chunk.bytes, 0);
        let damage = || {
            let (path, from, to) = (self.path.clone(), chunk.range().start, chunk.range().end);
            io::Error::new(io::ErrorKind::InvalidData, CipherDamage { path, from, to })
        };
        if read_full_at(&*self.file, bytes, chunk.offset)? < chunk.bytes {
            return Err(damage());
        }
        let nonce = self.header.file.nonce(chunk.number, chunk.last);
        let opened = self.cipher.open(nonce, &self.header.encode(), bytes);
        opened.map_err(|CipherRefused| damage())?;
        bytes.truncate(chunk.bytes - TAG_BYTES);
        Ok(())
    }
}

impl DiskFile for CipherFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        if offset >= self.layout.plain_bytes() || bytes.is_empty() {
            return Ok(0);
        }
        let Some((chunk, within)) = self.layout.chunk_at(offset) else { return Ok(0) };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.number != Some(chunk.number) {
            kept.number = None;
            kept.bytes.reserve_exact(CHUNK_BYTES.min(chunk.bytes));
            self.decrypt(chunk, &mut kept.bytes)?;
            kept.number = Some(chunk.number);
        }
        let found = &kept.bytes[within..];
        let count = found.len().min(bytes.len());
        bytes[..count].copy_from_slice(&found[..count]);
        Ok(count)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.layout.plain_bytes())
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use storage_core::cipher_file::{FilePrefix, HEADER_BYTES};
    use storage_core::{RecordingId, WallTime};

    use super::*;
    use crate::disk::write_all_at;
    use crate::file_out::FileOut;
    use crate::testing::FaultDisk;

    const PATH: &str = "/data/file";

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|n| (n * 31 % 251) as u8).collect()
    }

    /// A file with these bytes, as it lies on the disk, and as it is read.
    fn written(disk: &FaultDisk, plain: &[u8]) -> (Arc<dyn DiskFile>, Arc<dyn DiskFile>) {
        let path = Path::new(PATH);
        let id = RecordingId::new(WallTime::from_millis(1), [7; 10]);
        disk.shared().make_folder(Path::new("/data")).unwrap();
        let file = disk.shared().create(path).unwrap();
        let cipher = Cipher::new(&[5; 32]);
        let mut out = FileOut::encrypted(file, cipher, FilePrefix([9; 7]), id).unwrap();
        for piece in plain.chunks(50_000) {
            out.write(piece).unwrap();
        }
        let finished = out.finish().unwrap();
        assert_eq!(finished.given, plain.len() as u64);
        (disk.shared().open(path).unwrap(), finished.reading(path).unwrap())
    }

    fn whole(file: &dyn DiskFile) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(file.length()?).unwrap()];
        let count = read_full_at(file, &mut bytes, 0)?;
        assert_eq!(count, bytes.len());
        Ok(bytes)
    }

    #[test]
    fn what_was_written_is_read_and_is_not_on_the_disk() {
        for length in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES] {
            let disk = FaultDisk::new();
            let plain = bytes(length);
            let (raw, read) = written(&disk, &plain);
            assert_eq!(raw.length().unwrap(), Layout::of_plain(length as u64).file_bytes());
            assert_eq!(whole(&*read).unwrap(), plain);
            let raw = whole(&*raw).unwrap();
            let window = plain.len().min(16);
            assert!(length < 16 || !raw.windows(window).any(|seen| seen == &plain[..window]));
        }
    }

    #[test]
    fn a_flipped_bit_costs_its_chunk_and_is_named() {
        let disk = FaultDisk::new();
        let plain = bytes(3 * CHUNK_BYTES);
        let (raw, read) = written(&disk, &plain);
        let place = (HEADER_BYTES + CHUNK_BYTES + TAG_BYTES + 100) as u64;
        let mut byte = [0];
        raw.read_at(&mut byte, place).unwrap();
        write_all_at(&*raw, &[byte[0] ^ 1], place).unwrap();
        let mut piece = vec![0; CHUNK_BYTES];
        for chunk in [0, 2] {
            let at = chunk * CHUNK_BYTES;
            read_full_at(&*read, &mut piece, at as u64).unwrap();
            assert_eq!(piece, plain[at..at + CHUNK_BYTES]);
        }
        let error = read_full_at(&*read, &mut piece, CHUNK_BYTES as u64).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().contains("/data/file is damaged"), "{error}");
        assert!(error.to_string().contains("bytes 65592 and 131144"), "{error}");
    }

    #[test]
    fn chunks_that_are_cut_off_swapped_or_of_another_file_are_found() {
        let chunk = CHUNK_BYTES + TAG_BYTES;
        let plain = bytes(3 * CHUNK_BYTES);
        let reread = |disk: &FaultDisk, header: Option<CipherHeader>| {
            let raw = disk.shared().open(Path::new(PATH)).unwrap();
            let mut head = [0; HEADER_BYTES];
            read_full_at(&*raw, &mut head, 0).unwrap();
            let header = header.unwrap_or_else(|| CipherHeader::decode(&head).unwrap());
            let read = CipherFile::new(raw, Path::new(PATH), Cipher::new(&[5; 32]), header)?;
            whole(&read)
        };
        let disk = FaultDisk::new();
        let (raw, _) = written(&disk, &plain);
        assert_eq!(reread(&disk, None).unwrap(), plain);
        // Cut at a chunk's end: the one that is last now was not when it was written.
        raw.truncate((HEADER_BYTES + 2 * chunk) as u64).unwrap();
        assert!(reread(&disk, None).is_err());
        // Two chunks change places.
        let (raw, _) = written(&disk, &plain);
        let mut all = whole(&*raw).unwrap();
        let (first, second) = all[HEADER_BYTES..].split_at_mut(chunk);
        first.swap_with_slice(&mut second[..chunk]);
        write_all_at(&*raw, &all, 0).unwrap();
        assert!(reread(&disk, None).is_err());
        // The same bytes as another recording's.
        let (_, _) = written(&disk, &plain);
        let recordingid = RecordingId::new(WallTime::from_millis(2), [7; 10]);
        let other = CipherHeader { file: FilePrefix([9; 7]), recordingid };
        assert!(reread(&disk, Some(other)).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn any_range_is_the_same_as_of_the_plain_file(
            length in 0_usize..200_000,
            ranges in proptest::collection::vec((0_u64..220_000, 0_usize..150_000), 1..6),
        ) {
            let disk = FaultDisk::new();
            let plain = bytes(length);
            let (_, read) = written(&disk, &plain);
            for (offset, count) in ranges {
                let mut piece = vec![0; count];
                let found = read_full_at(&*read, &mut piece, offset).unwrap();
                let from = usize::try_from(offset).unwrap().min(length);
                let expected = &plain[from..(from + count).min(length)];
                prop_assert_eq!(&piece[..found], expected);
            }
        }
    }
}
