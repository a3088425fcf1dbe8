//! UDP sockets of the phantoms: bound at the start, received from in batches, with the kernel's
//! receive times. It does not know what a packet means or which call it belongs to.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrStorage, recvmmsg, setsockopt,
    sockopt,
};
use storage_core::WallTime;
use zeroize::Zeroize as _;

/// Datagrams taken with one system call.
const BATCH: usize = 32;
/// What is longer is no RTP packet of a voice call (and none that passed an Ethernet whole).
const DATAGRAM_BYTES_MAX: usize = 2048;
/// Room in the kernel for each socket: 300 packets of G.711, 6 s, for a time when the receiving
/// thread is not let run.
const RECEIVE_BUFFER_BYTES: usize = 256 << 10;

/// Why a phantom cannot receive.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// RTP ports are even, and RTCP has the next one (RFC 3550, 11).
    #[error("RTP port {0} is odd: let al_rtpports begin with an even one")]
    Odd(SocketAddr),
    /// The process may not have so many sockets.
    #[error("no file descriptor left for UDP port {0}: raise LimitNOFILE (two per phantom)")]
    Descriptors(SocketAddr),
    /// The port cannot be had.
    #[error(
        "UDP port {address} cannot be used: choose other al_rtpports or another al_rtpaddress, \
         or stop the program that has it"
    )]
    Port {
        /// Address and port.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
}

/// A phantom's two sockets.
#[derive(Debug)]
pub struct PhantomSockets {
    /// For media.
    pub rtp: RtpSocket,
    /// For reports.
    pub rtcp: RtpSocket,
}

impl PhantomSockets {
    /// Binds an even port for RTP and the odd one after it for RTCP.
    ///
    /// # Errors
    /// [`BindError`], naming the port.
    pub fn bind(rtp: SocketAddr) -> Result<Self, BindError> {
        if rtp.port() % 2 == 1 {
            return Err(BindError::Odd(rtp));
        }
        let rtcp = SocketAddr::new(rtp.ip(), rtp.port() + 1);
        Ok(Self { rtp: RtpSocket::bind(rtp)?, rtcp: RtpSocket::bind(rtcp)? })
    }
}

/// One socket.
#[derive(Debug)]
pub struct RtpSocket {
    socket: UdpSocket,
    /// What the kernel had dropped for want of room when it said so last.
    dropped: u32,
    backlog: Backlog,
}

/// The kernel drops only what comes to a full buffer, and says so with the next datagram that it
/// keeps. So drops are expected from a socket whose buffer has been full, until a datagram that
/// came after the buffer was empty says nothing of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backlog {
    None,
    /// The last call filled its batch.
    Draining,
    /// The buffer has been emptied.
    Drained,
}

impl Backlog {
    const fn after(self, received: Received) -> Self {
        match (self, received.more, received.datagrams) {
            (_, true, _) => Self::Draining,
            (Self::Draining, false, _) | (Self::Drained, false, 0) => Self::Drained,
            (Self::None | Self::Drained, false, _) => Self::None,
        }
    }
}

impl RtpSocket {
    fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let bound = || -> io::Result<UdpSocket> {
            let socket = UdpSocket::bind(address)?;
            socket.set_nonblocking(true)?;
            setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
            setsockopt(&socket, sockopt::RxqOvfl, &1)?;
            setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER_BYTES)?;
            Ok(socket)
        };
        let socket =
            bound().map_err(|source| match source.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EMFILE | Errno::ENFILE) => BindError::Descriptors(address),
                _ => BindError::Port { address, source },
            })?;
        Ok(Self { socket, dropped: 0, backlog: Backlog::None })
    }
}

/// A datagram as it was received.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// When the kernel received it.
    pub at: WallTime,
    /// Where it came from.
    pub source: SocketAddr,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// Whether it was longer and was cut.
    pub truncated: bool,
}

/// What one call of [`Batch::receive`] brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Datagrams.
    pub datagrams: usize,
    /// Whether there may be more.
    pub more: bool,
    /// Datagrams that the kernel dropped, as it tells with the next that it keeps.
    pub dropped: u32,
}

