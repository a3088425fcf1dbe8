//! The two passes together: captures in, voice file and gaps out.

use std::net::SocketAddr;

use proptest::prelude::*;
use storage_core::g711::Law;
use storage_core::journal::{BlockWriter, Channel, Entry, Fact, Found, Scanner, encode_fact};
use storage_core::record::{GapCause, Span, VoiceFormat};
use storage_core::{Draft, NodeId, RecordingId, SegmentId, WallTime};

use super::rtp::tests::packet;
use super::{Coded, Index, Key, MediaTime, Pass, Plan, Render, Unplaceable, VoiceSink};

pub(super) const SWITCH: &str = "192.0.2.5:2050";
const STRANGER: &str = "198.51.100.9:4000";
const SECOND: std::time::Duration = std::time::Duration::from_secs(1);
const START_MICROS: i64 = 1_700_000_000_000_000;

pub(super) fn at(micros: i64) -> WallTime {
    WallTime::from_micros(START_MICROS + micros)
}

/// A capture as the media thread writes it.
#[derive(Default)]
pub(super) struct Capture(Vec<u8>);

impl Capture {
    pub(super) fn fact(&mut self, fact: &Fact) -> &mut Self {
        encode_fact(&mut self.0, fact).unwrap();
        self
    }

    pub(super) fn open(&mut self, segment: u64, at_ms: i64) -> &mut Self {
        self.fact(&Fact::SegmentOpened {
            segment: SegmentId(segment),
            recordingid: RecordingId::new(at(0), [7; 10]),
            phantom: format!("7800{segment}").as_str().into(),
            at: at(at_ms * 1000),
            key: None,
            side: None,
        })
    }

    pub(super) fn terms(&mut self, segment: u64, source: &str, codec: &str) -> &mut Self {
        self.fact(&Fact::MediaTerms {
            segment: SegmentId(segment),
            at: at(0),
            source: Some(source.parse().unwrap()),
            codec: codec.to_owned(),
            packetms: 20,
        })
    }

    pub(super) fn from(
        &mut self,
        source: &str,
        segment: u64,
        at_micros: i64,
        datagram: &[u8],
    ) -> &mut Self {
        let source: SocketAddr = source.parse().unwrap();
        let mut block = BlockWriter::begin(
            &mut self.0,
            SegmentId(segment),
            Channel::Rtp,
            source,
            at(at_micros),
        );
        assert!(block.push(at(at_micros), datagram));
        block.finish();
        self
    }

    pub(super) fn report(&mut self, at_micros: i64, report: &[u8]) -> &mut Self {
        let (at, source) = (at(at_micros), SWITCH.parse().unwrap());
        let segment = SegmentId(1);
        let mut block = BlockWriter::begin(&mut self.0, segment, Channel::Rtcp, source, at);
        assert!(block.push(at, report));
        block.finish();
        self
    }

    pub(super) fn entries(&self, mut each: impl FnMut(&Entry<'_>)) {
        for found in Scanner::new(&self.0) {
            match found {
                Found::Frame { frame, .. } => each(&frame.entry().unwrap()),
                Found::Damage { .. } => panic!("a capture of our own is whole"),
            }
        }
    }

    pub(super) fn plan(&self) -> Result<Plan, Unplaceable> {
        let mut index = Index::new();
        self.entries(|entry| index.entry(entry));
        index.plan()
    }

    fn sealed(&self) -> Sealed {
        self.sealed_through(super::render::WINDOW_PACKETS)
    }

    fn sealed_through(&self, window: usize) -> Sealed {
        self.render(self.plan().expect("there is audio"), window)
    }

    fn render(&self, plan: Plan, window: usize) -> Sealed {
        let mut file = Samples::default();
        let mut render = Render::with_window(&plan, window);
        loop {
            self.entries(|entry| render.entry(entry, &mut file).unwrap());
            if render.end_pass(&mut file).unwrap() == Pass::Done {
                break;
            }
        }
        assert_eq!(file.0.len() as u64, plan.total.0, "the file is as long as planned");
        Sealed { plan, samples: file.0, fresh: file.1 }
    }
}

/// A voice file in memory, silence is `None`; and which packets were to be decoded anew.
#[derive(Default)]
pub(super) struct Samples(pub Vec<Option<u8>>, pub Vec<bool>);

impl VoiceSink for Samples {
    type Error = std::convert::Infallible;

