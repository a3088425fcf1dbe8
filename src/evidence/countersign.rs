//! Has the node's checkpoints signed by the other members, and signs theirs, through the group's log. When an own one is
//! proposed is decided in [`super::rounds`], whether another's continues what was seen in
//! [`storage_core::countersign`], what is kept in [`storage::countersigned`]. Nothing waits for any of it: what does not
//! get through is tried again, and recording goes on without.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cluster::{Group, ProposeFailure};
use cluster_core::{Change, Command, GroupView, Outcome, ProposeError};
use recorder::clock::Clock;
use storage::countersigned::{Answer, Countersigned, Lack};
use storage::disk::RealDisk;
use storage::{Manifest, VoiceError};
use storage_core::countersign::{Breach, Countersignature, Vouched};
use storage_core::{MonoTime, NodeId};
use tokio::sync::broadcast;
use tokio::task::spawn_blocking;

use super::rounds::{Rounds, Subject};
use crate::alarms::Alarm;
use crate::hub::Hub;

const BEAT: Duration = Duration::from_millis(500);
/// How long the group may take to confirm a proposal.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a proposal that was not taken rests.
const AGAIN: Duration = Duration::from_secs(5);
/// Changes of the log that are looked at in one beat.
const CHANGES_MAX: usize = 10_000;

/// What it works with.
pub struct Parts {
    /// The other members.
    pub group: Group,
    /// The own manifest.
    pub manifest: Arc<Manifest>,
    /// `al_datadir`.
    pub datadir: std::path::PathBuf,
    /// Where people hear of it.
    pub hub: Arc<Hub>,
}

/// What is kept, and what is wrong with writing it.
struct Work {
    parts: Parts,
    clock: Clock,
    rounds: Rounds,
    /// Alarms that are raised, with the member that each is about.
    raised: BTreeMap<NodeId, &'static str>,
    /// It was said that members are to be upgraded first.
    waits: bool,
    /// What was not taken is not tried again before.
    again: MonoTime,
}

/// Signs and has signed until it is stopped.
pub async fn run(parts: Parts) {
    // Before the folder is read, so that nothing is missed meanwhile.
    let mut changes = parts.group.subscribe();
    let clock = Clock::start();
    let mut work = Work {
        parts,
        clock,
        rounds: Rounds::default(),
        raised: BTreeMap::new(),
        waits: false,
        again: MonoTime::default(),
    };
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut kept = None;
    loop {
        beat.tick().await;
        let taken = drain(&mut changes);
        let opened = kept.take();
        let (manifest, datadir) = (Arc::clone(&work.parts.manifest), work.parts.datadir.clone());
        let settled = spawn_blocking(move || {
            let mut kept = match opened {
                Some(kept) => kept,
                None => open(&datadir, manifest)?,
            };
            let settled = take(&mut kept, taken).and_then(|()| kept.settle());
            Ok((kept, settled))
        });
        let Ok(settled) = settled.await else { return };
        let (mut now_kept, answers) = match settled {
            Ok((kept, Ok(answers))) => (kept, answers),
            Ok((kept_so_far, Err(error))) => {
                kept = Some(kept_so_far);
                work.parts.hub.alarms.raise(not_kept(&error));
                continue;
            }
            Err(error) => {
                work.parts.hub.alarms.raise(not_kept(&error));
                continue;
            }
        };
        work.parts.hub.alarms.clear("notcountersigned", "");
        work.tell(&now_kept);
        work.answer(&mut now_kept, answers).await;
        work.ask(&now_kept).await;
        kept = Some(now_kept);
    }
}

fn open(dir: &std::path::Path, manifest: Arc<Manifest>) -> Result<Countersigned, VoiceError> {
    Countersigned::open(RealDisk::shared(), dir, manifest, |path| {
        let path = path.display();
        tracing::warn!(%path, "what was seen of a node's manifest cannot be read, and begins anew");
    })
}

/// What the log has brought. What a reader that fell behind has missed is proposed again by whoever misses an answer.
fn drain(changes: &mut broadcast::Receiver<Change>) -> Vec<Change> {
    let mut taken = Vec::new();
    for _ in 0..CHANGES_MAX {
        match changes.try_recv() {
            Ok(change @ (Change::Checkpoint { .. } | Change::Countersigned { .. })) => {
                taken.push(change);
            }
            Ok(_) | Err(broadcast::error::TryRecvError::Lagged(_)) => {}
            Err(_) => break,
        }
    }
    taken
}

fn take(kept: &mut Countersigned, changes: Vec<Change>) -> Result<(), VoiceError> {
    for change in changes {
        match change {
            Change::Checkpoint { index, node, checkpoint, lacks } if node != kept.node() => {
                let taken = Vouched::read(&checkpoint)
                    .is_some_and(|checkpoint| kept.checkpoint(index, node, checkpoint, lacks));
                if !taken {
                    tracing::warn!(peer = %node, "a checkpoint that its node has not signed");
                }
            }
            Change::Countersigned { countersignature, before } => {
                let before = before.as_deref().and_then(Countersignature::read);
                if let Some(signed) = Countersignature::read(&countersignature)
                    && signed.of.signed.node == kept.node()
                    && !kept.countersigned(signed, before)?
                {
                    tracing::warn!(peer = %signed.by, "a countersignature that is none of this node's checkpoints");
                }
            }
            _ => {}
        }
    }
    Ok(())
}

