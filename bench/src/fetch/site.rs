//! The site from which is fetched: a node with recordings that were laid down before it started, and with calls that
//! it records meanwhile; and the judgement of those calls at the end.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use astlogger::demo::{self, Node};
use astlogger::users::{self, UserRole};
use serde_json::{Value, json};
use simulator::{CallRef, Site, SiteConfig};
use storage::wav::{Channels, G711_HEADER_BYTES, SAMPLE_RATE, g711_header};
use storage_core::g711::Law;
use storage_core::{NodeId, RecordingId, WallTime, naming};
use tokio::time::{Instant, sleep};

use super::Options;
use super::browser::{self, Waits};
use super::client::{self, Loaded, Target};
use super::reference::Serving;

const LIMIT: Duration = Duration::from_secs(120);
/// Password of the user `qa`.
pub const PASSWORD: &str = "only for this bench";
const MINUTE_SAMPLES: u32 = 60 * SAMPLE_RATE;
const MINUTES: u32 = 10;
/// The middle of an hour of 16-bit PCM, bytes.
pub const HOUR_MIDDLE: u64 = 30 * 60 * SAMPLE_RATE as u64 * 2;
/// When the first of the laid recordings began; any time does.
const BEGAN_MS: i64 = 1_790_000_000_000;

/// The site.
pub struct Stage {
    site: Site,
    node: Node,
    calls: Vec<CallRef>,
    laid: BTreeSet<RecordingId>,
    hour: String,
    of_node: Target,
    of_plain: Target,
    _plain: Serving,
}

impl Stage {
    /// Lays recordings, starts everything, and waits until all calls are recorded.
    pub async fn set_up(binary: &Path, folder: &Path, options: &Options) -> Result<Self> {
        let stations = usize::from(options.calls);
        let site = Site::start(SiteConfig::demo(stations, 1)).await?;
        let settings = demo::recorder_settings(&site, stations)?;
        let mut node = Node::prepare(binary, &folder.join("node"), &settings)?;
        users::add(&node.users_path(), "qa", UserRole::Qa, None, None, PASSWORD)?;
        let mut laid = BTreeSet::new();
        let (mut by_id, mut by_file) = (Vec::new(), Vec::new());
        for number in 0..=options.recordings {
            let minutes = if number == options.recordings { 60 } else { MINUTES };
            let (id, path) = lay(&node.data_dir(), number, minutes)?;
            laid.insert(id);
            by_id.push(format!("/api/recordings/{id}/audio"));
            let below = path.strip_prefix(node.data_dir()).context("it lies there")?;
            by_file.push(format!("/{}", below.display()));
        }
        // The last is the hour, which a browser gets as PCM.
        let hour = by_id.pop().context("there is one")? + "?format=wav";
        by_file.pop();
        node.start()?;
        node.ready(LIMIT).await?;
        let calls = begin_calls(&site, stations).await?;
        let bearer = format!("Bearer {}", token(&node).await?);
        let pid = node.pid().context("it runs")?;
        let of_node = Target { address: node.web(), pid, bearer, paths: by_id };
        let plain = Serving::start(&node.data_dir())?;
        let of_plain = Target {
            address: plain.address,
            pid: plain.pid(),
            bearer: String::new(),
            paths: by_file,
        };
        Ok(Self { site, node, calls, laid, hour, of_node, of_plain, _plain: plain })
    }

    /// The node.
    pub fn node_target(&self) -> &Target {
        &self.of_node
    }

    /// The bare program.
    pub fn plain_target(&self) -> &Target {
        &self.of_plain
    }

    /// Where the hour's audio is.
    pub fn hour(&self) -> &str {
        &self.hour
    }

    /// How long people wait for the hour's audio in a browser.
    pub async fn waits(&self) -> Result<Waits> {
        let hour = self.hour.split('/').nth(3).context("its path names it")?;
        browser::waits(self.node.web(), hour, ("qa", PASSWORD)).await
    }

    /// Fetches from one of the two for as long as the options say.
    pub async fn load(&self, target: &Target, options: &Options) -> Result<Loaded> {
        client::load(target, options.fetches, Duration::from_secs(options.seconds)).await
    }

