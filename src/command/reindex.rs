//! `astlogger reindex`: rebuilds the catalog from the records beside the voice files, while no node
//! runs on the folder.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::Args;
use serde::Serialize;
use storage::reindex::{ReindexError, Reindexed, at_start, rebuild};
use storage::{CatalogError, CatalogState, DurableCatalog, VoiceStore};
use storage_core::naming;

use super::{Exit, Failure, print_json};

/// Options of `reindex`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  astlogger reindex --dir /var/lib/astlogger\n\n\
    Ends with 1 if a voice file or its record is missing or damaged; each is named.")]
pub(super) struct Options {
    /// Data directory of the node (al_datadir)
    #[arg(long)]
    dir: PathBuf,
    /// Print one JSON object as the last line
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Serialize)]
struct Report {
    ok: bool,
    entered: u64,
    broken: Vec<String>,
}

pub(super) fn execute(options: &Options) -> Result<Exit, Failure> {
    if !options.dir.join(naming::VOICE_FOLDER).is_dir() {
        let error = anyhow!("{} holds no recordings", options.dir.display());
        return Err(Failure::new(Exit::Usage, error));
    }
    let (store, catalog, _) = open(&options.dir)?;
    let indexed = rebuild(&store, &catalog).map_err(failure)?;
    let broken: Vec<_> = indexed.broken.iter().map(ToString::to_string).collect();
    let report = Report { ok: broken.is_empty(), entered: indexed.entered, broken };
    if options.json {
        print_json(&report)?;
    } else {
        println!("{} recordings entered", report.entered);
        report.broken.iter().for_each(|broken| println!("{broken}"));
    }
    Ok(if report.ok { Exit::Done } else { Exit::NotSo })
}

/// Enters what the catalog lacks; all of it if it cannot be relied on.
pub(super) fn in_line(dir: &Path) -> Result<Reindexed, Failure> {
    let (store, catalog, state) = open(dir)?;
    at_start(&store, &catalog, &state).map_err(failure)
}

fn open(dir: &Path) -> Result<(VoiceStore, DurableCatalog, CatalogState), Failure> {
    let store = VoiceStore::open(dir).map_err(|error| Failure::new(Exit::Fault, error))?;
    let (catalog, state) = DurableCatalog::open(&dir.join(naming::CATALOG_FOLDER))
        .map_err(|error| failure(error.into()))?;
    Ok((store, catalog, state))
}

fn failure(error: ReindexError) -> Failure {
    let exit = match &error {
        ReindexError::Catalog(CatalogError::Locked(_)) => Exit::Unavailable,
        ReindexError::Catalog(_) | ReindexError::Folder(_) => Exit::Fault,
    };
    Failure::new(exit, error)
}
