//! The capture journal on disk: appending, durability on the caller's beat, rotation, what happens
//! when the disk is full. One thread writes (the media thread); another may sync
//! ([`SyncHandle`]), others read ([`crate::journal_read::JournalReader`]). The bytes are
//! [`storage_core::journal`]'s matter, who needs which of them is the index's.
//!
//! **Durability.** `append` reaches the operating system: a killed process loses nothing of it.
//! `sync` makes it last through a power cut.
//!
//! **Encryption.** With keys, blocks are encrypted on their way into the file
//! ([`crate::journal_cipher`]); callers give and get them plain.
//!
//! **Full disk.** What still fits of an append is kept up to the last whole frame, and the error
//! says how many bytes that are, so a call's media is recorded for as long as a byte fits. Facts
//! are few and worth more: for them a reserve is allocated beforehand and given up piece by piece
//! when the disk is full, so that calls can end and recordings be sealed (which frees journal
//! files). Media never gets the reserve: once a piece of it was given up, media is refused until
//! all of it is there again. [`Journal::maintain`] takes it anew when there is room.
//!
//! **An error that is not "full"** ends the current file: it is cut back as far as possible, and
//! the next append begins a new one. A torn frame left behind is stepped over by readers.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use storage_core::journal::{
    Entry, FILE_HEADER_BYTES, Fact, FileHeader, Place, check_frames, encode_fact, trusted_frame,
};
use storage_core::{NodeId, SegmentId, naming};

use crate::block_list::Run;
use crate::disk::{Disk, DiskFile, RealDisk, is_full, write_all_at};
use crate::journal_cipher::Encryptor;
use crate::journal_clean::Cleaning;
use crate::journal_error::JournalError;
use crate::journal_identity::identity;
use crate::journal_index::About;
use crate::journal_open::{self, Recovered, Scanned, Tail, Whose};
use crate::journal_read::JournalReader;
use crate::journal_sync::{Shared, SyncHandle, lock};
use crate::keys::Keys;
use crate::lock::DataLock;
use crate::reserve::Reserve;

/// Offsets are 32 bits; a file that cannot be rotated (full disk) is appended to up to here.
const FILE_BYTES_MAX: u64 = 2 << 30;
/// Facts are written so many bytes at a time, or as much more as the last of them is long.
const FACTS_BYTES: usize = 256 << 10;
/// More segments than are ever begun between two syncs.
const UNSYNCED_SEGMENTS_MAX: u64 = 65_536;

/// How the journal behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalOptions {
    /// A file is ended before it gets longer than this.
    pub rotate_bytes: u64,
    /// Room kept for facts on a full disk; 0 keeps none.
    pub reserve_bytes: u64,
    /// Up to so many files nothing is moved in order to free space.
    pub files_kept: usize,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self { rotate_bytes: 64 << 20, reserve_bytes: 8 << 20, files_kept: 8 }
    }
}

/// The file that is appended to.
#[derive(Debug)]
struct Head {
    number: u32,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    length: u64,
    /// It failed: the next append begins a new file.
    failed: bool,
}

/// The writer's end of the capture journal.
#[derive(Debug)]
pub struct Journal {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) folder: PathBuf,
    pub(crate) options: JournalOptions,
    pub(crate) shared: Arc<Mutex<Shared>>,
    pub(crate) cleaning: Option<Cleaning>,
    encryptor: Encryptor,
    node: NodeId,
    head: Head,
    reserve: Reserve,
    sync: SyncHandle,
    /// Reused from append to append.
    parsed: Vec<Parsed>,
    encoded: Vec<u8>,
    encrypted: Vec<u8>,
    _lock: Option<DataLock>,
}

/// A frame in bytes that are about to be appended.
#[derive(Debug)]
struct Parsed {
    offset: usize,
    len: usize,
    what: What,
    /// Where another journal had it.
    origin: Option<Place>,
}

/// What frames that are appended are to the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// New ones.
    New,
    /// Copies of what it knows; the caller tells it.
    Moved,
    /// Of another journal; they keep their places there.
    Foreign,
}

#[derive(Debug)]
enum What {
    Block(SegmentId),
    Fact(About),
    /// Frames that the index learns of in another way (moved ones).
    Other,
}

