//! Two sides of a call, captured apart, as one published file of two channels.

use std::process::Command;

use storage::{Fetch, FetchFormat, Journal};
use storage_core::g711::Law;
use storage_core::journal::Fact;
use storage_core::record::{GapCause, Side, VoiceFormat};
use storage_core::{NodeId, Recording, RecordingId, SegmentId};

use super::tests::{at, capture, folder, frame, g711_samples, numbered, published, rtp};
use super::*;
use crate::media_thread::tests::{draft, id};
#[cfg(feature = "opus")]
use crate::playback::Playback;

/// Segment 1 hears the agent, segment 2 the others.
fn open_sides(journal: &mut Journal, recordingid: RecordingId, ended_ms: i64) {
    let draft = draft(recordingid, Some(at(ended_ms)));
    journal.append_fact(&Fact::Recording { draft }).unwrap();
    for (segment, side) in [(1, Side::Agent), (2, Side::Others)] {
        let (segment, phantom, at, side) = (SegmentId(segment), "3001".into(), at(0), Some(side));
        let opened = Fact::SegmentOpened { segment, recordingid, phantom, at, key: None, side };
        journal.append_fact(&opened).unwrap();
    }
}

/// A call of a second: frames 0 to 49 of the agent, and of the others 5 to 44 without 20 and 21, which
/// are captured after the agent's.
fn a_call(format: VoiceFormat) -> (tempfile::TempDir, VoiceStore, Recording) {
    let (dir, mut journal, store) = folder();
    let id = id(1);
    open_sides(&mut journal, id, 1_000);
    capture(&mut journal, 1, &numbered(0..50, 8));
    let others = numbered((5..45).filter(|n| ![20, 21].contains(n)), 8);
    let others = others.into_iter().map(|(ms, _)| {
        let number = u16::try_from(ms / 20).unwrap();
        (ms, rtp(number + 1_000, 8))
    });
    capture(&mut journal, 2, &others.collect::<Vec<_>>());
    let record = published(&journal.reader(), &store, format, id);
    (dir, store, record)
}

fn channels<T: Copy>(samples: &[T]) -> [Vec<T>; 2] {
    [0, 1].map(|channel| samples.iter().skip(channel).step_by(2).copied().collect())
}

#[test]
fn a_g711_file_has_the_agent_left_and_the_others_right() {
    let (_dir, store, record) = a_call(VoiceFormat::WavG711);
    let (tag, samples) = g711_samples(&store.voice_path(&record));
    assert_eq!((tag, samples.len(), record.durationms), (6, 2 * 50 * 160, 1_000));
    let [left, right] = channels(&samples);
    for number in 0..50_u16 {
        let place = usize::from(number) * 160..usize::from(number + 1) * 160;
        assert_eq!(left[place.clone()], frame(number), "frame {number} of the agent");
        if (5..45).contains(&number) && ![20, 21].contains(&number) {
            assert_eq!(right[place], frame(number + 1_000), "frame {number} of the others");
        } else {
            assert!(right[place].iter().all(|byte| *byte == Law::A.silence()), "frame {number}");
        }
    }
    let side = Some(Side::Others);
    let gaps: Vec<_> = record.gaps.iter().map(|g| (g.startms, g.endms, g.cause, g.side)).collect();
    let expected = [
        (0, 100, GapCause::NoMedia, side),
        (400, 440, GapCause::Loss, side),
        (900, 1_000, GapCause::NoMedia, side),
    ];
    assert_eq!(gaps, expected);
    let sides: Vec<_> = record.segments.iter().map(|segment| segment.side).collect();
    assert_eq!(sides, [Some(Side::Agent), side]);
    assert_eq!(store.record(record.recordingid, record.started).unwrap(), record);
    let spec = ["--i", "-c"];
    let Ok(output) = Command::new("sox").args(spec).arg(store.voice_path(&record)).output() else {
        return eprintln!("no sox here: not judged");
    };
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "2");
}

#[test]
fn a_linear_file_and_a_fetched_one_are_the_same_to_hound() {
    let (_dir, store, record) = a_call(VoiceFormat::Wav);
    let mut wav = hound::WavReader::open(store.voice_path(&record)).unwrap();
    assert_eq!((wav.spec().channels, wav.duration()), (2, 8_000));
    let samples: Vec<i16> = wav.samples().map(Result::unwrap).collect();
    let (_dir, store, record) = a_call(VoiceFormat::WavG711);
    let fetch = Fetch::open(&store, &record, FetchFormat::Wav).unwrap();
    let mut bytes = vec![0; usize::try_from(fetch.bytes()).unwrap()];
    assert_eq!(fetch.read_at(&mut bytes, 0).unwrap(), bytes.len());
    let fetched = hound::WavReader::new(&bytes[..]).unwrap().into_samples().map(Result::unwrap);
    let fetched: Vec<i16> = fetched.collect();
    assert_eq!(samples.len(), fetched.len());
    // The silence of A-law is not quite 0.
    let same = |(one, other): (&i16, &i16)| one == other || (*one == 0 && *other == 8);
    assert_eq!(samples.iter().zip(&fetched).position(|pair| !same(pair)), None);
}

