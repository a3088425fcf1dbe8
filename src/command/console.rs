//! `astlogger console`: the other end of a running node's line console. With a command it does that
//! and ends; on a terminal it is a prompt with history and completion; otherwise it takes the lines
//! of standard input one by one.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Args;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::MemHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Editor, Helper};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::{block_in_place, spawn_blocking};

use super::{Exit, Failure, print_json};
use crate::config::{Console, DEFAULT_FILE};
use crate::console::client::{Client, End, NoAnswer};
use crate::console::{Command, completions, parse};

const PROMPT: &str = "astlogger> ";

/// Where the console is.
#[derive(Debug, Args)]
pub(super) struct Place {
    /// Configuration file of the node; its al_consolelisten is asked
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    config: PathBuf,
    /// Where the console listens instead: HOST:PORT, or the path of a Unix socket
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,
}

/// Options of `console`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  astlogger console\n  astlogger console show status\n  \
    astlogger console --address 127.0.0.1:9007 set al_rescuems 300\n  \
    echo 'show alarms' | astlogger console\n\n\
    Ends with 0 on ok, 1 on an error, 69 if no node answers. `astlogger console help` lists the \
    commands.")]
pub(super) struct Options {
    #[command(flatten)]
    place: Place,
    /// Print one JSON object as the last line: ok, lines, and code and message of an error
    #[arg(long, requires = "command")]
    pub(super) json: bool,
    /// One command; without it they are read from standard input
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(super) async fn execute(options: &Options) -> Result<Exit, Failure> {
    let place = options.place.find()?;
    if !options.command.is_empty() {
        return one_shot(place, &options.command.join(" "), options.json).await;
    }
    if io::stdin().is_terminal() && io::stdout().is_terminal() {
        prompt(place).await
    } else {
        piped(connect(place).await?).await
    }
}

impl Place {
    fn find(&self) -> Result<Console, Failure> {
        if let Some(address) = &self.address {
            return address.parse().map_err(|must_be| {
                let error = anyhow!("--address {address:?} must be {must_be}");
                Failure::new(Exit::Usage, error)
            });
        }
        let path: &Path = &self.config;
        Console::load(path)?.ok_or_else(|| {
            let error = anyhow!(
                "al_consolelisten in {} is empty, so the node has no console; give it an address",
                path.display()
            );
            Failure::new(Exit::Unavailable, error)
        })
    }

    /// Has a command done on that node and says what came of it.
    pub(super) async fn one_shot(&self, command: &str, json: bool) -> Result<Exit, Failure> {
        one_shot(self.find()?, command, json).await
    }
}

fn unavailable(error: NoAnswer) -> Failure {
    Failure::new(Exit::Unavailable, error)
}

async fn connect(place: Console) -> Result<Client, Failure> {
    Client::connect(place).await.map_err(unavailable)
}

/// What a program reads of one command.
#[derive(Serialize)]
struct Report<'a> {
    ok: bool,
    lines: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
}

async fn one_shot(place: Console, command: &str, json: bool) -> Result<Exit, Failure> {
    if command.contains(['\n', '\r']) {
        return Err(Failure::new(Exit::Usage, anyhow!("a command is one line")));
    }
    let mut client = connect(place).await?;
    let password = match wants_password(command) {
        true => Some(super::user::read_password().context("cannot read the password")?),
        false => None,
    };
    let mut lines = Vec::new();
    let end = client
        .ask(command, password.as_deref(), |line| {
            if json {
                lines.push(line.to_owned());
            } else {
                say(line);
            }
        })
        .await
        .map_err(unavailable)?;
    let (ok, code, message) = match &end {
        End::Ok => (true, None, None),
        End::Error(code, message) => (false, Some(code.as_str()), Some(message.as_str())),
    };
    if let (Some(code), Some(message)) = (code, message) {
        eprintln!("astlogger: {code}: {message}");
    }
    if json {
        print_json(&Report { ok, lines: &lines, code, message })?;
    }
    Ok(if ok { Exit::Done } else { Exit::NotSo })
}

/// The node asks for a second line after this one.
fn wants_password(line: &str) -> bool {
    matches!(parse(line), Ok(Command::AddUser { .. }))
}

/// A reader that has gone needs no more lines; the command's outcome still counts.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    drop(writeln!(out, "{line}").and_then(|()| out.flush()));
}

/// Says how an answer ended; whether it was done.
fn say_end(end: &End) -> bool {
    match end {
        End::Ok => say("ok"),
        End::Error(code, message) => say(&format!("error {code} {message}")),
    }
    *end == End::Ok
}

/// Lines of standard input, one by one.
async fn piped(mut client: Client) -> Result<Exit, Failure> {
    let (sender, mut lines) = mpsc::channel(1);
    // Reading blocks, and must not keep the process when the node has gone.
    drop(spawn_blocking(move || {
        for line in io::stdin().lock().lines() {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    }));
    let mut all_done = true;
    while let Some(line) = lines.recv().await {
        let line = line.context("cannot read standard input")?;
        let password = match wants_password(&line) {
            true => match lines.recv().await {
                Some(line) => Some(line.context("cannot read standard input")?),
                None => return Err(Failure::new(Exit::Usage, anyhow!("the password is missing"))),
            },
            false => None,
        };
        let end = client.ask(&line, password.as_deref(), say).await.map_err(unavailable)?;
        all_done &= say_end(&end);
        if parse(&line) == Ok(Command::Quit) {
            break;
        }
    }
    Ok(if all_done { Exit::Done } else { Exit::NotSo })
}

/// A prompt on a terminal. History lasts as long as the process: it may hold telephone numbers. Each
/// command has a connection of its own, so that neither a pause nor a restart of the node ends it.
async fn prompt(place: Console) -> Result<Exit, Failure> {
    drop(connect(place.clone()).await?);
    let config = rustyline::Config::builder().completion_type(CompletionType::List).build();
    let mut editor = Editor::with_history(config, MemHistory::new())
        .context("cannot use this terminal; pipe commands into standard input instead")?;
    editor.set_helper(Some(Words));
    loop {
        let line = match block_in_place(|| editor.readline(PROMPT)) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(Exit::Done),
            Err(error) => return Err(anyhow::Error::from(error).into()),
        };
        if line.trim().is_empty() {
            continue;
        }
        // A line that cannot be remembered is no harm.
        let _ = editor.add_history_entry(&line);
        if parse(&line) == Ok(Command::Quit) {
            return Ok(Exit::Done);
        }
        let password = match wants_password(&line) {
            true => match block_in_place(|| editor.readline("password (it will be seen): ")) {
                Ok(password) => Some(password),
                Err(_) => continue,
            },
            false => None,
        };
        match ask_anew(place.clone(), &line, password.as_deref()).await {
            Ok(end) => {
                say_end(&end);
            }
            Err(error) => say(&format!("{error}; try again")),
        }
    }
}

async fn ask_anew(place: Console, line: &str, second: Option<&str>) -> Result<End, NoAnswer> {
    Client::connect(place).await?.ask(line, second, say).await
}

/// Completes console commands.
struct Words;

impl Completer for Words {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &rustyline::Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        Ok((0, completions(line.get(..at).unwrap_or(line))))
    }
}

impl Hinter for Words {
    type Hint = String;
}

impl Highlighter for Words {}
impl Validator for Words {}
impl Helper for Words {}
