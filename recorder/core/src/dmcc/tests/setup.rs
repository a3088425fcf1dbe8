//! Session start, refusal and end; the way of each kind of device to being watched; snapshots.

use super::rig::{Rig, SECOND, config, error, established, monitor_started, refused_start};
use crate::call::event::{Device, Monitor};
use crate::dmcc::{DownCause, ErrorCategory, Notice};

fn steps_of(rig: &Rig, extension: &str) -> Vec<String> {
    let sent = rig.sent.iter().filter(|sent| sent.extension() == extension);
    sent.map(|sent| sent.name().to_owned()).collect()
}

#[test]
fn a_session_and_its_devices_are_set_up() {
    let mut rig = Rig::new(config(1, 1));
    rig.start();
    assert_eq!(
        steps_of(&rig, "41001"),
        [
            "GetDeviceId",
            "MonitorStart",
            "MonitorStart",
            "SnapshotDevice",
            "RegisterTerminalRequest"
        ]
    );
    assert_eq!(
        steps_of(&rig, "31001"),
        ["GetThirdPartyDeviceId", "MonitorStart", "SnapshotDevice", "GetAgentState"]
    );
    assert_eq!(rig.count("SystemRegister"), 1);
    let ready = rig.position(|notice| matches!(notice, Notice::PhantomReady { .. }));
    let done = rig.position(|notice| *notice == Notice::ResyncDone { unseen: vec![] });
    assert_eq!(rig.notices[0], Notice::SessionUp { recovered: false });
    assert_eq!(rig.notices[1], Notice::ResyncBegan);
    assert!(ready > 1 && done > 1);
    assert_eq!(rig.link.counters().sessions_started, 1);
}

#[test]
fn whether_the_aes_knows_the_switch_is_told_by_the_name_of_a_number() {
    let mut rig = Rig::up(config(0, 0));
    let now = rig.now;
    rig.link.name(now, &"31001".into());
    rig.serve();
    assert_eq!(steps_of(&rig, "31001"), ["GetThirdPartyDeviceId"], "and nothing else is asked");
    assert!(rig.notices.contains(&Notice::Named));
    let refusal = error("operation", "invalidParameterValue");
    rig.aes.instead.push(("GetThirdPartyDeviceId", String::new(), refusal));
    rig.link.name(now, &"31002".into());
    rig.serve();
    let refused = rig.position(|notice| matches!(notice, Notice::NameRefused { .. }));
    let Notice::NameRefused { error } = &rig.notices[refused] else { panic!() };
    assert_eq!(error.category, ErrorCategory::Operation);
}

#[test]
fn vdns_and_skills_are_monitored_by_their_calls() {
    let mut config = config(0, 0);
    config.vdns = vec!["50100".into()];
    config.skills = vec!["60001".into()];
    let rig = Rig::up(config);
    assert_eq!(steps_of(&rig, "50100"), ["GetThirdPartyDeviceId", "MonitorStart"]);
    assert_eq!(rig.last("MonitorStart").root.text_of("monitorType"), Some("device"));
    assert_eq!(steps_of(&rig, "60001"), ["GetThirdPartyDeviceId", "MonitorStart", "MonitorStart"]);
    let calls = rig.sent.iter().filter(|sent| sent.root.text_of("monitorType") == Some("call"));
    assert_eq!(calls.count(), 2);
}

#[test]
fn hundreds_of_devices_are_set_up_with_few_requests_open() {
    let mut rig = Rig::new(config(200, 300));
    rig.aes.mute.extend(["GetDeviceId", "GetThirdPartyDeviceId"]);
    rig.start();
    assert_eq!(rig.count("GetDeviceId") + rig.count("GetThirdPartyDeviceId"), 64);
    let mut rig = Rig::new(config(200, 300));
    rig.start();
    assert_eq!(rig.told(|notice| matches!(notice, Notice::PhantomReady { .. })), 200);
    assert_eq!(rig.told(|notice| matches!(notice, Notice::ResyncDone { .. })), 1);
}