impl Journal {
    /// Opens the journal below a data folder, after a crash as well as after an orderly end, and
    /// takes the folder for this process. Nothing may be appended before what it found is known.
    ///
    /// # Errors
    /// [`JournalError`]; `Locked` if another process works in the folder.
    pub fn open(
        dir: &Path,
        node: NodeId,
        options: JournalOptions,
    ) -> Result<(Self, Recovered), JournalError> {
        Self::open_with_keys(dir, node, options, Keys::default())
    }

    /// The same with keys: packets are encrypted, and encrypted ones can be read.
    ///
    /// # Errors
    /// [`JournalError`]; `KeysMissing` if what is not sealed yet needs keys that are not there.
    pub fn open_with_keys(
        dir: &Path,
        node: NodeId,
        options: JournalOptions,
        keys: Keys,
    ) -> Result<(Self, Recovered), JournalError> {
        let disk = RealDisk::shared();
        disk.make_folder(dir).map_err(|e| JournalError::io("cannot make folder", dir, e))?;
        let lock = DataLock::take(dir)?;
        let (mut journal, recovered) = Self::open_on_with_keys(disk, dir, node, options, keys)?;
        journal._lock = Some(lock);
        Ok((journal, recovered))
    }

    /// The same on any disk, without a lock and without keys.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn open_on(
        disk: Arc<dyn Disk>,
        dir: &Path,
        node: NodeId,
        options: JournalOptions,
    ) -> Result<(Self, Recovered), JournalError> {
        Self::open_on_with_keys(disk, dir, node, options, Keys::default())
    }

    /// The same on any disk, without a lock.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn open_on_with_keys(
        disk: Arc<dyn Disk>,
        dir: &Path,
        node: NodeId,
        options: JournalOptions,
        keys: Keys,
    ) -> Result<(Self, Recovered), JournalError> {
        let (mut journal, found) = Self::open_as(disk, dir, node, options, keys, Whose::Own)?;
        for fact in found.closes {
            match journal.append_fact(&fact) {
                // They are closed at the next start; a full disk must not prevent this one.
                Err(JournalError::Full { .. }) => break,
                outcome => outcome?,
            }
        }
        journal.sync()?;
        Ok((journal, found.recovered))
    }

    /// Opens the journal of what `node` captured; appends nothing. Of what was found the index is taken.
    pub(crate) fn open_as(
        disk: Arc<dyn Disk>,
        dir: &Path,
        node: NodeId,
        options: JournalOptions,
        keys: Keys,
        whose: Whose,
    ) -> Result<(Self, Scanned), JournalError> {
        let folder = dir.join(naming::CAPTURE_FOLDER);
        let made = disk.make_folder(&folder);
        made.map_err(|error| JournalError::io("cannot make folder", &folder, error))?;
        let mut found = journal_open::scan(&*disk, &folder, Tail::Cut, whose)?;
        found.check_keys(&folder, &keys)?;
        found.recovered.nodes.retain(|writer| *writer != node);
        let identity = identity(&*disk, &folder);
        let mut shared = Shared::new(std::mem::take(&mut found.index), identity);
        for number in &found.last_files {
            let path = folder.join(naming::capture_file(*number));
            let file = disk.open(&path).map_err(|e| JournalError::io("cannot open", &path, e))?;
            shared.left(*number, &path, &file);
        }
        let mut reserve = Reserve::new(folder.join(naming::RESERVE_FILE), options.reserve_bytes);
        reserve.take(&*disk);
        // A power cut may take segments out of the journal that others have heard of by then, and
        // their numbers must not mean other segments: the next start begins beyond all of them.
        let beyond =
            SegmentId(found.recovered.next_segment.0.saturating_add(UNSYNCED_SEGMENTS_MAX));
        shared.index.raise_next_segment(beyond);
        let header = FileHeader {
            node,
            file: found.next_file,
            next_segment: shared.index.next_segment(),
            encrypted: keys.encrypt(),
        };
        let head = begin_file(&*disk, &folder, header, &mut shared, &mut reserve)?;
        let shared = Arc::new(Mutex::new(shared));
        let sync = SyncHandle::new(Arc::clone(&disk), folder.clone(), Arc::clone(&shared));
        let mut encryptor = Encryptor::new(keys);
        if whose == Whose::Other {
            encryptor.adopt(&found.locked)?;
        }
        let journal = Self {
            disk,
            folder,
            options,
            shared,
            cleaning: None,
            encryptor,
            node,
            head,
            reserve,
            sync,
            parsed: Vec::new(),
            encoded: Vec::new(),
            encrypted: Vec::new(),
            _lock: None,
        };
        Ok((journal, found))
    }

    /// Appends whole frames with one write; they need no checksums, which are put in where the frames
    /// are written as they are. See the file's text for what happens if the disk is full. A segment's packets count only after its `SegmentOpened`.
    ///
    /// # Errors
    /// [`JournalError`]; its [`JournalError::kept`] says how much was appended all the same.
    pub fn append(&mut self, frames: &mut [u8]) -> Result<(), JournalError> {
        if self.reserve.is_given_up() && !frames.is_empty() {
            return Err(JournalError::Full { path: self.head.path.clone(), kept: 0 });
        }
        if !self.encryptor.encrypts() {
            check_frames(frames).map_err(|offset| JournalError::NotFrames { offset })?;
            return self.append_as(frames, Kept::New);
        }
        let mut encrypted = std::mem::take(&mut self.encrypted);
        encrypted.clear();
        let outcome = self.encryptor.encrypt(frames, &mut encrypted).and_then(|()| {
            let appended = self.append_as(&encrypted, Kept::New);
            appended.map_err(|error| {
                let kept = self.encryptor.given(error.kept());
                error.with_kept(kept)
            })
        });
        self.encrypted = encrypted;
        outcome
    }

    /// Appends one fact. On a full disk it takes room from the reserve.
    ///
    /// # Errors
    /// [`JournalError`]; nothing was appended then.
    pub fn append_fact(&mut self, fact: &Fact) -> Result<(), JournalError> {
        let with_key = self.encryptor.with_key(fact)?;
        let mut encoded = std::mem::take(&mut self.encoded);
        encoded.clear();
        let encoding = encode_fact(&mut encoded, with_key.as_ref().unwrap_or(fact));
        let mut outcome = encoding.map_err(JournalError::from);
        if outcome.is_ok() {
            outcome = self.append_as(&encoded, Kept::New);
            while matches!(outcome, Err(JournalError::Full { .. }))
                && self.reserve.give(&*self.disk)
            {
                outcome = self.append_as(&encoded, Kept::New);
            }
        }
        self.encoded = encoded;
        if outcome.is_ok() {
            self.encryptor.appended(fact);
        }
        outcome
    }

    /// Appends facts with one write: on a slow disk it is the number of writes that counts. Tells how many of them, from
    /// the first on, are in the journal now; it may be fewer than were given, and at least one if there is no error. No
    /// reserve is touched: for what does not fit there is [`Journal::append_fact`].
    ///
    /// # Errors
    /// Beside the number: why the next one is not in the journal.
    pub fn append_facts<'a>(
        &mut self,
        facts: impl Iterator<Item = &'a Fact>,
    ) -> (usize, Result<(), JournalError>) {
        let mut encoded = std::mem::take(&mut self.encoded);
        encoded.clear();
        let (mut given, mut wrong) = (Vec::new(), None);
        for fact in facts {
            let encoding = self.encryptor.with_key(fact).map_err(JournalError::from);
            let encoding = encoding.and_then(|with_key| {
                Ok(encode_fact(&mut encoded, with_key.as_ref().unwrap_or(fact))?)
            });
            if let Err(error) = encoding {
                wrong = Some(error);
                break;
            }
            given.push((encoded.len(), fact));
            if encoded.len() >= FACTS_BYTES {
                break;
            }
        }
        let outcome = self.append_as(&encoded, Kept::New);
        let kept = outcome.as_ref().map_or_else(JournalError::kept, |()| encoded.len());
        let written = given.iter().take_while(|(end, _)| *end <= kept).count();
        for (_, fact) in &given[..written] {
            self.encryptor.appended(fact);
        }
        self.encoded = encoded;
        (written, outcome.and(wrong.map_or(Ok(()), Err)))
    }

    /// Makes everything appended so far last. On a slow disk this takes as long as the disk does;
    /// [`Journal::sync_handle`] does the same from another thread.
    ///
    /// # Errors
    /// [`JournalError::Io`], see [`SyncHandle::sync`].
    pub fn sync(&mut self) -> Result<(), JournalError> {
        self.sync.sync()
    }

    /// Whether something was appended that is not durable yet.
    #[must_use]
    pub fn needs_sync(&self) -> bool {
        self.sync.needs_sync()
    }

    /// Syncs from another thread.
    #[must_use]
    pub fn sync_handle(&self) -> SyncHandle {
        self.sync.clone()
    }

    /// Reads from another thread.
    #[must_use]
    pub fn reader(&self) -> JournalReader {
        let keys = self.encryptor.keys().clone();
        let (disk, shared) = (Arc::clone(&self.disk), Arc::clone(&self.shared));
        JournalReader::new(disk, self.folder.clone(), shared, keys)
    }

    /// Blocks that were appended for a segment that was not opened or whose recording is sealed:
    /// they are in the file and will not be read.
    #[must_use]
    pub fn unattributed_blocks(&self) -> u64 {
        lock(&self.shared).index.unattributed()
    }

    /// Appends moved frames that were first appended in another journal, and enters them as such.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub(crate) fn append_foreign(&mut self, frames: &[u8]) -> Result<(), JournalError> {
        self.append_as(frames, Kept::Foreign)
    }

    /// Bytes ever appended by this process, and how many of them are durable.
    pub(crate) fn history(&self) -> (u64, u64) {
        let shared = lock(&self.shared);
        (shared.appended, shared.durable)
    }

    /// What encrypts here.
    pub(crate) const fn encryptor(&mut self) -> &mut Encryptor {
        &mut self.encryptor
    }

    /// Number of the file that is appended to.
    pub(crate) const fn head_number(&self) -> u32 {
        self.head.number
    }

    /// Where the next byte goes, if it fits.
    pub(crate) fn next_place(&self) -> Place {
        Place { file: self.head.number, offset: offset32(self.head.length) }
    }

    /// Gets ready to be appended to after an error: begins a new file if the present one failed, and takes the
    /// reserve anew if there is room. Whether the journal takes everything again.
    pub fn recover(&mut self) -> bool {
        self.restore_reserve();
        self.make_room(1).is_ok() && self.reserve.missing().is_none()
    }

    /// Bytes that may still be written where the journal lies; `None` if the file system does not tell.
    #[must_use]
    pub fn free_bytes(&self) -> Option<u64> {
        self.disk.free_bytes(&self.folder).ok()
    }

    /// Takes the reserve anew if it was given up and there is room for twice what is missing.
    pub(crate) fn restore_reserve(&mut self) {
        self.reserve.restore(&*self.disk);
    }

    /// Appends moved frames: the caller tells the index. The head is not changed in between, so
    /// [`Journal::next_place`] after [`Journal::make_room`] is where the first one goes.
    pub(crate) fn append_moved(&mut self, frames: &[u8]) -> Result<(), JournalError> {
        self.append_as(frames, Kept::Moved)
    }

    /// Begins a new file if the present one is long enough, or failed.
    pub(crate) fn make_room(&mut self, bytes: usize) -> Result<(), JournalError> {
        let begun = self.head.length > FILE_HEADER_BYTES as u64;
        let long = begun && self.head.length + bytes as u64 > self.options.rotate_bytes;
        if !long && !self.head.failed {
            return Ok(());
        }
        let number = self.head.number + 1;
        let mut shared = lock(&self.shared);
        let header = FileHeader {
            node: self.node,
            file: number,
            next_segment: shared.index.next_segment(),
            encrypted: self.encryptor.encrypts(),
        };
        let begun =
            begin_file(&*self.disk, &self.folder, header, &mut shared, &mut Reserve::none());
        drop(shared);
        match begun {
            Ok(head) => self.head = head,
            // Too little room for another file: the present one goes on while it takes a byte.
            Err(JournalError::Full { .. })
                if !self.head.failed && self.head.length + (bytes as u64) < FILE_BYTES_MAX => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn append_as(&mut self, frames: &[u8], kept_as: Kept) -> Result<(), JournalError> {
        if frames.len() as u64 > FILE_BYTES_MAX {
            return Err(JournalError::TooMuch { bytes: frames.len() });
        }
        parse(frames, kept_as, &mut self.parsed)?;
        if frames.is_empty() {
            return Ok(());
        }
        self.make_room(frames.len())?;
        let outcome = self.write(frames);
        let kept = outcome.as_ref().map_or_else(JournalError::kept, |()| frames.len());
        self.enter(kept);
        outcome
    }

    /// Writes at the end of the head. After an error the file ends with the last whole frame.
    fn write(&mut self, frames: &[u8]) -> Result<(), JournalError> {
        let Err((written, source)) = write_all_at(&*self.head.file, frames, self.head.length)
        else {
            return Ok(());
        };
        let whole = self.parsed.iter().map(|frame| frame.offset + frame.len);
        let kept = whole.take_while(|end| *end <= written).last().unwrap_or(0);
        let cut = self.head.file.truncate(self.head.length + kept as u64);
        self.head.failed = cut.is_err() || !is_full(&source);
        let path = self.head.path.clone();
        if is_full(&source) {
            return Err(JournalError::Full { path, kept });
        }
        Err(JournalError::Io { action: "cannot write", path, kept, source })
    }

    /// Enters the first `kept` bytes of what was parsed into the index.
    fn enter(&mut self, kept: usize) {
        if kept == 0 {
            return;
        }
        let mut shared = lock(&self.shared);
        let Head { number, path, file, .. } = &self.head;
        shared.appended(*number, path, file, kept as u64);
        let history = shared.appended;
        for frame in self.parsed.iter().take_while(|frame| frame.offset + frame.len <= kept) {
            let offset = offset32(self.head.length + frame.offset as u64);
            let at = Place { file: self.head.number, offset };
            let len = offset32(frame.len as u64);
            let run = Run { origin: frame.origin.unwrap_or(at), at, len };
            match frame.what {
                What::Block(segment) => shared.index.add_block(segment, run),
                What::Fact(about) => shared.index.add_fact(about, run, history),
                What::Other => {}
            }
        }
        self.head.length += kept as u64;
    }
}

/// Offsets and lengths in a file stay below [`FILE_BYTES_MAX`] plus one append.
fn offset32(number: u64) -> u32 {
    u32::try_from(number).expect("a file is not appended to beyond FILE_BYTES_MAX")
}

/// Takes frames apart as far as the index needs it.
fn parse(frames: &[u8], kept_as: Kept, parsed: &mut Vec<Parsed>) -> Result<(), JournalError> {
    parsed.clear();
    let mut offset = 0;
    while offset < frames.len() {
        let wrong = JournalError::NotFrames { offset };
        let Some((len, frame)) = trusted_frame(&frames[offset..]) else { return Err(wrong) };
        let what = if kept_as == Kept::Moved {
            What::Other
        } else if let Some(segment) = frame.segment() {
            What::Block(segment)
        } else if let Ok(Entry::Fact(fact)) = frame.entry() {
            What::Fact(About::from(&fact))
        } else {
            return Err(wrong);
        };
        let origin = frame.moved_from().filter(|_| kept_as == Kept::Foreign);
        parsed.push(Parsed { offset, len, what, origin });
        offset += len;
    }
    Ok(())
}

/// Begins a journal file. On a full disk the reserve gives room for it.
fn begin_file(
    disk: &dyn Disk,
    folder: &Path,
    header: FileHeader,
    shared: &mut Shared,
    reserve: &mut Reserve,
) -> Result<Head, JournalError> {
    let number = header.file;
    let path = folder.join(naming::capture_file(number));
    let begin = || -> Result<Arc<dyn DiskFile>, JournalError> {
        let file = disk.create(&path);
        let file = file.map_err(|error| JournalError::io("cannot create", &path, error))?;
        let written = write_all_at(&*file, &header.encode(), 0);
        written.map_err(|(_, error)| JournalError::io("cannot write", &path, error))?;
        Ok(file)
    };
    let mut begun = begin();
    while matches!(begun, Err(JournalError::Full { .. })) && reserve.give(disk) {
        begun = begin();
    }
    let file = begun?;
    shared.begin_file(number, &path, &file);
    Ok(Head { number, path, file, length: FILE_HEADER_BYTES as u64, failed: false })
}
