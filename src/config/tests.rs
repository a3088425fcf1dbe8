//! Configurations as operators write them, right and wrong.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;
use storage_core::Extension;
use storage_core::record::VoiceFormat;

use super::*;
use crate::retention::core::RetentionRules;

/// A recorder that says no more than it must.
const MINIMAL: &str = r#"
al_nodeid = 1
al_serverrole = "active"
al_aeshost = "127.0.0.1"
al_aestls = false
al_aesuser = "recorder"
al_aespassword = "hunter2"
al_switchname = "cm1"
al_phantoms = ["78001-78050"]
al_phantompassword = "654321"
al_stations = ["3100-3199"]
al_rtpaddress = "127.0.0.1"
"#;

/// `MINIMAL` with these lines instead of the ones of the same keys.
fn with(lines: &str) -> String {
    let replaced: Vec<_> = lines.lines().filter_map(|line| line.split(" =").next()).collect();
    let kept = MINIMAL.lines().filter(|line| {
        let key = line.split(" =").next().unwrap_or_default();
        !replaced.contains(&key)
    });
    format!("{}\n{lines}\n", kept.collect::<Vec<_>>().join("\n"))
}

fn without(keys: &[&str]) -> String {
    let kept = MINIMAL.lines().filter(|line| !keys.iter().any(|key| line.starts_with(key)));
    kept.collect::<Vec<_>>().join("\n")
}

fn parse(text: &str) -> Result<Config, ConfigError> {
    parse_with(text, &[])
}

fn parse_with(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let environment = environment.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    Config::parse(&Source { text: text.to_owned(), environment, ..Source::default() })
}

fn told(text: &str) -> Vec<String> {
    parse(text).unwrap_err().remarks.iter().map(ToString::to_string).collect()
}

