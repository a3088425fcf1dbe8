//! The manifest of a node: a line for each recording that is published or deleted here, and checkpoints that the node signs.
//! Lines that come at the same time are written with one sync. When a checkpoint is due, and what is in a
//! line, is [`storage_core::manifest`]'s matter.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use storage_core::chain::Head;
use storage_core::manifest::{Checkpoint, Deed, Deleted, Entry, Published, Signed, is_due};
use storage_core::tombstone::Tombstone;
use storage_core::{NodeId, Recording, WallTime, hex};

use crate::audit_log::AuditLog;
use crate::chain_log::ChainLog;
use crate::disk::{Disk, RealDisk};
use crate::signing::{PublicKey, SigningKey};
use crate::voice_file::VoiceError;

/// The manifest of a data folder; one writer.
#[derive(Debug)]
pub struct Manifest {
    node: NodeId,
    key: SigningKey,
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
    /// The manifest below a data folder; the node's key is made if there is none.
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
        let place: PathBuf = dir.join(storage_core::naming::MANIFEST_FOLDER);
        let key = SigningKey::open(&**disk, dir);
        let key =
            key.map_err(|error| VoiceError::io("cannot open the manifest in", &place, error))?;
        let lines = ChainLog::on(Arc::clone(disk), dir);
        let audit = AuditLog::on(Arc::clone(disk), dir);
        let log = Mutex::new(Log { lines, covered: None });
        Ok(Self { node, key, waiting: Mutex::default(), log, audit })
    }

    /// The node's public key.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.key.public()
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
        let at = wall_time();
        let signed = Signed { node: self.node, at, manifest, audit };
        let deed = Deed::Checkpoint(Checkpoint {
            auditlines: audit.count,
            audit: hex::encode(&audit.hash),
            key: self.public_key().to_string(),
            signature: hex::encode(&self.key.sign(&signed.text())),
        });
        log.lines.append(&Entry { at, node: self.node, deed })?;
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
