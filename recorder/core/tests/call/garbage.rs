//! Events without sense, in any order: nothing panics, nothing is left over, no limit is broken.

use std::time::Duration;

use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::{collection, option, sample};
use recorder_core::Receiver;
use recorder_core::call::event::{
    AgentEvent, CallChange, CallEvent, CallFacts, CallSnapshot, Connection, Device, Merge,
    MergedParty, Monitor, OriginalCall, PartyState,
};
use recorder_core::call::{Action, JoinRefusal, Mandate, Method, Request, Requester, Target};
use recorder_core::media::MediaNotice;
use storage_core::record::{Scope, Side};
use storage_core::{CallId, Duty, Extension, SegmentId};

use crate::invariants::{Watch, pass_time, take_orders};
use crate::site::{Setup, Site, at};
use crate::transcript::ucid;

#[derive(Clone, Debug)]
enum Input {
    Event(Box<CallEvent>),
    Snapshot(Box<CallSnapshot>),
    Unknown(CallId),
    Identity(CallId, u8),
    Agent(AgentEvent),
    Joined(usize),
    Refused(usize, JoinRefusal),
    Left(usize),
    PhantomReady(u8),
    PhantomLost(u8),
    PhantomRefused(u8),
    Media(u8),
    MediaStopped(u8),
    Notice(MediaNotice),
    Request(Requester, Action),
    Link(bool),
    Resync(bool),
    Duty(Duty),
    Wait(u64),
}

fn phantom(number: u8) -> Extension {
    Extension::new(format!("7800{number}"))
}

fn number() -> impl Strategy<Value = &'static str> {
    sample::select(vec![
        "31001",
        "31002",
        "31003",
        "31004",
        "32000",
        "5551230001",
        "5551230002",
        "50100",
        "60001",
        "78001",
        "78002",
        "78003",
        "79001",
        "T12#1",
        "T12#2",
        "",
    ])
}

fn device() -> impl Strategy<Value = Device> {
    number().prop_map(Device::parse)
}

fn call() -> impl Strategy<Value = CallId> {
    (1..5_u8).prop_map(|id| CallId::new(&id.to_string()))
}

fn connection() -> impl Strategy<Value = Connection> {
    (call(), device()).prop_map(|(call, device)| Connection { call, device })
}

fn monitor() -> impl Strategy<Value = Monitor> {
    prop_oneof![
        (1..5_u8).prop_map(|n| Monitor::Station(Extension::new(format!("3100{n}")))),
        Just(Monitor::Via("50100".into())),
        (1..4_u8).prop_map(|n| Monitor::Phantom(phantom(n))),
    ]
}

fn identity() -> impl Strategy<Value = Option<storage_core::Ucid>> {
    option::of((1..4_u8).prop_map(|number| ucid(&number.to_string())))
}

fn facts() -> impl Strategy<Value = CallFacts> {
    let told = (identity(), option::of(device()), option::of(device()), any::<bool>());
    (told, option::of(collection::vec(any::<u8>(), 0..9))).prop_map(
        |((ucid, calling, called, trunk), userdata)| CallFacts {
            original: trunk.then(|| OriginalCall {
                ucid: ucid.clone(),
                calling: calling.clone(),
                ..OriginalCall::default()
            }),
            trunkgroup: trunk.then(|| "12".to_owned()),
            trunkmember: trunk.then(|| "1".to_owned()),
            ucid,
            calling,
            called,
            userdata,
            ..CallFacts::default()
        },
    )
}

fn merge() -> impl Strategy<Value = Merge> {
    let party = (connection(), option::of(connection()), device(), any::<bool>()).prop_map(
        |(new, old, endpoint, trunk)| MergedParty {
            new,
            old,
            endpoint,
            trunk: trunk.then(|| ("12".to_owned(), "2".to_owned())),
        },
    );
    let ends = (connection(), option::of(connection()), device(), device());
    (ends, collection::vec(party, 0..7), identity(), identity()).prop_map(
        |((primary, secondary, by, added), parties, new_ucid, old_ucid)| Merge {
            primary,
            secondary,
            by,
            added,
            parties,
            new_ucid,
            old_ucid,
        },
    )
}

