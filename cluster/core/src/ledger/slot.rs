//! One recording of one call: its stretches of capture, which of them counts, who seals it, and
//! what each holder is to do. It knows nothing of other calls.
//!
//! ```text
//! claim ──▶ Reserve ──nobody else holds──▶ Holds ──ends, is lost, or is taken over──▶ Held
//! ```
//!
//! A recording is over when the member that holds it says so (the call has ended, or somebody
//! stopped it), or, where nobody holds it, any member that captured a part. It is then sealed once
//! no capture is open, and again whenever a capture turns up that the file lacks.
//!
//! At most one stretch holds at any index of the log. What held and what is in reserve are both
//! material for the sealer: reserves fill what the holders missed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use storage_core::record::Scope;
use storage_core::{NodeId, RecordingId, SegmentId, WallTime};

use crate::command::{Claim, Refusal, Seal, Standing, StretchRef, Terms};
use crate::mirror;
use crate::view::DutyGrant;

/// What the ledger has to know about the group while it applies one entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Present {
    /// Who leads recording.
    pub lead: Option<NodeId>,
    /// Since which grant.
    pub epoch: u64,
    /// Whether that grant moved the calls in progress.
    pub moves: bool,
    /// Who answers.
    pub up: BTreeSet<NodeId>,
    /// Whose calls the lead takes over, because they cannot go on or are out of service.
    pub relieved: BTreeSet<NodeId>,
    /// Who belongs to the group.
    pub members: BTreeSet<NodeId>,
    /// Who of these keeps a catalog (a witness does not).
    pub catalogs: BTreeSet<NodeId>,
}

impl Present {
    /// Who can give what a node captured that cannot be asked itself: its mirror, if that answers.
    #[must_use]
    pub fn keeper(&self, node: NodeId) -> Option<NodeId> {
        mirror::mirror_of(node, &self.catalogs).filter(|keeper| self.up.contains(keeper))
    }
}

/// Who claims a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claimant {
    /// The node that captures it: a sign of its life.
    Owner,
    /// Whoever mirrored it; its node does not answer.
    Keeper,
}

/// One capture's part in a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// Who captured it.
    pub node: NodeId,
    /// Its capture there.
    pub segment: SegmentId,
    /// When media began, by that node's clock.
    #[serde(with = "crate::micros")]
    pub from: WallTime,
    /// When it ended; unknown while it goes on, or if its node went away.
    #[serde(with = "crate::micros::option")]
    pub to: Option<WallTime>,
    /// The epoch under which it was begun.
    pub epoch: u64,
    /// Where its claim stands in the log.
    pub index: u64,
    /// How it stands.
    pub standing: Standing,
    /// Its node stopped answering while it was open.
    pub lost: bool,
}

impl Stretch {
    /// Whether it may still be capturing.
    #[must_use]
    pub const fn open(&self) -> bool {
        self.to.is_none() && !self.lost
    }
}

/// A seal as the ledger remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// Who has the file.
    pub node: NodeId,
    /// Counts completions.
    pub revision: u32,
    /// First audio.
    #[serde(with = "crate::micros")]
    pub from: WallTime,
    /// Last audio.
    #[serde(with = "crate::micros")]
    pub to: WallTime,
    /// SHA-256 of the voice file.
    pub sha256: [u8; 32],
    /// Captures that the file makes superfluous.
    pub accounted: BTreeSet<(NodeId, SegmentId)>,
}

/// How a recording came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Over {
    /// Its call ended, or nobody worth recording was left in it.
    Ended,
    /// Somebody stopped it.
    Stopped,
}

/// What a holder may do with a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It may be needed.
    Keep,
    /// The sealed recording makes it superfluous.
    Drop,
}

/// What a node has to do for a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Another capture holds: leave the call, keep the capture.
    Leave(StretchRef),
    /// All captures have ended: write the file, if the call is over, with this revision.
    Seal {
        /// Which recording.
        recording: RecordingId,
        /// The revision to seal.
        revision: u32,
    },
    /// The capture may go.
    Drop(StretchRef),
    /// The catalog does not list this revision yet.
    Catalog {
        /// Which recording.
        recording: RecordingId,
        /// Its revision.
        revision: u32,
        /// Who has it.
        at: NodeId,
    },
}