#[test]
fn one_broken_device_does_not_stop_the_others_and_is_tried_again() {
    let mut rig = Rig::new(config(2, 2));
    let busy = error("systemResourceAvailibility", "resourceBusy");
    rig.aes.instead.push(("GetDeviceId", "41001".to_owned(), busy.clone()));
    rig.aes.instead.push(("MonitorStart", "31001".to_owned(), busy));
    rig.start();
    let refused = |rig: &Rig, device: &Monitor| {
        rig.told(|notice| matches!(notice, Notice::MonitorRefused { device: d, .. } if d == device))
    };
    assert_eq!(refused(&rig, &Monitor::Phantom("41001".into())), 1);
    assert_eq!(refused(&rig, &Monitor::Station("31001".into())), 1);
    rig.position(|notice| *notice == Notice::PhantomReady { phantom: "41002".into() });
    let unseen = vec!["31001".into(), "41001".into()];
    rig.position(|notice| *notice == Notice::ResyncDone { unseen: unseen.clone() });
    rig.advance(120 * SECOND);
    let asked = |rig: &Rig| rig.sent.iter().filter(|s| s.name() == "GetDeviceId").count();
    assert!((5..=7).contains(&asked(&rig)), "{}", asked(&rig));
    assert_eq!(refused(&rig, &Monitor::Phantom("41001".into())), 1);
    assert_eq!(refused(&rig, &Monitor::Station("31001".into())), 1);
    rig.aes.instead.clear();
    rig.advance(400 * SECOND);
    rig.position(|notice| *notice == Notice::PhantomReady { phantom: "41001".into() });
    rig.aes.monitor_of("31001", false);
}

#[test]
fn a_phantom_works_without_its_call_monitor() {
    let mut rig = Rig::new(config(1, 0));
    let refusal = error("subscribedResourceAvailability", "objectMonitorLimitExceeded");
    rig.aes.instead.push(("MonitorStart", "true device".to_owned(), refusal));
    rig.start();
    rig.position(|notice| *notice == Notice::PhantomReady { phantom: "41001".into() });
    rig.aes.monitor_of("41001", true);
    assert_eq!(rig.told(|n| matches!(n, Notice::MonitorRefused { .. })), 1);
}

#[test]
fn calls_that_are_up_are_told_before_the_end_of_the_resync() {
    let mut rig = Rig::new(config(1, 2));
    let parties = vec!["31001".to_owned(), "T12#3".to_owned()];
    rig.aes.calls.insert("31001".to_owned(), vec![("1207".to_owned(), parties)]);
    rig.start();
    let snapshot = rig.position(|notice| matches!(notice, Notice::Snapshot(_)));
    let Notice::Snapshot(call) = &rig.notices[snapshot] else { panic!() };
    assert_eq!(call.call.as_str(), "1207");
    assert_eq!(call.monitor, Monitor::Station("31001".into()));
    let trunk = Device::Trunk { group: "12".to_owned(), member: "3".to_owned() };
    assert_eq!(call.parties[1].0, trunk);
    assert!(snapshot < rig.position(|notice| matches!(notice, Notice::ResyncDone { .. })));
}

#[test]
fn a_call_that_ends_during_the_resync_is_told_gone() {
    let mut rig = Rig::new(config(0, 1));
    let gone = vec![("1207".to_owned(), vec![]), ("1208".to_owned(), vec![])];
    rig.aes.calls.insert("31001".to_owned(), gone);
    let refusal = error("operation", "invalidCallID");
    rig.aes.instead.push(("SnapshotCall", "1207".to_owned(), refusal));
    rig.aes.instead.push(("SnapshotCall", "1208".to_owned(), error("performanceManagement", "x")));
    rig.start();
    let (call, party) = (storage_core::CallId::new("1207"), "31001".into());
    rig.position(|notice| {
        *notice
            == Notice::SnapshotCallGone {
                call: call.clone(),
                party: storage_core::Extension::clone(&party),
            }
    });
    // The other may still be up, so nothing is said to be over by its silence.
    rig.position(|notice| *notice == Notice::ResyncDone { unseen: vec!["31001".into()] });
}

