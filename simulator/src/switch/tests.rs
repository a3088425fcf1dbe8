//! Tables of what the switch tells: one line an event, as a telephone engineer would say it.

use std::fmt::Write as _;

use super::*;
use crate::config::{SiteConfig, Survivor};

/// A switch with five telephones 31001 to 31005 and registered phantoms 78001 to 78004.
struct Desk {
    switch: Switch,
    now: Time,
}

fn ext(text: &str) -> Extension {
    Extension::from(text)
}

impl Desk {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut SiteConfig)) -> Self {
        let mut config = SiteConfig::demo(5, 1);
        config.switches.outside_answer_ms = None;
        change(&mut config);
        let switch = Switch::new(&config, 1_700_000_000_000).unwrap();
        let mut desk = Self { switch, now: Time::from_millis(1000) };
        for phantom in ["78001", "78002", "78003", "78004", "78005"] {
            desk.register(phantom, 0).unwrap();
        }
        desk
    }

    fn register(&mut self, phantom: &str, session: u32) -> Result<(), RegisterRefusal> {
        let registration = Registration {
            owner: Owner { aes: 0, session },
            dependency: Dependency::Main,
            mode: MediaMode::Client,
            content: Content::Full,
            media: None,
        };
        self.switch.register(self.now, &(ext(phantom), 0), "123456", true, registration)
    }

    /// A call from outside to the VDN, answered by the first agent: events dropped.
    fn talk(&mut self) -> Serial {
        let serial = self.switch.inbound(self.now, "5551230001", "50100", b"").unwrap();
        let agent = self.alerting(serial);
        self.switch.answer(self.now, &agent).unwrap();
        self.told();
        serial
    }

    fn alerting(&self, serial: Serial) -> Extension {
        let call = self.switch.call_of(serial).unwrap();
        let ringing = |party: &&Party| party.state == ConnectionState::Alerting;
        call.parties.iter().find(ringing).unwrap().device.extension().unwrap().clone()
    }

    fn id(&self, serial: Serial) -> CallId {
        self.switch.call_of(serial).unwrap().id
    }

    fn join(&mut self, serial: Serial, phantom: &str) -> Result<(), Refusal> {
        let id = self.id(serial);
        self.switch.join(self.now, id, &ext(phantom), Participation::Silent)
    }

    fn parties(&self, serial: Serial) -> Vec<String> {
        let call = self.switch.call_of(serial).unwrap();
        call.parties.iter().map(|party| party.number.0.clone()).collect()
    }

    /// All events since the last look, as lines: what, and in brackets which stations see it.
    fn told(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.switch.poll_event()).map(|event| line(&event)).collect()
    }
}

fn line(event: &Event) -> String {
    let mut text = match &event.body {
        Body::ServiceInitiated { device, cause } => format!("initiated {device} {cause}"),
        Body::Originated { device, .. } => format!("originated {device}"),
        Body::NetworkReached { trunk } => format!("network T{}#{}", trunk.group, trunk.member),
        Body::Delivered { alerting, cause, .. } => format!("delivered {} {cause}", alerting.0),
        Body::Queued { skill, waiting } => format!("queued {skill} {waiting}"),
        Body::Established { answering, cause, .. } => {
            format!("established {} {cause}", answering.0)
        }
        Body::Held { device } => format!("held {device}"),
        Body::Retrieved { device } => format!("retrieved {device}"),
        Body::Diverted { device, to, cause } => format!("diverted {device} to {} {cause}", to.0),
        Body::Failed { failing, cause, .. } => format!("failed {} {cause}", failing.0),
        Body::Conferenced(merge) => format!("conferenced by {} {}", merge.by, merge.other.0),
        Body::Transferred(merge) => format!("transferred by {} to {}", merge.by, merge.other.0),
        Body::ConnectionCleared { releasing, .. } => format!("cleared {}", releasing.0),
        Body::CallCleared { .. } => "call cleared".to_owned(),
    };
    let seen: Vec<_> = event.audience.stations.keys().map(Extension::as_str).collect();
    // Writing to a String cannot fail.
    let _ = write!(text, " [{}]", seen.join(" "));
    text
}

