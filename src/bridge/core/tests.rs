//! The bridge against a group whose log is applied at once. Sealing, publishing and time are the test's.

use std::collections::BTreeMap;

use cluster_core::command::{Announce, Grant, Proposal};
use cluster_core::node::{Applied, Entry};
use cluster_core::{Cause, MemberView, ProposalId};
use recorder_core::call;
use storage_core::record::{Scope, TriggerKind};
use storage_core::{CallId, Duty, Extension, Role};

use super::*;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);

fn at(ms: i64) -> WallTime {
    WallTime::from_millis(ms)
}

fn id(number: u8) -> RecordingId {
    RecordingId::new(at(0), [number; 10])
}

fn claim(recording: RecordingId, segment: u64) -> call::Claim {
    call::Claim {
        recording,
        name: recording,
        segment: SegmentId(segment),
        from: at(100),
        ucid: "00001012071700000000".parse().ok(),
        callid: CallId::new("1207"),
        began: Some(at(0)),
        copy: 1,
        take: 1,
        epoch: 1,
        scope: Scope::Station,
        trigger: TriggerKind::Rule,
        rule: String::new(),
        extension: Extension::new("31001"),
    }
}

/// A group whose log is applied at once, and a bridge on each recorder.
struct Pair {
    state: State,
    index: u64,
    bridges: BTreeMap<NodeId, Bridge>,
    /// What the bridges wanted beside proposals, in order.
    wanted: Vec<(NodeId, Output)>,
    majority: bool,
    /// It is down, and says nothing.
    gone: Option<NodeId>,
    /// What each keeps of others' captures.
    mirrors: BTreeMap<NodeId, Mirror>,
}

/// Captures that are kept for others.
#[derive(Debug, Default)]
struct Mirror(BTreeSet<(NodeId, SegmentId)>);

impl Mirrors for Mirror {
    fn holds(&self, node: NodeId, segment: SegmentId) -> bool {
        self.0.contains(&(node, segment))
    }
}

impl Pair {
    fn new() -> Self {
        let members = [A, B, NodeId(3)].map(|node| (node, String::new()));
        let mut pair = Self {
            state: State::new(&members.into()),
            index: 0,
            bridges: [A, B].map(|node| (node, Bridge::new(node))).into(),
            wanted: Vec::new(),
            majority: true,
            gone: None,
            mirrors: [A, B].map(|node| (node, Mirror::default())).into(),
        };
        for (node, role) in [(A, Role::Active), (B, Role::Backup), (NodeId(3), Role::Witness)] {
            let (phantoms, program) = (Vec::new(), String::new());
            let announce = Announce { node, role, phantoms, program };
            pair.apply(node, Command::Announce(announce));
        }
        pair.grant(A, &[A, B, NodeId(3)]);
        pair
    }

    fn apply(&mut self, from: NodeId, command: Command) -> Outcome {
        self.index += 1;
        let id = ProposalId { node: from, boot: 1, seq: self.index };
        let proposal = Proposal { id, settled: 0, command };
        self.state.apply(self.index, &proposal, &mut Vec::new())
    }

    /// A member leaves for good.
    fn remove(&mut self, node: NodeId) {
        self.index += 1;
        let id = ProposalId { node: B, boot: 1, seq: self.index };
        let proposal = Proposal { id, settled: 0, command: Command::RemoveMember { node } };
        self.state.follow(&Applied {
            index: self.index,
            entry: Entry::Membership(proposal),
            outcome: Outcome::Done,
            changes: Vec::new(),
        });
    }

    fn grant(&mut self, lead: NodeId, up: &[NodeId]) {
        let duty = |node| if node == lead { Duty::Lead } else { Duty::Standby };
        let grant = Grant {
            expect: self.state.granted_at(),
            duties: [A, B].map(|node| (node, duty(node))).into(),
            up: [A, B, NodeId(3)].map(|node| (node, up.contains(&node))).into(),
            moves: true,
            cause: Cause::Down,
        };
        let outcome = self.apply(NodeId(3), Command::Grant(grant));
        assert!(matches!(outcome, Outcome::Granted { .. }), "{outcome:?}");
    }

