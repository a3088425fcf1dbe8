//! The uncertainty register (dossier section 9): each point of the protocol that no source could
//! settle is one constant, function or setting here and nowhere else, under its number. When a
//! real AES proves a guess wrong, this is the file to change. Numbers from 25 on are ours.
//!
//! Points without an entry: those that concern the simulator alone (7, 21), and those that are met by
//! not depending on them: any monitor may be stopped by the server (8), devices are compared by what
//! stands before the colon (9, in `Device::parse`), media events are not matched by call (10), a second start is an update (11),
//! causes decide nothing (12), what survives a merge is read from its lists (13).

use std::collections::BTreeMap;

use storage_core::Extension;
use storage_core::record::Side;
use zeroize::Zeroizing;

use super::config::Secret;
use super::error::{CstaError, ErrorCategory};
use super::response::{RegistrationAnswer, SessionRefusal};
use crate::call::event::Device;
use crate::media::srtp::{
    KEY_BYTES, KeyFault, MediaKeys, Protection, SALT_BYTES, SessionKeys, Suite,
};

/// Settings of the points that an installation may have to change without a new program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// No. 3: names of media encryption on the wire, by their `al_mediaencryption` name. What is
    /// not in the table is written as it is.
    pub encryption_names: BTreeMap<String, String>,
    /// No. 15: write `xsi:type` on `AvayaEvents` and `SessionLoginInfo`.
    pub type_attributes: bool,
    /// No. 16: use the negotiated version string as the namespace of CSTA requests.
    pub version_as_namespace: bool,
    /// No. 17: seconds between two `GetAgentState` of a station, for releases that send no agent
    /// events; 0 to rely on events.
    pub agent_poll_seconds: u64,
    /// No. 27: seconds between two `GetAgentLogin` of a skill, so that a log-on that was not told is found;
    /// 0 to ask only after each loss of the link.
    pub login_poll_seconds: u64,
    /// No. 22: ask for devices that other sessions may use, too. After a crash the old session
    /// still owns its devices until its clean-up delay is over; this lets the new one have them.
    pub shared_devices: bool,
    /// No. 23: ordinary requests reset the session's timer, so that keep-alives are only needed
    /// where nothing else is sent.
    pub requests_reset_timer: bool,
}

impl Default for Dialect {
    fn default() -> Self {
        // CM's codec-set form writes the two profiles with these numbers (dossier 4.7).
        let srtp = [
            ("srtp-aescm128-hmac80", "1-srtp-aescm128-hmac80"),
            ("srtp-aescm128-hmac32", "2-srtp-aescm128-hmac32"),
        ];
        Self {
            encryption_names: srtp.map(|(ours, wire)| (ours.to_owned(), wire.to_owned())).into(),
            type_attributes: false,
            version_as_namespace: false,
            agent_poll_seconds: 60,
            login_poll_seconds: 180,
            shared_devices: true,
            requests_reset_timer: false,
        }
    }
}

/// No. 1: what a successful registration looks like: `signalingEncryption` is present and the code
/// is 1 or no reason is given. The code alone would do, were its number certain.
#[must_use]
pub fn registration_succeeded(answer: &RegistrationAnswer) -> bool {
    let code_is_good = answer.code == Some(1) || answer.reason.is_empty();
    (answer.encrypted_signaling && code_is_good) || (answer.code == Some(1))
}

/// Not in the register, but of the same kind (dossier 4.2): how a wrong security code is told.
/// Another try with it could lock the station.
#[must_use]
pub fn wrong_security_code(code: Option<i64>, text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    code == Some(63_773) || text.contains("securitydenial") || text.contains("access code invalid")
}

/// No. 2: codecs by their `al_codecs` name and as they are written. Read without case.
const CODECS: [(&str, &str); 5] = [
    ("g711a", "g711A"),
    ("g711u", "g711U"),
    ("g729", "g729"),
    ("g729a", "g729A"),
    ("g723", "g723"),
];

