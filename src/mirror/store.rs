//! The mirrors that this node keeps, by whose captures they are. It decides when a recording in them is
//! forgotten; whose captures are fetched is decided elsewhere.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cluster_core::State;
use recorder::mirror_keeper::{KeeperConfig, MirrorKeeper, folder};
use recorder::mirrored::MirroredCapture;
use storage::disk::RealDisk;
use storage::{JournalError, Keys};
use storage_core::naming::MIRROR_FOLDER;
use storage_core::{NodeId, RecordingId, SegmentId};

use super::forget::Needs;
use crate::bridge::core::{Mirrors, is_unclaimed};
use crate::bridge::words::{self, Outline};

/// The mirrors.
pub struct MirrorStore {
    datadir: PathBuf,
    keys: Keys,
    sync_ms: u64,
    kept: Mutex<BTreeMap<NodeId, Arc<MirrorKeeper>>>,
}

impl MirrorStore {
    /// Opens all mirrors below a data folder, and tells which cannot be opened, and why. Their recordings
    /// are not lost, and this node does without them.
    #[must_use]
    pub fn open(datadir: PathBuf, keys: Keys, sync_ms: u64) -> (Self, Vec<(NodeId, JournalError)>) {
        let store = Self { datadir, keys, sync_ms, kept: Mutex::default() };
        let listed = std::fs::read_dir(store.datadir.join(MIRROR_FOLDER));
        let names = listed.into_iter().flatten().flatten().map(|entry| entry.file_name());
        let nodes = names.filter_map(|name| name.to_str()?.parse().ok().map(NodeId));
        let nodes: Vec<NodeId> = nodes.collect();
        let mut broken = Vec::new();
        for node in nodes {
            if let Err(error) = store.keeper(node) {
                broken.push((node, error));
            }
        }
        (store, broken)
    }

    /// Who keeps what a node captures; begun if there was none.
    ///
    /// # Errors
    /// [`JournalError`] if the mirror cannot be opened.
    pub fn keeper(&self, node: NodeId) -> Result<Arc<MirrorKeeper>, JournalError> {
        let mut kept = self.kept();
        if let Some(keeper) = kept.get(&node) {
            return Ok(Arc::clone(keeper));
        }
        let keeper = Arc::new(MirrorKeeper::spawn(KeeperConfig {
            disk: RealDisk::shared(),
            folder: folder(&self.datadir, node),
            node,
            keys: self.keys.clone(),
            sync_ms: self.sync_ms,
        })?);
        kept.insert(node, Arc::clone(&keeper));
        Ok(keeper)
    }

    /// What is kept of a node's captures, for the sealer; `None` if nothing of these is.
    #[must_use]
    pub fn capture(&self, node: NodeId, segments: &[SegmentId]) -> Option<MirroredCapture> {
        let keeper = self.kept().get(&node).cloned()?;
        let (offset, mirror) = (keeper.clock_offset_us(), keeper.reader().clone());
        MirroredCapture::of(node, offset, mirror, segments)
    }

    /// How many recordings are kept for each node.
    #[must_use]
    pub fn recordings(&self) -> Vec<(NodeId, usize)> {
        let kept = self.kept();
        kept.iter().map(|(node, keeper)| (*node, keeper.reader().open_recordings().len())).collect()
    }

    /// Recordings of nodes that do not answer, with captures that the group has never heard of.
    #[must_use]
    pub fn unclaimed(&self, state: &State) -> Vec<(NodeId, RecordingId)> {
        let keepers: Vec<_> = self.kept().values().cloned().collect();
        let up = state.present().up;
        let mut found = Vec::new();
        for keeper in keepers.iter().filter(|keeper| !up.contains(&keeper.node())) {
            let (owner, mirror) = (keeper.node(), keeper.reader());
            let unclaimed = |segment: &SegmentId| is_unclaimed(state, owner, *segment);
            let open = mirror.open_recordings().into_iter();
            let open = open.filter(|id| mirror.heard(*id).iter().any(unclaimed));
            found.extend(open.map(|id| (owner, id)));
        }
        found
    }

    /// What is kept of a recording of a node, as that node would claim it.
    ///
    /// # Errors
    /// If nothing of it is kept any more, or the mirror cannot be read.
    pub fn outline(&self, owner: NodeId, recording: RecordingId) -> Result<Outline, JournalError> {
        let keeper = self.keeper(owner)?;
        words::read_outline(keeper.reader(), owner, recording)
    }

    /// Forgets what the group needs no more.
    pub fn forget_needless(&self, state: &State) {
        let keepers: Vec<_> = self.kept().values().cloned().collect();
        for keeper in keepers {
            let mirror = keeper.reader();
            let open = mirror.open_recordings();
            if open.is_empty() {
                continue;
            }
            let needs = Needs::of(state, keeper.node());
            let needless = open.into_iter().filter(|id| needs.needless(&mirror.heard(*id)));
            let needless: Vec<_> = needless.collect();
            if !needless.is_empty() {
                keeper.forget(needless);
            }
        }
    }

    /// Ends all threads. Blocks for as long as the disk takes.
    pub fn stop(&self) {
        for (_, keeper) in std::mem::take(&mut *self.kept()) {
            // Whoever still fetches has been ended before; a reader that lasts keeps no thread.
            if let Ok(keeper) = Arc::try_unwrap(keeper) {
                keeper.stop();
            }
        }
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<NodeId, Arc<MirrorKeeper>>> {
        // What is done under the lock leaves no half-way state behind.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mirrors for MirrorStore {
    fn holds(&self, node: NodeId, segment: SegmentId) -> bool {
        self.kept().get(&node).is_some_and(|keeper| keeper.reader().is_heard(segment))
    }
}
