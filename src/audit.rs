//! The clerk who writes the audit log of this node, for all who serve people. He decides what becomes of
//! a request that cannot be written down: whoever would be shown recordings, records or the log itself is
//! refused; whatever else was done stays done, and the failure is logged. What is written for which
//! request is the servers' matter.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use serde_json::Value;
use storage::audit_log::{AuditLog, AuditLogError, Wanted};
use storage_core::audit::Entry;
use storage_core::{NodeId, RecordingId, WallTime};

use crate::audit_pages::{self, Filter, Lines, Listing, LogName, LogPlace, Question};
use crate::web::backend::{Code, Failure};

/// What nobody gets to see without a line in the log.
const SHOWN: [&str; 8] = [
    "listrecordings",
    "getrecording",
    "fetchrecording",
    "listen",
    "listaudit",
    "listholds",
    "exportrecordings",
    "fetchexport",
];

/// A request as it is written down. Telephone numbers are in it, so it has no `Debug`.
#[derive(Clone)]
pub struct Asked {
    /// Who; of a refused sign-in the name that was given.
    pub user: String,
    /// What he is; absent if he is not signed in.
    pub role: Option<&'static str>,
    /// Where he is.
    pub address: IpAddr,
    /// The request's name.
    pub action: String,
    /// What he asked, without secrets.
    pub arguments: Value,
}

/// The clerk.
pub struct Clerk {
    node: NodeId,
    log: Mutex<AuditLog>,
    /// To read from while somebody writes: a log of years takes its time, and nobody's request is to wait for that.
    read: AuditLog,
}

impl fmt::Debug for Clerk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clerk").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Clerk {
    /// The clerk of a node with this data folder.
    #[must_use]
    pub fn new(node: NodeId, dir: &Path) -> Arc<Self> {
        Arc::new(Self { node, log: Mutex::new(AuditLog::new(dir)), read: AuditLog::new(dir) })
    }

    /// Writes down what was asked and what came of it; ready once that lasts.
    ///
    /// # Errors
    /// `unavailable` if it cannot be written down and nobody may see the answer without.
    pub async fn note(
        self: &Arc<Self>,
        asked: Asked,
        outcome: Option<Code>,
    ) -> Result<(), Failure> {
        let shown = outcome.is_none() && SHOWN.contains(&asked.action.as_str());
        let clerk = Arc::clone(self);
        let written = tokio::task::spawn_blocking(move || clerk.write(asked, outcome)).await;
        let error = match written {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::error!(%error, "a request is not in the audit log");
        if !shown {
            return Ok(());
        }
        Err(unwritten(&error))
    }

    /// Writes down things that were done, all of them at once. Blocking.
    ///
    /// # Errors
    /// `unavailable` if they cannot be written down.
    pub fn note_all(&self, asked: Vec<Asked>) -> Result<(), Failure> {
        let entries: Vec<_> = asked.into_iter().map(|asked| self.entry(asked, None)).collect();
        self.append(&entries).map_err(|error| unwritten(&error.to_string()))
    }

    /// Lines of this node's log, oldest first, behind the line of this number. Blocking.
    ///
    /// # Errors
    /// `unavailable` if the log cannot be read.
    pub fn lines(&self, filter: Filter, place: LogPlace, limit: usize) -> Result<Lines, Failure> {
        let Filter { from, to, user, recording, actions } = filter;
        let broken = |error: AuditLogError| Failure::new(Code::Unavailable, error.to_string());
        let name = self.read.identity().map_err(broken)?.map(LogName::of);
        // One more tells whether there are more.
        let (after, limit_and_one) = (place.within(name), limit.saturating_add(1));
        let wanted = Wanted { from, to, user, recording, actions, after, limit: limit_and_one };
        let found = self.read.read(&wanted).map_err(broken)?;
        Ok(Lines::cut(found, name, limit))
    }

    /// What `listaudit` is answered by this node alone. Blocking.
    ///
    /// # Errors
    /// As `lines`.
    pub fn list(&self, question: &Question) -> Result<Listing, Failure> {
        let Question { filter, places, limit } = question;
        let lines = self.lines(filter.clone(), places.of(self.node), *limit)?;
        let page = audit_pages::page(places, vec![(self.node, lines)], *limit);
        Ok(Listing { node: self.node, page, unreachable: Vec::new() })
    }

    fn write(&self, asked: Asked, outcome: Option<Code>) -> Result<(), AuditLogError> {
        self.append(&[self.entry(asked, outcome)])
    }

    fn entry(&self, asked: Asked, outcome: Option<Code>) -> Entry {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Entry {
            at: WallTime::default() + since,
            node: self.node,
            user: asked.user,
            role: asked.role.map(str::to_owned),
            address: asked.address.to_canonical().to_string(),
            action: asked.action,
            recordingid: recording_of(&asked.arguments),
            arguments: asked.arguments,
            outcome: outcome.map_or("success", Code::as_str).to_owned(),
        }
    }

    fn append(&self, entries: &[Entry]) -> Result<(), AuditLogError> {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let written = log.append_all(entries);
        let cut = log.take_cut();
        if cut > 0 {
            tracing::warn!(bytes = cut, "the audit log's last line was torn, and is cut");
        }
        written
    }
}

fn unwritten(error: &str) -> Failure {
    let message = format!(
        "the audit log cannot be written, and nothing is shown without: {error}; \
         make room on the disk of `al_datadir`, or mend it"
    );
    Failure::new(Code::Unavailable, message)
}

fn recording_of(arguments: &Value) -> Option<RecordingId> {
    arguments.get("recordingid")?.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_reads_holds_up_nobody_who_writes_and_the_other_way_round() {
        let dir = tempfile::tempdir().unwrap();
        let clerk = Clerk::new(NodeId(1), dir.path());
        let asked = Asked {
            user: "anna".to_owned(),
            role: Some("qa"),
            address: IpAddr::from([10, 0, 0, 9]),
            action: "listrecordings".to_owned(),
            arguments: Value::Null,
        };
        clerk.note_all(vec![asked.clone(), asked]).unwrap();
        let (told, answer) = mpsc::channel();
        let writing = clerk.log.lock().unwrap();
        let reader = Arc::clone(&clerk);
        let reading = std::thread::spawn(move || {
            told.send(reader.lines(Filter::default(), LogPlace::default(), 1)).unwrap();
        });
        let lines = answer.recv_timeout(Duration::from_secs(10)).expect("it waits").unwrap();
        drop(writing);
        reading.join().unwrap();
        assert_eq!((lines.entries.len(), lines.more), (1, true));
    }
}
