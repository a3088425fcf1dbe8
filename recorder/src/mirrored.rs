//! A capture of another node as it lies in the mirror that is kept here, for the sealer. It decides nothing
//! about when a mirror is used, nor what is kept in it.

use std::collections::BTreeSet;

use storage::{JournalError, JournalReader, ReadStats};
use storage_core::journal::Entry;
use storage_core::{NodeId, RecordingId, SegmentId};

use crate::pulled::is_wanted;

/// What a mirror has of a recording.
#[derive(Clone, Debug)]
pub struct MirroredCapture {
    /// Who captured it.
    pub node: NodeId,
    /// By how much that node's clock was ahead of ours when it was last heard, microseconds.
    pub clock_offset_us: i64,
    /// The mirror.
    pub mirror: JournalReader,
    /// The names under which the mirror holds parts of the recording.
    pub recordings: Vec<RecordingId>,
    /// Which captures are wanted of these.
    pub segments: BTreeSet<SegmentId>,
}

impl MirroredCapture {
    /// What a mirror has of these captures; `None` if it has nothing of them.
    #[must_use]
    pub fn of(
        node: NodeId,
        clock_offset_us: i64,
        mirror: JournalReader,
        segments: &[SegmentId],
    ) -> Option<Self> {
        let recordings = mirror.recordings_of(segments);
        let segments = segments.iter().copied().collect();
        let capture = Self { node, clock_offset_us, mirror, recordings, segments };
        (!capture.recordings.is_empty()).then_some(capture)
    }

    /// Gives every entry to `entry`, in the order in which its node appended them. What its node goes on
    /// to send is given as well.
    ///
    /// # Errors
    /// [`JournalError::NoRecording`] if the mirror holds nothing of it any more.
    pub fn read(&self, mut entry: impl FnMut(Entry<'_>)) -> Result<ReadStats, JournalError> {
        self.mirror.read_recordings(&self.recordings, |found| {
            if is_wanted(&found, &self.segments) {
                entry(found);
            }
        })
    }
}
