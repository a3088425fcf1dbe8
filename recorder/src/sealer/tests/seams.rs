//! Two nodes heard one talk, and the clock of one is wrong by more than anybody knows: the file goes on
//! where the talk was, in each form of voice file, and a revision made of the published file does, too.

use std::path::Path;

use storage_core::record::SeamMethod;

use super::*;

// The core's tests talk the same.
#[path = "../../../core/src/media/talk.rs"]
mod talk;
use talk::{Ear, talk};

/// Of 20 ms.
const CALL_PACKETS: usize = 900;
/// The second node's clock is ahead by so much more than is known.
const WRONG_MS: i64 = 130;

fn ear(from_packet: usize, law: Law) -> Ear {
    let from = (from_packet * 160) as f64;
    Ear { from, ppm: 20.0, gain: 0.8, noise: 0.001, law, seed: from_packet as u64 }
}

/// Packets of what is heard from one packet of the call to another.
fn heard(ear: &Ear, said: &[f32], (from, to): (usize, usize), late_ms: i64) -> Vec<(i64, Vec<u8>)> {
    let payload = ear.hear(said, (to - from) * 160);
    let packets = (from..to).zip(payload.chunks(160)).map(|(number, payload)| {
        let pt = if ear.law == Law::A { 8 } else { 0 };
        let mut bytes = rtp(u16::try_from(number).unwrap(), pt);
        bytes.splice(12.., payload.iter().copied());
        (number as i64 * 20 + late_ms, bytes)
    });
    packets.collect()
}

/// The capture of another node, as it was sent.
fn sent(to: &PulledFolder, packets: &[(i64, Vec<u8>)]) -> PulledCapture {
    let dir = tempfile::tempdir().unwrap();
    let (node, recordingid) = (NodeId(2), RecordingId::new(at(0), [2; 10]));
    let (mut journal, _) = Journal::open(dir.path(), node, JournalOptions::default()).unwrap();
    open(&mut journal, 1, recordingid);
    capture(&mut journal, 1, packets);
    let mut writer = to.begin(node, 0).unwrap();
    let wanted = [SegmentId(1)].into_iter().collect();
    send_capture(&journal.reader(), node, &[recordingid], &wanted, |chunk| writer.write(chunk))
        .unwrap();
    writer.finish().unwrap()
}

/// The seams of a file made of both, and its length.
fn sealed(dir: &Path, format: VoiceFormat, later: bool) -> Recording {
    let (mut journal, _) = Journal::open(dir, NodeId(1), JournalOptions::default()).unwrap();
    let store = VoiceStore::open(dir).unwrap();
    let pulls = PulledFolder::open(dir).unwrap();
    let said = talk(11, CALL_PACKETS * 160);
    let id = id(1);
    open(&mut journal, 1, id);
    capture(&mut journal, 1, &heard(&ear(0, Law::A), &said, (0, 600), 0));
    let second = heard(&ear(400, Law::Mu), &said, (400, CALL_PACKETS - 1), WRONG_MS);
    let other = sent(&pulls, &second);
    let alone = SealJob::alone(id, NodeId(1), 1);
    let reader = journal.reader();
    if !later {
        let job = SealJob { pulled: vec![other], ..alone };
        return published_job(&job, &reader, &store, format);
    }
    published_job(&SealJob { partial: true, ..alone.clone() }, &reader, &store, format);
    journal.append_fact(&Fact::Sealed { recordingid: id }).unwrap();
    let job = SealJob { revision: 2, pulled: vec![other], ..alone };
    published_job(&job, &reader, &store, format)
}

#[test]
fn the_talk_goes_on_where_it_was_whatever_the_clocks_say() {
    for later in [false, true] {
        for format in formats() {
            let dir = tempfile::tempdir().unwrap();
            let record = sealed(dir.path(), format, later);
            let [seam] = record.seams[..] else { panic!("{format:?} {later}: {:?}", record.seams) };
            assert_eq!(seam.method, SeamMethod::Content, "{format:?} {later}: {seam:?}");
            assert_eq!((seam.from, seam.to), (NodeId(1), NodeId(2)));
            assert!((seam.shiftms + WRONG_MS as f64).abs() <= 5.0, "{format:?} {later}: {seam:?}");
            let expected = (CALL_PACKETS as u64 - 1) * 20;
            assert!(record.durationms.abs_diff(expected) <= 5, "{}", record.durationms);
            assert_eq!(record.gaps, [], "{format:?} {later}");
        }
    }
}