    fn view(&self, node: NodeId) -> GroupView {
        let mut view = GroupView::alone(node, Role::Active);
        let one = view.members[0].clone();
        let member = |(&node, member): (&NodeId, &cluster_core::state::Member)| MemberView {
            node,
            up: member.up,
            reachable: member.up,
            ..one.clone()
        };
        view.members = self.state.members().iter().map(member).collect();
        view
    }

    /// Everything that follows, as far as the bridges and the log can take it.
    fn settle(&mut self) {
        for _ in 0..20 {
            for node in
                [A, B].into_iter().filter(|node| self.gone != Some(*node)).collect::<Vec<_>>()
            {
                let view = self.view(node);
                let state = self.state.clone();
                let bridge = self.bridges.get_mut(&node).unwrap();
                bridge.all_changed(&state);
                bridge.look(&state, &view, &self.mirrors[&node]);
                while let Some(output) = self.bridges.get_mut(&node).unwrap().poll() {
                    let Output::Propose(about, command) = output else {
                        self.wanted.push((node, output));
                        continue;
                    };
                    let outcome = self.majority.then(|| self.apply(node, *command));
                    self.bridges.get_mut(&node).unwrap().answered(about, outcome.as_ref());
                }
            }
        }
    }

    fn on(&mut self, node: NodeId) -> &mut Bridge {
        self.bridges.get_mut(&node).unwrap()
    }

    /// Outputs of one kind, taken out.
    fn take<T>(&mut self, which: impl Fn(&Output) -> Option<T>) -> Vec<(NodeId, T)> {
        let wanted = std::mem::take(&mut self.wanted);
        let (mut taken, mut left) = (Vec::new(), Vec::new());
        for (node, output) in wanted {
            match which(&output) {
                Some(found) => taken.push((node, found)),
                None => left.push((node, output)),
            }
        }
        self.wanted = left;
        taken
    }

    fn seals(&mut self) -> Vec<(NodeId, SealOrder)> {
        self.take(|output| match output {
            Output::Seal(order) => Some(order.clone()),
            _ => None,
        })
    }

    fn drops(&mut self) -> Vec<(NodeId, RecordingId)> {
        self.take(|output| match output {
            Output::Drop { local } => Some(*local),
            _ => None,
        })
    }

    fn complete(&mut self, node: NodeId, local: RecordingId, segment: u64, over: Option<bool>) {
        let claim = words::claim(&claim(local, segment), node);
        let captures = vec![(claim, Some(at(60_000)))];
        let outline = words::Outline { name: local, complete: true, over, captures };
        self.on(node).outlined(local, &outline);
    }

    fn stage(&mut self, node: NodeId, order: &SealOrder) {
        let own = order.own.iter().map(|segment| (node, *segment));
        let remote = order.remote.iter();
        let remote = remote.flat_map(|(node, s)| s.iter().map(|segment| (*node, *segment)));
        let outcome = SealOutcome::Staged {
            from: at(0),
            to: at(60_000),
            sha256: [7; 32],
            captures: own.chain(remote).collect(),
        };
        self.on(node).sealed(order.recording, outcome);
        self.settle();
    }

    /// Publishes and lists whatever is to be.
    fn list(&mut self) {
        for _ in 0..3 {
            let listed = self.take(|output| match output {
                Output::Publish { recording, revision }
                | Output::List { recording, revision, .. } => Some((*recording, *revision)),
                _ => None,
            });
            for (node, (recording, revision)) in listed {
                self.on(node).listed(recording, revision, true);
            }
            self.settle();
        }
    }
}

#[test]
fn a_recording_goes_its_way_from_claim_to_oblivion() {
    let mut pair = Pair::new();
    pair.on(A).captured(&claim(id(1), 5));
    pair.settle();
    assert_eq!(pair.state.ledger().recording(id(1)).unwrap().holder().unwrap().node, A);
    pair.on(A).ended(SegmentId(5), at(60_000));
    pair.on(A).over(id(1), false);
    pair.settle();
    assert!(pair.seals().is_empty(), "its end is not in the journal yet");
    pair.complete(A, id(1), 5, Some(false));
    pair.settle();
    let [(node, order)] = pair.seals().try_into().unwrap();
    assert_eq!((node, order.own.len(), order.partial), (A, 1, false));
    assert_eq!(order.local, BTreeSet::from([id(1)]));
    pair.stage(A, &order);
    assert!(pair.state.ledger().recording(id(1)).unwrap().sealed.is_some());
    assert_eq!(pair.drops(), [(A, id(1))]);
    pair.list();
    assert!(pair.state.ledger().is_empty());
    let closed = GroupWord::Closed(id(1), call::Over::Ended);
    let told =
        |output: &Output| matches!(output, Output::Word(word) if *word == closed).then_some(());
    assert_eq!(pair.take(told), [(A, ()), (B, ())]);
    assert_eq!(pair.on(A).owed(), 0);
    pair.settle();
    assert!(pair.seals().is_empty());
}

