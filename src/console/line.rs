//! From a line to a command, or to a mistake that names its remedy. Pure: any text in, no panic.

use storage_core::record::Scope;
use storage_core::{Extension, NodeId, RecordingId, WallTime};

use super::{Code, Failure};
use crate::completeness::{day_named, today};
use crate::config::{CLUSTER_PORT, HostPort, LiveSetting, host_port, key_names, nearest};
use crate::users::UserRole;
use crate::web::backend::Code as Shared;

/// Longest piece of a line that a message repeats, in characters.
const SHOWN_CHARS_MAX: usize = 40;

/// What `show` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// The node and its group.
    Status,
    /// Calls in progress.
    Calls,
    /// Phantoms by state.
    Phantoms,
    /// The other members.
    Peers,
    /// All parameters.
    Params,
    /// The recording rules.
    Rules,
    /// What is wrong now.
    Alarms,
}

impl Topic {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Status,
        Self::Calls,
        Self::Phantoms,
        Self::Peers,
        Self::Params,
        Self::Rules,
        Self::Alarms,
    ];

    /// The word on the line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Calls => "calls",
            Self::Phantoms => "phantoms",
            Self::Peers => "peers",
            Self::Params => "params",
            Self::Rules => "rules",
            Self::Alarms => "alarms",
        }
    }
}

/// What a line wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// An empty line.
    Nothing,
    /// The commands.
    Help,
    /// Something to look at.
    Show(Topic),
    /// A parameter that changes while the node runs.
    Set(LiveSetting),
    /// Changed parameters into the configuration file.
    Save,
    /// This node out of service, or back.
    Drain(bool),
    /// This node takes the lead, or ends the preference for whoever was asked to lead.
    Takeover(bool),
    /// A planned take-over to the next recorder and back.
    Drill,
    /// Record the call at this station.
    StartRecord(Extension, Scope),
    /// Stop recording the call at this station.
    StopRecord(Extension),
    /// `pause EXT`
    PauseRecord(Extension),
    /// `resume EXT`
    ResumeRecord(Extension),
    /// A user of the web interface; the password is the next line.
    AddUser {
        /// What he signs in with.
        name: String,
        /// What he may do.
        role: UserRole,
        /// An agent's station.
        extension: Option<String>,
    },
    /// A member joins the group.
    AddMember(NodeId, HostPort),
    /// A member leaves the group for good.
    RemoveMember(NodeId),
    /// A member takes another one's place.
    ReplaceMember {
        /// Who leaves.
        old: NodeId,
        /// Who joins.
        new: NodeId,
        /// Where it listens for its peers.
        place: HostPort,
    },
    /// What became of the calls that began on this day.
    Report {
        /// Its begin.
        day: WallTime,
        /// As one line of JSON.
        json: bool,
    },
    /// A recording is given up that nobody will ever seal.
    Resolve(RecordingId),
    /// All voice files and logs of this node are read over now.
    Scrub,
    /// Fill the holes of one copy of a call from the other.
    Repair(RecordingId),
    /// The end of the connection.
    Quit,
}

/// Each command with its words and what it does, as `help` prints them.
pub(super) const HELP: [(&str, &str); 23] = [
    ("help", "this list"),
    ("show status", "members, roles, duties, health, last takeover"),
    ("show calls|phantoms|peers|params|rules|alarms", "what there is of them now"),
    ("set al_… VALUE", "change al_serverrole, al_rescuems, al_followms, al_maxparties"),
    ("save", "write changed parameters into the configuration file"),
    ("drain [off]", "hand the lead over, finish calls, then say so; off: back into service"),
    ("takeover [off]", "this node takes the lead; off: no preference any more"),
    ("drill", "planned takeover to the next recorder and back, with the gaps measured"),
    ("startrecord EXT [trunk]", "record the call at this station"),
    ("stoprecord EXT", "stop recording it"),
    ("pause EXT", "record nothing of it (card data) until resumed, al_maxpauses at most"),
    ("resume EXT", "record it again"),
    ("add user NAME ROLE [EXT]", "a user of the web interface; the password is the next line"),
    ("add member NODE HOST:PORT", "a member joins the group"),
    ("remove member NODE", "a member leaves the group for good"),
    ("replace member OLD NEW HOST:PORT", "a new member takes an old one's place"),
    ("report [DAY] [json]", "what became of the calls of a UTC day; today if left out"),
    ("scrub", "read all voice files and logs over now; alarms name what is damaged"),
    ("repair RECORDINGID", "make a third recording: this copy, its holes filled from the other"),
    ("resolve RECORDINGID", "give up a recording whose audio is lost for good"),
    ("quit", "end this connection"),
    ("", ""),
    ("", "each answer ends with a line: ok, or error CODE message"),
];

