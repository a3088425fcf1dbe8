//! The media thread with real sockets and a disk in memory.

use std::net::UdpSocket;
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Instant;

use recorder_core::call::{PauseChange, PauseOrder, RingChange};
use recorder_core::media::RtpPacket;
use storage::testing::FaultDisk;
use storage::{JournalOptions, JournalReader};
use storage_core::draft::Draft;
use storage_core::journal::{Channel, Entry};
use storage_core::record::{GapCause, Side};
use storage_core::{Extension, NodeId, Now, RecordingId, SegmentId, WallTime};

use super::*;

/// Complete recordings that may wait in a test.
const COMPLETE: usize = 8;
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Even ports that no other test of this process takes.
fn free_ports(count: usize) -> Vec<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    let offset = u16::try_from(std::process::id() % 40).unwrap() * 1000;
    let mut ports = Vec::new();
    while ports.len() < count {
        let port = NEXT.fetch_add(2, Ordering::Relaxed).wrapping_add(offset) & !1;
        let address = SocketAddr::from(([127, 0, 0, 1], port.max(20_000)));
        if crate::rtp_socket::PhantomSockets::bind(address).is_ok() {
            ports.push(address);
        }
    }
    ports
}

fn extension(number: usize) -> Extension {
    Extension::new(format!("{}", 78_000 + number))
}

pub(crate) fn id(number: u8) -> RecordingId {
    RecordingId::new(Clock::wall(), [number; 10])
}

pub(crate) struct Bench {
    pub disk: FaultDisk,
    pub reader: JournalReader,
    pub ports: Vec<SocketAddr>,
    pub thread: MediaThread,
    pub media: MediaHandle,
    pub notices: tokio::sync::mpsc::Receiver<MediaNotice>,
    pub complete: tokio::sync::mpsc::Receiver<RecordingId>,
    pub sender: UdpSocket,
}

impl Bench {
    pub(crate) fn start(phantoms: usize) -> Self {
        let receivers = (0..phantoms).map(|number| Receiver::whole(extension(number)));
        Self::receiving(receivers)
    }

    pub(crate) fn receiving(receivers: impl ExactSizeIterator<Item = Receiver>) -> Self {
        let disk = FaultDisk::new();
        let options = JournalOptions { reserve_bytes: 64 << 10, ..JournalOptions::default() };
        let (journal, _) =
            Journal::open_on(disk.shared(), Path::new("/data"), NodeId(1), options).unwrap();
        let reader = journal.reader();
        let ports = free_ports(receivers.len());
        let (notice, notices) = tokio::sync::mpsc::channel(10_000);
        let (ended, complete) = tokio::sync::mpsc::channel(COMPLETE);
        let thread = MediaThread::spawn(MediaConfig {
            clock: Clock::start(),
            phantoms: receivers.zip(ports.iter().copied()).collect(),
            journal,
            sync_ms: 200,
            encrypted: false,
            notices: notice,
            complete: ended,
        })
        .unwrap();
        let media = thread.handle();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        Self { disk, reader, ports, thread, media, notices, complete, sender }
    }

    pub(crate) fn open(&self, phantom: usize, segment: u64, recordingid: RecordingId) {
        let (segment, at) = (SegmentId(segment), Clock::wall());
        self.media.send(Fact::Recording { draft: draft(recordingid, None) }).unwrap();
        let phantom = extension(phantom);
        self.media
            .send(Fact::SegmentOpened { segment, recordingid, phantom, at, key: None, side: None })
            .unwrap();
    }

    /// Opens a segment and waits until its phantom listens for it.
    pub(crate) fn open_and_wait(&self, phantom: usize, segment: u64, recordingid: RecordingId) {
        self.open(phantom, segment, recordingid);
        until("the segment is in the journal", || {
            let mut seen = false;
            let _ = self.reader.read_recording(recordingid, |entry| {
                seen |= matches!(entry, Entry::Fact(Fact::SegmentOpened { .. }));
            });
            seen
        });
    }

    pub(crate) fn terms(&self, segment: u64, source: SocketAddr) {
        let (segment, at, codec) = (SegmentId(segment), Clock::wall(), "g711a".to_owned());
        let source = Some(source);
        self.media.send(Fact::MediaTerms { segment, at, source, codec, packetms: 20 }).unwrap();
    }

