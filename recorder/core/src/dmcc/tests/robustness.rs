//! Whatever the server sends, the link goes on.

use proptest::prelude::*;
use storage_core::{CallId, MonoTime};

use super::examples;
use super::rig::{Rig, SECOND, config, frame};
use crate::dmcc::{Fault, Link, Notice, Output};

fn count(rig: &Rig, fault: Fault) -> u64 {
    rig.link.counters().faults.get(&fault).copied().unwrap_or_default()
}

#[test]
fn bad_messages_are_counted_and_told_and_the_link_goes_on() {
    let mut rig = Rig::up(config(1, 1));
    let long = vec![b'x'; 65_527];
    let deep = "<a>".repeat(1000);
    for (number, body) in [
        ("9999", &b"\xff\xfe\0garbage"[..]),
        ("9999", b"<DeliveredEvent><monitorCr"),
        ("9999", b""),
        ("9999", &long),
        ("9999", deep.as_bytes()),
        ("9999", b"<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>"),
        ("9999", b"<SomethingNewEvent/>"),
        ("9999", b"<HeldEvent/>"),
        ("9999", b"<ClearConnectionResponse/>"),
        ("1234", b"<ClearConnectionResponse/>"),
        ("x!?-", b"<ClearConnectionResponse/>"),
        ("4321", b"<CSTAErrorCode><unspecified/></CSTAErrorCode>"),
    ] {
        rig.bytes(&frame(number, body));
    }
    assert_eq!(count(&rig, Fault::NotXml), 6);
    assert_eq!(count(&rig, Fault::UnknownMessage), 1);
    assert_eq!(count(&rig, Fault::MissingField), 1);
    assert_eq!(count(&rig, Fault::UnexpectedAnswer), 4);
    assert_eq!((rig.closes.len(), rig.connects.len()), (0, 1));
    rig.position(|notice| matches!(notice, Notice::ProtocolError { what: Fault::NotXml, .. }));
    rig.link.join(rig.now, 1, &CallId::new("7"), "31001".into(), &"41001".into());
    rig.serve();
    rig.position(|notice| matches!(notice, Notice::Joined { .. }));
}

#[test]
fn a_frame_that_is_not_completed_is_a_new_connection() {
    let mut rig = Rig::up(config(1, 1));
    // It claims 65 535 bytes: all that follows would be taken for its body.
    rig.bytes(b"\0\0\xff\xff9999<a>");
    rig.event("<DeliveredEvent/>");
    rig.advance(4 * SECOND);
    assert_eq!((count(&rig, Fault::BrokenFrame), rig.closes.len()), (0, 0));
    rig.advance(SECOND);
    assert_eq!((count(&rig, Fault::BrokenFrame), rig.closes.len()), (1, 1));
    rig.advance(5 * SECOND);
    assert_eq!(rig.connects.len(), 2);
    assert!(rig.link.is_up());
    // One that only comes slowly is waited for.
    let slow = frame("9999", b"<SomethingNewEvent/>");
    let (begin, end) = slow.split_at(10);
    rig.bytes(begin);
    rig.advance(4 * SECOND);
    rig.bytes(end);
    rig.advance(4 * SECOND);
    assert_eq!((count(&rig, Fault::BrokenFrame), count(&rig, Fault::UnknownMessage)), (1, 1));
}

#[test]
fn what_an_unreadable_event_may_have_told_is_asked_for_but_not_too_often() {
    let mut rig = Rig::up(config(1, 1));
    let resyncs = |rig: &Rig| rig.told(|notice| matches!(notice, Notice::ResyncDone { .. }));
    for _ in 0..600 {
        rig.event("<DeliveredEvent><monitorCr");
        rig.advance(SECOND / 10);
    }
    assert!((5..=7).contains(&resyncs(&rig)), "{}", resyncs(&rig));
    assert!((5..=7).contains(&rig.count("GetRegistrationState")));
    rig.advance(100 * SECOND);
    let before = resyncs(&rig);
    rig.event("<SomethingNewEvent/>");
    rig.advance(100 * SECOND);
    assert_eq!(resyncs(&rig), before);
}

#[test]
fn an_event_is_one_whatever_its_number() {
    let mut rig = Rig::up(config(0, 1));
    let monitor = rig.aes.monitor_of("31001", false);
    let event = super::rig::established(&monitor, "1207", "31001");
    for number in ["9999", "0001", "????"] {
        rig.bytes(&frame(number, event.as_bytes()));
    }
    assert_eq!(rig.told(|notice| matches!(notice, Notice::Call(_))), 3);
}

