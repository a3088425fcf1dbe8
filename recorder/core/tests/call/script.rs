//! The scenarios' language: what stands in a line, and what it does to the machine.
//!
//! ```text
//! at MILLISECONDS  WHO: WHAT key=value …      something happens
//! => …                                        what the machine decides at that moment
//! => at MILLISECONDS …                        what it decides by itself before the next line
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use recorder_core::Receiver;
use recorder_core::call::event::{
    AgentEvent, CallChange, CallEvent, CallFacts, CallSnapshot, Connection, Device, Merge,
    MergedParty, Monitor, OriginalCall, PartyState,
};
use recorder_core::call::rule::RuleConfig;
use recorder_core::call::{
    Action, Claimed, Holder, JoinRefusal, Mandate, Method, Over, PauseRequest, PauseWord, Peer,
    Request, Requester, Target,
};
use recorder_core::media::MediaNotice;
use storage_core::draft::{Draft, Pause, PauseId, Presence, Stretch};
use storage_core::record::{Scope, Side, TriggerKind};
use storage_core::{CallId, Duty, Extension, MonoTime, NodeId, Now, RecordingId, SegmentId};

use crate::site::{Setup, Site, at};
use crate::transcript::{Writer, named_by_group, ucid};

/// How long a scenario is watched after its last line.
const AFTERMATH_MS: u64 = 30_000;

/// Plays a scenario and returns its text with what was really decided.
pub fn replay(name: &str, text: &str) -> String {
    let mut player = Player::default();
    for (number, line) in text.lines().enumerate() {
        if line.starts_with("=>") {
            continue;
        }
        player.place = format!("{name}, line {}", number + 1);
        player.play(line);
    }
    player.rest();
    player.output
}

#[derive(Default)]
struct Player {
    setup: Setup,
    site: Option<Site>,
    cold: bool,
    drafts: Vec<Draft>,
    peers: BTreeMap<NodeId, Peer>,
    writer: Writer,
    output: String,
    place: String,
    /// Blank lines and comments, held back so that late decisions stand before them.
    pending: String,
}

type Args<'a> = BTreeMap<&'a str, &'a str>;

impl Player {
    fn play(&mut self, line: &str) {
        let plain = line.trim();
        if plain.is_empty() || plain.starts_with('#') {
            self.pending += line;
            self.pending.push('\n');
        } else if let Some(rest) = plain.strip_prefix("at ") {
            let (time, what) = rest.split_once(char::is_whitespace).unwrap_or((rest, "wait"));
            let time = time.parse().unwrap_or_else(|_| self.fail("at needs milliseconds"));
            self.advance(time);
            self.echo(line);
            self.event(what.trim());
            self.orders(None);
        } else {
            self.echo(line);
            self.prepare(plain);
        }
    }

    fn echo(&mut self, line: &str) {
        self.output += &std::mem::take(&mut self.pending);
        self.output += line;
        self.output.push('\n');
    }

    fn rest(&mut self) {
        let end = self.site().now + Duration::from_millis(AFTERMATH_MS);
        self.until(end.mono);
        self.output += &std::mem::take(&mut self.pending);
    }

    fn prepare(&mut self, line: &str) {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        let roster = &mut self.setup.roster;
        match word {
            "phantoms" => roster.phantoms = numbers(rest).collect(),
            "registrations" | "sides" => {
                roster.phantoms.clear();
                let own = numbers(rest).map(|station| (station.clone(), station));
                let sides = word == "sides";
                self.setup.method = Method::Listen { devices: own.collect(), sides };
            }
            "observers" => {
                let pairs = args(rest).into_iter();
                let pairs = pairs.map(|(device, station)| (station.into(), device.into()));
                self.setup.method = Method::Listen { devices: pairs.collect(), sides: false };
                roster.phantoms = self.setup.method.devices(roster);
            }
            "peers" => roster.peer_phantoms = numbers(rest).collect(),
            "stations" => roster.stations = numbers(rest).collect(),
            "agents" => roster.agents = numbers(rest).collect(),
            "vdns" => roster.vdns = numbers(rest).collect(),
            "skills" => roster.skills = numbers(rest).collect(),
            "ring" => self.setup.ring = Duration::from_secs(rest.parse().expect("seconds")),
            "maxparties" => self.setup.max_parties = rest.parse().expect("a number"),
            "rule" => self.setup.rules.push(rule(&args(rest))),
            "show" => self.writer.show_live = true,
            "group" => self.writer.show_group = true,
            "accounts" => self.writer.show_accounts = true,
            "cold" => self.cold = true,
            "draft" => self.drafts.push(draft(&args(rest))),
            _ => self.fail(&format!("unknown word {word}")),
        }
        assert!(self.site.is_none(), "{}: this must stand before the first at", self.place);
    }

