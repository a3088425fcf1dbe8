//! The handle by which the rest of the program belongs to the group: it watches its duty, claims
//! its captures, reads the ledger, and asks peers. Clones are the same handle; the last one that
//! is dropped ends the member.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use cluster_core::{
    Announce, Change, Claim, Command, DutyGrant, GroupView, Health, Ledger, NodeConfig, Outcome,
    ProposeError, Seal, State, StretchRef, Task,
};
use storage::disk::RealDisk;
use storage_core::{Duty, NodeId, RecordingId, Role, WallTime};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{broadcast, oneshot, watch};

use crate::accept::accept;
use crate::alarm::{GroupAlarm, GroupFailure};
use crate::alone::Alone;
use crate::clock::Clock;
use crate::config::{ConfigError, GroupConfig};
use crate::driver::{Driver, Input, ProposeResult, Published, Start};
use crate::gate::Gate;
use crate::hello::cluster_of_peers;
use crate::links::{Counters, Links, Shared};
use crate::log_store::{LogError, LogStore};
use crate::marker::{Marker, MarkerError, random};
use crate::request::{Reply, RequestError, Response, Served, ask};
use crate::tls::{Identity, TlsError};

/// Why a member cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The certificates are.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The log cannot be used.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The mark on the disk cannot be used.
    #[error(transparent)]
    Marker(#[from] MarkerError),
    /// The address cannot be had.
    #[error("al_clusterlisten {address}: {source}")]
    Listen {
        /// Which.
        address: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The machine gives no thread.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// Why something did not get into the log, as far as known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeFailure {
    /// The group did not take it in time: no majority, most likely.
    #[error("the group did not confirm in time")]
    Late,
    /// It could not be taken on.
    #[error(transparent)]
    NotTaken(#[from] ProposeError),
    /// The member's thread has more to do than it can.
    #[error("this member is too busy")]
    Busy,
    /// The member has ended.
    #[error("this member has ended")]
    Stopped,
}

/// This node's place in the group.
#[derive(Clone)]
pub struct Group {
    inner: Arc<Inner>,
}

struct Inner {
    node: NodeId,
    view: watch::Receiver<GroupView>,
    duty: watch::Receiver<DutyGrant>,
    alarms: watch::Receiver<Vec<GroupAlarm>>,
    failed: watch::Receiver<Option<Arc<GroupFailure>>>,
    changes: broadcast::Sender<Change>,
    state: Arc<RwLock<State>>,
    kind: Kind,
}

enum Kind {
    /// The senders are kept so that the watches stay open.
    Alone {
        alone: Alone,
        _open: Watches,
    },
    Member(Member),
}

type Watches = (
    watch::Sender<DutyGrant>,
    watch::Sender<Vec<GroupAlarm>>,
    watch::Sender<Option<Arc<GroupFailure>>>,
);

struct Member {
    inputs: SyncSender<Input>,
    clock: Clock,
    shared: Arc<Shared>,
    links: Arc<Links>,
    served: Arc<Served>,
    listen: SocketAddr,
    driver: Option<JoinHandle<()>>,
    /// Dropping it ends the network's thread and closes all links.
    net: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("node", &self.inner.node).finish_non_exhaustive()
    }
}

/// How many changes a slow reader may be behind before it has to look at everything anew.
const CHANGES: usize = 8192;
/// What may wait for the member's thread.
const INPUTS: usize = 16_384;

impl Group {
    /// A node without peers.
    #[must_use]
    pub fn alone(node: NodeId, role: Role) -> Self {
        let first = GroupView::alone(node, role);
        let (duty_tx, duty) = watch::channel(first.duty);
        let (view_tx, view) = watch::channel(first);
        let (alarms_tx, alarms) = watch::channel(Vec::new());
        let (failed_tx, failed) = watch::channel(None);
        let (changes, _) = broadcast::channel(CHANGES);
        let state = Arc::new(RwLock::new(State::default()));
        let alone = Alone::new(node, role, Arc::clone(&state), changes.clone(), view_tx);
        let kind = Kind::Alone { alone, _open: (duty_tx, alarms_tx, failed_tx) };
        let inner = Inner { node, view, duty, alarms, failed, changes, state, kind };
        Self { inner: Arc::new(inner) }
    }

    /// Joins the group of `al_peers`, or begins it. Returns as soon as the member runs; whether a
    /// majority is there is told by the view. Requests of peers are answered on the runtime in
    /// which this is called.
    pub async fn join(config: GroupConfig) -> Result<Self, JoinError> {
        let ticks = config.check()?;
        let tls =
            config.tls.as_ref().map(|files| Identity::load(config.node, files)).transpose()?;
        let (store, stored) = LogStore::open(RealDisk::shared(), &config.dir)?;
        let marker = Marker::open(RealDisk::shared(), &config.dir, config.node, stored.is_some())?;
        // A log without its mark was never spoken of: the group is begun anew.
        let stored = stored.filter(|_| marker.cluster().is_some());
        let named = tls.as_ref().map(|tls| tls.now().cluster);
        let cluster = marker.cluster().or(named).unwrap_or_else(|| cluster_of_peers(&config.peers));
        let boot = marker.boot();
        let process = u64::from_le_bytes(random()?);
        let own_address = config.peers.get(&config.node).cloned().unwrap_or_default();
        let gate =
            Gate::new(config.node, process, own_address, config.heartbeat * 4, marker, cluster);
        let (inputs, received) = sync_channel(INPUTS);
        let clock = Clock::new();
        let shared = Arc::new(Shared::new(&config, gate, tls, inputs.clone(), clock));
        let served = Arc::new(Served::new(Handle::current()));
        let net = Net::start(&config, &shared, &served).await?;
        let links = Arc::new(Links::new(Arc::clone(&shared), net.handle.clone()));
        let start = Start {
            config: NodeConfig {
                id: config.node,
                role: config.role,
                ticks,
                patience: config.patience,
                seed: process,
                boot,
            },
            stored,
            peers: config.peers.clone(),
            cluster,
            announce: Announce {
                node: config.node,
                role: config.role,
                phantoms: config.phantoms.clone(),
                program: config.program.clone(),
            },
            store,
            shared: Arc::clone(&shared),
            links: Arc::clone(&links),
            clock,
        };
        let (inner, driver) = watched(&config, start);
        let driver = std::thread::Builder::new()
            .name("cluster-raft".to_owned())
            .spawn(move || driver.run(&received))
            .map_err(JoinError::Thread)?;
        let member = Member {
            inputs,
            clock,
            shared,
            links,
            served,
            listen: net.listen,
            driver: Some(driver),
            net: Some((net.stop, net.thread)),
        };
        Ok(Self { inner: Arc::new(inner(Kind::Member(member))) })
    }

    /// This node's number.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.inner.node
    }

    /// What this node is to do now.
    #[must_use]
    pub fn duty(&self) -> Duty {
        self.inner.duty.borrow().duty
    }

    /// What this node is to do, with epoch and certainty, whenever it changes.
    #[must_use]
    pub fn duty_watch(&self) -> watch::Receiver<DutyGrant> {
        self.inner.duty.clone()
    }

    /// The whole group now.
    #[must_use]
    pub fn view(&self) -> GroupView {
        self.inner.view.borrow().clone()
    }

    /// The whole group, whenever it changes.
    #[must_use]
    pub fn view_watch(&self) -> watch::Receiver<GroupView> {
        self.inner.view.clone()
    }

    /// What a person has to know.
    #[must_use]
    pub fn alarms(&self) -> watch::Receiver<Vec<GroupAlarm>> {
        self.inner.alarms.clone()
    }

    /// Set when the member cannot go on: the process is to end with this message.
    #[must_use]
    pub fn failed(&self) -> watch::Receiver<Option<Arc<GroupFailure>>> {
        self.inner.failed.clone()
    }

    /// What the log changes from now on, in its order. A reader that falls behind gets an error
    /// from the channel and has to look at the whole ledger, as after [`Change::Restored`].
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.inner.changes.subscribe()
    }

    /// Reads the agreed state, as far as it is applied here. It never waits for a disk or a peer,
    /// and must not be held: the member's thread waits for it.
    pub fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.inner.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the ledger; see [`Group::read`].
    pub fn ledger<T>(&self, read: impl FnOnce(&Ledger) -> T) -> T {
        self.read(|state| read(state.ledger()))
    }

    /// What this node has to do for open recordings, oldest call first.
    #[must_use]
    pub fn tasks(&self, limit: usize) -> Vec<Task> {
        self.read(|state| state.ledger().tasks(self.inner.node, &state.present(), limit))
    }

    /// Wants something in the log; returns at once. The answer comes when it is applied here, or
    /// when `patience` is over. Not waiting for it is fine: the command goes its way.
    #[must_use]
    pub fn submit(&self, command: Command, patience: Duration) -> Pending {
        let (reply, answer) = oneshot::channel();
        match &self.inner.kind {
            Kind::Alone { alone, .. } => {
                // The receiver is held below.
                let _ = reply.send(Ok(alone.apply(command)));
            }
            Kind::Member(member) => {
                let deadline = member.clock.mono() + patience;
                let input = Input::Propose { command, deadline, reply };
                if let Err(error) = member.inputs.try_send(input) {
                    let (failure, input) = match error {
                        TrySendError::Full(input) => (ProposeFailure::Busy, input),
                        TrySendError::Disconnected(input) => (ProposeFailure::Stopped, input),
                    };
                    if let Input::Propose { reply, .. } = input {
                        // The receiver is held below.
                        let _ = reply.send(Err(failure));
                    }
                }
            }
        }
        Pending(answer)
    }

    /// Wants something in the log and waits until it is applied here.
    pub async fn propose(
        &self,
        command: Command,
        patience: Duration,
    ) -> Result<Outcome, ProposeFailure> {
        self.submit(command, patience).outcome().await
    }

    /// Claims a capture. Capture never waits for the answer.
    #[must_use]
    pub fn claim(&self, claim: Claim, patience: Duration) -> Pending {
        self.submit(Command::Claim(claim), patience)
    }

    /// Says that a capture has ended.
    #[must_use]
    pub fn end(&self, stretch: StretchRef, to: WallTime, patience: Duration) -> Pending {
        self.submit(Command::End { stretch, to }, patience)
    }

    /// Makes a written file the recording; publish only on [`Outcome::Done`].
    #[must_use]
    pub fn seal(&self, seal: Seal, patience: Duration) -> Pending {
        self.submit(Command::Seal(seal), patience)
    }

    /// Says that the catalog lists these recordings, in these revisions.
    #[must_use]
    pub fn acknowledge(&self, recordings: Vec<(RecordingId, u32)>, patience: Duration) -> Pending {
        self.submit(Command::Ack { node: self.inner.node, recordings }, patience)
    }

    /// Says how this node is. To be told when it changes, not more often.
    #[must_use]
    pub fn report_health(&self, health: Health, patience: Duration) -> Pending {
        self.submit(Command::Health { node: self.inner.node, health }, patience)
    }

    /// Asks the leader to hand the group's leadership to another member.
    pub fn transfer_leader(&self, to: NodeId) {
        if let Kind::Member(member) = &self.inner.kind {
            // A member that is too busy or gone need not be told twice.
            let _ = member.inputs.try_send(Input::Transfer { to });
        }
    }

    /// Asks a peer something outside the log.
    pub async fn request(&self, node: NodeId, request: Vec<u8>) -> Result<Response, RequestError> {
        let Kind::Member(member) = &self.inner.kind else { return Err(RequestError::Alone) };
        let address = member.links.address(node).ok_or(RequestError::NoPeer(node))?;
        ask(&member.shared, node, &address, request).await
    }

    /// Sets who answers the requests of peers, once; false if that was done before.
    pub fn set_request_handler<F, A>(&self, answer: F) -> bool
    where
        F: Fn(NodeId, Vec<u8>, Reply) -> A + Send + Sync + 'static,
        A: Future<Output = ()> + Send + 'static,
    {
        match &self.inner.kind {
            Kind::Alone { .. } => false,
            Kind::Member(member) => member.served.set(answer),
        }
    }

    /// Reads this member's certificates anew, for the links that are made from now on. Blocking.
    ///
    /// # Errors
    /// `TlsError`; what was in use stays in use.
    pub fn renew_certificates(&self) -> Result<(), TlsError> {
        match &self.inner.kind {
            Kind::Member(Member { shared, .. }) => {
                shared.tls.as_ref().map_or(Ok(()), Identity::renew)
            }
            Kind::Alone { .. } => Ok(()),
        }
    }

    /// What was counted since the start; absent for a node without peers.
    #[must_use]
    pub fn counters(&self) -> Option<Arc<Counters>> {
        match &self.inner.kind {
            Kind::Alone { .. } => None,
            Kind::Member(member) => Some(Arc::clone(&member.shared.counters)),
        }
    }

    /// How often the member's thread has come round, which it does several times a second; absent for a
    /// node without peers, which has none.
    #[must_use]
    pub fn turns(&self) -> Option<u64> {
        match &self.inner.kind {
            Kind::Alone { .. } => None,
            Kind::Member(member) => Some(member.shared.pulse.turns()),
        }
    }

    /// Where this member listens; absent for a node without peers.
    #[must_use]
    pub fn listens(&self) -> Option<SocketAddr> {
        match &self.inner.kind {
            Kind::Alone { .. } => None,
            Kind::Member(member) => Some(member.listen),
        }
    }
}

