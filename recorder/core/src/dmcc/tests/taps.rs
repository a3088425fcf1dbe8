//! Phantoms into calls and out of them.

use storage_core::{CallId, Extension};

use super::rig::{Rig, SECOND, config, error};
use crate::dmcc::{CstaError, ErrorCategory, Notice};
use crate::media::srtp::{KeyFault, Protection};

fn join(rig: &mut Rig, party: &str) {
    rig.link.join(rig.now, 5, &CallId::new("1207"), party.into(), &"41001".into());
    rig.serve();
}

fn phantom() -> Extension {
    "41001".into()
}

#[test]
fn a_phantom_joins_silently_and_leaves() {
    let mut rig = Rig::up(config(1, 1));
    join(&mut rig, "31001");
    let request = rig.last("SingleStepConferenceCall");
    assert_eq!(request.root.all_text(), "31001:cm1::0 1207 41001:cm1::0 silent");
    let call = CallId::new("1207");
    assert_eq!(
        rig.notices,
        [Notice::Joined {
            ticket: 5,
            phantom: phantom(),
            call: call.clone(),
            ucid: None,
            parties: vec![]
        }]
    );
    rig.link.leave(rig.now, &phantom(), &call);
    rig.serve();
    assert_eq!(rig.last("ClearConnection").root.all_text(), "41001:cm1::0 1207");
    assert_eq!(rig.notices[1], Notice::Left { phantom: phantom(), call });
}

#[test]
fn only_our_phantoms_are_ever_taken_out_of_a_call() {
    let mut rig = Rig::up(config(1, 1));
    for device in ["31001", "50100", "5551230001"] {
        rig.link.leave(rig.now, &device.into(), &CallId::new("1207"));
        rig.serve();
    }
    assert_eq!(rig.count("ClearConnection"), 0);
    let refused = |notice: &Notice| matches!(notice, Notice::LeaveRefused { error, .. } if error.category == ErrorCategory::NotSent);
    assert_eq!(rig.told(refused), 3);
}

#[test]
fn a_refusal_comes_with_its_category() {
    let mut rig = Rig::up(config(1, 1));
    let full = error("systemResourceAvailibility", "conferenceMemberLimitExceeded");
    rig.aes.instead.push(("SingleStepConferenceCall", String::new(), full));
    join(&mut rig, "31001");
    let error = CstaError::new(ErrorCategory::SystemResource, "conferenceMemberLimitExceeded");
    assert!(error.is_party_limit());
    assert_eq!(rig.notices, [Notice::JoinRefused { ticket: 5, phantom: phantom(), error }]);
    assert_eq!(rig.link.counters().errors[&ErrorCategory::SystemResource], 1);
}

#[test]
fn a_party_that_is_not_watched_is_named_first_and_then_known() {
    let mut rig = Rig::up(config(1, 0));
    join(&mut rig, "32007");
    join(&mut rig, "32007");
    assert_eq!(rig.count("GetThirdPartyDeviceId"), 1);
    assert_eq!(rig.told(|notice| matches!(notice, Notice::Joined { .. })), 2);
    rig.aes.instead.push((
        "GetThirdPartyDeviceId",
        String::new(),
        error("operation", "invalidDeviceID"),
    ));
    join(&mut rig, "32008");
    assert_eq!(rig.told(|notice| matches!(notice, Notice::JoinRefused { .. })), 1);
}

#[test]
fn nothing_is_sent_for_a_phantom_that_is_not_registered_or_without_a_session() {
    let mut rig = Rig::new(config(1, 1));
    rig.aes.mute.insert("RegisterTerminalRequest");
    join(&mut rig, "31001");
    rig.start();
    join(&mut rig, "31001");
    rig.link.join(rig.now, 6, &CallId::new("1207"), "31001".into(), &"31001".into());
    rig.serve();
    let refused = |notice: &Notice| matches!(notice, Notice::JoinRefused { error, .. } if error.category == ErrorCategory::NotSent);
    assert_eq!(rig.told(refused), 3);
    assert_eq!(rig.count("SingleStepConferenceCall"), 0);
}

#[test]
fn a_late_answer_still_tells_that_the_phantom_is_in() {
    let mut rig = Rig::up(config(1, 1));
    rig.aes.mute.insert("SingleStepConferenceCall");
    join(&mut rig, "31001");
    rig.advance(10 * SECOND);
    assert_eq!(rig.notices, [Notice::JoinTimedOut { ticket: 5, phantom: phantom() }]);
    let invoke = rig.last("SingleStepConferenceCall").invoke;
    rig.say(invoke, super::example("SingleStepConferenceCallResponse", 1));
    let Notice::Joined { ticket: 5, ucid: Some(_), parties, .. } = &rig.notices[1] else {
        panic!("{:?}", rig.notices)
    };
    assert_eq!(parties.len(), 3);
    assert_eq!(rig.link.counters().timeouts, 1);
}

