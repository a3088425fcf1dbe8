//! The reference: the least that a receiver can do. A thread wakes each 100 ms, takes from each
//! socket in turn what waits there, and appends it to the stream's own file with one write. No
//! header is looked at, no time is asked for, nothing is checked, indexed or made durable. A
//! second form gathers what a sweep brings and appends it to one file of all streams, as the
//! recorder does: fewer system calls, and the harder one to come near to.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg};

use super::receiver::{Kept, Receiver};
use crate::facts::{self, PACKET_BYTES};

/// Between two sweeps.
const BEAT: Duration = Duration::from_millis(100);
/// Datagrams taken with one call, and room for each: as the recorder has it.
const BATCH: usize = 32;
const DATAGRAM_BYTES_MAX: usize = 2048;

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
        let mut per_stream = vec![0; self.streams];
        for path in &self.paths {
            for packet in std::fs::read(path)?.chunks_exact(PACKET_BYTES) {
                let stream = facts::stream(packet).and_then(|stream| per_stream.get_mut(stream));
                *stream.context("a packet of no stream is in a file")? += 1;
            }
        }
        Ok(Kept { packets, refused: Vec::new(), late_sweeps: 0, per_stream })
    }
}

fn run(sockets: &[UdpSocket], output: &mut Output, stop: &AtomicBool) -> io::Result<u64> {
    let mut batch = Batch {
        headers: MultiHeaders::preallocate(BATCH, None),
        buffer: vec![0; BATCH * DATAGRAM_BYTES_MAX],
        lengths: [0; BATCH],
    };
    let (mut packets, mut next) = (0, Instant::now());
    loop {
        let last = stop.load(Ordering::Relaxed);
        for (number, socket) in sockets.iter().enumerate() {
            let mut received = BATCH;
            while received == BATCH {
                received = batch.receive(socket)?;
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

/// What one call has received.
struct Batch {
    headers: MultiHeaders<()>,
    buffer: Vec<u8>,
    lengths: [usize; BATCH],
}

impl Batch {
    fn datagrams(&self, received: usize) -> impl Iterator<Item = &[u8]> {
        let slots = self.buffer.chunks(DATAGRAM_BYTES_MAX).zip(self.lengths);
        slots.take(received).map(|(slot, length)| &slot[..length])
    }

    fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        let mut chunks = self.buffer.chunks_exact_mut(DATAGRAM_BYTES_MAX);
        let mut slices: [_; BATCH] =
            std::array::from_fn(|_| [IoSliceMut::new(chunks.next().unwrap_or_default())]);
        let (fd, flags) = (socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
        match recvmmsg(fd, &mut self.headers, slices.iter_mut(), flags, None) {
            Ok(messages) => {
                let mut received = 0;
                for (length, message) in self.lengths.iter_mut().zip(messages) {
                    *length = message.bytes;
                    received += 1;
                }
                Ok(received)
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }
}