#[test]
fn who_is_second_takes_the_name_leaves_and_keeps_its_capture_until_the_seal() {
    let mut pair = Pair::new();
    pair.on(A).captured(&claim(id(1), 5));
    pair.settle();
    pair.on(B).captured(&claim(id(2), 9));
    pair.settle();
    let words = pair.take(|output| match output {
        Output::Word(word @ (GroupWord::Named { .. } | GroupWord::Yield(_))) => Some(word.clone()),
        _ => None,
    });
    let named = GroupWord::Named { recording: id(2), name: id(1) };
    assert!(words.contains(&(B, named)), "{words:?}");
    assert!(words.contains(&(B, GroupWord::Yield(SegmentId(9)))), "{words:?}");
    // A word that crossed the name on its way does not bring the old one back.
    pair.on(B).captured(&claim(id(2), 10));
    pair.settle();
    assert_eq!(pair.state.ledger().recording(id(1)).unwrap().stretches.len(), 3);
    pair.on(B).ended(SegmentId(10), at(500));
    pair.on(B).ended(SegmentId(9), at(500));
    pair.complete(B, id(2), 9, None);
    pair.settle();
    assert!(pair.drops().is_empty());
    pair.on(A).ended(SegmentId(5), at(60_000));
    pair.complete(A, id(1), 5, Some(false));
    pair.settle();
    let [(node, order)] = pair.seals().try_into().unwrap();
    assert_eq!((node, order.remote[&B].clone()), (A, vec![SegmentId(9), SegmentId(10)]));
    pair.stage(A, &order);
    let mut drops = pair.drops();
    drops.sort_unstable();
    assert_eq!(drops, [(A, id(1)), (B, id(2))]);
    pair.list();
    assert!(pair.state.ledger().is_empty());
}

#[test]
fn without_a_majority_nothing_is_published_and_nothing_is_lost() {
    let mut pair = Pair::new();
    pair.majority = false;
    pair.on(A).captured(&claim(id(1), 5));
    pair.on(A).ended(SegmentId(5), at(60_000));
    pair.complete(A, id(1), 5, Some(false));
    pair.settle();
    assert!(pair.seals().is_empty() && pair.drops().is_empty());
    pair.majority = true;
    pair.settle();
    let [(_, order)] = pair.seals().try_into().unwrap();
    pair.majority = false;
    pair.stage(A, &order);
    let published = |output: &Output| matches!(output, Output::Publish { .. }).then_some(());
    assert!(pair.take(published).is_empty());
    pair.majority = true;
    pair.settle();
    assert_eq!(pair.take(published).len(), 1);
}

#[test]
fn a_dead_peers_part_is_added_when_it_is_back() {
    let mut pair = Pair::new();
    pair.on(A).captured(&claim(id(1), 5));
    pair.settle();
    pair.grant(B, &[B, NodeId(3)]);
    pair.on(B).captured(&call::Claim { name: id(1), ..claim(id(2), 9) });
    pair.on(B).ended(SegmentId(9), at(60_000));
    pair.complete(B, id(2), 9, Some(false));
    pair.bridges.insert(A, Bridge::new(A));
    pair.gone = Some(A);
    pair.settle();
    let [(node, order)] = pair.seals().try_into().unwrap();
    assert_eq!((node, order.partial, order.revision), (B, true, 1));
    pair.stage(B, &order);
    pair.list();
    assert_eq!(pair.state.ledger().len(), 1);
    // Back with its journal.
    pair.gone = None;
    pair.grant(B, &[A, B, NodeId(3)]);
    pair.complete(A, id(1), 5, None);
    pair.settle();
    let [(node, order)] = pair.seals().try_into().unwrap();
    assert_eq!((node, order.partial, order.revision), (B, false, 2));
    assert_eq!((order.own.len(), order.remote[&A].len()), (0, 1));
    pair.stage(B, &order);
    pair.list();
    assert_eq!(pair.drops().len(), 2);
    assert!(pair.state.ledger().is_empty());
}

