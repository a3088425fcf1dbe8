//! Bugs that the simulation found once, by name, each as short as it can be told.

use std::collections::BTreeMap;

use astlogger::bridge::core::{About, Bridge, Mirrors, Output, SealOutcome};
use astlogger::bridge::words;
use cluster_core::command::{Announce, Grant, Proposal};
use cluster_core::{
    CallRef, Cause, Claim, Command, GroupView, Outcome, ProposalId, State, StretchRef, Terms,
};
use storage_core::{CallId, Duty, NodeId, RecordingId, Role, SegmentId, WallTime};

/// A node that keeps nothing for others.
struct NoMirrors;

impl Mirrors for NoMirrors {
    fn holds(&self, _: NodeId, _: SegmentId) -> bool {
        false
    }
}

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);

/// A log that is applied at once.
struct Group {
    state: State,
    index: u64,
}

impl Group {
    fn new() -> Self {
        let members = [A, B].map(|node| (node, String::new()));
        let mut group = Self { state: State::new(&members.into()), index: 0 };
        for (node, role) in [(A, Role::Active), (B, Role::Backup)] {
            let (phantoms, program) = (Vec::new(), String::new());
            group.apply(node, Command::Announce(Announce { node, role, phantoms, program }));
        }
        let grant = Grant {
            expect: group.state.granted_at(),
            duties: vec![(A, Duty::Lead), (B, Duty::Standby)],
            up: vec![(A, true), (B, true)],
            moves: true,
            cause: Cause::First,
        };
        group.apply(A, Command::Grant(grant));
        group
    }

    fn apply(&mut self, node: NodeId, command: Command) -> Outcome {
        self.index += 1;
        let id = ProposalId { node, boot: 1, seq: self.index };
        let proposal = Proposal { id, settled: 0, command };
        self.state.apply(self.index, &proposal, &mut Vec::new())
    }

    /// What a bridge wants once it has looked; proposals are applied and answered.
    fn look(&mut self, bridge: &mut Bridge, node: NodeId) -> Vec<Output> {
        let view = GroupView::alone(node, Role::Active);
        let mut wanted = Vec::new();
        for _ in 0..8 {
            bridge.all_changed(&self.state);
            bridge.look(&self.state, &view, &NoMirrors);
            while let Some(output) = bridge.poll() {
                if let Output::Propose(about, command) = output {
                    let outcome = self.apply(node, *command);
                    bridge.answered(about, Some(&outcome));
                } else {
                    wanted.push(output);
                }
            }
        }
        wanted
    }
}

fn at(ms: i64) -> WallTime {
    WallTime::from_millis(ms)
}

fn id(number: u8) -> RecordingId {
    RecordingId::new(at(0), [number; 10])
}

fn stretch(recording: RecordingId, node: NodeId, segment: u64) -> StretchRef {
    StretchRef { recording, node, segment: SegmentId(segment) }
}

fn claim(node: NodeId, segment: u64, recording: RecordingId, callid: &str) -> Claim {
    let began = Some(at(0));
    Claim {
        call: CallRef { ucid: None, callid: CallId::new(callid), began },
        copy: 1,
        take: 1,
        node,
        segment: SegmentId(segment),
        recording,
        from: at(100),
        epoch: 1,
        terms: Terms::default(),
    }
}

fn outline(name: RecordingId, segments: &[(u64, bool)], over: bool) -> words::Outline {
    let captures = segments
        .iter()
        .map(|(segment, ended)| (claim(A, *segment, name, "100"), ended.then_some(at(9_000))));
    let complete = segments.iter().all(|(_, ended)| *ended);
    words::Outline { name, complete, over: over.then_some(false), captures: captures.collect() }
}

#[test]
fn a_merge_renumbers_a_call_and_its_recording_is_claimed_on_under_its_name() {
    let mut group = Group::new();
    group.apply(A, Command::Claim(claim(A, 1, id(1), "100")));
    let outcome = group.apply(A, Command::Claim(claim(A, 2, id(1), "200")));
    assert!(matches!(outcome, Outcome::Claimed { recording, .. } if recording == id(1)));
    assert_eq!(group.state.ledger().len(), 1);
    // One whose name is another's take is refused, and leaves nothing behind.
    let other = Claim { take: 2, ..claim(A, 3, id(1), "300") };
    assert!(matches!(group.apply(A, Command::Claim(other)), Outcome::Refused(_)));
    assert_eq!(group.state.ledger().len(), 1);
}

