//! What people see of a node. Pure: values in, lines out. No list is longer than [`ROWS_MAX`].

use std::collections::BTreeMap;

use cluster_core::{Cause, GroupView, Health, MemberView, Phantoms};
use recorder_core::call::CallView;
use recorder_core::call::pool::PhantomState;
use storage_core::completeness::{CallAccount, Outcome};
use storage_core::{NodeId, Role, WallTime};

use super::line::HELP;
use super::{Measured, Status};
use crate::alarms::Alarm;
use crate::completeness::Report;
use crate::config::{LiveSetting, Origin, Param, Shown};

/// More rows than this nobody reads on a console; the rest is counted.
pub(super) const ROWS_MAX: usize = 500;

pub(super) fn help() -> Vec<String> {
    let width = HELP.iter().map(|(form, _)| form.chars().count()).max().unwrap_or_default();
    HELP.iter().map(|(form, does)| format!("{form:width$}  {does}").trim_end().to_owned()).collect()
}

pub(super) fn status(status: &Status) -> Vec<String> {
    let view = &status.view;
    let mut lines = vec![format!(
        "{:<6} {:<10} {:<9} {:<5} {:<6} {}",
        "node", "role", "duty", "up", "votes", "health"
    )];
    lines.extend(view.members.iter().map(|member| member_line(member, view)));
    let ready = match status.reasons.as_slice() {
        [] => "yes".to_owned(),
        reasons => format!("no: {}", reasons.join("; ")),
    };
    let grant = &view.duty;
    let mut duty = grant.duty.as_str().to_owned();
    if grant.provisional {
        duty += ", not granted yet";
    }
    if !grant.quorum {
        duty += ", no majority can be reached: nothing is published";
    }
    for (name, value) in [
        ("this node", view.node.to_string()),
        ("its duty", duty),
        ("could record a call now", ready),
        ("calls in progress", status.calls.to_string()),
        ("recordings in progress", status.recordings.to_string()),
        ("agents logged in", status.agents.to_string()),
        ("leads the group's log", view.leader.map_or("nobody".to_owned(), |n| n.to_string())),
        ("term", view.term.to_string()),
        ("epoch", view.epoch.to_string()),
        ("last takeover", status.takeover.as_ref().map_or("-".to_owned(), takeover)),
    ] {
        lines.push(format!("{name:<24} {value}"));
    }
    lines
}

/// What became of a day's calls.
pub(super) fn report(report: &Report) -> Vec<String> {
    let all = &report.completeness;
    let mut lines = Vec::new();
    let seconds = |ms: u64| format!("{}.{:03} s", ms / 1000, ms % 1000);
    for (name, value) in [
        ("day (UTC)", report.day.clone()),
        ("calls", all.calls.to_string()),
        ("recorded", all.recorded.to_string()),
        ("recorded in part", all.partial.to_string()),
        ("excluded by rule", all.excluded.to_string()),
        ("missed", all.missed.to_string()),
        ("not published yet", all.pending.to_string()),
        ("to be recorded", seconds(all.duems)),
        ("missing of that", causes(&all.missingms)),
    ] {
        lines.push(format!("{name:<24} {value}"));
    }
    if !report.unreachable.is_empty() {
        let names: Vec<_> = report.unreachable.iter().map(ToString::to_string).collect();
        lines.push(format!("{:<24} {}", "cannot be reached", names.join(", ")));
    }
    if let Some(only) = &report.only {
        lines.push(format!("{:<24} {}; others are told by their own nodes", "site", only.site));
    }
    for call in all.lacking.iter().take(ROWS_MAX) {
        let outcome = if call.outcome == Outcome::Missed { "missed" } else { "in part" };
        let ucid = call.ucid.as_ref().map_or("-", |ucid| ucid.as_str());
        let CallAccount { began, missingms, callid, .. } = call;
        lines.push(format!("{began} {outcome:<8} {callid:<6} {ucid:<20} {}", causes(missingms)));
    }
    let more = all.lacking.len().saturating_sub(ROWS_MAX);
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines
}

fn causes(missing: &BTreeMap<String, u64>) -> String {
    let causes: Vec<_> = missing.iter().map(|(cause, ms)| format!("{cause} {ms} ms")).collect();
    if causes.is_empty() { "nothing".to_owned() } else { causes.join(", ") }
}

fn member_line(member: &MemberView, view: &GroupView) -> String {
    let role = member.role.map_or("?", Role::as_str);
    let up = if member.up { "yes" } else { "no" };
    let votes = if member.voter { "yes" } else { "not yet" };
    let mut health = match (member.role, member.health) {
        (Some(Role::Witness), _) => "-".to_owned(),
        (_, Some(health)) => health_words(health),
        (_, None) if view.members.len() == 1 => "-".to_owned(),
        (_, None) => "not told yet".to_owned(),
    };
    if member.drained {
        health += ", out of service";
    }
    let own = if member.node == view.node { "*" } else { "" };
    let node = format!("{}{own}", member.node);
    format!("{node:<6} {role:<10} {:<9} {up:<5} {votes:<6} {health}", member.duty.as_str())
}

