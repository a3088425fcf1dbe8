//! `al_hold = "skip"`, with real recorders against the simulated switch: what the phantoms are sent while nobody talks
//! to anybody is in no voice file and is declared, and everything else is there. The switch sends coded audio
//! all the time, so each 20 ms of music can be told from the talk.

mod common;

use std::collections::BTreeSet;
use std::ops::Range;

use astlogger::demo::{Published, Shape};
use common::group::{GroupBench, ONE, TWO};
use common::pauses::NEAR;
use common::traces::{assert_absent, codes_in};
use common::{Bench, LIMIT};
use simulator::{CallRef, SiteConfig};
use storage_core::Recording;
use storage_core::record::GapCause;

const SKIP: &str = "al_hold = \"skip\"\n";
/// Frames of a call before, in and after a hold: 1.2 s.
const SOME: u32 = 60;
/// Frames before the word that a call is taken back which stay, so that no talk is lost: 250 ms, and one that lies on the
/// edge.
const WORD: u32 = 14;

fn sent(bench: &Bench, call: CallRef) -> u32 {
    bench.site.switch().call(call).expect("it is up").frames
}

/// The voice file of the call from this number: which of a call's frames are in it, and its record.
fn of(published: &[Published], caller: &str, call: CallRef) -> (BTreeSet<u32>, Recording) {
    let mut its = published.iter().filter(|(_, record)| record.calling == caller);
    let (path, record) = its.next().expect("it is published");
    (codes_in(&std::fs::read(path).expect("a voice file"), call), record.clone())
}

