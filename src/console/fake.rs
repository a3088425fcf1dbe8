//! A node that does what it is told, for tests of the console: a group that obeys at once, or not.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use cluster::{Group, ProposeFailure};
use cluster_core::{
    Cause, Command as GroupCommand, GroupView, Health, MemberView, Outcome, State, Takeover,
};
use futures_util::future::BoxFuture;
use recorder_core::call::CallView;
use recorder_core::call::pool::PhantomState;
use storage_core::completeness::Completeness;
use storage_core::record::Scope;
use storage_core::{Duty, Extension, NodeId, RecordingId, Role, WallTime};
use tokio::sync::Mutex as AsyncMutex;
use tokio::sync::watch;

use super::{Actions, Failure, Measured, Status};
use crate::alarms::Alarm;
use crate::completeness::Report;
use crate::config::{LiveSetting, Param};
use crate::users::UserRole;
use crate::web::backend::Code as Shared;

type Answer = Result<Outcome, ProposeFailure>;
/// Name, role, extension, password.
type User = (String, UserRole, Option<String>, String);

/// The node.
pub(super) struct Fake {
    group: bool,
    /// A real member that is asked instead.
    member: Option<Group>,
    view: watch::Sender<GroupView>,
    wish: Mutex<Option<NodeId>>,
    recordings: AtomicUsize,
    obeys: AtomicBool,
    answer: Mutex<Option<Answer>>,
    proposed: Mutex<Vec<GroupCommand>>,
    changed: Mutex<Vec<LiveSetting>>,
    pub(super) users: Mutex<Vec<User>>,
    changing: AsyncMutex<()>,
}

/// Members 1, 2, … of these roles, all well; the first active one leads; seen by node 1.
pub(super) fn view(roles: &[Role]) -> GroupView {
    let mut view = GroupView::alone(NodeId(1), roles[0]);
    let lead = roles.iter().position(|role| *role == Role::Active).unwrap_or(0);
    let member = |(index, role): (usize, &Role)| MemberView {
        node: NodeId(u16::try_from(index + 1).unwrap()),
        role: Some(*role),
        duty: match role {
            _ if index == lead => Duty::Lead,
            Role::Witness => Duty::None,
            _ => Duty::Standby,
        },
        health: (*role != Role::Witness).then_some(Health::GOOD),
        address: format!("10.0.0.{}:7400", index + 1),
        ..view.members[0].clone()
    };
    let members: Vec<_> = roles.iter().enumerate().map(member).collect();
    view.lead = Some(members[lead].node);
    (view.members, view.epoch) = (members, 1);
    view
}

impl Fake {
    pub(super) fn group(roles: &[Role]) -> Self {
        Self::new(true, view(roles))
    }

    pub(super) fn alone() -> Self {
        Self::new(false, view(&[Role::Active]))
    }

    /// A node without telephony in a real group.
    pub(super) fn member(member: Group) -> Self {
        Self { member: Some(member), ..Self::new(true, view(&[Role::Active])) }
    }

    fn new(group: bool, view: GroupView) -> Self {
        Self {
            group,
            member: None,
            view: watch::Sender::new(view),
            wish: Mutex::default(),
            recordings: AtomicUsize::default(),
            obeys: AtomicBool::new(true),
            answer: Mutex::default(),
            proposed: Mutex::default(),
            changed: Mutex::default(),
            users: Mutex::default(),
            changing: AsyncMutex::default(),
        }
    }

    /// So many recordings go on.
    pub(super) fn record(&self, count: usize) {
        self.recordings.store(count, Ordering::Relaxed);
    }

    /// Takes commands from now on and does nothing.
    pub(super) fn disobey(&self) {
        self.obeys.store(false, Ordering::Relaxed);
    }

    /// What the next command comes to.
    pub(super) fn answer(&self, answer: Answer) {
        *self.answer.lock().unwrap() = Some(answer);
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut GroupView)) {
        self.view.send_modify(change);
    }

    pub(super) fn proposed(&self) -> Vec<GroupCommand> {
        self.proposed.lock().unwrap().clone()
    }

    fn obey(&self, command: &GroupCommand) {
        match command {
            GroupCommand::Handover { to } => {
                *self.wish.lock().unwrap() = *to;
                if self.obeys.load(Ordering::Relaxed)
                    && let Some(to) = to
                {
                    self.change(|view| lead(view, *to));
                }
            }
            GroupCommand::Drain { node, on, .. } => self.change(|view| {
                let all = &mut view.members;
                let member = all.iter_mut().find(|member| member.node == *node).unwrap();
                member.drained = *on;
                let other = all.iter().find(|member| member.node != *node).unwrap().node;
                if *on && view.lead == Some(*node) {
                    lead(view, other);
                }
            }),
            _ => {}
        }
    }
}

