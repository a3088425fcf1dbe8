//! One AES with its switch, without sockets: messages in as text, messages out as text, held
//! against the samples of the protocol description.

use std::collections::{BTreeMap, BTreeSet};

use quick_xml::events::Event;
use quick_xml::name::ResolveResult;
use quick_xml::reader::NsReader;

use crate::aes::{ConnId, Output};
use crate::config::SiteConfig;
use crate::time::Time;
use crate::wire::{Style, read};
use crate::world::{Effect, World};

const SAMPLES: &str = include_str!("../../testdata/samples.xml");
const CONN: ConnId = ConnId(1);

/// A world with one client, logged in as the sample does it.
struct Bench {
    world: World,
    now: Time,
    said: Vec<String>,
}

impl Bench {
    fn new() -> Self {
        let mut config = SiteConfig::demo(3, 1);
        // The samples' own numbers.
        config.stations = vec!["31001-31003".to_owned(), "31009".to_owned()];
        config.phantoms[0].extensions = "41001-41005".to_owned();
        config.switches.outside_answer_ms = Some(0);
        config.aes[0].registration_ms = 0;
        let media = "192.0.2.5:2050".parse().unwrap();
        let mut world = World::new(&config, 1_700_000_000_000, &[media]).unwrap();
        world.connected(0, CONN);
        let mut bench = Self { world, now: Time::from_millis(5), said: Vec::new() };
        bench.ask(sample("StartApplicationSession"));
        bench
    }

    /// Sends a request and gives back everything that the server said because of it.
    fn ask(&mut self, request: &str) -> Vec<String> {
        self.now = self.now.after_millis(1);
        let request = read::parse(request.as_bytes()).unwrap();
        self.world.message(self.now, 0, CONN, *b"0001", Some(&request));
        self.settle()
    }

    /// Lets people do something.
    fn people<R>(&mut self, act: impl FnOnce(&mut World, Time) -> R) -> R {
        self.now = self.now.after_millis(1);
        let result = act(&mut self.world, self.now);
        self.settle();
        result
    }

    fn settle(&mut self) -> Vec<String> {
        self.world.settle(self.now);
        self.world.on_time(self.now);
        let said: Vec<String> = self
            .world
            .take_effects()
            .into_iter()
            .filter_map(|effect| match effect {
                Effect::Wire { output: Output::Send { message, .. }, .. } => Some(message),
                _ => None,
            })
            .map(|message| String::from_utf8(message.to_bytes(Style::default())).unwrap())
            .collect();
        self.said.extend(said.iter().cloned());
        said
    }
}

/// The first sample whose root has that name.
fn sample(name: &str) -> &'static str {
    samples().into_iter().find(|text| read::parse(text.as_bytes()).unwrap().name == name).unwrap()
}

/// All samples, each as its own text.
fn samples() -> Vec<&'static str> {
    let mut reader = NsReader::from_str(SAMPLES);
    let (mut depth, mut from, mut all) = (0, 0, Vec::new());
    loop {
        let at = usize::try_from(reader.buffer_position()).unwrap();
        match reader.read_event().unwrap() {
            Event::Start(_) => {
                depth += 1;
                if depth == 2 {
                    from = at;
                }
            }
            Event::End(_) => {
                depth -= 1;
                if depth == 1 {
                    all.push(&SAMPLES[from..usize::try_from(reader.buffer_position()).unwrap()]);
                }
            }
            Event::Empty(_) if depth == 1 => {
                all.push(&SAMPLES[at..usize::try_from(reader.buffer_position()).unwrap()]);
            }
            Event::Eof => return all,
            _ => {}
        }
    }
}

/// What is compared of a message.
#[derive(Default)]
struct Shape {
    /// Path of an element from the root, and its namespace.
    namespaces: BTreeSet<(String, String)>,
    /// Path of an element, and two of its children of which the first came before the second.
    order: BTreeSet<(String, String, String)>,
}