#[test]
fn inbound_through_vdn_and_skill() {
    let mut desk = Desk::new();
    let serial = desk.switch.inbound(desk.now, "5551230001", "50100", b"hi").unwrap();
    assert_eq!(
        desk.told(),
        ["delivered 50100 newCall []", "queued 60001 1 []", "delivered 31001 distributed [31001]"]
    );
    desk.switch.answer(desk.now, &ext("31001")).unwrap();
    assert_eq!(desk.told(), ["established 31001 newCall [31001]"]);
    desk.switch.hang_up_outside(desk.now, serial).unwrap();
    assert_eq!(
        desk.told(),
        ["cleared 5551230001 [31001]", "cleared 31001 [31001]", "call cleared []"]
    );
    assert!(desk.switch.calls().is_empty());
    assert_eq!(desk.switch.finished()[0].call.answered_by, [ext("31001")]);
}

#[test]
fn the_longest_idle_agent_is_served_and_calls_wait_in_turn() {
    let mut desk = Desk::new();
    let first: Vec<Serial> = (0..5).map(|_| desk.talk()).collect();
    let waiting: Vec<Serial> = (0..2)
        .map(|_| {
            desk.now = desk.now.after_millis(10);
            desk.switch.inbound(desk.now, "5550000009", "50100", b"").unwrap()
        })
        .collect();
    let told = desk.told();
    assert!(told.contains(&"queued 60001 2 []".to_owned()), "{told:?}");
    desk.switch.hang_up_outside(desk.now, first[2]).unwrap();
    let last = desk.told().pop();
    assert_eq!(last, Some("delivered 31003 distributed [31003]".to_owned()));
    assert_eq!(desk.alerting(waiting[0]), ext("31003"));
    desk.switch.hang_up(desk.now, &ext("31001")).unwrap();
    assert_eq!(desk.alerting(waiting[1]), ext("31001"));
}

#[test]
fn outbound_over_isdn_and_over_other_trunks() {
    let mut desk = Desk::new();
    let serial = desk.switch.originate(desk.now, &ext("31002"), "5559870000", b"").unwrap();
    desk.switch.answer_outside(desk.now, serial).unwrap();
    desk.switch.hang_up(desk.now, &ext("31002")).unwrap();
    assert_eq!(
        desk.told(),
        [
            "initiated 31002 makeCall [31002]",
            "originated 31002 [31002]",
            "delivered 5559870000 newCall [31002]",
            "established 5559870000 newCall [31002]",
            "cleared 31002 [31002]",
            "cleared 5559870000 []",
            "call cleared []",
        ]
    );
    let mut desk = Desk::with(|config| config.trunks[0].isdn = false);
    desk.switch.originate(desk.now, &ext("31002"), "5559870000", b"").unwrap();
    let told = desk.told();
    assert_eq!(told.last().unwrap(), "network T12#1 [31002]");
    assert!(desk.switch.calls().values().all(|call| call.established.is_some()));
}

#[test]
fn internal_busy_and_no_trunk() {
    let mut desk = Desk::with(|config| config.trunks[0].members = 1);
    desk.switch.originate(desk.now, &ext("31001"), "31002", b"").unwrap();
    desk.switch.answer(desk.now, &ext("31002")).unwrap();
    let told = desk.told();
    assert_eq!(told[2], "delivered 31002 newCall [31001 31002]");
    assert_eq!(told[3], "established 31002 newCall [31001 31002]");
    desk.switch.originate(desk.now, &ext("31003"), "31002", b"").unwrap();
    assert_eq!(desk.told().last().unwrap(), "failed 31002 busy [31003]");
    desk.switch.hang_up(desk.now, &ext("31003")).unwrap();
    desk.switch.originate(desk.now, &ext("31003"), "5550000001", b"").unwrap();
    desk.switch.originate(desk.now, &ext("31004"), "5550000002", b"").unwrap();
    assert_eq!(desk.told().last().unwrap(), "failed 5550000002 trunksBusy [31004]");
    let full = desk.switch.inbound(desk.now, "5550000003", "50100", b"");
    assert_eq!(full, Err(Refusal::NoTrunk));
}

