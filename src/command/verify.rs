//! `astlogger verify`: checks voice files against their records, and names each that is not as it should
//! be. What is checked is in [`storage::verify`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use clap::Args;
use serde::Serialize;
use storage::Keys;
use storage::audit_log::{AuditFault, AuditLog, AuditLogError};
use storage::countersigned::{folder_of, witnessed};
use storage::disk::RealDisk;
use storage::manifest_check::{Checked, Expected, check};
use storage::signing::PublicKey;
use storage::verify::{Fault, FaultKind, Told, Verified, VerifyError, verify};
use storage_core::hex;
use storage_core::manifest::Signed;
use storage_core::naming::{AUDIT_FOLDER, MANIFEST_FOLDER};

use super::{Exit, Failure, key, print_json};
use crate::config::Config;

/// How often it is told how far it is.
const PROGRESS: Duration = Duration::from_secs(10);
/// Faults in the JSON object; all of them are told on standard error, and counted.
const FAULTS_MAX: usize = 10_000;

/// Options of `verify`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  astlogger verify /var/lib/astlogger\n  \
    astlogger verify --key-file /etc/astlogger/keys /var/lib/astlogger/voice/2026/11\n\n\
    Reads every voice file, and compares length and checksum (SHA-256) with its record. Names what is \
    missing, altered, swapped (it is another recording's), added (no record speaks of it) or left over \
    from publishing. Of a data folder, or of its folder audit alone, also the audit log: names each line that was \
    altered, removed or inserted, and a log that was cut. A node may be running meanwhile. Ends with 1 if anything is named, or an encrypted \
    file could not be checked because its key was not given.\n\n\
    Of a data folder, also the manifest: names each recording that was published here and is missing, that is another one \
    now, or that has no line; and each checkpoint that the node has not signed. The public key is to be known from \
    elsewhere (--public-key): whoever can write in the data folder can also make a new key, and the whole manifest \
    anew. What other nodes have countersigned must be in the manifest. A node that was rolled back to an earlier state as a \
    whole is only noticed by what other nodes keep of it (--against, with the data folder of one of them), or by a \
    checkpoint that was kept elsewhere (--checkpoint; checkpoint.txt of any bundle that `astlogger evidence` wrote).")]
pub(super) struct Options {
    /// Key file (al_encryptionkeyfile), for encrypted voice files
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    key_file: Option<PathBuf>,
    /// Configuration that names the key file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The node's public key (hex), as it was published or noted earlier
    #[arg(long, value_name = "KEY", value_parser = public_key)]
    public_key: Option<PublicKey>,
    /// A checkpoint of the node (checkpoint.txt) that was kept elsewhere
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Data folder of another node of the group, or a copy of its folder manifest/countersigned in such a folder
    #[arg(long, value_name = "DIR")]
    against: Vec<PathBuf>,
    /// Print one JSON object as the last line
    #[arg(long)]
    pub(super) json: bool,
    /// Data folders (al_datadir), voice folders, or folders inside
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

#[derive(Serialize)]
struct Report {
    ok: bool,
    recordings: u64,
    /// Those whose voice file lies in the archive only.
    archived: u64,
    bytes: u64,
    /// Lines of audit logs.
    auditlines: u64,
    /// Lines of manifests, and checkpoints among them that are signed as they should be.
    manifestlines: u64,
    checkpoints: u64,
    /// Checkpoints among those that other nodes have signed, too.
    countersigned: u64,
    /// How many files of each kind of fault.
    #[serde(flatten)]
    counts: BTreeMap<&'static str, u64>,
    faults: Vec<Named>,
}

#[derive(Serialize)]
struct Named {
    kind: &'static str,
    path: PathBuf,
    what: String,
}

pub(super) fn execute(options: &Options) -> Result<Exit, Failure> {
    let keys = match (&options.key_file, &options.config) {
        (Some(file), _) => key::load(file)?,
        (None, Some(file)) => Config::load(file, None)?.storage.keys,
        (None, None) => Keys::default(),
    };
    let expected = expected(options)?;
    let mut faults = Vec::new();
    let mut told = Instant::now();
    let (audits, voices): (Vec<PathBuf>, Vec<PathBuf>) =
        options.paths.iter().cloned().partition(|path| path.ends_with(AUDIT_FOLDER));
    let done = verify(&voices, &keys, &mut |what| match what {
        Told::Fault(fault) => {
            tell(fault, options.json);
            if options.json && faults.len() < FAULTS_MAX {
                let Fault { kind, path, what } = fault.clone();
                faults.push(Named { kind: kind.as_str(), path, what });
            }
        }
        Told::Looked(so_far) => {
            if told.elapsed() >= PROGRESS {
                told = Instant::now();
                eprintln!("{}", in_words(so_far));
            }
        }
    });
    let done = done.map_err(|error| {
        let exit = match &error {
            VerifyError::NoFolder(_) => Exit::Usage,
            VerifyError::Folder(_) => Exit::Fault,
        };
        Failure::new(exit, error)
    })?;
    let (lines, broken) =
        verify_audit(&audits, &voices).map_err(|error| Failure::new(Exit::Fault, error))?;
    let manifest = verify_manifests(&voices, &expected)?;
    let audit_faults = broken.iter().map(|AuditFault { path, what }| {
        let (path, what) = (path.clone(), what.clone());
        Fault { kind: FaultKind::Altered, path, what }
    });
    let mut done = done;
    for fault in audit_faults.chain(manifest.faults.iter().cloned()) {
        tell(&fault, options.json);
        let Fault { kind, path, what } = fault;
        *done.faults.entry(kind).or_default() += 1;
        faults.push(Named { kind: kind.as_str(), path, what });
    }
    if options.json {
        let count = |kind: FaultKind| done.faults.get(&kind).copied().unwrap_or(0);
        print_json(&Report {
            ok: done.is_clean(),
            recordings: done.recordings,
            archived: done.archived,
            bytes: done.bytes,
            auditlines: lines,
            manifestlines: manifest.lines,
            checkpoints: manifest.checkpoints,
            countersigned: manifest.countersigned,
            counts: FaultKind::ALL.into_iter().map(|kind| (kind.as_str(), count(kind))).collect(),
            faults,
        })?;
    } else {
        println!("{}", in_words(&done));
        if lines > 0 || !broken.is_empty() {
            println!("{lines} lines of audit logs, {} of them wrong", broken.len());
        }
        tell_manifest(&manifest);
    }
    Ok(if done.is_clean() { Exit::Done } else { Exit::NotSo })
}

/// Checks audit folders, and those of data folders: how many lines there are, and what is wrong.
fn verify_audit(
    audits: &[PathBuf],
    others: &[PathBuf],
) -> Result<(u64, Vec<AuditFault>), AuditLogError> {
    let own = audits.iter().filter_map(|path| path.parent());
    let inside = others.iter().map(PathBuf::as_path);
    let has_log = |dir: &&Path| dir.join(AUDIT_FOLDER).is_dir();
    let (mut lines, mut faults) = (0, Vec::new());
    for dir in once(own.chain(inside.filter(has_log))) {
        let (count, mut found) = AuditLog::new(dir).verify()?;
        lines += count;
        faults.append(&mut found);
    }
    Ok((lines, faults))
}

/// Each folder by the first of its names.
fn once<'a>(dirs: impl Iterator<Item = &'a Path>) -> impl Iterator<Item = &'a Path> {
    let mut seen = BTreeSet::new();
    // `audit` alone lies in a folder without a name.
    let whole =
        |dir: &Path| fs::canonicalize(Path::new(".").join(dir)).unwrap_or_else(|_| dir.into());
    dirs.filter(move |dir| seen.insert(whole(dir)))
}

