//! The reference: the least that a receiver can do. A thread wakes each 100 ms, takes from each
//! socket in turn what waits there, and appends it to the stream's own file with one write. No
//! header is looked at, no time is asked for, nothing is checked, indexed or made durable. A
//! second form gathers what a sweep brings and appends it to one file of all streams, as the
//! recorder does: fewer system calls, and the harder one to come near to.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::net::{SocketAddrV4, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::sys::socket::MsgFlags;

use super::batch::{BATCH, Batch};
use super::receiver::{Kept, Receiver};
use crate::facts;

/// Between two sweeps.
const BEAT: Duration = Duration::from_millis(100);

/// The running reference.
pub struct Sweep {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<u64>>,
    streams: usize,
    paths: Vec<PathBuf>,
}

/// Where datagrams go.
enum Output {
    /// A file a stream, in the order of the sockets.
    Apart(Vec<File>),
    /// One file; what the sweep has brought so far.
    Together(File, Vec<u8>),
}

impl Sweep {
    /// Binds the sockets, makes the files and starts.
    pub fn start(folder: &Path, addresses: &[SocketAddrV4], together: bool) -> Result<Self> {
        let mut sockets = Vec::new();
        for address in addresses {
            let socket = UdpSocket::bind(address);
            let socket = socket.with_context(|| format!("cannot use {address}"))?;
            socket.set_nonblocking(true)?;
            sockets.push(socket);
        }
        let files = if together { 1 } else { sockets.len() };
        let paths: Vec<_> = (0..files).map(|number| folder.join(number.to_string())).collect();
        let mut output = if together {
            Output::Together(File::create(&paths[0])?, Vec::new())
        } else {
            Output::Apart(paths.iter().map(File::create).collect::<io::Result<_>>()?)
        };
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, streams) = (Arc::clone(&stop), sockets.len());
        let builder = std::thread::Builder::new().name("sweep".to_owned());
        let thread = builder.spawn(move || run(&sockets, &mut output, &stopped))?;
        Ok(Self { stop, thread, streams, paths })
    }
}

impl Receiver for Sweep {
    fn syncs(&self) -> u64 {
        0
    }

    fn stop(self: Box<Self>) -> Result<Kept> {
        self.stop.store(true, Ordering::Relaxed);
        let packets = self.thread.join().map_err(|_| anyhow!("the sweep panicked"))??;
        let per_stream = facts::count(&self.paths, self.streams)?;
        Ok(Kept { packets, refused: Vec::new(), late_sweeps: 0, per_stream })
    }
}

fn run(sockets: &[UdpSocket], output: &mut Output, stop: &AtomicBool) -> io::Result<u64> {
    let mut batch = Batch::new();
    let (mut packets, mut next) = (0, Instant::now());
    loop {
        let last = stop.load(Ordering::Relaxed);
        for (number, socket) in sockets.iter().enumerate() {
            let mut received = BATCH;
            while received == BATCH {
                received = batch.receive(socket, MsgFlags::MSG_DONTWAIT)?;
                output.take(number, &batch, received)?;
                packets += received as u64;
            }
        }
        output.end_sweep()?;
        if last {
            return Ok(packets);
        }
        next = (next + BEAT).max(Instant::now());
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

impl Output {
    fn take(&mut self, stream: usize, batch: &Batch, received: usize) -> io::Result<()> {
        if received == 0 {
            return Ok(());
        }
        match self {
            Self::Apart(files) => {
                let mut slices = [IoSlice::new(&[]); BATCH];
                for (slice, datagram) in slices.iter_mut().zip(batch.datagrams(received)) {
                    *slice = IoSlice::new(datagram);
                }
                let expected: usize = batch.lengths[..received].iter().sum();
                if files[stream].write_vectored(&slices[..received])? != expected {
                    return Err(io::ErrorKind::WriteZero.into());
                }
            }
            Self::Together(_, bytes) => {
                batch.datagrams(received).for_each(|datagram| bytes.extend_from_slice(datagram));
            }
        }
        Ok(())
    }

    fn end_sweep(&mut self) -> io::Result<()> {
        if let Self::Together(file, bytes) = self {
            file.write_all(bytes)?;
            bytes.clear();
        }
        Ok(())
    }
}
