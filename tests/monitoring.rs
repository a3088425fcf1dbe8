//! What `monitoring/` ships, judged by Prometheus itself: its linter, its rule tests, and a real server that
//! scrapes a real node and answers every query of the dashboard.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use astlogger::demo::{free_tcp_port, http_get};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use common::{Bench, LIMIT};

/// What changes between two looks at an idle node.
const NEVER_STILL: [&str; 5] = [
    "astlogger_disk_free_bytes",
    "astlogger_capture_sync_seconds",
    "astlogger_web_connections",
    "astlogger_web_unsent_bytes_max",
    "astlogger_mirror",
];
/// What a node alone, on which nothing is wrong, has no data for.
const EMPTY: [&str; 4] = [
    "astlogger_peer_up",
    "astlogger_clock_offset_seconds",
    "astlogger_mirror_durable_lag_seconds",
    "astlogger_alarms",
];

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("monitoring").join(name)
}

/// What `promtool` says, or a loud word that this machine has none.
fn promtool(arguments: &[&str], input: Option<&str>) -> Option<Output> {
    let mut command = Command::new("promtool");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            eprintln!("NOT TESTED: promtool cannot be run: {error} (./setup tests installs it)");
            return None;
        }
    };
    let mut stdin = child.stdin.take().expect("piped");
    std::io::Write::write_all(&mut stdin, input.unwrap_or_default().as_bytes()).expect("it reads");
    drop(stdin);
    Some(child.wait_with_output().expect("it ends"))
}

fn assert_content(output: &Output) {
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{said}");
}

#[test]
fn the_rules_do_what_their_tests_say() {
    for (verb, kind, file) in [
        ("check", "config", "prometheus.example.yml"),
        ("check", "rules", "astlogger.rules.yml"),
        ("test", "rules", "astlogger.rules.test.yml"),
    ] {
        let path = shipped(file);
        let Some(output) = promtool(&[verb, kind, path.to_str().expect("UTF-8")], None) else {
            return;
        };
        assert_content(&output);
    }
}

/// The values after this key, one a line.
fn values(file: &str, key: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(shipped(file)).expect("it is shipped");
    text.lines().filter_map(|line| Some(line.trim().strip_prefix(key)?.to_owned())).collect()
}

#[test]
fn each_alert_has_a_test_that_fires_and_one_that_does_not() {
    let alerts = values("astlogger.rules.yml", "- alert: ");
    let tests = values("astlogger.rules.test.yml", "- name: ");
    assert!(!alerts.is_empty());
    let wanted = |alert: &String| [format!("{alert} fires"), format!("{alert} does not fire")];
    let wanted: BTreeSet<_> = alerts.iter().flat_map(wanted).collect();
    assert_eq!(tests, wanted);
}

/// A Prometheus of the test's own, on loopback, with a folder of its own.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    dir: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended by itself, which the queries have told.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Prometheus {
    /// One that scrapes this node and has the shipped rules; `None` where the machine has none.
    async fn start(node: SocketAddr) -> Option<Self> {
        let dir =
            tempfile::Builder::new().prefix("astlogger-prometheus").tempdir().expect("a folder");
        let rules = shipped("astlogger.rules.yml");
        let config = format!(
            "global: {{ scrape_interval: 250ms, scrape_timeout: 250ms, evaluation_interval: 1s }}\n\
             rule_files: [{rules:?}]\n\
             scrape_configs:\n  - job_name: astlogger\n    static_configs: [{{ targets: [\"{node}\"] }}]\n"
        );
        let file = dir.path().join("prometheus.yml");
        std::fs::write(&file, config).expect("writable");
        let address = SocketAddr::from(([127, 0, 0, 1], free_tcp_port().expect("a free port")));
        let log = std::fs::File::create(dir.path().join("log")).expect("writable");
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        let child = match child {
            Ok(child) => child,
            Err(error) => {
                eprintln!(
                    "NOT TESTED: prometheus cannot be run: {error} (./setup tests installs it)"
                );
                return None;
            }
        };
        let prometheus = Self { child, address, dir };
        let deadline = Instant::now() + LIMIT;
        while !matches!(prometheus.get("/-/ready").await, Some((200, _))) {
            assert!(Instant::now() < deadline, "Prometheus does not start: {}", prometheus.log());
            sleep(Duration::from_millis(100)).await;
        }
        Some(prometheus)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Status and body; `None` without a connection. HTTP/1.0, so that the body comes in one piece.
    async fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(self.address).await.ok()?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// Every series that the query gives, as `name{labels}`, with its value.
    async fn query(&self, query: &str) -> BTreeMap<String, f64> {
        let path = format!("/api/v1/query?query={}", percent_encoded(query));
        let (status, body) = self.get(&path).await.expect("Prometheus answers");
        assert_eq!(status, 200, "{query}: {body}");
        let answer: Value = serde_json::from_str(&body).expect("JSON");
        let series = answer["data"]["result"].as_array().expect("a vector");
        series.iter().map(named).collect()
    }
}

