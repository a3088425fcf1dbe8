//! Whether what lies encrypted in the data directory can be read with the keys that there are.

use std::collections::BTreeMap;

use storage::key_survey;
use storage_core::key_file::KeyName;

use super::Finding;
use crate::config::Config;

const CHECK: &str = "encryption";
const KEY: &str = "al_encryptionkeyfile";

/// The keys of captures and voice files. Nothing is said where nothing is encrypted and nothing is to be.
pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let keys = &config.storage.keys;
    let missing = |needed: BTreeMap<KeyName, usize>| {
        let known = |name: &KeyName| keys.names().any(|known| known == name);
        let missing = needed.into_iter().filter(|(name, _)| !known(name));
        missing.fold((0, Vec::new()), |(count, mut names), (name, more)| {
            names.push(name.to_string());
            (count + more, names)
        })
    };
    let mut findings = Vec::new();
    match key_survey::captures(&config.datadir).map(missing) {
        Ok((0, _)) => {}
        Ok((segments, names)) => {
            let names = names.join(", ");
            let found = format!("{segments} captured segments need key {names}: no node can start");
            findings.push(Finding::fail(CHECK, found, remedy(config, &names)).of(KEY));
        }
        Err(error) => {
            let found = format!("the captures cannot be looked at: {error}");
            findings.push(Finding::warn(CHECK, found, "look at al_datadir").of("al_datadir"));
        }
    }
    match key_survey::voices(&config.datadir) {
        Ok(voices) => {
            let all: usize = voices.needed.values().sum();
            let (files, names) = missing(voices.needed);
            for broken in &voices.broken {
                let found = broken.to_string();
                findings.push(Finding::warn(CHECK, found, "restore it from a copy"));
            }
            if files > 0 {
                let names = names.join(", ");
                let found = format!("{files} of {all} encrypted voice files need key {names}");
                let found = format!("{found}, and cannot be fetched");
                findings.push(Finding::warn(CHECK, found, remedy(config, &names)).of(KEY));
            } else if let Some(active) = keys.names().next() {
                let found = format!("on, with key {active}; {all} encrypted voice files");
                findings.push(Finding::ok(CHECK, found));
            }
        }
        Err(error) => {
            let found = format!("the voice files cannot be looked at: {error}");
            findings.push(Finding::warn(CHECK, found, "look at al_datadir").of("al_datadir"));
        }
    }
    findings
}

fn remedy(config: &Config, names: &str) -> String {
    if config.storage.keys.encrypt() {
        format!("put the line of {names} back into the key file, below the active key")
    } else {
        format!("name the key file that holds {names}")
    }
}
