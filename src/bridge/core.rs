//! What stands between the recorder and the group, as one machine without clock or socket: which of
//! this node's captures the group still has to hear of, what the group's ledger wants done with
//! them, and what of it the recorder must know. It compares what is with what should be, each time
//! either has changed, so that a proposal that was lost, or a restart, is made good by looking again.
//!
//! ```text
//! recorder ──captured, ended, over──▶ ┌────────┐ ──Propose──▶ group
//! journal  ──complete, outline──────▶ │ Bridge │ ──Word─────▶ recorder
//! group    ──changed, answered──────▶ └────────┘ ──Seal, List, Drop, Publish──▶ sealer, catalog, journal
//! ```
//!
//! It knows which captures there are and not what is in them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cluster_core::ledger::Present;
use cluster_core::{Claim, Command, Fate, GroupView, Outcome, Seal, Slot, State, StretchRef, Task};
use recorder_core::controller::GroupWord;
use storage_core::{NodeId, RecordingId, SegmentId, WallTime};

use super::words;

mod inherit;
mod order;

pub use inherit::is_unclaimed;
pub use order::{About, MirroredPart, Mirrors, Output, SealOrder, SealOutcome};

/// Whether something of a recording is kept here for others.
fn kept(slot: &Slot, mirrors: &dyn Mirrors) -> bool {
    slot.stretches.iter().any(|stretch| mirrors.holds(stretch.node, stretch.segment))
}

/// A capture of this node.
#[derive(Clone, Debug)]
struct Capture {
    claim: Claim,
    ended: Option<WallTime>,
    /// The group has answered the claim in this process's life.
    claimed: bool,
}

/// What the journal holds under one name.
#[derive(Clone, Debug)]
struct Part {
    /// The group's name of the recording.
    name: RecordingId,
    captures: BTreeMap<SegmentId, Capture>,
    /// Nothing is added to it any more.
    complete: bool,
}

/// A file that is being written or agreed upon.
#[derive(Clone, Debug)]
struct Sealing {
    revision: u32,
    /// What this node has of it, as far as it went into the file.
    locals: BTreeSet<RecordingId>,
    /// Present once the file is staged.
    seal: Option<Seal>,
    /// The group has refused it.
    refused: bool,
}

/// The machine. After each input all outputs are to be taken.
#[derive(Debug)]
pub struct Bridge {
    node: NodeId,
    parts: BTreeMap<RecordingId, Part>,
    by_segment: BTreeMap<SegmentId, RecordingId>,
    by_name: BTreeMap<RecordingId, BTreeSet<RecordingId>>,
    /// Recordings that are over, and whether somebody stopped them, until the ledger says so.
    over: BTreeMap<RecordingId, bool>,
    asked: BTreeSet<About>,
    sealing: BTreeMap<RecordingId, Sealing>,
    impossible: BTreeSet<RecordingId>,
    listing: BTreeSet<(RecordingId, u32)>,
    listed: BTreeSet<(RecordingId, u32)>,
    told: BTreeMap<RecordingId, recorder_core::call::Claimed>,
    dirty: BTreeSet<RecordingId>,
    /// The group has answered this process once. Until then the ledger may be older here than what
    /// an earlier process has agreed on: its staged file must not be written over.
    current: bool,
    /// The recorder has been told of what was stopped before this process began.
    stopped_told: bool,
    outputs: VecDeque<Output>,
}

/// Acknowledgements in one entry of the log.
const ACKS_MAX: usize = 256;

impl Bridge {
    /// A bridge that knows of no capture yet.
    #[must_use]
    pub const fn new(node: NodeId) -> Self {
        Self {
            node,
            parts: BTreeMap::new(),
            by_segment: BTreeMap::new(),
            by_name: BTreeMap::new(),
            over: BTreeMap::new(),
            asked: BTreeSet::new(),
            sealing: BTreeMap::new(),
            impossible: BTreeSet::new(),
            listing: BTreeSet::new(),
            listed: BTreeSet::new(),
            told: BTreeMap::new(),
            dirty: BTreeSet::new(),
            current: false,
            stopped_told: false,
            outputs: VecDeque::new(),
        }
    }

