//! `astlogger generate`: writes the manual pages and the shell completions, made of the command line
//! itself, so that they cannot disagree with it. Packages are its users; where the files are installed is
//! their matter.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, Exit, Failure};

/// The shells that Debian has and people use.
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Fish, Shell::Zsh];

/// Options of `generate`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  astlogger generate --dir target/generated\n\n\
    Writes man/*.1 and completions/{bash,fish,zsh}/ below the directory.")]
pub(super) struct Options {
    /// Directory to write to; what is missing of it is made
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

pub(super) fn execute(options: &Options) -> Result<Exit, Failure> {
    let pages = made(options.dir.join("man"))?;
    clap_mangen::generate_to(Cli::command(), &pages)
        .with_context(|| format!("cannot write manual pages to {}", pages.display()))?;
    for shell in SHELLS {
        let folder = made(options.dir.join("completions").join(shell.to_string()))?;
        complete(shell, &folder)?;
    }
    Ok(Exit::Done)
}

fn complete(shell: Shell, folder: &Path) -> anyhow::Result<()> {
    clap_complete::generate_to(shell, &mut Cli::command(), "astlogger", folder)
        .with_context(|| format!("cannot write completions to {}", folder.display()))?;
    Ok(())
}

fn made(folder: PathBuf) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    Ok(folder)
}
