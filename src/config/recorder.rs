//! The settings of a recorder: its AES, its phantoms, what it watches, where media arrives, which
//! calls it records.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use recorder_core::call::rule::Rules;
use recorder_core::dmcc::Secret;
use rustls_pki_types::ServerName;
use storage_core::Extension;

use super::method::{self, Method};
use super::reader::Reader;
use super::ring;
use super::rules;
use super::value::{self, HostPort, RtpPorts};

/// Port of an AES with TLS and without (dossier 1.1).
const AES_PORT_TLS: u16 = 4722;
const AES_PORT_PLAIN: u16 = 4721;
pub(super) const DEFAULT_RESCUE: Duration = Duration::from_millis(400);
pub(super) const DEFAULT_FOLLOW: Duration = Duration::from_millis(200);
pub(super) const DEFAULT_MAX_PAUSE: Duration = Duration::from_secs(300);

/// All keys that only a recorder uses.
pub(super) const KEYS: &[&str] = &[
    "al_aeshost",
    "al_aesport",
    "al_aestls",
    "al_aesca",
    "al_aesuser",
    "al_aespassword",
    "al_aespasswordfile",
    "al_aesservername",
    "al_switchname",
    "al_method",
    "al_stationpassword",
    "al_stationpasswordfile",
    "al_stereo",
    "al_observecode",
    "al_registrationwindow",
    "al_registrationrate",
    "al_maxparties",
    "al_phantoms",
    "al_phantompassword",
    "al_phantompasswordfile",
    "al_peerphantoms",
    "al_stations",
    "al_agents",
    "al_vdns",
    "al_skills",
    "al_rtpaddress",
    "al_rtpports",
    "al_codecs",
    "al_mediaencryption",
    "al_rescuems",
    "al_followms",
    "al_standbyring",
    "al_hold",
    "al_maxpauses",
    "al_rule",
];

/// How to reach this node's AES.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aes {
    /// `al_aeshost` and `al_aesport`.
    pub place: HostPort,
    /// `al_aestls`.
    pub tls: bool,
    /// `al_aesca`; absent: what the machine trusts.
    pub ca: Option<PathBuf>,
    /// `al_aesservername`, or the host: the name to expect in the certificate.
    pub servername: String,
    /// `al_aesuser`.
    pub user: String,
    /// `al_aespassword`.
    pub password: Secret,
    /// `al_switchname`: the AES's name of its connection to the switch.
    pub switchname: String,
}

/// A codec that phantoms can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Codec {
    /// G.711 A-law.
    G711A,
    /// G.711 mu-law.
    G711U,
    /// G.729 with Annex A.
    G729A,
    /// G.729.
    G729,
}

impl Codec {
    /// Its name in `al_codecs`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::G711A => "g711a",
            Self::G711U => "g711u",
            Self::G729A => "g729a",
            Self::G729 => "g729",
        }
    }
}

/// How media may be encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MediaEncryption {
    /// Not at all.
    None,
    /// Avaya's own.
    Aes,
    /// SRTP, 80-bit tag.
    SrtpHmac80,
    /// SRTP, 32-bit tag.
    SrtpHmac32,
}

impl MediaEncryption {
    /// Its name in `al_mediaencryption`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Aes => "aes",
            Self::SrtpHmac80 => "srtp-aescm128-hmac80",
            Self::SrtpHmac32 => "srtp-aescm128-hmac32",
        }
    }
}

/// What is watched for calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Monitored {
    /// `al_stations`.
    pub stations: BTreeSet<Extension>,
    /// `al_agents`.
    pub agents: BTreeSet<Extension>,
    /// `al_vdns`.
    pub vdns: BTreeSet<Extension>,
    /// `al_skills`.
    pub skills: BTreeSet<Extension>,
}

