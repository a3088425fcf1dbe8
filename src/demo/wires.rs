//! Ways between members, and to an AES, that can be cut and stalled: TCP forwarders on loopback. A
//! stalled way is a network that drops packets: nothing comes through, nothing is closed. It knows
//! of the peers' protocol only who speaks first, because all members must name the same addresses.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use storage_core::NodeId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Longest first frame that is looked into.
const FIRST_FRAME_MAX: u32 = 256 * 1024;
const CHUNK: usize = 16 * 1024;

/// What becomes of bytes on a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// They pass.
    Open,
    /// Connections are closed, new ones too.
    Cut,
    /// They wait, and so does the end of a connection.
    Stalled,
}

type Ways = BTreeMap<(NodeId, NodeId), watch::Sender<Way>>;

/// The ways between all members, one for each direction. They end with it.
#[derive(Debug)]
pub struct Wires {
    ways: Arc<Ways>,
    tasks: Vec<JoinHandle<()>>,
}

impl Wires {
    /// Opens a door for each member: where the others find it, and where it really listens.
    ///
    /// # Errors
    /// If an address cannot be had.
    pub async fn open(doors: &BTreeMap<NodeId, (SocketAddr, SocketAddr)>) -> io::Result<Self> {
        let pairs = doors.keys().flat_map(|from| doors.keys().map(move |to| (*from, *to)));
        let ways: Ways = pairs.map(|pair| (pair, watch::channel(Way::Open).0)).collect();
        let ways = Arc::new(ways);
        let mut tasks = Vec::new();
        for (&member, &(door, real)) in doors {
            let listener = TcpListener::bind(door).await?;
            tasks.push(tokio::spawn(serve_door(listener, member, real, Arc::clone(&ways))));
        }
        Ok(Self { ways, tasks })
    }

    /// Changes all ways between this member and the others.
    pub fn isolate(&self, member: NodeId, way: Way) {
        self.set(|from, to| from == member || to == member, way);
    }

    /// Changes the ways that are meant.
    pub fn set(&self, meant: impl Fn(NodeId, NodeId) -> bool, way: Way) {
        for (_, state) in self.ways.iter().filter(|((from, to), _)| meant(*from, *to)) {
            state.send_replace(way);
        }
    }
}

impl Drop for Wires {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        self.set(|_, _| true, Way::Cut);
    }
}

/// One way to one server, both directions alike.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    state: watch::Sender<Way>,
    task: JoinHandle<()>,
}

impl Relay {
    /// A way to `server`, on a port of its own.
    ///
    /// # Errors
    /// If there is no port.
    pub async fn open(server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((server.ip(), 0)).await?;
        let address = listener.local_addr()?;
        let state = watch::channel(Way::Open).0;
        let way = state.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let ways = [way.subscribe(), way.subscribe()];
                tokio::spawn(carry(client, server, Vec::new(), ways));
            }
        });
        Ok(Self { address, state, task })
    }

    /// Where clients connect.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the way.
    pub fn set(&self, way: Way) {
        self.state.send_replace(way);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
        self.set(Way::Cut);
    }
}

async fn serve_door(listener: TcpListener, to: NodeId, real: SocketAddr, ways: Arc<Ways>) {
    while let Ok((mut client, _)) = listener.accept().await {
        let ways = Arc::clone(&ways);
        tokio::spawn(async move {
            let Ok((Some(from), first)) = first_words(&mut client).await else { return };
            let (Some(there), Some(back)) = (ways.get(&(from, to)), ways.get(&(to, from))) else {
                return;
            };
            carry(client, real, first, [there.subscribe(), back.subscribe()]).await;
        });
    }
}

/// Reads the first frame, which says who speaks: length of the rest, kind, hello.
async fn first_words(client: &mut TcpStream) -> io::Result<(Option<NodeId>, Vec<u8>)> {
    let mut frame = vec![0; 4];
    client.read_exact(&mut frame).await?;
    let length = u32::from_le_bytes([frame[0], frame[1], frame[2], frame[3]]);
    if !(1..=FIRST_FRAME_MAX).contains(&length) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    frame.resize(4 + length as usize, 0);
    client.read_exact(&mut frame[4..]).await?;
    Ok((cluster::speaker(&frame[5..]), frame))
}

/// Carries a connection on to where it goes. `ways` are there and back.
async fn carry(
    client: TcpStream,
    server: SocketAddr,
    first: Vec<u8>,
    ways: [watch::Receiver<Way>; 2],
) {
    let [mut there, back] = ways;
    if !opened(&mut there).await {
        return;
    }
    let Ok(server) = TcpStream::connect(server).await else {
        // Nobody listens there, and a reset is the nearest to being refused that is left.
        drop(client.set_zero_linger());
        return;
    };
    // A way without delay is what the members would have without us.
    if client.set_nodelay(true).is_err() || server.set_nodelay(true).is_err() {
        return;
    }
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    // Either end takes the other with it, as an end of the process would.
    tokio::select! {
        () = pump(client_reads, server_writes, first, there) => {}
        () = pump(server_reads, client_writes, Vec::new(), back) => {}
    }
}

/// Carries one direction until it ends or is cut.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut held: Vec<u8>,
    mut way: watch::Receiver<Way>,
) {
    let mut chunk = vec![0; CHUNK];
    loop {
        if !opened(&mut way).await {
            return;
        }
        if !held.is_empty() {
            if to.write_all(&held).await.is_err() {
                return;
            }
            held.clear();
        }
        tokio::select! {
            changed = way.changed() => if changed.is_err() { return },
            read = from.read(&mut chunk) => {
                let ends = !matches!(read, Ok(count) if count > 0);
                // What arrives in the moment of a change must not slip through.
                if ends && opened(&mut way).await {
                    return;
                }
                held.extend_from_slice(&chunk[..read.unwrap_or(0)]);
            }
        }
    }
}