    /// Ends the calls and prints whether any of them lost a packet.
    pub async fn tear_down(&mut self) -> Result<()> {
        for call in &self.calls {
            self.site.switch().hangup_all(*call);
        }
        let deadline = Instant::now() + LIMIT;
        let recorded = loop {
            let all = self.node.recordings()?.into_iter();
            let recorded: Vec<_> =
                all.filter(|(_, record)| !self.laid.contains(&record.recordingid)).collect();
            if recorded.len() >= self.calls.len() {
                break recorded;
            }
            ensure!(Instant::now() < deadline, "{} recordings only", recorded.len());
            sleep(Duration::from_millis(100)).await;
        };
        let due = demo::due_calls(&self.site.history(), |call| call.answered);
        let verdict = demo::judge(&due, &recorded)?;
        let metrics = self.node.metrics().await?;
        let drops = metrics.get("astlogger_rtp_socket_drops_total").copied().unwrap_or(0.0);
        println!(
            "Recorded meanwhile: {} calls, {} packets sent, {} in declared gaps, {} unaccounted, \
             {drops} dropped at sockets; {}",
            verdict.calls,
            verdict.packets_sent,
            verdict.packets_in_declared_gaps,
            verdict.packets_unaccounted,
            if verdict.is_right() { "every file is right" } else { "NOT RIGHT" },
        );
        ensure!(verdict.is_right(), "{:#?}", verdict.faults);
        self.node.stop(LIMIT).await
    }
}

async fn begin_calls(site: &Site, stations: usize) -> Result<Vec<CallRef>> {
    let switch = site.switch();
    let mut calls = Vec::new();
    for number in 0..stations {
        let station = format!("{}", 31001 + number);
        let call = switch.inbound_call(&format!("55512{number:05}"), &station)?;
        ensure!(switch.wait_alerting(call, LIMIT).await.is_some(), "{station} does not ring");
        switch.answer(&station)?;
        calls.push(call);
    }
    for call in &calls {
        let joined = switch
            .wait(*call, LIMIT, |view| view.is_some_and(|view| !view.recorders().is_empty()))
            .await;
        ensure!(joined, "a call is not recorded");
    }
    Ok(calls)
}

/// Lays down a recording as a recorder lays it down, of G.711 silence.
fn lay(data: &Path, number: usize, minutes: u32) -> Result<(RecordingId, PathBuf)> {
    let began = WallTime::from_millis(BEGAN_MS + 60_000 * i64::try_from(number)?);
    let id = RecordingId::new(began, [7; 10]);
    let samples = minutes * MINUTE_SAMPLES;
    let mut file = Vec::with_capacity(G711_HEADER_BYTES + samples as usize);
    file.extend(g711_header(Law::A, Channels::Mono, samples));
    file.resize(G711_HEADER_BYTES + samples as usize, Law::A.silence());
    let lengthms = u64::from(minutes) * 60_000;
    let record = json!({
        "recordingid": id, "callids": ["1"], "extension": "31001", "agentid": "", "calling": "555000",
        "called": "3000", "direction": "inbound", "trunkgroup": "", "trunkmember": "", "vdn": "", "split": "",
        "userdata": "", "parties": [], "started": began,
        "ended": WallTime::from_millis(began.as_millis() + i64::try_from(lengthms)?), "durationms": lengthms,
        "scope": "station", "trigger": "rule", "rule": "all", "copy": 1, "node": NodeId(1), "segments": [],
        "gaps": [], "pauses": [], "complete": true,
        "quality": { "lossratio": 0.0, "jitterms": 0.0, "clockdriftppm": 0.0 }, "format": "wavg711",
        "bytes": file.len(), "sha256": "0".repeat(64), "tags": [], "notes": [], "hold": false,
    });
    let day: String = began.to_string().chars().take(10).collect();
    let folder = data.join(naming::VOICE_FOLDER).join(day.replace('-', "/"));
    std::fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{id}.wav"));
    std::fs::write(&path, file)?;
    std::fs::write(folder.join(format!("{id}.json")), record.to_string())?;
    Ok((id, path))
}

/// A session of the user `qa`.
pub async fn token(node: &Node) -> Result<String> {
    let mut cti = demo::Cti::sign_in(node.web(), "qa", PASSWORD).await?;
    let request = json!({"request": "authenticate", "user": "qa", "password": PASSWORD});
    let reply: Value = cti.ask(request).await?;
    Ok(reply["token"].as_str().context("no token")?.to_owned())
}
