//! A call as somebody listens to it while it goes on: packets in the order in which they came go in, frames of
//! 20 ms come out, each when it is due, mixed of all that was heard at that moment. Audio is played a fixed time after
//! it was received; what is missing is silence, what comes too late is dropped, and nothing is kept for longer than
//! that. It decodes nothing, and does not know which call it is.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use storage_core::{MonoTime, SegmentId};

use super::rtp::{RtpPacket, RtpTime, SeqNo, Ssrc};

/// Samples of a frame: 20 ms at 8 kHz.
pub const FRAME_SAMPLES: usize = 160;
/// Audio is due so long after it was received. The media thread hands on what came in a tenth of a second at
/// once; the rest is for the network and for a busy machine.
pub const DELAY: Duration = Duration::from_millis(160);

/// 20 ms.
const FRAME: u64 = FRAME_SAMPLES as u64;
/// A stream's clock is believed as long as it says the same as the time of receiving, give or take 80 ms …
const APART_MAX: u64 = 640;
/// … but for so many packets in a row, which the network may have held up.
const APART_PACKETS: u8 = 10;
/// So far the audio of two packets may overlap: 1 ms.
const OVERLAP: u64 = 8;
/// Audio that would have to wait for so long (200 ms) beyond its delay is dropped.
const AHEAD_MAX: u64 = 1_600;
/// Longest packet: 120 ms.
const PACKET_MAX: u64 = 960;
/// Whoever asks for a frame after so long (a second) goes on from now.
const BEHIND_MAX: u64 = 8_000;
/// Streams that are known at once, the latest; more than two are heard when one goes on for another only.
const LANES_MAX: usize = 8;
/// Packets of a stream that are looked back upon, for those that come twice.
const SEEN: i32 = 64;
/// A tone of a key is heard for so long (60 ms) before its event begins, and for so long (60 ms) after what the last
/// packet told of it.
const TONE_AROUND: u64 = 480;

/// A frame that is due.
pub type Frame = [i16; FRAME_SAMPLES];

/// A frame as it is sent: linear samples of 16 bits, low byte first.
#[must_use]
pub fn to_bytes(frame: &Frame) -> [u8; 2 * FRAME_SAMPLES] {
    let mut bytes = [0; 2 * FRAME_SAMPLES];
    for (pair, sample) in bytes.chunks_exact_mut(2).zip(frame) {
        pair.copy_from_slice(&sample.to_le_bytes());
    }
    bytes
}

/// Reads a frame that was sent; `None` if it is of another length.
#[must_use]
pub fn from_bytes(bytes: &[u8]) -> Option<Frame> {
    let bytes: &[u8; 2 * FRAME_SAMPLES] = bytes.try_into().ok()?;
    let mut frame = [0; FRAME_SAMPLES];
    for (sample, pair) in frame.iter_mut().zip(bytes.chunks_exact(2)) {
        *sample = i16::from_le_bytes([pair[0], pair[1]]);
    }
    Some(frame)
}

/// Where a packet's audio is to be put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    position: u64,
    /// What was decoded before does not lead up to it.
    pub fresh: bool,
}

/// What is heard of one call, and has not been played yet.
#[derive(Debug, Default)]
pub struct Playout {
    /// Position of the next frame, in samples by the listener's clock.
    next: Option<u64>,
    /// From there on.
    mixed: VecDeque<i32>,
    lanes: BTreeMap<SegmentId, Lane>,
    /// The stretch that is silent whatever is put there.
    masked: (u64, u64),
    late: u64,
}

/// One stream of packets.
#[derive(Clone, Copy, Debug)]
struct Lane {
    ssrc: Ssrc,
    /// Highest number, and which of those before it came: bit 0 is itself.
    last: SeqNo,
    seen: u64,
    /// A moment of the stream and where it is played.
    anchor: (RtpTime, u64),
    /// Where its audio ends.
    end: u64,
    /// Packets in a row at which its clock did not say what it should.
    apart: u8,
}