#[test]
fn a_join_that_is_never_answered_is_told_once() {
    let mut rig = Rig::up(config(1, 1));
    rig.aes.mute.insert("SingleStepConferenceCall");
    join(&mut rig, "31001");
    rig.advance(600 * SECOND);
    assert_eq!(rig.told(|notice| matches!(notice, Notice::JoinTimedOut { .. })), 1);
    assert_eq!(rig.told(|notice| matches!(notice, Notice::JoinRefused { .. })), 0);
    let invoke = rig.last("SingleStepConferenceCall").invoke;
    rig.say(invoke, super::example("SingleStepConferenceCallResponse", 1));
    assert_eq!(rig.told(|notice| matches!(notice, Notice::Joined { .. })), 0);
    assert_eq!(rig.told(|notice| matches!(notice, Notice::ProtocolError { .. })), 1);
}

#[test]
fn what_is_open_when_the_socket_breaks_is_told() {
    let mut rig = Rig::up(config(1, 1));
    rig.aes.mute.extend(["SingleStepConferenceCall", "ClearConnection", "SnapshotCall"]);
    join(&mut rig, "31001");
    let call = CallId::new("1207");
    rig.link.leave(rig.now, &phantom(), &call);
    rig.link.snapshot_call(rig.now, &call, "31001".into());
    rig.aes.mute.insert("GetThirdPartyDeviceId");
    join(&mut rig, "32007");
    rig.lose_socket();
    assert_eq!(rig.told(|notice| matches!(notice, Notice::JoinTimedOut { .. })), 1);
    assert_eq!(rig.told(|notice| matches!(notice, Notice::JoinRefused { .. })), 1);
    assert_eq!(rig.told(|notice| matches!(notice, Notice::LeaveRefused { .. })), 1);
    assert_eq!(rig.told(|notice| matches!(notice, Notice::SnapshotRefused { .. })), 1);
}

#[test]
fn a_call_is_looked_at_on_request() {
    let mut rig = Rig::up(config(1, 1));
    let (call, gone) = (CallId::new("1207"), CallId::new("9"));
    let parties = vec!["31001".to_owned()];
    rig.aes.calls.insert("31001".to_owned(), vec![("1207".to_owned(), parties)]);
    rig.link.snapshot_call(rig.now, &call, "31001".into());
    rig.link.snapshot_call(rig.now, &gone, "31001".into());
    rig.aes.instead.push((
        "GetCallLinkageData",
        String::new(),
        super::example("GetCallLinkageDataResponse", 1).to_owned(),
    ));
    rig.link.call_linkage(rig.now, &call, "31001".into());
    rig.serve();
    assert!(matches!(&rig.notices[0], Notice::Snapshot(snapshot) if snapshot.call == call));
    assert_eq!(rig.notices[1], Notice::SnapshotCallGone { call: gone, party: "31001".into() });
    assert!(matches!(&rig.notices[2], Notice::Linkage { ucid: Some(_), .. }));
}

#[test]
fn media_of_a_phantom_is_told_as_it_is_now() {
    let mut rig = Rig::up(config(1, 0));
    let monitor = rig.aes.monitor_of("41001", true);
    let number = format!("<c:monitorCrossRefID>{monitor}</c:monitorCrossRefID>");
    let start = super::example("MediaStartEvent", 1)
        .replace("<c:monitorCrossRefID>12</c:monitorCrossRefID>", &number);
    rig.event(&start);
    rig.event(
        &start.replace("192.0.2.5", "media.example").replace("<protocol>none", "<protocol>AES"),
    );
    rig.event(&format!(
        "<MediaStopEvent><monitorCrossRefID>{monitor}</monitorCrossRefID></MediaStopEvent>"
    ));
    let Notice::MediaStarted { source, codec, packet_ms: 20, protection, .. } = &rig.notices[0]
    else {
        panic!("{:?}", rig.notices)
    };
    assert_eq!(*source, Some("192.0.2.5:2050".parse().unwrap()));
    assert_eq!((codec.as_str(), protection), ("g711a", &Protection::Clear));
    let Notice::MediaStarted { source: None, protection, .. } = &rig.notices[1] else {
        panic!("{:?}", rig.notices)
    };
    assert_eq!(*protection, Protection::Unusable(KeyFault::Key { suite: "aes" }));
    assert_eq!(rig.notices[2], Notice::MediaStopped { phantom: (&phantom()).into() });
}
