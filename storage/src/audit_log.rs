//! The audit log below a data folder, and what can be asked of it. How its files are kept is
//! [`crate::chain_log`]'s matter.

use storage_core::audit::{Entry, Numbered};
use storage_core::{WallTime, chain};

pub use crate::chain_log::{ChainFault as AuditFault, ChainLogError as AuditLogError};
use crate::chain_log::{ChainLog, file_name};

/// The log of a data folder; one writer.
pub type AuditLog = ChainLog<Entry>;

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
    /// One of these requests; none: any.
    pub actions: Vec<String>,
    /// Behind the line of this number.
    pub after: u64,
    /// So many lines at most.
    pub limit: usize,
}

impl AuditLog {
    /// The lines that are asked for, oldest first, with their numbers.
    ///
    /// # Errors
    /// [`AuditLogError`].
    pub fn read(&self, wanted: &Wanted) -> Result<Vec<Numbered>, AuditLogError> {
        let mut found = Vec::new();
        let mut names =
            self.names_behind(wanted.after).map_err(|source| self.failed("list", source))?;
        if let Some(from) = wanted.from {
            let first = file_name(from);
            names.retain(|name| *name >= first);
        }
        let sought = wanted.sought();
        for name in names {
            let text = self.text(&name).map_err(|source| self.failed("read", source))?;
            // A log of years has many lines, and reading one as JSON costs far more than looking for a word in it.
            let lines = text.lines().filter(|line| sought.iter().all(|word| line.contains(word)));
            for numbered in lines.filter_map(chain::entry::<Entry>) {
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
}

impl Wanted {
    /// What a line that is asked for has in it as it is written.
    fn sought(&self) -> Vec<String> {
        let user = self.user.as_ref().and_then(|user| serde_json::to_string(user).ok());
        user.into_iter().chain(self.recording.map(|id| id.to_string())).collect()
    }

    fn matches(&self, numbered: &Numbered) -> bool {
        let entry = &numbered.entry;
        numbered.seq > self.after
            && self.from.is_none_or(|from| entry.at >= from)
            && self.to.is_none_or(|to| entry.at < to)
            && self.user.as_ref().is_none_or(|user| *user == entry.user)
            && self.recording.is_none_or(|id| entry.recordingid == Some(id))
            && (self.actions.is_empty() || self.actions.contains(&entry.action))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use serde_json::Value;
    use storage_core::NodeId;

    use std::path::{Path, PathBuf};

    use storage_core::naming::AUDIT_FOLDER;

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
    fn lines_are_found_behind_any_number_and_from_any_day() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = AuditLog::new(dir.path());
        // The clock is set back after the third day.
        let days = [0, 0, 0, 1, 2, 2, 0, 4, 5];
        for day in days {
            log.append(&entry("a", day)).unwrap();
        }
        for (after, from) in (0..=10).flat_map(|after| (0..7).map(move |from| (after, from))) {
            let at = WallTime::from_millis(NOON_MS + from * DAY_MS);
            let wanted = Wanted { from: Some(at), after, limit: 100, ..Wanted::default() };
            let found = log.read(&wanted).unwrap().into_iter().map(|line| line.seq);
            let all = (1..).zip(days).filter(|(seq, day)| *seq > after && *day >= from);
            let all: Vec<u64> = all.map(|(seq, _)| seq).collect();
            assert_eq!(found.collect::<Vec<_>>(), all, "after {after}, from {from}");
        }
        // What is wholly before is not even read; what cannot be read is not passed over.
        std::fs::write(&files(dir.path())[0], [0xff; 99]).unwrap();
        let behind = |after| log.names_behind(after).unwrap().len();
        assert_eq!([0, 3, 4, 6, 7, 8, 9].map(behind), [5, 4, 3, 3, 2, 1, 1]);
    }

    #[test]
    fn who_what_and_about_which_recording_are_found_however_they_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = AuditLog::new(dir.path());
        let id: storage_core::RecordingId = "01a0c451-5660-7707-8707-070707070707".parse().unwrap();
        let users = ["anna", "an", "\"anna\"", "a\\n\n", "\u{7f}ä\u{2028}安娜", ""];
        let actions = ["listen", "listcalls"];
        for (user, action) in users.iter().flat_map(|user| actions.map(|action| (*user, action))) {
            let recordingid = (action == "listen").then_some(id);
            // What somebody writes into an argument is no name.
            let arguments = Value::from("anna listen 01a0c451-5660-7707-8707-070707070707");
            let line =
                Entry { action: action.to_owned(), recordingid, arguments, ..entry(user, 0) };
            log.append(&line).unwrap();
        }
        let found = |user: Option<&str>, actions: &[&str], recording| {
            let actions = actions.iter().map(|action| (*action).to_owned()).collect();
            let user = user.map(str::to_owned);
            let wanted = Wanted { user, actions, recording, limit: 100, ..Wanted::default() };
            let lines = log.read(&wanted).unwrap().into_iter();
            lines.map(|line| (line.entry.user, line.entry.action)).collect::<Vec<_>>()
        };
        for user in users {
            let both = actions.map(|action| (user.to_owned(), action.to_owned()));
            assert_eq!(found(Some(user), &[], None), both, "{user:?}");
            assert_eq!(found(Some(user), &["listcalls", "drill"], None), both[1..], "{user:?}");
            assert_eq!(found(Some(user), &[], Some(id)), both[..1], "{user:?}");
        }
        assert_eq!(found(None, &[], Some(id)).len(), users.len());
        assert_eq!(found(Some("nobody"), &[], None), []);
    }

    #[test]
    fn a_log_is_another_one_on_another_disk() {
        let [one, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let identity = |dir: &Path| AuditLog::new(dir).identity().unwrap();
        assert_eq!(identity(one.path()), None);
        AuditLog::new(one.path()).append(&entry("a", 0)).unwrap();
        let first = identity(one.path());
        assert!(first.is_some());
        for day in 0..3 {
            AuditLog::new(one.path()).append(&entry("b", day)).unwrap();
        }
        assert_eq!(identity(one.path()), first, "it stays the same while it grows");
        AuditLog::new(other.path()).append(&entry("b", 0)).unwrap();
        assert!(identity(other.path()).is_some_and(|other| Some(other) != first));
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