/// One recording of one call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// 1, or 2 from a parallel recorder.
    pub copy: u8,
    /// Which recording of the call, from 1.
    pub take: u16,
    /// Its name.
    pub recording: RecordingId,
    /// What is recorded, by the first claim; widened by later ones.
    pub terms: Terms,
    /// Whether it is over, and if so, whether somebody stopped it.
    pub over: Option<Over>,
    /// Its captures in the order of their claims.
    pub stretches: Vec<Stretch>,
    /// Present once it is published.
    pub sealed: Option<Sealed>,
    /// Whose catalog lists it, in which revision.
    pub acks: BTreeMap<NodeId, u32>,
}

impl Slot {
    /// More captures of one recording than any sane call has.
    pub const STRETCHES_MAX: usize = 1024;

    pub(crate) const fn new(copy: u8, take: u16, recording: RecordingId, terms: Terms) -> Self {
        Self {
            copy,
            take,
            recording,
            terms,
            over: None,
            stretches: Vec::new(),
            sealed: None,
            acks: BTreeMap::new(),
        }
    }

    pub(crate) fn claim(
        &mut self,
        index: u64,
        claim: &Claim,
        by: Claimant,
        present: &Present,
    ) -> Result<Standing, Refusal> {
        let handed_in = by == Claimant::Keeper;
        if claim.terms.scope == Scope::Trunk {
            self.terms.scope = Scope::Trunk;
        }
        let known = self.find(claim.node, claim.segment);
        let at = match known {
            Some(at) => {
                // The same capture again: a repeated claim, or its node was thought gone and is not.
                self.stretches[at].lost &= handed_in;
                at
            }
            None if self.stretches.len() >= Self::STRETCHES_MAX => return Err(Refusal::TooMany),
            None => {
                self.stretches.push(Stretch {
                    node: claim.node,
                    segment: claim.segment,
                    from: claim.from,
                    to: None,
                    epoch: claim.epoch,
                    index,
                    standing: Standing::Reserve,
                    lost: handed_in,
                });
                self.stretches.len() - 1
            }
        };
        self.settle(present);
        Ok(self.stretches[at].standing)
    }

    /// Whether this capture is a part of it.
    pub(crate) fn has(&self, node: NodeId, segment: SegmentId) -> bool {
        self.find(node, segment).is_some() || self.fate(node, segment) == Fate::Drop
    }

    /// Whether the claimant has a part of this recording, and means another one.
    pub(crate) fn is_disowned_by(&self, claim: &Claim) -> bool {
        let other = |s: &Stretch| s.node == claim.node && s.segment != claim.segment;
        self.recording != claim.recording
            && self.stretches.iter().any(other)
            && self.find(claim.node, claim.segment).is_none()
    }

    pub(crate) fn end(
        &mut self,
        node: NodeId,
        segment: SegmentId,
        to: WallTime,
        present: &Present,
    ) -> Result<(), Refusal> {
        let at = self.find(node, segment).ok_or(Refusal::UnknownStretch)?;
        let stretch = &mut self.stretches[at];
        stretch.to.get_or_insert(to);
        if stretch.standing == Standing::Holds {
            stretch.standing = Standing::Held;
        }
        self.settle(present);
        Ok(())
    }

    /// Ends the recording. Only the member that holds it can; where nobody does, any that has a
    /// part of it; where none of these answers, any heir.
    pub(crate) fn end_all(
        &mut self,
        node: NodeId,
        stopped: bool,
        present: &Present,
    ) -> Result<(), Refusal> {
        if let Some(holder) = self.holder().filter(|holder| holder.node != node && !stopped) {
            return Err(Refusal::GoesOn(holder.node));
        }
        let concerned =
            self.stretches.iter().any(|s| s.node == node) || self.is_heir(node, present);
        if !concerned && !stopped {
            return Err(Refusal::UnknownStretch);
        }
        let over = if stopped { Over::Stopped } else { Over::Ended };
        if self.over != Some(Over::Stopped) {
            self.over = Some(over);
        }
        for stretch in self.stretches.iter_mut().filter(|s| s.standing == Standing::Holds) {
            stretch.standing = Standing::Held;
        }
        Ok(())
    }

    pub(crate) fn release(
        &mut self,
        node: NodeId,
        segment: SegmentId,
        present: &Present,
    ) -> Result<(), Refusal> {
        let at = self.find(node, segment).ok_or(Refusal::UnknownStretch)?;
        self.stretches.remove(at);
        self.settle(present);
        Ok(())
    }

