//! What people write about a recording, in the whole group: one node that lists the recording writes it down, and
//! sees to it that the others do (`crate::marks`). Which node that is, is decided here.

use std::future::Future;
use std::time::Duration;

use storage_core::tombstone::Tombstone;
use storage_core::{NodeId, Recording};

use super::choose::most_telling;
use super::{GroupBackend, with_names};
use crate::deletion::refused;
use crate::peers::PeerError;
use crate::web::backend::{Code, DeleteRequest, Failure, HoldRequest, MarkRequest};

/// A peer's answer: its disk has to take it.
const MARK_WITHIN: Duration = Duration::from_secs(3);

impl GroupBackend {
    /// Tags and notes.
    pub(super) async fn mark_at_one(&self, request: MarkRequest) -> Result<Recording, Failure> {
        let own = || self.local.mark(request.clone());
        let at = |node| self.peers.mark(node, request.clone(), MARK_WITHIN);
        self.at_one(own, at).await
    }

    /// Legal hold.
    pub(super) async fn hold_at_one(&self, request: HoldRequest) -> Result<Recording, Failure> {
        let own = || self.local.hold(request.clone());
        let at = |node| self.peers.hold(node, request.clone(), MARK_WITHIN);
        self.at_one(own, at).await
    }

    /// A recording is deleted unless anybody who can be asked holds it.
    pub(super) async fn delete_at_one(&self, request: DeleteRequest) -> Result<Tombstone, Failure> {
        let (found, _) = self.records(&self.sight(), request.recording).await;
        if let Some((_, held)) = found.iter().find(|(_, held)| held.record.hold) {
            return Err(refused(&held.record));
        }
        let own = || self.local.delete(request.clone());
        let at = |node| self.peers.delete(node, request.clone(), MARK_WITHIN);
        self.at_one(own, at).await
    }

    /// One that lists the recording does it, this node first.
    async fn at_one<T, Own, At>(
        &self,
        here: impl Fn() -> Own,
        at: impl Fn(NodeId) -> At,
    ) -> Result<T, Failure>
    where
        Own: Future<Output = Result<T, Failure>>,
        At: Future<Output = Result<T, PeerError>>,
    {
        let sight = self.sight();
        let own = sight.i_record().then(|| self.node());
        let (mut failures, mut silent) = (Vec::new(), Vec::new());
        for node in own.into_iter().chain(sight.peers()) {
            let outcome = if node == self.node() {
                here().await.map_err(PeerError::Refused)
            } else {
                at(node).await
            };
            match outcome {
                Ok(done) => return Ok(done),
                Err(PeerError::Refused(failure)) if failure.code != Code::NotFound => {
                    return Err(failure);
                }
                Err(PeerError::Refused(failure)) => failures.push(failure),
                Err(PeerError::NotAsked(_)) => silent.push(node),
                // What is written twice stays.
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
