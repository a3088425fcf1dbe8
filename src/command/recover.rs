//! `astlogger recover`: seals the captures that a crash left, while no node runs on the folder, and
//! brings the catalog in line. A node does the same when it starts.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use recorder::recovery::{RecoverError, RecoverEvent, Recovery, recover};
use recorder::sealing::VoiceSettings;
use serde::Serialize;
use storage::{JournalError, Keys};
use storage_core::record::VoiceFormat;
use storage_core::{NodeId, naming};

use super::{Exit, Failure, key, print_json, reindex};

/// Options of `recover`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  astlogger recover --dir /var/lib/astlogger\n\n\
    Ends with 1 if something could not be sealed; it stays where it is.")]
pub(super) struct Options {
    /// Data directory of the node (al_datadir)
    #[arg(long)]
    dir: PathBuf,
    /// Form of the voice files (al_voiceformat)
    #[arg(long, value_enum, default_value_t = Form::Wavg711)]
    format: Form,
    /// Take the tones of pressed keys out of voice files (al_keytones = "mask")
    #[arg(long)]
    mask_keys: bool,
    /// Leave out what came while a call was on hold (al_hold = "skip")
    #[arg(long)]
    skip_hold: bool,
    /// Number of the node (al_nodeid)
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    node: u16,
    /// Key file (al_encryptionkeyfile); voice files are encrypted then
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Print one JSON object as the last line
    #[arg(long)]
    pub(super) json: bool,
}

/// Forms in which this version writes.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Form {
    /// 16-bit PCM
    Wav,
    /// G.711 as received
    Wavg711,
    /// Ogg Opus
    #[cfg(feature = "opus")]
    Opus,
}

#[derive(Serialize)]
struct Report {
    ok: bool,
    published: usize,
    missed: usize,
    failed: usize,
    torn_bytes: u64,
    skipped_bytes: u64,
    entered: u64,
}

pub(super) fn execute(options: &Options) -> Result<Exit, Failure> {
    if !options.dir.join(naming::CAPTURE_FOLDER).is_dir() {
        let error = anyhow!("{} is no data directory of AstLogger", options.dir.display());
        return Err(Failure::new(Exit::Usage, error));
    }
    let format = match options.format {
        Form::Wav => VoiceFormat::Wav,
        Form::Wavg711 => VoiceFormat::WavG711,
        #[cfg(feature = "opus")]
        Form::Opus => VoiceFormat::Opus,
    };
    let Options { mask_keys, skip_hold, .. } = *options;
    let voice = VoiceSettings { mask_keys, skip_hold, ..VoiceSettings::from(format) };
    let keys = options.key_file.as_deref().map_or(Ok(Keys::default()), key::load)?;
    let node = NodeId(options.node);
    let recovery = recover(&options.dir, node, voice, keys, tell).map_err(failure)?;
    let indexed = reindex::in_line(&options.dir)?;
    let exit = if recovery.failed > 0 { Exit::NotSo } else { Exit::Done };
    print(options, &recovery, indexed.entered)?;
    Ok(exit)
}

fn failure(error: RecoverError) -> Failure {
    let exit = match &error {
        RecoverError::Journal(JournalError::Locked(_)) => Exit::Unavailable,
        RecoverError::Journal(JournalError::KeysMissing { .. }) => Exit::Config,
        RecoverError::Journal(_) | RecoverError::Voice(_) => Exit::Fault,
    };
    Failure::new(exit, error)
}

/// One line for each recording, on standard error: it is the log of what is done.
fn tell(event: &RecoverEvent) {
    match event {
        RecoverEvent::Published(record) => eprintln!("sealed      {}", record.recordingid),
        RecoverEvent::Missed { draft, reason } => {
            eprintln!("no audio    {} ({reason})", draft.recordingid);
        }
        RecoverEvent::SetAside { recordingid, error } => {
            eprintln!("failed      {recordingid}: {error}");
        }
    }
}

fn print(options: &Options, recovery: &Recovery, entered: u64) -> anyhow::Result<()> {
    let report = Report {
        ok: recovery.failed == 0,
        published: recovery.published,
        missed: recovery.missed,
        failed: recovery.failed,
        torn_bytes: recovery.found.torn_bytes,
        skipped_bytes: recovery.found.skipped_bytes,
        entered,
    };
    if options.json {
        return print_json(&report);
    }
    let Report { published, missed, failed, torn_bytes, skipped_bytes, .. } = report;
    println!("{published} recordings sealed, {missed} without audio, {failed} failed");
    println!("{torn_bytes} bytes torn off at the end, {skipped_bytes} damaged within");
    Ok(())
}
