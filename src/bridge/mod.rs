//! Where the recorder and the group meet: captures are claimed, recordings sealed and published, and
//! the recorder is told what the group decides. What is to be done when is decided in [`core`]; the
//! words of both sides are in [`words`]; here it is carried out.

mod carry;
mod catch_up;
mod clocks;
pub mod core;
mod gather;
pub mod health;
pub mod people;
mod pull;
mod report;
mod rounds;
pub mod words;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use cluster::Group;
use cluster_core::{Change, Outcome};
use recorder::control_task::Control;
use recorder::media_thread::MediaHandle;
use recorder::pulled::PulledFolder;
use recorder::seal_queue::SealQueue;
use recorder::sealer::SealEvent;
use recorder_core::call::{Mandate, Order, Peer};
use recorder_core::controller::GroupWord;
use storage::{Catalog, JournalReader, Staged, VoiceStore};
use storage_core::{NodeId, RecordingId, SegmentId};
use tokio::sync::{Semaphore, broadcast, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, timeout};

use self::clocks::Clocks;
use self::core::{About, Bridge, Output, SealOutcome};
use self::people::Takeovers;
use crate::hub::Hub;
use crate::mirror::MirrorStore;
use crate::peers::Peers;

pub use catch_up::catch_up;
pub use report::report_health;

/// How long a proposal may be under way before it is made anew.
const PROPOSAL: Duration = Duration::from_secs(2);
/// Everything is compared this often, whatever was told.
const LOOK: Duration = Duration::from_millis(500);
/// Orders taken before anything else is looked at.
const ORDERS_AT_ONCE: usize = 1024;
/// A peer streams to few at a time; after a takeover many recordings want their other half at once.
const PULLS_AT_ONCE: usize = 4;
/// Records asked of a peer at once.
const RECORDS_AT_ONCE: usize = 64;
const RECORDS_WITHIN: Duration = Duration::from_secs(3);

/// What the bridge works with.
pub struct Parts {
    /// This node's place in the group.
    pub group: Group,
    /// The way to the others outside the log.
    pub peers: Peers,
    /// The recorder.
    pub control: Arc<Control>,
    /// Its captures.
    pub capture: JournalReader,
    /// Writes down what the journal owes no more.
    pub media: MediaHandle,
    /// Takes what is to be sealed.
    pub seal: SealQueue,
    /// Where captures of other nodes are kept while they are needed.
    pub pulled: PulledFolder,
    /// What is kept of others' captures in case their nodes are lost.
    pub mirrors: Arc<MirrorStore>,
    /// Where voice files and records go.
    pub voices: VoiceStore,
    /// Lists all recordings of the group.
    pub catalog: Arc<dyn Catalog>,
    /// Where people hear of it.
    pub hub: Arc<Hub>,
    /// What changes of the lead cost.
    pub takeovers: Arc<Takeovers>,
}

/// What comes in.
pub struct Inputs {
    /// From the recorder.
    pub orders: mpsc::Receiver<Order>,
    /// Recordings that are complete in the journal.
    pub complete: mpsc::Receiver<RecordingId>,
    /// From the sealer.
    pub sealed: mpsc::UnboundedReceiver<SealEvent>,
}

/// What an earlier process of this node has left.
#[derive(Debug, Default)]
pub struct Leftovers {
    /// Sealed and durable, and perhaps not yet agreed upon.
    pub staged: Vec<Staged>,
    /// In the journal and owed to the group. To be read before the recorder starts.
    pub captures: Vec<(RecordingId, words::Outline)>,
}

/// The running bridge.
#[derive(Debug)]
pub struct Running {
    task: JoinHandle<()>,
    idle: watch::Receiver<bool>,
}

impl Running {
    /// Goes on until nothing is owed to the group any more, for as long as `patience`, and ends.
    pub async fn finish(mut self, patience: Duration) {
        let idle = self.idle.wait_for(|idle| *idle);
        if timeout(patience, idle).await.is_err() {
            tracing::info!("what is not published yet is at the next start");
        }
        self.task.abort();
    }
}

