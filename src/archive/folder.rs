//! An archive that is a folder: a network share that is mounted, as a rule. What is put there gets its name when
//! it is durable, as far as the file system keeps its word. The folder itself is never made: where it is missing,
//! the share is not mounted.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::target::{Answer, Kind, Lying, PART_BYTES, Target, TargetError, Upload};

/// A part of 8 MiB over a slow line.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);
/// Ending of what is not complete.
const PART_ENDING: &str = ".part";

/// A share whose server is gone may keep a thread for ever. With so many it counts as away, and no more are begun.
const HANGING_MAX: usize = 8;

/// The folder.
pub struct Folder {
    place: String,
    root: PathBuf,
    /// One is taken by each access as long as it lasts.
    accesses: Arc<Semaphore>,
}

impl Folder {
    /// That one.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        let accesses = Arc::new(Semaphore::new(HANGING_MAX));
        Self { place: format!("file://{}", root.display()), root, accesses }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Does what waits for a disk, or for a server behind it, where nobody else waits for it.
    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Answer<'static, T> {
        let (root, accesses) = (self.root.clone(), Arc::clone(&self.accesses));
        Box::pin(async move {
            let hangs = || TargetError::new(Kind::Away, "the folder does not answer");
            let place = timeout(ANSWER_WITHIN, accesses.acquire_owned()).await;
            let place = place.map_err(|_| hangs())?.map_err(|_| hangs())?;
            let done = spawn_blocking(move || {
                let _place = place;
                if !root.is_dir() {
                    let words = format!("the folder {} is not there", root.display());
                    return Err(TargetError::new(Kind::Away, words));
                }
                work().map_err(|error| in_words(&error))
            });
            let broken = |_| TargetError::new(Kind::Away, "the access to the folder broke off");
            timeout(ANSWER_WITHIN, done).await.map_err(|_| hangs())?.map_err(broken)?
        })
    }
}

fn in_words(error: &io::Error) -> TargetError {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => Kind::NotThere,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Kind::Refused,
        io::ErrorKind::InvalidData => Kind::Changed,
        _ => Kind::Away,
    };
    TargetError::new(kind, error.to_string())
}

fn lying(file: &File) -> io::Result<Lying> {
    let meta = file.metadata()?;
    let tag = format!("{}-{}.{}", meta.ino(), meta.mtime(), meta.mtime_nsec());
    Ok(Lying { bytes: meta.len(), tag })
}

fn of_part(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(PART_ENDING);
    name.into()
}

