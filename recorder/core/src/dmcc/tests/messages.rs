//! What the server says, as the dossier shows it, and with all the noise that must not matter.

use proptest::prelude::*;
use storage_core::{CallId, Extension};

use super::{example, examples};
use crate::call::event::{
    AgentEvent, CallChange, CallFacts, Connection, Device, MergedParty, PartyState,
};
use crate::dmcc::error::{CstaError, ErrorCategory};
use crate::dmcc::event::{Event, MonitorEvent};
use crate::dmcc::fields::{CrossRef, DeviceId, MessageError};
use crate::dmcc::message::{self, Message};
use crate::dmcc::response::Response;
use crate::dmcc::xml::{self, Element};

fn parse(text: &str) -> Message {
    message::parse(&xml::parse(text.as_bytes()).unwrap()).unwrap()
}

fn response(name: &str, number: usize) -> Response {
    match parse(example(name, number)) {
        Message::Response(response) => response,
        other => panic!("{other:?}"),
    }
}

fn event(name: &str, number: usize) -> (String, Event) {
    match parse(example(name, number)) {
        Message::Monitor(MonitorEvent { crossref, event }) => (crossref.to_string(), event),
        other => panic!("{other:?}"),
    }
}

fn call(name: &str) -> (CallChange, CallFacts) {
    match event(name, 1).1 {
        Event::Call(change, facts) => (*change, *facts),
        other => panic!("{other:?}"),
    }
}

fn number(text: &str) -> Device {
    Device::Number(text.into())
}

fn trunk(group: &str, member: &str) -> Device {
    Device::Trunk { group: group.to_owned(), member: member.to_owned() }
}

fn at(call: &str, device: Device) -> Connection {
    Connection { call: CallId::new(call), device }
}

#[test]
fn every_example_of_the_server_is_understood() {
    let requests = [
        "StartApplicationSession",
        "ResetApplicationSessionTimer",
        "StopApplicationSession",
        "GetDeviceId",
        "GetThirdPartyDeviceId",
        "ReleaseDeviceId",
        "RegisterTerminalRequest",
        "UnregisterTerminalRequest",
        "MonitorStart",
        "SingleStepConferenceCall",
        "ClearConnection",
        "SnapshotDevice",
        "SnapshotCall",
        "GetCallLinkageData",
        "GetAgentState",
        "SetHookswitchStatus",
        "ButtonPress",
        "SystemRegister",
    ];
    let mut count = 0;
    for (title, text) in examples() {
        let root = xml::parse(text.as_bytes()).unwrap();
        let understood = message::parse(&root);
        if requests.contains(&root.name.as_str()) {
            assert!(matches!(understood, Err(MessageError::Unknown { .. })), "{title}");
        } else {
            assert!(understood.is_ok(), "{title}: {understood:?}");
            count += 1;
        }
    }
    assert!(count >= 40, "{count}");
}

#[test]
fn session_answers() {
    let Response::SessionStarted(grant) = response("StartApplicationSessionPosResponse", 1) else {
        panic!()
    };
    assert_eq!(grant.session, "0F3A5C7E91B2D4F6081A2C3E4D5F6A7B-0");
    assert_eq!(grant.seconds, Some(180));
    assert!(grant.version.unwrap().ends_with("ed3/privC"));
    let Response::SessionRefused(refusal) = response("StartApplicationSessionNegResponse", 1)
    else {
        panic!()
    };
    assert_eq!(refusal.defined, "invalidApplicationInfo");
    assert_eq!(
        response("ResetApplicationSessionTimerPosResponse", 1),
        Response::TimerReset(Some(180))
    );
    let ended = parse(example("ApplicationSessionTerminated", 1));
    let session = Some("0F3A5C7E91B2D4F6081A2C3E4D5F6A7B-0".to_owned());
    let reason = "sessionTimerExpired".to_owned();
    assert_eq!(ended, Message::SessionTerminated { session, reason });
}

#[test]
fn a_refusal_in_the_servers_own_words() {
    let text = "<StartApplicationSessionNegResponse><errorCode><applError>no such user</applError>\
                </errorCode></StartApplicationSessionNegResponse>";
    let Message::Response(Response::SessionRefused(refusal)) = parse(text) else { panic!() };
    assert_eq!((refusal.defined.as_str(), refusal.detail.as_str()), ("", "no such user"));
}

#[test]
fn device_and_monitor_answers() {
    for (name, id) in [
        ("GetDeviceIdResponse", "41001:cm1:0.0.0.0:1"),
        ("GetThirdPartyDeviceIdResponse", "31002:cm1::0"),
    ] {
        assert_eq!(response(name, 1), Response::DeviceId(DeviceId::new(id)));
    }
    assert_eq!(response("MonitorStartResponse", 1), Response::MonitorStarted(CrossRef::new("12")));
    assert_eq!(event("MonitorStop", 1), ("12".to_owned(), Event::MonitorStopped));
}

