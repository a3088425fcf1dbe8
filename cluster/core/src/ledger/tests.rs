//! The ledger's cases, a sentence each.

use proptest::prelude::*;
use storage_core::record::Scope;
use storage_core::{CallId, Duty, SegmentId};

use super::*;

/// A ledger and the group around it: nodes 1 to 3 up, 1 leads in epoch 1.
struct Book {
    ledger: Ledger,
    present: Present,
    index: u64,
    changes: Vec<Change>,
}

fn at(ms: i64) -> WallTime {
    WallTime::from_millis(ms)
}

fn name(number: u8) -> RecordingId {
    RecordingId::new(at(0), [number; 10])
}

fn call(number: u64) -> CallRef {
    CallRef {
        ucid: format!("0000100001{:010}", number + 1).parse().ok(),
        callid: CallId::new(&number.to_string()),
        began: Some(at(0)),
    }
}

impl Book {
    fn new() -> Self {
        let nodes = BTreeSet::from([NodeId(1), NodeId(2), NodeId(3)]);
        let present = Present {
            lead: Some(NodeId(1)),
            epoch: 1,
            moves: true,
            up: nodes.clone(),
            members: nodes,
            relieved: BTreeSet::new(),
            catalogs: BTreeSet::from([NodeId(1), NodeId(2)]),
        };
        Self { ledger: Ledger::default(), present, index: 1, changes: Vec::new() }
    }

    /// Node `node` claims call 1, copy 1, with its segment `segment`, from `from` on.
    fn claim(&mut self, node: u16, segment: u64, from: i64) -> (RecordingId, Standing) {
        match self.claim_as(node, segment, from, 1) {
            Outcome::Claimed { recording, standing, .. } => (recording, standing),
            other => panic!("{other:?}"),
        }
    }

    fn claim_as(&mut self, node: u16, segment: u64, from: i64, take: u16) -> Outcome {
        self.index += 1;
        let recording = name(u8::try_from(10 * u64::from(node) + segment).unwrap());
        let epoch = self.present.epoch;
        let claim =
            Claim { take, from: at(from), epoch, ..claim_of(call(1), node, segment, recording) };
        self.take(&claim)
    }

    fn take(&mut self, claim: &Claim) -> Outcome {
        let by = Claimant::Owner;
        self.ledger.claim(self.index, claim, by, &self.present, &mut self.changes)
    }

    fn stretch(&self, node: u16, segment: u64) -> StretchRef {
        let slot = self.ledger.slot(&call(1), 1).unwrap();
        StretchRef { recording: slot.recording, node: NodeId(node), segment: SegmentId(segment) }
    }

    fn end(&mut self, node: u16, segment: u64, to: i64) -> Outcome {
        let stretch = self.stretch(node, segment);
        self.ledger.end(&stretch, at(to), &self.present, &mut self.changes)
    }

    /// A node says that the recording is over.
    fn over(&mut self, node: u16, stopped: bool) -> Outcome {
        let recording = self.ledger.slot(&call(1), 1).unwrap().recording;
        self.ledger.over(recording, NodeId(node), stopped, &self.present, &mut self.changes)
    }

    fn seal(&mut self, node: u16, revision: u32, used: &[(u16, u64)]) -> Outcome {
        let used = used.iter().map(|(node, segment)| (NodeId(*node), SegmentId(*segment)));
        let seal = Seal {
            recording: self.ledger.slot(&call(1), 1).unwrap().recording,
            node: NodeId(node),
            revision,
            from: at(0),
            to: at(60_000),
            used: used.collect(),
            covered: Vec::new(),
            sha256: [u8::try_from(revision).unwrap(); 32],
        };
        self.ledger.seal(&seal, &self.present, &mut self.changes)
    }

    fn ack(&mut self, node: u16, recording: RecordingId, revision: u32) {
        let node = NodeId(node);
        self.ledger.ack(node, recording, revision, &self.present, &mut self.changes);
    }

