//! Tags and notes in the whole group: one node that lists the recording writes them down, and sees to it that the
//! others do (`crate::marks`). Which node that is, is decided here.

use std::time::Duration;

use storage_core::Recording;

use super::choose::most_telling;
use super::{GroupBackend, with_names};
use crate::peers::PeerError;
use crate::web::backend::{Code, Failure, MarkRequest};

/// A peer's answer: its disk has to take it.
const MARK_WITHIN: Duration = Duration::from_secs(3);

impl GroupBackend {
    /// One that lists the recording writes it down, and sees to it that the others do.
    pub(super) async fn mark_at_one(&self, request: MarkRequest) -> Result<Recording, Failure> {
        let sight = self.sight();
        let own = sight.i_record().then(|| self.node());
        let (mut failures, mut silent) = (Vec::new(), Vec::new());
        for node in own.into_iter().chain(sight.peers()) {
            let outcome = if node == self.node() {
                self.local.mark(request.clone()).await.map_err(PeerError::Refused)
            } else {
                self.peers.mark(node, request.clone(), MARK_WITHIN).await
            };
            match outcome {
                Ok(record) => return Ok(record),
                Err(PeerError::Refused(failure)) if failure.code != Code::NotFound => {
                    return Err(failure);
                }
                Err(PeerError::Refused(failure)) => failures.push(failure),
                Err(PeerError::NotAsked(_)) => silent.push(node),
                // A note that is written twice stays.
                Err(PeerError::Unanswered(failure)) => {
                    let message =
                        format!("{}; it may be written down all the same", failure.message);
                    return Err(Failure::new(failure.code, message));
                }
            }
        }
        Err(with_names(most_telling(failures), &sight.silent(silent)))
    }
}