fn change() -> impl Strategy<Value = CallChange> {
    prop_oneof![
        1 => connection().prop_map(CallChange::ServiceInitiated),
        1 => connection().prop_map(CallChange::Originated),
        1 => connection().prop_map(CallChange::NetworkReached),
        2 => (connection(), device())
            .prop_map(|(connection, alerting)| CallChange::Delivered { connection, alerting }),
        4 => connection().prop_map(|connection| CallChange::Established {
            answering: connection.device.clone(),
            connection,
        }),
        1 => (connection(), device())
            .prop_map(|(connection, answering)| CallChange::Established { connection, answering }),
        1 => connection().prop_map(CallChange::Held),
        1 => connection().prop_map(CallChange::Retrieved),
        1 => merge().prop_map(CallChange::Conferenced),
        1 => merge().prop_map(CallChange::Transferred),
        1 => (connection(), device())
            .prop_map(|(connection, to)| CallChange::Diverted { connection, to }),
        1 => (connection(), device())
            .prop_map(|(connection, queue)| CallChange::Queued { connection, queue }),
        1 => connection().prop_map(CallChange::Failed),
        2 => (connection(), device()).prop_map(|(connection, releasing)| {
            CallChange::ConnectionCleared { connection, releasing }
        }),
        1 => call().prop_map(CallChange::CallCleared),
    ]
}

fn snapshot() -> impl Strategy<Value = CallSnapshot> {
    let state = sample::select(vec![
        PartyState::Connected,
        PartyState::Held,
        PartyState::Alerting,
        PartyState::Queued,
        PartyState::Failed,
    ]);
    let parties = collection::vec((device(), state), 0..7);
    (call(), monitor(), parties, facts()).prop_map(|(call, monitor, parties, facts)| CallSnapshot {
        call,
        monitor,
        parties,
        facts,
    })
}

fn action() -> impl Strategy<Value = Action> {
    let target = prop_oneof![
        number().prop_map(|number| Target::Extension(number.into())),
        (1..4_u8).prop_map(|number| Target::Ucid(ucid(&number.to_string()))),
    ];
    let scope = sample::select(vec![Scope::Station, Scope::Trunk]);
    (target, scope, any::<bool>()).prop_map(|(target, scope, start)| {
        if start { Action::Start { target, scope } } else { Action::Stop { target } }
    })
}

fn refusal() -> impl Strategy<Value = JoinRefusal> {
    sample::select(vec![
        JoinRefusal::PartyLimit,
        JoinRefusal::PhantomBusy,
        JoinRefusal::CallGone,
        JoinRefusal::LinkDown,
        JoinRefusal::Other("generic".to_owned()),
    ])
}

fn notice() -> impl Strategy<Value = MediaNotice> {
    let segment = (1..30_u64).prop_map(SegmentId);
    prop_oneof![
        segment.clone().prop_map(|segment| MediaNotice::FirstPacket {
            segment,
            received: at(0).wall,
            captured: at(0),
        }),
        segment.clone().prop_map(|segment| MediaNotice::Silent { segment }),
        segment.prop_map(|segment| MediaNotice::Audible { segment }),
        (1..4_u8).prop_map(|number| MediaNotice::Stray { phantom: phantom(number) }),
    ]
}

fn input() -> impl Strategy<Value = Input> {
    let requester = sample::select(vec![Requester::Agent, Requester::Supervisor]);
    let duty = sample::select(vec![Duty::Lead, Duty::Follow, Duty::Standby, Duty::None]);
    let station = (1..5_u8).prop_map(|n| Extension::new(format!("3100{n}")));
    prop_oneof![
        20 => (monitor(), change(), facts()).prop_map(|(monitor, change, facts)| {
            Input::Event(Box::new(CallEvent { monitor, change, facts }))
        }),
        3 => snapshot().prop_map(|snapshot| Input::Snapshot(Box::new(snapshot))),
        1 => call().prop_map(Input::Unknown),
        1 => (call(), 1..4_u8).prop_map(|(call, ucid)| Input::Identity(call, ucid)),
        1 => (station, option::of(Just("7002".to_owned())))
            .prop_map(|(station, agentid)| Input::Agent(AgentEvent { station, agentid, split: None })),
        6 => any::<usize>().prop_map(Input::Joined),
        2 => (any::<usize>(), refusal()).prop_map(|(which, why)| Input::Refused(which, why)),
        4 => any::<usize>().prop_map(Input::Left),
        2 => (1..8_u8).prop_map(Input::PhantomReady),
        1 => (1..8_u8).prop_map(Input::PhantomLost),
        1 => (1..8_u8).prop_map(Input::PhantomRefused),
        2 => (1..7_u8).prop_map(Input::Media),
        1 => (1..7_u8).prop_map(Input::MediaStopped),
        3 => notice().prop_map(Input::Notice),
        3 => (requester, action()).prop_map(|(by, action)| Input::Request(by, action)),
        1 => any::<bool>().prop_map(Input::Link),
        2 => any::<bool>().prop_map(Input::Resync),
        1 => duty.prop_map(Input::Duty),
        6 => (1..6000_u64).prop_map(Input::Wait),
    ]
}

