//! Opening the capture journal: reads every file, cuts the torn tail of the last one, and finds
//! out what is open, what is to be sealed and which numbers are taken. It appends nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use storage_core::journal::{
    Entry, FILE_HEADER_BYTES, Fact, FileHeader, Frame, HeaderError, Place, Step, step,
};
use storage_core::wrapped_key::{KeyUse, WrappedKey};
use storage_core::{Draft, NodeId, RecordingId, SegmentId, WallTime, naming};

use crate::block_list::Run;
use crate::disk::{Disk, DiskFile, read_around_at, read_full_at};
use crate::journal_error::JournalError;
use crate::journal_index::{About, Index};
use crate::keys::Keys;

/// How much is read at once.
const WINDOW_BYTES: usize = 1 << 20;
/// More files than are ever begun between two syncs. A power cut may take files out of the journal of
/// whose places others have heard by then, and no such place must mean something else afterwards.
const UNSYNCED_FILES_MAX: u32 = 16;

/// What the journal held when it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Recordings that have neither ended nor been sealed: their calls may still be up. Their
    /// segments are closed.
    pub open: Vec<Draft>,
    /// Recordings that have ended and were not sealed.
    pub ended_unsealed: Vec<RecordingId>,
    /// Recordings of which segments are there and no draft: the disk has lost it.
    pub without_draft: Vec<RecordingId>,
    /// The first number for a new segment.
    pub next_segment: SegmentId,
    /// Files read.
    pub files: usize,
    /// Bytes in the middle of files that are no frames any more: a rotten disk.
    pub skipped_bytes: u64,
    /// Bytes cut from the end of the last file.
    pub torn_bytes: u64,
    /// Undamaged entries that this program cannot read, kept for a later one.
    pub unknown_entries: u64,
    /// Blocks of no open recording: their `SegmentOpened` is lost, or they came after the seal.
    pub unattributed_blocks: u64,
    /// Nodes other than this one that wrote files here.
    pub nodes: Vec<NodeId>,
}

/// What [`scan`] found.
pub(crate) struct Scanned {
    pub index: Index,
    pub recovered: Recovered,
    pub next_file: u32,
    /// Facts to append: segments that were open are so no more.
    pub closes: Vec<Fact>,
    /// The data keys of what is not sealed.
    pub locked: Vec<(KeyUse, WrappedKey)>,
    /// The files that an earlier process may have left before they were durable.
    pub last_files: Vec<u32>,
}

impl Scanned {
    /// Whether everything that is not sealed can be read.
    pub fn check_keys(&self, folder: &Path, keys: &Keys) -> Result<(), JournalError> {
        let mut missing =
            self.locked.iter().filter_map(|(made_for, key)| keys.unwrap(key, made_for).err());
        let Some(why) = missing.next() else { return Ok(()) };
        let segments = 1 + missing.count();
        Err(JournalError::KeysMissing { folder: folder.to_owned(), segments, why })
    }
}

/// What is to be done with a torn tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// It is cut off.
    Cut,
    /// It stays: somebody else may be writing it.
    Keep,
}

/// Who captured what a journal holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// The node that writes it. Entries count in the order in which they were appended.
    Own,
    /// Another one, of whose journal it is a mirror: all entries are moved ones, and lie in any order.
    /// Only the facts that recordings are sealed are its writer's, and hold whatever else there is.
    Other,
}

/// Reads the whole journal.
pub(crate) fn scan(
    disk: &dyn Disk,
    folder: &Path,
    tail: Tail,
    whose: Whose,
) -> Result<Scanned, JournalError> {
    let listed = disk.list(folder).map_err(|e| JournalError::io("cannot list", folder, e))?;
    let mut numbers: Vec<_> =
        listed.iter().filter_map(|entry| naming::capture_number(&entry.name)).collect();
    numbers.sort_unstable();
    let mut collected = Collected::new();
    for number in &numbers {
        let path = folder.join(naming::capture_file(*number));
        let file = disk.open(&path).map_err(|e| JournalError::io("cannot open", &path, e))?;
        collected.index.add_file(*number);
        let last = numbers.last() == Some(number) && tail == Tail::Cut;
        FileScan { path, number: *number, file: &*file, collected: &mut collected }.run(last)?;
    }
    collected.recovered.files = numbers.len();
    let next_file = numbers.last().map_or(1, |number| number + 1 + UNSYNCED_FILES_MAX);
    let last_files = numbers.split_off(numbers.len().saturating_sub(UNSYNCED_FILES_MAX as usize));
    Ok(Scanned { last_files, ..collected.finish(next_file, whose) })
}

/// A frame that was found.
struct Item {
    origin: Place,
    at: Place,
    len: u32,
    what: What,
}

enum What {
    Block(SegmentId),
    Fact(About),
}

