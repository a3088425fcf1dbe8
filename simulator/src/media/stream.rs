//! RTP streams as a table that is asked for packets at each beat of 20 ms, with faults on request
//! and an account of every frame. Pure: no socket, no clock; random numbers from a seed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use super::coder::Coder;
use super::plan::Change;
use super::record::StreamRecord;
use super::srtp::Shield;
use super::{Play, rtp};
use crate::rng::Rng;
use crate::switch::{Extension, RegistrationKey};
use crate::time::{FRAME_NS, Time};
use crate::tone::{self, Code, FRAME_LEN, Law, Part, Said, Sine};

/// A frame that was made, and of what: the next stream may need the same.
type Words = ((Law, Code, Said), [u8; FRAME_LEN]);

/// Records of finished streams remembered.
const RECORDS_MAX: usize = 200_000;
/// Frames kept: ten minutes of ten streams.
const KEPT_MAX: usize = 300_000;
/// Packets held back by a delay.
const DELAYED_MAX: usize = 100_000;

/// A packet to be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet {
    /// AES whose media processor sends it; `None`: a stranger.
    pub aes: Option<usize>,
    /// Where to.
    pub to: SocketAddr,
    /// Header and payload.
    pub bytes: Vec<u8>,
}

/// A coded frame as it was sent, for who looks for traces of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SentFrame {
    /// Which.
    pub code: Code,
    /// What its packet carries, before it is encrypted.
    pub payload: Vec<u8>,
    /// The packet behind its header.
    pub on_wire: Vec<u8>,
}

/// What may be put onto a terminal's port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Intrusion {
    /// Well-formed RTP from elsewhere.
    Stranger,
    /// Bytes that are nothing, from elsewhere.
    Garbage,
    /// RTP that pretends to be of the terminal's stream, by its source and its numbers.
    Forged,
}

/// Faults of the RTP network.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct RtpFaults {
    /// Share of packets that are lost, 0 to 1.
    pub drop: f64,
    /// Share that is sent twice.
    pub duplicate: f64,
    /// Share that is overtaken by the next packet of its stream.
    pub reorder: f64,
    /// Every packet comes this much later.
    pub delay_ms: u64,
    /// And up to this much later still.
    pub jitter_ms: u64,
}

#[derive(Debug)]
struct Stream {
    play: Play,
    coder: Coder,
    ssrc: u32,
    /// Sequence number of the next packet, with the rollovers above 16 bits.
    index: u64,
    shield: Option<Shield>,
    /// Packets made, and reports of them.
    made: u32,
    reports: u32,
    /// RTP timestamp of the beat `first_beat`.
    timestamp: u32,
    first_beat: Option<Time>,
    /// No packet has been made yet.
    fresh: bool,
    /// Beats left in which nothing is sent (they count as dropped).
    muted: u32,
    held_back: Option<Vec<u8>>,
    record: StreamRecord,
}

/// A packet that was made.
struct Made {
    bytes: Vec<u8>,
    /// What its frame says, if it is coded.
    code: Option<Code>,
    payload: Vec<u8>,
}

