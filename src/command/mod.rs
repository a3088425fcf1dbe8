//! The command line: which subcommands and options there are, what goes to which stream, and with
//! which code the process ends. What a command does is in the file of its name.

mod check;
mod cluster;
mod console;
mod decrypt;
mod demo;
mod evidence;
mod generate;
mod key;
mod output;
mod recover;
mod reindex;
mod report;
mod run;
mod simulate;
mod status;
mod user;
mod verify;

use std::ffi::OsString;
use std::fmt;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use crate::config::ConfigError;
use crate::logging;

pub use demo::{Options as DemoOptions, Scenario};
pub use output::print_json;

/// How the process ends, by the codes of sysexits.h where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// The thing asked about is not so.
    NotSo,
    /// The command line makes no sense.
    Usage,
    /// A service that is needed is not available.
    Unavailable,
    /// Our own fault.
    Fault,
    /// The configuration is wrong.
    Config,
}

impl Exit {
    /// The code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::NotSo => 1,
            Self::Usage => 64,
            Self::Unavailable => 69,
            Self::Fault => 70,
            Self::Config => 78,
        }
    }
}

/// Why a command could not do what it was asked for.
#[derive(Debug)]
pub struct Failure {
    /// How the process ends; it says who is at fault.
    pub exit: Exit,
    /// What is to be said.
    pub error: anyhow::Error,
}

impl Failure {
    /// Ends the process this way and for this reason.
    pub fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into() }
    }

    /// A service or a resource that is needed is not available.
    pub fn unavailable(error: impl Into<anyhow::Error>) -> Self {
        Self::new(Exit::Unavailable, error)
    }

    /// Our own fault, or this machine's.
    pub fn fault(error: impl Into<anyhow::Error>) -> Self {
        Self::new(Exit::Fault, error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&in_words(&self.error))
    }
}

/// An error with its causes, each said once: many errors tell their cause in their own words, because they are told alone
/// as well.
pub(crate) fn in_words(error: &anyhow::Error) -> String {
    let mut said = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if said.is_empty() {
            said = cause;
        } else if !said.contains(&cause) {
            said = format!("{said}: {cause}");
        }
    }
    said
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(Exit::Config, error)
    }
}

/// What nobody has given another exit code is our own fault, or this machine's.
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self { exit: Exit::Fault, error }
    }
}

#[derive(Debug, Parser)]
#[command(
    name = "astlogger",
    version,
    about,
    arg_required_else_help = true,
    after_help = "Examples:\n  astlogger demo\n  astlogger check --config /etc/astlogger/astlogger.toml"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node
    Run(run::Options),
    /// Say all that is wrong with a configuration and with this machine
    Check(check::Options),
    /// A whole site on this machine: simulated switch, recorder, calls, a verdict
    Demo(demo::Options),
    /// The simulated switch and its AES servers alone
    Simulate(simulate::Options),
    /// Show what became of the calls of a day
    Report(report::Options),
    /// The group as a running node sees it
    Status(status::Options),
    /// The line console of a running node
    Console(console::Options),
    /// Certificates and members of a group
    Cluster(cluster::Options),
    /// Users of the web interface
    User(user::Options),
    /// Keys of encryption at rest
    Key(key::Options),
    /// Make plain voice files of encrypted ones
    Decrypt(decrypt::Options),
    /// Seal the captures that a crash left
    Recover(recover::Options),
    /// Rebuild the catalog from the files
    Reindex(reindex::Options),
    /// What a third party can check of a recording, as one file
    Evidence(evidence::Options),
    /// Check voice files against their records and the manifest
    Verify(verify::Options),
    /// Write the manual pages and the shell completions
    #[command(hide = true)]
    Generate(generate::Options),
}