/// An answer that is on its way.
pub struct Pending(oneshot::Receiver<ProposeResult>);

impl Pending {
    /// Waits for it.
    pub async fn outcome(self) -> Result<Outcome, ProposeFailure> {
        self.0.await.unwrap_or(Err(ProposeFailure::Stopped))
    }
}

/// The channels between the thread and the handle.
fn watched(config: &GroupConfig, start: Start) -> (impl FnOnce(Kind) -> Inner, Driver) {
    let first = first_view(config);
    let (duty_tx, duty) = watch::channel(first.duty);
    let (view_tx, view) = watch::channel(first);
    let (alarms_tx, alarms) = watch::channel(Vec::new());
    let (failed_tx, failed) = watch::channel(None);
    let (changes, _) = broadcast::channel(CHANGES);
    let state = Arc::new(RwLock::new(State::default()));
    let published = Published {
        view: view_tx,
        duty: duty_tx,
        alarms: alarms_tx,
        failed: failed_tx,
        changes: changes.clone(),
        state: Arc::clone(&state),
    };
    let node = config.node;
    let inner = move |kind| Inner { node, view, duty, alarms, failed, changes, state, kind };
    (inner, Driver::new(start, published))
}

/// The group before anything is known of it: the member acts by its configuration.
fn first_view(config: &GroupConfig) -> GroupView {
    let mut view = GroupView::alone(config.node, config.role);
    let duty = cluster_core::view::duty_unheard(config.role);
    view.duty = DutyGrant { duty, provisional: true, quorum: false, ..view.duty };
    (view.leader, view.lead, view.quorum) = (None, None, false);
    view
}

