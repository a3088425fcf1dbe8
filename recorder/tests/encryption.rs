//! Encryption at rest from the capture to the published file, over two nodes with keys of their own:
//! what was said lies nowhere in the clear, and comes out as it went in.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use recorder::pulled::{PulledCapture, PulledFolder, send_capture};
use recorder::recovery::recover;
use recorder::sealing::{SealJob, Sealed, seal};
use storage::{Fetch, FetchFormat, Journal, JournalOptions, Keys, VoiceStore};
use storage_core::journal::{BlockWriter, Channel, Fact};
use storage_core::record::VoiceFormat;
use storage_core::{Draft, NodeId, Recording, RecordingId, SegmentId, WallTime};

/// 20 ms.
const FRAME: usize = 160;

fn keys(name: &str) -> Keys {
    let file = tempfile::NamedTempFile::new().unwrap();
    let digits: String = name.bytes().cycle().take(32).map(|b| format!("{b:02x}")).collect();
    std::fs::write(file.path(), format!("{name} {digits}\n")).unwrap();
    Keys::load(file.path()).unwrap()
}

fn at(ms: i64) -> WallTime {
    WallTime::from_millis(1_700_000_000_000 + ms)
}

/// What is said in a packet: no two are alike.
fn said(number: u16) -> Vec<u8> {
    let mut state = u32::from(number).wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..FRAME).map(|_| next()).collect()
}

fn rtp(number: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 8];
    packet.extend(number.to_be_bytes());
    packet.extend((u32::from(number) * 160).to_be_bytes());
    packet.extend([0, 0, 0, 7]);
    packet.extend(said(number));
    packet
}

/// A node's journal with packets of one segment of a call.
fn capture(
    dir: &Path,
    node: u16,
    keys: Keys,
    id: RecordingId,
    numbers: std::ops::Range<u16>,
    ended: Option<WallTime>,
) -> Journal {
    let options = JournalOptions { reserve_bytes: 0, ..JournalOptions::default() };
    let node = NodeId(node);
    let (mut journal, _) = Journal::open_with_keys(dir, node, options, keys).unwrap();
    let opened = at(i64::from(numbers.start) * 20);
    let draft = Draft { ended, ..Draft::blank(id, node, opened) };
    journal.append_fact(&Fact::Recording { draft }).unwrap();
    let (segment, phantom, recordingid) = (SegmentId(1), "78001".into(), id);
    let fact =
        Fact::SegmentOpened { segment, recordingid, phantom, at: opened, key: None, side: None };
    journal.append_fact(&fact).unwrap();
    let source = SocketAddr::from(([192, 0, 2, 5], 2050));
    for first in numbers.clone().step_by(5) {
        let mut bytes = Vec::new();
        let base = at(i64::from(first) * 20);
        let mut block = BlockWriter::begin(&mut bytes, segment, Channel::Rtp, source, base);
        for number in first..(first + 5).min(numbers.end) {
            assert!(block.push(at(i64::from(number) * 20), &rtp(number)));
        }
        block.finish();
        journal.append(&mut bytes).unwrap();
    }
    journal
}

fn pull(to: &PulledFolder, from: &Journal, node: u16, id: RecordingId) -> PulledCapture {
    let node = NodeId(node);
    let mut writer = to.begin(node, 0).unwrap();
    let wanted = [SegmentId(1)].into_iter().collect();
    send_capture(&from.reader(), node, &[id], &wanted, |chunk| writer.write(chunk)).unwrap();
    writer.finish().unwrap()
}

/// Files below a folder in which something that was said can be read, as G.711 or as linear samples.
fn in_clear(dir: &Path) -> Vec<PathBuf> {
    let needles: Vec<Vec<u8>> = (0..200)
        .flat_map(|number| {
            let said = said(number)[40..64].to_vec();
            let law = storage_core::g711::Law::A;
            let linear = said.iter().flat_map(|byte| law.decode(*byte).to_le_bytes()).collect();
            [said, linear]
        })
        .collect();
    // By its first two bytes each needle is looked for where it could begin.
    let pair = |bytes: &[u8]| usize::from(bytes[0]) << 8 | usize::from(bytes[1]);
    let mut starts = vec![Vec::<&[u8]>::new(); 1 << 16];
    needles.iter().for_each(|needle| starts[pair(needle)].push(needle));
    let mut folders = vec![dir.to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            let holds = bytes.windows(24).any(|window| {
                starts[pair(window)].iter().any(|needle| window.starts_with(&needle[..24]))
            });
            if holds {
                found.push(path);
            }
        }
    }
    found
}

fn fetched(store: &VoiceStore, record: &Recording) -> Vec<u8> {
    let fetch = Fetch::open(store, record, FetchFormat::Original).unwrap();
    let mut bytes = vec![0; usize::try_from(fetch.bytes()).unwrap()];
    assert_eq!(fetch.read_at(&mut bytes, 0).unwrap(), bytes.len());
    bytes
}

