//! A running node behind TLS: its certificates are replaced without a restart and without a broken connection, told of when they
//! cannot be used, and before they end; and scanners find nothing serious. The process is real, and so are its
//! files; a witness suffices.

mod common;

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use astlogger::users::{self, UserRole};
use common::{LIMIT, PASSWORD};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Whoever lives is ended.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A node that shows certificates to people and to peers that are not there.
struct Node {
    folder: tempfile::TempDir,
    web: SocketAddr,
    process: Process,
    /// Whom the client trusts: everything that was ever shown.
    roots: RootCertStore,
}

fn port() -> u16 {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    free.local_addr().expect("an address").port()
}

impl Node {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let web: SocketAddr = ([127, 0, 0, 1], port()).into();
        let place = folder.path().display();
        let made = Command::new(env!("CARGO_BIN_EXE_astlogger"))
            .args(["cluster", "init", "--nodes", "1=localhost,2=localhost,3=localhost", "--dir"])
            .arg(folder.path().join("pki"))
            .output()
            .expect("it runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let peers = [port(), port(), port()];
        let settings = format!(
            "al_nodeid = 1\nal_serverrole = \"witness\"\nal_datadir = \"{place}/data\"\n\
             al_peers = [\"1=127.0.0.1:{}\", \"2=127.0.0.1:{}\", \"3=127.0.0.1:{}\"]\n\
             al_clusterlisten = \"127.0.0.1:{}\"\nal_clusterca = \"{place}/pki/ca.pem\"\n\
             al_clustercert = \"{place}/pki/node-1.pem\"\nal_clusterkey = \"{place}/pki/node-1.key\"\n\
             al_listen = \"{web}\"\nal_consolelisten = \"\"\nal_usersfile = \"{place}/users.toml\"\n\
             al_tlscert = \"{place}/web.crt\"\nal_tlskey = \"{place}/web.key\"\n",
            peers[0], peers[1], peers[2], peers[0],
        );
        let config = folder.path().join("astlogger.toml");
        std::fs::write(&config, settings).expect("writable");
        let mut roots = RootCertStore::empty();
        roots.add(put_pair(folder.path(), 365)).expect("a certificate");
        let log = std::fs::File::create(folder.path().join("log")).expect("writable");
        let process = Command::new(env!("CARGO_BIN_EXE_astlogger"))
            .args(["run", "--config"])
            .arg(&config)
            .stderr(Stdio::from(log))
            .spawn()
            .expect("the node starts");
        let node = Self { folder, web, process: Process(process), roots };
        node.until("it listens", async || TcpStream::connect(web).await.is_ok()).await;
        node
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts a new pair in the place of the old.
    fn renew(&mut self, days: u64) -> CertificateDer<'static> {
        let new = put_pair(self.folder.path(), days);
        self.roots.add(new.clone()).expect("a certificate");
        new
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        self.try_connect().await.expect("TLS")
    }

    async fn try_connect(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        let tcp = TcpStream::connect(self.web).await.expect("it listens");
        let name = ServerName::try_from("localhost").expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await
    }

    /// What a new connection is shown.
    async fn shown(&self) -> CertificateDer<'static> {
        let stream = self.connect().await;
        stream.get_ref().1.peer_certificates().expect("a certificate")[0].clone()
    }

    /// The alarms: names, subjects, messages.
    async fn alarms(&self) -> Vec<(String, String, String)> {
        Self::alarms_by(&mut self.connect().await).await
    }

    /// The same, asked on a connection that is there.
    async fn alarms_by(stream: &mut TlsStream<TcpStream>) -> Vec<(String, String, String)> {
        let status: Value = ask(stream, "/api/status").await;
        let told = |alarm: &Value, key: &str| alarm[key].as_str().unwrap_or_default().to_owned();
        let alarms = status["alarms"].as_array().expect("a list").iter();
        alarms
            .map(|alarm| (told(alarm, "alarm"), told(alarm, "subject"), told(alarm, "message")))
            .filter(|(name, ..)| name.starts_with("certificate"))
            .collect()
    }

    async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !holds().await {
            let log = || std::fs::read_to_string(self.path("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "never: {what}; {}", log());
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn until_told(&self, name: &str, subject: &str, words: &str) {
        self.until(&format!("{name} {subject} {words}"), async || {
            let alarms = self.alarms().await;
            alarms
                .iter()
                .any(|(n, s, message)| n == name && s == subject && message.contains(words))
        })
        .await;
    }
}

/// A new pair for `localhost`, its key first, as some tools write them.
fn put_pair(folder: &Path, days: u64) -> CertificateDer<'static> {
    put_pair_for(folder, Duration::from_secs(days * 86_400 + 3600))
}

fn put_pair_for(folder: &Path, lasts: Duration) -> CertificateDer<'static> {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).expect("a name");
    let now = std::time::SystemTime::now();
    params.not_before = (now - Duration::from_secs(3600)).into();
    params.not_after = (now + lasts).into();
    let made = params.self_signed(&key).expect("a certificate");
    std::fs::write(folder.join("web.key"), key.serialize_pem()).expect("writable");
    std::fs::write(folder.join("web.crt"), made.pem()).expect("writable");
    made.der().clone()
}

