//! One process to a data folder. The kernel keeps the lock, so it is gone with the process however
//! that ended; the file's content only serves to name the process that holds it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

const NAME: &str = "lock";

/// Held while this lives.
#[derive(Debug)]
pub struct DataLock {
    _file: Flock<File>,
}

/// Why the data folder is not ours.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process works in it.
    #[error(
        "{} is in use by {holder}: stop that process first, or set another al_datadir",
        dir.display()
    )]
    Held {
        /// The data folder.
        dir: PathBuf,
        /// The process, as far as it can be told.
        holder: String,
    },
    /// It cannot be locked.
    #[error("cannot lock {}: check that it exists and belongs to this user", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl DataLock {
    /// Takes the folder for this process; does not wait.
    ///
    /// # Errors
    /// [`LockError::Held`] names the process that has it.
    pub fn take(dir: &Path) -> Result<Self, LockError> {
        let path = dir.join(NAME);
        let failed = |source| LockError::Io { path: path.clone(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(&path).map_err(failed)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                let pid = format!("{}\n", std::process::id());
                let written = file.set_len(0).and_then(|()| file.write_all(pid.as_bytes()));
                written.map_err(failed)?;
                Ok(Self { _file: file })
            }
            Err((file, Errno::EWOULDBLOCK)) => {
                Err(LockError::Held { dir: dir.to_owned(), holder: holder(file) })
            }
            Err((_, error)) => Err(failed(error.into())),
        }
    }
}

/// Whether a process works in the folder now.
pub fn is_held(dir: &Path) -> bool {
    let Ok(file) = File::open(dir.join(NAME)) else { return false };
    matches!(Flock::lock(file, FlockArg::LockSharedNonblock), Err((_, Errno::EWOULDBLOCK)))
}

/// "astlogger (process 4711)", or less if less is known.
fn holder(mut file: File) -> String {
    let mut pid = String::new();
    let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_string(&mut pid));
    let pid = pid.trim();
    if read.is_err() || pid.is_empty() {
        return "another process".to_owned();
    }
    match std::fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => format!("{} (process {pid})", name.trim()),
        Err(_) => format!("process {pid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_one_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataLock::take(dir.path()).unwrap();
        let text = DataLock::take(dir.path()).unwrap_err().to_string();
        assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
        assert!(is_held(dir.path()));
        drop(first);
        assert!(!is_held(dir.path()));
        assert!(!is_held(&dir.path().join("elsewhere")));
        DataLock::take(dir.path()).unwrap();
    }
}