/// No. 2: a codec's name on the wire; an unknown one is written as it is.
#[must_use]
pub fn codec_to_wire(codec: &str) -> &str {
    let known = CODECS.iter().find(|(ours, _)| ours.eq_ignore_ascii_case(codec));
    known.map_or(codec, |(_, wire)| wire)
}

/// No. 2: a codec's `al_codecs` name; an unknown one in lower case.
#[must_use]
pub fn codec_from_wire(codec: &str) -> String {
    codec.trim().to_ascii_lowercase()
}

impl Dialect {
    /// No. 3: a media encryption's name on the wire.
    #[must_use]
    pub fn encryption_to_wire<'a>(&'a self, name: &'a str) -> &'a str {
        self.encryption_names.get(name).map_or(name, String::as_str)
    }

    /// No. 3: a media encryption's `al_mediaencryption` name; an unknown one in lower case.
    #[must_use]
    pub fn encryption_from_wire(&self, wire: &str) -> String {
        let known = self.encryption_names.iter().find(|(_, name)| name.eq_ignore_ascii_case(wire));
        known.map_or_else(|| wire.to_ascii_lowercase(), |(ours, _)| ours.clone())
    }
}

/// No. 3: the suites whose names only are uncertain: RFC 3711 says what they are. No. 26: an RTCP
/// packet under the shorter tag has the longer one all the same by RFC 4568, 6.2.2; some senders
/// shorten both.
const SRTP: [Suite; 2] = [
    Suite {
        name: "srtp-aescm128-hmac80",
        session_keys: SessionKeys::Derived,
        rtp_tag_bytes: 10,
        rtcp_tag_bytes: &[10],
    },
    Suite {
        name: "srtp-aescm128-hmac32",
        session_keys: SessionKeys::Derived,
        rtp_tag_bytes: 4,
        rtcp_tag_bytes: &[10, 4],
    },
];

/// No. 25: Avaya's encryption from before SRTP. Known is no more than "AES-128 in counter mode"
/// with a key and perhaps a salt. Assumed is the counter of RFC 3711, 4.1.1, with key and salt as
/// they are told (no derivation; without a salt, zeros), no tag, a rollover counter that begins at
/// 0 with the first packet heard, and plain RTCP.
const AVAYA_AES: Suite = Suite {
    name: "aes",
    session_keys: SessionKeys::AsGiven,
    rtp_tag_bytes: 0,
    rtcp_tag_bytes: &[],
};

impl Dialect {
    /// How media is protected, by what `MediaStartEvent` says of it. The switch may leave the
    /// encryption out where there is none.
    #[must_use]
    pub fn protection(&self, wire: Option<&str>, key: &Secret, salt: &Secret) -> Protection {
        let name = wire.map_or_else(|| "none".to_owned(), |wire| self.encryption_from_wire(wire));
        if name == "none" {
            return Protection::Clear;
        }
        match media_keys(&name, key, salt) {
            Ok(keys) => Protection::Keys(keys),
            Err(fault) => Protection::Unusable(fault),
        }
    }
}

fn media_keys(name: &str, key: &Secret, salt: &Secret) -> Result<MediaKeys, KeyFault> {
    let known = SRTP.into_iter().chain([AVAYA_AES]).find(|suite| suite.name == name);
    let suite = known.ok_or_else(|| KeyFault::UnknownSuite {
        name: name.chars().filter(char::is_ascii_graphic).take(40).collect(),
    })?;
    let mut key_bytes = Zeroizing::new([0; KEY_BYTES]);
    key_material(key.expose(), &mut *key_bytes).ok_or(KeyFault::Key { suite: suite.name })?;
    let mut salt_bytes = Zeroizing::new([0; SALT_BYTES]);
    if suite != AVAYA_AES || !salt.expose().trim().is_empty() {
        let read = key_material(salt.expose(), &mut *salt_bytes);
        read.ok_or(KeyFault::Salt { suite: suite.name })?;
    }
    Ok(MediaKeys::new(suite, *key_bytes, *salt_bytes))
}