/// What ails a member.
pub(super) fn health_words(health: Health) -> String {
    let mut ails = Vec::new();
    if !health.aes {
        ails.push("no AES");
    }
    match health.phantoms {
        Phantoms::None => ails.push("no phantom"),
        Phantoms::Full => ails.push("no free phantom"),
        Phantoms::Free => {}
    }
    if !health.disk {
        ails.push("disk");
    }
    if !health.media {
        ails.push("no media");
    }
    if ails.is_empty() { "good".to_owned() } else { ails.join(", ") }
}

/// A change of the lead in words.
pub(super) fn takeover(measured: &Measured) -> String {
    let change = &measured.takeover;
    let node = |node: Option<NodeId>| node.map_or("nobody".to_owned(), |n| format!("node {n}"));
    let cause = match change.cause {
        Cause::First => "the first",
        Cause::Down => "the lead was gone",
        Cause::Unfit => "the lead could not record",
        Cause::HandBack => "handed back",
        Cause::Planned => "asked for",
        Cause::Drained => "drained",
        Cause::Configured => "roles or members changed",
        Cause::Liveness => "somebody came or went",
    };
    format!(
        "{} to {}, epoch {}, {cause}, {}",
        node(change.from),
        node(change.to),
        change.epoch,
        gap(measured.gap_ms)
    )
}

/// A gap in words.
pub(super) fn gap(gap_ms: Option<u64>) -> String {
    gap_ms.map_or("no gap measured".to_owned(), |ms| format!("gap {ms} ms"))
}

pub(super) fn calls(calls: &[CallView], now: WallTime) -> Vec<String> {
    let mut lines = vec![format!(
        "{:<8} {:<10} {:<16} {:<16} {:>8}  {}",
        "callid", "extension", "calling", "called", "seconds", "recorded"
    )];
    lines.extend(calls.iter().take(ROWS_MAX).map(|call| call_line(call, now)));
    lines.extend(more(calls.len()));
    lines
}

fn call_line(call: &CallView, now: WallTime) -> String {
    let seconds = now.millis_after(call.started) / 1000;
    let recorded = match &call.recorded {
        None => "no".to_owned(),
        Some(recorded) => {
            let phantom = recorded.phantom.as_ref().map_or("no phantom now", |p| p.as_str());
            let paused = if recorded.paused { ", paused" } else { "" };
            format!(
                "{} on node {} by {phantom} ({}){paused}",
                recorded.recordingid,
                recorded.node,
                recorded.trigger.as_str()
            )
        }
    };
    let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    format!(
        "{:<8} {:<10} {:<16} {:<16} {seconds:>8}  {recorded}",
        call.callid,
        dash(&call.extension),
        dash(&call.calling),
        dash(&call.called)
    )
}

fn more(all: usize) -> Option<String> {
    all.checked_sub(ROWS_MAX).filter(|more| *more > 0).map(|more| format!("and {more} more"))
}

pub(super) fn phantoms(states: &BTreeMap<PhantomState, usize>) -> Vec<String> {
    let count = |state: &PhantomState| states.get(state).copied().unwrap_or_default();
    let mut lines: Vec<_> = PhantomState::ALL
        .iter()
        .map(|state| format!("{:<10} {}", state.as_str(), count(state)))
        .collect();
    lines.push(format!("{:<10} {}", "all", states.values().sum::<usize>()));
    lines
}

pub(super) fn peers(view: &GroupView) -> Vec<String> {
    let peers: Vec<_> = view.members.iter().filter(|member| member.node != view.node).collect();
    if peers.is_empty() {
        return vec!["this node is alone: al_peers names no other member".to_owned()];
    }
    let mut lines = vec![format!(
        "{:<6} {:<24} {:<8} {:>12} {:>14}  {:<10} {}",
        "node", "address", "answers", "round trip", "clock ahead", "program", "phantoms"
    )];
    let ms = |micros: i64| format!("{:.1} ms", micros as f64 / 1000.0);
    lines.extend(peers.into_iter().map(|peer| {
        let dash = || "-".to_owned();
        let trip = view.round_trip_us.get(&peer.node);
        let trip = trip.map_or_else(dash, |us| ms(i64::try_from(*us).unwrap_or(i64::MAX)));
        let ahead = view.clock_offset_us.get(&peer.node).map_or_else(dash, |us| ms(*us));
        let answers = if peer.reachable { "yes" } else { "no" };
        let line = format!(
            "{:<6} {:<24} {answers:<8} {trip:>12} {ahead:>14}  {:<10} {}",
            peer.node,
            peer.address,
            peer.program,
            peer.phantoms.join(", ")
        );
        line.trim_end().to_owned()
    }));
    lines
}

