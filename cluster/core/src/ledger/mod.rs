//! The ledger of open calls: which capture is the recording, who seals it, what may be dropped.
//! It decides from the log alone, the same on every member; it touches no capture and no file.
//!
//! A call leaves the ledger once all its recordings are sealed, every claimed capture is accounted
//! for, and the catalogs of all members that answer, or that had a part in it, list them. A short
//! memory of such calls stays, so that a claim that arrives late meets the recording and reopens it
//! instead of making a second one. Beyond that memory the catalogs know.

mod lookup;
mod slot;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use storage_core::{NodeId, RecordingId, SegmentId, WallTime};

use crate::command::{CallRef, Claim, Outcome, Refusal, Seal, Standing, StretchRef, Terms};
use crate::state::Change;
use crate::view::DutyGrant;
use lookup::{Lookup, same_call};
pub(crate) use slot::Claimant;
pub use slot::{Fate, Over, Present, Sealed, Slot, Stretch, Task};

/// A call with its recordings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenCall {
    /// The call.
    pub call: CallRef,
    /// Its recordings.
    pub slots: Vec<Slot>,
}

impl OpenCall {
    /// Copies times takes: more than any sane call has.
    const SLOTS_MAX: usize = 64;

    /// When its last recording ended, if all are sealed.
    fn over(&self) -> Option<WallTime> {
        let ends = self.slots.iter().map(|slot| slot.sealed.as_ref().map(|sealed| sealed.to));
        ends.collect::<Option<Vec<_>>>()?.into_iter().max()
    }
}

/// What is remembered of a recording whose call has left the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedSlot {
    /// 1, or 2 from a parallel recorder.
    pub copy: u8,
    /// Which recording of the call.
    pub take: u16,
    /// Its name.
    pub recording: RecordingId,
    /// Who has it.
    pub node: NodeId,
    /// How often it was completed.
    pub revision: u32,
    /// SHA-256 of the voice file.
    pub sha256: [u8; 32],
    /// First audio.
    #[serde(with = "crate::micros")]
    pub from: WallTime,
    /// Last audio.
    #[serde(with = "crate::micros")]
    pub to: WallTime,
    /// How it ended.
    pub over: Over,
}

impl ClosedSlot {
    fn of(slot: &Slot) -> Option<Self> {
        let Sealed { node, revision, from, to, sha256, .. } = *slot.sealed.as_ref()?;
        let (copy, take, recording) = (slot.copy, slot.take, slot.recording);
        let over = slot.over.unwrap_or(Over::Ended);
        Some(Self { copy, take, recording, node, revision, sha256, from, to, over })
    }

    /// See [`Slot::is_disowned_by`]; of a closed recording it is known who has the file.
    fn is_disowned_by(&self, claim: &Claim) -> bool {
        self.node == claim.node && self.recording != claim.recording
    }

    /// The recording as it was, with the captures that nobody needs any more.
    fn reopen(self, terms: Terms, accounted: BTreeSet<(NodeId, SegmentId)>) -> Slot {
        let Self { copy, take, recording, node, revision, sha256, from, to, over } = self;
        let mut slot = Slot::new(copy, take, recording, terms);
        slot.sealed = Some(Sealed { node, revision, from, to, sha256, accounted });
        slot.over = Some(over);
        slot
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ClosedCall {
    call: CallRef,
    slots: Vec<ClosedSlot>,
    /// What became a part of which of them: a node with a full disk may forget that it has said so.
    captures: BTreeMap<(NodeId, SegmentId), RecordingId>,
}

impl ClosedCall {
    fn over(&self) -> Option<WallTime> {
        self.slots.iter().map(|slot| slot.to).max()
    }
}

/// The open calls, by the log index of their first claim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct Ledger {
    calls: BTreeMap<u64, OpenCall>,
    closed: BTreeMap<u64, ClosedCall>,
    lookup: Lookup,
    closed_lookup: Lookup,
}

/// The ledger without its indices, as it lies in a snapshot.
#[derive(Clone, Serialize, Deserialize)]
struct Stored {
    calls: BTreeMap<u64, OpenCall>,
    closed: BTreeMap<u64, ClosedCall>,
}

impl From<Ledger> for Stored {
    fn from(ledger: Ledger) -> Self {
        Self { calls: ledger.calls, closed: ledger.closed }
    }
}

impl From<Stored> for Ledger {
    fn from(stored: Stored) -> Self {
        let mut ledger = Self { calls: stored.calls, closed: stored.closed, ..Self::default() };
        for (&number, call) in &ledger.calls {
            ledger.lookup.add_call(number, &call.call);
            for slot in &call.slots {
                ledger.lookup.add_recording(slot.recording, number);
            }
        }
        for (&number, call) in &ledger.closed {
            ledger.closed_lookup.add_call(number, &call.call);
            for slot in &call.slots {
                ledger.closed_lookup.add_recording(slot.recording, number);
            }
            ledger.closed_lookup.add_captures(call.captures.keys(), number);
        }
        ledger
    }
}

impl Ledger {
    /// More open calls than the largest site has; beyond it the oldest leaves.
    pub const CALLS_MAX: usize = 20_000;
    /// How many closed calls are remembered.
    pub const CLOSED_MAX: usize = 16_384;

