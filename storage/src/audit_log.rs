//! The audit log's files: `audit/YYYY-MM-DD.jsonl`, a line for each entry, readable by the owner only, and
//! `audit/head`, the number and the hash of the last line. An entry lasts once [`AuditLog::append`] has
//! returned. What a line is, and what is wrong with one, is [`storage_core::audit`]'s matter. Nothing here
//! ever removes a whole line.
//!
//! A line is synced before the head names it, so the head is never ahead of a log that nobody touched. A
//! torn last line, which no answer waited for, is cut. Where the log ends before its head, somebody has
//! removed lines: the chain goes on from the head, so that the hole stays visible for ever.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use storage_core::WallTime;
use storage_core::audit::{self, Entry, Head, Numbered, Verifier};
use storage_core::naming::AUDIT_FOLDER;

use crate::disk::{Disk, DiskFile, RealDisk, read_whole, write_all_at};

const HEAD_FILE: &str = "head";
const ENDING: &str = ".jsonl";
/// A day of a million requests has some 400 MB; a longer file is not one of ours.
const FILE_BYTES_MAX: usize = 1 << 30;

/// Why an entry cannot be written down, or the log not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct AuditLogError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// The log of a data folder; one writer.
#[derive(Debug)]
pub struct AuditLog {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    open: Option<Open>,
    /// Bytes of torn lines that were cut, since somebody asked.
    cut: u64,
}

#[derive(Debug)]
struct Open {
    head: Head,
    head_file: Arc<dyn DiskFile>,
    name: String,
    file: Arc<dyn DiskFile>,
    length: u64,
}

/// What is asked of the log. All of it must hold.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// At this time or later.
    pub from: Option<WallTime>,
    /// Before this time.
    pub to: Option<WallTime>,
    /// By this user.
    pub user: Option<String>,
    /// About this recording.
    pub recording: Option<storage_core::RecordingId>,
    /// Behind the line of this number.
    pub after: u64,
    /// So many lines at most.
    pub limit: usize,
}

/// Something wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditFault {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with which line, in words.
    pub what: String,
}

