//! What Raft's library does to those who do not know it, one trap a test; and what the group does
//! in the plain cases, on three members in lockstep.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cluster_core::node::{Entry, Finished, StepError, Work};
use cluster_core::wire::{Kind, Message};
use cluster_core::{
    Alarm, Announce, CallRef, Cause, Claim, Command, Health, Node, NodeConfig, Outcome, Patience,
    PeerEvent, ProposalId, ProposeError, Refusal, Stored, Terms, Ticks,
};
use storage_core::countersign::CheckpointText;
use storage_core::{CallId, Duty, MonoTime, NodeId, RecordingId, Role, SegmentId, WallTime};

const TICK_MS: u64 = 25;

struct Trio {
    now_ms: u64,
    nodes: BTreeMap<NodeId, Node>,
    disks: BTreeMap<NodeId, Stored>,
    down: BTreeSet<NodeId>,
    finished: BTreeMap<NodeId, Vec<Finished>>,
    /// Messages that are lost, by kind.
    lose: Option<Kind>,
    /// Messages carried, by kind.
    carried: Vec<Kind>,
}

fn config(id: u16, boot: u64) -> NodeConfig {
    let roles = [Role::Active, Role::Backup, Role::Witness];
    NodeConfig {
        id: NodeId(id),
        role: roles.get(usize::from(id) - 1).copied().unwrap_or(Role::Witness),
        ticks: Ticks::new(50, 300).unwrap(),
        patience: Patience { proving: Duration::from_secs(2), ..Patience::default() },
        seed: 7,
        boot,
    }
}

impl Trio {
    fn new() -> Self {
        let members: BTreeMap<_, _> = (1..=3).map(|n| (NodeId(n), format!("n{n}"))).collect();
        let first = Stored::first(&members);
        let mut trio = Self {
            now_ms: 0,
            nodes: BTreeMap::new(),
            disks: BTreeMap::new(),
            down: BTreeSet::new(),
            finished: BTreeMap::new(),
            lose: None,
            carried: Vec::new(),
        };
        for id in 1..=3 {
            trio.disks.insert(NodeId(id), first.clone());
            trio.start(id, 1);
        }
        trio
    }

    /// With a leader, announced, healthy, and the active leading.
    fn settled() -> Self {
        let mut trio = Self::new();
        for id in 1..=3 {
            trio.healthy(id);
        }
        trio.run_until("the active leads", |trio| trio.lead() == Some(1));
        trio.run(1_500);
        trio
    }

    fn start(&mut self, id: u16, boot: u64) {
        let id_ = NodeId(id);
        let disk = self.disks.entry(id_).or_insert_with(Stored::joining).clone();
        self.nodes.insert(id_, Node::new(config(id, boot), disk).unwrap());
        self.down.remove(&id_);
        self.announce(id, "1");
    }

    fn announce(&mut self, id: u16, program: &str) -> ProposalId {
        let (node, role) = (NodeId(id), config(id, 1).role);
        let phantoms = vec![format!("78{id}00-78{id}99")];
        let announce = Announce { node, role, phantoms, program: program.into() };
        self.propose(id, Command::Announce(announce))
    }

    fn healthy(&mut self, id: u16) {
        self.propose(id, Command::Health { node: NodeId(id), health: Health::GOOD });
    }

    fn kill(&mut self, id: u16) {
        self.nodes.remove(&NodeId(id));
        self.down.insert(NodeId(id));
        self.tell(id, PeerEvent::Reset);
        self.tell(id, PeerEvent::Refused);
    }

    fn tell(&mut self, about: u16, event: PeerEvent) {
        let now = self.now();
        for node in self.nodes.values_mut() {
            node.peer(now, NodeId(about), event);
        }
        self.deliver();
    }

    fn propose(&mut self, at: u16, command: Command) -> ProposalId {
        let now = self.now();
        let deadline = now + Duration::from_secs(20);
        self.node(at).propose(now, command, deadline).unwrap()
    }