/// All streams.
#[derive(Debug)]
pub struct Table {
    streams: BTreeMap<RegistrationKey, Stream>,
    delayed: BTreeMap<(Time, u64), Packet>,
    delayed_count: u64,
    finished: VecDeque<StreamRecord>,
    extra: Vec<Packet>,
    /// Of which terminals nobody says anything in this part.
    dumb: BTreeSet<(Extension, Part)>,
    /// Which tone is said in a part, instead of the tune.
    sines: BTreeMap<Part, Sine>,
    /// Frames sent, if they are kept.
    kept: Option<Vec<SentFrame>>,
    rng: Rng,
    /// Faults of the network.
    pub faults: RtpFaults,
    /// Packets made in all.
    pub packets: u64,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self {
            streams: BTreeMap::new(),
            delayed: BTreeMap::new(),
            delayed_count: 0,
            finished: VecDeque::new(),
            extra: Vec::new(),
            dumb: BTreeSet::new(),
            sines: BTreeMap::new(),
            kept: None,
            rng: Rng::new(seed),
            faults: RtpFaults {
                drop: 0.0,
                duplicate: 0.0,
                reorder: 0.0,
                delay_ms: 0,
                jitter_ms: 0,
            },
            packets: 0,
        }
    }

    /// Applies a change of the plan.
    pub fn apply(&mut self, now: Time, change: Change) {
        match change {
            Change::Stop(key) => self.stop(now, &key),
            Change::Restart(play) => {
                self.stop(now, &play.key);
                self.start(now, play);
            }
            Change::Play(play) => match self.streams.get_mut(&play.key) {
                Some(stream) => {
                    if (stream.play.serial, stream.play.part) != (play.serial, play.part) {
                        let next = StreamRecord::new(now, &play);
                        let mut old = std::mem::replace(&mut stream.record, next);
                        old.ended = Some(now);
                        self.finished.push_back(old);
                    }
                    if stream.play.protection != play.protection {
                        stream.shield = play.protection.as_ref().map(Shield::new);
                    }
                    stream.play = play;
                }
                None => self.start(now, play),
            },
        }
        while self.finished.len() > RECORDS_MAX {
            self.finished.pop_front();
        }
    }

    fn start(&mut self, now: Time, play: Play) {
        let random = self.rng.next();
        let stream = Stream {
            ssrc: (random >> 32) as u32,
            index: play.first_index.unwrap_or(random & 0xffff),
            shield: play.protection.as_ref().map(Shield::new),
            made: 0,
            reports: 0,
            timestamp: self.rng.next() as u32,
            first_beat: None,
            fresh: true,
            muted: 0,
            held_back: None,
            record: StreamRecord::new(now, &play),
            coder: Coder::default(),
            play,
        };
        self.streams.insert(stream.play.key.clone(), stream);
    }

    fn stop(&mut self, now: Time, key: &RegistrationKey) {
        if let Some(mut stream) = self.streams.remove(key) {
            // What was to be overtaken goes out alone.
            let (aes, to) = (Some(stream.play.aes), stream.play.to);
            let late = stream.held_back.take().map(|bytes| Packet { aes, to, bytes });
            self.extra.extend(late);
            stream.record.ended = Some(now);
            self.finished.push_back(stream.record);
        }
    }

    /// All packets of one beat. Beats are exactly 20 ms apart.
    pub fn beat(&mut self, beat: Time) -> Vec<Packet> {
        let mut packets = std::mem::take(&mut self.extra);
        packets.reserve(self.streams.len());
        let faults = self.faults;
        let mut last = None;
        for stream in self.streams.values_mut() {
            if beat < stream.play.not_before {
                continue;
            }
            let name = (stream.play.key.0.clone(), stream.play.part);
            let said = match self.sines.get(&stream.play.part) {
                _ if self.dumb.contains(&name) => Said::Nothing,
                Some(sine) => Said::Sine(*sine),
                None => Said::Tune,
            };
            let Some(made) = stream.make(beat, said, &mut last) else { continue };
            let Made { bytes, code, payload } = made;
            let frame = code.map(|code| code.frame);
            if let (Some(kept), Some(code)) = (&mut self.kept, code)
                && kept.len() < KEPT_MAX
            {
                let on_wire = bytes[rtp::HEADER_LEN..].to_vec();
                kept.push(SentFrame { code, payload, on_wire });
            }
            self.packets += 1;
            packets.extend(stream.report());
            let muted = stream.muted > 0;
            stream.muted = stream.muted.saturating_sub(1);
            if muted || self.rng.chance(faults.drop) {
                stream.record.count_dropped(frame);
                continue;
            }
            stream.record.count_sent(frame);
            let twice = self.rng.chance(faults.duplicate);
            let back = self.rng.chance(faults.reorder) && stream.held_back.is_none();
            let overtaken = if back {
                stream.held_back = Some(bytes);
                continue;
            } else {
                stream.held_back.take()
            };
            let copies = if twice { 2 } else { 1 };
            let all = std::iter::repeat_n(bytes, copies).chain(overtaken);
            let (aes, to) = (Some(stream.play.aes), stream.play.to);
            packets.extend(all.map(|bytes| Packet { aes, to, bytes }));
        }
        if faults.delay_ms == 0 && faults.jitter_ms == 0 {
            return packets;
        }
        for packet in packets {
            let late = faults.delay_ms + self.rng.below(faults.jitter_ms + 1);
            self.delayed_count += 1;
            if self.delayed.len() < DELAYED_MAX {
                self.delayed.insert((beat.after_millis(late), self.delayed_count), packet);
            }
        }
        Vec::new()
    }

    /// Delayed packets whose time has come.
    pub fn due(&mut self, now: Time) -> Vec<Packet> {
        let later = self.delayed.split_off(&(now, u64::MAX));
        std::mem::replace(&mut self.delayed, later).into_values().collect()
    }

    /// When the next delayed packet is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Time> {
        self.delayed.keys().next().map(|(due, _)| *due)
    }

    /// Drops the next so many frames to a terminal (all its instances).
    pub fn mute(&mut self, extension: &Extension, frames: u32) {
        for (key, stream) in &mut self.streams {
            if key.0 == *extension {
                stream.muted = frames;
            }
        }
    }

    /// From now on nobody says anything in what a terminal hears of this part.
    pub fn hush(&mut self, extension: &Extension, part: Part) {
        self.dumb.insert((extension.clone(), part));
    }

    /// From now on whoever hears this part hears a plain tone; `None`: the tune again.
    pub fn say(&mut self, part: Part, sine: Option<Sine>) {
        match sine {
            Some(sine) => self.sines.insert(part, sine),
            None => self.sines.remove(&part),
        };
    }

    /// Keeps what is sent from now on.
    pub fn keep(&mut self) {
        self.kept.get_or_insert_default();
    }

    /// What was kept.
    #[must_use]
    pub fn kept(&self) -> Vec<SentFrame> {
        self.kept.clone().unwrap_or_default()
    }

    /// A new SSRC, sequence and timestamp in the middle of the stream.
    pub fn change_ssrc(&mut self, extension: &Extension) {
        let random = self.rng.next();
        for (key, stream) in &mut self.streams {
            if key.0 == *extension {
                stream.ssrc = (random >> 32) as u32;
                stream.index = random & 0xffff;
                stream.timestamp = stream.timestamp.wrapping_add(random as u32);
            }
        }
    }

    /// Puts what does not belong there onto the port of a terminal at the next beat.
    pub fn intrude(&mut self, extension: &Extension, packets: usize, kind: Intrusion) {
        let stranger = self.rng.next();
        let streams = self.streams.iter().filter(|(key, _)| key.0 == *extension);
        for (_, stream) in streams {
            let (aes, ssrc, first) = match kind {
                Intrusion::Forged => (Some(stream.play.aes), stream.ssrc, stream.index),
                Intrusion::Stranger | Intrusion::Garbage => (None, stranger as u32, 0),
            };
            for number in 0..packets {
                let bytes = if kind == Intrusion::Garbage {
                    let len = self.rng.between(0, 220);
                    (0..len).map(|_| self.rng.next() as u8).collect()
                } else {
                    let words = tone::uncoded(Law::A, number as u32);
                    let timestamp = (number * FRAME_LEN) as u32;
                    let sequence = (first + number as u64) as u16;
                    rtp::packet(Law::A.payload_type(), false, sequence, timestamp, ssrc, &words)
                };
                self.extra.push(Packet { aes, to: stream.play.to, bytes });
            }
        }
    }

    /// All records, finished ones first.
    #[must_use]
    pub fn records(&self) -> Vec<StreamRecord> {
        let running = self.streams.values().map(|stream| stream.record.clone());
        self.finished.iter().cloned().chain(running).collect()
    }
}

