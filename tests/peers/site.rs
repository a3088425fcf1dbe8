//! Nodes of one group in one process: real groups over sockets on loopback, made-up nodes behind.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use astlogger::group::GroupBackend;
use astlogger::peers::{PeerService, serve};
use astlogger::web::backend::{Backend, Failure};
use cluster::{Group, GroupConfig};
use cluster_core::{Health, Patience};
use storage_core::{NodeId, Role};

use super::node::FakeNode;

/// One member, and what people ask.
pub struct Member {
    pub group: Group,
    pub node: Arc<FakeNode>,
    pub backend: Arc<GroupBackend>,
}

impl Member {
    /// A question that blocks, as the web server asks it.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&GroupBackend) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let backend = Arc::clone(&self.backend);
        within(tokio::task::spawn_blocking(move || question(&backend))).await.unwrap()
    }
}

pub struct Site {
    folder: tempfile::TempDir,
    peers: BTreeMap<NodeId, String>,
}

impl Site {
    /// Each test has loopback addresses of its own, so that none waits for another's ports.
    fn new(members: u16) -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let [.., a, b] = std::process::id().to_be_bytes();
        let c = NEXT.fetch_add(1, Ordering::Relaxed);
        let address = |n: u16| format!("127.{}.{}.{}:{}", a.max(1), b, c, 17_500 + n);
        let peers = (1..=members).map(|n| (NodeId(n), address(n))).collect();
        Self { folder: tempfile::tempdir().unwrap(), peers }
    }

    /// A member behind which nobody answers yet.
    pub async fn join(&self, number: u16, role: Role) -> Group {
        let node = NodeId(number);
        let config = GroupConfig {
            node,
            role,
            listen: self.peers[&node].clone(),
            peers: self.peers.clone(),
            tls: None,
            heartbeat: Duration::from_millis(50),
            election: Duration::from_millis(300),
            dir: self.folder.path().join(format!("node-{number}")),
            phantoms: Vec::new(),
            program: "test".to_owned(),
            patience: Patience { proving: Duration::from_millis(800), ..Patience::default() },
        };
        let group = Group::join(config).await.unwrap();
        drop(group.report_health(Health::GOOD, Duration::from_secs(60)));
        group
    }

    async fn start(&self, number: u16, role: Role) -> Member {
        let group = self.join(number, role).await;
        let node = FakeNode::new(NodeId(number));
        let service: Arc<dyn PeerService> = node.clone();
        let members = self.peers.keys().copied();
        let backend = GroupBackend::new(Arc::clone(&service), group.clone(), role, members);
        assert!(serve(&group, &service));
        Member { group, node, backend: Arc::new(backend) }
    }

    /// Node 1 is active and leads, node 2 is of the role given, node 3 is the witness.
    pub async fn of_three(second: Role) -> (Self, [Member; 3]) {
        let site = Self::new(3);
        let members = [
            site.start(1, Role::Active).await,
            site.start(2, second).await,
            site.start(3, Role::Witness).await,
        ];
        for member in &members {
            until("the active leads and all are in sight", || {
                let view = member.group.view();
                let seen =
                    |n| view.member(NodeId(n)).is_some_and(|m| m.reachable && m.role.is_some());
                let fit = |n| view.member(NodeId(n)).and_then(|m| m.health) == Some(Health::GOOD);
                view.lead == Some(NodeId(1)) && (1..=3).all(seen) && fit(1) && fit(2)
            })
            .await;
        }
        (site, members)
    }
}

/// Waits until the member has lost sight of these.
pub async fn loses(member: &Member, nodes: &[u16]) {
    until("the members that ended are missed", || {
        let view = member.group.view();
        nodes.iter().all(|n| view.member(NodeId(*n)).is_some_and(|member| !member.reachable))
    })
    .await;
}

pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(15), "not within 15 s: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The future's value, or a failed test after 20 seconds.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(Duration::from_secs(20), future).await;
    waited.expect("nothing happened for 20 s")
}

/// Whether the member answers as before.
pub async fn is_well(member: &Member) {
    let listing = member.ask(|backend| backend.search(&Default::default())).await.unwrap();
    assert_eq!(listing.unreachable, []);
}
