//! Keeps the capture journal small: removes files that nobody needs, and moves what is needed out
//! of files that are mostly needless (one long call must not keep every file that was written
//! since it began). In steps of bounded work, called by the writer between its sweeps.

use std::collections::BTreeMap;
use std::sync::Arc;

use storage_core::journal::{
    Entry, FILE_HEADER_BYTES, Frame, MAX_PAYLOAD_BYTES, Place, Step, step,
};
use storage_core::{SegmentId, naming};

use crate::block_list::Relocation;
use crate::disk::{DiskFile, read_around_at};
use crate::journal_error::JournalError;
use crate::journal_file::Journal;
use crate::journal_index::{About, Index};
use crate::journal_sync::lock;

/// How much of a file one step reads; at least the longest frame.
const STEP_BYTES: usize = MAX_PAYLOAD_BYTES + (64 << 10);

/// What a step of maintenance did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Maintained {
    /// Files removed.
    pub removed: usize,
    /// Bytes moved to the journal's head.
    pub moved_bytes: u64,
    /// Needed bytes that could not be read. Their file stays as it is until their recordings are
    /// sealed: what cannot be read today may be tomorrow.
    pub unreadable_bytes: u64,
    /// Whether there is more to do at once.
    pub more: bool,
}

/// A file that is being cleaned.
#[derive(Debug)]
pub(crate) struct Cleaning {
    number: u32,
    file: Arc<dyn DiskFile>,
    offset: u64,
    synced: bool,
}

/// A needed frame on its way.
enum Moving {
    Block(SegmentId, Relocation),
    Fact(About, Relocation),
}

impl Journal {
    /// Does one step: removes needless files, takes the reserve anew if there is room, and if
    /// more than half of what the files take is needless, reads about a megabyte of the
    /// sparsest one and appends what is needed of it again. To be called about once a second, and
    /// again soon while it says that there is more to do.
    ///
    /// # Errors
    /// [`JournalError`]; nothing is lost, and a later step tries again.
    pub fn maintain(&mut self) -> Result<Maintained, JournalError> {
        let mut done = Maintained { removed: self.remove_needless()?, ..Maintained::default() };
        self.restore_reserve();
        if self.cleaning.is_none() {
            self.cleaning = self.choose()?;
        }
        if let Some(cleaning) = self.cleaning.take() {
            self.clean(cleaning, &mut done)?;
            done.more = self.cleaning.is_some();
        }
        Ok(done)
    }

    fn remove_needless(&mut self) -> Result<usize, JournalError> {
        let numbers = {
            let mut shared = lock(&self.shared);
            if shared.distrust {
                return Ok(0);
            }
            let (durable, history) = (shared.durable, shared.appended);
            shared.index.settle(&std::collections::BTreeSet::new(), history);
            shared.index.removable(self.head_number(), durable)
        };
        for number in &numbers {
            let path = self.folder.join(naming::capture_file(*number));
            let removed = self.disk.remove(&path);
            removed.map_err(|error| JournalError::io("cannot remove", &path, error))?;
            lock(&self.shared).removed(*number);
        }
        Ok(numbers.len())
    }

    /// The next file to clean. Short files (each start begins one) count as long ones here, or a
    /// program that is started over and over would leave any number of them.
    fn choose(&self) -> Result<Option<Cleaning>, JournalError> {
        let number = {
            let shared = lock(&self.shared);
            let (files, live) = shared.index.usage();
            let room = self.options.rotate_bytes.saturating_mul(files as u64);
            if shared.distrust || files <= self.options.files_kept || live.saturating_mul(2) > room
            {
                return Ok(None);
            }
            shared.index.sparsest(self.head_number())
        };
        let Some(number) = number else { return Ok(None) };
        let path = self.folder.join(naming::capture_file(number));
        let file = self.disk.open(&path);
        let file = file.map_err(|error| JournalError::io("cannot open", &path, error))?;
        let offset = FILE_HEADER_BYTES as u64;
        Ok(Some(Cleaning { number, file, offset, synced: false }))
    }

