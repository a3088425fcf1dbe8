//! One phantom's ports as the media thread sees them: sweeps a socket, lets the intake judge each
//! datagram, and frames what is kept into blocks. It neither writes to the journal nor decides
//! when to sweep.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use recorder_core::Receiver;
use recorder_core::media::srtp::{Arrival, Decryptor, Protection};
use recorder_core::media::{Admission, Intake, Mute, Verdict};
use storage_core::journal::{BlockWriter, Channel};
use storage_core::{MonoTime, RecordingId, Redacted, SegmentId, WallTime};
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::media_ring::Ring;
use crate::media_stats::MediaStats;
use crate::media_thread::Protected;
use crate::rtp_socket::{Batch, BindError, Datagram, PhantomSockets, RtpSocket};

/// A socket gives way to the next one after so many batches (2,048 datagrams, seven times what
/// its buffer holds).
const BATCHES_MAX: usize = 64;

/// Datagrams of no segment that are kept for a moment: a second of 20 ms packets and some reports.
const UNCLAIMED_MAX: usize = 64;

/// A segment that has not been heard for so long is no more looked for on the fast beat.
const EAGER_FOR: Duration = Duration::from_secs(5);

/// A phantom, or what else receives media.
#[derive(Debug)]
pub(crate) struct Port {
    pub phantom: Receiver,
    pub intake: Intake,
    /// Between the sockets and the intake, where media may be encrypted.
    pub decryptor: Decryptor,
    /// How what it is sent is protected, and since when, where that is sent on from segment to segment.
    standing: Option<(WallTime, Protection)>,
    /// When what comes is discarded.
    mute: Mute,
    /// When the first packet came that belonged to the open segment and was discarded.
    pub hidden: Option<WallTime>,
    /// The recording that the open segment belongs to.
    pub recording: Option<RecordingId>,
    /// The codec that the switch named last for the open segment; empty if none.
    pub codec: String,
    /// Whether the journal has the open segment's begin.
    pub known: bool,
    /// When the open segment was opened, as long as no packet of it is in the capture.
    pub awaiting: Option<MonoTime>,
    /// What keeps the packets of the open segment as long as nothing of it is written down.
    pub ring: Option<Ring>,
    /// Packets of the open segment that could not be kept and are not in the journal as a fact.
    pub lost: Option<LostSpan>,
    /// It was said of the open segment that nothing can be decrypted.
    undecryptable_told: bool,
    /// What came lately and belonged to no segment: the segment's begin may have overtaken its order.
    unclaimed: VecDeque<Held>,
    /// What came between a segment's begin and the taking of the order; for the next sweep.
    early: Vec<Held>,
    sockets: PhantomSockets,
}

/// A datagram outside the socket's buffer.
#[derive(Debug)]
struct Held {
    at: WallTime,
    channel: Channel,
    source: SocketAddr,
    bytes: Zeroizing<Vec<u8>>,
}

impl Held {
    fn of(channel: Channel, datagram: &Datagram<'_>) -> Self {
        let bytes = Zeroizing::new(datagram.bytes.to_vec());
        let (at, source) = (datagram.at, datagram.source);
        Self { at, channel, source, bytes }
    }

