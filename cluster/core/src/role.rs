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
        let duties = duties(state, lead);
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

/// Everybody's duty under this lead.
#[must_use]
pub fn duties(state: &State, lead: Option<NodeId>) -> Vec<(NodeId, Duty)> {
    let duty = |(&node, member): (&NodeId, &Member)| {
        let duty = match member.role {
            None | Some(Role::Witness) => Duty::None,
            Some(_) if Some(node) == lead => Duty::Lead,
            Some(_) if member.drained.is_some() => Duty::None,
            Some(Role::Parallel) => Duty::Follow,
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