    /// A capture has begun, or its terms have changed.
    pub fn captured(&mut self, claim: &recorder_core::call::Claim) {
        let (name, node) = (claim.name, self.node);
        let part = self.part(claim.recording, name);
        // The recorder may not have heard yet that the group gave it another name.
        let name = part.name;
        let capture = part.captures.entry(claim.segment).or_insert_with(|| Capture {
            claim: Claim { recording: name, ..words::claim(claim, node) },
            ended: None,
            claimed: false,
        });
        if capture.claim.terms.scope != claim.scope {
            capture.claim.terms.scope = claim.scope;
            capture.claimed = false;
        }
        self.by_segment.insert(claim.segment, claim.recording);
        self.dirty.insert(name);
    }

    /// A capture has ended.
    pub fn ended(&mut self, segment: SegmentId, at: WallTime) {
        let Some(local) = self.by_segment.get(&segment) else { return };
        let Some(part) = self.parts.get_mut(local) else { return };
        if let Some(capture) = part.captures.get_mut(&segment) {
            capture.ended.get_or_insert(at);
        }
        self.dirty.insert(part.name);
    }

    /// A recording is over.
    pub fn over(&mut self, name: RecordingId, stopped: bool) {
        let name = self.parts.get(&name).map_or(name, |part| part.name);
        let known = self.over.entry(name).or_insert(stopped);
        *known |= stopped;
        self.dirty.insert(name);
    }

    /// What the journal holds of a recording: after its end everything, at a start whatever a
    /// crash has left. Captures that were not told of before are made good.
    pub fn outlined(&mut self, local: RecordingId, outline: &words::Outline) {
        let part = self.part(local, outline.name);
        part.complete |= outline.complete;
        let name = part.name;
        let mut segments = Vec::new();
        for (claim, ended) in &outline.captures {
            segments.push(claim.segment);
            let capture = part.captures.entry(claim.segment).or_insert_with(|| Capture {
                claim: claim.clone(),
                ended: None,
                claimed: false,
            });
            capture.ended = capture.ended.or(*ended);
        }
        self.by_segment.extend(segments.into_iter().map(|segment| (segment, local)));
        self.dirty.insert(name);
        if outline.complete && self.parts.get(&local).is_some_and(|p| p.captures.is_empty()) {
            self.over.remove(&local);
            self.drop_part(local);
        } else if let Some(stopped) = outline.over {
            self.over(name, stopped);
        }
    }

    /// A proposal has its answer; `None` if it was not taken in time.
    pub fn answered(&mut self, about: About, outcome: Option<&Outcome>) {
        self.asked.remove(&about);
        self.current |= outcome.is_some();
        match about {
            About::Claim(segment) => self.claim_answered(segment, outcome),
            // What came of it is seen in the ledger; what did not come is asked for again when
            // everything is looked at, and not at once.
            About::End(_) | About::Release(_) | About::HandIn(..) | About::Ack => {}
            About::Over(name) => {
                // Another node holds it and will say when it is over.
                if let Some(Outcome::Refused(_)) = outcome {
                    self.over.remove(&name);
                }
            }
            About::Seal(name) => self.seal_answered(name, outcome),
        }
    }

