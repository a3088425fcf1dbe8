//! What the console does on a real node: a thin layer over [`Node`] and its group. Which parameters
//! were changed since the start is remembered here, until they are saved.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cluster::ProposeFailure;
use cluster_core::{Command as GroupCommand, GroupView, Outcome, State};
use futures_util::future::BoxFuture;
use recorder_core::call::CallView;
use recorder_core::call::pool::PhantomState;
use storage_core::record::Scope;
use storage_core::{Extension, NodeId, RecordingId, WallTime};
use tokio::sync::Mutex as AsyncMutex;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::{Actions, Code, Failure, Measured, Status, group};
use crate::alarms::Alarm;
use crate::completeness::{self, Report};
use crate::config::{self, Config, LiveSetting, LiveValues, Origin, Param, Params, SetError};
use crate::node::Node;
use crate::users::{self, UserRole, UsersError};
use crate::web::backend::{
    Backend, By, Code as Shared, PauseReply, PauseRequest, StartRequest, StopRequest, Target,
};

/// How long the group may take to confirm what somebody asked for on the console.
const PATIENCE: Duration = Duration::from_secs(10);
/// Who is told to have asked.
const CONSOLE: &str = "console";

/// A node as its console sees it.
pub struct NodeActions {
    node: Arc<Node>,
    /// The node and, through it, the others.
    backend: Arc<dyn Backend>,
    file: PathBuf,
    users_file: PathBuf,
    params: Params,
    /// Where trigger and rescue hear of new values; without a listener there is nobody to do it.
    live: watch::Sender<LiveValues>,
    changed: Mutex<BTreeMap<&'static str, LiveSetting>>,
    changing: AsyncMutex<()>,
}

impl NodeActions {
    /// `live` is what `al_rescuems`, `al_followms` and `al_maxparties` are sent through: those who
    /// go by them subscribe to it.
    #[must_use]
    pub fn new(
        node: Arc<Node>,
        backend: Arc<dyn Backend>,
        config: &Config,
        live: watch::Sender<LiveValues>,
    ) -> Self {
        Self {
            node,
            backend,
            file: config.file.clone(),
            users_file: config.web.usersfile.clone(),
            params: config.params.clone(),
            live,
            changed: Mutex::default(),
            changing: AsyncMutex::default(),
        }
    }

    async fn set(&self, setting: LiveSetting) -> Result<(), Failure> {
        match setting {
            LiveSetting::Role(role) => {
                if self.node.works.is_none() {
                    return Err(SetError::Witness.into());
                }
                let node = self.node.group.node();
                group::propose(self, GroupCommand::SetRole { node, role }).await?;
            }
            _ if self.live.is_closed() => return Err(SetError::Restart(setting.key()).into()),
            _ => self.live.send_modify(|values| {
                values.take(setting);
            }),
        }
        self.changes().insert(setting.key(), setting);
        Ok(())
    }

    fn changes(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, LiveSetting>> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn save(&self) -> Result<Vec<String>, Failure> {
        let changed = self.changes().clone();
        if changed.is_empty() {
            return Ok(vec!["no parameter was changed since the last save".to_owned()]);
        }
        let values = changed.iter().map(|(key, setting)| (*key, setting.value())).collect();
        let file = self.file.clone();
        blocking(move || config::save(&file, &values)).await?.map_err(|error| {
            tracing::warn!(%error, "parameters were not saved");
            Failure::new(Shared::Unavailable, error.to_string())
        })?;
        // What was changed again meanwhile is not in the file.
        self.changes().retain(|key, setting| changed.get(key) != Some(setting));
        let mut lines = Vec::new();
        for (key, setting) in &changed {
            lines.push(format!("{key} = {} is in {}", setting.value(), self.file.display()));
            lines.extend(self.above_the_file(key));
        }
        Ok(lines)
    }

    /// What was given in another place counts more than the file at the next start.
    fn above_the_file(&self, key: &str) -> Option<String> {
        let param = self.params.all.iter().find(|param| param.name == key)?;
        let place = match param.origin {
            Origin::File => return None,
            Origin::Environment => format!("{} in the environment", key.to_uppercase()),
            Origin::CommandLine => "the command line".to_owned(),
        };
        Some(format!("{place} stands above the file: change it there, too"))
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let done = spawn_blocking(work).await;
    done.map_err(|error| Failure::new(Shared::Internal, format!("it broke off: {error}")))
}

/// As the web server is told of a supervisor.
fn by() -> By {
    By { user: CONSOLE.to_owned(), role: UserRole::Supervisor, extension: None }
}

impl Actions for NodeActions {
    fn report(&self, day: WallTime) -> BoxFuture<'_, Result<Report, Failure>> {
        let backend = Arc::clone(&self.backend);
        Box::pin(async move {
            Ok(blocking(move || completeness::of_day(&*backend, day, &storage_core::Scope::ALL))
                .await??)
        })
    }

    fn status(&self) -> Status {
        let control = self.node.view();
        Status {
            view: self.node.group.view(),
            reasons: self.node.readiness().err().unwrap_or_default(),
            calls: control.calls,
            recordings: control.recordings,
            agents: control.agents,
            takeover: self.last_takeover(),
        }
    }

    fn views(&self) -> watch::Receiver<GroupView> {
        self.node.group.view_watch()
    }

    fn changing(&self) -> &AsyncMutex<()> {
        &self.changing
    }

    fn in_group(&self) -> bool {
        self.node.group.listens().is_some()
    }

    fn wish(&self) -> Option<NodeId> {
        self.node.group.read(State::wish)
    }

    fn recordings(&self) -> usize {
        self.node.view().recordings
    }

    fn last_takeover(&self) -> Option<Measured> {
        let takeover = self.node.group.view().takeover?;
        let last = self.node.takeovers.last().filter(|last| last.takeover.epoch == takeover.epoch);
        Some(Measured { takeover, gap_ms: last.and_then(|last| last.gap_ms) })
    }

    fn calls(&self) -> BoxFuture<'_, Vec<CallView>> {
        Box::pin(async {
            match &self.node.works {
                Some(works) => works.control.calls().await,
                None => Vec::new(),
            }
        })
    }