#[test]
fn an_event_may_come_before_the_answer_that_names_its_monitor() {
    let mut rig = Rig::new(config(0, 1));
    rig.aes.mute.insert("MonitorStart");
    rig.start();
    rig.event(&established("77", "1207", "31001"));
    assert_eq!(rig.told(|notice| matches!(notice, Notice::Call(_))), 0);
    let invoke = rig.last("MonitorStart").invoke;
    rig.say(invoke, &monitor_started("77"));
    rig.serve();
    let place = rig.position(|notice| matches!(notice, Notice::Call(_)));
    let Notice::Call(event) = &rig.notices[place] else { panic!() };
    assert_eq!(event.monitor, Monitor::Station("31001".into()));
    assert_eq!(rig.count("MonitorStop"), 0);
}

#[test]
fn a_monitor_that_nobody_wants_is_stopped_once() {
    let mut rig = Rig::up(config(0, 1));
    for _ in 0..5 {
        rig.event(&established("99", "1207", "31001"));
    }
    assert_eq!(rig.count("MonitorStop"), 1);
    assert_eq!(rig.last("MonitorStop").root.all_text(), "99");
    assert_eq!(rig.told(|notice| matches!(notice, Notice::Call(_))), 0);
}

#[test]
fn a_monitor_that_the_server_ends_is_started_again_and_calls_are_asked_for() {
    let mut rig = Rig::up(config(1, 2));
    rig.advance(60 * SECOND);
    let before = rig.count("MonitorStart");
    let monitor = rig.aes.monitor_of("31002", false);
    rig.event(&format!(
        "<MonitorStop><monitorCrossRefID>{monitor}</monitorCrossRefID></MonitorStop>"
    ));
    assert_eq!(rig.count("MonitorStart"), before + 1);
    assert_eq!(rig.told(|notice| matches!(notice, Notice::ResyncBegan)), 1);
    assert_eq!(rig.told(|notice| matches!(notice, Notice::ResyncDone { .. })), 1);
    let again = rig.aes.last_monitor.to_string();
    rig.event(&established(&again, "1207", "31002"));
    assert_eq!(rig.told(|notice| matches!(notice, Notice::Call(_))), 1);
}

#[test]
fn a_monitor_that_keeps_ending_is_started_ever_more_slowly() {
    let mut rig = Rig::up(config(0, 1));
    let before = rig.count("MonitorStart");
    for _ in 0..100 {
        if rig.aes.monitors.contains_key(&rig.aes.last_monitor.to_string()) {
            let monitor = rig.aes.last_monitor;
            rig.aes.monitors.clear();
            rig.event(&format!(
                "<MonitorStop><monitorCrossRefID>{monitor}</monitorCrossRefID></MonitorStop>"
            ));
        }
        rig.advance(SECOND);
    }
    assert!((3..=5).contains(&(rig.count("MonitorStart") - before)));
}

#[test]
fn a_wrong_login_is_told_once_and_tried_ever_more_slowly() {
    let mut rig = Rig::new(config(1, 1));
    rig.aes.instead.push((
        "StartApplicationSession",
        String::new(),
        refused_start("invalidApplicationInfo"),
    ));
    rig.start();
    rig.advance(3600 * SECOND);
    assert_eq!(rig.told(|notice| matches!(notice, Notice::CredentialsRefused { .. })), 1);
    let starts: Vec<_> = rig.sent.iter().map(|sent| sent.at).collect();
    let gaps: Vec<u64> = starts.windows(2).map(|pair| pair[1].since(pair[0]).as_secs()).collect();
    for (gap, least) in gaps.iter().zip([5, 10, 20, 40, 80, 160, 300, 300, 300]) {
        assert!((least..=(least + least / 4).min(300)).contains(gap), "{gap} for {least}");
    }
    assert!((15..25).contains(&starts.len()), "{}", starts.len());
    rig.aes.instead.clear();
    rig.link.reload(rig.now, config(1, 1));
    rig.serve();
    rig.position(|notice| *notice == Notice::SessionUp { recovered: false });
}

#[test]
fn a_server_without_room_for_a_session_is_no_wrong_login() {
    let mut rig = Rig::new(config(0, 0));
    rig.aes.instead.push((
        "StartApplicationSession",
        String::new(),
        refused_start("maxNumberSessions"),
    ));
    rig.start();
    rig.advance(300 * SECOND);
    assert_eq!(rig.told(|notice| matches!(notice, Notice::SessionRefused { .. })), 1);
    assert_eq!(rig.told(|notice| matches!(notice, Notice::CredentialsRefused { .. })), 0);
    assert!(rig.count("StartApplicationSession") >= 10);
}

