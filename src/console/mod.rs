//! The line console of a running node: one line in, lines out, then `ok` or `error CODE message`.
//! Plain `nc` is a client of it. There is no signing in, which is why it listens on this machine
//! only: whoever can connect may do everything.
//!
//! `line` reads a line, `run` does what it says through [`Actions`], `group` holds the commands that
//! take the group a while, `format` is what people see, `server` the door. What a node really does
//! is in `actions`; `client` is the other end.

mod actions;
pub mod client;
mod drill;
mod format;
mod group;
mod line;
mod output;
mod run;
mod server;

#[cfg(test)]
mod fake;

use std::collections::BTreeMap;

use cluster::ProposeFailure;
use cluster_core::{Command as GroupCommand, GroupView, Outcome, Takeover};
use futures_util::future::BoxFuture;
use recorder_core::call::CallView;
use recorder_core::call::pool::PhantomState;
use storage_core::record::Scope;
use storage_core::{Extension, NodeId, RecordingId, WallTime};
use tokio::sync::{Mutex, watch};

use crate::alarms::Alarm;
use crate::completeness::Report;
use crate::config::{LiveSetting, Param};
use crate::users::UserRole;
use crate::web::backend;

pub use actions::NodeActions;
pub use drill::Drills;
pub use group::Patience;
pub use line::{Command, Topic, completions, parse};
pub use server::{ConsoleError, Limits, Running, serve};

/// A stable failure code of the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// One that the WebSocket has, too.
    Shared(backend::Code),
    /// No such command.
    UnknownCommand,
    /// No such parameter.
    UnknownParameter,
    /// The parameter is read at a start only.
    NeedsRestart,
    /// The group does not do it.
    Refused,
    /// It did not happen in time.
    Late,
    /// The line is longer than any command.
    TooLong,
    /// What talks here is no console client.
    Foreign,
}

impl Code {
    /// The word on the line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shared(code) => code.as_str(),
            Self::UnknownCommand => "unknowncommand",
            Self::UnknownParameter => "unknownparameter",
            Self::NeedsRestart => "needsrestart",
            Self::Refused => "refused",
            Self::Late => "late",
            Self::TooLong => "toolong",
            Self::Foreign => "foreign",
        }
    }
}

impl From<backend::Code> for Code {
    fn from(code: backend::Code) -> Self {
        Self::Shared(code)
    }
}

/// Why a command was not done. The message names the thing and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} {message}", code.as_str())]
pub struct Failure {
    /// For programs.
    pub code: Code,
    /// For people.
    pub message: String,
}

impl Failure {
    /// A failure with this code and this message.
    #[must_use]
    pub fn new(code: impl Into<Code>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into() }
    }
}

impl From<backend::Failure> for Failure {
    fn from(failure: backend::Failure) -> Self {
        Self::new(failure.code, failure.message)
    }
}

/// The node as `show status` has it.
#[derive(Clone, Debug)]
pub struct Status {
    /// The group as this node sees it.
    pub view: GroupView,
    /// Why this node could not record a call now; empty if it could.
    pub reasons: Vec<String>,
    /// Calls in progress.
    pub calls: usize,
    /// Recordings in progress on this node.
    pub recordings: usize,
    /// Stations at which agents of `al_agents` are logged in.
    pub agents: usize,
    /// The last change of the lead.
    pub takeover: Option<Measured>,
}

/// A change of the lead, and the hole that it left in recordings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// The change.
    pub takeover: Takeover,
    /// The longest hole in a call that moved, milliseconds; absent while it is not measured, and
    /// where no call moved.
    pub gap_ms: Option<u64>,
}

/// What the console asks of the node behind it. All methods that return at once are quick. A
/// future that is dropped has either begun what it does, or does nothing.
pub trait Actions: Send + Sync + 'static {
    /// The node and its group now.
    fn status(&self) -> Status;

    /// The group, whenever it changes.
    fn views(&self) -> watch::Receiver<GroupView>;

    /// Held by whoever changes the group: two drills at once would measure each other.
    fn changing(&self) -> &Mutex<()>;

    /// Whether there is a group: a node alone has nobody to hand anything to.
    fn in_group(&self) -> bool;

    /// Who was asked to lead, as long as that holds.
    fn wish(&self) -> Option<NodeId>;

    /// What became of the calls that began on a UTC day.
    fn report(&self, day: WallTime) -> BoxFuture<'_, Result<Report, Failure>>;

    /// Recordings in progress on this node.
    fn recordings(&self) -> usize;

    /// The last change of the lead that this node knows, and what it cost.
    fn last_takeover(&self) -> Option<Measured>;

    /// Calls in progress.
    fn calls(&self) -> BoxFuture<'_, Vec<CallView>>;

    /// The phantoms by state.
    fn phantoms(&self) -> BTreeMap<PhantomState, usize>;

    /// All parameters.
    fn params(&self) -> Vec<Param>;

    /// Parameters that were changed and not saved.
    fn changed(&self) -> Vec<LiveSetting>;

    /// The recording rules, a line each.
    fn rules(&self) -> Vec<String>;

    /// What is wrong now.
    fn alarms(&self) -> Vec<Alarm>;

    /// Changes a parameter while the node runs.
    fn set(&self, setting: LiveSetting) -> BoxFuture<'_, Result<(), Failure>>;

    /// Writes the changed parameters into the configuration file; says what it did.
    fn save(&self) -> BoxFuture<'_, Result<Vec<String>, Failure>>;

    /// Wants something in the group's log and waits until it is applied here.
    fn propose(&self, command: GroupCommand) -> BoxFuture<'_, Result<Outcome, ProposeFailure>>;

    /// Starts a recording; ready once media flows.
    fn start_recording(
        &self,
        extension: Extension,
        scope: Scope,
    ) -> BoxFuture<'_, Result<RecordingId, Failure>>;

    /// Stops a recording.
    fn stop_recording(&self, extension: Extension) -> BoxFuture<'_, Result<RecordingId, Failure>>;

    /// Pauses a recording, or resumes it; tells how long it was paused so far, milliseconds.
    fn pause_recording(
        &self,
        extension: Extension,
        pause: bool,
    ) -> BoxFuture<'_, Result<(RecordingId, u64), Failure>>;

    /// Has all voice files and logs of this node read over; says so.
    ///
    /// # Errors
    /// Why it is not done.
    fn scrub(&self) -> Result<String, Failure>;

    /// Makes a third recording of the two copies of a call.
    fn repair(&self, recording: RecordingId) -> BoxFuture<'_, Result<RecordingId, Failure>>;

    /// Adds a user of the web interface.
    fn add_user(
        &self,
        name: String,
        role: UserRole,
        extension: Option<String>,
        password: String,
    ) -> BoxFuture<'_, Result<(), Failure>>;
}
