//! Who is to lead: the duty decision, made by the group's leader from what the log says and from
//! who answers it. It decides; the log's order makes it so.
//!
//! ```text
//!                    ┌────────────── nobody has led yet: settle, then the best leads
//!                    ▼
//!   ┌────────▶ lead is tenable ◀─────────────────────────────────────────────┐
//!   │           │          │                                                 │
//!   │  down,    │          │ a preferred member is fit and has proved it     │
//!   │  unfit,   │          ▼                                                 │
//!   │  drained  │      hand back: new calls only ────────────────────────────┤
//!   │           ▼                                                            │
//!   │      take over: calls in progress too ─────────────────────────────────┤
//!   └── a wish (`takeover`, `drill`): calls in progress too, joined first ───┘
//! ```
//!
//! Preference is by role: active, backup, parallel; then by number. A parallel that follows simply
//! goes on when the active is gone and a backup leads; it leads only if there is nobody else.
//! When nobody is fit the least unfit leads: when in doubt, record.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use storage_core::{Duty, MonoTime, NodeId, Role};

use crate::command::{Cause, Grant};
use crate::state::{Member, State};

/// How patient the decision is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// After a new leader of the group: time for members to be heard before the first grant.
    pub settle: Duration,
    /// A member that has just started and has not said how it is counts as fit so long.
    pub starting: Duration,
    /// A preferred member must have been fit so long before it gets the lead back.
    pub proving: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            settle: Duration::from_millis(600),
            starting: Duration::from_secs(10),
            proving: Duration::from_secs(10),
        }
    }
}

/// How good a member is for leading; the first is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Fit,
    Starting,
    Unfit,
    Drained,
    Down,
}

/// What only the leader knows, and only while it leads the group.
#[derive(Clone, Debug)]
pub struct Decider {
    patience: Patience,
    since: MonoTime,
    fit_since: BTreeMap<NodeId, MonoTime>,
    seen_since: BTreeMap<NodeId, (u64, MonoTime)>,
}

impl Decider {
    /// For a member that has just become the group's leader.
    #[must_use]
    pub const fn new(patience: Patience, now: MonoTime) -> Self {
        Self { patience, since: now, fit_since: BTreeMap::new(), seen_since: BTreeMap::new() }
    }

    /// What is to be granted now, if anything. `up` are the members that answer, `unknown` those
    /// that have not been heard since this process began and are not known to be gone either.
    pub fn decide(
        &mut self,
        now: MonoTime,
        state: &State,
        up: &BTreeSet<NodeId>,
        unknown: &BTreeSet<NodeId>,
    ) -> Option<Grant> {
        self.observe(now, state, up);
        if !self.settled(now, state, unknown) {
            return None;
        }
        let (lead, cause, moves) = self.choose(now, state, up);
        let duties = duties(state, lead, up);
        let liveness: Vec<_> =
            state.members().keys().map(|node| (*node, up.contains(node))).collect();
        let same_duties = duties.iter().all(|(node, duty)| state.duty(*node) == *duty);
        let same_up = liveness.iter().all(|(node, up)| state.members()[node].up == *up);
        if lead == state.lead() && same_duties && same_up {
            return None;
        }
        let (cause, moves) = match (lead == state.lead(), same_duties) {
            (false, _) => (cause, moves),
            (true, false) => (Cause::Configured, state.moves()),
            (true, true) => (Cause::Liveness, state.moves()),
        };
        Some(Grant { expect: state.granted_at(), duties, up: liveness, moves, cause })
    }

    fn observe(&mut self, now: MonoTime, state: &State, up: &BTreeSet<NodeId>) {
        for (&node, member) in state.members() {
            if up.contains(&node) {
                let seen = self.seen_since.entry(node).or_insert((member.boot, now));
                if seen.0 != member.boot {
                    *seen = (member.boot, now);
                }
            } else {
                self.seen_since.remove(&node);
            }
            if self.class(now, node, member, up) == Class::Fit {
                self.fit_since.entry(node).or_insert(now);
            } else {
                self.fit_since.remove(&node);
            }
        }
    }

    /// Whom nobody has heard yet is not down. The first grant also waits for all to say what they
    /// are, or long enough.
    fn settled(&self, now: MonoTime, state: &State, unknown: &BTreeSet<NodeId>) -> bool {
        let known = |(node, member): (&NodeId, &Member)| {
            !unknown.contains(node) && (member.role.is_some() || state.lead().is_some())
        };
        now.since(self.since) >= self.patience.settle || state.members().iter().all(known)
    }