/// Waits until the way is open; false if it is cut.
async fn opened(way: &mut watch::Receiver<Way>) -> bool {
    way.wait_for(|way| *way != Way::Stalled).await.is_ok_and(|way| *way == Way::Open)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cluster::{Group, GroupConfig};
    use cluster_core::{Health, Patience};
    use storage_core::Role;
    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);
    /// Long enough for a byte on loopback, which must not come.
    const NOT_YET: Duration = Duration::from_millis(200);

    async fn through_a_relay() -> (Relay, TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = Relay::open(listener.local_addr().unwrap()).await.unwrap();
        let client = TcpStream::connect(relay.address()).await.unwrap();
        let (server, _) = timeout(SOON, listener.accept()).await.unwrap().unwrap();
        (relay, client, server)
    }

    #[tokio::test]
    async fn a_stalled_way_keeps_bytes_and_ends_until_it_is_open_again() {
        let (relay, mut client, mut server) = through_a_relay().await;
        client.write_all(b"one").await.unwrap();
        let mut heard = [0; 3];
        timeout(SOON, server.read_exact(&mut heard)).await.unwrap().unwrap();
        relay.set(Way::Stalled);
        client.write_all(b"two").await.unwrap();
        drop(client);
        assert!(timeout(NOT_YET, server.read(&mut heard)).await.is_err());
        relay.set(Way::Open);
        timeout(SOON, server.read_exact(&mut heard)).await.unwrap().unwrap();
        assert_eq!(&heard, b"two");
        assert_eq!(timeout(SOON, server.read(&mut heard)).await.unwrap().unwrap(), 0);
    }

    #[tokio::test]
    async fn a_cut_way_closes_both_ends_and_new_connections() {
        let (relay, mut client, mut server) = through_a_relay().await;
        relay.set(Way::Cut);
        let mut heard = [0; 1];
        for stream in [&mut client, &mut server] {
            let read = timeout(SOON, stream.read(&mut heard)).await.unwrap();
            assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
        }
        let mut again = TcpStream::connect(relay.address()).await.unwrap();
        let read = timeout(SOON, again.read(&mut heard)).await.unwrap();
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }

    async fn member(
        folder: &std::path::Path,
        node: NodeId,
        role: Role,
        doors: &BTreeMap<NodeId, (SocketAddr, SocketAddr)>,
    ) -> Group {
        let config = GroupConfig {
            node,
            role,
            listen: doors[&node].1.to_string(),
            peers: doors.iter().map(|(id, (door, _))| (*id, door.to_string())).collect(),
            tls: None,
            heartbeat: Duration::from_millis(50),
            election: Duration::from_millis(300),
            dir: folder.join(node.to_string()),
            phantoms: vec![format!("78{node}01-78{node}50")],
            program: "test".to_owned(),
            patience: Patience::default(),
        };
        let group = Group::join(config).await.unwrap();
        drop(group.report_health(Health::GOOD, Duration::from_secs(60)));
        group
    }

    async fn soon(what: &str, holds: impl Fn() -> bool) {
        let look = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(SOON, look).await.unwrap_or_else(|_| panic!("not so: {what}"));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_member_behind_stalled_ways_is_alone_until_they_are_open() {
        let folder = tempfile::tempdir().unwrap();
        let ports: Vec<_> =
            (0..6).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let place = |index: usize| ports[index].local_addr().unwrap();
        let doors: BTreeMap<_, _> = (1_u16..=3)
            .map(|id| (NodeId(id), (place(usize::from(id) - 1), place(usize::from(id) + 2))))
            .collect();
        drop(ports);
        let wires = Wires::open(&doors).await.unwrap();
        let one = member(folder.path(), NodeId(1), Role::Active, &doors).await;
        let two = member(folder.path(), NodeId(2), Role::Backup, &doors).await;
        let three = member(folder.path(), NodeId(3), Role::Witness, &doors).await;
        soon("the active leads", || two.view().lead == Some(NodeId(1))).await;
        soon("all are well", || {
            let well =
                |id| two.view().member(NodeId(id)).and_then(|m| m.health) == Some(Health::GOOD);
            well(1) && well(2)
        })
        .await;
        wires.isolate(NodeId(1), Way::Stalled);
        soon("the backup leads", || three.view().lead == Some(NodeId(2))).await;
        soon("the active knows that it is alone", || !one.view().quorum).await;
        wires.isolate(NodeId(1), Way::Open);
        soon("the active hears of it", || one.view().quorum && one.view().lead == Some(NodeId(2)))
            .await;
    }

    #[tokio::test]
    async fn whoever_does_not_say_who_it_is_is_not_carried() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let real = listener.local_addr().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let door = port.local_addr().unwrap();
        drop(port);
        let _wires = Wires::open(&BTreeMap::from([(NodeId(1), (door, real))])).await.unwrap();
        for words in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x05\0\0\0\x01abcd"] {
            let mut client = TcpStream::connect(door).await.unwrap();
            client.write_all(words).await.unwrap();
            let read = timeout(SOON, client.read(&mut [0; 1])).await.unwrap();
            assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
        }
        assert!(timeout(NOT_YET, listener.accept()).await.is_err());
    }
}
