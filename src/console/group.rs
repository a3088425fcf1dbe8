//! Commands that need the group: drain, takeover, drill, members. Each says what it waits for, and
//! waits no longer than [`Patience`]. What the group decides is `cluster-core`'s; here is the order
//! of the steps and what people are told.
//!
//! ```text
//!   drain:     somebody else fit? ─▶ Drain ─▶ another leads ─▶ own recordings over
//!   takeover:  fit and in service? ─▶ Handover ─▶ own grant
//!   drill:     Handover to the next ─▶ its grant, gap ─▶ Handover back ─▶ grant, gap ─▶ old wish
//!   replace:   AddMember new ─▶ RemoveMember old
//! ```

use std::time::Duration;

use cluster::ProposeFailure;
use cluster_core::{Command as GroupCommand, GroupView, MemberView, Outcome, Refusal};
use storage_core::{NodeId, RecordingId, Role};
use tokio::time::{Instant, sleep, timeout};

use super::format::{gap, health_words};
use super::output::Output;
use super::{Actions, Code, Failure, Measured};
use crate::config::HostPort;
use crate::web::backend::Code as Shared;

/// How long the group and its calls are waited for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a grant of the lead.
    pub lead: Duration,
    /// For the last recording of a node that is drained.
    pub recordings: Duration,
    /// For the gap of a take-over to be measured.
    pub gap: Duration,
    /// How often progress is told while recordings are waited for.
    pub report: Duration,
    /// How often what nobody tells is looked at.
    pub look: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            lead: Duration::from_secs(10),
            recordings: Duration::from_secs(600),
            gap: Duration::from_secs(3),
            report: Duration::from_secs(5),
            look: Duration::from_millis(100),
        }
    }
}

/// A command to the group on its way.
pub(super) struct Asking<'a> {
    pub(super) actions: &'a dyn Actions,
    pub(super) patience: Patience,
    pub(super) out: &'a Output,
}