#[test]
fn no_answer_goes_to_cover() {
    let mut desk = Desk::new();
    let serial = desk.switch.inbound(desk.now, "5551230001", "31001", b"").unwrap();
    desk.told();
    desk.switch.divert(desk.now, &ext("31001"), &ext("31004")).unwrap();
    assert_eq!(
        desk.told(),
        ["diverted 31001 to 31004 redirected [31001]", "delivered 31004 redirected [31004]"]
    );
    assert_eq!(desk.alerting(serial), ext("31004"));
}

#[test]
fn pick_up() {
    let mut desk = Desk::new();
    let serial = desk.switch.inbound(desk.now, "5551230001", "31001", b"").unwrap();
    desk.told();
    desk.switch.pickup(desk.now, &ext("31003"), &ext("31001")).unwrap();
    assert_eq!(
        desk.told(),
        ["diverted 31001 to 31003 callPickup [31001]", "established 31003 callPickup [31003]"]
    );
    assert_eq!(desk.parties(serial), ["5551230001", "31003"]);
}

#[test]
fn hold_and_retrieve() {
    let mut desk = Desk::new();
    desk.talk();
    desk.switch.hold(desk.now, &ext("31001"), None).unwrap();
    let again = desk.switch.hold(desk.now, &ext("31001"), None);
    assert_eq!(again, Err(Refusal::NoActiveCall(ext("31001"))));
    desk.switch.retrieve(desk.now, &ext("31001"), None).unwrap();
    assert_eq!(desk.told(), ["held 31001 [31001]", "retrieved 31001 [31001]"]);
}

#[test]
fn a_recorder_is_established_and_seen_by_all_in_the_call() {
    let mut desk = Desk::new();
    let serial = desk.talk();
    desk.join(serial, "78001").unwrap();
    assert_eq!(desk.told(), ["established 78001 silentParticipation [31001 78001]"]);
    desk.switch.hold(desk.now, &ext("31001"), None).unwrap();
    assert_eq!(desk.told(), ["held 31001 [31001 78001]"]);
    let heard = desk.switch.heard_at(&ext("78001")).map(|call| call.serial);
    assert_eq!(heard, Some(serial), "hold does not take the recorder out");
}

#[test]
fn a_recorder_keeps_the_call_up_until_it_leaves() {
    let mut desk = Desk::new();
    let serial = desk.talk();
    let id = desk.id(serial);
    desk.join(serial, "78001").unwrap();
    desk.switch.hang_up_outside(desk.now, serial).unwrap();
    assert_eq!(desk.parties(serial), ["31001", "78001"]);
    assert_eq!(desk.switch.stuck_phantoms(), []);
    desk.switch.hang_up(desk.now, &ext("31001")).unwrap();
    assert_eq!(desk.switch.stuck_phantoms(), [ext("78001")]);
    desk.told();
    desk.switch.clear_connection(desk.now, id, &Device::Extension(ext("78001"))).unwrap();
    assert_eq!(desk.told(), ["cleared 78001 [78001]", "call cleared []"]);
}

#[test]
fn the_last_recorder_leaving_clears_who_is_alone() {
    let mut desk = Desk::new();
    let serial = desk.talk();
    let id = desk.id(serial);
    desk.join(serial, "78001").unwrap();
    desk.switch.hang_up(desk.now, &ext("31001")).unwrap();
    desk.told();
    desk.switch.clear_connection(desk.now, id, &Device::Extension(ext("78001"))).unwrap();
    assert_eq!(desk.told(), ["cleared 78001 [78001]", "cleared 5551230001 []", "call cleared []"]);
}