#[test]
fn what_nobody_could_hear_is_withdrawn() {
    let mut pair = Pair::new();
    pair.on(A).captured(&claim(id(1), 5));
    pair.on(A).ended(SegmentId(5), at(60_000));
    pair.complete(A, id(1), 5, Some(false));
    pair.settle();
    assert_eq!(pair.seals().len(), 1);
    pair.on(A).sealed(id(1), SealOutcome::Nothing);
    pair.settle();
    assert!(pair.state.ledger().is_empty());
    assert_eq!(pair.drops(), [(A, id(1))]);
    let ends = |output: &Output| match output {
        Output::Word(word @ (GroupWord::Withdrawn(_) | GroupWord::Closed(..))) => {
            Some(word.clone())
        }
        _ => None,
    };
    let none = GroupWord::Withdrawn(id(1));
    let mut told = pair.take(ends);
    told.sort_by_key(|(node, _)| *node);
    assert_eq!(told, [(A, none.clone()), (B, none)], "nobody waits for it");
    // A recording without any capture never reaches the group.
    let outline = words::Outline { name: id(3), complete: true, over: None, captures: Vec::new() };
    pair.on(A).outlined(id(3), &outline);
    pair.settle();
    assert_eq!(pair.drops(), [(A, id(3))]);
}

#[test]
fn a_recorder_that_starts_is_told_what_was_stopped_before() {
    let mut pair = Pair::new();
    pair.on(A).captured(&claim(id(1), 5));
    pair.settle();
    pair.on(A).ended(SegmentId(5), at(60_000));
    pair.on(A).over(id(1), true);
    pair.complete(A, id(1), 5, Some(true));
    pair.settle();
    let [(_, order)] = pair.seals().try_into().unwrap();
    pair.stage(A, &order);
    pair.list();
    assert!(pair.state.ledger().is_empty());
    pair.wanted.clear();
    pair.bridges.insert(A, Bridge::new(A));
    pair.settle();
    let words = pair.take(|output| match output {
        Output::Word(GroupWord::Claimed(claimed)) => Some((claimed.recording, claimed.over)),
        Output::Word(GroupWord::Closed(name, over)) => Some((*name, Some(*over))),
        _ => None,
    });
    let stopped = (id(1), Some(call::Over::Stopped));
    assert_eq!(words, [(A, stopped), (A, stopped)]);
}

/// Node A captures, its mirror on B holds that, and A is lost.
fn lost(mirrored: bool) -> Pair {
    let mut pair = Pair::new();
    pair.on(A).captured(&claim(id(1), 5));
    pair.settle();
    if mirrored {
        pair.mirrors.get_mut(&B).unwrap().0.insert((A, SegmentId(5)));
    }
    pair.gone = Some(A);
    pair.grant(B, &[B, NodeId(3)]);
    pair.settle();
    pair
}

#[test]
fn the_mirror_of_a_lost_recorder_seals_what_that_had_captured() {
    let mut pair = lost(true);
    let ours = |output: &Output| match output {
        Output::Word(GroupWord::Claimed(claimed)) => Some(claimed.ours),
        _ => None,
    };
    assert_eq!(pair.take(ours).last(), Some(&(B, true)), "it is to say when the call is over");
    assert!(pair.seals().is_empty());
    pair.on(B).over(id(1), false);
    pair.settle();
    let [(node, order)] = pair.seals().try_into().unwrap();
    assert_eq!((node, order.revision, order.partial), (B, 1, true));
    let part = MirroredPart { segments: vec![SegmentId(5)], left: false };
    assert_eq!(order.mirrored, BTreeMap::from([((A, B), part)]));
    assert!(order.local.is_empty() && order.remote.is_empty());
    pair.stage(B, &order);
    pair.list();
    let slot = pair.state.ledger().recording(id(1)).unwrap();
    assert_eq!((slot.sealed.as_ref().unwrap().node, slot.fate(A, SegmentId(5))), (B, Fate::Keep));
    pair.settle();
    assert!(pair.seals().is_empty(), "once is enough");

    // It comes back: what it has is pulled from itself, and nothing from the mirror.
    pair.gone = None;
    pair.complete(A, id(1), 5, Some(false));
    pair.grant(B, &[A, B, NodeId(3)]);
    pair.settle();
    let [(node, order)] = pair.seals().try_into().unwrap();
    assert_eq!((node, order.revision, order.partial), (B, 2, false));
    assert_eq!((order.remote[&A].clone(), order.mirrored.len()), (vec![SegmentId(5)], 0));
    let captures = vec![(A, SegmentId(5))];
    pair.on(B).sealed(id(1), SealOutcome::Same { captures });
    pair.settle();
    pair.list();
    assert!(pair.state.ledger().is_empty());
    assert_eq!(pair.drops(), [(A, id(1))]);
}