    pub(crate) fn seal(&mut self, seal: &Seal, present: &Present) -> Result<(), Refusal> {
        let revision = self.sealed.as_ref().map_or(0, |sealed| sealed.revision);
        if let Some(sealed) = &self.sealed
            && (sealed.node, sealed.revision, sealed.sha256)
                == (seal.node, seal.revision, seal.sha256)
        {
            return Ok(());
        }
        if !self.may_seal(seal.node, present) {
            return Err(Refusal::NotSealer(self.sealer(present)));
        }
        if seal.revision != revision + 1 {
            return Err(Refusal::Stale);
        }
        let accounted: BTreeSet<_> = seal.used.iter().chain(&seal.covered).copied().collect();
        // A completed recording may hold more than before, never less.
        if self.sealed.as_ref().is_some_and(|old| !old.accounted.is_subset(&accounted)) {
            return Err(Refusal::Senseless("a completed recording accounts for less than before"));
        }
        self.sealed = Some(Sealed {
            node: seal.node,
            revision: seal.revision,
            from: seal.from,
            to: seal.to,
            sha256: seal.sha256,
            accounted,
        });
        Ok(())
    }

    /// A member stopped answering (or left for good): its open captures have no known end.
    pub(crate) fn node_down(&mut self, node: NodeId) {
        for stretch in self.stretches.iter_mut().filter(|s| s.node == node && s.open()) {
            stretch.lost = true;
            if stretch.standing == Standing::Holds {
                stretch.standing = Standing::Held;
            }
        }
    }

    /// Brings the standings in line with the group: a planned or forced take-over moves the
    /// holding to the new lead's capture; where nobody holds, the best open capture does.
    pub(crate) fn settle(&mut self, present: &Present) {
        if self.sealed.is_some() || self.over.is_some() {
            return;
        }
        let holder = self.holding();
        let leads = |s: &Stretch| s.open() && Some(s.node) == present.lead;
        if let Some(at) = holder {
            let old = &self.stretches[at];
            // A planned or forced take-over; or one that cannot go on, whoever leads.
            let moved = present.moves && old.epoch < present.epoch;
            let relieved = present.relieved.contains(&old.node);
            let superseded = (moved || relieved)
                && Some(old.node) != present.lead
                && self.stretches.iter().any(leads);
            if !superseded {
                return;
            }
            self.stretches[at].standing = Standing::Held;
        }
        // A claim is itself a sign of life: a node not yet known to be up may hold, but last.
        let rank = |s: &Stretch| (!leads(s), !present.up.contains(&s.node), s.index);
        if let Some(next) = self.stretches.iter_mut().filter(|s| s.open()).min_by_key(|s| rank(s)) {
            next.standing = Standing::Holds;
        }
    }

    /// Who holds it now.
    #[must_use]
    pub fn holder(&self) -> Option<&Stretch> {
        self.holding().map(|at| &self.stretches[at])
    }

    /// Who is to write the file: whoever has it already, else the one that held last and answers.
    #[must_use]
    pub fn sealer(&self, present: &Present) -> Option<NodeId> {
        if let Some(sealed) = &self.sealed {
            return Some(sealed.node).filter(|node| present.up.contains(node));
        }
        if let Some(holder) = self.holder() {
            return Some(holder.node);
        }
        let reserve = |s: &&Stretch| (s.standing != Standing::Reserve, s.index);
        let answering = self.stretches.iter().filter(|s| present.up.contains(&s.node));
        answering.max_by_key(reserve).map(|s| s.node)
    }

    /// Whether this member may write the file. Where nobody who has a part of it answers, that is any
    /// heir: who really has a mirror of a capture is known to it alone. The log takes the first.
    #[must_use]
    pub fn may_seal(&self, node: NodeId, present: &Present) -> bool {
        self.sealer(present) == Some(node) || self.is_heir(node, present)
    }

    /// Whether nobody who captured a part of this recording answers, and this member, a recorder, does:
    /// what it has of it in a mirror is all that can be had.
    #[must_use]
    pub fn is_heir(&self, node: NodeId, present: &Present) -> bool {
        self.sealed.is_none()
            && self.holder().is_none()
            && self.stretches.iter().all(|stretch| !present.up.contains(&stretch.node))
            && present.up.contains(&node)
            && present.catalogs.contains(&node)
    }

