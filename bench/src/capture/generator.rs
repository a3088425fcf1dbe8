//! The load: N streams of RTP over the loopback, a packet of each in every 20 ms. The streams are
//! spread over the 20 ms, so that no burst is longer than the kernel's backlog between sender and
//! receiver (`net.core.netdev_max_backlog`, 1,000 packets as a rule) even at 4,000 streams.

use std::io::IoSlice;
use std::net::{SocketAddrV4, UdpSocket};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, sendmmsg};

use crate::facts::{self, PACKET_BYTES};

/// Bursts in 20 ms.
const SLOTS: usize = 20;
/// Between two bursts.
const SLOT: Duration = Duration::from_millis(1);
/// Datagrams given to the kernel with one call.
const BATCH: usize = 128;

/// What each stream sends next.
pub enum Media {
    /// Packets that are made on the way.
    Plain(Vec<[u8; PACKET_BYTES]>),
    /// The same packets for all streams, made beforehand, and how many of them each has sent.
    Made { packets: Vec<Vec<u8>>, next: Vec<usize> },
}

impl Media {
    /// Plain packets, which name their stream.
    pub fn plain(streams: usize) -> Self {
        Self::Plain((0..streams).map(facts::packet).collect())
    }

    /// These packets in each stream.
    pub fn encrypted(packets: Vec<Vec<u8>>, streams: usize) -> Self {
        Self::Made { packets, next: vec![0; streams] }
    }

    fn streams(&self) -> usize {
        match self {
            Self::Plain(packets) => packets.len(),
            Self::Made { next, .. } => next.len(),
        }
    }

    /// The next packet of each of these streams.
    fn slices(&self, streams: Range<usize>) -> Result<Vec<[IoSlice<'_>; 1]>> {
        match self {
            Self::Plain(packets) => {
                Ok(packets[streams].iter().map(|p| [IoSlice::new(p)]).collect())
            }
            Self::Made { packets, next } => {
                let made = |next: &usize| packets.get(*next).map(|packet| [IoSlice::new(packet)]);
                let made: Option<Vec<_>> = next[streams].iter().map(made).collect();
                made.context("too few packets were made")
            }
        }
    }

    /// Goes on to the packets after those.
    fn advance(&mut self, streams: Range<usize>) {
        match self {
            Self::Plain(packets) => packets[streams].iter_mut().for_each(facts::advance),
            Self::Made { next, .. } => next[streams].iter_mut().for_each(|next| *next += 1),
        }
    }
}

/// Streams and the socket that all of them are sent from.
pub struct Generator {
    socket: UdpSocket,
    media: Media,
    targets: Vec<Option<SockaddrIn>>,
    headers: MultiHeaders<SockaddrIn>,
    /// The burst that is next.
    slot: usize,
    due: Instant,
    /// What the kernel has taken.
    pub sent: u64,
    /// How far it was behind its time at the worst.
    pub late: Duration,
}

impl Generator {
    /// Sends from `source` to the targets, a stream each.
    pub fn bind(source: SocketAddrV4, targets: &[SocketAddrV4], media: Media) -> Result<Self> {
        let socket = UdpSocket::bind(source).with_context(|| format!("cannot use {source}"))?;
        Ok(Self {
            socket,
            media,
            targets: targets.iter().map(|target| Some(SockaddrIn::from(*target))).collect(),
            headers: MultiHeaders::preallocate(BATCH, None),
            slot: 0,
            due: Instant::now(),
            sent: 0,
            late: Duration::ZERO,
        })
    }

    /// Sends for so long, each stream as many packets as the others.
    pub fn send_for(&mut self, time: Duration) -> Result<()> {
        let rounds = time.as_millis() / (SLOT * SLOTS as u32).as_millis();
        // Time that has passed since the last call is not caught up with.
        self.due = self.due.max(Instant::now());
        for _ in 0..rounds * SLOTS as u128 {
            let wait = self.due.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                self.late = self.late.max(self.due.elapsed());
                // The kernel's thread that empties the backlog runs on this processor, too.
                std::thread::yield_now();
            } else {
                std::thread::sleep(wait);
            }
            self.burst()?;
            self.due += SLOT;
        }
        Ok(())
    }

    fn burst(&mut self) -> Result<()> {
        let streams = self.media.streams();
        let (mut from, to) = (self.slot * streams / SLOTS, (self.slot + 1) * streams / SLOTS);
        self.slot = (self.slot + 1) % SLOTS;
        while from < to {
            let end = to.min(from + BATCH);
            let sent = self.send(from, end)?;
            self.media.advance(from..from + sent);
            self.sent += sent as u64;
            from += sent;
        }
        Ok(())
    }

    fn send(&mut self, from: usize, to: usize) -> Result<usize> {
        let slices = self.media.slices(from..to)?;
        let sent = sendmmsg(
            self.socket.as_raw_fd(),
            &mut self.headers,
            &slices,
            &self.targets[from..to],
            [],
            MsgFlags::empty(),
        )?;
        Ok(sent.count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stream_gets_its_packets_in_order() {
        let sockets: Vec<UdpSocket> =
            (0..30).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        let targets: Vec<SocketAddrV4> = sockets
            .iter()
            .map(|socket| match socket.local_addr().unwrap() {
                std::net::SocketAddr::V4(address) => address,
                std::net::SocketAddr::V6(_) => unreachable!("bound to an IPv4 address"),
            })
            .collect();
        let source = SocketAddrV4::new([127, 0, 0, 1].into(), 0);
        let mut generator = Generator::bind(source, &targets, Media::plain(30)).unwrap();
        generator.send_for(Duration::from_millis(60)).unwrap();
        assert_eq!(generator.sent, 90);
        for (number, socket) in (0_u8..).zip(&sockets) {
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            for seq in 0..3_u8 {
                let mut bytes = [0; 2000];
                assert_eq!(socket.recv(&mut bytes).unwrap(), PACKET_BYTES);
                assert_eq!((bytes[3], bytes[11]), (seq, number));
            }
        }
    }
}
