//! What a node that records tells of what happens, so that those who watch at any other node of the group hear of
//! it, too. It decides which events travel, and to whom. Of its own recordings a node tells all others. What each
//! recorder sees for itself (calls by its own AES, what people write about recordings) the lead tells to those that see none of
//! it, the witnesses. Nothing is kept: whoever is away while something happens finds it in the catalog.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use storage_core::{Extension, Role};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use crate::peers::Peers;
use crate::web::backend::Topic;

/// A peer that takes longer does not hear of it.
const TOLD_WITHIN: Duration = Duration::from_secs(2);
/// Told at once.
const BATCH_MAX: usize = 32;
/// Bytes of JSON of all of them; a question has room for more.
const BATCH_BYTES_MAX: usize = 128 * 1024;

/// Events about recordings of the node that tells them.
const OWN: [&str; 4] =
    ["recordingstarted", "recordingpaused", "recordingresumed", "recordingpublished"];
/// Events that each recorder has for itself.
const SHARED: [(&str, Topic); 7] = [
    ("callstarted", Topic::Calls),
    ("callupdated", Topic::Calls),
    ("callended", Topic::Calls),
    ("recordingtagged", Topic::Recordings),
    ("recordingscored", Topic::Recordings),
    ("legalholdchanged", Topic::Recordings),
    ("recordingdeleted", Topic::Recordings),
];

/// An event of the node that tells it. No `Debug`: telephone numbers are in it.
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
    /// The event's name and topic as we know them; none for what is not told by peers.
    #[must_use]
    pub fn known(&self) -> Option<(&'static str, Topic)> {
        let own = OWN.map(|name| (name, Topic::Recordings));
        own.into_iter().chain(SHARED).find(|(name, _)| *name == self.eventtype)
    }

    /// Whether a member is to hear of it: `leads` says whether the teller leads.
    fn is_for(&self, role: Option<Role>, leads: bool) -> bool {
        OWN.contains(&self.eventtype.as_str()) || (leads && role == Some(Role::Witness))
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
    let leads = view.lead == Some(view.node);
    let others = view.members.iter().filter(|member| member.node != view.node && member.reachable);
    let telling = others.map(|member| async move {
        let for_it = batch.iter().filter(|tiding| tiding.is_for(member.role, leads));
        let for_it: Vec<_> = for_it.map(|tiding| Tiding::clone(tiding)).collect();
        if for_it.is_empty() {
            return;
        }
        if let Err(error) = peers.tell(member.node, for_it, TOLD_WITHIN).await {
            tracing::debug!(node = %member.node, ?error, "it does not hear of what happens here");
        }
    });
    join_all(telling).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recordings_are_told_to_all_and_what_recorders_see_to_witnesses_by_the_lead() {
        let told = |name: &str| {
            let eventtype = name.to_owned();
            Tiding { eventtype, extensions: Vec::new(), body: Map::new() }
        };
        let published = told("recordingpublished");
        assert_eq!(published.known(), Some(("recordingpublished", Topic::Recordings)));
        for role in [Some(Role::Backup), Some(Role::Witness), None] {
            assert!(published.is_for(role, true) && published.is_for(role, false), "{role:?}");
        }
        let call = told("callupdated");
        assert_eq!(call.known(), Some(("callupdated", Topic::Calls)));
        assert!(call.is_for(Some(Role::Witness), true));
        assert!(!call.is_for(Some(Role::Witness), false), "or it would be told twice");
        assert!(!call.is_for(Some(Role::Backup), true) && !call.is_for(None, true));
        for name in ["alarm", "takeover", "", "fetchcomplete"] {
            assert_eq!(told(name).known(), None, "{name}");
        }
    }
}