#[test]
fn consult_and_transfer_brings_two_recorders_together() {
    for (call_id, ucid) in [
        (Survivor::Held, Survivor::Held),
        (Survivor::Active, Survivor::Held),
        (Survivor::Held, Survivor::Active),
        (Survivor::Active, Survivor::Active),
    ] {
        let mut desk = Desk::with(|config| {
            config.switches.merge_call_id = call_id;
            config.switches.merge_ucid = ucid;
        });
        let first = desk.talk();
        desk.join(first, "78001").unwrap();
        let second = desk.switch.consult(desk.now, &ext("31001"), None, "31002").unwrap();
        desk.switch.answer(desk.now, &ext("31002")).unwrap();
        desk.join(second, "78002").unwrap();
        let ids = (desk.id(first), desk.id(second));
        let ucids = [first, second].map(|s| desk.switch.call_of(s).unwrap().ucid.clone());
        desk.told();
        let id = desk.switch.transfer(desk.now, &ext("31001"), None).unwrap();
        let event = desk.switch.poll_event().unwrap();
        assert_eq!(line(&event), "transferred by 31001 to 31002 [31001 31002 78001 78002]");
        assert_eq!(id, if call_id == Survivor::Held { ids.0 } else { ids.1 });
        let (stays, goes) = if ucid == Survivor::Held { (0, 1) } else { (1, 0) };
        assert_eq!(event.call.ucid, ucids[stays]);
        let Body::Transferred(merge) = &event.body else { panic!("{event:?}") };
        assert_eq!(merge.old_ucid.as_ref(), Some(&ucids[goes]));
        let old: Vec<_> = merge.connections.iter().map(|item| item.old).collect();
        // Caller and first phantom come from the held call, the others from the active one.
        let (from_held, from_active) = match call_id {
            Survivor::Held => (None, Some(ids.1)),
            Survivor::Active => (Some(ids.0), None),
        };
        assert_eq!(old, [from_held, from_held, from_active, from_active]);

        let serial = [first, second][stays];
        assert_eq!(desk.parties(serial), ["5551230001", "78001", "31002", "78002"]);
        let call = desk.switch.call_of(serial).unwrap();
        assert_eq!(call.former_ucids, [ucids[goes].clone()]);
        let over = &desk.switch.finished()[0];
        assert_eq!((over.call.serial, over.merged_into), ([first, second][goes], Some(serial)));
        for phantom in ["78001", "78002"] {
            let heard = desk.switch.heard_at(&ext(phantom)).map(|call| call.serial);
            assert_eq!(heard, Some(serial));
        }
        assert_eq!(desk.switch.calls_at(&ext("31001")), []);
        // The call goes on as one and ends as one.
        desk.switch.hang_up(desk.now, &ext("31002")).unwrap();
        desk.switch.hang_up_outside(desk.now, serial).unwrap();
        for phantom in ["78001", "78002"] {
            desk.switch.clear_connection(desk.now, id, &Device::Extension(ext(phantom))).unwrap();
        }
        assert!(desk.switch.calls().is_empty());
        let trunks_free = desk.switch.inbound(desk.now, "5550000001", "50100", b"");
        assert!(trunks_free.is_ok());
    }
}

#[test]
fn a_transfer_while_it_rings() {
    let mut desk = Desk::new();
    let first = desk.talk();
    desk.switch.consult(desk.now, &ext("31001"), None, "31002").unwrap();
    desk.told();
    desk.switch.transfer(desk.now, &ext("31001"), None).unwrap();
    desk.switch.answer(desk.now, &ext("31002")).unwrap();
    assert_eq!(
        desk.told(),
        ["transferred by 31001 to 31002 [31001 31002]", "established 31002 newCall [31002]"]
    );
    assert_eq!(desk.parties(first), ["5551230001", "31002"]);
}

