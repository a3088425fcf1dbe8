//! A node's life: its parts are built in the order in which they need each other, run until a
//! signal comes, and are stopped in reverse. What the parts do is theirs.

use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cluster::{Group, GroupFailure, JoinError};
use recorder::clock::Clock;
use recorder::control_task::Control;
use recorder_core::call::Patience;
use recorder_core::controller::GroupWord;
use storage::{
    CallLog, DurableCatalog, Journal, JournalError, JournalOptions, Manifest, Recovered, VoiceStore,
};
use storage_core::{RecordingId, Role, Scope};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::alarms::{Alarm, tell};
use crate::archive;
use crate::archive::Anew;
use crate::archive::lock::LockRule;
use crate::archive::target::Target;
use crate::audit::Clerk;
use crate::bridge::people::{self, Takeovers};
use crate::catalog::{self, Opened};
use crate::catalog_database::{AllSites, writer};
use crate::certificates::Certificates;
use crate::command::{Exit, Failure};
use crate::completeness;
use crate::config::{Archive, Config, DiskShare, LiveValues};
use crate::console::{self, Drills, NodeActions};
use crate::copies;
use crate::deletion;
use crate::evidence;
use crate::group::{GroupBackend, OtherSites};
use crate::hub::Hub;
use crate::logging;
use crate::metrics::Metrics;
use crate::node::Node;
use crate::peers::{self, PeerService, Peers};
use crate::preflight;
use crate::recording::{RecordingParts, Start};
use crate::retention;
use crate::scrub;
use crate::syncs::Slowness;
use crate::watchdog;
use crate::web::{self, Limits, TlsFiles, WebConfig};
use crate::wiring;

/// How long the others may take to get into the calls of a node that stops.
const HAND_OVER_PATIENCE: Duration = Duration::from_secs(4);
const HAND_OVER_LOOK: Duration = Duration::from_millis(20);
/// How long recordings may still be sealed and published when the node stops; the next start goes on.
const SEAL_PATIENCE: Duration = Duration::from_secs(4);
/// How often disk and media thread are looked at.
const WATCH: Duration = Duration::from_secs(1);
/// How often today's completeness is worked out for the metrics; it reads all of the day's records.
const COMPLETENESS_EVERY: Duration = Duration::from_secs(300);

/// Runs a node until it is told to stop by SIGTERM or SIGINT.
///
/// # Errors
/// If a part cannot be started: the error names the parameter.
pub async fn run(config: Config) -> Result<Exit, Failure> {
    logging::is_node(config.nodeid);
    // Before the parts, so that a signal during a slow start is not lost.
    let stop = stop_signal().map_err(Failure::fault)?;
    let hangup = signal(SignalKind::hangup()).map_err(Failure::fault)?;
    if let Err(error) = preflight::raise_file_limit(&config) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    if config.recorder.as_ref().is_some_and(wiring::offers_encryption)
        && let Err(error) = preflight::leave_no_core_file()
    {
        tracing::warn!(%error, "a core file of this process may hold keys of encrypted media");
    }
    let running = Running::start(&config, hangup).await?;
    notify(&[sd_notify::NotifyState::Ready]);
    tracing::info!(role = config.role.as_str(), "node {} runs", config.nodeid);
    let mut failed = running.failed();
    let failure = tokio::select! {
        () = stop => None,
        // A member that has ended for another reason never wakes this.
        Ok(failure) = failed.wait_for(Option::is_some) => failure.clone(),
    };
    notify(&[sd_notify::NotifyState::Stopping]);
    tracing::info!("stopping");
    running.stop().await;
    match failure {
        None => Ok(Exit::Done),
        Some(failure) => {
            // What only a person can mend is not to be tried again and again.
            let exit = match *failure {
                GroupFailure::OtherDisk { .. }
                | GroupFailure::Removed { .. }
                | GroupFailure::Misconfigured { .. } => Exit::Config,
                _ => Exit::Fault,
            };
            Err(Failure::new(exit, anyhow::anyhow!("{}", failure.in_words())))
        }
    }
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
    group: Group,
    web: web::Running,
    console: Option<console::Running>,
    recording: Option<RecordingParts>,
    manifest: Arc<Manifest>,
    tasks: Vec<JoinHandle<()>>,
}