#[test]
fn an_answer_that_cannot_be_used_ends_the_wait_for_it() {
    let mut rig = Rig::up(config(1, 1));
    rig.aes.mute.insert("ResetApplicationSessionTimer");
    rig.advance(60 * SECOND);
    let invoke = rig.last("ResetApplicationSessionTimer").invoke;
    rig.say(invoke, "<ResetApplication");
    rig.aes.mute.clear();
    rig.advance(30 * SECOND);
    assert_eq!(rig.closes.len(), 0);
}

#[test]
fn an_answer_of_another_kind_fails_the_request_only() {
    let mut rig = Rig::new(config(2, 0));
    let other = "<SnapshotDeviceResponse/>".to_owned();
    rig.aes.instead.push(("GetDeviceId", "41001".to_owned(), other));
    rig.start();
    assert_eq!(count(&rig, Fault::WrongAnswer), 1);
    rig.position(|notice| *notice == Notice::PhantomReady { phantom: "41002".into() });
}

#[test]
fn no_secret_is_in_what_can_be_printed() {
    let mut link = Link::new(config(1, 1));
    link.start(MonoTime::default());
    link.handle_connected(MonoTime::default(), 1);
    let mut sent = 0;
    let printed = format!("{link:?}");
    while let Some(output) = link.poll_output() {
        sent += usize::from(matches!(output, Output::Send(_)));
        assert!(!format!("{output:?}").contains("Secret1!"));
    }
    assert_eq!(sent, 1);
    assert!(!printed.contains("Secret1!") && !printed.contains("123456"));
}

/// One input of any kind.
#[derive(Clone, Debug)]
enum Input {
    Message { invoke: u16, which: usize },
    Junk(Vec<u8>),
    Wait(u64),
    Closed,
    Connected,
    Failed,
    Join(u8),
    Leave(u8),
    Reload(u16),
    Stop,
    Start,
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        12 => (prop_oneof![Just(9999_u16), 0_u16..40], any::<usize>())
            .prop_map(|(invoke, which)| Input::Message { invoke, which }),
        1 => any::<Vec<u8>>().prop_map(Input::Junk),
        4 => (0_u64..400_000).prop_map(Input::Wait),
        1 => Just(Input::Closed),
        3 => Just(Input::Connected),
        1 => Just(Input::Failed),
        2 => any::<u8>().prop_map(Input::Join),
        2 => any::<u8>().prop_map(Input::Leave),
        1 => (0_u16..4).prop_map(Input::Reload),
        1 => Just(Input::Stop),
        1 => Just(Input::Start),
    ]
}

/// Feeds the inputs and returns all outputs; checks what must hold after each.
fn play(inputs: &[Input]) -> Vec<String> {
    let messages: Vec<&str> = examples().map(|(_, text)| text).collect();
    let mut link = Link::new(config(2, 2));
    let mut now = MonoTime::default();
    let mut outputs = Vec::new();
    link.start(now);
    for input in inputs {
        match input {
            Input::Message { invoke, which } => {
                let text = messages[which % messages.len()];
                link.handle_bytes(now, &frame(&format!("{invoke:04}"), text.as_bytes()));
            }
            Input::Junk(bytes) => link.handle_bytes(now, bytes),
            Input::Wait(millis) => {
                now = now + std::time::Duration::from_millis(*millis);
                link.handle_timeout(now);
            }
            Input::Closed => link.handle_closed(now, 3),
            Input::Connected => link.handle_connected(now, 4),
            Input::Failed => link.handle_connect_failed(now, 5),
            Input::Join(number) => {
                let party = ["31001", "41001", "32000"][usize::from(number % 3)];
                link.join(now, 1, &CallId::new("1207"), party.into(), &"41001".into());
            }
            Input::Leave(number) => {
                let device = ["31001", "41001", "32000"][usize::from(number % 3)];
                link.leave(now, &device.into(), &CallId::new("1207"));
            }
            Input::Reload(phantoms) => link.reload(now, config(*phantoms, 2)),
            Input::Stop => link.stop(now),
            Input::Start => link.start(now),
        }
        let before = outputs.len();
        while let Some(output) = link.poll_output() {
            outputs.push(format!("{output:?}"));
        }
        assert!(outputs.len() - before < 1000, "too much for one input");
        // A time that has come is dealt with when it is told; it does not come again and again.
        let mut rounds = 0;
        while link.poll_timeout().is_some_and(|at| at <= now) {
            link.handle_timeout(now);
            while link.poll_output().is_some() {}
            rounds += 1;
            assert!(rounds < 50, "{:?} at {now:?}", link.poll_timeout());
        }
    }
    outputs
}

proptest! {
    #[test]
    fn any_inputs_in_any_order_never_panic_and_give_the_same_twice(
        inputs in prop::collection::vec(input(), 0..120),
    ) {
        prop_assert_eq!(play(&inputs), play(&inputs));
    }
}
