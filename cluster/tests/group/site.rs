//! Members of one group in one process, over real sockets on loopback, with real files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use cluster::{Group, GroupConfig, TlsFiles, identity};
use cluster_core::{Health, Patience};
use storage_core::{NodeId, Role, WallTime};

/// A group that is being tested.
pub struct Site {
    folder: PathBuf,
    /// Removed with the site, by whoever made it.
    _made: Option<tempfile::TempDir>,
    pub peers: BTreeMap<NodeId, String>,
    /// Where a member listens, if not where the others find it.
    pub listen: BTreeMap<NodeId, String>,
    pub tls: bool,
}

impl Site {
    /// Each test has loopback addresses of its own, so that none waits for another's ports.
    pub fn new(members: u16, tls: bool) -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let folder = tempfile::tempdir().unwrap();
        let [.., a, b] = std::process::id().to_be_bytes();
        let c = NEXT.fetch_add(1, Ordering::Relaxed);
        let address = |n: u16| format!("127.{}.{}.{}:{}", a.max(1), b, c, 17_400 + n);
        let peers: BTreeMap<_, _> = (1..=members).map(|n| (NodeId(n), address(n))).collect();
        if tls {
            certify(&folder.path().join("pki"), members);
        }
        let listen = BTreeMap::new();
        Self { folder: folder.path().to_owned(), _made: Some(folder), peers, listen, tls }
    }

    /// A site that somebody else has made.
    pub fn of(folder: &Path, peers: BTreeMap<NodeId, String>) -> Self {
        let (folder, listen) = (folder.to_owned(), BTreeMap::new());
        Self { folder, _made: None, peers, listen, tls: false }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn config(&self, node: u16, role: Role) -> GroupConfig {
        let node = NodeId(node);
        GroupConfig {
            node,
            role,
            listen: self.listen.get(&node).unwrap_or(&self.peers[&node]).clone(),
            peers: self.peers.clone(),
            tls: self.tls.then(|| files(&self.folder.join("pki"), node)),
            heartbeat: Duration::from_millis(50),
            election: Duration::from_millis(300),
            dir: self.dir(node),
            phantoms: vec![format!("78{node}01-78{node}50")],
            program: "test".to_owned(),
            patience: Patience { proving: Duration::from_millis(800), ..Patience::default() },
        }
    }

    pub fn dir(&self, node: NodeId) -> PathBuf {
        self.folder.join(format!("node-{node}"))
    }

    pub async fn start(&self, node: u16, role: Role) -> Group {
        let group = Group::join(self.config(node, role)).await.unwrap();
        let told = group.report_health(Health::GOOD, Duration::from_secs(60));
        drop(told);
        group
    }

    /// Active, backup, witness; the active leads.
    pub async fn hot_standby(&self) -> [Group; 3] {
        let groups = [
            self.start(1, Role::Active).await,
            self.start(2, Role::Backup).await,
            self.start(3, Role::Witness).await,
        ];
        for group in &groups {
            until("the active leads, healthy", || {
                let view = group.view();
                let fit = |n| view.member(NodeId(n)).and_then(|m| m.health) == Some(Health::GOOD);
                view.lead == Some(NodeId(1)) && fit(1) && fit(2) && view.leader != view.lead
            })
            .await;
        }
        groups
    }
}

pub fn certify(folder: &Path, members: u16) {
    let members: Vec<_> = (1..=members).map(|n| (NodeId(n), "127.0.0.1".to_owned())).collect();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = WallTime::from_millis(i64::try_from(now.as_millis()).unwrap());
    identity::init(folder, &members, 365, now).unwrap();
}

pub fn files(folder: &Path, node: NodeId) -> TlsFiles {
    TlsFiles {
        certificate: folder.join(format!("node-{node}.pem")),
        key: folder.join(format!("node-{node}.key")),
        authority: folder.join("ca.pem"),
    }
}

/// Waits for a condition, and tells how long it took.
pub async fn until(what: &str, condition: impl Fn() -> bool) -> Duration {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(15), "not within 15 s: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    began.elapsed()
}