impl Stream {
    /// The packet of this beat. `None` if there is nothing.
    fn make(&mut self, beat: Time, said: Said, last: &mut Option<Words>) -> Option<Made> {
        let first = *self.first_beat.get_or_insert(beat);
        let beats = beat.since(first).as_nanos() as u64 / FRAME_NS;
        let timestamp = self.timestamp.wrapping_add((beats as u32).wrapping_mul(FRAME_LEN as u32));
        let coding = self.play.coding;
        let law = coding.law();
        let serial = self.play.serial.0;
        let frame = match self.play.established {
            // Established after the beat's own moment: its first frame is the next beat's.
            Some(at) if at > beat => return None,
            Some(at) => Some(beat.frames_since(at)),
            None => None,
        };
        let code = frame.map(|frame| Code { part: self.play.part, serial, frame });
        let words = match (code, &last) {
            (Some(code), Some((of, words))) if *of == (law, code, said) => *words,
            (Some(code), _) => tone::coded(law, code, said),
            (None, _) => tone::uncoded(law, beats as u32),
        };
        if let Some(code) = code {
            *last = Some(((law, code, said), words));
        }
        let marker = std::mem::take(&mut self.fresh);
        let payload = self.coder.payload(coding, &words);
        let kind = coding.payload_type();
        let sequence = self.index as u16;
        let mut bytes = rtp::packet(kind, marker, sequence, timestamp, self.ssrc, &payload);
        if let Some(shield) = &self.shield {
            shield.protect(self.index, &mut bytes);
        }
        self.index += 1;
        self.made += 1;
        Some(Made { bytes, code, payload })
    }

