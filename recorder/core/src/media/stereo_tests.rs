//! Two sides of a call on one timeline: how they are laid, and that each sounds as it would alone.

use proptest::prelude::*;
use storage_core::journal::{Entry, Fact};
use storage_core::record::{GapCause, Side, VoiceFormat};
use storage_core::{Draft, NodeId, RecordingId, SegmentId};

use super::tests::{Capture, SWITCH, Samples, Sender, at};
use super::{Index, Layout, Pass, Plan, Render, Stereo, Unplaceable, record_of_sides};

fn open(capture: &mut Capture, segment: u64, side: Option<Side>) {
    capture.fact(&Fact::SegmentOpened {
        segment: SegmentId(segment),
        recordingid: RecordingId::new(at(0), [7; 10]),
        phantom: "3001".into(),
        at: at(0),
        key: None,
        side,
    });
    capture.terms(segment, SWITCH, "g711a");
}

/// Segment 1 hears the agent, segment 2 the others.
fn two_sides() -> Capture {
    let mut capture = Capture::default();
    open(&mut capture, 1, Some(Side::Agent));
    open(&mut capture, 2, Some(Side::Others));
    capture
}

fn layout(capture: &Capture) -> Result<Layout, Unplaceable> {
    let mut index = Index::new();
    capture.entries(|entry| index.entry(entry));
    index.layout()
}

fn stereo(capture: &Capture) -> Stereo {
    match layout(capture).unwrap() {
        Layout::Stereo(stereo) => *stereo,
        Layout::Mono(_) => panic!("it has sides"),
    }
}

/// What a plan makes of a capture; a frame of 20 ms as its letter, `.` for silence.
fn rendered(capture: &Capture, plan: &Plan) -> Vec<Option<u8>> {
    let mut file = Samples::default();
    let mut render = Render::new(plan);
    loop {
        capture.entries(|entry| {
            render.entry(entry, &mut file).unwrap();
            render.catch_up(&mut file).unwrap();
        });
        if render.end_pass(&mut file).unwrap() == Pass::Done {
            return file.0;
        }
    }
}

fn frames(capture: &Capture, plan: &Plan) -> String {
    let samples = rendered(capture, plan);
    samples.chunks(160).map(|frame| frame[80].map_or('.', char::from)).collect()
}

fn gaps(stereo: &Stereo) -> Vec<(u64, u64, GapCause, Option<Side>)> {
    let told = stereo
        .gaps()
        .map(|(gap, side)| (gap.from.as_millis(), gap.to.as_millis(), gap.cause, side));
    told.collect()
}

#[test]
fn both_sides_begin_and_end_together_and_what_one_lacks_is_declared() {
    let mut capture = two_sides();
    Sender::new(1, 1, 0).say(&mut capture, "abcdefghij");
    Sender::new(2, 2, 60).say(&mut capture, "ABC--F");
    let stereo = stereo(&capture);
    let [agent, others] = stereo.sides();
    assert_eq!(frames(&capture, agent), "abcdefghij");
    assert_eq!(frames(&capture, others), "...ABC..F.");
    assert_eq!((agent.started, others.started), (at(0), at(0)));
    assert_eq!((agent.ended, others.ended, agent.total), (at(200_000), at(200_000), others.total));
    let missing = Some(Side::Others);
    let expected = [
        (0, 60, GapCause::NoMedia, missing),
        (120, 160, GapCause::Loss, missing),
        (180, 200, GapCause::NoMedia, missing),
    ];
    assert_eq!(gaps(&stereo), expected);
    let draft = Draft {
        ended: Some(at(200_000)),
        ..Draft::lost(RecordingId::new(at(0), [7; 10]), NodeId(1))
    };
    let record = record_of_sides(draft, &stereo, VoiceFormat::WavG711);
    let told: Vec<_> = record.gaps.iter().map(|g| (g.startms, g.endms, g.cause, g.side)).collect();
    assert_eq!(told, expected);
    let sides: Vec<_> = record.segments.iter().map(|s| (s.side, s.packets)).collect();
    assert_eq!(sides, [(Some(Side::Agent), 10), (Some(Side::Others), 4)]);
    assert_eq!((record.durationms, record.quality.longestlossms), (200, 40));
    assert!((record.quality.lossratio - 2.0 / 16.0).abs() < 1e-6);
}

