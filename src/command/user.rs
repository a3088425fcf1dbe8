//! `astlogger user`: adds, removes and lists the users of the web interface. The password comes as
//! one line on standard input, never as an argument that others could see.

use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::{Exit, Failure, print_json};
use crate::users::{self, PASSWORD_BYTES_MAX, User, UserRole, UsersError};

const DEFAULT_USERS: &str = "/etc/astlogger/users.toml";

/// Options of `user`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  astlogger user add --file /etc/astlogger/users.toml --name anna --role qa \
    <password.txt\n  astlogger user list --file /etc/astlogger/users.toml"
)]
pub(super) struct Options {
    #[command(subcommand)]
    action: Action,
}

impl Options {
    /// Whether one JSON object is to be the last line of standard output.
    pub(super) const fn json(&self) -> bool {
        match self.action {
            Action::Add { json, .. } | Action::Remove { json, .. } | Action::List { json, .. } => {
                json
            }
        }
    }
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Add a user; the password is one line on standard input
    #[command(
        after_help = "Example:\n  astlogger user add --file /etc/astlogger/users.toml --name anna \
        --role agent --extension 3100 <password.txt"
    )]
    Add {
        /// Users file; made if it is not there
        #[arg(long, default_value = DEFAULT_USERS)]
        file: PathBuf,
        /// What the user signs in with
        #[arg(long)]
        name: String,
        /// agent, supervisor, qa, auditor or admin
        #[arg(long)]
        role: UserRole,
        /// Station of an agent; ties him to his calls
        #[arg(long, value_name = "EXT")]
        extension: Option<String>,
        /// Team
        #[arg(long)]
        team: Option<String>,
        /// Print one JSON object as the last line
        #[arg(long)]
        json: bool,
    },
    /// Remove a user
    #[command(after_help = "Example:\n  astlogger user remove --name anna")]
    Remove {
        /// Users file
        #[arg(long, default_value = DEFAULT_USERS)]
        file: PathBuf,
        /// Who
        #[arg(long)]
        name: String,
        /// Print one JSON object as the last line
        #[arg(long)]
        json: bool,
    },
    /// List the users
    #[command(after_help = "Example:\n  astlogger user list --file /etc/astlogger/users.toml")]
    List {
        /// Users file
        #[arg(long, default_value = DEFAULT_USERS)]
        file: PathBuf,
        /// Print one JSON object as the last line
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn execute(options: Options) -> Result<Exit, Failure> {
    match options.action {
        Action::Add { file, name, role, extension, team, json } => {
            let password = read_password().context("cannot read the password")?;
            users::add(&file, &name, role, extension.as_deref(), team.as_deref(), &password)
                .map_err(failure)?;
            print_done(&name, json)?;
        }
        Action::Remove { file, name, json } => {
            users::remove(&file, &name).map_err(failure)?;
            print_done(&name, json)?;
        }
        Action::List { file, json } => {
            let users = users::list(&file).map_err(failure)?;
            print(&users, json).context("cannot write to standard output")?;
        }
    }
    Ok(Exit::Done)
}

/// One line. What is longer than any password is cut, and refused for its length.
pub(super) fn read_password() -> io::Result<String> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        eprint!("Password (it will be seen): ");
        io::stderr().flush()?;
    }
    let mut line = String::new();
    stdin.lock().take(PASSWORD_BYTES_MAX as u64 + 2).read_line(&mut line)?;
    line.truncate(line.trim_end_matches(['\r', '\n']).len());
    Ok(line)
}

fn failure(error: UsersError) -> Failure {
    let exit = match &error {
        UsersError::Duplicate(_) | UsersError::NoSuchUser(_) => Exit::NotSo,
        UsersError::BadName(_)
        | UsersError::BadExtension(_)
        | UsersError::BadTeam(_)
        | UsersError::BadPassword => Exit::Usage,
        UsersError::Read { .. }
        | UsersError::Write { .. }
        | UsersError::Syntax { .. }
        | UsersError::DuplicateTeam(_)
        | UsersError::BadStations { .. } => Exit::Config,
        UsersError::Hash(_) => Exit::Fault,
    };
    Failure::new(exit, error)
}

#[derive(Serialize)]
struct Report<'a> {
    ok: bool,
    name: &'a str,
}

/// People are told by the exit code.
fn print_done(name: &str, json: bool) -> anyhow::Result<()> {
    if json { print_json(&Report { ok: true, name }) } else { Ok(()) }
}

/// A user as he is listed: without his password's hash.
#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    role: UserRole,
    #[serde(skip_serializing_if = "Option::is_none")]
    extension: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    team: Option<&'a str>,
}

#[derive(Serialize)]
struct List<'a> {
    users: Vec<Listed<'a>>,
}

fn print(users: &[User], json: bool) -> anyhow::Result<()> {
    let listed = users.iter().map(|user| Listed {
        name: &user.name,
        role: user.role,
        extension: user.extension.as_ref().map(storage_core::Extension::as_str),
        team: user.team.as_deref(),
    });
    if json {
        return print_json(&List { users: listed.collect() });
    }
    let mut out = io::stdout().lock();
    for user in listed {
        let (role, extension) = (user.role, user.extension.unwrap_or("-"));
        writeln!(out, "{:<24} {role:<10} {extension:<8} {}", user.name, user.team.unwrap_or("-"))?;
    }
    Ok(())
}
