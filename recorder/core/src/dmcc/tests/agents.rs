//! Stations that are watched because of who is logged in there: from the log-on to the end of the last call
//! after the log-off, whatever of it is lost, refused or told late.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::rig::{Rig, SECOND, config, error, established, login_list};
use crate::call::event::{AgentEvent, Monitor};
use crate::dmcc::{LinkConfig, Notice};

const SKILL: &str = "60001";
const OTHER_SKILL: &str = "60002";

/// Agents 7002 and 7003 are followed, at two skills; station 31001 is in the list.
fn followed() -> LinkConfig {
    let mut config = config(0, 1);
    config.skills = vec![SKILL.into(), OTHER_SKILL.into()];
    config.agents = ["7002".into(), "7003".into()].into();
    config
}

fn up() -> Rig {
    Rig::up(followed())
}

impl Rig {
    fn skill_monitor(&self, skill: &str) -> String {
        let found = self.aes.skill_monitors.iter().find(|(_, of)| *of == skill);
        found.unwrap_or_else(|| panic!("no monitor of {skill}")).0.clone()
    }

    /// The agent logs in or out, and a skill tells so.
    fn agent(&mut self, on: bool, agent: &str, station: &str, skill: &str) {
        match on {
            true => drop(self.aes.logins.insert(station.to_owned(), agent.to_owned())),
            false => drop(self.aes.logins.remove(station)),
        }
        self.told_by(skill, on, agent, station);
    }

    fn told_by(&mut self, skill: &str, on: bool, agent: &str, station: &str) {
        let (name, monitor) = (if on { "On" } else { "Off" }, self.skill_monitor(skill));
        self.event(&format!(
            "<AgentLogged{name}Event><monitorCrossRefID>{monitor}</monitorCrossRefID><agentDevice>\
             <deviceIdentifier>{station}:cm1::0</deviceIdentifier></agentDevice><agentID>{agent}\
             </agentID><acdGroup>{skill}:cm1::0</acdGroup></AgentLogged{name}Event>"
        ));
    }

    fn call_at(&mut self, station: &str) {
        let call = vec![("1207".to_owned(), vec![station.to_owned(), "T12#3".to_owned()])];
        self.aes.calls.insert(station.to_owned(), call);
    }

    /// The caller or the agent hangs up; the station's monitor tells so.
    fn call_ends(&mut self, station: &str) {
        self.aes.calls.clear();
        let monitor = self.aes.monitor_of(station, false);
        self.event(&format!(
            "<ConnectionClearedEvent><monitorCrossRefID>{monitor}</monitorCrossRefID>\
             <droppedConnection><callID>1207</callID><deviceID>{station}:cm1::0</deviceID>\
             </droppedConnection></ConnectionClearedEvent>"
        ));
    }

    /// Stations that are watched, but the one in the list.
    fn watched(&self) -> BTreeSet<&str> {
        let all = self.aes.monitors.values().map(|(device, _)| device.as_str());
        all.filter(|device| device.starts_with('3') && *device != "31001").collect()
    }

    /// What was asked of a station, in order.
    fn asked(&self, station: &str) -> Vec<&str> {
        let sent = self.sent.iter().filter(|sent| sent.extension() == station);
        sent.map(super::rig::Sent::name).collect()
    }
}

fn agent_at(station: &str, agent: Option<&str>) -> Notice {
    let (station, agentid) = (station.into(), agent.map(str::to_owned));
    Notice::Agent(AgentEvent { station, agentid, split: None })
}

fn says(notice: &Notice, wanted: &Notice) -> bool {
    let (Notice::Agent(told), Notice::Agent(wanted)) = (notice, wanted) else { return false };
    (&told.station, &told.agentid) == (&wanted.station, &wanted.agentid)
}