    fn choose(
        &self,
        now: MonoTime,
        state: &State,
        up: &BTreeSet<NodeId>,
    ) -> (Option<NodeId>, Cause, bool) {
        let class = |node: NodeId| {
            state.members().get(&node).map_or(Class::Down, |m| self.class(now, node, m, up))
        };
        let recorders = || state.members().iter().filter(|(_, member)| member.records());
        let rank = |(node, member): &(&NodeId, &Member)| {
            let class = match class(**node) {
                // Whoever has just started is as good as the others while nobody leads.
                Class::Starting if state.lead().is_none() => Class::Fit,
                class => class,
            };
            (class, member.role, **node)
        };
        let best = recorders().min_by_key(rank).map(|(node, _)| *node);
        let records = |node: &NodeId| state.members().get(node).is_some_and(Member::records);
        let Some(lead) = state.lead().filter(records) else {
            let cause = if state.epoch() == 0 { Cause::First } else { Cause::Configured };
            return (best, cause, true);
        };
        if class(lead) > Class::Starting {
            return self.replace(lead, best, state, class);
        }
        if let Some(wish) = state.wish()
            && class(wish) == Class::Fit
        {
            return (Some(wish), Cause::Planned, true);
        }
        let proven = |node: &NodeId| {
            self.fit_since.get(node).is_some_and(|since| now.since(*since) >= self.patience.proving)
        };
        let role = state.members()[&lead].role;
        let preferred = recorders()
            .filter(|(node, member)| member.role < role && proven(node))
            .min_by_key(|(node, member)| (member.role, **node));
        match preferred {
            Some((node, _)) => (Some(*node), Cause::HandBack, false),
            None => (Some(lead), Cause::Liveness, state.moves()),
        }
    }

    /// The lead cannot stay, if there is a better one.
    fn replace(
        &self,
        lead: NodeId,
        best: Option<NodeId>,
        state: &State,
        class: impl Fn(NodeId) -> Class,
    ) -> (Option<NodeId>, Cause, bool) {
        let Some(best) = best.filter(|best| class(*best) < class(lead)) else {
            return (Some(lead), Cause::Liveness, state.moves());
        };
        match class(lead) {
            Class::Down => (Some(best), Cause::Down, true),
            Class::Drained => {
                let moves = state.members()[&lead].drained.unwrap_or(true);
                (Some(best), Cause::Drained, moves)
            }
            _ => (Some(best), Cause::Unfit, true),
        }
    }

    fn class(&self, now: MonoTime, node: NodeId, member: &Member, up: &BTreeSet<NodeId>) -> Class {
        if !up.contains(&node) || member.role.is_none() {
            return Class::Down;
        }
        if member.drained.is_some() {
            return Class::Drained;
        }
        match member.health {
            Some(health) if health.fit() => Class::Fit,
            Some(_) => Class::Unfit,
            None => {
                let seen = self.seen_since.get(&node).map_or(now, |(_, since)| *since);
                let starting = now.since(seen) < self.patience.starting;
                if starting { Class::Starting } else { Class::Unfit }
            }
        }
    }
}

/// Everybody's duty under this lead. Where a parallel leads, the copy that actives and backups share
/// has a recorder of its own: the best of them that answers follows.
#[must_use]
pub fn duties(state: &State, lead: Option<NodeId>, up: &BTreeSet<NodeId>) -> Vec<(NodeId, Duty)> {
    let shared = |member: &Member| matches!(member.role, Some(Role::Active | Role::Backup));
    let led_by_parallel = lead.is_some_and(|lead| {
        state.members().get(&lead).is_some_and(|member| member.role == Some(Role::Parallel))
    });
    let follower = state
        .members()
        .iter()
        .filter(|(node, member)| {
            led_by_parallel && shared(member) && member.drained.is_none() && up.contains(node)
        })
        .min_by_key(|(node, member)| {
            (!member.health.is_some_and(|health| health.fit()), member.role, **node)
        })
        .map(|(node, _)| *node);
    let duty = |(&node, member): (&NodeId, &Member)| {
        let duty = match member.role {
            None | Some(Role::Witness) => Duty::None,
            Some(_) if Some(node) == lead => Duty::Lead,
            Some(_) if member.drained.is_some() => Duty::None,
            Some(Role::Parallel) => Duty::Follow,
            Some(Role::Active | Role::Backup) if Some(node) == follower => Duty::Follow,
            Some(Role::Active | Role::Backup) => Duty::Standby,
        };
        (node, duty)
    };
    state.members().iter().map(duty).collect()
}