struct Run {
    site: Site,
    watch: Watch,
    requests: u64,
    devices: Vec<Extension>,
    sides: &'static [Option<Side>],
}

impl Run {
    fn new(method: Method, rings: bool) -> Self {
        let ring = Duration::from_secs(if rings { 30 } else { 0 });
        let setup = Setup { max_parties: 4, method, ring, ..Setup::default() };
        let mut site = Site::new(&setup);
        site.start(&setup);
        let devices = setup.method.devices(&setup.roster).into_iter().collect();
        let sides = setup.method.sides();
        Self { site, watch: Watch::new(&setup), requests: 0, devices, sides }
    }

    /// A node whose devices listen at three stations.
    fn listening(observes: bool, sides: bool, rings: bool) -> Self {
        let stations = (1..4_u8).map(|n| Extension::new(format!("3100{n}")));
        let device = |station: &Extension| match observes {
            true => Extension::new(station.as_str().replace("3100", "7800")),
            false => station.clone(),
        };
        let devices = stations.map(|station| (station.clone(), device(&station))).collect();
        Self::new(Method::Listen { devices, sides }, rings)
    }

    /// The receiver of this number; where there are two of each device, they alternate.
    fn receiver(&self, number: u8) -> Receiver {
        let (number, side) = (usize::from(number) - 1, usize::from(number) % self.sides.len());
        let device = self.device(u8::try_from(number / self.sides.len() + 1).unwrap_or(u8::MAX));
        Receiver { device, side: self.sides[side] }
    }

    /// The device of this number; one more than there are is nobody's.
    fn device(&self, number: u8) -> Extension {
        self.devices.get(usize::from(number) - 1).cloned().unwrap_or_else(|| phantom(number))
    }

    fn give(&mut self, input: &Input) {
        let now = self.site.now;
        match input {
            Input::Joined(which) => {
                if let Some(phantom) = nth(self.site.joins.keys(), *which) {
                    self.site.join(&phantom);
                }
            }
            Input::Refused(which, why) => {
                if let Some(phantom) = nth(self.site.joins.keys(), *which) {
                    let (ticket, _) = self.site.joins.remove(&phantom).expect("it is there");
                    self.site.calls.handle_join_refused(now, ticket, why);
                }
            }
            Input::Left(which) => {
                if let Some(phantom) = nth(self.site.leaves.keys(), *which) {
                    self.site.leave(&phantom);
                }
            }
            Input::Request(by, action) => {
                self.requests += 1;
                self.watch.asked(self.requests, now.mono);
                let request = Request { id: self.requests, by: *by, action: action.clone() };
                self.site.calls.handle_request(now, &request);
            }
            Input::Wait(millis) => {
                let until = at(now.mono.as_micros() / 1000 + millis).mono;
                pass_time(&mut self.site, &mut self.watch, until, |_, _, _| {});
            }
            other => self.tell(other),
        }
        take_orders(&mut self.site, &mut self.watch);
    }

    fn tell(&mut self, input: &Input) {
        let of_device = match input {
            Input::PhantomReady(number)
            | Input::PhantomLost(number)
            | Input::PhantomRefused(number)
            | Input::Media(number)
            | Input::MediaStopped(number) => *number,
            _ => 1,
        };
        let device = self.receiver(of_device);
        let (now, calls) = (self.site.now, &mut self.site.calls);
        match input {
            Input::Event(event) => calls.handle_call_event(now, event),
            Input::Snapshot(snapshot) => calls.handle_snapshot(now, snapshot),
            Input::Unknown(call) => calls.handle_unknown_call(now, call),
            Input::Identity(call, number) => {
                calls.handle_ucid(now, call, ucid(&number.to_string()));
            }
            Input::Agent(event) => calls.handle_agent(now, event),
            Input::PhantomReady(_) => calls.handle_phantom_ready(now, device),
            Input::PhantomLost(_) => calls.handle_phantom_lost(now, device),
            Input::PhantomRefused(_) => calls.handle_phantom_refused(now, device),
            Input::Media(_) => calls.handle_media_started(now, device, None, "g711a", 20),
            Input::MediaStopped(_) => calls.handle_media_stopped(now, device),
            Input::Notice(notice) => calls.handle_media_notice(now, notice),
            Input::Link(up) => calls.handle_link(now, *up),
            Input::Resync(true) => calls.begin_resync(now),
            Input::Resync(false) => calls.end_resync(now, &[]),
            Input::Duty(duty) => calls.set_mandate(now, Mandate::alone(*duty)),
            Input::Joined(_)
            | Input::Refused(..)
            | Input::Left(_)
            | Input::Request(..)
            | Input::Wait(_) => {}
        }
    }