/// Gives a file that is whole its name, durably.
fn settle(part: &Path, path: &Path) -> io::Result<()> {
    File::open(part)?.sync_all()?;
    fs::rename(part, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn make_folder_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

impl Target for Folder {
    fn place(&self) -> &str {
        &self.place
    }

    fn head<'a>(&'a self, name: &'a str) -> Answer<'a, Option<Lying>> {
        let path = self.path(name);
        self.blocking(move || match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => lying(&opened?).map(Some),
        })
    }

    fn read<'a>(&'a self, name: &'a str, range: Range<u64>, tag: &'a str) -> Answer<'a, Vec<u8>> {
        let (path, tag) = (self.path(name), tag.to_owned());
        self.blocking(move || {
            let file = File::open(path)?;
            if lying(&file)?.tag != tag {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the file was replaced"));
            }
            let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, range.start)?;
            Ok(bytes)
        })
    }

    fn put<'a>(&'a self, name: &'a str, bytes: Vec<u8>) -> Answer<'a, ()> {
        let path = self.path(name);
        self.blocking(move || {
            make_folder_of(&path)?;
            let part = of_part(&path);
            fs::write(&part, bytes)?;
            settle(&part, &path)
        })
    }

    fn begin<'a>(&'a self, name: &'a str) -> Answer<'a, Upload> {
        let (path, name) = (self.path(name), name.to_owned());
        self.blocking(move || {
            make_folder_of(&path)?;
            File::create(of_part(&path))?;
            Ok(Upload { id: format!("{name}{PART_ENDING}"), name })
        })
    }

    fn part<'a>(&'a self, upload: &'a Upload, number: usize, bytes: Vec<u8>) -> Answer<'a, String> {
        let part = self.path(&upload.id);
        self.blocking(move || {
            let file = OpenOptions::new().write(true).open(part)?;
            file.write_all_at(&bytes, number as u64 * PART_BYTES)?;
            file.sync_data()?;
            Ok(String::new())
        })
    }

    fn complete<'a>(&'a self, upload: &'a Upload, _: Vec<String>) -> Answer<'a, ()> {
        let (part, path) = (self.path(&upload.id), self.path(&upload.name));
        self.blocking(move || settle(&part, &path))
    }

    fn abort<'a>(&'a self, upload: &'a Upload) -> Answer<'a, ()> {
        let part = self.path(&upload.id);
        self.blocking(move || remove(&part))
    }

    fn delete<'a>(&'a self, names: &'a [String]) -> Answer<'a, ()> {
        let paths: Vec<_> = names.iter().map(|name| self.path(name)).collect();
        self.blocking(move || {
            for path in paths {
                remove(&path)?;
                remove(&of_part(&path))?;
            }
            Ok(())
        })
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path().to_owned());
        (dir, folder)
    }

    #[tokio::test]
    async fn what_is_put_there_whole_or_in_parts_is_read_back_in_any_range_and_deleted() {
        let (dir, folder) = folder();
        folder.put("2026/11/a.json", b"record".to_vec()).await.unwrap();
        let lying = folder.head("2026/11/a.json").await.unwrap().unwrap();
        assert_eq!(lying.bytes, 6);
        assert_eq!(folder.read("2026/11/a.json", 2..5, &lying.tag).await.unwrap(), b"cor");

        let upload = folder.begin("2026/11/a.wav").await.unwrap();
        let whole: Vec<u8> = (0..PART_BYTES + 100).map(|byte| byte.to_le_bytes()[0]).collect();
        let (first, last) = whole.split_at(usize::try_from(PART_BYTES).unwrap());
        let mut parts = vec![folder.part(&upload, 0, first.to_vec()).await.unwrap()];
        assert_eq!(folder.head("2026/11/a.wav").await.unwrap(), None, "not before it is complete");
        parts.push(folder.part(&upload, 1, last.to_vec()).await.unwrap());
        folder.complete(&upload, parts).await.unwrap();
        assert_eq!(fs::read(dir.path().join("2026/11/a.wav")).unwrap(), whole);

        let names = ["2026/11/a.wav", "2026/11/a.json", "2026/11/b.json"].map(str::to_owned);
        folder.delete(&names).await.unwrap();
        assert_eq!(fs::read_dir(dir.path().join("2026/11")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_file_that_was_replaced_is_not_read_on() {
        let (_dir, folder) = folder();
        folder.put("a", b"one".to_vec()).await.unwrap();
        let lying = folder.head("a").await.unwrap().unwrap();
        folder.put("a", b"two".to_vec()).await.unwrap();
        let error = folder.read("a", 0..3, &lying.tag).await.unwrap_err();
        assert_eq!(error.kind, Kind::Changed);
    }

    #[tokio::test]
    async fn a_share_that_is_not_mounted_is_away_and_nothing_is_made_in_its_place() {
        let (dir, _) = folder();
        let folder = Folder::new(dir.path().join("share"));
        let error = folder.put("2026/a", Vec::new()).await.unwrap_err();
        assert_eq!(error.kind, Kind::Away);
        assert!(error.words.contains("share is not there"), "{error}");
        assert!(!dir.path().join("share").exists());
        let upload = Upload { name: "a".to_owned(), id: "gone.part".to_owned() };
        let here = Folder::new(dir.path().to_owned());
        let error = here.part(&upload, 0, Vec::new()).await.unwrap_err();
        assert_eq!(error.kind, Kind::NotThere);
    }
}