fn public_key(text: &str) -> Result<PublicKey, String> {
    let key = hex::decode(text).map(PublicKey);
    key.ok_or_else(|| {
        "a public key is 64 hex digits, as `astlogger evidence --public-key` shows".to_owned()
    })
}

fn expected(options: &Options) -> Result<Expected, Failure> {
    let checkpoint = match &options.checkpoint {
        None => None,
        Some(path) => {
            let text = fs::read_to_string(path);
            let signed = text.ok().and_then(|text| Signed::from_text(&text));
            let why = || anyhow!("{} is no checkpoint.txt of a bundle of evidence", path.display());
            Some(signed.ok_or_else(|| Failure::new(Exit::Usage, why()))?)
        }
    };
    let mut against = Vec::new();
    for dir in &options.against {
        let seen = witnessed(&*RealDisk::shared(), dir).map_err(|error| {
            let folder = folder_of(dir);
            let why =
                format!("cannot read {}: {error}; give a node's data folder", folder.display());
            Failure::new(Exit::Usage, anyhow!(why))
        })?;
        against.push((dir.clone(), seen));
    }
    Ok(Expected { key: options.public_key, checkpoint, against })
}

/// Checks the manifests of data folders.
fn verify_manifests(paths: &[PathBuf], expected: &Expected) -> Result<Checked, Failure> {
    let mut sum = Checked::default();
    let dirs = paths.iter().map(PathBuf::as_path);
    for dir in once(dirs.filter(|path| path.join(MANIFEST_FOLDER).is_dir())) {
        let checked = check(dir, expected).map_err(|error| Failure::new(Exit::Fault, error))?;
        sum.lines += checked.lines;
        sum.checkpoints += checked.checkpoints;
        sum.uncovered += checked.uncovered;
        sum.deleted += checked.deleted;
        sum.older += checked.older;
        sum.countersigned += checked.countersigned;
        sum.unwitnessed += checked.unwitnessed;
        sum.signers.extend(checked.signers);
        sum.notes.extend(checked.notes);
        sum.faults.extend(checked.faults);
    }
    Ok(sum)
}

