//! Keeps what another node captures: the mirror of its journal, in a journal of this node. Of each frame
//! it knows where its owner had it first; so it takes none twice, whatever is sent again, and reads them
//! back in their owner's order, whatever order they came in. It decides what is kept and from where the
//! owner is to go on; it knows no network, and not what a recording is worth to the group.
//!
//! **Where to go on.** Everything before a place was taken when a mark says so, and is durable after the next
//! sync. That place is written to the file `position`, which is made durable only when it is begun: an
//! older place only has more sent again.
//!
//! ```text
//! magic "ALMIRPOS" | journal u64 | file u32 | offset u32 | clock i64 | crc u32     (little-endian)
//! ```
//!
//! With it goes by how much the owner's clock was ahead, which nobody can find out any more when it is lost.
//!
//! **Another journal.** Places mean nothing in another journal than they are of. Where the owner has lost
//! its own, what is kept of the former one is not mixed with the new one: that is taken once nothing is
//! kept any more.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use storage_core::journal::{Entry, Fact, Frame, Place, Step, encode_fact, step, trusted_frame};
use storage_core::{NodeId, RecordingId, SegmentId, naming};

use crate::disk::{Disk, read_full_at, write_all_at};
use crate::journal_clean::Maintained;
use crate::journal_error::JournalError;
use crate::journal_file::{Journal, JournalOptions};
use crate::journal_index::About;
use crate::journal_open::Whose;
use crate::journal_read::JournalReader;
use crate::journal_sync::{SyncHandle, lock};
use crate::keys::Keys;

const MAGIC: [u8; 8] = *b"ALMIRPOS";
const POSITION_BYTES: usize = 36;
/// What its checksum covers.
const CHECKED_BYTES: usize = POSITION_BYTES - 4;
/// Marks whose frames are not durable yet; more are seen as one.
const MARKS_MAX: usize = 256;
const BEGIN: Place = Place { file: 0, offset: 0 };

/// Why something was not kept.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// It cannot be written, or read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The owner sent what is no moved frame, or one that says nothing known here.
    #[error("what node {node} sent of its captures cannot be understood (byte {offset})")]
    NotFrames {
        /// Whose journal it is.
        node: NodeId,
        /// Where.
        offset: usize,
    },
    /// It has another journal than the one that is kept here.
    #[error(
        "node {node} has begun a new capture journal, and {recordings} recordings of its former one are \
         kept here: they go when they are published, or with {}", folder.display()
    )]
    Other {
        /// Whose journal it is.
        node: NodeId,
        /// How many recordings of the former journal are kept.
        recordings: usize,
        /// Where they lie.
        folder: PathBuf,
    },
}

/// The mirror of a journal. One thread writes it; readers are as any journal's.
#[derive(Debug)]
pub struct MirrorJournal {
    node: NodeId,
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    journal: Journal,
    /// Which journal it is of, once that is known.
    identity: Option<u64>,
    taken: Place,
    durable: Place,
    /// By how much the owner's clock is ahead, microseconds.
    clock_offset_us: i64,
    /// What will be durable when so many bytes of this journal's history are.
    marks: VecDeque<(u64, Place)>,
    batch: Vec<u8>,
}

impl MirrorJournal {
    /// Opens the mirror of what `node` captures in a folder of its own.
    ///
    /// # Errors
    /// [`JournalError`]; `KeysMissing` if what is kept was encrypted with keys that are not there.
    pub fn open(
        disk: Arc<dyn Disk>,
        folder: &Path,
        node: NodeId,
        keys: Keys,
    ) -> Result<Self, JournalError> {
        let options = JournalOptions { reserve_bytes: 0, ..JournalOptions::default() };
        Self::open_with(disk, folder, node, options, keys)
    }

    /// The same with options.
    ///
    /// # Errors
    /// As [`MirrorJournal::open`].
    pub fn open_with(
        disk: Arc<dyn Disk>,
        folder: &Path,
        node: NodeId,
        options: JournalOptions,
        keys: Keys,
    ) -> Result<Self, JournalError> {
        let opened = Journal::open_as(Arc::clone(&disk), folder, node, options, keys, Whose::Other);
        let (journal, _) = opened?;
        let position = read_position(&*disk, &folder.join(naming::POSITION_FILE));
        let identity = position.map(|position| position.identity);
        let durable = position.map_or(BEGIN, |position| position.place);
        Ok(Self {
            node,
            disk,
            folder: folder.to_owned(),
            journal,
            identity,
            taken: durable,
            durable,
            clock_offset_us: position.map_or(0, |position| position.clock_offset_us),
            marks: VecDeque::new(),
            batch: Vec::new(),
        })
    }