fn warned(text: &str) -> Vec<String> {
    parse(text).unwrap().warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn a_minimal_recorder_gets_the_documented_defaults() {
    let config = parse(MINIMAL).unwrap();
    assert_eq!(config.warnings, []);
    assert_eq!((config.nodeid, config.role), (NodeId(1), Role::Active));
    assert_eq!(config.datadir, Path::new("/var/lib/astlogger"));
    assert_eq!(config.cluster.listen, "0.0.0.0:7400".parse().unwrap());
    assert_eq!(config.cluster.heartbeat.as_millis(), 50);
    assert_eq!(config.cluster.election.as_millis(), 300);
    assert_eq!(config.web.listen, "127.0.0.1:8080".parse().unwrap());
    assert_eq!(config.web.usersfile, Path::new("/etc/astlogger/users.toml"));
    assert_eq!(config.console, Some(Console::Tcp("127.0.0.1:9007".parse().unwrap())));
    assert_eq!(config.storage.voiceformat, VoiceFormat::WavG711);
    assert_eq!(config.storage.sync.as_millis(), 1000);
    assert_eq!(config.storage.opusbitrate, 24_000);
    assert_eq!(config.storage.mindiskfree, DiskShare::Percent(5));
    assert_eq!(config.storage.retention, RetentionRules::default());
    assert!(config.storage.mirror);
    let recorder = config.recorder.unwrap();
    assert_eq!(recorder.aes.place.to_string(), "127.0.0.1:4721");
    assert_eq!(recorder.aes.servername, "127.0.0.1");
    assert_eq!((recorder.registration_window, recorder.registration_rate), (20, None));
    assert_eq!((recorder.maxparties, recorder.phantoms.len()), (6, 50));
    assert_eq!((recorder.rtp_ports.first, recorder.rtp_ports.last), (20_000, 21_999));
    assert_eq!(recorder.codecs, [Codec::G711A, Codec::G711U, Codec::G729A, Codec::G729]);
    assert_eq!(recorder.mediaencryption, [MediaEncryption::None]);
    assert_eq!((recorder.rescue.as_millis(), recorder.follow.as_millis()), (400, 200));
    assert_eq!((recorder.skip_hold, recorder.max_pause.as_secs()), (false, 300));
    assert!(recorder.peerphantoms.is_none());
}

#[test]
fn tls_to_the_aes_is_the_default_and_has_its_own_port() {
    let aes = |lines: &str| parse(&with(lines)).unwrap().recorder.unwrap().aes;
    let secure = aes("al_aeshost = \"aes1.example.com\"\nal_aestls = true");
    assert!(secure.tls);
    assert_eq!(secure.place.to_string(), "aes1.example.com:4722");
    assert_eq!(aes("al_aesservername = \"aes\"").servername, "aes");
}

/// Lines of a configuration, and what must be told of the one mistake in them.
const MISTAKES: &[(&str, &[&str])] = &[
    ("al_nodeid = 0", &["al_nodeid = 0: ", "from 1 to 65535"]),
    ("al_nodeid = \"1\"", &["al_nodeid = \"1\": ", "whole number"]),
    ("al_nodeid = 70000", &["al_nodeid = 70000: "]),
    ("al_nodeid = 1.5", &["al_nodeid = 1.5: "]),
    ("al_serverrole = \"activ\"", &["al_serverrole", "did you mean \"active\"?"]),
    ("al_serverrole = \"leader\"", &["active, backup, parallel, witness"]),
    ("al_serverrole = 1", &["al_serverrole = 1: must be a text"]),
    ("al_datadir = []", &["al_datadir", "must be a text"]),
    ("al_clusterlisten = \"recorder1:7400\"", &["al_clusterlisten", "not a name"]),
    ("al_peers = \"1=10.0.0.1\"", &["al_peers", "list of texts"]),
    ("al_peers = [\"10.0.0.1:7400\"]", &["al_peers", "NUMBER=HOST:PORT"]),
    ("al_peers = [\"1=127.0.0.1:1\", \"1=127.0.0.1:2\"]", &["1 is named twice"]),
    ("al_peers = [\"1=127.0.0.1:1\", \"2=127.0.0.1:1\"]", &["127.0.0.1:1 is named twice"]),
    ("al_peers = [\"2=127.0.0.1\", \"3=127.0.0.2\"]", &["al_nodeid = 1: ", "al_peers"]),
    ("al_peers = [\"1=10.0.0.1\"]", &["al_clustercert", "mutual TLS"]),
    ("al_clustercert = \"c\"\nal_clusterkey = \"k\"", &["al_clusterca", "beside the others"]),
    ("al_heartbeatms = 200", &["al_electionms", "three times al_heartbeatms"]),
    ("al_heartbeatms = 1", &["al_heartbeatms = 1: must be from 10 ms"]),
    ("al_aeshost = \"\"", &["al_aeshost: is missing"]),
    ("al_aeshost = \"aes1:4722\"", &["al_aeshost", "al_aesport"]),
    ("al_aesport = \"4722\"", &["al_aesport", "whole number"]),
    ("al_aestls = \"no\"", &["al_aestls = \"no\": must be true or false"]),
    ("al_aesservername = \"a b\"", &["al_aesservername", "certificate"]),
    ("al_aesuser = 5", &["al_aesuser = 5: must be a text"]),
    ("al_aespassword = \"\"", &["al_aespassword: is empty"]),
    ("al_aespassword = 4711", &["al_aespassword: must be a text"]),
    ("al_mirror = \"no\"", &["al_mirror = \"no\": must be true or false"]),
    ("al_method = \"mr\"\nal_stations = []", &["al_stations", "with al_method = \"mr\""]),
    ("al_method = \"so\"\nal_stations = [\"3100-3149\"]", &["al_observecode: is missing"]),
    (
        "al_method = \"so\"\nal_stations = [\"3100-3149\"]\nal_observecode = \"FAC 5\"",
        &["al_observecode = \"FAC 5\"", "digits, * and #"],
    ),
    (
        "al_method = \"so\"\nal_stations = [\"3100-3109\"]\nal_observecode = \"*55\"",
        &["al_phantoms", "each of the 10 stations", "50 are there"],
    ),
    (
        "al_method = \"mr\"\nal_rtpports = \"20000-20009\"\nal_stations = [\"3100-3109\"]",
        &["10 stations", "serves 5", "\"20000-20019\""],
    ),
    (
        "al_method = \"so\"\nal_stations = [\"3100-3149\"]\nal_observecode = \"*55\"\n\
         al_serverrole = \"active\"\nal_peers = [\"1=127.0.0.1:7401\", \"2=127.0.0.1:7402\"]",
        &["al_method = \"so\"", "in a group"],
    ),
    ("al_stereo = true", &["al_stereo = true", "al_method = \"ssc\"", "all voices in one"]),
    (
        "al_method = \"mr\"\nal_stereo = true\nal_rtpports = \"20000-20009\"\nal_stations = [\"3100-3109\"]",
        &["four ports", "10 stations", "serves 2", "\"20000-20039\""],
    ),
    (
        "al_method = \"mr\"\nal_stereo = true\nal_stations = [\"3100-3149\"]\n\
         al_serverrole = \"active\"\nal_peers = [\"1=127.0.0.1:7401\", \"2=127.0.0.1:7402\"]",
        &["al_stereo = true", "in a group", "may have three"],
    ),
    ("al_method = \"tap\"", &["one of ssc, mr, so"]),
    ("al_registrationwindow = 0", &["al_registrationwindow = 0"]),
    ("al_registrationrate = -1", &["al_registrationrate = -1"]),
    ("al_maxparties = 2", &["al_maxparties = 2", "from 3"]),
    ("al_phantoms = []", &["al_phantoms", "not empty"]),
    ("al_phantoms = [\"78001-78050\", \"78050\"]", &["78050 is named twice"]),
    ("al_phantoms = [true]", &["al_phantoms", "list of texts"]),
    ("al_stations = [\"3100\", \"78007\"]", &["al_stations: 78007 is also in al_phantoms"]),
    ("al_peerphantoms = [\"78040-78060\"]", &["78040 and 10 more are also in al_phantoms"]),
    ("al_vdns = [\"3150\"]", &["al_vdns: 3150 is also in al_stations"]),
    (
        "al_agents = [\"78001\"]\nal_skills = [\"4500\"]",
        &["al_agents: 78001 is also in al_phantoms"],
    ),
    ("al_agents = [\"7001-7020\"]", &["al_agents", "needs al_skills", "name the skills"]),
    ("al_agents = [\"7001\"]\nal_skills = []", &["al_agents", "needs al_skills"]),
    ("al_agents = [\"70x1\"]\nal_skills = [\"4500\"]", &["al_agents", "look at \"70x1\""]),
    (
        "al_agents = [\"7001\"]\nal_skills = [\"4500\"]\nal_method = \"mr\"",
        &[
            "al_agents: goes with al_method = \"ssc\" only: \"mr\" must know beforehand",
            "al_stations",
        ],
    ),
    ("al_rtpaddress = \"recorder1\"", &["al_rtpaddress", "not a name"]),
    ("al_rtpaddress = \"0.0.0.0\"", &["al_rtpaddress", "an IP address of this machine"]),
    ("al_rtpports = \"20000-20009\"", &["50 phantoms", "serves 5", "\"20000-20099\""]),
    ("al_rtpports = 20000", &["al_rtpports = 20000: must be a text"]),
    ("al_codecs = [\"g711\"]", &["al_codecs", "one of g711a, g711u, g729a, g729"]),
    ("al_codecs = [\"g711a\", \"g711a\"]", &["names nothing twice"]),
    ("al_codecs = []", &["al_codecs = []", "not empty"]),
    ("al_mediaencryption = [\"srtp\"]", &["al_mediaencryption", "srtp-aescm128-hmac80"]),
    ("al_rescuems = \"soon\"", &["al_rescuems = \"soon\"", "span of time"]),
    ("al_hold = \"drop\"", &["al_hold", "one of record, skip"]),
    ("al_voiceformat = \"mp3\"", &["one of wav, wavg711, opus"]),
    ("al_opusbitrate = 1", &["al_opusbitrate = 1"]),
    ("al_keytones = \"hide\"", &["al_keytones", "one of keep, mask"]),
    ("al_syncms = 0", &["al_syncms = 0"]),
    ("al_maxpauses = \"2 weeks\"", &["al_maxpauses"]),
    ("al_retentiondays = -3", &["al_retentiondays = -3"]),
    ("al_scrubdays = -1", &["al_scrubdays = -1", "0 to 3650"]),
    ("al_mindiskfree = \"lots\"", &["al_mindiskfree = \"lots\"", "5%"]),
    ("al_archive = \"bucket\"", &["al_archive", "s3://BUCKET"]),
    ("al_archive = \"s3://b\"\nal_s3accesskey = \"k\"", &["access key and secret key"]),
    ("al_s3endpoint = \"s3.example.com\"", &["al_s3endpoint", "https://"]),
    ("al_catalogurl = \"mysql://u:pw@h/d\"\nal_site = \"s\"", &["al_catalogurl: ", "postgres://"]),
    ("al_catalogurl = \"postgres://u@h/d\"", &["al_site: is missing", "al_site = "]),
    ("al_catalogsearch = \"database\"", &["al_catalogsearch", "al_catalogurl"]),
    (
        "al_catalogurl = \"postgres://u@h/d\"\nal_site = \"s\"\nal_catalogsearch = \"all\"",
        &["al_catalogsearch", "one of local, database"],
    ),
    (
        "al_catalogurl = \"postgres://u@h/d?sslmode=maybe\"\nal_site = \"s\"",
        &["al_catalogurl", "sslmode", "verify-full"],
    ),
    (
        "al_encryptionkeyfile = \"/k\"",
        &["al_encryptionkeyfile", "/k cannot be read", "astlogger key new"],
    ),
    ("al_listen = \"0.0.0.0:8080\"", &["al_listen", "al_tlscert", "al_insecure"]),
    ("al_listen = \"8080\"", &["al_listen"]),
    ("al_tlscert = \"/c\"", &["al_tlskey", "beside al_tlscert"]),
    ("al_tlskey = \"/k\"", &["al_tlscert", "beside al_tlskey"]),
    ("al_insecure = 1", &["al_insecure = 1: must be true or false"]),
    ("al_sessionidlemin = 721", &["al_sessionidlemin = 721", "from 0 to 720"]),
    (
        "al_oidcissuer = \"https://i\"\nal_oidcclientid = \"x\"\nal_oidcroles = [\"a=qa\"]\nal_oidcrecheckmin = 61",
        &["al_oidcrecheckmin = 61", "from 0 to 60"],
    ),
    ("al_oidcclientid = \"x\"", &["al_oidcclientid", "al_oidcissuer is not"]),
    (
        "al_oidcissuer = \"https://i\"\nal_oidcroles = [\"a=qa\"]",
        &["al_oidcclientid", "is missing"],
    ),
    ("al_oidcissuer = \"https://i\"\nal_oidcclientid = \"x\"", &["al_oidcroles", "is missing"]),
    (
        "al_oidcissuer = \"http://login.example.org\"\nal_oidcclientid = \"x\"\nal_oidcroles = [\"a=qa\"]",
        &["al_oidcissuer", "https://"],
    ),
    (
        "al_oidcissuer = \"https://i\"\nal_oidcclientid = \"x\"\nal_oidcroles = [\"a=boss\"]",
        &["al_oidcroles", "GROUP=ROLE", "unknown role `boss`", "look at \"a=boss\""],
    ),
    (
        "al_oidcissuer = \"https://i\"\nal_oidcclientid = \"x\"\nal_oidcroles = [\"a=qa\"]\n\
         al_oidcredirect = \"https://r.example.org/\"",
        &["al_oidcredirect", "/api/oidc/callback"],
    ),
    ("al_consolelisten = \"10.0.0.1:9007\"", &["al_consolelisten", "loopback"]),
    ("al_phantons = [\"1\"]", &["al_phantons: ", "did you mean al_phantoms?"]),
    ("al_rule = \"always\"", &["al_rule"]),
];

#[test]
fn each_mistake_is_told_with_key_value_and_remedy() {
    for (lines, parts) in MISTAKES {
        let told = told(&with(lines));
        assert_eq!(told.len(), 1, "{lines}: {told:?}");
        for part in *parts {
            assert!(told[0].contains(part), "{lines}: \"{part}\" is not in: {}", told[0]);
        }
    }
}

#[test]
fn each_method_has_its_devices() {
    let devices = |lines: &str| {
        let config = parse(&with(lines)).unwrap();
        let devices = config.recorder.unwrap().devices();
        let text = |device: &Device| {
            let station = device.station.as_ref().map_or("-", Extension::as_str);
            format!("{} {} {station}", device.extension, device.password.expose())
        };
        (devices.iter().map(text).collect::<Vec<_>>(), config.warnings.len())
    };
    let (phantoms, warnings) = devices("al_phantoms = [\"78001\"]");
    assert_eq!((phantoms, warnings), (vec!["78001 654321 -".to_owned()], 0));
    let mr = "al_method = \"mr\"\nal_stations = [\"3101\", \"3100\"]\n";
    // What is left of the phantoms has no effect.
    assert_eq!(devices(mr), (["3100 3100 3100", "3101 3101 3101"].map(str::to_owned).into(), 2));
    let code = "al_stationpassword = \"4711\"";
    assert_eq!(devices(&format!("{mr}{code}")).0, ["3100 4711 3100", "3101 4711 3101"]);
    // Each side of a call has a device of its own, the agent's first.
    let config = parse(&with(&format!("{mr}al_stereo = true"))).unwrap();
    let receivers = config.recorder.unwrap().devices();
    let receivers: Vec<_> = receivers.iter().map(|one| one.receiver().to_string()).collect();
    assert_eq!(receivers, ["3100 (agent)", "3100 (others)", "3101 (agent)", "3101 (others)"]);
    let so = "al_method = \"so\"\nal_observecode = \"*55\"\n\
              al_phantoms = [\"78001-78002\"]\nal_stations = [\"3101\", \"3100\"]";
    assert_eq!(devices(so).0, ["78001 654321 3100", "78002 654321 3101"]);
    let (_, warnings) = devices("al_observecode = \"*55\"");
    assert_eq!(warnings, 1, "it belongs to another method");
}

#[test]
fn what_is_needed_and_missing_is_told_for_each_key_at_once() {
    let told = told("");
    for key in [
        "al_aeshost",
        "al_aesuser",
        "al_aespassword",
        "al_switchname",
        "al_phantoms",
        "al_phantompassword",
        "al_rtpaddress",
    ] {
        let found = told.iter().filter(|line| line.starts_with(&format!("{key}: is missing")));
        assert_eq!(found.count(), 1, "{key}: {told:?}");
    }
    assert_eq!(told.len(), 7, "{told:?}");
    let error = parse(&without(&["al_aeshost", "al_switchname"])).unwrap_err().to_string();
    assert_eq!(error.lines().count(), 3, "{error}");
}

#[test]
fn many_mistakes_are_told_together() {
    let told = told(&with(
        "al_nodeid = \"x\"\nal_stations = [\"y\"]\nal_rtpports = \"z\"\nal_bogus = 1\nal_hold = 2",
    ));
    assert_eq!(told.len(), 5, "{told:?}");
}

#[test]
fn the_environment_overrides_every_kind_of_key() {
    let config = parse_with(
        MINIMAL,
        &[
            ("AL_NODEID", "7"),
            ("AL_SERVERROLE", "parallel"),
            ("AL_STATIONS", "4100-4103,4200"),
            ("AL_AESTLS", "true"),
            ("AL_SYNCMS", "500"),
            ("AL_MAXPAUSES", "5 min"),
            ("AL_AESPASSWORD", "other"),
            ("AL_CONSOLELISTEN", ""),
        ],
    )
    .unwrap();
    assert_eq!((config.nodeid, config.role), (NodeId(7), Role::Parallel));
    assert_eq!(config.storage.sync.as_millis(), 500);
    assert_eq!(config.console, None);
    let recorder = config.recorder.unwrap();
    assert_eq!(recorder.monitored.stations.len(), 5);
    assert!(recorder.aes.tls);
    assert_eq!(recorder.aes.password.expose(), "other");
    let error = parse_with(MINIMAL, &[("AL_AESPORT", "many")]).unwrap_err();
    assert!(error.to_string().contains("al_aesport = \"many\" (from AL_AESPORT)"), "{error}");
}

#[test]
fn a_witness_needs_neither_aes_nor_phantoms() {
    let group = "al_peers = [\"1=127.0.0.1:7401\", \"2=127.0.0.1:7402\", \"3=127.0.0.1:7403\"]";
    let text = format!("al_nodeid = 3\nal_serverrole = \"witness\"\n{group}");
    let config = parse(&text).unwrap();
    assert!(config.recorder.is_none());
    assert_eq!(config.cluster.listen, "127.0.0.1:7403".parse().unwrap());
    let warned = warned(&format!("{text}\nal_aeshost = \"aes1\""));
    assert!(warned.iter().any(|line| line.contains("does not use al_aeshost")), "{warned:?}");
}

#[test]
fn a_group_needs_to_know_which_member_this_is() {
    let told = told(&without(&["al_nodeid", "al_serverrole"]).replace(
        "al_switchname",
        "al_peers = [\"1=127.0.0.1:1\", \"2=127.0.0.1:2\", \"3=127.0.0.1:3\"]\nal_switchname",
    ));
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("al_serverrole: is missing"), "{told:?}");
    assert!(told[1].starts_with("al_nodeid: is missing"), "{told:?}");
}

