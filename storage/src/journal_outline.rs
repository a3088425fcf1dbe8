//! What the journal holds of a recording without its media: what is known of the call, and when
//! each of its segments was opened, heard and closed. Of the media it reads the first and the last
//! packets only, so a long call costs no more than a short one.

use std::collections::BTreeMap;

use storage_core::journal::{Channel, Entry, Fact};
use storage_core::{Draft, Extension, RecordingId, SegmentId, WallTime};

use crate::block_list::Run;
use crate::journal_error::JournalError;
use crate::journal_read::{JournalReader, Source};

/// A recording that is not sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// What is known of the call; absent if the disk has lost it.
    pub draft: Option<Draft>,
    /// Its segments, in the order of their numbers.
    pub segments: Vec<SegmentOutline>,
}

/// A segment of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentOutline {
    /// Its number.
    pub segment: SegmentId,
    /// The phantom that was asked into the call.
    pub phantom: Extension,
    /// When it was.
    pub opened: WallTime,
    /// When it left; absent if it is still there.
    pub closed: Option<WallTime>,
    /// When the first media packet in the journal was received; absent if there is none.
    pub first_packet: Option<WallTime>,
    /// When the last one was.
    pub last_packet: Option<WallTime>,
}

impl JournalReader {
    /// The outline of a recording.
    ///
    /// # Errors
    /// [`JournalError::NoRecording`] if the journal holds nothing of it or it is sealed.
    pub fn outline(&self, id: RecordingId) -> Result<Outline, JournalError> {
        let pinned = self.pin(id)?;
        let mut source = pinned.source();
        let mut draft = None;
        let mut segments = BTreeMap::new();
        for run in &pinned.plan().facts {
            source.read(*run, &mut |entry| {
                if let Entry::Fact(fact) = entry {
                    take(fact, &mut draft, &mut segments);
                }
            });
        }
        for blocks in &pinned.plan().blocks {
            let runs: Vec<Run> = blocks.iter().collect();
            let Some(first) = runs.iter().find_map(|run| heard(&mut source, *run)) else {
                continue;
            };
            let last = runs.iter().rev().find_map(|run| heard(&mut source, *run));
            if let Some(outline) = segments.get_mut(&first.segment) {
                outline.first_packet = Some(first.first);
                outline.last_packet = Some(last.unwrap_or(first).last);
            }
        }
        source.finish()?;
        Ok(Outline { draft, segments: segments.into_values().collect() })
    }
}

fn take(fact: Fact, draft: &mut Option<Draft>, segments: &mut BTreeMap<SegmentId, SegmentOutline>) {
    match fact {
        Fact::Recording { draft: newest } => *draft = Some(newest),
        Fact::SegmentOpened { segment, phantom, at, .. } => {
            segments.entry(segment).or_insert(SegmentOutline {
                segment,
                phantom,
                opened: at,
                closed: None,
                first_packet: None,
                last_packet: None,
            });
        }
        Fact::SegmentClosed { segment, at } => {
            if let Some(outline) = segments.get_mut(&segment) {
                outline.closed = Some(at);
            }
        }
        Fact::MediaTerms { .. } | Fact::Lost { .. } | Fact::Sealed { .. } => {}
    }
}

/// What a run holds of a segment's media.
#[derive(Clone, Copy)]
struct Heard {
    segment: SegmentId,
    first: WallTime,
    last: WallTime,
}

/// Reads a run; `None` if no media packet is in it.
fn heard(source: &mut Source<'_>, run: Run) -> Option<Heard> {
    let mut heard: Option<Heard> = None;
    source.read(run, &mut |entry| {
        let Entry::Packets(block) = entry else { return };
        let times = || block.iter().map(|(at, _)| at);
        let (Channel::Rtp, Some(first), Some(last)) =
            (block.channel, times().next(), times().last())
        else {
            return;
        };
        let segment = block.segment;
        heard.get_or_insert(Heard { segment, first, last }).last = last;
    });
    heard
}
