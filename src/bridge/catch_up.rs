//! A catalog that was made anew knows the recordings whose files lie here. All others are asked for,
//! so that they are found here even while their owner is away, or has lost them: this node itself,
//! perhaps, with its disk. What is sealed meanwhile is
//! listed by the ledger; which of two revisions counts is decided by their numbers.

use std::sync::Arc;
use std::time::Duration;

use cluster_core::GroupView;
use storage::{Catalog, SledCatalog};
use storage_core::NodeId;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::hub::Hub;
use crate::peers::Peers;

/// Records asked for at once.
const PAGE: usize = 500;
const PAGE_WITHIN: Duration = Duration::from_secs(10);
/// A peer that did not answer is asked again after so long.
const AGAIN: Duration = Duration::from_secs(5);

/// Walks through the recordings of all peers, however long one of them is away, and then marks the
/// catalog as whole. Begins again at the next start if this one is ended before that. A node alone
/// leaves the mark: should it become a member one day, it has not asked anybody yet.
pub async fn catch_up(peers: Peers, catalog: Arc<SledCatalog>, hub: Arc<Hub>) {
    let mut view = peers.group().view_watch();
    // A group that has no members yet is one that this node has not heard of yet.
    let Ok(members) =
        view.wait_for(|view| !view.members.is_empty()).await.map(|view| others(&view))
    else {
        return;
    };
    if members.is_empty() {
        return;
    }
    for node in members {
        walk(&peers, node, &catalog, &hub).await;
    }
    if let Err(error) = catalog.has_others() {
        tracing::warn!(%error, "the other nodes' recordings will be asked for again");
    }
}

fn others(view: &GroupView) -> Vec<NodeId> {
    view.members.iter().map(|member| member.node).filter(|node| *node != view.node).collect()
}

async fn walk(peers: &Peers, node: NodeId, catalog: &Arc<SledCatalog>, hub: &Arc<Hub>) {
    let (mut cursor, mut entered) = (None, 0_u64);
    loop {
        let page = match peers.records_since(node, cursor, PAGE, PAGE_WITHIN).await {
            Ok(page) => page,
            Err(error) => {
                tracing::debug!(%node, ?error, "its recordings are asked for again");
                sleep(AGAIN).await;
                if !peers.group().view().members.iter().any(|member| member.node == node) {
                    return;
                }
                continue;
            }
        };
        let (entering, hub) = (Arc::clone(catalog), Arc::clone(hub));
        let entered_now = spawn_blocking(move || {
            let newer = page.records.iter().filter(|record| {
                let known = entering.get(record.recordingid).ok().flatten();
                known.is_none_or(|known| known.revision < record.revision)
            });
            let count = newer.filter(|record| hub.enter(record, &*entering)).count();
            (count as u64, page.cursor)
        });
        // A panic there has been reported by the runtime.
        let Ok((count, next)) = entered_now.await else { return };
        entered += count;
        match next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    tracing::info!(peer = %node, entered, "its recordings are in the catalog");
}