/// Who takes over if the lead is gone, as far as the log and `alive` tell: what a standby asks
/// itself before it acts ahead of the grant. It is the same order as the decision's.
#[must_use]
pub fn successor(state: &State, alive: impl Fn(NodeId) -> bool) -> Option<NodeId> {
    let candidates = state.members().iter().filter(|(node, member)| {
        Some(**node) != state.lead()
            && member.records()
            && member.drained.is_none()
            && alive(**node)
            && member.health.is_some_and(|health| health.fit())
    });
    candidates.min_by_key(|(node, member)| (member.role, **node)).map(|(node, _)| *node)
}

#[cfg(test)]
mod tests {
    use storage_core::Role::{Active, Backup, Parallel, Witness};

    use super::*;
    use crate::command::{Announce, Command, Health, Outcome, Phantoms, Proposal, ProposalId};

    const SICK: Health = Health { aes: false, ..Health::GOOD };

    /// A group whose leader decides every 100 ms.
    struct Group {
        now_ms: u64,
        state: State,
        decider: Decider,
        up: BTreeSet<NodeId>,
        index: u64,
    }

    impl Group {
        fn new(roles: &[Role]) -> Self {
            let ids: Vec<_> = (1_u16..).map(NodeId).take(roles.len()).collect();
            let members = ids.iter().map(|id| (*id, String::new())).collect();
            let patience = Patience { proving: Duration::from_secs(2), ..Patience::default() };
            let mut group = Self {
                now_ms: 0,
                state: State::new(&members),
                decider: Decider::new(patience, MonoTime::default()),
                up: ids.iter().copied().collect(),
                index: 1,
            };
            for (node, role) in ids.into_iter().zip(roles) {
                let (phantoms, program) = (Vec::new(), String::new());
                let announce = Announce { node, role: *role, phantoms, program };
                group.say(node, Command::Announce(announce));
                group.say(node, Command::Health { node, health: Health::GOOD });
            }
            group
        }

        /// Settled: the first grant is given.
        fn healthy(roles: &[Role]) -> Self {
            let mut group = Self::new(roles);
            group.pass(100);
            group
        }

        fn say(&mut self, from: NodeId, command: Command) -> Outcome {
            self.index += 1;
            let id = ProposalId { node: from, boot: 1, seq: self.index };
            let proposal = Proposal { id, settled: 0, command };
            self.state.apply(self.index, &proposal, &mut Vec::new())
        }

        fn health(&mut self, node: u16, health: Health) -> &mut Self {
            self.say(NodeId(node), Command::Health { node: NodeId(node), health });
            self.pass(100)
        }

        fn down(&mut self, node: u16) -> &mut Self {
            self.up.remove(&NodeId(node));
            self.pass(100)
        }

        fn back(&mut self, node: u16) -> &mut Self {
            self.up.insert(NodeId(node));
            self.pass(100)
        }

        fn say_any(&mut self, command: Command) -> &mut Self {
            self.say(NodeId(1), command);
            self.pass(100)
        }

        fn pass(&mut self, ms: u64) -> &mut Self {
            for _ in 0..ms / 100 {
                self.now_ms += 100;
                let now = MonoTime::from_millis(self.now_ms);
                let unknown = BTreeSet::new();
                if let Some(grant) = self.decider.decide(now, &self.state, &self.up, &unknown) {
                    let outcome = self.say(NodeId(0), Command::Grant(grant));
                    assert!(matches!(outcome, Outcome::Granted { .. }), "{outcome:?}");
                }
            }
            self
        }

        /// A letter a member: Lead, Follow, Standby, none (-).
        fn duties(&self) -> String {
            let letter = |node: &NodeId| match self.state.duty(*node) {
                Duty::Lead => 'L',
                Duty::Follow => 'F',
                Duty::Standby => 'S',
                Duty::None => '-',
            };
            self.state.members().keys().map(letter).collect()
        }

        fn cause(&self) -> Option<Cause> {
            self.state.takeover().map(|takeover| takeover.cause)
        }
    }