struct Collected {
    index: Index,
    items: Vec<Item>,
    /// By recording, with the origin of what is known, because a moved draft may be an old one.
    drafts: BTreeMap<RecordingId, (Place, Draft)>,
    /// When a segment was last heard, as long as it is not closed.
    unclosed: BTreeMap<SegmentId, WallTime>,
    closed: Vec<SegmentId>,
    keys: BTreeMap<SegmentId, (RecordingId, WrappedKey)>,
    recovered: Recovered,
}

struct FileScan<'a> {
    path: PathBuf,
    number: u32,
    file: &'a dyn DiskFile,
    collected: &'a mut Collected,
}

impl FileScan<'_> {
    fn run(mut self, last: bool) -> Result<(), JournalError> {
        let length =
            self.file.length().map_err(|e| JournalError::io("cannot read", &self.path, e))?;
        let mut synced = self.header()?;
        let mut window = Window::new(length);
        let mut whole_until = FILE_HEADER_BYTES as u64;
        let mut damage = 0;
        while window.offset < window.length {
            window.fill(self.file);
            let (bytes, last) = window.view();
            match step(bytes, synced, last) {
                Step::More { bytes } => window.want(bytes),
                Step::Damage { len, synced: next } => {
                    damage += window.skip(len);
                    synced = next;
                }
                Step::Frame { len, frame } => {
                    self.frame(window.offset, len, &frame);
                    self.collected.recovered.skipped_bytes += std::mem::take(&mut damage);
                    window.skip(len);
                    (whole_until, synced) = (window.offset, true);
                }
            }
        }
        // What only cannot be read today is not cut.
        if !last || window.unreadable > 0 {
            self.collected.recovered.skipped_bytes += damage;
            return Ok(());
        }
        self.collected.recovered.torn_bytes = damage;
        if damage > 0 {
            let cut = self.file.truncate(whole_until);
            cut.map_err(|error| JournalError::io("cannot cut", &self.path, error))?;
        }
        Ok(())
    }

    /// Reads the header; tells whether a frame must begin behind it. A damaged one costs nothing
    /// but itself: the name has the number, too.
    fn header(&mut self) -> Result<bool, JournalError> {
        let mut bytes = [0; FILE_HEADER_BYTES];
        let read = read_full_at(self.file, &mut bytes, 0).unwrap_or(0);
        match FileHeader::decode(&bytes[..read]) {
            Ok(header) => {
                self.collected.index.raise_next_segment(header.next_segment);
                let nodes = &mut self.collected.recovered.nodes;
                if !nodes.contains(&header.node) {
                    nodes.push(header.node);
                }
                Ok(true)
            }
            Err(source @ HeaderError::Version { .. }) => {
                Err(JournalError::Newer { path: self.path.clone(), source })
            }
            Err(HeaderError::Damaged) => Ok(false),
        }
    }

    fn frame(&mut self, offset: u64, len: usize, frame: &Frame<'_>) {
        let (Ok(offset), Ok(len)) = (u32::try_from(offset), u32::try_from(len)) else {
            self.collected.recovered.unknown_entries += 1;
            return;
        };
        let at = Place { file: self.number, offset };
        let origin = frame.moved_from().unwrap_or(at);
        let entry = match frame.encrypted() {
            Some(block) => {
                self.collected.heard(block.segment, block.last);
                let what = What::Block(block.segment);
                self.collected.items.push(Item { origin, at, len, what });
                return;
            }
            None => frame.entry(),
        };
        let what = match entry {
            Ok(Entry::Packets(block)) => {
                if let Some((heard, _)) = block.iter().last() {
                    self.collected.heard(block.segment, heard);
                }
                What::Block(block.segment)
            }
            Ok(Entry::Fact(fact)) => {
                let about = About::from(&fact);
                self.collected.fact(origin, fact);
                What::Fact(about)
            }
            Err(_) => {
                self.collected.recovered.unknown_entries += 1;
                return;
            }
        };
        self.collected.items.push(Item { origin, at, len, what });
    }
}

impl Collected {
    fn new() -> Self {
        let recovered = Recovered {
            open: Vec::new(),
            ended_unsealed: Vec::new(),
            without_draft: Vec::new(),
            next_segment: SegmentId(0),
            files: 0,
            skipped_bytes: 0,
            torn_bytes: 0,
            unknown_entries: 0,
            unattributed_blocks: 0,
            nodes: Vec::new(),
        };
        Self {
            index: Index::default(),
            items: Vec::new(),
            drafts: BTreeMap::new(),
            unclosed: BTreeMap::new(),
            closed: Vec::new(),
            keys: BTreeMap::new(),
            recovered,
        }
    }

