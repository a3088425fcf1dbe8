//! The Debian package: made by `./package` of the program that the tests use, and judged by lintian. What
//! becomes of it on a machine that systemd has booted is not tried here.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// Packs the program as this version, and says where the package is.
fn pack(out: &Path, version: &str) -> PathBuf {
    let packed = Command::new(Path::new(HERE).join("package"))
        .args(["--binary", env!("CARGO_BIN_EXE_astlogger"), "--version", version, "--out"])
        .arg(out)
        .output()
        .expect("it can be run");
    assert!(packed.status.success(), "{}", said(&packed));
    let mut made = std::fs::read_dir(out).expect("a folder").map(|file| file.unwrap().path());
    made.find(|file| file.to_string_lossy().contains(version)).expect("a package")
}

fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

#[test]
fn the_package_holds_what_belongs_to_it_and_lintian_finds_no_error() {
    let out = TempDir::new().expect("a temporary folder");
    let package = pack(out.path(), "9.8.7-6");
    let listed = Command::new("dpkg-deb").arg("--contents").arg(&package).output().expect("dpkg");
    let listed = said(&listed);
    for file in [
        "/usr/bin/astlogger",
        "/lib/systemd/system/astlogger.service",
        "/usr/lib/sysusers.d/astlogger.conf",
        "/usr/lib/tmpfiles.d/astlogger.conf",
        "/etc/astlogger/astlogger.example.toml",
        "/etc/astlogger/witness.example.toml",
        "/usr/share/man/man1/astlogger.1.gz",
        "/usr/share/man/man1/astlogger-cluster-init.1.gz",
        "/usr/share/bash-completion/completions/astlogger",
        "/usr/share/doc/astlogger/copyright",
        "/usr/share/doc/astlogger/docs/install.md",
    ] {
        assert!(listed.lines().any(|line| line.ends_with(file)), "{file} is missing:\n{listed}");
    }
    let field = ["--field", package.to_str().expect("UTF-8"), "Recommends"];
    let recommended = Command::new("dpkg-deb").args(field).output().expect("dpkg");
    // An archive behind SFTP is written by it.
    assert_eq!(said(&recommended).trim(), "openssh-client");
    let judged = Command::new("lintian")
        .args(["--allow-root", "--fail-on", "error", "--tag-display-limit", "0"])
        .arg(&package)
        .output()
        .expect("lintian: ./setup tests installs it");
    assert!(judged.status.success(), "{}", said(&judged));
}

/// Each crate that is linked in is named, and none without a licence.
#[test]
fn the_licences_of_all_that_is_linked_in_are_told() {
    let told = Command::new(Path::new(HERE).join("packaging/licences")).output().expect("it runs");
    assert!(told.status.success(), "{}", said(&told));
    let told = said(&told);
    let lock = std::fs::read_to_string(Path::new(HERE).join("Cargo.lock")).expect("the lock");
    let version = |name: &str| {
        let entry =
            lock.split("[[package]]").find(|entry| entry.contains(&format!("\"{name}\"\n")));
        let line = entry?.lines().find(|line| line.starts_with("version"))?.to_owned();
        Some(line.split('"').nth(1)?.to_owned())
    };
    for crate_name in ["rustls", "tokio", "libsqlite3-sys", "aws-lc-sys"] {
        let line = format!("\n {crate_name} {}: ", version(crate_name).expect("it is locked"));
        assert!(told.contains(&line), "{line:?} is missing");
    }
    let nameless: Vec<_> = told.lines().filter(|line| line.ends_with(": ")).collect();
    assert!(nameless.is_empty(), "{nameless:?}");
    assert!(told.contains("Permission to use, copy, modify, and/or distribute"), "texts are there");
}
