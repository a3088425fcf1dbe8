//! What the capture journal still holds for whom: for each open recording its facts and blocks,
//! for each file how much of it is still needed. Kept in memory, rebuilt when the journal is
//! opened. It reads and writes nothing.
//!
//! A byte of a file is *live* while a recording that is not sealed needs it, or while it says that
//! a recording is sealed of which frames remain in some file. A file without live bytes can go.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use storage_core::journal::{Fact, Place};
use storage_core::{RecordingId, SegmentId};

use crate::block_list::{BlockList, Relocation, Run};

/// What a fact is about, without its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About {
    /// The draft of a recording; replaces the one before.
    Draft(RecordingId),
    /// A segment was opened for a recording.
    Opened(SegmentId, RecordingId),
    /// Something else about a segment.
    Segment(SegmentId),
    /// A recording is sealed.
    Sealed(RecordingId),
}

impl From<&Fact> for About {
    fn from(fact: &Fact) -> Self {
        match fact {
            Fact::Recording { draft } => Self::Draft(draft.recordingid),
            Fact::SegmentOpened { segment, recordingid, .. } => {
                Self::Opened(*segment, *recordingid)
            }
            Fact::MediaTerms { segment, .. }
            | Fact::SegmentClosed { segment, .. }
            | Fact::Lost { segment, .. } => Self::Segment(*segment),
            Fact::Sealed { recordingid } => Self::Sealed(*recordingid),
        }
    }
}

/// A recording that is not sealed.
#[derive(Clone, Debug)]
struct Open {
    /// All its facts but the draft, by origin.
    facts: Vec<Run>,
    draft: Option<Run>,
    segments: Vec<SegmentId>,
    files: Span,
}

impl Open {
    const fn new(file: u32) -> Self {
        let files = Span::new(file);
        Self { facts: Vec::new(), draft: None, segments: Vec::new(), files }
    }
}

/// A segment of a recording that is not sealed.
#[derive(Clone, Debug)]
struct Segment {
    recording: RecordingId,
    blocks: BlockList,
}

/// The first and the last file that may hold frames of a recording.
#[derive(Clone, Copy, Debug)]
struct Span {
    first: u32,
    last: u32,
}

impl Span {
    const fn new(file: u32) -> Self {
        Self { first: file, last: file }
    }

    fn add(&mut self, file: u32) {
        (self.first, self.last) = (self.first.min(file), self.last.max(file));
    }

    const fn range(self) -> RangeInclusive<u32> {
        self.first..=self.last
    }
}

/// The fact that a recording is sealed. It must outlive the recording's frames: without it they
/// would look like a recording that a crash left unsealed.
#[derive(Clone, Debug)]
struct Tombstone {
    fact: Run,
    files: Span,
}

/// How a file is used.
#[derive(Clone, Copy, Debug, Default)]
struct FileUse {
    live: u64,
    /// Readers that still need it.
    pins: u32,
    /// What could be moved out of it was.
    cleaned: bool,
    /// It may go once so many bytes of the journal's whole history are durable: what made the
    /// last of its bytes dead must not be undone by a power cut.
    removable_at: u64,
}

/// The index.
#[derive(Debug, Default)]
pub(crate) struct Index {
    open: BTreeMap<RecordingId, Open>,
    segments: BTreeMap<SegmentId, Segment>,
    sealed: BTreeMap<RecordingId, Tombstone>,
    files: BTreeMap<u32, FileUse>,
    /// Removed, but a power cut could bring them back.
    leaving: BTreeSet<u32>,
    next_segment: u64,
    /// Blocks that belong to no recording that is open here.
    unattributed: u64,
}

/// What a reader needs of one recording.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Facts, the draft among them, by origin.
    pub facts: Vec<Run>,
    /// A list a segment.
    pub blocks: Vec<BlockList>,
    /// Pinned until [`Index::unpin`].
    pub files: Vec<u32>,
}

impl Index {
    /// A file was begun.
    pub fn add_file(&mut self, file: u32) {
        self.files.entry(file).or_default();
    }

