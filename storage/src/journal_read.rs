//! Reads one recording's entries back from the capture journal, on any thread, while others
//! append, and decrypted where they are encrypted. It holds one stretch of a file at a time; the journal
//! removes no file that a reader still needs.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use storage_core::journal::{Entry, Found, Place, Scanner};
use storage_core::{RecordingId, SegmentId, naming};

use crate::block_list::Run;
use crate::disk::{Disk, DiskFile, read_around_at};
use crate::journal_cipher::Decryptor;
use crate::journal_error::JournalError;
use crate::journal_index::Plan;
use crate::journal_sync::{Shared, lock};
use crate::keys::Keys;

/// Reads from the journal. Cheap to clone.
#[derive(Clone, Debug)]
pub struct JournalReader {
    pub(crate) disk: Arc<dyn Disk>,
    folder: PathBuf,
    pub(crate) shared: Arc<Mutex<Shared>>,
    pub(crate) keys: Keys,
}

/// What a read found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadStats {
    /// Facts given to the caller.
    pub facts: u64,
    /// Blocks given to the caller.
    pub blocks: u64,
    /// Packets in them.
    pub packets: u64,
    /// Bytes that should be there and cannot be read: a rotten or failing disk, or altered ones.
    pub bytes_lost: u64,
    /// Entries written by a later program.
    pub unknown: u64,
}

impl JournalReader {
    pub(crate) const fn new(
        disk: Arc<dyn Disk>,
        folder: PathBuf,
        shared: Arc<Mutex<Shared>>,
        keys: Keys,
    ) -> Self {
        Self { disk, folder, shared, keys }
    }

    /// The recordings that are in the journal and not sealed.
    #[must_use]
    pub fn open_recordings(&self) -> Vec<RecordingId> {
        lock(&self.shared).index.open_recordings().collect()
    }

    /// The recordings, not sealed, that these segments of this node belong to; each once.
    #[must_use]
    pub fn recordings_of(&self, segments: &[SegmentId]) -> Vec<RecordingId> {
        lock(&self.shared).index.recordings_of(segments).into_iter().collect()
    }

    /// The segments of a recording in which something was heard; none if it is sealed.
    #[must_use]
    pub fn heard(&self, id: RecordingId) -> Vec<SegmentId> {
        lock(&self.shared).index.heard(id)
    }

    /// Whether something that a segment heard is here, and its recording is not sealed.
    #[must_use]
    pub fn is_heard(&self, segment: SegmentId) -> bool {
        lock(&self.shared).index.is_heard(segment)
    }

    /// Where the next entry goes.
    #[must_use]
    pub fn head(&self) -> Place {
        lock(&self.shared).head()
    }

    /// Which journal this is, as long as its folder is not lost.
    #[must_use]
    pub fn identity(&self) -> u64 {
        lock(&self.shared).identity
    }

    pub(crate) fn open_file(&self, number: u32) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open(&self.folder.join(naming::capture_file(number)))
    }

    /// Gives every entry of a recording to `entry`, in the order in which they were appended:
    /// its newest draft, the facts about its segments, their packets. What a failing disk has
    /// lost is counted, and the rest is given all the same. Entries that are appended meanwhile
    /// are not given.
    ///
    /// # Errors
    /// [`JournalError::NoRecording`] if the journal holds nothing of it or it is sealed.
    pub fn read_recording(
        &self,
        id: RecordingId,
        entry: impl FnMut(Entry<'_>),
    ) -> Result<ReadStats, JournalError> {
        self.pin(id)?.read(entry)
    }

    /// The same for several recordings as if they were one, in the order of appending. Those
    /// that the journal does not hold are left out.
    ///
    /// # Errors
    /// [`JournalError::NoRecording`] if it holds none of them.
    pub fn read_recordings(
        &self,
        ids: &[RecordingId],
        entry: impl FnMut(Entry<'_>),
    ) -> Result<ReadStats, JournalError> {
        let mut missing = None;
        let mut all: Option<Pinned<'_>> = None;
        for id in ids {
            match (self.pin(*id), &mut all) {
                (Ok(pinned), Some(all)) => all.join(pinned),
                (Ok(pinned), none) => *none = Some(pinned),
                (Err(error), _) => missing = Some(error),
            }
        }
        match (all, missing) {
            (Some(all), _) => all.read(entry),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(ReadStats::default()),
        }
    }

    /// Takes hold of what a recording has in the journal.
    pub(crate) fn pin(&self, id: RecordingId) -> Result<Pinned<'_>, JournalError> {
        let plan = lock(&self.shared).index.plan(id).ok_or(JournalError::NoRecording(id))?;
        Ok(Pinned { reader: self, plan })
    }
}

/// What recordings have in the journal. No file of it is removed before this is dropped.
pub(crate) struct Pinned<'a> {
    reader: &'a JournalReader,
    plan: Plan,
}