    fn down(&mut self, node: u16) {
        self.present.up.remove(&NodeId(node));
        let down = BTreeSet::from([NodeId(node)]);
        self.ledger.regroup(&down, &self.present, &mut self.changes);
    }

    fn lead(&mut self, node: u16, moves: bool) {
        self.index += 1;
        self.present.lead = Some(NodeId(node));
        (self.present.epoch, self.present.moves) = (self.index, moves);
        self.ledger.regroup(&BTreeSet::new(), &self.present, &mut self.changes);
    }

    fn holder(&self) -> Option<u16> {
        self.ledger.slot(&call(1), 1)?.holder().map(|holder| holder.node.0)
    }

    fn tasks(&self, node: u16) -> Vec<Task> {
        self.ledger.tasks(NodeId(node), &self.present, 100)
    }
}

/// The claim of a capture that began at 100 ms under the first grant, for the call's first recording.
fn claim_of(call: CallRef, node: u16, segment: u64, recording: RecordingId) -> Claim {
    Claim {
        call,
        copy: 1,
        take: 1,
        node: NodeId(node),
        segment: SegmentId(segment),
        recording,
        from: at(100),
        epoch: 1,
        terms: Terms::default(),
    }
}

#[test]
fn the_first_claim_in_the_log_owns_the_stretch_and_names_the_recording() {
    let mut book = Book::new();
    let (recording, standing) = book.claim(2, 1, 500);
    assert_eq!((recording, standing), (name(21), Standing::Holds));
    // Earlier by the clock, later in the log.
    assert_eq!(book.claim(1, 1, 0), (recording, Standing::Reserve));
    assert_eq!(book.tasks(1), [Task::Leave(book.stretch(1, 1))]);
    assert!(book.tasks(2).is_empty());
    // Asking again changes nothing.
    assert_eq!(book.claim(2, 1, 500), (recording, Standing::Holds));
    assert_eq!(book.ledger.recording(recording).unwrap().stretches.len(), 2);
}

#[test]
fn when_the_holder_dies_a_reserve_goes_on_with_the_same_recording() {
    let mut book = Book::new();
    let (recording, _) = book.claim(1, 1, 0);
    book.claim(2, 1, 100);
    book.down(1);
    assert_eq!(book.holder(), Some(2));
    assert!(book.changes.contains(&Change::Holder { recording, holder: Some(NodeId(2)) }));
    book.end(2, 1, 60_000);
    assert!(book.tasks(2).is_empty(), "the call may go on");
    book.over(2, false);
    // What the dead one holds cannot be had: published without, completed later.
    assert_eq!(book.tasks(2), [Task::Seal { recording, revision: 1 }]);
    assert_eq!(book.seal(2, 1, &[(2, 1)]), Outcome::Done);
    book.ack(2, recording, 1);
    assert_eq!(book.ledger.len(), 1, "the dead one's capture is not accounted for");
    book.present.up.insert(NodeId(1));
    assert!(book.tasks(2).contains(&Task::Seal { recording, revision: 2 }));
    assert_eq!(book.seal(2, 2, &[(2, 1), (1, 1)]), Outcome::Done);
    assert_eq!(book.ledger.fate(&book.stretch(1, 1)), Some(Fate::Drop));
    book.ack(1, recording, 2);
    assert_eq!(book.ledger.len(), 1, "one catalog still lists the first revision");
    book.ack(2, recording, 2);
    assert!(book.ledger.is_empty());
}

#[test]
fn a_later_stretch_of_another_node_is_the_same_recording() {
    let mut book = Book::new();
    let (recording, _) = book.claim(1, 1, 0);
    book.down(1);
    assert_eq!(book.holder(), None);
    assert_eq!(book.claim(2, 1, 900), (recording, Standing::Holds));
}