    fn site(&mut self) -> &mut Site {
        self.site.get_or_insert_with(|| {
            let mut site = Site::new(&self.setup);
            for draft in &self.drafts {
                self.writer.name(draft.recordingid);
            }
            if !self.drafts.is_empty() {
                site.calls.adopt(site.now, self.drafts.clone());
            }
            if !self.cold {
                site.start(&self.setup);
            }
            site
        })
    }

    fn advance(&mut self, millis: u64) {
        self.until(at(millis).mono);
        self.site().now = at(millis);
    }

    /// Lets the machine do what it does by itself until then.
    fn until(&mut self, end: MonoTime) {
        for _ in 0..10_000 {
            let site = self.site();
            let Some(due) = site.calls.poll_timeout().filter(|due| *due <= end) else { return };
            let millis = due.as_micros().div_ceil(1000);
            site.now = at(millis);
            site.calls.handle_timeout(site.now);
            self.orders(Some(millis));
        }
        self.fail("the machine never rests");
    }

    fn orders(&mut self, alone: Option<u64>) {
        self.writer.now = self.site().now.wall;
        while let Some(order) = self.site().calls.poll_order() {
            self.site().note(&order);
            if let Some(line) = self.writer.line(&order) {
                self.output += "=> ";
                if let Some(millis) = alone {
                    self.output += &format!("at {millis} ");
                }
                self.output += &line;
                self.output.push('\n');
            }
        }
    }

    fn event(&mut self, what: &str) {
        let (head, tail) = what.split_once(':').unwrap_or((what, ""));
        let words: Vec<&str> = head.split_whitespace().collect();
        let now = self.site().now;
        match words.as_slice() {
            ["station" | "via" | "phantom", ..] if !tail.is_empty() => {
                for monitor in head.split(',').map(monitor_of) {
                    let event = self.call_event(monitor, tail);
                    self.site().calls.handle_call_event(now, &event);
                }
            }
            ["switch"] => self.switch(now, tail),
            ["wait"] => {}
            ["agent" | "supervisor", ..] => self.person(now, &words),
            ["link", state] => self.site().calls.handle_link(now, *state == "up"),
            ["resync", "begins"] => self.site().calls.begin_resync(now),
            ["resync", "ends", "without", unseen @ ..] => {
                let unseen: Vec<_> = unseen.iter().copied().map(Extension::from).collect();
                self.site().calls.end_resync(now, &unseen);
            }
            ["resync", "ends"] => self.site().calls.end_resync(now, &[]),
            ["phantom", number, state] => self.phantom(now, &receiver(number), state),
            ["duty", duty, rest @ ..] => {
                let mandate = mandate(duty, &args(&rest.join(" ")));
                self.site().calls.set_mandate(now, mandate);
            }
            ["paused" | "node" | "claimed" | "closed" | "withdrawn" | "named" | "yield", ..] => {
                self.group(now, &words);
            }
            ["drain"] => self.site().calls.drain(now),
            _ => self.fail(&format!("cannot read {what:?}")),
        }
    }

    /// What agents and supervisors do.
    fn person(&mut self, now: Now, words: &[&str]) {
        match words {
            ["agent", station, "logs", how, rest @ ..] => {
                let agentid = (*how == "in").then(|| rest.last().copied().unwrap_or("").to_owned());
                let station = Extension::from(*station);
                let event = AgentEvent { station, agentid, split: None };
                self.site().calls.handle_agent(now, &event);
            }
            [by @ ("agent" | "supervisor"), id, verb @ ("starts" | "stops"), rest @ ..] => {
                let rest = rest.join(" ");
                let request = self.request(by, id, verb, &args(&rest));
                self.site().calls.handle_request(now, &request);
            }
            [by @ ("agent" | "supervisor"), verb @ ("pauses" | "resumes"), rest @ ..] => {
                self.pause(now, by, *verb == "pauses", &rest.join(" "));
            }
            _ => self.fail(&format!("cannot read {words:?}")),
        }
    }