const VERBS: [&str; 18] = [
    "help",
    "show",
    "set",
    "save",
    "drain",
    "takeover",
    "drill",
    "startrecord",
    "stoprecord",
    "pause",
    "resume",
    "add",
    "remove",
    "replace",
    "report",
    "scrub",
    "repair",
    "resolve",
];

/// Reads a line.
///
/// # Errors
/// A mistake, with what to write instead.
pub fn parse(line: &str) -> Result<Command, Failure> {
    if is_foreign(line) {
        let message = "this is a console for lines of text; the web page is at al_listen";
        return Err(Failure::new(Code::Foreign, message));
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    let Some((verb, rest)) = words.split_first() else { return Ok(Command::Nothing) };
    match (verb.to_ascii_lowercase().as_str(), rest) {
        ("help" | "?", _) => Ok(Command::Help),
        ("show", rest) => show(rest),
        ("set", [key, ..]) => set(key, line),
        ("save", []) => Ok(Command::Save),
        ("drain", rest) => on_or_off(rest).map(Command::Drain).ok_or_else(|| usage("drain")),
        ("takeover", rest) => {
            on_or_off(rest).map(Command::Takeover).ok_or_else(|| usage("takeover"))
        }
        ("drill", []) => Ok(Command::Drill),
        ("startrecord", [extension]) => {
            Ok(Command::StartRecord(station(extension)?, Scope::Station))
        }
        ("startrecord", [extension, scope]) => match scope.to_ascii_lowercase().as_str() {
            "trunk" => Ok(Command::StartRecord(station(extension)?, Scope::Trunk)),
            "station" => Ok(Command::StartRecord(station(extension)?, Scope::Station)),
            _ => Err(usage("startrecord")),
        },
        ("stoprecord", [extension]) => Ok(Command::StopRecord(station(extension)?)),
        ("pause", [extension]) => Ok(Command::PauseRecord(station(extension)?)),
        ("resume", [extension]) => Ok(Command::ResumeRecord(station(extension)?)),
        ("add", [what, rest @ ..]) => add(what, rest),
        ("remove", ["member", node]) => Ok(Command::RemoveMember(member(node)?)),
        ("replace", ["member", old, new, place]) => {
            let (old, new) = (member(old)?, member(new)?);
            Ok(Command::ReplaceMember { old, new, place: address(place)? })
        }
        ("report", rest) => report(rest),
        ("scrub", []) => Ok(Command::Scrub),
        ("repair", [recording]) => Ok(Command::Repair(recording_name(recording)?)),
        ("resolve", [recording]) => Ok(Command::Resolve(recording_name(recording)?)),
        ("quit" | "exit" | "bye", []) => Ok(Command::Quit),
        (verb, _) if VERBS.contains(&verb) => Err(usage(verb)),
        (verb, _) => Err(unknown(verb)),
    }
}

/// A web page can make a browser on this machine send HTTP or other protocols here, with lines of
/// its own in them. None of those is to be obeyed.
fn is_foreign(line: &str) -> bool {
    let last = line.split_whitespace().next_back().unwrap_or_default();
    last.starts_with("HTTP/") || line.chars().any(|c| c.is_control() && c != '\t')
}

/// Lines of `help` for this verb.
fn usage(verb: &str) -> Failure {
    let forms = HELP.iter().map(|(form, _)| *form);
    let forms: Vec<_> = forms.filter(|form| form.split(' ').next() == Some(verb)).collect();
    Failure::new(Shared::BadValue, format!("write {}", forms.join(", or ")))
}

fn unknown(verb: &str) -> Failure {
    let remedy = match nearest(&shown(verb), VERBS.into_iter().chain(["quit"])) {
        Some(meant) => format!("did you mean {meant}?"),
        None => "`help` lists the commands".to_owned(),
    };
    Failure::new(Code::UnknownCommand, format!("there is no command {}; {remedy}", shown(verb)))
}

fn report(words: &[&str]) -> Result<Command, Failure> {
    let (words, json) = match words {
        [rest @ .., "json"] => (rest, true),
        all => (all, false),
    };
    let day = match words {
        [] => Some(today()),
        [day] => day_named(day),
        _ => None,
    };
    day.map(|day| Command::Report { day, json }).ok_or_else(|| {
        Failure::new(
            Shared::BadValue,
            "write report, or report 2026-11-27, and json behind it for programs",
        )
    })
}
fn show(rest: &[&str]) -> Result<Command, Failure> {
    let [word] = rest else { return Err(show_usage()) };
    let word = word.to_ascii_lowercase();
    let topic = Topic::ALL.into_iter().find(|topic| topic.as_str() == word);
    topic.map(Command::Show).ok_or_else(show_usage)
}

fn show_usage() -> Failure {
    let words = Topic::ALL.map(Topic::as_str).join("|");
    Failure::new(Shared::BadValue, format!("write show {words}"))
}

/// `set KEY VALUE` or `set KEY = VALUE`; quotes around the value are as good as none.
fn set(key: &str, line: &str) -> Result<Command, Failure> {
    let after_verb = line.trim_start().split_once(char::is_whitespace).map_or("", |(_, rest)| rest);
    let value = after_verb.trim_start().strip_prefix(key).unwrap_or_default().trim();
    let value = value.strip_prefix('=').map_or(value, str::trim);
    let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    // `set al_rescuems=300` is one word.
    let (key, value) = match key.split_once('=') {
        Some((key, first)) if value.is_empty() => (key, first),
        _ => (key, quoted.unwrap_or(value)),
    };
    LiveSetting::read(&shown_key(key), value).map(Command::Set).map_err(Failure::from)
}

/// A key is repeated in messages, so it is kept short.
fn shown_key(key: &str) -> String {
    key.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS_MAX).collect()
}