/// Buffers for receiving, shared by all sockets of a thread.
///
/// nix hands the headers to the kernel again as the kernel left them, so the room for control
/// messages shrinks to what the last message needed: the time, or the time and the number of
/// drops. Where the number does not fit, the time is lost with it. So sockets that never dropped
/// a datagram and those that did have headers apart, and one that may be about to say so for the
/// first time gets new ones.
#[derive(Debug)]
pub struct Batch {
    plain: MultiHeaders<SockaddrStorage>,
    counting: MultiHeaders<SockaddrStorage>,
    buffer: Vec<u8>,
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

fn headers() -> MultiHeaders<SockaddrStorage> {
    let control = nix::cmsg_space!(nix::sys::time::TimeSpec, u32);
    MultiHeaders::preallocate(BATCH, Some(control))
}

impl Batch {
    /// Takes about 100 KB.
    #[must_use]
    pub fn new() -> Self {
        let buffer = vec![0; BATCH * DATAGRAM_BYTES_MAX];
        Self { plain: headers(), counting: headers(), buffer }
    }

    /// Overwrites what was received: of a pause nothing is to be left.
    pub fn wipe(&mut self) {
        self.buffer.as_mut_slice().zeroize();
    }

    /// Receives what is waiting, up to a batch, without waiting, and lets `take` have it. `now` gives the time for a
    /// datagram whose own is unknown.
    ///
    /// # Errors
    /// As the operating system gives them; that nothing is waiting is none.
    pub fn receive(
        &mut self,
        socket: &mut RtpSocket,
        now: impl Fn() -> WallTime,
        take: impl FnOnce(&mut dyn Iterator<Item = Datagram<'_>>),
    ) -> io::Result<Received> {
        let mut fresh;
        let headers = match socket.backlog {
            _ if socket.dropped > 0 => &mut self.counting,
            Backlog::None => &mut self.plain,
            Backlog::Draining | Backlog::Drained => {
                fresh = headers();
                &mut fresh
            }
        };
        let mut chunks = self.buffer.chunks_exact_mut(DATAGRAM_BYTES_MAX);
        let mut slices: [_; BATCH] =
            std::array::from_fn(|_| [io::IoSliceMut::new(chunks.next().unwrap_or_default())]);
        let fd = socket.socket.as_raw_fd();
        let messages = match recvmmsg(fd, headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None)
        {
            Ok(messages) => messages,
            Err(Errno::EAGAIN | Errno::EINTR) => {
                socket.backlog = socket.backlog.after(Received::default());
                return Ok(Received::default());
            }
            Err(error) => return Err(error.into()),
        };
        let mut received = Received::default();
        let before = socket.dropped;
        let mut datagrams = messages.filter_map(|message| {
            received.datagrams += 1;
            let (at, dropped) = control(&message);
            if let Some(dropped) = dropped {
                socket.dropped = dropped;
            }
            Some(Datagram {
                at: at.unwrap_or_else(&now),
                source: message.address.as_ref().and_then(address)?,
                bytes: message.iovs().next().unwrap_or_default(),
                truncated: message.flags.contains(MsgFlags::MSG_TRUNC),
            })
        });
        take(&mut datagrams);
        // What was not taken counts all the same.
        datagrams.for_each(drop);
        received.more = received.datagrams == BATCH;
        received.dropped = socket.dropped.wrapping_sub(before);
        socket.backlog = socket.backlog.after(received);
        Ok(received)
    }
}

/// The receive time, and how many datagrams the socket has dropped in all, if it says so.
fn control(message: &RecvMsg<'_, '_, SockaddrStorage>) -> (Option<WallTime>, Option<u32>) {
    let (mut at, mut dropped) = (None, None);
    match message.cmsgs() {
        Ok(messages) => {
            for control in messages {
                match control {
                    ControlMessageOwned::ScmTimestampns(time) => {
                        let micros = time.tv_sec() * 1_000_000 + time.tv_nsec() / 1_000;
                        at = Some(WallTime::from_micros(micros));
                    }
                    ControlMessageOwned::RxqOvfl(count) => dropped = Some(count),
                    _ => {}
                }
            }
        }
        // There was a count of drops, against expectation, and no room for it: how many will be
        // told by the next message, for which headers with room are taken.
        Err(_) => dropped = Some(1),
    }
    (at, dropped)
}

fn address(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddr::new(v4.ip().into(), v4.port()));
    }
    let v6 = address.as_sockaddr_in6()?;
    Some(SocketAddr::new(v6.ip().into(), v6.port()))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

    use super::*;

