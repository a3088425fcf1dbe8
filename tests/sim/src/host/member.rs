//! A host's side towards the group: what the driver's thread does around the Raft node. The log's disk
//! and the network are the world's.

use astlogger::bridge::core::About;
use astlogger::bridge::words;
use cluster_core::node::{Finished, StepError, Write};
use cluster_core::{Change, Command, Outcome, PeerEvent};
use recorder_core::controller::GroupWord;
use storage_core::MonoTime;

use super::{Asked, BURST, Host, Out, PUBLISH_EVERY, RaftInput, Recorder, Stop};
use crate::{SECOND, Time};

impl Host {
    pub(super) fn propose(&mut self, asked: Asked, command: Command, deadline: Time) {
        if let Some(process) = &mut self.process {
            process.inbox.push_back(RaftInput::Propose(asked, command, deadline));
        }
    }

    pub(super) fn raft(&mut self, _now: Time, input: RaftInput) {
        let Some(process) = &mut self.process else { return };
        // Ticks that were missed are not made up for, but for one.
        let ticks = |input: &RaftInput| matches!(input, RaftInput::Tick);
        if !(ticks(&input) && process.inbox.iter().any(ticks)) {
            process.inbox.push_back(input);
        }
    }

    /// Takes what waits in bursts, and does what comes of it until a write is under way.
    pub(super) fn pump(&mut self, now: Time) -> bool {
        let mut any = false;
        loop {
            let mono = self.now(now).mono;
            let Some(process) = &mut self.process else { return any };
            if process.writing.is_some() {
                return any;
            }
            let burst = process.inbox.len().min(BURST);
            if burst == 0 {
                return any;
            }
            any = true;
            for input in process.inbox.drain(..burst).collect::<Vec<_>>() {
                self.feed(now, mono, input);
            }
            self.drain_node(now);
        }
    }

    pub(super) fn feed(&mut self, now: Time, mono: MonoTime, input: RaftInput) {
        let started = self.process.as_ref().map_or(0, |process| process.started);
        let Some(process) = &mut self.process else { return };
        match input {
            RaftInput::Tick => {
                process.node.tick(mono);
                let due = now >= process.publish_at || process.node.duty(mono) != process.view.duty;
                if due {
                    self.publish_view(now, mono);
                }
            }
            RaftInput::Step(from, message) => {
                if let Err(StepError::Alarm(alarm)) = process.node.step(mono, from, *message) {
                    self.out.push(Out::Fatal(format!("alarm: {alarm}")));
                }
            }
            RaftInput::Peer(about, event) => {
                process.node.peer(mono, about, event);
                if event != PeerEvent::Heard {
                    self.publish_view(now, mono);
                }
            }
            RaftInput::SnapshotSent(to, sent) => process.node.snapshot_sent(to, sent),
            RaftInput::Propose(asked, command, deadline) => {
                let deadline = MonoTime::from_micros(deadline - started + SECOND);
                match process.node.propose(mono, command, deadline) {
                    Ok(id) => {
                        process.asked.insert(id, asked);
                    }
                    Err(_) => self.answered(asked, None),
                }
            }
        }
    }

    pub(super) fn drain_node(&mut self, now: Time) {
        loop {
            let Some(process) = &mut self.process else { return };
            let work = match process.node.poll() {
                Ok(Some(work)) => work,
                Ok(None) => return,
                Err(alarm) => return self.out.push(Out::Fatal(format!("alarm: {alarm}"))),
            };
            let sends = work.at_once.into_iter().map(Out::Send);
            self.out.extend(sends);
            if let Some(write) = work.write {
                process.writing = Some((write, work.after));
                return self.out.push(Out::Write);
            }
            self.out.extend(work.after.into_iter().map(Out::Send));
            self.finish(now);
        }
    }

    pub(super) fn written(&mut self, now: Time) {
        let Some(process) = &mut self.process else { return };
        let Some((write, after)) = process.writing.take() else { return };
        self.disk.stored.take(write);
        self.out.extend(after.into_iter().map(Out::Send));
        self.finish(now);
        self.drain_node(now);
    }