impl Asking<'_> {
    fn view(&self) -> GroupView {
        self.actions.views().borrow().clone()
    }

    /// Takes this node out of service: another one leads, and its own recordings end.
    pub(super) async fn drain(&self) -> Result<(), Failure> {
        let view = self.view();
        let own = view.node;
        self.must_record(&view)?;
        if !self.actions.in_group() {
            return Err(alone("nobody else can take its calls; to stop it use SIGTERM"));
        }
        if next_recorder(&view, own).is_none() {
            let message = format!(
                "nobody else can record, so node {own} goes on: {}; put one of them right first",
                why_not(&view, own)
            );
            return Err(Failure::new(Shared::Unavailable, message));
        }
        let drain = GroupCommand::Drain { node: own, on: true, moves: true };
        self.propose(drain).await?;
        self.out.line(format!("node {own} goes out of service; waiting for another lead")).await;
        let another = move |view: &GroupView| {
            let drained = view.member(own).is_none_or(|member| member.drained);
            drained && view.lead.is_some_and(|lead| lead != own)
        };
        let Some(view) = self.wait_for(another).await else {
            let message = format!(
                "no other member took the lead within {} s; node {own} stays out of service as \
                 soon as one can: `drain off` puts it back",
                self.patience.lead.as_secs()
            );
            return Err(Failure::new(Code::Late, message));
        };
        self.out.line(lead_line(&view)).await;
        self.recordings_over().await?;
        self.out
            .line(format!(
                "node {own} is drained and records nothing: it can be stopped; `drain off` or a \
                 restart puts it back into service"
            ))
            .await;
        Ok(())
    }

    async fn recordings_over(&self) -> Result<(), Failure> {
        let deadline = Instant::now() + self.patience.recordings;
        let mut told: Option<(usize, Instant)> = None;
        loop {
            let left = self.actions.recordings();
            let now = Instant::now();
            if left == 0 {
                return Ok(());
            }
            if now >= deadline {
                let message = format!(
                    "{left} recordings still go on here after {} s; the node stays out of service: \
                     look at `show calls`, and say drain again to go on waiting",
                    self.patience.recordings.as_secs()
                );
                return Err(Failure::new(Code::Late, message));
            }
            let due = told.is_none_or(|(_, when)| now - when >= self.patience.report);
            if due {
                let seconds = (deadline - now).as_secs();
                let line = format!("{left} recordings go on here; waiting {seconds} s at most");
                self.out.line(line).await;
                told = Some((left, now));
            }
            sleep(self.patience.look).await;
        }
    }

    /// Puts this node back into service.
    pub(super) async fn undrain(&self) -> Result<(), Failure> {
        let own = self.view().node;
        self.propose(GroupCommand::Drain { node: own, on: false, moves: true }).await?;
        self.out.line(format!("node {own} is in service")).await;
        Ok(())
    }

    /// This node takes the lead.
    pub(super) async fn takeover(&self) -> Result<(), Failure> {
        let view = self.view();
        let own = view.node;
        self.must_record(&view)?;
        if view.lead == Some(own) {
            self.out.line(format!("node {own} leads already, since epoch {}", view.epoch)).await;
            return Ok(());
        }
        if let Some(member) = view.member(own) {
            if member.drained {
                let message = format!("node {own} is out of service; say `drain off` first");
                return Err(Failure::new(Shared::Unavailable, message));
            }
            if let Some(health) = member.health.filter(|health| !health.fit()) {
                let message = format!(
                    "node {own} cannot record now ({}); see `show alarms` for what to do",
                    health_words(health)
                );
                return Err(Failure::new(Shared::Unavailable, message));
            }
        }
        let before = self.actions.wish();
        let view = self.hand_to(own, before).await?;
        self.out.line(lead_line(&view)).await;
        Ok(())
    }

    /// Nobody is preferred for the lead any more beyond what roles say.
    pub(super) async fn no_wish(&self) -> Result<(), Failure> {
        self.propose(GroupCommand::Handover { to: None }).await?;
        self.out.line("roles alone say who leads").await;
        Ok(())
    }

    /// A planned take-over to the next recorder and back.
    pub(super) async fn drill(&self) -> Result<(), Failure> {
        let view = self.view();
        if !self.actions.in_group() {
            return Err(alone("there is nobody to hand the lead to"));
        }
        let Some(first) = view.lead else {
            let message = "nobody leads now; see `show status` for why, and try again later";
            return Err(Failure::new(Shared::Unavailable, message));
        };
        let Some(next) = next_recorder(&view, first) else {
            let message = format!(
                "nobody else can record: {}; put one of them right first",
                why_not(&view, first)
            );
            return Err(Failure::new(Shared::Unavailable, message));
        };
        let wish = self.actions.wish();
        self.out.line(format!("node {first} leads; handing over to node {next}")).await;
        self.leg(next, wish).await?;
        self.out.line(format!("handing back to node {first}")).await;
        let back = self.leg(first, wish).await;
        // Whoever was preferred before is preferred again, whatever came of the way back.
        let restored = self.propose(GroupCommand::Handover { to: wish }).await;
        if let Err(failure) = back {
            let lead = self.view().lead.map_or("nobody".to_owned(), |lead| format!("node {lead}"));
            return Err(Failure::new(failure.code, format!("{}; {lead} leads", failure.message)));
        }
        restored.map(|_| ())
    }

    /// One way of a drill, with what it cost.
    async fn leg(&self, to: NodeId, wish: Option<NodeId>) -> Result<(), Failure> {
        let from = self.view().lead;
        let asked = Instant::now();
        let view = self.hand_to(to, wish).await?;
        let granted_ms = asked.elapsed().as_millis();
        let measured = self.measured(view.epoch).await;
        let from = from.map_or("nobody".to_owned(), |node| format!("node {node}"));
        self.out
            .line(format!(
                "{from} to node {to}: granted after {granted_ms} ms, epoch {}, {}",
                view.epoch,
                gap(measured.and_then(|measured| measured.gap_ms))
            ))
            .await;
        Ok(())
    }

    /// The take-over of this epoch, once its gap is measured or is not going to be.
    async fn measured(&self, epoch: u64) -> Option<Measured> {
        let deadline = Instant::now() + self.patience.gap;
        loop {
            let last = self.actions.last_takeover().filter(|last| last.takeover.epoch >= epoch);
            let known = last.is_some_and(|last| last.gap_ms.is_some());
            if known || Instant::now() >= deadline {
                return last;
            }
            sleep(self.patience.look).await;
        }
    }

    /// Asks for the lead to go to `to` and waits for it; if it does not come, the earlier wish
    /// holds again.
    async fn hand_to(&self, to: NodeId, before: Option<NodeId>) -> Result<GroupView, Failure> {
        self.propose(GroupCommand::Handover { to: Some(to) }).await?;
        if let Some(view) = self.wait_for(move |view| view.lead == Some(to)).await {
            return Ok(view);
        }
        // Otherwise the lead would move at some later moment when nobody expects it.
        self.propose(GroupCommand::Handover { to: before }).await?;
        let message = format!(
            "node {to} was not given the lead within {} s and is not asked any more; see its \
             health in `show status`",
            self.patience.lead.as_secs()
        );
        Err(Failure::new(Code::Late, message))
    }

    /// A member joins.
    pub(super) async fn add_member(&self, node: NodeId, place: &HostPort) -> Result<(), Failure> {
        self.must_be_group()?;
        let address = place.to_string();
        self.propose(GroupCommand::AddMember { node, address }).await?;
        self.out
            .lines([
                format!("node {node} at {place} is a member; it votes once it has caught up"),
                format!("add \"{node}={place}\" to al_peers on every member and start node {node}"),
            ])
            .await;
        Ok(())
    }

    /// A member leaves for good.
    pub(super) async fn remove_member(&self, node: NodeId) -> Result<(), Failure> {
        self.must_be_group()?;
        self.must_be_another(node)?;
        self.propose(GroupCommand::RemoveMember { node }).await?;
        self.out
            .lines([
                format!("node {node} is no member any more; its number is not used again"),
                format!("take \"{node}=…\" out of al_peers on every member"),
            ])
            .await;
        Ok(())
    }

    /// The new member first, so that the group is never smaller than before.
    pub(super) async fn replace_member(
        &self,
        old: NodeId,
        new: NodeId,
        place: &HostPort,
    ) -> Result<(), Failure> {
        self.must_be_group()?;
        self.must_be_another(old)?;
        if self.view().member(old).is_none() {
            return Err(refused(&Refusal::NotMember(old)));
        }
        self.add_member(new, place).await?;
        self.remove_member(old).await.map_err(|failure| {
            let message = format!(
                "node {new} was added, but node {old} is still a member: {}; then say `remove \
                 member {old}`",
                failure.message
            );
            Failure::new(failure.code, message)
        })
    }

    /// A recording is given up.
    pub(super) async fn resolve(&self, recording: RecordingId) -> Result<(), Failure> {
        self.propose(GroupCommand::Resolve { recording }).await?;
        self.out.line(format!("recording {recording} is waited for no longer")).await;
        Ok(())
    }

    fn must_record(&self, view: &GroupView) -> Result<(), Failure> {
        match view.member(view.node).and_then(|member| member.role) {
            Some(Role::Witness) => {
                let message =
                    format!("node {} is a witness and never leads; ask a recorder", view.node);
                Err(Failure::new(Shared::Unavailable, message))
            }
            _ => Ok(()),
        }
    }

    fn must_be_group(&self) -> Result<(), Failure> {
        if self.actions.in_group() {
            return Ok(());
        }
        Err(alone("to make a group name all members in al_peers on each of them and restart them"))
    }

    fn must_be_another(&self, node: NodeId) -> Result<(), Failure> {
        if self.view().node != node {
            return Ok(());
        }
        let message = format!("node {node} is this one; say it on the console of another member");
        Err(Failure::new(Code::Refused, message))
    }

    async fn propose(&self, command: GroupCommand) -> Result<Outcome, Failure> {
        propose(self.actions, command).await
    }

    /// The first view in which something is so; nothing if that takes too long.
    async fn wait_for(&self, is_so: impl FnMut(&GroupView) -> bool) -> Option<GroupView> {
        let mut views = self.actions.views();
        let view = timeout(self.patience.lead, views.wait_for(is_so)).await.ok()?.ok()?;
        Some(view.clone())
    }
}