#[test]
fn a_stop_ends_the_session_in_order() {
    let mut rig = Rig::up(config(1, 1));
    rig.link.stop(rig.now);
    rig.serve();
    assert_eq!(rig.count("StopApplicationSession"), 1);
    assert!(rig.link.is_stopped());
    assert_eq!(rig.notices, [Notice::SessionDown { cause: DownCause::Stopped }]);
    assert_eq!((rig.closes.len(), rig.link.poll_timeout()), (1, None));
}

#[test]
fn a_stop_that_is_not_answered_ends_by_itself() {
    let mut rig = Rig::up(config(1, 1));
    rig.aes.mute.insert("StopApplicationSession");
    rig.link.stop(rig.now);
    rig.serve();
    assert!(!rig.link.is_stopped());
    rig.advance(4 * SECOND);
    assert!(rig.link.is_stopped());
    assert_eq!(rig.connects.len(), 1);
}

#[test]
fn agents_are_told_when_they_change() {
    let mut rig = Rig::new(config(0, 1));
    let agent = "<GetAgentStateResponse><agentStateList><agentStateEntry><agentID>7002</agentID>\
                 <loggedOnState>true</loggedOnState></agentStateEntry></agentStateList>\
                 </GetAgentStateResponse>";
    rig.aes.instead.push(("GetAgentState", String::new(), agent.to_owned()));
    rig.start();
    rig.advance(300 * SECOND);
    let agents = |rig: &Rig| rig.told(|notice| matches!(notice, Notice::Agent(_)));
    assert_eq!(agents(&rig), 1);
    assert!(rig.count("GetAgentState") >= 4);
    rig.aes.instead.clear();
    rig.advance(100 * SECOND);
    assert_eq!(agents(&rig), 2);
}

#[test]
fn the_switch_link_is_told_and_call_monitors_are_renewed_when_it_is_back() {
    let mut rig = Rig::up(config(1, 1));
    let status = |state| {
        format!(
            "<SystemStatus><extensions><privateData><private><SystemStatusPrivateData>\
             <switchTlinkStatus><switchName>cm1</switchName><tlinkStatus>{state}</tlinkStatus>\
             </switchTlinkStatus></SystemStatusPrivateData></private></privateData></extensions>\
             </SystemStatus>"
        )
    };
    rig.event(&status("tlinkDown"));
    rig.event(&status("tlinkDown"));
    assert_eq!(rig.notices, [Notice::CtiLink { up: false }]);
    let before = rig.count("MonitorStart");
    rig.event(&status("tlinkUp"));
    assert_eq!(rig.count("MonitorStart"), before + 2);
    assert_eq!(rig.count("MonitorStop"), 2);
    assert_eq!(rig.told(|notice| matches!(notice, Notice::ResyncDone { .. })), 1);
    assert_eq!(rig.told(|notice| matches!(notice, Notice::PhantomLost { .. })), 0);
}

#[test]
fn the_switch_link_is_asked_for_after_an_outage() {
    let mut rig = Rig::up(config(0, 0));
    let down = "<RequestSystemStatusResponse><systemStatus>disabled</systemStatus>\
                </RequestSystemStatusResponse>";
    rig.aes.instead.push(("RequestSystemStatus", String::new(), down.to_owned()));
    rig.lose_socket();
    rig.serve();
    rig.advance(2 * SECOND);
    rig.position(|notice| *notice == Notice::CtiLink { up: false });
}

#[test]
fn a_server_that_does_not_tell_the_switch_link_is_told_of() {
    let mut rig = Rig::new(config(0, 0));
    let refusal = error("operation", "serviceNotSupported");
    rig.aes.instead.push(("SystemRegister", String::new(), refusal));
    rig.start();
    let place = rig.position(|notice| matches!(notice, Notice::CtiLinkUnknown { .. }));
    let Notice::CtiLinkUnknown { error } = &rig.notices[place] else { panic!() };
    assert_eq!(error.category, ErrorCategory::Operation);
}