    fn heard(&mut self, segment: SegmentId, at: WallTime) {
        let heard = self.unclosed.entry(segment).or_insert(at);
        *heard = (*heard).max(at);
    }

    fn fact(&mut self, origin: Place, fact: Fact) {
        match fact {
            Fact::Recording { draft } => {
                let known = self.drafts.get(&draft.recordingid);
                if known.is_none_or(|(known, _)| *known <= origin) {
                    self.drafts.insert(draft.recordingid, (origin, draft));
                }
            }
            Fact::SegmentOpened { segment, at, recordingid, key, .. } => {
                self.heard(segment, at);
                if let Some(key) = key {
                    self.keys.insert(segment, (recordingid, key));
                }
            }
            Fact::SegmentClosed { segment, .. } => self.closed.push(segment),
            Fact::MediaTerms { .. } | Fact::Lost { .. } | Fact::Sealed { .. } => {}
        }
    }

    /// Enters what was found in the order in which it was first appended. Of a moved entry and
    /// its original, which a crash has left both, the later copy counts.
    fn finish(mut self, next_file: u32, whose: Whose) -> Scanned {
        let last =
            |what: &What| whose == Whose::Other && matches!(what, What::Fact(About::Sealed(_)));
        self.items.sort_by_key(|item| (last(&item.what), item.origin, std::cmp::Reverse(item.at)));
        let mut before = None;
        for Item { origin, at, len, what } in self.items {
            let run = Run { origin, at, len };
            let copy = before.replace(origin) == Some(origin);
            match what {
                What::Block(segment) if copy => self.index.note_block(segment, at.file),
                What::Fact(about) if copy => self.index.note_fact(about, at.file),
                What::Block(segment) => self.index.add_block(segment, run),
                What::Fact(about) => self.index.add_fact(about, run, 0),
            }
        }
        let Self { index, mut drafts, mut unclosed, closed, keys, mut recovered, .. } = self;
        for id in index.open_recordings() {
            match drafts.remove(&id) {
                Some((_, draft)) if draft.ended.is_none() => recovered.open.push(draft),
                Some(_) => recovered.ended_unsealed.push(id),
                None => recovered.without_draft.push(id),
            }
        }
        for segment in closed {
            unclosed.remove(&segment);
        }
        unclosed.retain(|segment, _| index.needs_block(*segment));
        let closes = unclosed.into_iter();
        let closes = closes.map(|(segment, at)| Fact::SegmentClosed { segment, at }).collect();
        recovered.next_segment = index.next_segment();
        recovered.unattributed_blocks = index.unattributed();
        let needed = keys.into_iter().filter(|(segment, _)| index.needs_block(*segment));
        let locked = needed.map(|(segment, (id, key))| (KeyUse::Segment(id, segment), key));
        let locked = locked.collect();
        Scanned { index, recovered, next_file, closes, locked, last_files: Vec::new() }
    }
}

/// The part of a file that is in memory.
struct Window {
    length: u64,
    /// Where the next frame begins.
    offset: u64,
    buffer: Vec<u8>,
    /// Where the buffer's first byte lies.
    start: u64,
    wanted: usize,
    /// Bytes that the device did not give.
    unreadable: usize,
}

impl Window {
    const fn new(length: u64) -> Self {
        let offset = FILE_HEADER_BYTES as u64;
        Self { length, offset, buffer: Vec::new(), start: offset, wanted: 1, unreadable: 0 }
    }

    fn end(&self) -> u64 {
        self.start + self.buffer.len() as u64
    }

    /// Makes sure that as many bytes as are wanted are at hand, or all that the file has.
    fn fill(&mut self, file: &dyn DiskFile) {
        let want = (self.offset + self.wanted as u64).min(self.length);
        if want <= self.end() {
            return;
        }
        let left = usize::try_from(self.length - self.offset).unwrap_or(usize::MAX);
        self.buffer.resize(left.min(self.wanted.max(WINDOW_BYTES)), 0);
        self.start = self.offset;
        let (count, unreadable) = read_around_at(file, &mut self.buffer, self.offset);
        self.buffer.truncate(count);
        self.unreadable += unreadable;
        if count == 0 {
            // The file is shorter than it said.
            self.length = self.offset;
        }
    }

    /// The bytes from the present place on, and whether the file ends with them.
    fn view(&self) -> (&[u8], bool) {
        let from = usize::try_from(self.offset - self.start).unwrap_or(usize::MAX);
        (self.buffer.get(from..).unwrap_or_default(), self.end() >= self.length)
    }

    fn want(&mut self, bytes: usize) {
        self.wanted = bytes;
    }

    /// Goes on behind `len` bytes; tells how many that were.
    fn skip(&mut self, len: usize) -> u64 {
        let len = (len as u64).min(self.length - self.offset);
        self.offset += len;
        self.wanted = 1;
        len
    }
}
