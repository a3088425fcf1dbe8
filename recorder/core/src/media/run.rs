//! Runs: packets of one sender whose sequence numbers and timestamps go on from one another. It
//! decides which run a packet belongs to, extends the short counters over their wraps, and keeps
//! 16 bytes per packet. It places nothing on a recording's timeline.
//!
//! Bounds: within a run a packet may arrive [`MISORDER_PACKETS_MAX`] packets or [`CLOCK_SLACK`]
//! behind its successors; a hole of [`DROPOUT_PACKETS_MAX`] packets is crossed. Beyond them a new run begins,
//! which is placed by wall time, so that nothing is thrown away.

use std::time::Duration;

use storage_core::WallTime;

use super::keys::Durations;
use super::payload::{Codec, Payload, classify, ticks_per_sample};
use super::quality::Jitter;
use super::rtp::{ExtSeq, MediaTime, RtpPacket, RtpTime, SeqNo, extend};

/// How many packets behind its successors a packet may arrive.
pub const MISORDER_PACKETS_MAX: i32 = 500;
/// How many packets may be missing in a row (RFC 3550, A.1, `MAX_DROPOUT`).
pub const DROPOUT_PACKETS_MAX: i32 = 3000;
/// How far a jump of the timestamp may be from the time that really passed.
pub const CLOCK_SLACK: Duration = Duration::from_secs(5);

/// A late packet's counters lie before the run's first ones, so they do not begin at zero.
const FIRST_MEDIA_TIME: MediaTime = MediaTime(1 << 20);
/// A packet is asked of so many of its sender's last runs: a late one may belong to an older.
const RUNS_TRIED: usize = 4;
/// One estimate of the shortest way through the network per so much media: 10 s.
const ESTIMATE_TICKS: u64 = 80_000;
/// Before the first audio of a run is seen: 20 ms.
const FRAME_TICKS_DEFAULT: i64 = 160;

/// A packet, as the index keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Indexed {
    /// Media time in its run.
    pub ticks: u32,
    /// Extended sequence number in its run.
    pub seq: u32,
    /// Number of the packet in the order of capture.
    pub ordinal: u32,
    /// Length of the payload; where that does not tell how many samples it holds, their number.
    length: u16,
    /// Payload type, and the marker as on the wire in the highest bit.
    kind: u8,
    flags: u8,
}

/// It arrived after a packet that follows it.
const BEHIND: u8 = 1;
/// Its length is in samples.
const SAMPLES: u8 = 2;

impl Indexed {
    pub(crate) const fn payload_type(self) -> u8 {
        self.kind & 0x7f
    }

    pub(crate) const fn marker(self) -> bool {
        self.kind & 0x80 != 0
    }

    /// Whether it arrived after a packet that follows it.
    pub(crate) const fn is_behind(self) -> bool {
        self.flags & BEHIND != 0
    }

    /// What it carries. `codec` is what the switch has named; empty if that is not known.
    pub(crate) fn payload(self, codec: &str) -> Payload {
        classify(self.payload_type(), self.length.into(), codec)
    }

    /// How many samples it holds, if it is of this codec. None where the codec was not known when it
    /// was indexed, and matters.
    pub(crate) const fn samples(self, codec: Codec) -> u16 {
        match (codec.samples_in(self.length), self.flags & SAMPLES != 0) {
            (Some(samples), false) => samples,
            (None, true) => self.length,
            _ => 0,
        }
    }

    pub(crate) fn time(self) -> MediaTime {
        MediaTime(u64::from(self.ticks))
    }
}

/// The newest packet of a run, which others are measured against.
#[derive(Clone, Copy, Debug)]
struct Newest {
    seq: SeqNo,
    ext: ExtSeq,
    timestamp: RtpTime,
    media: MediaTime,
    at: WallTime,
    frame_ticks: i64,
}