#[test]
fn a_station_is_watched_from_the_log_on_to_the_log_off() {
    let mut rig = up();
    rig.call_at("31005");
    let begin = rig.now;
    rig.agent(true, "7002", "31005", SKILL);
    assert_eq!(
        rig.asked("31005"),
        ["GetThirdPartyDeviceId", "MonitorStart", "SnapshotDevice", "SnapshotCall"]
    );
    assert!(rig.sent.iter().rev().take(4).all(|sent| sent.at == begin), "at once");
    let agent = rig.position(|notice| says(notice, &agent_at("31005", Some("7002"))));
    let call = rig.position(|notice| matches!(notice, Notice::Snapshot(_)));
    assert!(agent < call, "who is there is known before his calls are");
    assert_eq!(rig.link.agents_present(), 1);
    rig.agent(true, "7002", "31005", OTHER_SKILL);
    assert_eq!(rig.count("MonitorStart"), 6, "he is watched once");

    rig.agent(true, "7001", "31006", SKILL);
    assert_eq!(rig.watched(), ["31005"].into(), "nobody follows 7001");
    rig.aes.calls.clear();
    for skill in [SKILL, OTHER_SKILL] {
        rig.agent(false, "7002", "31005", skill);
    }
    assert_eq!(rig.watched(), BTreeSet::new());
    assert_eq!(rig.asked("31005").last(), Some(&"ReleaseDeviceId"));
    assert_eq!(rig.link.agents_present(), 0);
    rig.position(|notice| says(notice, &agent_at("31005", None)));
}

#[test]
fn a_call_in_progress_is_watched_to_its_end() {
    for told in [true, false] {
        let mut rig = up();
        rig.agent(true, "7002", "31005", SKILL);
        rig.call_at("31005");
        rig.agent(false, "7002", "31005", SKILL);
        rig.position(|notice| says(notice, &agent_at("31005", None)));
        rig.event(&established(&rig.aes.monitor_of("31005", false), "1207", "31005"));
        rig.advance(120 * SECOND);
        assert_eq!(rig.watched(), ["31005"].into());
        if told {
            rig.call_ends("31005");
        } else {
            rig.aes.calls.clear();
            rig.advance(60 * SECOND);
        }
        assert_eq!(rig.watched(), BTreeSet::new(), "{told}");
    }
}

#[test]
fn he_comes_back_while_his_last_call_goes_on() {
    let mut rig = up();
    rig.agent(true, "7002", "31005", SKILL);
    rig.call_at("31005");
    rig.agent(false, "7002", "31005", SKILL);
    rig.agent(true, "7003", "31005", SKILL);
    rig.call_ends("31005");
    rig.advance(600 * SECOND);
    assert_eq!(rig.watched(), ["31005"].into());
}

#[test]
fn who_is_logged_in_is_asked_for_after_the_start_and_after_an_outage() {
    let mut rig = Rig::new(followed());
    rig.aes.logins.insert("31005".to_owned(), "7002".to_owned());
    rig.aes.logins.insert("31006".to_owned(), "7001".to_owned());
    rig.call_at("31005");
    rig.start();
    assert_eq!(rig.watched(), ["31005"].into());
    let other = ["GetThirdPartyDeviceId", "GetAgentState", "ReleaseDeviceId"];
    assert_eq!(rig.asked("31006"), other, "he is nobody's");
    let done = rig.position(|notice| matches!(notice, Notice::ResyncDone { .. }));
    let call = rig.position(|notice| matches!(notice, Notice::Snapshot(_)));
    assert!(call < done, "the call is among those that are up");

    for forgotten in [false, true] {
        rig.aes.session = rig.aes.session.take().filter(|_| !forgotten);
        rig.lose_socket();
        // Meanwhile he moves, and another comes.
        let (stays, goes) = if forgotten { ("31008", "31007") } else { ("31007", "31005") };
        rig.aes.logins.remove(goes);
        rig.aes.logins.insert(stays.to_owned(), "7002".to_owned());
        rig.aes.logins.insert("31009".to_owned(), "7003".to_owned());
        rig.aes.calls.clear();
        rig.notices.clear();
        rig.advance(30 * SECOND);
        assert_eq!(rig.watched(), [stays, "31009"].into(), "{forgotten}");
        assert_eq!(rig.told(|notice| matches!(notice, Notice::ResyncDone { .. })), 1);
        rig.position(|notice| says(notice, &agent_at(stays, Some("7002"))));
    }
}