    /// Enters a fact. `history` is how many bytes were ever appended, this fact included.
    pub fn add_fact(&mut self, about: About, run: Run, history: u64) {
        if let About::Sealed(id) = about {
            self.seal(id, run, history);
            return;
        }
        let Some(id) = self.recording_of(about) else { return };
        let open = self.open.entry(id).or_insert_with(|| Open::new(run.at.file));
        open.files.add(run.at.file);
        let mut replaced = None;
        match about {
            About::Draft(_) => replaced = open.draft.replace(run),
            About::Opened(segment, _) => {
                open.facts.push(run);
                open.segments.push(segment);
                let known = Segment { recording: id, blocks: BlockList::default() };
                self.segments.entry(segment).or_insert(known);
                self.next_segment = self.next_segment.max(segment.0.saturating_add(1));
            }
            About::Segment(_) | About::Sealed(_) => open.facts.push(run),
        }
        self.live(run);
        self.dead(replaced, history);
    }

    /// Enters a block. It is not needed if its segment was not opened, or is sealed.
    pub fn add_block(&mut self, segment: SegmentId, run: Run) {
        self.next_segment = self.next_segment.max(segment.0.saturating_add(1));
        let Some(known) = self.segments.get_mut(&segment) else {
            self.unattributed += 1;
            return;
        };
        known.blocks.insert(run);
        if let Some(open) = self.open.get_mut(&known.recording) {
            open.files.add(run.at.file);
        }
        self.live(run);
    }

    /// A file holds another copy of a block that is known already: the recording's tombstone must
    /// outlive it, too.
    pub fn note_block(&mut self, segment: SegmentId, file: u32) {
        if let Some(id) = self.segments.get(&segment).map(|known| known.recording) {
            self.note_frame(id, file);
        }
    }

    /// The same for a fact.
    pub fn note_fact(&mut self, about: About, file: u32) {
        if let Some(id) = self.recording_of(about) {
            self.note_frame(id, file);
        }
    }

    fn note_frame(&mut self, id: RecordingId, file: u32) {
        if let Some(open) = self.open.get_mut(&id) {
            open.files.add(file);
        } else if let Some(tombstone) = self.sealed.get_mut(&id) {
            tombstone.files.add(file);
        }
    }

    fn recording_of(&self, about: About) -> Option<RecordingId> {
        match about {
            About::Draft(id) | About::Opened(_, id) | About::Sealed(id) => Some(id),
            About::Segment(segment) => self.segments.get(&segment).map(|known| known.recording),
        }
    }

    fn seal(&mut self, id: RecordingId, fact: Run, history: u64) {
        let open = self.open.remove(&id).unwrap_or_else(|| Open::new(fact.at.file));
        let Open { facts, draft, segments, mut files } = open;
        facts.into_iter().chain(draft).for_each(|run| self.dead(Some(run), history));
        for segment in segments {
            let known = self.segments.remove(&segment);
            let runs = known.into_iter().flat_map(|known| known.blocks.into_runs());
            runs.for_each(|run| self.dead(Some(run), history));
        }
        // Sealed again: the older tombstone's files count, the older tombstone does not.
        if let Some(before) = self.sealed.remove(&id) {
            files.add(before.files.first);
            files.add(before.files.last);
            self.dead(Some(before.fact), history);
        }
        files.add(fact.at.file);
        self.live(fact);
        self.sealed.insert(id, Tombstone { fact, files });
    }

    fn live(&mut self, run: Run) {
        self.files.entry(run.at.file).or_default().live += u64::from(run.len);
    }

    fn dead(&mut self, run: Option<Run>, history: u64) {
        if let Some(file) = run.and_then(|run| self.files.get_mut(&run.at.file)) {
            file.live -= run.map_or(0, |run| u64::from(run.len));
            file.removable_at = file.removable_at.max(history);
        }
    }

    /// The recordings that are not sealed.
    pub fn open_recordings(&self) -> impl Iterator<Item = RecordingId> {
        self.open.keys().copied()
    }

