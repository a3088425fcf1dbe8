//! The one place that touches files which must last. It decides nothing: when something is synced
//! and what is done about an error is the caller's matter. A test can be the disk (feature
//! `testing`), so that every power cut and every full disk can be tried.
//!
//! (The embedded index keeps its files itself; see `catalog_tables`.)

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;

/// What cannot be read is given up in pieces of this size.
const SECTOR_BYTES: usize = 4096;

/// A name in a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// The name alone.
    pub name: String,
    /// Whether it is a folder.
    pub folder: bool,
}

/// A file system as far as recordings need one.
pub trait Disk: Debug + Send + Sync {
    /// Makes an empty file, or empties the one that has the name.
    ///
    /// # Errors
    /// As the operating system gives them; so in all methods here.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// As `create`, readable by the owner only where the file system knows owners.
    ///
    /// # Errors
    /// As `create`.
    fn create_private(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.create(path)
    }

    /// Opens a file that is there, to read and to write; to read only where it cannot be written.
    ///
    /// # Errors
    /// `NotFound` if it is not there.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name; a file that had it is replaced in the same moment.
    ///
    /// # Errors
    /// `NotFound` if `from` is not there.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// `NotFound` if it is not there.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes a folder and those above it, each synced into the one above.
    ///
    /// # Errors
    /// If a name in the way is a file.
    fn make_folder(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder last: creations, renames and removals.
    ///
    /// # Errors
    /// `NotFound` if it is not there.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;

    /// The names in a folder, sorted.
    ///
    /// # Errors
    /// `NotFound` if it is not there.
    fn list(&self, path: &Path) -> io::Result<Vec<Listed>>;

    /// Bytes that may still be written where `path` lies.
    ///
    /// # Errors
    /// If the file system cannot be asked.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
}

/// An open file. All positions are given, so that readers and the writer share one handle.
pub trait DiskFile: Debug + Send + Sync {
    /// Writes at an offset and tells how much was written; it may be less than was given.
    ///
    /// # Errors
    /// As the operating system gives them; so in all methods here.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Reads at an offset; 0 bytes are the end.
    ///
    /// # Errors
    /// If the device fails.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Cuts the file, or fills it with zeros, to this length.
    ///
    /// # Errors
    /// If the device fails or is full.
    fn truncate(&self, length: u64) -> io::Result<()>;

    /// Takes room on the device for so many bytes, filled with zeros.
    ///
    /// # Errors
    /// If there is not so much room.
    fn allocate(&self, length: u64) -> io::Result<()>;

    /// Makes the content last (fdatasync).
    ///
    /// # Errors
    /// After an error nothing is known about what was written since the last success.
    fn sync(&self) -> io::Result<()>;

    /// Length in bytes.
    ///
    /// # Errors
    /// If the device fails.
    fn length(&self) -> io::Result<u64>;
}

/// Writes everything.
///
/// # Errors
/// The error, and how many bytes were written before it.
pub fn write_all_at(
    file: &dyn DiskFile,
    bytes: &[u8],
    offset: u64,
) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    while written < bytes.len() {
        match file.write_at(&bytes[written..], offset + written as u64) {
            Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err((written, error)),
        }
    }
    Ok(())
}

/// Reads until the buffer is full or the file ends, and tells how many bytes were read.
///
/// # Errors
/// If the device fails.
pub fn read_full_at(file: &dyn DiskFile, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut count = 0;
    while count < bytes.len() {
        match file.read_at(&mut bytes[count..], offset + count as u64) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

/// Reads as [`read_full_at`] does, but where the device fails puts zeros in place of what cannot
/// be read, sector by sector, so that one bad sector does not hide what lies around it. Tells
/// how many bytes there are, and how many of them could not be read.
#[must_use]
pub fn read_around_at(file: &dyn DiskFile, bytes: &mut [u8], offset: u64) -> (usize, usize) {
    if let Ok(count) = read_full_at(file, bytes, offset) {
        return (count, 0);
    }
    let (mut end, mut unreadable) = (0, 0);
    for sector in bytes.chunks_mut(SECTOR_BYTES) {
        if let Ok(count) = read_full_at(file, sector, offset + end as u64) {
            end += count;
            if count < sector.len() {
                break;
            }
        } else {
            sector.fill(0);
            end += sector.len();
            unreadable += sector.len();
        }
    }
    (end, unreadable)
}

/// Reads a small file as a whole.
///
/// # Errors
/// If it is not there, or longer than `bytes_max` (`InvalidData`).
pub fn read_whole(disk: &dyn Disk, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let file = disk.open(path)?;
    let length = usize::try_from(file.length()?).unwrap_or(usize::MAX);
    if length > bytes_max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "longer than it can be"));
    }
    let mut bytes = vec![0; length];
    let count = read_full_at(&*file, &mut bytes, 0)?;
    bytes.truncate(count);
    Ok(bytes)
}

/// Whether an error says that there is no room left for more data.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn is_read_only(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied)
}

/// The machine's own file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl RealDisk {
    /// As a shared disk.
    #[must_use]
    pub fn shared() -> Arc<dyn Disk> {
        Arc::new(Self)
    }
}

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        Ok(Arc::new(RealFile::to_write(options.open(path)?)))
    }

    fn create_private(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        Ok(Arc::new(RealFile::to_write(options.open(path)?)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            // A disk that has become read-only, a backup on one, or files of somebody else: they can be read.
            Err(error) if is_read_only(&error) => {
                let read_only = Some(error.kind());
                return Ok(Arc::new(RealFile { file: File::open(path)?, read_only }));
            }
            file => file?,
        };
        Ok(Arc::new(RealFile::to_write(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        match std::fs::create_dir(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {
                return Ok(());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let above = path.parent().ok_or(error)?;
                self.make_folder(above)?;
                return self.make_folder(path);
            }
            Err(error) => return Err(error),
        }
        path.parent().map_or(Ok(()), |above| self.sync_folder(above))
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        // "" is what `parent` gives for a single name: the working folder.
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        File::open(path)?.sync_all()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Listed>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            // A name that is no UTF-8 is none of ours.
            if let Ok(name) = entry.file_name().into_string() {
                names.push(Listed { name, folder: entry.file_type()?.is_dir() });
            }
        }
        names.sort();
        Ok(names)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let status = nix::sys::statvfs::statvfs(path)?;
        Ok(status.blocks_available() * status.fragment_size())
    }
}

#[derive(Debug)]
struct RealFile {
    file: File,
    /// Why it cannot be written, if it was opened to read only.
    read_only: Option<io::ErrorKind>,
}

impl RealFile {
    const fn to_write(file: File) -> Self {
        Self { file, read_only: None }
    }

    /// The file, if it can be written: the kernel would only say that its number is a bad one.
    fn writable(&self) -> io::Result<&File> {
        self.read_only.map_or(Ok(&self.file), |kind| Err(kind.into()))
    }
}

impl DiskFile for RealFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.writable()?.write_at(bytes, offset)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(bytes, offset)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.writable()?.set_len(length)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let length = i64::try_from(length).map_err(|_| io::Error::from(Errno::EFBIG))?;
        Ok(nix::fcntl::posix_fallocate(self.writable()?, 0, length)?)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}
