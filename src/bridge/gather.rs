//! Brings together what a voice file is to be made of: this node's journal, what is pulled from peers, and mirrors,
//! here or at a peer. It decides what of an order that cannot be had keeps the file from being made, and which
//! captures will have been looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use recorder::mirrored::MirroredCapture;
use recorder::pulled::{PulledCapture, PulledFolder};
use recorder::sealing::SealJob;
use storage_core::{NodeId, SegmentId};

use super::core::{MirroredPart, SealOrder};
use super::pull;
use crate::mirror::MirrorStore;
use crate::peers::Peers;

/// Where captures come from.
pub(super) struct Gathering {
    /// This node.
    pub(super) node: NodeId,
    /// The others.
    pub(super) peers: Peers,
    /// Where theirs are kept meanwhile.
    pub(super) folder: PulledFolder,
    /// What is kept here of theirs.
    pub(super) mirrors: Arc<MirrorStore>,
    /// By how much whose clock is ahead of ours, microseconds.
    pub(super) offsets: BTreeMap<NodeId, i64>,
    /// By how much each was ahead before clocks were set, and is now.
    pub(super) offsets_known: BTreeMap<NodeId, Vec<i64>>,
}

/// What came of it.
pub(super) enum Gathered {
    /// Everything that can be had now.
    Job(Box<SealJob>),
    /// There is nothing, and never will be, of these captures.
    Void(Vec<(NodeId, SegmentId)>),
    /// Nothing now.
    Nothing,
}

/// What was found so far.
#[derive(Default)]
struct Found {
    pulled: Vec<PulledCapture>,
    mirrored: Vec<MirroredCapture>,
    lacking: BTreeSet<NodeId>,
    void: Vec<(NodeId, SegmentId)>,
}

impl Gathering {
    /// Gathers for an order.
    pub(super) async fn gather(self, order: SealOrder) -> Gathered {
        let mut found = Found::default();
        let mut partial = order.partial;
        for (from, segments) in &order.remote {
            let offset = self.offset(*from);
            let (peers, folder) = (&self.peers, &self.folder);
            match pull::pull(peers, folder, *from, offset, order.recording, segments).await {
                Ok(Some(capture)) => found.pulled.push(capture),
                // It is still being captured there: the order comes again.
                Ok(None) => return Gathered::Nothing,
                Err(failure) => {
                    let recording = order.recording;
                    tracing::warn!(%recording, node = %from, %failure, "its part cannot be had now");
                    partial = true;
                    // A later revision is made when its node has more, and from that node alone.
                    if order.revision == 1
                        && let Some(capture) = self.mirrors.capture(*from, segments)
                    {
                        found.lacking.insert(*from);
                        found.mirrored.push(capture);
                    }
                }
            }
        }
        for ((owner, keeper), part) in &order.mirrored {
            self.take_mirrored(*owner, *keeper, part, &mut found).await;
        }
        let Found { pulled, mirrored, lacking, void } = found;
        let local: Vec<_> = order.local.into_iter().collect();
        if local.is_empty() && pulled.is_empty() && mirrored.is_empty() {
            return if void.is_empty() { Gathered::Nothing } else { Gathered::Void(void) };
        }
        Gathered::Job(Box::new(SealJob {
            recording: order.recording,
            revision: order.revision,
            node: self.node,
            copy: order.copy,
            local,
            pulled,
            mirrored,
            lacking,
            void,
            partial,
            offsets_known: self.offsets_known.clone(),
        }))
    }

    /// What a mirror has of a node that does not answer.
    async fn take_mirrored(
        &self,
        owner: NodeId,
        keeper: NodeId,
        part: &MirroredPart,
        found: &mut Found,
    ) {
        if keeper == self.node {
            found.mirrored.extend(self.mirrors.capture(owner, &part.segments));
        } else {
            let (offset, between) = (self.offset(keeper), (owner, keeper));
            let (peers, folder) = (&self.peers, &self.folder);
            match pull::pull_kept(peers, folder, between, offset, &part.segments).await {
                Ok(kept) => found.pulled.extend(kept),
                Err(failure) => {
                    tracing::warn!(node = %owner, %keeper, %failure, "its mirror cannot be had now");
                    return;
                }
            }
        }
        if part.left {
            found.void.extend(part.segments.iter().map(|segment| (owner, *segment)));
        } else {
            found.lacking.insert(owner);
        }
    }

    fn offset(&self, node: NodeId) -> i64 {
        self.offsets.get(&node).copied().unwrap_or(0)
    }
}