    /// Whether a recording is here and not sealed.
    pub fn is_open(&self, id: RecordingId) -> bool {
        self.open.contains_key(&id)
    }

    /// The segments of a recording in which something was heard.
    pub fn heard(&self, id: RecordingId) -> Vec<SegmentId> {
        let segments = self.open.get(&id).map(|open| open.segments.as_slice());
        segments.into_iter().flatten().copied().filter(|s| self.is_heard(*s)).collect()
    }

    /// The lowest number that no segment has.
    pub const fn next_segment(&self) -> SegmentId {
        SegmentId(self.next_segment)
    }

    /// No number below this is given out again.
    pub fn raise_next_segment(&mut self, floor: SegmentId) {
        self.next_segment = self.next_segment.max(floor.0);
    }

    /// Blocks that were appended and belong to no open recording.
    pub const fn unattributed(&self) -> u64 {
        self.unattributed
    }

    /// The recordings, not sealed, that these segments belong to; each once.
    pub fn recordings_of(&self, segments: &[SegmentId]) -> BTreeSet<RecordingId> {
        let known = segments.iter().filter_map(|segment| self.segments.get(segment));
        known.map(|known| known.recording).collect()
    }

    /// What a reader of this recording needs; its files are pinned. `None` if it is not open.
    pub fn plan(&mut self, id: RecordingId) -> Option<Plan> {
        let open = self.open.get(&id)?;
        let mut facts: Vec<_> = open.facts.iter().copied().chain(open.draft).collect();
        facts.sort_by_key(|run| run.origin);
        let segments = open.segments.iter().filter_map(|segment| self.segments.get(segment));
        let blocks: Vec<_> = segments.map(|segment| segment.blocks.clone()).collect();
        let mut files = Vec::new();
        for (number, file) in self.files.range_mut(open.files.range()) {
            file.pins += 1;
            files.push(*number);
        }
        Some(Plan { facts, blocks, files })
    }

    /// A reader is done with files.
    pub fn unpin(&mut self, files: &[u32]) {
        for number in files {
            if let Some(file) = self.files.get_mut(number) {
                file.pins = file.pins.saturating_sub(1);
            }
        }
    }

    /// Files older than `head` that nobody needs, now that `durable` bytes of history are safe.
    pub fn removable(&self, head: u32, durable: u64) -> Vec<u32> {
        let free =
            |file: &FileUse| file.live == 0 && file.pins == 0 && file.removable_at <= durable;
        self.files.range(..head).filter(|(_, file)| free(file)).map(|(number, _)| *number).collect()
    }

    /// A file was removed; a power cut could bring it back until [`Index::settle`].
    pub fn remove_file(&mut self, file: u32) {
        self.files.remove(&file);
        self.leaving.insert(file);
    }

    /// The removals so far that a sync of the folder will make last.
    pub fn leaving(&self) -> BTreeSet<u32> {
        self.leaving.clone()
    }

    /// These files are gone for good; tombstones that only spoke of them go, too.
    pub fn settle(&mut self, gone: &BTreeSet<u32>, history: u64) {
        self.leaving.retain(|file| !gone.contains(file));
        let needless = self.sealed.iter().filter(|(_, tombstone)| {
            let fact = tombstone.fact.at.file;
            let mut others = self.files.range(tombstone.files.range()).map(|(number, _)| *number);
            let mut leaving = self.leaving.range(tombstone.files.range());
            others.all(|file| file == fact) && leaving.next().is_none()
        });
        let needless: Vec<_> = needless.map(|(id, _)| *id).collect();
        for id in needless {
            if let Some(tombstone) = self.sealed.get(&id) {
                // It lies alone with what it speaks of: both go with their file.
                let fact = tombstone.fact;
                self.sealed.remove(&id);
                self.dead(Some(fact), history);
            }
        }
    }

    /// How many files there are, and how many bytes of them are needed.
    pub fn usage(&self) -> (usize, u64) {
        (self.files.len(), self.files.values().map(|file| file.live).sum())
    }

