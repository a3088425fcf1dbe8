//! Builds the parts of a node that record: media thread, sealer, control task, the bridge to the group and the
//! mirrors, each with the channels to the others. When they are begun and stopped is the daemon's matter.

use std::sync::Arc;

use cluster::Group;
use recorder::aes_link::AesEndpoint;
use recorder::clock::Clock;
use recorder::control_task::{Control, ControlConfig};
use recorder::levels::Meter;
use recorder::listening::Listening;
use recorder::media_thread::{MediaConfig, MediaHandle, MediaThread};
use recorder::pulled::PulledFolder;
use recorder::seal_queue::SealQueue;
use recorder::sealer::{SealEvent, Sealer, SealerConfig, usual_threads};
use recorder::sealing::VoiceSettings;
use recorder_core::call::Order;
use recorder_core::controller::GroupWord;
use storage::{Catalog, Journal, JournalReader, Owed, Recovered, Staged, VoiceStore};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::bridge::people::Takeovers;
use crate::bridge::{self, report_health};
use crate::command::{Exit, Failure};
use crate::config::{Config, Recorder};
use crate::group::spread_pauses;
use crate::hub::{Hub, HubOutlet};
use crate::marks::{self, Marker};
use crate::mirror::{self, MirrorStore, Outlet};
use crate::node::Works;
use crate::peers::Peers;
use crate::repair::Repairs;
use crate::seen::SeenCalls;
use crate::tidings;
use crate::wiring;

/// Notices of the media thread that may wait for the control task.
const NOTICE_QUEUE: usize = 65_536;
/// Orders of the control task that may wait for the bridge.
const ORDER_QUEUE: usize = 65_536;
/// Complete recordings that may wait for the bridge; more wait in the media thread.
const COMPLETE_QUEUE: usize = 1024;

/// The parts, in the order in which they are stopped.
pub(crate) struct RecordingParts {
    pub control: Arc<Control>,
    pub sealer: Sealer,
    pub media: MediaThread,
    pub bridge: bridge::Running,
    pub mirrors: Arc<MirrorStore>,
}

/// What the recording parts are built from.
pub(crate) struct Start<'a> {
    pub config: &'a Config,
    pub recorder: &'a Recorder,
    pub endpoint: &'a AesEndpoint,
    pub group: &'a Group,
    pub hub: &'a Arc<Hub>,
    pub voices: &'a VoiceStore,
    pub catalog: &'a Arc<dyn Catalog>,
    pub takeovers: &'a Arc<Takeovers>,
}

/// Ends of the channels between the recording parts.
struct Wires {
    notices: mpsc::Receiver<recorder_core::media::MediaNotice>,
    orders: mpsc::Sender<Order>,
}

