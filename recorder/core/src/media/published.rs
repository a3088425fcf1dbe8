//! A published voice file as one more source: its stretches of audio as packets, its gaps as what
//! could not be kept, in the form of the capture journal. So whatever was captured and found later
//! is placed around what is published already, whose own captures may be gone.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use storage_core::g711::Law;
use storage_core::journal::{BlockWriter, Channel, Entry, Fact, Found, Scanner};
use storage_core::record::GapCause;
use storage_core::{Recording, WallTime};

use super::index::CaptureKey;
use super::payload::{Codec, EVENT_BYTES_MAX};
use super::record::is_ours;

/// Samples of a packet: 20 ms.
pub const FRAME_SAMPLES: usize = 160;
/// Packets of a block: 1 s.
const BLOCK_PACKETS: usize = 50;
/// A millisecond, which is how exactly records say where a gap is.
const MS_SAMPLES: u64 = 8;
/// Audio is cut into streams at gaps that another capture may fill, but not into more than this.
const STREAMS_MAX: u32 = 1000;
/// Payload type of linear samples; any dynamic one does.
const LINEAR: u8 = 96;
/// Where its packets come from; any address does.
const SOURCE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// The voice file of a record.
pub trait PublishedAudio {
    /// Why it could not be read.
    type Error;

    /// How many samples it has.
    fn samples(&self) -> u64;

    /// Whether silence that was written is silent when it is read.
    fn keeps_silence(&self) -> bool;

    /// Reads `count` samples from `at` on into an empty payload: as G.711 where that is what they
    /// were, as linear samples ([`Codec::L16`]) else.
    ///
    /// # Errors
    /// If the file cannot be read.
    fn read(&mut self, at: u64, count: usize, payload: &mut Vec<u8>) -> Result<Codec, Self::Error>;
}

/// Gives what is published to `entry`, in order, to be read after
/// [`super::Source::PUBLISHED`] was named. The same each time.
///
/// # Errors
/// If the file cannot be read.
pub fn entries<A: PublishedAudio>(
    record: &Recording,
    audio: &mut A,
    mut entry: impl FnMut(Entry<'_>),
) -> Result<(), A::Error> {
    let total = audio.samples();
    let clock = PublishedClock { record, total };
    let segment = CaptureKey::PUBLISHED.segment;
    let gaps = exact_gaps(record, audio)?;
    for gap in &gaps {
        let (from, to) = (clock.wall(gap.from), clock.wall(gap.to));
        entry(Entry::Fact(Fact::Lost { segment, from, to, packets: 0, cause: gap.cause }));
    }
    entry(Entry::Fact(Fact::MediaTerms {
        segment,
        at: record.started,
        source: None,
        codec: Codec::L16.name().to_owned(),
        packetms: 20,
    }));
    let mut packets = Packets {
        clock,
        ssrc: 1,
        seq: 0,
        bytes: Vec::new(),
        payload: Vec::new(),
        datagram: Vec::new(),
    };
    let mut at = 0;
    let end = Gap { from: total, to: total, cause: GapCause::NoMedia };
    for gap in gaps.iter().chain([&end]) {
        while at < gap.from {
            let until = gap.from.min(at + (FRAME_SAMPLES * BLOCK_PACKETS) as u64);
            packets.block(audio, at, until, &mut entry)?;
            at = until;
        }
        at = at.max(gap.to);
        if is_ours(gap.cause) && packets.ssrc < STREAMS_MAX {
            packets.ssrc += 1;
        }
    }
    Ok(())
}

/// A gap in samples.
#[derive(Clone, Copy, Debug)]
struct Gap {
    from: u64,
    to: u64,
    cause: GapCause,
}

/// The gaps of a record. It names each millisecond that is missing in part, so up to seven samples
/// at either end may be audio: those that are not silent are.
fn exact_gaps<A: PublishedAudio>(record: &Recording, audio: &mut A) -> Result<Vec<Gap>, A::Error> {
    let total = audio.samples();
    let mut gaps: Vec<Gap> = Vec::with_capacity(record.gaps.len());
    for gap in &record.gaps {
        let from = gap.startms.saturating_mul(MS_SAMPLES).min(total);
        let to = gap.endms.saturating_mul(MS_SAMPLES).min(total);
        let before = gaps.last().map_or(0, |before| before.to);
        let (from, to) = (from.max(before), to.max(before));
        let edge = if audio.keeps_silence() { MS_SAMPLES - 1 } else { 0 };
        let reach = (to - from).min(edge);
        let begin = sounding(audio, from, reach)?.map_or(0, |(_, last)| last + 1);
        let from = from + begin;
        let reach = (to - from).min(edge);
        let end = sounding(audio, to - reach, reach)?.map_or(0, |(first, _)| reach - first);
        if to - end > from {
            gaps.push(Gap { from, to: to - end, cause: gap.cause });
        }
    }
    Ok(gaps)
}

/// The first and the last of some samples that are not silent.
fn sounding<A: PublishedAudio>(
    audio: &mut A,
    at: u64,
    count: u64,
) -> Result<Option<(u64, u64)>, A::Error> {
    let mut payload = Vec::new();
    let heard: Vec<bool> =
        match audio.read(at, usize::try_from(count).unwrap_or(0), &mut payload)? {
            Codec::G711(law) => {
                let silence = law.decode(law.silence());
                payload.iter().map(|byte| law.decode(*byte) != silence).collect()
            }
            _ => payload.chunks_exact(2).map(|sample| sample != [0, 0]).collect(),
        };
    let first = heard.iter().position(|heard| *heard);
    let last = heard.iter().rposition(|heard| *heard);
    Ok(first.zip(last).map(|(a, b)| (a as u64, b as u64)))
}

/// When what is at a position was received.
#[derive(Clone, Copy)]
struct PublishedClock<'a> {
    record: &'a Recording,
    total: u64,
}