#[test]
fn registration_answers() {
    let Response::Registration(good) = response("RegisterTerminalResponse", 1) else { panic!() };
    assert!(good.encrypted_signaling);
    assert_eq!((good.code, good.reason.as_str()), (Some(1), ""));
    assert_eq!(good.device, Some(DeviceId::new("41001:cm1:0.0.0.0:0")));
    let Response::Registration(bad) = response("RegisterTerminalResponse", 2) else { panic!() };
    assert!(!bad.encrypted_signaling && bad.reason.contains("securityDenial"));
    assert_eq!(bad.code, Some(63_773));
    let (monitor, lost) = event("TerminalUnregisteredEvent", 1);
    let Event::TerminalUnregistered { code, reason } = lost else { panic!() };
    assert_eq!((monitor.as_str(), code), ("12", Some(2018)));
    assert!(reason.ends_with("2018-Rebooting Ext released"));
    let (_, back) = event("TerminalReregisteredEvent", 1);
    assert!(matches!(back, Event::TerminalReregistered(answer) if answer == good));
}

#[test]
fn media_events() {
    let (monitor, Event::MediaStarted(media)) = event("MediaStartEvent", 1) else { panic!() };
    assert_eq!(monitor, "12");
    assert_eq!(media.source, Some("192.0.2.5:2050".parse().unwrap()));
    assert_eq!((media.codec.as_str(), media.packet_ms), ("g711A", Some(20)));
    assert_eq!(media.encryption.as_deref(), Some("none"));
    assert_eq!(event("MediaStopEvent", 1), ("12".to_owned(), Event::MediaStopped));
    let bare = "<MediaStartEvent><monitorCrossRefID>1</monitorCrossRefID></MediaStartEvent>";
    let Message::Monitor(MonitorEvent { event: Event::MediaStarted(media), .. }) = parse(bare)
    else {
        panic!()
    };
    assert_eq!((media.source, media.packet_ms, media.encryption), (None, None, None));
    assert_eq!((media.receive_key.expose(), media.receive_salt.expose()), ("", ""));
}

#[test]
fn media_keys_are_read_and_not_printed() {
    let text = "<MediaStartEvent><monitorCrossRefID>1</monitorCrossRefID><encryption>\
        <protocol>1-srtp-aescm128-hmac80</protocol><transmitKey>a1a1</transmitKey>\
        <receiveKey>b2b2</receiveKey><payloadType>0</payloadType>\
        <transmitSalt>c3c3</transmitSalt><receiveSalt>d4d4</receiveSalt></encryption>\
        </MediaStartEvent>";
    let Message::Monitor(MonitorEvent { event, .. }) = parse(text) else { panic!() };
    let printed = format!("{event:?}");
    let Event::MediaStarted(media) = event else { panic!() };
    assert_eq!(media.encryption.as_deref(), Some("1-srtp-aescm128-hmac80"));
    assert_eq!((media.receive_key.expose(), media.receive_salt.expose()), ("b2b2", "d4d4"));
    assert!(!printed.contains("b2b2") && !printed.contains("d4d4"), "{printed}");
}

#[test]
fn a_delivered_call_with_all_its_facts() {
    let (change, facts) = call("DeliveredEvent");
    let connection = at("1207", number("31002"));
    assert_eq!(change, CallChange::Delivered { connection, alerting: number("31002") });
    assert_eq!(facts.ucid.unwrap().as_str(), "00001012071700000000");
    assert_eq!(facts.calling, Some(number("5551230001")));
    assert_eq!(facts.called, Some(number("50100")));
    assert_eq!(
        (facts.trunkgroup.as_deref(), facts.trunkmember.as_deref()),
        (Some("12"), Some("3"))
    );
    assert_eq!(facts.split, Some(Extension::new("60001")));
    assert_eq!(facts.vdn, Some(Extension::new("50100")));
    assert_eq!(facts.userdata.as_deref(), Some(&b"Hello"[..]));
    assert_eq!(facts.cause.as_deref(), Some("newCall"));
}

