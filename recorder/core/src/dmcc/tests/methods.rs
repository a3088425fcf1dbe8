//! Devices that listen: one more registration on a station, and phantoms that observe one.

use storage_core::MonoTime;
use storage_core::record::Side;

use super::rig::{Rig, SECOND, config, error, unregistered, wrong_code};
use crate::Receiver;
use crate::dmcc::config::{Attachment, Places};
use crate::dmcc::{LinkConfig, LostCause, Notice};

const REGISTER: &str = "RegisterTerminalRequest";

/// Two stations, each with one more registration.
fn stations() -> LinkConfig {
    let mut config = config(2, 2);
    for (phantom, station) in config.phantoms.iter_mut().zip(&config.stations) {
        phantom.extension = station.clone();
        phantom.attachment = Attachment::Station { side: None };
    }
    config
}

/// Two stations, each registered for both sides of its calls.
fn sides() -> LinkConfig {
    let mut config = config(4, 2);
    for (number, phantom) in config.phantoms.iter_mut().enumerate() {
        phantom.extension = config.stations[number / 2].clone();
        phantom.attachment = Attachment::Station { side: Some(Side::ALL[number % 2]) };
    }
    config
}

fn receiver(device: &str, side: Side) -> Receiver {
    Receiver { device: device.into(), side: Some(side) }
}

/// A phantom that observes a station.
fn observer() -> LinkConfig {
    let mut config = config(1, 1);
    config.phantoms[0].attachment =
        Attachment::Observer { station: "31001".into(), code: "*55".to_owned() };
    config
}

fn taken() -> String {
    "<RegisterTerminalResponse><code>63775</code><reason>Registration Reject reason: duplicateAlias \
     Extension in use</reason></RegisterTerminalResponse>"
        .to_owned()
}

fn refusals(rig: &Rig) -> usize {
    rig.told(|notice| matches!(notice, Notice::PhantomRefused { .. }))
}

/// What was pressed, and when in milliseconds after the first.
fn dialled(rig: &Rig) -> Vec<(u128, String)> {
    let names = ["SetHookswitchStatus", "ButtonPress"];
    let all: Vec<_> = rig.sent.iter().filter(|sent| names.contains(&sent.name())).collect();
    let first = all.first().map_or(MonoTime::default(), |sent| sent.at);
    let what = |sent: &super::rig::Sent| match sent.root.text_of("hookswitchOnhook") {
        Some("true") => "down".to_owned(),
        Some(_) => "up".to_owned(),
        None => sent.root.text_of("button").expect("a button").to_owned(),
    };
    all.iter().map(|sent| (sent.at.since(first).as_millis(), what(sent))).collect()
}

#[test]
fn a_station_is_registered_once_more_beside_its_call_monitor() {
    let mut rig = Rig::new(stations());
    rig.start();
    rig.position(|notice| *notice == Notice::PhantomReady { phantom: "31002".into() });
    let request = rig.last(REGISTER);
    let login = request.root.child("loginInfo").expect("a login");
    assert_eq!(login.text_of("dependencyMode"), Some("INDEPENDENT"));
    assert_eq!(login.text_of("forceLogin"), Some("false"), "another recorder may have the place");
    assert_eq!(request.root.text_of("device"), Some("31002:cm1::1"));
    // One monitor of its calls and one of the registration's media; its calls are asked for once.
    assert_eq!((rig.count("MonitorStart"), rig.count("SnapshotDevice")), (4, 2));
    let media = rig.aes.monitor_of("31002", true);
    rig.event(&format!(
        "<MediaStartEvent><monitorCrossRefID>{media}</monitorCrossRefID><codec>g711A</codec>\
         </MediaStartEvent>"
    ));
    rig.position(|notice| {
        matches!(notice, Notice::MediaStarted { phantom, .. } if phantom.device.as_str() == "31002")
    });
}

#[test]
fn each_side_of_a_stations_calls_has_a_registration_with_ports_of_its_own() {
    let mut rig = Rig::new(sides());
    rig.start();
    let ready = |n: &&Notice| matches!(n, Notice::PhantomReady { .. });
    assert_eq!(rig.notices.iter().filter(ready).count(), 4);
    let asked: Vec<_> = rig
        .sent
        .iter()
        .filter(|sent| sent.name() == REGISTER)
        .map(|sent| {
            let login = sent.root.child("loginInfo").expect("a login");
            let order: Vec<_> = login.children.iter().map(|child| child.name.as_str()).collect();
            assert_eq!(order[order.len() - 2..], ["dependencyMode", "mediaContent"]);
            let port = sent.root.path(&["localMediaInfo", "rtpAddress", "port"]).expect("a port");
            let text = |name| login.text_of(name).expect("it is there").to_owned();
            let device = sent.root.text_of("device").expect("a device").to_owned();
            (device, text("mediaContent"), text("forceLogin"), port.text.clone())
        })
        .collect();
    let row = |device: &str, content: &str, port: &str| {
        (device.to_owned(), content.to_owned(), "false".to_owned(), port.to_owned())
    };
    for expected in [
        row("31001:cm1::1", "MAIN_STATION_ONLY", "20000"),
        row("31001:cm1::2", "ALL_BUT_MAIN_STATION", "20002"),
        row("31002:cm1::1", "MAIN_STATION_ONLY", "20004"),
        row("31002:cm1::2", "ALL_BUT_MAIN_STATION", "20006"),
    ] {
        assert!(asked.contains(&expected), "{expected:?} is not in {asked:?}");
    }
    assert_eq!(asked.len(), 4);
}

