//! The recorder's media thread as it is shipped, with a call open on every phantom: capture
//! journal with checksums, kernel time stamps, statistics, durability on its own beat.

use std::net::{SocketAddr, SocketAddrV4};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use recorder::clock::Clock;
use recorder::media_stats::MediaStats;
use recorder::media_thread::{MediaConfig, MediaThread, NotTaken, Protected};
use recorder_core::media::MediaNotice;
use recorder_core::media::srtp::Protection;
use storage::{Journal, JournalOptions, JournalReader, Keys};
use storage_core::journal::{Channel, Entry, Fact};
use storage_core::{NodeId, RecordingId, WallTime};
use tokio::sync::mpsc;

use super::receiver::{Kept, Receiver};
use crate::facts;

/// The control plane would take no longer than this to open so many calls.
const PATIENCE: Duration = Duration::from_secs(60);

/// The running media thread.
pub struct Recorder {
    thread: MediaThread,
    reader: JournalReader,
    calls: usize,
    opened: WallTime,
    /// Kept open, as the control plane and the sealer would.
    _notices: mpsc::Receiver<MediaNotice>,
    _complete: mpsc::Receiver<RecordingId>,
}

impl Recorder {
    /// Starts it and opens a call on each address, whose media comes from `source` and is protected so.
    /// With keys it encrypts what it writes.
    pub fn start(
        folder: &Path,
        addresses: &[SocketAddrV4],
        source: SocketAddrV4,
        sync_ms: u64,
        keys: Keys,
        media: &Protection,
    ) -> Result<Self> {
        let options = JournalOptions::default();
        let (journal, _) = Journal::open_with_keys(folder, NodeId(1), options, keys)?;
        let reader = journal.reader();
        let (notices, taken) = mpsc::channel(65_536);
        let (complete, ended) = mpsc::channel(1);
        let addresses = addresses.iter().copied().map(SocketAddr::V4);
        let phantoms = (0..).map(|number| recorder_core::Receiver::whole(facts::phantom(number)));
        let phantoms: Vec<_> = phantoms.zip(addresses).collect();
        let calls = phantoms.len();
        let clock = Clock::start();
        let encrypted = *media != Protection::Clear;
        let config =
            MediaConfig { clock, phantoms, journal, sync_ms, encrypted, notices, complete };
        let thread = MediaThread::spawn(config)?;
        let opened = Clock::wall();
        let this = Self { thread, reader, calls, opened, _notices: taken, _complete: ended };
        this.open_calls(source, media)?;
        Ok(this)
    }

    /// Reads what is captured.
    pub fn reader(&self) -> JournalReader {
        self.reader.clone()
    }

    fn open_calls(&self, source: SocketAddrV4, protection: &Protection) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let media = self.thread.handle();
        for call in 0..self.calls {
            for fact in facts::begin(call, self.opened, source.into()) {
                let mut waiting = Some(fact);
                while let Some(fact) = waiting.take() {
                    if let Err(NotTaken(fact)) = media.send(fact) {
                        pause(deadline)?;
                        waiting = Some(*fact);
                    }
                }
            }
            let (phantom, at) = (facts::phantom(call), self.opened);
            while *protection != Protection::Clear
                && !media.protect(Protected {
                    phantom: (&phantom).into(),
                    at,
                    protection: Some(protection.clone()),
                    stands: false,
                })
            {
                pause(deadline)?;
            }
        }
        // Facts are written in their order, and acted upon before they are written.
        let last = facts::recording(self.calls - 1, self.opened);
        loop {
            let mut open = false;
            let _ = self.reader.read_recording(last, |entry| {
                open |= matches!(entry, Entry::Fact(Fact::MediaTerms { .. }));
            });
            if open {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the calls are not open after {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Packets of a call, as the sealer would read them.
    fn packets(&self, call: usize) -> Result<u64> {
        let mut packets = 0;
        self.reader.read_recording(facts::recording(call, self.opened), |entry| {
            if let Entry::Packets(block) = entry
                && block.channel == Channel::Rtp
            {
                packets += block.len() as u64;
            }
        })?;
        Ok(packets)
    }
}

/// Lets the media thread take some of its orders.
fn pause(deadline: Instant) -> Result<()> {
    ensure!(Instant::now() < deadline, "the media thread takes no orders");
    std::thread::sleep(Duration::from_millis(1));
    Ok(())
}

impl Receiver for Recorder {
    fn syncs(&self) -> u64 {
        self.thread.handle().stats().sync_time.snapshot().0.iter().sum()
    }

    fn stop(self: Box<Self>) -> Result<Kept> {
        let per_stream: Result<Vec<u64>> = (0..self.calls).map(|call| self.packets(call)).collect();
        let media = self.thread.handle();
        self.thread.stop();
        let stats = media.stats();
        Ok(Kept {
            packets: stats.packets.value(),
            refused: refused(stats),
            late_sweeps: stats.sweeps_late.value(),
            per_stream: per_stream?,
        })
    }
}

/// What came and was counted as anything but kept.
fn refused(stats: &MediaStats) -> Vec<(String, u64)> {
    let malformed = stats.malformed.iter().map(|counter| counter.value()).sum();
    let counts = [
        ("stranger", stats.strangers.value()),
        ("stray", stats.strays.value()),
        ("cut", stats.truncated.value()),
        ("malformed", malformed),
        ("not written", stats.lost_packets.value()),
    ];
    let some = counts.into_iter().filter(|(_, count)| *count > 0);
    some.map(|(name, count)| (name.to_owned(), count)).collect()
}