/// A tone of so many seconds on one side, near silence on the other.
fn one_talks(
    agent: bool,
    seconds: u16,
    format: VoiceFormat,
) -> (tempfile::TempDir, VoiceStore, Recording) {
    let (dir, mut journal, store) = folder();
    let id = id(1);
    open_sides(&mut journal, id, i64::from(seconds) * 1_000);
    let tone = |loud: bool| {
        let packets = (0..seconds * 50).map(move |number| {
            let mut bytes = rtp(number, 8);
            let step = std::f64::consts::TAU * 500.0 / 8_000.0;
            let level = if loud { 8_000.0 } else { 8.0 };
            let sample = |n: u32| ((f64::from(n) * step).sin() * level) as i16;
            let from = u32::from(number) * 160;
            bytes.splice(12.., (from..from + 160).map(|n| Law::A.encode(sample(n))));
            (i64::from(number) * 20, bytes)
        });
        packets.collect::<Vec<_>>()
    };
    capture(&mut journal, 1, &tone(agent));
    capture(&mut journal, 2, &tone(!agent));
    let record = published(&journal.reader(), &store, format, id);
    (dir, store, record)
}

#[test]
fn a_call_in_which_one_side_is_silent_throughout_is_one_way() {
    let one_way = |agent, seconds| one_talks(agent, seconds, VoiceFormat::WavG711).2.quality.oneway;
    assert_eq!(one_way(true, 6), Some(true));
    assert_eq!(one_way(false, 6), Some(true));
    assert_eq!(one_way(true, 4), None, "too short to tell");
    let (_dir, _store, record) = a_call(VoiceFormat::WavG711);
    assert_eq!(record.quality.oneway, Some(false), "both say something");
}

#[cfg(feature = "opus")]
#[test]
fn an_opus_file_has_two_channels_and_is_played_with_both() {
    let (_dir, store, record) = one_talks(false, 6, VoiceFormat::Opus);
    let mut playback = Playback::open(&store, &record, FetchFormat::Wav).unwrap();
    let mut wav = vec![0; usize::try_from(playback.bytes()).unwrap()];
    assert_eq!(playback.read_at(&mut wav, 0).unwrap(), wav.len());
    let reader = hound::WavReader::new(&wav[..]).unwrap();
    assert_eq!((reader.spec().channels, reader.duration()), (2, 48_000));
    let samples: Vec<i16> = reader.into_samples().map(Result::unwrap).collect();
    let power = |samples: &[i16]| samples.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>();
    let [left, right] = channels(&samples);
    assert!(power(&right) > 100.0 * power(&left), "{} {}", power(&left), power(&right));
    let info = Command::new("opusinfo").arg(store.voice_path(&record)).output();
    let Ok(info) = info else { return eprintln!("no opusinfo here: not judged") };
    let said = String::from_utf8_lossy(&info.stdout);
    assert!(said.contains("Channels: 2") && !said.contains("WARNING"), "{said}");
    let entries = ["-v", "error", "-show_entries", "stream=channels", "-of", "csv=p=0"];
    let probe = Command::new("ffprobe").args(entries).arg(store.voice_path(&record)).output();
    let Ok(probe) = probe else { return eprintln!("no ffprobe here: not judged") };
    assert_eq!(String::from_utf8_lossy(&probe.stdout).trim(), "2");
}

#[test]
fn a_later_revision_is_refused_and_what_is_published_stays() {
    let (_dir, mut journal, store) = folder();
    let id = id(1);
    open_sides(&mut journal, id, 1_000);
    capture(&mut journal, 1, &numbered(0..50, 8));
    let record = published(&journal.reader(), &store, VoiceFormat::WavG711, id);
    let job = SealJob { revision: 2, ..SealJob::alone(id, NodeId(1), 1) };
    let error = seal(&job, &journal.reader(), &store, VoiceFormat::WavG711).unwrap_err();
    assert!(matches!(error, SealError::TwoChannels) && !error.may_pass(), "{error}");
    store.verify(&record).unwrap();
}
