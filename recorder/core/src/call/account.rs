//! A node's account of each call that somebody answered: since when and until when it was to be recorded,
//! whoever does it, and what stood in the way. It is given when the call is over, for the day's
//! completeness; nothing is decided by it.

use storage_core::completeness::{Due, SeenCall, is_paused};
use storage_core::{Extension, MonoTime, Now, WallTime};

use super::calls::Calls;
use super::order::{MissedReason, Order};
use super::tracked::{CallKey, TrackedCall};
use super::trigger::Work;

/// When a call was to be recorded.
#[derive(Debug, Default)]
pub(super) struct Account {
    since: Option<WallTime>,
    due: Vec<Due>,
    /// When it was paused.
    paused_since: Option<WallTime>,
    paused: Vec<Due>,
    /// When it was to be recorded again after the last pause.
    resumed: Option<MonoTime>,
    rule: String,
    /// Monitored stations that talked in it.
    stations: Vec<Extension>,
}

/// Stations kept of one call; one that is passed on more often than that is nobody's.
const STATIONS_MAX: usize = 32;
/// Pauses kept of one call.
const PAUSES_MAX: usize = 256;

impl Account {
    /// When it was to be recorded, and when that was paused, until now.
    fn until(&self, at: WallTime) -> [Vec<Due>; 2] {
        let all = |past: &[Due], since: Option<WallTime>| {
            let open = since.map(|from| Due { from, to: at });
            past.iter().copied().chain(open).filter(|one| one.from < one.to).collect()
        };
        [all(&self.due, self.since), all(&self.paused, self.paused_since)]
    }

    /// Whether people had paused all that was to be recorded until now: nothing was to be captured.
    pub fn is_paused(&self, now: Now) -> bool {
        let [due, paused] = self.until(now.wall);
        is_paused(&due, &paused)
    }

    /// Since when it was to be captured that was `due` then. None while it is paused.
    pub fn to_be_captured(&self, due: MonoTime) -> Option<MonoTime> {
        let since = self.resumed.map_or(due, |resumed| resumed.max(due));
        self.paused_since.is_none().then_some(since)
    }

    fn note_pause(&mut self, now: Now, paused: Option<WallTime>) {
        match (self.paused_since, paused) {
            (Some(from), None) => {
                (self.paused_since, self.resumed) = (None, Some(now.mono));
                if self.paused.len() < PAUSES_MAX {
                    self.paused.push(Due { from, to: now.wall });
                }
            }
            (None, since) => self.paused_since = since,
            (Some(_), Some(_)) => {}
        }
    }
}

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
        let paused = self.paused_since(key);
        let account = &mut self.work_of(key).account;
        account.note_pause(now, paused);
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
        let [due, paused] = work.account.until(now.wall);
        let Account { rule, stations, .. } = std::mem::take(&mut work.account);
        Some(Order::CallOver(Box::new(SeenCall {
            node: self.node,
            ucids: call.ucid.iter().chain(call.former.iter().rev()).cloned().collect(),
            callids: call.ids.iter().map(ToString::to_string).collect(),
            stations,
            began,
            ended: now.wall,
            due,
            paused,
            rule,
            captured: work.recorded,
            block: work.block.map(MissedReason::as_str).map(str::to_owned),
            deleted: false,
        })))
    }
}
