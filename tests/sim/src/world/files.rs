//! Voice files between nodes: sealing, with captures pulled from peers, and what a catalog enters of a
//! peer's. What a file holds is told in frames ([`crate::frames`]).

use std::collections::BTreeSet;

use astlogger::bridge::core::{SealOrder, SealOutcome};
use storage_core::{NodeId, RecordingId, SegmentId};

use super::{ANSWER_WITHIN, Event, Pulled, World};
use crate::disk::Voice;
use crate::frames::{FRAME, Frames};
use crate::host::Input;
use crate::{MS, SECOND};

impl World {
    /// The sealer at work: what it can have goes into the file.
    pub(super) fn seal(&mut self, node: NodeId, boot: u64, order: &SealOrder, waited: bool) {
        if !self.runs(node, boot) {
            return;
        }
        let again = |waited| {
            let order = Box::new(order.clone());
            Event::Seal { node, boot, order, waited }
        };
        if self.hosts[&node].disk.full || self.hosts[&node].hung {
            return self.schedule(self.now + SECOND, again(waited));
        }
        if !waited && order.remote.keys().any(|peer| !self.reaches(node, *peer)) {
            return self.schedule(self.now + ANSWER_WITHIN, again(true));
        }
        let (outcome, voice) = self.sealed(node, order);
        let takes = self.rng.range(15, 120) * MS;
        let input = Box::new(Input::Sealed(order.recording, outcome, voice.map(Box::new)));
        self.schedule(self.now + takes, Event::To(node, Some(boot), input));
    }

    pub(super) fn sealed(
        &mut self,
        node: NodeId,
        order: &SealOrder,
    ) -> (SealOutcome, Option<Voice>) {
        let Some((mut frames, captures)) = self.sources(node, order) else {
            return (SealOutcome::Failed, None);
        };
        let captures: Vec<_> = captures.into_iter().collect();
        let published = self.hosts[&node].disk.published.get(&order.recording);
        if let Some(old) = published {
            if old.frames.missing(&frames).is_none() {
                return (SealOutcome::Same { captures }, None);
            }
            frames.unite(&old.frames);
        }
        if frames.is_empty() {
            return (SealOutcome::Nothing, None);
        }
        let sha256 = frames.digest(u64::from(order.revision));
        let (recording, revision) = (order.recording, order.revision);
        let voice = Voice {
            recording,
            revision,
            sha256,
            copy: order.copy,
            frames,
            captures: captures.iter().copied().collect(),
        };
        self.check.voices.insert(sha256, voice.clone());
        let (first, last) = voice.frames.span();
        let host = &self.hosts[&node];
        let (from, to) = (host.wall(first * FRAME), host.wall(last * FRAME));
        (SealOutcome::Staged { from, to, sha256, captures }, Some(voice))
    }

    /// Everything that an order names and that can be had: what was heard, and the captures that were looked
    /// at. `None` if some of it is not to be had now.
    fn sources(
        &self,
        node: NodeId,
        order: &SealOrder,
    ) -> Option<(Frames, BTreeSet<(NodeId, SegmentId)>)> {
        let mut frames = Frames::default();
        let mut captures = BTreeSet::new();
        let journal = &self.hosts[&node].disk.journal;
        for local in &order.local {
            let held = journal.open.get(local)?;
            frames.unite(&held.frames());
            captures.extend(held.segments.keys().map(|segment| (node, *segment)));
        }
        let mut pulled = false;
        for (peer, segments) in &order.remote {
            if !self.reaches(node, *peer) {
                // What cannot be pulled for the first revision comes from the mirror.
                let mirror = self.hosts[&node].disk.mirrors.get(peer);
                for segment in segments.iter().filter(|_| order.revision == 1) {
                    let kept = mirror.map(|mirror| mirror.frames(*segment)).unwrap_or_default();
                    pulled |= !kept.is_empty();
                    frames.unite(&kept);
                }
                continue;
            }
            match self.pull(*peer, segments) {
                Pulled::Busy => return None,
                Pulled::NotFound => {}
                Pulled::Captures(found) => {
                    pulled = true;
                    for (segment, heard) in found {
                        frames.unite(&heard);
                        captures.insert((*peer, segment));
                    }
                }
            }
        }
        for ((owner, keeper), part) in &order.mirrored {
            if node != *keeper && !self.reaches(node, *keeper) {
                continue;
            }
            let mirror = self.hosts[keeper].disk.mirrors.get(owner);
            for segment in &part.segments {
                let kept = mirror.map(|mirror| mirror.frames(*segment)).unwrap_or_default();
                pulled |= part.left || !kept.is_empty();
                frames.unite(&kept);
                // Of one that has left, what is not there will never be.
                if part.left {
                    captures.insert((*owner, *segment));
                }
            }
        }
        if order.local.is_empty() && !pulled {
            return None;
        }
        Some((frames, captures))
    }

    pub(super) fn pull(&self, peer: NodeId, segments: &[SegmentId]) -> Pulled {
        let host = &self.hosts[&peer];
        if host.recorder().is_none() {
            return Pulled::NotFound;
        }
        let journal = &host.disk.journal;
        let locals: BTreeSet<RecordingId> =
            segments.iter().filter_map(|segment| journal.recording_of(*segment)).collect();
        if locals.is_empty() {
            return Pulled::NotFound;
        }
        let mut found = Vec::new();
        for local in locals {
            let held = &journal.open[&local];
            if held.draft.as_ref().is_some_and(|draft| draft.ended.is_none()) {
                return Pulled::Busy;
            }
            for (segment, known) in held.segments.iter().filter(|(s, _)| segments.contains(s)) {
                let mut frames = Frames::default();
                known.add_to(&mut frames);
                found.push((*segment, frames));
            }
        }
        Pulled::Captures(found)
    }

    pub(super) fn list(
        &mut self,
        node: NodeId,
        boot: u64,
        at: NodeId,
        (recording, revision, sha256): (RecordingId, u32, [u8; 32]),
    ) {
        let reaches = self.reaches(node, at);
        let published = self.hosts.get(&at).and_then(|host| host.disk.published.get(&recording));
        let done = reaches && published.is_some_and(|voice| voice.sha256 == sha256);
        let delay = if reaches { 5 * MS } else { ANSWER_WITHIN };
        let input = Box::new(Input::Listed(recording, revision, done, sha256));
        self.schedule(self.now + delay, Event::To(node, Some(boot), input));
    }
}
