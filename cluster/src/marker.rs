//! The mark on this member's disk: which group it belongs to, under which number, which start
//! this is, and which disks its peers have shown. It is what tells a new member from an old one
//! whose disk was emptied: such a one would vote against its own word.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use storage::disk::{self, Disk};
use storage_core::NodeId;

use crate::frame_file::{frame, scan};

const VERSION: u8 = 1;
const NAME: &str = "member";
const BYTES_MAX: usize = 1024 * 1024;

/// Names a group: no two groups have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ClusterId(pub [u8; 16]);

/// Names a disk: made when a member first starts, gone when the disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct DiskId(pub(crate) [u8; 16]);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why the mark cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MarkerError {
    /// The disk refused.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// It is not what was written.
    #[error(
        "{} is damaged: remove this node from the group on another node's console (remove \
         member), empty the folder, and add it again under a number that was never used",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// Another member's folder.
    #[error("{} belongs to node {found}, al_nodeid is {configured}: set al_nodeid or al_datadir right", path.display())]
    OtherNode {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: NodeId,
        /// Who starts.
        configured: NodeId,
    },
    /// There is a log and no mark.
    #[error(
        "{} is missing beside the group's log: put it back from where it was, or remove this node \
         from the group, empty the folder, and add it again under a number that was never used",
        path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// There is a mark and no log.
    #[error(
        "the group's log is missing beside {}: this member would forget its votes. Remove it from \
         the group on another node's console (remove member), empty the folder, and add it again \
         under a number that was never used",
        path.display()
    )]
    LogMissing {
        /// The file.
        path: PathBuf,
    },
    /// The machine gives no random numbers.
    #[error("the machine gives no random numbers")]
    Random,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Content {
    node: NodeId,
    disk: DiskId,
    boot: u64,
    /// Set once the member is in a group and has a log.
    cluster: Option<ClusterId>,
    peers: BTreeMap<NodeId, DiskId>,
}

/// The mark, as it lies on the disk.
#[derive(Debug)]
pub(crate) struct Marker {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    content: Content,
}

impl Marker {
    /// Reads the mark, or makes it where there is none and no log either; counts this start.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        folder: &Path,
        node: NodeId,
        has_log: bool,
    ) -> Result<Self, MarkerError> {
        let path = folder.join(NAME);
        let content = match disk::read_whole(&*disk, &path, BYTES_MAX) {
            Ok(bytes) => {
                parse(&bytes).ok_or_else(|| MarkerError::Damaged { path: path.clone() })?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if has_log {
                    return Err(MarkerError::Missing { path });
                }
                let disk = DiskId(random()?);
                Content { node, disk, boot: 0, cluster: None, peers: BTreeMap::new() }
            }
            Err(source) => return Err(MarkerError::Io { doing: "read", path, source }),
        };
        if content.node != node {
            return Err(MarkerError::OtherNode { path, found: content.node, configured: node });
        }
        if content.cluster.is_some() && !has_log {
            return Err(MarkerError::LogMissing { path });
        }
        let mut marker = Self { disk, path, content };
        marker.content.boot += 1;
        marker.save()?;
        Ok(marker)
    }

    pub(crate) const fn disk(&self) -> DiskId {
        self.content.disk
    }

    pub(crate) const fn boot(&self) -> u64 {
        self.content.boot
    }

    pub(crate) const fn cluster(&self) -> Option<ClusterId> {
        self.content.cluster
    }

    /// The member is in a group from now on.
    pub(crate) fn join(&mut self, cluster: ClusterId) -> Result<(), MarkerError> {
        self.content.cluster = Some(cluster);
        self.save()
    }

    /// Notes a peer's disk. The first one counts; false if this is another.
    pub(crate) fn know(&mut self, peer: NodeId, disk: DiskId) -> Result<bool, MarkerError> {
        match self.content.peers.get(&peer) {
            Some(known) => Ok(*known == disk),
            None => {
                self.content.peers.insert(peer, disk);
                self.save()?;
                Ok(true)
            }
        }
    }

    fn save(&self) -> Result<(), MarkerError> {
        let failed =
            |doing| move |source| MarkerError::Io { doing, path: self.path.clone(), source };
        // Numbers and bytes only: there is nothing in it that postcard cannot write.
        let payload = postcard::to_extend(&self.content, vec![VERSION]).expect("a plain form");
        let unfinished = self.path.with_extension("new");
        let file = self.disk.create(&unfinished).map_err(failed("make"))?;
        disk::write_all_at(&*file, &frame(&payload), 0)
            .map_err(|(_, source)| failed("write")(source))?;
        file.sync().map_err(failed("sync"))?;
        self.disk.rename(&unfinished, &self.path).map_err(failed("name"))?;
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        self.disk.sync_folder(folder).map_err(failed("sync the folder of"))
    }
}

fn parse(bytes: &[u8]) -> Option<Content> {
    match scan(bytes).payloads.first()?.split_first()? {
        (&VERSION, rest) => postcard::from_bytes(rest).ok(),
        _ => None,
    }
}

/// Random bytes from the machine.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], MarkerError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| MarkerError::Random)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use storage::testing::FaultDisk;

    use super::*;

    #[test]
    fn starts_are_counted_and_peers_disks_remembered() {
        let disk = FaultDisk::new();
        let folder = Path::new("/group");
        disk.shared().make_folder(folder).unwrap();
        let open = |has_log| Marker::open(disk.shared(), folder, NodeId(1), has_log);
        let mut marker = open(false).unwrap();
        assert_eq!((marker.boot(), marker.cluster()), (1, None));
        assert!(marker.know(NodeId(2), DiskId([1; 16])).unwrap());
        marker.join(ClusterId([9; 16])).unwrap();
        let mut again = open(true).unwrap();
        assert_eq!((again.boot(), again.disk()), (2, marker.disk()));
        assert!(again.know(NodeId(2), DiskId([1; 16])).unwrap());
        assert!(!again.know(NodeId(2), DiskId([2; 16])).unwrap());
        assert!(matches!(open(false), Err(MarkerError::LogMissing { .. })));
        let other = Marker::open(disk.shared(), folder, NodeId(3), true);
        assert!(matches!(other, Err(MarkerError::OtherNode { .. })));
        disk.shared().remove(&folder.join(NAME)).unwrap();
        assert!(matches!(open(true), Err(MarkerError::Missing { .. })));
    }
}