#[test]
fn what_happens_to_one_side_is_told_of_that_side() {
    let mut rig = Rig::new(sides());
    rig.start();
    rig.notices.clear();
    let [agent, others] = Side::ALL.map(|side| receiver("31002", side));
    // The rig names monitors by extension; those of the two sides began in this order.
    let mut monitors: Vec<u32> = rig
        .aes
        .monitors
        .iter()
        .filter(|(_, monitor)| **monitor == ("31002".to_owned(), true))
        .map(|(name, _)| name.parse().expect("a number"))
        .collect();
    monitors.sort_unstable();
    for monitor in &monitors {
        rig.event(&format!(
            "<MediaStartEvent><monitorCrossRefID>{monitor}</monitorCrossRefID><codec>g711A</codec>\
             </MediaStartEvent>"
        ));
    }
    for side in [&agent, &others] {
        let started =
            |n: &Notice| matches!(n, Notice::MediaStarted { phantom, .. } if phantom == side);
        assert_eq!(rig.told(started), 1, "{side}");
    }
    rig.event(&unregistered(&monitors[1].to_string()));
    let lost: Vec<_> = rig
        .notices
        .iter()
        .filter_map(|notice| match notice {
            Notice::PhantomLost { phantom, .. } => Some(phantom.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(lost.len(), 1);
    rig.advance(60 * SECOND);
    rig.position(|notice| *notice == Notice::PhantomReady { phantom: lost[0].clone() });
    assert_eq!(rig.told(|n| matches!(n, Notice::PhantomReady { .. })), 1);
    // Looking at one registration leaves the other alone.
    let before = rig.count("GetRegistrationState");
    rig.link.attach(rig.now, &agent);
    rig.serve();
    assert_eq!(rig.count("GetRegistrationState"), before + 1);
    assert_eq!(rig.last("GetRegistrationState").root.text_of("device"), Some("31002:cm1::1"));
}

#[test]
fn a_side_takes_back_its_instance_from_an_earlier_session() {
    let mut rig = Rig::new(sides());
    rig.aes.instead.push((REGISTER, "31001:cm1::2 false".to_owned(), taken()));
    rig.start();
    rig.position(|n| *n == Notice::PhantomReady { phantom: receiver("31001", Side::Others) });
    let all = rig.sent.iter().filter(|sent| sent.name() == REGISTER);
    let of_side = all.filter(|sent| sent.root.text_of("device") == Some("31001:cm1::2"));
    let forced = of_side.map(|sent| sent.root.child("loginInfo").expect("a login"));
    let forced: Vec<_> = forced.filter_map(|login| login.text_of("forceLogin")).collect();
    assert_eq!(forced, ["false", "true"]);
    assert_eq!(refusals(&rig), 0);
}

#[test]
fn an_instance_that_is_taken_gives_way_to_the_next_and_all_are_tried_again_later() {
    let mut rig = Rig::new(stations());
    rig.aes.instead.push((REGISTER, "31001:cm1::1".to_owned(), taken()));
    rig.aes.instead.push((REGISTER, "31002".to_owned(), taken()));
    rig.start();
    rig.position(|notice| *notice == Notice::PhantomReady { phantom: "31001".into() });
    let tried = |rig: &Rig| {
        let all = rig.sent.iter().filter(|sent| sent.name() == REGISTER);
        let devices = all.filter_map(|sent| sent.root.text_of("device"));
        let of_second = devices.filter(|device| device.starts_with("31002"));
        of_second.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(tried(&rig), ["31002:cm1::1", "31002:cm1::2", "31002:cm1::0"]);
    assert_eq!(refusals(&rig), 1, "told once, after the last");
    rig.advance(29 * SECOND);
    assert_eq!(tried(&rig).len(), 3, "no faster than every 30 s");
    rig.aes.instead.pop();
    rig.advance(60 * SECOND);
    rig.position(|notice| *notice == Notice::PhantomReady { phantom: "31002".into() });
    assert_eq!(tried(&rig).last().map(String::as_str), Some("31002:cm1::1"));
}

#[test]
fn a_member_of_a_group_takes_back_its_own_place_where_none_is_free() {
    for (member, order) in [(0, ["1", "2", "0", "1"]), (1, ["2", "0", "1", "2"])] {
        let mut config = stations();
        config.places = Places::of_member(member);
        let mut rig = Rig::new(config);
        rig.aes.instead.push((REGISTER, " false".to_owned(), taken()));
        rig.aes.instead.push((REGISTER, "false ".to_owned(), taken()));
        rig.start();
        rig.position(|notice| *notice == Notice::PhantomReady { phantom: "31001".into() });
        let all = rig.sent.iter().filter(|sent| sent.name() == REGISTER);
        let devices = all.filter_map(|sent| sent.root.text_of("device"));
        let tried: Vec<_> =
            devices.filter_map(|device| device.strip_prefix("31001:cm1::")).collect();
        assert_eq!(tried, order);
        assert_eq!(refusals(&rig), 0);
    }
}

#[test]
fn a_device_id_that_another_session_has_gives_way_to_the_next_too() {
    let mut rig = Rig::new(stations());
    let busy = error("systemResourceAvailibility", "resourceBusy");
    rig.aes.instead.push(("GetDeviceId", "31001 1".to_owned(), busy));
    rig.start();
    rig.position(|notice| *notice == Notice::PhantomReady { phantom: "31001".into() });
    let all = rig.sent.iter().filter(|sent| sent.name() == REGISTER);
    let devices: Vec<_> = all.filter_map(|sent| sent.root.text_of("device")).collect();
    assert!(devices.contains(&"31001:cm1::2"), "{devices:?}");
}

#[test]
fn a_stations_wrong_security_code_is_tried_once() {
    let mut rig = Rig::new(stations());
    rig.aes.instead.push((REGISTER, "31001".to_owned(), wrong_code()));
    rig.start();
    rig.advance(600 * SECOND);
    let of_first = |sent: &&super::rig::Sent| {
        sent.name() == REGISTER && sent.root.all_text().contains("31001:cm1")
    };
    assert_eq!(rig.sent.iter().filter(of_first).count(), 1);
}

#[test]
fn a_phantom_is_ready_once_it_has_dialled_its_station() {
    let mut rig = Rig::new(observer());
    rig.start();
    assert_eq!(rig.told(|n| matches!(n, Notice::PhantomReady { .. })), 0);
    rig.advance(5 * SECOND);
    rig.position(|notice| *notice == Notice::PhantomReady { phantom: "41001".into() });
    let expected = ["down", "up", "10", "5", "5", "3", "1", "0", "0", "1"];
    let all = dialled(&rig);
    assert_eq!(all.iter().map(|(_, what)| what.as_str()).collect::<Vec<_>>(), expected);
    for pair in all.windows(2) {
        let least = if pair[1].1 == "3" { 500 } else { 200 };
        assert!(pair[1].0 - pair[0].0 >= least, "{all:?}");
    }
}

#[test]
fn what_the_switch_refuses_is_dialled_again() {
    let mut rig = Rig::new(observer());
    rig.aes.instead.push(("ButtonPress", "41001".to_owned(), error("operation", "generic")));
    rig.start();
    rig.advance(60 * SECOND);
    let told = refusals(&rig);
    assert!((2..8).contains(&told), "{told}");
    rig.aes.instead.clear();
    rig.advance(120 * SECOND);
    rig.position(|notice| *notice == Notice::PhantomReady { phantom: "41001".into() });
    // The phantom's own call shows that the feature was denied.
    let calls = rig.aes.monitor_of("41001", false);
    rig.event(&format!(
        "<FailedEvent><monitorCrossRefID>{calls}</monitorCrossRefID><failedConnection>\
         <callID>17</callID><deviceID>41001:cm1::0</deviceID></failedConnection></FailedEvent>"
    ));
    assert_eq!(refusals(&rig), told + 1);
}

#[test]
fn a_receiver_that_cannot_be_lifted_is_tried_ever_later() {
    let mut rig = Rig::new(observer());
    let refused = error("stateIncompatibility", "invalidDeviceState");
    rig.aes.instead.push(("SetHookswitchStatus", String::new(), refused));
    rig.start();
    rig.advance(600 * SECOND);
    let tried = rig.count("SetHookswitchStatus");
    assert!((4..12).contains(&tried), "{tried}");
}

#[test]
fn a_deaf_observer_is_dialled_again_and_so_is_one_that_was_registered_anew() {
    let mut rig = Rig::new(observer());
    rig.start();
    rig.advance(100 * SECOND);
    let before = dialled(&rig).len();
    rig.link.attach(rig.now, &"41001".into());
    rig.serve();
    let lost = Notice::PhantomLost { phantom: "41001".into(), cause: LostCause::NotObserving };
    rig.position(|notice| *notice == lost);
    // Asking again changes nothing while it is under way.
    rig.link.attach(rig.now, &"41001".into());
    rig.advance(5 * SECOND);
    assert_eq!(dialled(&rig).len(), 2 * before);
    rig.aes.registered.clear();
    let media = rig.aes.monitor_of("41001", true);
    rig.event(&unregistered(&media));
    rig.advance(60 * SECOND);
    assert_eq!(dialled(&rig).len(), 3 * before);
    assert_eq!(rig.told(|n| matches!(n, Notice::PhantomReady { .. })), 3);
}