#[test]
fn a_key_file_is_read_and_what_is_wrong_with_it_is_named_by_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys");
    let line = format!("al_encryptionkeyfile = \"{}\"", file.display());
    let (one, two) = ("1a".repeat(31) + "00", "2b".repeat(31) + "00");
    fs::write(&file, format!("# keys\nk2 {two}\nk1 {one}\n")).unwrap();
    let warnings = warned(&with(&line));
    assert!(warnings.iter().any(|warning| warning.contains("every user")), "{warnings:?}");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let config = parse(&with(&line)).unwrap();
    assert!(config.warnings.iter().all(|warning| warning.key != "al_encryptionkeyfile"));
    let names: Vec<_> = config.storage.keys.names().map(ToString::to_string).collect();
    assert_eq!(names, ["k2", "k1"]);
    assert!(!format!("{config:?}").contains("2b2b"), "keys have no text form");
    assert!(!parse(MINIMAL).unwrap().storage.keys.encrypt());
    for (text, said) in [
        (String::new(), "it holds no key"),
        (format!("k1 {one}\nk2 {}\n", &two[1..]), "line 2 is not NAME and 64"),
        (format!("k1 {}\n", "00".repeat(32)), "line 1 is one byte over and over"),
    ] {
        fs::write(&file, text).unwrap();
        let told = told(&with(&line));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with("al_encryptionkeyfile: ") && told[0].contains(said),
            "{told:?}"
        );
        assert!(!told[0].contains("1a1a") && !told[0].contains("b2b2"), "{told:?}");
    }
}