    /// The sealer has done what it could.
    pub fn sealed(&mut self, recording: RecordingId, outcome: SealOutcome) {
        let Some(sealing) = self.sealing.get_mut(&recording) else { return };
        let (node, revision) = (self.node, sealing.revision);
        if outcome != SealOutcome::Failed {
            self.dirty.insert(recording);
        }
        match outcome {
            SealOutcome::Staged { from, to, sha256, captures } => {
                let covered = Vec::new();
                let used = captures;
                let seal = Seal { recording, node, revision, from, to, used, covered, sha256 };
                sealing.seal = Some(seal);
            }
            SealOutcome::Same { captures } => {
                // Agreed upon like any other, with the file that is published.
                let (from, to) = (WallTime::default(), WallTime::default());
                let (used, covered, sha256) = (Vec::new(), captures, [0; 32]);
                let seal = Seal { recording, node, revision, from, to, used, covered, sha256 };
                sealing.seal = Some(seal);
            }
            SealOutcome::Nothing => {
                let locals = std::mem::take(&mut sealing.locals);
                self.sealing.remove(&recording);
                self.release(recording, locals);
            }
            SealOutcome::Failed => {
                self.sealing.remove(&recording);
            }
            SealOutcome::Impossible => {
                self.sealing.remove(&recording);
                self.impossible.insert(recording);
            }
        }
    }

    /// The catalog lists this revision (or it could not be entered now, and is asked for again).
    pub fn listed(&mut self, recording: RecordingId, revision: u32, done: bool) {
        self.listing.remove(&(recording, revision));
        if done {
            self.listed.insert((recording, revision));
            self.dirty.insert(recording);
        }
    }

    /// Something about this recording has changed in the ledger.
    pub fn changed(&mut self, recording: RecordingId) {
        self.dirty.insert(recording);
    }

    /// Everything is to be looked at: the ledger came as a whole, members came or went, or time
    /// has passed.
    pub fn all_changed(&mut self, state: &State) {
        let slots = state.ledger().calls().flat_map(|call| &call.slots);
        self.dirty.extend(slots.map(|slot| slot.recording));
        self.dirty.extend(self.by_name.keys().copied());
        self.dirty.extend(self.told.keys().copied());
        self.dirty.extend(self.over.keys().copied());
    }

    /// Compares what has changed with what the group has agreed on.
    pub fn look(&mut self, state: &State, view: &GroupView, mirrors: &dyn Mirrors) {
        for name in std::mem::take(&mut self.dirty) {
            self.look_at(name, state, view, mirrors);
        }
        if !self.current {
            // Says nothing, and its answer comes after all that was agreed on before.
            let (node, recordings) = (self.node, Vec::new());
            self.propose(About::Ack, Command::Ack { node, recordings });
        } else if !std::mem::replace(&mut self.stopped_told, true) {
            self.tell_stopped(state);
        }
        self.acknowledge(state);
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Captures that the group has not taken over yet: recordings of them are still owed.
    #[must_use]
    pub fn owed(&self) -> usize {
        self.parts.len()
    }

    /// Whether nothing is owed, being written or waited for.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.parts.is_empty()
            && self.sealing.is_empty()
            && self.listing.is_empty()
            && self.listed.is_empty()
    }

    /// Whether a local recording is complete in the journal, so that others may read it.
    #[must_use]
    pub fn is_complete(&self, segment: SegmentId) -> bool {
        let local = self.by_segment.get(&segment);
        local.and_then(|local| self.parts.get(local)).is_some_and(|part| part.complete)
    }

    /// Under which names the journal holds parts of a recording.
    #[must_use]
    pub fn locals(&self, name: RecordingId) -> BTreeSet<RecordingId> {
        self.by_name.get(&name).cloned().unwrap_or_default()
    }

    fn part(&mut self, local: RecordingId, name: RecordingId) -> &mut Part {
        self.parts.entry(local).or_insert_with(|| {
            self.by_name.entry(name).or_default().insert(local);
            Part { name, captures: BTreeMap::new(), complete: false }
        })
    }

    fn propose(&mut self, about: About, command: Command) {
        if self.asked.insert(about) {
            self.outputs.push_back(Output::Propose(about, Box::new(command)));
        }
    }

    fn claim_answered(&mut self, segment: SegmentId, outcome: Option<&Outcome>) {
        let Some(local) = self.by_segment.get(&segment).copied() else { return };
        let Some(part) = self.parts.get_mut(&local) else { return };
        let Some(Outcome::Claimed { recording, .. }) = outcome else { return };
        self.dirty.insert(part.name);
        if let Some(capture) = part.captures.get_mut(&segment) {
            capture.claimed = true;
        }
        if part.name != *recording {
            self.rename(local, *recording);
        }
    }