impl Shape {
    fn of(text: &str) -> Self {
        let mut shape = Self::default();
        let mut reader = NsReader::from_str(text);
        let mut open: Vec<(String, Vec<String>)> = Vec::new();
        loop {
            let (ns, event) = reader.read_resolved_event().unwrap();
            let ns = match ns {
                ResolveResult::Bound(ns) => ns.as_ref().to_owned(),
                _ => String::new(),
            };
            let (tag, empty) = match &event {
                Event::Start(tag) => (tag, false),
                Event::Empty(tag) => (tag, true),
                Event::End(_) => {
                    open.pop();
                    continue;
                }
                Event::Eof => return shape,
                _ => continue,
            };
            let name = tag.local_name().as_ref().to_owned();
            let path = match open.last_mut() {
                Some((path, before)) => {
                    let earlier = before.iter().filter(|earlier| **earlier != name);
                    shape.order.extend(earlier.map(|e| (path.clone(), e.clone(), name.clone())));
                    before.push(name.clone());
                    format!("{path}/{name}")
                }
                None => name,
            };
            shape.namespaces.insert((path.clone(), ns));
            if !empty {
                open.push((path, Vec::new()));
            }
        }
    }
}

#[test]
fn the_reader_reads_every_sample() {
    assert!(samples().len() > 80);
    for text in samples() {
        let element = read::parse(text.as_bytes()).unwrap();
        assert!(!element.name.is_empty());
    }
}

/// What we say has the namespaces of the samples, and what both have comes in the same order.
#[test]
fn our_messages_have_the_shape_of_the_samples() {
    let said = a_day_at_the_office();
    let mut of_name: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for text in samples() {
        of_name.entry(read::parse(text.as_bytes()).unwrap().name).or_default().push(text);
    }
    let mut held_against = BTreeSet::new();
    for text in &said {
        let name = read::parse(text.as_bytes()).unwrap().name;
        let Some(samples) = of_name.get(&name) else { continue };
        held_against.insert(name.clone());
        for sample in samples {
            compare(&name, text, sample);
        }
    }
    for name in [
        "StartApplicationSessionPosResponse",
        "ResetApplicationSessionTimerPosResponse",
        "GetDeviceIdResponse",
        "GetThirdPartyDeviceIdResponse",
        "RegisterTerminalResponse",
        "MonitorStartResponse",
        "MonitorStopResponse",
        "DeliveredEvent",
        "EstablishedEvent",
        "QueuedEvent",
        "ServiceInitiatedEvent",
        "OriginatedEvent",
        "HeldEvent",
        "RetrievedEvent",
        "DivertedEvent",
        "FailedEvent",
        "ConferencedEvent",
        "TransferedEvent",
        "ConnectionClearedEvent",
        "CallClearedEvent",
        "SingleStepConferenceCallResponse",
        "ClearConnectionResponse",
        "MakeCallResponse",
        "ConsultationCallResponse",
        "TransferCallResponse",
        "ConferenceCallResponse",
        "SingleStepTransferCallResponse",
        "SnapshotDeviceResponse",
        "SnapshotCallResponse",
        "GetCallLinkageDataResponse",
        "GetAgentStateResponse",
        "SystemRegisterResponse",
        "SystemStatus",
        "MediaStartEvent",
        "MediaStopEvent",
        "TerminalUnregisteredEvent",
        "EndpointRegistrationInfoResponse",
        "RedirectMediaResponse",
        "UnregisterTerminalResponse",
        "ReleaseDeviceIdResponse",
        "StopApplicationSessionPosResponse",
        "AgentLoggedOnEvent",
        "AgentNotReadyEvent",
        "CSTAErrorCode",
    ] {
        assert!(held_against.contains(name), "the simulator never said {name}");
    }
}

fn compare(name: &str, ours: &str, sample: &str) {
    let (ours, sample) = (Shape::of(ours), Shape::of(sample));
    for (path, ns) in &ours.namespaces {
        for (other, expected) in &sample.namespaces {
            assert!(path != other || ns == expected, "{name}: {path} is in {ns}");
        }
    }
    for (path, first, second) in &ours.order {
        // A connection's two members may come either way round.
        let either = first.ends_with("ID") && second.ends_with("ID");
        let other_way = (path.clone(), second.clone(), first.clone());
        let wrong = !either && sample.order.contains(&other_way);
        assert!(!wrong, "{name}: in {path}, {second} comes before {first}");
    }
}