/// One question on a connection that stays open.
async fn ask(stream: &mut TlsStream<TcpStream>, path: &str) -> Value {
    ask_with(stream, "GET", path, "").await
}

async fn ask_with(
    stream: &mut TlsStream<TcpStream>,
    method: &str,
    path: &str,
    body: &str,
) -> Value {
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}");
    let request = format!("{head}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await.expect("it is open");
    let mut got = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece).await.expect("it is open");
        assert!(count > 0, "the connection has ended");
        got.extend_from_slice(&piece[..count]);
        let text = String::from_utf8_lossy(&got);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.to_ascii_lowercase();
        let length = length.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
        if length.and_then(|text| text.parse().ok()) == Some(body.len()) {
            return serde_json::from_str(body).expect("JSON");
        }
    }
}

#[tokio::test]
async fn a_pair_is_replaced_while_connections_go_on_and_a_broken_one_is_told() {
    let mut node = Node::start().await;
    let first = node.shown().await;
    let mut kept = node.connect().await;
    assert_eq!(ask(&mut kept, "/healthz").await["status"], "ok");
    assert!(node.alarms().await.is_empty());

    let second = node.renew(365);
    assert_ne!(first, second);
    node.until("the new one is shown", async || node.shown().await == second).await;
    assert_eq!(ask(&mut kept, "/healthz").await["status"], "ok", "made before the change");

    let whole = std::fs::read(node.path("web.key")).expect("readable");
    std::fs::write(node.path("web.key"), "nothing").expect("writable");
    node.until_told("certificatenotloaded", "al_tlscert", "web.key").await;
    assert_eq!(node.shown().await, second, "what was in use stays in use");
    std::fs::write(node.path("web.key"), whole).expect("writable");
    node.until("it is cleared", async || node.alarms().await.is_empty()).await;

    // Told to look, it does so at once and lives on.
    std::fs::write(node.path("pki/node-1.pem"), "nothing").expect("writable");
    let pid = i32::try_from(node.process.0.id()).expect("a number");
    kill(Pid::from_raw(pid), Signal::SIGHUP).expect("it runs");
    node.until_told("certificatenotloaded", "al_clustercert", "node-1.pem").await;
    assert_eq!(node.process.0.try_wait().expect("known"), None);
}

#[tokio::test]
async fn people_are_told_before_a_certificate_ends() {
    let mut node = Node::start().await;
    node.renew(20);
    node.until_told("certificateexpiring", "al_tlscert", "in 20 days").await;
    node.renew(5);
    node.until_told("certificateexpiring", "al_tlscert", "urgent: ").await;
    node.renew(90);
    node.until("it is cleared", async || node.alarms().await.is_empty()).await;
}

#[tokio::test]
async fn a_certificate_that_ends_is_told_and_whoever_is_connected_stays() {
    let mut node = Node::start().await;
    let mut kept = node.connect().await;
    assert_eq!(ask(&mut kept, "/healthz").await["status"], "ok");
    let ending = put_pair_for(node.folder.path(), Duration::from_secs(5));
    node.roots.add(ending).expect("a certificate");
    let deadline = Instant::now() + LIMIT;
    loop {
        let alarms = Node::alarms_by(&mut kept).await;
        let ended = |(name, subject, message): &(String, String, String)| {
            name == "certificateinvalid" && subject == "al_tlscert" && message.contains("has ended")
        };
        if alarms.iter().any(ended) {
            break;
        }
        assert!(Instant::now() < deadline, "{alarms:?}");
        sleep(Duration::from_millis(50)).await;
    }
    let refused = node.try_connect().await.expect_err("nobody trusts it any more").to_string();
    assert!(refused.contains("expired"), "{refused}");
    assert_eq!(ask(&mut kept, "/healthz").await["status"], "ok", "who is connected stays");
    node.renew(90);
    node.until("a new one is shown", async || node.try_connect().await.is_ok()).await;
    node.until("it is cleared", async || node.alarms().await.is_empty()).await;
}