fn on_or_off(rest: &[&str]) -> Option<bool> {
    match rest {
        [] | ["on"] => Some(true),
        ["off"] => Some(false),
        _ => None,
    }
}

fn station(word: &str) -> Result<Extension, Failure> {
    let dialled = |c: char| c.is_ascii_digit() || c == '*' || c == '#';
    if word.len() <= 24 && word.chars().all(dialled) {
        return Ok(Extension::new(word));
    }
    let message = format!("{} is no extension; write digits such as 3100", shown(word));
    Err(Failure::new(Shared::BadValue, message))
}

fn add(what: &str, rest: &[&str]) -> Result<Command, Failure> {
    match (what, rest) {
        ("user", [name, role, rest @ ..]) if rest.len() <= 1 => {
            let role = role
                .parse::<UserRole>()
                .map_err(|error| Failure::new(Shared::BadValue, error.to_string()))?;
            let extension = rest.first().map(|word| (*word).to_owned());
            Ok(Command::AddUser { name: (*name).to_owned(), role, extension })
        }
        ("member", [node, place]) => Ok(Command::AddMember(member(node)?, address(place)?)),
        _ => Err(usage("add")),
    }
}

fn recording_name(word: &str) -> Result<RecordingId, Failure> {
    word.parse().map_err(|_| {
        let word = shown(word);
        let message =
            format!("{word} is no recording's name; write it as `show calls` or a record has it");
        Failure::new(Shared::BadValue, message)
    })
}

fn member(word: &str) -> Result<NodeId, Failure> {
    let number = word.parse().ok().filter(|number| *number > 0);
    number.map(NodeId).ok_or_else(|| {
        let message =
            format!("{} is no member's number; write its al_nodeid, 1 or more", shown(word));
        Failure::new(Shared::BadValue, message)
    })
}

