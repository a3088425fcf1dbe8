//! From captured packets to published files, with the sealer's thread and without.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};

use proptest::prelude::*;
use storage::testing::FaultDisk;
use storage::{Journal, JournalOptions};
use storage_core::draft::{Presence, Stretch};
use storage_core::g711::Law;
use storage_core::journal::{BlockWriter, Channel};
use storage_core::record::GapCause;
use storage_core::record::VoiceFormat;
use storage_core::{NodeId, SegmentId, WallTime};

use super::*;
use crate::media_thread::tests::{Bench, PATIENCE, datagram, draft, id, until};
use crate::recovery::recover;
use crate::seal_queue::seal_queue;

const START_MS: i64 = 1_700_000_000_000;

fn at(ms: i64) -> WallTime {
    WallTime::from_millis(START_MS + ms)
}

/// A frame of 20 ms that names its number in every sample pair.
fn frame(number: u16) -> Vec<u8> {
    number.to_be_bytes().repeat(80)
}

fn rtp(number: u16, pt: u8) -> Vec<u8> {
    let mut bytes = datagram(number);
    bytes[1] = pt;
    bytes[12..].copy_from_slice(&frame(number));
    bytes
}

fn source() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 5], 2050))
}

/// Writes a capture as the media thread does: 5 packets of a segment in a block.
fn capture(journal: &mut Journal, segment: u64, packets: &[(i64, Vec<u8>)]) {
    let segment = SegmentId(segment);
    for chunk in packets.chunks(5) {
        let mut bytes = Vec::new();
        let base = at(chunk[0].0);
        let mut block = BlockWriter::begin(&mut bytes, segment, Channel::Rtp, source(), base);
        for (ms, packet) in chunk {
            assert!(block.push(at(*ms), packet));
        }
        block.finish();
        journal.append(&bytes).unwrap();
    }
}

fn open(journal: &mut Journal, segment: u64, recordingid: RecordingId) {
    let (phantom, at) = ("78001".into(), at(0));
    let segment = SegmentId(segment);
    journal.append_fact(&Fact::Recording { draft: draft(recordingid, None) }).unwrap();
    journal.append_fact(&Fact::SegmentOpened { segment, recordingid, phantom, at }).unwrap();
}

fn numbered(numbers: impl Iterator<Item = u16>, pt: u8) -> Vec<(i64, Vec<u8>)> {
    numbers.map(|number| (i64::from(number) * 20, rtp(number, pt))).collect()
}

fn folder() -> (tempfile::TempDir, Journal, VoiceStore) {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path(), NodeId(1), JournalOptions::default()).unwrap();
    let store = VoiceStore::open(dir.path()).unwrap();
    (dir, journal, store)
}

fn published(sealed: Result<Sealed, SealError>) -> Recording {
    match sealed.unwrap() {
        Sealed::Published(record) => *record,
        Sealed::Missed { reason, .. } => panic!("{reason}"),
    }
}

/// The samples of a G.711 WAV file, by its chunks.
fn g711_samples(path: &Path) -> (u16, Vec<u8>) {
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

    let record = published(seal(&journal.reader(), &store, VoiceFormat::WavG711, id));
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
    let record = published(seal(&journal.reader(), &store, VoiceFormat::Wav, id));
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
    let record = published(seal(&journal.reader(), &store, VoiceFormat::WavG711, id));
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
    let first = published(seal(&journal.reader(), &store, VoiceFormat::WavG711, id));
    let mut tagged = first.clone();
    tagged.tags.push("complaint".to_owned());
    tagged.hold = true;
    std::fs::write(store.record_path(&first), serde_json::to_vec(&tagged).unwrap()).unwrap();
    let second = published(seal(&journal.reader(), &store, VoiceFormat::WavG711, id));
    assert_eq!(second, tagged);
}

#[test]
fn audio_without_a_draft_is_published_without_a_name() {
    let (_dir, mut journal, store) = folder();
    let recordingid = id(1);
    let (segment, phantom, at) = (SegmentId(1), "78001".into(), at(0));
    journal.append_fact(&Fact::SegmentOpened { segment, recordingid, phantom, at }).unwrap();
    capture(&mut journal, 1, &numbered(0..50, 8));
    let record = published(seal(&journal.reader(), &store, VoiceFormat::WavG711, recordingid));
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
    let mut told = |event: &SealEvent| match event {
        SealEvent::Published(record) => events.push((record.recordingid, "published")),
        SealEvent::Missed { draft, .. } => events.push((draft.recordingid, "missed")),
        SealEvent::SetAside { recordingid, .. } => events.push((*recordingid, "set aside")),
    };
    let recovery = recover(dir.path(), NodeId(1), VoiceFormat::WavG711.into(), &mut told).unwrap();
    assert_eq!((recovery.published, recovery.missed, recovery.failed), (1, 1, 0));
    let recovery = recover(dir.path(), NodeId(1), VoiceFormat::WavG711.into(), &mut told).unwrap();
    assert_eq!((recovery.published, recovery.missed, recovery.failed), (0, 0, 0));
    events.sort_unstable();
    assert_eq!(events, [(heard, "published"), (silent, "missed")]);
}