fn tell_manifest(checked: &Checked) {
    let Checked { lines, checkpoints, uncovered, deleted, older, faults, .. } = checked;
    for note in &checked.notes {
        println!("{note}");
    }
    if *lines == 0 && faults.is_empty() {
        return;
    }
    println!(
        "{lines} lines of manifests with {checkpoints} signed checkpoints ({uncovered} lines after the last), {} faults",
        faults.len()
    );
    if checked.countersigned > 0 {
        let by = checked.signers.iter().map(|(node, at)| format!("node {node} (last {at})"));
        println!(
            "{} of the checkpoints are countersigned ({} lines after the last), by {}",
            checked.countersigned,
            checked.unwitnessed,
            by.collect::<Vec<_>>().join(", ")
        );
    } else {
        println!(
            "not countersigned: no other node vouches for a checkpoint here, so a roll-back of the whole folder would not be seen"
        );
    }
    if *deleted > 0 {
        println!("{deleted} recordings were deleted on purpose, as the manifests say");
    }
    if *older > 0 {
        println!("{older} recordings are older than the manifest, which says nothing of them");
    }
}

/// On standard error if standard output is a program's.
fn tell(fault: &Fault, json: bool) {
    let line = format!("{}: {} {}", fault.kind.as_str(), fault.path.display(), fault.what);
    if json {
        eprintln!("{line}");
    } else {
        println!("{line}");
    }
}

fn in_words(done: &Verified) -> String {
    let mut words = format!("{} recordings, {} bytes of audio", done.recordings, done.bytes);
    if done.archived > 0 {
        words += &format!(", {} voice files in the archive only (not looked at)", done.archived);
    }
    for (kind, count) in &done.faults {
        words += &format!(", {count} {}", kind.as_str());
    }
    if done.is_clean() {
        words += ": as their records say";
    }
    words
}