/// Packets that go on from one another.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// In order of arrival, until the timeline sorts them.
    pub packets: Vec<Indexed>,
    newest: Newest,
    /// Timestamp of [`FIRST_MEDIA_TIME`].
    base: RtpTime,
    /// Shortest (arrival - media time), microseconds, per stretch of [`ESTIMATE_TICKS`]; sorted.
    shortest: Vec<(u64, i64)>,
    /// Of the sender's clock in a sample.
    pub ticks_per_sample: i32,
    pub durations: Durations,
}

impl Run {
    fn begin(packet: &RtpPacket<'_>, at: WallTime, codec: &str) -> Self {
        let newest = Newest {
            seq: packet.seq,
            ext: ExtSeq::start(packet.seq),
            timestamp: packet.timestamp,
            media: FIRST_MEDIA_TIME,
            at,
            frame_ticks: FRAME_TICKS_DEFAULT,
        };
        Self {
            packets: Vec::new(),
            newest,
            base: packet.timestamp,
            ticks_per_sample: ticks_per_sample(packet.payload_type, codec),
            shortest: Vec::new(),
            durations: Durations::default(),
        }
    }

    /// The packet's counters, extended, if it belongs to this run.
    fn extended(&self, packet: &RtpPacket<'_>, at: WallTime, codec: &str) -> Option<(u32, u32)> {
        if ticks_per_sample(packet.payload_type, codec) != self.ticks_per_sample {
            return None;
        }
        let steps = packet.seq.steps_from(self.newest.seq);
        if !(-MISORDER_PACKETS_MAX..=DROPOUT_PACKETS_MAX).contains(&steps) {
            return None;
        }
        let ticks = i64::from(self.samples_from_newest(packet.timestamp));
        if !self.goes_on(i64::from(steps), ticks, at) {
            return None;
        }
        let seq = extend(self.newest.ext.0, i64::from(steps))?;
        let media = extend(self.newest.media.0, ticks)?;
        Some((u32::try_from(seq).ok()?, u32::try_from(media).ok()?))
    }

    /// Whether the timestamp's step suits the sequence number's; if not, whether it suits the
    /// time that passed (a silence). The wall clock is asked last because people set it.
    fn goes_on(&self, steps: i64, ticks: i64, at: WallTime) -> bool {
        if (ticks - steps * self.newest.frame_ticks).abs() <= 2 * self.newest.frame_ticks {
            return true;
        }
        let passed = at.micros_since(self.newest.at);
        let slack = i64::try_from(CLOCK_SLACK.as_micros()).unwrap_or(i64::MAX);
        (ticks * 125).saturating_sub(passed).saturating_abs() <= slack
    }

    fn push(
        &mut self,
        packet: &RtpPacket<'_>,
        at: WallTime,
        ordinal: u32,
        codec: &str,
        (seq, ticks): (u32, u32),
    ) {
        let ext = ExtSeq(u64::from(seq));
        let media = MediaTime(u64::from(ticks));
        let behind = ext < self.newest.ext;
        let bytes = u16::try_from(packet.payload.len()).unwrap_or(u16::MAX);
        let coded = coded(packet, codec);
        let (length, flags) = match coded {
            Some(codec) if codec.samples_in(bytes).is_none() => {
                (codec.samples(packet.payload), SAMPLES)
            }
            _ => (bytes, 0),
        };
        if !behind {
            self.newest.seq = packet.seq;
            self.newest.ext = ext;
            self.newest.timestamp = packet.timestamp;
            self.newest.media = media;
            self.newest.at = at;
            match classify(packet.payload_type, packet.payload.len(), "") {
                Payload::Audio(codec) => {
                    self.newest.frame_ticks = i64::from(codec.samples(packet.payload)).max(1);
                }
                _ if flags & SAMPLES != 0 => self.newest.frame_ticks = i64::from(length).max(1),
                // A number that the switch has to explain: G.711, as far as is known here.
                Payload::Foreign => self.newest.frame_ticks = i64::from(bytes),
                Payload::ComfortNoise | Payload::Event | Payload::Unknown => {}
            }
        }
        let kind = packet.payload_type | (u8::from(packet.marker) << 7);
        self.durations.packet(ticks, packet.payload_type, packet.payload);
        let flags = flags | if behind { BEHIND } else { 0 };
        self.packets.push(Indexed { ticks, seq, ordinal, length, kind, flags });
        self.estimate(media, at);
    }

