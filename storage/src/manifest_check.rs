//! Checks a manifest (`astlogger verify`): whether its lines are the ones that were written and its checkpoints are
//! signed by the node; and whether the recordings that lie in the data folder are the ones that it states.
//! It changes nothing, so a node may be running there. In memory is some 200 bytes for each recording.
//!
//! Whoever has the node's signing key and may write in the data folder can make all of it anew. That is
//! noticed by what other nodes have countersigned, as far as that is left in the folder; by what they keep of it themselves
//! ([`Expected::against`]), and by a checkpoint that was kept elsewhere ([`Expected::checkpoint`]).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use storage_core::chain::{self, Head};
use storage_core::manifest::{Checkpoint, Deed, Deleted, Entry, Published, Signed};
use storage_core::naming::{self, MANIFEST_FOLDER, Named};
use storage_core::{NodeId, RecordingId, WallTime, hex};

use crate::audit_log::AuditLog;
use crate::chain_log::{ChainFault, ChainLog, ChainLogError};
use crate::countersigned::{Witnessed, witnessed};
use crate::disk::{RealDisk, read_whole};
use crate::manifest_promises::{Promises, Source};
use crate::signing::{PUBLIC_FILE, PublicKey};
use crate::verify::{Fault, FaultKind};
use crate::voice_file::VoiceError;
use crate::voice_store::VoiceStore;

/// A recording that is being published has its line within less.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(2);

/// What whoever checks knows from elsewhere.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// The node's public key; otherwise the one beside the manifest is believed.
    pub key: Option<PublicKey>,
    /// The text of a checkpoint that was handed out earlier: the manifest must contain it.
    pub checkpoint: Option<Signed>,
    /// What other nodes keep of this one, with the folders that they keep it in.
    pub against: Vec<(PathBuf, BTreeMap<NodeId, Witnessed>)>,
}

/// What was gone through.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// Lines of the manifest.
    pub lines: u64,
    /// Checkpoints that are signed as they should be.
    pub checkpoints: u64,
    /// Lines that no such checkpoint covers yet.
    pub uncovered: u64,
    /// Recordings that were deleted on purpose.
    pub deleted: u64,
    /// Recordings that are older than the manifest: it says nothing of them.
    pub older: u64,
    /// Checkpoints among them that other nodes have signed, too.
    pub countersigned: u64,
    /// Who has, and the last time that each did.
    pub signers: BTreeMap<NodeId, WallTime>,
    /// Lines that no such checkpoint covers.
    pub unwitnessed: u64,
    /// What this node has seen of others, for people.
    pub notes: Vec<String>,
    /// What is wrong.
    pub faults: Vec<Fault>,
}

