//! What an archive can do, whatever it is: put files there whole or in parts, read any range of them, tell their
//! length, delete them. A name is a path below the archive's place. What is put there, and what is done about an
//! error, is not decided here.

use std::ops::Range;

use futures_util::future::BoxFuture;
use storage_core::WallTime;

use super::lock::Lock;

/// Bytes of a part, and of what is read at once. S3 takes parts from 5 MiB on, and 10,000 of them: 80 GB.
pub const PART_BYTES: u64 = 8 << 20;

/// What lies there under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lying {
    /// Its length.
    pub bytes: u64,
    /// Changes with its bytes, as far as the archive can tell; empty if it cannot.
    pub tag: String,
}

/// A file that is being put there in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// The name that it is to have.
    pub name: String,
    /// The archive's name for what is on its way.
    pub id: String,
}

/// What kind of answer an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The archive does not answer, or has no room: nothing can be done there now.
    Away,
    /// It answers, and takes nothing from us until somebody has changed something.
    Refused,
    /// There is no such file, or no such upload any more.
    NotThere,
    /// The file is not what it was.
    Changed,
    /// The file cannot be deleted before then: it is locked.
    Locked(WallTime),
    /// It locks nothing, or not for us.
    NoLock,
}

/// Why something could not be done there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{words}")]
pub struct TargetError {
    /// Of which kind it is.
    pub kind: Kind,
    /// For people; holds no secret.
    pub words: String,
}

impl TargetError {
    /// One of this kind.
    pub fn new(kind: Kind, words: impl Into<String>) -> Self {
        Self { kind, words: words.into() }
    }
}

/// What comes of a request.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, TargetError>>;

/// An archive. What a future has begun when it is dropped may be done or not.
pub trait Target: Send + Sync {
    /// Its address, for people, without a slash in the end.
    fn place(&self) -> &str;

    /// What lies under a name, if anything does.
    fn head<'a>(&'a self, name: &'a str) -> Answer<'a, Option<Lying>>;

    /// The bytes of a range that lies within the file, if that is still the one with this tag.
    fn read<'a>(&'a self, name: &'a str, range: Range<u64>, tag: &'a str) -> Answer<'a, Vec<u8>>;

    /// Puts a file there whole; one that has the name is replaced in the same moment.
    fn put<'a>(&'a self, name: &'a str, bytes: Vec<u8>) -> Answer<'a, ()>;

    /// Begins to put a file there in parts. Nothing is seen of it before it is complete.
    fn begin<'a>(&'a self, name: &'a str) -> Answer<'a, Upload>;

    /// Puts the part of this number, from 0, which is of [`PART_BYTES`] unless it is the last. The answer is the
    /// archive's word for it, which completes the upload. May be done again.
    fn part<'a>(&'a self, upload: &'a Upload, number: usize, bytes: Vec<u8>) -> Answer<'a, String>;

    /// Makes a file of all parts; one that has the name is replaced in the same moment.
    fn complete<'a>(&'a self, upload: &'a Upload, parts: Vec<String>) -> Answer<'a, ()>;

    /// Forgets an upload.
    fn abort<'a>(&'a self, upload: &'a Upload) -> Answer<'a, ()>;

    /// Deletes files. That one is not there is no error.
    fn delete<'a>(&'a self, names: &'a [String]) -> Answer<'a, ()>;

    /// Has what lies under a name kept against everybody's deletion. Most archives cannot.
    fn lock<'a>(&'a self, _name: &'a str, _lock: &'a Lock) -> Answer<'a, ()> {
        let words = "this kind of archive has no locks";
        Box::pin(std::future::ready(Err(TargetError::new(Kind::NoLock, words))))
    }
}
