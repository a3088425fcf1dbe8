//! Signing in by OpenID Connect, with a real provider (`provider.mjs`): who gets in as what, and everything that is no sign-in
//! of his own, now, from the browser that began it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use astlogger::config::{Config, Oidc, Source};
use astlogger::users::UserRole;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use super::client::{Answer, Client, answer, get, token, within};
use super::node::Site;

/// A process that is ended with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A provider, and a server that knows it.
struct Bench {
    site: Site,
    port: u16,
    folder: tempfile::TempDir,
    process: Option<Process>,
}

/// Where `./setup tests` puts what the provider is made of.
fn modules() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a folder above").join("oidc")
}

async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

impl Bench {
    /// With a provider that answers.
    async fn start() -> Self {
        Self::asking(None).await
    }

    /// The same; it is asked this often after those who have signed in, if at all.
    async fn asking(every: Option<Duration>) -> Self {
        let mut bench = Self::knowing(every).await;
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/web/provider.mjs");
        let callback = format!("http://{}/api/oidc/callback", bench.site.server.address());
        let modules = modules();
        assert!(
            modules.join("node_modules/oidc-provider").is_dir(),
            "{}: `./setup tests` fetches oidc-provider",
            modules.display()
        );
        let process = Command::new("node")
            .arg(own)
            .arg(modules)
            .arg(bench.port.to_string())
            .args([bench.file("cert.pem"), bench.file("key.pem")])
            .arg(callback)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("node");
        bench.process = Some(Process(process));
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", bench.port)).await.is_err() {
            assert!(tokio::time::Instant::now() < deadline, "the provider does not start");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bench
    }

    async fn without_provider() -> Self {
        Self::knowing(None).await
    }

