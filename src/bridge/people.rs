//! What people hear of the group: alarms, events, metrics, and how long the holes were that a change
//! of the lead left. It decides what is said, and changes nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cluster::{Group, GroupAlarm};
use cluster_core::state::Takeover;
use cluster_core::{Cause, GroupView};
use serde_json::{Map, Value, json};
use storage_core::record::GapCause;
use storage_core::{Duty, NodeId, Recording, WallTime};
use tokio::sync::watch;
use tokio::time::{Instant, interval};

use crate::alarms::Alarm;
use crate::hub::Hub;
use crate::logging;
use crate::web::backend::Topic;

const LOOK_AT_GROUP: &str = "`astlogger status` on each node shows what it sees of the others";
/// A member that restarts is back within this; one that is not, is gone.
const GONE_AFTER: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_secs(1);

/// The last change of the lead, with what it cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastTakeover {
    /// The change.
    pub takeover: Takeover,
    /// When this node saw it.
    pub seen: WallTime,
    /// The longest hole in a recording that moved, as far as such recordings are published here,
    /// milliseconds.
    pub gap_ms: Option<u64>,
}

/// Remembers the last change of the lead.
#[derive(Debug, Default)]
pub struct Takeovers(Mutex<Option<LastTakeover>>);

impl Takeovers {
    /// The last one.
    #[must_use]
    pub fn last(&self) -> Option<LastTakeover> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lead has changed.
    fn note(&self, takeover: Takeover, seen: WallTime) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(LastTakeover { takeover, seen, gap_ms: None });
    }

    /// A recording was published: the holes in it that takeovers left, milliseconds.
    pub fn published(&self, recording: &Recording) -> Vec<u64> {
        let moved = |before: Option<NodeId>, now: NodeId| before.is_some_and(|node| node != now);
        let mut holes = Vec::new();
        let mut before = None;
        for segment in &recording.segments {
            if moved(before, segment.node) {
                let gap = recording.gaps.iter().find(|gap| {
                    gap.cause == GapCause::Takeover && gap.endms.abs_diff(segment.startms) <= 1
                });
                holes.push(gap.map_or(0, |gap| gap.endms - gap.startms));
            }
            before = Some(segment.node);
        }
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(last), Some(longest)) = (last.as_mut(), holes.iter().max())
            && recording.ended >= last.seen
            && recording.started <= last.seen
        {
            last.gap_ms = Some(last.gap_ms.unwrap_or(0).max(*longest));
        }
        holes
    }
}

/// Tells people of the group until it ends.
pub async fn tell(group: Group, hub: Arc<Hub>, takeovers: Arc<Takeovers>) {
    let mut views = group.view_watch();
    let mut alarms = group.alarms();
    let mut told = Told::default();
    let mut beat = interval(LOOK);
    loop {
        let view = views.borrow_and_update().clone();
        told.look(&view, &hub, &takeovers);
        told.gone(&view, &hub, Instant::now());
        told.alarm(&alarms, &hub);
        tokio::select! {
            changed = views.changed() => if changed.is_err() { return },
            changed = alarms.changed() => if changed.is_err() { return },
            _ = beat.tick() => {}
        }
    }
}

#[derive(Default)]
struct Told {
    duty: Option<Duty>,
    epoch: Option<u64>,
    quorum: Option<bool>,
    alarms: Vec<Alarm>,
    /// Members that the group takes for gone, since when.
    gone: BTreeMap<NodeId, Instant>,
}

