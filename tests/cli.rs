//! The real binary on the command line: exit codes, streams, `--json`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_astlogger"));
    command.args(arguments).stdin(Stdio::null());
    // Nothing of the developer's own environment may change the outcome.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AL_") {
            command.env_remove(name);
        }
    }
    command
}

fn run(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

fn run_with_input(arguments: &[&str], input: &str) -> Output {
    let mut child = command(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    let text = stdout(output);
    serde_json::from_str(text.lines().last().unwrap_or_default()).unwrap_or_else(|error| {
        panic!("the last line is no JSON ({error}): {text}\n{}", stderr(output))
    })
}

/// A pair of UDP ports that nobody has, even one first.
fn free_rtp_ports() -> (u16, u16) {
    loop {
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port() & !1;
        if UdpSocket::bind(("127.0.0.1", port)).is_ok()
            && UdpSocket::bind(("127.0.0.1", port + 1)).is_ok()
        {
            return (port, port + 1);
        }
    }
}

fn free_tcp_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A port where somebody answers who is no AstLogger.
fn stranger() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // Whoever asks may be gone already.
            drop(stream.write_all(b"220 mail ready\r\n"));
        }
    });
    port
}

/// A configuration for a machine on which everything is in order but what `lines` change.
fn configure(dir: &Path, aes_port: u16, lines: &str) -> String {
    let (rtp, rtcp) = free_rtp_ports();
    let place = dir.display();
    let text = format!(
        "al_nodeid = 1\nal_serverrole = \"active\"\nal_datadir = \"{place}\"\n\
         al_aeshost = \"127.0.0.1\"\nal_aesport = {aes_port}\nal_aestls = false\n\
         al_aesuser = \"recorder\"\nal_aespassword = \"hunter2\"\nal_switchname = \"cm1\"\n\
         al_phantoms = [\"78001\"]\nal_phantompassword = \"654321\"\nal_stations = [\"3100\"]\n\
         al_rtpaddress = \"127.0.0.1\"\nal_rtpports = \"{rtp}-{rtcp}\"\nal_mindiskfree = 0\n\
         al_listen = \"127.0.0.1:{}\"\nal_usersfile = \"{place}/users.toml\"\n\
         al_consolelisten = \"127.0.0.1:{}\"\n{lines}\n",
        free_tcp_port(),
        free_tcp_port(),
    );
    let file = dir.join("astlogger.toml");
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    file.display().to_string()
}

/// An AES that takes the login of [`configure`], for as long as the first value lives.
fn simulated_aes() -> ((tokio::runtime::Runtime, simulator::Site), u16) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut config = simulator::SiteConfig::demo(1, 1);
    config.aes[0].user = "recorder".to_owned();
    config.aes[0].password = "hunter2".into();
    let site = runtime.block_on(simulator::Site::start(config)).unwrap();
    let port = site.aes_address(0).port();
    ((runtime, site), port)
}

#[test]
fn usage_mistakes_end_with_64_and_help_with_0() {
    for (arguments, code) in [
        (&[][..], 64),
        (&["dance"], 64),
        (&["run", "--speed", "9"], 64),
        (&["demo", "--scenario", "comedy"], 64),
        (&["demo", "--calls", "0"], 64),
        (&["simulate"], 64),
        (&["user", "add", "--name", "a", "--role", "king"], 64),
        (&["--help"], 0),
        (&["--version"], 0),
        (&["check", "--help"], 0),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        assert_eq!(output.stdout.is_empty(), code != 0, "{arguments:?}");
    }
}

#[test]
fn a_wrong_configuration_ends_with_78_and_tells_everything() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("astlogger.toml");
    fs::write(&file, "al_nodid = 1\nal_aespassword = [\"hunter2\"]\nal_listen = 5\n").unwrap();
    let file = file.display().to_string();
    for arguments in [&["check", "--config", &file][..], &["run", "--config", &file]] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(78), "{arguments:?}");
        let told = stdout(&output) + &stderr(&output);
        for part in ["did you mean al_nodeid?", "al_listen = 5", "al_aeshost", "al_phantoms"] {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert!(!told.contains("hunter2"), "{told}");
    }
    let output = run(&["check", "--json", "--config", &file]);
    assert_eq!(output.status.code(), Some(78));
    let report = json(&output);
    assert_eq!((&report["ok"], &report["exit"]), (&Value::Bool(false), &Value::from(78)));
    let keys: Vec<_> =
        report["problems"].as_array().unwrap().iter().map(|p| p["key"].clone()).collect();
    assert!(keys.contains(&"al_nodid".into()) && keys.contains(&"al_listen".into()), "{keys:?}");
}