    /// A recording is paused, or goes on.
    fn pause(&mut self, now: Now, by: &str, begins: bool, rest: &str) {
        let told = args(rest);
        let seconds = told.get("s").map_or(300, |s| s.parse().expect("seconds"));
        let most = begins.then(|| Duration::from_secs(seconds));
        let request = PauseRequest { target: self.target(&told), most, by: by.to_owned() };
        let done = self.site().calls.pause(now, &request);
        let line = match done {
            Ok(done) => {
                let hearers: Vec<_> = done.hearers.iter().map(ToString::to_string).collect();
                let (name, paused) = (self.writer.name(done.recording), done.pausedms);
                format!("=> answer {name} pausedms={paused} hearers={}\n", hearers.join(","))
            }
            Err(refusal) => format!("=> answer fails {refusal}\n"),
        };
        self.output += &line;
    }

    /// What other members tell, and the group.
    fn group(&mut self, now: Now, words: &[&str]) {
        match words {
            ["paused", number, rest @ ..] => {
                let rest = rest.join(" ");
                let word = self.pause_word(number.parse().expect("a number"), &args(&rest));
                self.site().calls.handle_pause(now, &word);
            }
            ["node", number, state, rest @ ..] => {
                let rest = rest.join(" ");
                let told = args(&rest);
                let node = NodeId(number.parse().expect("a node's number"));
                self.peers.insert(node, peer(*state == "up", &told));
                let peers = self.peers.clone();
                self.site().calls.set_peers(now, peers);
            }
            ["claimed", name, rest @ ..] => {
                let rest = rest.join(" ").replace("broken", "broken=1").replace("ours", "ours=1");
                let claimed = self.claimed(name, &args(&rest));
                self.site().calls.handle_claimed(now, claimed);
            }
            ["closed", name, how] => {
                let name = self.named(name);
                let over = if *how == "stopped" { Over::Stopped } else { Over::Ended };
                self.site().calls.handle_closed(now, name, over);
            }
            ["withdrawn", name] => {
                let name = self.named(name);
                self.site().calls.handle_withdrawn(now, name);
            }
            ["named", id, name] => {
                let (id, name) = (self.named(id), self.named(name));
                self.site().calls.handle_named(now, id, name);
            }
            ["yield", segment] => {
                let number = segment.trim_start_matches('s').parse().expect("a segment");
                self.site().calls.handle_yield(now, SegmentId(number));
            }
            _ => self.fail(&format!("cannot read {words:?}")),
        }
    }

    fn named(&self, name: &str) -> RecordingId {
        match name.strip_prefix('g') {
            _ if name == "before" => opened_before(),
            Some(number) => named_by_group(number.parse().expect("a number")),
            None => self.writer.recording(name).unwrap_or_else(|| self.fail("no such recording")),
        }
    }

    fn claimed(&self, name: &str, told: &Args) -> Claimed {
        let number = |key: &str| told.get(key).map(|text| text.parse().expect("a number"));
        let over = told.get("over").map(|how| match *how {
            "stopped" => Over::Stopped,
            _ => Over::Ended,
        });
        let holder = number("holder").map(|node: u16| Holder {
            node: NodeId(node),
            epoch: number("epoch").unwrap_or(1).into(),
        });
        let trunk = told.get("scope") == Some(&"trunk");
        Claimed {
            recording: self.named(name),
            ucid: told.get("ucid").map(|text| ucid(text)),
            callid: call(told),
            began: None,
            copy: u8::try_from(number("copy").unwrap_or(1)).expect("a copy"),
            take: number("take").unwrap_or(1),
            scope: if trunk { Scope::Trunk } else { Scope::Station },
            trigger: TriggerKind::Rule,
            rule: String::new(),
            extension: Extension::new(told.get("extension").copied().unwrap_or("31001")),
            holder,
            broken: told.contains_key("broken"),
            over,
            ours: told.contains_key("ours"),
        }
    }

