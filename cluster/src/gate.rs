//! Who may talk to this member: every connection, in and out, passes here. It holds what a member
//! says about itself and what it knows of its peers' disks and processes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use storage_core::NodeId;

use crate::hello::{Hello, HelloError, Purpose, Stage, Welcome};
use crate::marker::{ClusterId, DiskId, Marker, MarkerError};

/// What this member says about itself, and what it has to say about others.
#[derive(Debug)]
struct Known {
    cluster: ClusterId,
    stage: Stage,
    removed: BTreeSet<NodeId>,
    /// Which process of each peer was heard last, and when.
    processes: BTreeMap<NodeId, (u64, Instant)>,
    marker: Marker,
    /// Why the marker could not be kept; a member in this state takes nobody new.
    failed: Option<MarkerError>,
}

/// The gate.
#[derive(Debug)]
pub(crate) struct Gate {
    node: NodeId,
    process: u64,
    address: String,
    disk: DiskId,
    /// Another process with a peer's number counts as a second one while the first was heard so
    /// recently.
    lively: Duration,
    known: Mutex<Known>,
}

impl Gate {
    pub(crate) fn new(
        node: NodeId,
        process: u64,
        address: String,
        lively: Duration,
        marker: Marker,
        cluster: ClusterId,
    ) -> Self {
        let disk = marker.disk();
        let known = Known {
            cluster,
            stage: Stage::Fresh,
            removed: BTreeSet::new(),
            processes: BTreeMap::new(),
            marker,
            failed: None,
        };
        Self { node, process, address, disk, lively, known: Mutex::new(known) }
    }

    /// This member is in the group from now on.
    pub(crate) fn join(&self, cluster: ClusterId, members: Vec<NodeId>) -> Result<(), MarkerError> {
        let mut known = self.known();
        if known.marker.cluster() != Some(cluster) {
            known.marker.join(cluster)?;
        }
        (known.cluster, known.stage) = (cluster, Stage::Member(members));
        Ok(())
    }

    /// The members changed.
    pub(crate) fn regroup(&self, members: Vec<NodeId>, removed: BTreeSet<NodeId>) {
        let mut known = self.known();
        known.stage = Stage::Member(members);
        known.removed = removed;
    }

    pub(crate) fn hello(&self, to: NodeId, purpose: Purpose) -> Hello {
        let known = self.known();
        Hello {
            purpose,
            from: self.node,
            to,
            cluster: known.cluster,
            disk: self.disk,
            process: self.process,
            stage: known.stage.clone(),
            address: self.address.clone(),
        }
    }

    /// Judges who came in. `certificate` says whether the certificate names that member; absent
    /// without TLS.
    pub(crate) fn admit(
        &self,
        hello: &Hello,
        certificate: Option<bool>,
    ) -> Result<Welcome, HelloError> {
        if hello.to != self.node {
            return Err(HelloError::Astray { meant: hello.to, own: self.node });
        }
        if certificate == Some(false) {
            return Err(HelloError::OtherCertificate { node: hello.from });
        }
        if hello.from == self.node {
            return Err(HelloError::Duplicate { node: self.node });
        }
        let mut known = self.known();
        known.check(hello.from, hello.cluster, hello.disk, &hello.stage)?;
        if hello.purpose == Purpose::Link {
            let now = Instant::now();
            if let Some((process, heard)) = known.processes.get(&hello.from)
                && *process != hello.process
                && now.duration_since(*heard) < self.lively
            {
                return Err(HelloError::Duplicate { node: hello.from });
            }
            known.processes.insert(hello.from, (hello.process, now));
        }
        let stage = known.stage.clone();
        Ok(Welcome { cluster: known.cluster, disk: self.disk, stage })
    }

    /// Judges who answered.
    pub(crate) fn accept(&self, peer: NodeId, welcome: &Welcome) -> Result<(), HelloError> {
        self.known().check(peer, welcome.cluster, welcome.disk, &welcome.stage)
    }

    /// A process was heard; see [`Gate::admit`]. False if it is not to be heard any more: it is
    /// told why when it comes again.
    pub(crate) fn heard(&self, peer: NodeId, process: u64) -> bool {
        let mut known = self.known();
        known.processes.insert(peer, (process, Instant::now()));
        !known.removed.contains(&peer)
    }

    /// A process closed its connection: the next one with its number is its successor.
    pub(crate) fn gone(&self, peer: NodeId, process: u64) {
        let mut known = self.known();
        if known.processes.get(&peer).is_some_and(|(last, _)| *last == process) {
            known.processes.remove(&peer);
        }
    }

    /// Why the mark on the disk could not be kept, if so.
    pub(crate) fn take_failure(&self) -> Option<MarkerError> {
        self.known().failed.take()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing is left half-done where this is held, so a poisoned lock is as good.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn check(
        &mut self,
        peer: NodeId,
        cluster: ClusterId,
        disk: DiskId,
        stage: &Stage,
    ) -> Result<(), HelloError> {
        // A member that is not in a group yet takes over the group's name from one that is.
        let joining = matches!((&self.stage, stage), (Stage::Fresh, Stage::Member(_)))
            || matches!((&self.stage, stage), (Stage::Member(_), Stage::Fresh));
        if cluster != self.cluster && !joining {
            return Err(HelloError::OtherCluster { theirs: cluster, ours: self.cluster });
        }
        if self.removed.contains(&peer) {
            return Err(HelloError::Removed { node: peer });
        }
        match self.marker.know(peer, disk) {
            Ok(true) => Ok(()),
            Ok(false) => Err(HelloError::OtherDisk { node: peer }),
            Err(error) => {
                self.failed = Some(error);
                Err(HelloError::Malformed)
            }
        }
    }
}
