//! Reads a voice file in the archive as if it lay on the disk: any range, a window at a time, by whoever may block.
//! Playing on reads ahead more than jumping does. What lies there now is compared with the note by its length when
//! it is opened, and a file that is replaced while it is read breaks off.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use storage::ArchiveReader;
use storage::disk::DiskFile;
use storage_core::archived::Archived;
use tokio::runtime::Handle;

use super::target::{Lying, Target, TargetError};

/// Whoever listens does not wait longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// Read after a jump.
const WINDOW_FIRST: u64 = 128 << 10;
/// Read where the window before has ended.
const WINDOW_NEXT: u64 = 1 << 20;

/// The archive, for the voice folder.
pub struct Reader {
    target: Arc<dyn Target>,
    runtime: Handle,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reader").field(&self.target.place()).finish()
    }
}

impl Reader {
    /// Reads there, on this runtime.
    #[must_use]
    pub fn new(target: Arc<dyn Target>, runtime: Handle) -> Self {
        Self { target, runtime }
    }
}

impl ArchiveReader for Reader {
    fn open(&self, archived: &Archived) -> io::Result<Arc<dyn DiskFile>> {
        let name = archived.place.strip_prefix(self.target.place());
        let name = name.and_then(|name| name.strip_prefix('/'));
        let name = name.ok_or_else(|| {
            let place = self.target.place();
            io::Error::other(format!("this node's archive is {place} (al_archive)"))
        })?;
        let (target, asked) = (Arc::clone(&self.target), name.to_owned());
        let lying = wait(&self.runtime, async move { target.head(&asked).await })?;
        let lying = lying.ok_or_else(|| io::Error::other("it is not there any more"))?;
        if lying.bytes != archived.bytes {
            let Lying { bytes, .. } = lying;
            let why = format!("it has {bytes} bytes there, and had {}", archived.bytes);
            return Err(io::Error::other(why));
        }
        Ok(Arc::new(ArchivedFile {
            target: Arc::clone(&self.target),
            runtime: self.runtime.clone(),
            name: name.to_owned(),
            lying,
            window: Mutex::default(),
        }))
    }
}

/// Waits for an answer without being part of the runtime.
fn wait<T: Send + 'static>(
    runtime: &Handle,
    asked: impl Future<Output = Result<T, TargetError>> + Send + 'static,
) -> io::Result<T> {
    let (told, answer) = mpsc::sync_channel(1);
    let asking = runtime.spawn(async move {
        // Whoever does not wait any more need not hear it.
        let _ = told.send(asked.await);
    });
    match answer.recv_timeout(ANSWER_WITHIN) {
        Ok(answer) => answer.map_err(io::Error::other),
        Err(_) => {
            asking.abort();
            Err(io::Error::new(io::ErrorKind::TimedOut, "the archive does not answer"))
        }
    }
}

/// A file there.
struct ArchivedFile {
    target: Arc<dyn Target>,
    runtime: Handle,
    name: String,
    lying: Lying,
    /// What was read last, and where it begins.
    window: Mutex<(u64, Vec<u8>)>,
}

impl fmt::Debug for ArchivedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ArchivedFile").field(&self.name).finish()
    }
}

/// What is read for an offset, given the window that there is; `None` if that has it.
fn window_for(offset: u64, begin: u64, length: u64, bytes: u64) -> Option<(u64, u64)> {
    if (begin..begin + length).contains(&offset) {
        return None;
    }
    let goes_on = length > 0 && offset == begin + length;
    let most = if goes_on { WINDOW_NEXT } else { WINDOW_FIRST };
    Some((offset, bytes.min(offset + most)))
}

impl DiskFile for ArchivedFile {
    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        Err(read_only())
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        if offset >= self.lying.bytes || bytes.is_empty() {
            return Ok(0);
        }
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = window_for(offset, window.0, window.1.len() as u64, self.lying.bytes);
        if let Some((from, to)) = wanted {
            let (target, name, tag) =
                (Arc::clone(&self.target), self.name.clone(), self.lying.tag.clone());
            let read = async move { target.read(&name, from..to, &tag).await };
            *window = (from, wait(&self.runtime, read)?);
        }
        let skipped = usize::try_from(offset - window.0).map_err(io::Error::other)?;
        let there = window.1.get(skipped..).unwrap_or_default();
        let count = there.len().min(bytes.len());
        bytes[..count].copy_from_slice(&there[..count]);
        Ok(count)
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        Err(read_only())
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        Err(read_only())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.lying.bytes)
    }
}

fn read_only() -> io::Error {
    io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "what is archived is only read")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_reads_little_and_going_on_reads_ahead() {
        const BYTES: u64 = 10 << 20;
        let first = WINDOW_FIRST;
        assert_eq!(window_for(0, 0, 0, BYTES), Some((0, first)), "nothing is read yet");
        assert_eq!(window_for(first - 1, 0, first, BYTES), None);
        assert_eq!(window_for(first, 0, first, BYTES), Some((first, first + WINDOW_NEXT)));
        assert_eq!(window_for(5 << 20, 0, first, BYTES), Some((5 << 20, (5 << 20) + first)));
        assert_eq!(window_for(BYTES - 1, 0, first, BYTES), Some((BYTES - 1, BYTES)));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn any_range_is_what_lies_there_and_what_is_shorter_is_not_opened() {
        use super::super::folder::Folder;
        use storage_core::marks::Stamp;
        use storage_core::{NodeId, WallTime};

        let dir = tempfile::tempdir().unwrap();
        let whole: Vec<u8> = (0..3_000_000_u32).map(|n| (n / 7).to_le_bytes()[0]).collect();
        std::fs::write(dir.path().join("x.wav"), &whole).unwrap();
        let target: Arc<dyn Target> = Arc::new(Folder::new(dir.path().to_owned()));
        let note = Archived {
            place: format!("{}/x.wav", target.place()),
            revision: 1,
            sha256: String::new(),
            encrypted: false,
            bytes: whole.len() as u64,
            stored: String::new(),
            record: String::new(),
            stamp: Stamp { at: WallTime::from_millis(0), node: NodeId(1) },
        };
        let reader = Reader::new(target, Handle::current());
        let read = tokio::task::spawn_blocking(move || {
            let file = reader.open(&note).unwrap();
            for (offset, length) in [(0, 100), (100, 500_000), (2_999_990, 50), (7, 1_400_000)] {
                let mut bytes = vec![0; length];
                let mut filled = 0;
                while filled < length {
                    match file.read_at(&mut bytes[filled..], (offset + filled) as u64).unwrap() {
                        0 => break,
                        count => filled += count,
                    }
                }
                let end = whole.len().min(offset + length);
                assert!(bytes[..filled] == whole[offset..end], "{offset} {length}");
            }
            let shorter = reader.open(&Archived { bytes: 7, ..note.clone() }).unwrap_err();
            assert!(shorter.to_string().contains("3000000 bytes there"), "{shorter}");
            let other = Archived { place: "s3://elsewhere/x.wav".to_owned(), ..note };
            assert!(reader.open(&other).unwrap_err().to_string().contains("al_archive"));
        });
        read.await.unwrap();
    }
}
