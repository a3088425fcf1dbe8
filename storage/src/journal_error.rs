//! What can go wrong with the capture journal, and what is to be done about it.

use std::io;
use std::path::{Path, PathBuf};

use storage_core::RecordingId;
use storage_core::journal::{EncodeError, HeaderError};

use crate::disk::is_full;
use crate::keys::KeyError;
use crate::lock::LockError;

/// Why the journal did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process has the data folder.
    #[error(transparent)]
    Locked(#[from] LockError),
    /// No room. The first `kept` bytes of what was to be appended (whole frames) are in the
    /// journal, the rest is not; a later append works again once there is room.
    #[error("no room left on the device of {}: free some, or move al_datadir", path.display())]
    Full {
        /// The file.
        path: PathBuf,
        /// Bytes that were kept.
        kept: usize,
    },
    /// The device failed. As with `Full`, the first `kept` bytes are in the journal.
    #[error("{action} {}", path.display())]
    Io {
        /// What was tried, as "cannot write".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Bytes that were kept.
        kept: usize,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file of a later program; its content must not be dropped by this one.
    #[error("{}: run the version that wrote it, or a later one", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        source: HeaderError,
    },
    /// The caller's bytes are no frames; a bug. Nothing was appended.
    #[error("bytes to append are not whole frames at offset {offset}")]
    NotFrames {
        /// Where they cease to be.
        offset: usize,
    },
    /// More than a file can hold in one append; a bug. Nothing was appended.
    #[error("{bytes} bytes are too many for one append")]
    TooMuch {
        /// How many.
        bytes: usize,
    },
    /// Captures that are not sealed yet are encrypted, and their keys cannot be had. Whoever went on
    /// would publish recordings without their audio.
    #[error("{segments} captured segments in {} cannot be read: {why}", folder.display())]
    KeysMissing {
        /// The folder of the journal.
        folder: PathBuf,
        /// How many.
        segments: usize,
        /// Why the first of them cannot be read.
        why: KeyError,
    },
    /// A data key cannot be had. Nothing was appended.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A fact that cannot be written down. Nothing was appended.
    #[error(transparent)]
    Fact(#[from] EncodeError),
    /// The journal holds nothing of this recording, or it is sealed.
    #[error("no open recording {0} in the capture journal")]
    NoRecording(RecordingId),
}

impl JournalError {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        if is_full(&source) {
            return Self::Full { path: path.to_owned(), kept: 0 };
        }
        Self::Io { action, path: path.to_owned(), kept: 0, source }
    }

    /// The same, of which so many bytes were kept.
    pub(crate) fn with_kept(mut self, bytes: usize) -> Self {
        if let Self::Full { kept, .. } | Self::Io { kept, .. } = &mut self {
            *kept = bytes;
        }
        self
    }

    /// How many bytes of what was to be appended are in the journal all the same.
    #[must_use]
    pub const fn kept(&self) -> usize {
        match self {
            Self::Full { kept, .. } | Self::Io { kept, .. } => *kept,
            _ => 0,
        }
    }
}