impl Running {
    async fn start(config: &Config, hangup: Signal) -> Result<Self, Failure> {
        let hub = Arc::new(Hub::new(Arc::new(Metrics::new())));
        let group = open_group(config).await?;
        let takeovers = Arc::new(Takeovers::default());
        let (journal, recovered) = open_journal(config)?;
        let (voices, manifest) = open_voices(config)?;
        let (voices, target) = open_archive(config, voices)?;
        let Opened { catalog, followed, catching_up } =
            open_catalog(config, &voices, &hub, &group)?;
        let live = watch::Sender::new(LiveValues::default());
        let mut tasks = Vec::from_iter(catching_up);
        tasks.extend(write_database(config, followed, &voices, &hub));
        tasks.push(tokio::spawn(evidence::sign(Arc::clone(&manifest), Arc::clone(&hub))));
        tasks.extend(countersign(config, &group, &manifest, &hub));
        let (mut works, mut recording, mut aes) = (None, None, None);
        if let Some(recorder) = &config.recorder {
            live.send_replace(LiveValues::of(recorder));
            let endpoint = wiring::aes_endpoint(&recorder.aes)
                .map_err(|error| Failure::new(Exit::Config, error))?;
            aes.clone_from(&endpoint.tls);
            let start = Start {
                config,
                recorder,
                endpoint: &endpoint,
                group: &group,
                hub: &hub,
                voices: &voices,
                catalog: &catalog,
                takeovers: &takeovers,
            };
            let (parts, node_works, reports) = start.recording(journal, recovered)?;
            tasks.push(tokio::spawn(follow_live(live.subscribe(), Arc::clone(&parts.control))));
            tasks.extend(reports);
            (recording, works) = (Some(parts), Some(node_works));
        }
        let node = Arc::new(Node {
            role: config.role,
            group: group.clone(),
            catalog,
            voices,
            hub: Arc::clone(&hub),
            works,
            seen: CallLog::open(&config.datadir).map_err(Failure::fault)?,
            clerk: Clerk::new(config.nodeid, &config.datadir),
            takeovers,
            scrubs: watch::Sender::new(0),
            syncs_told: Mutex::default(),
        });
        let anew = Anew::default();
        tasks.extend(tend(config, &node, target.as_ref().map(|_| anew.tell.clone())));
        tasks.extend(target.and_then(|target| keep_archive(config, &node, target, anew)));
        tasks.extend(tell::start(&config.alarms, &hub, &group));
        let service: Arc<dyn PeerService> = Arc::<Node>::clone(&node);
        // Without peers there is nobody to answer.
        let _ = peers::serve(&group, &service);
        let members = config.cluster.peers.keys().copied();
        let backend = GroupBackend::new(service, group.clone(), config.role, members);
        let backend = Arc::new(backend.finding_in(all_sites(config), &hub.metrics));
        tasks.extend(let_go(config, &node, &backend));
        let actions =
            NodeActions::new(Arc::clone(&node), Arc::<GroupBackend>::clone(&backend), config, live);
        let actions = Arc::new(actions);
        let drills = Drills::new(Arc::<NodeActions>::clone(&actions));
        let web = web::serve(web_config(config, Arc::clone(&node.clerk), drills), backend).await;
        let web = web.map_err(Failure::unavailable)?;
        let certificates = Certificates::new(config, web.certificate(), &group, aes, hub);
        tasks.push(tokio::spawn(certificates.watch(hangup)));
        let console = open_console(config, &node, actions).await;
        Ok(Self { group, web, console, recording, manifest, tasks })
    }

    /// Says why the node cannot go on, should that ever be.
    fn failed(&self) -> watch::Receiver<Option<Arc<GroupFailure>>> {
        self.group.failed()
    }