    fn coded(&mut self, packet: Coded<'_>) -> Result<(), Self::Error> {
        let Coded { skip, take, payload, .. } = packet;
        // Each 10 ms of a packet bear the next letter.
        let letter = |n: u16| payload[payload.len() - 1] + u8::try_from(n / 80).unwrap();
        self.0.extend((skip..skip + take).map(|n| Some(letter(n))));
        self.1.push(packet.fresh);
        Ok(())
    }

    fn audio(&mut self, _: Law, samples: &[u8]) -> Result<(), Self::Error> {
        self.0.extend(samples.iter().copied().map(Some));
        Ok(())
    }

    fn silence(&mut self, samples: u64) -> Result<(), Self::Error> {
        self.0.extend(std::iter::repeat_n(None, usize::try_from(samples).unwrap()));
        Ok(())
    }
}

struct Sealed {
    plan: Plan,
    samples: Vec<Option<u8>>,
    /// Of each packet that is to be decoded, whether it begins anew.
    fresh: Vec<bool>,
}

impl Sealed {
    /// (begin ms, end ms, cause)
    fn gaps(&self) -> Vec<(u64, u64, GapCause)> {
        let gap = |gap: &super::PlannedGap| (gap.from.as_millis(), gap.to.as_millis(), gap.cause);
        self.plan.gaps.iter().map(gap).collect()
    }

    /// The frames of 20 ms as their first byte, `.` for silence: `"abc..d"`.
    fn frames(&self) -> String {
        let frame = |chunk: &[Option<u8>]| {
            assert!(chunk.iter().all(|s| *s == chunk[0]), "a frame was cut: {chunk:?}");
            chunk[0].map_or('.', char::from)
        };
        self.samples.chunks(160).map(frame).collect()
    }
}

/// A sender that counts on by itself: 20 ms of A-law per letter.
pub(super) struct Sender {
    ssrc: u32,
    seq: u16,
    pub(super) timestamp: u32,
    pub(super) micros: i64,
    segment: u64,
    source: &'static str,
}

impl Sender {
    pub(super) fn new(ssrc: u32, segment: u64, at_ms: i64) -> Self {
        // Both counters wrap within the first second.
        let (seq, timestamp) = (65_520, 0xffff_f800);
        Self { ssrc, seq, timestamp, micros: at_ms * 1000, segment, source: SWITCH }
    }

    /// Sends a frame per letter; `-` is one that the network loses.
    pub(super) fn say(&mut self, capture: &mut Capture, letters: &str) -> &mut Self {
        for letter in letters.bytes() {
            if letter != b'-' {
                self.send(capture, 8, false, &[letter; 160]);
            }
            self.skip(1, 160, 20);
        }
        self
    }

    pub(super) fn send(&self, capture: &mut Capture, pt: u8, mark: bool, payload: &[u8]) {
        let datagram = packet(self.ssrc, self.seq, self.timestamp, pt, mark, payload);
        capture.from(self.source, self.segment, self.micros, &datagram);
    }