    /// A sender report, if one is due after the packet just made. It goes to the next port.
    fn report(&mut self) -> Option<Packet> {
        let every = self.play.report_packets;
        if every == 0 || !self.made.is_multiple_of(every) {
            return None;
        }
        self.reports += 1;
        let mut bytes = rtp::sender_report(self.ssrc, self.timestamp, self.made);
        if let Some(shield) = &self.shield {
            shield.protect_report(self.reports, &mut bytes);
        }
        let mut to = self.play.to;
        to.set_port(to.port() + 1);
        Some(Packet { aes: Some(self.play.aes), to, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::Coding;
    use crate::media::rtp::HEADER_LEN;
    use crate::switch::Serial;

    fn play(extension: &str, serial: u32, established: Option<u64>) -> Play {
        Play {
            key: (Extension::from(extension), 0),
            aes: 0,
            to: SocketAddr::from(([127, 0, 0, 1], 4000)),
            coding: Coding::G711(Law::A),
            protection: None,
            first_index: None,
            report_packets: 0,
            part: Part::Whole,
            serial: Serial(serial),
            established: established.map(Time::from_millis),
            not_before: Time::default(),
        }
    }

    fn beats(table: &mut Table, from_ms: u64, count: u64) -> Vec<Vec<u8>> {
        let beats = (0..count).map(|n| Time::from_millis(from_ms + 20 * n));
        beats.flat_map(|beat| table.beat(beat)).map(|packet| packet.bytes).collect()
    }

    fn frames(packets: &[Vec<u8>]) -> Vec<Option<u32>> {
        packets
            .iter()
            .map(|bytes| tone::read_at(Law::A, &bytes[HEADER_LEN..]).map(|code| code.frame))
            .collect()
    }

    #[test]
    fn headers_run_on_and_frames_count_from_the_answer() {
        let mut table = Table::new(1);
        table.apply(Time::default(), Change::Restart(play("78001", 5, Some(7))));
        let packets = beats(&mut table, 107, 4);
        assert_eq!(frames(&packets), [Some(5), Some(6), Some(7), Some(8)]);
        let field =
            |bytes: &[u8], at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        for (before, after) in packets.iter().zip(&packets[1..]) {
            assert_eq!(after[0], 0x80);
            assert_eq!(after[1], 8);
            let step = u16::from_be_bytes([after[2], after[3]])
                .wrapping_sub(u16::from_be_bytes([before[2], before[3]]));
            assert_eq!(step, 1);
            assert_eq!(field(after, 4).wrapping_sub(field(before, 4)), 160);
            assert_eq!(field(after, 8), field(before, 8));
        }
        assert_eq!(packets[0][1], 0x88, "the first packet has the marker");
        let record = &table.records()[0];
        assert_eq!((record.first_frame, record.last_frame, record.sent), (Some(5), Some(8), 4));
    }

    #[test]
    fn a_merge_changes_the_code_and_not_the_stream() {
        let mut table = Table::new(2);
        table.apply(Time::default(), Change::Restart(play("78001", 5, Some(0))));
        let before = beats(&mut table, 20, 1);
        table.apply(Time::from_millis(30), Change::Play(play("78001", 4, Some(0))));
        let after = beats(&mut table, 40, 1);
        assert_eq!(before[0][8..12], after[0][8..12]);
        let serials: Vec<u32> = table.records().iter().map(|record| record.serial).collect();
        assert_eq!(serials, [5, 4]);
    }

    #[test]
    fn losses_are_accounted_for() {
        let mut table = Table::new(3);
        table.apply(Time::default(), Change::Restart(play("78001", 5, Some(0))));
        table.mute(&Extension::from("78001"), 3);
        let packets = beats(&mut table, 0, 10);
        assert_eq!(packets.len(), 7);
        let record = table.records().remove(0);
        assert_eq!((record.sent, record.dropped), (7, 3));
        assert_eq!(record.dropped_frames, [(0, 2)]);
        // The sequence number shows the loss.
        assert_eq!(frames(&packets)[0], Some(3));
    }

    #[test]
    fn network_faults_lose_double_and_turn_round() {
        let mut table = Table::new(4);
        table.apply(Time::default(), Change::Restart(play("78001", 5, Some(0))));
        table.faults =
            RtpFaults { drop: 0.1, duplicate: 0.1, reorder: 0.1, ..RtpFaults::default() };
        let numbers: Vec<u32> = frames(&beats(&mut table, 0, 1000)).into_iter().flatten().collect();
        let record = table.records().remove(0);
        assert_eq!(record.sent + record.dropped, 1000);
        assert!((50..150).contains(&record.dropped));
        assert!(numbers.windows(2).any(|pair| pair[0] == pair[1]));
        assert!(numbers.windows(2).any(|pair| pair[0] > pair[1]));
    }

    #[test]
    fn delay_keeps_packets_until_they_are_due() {
        let mut table = Table::new(5);
        table.apply(Time::default(), Change::Restart(play("78001", 5, Some(0))));
        table.faults.delay_ms = 50;
        assert_eq!(beats(&mut table, 0, 2).len(), 0);
        assert_eq!(table.next_due(), Some(Time::from_millis(50)));
        assert_eq!(table.due(Time::from_millis(49)).len(), 0);
        assert_eq!(table.due(Time::from_millis(50)).len(), 1);
        assert_eq!(table.due(Time::from_millis(100)).len(), 1);
    }

    #[test]
    fn no_code_before_the_answer() {
        let mut table = Table::new(6);
        table.apply(Time::default(), Change::Restart(play("78001", 5, None)));
        assert_eq!(frames(&beats(&mut table, 0, 3)), [None; 3]);
        assert_eq!(table.records()[0].uncoded, 3);
    }
}