    fn phantom(&mut self, now: Now, phantom: &Receiver, state: &str) {
        let calls = &mut self.site().calls;
        match state {
            "ready" => calls.handle_phantom_ready(now, phantom),
            "lost" => calls.handle_phantom_lost(now, phantom),
            "refused" => calls.handle_phantom_refused(now, phantom),
            _ => self.fail("a phantom is ready, lost or refused"),
        }
    }

    fn switch(&mut self, now: Now, text: &str) {
        let words: Vec<&str> = text.split_whitespace().collect();
        let rest = words.get(1..).unwrap_or_default().join(" ");
        let told = args(&rest);
        let phantom = words.get(1).map(|word| Extension::from(*word));
        let phantom = || phantom.clone().expect("which phantom");
        let receiver = words.get(1).map(|word| receiver(word));
        let receiver = || receiver.clone().expect("which phantom");
        let site = self.site();
        match words.first().copied().unwrap_or_default() {
            "joins" => site.join(&phantom()),
            "admits" => {
                if let Some((ticket, _)) = site.joins.remove(&phantom()) {
                    site.calls.handle_joined(now, ticket);
                }
            }
            "refuses" => {
                if let Some((ticket, _)) = site.joins.remove(&phantom()) {
                    let why = refusal_of(words.get(2).copied().unwrap_or_default());
                    site.calls.handle_join_refused(now, ticket, &why);
                }
            }
            "releases" => site.leave(&phantom()),
            "hears" => site.hear(&receiver()),
            "quiet" => site.calls.handle_media_stopped(now, receiver()),
            "media" => site.calls.handle_media_started(now, receiver(), None, "g711a", 20),
            "packet" => site.packet(receiver()),
            "full" | "writes" => {
                let notice = MediaNotice::Writing(words[0] == "writes");
                site.calls.handle_media_notice(now, &notice);
            }
            "stalls" => site.calls.handle_media_notice(now, &MediaNotice::Stalled),
            "silent" | "audible" => {
                let segment = site.segments[&receiver()];
                let notice = match words[0] {
                    "silent" => MediaNotice::Silent { segment },
                    _ => MediaNotice::Audible { segment },
                };
                site.calls.handle_media_notice(now, &notice);
            }
            "stray" => {
                let notice = MediaNotice::Stray { phantom: phantom() };
                site.calls.handle_media_notice(now, &notice);
            }
            "snapshot" => {
                let snapshot = snapshot(&told);
                site.calls.handle_snapshot(now, &snapshot);
            }
            "identity" => site.calls.handle_ucid(now, &call(&told), ucid(told["ucid"])),
            "unknown" => site.calls.handle_unknown_call(now, &call(&told)),
            other => self.fail(&format!("the switch cannot {other:?}")),
        }
    }

    fn call_event(&self, monitor: Monitor, text: &str) -> CallEvent {
        let (word, rest) = text.trim().split_once(char::is_whitespace).unwrap_or((text, ""));
        let told = args(rest);
        let own = match &monitor {
            Monitor::Station(own) | Monitor::Phantom(own) | Monitor::Via(own) => own.to_string(),
        };
        let named = |key: &str| told.get(key).copied().map(Device::parse);
        let device = || named("dev").unwrap_or_else(|| Device::parse(&own));
        let conn = |device: Device| Connection { call: call(&told), device };
        let at_device = |key: &str| named("dev").or_else(|| named(key)).unwrap_or(Device::Unknown);
        let change = match word {
            "initiated" => CallChange::ServiceInitiated(conn(device())),
            "originated" => CallChange::Originated(conn(device())),
            "network" => CallChange::NetworkReached(conn(device())),
            "delivered" => CallChange::Delivered {
                connection: conn(at_device("alerting")),
                alerting: named("alerting").unwrap_or(Device::Unknown),
            },
            "established" => CallChange::Established {
                connection: conn(at_device("answering")),
                answering: named("answering").unwrap_or(Device::Unknown),
            },
            "held" => CallChange::Held(conn(device())),
            "retrieved" => CallChange::Retrieved(conn(device())),
            "queued" => CallChange::Queued {
                connection: conn(at_device("queue")),
                queue: named("queue").unwrap_or(Device::Unknown),
            },
            "diverted" => CallChange::Diverted {
                connection: conn(device()),
                to: named("to").unwrap_or(Device::Unknown),
            },
            "failed" => CallChange::Failed(conn(device())),
            "cleared" => CallChange::ConnectionCleared {
                connection: conn(device()),
                releasing: named("releasing").unwrap_or_else(device),
            },
            "callcleared" => CallChange::CallCleared(call(&told)),
            "conferenced" => CallChange::Conferenced(merge(&told)),
            "transferred" => CallChange::Transferred(merge(&told)),
            _ => self.fail(&format!("unknown event {word:?}")),
        };
        CallEvent { monitor, change, facts: facts(&told) }
    }