/// The sealer's thread beside a media thread on a disk in memory.
struct Site {
    bench: Bench,
    sealer: Sealer,
    store: VoiceStore,
    events: Receiver<SealEvent>,
}

fn site() -> Site {
    let mut bench = Bench::start(2);
    let store = VoiceStore::open_on(bench.disk.shared(), Path::new("/data")).unwrap();
    let orders = std::mem::replace(&mut bench.complete, seal_queue().1);
    let (told, events) = channel();
    let sealer = Sealer::spawn(SealerConfig {
        orders,
        capture: bench.reader.clone(),
        store: store.clone(),
        voice: VoiceFormat::WavG711.into(),
        media: bench.media.clone(),
        tell: Box::new(move |event| told.send(event).unwrap()),
    })
    .unwrap();
    Site { bench, sealer, store, events }
}

impl Site {
    fn record(&self, phantom: usize, segment: u64, recordingid: RecordingId) {
        self.bench.open_and_wait(phantom, segment, recordingid);
        for number in 0..100 {
            self.bench.send(phantom, number);
        }
    }

    fn stop(self) {
        self.sealer.stop(PATIENCE);
        self.bench.thread.stop();
    }
}

#[test]
fn a_call_becomes_a_file_and_leaves_the_journal() {
    let site = site();
    let id = id(1);
    site.record(0, 1, id);
    site.bench.close(1, id);
    let SealEvent::Published(record) = site.events.recv_timeout(PATIENCE).unwrap() else {
        panic!("not published");
    };
    assert_eq!((record.recordingid, record.durationms), (id, 2_000));
    assert_eq!((record.gaps.len(), record.segments[0].packets), (0, 100));
    site.store.verify(&record).unwrap();
    until("the journal owes it nothing", || site.bench.reader.open_recordings().is_empty());
    assert_eq!(site.sealer.stats().waiting(), 0);
    site.stop();
}

#[test]
fn what_cannot_be_sealed_is_set_aside_and_stops_no_other() {
    let site = site();
    let (foreign, good) = (id(1), id(2));
    site.bench.open_and_wait(0, 1, foreign);
    for number in 0..60 {
        site.bench.sender.send_to(&rtp(number, 18), site.bench.ports[0]).unwrap();
    }
    site.bench.close(1, foreign);
    site.record(1, 2, good);
    site.bench.close(2, good);
    let first = site.events.recv_timeout(PATIENCE).unwrap();
    let SealEvent::SetAside { recordingid, error } = first else { panic!("{first:?}") };
    assert_eq!(recordingid, foreign);
    assert!(error.to_string().contains("payload type 18"), "{error}");
    let second = site.events.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(second, SealEvent::Published(record) if record.recordingid == good));
    until("only what was set aside is kept", || site.bench.reader.open_recordings() == [foreign]);
    site.stop();
}

#[test]
fn a_call_that_nobody_heard_is_told_as_missed() {
    let site = site();
    let id = id(1);
    site.bench.open_and_wait(0, 1, id);
    site.bench.close(1, id);
    let event = site.events.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(event, SealEvent::Missed { draft, .. } if draft.recordingid == id));
    until("the journal owes it nothing", || site.bench.reader.open_recordings().is_empty());
    site.stop();
}

#[test]
fn a_full_disk_delays_sealing_and_no_more() {
    let site = site();
    let id = id(1);
    site.record(0, 1, id);
    until("all is captured", || site.bench.captured(id).len() == 100);
    site.bench.disk.set_capacity(Some(site.bench.disk.used() + 2_000));
    site.bench.close(1, id);
    until("it was tried", || site.sealer.stats().retries.value() > 0);
    assert_eq!(site.sealer.stats().waiting(), 1);
    site.bench.disk.set_capacity(None);
    let event = site.events.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(event, SealEvent::Published(record) if record.recordingid == id));
    site.stop();
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
        match seal(&journal.reader(), &store, VoiceFormat::WavG711, id).unwrap() {
            Sealed::Published(record) => {
                store.verify(&record).unwrap();
                let missing: u64 = record.gaps.iter().map(|gap| gap.endms - gap.startms).sum();
                let audio = record.segments[0].packets * 20;
                prop_assert_eq!(record.durationms, audio + missing);
                if synced < packets {
                    prop_assert!(record.segments[0].packets > u64::from(synced));
                }
            }
            Sealed::Missed { .. } => prop_assert!(synced >= packets, "what was synced is lost"),
        }
    }
}

/// Files of all formats for a program, if it is installed.
fn judge(program: &str, arguments: &[&str], expected: &str) {
    let (_dir, mut journal, store) = folder();
    let id = id(1);
    open(&mut journal, 1, id);
    capture(&mut journal, 1, &numbered(0..100, 8));
    let mut formats = vec![VoiceFormat::WavG711, VoiceFormat::Wav];
    if cfg!(feature = "opus") && program == "ffprobe" {
        formats.push(VoiceFormat::Opus);
    }
    for format in formats {
        let record = published(seal(&journal.reader(), &store, format, id));
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
