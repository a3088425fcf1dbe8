//! `astlogger decrypt`: makes plain voice files of encrypted ones, for a person who has the key file.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::Args;
use serde::Serialize;
use storage::decrypt::decrypt;

use super::{Exit, Failure, key, print_json};

/// Options of `decrypt`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  astlogger decrypt --key-file /etc/astlogger/keys --out /tmp \
    /var/lib/astlogger/voice/2026/11/23/*.enc\n\n\
    The record (.json) and the data key (.key) are to lie beside each file. What is written is compared \
    with the record's checksum. Ends with 1 if a file could not be decrypted; each is named.")]
pub(super) struct Options {
    /// Key file (al_encryptionkeyfile)
    #[arg(long, value_name = "FILE")]
    key_file: PathBuf,
    /// Folder for the plain files
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// Print one JSON object as the last line
    #[arg(long)]
    pub(super) json: bool,
    /// Encrypted voice files
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

#[derive(Serialize)]
struct Report {
    ok: bool,
    written: Vec<PathBuf>,
    failed: Vec<String>,
}

pub(super) fn execute(options: &Options) -> Result<Exit, Failure> {
    let keys = key::load(&options.key_file)?;
    if !options.out.is_dir() {
        let error = anyhow!("{} is no folder", options.out.display());
        return Err(Failure::new(Exit::Usage, error));
    }
    let mut report = Report { ok: true, written: Vec::new(), failed: Vec::new() };
    for path in &options.paths {
        match decrypt(&keys, path, &options.out) {
            Ok(written) => {
                tell(&written, options.json);
                report.written.push(written);
            }
            Err(error) => {
                eprintln!("astlogger: {error}");
                report.failed.push(error.to_string());
            }
        }
    }
    report.ok = report.failed.is_empty();
    if options.json {
        print_json(&report)?;
    }
    Ok(if report.ok { Exit::Done } else { Exit::NotSo })
}

fn tell(written: &Path, json: bool) {
    if !json {
        println!("{}", written.display());
    }
}