    async fn stop(self) {
        if let Some(console) = self.console {
            console.stop().await;
        }
        if let Some(parts) = self.recording {
            hand_over(&self.group, &parts.control).await;
            parts.control.drain().await;
            parts.bridge.finish(SEAL_PATIENCE).await;
            // These wait for the disk.
            let stopped = spawn_blocking(move || {
                parts.sealer.stop(Duration::ZERO);
                parts.media.stop();
                parts.mirrors.stop();
            });
            drop(stopped.await);
        }
        self.web.stop().await;
        for task in self.tasks {
            task.abort();
        }
        evidence::sign_last(self.manifest).await;
    }
}

/// Keeps the metrics of today's completeness, as far as this node knows, up to date.
async fn tell_completeness(node: Arc<Node>) {
    if node.works.is_none() {
        return;
    }
    let mut beat = tokio::time::interval(COMPLETENESS_EVERY);
    loop {
        beat.tick().await;
        let asked = Arc::clone(&node);
        let report = spawn_blocking(move || {
            completeness::of_day(&*asked, completeness::today(), &Scope::ALL)
        });
        match report.await {
            Ok(Ok(report)) => node.hub.metrics.set_completeness(&report.completeness),
            Ok(Err(error)) => tracing::warn!(%error, "today's completeness is not known"),
            Err(_) => return,
        }
    }
}

/// Where there are others, the calls in progress are theirs from now on: this node leaves a call once
/// another is in it.
async fn hand_over(group: &Group, control: &Control) {
    if group.listens().is_none() {
        return;
    }
    let (node, view) = (group.node(), group.view());
    let records = |member: &&cluster_core::MemberView| {
        member.node != node && member.up && member.serves && member.role != Some(Role::Witness)
    };
    let mut others = view.members.iter().filter(records).peekable();
    if others.peek().is_none() {
        tracing::info!("nobody else can record: the calls in progress end here");
        return;
    }
    // Nobody goes on with the copy of a parallel recorder.
    let same_copy = others.any(|member| member.copy == view.duty.copy);
    let drain = cluster_core::Command::Drain { node, on: true, moves: true };
    let deadline = tokio::time::Instant::now() + HAND_OVER_PATIENCE;
    let handing = async {
        if group.propose(drain, HAND_OVER_PATIENCE).await.is_err() {
            return;
        }
        while same_copy && control.view().recordings > 0 {
            tokio::time::sleep(HAND_OVER_LOOK).await;
        }
    };
    if tokio::time::timeout_at(deadline, handing).await.is_err() {
        tracing::warn!("some calls were not taken over in time");
    }
}

/// Joins the group that the configuration names, or is alone.
async fn open_group(config: &Config) -> Result<Group, Failure> {
    match wiring::group_config(config) {
        Some(group) => Group::join(group).await.map_err(|error| {
            let exit = match error {
                JoinError::Config(_) | JoinError::Tls(_) => Exit::Config,
                _ => Exit::Unavailable,
            };
            Failure::new(exit, error)
        }),
        None => Ok(Group::alone(config.nodeid, config.role)),
    }
}

/// Has the manifest signed by others, where there are any.
fn countersign(
    config: &Config,
    group: &Group,
    manifest: &Arc<Manifest>,
    hub: &Arc<Hub>,
) -> Option<JoinHandle<()>> {
    group.listens()?;
    let parts = evidence::countersign::Parts {
        group: group.clone(),
        manifest: Arc::clone(manifest),
        datadir: config.datadir.clone(),
        hub: Arc::clone(hub),
    };
    Some(tokio::spawn(evidence::countersign::run(parts)))
}

/// Tells the database of all sites what is listed here, where there is one.
fn write_database(
    config: &Config,
    followed: Option<Arc<DurableCatalog>>,
    voices: &VoiceStore,
    hub: &Arc<Hub>,
) -> Option<JoinHandle<()>> {
    let parts = writer::Parts {
        database: config.storage.catalog_database.clone()?,
        node: config.nodeid,
        catalog: followed?,
        voices: voices.clone(),
        hub: Arc::clone(hub),
    };
    Some(tokio::spawn(writer::run(parts)))
}

/// Where people's searches are answered from, if that is the database of all sites.
fn all_sites(config: &Config) -> Option<OtherSites> {
    let database = config.storage.catalog_database.clone()?;
    let all = database.searched.then(|| AllSites::new(database.place))?;
    Some(OtherSites { all, own: database.site })
}