    /// Another node was first: the recording bears its name.
    fn rename(&mut self, local: RecordingId, name: RecordingId) {
        let Some(part) = self.parts.get_mut(&local) else { return };
        let before = std::mem::replace(&mut part.name, name);
        for capture in part.captures.values_mut() {
            capture.claim.recording = name;
        }
        if let Some(locals) = self.by_name.get_mut(&before) {
            locals.remove(&local);
            if locals.is_empty() {
                self.by_name.remove(&before);
                if let Some(stopped) = self.over.remove(&before) {
                    self.over.insert(name, stopped);
                }
            }
        }
        self.by_name.entry(name).or_default().insert(local);
        self.outputs.push_back(Output::Word(GroupWord::Named { recording: local, name }));
        self.dirty.extend([before, name]);
    }

    fn seal_answered(&mut self, name: RecordingId, outcome: Option<&Outcome>) {
        let Some(sealing) = self.sealing.get_mut(&name) else { return };
        let (recording, revision) = (name, sealing.revision);
        match outcome {
            // No majority: the staged file waits, and the proposal is made again.
            None => return,
            Some(Outcome::Done) => {
                self.listing.insert((recording, revision));
                self.outputs.push_back(Output::Publish { recording, revision });
                self.sealing.remove(&name);
            }
            // It was answered before, and this tells not how: the ledger does.
            Some(Outcome::Already) => {}
            // Perhaps because it has been taken already.
            Some(_) => sealing.refused = true,
        }
        self.dirty.insert(name);
    }

    /// Withdraws all captures of a recording in which nothing can be heard.
    /// What has been captured since is not among them.
    fn release(&mut self, name: RecordingId, locals: BTreeSet<RecordingId>) {
        for local in locals {
            let Some(part) = self.parts.get(&local) else { continue };
            let segments: Vec<SegmentId> = part.captures.keys().copied().collect();
            for segment in segments {
                let stretch = StretchRef { recording: name, node: self.node, segment };
                self.propose(About::Release(segment), Command::Release { stretch });
            }
            self.drop_part(local);
        }
    }

    fn drop_part(&mut self, local: RecordingId) {
        let Some(part) = self.parts.remove(&local) else { return };
        for segment in part.captures.keys() {
            self.by_segment.remove(segment);
        }
        if let Some(locals) = self.by_name.get_mut(&part.name) {
            locals.remove(&local);
            if locals.is_empty() {
                self.by_name.remove(&part.name);
            }
        }
        self.outputs.push_back(Output::Drop { local });
    }

    fn look_at(
        &mut self,
        name: RecordingId,
        state: &State,
        view: &GroupView,
        mirrors: &dyn Mirrors,
    ) {
        let slot = state.ledger().recording(name);
        self.tell(name, slot, state, mirrors);
        self.report(name, slot, state);
        self.end(name, slot);
        self.drop_superfluous(name, state);
        self.forget_sealing(name, slot);
        if let Some(slot) = slot {
            self.disown(slot);
            self.obey(slot, state, view, mirrors);
        } else {
            self.impossible.remove(&name);
        }
    }

    /// A proposal that was answered too late may have been taken all the same: the ledger tells. What
    /// it took is published by its listing; what it took instead makes the staged file superfluous.
    fn forget_sealing(&mut self, name: RecordingId, slot: Option<&Slot>) {
        let Some(Sealing { revision, seal: Some(seal), refused, .. }) = self.sealing.get(&name)
        else {
            return;
        };
        if self.asked.contains(&About::Seal(name)) {
            return;
        }
        let (recording, revision) = (name, *revision);
        let sealed = slot.map(|slot| slot.sealed.as_ref().filter(|s| s.revision >= revision));
        let taken = match sealed {
            Some(None) if !refused => return,
            Some(None) => false,
            Some(Some(sealed)) => sealed.sha256 == seal.sha256,
            None => false,
        };
        if !taken {
            self.outputs.push_back(Output::Discard { recording, revision });
        }
        self.sealing.remove(&name);
    }