    fn datagram(&self) -> Datagram<'_> {
        Datagram { bytes: &self.bytes, source: self.source, at: self.at, truncated: false }
    }
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
                Block { end: 0, port, channel, packets: 0, from: first.at, to: first.at };
            let source = first.source;
            let mut writer =
                BlockWriter::begin_unchecked(&mut self.bytes, segment, channel, source, first.at);
            let mut candidate = Some((segment, first));
            while let Some((segment, datagram)) = candidate.take() {
                if datagram.source != source || !writer.push(datagram.at, datagram.bytes) {
                    next = Some((segment, datagram));
                    break;
                }
                block.packets += 1;
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
    /// `encrypted`: the phantom offers the switch encryption.
    pub(crate) fn bind(
        phantom: Receiver,
        rtp: SocketAddr,
        encrypted: bool,
    ) -> Result<Self, BindError> {
        Ok(Self {
            phantom,
            intake: Intake::default(),
            decryptor: Decryptor::new(encrypted),
            standing: None,
            mute: Mute::default(),
            hidden: None,
            recording: None,
            codec: String::new(),
            known: false,
            awaiting: None,
            ring: None,
            lost: None,
            undecryptable_told: false,
            unclaimed: VecDeque::new(),
            early: Vec::new(),
            sockets: PhantomSockets::bind(rtp)?,
        })
    }

    /// Whether its first packet is being waited for.
    pub(crate) fn is_eager(&self, now: MonoTime) -> bool {
        self.awaiting.is_some_and(|since| now.since(since) < EAGER_FOR)
    }

    /// Receives what waits at one of the two sockets. Tells whether a stray came.
    pub(crate) fn sweep(&mut self, number: usize, channel: Channel, sweep: &mut Sweep<'_>) -> bool {
        let segment = self.intake.segment();
        if let Some(segment) = segment.filter(|_| !self.decryptor.is_clear()) {
            self.sweep_encrypted(number, channel, segment, sweep);
            return false;
        }
        let socket = match channel {
            Channel::Rtp => &mut self.sockets.rtp,
            Channel::Rtcp => &mut self.sockets.rtcp,
        };
        let (now, stats, gathered) = (sweep.now, sweep.stats, &mut *sweep.gathered);
        let (intake, unclaimed, mute) = (&mut self.intake, &mut self.unclaimed, &self.mute);
        let (mut strays, mut hidden) = (0, None);
        let mut judge = |datagram: Datagram<'_>| {
            if datagram.truncated {
                stats.truncated.add(1);
                return None;
            }
            let hides = mute.hides(now, datagram.at);
            match intake.judge(now, channel, datagram.source, datagram.bytes) {
                Verdict::Keep(_) | Verdict::Stray if hides => {
                    hidden.get_or_insert(datagram.at);
                }
                Verdict::Keep(segment) => return Some(segment),
                Verdict::Stranger => stats.strangers.add(1),
                Verdict::Malformed(reason) => stats.malformed[reason.index()].add(1),
                Verdict::Stray => {
                    strays += 1;
                    if unclaimed.len() == UNCLAIMED_MAX {
                        unclaimed.pop_front();
                    }
                    unclaimed.push_back(Held::of(channel, &datagram));
                }
            }
            None
        };
        let early = self.early.iter().filter(|held| held.channel == channel).map(Held::datagram);
        gathered.take(number, channel, early.filter_map(|d| judge(d).map(|segment| (segment, d))));
        receive_all(socket, sweep.batch, stats, |datagrams| {
            let kept = datagrams.filter_map(|d| judge(d).map(|segment| (segment, d)));
            gathered.take(number, channel, kept);
        });
        self.early.retain(|held| held.channel != channel);
        stats.strays.add(strays);
        self.discarded(channel, hidden, sweep.batch);
        strays > 0
    }

    /// The same for the open segment, where what comes is or may be encrypted: it is decrypted
    /// before it is judged and kept, and what cannot be is not.
    fn sweep_encrypted(
        &mut self,
        number: usize,
        channel: Channel,
        segment: SegmentId,
        sweep: &mut Sweep<'_>,
    ) {
        let socket = match channel {
            Channel::Rtp => &mut self.sockets.rtp,
            Channel::Rtcp => &mut self.sockets.rtcp,
        };
        let (now, stats) = (sweep.now, sweep.stats);
        let (intake, decryptor) = (&mut self.intake, &mut self.decryptor);
        let (mute, mut hidden) = (&self.mute, None);
        let mut decrypt = |datagram: Datagram<'_>| {
            if datagram.truncated {
                stats.truncated.add(1);
                return;
            }
            match intake.admits(now, channel, datagram.source) {
                Admission::Open => {
                    let Datagram { at, source, bytes, .. } = datagram;
                    decryptor.take(now, channel, Arrival { at, source, bytes });
                }
                Admission::Stranger => stats.strangers.add(1),
                Admission::Stray => stats.strays.add(1),
            }
        };
        let early = self.early.extract_if(.., |held| held.channel == channel);
        early.for_each(|held| decrypt(held.datagram()));
        receive_all(socket, sweep.batch, stats, |datagrams| datagrams.for_each(&mut decrypt));
        let kept = decryptor.opened(channel).filter_map(|Arrival { at, source, bytes }| {
            match intake.judge(now, channel, source, bytes) {
                Verdict::Keep(_) if mute.hides(now, at) => {
                    hidden.get_or_insert(at);
                }
                Verdict::Keep(_) => {
                    return Some((segment, Datagram { bytes, source, at, truncated: false }));
                }
                Verdict::Stranger => stats.strangers.add(1),
                Verdict::Malformed(reason) => stats.malformed[reason.index()].add(1),
                Verdict::Stray => stats.strays.add(1),
            }
            None
        });
        sweep.gathered.take(number, channel, kept);
        decryptor.clear_opened(channel);
        self.count_refused(stats);
        self.discarded(channel, hidden, sweep.batch);
    }

    /// Something was received in a pause: it is in no buffer any more, and the segment was heard all the same.
    fn discarded(&mut self, channel: Channel, hidden: Option<WallTime>, batch: &mut Batch) {
        let Some(at) = hidden else { return };
        batch.wipe();
        if channel == Channel::Rtp {
            self.hidden.get_or_insert(at);
        }
    }

    /// A recording is paused: what was received since then is discarded, and whatever comes.
    pub(crate) fn mute(&mut self, now: MonoTime, since: WallTime) {
        self.mute.begin(now, since);
        self.unclaimed.retain(|held| held.at < since);
        self.early.retain(|held| held.at < since);
        if let Some(ring) = &mut self.ring {
            ring.cut(since);
        }
    }

    /// It goes on: what is received from then on is kept.
    pub(crate) fn unmute(&mut self, now: MonoTime, until: WallTime) {
        self.mute.end(now, until);
    }

    /// Time has passed for what waits to be decrypted.
    pub(crate) fn swept(&mut self, now: MonoTime, stats: &MediaStats) {
        if !self.decryptor.is_clear() {
            self.decryptor.swept(now);
            self.count_refused(stats);
        }
    }

    /// Decrypts by other terms from now on. Without a segment nothing is captured, and each begins with terms of its
    /// own or with those that stand.
    pub(crate) fn protect(&mut self, now: MonoTime, protected: Protected) {
        let Protected { at, protection, stands, .. } = protected;
        self.standing = protection.clone().filter(|_| stands).map(|protection| (at, protection));
        if let Some(protection) = protection {
            self.take_terms(now, at, protection);
        }
    }

    fn take_terms(&mut self, now: MonoTime, at: WallTime, protection: Protection) {
        let Some(segment) = self.intake.segment() else { return };
        if let Err(fault) = self.decryptor.terms(now, at, protection) {
            let phantom = Redacted(self.phantom.device.as_str());
            tracing::error!(
                %phantom, %segment, %fault,
                "a call's media cannot be decrypted: look at al_mediaencryption and at the codec set"
            );
        }
    }

    /// Says, once a segment, that nothing of what comes can be decrypted, if that is so.
    pub(crate) fn tell_undecryptable(&mut self, segment: SegmentId) {
        let Some(reason) = self.decryptor.failing().filter(|_| !self.undecryptable_told) else {
            return;
        };
        self.undecryptable_told = true;
        let phantom = Redacted(self.phantom.device.as_str());
        tracing::error!(
            %phantom, %segment, %reason,
            "nothing of what a call's phantom receives can be decrypted"
        );
    }

    /// The segment ends; nothing more of it is decrypted.
    pub(crate) fn end(&mut self, stats: &MediaStats) {
        self.intake.close();
        self.decryptor.end();
        self.count_refused(stats);
        self.recording = None;
        self.codec.clear();
        self.hidden = None;
        self.awaiting = None;
        self.ring = None;
    }

    fn count_refused(&mut self, stats: &MediaStats) {
        for (counter, count) in stats.undecryptable.iter().zip(self.decryptor.take_refused()) {
            counter.add(count);
        }
    }

    /// A segment began at `since`, by the clock of the kernel's receive times. What has come since
    /// then belongs to it, though its order is taken only now; what waits from before does not.
    pub(crate) fn begin(&mut self, since: WallTime, sweep: &mut Sweep<'_>) {
        self.early.clear();
        self.decryptor.begin();
        if let Some((at, protection)) = self.standing.clone() {
            self.take_terms(sweep.now, at, protection);
        }
        self.undecryptable_told = false;
        self.count_refused(sweep.stats);
        let unclaimed = self.unclaimed.drain(..).filter(|held| held.at >= since);
        self.early.extend(unclaimed);
        let sockets =
            [(Channel::Rtp, &mut self.sockets.rtp), (Channel::Rtcp, &mut self.sockets.rtcp)];
        let (mute, now, mut wipe) = (&self.mute, sweep.now, false);
        for (channel, socket) in sockets {
            for _ in 0..BATCHES_MAX {
                let (early, stats) = (&mut self.early, sweep.stats);
                let received = sweep.batch.receive(socket, Clock::wall, |datagrams| {
                    for datagram in datagrams {
                        if mute.hides(now, datagram.at) {
                            wipe = true;
                        } else if datagram.at >= since && !datagram.truncated {
                            early.push(Held::of(channel, &datagram));
                        } else {
                            stats.strays.add(1);
                        }
                    }
                });
                if !received.is_ok_and(|received| received.more) {
                    break;
                }
            }
        }
        if wipe {
            sweep.batch.wipe();
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

/// Takes what waits at a socket, batch by batch.
fn receive_all(
    socket: &mut RtpSocket,
    batch: &mut Batch,
    stats: &MediaStats,
    mut take: impl FnMut(&mut dyn Iterator<Item = Datagram<'_>>),
) {
    for _ in 0..BATCHES_MAX {
        match batch.receive(socket, Clock::wall, &mut take) {
            Ok(received) => {
                stats.kernel_drops.add(received.dropped.into());
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
}
