//! Of which recordings the nodes of a group have still to hear what people wrote: one empty file each,
//! below a folder for each node. Only the name counts; what is to be told is in the catalog and in the
//! record by then. Whom it is owed to, and when it is told, is not decided here.
//!
//! A file is removed only if nothing was owed anew since it was looked at: [`Mark`] tells.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use storage_core::naming::OWED_FOLDER;
use storage_core::{NodeId, RecordingId};

use crate::disk::{Disk, RealDisk};
use crate::voice_file::VoiceError;

/// The archive, to which deletions are owed like to a node. No member has this number.
pub const ARCHIVE: NodeId = NodeId(0);

/// A state of what is owed: another one when the same is owed anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(u64);

/// What is owed.
#[derive(Debug)]
pub struct Owed {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    owed: BTreeMap<(NodeId, RecordingId), u64>,
    count: u64,
}

impl Owed {
    /// What is owed by the node with this data folder.
    ///
    /// # Errors
    /// [`VoiceError::Io`]; so in all methods here.
    pub fn open(dir: &Path) -> Result<Self, VoiceError> {
        Self::open_on(RealDisk::shared(), dir)
    }

    /// The same on any disk.
    ///
    /// # Errors
    /// [`VoiceError::Io`].
    pub fn open_on(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, VoiceError> {
        let dir = dir.join(OWED_FOLDER);
        let failed = |error| VoiceError::io("cannot list", &dir, error);
        disk.make_folder(&dir).map_err(failed)?;
        let mut owed = BTreeMap::new();
        for node in disk.list(&dir).map_err(failed)? {
            let Ok(number) = node.name.parse() else { continue };
            for file in disk.list(&dir.join(&node.name)).map_err(failed)? {
                if let Ok(recording) = file.name.parse() {
                    owed.insert((NodeId(number), recording), 0);
                }
            }
        }
        Ok(Self { disk, dir, state: Mutex::new(State { owed, count: 0 }) })
    }

    /// These nodes are to hear of a recording. Durable when this returns.
    ///
    /// # Errors
    /// [`VoiceError::Io`].
    pub fn owe(
        &self,
        recording: RecordingId,
        nodes: impl IntoIterator<Item = NodeId>,
    ) -> Result<(), VoiceError> {
        let mut state = self.state();
        state.count += 1;
        let count = state.count;
        for node in nodes {
            if let Some(known) = state.owed.get_mut(&(node, recording)) {
                *known = count;
                continue;
            }
            let folder = self.dir.join(node.to_string());
            let path = folder.join(recording.to_string());
            let failed = |error| VoiceError::io("cannot write", &path, error);
            self.disk.make_folder(&folder).map_err(failed)?;
            self.disk.create(&path).and_then(|file| file.sync()).map_err(failed)?;
            self.disk.sync_folder(&folder).map_err(failed)?;
            state.owed.insert((node, recording), count);
        }
        Ok(())
    }

    /// What a node is to hear of.
    #[must_use]
    pub fn to(&self, node: NodeId) -> Vec<(RecordingId, Mark)> {
        let state = self.state();
        let owed = state.owed.iter().filter(|((to, _), _)| *to == node);
        owed.map(|((_, recording), count)| (*recording, Mark(*count))).collect()
    }

    /// Who has to hear of a recording.
    #[must_use]
    pub fn nodes_of(&self, recording: RecordingId) -> Vec<NodeId> {
        let state = self.state();
        let owed = state.owed.keys().filter(|(_, of)| *of == recording);
        owed.map(|(node, _)| *node).collect()
    }

    /// To whom anything is owed.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeId> {
        let mut nodes: Vec<_> = self.state().owed.keys().map(|(node, _)| *node).collect();
        nodes.dedup();
        nodes
    }

    /// A node has heard of a recording, as it was at this mark.
    ///
    /// # Errors
    /// [`VoiceError::Io`]; it is told once more.
    pub fn told(&self, node: NodeId, recording: RecordingId, mark: Mark) -> Result<(), VoiceError> {
        let mut state = self.state();
        if state.owed.get(&(node, recording)) != Some(&mark.0) {
            return Ok(());
        }
        let path = self.dir.join(node.to_string()).join(recording.to_string());
        match self.disk.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(VoiceError::io("cannot remove", &path, error));
            }
            // That it is gone need not last: telling it again does no harm.
            _ => drop(state.owed.remove(&(node, recording))),
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
