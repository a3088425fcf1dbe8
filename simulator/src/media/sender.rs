//! The thread that sends what the table makes, on a beat of 20 ms. A late beat is made up for, so
//! that no frame is missing; only after a standstill of seconds the beat starts anew.

use std::io::{self, IoSlice};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg};

use super::stream::{Packet, Table};
use crate::clock::Clock;
use crate::time::{FRAME_NS, Time};

/// Beats that are made up for after a standstill: 10 s.
const CATCH_UP_MAX: u64 = 500;
/// Packets of one system call.
const BATCH_MAX: usize = 256;
/// Longest sleep, so that a stop is noticed and delayed packets are not kept waiting.
const NAP: Duration = Duration::from_millis(20);

/// The sending thread.
#[derive(Debug)]
pub struct Sender {
    table: Arc<Mutex<Table>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sender {
    /// Starts sending from one socket for each AES.
    ///
    /// # Errors
    /// The socket of strangers cannot be opened, or the thread cannot be started.
    pub fn start(clock: Clock, sockets: Vec<UdpSocket>, seed: u64) -> io::Result<Self> {
        let stranger = UdpSocket::bind("127.0.0.1:0")?;
        let table = Arc::new(Mutex::new(Table::new(seed)));
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, stopping) = (Arc::clone(&table), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name("sim-rtp".to_owned())
            .spawn(move || run(&clock, &shared, &sockets, &stranger, &stopping))?;
        Ok(Self { table, stop, thread: Some(thread) })
    }

    /// Stops sending; the records stay readable.
    pub fn halt(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// The table, for changes and for reading records.
    pub fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; there is nothing to add.
            let _ = thread.join();
        }
    }
}

fn run(
    clock: &Clock,
    table: &Mutex<Table>,
    sockets: &[UdpSocket],
    stranger: &UdpSocket,
    stop: &AtomicBool,
) {
    let mut beat = clock.now();
    while !stop.load(Ordering::Relaxed) {
        let now = clock.now();
        if now.since(beat).as_nanos() as u64 > CATCH_UP_MAX * FRAME_NS {
            beat = now;
        }
        while beat <= now {
            let packets = table.lock().unwrap_or_else(PoisonError::into_inner).beat(beat);
            send(&packets, sockets, stranger);
            beat = Time::from_nanos(beat.nanos() + FRAME_NS);
        }
        let (late, next) = {
            let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
            (table.due(now), table.next_due())
        };
        send(&late, sockets, stranger);
        let until = next.map_or(beat, |next| next.min(beat));
        std::thread::sleep(until.since(clock.now()).min(NAP));
    }
}

/// Sends each run of packets of the same socket with few system calls.
fn send(packets: &[Packet], sockets: &[UdpSocket], stranger: &UdpSocket) {
    for run in packets.chunk_by(|one, two| one.aes == two.aes) {
        let Some(first) = run.first() else { continue };
        let socket = first.aes.and_then(|aes| sockets.get(aes)).unwrap_or(stranger);
        for batch in run.chunks(BATCH_MAX) {
            send_batch(batch, socket);
        }
    }
}

/// A packet that the kernel will not take is lost, as packets are; those behind it are not.
fn send_batch(batch: &[Packet], socket: &UdpSocket) {
    let slices: Vec<_> = batch.iter().map(|packet| [IoSlice::new(&packet.bytes)]).collect();
    let addresses: Vec<_> =
        batch.iter().map(|packet| Some(SockaddrStorage::from(packet.to))).collect();
    let mut headers = MultiHeaders::preallocate(batch.len(), None);
    let mut at = 0;
    while at < batch.len() {
        let (rest, to) = (&slices[at..], &addresses[at..]);
        let flags = MsgFlags::MSG_DONTWAIT;
        let sent = match sendmmsg(socket.as_raw_fd(), &mut headers, rest, to, [], flags) {
            Ok(sent) => sent.count(),
            Err(_) => 0,
        };
        at += sent.max(1);
    }
}

/// Opens the socket of a media processor on an even port, as RTP wants it.
///
/// # Errors
/// No port is free.
pub fn media_socket(address: std::net::IpAddr) -> io::Result<UdpSocket> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..32 {
        let socket = UdpSocket::bind(SocketAddr::new(address, 0))?;
        if socket.local_addr()?.port() % 2 == 0 {
            return Ok(socket);
        }
        last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Instant;

    use super::*;
    use crate::media::{Change, Coding, Play};
    use crate::switch::{Extension, Serial};
    use crate::tone::{self, Law, Part};

    fn play(number: u32, to: SocketAddr) -> Play {
        Play {
            key: (Extension::from(number.to_string()), 0),
            aes: 0,
            to,
            coding: Coding::G711(Law::Mu),
            protection: None,
            first_index: None,
            report_packets: 0,
            part: Part::Whole,
            serial: Serial(number),
            established: Some(Time::default()),
            not_before: Time::default(),
        }
    }

    #[test]
    fn every_stream_gets_every_frame_in_time() {
        let sink = UdpSocket::bind("127.0.0.1:0").unwrap();
        sink.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let to = sink.local_addr().unwrap();
        let socket = media_socket("127.0.0.1".parse().unwrap()).unwrap();
        let from = socket.local_addr().unwrap();
        let clock = Clock::start();
        let sender = Sender::start(clock, vec![socket], 1).unwrap();
        let now = clock.now();
        for number in 0..100 {
            sender.table().apply(now, Change::Restart(play(number, to)));
        }
        let mut last = BTreeMap::new();
        let mut buffer = [0; 2000];
        let started = Instant::now();
        for _ in 0..100 * 10 {
            let (len, source) = sink.recv_from(&mut buffer).unwrap();
            assert_eq!((len, source), (172, from));
            let code = tone::read_at(Law::Mu, &buffer[12..len]).unwrap();
            if let Some(before) = last.insert(code.serial, code.frame) {
                assert_eq!(code.frame, before + 1);
            }
        }
        assert_eq!(last.len(), 100);
        assert!(started.elapsed() >= Duration::from_millis(150), "not faster than real time");
    }
}
