//! A node's account of each call that somebody answered: since when and until when it was to be recorded,
//! whoever does it, and what stood in the way. It is given when the call is over, for the day's
//! completeness; nothing is decided by it.

use storage_core::completeness::{Due, SeenCall};
use storage_core::{Extension, Now, WallTime};

use super::calls::Calls;
use super::order::{MissedReason, Order};
use super::tracked::{CallKey, TrackedCall};
use super::trigger::Work;

/// When a call was to be recorded.
#[derive(Debug, Default)]
pub(super) struct Account {
    since: Option<WallTime>,
    due: Vec<Due>,
    rule: String,
    /// Monitored stations that talked in it.
    stations: Vec<Extension>,
}

/// Stations kept of one call; one that is passed on more often than that is nobody's.
const STATIONS_MAX: usize = 32;

impl Calls {
    /// Notes whether the call is to be recorded now, by rule or because the group has begun to.
    pub(super) fn note_due(&mut self, now: Now, key: CallKey) {
        let Some(call) = self.tracker.call(key) else { return };
        let wanted = call.talking().count() >= 2 && self.is_wanted(key);
        // The answer may have been told late; later stretches begin when they are seen to.
        let answered = call.began().map_or(now.wall, |began| began.wall);
        let rule = self.rules.decide(&self.rule_facts(call)).rule;
        let stations: Vec<_> =
            call.stations().filter_map(|party| party.name.number.clone()).collect();
        let account = &mut self.work_of(key).account;
        account.rule = rule;
        for station in stations {
            if !account.stations.contains(&station) && account.stations.len() < STATIONS_MAX {
                account.stations.push(station);
            }
        }
        match account.since {
            None if wanted => {
                let first = account.due.is_empty();
                account.since = Some(if first { answered } else { now.wall });
            }
            Some(from) if !wanted => {
                account.since = None;
                account.due.push(Due { from, to: now.wall });
            }
            _ => {}
        }
    }

    /// What is to be written down of a call that is over; nothing of one that nobody answered.
    pub(super) fn account_of(
        &self,
        now: Now,
        call: &TrackedCall,
        work: &mut Work,
    ) -> Option<Order> {
        let began = call.established?.wall;
        let Account { since, mut due, rule, stations } = std::mem::take(&mut work.account);
        due.extend(since.map(|from| Due { from, to: now.wall }));
        due.retain(|due| due.from < due.to);
        Some(Order::CallOver(Box::new(SeenCall {
            node: self.node,
            ucids: call.ucid.iter().chain(call.former.iter().rev()).cloned().collect(),
            callids: call.ids.iter().map(ToString::to_string).collect(),
            stations,
            began,
            ended: now.wall,
            due,
            rule,
            captured: work.recorded,
            block: work.block.map(MissedReason::as_str).map(str::to_owned),
            deleted: false,
        })))
    }
}
