//! Orders as lines of text, and the difference of two texts.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use recorder_core::Receiver;
use recorder_core::call::{
    Alarm, Claim, LiveEvent, Order, PauseChange, PauseOrder, RingChange, RingOrder,
};
use serde_json::Value;
use storage_core::completeness::{Due, SeenCall};
use storage_core::draft::Draft;
use storage_core::journal::Fact;
use storage_core::{RecordingId, Ucid, WallTime};

use crate::site::EPOCH;

/// Writes orders down, with short names for recordings.
#[derive(Default)]
pub struct Writer {
    names: BTreeMap<RecordingId, String>,
    last: BTreeMap<RecordingId, Value>,
    pub show_live: bool,
    /// Whether what the group is told is written, too.
    pub show_group: bool,
    /// Whether what is written down of a call that is over is written, too.
    pub show_accounts: bool,
    /// The moment at which orders are given.
    pub now: WallTime,
}

fn account(call: &SeenCall) -> String {
    let at = |time: WallTime| time.as_millis() - EPOCH;
    let stretches = |all: &[Due]| {
        let texts = all.iter().map(|one| format!("{}-{}", at(one.from), at(one.to)));
        texts.collect::<Vec<_>>().join(",")
    };
    let due = stretches(&call.due);
    let paused = Some(stretches(&call.paused)).filter(|text| !text.is_empty());
    let paused = paused.map(|text| format!(" paused={text}")).unwrap_or_default();
    let SeenCall { rule, block, began, ended, .. } = call;
    let ids = call.callids.join(",");
    let ucids: Vec<_> = call.ucids.iter().map(|ucid| short(ucid.as_str())).collect();
    let block = block.as_deref().map(|block| format!(" block={block}")).unwrap_or_default();
    let (began, ended, ucids) = (at(*began), at(*ended), ucids.join(","));
    let captured = if call.captured { " captured" } else { "" };
    let stations: Vec<_> = call.stations.iter().map(ToString::to_string).collect();
    let stations = stations.join(",");
    format!(
        "account calls={ids} ucids={ucids} stations={stations} {began}-{ended} due={due}{paused} rule={rule}{captured}{block}"
    )
}

impl Writer {
    pub fn line(&mut self, order: &Order) -> Option<String> {
        Some(match order {
            Order::Join { call, party, phantom, .. } => {
                format!("join call={call} party={party} phantom={phantom}")
            }
            Order::Leave { phantom, call } => format!("leave call={call} phantom={phantom}"),
            Order::Attach { receiver } => format!("attach {receiver}"),
            Order::AskLinkage { call, party } => format!("ask identity call={call} party={party}"),
            Order::SnapshotCall { call, party } => format!("ask parties call={call} party={party}"),
            Order::Capture(fact) => self.fact(fact)?,
            Order::Ring(order) => self.ring(order),
            Order::Pause(PauseOrder { device, change: PauseChange::From(since) }) => {
                format!("discard phantom={device} since {}", since.as_millis() - EPOCH)
            }
            Order::Pause(PauseOrder { device, change: PauseChange::Until(until) }) => {
                format!("keep phantom={device} since {}", until.as_millis() - EPOCH)
            }
            Order::Claim(claim) if self.show_group => self.claim(claim),
            Order::SegmentEnded { segment, .. } if self.show_group => {
                format!("tell group s{segment} ended")
            }
            Order::RecordingOver { name, stopped } if self.show_group => {
                let how = if *stopped { "stopped" } else { "over" };
                format!("tell group {} {how}", self.name(*name))
            }
            Order::Claim(_) | Order::SegmentEnded { .. } | Order::RecordingOver { .. } => {
                return None;
            }
            Order::Answer { request, result: Ok(id) } => {
                format!("answer {request} recording={}", self.name(*id))
            }
            Order::Answer { request, result: Err(refusal) } => {
                format!("answer {request} fails {refusal}")
            }
            Order::Alarm(alarm) => format!("alarm {}", alarm_text(alarm)),
            Order::AlarmCleared(alarm) => format!("alarm over {}", alarm_text(alarm)),
            Order::Live(event) => self.show_live.then(|| live_text(event))?,
            Order::Missed { call, reason, .. } => {
                format!("missed call={call} reason={}", reason.as_str())
            }
            Order::CallOver(call) => self.show_accounts.then(|| account(call))?,
            Order::CaptureDelay(delay) => format!("captured after {} ms", delay.as_millis()),
        })
    }