/// Puts a command into the group's log.
pub(super) async fn propose(
    actions: &dyn Actions,
    command: GroupCommand,
) -> Result<Outcome, Failure> {
    match actions.propose(command).await {
        Ok(Outcome::Refused(refusal)) => Err(refused(&refusal)),
        Ok(outcome) => Ok(outcome),
        Err(failure) => Err(not_proposed(failure)),
    }
}

fn refused(refusal: &Refusal) -> Failure {
    let (code, remedy) = match refusal {
        Refusal::NotMember(_) => (Shared::NotFound.into(), "`show status` lists the members"),
        Refusal::NumberUsed(_) | Refusal::Senseless(_) => (Code::Refused, ""),
        Refusal::LastMember => (Code::Refused, "add another member first"),
        Refusal::PhantomsOverlap { .. } => (Code::Refused, "change al_phantoms on one of them"),
        Refusal::Stale | Refusal::NotSealer(_) => (Code::Refused, "try again"),
        Refusal::UnknownRecording | Refusal::UnknownStretch => {
            (Shared::NotFound.into(), "it is finished, or was never begun; search the catalog")
        }
        Refusal::TooMany => (Code::Refused, "wait until some calls are over"),
        Refusal::GoesOn(_) => (Code::Refused, "stop it there"),
        Refusal::Answers(_) => (Code::Refused, "nothing is to be done; it tells that itself"),
    };
    let message = match remedy {
        "" => refusal.to_string(),
        remedy => format!("{refusal}; {remedy}"),
    };
    Failure::new(code, message)
}

