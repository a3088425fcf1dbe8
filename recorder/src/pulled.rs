//! Captures of other nodes: what one node sends of its journal so that another can seal with it, and
//! how the other keeps and reads that. It decides neither whose captures are wanted nor how bytes
//! travel: a transport hands on chunks in their order.
//!
//! ```text
//! magic "ALPULLED" | version u16 | node u16 | 0 u32
//! frames as in the capture journal: facts and packets of the wanted segments, the newest drafts
//! magic "ALPULEND" | bytes before it u64 | SHA-256 of these 32
//! ```
//!
//! All numbers are little-endian. What comes from a peer is checked as a whole before any of it is
//! used: length, hash, that it is frames from end to end, and that each says something known here.
//! Files are not synced: after a crash they are removed and pulled again. On a node that encrypts they
//! are encrypted with keys that nobody keeps.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};
use storage::disk::{Disk, DiskFile, RealDisk, is_full, read_full_at};
use storage::scratch::ScratchWriter;
use storage::{JournalError, JournalReader, ReadStats};
use storage_core::journal::{
    EncodeError, Entry, EntryError, Fact, HEAD_BYTES, MAX_PAYLOAD_BYTES, Step, encode_fact, step,
};
use storage_core::naming::PULLED_FOLDER;
use storage_core::{Draft, NodeId, RecordingId, SegmentId};

/// Longest chunk that is sent: what the group's links take.
pub const CHUNK_MAX: usize = 1 << 20;
/// Longest stream that is taken: a phantom's media of four days.
pub const STREAM_BYTES_MAX: u64 = 4 << 30;
/// More drafts than nodes could have of one call are not taken.
const DRAFTS_MAX: usize = 64;
/// More segments than a call could have are not taken.
const SEGMENTS_MAX: usize = 4096;

const MAGIC: [u8; 8] = *b"ALPULLED";
const END_MAGIC: [u8; 8] = *b"ALPULEND";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 16;
const TRAILER_BYTES: usize = 48;
/// A window is read that holds the longest frame.
const WINDOW_BYTES: usize = 2 * (HEAD_BYTES + MAX_PAYLOAD_BYTES);

/// Why a capture was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError<E> {
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A fact of ours has no form; a bug.
    #[error(transparent)]
    Fact(#[from] EncodeError),
    /// The disk has lost a part of it: what is left is better sent by hand than taken for whole.
    #[error("{bytes} bytes of the capture cannot be read")]
    Unreadable {
        /// How many.
        bytes: u64,
    },
    /// The receiver takes no more.
    #[error(transparent)]
    Transport(E),
}

/// Why a capture that was pulled is not used.
#[derive(Debug, thiserror::Error)]
pub enum PulledError {
    /// No room for it.
    #[error("no room left on the device of {}: free some, or move al_datadir", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The device failed.
    #[error("{action} {}", path.display())]
    Io {
        /// What was tried, as "cannot write".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The peer sent what is no capture.
    #[error("node {node} sent no capture: {fault}")]
    Peer {
        /// Which one.
        node: NodeId,
        /// What is wrong.
        fault: PeerFault,
    },
}

/// What is wrong with what a peer sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerFault {
    /// More than is taken.
    #[error("more than {STREAM_BYTES_MAX} bytes")]
    TooLong,
    /// Another begin than a capture has, or one of a later program.
    #[error("it begins as no capture that this program knows")]
    Header,
    /// It captured for another node than it is.
    #[error("it says that node {0} captured it")]
    Node(NodeId),
    /// It ended too early, or with something else.
    #[error("its end is missing")]
    Trailer,
    /// It was altered on the way, or on the disk.
    #[error("its SHA-256 is another one")]
    Hash,
    /// Bytes that are no frame.
    #[error("no frame at byte {0}")]
    Frame(u64),
    /// A frame that contradicts itself.
    #[error("unreadable entry at byte {0}")]
    Entry(u64),
    /// Packets of a segment that it had not opened.
    #[error("packets of segment {0}, which was not opened")]
    Unopened(SegmentId),
    /// More drafts or segments than a call has.
    #[error("more drafts or segments than a call has")]
    TooMany,
}

impl PulledError {
    fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        if is_full(&source) { Self::Full { path } } else { Self::Io { action, path, source } }
    }
}