#[test]
fn conference_and_leaving_it() {
    let mut desk = Desk::new();
    let first = desk.talk();
    desk.join(first, "78001").unwrap();
    desk.switch.consult(desk.now, &ext("31001"), None, "31002").unwrap();
    desk.switch.answer(desk.now, &ext("31002")).unwrap();
    desk.told();
    desk.switch.conference(desk.now, &ext("31001"), None).unwrap();
    assert_eq!(desk.told(), ["conferenced by 31001 31002 [31001 31002 78001]"]);
    desk.switch.hang_up(desk.now, &ext("31001")).unwrap();
    assert_eq!(desk.told(), ["cleared 31001 [31001 31002 78001]"]);
    assert_eq!(desk.parties(first), ["5551230001", "78001", "31002"]);
}

#[test]
fn single_step_transfer() {
    let mut desk = Desk::new();
    let first = desk.talk();
    desk.join(first, "78001").unwrap();
    desk.told();
    desk.switch.single_step_transfer(desk.now, &ext("31001"), None, &ext("31002")).unwrap();
    desk.switch.answer(desk.now, &ext("31002")).unwrap();
    assert_eq!(
        desk.told(),
        [
            "transferred by 31001 to 31002 [31001 78001]",
            "delivered 31002 singleStepTransfer [31002 78001]",
            "established 31002 newCall [31002 78001]",
        ]
    );
    assert_eq!(desk.parties(first), ["5551230001", "78001", "31002"]);
}

#[test]
fn six_parties_and_the_conference_that_a_recorder_spoilt() {
    let mut desk = Desk::new();
    let first = desk.talk();
    for phantom in ["78001", "78002", "78003", "78004"] {
        desk.join(first, phantom).unwrap();
    }
    assert_eq!(desk.join(first, "78005"), Err(Refusal::PartyLimit(6)));
    desk.switch.consult(desk.now, &ext("31001"), None, "31002").unwrap();
    desk.switch.answer(desk.now, &ext("31002")).unwrap();
    let refused = desk.switch.conference(desk.now, &ext("31001"), None);
    assert_eq!(refused, Err(Refusal::PartyLimit(6)));
    assert_eq!(desk.switch.party_limit_refusals(), 1);
    // A transfer takes one out, so it fits.
    desk.switch.transfer(desk.now, &ext("31001"), None).unwrap();
}

#[test]
fn what_the_switch_has_against_a_join() {
    let mut desk = Desk::new();
    let first = desk.talk();
    let second = desk.talk();
    let id = desk.id(first);
    desk.join(first, "78001").unwrap();
    let now = desk.now;
    for (station, as_, refusal) in [
        ("78001", Participation::Silent, Refusal::AlreadyInCall(ext("78001"))),
        ("78002", Participation::Active, Refusal::Mixed),
        ("78010", Participation::Silent, Refusal::OutOfService(ext("78010"))),
        ("60001", Participation::Silent, Refusal::NotAStation(ext("60001"))),
        ("99999", Participation::Silent, Refusal::NoSuchNumber("99999".to_owned())),
        ("31002", Participation::Silent, Refusal::Busy(ext("31002"))),
    ] {
        assert_eq!(desk.switch.join(now, id, &ext(station), as_), Err(refusal), "{station}");
    }
    assert_eq!(desk.join(second, "78001"), Err(Refusal::Busy(ext("78001"))));
    let none = desk.switch.join(now, CallId(9999), &ext("78002"), Participation::Silent);
    assert_eq!(none, Err(Refusal::NoSuchCall(CallId(9999))));
    desk.switch.busy_out(now, &ext("78003"));
    assert_eq!(desk.join(second, "78003"), Err(Refusal::OutOfService(ext("78003"))));
}

#[test]
fn a_queued_call_takes_a_silent_party_only() {
    let mut desk = Desk::new();
    for _ in 0..5 {
        desk.talk();
    }
    let serial = desk.switch.inbound(desk.now, "5550000009", "50100", b"").unwrap();
    let id = desk.id(serial);
    let active = desk.switch.join(desk.now, id, &ext("78001"), Participation::Active);
    assert_eq!(active, Err(Refusal::InVector));
    desk.join(serial, "78001").unwrap();
    assert_eq!(desk.switch.call_of(serial).unwrap().established, None);
}

