//! Where the catalog's index lies, and what is noted beside it: marks that outlive the process, by which
//! the next start knows whether the index can be relied on. An index that cannot is removed: whatever
//! it held is in the records.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use storage_core::WallTime;

use crate::catalog::CatalogError;
use crate::catalog_tables::{Tables, damaged};
use crate::disk::is_full;
use crate::lock::DataLock;

/// Room that opening takes on the disk; without it SQLite says only that it cannot open.
const ROOM_BYTES: usize = 64 << 10;

/// Whether the catalog can be relied on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CatalogState {
    /// It holds what was put into it.
    Sound,
    /// It was made anew, or its last rebuild was not completed: it must be rebuilt from the
    /// records.
    Empty {
        /// Why.
        because: String,
    },
}

/// The catalog's folder, taken for this process.
#[derive(Debug)]
pub(crate) struct Place {
    folder: PathBuf,
    _lock: DataLock,
}

impl Place {
    pub fn take(folder: &Path) -> Result<Self, CatalogError> {
        std::fs::create_dir_all(folder).map_err(|error| io_failed("written", &error))?;
        let lock = DataLock::take(folder).map_err(|error| CatalogError::Locked(Arc::new(error)))?;
        Ok(Self { folder: folder.to_owned(), _lock: lock })
    }

    fn index(&self) -> PathBuf {
        self.folder.join("index")
    }

    /// The file of the tables; SQLite keeps others beside it.
    pub fn tables(&self) -> PathBuf {
        self.index().join("catalog.sqlite")
    }

    /// There while the index is being opened.
    fn mark(&self) -> PathBuf {
        self.folder.join("opening")
    }

    /// There from the begin of a rebuild to its end.
    fn rebuilding(&self) -> PathBuf {
        self.folder.join("rebuilding")
    }

    /// There from the begin of a rebuild until others have been asked for theirs.
    fn own_only(&self) -> PathBuf {
        self.folder.join("own-only")
    }

    /// Until when they have been asked, as text.
    fn others_file(&self) -> PathBuf {
        self.folder.join("others-until")
    }

    /// How many commits there were: never ahead of an index that has forgotten nothing.
    fn commits(&self) -> PathBuf {
        self.folder.join("commits")
    }

    /// Opens what is there if it can be relied on; else makes a new one in its place.
    pub fn open(&self) -> Result<(Tables, CatalogState), CatalogError> {
        let because = if self.mark().exists() {
            "the last attempt to open it did not come back".to_owned()
        } else if !self.index().exists() {
            "there was none".to_owned()
        } else if !self.tables().exists() {
            "it is of an older form".to_owned()
        } else {
            match self.marked(|| self.open_sound()) {
                Ok(tables) if self.rebuilding().exists() => {
                    let because = "its rebuild was interrupted".to_owned();
                    return Ok((tables, CatalogState::Empty { because }));
                }
                Ok(tables) => return Ok((tables, CatalogState::Sound)),
                // A full or failing disk is no reason to give up what is on it.
                Err(error @ (CatalogError::Full | CatalogError::Device { .. })) => {
                    return Err(error);
                }
                Err(error) => error.to_string(),
            }
        };
        self.begin_rebuild()?;
        let tables = self.make()?;
        Ok((tables, CatalogState::Empty { because }))
    }

