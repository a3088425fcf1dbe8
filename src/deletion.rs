//! Deletes recordings, on this node and on all others that record: the files and the entry in the catalog, with
//! the debt to the other nodes paid in the same way as that for tags and notes ([`crate::marks`]). That a
//! recording under legal hold stays is decided here; who may delete, and what retention lets go, is not. How the files
//! go, and what a power cut leaves, is [`storage::deletion`]'s matter.
//!
//! ```text
//! a wish ──▶ not held ──▶ owed to all, this node too ──▶ tombstone, files ──▶ catalog ──▶ this node's debt is paid
//!                                │
//!                                └──▶ each other node, when it can be reached: the same there, and it tells on
//! ```
//!
//! Whoever hears of a deletion owes it to all others, too: one that heard of the recording from somebody who
//! was away meanwhile is reached in this way. Who holds the recording refuses, and the debt stays until
//! two people have released it there.

use storage::VoiceError;
use storage::owed::ARCHIVE;
use storage_core::RecordingId;
use storage_core::tombstone::{Deletion, Tombstone};

use recorder::clock::Clock;
use serde_json::{Map, json};
use storage_core::Recording;

use crate::alarms::Alarm;
use crate::marks::{Marker, internal, not_written};
use crate::web::backend::{Code, DeleteRequest, Failure, Topic};

/// Who deletes what retention lets go.
pub const RETENTION: &str = "retention";

impl Marker {
    /// Does what a person asks. When this returns the recording is gone here, and nothing brings it back.
    /// Blocks.
    ///
    /// # Errors
    /// `notfound`; `forbidden` under legal hold; `unavailable`, `internal`: then it may be tried again.
    pub fn delete(&self, request: &DeleteRequest) -> Result<Tombstone, Failure> {
        let DeleteRequest { recording: id, reason, by } = request;
        let _turn = self.turn();
        let Some(record) = self.catalog.get(*id).map_err(internal)? else {
            return Err(self.not_there(*id));
        };
        if let Some(held) = self.held(&record) {
            return Err(refused(&held));
        }
        let (node, at) = (self.node(), Clock::wall());
        let deletion = Deletion { at, node, by: by.clone(), reason: reason.clone() };
        let tombstone = Tombstone::of(&record, deletion);
        self.owe_to_all(*id)?;
        self.carry_out(&tombstone)?;
        self.deleted(&tombstone, &record);
        Ok(tombstone)
    }

    /// Takes over what another node has deleted. Blocks.
    ///
    /// # Errors
    /// `forbidden` where it is held; `unavailable`, `internal`.
    pub fn learn_deletion(&self, tombstone: &Tombstone) -> Result<(), Failure> {
        let id = tombstone.recordingid;
        let _turn = self.turn();
        let listed = self.catalog.get(id).map_err(internal)?;
        let lying = self.voices.record(id, tombstone.started).ok();
        let held = listed.iter().chain(&lying).find_map(|record| self.held(record));
        self.hub.alarms.set(held.is_some(), deletion_held(tombstone));
        if let Some(held) = held {
            return Err(refused(&held));
        }
        let known = self.voices.is_deleted(id);
        if !known {
            self.owe_to_all(id)?;
        }
        self.carry_out(tombstone)?;
        self.settled(id);
        if let Some(record) = listed.filter(|_| !known) {
            self.deleted(tombstone, &record);
        }
        Ok(())
    }

    /// What broke off, or a recording of which this node has to hear its own word. Tells whether it is done.
    pub(crate) fn finish_deletion(&self, tombstone: &Tombstone) -> bool {
        let done = self.carry_out(tombstone);
        self.hub.alarms.set(done.is_err(), not_deleted(tombstone, done.as_ref().err()));
        done.is_ok()
    }

    fn owe_to_all(&self, id: RecordingId) -> Result<(), Failure> {
        let others = self.others(&self.peers.group().view());
        let archive = self.archive.then_some(ARCHIVE);
        let all = others.into_iter().chain([self.node()]).chain(archive);
        self.owed.owe(id, all).map_err(not_written)?;
        // Also if it breaks off: then it is gone through again.
        self.news.notify_one();
        Ok(())
    }

