//! Follows the capture journal for a mirror on another node: gives everything that is appended, in order,
//! as moved frames that bear the place where each was first appended. It decides what is still to be
//! given; how it travels, and how much may be on its way, is the caller's matter.
//!
//! ```text
//! Live ──▶ frames of what is open, recording by recording ──▶ Mark ──▶ frames as they are appended ─┐
//!  ▲                                                           ▲─────────────────────────── Mark ◀─┤
//!  └──────────────────── the next file is gone: cleaned away before it was read ◀──────────────────┘
//! ```
//!
//! A mirror that has everything before a place begins there: of the open recordings it is given what was
//! appended since, from wherever cleaning has moved it. From the head of that moment on the files are read
//! from front to back, from the operating system's memory as long as the mirror keeps up. Copies that
//! cleaning appends are stepped over: what they were copied from has been given. The writer is held up no
//! longer than it takes to look at a length.
//!
//! What is given is plain: data keys are taken off.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use storage_core::journal::{
    Entry, FILE_HEADER_BYTES, Fact, Found, Frame, MAX_PAYLOAD_BYTES, Place, Scanner, Step,
    encode_fact, step, trusted_frame,
};
use storage_core::{RecordingId, SegmentId};

use crate::block_list::Run;
use crate::disk::{DiskFile, read_around_at};
use crate::journal_cipher::Decryptor;
use crate::journal_error::JournalError;
use crate::journal_read::JournalReader;
use crate::journal_sync::{Shared, lock};

/// So much is given at once, and a frame more.
const WINDOW_BYTES: usize = 256 << 10;
/// No window has to be longer to hold a frame.
const LONGEST_BYTES: usize = MAX_PAYLOAD_BYTES + 1024;

/// What is given next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tailed {
    /// These recordings are open; whatever else a mirror holds of this journal is sealed. Frames that it
    /// may lack of these follow, and then a mark.
    Live(Vec<RecordingId>),
    /// Frames, which were put into the buffer.
    Frames,
    /// Everything that was appended before `seen` has been given.
    Mark {
        /// The place before which everything has been given.
        next: Place,
        /// When that was so.
        seen: Instant,
    },
}

/// The follower. It blocks, so it wants a thread of its own.
#[derive(Debug)]
pub struct JournalTail {
    journal: JournalReader,
    stage: Stage,
    decryptor: Decryptor,
    file: Option<(u32, Arc<dyn DiskFile>)>,
    buffer: Vec<u8>,
    /// Bytes of the journal that could not be read.
    unreadable: u64,
}

#[derive(Debug)]
enum Stage {
    /// To look at what is open.
    Begin { from: Place },
    /// Giving what is open.
    Pass(Pass),
    /// Giving what is appended. Whether a frame must begin there, and whether a mark was given for it.
    Follow { at: Place, synced: bool, marked: bool },
}

/// What was appended in a stretch of the journal's history, of recordings that are open.
#[derive(Debug)]
struct Pass {
    from: Place,
    until: Place,
    recordings: std::vec::IntoIter<RecordingId>,
    current: Option<Current>,
}

/// The recording that is being given.
struct Current {
    runs: Box<dyn Iterator<Item = Run> + Send>,
    closed: BTreeSet<SegmentId>,
    _pins: Pins,
}

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Current").finish_non_exhaustive()
    }
}

/// Files that are not to be removed.
struct Pins {
    shared: Arc<Mutex<Shared>>,
    files: Vec<u32>,
}

impl Drop for Pins {
    fn drop(&mut self) {
        lock(&self.shared).index.unpin(&self.files);
    }
}

impl JournalTail {
    /// Begins for a mirror that has everything before this place; all that is open where it has nothing.
    #[must_use]
    pub fn new(journal: JournalReader, from: Option<Place>) -> Self {
        let from = from.unwrap_or(Place { file: 0, offset: 0 });
        let decryptor = Decryptor::new(journal.keys.clone());
        let stage = Stage::Begin { from };
        Self { journal, stage, decryptor, file: None, buffer: Vec::new(), unreadable: 0 }
    }