/// No. 3: a key or salt of a known length in hexadecimal or Base64, told apart by the text's
/// length.
fn key_material(text: &str, into: &mut [u8]) -> Option<()> {
    let text = text.trim();
    let read = if text.len() == into.len() * 2 { hex(text) } else { base64(text) };
    let bytes = Zeroizing::new(read?);
    (bytes.len() == into.len()).then(|| into.copy_from_slice(&bytes))
}

/// Base64 with the standard alphabet, its padding complete or left out (RFC 4648, 4).
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    if padding > 2 || (padding > 0 && !text.len().is_multiple_of(4)) {
        return None;
    }
    // So large that it never moves and leaves a copy behind.
    let mut bytes = Vec::with_capacity(text.len());
    let (mut bits, mut count) = (0_u32, 0);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(bytes)
}

/// No. 4: the element that asks for one side of a station's calls, and the word for the side. Both are named
/// as in Avaya's Java classes, because no schema that has them could be found. It is written within
/// `loginInfo` behind `dependencyMode`. A server from before 8.0.1 does not know it: it may send all in one, or
/// refuse.
#[must_use]
pub const fn media_content(side: Side) -> (&'static str, &'static str) {
    let content = match side {
        Side::Agent => "MAIN_STATION_ONLY",
        Side::Others => "ALL_BUT_MAIN_STATION",
    };
    ("mediaContent", content)
}

/// No. 5: whether a refused session start means that the login is wrong, so that asking again at
/// once is useless and may lock the account. What is not known to be the server's own trouble is
/// taken for it.
#[must_use]
pub fn login_refused(refusal: &SessionRefusal) -> bool {
    !["serverResourcesBusy", "maxNumberSessions", "requestedProtocolVersionNotSupported"]
        .contains(&refusal.defined.as_str())
}

/// No. 6: what is asked for; the answer's `actualSessionDuration` is obeyed.
pub const SESSION_SECONDS: u64 = 180;
/// No. 6: how long the AES keeps a session without a socket.
pub const CLEANUP_SECONDS: u64 = 60;
/// No. 6: the bounds in which a granted duration is believed, so that a strange one can neither
/// flood the server with keep-alives nor let the session die.
pub const SESSION_SECONDS_BOUNDS: (u64, u64) = (3, 7_200);

/// No. 14: a text that says that a call has no room for one more party.
#[must_use]
pub fn says_party_limit(error: &CstaError) -> bool {
    let text = error.detail.to_ascii_lowercase();
    error.category == ErrorCategory::SystemResource
        && ["conferencememberlimit", "resourcelimit", "partylimit", "reorder"]
            .iter()
            .any(|word| text.contains(word))
}

/// No. 14: the device is in use, by another call or by another session.
#[must_use]
pub fn says_busy(error: &CstaError) -> bool {
    let text = error.detail.to_ascii_lowercase();
    match error.category {
        ErrorCategory::SystemResource => text.contains("busy"),
        ErrorCategory::StateIncompatibility => {
            text.contains("invaliddevicestate") || text.contains("connectedcallexists")
        }
        _ => false,
    }
}

/// No. 14: the call or the connection is not there (any more).
#[must_use]
pub fn says_gone(error: &CstaError) -> bool {
    let text = error.detail.to_ascii_lowercase();
    let words: &[&str] = match error.category {
        ErrorCategory::Operation => &["invalidcallid", "invalidconnectionid"],
        ErrorCategory::StateIncompatibility => {
            &["noactivecall", "nocalltoclear", "noconnectiontoclear", "invalidconnectionstate"]
        }
        _ => &[],
    };
    words.iter().any(|word| text.contains(word))
}

/// No. 14: the server does not know the device ID (any more): it must be asked for anew.
#[must_use]
pub fn says_unknown_device(error: &CstaError) -> bool {
    error.category == ErrorCategory::Operation
        && error.detail.to_ascii_lowercase().contains("invaliddeviceid")
}