/// Starts the bridge.
pub fn spawn(parts: Parts, inputs: Inputs, leftovers: Leftovers) -> Running {
    let (results, taken) = mpsc::unbounded_channel();
    let (idle, seen) = watch::channel(false);
    let node = parts.group.node();
    let staged = leftovers.staged.into_iter().map(|staged| (key_of(&staged), staged)).collect();
    let mut bridge = Bridge::new(node);
    for (local, outline) in &leftovers.captures {
        bridge.outlined(*local, outline);
    }
    let shell = Shell {
        bridge,
        parts,
        results,
        staged,
        unsaid: VecDeque::new(),
        pulls: Arc::new(Semaphore::new(PULLS_AT_ONCE)),
        idle,
        mandate: None,
        known_peers: BTreeMap::new(),
        clocks: Clocks::default(),
    };
    Running { task: tokio::spawn(shell.run(inputs, taken)), idle: seen }
}

/// What was begun here and is done.
enum Done {
    Answered(About, Option<Outcome>),
    Outlined(RecordingId, words::Outline),
    Listed(RecordingId, u32, bool),
    SealRefused(RecordingId),
    /// Of these captures of a recording there is nothing to be had any more.
    Void(RecordingId, Vec<(NodeId, SegmentId)>),
    /// What is kept of a recording of a node that does not answer.
    Inherited(words::Outline),
}

struct Shell {
    bridge: Bridge,
    parts: Parts,
    results: mpsc::UnboundedSender<Done>,
    /// Sealed and durable, and not yet agreed upon.
    staged: BTreeMap<(RecordingId, u32), Staged>,
    /// Captures that the journal owes no more and has not been told so.
    unsaid: VecDeque<RecordingId>,
    /// Lets so many captures be pulled at once.
    pulls: Arc<Semaphore>,
    /// Whether everything is done that was begun here.
    idle: watch::Sender<bool>,
    mandate: Option<Mandate>,
    known_peers: BTreeMap<NodeId, Peer>,
    /// How far the others' clocks are off, and were.
    clocks: Clocks,
}

fn key_of(staged: &Staged) -> (RecordingId, u32) {
    (staged.record().recordingid, staged.record().revision)
}