#[test]
fn encrypted_media_is_offered_in_its_order_and_what_is_doubtful_about_it_is_said() {
    let srtp = "al_mediaencryption = [\"srtp-aescm128-hmac32\", \"srtp-aescm128-hmac80\"]";
    let config = parse(&with(srtp)).unwrap();
    assert_eq!(config.warnings, []);
    let expected = [MediaEncryption::SrtpHmac32, MediaEncryption::SrtpHmac80];
    assert_eq!(config.recorder.unwrap().mediaencryption, expected);
    let aes = warned(&with("al_mediaencryption = [\"aes\", \"none\"]"));
    assert!(aes.len() == 1 && aes[0].contains("listen to it before you rely on it"), "{aes:?}");
    let told = warned(&with(&format!("al_aeshost = \"192.0.2.1\"\n{srtp}")));
    assert!(told.iter().any(|line| line.contains("sends the keys")), "{told:?}");
}

#[test]
fn agents_are_named_in_ranges_with_their_skills_and_need_no_stations() {
    let agents = "al_agents = [\"7001-7020\", \"7100\"]\nal_skills = [\"4500\"]";
    assert_eq!(warned(&with(agents)), [""; 0]);
    let text = format!("{}\n{agents}", without(&["al_stations"]));
    let config = parse(&text).unwrap();
    assert_eq!(config.warnings, []);
    let monitored = config.recorder.unwrap().monitored;
    assert_eq!((monitored.agents.len(), monitored.stations.len()), (21, 0));
    // With nobody to be followed the skills alone say whose calls are recorded.
    assert_eq!(warned(&with("al_agents = []")), [""; 0]);
}