    /// Bytes that could not be read, and are in no mirror.
    #[must_use]
    pub const fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// Gives what is next. Frames are put into `out`, whose former content is lost. Where there is
    /// nothing new it waits for so long, and then says that there is not.
    ///
    /// # Errors
    /// [`JournalError::Key`] if what is captured cannot be decrypted.
    pub fn next(&mut self, out: &mut Vec<u8>, wait: Duration) -> Result<Tailed, JournalError> {
        out.clear();
        loop {
            match &mut self.stage {
                Stage::Begin { from } => {
                    let from = *from;
                    let shared = lock(&self.journal.shared);
                    let (until, open) = (shared.head(), shared.index.open_recordings());
                    let recordings: Vec<RecordingId> = open.collect();
                    drop(shared);
                    let left = recordings.clone().into_iter();
                    self.stage = Stage::Pass(Pass { from, until, recordings: left, current: None });
                    return Ok(Tailed::Live(recordings));
                }
                Stage::Pass(_) => {
                    if let Some(until) = self.pass(out)? {
                        self.stage = Stage::Follow { at: until, synced: true, marked: false };
                    }
                    if !out.is_empty() {
                        return Ok(Tailed::Frames);
                    }
                }
                Stage::Follow { .. } => {
                    if let Some(tailed) = self.follow(out, wait)? {
                        return Ok(tailed);
                    }
                }
            }
        }
    }

    /// Gives a window's worth of what is open; tells the end of the stretch when that was all.
    fn pass(&mut self, out: &mut Vec<u8>) -> Result<Option<Place>, JournalError> {
        while out.len() < WINDOW_BYTES {
            let Stage::Pass(pass) = &mut self.stage else { return Ok(None) };
            let (from, until) = (pass.from, pass.until);
            let Some(current) = &mut pass.current else {
                let Some(id) = pass.recordings.next() else { return Ok(Some(until)) };
                pass.current = current(&self.journal, id);
                continue;
            };
            match current.runs.next() {
                Some(run) => self.run(run, from, until, out)?,
                None => {
                    let closed = pass.current.take().map(|current| current.closed);
                    closed.into_iter().flatten().for_each(|s| self.decryptor.forget(s));
                }
            }
        }
        Ok(None)
    }

