//! The audit logs of all members as one: each is asked for its lines, the witness too, because people can ask it.
//! Which of them make the page is `audit_pages`' matter.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;

use super::GroupBackend;
use crate::audit_pages::{Lines, Listing, Question, page};
use crate::web::backend::{Code, Failure};

/// A member's answer; it may read through a log of years.
const AUDIT_WITHIN: Duration = Duration::from_secs(10);

impl GroupBackend {
    /// A page of all that is told in time. Who does not tell keeps its place in the cursor.
    pub(super) async fn audit_of_all(self, question: Question) -> Result<Listing, Failure> {
        let sight = self.sight_of_all();
        let asked = self.ask_all(sight.peers(), |peers, node| {
            let (filter, place) = (question.filter.clone(), question.places.of(node));
            async move { peers.audit_lines(node, filter, place, question.limit, AUDIT_WITHIN).await }
        });
        let (own, asked) = tokio::join!(self.own_lines(&question), asked);
        let mut told = vec![(self.node(), own?)];
        let mut silent = Vec::new();
        for (node, answer) in asked {
            match answer {
                Ok(lines) if question.filter.is_kept_by(&lines) => told.push((node, lines)),
                Ok(_) => {
                    tracing::warn!(%node, "a member of an earlier version tells all of its audit log");
                    silent.push(node);
                }
                Err(error) => {
                    tracing::warn!(%node, ?error, "a member does not tell its audit log");
                    silent.push(node);
                }
            }
        }
        let page = page(&question.places, told, question.limit);
        Ok(Listing { node: self.node(), page, unreachable: sight.silent(silent) })
    }

    async fn own_lines(&self, question: &Question) -> Result<Lines, Failure> {
        let local = Arc::clone(&self.local);
        let (filter, limit) = (question.filter.clone(), question.limit);
        let place = question.places.of(self.node());
        let read = spawn_blocking(move || local.audit_lines(filter, place, limit)).await;
        let broken = |_| Failure::new(Code::Internal, "the audit log could not be read");
        read.map_err(broken)?
    }
}