fn address(word: &str) -> Result<HostPort, Failure> {
    host_port(word, CLUSTER_PORT).map_err(|must_be| {
        let message = format!("{} must be {must_be}", shown(word));
        Failure::new(Shared::BadValue, message)
    })
}

fn shown(word: &str) -> String {
    word.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS_MAX).collect()
}

/// All whole lines and beginnings of lines that could go on from `start`, for completion.
#[must_use]
pub fn completions(start: &str) -> Vec<String> {
    let show = Topic::ALL.iter().map(|topic| format!("show {}", topic.as_str()));
    let set = LiveSetting::KEYS.iter().map(|key| format!("set {key} "));
    let others = ["help", "save", "drain", "takeover", "drill", "scrub", "quit"].map(str::to_owned);
    let open = [
        "startrecord ",
        "stoprecord ",
        "add user ",
        "add member ",
        "remove member ",
        "replace member ",
        "repair ",
        "resolve ",
    ];
    let all = show.chain(set).chain(others).chain(open.map(str::to_owned));
    let known: Vec<_> = all.filter(|line| line.starts_with(start)).collect();
    if known.is_empty() && start.starts_with("set ") {
        // Those that need a restart: the node says so better than a silent Tab.
        return key_names()
            .map(|key| format!("set {key} "))
            .filter(|line| line.starts_with(start))
            .collect();
    }
    known
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use storage_core::Role;

    use super::*;

    fn place(text: &str) -> HostPort {
        host_port(text, 1).unwrap()
    }

    #[test]
    fn lines_are_commands() {
        let id = "01890000-0000-7000-8000-000000000000";
        let user = |extension: Option<&str>| Command::AddUser {
            name: "anna".to_owned(),
            role: UserRole::Agent,
            extension: extension.map(str::to_owned),
        };
        for (line, command) in [
            ("", Command::Nothing),
            ("  \t", Command::Nothing),
            ("help", Command::Help),
            (" HELP ", Command::Help),
            ("show status", Command::Show(Topic::Status)),
            ("Show  ALARMS", Command::Show(Topic::Alarms)),
            ("set al_rescuems 300", Command::Set(LiveSetting::Rescue(Duration::from_millis(300)))),
            (
                "set al_rescuems = \"1 s\"",
                Command::Set(LiveSetting::Rescue(Duration::from_secs(1))),
            ),
            ("set al_maxparties=5", Command::Set(LiveSetting::MaxParties(5))),
            ("set  al_serverrole   backup ", Command::Set(LiveSetting::Role(Role::Backup))),
            ("save", Command::Save),
            ("drain", Command::Drain(true)),
            ("drain off", Command::Drain(false)),
            ("takeover", Command::Takeover(true)),
            ("takeover off", Command::Takeover(false)),
            ("drill", Command::Drill),
            ("startrecord 3100", Command::StartRecord("3100".into(), Scope::Station)),
            ("startrecord 3100 trunk", Command::StartRecord("3100".into(), Scope::Trunk)),
            ("stoprecord *3100", Command::StopRecord("*3100".into())),
            ("pause 3100", Command::PauseRecord("3100".into())),
            ("resume 3100", Command::ResumeRecord("3100".into())),
            ("add user anna agent", user(None)),
            ("add user anna agent 3100", user(Some("3100"))),
            ("add member 4 10.0.0.4:7400", Command::AddMember(NodeId(4), place("10.0.0.4:7400"))),
            ("add member 4 rec4", Command::AddMember(NodeId(4), place("rec4:7400"))),
            ("remove member 2", Command::RemoveMember(NodeId(2))),
            (
                "replace member 2 4 [::1]:7400",
                Command::ReplaceMember {
                    old: NodeId(2),
                    new: NodeId(4),
                    place: place("[::1]:7400"),
                },
            ),
            ("scrub", Command::Scrub),
            (&format!("repair {id}"), Command::Repair(id.parse().unwrap())),
            (&format!("resolve {id}"), Command::Resolve(id.parse().unwrap())),
            ("quit", Command::Quit),
        ] {
            assert_eq!(parse(line), Ok(command), "{line:?}");
        }
    }

    #[test]
    fn mistakes_name_their_remedy() {
        for (line, told) in [
            ("shwo status", "unknowncommand there is no command shwo; did you mean show?"),
            ("colour", "unknowncommand there is no command colour; `help` lists the commands"),
            ("show", "badvalue write show status|calls|"),
            ("show everything now", "badvalue write show status|calls|"),
            ("set", "badvalue write set al_… VALUE"),
            ("set al_rescuems", "badvalue al_rescuems: has no value; write the value"),
            ("set al_rescuem 1", "unknownparameter there is no parameter al_rescuem; did you mean"),
            ("set al_listen 127.0.0.1:1", "needsrestart al_listen does not change while"),
            ("set al_serverrole witness", "needsrestart a node becomes a witness"),
            ("scrub all", "badvalue write scrub"),
            ("save now", "badvalue write save"),
            ("drain now", "badvalue write drain [off]"),
            ("startrecord", "badvalue write startrecord EXT [trunk]"),
            ("startrecord anna", "badvalue anna is no extension; write digits"),
            ("startrecord 3100 all", "badvalue write startrecord EXT [trunk]"),
            ("add", "badvalue write add user NAME ROLE [EXT], or add member NODE HOST:PORT"),
            ("add user anna", "badvalue write add user NAME ROLE [EXT]"),
            ("add user anna agnt", "badvalue unknown role `agnt`; roles are"),
            ("add member 0 a:1", "badvalue 0 is no member's number"),
            ("add member 4 a:b:c", "badvalue a:b:c must be HOST:PORT such as"),
            ("remove 2", "badvalue write remove member NODE"),
            ("replace member 2 4", "badvalue write replace member OLD NEW HOST:PORT"),
            ("repair", "badvalue write repair RECORDINGID"),
            ("resolve 7", "badvalue 7 is no recording's name"),
            ("POST / HTTP/1.1", "foreign this is a console for lines of text"),
            ("get /show%20status HTTP/1.0", "foreign this is a console for lines of text"),
            ("help\0", "foreign this is a console for lines of text"),
            ("\x1b[A", "foreign this is a console for lines of text"),
        ] {
            let failure = parse(line).unwrap_err().to_string();
            assert!(failure.starts_with(told), "{line:?}: {failure}");
        }
    }

    #[test]
    fn every_command_of_the_help_is_one() {
        for (form, _) in HELP.iter().filter(|(form, _)| !form.is_empty()) {
            let verb = form.split(' ').next().unwrap();
            assert!(VERBS.contains(&verb) || verb == "quit", "{form}");
        }
        for verb in VERBS {
            assert!(HELP.iter().any(|(form, _)| form.split(' ').next() == Some(verb)), "{verb}");
        }
    }

    #[test]
    fn what_completes_is_a_command() {
        assert_eq!(completions("show ph"), ["show phantoms"]);
        assert_eq!(completions("set al_res"), ["set al_rescuems "]);
        assert_eq!(completions("set al_aesh"), ["set al_aeshost "]);
        assert!(completions("xyz").is_empty());
        for line in completions("").iter().filter(|line| !line.ends_with(' ')) {
            assert!(parse(line).is_ok(), "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_a_command_or_a_short_mistake_on_one_line(line in "\\PC{0,200}") {
            check(&line);
        }

        #[test]
        fn words_in_any_order_do_no_harm(words in proptest::collection::vec(
            prop_oneof![
                proptest::sample::select(VERBS.to_vec()).prop_map(str::to_owned),
                proptest::sample::select(vec!["user", "member", "=", "\"", "off", "1", "al_rescuems"])
                    .prop_map(str::to_owned),
                any::<String>(),
            ],
            0..6,
        )) {
            check(&words.join(" "));
        }
    }

    fn check(line: &str) {
        if let Err(failure) = parse(line) {
            assert!(!failure.message.is_empty());
            assert!(failure.message.chars().count() < 500, "{failure}");
        }
    }
}