    fn carry_out(&self, tombstone: &Tombstone) -> Result<(), Failure> {
        let id = tombstone.recordingid;
        self.voices.delete(tombstone).map_err(not_written)?;
        if !self.hub.forget(id, &*self.catalog) {
            return Err(Failure::new(Code::Internal, "the catalog does not take it: see the log"));
        }
        self.voices.deletion_done(id).map_err(not_written)
    }

    /// The recording as it is held, be it in the list or on the disk.
    fn held(&self, record: &Recording) -> Option<Recording> {
        let lying = || self.voices.record(record.recordingid, record.started).ok();
        if record.hold { Some(record.clone()) } else { lying().filter(|lying| lying.hold) }
    }

    fn not_there(&self, id: RecordingId) -> Failure {
        let what = match self.voices.tombstone(id) {
            Ok(Some(Tombstone { at, by, .. })) => {
                format!("recording {id} was deleted by {by:?} at {at}")
            }
            _ => format!("no recording {id}"),
        };
        Failure::new(Code::NotFound, what)
    }

    fn deleted(&self, tombstone: &Tombstone, record: &Recording) {
        self.settled(tombstone.recordingid);
        self.hub.alarms.clear("deletionfailed", &tombstone.recordingid.to_string());
        let by = if tombstone.by == RETENTION { RETENTION } else { "request" };
        self.hub.metrics.deletions.deleted.with_label_values(&[by]).inc();
        tracing::info!(recording = %tombstone.recordingid, by, "deleted");
        let Tombstone { recordingid, at, by, reason, .. } = tombstone;
        let body = Map::from_iter([
            ("recordingid".to_owned(), json!(recordingid)),
            ("at".to_owned(), json!(at)),
            ("by".to_owned(), json!(by)),
            ("reason".to_owned(), json!(reason)),
        ]);
        let extensions = vec![record.extension.clone()];
        self.hub.spread(Topic::Recordings, "recordingdeleted", extensions, body);
    }
}

/// Why a recording under legal hold is not deleted.
#[must_use]
pub fn refused(held: &Recording) -> Failure {
    let id = held.recordingid;
    let since = held.holdmark.as_ref().map_or_else(String::new, |mark| {
        format!(" by {:?} since {}: {}", mark.by, mark.stamp.at, mark.reason)
    });
    let message = format!(
        "recording {id} is under legal hold{since}; it can be deleted once two admins have released it (legalhold, \
         on: false)"
    );
    Failure::new(Code::Forbidden, message)
}

fn deletion_held(tombstone: &Tombstone) -> Alarm {
    let Tombstone { recordingid, node, .. } = tombstone;
    Alarm {
        name: "deletionheld",
        subject: recordingid.to_string(),
        message: format!(
            "recording {recordingid} was deleted on node {node}, which had not heard that it is under legal hold: this \
             node keeps it"
        ),
        remedy: "if it is to go, let two admins release it here; if it is to stay, copy its files from this node's \
                 voice folder to a safe place",
    }
}

fn not_deleted(tombstone: &Tombstone, why: Option<&Failure>) -> Alarm {
    let id = tombstone.recordingid;
    let why = why.map_or("", |failure| failure.message.as_str());
    Alarm {
        name: "deletionfailed",
        subject: id.to_string(),
        message: format!("recording {id} is deleted, and its files cannot be removed here: {why}"),
        remedy: "look at the disk below al_datadir; it is tried again by itself",
    }
}

/// What a start has to end: recordings whose deletion had begun may still be listed.
///
/// # Errors
/// [`VoiceError`] if the note of one cannot be removed.
pub fn finish_at_start(
    deleted: &[Tombstone],
    hub: &crate::hub::Hub,
    catalog: &dyn storage::Catalog,
    voices: &storage::VoiceStore,
) -> Result<(), VoiceError> {
    for tombstone in deleted {
        tracing::info!(recording = %tombstone.recordingid, "finished deleting after a crash");
        if hub.forget(tombstone.recordingid, catalog) {
            voices.deletion_done(tombstone.recordingid)?;
        }
    }
    Ok(())
}