#[test]
fn a_gap_on_both_sides_is_one_of_neither() {
    let mut capture = two_sides();
    Sender::new(1, 1, 0).say(&mut capture, "ab---fgh");
    Sender::new(2, 2, 0).say(&mut capture, "ABC---GH");
    let stereo = stereo(&capture);
    let expected = [
        (40, 60, GapCause::Loss, Some(Side::Agent)),
        (60, 100, GapCause::Loss, None),
        (100, 120, GapCause::Loss, Some(Side::Others)),
    ];
    assert_eq!(gaps(&stereo), expected);
    let whole: Vec<_> = stereo.whole().gaps.iter().map(|gap| gap.from.as_millis()).collect();
    assert_eq!(whole, [60]);
}

#[test]
fn a_side_that_was_never_heard_is_silent_and_said_to_be() {
    let mut capture = two_sides();
    Sender::new(1, 1, 0).say(&mut capture, "abcde");
    let stereo = stereo(&capture);
    let [agent, others] = stereo.sides();
    assert_eq!(
        (frames(&capture, agent), frames(&capture, others)),
        ("abcde".into(), ".....".into())
    );
    assert_eq!(gaps(&stereo), [(0, 100, GapCause::NoMedia, Some(Side::Others))]);
    assert!(matches!(layout(&two_sides()), Err(Unplaceable::NoAudio { packets: 0, .. })));
}

#[test]
fn a_side_goes_on_with_another_device_after_a_takeover() {
    let mut capture = two_sides();
    open(&mut capture, 3, Some(Side::Others));
    Sender::new(1, 1, 0).say(&mut capture, "abcdefghij");
    Sender::new(2, 2, 0).say(&mut capture, "ABCD");
    Sender::new(3, 3, 120).say(&mut capture, "GHIJ");
    let stereo = stereo(&capture);
    assert_eq!(frames(&capture, &stereo.sides()[1]), "ABCD..GHIJ");
    assert_eq!(gaps(&stereo), [(80, 120, GapCause::Takeover, Some(Side::Others))]);
}

#[test]
fn what_heard_all_in_one_is_on_both_channels_and_without_sides_there_is_one_channel() {
    let mut capture = Capture::default();
    open(&mut capture, 1, Some(Side::Agent));
    open(&mut capture, 2, None);
    Sender::new(2, 2, 0).say(&mut capture, "XYZ");
    Sender::new(1, 1, 60).say(&mut capture, "abc");
    let stereo = stereo(&capture);
    let [agent, others] = stereo.sides();
    assert_eq!(
        (frames(&capture, agent), frames(&capture, others)),
        ("XYZabc".into(), "XYZ...".into())
    );
    assert_eq!(stereo.whole().segments.len(), 2);
    let mut capture = Capture::default();
    open(&mut capture, 1, None);
    Sender::new(1, 1, 0).say(&mut capture, "abc");
    assert!(matches!(layout(&capture), Ok(Layout::Mono(_))));
}

