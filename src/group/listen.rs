//! Listening to a call, wherever in the group it is recorded: from this node, or streamed from the one that records
//! it. When that stops, because the node is gone or another has taken the call over, the listening goes on at whoever
//! records the call then; it ends when nobody does.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use recorder_core::media::playout::{Frame, from_bytes};
use storage_core::{NodeId, Ucid};
use tokio::time::{Instant, sleep, timeout};

use super::choose::{is_meant, names, recorders_of};
use super::{ANSWER_WITHIN, GroupBackend, LOOK_WITHIN};
use crate::peers::{PeerError, Stream};
use crate::web::backend::{Code, Failure, Heard, Hearing, Target, Unreachable};

/// Frames come all the time, silent ones, too: a node of which none comes for so long is given up.
const STALLED: Duration = Duration::from_millis(1_500);
/// Somebody takes over a call within this, or nobody does.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(10);
/// The same where all members answer, and none records the call.
const RECORDED_WITHIN: Duration = Duration::from_secs(2);
/// After so many frames without anything (3 s) it is looked whether the node still records the call.
const MUTE_FRAMES: u32 = 150;
/// Between two looks at who records the call.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// So many looks find no call before it is over.
const LOOKS: u32 = 2;

/// Where a call is heard.
enum Source {
    Here(BoxStream<'static, Heard>),
    There(Stream),
}

impl Source {
    /// The next frame; `None` when there are no more.
    async fn frame(&mut self) -> Option<Frame> {
        match self {
            Self::Here(sound) => loop {
                if let Heard::Frame(frame) = sound.next().await? {
                    return Some(frame);
                }
            },
            Self::There(stream) => from_bytes(&stream.piece().await.ok()??),
        }
    }
}

/// Why a call is not heard.
enum Nowhere {
    /// There is no such call.
    Over,
    /// Nobody says that he records it. Whoever does not answer may.
    Unrecorded { silent: Vec<Unreachable> },
    /// Whoever records it says no.
    Refused(Failure),
}

struct Listener {
    group: GroupBackend,
    ucid: Ucid,
    node: NodeId,
    source: Source,
    /// Frames in a row in which there is nothing at all.
    mute: u32,
}

impl GroupBackend {
    pub(super) async fn hear(self, ucid: Ucid) -> Result<Hearing, Failure> {
        let (node, source) = self.source(&ucid).await.map_err(Nowhere::into_failure)?;
        let listener = Listener { group: self, ucid, node, source, mute: 0 };
        let sound = stream::unfold(listener, Listener::next).boxed();
        Ok(Hearing { node, sound })
    }

    /// Who says that he records the call.
    async fn recorders(&self, ucid: &Ucid) -> Result<Vec<NodeId>, Nowhere> {
        let (sight, target) = (self.sight(), Target::Ucid(ucid.clone()));
        let (lists, silent) = self.calls_of_all(&sight, LOOK_WITHIN).await;
        let nodes: Vec<_> = recorders_of(&lists, &target).into_iter().collect();
        if !nodes.is_empty() {
            return Ok(nodes);
        }
        let is_known = lists.iter().flat_map(|(_, calls)| calls).any(|c| is_meant(c, &target));
        Err(if is_known || lists.is_empty() {
            Nowhere::Unrecorded { silent: sight.silent(silent) }
        } else {
            Nowhere::Over
        })
    }

    /// Whether the node may still record the call.
    async fn still_records(&self, node: NodeId, ucid: &Ucid) -> bool {
        match self.recorders(ucid).await {
            Ok(nodes) => nodes.contains(&node),
            Err(Nowhere::Unrecorded { silent }) => !silent.is_empty(),
            Err(_) => false,
        }
    }

    /// Who records the call, opened.
    async fn source(&self, ucid: &Ucid) -> Result<(NodeId, Source), Nowhere> {
        let mut nodes = self.recorders(ucid).await?;
        // What is heard here need not come over the network.
        nodes.sort_by_key(|node| *node != self.node());
        let mut why = Nowhere::Unrecorded { silent: Vec::new() };
        for node in nodes {
            let opened = if node == self.node() {
                self.local.listen(ucid).await.map(|hearing| Source::Here(hearing.sound))
            } else {
                let opened = self.peers.listen(node, ucid, ANSWER_WITHIN).await;
                opened.map(Source::There).map_err(PeerError::into_failure)
            };
            match opened {
                Ok(source) => return Ok((node, source)),
                Err(failure) => why = Nowhere::Refused(failure),
            }
        }
        Err(why)
    }

    /// Whoever records the call now; `None` if it is over, or nobody does.
    async fn elsewhere(&self, ucid: &Ucid) -> Option<(NodeId, Source)> {
        let (began, mut overs) = (Instant::now(), 0);
        loop {
            let limit = match self.source(ucid).await {
                Ok(found) => return Some(found),
                Err(Nowhere::Over) => {
                    overs += 1;
                    if overs >= LOOKS {
                        return None;
                    }
                    RECORDED_WITHIN
                }
                Err(Nowhere::Unrecorded { silent }) if silent.is_empty() => RECORDED_WITHIN,
                Err(Nowhere::Unrecorded { .. } | Nowhere::Refused(_)) => TAKEN_OVER_WITHIN,
            };
            if began.elapsed() > limit {
                return None;
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

impl Nowhere {
    fn into_failure(self) -> Failure {
        match self {
            Self::Over => Failure::new(Code::NoCall, "there is no such call"),
            Self::Refused(failure) => failure,
            Self::Unrecorded { silent } if silent.is_empty() => {
                let message = "nobody records this call; start a recording to listen to it";
                Failure::new(Code::Unavailable, message)
            }
            Self::Unrecorded { silent } => {
                let silent = names(&silent);
                let message =
                    format!("who records this call is not known; cannot be reached: {silent}");
                Failure::new(Code::Unavailable, message)
            }
        }
    }
}

impl Listener {
    /// False where nothing comes from a node that records the call no more.
    async fn is_worth_it(&mut self, frame: &Frame) -> bool {
        // Silence on the line is not this still.
        self.mute = if frame.iter().all(|sample| *sample == 0) { self.mute + 1 } else { 0 };
        if self.mute < MUTE_FRAMES {
            return true;
        }
        self.mute = 0;
        self.group.still_records(self.node, &self.ucid).await
    }

    async fn next(mut self) -> Option<(Heard, Self)> {
        loop {
            if let Ok(Some(frame)) = timeout(STALLED, self.source.frame()).await
                && self.is_worth_it(&frame).await
            {
                return Some((Heard::Frame(frame), self));
            }
            self.mute = 0;
            let before = self.node;
            (self.node, self.source) = self.group.elsewhere(&self.ucid).await?;
            if self.node != before {
                tracing::info!(from = %before, to = %self.node, "a call is listened to elsewhere");
                return Some((Heard::Moved(self.node), self));
            }
        }
    }
}