    pub(super) fn skip(&mut self, packets: u16, ticks: u32, ms: i64) -> &mut Self {
        self.seq = self.seq.wrapping_add(packets);
        self.timestamp = self.timestamp.wrapping_add(ticks);
        self.micros += ms * 1000;
        self
    }
}

pub(super) fn capture() -> Capture {
    let mut capture = Capture::default();
    capture.open(1, 0).terms(1, SWITCH, "g711a");
    capture
}

#[test]
fn lost_frames_are_silence_of_the_same_length_and_declared() {
    let mut capture = capture();
    Sender::new(1, 1, 0).say(&mut capture, "abcdefghijklmnopqrst--uv-w");
    let sealed = capture.sealed();
    assert_eq!(sealed.frames(), "abcdefghijklmnopqrst..uv.w");
    assert_eq!(sealed.gaps(), [(400, 440, GapCause::Loss), (480, 500, GapCause::Loss)]);
    let segment = &sealed.plan.segments[0];
    assert_eq!((segment.census.packets, segment.census.lost), (23, 3));
    assert_eq!(segment.codecs, ["g711a"]);
    assert!((sealed.plan.quality.lossratio - 3.0 / 26.0).abs() < 1e-9);
    assert_eq!((sealed.plan.started, sealed.plan.ended), (at(0), at(520_000)));
}

#[test]
fn late_and_doubled_packets_are_put_right_and_counted() {
    let mut capture = capture();
    let mut sender = Sender::new(1, 1, 0);
    let mut rows = Vec::new();
    for letter in b"abcdef" {
        rows.push(packet(1, sender.seq, sender.timestamp, 8, false, &[*letter; 160]));
        sender.skip(1, 160, 20);
    }
    for (ms, row) in [(0, 1), (20, 0), (40, 2), (41, 2), (60, 5), (80, 4), (81, 3), (200, 1)] {
        capture.from(SWITCH, 1, ms * 1000, &rows[row]);
    }
    let sealed = capture.sealed();
    assert_eq!(sealed.frames(), "abcdef");
    assert_eq!(sealed.gaps(), []);
    let census = sealed.plan.segments[0].census;
    assert_eq!((census.packets, census.late, census.duplicate, census.lost), (8, 3, 2, 0));
}

#[test]
fn a_silence_that_the_sender_chose_is_no_gap() {
    let mut capture = capture();
    let mut sender = Sender::new(1, 1, 0);
    sender.say(&mut capture, "ab").skip(0, 800, 100);
    sender.send(&mut capture, 8, true, &[b'c'; 160]);
    // Comfort noise, then so long a silence that it would be `nomedia` without it.
    sender.skip(1, 160, 20).send(&mut capture, 13, false, &[60]);
    sender.skip(1, 160 * 500, 10_000).say(&mut capture, "d");
    // Keys: three packets of one event share its timestamp, audio goes on behind it.
    for _ in 0..3 {
        sender.send(&mut capture, 101, false, &[1, 10, 0, 160]);
        sender.skip(1, 0, 20);
    }
    sender.skip(0, 480, 0).say(&mut capture, "e");
    let sealed = capture.sealed();
    assert_eq!(sealed.frames(), format!("ab.....c{}d...e", ".".repeat(500)));
    assert_eq!(sealed.gaps(), []);
    assert_eq!(sealed.plan.segments[0].census.lost, 0);
}

#[test]
fn a_hole_that_nothing_explains_is_missing_media() {
    let mut capture = capture();
    let mut sender = Sender::new(1, 1, 0);
    sender.say(&mut capture, "a").skip(0, 320, 40).say(&mut capture, "b");
    sender.skip(0, 8 * 3000, 3000);
    sender.send(&mut capture, 8, true, &[b'c'; 160]);
    let sealed = capture.sealed();
    assert_eq!(sealed.gaps(), [(20, 60, GapCause::NoMedia), (80, 3080, GapCause::NoMedia)]);
}

#[test]
fn where_loss_and_silence_share_a_hole_only_the_lost_frames_are_declared() {
    let mut capture = capture();
    let mut sender = Sender::new(1, 1, 0);
    sender.say(&mut capture, "ab-").skip(0, 1600, 200);
    sender.send(&mut capture, 8, true, &[b'c'; 160]);
    let sealed = capture.sealed();
    assert_eq!(sealed.gaps(), [(40, 60, GapCause::Loss)]);
    assert_eq!(sealed.frames(), "ab...........c");
}

#[test]
fn a_sender_that_changes_its_name_goes_on_without_a_seam() {
    let mut capture = capture();
    let mut first = Sender::new(1, 1, 0);
    first.say(&mut capture, "abc");
    let mut second = Sender { timestamp: 5, seq: 9, ..Sender::new(2, 1, 63) };
    second.say(&mut capture, "def");
    // And back to the old name, 400 ms later.
    first.skip(0, 160 * 23, 460).say(&mut capture, "gh");
    let sealed = capture.sealed();
    assert_eq!(sealed.plan.segments[0].ssrcs.len(), 2);
    assert_eq!(sealed.samples.iter().flatten().count(), 8 * 160);
    assert_eq!(sealed.gaps().len(), 1, "{:?}", sealed.gaps());
    let (from, to, cause) = sealed.gaps()[0];
    assert_eq!((from, cause), (120, GapCause::NoMedia));
    assert!((397..=400).contains(&(to - from)), "{from}..{to}");
}

#[test]
fn a_recording_goes_on_in_a_later_segment_after_a_takeover() {
    let mut capture = capture();
    Sender::new(1, 1, 0).say(&mut capture, "abcde");
    capture.open(2, 300).terms(2, SWITCH, "g711a");
    Sender::new(2, 2, 350).say(&mut capture, "fgh");
    let sealed = capture.sealed();
    assert_eq!(sealed.gaps(), [(100, 350, GapCause::Takeover)]);
    let phantoms: Vec<_> =
        sealed.plan.segments.iter().map(|s| s.phantom.clone().unwrap().to_string()).collect();
    assert_eq!(phantoms, ["78001", "78002"]);
    assert_eq!(sealed.plan.segments[1].from.as_millis(), 350);
    // Wall times become positions on both sides of the hole and in it.
    let ms = |ms: i64| sealed.plan.position(at(ms * 1000)).as_millis();
    assert_eq!([ms(-5), ms(50), ms(200), ms(390), ms(9_000)], [0, 50, 200, 390, 410]);
}

#[test]
fn what_was_due_before_the_first_audio_is_missing_too() {
    let mut capture = capture();
    capture.terms(1, SWITCH, "g711a");
    Sender::new(1, 1, 3_000).say(&mut capture, "abc");
    for (due_ms, lead) in [(2_500, 0), (2_001, 0), (2_000, 1_000), (0, 3_000), (-43_200_001, 0)] {
        let mut plan = capture.plan().unwrap();
        plan.begin_by(at(due_ms * 1000), SECOND, None, GapCause::Takeover).unwrap();
        let sealed = capture.render(plan, super::render::WINDOW_PACKETS);
        let gap = (0, lead, GapCause::Takeover);
        assert_eq!(sealed.gaps(), Some(gap).filter(|_| lead > 0).as_slice(), "due at {due_ms}");
        let silence = ".".repeat(usize::try_from(lead / 20).unwrap());
        assert_eq!(sealed.frames(), format!("{silence}abc"));
        assert_eq!(sealed.plan.segments[0].from.as_millis(), lead);
        assert_eq!(sealed.plan.position(at(3_020_000)).as_millis(), lead + 20);
        assert_eq!(sealed.plan.position(sealed.plan.started).as_millis(), 0);
    }
    // What was published begins where it began.
    let mut plan = capture.plan().unwrap();
    plan.begin_by(at(2_900_000), SECOND, Some(at(2_500_000)), GapCause::NoMedia).unwrap();
    assert_eq!(plan.started, at(2_500_000));
}

#[test]
fn of_two_segments_that_overlap_the_earlier_counts_until_it_ends() {
    let mut capture = capture();
    capture.open(2, 0).terms(2, SWITCH, "g711a");
    let (mut first, mut second) = (Sender::new(1, 1, 0), Sender::new(2, 2, 43));
    first.say(&mut capture, "abcdef");
    second.say(&mut capture, "CDEFGH");
    let sealed = capture.sealed();
    assert_eq!(sealed.frames(), "abcdefGH");
    assert_eq!((sealed.gaps().len(), sealed.plan.ignored.overlapping), (0, 4));
}

#[test]
fn a_burst_that_one_segment_lost_is_filled_from_another() {
    let mut capture = capture();
    capture.open(2, 0).terms(2, SWITCH, "g711a");
    Sender::new(1, 1, 0).say(&mut capture, &format!("abcd{}ef", "-".repeat(20)));
    Sender::new(2, 2, 60).say(&mut capture, &"x".repeat(30));
    let sealed = capture.sealed();
    assert_eq!(sealed.frames(), format!("abcd{}", "x".repeat(29)));
    assert_eq!(sealed.gaps(), []);
}

#[test]
fn strangers_stay_out() {
    let mut capture = capture();
    let mut sender = Sender::new(1, 1, 0);
    let mut stranger = Sender { source: STRANGER, ..Sender::new(9, 1, 5) };
    stranger.say(&mut capture, "xxxxxxxxxxxx");
    sender.say(&mut capture, "abc");
    let sealed = capture.sealed();
    assert_eq!(sealed.frames(), "abc");
    assert_eq!(sealed.plan.ignored.strangers, 12);
    assert_eq!(sealed.plan.segments[0].census.packets, 3);
}

#[test]
fn without_terms_or_where_the_named_source_is_dumb_the_loudest_source_counts() {
    for named in [None, Some("203.0.113.1:9")] {
        let mut capture = Capture::default();
        capture.open(1, 0);
        if let Some(named) = named {
            capture.terms(1, named, "g711a");
        }
        Sender { source: STRANGER, ..Sender::new(9, 1, 5) }.say(&mut capture, "xx");
        Sender::new(1, 1, 0).say(&mut capture, "abc");
        let sealed = capture.sealed();
        assert_eq!((sealed.frames().as_str(), sealed.plan.ignored.strangers), ("abc", 2));
    }
}

#[test]
fn the_law_is_what_was_sent_whatever_was_announced() {
    let mut capture = capture();
    let mut sender = Sender::new(1, 1, 0);
    sender.send(&mut capture, 0, false, &[b'm'; 160]);
    sender.skip(1, 160, 20).say(&mut capture, "a");
    let sealed = capture.sealed();
    assert_eq!(sealed.plan.law, Law::Mu);
    assert_eq!(sealed.plan.segments[0].codecs, ["g711u", "g711a"]);
}

#[test]
fn audio_that_cannot_be_decoded_is_refused_by_name_and_a_few_such_packets_are_not() {
    let capture_with = |foreign: usize| {
        let mut capture = capture();
        capture.terms(1, SWITCH, "g723");
        let mut sender = Sender::new(1, 1, 0);
        sender.say(&mut capture, "abc");
        for _ in 0..foreign {
            sender.send(&mut capture, 4, false, &[0; 24]);
            sender.skip(1, 240, 30);
        }
        capture
    };
    assert_eq!(capture_with(3).plan().unwrap().ignored.foreign, 3);
    let error = capture_with(60).plan().unwrap_err();
    assert_eq!(error.to_string(), "60 packets have payload type 4 (g723), which cannot be decoded");
}

#[test]
fn packets_of_g729_last_as_long_as_their_frames_whatever_their_size() {
    let mut capture = capture();
    capture.terms(1, SWITCH, "g729a");
    let mut sender = Sender::new(1, 1, 0);
    let frames = |sender: &mut Sender, capture: &mut Capture, ms: i64, mark: u8| {
        sender.send(capture, 18, false, &vec![mark; usize::try_from(ms).unwrap()]);
        sender.skip(1, u32::try_from(ms * 8).unwrap(), ms);
    };
    for (ms, mark) in [(20, b'a'), (20, b'c'), (60, b'e'), (10, b'k')] {
        frames(&mut sender, &mut capture, ms, mark);
    }
    // Two are lost; one describes silence (annex B), which then lasts until the talk goes on.
    sender.skip(2, 320, 40);
    frames(&mut sender, &mut capture, 20, b'p');
    sender.send(&mut capture, 18, false, &[1, 2]);
    sender.skip(1, 2_400, 300);
    sender.send(&mut capture, 18, true, &[b'x'; 10]);
    let sealed = capture.sealed();
    let tens = sealed.samples.chunks(80).map(|ten| ten[0].map_or('.', char::from));
    assert_eq!(tens.collect::<String>(), "abcdefghijk....pq..............................x");
    assert_eq!(sealed.gaps(), [(110, 150, GapCause::Loss)]);
    assert_eq!(sealed.fresh, [true, false, false, false, false, true]);
    let segment = &sealed.plan.segments[0];
    assert_eq!((segment.codecs.as_slice(), segment.census.lost), (&["g729"][..], 2));
    assert!((sealed.plan.impairment - 10.0).abs() < 1e-9);
}

#[test]
fn a_codec_that_changes_begins_anew_and_a_late_packet_does_not_disturb_it() {
    let mut capture = capture();
    let mut sender = Sender::new(1, 1, 0);
    sender.send(&mut capture, 18, false, &[b'a'; 20]);
    sender.skip(1, 160, 20).say(&mut capture, "m");
    sender.send(&mut capture, 18, false, &[b'c'; 20]);
    // The next two arrive in the wrong order.
    sender.skip(2, 320, 20).send(&mut capture, 18, false, &[b'g'; 20]);
    sender.skip(u16::MAX, 160_u32.wrapping_neg(), 1).send(&mut capture, 18, false, &[b'e'; 20]);
    sender.skip(2, 320, 39).send(&mut capture, 9, false, &[b'w'; 160]);
    let sealed = capture.sealed();
    let tens = sealed.samples.chunks(80).map(|ten| ten[0].map_or('.', char::from));
    assert_eq!(tens.collect::<String>(), "abmmcdefghwx");
    assert_eq!(sealed.fresh, [true, true, false, false, true]);
    assert_eq!(sealed.plan.segments[0].codecs, ["g729", "g711a", "g722"]);
    assert_eq!(sealed.plan.law, Law::A);
}

#[test]
fn nothing_captured_is_said_so() {
    let mut capture = capture();
    capture.from(SWITCH, 1, 0, b"garbage").from(STRANGER, 1, 1, b"\x80\x08");
    let error = capture.plan().unwrap_err();
    assert_eq!(error, Unplaceable::NoAudio { packets: 2, strangers: 0, disk_full: false });
}

#[test]
fn what_the_disk_could_not_take_is_declared_as_that() {
    let mut capture = capture();
    let lost = |from: i64, to: i64, packets| Fact::Lost {
        segment: SegmentId(1),
        from: at(from * 1000),
        to: at(to * 1000),
        packets,
        cause: GapCause::DiskFull,
    };
    let mut sender = Sender::new(1, 1, 0);
    sender.say(&mut capture, "ab--cdefghi");
    capture.fact(&lost(40, 60, 2));
    sender.say(&mut capture, "-jklmnopqr");
    capture.fact(&lost(420, 1_000, 29));
    let sealed = capture.sealed();
    let full = GapCause::DiskFull;
    assert_eq!(sealed.gaps()[..2], [(40, 80, full), (220, 240, GapCause::Loss)][..]);
    assert_eq!(sealed.gaps()[2], (420, 1_000, full));
    assert_eq!(sealed.plan.total.as_millis(), 1_000);
}

#[test]
fn drift_is_measured_and_does_not_show_as_a_hole() {
    let mut capture = capture();
    // 20 minutes from a sender whose clock is 100 ppm slow: 120 ms behind at the end.
    let mut sender = Sender::new(1, 1, 0);
    let frames = 20 * 60 * 50;
    for i in 0..frames {
        sender.micros = i64::from(i) * 20_002 + i64::from(i % 3) * 4_000;
        sender.send(&mut capture, 8, false, &[b'a'; 160]);
        sender.seq = sender.seq.wrapping_add(1);
        sender.timestamp = sender.timestamp.wrapping_add(160);
    }
    capture.open(2, 0);
    let resumes = i64::from(frames) * 20_002 + 500_000;
    Sender { micros: resumes, ..Sender::new(2, 2, 0) }.say(&mut capture, "b");
    let sealed = capture.sealed();
    assert!((sealed.plan.quality.clockdriftppm + 100.0).abs() < 3.0, "{:?}", sealed.plan.quality);
    let (from, to, _) = sealed.gaps()[0];
    assert_eq!(from, 20 * 60 * 1000);
    assert!((498..=502).contains(&(to - from)), "{}", to - from);
    // The drift is taken back where wall time becomes position.
    let middle = sealed.plan.position(at(600_060_000)).as_millis();
    assert!((599_998..=600_002).contains(&middle), "{middle}");
}

#[test]
fn a_wall_clock_that_is_set_loses_no_audio() {
    for step_ms in [-3_600_000, -1_000, 1_000, 90 * 86_400_000_i64] {
        let mut capture = capture();
        let mut sender = Sender::new(1, 1, 0);
        sender.say(&mut capture, "abc").skip(0, 0, step_ms).say(&mut capture, "def");
        assert_eq!(capture.sealed().frames(), "abcdef", "{step_ms}");
        // The worst moment: the sender sets its timestamps anew, too.
        sender.skip(0, 900_000_000, step_ms).say(&mut capture, "gh");
        let heard: Vec<u8> =
            capture.sealed().samples.iter().flatten().step_by(160).copied().collect();
        assert_eq!(heard, b"abcdefgh", "{step_ms}");
        assert!(capture.sealed().plan.total.as_millis() < 100 * 86_400_000);
    }
}

#[test]
fn a_window_that_is_too_small_costs_another_pass_and_no_audio() {
    // One port was read before the other, long after both had received.
    let mut capture = Capture::default();
    capture.open(1, 0).open(2, 0);
    Sender::new(2, 2, 4_000).say(&mut capture, &"b".repeat(200));
    Sender::new(1, 1, 0).say(&mut capture, &"a".repeat(200));
    for window in [1, 16, 1_000] {
        let sealed = capture.sealed_through(window);
        let same = sealed.frames() == format!("{}{}", "a".repeat(200), "b".repeat(200));
        assert!(same, "window of {window}");
    }
}

/// One frame as it is sent and as it arrives.
#[derive(Clone, Debug)]
struct Fate {
    ms: u32,
    lost: bool,
    delay_ms: u32,
    copies: u8,
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let packetisation = prop_oneof![Just(10_u32), Just(20), Just(30), Just(40), Just(60)];
    let fate = (packetisation, proptest::bool::weighted(0.15), 0_u32..1_500, 0_u8..3)
        .prop_map(|(ms, lost, delay_ms, copies)| Fate { ms, lost, delay_ms, copies });
    let mixed = proptest::collection::vec(fate, 1..150);
    (mixed, proptest::bool::ANY).prop_map(|(mut fates, even)| {
        if even {
            fates.iter_mut().for_each(|fate| fate.ms = 20);
        }
        fates
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Delays up to 1.5 s, any order, copies: the file is that of the ordered stream, and exactly
    /// the lost frames are declared.
    #[test]
    fn the_network_changes_nothing_but_what_it_loses(
        fates in fates(), seq: u16, timestamp: u32, ssrc: u32,
        pt in proptest::sample::select(&[8_u8, 9, 18, 111]),
    ) {
        let mut arrivals = Vec::new();
        let mut expected: Vec<Option<u8>> = Vec::new();
        let mut sent_ms = 0;
        for (number, fate) in (0_u16..).zip(&fates) {
            let samples = fate.ms * 8;
            let letter = (number % 200) as u8;
            let payload = match pt {
                // One SILK frame (RFC 6716, 3.1), or three.
                111 if fate.ms == 30 => vec![0b11, 3, letter],
                111 => vec![((fate.ms / 20) << 3) as u8, letter],
                18 => vec![letter; (samples / 8) as usize],
                _ => vec![letter; samples as usize],
            };
            let clock = if pt == 111 { 48 } else { 8 };
            let datagram = packet(
                ssrc,
                seq.wrapping_add(number),
                timestamp.wrapping_add(sent_ms * clock),
                pt,
                false,
                &payload,
            );
            for copy in 0..=fate.copies {
                let arrival = sent_ms + fate.delay_ms / (u32::from(copy) + 1);
                if !fate.lost {
                    arrivals.push((arrival, datagram.clone()));
                }
            }
            let step = |n: u32| if pt == 8 { 0 } else { (n / 80) as u8 };
            expected.extend((0..samples).map(|n| (!fate.lost).then_some(letter + step(n))));
            sent_ms += fate.ms;
        }
        arrivals.sort();
        prop_assume!(!arrivals.is_empty());
        let mut capture = capture();
        capture.terms(1, SWITCH, if pt == 111 { "opus" } else { "g711a" });
        for (ms, datagram) in &arrivals {
            capture.from(SWITCH, 1, i64::from(*ms) * 1000, datagram);
        }
        let sealed = capture.sealed();

        // What was lost before the first or after the last packet nobody can know of.
        let first = expected.iter().position(Option::is_some).unwrap();
        let last = expected.iter().rposition(Option::is_some).unwrap();
        let expected = &expected[first..=last];
        prop_assert_eq!(&sealed.samples, expected);
        let mut declared = vec![false; expected.len()];
        for gap in &sealed.plan.gaps {
            prop_assert_eq!(gap.cause, GapCause::Loss);
            declared[gap.from.0 as usize..gap.to.0 as usize].fill(true);
        }
        let silent: Vec<bool> = expected.iter().map(Option::is_none).collect();
        prop_assert_eq!(declared, silent);
        let census = sealed.plan.segments[0].census;
        prop_assert_eq!(census.packets, arrivals.len() as u64);
        let lost = fates.iter().filter(|f| f.lost).count() as u64;
        prop_assert!(census.lost <= lost);
    }

    /// Bytes that are no packets, at times that are no times: an answer, and a file as planned.
    #[test]
    fn any_capture_gives_an_answer(
        rows in proptest::collection::vec(
            (0_u64..3, any::<bool>(), -30_000_000_i32..30_000_000, proptest::collection::vec(any::<u8>(), 0..60)),
            0..60,
        ),
        rtp: bool,
    ) {
        let mut capture = Capture::default();
        for (segment, named, micros, mut bytes) in rows {
            if rtp && bytes.len() > 2 {
                bytes[0] = 0x80;
                bytes[1] &= 0x88;
            }
            if named {
                capture.terms(segment, SWITCH, "g711u");
            }
            let source = if bytes.len() % 2 == 0 { SWITCH } else { STRANGER };
            capture.from(source, segment, i64::from(micros), &bytes);
        }
        if let Ok(plan) = capture.plan() {
            let sealed = capture.sealed();
            prop_assert_eq!(sealed.plan.total, plan.total);
            for gap in &plan.gaps {
                prop_assert!(gap.from < gap.to && gap.to <= plan.total);
                let hole = gap.from.0 as usize..gap.to.0 as usize;
                prop_assert!(sealed.samples[hole].iter().all(Option::is_none));
            }
        }
    }
}

#[test]
fn keys_are_marked_where_they_were_pressed_and_not_which() {
    let mut capture = capture();
    let mut sender = Sender::new(1, 1, 0);
    sender.say(&mut capture, "abc");
    // One press: its packets all bear the time of its begin; the last is sent three times.
    for _ in 0..4 {
        sender.send(&mut capture, 101, false, &[5, 0x8a, 1, 0x40]);
        sender.skip(1, 0, 20);
    }
    sender.skip(0, 640, 0).say(&mut capture, "d");
    sender.send(&mut capture, 101, true, &[7, 10, 0, 160]);
    sender.skip(1, 160, 20).say(&mut capture, "e");
    let plan = capture.plan().unwrap();
    let pressed: Vec<u64> = plan.keys.iter().map(|key| key.at.as_millis()).collect();
    assert_eq!(pressed, [60, 160]);
    let draft = Draft::blank(RecordingId::new(at(0), [0; 10]), NodeId(1), at(0));
    assert_eq!(super::record(draft, &plan, VoiceFormat::Wav).keysms, pressed);
}

#[test]
fn tones_of_keys_can_be_taken_out_of_the_audio() {
    let mut capture = capture();
    let mut sender = Sender::new(1, 1, 0);
    sender.say(&mut capture, "abcd");
    // The key is heard on, and each of its events tells of a longer time; one is lost, one comes twice.
    let begin = sender.timestamp;
    for (letter, duration) in [("e", 160_u16), ("f", 320), ("g", 480), ("h", 480)] {
        if letter != "f" {
            let [high, low] = duration.to_be_bytes();
            let timestamp = std::mem::replace(&mut sender.timestamp, begin);
            sender.send(&mut capture, 101, false, &[5, 10, high, low]);
            sender.timestamp = timestamp;
        }
        sender.skip(1, 0, 0).say(&mut capture, letter);
    }
    sender.say(&mut capture, "ijklmnop");
    let kept = capture.sealed();
    assert_eq!(kept.frames(), "abcdefghijklmnop");
    let mut plan = capture.plan().unwrap();
    assert_eq!(plan.keys, [Key { at: MediaTime(640), samples: 480 }]);
    plan.mask_keys();
    let sealed = capture.render(plan, 4);
    // From 60 ms before to 40 ms after.
    assert_eq!(sealed.frames(), "a........jklmnop");
    assert_eq!(sealed.gaps(), [], "nothing is missing that was to be there");
    let draft = Draft::blank(RecordingId::new(at(0), [0; 10]), NodeId(1), at(0));
    let record = super::record(draft, &sealed.plan, VoiceFormat::Wav);
    assert_eq!(record.masked, [Span { startms: 20, endms: 180 }]);
}

proptest! {
    #[test]
    fn what_is_masked_is_silent_and_nothing_else_is(
        presses in proptest::collection::vec((0..60_usize, 0..2_000_u16, 0..160_u32), 0..6),
        codec in prop_oneof![Just((8_u8, 160_usize, 160_u32)), Just((18, 20, 160)), Just((18, 60, 480))],
    ) {
        let (pt, bytes, samples) = codec;
        let mut capture = capture();
        let mut sender = Sender::new(1, 1, 0);
        for frame in 0..60 {
            for (_, duration, into) in presses.iter().filter(|press| press.0 == frame) {
                let [high, low] = duration.to_be_bytes();
                let timestamp = sender.timestamp;
                sender.timestamp = timestamp.wrapping_add(*into);
                sender.send(&mut capture, 101, false, &[5, 10, high, low]);
                sender.timestamp = timestamp;
                sender.skip(1, 0, 0);
            }
            sender.send(&mut capture, pt, false, &vec![b'x'; bytes]);
            sender.skip(1, samples, i64::from(samples) / 8);
        }
        let whole = capture.sealed();
        let mut plan = capture.plan().unwrap();
        plan.mask_keys();
        let spans = plan.masked.clone();
        let masked = capture.render(plan, 16);
        prop_assert_eq!(whole.samples.len(), masked.samples.len());
        for (at, (before, after)) in (0_u64..).zip(whole.samples.iter().zip(&masked.samples)) {
            let silent = spans.iter().any(|(from, to)| (from.0..to.0).contains(&at));
            prop_assert_eq!(*after, before.filter(|_| !silent), "at {}", at);
        }
        // Of each stretch of a codec that remembers, the first packet is decoded anew.
        prop_assert!(masked.fresh.iter().filter(|fresh| **fresh).count() <= spans.len() + 1);
    }
}

#[test]
fn opus_that_came_before_its_name_is_not_taken_for_something_else() {
    let mut capture = Capture::default();
    capture.open(1, 0);
    let mut sender = Sender::new(1, 1, 0);
    for letter in b"abcdef" {
        if *letter == b'c' {
            capture.terms(1, SWITCH, "opus");
        }
        sender.send(&mut capture, 96, false, &[0b0000_1000, *letter]);
        sender.skip(1, 960, 20);
    }
    let sealed = capture.sealed();
    let letters: Vec<_> = sealed.samples.iter().step_by(160).map(|s| s.unwrap()).collect();
    assert_eq!((letters.as_slice(), sealed.samples.len()), (&b"cdef"[..], 4 * 160));
}