#[test]
fn what_can_be_had_is_taken_without_a_word() {
    for same in [
        "al_hold = \"skip\"",
        "al_maxpauses = \"5 min\"",
        "al_retentiondays = 0",
        "al_retentiondays = 30",
        "al_heartbeatms = \"50 ms\"",
    ] {
        assert_eq!(warned(&with(same)), [""; 0], "{same}");
    }
    let config = parse(&with("al_codecs = [\"g729\", \"g711u\"]")).unwrap();
    assert_eq!(config.recorder.unwrap().codecs, [Codec::G729, Codec::G711U]);
    assert!(parse(&with("al_hold = \"skip\"")).unwrap().recorder.unwrap().skip_hold);
}

#[test]
fn secrets_come_from_values_files_or_credentials() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    fs::write(&file, "from file\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let line = format!("al_aespasswordfile = {:?}", file.display().to_string());
    let text = format!("{}\n{line}", without(&["al_aespassword"]));
    let password = |text: &str, credentials: Option<PathBuf>| {
        Config::parse(&Source { text: text.to_owned(), credentials, ..Source::default() })
            .map(|config| (config.recorder.unwrap().aes.password, config.warnings))
    };
    let (secret, warnings) = password(&text, None).unwrap();
    assert_eq!((secret.expose(), warnings), ("from file", vec![]));

    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let (_, warnings) = password(&text, None).unwrap();
    assert!(warnings[0].to_string().contains("others may read"), "{warnings:?}");

    fs::write(dir.path().join("al_aespassword"), "from systemd").unwrap();
    let bare = without(&["al_aespassword"]);
    let (secret, _) = password(&bare, Some(dir.path().to_owned())).unwrap();
    assert_eq!(secret.expose(), "from systemd");

    let source = Source { text: MINIMAL.into(), others_may_read: true, ..Source::default() };
    let warnings = Config::parse(&source).unwrap().warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].to_string().contains("every user"), "{warnings:?}");

    let both = told(&format!("{MINIMAL}\n{line}"));
    assert!(both[0].contains("given beside al_aespasswordfile"), "{both:?}");
    let wrong: [(&[u8], &str); 3] =
        [(b"", "is empty"), (&[0xff, 0xfe], "not UTF-8"), (&[b'x'; 5000], "longer than 4096")];
    for (bytes, reason) in wrong {
        fs::write(&file, bytes).unwrap();
        let told = told(&text);
        assert!(told.len() == 1 && told[0].contains(reason), "{told:?}");
    }
    fs::remove_file(&file).unwrap();
    let told = told(&text);
    assert!(told.len() == 1 && told[0].starts_with("al_aespasswordfile: cannot"), "{told:?}");
}