/// Looks after what lies on this node, and after the node itself, as long as it runs.
fn tend(
    config: &Config,
    node: &Arc<Node>,
    anew: Option<mpsc::UnboundedSender<RecordingId>>,
) -> Vec<JoinHandle<()>> {
    let room = Room {
        datadir: config.datadir.clone(),
        reserve: config.storage.mindiskfree,
        archives: config.storage.archive.is_some(),
    };
    let ways = (config.storage.mirror, config.storage.sync);
    let (group, hub) = (node.group.clone(), Arc::clone(&node.hub));
    let mut tasks = read_over(config, node, anew);
    tasks.push(tokio::spawn(people::tell(group, hub, Arc::clone(&node.takeovers))));
    tasks.extend(keep_copies(config, node));
    tasks.push(tokio::spawn(tell_completeness(Arc::clone(node))));
    tasks.push(tokio::spawn(watch_node(Arc::clone(node), room, ways)));
    tasks.push(tokio::spawn(watchdog::feed(Arc::clone(node))));
    tasks
}

/// Keeps the voice files of others here, where there are others, and brings back its own.
fn keep_copies(config: &Config, node: &Node) -> Option<JoinHandle<()>> {
    // A witness has no room for recordings; a node alone has nobody but the archive to fetch any from.
    let from_somewhere = node.group.listens().is_some() || config.storage.archive.is_some();
    let works = node.works.as_ref().filter(|_| from_somewhere)?;
    let parts = copies::Parts {
        peers: Peers::new(node.group.clone()),
        mirror: config.storage.mirror,
        voices: node.voices.clone(),
        catalog: Arc::clone(&node.catalog),
        hub: Arc::clone(&node.hub),
        media: works.media.clone(),
        datadir: config.datadir.clone(),
        reserve: config.storage.mindiskfree,
        clock: Clock::start(),
    };
    Some(tokio::spawn(copies::run(parts)))
}

/// Reads over what lies here: voice files, unless that is switched off or there are none, and logs.
fn read_over(
    config: &Config,
    node: &Node,
    anew: Option<mpsc::UnboundedSender<RecordingId>>,
) -> Vec<JoinHandle<()>> {
    let asked = || node.scrubs.subscribe();
    let logs = scrub::check_logs(config.datadir.clone(), Arc::clone(&node.hub), asked());
    let mut tasks = vec![tokio::spawn(logs)];
    if let (Some(every), Some(works)) = (config.storage.scrub, &node.works) {
        let parts = scrub::Parts {
            every,
            peers: Peers::new(node.group.clone()),
            voices: node.voices.clone(),
            catalog: Arc::clone(&node.catalog),
            hub: Arc::clone(&node.hub),
            media: works.media.clone(),
            datadir: config.datadir.clone(),
            asked: asked(),
            anew,
        };
        tasks.push(tokio::spawn(scrub::run(parts)));
    }
    tasks
}

/// The archive, if there is one, and the voice files with it behind them.
fn open_archive(
    config: &Config,
    voices: VoiceStore,
) -> Result<(VoiceStore, Option<Arc<dyn Target>>), Failure> {
    let Some(place) = &config.storage.archive else { return Ok((voices, None)) };
    let target = archive::open(place);
    let target = target.map_err(|error| {
        Failure::new(Exit::Config, anyhow::anyhow!("al_archive: {}: {error}", place.place))
    })?;
    tracing::info!(place = place.place, "recordings are archived");
    Ok((voices.with_archive(archive::reader(&target), config.nodeid), Some(target)))
}

