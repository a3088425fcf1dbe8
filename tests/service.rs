//! The shipped systemd unit, judged by systemd itself, and the watchdog protocol spoken to a real
//! process.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const UNIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/astlogger.service");
/// What `systemd-analyze security` may say at the most, in tenths.
const EXPOSURE_MAX: &str = "15";
const PATIENCE: Duration = Duration::from_secs(30);

/// `systemd-analyze`, or a loud word that this machine has none.
fn analyze(arguments: &[&str]) -> Option<std::process::Output> {
    match Command::new("systemd-analyze").args(arguments).output() {
        Ok(output) => Some(output),
        Err(error) => {
            eprintln!("NOT TESTED: systemd-analyze cannot be run: {error}");
            None
        }
    }
}

#[test]
fn systemd_takes_the_unit_and_finds_it_well_shut_in() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let unit = dir.path().join("astlogger.service");
    // Programs that a unit names have to be there.
    let text = std::fs::read_to_string(UNIT).expect("the unit");
    let here = text.replace("/usr/bin/astlogger", env!("CARGO_BIN_EXE_astlogger"));
    assert_ne!(text, here, "the unit runs astlogger");
    std::fs::write(&unit, here).expect("writable");
    let unit = unit.to_str().expect("UTF-8");
    let Some(verified) = analyze(&["verify", unit]) else { return };
    let said = String::from_utf8_lossy(&verified.stderr);
    let ours: Vec<_> = said.lines().filter(|line| line.contains("astlogger.service")).collect();
    assert!(ours.is_empty(), "{said}");
    let threshold = format!("--threshold={EXPOSURE_MAX}");
    let arguments = ["security", "--offline=true", "--no-pager", &threshold, unit];
    let judged = analyze(&arguments).expect("it ran a moment ago");
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stdout));
}

/// A witness that can reach nobody still gets on, so it says that it is ready and feeds its watchdog.
#[test]
fn a_node_says_that_it_is_ready_and_feeds_its_watchdog() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let socket = dir.path().join("notify");
    let manager = UnixDatagram::bind(&socket).expect("a socket");
    manager.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    let config = dir.path().join("astlogger.toml");
    std::fs::write(&config, settings(dir.path())).expect("writable");
    let mut node = Command::new(env!("CARGO_BIN_EXE_astlogger"))
        .args(["run", "--config"])
        .arg(&config)
        .env("NOTIFY_SOCKET", &socket)
        .env("WATCHDOG_USEC", "1000000")
        .stderr(Stdio::null())
        .spawn()
        .expect("the node starts");
    let mut heard = String::new();
    let deadline = Instant::now() + PATIENCE;
    while heard.matches("WATCHDOG=1").count() < 4 && Instant::now() < deadline {
        let mut message = [0; 256];
        if let Ok(length) = manager.recv(&mut message) {
            heard.push_str(&String::from_utf8_lossy(&message[..length]));
            heard.push('\n');
        }
    }
    node.kill().expect("it runs");
    node.wait().expect("it ends");
    assert!(heard.contains("READY=1"), "{heard}");
    assert!(heard.matches("WATCHDOG=1").count() >= 4, "{heard}");
}

fn settings(dir: &Path) -> String {
    let port = || {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        free.local_addr().expect("an address").port()
    };
    let (own, other, web) = (port(), port(), port());
    format!(
        "al_nodeid = 3\nal_serverrole = \"witness\"\nal_datadir = {dir:?}\n\
         al_clusterlisten = \"127.0.0.1:{own}\"\n\
         al_peers = [\"3=127.0.0.1:{own}\", \"1=127.0.0.1:{other}\"]\n\
         al_listen = \"127.0.0.1:{web}\"\nal_consolelisten = \"\"\n\
         al_usersfile = {users:?}\n",
        dir = dir.join("data"),
        users = dir.join("users.toml"),
    )
}