/// What it takes to record.
#[derive(Clone, Debug)]
pub struct Recorder {
    /// The AES.
    pub aes: Aes,
    /// `al_method`.
    pub method: Method,
    /// `al_registrationwindow`: registration requests open at once.
    pub registration_window: u32,
    /// `al_registrationrate`: registrations a second; absent: no limit.
    pub registration_rate: Option<u32>,
    /// `al_maxparties`: with the phantom, a call has no more parties than this.
    pub maxparties: u32,
    /// `al_phantoms`: ours; none with multiple registration.
    pub phantoms: BTreeSet<Extension>,
    /// `al_phantompassword`: their security code.
    pub phantom_password: Secret,
    /// `al_peerphantoms`: those of the other nodes; absent: the group tells them.
    pub peerphantoms: Option<BTreeSet<Extension>>,
    /// What is watched.
    pub monitored: Monitored,
    /// `al_rtpaddress`: where the switch sends media to.
    pub rtp_address: IpAddr,
    /// `al_rtpports`: at least a pair for each device.
    pub rtp_ports: RtpPorts,
    /// `al_codecs` that this version records, in order of preference; never empty.
    pub codecs: Vec<Codec>,
    /// `al_mediaencryption` that this version understands, in order of preference; never empty.
    pub mediaencryption: Vec<MediaEncryption>,
    /// `al_rescuems`.
    pub rescue: Duration,
    /// `al_followms`.
    pub follow: Duration,
    /// `al_standbyring`: so much of each call that another node records is kept in memory; zero: nothing.
    pub standby_ring: Duration,
    /// `al_hold = "skip"`: what arrives while the call is on hold is left out of the voice file, and declared.
    pub skip_hold: bool,
    /// `al_maxpauses`: a pause ends by itself after this time.
    pub max_pause: Duration,
    /// `[[al_rule]]` in their order; empty: every call is recorded.
    pub rules: Rules,
}

pub(super) fn read(reader: &mut Reader) -> Recorder {
    let aes = read_aes(reader);
    let mediaencryption = read_mediaencryption(reader, &aes);
    let monitored = read_monitored(reader);
    let (method, phantoms, phantom_password) = method::read(reader, &monitored);
    let peerphantoms = reader.extensions("al_peerphantoms");
    refuse_overlaps(reader, &phantoms, peerphantoms.as_ref(), &monitored);
    check_agents(reader, &monitored, &method);
    Recorder {
        aes,
        rtp_ports: read_rtp_ports(reader, &method, &phantoms, &monitored),
        method,
        registration_window: reader.number("al_registrationwindow", 1..=1_000).unwrap_or(20),
        registration_rate: reader
            .number("al_registrationrate", 0..=10_000)
            .filter(|rate| *rate > 0),
        maxparties: read_maxparties(reader).unwrap_or(6),
        phantom_password,
        rtp_address: read_rtp_address(reader),
        phantoms,
        peerphantoms,
        monitored,
        codecs: read_codecs(reader),
        mediaencryption,
        rescue: read_rescue(reader),
        follow: read_follow(reader),
        standby_ring: ring::read(reader),
        skip_hold: reader.word("al_hold", &[("record", false), ("skip", true)]).unwrap_or(false),
        max_pause: reader.span("al_maxpauses", 1_000, DEFAULT_MAX_PAUSE, 1_000..=86_400_000),
        rules: rules::read(reader),
    }
}

/// Two people and the phantom are the least that makes sense.
pub(super) fn read_maxparties(reader: &mut Reader) -> Option<u32> {
    reader.number("al_maxparties", 3..=64)
}

pub(super) fn read_rescue(reader: &mut Reader) -> Duration {
    reader.span("al_rescuems", 1, DEFAULT_RESCUE, 10..=60_000)
}

pub(super) fn read_follow(reader: &mut Reader) -> Duration {
    reader.span("al_followms", 1, DEFAULT_FOLLOW, 0..=60_000)
}

/// A text that a recorder cannot do without.
fn required(reader: &mut Reader, key: &'static str, remedy: &str) -> String {
    let given = reader.has(key);
    let text = reader.text(key);
    let empty = reader.given(key).is_some_and(|given| given.value.is_str());
    if text.is_none() && (!given || empty) {
        reader.refuse(key, "is missing", remedy);
    }
    text.unwrap_or_default()
}

fn required_secret(
    reader: &mut Reader,
    key: &'static str,
    file_key: &'static str,
    what: &str,
) -> Secret {
    let given = reader.has(key) || reader.has(file_key);
    let told = reader.mistakes();
    let secret = reader.secret(key, file_key);
    if secret.is_none() && !given && reader.mistakes() == told {
        let remedy = format!("give {what} as {key}, {file_key} or the systemd credential {key}");
        reader.refuse(key, "is missing", remedy);
    }
    secret.unwrap_or_else(|| Secret::new(""))
}

