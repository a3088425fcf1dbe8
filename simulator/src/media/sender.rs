//! The thread that sends what the table makes, on a beat of 20 ms. A late beat is made up for, so
//! that no frame is missing; only after a standstill of seconds the beat starts anew.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::stream::{Packet, Table};
use crate::clock::Clock;
use crate::time::{FRAME_NS, Time};

/// Beats that are made up for after a standstill: 10 s.
const CATCH_UP_MAX: u64 = 500;
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

/// A packet that cannot be sent is lost, as packets are.
fn send(packets: &[Packet], sockets: &[UdpSocket], stranger: &UdpSocket) {
    for packet in packets {
        let socket = packet.aes.and_then(|aes| sockets.get(aes)).unwrap_or(stranger);
        let _ = socket.send_to(&packet.bytes, packet.to);
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
