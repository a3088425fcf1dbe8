//! Registration as a whole: the governor's bounds, the wrong security code, storms, silent losses.

use std::collections::BTreeMap;

use storage_core::MonoTime;

use super::rig::{Rig, SECOND, config, error, unregistered, wrong_code};
use crate::dmcc::{LostCause, Notice};

const REGISTER: &str = "RegisterTerminalRequest";

fn registrations(rig: &Rig) -> Vec<MonoTime> {
    rig.sent.iter().filter(|sent| sent.name() == REGISTER).map(|sent| sent.at).collect()
}

#[test]
fn no_more_than_the_window_is_open() {
    let mut rig = Rig::new(config(100, 0));
    rig.aes.mute.insert(REGISTER);
    rig.start();
    assert_eq!(rig.count(REGISTER), 20);
    let invoke = rig.last(REGISTER).invoke;
    rig.say(invoke, "<RegisterTerminalResponse><code>1</code></RegisterTerminalResponse>");
    rig.serve();
    assert_eq!(rig.count(REGISTER), 21);
}

#[test]
fn the_rate_is_kept() {
    let mut config = config(20, 0);
    config.registration_rate = 2;
    let mut rig = Rig::new(config);
    rig.start();
    rig.advance(20 * SECOND);
    let times = registrations(&rig);
    assert_eq!(times.len(), 20);
    for pair in times.windows(2) {
        assert_eq!(pair[1].since(pair[0]).as_millis(), 500);
    }
}

#[test]
fn a_wrong_security_code_is_tried_once_until_the_configuration_is_read_again() {
    let mut rig = Rig::new(config(1, 0));
    rig.aes.instead.push((REGISTER, String::new(), wrong_code()));
    rig.start();
    rig.advance(3600 * SECOND);
    rig.aes.session = None;
    rig.lose_socket();
    rig.serve();
    rig.advance(3600 * SECOND);
    assert_eq!(rig.aes.sessions, 2);
    assert_eq!(rig.count(REGISTER), 1);
    let refused = |notice: &Notice| {
        matches!(notice, Notice::PhantomRefused { code: Some(63_773), retried: false, .. })
    };
    assert_eq!(rig.told(refused), 1);
    rig.aes.instead.clear();
    rig.link.reload(rig.now, config(1, 0));
    rig.serve();
    assert_eq!(rig.count(REGISTER), 2);
    rig.position(|notice| *notice == Notice::PhantomReady { phantom: "41001".into() });
}

#[test]
fn other_refusals_are_tried_again_no_faster_than_every_30_s() {
    let mut rig = Rig::new(config(1, 0));
    rig.aes.instead.push((
        REGISTER,
        String::new(),
        error("systemResourceAvailibility", "registrationLimitExceeded"),
    ));
    rig.start();
    rig.advance(1200 * SECOND);
    let times = registrations(&rig);
    assert!((5..9).contains(&times.len()), "{times:?}");
    assert!(times.windows(2).all(|pair| pair[1].since(pair[0]) >= 30 * SECOND));
}

#[test]
fn a_storm_of_unregistrations_is_spread_out() {
    let mut rig = Rig::up(config(200, 0));
    rig.advance(100 * SECOND);
    let before = registrations(&rig).len();
    for number in 41_001..41_201 {
        let monitor = rig.aes.monitor_of(&number.to_string(), true);
        rig.aes.registered.remove(&number.to_string());
        rig.event(&unregistered(&monitor));
    }
    assert_eq!(rig.told(|notice| matches!(notice, Notice::PhantomLost { .. })), 200);
    assert_eq!(registrations(&rig).len(), before);
    rig.advance(10 * SECOND);
    let times = registrations(&rig).split_off(before);
    assert_eq!(times.len(), 200);
    let mut by_second = BTreeMap::new();
    for time in times {
        *by_second.entry(time.as_micros() / 1_000_000).or_insert(0) += 1;
    }
    assert!(by_second.len() >= 5 && by_second.values().all(|count| *count <= 70), "{by_second:?}");
}

#[test]
fn one_device_is_never_registered_twice_within_30_s() {
    let mut rig = Rig::up(config(1, 0));
    for _ in 0..600 {
        let monitor = rig.aes.monitor_of("41001", true);
        rig.event(&unregistered(&monitor));
        rig.advance(SECOND);
    }
    let times = registrations(&rig);
    assert!((4..10).contains(&times.len()), "{}", times.len());
    assert!(times.windows(2).all(|pair| pair[1].since(pair[0]) >= 30 * SECOND));
}