impl Pinned<'_> {
    /// Where the facts lie, and the blocks of each segment.
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    pub(crate) fn source(&self) -> Source<'_> {
        Source::new(self.reader)
    }

    fn join(&mut self, mut other: Self) {
        let Plan { facts, blocks, files } = &mut other.plan;
        self.plan.facts.append(facts);
        self.plan.facts.sort_by_key(|run| run.origin);
        self.plan.blocks.append(blocks);
        self.plan.files.append(files);
    }

    fn read(mut self, mut entry: impl FnMut(Entry<'_>)) -> Result<ReadStats, JournalError> {
        let facts = std::mem::take(&mut self.plan.facts);
        let blocks = std::mem::take(&mut self.plan.blocks);
        let mut source = self.source();
        let mut lists: Vec<List> =
            blocks.into_iter().map(|list| List::new(list.into_runs())).collect();
        lists.push(List::new(facts.into_iter()));
        while let Some(next) = lists
            .iter_mut()
            .filter(|list| list.next.is_some())
            .min_by_key(|list| list.next.map(|run| run.origin))
        {
            if let Some(run) = next.advance() {
                source.read(run, &mut entry);
            }
        }
        source.finish()
    }
}

/// Runs in the order of their origin, with the next one at hand.
struct List {
    runs: Box<dyn Iterator<Item = Run>>,
    next: Option<Run>,
}

impl List {
    fn new(mut runs: impl Iterator<Item = Run> + 'static) -> Self {
        let next = runs.next();
        Self { runs: Box::new(runs), next }
    }

    fn advance(&mut self) -> Option<Run> {
        std::mem::replace(&mut self.next, self.runs.next())
    }
}

impl Drop for Pinned<'_> {
    fn drop(&mut self) {
        lock(&self.reader.shared).index.unpin(&self.plan.files);
    }
}

/// Reads runs; keeps the file open that it read from last.
pub(crate) struct Source<'a> {
    reader: &'a JournalReader,
    file: Option<(u32, Arc<dyn DiskFile>)>,
    buffer: Vec<u8>,
    decryptor: Decryptor,
    /// Why something cannot be decrypted at all.
    fault: Option<JournalError>,
    stats: ReadStats,
}

impl<'a> Source<'a> {
    fn new(reader: &'a JournalReader) -> Self {
        let stats = ReadStats { facts: 0, blocks: 0, packets: 0, bytes_lost: 0, unknown: 0 };
        let decryptor = Decryptor::new(reader.keys.clone());
        Self { reader, file: None, buffer: Vec::new(), decryptor, fault: None, stats }
    }

    /// What was read.
    ///
    /// # Errors
    /// [`JournalError::Key`] if a key was missing: what was read is not what was captured then.
    pub(crate) fn finish(self) -> Result<ReadStats, JournalError> {
        self.fault.map_or(Ok(self.stats), Err)
    }

    pub(crate) fn read(&mut self, run: Run, entry: &mut impl FnMut(Entry<'_>)) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(run.len as usize, 0);
        let filled = self.fill(run, &mut buffer);
        // Sectors that cannot be read are damage to the scanner.
        self.stats.bytes_lost += (buffer.len() - filled) as u64;
        for found in Scanner::new(&buffer[..filled]) {
            match found {
                Found::Damage { len, .. } => self.stats.bytes_lost += len as u64,
                Found::Frame { frame, len, .. } => {
                    if let Some(block) = frame.encrypted() {
                        match self.decryptor.decrypt(&block).map(Entry::Packets) {
                            Some(found) => {
                                count(&mut self.stats, &found);
                                entry(found);
                            }
                            None => self.stats.bytes_lost += len as u64,
                        }
                        continue;
                    }
                    match frame.entry() {
                        Ok(mut found) => {
                            if let Err(error) = self.decryptor.take_key(&mut found) {
                                self.fault.get_or_insert(error.into());
                            }
                            count(&mut self.stats, &found);
                            entry(found);
                        }
                        Err(_) => self.stats.unknown += 1,
                    }
                }
            }
        }
        self.buffer = buffer;
    }

    /// Reads a run and tells how many bytes there are.
    fn fill(&mut self, run: Run, buffer: &mut [u8]) -> usize {
        if self.file.as_ref().is_none_or(|(number, _)| *number != run.at.file) {
            let opened = self.reader.open_file(run.at.file);
            self.file = opened.ok().map(|file| (run.at.file, file));
        }
        let Some((_, file)) = &self.file else { return 0 };
        read_around_at(&**file, buffer, u64::from(run.at.offset)).0
    }
}

fn count(stats: &mut ReadStats, entry: &Entry<'_>) {
    match entry {
        Entry::Fact(_) => stats.facts += 1,
        Entry::Packets(block) => {
            stats.blocks += 1;
            stats.packets += block.len() as u64;
        }
    }
}