impl Told {
    fn look(&mut self, view: &GroupView, hub: &Hub, takeovers: &Takeovers) {
        logging::in_epoch(view.epoch);
        self.duty(view, hub);
        self.takeover(view, hub, takeovers);
        if self.quorum.replace(view.quorum) != Some(view.quorum) {
            hub.alarms.set(!view.quorum, no_majority());
        }
        let metrics = &hub.metrics;
        for member in view.members.iter().filter(|member| member.node != view.node) {
            let peer = member.node.to_string();
            metrics.peer_up.with_label_values(&[&peer]).set(i64::from(member.reachable));
            if let Some(offset) = view.clock_offset_us.get(&member.node) {
                metrics.clock_offset.with_label_values(&[&peer]).set(*offset as f64 / 1e6);
            }
        }
        metrics.open_recordings.set(i64::try_from(view.open_calls).unwrap_or(i64::MAX));
    }

    /// Without a majority nobody knows who else is there.
    fn gone(&mut self, view: &GroupView, hub: &Hub, now: Instant) {
        if !view.quorum {
            return;
        }
        let is_down = |node: NodeId| {
            view.members
                .iter()
                .any(|member| member.node == node && member.node != view.node && !member.up)
        };
        for (node, _) in self.gone.extract_if(.., |node, _| !is_down(*node)) {
            hub.alarms.clear("memberdown", &node.to_string());
        }
        for member in view.members.iter().filter(|member| is_down(member.node)) {
            let since = *self.gone.entry(member.node).or_insert(now);
            if now.duration_since(since) >= GONE_AFTER {
                hub.alarms.raise(member_down(member.node));
            }
        }
    }

    fn duty(&mut self, view: &GroupView, hub: &Hub) {
        let duty = view.duty.duty;
        let before = self.duty.replace(duty);
        if before == Some(duty) {
            return;
        }
        tracing::info!(duty = duty.as_str(), epoch = view.epoch, "duty");
        if before.is_some() {
            let body = json!({"node": view.node, "duty": duty, "epoch": view.epoch});
            hub.event(Topic::Cluster, "rolechanged", Vec::new(), object(body));
        }
    }

    fn takeover(&mut self, view: &GroupView, hub: &Hub, takeovers: &Takeovers) {
        let Some(takeover) = view.takeover else { return };
        let before = self.epoch.replace(takeover.epoch);
        if before == Some(takeover.epoch) {
            return;
        }
        let seen = recorder::clock::Clock::wall();
        takeovers.note(takeover, seen);
        // What was in the log when this node started is told by nobody twice.
        if before.is_none() && takeover.cause == Cause::First {
            return;
        }
        tracing::info!(from = ?takeover.from, to = ?takeover.to, cause = ?takeover.cause, "takeover");
        if takeover.to == Some(view.node) && takeover.from.is_some() {
            hub.metrics.takeovers.inc();
        }
        let body = json!({
            "from": takeover.from, "to": takeover.to, "epoch": takeover.epoch,
            "cause": takeover.cause, "moves": takeover.moves, "at": seen,
        });
        hub.event(Topic::Cluster, "takeover", Vec::new(), object(body));
    }

    fn alarm(&mut self, alarms: &watch::Receiver<Vec<GroupAlarm>>, hub: &Hub) {
        let now: Vec<Alarm> = alarms.borrow().iter().map(in_words).collect();
        let same = |a: &Alarm, b: &Alarm| (a.name, &a.subject) == (b.name, &b.subject);
        for old in self.alarms.iter().filter(|old| !now.iter().any(|new| same(old, new))) {
            hub.alarms.clear(old.name, &old.subject);
        }
        for alarm in &now {
            hub.alarms.raise(alarm.clone());
        }
        self.alarms = now;
    }
}

fn object(body: Value) -> Map<String, Value> {
    match body {
        Value::Object(body) => body,
        _ => Map::new(),
    }
}

fn no_majority() -> Alarm {
    Alarm {
        name: "nomajority",
        subject: String::new(),
        message: "this node reaches no majority of the group: it goes on capturing and publishes \
                  nothing until it does"
            .to_owned(),
        remedy: LOOK_AT_GROUP,
    }
}