/// What a scanner prints; it is installed by `./setup tests`.
async fn scanned(program: &str, arguments: &[String]) -> String {
    let run = tokio::process::Command::new(program).args(arguments).kill_on_drop(true).output();
    let output = tokio::time::timeout(Duration::from_secs(240), run).await.expect("it ends");
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; see ./setup tests"));
    let (out, err) = (output.stdout, output.stderr);
    format!("{}{}", String::from_utf8_lossy(&out), String::from_utf8_lossy(&err))
}

#[tokio::test]
async fn a_scanner_of_tls_finds_nothing_old_and_nothing_weak() {
    let node = Node::start().await;
    let place = format!("localhost:{}", node.web.port());
    let found = scanned("sslscan", &["--no-colour".to_owned(), place]).await;
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    for (version, state) in [
        ("SSLv2", "disabled"),
        ("SSLv3", "disabled"),
        ("TLSv1.0", "disabled"),
        ("TLSv1.1", "disabled"),
        ("TLSv1.2", "enabled"),
        ("TLSv1.3", "enabled"),
    ] {
        assert!(found.lines().any(|line| words(line) == [version, state]), "{version}: {found}");
    }
    let accepts = |line: &&str| line.starts_with("Preferred") || line.starts_with("Accepted");
    let ciphers: Vec<_> = found.lines().filter(accepts).collect();
    assert!(ciphers.len() >= 3, "{found}");
    for cipher in ciphers {
        assert!(cipher.contains("GCM") || cipher.contains("CHACHA20"), "{cipher}");
        assert!(cipher.contains("TLSv1.3") || cipher.contains("ECDHE"), "{cipher}");
    }
}

/// Whoever is signed in and tries each address and each argument with what such programs try.
#[tokio::test]
async fn a_scanner_of_pages_finds_nothing_serious() {
    let node = Node::start().await;
    users::add(&node.path("users.toml"), "scanner", UserRole::Supervisor, None, None, PASSWORD)
        .expect("a users file");
    let mut stream = node.connect().await;
    let body = serde_json::json!({ "user": "scanner", "password": PASSWORD }).to_string();
    let signed_in = ask_with(&mut stream, "POST", "/api/signin", &body).await;
    let token = signed_in["token"].as_str().expect("a token");
    let site = format!("https://localhost:{}", node.web.port());
    let report = node.path("report.json");
    let mut arguments: Vec<String> = [
        "--verify-ssl",
        "0",
        "--flush-session",
        "--scope",
        "domain",
        "-f",
        "json",
        // What asks servers on the internet, or guesses passwords, is left out.
        "-m",
        "backup,cookieflags,crlf,csp,csrf,exec,file,htaccess,http_headers,methods,redirect,shellshock,sql,xss",
    ]
    .map(str::to_owned)
    .into();
    arguments.extend(["-H".to_owned(), format!("Authorization: Bearer {token}")]);
    arguments.extend(["-o".to_owned(), report.display().to_string()]);
    arguments.extend(["-u".to_owned(), format!("{site}/")]);
    for path in [
        "/supervisor",
        "/health",
        "/api/recordings?text=x&extension=2611&limit=5&order=oldest&from=2026-11-27T00:00:00.000Z",
        "/api/recordings/018bcfe5-687b-7000-8000-00000000ffff",
        "/api/recordings/018bcfe5-687b-7000-8000-00000000ffff/audio?format=wav",
        "/api/completeness?day=2026-11-27",
        "/api/session",
        "/api/oidc/start?page=/",
        "/api/oidc/callback?code=x&state=y",
    ] {
        arguments.extend(["-s".to_owned(), format!("{site}{path}")]);
    }
    let said = scanned("wapiti", &arguments).await;
    let report = std::fs::read(&report).unwrap_or_else(|error| panic!("{error}: {said}"));
    let report: Value = serde_json::from_slice(&report).expect("JSON");
    let mut found = Vec::new();
    for kind in ["vulnerabilities", "anomalies"] {
        for (name, all) in report[kind].as_object().expect("kinds") {
            let told = |one: &Value| format!("{name}: {} {}", one["info"], one["path"]);
            found.extend(all.as_array().expect("a list").iter().map(told));
        }
    }
    // One header no browser heeds any more; the other binds all services of a host (ARCHITECTURE.md says more).
    found.retain(|one| {
        !one.contains("X-XSS-Protection is not set")
            && !one.contains("Strict-Transport-Security is not set")
    });
    assert_eq!(found, Vec::<String>::new());
    // It was let in and looked at what only somebody with a role sees.
    let log = node.path("data/audit");
    let files = std::fs::read_dir(log).expect("an audit log").flatten();
    let written: usize = files
        .map(|file| std::fs::read_to_string(file.path()).unwrap_or_default().lines().count())
        .sum();
    assert!(written > 100, "it has asked for {written} things only");
}