#[test]
fn what_was_not_told_is_found_in_time() {
    let mut rig = up();
    // Neither this log-on ...
    rig.aes.logins.insert("31005".to_owned(), "7002".to_owned());
    rig.advance(230 * SECOND);
    assert_eq!(rig.watched(), ["31005"].into());
    // ... nor this log-off is told.
    rig.aes.logins.clear();
    rig.advance(80 * SECOND);
    assert_eq!(rig.watched(), BTreeSet::new());
}

#[test]
fn he_is_at_one_station_only() {
    let mut rig = up();
    rig.agent(true, "7002", "31005", SKILL);
    rig.aes.logins.remove("31005");
    rig.agent(true, "7002", "31006", SKILL);
    assert_eq!(rig.watched(), ["31006"].into(), "the log-off at 31005 was not told");
}

#[test]
fn a_skill_taken_from_him_does_not_log_him_out() {
    let mut rig = up();
    rig.agent(true, "7002", "31005", SKILL);
    rig.told_by(OTHER_SKILL, true, "7002", "31005");
    rig.told_by(SKILL, false, "7002", "31005");
    assert_eq!(rig.watched(), ["31005"].into());
    assert_eq!(rig.asked("31005").last(), Some(&"GetAgentState"));
    // One that nobody knew he had.
    rig.told_by(SKILL, false, "7002", "31005");
    assert_eq!(rig.watched(), ["31005"].into());
    rig.told_by(OTHER_SKILL, false, "7002", "31005");
    assert_eq!(rig.watched(), BTreeSet::new());
}

#[test]
fn a_station_in_the_list_stays_watched() {
    let mut rig = up();
    let before = rig.count("MonitorStart");
    rig.agent(true, "7002", "31001", SKILL);
    rig.agent(false, "7002", "31001", SKILL);
    assert_eq!((rig.count("MonitorStart"), rig.count("MonitorStop")), (before, 0));
    rig.aes.monitor_of("31001", false);
}

#[test]
fn a_monitor_that_is_refused_is_told_once_and_tried_until_he_goes() {
    let mut rig = up();
    let refusal = error("operation", "securityViolation");
    rig.aes.instead.push(("MonitorStart", "31005".to_owned(), refusal));
    rig.agent(true, "7002", "31005", SKILL);
    rig.advance(120 * SECOND);
    let refused = Monitor::Station("31005".into());
    let told = |rig: &Rig| {
        rig.told(|n| matches!(n, Notice::MonitorRefused { device, .. } if *device == refused))
    };
    let tries = |rig: &Rig| rig.asked("31005").iter().filter(|n| **n == "MonitorStart").count();
    assert!(told(&rig) == 1 && tries(&rig) >= 4, "{} {}", told(&rig), tries(&rig));
    rig.agent(false, "7002", "31005", SKILL);
    let before = tries(&rig);
    rig.advance(600 * SECOND);
    assert_eq!((told(&rig), tries(&rig)), (1, before));
}

#[test]
fn a_station_that_he_left_and_that_cannot_be_watched_any_more_is_let_go() {
    let mut rig = up();
    rig.agent(true, "7002", "31005", SKILL);
    rig.call_at("31005");
    rig.agent(false, "7002", "31005", SKILL);
    let refusal = error("operation", "securityViolation");
    rig.aes.instead.push(("MonitorStart", "31005".to_owned(), refusal));
    rig.aes.session = None;
    rig.lose_socket();
    rig.advance(20 * SECOND);
    assert_eq!(rig.asked("31005").last(), Some(&"ReleaseDeviceId"));
    let asked = rig.asked("31005").len();
    rig.advance(600 * SECOND);
    assert_eq!(rig.asked("31005").len(), asked);
}

