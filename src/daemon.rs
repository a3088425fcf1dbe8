//! A node's life: its parts are built in the order in which they need each other, run until a
//! signal comes, and are stopped in reverse. What the parts do is theirs.

use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cluster::Group;
use recorder::clock::Clock;
use recorder::control_task::{Control, ControlConfig};
use recorder::media_thread::{MediaConfig, MediaHandle, MediaThread};
use recorder::seal_queue::{SealQueue, seal_queue};
use recorder::sealer::{Sealer, SealerConfig};
use recorder::sealing::VoiceSettings;
use recorder_core::controller::GroupWord;
use storage::{
    Catalog, CatalogError, Journal, JournalOptions, MemoryCatalog, Recovered, SledCatalog,
    VoiceStore, reindex,
};
use storage_core::naming::CATALOG_FOLDER;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::alarms::Alarm;
use crate::bridge;
use crate::command::{Exit, Failure};
use crate::config::{Config, LiveValues, Recorder};
use crate::console::{self, NodeActions};
use crate::group::GroupBackend;
use crate::hub::{Hub, HubOutlet};
use crate::metrics::Metrics;
use crate::node::{Node, Works};
use crate::peers::{self, PeerService};
use crate::preflight;
use crate::web::{self, Limits, TlsFiles, WebConfig};
use crate::wiring;

/// Notices of the media thread that may wait for the control task.
const NOTICE_QUEUE: usize = 65_536;
/// How long the sealer may go on when the node stops; what is left is sealed at the next start.
const SEAL_PATIENCE: Duration = Duration::from_secs(5);
/// How often disk and media thread are looked at.
const WATCH: Duration = Duration::from_secs(1);

/// Runs a node until it is told to stop by SIGTERM or SIGINT.
///
/// # Errors
/// If a part cannot be started: the error names the parameter.
pub async fn run(config: Config) -> Result<Exit, Failure> {
    // Before the parts, so that a signal during a slow start is not lost.
    let stop = stop_signal().map_err(|error| Failure::new(Exit::Fault, error))?;
    if let Err(error) = preflight::raise_file_limit(&config) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    let running = Running::start(&config).await?;
    notify(&[sd_notify::NotifyState::Ready]);
    tracing::info!(node = %config.nodeid, role = config.role.as_str(), "running");
    stop.await;
    notify(&[sd_notify::NotifyState::Stopping]);
    tracing::info!("stopping");
    running.stop().await;
    Ok(Exit::Done)
}

fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn notify(state: &[sd_notify::NotifyState]) {
    // Without systemd there is nobody to tell.
    drop(sd_notify::notify(state));
}

struct Running {
    web: web::Running,
    console: Option<console::Running>,
    recording: Option<RecordingParts>,
    watch: JoinHandle<()>,
}

struct RecordingParts {
    control: Arc<Control>,
    sealer: Sealer,
    media: MediaThread,
}

impl Running {
    async fn start(config: &Config) -> Result<Self, Failure> {
        let hub = Arc::new(Hub::new(Arc::new(Metrics::new())));
        let group = Group::alone(config.nodeid, config.role);
        let (journal, recovered) = open_journal(config)?;
        let voices = VoiceStore::open(&config.datadir).map_err(fault)?;
        let unfinished = voices.finish().map_err(fault)?;
        if !unfinished.published.is_empty() {
            tracing::info!(count = unfinished.published.len(), "finished publishing after a crash");
        }
        let catalog = open_catalog(&config.datadir, &voices, &hub)?;
        let mut works = None;
        let mut recording = None;
        if let Some(recorder) = &config.recorder {
            let start = Start { config, recorder, hub: &hub, voices: &voices, catalog: &catalog };
            let (parts, node_works) = start.recording(&group, journal, recovered)?;
            (recording, works) = (Some(parts), Some(node_works));
        }
        let node = Arc::new(Node {
            role: config.role,
            group: group.clone(),
            catalog,
            voices,
            hub: Arc::clone(&hub),
            works,
            syncs_told: Mutex::default(),
        });
        let watch = tokio::spawn(watch(Arc::clone(&node), config.datadir.clone()));
        let service: Arc<dyn PeerService> = Arc::<Node>::clone(&node);
        // Without peers there is nobody to answer.
        let _ = peers::serve(&group, &service);
        let members = config.cluster.peers.keys().copied();
        let backend = Arc::new(GroupBackend::new(service, group, config.role, members));
        let web = web::serve(web_config(config), backend).await.map_err(unavailable)?;
        let console = open_console(config, node).await;
        Ok(Self { web, console, recording, watch })
    }

