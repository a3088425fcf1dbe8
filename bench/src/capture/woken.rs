//! Receivers that are woken by what comes, instead of looking for it on a beat: what the recorder could
//! have been. One thread, one file of all streams, written to after each wake-up; nothing else is
//! done, as in the sweep. A receiver on io_uring is not among them: its ring cannot be had without
//! `unsafe`.

use std::fs::File;
use std::io::{self, Write};
use std::net::{SocketAddrV4, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{MsgFlags, setsockopt, sockopt};

use super::batch::{BATCH, Batch};
use super::receiver::{Kept, Receiver};
use crate::facts;

/// How soon it notices that it shall stop.
const NAP_MS: u16 = 50;
/// Sockets that one wake-up tells of.
const EVENTS: usize = 256;
/// What the one socket of all streams may hold; the kernel gives as much as `net.core.rmem_max` lets it.
const SHARED_BUFFER_BYTES: usize = 4 << 20;

/// The running receiver.
pub struct Woken {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<u64>>,
    streams: usize,
    path: PathBuf,
}

impl Woken {
    /// A socket a stream; the kernel says which have something (epoll, edge-triggered).
    pub fn by_readiness(folder: &Path, addresses: &[SocketAddrV4]) -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::empty())?;
        let mut sockets = Vec::new();
        for (number, address) in (0..).zip(addresses) {
            let socket = UdpSocket::bind(address);
            let socket = socket.with_context(|| format!("cannot use {address}"))?;
            epoll
                .add(&socket, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, number))?;
            sockets.push(socket);
        }
        Self::start(folder, addresses.len(), move |file, stop| ready(&epoll, &sockets, file, stop))
    }

    /// One socket for all streams, which is waited at.
    pub fn at_one_port(folder: &Path, addresses: &[SocketAddrV4]) -> Result<Self> {
        let address = addresses.first().context("no streams")?;
        let socket = UdpSocket::bind(address).with_context(|| format!("cannot use {address}"))?;
        setsockopt(&socket, sockopt::RcvBuf, &SHARED_BUFFER_BYTES)?;
        socket.set_read_timeout(Some(Duration::from_millis(NAP_MS.into())))?;
        Self::start(folder, addresses.len(), move |file, stop| shared(&socket, file, stop))
    }

    fn start(
        folder: &Path,
        streams: usize,
        run: impl FnOnce(&mut File, &AtomicBool) -> io::Result<u64> + Send + 'static,
    ) -> Result<Self> {
        let path = folder.join("all");
        let mut file = File::create(&path)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let builder = std::thread::Builder::new().name("woken".to_owned());
        let thread = builder.spawn(move || run(&mut file, &stopped))?;
        Ok(Self { stop, thread, streams, path })
    }
}

impl Receiver for Woken {
    fn syncs(&self) -> u64 {
        0
    }

    fn stop(self: Box<Self>) -> Result<Kept> {
        self.stop.store(true, Ordering::Relaxed);
        let packets = self.thread.join().map_err(|_| anyhow!("the receiver panicked"))??;
        let per_stream = facts::count(&[self.path], self.streams)?;
        Ok(Kept { packets, refused: Vec::new(), late_sweeps: 0, per_stream })
    }
}

fn ready(
    epoll: &Epoll,
    sockets: &[UdpSocket],
    file: &mut File,
    stop: &AtomicBool,
) -> io::Result<u64> {
    let (mut batch, mut bytes, mut packets) = (Batch::new(), Vec::new(), 0);
    let mut events = [EpollEvent::empty(); EVENTS];
    while !stop.load(Ordering::Relaxed) {
        let woken = epoll.wait(&mut events, EpollTimeout::from(NAP_MS))?;
        for event in &events[..woken] {
            let Some(socket) = usize::try_from(event.data()).ok().and_then(|n| sockets.get(n))
            else {
                continue;
            };
            let mut received = BATCH;
            while received == BATCH {
                received = batch.receive(socket, MsgFlags::MSG_DONTWAIT)?;
                batch.datagrams(received).for_each(|datagram| bytes.extend_from_slice(datagram));
                packets += received as u64;
            }
        }
        file.write_all(&bytes)?;
        bytes.clear();
    }
    Ok(packets)
}

fn shared(socket: &UdpSocket, file: &mut File, stop: &AtomicBool) -> io::Result<u64> {
    let (mut batch, mut bytes, mut packets) = (Batch::new(), Vec::new(), 0);
    while !stop.load(Ordering::Relaxed) {
        let received = batch.receive(socket, MsgFlags::MSG_WAITFORONE)?;
        batch.datagrams(received).for_each(|datagram| bytes.extend_from_slice(datagram));
        packets += received as u64;
        file.write_all(&bytes)?;
        bytes.clear();
    }
    Ok(packets)
}
