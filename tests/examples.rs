//! Each configuration that is shipped is one that works.

use std::fs;
use std::path::{Path, PathBuf};

use astlogger::config::{Config, Source};

fn shipped() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|file| file.extension().is_some_and(|end| end == "toml")).collect()
}

fn of_the_simulator(file: &Path) -> bool {
    file.file_name().unwrap().to_string_lossy().starts_with("simulator")
}

fn parse(file: &Path, text: String) -> Config {
    let credentials = tempfile::tempdir().unwrap();
    fs::write(credentials.path().join("al_aespassword"), "password").unwrap();
    fs::write(credentials.path().join("al_phantompassword"), "123456").unwrap();
    let source = Source {
        file: file.to_owned(),
        text,
        credentials: Some(credentials.path().to_owned()),
        ..Source::default()
    };
    Config::parse(&source).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_shipped_configuration_can_be_used() {
    let files = shipped();
    assert!(files.len() >= 4, "{files:?}");
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        if of_the_simulator(&file) {
            simulator::SiteConfig::from_toml(&text).unwrap();
        } else {
            parse(&file, text);
        }
    }
}

#[test]
fn the_recorder_to_try_belongs_to_the_simulated_site() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
    let file = dir.join("single.toml");
    let recorder = parse(&file, fs::read_to_string(&file).unwrap()).recorder.unwrap();
    let text = fs::read_to_string(dir.join("simulator.example.toml")).unwrap();
    let site = simulator::SiteConfig::from_toml(&text).unwrap();
    assert_eq!(recorder.aes.place.port, site.aes[0].port);
    assert_eq!(recorder.aes.user, site.aes[0].user);
    assert_eq!(recorder.aes.password.expose(), site.aes[0].password);
    assert_eq!(recorder.aes.switchname, site.switch_name);
    assert_eq!(recorder.phantom_password.expose(), site.phantoms[0].password);
}

/// Every parameter that the example only names is written as it could stand there.
#[test]
fn the_commented_parameters_of_the_example_can_be_used() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/astlogger.example.toml");
    let text = fs::read_to_string(&file).unwrap();
    let mut tried = 0;
    for line in text.lines().filter_map(|line| line.strip_prefix("# ")) {
        let needs_more = [
            "al_cluster",
            "al_peers",
            "al_tls",
            "al_s3",
            "al_archivelock",
            "al_catalog",
            "al_site",
            "al_alarmmail",
            "al_oidc",
            "al_agents",
        ];
        if !line.starts_with("al_")
            || line.contains("file =")
            || needs_more.iter().any(|begin| line.starts_with(begin))
        {
            continue;
        }
        parse(&file, format!("{line}\n{text}"));
        tried += 1;
    }
    assert!(tried > 20, "{tried}");
}

/// What the unit loads is what the program looks for: each secret, and each private key.
#[test]
fn a_path_may_name_a_credential_and_says_so_where_there_are_none() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
    let file = dir.join("single.toml");
    let keys = "al_tlscert = \"/web.crt\"\nal_tlskey = \"$CREDENTIALS_DIRECTORY/al_tlskey\"\n";
    let text = format!("{keys}{}", fs::read_to_string(&file).unwrap());
    let credentials = Some(PathBuf::from("/run/credentials/astlogger.service"));
    let source = Source { file, text, credentials, ..Source::default() };
    let tls = Config::parse(&source).unwrap().web.tls.unwrap();
    assert_eq!(tls.key, Path::new("/run/credentials/astlogger.service/al_tlskey"));
    let told = Config::parse(&Source { credentials: None, ..source }).unwrap_err().to_string();
    assert!(told.contains("LoadCredential=al_tlskey:"), "{told}");
}

#[test]
fn the_unit_loads_every_secret_that_there_is() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let unit = fs::read_to_string(dir.join("systemd/astlogger.service")).unwrap();
    let keys = fs::read_to_string(dir.join("src/config/keys.rs")).unwrap();
    let secrets = keys.lines().filter(|line| line.contains("Kind::Secret)"));
    let names: Vec<_> = secrets.filter_map(|line| line.split('"').nth(1)).collect();
    assert!(names.len() >= 6, "{names:?}");
    for name in names {
        assert!(unit.contains(&format!("\nLoadCredential={name}\n")), "{name} is not loaded");
    }
}