    async fn knowing(recheck: Option<Duration>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(folder.path().join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        let port = free_port().await;
        let ca = folder.path().join("cert.pem");
        let text = format!(
            "al_nodeid = 3\nal_serverrole = \"witness\"\n\
             al_peers = [\"1=127.0.0.1:7401\", \"2=127.0.0.1:7402\", \"3=127.0.0.1:7403\"]\n\
             al_oidcissuer = \"https://localhost:{port}\"\nal_oidcname = \"Example\"\n\
             al_oidcclientid = \"recorder\"\nal_oidcclientsecret = \"s3cret with blanks\"\n\
             al_oidcroles = [\"recorder-qa=qa\", \"recorder-billing=supervisor/billing\"]\n\
             al_oidcca = {ca:?}\n"
        );
        let config = Config::parse(&Source { text, ..Source::default() }).unwrap();
        let oidc = Oidc { recheck, ..config.web.oidc.unwrap() };
        let site = Site::with_provider(oidc).await;
        Self { site, port, folder, process: None }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes the provider what no honest one is.
    async fn bend(&self, how: Value) {
        let how: String = how.to_string().bytes().map(|byte| format!("%{byte:02x}")).collect();
        let mut browser = Browser::default();
        browser.provider(self, &format!("/control?bent={how}")).await;
    }

    /// Changes people at the provider; null removes one.
    async fn people(&self, people: Value) {
        let people: String =
            people.to_string().bytes().map(|byte| format!("%{byte:02x}")).collect();
        Browser::default().provider(self, &format!("/control?people={people}")).await;
    }

    async fn renew_keys(&self) {
        Browser::default().provider(self, "/control?renew=1").await;
    }
}

/// A browser: it keeps the cookies of either side, and goes where it is sent.
#[derive(Default)]
struct Browser {
    ours: BTreeMap<String, String>,
    theirs: BTreeMap<String, String>,
}

fn cookie_line(jar: &BTreeMap<String, String>) -> String {
    let pairs: Vec<_> = jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("; ")
}

fn keep_cookies(jar: &mut BTreeMap<String, String>, head: &str) {
    for line in head.lines().filter(|line| line.to_ascii_lowercase().starts_with("set-cookie: ")) {
        let pair = line["set-cookie: ".len()..].split(';').next().unwrap();
        let (name, value) = pair.split_once('=').unwrap();
        match value {
            "" => jar.remove(name),
            value => jar.insert(name.to_owned(), value.to_owned()),
        };
    }
}

fn read(jar: &mut BTreeMap<String, String>, bytes: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(bytes);
    keep_cookies(jar, text.split("\r\n\r\n").next().unwrap());
    answer(bytes)
}

impl Browser {
    /// Asks our server, as a browser does.
    async fn ours(&mut self, bench: &Bench, path: &str, accept: &str) -> Answer {
        let address = bench.site.server.address();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nAccept: {accept}\r\n\
             Cookie: {}\r\n\r\n",
            cookie_line(&self.ours)
        );
        let got = super::client::raw(address, request.as_bytes()).await;
        read(&mut self.ours, &got)
    }

    /// Asks the provider.
    async fn provider(&mut self, bench: &Bench, path: &str) -> Answer {
        let cert =
            rustls::pki_types::CertificateDer::from_pem_file(bench.file("cert.pem")).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(cert).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tcp = TcpStream::connect(("127.0.0.1", bench.port)).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let mut stream = within(connector.connect(name, tcp)).await.unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost:{}\r\nConnection: close\r\nCookie: {}\r\n\r\n",
            bench.port,
            cookie_line(&self.theirs)
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut got = Vec::new();
        // Some close without a word.
        let _ = within(stream.read_to_end(&mut got)).await;
        read(&mut self.theirs, &got)
    }

    /// Begins a sign-in: where the browser is sent.
    async fn begin(&mut self, bench: &Bench, page: &str) -> String {
        let path = format!("/api/oidc/start?page={page}");
        let sent = self.ours(bench, &path, "text/html").await;
        assert_eq!(sent.status, 303, "{sent:?}");
        sent.headers["location"].clone()
    }

    /// Signs in at the provider: the path by which it sends the browser back.
    async fn vouched(&mut self, bench: &Bench, sent: &str, who: &str) -> String {
        let issuer = format!("https://localhost:{}", bench.port);
        let path = sent.strip_prefix(&issuer).unwrap();
        let asked = self.provider(bench, path).await;
        let asks = asked.headers["location"].clone();
        let resumed = self.provider(bench, &format!("{asks}?as={who}")).await;
        let resume = resumed.headers["location"].strip_prefix(&issuer).unwrap().to_owned();
        let back = self.provider(bench, &resume).await.headers["location"].clone();
        let ours = format!("http://{}", bench.site.server.address());
        back.strip_prefix(&ours).unwrap().to_owned()
    }

    /// All of it; what our server says at the end.
    async fn sign_in(&mut self, bench: &Bench, who: &str) -> Answer {
        let sent = self.begin(bench, "/supervisor").await;
        let back = self.vouched(bench, &sent, who).await;
        self.ours(bench, &back, "application/json").await
    }

    async fn session(&mut self, bench: &Bench) -> Value {
        self.ours(bench, "/api/session", "application/json").await.json()
    }
}

/// Nobody is signed in, and what is told has these words.
#[track_caller]
fn assert_refused(done: &Answer, status: u16, words: &str) {
    let told = done.json();
    assert_eq!(done.status, status, "{told}");
    assert!(told["message"].as_str().unwrap().contains(words), "{words}: {told}");
}

#[tokio::test]
async fn who_is_vouched_for_gets_in_as_his_groups_say() {
    let bench = Bench::start().await;
    let mut anna = Browser::default();
    assert_eq!(anna.session(&bench).await, json!({ "user": null, "provider": "Example" }));
    let sent = anna.begin(&bench, "/supervisor").await;
    for part in
        ["response_type=code", "code_challenge_method=S256", "scope=openid+profile", "nonce="]
    {
        assert!(sent.contains(part), "{sent}");
    }
    assert!(!sent.contains("s3cret"), "{sent}");
    let back = anna.vouched(&bench, &sent, "anna").await;
    let done = anna.ours(&bench, &back, "text/html").await;
    assert_eq!((done.status, done.headers["location"].as_str()), (303, "/supervisor"));
    let session = anna.session(&bench).await;
    assert_eq!((&session["user"], &session["role"]), (&json!("anna.o"), &json!("qa")));
    assert!(anna.ours.contains_key("astlogger") && !anna.ours.contains_key("astlogger_oidc"));
    assert_eq!(anna.ours(&bench, "/api/recordings", "*/*").await.status, 200);

    let mut bert = Browser::default();
    assert_eq!(bert.sign_in(&bench, "bert").await.status, 303);
    assert_eq!(bert.session(&bench).await["role"], "supervisor");
    // He is of a team, which the users file does not have yet.
    bench.site.node.put(1, "2611", vec![0; 100]);
    let seen = bert.ours(&bench, "/api/recordings", "*/*").await.json();
    assert_eq!(seen["recordings"], json!([]));
    // Local users go on as always.
    let local = token(&bench.site, UserRole::Qa).await;
    let bearer = format!("Bearer {local}");
    let seen = get(&bench.site, "/api/recordings", &[("Authorization", &bearer)]).await.json();
    assert_eq!(seen["recordings"].as_array().unwrap().len(), 1);
    // What was signed in by the provider is signed out like everything else.
    let token = anna.ours["astlogger"].clone();
    let mut socket = Client::connect(&bench.site).await;
    let reply = socket.ask(json!({ "request": "authenticate", "token": token })).await;
    assert_eq!(reply["role"], "qa");
    assert_eq!(socket.ask(json!({ "request": "signout" })).await["result"], "success");
    assert_eq!(anna.session(&bench).await["user"], Value::Null);
    let auditor = format!("Bearer {}", super::client::token(&bench.site, UserRole::Auditor).await);
    let log =
        get(&bench.site, "/api/audit?user=anna.o", &[("Authorization", &auditor)]).await.json();
    let actions: Vec<_> =
        log["entries"].as_array().unwrap().iter().map(|line| line["action"].clone()).collect();
    assert_eq!(actions, ["authenticate", "listrecordings", "signout"]);
}

#[tokio::test]
async fn a_sign_in_belongs_to_the_browser_that_began_it_and_is_used_once() {
    let bench = Bench::start().await;
    let mut anna = Browser::default();
    let sent = anna.begin(&bench, "/").await;
    let back = anna.vouched(&bench, &sent, "anna").await;
    // Somebody else follows the link; he has begun one of his own, too.
    let mut other = Browser::default();
    let stranger = "this browser has not begun";
    assert_refused(&other.ours(&bench, &back, "*/*").await, 400, stranger);
    let others = other.begin(&bench, "/").await;
    assert_refused(&other.ours(&bench, &back, "*/*").await, 400, stranger);
    // With another state than the one that was given out.
    let altered = back.replace("state=", "state=0");
    let mut copy = Browser { ours: anna.ours.clone(), theirs: BTreeMap::new() };
    assert_refused(&copy.ours(&bench, &altered, "*/*").await, 400, stranger);
    let mut none = Browser { ours: anna.ours.clone(), theirs: BTreeMap::new() };
    let without = "/api/oidc/callback?code=x";
    assert_refused(&none.ours(&bench, without, "*/*").await, 400, stranger);

    // Hers is good still; and then it is not any more.
    let mut again = Browser { ours: anna.ours.clone(), theirs: BTreeMap::new() };
    assert_eq!(anna.ours(&bench, &back, "*/*").await.status, 303);
    assert_refused(&again.ours(&bench, &back, "*/*").await, 400, stranger);
    assert!(!again.ours.contains_key("astlogger"));

    // Her code in somebody else's sign-in: it is used up, and has another verifier.
    let part = |path: &str, name: &str| {
        let rest = path.split(&format!("{name}=")).nth(1).unwrap().to_owned();
        rest.split('&').next().unwrap().to_owned()
    };
    let mut thief = Browser::default();
    let sent = thief.begin(&bench, "/").await;
    let mixed =
        format!("/api/oidc/callback?code={}&state={}", part(&back, "code"), part(&sent, "state"));
    assert_refused(&thief.ours(&bench, &mixed, "*/*").await, 401, "does not confirm");
    let mut fresh = Browser::default();
    let sent = fresh.begin(&bench, "/").await;
    let unused = fresh.vouched(&bench, &sent, "anna").await;
    let mut thief = Browser::default();
    let sent = thief.begin(&bench, "/").await;
    let mixed =
        format!("/api/oidc/callback?code={}&state={}", part(&unused, "code"), part(&sent, "state"));
    assert_refused(&thief.ours(&bench, &mixed, "*/*").await, 401, "does not confirm");
    assert!(others.contains("state="));
}

#[tokio::test]
async fn whom_the_provider_or_the_configuration_does_not_want_is_refused() {
    let bench = Bench::start().await;
    let mut browser = Browser::default();
    assert_refused(&browser.sign_in(&bench, "nobody").await, 403, "none of your groups");
    let mut browser = Browser::default();
    assert_refused(&browser.sign_in(&bench, "double").await, 403, "in the users file");
    let mut browser = Browser::default();
    let refused = browser.sign_in(&bench, "refuse").await;
    assert_refused(&refused, 401, "access_denied");
    assert!(!browser.ours.contains_key("astlogger"));
    // A browser is sent to a page that says it in its own words.
    let mut browser = Browser::default();
    let sent = browser.begin(&bench, "/").await;
    let back = browser.vouched(&bench, &sent, "nobody").await;
    let refused = browser.ours(&bench, &back, "text/html,*/*").await;
    assert_eq!((refused.status, refused.headers["location"].as_str()), (303, "/?signin=forbidden"));
    assert_eq!(browser.session(&bench).await["user"], Value::Null);
}

#[tokio::test]
async fn tokens_that_are_not_what_they_must_be_are_refused() {
    let bench = Bench::start().await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    for (how, words) in [
        (json!({ "alg": "none" }), "not signed with a key pair"),
        (json!({ "alg": "HS256" }), "not signed with a key pair"),
        (json!({ "key": "other" }), "signature is wrong"),
        (json!({ "claims": { "nonce": "0" } }), "another sign-in"),
        (json!({ "claims": { "aud": "other" } }), "another client"),
        (json!({ "claims": { "iss": "https://evil.example" } }), "another issuer"),
        (json!({ "claims": { "exp": now - 120 } }), "has expired"),
        (json!({ "claims": { "iat": now - 3600 } }), "not of now"),
    ] {
        bench.bend(how.clone()).await;
        let mut browser = Browser::default();
        assert_refused(&browser.sign_in(&bench, "anna").await, 401, words);
        assert!(!browser.ours.contains_key("astlogger"), "{how}");
    }
    bench.bend(json!({})).await;
    assert_eq!(Browser::default().sign_in(&bench, "anna").await.status, 303);
}

#[tokio::test]
async fn keys_that_change_are_read_anew() {
    let bench = Bench::start().await;
    assert_eq!(Browser::default().sign_in(&bench, "anna").await.status, 303);
    bench.renew_keys().await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    // Whoever makes up names of keys is not to make us ask for each, so this takes ten seconds at the most.
    loop {
        let done = Browser::default().sign_in(&bench, "anna").await;
        if done.status == 303 {
            return;
        }
        assert_refused(&done, 401, "no key of the provider");
        assert!(tokio::time::Instant::now() < deadline, "never");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test]
async fn a_provider_that_is_away_or_hangs_holds_nobody_else_up() {
    let bench = Bench::without_provider().await;
    let mut browser = Browser::default();
    let refused = browser.ours(&bench, "/api/oidc/start", "*/*").await;
    assert_refused(&refused, 503, "users of the users file sign in as always");
    let refused = browser.ours(&bench, "/api/oidc/start", "text/html").await;
    assert_eq!(refused.headers["location"], "/?signin=unavailable");
    token(&bench.site, UserRole::Qa).await;

    // One that takes connections and says nothing.
    let hung = TcpListener::bind(("127.0.0.1", bench.port)).await.unwrap();
    let address = bench.site.server.address();
    let mut waiting = Vec::new();
    for _ in 0..20 {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        let request = "GET /api/oidc/start HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        tcp.write_all(request.as_bytes()).await.unwrap();
        waiting.push(tcp);
    }
    let (_held, _) = within(hung.accept()).await.unwrap();
    let before = tokio::time::Instant::now();
    for _ in 0..3 {
        token(&bench.site, UserRole::Qa).await;
        assert_eq!(get(&bench.site, "/healthz", &[]).await.status, 200);
    }
    assert!(before.elapsed() < Duration::from_secs(5), "{:?}", before.elapsed());
    // Those beyond the first few are told soon that too many are at it; nobody waits for ever.
    for mut tcp in waiting {
        let mut got = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(20), tcp.read_to_end(&mut got));
        ended.await.expect("it waits for ever").unwrap();
        assert!([429, 503].contains(&answer(&got).status));
    }
}

/// Often enough for a test; a silent provider is waited for twelve times as long.
const OFTEN: Duration = Duration::from_millis(400);

/// Signed in by the provider in a browser, and on a socket by the same session.
async fn signed_in(bench: &Bench, who: &str) -> (Browser, Client) {
    let mut browser = Browser::default();
    assert_eq!(browser.sign_in(bench, who).await.status, 303);
    let mut socket = Client::connect(&bench.site).await;
    let asked = json!({ "request": "authenticate", "token": browser.ours["astlogger"] });
    assert_eq!(socket.ask(asked).await["result"], "success");
    (browser, socket)
}

/// What the audit log says of sign-outs that somebody has not asked for.
async fn ended(bench: &Bench, user: &str) -> Vec<Value> {
    let auditor = format!("Bearer {}", token(&bench.site, UserRole::Auditor).await);
    let path = format!("/api/audit?user={user}");
    let log = get(&bench.site, &path, &[("Authorization", &auditor)]).await.json();
    let lines = log["entries"].as_array().unwrap().iter();
    lines
        .filter(|line| line["action"] == "signout")
        .map(|line| json!([line["role"], line["address"], line["arguments"]["because"]]))
        .collect()
}

#[tokio::test]
async fn whoever_is_removed_at_the_provider_is_signed_out_and_nobody_else() {
    let bench = Bench::asking(Some(OFTEN)).await;
    let (mut anna, mut hers) = signed_in(&bench, "anna").await;
    let (mut bert, mut his) = signed_in(&bench, "bert").await;
    // Asked after several times, with tokens that are good once, each of them stays; through new keys, too.
    let long = tokio::time::Instant::now() + OFTEN * 8;
    while tokio::time::Instant::now() < long {
        assert_eq!(anna.session(&bench).await["user"], "anna.o");
        assert_eq!(his.ask(json!({ "request": "listcalls" })).await["result"], "success");
        tokio::time::sleep(OFTEN / 2).await;
    }
    bench.people(json!({ "anna": null })).await;
    within(hers.closed()).await;
    assert_eq!(anna.session(&bench).await["user"], Value::Null);
    assert_eq!(anna.ours(&bench, "/api/recordings", "*/*").await.status, 401);
    let because = "the provider no longer vouches for him as he signed in";
    assert_eq!(ended(&bench, "anna.o").await, [json!(["qa", "127.0.0.1", because])]);
    assert_eq!(his.ask(json!({ "request": "listcalls" })).await["result"], "success");

    // Whoever is in other groups by now signs in anew, as what he is then.
    bench
        .people(json!({ "bert": { "preferred_username": "bert.o", "groups": ["recorder-qa"] } }))
        .await;
    within(his.closed()).await;
    assert_eq!(bert.session(&bench).await["user"], Value::Null);
    assert_eq!(ended(&bench, "bert.o").await, [json!(["supervisor", "127.0.0.1", because])]);
    let (mut bert, _his) = signed_in(&bench, "bert").await;
    assert_eq!(bert.session(&bench).await["role"], "qa");
}

#[tokio::test]
async fn a_provider_that_says_nothing_is_waited_for_and_not_for_ever() {
    let bench = Bench::asking(Some(OFTEN)).await;
    let (mut anna, mut hers) = signed_in(&bench, "anna").await;
    bench.bend(json!({ "away": true })).await;
    let away = tokio::time::Instant::now();
    // It is away for a while, and comes back: nobody has noticed.
    while away.elapsed() < OFTEN * 6 {
        assert_eq!(anna.session(&bench).await["user"], "anna.o");
        tokio::time::sleep(OFTEN / 2).await;
    }
    bench.bend(json!({})).await;
    let back = tokio::time::Instant::now();
    while back.elapsed() < OFTEN * 10 {
        assert_eq!(hers.ask(json!({ "request": "clusterstatus" })).await["result"], "success");
        tokio::time::sleep(OFTEN / 2).await;
    }
    // A token of somebody else, or signed by somebody else, is as good as none.
    bench.bend(json!({ "key": "other" })).await;
    let silent = tokio::time::Instant::now();
    within(hers.closed()).await;
    assert!(silent.elapsed() > OFTEN * 9, "{:?}", silent.elapsed());
    assert_eq!(anna.session(&bench).await["user"], Value::Null);
    let because = "the provider has said nothing of him for too long";
    assert_eq!(ended(&bench, "anna.o").await, [json!(["qa", "127.0.0.1", because])]);
}

#[tokio::test]
async fn where_there_is_nothing_to_ask_with_the_session_is_short() {
    let bench = Bench::asking(Some(OFTEN)).await;
    bench.bend(json!({ "once": true })).await;
    let (mut anna, mut hers) = signed_in(&bench, "anna").await;
    let since = tokio::time::Instant::now();
    assert_eq!(anna.session(&bench).await["user"], "anna.o");
    within(hers.closed()).await;
    assert!(since.elapsed() > OFTEN * 9, "{:?}", since.elapsed());
    assert_eq!(anna.session(&bench).await["user"], Value::Null);
    // Nor is anybody asked after where the configuration says so: no matter what the provider has become.
    let bench = Bench::asking(None).await;
    let (mut anna, _hers) = signed_in(&bench, "anna").await;
    bench.people(json!({ "anna": null })).await;
    let long = tokio::time::Instant::now() + OFTEN * 4;
    while tokio::time::Instant::now() < long {
        assert_eq!(anna.session(&bench).await["user"], "anna.o");
        tokio::time::sleep(OFTEN).await;
    }
}

#[tokio::test]
async fn without_a_provider_there_is_no_such_door() {
    let site = Site::new().await;
    for path in ["/api/oidc/start", "/api/oidc/callback?code=x&state=y"] {
        assert_eq!(get(&site, path, &[]).await.status, 404, "{path}");
    }
    assert_eq!(get(&site, "/api/session", &[]).await.json()["provider"], Value::Null);
}