    /// The link is up, every call is over, the switch obeys.
    fn finish(mut self) {
        let now = self.site.now;
        self.site.calls.handle_link(now, true);
        self.site.calls.begin_resync(now);
        self.site.calls.end_resync(now, &[]);
        take_orders(&mut self.site, &mut self.watch);
        for _ in 0..20 {
            for phantom in self.site.joins.keys().cloned().collect::<Vec<_>>() {
                let (ticket, _) = self.site.joins.remove(&phantom).expect("it is there");
                self.site.calls.handle_join_refused(self.site.now, ticket, &JoinRefusal::CallGone);
            }
            for phantom in self.site.leaves.keys().cloned().collect::<Vec<_>>() {
                self.site.leave(&phantom);
            }
            take_orders(&mut self.site, &mut self.watch);
            let until = self.site.now + Duration::from_secs(1);
            pass_time(&mut self.site, &mut self.watch, until.mono, |_, _, _| {});
        }
        self.watch.check_end(&self.site);
    }
}

fn nth<'a>(keys: impl ExactSizeIterator<Item = &'a Extension>, which: usize) -> Option<Extension> {
    let count = keys.len();
    let mut keys = keys;
    (count > 0).then(|| keys.nth(which % count).cloned()).flatten()
}

proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn nonsense_never_breaks_the_machine(
        inputs in collection::vec(input(), 1..120),
        rings in any::<bool>(),
    ) {
        let mut run = Run::new(Method::Join, rings);
        for input in &inputs {
            run.give(input);
        }
        run.finish();
    }

    #[test]
    fn nonsense_never_breaks_a_machine_that_listens(
        inputs in collection::vec(input(), 1..120),
        observes in any::<bool>(),
        sides in any::<bool>(),
        rings in any::<bool>(),
    ) {
        let mut run = Run::listening(observes, sides && !observes, rings);
        for input in &inputs {
            run.give(input);
        }
        run.finish();
    }
}

/// Nonsense found it: a merge told of nobody but 31003, and the ring of 31002, which was in one of the two calls,
/// went on as the recording of the merged one, with whatever 31002 said elsewhere.
#[test]
fn the_ring_of_a_station_that_a_merge_leaves_out_is_no_begin_of_a_recording() {
    let number = |text: &str| Device::Number(text.into());
    let connection =
        |call: &str, device: &str| Connection { call: CallId::new(call), device: number(device) };
    let monitor = Monitor::Station("31001".into());
    let event = |change| {
        let (monitor, facts) = (monitor.clone(), CallFacts::default());
        Input::Event(Box::new(CallEvent { monitor, change, facts }))
    };
    let answered = |call, device, answering| CallChange::Established {
        connection: connection(call, device),
        answering: number(answering),
    };
    let listed = MergedParty {
        new: connection("1", "31001"),
        old: None,
        endpoint: number("31003"),
        trunk: None,
    };
    let merge = Merge {
        primary: connection("1", "31001"),
        secondary: Some(connection("4", "31001")),
        by: number("31001"),
        added: number("31001"),
        parties: vec![listed.clone(), listed],
        new_ucid: None,
        old_ucid: None,
    };
    let snapshot = CallSnapshot {
        call: CallId::new("4"),
        monitor: monitor.clone(),
        parties: vec![(number("78001"), PartyState::Connected)],
        facts: CallFacts::default(),
    };
    let inputs = [
        Input::Duty(Duty::Standby),
        event(answered("4", "31001", "31003")),
        Input::Snapshot(Box::new(snapshot)),
        Input::Wait(400),
        event(answered("1", "31002", "31002")),
        event(CallChange::Conferenced(merge)),
    ];
    let mut run = Run::listening(false, false, true);
    inputs.iter().for_each(|input| run.give(input));
    run.finish();
}
