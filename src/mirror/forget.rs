//! Which recordings of a mirror the group needs no more. Mostly their owner says so itself. One that is away,
//! or whose mirror is another node's by now, says nothing: then the ledger tells. Pure.
//!
//! A recording goes when each capture that is heard in it is accounted for by a sealed recording, as the
//! owner's own would go. Of an owner that is no member any more, nothing is waited for in which nothing is heard.

use std::collections::BTreeSet;

use cluster_core::State;
use storage_core::{NodeId, SegmentId};

/// What the ledger knows of one owner's captures.
#[derive(Debug)]
pub struct Needs<'a> {
    state: &'a State,
    owner: NodeId,
    member: bool,
    accounted: BTreeSet<SegmentId>,
}

impl<'a> Needs<'a> {
    /// Of the captures of `owner`.
    #[must_use]
    pub fn of(state: &'a State, owner: NodeId) -> Self {
        let ledger = state.ledger();
        Self {
            state,
            owner,
            member: state.members().contains_key(&owner),
            accounted: ledger.accounted(owner).collect(),
        }
    }

    /// Whether a recording with these captures is needed no more.
    #[must_use]
    pub fn needless(&self, heard: &[SegmentId]) -> bool {
        let done = |segment: &SegmentId| {
            self.accounted.contains(segment) || self.state.ledger().is_closed(self.owner, *segment)
        };
        if heard.is_empty() { !self.member } else { heard.iter().all(done) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use cluster_core::command::Proposal;
    use cluster_core::node::{Applied, Entry};
    use cluster_core::{CallRef, Claim, Command, ProposalId, Seal, Terms};
    use storage_core::{CallId, RecordingId, WallTime};

    use super::*;

    const OWNER: NodeId = NodeId(1);

    struct Log(State, u64);

    impl Log {
        fn new() -> Self {
            let members: BTreeMap<_, _> = [1, 2].map(|n| (NodeId(n), String::new())).into();
            Self(State::new(&members), 0)
        }

        fn apply(&mut self, node: NodeId, command: Command) {
            self.1 += 1;
            let id = ProposalId { node, boot: 1, seq: self.1 };
            let proposal = Proposal { id, settled: 0, command };
            let outcome = self.0.apply(self.1, &proposal, &mut Vec::new());
            assert!(!matches!(outcome, cluster_core::Outcome::Refused(_)), "{outcome:?}");
        }

        fn claim(&mut self, segment: u64) {
            let call = CallRef { ucid: None, callid: CallId::new("7"), began: None };
            self.apply(
                OWNER,
                Command::Claim(Claim {
                    call,
                    copy: 1,
                    take: 1,
                    node: OWNER,
                    segment: SegmentId(segment),
                    recording: name(),
                    from: WallTime::from_millis(0),
                    epoch: 1,
                    terms: Terms::default(),
                }),
            );
        }

        fn needless(&self, heard: &[u64]) -> bool {
            let heard: Vec<_> = heard.iter().copied().map(SegmentId).collect();
            Needs::of(&self.0, OWNER).needless(&heard)
        }
    }

    fn name() -> RecordingId {
        RecordingId::new(WallTime::from_millis(0), [1; 10])
    }

    #[test]
    fn what_a_sealed_recording_accounts_for_goes_and_nothing_else() {
        let mut log = Log::new();
        log.claim(4);
        log.claim(5);
        assert!(!log.needless(&[4, 5]));
        assert!(!log.needless(&[9]), "what the group has not heard of yet is needed");
        assert!(!log.needless(&[]), "it may be about to hear something");
        log.apply(OWNER, Command::Over { recording: name(), node: OWNER, stopped: true });
        let seal = Seal {
            recording: name(),
            node: OWNER,
            revision: 1,
            from: WallTime::from_millis(0),
            to: WallTime::from_millis(1),
            used: vec![(OWNER, SegmentId(4))],
            covered: Vec::new(),
            sha256: [0; 32],
        };
        for segment in [4, 5] {
            let stretch = cluster_core::StretchRef {
                recording: name(),
                node: OWNER,
                segment: SegmentId(segment),
            };
            log.apply(OWNER, Command::End { stretch, to: WallTime::from_millis(1) });
        }
        // Nobody answers yet in this group, so nobody may seal: the owner is made to.
        log.0 = up(log.0);
        log.apply(OWNER, Command::Seal(seal));
        assert!(log.needless(&[4]));
        assert!(!log.needless(&[4, 5]));
    }

    /// The group notes that both members answer.
    fn up(mut state: State) -> State {
        let grant = cluster_core::command::Grant {
            expect: state.granted_at(),
            duties: Vec::new(),
            up: vec![(NodeId(1), true), (NodeId(2), true)],
            moves: false,
            cause: cluster_core::Cause::First,
        };
        let id = ProposalId { node: NodeId(2), boot: 9, seq: 1 };
        let proposal = Proposal { id, settled: 0, command: Command::Grant(grant) };
        state.apply(1_000, &proposal, &mut Vec::new());
        state
    }

    #[test]
    fn of_a_node_that_has_left_what_was_heard_is_kept_until_it_is_in_a_recording() {
        let mut log = Log::new();
        log.claim(4);
        let remove = Command::RemoveMember { node: OWNER };
        let id = ProposalId { node: NodeId(2), boot: 1, seq: 99 };
        let proposal = Proposal { id, settled: 0, command: remove };
        log.0.follow(&Applied {
            index: 99,
            entry: Entry::Membership(proposal),
            outcome: cluster_core::Outcome::Done,
            changes: Vec::new(),
        });
        assert!(!log.needless(&[4]));
        assert!(!log.needless(&[9]), "it is about to be handed in");
        assert!(log.needless(&[]));
    }
}