/// Archives what this node has recorded.
fn keep_archive(
    config: &Config,
    node: &Node,
    target: Arc<dyn Target>,
    anew: Anew,
) -> Option<JoinHandle<()>> {
    // A witness has no recordings.
    let works = node.works.as_ref()?;
    let parts = archive::Parts {
        target,
        peers: Peers::new(node.group.clone()),
        voices: node.voices.clone(),
        catalog: Arc::clone(&node.catalog),
        marker: Arc::clone(&works.marker),
        hub: Arc::clone(&node.hub),
        media: works.media.clone(),
        datadir: config.datadir.clone(),
        reserve: config.storage.mindiskfree,
        clock: Clock::start(),
        notes: archive::Notes::new(&config.datadir),
        lock: config
            .storage
            .archive
            .as_ref()
            .and_then(Archive::lock)
            .map(|lock| LockRule { lock, retention: config.storage.retention.clone() }),
    };
    Some(tokio::spawn(archive::run(parts, anew)))
}

/// Lets recordings go that are past their time.
fn let_go(config: &Config, node: &Node, backend: &Arc<GroupBackend>) -> Option<JoinHandle<()>> {
    let works = node.works.as_ref()?;
    let parts = retention::Parts {
        rules: config.storage.retention.clone(),
        peers: Peers::new(node.group.clone()),
        catalog: Arc::clone(&node.catalog),
        hub: Arc::clone(&node.hub),
        media: works.media.clone(),
        backend: Arc::<GroupBackend>::clone(backend),
    };
    Some(tokio::spawn(retention::run(parts)))
}

/// Hands on what is changed on the console.
async fn follow_live(mut live: watch::Receiver<LiveValues>, control: Arc<Control>) {
    while live.changed().await.is_ok() {
        let values = *live.borrow_and_update();
        let word = GroupWord::Limits {
            patience: Patience { rescue: values.rescue, follow: values.follow },
            max_parties: values.max_parties as usize,
        };
        control.tell_group(word).await;
    }
}

/// The catalog, and in it what an earlier process had begun to publish or to delete.
fn open_catalog(
    config: &Config,
    voices: &VoiceStore,
    hub: &Arc<Hub>,
    group: &Group,
) -> Result<Opened, Failure> {
    hub.leaves_out_deleted_of(voices);
    let unfinished = voices.finish().map_err(Failure::fault)?;
    // A witness lists nothing.
    let follows = config.storage.catalog_database.is_some() && config.recorder.is_some();
    let opened = catalog::open(&config.datadir, voices, hub, group, follows)?;
    deletion::finish_at_start(&unfinished.deleted, hub, &*opened.catalog, voices)
        .map_err(Failure::fault)?;
    for record in &unfinished.published {
        tracing::info!(recording = %record.recordingid, "finished publishing after a crash");
        hub.enter(record, &*opened.catalog);
    }
    Ok(opened)
}

/// The voice files, and the manifest in which each is stated that is published.
fn open_voices(config: &Config) -> Result<(VoiceStore, Arc<Manifest>), Failure> {
    let voices = VoiceStore::open(&config.datadir).map_err(Failure::fault)?;
    let manifest = Manifest::open(&config.datadir, config.nodeid).map_err(Failure::unavailable)?;
    let manifest = Arc::new(manifest);
    if let Some(key) = manifest.public_key() {
        tracing::info!(%key, "what is published is signed");
    }
    let voices = voices.with_keys(config.storage.keys.clone());
    Ok((voices.with_manifest(Arc::clone(&manifest)), manifest))
}

