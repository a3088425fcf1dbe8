//! Room on the device that is kept for facts: allocated beforehand, given up piece by piece when
//! the disk is full.

use std::path::PathBuf;
use std::sync::Arc;

use crate::disk::{Disk, DiskFile};

/// The reserve is given up in pieces of this size.
const RESERVE_PIECE_BYTES: u64 = 16 << 10;

/// Room kept for facts.
#[derive(Debug)]
pub(crate) struct Reserve {
    path: PathBuf,
    wanted: u64,
    held: u64,
    file: Option<Arc<dyn DiskFile>>,
}

impl Reserve {
    /// Room for so many bytes in the file `path`; nothing is taken yet.
    pub const fn new(path: PathBuf, wanted: u64) -> Self {
        Self { path, wanted, held: 0, file: None }
    }

    /// No room at all.
    pub const fn none() -> Self {
        Self::new(PathBuf::new(), 0)
    }

    /// How much of it is not held, if any.
    pub fn missing(&self) -> Option<u64> {
        self.wanted.checked_sub(self.held).filter(|missing| *missing > 0)
    }

    /// Takes all of it, or what is there already. Not to get it is no error: it is missing only
    /// when the disk is full, and then facts are refused as media is.
    pub fn take(&mut self, disk: &dyn Disk) {
        if self.wanted == 0 {
            return;
        }
        let file = disk.open(&self.path).or_else(|_| disk.create(&self.path));
        if let Ok(file) = file {
            let taken = file.allocate(self.wanted).is_ok();
            self.held = if taken { self.wanted } else { file.length().unwrap_or(0) };
            self.file = Some(file);
        }
    }

    /// Gives a piece of it back to the disk; `false` if there is none.
    pub fn give(&mut self, disk: &dyn Disk) -> bool {
        let Some(file) = &self.file else { return false };
        if self.held == 0 {
            return false;
        }
        self.held = self.held.saturating_sub(RESERVE_PIECE_BYTES);
        if file.truncate(self.held).is_err() {
            // A file system that cannot even shorten a file on a full disk may still remove it.
            self.held = 0;
            self.file = None;
            return disk.remove(&self.path).is_ok();
        }
        true
    }
}