#[test]
fn where_nobody_can_be_asked_who_is_there_he_is_found_when_he_logs_in() {
    let mut rig = Rig::new(followed());
    let refusal = error("operation", "serviceNotSupported");
    rig.aes.instead.push(("GetAgentState", "31005".to_owned(), refusal));
    rig.aes.logins.insert("31005".to_owned(), "7002".to_owned());
    rig.start();
    let unseen = vec!["31005".into()];
    rig.position(|notice| *notice == Notice::ResyncDone { unseen: unseen.clone() });
    rig.advance(400 * SECOND);
    let refused = Monitor::Station("31005".into());
    let told =
        rig.told(|n| matches!(n, Notice::MonitorRefused { device, .. } if *device == refused));
    let tries = rig.asked("31005").iter().filter(|name| **name == "GetAgentState").count();
    assert!(told == 1 && (4..=8).contains(&tries), "{told} {tries}");
    rig.agent(true, "7002", "31005", SKILL);
    assert_eq!(rig.watched(), ["31005"].into());
}

#[test]
fn a_list_that_does_not_come_holds_nothing_up_for_long() {
    for refused in [true, false] {
        let mut rig = Rig::new(followed());
        rig.aes.mute.insert("lists");
        if refused {
            let refusal = error("operation", "serviceNotSupported");
            rig.aes.instead.push(("GetAgentLogin", String::new(), refusal));
        }
        rig.start();
        rig.advance(15 * SECOND);
        assert_eq!(rig.told(|n| matches!(n, Notice::ResyncDone { .. })), 1, "{refused}");
        rig.advance(1_000 * SECOND);
        let skill = Monitor::Via(SKILL.into());
        let told =
            rig.told(|n| matches!(n, Notice::MonitorRefused { device, .. } if *device == skill));
        assert_eq!(told, 1, "{refused}");
        assert!(
            (6..=16).contains(&(rig.count("GetAgentLogin") / 2)),
            "{}",
            rig.count("GetAgentLogin")
        );
        // Events still do.
        rig.agent(true, "7002", "31005", SKILL);
        assert_eq!(rig.watched(), ["31005"].into());
        rig.aes.instead.clear();
        rig.aes.mute.clear();
        rig.aes.logins.insert("31006".to_owned(), "7003".to_owned());
        rig.advance(400 * SECOND);
        assert_eq!(rig.watched(), ["31005", "31006"].into(), "{refused}");
    }
}

#[test]
fn nobody_is_asked_who_need_not_be() {
    let mut quiet = config(0, 1);
    quiet.skills = vec![SKILL.into()];
    let mut rig = Rig::up(quiet);
    rig.agent(true, "7002", "31005", SKILL);
    let list = login_list(&rig.skill_monitor(SKILL), "31006", true);
    rig.event(&list);
    rig.advance(600 * SECOND);
    assert_eq!((rig.count("GetAgentLogin"), rig.watched()), (0, BTreeSet::new()));
    assert_eq!(rig.asked("31006"), [""; 0]);
    // A list that names a queue or a phantom does not make a station of it.
    let mut rig = up();
    let list = login_list(&rig.skill_monitor(SKILL), OTHER_SKILL, true);
    rig.event(&list);
    assert_eq!(rig.count("GetAgentState"), 1, "of the station in the list");
}

