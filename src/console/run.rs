//! Does what a command says, and tells it line by line. It decides what is told; what can be done
//! is the node's matter.

use std::sync::Arc;

use recorder::clock::Clock;
use serde_json::Value;
use tokio::sync::watch;

use super::group::{Asking, Patience};
use super::line::{Command, Topic};
use super::output::Output;
use super::{Actions, Failure, format};
use crate::config::{LiveSetting, SetError};
use crate::web::backend::Code as Shared;

/// What all connections share.
pub(super) struct Desk {
    pub(super) actions: Arc<dyn Actions>,
    pub(super) patience: Patience,
    /// Set when the console stops: nothing waits any longer.
    pub(super) stop: watch::Sender<bool>,
}

/// A line of an answer is shorter than 64 KiB.
const JSON_BYTES_MAX: usize = 48 * 1024;

impl From<SetError> for Failure {
    fn from(error: SetError) -> Self {
        let code = match error {
            SetError::Unknown { .. } => super::Code::UnknownParameter,
            SetError::Restart(_) | SetError::Witness => super::Code::NeedsRestart,
            SetError::Value(_) => Shared::BadValue.into(),
        };
        Self::new(code, error.to_string())
    }
}

impl Desk {
    /// Does it, or leaves off when the console stops. `password` is the line after `add user`.
    pub(super) async fn run(
        &self,
        command: Command,
        password: Option<String>,
        out: &Output,
    ) -> Result<(), Failure> {
        let mut stop = self.stop.subscribe();
        tokio::select! {
            result = self.perform(command, password, out) => result,
            _ = stop.wait_for(|stop| *stop) => {
                Err(Failure::new(Shared::Unavailable, "the node stops"))
            }
        }
    }

    async fn perform(
        &self,
        command: Command,
        password: Option<String>,
        out: &Output,
    ) -> Result<(), Failure> {
        let actions = &*self.actions;
        match command {
            Command::Nothing | Command::Quit => {}
            Command::Help => out.lines(format::help()).await,
            Command::Show(topic) => out.lines(self.show(topic).await).await,
            Command::Set(setting) => self.set(setting, out).await?,
            Command::Report { day, json } => {
                let report = actions.report(day).await?;
                if json {
                    out.line(Value::Object(report.body(JSON_BYTES_MAX)).to_string()).await;
                } else {
                    out.lines(format::report(&report)).await;
                }
            }
            Command::Save => out.lines(actions.save().await?).await,
            Command::StartRecord(extension, scope) => {
                let recording = actions.start_recording(extension, scope).await?;
                out.line(format!("recording {recording}")).await;
            }
            Command::StopRecord(extension) => {
                let recording = actions.stop_recording(extension).await?;
                out.line(format!("recording {recording} has ended")).await;
            }
            Command::PauseRecord(extension) => {
                let (recording, pausedms) = actions.pause_recording(extension, true).await?;
                out.line(format!("recording {recording} is paused, {pausedms} ms so far")).await;
            }
            Command::ResumeRecord(extension) => {
                let (recording, pausedms) = actions.pause_recording(extension, false).await?;
                out.line(format!("recording {recording} goes on, paused for {pausedms} ms")).await;
            }
            Command::Scrub => out.line(actions.scrub()?).await,
            Command::Repair(recording) => {
                let made = actions.repair(recording).await?;
                out.line(format!("recording {made}")).await;
            }
            Command::AddUser { name, role, extension } => {
                let password = password.unwrap_or_default();
                let line = format!("user {name} is added");
                actions.add_user(name, role, extension, password).await?;
                out.line(line).await;
            }
            command => self.change_group(command, out).await?,
        }
        Ok(())
    }

    async fn show(&self, topic: Topic) -> Vec<String> {
        let actions = &*self.actions;
        match topic {
            Topic::Status => format::status(&actions.status()),
            Topic::Calls => format::calls(&actions.calls().await, Clock::wall()),
            Topic::Phantoms => format::phantoms(&actions.phantoms()),
            Topic::Peers => format::peers(&actions.status().view),
            Topic::Params => format::params(&actions.params(), &actions.changed()),
            Topic::Rules => format::rules(&actions.rules()),
            Topic::Alarms => format::alarms(&actions.alarms()),
        }
    }

    async fn set(&self, setting: LiveSetting, out: &Output) -> Result<(), Failure> {
        self.actions.set(setting).await?;
        let (key, value) = (setting.key(), setting.value());
        out.line(format!("{key} = {value} until the next restart; `save` makes it last")).await;
        Ok(())
    }

    async fn change_group(&self, command: Command, out: &Output) -> Result<(), Failure> {
        let Ok(_one) = self.actions.changing().try_lock() else { return Err(changing()) };
        let asking = Asking { actions: &*self.actions, patience: self.patience, out };
        match command {
            Command::Drain(true) => asking.drain().await,
            Command::Drain(false) => asking.undrain().await,
            Command::Takeover(true) => asking.takeover().await,
            Command::Takeover(false) => asking.no_wish().await,
            Command::Drill => asking.drill().await,
            Command::AddMember(node, place) => asking.add_member(node, &place).await,
            Command::RemoveMember(node) => asking.remove_member(node).await,
            Command::ReplaceMember { old, new, place } => {
                asking.replace_member(old, new, &place).await
            }
            Command::Resolve(recording) => asking.resolve(recording).await,
            other => unreachable!("{other:?} changes no group: `run` has done it"),
        }
    }
}

/// One change of the group at a time.
pub(super) fn changing() -> Failure {
    let message = "somebody else changes the group now; try again when it is done";
    Failure::new(Shared::Busy, message)
}
