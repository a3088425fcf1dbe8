//! Alarms out of a real node to real receivers: an HTTP server, a mail server with STARTTLS and a login,
//! and snmptrapd; and what recording feels of receivers that are away, slow or refuse: nothing.

#[path = "../common/mod.rs"]
mod common;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use astlogger::demo::{free_tcp_port, free_udp_ports};
use serde_json::Value;
use simulator::SiteConfig;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use common::{Bench, LIMIT};

const SECRET: &str = "of this test";
/// In the address of a webhook. Long enough to be nothing else in a log, such as the hour of a time.
const TOKEN: &str = "token-of-the-webhook";
const CUT: Duration = Duration::from_millis(1500);

fn own(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/alarms").join(file)
}

/// Debian's Python, because Debian's packages are installed for it.
fn python() -> &'static str {
    if Path::new("/usr/bin/python3").exists() { "/usr/bin/python3" } else { "python3" }
}

/// A receiver in a process of its own, and the file into which it writes what it was told.
struct Receiver {
    child: Child,
    file: PathBuf,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Receiver {
    fn start(dir: &TempDir, command: &mut Command, file: &str) -> Self {
        let log = std::fs::File::create(dir.path().join("receiver.log")).expect("writable");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        Self { child: child.expect("the receiver starts"), file: dir.path().join(file) }
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.file).unwrap_or_default()
    }

    fn lines(&self) -> Vec<Value> {
        let text = self.text();
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// Waits until what was told fulfils a condition.
    async fn told(&self, bench: &Bench, holds: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !holds(&self.text()) {
            assert!(Instant::now() < deadline, "told: {}\n{}", self.text(), bench.log_tail());
            sleep(Duration::from_millis(50)).await;
        }
    }
}

fn folder() -> TempDir {
    tempfile::Builder::new().prefix("astlogger-alarms").tempdir().expect("a folder")
}

/// Key and certificate of a server on this machine; the certificate is its own authority.
fn certificate(dir: &TempDir) -> (String, String) {
    let made =
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]);
    let made = made.expect("a certificate");
    let write = |name: &str, text: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("writable");
        path.to_str().expect("UTF-8").to_owned()
    };
    (write("cert.pem", made.cert.pem()), write("key.pem", made.signing_key.serialize_pem()))
}

