//! What this node saw of calls, for the day's completeness: a line of JSON for each call that is over, in
//! a file for each UTC day on which calls began. It decides nothing about what is complete.
//!
//! A line outlasts the process once [`CallLog::append`] has returned, and a power cut after the next
//! [`CallLog::sync`]. The days are kept of which people ask for more than a year's report; older ones go when
//! a new one begins. They are counted, not dated, so that a clock that was set wrong takes nothing. A torn last line is left out when the file is read, and ended before anything is
//! appended to it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use storage_core::WallTime;
use storage_core::completeness::SeenCall;
use storage_core::naming;

use crate::disk::{Disk, DiskFile, RealDisk, read_whole, write_all_at};

/// A day of a hundred thousand calls has some 50 MB; a longer file is not one of ours.
const FILE_BYTES_MAX: usize = 1 << 30;

/// Days that are kept: a year's report, and a month to ask for it.
const DAYS_MAX: usize = 400;

/// Why calls cannot be written down or read.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct CallLogError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// The calls of a folder; one writer, any number of readers.
#[derive(Debug)]
pub struct CallLog {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    head: Option<Head>,
}

/// The file that was appended to last.
#[derive(Debug)]
struct Head {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    length: u64,
    unsynced: bool,
}

/// What a day's file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallsRead {
    /// The calls, in the order in which they ended.
    pub calls: Vec<SeenCall>,
    /// Lines that cannot be read.
    pub broken: u64,
}

impl CallLog {
    /// The log below a data folder of this machine.
    ///
    /// # Errors
    /// [`CallLogError`]; in all methods here.
    pub fn open(dir: &Path) -> Result<Self, CallLogError> {
        Self::open_on(RealDisk::shared(), dir)
    }

