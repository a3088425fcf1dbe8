//! What a node that records tells of its recordings, so that those who watch at any other node of the group hear of
//! it, too. It decides which events travel. Calls do not: each recorder sees them through its own AES. Nor are
//! they kept: whoever is away while something happens finds it in the catalog.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use storage_core::{Extension, NodeId};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use crate::peers::Peers;

/// A peer that takes longer does not hear of it.
const TOLD_WITHIN: Duration = Duration::from_secs(2);
/// Told at once.
const BATCH_MAX: usize = 32;
/// Bytes of JSON of all of them; a question has room for more.
const BATCH_BYTES_MAX: usize = 128 * 1024;

/// The events that travel.
const NAMES: [&str; 4] =
    ["recordingstarted", "recordingpaused", "recordingresumed", "recordingpublished"];

/// An event about a recording of the node that tells it. No `Debug`: telephone numbers are in it.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Tiding {
    /// Its name.
    pub eventtype: String,
    /// The stations it is about.
    pub extensions: Vec<Extension>,
    /// Its other members.
    pub body: Map<String, Value>,
}

impl std::fmt::Debug for Tiding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tiding").field("eventtype", &self.eventtype).finish_non_exhaustive()
    }
}

impl Tiding {
    /// The event's name as we know it; none for what is not told by peers.
    #[must_use]
    pub fn name(&self) -> Option<&'static str> {
        NAMES.into_iter().find(|name| *name == self.eventtype)
    }

    fn bytes(&self) -> usize {
        serde_json::to_string(self).map_or(usize::MAX, |text| text.len())
    }
}

/// Tells all others that can be reached, in order, as long as the node runs.
pub async fn spread(mut happened: Receiver<Arc<Tiding>>, peers: Peers) {
    loop {
        let mut batch = match happened.recv().await {
            Ok(first) => vec![first],
            Err(RecvError::Lagged(lost)) => {
                tracing::warn!(lost, "other nodes do not hear of all that is recorded here");
                continue;
            }
            Err(RecvError::Closed) => return,
        };
        let mut room = BATCH_BYTES_MAX.saturating_sub(batch[0].bytes());
        while batch.len() < BATCH_MAX && room > 0 {
            match happened.try_recv() {
                Ok(next) => {
                    room = room.saturating_sub(next.bytes());
                    batch.push(next);
                }
                // What was lost is said at the next turn.
                Err(TryRecvError::Empty | TryRecvError::Closed | TryRecvError::Lagged(_)) => break,
            }
        }
        tell(&peers, &batch).await;
    }
}

async fn tell(peers: &Peers, batch: &[Arc<Tiding>]) {
    let view = peers.group().view();
    let others = view.members.iter().filter(|member| member.node != view.node && member.reachable);
    let others: BTreeSet<NodeId> = others.map(|member| member.node).collect();
    let telling = others.into_iter().map(|node| async move {
        let batch = batch.iter().map(|tiding| Tiding::clone(tiding)).collect();
        if let Err(error) = peers.tell(node, batch, TOLD_WITHIN).await {
            tracing::debug!(%node, ?error, "it does not hear of recordings here");
        }
    });
    join_all(telling).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_about_recordings_of_the_teller_is_taken() {
        let told = |name: &str| {
            let eventtype = name.to_owned();
            Tiding { eventtype, extensions: Vec::new(), body: Map::new() }.name()
        };
        assert_eq!(told("recordingpublished"), Some("recordingpublished"));
        for name in ["callstarted", "alarm", "recordingtagged", "", "fetchcomplete"] {
            assert_eq!(told(name), None, "{name}");
        }
    }
}
