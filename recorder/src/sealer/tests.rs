//! From captured packets to published files, with the sealer's thread and without.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use proptest::prelude::*;
use storage::testing::FaultDisk;
use storage::{Journal, JournalOptions, JournalTail, Keys, MirrorJournal, Tailed};
use storage_core::draft::{Presence, Stretch};
use storage_core::g711::Law;
use storage_core::journal::Fact;
use storage_core::journal::{BlockWriter, Channel};
use storage_core::marks::Marking;
use storage_core::record::{GapCause, SeamMethod, VoiceFormat};
use storage_core::{Draft, Recording, RecordingId};
use storage_core::{NodeId, SegmentId, WallTime};

use super::*;
use crate::media_thread::tests::{Bench, PATIENCE, datagram, draft, id, until};
use crate::mirrored::MirroredCapture;
use crate::pulled::{PulledCapture, PulledFolder, send_capture};
use crate::recovery::{RecoverEvent, recover};

mod seams;

const START_MS: i64 = 1_700_000_000_000;

pub(crate) fn at(ms: i64) -> WallTime {
    WallTime::from_millis(START_MS + ms)
}

/// A frame of 20 ms that names its number in every sample pair.
pub(crate) fn frame(number: u16) -> Vec<u8> {
    number.to_be_bytes().repeat(80)
}

pub(crate) fn rtp(number: u16, pt: u8) -> Vec<u8> {
    let mut bytes = datagram(number);
    bytes[1] = pt;
    bytes[12..].copy_from_slice(&frame(number));
    bytes
}

fn source() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 5], 2050))
}

/// Writes a capture as the media thread does: 5 packets of a segment in a block.
pub(crate) fn capture(journal: &mut Journal, segment: u64, packets: &[(i64, Vec<u8>)]) {
    let segment = SegmentId(segment);
    for chunk in packets.chunks(5) {
        let mut bytes = Vec::new();
        let base = at(chunk[0].0);
        let mut block = BlockWriter::begin(&mut bytes, segment, Channel::Rtp, source(), base);
        for (ms, packet) in chunk {
            assert!(block.push(at(*ms), packet));
        }
        block.finish();
        journal.append(&mut bytes).unwrap();
    }
}

fn open(journal: &mut Journal, segment: u64, recordingid: RecordingId) {
    let (phantom, at) = ("78001".into(), at(0));
    let segment = SegmentId(segment);
    journal.append_fact(&Fact::Recording { draft: draft(recordingid, None) }).unwrap();
    journal
        .append_fact(&Fact::SegmentOpened {
            segment,
            recordingid,
            phantom,
            at,
            key: None,
            side: None,
        })
        .unwrap();
}

pub(crate) fn numbered(numbers: impl Iterator<Item = u16>, pt: u8) -> Vec<(i64, Vec<u8>)> {
    numbers.map(|number| (i64::from(number) * 20, rtp(number, pt))).collect()
}

pub(crate) fn folder() -> (tempfile::TempDir, Journal, VoiceStore) {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path(), NodeId(1), JournalOptions::default()).unwrap();
    let store = VoiceStore::open(dir.path()).unwrap();
    (dir, journal, store)
}

pub(crate) fn published(
    capture: &JournalReader,
    store: &VoiceStore,
    format: VoiceFormat,
    id: RecordingId,
) -> Recording {
    published_job(&SealJob::alone(id, NodeId(1), 1), capture, store, format)
}