fn not_proposed(failure: ProposeFailure) -> Failure {
    let (code, remedy) = match failure {
        ProposeFailure::Late => (
            Code::Late,
            "it may still come about: see `show status` for whether a majority answers",
        ),
        ProposeFailure::NotTaken(_) | ProposeFailure::Busy => {
            (Shared::Busy.into(), "try again in a moment")
        }
        ProposeFailure::Stopped => (Shared::Unavailable.into(), "restart the node"),
    };
    Failure::new(code, format!("{failure}; {remedy}"))
}

fn alone(rest: &str) -> Failure {
    Failure::new(Shared::Unavailable, format!("this node is alone: {rest}"))
}

fn lead_line(view: &GroupView) -> String {
    let from = view.takeover.filter(|takeover| takeover.epoch == view.epoch).and_then(|t| t.from);
    let from = from.map_or(String::new(), |node| format!(" after node {node}"));
    let lead = view.lead.map_or("nobody".to_owned(), |node| format!("node {node}"));
    format!("{lead} leads{from}, epoch {}", view.epoch)
}

/// Who would lead next: the order of the group's own decision.
fn next_recorder(view: &GroupView, but: NodeId) -> Option<NodeId> {
    let fit = view.members.iter().filter(|member| member.node != but && ails(member).is_none());
    fit.min_by_key(|member| (member.role, member.node)).map(|member| member.node)
}

/// Why a member could not lead now.
fn ails(member: &MemberView) -> Option<String> {
    if member.role == Some(Role::Witness) {
        return Some("is a witness".to_owned());
    }
    if !member.up {
        return Some("does not answer".to_owned());
    }
    if member.drained {
        return Some("is out of service".to_owned());
    }
    match member.health {
        Some(health) if health.fit() => None,
        Some(health) => Some(format!("cannot record ({})", health_words(health))),
        None => Some("has not said yet how it is".to_owned()),
    }
}

fn why_not(view: &GroupView, but: NodeId) -> String {
    let others = view.members.iter().filter(|member| member.node != but);
    let reasons: Vec<_> =
        others.filter_map(|m| Some(format!("node {} {}", m.node, ails(m)?))).collect();
    if reasons.is_empty() { "there is no other member".to_owned() } else { reasons.join(", ") }
}