#[test]
fn no_secret_shows_in_debug_or_in_an_error() {
    let text = with(
        "al_catalogurl = \"postgres://u:hunter3@h/d\"\nal_site = \"s\"\nal_s3secretkey = \"hunter4\"\n\
         al_s3accesskey = \"hunter5\"\nal_archive = \"s3://b\"",
    );
    let shown = format!("{:?} {:#?}", parse(&text).unwrap(), parse(&text).unwrap());
    for secret in ["hunter", "654321"] {
        assert!(!shown.contains(secret), "{secret}");
    }
    for lines in [
        "al_aespassword = [\"hunter2\"]",
        "al_aespassword = { hunter2 = 1 }",
        "al_catalogurl = \"mysql://u:hunter2@h/d\"",
        "al_catalogurl = \"postgres://u:hunter2@h:x/d\"\nal_site = \"s\"",
        "al_catalogurl = \"postgres://u:x@h/d?hunter2=y\"\nal_site = \"s\"",
        "al_catalogurl = \"postgres://u:hunter2@h/d\"",
        "al_catalogurl = \"postgres://u:x@h/d\"\nal_site = \"s\"\nal_catalogpassword = \"hunter2\"",
        "al_aespassword = hunter2",
        "al_aespassword = \"hunter2",
        "al_aespassword = \"hunter2\" hunter2",
        "al_aespassword = \"\\hunter2\"",
        "al_aespasword = \"hunter2\"",
    ] {
        let error = parse(&with(lines)).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{lines}: {error}");
    }
}