fn published_job(
    job: &SealJob,
    capture: &JournalReader,
    store: &VoiceStore,
    format: VoiceFormat,
) -> Recording {
    match seal(job, capture, store, format).unwrap() {
        Sealed::Staged { staged, .. } => store.publish_staged(&staged).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// A published recording of so many seconds, of which each sounds higher than the one before.
#[cfg(feature = "opus")]
pub(crate) fn published_tones(
    seconds: usize,
    format: VoiceFormat,
) -> (tempfile::TempDir, VoiceStore, Recording) {
    let (dir, mut journal, store) = folder();
    let id = id(1);
    open(&mut journal, 1, id);
    let packets = (0..u16::try_from(seconds * 50).unwrap()).map(|number| {
        let mut bytes = rtp(number, 8);
        let step = std::f64::consts::TAU * (200.0 + f64::from(number / 50) * 10.0) / 8_000.0;
        let sample = |n: u32| ((f64::from(n) * step).sin() * 8_000.0) as i16;
        let from = u32::from(number) * 160;
        bytes.splice(12.., (from..from + 160).map(|n| Law::A.encode(sample(n))));
        (i64::from(number) * 20, bytes)
    });
    capture(&mut journal, 1, &packets.collect::<Vec<_>>());
    let record = published(&journal.reader(), &store, format, id);
    (dir, store, record)
}

/// The samples of a G.711 WAV file, by its chunks.
pub(crate) fn g711_samples(path: &Path) -> (u16, Vec<u8>) {
    let file = std::fs::read(path).unwrap();
    assert_eq!((&file[..4], &file[8..16]), (&b"RIFF"[..], &b"WAVEfmt "[..]));
    let tag = u16::from_le_bytes([file[20], file[21]]);
    let data = file.windows(4).position(|w| w == b"data").unwrap();
    let length = u32::from_le_bytes(file[data + 4..data + 8].try_into().unwrap()) as usize;
    (tag, file[data + 8..data + 8 + length].to_vec())
}

#[test]
fn a_g711_file_holds_the_bytes_as_they_were_sent_and_silence_where_they_were_lost() {
    let (_dir, mut journal, store) = folder();
    let id = id(1);
    open(&mut journal, 1, id);
    let mut packets = numbered((0..100).filter(|n| ![40, 41, 70].contains(n)), 8);
    let (_, late) = packets.remove(10);
    packets.insert(12, (packets[11].0 + 1, late));
    packets.insert(30, (packets[29].0, packets[28].1.clone()));
    capture(&mut journal, 1, &packets);
    let mut ended = draft(id, Some(at(2_500)));
    let stretch = Stretch { from: at(-500), to: None };
    let holds = vec![Stretch { from: at(500), to: Some(at(700)) }];
    ended.parties.push(Presence { who: "3001".to_owned(), stretch, holds });
    journal.append_fact(&Fact::Recording { draft: ended }).unwrap();

    let record = published(&journal.reader(), &store, VoiceFormat::WavG711, id);
    let (tag, samples) = g711_samples(&store.voice_path(&record));
    assert_eq!((tag, samples.len()), (6, 100 * 160));
    for (number, chunk) in (0_u16..).zip(samples.chunks(160)) {
        if [40, 41, 70].contains(&number) {
            assert!(chunk.iter().all(|byte| *byte == Law::A.silence()));
        } else {
            assert_eq!(chunk, frame(number));
        }
    }
    let gaps: Vec<_> = record.gaps.iter().map(|g| (g.startms, g.endms, g.cause)).collect();
    assert_eq!(gaps, [(800, 840, GapCause::Loss), (1_400, 1_420, GapCause::Loss)]);
    let segment = &record.segments[0];
    assert_eq!((segment.packets, segment.lost, segment.duplicate), (98, 3, 1));
    assert_eq!(
        (segment.codec.as_str(), &segment.ssrcs[..]),
        ("g711a", &["01020304".to_owned()][..])
    );
    assert_eq!((record.durationms, record.started), (2_000, at(0)));
    let party = &record.parties[0];
    assert_eq!((party.fromms, party.toms), (0, 2_000));
    assert_eq!((party.holds[0].startms, party.holds[0].endms), (500, 700));
    assert!(record.complete, "what the network lost nobody has");
    assert_eq!(store.record(id, record.started).unwrap(), record);
}

#[test]
fn a_linear_file_is_read_by_an_independent_reader() {
    let (_dir, mut journal, store) = folder();
    let id = id(1);
    open(&mut journal, 1, id);
    capture(&mut journal, 1, &numbered(0..50, 0));
    let record = published(&journal.reader(), &store, VoiceFormat::Wav, id);
    let mut wav = hound::WavReader::open(store.voice_path(&record)).unwrap();
    assert_eq!((wav.spec().sample_rate, wav.spec().channels), (8000, 1));
    let samples: Vec<i16> = wav.samples().map(Result::unwrap).collect();
    let sent: Vec<i16> = (0..50).flat_map(frame).map(|byte| Law::Mu.decode(byte)).collect();
    assert_eq!(samples, sent);
}

#[test]
fn where_laws_are_mixed_the_first_one_has_the_file() {
    let (_dir, mut journal, store) = folder();
    let id = id(1);
    open(&mut journal, 1, id);
    let mut packets = numbered(0..10, 0);
    packets.extend(numbered(10..20, 8));
    capture(&mut journal, 1, &packets);
    let record = published(&journal.reader(), &store, VoiceFormat::WavG711, id);
    let (tag, samples) = g711_samples(&store.voice_path(&record));
    assert_eq!((tag, record.segments[0].codec.as_str()), (7, "g711u,g711a"));
    assert_eq!(samples[..1600], (0..10).flat_map(frame).collect::<Vec<_>>());
    let converted: Vec<u8> =
        (10..20).flat_map(frame).map(|byte| Law::Mu.encode(Law::A.decode(byte))).collect();
    assert_eq!(samples[1600..], converted);
}

#[test]
fn sealing_again_gives_the_same_file_and_keeps_what_people_wrote() {
    let (_dir, mut journal, store) = folder();
    let id = id(1);
    open(&mut journal, 1, id);
    capture(&mut journal, 1, &numbered(0..50, 8));
    let first = published(&journal.reader(), &store, VoiceFormat::WavG711, id);
    let mut tagged = first.clone();
    let tag = Marking::new(vec!["complaint".to_owned()], Vec::new(), None).unwrap();
    tag.apply(&mut tagged, "anna", first.ended, NodeId(1)).unwrap();
    tagged.hold = true;
    std::fs::write(store.record_path(&first), serde_json::to_vec(&tagged).unwrap()).unwrap();
    let second = published(&journal.reader(), &store, VoiceFormat::WavG711, id);
    assert_eq!(second, tagged);
}

#[test]
fn audio_without_a_draft_is_published_without_a_name() {
    let (_dir, mut journal, store) = folder();
    let recordingid = id(1);
    let (segment, phantom, at) = (SegmentId(1), "78001".into(), at(0));
    journal
        .append_fact(&Fact::SegmentOpened {
            segment,
            recordingid,
            phantom,
            at,
            key: None,
            side: None,
        })
        .unwrap();
    capture(&mut journal, 1, &numbered(0..50, 8));
    let record = published(&journal.reader(), &store, VoiceFormat::WavG711, recordingid);
    assert_eq!((record.durationms, record.extension.as_str()), (1_000, ""));
}

#[test]
fn what_a_crash_left_open_is_sealed_offline_and_only_once() {
    let (dir, mut journal, _) = folder();
    let (heard, silent) = (id(1), id(2));
    open(&mut journal, 1, heard);
    open(&mut journal, 2, silent);
    capture(&mut journal, 1, &numbered(0..50, 8));
    drop(journal);
    let mut events = Vec::new();
    let mut told = |event: &RecoverEvent| match event {
        RecoverEvent::Published(record) => events.push((record.recordingid, "published")),
        RecoverEvent::Missed { draft, .. } => events.push((draft.recordingid, "missed")),
        RecoverEvent::SetAside { recordingid, .. } => events.push((*recordingid, "set aside")),
    };
    let recovery =
        recover(dir.path(), NodeId(1), VoiceFormat::WavG711.into(), Keys::default(), &mut told)
            .unwrap();
    assert_eq!((recovery.published, recovery.missed, recovery.failed), (1, 1, 0));
    let recovery =
        recover(dir.path(), NodeId(1), VoiceFormat::WavG711.into(), Keys::default(), &mut told)
            .unwrap();
    assert_eq!((recovery.published, recovery.missed, recovery.failed), (0, 0, 0));
    events.sort_unstable();
    assert_eq!(events, [(heard, "published"), (silent, "missed")]);
}

/// A standby's capture of a recording whose copy lies here: the group decides about it.
#[test]
fn the_copy_of_another_nodes_recording_is_not_added_to_offline() {
    let (dir, mut journal, store) = folder();
    let id = id(1);
    open(&mut journal, 1, id);
    capture(&mut journal, 1, &numbered(0..50, 8));
    let mut record = published(&journal.reader(), &store, VoiceFormat::WavG711, id);
    drop(journal);
    let voice = std::fs::read(store.voice_path(&record)).unwrap();
    record.node = NodeId(2);
    let copies = tempfile::tempdir().unwrap();
    std::fs::rename(dir.path().join("capture"), copies.path().join("capture")).unwrap();
    let kept = VoiceStore::open(copies.path()).unwrap();
    let mut writer = kept.copy(&record).unwrap();
    writer.write(&voice).unwrap();
    writer.finish().unwrap();
    let mut told = Vec::new();
    let mut tell = |event: &RecoverEvent| {
        let RecoverEvent::SetAside { error, .. } = event else { panic!("{event:?}") };
        told.push(error.to_string());
    };
    let keys = Keys::default();
    let recovery =
        recover(copies.path(), NodeId(1), VoiceFormat::WavG711.into(), keys, &mut tell).unwrap();
    assert_eq!((recovery.published, recovery.failed), (0, 1));
    assert!(told[0].contains("node 2 has published it"), "{told:?}");
    let left = kept.published(id).unwrap().unwrap();
    assert_eq!((left.revision, left.node), (1, NodeId(2)));
    kept.verify(&left).unwrap();
}

/// The sealer's thread beside a media thread on a disk in memory.
struct Site {
    bench: Bench,
    sealer: Sealer,
    queue: SealQueue,
    store: VoiceStore,
    events: Receiver<SealEvent>,
}

fn site(threads: usize) -> Site {
    let bench = Bench::start(2);
    let store = VoiceStore::open_on(bench.disk.shared(), Path::new("/data")).unwrap();
    let queue = SealQueue::new();
    let (told, events) = channel();
    let sealer = Sealer::spawn(SealerConfig {
        queue: queue.clone(),
        threads: NonZeroUsize::new(threads).unwrap(),
        media: bench.media.clone(),
        capture: bench.reader.clone(),
        store: store.clone(),
        voice: VoiceFormat::WavG711.into(),
        tell: Box::new(move |event| told.send(event).unwrap()),
    })
    .unwrap();
    Site { bench, sealer, queue, store, events }
}

impl Site {
    fn record(&self, phantom: usize, segment: u64, recordingid: RecordingId) {
        self.bench.open_and_wait(phantom, segment, recordingid);
        for number in 0..100 {
            self.bench.send(phantom, number);
        }
    }

    /// Ends a recording, and has it sealed once that is in the journal.
    fn end(&mut self, segment: u64, id: RecordingId) {
        self.bench.close(segment, id);
        assert_eq!(self.bench.ended(), id);
        assert!(self.queue.push(SealJob::alone(id, NodeId(1), 1)));
    }

    fn staged(&self, id: RecordingId) -> Recording {
        let event = self.events.recv_timeout(PATIENCE).unwrap();
        assert_eq!(event.job.recording, id);
        let Sealed::Staged { staged, captures, .. } = event.outcome.unwrap() else {
            panic!("not staged");
        };
        assert_eq!(captures.len(), 1);
        self.store.publish_staged(&staged).unwrap()
    }

    fn stop(self) {
        self.sealer.stop(PATIENCE);
        self.bench.thread.stop();
    }
}

#[test]
fn a_call_becomes_a_file_and_is_sealed_once() {
    let mut site = site(1);
    let id = id(1);
    site.record(0, 1, id);
    site.end(1, id);
    let record = site.staged(id);
    assert_eq!((record.durationms, record.revision), (2_000, 1));
    assert_eq!((record.gaps.len(), record.segments[0].packets), (0, 100));
    site.store.verify(&record).unwrap();
    site.bench.media.send(Fact::Sealed { recordingid: id }).unwrap();
    until("the journal owes it nothing", || site.bench.reader.open_recordings().is_empty());
    assert!(site.queue.push(SealJob::alone(id, NodeId(1), 1)));
    let event = site.events.recv_timeout(PATIENCE).unwrap();
    assert!(event.outcome.unwrap_err().is_gone());
    until("nothing waits", || site.sealer.stats().waiting() == 0);
    site.stop();
}

#[test]
fn several_threads_seal_each_recording_once() {
    let mut site = site(3);
    let ids: Vec<_> = (1..=12).map(id).collect();
    for (segment, id) in (1..).zip(&ids) {
        site.record(0, segment, *id);
        site.bench.close(segment, *id);
        assert_eq!(site.bench.ended(), *id);
    }
    for id in &ids {
        assert!(site.queue.push(SealJob::alone(*id, NodeId(1), 1)));
    }
    let staged = ids.iter().map(|_| {
        let event = site.events.recv_timeout(PATIENCE).unwrap();
        assert!(matches!(event.outcome, Ok(Sealed::Staged { .. })), "{:?}", event.outcome);
        event.job.recording
    });
    let mut staged: Vec<_> = staged.collect();
    staged.sort_unstable();
    assert_eq!(staged, ids);
    until("nothing waits", || site.sealer.stats().waiting() == 0);
    site.stop();
}

#[test]
fn what_cannot_be_sealed_is_set_aside_and_stops_no_other() {
    let mut site = site(1);
    let (foreign, good) = (id(1), id(2));
    site.bench.open_and_wait(0, 1, foreign);
    for number in 0..60 {
        site.bench.sender.send_to(&rtp(number, 4), site.bench.ports[0]).unwrap();
    }
    site.end(1, foreign);
    site.record(1, 2, good);
    site.end(2, good);
    let first = site.events.recv_timeout(PATIENCE).unwrap();
    assert_eq!(first.job.recording, foreign);
    let error = first.outcome.unwrap_err();
    assert!(error.to_string().contains("payload type 4"), "{error}");
    site.staged(good);
    site.stop();
}

#[test]
fn a_call_that_nobody_heard_is_told_as_missed() {
    let mut site = site(1);
    let id = id(1);
    site.bench.open_and_wait(0, 1, id);
    site.end(1, id);
    let event = site.events.recv_timeout(PATIENCE).unwrap();
    let Ok(Sealed::Missed { draft, captures, .. }) = event.outcome else { panic!("not missed") };
    assert_eq!((draft.recordingid, captures), (id, vec![(NodeId(1), SegmentId(1))]));
    site.stop();
}

#[test]
fn a_full_disk_delays_sealing_and_no_more() {
    let mut site = site(1);
    let id = id(1);
    site.record(0, 1, id);
    until("all is captured", || site.bench.captured(id).len() == 100);
    site.bench.disk.set_capacity(Some(site.bench.disk.used() + 2_000));
    site.end(1, id);
    until("it was tried", || site.sealer.stats().retries.value() > 0);
    assert_eq!(site.sealer.stats().waiting(), 1);
    site.bench.disk.set_capacity(None);
    site.staged(id);
    site.stop();
}

/// What another node has captured of a call: from packet `from` on, by a clock that is ahead.
fn pulled(
    to: &PulledFolder,
    node: u16,
    numbers: impl Iterator<Item = u16>,
    offset_ms: i64,
    ended: Option<i64>,
) -> PulledCapture {
    let node = NodeId(node);
    let (_dir, journal, recordingid) = captured_by(node, numbers, offset_ms, ended);
    let mut writer = to.begin(node, offset_ms * 1000).unwrap();
    let wanted = [SegmentId(1)].into_iter().collect();
    send_capture(&journal.reader(), node, &[recordingid], &wanted, |chunk| writer.write(chunk))
        .unwrap();
    writer.finish().unwrap()
}

/// The same in a mirror below a folder.
fn mirrored(
    dir: &Path,
    node: u16,
    numbers: impl Iterator<Item = u16>,
    offset_ms: i64,
    ended: Option<i64>,
) -> MirroredCapture {
    let node = NodeId(node);
    let (_dir, journal, _) = captured_by(node, numbers, offset_ms, ended);
    let folder = crate::mirror_keeper::folder(dir, node);
    let disk = storage::disk::RealDisk::shared();
    let mut mirror = MirrorJournal::open(disk, &folder, node, Keys::default()).unwrap();
    let mut tail = JournalTail::new(journal.reader(), None);
    let mut frames = Vec::new();
    loop {
        match tail.next(&mut frames, Duration::ZERO).unwrap() {
            Tailed::Live(_) => {}
            Tailed::Frames => mirror.take(&frames).unwrap(),
            Tailed::Mark { .. } => break,
        }
    }
    MirroredCapture::of(node, offset_ms * 1000, mirror.reader(), &[SegmentId(1)]).unwrap()
}

/// Another node's journal with its capture of a call, and the name that it has there.
fn captured_by(
    node: NodeId,
    numbers: impl Iterator<Item = u16>,
    offset_ms: i64,
    ended: Option<i64>,
) -> (tempfile::TempDir, Journal, RecordingId) {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(dir.path(), node, JournalOptions::default()).unwrap();
    let recordingid = RecordingId::new(at(0), [node.0.to_le_bytes()[0]; 10]);
    let opened = at(offset_ms + 1_000);
    let draft = Draft {
        ended: ended.map(|ms| at(offset_ms + ms)),
        called: "3009".to_owned(),
        ..Draft::blank(recordingid, node, opened)
    };
    journal.append_fact(&Fact::Recording { draft }).unwrap();
    let (segment, phantom) = (SegmentId(1), "78009".into());
    let opened =
        Fact::SegmentOpened { segment, recordingid, phantom, at: opened, key: None, side: None };
    journal.append_fact(&opened).unwrap();
    let packets: Vec<_> = numbers
        .map(|number| {
            let mut packet = rtp(number, 8);
            // Another stream of the same call.
            packet[2] ^= 0x40;
            packet[4..8].copy_from_slice(&(u32::from(number) * 160 + 77).to_be_bytes());
            packet[11] = 9;
            (i64::from(number) * 20 + offset_ms, packet)
        })
        .collect();
    capture(&mut journal, 1, &packets);
    (dir, journal, recordingid)
}

/// The frames of a file by their numbers, `None` for silence.
fn numbers(path: &Path) -> Vec<Option<u16>> {
    let (_, samples) = g711_samples(path);
    let number = |chunk: &[u8]| {
        let silent = chunk.iter().all(|byte| *byte == Law::A.silence());
        (!silent).then(|| u16::from_be_bytes([chunk[0], chunk[1]]))
    };
    samples.chunks(160).map(number).collect()
}

#[test]
fn captures_of_two_nodes_become_one_file() {
    let (dir, mut journal, store) = folder();
    let pulls = PulledFolder::open(dir.path()).unwrap();
    let id = id(1);
    open(&mut journal, 1, id);
    let draft = Draft { opened: at(0), ..draft(id, None) };
    journal.append_fact(&Fact::Recording { draft }).unwrap();
    capture(&mut journal, 1, &numbered(0..100, 8));
    let other = pulled(&pulls, 2, 60..200, 3_600_000, Some(4_500));
    let name = RecordingId::new(at(0), [77; 10]);
    let job =
        SealJob { pulled: vec![other], local: vec![id], ..SealJob::alone(name, NodeId(1), 2) };
    let (reader, format) = (journal.reader(), VoiceFormat::WavG711);
    let Sealed::Staged { staged, captures, from, to } =
        seal(&job, &reader, &store, format).unwrap()
    else {
        panic!("not staged");
    };
    assert_eq!(captures, [(NodeId(1), SegmentId(1)), (NodeId(2), SegmentId(1))]);
    assert_eq!((from, to), (at(0), at(4_000)));
    let record = store.publish_staged(&staged).unwrap();
    assert_eq!((record.recordingid, record.node, record.copy), (name, NodeId(1), 2));
    assert_eq!((record.calling.as_str(), record.called.as_str()), ("5551230001", "3001"));
    assert!(record.complete, "the other node saw the end");
    let expected: Vec<_> = (0..200).map(Some).collect();
    assert_eq!(numbers(&store.voice_path(&record)), expected);
    let rows: Vec<_> = record
        .segments
        .iter()
        .map(|s| (s.node.0, s.phantom.as_str(), s.startms, s.endms, s.clockoffsetms))
        .collect();
    // Both hear the same: the first is left within its last second.
    let [seam] = record.seams[..] else { panic!("{:?}", record.seams) };
    let at = seam.atms;
    assert!((1_200..2_000).contains(&at), "{seam:?}");
    assert_eq!((seam.from, seam.to, seam.shiftms), (NodeId(1), NodeId(2), 0.0));
    assert_eq!(seam.method, SeamMethod::Content);
    assert_eq!(rows, [(1, "78001", 0, at, None), (2, "78009", at, 4_000, Some(3_600_000.0))]);
    let partial = SealJob { partial: true, ..job };
    let again = published_job(&partial, &reader, &store, format);
    assert!(!again.complete);
}

#[test]
fn what_a_mirror_has_is_sealed_and_accounts_for_nothing_until_its_node_is_back() {
    let (dir, mut journal, store) = folder();
    let pulls = PulledFolder::open(dir.path()).unwrap();
    let (reader, format) = (journal.reader(), VoiceFormat::WavG711);
    let name = RecordingId::new(at(0), [77; 10]);
    // Nothing was captured here.
    let lost = mirrored(dir.path(), 2, 0..100, 5_000, None);
    let job = SealJob {
        mirrored: vec![lost.clone()],
        lacking: [NodeId(2)].into(),
        local: Vec::new(),
        partial: true,
        ..SealJob::alone(name, NodeId(1), 1)
    };
    let Sealed::Staged { staged, captures, .. } = seal(&job, &reader, &store, format).unwrap()
    else {
        panic!("not staged");
    };
    assert_eq!(captures, [], "its node may have more");
    let first = store.publish_staged(&staged).unwrap();
    assert!(!first.complete);
    assert_eq!((first.node, first.segments[0].node), (NodeId(1), NodeId(2)));
    assert_eq!(first.segments[0].clockoffsetms, Some(5_000.0));
    assert_eq!(numbers(&store.voice_path(&first)), (0..100).map(Some).collect::<Vec<_>>());

    // It comes back and has the end, too.
    let whole = SealJob {
        revision: 2,
        pulled: vec![pulled(&pulls, 2, 0..130, 5_000, Some(2_600))],
        ..SealJob::alone(name, NodeId(1), 1)
    };
    let second = published_job(&whole, &reader, &store, format);
    assert!(second.complete && second.gaps.is_empty(), "{second:#?}");
    assert_eq!(numbers(&store.voice_path(&second)), (0..130).map(Some).collect::<Vec<_>>());

    // Beside a capture of this node's it fills what that lacks.
    let id = id(1);
    open(&mut journal, 1, id);
    capture(&mut journal, 1, &numbered(80..150, 8));
    let beside = SealJob {
        mirrored: vec![lost],
        lacking: [NodeId(2)].into(),
        partial: true,
        ..SealJob::alone(id, NodeId(1), 1)
    };
    let captures = |job: &SealJob| match seal(job, &reader, &store, format).unwrap() {
        Sealed::Staged { staged, captures, .. } => (staged, captures),
        other => panic!("not staged: {other:?}"),
    };
    // Of a node that has left, nothing more can come; and what is nowhere will never be.
    let gone = (NodeId(2), SegmentId(9));
    let left = SealJob { lacking: BTreeSet::new(), void: vec![gone], ..beside.clone() };
    let own = (NodeId(1), SegmentId(1));
    let (staged, looked_at) = captures(&left);
    assert_eq!(looked_at, [own, (NodeId(2), SegmentId(1)), gone]);
    store.discard(&staged).unwrap();
    let (staged, looked_at) = captures(&beside);
    assert_eq!(looked_at, [own]);
    let record = store.publish_staged(&staged).unwrap();
    assert_eq!(numbers(&store.voice_path(&record)), (0..150).map(Some).collect::<Vec<_>>());
}

/// However little it is that a node has left: the record says no longer that something may be missing.
#[test]
fn a_record_is_completed_by_a_single_packet_and_by_none() {
    for packets in [101_u16, 100] {
        let (dir, journal, store) = folder();
        let pulls = PulledFolder::open(dir.path()).unwrap();
        let (reader, format) = (journal.reader(), VoiceFormat::WavG711);
        let name = RecordingId::new(at(0), [77; 10]);
        let first = SealJob {
            mirrored: vec![mirrored(dir.path(), 2, 0..100, 0, None)],
            local: Vec::new(),
            partial: true,
            ..SealJob::alone(name, NodeId(1), 1)
        };
        assert!(!published_job(&first, &reader, &store, format).complete);
        let ended = u64::from(packets) * 20;
        let back = SealJob {
            revision: 2,
            pulled: vec![pulled(&pulls, 2, 0..packets, 0, i64::try_from(ended).ok())],
            ..SealJob::alone(name, NodeId(1), 1)
        };
        let record = published_job(&back, &reader, &store, format);
        assert!(record.complete, "{record:#?}");
        let heard: Vec<_> = record.segments.iter().map(|s| (s.packets, s.endms)).collect();
        assert_eq!(heard, [(u64::from(packets), ended)], "{record:#?}");
    }
}

fn formats() -> Vec<VoiceFormat> {
    let mut formats = vec![VoiceFormat::WavG711, VoiceFormat::Wav];
    if cfg!(feature = "opus") {
        formats.push(VoiceFormat::Opus);
    }
    formats
}

#[test]
fn a_late_capture_is_laid_around_the_published_file_whose_own_is_gone() {
    for format in formats() {
        let (dir, mut journal, store) = folder();
        let pulls = PulledFolder::open(dir.path()).unwrap();
        let id = id(1);
        open(&mut journal, 1, id);
        // It was away for two seconds.
        capture(&mut journal, 1, &numbered((100..200).chain(300..400), 8));
        let reader = journal.reader();
        let partial = SealJob { partial: true, ..SealJob::alone(id, NodeId(1), 1) };
        let mut first = published_job(&partial, &reader, &store, format);
        first.tags.push("complaint".to_owned());
        std::fs::write(store.record_path(&first), serde_json::to_vec(&first).unwrap()).unwrap();
        journal.append_fact(&Fact::Sealed { recordingid: id }).unwrap();

        let late = |numbers: std::ops::Range<u16>, revision| SealJob {
            revision,
            pulled: vec![pulled(&pulls, 2, numbers, -5_000, Some(9_100))],
            ..SealJob::alone(id, NodeId(1), 1)
        };
        // What is there already adds nothing, but that nothing is missing is not told yet.
        let job = SealJob { partial: true, ..late(120..180, 2) };
        let Sealed::Same { captures } = seal(&job, &reader, &store, format).unwrap() else {
            panic!("not the same");
        };
        assert_eq!(captures, [(NodeId(2), SegmentId(1))]);

        let second = published_job(&late(50..450, 2), &reader, &store, format);
        assert_eq!((second.revision, second.durationms), (2, 8_000), "{format:?}");
        assert_eq!((second.started, second.ended), (at(1_000), at(9_000)));
        assert_eq!((second.gaps.len(), second.complete), (0, true));
        assert_eq!(second.tags, ["complaint"]);
        let nodes: Vec<_> = second.segments.iter().map(|s| s.node.0).collect();
        assert_eq!(nodes, [2, 1]);
        assert_eq!((second.segments[1].startms, second.segments[1].endms), (1_000, 7_000));
        store.verify(&second).unwrap();
        if format == VoiceFormat::WavG711 {
            let expected: Vec<_> = (50..450).map(Some).collect();
            assert_eq!(numbers(&store.voice_path(&second)), expected);
        }
        if format == VoiceFormat::Wav {
            let mut wav = hound::WavReader::open(store.voice_path(&second)).unwrap();
            let samples: Vec<i16> = wav.samples().map(Result::unwrap).collect();
            let sent: Vec<i16> = (50..450).flat_map(frame).map(|b| Law::A.decode(b)).collect();
            assert!(samples == sent);
        }
        let same = seal(&late(50..450, 3), &reader, &store, format).unwrap();
        assert!(matches!(same, Sealed::Same { .. }));
        assert_eq!(store.published(id).unwrap().as_ref(), Some(&second));
    }
}

#[test]
fn a_published_file_that_was_altered_is_not_made_worse() {
    let (dir, mut journal, store) = folder();
    let pulls = PulledFolder::open(dir.path()).unwrap();
    let id = id(1);
    open(&mut journal, 1, id);
    capture(&mut journal, 1, &numbered(0..50, 8));
    let record = published(&journal.reader(), &store, VoiceFormat::WavG711, id);
    let mut bytes = std::fs::read(store.voice_path(&record)).unwrap();
    bytes[100] ^= 1;
    std::fs::write(store.voice_path(&record), bytes).unwrap();
    let pulled = vec![pulled(&pulls, 2, 30..90, 0, None)];
    let job = SealJob { revision: 2, pulled, ..SealJob::alone(id, NodeId(1), 1) };
    let error = seal(&job, &journal.reader(), &store, VoiceFormat::WavG711).unwrap_err();
    assert!(!error.may_pass() && matches!(error, SealError::Before(_)), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    /// Whatever a power cut leaves of a capture, what it leaves can be sealed.
    #[test]
    fn a_power_cut_leaves_a_file_that_plays(seed: u64, packets in 1_u16..120, synced in 0_u16..120) {
        let disk = FaultDisk::new();
        let dir = PathBuf::from("/data");
        let options = JournalOptions { reserve_bytes: 0, ..JournalOptions::default() };
        let (mut journal, _) = Journal::open_on(disk.shared(), &dir, NodeId(1), options).unwrap();
        let id = id(1);
        open(&mut journal, 1, id);
        journal.sync().unwrap();
        for number in 0..packets {
            capture(&mut journal, 1, &numbered(number..=number, 8));
            if number == synced {
                journal.sync().unwrap();
            }
        }
        let disk = disk.power_cut(storage::testing::Survivors::Seed(seed));
        let (journal, _) = Journal::open_on(disk.shared(), &dir, NodeId(1), options).unwrap();
        let store = VoiceStore::open_on(disk.shared(), &dir).unwrap();
        let job = SealJob::alone(id, NodeId(1), 1);
        match seal(&job, &journal.reader(), &store, VoiceFormat::WavG711).unwrap() {
            Sealed::Staged { staged, .. } => {
                let record = store.publish_staged(&staged).unwrap();
                store.verify(&record).unwrap();
                let missing: u64 = record.gaps.iter().map(|gap| gap.endms - gap.startms).sum();
                let audio = record.segments[0].packets * 20;
                prop_assert_eq!(record.durationms, audio + missing);
                if synced < packets {
                    prop_assert!(record.segments[0].packets > u64::from(synced));
                }
            }
            Sealed::Missed { .. } => prop_assert!(synced >= packets, "what was synced is lost"),
            Sealed::Same { .. } => prop_assert!(false, "there was no revision before"),
        }
    }
}

/// Files of all formats for a program, if it is installed.
fn judge(program: &str, arguments: &[&str], expected: &str) {
    let (_dir, mut journal, store) = folder();
    let id = id(1);
    open(&mut journal, 1, id);
    capture(&mut journal, 1, &numbered(0..100, 8));
    for format in formats() {
        if format == VoiceFormat::Opus && program != "ffprobe" {
            continue;
        }
        let record = published(&journal.reader(), &store, format, id);
        let path = store.voice_path(&record);
        let Ok(output) = Command::new(program).args(arguments).arg(&path).output() else {
            return;
        };
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.trim().starts_with(expected), "{said}");
    }
}

#[test]
fn sox_and_ffprobe_see_two_seconds() {
    judge("soxi", &["-D"], "2.0");
    judge("ffprobe", &["-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0"], "2.0");
}

#[test]
fn the_sealers_thread_gives_way_to_all_others() {
    let site = site(1);
    let nice = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let sealers = tasks.filter_map(|task| {
            let stat = std::fs::read_to_string(task.ok()?.path().join("stat")).ok()?;
            // The 19th field (proc(5)); the second is the name.
            let rest = stat.split_once("(sealer) ")?.1;
            rest.split_whitespace().nth(16)?.parse::<i32>().ok()
        });
        sealers.collect::<Vec<_>>()
    };
    until("it has lowered its own priority", || nice().contains(&10));
    site.stop();
}