    /// The recording that a scenario calls so.
    pub fn recording(&self, name: &str) -> Option<RecordingId> {
        self.names.iter().find(|(_, known)| *known == name).map(|(id, _)| *id)
    }

    pub fn name(&mut self, id: RecordingId) -> String {
        let theirs = group_name(&id.to_string());
        if theirs.starts_with('g') {
            return theirs;
        }
        let next = format!("r{}", self.names.len() + 1);
        self.names.entry(id).or_insert(next).clone()
    }

    fn ring(&self, RingOrder { receiver, segment, change }: &RingOrder) -> String {
        match change {
            RingChange::Begin { since, reach } => {
                let before = self.now.micros_since(*since) / 1000;
                let before = if before == 0 { String::new() } else { format!(" {before} ms ago") };
                format!("begin ring s{segment} phantom={receiver} of {} s{before}", reach.as_secs())
            }
            RingChange::Source(_) => format!("media of ring s{segment} is told"),
            RingChange::End => format!("forget ring s{segment}"),
        }
    }

    fn claim(&mut self, claim: &Claim) -> String {
        let name = self.name(claim.name);
        let ucid = claim.ucid.as_ref().map(|ucid| short(ucid.as_str())).unwrap_or_default();
        let Claim { segment, copy, take, epoch, .. } = claim;
        format!("claim s{segment} of {name} ucid={ucid} copy={copy} take={take} epoch={epoch}")
    }

    fn fact(&mut self, fact: &Fact) -> Option<String> {
        Some(match fact {
            Fact::Recording { draft } => return self.draft(draft),
            Fact::SegmentOpened { segment, recordingid, phantom, at, side, .. } => {
                let phantom = Receiver { device: phantom.clone(), side: *side };
                let name = self.name(*recordingid);
                let before = self.now.micros_since(*at) / 1000;
                let before = if before == 0 { String::new() } else { format!(" {before} ms ago") };
                format!("open segment s{segment} of {name} phantom={phantom}{before}")
            }
            Fact::SegmentClosed { segment, .. } => format!("close segment s{segment}"),
            Fact::MediaTerms { segment, codec, .. } => format!("media of s{segment} is {codec}"),
            Fact::Lost { segment, from, to, cause, .. } => {
                let [from, to] = [from, to].map(|at| at.as_micros() / 1000 - EPOCH);
                format!("before s{segment} nothing is heard from {from} to {to}: {cause:?}")
            }
            Fact::Sealed { .. } => return None,
        })
    }

    fn draft(&mut self, draft: &Draft) -> Option<String> {
        let name = self.name(draft.recordingid);
        let mut value = serde_json::to_value(draft).expect("a draft is JSON");
        value["parties"] = Value::String(parties_text(draft));
        if !draft.pauses.is_empty() {
            value["pauses"] = Value::String(pauses_text(draft));
        }
        let before = self.last.insert(draft.recordingid, value.clone());
        let word = match (&before, draft.ended) {
            (_, Some(_)) => "end",
            (None, None) => "open",
            (Some(_), None) => "update",
        };
        let mut line = format!("{word} recording {name}");
        let fields = value.as_object().expect("a draft is an object");
        for (key, now) in fields {
            let changed = before.as_ref().is_none_or(|before| before.get(key) != Some(now));
            let known = ["recordingid", "node", "copy", "opened", "ended", "ending"]
                .contains(&key.as_str());
            let usual = key == "take" && now == 1;
            if changed && !known && !usual && (before.is_some() || !is_empty(now)) {
                write!(line, " {key}={}", field_text(key, now)).expect("a string can grow");
            }
        }
        Some(line)
    }
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value == "" || value.as_array().is_some_and(Vec::is_empty)
}

