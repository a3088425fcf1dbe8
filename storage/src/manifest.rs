//! The manifest of a node: a line for each recording that is published or deleted here, and checkpoints that the node signs.
//! Lines that come at the same time are written with one sync. Where the signing key cannot be used, lines are written all
//! the same, and signed once it can. When a checkpoint is due, and what is in a line, is
//! [`storage_core::manifest`]'s matter.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use storage_core::chain::Head;
use storage_core::countersign::{self, Countersignature, Vouched};
use storage_core::manifest::{Checkpoint, Deed, Deleted, Entry, Published, Signed, is_due};
use storage_core::tombstone::Tombstone;
use storage_core::{NodeId, Recording, WallTime, hex};

use crate::audit_log::AuditLog;
use crate::chain_log::ChainLog;
use crate::disk::{Disk, RealDisk};
use crate::signing::{PublicKey, SigningKey};
use crate::voice_file::VoiceError;

/// Own checkpoints of this process that are known without looking into files.
const RECENT: usize = 64;

/// The manifest of a data folder; one writer.
#[derive(Debug)]
pub struct Manifest {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    node: NodeId,
    /// None while it cannot be used.
    key: Mutex<Option<Arc<SigningKey>>>,
    /// Oldest first.
    recent: Mutex<VecDeque<Vouched>>,
    waiting: Mutex<Vec<Waiting>>,
    log: Mutex<Log>,
    audit: AuditLog,
}

/// A line that somebody waits for.
#[derive(Clone, Debug)]
struct Waiting {
    entry: Entry,
    lasts: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Log {
    lines: ChainLog<Entry>,
    /// Manifest and audit log when the last checkpoint was made; that itself is in neither.
    covered: Option<Covered>,
}

#[derive(Clone, Copy, Debug)]
struct Covered {
    when: Instant,
    /// The number of the checkpoint's line.
    line: u64,
    audit: Head,
}

impl Manifest {
    /// The manifest below a data folder; the node's key is made if there never was one. A key that cannot be used is no
    /// error here: see [`Manifest::key`].
    ///
    /// # Errors
    /// [`VoiceError`]; so in all methods here.
    pub fn open(dir: &Path, node: NodeId) -> Result<Self, VoiceError> {
        Self::open_on(&RealDisk::shared(), dir, node)
    }

    /// The same on any disk.
    ///
    /// # Errors
    /// [`VoiceError`].
    pub fn open_on(disk: &Arc<dyn Disk>, dir: &Path, node: NodeId) -> Result<Self, VoiceError> {
        let lines = ChainLog::on(Arc::clone(disk), dir);
        let audit = AuditLog::on(Arc::clone(disk), dir);
        let log = Mutex::new(Log { lines, covered: None });
        let (disk, dir) = (Arc::clone(disk), dir.to_owned());
        let (key, recent, waiting) = (Mutex::default(), Mutex::default(), Mutex::default());
        let manifest = Self { disk, dir, node, key, recent, waiting, log, audit };
        // What is wrong with it is said when something is to be signed.
        drop(manifest.key());
        Ok(manifest)
    }

    /// The signing key. One that could not be used is tried again each time, so that one that was mended needs no
    /// restart.
    ///
    /// # Errors
    /// [`VoiceError`] if it cannot be read or made.
    pub fn key(&self) -> Result<Arc<SigningKey>, VoiceError> {
        let mut key = lock(&self.key);
        if let Some(key) = &*key {
            return Ok(Arc::clone(key));
        }
        let opened = SigningKey::open(&*self.disk, &self.dir);
        let place = self.dir.join(storage_core::naming::MANIFEST_FOLDER);
        let opened = opened
            .map_err(|error| VoiceError::io("cannot use the signing key in", &place, error))?;
        Ok(Arc::clone(key.insert(Arc::new(opened))))
    }

    /// The node's public key; none while the key cannot be used.
    #[must_use]
    pub fn public_key(&self) -> Option<PublicKey> {
        lock(&self.key).as_ref().map(|key| key.public())
    }

    /// Whose manifest it is.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.node
    }

    /// The last checkpoint that this process has made.
    #[must_use]
    pub fn last_checkpoint(&self) -> Option<Vouched> {
        lock(&self.recent).back().copied()
    }

    /// Which of these, as others have countersigned them, the manifest does not contain.
    ///
    /// # Errors
    /// [`VoiceError`] if it cannot be read.
    pub fn lacks(&self, heads: impl Iterator<Item = Head>) -> Result<BTreeSet<u64>, VoiceError> {
        let unknown: Vec<_> = {
            let recent = lock(&self.recent);
            let known = |head: &Head| recent.iter().any(|made| made.signed.manifest == *head);
            heads.filter(|head| head.count > 0 && !known(head)).collect()
        };
        let lines = ChainLog::<Entry>::on(Arc::clone(&self.disk), &self.dir);
        let hashes = lines.hashes_of(&unknown.iter().map(|head| head.count).collect())?;
        let lacking = unknown.iter().filter(|head| hashes.get(&head.count) != Some(&head.hash));
        Ok(lacking.map(|head| head.count).collect())
    }