#[test]
fn a_capture_claimed_again_under_a_forgotten_name_stays_where_it_is() {
    let mut book = Book::new();
    let (recording, _) = book.claim(1, 1, 0);
    book.claim(2, 1, 100);
    // Node 2 has lost what it knew of the call, and of the name that the group gave it.
    book.index += 1;
    let call = CallRef { ucid: None, callid: CallId::new(""), began: Some(at(900_000)) };
    let claim = Claim { take: 2, ..claim_of(call, 2, 1, name(99)) };
    let outcome = book.take(&claim);
    assert!(
        matches!(outcome, Outcome::Claimed { recording: same, .. } if same == recording),
        "{outcome:?}"
    );
    assert_eq!(book.ledger.len(), 1);
}

#[test]
fn the_same_holds_for_a_capture_of_a_closed_recording_whatever_its_node_makes_of_the_call() {
    let mut book = Book::new();
    let (recording, _) = book.claim(1, 1, 0);
    book.claim(2, 1, 100);
    for node in [1, 2] {
        book.end(node, 1, 60_000);
    }
    book.over(1, false);
    assert_eq!(book.seal(2, 1, &[(1, 1), (2, 1)]), Outcome::Done);
    book.ack(1, recording, 1);
    book.ack(2, recording, 1);
    assert!(book.ledger.is_empty());
    // A full disk has taken what node 2 knew; a merge had given its call the identity of another.
    let call = CallRef {
        ucid: "00001000100000000077".parse().ok(),
        callid: CallId::new("77"),
        began: Some(at(0)),
    };
    let claim = claim_of(call, 2, 1, name(99));
    let restored: Ledger =
        postcard::from_bytes(&postcard::to_allocvec(&book.ledger).unwrap()).unwrap();
    assert_eq!(restored, book.ledger);
    for mut ledger in [book.ledger, restored] {
        let outcome =
            ledger.claim(book.index + 1, &claim, Claimant::Owner, &book.present, &mut book.changes);
        assert!(
            matches!(outcome, Outcome::Claimed { recording: same, .. } if same == recording),
            "{outcome:?}"
        );
        let stretch = StretchRef { recording, node: NodeId(2), segment: SegmentId(1) };
        assert_eq!(ledger.fate(&stretch), Some(Fate::Drop), "it is in the file");
    }
}

#[test]
fn a_wrong_suspicion_costs_a_double_join_and_nothing_else() {
    let mut book = Book::new();
    book.claim(1, 1, 0);
    // Node 2 thought node 1 dead and joined; no grant came of it.
    book.claim(2, 1, 300);
    assert_eq!(book.holder(), Some(1));
    assert_eq!(book.tasks(2), [Task::Leave(book.stretch(2, 1))]);
    book.end(2, 1, 400);
    assert!(book.tasks(2).is_empty(), "it keeps the capture until the seal");
}

#[test]
fn a_planned_hand_over_moves_the_call_once_the_new_lead_is_in_it() {
    let mut book = Book::new();
    book.claim(1, 1, 0);
    book.lead(2, true);
    assert_eq!(book.holder(), Some(1), "nobody leaves before the new one is in");
    assert!(book.tasks(1).is_empty());
    book.claim(2, 1, 1_000);
    assert_eq!(book.holder(), Some(2));
    assert_eq!(book.tasks(1), [Task::Leave(book.stretch(1, 1))]);
}

#[test]
fn a_hand_back_leaves_calls_in_progress_where_they_are() {
    let mut book = Book::new();
    book.claim(2, 1, 0);
    book.lead(1, false);
    book.claim(1, 1, 1_000);
    assert_eq!(book.holder(), Some(2));
    assert_eq!(book.tasks(1), [Task::Leave(book.stretch(1, 1))]);
    // Until their holder fails.
    book.down(2);
    assert_eq!(book.holder(), Some(1));
}

#[test]
fn a_standby_that_acted_first_holds_as_soon_as_it_is_granted() {
    let mut book = Book::new();
    book.claim(1, 1, 0);
    book.claim(2, 1, 100);
    book.lead(2, true);
    assert_eq!(book.holder(), Some(2));
}