#[test]
fn call_ids_come_back_and_serials_do_not() {
    let mut desk = Desk::with(|config| (config.call_id_first, config.call_id_last) = (7, 9));
    let mut ids = Vec::new();
    let mut serials = Vec::new();
    for _ in 0..5 {
        let serial = desk.talk();
        ids.push(desk.id(serial).0);
        serials.push(serial.0);
        desk.switch.hang_up_outside(desk.now, serial).unwrap();
    }
    assert_eq!(ids, [7, 8, 9, 7, 8]);
    assert_eq!(serials, [1, 2, 3, 4, 5]);
    for _ in 0..5 {
        desk.talk();
    }
    let unique: BTreeSet<_> = desk.switch.calls().keys().collect();
    assert_eq!(unique.len(), 5, "the range grows when it is full");
}

#[test]
fn ucids_have_twenty_digits() {
    let mut desk = Desk::new();
    let serial = desk.talk();
    let ucid = desk.switch.call_of(serial).unwrap().ucid.to_string();
    assert_eq!(ucid, "00001000011700000001");
}

#[test]
fn registrations_force_out_each_other() {
    let mut desk = Desk::new();
    let serial = desk.talk();
    desk.join(serial, "78001").unwrap();
    desk.told();
    desk.register("78001", 2).unwrap();
    let changes: Vec<_> = std::iter::from_fn(|| desk.switch.poll_registration()).collect();
    let ended = changes.iter().find_map(|change| match change {
        RegistrationChange::Ended(ended) => Some(ended),
        RegistrationChange::Registered { .. } => None,
    });
    let gone = ended.unwrap();
    assert_eq!((gone.owner.session, gone.asked, gone.word), (0, false, "FORCE_LOGIN"));
    assert_eq!(desk.told(), ["cleared 78001 [31001 78001]"], "its call goes too");
    assert_eq!(desk.switch.registrations_of(&ext("78001")).len(), 1);
}

#[test]
fn wrong_security_codes_are_counted_and_may_lock() {
    let mut desk = Desk::with(|config| config.switches.lock_after_wrong_passwords = 2);
    let key = (ext("78009"), 0);
    let registration = Registration {
        owner: Owner { aes: 0, session: 0 },
        dependency: Dependency::Main,
        mode: MediaMode::Client,
        content: Content::Full,
        media: None,
    };
    let mut attempt =
        |password| desk.switch.register(desk.now, &key, password, true, registration.clone());
    assert_eq!(attempt("1"), Err(RegisterRefusal::WrongPassword));
    assert_eq!(attempt("1"), Err(RegisterRefusal::WrongPassword));
    assert_eq!(attempt("123456"), Err(RegisterRefusal::Locked));
    assert_eq!(desk.switch.wrong_passwords(&ext("78009")), 3);
}

#[test]
fn at_most_three_registrations_of_an_extension_with_the_telephone() {
    let mut desk = Desk::new();
    for instance in 0..4 {
        let registration = Registration {
            owner: Owner { aes: 0, session: 0 },
            dependency: Dependency::Independent,
            mode: MediaMode::Client,
            content: Content::Full,
            media: None,
        };
        let key = (ext("31001"), instance);
        let outcome = desk.switch.register(desk.now, &key, "31001", false, registration);
        let expected = if instance < 2 { Ok(()) } else { Err(RegisterRefusal::TooMany) };
        assert_eq!(outcome, expected);
    }
}