    pub(super) fn finish(&mut self, now: Time) {
        let mono = self.now(now).mono;
        let Some(process) = &mut self.process else { return };
        let done = match process.node.written() {
            Ok(done) => done,
            Err(alarm) => return self.out.push(Out::Fatal(format!("alarm: {alarm}"))),
        };
        self.out.extend(done.messages.into_iter().map(Out::Send));
        let mut publish = false;
        for change in done.applied.iter().flat_map(|applied| &applied.changes) {
            publish |= matches!(change, Change::Members | Change::Restored | Change::Duties { .. });
            if let Some(recorder) = &mut process.recorder {
                changed(recorder, change, process.node.state());
            }
        }
        if !done.applied.is_empty() {
            self.out.push(Out::Applied(done.applied));
        }
        let mut answers = Vec::new();
        for finished in done.finished {
            let (id, outcome) = match finished {
                Finished::Applied(id, outcome) => (id, Some(outcome)),
                Finished::Late(id) => (id, None),
            };
            if outcome.as_ref().is_some_and(|outcome| !matches!(outcome, Outcome::Refused(_))) {
                self.out.push(Out::Acknowledged(id));
            }
            answers.extend(process.asked.remove(&id).map(|asked| (asked, outcome)));
        }
        for (asked, outcome) in answers {
            self.answered(asked, outcome.as_ref());
        }
        if publish {
            self.publish_view(now, mono);
        }
    }

    pub(super) fn answered(&mut self, asked: Asked, outcome: Option<&Outcome>) {
        let Some(recorder) = self.process.as_mut().and_then(|p| p.recorder.as_mut()) else {
            return;
        };
        match asked {
            Asked::Bridge(about) => {
                if let (About::Claim(segment), Some(Outcome::Claimed { recording, standing, .. })) =
                    (about, outcome)
                {
                    let text = format!("{}: claim {segment} {standing:?} {recording}", self.id);
                    self.out.push(Out::Trace(text));
                }
                if let Some(Outcome::Refused(refusal)) = outcome {
                    let text = format!("{}: {about:?} refused: {refusal}", self.id);
                    self.out.push(Out::Trace(text));
                }
                recorder.bridge.answered(about, outcome);
            }
            Asked::Health => {
                recorder.health_asked = false;
                if outcome.is_none() {
                    recorder.teller.lost();
                }
            }
            Asked::Drain => {
                if let Stop::HandOver { until, .. } = recorder.stop {
                    // Where the group does not answer there is nobody to wait for.
                    let until = if outcome.is_some() { until } else { 0 };
                    recorder.stop = Stop::HandOver { until, asked: false };
                }
            }
            Asked::Other => {}
        }
    }

    pub(super) fn publish_view(&mut self, now: Time, mono: MonoTime) {
        let Some(process) = &mut self.process else { return };
        process.publish_at = now + PUBLISH_EVERY;
        let view = process.node.view(mono);
        if view == process.view {
            return;
        }
        process.view = view;
        let Some(recorder) = &mut process.recorder else { return };
        let peers = words::peers(&process.view);
        let mandate = words::mandate(&process.view);
        let mut told = Vec::new();
        if peers != recorder.peers {
            recorder.peers.clone_from(&peers);
            told.push(GroupWord::Peers(peers));
            recorder.bridge.all_changed(process.node.state());
        }
        if recorder.mandate.replace(mandate) != Some(mandate) {
            told.push(GroupWord::Mandate(mandate));
        }
        let at = self.now(now);
        for word in told {
            self.word(at, word);
        }
    }

    pub fn is_writing(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.writing.is_some())
    }

    /// The write that is under way when the process dies.
    pub fn torn_write(&mut self) -> Option<Write> {
        self.process.as_mut()?.writing.take().map(|(write, _)| write)
    }
}

fn changed(recorder: &mut Recorder, change: &Change, state: &cluster_core::State) {
    let bridge = &mut recorder.bridge;
    match change {
        Change::Holder { recording, .. }
        | Change::Over { recording }
        | Change::Sealed { recording, .. }
        | Change::Closed { recording }
        | Change::Evicted { recording } => bridge.changed(*recording),
        Change::Claimed { stretch, .. } | Change::Ended { stretch } => {
            bridge.changed(stretch.recording);
        }
        // A simulated site has no manifests.
        Change::Members
        | Change::Duties { .. }
        | Change::Checkpoint { .. }
        | Change::Countersigned { .. } => {}
        Change::Restored => bridge.all_changed(state),
    }
}