    /// Which journal this is the mirror of, and the place before which everything is taken; `None` if that
    /// is not known.
    #[must_use]
    pub fn position(&self) -> Option<(u64, Place)> {
        self.identity.map(|identity| (identity, self.taken))
    }

    /// The place before which everything is durable here.
    #[must_use]
    pub const fn durable(&self) -> Place {
        self.durable
    }

    /// The owner says which journal it has. What follows is of that one, from the place on that
    /// [`MirrorJournal::position`] told, or from its begin if it is another.
    ///
    /// # Errors
    /// [`MirrorError::Other`] if what is kept here is of another one.
    pub fn begin(&mut self, identity: u64) -> Result<(), MirrorError> {
        if self.identity == Some(identity) {
            return Ok(());
        }
        let recordings = self.journal.reader().open_recordings().len();
        // Without a position nobody knows whose these are; the same frames are known as such.
        if self.identity.is_some() && recordings > 0 {
            let (node, folder) = (self.node, self.folder.clone());
            return Err(MirrorError::Other { node, recordings, folder });
        }
        (self.identity, self.taken, self.durable) = (Some(identity), BEGIN, BEGIN);
        self.marks.clear();
        self.write_position()?;
        let path = self.folder.join(naming::POSITION_FILE);
        let synced = self.disk.open(&path).and_then(|file| file.sync());
        let synced = synced.and_then(|()| self.disk.sync_folder(&self.folder));
        synced.map_err(|error| JournalError::io("cannot sync", &path, error))?;
        Ok(())
    }

    /// Only these recordings are open at their owner: the others are sealed.
    ///
    /// # Errors
    /// [`MirrorError::Journal`].
    pub fn live(&mut self, open: &[RecordingId]) -> Result<(), MirrorError> {
        let open: BTreeSet<_> = open.iter().collect();
        let kept = self.journal.reader().open_recordings();
        self.forget(kept.into_iter().filter(|id| !open.contains(id)))
    }

    /// These are needed no more.
    ///
    /// # Errors
    /// [`MirrorError::Journal`].
    pub fn forget(
        &mut self,
        recordings: impl IntoIterator<Item = RecordingId>,
    ) -> Result<(), MirrorError> {
        for recordingid in recordings {
            if lock(&self.journal.shared).index.is_open(recordingid) {
                self.journal.append_fact(&Fact::Sealed { recordingid })?;
            }
        }
        Ok(())
    }

    /// Takes frames as [`crate::JournalTail`] gives them; those that are here already are left out.
    ///
    /// # Errors
    /// [`MirrorError`]. What was taken before the error may be here; it is known as such when it
    /// comes again.
    pub fn take(&mut self, frames: &[u8]) -> Result<(), MirrorError> {
        self.batch.clear();
        let mut offset = 0;
        while offset < frames.len() {
            let wrong = || MirrorError::NotFrames { node: self.node, offset };
            let Step::Frame { len, frame } = step(&frames[offset..], true, true) else {
                return Err(wrong());
            };
            let origin = frame.moved_from().ok_or_else(wrong)?;
            match frame.entry().map_err(|_| wrong())? {
                Entry::Packets(block) => {
                    self.block(&frame, block.segment, origin, &frames[offset..offset + len])
                        .map_err(|Refused| MirrorError::NotFrames { node: self.node, offset })?;
                }
                Entry::Fact(Fact::Sealed { recordingid }) => {
                    self.flush()?;
                    self.forget([recordingid])?;
                }
                // A fact may open the segment of the blocks that follow.
                Entry::Fact(fact) => {
                    self.flush()?;
                    self.fact(fact, origin)?;
                }
            }
            offset += len;
        }
        Ok(self.flush()?)
    }

    /// By how much the owner's clock was ahead when it was last heard, microseconds.
    #[must_use]
    pub const fn clock_offset_us(&self) -> i64 {
        self.clock_offset_us
    }

    /// Everything before this place of the owner's journal has been given; its clock is ahead by so many
    /// microseconds.
    pub fn marked(&mut self, next: Place, clock_offset_us: i64) {
        (self.taken, self.clock_offset_us) = (next, clock_offset_us);
        let (appended, _) = self.journal.history();
        let many = self.marks.len() >= MARKS_MAX;
        match self.marks.back_mut() {
            Some(last) if last.0 == appended || many => *last = (appended, next),
            _ => self.marks.push_back((appended, next)),
        }
    }