#[test]
fn agents_that_are_not_ready_get_no_calls() {
    let mut desk = Desk::new();
    for agent in ["7001", "7002", "7003", "7004"] {
        desk.switch.set_agent(desk.now, agent, AgentState::NotReady(3)).unwrap();
    }
    assert_eq!(desk.switch.poll_agent_event().unwrap().agent, "7001");
    let first = desk.switch.inbound(desk.now, "5550000001", "50100", b"").unwrap();
    assert_eq!(desk.alerting(first), ext("31005"));
    let second = desk.switch.inbound(desk.now, "5550000002", "50100", b"").unwrap();
    desk.switch.set_agent(desk.now, "7002", AgentState::Ready).unwrap();
    assert_eq!(desk.alerting(second), ext("31002"), "a waiting call is given at once");
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

        /// Whatever people and recorders do in whatever order: books stay balanced.
        #[test]
        fn books_balance(steps in prop::collection::vec((0_u8..13, 0_usize..5, 0_usize..5), 1..80)) {
            let mut desk = Desk::new();
            let phones: Vec<Extension> = (31001..31006).map(|n| ext(&n.to_string())).collect();
            let phantoms: Vec<Extension> = (78001..78006).map(|n| ext(&n.to_string())).collect();
            for (step, a, b) in steps {
                desk.now = desk.now.after_millis(7);
                let (now, one, two) = (desk.now, &phones[a], &phones[b]);
                let serials: Vec<Serial> = desk.switch.by_serial.keys().copied().collect();
                let serial = serials.get(b % serials.len().max(1)).copied();
                let switch = &mut desk.switch;
                // Refusals are as good as anything else here.
                let _ = match (step, serial) {
                    (0 | 1, _) => switch.inbound(now, "5550001", "50100", b"").map(|_| ()),
                    (2, _) => switch.originate(now, one, two.as_str(), b"").map(|_| ()),
                    (3, _) => switch.originate(now, one, "5559870", b"").map(|_| ()),
                    (4, _) => switch.answer(now, one).map(|_| ()),
                    (5, _) => switch.hold(now, one, None),
                    (6, _) => switch.retrieve(now, one, None),
                    (7, _) => switch.consult(now, one, None, two.as_str()).map(|_| ()),
                    (8, _) => switch.transfer(now, one, None).map(|_| ()),
                    (9, _) => switch.conference(now, one, None).map(|_| ()),
                    (10, _) => switch.hang_up(now, one),
                    (11, Some(serial)) => switch.hang_up_outside(now, serial),
                    (12, Some(serial)) => {
                        let id = switch.call_of(serial).unwrap().id;
                        switch.join(now, id, &phantoms[a], Participation::Silent)
                    }
                    _ => Ok(()),
                };
                check(&desk.switch);
            }
            // Everybody leaves; nothing may be left over.
            let ids: Vec<CallId> = desk.switch.calls.keys().copied().collect();
            for id in ids {
                let _ = desk.switch.clear_call(desk.now, id);
            }
            while let Some(id) = desk.switch.calls.keys().next().copied() {
                desk.switch.clear_call(desk.now, id).unwrap();
            }
            prop_assert!(desk.switch.trunks_busy.is_empty());
            prop_assert!(desk.switch.calls_at.is_empty());
            prop_assert!(desk.switch.by_serial.is_empty());
            prop_assert!(desk.switch.outside_of.is_empty());
        }
    }

    fn check(switch: &Switch) {
        let mut trunks = BTreeSet::new();
        for (id, call) in &switch.calls {
            assert_eq!((call.id, switch.by_serial.get(&call.serial)), (*id, Some(id)));
            assert!(!call.parties.is_empty(), "{call:?}");
            assert!(call.parties.len() <= switch.max_parties);
            for party in &call.parties {
                match &party.device {
                    Device::Extension(extension) => {
                        assert!(switch.calls_at(extension).contains(id), "{extension} {id}");
                    }
                    Device::Trunk(trunk) => assert!(trunks.insert(*trunk), "{trunk:?} twice"),
                }
            }
        }
        assert_eq!(trunks, switch.trunks_busy);
        for (extension, ids) in &switch.calls_at {
            for id in ids {
                let call = switch.calls.get(id).expect("a call that is there");
                assert!(call.at(extension).is_some(), "{extension} is not in {id}");
            }
            let talking = ids.iter().filter(|id| {
                let state = switch.calls[*id].at(extension).unwrap().state;
                state == ConnectionState::Connected
            });
            assert!(talking.count() <= 1, "{extension} talks twice");
        }
    }
}