#[test]
fn who_comes_back_from_isolation_keeps_its_capture_in_reserve() {
    let mut book = Book::new();
    let (recording, _) = book.claim(1, 1, 0);
    book.down(1);
    book.claim(2, 1, 500);
    book.present.up.insert(NodeId(1));
    assert_eq!(book.claim(1, 1, 0), (recording, Standing::Held));
    assert_eq!(book.holder(), Some(2));
    assert!(book.tasks(1).contains(&Task::Leave(book.stretch(1, 1))));
}

#[test]
fn only_the_sealer_seals_and_never_twice_the_same() {
    let mut book = Book::new();
    let (recording, _) = book.claim(1, 1, 0);
    book.claim(2, 1, 100);
    book.end(1, 1, 60_000);
    book.end(2, 1, 60_000);
    book.over(2, false);
    let refused = book.seal(3, 1, &[]);
    assert_eq!(refused, Outcome::Refused(Refusal::NotSealer(Some(NodeId(2)))));
    assert_eq!(book.seal(2, 2, &[]), Outcome::Refused(Refusal::Stale));
    assert_eq!(book.seal(2, 1, &[(1, 1), (2, 1)]), Outcome::Done);
    assert_eq!(book.seal(2, 1, &[(1, 1), (2, 1)]), Outcome::Done, "a repetition");
    assert_eq!(book.seal(1, 2, &[]), Outcome::Refused(Refusal::NotSealer(Some(NodeId(2)))));
    let less = book.seal(2, 2, &[(1, 1)]);
    assert!(matches!(less, Outcome::Refused(Refusal::Senseless(_))), "{less:?}");
    assert_eq!(book.ledger.recording(recording).unwrap().sealed.as_ref().unwrap().revision, 1);
}

#[test]
fn when_the_owner_never_seals_another_capture_is_used() {
    let mut book = Book::new();
    let (recording, _) = book.claim(1, 1, 0);
    book.claim(2, 1, 100);
    book.end(2, 1, 400);
    book.end(1, 1, 60_000);
    book.over(1, false);
    assert_eq!(book.tasks(1), [Task::Seal { recording, revision: 1 }]);
    book.down(1);
    assert_eq!(book.tasks(2), [Task::Seal { recording, revision: 1 }]);
}

#[test]
fn a_witness_is_not_asked_for_a_catalog() {
    let mut book = Book::new();
    let (recording, _) = book.claim(1, 1, 0);
    book.end(1, 1, 60_000);
    book.over(1, false);
    book.seal(1, 1, &[(1, 1)]);
    assert!(book.tasks(3).is_empty());
    let listed = Task::Catalog { recording, revision: 1, at: NodeId(1) };
    assert_eq!(book.tasks(2), [listed]);
}

#[test]
fn late_claims_meet_the_recording_and_a_further_take_opens_another() {
    let mut book = Book::new();
    let (recording, _) = book.claim(1, 1, 0);
    assert_eq!(book.ledger.take(&call(1), 1), 1);
    book.end(1, 1, 60_000);
    assert_eq!(book.ledger.take(&call(1), 1), 1, "it may go on");
    book.over(1, false);
    assert_eq!(book.ledger.take(&call(1), 1), 2);
    book.seal(1, 1, &[(1, 1)]);
    book.ack(1, recording, 1);
    book.ack(2, recording, 1);
    assert!(book.ledger.is_empty());
    assert!(book.changes.contains(&Change::Closed { recording }));
    let late = book.claim(2, 1, 30_000);
    assert_eq!(late, (recording, Standing::Reserve), "it is brought back");
    book.end(2, 1, 50_000);
    assert!(book.tasks(1).contains(&Task::Seal { recording, revision: 2 }));
    assert_eq!(book.seal(1, 2, &[(1, 1), (2, 1)]), Outcome::Done);
    book.ack(1, recording, 2);
    book.ack(2, recording, 2);
    assert!(book.ledger.is_empty());
    assert_eq!(book.ledger.take(&call(1), 1), 2);
    let next = book.claim_as(1, 2, 70_000, 2);
    assert!(matches!(next, Outcome::Claimed { recording: r, .. } if r == name(12)), "{next:?}");
}