    #[test]
    fn in_a_healthy_group_the_preferred_role_leads() {
        let cases: [(&[Role], &str); 8] = [
            (&[Active, Backup, Witness], "LS-"),
            (&[Backup, Active, Witness], "SL-"),
            (&[Active, Parallel, Witness], "LF-"),
            (&[Active, Backup, Parallel], "LSF"),
            (&[Backup, Backup, Witness], "LS-"),
            (&[Parallel, Backup, Witness], "FL-"),
            (&[Parallel, Parallel, Witness], "LF-"),
            (&[Witness, Witness, Witness], "---"),
        ];
        for (roles, expected) in cases {
            assert_eq!(Group::healthy(roles).duties(), expected, "{roles:?}");
        }
    }

    #[test]
    fn a_dead_active_is_replaced_at_once_with_its_calls() {
        let cases: [(&[Role], &str); 3] = [
            (&[Active, Backup, Witness], "SL-"),
            (&[Active, Parallel, Witness], "SL-"),
            // The parallel simply goes on.
            (&[Active, Backup, Parallel], "SLF"),
        ];
        for (roles, expected) in cases {
            let mut group = Group::healthy(roles);
            assert_eq!(group.down(1).duties(), expected, "{roles:?}");
            assert_eq!((group.cause(), group.state.moves()), (Some(Cause::Down), true));
        }
    }

    #[test]
    fn where_a_parallel_leads_the_other_copy_is_recorded_too() {
        let mut group = Group::healthy(&[Active, Parallel, Witness]);
        group.down(1);
        assert_eq!(group.duties(), "SL-", "nobody is there to record the other copy");
        group.back(1);
        assert_eq!(group.duties(), "FL-", "it has not proved healthy, and records all the same");
        group.pass(3_000);
        assert_eq!(group.duties(), "LF-");
        let mut group = Group::healthy(&[Active, Backup, Parallel]);
        group.down(1).down(2);
        assert_eq!(group.duties(), "SSL");
        group.back(2);
        assert_eq!(group.duties(), "SFL");
        group.pass(3_000);
        assert_eq!(group.duties(), "SLF", "a backup is preferred");
    }

    #[test]
    fn an_active_that_cannot_record_is_not_fit_to_lead() {
        let sick = [
            SICK,
            Health { disk: false, ..Health::GOOD },
            Health { media: false, ..Health::GOOD },
            Health { phantoms: Phantoms::None, ..Health::GOOD },
        ];
        for health in sick {
            let mut group = Group::healthy(&[Active, Backup, Witness]);
            assert_eq!(group.health(1, health).duties(), "SL-", "{health:?}");
            assert_eq!(group.cause(), Some(Cause::Unfit));
        }
        // A full pool is helped call by call.
        let mut group = Group::healthy(&[Active, Backup, Witness]);
        let full = Health { phantoms: Phantoms::Full, ..Health::GOOD };
        assert_eq!(group.health(1, full).duties(), "LS-");
    }

    #[test]
    fn the_active_gets_the_lead_back_when_proven_and_for_new_calls_only() {
        let mut group = Group::healthy(&[Active, Backup, Witness]);
        group.down(1).back(1).pass(1_500);
        assert_eq!(group.duties(), "SL-", "not proven yet");
        group.health(1, SICK).health(1, Health::GOOD).pass(1_500);
        assert_eq!(group.duties(), "SL-", "the proving time begins anew");
        group.pass(1_000);
        assert_eq!(group.duties(), "LS-");
        assert_eq!((group.cause(), group.state.moves()), (Some(Cause::HandBack), false));
    }

    #[test]
    fn when_nobody_is_fit_the_least_unfit_leads() {
        let mut group = Group::healthy(&[Active, Backup, Witness]);
        group.health(2, SICK).health(1, SICK);
        assert_eq!(group.duties(), "LS-", "nobody is better");
        group.down(1);
        assert_eq!(group.duties(), "SL-", "unfit is better than gone");
        group.down(2);
        assert_eq!(group.duties(), "SL-", "nobody is left to take it");
        group.back(1);
        assert_eq!(group.duties(), "LS-");
    }

    #[test]
    fn a_planned_takeover_holds_until_it_fails() {
        let mut group = Group::healthy(&[Active, Backup, Witness]);
        group.say_any(Command::Handover { to: Some(NodeId(2)) });
        assert_eq!(group.duties(), "SL-");
        assert_eq!((group.cause(), group.state.moves()), (Some(Cause::Planned), true));
        group.pass(5_000);
        assert_eq!(group.duties(), "SL-", "it is not taken back");
        group.health(2, SICK);
        assert_eq!(group.duties(), "LS-");
        group.health(2, Health::GOOD).pass(5_000);
        assert_eq!(group.duties(), "LS-", "a wish that failed is forgotten");
        let to_witness = Command::Handover { to: Some(NodeId(3)) };
        assert!(matches!(group.say(NodeId(1), to_witness), Outcome::Refused(_)));
    }