    pub(crate) fn claim(
        &mut self,
        index: u64,
        claim: &Claim,
        by: Claimant,
        present: &Present,
        changes: &mut Vec<Change>,
    ) -> Outcome {
        if by == Claimant::Keeper && present.up.contains(&claim.node) {
            return Outcome::Refused(Refusal::Answers(claim.node));
        }
        let open = self.find_claimed(claim);
        self.reopen(claim, open);
        let open =
            self.lookup.recording(claim.recording).or_else(|| self.find_captured(claim)).or(open);
        let open = open.or_else(|| self.find_open_for(claim));
        let number = open.unwrap_or_else(|| self.open_call(index, &claim.call, changes));
        self.learn_ucid(number, &claim.call);
        let at = match self.slot_for(number, claim) {
            Ok(at) => at,
            Err(refusal) => {
                if self.calls.get(&number).is_some_and(|call| call.slots.is_empty()) {
                    self.take_out(number);
                }
                return Outcome::Refused(refusal);
            }
        };
        let call = self.calls.get_mut(&number);
        let Some(slot) = call.and_then(|call| call.slots.get_mut(at)) else {
            return Outcome::Refused(Refusal::UnknownRecording);
        };
        let before = slot.holder().map(|holder| holder.node);
        match slot.claim(index, claim, by, present) {
            Ok(standing) => {
                let holder = slot.holder().map(|holder| holder.node);
                let recording = slot.recording;
                let (node, segment) = (claim.node, claim.segment);
                let stretch = StretchRef { recording, node, segment };
                changes.push(Change::Claimed { stretch, standing });
                if holder != before {
                    changes.push(Change::Holder { recording, holder });
                }
                Outcome::Claimed { recording, standing, holder }
            }
            Err(refusal) => Outcome::Refused(refusal),
        }
    }

    pub(crate) fn end(
        &mut self,
        stretch: &StretchRef,
        to: WallTime,
        present: &Present,
        changes: &mut Vec<Change>,
    ) -> Outcome {
        self.on_slot(stretch.recording, present, changes, |slot, changes| {
            slot.end(stretch.node, stretch.segment, to, present)?;
            changes.push(Change::Ended { stretch: *stretch });
            Ok(())
        })
    }

    pub(crate) fn over(
        &mut self,
        recording: RecordingId,
        node: NodeId,
        stopped: bool,
        present: &Present,
        changes: &mut Vec<Change>,
    ) -> Outcome {
        self.on_slot(recording, present, changes, |slot, changes| {
            slot.end_all(node, stopped, present)?;
            changes.push(Change::Over { recording });
            Ok(())
        })
    }

    pub(crate) fn release(
        &mut self,
        stretch: &StretchRef,
        present: &Present,
        changes: &mut Vec<Change>,
    ) -> Outcome {
        self.on_slot(stretch.recording, present, changes, |slot, changes| {
            slot.release(stretch.node, stretch.segment, present)?;
            changes.push(Change::Ended { stretch: *stretch });
            Ok(())
        })
    }

    pub(crate) fn seal(
        &mut self,
        seal: &Seal,
        present: &Present,
        changes: &mut Vec<Change>,
    ) -> Outcome {
        self.on_slot(seal.recording, present, changes, |slot, changes| {
            let (recording, node, revision) = (seal.recording, seal.node, seal.revision);
            slot.seal(seal, present)?;
            changes.push(Change::Sealed { recording, node, revision });
            Ok(())
        })
    }