#[test]
fn a_recorder_that_mirrors_nothing_of_it_leaves_a_recording_to_its_owner() {
    let mut pair = lost(false);
    let ours = |output: &Output| match output {
        Output::Word(GroupWord::Claimed(claimed)) => Some(claimed.ours),
        _ => None,
    };
    assert!(pair.take(ours).iter().all(|(node, ours)| *node == A || !ours));
    pair.on(B).over(id(1), false);
    pair.settle();
    assert!(pair.seals().is_empty());
    assert!(pair.state.ledger().recording(id(1)).is_some());
}

/// Node A is lost, and B has recorded the call to its end.
fn taken_over() -> Pair {
    let mut pair = lost(true);
    pair.on(B).captured(&call::Claim { recording: id(2), name: id(1), ..claim(id(2), 9) });
    pair.settle();
    pair.on(B).ended(SegmentId(9), at(60_000));
    pair.on(B).over(id(1), false);
    pair.complete(B, id(2), 9, Some(false));
    pair.settle();
    pair
}

#[test]
fn a_part_of_a_recording_that_is_mirrored_goes_in_with_this_nodes_own() {
    let mut pair = taken_over();
    let [(node, order)] = pair.seals().try_into().unwrap();
    assert_eq!((node, order.partial), (B, true));
    assert_eq!(order.local, BTreeSet::from([id(2)]));
    assert_eq!(order.mirrored[&(A, B)].segments, [SegmentId(5)]);
}

#[test]
fn of_a_recorder_that_has_left_the_mirror_is_all_there_is() {
    let mut pair = taken_over();
    let [(_, order)] = pair.seals().try_into().unwrap();
    pair.stage(B, &order);
    pair.list();
    pair.settle();
    assert!(pair.seals().is_empty(), "it may come back");
    // An operator gives it up. What its mirror got after the first revision is in the second.
    pair.remove(A);
    pair.settle();
    let [(node, order)] = pair.seals().try_into().unwrap();
    let part = MirroredPart { segments: vec![SegmentId(5)], left: true };
    assert_eq!((node, order.revision), (B, 2));
    assert_eq!(order.mirrored, BTreeMap::from([((A, B), part)]));
    pair.on(B).sealed(id(1), SealOutcome::Same { captures: vec![(A, SegmentId(5))] });
    pair.settle();
    pair.list();
    assert!(pair.state.ledger().is_empty());
}

#[test]
fn a_capture_whose_claim_was_lost_with_its_node_is_handed_in_and_sealed() {
    let mut pair = Pair::new();
    pair.mirrors.get_mut(&B).unwrap().0.insert((A, SegmentId(5)));
    let captures = vec![(words::claim(&claim(id(1), 5), A), None)];
    let outline = words::Outline { name: id(1), complete: false, over: None, captures };
    let hand_in = |pair: &mut Pair| {
        let state = pair.state.clone();
        pair.on(B).inherited(&outline, &state);
        pair.settle();
    };
    hand_in(&mut pair);
    assert!(pair.state.ledger().is_empty(), "its node answers and will claim it");
    pair.gone = Some(A);
    pair.grant(B, &[B, NodeId(3)]);
    hand_in(&mut pair);
    let slot = pair.state.ledger().recording(id(1)).unwrap();
    assert!(slot.holder().is_none() && slot.stretches[0].lost, "nobody captures it");
    hand_in(&mut pair);
    assert_eq!(pair.state.ledger().recording(id(1)).unwrap().stretches.len(), 1);
    pair.on(B).over(id(1), false);
    pair.settle();
    let [(node, order)] = pair.seals().try_into().unwrap();
    assert_eq!((node, &order.mirrored[&(A, B)].segments), (B, &vec![SegmentId(5)]));
}
