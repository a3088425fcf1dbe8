//! A door in front of a member through which its clock seems to be off: the answers to pings are told
//! another time. Frames as `cluster::frame` has them: length (4, little-endian), kind, payload.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// The answer to a ping: three times of 8 bytes, microseconds. The last two are the answering member's.
const PONG: u8 = 6;

/// Opens the door at `address`, in front of `member`.
pub async fn open(address: &str, member: String, ahead_us: i64) {
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let member = member.clone();
            tokio::spawn(async move {
                // Not up yet: the client is turned away, and comes again.
                let Ok(server) = TcpStream::connect(&member).await else { return };
                client.set_nodelay(true).unwrap();
                server.set_nodelay(true).unwrap();
                let (client_reads, client_writes) = client.into_split();
                let (server_reads, server_writes) = server.into_split();
                tokio::select! {
                    _ = carry(client_reads, server_writes, 0) => {}
                    _ = carry(server_reads, client_writes, ahead_us) => {}
                }
            });
        }
    });
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    ahead_us: i64,
) -> std::io::Result<()> {
    loop {
        let mut frame = vec![0; 4];
        from.read_exact(&mut frame).await?;
        let length = u32::from_le_bytes(frame[..4].try_into().unwrap());
        frame.resize(4 + length as usize, 0);
        from.read_exact(&mut frame[4..]).await?;
        if frame[4] == PONG {
            for time in frame[13..].chunks_exact_mut(8) {
                let told = i64::from_le_bytes((&*time).try_into().unwrap()) + ahead_us;
                time.copy_from_slice(&told.to_le_bytes());
            }
        }
        to.write_all(&frame).await?;
    }
}