    pub(crate) fn ack(
        &mut self,
        node: NodeId,
        recording: RecordingId,
        revision: u32,
        present: &Present,
        changes: &mut Vec<Change>,
    ) {
        // An acknowledgement for a call that has left in the meantime is of no use to anybody.
        let _ = self.on_slot(recording, present, changes, |slot, _| {
            slot.acks.insert(node, revision);
            Ok(())
        });
    }

    pub(crate) fn resolve(
        &mut self,
        recording: RecordingId,
        present: &Present,
        changes: &mut Vec<Change>,
    ) -> Outcome {
        let Some(number) = self.lookup.recording(recording) else {
            return Outcome::Refused(Refusal::UnknownRecording);
        };
        self.remove_slot(number, recording);
        changes.push(Change::Evicted { recording });
        let rest = self.calls.get(&number);
        if rest.is_some_and(|call| call.slots.iter().all(|slot| slot.finished(present))) {
            self.close(number, changes);
        }
        Outcome::Done
    }

    /// The group's facts changed: members went or came, or the lead moved.
    pub(crate) fn regroup(
        &mut self,
        down: &BTreeSet<NodeId>,
        present: &Present,
        changes: &mut Vec<Change>,
    ) {
        let mut finished = Vec::new();
        for (&number, call) in &mut self.calls {
            for slot in &mut call.slots {
                let before = slot.holder().map(|holder| holder.node);
                for &node in down {
                    slot.node_down(node);
                }
                slot.settle(present);
                let holder = slot.holder().map(|holder| holder.node);
                if holder != before {
                    changes.push(Change::Holder { recording: slot.recording, holder });
                }
            }
            if call.slots.iter().all(|slot| slot.finished(present)) {
                finished.push(number);
            }
        }
        for number in finished {
            self.close(number, changes);
        }
    }

    /// Since when nothing that was closed has been forgotten: of a capture from before nobody can tell whether
    /// it was ever claimed. `None` if nothing was forgotten yet.
    #[must_use]
    pub fn remembers_since(&self) -> Option<WallTime> {
        let full = self.closed.len() >= Self::CLOSED_MAX;
        let oldest = full.then(|| self.closed.first_key_value()).flatten();
        oldest.and_then(|(_, call)| call.over())
    }

    /// All open calls, oldest first.
    pub fn calls(&self) -> impl Iterator<Item = &OpenCall> {
        self.calls.values()
    }

    /// How many calls are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether no call is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// The open call that is meant.
    #[must_use]
    pub fn call(&self, call: &CallRef) -> Option<&OpenCall> {
        self.calls.get(&self.find_open(call)?)
    }

    /// The newest recording of the call, in this copy: its name, and who holds it.
    #[must_use]
    pub fn slot(&self, call: &CallRef, copy: u8) -> Option<&Slot> {
        let slots = self.call(call)?.slots.iter().filter(|slot| slot.copy == copy);
        slots.max_by_key(|slot| slot.take)
    }

    /// An open recording by its name.
    #[must_use]
    pub fn recording(&self, recording: RecordingId) -> Option<&Slot> {
        let call = self.calls.get(&self.lookup.recording(recording)?)?;
        call.slots.iter().find(|slot| slot.recording == recording)
    }

    /// The call of an open recording.
    #[must_use]
    pub fn call_of(&self, recording: RecordingId) -> Option<&CallRef> {
        Some(&self.calls.get(&self.lookup.recording(recording)?)?.call)
    }

    /// A recording that has left the ledger, if it is still remembered.
    #[must_use]
    pub fn closed_slot(&self, recording: RecordingId) -> Option<&ClosedSlot> {
        let call = self.closed.get(&self.closed_lookup.recording(recording)?)?;
        call.slots.iter().find(|slot| slot.recording == recording)
    }

    /// Recordings that somebody stopped and that have left the ledger, as far as they are remembered.
    pub fn stopped(&self) -> impl Iterator<Item = (&CallRef, &ClosedSlot)> {
        let calls = self.closed.values();
        calls
            .flat_map(|closed| closed.slots.iter().map(|slot| (&closed.call, slot)))
            .filter(|(_, slot)| slot.over == Over::Stopped)
    }

    /// The newest recording of the call in this copy that has left the ledger, if it is still
    /// remembered.
    #[must_use]
    pub fn closed<'a>(&'a self, call: &'a CallRef, copy: u8) -> Option<&'a ClosedSlot> {
        let slots = self.closed_matches(call).flat_map(|closed| &closed.slots);
        slots.filter(|slot| slot.copy == copy).max_by_key(|slot| slot.take)
    }

