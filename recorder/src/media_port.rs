//! One phantom's ports as the media thread sees them: sweeps a socket, lets the intake judge each
//! datagram, and frames what is kept into blocks. It neither writes to the journal nor decides
//! when to sweep.

use std::net::SocketAddr;
use std::time::Duration;

use recorder_core::media::{Intake, Verdict};
use storage_core::journal::{BlockWriter, Channel};
use storage_core::{Extension, MonoTime, RecordingId, SegmentId, WallTime};

use crate::clock::Clock;
use crate::media_stats::MediaStats;
use crate::rtp_socket::{Batch, BindError, Datagram, PhantomSockets};

/// A socket gives way to the next one after so many batches (2,048 datagrams, seven times what
/// its buffer holds).
const BATCHES_MAX: usize = 64;

/// A segment that has not been heard for so long is no more looked for on the fast beat.
const EAGER_FOR: Duration = Duration::from_secs(5);

/// A phantom.
#[derive(Debug)]
pub(crate) struct Port {
    pub phantom: Extension,
    pub intake: Intake,
    /// The recording that the open segment belongs to.
    pub recording: Option<RecordingId>,
    /// Whether the journal has the open segment's begin.
    pub known: bool,
    /// When the open segment was opened, as long as no packet of it is in the capture.
    pub awaiting: Option<MonoTime>,
    /// Packets of the open segment that could not be kept and are not in the journal as a fact.
    pub lost: Option<LostSpan>,
    sockets: PhantomSockets,
}

/// Packets that could not be kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LostSpan {
    pub from: WallTime,
    pub to: WallTime,
    pub packets: u64,
}

/// What one sweep of all sockets has gathered and not yet written.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    /// Blocks, one after the other.
    pub bytes: Vec<u8>,
    pub blocks: Vec<Block>,
}

/// One block in [`Gathered::bytes`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    /// Where it ends.
    pub end: usize,
    /// Number of the port.
    pub port: usize,
    pub channel: Channel,
    pub packets: u64,
    /// Length of the packets in it.
    pub bytes: u64,
    pub from: WallTime,
    pub to: WallTime,
}

impl Gathered {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.blocks.clear();
    }

    /// Frames datagrams of one segment, a block for each stretch from one source.
    fn take<'d>(
        &mut self,
        port: usize,
        channel: Channel,
        mut datagrams: impl Iterator<Item = (SegmentId, Datagram<'d>)>,
    ) {
        let mut next = datagrams.next();
        while let Some((segment, first)) = next.take() {
            let mut block =
                Block { end: 0, port, channel, packets: 0, bytes: 0, from: first.at, to: first.at };
            let source = first.source;
            let mut writer =
                BlockWriter::begin(&mut self.bytes, segment, channel, source, first.at);
            let mut candidate = Some((segment, first));
            while let Some((segment, datagram)) = candidate.take() {
                if datagram.source != source || !writer.push(datagram.at, datagram.bytes) {
                    next = Some((segment, datagram));
                    break;
                }
                block.packets += 1;
                block.bytes += datagram.bytes.len() as u64;
                block.to = datagram.at;
                candidate = datagrams.next();
            }
            writer.finish();
            block.end = self.bytes.len();
            self.blocks.push(block);
        }
    }
}

/// What every sweep needs.
pub(crate) struct Sweep<'a> {
    pub now: MonoTime,
    pub batch: &'a mut Batch,
    pub gathered: &'a mut Gathered,
    pub stats: &'a MediaStats,
}

impl Port {
    pub(crate) fn bind(phantom: Extension, rtp: SocketAddr) -> Result<Self, BindError> {
        Ok(Self {
            phantom,
            intake: Intake::default(),
            recording: None,
            known: false,
            awaiting: None,
            lost: None,
            sockets: PhantomSockets::bind(rtp)?,
        })
    }

    /// Whether its first packet is being waited for.
    pub(crate) fn is_eager(&self, now: MonoTime) -> bool {
        self.awaiting.is_some_and(|since| now.since(since) < EAGER_FOR)
    }

    /// Receives what waits at one of the two sockets. Tells whether a stray came.
    pub(crate) fn sweep(&mut self, number: usize, channel: Channel, sweep: &mut Sweep<'_>) -> bool {
        let socket = match channel {
            Channel::Rtp => &mut self.sockets.rtp,
            Channel::Rtcp => &mut self.sockets.rtcp,
        };
        let (now, stats, gathered) = (sweep.now, sweep.stats, &mut *sweep.gathered);
        let intake = &mut self.intake;
        let mut strays = 0;
        let mut judge = |datagram: Datagram<'_>| {
            if datagram.truncated {
                stats.truncated.add(1);
                return None;
            }
            match intake.judge(now, channel, datagram.source, datagram.bytes) {
                Verdict::Keep(segment) => return Some(segment),
                Verdict::Stranger => stats.strangers.add(1),
                Verdict::Malformed(reason) => stats.malformed[reason.index()].add(1),
                Verdict::Stray => strays += 1,
            }
            None
        };
        for _ in 0..BATCHES_MAX {
            let received = sweep.batch.receive(socket, Clock::wall, |datagrams| {
                let kept = datagrams.filter_map(|d| judge(d).map(|segment| (segment, d)));
                gathered.take(number, channel, kept);
            });
            match received {
                Ok(received) => {
                    if received.dropped > 0 {
                        stats.kernel_drops.add(received.dropped.into());
                        if let Some(phantom) = stats.phantoms.get(&self.phantom) {
                            phantom.kernel_drops.add(received.dropped.into());
                        }
                    }
                    if !received.more {
                        break;
                    }
                }
                Err(_) => {
                    stats.receive_errors.add(1);
                    break;
                }
            }
        }
        stats.strays.add(strays);
        strays > 0
    }

    /// Throws away what waits at both sockets: it is from before a segment that begins now.
    pub(crate) fn discard(&mut self, sweep: &mut Sweep<'_>) {
        for socket in [&mut self.sockets.rtp, &mut self.sockets.rtcp] {
            for _ in 0..BATCHES_MAX {
                match sweep.batch.receive(socket, Clock::wall, |_| {}) {
                    Ok(received) => {
                        sweep.stats.strays.add(received.datagrams as u64);
                        if !received.more {
                            break;
                        }
                    }
                    Err(_) => break,
                }
            }
        }
    }

    /// Notes a block of this port that is not in the journal.
    pub(crate) fn lose(&mut self, block: &Block) {
        let lost = self.lost.get_or_insert(LostSpan { from: block.from, to: block.to, packets: 0 });
        lost.from = lost.from.min(block.from);
        lost.to = lost.to.max(block.to);
        lost.packets += block.packets;
    }
}