#[cfg(test)]
mod tests {
    use cluster::{Group, GroupConfig};
    use cluster_core::Health;
    use storage_core::Role::{Active, Backup, Witness};

    use super::*;
    use crate::console::fake::Fake;

    const QUICK: Patience = Patience {
        lead: Duration::from_millis(50),
        recordings: Duration::from_millis(80),
        gap: Duration::from_millis(20),
        report: Duration::ZERO,
        look: Duration::from_millis(1),
    };

    /// What a command came to, with its lines; none is so talkative that it has to wait.
    async fn ask(
        fake: &Fake,
        command: impl AsyncFnOnce(&Asking<'_>) -> Result<(), Failure>,
    ) -> (Result<(), String>, Vec<String>) {
        let (out, mut lines) = Output::new();
        let asking = Asking { actions: fake, patience: QUICK, out: &out };
        let result = command(&asking).await.map_err(|failure| failure.to_string());
        let told = std::iter::from_fn(|| lines.try_recv().ok()).collect();
        (result, told)
    }

    fn sick(fake: &Fake, node: u16) {
        fake.change(|view| {
            let member = view.members.iter_mut().find(|m| m.node == NodeId(node)).unwrap();
            member.health = Some(Health { aes: false, ..Health::GOOD });
        });
    }

    #[tokio::test]
    async fn a_drained_node_hands_over_waits_for_its_calls_and_says_so() {
        let fake = Fake::group(&[Active, Backup, Witness]);
        fake.record(2);
        let (result, lines) =
            tokio::join!(ask(&fake, async |asking| asking.drain().await), async {
                sleep(Duration::from_millis(20)).await;
                fake.record(0);
            })
            .0;
        assert_eq!(result, Ok(()), "{lines:?}");
        assert!(lines.contains(&"node 2 leads after node 1, epoch 2".to_owned()), "{lines:?}");
        assert!(lines.iter().any(|line| line.starts_with("2 recordings go on here; waiting")));
        assert!(lines.last().unwrap().starts_with("node 1 is drained and records nothing"));

        let (result, _) = ask(&fake, async |asking| asking.undrain().await).await;
        assert_eq!(result, Ok(()));
        assert!(!fake.status().view.members[0].drained);
    }

    #[tokio::test]
    async fn calls_that_do_not_end_are_not_waited_for_for_ever() {
        let fake = Fake::group(&[Active, Backup, Witness]);
        fake.record(1);
        let (result, _) = ask(&fake, async |asking| asking.drain().await).await;
        assert!(result.unwrap_err().starts_with("late 1 recordings still go on here"));
    }

    #[tokio::test]
    async fn nothing_is_drained_where_nobody_else_can_record() {
        let alone = Fake::alone();
        let (result, _) = ask(&alone, async |asking| asking.drain().await).await;
        assert!(result.unwrap_err().starts_with("unavailable this node is alone"));

        let fake = Fake::group(&[Active, Backup, Witness]);
        sick(&fake, 2);
        let (result, _) = ask(&fake, async |asking| asking.drain().await).await;
        let told = result.unwrap_err();
        assert!(told.contains("node 2 cannot record (no AES), node 3 is a witness"), "{told}");
        assert_eq!(fake.proposed(), [], "node 1 goes on");
    }

    #[tokio::test]
    async fn a_takeover_waits_for_the_grant() {
        let fake = Fake::group(&[Backup, Active, Witness]);
        let (result, lines) = ask(&fake, async |asking| asking.takeover().await).await;
        assert_eq!((result, lines), (Ok(()), vec!["node 1 leads after node 2, epoch 2".into()]));
        let (result, lines) = ask(&fake, async |asking| asking.takeover().await).await;
        assert_eq!(result, Ok(()));
        assert_eq!(lines, ["node 1 leads already, since epoch 2"]);
    }

    #[tokio::test]
    async fn a_lead_that_is_not_granted_is_not_wished_for_any_more() {
        let fake = Fake::group(&[Backup, Active, Witness]);
        fake.disobey();
        let (result, _) = ask(&fake, async |asking| asking.takeover().await).await;
        assert!(result.unwrap_err().starts_with("late node 1 was not given the lead"));
        assert_eq!(fake.wish(), None);

        sick(&fake, 1);
        let (result, _) = ask(&fake, async |asking| asking.takeover().await).await;
        assert!(result.unwrap_err().contains("node 1 cannot record now (no AES)"));
        let witness = Fake::group(&[Witness, Active, Backup]);
        let (result, _) = ask(&witness, async |asking| asking.takeover().await).await;
        assert!(result.unwrap_err().contains("is a witness and never leads"));
    }

    #[tokio::test]
    async fn a_drill_goes_there_and_back_and_leaves_the_wish_as_it_was() {
        let fake = Fake::group(&[Active, Backup, Witness]);
        let (result, lines) = ask(&fake, async |asking| asking.drill().await).await;
        assert_eq!(result, Ok(()), "{lines:?}");
        assert_eq!(lines.len(), 4, "{lines:?}");
        for (line, begin, end) in [
            (&lines[1], "node 1 to node 2: granted after ", "epoch 2, gap 120 ms"),
            (&lines[3], "node 2 to node 1: granted after ", "epoch 3, gap 120 ms"),
        ] {
            assert!(line.starts_with(begin) && line.ends_with(end), "{lines:?}");
        }
        assert_eq!((fake.wish(), fake.status().view.lead), (None, Some(NodeId(1))));

        let (result, _) = ask(&Fake::alone(), async |asking| asking.drill().await).await;
        assert!(result.unwrap_err().contains("this node is alone"));
    }

    #[tokio::test]
    async fn members_come_before_others_go() {
        let fake = Fake::group(&[Active, Backup, Witness]);
        let place: HostPort = crate::config::host_port("10.0.0.4", 7400).unwrap();
        let (result, lines) =
            ask(&fake, async |asking| asking.replace_member(NodeId(2), NodeId(4), &place).await)
                .await;
        assert_eq!(result, Ok(()));
        assert!(lines[1].starts_with("add \"4=10.0.0.4:7400\" to al_peers"), "{lines:?}");
        let node = NodeId(4);
        let address = "10.0.0.4:7400".to_owned();
        assert_eq!(
            fake.proposed(),
            [
                GroupCommand::AddMember { node, address },
                GroupCommand::RemoveMember { node: NodeId(2) }
            ]
        );
        let (result, _) = ask(&fake, async |asking| asking.remove_member(NodeId(1)).await).await;
        assert!(result.unwrap_err().contains("on the console of another member"));
        let (result, _) =
            ask(&Fake::alone(), async |asking| asking.add_member(NodeId(4), &place).await).await;
        assert!(result.unwrap_err().contains("name all members in al_peers"));
    }

    #[tokio::test]
    async fn a_refusal_names_the_thing_and_the_remedy() {
        let fake = Fake::group(&[Active, Backup, Witness]);
        let id: RecordingId = "01890000-0000-7000-8000-000000000000".parse().unwrap();
        for (answer, told) in [
            (
                Ok(Outcome::Refused(Refusal::NotMember(NodeId(9)))),
                "notfound node 9 is not a member",
            ),
            (Ok(Outcome::Refused(Refusal::NumberUsed(NodeId(2)))), "refused number 2 is or was"),
            (Ok(Outcome::Refused(Refusal::LastMember)), "refused the last voting member cannot be"),
            (
                Ok(Outcome::Refused(Refusal::UnknownRecording)),
                "notfound no such open recording; it",
            ),
            (Err(ProposeFailure::Late), "late the group did not confirm in time; it may"),
            (Err(ProposeFailure::Busy), "busy this member is too busy; try again"),
            (Err(ProposeFailure::Stopped), "unavailable this member has ended; restart"),
        ] {
            fake.answer(answer);
            let (result, _) = ask(&fake, async |asking| asking.resolve(id).await).await;
            let failure = result.unwrap_err();
            assert!(failure.starts_with(told), "{failure}");
        }
    }

    /// An active, a backup and a witness on loopback, the active leading; both recorders are well.
    async fn real_group(folder: &std::path::Path) -> Vec<Group> {
        let listeners: Vec<_> =
            (0..3).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let peers: std::collections::BTreeMap<_, _> = (1..)
            .map(NodeId)
            .zip(listeners.iter().map(|l| l.local_addr().unwrap().to_string()))
            .collect();
        drop(listeners);
        let mut groups = Vec::new();
        for (node, role) in (1..).map(NodeId).zip([Active, Backup, Witness]) {
            let config = GroupConfig {
                node,
                role,
                listen: peers[&node].clone(),
                peers: peers.clone(),
                tls: None,
                heartbeat: Duration::from_millis(20),
                election: Duration::from_millis(200),
                dir: folder.join(node.to_string()),
                phantoms: Vec::new(),
                program: String::new(),
                patience: cluster_core::Patience::default(),
            };
            let group = Group::join(config).await.unwrap();
            if role != Witness {
                drop(group.report_health(Health::GOOD, Duration::from_secs(60)));
            }
            groups.push(group);
        }
        for group in &groups {
            let mut views = group.view_watch();
            let settled = views.wait_for(|view| {
                let good = |node| view.member(NodeId(node)).and_then(|member| member.health);
                let well = [1, 2].iter().all(|node| good(*node) == Some(Health::GOOD));
                view.lead == Some(NodeId(1)) && well && view.members.iter().all(|m| m.up)
            });
            drop(timeout(Duration::from_secs(20), settled).await.expect("it settles").unwrap());
        }
        groups
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_real_group_is_drilled_drained_and_changed() {
        const PATIENT: Patience = Patience { lead: Duration::from_secs(15), ..QUICK };
        let folder = tempfile::tempdir().unwrap();
        let groups = real_group(folder.path()).await;
        let nodes: Vec<_> = groups.iter().cloned().map(Fake::member).collect();
        let (out, mut lines) = Output::new();
        let asking = |node: usize| Asking { actions: &nodes[node], patience: PATIENT, out: &out };

        // Said on the witness, for the others.
        asking(2).drill().await.unwrap();
        assert_eq!((nodes[2].wish(), groups[2].view().lead), (None, Some(NodeId(1))));
        // The others hear of it a moment later.
        let epoch = groups[2].view().epoch;
        drop(groups[1].view_watch().wait_for(|view| view.epoch >= epoch).await.unwrap());
        asking(1).takeover().await.unwrap();
        assert_eq!((groups[1].view().lead, nodes[1].wish()), (Some(NodeId(2)), Some(NodeId(2))));
        asking(1).drain().await.unwrap();
        assert_eq!(groups[1].view().lead, Some(NodeId(1)));
        let drained = |view: &GroupView| view.member(NodeId(2)).is_some_and(|m| m.drained);
        drop(groups[0].view_watch().wait_for(drained).await.unwrap());
        let refused = asking(0).drain().await.unwrap_err().to_string();
        assert!(refused.contains("node 2 is out of service"), "{refused}");
        asking(1).undrain().await.unwrap();

        let place = crate::config::host_port("127.0.0.1", 1).unwrap();
        asking(0).add_member(NodeId(4), &place).await.unwrap();
        let used = asking(0).add_member(NodeId(2), &place).await.unwrap_err().to_string();
        assert!(used.starts_with("refused number 2 is or was a member's"), "{used}");
        asking(0).remove_member(NodeId(4)).await.unwrap();
        let gone = asking(0).remove_member(NodeId(4)).await.unwrap_err().to_string();
        assert!(gone.starts_with("notfound node 4 is not a member"), "{gone}");
        let told: Vec<_> = std::iter::from_fn(|| lines.try_recv().ok()).collect();
        assert!(told[1].starts_with("node 1 to node 2: granted after "), "{told:#?}");
        assert!(told[3].starts_with("node 2 to node 1: granted after "), "{told:#?}");
    }
}