    /// A pause that node 2 tells of.
    fn pause_word(&self, number: i64, told: &Args) -> PauseWord {
        PauseWord {
            id: PauseId { node: NodeId(2), at: number },
            recording: self.named(told.get("recording").copied().unwrap_or("g1")),
            ucid: told.get("ucid").map(|text| ucid(text)),
            joined: told.get("joined").into_iter().map(|text| ucid(text)).collect(),
            callid: call(told).to_string(),
            by: "supervisor".to_owned(),
            leftms: told.get("left").map_or(0, |left| left.parse().expect("milliseconds")),
        }
    }

    fn target(&self, told: &Args) -> Target {
        match (told.get("extension"), told.get("ucid"), told.get("recording")) {
            (Some(extension), ..) => Target::Extension(Extension::from(*extension)),
            (_, Some(text), _) => Target::Ucid(ucid(text)),
            (_, _, Some(name)) => Target::Recording(self.named(name)),
            _ => self.fail("a request needs extension, ucid or recording"),
        }
    }

    fn request(&self, by: &str, id: &str, verb: &str, told: &Args) -> Request {
        let target = self.target(told);
        let scope = match told.get("scope") {
            Some(&"trunk") => Scope::Trunk,
            _ => Scope::Station,
        };
        let by = if by == "agent" { Requester::Agent } else { Requester::Supervisor };
        let action = match verb {
            "starts" => Action::Start { target, scope },
            _ => Action::Stop { target },
        };
        Request { id: id.parse().expect("a request's number"), by, action }
    }

    fn fail(&self, what: &str) -> ! {
        panic!("{}: {what}", self.place)
    }
}

fn args(text: &str) -> Args<'_> {
    text.split_whitespace().filter_map(|word| word.split_once('=')).collect()
}

fn call(told: &Args) -> CallId {
    CallId::new(told.get("call").copied().expect("call=…"))
}

fn monitor_of(text: &str) -> Monitor {
    let words: Vec<&str> = text.split_whitespace().collect();
    match words.as_slice() {
        ["station", number] => Monitor::Station(Extension::from(*number)),
        ["via", number] => Monitor::Via(Extension::from(*number)),
        ["phantom", number] => Monitor::Phantom(Extension::from(*number)),
        _ => panic!("a monitor is station, via or phantom and a number, not {text:?}"),
    }
}

fn numbers(text: &str) -> impl Iterator<Item = Extension> {
    let range = |part: &str| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let [from, to] = [from, to].map(|end| end.parse::<u64>().expect("a number"));
        from..=to
    };
    let parts: Vec<&str> = text.split([',', ' ']).filter(|part| !part.is_empty()).collect();
    let all: Vec<u64> = parts.into_iter().flat_map(range).collect();
    all.into_iter().map(|number| Extension::new(number.to_string()))
}