#[test]
fn a_missing_file_ends_with_78_and_is_named() {
    for command in ["check", "run", "status", "simulate"] {
        let output = run(&[command, "--config", "/nowhere/astlogger.toml"]);
        assert_eq!(output.status.code(), Some(78), "{command}: {}", stderr(&output));
        let told = stdout(&output) + &stderr(&output);
        assert!(told.contains("/nowhere/astlogger.toml"), "{command}: {told}");
    }
}

#[test]
fn check_is_content_with_a_machine_in_order() {
    let dir = TempDir::new().unwrap();
    let (_aes, aes_port) = simulated_aes();
    let file = configure(dir.path(), aes_port, "");
    let output = run(&["check", "--json", "--config", &file]);
    let report = json(&output);
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    assert_eq!(report["ok"], true);
    let checks: Vec<_> =
        report["findings"].as_array().unwrap().iter().map(|f| f["check"].clone()).collect();
    for check in ["data directory", "free room", "web port", "RTP ports", "clock", "AES"] {
        assert!(checks.contains(&check.into()), "{check}: {checks:?}");
    }
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["astlogger.toml"], "check leaves nothing behind");
    let people = run(&["check", "--config", &file]);
    assert!(stdout(&people).contains("ok    configuration"), "{}", stdout(&people));
}

#[test]
fn check_names_what_is_wrong_with_the_machine_and_the_key() {
    let dir = TempDir::new().unwrap();
    let (_aes, aes_port) = simulated_aes();
    let closed = free_tcp_port();
    let taken = stranger();
    let web = format!("AL_LISTEN=127.0.0.1:{taken}");
    let console = format!("AL_CONSOLELISTEN=127.0.0.1:{taken}");
    let certificate = format!("AL_TLSCERT={}", dir.path().join("none.pem").display());
    let key = format!("AL_TLSKEY={}", dir.path().join("none.key").display());
    for (aes_port, environment, code, check, al_key) in [
        (closed, &[][..], 69, "AES", "al_aeshost"),
        (aes_port, &["AL_SWITCHNAME=cm2"], 69, "AES", "al_switchname"),
        (aes_port, &[web.as_str()], 1, "web port", "al_listen"),
        (closed, &[web.as_str()], 1, "web port", "al_listen"),
        (aes_port, &[console.as_str()], 1, "console port", "al_consolelisten"),
        (aes_port, &["AL_RTPADDRESS=192.0.2.1"], 1, "RTP ports", "al_rtpaddress"),
        (aes_port, &["AL_DATADIR=/proc/nothing"], 1, "data directory", "al_datadir"),
        (aes_port, &["AL_DATADIR=/etc/passwd"], 1, "data directory", "al_datadir"),
        (aes_port, &["AL_MINDISKFREE=1000000 TB"], 1, "free room", "al_mindiskfree"),
        (aes_port, &[certificate.as_str(), &key], 1, "web certificate", "al_tlscert"),
    ] {
        let file = configure(dir.path(), aes_port, "");
        let mut command = command(&["check", "--json", "--config", &file]);
        let pairs = environment.iter().filter_map(|variable| variable.split_once('='));
        let output = command.envs(pairs).output().unwrap();
        let report = json(&output);
        assert_eq!(output.status.code(), Some(code), "{environment:?}: {report:#}");
        let findings = report["findings"].as_array().unwrap();
        let finding = findings.iter().find(|finding| finding["check"] == check).unwrap();
        assert_eq!(finding["verdict"], "fail", "{finding}");
        assert_eq!(finding["key"], al_key, "{finding}");
        assert!(!finding["remedy"].as_str().unwrap().is_empty(), "{finding}");
    }
}

#[test]
fn without_a_node_status_ends_with_69() {
    let dir = TempDir::new().unwrap();
    let file = configure(dir.path(), 4721, "");
    let output = run(&["status", "--json", "--config", &file]);
    assert_eq!(output.status.code(), Some(69), "{}", stderr(&output));
    assert_eq!(json(&output)["exit"], 69);
    assert!(stderr(&output).contains("no node answers at 127.0.0.1:"), "{}", stderr(&output));
}

