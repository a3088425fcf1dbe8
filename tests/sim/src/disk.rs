//! What a host keeps: the capture journal with its unsynced tail, the group's log, staged and
//! published voice files, the catalog.
//!
//! Which disk faults are fair: a power cut loses what was appended to the capture journal after its
//! last sync, which is at most a second behind; a killed process loses nothing that it had written.
//! The group's log, voice files and the catalog are synced before anybody is told, so they keep what
//! was told; a log write that was under way is there as a whole or not at all. Nothing rots.

use std::collections::{BTreeMap, BTreeSet};

use astlogger::bridge::words::{self, Heard, Outline};
use cluster_core::Stored;
use storage_core::journal::Fact;
use storage_core::{Draft, NodeId, RecordingId, SegmentId, WallTime};

use crate::Time;
use crate::frames::Frames;
use crate::mirror::Mirror;

/// Audio of one segment as it was appended.
#[derive(Clone, Debug)]
pub struct Heard1 {
    pub call: u64,
    pub from: Time,
    pub to: Time,
    pub first: WallTime,
    pub last: WallTime,
}

/// One entry of the capture journal.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "a run has a few hundred entries")]
enum Entry {
    Fact(Fact),
    Audio(SegmentId, Heard1),
}

/// The capture journal.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    entries: Vec<(Time, Entry)>,
    /// Recordings that are not sealed.
    pub open: BTreeMap<RecordingId, Held>,
    by_segment: BTreeMap<SegmentId, RecordingId>,
    next_segment: u64,
    /// Durable since the last start: the next one begins with no lower number.
    floor: u64,
}

/// What it holds of one recording.
#[derive(Clone, Debug, Default)]
pub struct Held {
    pub draft: Option<Draft>,
    pub segments: BTreeMap<SegmentId, Segment>,
}

/// What it holds of one segment.
#[derive(Clone, Debug, Default)]
pub struct Segment {
    pub closed: Option<WallTime>,
    pub audio: Vec<Heard1>,
}

impl Held {
    pub fn frames(&self) -> Frames {
        let mut frames = Frames::default();
        self.segments.values().for_each(|segment| segment.add_to(&mut frames));
        frames
    }

    pub fn outline(&self, node: NodeId, local: RecordingId) -> Outline {
        let draft = self.draft.clone().unwrap_or_else(|| Draft::lost(local, node));
        let heard = self.segments.iter().filter_map(|(segment, known)| {
            let first = known.audio.first()?.first;
            let last = known.audio.last().map(|heard| heard.last);
            Some(Heard { segment: *segment, first, ended: known.closed.or(last) })
        });
        words::outline(node, &draft, &heard.collect::<Vec<_>>())
    }
}

impl Segment {
    pub fn add_to(&self, frames: &mut Frames) {
        for heard in &self.audio {
            frames.hear(heard.call, heard.from, heard.to);
        }
    }
}

impl Journal {
    pub fn append(&mut self, now: Time, fact: Fact) {
        self.index(&Entry::Fact(fact.clone()));
        self.entries.push((now, Entry::Fact(fact)));
    }

    /// Notes what a segment has heard. A stretch that goes on is replaced by its longer self.
    pub fn hear(&mut self, now: Time, segment: SegmentId, heard: Heard1) {
        self.index(&Entry::Audio(segment, heard.clone()));
        self.entries.push((now, Entry::Audio(segment, heard)));
    }

    /// What a power cut leaves: everything up to the last sync.
    pub fn cut(&mut self, synced: Time) {
        let before = std::mem::take(self);
        self.floor = before.floor;
        for (at, entry) in before.entries {
            let kept = match entry {
                Entry::Audio(segment, mut heard) => {
                    heard.to = heard.to.min(synced);
                    (heard.from < heard.to).then_some(Entry::Audio(segment, heard))
                }
                fact => (at <= synced).then_some(fact),
            };
            if let Some(entry) = kept {
                self.index(&entry);
                self.entries.push((at.min(synced), entry));
            }
        }
    }

    /// A process starts: which number its first segment has.
    pub fn begin(&mut self) -> SegmentId {
        let first = self.next_segment.max(self.floor).max(1);
        self.floor = first + 65_536;
        SegmentId(first)
    }

    pub fn outline(&self, node: NodeId, local: RecordingId) -> Option<Outline> {
        self.open.get(&local).map(|held| held.outline(node, local))
    }

    /// What would be dropped with a recording.
    pub fn dropped(&self, local: RecordingId) -> Option<(RecordingId, Vec<(SegmentId, Frames)>)> {
        let held = self.open.get(&local)?;
        let name = held.draft.as_ref().map_or(local, Draft::groupname);
        let segments = held.segments.iter().map(|(segment, known)| {
            let mut frames = Frames::default();
            known.add_to(&mut frames);
            (*segment, frames)
        });
        Some((name, segments.filter(|(_, frames)| !frames.is_empty()).collect()))
    }

    pub fn recording_of(&self, segment: SegmentId) -> Option<RecordingId> {
        self.by_segment.get(&segment).copied().filter(|local| self.open.contains_key(local))
    }

    fn index(&mut self, entry: &Entry) {
        match entry {
            Entry::Fact(Fact::Recording { draft }) => {
                self.open.entry(draft.recordingid).or_default().draft = Some(draft.clone());
            }
            Entry::Fact(Fact::SegmentOpened { segment, recordingid, .. }) => {
                let held = self.open.entry(*recordingid).or_default();
                held.segments.insert(*segment, Segment::default());
                self.by_segment.insert(*segment, *recordingid);
                self.next_segment = self.next_segment.max(segment.0 + 1);
            }
            Entry::Fact(Fact::SegmentClosed { segment, at }) => {
                if let Some(known) = self.segment(*segment) {
                    known.closed = Some(*at);
                }
            }
            Entry::Fact(Fact::Sealed { recordingid }) => {
                self.open.remove(recordingid);
            }
            Entry::Fact(Fact::MediaTerms { .. } | Fact::Lost { .. }) => {}
            Entry::Audio(segment, heard) => {
                let Some(known) = self.segment(*segment) else { return };
                match known.audio.last_mut() {
                    Some(last) if (last.call, last.from) == (heard.call, heard.from) => {
                        *last = heard.clone();
                    }
                    _ => known.audio.push(heard.clone()),
                }
            }
        }
    }

    fn segment(&mut self, segment: SegmentId) -> Option<&mut Segment> {
        let local = self.by_segment.get(&segment)?;
        self.open.get_mut(local)?.segments.get_mut(&segment)
    }
}

/// A voice file with its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voice {
    pub recording: RecordingId,
    pub revision: u32,
    pub sha256: [u8; 32],
    pub copy: u8,
    pub frames: Frames,
    pub captures: BTreeSet<(NodeId, SegmentId)>,
}

/// Everything that outlives a process.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub stored: Stored,
    pub journal: Journal,
    pub staged: BTreeMap<(RecordingId, u32), Voice>,
    pub published: BTreeMap<RecordingId, Voice>,
    pub catalog: BTreeMap<RecordingId, [u8; 32]>,
    /// What it keeps of others' captures.
    pub mirrors: BTreeMap<NodeId, Mirror>,
    /// It takes no media; facts have a reserve, as long as that lasts.
    pub full: bool,
    pub reserve: bool,
    pub slow: bool,
}

impl Disk {
    /// Room for audio, as far as anybody can tell.
    pub const fn free(&self) -> Option<u64> {
        Some(if self.full { 0 } else { u64::MAX })
    }
}