    fn phantoms(&self) -> BTreeMap<PhantomState, usize> {
        self.node.view().phantoms
    }

    fn params(&self) -> Vec<Param> {
        self.params.all.clone()
    }

    fn changed(&self) -> Vec<LiveSetting> {
        self.changes().values().copied().collect()
    }

    fn rules(&self) -> Vec<String> {
        self.params.rules.clone()
    }

    fn alarms(&self) -> Vec<Alarm> {
        self.node.hub.alarms.list()
    }

    fn set(&self, setting: LiveSetting) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(self.set(setting))
    }

    fn save(&self) -> BoxFuture<'_, Result<Vec<String>, Failure>> {
        Box::pin(self.save())
    }

    fn propose(&self, command: GroupCommand) -> BoxFuture<'_, Result<Outcome, ProposeFailure>> {
        tracing::info!(?command, "asked for on the console");
        Box::pin(self.node.group.propose(command, PATIENCE))
    }

    fn start_recording(
        &self,
        extension: Extension,
        scope: Scope,
    ) -> BoxFuture<'_, Result<RecordingId, Failure>> {
        let request = StartRequest { target: Target::Extension(extension), scope, by: by() };
        let started = self.backend.start_recording(request);
        Box::pin(async { started.await.map_err(Failure::from) })
    }

    fn stop_recording(&self, extension: Extension) -> BoxFuture<'_, Result<RecordingId, Failure>> {
        let request = StopRequest { target: Target::Extension(extension), by: by() };
        let stopped = self.backend.stop_recording(request);
        Box::pin(async { stopped.await.map_err(Failure::from) })
    }

    fn pause_recording(
        &self,
        extension: Extension,
        pause: bool,
    ) -> BoxFuture<'_, Result<(RecordingId, u64), Failure>> {
        let request = PauseRequest { target: Target::Extension(extension), pause, by: by() };
        let done = self.backend.pause_recording(request);
        Box::pin(async {
            let PauseReply { recordingid, pausedms } = done.await.map_err(Failure::from)?;
            Ok((recordingid, pausedms))
        })
    }

    fn scrub(&self) -> Result<String, Failure> {
        self.node.scrubs.send_modify(|asked| *asked += 1);
        Ok("voice files and logs are read over, slowly; `show alarms` tells what is damaged"
            .to_owned())
    }

    fn repair(&self, recording: RecordingId) -> BoxFuture<'_, Result<RecordingId, Failure>> {
        let repaired = self.backend.repair(recording);
        Box::pin(async { repaired.await.map_err(Failure::from) })
    }

    fn add_user(
        &self,
        name: String,
        role: UserRole,
        extension: Option<String>,
        password: String,
    ) -> BoxFuture<'_, Result<(), Failure>> {
        let file = self.users_file.clone();
        Box::pin(async move {
            let add = move || {
                users::add(&file, &name, role, extension.as_deref(), None, &password)?;
                tracing::info!(user = name, role = role.as_str(), "added on the console");
                Ok(())
            };
            blocking(add).await?.map_err(users_failure)
        })
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
fn users_failure(error: UsersError) -> Failure {
    let code: Code = match &error {
        UsersError::Duplicate(_) => Code::Refused,
        UsersError::BadName(_)
        | UsersError::BadExtension(_)
        | UsersError::BadTeam(_)
        | UsersError::BadPassword => Shared::BadValue.into(),
        UsersError::NoSuchUser(_) => Shared::NotFound.into(),
        UsersError::Read { .. }
        | UsersError::Write { .. }
        | UsersError::Syntax { .. }
        | UsersError::DuplicateTeam(_)
        | UsersError::BadStations { .. } => Shared::Unavailable.into(),
        UsersError::Hash(_) => Shared::Internal.into(),
    };
    Failure::new(code, error.to_string())
}
