//! `astlogger evidence`: writes what a third party can check of one recording, or shows the node's public key. What
//! is in it is decided in [`storage::evidence`].

use std::fs::{self, OpenOptions};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::Args;
use serde::Serialize;
use storage::Keys;
use storage::evidence::{Bundle, EvidenceError};
use storage::manifest_check::public_key;
use storage_core::RecordingId;

use super::{Exit, Failure, key, print_json};

/// Options of `evidence`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  astlogger evidence 019b76da-a800-7000-8000-000000000001 --dir /var/lib/astlogger\n  \
    astlogger evidence --public-key --dir /var/lib/astlogger\n\n\
    Writes a tar file with the voice file (plain), its record, the manifest's lines around it, two signed checkpoints, the \
    node's public key, and INSTRUCTIONS.txt: how somebody checks all of it with openssl and sha256sum alone. The public \
    key is to be given to him, or published, another way: --public-key shows it. A node may be running meanwhile."
)]
pub(super) struct Options {
    /// The recording
    #[arg(value_name = "RECORDINGID", required_unless_present = "public_key")]
    recording: Option<RecordingId>,
    /// Data folder (al_datadir) of the node that published it
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// The file to write; otherwise RECORDINGID.tar
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Key file (al_encryptionkeyfile), if the voice file is encrypted
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Only show the node's public key (Ed25519, hex)
    #[arg(long, conflicts_with_all = ["recording", "out", "key_file"])]
    public_key: bool,
    /// Print one JSON object as the last line
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Serialize)]
struct Report {
    ok: bool,
    publickey: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    written: Option<PathBuf>,
}

pub(super) fn execute(options: &Options) -> Result<Exit, Failure> {
    let publickey = public_key(&options.dir).map_err(|error| Failure::new(Exit::Usage, error))?;
    let publickey = publickey.to_string();
    let written = match options.recording {
        Some(id) => Some(write(options, id)?),
        None => None,
    };
    match (&written, options.json) {
        (_, true) => print_json(&Report { ok: true, publickey, written })?,
        (Some(path), false) => println!("{}", path.display()),
        (None, false) => println!("{publickey}"),
    }
    Ok(Exit::Done)
}

fn write(options: &Options, id: RecordingId) -> Result<PathBuf, Failure> {
    let keys = match &options.key_file {
        Some(file) => key::load(file)?,
        None => Keys::default(),
    };
    let bundle = Bundle::of(&options.dir, id, keys).map_err(|error| {
        let exit = match error {
            EvidenceError::NotStated { .. }
            | EvidenceError::NotCovered(_)
            | EvidenceError::Broken { .. }
            | EvidenceError::Altered(_) => Exit::NotSo,
            _ => Exit::Fault,
        };
        Failure::new(exit, error)
    })?;
    let path = options.out.clone().unwrap_or_else(|| PathBuf::from(format!("{id}.tar")));
    let file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(|error| {
        let why =
            format!("cannot make {}: {error}; choose another name with --out", path.display());
        Failure::new(Exit::Usage, anyhow!(why))
    })?;
    bundle.write(BufWriter::new(file)).map_err(|error| {
        remove(&path);
        Failure::fault(error)
    })?;
    Ok(path)
}

/// A bundle that is not whole proves nothing.
fn remove(path: &Path) {
    // What cannot be removed, either, is reported as not written all the same.
    drop(fs::remove_file(path));
}