impl Playout {
    /// Finds the place of a packet of `samples` samples that was received at `at`. `None`: it came before, or it is
    /// not to be heard.
    pub fn place(
        &mut self,
        segment: SegmentId,
        at: MonoTime,
        packet: &RtpPacket<'_>,
        ticks_per_sample: i32,
        samples: u16,
    ) -> Option<Slot> {
        let due = position(at + DELAY);
        let samples = u64::from(samples).min(PACKET_MAX);
        let known = self.lanes.get(&segment).copied();
        let (mut lane, fresh) = match known {
            Some(lane) if lane.ssrc == packet.ssrc => {
                let steps = packet.seq.steps_from(lane.last);
                match lane.noted(packet.seq, steps) {
                    Noted::Anew => return None,
                    Noted::Next(noted) => (noted, steps != 1),
                    Noted::Far => (Lane::begin(packet, due.max(lane.end)), true),
                }
            }
            Some(lane) => (Lane::begin(packet, due.max(lane.end)), true),
            None => (Lane::begin(packet, due), true),
        };
        let mut place = lane.position(packet.timestamp, ticks_per_sample);
        let is_newest = packet.seq == lane.last;
        if is_newest {
            lane.apart = if place.abs_diff(due) > APART_MAX { lane.apart + 1 } else { 0 };
            if lane.apart >= APART_PACKETS {
                (place, lane.anchor, lane.apart) = (due, (packet.timestamp, due), 0);
            }
        }
        // A stream that has to be played sooner than it was leaves something out.
        let is_heard = place <= due + AHEAD_MAX && !(is_newest && place + OVERLAP < lane.end);
        if is_heard {
            lane.end = lane.end.max(place + samples);
        }
        self.lanes.insert(segment, lane);
        while self.lanes.len() > LANES_MAX {
            self.lanes.pop_first();
        }
        is_heard.then_some(Slot { position: place, fresh })
    }

    /// Puts the samples of a packet into its place; what should have been played already is dropped.
    pub fn put(&mut self, slot: Slot, samples: &[i16]) {
        let Some(next) = self.next else { return };
        let from = slot.position;
        let end = from + samples.len() as u64;
        if end <= next {
            self.late += 1;
            return;
        }
        // A place is near its packet's time, and that lies behind now.
        let length = usize::try_from(end - next).unwrap_or(usize::MAX);
        if length > MIXED_MAX {
            return;
        }
        if self.mixed.len() < length {
            self.mixed.resize(length, 0);
        }
        for (at, sample) in (from..).zip(samples) {
            if at >= next && !(self.masked.0..self.masked.1).contains(&at) {
                // As far as the buffer reaches, which is less than that.
                self.mixed[(at - next) as usize] += i32::from(*sample);
            }
        }
    }

    /// The next frame, if it is due. The first call begins the playing.
    pub fn frame(&mut self, now: MonoTime) -> Option<Frame> {
        let now = position(now);
        let next = *self.next.get_or_insert(now);
        if now > next + BEHIND_MAX {
            let skipped = usize::try_from(now - next).unwrap_or(usize::MAX);
            self.mixed.drain(..skipped.min(self.mixed.len()));
            self.next = Some(now);
            return None;
        }
        if now < next + FRAME {
            return None;
        }
        self.next = Some(next + FRAME);
        let mut frame = [0; FRAME_SAMPLES];
        for sample in &mut frame {
            let mixed = self.mixed.pop_front().unwrap_or(0);
            *sample = mixed.clamp(i16::MIN.into(), i16::MAX.into()) as i16;
        }
        Some(frame)
    }

    /// Nothing that was received from `since` on is played, as far as it is here. Rather a little too much is
    /// silent than too little.
    pub fn hide(&mut self, since: MonoTime) {
        let from = position(since + DELAY).saturating_sub(APART_MAX);
        self.silence(from, u64::MAX);
    }