    /// Tells the recorder how the recording stands, if that is new.
    fn tell(
        &mut self,
        name: RecordingId,
        slot: Option<&Slot>,
        state: &State,
        mirrors: &dyn Mirrors,
    ) {
        let call = state.ledger().call_of(name);
        let now = slot.zip(call).map(|(slot, call)| {
            let mut claimed = words::claimed(self.node, slot, call);
            // Whoever has the only mirror of it is to say that it is over.
            claimed.ours |= slot.is_heir(self.node, &state.present()) && kept(slot, mirrors);
            claimed
        });
        match now {
            Some(now) if self.told.get(&name) != Some(&now) => {
                self.told.insert(name, now.clone());
                self.outputs.push_back(Output::Word(GroupWord::Claimed(Box::new(now))));
            }
            Some(_) => {}
            None if self.told.remove(&name).is_some() => {
                let closed = state.ledger().closed_slot(name);
                self.outputs.push_back(Output::Word(match closed {
                    Some(closed) => GroupWord::Closed(name, words::over(closed.over)),
                    None => GroupWord::Withdrawn(name),
                }));
            }
            None => {}
        }
    }

    /// A call that goes on after its recording was stopped is not to be recorded anew by a recorder that
    /// has just started.
    fn tell_stopped(&mut self, state: &State) {
        for (call, slot) in state.ledger().stopped() {
            let told = Box::new(words::closed(slot, call));
            let over = words::over(slot.over);
            self.outputs.push_back(Output::Word(GroupWord::Claimed(told)));
            self.outputs.push_back(Output::Word(GroupWord::Closed(slot.recording, over)));
        }
    }

    /// Proposes what the ledger does not know of this node's captures.
    fn report(&mut self, name: RecordingId, slot: Option<&Slot>, state: &State) {
        let mut wanted = Vec::new();
        let closed = state.ledger().closed_slot(name).is_some();
        for local in self.by_name.get(&name).into_iter().flatten() {
            let captures = &self.parts[local].captures;
            // The answer to the first may give them all another name.
            let is_known = |segment: &SegmentId| {
                let stretches = slot.iter().flat_map(|slot| &slot.stretches);
                stretches.clone().any(|s| (s.node, s.segment) == (self.node, *segment))
            };
            let named = captures.iter().any(|(segment, c)| c.claimed || is_known(segment));
            let told = captures.iter().take(if named { usize::MAX } else { 1 });
            for (&segment, capture) in told {
                let known = slot.and_then(|slot| {
                    slot.stretches.iter().find(|s| (s.node, s.segment) == (self.node, segment))
                });
                let stretch = StretchRef { recording: name, node: self.node, segment };
                match (known, capture.ended) {
                    (None, _) if closed && capture.claimed => {}
                    (None, _) => {
                        let claim = Command::Claim(capture.claim.clone());
                        wanted.push((About::Claim(segment), claim));
                    }
                    (Some(known), None) if known.lost || !capture.claimed => {
                        let claim = Command::Claim(capture.claim.clone());
                        wanted.push((About::Claim(segment), claim));
                    }
                    (Some(known), Some(to)) if known.to.is_none() => {
                        wanted.push((About::End(segment), Command::End { stretch, to }));
                    }
                    (Some(_), _) => {}
                }
            }
        }
        for (about, command) in wanted {
            self.propose(about, command);
        }
    }