fn read_aes(reader: &mut Reader) -> Aes {
    let tls = reader.flag("al_aestls", true);
    let default_port = if tls { AES_PORT_TLS } else { AES_PORT_PLAIN };
    let host = required(reader, "al_aeshost", "write al_aeshost = \"aes1.example.com\"");
    if !host.is_empty() && !value::is_host(&host) {
        let remedy = format!("the port has its own key, al_aesport = {default_port}");
        reader.refuse_value("al_aeshost", "a host's name or address", &remedy);
    }
    let port = reader.number("al_aesport", 1..=u16::MAX).unwrap_or(default_port);
    if tls && port == AES_PORT_PLAIN {
        let wrong = "4721 is an AES's port without TLS, and al_aestls is on";
        reader.warn("al_aesport", wrong, "use 4722, or set al_aestls = false");
    }
    let place = HostPort { host, port };
    if !tls && !place.is_loopback() {
        let wrong = "the password of al_aesuser crosses the network in clear";
        reader.warn("al_aestls", wrong, "use TLS: al_aestls = true and al_aesport = 4722");
    }
    let servername = reader.parsed(
        "al_aesservername",
        |text| match ServerName::try_from(text) {
            Ok(_) => Ok(text.to_owned()),
            Err(_) => Err("a name or address as it stands in the AES's certificate".to_owned()),
        },
        "look at the certificate's subject alternative names",
    );
    Aes {
        servername: servername.unwrap_or_else(|| place.host.clone()),
        place,
        tls,
        ca: reader.path("al_aesca"),
        user: required(reader, "al_aesuser", "name the CTI user of the AES"),
        password: required_secret(
            reader,
            "al_aespassword",
            "al_aespasswordfile",
            "the CTI user's password",
        ),
        switchname: required(
            reader,
            "al_switchname",
            "write the name of the switch connection as the AES knows it",
        ),
    }
}

pub(super) fn read_phantoms(reader: &mut Reader) -> BTreeSet<Extension> {
    const REMEDY: &str = "write al_phantoms = [\"78001-78050\"]";
    if !reader.has("al_phantoms") {
        reader.refuse("al_phantoms", "is missing", REMEDY);
    }
    let phantoms = reader.extensions("al_phantoms");
    if phantoms.as_ref().is_some_and(BTreeSet::is_empty) {
        reader.refuse_value("al_phantoms", "a list that is not empty", REMEDY);
    }
    phantoms.unwrap_or_default()
}

pub(super) fn read_phantom_password(reader: &mut Reader) -> Secret {
    let code = required_secret(
        reader,
        "al_phantompassword",
        "al_phantompasswordfile",
        "the stations' security code",
    );
    if !code.expose().bytes().all(|b| b.is_ascii_digit()) {
        let wrong = "a station's security code has digits only";
        reader.warn("al_phantompassword", wrong, "compare it with the station form of the switch");
    }
    code
}

fn read_monitored(reader: &mut Reader) -> Monitored {
    let mut set = |key| reader.extensions(key).unwrap_or_default();
    let monitored = Monitored {
        stations: set("al_stations"),
        agents: set("al_agents"),
        vdns: set("al_vdns"),
        skills: set("al_skills"),
    };
    let keys = ["al_stations", "al_agents", "al_vdns", "al_skills"];
    if monitored == Monitored::default() && !keys.iter().any(|key| reader.has(key)) {
        reader.warn(
            "al_stations",
            "nothing is monitored, so no call is seen and none is recorded",
            "write al_stations = [\"3100-3199\"], or al_vdns, al_skills, al_agents",
        );
    }
    monitored
}

/// Who logs in where is told at the agents' skills only (dossier 6.8), and not before it happens: too late for a method
/// that needs a port and a registration of its own, or a phantom, for each station.
fn check_agents(reader: &mut Reader, monitored: &Monitored, method: &Method) {
    const KEY: &str = "al_agents";
    if monitored.agents.is_empty() {
        return;
    }
    if monitored.skills.is_empty() {
        let wrong =
            "needs al_skills: the switch tells who logs in where at the agents' skills only";
        let remedy = "name the skills (hunt groups) of these agents in al_skills, or leave al_agents out and name the \
                      stations at which they work in al_stations";
        reader.refuse(KEY, wrong, remedy);
    }
    let word = match method {
        Method::SingleStepConference => return,
        Method::MultipleRegistration { .. } => "mr",
        Method::ServiceObserving { .. } => "so",
    };
    let wrong = format!(
        "goes with al_method = \"ssc\" only: \"{word}\" must know beforehand which stations it is to hear"
    );
    let remedy = "write al_method = \"ssc\", or leave al_agents out and name the stations at which they work in \
                  al_stations";
    reader.refuse(KEY, wrong, remedy);
}

