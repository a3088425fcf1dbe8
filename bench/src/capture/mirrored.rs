//! A mirror of what the recorder captures, as in a group: the recorder's process gives it over a link with
//! mutual TLS, the generator's process keeps it on its disk. So what giving costs is in the recorder's
//! processor time, and what keeping costs is not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use astlogger::mirror::Outlet;
use astlogger::peers::Peers;
use astlogger::peers::protocol::{Ask, MirrorHead, decode_ask, encode_answer};
use cluster::{Group, GroupConfig, TlsFiles, identity};
use cluster_core::Patience;
use recorder::clock::Clock;
use recorder::mirror_keeper::{KeeperConfig, MirrorKeeper};
use storage::disk::RealDisk;
use storage::{JournalReader, Keys};
use storage_core::journal::Place;
use storage_core::{NodeId, Role};
use tokio::runtime::{Builder, Runtime};

/// The recorder, and the one that mirrors it.
const OWNER: NodeId = NodeId(1);
const KEEPER: NodeId = NodeId(2);
/// Within this they have found each other.
const PATIENCE: Duration = Duration::from_secs(20);
const ASK_WITHIN: Duration = Duration::from_secs(3);
const PORT: u16 = 17_600;

/// Certificates for both, below a folder.
pub fn certify(folder: &Path) -> Result<()> {
    let members = [OWNER, KEEPER].map(|node| (node, "127.0.0.1".to_owned()));
    identity::init(&pki(folder), &members, 7, Clock::wall())?;
    Ok(())
}

fn pki(folder: &Path) -> PathBuf {
    folder.join("pki")
}

/// Joins the group of the two as one of them.
async fn join(folder: &Path, node: NodeId) -> Result<Group> {
    let address = |node: NodeId| (node, format!("127.0.0.1:{}", PORT + node.0));
    let peers: BTreeMap<_, _> = [OWNER, KEEPER].map(address).into();
    let pki = pki(folder);
    let group = Group::join(GroupConfig {
        node,
        role: if node == OWNER { Role::Active } else { Role::Backup },
        listen: peers[&node].clone(),
        peers,
        tls: Some(TlsFiles {
            certificate: pki.join(format!("node-{node}.pem")),
            key: pki.join(format!("node-{node}.key")),
            authority: pki.join("ca.pem"),
        }),
        heartbeat: Duration::from_millis(50),
        election: Duration::from_millis(300),
        dir: folder.join(format!("group-{node}")),
        phantoms: Vec::new(),
        program: "bench".to_owned(),
        patience: Patience::default(),
    });
    Ok(group.await?)
}

/// The recorder's end, for as long as this lives.
pub struct Given {
    _runtime: Runtime,
    _group: Group,
}

/// Gives what is captured to whoever asks.
pub fn give(folder: &Path, journal: JournalReader) -> Result<Given> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let group = runtime.block_on(join(folder, OWNER))?;
    let lag_max = Duration::from_millis(300);
    let outlet = Arc::new(Outlet::new(OWNER, journal, Clock::start(), lag_max));
    group.set_request_handler(move |from, request, mut reply| {
        let outlet = Arc::clone(&outlet);
        async move {
            let Ok(Ask::Mirror { has }) = decode_ask(&request) else { return };
            let has = has.map(|has| (has.journal, Place { file: has.file, offset: has.offset }));
            let head = encode_answer(Ok(MirrorHead { journal: outlet.journal() }));
            if let Ok(head) = head
                && reply.send(&head).await.is_ok()
            {
                // It ends when the mirror has gone.
                drop(outlet.feed(from, has).run(reply).await);
            }
        }
    });
    Ok(Given { _runtime: runtime, _group: group })
}

/// The other member's end, for as long as this lives.
pub struct Other {
    runtime: Runtime,
    /// Present if it mirrors.
    keeper: Option<Arc<MirrorKeeper>>,
    _group: Group,
}

/// Is in the group, and mirrors nothing: what the group itself costs.
pub fn stand_by(folder: &Path) -> Result<Other> {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let group = runtime.block_on(async {
        let group = join(folder, KEEPER).await?;
        let begun = Instant::now();
        while !group.view().quorum {
            ensure!(begun.elapsed() < PATIENCE, "the two do not find each other");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::Ok(group)
    })?;
    Ok(Other { runtime, keeper: None, _group: group })
}

/// Keeps what the recorder gives, from now on.
pub fn keep(folder: &Path, sync_ms: u64) -> Result<Other> {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let keeper = Arc::new(MirrorKeeper::spawn(KeeperConfig {
        disk: RealDisk::shared(),
        folder: folder.join("mirror"),
        node: OWNER,
        keys: Keys::default(),
        sync_ms,
    })?);
    let (group, mut stream) = runtime.block_on(async {
        let group = join(folder, KEEPER).await?;
        let peers = Peers::new(group.clone());
        let begun = Instant::now();
        loop {
            match peers.mirror(OWNER, None, ASK_WITHIN).await {
                Ok((journal, stream)) => {
                    keeper.begin(journal).await?;
                    return anyhow::Ok((group, stream));
                }
                Err(error) => ensure!(begun.elapsed() < PATIENCE, "no mirror: {error:?}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })?;
    let taking = Arc::clone(&keeper);
    runtime.spawn(async move {
        while let Ok(Some(piece)) = stream.piece().await {
            if let Ok(Some(mark)) = taking.take(piece, 0).await {
                // The recorder's process has ended, most likely.
                drop(stream.tell(&mark.taken.encode()).await);
            }
        }
    });
    Ok(Other { runtime, keeper: Some(keeper), _group: group })
}

impl Other {
    /// Ends, and tells how many recordings are kept.
    pub fn stop(self) -> Result<usize> {
        let Self { runtime, keeper, _group } = self;
        runtime.shutdown_timeout(Duration::from_secs(1));
        let Some(keeper) = keeper else { return Ok(0) };
        let recordings = keeper.reader().open_recordings().len();
        Arc::try_unwrap(keeper).ok().context("somebody still keeps")?.stop();
        Ok(recordings)
    }
}
