//! Room on the device that is kept for what must be written on a full disk, too (the capture journal's facts, the group's
//! log): allocated beforehand, given up piece by piece when the disk is full, and taken anew when there is room. What it is
//! given up for is its owner's matter.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, DiskFile};

/// The reserve is given up in pieces of this size.
const RESERVE_PIECE_BYTES: u64 = 16 << 10;

/// Room that is kept.
#[derive(Debug)]
pub struct Reserve {
    path: PathBuf,
    wanted: u64,
    held: u64,
    given: bool,
    file: Option<Arc<dyn DiskFile>>,
}

impl Reserve {
    /// Room for so many bytes in the file `path`; nothing is taken yet.
    #[must_use]
    pub const fn new(path: PathBuf, wanted: u64) -> Self {
        Self { path, wanted, held: 0, given: false, file: None }
    }

    /// No room at all.
    #[must_use]
    pub const fn none() -> Self {
        Self::new(PathBuf::new(), 0)
    }

    /// Whether some of it was given up and has not been had again.
    #[must_use]
    pub const fn is_given_up(&self) -> bool {
        self.given
    }

    /// Takes it anew if some of it is missing and there is room for twice that. To be asked now and then.
    pub fn restore(&mut self, disk: &dyn Disk) {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        if let Some(missing) = self.missing()
            && disk.free_bytes(folder).is_ok_and(|free| free >= missing.saturating_mul(2))
        {
            self.take(disk);
        }
    }

    /// How much of it is not held, if any.
    #[must_use]
    pub fn missing(&self) -> Option<u64> {
        self.wanted.checked_sub(self.held).filter(|missing| *missing > 0)
    }

    /// Takes all of it, or what is there already. Not to get it is no error: it is missing only
    /// when the disk is full, and then what it is for is refused like everything else.
    pub fn take(&mut self, disk: &dyn Disk) {
        if self.wanted == 0 {
            return;
        }
        let file = disk.open(&self.path).or_else(|_| disk.create(&self.path));
        if let Ok(file) = file {
            let taken = file.allocate(self.wanted).is_ok();
            self.held = if taken { self.wanted } else { file.length().unwrap_or(0) };
            self.given &= !taken;
            self.file = Some(file);
        }
    }

    /// Gives a piece of it back to the disk; `false` if there is none.
    pub fn give(&mut self, disk: &dyn Disk) -> bool {
        let Some(file) = &self.file else { return false };
        if self.held == 0 {
            return false;
        }
        self.given = true;
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