    pub(crate) fn close(&self, segment: u64, recordingid: RecordingId) {
        let at = Clock::wall();
        self.media.send(Fact::SegmentClosed { segment: SegmentId(segment), at }).unwrap();
        let draft = draft(recordingid, Some(at));
        self.media.send(Fact::Recording { draft }).unwrap();
    }

    /// The next recording that is complete in the journal.
    pub(crate) fn ended(&mut self) -> RecordingId {
        let mut ended = None;
        until("a complete recording", || {
            ended = self.complete.try_recv().ok();
            ended.is_some()
        });
        ended.unwrap()
    }

    pub(crate) fn send(&self, phantom: usize, seq: u16) {
        self.sender.send_to(&datagram(seq), self.ports[phantom]).unwrap();
    }

    pub(crate) fn notice(&mut self, wanted: impl Fn(&MediaNotice) -> bool) -> MediaNotice {
        let mut found = None;
        until("a notice", || {
            while let Ok(notice) = self.notices.try_recv() {
                if wanted(&notice) {
                    found = Some(notice);
                    return true;
                }
            }
            false
        });
        found.unwrap()
    }

    /// Sequence numbers with their times, as they are in the journal.
    pub(crate) fn captured(&self, id: RecordingId) -> Vec<(u16, WallTime)> {
        let mut rows = Vec::new();
        let read = self.reader.read_recording(id, |entry| {
            if let Entry::Packets(block) = entry
                && block.channel == Channel::Rtp
            {
                let row = |(at, bytes)| (RtpPacket::parse(bytes).unwrap().seq.0, at);
                rows.extend(block.iter().map(row));
            }
        });
        read.unwrap();
        rows
    }

    pub(crate) fn facts(&self, id: RecordingId) -> Vec<Fact> {
        let mut facts = Vec::new();
        let read = self.reader.read_recording(id, |entry| {
            if let Entry::Fact(fact) = entry {
                facts.push(fact);
            }
        });
        read.unwrap();
        facts
    }
}

impl Bench {
    fn ring(&self, phantom: usize, segment: u64, change: RingChange) {
        let (receiver, segment) = (Receiver::from(&extension(phantom)), SegmentId(segment));
        assert!(self.media.ring(RingOrder { receiver, segment, change }));
    }

    fn begin_ring(&mut self, phantom: usize, segment: u64, reach: Duration) {
        self.ring(phantom, segment, RingChange::Begin { since: Clock::wall(), reach });
        let source = self.sender.local_addr().unwrap();
        self.ring(phantom, segment, RingChange::Source(Some(source)));
    }

    /// Waits until the first packet of a segment, or of a ring, is told.
    fn heard(&mut self, segment: u64) -> (WallTime, Now) {
        let segment = SegmentId(segment);
        let of_it = |n: &MediaNotice| matches!(n, MediaNotice::FirstPacket { segment: of, .. } if *of == segment);
        let MediaNotice::FirstPacket { received, captured, .. } = self.notice(of_it) else {
            unreachable!("it was looked for")
        };
        (received, captured)
    }
}

pub(crate) fn datagram(seq: u16) -> Vec<u8> {
    let mut bytes = vec![0x80, 8];
    bytes.extend_from_slice(&seq.to_be_bytes());
    bytes.extend_from_slice(&(u32::from(seq) * 160).to_be_bytes());
    bytes.extend_from_slice(&[1, 2, 3, 4]);
    bytes.resize(172, 0x55);
    bytes
}

pub(crate) fn draft(recordingid: RecordingId, ended: Option<WallTime>) -> Draft {
    Draft {
        rule: "all".to_owned(),
        extension: "3001".into(),
        calling: "5551230001".to_owned(),
        called: "3001".to_owned(),
        ended,
        ..Draft::blank(recordingid, NodeId(1), Clock::wall())
    }
}

