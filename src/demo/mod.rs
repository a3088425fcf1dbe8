//! The demonstration: a whole site on loopback (one simulated switch with its AES in this process,
//! the recorder as a real child process, real RTP), calls, a live table, and a judgement made from
//! the files on disk. Which calls are made is in `script`, what is judged in `verdict`.

mod cti;
mod node;
mod script;
mod table;
mod verdict;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use serde::Serialize;
use simulator::{CallView, FinishedCall, Site, SiteConfig};
use tokio::time::{Instant, sleep};

use crate::command::{DemoOptions, Exit, Failure, Scenario, print_json};

pub use cti::{Cti, Heard};
pub use node::{Node, free_tcp_port, free_udp_ports, http_get};
pub use verdict::{DueCall, Published, Verdict, judge};

use table::{Row, Scene, Table};

const READY_LIMIT: Duration = Duration::from_secs(30);
/// How long the recorder may take to publish what it has captured, after the last call.
const PUBLISH_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(15);
const REDRAW: Duration = Duration::from_millis(250);
/// Voice files that are left to listen to, whatever else is removed.
const EXAMPLES: usize = 3;
const NODE_FOLDER: &str = "node1";
const DEFAULT_CALLS: u32 = 20;
const DEFAULT_SECONDS: u64 = 15;

/// What `demo --json` prints.
#[derive(Serialize)]
struct Outcome {
    scenario: &'static str,
    #[serde(flatten)]
    verdict: Verdict,
    takeovers: u64,
    takeover_gap_ms_max: u64,
    ok: bool,
}

/// Plays a scenario and judges it.
///
/// # Errors
/// If the site cannot be set up; a wrong outcome is no error but `Exit::NotSo`.
pub async fn run(options: DemoOptions) -> Result<Exit, Failure> {
    play(options).await.map_err(|error| Failure::new(Exit::Unavailable, error))
}

async fn play(options: DemoOptions) -> Result<Exit> {
    let folder = Folder::make(options.dir.as_deref(), options.keep)?;
    let calls = options.calls.unwrap_or(DEFAULT_CALLS);
    let seconds = options.seconds.unwrap_or(DEFAULT_SECONDS);
    let mut table = Table::new();
    table.say(&format!("The site is in {}", folder.path.display()));

    let agents = script::agents_for(options.scenario, calls);
    let site = Site::start(SiteConfig::demo(agents, 1)).await?;
    let binary = std::env::current_exe().context("cannot find this program's own file")?;
    let stations = script::monitored(options.scenario, agents);
    let settings = recorder_settings(&site, stations)? + script::rules(options.scenario);
    let mut node = Node::prepare(&binary, &folder.path.join(NODE_FOLDER), &settings)?;
    script::make_users(&node.users_path())?;
    node.start()?;
    node.ready(READY_LIMIT).await?;
    table.say(&format!("Recorder 1 is ready: http://{}/", node.web()));

    watch(&site, &node, &mut table, options.scenario, calls, seconds).await?;
    wait_quiet(&site, &node, &mut table, calls).await?;
    if let Some(line) = start_delay(&node).await? {
        table.say(&line);
    }
    // A node that stops seals what it has; only then is everything on the disk.
    node.stop(STOP_LIMIT).await?;
    let published = node.recordings()?;
    let stuck = site.stuck_phantoms();
    let due = due_calls(&site.history(), |call| script::is_due(options.scenario, call));
    site.stop().await;

    let mut verdict = judge(&due, &published)?;
    if !stuck.is_empty() {
        verdict.faults.push(format!("phantoms left in calls: {}", stuck.join(", ")));
    }
    let ok = verdict.is_right();
    show(&mut table, &verdict, &published, &folder, ok);
    if options.json {
        print_json(&Outcome {
            scenario: script::name(options.scenario),
            verdict,
            takeovers: 0,
            takeover_gap_ms_max: 0,
            ok,
        })?;
    }
    Ok(if ok { Exit::Done } else { Exit::NotSo })
}