    /// The take to which a capture that begins now belongs: the open one, or the next.
    #[must_use]
    pub fn take(&self, call: &CallRef, copy: u8) -> u16 {
        let open = self.slot(call, copy).map(|slot| match (&slot.sealed, slot.over) {
            (None, None) => slot.take,
            _ => slot.take.saturating_add(1),
        });
        let closed = self.closed(call, copy).map(|slot| slot.take.saturating_add(1));
        open.max(closed).unwrap_or(1)
    }

    /// What may become of a capture; `None` if the ledger no longer knows the recording.
    #[must_use]
    pub fn fate(&self, stretch: &StretchRef) -> Option<Fate> {
        if let Some(slot) = self.recording(stretch.recording) {
            return Some(slot.fate(stretch.node, stretch.segment));
        }
        // Nothing leaves the ledger closed before every claimed capture is accounted for.
        self.closed_slot(stretch.recording).map(|_| Fate::Drop)
    }

    /// The captures of a member that sealed recordings make superfluous, as far as their calls are open.
    pub fn accounted(&self, node: NodeId) -> impl Iterator<Item = SegmentId> {
        let slots = self.calls.values().flat_map(|call| &call.slots);
        let sealed = slots.filter_map(|slot| slot.sealed.as_ref());
        let all = sealed.flat_map(|sealed| sealed.accounted.iter());
        all.filter(move |(of, _)| *of == node).map(|(_, segment)| *segment)
    }

    /// The captures of a member that open calls have.
    pub fn claimed(&self, node: NodeId) -> impl Iterator<Item = SegmentId> {
        let slots = self.calls.values().flat_map(|call| &call.slots);
        let stretches = slots.flat_map(|slot| slot.stretches.iter());
        stretches.filter(move |s| s.node == node).map(|stretch| stretch.segment)
    }

    /// Whether a capture is a part of a recording that has left the ledger, as far as that is remembered.
    #[must_use]
    pub fn is_closed(&self, node: NodeId, segment: SegmentId) -> bool {
        self.closed_lookup.capture((node, segment)).is_some()
    }

    /// What this node has to do, oldest call first, at most `limit`.
    #[must_use]
    pub fn tasks(&self, node: NodeId, present: &Present, limit: usize) -> Vec<Task> {
        let mut tasks = Vec::new();
        for slot in self.calls.values().flat_map(|call| &call.slots) {
            if tasks.len() >= limit {
                break;
            }
            slot.tasks(node, present, &mut tasks);
        }
        tasks.truncate(limit);
        tasks
    }

    /// Open recordings that a member with this duty is to join; see [`Slot::to_take_over`].
    pub fn to_take_over(
        &self,
        node: NodeId,
        duty: &DutyGrant,
        alive: impl Fn(NodeId) -> bool + Copy,
    ) -> impl Iterator<Item = (&CallRef, &Slot)> {
        let slots = self
            .calls
            .values()
            .flat_map(|call| call.slots.iter().map(move |slot| (&call.call, slot)));
        slots
            .filter(move |(_, slot)| slot.copy == duty.copy && slot.to_take_over(node, duty, alive))
    }

    fn open_call(&mut self, index: u64, call: &CallRef, changes: &mut Vec<Change>) -> u64 {
        while self.calls.len() >= Self::CALLS_MAX {
            self.evict_oldest(changes);
        }
        self.lookup.add_call(index, call);
        self.calls.insert(index, OpenCall { call: call.clone(), slots: Vec::new() });
        index
    }

    /// A call that was first seen without its UCID has one from now on.
    fn learn_ucid(&mut self, number: u64, call: &CallRef) {
        let Some(known) = self.calls.get_mut(&number) else { return };
        if known.call.ucid.is_none() && call.ucid.is_some() {
            self.lookup.remove_call(number, &known.call);
            known.call.ucid.clone_from(&call.ucid);
            self.lookup.add_call(number, &known.call);
        }
    }