#[test]
fn an_unanswered_registration_is_looked_at_before_it_is_asked_for_again() {
    let mut rig = Rig::new(config(1, 0));
    rig.aes.mute.insert(REGISTER);
    rig.start();
    rig.advance(59 * SECOND);
    assert_eq!(rig.told(|notice| matches!(notice, Notice::PhantomRefused { .. })), 0);
    rig.advance(60 * SECOND);
    assert_eq!((rig.count("GetRegistrationState"), rig.count(REGISTER)), (1, 2));
    let mut rig = Rig::new(config(1, 0));
    rig.aes.mute.insert(REGISTER);
    rig.start();
    rig.aes.registered.insert("41001".to_owned());
    rig.advance(120 * SECOND);
    assert_eq!(rig.count(REGISTER), 1);
    rig.position(|notice| matches!(notice, Notice::PhantomReady { .. }));
}

#[test]
fn a_registration_that_went_without_a_word_is_found_out() {
    let mut rig = Rig::up(config(1, 0));
    rig.aes.registered.clear();
    rig.advance(400 * SECOND);
    let (phantom, cause) = ("41001".into(), LostCause::FoundUnregistered);
    let lost = Notice::PhantomLost { phantom, cause };
    let place = rig.position(|notice| *notice == lost);
    assert!(rig.notices[place..].contains(&Notice::PhantomReady { phantom: "41001".into() }));
}

#[test]
fn an_endpoint_that_goes_makes_us_look() {
    let mut rig = Rig::up(config(1, 0));
    let monitor = rig.aes.monitor_of("41001", true);
    rig.event(&format!(
        "<EndpointUnregisteredEvent><monitorCrossRefID>{monitor}</monitorCrossRefID>\
         <code>FORCE_LOGIN</code></EndpointUnregisteredEvent>"
    ));
    assert_eq!(rig.count("GetRegistrationState"), 1);
    assert_eq!(rig.notices, []);
}

#[test]
fn a_registration_that_went_while_its_monitor_was_away_is_found_out() {
    let mut rig = Rig::up(config(1, 0));
    let monitor = rig.aes.monitor_of("41001", true);
    rig.aes.monitors.remove(&monitor);
    rig.aes.registered.clear();
    rig.event(&format!(
        "<MonitorStop><monitorCrossRefID>{monitor}</monitorCrossRefID></MonitorStop>"
    ));
    rig.aes.monitor_of("41001", true);
    let (phantom, cause) = ("41001".into(), LostCause::FoundUnregistered);
    assert_eq!(rig.notices, [Notice::PhantomLost { phantom, cause }]);
}

#[test]
fn the_server_may_recover_a_registration_by_itself() {
    let mut rig = Rig::up(config(1, 0));
    rig.advance(100 * SECOND);
    let monitor = rig.aes.monitor_of("41001", true);
    rig.event(&unregistered(&monitor));
    rig.event(&format!(
        "<TerminalReregisteredEvent><monitorCrossRefID>{monitor}</monitorCrossRefID>\
         <signalingEncryption>none</signalingEncryption><code>1</code></TerminalReregisteredEvent>"
    ));
    rig.advance(60 * SECOND);
    assert_eq!(rig.count(REGISTER), 1);
    assert_eq!(rig.told(|notice| matches!(notice, Notice::PhantomReady { .. })), 1);
}

#[test]
fn a_phantom_taken_out_of_the_configuration_is_cleaned_up() {
    let mut rig = Rig::up(config(2, 1));
    rig.link.reload(rig.now, config(1, 1));
    rig.serve();
    let (phantom, cause) = ("41002".into(), LostCause::Removed);
    assert_eq!(rig.notices, [Notice::PhantomLost { phantom, cause }]);
    assert_eq!(rig.count("UnregisterTerminalRequest"), 1);
    assert_eq!((rig.count("MonitorStop"), rig.count("ReleaseDeviceId")), (2, 1));
    rig.link.reload(rig.now, config(3, 1));
    rig.serve();
    assert_eq!(rig.told(|notice| matches!(notice, Notice::PhantomReady { .. })), 2);
}