    fn estimate(&mut self, media: MediaTime, at: WallTime) {
        let stretch = media.0 / ESTIMATE_TICKS;
        let delay = at.as_micros().saturating_sub(media.as_micros());
        // Nearly always the last one or the one behind it.
        let place = self.shortest.iter().rposition(|(have, _)| *have <= stretch);
        match place {
            Some(place) if self.shortest[place].0 == stretch => {
                let shortest = &mut self.shortest[place].1;
                *shortest = delay.min(*shortest);
            }
            _ => self.shortest.insert(place.map_or(0, |p| p + 1), (stretch, delay)),
        }
    }

    /// When a packet with this media time would have arrived by the shortest way through the
    /// network, judged by its neighbours: jitter only ever delays.
    pub(crate) fn wall(&self, media: MediaTime) -> WallTime {
        let stretch = media.0 / ESTIMATE_TICKS;
        let next = self.shortest.partition_point(|(have, _)| *have <= stretch);
        let near = &self.shortest[next.saturating_sub(2)..(next + 1).min(self.shortest.len())];
        let close = near.iter().filter(|(have, _)| have.abs_diff(stretch) <= 1);
        let shortest = close.map(|(_, delay)| *delay).min();
        let nearest = near.iter().min_by_key(|(have, _)| have.abs_diff(stretch));
        let delay = shortest.or(nearest.map(|(_, delay)| *delay)).unwrap_or(0);
        WallTime::from_micros(media.as_micros().saturating_add(delay))
    }

    /// The media time that the sender calls so; `None` if that is before its begin.
    pub(crate) fn media(&self, timestamp: RtpTime) -> Option<MediaTime> {
        let samples = self.samples_from_newest(timestamp);
        extend(self.newest.media.0, i64::from(samples)).map(MediaTime)
    }

    fn samples_from_newest(&self, timestamp: RtpTime) -> i32 {
        timestamp.ticks_from(self.newest.timestamp) / self.ticks_per_sample
    }

    /// What the sender called a media time.
    pub(crate) fn timestamp(&self, media: MediaTime) -> RtpTime {
        let samples = media.0.wrapping_sub(FIRST_MEDIA_TIME.0);
        let ticks = samples.wrapping_mul(u64::from(self.ticks_per_sample.unsigned_abs()));
        RtpTime(self.base.0.wrapping_add((ticks & u64::from(u32::MAX)) as u32))
    }

    /// (media time, shortest delay) in microseconds, for the measure of clock drift.
    pub(crate) fn delays(&self) -> impl Iterator<Item = (i64, i64)> {
        self.shortest
            .iter()
            .map(|(stretch, delay)| (MediaTime(stretch * ESTIMATE_TICKS).as_micros(), *delay))
    }
}

/// The codec of a packet, as far as it is known while it is indexed.
fn coded(packet: &RtpPacket<'_>, codec: &str) -> Option<Codec> {
    match classify(packet.payload_type, packet.payload.len(), codec) {
        Payload::Audio(codec) => Some(codec),
        _ => None,
    }
}

/// All runs of one synchronisation source from one address in one segment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stream {
    /// In order of their first packet.
    pub runs: Vec<Run>,
    /// Interarrival jitter of all of them.
    pub jitter: Jitter,
}