/// No. 18: newest first; the AES chooses. Whatever is not public can be configured instead.
#[must_use]
pub fn protocol_versions() -> Vec<String> {
    ["privE", "privC", "privA", "priv9", "priv8", "priv7", "priv6"]
        .map(|suffix| format!("{}/{suffix}", super::request::CSTA))
        .into()
}

/// No. 19: events of a monitor whose answer has not come yet are held back, this many in all.
pub const EARLY_EVENTS_MAX: usize = 256;

/// No. 20: device instances for one more registration on a station, in the order in which they are
/// tried: the one that is free must be guessed (dossier 4.3). Values above 2 are taken by newer
/// releases only.
pub const STATION_INSTANCES: [u8; 3] = [1, 2, 0];

/// No. 20: the instance of a registration of one side. With the telephone the two fill the extension, so
/// whoever has one of them is what is left of an earlier session, and gives way.
#[must_use]
pub const fn side_instance(side: Side) -> u8 {
    match side {
        Side::Agent => 1,
        Side::Others => 2,
    }
}

/// No. 14: a refused registration says that somebody else has this instance, or that the extension has
/// as many registrations as it may.
#[must_use]
pub fn says_no_place(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ["duplicatealias", "in use", "already registered", "maximum registrations"]
        .iter()
        .any(|word| text.contains(word))
}

/// Dossier 6.11, not in the register: the button of a digit. That the ten digits are their own names is
/// seen in one example; the two others follow the order on a telephone's keys.
#[must_use]
pub fn button(digit: char) -> String {
    match digit {
        '*' => "10".to_owned(),
        '#' => "11".to_owned(),
        digit => digit.to_string(),
    }
}

/// No. 27: log-ons are told by a monitor on the skill only, and its list names the telephones at which agents
/// are logged in rather than the agents: the older reference of the switch says so of its "agent login
/// audit", and the schema's word is `agentExtension`. Who is at each of them is therefore asked for
/// (`GetAgentState`).
#[must_use]
pub fn station_of_login(entry: &Device) -> Option<Extension> {
    entry.number().cloned()
}

/// No. 24: user-to-user information is kept as the raw bytes, protocol discriminator included.
/// What is not hexadecimal is kept as the bytes of the text.
#[must_use]
pub fn user_data(text: &str) -> Vec<u8> {
    hex(text).unwrap_or_else(|| text.as_bytes().to_vec())
}

