//! Mirrored capture as a model: what each recorder's keeper has of its journal, and what the loss of a node
//! with its disk must leave. The mirror lags behind by a moment, and has nothing newer while one of the two
//! does not run, hangs, does not reach the other or has a full disk. Bytes, places and restarts of the tail
//! are `storage/tests/mirror.rs`.

use std::collections::{BTreeMap, BTreeSet};

use astlogger::bridge::core::{Bridge, Mirrors, is_unclaimed};
use astlogger::bridge::words::Outline;
use cluster_core::{Command, State, mirror};
use storage_core::{NodeId, RecordingId, Role, SegmentId};

use crate::checker::Kind;
use crate::disk::{Disk, Heard1, Held};
use crate::frames::{FRAME, Frames};
use crate::host::{Host, Input};
use crate::world::{Event, World};
use crate::{MS, SECOND, Time};

/// Between two looks at what a mirror has by now.
const BEAT: Time = 50 * MS;
/// A mirror is not behind by more while both nodes do their work.
const LAG: Time = 300 * MS;

/// What is kept of one node's journal.
#[derive(Clone, Debug, Default)]
pub struct Mirror {
    open: BTreeMap<RecordingId, Held>,
    /// It has all that was captured before this.
    until: Time,
}

impl Mirror {
    /// What is kept of one of its captures.
    pub fn frames(&self, segment: SegmentId) -> Frames {
        let mut frames = Frames::default();
        let segments = self.open.values().filter_map(|held| held.segments.get(&segment));
        segments.for_each(|known| known.add_to(&mut frames));
        frames
    }

    /// What it has of its owner's recordings: captures of which it has at least a frame.
    pub fn outlines(&self, owner: NodeId) -> impl Iterator<Item = Outline> {
        self.open.iter().map(move |(local, held)| {
            let mut outline = held.outline(owner, *local);
            outline.captures.retain(|(claim, _)| !self.frames(claim.segment).is_empty());
            outline
        })
    }
}

impl Disk {
    /// What it keeps of nodes that do not answer, and was never claimed, is handed in.
    pub fn inherit(&self, bridge: &mut Bridge, state: &State) {
        for (owner, mirror) in &self.mirrors {
            let unclaimed = |outline: &Outline| {
                let mut segments = outline.captures.iter().map(|(claim, _)| claim.segment);
                segments.any(|segment| is_unclaimed(state, *owner, segment))
            };
            for outline in mirror.outlines(*owner).filter(unclaimed) {
                bridge.inherited(&outline, state);
            }
        }
    }
}

impl Mirrors for Disk {
    fn holds(&self, node: NodeId, segment: SegmentId) -> bool {
        let kept = self.mirrors.get(&node).map(|mirror| mirror.frames(segment));
        kept.is_some_and(|frames| !frames.is_empty())
    }
}

/// A node that is gone for good, and what it had captured that others must have.
#[derive(Clone, Debug)]
pub struct Loss {
    pub node: NodeId,
    owed: Vec<(RecordingId, SegmentId, Frames)>,
}

impl World {
    /// Mirrors take what they can get.
    pub fn mirror(&mut self) {
        self.schedule(self.now + BEAT, Event::Mirror);
        let recorders: BTreeSet<NodeId> = self.recorders();
        for owner in &recorders {
            let Some(keeper) = mirror::mirror_of(*owner, &recorders) else { continue };
            let lag = self.rng.range(0, LAG);
            let until = self.now.saturating_sub(lag);
            let well = |host: &Host| host.recorder().is_some() && !host.hung;
            let works = well(&self.hosts[owner])
                && well(&self.hosts[&keeper])
                && !self.hosts[&keeper].disk.full
                && self.net.connected(*owner, keeper)
                && self.net.connected(keeper, *owner);
            if !works {
                continue;
            }
            let (open, before) =
                (self.hosts[owner].captured(until), &self.hosts[&keeper].disk.mirrors);
            if before.get(owner).is_some_and(|mirror| mirror.until > until) {
                continue;
            }
            if let Some(host) = self.hosts.get_mut(&keeper) {
                host.disk.mirrors.insert(*owner, Mirror { open, until });
            }
        }
    }

    fn recorders(&self) -> BTreeSet<NodeId> {
        let hosts = self.hosts.values().filter(|host| host.role != Role::Witness && !host.removed);
        hosts.map(|host| host.id).collect()
    }