    /// Proposes that the recording is over, once all of this node's captures are known.
    fn end(&mut self, name: RecordingId, slot: Option<&Slot>) {
        let Some(&stopped) = self.over.get(&name) else { return };
        let Some(slot) = slot else { return };
        let locals = self.by_name.get(&name).into_iter().flatten();
        let mut captures = locals.flat_map(|local| &self.parts[local].captures);
        let all_claimed = captures.clone().all(|(segment, _)| {
            slot.stretches.iter().any(|s| (s.node, s.segment) == (self.node, *segment))
        });
        // Of two recordings here that bear one name the other may go on.
        if !stopped && captures.any(|(_, capture)| capture.ended.is_none()) {
            return;
        }
        let said = match slot.over {
            Some(cluster_core::Over::Stopped) => true,
            Some(cluster_core::Over::Ended) => !stopped,
            None => false,
        };
        if said {
            self.over.remove(&name);
        } else if all_claimed {
            let (recording, node) = (name, self.node);
            self.propose(About::Over(name), Command::Over { recording, node, stopped });
        }
    }

    /// Withdraws captures that the ledger has in this node's name and the journal has not: a power
    /// cut took them before they were durable, or they were dropped before an old claim of them was
    /// taken. Without that the recording would be waited for for ever.
    fn disown(&mut self, slot: &Slot) {
        let (recording, node) = (slot.recording, self.node);
        for stretch in slot.stretches.iter().filter(|s| s.node == node) {
            let segment = stretch.segment;
            // One that is known here may be about to learn that its recording bears this name.
            let known = self.by_segment.contains_key(&segment);
            if !known && slot.fate(node, segment) == Fate::Keep {
                let stretch = StretchRef { recording, node, segment };
                self.propose(About::Release(segment), Command::Release { stretch });
            }
        }
    }

    /// Drops what the sealed recording makes superfluous.
    fn drop_superfluous(&mut self, name: RecordingId, state: &State) {
        for local in self.locals(name) {
            let part = &self.parts[&local];
            let superfluous = part.complete
                && part.captures.iter().all(|(&segment, capture)| {
                    let stretch = StretchRef { recording: name, node: self.node, segment };
                    let fate = state.ledger().fate(&stretch);
                    // A closed recording knows only of the captures that were claimed.
                    let open = state.ledger().recording(name).is_some();
                    fate == Some(Fate::Drop) && (open || capture.claimed)
                });
            if superfluous {
                self.drop_part(local);
            }
        }
    }

    /// Does what the ledger asks of this node.
    fn obey(&mut self, slot: &Slot, state: &State, view: &GroupView, mirrors: &dyn Mirrors) {
        let mut tasks = Vec::new();
        slot.tasks(self.node, &state.present(), &mut tasks);
        for task in tasks {
            match task {
                Task::Leave(stretch) => self.leave(slot, stretch.segment, view),
                Task::Seal { revision, .. } => self.seal(slot, revision, state, mirrors),
                Task::Catalog { recording, revision, at } => {
                    let sha256 = slot.sealed.as_ref().map(|sealed| sealed.sha256);
                    self.list(recording, revision, sha256.unwrap_or_default(), at);
                }
                Task::Drop(_) => {}
            }
        }
    }

    /// Another capture counts. As long as its node does not answer here it may be gone, and this
    /// one is needed.
    fn leave(&mut self, slot: &Slot, segment: SegmentId, view: &GroupView) {
        let answers = slot.holder().is_none_or(|holder| words::is_alive(view, holder.node));
        let open = self.by_segment.get(&segment).and_then(|local| self.parts.get(local));
        let open = open.and_then(|part| part.captures.get(&segment));
        if answers && open.is_some_and(|capture| capture.ended.is_none()) {
            self.outputs.push_back(Output::Word(GroupWord::Yield(segment)));
        }
    }