fn staged(
    job: &SealJob,
    journal: &Journal,
    store: &VoiceStore,
    form: VoiceFormat,
) -> storage::Staged {
    match seal(job, &journal.reader(), store, form).unwrap() {
        Sealed::Staged { staged, .. } => *staged,
        other => panic!("{other:?}"),
    }
}

/// A call that two nodes captured: the second half of it lies on the other node.
fn a_call_over_two_nodes(encrypted: bool, format: VoiceFormat) {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let held = |name| if encrypted { keys(name) } else { Keys::default() };
    let id = RecordingId::new(at(0), [1; 10]);
    let other = RecordingId::new(at(0), [2; 10]);
    let mut own = capture(one.path(), 1, held("k1"), id, 0..100, None);
    let peer = capture(two.path(), 2, held("k2"), other, 100..200, Some(at(4_000)));
    let store = VoiceStore::open(one.path()).unwrap().with_keys(held("k1"));
    let pulls = PulledFolder::open(one.path()).unwrap().encrypted(encrypted);

    let expect = |names: &[&str]| {
        let found = in_clear(one.path());
        let expected: &[&str] = if encrypted { &[] } else { names };
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for name in expected {
            assert!(found.iter().any(|path| path.to_string_lossy().contains(name)), "{found:?}");
        }
    };
    // Opus is heard, not read.
    let readable = |name| if format == VoiceFormat::Opus { vec![] } else { vec![name] };
    expect(&["capture"]);
    assert_eq!(in_clear(two.path()).is_empty(), encrypted);

    let partial = SealJob { partial: true, ..SealJob::alone(id, NodeId(1), 1) };
    let waiting = staged(&partial, &own, &store, format);
    expect(&[vec!["capture"], readable(".staged")].concat());
    let record = store.publish_staged(&waiting).unwrap();
    own.append_fact(&Fact::Sealed { recordingid: id }).unwrap();
    assert_eq!(record.encrypted, encrypted);

    // Its own capture is gone by now: the published file is a source of the second revision.
    let pulled = pull(&pulls, &peer, 2, other);
    expect(&[vec!["capture", "pulled"], readable("2023")].concat());
    let job = SealJob { revision: 2, pulled: vec![pulled], ..SealJob::alone(id, NodeId(1), 1) };
    let record = store.publish_staged(&staged(&job, &own, &store, format)).unwrap();
    drop(job);
    store.verify(&record).unwrap();
    assert_eq!((record.durationms, record.complete), (4_000, true));
    expect(&[vec!["capture"], readable("2023")].concat());
    if format == VoiceFormat::WavG711 {
        let all: Vec<u8> = (0..200).flat_map(said).collect();
        assert_eq!(fetched(&store, &record)[58..], all);
    }
}

#[test]
fn what_was_said_lies_nowhere_in_the_clear() {
    let mut formats = vec![VoiceFormat::WavG711, VoiceFormat::Wav];
    if cfg!(feature = "opus") {
        formats.push(VoiceFormat::Opus);
    }
    for format in formats {
        // Without encryption the same look finds it, so it looks in the right places.
        a_call_over_two_nodes(false, format);
        a_call_over_two_nodes(true, format);
    }
}

#[test]
fn what_one_node_sends_another_is_no_matter_of_its_keys() {
    let dir = tempfile::tempdir().unwrap();
    let id = RecordingId::new(at(0), [1; 10]);
    let journal = capture(dir.path(), 1, keys("k1"), id, 0..50, None);
    let mut sent = Vec::new();
    let wanted = [SegmentId(1)].into_iter().collect();
    send_capture(&journal.reader(), NodeId(1), &[id], &wanted, |chunk| {
        sent.extend_from_slice(chunk);
        Ok::<(), std::convert::Infallible>(())
    })
    .unwrap();
    let holds = |wanted: &[u8]| sent.windows(wanted.len()).any(|seen| seen == wanted);
    assert!(holds(&said(33)), "the links encrypt");
    assert!(!holds(b"wrapped") && !holds(b"\"k1\""), "its keys are nobody's matter");
}

#[test]
fn recover_needs_the_keys_of_what_was_captured() {
    let dir = tempfile::tempdir().unwrap();
    let id = RecordingId::new(at(0), [1; 10]);
    drop(capture(dir.path(), 1, keys("k1"), id, 0..100, Some(at(2_000))));
    let run = |keys| recover(dir.path(), NodeId(1), VoiceFormat::WavG711.into(), keys, |_| {});
    let error = run(Keys::default()).unwrap_err().to_string();
    assert!(error.contains("key \"k1\" is needed"), "{error}");
    assert!(run(keys("k2")).is_err());
    let recovery = run(keys("k1")).unwrap();
    assert_eq!((recovery.published, recovery.failed), (1, 0));
    assert_eq!(in_clear(dir.path()), Vec::<PathBuf>::new());
    let store = VoiceStore::open(dir.path()).unwrap().with_keys(keys("k1"));
    let record = store.published(id).unwrap().unwrap();
    let all: Vec<u8> = (0..100).flat_map(said).collect();
    assert_eq!(fetched(&store, &record)[58..], all);
}