/// Something happens at the site.
#[derive(Clone, Copy, Debug)]
enum Turn {
    /// An agent logs in somewhere, out of where he was; the skills tell so or not.
    On {
        agent: u8,
        station: u8,
        told: bool,
    },
    Off {
        agent: u8,
        told: bool,
    },
    Call {
        station: u8,
        up: bool,
    },
    Outage {
        forgotten: bool,
    },
    Wait {
        seconds: u8,
    },
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let turn = prop_oneof![
        4 => (0..4_u8, 0..5_u8, prop::bool::weighted(0.7))
            .prop_map(|(agent, station, told)| Turn::On { agent, station, told }),
        2 => (0..4_u8, prop::bool::weighted(0.7)).prop_map(|(agent, told)| Turn::Off { agent, told }),
        2 => (0..5_u8, any::<bool>()).prop_map(|(station, up)| Turn::Call { station, up }),
        1 => any::<bool>().prop_map(|forgotten| Turn::Outage { forgotten }),
        2 => (0..200_u8).prop_map(|seconds| Turn::Wait { seconds }),
    ];
    prop::collection::vec(turn, 1..25)
}

fn play(rig: &mut Rig, turn: Turn) {
    let (agent, station) = (
        |number: u8| format!("{}", 7001 + u16::from(number)),
        |number: u8| format!("{}", 31_001 + u16::from(number)),
    );
    let place = |rig: &Rig, agent: &str| {
        let mut logins = rig.aes.logins.iter();
        logins.find(|(_, there)| *there == agent).map(|(station, _)| station.clone())
    };
    let off = |rig: &mut Rig, agent: &str, told: bool| {
        let Some(station) = place(rig, agent) else { return };
        rig.aes.logins.remove(&station);
        if told {
            rig.told_by(SKILL, false, agent, &station);
        }
    };
    match turn {
        Turn::On { agent: number, station: to, told } => {
            let (agent, to) = (agent(number), station(to));
            if rig.aes.logins.contains_key(&to) {
                return;
            }
            off(rig, &agent, told);
            rig.aes.logins.insert(to.clone(), agent.clone());
            if told {
                rig.told_by(SKILL, true, &agent, &to);
            }
        }
        Turn::Off { agent: number, told } => off(rig, &agent(number), told),
        Turn::Call { station: at, up: true } => rig.call_at(&station(at)),
        Turn::Call { station: at, up: false } => drop(rig.aes.calls.remove(&station(at))),
        Turn::Outage { forgotten } => {
            rig.aes.session = rig.aes.session.take().filter(|_| !forgotten);
            rig.lose_socket();
            rig.advance(20 * SECOND);
        }
        Turn::Wait { seconds } => rig.advance(SECOND * u32::from(seconds)),
    }
}

/// Who of the link's view is where, by its notices.
fn told_last(rig: &Rig) -> BTreeMap<String, Option<String>> {
    let told = rig.notices.iter().filter_map(|notice| match notice {
        Notice::Agent(event) => Some((event.station.to_string(), event.agentid.clone())),
        _ => None,
    });
    told.collect()
}

proptest! {
    /// Whatever is lost, in the end just the stations are watched at which a followed agent is logged in.
    #[test]
    fn in_the_end_the_right_stations_are_watched(turns in turns()) {
        let mut rig = up();
        for turn in turns {
            play(&mut rig, turn);
        }
        rig.aes.calls.clear();
        rig.advance(600 * SECOND);
        let here = |agent: &str| ["7002", "7003"].contains(&agent);
        let logins = rig.aes.logins.iter().filter(|(_, agent)| here(agent));
        let due: BTreeSet<&str> = logins.map(|(station, _)| station.as_str()).collect();
        prop_assert_eq!(rig.link.agents_present(), due.len());
        let listed: BTreeSet<&str> = due.iter().copied().filter(|s| *s != "31001").collect();
        prop_assert_eq!(rig.watched(), listed);
        rig.aes.monitor_of("31001", false);
        // And others were told the same: of each station that is watched, and of none that is not.
        let told = told_last(&rig);
        for station in ["31001", "31002", "31003", "31004", "31005"] {
            let last = told.get(station).and_then(Option::as_deref).filter(|agent| here(agent));
            let is = rig.aes.logins.get(station).map(String::as_str).filter(|agent| here(agent));
            prop_assert_eq!(last, is, "{}", station);
        }
    }
}