    fn clean(&mut self, mut cleaning: Cleaning, done: &mut Maintained) -> Result<(), JournalError> {
        let mut window = vec![0; STEP_BYTES];
        let (count, _) = read_around_at(&*cleaning.file, &mut window, cleaning.offset);
        let last = count < window.len();
        let mut batch = Batch::default();
        let consumed = {
            let shared = lock(&self.shared);
            batch.collect(&mut cleaning, &window[..count], last, &shared.index)
        };
        self.move_batch(cleaning.number, &batch)?;
        done.moved_bytes += batch.frames.len() as u64;
        cleaning.offset += consumed as u64;
        if last {
            done.unreadable_bytes += lock(&self.shared).index.end_cleaning(cleaning.number);
        } else {
            self.cleaning = Some(cleaning);
        }
        Ok(())
    }

    /// Appends the batch and tells the index. If there is no room nothing has changed: what was
    /// appended of it is a copy that nobody knows of.
    fn move_batch(&mut self, file: u32, batch: &Batch) -> Result<(), JournalError> {
        if batch.frames.is_empty() {
            return Ok(());
        }
        self.make_room(batch.frames.len())?;
        let head = self.next_place();
        self.append_moved(&batch.frames)?;
        let mut shared = lock(&self.shared);
        let history = shared.appended;
        let mut blocks: BTreeMap<SegmentId, Vec<Relocation>> = BTreeMap::new();
        for moving in &batch.moving {
            let placed = |frame: &Relocation| {
                let at = Place { file: head.file, offset: head.offset + frame.at.offset };
                Relocation { at, ..*frame }
            };
            match moving {
                Moving::Block(segment, frame) => {
                    blocks.entry(*segment).or_default().push(placed(frame));
                }
                Moving::Fact(about, frame) => {
                    let from = Place { file, offset: frame.offset };
                    let frame = placed(frame);
                    shared.index.relocate_fact(*about, from, frame.at, frame.new_len, history);
                }
            }
        }
        for (segment, moved) in blocks {
            shared.index.relocate_blocks(segment, file, &moved, history);
        }
        Ok(())
    }
}

/// Needed frames of one step, in their new form.
#[derive(Default)]
struct Batch {
    frames: Vec<u8>,
    /// Their new places count from the begin of `frames` until they are appended.
    moving: Vec<Moving>,
}

impl Batch {
    /// Walks a window; tells how many of its bytes are done.
    fn collect(
        &mut self,
        cleaning: &mut Cleaning,
        window: &[u8],
        last: bool,
        index: &Index,
    ) -> usize {
        let mut at = 0;
        while at < window.len() {
            match step(&window[at..], cleaning.synced, last) {
                Step::More { .. } => break,
                Step::Damage { len, synced } => {
                    at += len;
                    cleaning.synced = synced;
                }
                Step::Frame { len, frame } => {
                    let place = cleaning.offset + at as u64;
                    if let (Ok(offset), Ok(len)) = (u32::try_from(place), u32::try_from(len)) {
                        self.take(Place { file: cleaning.number, offset }, len, &frame, index);
                    }
                    at += len;
                    cleaning.synced = true;
                }
            }
        }
        at
    }

    fn take(&mut self, from: Place, len: u32, frame: &Frame<'_>, index: &Index) {
        let start = self.frames.len();
        let about = match frame.segment() {
            Some(segment) if index.needs_block(segment) => None,
            Some(_) => return,
            None => match frame.entry() {
                Ok(Entry::Fact(fact)) if index.needs_fact(About::from(&fact), from) => {
                    Some(About::from(&fact))
                }
                _ => return,
            },
        };
        frame.encode_moved(from, &mut self.frames);
        let (Ok(new_at), Ok(new_len)) =
            (u32::try_from(start), u32::try_from(self.frames.len() - start))
        else {
            return;
        };
        let at = Place { file: 0, offset: new_at };
        let moved = Relocation { offset: from.offset, len, at, new_len };
        self.moving.push(match (about, frame.segment()) {
            (Some(about), _) => Moving::Fact(about, moved),
            (None, Some(segment)) => Moving::Block(segment, moved),
            (None, None) => return,
        });
    }
}