#[test]
fn commands_that_only_ask_need_only_the_address() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("astlogger.toml");
    fs::write(&file, "al_listen = \"127.0.0.1:8081\"\nal_aespasswordfile = \"/none\"").unwrap();
    assert_eq!(Web::load(&file).unwrap().listen.port(), 8081);
    fs::write(&file, "al_listen = 5").unwrap();
    assert!(Web::load(&file).is_err());
    let error = Web::load(&dir.path().join("none")).unwrap_err().to_string();
    assert!(error.contains("cannot be read"), "{error}");
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in any::<String>()) {
        let _ = parse(&text);
    }

    #[test]
    fn no_value_makes_the_reader_panic(
        key in 0..keys::KEYS.len(),
        value in prop_oneof![
            any::<i64>().prop_map(|n| n.to_string()),
            any::<f64>().prop_map(|n| toml::Value::Float(n).to_string()),
            any::<String>().prop_map(|s| toml::Value::String(s).to_string()),
            prop::collection::vec("[0-9=:./a-z-]{0,12}", 0..4)
                .prop_map(|list| toml::Value::from(list).to_string()),
            Just("{ a = [1, { b = 2 }] }".to_owned()),
            Just("[{ name = 5, record = [] }, 7]".to_owned()),
            Just("1979-05-27T07:32:00Z".to_owned()),
        ],
    ) {
        let _ = parse(&with(&format!("{} = {value}", keys::KEYS[key].name)));
    }
}

