//! Outages: lost sockets, unanswered keep-alives, sessions taken back or lost.

use super::rig::{Rig, SECOND, config, frame};
use crate::dmcc::{DownCause, LostCause, Notice};

fn down(cause: DownCause) -> Notice {
    Notice::SessionDown { cause }
}

#[test]
fn a_keep_alive_goes_out_at_a_third_of_the_granted_duration() {
    let mut rig = Rig::new(config(0, 0));
    rig.aes.duration = 30;
    rig.start();
    rig.advance(61 * SECOND);
    assert_eq!(rig.count("ResetApplicationSessionTimer"), 6);
    assert_eq!(rig.connects.len(), 1);
}

#[test]
fn an_unanswered_keep_alive_drops_the_socket_after_10_s() {
    let mut rig = Rig::up(config(0, 0));
    rig.aes.mute.insert("ResetApplicationSessionTimer");
    rig.advance(61 * SECOND);
    assert_eq!(rig.count("ResetApplicationSessionTimer"), 1);
    let asked = rig.last("ResetApplicationSessionTimer").at;
    rig.advance(10 * SECOND);
    assert_eq!(rig.notices[0], down(DownCause::KeepAliveUnanswered));
    assert_eq!(rig.closes, [asked + 10 * SECOND]);
    // The first try is made at once, and takes the session back.
    assert_eq!(rig.connects[1], asked + 10 * SECOND);
    assert_eq!(rig.notices[1], Notice::SessionUp { recovered: true });
}

#[test]
fn a_lost_socket_brings_the_old_session_back() {
    let mut rig = Rig::up(config(2, 2));
    let parties = vec!["31001".to_owned(), "41001".to_owned()];
    rig.aes.calls.insert("31001".to_owned(), vec![("1207".to_owned(), parties)]);
    rig.advance(100 * SECOND);
    rig.sent.clear();
    rig.notices.clear();
    rig.lose_socket();
    rig.serve();
    assert_eq!(rig.notices[0], down(DownCause::SocketLost));
    assert_eq!(rig.notices[1], Notice::SessionUp { recovered: true });
    assert_eq!(rig.notices[2], Notice::ResyncBegan);
    let snapshot = rig.position(|notice| matches!(notice, Notice::Snapshot(_)));
    let done = rig.position(|notice| *notice == Notice::ResyncDone { unseen: vec![] });
    assert!(snapshot < done);
    assert_eq!(rig.told(|notice| matches!(notice, Notice::PhantomLost { .. })), 0);
    // Registrations are looked at, call monitors renewed, media monitors kept.
    assert_eq!(rig.count("GetRegistrationState"), 2);
    assert_eq!(rig.count("RegisterTerminalRequest"), 0);
    assert_eq!((rig.count("MonitorStop"), rig.count("MonitorStart")), (4, 4));
    let media = rig.aes.monitors.values().filter(|(_, media)| *media);
    assert_eq!((media.count(), rig.aes.monitors.len()), (2, 6));
    assert_eq!(rig.link.counters().sessions_recovered, 1);
}

#[test]
fn a_registration_that_fell_during_the_outage_is_made_again() {
    let mut rig = Rig::up(config(2, 0));
    rig.advance(100 * SECOND);
    rig.aes.registered.remove("41002");
    rig.lose_socket();
    rig.serve();
    let cause = LostCause::FoundUnregistered;
    let lost = Notice::PhantomLost { phantom: "41002".into(), cause };
    rig.position(|notice| *notice == lost);
    rig.advance(10 * SECOND);
    rig.position(|notice| *notice == Notice::PhantomReady { phantom: "41002".into() });
}

#[test]
fn a_session_that_is_gone_is_replaced_on_the_same_socket_and_all_is_rebuilt() {
    let mut rig = Rig::up(config(2, 1));
    rig.advance(100 * SECOND);
    rig.aes.session = None;
    rig.notices.clear();
    rig.lose_socket();
    rig.serve();
    assert_eq!(rig.connects.len(), 2);
    assert_eq!(rig.count("StartApplicationSession"), 3);
    rig.position(|notice| *notice == Notice::SessionUp { recovered: false });
    let lost = |notice: &Notice| {
        matches!(notice, Notice::PhantomLost { cause: LostCause::SessionLost, .. })
    };
    assert_eq!(rig.told(lost), 2);
    assert_eq!(rig.told(|notice| matches!(notice, Notice::PhantomReady { .. })), 2);
    assert_eq!(rig.told(|notice| matches!(notice, Notice::ResyncDone { .. })), 1);
    assert_eq!(rig.told(|notice| matches!(notice, Notice::CredentialsRefused { .. })), 0);
    assert_eq!(rig.aes.monitors.len(), 5);
}

