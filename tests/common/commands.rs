//! The program as somebody runs it beside a node: what tests of several things ask of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_astlogger");

/// A new key file in a folder, with one key.
pub fn key_file(folder: &Path) -> PathBuf {
    let keys = folder.join("keys");
    let made =
        Command::new(PROGRAM).args(["key", "new", "--name", "k1", "--file"]).arg(&keys).output();
    assert!(made.expect("it runs").status.success());
    keys
}

/// What `astlogger check` finds of one thing, and all that it says, for a node alone with these lines more in its
/// configuration, which is made in a folder.
pub fn check_finds(dir: &Path, lines: &str, check: &str) -> (Value, String) {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/single.toml");
    let text = std::fs::read_to_string(example).expect("the example");
    let file = dir.join("astlogger.toml");
    std::fs::write(&file, format!("{lines}\n{text}")).expect("writable");
    let asked = Command::new(PROGRAM).args(["check", "--json", "--config"]).arg(&file).output();
    let asked = asked.expect("it runs");
    let said = String::from_utf8_lossy(&asked.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&asked.stderr);
    let report: Value =
        said.lines().last().and_then(|line| serde_json::from_str(line).ok()).expect("a report");
    let of_it = |finding: &&Value| finding["check"] == check;
    let finding = report["findings"].as_array().into_iter().flatten().find(of_it).cloned();
    (finding.unwrap_or_default(), format!("{said}{complaint}"))
}