/// Sends what this node's journal holds of recordings: the newest drafts, and the facts and packets
/// of the wanted segments. `chunk` is given at most [`CHUNK_MAX`] bytes at a time. It blocks for as
/// long as the disk and `chunk` take.
///
/// # Errors
/// [`SendError`]; what was sent then is no whole capture, which the receiver will find.
pub fn send_capture<E>(
    capture: &JournalReader,
    node: NodeId,
    recordings: &[RecordingId],
    wanted: &BTreeSet<SegmentId>,
    chunk: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), SendError<E>> {
    let mut sender = Sender { chunk, pending: Vec::new(), sha256: Sha256::new(), bytes: 0 };
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..10].copy_from_slice(&VERSION.to_le_bytes());
    header[10..12].copy_from_slice(&node.0.to_le_bytes());
    sender.take(&header)?;
    let mut frame = Vec::new();
    let mut outcome = Ok(());
    let stats = capture.read_recordings(recordings, |entry| {
        if outcome.is_err() || !is_wanted(&entry, wanted) {
            return;
        }
        frame.clear();
        outcome =
            encode(&mut frame, &entry).map_err(SendError::Fact).and_then(|()| sender.take(&frame));
    })?;
    outcome?;
    if stats.bytes_lost > 0 {
        return Err(SendError::Unreadable { bytes: stats.bytes_lost });
    }
    sender.end()
}

/// Whether an entry is a draft, or about one of these segments.
pub(crate) fn is_wanted(entry: &Entry<'_>, wanted: &BTreeSet<SegmentId>) -> bool {
    match entry {
        Entry::Fact(
            Fact::SegmentOpened { segment, .. }
            | Fact::MediaTerms { segment, .. }
            | Fact::SegmentClosed { segment, .. }
            | Fact::Lost { segment, .. },
        ) => wanted.contains(segment),
        Entry::Fact(Fact::Recording { .. }) => true,
        Entry::Fact(Fact::Sealed { .. }) => false,
        Entry::Packets(block) => wanted.contains(&block.segment),
    }
}

fn encode(out: &mut Vec<u8>, entry: &Entry<'_>) -> Result<(), EncodeError> {
    match entry {
        Entry::Fact(fact) => encode_fact(out, fact),
        Entry::Packets(block) => {
            block.encode(out);
            Ok(())
        }
    }
}

struct Sender<C> {
    chunk: C,
    pending: Vec<u8>,
    sha256: Sha256,
    bytes: u64,
}

impl<E, C: FnMut(&[u8]) -> Result<(), E>> Sender<C> {
    fn take(&mut self, bytes: &[u8]) -> Result<(), SendError<E>> {
        self.sha256.update(bytes);
        self.bytes += bytes.len() as u64;
        self.pass(bytes)
    }

    /// Hands on whole chunks.
    fn pass(&mut self, mut bytes: &[u8]) -> Result<(), SendError<E>> {
        while !bytes.is_empty() {
            let room = CHUNK_MAX - self.pending.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.pending.extend_from_slice(now);
            bytes = later;
            if self.pending.len() == CHUNK_MAX {
                (self.chunk)(&self.pending).map_err(SendError::Transport)?;
                self.pending.clear();
            }
        }
        Ok(())
    }

    fn end(mut self) -> Result<(), SendError<E>> {
        let sha256 = self.sha256.clone().finalize();
        let mut trailer = END_MAGIC.to_vec();
        trailer.extend_from_slice(&self.bytes.to_le_bytes());
        trailer.extend_from_slice(&sha256);
        self.pass(&trailer)?;
        if self.pending.is_empty() {
            return Ok(());
        }
        (self.chunk)(&self.pending).map_err(SendError::Transport)
    }
}

/// The folder where captures of other nodes lie while they are needed. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PulledFolder {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    encrypted: bool,
    next: Arc<AtomicU64>,
}

impl PulledFolder {
    /// The folder below a data folder; what an earlier process left there is removed.
    ///
    /// # Errors
    /// [`PulledError::Io`].
    pub fn open(dir: &Path) -> Result<Self, PulledError> {
        Self::open_on(RealDisk::shared(), dir)
    }