impl Start<'_> {
    /// Starts them, and what tells of them for as long as they run.
    pub fn recording(
        &self,
        journal: Journal,
        recovered: Recovered,
    ) -> Result<(RecordingParts, Works, [JoinHandle<()>; 5]), Failure> {
        let clock = Clock::start();
        let reader = journal.reader();
        let leftovers = self.leftovers(&reader)?;
        let pulled = PulledFolder::open(&self.config.datadir).map_err(Failure::fault)?;
        let pulled = pulled.encrypted(self.config.storage.keys.encrypt());
        let mirrors = self.mirrors();
        let lag_max = self.config.storage.mirror_lag;
        let outlet = Outlet::new(self.config.nodeid, reader.clone(), clock, lag_max);
        let seal = SealQueue::new();
        let (notices, notices_taken) = mpsc::channel(NOTICE_QUEUE);
        let (orders, orders_taken) = mpsc::channel(ORDER_QUEUE);
        let (complete, complete_taken) = mpsc::channel(COMPLETE_QUEUE);
        let (sealed, sealed_taken) = mpsc::unbounded_channel();
        let media = MediaThread::spawn(MediaConfig {
            clock,
            phantoms: wiring::phantom_addresses(self.recorder),
            journal,
            encrypted: wiring::offers_encryption(self.recorder),
            sync_ms: self.sync_ms(),
            notices,
            complete,
        })
        .map_err(Failure::unavailable)?;
        let handle = media.handle();
        let sealer = self.sealer(&seal, &reader, &handle, sealed)?;
        let wires = Wires { notices: notices_taken, orders };
        let control = Arc::new(self.control(clock, recovered, wires, &handle)?);
        let parts = bridge::Parts {
            group: self.group.clone(),
            peers: Peers::new(self.group.clone()),
            control: Arc::clone(&control),
            capture: reader.clone(),
            media: handle.clone(),
            seal: seal.clone(),
            pulled,
            mirrors: Arc::clone(&mirrors),
            voices: self.voices.clone(),
            catalog: Arc::clone(self.catalog),
            hub: Arc::clone(self.hub),
            takeovers: Arc::clone(self.takeovers),
        };
        let inputs =
            bridge::Inputs { orders: orders_taken, complete: complete_taken, sealed: sealed_taken };
        let bridge = bridge::spawn(parts, inputs, leftovers);
        let repairs = self.repairs(handle.clone());
        let marker = self.marker()?;
        let works = Works {
            control: Arc::clone(&control),
            meter: Arc::new(Meter::new(handle.clone())),
            listening: Arc::new(Listening::new(
                handle.clone(),
                clock,
                self.config.storage.mask_keys,
            )),
            media: handle,
            seal,
            capture: reader,
            outlet: Arc::new(outlet),
            mirrors: Arc::clone(&mirrors),
            max_pause: self.recorder.max_pause,
            repairs: Arc::new(repairs),
            marker: Arc::new(marker),
        };
        let reports = self.reports(&works, clock);
        Ok((RecordingParts { control, sealer, media, bridge, mirrors }, works, reports))
    }

    fn repairs(&self, media: MediaHandle) -> Repairs {
        Repairs {
            peers: Peers::new(self.group.clone()),
            voices: self.voices.clone(),
            catalog: Arc::clone(self.catalog),
            hub: Arc::clone(self.hub),
            media,
            settings: self.voice_settings(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    fn sealer(
        &self,
        queue: &SealQueue,
        capture: &JournalReader,
        media: &MediaHandle,
        sealed: mpsc::UnboundedSender<SealEvent>,
    ) -> Result<Sealer, Failure> {
        Sealer::spawn(SealerConfig {
            queue: queue.clone(),
            threads: usual_threads(),
            capture: capture.clone(),
            store: self.voices.clone(),
            voice: self.voice_settings(),
            media: media.clone(),
            tell: Box::new(move |event| {
                // A bridge that has ended publishes nothing; the next start goes on.
                let _ = sealed.send(event);
            }),
        })
        .map_err(Failure::fault)
    }

    fn voice_settings(&self) -> VoiceSettings {
        let storage = &self.config.storage;
        VoiceSettings {
            format: storage.voiceformat,
            opus_bitrate: storage.opusbitrate,
            mask_keys: storage.mask_keys,
            skip_hold: self.recorder.skip_hold,
        }
    }

    /// Tells the group how this node is, and keeps what another one captures.
    fn reports(&self, works: &Works, clock: Clock) -> [JoinHandle<()>; 5] {
        let (control, media) = (Arc::clone(&works.control), works.media.clone());
        let (group, hub) = (self.group.clone(), Arc::clone(self.hub));
        let health = report_health(group.clone(), control, media, Arc::clone(&hub), clock);
        let (mirrors, fetches) = (Arc::clone(&works.mirrors), self.config.storage.mirror);
        let peers = Peers::new(group);
        let pauses = spread_pauses(Arc::clone(&works.control), peers.clone());
        let told = tidings::spread(hub.tidings(), peers.clone());
        let keep = mirror::keep(mirrors, peers, hub, fetches);
        let marks = marks::spread(Arc::clone(&works.marker));
        [
            tokio::spawn(health),
            tokio::spawn(keep),
            tokio::spawn(pauses),
            tokio::spawn(marks),
            tokio::spawn(told),
        ]
    }

    fn marker(&self) -> Result<Marker, Failure> {
        Ok(Marker {
            peers: Peers::new(self.group.clone()),
            configured: self.config.cluster.peers.keys().copied().collect(),
            voices: self.voices.clone(),
            catalog: Arc::clone(self.catalog),
            hub: Arc::clone(self.hub),
            owed: Owed::open(&self.config.datadir).map_err(Failure::fault)?,
            archive: self.config.storage.archive.is_some(),
            turn: std::sync::Mutex::default(),
            news: tokio::sync::Notify::new(),
        })
    }

    fn sync_ms(&self) -> u64 {
        u64::try_from(self.config.storage.sync.as_millis()).unwrap_or(u64::MAX)
    }

    /// What an earlier process has kept of others' captures. What cannot be read stays where it is.
    fn mirrors(&self) -> Arc<MirrorStore> {
        let Config { datadir, storage, .. } = self.config;
        let (store, broken) =
            MirrorStore::open(datadir.clone(), storage.keys.clone(), self.sync_ms());
        for (node, error) in broken {
            tracing::error!(%node, %error, "what is kept of its captures cannot be read");
        }
        Arc::new(store)
    }

    /// What an earlier process has left. Read before the recorder adds to it.
    fn leftovers(&self, capture: &JournalReader) -> Result<bridge::Leftovers, Failure> {
        let staged = self.voices.staged().map_err(Failure::fault)?;
        // A repair that broke off is made anew when somebody asks again; the group knows nothing of it.
        let is_repair = |staged: &Staged| staged.record().repairof.is_some();
        let (repairs, staged): (Vec<_>, Vec<_>) = staged.into_iter().partition(is_repair);
        for repair in &repairs {
            self.voices.discard(repair).map_err(Failure::fault)?;
        }
        let mut captures = Vec::new();
        for local in capture.open_recordings() {
            match bridge::words::read_outline(capture, self.config.nodeid, local) {
                Ok(outline) => captures.push((local, outline)),
                Err(error) => {
                    tracing::error!(recording = %local, %error, "left for the next start");
                }
            }
        }
        Ok(bridge::Leftovers { staged, captures })
    }

    fn control(
        &self,
        clock: Clock,
        recovered: Recovered,
        wires: Wires,
        media: &MediaHandle,
    ) -> Result<Control, Failure> {
        let mut seed = [0; 16];
        getrandom::fill(&mut seed).map_err(|error| Failure::new(Exit::Fault, error))?;
        let view = self.group.view();
        let config = ControlConfig {
            endpoint: self.endpoint.clone(),
            link: wiring::link_config(self.config, self.recorder),
            trigger: wiring::trigger_config(
                self.config.nodeid,
                self.recorder,
                recovered.next_segment,
                u128::from_le_bytes(seed),
            ),
            group: vec![
                GroupWord::Peers(bridge::words::peers(&view)),
                GroupWord::Mandate(bridge::words::mandate(&view)),
            ],
            open: recovered.open,
        };
        let seen =
            SeenCalls::start(&self.config.datadir, Arc::clone(self.hub)).map_err(Failure::fault)?;
        let (hub, media) = (Arc::clone(self.hub), media.clone());
        let outlet = HubOutlet { hub, media, bridge: wires.orders, seen };
        Ok(Control::spawn(config, clock, wires.notices, Arc::new(outlet)))
    }
}