    /// Signs another node's checkpoint.
    ///
    /// # Errors
    /// [`VoiceError`] while the key cannot be used.
    pub fn countersign(&self, of: Vouched) -> Result<Countersignature, VoiceError> {
        let key = self.key()?;
        let signature = key.sign(&countersign::text(&of, self.node));
        Ok(Countersignature { of, by: self.node, key: key.public().0, signature })
    }

    /// Writes down that a recording was published; when this returns it lasts. Who comes while another writes
    /// waits, and is written with all who wait by the first of them.
    ///
    /// # Errors
    /// [`VoiceError`]; it may be tried again. A line may then be there twice, which is no harm.
    pub fn published(&self, record: &Recording) -> Result<(), VoiceError> {
        let stated = Published::of(record)
            .map_err(|error| VoiceError::io("cannot state", Path::new("record"), error.into()))?;
        self.append(Deed::Published(stated))
    }

    /// Writes down that a recording was deleted, in the same way.
    ///
    /// # Errors
    /// [`VoiceError`]; as for `published`.
    pub fn deleted(&self, tombstone: &Tombstone) -> Result<(), VoiceError> {
        self.append(Deed::Deleted(Deleted::of(tombstone)))
    }

    fn append(&self, deed: Deed) -> Result<(), VoiceError> {
        let mine = Waiting { entry: self.entry(deed), lasts: Arc::default() };
        lock(&self.waiting).push(mine.clone());
        let mut log = lock(&self.log);
        if mine.lasts.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut batch = std::mem::take(&mut *lock(&self.waiting));
        // Another one has taken it and failed.
        if !batch.iter().any(|waiting| Arc::ptr_eq(&waiting.lasts, &mine.lasts)) {
            batch.push(mine);
        }
        let entries: Vec<_> = batch.iter().map(|waiting| waiting.entry.clone()).collect();
        log.lines.append_all(&entries)?;
        for waiting in batch {
            waiting.lasts.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Makes a checkpoint if one is due; tells whether it was.
    ///
    /// # Errors
    /// [`VoiceError`]; it stays due.
    pub fn look(&self) -> Result<bool, VoiceError> {
        self.checkpoint_if(is_due)
    }

    /// Makes a checkpoint if there is anything that the one before does not cover; to be called at the end.
    ///
    /// # Errors
    /// [`VoiceError`].
    pub fn checkpoint(&self) -> Result<bool, VoiceError> {
        self.checkpoint_if(|lines, _, audited| lines > 0 || audited)
    }

    fn checkpoint_if(&self, due: impl Fn(u64, u64, bool) -> bool) -> Result<bool, VoiceError> {
        let audit = self.audit.kept().map_err(|source| self.audit.failed("read", source))?;
        let audit = audit.unwrap_or_default();
        let mut log = lock(&self.log);
        let manifest = log.lines.head(wall_time())?;
        let is_due = log.covered.is_none_or(|covered| {
            let lines = manifest.count.saturating_sub(covered.line);
            due(lines, covered.when.elapsed().as_secs(), covered.audit != audit)
        });
        if !is_due {
            return Ok(false);
        }
        let key = self.key()?;
        let at = wall_time();
        let signed = Signed { node: self.node, at, manifest, audit };
        let made = Vouched { signed, key: key.public().0, signature: key.sign(&signed.text()) };
        let deed = Deed::Checkpoint(Checkpoint {
            auditlines: audit.count,
            audit: hex::encode(&audit.hash),
            key: hex::encode(&made.key),
            signature: hex::encode(&made.signature),
        });
        log.lines.append(&Entry { at, node: self.node, deed })?;
        let mut recent = lock(&self.recent);
        recent.push_back(made);
        while recent.len() > RECENT {
            recent.pop_front();
        }
        drop(recent);
        log.covered = Some(Covered { when: Instant::now(), line: manifest.count + 1, audit });
        Ok(true)
    }

    fn entry(&self, deed: Deed) -> Entry {
        Entry { at: wall_time(), node: self.node, deed }
    }
}

fn wall_time() -> WallTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // As it is written, so that a line that is read again says the same.
    WallTime::default() + Duration::from_millis(u64::try_from(since.as_millis()).unwrap_or(0))
}

/// What a panic has left is a log that is opened again or a list of lines: both are whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