impl Stream {
    /// Takes a packet into the run to which it belongs. `codec` is what the switch has named so far.
    pub(crate) fn push(&mut self, packet: &RtpPacket<'_>, at: WallTime, ordinal: u32, codec: &str) {
        let tried = self.runs.len().saturating_sub(RUNS_TRIED);
        let fit = (tried..self.runs.len())
            .rev()
            .find_map(|index| Some((index, self.runs[index].extended(packet, at, codec)?)));
        let (index, counters) = fit.unwrap_or_else(|| {
            self.runs.push(Run::begin(packet, at, codec));
            let newest = &self.runs[self.runs.len() - 1].newest;
            // A run's first counters are far below 32 bits, by their constants.
            (self.runs.len() - 1, (newest.ext.0 as u32, newest.media.0 as u32))
        });
        self.runs[index].push(packet, at, ordinal, codec, counters);
        self.jitter.packet(index, MediaTime(u64::from(counters.1)), at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_ms(ms: i64) -> WallTime {
        WallTime::from_millis(1_700_000_000_000 + ms)
    }

    /// Feeds (sequence, timestamp, arrival ms) and returns (run, extended ticks from the first).
    fn runs_of(rows: &[(u16, u32, i64)]) -> Vec<Vec<i64>> {
        let mut stream = Stream::default();
        for (ordinal, (seq, ts, ms)) in (0_u32..).zip(rows) {
            let packet = RtpPacket {
                ssrc: super::super::rtp::Ssrc(1),
                seq: SeqNo(*seq),
                timestamp: RtpTime(*ts),
                payload_type: 8,
                marker: false,
                payload: &[0x55; 160],
            };
            stream.push(&packet, at_ms(*ms), ordinal, "");
        }
        let relative = |p: &Indexed| i64::from(p.ticks) - (1 << 20);
        stream.runs.iter().map(|run| run.packets.iter().map(relative).collect()).collect()
    }

    #[test]
    fn wraps_jumps_and_resets() {
        // (what, packets, runs expected)
        type Rows = &'static [(u16, u32, i64)];
        let cases: [(&str, Rows, Vec<Vec<i64>>); 6] = [
            (
                "both counters wrap, one packet late",
                &[(65_534, 0xffff_fec0, 0), (0, 0, 40), (65_535, 0xffff_ff60, 41), (1, 160, 60)],
                vec![vec![0, 320, 160, 480]],
            ),
            ("earlier than the first", &[(10, 1_600, 0), (9, 1_440, 1)], vec![vec![0, -160]]),
            (
                "silence: the timestamp jumps as far as time passed",
                &[(1, 0, 0), (2, 160, 20), (3, 80_160, 10_020)],
                vec![vec![0, 160, 80_160]],
            ),
            (
                "the timestamp is set anew, and the old run's last packet is late",
                &[(1, 0, 0), (3, 900_000_000, 40), (2, 160, 41), (4, 900_000_160, 60)],
                vec![vec![0, 160], vec![0, 160]],
            ),
            ("the sequence is set anew", &[(1, 0, 0), (30_000, 160, 20)], vec![vec![0], vec![0]]),
            (
                "somebody set the wall clock back by an hour",
                &[(1, 0, 0), (2, 160, -3_600_000), (3, 320, -3_599_980)],
                vec![vec![0, 160, 320]],
            ),
        ];
        for (what, rows, expected) in cases {
            assert_eq!(runs_of(rows), expected, "{what}");
        }
    }

    #[test]
    fn arrival_is_estimated_by_the_least_delayed_neighbour() {
        let mut stream = Stream::default();
        for i in 0..100_u32 {
            let delay = if i == 60 { 5 } else { 5 + i64::from(i % 7) * 9 + 20 };
            let packet = RtpPacket {
                ssrc: super::super::rtp::Ssrc(1),
                seq: SeqNo(u16::try_from(i).unwrap()),
                timestamp: RtpTime(i * 160),
                payload_type: 0,
                marker: false,
                payload: &[0; 160],
            };
            stream.push(&packet, at_ms(i64::from(i) * 20 + delay), i, "");
        }
        let run = &stream.runs[0];
        assert_eq!(run.wall(run.packets[0].time()), at_ms(5));
        assert_eq!(run.wall(run.packets[99].time()), at_ms(99 * 20 + 5));
    }
}