/// Why it could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The manifest or the audit log.
    #[error(transparent)]
    Log(#[from] ChainLogError),
    /// The voice folder, or the public key.
    #[error(transparent)]
    Voice(#[from] VoiceError),
}

/// What the manifest says.
#[derive(Debug, Default)]
struct Stated {
    recordings: BTreeMap<RecordingId, Published>,
    /// What was deleted since.
    deleted: BTreeMap<RecordingId, Deleted>,
    /// The first line: what was published before has none.
    since: Option<WallTime>,
    checkpoints: u64,
    covered: u64,
    /// Where the audit log was when a checkpoint was made, by its number of lines.
    audits: BTreeMap<u64, [u8; 32]>,
    /// Whether the checkpoint that was kept is in it.
    kept: bool,
    /// Whose it is.
    node: Option<NodeId>,
    /// What others say that it contains.
    promises: Promises,
    countersigned: u64,
    /// The last line that a countersigned checkpoint covers.
    witnessed: u64,
}

/// Checks the manifest of a data folder against what lies there.
///
/// # Errors
/// [`CheckError`].
pub fn check(dir: &Path, expected: &Expected) -> Result<Checked, CheckError> {
    let folder = dir.join(MANIFEST_FOLDER);
    let key = match expected.key {
        Some(key) => key,
        None => public_key(dir)?,
    };
    let log = ChainLog::<Entry>::new(dir);
    let unreadable = |error| VoiceError::io("cannot read countersignatures in", dir, error);
    // First what others have signed: it is of lines that are there by now.
    let mut promises = Promises::in_folder(dir, key).map_err(unreadable)?;
    for (_, seen) in &expected.against {
        promises.seen_by(seen, key);
    }
    let mut stated = Stated { promises, ..Stated::default() };
    let (lines, broken) = log.each(|line, before| stated.take(line, before, key, expected))?;
    let faults = broken.into_iter().map(altered).collect();
    let promises = std::mem::take(&mut stated.promises);
    let mut checked = Checked {
        lines,
        checkpoints: stated.checkpoints,
        uncovered: lines.saturating_sub(stated.covered),
        deleted: stated.deleted.len() as u64,
        older: 0,
        countersigned: stated.countersigned,
        unwitnessed: lines.saturating_sub(stated.witnessed),
        signers: promises.signers().clone(),
        notes: notes(dir),
        faults,
    };
    checked.faults.extend(promises.faults(&folder, stated.node, &expected.against));
    if let Some(kept) = expected.checkpoint.filter(|_| !stated.kept) {
        let what = format!(
            "does not contain the checkpoint of {} over {} lines: it was rolled back or written anew since; what was \
             published until then is to be looked for on other members and in backups",
            kept.at, kept.manifest.count
        );
        checked.faults.push(Fault { kind: FaultKind::Altered, path: folder, what });
    }
    check_audit(dir, &stated, &mut checked)?;
    check_recordings(dir, &log, stated, &mut checked)?;
    Ok(checked)
}

/// Whether the lines of manifest and audit log are the ones that were written, and the checkpoints signed by
/// the node: what is wrong. Recordings are not looked at. `rest` is called for each line of the manifest.
///
/// # Errors
/// [`CheckError`].
pub fn check_lines(dir: &Path, rest: &mut dyn FnMut()) -> Result<Vec<Fault>, CheckError> {
    let key = public_key(dir)?;
    let log = ChainLog::<Entry>::new(dir);
    let (_, manifest) = log.each(|line, before| {
        rest();
        let chain::Numbered { entry, .. } = chain::entry::<Entry>(line)?;
        match &entry.deed {
            // What was signed with a key that was lost since is for `check`, with the key that somebody kept.
            Deed::Checkpoint(checkpoint) if checkpoint.key == key.to_string() => {
                signed(&entry, checkpoint, before, key).err()
            }
            _ => None,
        }
    })?;
    let (_, audit) = AuditLog::new(dir).verify()?;
    Ok(manifest.into_iter().chain(audit).map(altered).collect())
}

/// What this folder keeps of other nodes that is not in order.
fn notes(dir: &Path) -> Vec<String> {
    // A folder in which there is nothing of others has nothing to say.
    let seen = witnessed(&*RealDisk::shared(), dir).unwrap_or_default();
    let broken = seen.iter().filter_map(|(node, witnessed)| {
        let (breach, broken) = witnessed.seen.breach?;
        let (last, at) = (witnessed.seen.last.signed.at, broken.signed.at);
        Some(format!(
            "of node {node} this node has seen that {breach}: checkpoint of {at}, after the one of {last}; check its data folder \
             with --against this one"
        ))
    });
    broken.collect()
}

/// The public key beside a manifest.
///
/// # Errors
/// [`VoiceError`] if there is none.
pub fn public_key(dir: &Path) -> Result<PublicKey, VoiceError> {
    let path = dir.join(MANIFEST_FOLDER).join(PUBLIC_FILE);
    let failed = |error| VoiceError::io("cannot read the node's public key", &path, error);
    let der = read_whole(&*RealDisk::shared(), &path, 4096).map_err(failed)?;
    PublicKey::from_der(&der).ok_or_else(|| {
        let what =
            "it is no public key (Ed25519, DER): give the one that you have with --public-key";
        failed(std::io::Error::new(std::io::ErrorKind::InvalidData, what))
    })
}

fn altered(ChainFault { path, what }: ChainFault) -> Fault {
    Fault { kind: FaultKind::Altered, path, what }
}

impl Stated {
    /// A line that is bound to the one before. What is wrong with it.
    fn take(
        &mut self,
        line: &str,
        before: Head,
        key: PublicKey,
        expected: &Expected,
    ) -> Option<String> {
        let chain::Numbered { seq, entry } = chain::entry::<Entry>(line)?;
        self.since.get_or_insert(entry.at);
        self.node.get_or_insert(entry.node);
        match &entry.deed {
            Deed::Published(published) => {
                let known = self.recordings.get(&published.recordingid);
                if known.is_none_or(|known| known.revision <= published.revision) {
                    self.recordings.insert(published.recordingid, published.clone());
                }
                None
            }
            Deed::Deleted(deleted) => {
                self.deleted.insert(deleted.recordingid, deleted.clone());
                None
            }
            Deed::Checkpoint(checkpoint) => match signed(&entry, checkpoint, before, key) {
                Ok(signed) => {
                    self.checkpoints += 1;
                    self.covered = seq;
                    self.audits.insert(signed.audit.count, signed.audit.hash);
                    self.kept |= expected.checkpoint == Some(signed);
                    if self.promises.kept(&signed) == Some(Source::Folder) {
                        self.countersigned += 1;
                        self.witnessed = seq;
                    }
                    None
                }
                Err(what) => Some(what),
            },
        }
    }
}

fn signed(
    entry: &Entry,
    checkpoint: &Checkpoint,
    before: Head,
    key: PublicKey,
) -> Result<Signed, String> {
    if checkpoint.key != key.to_string() {
        return Err(format!(
            "is signed with the key {}, and {key} is the node's: the node has lost its key, or somebody else \
             made this checkpoint",
            checkpoint.key
        ));
    }
    let signed = Signed::by(entry, checkpoint, before);
    let signature = hex::decode::<64>(&checkpoint.signature);
    signed
        .zip(signature)
        .filter(|(signed, signature)| key.has_signed(&signed.text(), signature))
        .map(|(signed, _)| signed)
        .ok_or_else(|| {
            "is a checkpoint whose signature is wrong: it, or what is before it, was made anew without the node's \
             key"
                .to_owned()
        })
}

/// The audit log must contain every state of it that was signed.
fn check_audit(dir: &Path, stated: &Stated, checked: &mut Checked) -> Result<(), CheckError> {
    let log = AuditLog::new(dir);
    let mut left = stated.audits.clone();
    left.remove(&0);
    let mut wrong = Vec::new();
    let mut pass = |head: Head| {
        if left.remove(&head.count).is_some_and(|hash| hash != head.hash) {
            wrong.push(format!(
                "was written anew: line {} is not the one that was signed",
                head.count
            ));
        }
    };
    log.each(|line, before| {
        pass(before);
        Head::stated::<storage_core::audit::Entry>(line).map(&mut pass);
        None
    })?;
    if let Some((count, _)) = left.last_key_value() {
        wrong.push(format!("lacks line {count}, which a checkpoint signs: lines were removed"));
    }
    let path = dir.join(naming::AUDIT_FOLDER);
    let faults = wrong.into_iter();
    checked.faults.extend(faults.map(|what| altered(ChainFault { path: path.clone(), what })));
    Ok(())
}

fn check_recordings(
    dir: &Path,
    log: &ChainLog<Entry>,
    mut stated: Stated,
    checked: &mut Checked,
) -> Result<(), CheckError> {
    let store = VoiceStore::at(RealDisk::shared(), dir);
    let (mut faults, older) = compare(&store, &stated)?;
    if !faults.is_empty() {
        // What was published while this was going on has its line by now.
        sleep(PUBLISHED_WITHIN);
        let key = PublicKey([0; 32]);
        log.each(|line, before| {
            stated.take(line, before, key, &Expected::default());
            None
        })?;
        faults.retain(|id, _| is_wrong(&store, &stated, *id).is_some());
    }
    checked.older = older;
    checked.faults.extend(faults.into_values());
    Ok(())
}

type Faults = BTreeMap<RecordingId, Fault>;

/// What is wrong by recording, and how many recordings there are of which the manifest says nothing because
/// they are older.
fn compare(store: &VoiceStore, stated: &Stated) -> Result<(Faults, u64), VoiceError> {
    let mut faults = Faults::new();
    for id in stated.recordings.keys().filter(|id| !stated.deleted.contains_key(id)) {
        if let Some(fault) = is_wrong(store, stated, *id) {
            faults.insert(*id, fault);
        }
    }
    let mut older = 0;
    let since = stated.since.unwrap_or_default();
    for (path, id) in records(store)? {
        if let Some(fault) =
            stated.deleted.get(&id).map(|deleted| lies_again(path.clone(), deleted))
        {
            faults.insert(id, fault);
            continue;
        }
        if stated.recordings.contains_key(&id) {
            continue;
        }
        if id.made() < since {
            older += 1;
            continue;
        }
        let what = format!(
            "has no line in the manifest: recording {id} was put here by somebody else, or its lines were removed"
        );
        faults.insert(id, Fault { kind: FaultKind::Added, path, what });
    }
    Ok((faults, older))
}

fn lies_again(path: PathBuf, deleted: &Deleted) -> Fault {
    let Deleted { recordingid, askedat, by, .. } = deleted;
    let what = format!(
        "lies here again: recording {recordingid} was deleted by {by:?} at {askedat}; remove it"
    );
    Fault { kind: FaultKind::Added, path, what }
}

fn records(store: &VoiceStore) -> Result<Vec<(PathBuf, RecordingId)>, VoiceError> {
    let mut found = Vec::new();
    for folder in store.day_folders()? {
        let listed = store.disk().list(&folder);
        for file in listed.map_err(|error| VoiceError::io("cannot list", &folder, error))? {
            if let Some(Named::Record(id)) = Named::parse(&file.name) {
                found.push((folder.join(&file.name), id));
            }
        }
    }
    Ok(found)
}

fn is_wrong(store: &VoiceStore, stated: &Stated, id: RecordingId) -> Option<Fault> {
    if let Some(deleted) = stated.deleted.get(&id) {
        // Somebody has put it back, or it was being deleted and is gone by now.
        let path = store.path(naming::record_file(deleted.started, id));
        return store.disk().open(&path).is_ok().then(|| lies_again(path, deleted));
    }
    let Some(published) = stated.recordings.get(&id) else {
        // It was added, and still has no line.
        return Some(Fault { kind: FaultKind::Added, path: PathBuf::new(), what: String::new() });
    };
    let path = store.path(naming::record_file(published.started, id));
    let fault = |kind, what| Some(Fault { kind, path: path.clone(), what });
    let revision = published.revision;
    let record = match store.record(id, published.started) {
        Ok(record) => record,
        Err(VoiceError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return fault(
                FaultKind::Missing,
                format!(
                    "is missing: recording {id}, revision {revision}, was published here and removed since; bring it \
                     back from another member or a backup"
                ),
            );
        }
        Err(error) => return fault(FaultKind::Unreadable, format!("cannot be read: {error}")),
    };
    let lies = Published::of(&record).ok()?;
    let what = if lies.voice != published.voice {
        "names another voice file"
    } else if lies.record != published.record {
        "is another record"
    } else {
        return None;
    };
    fault(
        FaultKind::Altered,
        format!(
            "{what} than was published of recording {id} (revision {revision}, SHA-256 of the voice file {}): bring both \
             back from another member or a backup",
            published.voice
        ),
    )
}