impl AuditLog {
    /// The log below a data folder. Files are opened when something is appended, and again after an
    /// error, so that a disk that is well again needs no restart.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self::on(RealDisk::shared(), dir)
    }

    /// The same on any disk.
    #[must_use]
    pub fn on(disk: Arc<dyn Disk>, dir: &Path) -> Self {
        Self { disk, folder: dir.join(AUDIT_FOLDER), open: None, cut: 0 }
    }

    /// Writes an entry down so that it lasts.
    ///
    /// # Errors
    /// [`AuditLogError`]; whether it is written down is not known then.
    pub fn append(&mut self, entry: &Entry) -> Result<(), AuditLogError> {
        let written = self.write(entry);
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

    /// The lines that are asked for, oldest first, with their numbers.
    ///
    /// # Errors
    /// [`AuditLogError`].
    pub fn read(&self, wanted: &Wanted) -> Result<Vec<Numbered>, AuditLogError> {
        let mut found = Vec::new();
        for name in self.names().map_err(|source| self.failed("list", source))? {
            let text = self.text(&name).map_err(|source| self.failed("read", source))?;
            for numbered in text.lines().filter_map(audit::entry) {
                if found.len() == wanted.limit {
                    return Ok(found);
                }
                if wanted.matches(&numbered) {
                    found.push(numbered);
                }
            }
        }
        Ok(found)
    }

    fn write(&mut self, entry: &Entry) -> io::Result<()> {
        let today = format!("{}{ENDING}", &entry.at.to_string()[..10]);
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
        let (mut line, next) = open.head.line(entry)?;
        line.push('\n');
        if let Err((_, error)) = write_all_at(&*open.file, line.as_bytes(), open.length) {
            let _ = open.file.truncate(open.length);
            return Err(error);
        }
        open.file.sync()?;
        write_all_at(&*open.head_file, next.text().as_bytes(), 0).map_err(|(_, error)| error)?;
        open.head_file.sync()?;
        open.head = next;
        open.length += line.len() as u64;
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
            if let Some(last) = text.lines().rev().find_map(Head::stated) {
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

    fn kept(&self) -> io::Result<Option<Head>> {
        match read_whole(&*self.disk, &self.folder.join(HEAD_FILE), 4096) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            bytes => Ok(Head::from_text(&String::from_utf8_lossy(&bytes?))),
        }
    }

    /// The files' names, oldest first.
    fn names(&self) -> io::Result<Vec<String>> {
        let listed = match self.disk.list(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            listed => listed?,
        };
        Ok(listed.into_iter().map(|file| file.name).filter(|name| name.ends_with(ENDING)).collect())
    }

    /// The whole lines of a file.
    fn text(&self, name: &str) -> io::Result<String> {
        let bytes = read_whole(&*self.disk, &self.folder.join(name), FILE_BYTES_MAX)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        Ok(String::from_utf8_lossy(&bytes[..whole]).into_owned())
    }

    fn failed(&self, action: &'static str, source: io::Error) -> AuditLogError {
        AuditLogError { action, path: self.folder.clone(), source }
    }

    /// Goes through the chain; how many lines there are, and what is wrong. A node may be running
    /// meanwhile: what it is just writing is left out.
    ///
    /// # Errors
    /// [`AuditLogError`].
    pub fn verify(&self) -> Result<(u64, Vec<AuditFault>), AuditLogError> {
        // The head first: lines that come meanwhile are beyond it.
        let kept = self.kept().map_err(|source| self.failed("read", source))?;
        let names = self.names().map_err(|source| self.failed("list", source))?;
        let mut faults = Vec::new();
        let fault = |path: &Path, what| AuditFault { path: path.to_owned(), what };
        if kept.is_none() && !names.is_empty() {
            let what = "is missing or no head of an audit log: whether lines were removed at the end \
                        cannot be told";
            faults.push(fault(&self.folder.join(HEAD_FILE), what.to_owned()));
        }
        let mut verifier = Verifier::new(kept);
        for name in &names {
            let text = self.text(name).map_err(|source| self.failed("read", source))?;
            for (index, line) in text.lines().enumerate() {
                if let Some(what) = verifier.line(line) {
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

impl Wanted {
    fn matches(&self, numbered: &Numbered) -> bool {
        let entry = &numbered.entry;
        numbered.seq > self.after
            && self.from.is_none_or(|from| entry.at >= from)
            && self.to.is_none_or(|to| entry.at < to)
            && self.user.as_ref().is_none_or(|user| *user == entry.user)
            && self.recording.is_none_or(|id| entry.recordingid == Some(id))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use serde_json::Value;
    use storage_core::NodeId;

    use super::*;
    use crate::testing::{FaultDisk, Survivors};

    const NOON_MS: i64 = 1_700_049_600_000;
    const DAY_MS: i64 = 86_400_000;

    fn entry(user: &str, day: i64) -> Entry {
        Entry {
            at: WallTime::from_millis(NOON_MS + day * DAY_MS),
            node: NodeId(1),
            user: user.to_owned(),
            role: None,
            address: "10.0.0.9".to_owned(),
            action: "fetchrecording".to_owned(),
            recordingid: None,
            arguments: Value::Null,
            outcome: "success".to_owned(),
        }
    }

    fn users(log: &AuditLog) -> Vec<String> {
        let wanted = Wanted { limit: 100, ..Wanted::default() };
        log.read(&wanted).unwrap().into_iter().map(|line| line.entry.user).collect()
    }

    fn sound(log: &AuditLog) -> u64 {
        let (count, faults) = log.verify().unwrap();
        assert_eq!(faults, []);
        count
    }

    fn files(dir: &Path) -> Vec<PathBuf> {
        let listed = std::fs::read_dir(dir.join(AUDIT_FOLDER)).unwrap();
        let mut paths: Vec<_> = listed.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    }

    #[test]
    fn the_chain_goes_on_over_days_restarts_and_clocks_set_back() {
        let dir = tempfile::tempdir().unwrap();
        for (user, day) in [("a", 0), ("b", 0), ("c", 1), ("d", 0), ("e", 2)] {
            AuditLog::new(dir.path()).append(&entry(user, day)).unwrap();
        }
        let log = AuditLog::new(dir.path());
        assert_eq!(users(&log), ["a", "b", "c", "d", "e"]);
        assert_eq!(sound(&log), 5);
        assert_eq!(files(dir.path()).len(), 4);
        for path in files(dir.path()) {
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", path.display());
        }
        let from = Some(WallTime::from_millis(NOON_MS + DAY_MS));
        let wanted = Wanted { from, limit: 1, after: 3, ..Wanted::default() };
        assert_eq!(log.read(&wanted).unwrap()[0].entry.user, "e");
    }

    #[test]
    fn a_torn_line_is_cut_and_said() {
        let dir = tempfile::tempdir().unwrap();
        // Longer than the line that is written in its place.
        AuditLog::new(dir.path()).append(&entry(&"a".repeat(900), 0)).unwrap();
        let path = files(dir.path()).remove(0);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, [&whole, &whole[..800]].concat()).unwrap();
        let mut log = AuditLog::new(dir.path());
        assert_eq!(sound(&log), 1);
        log.append(&entry("b", 0)).unwrap();
        assert_eq!((log.take_cut(), log.take_cut()), (800, 0));
        assert!(std::fs::read(&path).unwrap().ends_with(b"\"}\n"), "the rest of it is there");
        assert_eq!(sound(&log), 2);
    }

    #[test]
    fn lines_removed_at_the_end_stay_missed_whatever_comes_after() {
        let dir = tempfile::tempdir().unwrap();
        for user in ["a", "b", "c"] {
            AuditLog::new(dir.path()).append(&entry(user, 0)).unwrap();
        }
        let path = files(dir.path()).remove(0);
        let text = std::fs::read_to_string(&path).unwrap();
        let first = text.lines().next().unwrap();
        std::fs::write(&path, format!("{first}\n")).unwrap();
        let what = |log: &AuditLog| log.verify().unwrap().1.remove(0).what;
        assert!(what(&AuditLog::new(dir.path())).contains("1 lines are there, and 3"));
        AuditLog::new(dir.path()).append(&entry("d", 0)).unwrap();
        let said = what(&AuditLog::new(dir.path()));
        assert!(said.contains("line 2") && said.contains("numbers 2 to 3"), "{said}");
    }

    #[test]
    fn what_was_answered_lasts_wherever_power_fails() {
        for sync in 1.. {
            let disk = FaultDisk::new();
            disk.off_at_sync(sync);
            let mut log = AuditLog::on(disk.shared(), Path::new("/data"));
            let done = ["a", "b", "c"].into_iter().take_while(|u| log.append(&entry(u, 0)).is_ok());
            let done = done.count();
            for survivors in [Survivors::None, Survivors::All] {
                let mut log = AuditLog::on(disk.power_cut(survivors).shared(), Path::new("/data"));
                log.append(&entry("z", 1)).unwrap();
                assert!(sound(&log) > done as u64, "off at sync {sync}");
                let all = users(&log);
                assert!(["a", "b", "c"][..done].iter().all(|u| all.iter().any(|a| a == u)));
            }
            if done == 3 {
                return;
            }
        }
    }

    #[test]
    fn a_disk_that_fails_once_refuses_once_and_leaves_the_chain_whole() {
        for operation in 1.. {
            let disk = FaultDisk::new();
            disk.fail_at(operation);
            let mut log = AuditLog::on(disk.shared(), Path::new("/data"));
            let refused = ["a", "b", "c"].map(|u| log.append(&entry(u, 0)).is_err());
            if refused == [false; 3] {
                assert!(operation > 3, "no failure was seen");
                return;
            }
            log.append(&entry("z", 0)).unwrap();
            assert!(sound(&log) > 0, "failed at {operation}");
            let kept = users(&log);
            let answered = ["a", "b", "c"].into_iter().zip(refused).filter(|(_, refused)| !refused);
            for (user, _) in answered {
                assert!(kept.iter().any(|kept| kept == user), "failed at {operation}");
            }
        }
    }
}
