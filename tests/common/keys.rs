//! Keys of encryption at rest, made and used by the commands that people use.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use astlogger::demo::Published;

/// Runs the program.
pub fn astlogger(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_astlogger")).args(arguments).output().expect("it runs")
}

/// What it said.
pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

/// A key file that the command has made.
pub fn key_file(dir: &Path, name: &str) -> PathBuf {
    let file = dir.join(format!("{name}.keys"));
    let place = file.to_str().expect("UTF-8");
    let output = astlogger(&["key", "new", "--file", place, "--name", name]);
    assert!(output.status.success(), "{}", text(&output));
    file
}

/// The setting that names it.
pub fn setting(file: &Path) -> String {
    format!("al_encryptionkeyfile = \"{}\"\n", file.display())
}

/// Plain copies of what is published, as a person makes them.
pub fn decrypted(published: &[Published], keys: &[&Path], out: &Path) -> Vec<Published> {
    let decrypt = |(path, record): &Published| {
        assert!(record.encrypted, "{record:?}");
        for key in keys {
            let [key, out, path] = [key, &out, &path.as_path()].map(|p| p.to_str().expect("UTF-8"));
            let output = astlogger(&["decrypt", "--key-file", key, "--out", out, path]);
            if output.status.success() {
                let plain = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
                return (plain, record.clone());
            }
        }
        panic!("no key fits {}", path.display());
    };
    published.iter().map(decrypt).collect()
}