    /// Where among the call's recordings the one is that is claimed; made if there is none yet.
    fn slot_for(&mut self, number: u64, claim: &Claim) -> Result<usize, Refusal> {
        let slots = &mut self.calls.get_mut(&number).ok_or(Refusal::UnknownRecording)?.slots;
        let wanted = (claim.copy, claim.take);
        let captured = slots.iter().position(|slot| slot.has(claim.node, claim.segment));
        let found =
            captured.or_else(|| slots.iter().position(|slot| (slot.copy, slot.take) == wanted));
        match found {
            Some(at) => Ok(at),
            None if slots.len() >= OpenCall::SLOTS_MAX => Err(Refusal::TooMany),
            None => {
                let taken = self.lookup.recording(claim.recording).is_some()
                    || self.closed_lookup.recording(claim.recording).is_some();
                if taken {
                    return Err(Refusal::Senseless("the recording's name is in use"));
                }
                let terms = claim.terms.clone();
                slots.push(Slot::new(claim.copy, claim.take, claim.recording, terms));
                self.lookup.add_recording(claim.recording, number);
                Ok(slots.len() - 1)
            }
        }
    }

    fn on_slot(
        &mut self,
        recording: RecordingId,
        present: &Present,
        changes: &mut Vec<Change>,
        act: impl FnOnce(&mut Slot, &mut Vec<Change>) -> Result<(), Refusal>,
    ) -> Outcome {
        let Some(number) = self.lookup.recording(recording) else {
            return Outcome::Refused(Refusal::UnknownRecording);
        };
        let slots = self.calls.get_mut(&number).map(|call| &mut call.slots);
        let slot = slots.and_then(|slots| slots.iter_mut().find(|s| s.recording == recording));
        let Some(slot) = slot else {
            return Outcome::Refused(Refusal::UnknownRecording);
        };
        let before = slot.holder().map(|holder| holder.node);
        if let Err(refusal) = act(slot, changes) {
            return Outcome::Refused(refusal);
        }
        let holder = slot.holder().map(|holder| holder.node);
        if holder != before {
            changes.push(Change::Holder { recording, holder });
        }
        if slot.stretches.is_empty() && slot.sealed.is_none() {
            self.remove_slot(number, recording);
            changes.push(Change::Evicted { recording });
        }
        // The others of the call may have waited for this one only.
        let rest = self.calls.get(&number);
        if rest.is_some_and(|call| call.slots.iter().all(|slot| slot.finished(present))) {
            self.close(number, changes);
        }
        Outcome::Done
    }

    fn remove_slot(&mut self, number: u64, recording: RecordingId) {
        self.lookup.remove_recording(recording);
        if let Some(call) = self.calls.get_mut(&number) {
            call.slots.retain(|slot| slot.recording != recording);
            if call.slots.is_empty() {
                self.lookup.remove_call(number, &call.call);
                self.calls.remove(&number);
            }
        }
    }

    fn close(&mut self, number: u64, changes: &mut Vec<Change>) {
        let Some(call) = self.take_out(number) else { return };
        let mut slots = Vec::with_capacity(call.slots.len());
        let mut captures = BTreeMap::new();
        for slot in call.slots {
            let Some(closed) = ClosedSlot::of(&slot) else { continue };
            let recording = closed.recording;
            let accounted = slot.sealed.into_iter().flat_map(|sealed| sealed.accounted);
            captures.extend(accounted.map(|capture| (capture, recording)));
            slots.push(closed);
            self.closed_lookup.add_recording(recording, number);
            changes.push(Change::Closed { recording });
        }
        self.closed_lookup.add_call(number, &call.call);
        self.closed_lookup.add_captures(captures.keys(), number);
        self.closed.insert(number, ClosedCall { call: call.call, slots, captures });
        while self.closed.len() > Self::CLOSED_MAX {
            let Some((oldest, call)) = self.closed.pop_first() else { break };
            self.closed_lookup.remove_call(oldest, &call.call);
            self.closed_lookup.remove_captures(call.captures.keys());
            for slot in call.slots {
                self.closed_lookup.remove_recording(slot.recording);
            }
        }
    }

    fn evict_oldest(&mut self, changes: &mut Vec<Change>) {
        let Some(&oldest) = self.calls.keys().next() else { return };
        let evicted = self.take_out(oldest).map(|call| call.slots).unwrap_or_default();
        changes.extend(evicted.iter().map(|slot| Change::Evicted { recording: slot.recording }));
    }

    fn take_out(&mut self, number: u64) -> Option<OpenCall> {
        let call = self.calls.remove(&number)?;
        self.lookup.remove_call(number, &call.call);
        for slot in &call.slots {
            self.lookup.remove_recording(slot.recording);
        }
        Some(call)
    }

    fn find_open(&self, call: &CallRef) -> Option<u64> {
        self.lookup.candidates(call).into_iter().find(|number| {
            let known = &self.calls[number];
            same_call(&known.call, known.over(), call, None)
        })
    }