    #[test]
    fn a_drained_member_does_nothing_new() {
        for moves in [true, false] {
            let mut group = Group::healthy(&[Active, Backup, Witness]);
            group.say_any(Command::Drain { node: NodeId(1), on: true, moves });
            assert_eq!((group.duties().as_str(), group.state.moves()), ("-L-", moves));
            group.say_any(Command::Drain { node: NodeId(1), on: false, moves: false });
            assert_eq!(group.duties(), "SL-");
            group.pass(2_000);
            assert_eq!(group.duties(), "LS-");
        }
    }

    #[test]
    fn a_role_changes_while_it_runs() {
        let mut group = Group::healthy(&[Active, Backup, Witness]);
        group.say_any(Command::SetRole { node: NodeId(2), role: Parallel });
        assert_eq!(group.duties(), "LF-");
        assert_eq!((group.state.copy(NodeId(1)), group.state.copy(NodeId(2))), (1, 2));
        group.say_any(Command::SetRole { node: NodeId(2), role: Backup });
        group.say_any(Command::SetRole { node: NodeId(1), role: Backup });
        assert_eq!(group.duties(), "LS-", "no reason to move");
        group.say_any(Command::SetRole { node: NodeId(2), role: Active }).pass(3_000);
        assert_eq!(group.duties(), "SL-");
        group.say_any(Command::SetRole { node: NodeId(2), role: Witness });
        assert_eq!(group.duties(), "L--");
    }

    #[test]
    fn at_the_start_nobody_is_passed_over_for_being_slow() {
        let mut group = Group::new(&[Active, Backup, Witness]);
        let unknown = BTreeSet::from([NodeId(1)]);
        let up = BTreeSet::from([NodeId(2), NodeId(3)]);
        let now = MonoTime::from_millis(100);
        assert_eq!(group.decider.decide(now, &group.state, &up, &unknown), None);
        let later = MonoTime::from_millis(700);
        let grant = group.decider.decide(later, &group.state, &up, &unknown).unwrap();
        assert!(grant.duties.contains(&(NodeId(2), Duty::Lead)), "but not for ever");
        // A member that has just started counts as fit until it says otherwise.
        let restarted = Announce {
            node: NodeId(1),
            role: Active,
            phantoms: Vec::new(),
            program: String::new(),
        };
        let id = ProposalId { node: NodeId(1), boot: 2, seq: 1 };
        let proposal = Proposal { id, settled: 0, command: Command::Announce(restarted) };
        group.state.apply(99, &proposal, &mut Vec::new());
        group.pass(100);
        assert_eq!(group.duties(), "LS-");
        group.pass(11_000);
        assert_eq!(group.duties(), "SL-", "it never said that it can record");
    }

    #[test]
    fn a_decision_from_an_older_state_is_void() {
        let mut group = Group::healthy(&[Active, Backup, Witness]);
        let stale = Grant {
            expect: 0,
            duties: vec![(NodeId(2), Duty::Lead)],
            up: Vec::new(),
            moves: true,
            cause: Cause::Down,
        };
        let outcome = group.say(NodeId(0), Command::Grant(stale.clone()));
        assert!(matches!(outcome, Outcome::Refused(_)));
        let both = vec![(NodeId(1), Duty::Lead), (NodeId(2), Duty::Lead)];
        let two = Grant { expect: group.state.granted_at(), duties: both, ..stale };
        assert!(matches!(group.say(NodeId(0), Command::Grant(two)), Outcome::Refused(_)));
        assert_eq!(group.duties(), "LS-");
    }

    #[test]
    fn the_next_in_line_is_the_same_for_all() {
        let group = Group::healthy(&[Active, Backup, Backup, Parallel]);
        assert_eq!(successor(&group.state, |_| true), Some(NodeId(2)));
        assert_eq!(successor(&group.state, |node| node != NodeId(2)), Some(NodeId(3)));
        assert_eq!(successor(&group.state, |node| node == NodeId(4)), Some(NodeId(4)));
        assert_eq!(successor(&group.state, |_| false), None);
    }
}