#[test]
fn a_call_is_in_the_capture_at_once_and_whole() {
    let mut bench = Bench::start(2);
    let id = id(1);
    bench.send(0, 9_999);
    // The kernel begins to stamp a moment after the first socket asks it to; until then a packet
    // bears the time at which it was read.
    until("it is swept", || bench.media.stats().strays.value() == 1);
    bench.open_and_wait(0, 1, id);
    let before = Clock::wall();
    bench.send(0, 0);
    let first = bench.notice(|n| matches!(n, MediaNotice::FirstPacket { .. }));
    let MediaNotice::FirstPacket { segment, received, captured } = first else { unreachable!() };
    assert_eq!(segment, SegmentId(1));
    assert!(received >= before);
    let delay = captured.wall.micros_since(received);
    assert!((0..50_000).contains(&delay), "in the capture after {delay} us");
    for seq in 1..300 {
        bench.send(0, seq);
    }
    bench.close(1, id);
    assert_eq!(bench.ended(), id);
    let captured = bench.captured(id);
    let sequence: Vec<u16> = captured.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(sequence, (0..300).collect::<Vec<_>>(), "and nothing from before the call");
    assert!(captured.is_sorted_by_key(|(_, at)| *at));
    let stats = bench.media.stats();
    assert_eq!(stats.packets.value(), 300);
    until("it is durable", || stats.sync_time.snapshot().0.iter().sum::<u64>() > 0);
    bench.thread.stop();
    assert!(bench.disk.syncs() > 0);
}

#[test]
fn each_side_of_a_device_is_captured_from_a_port_of_its_own() {
    let sides = Side::ALL.map(|side| Receiver { device: extension(0), side: Some(side) });
    let mut bench = Bench::receiving(sides.into_iter());
    let (id, at) = (id(1), Clock::wall());
    bench.media.send(Fact::Recording { draft: draft(id, None) }).unwrap();
    for (number, side) in (1..).zip(Side::ALL) {
        let (segment, side) = (SegmentId(number), Some(side));
        let (recordingid, phantom) = (id, extension(0));
        let opened = Fact::SegmentOpened { segment, recordingid, phantom, at, key: None, side };
        bench.media.send(opened).unwrap();
    }
    let port = |seq: u16| usize::from(seq % 2);
    (10..20).for_each(|seq| bench.send(port(seq), seq));
    until("all are captured", || {
        bench.reader.open_recordings().contains(&id) && bench.captured(id).len() == 10
    });
    bench.media.send(Fact::SegmentClosed { segment: SegmentId(1), at: Clock::wall() }).unwrap();
    bench.close(2, id);
    assert_eq!(bench.ended(), id);
    let mut rows = Vec::new();
    let read = bench.reader.read_recording(id, |entry| {
        if let Entry::Packets(block) = entry {
            let seqs = block.iter().map(|(_, bytes)| RtpPacket::parse(bytes).unwrap().seq.0);
            rows.extend(seqs.map(|seq| (seq, block.segment.0)));
        }
    });
    read.unwrap();
    rows.sort_unstable();
    let expected: Vec<_> = (10..20).map(|seq: u16| (seq, 1 + u64::from(seq % 2))).collect();
    assert_eq!(rows, expected);
    bench.thread.stop();
}

#[test]
fn media_that_overtakes_the_order_of_its_segment_is_captured() {
    // On a busy machine the switch has answered and sent before the thread has taken the order.
    let mut bench = Bench::start(1);
    let (id, segment) = (id(1), SegmentId(1));
    bench.send(0, 7);
    until("one from before is swept", || bench.media.stats().strays.value() == 1);
    let at = Clock::wall();
    bench.send(0, 8);
    until("so is one from after", || bench.media.stats().strays.value() == 2);
    bench.send(0, 9);
    bench.media.send(Fact::Recording { draft: draft(id, None) }).unwrap();
    let phantom = extension(0);
    bench
        .media
        .send(Fact::SegmentOpened { segment, recordingid: id, phantom, at, key: None, side: None })
        .unwrap();
    let first_two =
        || bench.reader.open_recordings().contains(&id) && bench.captured(id).len() == 2;
    until("both are captured", first_two);
    bench.send(0, 10);
    bench.close(1, id);
    assert_eq!(bench.ended(), id);
    let sequence: Vec<u16> = bench.captured(id).iter().map(|(seq, _)| *seq).collect();
    assert_eq!(sequence, [8, 9, 10]);
    bench.thread.stop();
}

#[test]
fn silence_and_its_end_are_told_and_strays_are() {
    let mut bench = Bench::start(2);
    bench.open_and_wait(0, 1, id(1));
    bench.send(0, 0);
    bench.notice(|n| matches!(n, MediaNotice::FirstPacket { .. }));
    bench.send(1, 0);
    assert_eq!(
        bench.notice(|n| !matches!(n, MediaNotice::Silent { .. })),
        MediaNotice::Stray { phantom: extension(1) },
    );
    bench.notice(|n| *n == MediaNotice::Silent { segment: SegmentId(1) });
    bench.send(0, 1);
    bench.notice(|n| *n == MediaNotice::Audible { segment: SegmentId(1) });
    bench.thread.stop();
}