/// Dossier 8.2, not in the register: after a takeover of one AES by another, DMCC's own state is
/// replicated and TSAPI's is not, and no request tells whether a call-control monitor still
/// stands. Those of stations and phantoms are therefore started anew, which loses nothing because
/// a snapshot follows. Those of VDNs and skills are kept: a new one would not follow the calls
/// that the old one does; the server ends them by `MonitorStop` (no. 8) if it has lost them.
pub const RESTART_CALL_MONITORS: bool = true;

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(encrypted_signaling: bool, code: Option<i64>, reason: &str) -> RegistrationAnswer {
        RegistrationAnswer { device: None, encrypted_signaling, code, reason: reason.to_owned() }
    }

    #[test]
    fn registrations_that_count_as_successful() {
        for (answer, good) in [
            (answer(true, Some(1), ""), true),
            (answer(true, Some(1), "NORMAL_REGISTER"), true),
            (answer(true, Some(0), ""), true),
            (answer(true, None, ""), true),
            (answer(false, Some(1), ""), true),
            (answer(true, Some(63_773), "denied"), false),
            (answer(false, Some(63_773), "denied"), false),
            (answer(false, None, ""), false),
        ] {
            assert_eq!(registration_succeeded(&answer), good, "{answer:?}");
        }
    }

    #[test]
    fn codecs_are_written_in_the_spelling_of_the_sdk_and_read_in_any() {
        assert_eq!(codec_to_wire("g711a"), "g711A");
        assert_eq!(codec_to_wire("G729A"), "g729A");
        assert_eq!(codec_to_wire("opus"), "opus");
        assert_eq!(codec_from_wire("G711U"), "g711u");
    }

    #[test]
    fn encryption_names_go_through_the_table() {
        let dialect = Dialect::default();
        assert_eq!(dialect.encryption_to_wire("aes"), "aes");
        let wire = dialect.encryption_to_wire("srtp-aescm128-hmac80");
        assert_eq!(dialect.encryption_from_wire(&wire.to_uppercase()), "srtp-aescm128-hmac80");
        assert_eq!(dialect.encryption_from_wire("None"), "none");
    }

    #[test]
    fn keys_are_read_in_hexadecimal_and_in_base64() {
        let dialect = Dialect::default();
        let read = |wire: &str, key: &str, salt: &str| {
            dialect.protection(Some(wire), &Secret::new(key), &Secret::new(salt))
        };
        let (key, salt) = ("000102030405060708090a0b0c0d0eFF", "f0f1f2f3f4f5f6f7f8f9fafbfcfd");
        let key_bytes = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255];
        let salt_bytes = std::array::from_fn(|i| 0xf0 + u8::try_from(i).unwrap());
        let wire = dialect.encryption_to_wire("srtp-aescm128-hmac80");
        let expected = Protection::Keys(MediaKeys::new(SRTP[0], key_bytes, salt_bytes));
        for (key, salt) in [
            (key, salt),
            ("AAECAwQFBgcICQoLDA0O/w==", "8PHy8/T19vf4+fr7/P0="),
            (" AAECAwQFBgcICQoLDA0O/w ", "8PHy8/T19vf4+fr7/P0"),
            (key, "8PHy8/T19vf4+fr7/P0="),
        ] {
            assert_eq!(read(wire, key, salt), expected, "{key} {salt}");
        }
        let shorter = read("2-SRTP-aescm128-hmac32", key, salt);
        assert!(matches!(shorter, Protection::Keys(keys) if keys.suite == SRTP[1]));
        let bare = Protection::Keys(MediaKeys::new(AVAYA_AES, key_bytes, [0; SALT_BYTES]));
        assert_eq!(read("AES", key, ""), bare);
        let salted = Protection::Keys(MediaKeys::new(AVAYA_AES, key_bytes, salt_bytes));
        assert_eq!(read("aes", key, salt), salted);
    }

    #[test]
    fn unusable_keys_are_named_and_not_shown() {
        let dialect = Dialect::default();
        let (key, salt) = ("000102030405060708090a0b0c0d0eFF", "f0f1f2f3f4f5f6f7f8f9fafbfcfd");
        let hmac80 = "1-srtp-aescm128-hmac80";
        for (wire, key, salt, fault) in [
            (hmac80, "", salt, "receive key"),
            (hmac80, key, "", "receive salt"),
            (hmac80, &key[2..], salt, "receive key"),
            (hmac80, "zz0102030405060708090a0b0c0d0eFF", salt, "receive key"),
            (hmac80, "AAECAwQFBgcICQoLDA0O/w=", salt, "receive key"),
            (hmac80, "AAECAwQFBgcICQoLDA0Oéw==", salt, "receive key"),
            ("aes", "", "", "receive key"),
            ("aes", key, "f0", "receive salt"),
            ("9-srtp-f8", key, salt, "\"9-srtp-f8\""),
        ] {
            let read = dialect.protection(Some(wire), &Secret::new(key), &Secret::new(salt));
            let Protection::Unusable(found) = read else { panic!("{wire} {key} {salt}") };
            let text = found.to_string();
            assert!(text.contains(fault), "{text}");
            assert!(key.is_empty() || !text.contains(key), "{text}");
        }
        let nothing = Secret::new("");
        for wire in [None, Some("none"), Some("NONE")] {
            assert_eq!(dialect.protection(wire, &nothing, &nothing), Protection::Clear);
        }
    }

    #[test]
    fn user_data_that_is_not_hexadecimal_is_kept_as_it_is() {
        assert_eq!(user_data("48656C6C6F"), b"Hello");
        assert_eq!(user_data("Hello"), b"Hello");
        assert_eq!(user_data("486"), b"486");
    }
}