/// The network's own thread, so that nothing else of the program delays a heartbeat.
struct Net {
    handle: Handle,
    listen: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Net {
    async fn start(
        config: &GroupConfig,
        shared: &Arc<Shared>,
        served: &Arc<Served>,
    ) -> Result<Self, JoinError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(JoinError::Thread)?;
        let handle = runtime.handle().clone();
        let address = config.listen.clone();
        let bound = handle.spawn(async move { TcpListener::bind(&address).await });
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new()
            .name("cluster-net".to_owned())
            .spawn(move || {
                // Ends when the handle is dropped, whichever way.
                let _ = runtime.block_on(stopped);
                runtime.shutdown_background();
            })
            .map_err(JoinError::Thread)?;
        let failed = |source| JoinError::Listen { address: config.listen.clone(), source };
        // The runtime lives as long as `stop`, so the task can only end by itself.
        let bound = bound.await.map_err(|error| failed(std::io::Error::other(error)))?;
        let listener = bound.map_err(failed)?;
        let listen = listener.local_addr().map_err(failed)?;
        handle.spawn(accept(listener, Arc::clone(shared), Arc::clone(served)));
        Ok(Self { handle, listen, stop, thread })
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // The thread also ends when its channel closes; but links hold the channel too.
        while let Err(TrySendError::Full(_)) = self.inputs.try_send(Input::Stop) {
            std::thread::yield_now();
        }
        if let Some(driver) = self.driver.take() {
            let _ = driver.join();
        }
        if let Some((stop, thread)) = self.net.take() {
            drop(stop);
            let _ = thread.join();
        }
    }
}

impl Group {
    /// Peers and their addresses as the group knows them.
    #[must_use]
    pub fn addresses(&self) -> BTreeMap<NodeId, String> {
        self.read(|state| {
            state.members().iter().map(|(node, member)| (*node, member.address.clone())).collect()
        })
    }
}
