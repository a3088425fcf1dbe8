//! Benchmarks of the recorder, each beside a reference program that is measured in the same run.
//! Absolute figures drift with the machine and with what else runs on it: read the ratios. What
//! is measured, how, and what came out is in `README.md`.

mod archive;
mod capture;
mod decode;
mod facts;
mod failover;
mod fetch;
mod idle;
mod kernel;
mod keys;
mod ledger;
mod seal;
mod search;
mod soak;
mod srtp;
mod stats;
mod table;
mod verify;

use std::path::{Path, PathBuf};

use anyhow::ensure;
use clap::{Parser, Subcommand};

/// Benchmarks of the recorder.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Receiving and keeping media: the media thread beside a bare receiver.
    Capture(capture::Options),
    /// Sealing: captured media to published voice files, beside a bare copy.
    Seal(seal::Options),
    /// Decoding: what a codec costs the sealer.
    Decode(decode::Options),
    /// Decrypting: what encrypted media costs the media thread.
    Srtp(srtp::Options),
    /// Takeovers of calls in progress: how much of their audio is missing.
    Failover(failover::Options),
    /// Calls and random faults: whether each call has its one recording.
    Soak(soak::Options),
    /// Claims through the ledger of three members: how long they take.
    Ledger(ledger::Options),
    /// What a group of three costs without calls.
    Idle(idle::Options),
    /// Searching a catalog of millions, entering them, rebuilding one from files.
    Search(search::Options),
    /// Many fetches from a node that records, beside a bare file server.
    Fetch(fetch::Options),
    /// Checking voice files, beside bare hashing; what the manifest adds to publishing.
    Verify(verify::Options),
    /// Archiving and fetching back from the archive, beside the bare way of moving the same bytes.
    Archive(archive::Options),
    /// Capture, sealing and decoding, with the defaults.
    All,
    /// The bare file server, started by `fetch` as a process of its own.
    #[command(hide = true)]
    Serve(fetch::ServeOptions),
    /// One receiver, started by `capture` as a process of its own.
    #[command(hide = true)]
    Receive(capture::receiver::Options),
}

fn main() -> anyhow::Result<()> {
    let command = Arguments::parse().command;
    if cfg!(debug_assertions) && !matches!(command, Command::Receive(_) | Command::Serve(_)) {
        eprintln!("A debug build: these figures say nothing. Use cargo run --release.");
    }
    match command {
        Command::Capture(options) => capture::run(&options),
        Command::Seal(options) => seal::run(&options),
        Command::Decode(options) => decode::run(&options),
        Command::Srtp(options) => srtp::run(&options),
        Command::Failover(options) => failover::run(&options),
        Command::Soak(options) => soak::run(&options),
        Command::Ledger(options) => ledger::run(&options),
        Command::Idle(options) => idle::run(&options),
        Command::Search(options) => search::run(&options),
        Command::Fetch(options) => fetch::run(&options),
        Command::Verify(options) => verify::run(&options),
        Command::Archive(options) => archive::run(&options),
        Command::Serve(options) => fetch::serve(&options),
        Command::All => {
            capture::run(&capture::Options::parse_from(["capture"]))?;
            seal::run(&seal::Options::parse_from(["seal"]))?;
            decode::run(&decode::Options::parse_from(["decode"]))
        }
        Command::Receive(options) => capture::receiver::run(&options),
    }
}

/// The `astlogger` to run: the one that is named, or the one beside this program.
fn binary(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    let binary = match named {
        Some(binary) => binary.to_owned(),
        None => std::env::current_exe()?.with_file_name("astlogger"),
    };
    ensure!(
        binary.is_file(),
        "{} is not there: build it with cargo build --release --bin astlogger, or name it with --binary",
        binary.display()
    );
    Ok(binary)
}