/// The configuration of the recorder that goes with a site of one recorder, and monitors the first
/// `stations` of its stations.
///
/// # Errors
/// If there are not enough free ports.
pub fn recorder_settings(site: &Site, stations: usize) -> Result<String> {
    let aes = site.aes_address(0);
    let config = site.config();
    let phantoms = config.phantom_list()?.len();
    let ports = u16::try_from(phantoms * 2).context("too many phantoms")?;
    let first = free_udp_ports(ports)?;
    Ok(format!(
        "al_nodeid = 1\nal_serverrole = \"active\"\n\
         al_aeshost = \"{}\"\nal_aesport = {}\nal_aestls = false\n\
         al_aesuser = \"{}\"\nal_aespassword = \"{}\"\nal_switchname = \"{}\"\n\
         al_phantoms = [\"{}\"]\nal_phantompassword = \"{}\"\n\
         al_stations = [\"{}\"]\nal_vdns = [\"50100\"]\nal_skills = [\"60001\"]\n\
         al_rtpaddress = \"127.0.0.1\"\nal_rtpports = \"{first}-{}\"\n\
         al_codecs = [\"g711a\", \"g711u\"]\n",
        aes.ip(),
        aes.port(),
        config.aes[0].user,
        config.aes[0].password.expose(),
        config.switch_name,
        config.phantoms[0].extensions,
        config.phantoms[0].password.expose(),
        config.station_list()?[..stations].join("\", \""),
        first + ports - 1,
    ))
}

/// Plays the script and shows what happens until all calls are over.
async fn watch(
    site: &Site,
    node: &Node,
    table: &mut Table,
    scenario: Scenario,
    calls: u32,
    seconds: u64,
) -> Result<()> {
    let playing = script::play(scenario, site, node.web(), calls, Duration::from_secs(seconds));
    tokio::pin!(playing);
    loop {
        tokio::select! {
            played = &mut playing => return played,
            () = sleep(REDRAW) => table.show(&scene(site, node, calls, "calls").await),
        }
    }
}

async fn scene(site: &Site, node: &Node, planned: u32, caption: &str) -> Scene {
    let metrics = node.metrics().await.unwrap_or_default();
    let value = |name: &str| metrics.get(name).copied().unwrap_or(0.0) as u64;
    let sum = |prefix: &str| {
        let values = metrics.iter().filter(|(name, _)| name.starts_with(prefix));
        values.map(|(_, value)| *value as u64).sum()
    };
    // `astlogger_role{configured="active",duty="lead"}`: the words between the quotes.
    let role = metrics.keys().find(|name| name.starts_with("astlogger_role{"));
    let words: Vec<_> = role.map_or("", String::as_str).split('"').skip(1).step_by(2).collect();
    let recording = value("astlogger_recordings_active");
    Scene {
        caption: caption.to_owned(),
        nodes: vec![format!("node 1: {}; {recording} calls recorded now", words.join(", "))],
        calls: site.calls().iter().map(row).collect(),
        // A consultation that became part of another call is none of the calls that were planned.
        finished: site.history().iter().filter(|call| call.merged_into.is_none()).count() as u64,
        planned: u64::from(planned),
        packets: value("astlogger_rtp_packets_total"),
        lost: value("astlogger_rtp_lost_total") + value("astlogger_rtp_socket_drops_total"),
        published: sum("astlogger_recordings_published_total"),
    }
}

fn row(call: &CallView) -> Row {
    let established = call.established.unwrap_or(call.started);
    let people: Vec<_> =
        call.parties.iter().filter(|party| !party.recorder).map(|p| p.number.as_str()).collect();
    Row {
        serial: call.serial,
        parties: people.join(" - "),
        duration: SystemTime::now().duration_since(established).unwrap_or_default(),
        recorded_by: call.recorders().join(", "),
    }
}

