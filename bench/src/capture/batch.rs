//! Datagrams taken with few system calls, as all references take them.

use std::io::{self, IoSliceMut};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg};

/// Datagrams taken with one call, and room for each: as the recorder has it.
pub const BATCH: usize = 32;
const DATAGRAM_BYTES_MAX: usize = 2048;

/// What one call has received.
pub struct Batch {
    headers: MultiHeaders<()>,
    buffer: Vec<u8>,
    /// Of the datagrams received.
    pub lengths: [usize; BATCH],
}

impl Batch {
    /// Room for one call.
    pub fn new() -> Self {
        Self {
            headers: MultiHeaders::preallocate(BATCH, None),
            buffer: vec![0; BATCH * DATAGRAM_BYTES_MAX],
            lengths: [0; BATCH],
        }
    }

    /// The first so many datagrams.
    pub fn datagrams(&self, received: usize) -> impl Iterator<Item = &[u8]> {
        let slots = self.buffer.chunks(DATAGRAM_BYTES_MAX).zip(self.lengths);
        slots.take(received).map(|(slot, length)| &slot[..length])
    }

    /// Takes what waits at a socket and tells how many datagrams that were; full means that there may
    /// be more. A socket that blocks is waited for until one has come.
    pub fn receive(&mut self, socket: &UdpSocket, flags: MsgFlags) -> io::Result<usize> {
        let mut chunks = self.buffer.chunks_exact_mut(DATAGRAM_BYTES_MAX);
        let mut slices: [_; BATCH] =
            std::array::from_fn(|_| [IoSliceMut::new(chunks.next().unwrap_or_default())]);
        let fd = socket.as_raw_fd();
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
