//! Seals what a crash has left in the capture journal, offline (`astlogger recover`): open
//! recordings too, because nobody will go on with them. A node that starts hands what has ended to
//! its sealer instead.

use std::path::Path;

use storage::{
    Journal, JournalError, JournalOptions, Recovered, Unfinished, VoiceError, VoiceStore,
};
use storage_core::journal::Fact;

use storage_core::{NodeId, RecordingId};

use crate::sealer::SealEvent;
use crate::sealing::{Sealed, VoiceSettings, seal};

/// Why nothing could be recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The capture journal cannot be opened; `Locked` if a node is running on the folder.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The voice folder cannot be opened.
    #[error(transparent)]
    Voice(#[from] VoiceError),
}

/// What [`recover`] did.
#[derive(Debug)]
pub struct Recovery {
    /// What the journal held.
    pub found: Recovered,
    /// What a crash in the middle of publishing had left.
    pub unfinished: Unfinished,
    /// Recordings published.
    pub published: usize,
    /// Recordings in which nothing was heard.
    pub missed: usize,
    /// Recordings that could not be sealed; they are still in the journal.
    pub failed: usize,
}

/// Recordings that nobody adds to any more.
fn ended(found: &Recovered) -> impl Iterator<Item = RecordingId> + '_ {
    found.ended_unsealed.iter().chain(&found.without_draft).copied()
}

/// Seals everything that the journal below a data folder holds. No node may run on it.
/// `tell` hears of each recording.
///
/// # Errors
/// [`RecoverError`] if the folder cannot be worked on. What becomes of single recordings is in
/// the answer.
pub fn recover(
    dir: &Path,
    node: NodeId,
    voice: VoiceSettings,
    mut tell: impl FnMut(&SealEvent),
) -> Result<Recovery, RecoverError> {
    let (mut journal, found) = Journal::open(dir, node, JournalOptions::default())?;
    let store = VoiceStore::open(dir)?;
    let unfinished = store.finish()?;
    let capture = journal.reader();
    let mut recovery = Recovery { found, unfinished, published: 0, missed: 0, failed: 0 };
    let open = recovery.found.open.iter().map(|draft| draft.recordingid);
    let ids: Vec<RecordingId> = open.chain(ended(&recovery.found)).collect();
    for recordingid in ids {
        let event = match seal(&capture, &store, voice, recordingid) {
            Ok(Sealed::Published(record)) => {
                recovery.published += 1;
                SealEvent::Published(record)
            }
            Ok(Sealed::Missed { draft, reason }) => {
                recovery.missed += 1;
                SealEvent::Missed { draft, reason }
            }
            Err(error) => {
                recovery.failed += 1;
                SealEvent::SetAside { recordingid, error }
            }
        };
        if !matches!(event, SealEvent::SetAside { .. }) {
            journal.append_fact(&Fact::Sealed { recordingid })?;
        }
        tell(&event);
    }
    journal.sync()?;
    while journal.maintain()?.more {}
    Ok(recovery)
}