#[test]
fn another_session_than_the_one_asked_for_is_a_new_one() {
    let mut rig = Rig::up(config(1, 0));
    rig.advance(100 * SECOND);
    let other = super::example("StartApplicationSessionPosResponse", 1).to_owned();
    rig.aes.instead.push(("StartApplicationSession", String::new(), other));
    rig.lose_socket();
    rig.serve();
    rig.position(|notice| *notice == Notice::SessionUp { recovered: false });
    assert_eq!(rig.told(|notice| matches!(notice, Notice::PhantomReady { .. })), 1);
    assert_eq!(rig.link.counters().sessions_started, 2);
}

#[test]
fn a_server_that_is_away_is_looked_for_between_half_a_second_and_five() {
    let mut rig = Rig::up(config(1, 1));
    rig.advance(100 * SECOND);
    rig.reachable = false;
    rig.lose_socket();
    rig.serve();
    rig.advance(120 * SECOND);
    let gaps: Vec<u128> =
        rig.connects[1..].windows(2).map(|pair| pair[1].since(pair[0]).as_millis()).collect();
    assert!((500..=625).contains(&gaps[0]) && (1000..=1250).contains(&gaps[1]), "{gaps:?}");
    assert!(gaps.iter().all(|gap| (500..=5000).contains(gap)), "{gaps:?}");
    assert!(gaps[5..].iter().all(|gap| *gap >= 5000), "{gaps:?}");
    rig.reachable = true;
    rig.advance(6 * SECOND);
    rig.position(|notice| *notice == Notice::SessionUp { recovered: true });
}

#[test]
fn a_socket_that_breaks_again_and_again_is_not_opened_without_pause() {
    let mut rig = Rig::up(config(0, 0));
    rig.advance(100 * SECOND);
    for _ in 0..20 {
        rig.lose_socket();
        rig.serve();
        rig.advance(SECOND);
    }
    assert!(rig.connects.len() < 12, "{}", rig.connects.len());
}

#[test]
fn a_session_that_the_server_ends_is_followed_by_a_new_one() {
    let mut rig = Rig::up(config(1, 0));
    rig.advance(100 * SECOND);
    let ended = |session| {
        format!(
            "<ApplicationSessionTerminated><sessionID>{session}</sessionID><sessionTermReason>\
             <definedTermReason>resourceLimitation</definedTermReason></sessionTermReason>\
             </ApplicationSessionTerminated>"
        )
    };
    rig.event(&ended("somebody else's"));
    assert_eq!(rig.told(|notice| matches!(notice, Notice::SessionDown { .. })), 0);
    rig.event(&ended("S1"));
    let reason = "resourceLimitation".to_owned();
    rig.position(|notice| *notice == down(DownCause::Terminated { reason: reason.clone() }));
    rig.position(|notice| *notice == Notice::SessionUp { recovered: false });
    let start = rig.last("StartApplicationSession");
    assert!(!start.root.all_text().contains("S1"));
}

#[test]
fn a_keep_alive_that_the_server_does_not_know_the_session_of() {
    let mut rig = Rig::up(config(0, 0));
    let refusal = "<ResetApplicationSessionTimerNegResponse><errorCode><definedError>\
                   invalidSessionID</definedError></errorCode>\
                   </ResetApplicationSessionTimerNegResponse>";
    rig.aes.instead.push(("ResetApplicationSessionTimer", String::new(), refusal.to_owned()));
    rig.advance(61 * SECOND);
    rig.position(|notice| {
        matches!(notice, Notice::SessionDown { cause: DownCause::Terminated { .. } })
    });
    rig.position(|notice| *notice == Notice::SessionUp { recovered: false });
}

#[test]
fn a_broken_length_drops_the_socket_and_the_session_is_taken_back() {
    let mut rig = Rig::up(config(1, 1));
    rig.advance(100 * SECOND);
    rig.bytes(b"\0\0\0\x039999<a/>");
    rig.serve();
    rig.position(|notice| *notice == down(DownCause::BrokenFrame));
    rig.position(|notice| *notice == Notice::SessionUp { recovered: true });
    assert_eq!(rig.closes.len(), 1);
}

#[test]
fn what_was_left_of_a_frame_is_forgotten_with_its_socket() {
    let mut rig = Rig::up(config(0, 0));
    rig.advance(100 * SECOND);
    let half = frame("9999", b"<MonitorStop/>");
    rig.bytes(&half[..12]);
    rig.lose_socket();
    rig.serve();
    rig.position(|notice| *notice == Notice::SessionUp { recovered: true });
    assert_eq!(rig.told(|notice| matches!(notice, Notice::ProtocolError { .. })), 0);
}

#[test]
fn a_start_that_is_not_answered_is_tried_on_a_new_socket() {
    let mut rig = Rig::new(config(0, 0));
    rig.aes.mute.insert("StartApplicationSession");
    rig.start();
    rig.advance(60 * SECOND);
    assert!((4..=6).contains(&rig.closes.len()));
    assert_eq!(rig.told(|notice| matches!(notice, Notice::SessionRefused { .. })), 1);
}
