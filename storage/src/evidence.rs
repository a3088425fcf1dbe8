//! What a third party gets of one recording (`astlogger evidence`): voice file, record, the manifest's lines from
//! the checkpoint before its publishing to the first one after that other nodes have countersigned, both checkpoints with their
//! signatures, the countersignatures, all public keys, and a page that says how all of it is checked with `openssl` and
//! `sha256sum` alone. It changes nothing
//! in the data folder. What the page's commands prove is in `docs/evidence.md`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use storage_core::chain::{self, Head};
use storage_core::countersign::Countersignature;
use storage_core::manifest::{Checkpoint, Deed, Deleted, Entry, Published, Signed, lasting};
use storage_core::{Recording, RecordingId, WallTime, hex};

use crate::chain_log::{ChainFault, ChainLog, ChainLogError};
use crate::countersigned::Lookup;
use crate::disk::{DiskFile, RealDisk};
use crate::evidence_page::page;
use crate::keys::Keys;
use crate::manifest_check::public_key;
use crate::signing::PublicKey;
use crate::tar::Tar;
use crate::voice_file::VoiceError;
use crate::voice_store::VoiceStore;

const PIECE_BYTES: usize = 64 << 10;
/// Lines that are added to a bundle at most, to reach a checkpoint that others have signed.
const LINES_MORE_MAX: usize = 5000;

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// The manifest does not know it.
    #[error(
        "the manifest of {} has no line for recording {id}: it was published on another member, or before there \
         was a manifest; ask on the member that the record names (`node`)", dir.display()
    )]
    NotStated {
        /// The recording.
        id: RecordingId,
        /// The data folder.
        dir: PathBuf,
    },
    /// It was deleted.
    #[error("recording {id} was deleted at {at} by {by:?}: {reason}")]
    Deleted {
        /// The recording.
        id: RecordingId,
        /// When.
        at: WallTime,
        /// Who asked.
        by: String,
        /// Why.
        reason: String,
    },
    /// No checkpoint covers it yet.
    #[error(
        "recording {0} is not covered by a checkpoint yet: a running node makes one each minute, and one when it \
         stops; try again then"
    )]
    NotCovered(RecordingId),
    /// The manifest was changed.
    #[error("{} {what}: `astlogger verify` says more", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// What lies here is not what the manifest states.
    #[error(
        "recording {0} is not the one that the manifest states: bring it back from another member or a backup; \
         `astlogger verify` says more"
    )]
    Altered(RecordingId),
    /// The manifest cannot be read.
    #[error(transparent)]
    Log(#[from] ChainLogError),
    /// Voice file, record or public key.
    #[error(transparent)]
    Voice(#[from] VoiceError),
    /// The bundle cannot be written, or the voice file not be read.
    #[error("cannot write the bundle: {0}")]
    Io(#[from] io::Error),
}

/// A checkpoint as it is handed out.
#[derive(Clone, Debug)]
struct Handed {
    signed: Signed,
    signature: Vec<u8>,
}

/// The lines from one checkpoint to the next.
#[derive(Debug, Default)]
struct Stretch {
    before: Option<Handed>,
    lines: Vec<String>,
    /// What they state of the recording.
    stated: Option<Published>,
}

/// Lines that a bundle can be made of.
#[derive(Debug)]
struct Extract {
    before: Option<Handed>,
    lines: Vec<String>,
    stated: Published,
    after: Handed,
    /// Of the checkpoint after.
    countersigned: Vec<Countersignature>,
}

/// Looks for the last stretch that states something of a recording.
#[derive(Debug)]
struct Search {
    lookup: Lookup,
    key: PublicKey,
    current: Stretch,
    deleted: Option<Deleted>,
    found: Option<Extract>,
    /// Lines behind what was found, while nobody has countersigned that.
    more: Vec<String>,
    /// They are more than are added.
    too_far: bool,
    /// Countersignatures cannot be read.
    failed: Option<io::Error>,
}

/// What is handed out of one recording.
#[derive(Debug)]
pub struct Bundle {
    record: Recording,
    voice: Arc<dyn DiskFile>,
    extract: Extract,
    key: PublicKey,
}

impl Bundle {
    /// Looks everything up that a recording's bundle needs, and compares it with what the manifest states.
    ///
    /// # Errors
    /// [`EvidenceError`].
    pub fn of(dir: &Path, id: RecordingId, keys: Keys) -> Result<Self, EvidenceError> {
        let key = public_key(dir)?;
        let mut search = Search::of(dir, key);
        let log = ChainLog::<Entry>::new(dir);
        let (_, broken) = log.each(|line, before| {
            search.take(line, before, id);
            None
        })?;
        if let Some(ChainFault { path, what }) = broken.into_iter().next() {
            return Err(EvidenceError::Broken { path, what });
        }
        if let Some(error) = search.failed {
            return Err(VoiceError::io("cannot read countersignatures in", dir, error).into());
        }
        if let Some(Deleted { askedat: at, by, reason, .. }) = search.deleted {
            return Err(EvidenceError::Deleted { id, at, by, reason });
        }
        let extract = match search {
            Search { current: Stretch { stated: Some(_), .. }, .. } => {
                return Err(EvidenceError::NotCovered(id));
            }
            Search { found: Some(extract), .. } => extract,
            Search { found: None, .. } => {
                return Err(EvidenceError::NotStated { id, dir: dir.to_owned() });
            }
        };
        let store = VoiceStore::at(RealDisk::shared(), dir).with_keys(keys);
        let record = store.record(id, extract.stated.started)?;
        if Published::of(&record).map_err(io::Error::from)? != extract.stated {
            return Err(EvidenceError::Altered(id));
        }
        store.verify(&record)?;
        let voice = store.voice(&record)?;
        Ok(Self { record, voice, extract, key })
    }

    /// Writes it as a tar file (POSIX ustar).
    ///
    /// # Errors
    /// [`EvidenceError::Io`].
    pub fn write(&self, out: impl Write) -> Result<(), EvidenceError> {
        let Self { record, extract, .. } = self;
        let at = extract.after.signed.at.as_millis() / 1000;
        let mut tar = Tar::new(out, record.recordingid.to_string(), at.unsigned_abs());
        let voice = format!("voice.{}", record.format.extension());
        let signed = &extract.countersigned;
        let page = page(record, self.key, extract.before.is_some(), signed);
        tar.file("INSTRUCTIONS.txt", page.as_bytes())?;
        tar.file("record.json", &lasting(record).map_err(io::Error::from)?)?;
        let mut whole = serde_json::to_vec_pretty(record).map_err(io::Error::from)?;
        whole.push(b'\n');
        tar.file("record-with-notes.json", &whole)?;
        let mut lines = extract.lines.join("\n");
        lines.push('\n');
        tar.file("manifest.jsonl", lines.as_bytes())?;
        tar.file("node.der", &self.key.der())?;
        for (name, handed) in
            [("before", extract.before.as_ref()), ("checkpoint", Some(&extract.after))]
        {
            if let Some(Handed { signed, signature }) = handed {
                tar.file(&format!("{name}.txt"), signed.text().as_bytes())?;
                tar.file(&format!("{name}.sig"), signature)?;
            }
        }
        for signed in &extract.countersigned {
            let by = signed.by;
            tar.file(&format!("countersigned-{by}.txt"), signed.text().as_bytes())?;
            tar.file(&format!("countersigned-{by}.sig"), &signed.signature)?;
            tar.file(&format!("node-{by}.der"), &PublicKey(signed.key).der())?;
        }
        self.write_voice(&mut tar, &voice)?;
        Ok(tar.finish()?)
    }

    fn write_voice(&self, tar: &mut Tar<impl Write>, name: &str) -> io::Result<()> {
        tar.begin(name, self.record.bytes)?;
        let (mut piece, mut at) = (vec![0; PIECE_BYTES], 0);
        loop {
            let read = self.voice.read_at(&mut piece, at)?;
            if read == 0 {
                return tar.end();
            }
            tar.write(&piece[..read])?;
            at += read as u64;
        }
    }
}

impl Search {
    fn of(dir: &Path, key: PublicKey) -> Self {
        Self {
            lookup: Lookup::new(dir),
            key,
            current: Stretch::default(),
            deleted: None,
            found: None,
            more: Vec::new(),
            too_far: false,
            failed: None,
        }
    }

    fn take(&mut self, line: &str, before: Head, id: RecordingId) {
        let Some(chain::Numbered { entry, .. }) = chain::entry::<Entry>(line) else { return };
        match &entry.deed {
            Deed::Published(published) => {
                if published.recordingid == id {
                    self.current.stated = Some(published.clone());
                }
                self.current.lines.push(line.to_owned());
            }
            Deed::Deleted(deleted) => {
                if deleted.recordingid == id {
                    self.deleted = Some(deleted.clone());
                }
                self.current.lines.push(line.to_owned());
            }
            Deed::Checkpoint(checkpoint) => {
                let after = handed(&entry, checkpoint, before);
                let next =
                    Stretch { before: after.clone(), lines: vec![line.to_owned()], stated: None };
                let stretch = std::mem::replace(&mut self.current, next);
                self.checkpoint(stretch, after);
            }
        }
    }

    /// A stretch has come to its end.
    fn checkpoint(&mut self, stretch: Stretch, after: Option<Handed>) {
        let Stretch { before, lines, stated } = stretch;
        let Some(after) = after else { return };
        if let Some(stated) = stated {
            let countersigned = self.countersigned(&after.signed);
            self.found = Some(Extract { before, lines, stated, after, countersigned });
            self.more.clear();
            self.too_far = false;
            return;
        }
        let waits = self.found.as_ref().is_some_and(|found| found.countersigned.is_empty());
        self.too_far |= self.more.len() + lines.len() > LINES_MORE_MAX;
        if !waits || self.too_far {
            return;
        }
        self.more.extend(lines);
        let countersigned = self.countersigned(&after.signed);
        if let Some(found) = self.found.as_mut().filter(|_| !countersigned.is_empty()) {
            found.lines.append(&mut self.more);
            (found.after, found.countersigned) = (after, countersigned);
        }
    }

    fn countersigned(&mut self, signed: &Signed) -> Vec<Countersignature> {
        match self.lookup.of(signed, self.key) {
            Ok(signed) => signed,
            Err(error) => {
                self.failed.get_or_insert(error);
                Vec::new()
            }
        }
    }
}

fn handed(entry: &Entry, checkpoint: &Checkpoint, before: Head) -> Option<Handed> {
    let signed = Signed::by(entry, checkpoint, before)?;
    let signature = hex::decode::<64>(&checkpoint.signature)?.to_vec();
    Some(Handed { signed, signature })
}