impl Work {
    /// Tells the members whose checkpoints were taken.
    async fn answer(&self, kept: &mut Countersigned, answers: Vec<Answer>) {
        let node = self.parts.group.node();
        let said: Vec<_> = answers
            .into_iter()
            .map(|answer| {
                let countersignature = Box::new(answer.signed.written());
                let before = answer.before.map(|before| Box::new(before.written()));
                let command = Command::Countersign { node, countersignature, before };
                (answer, self.parts.group.submit(command, PATIENCE))
            })
            .collect();
        for (answer, pending) in said {
            let outcome = pending.outcome().await;
            if !is_applied(&outcome) {
                kept.not_said(&answer);
            }
        }
    }

    /// Puts the newest own checkpoint before the group, if it is time.
    async fn ask(&mut self, kept: &Countersigned) {
        let Some(own) = self.parts.manifest.last_checkpoint() else { return };
        let (view, now) = (self.parts.group.view(), self.clock.mono());
        let missing = kept.missing(&own, &others(&view));
        let lacks = kept.lack().is_some();
        let subject = Subject { lines: own.signed.manifest.count, lacks };
        if now < self.again || !self.rounds.is_due(now, subject, &missing) {
            return;
        }
        let checkpoint = own.written();
        let command = Command::Checkpoint { node: view.node, checkpoint, lacks };
        let outcome = self.parts.group.propose(command, PATIENCE).await;
        if is_applied(&outcome) {
            self.waits = false;
            self.rounds.asked(now, subject, missing);
            return;
        }
        self.again = now + AGAIN;
        if let Err(ProposeFailure::NotTaken(error @ ProposeError::Level { .. })) = outcome
            && !std::mem::replace(&mut self.waits, true)
        {
            tracing::info!(%error, "checkpoints are not countersigned yet");
        }
    }

    /// Raises and clears alarms.
    fn tell(&mut self, kept: &Countersigned) {
        let view = self.parts.group.view();
        let alarms = &self.parts.hub.alarms;
        let mut raised = BTreeMap::new();
        for (node, breach, seen) in kept.breaches() {
            // Of who has left for good nothing is to be done.
            if view.member(node).is_some() {
                let alarm = broken(node, breach, &seen.last);
                raised.insert(node, alarm.name);
                alarms.raise(alarm);
            }
        }
        if let Some(lack) = kept.lack() {
            let alarm = lacking(view.node, lack);
            raised.insert(view.node, alarm.name);
            alarms.raise(alarm);
        }
        for (node, name) in std::mem::replace(&mut self.raised, raised) {
            if self.raised.get(&node) != Some(&name) {
                alarms.clear(name, &node.to_string());
            }
        }
    }
}

/// Members that can be asked now.
fn others(view: &GroupView) -> BTreeSet<NodeId> {
    let others = view.members.iter().filter(|member| member.node != view.node && member.reachable);
    others.map(|member| member.node).collect()
}

const fn is_applied(outcome: &Result<Outcome, ProposeFailure>) -> bool {
    matches!(outcome, Ok(Outcome::Done | Outcome::Already))
}

const FIND_OUT: &str = "find out who did what to this node's data folder: run `astlogger verify` there, with --against and another \
    node's data folder; what is missing is on the other nodes and in backups. Then move the file seen-NODE.json in \
    manifest/countersigned on the other nodes, and that folder on this node, to a safe place: they are the proof, and its \
    checkpoints are signed again from then on";

fn broken(node: NodeId, breach: Breach, last: &Vouched) -> Alarm {
    let subject = node.to_string();
    let (at, lines) = (last.signed.at, last.signed.manifest.count);
    let seen = format!("the last checkpoint that was in order is of {at}, over {lines} lines");
    if breach.is_of_key() {
        return Alarm {
            name: "keychanged",
            subject,
            message: format!("node {node} signs its manifest with another key than before; {seen}"),
            remedy: "if the node's signing key was lost and replaced, move seen-NODE.json in manifest/countersigned on the other \
                nodes to a safe place; otherwise somebody else signs in its name: bring its key back",
        };
    }
    let message = format!(
        "node {node} was put back to an earlier state, or its manifest was changed: {breach}; {seen}"
    );
    Alarm { name: "rolledback", subject, message, remedy: FIND_OUT }
}

fn lacking(node: NodeId, Lack { of, by }: Lack) -> Alarm {
    Alarm {
        name: "rolledback",
        subject: node.to_string(),
        message: format!(
            "this node was put back to an earlier state, or its manifest was changed: it lacks the checkpoint of {} over {} \
             lines, which node {by} has countersigned",
            of.at, of.manifest.count
        ),
        remedy: FIND_OUT,
    }
}

fn not_kept(error: &VoiceError) -> Alarm {
    Alarm {
        name: "notcountersigned",
        subject: String::new(),
        message: format!(
            "what nodes sign of each other's manifests is not kept: {}",
            super::in_words(error)
        ),
        remedy: "make room below al_datadir, or mend the disk; it is made up for then",
    }
}
