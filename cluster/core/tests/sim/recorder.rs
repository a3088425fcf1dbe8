//! A recorder reduced to what the group sees of it: it begins and ends captures by its duty and
//! the ledger, claims them, seals when told, and drops only what it may drop. Its captures survive
//! a crash, as the journal makes them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cluster_core::node::{Done, Finished};
use cluster_core::{
    CallRef, Claim, Command, Node, Outcome, ProposalId, Seal, StretchRef, Task, Terms,
};
use storage_core::{CallId, Duty, MonoTime, NodeId, RecordingId, SegmentId, WallTime};

/// A call on the simulated switch.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub number: u64,
    pub begins_ms: u64,
    pub ends_ms: u64,
}

impl Call {
    pub fn reference(&self) -> CallRef {
        CallRef {
            ucid: format!("0000100001{:010}", self.number + 1).parse().ok(),
            // Numbers are reused, as on a real switch.
            callid: CallId::new(&(self.number % 7).to_string()),
            began: Some(WallTime::from_millis(self.begins_ms.cast_signed())),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Capture {
    pub call: Call,
    pub segment: SegmentId,
    proposed: RecordingId,
    copy: u8,
    take: u16,
    epoch: u64,
    from_ms: u64,
    to_ms: Option<u64>,
    recording: Option<RecordingId>,
    end_logged: bool,
    over_logged: bool,
    /// Something about it is on its way.
    pending: bool,
}

#[derive(Debug)]
enum Asked {
    Claim(SegmentId),
    End(SegmentId),
    Over(SegmentId),
    Seal(RecordingId),
    Ack,
    Other,
}

pub struct Recorder {
    pub node: NodeId,
    pub captures: BTreeMap<SegmentId, Capture>,
    next_segment: u64,
    asked: BTreeMap<ProposalId, Asked>,
    sealing: BTreeSet<RecordingId>,
    /// What was dropped, for the checker.
    pub dropped: Vec<StretchRef>,
}

impl Recorder {
    pub fn new(node: NodeId) -> Self {
        Self {
            node,
            captures: BTreeMap::new(),
            next_segment: 1,
            asked: BTreeMap::new(),
            sealing: BTreeSet::new(),
            dropped: Vec::new(),
        }
    }

    /// The process died: captures end where they were, nothing else is remembered.
    pub fn crashed(&mut self, now_ms: u64) {
        for capture in self.captures.values_mut() {
            capture.to_ms.get_or_insert(now_ms);
            capture.pending = false;
        }
        self.asked.clear();
        self.sealing.clear();
    }

    /// One beat. `reachable` tells whose captures could be pulled now.
    pub fn beat(
        &mut self,
        node: &mut Node,
        now_ms: u64,
        calls: &[Call],
        reachable: impl Fn(NodeId) -> bool,
    ) {
        let now = MonoTime::from_millis(now_ms);
        self.begin_and_end(node, now, now_ms, calls);
        self.claim_and_end(node, now, now_ms);
        let present = node.state().present();
        for task in node.state().ledger().tasks(self.node, &present, 100) {
            match task {
                Task::Leave(stretch) => self.leave(&stretch, now_ms),
                Task::Drop(stretch) => {
                    self.captures.remove(&stretch.segment);
                    self.dropped.push(stretch);
                }
                Task::Seal { recording, revision } => {
                    self.seal(node, now, recording, revision, &reachable);
                }
                Task::Catalog { recording, revision, at } if at == self.node || reachable(at) => {
                    let recordings = vec![(recording, revision)];
                    let ack = Command::Ack { node: self.node, recordings };
                    self.ask(node, now, ack, Asked::Ack);
                }
                Task::Catalog { .. } => {}
            }
        }
    }

    /// Takes notice of what became of proposals.
    pub fn finished(&mut self, done: &Done) {
        for finished in &done.finished {
            let (id, outcome) = match finished {
                Finished::Applied(id, outcome) => (id, Some(outcome)),
                Finished::Late(id) => (id, None),
            };
            match self.asked.remove(id) {
                Some(Asked::Claim(segment)) => self.claimed(segment, outcome),
                Some(Asked::End(segment)) => {
                    if let Some(capture) = self.captures.get_mut(&segment) {
                        capture.pending = false;
                        capture.end_logged = outcome.is_some();
                    }
                }
                Some(Asked::Over(segment)) => {
                    if let Some(capture) = self.captures.get_mut(&segment) {
                        capture.pending = false;
                        // Refused while another holds it, who will say so.
                        capture.over_logged = outcome == Some(&Outcome::Done);
                    }
                }
                Some(Asked::Seal(recording)) => {
                    self.sealing.remove(&recording);
                }
                Some(Asked::Ack | Asked::Other) | None => {}
            }
        }
    }

    pub fn propose(&mut self, node: &mut Node, now_ms: u64, command: Command) {
        self.ask(node, MonoTime::from_millis(now_ms), command, Asked::Other);
    }

    fn begin_and_end(&mut self, node: &Node, now: MonoTime, now_ms: u64, calls: &[Call]) {
        for capture in self.captures.values_mut() {
            if now_ms >= capture.call.ends_ms {
                capture.to_ms.get_or_insert(capture.call.ends_ms.max(capture.from_ms));
            }
        }
        let duty = node.duty(now);
        let view = node.view(now);
        for call in calls.iter().filter(|c| c.begins_ms <= now_ms && now_ms < c.ends_ms) {
            let on = |c: &&Capture| c.call.number == call.number && c.to_ms.is_none();
            if self.captures.values().any(|c| on(&c)) {
                continue;
            }
            let reference = call.reference();
            let ledger = node.state().ledger();
            let slot = ledger.slot(&reference, duty.copy);
            let free = slot.is_none_or(|slot| {
                let reach = |n| view.member(n).is_some_and(|member| member.reachable);
                slot.over.is_some() || slot.to_take_over(self.node, &duty, reach)
            });
            if matches!(duty.duty, Duty::Lead | Duty::Follow) && free {
                let take = ledger.take(&reference, duty.copy);
                self.begin(*call, duty.copy, take, duty.epoch, now_ms);
            }
        }
    }

    fn begin(&mut self, call: Call, copy: u8, take: u16, epoch: u64, now_ms: u64) {
        let segment = SegmentId(self.next_segment);
        self.next_segment += 1;
        let mut entropy = [0; 10];
        entropy[..2].copy_from_slice(&self.node.0.to_be_bytes());
        entropy[2..10].copy_from_slice(&segment.0.to_be_bytes());
        let proposed = RecordingId::new(WallTime::from_millis(now_ms.cast_signed()), entropy);
        let capture = Capture {
            call,
            segment,
            proposed,
            copy,
            take,
            epoch,
            from_ms: now_ms,
            to_ms: None,
            recording: None,
            end_logged: false,
            over_logged: false,
            pending: false,
        };
        self.captures.insert(segment, capture);
    }

    fn claim_and_end(&mut self, node: &mut Node, now: MonoTime, now_ms: u64) {
        let idle: Vec<_> =
            self.captures.values().filter(|capture| !capture.pending).cloned().collect();
        for capture in idle {
            let (command, asked) = match (capture.recording, capture.to_ms) {
                (None, _) => (self.claim_of(&capture), Asked::Claim(capture.segment)),
                (Some(recording), Some(to_ms)) if !capture.end_logged => {
                    let (node, segment) = (self.node, capture.segment);
                    let stretch = StretchRef { recording, node, segment };
                    let to = WallTime::from_millis(to_ms.cast_signed());
                    (Command::End { stretch, to }, Asked::End(segment))
                }
                (Some(recording), Some(_))
                    if !capture.over_logged && now_ms > capture.call.ends_ms + 300 =>
                {
                    let node = self.node;
                    let over = Command::Over { recording, node, stopped: false };
                    (over, Asked::Over(capture.segment))
                }
                _ => continue,
            };
            if self.ask(node, now, command, asked)
                && let Some(capture) = self.captures.get_mut(&capture.segment)
            {
                capture.pending = true;
            }
        }
    }

    fn claim_of(&self, capture: &Capture) -> Command {
        Command::Claim(Claim {
            call: capture.call.reference(),
            copy: capture.copy,
            take: capture.take,
            node: self.node,
            segment: capture.segment,
            recording: capture.proposed,
            from: WallTime::from_millis(capture.from_ms.cast_signed()),
            epoch: capture.epoch,
            terms: Terms::default(),
        })
    }

    fn claimed(&mut self, segment: SegmentId, outcome: Option<&Outcome>) {
        let Some(capture) = self.captures.get_mut(&segment) else { return };
        capture.pending = false;
        match outcome {
            Some(Outcome::Claimed { recording, .. }) => capture.recording = Some(*recording),
            _ => {}
        }
    }

    fn leave(&mut self, stretch: &StretchRef, now_ms: u64) {
        if let Some(capture) = self.captures.get_mut(&stretch.segment) {
            capture.to_ms.get_or_insert(now_ms);
        }
    }

    fn seal(
        &mut self,
        node: &mut Node,
        now: MonoTime,
        recording: RecordingId,
        revision: u32,
        reachable: impl Fn(NodeId) -> bool,
    ) {
        let ledger = node.state().ledger();
        let Some(slot) = ledger.recording(recording) else { return };
        if self.sealing.contains(&recording) {
            return;
        }
        let old = slot.sealed.iter().flat_map(|sealed| sealed.accounted.iter().copied());
        let pulled = slot
            .stretches
            .iter()
            .filter(|s| !s.open() && (s.node == self.node || reachable(s.node)));
        let used: Vec<_> = old.chain(pulled.map(|s| (s.node, s.segment))).collect();
        let from = slot.stretches.iter().map(|s| s.from).min().unwrap_or_default();
        let to = slot.stretches.iter().filter_map(|s| s.to).max().unwrap_or(from);
        let mut sha256 = [0; 32];
        sha256[..8].copy_from_slice(&node.applied().to_be_bytes());
        let seal = Seal {
            recording,
            node: self.node,
            revision,
            from,
            to,
            used,
            covered: Vec::new(),
            sha256,
        };
        if self.ask(node, now, Command::Seal(seal), Asked::Seal(recording)) {
            self.sealing.insert(recording);
        }
    }

    fn ask(&mut self, node: &mut Node, now: MonoTime, command: Command, asked: Asked) -> bool {
        let deadline = now + Duration::from_secs(2);
        match node.propose(now, command, deadline) {
            Ok(id) => {
                self.asked.insert(id, asked);
                true
            }
            Err(_) => false,
        }
    }
}