impl Shell {
    async fn run(mut self, mut inputs: Inputs, mut results: mpsc::UnboundedReceiver<Done>) {
        let mut views = self.parts.group.view_watch();
        let mut changes = self.parts.group.subscribe();
        let mut beat = tokio::time::interval(LOOK);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                changed = views.changed() => match changed {
                    Ok(()) => self.take_view(&mut views).await,
                    Err(_) => return,
                },
                change = changes.recv() => self.take_change(change.as_ref()),
                Some(order) = inputs.orders.recv() => {
                    self.take_orders(order, &mut inputs.orders);
                }
                Some(done) = results.recv() => self.take_done(done),
                Some(local) = inputs.complete.recv() => self.outline(local),
                Some(event) = inputs.sealed.recv() => self.take_sealed(event),
                _ = beat.tick() => {
                    self.clocks.note(&self.parts.group.view().clock_offset_us);
                    self.parts.group.read(|state| self.bridge.all_changed(state));
                    self.inherit();
                    self.say();
                }
            }
            self.act().await;
        }
    }

    /// Compares, and carries out what comes of it.
    async fn act(&mut self) {
        let view = self.parts.group.view();
        let mirrors = Arc::clone(&self.parts.mirrors);
        self.parts.group.read(|state| self.bridge.look(state, &view, &*mirrors));
        let mut lists = BTreeMap::new();
        while let Some(output) = self.bridge.poll() {
            match output {
                Output::Propose(about, command) => self.propose(about, *command),
                Output::Word(word) => self.parts.control.tell_group(word).await,
                Output::Seal(order) => self.seal(order),
                Output::Publish { recording, revision } => self.publish(recording, revision),
                Output::Discard { recording, revision } => self.discard(recording, revision),
                Output::List { recording, revision, sha256, at } if at == view.node => {
                    self.list_own(recording, revision, sha256);
                }
                Output::List { recording, revision, sha256, at } => {
                    let wanted: &mut Vec<_> = lists.entry(at).or_default();
                    wanted.push((recording, revision, sha256));
                }
                Output::Drop { local } => self.unsaid.push_back(local),
            }
        }
        for (at, wanted) in lists {
            for wanted in wanted.chunks(RECORDS_AT_ONCE) {
                self.list(at, wanted.to_vec());
            }
        }
        self.say();
        let owed = i64::try_from(self.bridge.owed()).unwrap_or(i64::MAX);
        self.parts.hub.metrics.captures_owed.set(owed);
        let idle = self.bridge.is_idle() && self.parts.seal.stats().waiting() == 0;
        self.idle.send_if_modified(|before| std::mem::replace(before, idle) != idle);
    }

    async fn take_view(&mut self, views: &mut watch::Receiver<cluster_core::GroupView>) {
        let view = views.borrow_and_update().clone();
        let peers = words::peers(&view);
        if peers != self.known_peers {
            self.known_peers.clone_from(&peers);
            self.parts.control.tell_group(GroupWord::Peers(peers)).await;
            self.parts.group.read(|state| self.bridge.all_changed(state));
        }
        let mandate = words::mandate(&view);
        if self.mandate.replace(mandate) != Some(mandate) {
            self.parts.control.tell_group(GroupWord::Mandate(mandate)).await;
        }
    }

    fn take_change(&mut self, change: Result<&Change, &broadcast::error::RecvError>) {
        match change {
            Ok(
                Change::Holder { recording, .. }
                | Change::Over { recording }
                | Change::Sealed { recording, .. }
                | Change::Closed { recording }
                | Change::Evicted { recording },
            ) => self.bridge.changed(*recording),
            Ok(Change::Claimed { stretch, .. } | Change::Ended { stretch }) => {
                self.bridge.changed(stretch.recording);
            }
            Ok(
                Change::Members
                | Change::Duties { .. }
                | Change::Checkpoint { .. }
                | Change::Countersigned { .. },
            ) => {}
            Ok(Change::Restored) | Err(_) => {
                self.parts.group.read(|state| self.bridge.all_changed(state));
            }
        }
    }

    fn take_orders(&mut self, first: Order, orders: &mut mpsc::Receiver<Order>) {
        let mut next = Some(first);
        for _ in 0..ORDERS_AT_ONCE {
            let Some(order) = next else { return };
            self.take_order(order);
            next = orders.try_recv().ok();
        }
        // One that is taken from the queue must not be lost.
        if let Some(order) = next {
            self.take_order(order);
        }
    }

    fn take_order(&mut self, order: Order) {
        match order {
            Order::Claim(claim) => self.bridge.captured(&claim),
            Order::SegmentEnded { segment, at } => self.bridge.ended(segment, at),
            Order::RecordingOver { name, stopped } => self.bridge.over(name, stopped),
            _ => {}
        }
    }

    fn take_done(&mut self, done: Done) {
        match done {
            Done::Answered(about, outcome) => self.bridge.answered(about, outcome.as_ref()),
            Done::Outlined(local, outline) => self.bridge.outlined(local, &outline),
            Done::Listed(recording, revision, done) => {
                if done {
                    self.staged.remove(&(recording, revision));
                }
                self.bridge.listed(recording, revision, done);
            }
            Done::SealRefused(recording) => self.bridge.sealed(recording, SealOutcome::Failed),
            Done::Void(recording, captures) => {
                self.bridge.sealed(recording, SealOutcome::Same { captures });
            }
            Done::Inherited(outline) => {
                self.parts.group.read(|state| self.bridge.inherited(&outline, state));
            }
        }
    }
}