    /// Makes an empty index in place of whatever is there; nobody has that open.
    pub fn make(&self) -> Result<Tables, CatalogError> {
        let failed = |error| io_failed("written", &error);
        match std::fs::remove_dir_all(self.index()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        remove_if_there(&self.commits()).map_err(failed)?;
        std::fs::create_dir(self.index()).map_err(failed)?;
        let tables = self.marked(|| Tables::create(&self.tables()))?;
        sync_folder(&self.index()).and_then(|()| sync_folder(&self.folder)).map_err(failed)?;
        Ok(tables)
    }

    fn open_sound(&self) -> Result<Tables, CatalogError> {
        let tables = Tables::open(&self.tables())?;
        if self.noted_commits() > tables.counts()?.commits {
            return Err(damaged("it has forgotten changes"));
        }
        Ok(tables)
    }

    fn noted_commits(&self) -> u64 {
        // A note that is not whole was cut by a power cut; it does not say anything.
        let noted = std::fs::read(self.commits()).unwrap_or_default();
        let Some((number, check)) = noted.split_first_chunk::<8>() else { return 0 };
        let whole = check == crc32c::crc32c(number).to_be_bytes();
        if whole { u64::from_be_bytes(*number) } else { 0 }
    }

    /// Only a help against silent damage: without it the commit is as good.
    pub fn note_commits(&self, commits: u64) {
        let number = commits.to_be_bytes();
        let note = [&number[..], &crc32c::crc32c(&number).to_be_bytes()].concat();
        let options =
            OpenOptions::new().write(true).create(true).truncate(false).open(self.commits());
        let _ = options.and_then(|file| file.write_all_at(&note, 0));
    }

    pub fn begin_rebuild(&self) -> Result<(), CatalogError> {
        let mark = |path| File::create(path).and_then(|mark| mark.sync_all());
        let made = mark(self.own_only()).and_then(|()| mark(self.rebuilding()));
        let made = made.and_then(|()| sync_folder(&self.folder));
        made.map_err(|error| io_failed("written", &error))
    }

    pub fn end_rebuild(&self) -> Result<(), CatalogError> {
        self.unmark(&self.rebuilding())
    }

    pub fn others_until(&self) -> Option<WallTime> {
        let text = std::fs::read_to_string(self.others_file()).ok()?;
        text.trim().parse().ok().filter(|_| !self.own_only().exists())
    }

    pub fn has_others(&self, until: WallTime) -> Result<(), CatalogError> {
        let failed = |error| io_failed("written", &error);
        let (path, new) = (self.others_file(), self.folder.join("others-until.new"));
        let written = File::create(&new).and_then(|mut file| {
            writeln!(file, "{until}")?;
            file.sync_all()?;
            std::fs::rename(&new, &path)
        });
        written.map_err(failed)?;
        sync_folder(&self.folder).map_err(failed)?;
        self.unmark(&self.own_only())
    }

    fn unmark(&self, mark: &Path) -> Result<(), CatalogError> {
        let gone = remove_if_there(mark).and_then(|()| sync_folder(&self.folder));
        gone.map_err(|error| io_failed("written", &error))
    }

    /// Runs something that may bring the process down, under a mark that tells of it.
    fn marked<T>(&self, run: impl FnOnce() -> Result<T, CatalogError>) -> Result<T, CatalogError> {
        let failed = |error: io::Error| io_failed("written", &error);
        let marked = File::create(self.mark()).and_then(|mut mark| {
            mark.write_all(&[0; ROOM_BYTES])?;
            mark.sync_all()
        });
        if let Err(error) = marked {
            // Nothing was tried.
            let _ = remove_if_there(&self.mark());
            return Err(failed(error));
        }
        sync_folder(&self.folder).map_err(failed)?;
        let outcome = guarded(run);
        std::fs::remove_file(self.mark()).map_err(failed)?;
        outcome
    }
}

/// Turns a panic into an error, where panics unwind: what is read may have been damaged in a way that
/// nobody thought of, and recording must go on.
pub(crate) fn guarded<T>(run: impl FnOnce() -> Result<T, CatalogError>) -> Result<T, CatalogError> {
    // Nothing of ours is changed inside but the index itself, which is closed after an error.
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(damaged(text.unwrap_or("the index engine gave up")))
    })
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

pub(crate) fn io_failed(action: &'static str, error: &io::Error) -> CatalogError {
    if is_full(error) {
        return CatalogError::Full;
    }
    CatalogError::Device { action, what: error.to_string() }
}