    /// Gives those frames of a run that were first appended in a stretch.
    fn run(
        &mut self,
        run: Run,
        from: Place,
        until: Place,
        out: &mut Vec<u8>,
    ) -> Result<(), JournalError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(run.len as usize, 0);
        let read = match self.file(run.at.file) {
            Some(file) => read_around_at(&*file, &mut buffer, u64::from(run.at.offset)).0,
            None => 0,
        };
        self.unreadable += (buffer.len() - read) as u64;
        let mut outcome = Ok(());
        for found in Scanner::new(&buffer[..read]) {
            let (offset, frame) = match found {
                Found::Frame { offset, frame, .. } => (offset, frame),
                Found::Damage { len, .. } => {
                    self.unreadable += len as u64;
                    continue;
                }
            };
            let first = u32::try_from(offset).map_or(u32::MAX, |by| run.origin.offset + by);
            let origin = frame.moved_from().unwrap_or(Place { offset: first, ..run.origin });
            let wanted = (from..until).contains(&origin);
            outcome = outcome.and_then(|()| self.give(&frame, origin, wanted, out));
        }
        self.buffer = buffer;
        outcome
    }

    /// Gives what was appended since, or a mark; `None` to look again.
    fn follow(
        &mut self,
        out: &mut Vec<u8>,
        wait: Duration,
    ) -> Result<Option<Tailed>, JournalError> {
        let Stage::Follow { at, synced, marked } = &mut self.stage else { return Ok(None) };
        let (here, end, head, seen) = {
            let mut shared = lock(&self.journal.shared);
            if shared.head() == *at && *marked {
                let grown = Arc::clone(&shared.grown);
                let waited = grown.wait_timeout_while(shared, wait, |shared| shared.head() == *at);
                shared = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
            }
            (*at, shared.end_of(at.file), shared.head(), Instant::now())
        };
        if here == head {
            *marked = true;
            return Ok(Some(Tailed::Mark { next: here, seen }));
        }
        *marked = false;
        let Some(end) = end else {
            self.stage = Stage::Begin { from: here };
            return Ok(None);
        };
        if here == end {
            // The next file that there is need not be the next that there was.
            let next = Place { file: here.file + 1, offset: FILE_HEADER_BYTES as u32 };
            self.stage = match lock(&self.journal.shared).end_of(next.file) {
                Some(_) => Stage::Follow { at: next, synced: true, marked: false },
                None => Stage::Begin { from: next },
            };
            return Ok(None);
        }
        let synced = *synced;
        let Some(file) = self.file(here.file) else {
            self.stage = Stage::Begin { from: here };
            return Ok(None);
        };
        let (at, synced) = self.window(&*file, here, end, synced, out)?;
        self.stage = Stage::Follow { at, synced, marked: false };
        Ok((!out.is_empty()).then_some(Tailed::Frames))
    }

    /// Gives the frames of a window of a file; tells how far it got.
    fn window(
        &mut self,
        file: &dyn DiskFile,
        from: Place,
        end: Place,
        mut synced: bool,
        out: &mut Vec<u8>,
    ) -> Result<(Place, bool), JournalError> {
        let left = (end.offset - from.offset) as usize;
        let mut wanted = WINDOW_BYTES;
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut at = 0;
        loop {
            buffer.resize(wanted.min(left), 0);
            let read = read_around_at(file, &mut buffer, u64::from(from.offset)).0;
            // What is missing of a file that was longer is damage.
            buffer[read..].fill(0);
            let last = buffer.len() == left;
            while at < buffer.len() {
                let rest = &buffer[at..];
                match step(rest, synced, last) {
                    Step::More { .. } => break,
                    Step::Damage { len, synced: next } => {
                        self.unreadable += len as u64;
                        (at, synced) = (at + len, next);
                    }
                    Step::Frame { len, frame } => {
                        // What was moved has been given from where it was before.
                        if frame.moved_from().is_none() {
                            let origin = Place { offset: from.offset + at as u32, ..from };
                            self.give(&frame, origin, true, out)?;
                        }
                        (at, synced) = (at + len, true);
                    }
                }
            }
            if at > 0 || last {
                break;
            }
            wanted = LONGEST_BYTES;
        }
        self.buffer = buffer;
        Ok((Place { offset: from.offset + at as u32, ..from }, synced))
    }

    /// Puts a frame into the buffer, plain; of one that is not wanted only the key is of use.
    fn give(
        &mut self,
        frame: &Frame<'_>,
        origin: Place,
        wanted: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), JournalError> {
        if frame.segment().is_some() {
            match frame.encrypted() {
                _ if !wanted => {}
                None => frame.encode_moved(origin, out),
                Some(block) => match self.decryptor.decrypt(&block) {
                    Some(plain) => {
                        let mut bytes = Vec::new();
                        plain.encode(&mut bytes);
                        moved(&bytes, origin, out);
                    }
                    // Of a segment that was not opened, or altered: nobody can read it here either.
                    None => self.unreadable += 1,
                },
            }
            return Ok(());
        }
        let Ok(mut entry) = frame.entry() else { return Ok(()) };
        let keyed = matches!(&entry, Entry::Fact(Fact::SegmentOpened { key: Some(_), .. }));
        self.decryptor.take_key(&mut entry)?;
        if let Entry::Fact(Fact::SegmentClosed { segment, .. }) = &entry {
            self.closed(*segment);
        }
        match &entry {
            _ if !wanted => {}
            Entry::Fact(fact) if keyed => {
                let mut bytes = Vec::new();
                encode_fact(&mut bytes, fact)?;
                moved(&bytes, origin, out);
            }
            _ => frame.encode_moved(origin, out),
        }
        Ok(())
    }

    /// Nothing is appended to a segment any more: its key is of no more use, once its blocks are given.
    fn closed(&mut self, segment: SegmentId) {
        match &mut self.stage {
            Stage::Pass(Pass { current: Some(current), .. }) => {
                current.closed.insert(segment);
            }
            _ => self.decryptor.forget(segment),
        }
    }

    fn file(&mut self, number: u32) -> Option<Arc<dyn DiskFile>> {
        if self.file.as_ref().is_none_or(|(open, _)| *open != number) {
            self.file = self.journal.open_file(number).ok().map(|file| (number, file));
        }
        self.file.as_ref().map(|(_, file)| Arc::clone(file))
    }
}

/// Takes hold of what a recording has in the journal; `None` if it is sealed meanwhile. Facts come
/// first: among them are the keys, and which segments there are.
fn current(journal: &JournalReader, id: RecordingId) -> Option<Current> {
    let plan = lock(&journal.shared).index.plan(id)?;
    let blocks = plan.blocks.into_iter().flat_map(crate::block_list::BlockList::into_runs);
    let runs = Box::new(plan.facts.into_iter().chain(blocks));
    let pins = Pins { shared: Arc::clone(&journal.shared), files: plan.files };
    Some(Current { runs, closed: BTreeSet::new(), _pins: pins })
}

fn moved(bytes: &[u8], origin: Place, out: &mut Vec<u8>) {
    if let Some((_, frame)) = trusted_frame(bytes) {
        frame.encode_moved(origin, out);
    }
}