#[test]
fn each_change_of_a_call() {
    let agent = || at("1207", number("31002"));
    let consult = |device| at("1208", number(device));
    let cases = [
        (
            "EstablishedEvent",
            CallChange::Established { connection: agent(), answering: number("31002") },
        ),
        (
            "QueuedEvent",
            CallChange::Queued { connection: at("1207", number("60001")), queue: number("60001") },
        ),
        ("ServiceInitiatedEvent", CallChange::ServiceInitiated(consult("31002"))),
        ("OriginatedEvent", CallChange::Originated(consult("31002"))),
        ("NetworkReachedEvent", CallChange::NetworkReached(at("1209", trunk("12", "4")))),
        ("HeldEvent", CallChange::Held(agent())),
        ("RetrievedEvent", CallChange::Retrieved(agent())),
        ("DivertedEvent", CallChange::Diverted { connection: agent(), to: number("31009") }),
        ("FailedEvent", CallChange::Failed(consult("31003"))),
        (
            "ConnectionClearedEvent",
            CallChange::ConnectionCleared { connection: agent(), releasing: number("31002") },
        ),
        ("CallClearedEvent", CallChange::CallCleared(CallId::new("1207"))),
    ];
    for (name, change) in cases {
        assert_eq!(call(name).0, change, "{name}");
    }
    assert_eq!(call("OriginatedEvent").1.agentid.as_deref(), Some("7002"));
}

#[test]
fn a_conference_and_a_transfer() {
    let (CallChange::Conferenced(merge), _) = call("ConferencedEvent") else { panic!() };
    assert_eq!(merge.primary, at("1207", number("31002")));
    assert_eq!(merge.secondary, Some(at("1208", number("31002"))));
    assert_eq!((merge.by, merge.added), (number("31002"), number("31003")));
    assert_eq!(merge.parties.len(), 3);
    assert_eq!(merge.parties[1].old, Some(at("1208", number("31003"))));
    assert_eq!(merge.parties[2].new, at("1207", trunk("12", "3")));
    assert_eq!(merge.parties[2].endpoint, Device::Unknown);

    let (CallChange::Transferred(merge), _) = call("TransferedEvent") else { panic!() };
    assert_eq!((merge.by, merge.added), (number("31002"), number("31003")));
    let customer = MergedParty {
        new: at("1207", trunk("12", "3")),
        old: None,
        endpoint: Device::Unknown,
        trunk: Some(("12".to_owned(), "3".to_owned())),
    };
    assert_eq!(merge.parties[1], customer);
    assert_eq!(merge.new_ucid.unwrap().as_str(), "00001012071700000000");
    assert_eq!(merge.old_ucid.unwrap().as_str(), "00001012081700000042");
}

#[test]
fn the_call_before_a_consultation() {
    let text = "<EstablishedEvent><monitorCrossRefID>1</monitorCrossRefID>\
        <establishedConnection><callID>7</callID></establishedConnection><extensions><privateData>\
        <private><EstablishedEventPrivateData><originalCallInfo><reason>none</reason>\
        <networkCallingDevice><deviceIdentifier>5551230001:cm1::0</deviceIdentifier>\
        </networkCallingDevice><trunkGroup>12</trunkGroup><userData><string>00ff</string>\
        </userData></originalCallInfo></EstablishedEventPrivateData></private></privateData>\
        </extensions></EstablishedEvent>";
    let Message::Monitor(MonitorEvent { event: Event::Call(_, facts), .. }) = parse(text) else {
        panic!()
    };
    let original = facts.original.unwrap();
    assert_eq!(original.calling, Some(number("5551230001")));
    assert_eq!((original.called, original.trunkgroup.as_deref()), (None, Some("12")));
    assert_eq!(original.userdata, Some(vec![0, 0xff]));
}

#[test]
fn tap_and_snapshot_answers() {
    let Response::Joined(joined) = response("SingleStepConferenceCallResponse", 1) else {
        panic!()
    };
    assert_eq!(joined.call, Some(CallId::new("1207")));
    assert_eq!(joined.ucid.unwrap().as_str(), "00001012071700000000");
    assert_eq!(joined.parties, [number("31002"), trunk("12", "3"), number("41001")]);
    assert_eq!(response("ClearConnectionResponse", 1), Response::Done);
    let calls = vec![CallId::new("1207")];
    assert_eq!(response("SnapshotDeviceResponse", 1), Response::DeviceCalls(calls));
    let Response::Call(snapshot) = response("SnapshotCallResponse", 1) else { panic!() };
    let talking = |device| (device, PartyState::Connected);
    assert_eq!(snapshot.parties, [talking(number("31002")), talking(trunk("12", "3"))]);
    assert_eq!(snapshot.facts.ucid.unwrap().as_str(), "00001012071700000000");
    let Response::Linkage(ucid) = response("GetCallLinkageDataResponse", 1) else { panic!() };
    assert_eq!(ucid.unwrap().as_str(), "00001012071700000000");
}