    fn seal(&mut self, slot: &Slot, revision: u32, state: &State, mirrors: &dyn Mirrors) {
        let name = slot.recording;
        if let Some(sealing) = self.sealing.get(&name) {
            // Staged; the log has not taken it yet.
            if let Some(mut seal) = sealing.seal.clone() {
                if let (true, Some(sealed)) = (seal.used.is_empty(), &slot.sealed) {
                    (seal.from, seal.to, seal.sha256) = (sealed.from, sealed.to, sealed.sha256);
                }
                seal.covered
                    .extend(slot.sealed.iter().flat_map(|sealed| sealed.accounted.iter().copied()));
                self.propose(About::Seal(name), Command::Seal(seal));
            }
            return;
        }
        if !self.current {
            return;
        }
        // The next revision is laid around the published file: it must be there first, or what only
        // that one holds would be missing.
        let there = slot.sealed.as_ref().is_none_or(|sealed| {
            self.listed.contains(&(name, sealed.revision))
                || slot.acks.get(&self.node) == Some(&sealed.revision)
        });
        if !there {
            return;
        }
        let locals = self.locals(name);
        let complete = locals.iter().all(|local| self.parts[local].complete);
        if self.impossible.contains(&name) || !complete {
            return;
        }
        let mut order = SealOrder {
            recording: name,
            revision,
            copy: slot.copy,
            local: locals,
            own: BTreeSet::new(),
            remote: BTreeMap::new(),
            mirrored: BTreeMap::new(),
            partial: false,
        };
        self.gather(slot, &state.present(), mirrors, &mut order);
        // An heir that has inherited nothing leaves it to whoever has something.
        let inherits = |(_, keeper): &(NodeId, NodeId)| *keeper == self.node;
        let has_some = slot.sealed.is_some() || order.mirrored.keys().any(inherits);
        if order.local.is_empty() && order.remote.is_empty() && !has_some {
            return;
        }
        let locals = order.local.clone();
        self.sealing.insert(name, Sealing { revision, locals, seal: None, refused: false });
        self.outputs.push_back(Output::Seal(order));
    }

    /// Where each capture that is not accounted for can be had.
    fn gather(&self, slot: &Slot, present: &Present, mirrors: &dyn Mirrors, order: &mut SealOrder) {
        for stretch in slot.stretches.iter().filter(|s| slot.fate(s.node, s.segment) == Fate::Keep)
        {
            let (node, segment) = (stretch.node, stretch.segment);
            if node == self.node {
                order.own.insert(segment);
                continue;
            }
            if present.up.contains(&node) {
                order.remote.entry(node).or_default().push(segment);
                continue;
            }
            order.partial = true;
            let left = !present.members.contains(&node);
            // Who keeps it may have changed since it was captured.
            let here = mirrors.holds(node, segment);
            let keeper = if here { Some(self.node) } else { present.keeper(node) };
            let gives = |keeper: &NodeId| here || left || *keeper != self.node;
            let Some(keeper) = keeper.filter(gives) else { continue };
            let part = order.mirrored.entry((node, keeper)).or_default();
            part.left = left;
            part.segments.push(segment);
        }
    }

    fn list(&mut self, recording: RecordingId, revision: u32, sha256: [u8; 32], at: NodeId) {
        if at == self.node && self.asked.contains(&About::Seal(recording)) {
            // The answer publishes it.
            return;
        }
        let under_way = self.listed.contains(&(recording, revision))
            || self.listing.contains(&(recording, revision));
        if !under_way {
            self.listing.insert((recording, revision));
            self.outputs.push_back(Output::List { recording, revision, sha256, at });
        }
    }

    fn acknowledge(&mut self, state: &State) {
        let ledger = state.ledger();
        let node = self.node;
        let by_name = &self.by_name;
        self.listed.retain(|(name, revision)| {
            ledger.recording(*name).is_some_and(|slot| slot.acks.get(&node) != Some(revision))
        });
        // What was captured here is dropped first: whoever has acknowledged asks no more.
        let due = self.listed.iter().filter(|(name, _)| !by_name.contains_key(name));
        let recordings: Vec<_> = due.copied().take(ACKS_MAX).collect();
        if !recordings.is_empty() {
            self.propose(About::Ack, Command::Ack { node, recordings });
        }
    }
}

#[cfg(test)]
mod tests;