/// The only gaps are holds, which are as long as these frames and have nothing in them; all of the talk is there.
#[track_caller]
fn assert_skipped(
    frames: &BTreeSet<u32>,
    record: &Recording,
    talk: &[Range<u32>],
    held: &[Range<u32>],
) {
    let causes: Vec<_> = record.gaps.iter().map(|gap| gap.cause).collect();
    assert_eq!(causes, vec![GapCause::Hold; held.len()], "{record:#?}");
    for (gap, held) in record.gaps.iter().zip(held) {
        let long = u64::from(held.end - held.start) * 20;
        assert!((gap.endms - gap.startms).abs_diff(long) <= 300, "{long} ms: {record:#?}");
        assert_absent(frames, &(held.start + NEAR..held.end.saturating_sub(NEAR)), "voice file");
    }
    for talk in talk {
        let lacks: Vec<_> = talk.clone().filter(|frame| !frames.contains(frame)).collect();
        assert!(lacks.is_empty(), "{talk:?} lacks {lacks:?}: {record:#?}");
    }
    assert!(record.complete, "{record:#?}");
    assert_eq!(record.quality.lossratio, 0.0, "{record:#?}");
    assert_eq!(record.segments.iter().map(|segment| segment.lost).sum::<u64>(), 0, "{record:#?}");
    assert!(record.parties.iter().any(|party| !party.holds.is_empty()), "{record:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn music_on_hold_is_in_no_voice_file_and_everything_else_is() {
    let bench = Bench::start_with(SiteConfig::demo(4, 1), SKIP).await;
    let switch = bench.site.switch();
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recorded(call).await;
    bench.frames(call, SOME).await;
    // Taken back; then for a consultation, which becomes a transfer; then to the end.
    let first = sent(&bench, call);
    switch.hold("31001").expect("an active call");
    bench.frames(call, first + SOME).await;
    let back = sent(&bench, call);
    switch.retrieve("31001").expect("a held call");
    bench.frames(call, back + SOME).await;
    let consults = sent(&bench, call);
    let consultation = switch.consult("31001", "31002").expect("an active call");
    assert!(switch.wait_alerting(consultation, LIMIT).await.is_some());
    switch.answer("31002").expect("it rings");
    bench.recorded(consultation).await;
    bench.frames(consultation, SOME).await;
    let handed = sent(&bench, call);
    switch.transfer("31001").expect("a held and an active call");
    bench.frames(call, handed + SOME).await;
    let last = sent(&bench, call);
    switch.hold("31002").expect("an active call");
    bench.frames(call, last + SOME).await;
    let end = sent(&bench, call);
    switch.hangup_all(call);
    let published = bench.published(2).await;
    let verdict = bench.assert_right();
    assert_eq!((verdict.calls_recorded, verdict.packets_unaccounted), (2, 0), "{verdict:?}");
    let (frames, record) = of(&published, "5551230001", call);
    let talk = [10..first, back + NEAR..consults, handed + NEAR..last];
    let held = [first..back - WORD, consults..handed - WORD, last..end];
    assert_skipped(&frames, &record, &talk, &held);
    assert!(record.gaps[2].endms.abs_diff(record.durationms) <= 1, "{record:#?}");
    let (frames, record) = of(&published, "31001", consultation);
    assert!((20..SOME).all(|frame| frames.contains(&frame)), "{frames:?}");
    assert_eq!(record.gaps, [], "who holds another call talks in this one: {record:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_three_of_whom_one_holds_the_others_are_recorded() {
    let bench = Bench::start_with(SiteConfig::demo(4, 1), SKIP).await;
    let switch = bench.site.switch();
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recorded(call).await;
    let consultation = switch.consult("31001", "31002").expect("an active call");
    assert!(switch.wait_alerting(consultation, LIMIT).await.is_some());
    switch.answer("31002").expect("it rings");
    bench.recorded(consultation).await;
    bench.frames(consultation, SOME).await;
    switch.conference("31001").expect("a held and an active call");
    let from = sent(&bench, call);
    bench.frames(call, from + SOME).await;
    switch.hold("31001").expect("an active call");
    bench.frames(call, from + 2 * SOME).await;
    switch.retrieve("31001").expect("a held call");
    bench.frames(call, from + 3 * SOME).await;
    switch.hangup_all(call);
    let published = bench.published(2).await;
    bench.assert_right();
    let (frames, record) = of(&published, "5551230001", call);
    let lacks: Vec<_> = (from..from + 3 * SOME - 5).filter(|f| !frames.contains(f)).collect();
    assert!(lacks.is_empty(), "{lacks:?}: {record:#?}");
    assert!(record.parties.iter().any(|party| !party.holds.is_empty()), "{record:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_takeover_in_a_hold_leaves_no_hole_but_the_hold() {
    let shape = Shape { settings: SKIP.to_owned(), ..Shape::hot_standby(4) };
    let mut bench = GroupBench::start(SiteConfig::demo(4, 2), &shape).await;
    let call = bench.call(0).await;
    let sent = |bench: &GroupBench| bench.group.site.switch().call(call).expect("it is up").frames;
    bench.recorded_by(&[call], ONE).await;
    bench.go_on(&[call], SOME).await;
    let from = sent(&bench);
    bench.group.site.switch().hold("31001").expect("an active call");
    bench.go_on(&[call], SOME).await;
    bench.kill(ONE).await;
    bench.recorded_by(&[call], TWO).await;
    bench.go_on(&[call], SOME).await;
    let back = sent(&bench);
    bench.group.site.switch().retrieve("31001").expect("a held call");
    bench.go_on(&[call], SOME).await;
    bench.run().await;
    let end = sent(&bench);
    bench.hang_up(&[call]);
    bench.published(1).await;
    let verdict = bench.assert_right(1).await;
    assert_eq!((verdict.calls_recorded, verdict.packets_unaccounted), (1, 0), "{verdict:?}");
    let (frames, record) = of(&bench.recordings(), "5551200000", call);
    let held = from..back - WORD;
    assert_skipped(
        &frames,
        &record,
        &[10..from, back + NEAR..end - 5],
        std::slice::from_ref(&held),
    );
    let nodes: BTreeSet<_> = record.segments.iter().map(|segment| segment.node).collect();
    assert_eq!(nodes, BTreeSet::from([ONE, TWO]), "{record:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_channels_are_silent_while_the_far_end_holds() {
    let settings = format!("{SKIP}al_method = \"mr\"\nal_stereo = true\n");
    let bench = Bench::start_with(SiteConfig::demo(2, 1), &settings).await;
    let switch = bench.site.switch();
    let call = switch.internal_call("31001", "31002").expect("free stations");
    assert!(switch.wait_alerting(call, LIMIT).await.is_some());
    switch.answer("31002").expect("it rings");
    bench.metric("astlogger_recordings_active", |count| count == 1.0).await;
    bench.frames(call, SOME).await;
    let from = sent(&bench, call);
    // The other one's registrations go on hearing what that is sent: music.
    switch.hold("31002").expect("an active call");
    bench.frames(call, from + SOME).await;
    let back = sent(&bench, call);
    switch.retrieve("31002").expect("a held call");
    bench.frames(call, back + SOME).await;
    switch.hangup_all(call);
    let published = bench.published(1).await;
    let verdict = bench.assert_right();
    assert_eq!((verdict.calls_recorded, verdict.packets_unaccounted), (1, 0), "{verdict:?}");
    let record = &published[0].1;
    let [gap] = &record.gaps[..] else { panic!("{record:#?}") };
    assert_eq!((gap.cause, gap.side), (GapCause::Hold, None), "{record:#?}");
    let long = u64::from(back - WORD - from) * 20;
    assert!((gap.endms - gap.startms).abs_diff(long) <= 300, "{long} ms: {record:#?}");
    assert!(record.complete, "{record:#?}");
    // With `al_stereo` one device or the other may have heard what is kept; nothing of the hold is.
    let bytes = std::fs::read(&published[0].0).expect("a voice file");
    for (channel, name) in [(0, "the agent"), (1, "everybody else")] {
        let samples: Vec<u8> = bytes.iter().copied().skip(channel).step_by(2).collect();
        let frames = codes_in(&samples, call);
        assert!(frames.len() >= 2 * SOME as usize - 40, "{name}: {frames:?}");
        assert_absent(&frames, &(from + NEAR..back - WORD - NEAR), name);
    }
}