/// Waits until somebody listens there.
async fn listening(port: u16) {
    let deadline = Instant::now() + LIMIT;
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        assert!(Instant::now() < deadline, "nobody listens at {port}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_gets_each_raise_and_clear_once_signed_and_again_if_it_refused() {
    let dir = folder();
    let (cert, key) = certificate(&dir);
    let port = free_tcp_port().expect("a port");
    let mut command = Command::new(python());
    command.arg(own("http_receiver.py")).arg(port.to_string()).arg(dir.path().join("told"));
    let receiver = Receiver::start(&dir, command.args([SECRET, "2", &cert, &key]), "told");
    listening(port).await;
    let settings = format!(
        "al_alarmwebhook = \"https://localhost:{port}/hook?token={TOKEN}\"\n\
         al_alarmwebhooksecret = \"{SECRET}\"\nal_alarmca = {cert:?}\n"
    );
    let bench = Bench::start_with(SiteConfig::demo(1, 1), &settings).await;
    bench.site.faults().cut_aes(0, CUT);
    receiver.told(&bench, |text| text.contains("alarmcleared")).await;
    let taken: Vec<_> = receiver.lines().into_iter().filter(|line| line["status"] == 204).collect();
    let aes: Vec<_> = taken.iter().filter(|line| line["body"]["alarm"] == "aesdown").collect();
    assert_eq!(aes.len(), 2, "{taken:#?}");
    for (line, event) in aes.iter().zip(["alarm", "alarmcleared"]) {
        assert_eq!(
            (&line["signed"], &line["path"]),
            (&true.into(), &format!("/hook?token={TOKEN}").into())
        );
        assert_eq!(line["type"], "application/json");
        let body = &line["body"];
        assert_eq!((&body["event"], &body["severity"]), (&event.into(), &"critical".into()));
        assert_eq!(body["node"], 1);
        assert!(body["message"].as_str().is_some_and(|text| !text.is_empty()), "{body}");
    }
    assert_eq!(receiver.lines().iter().filter(|line| line["status"] == 503).count(), 2);
    let log = std::fs::read_to_string(bench.node.log_path()).expect("a log");
    assert!(!log.contains(TOKEN) && !log.contains(SECRET), "a secret is in the log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_goes_encrypted_and_with_a_login_and_collects_what_comes_soon_after() {
    let there = Command::new(python()).args(["-c", "import aiosmtpd"]).status();
    if !there.is_ok_and(|status| status.success()) {
        eprintln!("NOT TESTED: Python has no aiosmtpd (./setup tests installs it)");
        return;
    }
    let dir = folder();
    let (cert, key) = certificate(&dir);
    let port = free_tcp_port().expect("a port");
    let mut command = Command::new(python());
    command.arg(own("mail_receiver.py")).arg(port.to_string()).arg(dir.path().join("told"));
    let receiver = Receiver::start(&dir, command.args([&cert, &key, "ast", SECRET]), "told");
    listening(port).await;
    let settings = format!(
        "al_alarmmail = [\"ops@example.org\", \"night@example.org\"]\n\
         al_alarmmailfrom = \"recorder@example.org\"\nal_alarmmailserver = \"localhost:{port}\"\n\
         al_alarmmailuser = \"ast\"\nal_alarmmailpassword = \"{SECRET}\"\nal_alarmca = {cert:?}\n"
    );
    let bench = Bench::start_with(SiteConfig::demo(1, 1), &settings).await;
    bench.site.faults().cut_aes(0, CUT);
    receiver.told(&bench, |text| text.contains("aesdown")).await;
    let mail = &receiver.lines()[0];
    assert_eq!(mail["to"], serde_json::json!(["ops@example.org", "night@example.org"]));
    assert_eq!((&mail["tls"], &mail["login"]), (&true.into(), &true.into()), "{mail}");
    assert_eq!((&mail["from"], &mail["date"]), (&"recorder@example.org".into(), &true.into()));
    let subject = mail["subject"].as_str().expect("a subject");
    assert!(subject.starts_with("AstLogger node 1: critical: aesdown"), "{mail}");
    assert!(mail["text"].as_str().is_some_and(|text| text.contains("What to do: ")), "{mail}");
}

/// The base modules are the tools' own where they have them; `tests/alarms/mibs` has as much of them as
/// this MIB names, because Debian cannot give them out.
fn mib_folders() -> String {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    format!("{}:{}:/usr/share/snmp/mibs", docs.display(), own("mibs").display())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snmptrapd_understands_each_trap_by_the_mib() {
    let dir = folder();
    let port = free_udp_ports(1).expect("a port");
    let config = dir.path().join("snmptrapd.conf");
    std::fs::write(&config, format!("authCommunity log {}\n", "hidden")).expect("writable");
    if Command::new("snmptrapd").arg("-v").output().is_err() {
        eprintln!("NOT TESTED: there is no snmptrapd (./setup tests installs it)");
        return;
    }
    let mut command = Command::new("snmptrapd");
    command.args([
        "-f",
        "-C",
        "-On",
        "-F",
        "%v|%V|%W\\n",
        "-m",
        "ASTLOGGER-MIB",
        "-M",
        &mib_folders(),
    ]);
    command.arg("-c").arg(&config).arg("-Lf").arg(dir.path().join("told"));
    command.env("SNMP_PERSISTENT_DIR", dir.path()).arg(format!("udp:127.0.0.1:{port}"));
    let receiver = Receiver::start(&dir, &mut command, "told");
    let settings =
        format!("al_alarmtrap = \"127.0.0.1:{port}\"\nal_alarmtrapcommunity = \"hidden\"\n");
    let bench = Bench::start_with(SiteConfig::demo(1, 1), &settings).await;
    receiver.told(&bench, |text| text.contains("NET-SNMP version")).await;
    bench.site.faults().cut_aes(0, CUT);
    receiver.told(&bench, |text| text.matches("aesdown").count() >= 2).await;
    let told = receiver.text();
    let traps: Vec<_> = told.lines().filter(|line| line.contains("aesdown")).collect();
    for (trap, number) in traps.iter().zip([1, 2]) {
        let root = ".1.3.6.1.4.1.8072.9999.9999.7400";
        assert!(
            trap.contains(&format!(".1.3.6.1.6.3.1.1.4.1.0 = OID: {root}.0.{number}")),
            "{told}"
        );
        assert!(trap.contains(&format!("{root}.1.1.0 = STRING: aesdown")), "{told}");
        assert!(trap.contains(&format!("{root}.1.5.0 = INTEGER: critical(2)")), "{told}");
        assert!(trap.contains(&format!("{root}.1.6.0 = Gauge32: 1")), "{told}");
    }
    assert_eq!(traps.len(), 2, "{told}");
}

#[test]
fn the_mib_is_understood() {
    let mut command = Command::new("snmptranslate");
    command.args(["-m", "ASTLOGGER-MIB", "-M", &mib_folders(), "-On", "-IR", "astAlarmSeverity.0"]);
    let Ok(output) = command.output() else {
        eprintln!("NOT TESTED: there is no snmptranslate (./setup tests installs it)");
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.trim(), ".1.3.6.1.4.1.8072.9999.9999.7400.1.5.0");
    let complaints = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<_> = complaints.lines().filter(|line| line.contains("ASTLOGGER")).collect();
    assert!(ours.is_empty(), "{complaints}");
}

/// One receiver is not there, one takes connections and says nothing, one cannot be resolved: calls are
/// recorded as always, and an alarm tells that alarms do not get through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receivers_that_are_away_slow_or_unknown_cost_no_call() {
    let dead = free_tcp_port().expect("a port");
    let mute = TcpListener::bind("127.0.0.1:0").expect("a port");
    let settings = format!(
        "al_alarmwebhook = \"http://127.0.0.1:{dead}/\"\n\
         al_alarmmail = [\"ops@example.org\"]\nal_alarmmailfrom = \"recorder@example.org\"\n\
         al_alarmmailserver = \"{}\"\nal_alarmmailtls = \"none\"\n\
         al_alarmtrap = \"nowhere.invalid\"\n",
        mute.local_addr().expect("an address")
    );
    let bench = Bench::start_with(SiteConfig::demo(2, 1), &settings).await;
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recorded(call).await;
    bench.site.faults().cut_aes(0, CUT);
    bench.metric("astlogger_alarms{alarm=\"aesdown\"}", |raised| raised == 1.0).await;
    // The webhook fails at once, the trap too; mail is still waiting for the server's first word.
    bench.metric("astlogger_alarms{alarm=\"alarmnotsent\"}", |raised| raised == 2.0).await;
    bench.metric("astlogger_alarms{alarm=\"aesdown\"}", |raised| raised == 0.0).await;
    let after = bench.answered_call("5551230002", "31002").await;
    bench.recorded(after).await;
    bench.frames(after, 100).await;
    for call in [call, after] {
        bench.site.switch().hangup_all(call);
    }
    bench.published(2).await;
    let verdict = bench.assert_right();
    assert_eq!((verdict.calls_recorded, verdict.packets_in_declared_gaps), (2, 0));
}