/// Everything the simulator says when everything happens once.
fn a_day_at_the_office() -> Vec<String> {
    let mut bench = Bench::new();
    bench.ask(
        &sample("ResetApplicationSessionTimer")
            .replace("0F3A5C7E91B2D4F6081A2C3E4D5F6A7B-0", &bench.world.aes[0].session_ids()[0]),
    );
    let text = sample("GetDeviceId").replace("<deviceInstance>1", "<deviceInstance>0");
    bench.ask(&text);
    for number in ["31001", "31002", "31003", "31009", "50100", "60001"] {
        bench.ask(&sample("GetThirdPartyDeviceId").replace("31002", number));
    }
    // The samples' monitors: a phantom, a station, a VDN.
    let monitors: Vec<&str> =
        samples().into_iter().filter(|text| text.starts_with("<MonitorStart ")).collect();
    assert_eq!(monitors.len(), 3);
    bench.ask(monitors[0]);
    for station in ["31001", "31002", "31003"] {
        bench.ask(&monitors[1].replace("31002", station));
    }
    bench.ask(monitors[2]);
    bench.ask(&monitors[1].replace("31002", "60001"));
    bench.ask(sample("SystemRegister"));
    bench.ask(sample("RegisterTerminalRequest"));
    let on_calls = calls_of_the_day(&mut bench);
    bench.people(|world, _| world.aes[0].set_link(false));
    bench.people(|world, _| world.aes[0].set_link(true));
    use crate::switch::AgentState;
    for state in [AgentState::NotReady(3), AgentState::LoggedOff, AgentState::Ready] {
        bench.people(|world, now| world.switch.set_agent(now, "7002", state).unwrap());
    }
    bench.ask(sample("EndpointRegistrationInfoRequest").replace("0.0.0.0:0", ":0").as_str());
    bench.ask(sample("RedirectMediaRequest"));
    bench.people(|world, now| {
        world.switch.force_unregister(now, &"41001".into(), 2018, "2018-Rebooting Ext released");
    });
    bench.ask(sample("RegisterTerminalRequest"));
    bench.ask(sample("UnregisterTerminalRequest"));
    bench.ask(sample("ReleaseDeviceId").replace("0.0.0.0:1", "0.0.0.0:0").as_str());
    bench.ask("<Nonsense/>");
    let session = bench.world.aes[0].session_ids()[0].clone();
    let stop = sample("StopApplicationSession");
    bench.ask(&stop.replace("0F3A5C7E91B2D4F6081A2C3E4D5F6A7B-0", &session));
    assert!(on_calls > 0);
    bench.said
}