    /// The same on any disk.
    ///
    /// # Errors
    /// [`CallLogError`].
    pub fn open_on(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, CallLogError> {
        let folder = dir.join(naming::CALLS_FOLDER);
        let made = disk.make_folder(&folder);
        made.map_err(|source| CallLogError { action: "make", path: folder.clone(), source })?;
        Ok(Self { disk, folder, head: None })
    }

    /// Writes a call down.
    ///
    /// # Errors
    /// [`CallLogError`]; it is not written down then.
    pub fn append(&mut self, call: &SeenCall) -> Result<(), CallLogError> {
        let path = self.folder.join(naming::calls_file(call.began));
        let written = self.write(&path, call);
        if written.is_err() {
            // What is at its end is not known.
            self.head = None;
        }
        written.map_err(|source| CallLogError { action: "write to", path, source })
    }

    fn write(&mut self, path: &Path, call: &SeenCall) -> io::Result<()> {
        let mut line = serde_json::to_vec(call)?;
        line.push(b'\n');
        let known = self.head.as_ref().is_some_and(|head| head.path == path);
        if !known {
            // The day before is over, but for calls that are.
            self.sync().map_err(|error| error.source)?;
            self.head = Some(self.open_file(path)?);
        }
        let Some(head) = &mut self.head else { return Ok(()) };
        if let Err((written, error)) = write_all_at(&*head.file, &line, head.length) {
            if written > 0 {
                let _ = head.file.truncate(head.length);
            }
            return Err(error);
        }
        head.length += line.len() as u64;
        head.unsynced = true;
        Ok(())
    }

    /// Makes what was appended last.
    ///
    /// # Errors
    /// [`CallLogError`]; what was appended since the last success may be lost.
    pub fn sync(&mut self) -> Result<(), CallLogError> {
        let Some(head) = self.head.as_mut().filter(|head| head.unsynced) else { return Ok(()) };
        head.unsynced = false;
        let path = head.path.clone();
        head.file.sync().map_err(|source| CallLogError { action: "sync", path, source })
    }

    fn open_file(&self, path: &Path) -> io::Result<Head> {
        let file = match self.disk.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = self.disk.create(path)?;
                self.disk.sync_folder(&self.folder)?;
                // What cannot be removed is tried again on another day; the call is written down all the same.
                let _ = self.drop_oldest();
                file
            }
            file => file?,
        };
        let mut length = file.length()?;
        let mut last = [b'\n'];
        if length > 0 {
            file.read_at(&mut last, length - 1)?;
        }
        if last != *b"\n" {
            write_all_at(&*file, b"\n", length).map_err(|(_, error)| error)?;
            length += 1;
        }
        Ok(Head { path: path.to_owned(), file, length, unsynced: false })
    }

    fn drop_oldest(&self) -> io::Result<()> {
        let listed = self.disk.list(&self.folder)?.into_iter();
        let mut names: Vec<String> =
            listed.map(|entry| entry.name).filter(|name| naming::is_calls_file(name)).collect();
        names.sort_unstable();
        let surplus = names.len().saturating_sub(DAYS_MAX);
        names[..surplus].iter().try_for_each(|name| self.disk.remove(&self.folder.join(name)))
    }

    /// The calls that began on the UTC day of a time, as this node saw them; none if there is no file.
    ///
    /// # Errors
    /// [`CallLogError`].
    pub fn read(&self, day: WallTime) -> Result<CallsRead, CallLogError> {
        let path = self.folder.join(naming::calls_file(day));
        let failed = |source| CallLogError { action: "read", path: path.clone(), source };
        let bytes = match read_whole(&*self.disk, &path, FILE_BYTES_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(CallsRead::default());
            }
            bytes => bytes.map_err(failed)?,
        };
        let mut read = CallsRead::default();
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(call) => read.calls.push(call),
                Err(_) => read.broken += 1,
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use storage_core::NodeId;

    use super::*;

    const NOON: i64 = 1_700_049_600_000;
    const DAY: i64 = 86_400_000;

    fn call(began_ms: i64) -> SeenCall {
        let began = WallTime::from_millis(NOON + began_ms);
        SeenCall {
            node: NodeId(1),
            ucids: Vec::new(),
            callids: vec!["1207".to_owned()],
            stations: vec!["31002".into()],
            began,
            ended: began,
            due: Vec::new(),
            rule: "all".to_owned(),
            captured: false,
            block: None,
            deleted: false,
            paused: Vec::new(),
        }
    }

    fn read(log: &CallLog, ms: i64) -> (Vec<SeenCall>, u64) {
        let read = log.read(WallTime::from_millis(NOON + ms)).unwrap();
        (read.calls, read.broken)
    }

    #[test]
    fn calls_are_filed_by_the_day_on_which_they_began() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = CallLog::open(dir.path()).unwrap();
        for ms in [0, DAY, 5, -DAY] {
            log.append(&call(ms)).unwrap();
        }
        log.sync().unwrap();
        assert_eq!(read(&log, 1), (vec![call(0), call(5)], 0));
        assert_eq!(read(&log, DAY), (vec![call(DAY)], 0));
        assert_eq!(read(&log, -DAY), (vec![call(-DAY)], 0));
        assert_eq!(read(&log, 9 * DAY), (vec![], 0));
        assert!(dir.path().join("calls/2023-11-15.jsonl").is_file());
    }

    #[test]
    fn the_oldest_day_goes_when_there_are_too_many() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = CallLog::open(dir.path()).unwrap();
        let foreign = dir.path().join("calls/1999-notes.txt");
        std::fs::write(&foreign, "kept").unwrap();
        let days = i64::try_from(DAYS_MAX).unwrap();
        for day in 0..days {
            log.append(&call(day * DAY)).unwrap();
        }
        assert_eq!(read(&log, 0).0.len(), 1);
        // A clock that is far ahead for a moment costs one day, not all of them.
        log.append(&call(9_000 * DAY)).unwrap();
        assert_eq!((read(&log, 0).0.len(), read(&log, DAY).0.len()), (0, 1));
        log.append(&call(days * DAY)).unwrap();
        assert_eq!((read(&log, DAY).0.len(), read(&log, 2 * DAY).0.len()), (0, 1));
        assert!(foreign.is_file());
    }

    #[test]
    fn a_torn_line_costs_one_call() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = CallLog::open(dir.path()).unwrap();
        log.append(&call(0)).unwrap();
        log.append(&call(1)).unwrap();
        drop(log);
        let path = dir.path().join(naming::CALLS_FOLDER).join(naming::calls_file(call(0).began));
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
        let mut log = CallLog::open(dir.path()).unwrap();
        assert_eq!(read(&log, 0), (vec![call(0)], 1));
        log.append(&call(2)).unwrap();
        assert_eq!(read(&log, 0), (vec![call(0), call(2)], 1));
    }

    #[test]
    fn what_cannot_be_written_is_told_and_stops_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = CallLog::open(dir.path()).unwrap();
        let path = dir.path().join(naming::CALLS_FOLDER).join(naming::calls_file(call(0).began));
        std::fs::create_dir(&path).unwrap();
        let error = log.append(&call(0)).unwrap_err();
        assert!(error.to_string().contains("2023-11-15"), "{error}");
        std::fs::remove_dir(&path).unwrap();
        log.append(&call(0)).unwrap();
        assert_eq!(read(&log, 0), (vec![call(0)], 0));
    }
}