fn lead(view: &mut GroupView, to: NodeId) {
    view.epoch += 1;
    let (from, epoch) = (view.lead, view.epoch);
    view.lead = Some(to);
    view.takeover =
        Some(Takeover { from, to: Some(to), epoch, cause: Cause::Planned, moves: true });
}

impl Actions for Fake {
    fn status(&self) -> Status {
        Status {
            view: self.views().borrow().clone(),
            reasons: Vec::new(),
            calls: 0,
            recordings: self.recordings(),
            agents: 0,
            takeover: self.last_takeover(),
        }
    }

    fn views(&self) -> watch::Receiver<GroupView> {
        self.member.as_ref().map_or_else(|| self.view.subscribe(), Group::view_watch)
    }

    fn changing(&self) -> &AsyncMutex<()> {
        &self.changing
    }

    fn in_group(&self) -> bool {
        self.group
    }

    fn wish(&self) -> Option<NodeId> {
        let agreed = self.member.as_ref().map(|member| member.read(State::wish));
        agreed.unwrap_or_else(|| *self.wish.lock().unwrap())
    }

    fn report(&self, day: WallTime) -> BoxFuture<'_, Result<Report, Failure>> {
        let day = day.to_string().chars().take(10).collect();
        let completeness = Completeness { calls: 3, recorded: 3, ..Completeness::default() };
        Box::pin(async { Ok(Report { day, completeness, unreachable: Vec::new(), only: None }) })
    }

    fn recordings(&self) -> usize {
        self.recordings.load(Ordering::Relaxed)
    }

    fn last_takeover(&self) -> Option<Measured> {
        let takeover = self.views().borrow().takeover?;
        Some(Measured { takeover, gap_ms: Some(120) })
    }

    fn calls(&self) -> BoxFuture<'_, Vec<CallView>> {
        Box::pin(async { Vec::new() })
    }

    fn phantoms(&self) -> BTreeMap<PhantomState, usize> {
        BTreeMap::from([(PhantomState::Free, 3)])
    }

    fn params(&self) -> Vec<Param> {
        Vec::new()
    }

    fn changed(&self) -> Vec<LiveSetting> {
        self.changed.lock().unwrap().clone()
    }

    fn rules(&self) -> Vec<String> {
        Vec::new()
    }

    fn alarms(&self) -> Vec<Alarm> {
        Vec::new()
    }

    fn set(&self, setting: LiveSetting) -> BoxFuture<'_, Result<(), Failure>> {
        self.changed.lock().unwrap().push(setting);
        Box::pin(async { Ok(()) })
    }

    fn save(&self) -> BoxFuture<'_, Result<Vec<String>, Failure>> {
        Box::pin(async { Ok(vec!["saved".to_owned()]) })
    }

    fn propose(&self, command: GroupCommand) -> BoxFuture<'_, Answer> {
        if let Some(member) = &self.member {
            return Box::pin(member.propose(command, Duration::from_secs(5)));
        }
        self.obey(&command);
        self.proposed.lock().unwrap().push(command);
        let answer = self.answer.lock().unwrap().take().unwrap_or(Ok(Outcome::Done));
        Box::pin(async move { answer })
    }

    fn start_recording(
        &self,
        extension: Extension,
        _: Scope,
    ) -> BoxFuture<'_, Result<RecordingId, Failure>> {
        Box::pin(async move {
            if extension.as_str() == "3100" {
                Ok(RecordingId::new(WallTime::from_millis(1), [7; 10]))
            } else {
                Err(Failure::new(Shared::NoCall, "there is no answered call there"))
            }
        })
    }

    fn stop_recording(&self, extension: Extension) -> BoxFuture<'_, Result<RecordingId, Failure>> {
        self.start_recording(extension, Scope::Station)
    }

    fn pause_recording(
        &self,
        extension: Extension,
        pause: bool,
    ) -> BoxFuture<'_, Result<(RecordingId, u64), Failure>> {
        let found = self.start_recording(extension, Scope::Station);
        Box::pin(async move { Ok((found.await?, if pause { 0 } else { 2_500 })) })
    }

    fn scrub(&self) -> Result<String, Failure> {
        Ok("it is begun".to_owned())
    }

    fn repair(&self, recording: RecordingId) -> BoxFuture<'_, Result<RecordingId, Failure>> {
        Box::pin(async move { Ok(recording) })
    }

    fn add_user(
        &self,
        name: String,
        role: UserRole,
        extension: Option<String>,
        password: String,
    ) -> BoxFuture<'_, Result<(), Failure>> {
        self.users.lock().unwrap().push((name, role, extension, password));
        Box::pin(async { Ok(()) })
    }
}