#[test]
fn agents() {
    assert_eq!(response("GetAgentStateResponse", 1), Response::Agent(Some("7002".to_owned())));
    let agent = AgentEvent {
        station: "31002".into(),
        agentid: Some("7002".to_owned()),
        split: Some("60001".into()),
    };
    for name in ["AgentLoggedOnEvent", "AgentNotReadyEvent"] {
        assert_eq!(event(name, 1), ("23".to_owned(), Event::Agent(agent.clone())));
    }
    let text = example("AgentLoggedOnEvent", 1).replace("LoggedOn", "LoggedOff");
    let Message::Monitor(MonitorEvent { event, .. }) = parse(&text) else { panic!() };
    assert_eq!(event, Event::Agent(AgentEvent { agentid: None, ..agent }));
}

#[test]
fn errors_and_the_switch_link() {
    for (number, category, detail) in [
        (1, ErrorCategory::Operation, "invalidDeviceID"),
        (2, ErrorCategory::SystemResource, "resourceBusy"),
        (3, ErrorCategory::Unspecified, ""),
    ] {
        let error = CstaError::new(category, detail);
        assert_eq!(parse(example("CSTAErrorCode", number)), Message::Error(error));
    }
    let Message::SystemStatus(status) = parse(example("SystemStatus", 1)) else { panic!() };
    assert_eq!(status.of_switch("cm1"), Some(false));
    assert_eq!(status.of_switch("cm2"), None);
    let bare = "<SystemStatus><systemStatus>normal</systemStatus></SystemStatus>";
    let Message::SystemStatus(status) = parse(bare) else { panic!() };
    assert_eq!(status.of_switch("cm1"), Some(true));
}

#[test]
fn a_message_without_its_essential_field_is_named() {
    for (text, error) in [
        ("<HeldEvent><monitorCrossRefID>1</monitorCrossRefID></HeldEvent>", "heldConnection"),
        ("<MediaStopEvent/>", "monitorCrossRefID"),
        ("<GetDeviceIdResponse/>", "device"),
        ("<StartApplicationSessionPosResponse/>", "sessionID"),
    ] {
        let found = message::parse(&xml::parse(text.as_bytes()).unwrap()).unwrap_err();
        assert!(matches!(found, MessageError::Missing { field, .. } if field == error), "{text}");
    }
}

/// Another order of children with different names, unknown elements, and nothing else changed.
fn disturb(element: &mut Element, seed: u64) {
    let key = |name: &str| {
        name.bytes()
            .fold(seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    };
    element.children.iter_mut().for_each(|child| disturb(child, seed));
    element.children.sort_by_key(|child| key(&child.name));
    let noise = Element { name: "newIn12".to_owned(), text: String::new(), children: Vec::new() };
    let place = usize::try_from(seed % 7).unwrap().min(element.children.len());
    element.children.insert(place, noise);
}

proptest! {
    #[test]
    fn order_and_unknown_elements_do_not_matter(seed: u64) {
        for (title, text) in examples() {
            let root = xml::parse(text.as_bytes()).unwrap();
            let mut disturbed = root.clone();
            disturb(&mut disturbed, seed);
            prop_assert_eq!(message::parse(&disturbed), message::parse(&root), "{}", title);
        }
    }

    #[test]
    fn a_message_cut_or_overwritten_anywhere_never_panics(
        cut in any::<prop::sample::Index>(),
        junk in any::<Vec<u8>>(),
        which in any::<prop::sample::Index>(),
    ) {
        let all: Vec<_> = examples().collect();
        let mut bytes = all[which.index(all.len())].1.as_bytes().to_vec();
        let start = cut.index(bytes.len());
        let end = (start + junk.len()).min(bytes.len());
        bytes.splice(start..end, junk);
        if let Ok(root) = xml::parse(&bytes) {
            let _ = message::parse(&root);
        }
    }

    #[test]
    fn any_tree_of_known_names_never_panics(picks in prop::collection::vec(any::<u16>(), 1..60)) {
        let mut names: Vec<String> = Vec::new();
        for (_, text) in examples() {
            collect_names(&xml::parse(text.as_bytes()).unwrap(), &mut names);
        }
        let mut root = Element::default();
        for (index, pick) in picks.iter().enumerate() {
            let name = names[usize::from(*pick) % names.len()].clone();
            if index == 0 {
                root.name = name;
                continue;
            }
            let mut parent = &mut root;
            for _ in 0..pick % 4 {
                if parent.children.is_empty() {
                    break;
                }
                parent = parent.children.last_mut().expect("it is not empty");
            }
            let text = if pick % 3 == 0 { "1".to_owned() } else { String::new() };
            parent.children.push(Element { name, text, children: Vec::new() });
        }
        let _ = message::parse(&root);
    }
}

fn collect_names(element: &Element, names: &mut Vec<String>) {
    names.push(element.name.clone());
    element.children.iter().for_each(|child| collect_names(child, names));
}