    fn wall() -> WallTime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        WallTime::from_micros(i64::try_from(since.as_micros()).unwrap())
    }

    /// A free even port; the odd one after it is free, too.
    fn sockets() -> PhantomSockets {
        (20_000..60_000)
            .step_by(2)
            .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
            .find_map(|address| PhantomSockets::bind(address).ok())
            .expect("some port is free")
    }

    fn drain(batch: &mut Batch, socket: &mut RtpSocket) -> (Vec<(WallTime, Vec<u8>, bool)>, u32) {
        let (mut rows, mut dropped) = (Vec::new(), 0);
        loop {
            let received = batch
                .receive(socket, wall, |datagrams| {
                    rows.extend(datagrams.map(|d| (d.at, d.bytes.to_vec(), d.truncated)));
                })
                .unwrap();
            dropped += received.dropped;
            if !received.more {
                return (rows, dropped);
            }
        }
    }

    /// The kernel begins to stamp what comes a moment after the first socket of the machine has asked for it; what came
    /// before is stamped when it is read. A test that compares times waits for it here.
    pub(crate) fn until_stamped() {
        let (mut batch, mut sockets) = (Batch::new(), sockets());
        let to = sockets.rtp.socket.local_addr().unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            sender.send_to(&[0], to).unwrap();
            let sent = wall();
            std::thread::sleep(Duration::from_millis(2));
            let (rows, _) = drain(&mut batch, &mut sockets.rtp);
            if rows.first().is_some_and(|(at, ..)| *at <= sent) {
                break;
            }
            assert!(Instant::now() < deadline, "the kernel stamps nothing");
        }
        // With the last such socket it would end again.
        Box::leak(Box::new(sockets));
    }

    #[test]
    fn datagrams_come_in_order_with_the_time_of_their_arrival() {
        until_stamped();
        let (mut batch, mut sockets) = (Batch::new(), sockets());
        let to = sockets.rtp.socket.local_addr().unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(drain(&mut batch, &mut sockets.rtp).0, []);
        for round in 0..3_u8 {
            let before = wall();
            for i in 0..100_u8 {
                sender.send_to(&[round, i], to).unwrap();
            }
            let after = wall();
            std::thread::sleep(Duration::from_millis(30));
            let (rows, _) = drain(&mut batch, &mut sockets.rtp);
            assert_eq!(rows.len(), 100);
            for (i, (at, bytes, truncated)) in (0_u8..).zip(rows) {
                assert_eq!((&bytes[..], truncated), (&[round, i][..], false));
                assert!(before <= at && at <= after, "kernel time of arrival, not of reading");
            }
        }
    }

    #[test]
    fn too_long_a_datagram_is_cut_and_said_to_be() {
        let (mut batch, mut sockets) = (Batch::new(), sockets());
        let to = sockets.rtcp.socket.local_addr().unwrap();
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[7; 5_000], to).unwrap();
        let (rows, _) = drain(&mut batch, &mut sockets.rtcp);
        assert_eq!((rows[0].1.len(), rows[0].2), (DATAGRAM_BYTES_MAX, true));
    }

    #[test]
    fn drops_of_a_full_socket_are_counted_and_times_stay_right() {
        let (mut batch, mut full, mut calm) = (Batch::new(), sockets(), sockets());
        let to = full.rtp.socket.local_addr().unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut dropped = 0;
        let deadline = Instant::now() + Duration::from_secs(10);
        for round in 0.. {
            for _ in 0..3_000 {
                sender.send_to(&[0; 1_000], to).unwrap();
            }
            // A socket without drops in between shrinks the headers that both would share.
            sender.send_to(&[1], calm.rtp.socket.local_addr().unwrap()).unwrap();
            let before = wall();
            let (rows, more) = drain(&mut batch, &mut full.rtp);
            dropped += more;
            assert!(rows.iter().all(|(at, ..)| *at <= before), "kernel time, not now ({round})");
            assert_eq!(drain(&mut batch, &mut calm.rtp).1, 0);
            if dropped > 3_000 {
                break;
            }
            assert!(Instant::now() < deadline, "{dropped} drops seen");
        }
    }

    #[test]
    fn a_port_that_is_taken_is_named() {
        let sockets = sockets();
        let address = sockets.rtp.socket.local_addr().unwrap();
        let error = PhantomSockets::bind(address).unwrap_err().to_string();
        assert!(error.contains(&address.to_string()) && error.contains("al_rtpports"), "{error}");
        let odd = SocketAddr::new(address.ip(), address.port() + 1);
        assert!(matches!(PhantomSockets::bind(odd), Err(BindError::Odd(_))));
    }
}
