//! How far the clocks of other nodes were ahead when they captured what is sealed here: the drafts in all captures
//! are read for it. What they say is judged in [`recorder_core::media::clock_step`].

use std::collections::BTreeMap;

use recorder_core::media::clock_step::offset_then;
use storage::{JournalError, JournalReader};
use storage_core::journal::{Entry, Fact};
use storage_core::{Draft, NodeId};

use crate::sealing::SealJob;

/// By node, microseconds; each other node of the job is in it.
pub(crate) fn offsets(
    job: &SealJob,
    capture: &JournalReader,
) -> Result<BTreeMap<NodeId, i64>, JournalError> {
    let mut theirs: BTreeMap<NodeId, (i64, Vec<Draft>)> = BTreeMap::new();
    for pulled in &job.pulled {
        let (_, drafts) = theirs.entry(pulled.node()).or_insert((pulled.clock_offset_us(), vec![]));
        drafts.extend_from_slice(pulled.drafts());
    }
    for mirrored in &job.mirrored {
        let (_, drafts) = theirs.entry(mirrored.node).or_insert((mirrored.clock_offset_us, vec![]));
        mirrored.read(|entry| note(&entry, drafts))?;
    }
    let mut ours = Vec::new();
    if !theirs.is_empty() {
        match capture.read_recordings(&job.local, |entry| note(&entry, &mut ours)) {
            // This node has captured nothing, or no more.
            Ok(_) | Err(JournalError::NoRecording(_)) => {}
            Err(error) => return Err(error),
        }
    }
    let settled = theirs.into_iter().map(|(node, (measured, drafts))| {
        let known = job.offsets_known.get(&node).map_or(&[][..], Vec::as_slice);
        let offset = offset_then((measured, known), &ours, &drafts);
        if offset != measured {
            tracing::warn!(
                recording = %job.recording, %node, measured_us = measured, offset_us = offset,
                "a clock was set since that node captured its part: who was in the call when tells how far it was off"
            );
        }
        (node, offset)
    });
    Ok(settled.collect())
}

/// Keeps the last form of each draft.
fn note(entry: &Entry<'_>, drafts: &mut Vec<Draft>) {
    let Entry::Fact(Fact::Recording { draft }) = entry else { return };
    match drafts.iter_mut().find(|known| known.recordingid == draft.recordingid) {
        Some(known) => known.clone_from(draft),
        None => drafts.push(Draft::clone(draft)),
    }
}