fn open_journal(config: &Config) -> Result<(Journal, Recovered), Failure> {
    let options = JournalOptions::default();
    let keys = config.storage.keys.clone();
    let opened = Journal::open_with_keys(&config.datadir, config.nodeid, options, keys);
    let (journal, recovered) = opened.map_err(|error| match error {
        // Only a person can bring a key back.
        JournalError::KeysMissing { .. } => Failure::new(Exit::Config, error),
        error => Failure::unavailable(error),
    })?;
    if let Some(key) = config.storage.keys.names().next() {
        tracing::info!(%key, "what is recorded is encrypted");
    }
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

/// Recording does not depend on the console: a node goes on without.
async fn open_console(
    config: &Config,
    node: &Node,
    actions: Arc<NodeActions>,
) -> Option<console::Running> {
    let place = config.console.as_ref()?;
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

fn web_config(config: &Config, clerk: Arc<Clerk>, drills: Drills) -> WebConfig {
    let web = &config.web;
    let tls = web.tls.as_ref().map(|tls| TlsFiles { cert: tls.cert.clone(), key: tls.key.clone() });
    WebConfig {
        listen: web.listen,
        tls,
        insecure: web.insecure,
        users_file: web.usersfile.clone(),
        oidc: web.oidc.clone(),
        clerk,
        drills: Arc::new(drills),
        datadir: config.datadir.clone(),
        mindiskfree: config.storage.mindiskfree,
        scorecards: config.scorecards.clone(),
        limits: Limits { session_idle: web.session_idle, ..Limits::default() },
    }
}

/// The disk as far as room on it matters.
struct Room {
    datadir: std::path::PathBuf,
    reserve: DiskShare,
    /// Whether there is an archive.
    archives: bool,
}

/// Looks at what nobody reports by himself: room on the disk, the media thread's flags, how far the mirror
/// is.
async fn watch_node(node: Arc<Node>, room: Room, (mirrored, sync): (bool, Duration)) {
    let Room { datadir, reserve, archives } = room;
    let mut beat = tokio::time::interval(WATCH);
    let (mut told, clock) = (retention::core::Told::default(), Clock::start());
    let mut slowness = Slowness::new(sync);
    loop {
        beat.tick().await;
        if let Ok(stat) = nix::sys::statvfs::statvfs(&datadir) {
            let unit = stat.fragment_size();
            let free = stat.blocks_available() * unit;
            node.hub.metrics.disk_free_bytes.set(free as f64);
            let low = told.look(free, reserve.bytes_of(stat.blocks() * unit));
            // A witness keeps no recordings.
            let low = low.filter(|_| node.works.is_some());
            let alarm = retention::disk_low(&datadir, low.unwrap_or_default(), archives);
            node.hub.alarms.set(low.is_some(), alarm);
        }
        if let Some(works) = &node.works {
            let stats = works.media.stats();
            let why = stats.why_not_writing();
            let full = why.as_ref().filter(|why| why.full);
            let fails = why.as_ref().filter(|why| !why.full);
            let wanted = full.map_or(0, |why| why.room_wanted);
            node.hub.alarms.set(full.is_some(), disk_full(&datadir, wanted));
            let why = fails.map_or("", |fails| &*fails.why);
            node.hub.alarms.set(fails.is_some(), disk_failed(why));
            node.hub.alarms.set(stats.not_durable.is_set(), not_durable(&datadir));
            let (under_way, longest) = stats.sync_watch.look();
            let slow = slowness.look(clock.mono(), under_way, longest);
            node.hub.alarms.set(slow.is_some(), sync_slow(&datadir, slow.unwrap_or_default()));
            if mirrored {
                works.outlet.look(&node.group.view(), &node.hub);
            }
        }
    }
}

/// The node takes calls again with so many bytes free.
fn disk_full(datadir: &Path, room_wanted: u64) -> Alarm {
    Alarm {
        name: "diskfull",
        subject: String::new(),
        message: format!(
            "audio is being lost: {} takes no more, and this node counts as able to record again when {} MB are free there",
            datadir.display(),
            room_wanted.div_ceil(1_000_000)
        ),
        remedy: "make room below al_datadir; what is lost meanwhile is declared in the recordings",
    }
}

fn disk_failed(why: &str) -> Alarm {
    Alarm {
        name: "diskfailed",
        subject: String::new(),
        message: format!("audio is being lost: {why}"),
        remedy: "look at the disk below al_datadir and at the kernel's log; a file system that has become read-only is to \
                 be checked (fsck) while the node is stopped",
    }
}

/// Told by 1, 2, 4, 8 seconds and so on, so that a sync that hangs does not say something new each second.
fn sync_slow(datadir: &Path, longest: Duration) -> Alarm {
    Alarm {
        name: "syncslow",
        subject: String::new(),
        message: format!(
            "the disk of {} is too slow: what is captured lasts only after {} s or more, and a power cut would cost so much",
            datadir.display(),
            1_u64 << longest.as_secs().max(1).ilog2()
        ),
        remedy: "look at the disk and at what else writes there; al_syncms says how long it may take",
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