    fn outcome(&self, at: u16, id: ProposalId) -> Option<Outcome> {
        self.finished.get(&NodeId(at))?.iter().find_map(|finished| match finished {
            Finished::Applied(done, outcome) if *done == id => Some(outcome.clone()),
            _ => None,
        })
    }

    /// Proposes and waits.
    fn done(&mut self, at: u16, command: Command) -> Outcome {
        let id = self.propose(at, command);
        self.run_until("it is applied", |trio| trio.outcome(at, id).is_some());
        self.outcome(at, id).unwrap()
    }

    fn node(&mut self, id: u16) -> &mut Node {
        self.nodes.get_mut(&NodeId(id)).unwrap()
    }

    fn leader(&self) -> Option<u16> {
        let leaders = self.nodes.values().filter(|node| node.is_leader());
        leaders.max_by_key(|node| node.term()).map(|node| node.id().0)
    }

    fn lead(&self) -> Option<u16> {
        let leads: BTreeSet<_> = self.nodes.values().map(|node| node.state().lead()).collect();
        if leads.len() == 1 { leads.first().copied().flatten().map(|lead| lead.0) } else { None }
    }

    fn now(&self) -> MonoTime {
        MonoTime::from_millis(self.now_ms)
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms / TICK_MS {
            self.now_ms += TICK_MS;
            let now = self.now();
            let ids: Vec<_> = self.nodes.keys().copied().collect();
            for id in &ids {
                for peer in ids.iter().filter(|peer| !self.down.contains(peer)) {
                    if peer != id && !self.down.contains(id) {
                        self.nodes.get_mut(id).unwrap().peer(now, *peer, PeerEvent::Heard);
                    }
                }
                self.nodes.get_mut(id).unwrap().tick(now);
            }
            self.deliver();
        }
    }