    /// Whether a member with this duty is to join the call although it is (or was) recorded: nobody
    /// holds it, its holder does not answer, or the duty came with the calls in progress.
    #[must_use]
    pub fn to_take_over(
        &self,
        node: NodeId,
        duty: &DutyGrant,
        alive: impl Fn(NodeId) -> bool,
    ) -> bool {
        self.sealed.is_none()
            && self.over.is_none()
            && self.holder().is_none_or(|holder| {
                let older = duty.moves && holder.epoch < duty.epoch;
                holder.node != node && (older || !alive(holder.node))
            })
    }

    /// Whether somebody may still be capturing.
    #[must_use]
    pub fn open(&self) -> bool {
        self.stretches.iter().any(Stretch::open)
    }

    /// What may become of a capture.
    #[must_use]
    pub fn fate(&self, node: NodeId, segment: SegmentId) -> Fate {
        let accounted = |sealed: &Sealed| sealed.accounted.contains(&(node, segment));
        if self.sealed.as_ref().is_some_and(accounted) { Fate::Drop } else { Fate::Keep }
    }

    /// Whether nothing is left to be done by anybody who answers, and nothing is missing.
    #[must_use]
    pub(crate) fn finished(&self, present: &Present) -> bool {
        let Some(sealed) = &self.sealed else { return false };
        let listed = |node: &NodeId| self.acks.get(node) == Some(&sealed.revision);
        // Who has captured a part, or has the file, must say that it knows, whenever it is back:
        // it may not ask about a recording that is forgotten.
        let concerned = self.stretches.iter().map(|s| &s.node).chain([&sealed.node]);
        // Where whoever has the file has left as well, nobody can add to it any more.
        let left = |node| !present.members.contains(node);
        self.stretches.iter().all(|s| {
            sealed.accounted.contains(&(s.node, s.segment)) || left(&s.node) && left(&sealed.node)
        }) && present.catalogs.intersection(&present.up).all(listed)
            && concerned.filter(|node| present.members.contains(node)).all(listed)
    }

    /// What this node has to do.
    pub fn tasks(&self, node: NodeId, present: &Present, tasks: &mut Vec<Task>) {
        let recording = self.recording;
        let stopped = self.over == Some(Over::Stopped);
        let held_elsewhere = self.holder().is_some_and(|holder| holder.node != node);
        for stretch in self.stretches.iter().filter(|s| s.node == node) {
            let name = StretchRef { recording, node, segment: stretch.segment };
            if self.fate(node, stretch.segment) == Fate::Drop {
                tasks.push(Task::Drop(name));
            } else if (held_elsewhere || stopped) && stretch.open() {
                tasks.push(Task::Leave(name));
            }
        }
        if self.may_seal(node, present) && self.sealable(present) {
            let revision = self.sealed.as_ref().map_or(0, |sealed| sealed.revision) + 1;
            tasks.push(Task::Seal { recording, revision });
        }
        let concerned = present.catalogs.contains(&node)
            || self.stretches.iter().any(|stretch| stretch.node == node);
        if let Some(sealed) = &self.sealed
            && concerned
            && self.acks.get(&node) != Some(&sealed.revision)
        {
            let (revision, at) = (sealed.revision, sealed.node);
            tasks.push(Task::Catalog { recording, revision, at });
        }
    }

    /// Whether a seal would bring something: the first once all captures have ended, a further
    /// one once a capture that is missing can be had. Of a member that has left that is what its mirror has:
    /// nothing more can come.
    fn sealable(&self, present: &Present) -> bool {
        match &self.sealed {
            None => self.over.is_some() && !self.stretches.is_empty() && !self.open(),
            Some(sealed) => self.stretches.iter().any(|s| {
                let left = !present.members.contains(&s.node) && present.keeper(s.node).is_some();
                !s.open()
                    && (present.up.contains(&s.node) || left)
                    && !sealed.accounted.contains(&(s.node, s.segment))
            }),
        }
    }

    fn holding(&self) -> Option<usize> {
        self.stretches.iter().position(|s| s.standing == Standing::Holds)
    }

    fn find(&self, node: NodeId, segment: SegmentId) -> Option<usize> {
        self.stretches.iter().position(|s| (s.node, s.segment) == (node, segment))
    }
}