fn facts(told: &Args) -> CallFacts {
    let text = |key: &str| told.get(key).map(|text| (*text).to_owned());
    let number = |key: &str| told.get(key).map(|text| Extension::from(*text));
    let trunk = |key: &str| told.get(key).and_then(|text| text.split_once('/'));
    let original = told.get("originalcalling").map(|calling| OriginalCall {
        ucid: told.get("originalucid").map(|text| ucid(text)),
        calling: Some(Device::parse(calling)),
        called: told.get("originalcalled").map(|text| Device::parse(text)),
        trunkgroup: trunk("originaltrunk").map(|trunk| trunk.0.to_owned()),
        trunkmember: trunk("originaltrunk").map(|trunk| trunk.1.to_owned()),
        userdata: None,
    });
    CallFacts {
        ucid: told.get("ucid").map(|text| ucid(text)),
        calling: told.get("calling").map(|text| Device::parse(text)),
        called: told.get("called").map(|text| Device::parse(text)),
        trunkgroup: trunk("trunk").map(|trunk| trunk.0.to_owned()),
        trunkmember: trunk("trunk").map(|trunk| trunk.1.to_owned()),
        split: number("split"),
        vdn: number("vdn"),
        agentid: text("agent"),
        userdata: told.get("uui").map(|text| text.as_bytes().to_vec()),
        cause: text("cause"),
        original,
    }
}

/// `old=1207,1208 new=1207 by=31002 added=31003 parties=31003@1208,T12#3`.
fn merge(told: &Args) -> Merge {
    let by = Device::parse(told.get("by").copied().unwrap_or_default());
    let mut old = told
        .get("old")
        .copied()
        .expect("old=…")
        .split(',')
        .map(|id| Connection { call: CallId::new(id), device: by.clone() });
    let primary = old.next().expect("at least one old call");
    let secondary = old.next();
    let new = CallId::new(told.get("new").copied().unwrap_or(primary.call.as_str()));
    let party = |text: &str| {
        let (name, before) = text.split_once('@').map_or((text, None), |it| (it.0, Some(it.1)));
        let (device, trunk) = name.split_once('~').map_or((name, None), |it| (it.0, Some(it.1)));
        let (device, trunk) = (Device::parse(device), trunk.map(Device::parse));
        let named = matches!(device, Device::Number(_));
        MergedParty {
            new: Connection { call: new.clone(), device: trunk.unwrap_or_else(|| device.clone()) },
            old: before.map(|id| Connection { call: CallId::new(id), device: device.clone() }),
            endpoint: if named { device.clone() } else { Device::Unknown },
            trunk: match device {
                Device::Trunk { group, member } => Some((group, member)),
                _ => None,
            },
        }
    };
    let parties = told.get("parties").map(|list| list.split(',').map(party).collect());
    Merge {
        primary,
        secondary,
        by,
        added: Device::parse(told.get("added").copied().unwrap_or_default()),
        parties: parties.unwrap_or_default(),
        new_ucid: told.get("newucid").map(|text| ucid(text)),
        old_ucid: told.get("olducid").map(|text| ucid(text)),
    }
}

/// `from=31002 parties=31002/connected,T12#3/connected`.
fn snapshot(told: &Args) -> CallSnapshot {
    let party = |text: &str| {
        let (device, state) = text.split_once('/').unwrap_or((text, "connected"));
        let state = match state {
            "connected" => PartyState::Connected,
            "held" => PartyState::Held,
            "alerting" => PartyState::Alerting,
            "queued" => PartyState::Queued,
            other => panic!("unknown state {other:?}"),
        };
        (Device::parse(device), state)
    };
    let from = told.get("from").copied().expect("from=…");
    CallSnapshot {
        call: call(told),
        monitor: Monitor::Station(Extension::from(from)),
        parties: told
            .get("parties")
            .map(|list| list.split(',').map(party).collect())
            .unwrap_or_default(),
        facts: facts(told),
    }
}

fn rule(told: &Args) -> RuleConfig {
    let list = |key: &str| -> Vec<String> {
        let parts = told.get(key).into_iter().flat_map(|text| text.split(','));
        parts.map(str::to_owned).collect()
    };
    let word = |text: &str| serde_json::Value::String(text.to_owned());
    let mode = told.get("record").copied().unwrap_or("always");
    RuleConfig {
        name: told.get("name").copied().unwrap_or("rule").to_owned(),
        record: serde_json::from_value(word(mode)).expect("always, percent, ondemand or never"),
        percent: told.get("percent").map(|text| text.parse().expect("a percentage")),
        extension: list("extension"),
        agentid: list("agentid"),
        vdn: list("vdn"),
        skill: list("skill"),
        trunkgroup: list("trunkgroup"),
        direction: list("direction")
            .iter()
            .map(|text| serde_json::from_value(word(text)).expect("a direction"))
            .collect(),
        party: list("party"),
    }
}