#[test]
fn a_number_that_is_used_again_at_once_is_another_call() {
    let mut book = Book::new();
    let mut claim = claim_of(CallRef { ucid: None, ..call(1) }, 1, 1, name(1));
    let say = |book: &mut Book, claim: &Claim| {
        book.index += 1;
        match book.take(claim) {
            Outcome::Claimed { recording, .. } => recording,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(say(&mut book, &claim), name(1));
    // The same recording goes on, and the other node means it, too.
    claim.segment = SegmentId(2);
    assert_eq!(say(&mut book, &claim), name(1));
    let other = Claim { node: NodeId(2), recording: name(2), ..claim.clone() };
    assert_eq!(say(&mut book, &other), name(1));
    claim.call.began = Some(at(900));
    (claim.segment, claim.recording, claim.from) = (SegmentId(3), name(3), at(1_000));
    assert_eq!(say(&mut book, &claim), name(3));
    assert_eq!(book.ledger.len(), 2);
    let other = Claim { node: NodeId(2), segment: SegmentId(9), recording: name(4), ..claim };
    assert_eq!(say(&mut book, &other), name(3), "the newest call of that number");
}

#[test]
fn only_who_holds_a_recording_ends_it_and_a_stop_ends_it_for_all() {
    let mut book = Book::new();
    let (recording, _) = book.claim(1, 1, 0);
    book.claim(2, 1, 100);
    let refused = book.over(2, false);
    assert_eq!(refused, Outcome::Refused(Refusal::GoesOn(NodeId(1))));
    book.end(1, 1, 5_000);
    assert_eq!(book.holder(), Some(2));
    assert_eq!(book.over(3, true), Outcome::Done, "a stop comes from anywhere");
    assert!(book.tasks(2).contains(&Task::Leave(book.stretch(2, 1))));
    assert_eq!(book.ledger.recording(recording).unwrap().over, Some(Over::Stopped));
    // Whoever comes later does not hold it, and it is not sealed while somebody captures.
    assert_eq!(book.claim(3, 1, 6_000), (recording, Standing::Reserve));
    book.end(2, 1, 6_000);
    assert!(book.tasks(2).is_empty());
    book.end(3, 1, 6_500);
    assert_eq!(book.tasks(2), [Task::Seal { recording, revision: 1 }]);
}

#[test]
fn who_had_a_part_must_know_of_the_end_before_it_is_forgotten() {
    let mut book = Book::new();
    let (recording, _) = book.claim(1, 1, 0);
    book.claim(2, 1, 100);
    for node in [1, 2] {
        book.end(node, 1, 60_000);
    }
    book.over(1, false);
    book.seal(2, 1, &[(1, 1), (2, 1)]);
    book.down(1);
    book.ack(2, recording, 1);
    assert_eq!(book.ledger.len(), 1, "node 1 would ask about it when it is back");
    book.ack(1, recording, 1);
    assert!(book.ledger.is_empty());
}

#[test]
fn a_closed_recording_that_is_claimed_by_name_comes_back_beside_the_open_one_of_its_call() {
    let mut book = Book::new();
    let (closed, _) = book.claim(1, 1, 0);
    book.end(1, 1, 60_000);
    book.over(1, false);
    book.seal(1, 1, &[(1, 1)]);
    book.ack(1, closed, 1);
    book.ack(2, closed, 1);
    assert!(book.ledger.is_empty());
    // A merge has brought another call under the number and the identity of the first.
    let claim = |node: u16, segment: u64, recording, call: CallRef| Claim {
        from: at(70_000),
        ..claim_of(call, node, segment, recording)
    };
    let mut apply = |claim: &Claim| {
        book.index += 1;
        match book.take(claim) {
            Outcome::Claimed { recording, .. } => recording,
            other => panic!("{other:?}"),
        }
    };
    let open = apply(&claim(2, 5, name(25), call(2)));
    assert_eq!(apply(&claim(1, 1, closed, call(2))), closed);
    let stretches = &book.ledger.recording(open).unwrap().stretches;
    assert!(stretches.iter().all(|stretch| stretch.node == NodeId(2)), "{stretches:?}");
}

#[test]
fn a_later_claim_widens_what_is_recorded() {
    let mut book = Book::new();
    let (recording, _) = book.claim(1, 1, 0);
    let claim = |scope| Claim {
        terms: Terms { scope, ..Terms::default() },
        ..claim_of(call(1), 1, 1, recording)
    };
    for scope in [Scope::Trunk, Scope::Station] {
        book.ledger.claim(9, &claim(scope), Claimant::Owner, &book.present, &mut book.changes);
        let slot = book.ledger.recording(recording).unwrap();
        assert_eq!(slot.terms.scope, Scope::Trunk);
    }
}

#[test]
fn a_capture_without_audio_is_withdrawn_and_leaves_nothing() {
    let mut book = Book::new();
    book.claim(1, 1, 0);
    let stretch = book.stretch(1, 1);
    let outcome = book.ledger.release(&stretch, &book.present, &mut book.changes);
    assert_eq!(outcome, Outcome::Done);
    assert!(book.ledger.is_empty());
    let again = book.ledger.end(&stretch, at(1), &book.present, &mut book.changes);
    assert_eq!(again, Outcome::Refused(Refusal::UnknownRecording));
}

#[test]
fn the_lead_is_told_which_calls_to_join() {
    let mut book = Book::new();
    book.claim(1, 1, 0);
    let duty = |moves, epoch| DutyGrant {
        duty: Duty::Lead,
        epoch,
        moves,
        provisional: false,
        quorum: true,
        copy: 1,
    };
    let join = |book: &Book, moves, epoch, gone: Option<u16>| {
        let alive = |node: NodeId| Some(node.0) != gone;
        book.ledger.to_take_over(NodeId(2), &duty(moves, epoch), alive).count()
    };
    assert_eq!(join(&book, true, 1, None), 0, "it is in good hands");
    assert_eq!(join(&book, true, 9, None), 1, "the duty came with the calls");
    assert_eq!(join(&book, false, 9, None), 0, "new calls only");
    assert_eq!(join(&book, false, 9, Some(1)), 1, "its holder does not answer");
    book.end(1, 1, 100);
    assert_eq!(join(&book, false, 1, None), 1, "nobody holds it");
}

#[test]
fn the_ledger_is_bounded_and_survives_a_snapshot() {
    let mut book = Book::new();
    for number in 0..Ledger::CALLS_MAX as u64 + 10 {
        book.index += 1;
        let mut entropy = [0; 10];
        entropy[..8].copy_from_slice(&number.to_be_bytes());
        let claim = claim_of(call(number), 1, number, RecordingId::new(at(0), entropy));
        book.take(&claim);
    }
    assert_eq!(book.ledger.len(), Ledger::CALLS_MAX);
    let evicted = book.changes.iter().filter(|c| matches!(c, Change::Evicted { .. })).count();
    assert_eq!(evicted, 10);
    let bytes = postcard::to_stdvec(&book.ledger).unwrap();
    assert!(bytes.len() < 4 * 1024 * 1024, "{}", bytes.len());
    let read: Ledger = postcard::from_bytes(&bytes).unwrap();
    assert_eq!(read, book.ledger);
}

proptest! {
    /// Whatever the log says in whatever order.
    #[test]
    fn the_ledgers_invariants_hold(
        steps in proptest::collection::vec((0..9_u8, 1..4_u16, 0..3_u64, any::<bool>()), 1..80),
    ) {
        let mut book = Book::new();
        let mut named = None;
        let mut revision = 0;
        for (step, node, segment, flag) in steps {
            let known = book.ledger.slot(&call(1), 1).is_some();
            match step {
                0 | 1 => {
                    book.claim_as(node, segment, 0, 1);
                }
                2 if known => {
                    book.end(node, segment, 60_000);
                }
                3 if known => {
                    let stretch = book.stretch(node, segment);
                    book.ledger.release(&stretch, &book.present, &mut book.changes);
                }
                4 if known => {
                    book.seal(node, revision + 1, &[(1, 0), (1, 1), (2, 0), (2, 1)]);
                }
                5 => book.down(node),
                6 => {
                    book.present.up.insert(NodeId(node));
                }
                7 => book.lead(node, flag),
                8 if known => {
                    book.over(node, flag);
                }
                _ => {}
            }
            let Some(slot) = book.ledger.slot(&call(1), 1) else {
                // Withdrawn or closed; it may begin anew.
                named = None;
                revision = 0;
                continue;
            };
            prop_assert_eq!(*named.get_or_insert(slot.recording), slot.recording);
            let holders = slot.stretches.iter().filter(|s| s.standing == Standing::Holds);
            prop_assert!(holders.count() <= 1);
            prop_assert!(slot.holder().is_none_or(Stretch::open));
            let settled = slot.sealed.is_some() || slot.over.is_some();
            prop_assert!(settled || !slot.open() || slot.holder().is_some());
            prop_assert!(slot.over.is_none() || slot.holder().is_none());
            let sealed = slot.sealed.as_ref().map_or(0, |sealed| sealed.revision);
            prop_assert!(sealed >= revision, "sealed is never unsealed");
            revision = sealed;
            let bytes = postcard::to_stdvec(&book.ledger).unwrap();
            prop_assert_eq!(&postcard::from_bytes::<Ledger>(&bytes).unwrap(), &book.ledger);
        }
    }
}

#[test]
fn where_nobody_who_captured_answers_an_heir_ends_and_seals_the_recording() {
    let mut book = Book::new();
    book.claim(1, 1, 0);
    assert!(matches!(book.over(2, false), Outcome::Refused(Refusal::GoesOn(NodeId(1)))));
    book.down(1);
    assert!(book.tasks(2).is_empty(), "it is not over yet");
    assert!(matches!(book.over(3, false), Outcome::Refused(_)), "a witness inherits nothing");
    assert_eq!(book.over(2, false), Outcome::Done);
    let recording = book.stretch(1, 1).recording;
    assert_eq!(book.tasks(2), [Task::Seal { recording, revision: 1 }]);
    assert!(book.tasks(3).is_empty());
    assert!(matches!(book.seal(3, 1, &[]), Outcome::Refused(Refusal::NotSealer(None))));
    // What went in through a mirror is not accounted for.
    assert_eq!(book.seal(2, 1, &[]), Outcome::Done);
    assert_eq!(book.ledger.fate(&book.stretch(1, 1)), Some(Fate::Keep));
    book.present.up.insert(NodeId(1));
    assert_eq!(book.tasks(2)[0], Task::Seal { recording, revision: 2 });
}

#[test]
fn whoever_captured_a_part_and_answers_goes_before_any_heir() {
    let mut book = Book::new();
    book.present.catalogs.insert(NodeId(3));
    book.claim(1, 1, 0);
    book.down(1);
    book.lead(2, true);
    book.claim(2, 1, 900);
    book.end(2, 1, 60_000);
    assert!(matches!(book.over(3, false), Outcome::Refused(Refusal::UnknownStretch)));
    assert_eq!(book.over(2, false), Outcome::Done);
    assert!(book.tasks(3).is_empty());
    assert!(matches!(book.seal(3, 1, &[]), Outcome::Refused(Refusal::NotSealer(Some(NodeId(2))))));
    assert_eq!(book.seal(2, 1, &[(2, 1)]), Outcome::Done);
    // Its owner is back with all of it: the same node completes the recording.
    book.present.up.insert(NodeId(1));
    let recording = book.stretch(1, 1).recording;
    assert!(book.tasks(2).contains(&Task::Seal { recording, revision: 2 }));
    assert!(book.tasks(3).iter().all(|task| !matches!(task, Task::Seal { .. })));
    assert_eq!(book.seal(2, 2, &[(2, 1), (1, 1)]), Outcome::Done);
}