    /// A key is being pressed, says a packet of this stream (RFC 4733): its tone is taken out.
    pub fn key(
        &mut self,
        segment: SegmentId,
        at: MonoTime,
        packet: &RtpPacket<'_>,
        ticks_per_sample: i32,
    ) {
        let [_, _, high, low] = *packet.payload else { return };
        let lane = self.lanes.get(&segment).filter(|lane| lane.ssrc == packet.ssrc);
        let due = position(at + DELAY);
        let begun = lane.map_or(due, |lane| lane.position(packet.timestamp, ticks_per_sample));
        let lasted = u64::from(u16::from_be_bytes([high, low]));
        let lasted = lasted / u64::from(ticks_per_sample.unsigned_abs().max(1));
        // A press of minutes, or a clock that means nothing: what is heard now.
        let begun = begun.clamp(due.saturating_sub(BEHIND_MAX), due);
        let from = begun.saturating_sub(TONE_AROUND);
        let to = (begun + lasted).clamp(due, due + BEHIND_MAX) + TONE_AROUND;
        let (masked_from, masked_to) = self.masked;
        // Keys that touch are one stretch.
        let from = if from <= masked_to { from.min(masked_from) } else { from };
        self.masked = (from, to.max(masked_to));
        self.silence(from, to);
    }

    /// Packets that came too late to be played, so far.
    #[must_use]
    pub const fn late(&self) -> u64 {
        self.late
    }

    fn silence(&mut self, from: u64, to: u64) {
        let next = self.next.unwrap_or(0);
        let index = |at: u64| usize::try_from(at.saturating_sub(next)).unwrap_or(usize::MAX);
        let (from, to) = (index(from).min(self.mixed.len()), index(to).min(self.mixed.len()));
        self.mixed.range_mut(from..to.max(from)).for_each(|sample| *sample = 0);
    }
}

/// What can wait: the delay, as far as a place may be ahead of it, a packet and a frame.
const MIXED_MAX: usize = 8 * DELAY.as_millis() as usize
    + (AHEAD_MAX + APART_MAX + PACKET_MAX + BEHIND_MAX + FRAME) as usize;

/// What the number of a packet tells.
enum Noted {
    /// It came before.
    Anew,
    /// It belongs to the stream.
    Next(Lane),
    /// Its sender has begun to count anew.
    Far,
}

impl Lane {
    const fn begin(packet: &RtpPacket<'_>, place: u64) -> Self {
        Self {
            ssrc: packet.ssrc,
            last: packet.seq,
            seen: 1,
            anchor: (packet.timestamp, place),
            end: place,
            apart: 0,
        }
    }

    fn noted(mut self, seq: SeqNo, steps: i32) -> Noted {
        match steps {
            1..SEEN => {
                self.seen = self.seen << steps | 1;
                self.last = seq;
            }
            SEEN..=1_000 => (self.seen, self.last) = (1, seq),
            _ if (1 - SEEN..=0).contains(&steps) => {
                let bit = 1 << -steps;
                if self.seen & bit != 0 {
                    return Noted::Anew;
                }
                self.seen |= bit;
            }
            _ => return Noted::Far,
        }
        Noted::Next(self)
    }

    fn position(&self, timestamp: RtpTime, ticks_per_sample: i32) -> u64 {
        let (moment, place) = self.anchor;
        let ticks = timestamp.ticks_from(moment) / ticks_per_sample.max(1);
        place.saturating_add_signed(ticks.into())
    }
}