#[test]
fn strangers_and_garbage_are_counted_and_kept_out() {
    let bench = Bench::start(1);
    let id = id(1);
    bench.open_and_wait(0, 1, id);
    bench.terms(1, bench.sender.local_addr().unwrap());
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    bench.send(0, 0);
    bench.sender.send_to(b"garbage", bench.ports[0]).unwrap();
    bench.sender.send_to(&[0x80; 4_000], bench.ports[0]).unwrap();
    let stats = bench.media.stats();
    let mut seq = 100;
    until("a stranger is kept out after the grace", || {
        stranger.send_to(&datagram(seq), bench.ports[0]).unwrap();
        seq += 1;
        stats.strangers.value() > 0
    });
    bench.send(0, 1);
    until("the last packet is kept", || bench.captured(id).iter().any(|(seq, _)| *seq == 1));
    assert_eq!((stats.malformed[0].value(), stats.truncated.value()), (1, 1));
    bench.thread.stop();
}

#[test]
fn two_hundred_calls_at_once_lose_nothing() {
    const CALLS: usize = 200;
    const PACKETS: u16 = 100;
    let mut bench = Bench::start(CALLS);
    let ids: Vec<RecordingId> = (0..CALLS).map(|n| id(u8::try_from(n).unwrap())).collect();
    for (number, id) in ids.iter().enumerate() {
        bench.open_and_wait(number, number as u64 + 1, *id);
    }
    for seq in 0..PACKETS {
        for number in 0..CALLS {
            bench.send(number, seq);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    for (number, id) in ids.iter().enumerate() {
        bench.close(number as u64 + 1, *id);
    }
    for _ in 0..CALLS {
        bench.ended();
    }
    for id in ids {
        let sequence: Vec<u16> = bench.captured(id).iter().map(|(seq, _)| *seq).collect();
        assert_eq!(sequence, (0..PACKETS).collect::<Vec<_>>());
    }
    assert_eq!(bench.media.stats().kernel_drops.value(), 0);
    bench.thread.stop();
}

#[test]
fn a_full_disk_loses_what_it_must_says_so_and_nothing_else_breaks() {
    let mut bench = Bench::start(1);
    let id = id(1);
    bench.open_and_wait(0, 1, id);
    bench.send(0, 0);
    until("one is kept", || bench.captured(id).len() == 1);
    bench.disk.set_capacity(Some(bench.disk.used()));
    let media = bench.media.clone();
    let stats = media.stats();
    let mut seq = 1;
    until("media is lost", || {
        bench.send(0, seq);
        seq += 1;
        stats.lost_packets.value() >= 20
    });
    assert!(stats.not_writing.is_set());
    bench.disk.set_capacity(None);
    until("media is kept again", || {
        bench.send(0, seq);
        seq += 1;
        !stats.not_writing.is_set()
    });
    bench.close(1, id);
    assert_eq!(bench.ended(), id);
    let kept = bench.captured(id).len() as u64;
    let told: Vec<u64> = bench
        .facts(id)
        .iter()
        .filter_map(|fact| match fact {
            Fact::Lost { packets, cause: GapCause::DiskFull, .. } => Some(*packets),
            _ => None,
        })
        .collect();
    assert_eq!(told.iter().sum::<u64>(), stats.lost_packets.value());
    assert_eq!(kept + told.iter().sum::<u64>(), u64::from(seq), "each packet is accounted for");
    bench.thread.stop();
}

#[test]
fn no_order_is_lost_when_many_wait() {
    const CALLS: u16 = 5_000;
    let bench = Bench::start(1);
    let opened = Clock::wall();
    for call in 0..CALLS {
        let mut entropy = [0; 10];
        entropy[8..].copy_from_slice(&call.to_be_bytes());
        let draft = draft(RecordingId::new(opened, entropy), None);
        bench.media.send(Fact::Recording { draft }).unwrap();
    }
    until("all are in the journal", || bench.reader.open_recordings().len() == usize::from(CALLS));
    bench.thread.stop();
}

#[test]
fn a_slow_disk_cache_does_not_hold_up_the_capture() {
    let mut bench = Bench::start(1);
    bench.disk.set_sync_delay(Duration::from_millis(700));
    bench.open_and_wait(0, 1, id(1));
    std::thread::sleep(Duration::from_millis(300));
    bench.send(0, 0);
    let first = bench.notice(|n| matches!(n, MediaNotice::FirstPacket { .. }));
    let MediaNotice::FirstPacket { received, captured, .. } = first else { unreachable!() };
    assert!(captured.wall.micros_since(received) < 100_000);
    let stats = bench.media.stats();
    until("a slow sync is seen", || stats.sync_time.snapshot().0[9] > 0);
    bench.disk.set_sync_delay(Duration::ZERO);
    bench.thread.stop();
}

#[test]
fn a_ring_becomes_its_segments_begin_and_nothing_is_lost_in_between() {
    let mut bench = Bench::start(2);
    let id = id(1);
    bench.begin_ring(0, 7, Duration::from_secs(30));
    let begun = Clock::wall();
    bench.send(0, 0);
    let (received, _) = bench.heard(7);
    assert!(received >= begun);
    // Sent without a pause, before, while and after the order is taken.
    for seq in 1..400 {
        bench.send(0, seq);
        std::thread::sleep(Duration::from_micros(500));
        if seq == 200 {
            assert!(bench.reader.open_recordings().is_empty(), "a ring is in no journal");
            assert_eq!(bench.media.stats().packets.value(), 0);
            bench.media.send(Fact::Recording { draft: draft(id, None) }).unwrap();
            let (segment, phantom) = (SegmentId(7), extension(0));
            let opened = Fact::SegmentOpened {
                segment,
                recordingid: id,
                phantom,
                at: begun,
                key: None,
                side: None,
            };
            bench.media.send(opened).unwrap();
        }
    }
    let (first, captured) = bench.heard(7);
    assert_eq!(first, received, "the segment begins with what the ring held first");
    assert!(captured.wall > received);
    bench.close(7, id);
    assert_eq!(bench.ended(), id);
    let captured = bench.captured(id);
    let sequence: Vec<u16> = captured.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(sequence, (0..400).collect::<Vec<_>>(), "each once, in order");
    assert!(captured.is_sorted_by_key(|(_, at)| *at));
    assert_eq!(captured[0].1, received, "with the kernel's time of receiving");
    bench.thread.stop();
}

#[test]
fn a_ring_keeps_its_last_seconds_only() {
    let mut bench = Bench::start(1);
    let id = id(1);
    let reach = Duration::from_millis(400);
    bench.begin_ring(0, 1, reach);
    bench.send(0, 0);
    let (first, _) = bench.heard(1);
    let mut seq = 1;
    until("more has come than a ring takes", || {
        bench.send(0, seq);
        seq += 1;
        std::thread::sleep(Duration::from_millis(5));
        Clock::wall().micros_since(first) > 1_500_000
    });
    let now = Clock::wall();
    bench.media.send(Fact::Recording { draft: draft(id, None) }).unwrap();
    let (segment, phantom, at) = (SegmentId(1), extension(0), now - reach);
    bench
        .media
        .send(Fact::SegmentOpened { segment, recordingid: id, phantom, at, key: None, side: None })
        .unwrap();
    bench.heard(1);
    bench.close(1, id);
    bench.ended();
    let captured = bench.captured(id);
    assert!(captured.iter().all(|(_, received)| *received >= at), "nothing older");
    let reaches_back = now.micros_since(captured[0].1);
    assert!(reaches_back > 250_000, "{reaches_back} us: but for a sweep's length all of it");
    assert_eq!(captured.last().unwrap().0, seq - 1);
    assert!(captured.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1), "without a hole");
    bench.thread.stop();
}

#[test]
fn what_a_ring_held_is_gone_with_it_and_its_phantom_serves_again() {
    let mut bench = Bench::start(1);
    let id = id(1);
    bench.begin_ring(0, 1, Duration::from_secs(30));
    bench.send(0, 0);
    bench.heard(1);
    bench.ring(0, 1, RingChange::End);
    bench.open_and_wait(0, 2, id);
    bench.send(0, 1);
    bench.heard(2);
    bench.close(2, id);
    bench.ended();
    let sequence: Vec<u16> = bench.captured(id).iter().map(|(seq, _)| *seq).collect();
    assert_eq!(sequence, [1]);
    bench.thread.stop();
}

#[test]
fn strangers_are_kept_out_of_a_ring_and_its_silence_is_told() {
    let mut bench = Bench::start(1);
    bench.begin_ring(0, 1, Duration::from_secs(30));
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    bench.send(0, 0);
    bench.heard(1);
    let stats = bench.media.clone();
    until("a stranger is kept out after the grace", || {
        stranger.send_to(&datagram(9), bench.ports[0]).unwrap();
        stats.stats().strangers.value() > 0
    });
    bench.notice(|n| *n == MediaNotice::Silent { segment: SegmentId(1) });
    bench.send(0, 1);
    bench.notice(|n| *n == MediaNotice::Audible { segment: SegmentId(1) });
    bench.thread.stop();
}

#[test]
fn what_a_full_disk_does_not_take_of_a_ring_is_accounted_for() {
    const RINGED: u16 = 100;
    let mut bench = Bench::start(1);
    let id = id(1);
    bench.begin_ring(0, 1, Duration::from_secs(30));
    for seq in 0..RINGED {
        bench.send(0, seq);
    }
    bench.heard(1);
    let at = Clock::wall() - Duration::from_secs(10);
    bench.media.send(Fact::Recording { draft: draft(id, None) }).unwrap();
    until("the recording is in the journal", || bench.reader.open_recordings().contains(&id));
    bench.disk.set_capacity(Some(bench.disk.used()));
    let (segment, phantom) = (SegmentId(1), extension(0));
    bench
        .media
        .send(Fact::SegmentOpened { segment, recordingid: id, phantom, at, key: None, side: None })
        .unwrap();
    let media = bench.media.clone();
    let mut seq = RINGED;
    until("media is lost", || {
        bench.send(0, seq);
        seq += 1;
        media.stats().lost_packets.value() >= u64::from(RINGED)
    });
    bench.disk.set_capacity(None);
    until("media is kept again", || {
        bench.send(0, seq);
        seq += 1;
        !media.stats().not_writing.is_set()
    });
    bench.close(1, id);
    bench.ended();
    let kept = bench.captured(id).len() as u64;
    let lost = media.stats().lost_packets.value();
    assert_eq!(kept + lost, u64::from(seq), "each packet is accounted for");
    bench.thread.stop();
}

impl Bench {
    fn pause(&self, phantom: usize, change: PauseChange) {
        assert!(self.media.pause(PauseOrder { device: extension(phantom), change }));
    }
}

#[test]
fn what_comes_in_a_pause_is_heard_and_is_nowhere() {
    crate::rtp_socket::tests::until_stamped();
    let mut bench = Bench::start(2);
    let first = id(1);
    bench.open_and_wait(0, 1, first);
    bench.send(0, 1);
    bench.heard(1);
    bench.pause(0, PauseChange::From(Clock::wall()));
    bench.send(0, 2);
    bench.send(0, 3);
    // What waits in the socket when the pause ends was received in it all the same.
    // Of what comes in its last microsecond nobody can tell on which side it is.
    let over = Clock::wall() + Duration::from_micros(1);
    bench.pause(0, PauseChange::Until(over));
    until("the pause is over", || Clock::wall() > over);
    bench.send(0, 4);
    until("what came after the pause", || bench.captured(first).iter().any(|(seq, _)| *seq == 4));
    let numbers =
        |bench: &Bench, id| bench.captured(id).iter().map(|row| row.0).collect::<Vec<_>>();
    assert_eq!(numbers(&bench, first), [1, 4]);
    // A segment that begins in a pause is heard, so nobody is put in its phantom's place; a ring likewise.
    let other = id(2);
    bench.pause(1, PauseChange::From(Clock::wall()));
    bench.begin_ring(1, 2, Duration::from_secs(30));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert!(runtime.block_on(bench.media.reached()), "it takes orders");
    bench.send(1, 7);
    bench.heard(2);
    bench.open_and_wait(1, 2, other);
    bench.pause(1, PauseChange::Until(Clock::wall()));
    bench.send(1, 8);
    until("what came after it", || bench.captured(other).iter().any(|(seq, _)| *seq == 8));
    assert_eq!(numbers(&bench, other), [8]);
    bench.thread.stop();
}