    /// The same on any disk.
    ///
    /// # Errors
    /// [`PulledError::Io`].
    pub fn open_on(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, PulledError> {
        let folder = dir.join(PULLED_FOLDER);
        let failed = |action| move |error| (action, error);
        let clean = || {
            disk.make_folder(&folder).map_err(failed("cannot make folder"))?;
            for left in disk.list(&folder).map_err(failed("cannot list"))? {
                if !left.folder {
                    disk.remove(&folder.join(left.name)).map_err(failed("cannot clean"))?;
                }
            }
            Ok(())
        };
        clean().map_err(|(action, error)| PulledError::io(action, &folder, error))?;
        Ok(Self { disk, folder, encrypted: false, next: Arc::default() })
    }

    /// The same, where what lies there is encrypted or not.
    #[must_use]
    pub fn encrypted(self, encrypted: bool) -> Self {
        Self { encrypted, ..self }
    }

    /// Begins to take what `node` sends, whose clock is ahead of ours by so many microseconds.
    ///
    /// # Errors
    /// [`PulledError`].
    pub fn begin(&self, node: NodeId, clock_offset_us: i64) -> Result<PulledWriter, PulledError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.join(format!("{node}.{number}.alp"));
        let out = ScratchWriter::create(&*self.disk, &path, self.encrypted);
        let out = out.map_err(|error| PulledError::io("cannot create", &path, error))?;
        let kept = Kept { disk: Arc::clone(&self.disk), path };
        let sha256 = Sha256::new();
        Ok(PulledWriter { node, clock_offset_us, kept, out, sha256, tail: Vec::new(), written: 0 })
    }
}

/// A file that is removed when nobody needs it any more.
#[derive(Debug)]
struct Kept {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Err(error) = self.disk.remove(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "left for the next start");
        }
    }
}

/// Takes what a peer sends. Dropped before its end, it leaves nothing.
#[derive(Debug)]
pub struct PulledWriter {
    node: NodeId,
    clock_offset_us: i64,
    kept: Kept,
    out: ScratchWriter,
    sha256: Sha256,
    /// The last bytes, which may be the trailer.
    tail: Vec<u8>,
    written: u64,
}

impl PulledWriter {
    /// Takes the next chunk, of any length.
    ///
    /// # Errors
    /// [`PulledError`]; the writer is of no further use then.
    pub fn write(&mut self, chunk: &[u8]) -> Result<(), PulledError> {
        if self.written + (self.tail.len() + chunk.len()) as u64 > STREAM_BYTES_MAX {
            return Err(self.peer(PeerFault::TooLong));
        }
        self.tail.extend_from_slice(chunk);
        let sure = self.tail.len().saturating_sub(TRAILER_BYTES);
        let bytes = &self.tail[..sure];
        self.sha256.update(bytes);
        let written = self.out.write(bytes);
        written.map_err(|error| PulledError::io("cannot write", &self.kept.path, error))?;
        self.written += sure as u64;
        self.tail.drain(..sure);
        Ok(())
    }

    /// The peer has sent everything: checks it.
    ///
    /// # Errors
    /// [`PulledError`].
    pub fn finish(self) -> Result<PulledCapture, PulledError> {
        let sha256 = self.sha256.clone().finalize();
        let (magic, rest) = self.tail.split_at_checked(8).unwrap_or_default();
        let (bytes, hash) = rest.split_at_checked(8).unwrap_or_default();
        if magic != END_MAGIC || bytes != self.written.to_le_bytes() {
            return Err(self.peer(PeerFault::Trailer));
        }
        if hash != sha256.as_slice() {
            return Err(self.peer(PeerFault::Hash));
        }
        let Self { node, clock_offset_us, kept, out, written: bytes, .. } = self;
        let file = out.finish();
        let file = file.map_err(|error| PulledError::io("cannot write", &kept.path, error))?;
        let (drafts, kept) = (Vec::new(), Arc::new(kept));
        let mut pulled = PulledCapture { node, clock_offset_us, drafts, kept, file, bytes };
        pulled.check()?;
        Ok(pulled)
    }

    fn peer(&self, fault: PeerFault) -> PulledError {
        PulledError::Peer { node: self.node, fault }
    }
}

/// A capture of another node. Its file goes with its last clone.
#[derive(Clone, Debug)]
pub struct PulledCapture {
    node: NodeId,
    clock_offset_us: i64,
    drafts: Vec<Draft>,
    kept: Arc<Kept>,
    file: Arc<dyn DiskFile>,
    bytes: u64,
}