    /// The open call to which a claim belongs. A name that is known says more than what the claimant
    /// makes of the call by now: a merge may have changed the call's number, or its identity, since
    /// the recording began. Numbers are used again: where no identity tells, a node that has a part
    /// of a recording and claims under another name means another call.
    fn find_claimed(&self, claim: &Claim) -> Option<u64> {
        let named = self.lookup.recording(claim.recording);
        named.or_else(|| self.find_captured(claim)).or_else(|| self.find_open_for(claim))
    }

    /// The call of which this very capture is a part already: its node has forgotten under which name,
    /// because a power cut or a full disk took that.
    fn find_captured(&self, claim: &Claim) -> Option<u64> {
        let has = |slot: &Slot| slot.has(claim.node, claim.segment);
        self.calls.iter().find(|(_, call)| call.slots.iter().any(has)).map(|(number, _)| *number)
    }

    fn find_open_for(&self, claim: &Claim) -> Option<u64> {
        self.lookup.candidates(&claim.call).into_iter().find(|number| {
            let known = &self.calls[number];
            let by_number = known.call.ucid.is_none() || claim.call.ucid.is_none();
            same_call(&known.call, known.over(), &claim.call, Some(claim.from))
                && !(by_number && known.slots.iter().any(|slot| slot.is_disowned_by(claim)))
        })
    }

    fn closed_matches<'a>(&'a self, call: &'a CallRef) -> impl Iterator<Item = &'a ClosedCall> {
        let candidates = self.closed_lookup.candidates(call).into_iter();
        let known = candidates.filter_map(|number| self.closed.get(&number));
        known.filter(move |known| same_call(&known.call, known.over(), call, None))
    }

    /// Brings the closed call back to which a claim belongs: if its name is that of a recording there, or
    /// the very capture is a part of one, beside whatever is open of the same call by now; else unless
    /// its take is open.
    fn reopen(&mut self, claim: &Claim, open: Option<u64>) {
        let wanted = (claim.copy, claim.take);
        let is_it = |slot: &ClosedSlot| (slot.copy, slot.take) == wanted;
        let slots = open.and_then(|number| self.calls.get(&number)).map(|call| &call.slots);
        let occupied = slots.into_iter().flatten().any(|s| (s.copy, s.take) == wanted);
        let capture = (claim.node, claim.segment);
        let named = self.closed_lookup.recording(claim.recording);
        let named = named.or_else(|| self.closed_lookup.capture(capture));
        if occupied && named.is_none() {
            return;
        }
        let candidates = self.closed_lookup.candidates(&claim.call);
        let found = named.or_else(|| {
            candidates.into_iter().find(|number| {
                self.closed.get(number).is_some_and(|known| {
                    let by_number = known.call.ucid.is_none() || claim.call.ucid.is_none();
                    same_call(&known.call, known.over(), &claim.call, Some(claim.from))
                        && known.slots.iter().any(is_it)
                        && !(by_number && known.slots.iter().any(|slot| slot.is_disowned_by(claim)))
                })
            })
        });
        let Some((number, known)) = found.and_then(|n| Some((n, self.closed.remove(&n)?))) else {
            return;
        };
        self.closed_lookup.remove_call(number, &known.call);
        self.closed_lookup.remove_captures(known.captures.keys());
        let into = open.filter(|_| !occupied).unwrap_or_else(|| {
            self.lookup.add_call(number, &known.call);
            self.calls.insert(number, OpenCall { call: known.call, slots: Vec::new() });
            number
        });
        for slot in known.slots {
            self.closed_lookup.remove_recording(slot.recording);
            self.lookup.add_recording(slot.recording, into);
            let of_it = known.captures.iter().filter(|(_, of)| **of == slot.recording);
            let accounted = of_it.map(|(capture, _)| *capture).collect();
            if let Some(call) = self.calls.get_mut(&into) {
                call.slots.push(slot.reopen(claim.terms.clone(), accounted));
            }
        }
    }
}

/// How a stretch stands, by name.
impl Ledger {
    /// The standing of a capture in an open recording.
    #[must_use]
    pub fn standing(&self, stretch: &StretchRef) -> Option<Standing> {
        let stretches = &self.recording(stretch.recording)?.stretches;
        let same = |s: &&Stretch| (s.node, s.segment) == (stretch.node, stretch.segment);
        stretches.iter().find(same).map(|s| s.standing)
    }
}

#[cfg(test)]
mod tests;
