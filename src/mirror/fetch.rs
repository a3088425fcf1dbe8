//! The mirror's side: fetches what the node captures whose mirror this one is, for as long as it is, and
//! begins again where it was whenever the connection breaks. It decides when, and what a person is told.

use std::sync::Arc;
use std::time::Duration;

use cluster_core::{GroupView, mirror};
use recorder::mirror_keeper::{KeepError, MirrorKeeper};
use storage_core::NodeId;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::store::MirrorStore;
use crate::alarms::Alarm;
use crate::hub::Hub;
use crate::peers::{PeerError, Peers};

/// How long the owner may take to begin.
const BEGIN_WITHIN: Duration = Duration::from_secs(3);
/// A fetch that broke is begun again after so long, and later if it breaks at once again.
const AGAIN: Duration = Duration::from_millis(200);
const AGAIN_MAX: Duration = Duration::from_secs(5);
/// How often it is looked what may be forgotten, and whether another node's captures are to be fetched.
const LOOK: Duration = Duration::from_secs(2);

/// Why a fetch ended.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("{}", .0.message)]
    Peer(crate::web::backend::Failure),
    #[error(transparent)]
    Keep(#[from] KeepError),
}

impl From<PeerError> for FetchError {
    fn from(error: PeerError) -> Self {
        Self::Peer(error.into_failure())
    }
}

/// Keeps the captures of whoever comes before this node in the group, and forgets what is needed no more.
pub async fn keep(store: Arc<MirrorStore>, peers: Peers, hub: Arc<Hub>, fetches: bool) {
    let mut running: Option<(NodeId, JoinHandle<()>)> = None;
    let mut views = peers.group().view_watch();
    let mut beat = interval(LOOK);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let view = views.borrow_and_update().clone();
        let wanted = owner(&view).filter(|_| fetches);
        if running.as_ref().map(|(node, _)| *node) != wanted {
            if let Some((before, fetching)) = running.take() {
                fetching.abort();
                hub.alarms.clear("notmirrored", &before.to_string());
            }
            running = wanted.map(|node| {
                let (store, peers, hub) = (Arc::clone(&store), peers.clone(), Arc::clone(&hub));
                (node, tokio::spawn(fetch_on(node, store, peers, hub)))
            });
        }
        tokio::select! {
            // Who belongs to the group is seldom what has changed.
            changed = views.changed() => if changed.is_err() { return },
            _ = beat.tick() => peers.group().read(|state| store.forget_needless(state)),
        }
    }
}

/// Whose captures this node fetches.
fn owner(view: &GroupView) -> Option<NodeId> {
    mirror::kept_by(&mirror::recorders(view), view.node)
}

/// Fetches from one node until it is told to end.
async fn fetch_on(node: NodeId, store: Arc<MirrorStore>, peers: Peers, hub: Arc<Hub>) {
    let mut pause = AGAIN;
    loop {
        if is_reachable(&peers, node) {
            let mut took = false;
            let keeper = store.keeper(node).map_err(|error| KeepError::Mirror(error.into()));
            let ended = match keeper {
                Ok(keeper) => fetch(node, &keeper, &peers, &hub, &mut took).await,
                Err(error) => Err(error.into()),
            };
            match ended {
                Err(FetchError::Keep(error)) => hub.alarms.raise(not_kept(node, &error)),
                Err(error @ FetchError::Peer(_)) => {
                    tracing::debug!(%node, %error, "its captures are fetched again");
                }
                Ok(()) => tracing::debug!(%node, "its captures are fetched again"),
            }
            pause = if took { AGAIN } else { (pause * 2).min(AGAIN_MAX) };
        }
        sleep(pause).await;
    }
}

fn is_reachable(peers: &Peers, node: NodeId) -> bool {
    peers.group().view().member(node).is_some_and(|member| member.reachable)
}

/// Fetches until the connection breaks, or nothing more can be kept.
async fn fetch(
    node: NodeId,
    keeper: &MirrorKeeper,
    peers: &Peers,
    hub: &Hub,
    took: &mut bool,
) -> Result<(), FetchError> {
    let has = keeper.position().await?;
    let (journal, mut stream) = peers.mirror(node, has, BEGIN_WITHIN).await?;
    keeper.begin(journal).await?;
    while let Some(piece) = stream.piece().await? {
        let offset = peers.group().view().clock_offset_us.get(&node).copied();
        let offset = offset.unwrap_or_else(|| keeper.clock_offset_us());
        if let Some(mark) = keeper.take(piece, offset).await? {
            if !std::mem::replace(took, true) {
                tracing::info!(%node, "its captures are kept here, too");
                hub.alarms.clear("notmirrored", &node.to_string());
            }
            stream.tell(&mark.taken.encode()).await?;
        }
    }
    Ok(())
}

fn not_kept(node: NodeId, error: &KeepError) -> Alarm {
    let remedy = match error {
        error if error.is_full() => "make room below al_datadir; it goes on by itself",
        _ => "see the message; what this node captures itself is not touched by it",
    };
    Alarm {
        name: "notmirrored",
        subject: node.to_string(),
        message: format!("what node {node} captures is not kept here, too: {}", words(error)),
        remedy,
    }
}

/// Numbers that change each time would tell it anew each time.
fn words(error: &KeepError) -> String {
    if error.is_full() { "the disk is nearly full".to_owned() } else { error.to_string() }
}
