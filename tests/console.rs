//! The console of the real binary: by plain TCP as `nc` speaks it, and by `astlogger console`.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::Bench;
use serde_json::Value;
use simulator::SiteConfig;
use tokio::task::block_in_place;

/// Nothing here takes longer.
const LIMIT: Duration = Duration::from_secs(30);

/// A recorder that is ready, with a console and these rules.
async fn start(rules: &str) -> (Bench, SocketAddr) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut bench = Bench::prepare(SiteConfig::demo(2, 1), rules).await;
    // The configuration that the bench writes has the console switched off.
    let file = bench.node.config_path();
    let text = std::fs::read_to_string(&file).unwrap();
    let line = format!("al_consolelisten = \"{address}\" # ours\n# al_serverrole = \"active\"\n");
    assert!(text.contains("al_consolelisten = \"\"\n"), "{text}");
    std::fs::write(&file, text.replace("al_consolelisten = \"\"\n", &line)).unwrap();
    bench = bench.started().await;
    (bench, address)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the console listens");
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    stream
}

/// What `printf TEXT | nc` would print.
fn nc(address: SocketAddr, text: impl AsRef<[u8]>) -> String {
    let mut stream = connect(address);
    stream.write_all(text.as_ref()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn astlogger(bench: &Bench, arguments: &[&str], input: &str) -> Output {
    let config = bench.node.config_path();
    let mut command = Command::new(env!("CARGO_BIN_EXE_astlogger"));
    // Options stand before the console's command.
    let names = if arguments[0] == "cluster" { 2 } else { 1 };
    command.args(&arguments[..names]).arg("--config").arg(config).args(&arguments[names..]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that reads no input may have ended already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_looked_at_and_changed_by_nc() {
    let (bench, address) = start("").await;
    block_in_place(|| {
        for (line, parts) in [
            ("help", &["startrecord EXT [trunk]", "each answer ends with"][..]),
            ("show status", &["1*     active     lead      yes", "could record a call now  yes"]),
            ("show calls", &["callid"]),
            ("show phantoms", &["free       "]),
            ("show peers", &["this node is alone"]),
            ("show params", &["al_nodeid", "al_aespassword             (secret)", "(default)"]),
            ("show rules", &["no rules: every call is recorded"]),
            ("show alarms", &["no alarms"]),
        ] {
            let answer = nc(address, format!("{line}\n"));
            assert!(answer.ends_with("\nok\n"), "{line}: {answer}");
            for part in parts {
                assert!(answer.contains(part), "{line}: {part}\n{answer}");
            }
        }
        for (line, error) in [
            ("set al_listen 127.0.0.1:1", "error needsrestart al_listen does not change"),
            ("set al_serverrole activ", "error badvalue al_serverrole = \"activ\": must be one"),
            ("set al_serverrole witness", "error needsrestart a node becomes a witness"),
            ("set al_colour red", "error unknownparameter there is no parameter al_colour"),
            ("startrecord 31001", "error nocall "),
            ("drain", "error unavailable this node is alone"),
            ("drill", "error unavailable this node is alone"),
            ("add member 4 10.0.0.4", "error unavailable this node is alone"),
            ("remove member 1", "error unavailable this node is alone"),
            ("resolve 01890000-0000-7000-8000-000000000000", "error notfound no such open"),
            ("add user anna king\n", "error badvalue unknown role `king`"),
        ] {
            let answer = nc(address, format!("{line}\n"));
            assert!(answer.starts_with(error), "{line}: {answer}");
            assert_eq!(answer.lines().filter(|l| l.starts_with("error ")).count(), 1, "{answer}");
        }
        let answer = nc(address, "takeover\n");
        assert!(answer.starts_with("node 1 leads already") && answer.ends_with("\nok\n"));
        let answer = nc(address, "add user anna qa\ncorrect horse\nadd user anna qa\nx\n");
        assert!(answer.contains("user anna is added\nok\n"), "{answer}");
        assert!(answer.contains("error refused user `anna` is there already"), "{answer}");
        let users = std::fs::read_to_string(bench.node.users_path()).unwrap();
        assert!(users.contains("anna") && !users.contains("horse"));
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_parameter_is_saved_and_nothing_else_is() {
    let (bench, address) = start("").await;
    let file = bench.node.config_path();
    let before = std::fs::read_to_string(&file).unwrap();
    block_in_place(|| {
        let answer = nc(address, "save\n");
        assert!(answer.starts_with("no parameter was changed since the last save\n"), "{answer}");
        let answer = nc(address, "set al_serverrole backup\nshow params\nshow status\n");
        assert!(
            answer.starts_with("al_serverrole = \"backup\" until the next restart"),
            "{answer}"
        );
        assert!(answer.contains("\"backup\"  (changed, not saved)\n"), "{answer}");
        assert!(answer.contains("1*     backup     lead"), "{answer}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), before, "not before `save`");
        let answer = nc(address, "save\nsave\n");
        assert!(answer.starts_with("al_serverrole = \"backup\" is in "), "{answer}");
        assert!(answer.contains("no parameter was changed since the last save\nok\n"), "{answer}");
    });
    let after = std::fs::read_to_string(&file).unwrap();
    let others = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.starts_with("al_serverrole"));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(others(&after), others(&before));
    assert!(after.contains("# ours\n# al_serverrole = \"active\"\n"), "comments stay: {after}");
    assert!(after.contains("\nal_serverrole = \"backup\"\n"), "{after}");
    let check = astlogger(&bench, &["check", "--json"], "");
    let report = text(&check.stdout);
    assert!(report.contains("\"problems\":[]"), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_recorded_for_as_long_as_the_console_says() {
    let rules = "[[al_rule]]\nname = \"asked\"\nrecord = \"ondemand\"\n";
    let (bench, _) = start(rules).await;
    let call = bench.answered_call("5551230001", "31001").await;

    let run = |arguments: &[&str]| block_in_place(|| astlogger(&bench, arguments, ""));
    let started = run(&["console", "startrecord", "31001", "trunk"]);
    assert_eq!(started.status.code(), Some(0), "{}", text(&started.stderr));
    let answer = text(&started.stdout);
    let id = answer.trim().strip_prefix("recording ").expect("its name").to_owned();
    bench.recorded(call).await;
    let twice = run(&["console", "startrecord", "31001"]);
    assert_eq!(twice.status.code(), Some(1));
    assert!(text(&twice.stderr).starts_with("astlogger: alreadyrecording: "), "{twice:?}");
    let calls = text(&run(&["console", "show", "calls"]).stdout);
    assert!(calls.contains(&id) && calls.contains("5551230001"), "{calls}");
    bench.frames(call, 100).await;
    let stopped = run(&["console", "--json", "stoprecord", "31001"]);
    assert_eq!(stopped.status.code(), Some(0), "{}", text(&stopped.stderr));
    let report: Value =
        serde_json::from_str(text(&stopped.stdout).lines().last().unwrap()).unwrap();
    assert_eq!(
        (&report["ok"], report["lines"][0].as_str().unwrap().contains(&id)),
        (&true.into(), true)
    );
    let published = bench.published(1).await;
    assert_eq!(published[0].1.recordingid.to_string(), id);
    bench.site.switch().hangup_all(call);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_tells_by_its_exit_code() {
    let (bench, _) = start("").await;
    block_in_place(|| {
        for (arguments, input, code, told) in [
            (&["console", "show", "status"][..], "", 0, "its duty"),
            (&["console", "set", "al_listen", "x"], "", 1, ""),
            (&["console", "--address", "10.0.0.1:9", "help"], "", 64, ""),
            (&["console", "--address", "127.0.0.1:1", "help"], "", 69, ""),
            (&["console", "add", "user", "anna", "qa"], "secret\n", 0, "user anna is added"),
            (
                &["console"],
                "show rules\nadd user bert qa\nsecret\nquit\n",
                0,
                "user bert is added\nok\n",
            ),
            (&["console"], "show rules\ncolour\n", 1, "ok\nerror unknowncommand "),
            (&["cluster", "status"], "", 0, "calls in progress"),
            (&["cluster", "add", "4", "10.0.0.4:7400"], "", 1, ""),
            (&["cluster", "remove", "--json", "2"], "", 1, "\"code\":\"unavailable\""),
            (&["cluster", "replace", "2", "4", "10.0.0.4"], "", 1, ""),
        ] {
            let output = astlogger(&bench, arguments, input);
            let (out, err) = (text(&output.stdout), text(&output.stderr));
            assert_eq!(output.status.code(), Some(code), "{arguments:?}: {out}{err}");
            assert!(out.contains(told), "{arguments:?}: {out}");
            assert_eq!(
                code == 0 || arguments == ["console"],
                err.is_empty(),
                "{arguments:?}: {err}"
            );
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_clients_harm_nobody() {
    let (mut bench, address) = start("").await;
    block_in_place(|| {
        let answer = nc(address, "x".repeat(1 << 20));
        assert!(answer.starts_with("error toolong "), "{answer}");
        let answer = nc(address, b"\x16\x03\x01\x02\x00\xff\xff\nshow rules\n");
        assert_eq!(answer, "error foreign the line is no UTF-8 text\n");
        let answer = nc(address, "\0\x1b[2J\nadd user evil admin\nsecret\n");
        assert!(answer.starts_with("error foreign ") && answer.lines().count() == 1, "{answer}");
        let post = "POST / HTTP/1.1\r\nContent-Length: 30\r\n\r\nadd user evil admin\nsecret\n";
        let answer = nc(address, post);
        assert!(answer.starts_with("error foreign ") && answer.lines().count() == 1, "{answer}");
        assert!(!std::fs::read_to_string(bench.node.users_path()).unwrap().contains("evil"));

        // More than are let in, and none of them says anything.
        let crowd: Vec<_> = (0..200).map(|_| connect(address)).collect();
        let mut late = connect(address);
        let mut told = String::new();
        // Told so, or closed at once: never left waiting.
        drop(late.read_to_string(&mut told));
        assert!(told.is_empty() || told.starts_with("error busy "), "{told}");
        drop(crowd);
        // Each ends when its connection is seen to be closed.
        let deadline = Instant::now() + LIMIT;
        while !try_nc(address, "show rules\n").is_some_and(|answer| answer.ends_with("ok\n")) {
            assert!(Instant::now() < deadline, "the console is there again");
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recorded(call).await;
    bench.frames(call, 50).await;
    bench.site.switch().hangup_all(call);
    bench.published(1).await;
    bench.assert_right();
    // Somebody who listens does not keep the node from ending.
    let _open = connect(address);
    bench.node.stop(LIMIT).await.expect("an orderly end");
}

fn try_nc(address: SocketAddr, text: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(LIMIT)).ok()?;
    stream.write_all(text.as_bytes()).ok()?;
    stream.shutdown(std::net::Shutdown::Write).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}