fn field_text(key: &str, value: &Value) -> String {
    match value {
        Value::String(text) if key == "ucid" => short(text),
        Value::String(text) if key == "name" => group_name(text),
        Value::String(text) if key == "due" => {
            let due: WallTime = text.parse().expect("a time");
            (due.as_micros() / 1000 - EPOCH).to_string()
        }
        Value::String(text) => text.clone(),
        Value::Array(list) => {
            let texts: Vec<_> = list.iter().map(|one| field_text("ucid", one)).collect();
            texts.join(",")
        }
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

/// Recordings that another node has named are g1, g2, …
fn group_name(id: &str) -> String {
    let known = (1..10).map(|number| (number, named_by_group(number)));
    let found = known.into_iter().find(|(_, name)| name.to_string() == id);
    found.map_or_else(|| id.to_owned(), |(number, _)| format!("g{number}"))
}

/// The recording that a scenario calls `g` and this number.
pub fn named_by_group(number: u8) -> RecordingId {
    RecordingId::new(WallTime::from_millis(EPOCH), [number; 10])
}

/// UCIDs are written by their sequence number alone.
fn short(ucid: &str) -> String {
    let plain = ucid.strip_prefix("00001").and_then(|rest| rest.strip_suffix("1700000000"));
    plain.map_or(ucid, |sequence| sequence.trim_start_matches('0')).to_owned()
}

/// The UCID that a scenario means.
pub fn ucid(text: &str) -> Ucid {
    let full =
        if text.len() == 20 { text.to_owned() } else { format!("00001{text:0>5}1700000000") };
    full.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn pauses_text(draft: &Draft) -> String {
    let pauses = draft.pauses.iter().map(|pause| {
        let span = stretch(pause.stretch.from, pause.stretch.to);
        let why = pause.resumed.map(|why| format!("({why:?})")).unwrap_or_default();
        format!("{span}{why}by:{}", pause.by)
    });
    pauses.collect::<Vec<_>>().join(",")
}

fn parties_text(draft: &Draft) -> String {
    let parties = draft.parties.iter().map(|party| {
        let mut text = format!("{}@{}", party.who, stretch(party.stretch.from, party.stretch.to));
        for hold in &party.holds {
            write!(text, "(held {})", stretch(hold.from, hold.to)).expect("a string can grow");
        }
        text
    });
    parties.collect::<Vec<_>>().join(",")
}

fn stretch(from: WallTime, to: Option<WallTime>) -> String {
    let millis = |time: WallTime| time.as_millis() - EPOCH;
    format!("{}-{}", millis(from), to.map(|to| millis(to).to_string()).unwrap_or_default())
}

fn alarm_text(alarm: &Alarm) -> String {
    match alarm {
        Alarm::CallNotRecorded { call, extension, reason } => {
            format!("{} call={call} extension={extension} {}", alarm.name(), reason.as_str())
        }
        Alarm::NoMedia { phantom } => format!("{} phantom={phantom}", alarm.name()),
        Alarm::StrayMedia { phantom } | Alarm::PhantomStuck { phantom } => {
            format!("{} phantom={phantom}", alarm.name())
        }
    }
}

fn live_text(event: &LiveEvent) -> String {
    let (word, view) = match event {
        LiveEvent::CallStarted(view) => ("call started", view),
        LiveEvent::CallUpdated(view) => ("call updated", view),
        LiveEvent::CallEnded(view) => ("call ended", view),
        LiveEvent::RecordingStarted(view) => ("recording started", view),
        LiveEvent::RecordingPaused(view) => ("recording paused", view),
        LiveEvent::RecordingResumed { call, .. } => ("recording resumed", call),
    };
    let parties = view.parties.iter().map(|party| format!("{} {}", party.who, party.state));
    let parties = parties.collect::<Vec<_>>().join(", ");
    format!("tell {word} call={} ({parties})", view.callid)
}

/// The lines that differ, each with its number.
pub fn difference(written: &str, decided: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (written.lines().collect(), decided.lines().collect());
    let mut text = String::new();
    let (mut i, mut j) = (0, 0);
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            (i, j) = (i + 1, j + 1);
        } else if j < new.len() && !old[i.min(old.len())..].contains(&new[j]) {
            writeln!(text, "  {:>3} + {}", j + 1, new[j]).expect("a string can grow");
            j += 1;
        } else if i < old.len() {
            writeln!(text, "  {:>3} - {}", i + 1, old[i]).expect("a string can grow");
            i += 1;
        } else {
            writeln!(text, "  {:>3} + {}", j + 1, new[j]).expect("a string can grow");
            j += 1;
        }
    }
    text
}
