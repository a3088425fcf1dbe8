//! Seals what a crash has left in the capture journal, offline (`astlogger recover`): open
//! recordings too, because nobody will go on with them. A node that starts hands what has ended to
//! its sealer instead.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use recorder_core::media::Unplaceable;
use storage::{
    Journal, JournalError, JournalOptions, JournalReader, Keys, Manifest, Recovered, Unfinished,
    VoiceError, VoiceStore,
};
use storage_core::journal::Fact;
use storage_core::{Draft, NodeId, Recording, RecordingId};

use crate::sealing::{SealError, SealJob, Sealed, VoiceSettings, seal};

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

/// What became of a recording.
#[derive(Debug)]
pub enum RecoverEvent {
    /// It is published: voice file and record are durable.
    Published(Box<Recording>),
    /// Nothing was heard; there is no voice file.
    Missed {
        /// What is known of the call.
        draft: Box<Draft>,
        /// Why.
        reason: Unplaceable,
    },
    /// It cannot be sealed. Its capture stays in the journal.
    SetAside {
        /// The recording.
        recordingid: RecordingId,
        /// Why.
        error: SealError,
    },
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
/// Captures that are encrypted need their keys. `tell` hears of each recording.
///
/// # Errors
/// [`RecoverError`] if the folder cannot be worked on. What becomes of single recordings is in
/// the answer.
pub fn recover(
    dir: &Path,
    node: NodeId,
    voice: VoiceSettings,
    keys: Keys,
    mut tell: impl FnMut(&RecoverEvent),
) -> Result<Recovery, RecoverError> {
    let options = JournalOptions::default();
    let (mut journal, found) = Journal::open_with_keys(dir, node, options, keys.clone())?;
    let manifest = Arc::new(Manifest::open(dir, node)?);
    let store = VoiceStore::open(dir)?.with_keys(keys).with_manifest(Arc::clone(&manifest));
    let unfinished = store.finish()?;
    for staged in store.staged()? {
        // Its captures are still in the journal, and are sealed below.
        store.discard(&staged)?;
    }
    let capture = journal.reader();
    let mut recovery = Recovery { found, unfinished, published: 0, missed: 0, failed: 0 };
    for (recording, local) in by_name(&capture, &recovery.found) {
        if store.is_deleted(recording) {
            for recordingid in local {
                journal.append_fact(&Fact::Sealed { recordingid })?;
            }
            continue;
        }
        let event = publish(&capture, &store, voice, node, recording, &local);
        match &event {
            RecoverEvent::Published(_) => recovery.published += 1,
            RecoverEvent::Missed { .. } => recovery.missed += 1,
            RecoverEvent::SetAside { .. } => recovery.failed += 1,
        }
        if !matches!(event, RecoverEvent::SetAside { .. }) {
            for recordingid in local {
                journal.append_fact(&Fact::Sealed { recordingid })?;
            }
        }
        tell(&event);
    }
    journal.sync()?;
    while journal.maintain()?.more {}
    manifest.checkpoint()?;
    Ok(recovery)
}

/// What the journal holds, by the names under which it is published.
fn by_name(capture: &JournalReader, found: &Recovered) -> BTreeMap<RecordingId, Vec<RecordingId>> {
    let open = found.open.iter().map(|draft| draft.recordingid);
    let mut names: BTreeMap<RecordingId, Vec<RecordingId>> = BTreeMap::new();
    for id in open.chain(ended(found)) {
        let draft = capture.outline(id).ok().and_then(|outline| outline.draft);
        names.entry(draft.map_or(id, |draft| draft.groupname())).or_default().push(id);
    }
    names
}

/// Seals and publishes one. There may be an earlier revision, sealed by this node and published
/// before the crash; nothing of it is lost. The copy of another node's recording is not added to.
fn publish(
    capture: &JournalReader,
    store: &VoiceStore,
    voice: VoiceSettings,
    node: NodeId,
    recordingid: RecordingId,
    local: &[RecordingId],
) -> RecoverEvent {
    let sealed = || -> Result<RecoverEvent, SealError> {
        let before = store.published(recordingid)?;
        let mut drafts = local.iter().filter_map(|id| capture.outline(*id).ok()?.draft);
        let (node, copy) = drafts.next().map_or((node, 1), |draft| (draft.node, draft.copy));
        if let Some(owner) = before.as_ref().map(|before| before.node).filter(|o| *o != node) {
            return Err(SealError::Elsewhere { node: owner });
        }
        let revision = before.as_ref().map_or(1, |before| before.revision + 1);
        let local = local.to_vec();
        let job = SealJob { revision, local, ..SealJob::alone(recordingid, node, copy) };
        Ok(match (seal(&job, capture, store, voice)?, before) {
            (Sealed::Staged { staged, .. }, _) => {
                RecoverEvent::Published(Box::new(store.publish_staged(&staged)?))
            }
            (Sealed::Same { .. }, Some(before)) => RecoverEvent::Published(Box::new(before)),
            (Sealed::Same { .. }, None) => {
                return Err(JournalError::NoRecording(recordingid).into());
            }
            (Sealed::Missed { draft, reason, .. }, _) => RecoverEvent::Missed { draft, reason },
        })
    };
    sealed().unwrap_or_else(|error| RecoverEvent::SetAside { recordingid, error })
}