    /// A recorder is gone with its disk. What its keeper has is owed, but for what the group had agreed
    /// that it publishes itself.
    pub fn lose(&mut self) {
        let recorders = self.recorders();
        let choice: Vec<NodeId> = recorders.iter().copied().collect();
        let node = self.rng.pick(&choice);
        let Some(keeper) = mirror::mirror_of(node, &recorders) else { return };
        let kept = self.hosts[&keeper].disk.mirrors.get(&node).cloned().unwrap_or_default();
        let mut owed = Vec::new();
        let captures = kept
            .open
            .iter()
            .flat_map(|(local, held)| held.segments.keys().map(move |segment| (*local, segment)));
        for (local, segment) in captures {
            // One that was never claimed bears the name that its node gave it.
            let name = self.check.names.get(&(node, *segment)).copied().unwrap_or(local);
            let sealed = self.check.sealed.get(&name).and_then(|seals| seals.last());
            if sealed.is_none_or(|sealed| sealed.node != node) {
                owed.push((name, *segment, kept.frames(*segment)));
            }
        }
        self.trace(format!(
            "fault: {node} is lost with its disk; {} captures are kept",
            owed.len()
        ));
        self.gone(node);
        self.tell_of_death(node);
        if let Some(host) = self.hosts.get_mut(&node) {
            host.disk = Disk::default();
            host.removed = true;
        }
        self.lost = Some(Loss { node, owed });
    }

    /// An operator gives up a lost node, and what only its disk had: files that it had sealed, captures
    /// that no mirror has.
    pub fn give_up(&mut self) {
        let Some(lost) = self.lost.as_ref().map(|loss| loss.node) else { return };
        let leader = self
            .hosts
            .values()
            .find(|host| host.process.as_ref().is_some_and(|process| process.node.is_leader()));
        let Some(leader) = leader else {
            return self.schedule(self.now + SECOND, Event::GiveUp);
        };
        let (id, mut commands) = (leader.id, Vec::new());
        if let Some(process) = &leader.process {
            let state = process.node.state();
            if state.members().contains_key(&lost) {
                commands.push(Command::RemoveMember { node: lost });
            }
            let slots = state.ledger().calls().flat_map(|call| &call.slots);
            let kept = |segment| self.hosts.values().any(|host| host.disk.holds(lost, segment));
            let theirs = slots.filter(|slot| match &slot.sealed {
                Some(sealed) => sealed.node == lost,
                None => slot.stretches.iter().all(|s| s.node == lost && !kept(s.segment)),
            });
            commands.extend(theirs.map(|slot| Command::Resolve { recording: slot.recording }));
        }
        // What is given up may be published anew by whoever has a part of it still.
        for command in &commands {
            if let Command::Resolve { recording } = command {
                self.check.forget(*recording);
                // Its seal may have been agreed upon only after it was lost.
                if let Some(loss) = &mut self.lost {
                    loss.owed.retain(|(name, ..)| name != recording);
                }
            }
        }
        let more = !commands.is_empty();
        for command in commands {
            self.give(id, Input::Command(Box::new(command)));
        }
        if more {
            self.schedule(self.now + 3 * SECOND, Event::GiveUp);
        }
    }

    /// Whether all that was mirrored of a lost node is published.
    pub fn judge_loss(&mut self) {
        let Some(loss) = self.lost.clone() else { return };
        let mut published = Frames::default();
        self.check.published.values().for_each(|voice| published.unite(&voice.frames));
        for (name, segment, frames) in &loss.owed {
            // An owner that was back for a moment before it was lost may have given a little more than what
            // was published from its mirror by then.
            if let Some((call, frame, count)) = published.missing(frames)
                && count * FRAME > LAG
            {
                let what = format!(
                    "{count} frames of call {call} from {frame} were mirrored of capture \
                     {}/{segment} of {name}, and are in no recording",
                    loss.node
                );
                self.check.fail(Kind::Lost, what);
            }
        }
    }
}

impl Host {
    /// What its journal has of open recordings, and its ports are about to write, up to a time.
    fn captured(&self, until: Time) -> BTreeMap<RecordingId, Held> {
        let mut open = self.disk.journal.open.clone();
        let wall = self.wall(until);
        let ports = self.recorder().into_iter().flat_map(|recorder| recorder.ports.values());
        for (segment, (call, from, first)) in ports.filter_map(crate::host::Port::heard) {
            let known = open.values_mut().find_map(|held| held.segments.get_mut(&segment));
            if let Some(known) = known.filter(|_| from < until) {
                known.audio.push(Heard1 { call, from, to: until, first, last: wall });
            }
        }
        open
    }
}