#[test]
fn an_archive_is_a_store_or_a_folder() {
    let archive = |lines: &str| parse(&with(lines)).unwrap().storage.archive.unwrap();
    let read =
        archive("al_archive = \"s3://calls/site/one/\"\nal_s3endpoint = \"http://127.0.0.1:9\"");
    let ArchiveKind::S3(s3) = &read.kind else { panic!("{read:?}") };
    assert_eq!(
        (&*read.place, &*s3.bucket, &*s3.prefix),
        ("s3://calls/site/one", "calls", "site/one")
    );
    assert_eq!(archive("al_archive = \"s3://calls\"").place, "s3://calls");
    let folder = archive("al_archive = \"file:///mnt/calls/\"");
    assert_eq!(
        (&*folder.place, folder.kind),
        ("file:///mnt/calls", ArchiveKind::Folder("/mnt/calls".into()))
    );
    let keys = "al_sftpkeyfile = \"/k\"\nal_sftpknownhosts = \"/h\"\n";
    let server = archive(&format!("{keys}al_archive = \"sftp://rec@[::1]:2022/srv/calls/\""));
    let ArchiveKind::Sftp(sftp) = &server.kind else { panic!("{server:?}") };
    assert_eq!(
        (&*sftp.user, &*sftp.host, sftp.port, &*sftp.folder),
        ("rec", "::1", 2022, "/srv/calls")
    );
    assert_eq!(server.place, "sftp://rec@[::1]:2022/srv/calls");
    let lacking = told(&with("al_archive = \"sftp://rec@nas/srv\""));
    assert!(lacking[0].contains("al_sftpkeyfile"), "{lacking:?}");
    for wrong in [
        "calls",
        "s3:///x",
        "file://calls",
        "ftp://calls",
        "sftp://nas/x",
        "sftp://rec@nas",
        "sftp://rec:hunter@nas/x",
        "sftp://rec@-oProxyCommand=x/x",
        "sftp://rec@nas:ssh/x",
    ] {
        let told = told(&with(&format!("al_archive = \"{wrong}\"")));
        assert!(told[0].starts_with("al_archive"), "{wrong}: {told:?}");
    }
    let clear = warned(&with("al_archive = \"s3://calls\"\nal_s3endpoint = \"http://nas:9000\""));
    assert!(clear.iter().any(|line| line.contains("crosses the network in clear")), "{clear:?}");
    let lock = |lines: &str| archive(&format!("al_archive = \"s3://calls\"\n{lines}")).lock();
    let both = "al_archivelock = \"compliance\"\nal_archivelockdays = 90";
    assert_eq!(lock(both), Some(ObjectLock { mode: LockMode::Compliance, days: Some(90) }));
    let kept = "al_archivelock = \"governance\"\nal_retentiondays = 30";
    assert_eq!(lock(kept), Some(ObjectLock { mode: LockMode::Governance, days: None }));
    assert_eq!(lock("al_archivelock = \"\""), None);
    let store = "al_archive = \"s3://calls\"\n";
    let endless = told(&with(&format!("{store}al_archivelock = \"governance\"")));
    assert!(endless[0].contains("al_archivelockdays"), "{endless:?}");
    let idle = warned(&with(&format!("{store}al_archivelockdays = 9")));
    assert!(idle.iter().any(|line| line.starts_with("al_archivelockdays")), "{idle:?}");
    let folder = format!("al_archive = \"file:///mnt\"\n{both}");
    assert!(warned(&with(&folder)).iter().any(|line| line.starts_with("al_archivelock:")));
    let unused = warned(&with("al_archive = \"file:///mnt\"\nal_s3region = \"eu\""));
    assert!(unused.iter().any(|line| line.starts_with("al_s3region")), "{unused:?}");
}