/// A recording that a crash left open.
fn draft(told: &Args) -> Draft {
    let opened = at(0).wall;
    let presence = |who: &str| Presence {
        who: who.to_owned(),
        stretch: Stretch { from: opened, to: None },
        holds: Vec::new(),
    };
    let text = |key: &str| told.get(key).copied().unwrap_or_default().to_owned();
    Draft {
        scope: if told.get("scope") == Some(&"trunk") { Scope::Trunk } else { Scope::Station },
        rule: text("rule"),
        ucid: told.get("ucid").map(|text| ucid(text)),
        callids: told.get("call").map(|id| (*id).to_owned()).into_iter().collect(),
        extension: Extension::new(text("extension")),
        agentid: text("agent"),
        calling: text("calling"),
        called: text("called"),
        parties: told
            .get("parties")
            .map(|list| list.split(',').map(presence).collect())
            .unwrap_or_default(),
        pauses: told.get("paused").map(|text| paused_before(text)).into_iter().collect(),
        ..Draft::blank(opened_before(), NodeId(1), opened)
    }
}

/// A pause that goes on, by when it began and when it ends by itself; `#` gives the number that it has from node 2.
fn paused_before(text: &str) -> Pause {
    let (text, number) = text.split_once('#').map_or((text, None), |(text, at)| (text, Some(at)));
    let id = number.map(|at| PauseId { node: NodeId(2), at: at.parse().expect("a number") });
    let (from, until) = text.split_once('-').expect("from-until");
    let [from, until] = [from, until].map(|ms| at(ms.parse().expect("milliseconds")).wall);
    let stretch = Stretch { from, to: None };
    Pause { id, stretch, until, by: "supervisor".to_owned(), resumed: None }
}

/// The name of a recording that a crash left open; a scenario calls it `before`.
fn opened_before() -> RecordingId {
    RecordingId::new(at(0).wall, *b"openbefore")
}

/// A device, or one side of it: `31001`, `31001/agent`.
fn receiver(text: &str) -> Receiver {
    let (device, side) = text.split_once('/').unwrap_or((text, ""));
    let side = Side::ALL.into_iter().find(|known| known.as_str() == side);
    Receiver { device: device.into(), side }
}

fn refusal_of(text: &str) -> JoinRefusal {
    match text {
        "partylimit" => JoinRefusal::PartyLimit,
        "busy" => JoinRefusal::PhantomBusy,
        "gone" => JoinRefusal::CallGone,
        "linkdown" => JoinRefusal::LinkDown,
        other => JoinRefusal::Other(other.to_owned()),
    }
}

fn mandate(duty: &str, told: &Args) -> Mandate {
    let number = |key: &str, usual: u8| {
        told.get(key).map_or(usual, |text| text.parse().expect("a small number"))
    };
    Mandate {
        epoch: number("epoch", 0).into(),
        moves: told.get("moves") != Some(&"no"),
        copy: number("copy", 1),
        quorum: told.get("quorum") != Some(&"no"),
        rank: number("rank", 1),
        ..Mandate::alone(duty_of(duty))
    }
}

fn peer(alive: bool, told: &Args) -> Peer {
    let phantoms = told.get("phantoms").copied().unwrap_or("79001,79002,79003");
    let copy = told.get("copy").map_or(1, |text| text.parse().expect("a copy"));
    let serves = alive && told.get("serves") != Some(&"no");
    let stands_by = told.get("duty") == Some(&"standby");
    let phantoms = phantoms.split(',').map(Extension::from).collect();
    Peer { copy, alive, serves, stands_by, phantoms }
}

fn duty_of(text: &str) -> Duty {
    match text {
        "lead" => Duty::Lead,
        "follow" => Duty::Follow,
        "standby" => Duty::Standby,
        _ => Duty::None,
    }
}