#[test]
fn keys_of_one_side_are_masked_on_both() {
    let mut capture = two_sides();
    let letters = "abcdefghijklmnopqrstuvwxyz";
    let mut sender = Sender::new(1, 1, 0);
    sender.say(&mut capture, &letters[..10]);
    // A key of 160 ms (RFC 4733): its event goes in the place of eight frames of audio.
    sender.send(&mut capture, 101, true, &[5, 0x8a, 5, 0]);
    sender.skip(1, 1_280, 160).say(&mut capture, &letters[18..]);
    Sender::new(2, 2, 0).say(&mut capture, &letters.to_uppercase());
    let mut layout = layout(&capture).unwrap();
    layout.mask_keys().unwrap();
    let Layout::Stereo(stereo) = layout else { panic!("it has sides") };
    let others = frames(&capture, &stereo.sides()[1]);
    assert!(others.starts_with("ABCDEFG.") && others.ends_with("UVWXYZ"), "{others}");
    assert!(!others.contains('N'), "{others}");
    assert_eq!(stereo.whole().masked.len(), 1);
}

/// Whether an entry is of a segment.
fn is_of(entry: &Entry<'_>, segment: u64) -> bool {
    let of = match entry {
        Entry::Packets(block) => block.segment,
        Entry::Fact(Fact::SegmentOpened { segment, .. } | Fact::MediaTerms { segment, .. }) => {
            *segment
        }
        Entry::Fact(_) => return false,
    };
    of == SegmentId(segment)
}

fn letters(lost: &[bool], first: u8) -> String {
    let letter = |n: usize| char::from(first + u8::try_from(n % 26).unwrap());
    let said = lost.iter().enumerate().map(|(n, lost)| if *lost { '-' } else { letter(n) });
    said.collect()
}

proptest! {
    #[test]
    fn each_channel_is_what_its_side_would_be_alone(
        agent in proptest::collection::vec(proptest::bool::weighted(0.2), 1..80),
        others in proptest::collection::vec(proptest::bool::weighted(0.2), 1..80),
        later in 0..3_000_i64,
    ) {
        let mut capture = two_sides();
        Sender::new(1, 1, 0).say(&mut capture, &letters(&agent, b'a'));
        Sender::new(2, 2, later).say(&mut capture, &letters(&others, b'A'));
        let alone = [1, 2].map(|segment| {
            let mut index = Index::new();
            capture.entries(|entry| if is_of(entry, segment) { index.entry(entry) });
            index.plan().ok()
        });
        let Ok(Layout::Stereo(stereo)) = layout(&capture) else {
            prop_assert!(alone.iter().all(Option::is_none));
            return Ok(());
        };
        let begin = alone.iter().flatten().map(|plan| plan.started).min().unwrap();
        for (number, plan) in alone.iter().enumerate() {
            let heard = rendered(&capture, &stereo.sides()[number]);
            prop_assert_eq!(heard.len() as u64, stereo.whole().total.0);
            let Some(plan) = plan else {
                prop_assert!(heard.iter().all(Option::is_none));
                continue;
            };
            // The other segment's packets are not in this capture.
            let mut file = Samples::default();
            let mut render = Render::new(plan);
            capture.entries(|entry| if is_of(entry, number as u64 + 1) {
                render.entry(entry, &mut file).unwrap();
            });
            prop_assert_eq!(render.end_pass(&mut file).unwrap(), Pass::Done);
            let lead = usize::try_from(plan.started.micros_since(begin) / 125).unwrap();
            let end = lead + file.0.len();
            prop_assert_eq!(&heard[lead..end], &file.0[..]);
            let around = heard[..lead].iter().chain(&heard[end..]);
            prop_assert!(around.into_iter().all(Option::is_none));
        }
        // What is silent is declared, on the side that it is silent on, but for what is less than the
        // error of measurement (5 ms).
        let side = |number: usize| Some(Side::ALL[number]);
        for number in 0..2 {
            let heard = rendered(&capture, &stereo.sides()[number]);
            let mut wrong = 0;
            for (place, sample) in heard.iter().enumerate() {
                let declared = stereo.gaps().any(|(gap, of)| {
                    (gap.from.0..gap.to.0).contains(&(place as u64))
                        && (of.is_none() || of == side(number))
                });
                wrong = if sample.is_none() == declared { 0 } else { wrong + 1 };
                prop_assert!(wrong < 40, "sample {} of {}", place, number);
            }
        }
    }
}
