//! The files of a log whose lines are bound together: `FOLDER/YYYY-MM-DD.jsonl`, a line for each entry, readable
//! by the owner only, and `FOLDER/head`, the number and the hash of the last line. An entry lasts once
//! [`ChainLog::append`] has returned. What a line is, and what is wrong with one, is
//! [`storage_core::chain`]'s matter. Nothing here ever removes a whole line.
//!
//! A line is synced before the head names it, so the head is never ahead of a log that nobody touched. A
//! torn last line, which nobody was told of, is cut. Where the log ends before its head, somebody has
//! removed lines: the chain goes on from the head, so that the hole stays visible for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use storage_core::WallTime;
use storage_core::chain::{Chained, Head, Verifier};

use crate::disk::{Disk, DiskFile, RealDisk, read_whole, write_all_at};
use crate::voice_file::VoiceError;

const HEAD_FILE: &str = "head";
const ENDING: &str = ".jsonl";
/// A day of a million requests has some 400 MB; a longer file is not one of ours.
const FILE_BYTES_MAX: usize = 1 << 30;
/// A request's line is not much longer than the request, which has 64 KiB at most.
const LINE_BYTES_MAX: usize = 128 << 10;

/// Why an entry cannot be written down, or the log not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct ChainLogError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl From<ChainLogError> for VoiceError {
    fn from(error: ChainLogError) -> Self {
        Self::io("cannot write", &error.path, error.source)
    }
}

/// The log of a data folder; one writer.
#[derive(Debug)]
pub struct ChainLog<E> {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    open: Option<Open>,
    /// Bytes of torn lines that were cut, since somebody asked.
    cut: u64,
    entries: PhantomData<E>,
}

#[derive(Debug)]
struct Open {
    head: Head,
    head_file: Arc<dyn DiskFile>,
    name: String,
    file: Arc<dyn DiskFile>,
    length: u64,
}

/// The file of a day. It has lines of that day and, after the clock was set back, of earlier ones.
pub(crate) fn file_name(at: WallTime) -> String {
    let at = at.to_string();
    format!("{}{ENDING}", at.get(..10).unwrap_or("1970-01-01"))
}

/// Something wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainFault {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with which line, in words.
    pub what: String,
}