    async fn stop(self) {
        if let Some(console) = self.console {
            console.stop().await;
        }
        if let Some(parts) = self.recording {
            parts.control.drain().await;
            // These wait for the disk.
            let stopped = spawn_blocking(move || {
                parts.sealer.stop(SEAL_PATIENCE);
                parts.media.stop();
            });
            drop(stopped.await);
        }
        self.web.stop().await;
        self.watch.abort();
    }
}

/// What the recording parts are built from.
struct Start<'a> {
    config: &'a Config,
    recorder: &'a Recorder,
    hub: &'a Arc<Hub>,
    voices: &'a VoiceStore,
    catalog: &'a Arc<dyn Catalog>,
}

impl Start<'_> {
    fn recording(
        &self,
        group: &Group,
        journal: Journal,
        recovered: Recovered,
    ) -> Result<(RecordingParts, Works), Failure> {
        let clock = Clock::start();
        let reader = journal.reader();
        let (seal, orders) = seal_queue();
        let (notices, notices_taken) = mpsc::channel(NOTICE_QUEUE);
        let media = MediaThread::spawn(MediaConfig {
            clock,
            phantoms: wiring::phantom_addresses(self.recorder),
            journal,
            sync_ms: u64::try_from(self.config.storage.sync.as_millis()).unwrap_or(u64::MAX),
            notices,
            seal: seal.clone(),
        })
        .map_err(unavailable)?;
        let handle = media.handle();
        let (hub, catalog) = (Arc::clone(self.hub), Arc::clone(self.catalog));
        let sealer = Sealer::spawn(SealerConfig {
            orders,
            capture: reader,
            store: self.voices.clone(),
            voice: VoiceSettings {
                format: self.config.storage.voiceformat,
                opus_bitrate: self.config.storage.opusbitrate,
            },
            media: handle.clone(),
            tell: Box::new(move |event| hub.sealed(event, &*catalog)),
        })
        .map_err(fault)?;
        seal_leftovers(&seal, &recovered);
        let control = Arc::new(self.control(clock, group, recovered, notices_taken, &handle)?);
        let works = Works { control: Arc::clone(&control), media: handle, seal };
        Ok((RecordingParts { control, sealer, media }, works))
    }

    fn control(
        &self,
        clock: Clock,
        group: &Group,
        recovered: Recovered,
        notices: mpsc::Receiver<recorder_core::media::MediaNotice>,
        media: &MediaHandle,
    ) -> Result<Control, Failure> {
        let mut seed = [0; 16];
        getrandom::fill(&mut seed).map_err(|error| Failure::new(Exit::Fault, error))?;
        let endpoint = wiring::aes_endpoint(&self.recorder.aes)
            .map_err(|error| Failure::new(Exit::Config, error))?;
        let config = ControlConfig {
            endpoint,
            link: wiring::link_config(self.config, self.recorder),
            trigger: wiring::trigger_config(
                self.config.nodeid,
                self.recorder,
                recovered.next_segment,
                u128::from_le_bytes(seed),
            ),
            group: vec![GroupWord::Mandate(bridge::words::mandate(&group.view()))],
            open: recovered.open,
        };
        let outlet = HubOutlet { hub: Arc::clone(self.hub), media: media.clone() };
        Ok(Control::spawn(config, clock, notices, Arc::new(outlet)))
    }
}

fn open_journal(config: &Config) -> Result<(Journal, Recovered), Failure> {
    let options = JournalOptions::default();
    let (journal, recovered) =
        Journal::open(&config.datadir, config.nodeid, options).map_err(unavailable)?;
    tracing::info!(
        open = recovered.open.len(),
        unsealed = recovered.ended_unsealed.len(),
        torn_bytes = recovered.torn_bytes,
        "capture journal read"
    );
    if recovered.skipped_bytes > 0 {
        tracing::error!(bytes = recovered.skipped_bytes, "the capture journal is damaged");
    }
    Ok((journal, recovered))
}

/// What a crash left ended and not sealed, or with nothing known but its media.
fn seal_leftovers(seal: &SealQueue, recovered: &Recovered) {
    for id in recovered.ended_unsealed.iter().chain(&recovered.without_draft) {
        if !seal.push(*id) {
            tracing::error!(recording = %id, "left for the next start: the seal queue is full");
        }
    }
}