    fn run_until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        for _ in 0..1000 {
            if done(self) {
                return;
            }
            self.run(TICK_MS);
        }
        panic!("never: {what}");
    }

    /// Carries messages until none is left.
    fn deliver(&mut self) {
        for _ in 0..10_000 {
            let ids: Vec<_> = self.nodes.keys().copied().collect();
            let messages: Vec<_> = ids.into_iter().flat_map(|id| self.drain(id)).collect();
            if messages.is_empty() {
                return;
            }
            for (from, message) in messages {
                self.carry(from, message);
            }
        }
        panic!("messages without end");
    }

    fn carry(&mut self, from: NodeId, message: Message) {
        let now = self.now();
        let to = message.to;
        let lost = self.lose == Some(message.kind)
            || self.down.contains(&from)
            || self.down.contains(&to)
            || !self.nodes.contains_key(&to);
        if message.kind == Kind::Snapshot
            && let Some(sender) = self.nodes.get_mut(&from)
        {
            sender.snapshot_sent(to, !lost);
        }
        if !lost {
            self.carried.push(message.kind);
            match self.nodes.get_mut(&to).unwrap().step(now, from, message) {
                Ok(()) | Err(StepError::Ignored | StepError::NotMember(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn drain(&mut self, id: NodeId) -> Vec<(NodeId, Message)> {
        let node = self.nodes.get_mut(&id).unwrap();
        let mut messages = Vec::new();
        while let Some(Work { at_once, write, after }) = node.poll().unwrap() {
            messages.extend(at_once);
            if let Some(write) = write {
                self.disks.get_mut(&id).unwrap().take(write);
            }
            messages.extend(after);
            let done = node.written().unwrap();
            messages.extend(done.messages);
            self.finished.entry(id).or_default().extend(done.finished);
        }
        messages.into_iter().map(|message| (id, message)).collect()
    }
}

fn handover(to: u16) -> Command {
    Command::Handover { to: Some(NodeId(to)) }
}

#[test]
fn an_emptied_disk_under_an_old_number_is_an_alarm_and_no_panic() {
    let mut trio = Trio::settled();
    let leader = trio.leader().unwrap();
    let victim = if leader == 3 { 2 } else { 3 };
    let members: BTreeMap<_, _> = (1..=3).map(|n| (NodeId(n), format!("n{n}"))).collect();
    let emptied = Stored::first(&members);
    trio.nodes.insert(NodeId(victim), Node::new(config(victim, 2), emptied).unwrap());
    let now = trio.now();
    let mut alarm = None;
    for _ in 0..20 {
        trio.now_ms += TICK_MS;
        trio.node(leader).tick(now);
        for (from, message) in trio.drain(NodeId(leader)) {
            if message.to == NodeId(victim)
                && let Err(StepError::Alarm(found)) = trio.node(victim).step(now, from, message)
            {
                alarm = Some(found);
            }
        }
    }
    let alarm = alarm.expect("the heartbeat counts on entries that are gone");
    assert!(matches!(alarm, Alarm::LogLost { node, .. } if node == NodeId(victim)));
    assert!(alarm.to_string().contains("never used"), "{alarm}");
}

#[test]
fn a_proposal_without_a_leader_waits_and_is_applied_once() {
    let mut trio = Trio::new();
    let id = trio.propose(2, Command::Health { node: NodeId(2), health: Health::GOOD });
    trio.run_until("it is applied", |trio| trio.outcome(2, id).is_some());
    assert_eq!(trio.outcome(2, id), Some(Outcome::Done));
}

#[test]
fn a_forwarded_proposal_that_is_lost_is_repeated_and_done_once() {
    let mut trio = Trio::settled();
    let follower = if trio.leader() == Some(2) { 1 } else { 2 };
    trio.lose = Some(Kind::Propose);
    let id = trio.propose(follower, handover(2));
    trio.run(1_000);
    assert_eq!(trio.outcome(follower, id), None);
    trio.lose = Some(Kind::AppendResponse);
    trio.run(400);
    // Now it is in the leader's log, perhaps twice, and nobody has confirmed it.
    trio.lose = None;
    trio.run_until("it is applied", |trio| trio.outcome(follower, id).is_some());
    trio.run(2_000);
    let times = trio.finished[&NodeId(follower)].iter();
    let times = times.filter(|f| matches!(f, Finished::Applied(done, _) if *done == id)).count();
    assert_eq!(times, 1);
}

#[test]
fn a_proposal_that_nobody_confirms_ends_at_its_deadline() {
    let mut trio = Trio::settled();
    trio.kill(2);
    trio.kill(3);
    let id = trio.propose(1, handover(1));
    trio.run(21_000);
    assert!(trio.finished[&NodeId(1)].contains(&Finished::Late(id)));
    assert!(!trio.nodes[&NodeId(1)].duty(trio.now()).quorum, "one of three is no majority");
}

#[test]
fn what_cannot_be_proposed_is_said_at_once() {
    let mut trio = Trio::settled();
    let now = trio.now();
    let huge = Command::AddMember { node: NodeId(9), address: "x".repeat(70_000) };
    let refused = trio.node(1).propose(now, huge, now + Duration::from_secs(1));
    assert!(matches!(refused, Err(ProposeError::Command(_))));
    for _ in 0..5_000 {
        if trio.node(1).propose(now, handover(1), now).is_err() {
            return;
        }
    }
    panic!("proposals without end");
}

#[test]
fn checkpoints_wait_until_all_members_know_them() {
    let mut trio = Trio::settled();
    let (key, signature) = ("ab".repeat(32), "cd".repeat(64));
    let checkpoint = CheckpointText { checkpoint: "a text".to_owned(), key, signature };
    let (node, lacks) = (NodeId(1), false);
    let command = Command::Checkpoint { node, checkpoint, lacks };
    let id = trio.announce(3, "0.1.0+log2");
    trio.run_until("it is announced", |trio| trio.outcome(3, id).is_some());
    trio.run(500);
    let now = trio.now();
    let late = now + Duration::from_secs(20);
    let tried = trio.node(1).propose(now, command.clone(), late);
    assert_eq!(tried, Err(ProposeError::Level { level: 3, known: 2 }));
    let id = trio.announce(3, "0.1.0+log3");
    trio.run_until("it is announced", |trio| trio.outcome(3, id).is_some());
    trio.run(500);
    let state = trio.node(2).state().encode();
    let now = trio.now();
    let id =
        trio.node(1).propose(now, command, now + Duration::from_secs(20)).expect("all know it");
    trio.run_until("it is applied", |trio| trio.outcome(1, id) == Some(Outcome::Done));
    trio.run(500);
    // What proposals are done is all that grows.
    let grown = trio.node(2).state().encode().len().abs_diff(state.len());
    assert!(grown < 16, "{grown} bytes of a checkpoint are in the state");
}

#[test]
fn what_a_member_cannot_read_is_proposed_by_nobody_until_it_is_upgraded() {
    let mut trio = Trio::settled();
    let hand_in = Command::HandIn { keeper: NodeId(1), claim: claim(2) };
    let try_it = |trio: &mut Trio| {
        let now = trio.now();
        trio.node(1).propose(now, hand_in.clone(), now + Duration::from_secs(20))
    };
    // The witness runs the program of before; it need not be up to be waited for.
    for program in ["1+log1", "1+log2", "0.9+log1"] {
        let id = trio.announce(3, program);
        trio.run_until("it is announced", |trio| trio.outcome(3, id).is_some());
        trio.run(500);
        let tried = try_it(&mut trio);
        if program == "1+log2" {
            let id = tried.expect("all know it");
            trio.run_until("it is applied everywhere", |trio| trio.outcome(1, id).is_some());
        } else {
            assert_eq!(tried, Err(ProposeError::Level { level: 2, known: 1 }), "{program}");
        }
    }
    trio.kill(3);
    trio.run(5_000);
    assert!(try_it(&mut trio).is_err(), "it may come back as it was");
}

/// A capture of this member.
fn claim(node: u16) -> Claim {
    let at = WallTime::from_millis(1_700_000_000_000);
    Claim {
        call: CallRef { ucid: None, callid: CallId::new("120"), began: Some(at) },
        copy: 1,
        take: 1,
        node: NodeId(node),
        segment: SegmentId(9),
        recording: RecordingId::new(at, [7; 10]),
        from: at,
        epoch: 1,
        terms: Terms::default(),
    }
}

#[test]
fn a_vote_is_durable_before_it_is_told() {
    let mut trio = Trio::new();
    let now = trio.now();
    trio.node(1).campaign();
    let mut asked = trio.drain(NodeId(1));
    // Pre-vote, then the vote itself.
    for round in 0..2 {
        let (_, request) = asked.into_iter().find(|(_, m)| m.to == NodeId(2)).unwrap();
        let voter = trio.node(2);
        voter.step(now, NodeId(1), request).unwrap();
        let work = voter.poll().unwrap().unwrap();
        assert!(work.at_once.is_empty(), "a follower says nothing before its write");
        if round == 1 {
            let vote = work.write.as_ref().and_then(|write| write.vote).unwrap();
            assert_eq!((vote.term, vote.vote), (2, 1));
        }
        let [answer] = &work.after[..] else { panic!("{:?}", work.after) };
        let answer = answer.clone();
        voter.written().unwrap();
        trio.node(1).step(now, NodeId(2), answer).unwrap();
        asked = trio.drain(NodeId(1));
    }
    assert!(trio.node(1).is_leader());
}

#[test]
fn a_single_voter_commits_by_its_own_disk() {
    let members = BTreeMap::from([(NodeId(1), "n1".to_owned())]);
    let mut node = Node::new(config(1, 1), Stored::first(&members)).unwrap();
    let now = MonoTime::from_millis(0);
    node.campaign();
    node.propose(now, handover(1), now + Duration::from_secs(1)).unwrap();
    let mut applied = 0;
    while node.poll().unwrap().is_some() {
        applied += node.written().unwrap().applied.len();
    }
    node.tick(now);
    while node.poll().unwrap().is_some() {
        applied += node.written().unwrap().applied.len();
    }
    assert!(applied >= 2, "the new leader's empty entry and the command, from light readies");
}

#[test]
fn a_restart_goes_on_where_it_was_and_applies_nothing_twice() {
    let mut trio = Trio::settled();
    for _ in 0..Node::COMPACT_EVERY + 50 {
        trio.propose(1, handover(1));
        trio.deliver();
    }
    trio.run(1_000);
    assert!(trio.disks[&NodeId(2)].snapshot.index > 1, "the log was compacted");
    assert!(trio.disks[&NodeId(2)].entries.len() < 5_200);
    let restarted = Node::new(config(2, 2), trio.disks[&NodeId(2)].clone()).unwrap();
    assert_eq!(restarted.applied(), trio.disks[&NodeId(2)].snapshot.index);
    trio.nodes.insert(NodeId(2), restarted);
    trio.run(1_000);
    assert_eq!(trio.nodes[&NodeId(2)].state(), trio.nodes[&NodeId(3)].state());
}

#[test]
fn whoever_fell_far_behind_gets_a_snapshot_even_if_the_first_is_lost() {
    let mut trio = Trio::settled();
    let behind = if trio.leader() == Some(3) { 2 } else { 3 };
    trio.down.insert(NodeId(behind));
    for _ in 0..2 * Node::COMPACT_EVERY {
        trio.propose(1, handover(1));
        trio.deliver();
    }
    trio.run(500);
    trio.lose = Some(Kind::Snapshot);
    trio.down.remove(&NodeId(behind));
    trio.run(1_000);
    trio.lose = None;
    trio.run_until("it has caught up", |trio| {
        trio.nodes[&NodeId(behind)].applied() == trio.nodes[&NodeId(1)].applied()
    });
    assert!(trio.carried.contains(&Kind::Snapshot));
    assert_eq!(trio.nodes[&NodeId(behind)].state(), trio.nodes[&NodeId(1)].state());
}

#[test]
fn members_join_vote_leave_and_are_not_heard_any_more() {
    let mut trio = Trio::settled();
    let add = Command::AddMember { node: NodeId(4), address: "n4".into() };
    assert_eq!(trio.done(1, add.clone()), Outcome::Done);
    assert_eq!(trio.done(2, add), Outcome::Refused(Refusal::NumberUsed(NodeId(4))));
    trio.start(4, 1);
    trio.run_until("the fourth votes", |trio| {
        trio.nodes.values().all(|node| node.voters().contains(&NodeId(4)))
    });
    // What Raft gave back on the change is kept: a restarted member knows the voters.
    let restarted = Node::new(config(2, 2), trio.disks[&NodeId(2)].clone()).unwrap();
    trio.nodes.insert(NodeId(2), restarted);
    trio.run(1_000);
    assert_eq!(trio.nodes[&NodeId(2)].voters().len(), 4);

    let leader = trio.leader().unwrap();
    assert_eq!(trio.done(1, Command::RemoveMember { node: NodeId(leader) }), Outcome::Done);
    trio.run(1_500);
    let rest: Vec<_> = trio.nodes.keys().copied().filter(|id| id.0 != leader).collect();
    assert!(rest.iter().all(|id| !trio.nodes[id].voters().contains(&NodeId(leader))));
    let now = trio.now();
    let mut stray = Message::decode(&heartbeat_response(leader, rest[0].0)).unwrap();
    stray.term = trio.nodes[&rest[0]].term();
    let heard = trio.nodes.get_mut(&rest[0]).unwrap().step(now, NodeId(leader), stray);
    assert_eq!(heard, Err(StepError::NotMember(NodeId(leader))));
    let back = Command::AddMember { node: NodeId(leader), address: "again".into() };
    assert_eq!(trio.done(rest[0].0, back), Outcome::Refused(Refusal::NumberUsed(NodeId(leader))));
}

#[test]
fn a_leader_that_finds_its_own_removal_in_the_log_steps_aside() {
    let mut trio = Trio::settled();
    let leader = trio.leader().unwrap();
    assert_eq!(leader, 3, "a witness leads the log");
    trio.lose = Some(Kind::AppendResponse);
    trio.propose(leader, Command::RemoveMember { node: NodeId(2) });
    trio.run(50);
    trio.lose = None;
    trio.nodes.remove(&NodeId(leader));
    trio.down.insert(NodeId(leader));
    let now = trio.now();
    for event in [PeerEvent::Reset, PeerEvent::Refused] {
        trio.nodes.values_mut().for_each(|node| node.peer(now, NodeId(leader), event));
    }
    // New entries in the same round as the removal: their sync finds the leader without a place.
    for _ in 0..20 {
        let messages: Vec<_> = [1, 2].into_iter().flat_map(|id| trio.drain(NodeId(id))).collect();
        for (from, message) in messages {
            trio.carry(from, message);
        }
        trio.propose(2, handover(1));
    }
    trio.run(2_000);
    assert!(!trio.node(2).is_leader());
    assert!(trio.node(2).state().removed().contains(&NodeId(2)));
}

fn heartbeat_response(from: u16, to: u16) -> Vec<u8> {
    Message {
        kind: Kind::HeartbeatResponse,
        to: NodeId(to),
        from: NodeId(from),
        term: 1,
        log_term: 0,
        index: 0,
        entries: Vec::new(),
        commit: 0,
        commit_term: 0,
        snapshot: None,
        request_snapshot: 0,
        reject: false,
        reject_hint: 0,
        context: Vec::new(),
    }
    .encode()
}

#[test]
fn messages_in_anothers_name_and_impossible_ones_are_refused() {
    let mut trio = Trio::settled();
    let now = trio.now();
    let forged = Message::decode(&heartbeat_response(2, 1)).unwrap();
    let result = trio.node(1).step(now, NodeId(3), forged);
    assert!(matches!(result, Err(StepError::Astray { .. })));
    let leader = trio.leader().unwrap();
    let other = if leader == 2 { 3 } else { 2 };
    let mut ahead = Message::decode(&heartbeat_response(other, leader)).unwrap();
    (ahead.kind, ahead.index) = (Kind::AppendResponse, 1_000_000);
    ahead.term = trio.node(leader).term();
    let result = trio.node(leader).step(now, NodeId(other), ahead);
    assert_eq!(result, Err(StepError::Senseless(NodeId(other))));
}

#[test]
fn isolation_raises_no_term_and_an_isolated_leader_steps_down() {
    let mut trio = Trio::settled();
    let term = trio.nodes[&NodeId(1)].term();
    trio.down.insert(NodeId(1));
    trio.run(5_000);
    assert_eq!(trio.nodes[&NodeId(1)].term(), term, "pre-vote");
    trio.down.clear();
    trio.run(1_000);
    assert_eq!(trio.leader().map(|leader| trio.node(leader).term()), Some(term));
    let leader = trio.leader().unwrap();
    trio.down.insert(NodeId(leader));
    trio.run(1_000);
    assert!(!trio.node(leader).is_leader(), "check-quorum");
    assert!(!trio.node(leader).duty(MonoTime::from_millis(0)).quorum);
}

#[test]
fn the_groups_leadership_moves_off_the_member_that_leads_recording() {
    let mut trio = Trio::settled();
    let (leader, lead) = (trio.leader().unwrap(), trio.lead().unwrap());
    assert_ne!(leader, lead);
    trio.node(leader).transfer_leader(NodeId(lead));
    trio.deliver();
    assert_eq!(trio.leader(), Some(lead));
    trio.run_until("it moved off again", |trio| trio.leader() != Some(lead));
}

#[test]
fn when_the_lead_dies_the_backup_leads_within_a_tick_even_if_the_leader_died_with_it() {
    let mut trio = Trio::settled();
    trio.kill(1);
    let duty = trio.nodes[&NodeId(2)].duty(trio.now());
    assert_eq!((duty.duty, duty.moves), (Duty::Lead, true));
    trio.run_until("it is granted", |trio| trio.lead() == Some(2));
    let cause = trio.nodes[&NodeId(2)].state().takeover().map(|takeover| takeover.cause);
    assert_eq!(cause, Some(Cause::Down));

    // The leader of the group and the lead of recording, in one member.
    let mut trio = Trio::settled();
    let lead = trio.lead().unwrap();
    let leader = trio.leader().unwrap();
    trio.node(leader).transfer_leader(NodeId(lead));
    trio.deliver();
    assert_eq!(trio.leader(), Some(lead));
    let before = trio.now_ms;
    trio.kill(lead);
    let duty = trio.nodes[&NodeId(2)].duty(trio.now());
    assert_eq!((duty.duty, duty.provisional), (Duty::Lead, true), "it acts first");
    trio.run_until("it is granted", |trio| trio.lead() == Some(2));
    assert!(trio.now_ms - before <= 150, "{} ms", trio.now_ms - before);
}

#[test]
fn a_silent_host_is_replaced_after_an_election_period_and_a_hung_standby_suspects_nobody() {
    let mut trio = Trio::settled();
    trio.down.insert(NodeId(1));
    let before = trio.now_ms;
    trio.run_until("the backup leads", |trio| {
        trio.nodes[&NodeId(2)].state().lead() == Some(NodeId(2))
    });
    assert!((250..=400).contains(&(trio.now_ms - before)), "{} ms", trio.now_ms - before);

    let mut trio = Trio::settled();
    trio.now_ms += 3_000;
    let now = trio.now();
    trio.node(2).tick(now);
    assert_eq!(trio.node(2).duty(now).duty, Duty::Standby, "the silence was its own");
}

#[test]
fn whoever_has_just_started_does_not_lead_by_an_old_log() {
    let mut trio = Trio::settled();
    // The commit index goes to the disk with the next write.
    assert_eq!(trio.done(1, handover(1)), Outcome::Done);
    assert_eq!(trio.done(1, handover(1)), Outcome::Done);
    let mut node = Node::new(config(1, 2), trio.disks[&NodeId(1)].clone()).unwrap();
    let at = MonoTime::from_millis;
    node.tick(at(0));
    while node.poll().unwrap().is_some() {
        let done = node.written().unwrap();
        assert!(done.applied.iter().all(|applied| applied.entry != Entry::Restored));
    }
    assert_eq!(node.state().lead(), Some(NodeId(1)));
    assert_eq!(node.duty(at(10)).duty, Duty::Standby);
    assert_eq!(node.duty(at(5_000)).duty, Duty::Lead, "alone for long: its last duty");
}

#[test]
fn what_is_stored_and_does_not_fit_together_is_named() {
    let mut trio = Trio::settled();
    let sound = trio.disks.remove(&NodeId(2)).unwrap();
    let broken = |change: fn(&mut Stored)| {
        let mut stored = sound.clone();
        change(&mut stored);
        Node::new(config(2, 2), stored).err()
    };
    assert_eq!(broken(|_| {}), None);
    assert!(
        broken(|s| {
            s.entries.remove(2);
        })
        .is_some()
    );
    assert!(broken(|s| s.vote.commit = 1_000_000).is_some());
    assert!(broken(|s| s.snapshot.index = 1_000_000).is_some());
    assert!(broken(|s| s.snapshot.state[0] = 99).is_some());
}