/// One number is one thing on a switch. Agents are apart: they log in at stations.
fn refuse_overlaps(
    reader: &mut Reader,
    phantoms: &BTreeSet<Extension>,
    peerphantoms: Option<&BTreeSet<Extension>>,
    monitored: &Monitored,
) {
    let none = BTreeSet::new();
    let sets = [
        ("al_phantoms", phantoms),
        ("al_peerphantoms", peerphantoms.unwrap_or(&none)),
        ("al_stations", &monitored.stations),
        ("al_vdns", &monitored.vdns),
        ("al_skills", &monitored.skills),
        ("al_agents", &monitored.agents),
    ];
    for (number, (key, set)) in sets.iter().enumerate() {
        for (other_key, other) in &sets[..number] {
            let agents_at_stations = *key == "al_agents" && !other_key.ends_with("phantoms");
            let shared: Vec<_> = set.intersection(other).collect();
            let (Some(first), false) = (shared.first(), agents_at_stations) else { continue };
            let wrong = match shared.len() {
                1 => format!("{first} is also in {other_key}"),
                count => format!("{first} and {} more are also in {other_key}", count - 1),
            };
            reader.refuse(key, wrong, "a number belongs to one of the two only");
        }
    }
}

fn read_rtp_address(reader: &mut Reader) -> IpAddr {
    const REMEDY: &str = "write the address of this machine that the switch can reach";
    if !reader.has("al_rtpaddress") {
        reader.refuse("al_rtpaddress", "is missing", REMEDY);
    }
    let address = reader.parsed(
        "al_rtpaddress",
        |text| {
            let address = text.parse::<IpAddr>().ok();
            address
                .filter(|ip| !ip.is_unspecified() && !ip.is_multicast())
                .ok_or_else(|| "an IP address of this machine, not a name".to_owned())
        },
        REMEDY,
    );
    address.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST))
}

fn read_rtp_ports(
    reader: &mut Reader,
    method: &Method,
    phantoms: &BTreeSet<Extension>,
    monitored: &Monitored,
) -> RtpPorts {
    let (devices, what) = match method {
        Method::MultipleRegistration { .. } => (monitored.stations.len(), "stations"),
        Method::SingleStepConference | Method::ServiceObserving { .. } => {
            (phantoms.len(), "phantoms")
        }
    };
    let default = RtpPorts { first: 20_000, last: 21_999 };
    let ports = reader
        .parsed("al_rtpports", value::rtp_ports, "write al_rtpports = \"20000-21999\"")
        .unwrap_or(default);
    let sides = method.sides().len();
    if ports.pairs() < devices * sides {
        let each = if sides == 1 { "two ports" } else { "four ports (al_stereo)" };
        let must_be = format!(
            "a range with {each} for each of the {devices} {what}; {}-{} serves {}",
            ports.first,
            ports.last,
            ports.pairs() / sides
        );
        let last = usize::from(ports.first) + 2 * devices * sides - 1;
        let remedy = match u16::try_from(last) {
            Ok(last) => format!("for example \"{}-{last}\"", ports.first),
            Err(_) => format!("begin lower, or take fewer {what}"),
        };
        reader.refuse_value("al_rtpports", &must_be, &remedy);
    }
    ports
}

fn read_codecs(reader: &mut Reader) -> Vec<Codec> {
    let all = [Codec::G711A, Codec::G711U, Codec::G729A, Codec::G729];
    let words = all.map(|codec| (codec.as_str(), codec));
    reader.words("al_codecs", &words).unwrap_or_else(|| all.to_vec())
}

fn read_mediaencryption(reader: &mut Reader, aes: &Aes) -> Vec<MediaEncryption> {
    const KEY: &str = "al_mediaencryption";
    let all = [
        MediaEncryption::None,
        MediaEncryption::Aes,
        MediaEncryption::SrtpHmac80,
        MediaEncryption::SrtpHmac32,
    ];
    let words = all.map(|encryption| (encryption.as_str(), encryption));
    let offered = reader.words(KEY, &words).unwrap_or_else(|| vec![MediaEncryption::None]);
    if offered.contains(&MediaEncryption::Aes) {
        let wrong =
            "how aes forms its counter is not public, and nothing in a packet shows a mistake";
        let remedy =
            "record a call of your own and listen to it before you rely on it; srtp is certain";
        reader.warn(KEY, wrong, remedy);
    }
    let encrypted = offered.iter().any(|offered| *offered != MediaEncryption::None);
    if encrypted && !aes.tls && !aes.place.is_loopback() {
        let wrong = "the AES sends the keys, and its connection is not encrypted";
        reader.warn(KEY, wrong, "use TLS: al_aestls = true and al_aesport = 4722");
    }
    offered
}