    /// The file older than `head` with the fewest needed bytes, if it has any.
    pub fn sparsest(&self, head: u32) -> Option<u32> {
        let used = self.files.range(..head).filter(|(_, file)| file.live > 0 && !file.cleaned);
        used.min_by_key(|(number, file)| (file.live, **number)).map(|(number, _)| *number)
    }

    /// Whether blocks of this segment are needed.
    pub fn needs_block(&self, segment: SegmentId) -> bool {
        self.segments.contains_key(&segment)
    }

    /// Whether the fact at this place is needed.
    pub fn needs_fact(&self, about: About, at: Place) -> bool {
        self.fact_at(about, at).is_some()
    }

    /// Whether a block of this segment that was first appended at this place is known.
    pub fn has_block(&self, segment: SegmentId, origin: Place) -> bool {
        self.segments.get(&segment).is_some_and(|known| known.blocks.begins_at(origin))
    }

    /// Whether a segment has blocks here.
    pub fn is_heard(&self, segment: SegmentId) -> bool {
        self.segments.get(&segment).is_some_and(|known| !known.blocks.is_empty())
    }

    /// Whether a fact that was first appended at this place is known, or says nothing new any more.
    pub fn has_fact(&self, about: About, origin: Place) -> bool {
        let Some(id) = self.recording_of(about) else { return true };
        if self.sealed.contains_key(&id) {
            return true;
        }
        let Some(open) = self.open.get(&id) else { return false };
        match about {
            About::Draft(_) => open.draft.is_some_and(|draft| origin <= draft.origin),
            _ => open.facts.iter().any(|run| run.origin == origin),
        }
    }

    fn fact_at(&self, about: About, at: Place) -> Option<&Run> {
        let id = self.recording_of(about)?;
        if matches!(about, About::Sealed(_)) {
            return self.sealed.get(&id).map(|known| &known.fact).filter(|run| run.at == at);
        }
        let open = self.open.get(&id)?;
        open.facts.iter().chain(&open.draft).find(|run| run.at == at)
    }

    /// A needed fact lies elsewhere now.
    pub fn relocate_fact(&mut self, about: About, from: Place, to: Place, len: u32, history: u64) {
        let Some(before) = self.fact_at(about, from).copied() else { return };
        let Some(id) = self.recording_of(about) else { return };
        let after = Run { origin: before.origin, at: to, len };
        let facts = self.open.get_mut(&id).into_iter();
        let facts = facts.flat_map(|open| open.facts.iter_mut().chain(&mut open.draft));
        let sealed = self.sealed.get_mut(&id).map(|tombstone| &mut tombstone.fact);
        for run in facts.chain(sealed) {
            if run.at == from {
                *run = after;
            }
        }
        self.note_frame(id, to.file);
        self.live(after);
        self.dead(Some(before), history);
    }

    /// Needed blocks of a segment lie elsewhere now. `moved` is sorted by offset.
    pub fn relocate_blocks(
        &mut self,
        segment: SegmentId,
        file: u32,
        moved: &[Relocation],
        history: u64,
    ) {
        let Some(known) = self.segments.get_mut(&segment) else { return };
        let recording = known.recording;
        let mut entered = Vec::with_capacity(moved.len());
        known.blocks.relocate(file, moved, |frame| entered.push(*frame));
        for frame in entered {
            if let Some(open) = self.open.get_mut(&recording) {
                open.files.add(frame.at.file);
            }
            self.live(Run::new(frame.at, frame.new_len));
            self.dead(Some(Run::new(Place { file, offset: frame.offset }, frame.len)), history);
        }
    }

    /// Everything readable and needed in a file was moved; tells how many needed bytes are left. It
    /// is not to be cleaned again.
    pub fn end_cleaning(&mut self, file: u32) -> u64 {
        let Some(file) = self.files.get_mut(&file) else { return 0 };
        file.cleaned = true;
        file.live
    }
}