/// Calls of every kind; the requests are the samples', with the call IDs of the moment.
fn calls_of_the_day(bench: &mut Bench) -> usize {
    let said = bench.said.len();
    let id = |bench: &Bench, station: &str, at: usize| {
        bench.world.switch.calls_at(&station.into())[at].to_string()
    };
    // Everybody but 31002 is away, so that calls come to the station of the samples.
    for agent in ["7001", "7003"] {
        let away = crate::switch::AgentState::NotReady(1);
        bench.people(|world, now| world.switch.set_agent(now, agent, away).unwrap());
    }
    let first = bench
        .people(|world, now| world.switch.inbound(now, "5551230001", "50100", b"Hello").unwrap());
    bench.people(|world, now| world.switch.divert(now, &"31002".into(), &"31009".into()).unwrap());
    bench.people(|world, now| world.switch.hang_up_outside(now, first).unwrap());

    let second = bench
        .people(|world, now| world.switch.inbound(now, "5551230002", "50100", b"Hello").unwrap());
    let call = id(bench, "31002", 0);
    let with = |name: &str| sample(name).replace("1207", &call);
    bench.ask(&with("AnswerCall"));
    bench.ask(&with("SingleStepConferenceCall"));
    bench.ask(sample("SnapshotDevice"));
    for name in ["SnapshotCall", "GetCallLinkageData", "GetAgentState", "HoldCall", "RetrieveCall"]
    {
        bench.ask(&with(name));
    }
    bench.ask(&with("ConsultationCall"));
    let consulted = id(bench, "31002", 1);
    let both = |name: &str| with(name).replace("1208", &consulted);
    bench.people(|world, now| world.switch.answer(now, &"31003".into()).unwrap());
    bench.ask(&both("ConferenceCall"));
    bench.people(|world, now| world.switch.hang_up(now, &"31003".into()).unwrap());
    bench.ask(&with("ConsultationCall"));
    let consulted = id(bench, "31002", 1);
    let both = |name: &str| with(name).replace("1208", &consulted);
    bench.people(|world, now| world.switch.answer(now, &"31003".into()).unwrap());
    bench.ask(&both("TransferCall"));
    bench.ask(&with("ClearConnection"));
    bench.people(|world, now| world.switch.hang_up_outside(now, second).unwrap());

    bench.ask(sample("MakeCall"));
    let call = id(bench, "31002", 0);
    bench.people(|world, now| world.switch.answer(now, &"31003".into()).unwrap());
    bench.people(|world, now| {
        world.switch.single_step_transfer(now, &"31003".into(), None, &"31009".into()).unwrap()
    });
    bench.people(|world, now| world.switch.answer(now, &"31009".into()).unwrap());
    let text = sample("SingleStepTransferCall").replace("1207", &call);
    bench.ask(&text);
    bench.people(|world, now| world.switch.hang_up(now, &"31009".into()).unwrap());
    // Busy: 31001 and 31003 talk, 31002 calls 31003.
    bench.people(|world, now| {
        world.switch.originate(now, &"31001".into(), "31003", b"").unwrap();
        world.switch.answer(now, &"31003".into()).unwrap();
        world.switch.originate(now, &"31002".into(), "31003", b"").unwrap();
        world.switch.hang_up(now, &"31002".into()).unwrap();
        world.switch.hang_up(now, &"31001".into()).unwrap();
    });
    bench.ask(&sample("MonitorStop").replace("12", "3"));
    bench.said.len() - said
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

        /// Requests with parts missing, doubled or replaced get an answer, whatever it is.
        #[test]
        fn damaged_requests_never_panic(
            picks in prop::collection::vec((any::<prop::sample::Index>(), any::<u32>()), 1..12),
        ) {
            let samples = samples();
            let mut bench = Bench::new();
            bench.ask(&sample("GetDeviceId").replace("<deviceInstance>1", "<deviceInstance>0"));
            bench.ask(sample("GetThirdPartyDeviceId"));
            let call = bench.people(|world, now| {
                world.switch.inbound(now, "5551230002", "31002", b"").unwrap()
            });
            bench.people(|world, now| world.switch.answer(now, &"31002".into()).unwrap());
            let id = bench.world.switch.call_of(call).unwrap().id.to_string();
            for (pick, damage) in picks {
                let text = pick.get(&samples).replace("1207", &id);
                let request = damaged(&read::parse(text.as_bytes()).unwrap(), damage);
                bench.now = bench.now.after_millis(1);
                bench.world.message(bench.now, 0, CONN, *b"0002", Some(&request));
                bench.settle();
            }
        }
    }

    /// Takes away, doubles or changes one element somewhere in the tree.
    fn damaged(element: &read::Element, damage: u32) -> read::Element {
        let mut element = element.clone();
        let count = element.children.len();
        match (damage % 5, count) {
            (0, _) => {}
            (1, 1..) => {
                element.children.remove(damage as usize % count);
            }
            (2, 1..) => {
                let child = element.children[damage as usize % count].clone();
                element.children.push(child);
            }
            (_, 1..) => {
                let at = damage as usize % count;
                element.children[at] = damaged(&element.children[at], damage / 5);
            }
            _ => {
                element.text =
                    ["", "-1", "99999999999", "\u{fffd}"][damage as usize / 5 % 4].into();
            }
        }
        element
    }
}