    /// Looks at what a sync has made durable meanwhile, and writes down where to go on from.
    ///
    /// # Errors
    /// [`JournalError`] if that cannot be written down; more is sent again then after a restart.
    pub fn settle(&mut self) -> Result<(), JournalError> {
        let (_, durable) = self.journal.history();
        let mut reached = None;
        while let Some((needs, place)) = self.marks.front().copied()
            && needs <= durable
        {
            reached = Some(place);
            self.marks.pop_front();
        }
        match reached.filter(|place| *place != self.durable) {
            None => Ok(()),
            Some(place) => {
                self.durable = place;
                self.write_position()
            }
        }
    }

    fn write_position(&self) -> Result<(), JournalError> {
        let path = self.folder.join(naming::POSITION_FILE);
        let (identity, clock_offset_us) = (self.identity.unwrap_or(0), self.clock_offset_us);
        let position = Position { identity, place: self.durable, clock_offset_us };
        let written = position.write(&*self.disk, &path);
        written.map_err(|error| JournalError::io("cannot write", &path, error))
    }

    /// Reads what is kept.
    #[must_use]
    pub fn reader(&self) -> JournalReader {
        self.journal.reader()
    }

    /// Makes it durable from another thread.
    #[must_use]
    pub fn sync_handle(&self) -> SyncHandle {
        self.journal.sync_handle()
    }

    /// A step of cleaning; see [`Journal::maintain`].
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn maintain(&mut self) -> Result<Maintained, JournalError> {
        self.journal.maintain()
    }

    fn block(
        &mut self,
        frame: &Frame<'_>,
        segment: SegmentId,
        origin: Place,
        bytes: &[u8],
    ) -> Result<(), Refused> {
        let wanted = {
            let shared = lock(&self.journal.shared);
            shared.index.needs_block(segment) && !shared.index.has_block(segment, origin)
        };
        if !wanted {
            return Ok(());
        }
        if self.journal.encryptor().encrypts() {
            let encrypted = self.journal.encryptor().encrypt_moved(frame, origin, &mut self.batch);
            return encrypted.map_err(|_| Refused);
        }
        self.batch.extend_from_slice(bytes);
        Ok(())
    }

    fn fact(&mut self, mut fact: Fact, origin: Place) -> Result<(), JournalError> {
        if lock(&self.journal.shared).index.has_fact(About::from(&fact), origin) {
            return Ok(());
        }
        if let Fact::SegmentOpened { key, .. } = &mut fact {
            // The key of another node would be of no use.
            *key = None;
        }
        let with_key = self.journal.encryptor().with_key(&fact)?;
        let mut plain = Vec::new();
        encode_fact(&mut plain, with_key.as_ref().unwrap_or(&fact))?;
        if let Some((_, frame)) = trusted_frame(&plain) {
            frame.encode_moved(origin, &mut self.batch);
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<(), JournalError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let outcome = self.journal.append_foreign(&self.batch);
        self.batch.clear();
        outcome
    }
}

/// The machine does not encrypt.
struct Refused;

/// What the file `position` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    identity: u64,
    place: Place,
    clock_offset_us: i64,
}

fn read_position(disk: &dyn Disk, path: &Path) -> Option<Position> {
    let file = disk.open(path).ok()?;
    let mut bytes = [0; POSITION_BYTES];
    let read = read_full_at(&*file, &mut bytes, 0).ok()?;
    let crc = u32::from_le_bytes(bytes[CHECKED_BYTES..].try_into().ok()?);
    if read < POSITION_BYTES
        || bytes[..8] != MAGIC
        || crc != crc32c::crc32c(&bytes[..CHECKED_BYTES])
    {
        return None;
    }
    let identity = u64::from_le_bytes(bytes[8..16].try_into().ok()?);
    let file = u32::from_le_bytes(bytes[16..20].try_into().ok()?);
    let offset = u32::from_le_bytes(bytes[20..24].try_into().ok()?);
    let clock_offset_us = i64::from_le_bytes(bytes[24..32].try_into().ok()?);
    Some(Position { identity, place: Place { file, offset }, clock_offset_us })
}

impl Position {
    fn write(self, disk: &dyn Disk, path: &Path) -> std::io::Result<()> {
        let mut bytes = [0; POSITION_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&self.identity.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.place.file.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.place.offset.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.clock_offset_us.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..CHECKED_BYTES]);
        bytes[CHECKED_BYTES..].copy_from_slice(&crc.to_le_bytes());
        let file = disk.open(path).or_else(|_| disk.create(path))?;
        write_all_at(&*file, &bytes, 0).map_err(|(_, error)| error)
    }
}
