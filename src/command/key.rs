//! `astlogger key`: makes a key file, puts a new key in front of it, and wraps the data keys of what is
//! recorded with the active one. No key is ever shown.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;
use storage::keys::new_key;
use storage::rewrap::{RewrapError, rewrap};
use storage::{KeyFileError, Keys};
use storage_core::key_file::{self, KeyName, NamedKey};
use storage_core::naming;
use zeroize::Zeroizing;

use super::{Exit, Failure, print_json};

/// First lines of a key file that is made here.
const HEAD: &str = "\
# Keys of AstLogger's encryption at rest (al_encryptionkeyfile): one a line, the active one first.
# Former keys below it are needed as long as anything is encrypted with them. Keep a copy of this file
# in a safe place that is not the recorder: without it the recordings are lost.
";

/// Options of `key`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  astlogger key new --file /etc/astlogger/keys")]
pub(super) struct Options {
    #[command(subcommand)]
    action: Action,
}

impl Options {
    /// Whether one JSON object is to be the last line of standard output.
    pub(super) const fn json(&self) -> bool {
        match self.action {
            Action::New { json, .. } | Action::Add { json, .. } | Action::Rewrap { json, .. } => {
                json
            }
        }
    }
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a key file with one key
    #[command(after_help = "Example:\n  astlogger key new --file /etc/astlogger/keys\n\n\
        The file is readable for its owner only: that must be the user that runs the node. One that is \
        there is not touched.")]
    New {
        /// Key file to make
        #[arg(long)]
        file: PathBuf,
        /// What the key is called; the UTC date if left out
        #[arg(long)]
        name: Option<KeyName>,
        /// Print one JSON object as the last line
        #[arg(long)]
        json: bool,
    },
    /// Put a new key in front of a key file; the others stay below it
    #[command(after_help = "Example:\n  astlogger key add --file /etc/astlogger/keys\n\n\
        Restart the node afterwards: from then on the new key is used, and the others are only read \
        with. `astlogger key rewrap` makes them needless.")]
    Add {
        /// Key file
        #[arg(long)]
        file: PathBuf,
        /// What the new key is called; the UTC date if left out
        #[arg(long)]
        name: Option<KeyName>,
        /// Print one JSON object as the last line
        #[arg(long)]
        json: bool,
    },
    /// Wrap the data keys of all voice files with the active key, while no node runs on the folder
    #[command(
        after_help = "Example:\n  astlogger key rewrap --dir /var/lib/astlogger --key-file /etc/astlogger/keys\n\n\
        Audio is not touched. Ends with 1 if a former key is still needed; it says for what."
    )]
    Rewrap {
        /// Data directory of the node (al_datadir)
        #[arg(long)]
        dir: PathBuf,
        /// Key file (al_encryptionkeyfile)
        #[arg(long, value_name = "FILE")]
        key_file: PathBuf,
        /// Print one JSON object as the last line
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn execute(options: &Options) -> Result<Exit, Failure> {
    match &options.action {
        Action::New { file, name, json } => make(file, name.clone(), *json),
        Action::Add { file, name, json } => add(file, name.clone(), *json),
        Action::Rewrap { dir, key_file, json } => rewrap_all(dir, key_file, *json),
    }
}

/// The keys of a file, for a command.
pub(super) fn load(file: &Path) -> Result<Keys, Failure> {
    Keys::load(file).map_err(|error| {
        let exit = match &error {
            KeyFileError::Read(error) if error.kind() == io::ErrorKind::NotFound => Exit::Usage,
            _ => Exit::Config,
        };
        Failure::new(exit, anyhow!("{} {error}", file.display()))
    })
}

fn make(file: &Path, name: Option<KeyName>, json: bool) -> Result<Exit, Failure> {
    let key = fresh(name)?;
    let text = Zeroizing::new(format!("{HEAD}{}", *key_file::line(&key)));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut out = match options.open(file) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let error = anyhow!(
                "{} is there already and is not overwritten: `astlogger key add` puts a key in front",
                file.display()
            );
            return Err(Failure::new(Exit::NotSo, error));
        }
        opened => opened.with_context(|| format!("cannot make {}", file.display())),
    }?;
    let written = out.write_all(text.as_bytes()).and_then(|()| out.sync_all());
    if let Err(error) = written {
        // Half a key is none.
        let _ = fs::remove_file(file);
        return Err(anyhow!("cannot write {}: {error}", file.display()).into());
    }
    let words = format!("key {} is in {}: keep a copy in a safe place", key.name, file.display());
    print_done(file, key.name, &words, json)
}