impl PulledCapture {
    /// Who captured it.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.node
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.kept.path
    }

    /// What its node knew of the call, by its own clock.
    #[must_use]
    pub fn drafts(&self) -> &[Draft] {
        &self.drafts
    }

    /// By how much its node's clock is ahead of ours, microseconds.
    #[must_use]
    pub const fn clock_offset_us(&self) -> i64 {
        self.clock_offset_us
    }

    /// Gives every entry to `entry`, in the order in which its node appended them; the same each
    /// time. Entries of a later program are counted and left out.
    ///
    /// # Errors
    /// [`PulledError`] if the file is not any more what it was when it was checked.
    pub fn read(&self, mut entry: impl FnMut(Entry<'_>)) -> Result<ReadStats, PulledError> {
        self.walk(|_, found| {
            entry(found);
            Ok(())
        })
    }

    /// Goes through it once: each fault is found here, before anything is used.
    fn check(&mut self) -> Result<(), PulledError> {
        let node = self.node;
        let mut header = [0; HEADER_BYTES];
        let read = read_full_at(&*self.file, &mut header, 0);
        let read = read.map_err(|error| PulledError::io("cannot read", &self.kept.path, error))?;
        let peer = |fault| PulledError::Peer { node, fault };
        if read < HEADER_BYTES || header[..8] != MAGIC || header[8..10] != VERSION.to_le_bytes() {
            return Err(peer(PeerFault::Header));
        }
        let sender = NodeId(u16::from_le_bytes([header[10], header[11]]));
        if sender != node {
            return Err(peer(PeerFault::Node(sender)));
        }
        let mut drafts: Vec<Draft> = Vec::new();
        let mut segments = BTreeSet::new();
        self.walk(|_, entry| {
            match entry {
                Entry::Fact(Fact::Recording { draft }) => {
                    drafts.retain(|known| known.recordingid != draft.recordingid);
                    drafts.push(draft);
                }
                Entry::Fact(Fact::SegmentOpened { segment, .. }) => {
                    segments.insert(segment);
                }
                Entry::Packets(block) if !segments.contains(&block.segment) => {
                    return Err(PeerFault::Unopened(block.segment));
                }
                Entry::Fact(_) | Entry::Packets(_) => {}
            }
            if drafts.len() > DRAFTS_MAX || segments.len() > SEGMENTS_MAX {
                return Err(PeerFault::TooMany);
            }
            Ok(())
        })?;
        self.drafts = drafts;
        Ok(())
    }

    fn walk(
        &self,
        mut each: impl FnMut(u64, Entry<'_>) -> Result<(), PeerFault>,
    ) -> Result<ReadStats, PulledError> {
        let peer = |fault| PulledError::Peer { node: self.node, fault };
        let mut stats = ReadStats::default();
        let mut window = vec![0; WINDOW_BYTES];
        let mut at = HEADER_BYTES as u64;
        while at < self.bytes {
            let left = usize::try_from(self.bytes - at).unwrap_or(usize::MAX);
            let wanted = left.min(WINDOW_BYTES);
            let read = read_full_at(&*self.file, &mut window[..wanted], at);
            let read = read.map_err(|e| PulledError::io("cannot read", &self.kept.path, e))?;
            let last = wanted == left;
            let mut rest = &window[..read];
            let before = at;
            while !rest.is_empty() {
                match step(rest, true, last || read < wanted) {
                    Step::More { .. } => break,
                    Step::Damage { .. } => return Err(peer(PeerFault::Frame(at))),
                    Step::Frame { len, frame } => {
                        match frame.entry() {
                            Ok(entry) => {
                                count(&mut stats, &entry);
                                each(at, entry).map_err(peer)?;
                            }
                            Err(EntryError::Unknown { .. }) => stats.unknown += 1,
                            Err(_) => return Err(peer(PeerFault::Entry(at))),
                        }
                        at += len as u64;
                        rest = &rest[len..];
                    }
                }
            }
            // A window holds the longest frame, so each one gets on.
            if at == before {
                return Err(peer(PeerFault::Frame(at)));
            }
        }
        Ok(stats)
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

#[cfg(test)]
mod tests;