pub(super) fn params(params: &[Param], changed: &[LiveSetting]) -> Vec<String> {
    let width = params.iter().map(|param| param.name.len()).max().unwrap_or_default();
    let line = |param: &Param| {
        let name = param.name;
        if let Some(new) = changed.iter().find(|setting| setting.key() == name) {
            return format!("{name:width$}  {}  (changed, not saved)", new.value());
        }
        let value = match &param.shown {
            Shown::Default => "(default)",
            Shown::Hidden => "(secret)",
            Shown::Value(value) => value,
        };
        let origin = match param.origin {
            Origin::File => String::new(),
            Origin::Environment => format!("  (from {})", name.to_uppercase()),
            Origin::CommandLine => "  (from the command line)".to_owned(),
        };
        format!("{name:width$}  {value}{origin}")
    };
    params.iter().map(line).collect()
}

pub(super) fn rules(rules: &[String]) -> Vec<String> {
    if rules.is_empty() {
        return vec!["no rules: every call is recorded".to_owned()];
    }
    let mut lines: Vec<_> = rules
        .iter()
        .take(ROWS_MAX)
        .enumerate()
        .map(|(index, rule)| format!("{:<4} {rule}", index + 1))
        .collect();
    lines.extend(more(rules.len()));
    lines
}

pub(super) fn alarms(alarms: &[Alarm]) -> Vec<String> {
    let subject = |alarm: &Alarm| match alarm.subject.as_str() {
        "" => String::new(),
        subject => format!(" {subject}"),
    };
    let line = |alarm: &Alarm| {
        format!("{}{}: {}; {}", alarm.name, subject(alarm), alarm.message, alarm.remedy)
    };
    let mut lines: Vec<_> = alarms.iter().take(ROWS_MAX).map(line).collect();
    lines.extend(more(alarms.len()));
    if lines.is_empty() {
        lines.push("no alarms".to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use cluster_core::Takeover;

    use super::*;
    use crate::console::fake;

    #[test]
    fn the_help_is_aligned_and_says_how_answers_end() {
        let lines = help();
        assert!(lines.iter().all(|line| line.chars().count() <= 120), "{lines:#?}");
        assert!(lines.last().unwrap().contains("error CODE message"));
    }

    #[test]
    fn status_shows_the_group_and_what_ails_it() {
        let mut view = fake::view(&[Role::Active, Role::Backup, Role::Witness]);
        view.members[1].health = Some(Health { aes: false, disk: false, ..Health::GOOD });
        view.members[1].drained = true;
        view.members[2].up = false;
        let (from, to) = (Some(NodeId(2)), Some(NodeId(1)));
        let takeover = Takeover { from, to, epoch: 9, cause: Cause::Planned, moves: true };
        let lines = status(&Status {
            view,
            reasons: vec!["no session with the AES yet".to_owned()],
            calls: 3,
            recordings: 2,
            agents: 4,
            takeover: Some(Measured { takeover, gap_ms: Some(180) }),
        });
        for expected in [
            "1*     active     lead      yes   yes    good",
            "2      backup     standby   yes   yes    no AES, disk, out of service",
            "3      witness    none      no    yes    -",
            "could record a call now  no: no session with the AES yet",
            "calls in progress        3",
            "agents logged in         4",
            "last takeover            node 2 to node 1, epoch 9, asked for, gap 180 ms",
        ] {
            assert!(lines.iter().any(|line| line == expected), "{expected}\n{lines:#?}");
        }
    }

    #[test]
    fn parameters_say_where_they_come_from() {
        let param = |name, shown, origin| Param { name, shown, origin };
        let all = [
            param("al_nodeid", Shown::Value("1".to_owned()), Origin::File),
            param("al_aespassword", Shown::Hidden, Origin::File),
            param("al_serverrole", Shown::Value("\"active\"".to_owned()), Origin::Environment),
            param("al_rescuems", Shown::Default, Origin::File),
        ];
        let lines = params(&all, &[LiveSetting::MaxParties(5)]);
        assert_eq!(lines[0], "al_nodeid       1");
        assert_eq!(lines[1], "al_aespassword  (secret)");
        assert_eq!(lines[2], "al_serverrole   \"active\"  (from AL_SERVERROLE)");
        assert_eq!(lines[3], "al_rescuems     (default)");
        let lines = params(&all, &[LiveSetting::Role(Role::Backup)]);
        assert_eq!(lines[2], "al_serverrole   \"backup\"  (changed, not saved)");
    }

    #[test]
    fn long_lists_are_counted() {
        let many: Vec<_> = (0..ROWS_MAX + 7).map(|n| n.to_string()).collect();
        let lines = rules(&many);
        assert_eq!((lines.len(), lines.last().unwrap().as_str()), (ROWS_MAX + 1, "and 7 more"));
        assert_eq!(rules(&[]), ["no rules: every call is recorded"]);
        assert_eq!(alarms(&[]), ["no alarms"]);
    }
}