impl PublishedClock<'_> {
    fn wall(self, position: u64) -> WallTime {
        let Recording { started, ended, .. } = self.record;
        let span = i128::from(ended.micros_since(*started).max(0));
        let into = i128::from(position) * span / i128::from(self.total.max(1));
        let into = i64::try_from(into).unwrap_or(i64::MAX);
        WallTime::from_micros(started.as_micros().saturating_add(into))
    }
}

/// Makes packets of audio.
struct Packets<'a> {
    clock: PublishedClock<'a>,
    ssrc: u32,
    seq: u16,
    bytes: Vec<u8>,
    payload: Vec<u8>,
    datagram: Vec<u8>,
}

impl Packets<'_> {
    fn block<A: PublishedAudio>(
        &mut self,
        audio: &mut A,
        mut at: u64,
        until: u64,
        entry: &mut impl FnMut(Entry<'_>),
    ) -> Result<(), A::Error> {
        self.bytes.clear();
        let segment = CaptureKey::PUBLISHED.segment;
        let base = self.clock.wall(at);
        let mut block = BlockWriter::begin(&mut self.bytes, segment, Channel::Rtp, SOURCE, base);
        while at < until {
            let count = (until - at).min(FRAME_SAMPLES as u64);
            self.payload.clear();
            let samples = usize::try_from(count).unwrap_or(FRAME_SAMPLES);
            let payload_type = match audio.read(at, samples, &mut self.payload)? {
                Codec::G711(Law::Mu) => 0,
                Codec::G711(Law::A) => 8,
                _ if self.payload.len() > EVENT_BYTES_MAX => LINEAR,
                _ => {
                    // Under a dynamic number so few bytes are a pressed key: a millisecond in A-law then.
                    let linear = self.payload.chunks_exact(2);
                    let linear = linear.map(|pair| i16::from_be_bytes([pair[0], pair[1]]));
                    self.payload = linear.map(|sample| Law::A.encode(sample)).collect();
                    8
                }
            };
            // Positions are 32 bits in a plan, too.
            let timestamp = (at & u64::from(u32::MAX)) as u32;
            self.datagram.clear();
            self.datagram.extend_from_slice(&[0x80, payload_type]);
            self.datagram.extend_from_slice(&self.seq.to_be_bytes());
            self.datagram.extend_from_slice(&timestamp.to_be_bytes());
            self.datagram.extend_from_slice(&self.ssrc.to_be_bytes());
            self.datagram.extend_from_slice(&self.payload);
            // A second of packets is far from a block's bounds.
            let added = block.push(self.clock.wall(at), &self.datagram);
            debug_assert!(added, "a block takes {BLOCK_PACKETS} packets");
            self.seq = self.seq.wrapping_add(1);
            at += count;
        }
        block.finish();
        for found in Scanner::new(&self.bytes) {
            if let Found::Frame { frame, .. } = found
                && let Ok(packets) = frame.entry()
            {
                entry(packets);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use storage_core::record::VoiceFormat;
    use storage_core::{Draft, NodeId, RecordingId, SegmentId};

    use super::super::rtp::tests::packet;
    use super::super::{Index, Plan, Source, record};
    use super::*;

    /// Linear samples that no law gives.
    struct Linear(u64);

    impl PublishedAudio for Linear {
        type Error = std::convert::Infallible;

        fn samples(&self) -> u64 {
            self.0
        }

        fn keeps_silence(&self) -> bool {
            true
        }

        fn read(
            &mut self,
            _: u64,
            count: usize,
            payload: &mut Vec<u8>,
        ) -> Result<Codec, Self::Error> {
            payload.extend(std::iter::repeat_n([0x12, 0x35], count).flatten());
            Ok(Codec::L16)
        }
    }

    /// A call of one packet.
    fn call(at: WallTime) -> Plan {
        let mut bytes = Vec::new();
        let segment = SegmentId(1);
        let mut block = BlockWriter::begin(&mut bytes, segment, Channel::Rtp, SOURCE, at);
        assert!(block.push(at, &packet(1, 1, 0, 8, false, &[0x55; FRAME_SAMPLES])));
        block.finish();
        let mut index = Index::new();
        for found in Scanner::new(&bytes) {
            if let Found::Frame { frame, .. } = found {
                index.entry(&frame.entry().unwrap());
            }
        }
        index.plan().unwrap()
    }

    #[test]
    fn a_file_of_any_length_is_laid_down_whole_and_no_end_of_it_is_taken_for_a_key() {
        let at = WallTime::from_millis(1_700_000_000_000);
        let draft = Draft::blank(RecordingId::new(at, [0; 10]), NodeId(1), at);
        let before = record(draft, &call(at), VoiceFormat::Wav);
        for samples in [320, 321, 322, 328, 329, 8_003] {
            let ended = at + Duration::from_micros(samples * 125);
            let before = Recording { ended, ..before.clone() };
            let mut index = Index::new();
            index.source(Source::PUBLISHED);
            let Ok(()) = entries(&before, &mut Linear(samples), |entry| index.entry(&entry));
            let plan = index.plan().unwrap();
            assert_eq!((plan.total.0, plan.keys.len(), plan.gaps.len()), (samples, 0, 0));
        }
    }
}