/// How soon calls were in the capture, by the recorder's own histogram; nothing if none began by
/// itself.
async fn start_delay(node: &Node) -> Result<Option<String>> {
    let metrics = node.metrics().await?;
    let count = |name: &str| {
        metrics.get(&format!("astlogger_capture_start_seconds_{name}")).copied().unwrap_or(0.0)
    };
    let (soon, all) = (count("bucket{le=\"0.05\"}"), count("count"));
    let line = format!("{soon} of {all} calls were in the capture within 50 ms of being answered");
    Ok((all > 0.0).then_some(line))
}

/// Waits until nothing is being recorded or waits to be sealed any more.
async fn wait_quiet(site: &Site, node: &Node, table: &mut Table, calls: u32) -> Result<()> {
    let deadline = Instant::now() + PUBLISH_LIMIT;
    loop {
        let metrics = node.metrics().await?;
        let value = |name: &str| metrics.get(name).copied().unwrap_or(0.0);
        let busy = value("astlogger_recordings_active") + value("astlogger_seal_queue");
        table.show(&scene(site, node, calls, "sealing").await);
        if busy == 0.0 || Instant::now() > deadline {
            return Ok(());
        }
        sleep(REDRAW).await;
    }
}

/// What the switch says should be in the files; `is_due` tells which calls should be recorded.
#[must_use]
pub fn due_calls(history: &[FinishedCall], is_due: impl Fn(&FinishedCall) -> bool) -> Vec<DueCall> {
    history
        .iter()
        .map(|call| {
            // Later ones went to a phantom that had nobody to listen to any more.
            let last_of_call = call.frames_heard.saturating_sub(1);
            let first = call.streams.iter().filter_map(|stream| stream.first_frame).min();
            let last = call.streams.iter().filter_map(|stream| stream.last_frame).max();
            DueCall {
                serial: call.serial,
                ucids: std::iter::once(&call.ucid).chain(&call.former_ucids).cloned().collect(),
                sent: first.zip(last).map(|(first, last)| (first, last.min(last_of_call))),
                due: is_due(call),
            }
        })
        .collect()
}

fn show(table: &mut Table, verdict: &Verdict, published: &[Published], folder: &Folder, ok: bool) {
    table.say(&format!(
        "{} of {} calls recorded, {} recordings in {} voice files, {} duplicates",
        verdict.calls_recorded,
        verdict.calls,
        verdict.recordings_published,
        verdict.voice_files,
        verdict.duplicate_recordings,
    ));
    table.say(&format!(
        "{} packets sent: {} in files, {} in declared gaps, {} unaccounted",
        verdict.packets_sent,
        verdict.packets_in_files,
        verdict.packets_in_declared_gaps,
        verdict.packets_unaccounted,
    ));
    for fault in verdict.faults.iter().take(20) {
        table.say(&format!("  wrong: {fault}"));
    }
    for (path, _) in published.iter().take(EXAMPLES) {
        match folder.keep_example(path) {
            Ok(example) => table.say(&format!("  listen: {}", example.display())),
            Err(error) => table.say(&format!("  {} cannot be kept: {error}", path.display())),
        }
    }
    table.say(if ok { "Everything is as it should be." } else { "This is NOT as it should be." });
}

/// Where the site's files are. At the end only the examples stay, unless everything is to.
struct Folder {
    path: PathBuf,
    stays: bool,
}

impl Folder {
    fn make(wanted: Option<&Path>, keep: bool) -> Result<Self> {
        let path = wanted.map_or_else(
            || std::env::temp_dir().join(format!("astlogger-demo-{}", std::process::id())),
            Path::to_owned,
        );
        std::fs::create_dir_all(&path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path: path.canonicalize()?, stays: keep })
    }

    /// Copies a voice file and its record to where they stay.
    fn keep_example(&self, voice: &Path) -> Result<PathBuf> {
        let examples = self.path.join("examples");
        std::fs::create_dir_all(&examples)?;
        let example = examples.join(voice.file_name().context("a file has a name")?);
        std::fs::copy(voice, &example)?;
        std::fs::copy(voice.with_extension("json"), example.with_extension("json"))?;
        Ok(example)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.stays {
            // What cannot be removed stays, which is no harm.
            drop(std::fs::remove_dir_all(self.path.join(NODE_FOLDER)));
        }
    }
}
