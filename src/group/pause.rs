//! Pausing a recording in the whole group: the node that is asked, or the first that knows the call, pauses it at once,
//! and all others are told. It is only a success when every node that may hear the call has said that
//! it hears it no more; whoever has not said so is named, and is told again until it has. What a pause does is the
//! call machine's matter.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use recorder::control_task::Control;
use recorder_core::call::{PauseDone, PauseWord};
use storage_core::NodeId;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::choose::{Sight, most_telling, names};
use super::{ANSWER_WITHIN, GroupBackend, with_names};
use crate::peers::{PeerError, Peers};
use crate::web::backend::{Code, Failure, PauseReply, PauseRequest};

/// A node's word that it discards what it hears.
const CONFIRMED_WITHIN: Duration = Duration::from_millis(1_200);
/// What is known of pauses is told to the others so often.
const TELL_EVERY: Duration = Duration::from_millis(500);
/// Their answer to that.
const TOLD_WITHIN: Duration = Duration::from_millis(400);

impl GroupBackend {
    /// Pauses or resumes, and says so when all have confirmed.
    pub(super) async fn pause(&self, request: PauseRequest) -> Result<PauseReply, Failure> {
        let sight = self.sight();
        let (at, done) = self.pause_at_one(&sight, &request).await?;
        let others = sight.peers().into_iter().filter(|node| *node != at).collect();
        let told = self.ask_all(others, |peers, node| {
            let words = done.words.clone();
            async move { peers.learn_pauses(node, words, CONFIRMED_WITHIN).await }
        });
        let own = async {
            if at == self.node() || !sight.i_record() {
                return Some(self.node());
            }
            let learned = self.local.learn_pauses(done.words.clone());
            let learned = timeout(CONFIRMED_WITHIN, learned).await;
            learned.is_ok_and(|learned| learned.is_ok()).then(|| self.node())
        };
        let (own, told) = tokio::join!(own, told);
        let confirmed = told.iter().filter(|(_, told)| told.is_ok()).map(|(node, _)| *node);
        let confirmed: Vec<NodeId> = confirmed.chain(own).chain([at]).collect();
        let unheard = done.hearers.iter().filter(|node| !confirmed.contains(node)).copied();
        let unheard: Vec<_> = unheard.map(|node| sight.name(node)).collect();
        if request.pause && !unheard.is_empty() {
            let message = format!(
                "paused on node {at}, but what follows does not answer and may go on hearing the call: {}; it \
                 is told as soon as it can be reached",
                names(&unheard)
            );
            return Err(Failure::new(Code::Unavailable, message));
        }
        Ok(PauseReply { recordingid: done.recording, pausedms: done.pausedms })
    }

    /// One that knows the call.
    async fn pause_at_one(
        &self,
        sight: &Sight,
        request: &PauseRequest,
    ) -> Result<(NodeId, PauseDone), Failure> {
        let (mut failures, mut silent) = (Vec::new(), Vec::new());
        let own = sight.i_record().then(|| self.node());
        for node in own.into_iter().chain(sight.peers()) {
            let outcome = if node == self.node() {
                self.local.pause_here(request.clone()).await.map_err(PeerError::Refused)
            } else {
                self.peers.pause(node, request.clone(), ANSWER_WITHIN).await
            };
            match outcome {
                Ok(done) => return Ok((node, done)),
                Err(error) if error.is_silence() => silent.push(node),
                Err(error) => failures.push(error.into_failure()),
            }
        }
        Err(with_names(most_telling(failures), &sight.silent(silent)))
    }
}

/// Tells the others what is known here of pauses, again and again while there is anything: a node that was away,
/// or has begun anew, must not hear what is not to be heard.
pub async fn spread(control: Arc<Control>, peers: Peers) {
    let mut beat = interval(TELL_EVERY);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        if control.view().pauses == 0 {
            continue;
        }
        let words = control.pauses().await;
        let view = peers.group().view();
        let others =
            view.members.iter().filter(|member| member.node != view.node && member.reachable);
        let told = others.map(|member| tell(&peers, member.node, words.clone()));
        join_all(told).await;
    }
}

async fn tell(peers: &Peers, node: NodeId, words: Vec<PauseWord>) {
    if let Err(error) = peers.learn_pauses(node, words, TOLD_WITHIN).await {
        tracing::debug!(%node, ?error, "a peer does not hear of pauses");
    }
}