impl Command {
    /// Whether one JSON object is to be the last line of standard output, also of a failure.
    const fn json(&self) -> bool {
        match self {
            Self::Check(options) => options.json,
            Self::Demo(options) => options.json,
            Self::Report(options) => options.json,
            Self::Status(options) => options.json,
            Self::Console(options) => options.json,
            Self::Cluster(options) => options.json(),
            Self::User(options) => options.json(),
            Self::Key(options) => options.json(),
            Self::Decrypt(options) => options.json,
            Self::Recover(options) => options.json,
            Self::Reindex(options) => options.json,
            Self::Evidence(options) => options.json,
            Self::Verify(options) => options.json,
            Self::Run(_) | Self::Simulate(_) | Self::Generate(_) => false,
        }
    }

    /// What is logged unless `AL_LOG` says otherwise.
    const fn log_level(&self) -> &'static str {
        match self {
            Self::Run(_) | Self::Simulate(_) => "info",
            _ => "warn",
        }
    }

    async fn execute(self) -> Result<Exit, Failure> {
        match self {
            Self::Run(options) => run::execute(options).await,
            Self::Check(options) => check::execute(&options).await,
            Self::Demo(options) => demo::execute(options).await,
            Self::Simulate(options) => simulate::execute(&options).await,
            Self::Report(options) => report::execute(&options).await,
            Self::Status(options) => status::execute(&options).await,
            Self::Console(options) => console::execute(&options).await,
            Self::Cluster(options) => cluster::execute(&options).await,
            Self::User(options) => user::execute(options),
            Self::Key(options) => key::execute(&options),
            Self::Decrypt(options) => decrypt::execute(&options),
            Self::Recover(options) => recover::execute(&options),
            Self::Reindex(options) => reindex::execute(&options),
            Self::Evidence(options) => evidence::execute(&options),
            Self::Verify(options) => verify::execute(&options),
            Self::Generate(options) => generate::execute(&options),
        }
    }
}

/// Does what the command line says.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let command = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli.command,
        Err(error) => return ExitCode::from(explain(&error).code()),
    };
    logging::start(command.log_level());
    // Both providers could be in the tree one day; rustls would then refuse to guess. Installed
    // twice is no harm: the first one stays.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let json = command.json();
    let exit = match runtime().map_err(Failure::from).and_then(|r| r.block_on(command.execute())) {
        Ok(exit) => exit,
        Err(failure) => {
            logging::complain(&failure.to_string());
            if json {
                output::print_failure(&failure);
            }
            failure.exit
        }
    };
    ExitCode::from(exit.code())
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| anyhow::anyhow!("cannot start threads: {error}"))
}

/// Prints what clap has to say; help that was asked for is no mistake.
fn explain(error: &clap::Error) -> Exit {
    // Where standard output is closed there is nobody left to tell.
    drop(error.print());
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Done,
        _ => Exit::Usage,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use clap::CommandFactory;

    use super::*;
    use crate::users::UsersError;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_cause_is_said_once() {
        let gone = || io::Error::new(io::ErrorKind::NotFound, "it is gone");
        let read = || UsersError::Read { path: "users.toml".into(), source: gone() };
        let told = "cannot read users file users.toml: it is gone";
        for (error, said) in [
            (anyhow::Error::new(gone()), "it is gone"),
            (anyhow::Error::new(gone()).context("no list"), "no list: it is gone"),
            (anyhow::Error::new(read()), told),
            (anyhow::Error::new(read()).context("no list"), &format!("no list: {told}")),
            (anyhow::Error::new(gone()).context("b").context("a"), "a: b: it is gone"),
        ] {
            assert_eq!(Failure::fault(error).to_string(), said);
        }
    }

    #[test]
    fn the_help_of_each_command_shows_an_example() {
        // Those that have subcommands, too; `help` itself is clap's.
        fn look(command: &mut clap::Command) {
            if command.get_name() == "help" {
                return;
            }
            let help = command.render_long_help().to_string();
            assert!(help.contains("Example"), "{}: {help}", command.get_name());
            assert!(help.contains("astlogger "), "{}: {help}", command.get_name());
            command.get_subcommands_mut().for_each(look);
        }
        look(&mut Cli::command());
    }
}
