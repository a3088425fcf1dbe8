//! `astlogger verify`: checks voice files against their records, and names each that is not as it should
//! be. What is checked is in [`storage::verify`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use storage::Keys;
use storage::audit_log::{AuditFault, AuditLog, AuditLogError};
use storage::verify::{Fault, FaultKind, Told, Verified, VerifyError, verify};
use storage_core::naming::AUDIT_FOLDER;

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
    Not in this version: signatures, and the chain that would show that a recording was removed whole, \
    or altered together with its record. Who can write the audit log can also write its head anew, and the whole \
    chain: against that, only a copy of the head that is kept elsewhere helps.")]
pub(super) struct Options {
    /// Key file (al_encryptionkeyfile), for encrypted voice files
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    key_file: Option<PathBuf>,
    /// Configuration that names the key file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
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
    bytes: u64,
    /// Lines of audit logs.
    auditlines: u64,
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
    for AuditFault { path, what } in &broken {
        let fault = Fault { kind: FaultKind::Altered, path: path.clone(), what: what.clone() };
        tell(&fault, options.json);
        let Fault { kind, path, what } = fault;
        faults.push(Named { kind: kind.as_str(), path, what });
    }
    let mut done = done;
    if !broken.is_empty() {
        *done.faults.entry(FaultKind::Altered).or_default() += broken.len() as u64;
    }
    if options.json {
        let count = |kind: FaultKind| done.faults.get(&kind).copied().unwrap_or(0);
        print_json(&Report {
            ok: done.is_clean(),
            recordings: done.recordings,
            bytes: done.bytes,
            auditlines: lines,
            counts: FaultKind::ALL.into_iter().map(|kind| (kind.as_str(), count(kind))).collect(),
            faults,
        })?;
    } else {
        println!("{}", in_words(&done));
        if lines > 0 || !broken.is_empty() {
            println!("{lines} lines of audit logs, {} of them wrong", broken.len());
        }
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
    for dir in own.chain(inside.filter(has_log)) {
        let (count, mut found) = AuditLog::new(dir).verify()?;
        lines += count;
        faults.append(&mut found);
    }
    Ok((lines, faults))
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
    for (kind, count) in &done.faults {
        words += &format!(", {count} {}", kind.as_str());
    }
    if done.is_clean() {
        words += ": as their records say";
    }
    words
}