#[test]
fn without_a_node_the_console_ends_with_69_and_without_a_console_too() {
    let dir = TempDir::new().unwrap();
    let file = configure(dir.path(), 4721, "");
    let output = run(&["console", "--json", "--config", &file, "show", "status"]);
    assert_eq!(output.status.code(), Some(69), "{}", stderr(&output));
    assert_eq!(json(&output)["exit"], 69);
    assert!(stderr(&output).contains("no node answers at 127.0.0.1:"), "{}", stderr(&output));
    let output = command(&["console", "--config", &file, "help"])
        .env("AL_CONSOLELISTEN", "")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(69), "{}", stderr(&output));
    assert!(stderr(&output).contains("al_consolelisten"), "{}", stderr(&output));
    let output = run(&["console", "--address", "10.0.0.1:9007", "help"]);
    assert_eq!(output.status.code(), Some(64), "{}", stderr(&output));
}

#[test]
fn certificates_of_a_group_are_made_in_one_command() {
    let dir = TempDir::new().unwrap();
    let pki = dir.path().join("pki");
    let pki = pki.to_str().unwrap();
    let init = ["cluster", "init", "--dir", pki, "--nodes"];
    let output = run(&[&init[..], &["1=10.0.0.1,2=rec2.example.com:7500", "--json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let members = &json(&output)["members"];
    assert_eq!(
        (&members[1]["node"], &members[1]["place"]),
        (&2.into(), &"rec2.example.com:7500".into())
    );
    for key in ["al_clustercert", "al_clusterkey", "al_clusterca"] {
        assert!(Path::new(members[0][key].as_str().unwrap()).exists(), "{members}");
    }
    let output = run(&[&init[..], &["3=10.0.0.3"]].concat());
    let told = stdout(&output);
    for part in ["node 3 (10.0.0.3:7400)", "al_nodeid = 3", "node-3.pem", "ca.key", "al_peers with"]
    {
        assert!(told.contains(part), "{part}: {told}");
    }
    for (nodes, code) in [("1=10.0.0.1", 1), ("4=a,4=b", 64), ("10.0.0.1", 64), ("", 64)] {
        let output = run(&[&init[..], &[nodes]].concat());
        assert_eq!(output.status.code(), Some(code), "{nodes}: {}", stderr(&output));
    }
    assert_eq!(
        run(&["cluster", "init", "--dir", "/proc/no", "--nodes", "1=a"]).status.code(),
        Some(69)
    );
}

#[test]
fn recover_and_reindex_want_a_data_directory_and_say_what_they_did() {
    let dir = TempDir::new().unwrap();
    let place = dir.path().to_str().unwrap();
    for command in ["recover", "reindex"] {
        let output = run(&[command, "--dir", "/nowhere"]);
        assert_eq!(output.status.code(), Some(64), "{command}: {}", stderr(&output));
        assert_eq!(run(&[command, "--dir", place]).status.code(), Some(64), "{command}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is made in a wrong place");

    fs::create_dir_all(dir.path().join("capture")).unwrap();
    let output = run(&["recover", "--json", "--dir", place]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!((&json(&output)["ok"], &json(&output)["published"]), (&true.into(), &0.into()));

    let stray = dir.path().join("voice/2026/11/23");
    fs::create_dir_all(&stray).unwrap();
    fs::write(stray.join("01890000-0000-7000-8000-000000000000.wav"), "RIFF").unwrap();
    let output = run(&["reindex", "--json", "--dir", place]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_eq!(json(&output)["entered"], 0);
    assert!(json(&output)["broken"][0].as_str().unwrap().contains("01890000"));
}

#[test]
fn the_simulated_site_says_how_to_reach_it_and_ends_politely() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("site.toml");
    let site = "stations = [\"31001\"]\nagents = []\nskills = []\nvdns = []\n[[aes]]\n\
        [[phantoms]]\nextensions = \"78001\"\npassword = \"1\"\n";
    fs::write(&file, site).unwrap();
    let mut child = command(&["simulate", "--config", file.to_str().unwrap(), "--calls", "0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let told: Vec<_> = lines.by_ref().take_while(|line| !line.contains("Ctrl-C")).collect();
    let port = told.iter().find_map(|line| line.trim().strip_prefix("al_aesport = ")).unwrap();
    let port: u16 = port.parse().unwrap();
    drop(TcpStream::connect(("127.0.0.1", port)).unwrap());
    assert!(told.iter().any(|line| line.contains("al_phantoms = [\"78001\"]")), "{told:?}");
    let id = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    drop(lines);

    fs::write(&file, "colour = 1").unwrap();
    let output = run(&["simulate", "--config", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr(&output).contains("colour"), "{}", stderr(&output));
}

#[test]
fn users_are_added_listed_and_removed() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("users.toml");
    let file = path.to_str().unwrap();
    let add = ["user", "add", "--file", file, "--name", "anna", "--role", "agent"];
    let with_extension = [&add[..], &["--extension", "3100"]].concat();
    let output = run_with_input(&with_extension, "correct horse\nanother line\n");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(!fs::read_to_string(&path).unwrap().contains("horse"));
    assert_eq!(run_with_input(&add, "again\n").status.code(), Some(1), "there already");
    assert_eq!(
        run_with_input(&[&add[..5], &["bert"], &add[6..]].concat(), "").status.code(),
        Some(64)
    );

    let output = run(&["user", "list", "--file", file, "--json"]);
    assert_eq!(output.status.code(), Some(0));
    let users = &json(&output)["users"];
    assert_eq!(users[0]["name"], "anna");
    assert_eq!(users[0]["extension"], "3100");
    assert!(!stdout(&output).contains("argon2"));

    let remove = ["user", "remove", "--file", file, "--name", "anna"];
    assert_eq!(run(&remove).status.code(), Some(0));
    assert_eq!(run(&remove).status.code(), Some(1), "gone already");
    assert_eq!(run(&["user", "list", "--file", "/nowhere/users.toml"]).status.code(), Some(78));
}

#[test]
fn what_is_done_to_users_and_keys_is_told_to_programs_too() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (users, keys) = (path("users.toml"), path("keys"));
    let add = ["user", "add", "--json", "--file", &users, "--name", "anna", "--role", "qa"];
    let remove = ["user", "remove", "--json", "--file", &users, "--name", "anna"];
    let new = ["key", "new", "--json", "--file", &keys, "--name", "k1"];
    let next = ["key", "add", "--json", "--file", &keys, "--name", "k2"];
    let user = || serde_json::json!({ "ok": true, "name": "anna" });
    let key = |name: &str| serde_json::json!({ "ok": true, "key": name, "file": keys });
    for (arguments, done) in
        [(&add[..], user()), (&remove, user()), (&new, key("k1")), (&next, key("k2"))]
    {
        let output = run_with_input(arguments, "correct horse\n");
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_eq!((json(&output), stdout(&output).lines().count()), (done, 1));
        let again = match arguments[1] {
            "add" if arguments[0] == "user" => run_with_input(arguments, "correct horse\n"),
            _ => run(arguments),
        };
        assert_eq!((again.status.code(), &json(&again)["ok"]), (Some(1), &false.into()));
    }
}

#[test]
fn a_cause_is_told_once() {
    let dir = TempDir::new().unwrap();
    let none = dir.path().join("none").to_str().unwrap().to_owned();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let inside = file.join("inside").to_str().unwrap().to_owned();
    for arguments in [
        &["user", "list", "--file", &none][..],
        &["user", "remove", "--name", "anna", "--file", &inside],
        &["key", "add", "--file", &inside],
        &["key", "new", "--file", &inside],
        &["cluster", "init", "--dir", &inside, "--nodes", "1=10.0.0.1"],
        &["run", "--config", &none],
    ] {
        let output = run(arguments);
        let said = stderr(&output);
        assert_ne!(output.status.code(), Some(0), "{arguments:?}");
        assert_eq!(said.matches("(os error ").count(), 1, "{arguments:?}: {said}");
    }
}

/// The completion is asked as bash asks it; the pages are read by man where it is installed (lintian,
/// see `tests/package.rs`).
#[test]
fn manual_pages_and_completions_are_made_of_the_command_line() {
    let dir = TempDir::new().unwrap();
    let made = run(&["generate", "--dir", dir.path().to_str().unwrap()]);
    assert!(made.status.success(), "{}", stderr(&made));
    let page = fs::read_to_string(dir.path().join("man/astlogger-cluster-replace.1")).unwrap();
    assert!(page.contains(".TH") && page.contains("Example"), "{page}");
    assert!(!dir.path().join("man/astlogger-generate.1").exists(), "it is nobody's but packages'");
    for (shell, file) in [("zsh", "_astlogger"), ("fish", "astlogger.fish")] {
        let text = fs::read_to_string(dir.path().join("completions").join(shell).join(file));
        assert!(text.unwrap().contains("reindex"));
    }
    let script = format!(
        "source {}/completions/bash/astlogger.bash; COMP_WORDS=(astlogger re); COMP_CWORD=1; \
         _astlogger astlogger re astlogger; echo ${{COMPREPLY[*]}}",
        dir.path().display()
    );
    let offered = Command::new("bash").args(["-c", &script]).output().unwrap();
    assert_eq!(stdout(&offered).trim(), "report recover reindex", "{}", stderr(&offered));
}