#[test]
fn a_power_cut_takes_a_capture_that_was_claimed_and_it_is_withdrawn() {
    let mut group = Group::new();
    group.apply(A, Command::Claim(claim(A, 1, id(1), "100")));
    let mut bridge = Bridge::new(A);
    group.look(&mut bridge, A);
    assert!(group.state.ledger().is_empty(), "nobody waits for it for ever");
}

#[test]
fn a_call_whose_last_open_recording_is_withdrawn_leaves_the_ledger() {
    let mut group = Group::new();
    let mut bridge = Bridge::new(A);
    bridge.outlined(id(1), &outline(id(1), &[(1, true)], true));
    group.look(&mut bridge, A);
    let second = Claim { take: 2, ..claim(B, 5, id(2), "100") };
    group.apply(B, Command::Claim(second));
    let captures = vec![(A, SegmentId(1))];
    let staged = SealOutcome::Staged { from: at(100), to: at(9_000), sha256: [7; 32], captures };
    bridge.sealed(id(1), staged);
    group.look(&mut bridge, A);
    bridge.listed(id(1), 1, true);
    group.look(&mut bridge, A);
    group.apply(B, Command::Ack { node: B, recordings: vec![(id(1), 1)] });
    assert_eq!(group.state.ledger().len(), 1);
    group.apply(B, Command::Release { stretch: stretch(id(2), B, 5) });
    assert!(group.state.ledger().is_empty());
}

#[test]
fn of_two_captures_under_one_name_the_one_that_goes_on_keeps_the_recording_open() {
    let mut group = Group::new();
    let mut bridge = Bridge::new(A);
    bridge.outlined(id(1), &outline(id(1), &[(1, false)], false));
    bridge.outlined(id(2), &outline(id(1), &[(2, true)], true));
    group.look(&mut bridge, A);
    let over = |group: &Group| group.state.ledger().recording(id(1)).and_then(|slot| slot.over);
    assert_eq!(over(&group), None);
    bridge.ended(SegmentId(1), at(9_500));
    group.look(&mut bridge, A);
    assert!(over(&group).is_some());
}

#[test]
fn a_further_revision_waits_until_the_one_before_is_published() {
    let mut group = Group::new();
    let mut bridge = Bridge::new(A);
    bridge.outlined(id(1), &outline(id(1), &[(1, true)], true));
    group.look(&mut bridge, A);
    let captures = vec![(A, SegmentId(1))];
    let staged = SealOutcome::Staged { from: at(100), to: at(9_000), sha256: [7; 32], captures };
    bridge.sealed(id(1), staged);
    group.look(&mut bridge, A);
    // A late capture of the other node: the first file is sealed, and not published yet.
    group.apply(B, Command::Claim(claim(B, 5, id(1), "100")));
    group.apply(B, Command::End { stretch: stretch(id(1), B, 5), to: at(9_000) });
    let sealing = |outputs: &[Output]| outputs.iter().any(|o| matches!(o, Output::Seal(_)));
    let before = group.look(&mut bridge, A);
    assert!(!sealing(&before), "{before:?}");
    bridge.listed(id(1), 1, true);
    let after = group.look(&mut bridge, A);
    assert!(sealing(&after), "{after:?}");
}

#[test]
fn a_seal_that_was_answered_too_late_is_not_remembered_for_ever() {
    let mut group = Group::new();
    let mut bridge = Bridge::new(A);
    bridge.outlined(id(1), &outline(id(1), &[(1, true)], true));
    group.look(&mut bridge, A);
    let captures = vec![(A, SegmentId(1))];
    let staged = SealOutcome::Staged { from: at(100), to: at(9_000), sha256: [7; 32], captures };
    bridge.sealed(id(1), staged);
    let view = GroupView::alone(A, Role::Active);
    bridge.look(&group.state, &view, &NoMirrors);
    let mut late = BTreeMap::new();
    while let Some(output) = bridge.poll() {
        if let Output::Propose(about, command) = output {
            group.apply(A, *command);
            late.insert(about, ());
        }
    }
    assert!(late.contains_key(&About::Seal(id(1))));
    for about in late.into_keys() {
        bridge.answered(about, None);
    }
    let outputs = group.look(&mut bridge, A);
    assert!(outputs.iter().any(|o| matches!(o, Output::List { .. })), "{outputs:?}");
    bridge.listed(id(1), 1, true);
    group.look(&mut bridge, A);
    assert!(bridge.is_idle());
}