/// Samples of 8 kHz until a time.
const fn position(at: MonoTime) -> u64 {
    at.as_micros() / 125
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ONE: SegmentId = SegmentId(1);
    const TWO: SegmentId = SegmentId(2);
    /// The sender's clock at the begin.
    const TS: u32 = u32::MAX - 1_000;
    /// What a packet needs to the listener's ear: until it is due, and the frame that it is in.
    const WAY: u64 = 160 + 20;

    fn ms(ms: u64) -> MonoTime {
        MonoTime::from_millis(10_000 + ms)
    }

    fn packet(ssrc: u32, number: u32) -> RtpPacket<'static> {
        RtpPacket {
            ssrc: Ssrc(ssrc),
            seq: SeqNo((number as u16).wrapping_sub(3)),
            timestamp: RtpTime(TS.wrapping_add(number * 160)),
            payload_type: 8,
            marker: false,
            payload: &[],
        }
    }

    /// What is heard in each frame that is due by then: its first sample, if all are alike.
    fn heard(playout: &mut Playout, until: u64) -> Vec<i16> {
        let mut heard = Vec::new();
        while let Some(frame) = playout.frame(ms(until)) {
            assert!(frame.iter().all(|sample| *sample == frame[0]), "{frame:?}");
            heard.push(frame[0]);
        }
        heard
    }

    fn playing() -> Playout {
        let mut playout = Playout::default();
        assert_eq!(playout.frame(ms(0)), None);
        playout
    }

    /// Packet `number`, received at `at`, with `number + 1` in each sample.
    fn hear(playout: &mut Playout, segment: SegmentId, ssrc: u32, number: u32, at: u64) -> bool {
        let slot = playout.place(segment, ms(at), &packet(ssrc, number), 1, 160);
        let Some(slot) = slot else { return false };
        playout.put(slot, &[number as i16 + 1; FRAME_SAMPLES]);
        true
    }

    #[test]
    fn packets_become_frames_after_the_delay_and_holes_are_silent() {
        let mut playout = playing();
        for number in [0, 1, 2, 4] {
            assert!(hear(&mut playout, ONE, 7, number, u64::from(number) * 20));
        }
        // All of it in the order of its clock, whatever the order of arrival.
        assert!(hear(&mut playout, ONE, 7, 6, 121));
        assert!(hear(&mut playout, ONE, 7, 5, 122));
        assert!(!hear(&mut playout, ONE, 7, 5, 123), "a packet that came before");
        let frames = heard(&mut playout, WAY + 140);
        assert_eq!(frames, [0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 0, 5, 6, 7, 0]);
        assert_eq!(playout.frame(ms(WAY + 159)), None, "not due yet");
    }

    #[test]
    fn what_comes_too_late_is_dropped_and_one_half_of_it_is_not() {
        let mut playout = playing();
        assert!(hear(&mut playout, ONE, 7, 0, 0));
        assert_eq!(heard(&mut playout, WAY + 40).len(), 11);
        // Due at 180, and 60 ms late by the network.
        assert!(hear(&mut playout, ONE, 7, 1, 80));
        assert_eq!((playout.late(), heard(&mut playout, WAY + 60)), (1, vec![0]));
        let mut playout = playing();
        while playout.frame(ms(170)).is_some() {}
        let slot = playout.place(ONE, ms(0), &packet(7, 0), 1, 160).unwrap();
        playout.put(slot, &[9; FRAME_SAMPLES]);
        assert_eq!(heard(&mut playout, 180), [9]);
        assert_eq!(playout.late(), 0);
    }

    #[test]
    fn a_sender_that_begins_anew_goes_on_without_overlap() {
        let mut playout = playing();
        for number in 0..3 {
            hear(&mut playout, ONE, 7, number, u64::from(number) * 20);
        }
        // Another source, which counts elsewhere; one that leaps; one whose clock leaps.
        for number in 100..103 {
            hear(&mut playout, ONE, 8, number, 60 + u64::from(number - 100) * 20);
        }
        for number in 5_000..5_003 {
            hear(&mut playout, ONE, 8, number, 120 + u64::from(number - 5_000) * 20);
        }
        let frames = heard(&mut playout, WAY + 160);
        assert_eq!(frames[8..], [1, 2, 3, 101, 102, 103, 5_001, 5_002, 5_003]);
    }

    #[test]
    fn a_clock_that_runs_wrong_is_followed() {
        let mut playout = playing();
        let mut silent = 0;
        // 0.5 % too fast and too slow, for a minute each: never late, never far ahead.
        for (pace, numbers) in [(20_100, 0..3_000_u64), (19_900, 3_000..6_000)] {
            for number in numbers {
                let begun = if pace == 20_100 { 0 } else { 60_300_000 - 3_000 * 19_900 };
                let at = MonoTime::from_micros(10_000_000 + begun + number * pace);
                if let Some(slot) = playout.place(ONE, at, &packet(7, number as u32), 1, 160) {
                    playout.put(slot, &[1; FRAME_SAMPLES]);
                }
                while let Some(frame) = playout.frame(at) {
                    silent += usize::from(frame[0] == 0);
                }
                assert!(playout.mixed.len() < 8 * (160 + 80 + 60), "{}", playout.mixed.len());
            }
        }
        assert!(silent < 60, "{silent}");
        assert_eq!(playout.late(), 0);
    }

    #[test]
    fn two_sides_are_mixed_and_no_sum_runs_over() {
        let mut playout = playing();
        for (segment, loud) in [(ONE, 20_000), (TWO, 30_000)] {
            let slot = playout.place(segment, ms(0), &packet(7, 0), 1, 160).unwrap();
            assert!(slot.fresh);
            playout.put(slot, &[loud; FRAME_SAMPLES]);
            let slot = playout.place(segment, ms(20), &packet(7, 1), 1, 160).unwrap();
            assert!(!slot.fresh);
            playout.put(slot, &[-loud / 10; FRAME_SAMPLES]);
        }
        assert_eq!(heard(&mut playout, WAY + 20)[8..], [i16::MAX, -5_000]);
    }

    #[test]
    fn nothing_received_since_a_pause_began_is_played() {
        let mut playout = playing();
        for number in 0..10 {
            hear(&mut playout, ONE, 7, number, u64::from(number) * 20);
        }
        playout.hide(ms(100));
        let frames = heard(&mut playout, WAY + 200);
        assert_eq!(frames[8], 1);
        assert!(frames.iter().all(|first| *first <= 5), "{frames:?}");
        // And goes on with what comes after it.
        hear(&mut playout, ONE, 7, 30, 600);
        assert_eq!(heard(&mut playout, WAY + 600).pop(), Some(31));
    }

    #[test]
    fn the_tone_of_a_key_is_taken_out_before_and_after_its_event() {
        let mut playout = playing();
        for number in 0..5 {
            hear(&mut playout, ONE, 7, number, u64::from(number) * 20);
        }
        let begun = packet(7, 4);
        let event = RtpPacket { payload: &[5, 10, 0x01, 0x40], payload_type: 101, ..begun };
        playout.key(ONE, ms(100), &event, 1);
        for number in 5..14 {
            hear(&mut playout, ONE, 7, number, u64::from(number) * 20);
        }
        let frames = heard(&mut playout, WAY + 260);
        assert_eq!(frames[8..], [1, 0, 0, 0, 0, 0, 0, 0, 0, 10, 11, 12, 13, 14]);
    }

    #[test]
    fn a_frame_comes_back_from_its_bytes() {
        let frame: Frame = std::array::from_fn(|i| (i as i32 * 411 - 32_768) as i16);
        assert_eq!(from_bytes(&to_bytes(&frame)), Some(frame));
        assert_eq!(to_bytes(&[0x1234; 160])[..2], [0x34, 0x12]);
        assert_eq!(from_bytes(&[0; 319]), None);
    }

    #[test]
    fn whoever_was_asleep_goes_on_from_now() {
        let mut playout = playing();
        hear(&mut playout, ONE, 7, 0, 0);
        assert_eq!(playout.frame(ms(1_020)), None);
        assert_eq!(playout.frame(ms(1_040)).map(|frame| frame[0]), Some(0));
        hear(&mut playout, ONE, 7, 50, 1_021);
        assert!(heard(&mut playout, 1_300).contains(&51));
    }

    proptest! {
        #[test]
        fn it_is_bounded_and_keeps_the_time_whatever_comes(
            packets in prop::collection::vec(
                (0_u64..60, any::<u16>(), any::<u32>(), 0_u32..2, 0_u64..3, 0_u16..2_000, any::<bool>()), 0..200),
        ) {
            let mut playout = playing();
            let (mut now, mut frames) = (0, 0);
            for (step, seq, timestamp, ssrc, segment, samples, far) in packets {
                now += step;
                let mut next = packet(ssrc, (now / 20) as u32);
                if far {
                    (next.seq, next.timestamp) = (SeqNo(seq), RtpTime(timestamp));
                }
                let ticks = if ssrc == 0 { 1 } else { 6 };
                if let Some(slot) = playout.place(SegmentId(segment), ms(now), &next, ticks, samples) {
                    playout.put(slot, &vec![i16::MAX; usize::from(samples.min(960))]);
                }
                let key = RtpPacket { payload: &[1, 2, 3, 4], ..next };
                if samples < 9 {
                    playout.key(SegmentId(segment), ms(now), &key, ticks);
                }
                prop_assert!(playout.mixed.len() <= MIXED_MAX);
                while playout.frame(ms(now)).is_some() {
                    frames += 1;
                }
                prop_assert_eq!(frames, now / 20);
            }
        }
    }
}