fn add(file: &Path, name: Option<KeyName>, json: bool) -> Result<Exit, Failure> {
    let known = load(file)?;
    let key = fresh(name)?;
    if known.names().any(|name| *name == key.name) {
        let error = anyhow!(
            "{} has a key {} already: name the new one with --name",
            file.display(),
            key.name
        );
        return Err(Failure::new(Exit::NotSo, error));
    }
    let before = fs::read_to_string(file).map(Zeroizing::new);
    let before = before.with_context(|| format!("cannot read {}", file.display()))?;
    // Comments at the top stay there.
    let comments = |line: &&str| line.trim().is_empty() || line.trim_start().starts_with('#');
    let head: usize = before.split_inclusive('\n').take_while(comments).map(str::len).sum();
    let (head, rest) = before.split_at(head);
    let text = Zeroizing::new(format!("{head}{}{rest}", *key_file::line(&key)));
    replace(file, &text).with_context(|| format!("cannot write {}", file.display()))?;
    let words = format!("key {} is the first in {}: restart the node", key.name, file.display());
    print_done(file, key.name, &words, json)
}

/// Which key is the active one of a file now.
#[derive(Serialize)]
struct Made<'a> {
    ok: bool,
    key: String,
    file: &'a Path,
}

fn print_done(file: &Path, name: KeyName, words: &str, json: bool) -> Result<Exit, Failure> {
    if json {
        print_json(&Made { ok: true, key: name.into(), file })?;
    } else {
        println!("{words}");
    }
    Ok(Exit::Done)
}

fn fresh(name: Option<KeyName>) -> anyhow::Result<NamedKey> {
    let name = match name {
        Some(name) => name,
        None => Timestamp::now().strftime("%Y-%m-%d").to_string().parse()?,
    };
    Ok(NamedKey { name, bytes: new_key()? })
}

/// Puts another text in a file's place, whole or not at all, for the same reader.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    let mut name = file.as_os_str().to_owned();
    name.push(".new");
    let temporary = PathBuf::from(name);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut out = options.open(&temporary)?;
    let written = || {
        let (owner, ours) = (fs::metadata(file)?, out.metadata()?);
        if (ours.uid(), ours.gid()) != (owner.uid(), owner.gid()) {
            fchown(&out, Some(owner.uid()), Some(owner.gid()))?;
        }
        out.set_permissions(owner.permissions())?;
        out.write_all(text.as_bytes())?;
        out.sync_all()?;
        fs::rename(&temporary, file)
    };
    let written = { written }();
    if written.is_err() {
        // The error is what counts.
        let _ = fs::remove_file(&temporary);
    }
    written
}

#[derive(Serialize)]
struct Report {
    ok: bool,
    rewrapped: usize,
    already: usize,
    failed: Vec<String>,
    /// Captured segments by the former key that they still need.
    captured: std::collections::BTreeMap<String, usize>,
}

fn rewrap_all(dir: &Path, key_file: &Path, json: bool) -> Result<Exit, Failure> {
    if !dir.join(naming::VOICE_FOLDER).is_dir() {
        let error = anyhow!("{} holds no recordings", dir.display());
        return Err(Failure::new(Exit::Usage, error));
    }
    let keys = load(key_file)?;
    let done = rewrap(dir, &keys).map_err(|error| {
        let exit = match &error {
            RewrapError::Locked(_) => Exit::Unavailable,
            RewrapError::Voice(_) | RewrapError::Journal(_) => Exit::Fault,
        };
        Failure::new(exit, error)
    })?;
    let report = Report {
        ok: done.failed.is_empty() && done.captured.is_empty(),
        rewrapped: done.rewrapped,
        already: done.already,
        failed: done.failed.iter().map(ToString::to_string).collect(),
        captured: done.captured.into_iter().map(|(name, count)| (name.into(), count)).collect(),
    };
    if json {
        print_json(&report)?;
    } else {
        let Report { rewrapped, already, failed, captured, .. } = &report;
        println!("{rewrapped} wrapped anew, {already} had the active key, {} failed", failed.len());
        failed.iter().for_each(|failed| println!("{failed}"));
        for (name, segments) in captured {
            println!("{segments} captured segments need key {name}: run the node, it seals them");
        }
    }
    Ok(if report.ok { Exit::Done } else { Exit::NotSo })
}