impl<E: Chained> ChainLog<E> {
    /// The log below a data folder. Files are opened when something is appended, and again after an
    /// error, so that a disk that is well again needs no restart.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self::on(RealDisk::shared(), dir)
    }

    /// The same on any disk.
    #[must_use]
    pub fn on(disk: Arc<dyn Disk>, dir: &Path) -> Self {
        let folder = dir.join(E::FOLDER);
        Self { disk, folder, open: None, cut: 0, entries: PhantomData }
    }

    /// Writes an entry down so that it lasts.
    ///
    /// # Errors
    /// [`ChainLogError`]; whether it is written down is not known then.
    pub fn append(&mut self, entry: &E) -> Result<(), ChainLogError> {
        self.append_all(std::slice::from_ref(entry))
    }

    /// Writes entries down so that they last, all with one sync of each file.
    ///
    /// # Errors
    /// [`ChainLogError`]; how many of them are written down is not known then.
    pub fn append_all(&mut self, entries: &[E]) -> Result<(), ChainLogError> {
        let written = self.write(entries);
        if written.is_err() {
            // What lies on the disk is not known.
            self.open = None;
        }
        written.map_err(|source| self.failed("write to", source))
    }

    /// How many bytes of torn lines were cut since this was last asked.
    pub fn take_cut(&mut self) -> u64 {
        std::mem::take(&mut self.cut)
    }

    /// The chain up to the last line, as it is when nothing is appended meanwhile.
    ///
    /// # Errors
    /// [`ChainLogError`].
    pub fn head(&mut self, today: WallTime) -> Result<Head, ChainLogError> {
        if self.open.is_none() {
            let opened = self.open_last(&file_name(today));
            self.open = Some(opened.map_err(|source| self.failed("open", source))?);
        }
        Ok(self.open.as_ref().map_or_else(Head::default, |open| open.head))
    }

    fn write(&mut self, entries: &[E]) -> io::Result<()> {
        let Some(last) = entries.last() else { return Ok(()) };
        let today = file_name(last.at());
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.open_last(&today)?,
        };
        // After a clock was set back the last file goes on: files are in the chain's order.
        if open.name < today {
            open.file = self.file(&today)?;
            open.length = open.file.length()?;
            open.name = today;
        }
        let (mut lines, mut next) = (String::new(), open.head);
        for entry in entries {
            let (line, after) = next.line(entry)?;
            lines.push_str(&line);
            lines.push('\n');
            next = after;
        }
        if let Err((_, error)) = write_all_at(&*open.file, lines.as_bytes(), open.length) {
            let _ = open.file.truncate(open.length);
            return Err(error);
        }
        open.file.sync()?;
        write_all_at(&*open.head_file, next.text().as_bytes(), 0).map_err(|(_, error)| error)?;
        open.head_file.sync()?;
        open.head = next;
        open.length += lines.len() as u64;
        self.open = Some(open);
        Ok(())
    }

    fn open_last(&mut self, today: &str) -> io::Result<Open> {
        self.disk.make_folder(&self.folder)?;
        let names = self.names()?;
        let name = names.last().map_or(today, String::as_str).to_owned();
        let file = self.file(&name)?;
        let bytes = read_whole(&*self.disk, &self.folder.join(&name), FILE_BYTES_MAX)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        if whole < bytes.len() {
            file.truncate(whole as u64)?;
            file.sync()?;
            self.cut += (bytes.len() - whole) as u64;
        }
        let mut head = Head::default();
        for name in names.iter().rev() {
            let text = self.text(name)?;
            if let Some(last) = text.lines().rev().find_map(Head::stated::<E>) {
                head = last;
                break;
            }
        }
        let head_file = self.file(HEAD_FILE)?;
        if let Some(kept) = self.kept()?.filter(|kept| kept.count > head.count) {
            head = kept;
        }
        Ok(Open { head, head_file, name, file, length: whole as u64 })
    }

    fn file(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.folder.join(name);
        match self.disk.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = self.disk.create_private(&path)?;
                self.disk.sync_folder(&self.folder)?;
                Ok(file)
            }
            file => file,
        }
    }

    pub(crate) fn kept(&self) -> io::Result<Option<Head>> {
        match read_whole(&*self.disk, &self.folder.join(HEAD_FILE), 4096) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            bytes => Ok(Head::from_text(&String::from_utf8_lossy(&bytes?))),
        }
    }

    /// The files' names, oldest first.
    pub(crate) fn names(&self) -> io::Result<Vec<String>> {
        let listed = match self.disk.list(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            listed => listed?,
        };
        Ok(listed.into_iter().map(|file| file.name).filter(|name| name.ends_with(ENDING)).collect())
    }

    /// The files, oldest first, from the one on that has the line behind this number.
    pub(crate) fn names_behind(&self, number: u64) -> io::Result<Vec<String>> {
        let mut names = self.names()?;
        let (mut low, mut high) = (0, names.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.first_number(&names[middle])? {
                Some(first) if first <= number.saturating_add(1) => low = middle + 1,
                _ => high = middle,
            }
        }
        Ok(names.split_off(low.saturating_sub(1)))
    }

    /// The number of a file's first line, if that can be read.
    fn first_number(&self, name: &str) -> io::Result<Option<u64>> {
        Ok(self.first_line(name)?.map(|head| head.count))
    }

    /// The chain up to a file's first line, if that can be read.
    fn first_line(&self, name: &str) -> io::Result<Option<Head>> {
        let mut begin = vec![0; LINE_BYTES_MAX];
        let read = self.disk.open(&self.folder.join(name))?.read_at(&mut begin, 0)?;
        let text = String::from_utf8_lossy(&begin[..read]);
        let line = text.split_once('\n').map(|(line, _)| line);
        Ok(line.and_then(Head::stated::<E>))
    }

    /// What tells this log from another one of the same member, on a disk before: the hash of its first line. None while it
    /// is empty.
    ///
    /// # Errors
    /// [`ChainLogError`].
    pub fn identity(&self) -> Result<Option<[u8; 32]>, ChainLogError> {
        let names = self.names().map_err(|source| self.failed("list", source))?;
        let Some(name) = names.first() else { return Ok(None) };
        let first = self.first_line(name).map_err(|source| self.failed("read", source))?;
        Ok(first.map(|head| head.hash))
    }

    /// The whole lines of a file.
    pub(crate) fn text(&self, name: &str) -> io::Result<String> {
        let bytes = read_whole(&*self.disk, &self.folder.join(name), FILE_BYTES_MAX)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        Ok(String::from_utf8_lossy(&bytes[..whole]).into_owned())
    }

    /// The hashes that the lines of these numbers have, whether or not each follows from the lines before; of a line that is
    /// not there none.
    ///
    /// # Errors
    /// [`ChainLogError`].
    pub fn hashes_of(
        &self,
        numbers: &BTreeSet<u64>,
    ) -> Result<BTreeMap<u64, [u8; 32]>, ChainLogError> {
        let mut found = BTreeMap::new();
        let Some(first) = numbers.first() else { return Ok(found) };
        let names = self.names().map_err(|source| self.failed("list", source))?;
        for name in names.iter().rev() {
            let text = self.text(name).map_err(|source| self.failed("read", source))?;
            let mut is_first_before = false;
            for head in text.lines().filter_map(Head::stated::<E>) {
                if numbers.contains(&head.count) {
                    found.insert(head.count, head.hash);
                }
                is_first_before |= head.count <= *first;
            }
            if is_first_before {
                break;
            }
        }
        Ok(found)
    }

    pub(crate) fn failed(&self, action: &'static str, source: io::Error) -> ChainLogError {
        ChainLogError { action, path: self.folder.clone(), source }
    }

    /// Goes through the chain; how many lines there are, and what is wrong. A node may be running
    /// meanwhile: what it is just writing is left out.
    ///
    /// # Errors
    /// [`ChainLogError`].
    pub fn verify(&self) -> Result<(u64, Vec<ChainFault>), ChainLogError> {
        self.each(|_, _| None)
    }

    /// The same; and each line that is in order is shown, with the chain before it. What is said of it is
    /// wrong with it, too.
    ///
    /// # Errors
    /// [`ChainLogError`].
    pub fn each(
        &self,
        mut shown: impl FnMut(&str, Head) -> Option<String>,
    ) -> Result<(u64, Vec<ChainFault>), ChainLogError> {
        // The head first: lines that come meanwhile are beyond it.
        let kept = self.kept().map_err(|source| self.failed("read", source))?;
        let names = self.names().map_err(|source| self.failed("list", source))?;
        let mut faults = Vec::new();
        let fault = |path: &Path, what| ChainFault { path: path.to_owned(), what };
        if kept.is_none() && !names.is_empty() {
            let what = format!(
                "is missing or no head of {}: whether lines were removed at the end cannot be told",
                E::LOG
            );
            faults.push(fault(&self.folder.join(HEAD_FILE), what));
        }
        let mut verifier = Verifier::<E>::new(kept);
        for name in &names {
            let text = self.text(name).map_err(|source| self.failed("read", source))?;
            for (index, line) in text.lines().enumerate() {
                let before = verifier.head();
                if let Some(what) = verifier.line(line).or_else(|| shown(line, before)) {
                    let what = format!("line {} {what}", index + 1);
                    faults.push(fault(&self.folder.join(name), what));
                }
            }
        }
        let count = verifier.count();
        if let Some(what) = verifier.end() {
            faults.push(fault(&self.folder, what));
        }
        Ok((count, faults))
    }
}