/// A series as the node's own page would write it: without what Prometheus added.
fn named(series: &Value) -> (String, f64) {
    let labels = series["metric"].as_object().expect("labels");
    let own =
        labels.iter().filter(|(name, _)| !matches!(name.as_str(), "__name__" | "instance" | "job"));
    let own: Vec<_> = own.map(|(name, value)| format!("{name}={value}")).collect();
    let name = labels.get("__name__").and_then(Value::as_str).unwrap_or_default();
    let value = series["value"][1].as_str().expect("a value").parse().expect("a number");
    let labels = if own.is_empty() { String::new() } else { format!("{{{}}}", own.join(",")) };
    (format!("{name}{labels}"), value)
}

fn percent_encoded(text: &str) -> String {
    let encoded = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encoded).collect()
}

/// What the node says itself, of what stays as it is while nothing happens.
async fn said_by(bench: &Bench) -> BTreeMap<String, f64> {
    let page = bench.node.metrics().await.expect("a page");
    let still = page.into_iter().filter(|(name, _)| still(name));
    // Labels are in the order of their names in both, but for `le`, which the page has last.
    still.map(|(name, value)| (in_order(&name), value)).collect()
}

fn still(name: &str) -> bool {
    name.starts_with("astlogger_") && !NEVER_STILL.iter().any(|other| name.starts_with(other))
}

fn in_order(series: &str) -> String {
    let Some((name, labels)) = series.strip_suffix('}').and_then(|rest| rest.split_once('{'))
    else {
        return series.to_owned();
    };
    let labels: BTreeSet<_> = labels.split(',').collect();
    format!("{name}{{{}}}", Vec::from_iter(labels).join(","))
}

/// The dashboard's queries, with its variables filled in.
fn dashboard_queries() -> Vec<String> {
    let text = std::fs::read_to_string(shipped("grafana/astlogger.json")).expect("it is shipped");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().expect("targets"));
    let queries = targets.map(|target| target["expr"].as_str().expect("a query"));
    queries.map(|query| query.replace("$job", ".*").replace("$__rate_interval", "1m")).collect()
}

/// Waits until every query of the dashboard gives what it is to give.
async fn assert_dashboard(prometheus: &Prometheus) {
    let queries = dashboard_queries();
    assert!(queries.len() >= 18, "{queries:?}");
    let deadline = Instant::now() + LIMIT;
    for query in &queries {
        let is_empty = EMPTY.iter().any(|name| query.contains(name));
        loop {
            let given = prometheus.query(query).await;
            if given.is_empty() == is_empty {
                break;
            }
            assert!(Instant::now() < deadline, "{query} gives {given:?}; {}", prometheus.log());
            sleep(Duration::from_millis(200)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_has_what_the_node_says() {
    let bench = Bench::start(2).await;
    let Some(prometheus) = Prometheus::start(bench.node.web()).await else { return };
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recorded(call).await;
    bench.frames(call, 100).await;
    bench.site.switch().hangup_all(call);
    bench.published(1).await;

    let (status, page) = http_get(bench.node.web(), "/metrics").await.expect("a page");
    assert_eq!(status, 200);
    if let Some(output) = promtool(&["check", "metrics"], Some(&page)) {
        assert_content(&output);
    }

    let deadline = Instant::now() + LIMIT;
    loop {
        let said = said_by(&bench).await;
        let mut had = prometheus.query("{__name__=~\"astlogger_.+\"}").await;
        had.retain(|name, _| still(name));
        if had == said
            && said.get("astlogger_recordings_published_total{trigger=\"rule\"}") == Some(&1.0)
        {
            assert!(said["astlogger_rtp_packets_total"] >= 50.0, "{said:?}");
            assert_eq!(said["astlogger_alarms{alarm=\"aesdown\"}"], 0.0);
            break;
        }
        let differs = |name: &&String| said.get(*name) != had.get(*name);
        let differing: Vec<_> = said.keys().chain(had.keys()).filter(differs).collect();
        assert!(Instant::now() < deadline, "{differing:?}; {}", prometheus.log());
        sleep(Duration::from_millis(200)).await;
    }

    assert_dashboard(&prometheus).await;

    let (_, rules) = prometheus.get("/api/v1/rules").await.expect("Prometheus answers");
    let rules: Value = serde_json::from_str(&rules).expect("JSON");
    let groups = rules["data"]["groups"].as_array().expect("groups");
    let rules: Vec<_> =
        groups.iter().flat_map(|group| group["rules"].as_array().expect("rules")).collect();
    assert_eq!(rules.len(), 21);
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule}");
        assert_ne!(rule["state"], "firing", "{rule}");
    }
}