fn member_down(node: NodeId) -> Alarm {
    Alarm {
        name: "memberdown",
        subject: node.to_string(),
        message: format!("node {node} is gone: the group goes on without it"),
        remedy: "look at that machine, its service and the network to it",
    }
}

fn in_words(alarm: &GroupAlarm) -> Alarm {
    let message = alarm.to_string();
    let (name, subject, remedy) = match alarm {
        GroupAlarm::PeerRefuses { node, .. } => ("peerrefuses", node.to_string(), LOOK_AT_GROUP),
        GroupAlarm::TurnedAway { reason } => (
            "turnedaway",
            reason.clone(),
            "if it belongs to this group, look at its al_peers and certificates; if not, at who it is",
        ),
        GroupAlarm::NotMember { .. } => {
            ("notmember", String::new(), "`astlogger cluster add` on a member of that group")
        }
        GroupAlarm::AnnounceRefused { .. } => (
            "announcerefused",
            String::new(),
            "correct the configuration of this node or of the other, and restart it",
        ),
        GroupAlarm::LogFull { .. } => (
            "grouplogfull",
            String::new(),
            "make room below al_datadir; nothing has been lost of the log",
        ),
        GroupAlarm::ClockOff { node, .. } => {
            ("clockoff", node.to_string(), "see that NTP runs on both nodes, and against what")
        }
    };
    Alarm { name, subject, message, remedy }
}

#[cfg(test)]
mod tests {
    use storage_core::record::{Gap, Segment};
    use storage_core::{Extension, RecordingId};

    use super::*;

    fn segment(node: u16, startms: u64, endms: u64) -> Segment {
        let text = format!(
            "{{\"node\":{node},\"phantom\":\"78001\",\"startms\":{startms},\"endms\":{endms},\
             \"codec\":\"g711a\",\"packets\":1,\"lost\":0,\"late\":0,\"duplicate\":0,\"ssrcs\":[]}}"
        );
        serde_json::from_str(&text).expect("a segment")
    }

    #[test]
    fn the_holes_of_a_takeover_are_those_between_nodes() {
        let at = WallTime::from_millis;
        let takeovers = Takeovers::default();
        let (from, to) = (Some(NodeId(1)), Some(NodeId(2)));
        let takeover = Takeover { from, to, epoch: 9, cause: Cause::Down, moves: true };
        takeovers.note(takeover, at(5_000));
        let draft = storage_core::Draft::blank(RecordingId::new(at(0), [1; 10]), NodeId(2), at(0));
        let gap = |startms, endms| Gap { startms, endms, cause: GapCause::Takeover, side: None };
        let mut recording: Recording = serde_json::from_value(json!({
            "recordingid": draft.recordingid, "callids": [], "extension": Extension::new("1"),
            "agentid": "", "calling": "", "called": "", "direction": "inbound", "trunkgroup": "",
            "trunkmember": "", "vdn": "", "split": "", "userdata": "", "parties": [],
            "started": at(0), "ended": at(9_000), "durationms": 9_000, "scope": "station",
            "trigger": "rule", "rule": "", "copy": 1, "node": 2, "segments": [], "gaps": [],
            "pauses": [], "complete": false, "quality": storage_core::record::Quality::default(),
            "format": "wavg711", "bytes": 1, "sha256": "", "tags": [], "notes": [], "hold": false,
        }))
        .expect("a record");
        recording.segments = vec![segment(1, 0, 5_000), segment(1, 5_100, 5_200)];
        recording.segments.push(segment(2, 5_320, 9_000));
        recording.gaps = vec![gap(5_000, 5_100), gap(5_200, 5_320)];
        assert_eq!(takeovers.published(&recording), [120]);
        assert_eq!(takeovers.last().expect("noted").gap_ms, Some(120));
        recording.segments[2].startms = 5_200;
        recording.gaps.pop();
        assert_eq!(takeovers.published(&recording), [0]);
        assert_eq!(takeovers.last().expect("noted").gap_ms, Some(120));
    }
}