/// Opens the catalog and brings it in line with the files in the background, because recording
/// must not wait for it; nor need it at all: on a full or failing disk the node records without.
fn open_catalog(
    datadir: &Path,
    voices: &VoiceStore,
    hub: &Arc<Hub>,
) -> Result<Arc<dyn Catalog>, Failure> {
    let (catalog, state) = match SledCatalog::open(&datadir.join(CATALOG_FOLDER)) {
        Err(error @ (CatalogError::Full | CatalogError::Device { .. })) => {
            hub.alarms.raise(Alarm {
                name: "catalog",
                subject: "start".to_owned(),
                message: format!("only recordings made from now on can be searched: {error}"),
                remedy: "make room below al_datadir, then restart the node",
            });
            return Ok(Arc::new(MemoryCatalog::default()));
        }
        opened => opened.map_err(unavailable)?,
    };
    let catalog = Arc::new(catalog);
    let (compared, voices, hub) = (Arc::clone(&catalog), voices.clone(), Arc::clone(hub));
    spawn_blocking(move || match reindex::at_start(&voices, &compared, &state) {
        Ok(reindexed) => {
            for broken in &reindexed.broken {
                tracing::error!("{broken}");
            }
            tracing::info!(entered = reindexed.entered, "catalog compared with the files");
        }
        Err(error) => hub.alarms.raise(Alarm {
            name: "catalog",
            subject: "start".to_owned(),
            message: format!("the catalog could not be brought in line: {error}"),
            remedy: "run astlogger reindex while the node is stopped",
        }),
    });
    Ok(catalog)
}

/// Recording does not depend on the console: a node goes on without.
async fn open_console(config: &Config, node: Arc<Node>) -> Option<console::Running> {
    let place = config.console.as_ref()?;
    let live = watch::Sender::new(config.recorder.as_ref().map(LiveValues::of).unwrap_or_default());
    let actions = Arc::new(NodeActions::new(Arc::clone(&node), config, live));
    match console::serve(place, actions, console::Limits::default()).await {
        Ok(running) => Some(running),
        Err(error) => {
            node.hub.alarms.raise(Alarm {
                name: "console",
                subject: String::new(),
                message: format!("there is no console: {error}"),
                remedy: "choose another al_consolelisten and restart the node when it suits",
            });
            None
        }
    }
}

fn web_config(config: &Config) -> WebConfig {
    let web = &config.web;
    let tls = web.tls.as_ref().map(|tls| TlsFiles { cert: tls.cert.clone(), key: tls.key.clone() });
    WebConfig {
        listen: web.listen,
        tls,
        insecure: web.insecure,
        users_file: web.usersfile.clone(),
        limits: Limits::default(),
    }
}

/// Looks at what nobody reports by himself: room on the disk, the media thread's flags.
async fn watch(node: Arc<Node>, datadir: std::path::PathBuf) {
    let mut beat = tokio::time::interval(WATCH);
    loop {
        beat.tick().await;
        if let Ok(stat) = nix::sys::statvfs::statvfs(&datadir) {
            let free = stat.blocks_available() * stat.fragment_size();
            node.hub.metrics.disk_free_bytes.set(free as f64);
        }
        if let Some(works) = &node.works {
            let stats = works.media.stats();
            node.hub.alarms.set(stats.not_writing.is_set(), disk_full(&datadir));
            node.hub.alarms.set(stats.not_durable.is_set(), not_durable(&datadir));
        }
    }
}

fn disk_full(datadir: &Path) -> Alarm {
    Alarm {
        name: "diskfull",
        subject: String::new(),
        message: format!("audio is being lost: {} takes no more", datadir.display()),
        remedy: "make room below al_datadir; what is lost meanwhile is declared in the recordings",
    }
}

fn not_durable(datadir: &Path) -> Alarm {
    Alarm {
        name: "notdurable",
        subject: String::new(),
        message: format!("audio captured in {} would not survive a power cut", datadir.display()),
        remedy: "look at the disk: syncing fails",
    }
}

fn unavailable(error: impl Into<anyhow::Error>) -> Failure {
    Failure::new(Exit::Unavailable, error)
}

fn fault(error: impl Into<anyhow::Error>) -> Failure {
    Failure::new(Exit::Fault, error)
}
